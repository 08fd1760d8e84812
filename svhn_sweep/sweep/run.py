"""The story of a sweep: plan, search, confirm, recommend, report."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import optuna
from hydra.conf import HydraConf
from omegaconf import DictConfig
from rich.console import Console

from svhn_sweep import data, provenance
from svhn_sweep.config import Config
from svhn_sweep.errors import ConfigError, SweepError, Terminated
from svhn_sweep.report import console
from svhn_sweep.sweep import announcement, conclusion, confirmation, storage
from svhn_sweep.sweep.champion import Candidate, Recommendation, candidate, recommend
from svhn_sweep.sweep.confusions import confusions
from svhn_sweep.sweep.driver import Driver
from svhn_sweep.sweep.parent_run import ParentRun
from svhn_sweep.sweep.plan import Resolve, plans
from svhn_sweep.sweep.pool import places
from svhn_sweep.sweep.settings import LOG_FORMAT, SweeperConfig, from_composed
from svhn_sweep.sweep.study import Study
from svhn_sweep.sweep.view import Finished, View
from svhn_sweep.tracking import store
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
    _check(hydra)
    where = places(settings)
    found = plans(settings, arguments, _resolver(arguments, test=settings.confirm is not None))
    announcement.before(found, settings, where)
    if settings.dry_run:
        announcement.examples(found, settings, where, provenance.config_dirs(hydra))
        return
    database = storage.database(settings.storage)
    MULTIRUN.mkdir(exist_ok=True)
    (MULTIRUN / NEWEST).write_text("".join(f"{plan.name}\n" for plan in found), encoding="utf-8")
    logging.basicConfig(filename=MULTIRUN / "driver.log", format=LOG_FORMAT, level=logging.INFO, force=True)
    with ExitStack() as stack:
        for plan in found:
            stack.enter_context(storage.alone(plan.folder))
        live = stack.enter_context(Live([plan.folder for plan in found], RUN_FOLDERS))
        optuna_storage = storage.connect(database)
        studies = [
            Study(plan, settings, optuna_storage, plan.config.training.threads or where.threads) for plan in found
        ]
        _follow(live, studies)
        explored = list(dict.fromkeys(key for plan in found for key in plan.space))
        parents = [ParentRun(study, explored, _command(hydra), provenance.config_dirs(hydra)) for study in studies]
        driver = Driver(settings, where, provenance.config_dirs(hydra), MULTIRUN / "workers.log", live)
        with _ended_with(parents, _command(hydra)):
            try:
                _sweep(studies, parents, driver, optuna_storage)
            finally:
                driver.stop()


def _sweep(
    studies: Sequence[Study], parents: Sequence[ParentRun], driver: Driver, optuna_storage: optuna.storages.BaseStorage
) -> None:
    settings = driver.settings
    by_name = {parent.study.plan.name: parent for parent in parents}
    nothing = [None for _ in studies]
    try:
        deadline = time.monotonic() + (settings.timeout or math.inf)
        over = _work_off(driver, studies, deadline, lambda study: by_name[study.plan.name].update())
    except SweepError:
        _report(parents, nothing, None, {}, so_far=True)
        raise
    if not over:
        conclusion.show_all(studies, nothing, _report(parents, nothing, None, {}, so_far=True))
        begun = max(1, min(len(study.trials()) for study in studies))
        console.print(
            f"timeout={settings.timeout:g} s is over: the same command continues the search; with "
            f"hydra.sweeper.n_trials={begun} it finishes what was begun, and confirms the best"
        )
        for parent in parents:
            parent.end("KILLED", {"trial.state": "interrupted", "trial.reason": "timeout"})
        return
    confirmations = _confirmations(studies, settings, optuna_storage, len(driver.places.devices))
    _follow(driver.live, list(confirmations.values()))
    if any(len(each.finished()) < each.n_trials for each in confirmations.values()):
        _report(parents, nothing, None, {}, so_far=True)  # what is known, whatever becomes of the rest
        _work_off(driver, list(confirmations.values()))
    candidates = [candidate(study, confirmations.get(study.plan.name)) for study in studies]
    recommended, not_judged = None, None
    try:
        recommended = recommend(candidates, driver) if settings.confirm is not None else None
    except SweepError as error:
        not_judged = error
    conclusion.show_all(studies, candidates, _report(parents, candidates, recommended, confirmations))
    if not_judged is not None:
        raise not_judged


def _report(
    parents: Sequence[ParentRun],
    candidates: Sequence[Candidate | None],
    recommended: Recommendation | None,
    confirmations: Mapping[str, Study],
    *,
    so_far: bool = False,
) -> list[list[str]]:
    """Files and figures of each study; one that cannot be drawn does not take the sweep's result away.

    `so_far`: more is to come, and the report of an earlier start, which has a verdict perhaps, stays until then.
    Returns what was found in each, in sentences.
    """
    told = []
    for parent, each in zip(parents, candidates, strict=True):
        study = parent.study
        both = confusions(study, each)
        told.append(conclusion.lines(study, each, recommended, both))
        if so_far and parent.has_verdict():
            continue
        confirming = confirmations.get(study.plan.name)
        finished = len(study.finished()) + (len(confirming.finished()) if confirming else 0)
        try:
            best = study.best()
            number = each.number if each is not None else best.number if best is not None else None
            parent.report(told[-1], conclusion.numbers(each, recommended), number, both, finished)
        except Exception as error:
            logger.exception("no report")
            console.print(f"{study.plan.name}: no report: {store.reason(error)}", markup=False)
    return told


def _confirmations(
    studies: Sequence[Study], settings: SweeperConfig, optuna_storage: optuna.storages.BaseStorage, workers: int
) -> dict[str, Study]:
    """By study, where its best config has something to prove: both arms on fresh seeds."""
    if settings.confirm is None:
        return {}
    confirmations: dict[str, Study] = {}
    for study in studies:
        plan = confirmation.plan(study, settings.confirm.seeds)
        if plan is not None:
            confirmations[study.plan.name] = Study(plan, settings, optuna_storage, study.threads, prune=False)
        announcement.confirmation(study, confirmations.get(study.plan.name), workers)
    return confirmations


def _follow(live: Live, studies: Sequence[Study]) -> None:
    """Trials of earlier starts too: MLflow may lack their ends, and a late baseline gives them a distance."""
    for study in studies:
        for trial in study.trials():
            live.follow(study.folder(trial.number))


def _work_off(
    driver: Driver,
    studies: Sequence[Study],
    deadline: float = math.inf,
    told: Callable[[Study], object] = lambda study: None,
) -> bool:
    """`Driver.work_off`, to be watched in the terminal."""
    settings = driver.settings
    view = View(Console(highlight=False), settings.metric, settings.maximize, len(driver.places.devices))
    for study in studies:
        searching = study.plan.role == "trial"
        view.study(study.plan.name, study.n_trials, _finished(study), compared=searching)
    with view:
        return driver.work_off(studies, view, deadline, told)


def _finished(study: Study) -> list[Finished]:
    return [
        Finished(trial.number, trial.user_attrs["state"], trial.value, study.plan.is_baseline(trial.number))
        for trial in study.finished()
    ]


@contextmanager
def _ended_with(parents: Sequence[ParentRun], command: str) -> Iterator[None]:
    """The studies' own runs end as the sweep does; somebody who stopped it hears how to go on."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | Terminated)
        reason = "stopped" if stopped else store.reason(error)
        for parent in parents:
            state = "interrupted" if stopped else "failed"
            parent.end("KILLED" if stopped else "FAILED", {"trial.state": state, "trial.reason": reason})
        if stopped:
            console.print(f"Nothing is lost. The same command continues:\n{command}", markup=False)
        for parent in parents:
            try:
                parent.update()
            except Exception:
                logger.exception("no leaderboard")  # and no word of it: what ended the sweep is told
        raise
    for parent in parents:
        if not parent.journal.ended:
            parent.end("FINISHED", {"trial.state": "complete", "trial.reason": ""})


