"""One-line messages for errors of Hydra, OmegaConf and files: the key, the rule, the value."""

import difflib
import errno
import os
import re

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from svhn_sweep.errors import FailedError, UserError

# Groups whose option is the model's name by default.
FROM_MODEL = ("training", "search_space/filters")
FUNCTIONS = ("choice", "range", "interval", "glob", "tag", "int", "float", "str", "bool")
SWEEP = re.compile(rf"[^=]*=\s*({'|'.join(FUNCTIONS)})\(")
ABBREVIATIONS = {"lr": "learning_rate", "bs": "batch_size"}
COMMANDS = ("optuna", "ui", "sync", "predict", "audit")
RENAMED_KEYS = {
    "training.reduce_on_plateau.enabled": "training.schedule=plateau",
    "hydra.sweeper.failures_in_a_row": "max_consecutive_failures",
    "hydra.sweeper.target": "target_value",
    "hydra.sweeper.pruner.warmup_epochs": "min_resource",
}
USER_ERRORS = (UserError, HydraException, OmegaConfBaseException)
# Errors for which the user named a file or a folder that is something else, or may not be used.
USERS_ERRNOS = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def explain(error: Exception) -> str:
    """Formats an error that is one of `USER_ERRORS` as one line without a traceback."""
    if isinstance(error, OverrideParseException):
        return _invalid_override(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        # without the schemas that are registered in the group
        options = [option for option in error.options if not option.endswith("_schema")]
        if options:
            default = "; without an override it is the model's name" if group in FROM_MODEL else ""
            return f"{group} must be one of {', '.join(options)} but got {option!r}{default}."
        return f"{group} is no group of the config but got {option!r}."
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", str(error)):
        return f"{ambiguous[1]} names several values; add -m to run each of them."
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException) and (text := _explain_value(error, cause)):
        return text
    text = str(error).partition("Config search path:")[0]
    return " ".join(line for line in text.splitlines() if line and not line.startswith(" "))


def explain_os_error(error: OSError) -> Exception:
    """Returns the error to report for a file that cannot be read or written, one sentence long.

    Args:
        error: Any OSError.

    Returns:
        A UserError or a FailedError, depending on whose fault it is; `error` itself if it names no
        file and may be about anything.
    """
    if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    file = "" if error.filename is None else f"{os.fsdecode(error.filename)} cannot be used: "
    kind = UserError if error.errno in USERS_ERRNOS else FailedError
    explained = kind(f"{file}{error.strerror}.")
    explained.__cause__ = error
    return explained


def _explain_value(error: Exception, cause: OmegaConfBaseException) -> str | None:
    """The message for a key or a value that OmegaConf refuses; `cause` may be the error itself."""
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(cause)
    if isinstance(cause, ValidationError) and "is not a subclass of" in str(cause):
        return _not_a_section(cause)
    if isinstance(cause, ValidationError) and cause.full_key:
        return f"{cause.full_key}: {first_line(str(cause))}."
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key or cause.key} must have a value but has none."
    if isinstance(cause, InterpolationResolutionError) and cause.full_key:
        return f"{cause.full_key} cannot be resolved: {first_line(str(cause))}."
    if cause is not error:
        texts = (str(error), cause.full_key or "", str(cause))
        return f"{': '.join(first_line(text) for text in texts if text)}."
    return None


def _invalid_override(error: OverrideParseException) -> str:
    override = error.override
    if unknown := re.search(r"Unknown function '(\w*)'", error.message):
        similar = difflib.get_close_matches(unknown[1], FUNCTIONS, n=1)
        hint = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(FUNCTIONS)}."
        return f"{override!r} has no function {unknown[1]}; {hint}"
    if SWEEP.match(override):
        return (
            f"{override!r} is not an override ({_parser_message(error)}); a search space is "
            "choice(A,B), range(START,STOP,STEP), interval(LOW,HIGH) or "
            "tag(log,interval(LOW,HIGH))."
        )
    if "=" in override:
        return (
            f"{override!r} is not an override ({_parser_message(error)}); a value with anything "
            "special in it needs quotes within quotes: 'data.path=\"a (1).h5\"'."
        )
    similar = difflib.get_close_matches(override, COMMANDS, n=1, cutoff=0.5)
    hint = (
        f"did you mean {similar[0]}?"
        if similar
        else f"write {', '.join(COMMANDS)} or key=value, as model=model1."
    )
    return f"{override!r} is neither a command nor an override; {hint}"


def _unknown_key(error: OmegaConfBaseException) -> str:
    key = error.full_key or str(error.key)
    siblings = error.parent_node if isinstance(error.parent_node, DictConfig) else DictConfig({})
    names = [str(name) for name in siblings if name != "hydra"]
    section = key.rpartition(".")[0]
    if section == "hydra.sweeper" and "n_trials" not in names:  # Hydra's own sweeper
        return f"{key} is a setting of a sweep: python -m svhn_sweep -m optuna ..."
    similar = difflib.get_close_matches(RENAMED_KEYS.get(key, str(error.key)), names, n=1)
    full_keys = [f"{section}.{name}" if section else name for name in similar]
    suggestion = " or ".join(full_keys or _keys_below(siblings, key))
    keys = f"there are {', '.join(names)}." if names else "there is none yet; + adds one."
    hint = f"did you mean {suggestion}?" if suggestion else keys
    return f"{key} is not a key of the config; {hint}"


def _keys_below(root: DictConfig, name: str) -> list[str]:
    """The full keys of a name that stands without its section, as `epochs`."""
    name = ABBREVIATIONS.get(name, name)
    sections = OmegaConf.to_container(root, resolve=False)
    assert isinstance(sections, dict)
    return [
        f"{section!s}.{name}"
        for section, keys in sections.items()
        if isinstance(keys, dict) and section not in ("hydra", "search_space") and name in keys
    ]


def _not_a_section(error: OmegaConfBaseException) -> str:
    """The message for a value in place of a section, as `hydra.sweeper.pruner=none`."""
    parent = error.parent_node
    section = parent.get(error.key) if isinstance(parent, DictConfig) else None
    keys = ", ".join(map(str, section)) if isinstance(section, DictConfig) else "one of its keys"
    return f"{error.full_key} is a section: set {error.full_key}.KEY instead; KEY is {keys}."


def _parser_message(error: OverrideParseException) -> str:
    """The parser's complaint without its heading and its advice."""
    return first_line(re.sub(r"Error parsing override .*|See https?:.*", "", error.message))


def first_line(text: str) -> str:
    """Returns the first line of a library's message, without its full stop."""
    return text.strip().splitlines()[0].rstrip(".")
