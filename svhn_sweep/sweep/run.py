"""Runs a sweep from its plan to its report."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from optuna.storages import RDBStorage
from sqlalchemy import URL

from svhn_sweep import data
from svhn_sweep.config.overrides import run_mode, user_config_dirs
from svhn_sweep.console import console, print_text
from svhn_sweep.errors import ConfigError, SweepError, SweepInterruptedError, Terminated
from svhn_sweep.output_folders import check_folder
from svhn_sweep.sweep.context import SweepContext, watch_trials
from svhn_sweep.sweep.finalize import finalize, report_search
from svhn_sweep.sweep.plan.hydra_checks import check_hydra
from svhn_sweep.sweep.plan.make_plans import make_plans
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.resume_command import resume_command
from svhn_sweep.sweep.plan.settings import LOG_FORMAT, SweeperConfig, to_sweeper_config
from svhn_sweep.sweep.report.study_run import StudyRun
from svhn_sweep.sweep.resolver import make_resolver
from svhn_sweep.sweep.study import study_storage
from svhn_sweep.sweep.study.compatibility import STUDY_ID, stored_threads
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal import plan_tables
from svhn_sweep.sweep.terminal.results import print_summaries, print_table
from svhn_sweep.sweep.workers.local import LocalMachine
from svhn_sweep.sweep.workers.protocol import Cluster
from svhn_sweep.sweep.workers.scheduler import Scheduler
from svhn_sweep.tracking import tracking_uri
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.tracking.journal import JOURNAL
from svhn_sweep.tracking.run_folders import (
    DRIVER_LOG,
    MULTIRUN,
    NEWEST,
    RUN_FOLDERS,
    WORKERS_LOG,
)
from svhn_sweep.trial_status import TrialStatus

logger = logging.getLogger(__name__)


def run_sweep(composed: DictConfig, arguments: Sequence[str]) -> None:
    """Runs the sweep of `python -m svhn_sweep -m optuna`.

    Args:
        composed: Hydra's config, with the sweep's settings below `hydra.sweeper`.
        arguments: The user's overrides of the trials' config, sweeps among them.

    Raises:
        UserError: The overrides are no valid sweep; nothing was started.
        SweepError: Too many trials failed in a row, or the models could not be evaluated.
    """
    hydra = composed.hydra
    HydraConfig.instance().set_config(composed)  # Hydra does so for jobs only; for ${hydra:...}
    settings = to_sweeper_config(hydra)
    check_hydra(hydra)
    check_folder("multirun", MULTIRUN, [DRIVER_LOG, WORKERS_LOG, NEWEST])
    database = study_storage.storage_url(settings.storage)
    with closing(_open_cluster(settings)) as cluster:
        resolve = make_resolver(arguments, cluster, needs_test=settings.confirm is not None)
        plans = make_plans(settings, [*arguments, *run_mode(hydra)], resolve, composed)
        _check_folders(plans)
        threads = _threads(plans, database, cluster.threads)
        plan_tables.print_plan(plans, settings, cluster, threads)
        if settings.dry_run:
            plan_tables.print_dry_run(plans, settings, threads, user_config_dirs(hydra))
            return
        _log_to_file()
        storage = study_storage.connect(database)
        with _lock_studies(plans, storage):
            studies = _open_studies(plans, settings, storage, cluster.threads)
            cluster.prepare(plans)
            data.release()  # the driver itself has no use for them
            _search_and_finalize(composed, settings, cluster, studies, storage)


def _check_folders(plans: Sequence[Plan]) -> None:
    """Refuses names of studies that a sweep's own files have, and whatever is in their place."""
    for plan in plans:
        if plan.name.lower() in (DRIVER_LOG, WORKERS_LOG):
            raise ConfigError(
                f"hydra.sweeper.study_name must not be {DRIVER_LOG} or {WORKERS_LOG}, the names "
                f"of files in {MULTIRUN}."
            )
        check_folder(f"the study {plan.name}", plan.folder, [STUDY_ID, JOURNAL])


def _threads(plans: Sequence[Plan], database: URL, default: int) -> list[int]:
    """Returns the threads of each study's trials: a study that exists keeps its own number."""
    stored: dict[str, int] = {}
    if any((plan.folder / STUDY_ID).exists() for plan in plans) and study_storage.exists(database):
        storage = study_storage.connect(database)
        with study_storage.interrupted_by_database():
            stored = stored_threads(storage, plans)
        storage.engine.dispose()
    return [stored.get(plan.name, plan.config.training.threads or default) for plan in plans]


def _open_cluster(settings: SweeperConfig) -> Cluster:
    """Returns this machine, or the Ray cluster that the settings name."""
    if settings.cluster is None:
        return LocalMachine(settings, MULTIRUN / WORKERS_LOG)
    try:
        from svhn_sweep.sweep.workers.ray.cluster import RayCluster
    except ImportError as error:
        raise ConfigError(
            f"hydra.sweeper.cluster={settings.cluster} needs this package's extra `ray`: {error}."
        ) from error
    return RayCluster(settings, MULTIRUN / WORKERS_LOG)


