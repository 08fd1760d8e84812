"""The door: dispatches commands, hands everything else to Hydra, and turns errors into messages
and exit codes.
"""

import os
import re
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

from svhn_sweep.config.error_messages import USER_ERRORS, explain
from svhn_sweep.config.schema import (
    CONFIG,
    EvaluationConfig,
    conf_dir,
    from_composed,
    register_schema,
)
from svhn_sweep.errors import ConfigError, FailedError, RefusedError, Terminated, UserError
from svhn_sweep.sweep.plan import settings

# -m sweeps; the others only show something, and Hydra refuses them beside -m
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
    """Run the command in `sys.argv`; returns the exit code.

    0 success, 1 a failure, 2 the user's input or config is at fault, 130 interrupted, 143
    terminated.
    """
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = (
        "1"  # makes Hydra raise; else it prints a traceback and exits with 1
    )
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        return _dispatch(sys.argv[1:], show_traceback)
    except (KeyboardInterrupt, Terminated) as stop:
        print("svhn_sweep: interrupted", file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    except RefusedError as refused:
        return _told(refused.reason, show_traceback)
    except Exception as error:  # noqa: BLE001  # all of them become an exit code here
        return _told(error, show_traceback)


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _told(error: Exception, show_traceback: bool, job: str = "") -> int:
    """Print an error, with its traceback if nobody foresaw it or the user asked for it; returns
    the exit code.
    """
    foreseen = isinstance(error, (*USER_ERRORS, FailedError))
    if show_traceback or not foreseen:
        traceback.print_exception(error)
    if foreseen:
        print(f"svhn_sweep: {job}{explain(error)}", file=sys.stderr)
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

            sync([Path(root) for root in roots])
        case ["predict", *paths]:
            from svhn_sweep.commands.predict import predict

            predict([Path(path) for path in paths])
        case _:
            _refuse_passwords(arguments)
            _refuse_other_configs(arguments)
            sys.argv[1:] = _expanded(arguments)
            return _run_hydra(show_traceback)
    return 0


def _refuse_passwords(arguments: list[str]) -> None:
    """Everybody on the machine can read a command, and Hydra writes it down."""
    for argument in arguments:
        if re.search(r"://[^/@\s]*:[^@\s]*@|[?&](ssl)?password=", argument, re.IGNORECASE):
            raise UserError(
                f"{re.split('[=:]', argument)[0]} must not hold a password, since everybody "
                "on this machine can read a "
                "command; give the database's in PGPASSWORD or PGPASSFILE, "
                "MLflow's in MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD."
            )


def _refuse_other_configs(arguments: list[str]) -> None:
    """A run's command and a sweep's workers compose conf/config.yaml."""
    for flag in (argument.partition("=")[0] for argument in arguments):
        if flag in ("-cn", "-cp") or flag.startswith(
            ("--config-n", "--config-p")
        ):  # argparse takes beginnings, too
            raise UserError(
                f"{flag} must be left out, since all configs begin with conf/{CONFIG}.yaml; "
                "files of your own go into "
                "the folders that conf/ has, below --config-dir."
            )


def _expanded(arguments: list[str]) -> list[str]:
    """The arguments as Hydra takes them: it knows no bare word."""
    if "optuna" in arguments and not FLAGS_THAT_ALLOW_OPTUNA & {
        argument.partition("=")[0] for argument in arguments
    }:
        raise UserError("optuna starts a sweep, which needs -m: python -m svhn_sweep -m optuna ...")
    return ["hydra/sweeper=optuna" if argument == "optuna" else argument for argument in arguments]


def _run_hydra(show_traceback: bool) -> int:
    """Let Hydra compose and train; an error in one run of a multirun does not stop the others."""
    exit_codes = [0]

    def task(composed: DictConfig) -> None:
        job = HydraConfig.get()
        name = f"{' '.join(job.overrides.task)}: " if job.mode == RunMode.MULTIRUN else ""
        try:
            _train(composed)
        # for one raised here Hydra prints lines of its own
        except Exception as error:  # noqa: BLE001
            exit_codes.append(_told(error, show_traceback, name))

    register_schema()
    settings.register()
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG)(task)()
    return max(exit_codes)


def _train(composed: DictConfig) -> None:
    """One run, or one of a multirun."""
    config = from_composed(composed)
    from svhn_sweep import data, machine, provenance, run_header
    from svhn_sweep.tracking import tracking_uri
    from svhn_sweep.tracking.background_uploader import BackgroundUploader
    from svhn_sweep.tracking.journal import JOURNAL
    from svhn_sweep.tracking.run_folders import RUN_FOLDERS
    from svhn_sweep.trial import RunInfo, experiment_name, run_trial
    from svhn_sweep.trial_status import TrialStatus

    job = HydraConfig.get()
    test = config.evaluation.test
    if test is None:  # a sweep must not look at the test split
        test = job.mode == RunMode.RUN
    source = data.resolve(config.data, path_given=provenance.names_file(job.overrides.task))
    precision = machine.precision(config.training.precision, machine.gpus())
    training = replace(
        config.training, precision=precision, threads=config.training.threads or machine.cores()
    )
    config = replace(config, data=source, training=training, evaluation=EvaluationConfig(test))
    folder = Path(job.runtime.output_dir)
    if (folder / JOURNAL).exists():
        raise ConfigError(f"hydra.run.dir must be a new folder but {folder} holds a run already.")
    splits = data.load(config.data, test=test)
    experiment = experiment_name(config)
    run_header.before(config, splits, experiment)
    command = provenance.command(
        provenance.explicit(job.overrides.task, config), provenance.config_dirs(job)
    )
    role = provenance.role(job.overrides.task, job.runtime.choices)
    run_info = RunInfo(
        f"{config.model.name} seed {config.seed}",
        experiment,
        tracking_uri.address(),
        {"role": role},
    )
    with BackgroundUploader([folder], RUN_FOLDERS) as uploader:
        outcome = run_trial(config, splits, folder, command, run_info)
    if outcome.status == TrialStatus.diverged:
        raise FailedError(
            "training diverged: the loss is not finite at "
            f"training.learning_rate={config.training.learning_rate:g}; "
            f"try a smaller one. The run is kept in {folder}."
        )
    run_header.after(outcome, folder, uploader.sent)
