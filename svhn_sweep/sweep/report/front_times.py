"""Times the predictions of the models that are worth their price."""

from collections.abc import Sequence

from svhn_sweep import machine
from svhn_sweep.console import print_text
from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.plan.formatting import format_items
from svhn_sweep.sweep.report.leaderboard import make_rows
from svhn_sweep.sweep.report.pareto import multiply_adds, parameters, pareto_front
from svhn_sweep.sweep.study.inference_times import InferenceTimes
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.workers.evaluation_requests import TimeRequest
from svhn_sweep.sweep.workers.protocol import Cluster
from svhn_sweep.tracking import saved_views
from svhn_sweep.tracking.journal import JOURNAL, Journal


def time_front(study: Study, cluster: Cluster, config_dirs: tuple[str, ...]) -> None:
    """Times the baseline and the models on the Pareto fronts, and records it in the study.

    A model is timed once. On another processor than the first ones none is, since the times could
    not be compared. If timing fails, that is printed, and the next start tries again.

    Args:
        study: The search, which is over.
        cluster: Times the models.
        config_dirs: The user's own config folders.
    """
    numbers = _worth_timing(study)
    times = InferenceTimes.load(study.optuna_study)
    untimed = [number for number in numbers if number not in times.medians]
    processor = machine.processor()
    if untimed and times.processor in ("", processor):
        models = format_items(len(untimed), "model")
        print_text(f"{study.plan.name}: timing {models} on one core")
        try:
            passes = cluster.evaluate(_request(study, untimed, config_dirs)).seconds
        except SweepError as error:
            print_text(f"{study.plan.name}: {error}")
            return
        times = times.extended(processor, passes)
        times.save(study.optuna_study)
    _log_times(study, times)


def _request(study: Study, numbers: Sequence[int], config_dirs: tuple[str, ...]) -> TimeRequest:
    params = {trial.number: trial.params for trial in study.trials()}
    overrides = {
        number: tuple(study.plan.overrides(params[number], study.threads)) for number in numbers
    }
    return TimeRequest(overrides, config_dirs)


def _log_times(study: Study, times: InferenceTimes) -> None:
    """Logs the times in the trials' runs; a trial whose folder has no journal is skipped."""
    for number, seconds in times.medians.items():
        trial_dir = study.plan.trial_dir(number)
        if (trial_dir / JOURNAL).exists():
            with Journal(trial_dir) as journal:
                journal.log_metrics(
                    {
                        saved_views.SECONDS: seconds,
                        f"{saved_views.SECONDS}_spread": times.spreads[number],
                    }
                )


def _worth_timing(study: Study) -> list[int]:
    """The numbers of the trials on the fronts and of the baseline; none if no trial is complete."""
    rows = make_rows(study.optuna_study)
    fronts = [row for price in (parameters, multiply_adds) for row in pareto_front(rows, price)]
    baseline = [row for row in rows if row.is_baseline and row.rank]
    return sorted({row.number for row in [*fronts, *baseline]})
