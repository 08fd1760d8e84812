"""The facts about a study: tags, params and metrics in MLflow, settings in its report."""

from datetime import datetime

from svhn_sweep.config.data_sources import source_name
from svhn_sweep.config.flatten import flatten
from svhn_sweep.data import copies_tag
from svhn_sweep.sweep.study.inference_times import InferenceTimes
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.trial_values import objective_value
from svhn_sweep.tracking import saved_views
from svhn_sweep.tracking.journal import Scalar
from svhn_sweep.trial_status import TrialStatus


def tags(study: Study) -> dict[str, Scalar]:
    """Returns the tags of a study's run; a later start may change sampler and pruner."""
    plan = study.plan
    return {
        **plan.config.tracking.tags,
        "role": "sweep",
        "study": plan.name,
        "data.sha256": plan.data_sha256,
        **copies_tag(plan.data_copies),
        "trial.state": TrialStatus.running.value,
        "sampler": study.settings.sampler,
        "pruner": study.settings.pruner.name,
    }


def params(study: Study) -> dict[str, Scalar]:
    """Returns what is the same at each start of a study, since MLflow's params cannot change."""
    return {
        "model.name": study.plan.config.model.name,
        "metric": study.settings.metric,
        "epochs": study.plan.max_epochs,
        "seed": study.plan.config.seed,
        "data.sha256": study.plan.data_sha256,
    }


def metrics(study: Study) -> dict[str, float]:
    """Returns the budget, the best value and the baseline's, as far as trials are complete."""
    metric = study.settings.metric
    values = {
        saved_views.BEST_VALUE_METRICS[metric]: study.best(),
        metric.replace("/", "/baseline_"): study.baseline(),
    }
    return {"n_trials": study.n_trials} | {
        key: objective_value(trial) for key, trial in values.items() if trial is not None
    }


def details(study: Study) -> dict[str, str]:
    """Returns the study's data, search space and settings, a description for each term."""
    plan = study.plan
    settings = study.settings
    digits = plan.config.data
    source = ", ".join([source_name(digits), *(f"{key}={value}" for key, value in flatten(digits))])
    warning = (
        "; they are synthetic: accuracies say nothing about SVHN"
        if source_name(digits) == "synthetic"
        else ""
    )
    baseline = plan.enqueued_trials[0]
    return {
        "digits": f"{source} (SHA-256 {plan.data_sha256[:8]}){warning}",
        "trials": f"{study.n_trials} of at most {plan.max_epochs} epochs; "
        f"sampler {settings.sampler}, pruner {settings.pruner.name}",
        "objective": f"{settings.direction} {settings.metric}, of each trial's epochs the best",
        **{
            key: plan.space.describe(key)
            + (f"; in the baseline {baseline[key]}" if key in baseline else "")
            for key in plan.space
        },
        **_timing(study),
        "written": f"{datetime.now():%Y-%m-%d %H:%M}",
    }


def _timing(study: Study) -> dict[str, str]:
    """Returns how the column `1,000 images` was measured; nothing before that."""
    processor = InferenceTimes.load(study.optuna_study).processor
    how = f"CPU time on one core of {processor}, median of several passes"
    return {"1,000 images": how} if processor else {}
