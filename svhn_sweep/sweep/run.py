"""The story of a sweep: plan, search, confirm, recommend, report."""

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from hydra.conf import HydraConf
from omegaconf import DictConfig

from svhn_sweep import data, machine, provenance
from svhn_sweep.config import AutoConfig, Config
from svhn_sweep.errors import ConfigError, SweepError, Terminated
from svhn_sweep.report import console
from svhn_sweep.sweep import announcement, conclusion, storage
from svhn_sweep.sweep.claims import Claims
from svhn_sweep.sweep.conclude import conclude, report_so_far
from svhn_sweep.sweep.driver import Driver
from svhn_sweep.sweep.parent_run import ParentRun
from svhn_sweep.sweep.patience import PatientStorage
from svhn_sweep.sweep.plan import Resolve, plans
from svhn_sweep.sweep.pool import CPU, Places, places
from svhn_sweep.sweep.settings import LOG_FORMAT, from_composed
from svhn_sweep.sweep.study import Study
from svhn_sweep.sweep.work import Work, follow, open_study
from svhn_sweep.tracking import memory, store
from svhn_sweep.tracking.live import Live
from svhn_sweep.tracking.sync import MULTIRUN, NEWEST, RUN_FOLDERS

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

logger = logging.getLogger(__name__)


def run(composed: DictConfig, arguments: Sequence[str]) -> None:
    """Do what `python -m svhn_sweep -m optuna` promises.

    Args:
        composed: Hydra's config, with the settings of the sweep below `hydra.sweeper`.
        arguments: the user's overrides of the trials' config, sweeps among them.

    Raises:
        UserError: what was typed is no sweep; nothing has been started.
        SweepError: too many trials failed in a row, or the models could not be judged.
    """
    hydra, settings = composed.hydra, from_composed(composed.hydra)
    if hydra.launcher._target_ != BASIC_LAUNCHER:
        raise ConfigError(
            "hydra/launcher must be basic: a sweep starts its own workers on this machine; "
            f"but got {hydra.launcher._target_}."
        )
    where, database = places(settings), storage.url(settings.storage)
    shared = storage.is_shared(database)
    if shared and settings.sampler == "qmc":  # two drivers would draw the same point
        raise ConfigError("hydra.sweeper.sampler must be tpe or random where hosts share a storage but is qmc.")
    found = plans(settings, arguments, _resolver(arguments, where, test=settings.confirm is not None, shared=shared))
    if shared and not settings.dry_run:
        _check_server()
    announcement.before(found, settings, where)
    if settings.dry_run:
        announcement.examples(found, settings, where, provenance.config_dirs(hydra))
        return
    kept = storage.connect(database)
    MULTIRUN.mkdir(exist_ok=True)
    logging.basicConfig(filename=MULTIRUN / "driver.log", format=LOG_FORMAT, level=logging.INFO, force=True)
    with ExitStack() as stack:
        claims = (
            stack.enter_context(Claims(kept, settings.takeover_after)) if isinstance(kept, PatientStorage) else None
        )
        for plan in found if claims is None else []:
            stack.enter_context(storage.alone(plan.folder))
        threads = [plan.config.training.threads or where.threads for plan in found]
        studies = [open_study(plan, settings, kept, count, claims) for plan, count in zip(found, threads, strict=True)]
        live = stack.enter_context(Live([study.own_folder for study in studies], RUN_FOLDERS))
        follow(live, studies)
        explored = list(dict.fromkeys(key for plan in found for key in plan.space))
        _note_newest(studies)
        driver = Driver(settings, where, provenance.config_dirs(hydra), MULTIRUN / "workers.log", live)
        parents: list[ParentRun] = []
        with _ended_with(parents, _command(hydra), kept):
            for study in studies:
                with storage.exclusive(kept, study.plan.name):
                    parents.append(ParentRun(study, explored, _command(hydra), provenance.config_dirs(hydra)))
                    _introduce(parents[-1])
            try:
                _sweep(Work(studies, parents, driver, kept, claims))
            finally:
                driver.stop()
    if not live.sent:
        console.print(f"MLflow at {store.address()} lacks some of it: `python -m svhn_sweep sync` sends it.")


def _introduce(parent: ParentRun) -> None:
    """Say what is known of the study; where several drivers have it together, MLflow is told at once.

    Raises:
        ConfigError: MLflow cannot be told.
    """
    parent.update()
    if parent.study.claims is None:
        return
    from svhn_sweep.tracking import sending  # imports mlflow

    try:
        sending.send(parent.journal.folder)
    except Exception as error:
        if memory.recall(parent.journal.folder) is None:  # else it has the run; the rest is sent when it answers
            raise ConfigError(
                f"MLflow at {store.address()} must answer when a driver joins others: {store.reason(error)}."
            ) from error


