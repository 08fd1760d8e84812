"""Selects an ensemble of a search's models on half of validation and judges it on the other."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist

from svhn_sweep.console import print_text
from svhn_sweep.sweep.selection.race import VerdictOutcome, outcome_of
from svhn_sweep.sweep.selection.repeated_intervals import ERROR, Interval
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.workers.evaluation_requests import (
    EnsembleRequest,
    EnsembleResult,
    ensemble_folder,
)
from svhn_sweep.sweep.workers.protocol import Cluster

MAX_CANDIDATES = 50  # best first; each takes seconds to load and to predict
ATTRIBUTE = "ensembles"  # of the study: results by what they were selected from
PSEUDO_COUNT = 0.5  # added to each cell of the 2x2 table of paired predictions


@dataclass(frozen=True)
class Ensemble:
    """An ensemble, compared with the search's best trial on the half that did not select it.

    Attributes:
        study: The search whose trials are its members.
        result: Its members and their scores.
    """

    study: Study
    result: EnsembleResult

    @property
    def folder(self) -> Path:
        """The folder of its run and its model."""
        return self.study.plan.folder / "ensemble" / ensemble_folder(self.result.members)

    @property
    def has_several_members(self) -> bool:
        """Whether it has two members or more; one trial's model is no ensemble."""
        return len(self.result.members) > 1

    @property
    def members(self) -> str:
        """Its members in words, for example `trials 7, 12 (twice), 31`."""
        parts = [f"{trial}{_times(count)}" for trial, count in sorted(self.result.members.items())]
        return f"trial{'s' if self.has_several_members else ''} {', '.join(parts)}"

    @property
    def difference(self) -> float:
        """The ensemble's accuracy minus the best trial's."""
        return (self.result.ensemble_only - self.result.best_only) / self.result.images

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the difference over images.

        With b images that only the ensemble predicts correctly and c that only the best trial
        does, it is the Wald interval of paired proportions after adding 1/2 to each of the four
        cells (Agresti and Min, Simple improved confidence intervals for comparing matched
        proportions, 2005): d +- z sqrt(b + c + 1 - n d^2) / n, where d = (b - c) / n and n is the
        number of images plus 2.
        """
        n = self.result.images + 4 * PSEUDO_COUNT
        gained = self.result.ensemble_only
        lost = self.result.best_only
        center = (gained - lost) / n
        error = (gained + lost + 2 * PSEUDO_COUNT - n * center**2) ** 0.5 / n
        half = NormalDist().inv_cdf(1 - ERROR / 2) * error
        return Interval(self.result.images, self.difference, center - half, center + half)

    @property
    def outcome(self) -> VerdictOutcome:
        """What the interval says, by the rules of the confirmation.

        Their margin counts if the search optimizes the accuracy.
        """
        settings = self.study.settings
        confirm = settings.confirm
        margin = confirm.margin if confirm is not None and settings.maximize else 0.0
        return outcome_of(self.interval, margin, maximize=True)


def find_ensemble(study: Study, cluster: Cluster, config_dirs: Sequence[str]) -> Ensemble | None:
    """Selects an ensemble of a search's models, unless that was done before.

    Args:
        study: The search, which is over.
        cluster: Selects and judges.
        config_dirs: The user's own config folders.

    Returns:
        None if the settings want none, fewer than two complete trials have a model, or the best
            one has none.

    Raises:
        SweepError: It could not be selected.
    """
    limit = study.settings.ensemble
    if limit is None:
        return None
    complete = study.ranked()[:MAX_CANDIDATES]
    key = f"at most {limit} of {' '.join(str(trial.number) for trial in complete)}"
    results = study.optuna_study.user_attrs.get(ATTRIBUTE, {})
    if key in results:
        recorded = Ensemble(study, _from_json(EnsembleResult(**results[key])))
        if not recorded.has_several_members or (recorded.folder / "model").exists():
            return recorded
    runs = {trial.number: study.plan.trial_dir(trial.number) for trial in complete}
    candidates = {number: run for number, run in runs.items() if (run / "model").exists()}
    if len(candidates) < 2:
        print_text(f"{study.plan.name}: no ensemble, fewer than two complete trials have models")
        return None
    if complete[0].number not in candidates:
        print_text(f"{study.plan.name}: no ensemble, the best trial's model is missing")
        return None
    print_text(f"{study.plan.name}: selecting an ensemble of {len(candidates)} trials' models")
    result = cluster.evaluate(_request(study, candidates, limit, config_dirs))
    study.optuna_study.set_user_attr(ATTRIBUTE, results | {key: asdict(result)})
    return Ensemble(study, result)


def _request(
    study: Study, candidates: dict[int, Path], limit: int, config_dirs: Sequence[str]
) -> EnsembleRequest:
    return EnsembleRequest(
        overrides=tuple(study.plan.overrides({}, study.threads)),
        config_dirs=tuple(config_dirs),
        candidates=candidates,
        limit=limit,
        seed=study.plan.config.seed,
        folder=study.plan.folder / "ensemble",
    )


def _from_json(result: EnsembleResult) -> EnsembleResult:
    """Restores the trials' numbers, which JSON stores as strings."""
    return replace(result, members={int(trial): n for trial, n in result.members.items()})


def _times(count: int) -> str:
    if count == 1:
        return ""
    return " (twice)" if count == 2 else f" ({count} times)"
