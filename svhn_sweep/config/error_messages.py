"""One sentence for what Hydra and OmegaConf say in many lines: the key, the rule, the value."""

import difflib
import re

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from svhn_sweep.errors import UserError

COMMANDS = ("optuna", "ui", "sync", "predict")
RENAMED = {
    "failures_in_a_row": "max_consecutive_failures",
    "target": "target_value",
    "warmup_epochs": "min_resource",
}
USER_ERRORS = (UserError, HydraException, OmegaConfBaseException)


def explain(error: Exception) -> str:
    """What to print for an error that is one of `USER_ERRORS`."""
    if isinstance(error, OverrideParseException):
        what = f"{error.override!r} is not an override ({_rule(error.message)})"
        if "=" in error.override:
            return (
                f"{what}; a value with anything special in it needs quotes "
                "within quotes: 'data.path=\"a (1).h5\"'."
            )
        near = difflib.get_close_matches(error.override, COMMANDS, n=1, cutoff=0.5)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"write {', '.join(COMMANDS)} or key=value, as model=model1."
        )
        return f"{error.override!r} is neither a command nor an override; {hint}"
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"{group} must be one of {', '.join(_options(error))} but got {option!r}."
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", str(error)):
        return f"{ambiguous[1]} names several values; add -m to run each of them."
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(cause)
    if isinstance(cause, ValidationError) and cause.full_key:
        return f"{cause.full_key}: {_first_line(str(cause))}."
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key or cause.key} must have a value but has none."
    if isinstance(cause, OmegaConfBaseException) and cause is not error:
        return f"{_first_line(str(error))}: {_first_line(str(cause))}."
    return " ".join(line for line in str(error).splitlines() if line and not line.startswith(" "))


def _unknown_key(error: OmegaConfBaseException) -> str:
    key = error.full_key or str(error.key)
    siblings = error.parent_node if isinstance(error.parent_node, DictConfig) else {}
    names = [str(name) for name in siblings if name != "hydra"]
    similar = difflib.get_close_matches(str(error.key), names, n=1)
    suggestion = RENAMED.get(str(error.key)) or next(iter(similar), None)
    hint = f"did you mean {suggestion}?" if suggestion else f"there are {', '.join(names)}."
    return f"{key} is not a key of the config; {hint}"


def _rule(message: str) -> str:
    """What the parser missed, without its own heading and advice."""
    return _first_line(re.sub(r"Error parsing override .*|See https?:.*", "", message))


def _options(error: MissingConfigException) -> list[str]:
    """What can be chosen; the schemas of the data sources stand beside them under names of their
    own.
    """
    return [option for option in error.options or [] if not option.endswith("_schema")]


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].rstrip(".")
