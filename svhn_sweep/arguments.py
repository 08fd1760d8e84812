"""Orders the arguments of the command line for Hydra, and refuses flags that exclude each other."""

from collections.abc import Sequence

from svhn_sweep.errors import UserError

# Hydra's flags that a value follows.
WITH_VALUE = ("--config-dir", "--cfg", "--info", "--package", "--experimental-rerun")
SHORT_WITH_VALUE = ("-cd", "-c", "-i", "-p")
SHOWING = {"--cfg": "--cfg", "-c": "--cfg", "--info": "--info", "-i": "--info"}
MULTIRUN = ("-m", "--multirun")


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with all flags, and their values, in front of all overrides.

    argparse, which Hydra uses, takes the overrides from one place only.
    """
    flags: list[str] = []
    overrides: list[str] = []
    previous = ""
    for argument in arguments:
        # --info may have no value, and no flag's value looks like an override.
        is_value = _takes_value(previous) and "=" not in argument
        (flags if argument.startswith("-") or is_value else overrides).append(argument)
        previous = argument
    return [*flags, *overrides]


def check_modes(arguments: Sequence[str]) -> None:
    """Checks that a command does not both start several runs and show one config.

    Raises:
        UserError: It does.
    """
    flags = [item.partition("=")[0] for item in arguments]
    showing = [SHOWING[flag] for flag in flags if flag in SHOWING]
    if showing and any(item in MULTIRUN for item in arguments):
        raise UserError(
            f"-m must be left out with {showing[0]}, which shows the config of one run."
        )


def _takes_value(flag: str) -> bool:
    # argparse takes the beginning of a long flag too
    is_long = len(flag) > 3 and any(name.startswith(flag) for name in WITH_VALUE)
    return is_long or flag in SHORT_WITH_VALUE
