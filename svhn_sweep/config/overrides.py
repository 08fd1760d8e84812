"""Hydra overrides: how values are written, which command they form, and what they change."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from svhn_sweep import environment
from svhn_sweep.config.data_sources import source_name
from svhn_sweep.config.flatten import flatten
from svhn_sweep.config.schema import Config, conf_dir
from svhn_sweep.config.short_names import short_names
from svhn_sweep.files import expand_user

Value = str | int | float | bool | None

# A plain string needs no quotes: Hydra parses it as a string, whatever its letters.
PLAIN_STRING = re.compile(
    r"(?!(null|true|false|inf|nan)$)[a-z_/][\w./:+-]*", re.ASCII | re.IGNORECASE
)
# Overrides that `pin_overrides` replaces by what they resolve to.
RESOLVED_KEYS = re.compile(
    r"[+~]*(data[.=]|evaluation\.test=|training\.(threads=|precision=|initial_weights=(?!null$)))"
)
MAX_RUN_NAME = 200  # characters; a run's name has 250 at most in MLflow
# Overrides that change a baseline; float32 is the precision that it has anyway. A search space may
# come with settings of the training, as `wide` does.
CHANGES = re.compile(
    r"[+~]*(model\.|training\.(?!threads=|precision=float32$)|training[=@]"
    r"|search_space=(?!notebook$))"
)
# Interpolations with these resolvers have another value in another process, or on another machine.
UNSTABLE = re.compile(r"\$\{\s*(now|hydra|oc\.env)\s*:")


def override_value(value: Value) -> str:
    """Formats a value such that Hydra parses it back to the same value and type.

    Strings are quoted unless they are plain words or paths; floats keep all their digits.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or PLAIN_STRING.fullmatch(value):
        return str(value)
    # OmegaConf interpolates ${...} unless a backslash precedes it, which others would escape.
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return QuotedString(escaped, Quote.single).with_quotes()


def expand_home(argument: str) -> str:
    """Replaces `~` at the beginning of an override's path, as a shell does for a word of its own.

    Hydra's grammar has no `~` in a value without quotes.
    """
    path = re.fullmatch(r"([^=~]+)=(sqlite:///)?(~[^,]*)", argument)
    if path is None:
        return argument
    value = (path[2] or "") + expand_user(path[3])
    return f"{path[1]}={value}" if argument.startswith("-") else to_override(path[1], value)


def to_override(key: str, value: Value) -> str:
    """Formats the override `key=value`, which Hydra parses back to the same value and type."""
    return f"{key}={override_value(value)}"


def pin_overrides(overrides: Sequence[str], config: Config) -> list[str]:
    """Replaces what is resolved at run time by its result, so that a run can be reproduced.

    The data source, the precision, the number of threads and `evaluation.test` may be left open,
    and the initial weights may be those that have an alias now.

    Args:
        overrides: The user's overrides.
        config: The config that they compose, with all of these resolved.

    Returns:
        The other overrides as they are, followed by those that fix what was resolved.
    """
    training = config.training
    resolved: dict[str, Value] = {
        "data": source_name(config.data),
        **dict(flatten(config.data, "data.")),
        "training.precision": training.precision.value,
        "training.threads": training.threads,
        "evaluation.test": config.evaluation.test,
    }
    if training.initial_weights is not None:
        resolved["training.initial_weights"] = training.initial_weights
    return [
        *(override for override in overrides if not RESOLVED_KEYS.match(override)),
        *(to_override(key, value) for key, value in resolved.items()),
    ]


def pin_interpolations(
    overrides: Sequence[str], composed: DictConfig, explored: Iterable[str] = ()
) -> list[str]:
    """Replaces interpolations by their values, so that no other process resolves them anew.

    These are interpolations of the time, the environment and Hydra's config, whether the user typed
    them or a file holds them; `${KEY}` stays, since a trial may change KEY.

    Args:
        overrides: The user's overrides.
        composed: The config that they compose, without its section `hydra`.
        explored: Groups whose option differs between trials. What the file of an option holds is
            left as it is.

    Returns:
        The overrides without these interpolations, followed by those that fix their values.
    """
    typed = set(map(key_of, overrides))
    groups = tuple(f"{group.replace('/', '.')}." for group in explored)
    keys = [key for key in unstable_keys(composed) if key in typed or not key.startswith(groups)]
    return [
        *(item for item in overrides if key_of(item) not in keys),
        *(to_override(key, OmegaConf.select(composed, key)) for key in keys),
    ]