def _log_to_file() -> None:
    MULTIRUN.mkdir(exist_ok=True)
    logging.raiseExceptions = False  # else a full disk prints a traceback for each message
    logging.basicConfig(
        filename=MULTIRUN / DRIVER_LOG, format=LOG_FORMAT, level=logging.INFO, force=True
    )


@contextmanager
def _lock_studies(plans: Sequence[Plan], storage: RDBStorage) -> Iterator[None]:
    with ExitStack() as locks:
        with study_storage.interrupted_by_database():
            for plan in plans:
                locks.enter_context(study_storage.single_driver(storage, plan.name, plan.folder))
        yield


def _open_studies(
    plans: Sequence[Plan], settings: SweeperConfig, storage: RDBStorage, threads: int
) -> list[Study]:
    studies = []
    for plan in plans:
        with study_storage.interrupted_by_database():
            studies.append(Study(plan, settings, storage, plan.config.training.threads or threads))
        plan.keep_weights()
    with study_storage.interrupted_by_database():
        plan_tables.print_continued(studies)
    return studies


def _search_and_finalize(
    composed: DictConfig,
    settings: SweeperConfig,
    cluster: Cluster,
    studies: Sequence[Study],
    storage: RDBStorage,
) -> None:
    """Searches and finalizes while a thread sends all runs to MLflow."""
    config_dirs = user_config_dirs(composed.hydra)
    command = resume_command(composed, [study.plan for study in studies])
    folders = [study.plan.parent_run_dir for study in studies]
    with BackgroundUploader(folders, RUN_FOLDERS) as uploader:
        watch_trials(uploader, studies)
        names = [str(folder.relative_to(MULTIRUN)) for folder in folders]
        (MULTIRUN / NEWEST).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        scheduler = Scheduler(settings, cluster, config_dirs, uploader)
        with _study_runs(studies, command, config_dirs) as study_runs:
            context = SweepContext(study_runs, scheduler, storage)
            try:
                if _search(context):
                    finalize(context)
                else:
                    _end_at_timeout(context)
            finally:
                scheduler.stop()
    if not uploader.sent:
        print_text(
            f"MLflow at {tracking_uri.address()} lacks some of it: "
            "`python -m svhn_sweep sync` sends it."
        )


def _search(context: SweepContext) -> bool:
    """Trains the studies' trials; returns whether that is done before the timeout."""
    study_runs = {study_run.study.plan.name: study_run for study_run in context.study_runs}
    deadline = time.monotonic() + (context.settings.timeout or math.inf)
    try:
        is_done = context.run_until_done(
            context.studies, deadline, lambda study: study_runs[study.plan.name].update()
        )
    except SweepError:
        report_search(context)
        raise
    for study in context.studies:
        if study.stop_reason:
            print_text(f"{study.plan.name}: the search ends because {study.stop_reason}")
    return is_done


def _end_at_timeout(context: SweepContext) -> None:
    studies = context.studies
    summaries = report_search(context)
    print_table(studies, [None for _ in studies])
    print_summaries(studies, summaries)
    begun = max(1, min(len(study.trials()) for study in studies))
    print_text(
        f"timeout={context.settings.timeout:g} s is over: the same command continues the search; "
        f"with hydra.sweeper.n_trials={begun} it finishes what was begun, and confirms the best"
    )
    for study_run in context.study_runs:
        study_run.end(TrialStatus.interrupted, "timeout")


@contextmanager
def _study_runs(
    studies: Sequence[Study], command: str, config_dirs: Sequence[str]
) -> Iterator[list[StudyRun]]:
    """Starts the studies' MLflow runs, and ends them with the status that the sweep ends with."""
    explored = list(dict.fromkeys(key for study in studies for key in study.plan.space))
    study_runs: list[StudyRun] = []
    try:
        with study_storage.interrupted_by_database(), study_storage.interrupted_by_disk():
            for study in studies:
                study_runs.append(StudyRun.start(study, explored, command, config_dirs))
                study_runs[-1].update()
            yield study_runs
    except BaseException as error:
        _end_after_error(study_runs, error, command)
        raise
    for study_run in study_runs:
        if not study_run.ended:
            study_run.end(TrialStatus.complete)


def _end_after_error(study_runs: Sequence[StudyRun], error: BaseException, command: str) -> None:
    """Ends the runs; prints the command that continues the sweep if one does."""
    stopped = isinstance(error, KeyboardInterrupt | Terminated)
    resumable = stopped or isinstance(error, SweepInterruptedError)
    status = TrialStatus.interrupted if resumable else TrialStatus.failed
    reason = "stopped" if stopped else tracking_uri.reason(error)
    for study_run in study_runs:
        with _logged("the run could not be ended"):
            study_run.end(status, reason)
    if resumable:
        console.print(f"Nothing is lost. The same command continues:\n{command}")
    for study_run in study_runs:
        with _logged("no leaderboard"):
            study_run.update()


@contextmanager
def _logged(failure: str) -> Iterator[None]:
    """Logs an error instead of raising it: the caller raises the one that ended the sweep."""
    try:
        yield
    except Exception:
        logger.exception(failure)
