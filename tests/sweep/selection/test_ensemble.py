"""Selecting an ensemble of a search: from which trials, how often, its verdict and its run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from fake_cluster import FakeCluster
from studies import Studies, sweeper, train

from svhn_sweep.sweep.plan.settings import ConfirmConfig
from svhn_sweep.sweep.selection.champion import Recommendation, recommend, select_candidate
from svhn_sweep.sweep.selection.ensemble import Ensemble, find_ensemble
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.workers.evaluation_requests import (
    EnsembleRequest,
    EnsembleResult,
    EvaluateRequest,
    EvaluateResult,
    ModelsRequest,
    Result,
    ensemble_folder,
)
from svhn_sweep.tracking import journal, registry
from svhn_sweep.tracking.journal import Journal

MODEL = Path("model")


@dataclass
class EvaluatingCluster(FakeCluster):
    """A cluster that selects the given members and evaluates every model alike.

    Attributes:
        members: How often each trial counts.
        gained: How many of 100 images only the ensemble predicts correctly.
        selections: The requests to select.
        evaluations: The requests to evaluate on test.
    """

    members: dict[int, int] = field(default_factory=dict)
    gained: int = 0
    selections: list[EnsembleRequest] = field(default_factory=list)
    evaluations: list[EvaluateRequest] = field(default_factory=list)

    def evaluate(self, request: ModelsRequest[Result]) -> Result:
        if isinstance(request, EnsembleRequest):
            return cast(Result, self.select(request))
        assert isinstance(request, EvaluateRequest)
        return cast(Result, self.evaluate_on_test(request))

    def select(self, request: EnsembleRequest) -> EnsembleResult:
        self.selections.append(request)
        if len(self.members) > 1:
            reports = request.folder / ensemble_folder(self.members) / "confusion_matrix"
            reports.mkdir(parents=True, exist_ok=True)
            (reports / "validation.png").touch()
            (reports.parent / MODEL).mkdir(exist_ok=True)
        return result(next(iter(request.candidates)), self.members, self.gained)

    def evaluate_on_test(self, request: EvaluateRequest) -> EvaluateResult:
        self.evaluations.append(request)
        for name in request.models:
            matrices = request.folder / "test" / name / "confusion_matrix"
            matrices.mkdir(parents=True, exist_ok=True)
            (matrices / "test.png").touch()
        scores = {name: [0.5 for _ in runs] for name, runs in request.models.items()}
        return EvaluateResult(scores, scores)


def result(
    best: int, members: dict[int, int], gained: int, lost: int = 0, images: int = 100
) -> EnsembleResult:
    accuracy = 0.5 + (gained - lost) / images
    return EnsembleResult(best, members, 1234, images, accuracy, 0.5, gained, lost, 0.4, 0.1)


def cluster(members: dict[int, int], gained: int = 20) -> EvaluatingCluster:
    return EvaluatingCluster({}, {}, members=members, gained=gained)


def searched(studies: Studies, *values: float | None, limit: int | None = 5) -> Study:
    """A search whose trials have these values and a model; None is a trial that failed."""
    confirm = ConfirmConfig(candidates=3, max_seeds=16, margin=0.005, seeds=2)
    study = studies.open(settings=replace(sweeper(), confirm=confirm, ensemble=limit))
    extend(study, *values)
    return study


def extend(study: Study, *values: float | None) -> None:
    for value in values:
        trial = train(study, value or 0.0, state="complete" if value else "failed")
        run = study.plan.trial_dir(trial.number)
        with Journal(run) as trial_journal:
            trial_journal.log_metrics({"val/best_accuracy": value or 0.0})
        (run / MODEL).mkdir()


def test_candidates_are_the_complete_trials_with_models_best_first(studies: Studies) -> None:
    study = searched(studies, 0.5, 0.8, None, 0.7, 0.6)
    shutil.rmtree(study.plan.trial_dir(4) / MODEL)
    selecting = cluster({1: 1, 3: 2})
    ensemble = find_ensemble(study, selecting, ["/configs"])
    assert ensemble is not None
    (request,) = selecting.selections
    assert list(request.candidates) == [1, 3, 0]
    assert (request.limit, request.seed, request.config_dirs) == (5, 42, ("/configs",))
    assert (ensemble.result.best, ensemble.members) == (1, "trials 1, 3 (twice)")
    assert ensemble.folder == study.plan.folder / "ensemble" / "1-3x2"


@pytest.mark.parametrize(
    ("limit", "removed", "message"),
    [
        (None, (), ""),
        (5, (1,), "study: no ensemble, fewer than two complete trials have models\n"),
        (5, (0, 1), "study: no ensemble, fewer than two complete trials have models\n"),
    ],
)
def test_no_ensemble_is_selected(
    studies: Studies,
    capsys: pytest.CaptureFixture[str],
    limit: int | None,
    removed: tuple[int, ...],
    message: str,
) -> None:
    study = searched(studies, 0.5, 0.6, limit=limit)
    for number in removed:
        shutil.rmtree(study.plan.trial_dir(number))
    selecting = cluster({0: 1, 1: 1})
    assert find_ensemble(study, selecting, []) is None
    assert selecting.selections == []
    assert capsys.readouterr().out == message


def test_no_ensemble_is_compared_with_a_trial_that_is_not_the_best(
    studies: Studies, capsys: pytest.CaptureFixture[str]
) -> None:
    study = searched(studies, 0.5, 0.8, 0.7)
    shutil.rmtree(study.plan.trial_dir(1) / MODEL)
    selecting = cluster({0: 1, 2: 1})
    assert find_ensemble(study, selecting, []) is None
    assert selecting.selections == []
    assert capsys.readouterr().out == "study: no ensemble, the best trial's model is missing\n"


def remove_a_trial(study: Study) -> None:
    shutil.rmtree(study.plan.trial_dir(1))


def remove_the_ensemble(study: Study) -> None:
    shutil.rmtree(study.plan.folder / "ensemble")


def add_a_trial(study: Study) -> None:
    extend(study, 0.7)


def add_a_failed_trial(study: Study) -> None:
    extend(study, None)


@pytest.mark.parametrize(
    ("change", "selections"),
    [
        (lambda study: None, 1),
        (remove_a_trial, 1),  # to free disk space
        (add_a_failed_trial, 1),
        (remove_the_ensemble, 2),
        (add_a_trial, 2),
    ],
)
def test_an_ensemble_is_selected_again_if_the_trials_changed(
    studies: Studies, change: Callable[[Study], None], selections: int
) -> None:
    selecting = cluster({0: 1, 1: 1})
    study = searched(studies, 0.5, 0.6)
    first = find_ensemble(study, selecting, [])
    change(study)
    selecting.members = {0: 2, 1: 1}
    second = find_ensemble(study, selecting, [])
    assert len(selecting.selections) == selections
    assert (first == second) == (selections == 1)


@pytest.mark.parametrize(
    ("gained", "lost", "images", "interval", "outcome"),
    [
        # Agresti and Min's formula by hand: n = 102, d = 20 / 102, sqrt(21 - 20**2 / 102) / 102
        (20, 0, 100, (0.1167, 0.2755), "better"),
        (0, 20, 100, (-0.2755, -0.1167), "worse"),
        (5, 5, 100, (-0.0637, 0.0637), "undecided"),
        (0, 0, 100, (-0.0192, 0.0192), "undecided"),
        (150, 100, 4200, (0.0045, 0.0193), "better"),
        (120, 100, 4200, (-0.0022, 0.0117), "undecided"),
        (10, 9, 4200, (-0.0018, 0.0023), "equivalent"),  # within the margin of 0.005
    ],
)
def test_the_verdict_follows_from_the_interval_over_images(
    studies: Studies,
    gained: int,
    lost: int,
    images: int,
    interval: tuple[float, float],
    outcome: str,
) -> None:
    judged = Ensemble(searched(studies, 0.5), result(0, {0: 1, 1: 1}, gained, lost, images))
    assert (judged.interval.low, judged.interval.high) == pytest.approx(interval, abs=1e-4)
    assert judged.outcome == outcome
    assert judged.difference == pytest.approx((gained - lost) / images)


def recommended(study: Study, evaluating: EvaluatingCluster) -> Recommendation:
    recommendation = recommend([select_candidate(study, None)], evaluating, [])
    assert recommendation is not None
    return recommendation


def registrations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """Names and folders of the models that are registered from now on."""
    registered: list[tuple[str, Path]] = []

    def register(name: str, folder: Path, *arguments: object) -> registry.Registered:
        registered.append((name, folder))
        return registry.Registered(name, "3", is_new=True)

    monkeypatch.setattr(registry, "register", register)
    return registered


@pytest.mark.parametrize(
    ("gained", "sentence"),
    [
        (
            20,
            "registered as svhn-digits-ensemble version 3, alias champion; to use the ensemble: "
            "`python -m svhn_sweep predict --model models:/svhn-digits-ensemble@champion IMAGE`",
        ),
        (1, "not registered"),
    ],
)
def test_a_better_ensemble_is_registered(
    studies: Studies, monkeypatch: pytest.MonkeyPatch, gained: int, sentence: str
) -> None:
    study = searched(studies, 0.6, 0.5)
    registered = registrations(monkeypatch)
    recommendation = recommended(study, cluster({0: 1, 1: 2}, gained))
    assert recommendation.ensemble_registration == sentence
    assert recommendation.test_accuracies == {"baseline": [0.5], "ensemble": [0.5]}
    names = ["svhn-digits", *(["svhn-digits-ensemble"] if gained == 20 else [])]
    assert [name for name, _ in registered] == names


def test_an_ensemble_is_a_run_nested_in_the_studys(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(studies, 0.6, 0.5)
    registrations(monkeypatch)
    ensemble = recommended(study, cluster({0: 1, 1: 2})).ensemble
    assert ensemble is not None
    folder = ensemble.folder
    events = [event for event, _ in journal.read(folder)]
    assert (folder / events[0]["parent"]).resolve() == study.plan.folder
    assert events[0]["name"] == "model1 · ensemble"
    (tags,) = [event["values"] for event in events if event["kind"] == "tags"]
    assert {"role": "ensemble", "study": "study", "team": "vision"}.items() <= tags.items()
    params = journal.params(folder)
    assert (params["members"], params["counts"], params["parameters"]) == ("0, 1", "1, 2", 1234)
    metrics = journal.history(folder)[0]
    assert metrics["ensemble/accuracy"] == pytest.approx(0.7)
    assert metrics["test/accuracy"] == metrics["test/calibration_error"] == 0.5
    artifacts = [event["path"] for event in events if event["kind"] == "artifact"]
    assert artifacts == ["confusion_matrix/test.png", "confusion_matrix/validation.png"]
    (description,) = [event["text"] for event in events if event["kind"] == "description"]
    assert "| 1 | 2 |" in description
    assert events[-1]["status"] == "FINISHED"


def test_the_same_sweep_reads_test_once_and_records_one_run(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(studies, 0.6, 0.5)
    registrations(monkeypatch)
    evaluating = cluster({0: 1, 1: 2})
    first = recommended(study, evaluating)
    run = study.plan.folder / "ensemble" / "0-1x2" / journal.JOURNAL
    written = run.read_text()
    second = recommended(study, evaluating)
    assert (len(evaluating.selections), len(evaluating.evaluations)) == (1, 1)
    assert set(evaluating.evaluations[0].models) == {"baseline", "ensemble"}
    assert second == first
    assert run.read_text() == written
    assert all(json.loads(line) for line in written.splitlines())


def test_the_run_of_an_ensemble_has_its_newest_scores(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(studies, 0.6, 0.5)
    registrations(monkeypatch)
    recommended(study, cluster({0: 1, 1: 2}, gained=20))
    extend(study, 0.55)
    ensemble = recommended(study, cluster({0: 1, 1: 2}, gained=10)).ensemble
    assert ensemble is not None
    metrics = journal.history(ensemble.folder)[0]
    assert metrics["ensemble/difference"] == pytest.approx(0.1)
    assert (journal.end_tags(ensemble.folder) or {})["trial.state"] == "complete"


def test_one_trials_model_alone_is_neither_tested_nor_recorded(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(studies, 0.6, 0.5)
    registered = registrations(monkeypatch)
    evaluating = cluster({1: 1})
    recommendation = recommended(study, evaluating)
    assert set(evaluating.evaluations[0].models) == {"baseline"}
    assert [name for name, _ in registered] == ["svhn-digits"]
    assert recommendation.ensemble_registration == ""
    assert not (study.plan.folder / "ensemble").exists()