def key_of(override: str) -> str:
    """Returns the key of an override: `model.name` of `++model.name=m`."""
    return override.partition("=")[0].lstrip("+~")


def unstable_keys(composed: DictConfig) -> list[str]:
    """Lists the keys of a config whose values another process would resolve differently."""
    raw = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(raw, dict)
    # A trial does not read the search space, whose keys have dots.
    sections = {str(key): raw[key] for key in raw if key not in ("search_space", "hydra")}
    return list(_unstable_keys(sections))


def _unstable_keys(section: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _unstable_keys(value, f"{prefix}{name}.")
        elif isinstance(value, str) and UNSTABLE.search(value):
            yield prefix + name


def resolve_override(override: str, composed: DictConfig) -> str:
    """Replaces an override's interpolation of the kind of `pin_interpolations` by its value."""
    if not UNSTABLE.search(override):
        return override
    key = key_of(override)
    value = OmegaConf.select(composed, key)
    return override if OmegaConf.is_config(value) else to_override(key, value)


def shell_command(overrides: Sequence[str], config_dirs: Sequence[str]) -> str:
    """Builds the shell command that composes these overrides and computes the same numbers.

    Args:
        overrides: Hydra overrides and flags.
        config_dirs: The user's own config folders.
    """
    options = [f"--config-dir={folder}" for folder in config_dirs]
    variables = [
        f"{name}={shlex.quote(value)}" for name, value in environment.numeric_variables().items()
    ]
    return " ".join([*variables, shlex.join(["python", "-m", "svhn_sweep", *options, *overrides])])


def user_config_dirs(hydra: HydraConf | DictConfig) -> list[str]:
    """Lists the user's own config folders, which `--config-dir` names."""
    return [
        source.path for source in hydra.runtime.config_sources if source.provider == "command-line"
    ]


def typed_overrides(overrides: Sequence[str]) -> list[str]:
    """Lists the overrides in a section of `hydra.overrides` as the user typed them.

    Reading the section's items one by one resolves the interpolations in them.
    """
    typed = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(typed, list)
    return [str(override) for override in typed]


def run_mode(hydra: HydraConf) -> list[str]:
    """Lists the override that makes a command train once although a user's file sets `hydra.mode`.

    With `-m` it is Hydra's own override that sets it.
    """
    by_flag = any(
        override.startswith("hydra.mode=") for override in typed_overrides(hydra.overrides.hydra)
    )
    return [] if by_flag or hydra.mode != RunMode.MULTIRUN else ["hydra.mode=RUN"]


def sets_data_path(overrides: Sequence[str]) -> bool:
    """Returns whether the user chose the file with the digits."""
    return "data.path" in map(key_of, overrides)


def run_name(overrides: Sequence[str], config: Config) -> str:
    """Returns the name of a single run: the user's, or what distinguishes the run from a baseline.

    Args:
        overrides: The user's overrides.
        config: The config that they compose.

    Returns:
        For example `model1 · learning_rate 3e-4 · seed 7`.
    """
    if config.tracking.run_name is not None:
        return config.tracking.run_name
    changes = [override.lstrip("+~") for override in overrides if CHANGES.match(override)]
    values = {key: value for key, _, value in (change.partition("=") for change in changes)}
    names = short_names(list(values))
    differences = [f"{names[key]} {value}".rstrip() for key, value in values.items()]
    name = " · ".join([config.model.name, *differences, f"seed {config.seed}"])
    return name if len(name) <= MAX_RUN_NAME else f"{name[: MAX_RUN_NAME - 1]}…"


def run_role(overrides: Sequence[str], choices: Mapping[str, str]) -> str:
    """Classifies a single run for its tag `role`.

    Args:
        overrides: The user's overrides. Those that `pin_overrides` adds to a baseline's command
            change nothing.
        choices: The chosen option of each config group, from `hydra.runtime.choices`. An option
            that exists both in conf/ and in a user's folder counts as conf/'s.

    Returns:
        `baseline` if model and training are options of conf/ without changes, else `trial`.
    """
    from_conf = all(
        (conf_dir() / group / f"{choices[group]}.yaml").exists() for group in ("model", "training")
    )
    changed = any(CHANGES.match(override) for override in overrides)
    return "baseline" if from_conf and not changed else "trial"