def _note_newest(studies: Sequence[Study]) -> None:
    """For `python -m svhn_sweep ui`."""
    names = [str(study.own_folder.relative_to(MULTIRUN)) for study in studies]
    (MULTIRUN / NEWEST).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _sweep(work: Work) -> None:
    settings, studies = work.settings, work.studies
    parents = {parent.study.plan.name: parent for parent in work.parents}
    deadline = time.monotonic() + (settings.timeout or math.inf)
    try:
        over = work.off(studies, deadline, lambda study: parents[study.plan.name].update())
    except SweepError:
        report_so_far(work)
        raise
    if over:
        for parent in work.parents:
            parent.update()  # other drivers' baselines give trials of this one their distance
        conclude(work)
        return
    told = report_so_far(work)
    conclusion.show_table(studies, [None for _ in studies])
    conclusion.show_lines(studies, told)
    begun = max(1, min(len(study.trials()) for study in studies))
    console.print(
        f"timeout={settings.timeout:g} s is over: the same command continues the search; with "
        f"hydra.sweeper.n_trials={begun} it finishes what was begun, and confirms the best"
    )
    for parent in work.parents:
        parent.end("KILLED", {"trial.state": "interrupted", "trial.reason": "timeout"})


@contextmanager
def _ended_with(parents: Sequence[ParentRun], command: str, kept: storage.Storage) -> Iterator[None]:
    """The studies' own runs end as the sweep does; somebody who stopped it hears how to go on."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | Terminated)
        if stopped and isinstance(kept, PatientStorage):
            kept.hurried = True
        reason = "stopped" if stopped else store.reason(error)
        for parent in parents:
            state = "interrupted" if stopped else "failed"
            parent.end("KILLED" if stopped else "FAILED", {"trial.state": state, "trial.reason": reason})
        if stopped:
            console.print(f"Nothing is lost. The same command continues:\n{command}")
        for parent in parents:
            try:
                parent.update()
            except Exception:
                logger.exception("no leaderboard")  # and no word of it: what ended the sweep is told
        raise
    for parent in parents:
        if not parent.left:
            parent.end("FINISHED", {"trial.state": "complete", "trial.reason": ""})


def _check_server() -> None:
    """Before anything is made: what hosts do together they show in one place.

    Raises:
        ConfigError: there is no MLflow server, or it does not answer, or does not let this user in.
    """
    if store.scheme() not in store.SERVERS:
        raise ConfigError(
            "MLFLOW_TRACKING_URI must be the address of an MLflow server where hosts share a storage, but is "
            f"{'not set' if 'MLFLOW_TRACKING_URI' not in os.environ else store.address()}."
        )
    try:
        store.connect().search_experiments(max_results=1)
    except Exception as error:
        raise ConfigError(
            f"MLFLOW_TRACKING_URI must be a server that answers where hosts share a storage, but {store.address()} "
            f"does not: {store.reason(error)} (user and password: MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)."
        ) from error


def _resolver(arguments: Sequence[str], where: Places, *, test: bool, shared: bool) -> Resolve:
    """Decides on data and precision.

    Args:
        arguments: the user's overrides.
        where: trials are trained.
        test: whether the data must have a test split, which is not opened yet.
        shared: whether other hosts must come to the same data.
    """

    def resolve(config: Config) -> tuple[Config, str]:
        if shared and isinstance(config.data, AutoConfig):
            raise ConfigError(
                "data must be named where hosts share a storage, since each would look in its own folder: "
                "data=svhn data.path=FILE, data=stanford or data=synthetic."
            )
        source = data.resolve(config.data, path_given=provenance.names_file(arguments))
        splits = data.load(source, test=False)
        data.split_validation(splits, config.training.validation_split)
        if test and not data.has_test(splits.path):
            raise ConfigError(
                f"{splits.path} must have X_test and y_test, on which the champion is judged; or add "
                "hydra.sweeper.confirm=null."
            )
        gpus = [device for device in where.devices if device != CPU]
        training = replace(config.training, precision=machine.precision(config.training.precision, gpus))
        return replace(config, data=source, training=training), splits.sha256

    return resolve


def _command(hydra: HydraConf) -> str:
    """The command that continues this sweep."""
    own = [each for each in hydra.overrides.hydra if not each.startswith(("hydra.mode=", "hydra/sweeper="))]
    return provenance.command(["-m", "optuna", *hydra.overrides.task, *own], provenance.config_dirs(hydra))
