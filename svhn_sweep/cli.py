"""Dispatches the commands, starts Hydra, and turns errors into messages and exit codes."""

import os
import re
import signal
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from svhn_sweep import environment, output_folders, standard_streams
from svhn_sweep.arguments import check_modes, flags_first
from svhn_sweep.config.composition import composition_errors
from svhn_sweep.config.error_messages import USER_ERRORS, explain
from svhn_sweep.config.overrides import expand_home, typed_overrides
from svhn_sweep.config.own_files import check_own_files
from svhn_sweep.config.schema import CONFIG_NAME, conf_dir, register_schema
from svhn_sweep.errors import FailedError, RefusedError, Terminated, UserError
from svhn_sweep.sweep.plan import settings
from svhn_sweep.tracking import tracking_uri
from svhn_sweep.tracking.tracking_uri import SECRET_PARAM

if TYPE_CHECKING:
    from svhn_sweep.grid.run import GridRun

# -m starts a sweep; with the others, which Hydra refuses beside -m, it only prints something.
FLAGS_THAT_ALLOW_OPTUNA = {
    "-m",
    "--multirun",
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--help",
    "-h",
    "--hydra-help",
}


def main() -> int:
    """Runs the command in `sys.argv`.

    Returns:
        The exit code: 0 success, 1 a failure, 2 the user's input or config is at fault, 130
        interrupted, 143 terminated.
    """
    if refusal := _cannot_start():
        print(f"svhn_sweep: {refusal}", file=sys.stderr)
        return 2
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra raises with it; without it prints a traceback and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Jupyter and Colab name a backend of their own in it, which is not installed here.
    os.environ["MPLBACKEND"] = "agg"
    signal.signal(signal.SIGTERM, _raise_terminated)
    standard_streams.warnings_are_no_errors()
    standard_streams.keep_running_without_readers()
    exit_code = _run(show_traceback)
    if lost := standard_streams.lost_output():
        print(f"svhn_sweep: {lost}", file=sys.stderr)
        return exit_code or 1
    return exit_code


def _cannot_start() -> str:
    """Returns why no command can run here; empty if one can."""
    if sys.platform == "win32":
        return "Windows is not supported; run the command in WSL2, which is Linux."
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the current folder was deleted; change to another one."
    return ""


