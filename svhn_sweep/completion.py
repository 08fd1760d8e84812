"""Completes what is this package's own on the command line; Hydra completes the keys of the config.

Hydra's function for the shell, `svhn-sweep -sc install=bash`, asks `svhn-sweep -sc query=bash` with
the line typed so far in `COMP_LINE`.
"""

from collections.abc import Sequence

from svhn_sweep.arguments import OPTUNA, expand
from svhn_sweep.sweep.plan import settings

OPTIONS = {"ui": ["--port", "--host"], "sync": [], "predict": ["--model"], "audit": []}
FLAGS = ("-sc", "--shell-completion")


def is_query(arguments: Sequence[str]) -> bool:
    """Returns whether a shell asks for completions."""
    asks = any(item.startswith("query=") for item in arguments)
    return asks and any(item in FLAGS for item in arguments)


def complete(line: str) -> tuple[list[str], str]:
    """Completes the last word of a command line.

    Args:
        line: What is typed so far, the program's name included.

    Returns:
        The words that are no keys of the config, and the line for Hydra; it is empty where keys
        of the config cannot stand.

    Raises:
        UserError: Something on the line is not allowed.
    """
    program, *typed = line.split()
    current = "" if line.endswith(" ") or not typed else typed.pop()
    if typed and typed[0] in OPTIONS:
        return _beginning(current, OPTIONS[typed[0]]), ""
    if current.startswith("-"):
        return [], ""
    is_sweep = not {"optuna", OPTUNA}.isdisjoint(typed)
    own = [f"{key}=" for key in settings.leaf_keys()] if is_sweep else ["optuna"]
    commands = [] if typed else list(OPTIONS)
    flags, overrides = expand(["-m", *typed] if is_sweep else typed)
    line_for_hydra = " ".join([program, *flags, *overrides, current])
    return _beginning(current, [*own, *commands]), line_for_hydra


def _beginning(start: str, options: Sequence[str]) -> list[str]:
    return [option for option in options if option.startswith(start)]
