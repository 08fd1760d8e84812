"""The end of a sweep: is what it found real, which model is recommended, and the report."""

import logging
from collections.abc import Mapping, Sequence

from svhn_sweep.errors import SweepError
from svhn_sweep.run_header import console
from svhn_sweep.sweep.context import SweepContext, watch
from svhn_sweep.sweep.report import summary
from svhn_sweep.sweep.selection import confirmation
from svhn_sweep.sweep.selection.champion import Candidate, Recommendation, candidate, recommend
from svhn_sweep.sweep.selection.confusion_differences import confusions
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal import plan_tables
from svhn_sweep.tracking import tracking_uri

logger = logging.getLogger(__name__)

Confirmations = Mapping[
    str, Study
]  # by the name of the study whose best config has something to prove


def finalize(context: SweepContext) -> None:
    """Confirm, recommend and report.

    Raises:
        SweepError: the models could not be evaluated.
    """
    confirmations = _confirm(context)
    candidates = [candidate(study, confirmations.get(study.plan.name)) for study in context.studies]
    scheduler = context.scheduler
    recommended = None
    try:
        if context.settings.confirm is not None:
            recommended = recommend(candidates, scheduler.cluster, scheduler.config_dirs)
    except SweepError:
        report(context, candidates, None, confirmations)
        summary.show_table(context.studies, candidates)
        raise
    told = report(context, candidates, recommended, confirmations)
    summary.show_table(context.studies, candidates)
    summary.show_lines(context.studies, told)


def report(
    context: SweepContext,
    candidates: Sequence[Candidate | None],
    recommended: Recommendation | None,
    confirmations: Confirmations,
    *,
    so_far: bool = False,
) -> list[list[str]]:
    """Files and figures of each study; one that cannot be drawn does not take the sweep's result
    away.

    `so_far`: more is to come, and the report of an earlier start, which has a verdict perhaps,
    stays until then. Returns what was found in each, in sentences.
    """
    told = []
    for parent, each in zip(context.parents, candidates, strict=True):
        study = parent.study
        both = confusions(study, each)
        told.append(summary.lines(study, each, recommended, both))
        if so_far and parent.has_verdict():
            continue
        try:
            best = study.best()
            number = each.number if each is not None else best.number if best is not None else None
            numbers = summary.numbers(each, recommended)
            parent.report(told[-1], numbers, number, both, _count(study, confirmations))
        except Exception as error:
            logger.exception("no report")
            console.print(f"{study.plan.name}: no report: {tracking_uri.reason(error)}")
    return told


def report_so_far(context: SweepContext) -> list[list[str]]:
    """The report on what the search has found, while the rest is to come."""
    return report(context, [None for _ in context.studies], None, {}, so_far=True)


def _confirm(context: SweepContext) -> Confirmations:
    """Train the best config and its baseline on fresh seeds, in each study where there is
    something to prove.
    """
    confirmations: dict[str, Study] = {}
    for study in context.studies if context.settings.confirm is not None else []:
        assert context.settings.confirm is not None
        plan = confirmation.plan(study, context.settings.confirm.seeds)
        if plan is not None:
            confirmations[study.plan.name] = Study(
                plan, context.settings, context.storage, study.threads, prune=False
            )
        workers = len(context.scheduler.slots.open())
        plan_tables.confirmation(study, confirmations.get(study.plan.name), workers)
    watch(context.scheduler.uploader, list(confirmations.values()))
    if not all(each.is_over() for each in confirmations.values()):
        report_so_far(context)  # what is known, whatever becomes of the rest
        context.run_until_done(list(confirmations.values()))
    return confirmations


def _count(study: Study, confirmations: Confirmations) -> int:
    """The trials that are behind a study's report."""
    confirming = confirmations.get(study.plan.name)
    return len(study.finished()) + (len(confirming.finished()) if confirming else 0)
