"""Lists the settings of a section of the config by their dotted keys."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass


def flatten(section: object, prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Yields the dotted keys and values of a dataclass.

    Of a part with `enabled=false` only the key `enabled` is yielded: its other settings change
    nothing.

    Args:
        section: An instance of a dataclass.
        prefix: Precedes the keys, for example "model.".
    """
    assert is_dataclass(section)
    enabled = getattr(section, "enabled", True)
    for item in fields(section):
        if not enabled and item.name != "enabled":
            continue
        key = prefix + item.name
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from flatten(value, f"{key}.")
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", entry) for name, entry in value.items())
        else:
            yield key, value
