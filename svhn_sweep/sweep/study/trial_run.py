"""The MLflow run of a trial: its name, its tags and its parent run."""

import os

from svhn_sweep.data import copies_tag
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.study.study import PendingTrial
from svhn_sweep.tracking import tracking_uri
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.trial import experiment_name


def run_info(plan: Plan, pending: PendingTrial) -> RunInfo:
    """Returns what MLflow holds of a trial before it is trained."""
    number = pending.number
    role = "baseline" if plan.is_baseline(number) else plan.role
    return RunInfo(
        name=plan.run_name(number, pending.params),
        experiment=experiment_name(plan.config),
        store=tracking_uri.address(),
        tags={
            **plan.config.tracking.tags,
            **copies_tag(plan.data_copies),
            "role": role,
            "study": plan.name,
            "trial.number": number,
        },
        parent=os.path.relpath(plan.parent_run_dir, plan.trial_dir(number)),
    )
