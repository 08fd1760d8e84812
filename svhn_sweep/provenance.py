"""Where a run comes from: the commit of the code and the command that reproduces it."""

import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Quote, QuotedString

from svhn_sweep import __version__
from svhn_sweep.config.schema import Config, conf_dir, flatten, source_of


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `-changed` if files differ; None
    outside a checkout.
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


def code() -> dict[str, str | int | float | bool]:
    """Tags that tell which code ran: version, and git.commit in a checkout."""
    tags: dict[str, str | int | float | bool] = {"version": __version__}
    commit = git_commit()
    return tags | {"git.commit": commit} if commit else tags


def explicit(typed: Sequence[str], config: Config) -> list[str]:
    """What the user typed, with everything spelt out that was left open and may turn out otherwise
    elsewhere.

    Args:
        typed: overrides.
        config: what they mean, resolved.
    """
    training = config.training
    test = config.evaluation.test
    kept = [
        o
        for o in typed
        if not re.match(r"[+~]*(data[.=]|evaluation\.test=|training\.(threads|precision)=)", o)
    ]
    data = [f"data.{key}={quoted(value)}" for key, value in flatten(config.data)]
    machine = [
        f"training.precision={training.precision}",
        f"training.threads={quoted(training.threads)}",
    ]
    return [
        *kept,
        f"data={source_of(config.data)}",
        *data,
        *machine,
        f"evaluation.test={quoted(test)}",
    ]


def config_dirs(job: HydraConf) -> list[str]:
    """The user's own folders of configs: --config-dir."""
    return [
        source.path for source in job.runtime.config_sources if source.provider == "command-line"
    ]


def command(overrides: Sequence[str], folders: Sequence[str]) -> str:
    """The shell command for one trial."""
    return shlex.join(
        [
            "python",
            "-m",
            "svhn_sweep",
            *(f"--config-dir={folder}" for folder in folders),
            *overrides,
        ]
    )


def names_file(overrides: Sequence[str]) -> bool:
    """Whether the user named the file with the digits."""
    return any(re.match(r"[+~]*data\.path=", override) for override in overrides)


def role(overrides: Sequence[str], choices: Mapping[str, str]) -> str:
    """`baseline` if the model and its training are a config of conf/ as it stands, else `trial`.

    The command that reproduces a baseline spells out what a baseline has anyway.

    Args:
        overrides: what the user typed.
        choices: of files by group, as Hydra made them; where conf/ and a folder of the user's have
            one, conf/'s counts.
    """
    own = any(
        not (conf_dir() / group / f"{choices[group]}.yaml").exists()
        for group in ("model", "training")
    )
    changed = own or any(
        re.match(r"[+~]*(model\.|training\.(?!threads=|precision=float32$)|training[=@])", override)
        for override in overrides
    )
    return "trial" if changed else "baseline"


def quoted(value: str | int | float | bool | None) -> str:
    """A value in Hydra's override grammar, which it parses back to the same value and type.

    Text is quoted unless it is a plain word or path. Floats have all their digits.
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    plain = r"(?!(null|true|false|inf|nan)$)[a-z_/][\w./:+-]*"
    if not isinstance(value, str) or re.fullmatch(plain, value, re.ASCII | re.IGNORECASE):
        return str(value)
    escaped = re.sub(
        r"(\\*)\$\{", r"\1\1\\${", value
    )  # for OmegaConf; a backslash before would undo it
    return QuotedString(escaped, Quote.single).with_quotes()
