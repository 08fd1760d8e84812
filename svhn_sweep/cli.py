"""The door: dispatches commands, hands everything else to Hydra, and turns errors into messages and exit codes."""

import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import FrameType

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from svhn_sweep.config import EvaluationConfig, conf_dir, from_composed, register_schema
from svhn_sweep.errors import DivergedError, Terminated
from svhn_sweep.explain import SAID_BY_THE_USER, explain


def main() -> int:
    """Run the command in `sys.argv`; returns the exit code.

    0 success, 1 a failure, 2 the user's input or config is at fault, 130 interrupted, 143 terminated.
    """
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise; else it prints a traceback and exits with 1
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        _dispatch(sys.argv[1:])
    except (KeyboardInterrupt, Terminated) as stop:
        print("svhn_sweep: interrupted", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    except (*SAID_BY_THE_USER, DivergedError, ConnectionError) as error:
        if show_traceback:
            traceback.print_exc()
        print(f"svhn_sweep: {explain(error)}", file=sys.stderr)
        return 2 if isinstance(error, SAID_BY_THE_USER) else 1
    return 0


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _dispatch(arguments: list[str]) -> None:
    match arguments:
        case ["ui", *options]:
            from svhn_sweep.tracking.ui import ui

            ui(options)
        case ["sync", *roots]:
            from svhn_sweep.tracking.sync import sync

            sync([Path(root) for root in roots])
        case _:
            _run_hydra()


def _run_hydra() -> None:
    """Let Hydra compose and train; an error in one run of a multirun does not stop the others."""
    errors: list[Exception] = []

    def task(composed: DictConfig) -> None:
        try:
            _train(composed)
        except Exception as error:  # noqa: BLE001  # raised below: for one raised here Hydra prints lines of its own
            if errors:
                print(f"svhn_sweep: {explain(errors[-1])}", file=sys.stderr)
            errors.append(error)

    register_schema()
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
    if errors:
        raise errors[-1]


def _train(composed: DictConfig) -> None:
    """One run, or one of a multirun."""
    config = from_composed(composed)
    from svhn_sweep import data, provenance, report
    from svhn_sweep.trial import experiment_name, run_trial

    job = HydraConfig.get()
    test = config.evaluation.test
    if test is None:  # a sweep must not look at the test split
        test = job.mode == RunMode.RUN
    config = replace(config, data=data.resolve(config.data), evaluation=EvaluationConfig(test))
    folder = Path(job.runtime.output_dir)
    splits = data.load(config.data, test=test)
    report.before(config, splits, experiment_name(config))
    outcome = run_trial(config, splits, folder, provenance.command(job.overrides.task, config.data, test))
    if outcome.state == "diverged":
        raise DivergedError(
            f"training diverged: the loss is not finite at training.learning_rate={config.training.learning_rate:g}; "
            f"try a smaller one. The run is kept in {folder}."
        )
    report.after(outcome, folder)