def _check(hydra: HydraConf) -> None:
    if hydra.launcher._target_ != BASIC_LAUNCHER:
        raise ConfigError(
            "hydra/launcher must be basic: a sweep starts its own workers on this machine; "
            f"but got {hydra.launcher._target_}."
        )
    if hydra.job.chdir:
        raise ConfigError("hydra.job.chdir must be false: data, databases and runs are found from the current folder.")
    store.check()


def _resolver(arguments: Sequence[str], *, test: bool) -> Resolve:
    """Decides on the data; `test`: whether they must have a test split, which is not opened yet."""
    path_given = any(argument.startswith("data.path=") for argument in arguments)

    def resolve(config: Config) -> tuple[Config, str]:
        source = data.resolve(config.data, path_given=path_given)
        splits = data.load(source, test=False)
        data.split_validation(splits, config.training.validation_split)
        if test and not data.has_test(splits.path):
            raise ConfigError(
                f"{splits.path} must have X_test and y_test, on which the champion is judged; or add "
                "hydra.sweeper.confirm=null."
            )
        return replace(config, data=source), splits.sha256

    return resolve


def _command(hydra: HydraConf) -> str:
    """The command that continues this sweep."""
    own = [each for each in hydra.overrides.hydra if not each.startswith(("hydra.mode=", "hydra/sweeper="))]
    return provenance.command(["-m", "optuna", *hydra.overrides.task, *own], provenance.config_dirs(hydra))
