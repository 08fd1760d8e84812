"""Lists the settings of a config by their dotted keys, without those that change nothing."""

from collections.abc import Iterable, Iterator
from dataclasses import Field, fields, is_dataclass

from svhn_sweep.errors import ConfigError

# What the settings of a section need to change anything.
NEEDS = {
    "training.augmentation": "training.augmentation.enabled=true",
    "training.reduce_on_plateau": "training.schedule=plateau",
}


def flatten(section: object, prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Yields the dotted keys and values of a dataclass.

    Settings that change nothing are left out: all but `enabled` of a part with `enabled=false`, a
    part that another setting leaves unused (`used_if` in the field's metadata), and None.

    Args:
        section: An instance of a dataclass.
        prefix: Precedes the keys, for example "model.".
    """
    assert is_dataclass(section)
    for item in fields(section):
        if not _is_used(section, item):
            continue
        key = prefix + item.name
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from flatten(value, f"{key}.")
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        elif value is not None:
            yield key, value


def check_effect(keys: Iterable[str], trainings: Iterable[object]) -> None:
    """Checks that each varied key changes something: else equal runs would be compared.

    Args:
        keys: Config keys that have several values.
        trainings: The sections `training` of some configs, which together have each value that
            other keys depend on.

    Raises:
        ConfigError: A key changes nothing in any of the configs.
    """
    effective = {key for training in trainings for key, _ in flatten(training, "training.")}
    for key in keys:
        needed = NEEDS.get(key.rpartition(".")[0])
        if needed is not None and key not in effective:
            raise ConfigError(f"{key} changes nothing without {needed}, so it cannot be varied.")


def _is_used(section: object, item: Field[object]) -> bool:
    if not getattr(section, "enabled", True):
        return item.name == "enabled"
    if "used_if" not in item.metadata:
        return True
    key, value = item.metadata["used_if"]
    return bool(getattr(section, key) == value)
