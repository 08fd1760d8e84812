"""Turns what libraries raise while Hydra composes a config into errors of the user's input."""

import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.override_parser.overrides_parser import OverridesParser
from yaml import MarkedYAMLError
from yaml.reader import ReaderError

from svhn_sweep.config.error_messages import USER_ERRORS, first_line
from svhn_sweep.errors import ConfigError, FailedError


@contextmanager
def composition_errors(overrides: Sequence[str] = ()) -> Iterator[None]:
    """Within it every `Exception` is one that the command line explains.

    Hydra checks much of a config with what Python, OmegaConf, PyYAML and logging raise: ValueError,
    KeyError, AssertionError, RecursionError. An OSError is about a file or the disk instead.

    Args:
        overrides: The overrides that are composed; the message names the one that is at fault.

    Raises:
        ConfigError: Something else than an expected error was raised.
    """
    try:
        yield
    except (*USER_ERRORS, FailedError, OSError):
        raise
    except Exception as error:
        raise ConfigError(_explain_foreign(error, overrides)) from error


def _explain_foreign(error: Exception, overrides: Sequence[str]) -> str:
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        position = f"line {mark.line + 1}, column {mark.column + 1}"
        problem = ", ".join(filter(None, (error.context, error.problem)))
        return f"{mark.name} is no valid YAML: {position}: {problem}."
    if isinstance(error, ReaderError):
        return f"{error.name} is no valid YAML: {first_line(str(error))}."
    if str(error).startswith("Config group override must be"):
        return _explain_group(overrides)
    if isinstance(error, RecursionError):
        return "the config has no end: its defaults form a cycle, or it is nested too deeply."
    if isinstance(error, KeyError):  # of the environment, in hydra.job.env_copy
        name = str(error.args[0])
        typed = next((item for item in overrides if name in item), "the config")
        return f"{typed} cannot be used: there is no {name}."
    reason = first_line(str(error)) if str(error).strip() else f"it breaks {_origin(error)}"
    return f"the config cannot be composed: {reason}."


def _origin(error: Exception) -> str:
    """The line of Hydra's that raised an error whose own text names no key."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.line for frame in frames if f"{os.sep}hydra{os.sep}" in frame.filename]
    return f"`{lines[-1] if lines else frames[-1].line}`"


def _explain_group(overrides: Sequence[str]) -> str:
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        is_group = "." not in key and key not in ("seed", "evaluation")
        names_option = is_group and not override.is_delete()
        if names_option and not isinstance(override.value(), str | list):
            return (
                f"{key} is a group of conf/ and must be the name of a file in it "
                f"but got {override.get_value_string()}."
            )
    return "a group in a defaults list must be the name of a file but is none."
