"""Dispatches the commands, starts Hydra, and turns errors into messages and exit codes."""

import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from svhn_sweep import __version__, completion, environment, output_folders, standard_streams
from svhn_sweep.arguments import asks_for_sweep_help, for_hydra, parse_flags
from svhn_sweep.commands.options import parse_audit, parse_predict, parse_sync, parse_ui
from svhn_sweep.config.composition import composition_errors
from svhn_sweep.config.error_messages import COMMANDS, USER_ERRORS, explain, explain_os_error
from svhn_sweep.config.overrides import typed_overrides
from svhn_sweep.config.schema import CONFIG_NAME, conf_dir, register_schema
from svhn_sweep.errors import FailedError, RefusedError, Terminated, raise_terminated
from svhn_sweep.sweep.plan import settings
from svhn_sweep.tracking import tracking_uri

if TYPE_CHECKING:
    from svhn_sweep.grid.run import GridRun


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
    if "JPY_PARENT_PID" in os.environ:
        # A cell's !command has a terminal, whose rows are redrawn in the cell's output; Rich reads
        # this at its first console.
        os.environ.setdefault("TTY_COMPATIBLE", "0")
    signal.signal(signal.SIGTERM, raise_terminated)
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
    except SystemExit as end:  # of argparse's --help
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # noqa: BLE001  # all of them become an exit code here
        return _print_error(error, show_traceback)


def _print_error(error: Exception, show_traceback: bool, job: str = "") -> int:
    """Prints an error and returns the exit code.

    The traceback is printed if the error is unexpected or the user asked for it; `job` begins the
    message.
    """
    error = explain_os_error(error) if isinstance(error, OSError) else error
    expected = isinstance(error, (*USER_ERRORS, FailedError))
    if show_traceback or not expected:
        print(tracking_uri.redact("".join(traceback.format_exception(error))), file=sys.stderr)
    if expected:
        # Hydra and OmegaConf put the value into their messages.
        print(tracking_uri.redact(f"svhn_sweep: {job}{explain(error)}"), file=sys.stderr)
    return 2 if isinstance(error, USER_ERRORS) else 1


def _dispatch(arguments: list[str], show_traceback: bool) -> int:
    if "--version" in arguments and arguments[0] not in COMMANDS:
        print(f"svhn_sweep {__version__}")
        return 0
    output_folders.check_current_folder()
    match arguments:
        case ["ui", *options]:
            parsed = parse_ui(options)
            from svhn_sweep.commands.ui import ui

            ui(parsed.host, parsed.port)
        case ["sync", *options]:
            parsed = parse_sync(options)
            from svhn_sweep.commands.sync import sync

            sync(parsed.folders)
        case ["predict", *options]:
            parsed = parse_predict(options)
            from svhn_sweep.commands.predict import predict

            predict(parsed.images, parsed.model)
        case ["audit", *options]:
            parsed = parse_audit(options)
            from svhn_sweep.commands.audit import audit

            audit(parsed.arguments)
        case _ if completion.is_query(arguments):
            _complete(arguments)
        case _ if asks_for_sweep_help(arguments):
            from svhn_sweep.sweep.plan.settings_help import print_settings

            print_settings()
        case _:
            sys.argv[1:] = for_hydra(arguments)
            return _run_hydra(show_traceback)
    return 0


def _complete(arguments: Sequence[str]) -> None:
    """Prints how the line in `COMP_LINE` can go on; nothing, not even an error, if it cannot."""
    with redirect_stderr(io.StringIO()), suppress(BaseException):
        completions, os.environ["COMP_LINE"] = completion.complete(os.environ["COMP_LINE"])
        print("\n".join(completions))
        if os.environ["COMP_LINE"]:
            sys.argv[1:] = arguments
            _run_hydra(show_traceback=False)


class _Jobs:
    """Trains the jobs that Hydra starts: a single run, or the runs of a grid.

    Attributes:
        exit_codes: Of the jobs that have failed.
        grid: The grid, from the first of its jobs on.
    """

    def __init__(self, stack: ExitStack, show_traceback: bool) -> None:
        """Trains nothing yet; the grid's context ends with the stack."""
        self.exit_codes: list[int] = []
        self.grid: GridRun | None = None
        self._stack = stack
        self._show_traceback = show_traceback

    def train(self, composed: DictConfig) -> None:
        """Trains a job; an error is printed and does not stop the others."""
        from svhn_sweep import hydra_job

        job = HydraConfig.get()
        name = ""
        if job.mode == RunMode.MULTIRUN:
            name = f"{' '.join(typed_overrides(job.overrides.task))}: "
            if self.grid is None:
                from svhn_sweep.grid.run import GridRun

                self.grid = self._stack.enter_context(GridRun(Path(job.sweep.dir)))
        try:
            if self.grid is None:
                hydra_job.train(composed)
            else:
                hydra_job.train_in_grid(composed, self.grid)
        # Not raised: Hydra would print lines of its own.
        except Exception as error:  # noqa: BLE001
            self.exit_codes.append(_print_error(error, self._show_traceback, name))


def _run_hydra(show_traceback: bool) -> int:
    """Composes and trains with Hydra; returns the exit code."""
    register_schema()
    settings.register()
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)
    flags = parse_flags(sys.argv[1:])
    with ExitStack() as stack, composition_errors(flags.overrides):
        if flags.cfg or flags.info:  # prints a config, and a user's file may hold a password
            stack.enter_context(_redacted_output())
        jobs = _Jobs(stack, show_traceback)
        main(jobs.train)()
    incomplete = jobs.grid is not None and not jobs.grid.is_complete
    return max([*jobs.exit_codes, int(incomplete)])


@contextmanager
def _redacted_output() -> Iterator[None]:
    """Replaces the passwords in what is printed."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        print(tracking_uri.redact(printed.getvalue()), end="")
