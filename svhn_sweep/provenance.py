"""Where a run comes from: the commit of the code and the command that reproduces it."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from svhn_sweep.config import DataConfig, flatten, source_of


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `-changed` if files differ; None outside a checkout."""
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


def command(overrides: Sequence[str], data: DataConfig, test: bool) -> str:
    """The shell command for one trial: what the user typed, with the data source and the test evaluation spelt out.

    Args:
        overrides: of this trial, as Hydra reports them.
        data: resolved.
        test: whether the test split is read.
    """
    typed = [override for override in overrides if not re.match(r"\+*(data[.=]|evaluation\.test=)", override)]
    source = source_of(data)
    spelt_out = [f"data={source}", *(f"data.{key}={_value(value)}" for key, value in flatten(data))]
    words = [*typed, *spelt_out, f"evaluation.test={str(test).lower()}"]
    return shlex.join(["python", "-m", "svhn_sweep", *words])


def _value(value: str | int | float | bool) -> str:
    """A value in Hydra's override grammar; strings with anything special in them are quoted."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if re.fullmatch(r"[\w./:+-]+", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
