"""Lists the settings of a section of the config by their dotted keys."""

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass


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


def _is_used(section: object, item: Field[object]) -> bool:
    if not getattr(section, "enabled", True):
        return item.name == "enabled"
    if "used_if" not in item.metadata:
        return True
    key, value = item.metadata["used_if"]
    return bool(getattr(section, key) == value)
