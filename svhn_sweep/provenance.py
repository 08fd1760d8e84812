"""Where a run comes from: the commit of the code and the command that reproduces it."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Quote, QuotedString

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


def command(job: HydraConf, data: DataConfig, test: bool) -> str:
    """The shell command for one trial: what the user typed, with the data source and the test evaluation spelt out.

    Args:
        job: what Hydra knows of this trial.
        data: resolved.
        test: whether the test split is read.
    """
    folders = [source.path for source in job.runtime.config_sources if source.provider == "command-line"]
    typed = [o for o in job.overrides.task if not re.match(r"[+~]*(data[.=]|evaluation\.test=)", o)]
    spelt_out = [f"data={source_of(data)}", *(f"data.{key}={_quoted(value)}" for key, value in flatten(data))]
    words = [*(f"--config-dir={folder}" for folder in folders), *typed, *spelt_out, f"evaluation.test={_quoted(test)}"]
    return shlex.join(["python", "-m", "svhn_sweep", *words])


def role(overrides: Sequence[str]) -> str:
    """`baseline` if the model and its training are a config of conf/ as it stands, else `trial`."""
    changed = any(re.match(r"[+~]*((model|training)\.|training[=@])", override) for override in overrides)
    return "trial" if changed else "baseline"


def _quoted(value: str | int | float | bool) -> str:
    """A value in Hydra's override grammar; text with anything special in it is quoted."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if re.fullmatch(r"[\w./:+-]+", text, re.ASCII):
        return text
    return QuotedString(text.replace("${", r"\${"), Quote.single).with_quotes()
