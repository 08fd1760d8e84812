"""The page of `python -m svhn_sweep -m optuna --help`: the settings of a sweep."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from types import NoneType
from typing import get_args, get_type_hints

from rich.console import Console

from svhn_sweep.config.schema import conf_dir
from svhn_sweep.sweep.plan.settings import SweeperConfig

MAX_COLUMNS = 100
LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(#(?P<text>.*))?")
INTRODUCTION = """\
usage: python -m svhn_sweep -m optuna [SETTING=VALUE]... [KEY=VALUE]...
                                      [KEY=interval(LOW,HIGH)]...

Explores conf/search_space/ around each baseline with Optuna, confirms the best
config on fresh seeds and registers the recommended model. The settings, with
defaults; SETTING=VALUE is short for hydra.sweeper.SETTING=VALUE.
The other keys: python -m svhn_sweep --help"""


def print_settings() -> None:
    """Prints each setting of a sweep: default, type and meaning.

    Defaults and meanings are the values and comments of conf/hydra/sweeper/optuna.yaml.
    """
    width = min(MAX_COLUMNS, Console().width)
    print(INTRODUCTION)
    text = (conf_dir() / "hydra/sweeper/optuna.yaml").read_text(encoding="utf-8")
    types = dict(_types(SweeperConfig))
    section = ""
    for line in text.partition("_self_\n")[2].splitlines():
        setting = LINE.fullmatch(line)
        if line.startswith("#"):
            print(f"\n{line.removeprefix('# ')}")
        elif setting:
            key = f"{section}.{setting['key']}" if setting["indent"] else setting["key"]
            section = section if setting["indent"] else key
            value = setting["value"].strip()
            kind = f"({types[key]})" if key in types else ""
            if value or setting["text"]:
                print(_wrap(f"{key}{'=' if value else ''}{value}  {kind}".rstrip(), width, 2))
                print(_wrap((setting["text"] or "").strip(), width, 6))


def _wrap(text: str, width: int, indent: int) -> str:
    return textwrap.fill(
        text, width, initial_indent=" " * indent, subsequent_indent=" " * 6, break_on_hyphens=False
    )


def _types(settings: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The type and the rule of each setting, by its key below `hydra.sweeper`."""
    hints = get_type_hints(settings)
    for item in fields(settings):
        options = get_args(hints[item.name]) or (hints[item.name],)
        section = next((option for option in options if is_dataclass(option)), None)
        if isinstance(section, type):
            yield from _types(section, f"{item.name}.")
        else:
            yield prefix + item.name, _format_type(hints[item.name], item)


def _format_type(hint: type, item: "Field[object]") -> str:
    """For example "float greater than 0, or null"."""
    options = [option for option in get_args(hint) if option is not NoneType]
    is_optional = NoneType in get_args(hint)
    base = options[0] if is_optional else hint
    rule = str(item.metadata.get("rule", "")).rstrip(",")
    name = "" if rule and base is str else getattr(base, "__name__", str(base))
    null = ", or null" if is_optional and "null" not in rule else ""
    return f"{name} {rule}".strip() + null
