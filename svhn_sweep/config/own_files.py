"""Checks the config files of the user for what Hydra cannot report or never ends with."""

from itertools import chain
from pathlib import Path

import yaml

from svhn_sweep.errors import ConfigError

# conf/ and its groups, as Hydra reads them: a folder of somebody's may hold much else.
PATTERNS = ("*.yaml", "*/*.yaml", "hydra/*/*.yaml")
MAX_NODES = 100_000  # of a file whose aliases are replaced by what they stand for


def check_own_files(folder: Path) -> None:
    """Checks the config files in a folder of the user's.

    Raises:
        ConfigError: A file is not UTF-8 or a mere number, of which Hydra names no file, or its
            nested aliases stand for so much that Hydra does not end.
    """
    for path in chain.from_iterable(map(folder.glob, PATTERNS)):
        _check_file(path)


def _check_file(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path} must be UTF-8 but line {line} is not.") from error
    except OSError:  # Hydra reports it if it reads the file
        return
    if ":" in text and not ("&" in text and "*" in text):  # nothing below can be the case
        return
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:  # likewise
        return
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float", ":bool")):
        raise ConfigError(f"{path} must hold keys with values but holds {node.value}.")
    if node is not None and _size(node, {}) > MAX_NODES:
        raise ConfigError(
            f"{path} must stand for at most {MAX_NODES:,} values but its aliases repeat more."
        )


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The values below a node, each alias counted with what it stands for."""
    if id(node) not in sizes:
        sizes[id(node)] = MAX_NODES + 1  # of a node within itself
        items = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = chain.from_iterable(items) if isinstance(node, yaml.MappingNode) else items
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]
