"""Finalizes a sweep: confirms the best configs, recommends a model and writes the reports."""

import logging
from dataclasses import dataclass

from svhn_sweep.console import print_text
from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.context import SweepContext, watch_trials
from svhn_sweep.sweep.report import summary
from svhn_sweep.sweep.report.front_times import time_front
from svhn_sweep.sweep.report.study_run import StudyRun
from svhn_sweep.sweep.report.summary import Summary
from svhn_sweep.sweep.selection.champion import (
    Candidate,
    Recommendation,
    recommend,
    select_candidate,
)
from svhn_sweep.sweep.selection.confirmation import ConfirmationStudy, plan_confirmation
from svhn_sweep.sweep.selection.confusion_differences import load_confusion_matrices
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal import race_messages
from svhn_sweep.sweep.terminal.race_messages import RaceMessages
from svhn_sweep.sweep.terminal.results import print_summaries, print_table
from svhn_sweep.tracking import tracking_uri

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyResult:
    """The result of one study's search and confirmation.

    Attributes:
        study_run: The search and its MLflow run.
        confirmation: The study that confirms the best config; None if there is none.
        candidate: What the study recommends; None if that is nothing, or not selected yet.
    """

    study_run: StudyRun
    confirmation: ConfirmationStudy | None = None
    candidate: Candidate | None = None

    @property
    def best_number(self) -> int | None:
        """The number of the trial with the best config; None if no trial is complete."""
        if self.candidate is not None:
            return self.candidate.trial_number
        best = self.study_run.study.best()
        return best.number if best is not None else None

    def recommended_number(self, recommendation: Recommendation | None) -> int | None:
        """The trial whose config the sweep recommends; None if that is not one of this study."""
        if recommendation is None or recommendation.candidate is not self.candidate:
            return None
        return recommendation.candidate.recommended_number

    @property
    def finished_count(self) -> int:
        """The number of finished trials of search and confirmation."""
        confirming = self.confirmation.finished() if self.confirmation is not None else []
        return len(self.study_run.study.finished()) + len(confirming)


def finalize(context: SweepContext) -> None:
    """Confirms the best configs, recommends a model, writes the reports and prints the summary.

    Args:
        context: Its searches are over.

    Raises:
        SweepError: Too many trials failed in a row, the models could not be evaluated, or no trial
            is complete.
    """
    results = [
        StudyResult(run, confirming, select_candidate(run.study, confirming))
        for run, confirming in zip(context.study_runs, _confirm(context), strict=True)
    ]
    candidates = [result.candidate for result in results]
    scheduler = context.scheduler
    for study in context.studies:
        time_front(study, scheduler.pool.cluster, tuple(scheduler.config_dirs))
    recommendation = None
    try:
        if context.settings.confirm is not None:
            recommendation = recommend(candidates, scheduler.pool.cluster, scheduler.config_dirs)
        elif context.settings.ensemble is not None:
            print_text("no ensemble: hydra.sweeper.confirm=null leaves out the test evaluation")
    except SweepError:
        for result in results:
            _report(result, None)
        print_table(context.studies, candidates)
        raise
    if recommendation is not None and recommendation.ensemble is not None:
        scheduler.uploader.watch(recommendation.ensemble.folder)
    summaries = [_report(result, recommendation) for result in results]
    print_table(context.studies, candidates)
    print_summaries(context.studies, summaries)
    if all(study.best() is None for study in context.studies):
        raise SweepError(_failure(context.studies[-1]))


def report_search(context: SweepContext) -> list[Summary]:
    """Reports on searches that are not confirmed yet, or not over.

    A report of an earlier start that has a verdict is kept.

    Returns:
        What is printed about each study.
    """
    return [
        _report(StudyResult(run), None, write=not run.has_verdict()) for run in context.study_runs
    ]


def _failure(study: Study) -> str:
    """Says that no trial is complete, with the last one of a study as the example."""
    last = study.finished()[-1]
    reason = last.user_attrs["reason"]
    return (
        f"no trial of the sweep is complete: trial {last.number} of {study.plan.name} "
        f"{last.user_attrs['state']}{f', {reason}' if reason else ''}."
    )


def _confirm(context: SweepContext) -> list[ConfirmationStudy | None]:
    """Races best configs and baselines on fresh seeds; returns each study's confirmation."""
    confirmations = [_open_confirmation(context, study) for study in context.studies]
    opened = [study for study in confirmations if study is not None]
    watch_trials(context.scheduler.uploader, opened)
    if not all(study.is_finished() for study in opened):
        report_search(context)  # in case the confirmation is interrupted
        context.run_until_done(opened, message_after=RaceMessages())
    return confirmations


def _open_confirmation(context: SweepContext, study: Study) -> ConfirmationStudy | None:
    if context.settings.confirm is None:
        return None
    plan = plan_confirmation(study, context.settings.confirm)
    confirming = (
        ConfirmationStudy(plan, context.settings, context.storage, study.threads)
        if plan is not None
        else None
    )
    race_messages.print_confirmation(study, confirming, context.worker_count)
    return confirming


def _report(
    result: StudyResult, recommendation: Recommendation | None, *, write: bool = True
) -> Summary:
    """Writes a study's report; returns what is printed about it even if that fails."""
    run = result.study_run
    recommended = result.recommended_number(recommendation)
    printed = Summary(
        summary.headline(run.study, result.candidate, recommendation),
        summary.summary_lines(run.study, result.candidate, recommendation),
        run.commands(result.best_number, recommended),
    )
    if not write:
        return printed
    matrices = load_confusion_matrices(run.study, result.candidate)
    try:
        numbers = summary.study_metrics(result.candidate, recommendation)
        run.write_report(
            [printed.headline, *printed.lines, *summary.confusion_lines(matrices)],
            numbers,
            result.best_number,
            matrices,
            result.finished_count,
            result.candidate.race if result.candidate is not None else None,
            recommended,
        )
    except Exception as error:
        logger.exception("no report")
        print_text(f"{run.study.plan.name}: no report: {tracking_uri.reason(error)}")
    return printed
