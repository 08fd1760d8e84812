"""Translates the typed command line into Hydra's grammar, and refuses what must not be in it.

It is imported at every start, so it imports no library that takes seconds.
"""

import argparse
import difflib
import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import fields
from pathlib import Path

# Private: Hydra has no other access to its flags. Without it a wrong one prints eight lines.
from hydra._internal.utils import get_args_parser

from svhn_sweep.config.overrides import expand_home
from svhn_sweep.config.own_files import check_own_files
from svhn_sweep.config.schema import CONFIG_NAME, Config
from svhn_sweep.errors import UserError
from svhn_sweep.sweep.plan import settings
from svhn_sweep.tracking.tracking_uri import SECRET_PARAM

# Hydra's flags that a value follows.
WITH_VALUE = ("--config-dir", "--cfg", "--info", "--package", "--experimental-rerun")
SHORT_WITH_VALUE = ("-cd", "-c", "-i", "-p")
HELP = ("--help", "-h")
OPTUNA = "hydra/sweeper=optuna"
# -m starts a sweep; with the others, which Hydra refuses beside -m, it only prints something.
FLAGS_THAT_ALLOW_OPTUNA = {"-m", "--multirun", "--cfg", "-c", "--info", "-i", "--hydra-help", *HELP}


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments as Hydra takes them.

    Args:
        arguments: What follows `python -m svhn_sweep`.

    Raises:
        UserError: Something in them is not allowed beside the rest, or at all.
    """
    flags, overrides = expand(arguments)
    # The overrides come first: the one after a bare --info would be taken for its value.
    expanded = [*overrides, *flags]
    _refuse_passwords(arguments)
    _refuse_other_configs(arguments)
    parsed = parse_flags(expanded)
    _check_modes(parsed)
    if parsed.config_dir is not None:
        check_own_files(Path(parsed.config_dir))
    return expanded


def expand(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Writes `~`, `optuna`, settings of a sweep and tags in Hydra's grammar.

    Returns:
        The flags with their values, and the overrides: argparse, which Hydra uses, takes overrides
        from one place only.

    Raises:
        UserError: A setting of a sweep is misspelt, or there is no sweep.
    """
    expanded = _expand_optuna([expand_home(argument) for argument in arguments])
    # Hydra's grammar has ++ for keys that the schema does not name.
    return _split([re.sub(r"^(?=tracking\.tags\.)", "++", item) for item in expanded])


def asks_for_sweep_help(arguments: Sequence[str]) -> bool:
    """Returns whether the arguments ask for the settings of a sweep: `-m optuna --help`."""
    return not {"optuna", OPTUNA}.isdisjoint(arguments) and not set(HELP).isdisjoint(arguments)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the flags with their values, and the overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    previous = ""
    for argument in arguments:
        # --info may have no value, and none that looks like an override.
        is_override = _is_flag(previous, "-i", "--info") and "=" in argument
        is_value = _is_flag(previous, *SHORT_WITH_VALUE, *WITH_VALUE) and not is_override
        (flags if argument.startswith("-") or is_value else overrides).append(argument)
        previous = argument
    return flags, overrides


def parse_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns Hydra's flags and `overrides`, as Hydra's parser does.

    Raises:
        UserError: There is no such flag, or a flag has no such value.
    """
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            return get_args_parser().parse_args(arguments)
    except SystemExit as end:
        if not end.code:  # Hydra's version was asked for
            raise
        reason = printed.getvalue().rpartition("error: ")[2].strip()
        raise UserError(
            f"{reason}; a key of the config is KEY=VALUE, and --hydra-help lists the flags."
        ) from end


def _check_modes(flags: argparse.Namespace) -> None:
    """Raises a UserError for a command that both starts several runs and shows one config."""
    if flags.multirun and (flags.cfg or flags.info):
        raise UserError(
            f"-m must be left out with {'--cfg' if flags.cfg else '--info'}, which shows the "
            "config of one run."
        )


def _is_flag(typed: str, *flags: str) -> bool:
    """Returns whether it is one of the flags; argparse takes the beginning of a long one too."""
    return typed in flags or (len(typed) > 3 and any(flag.startswith(typed) for flag in flags))


def _refuse_passwords(arguments: Sequence[str]) -> None:
    """Raises a UserError for a password: others can read a command, and Hydra stores it."""
    for argument in arguments:
        if re.search(r"://[^/@\s]*:[^@\s]*@", argument) or SECRET_PARAM.search(argument):
            raise UserError(
                f"{re.split('[=:]', argument)[0]} must not hold a password, since everybody on "
                "this machine can read a command; give the database's in PGPASSWORD or "
                "PGPASSFILE, MLflow's in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            )


def _refuse_other_configs(arguments: Sequence[str]) -> None:
    """Raises a UserError for another main config, which workers could not compose."""
    for flag in (argument.partition("=")[0] for argument in arguments):
        # argparse takes the beginning of a flag too
        if flag in ("-cn", "-cp") or flag.startswith(("--config-n", "--config-p")):
            raise UserError(
                f"{flag} must be left out, since all configs begin with conf/{CONFIG_NAME}.yaml; "
                "files of your own go into the folders that conf/ has, below --config-dir."
            )


def _expand_optuna(arguments: Sequence[str]) -> list[str]:
    """Replaces `optuna` and settings such as `n_trials=6` by the overrides that they stand for."""
    flags = {argument.partition("=")[0] for argument in arguments}
    if "optuna" in arguments and not FLAGS_THAT_ALLOW_OPTUNA & flags:
        raise UserError("optuna starts a sweep, which needs -m: python -m svhn_sweep -m optuna ...")
    expanded = [OPTUNA if item == "optuna" else item for item in arguments]
    if OPTUNA in expanded:
        _refuse_misspelt_settings(expanded)
        return [
            re.sub(r"^[+~]*", r"\g<0>hydra.sweeper.", item) if settings.setting(item) else item
            for item in expanded
        ]
    for item in filter(settings.setting, arguments):
        raise UserError(
            f"{settings.setting(item)} is a setting of a sweep: python -m svhn_sweep -m optuna "
            f"{item} ..."
        )
    return expanded


def _refuse_misspelt_settings(arguments: Sequence[str]) -> None:
    """Raises a UserError for an unknown key that resembles a setting of the sweep."""
    keys = [item.name for item in fields(Config)]
    for item in arguments:
        name = re.match(r"[+~]*([A-Za-z_]+)[.=]", item)
        if name is None or name[1] in ["hydra", *keys, *settings.NAMES]:
            continue
        similar = difflib.get_close_matches(name[1], [*settings.NAMES, *keys], n=1)
        if similar and similar[0] in settings.NAMES:
            raise UserError(
                f"{name[1]} is neither a key of the config nor a setting of the sweep; "
                f"did you mean {similar[0]}?"
            )