def _run(show_traceback: bool) -> int:
    """Runs the command; returns its exit code, whatever it raises."""
    try:
        environment.check()
        return _dispatch(sys.argv[1:], show_traceback)
    except (KeyboardInterrupt, Terminated) as stop:
        print("svhn_sweep: interrupted", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    except RefusedError as refused:
        return _print_error(refused.reason, show_traceback)
    except Exception as error:  # noqa: BLE001  # all of them become an exit code here
        return _print_error(error, show_traceback)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _print_error(error: Exception, show_traceback: bool, job: str = "") -> int:
    """Prints an error and returns the exit code.

    The traceback is printed if the error is unexpected or the user asked for it; `job` begins the
    message.
    """
    error = output_folders.explain_os_error(error) if isinstance(error, OSError) else error
    expected = isinstance(error, (*USER_ERRORS, FailedError))
    if show_traceback or not expected:
        print(tracking_uri.redact("".join(traceback.format_exception(error))), file=sys.stderr)
    if expected:
        # Hydra and OmegaConf put the value into their messages.
        print(tracking_uri.redact(f"svhn_sweep: {job}{explain(error)}"), file=sys.stderr)
    return 2 if isinstance(error, USER_ERRORS) else 1


def _dispatch(arguments: list[str], show_traceback: bool) -> int:
    match arguments:
        case ["ui" | "sync" | "predict", "--help" | "-h"]:
            sys.argv[1:] = ["--help"]
            return _run_hydra(show_traceback)
        case ["ui"]:
            from svhn_sweep.commands.ui import ui

            ui()
        case ["ui", *_]:
            raise UserError("ui takes no options; for others start `mlflow ui` in the same folder.")
        case ["sync", *roots]:
            from svhn_sweep.commands.sync import sync

            _refuse_options("sync", roots)
            sync([Path(root) for root in roots])
        case ["predict", *paths]:
            from svhn_sweep.commands.predict import predict

            _refuse_options("predict", paths)
            predict([Path(path) for path in paths])
        case _:
            arguments = list(map(expand_home, arguments))
            _refuse_passwords(arguments)
            _refuse_other_configs(arguments)
            check_modes(arguments)
            check_own_files(arguments)
            sys.argv[1:] = flags_first(_add_tags(_expand_optuna(arguments)))
            return _run_hydra(show_traceback)
    return 0


def _refuse_options(command: str, paths: list[str]) -> None:
    """Raises a UserError for a flag to a command that takes paths only."""
    for path in paths:
        if path.startswith("-"):
            raise UserError(
                f"{command} takes no options but got {path}; a file of that name is ./{path}."
            )


def _refuse_passwords(arguments: list[str]) -> None:
    """Raises a UserError for a password: others can read a command, and Hydra stores it."""
    for argument in arguments:
        if re.search(r"://[^/@\s]*:[^@\s]*@", argument) or SECRET_PARAM.search(argument):
            raise UserError(
                f"{re.split('[=:]', argument)[0]} must not hold a password, since everybody on "
                "this machine can read a command; give the database's in PGPASSWORD or "
                "PGPASSFILE, MLflow's in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            )


def _refuse_other_configs(arguments: list[str]) -> None:
    """Raises a UserError for another main config, which workers could not compose."""
    for flag in (argument.partition("=")[0] for argument in arguments):
        # argparse takes the beginning of a flag too
        if flag in ("-cn", "-cp") or flag.startswith(("--config-n", "--config-p")):
            raise UserError(
                f"{flag} must be left out, since all configs begin with conf/{CONFIG_NAME}.yaml; "
                "files of your own go into the folders that conf/ has, below --config-dir."
            )


def _expand_optuna(arguments: list[str]) -> list[str]:
    """Replaces `optuna` and settings such as `n_trials=6` by the overrides that they stand for."""
    flags = {argument.partition("=")[0] for argument in arguments}
    if "optuna" in arguments and not FLAGS_THAT_ALLOW_OPTUNA & flags:
        raise UserError("optuna starts a sweep, which needs -m: python -m svhn_sweep -m optuna ...")
    expanded = ["hydra/sweeper=optuna" if item == "optuna" else item for item in arguments]
    if "hydra/sweeper=optuna" in expanded:
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


def _add_tags(arguments: list[str]) -> list[str]:
    """Lets `tracking.tags.KEY=VALUE` add a key, for which Hydra's grammar has `++`."""
    return [re.sub(r"^(?=tracking\.tags\.)", "++", argument) for argument in arguments]


def _run_hydra(show_traceback: bool) -> int:
    """Composes and trains with Hydra; an error in one job of a multirun does not stop others."""
    exit_codes = [0]
    grids: list[GridRun] = []

    def task(composed: DictConfig) -> None:
        from svhn_sweep import hydra_job

        job = HydraConfig.get()
        name = ""
        if job.mode == RunMode.MULTIRUN:
            name = f"{' '.join(typed_overrides(job.overrides.task))}: "
            if not grids:
                from svhn_sweep.grid.run import GridRun

                grids.append(stack.enter_context(GridRun(Path(job.sweep.dir))))
        try:
            if grids:
                hydra_job.train_in_grid(composed, grids[0])
            else:
                hydra_job.train(composed)
        # Not raised: Hydra would print lines of its own.
        except Exception as error:  # noqa: BLE001
            exit_codes.append(_print_error(error, show_traceback, name))

    register_schema()
    settings.register()
    run = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(task)
    overrides = [argument for argument in sys.argv[1:] if "=" in argument and argument[0] != "-"]
    with ExitStack() as stack, composition_errors(overrides):
        run()
    exit_codes += [1 for grid in grids if not grid.is_complete]
    return max(exit_codes)
