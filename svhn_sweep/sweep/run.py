"""The story of a sweep: plan, search, confirm, recommend, report."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from hydra.conf import HydraConf
from omegaconf import DictConfig
from optuna.storages import RDBStorage

from svhn_sweep import data, provenance
from svhn_sweep.config.schema import Config
from svhn_sweep.errors import ConfigError, SweepError, SweepInterruptedError, Terminated
from svhn_sweep.run_header import console
from svhn_sweep.sweep.context import SweepContext, watch
from svhn_sweep.sweep.finalize import finalize, report_so_far
from svhn_sweep.sweep.plan.plan import Resolve, plans
from svhn_sweep.sweep.plan.settings import LOG_FORMAT, SweeperConfig, from_composed
from svhn_sweep.sweep.report import summary
from svhn_sweep.sweep.report.study_run import StudyRun
from svhn_sweep.sweep.study import study_storage
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal import plan_tables
from svhn_sweep.sweep.workers.local import LocalMachine
from svhn_sweep.sweep.workers.protocol import Cluster
from svhn_sweep.sweep.workers.scheduler import Scheduler
from svhn_sweep.tracking import tracking_uri
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.tracking.run_folders import MULTIRUN, NEWEST, RUN_FOLDERS
from svhn_sweep.trial_status import TrialStatus

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

logger = logging.getLogger(__name__)


def run(composed: DictConfig, arguments: Sequence[str]) -> None:
    """Do what `python -m svhn_sweep -m optuna` promises.

    Args:
        composed: Hydra's config, with the settings of the sweep below `hydra.sweeper`.
        arguments: the user's overrides of the trials' config, sweeps among them.

    Raises:
        UserError: what was typed is no sweep; nothing has been started.
        SweepError: too many trials failed in a row, or the models could not be evaluated.
    """
    hydra = composed.hydra
    settings = from_composed(composed.hydra)
    if hydra.launcher._target_ != BASIC_LAUNCHER:
        raise ConfigError(
            "hydra/launcher must be basic: a sweep starts its own "
            f"workers; but got {hydra.launcher._target_}."
        )
    database = study_storage.url(settings.storage)
    with ExitStack() as stack:
        cluster = stack.enter_context(closing(_cluster(settings)))
        found = plans(
            settings, arguments, _resolver(arguments, cluster, test=settings.confirm is not None)
        )
        plan_tables.before(found, settings, cluster)
        if settings.dry_run:
            plan_tables.examples(found, settings, cluster.threads, provenance.config_dirs(hydra))
            return
        MULTIRUN.mkdir(exist_ok=True)
        logging.basicConfig(
            filename=MULTIRUN / "driver.log", format=LOG_FORMAT, level=logging.INFO, force=True
        )
        kept = study_storage.connect(database)
        with study_storage.interrupted_by_database():
            for plan in found:
                stack.enter_context(study_storage.single_driver(kept, plan.name, plan.folder))
            studies = [
                Study(plan, settings, kept, plan.config.training.threads or cluster.threads)
                for plan in found
            ]
        cluster.prepare(found)
        _run(hydra, settings, cluster, studies, kept)


def _run(
    hydra: HydraConf,
    settings: SweeperConfig,
    cluster: Cluster,
    studies: Sequence[Study],
    kept: RDBStorage,
) -> None:
    """The sweep itself, while the locks of its studies are held."""
    config_dirs = provenance.config_dirs(hydra)
    command = _command(hydra)
    explored = list(dict.fromkeys(key for study in studies for key in study.plan.space))
    with BackgroundUploader(
        [study.plan.parent_run_dir for study in studies], RUN_FOLDERS
    ) as uploader:
        watch(uploader, studies)
        _note_newest(studies)
        scheduler = Scheduler(settings, cluster, config_dirs, uploader)
        parents: list[StudyRun] = []
        with _ended_with(parents, command), study_storage.interrupted_by_database():
            for study in studies:
                parents.append(StudyRun(study, explored, command, config_dirs))
                parents[-1].update()
            try:
                _sweep(SweepContext(studies, parents, scheduler, kept))
            finally:
                scheduler.stop()
    if not uploader.sent:
        console.print(
            f"MLflow at {tracking_uri.address()} lacks some of it: "
            "`python -m svhn_sweep sync` sends it."
        )


def _cluster(settings: SweeperConfig) -> Cluster:
    """This machine, or the Ray cluster that the settings name."""
    if settings.cluster is None:
        return LocalMachine(settings, MULTIRUN / "workers.log")
    try:
        from svhn_sweep.sweep.workers.ray.cluster import RayCluster
    except ImportError as error:
        raise ConfigError(
            f"hydra.sweeper.cluster={settings.cluster} needs this package's extra `ray`: {error}."
        ) from error
    return RayCluster(settings, MULTIRUN / "workers.log")


def _note_newest(studies: Sequence[Study]) -> None:
    """For `python -m svhn_sweep ui`."""
    names = [str(study.plan.parent_run_dir.relative_to(MULTIRUN)) for study in studies]
    (MULTIRUN / NEWEST).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _sweep(context: SweepContext) -> None:
    settings = context.settings
    studies = context.studies
    parents = {parent.study.plan.name: parent for parent in context.parents}

    def update_run(study: Study) -> None:
        parents[study.plan.name].update()

    deadline = time.monotonic() + (settings.timeout or math.inf)
    try:
        over = context.run_until_done(
            studies, deadline, lambda study: parents[study.plan.name].update()
        )
    except SweepError:
        report_so_far(context)
        raise
    if over:
        finalize(context)
        return
    told = report_so_far(context)
    summary.show_table(studies, [None for _ in studies])
    summary.show_lines(studies, told)
    begun = max(1, min(len(study.trials()) for study in studies))
    console.print(
        f"timeout={settings.timeout:g} s is over: the same command continues the search; with "
        f"hydra.sweeper.n_trials={begun} it finishes what was begun, and confirms the best"
    )
    for parent in context.parents:
        parent.end(TrialStatus.interrupted, "timeout")


@contextmanager
def _ended_with(parents: Sequence[StudyRun], command: str) -> Iterator[None]:
    """The studies' own runs end as the sweep does; whoever can continue it is told how."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | Terminated)
        resumable = stopped or isinstance(error, SweepInterruptedError)
        reason = "stopped" if stopped else tracking_uri.reason(error)
        for parent in parents:
            parent.end(TrialStatus.interrupted if resumable else TrialStatus.failed, reason)
        if resumable:
            console.print(f"Nothing is lost. The same command continues:\n{command}")
        for parent in parents:
            try:
                parent.update()
            except Exception:
                logger.exception(
                    "no leaderboard"
                )  # and no word of it: what ended the sweep is told
        raise
    for parent in parents:
        if not parent.ended:
            parent.end(TrialStatus.complete)


def _resolver(arguments: Sequence[str], cluster: Cluster, *, test: bool) -> Resolve:
    """Decides on data and precision.

    Args:
        arguments: the user's overrides.
        cluster: that trains.
        test: whether the data must have a test split, which is not opened yet.
    """

    def resolve(config: Config) -> tuple[Config, str]:
        source = data.resolve(config.data, path_given=provenance.names_file(arguments))
        splits = data.load(source, test=False)
        data.split_validation(splits, config.training.validation_split)
        if test and not data.has_test(splits.path):
            raise ConfigError(
                f"{splits.path} must have X_test and y_test, on "
                "which the champion is judged; or add "
                "hydra.sweeper.confirm=null."
            )
        training = replace(config.training, precision=cluster.precision(config.training.precision))
        return replace(config, data=source, training=training), splits.sha256

    return resolve


def _command(hydra: HydraConf) -> str:
    """The command that continues this sweep."""
    own = [
        each
        for each in hydra.overrides.hydra
        if not each.startswith(("hydra.mode=", "hydra/sweeper="))
    ]
    return provenance.command(
        ["-m", "optuna", *hydra.overrides.task, *own], provenance.config_dirs(hydra)
    )
