"""The version of the code that a run is trained with."""

import subprocess
from pathlib import Path

from svhn_sweep import __version__


def git_commit() -> str | None:
    """Returns the commit of the checkout that this package runs from.

    Returns:
        The full SHA-1, followed by `-changed` if files differ from it; None outside a checkout.
    """
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-changed" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def code_tags() -> dict[str, str | int | float | bool]:
    """Returns the MLflow tags `version` and, in a checkout, `git.commit`."""
    commit = git_commit()
    tags: dict[str, str | int | float | bool] = {"version": __version__}
    return tags | {"git.commit": commit} if commit else tags
