"""The end of a sweep: is what it found real, which model is recommended, and the report."""

import logging
from collections.abc import Mapping, Sequence

from svhn_sweep.errors import SweepError
from svhn_sweep.report import console
from svhn_sweep.sweep import announcement, conclusion, confirmation, storage
from svhn_sweep.sweep.champion import Candidate, Recommendation, candidate, recommend
from svhn_sweep.sweep.confusions import confusions
from svhn_sweep.sweep.gathering import gather, settle
from svhn_sweep.sweep.study import Study
from svhn_sweep.sweep.work import Work, follow, open_study
from svhn_sweep.tracking import store
from svhn_sweep.tracking.live import Live

CONCLUDED = "concluded"  # a study's attribute: what its last report is of, what it says, who wrote it

logger = logging.getLogger(__name__)

Confirmations = Mapping[str, Study]  # by the name of the study whose best config has something to prove


def conclude(work: Work) -> None:
    """Confirm, recommend and report; where several drivers do, each of them confirms and one does the rest.

    Raises:
        SweepError: the models could not be judged.
    """
    confirmations = _confirm(work)
    names = [study.plan.name for study in work.studies]
    with storage.exclusive(work.kept, f"conclude {' '.join(names)}"):
        wanted = [[_count(study, confirmations), work.settings.confirm is not None] for study in work.studies]
        known = [study.optuna.user_attrs.get(CONCLUDED, {}) for study in work.studies]
        if work.claims is not None and [each.get("of") for each in known] == wanted:
            console.print(f"{known[0]['by']} has written the report")
            told = [each["told"] for each in known]
        else:
            told, done = _recommend_and_report(work, confirmations)
            by = work.claims.owner if work.claims is not None else ""
            for study, of, lines in zip(work.studies, wanted, told, strict=True) if done else ():
                study.optuna.set_user_attr(CONCLUDED, {"of": of, "told": lines, "by": by})
    conclusion.show_lines(work.studies, told)


def report(
    work: Work,
    candidates: Sequence[Candidate | None],
    recommended: Recommendation | None,
    confirmations: Confirmations,
    *,
    so_far: bool = False,
) -> list[list[str]]:
    """Files and figures of each study; one that cannot be drawn does not take the sweep's result away.

    `so_far`: more is to come, and the report of an earlier start, which has a verdict perhaps, stays until then.
    Returns what was found in each, in sentences.
    """
    told = []
    for parent, each in zip(work.parents, candidates, strict=True):
        study = parent.study
        both = confusions(study, each)
        told.append(conclusion.lines(study, each, recommended, both))
        if so_far and parent.has_verdict():
            continue
        try:
            best = study.best()
            number = each.number if each is not None else best.number if best is not None else None
            numbers = conclusion.numbers(each, recommended)
            parent.report(told[-1], numbers, number, both, _count(study, confirmations))
        except Exception as error:
            logger.exception("no report")
            console.print(f"{study.plan.name}: no report: {store.reason(error)}")
    return told


def report_so_far(work: Work) -> list[list[str]]:
    """The report on what the search has found, while the rest is to come."""
    return report(work, [None for _ in work.studies], None, {}, so_far=True)


def _confirm(work: Work) -> Confirmations:
    """Train the best config and its baseline on fresh seeds, in each study where there is something to prove."""
    confirmations: dict[str, Study] = {}
    for study in work.studies if work.settings.confirm is not None else []:
        assert work.settings.confirm is not None
        plan = confirmation.plan(study, work.settings.confirm.seeds)
        if plan is not None:
            confirming = open_study(plan, work.settings, work.kept, study.threads, work.claims, prune=False)
            confirmations[study.plan.name] = confirming
        announcement.confirmation(study, confirmations.get(study.plan.name), len(work.driver.open))
    follow(work.driver.live, list(confirmations.values()))
    if not all(each.is_over() for each in confirmations.values()):
        report_so_far(work)  # what is known, whatever becomes of the rest
        work.off(list(confirmations.values()))
    return confirmations


def _recommend_and_report(work: Work, confirmations: Confirmations) -> tuple[list[list[str]], bool]:
    """What was found in each study, in sentences, and whether there is nothing to be tried again."""
    if work.claims is not None:
        for study in work.studies:
            gather(study, confirmations.get(study.plan.name))
        _settle([*work.studies, *confirmations.values()], work.driver.live)
    candidates = [candidate(study, confirmations.get(study.plan.name)) for study in work.studies]
    try:
        recommended = recommend(candidates, work.driver) if work.settings.confirm is not None else None
    except SweepError:
        report(work, candidates, None, confirmations)
        conclusion.show_table(work.studies, candidates)
        raise
    told = report(work, candidates, recommended, confirmations)
    conclusion.show_table(work.studies, candidates)
    return told, recommended is None or recommended.registered


def _settle(studies: Sequence[Study], live: Live) -> None:
    try:
        for study in studies:
            settle(study, live)
    except Exception:  # MLflow is out of reach; what was found stands
        logger.exception("runs of lost hosts are left as they are in MLflow")


def _count(study: Study, confirmations: Confirmations) -> int:
    """The trials that are behind a study's report."""
    confirming = confirmations.get(study.plan.name)
    return len(study.finished()) + (len(confirming.finished()) if confirming else 0)
