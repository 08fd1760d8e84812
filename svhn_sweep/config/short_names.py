"""Shortens config keys for tables, figures and the names of runs."""

from collections import Counter
from collections.abc import Sequence


def short_names(keys: Sequence[str], reserved: Sequence[str] = ()) -> dict[str, str]:
    """Maps each dotted key to its shortest unique ending: model.filters.conv1 to conv1.

    The switch of a section is named as the section: training.augmentation.enabled as augmentation.

    Args:
        keys: Dotted config keys.
        reserved: Names that no key may be shortened to.
    """
    parts = {key: key.removesuffix(".enabled").split(".") for key in keys}
    endings = {
        key: [".".join(parts[key][-length:]) for length in range(1, len(parts[key]) + 1)]
        for key in keys
    }
    counts = Counter(reserved)
    for names in endings.values():
        counts.update(names)
    return {
        key: next((name for name in names if counts[name] == 1), key)
        for key, names in endings.items()
    }
