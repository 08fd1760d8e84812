"""Selects the champion on validation, evaluates it and its baseline on test, and registers it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from optuna.trial import TrialState

from svhn_sweep.config.data_sources import source_name
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER, trial_in_sentence, trial_name
from svhn_sweep.sweep.selection.confirmation import WINNER, ConfirmationStudy
from svhn_sweep.sweep.selection.ensemble import Ensemble, find_ensemble
from svhn_sweep.sweep.selection.ensemble_run import ENSEMBLE, record_ensemble, register_ensemble
from svhn_sweep.sweep.selection.evaluation_record import evaluate_once
from svhn_sweep.sweep.selection.race import Race, VerdictOutcome
from svhn_sweep.sweep.selection.verdict import Verdict
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.workers.evaluation_requests import EvaluateRequest
from svhn_sweep.sweep.workers.protocol import Cluster
from svhn_sweep.tracking import journal, tracking_uri

BASELINE, BEST = "baseline", "best"  # the two configs that are compared


@dataclass(frozen=True)
class Candidate:
    """What a study recommends.

    Attributes:
        study: The search, which is over.
        trial_number: The trial with the best config: a confirmed one if there is any.
        verdicts: Verdicts on the confirmed configs, by number of their trial.
        runs: Folders of runs with a saved model, by config (`BASELINE`, `BEST`) and seed: of the
            seeds of the verdict, which are the same for both. Runs that the user removed are
            missing.
        race: The race of the confirmation; None without one, or with fixed seeds.
    """

    study: Study
    trial_number: int
    verdicts: Mapping[int, Verdict]
    runs: Mapping[str, Mapping[int, Path]]
    race: Race | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the best config; None if it is not confirmed."""
        return self.verdicts.get(self.trial_number)

    @property
    def recommended_config(self) -> str:
        """`BEST` if its verdict is better, else `BASELINE`."""
        verdict = self.verdict
        is_better = verdict is not None and verdict.outcome is VerdictOutcome.better
        return BEST if is_better else BASELINE

    @property
    def recommended_number(self) -> int:
        """The trial with the recommended config."""
        return BASELINE_NUMBER if self.recommended_config == BASELINE else self.trial_number

    @property
    def has_model(self) -> bool:
        """Whether a model of the recommended config is there."""
        return self.recommended_config in self.runs

    @property
    def validation_accuracy(self) -> float:
        """The recommended config's best validation accuracy in 0..1, the mean over its seeds."""
        return mean(_accuracy(run) for run in self.runs[self.recommended_config].values())

    @property
    def model_name(self) -> str:
        """The registered model's name; models trained on synthetic digits have their own."""
        from svhn_sweep.tracking.registry import MODEL, SYNTHETIC  # imports mlflow

        return SYNTHETIC if source_name(self.study.plan.config.data) == "synthetic" else MODEL

    def best_seed(self, config: str) -> int:
        """Returns the seed whose run did best on validation, among the runs of one config."""
        return max(self.runs[config], key=lambda seed: _accuracy(self.runs[config][seed]))

    def evaluate_request(
        self, config_dirs: Sequence[str], extra: Mapping[str, Path]
    ) -> EvaluateRequest:
        """Returns the request to evaluate all models of both configs on test.

        Args:
            config_dirs: The user's own config folders.
            extra: Folders of further runs with a saved model, by a name for each.

        Returns:
            The request, which names the run of each config's best seed to be plotted.
        """
        plan = self.study.plan
        best_seeds = {config: runs[self.best_seed(config)] for config, runs in self.runs.items()}
        return EvaluateRequest(
            overrides=tuple(plan.overrides({}, self.study.threads)),
            config_dirs=tuple(config_dirs),
            models={config: tuple(runs.values()) for config, runs in self.runs.items()}
            | {name: (folder,) for name, folder in extra.items()},
            plotted=best_seeds | dict(extra),
            folder=plan.parent_run_dir,
        )


@dataclass(frozen=True)
class Recommendation:
    """The candidate that did best on validation, evaluated on test.

    Attributes:
        candidate: The candidate.
        test_accuracies: Test accuracies in 0..1 by config, one for each seed, and by `ENSEMBLE`.
        test_evaluations: How often the study evaluated on test: once for each choice of models.
        registration: What MLflow's registry did with the model, as a sentence.
        champion: The champion in a few words, for example `baseline, version 1`; empty if the
            registry is unreachable.
        calibration_errors: Expected calibration errors on test in 0..1, as `test_accuracies`.
        ensemble: The ensemble of the candidate's search; None if there is none.
        ensemble_registration: What MLflow's registry did with it, as a sentence.
    """

    candidate: Candidate
    test_accuracies: Mapping[str, Sequence[float]]
    test_evaluations: int
    registration: str
    champion: str = ""
    calibration_errors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ensemble: Ensemble | None = None
    ensemble_registration: str = ""


def select_candidate(study: Study, confirmation: ConfirmationStudy | None) -> Candidate | None:
    """Selects what a study recommends.

    Args:
        study: The search, which is over.
        confirmation: The study that confirms its best config; None if there is none.

    Returns:
        The candidate; None if no trial or no baseline is complete, or neither a confirmation nor
        a saved model of the baseline exists.
    """
    best = study.best()
    baseline = study.baseline()
    if best is None or baseline is None:
        return None
    if confirmation is not None:
        number = confirmation.winner(best.number)
        candidate = Candidate(
            study,
            number,
            confirmation.verdicts(),
            _confirmation_runs(confirmation, number),
            None if confirmation.plan.rules.fixed else confirmation.race(),
        )
        if candidate.recommended_config == BEST:
            study.optuna_study.set_user_attr(WINNER, number)
        return candidate
    run = study.plan.trial_dir(baseline.number)
    if not _has_model(run):
        return None
    return Candidate(study, best.number, {}, {BASELINE: {study.plan.config.seed: run}})


def recommend(
    candidates: Sequence[Candidate | None], cluster: Cluster, config_dirs: Sequence[str]
) -> Recommendation | None:
    """Chooses among the studies on validation, then evaluates on test and registers the model.

    Args:
        candidates: One for each study, or None.
        cluster: Evaluates the models.
        config_dirs: The user's own config folders.

    Returns:
        The recommendation; None if no candidate has a model of its recommended config.

    Raises:
        SweepError: The models could not be evaluated.
    """
    with_model = [candidate for candidate in candidates if candidate and candidate.has_model]
    if not with_model:
        return None
    champion = max(with_model, key=lambda candidate: candidate.validation_accuracy)
    ensemble = find_ensemble(champion.study, cluster, config_dirs)
    extra = (
        {ENSEMBLE: ensemble.folder} if ensemble is not None and ensemble.has_several_members else {}
    )
    request = champion.evaluate_request(config_dirs, extra)
    accuracies, errors, n_evaluations = evaluate_once(champion.study, request, cluster)
    test_accuracy = mean(accuracies[champion.recommended_config])
    registration, champion_name = _register(champion, test_accuracy)
    ensemble_registration = ""
    if ensemble is not None and ensemble.has_several_members:
        (accuracy,) = accuracies[ENSEMBLE]
        record_ensemble(ensemble, accuracy, *errors[ENSEMBLE])
        ensemble_registration = register_ensemble(ensemble, accuracy)
    return Recommendation(
        candidate=champion,
        test_accuracies=accuracies,
        test_evaluations=n_evaluations,
        registration=registration,
        champion=champion_name,
        calibration_errors=errors,
        ensemble=ensemble,
        ensemble_registration=ensemble_registration,
    )


def _confirmation_runs(confirmation: ConfirmationStudy, number: int) -> dict[str, dict[int, Path]]:
    """Returns the runs with a model of a trial of the search and of the baseline, on its seeds."""
    configs = {BASELINE_NUMBER: BASELINE, number: BEST}
    seeds = confirmation.counted_seeds(number)
    runs: dict[str, dict[int, Path]] = {}
    complete = [t for t in confirmation.trials() if t.state == TrialState.COMPLETE]
    for trial in complete:
        config = configs.get(trial.params["trial"])
        seed = trial.params["seed"]
        run = confirmation.plan.trial_dir(trial.number)
        if config is not None and seed in seeds and _has_model(run):
            runs.setdefault(config, {})[seed] = run
    return runs


def _register(champion: Candidate, test_accuracy: float) -> tuple[str, str]:
    """Registers the weights of the champion's best seed.

    Args:
        champion: The candidate whose recommended config is registered.
        test_accuracy: That config's test accuracy in 0..1, the mean over its seeds.

    Returns:
        What was done as a sentence, and the champion in a few words.
    """
    from svhn_sweep.tracking.registry import register  # imports mlflow

    name = champion.model_name
    config = champion.recommended_config
    runs = champion.runs[config]
    seed = champion.best_seed(config)
    tags = {
        "data.sha256": champion.study.plan.data_sha256,
        "study": champion.study.plan.name,
        "config": config,
        "seed": str(seed),
        "seeds": str(len(runs)),
        "test": str(test_accuracy),
    }
    description = _describe(champion, test_accuracy)
    try:
        registered = register(name, runs[seed], champion.validation_accuracy, tags, description)
    except Exception as error:  # noqa: BLE001  # MLflow is unreachable; the sweep's result stands
        reason = tracking_uri.reason(error)
        return f"the model {name} is not registered: {reason}; the same command tries again", ""
    holder = "stays" if registered.rival else f"{trial_name(champion.recommended_number)},"
    return (
        registered.sentence(f"the weights of seed {seed}"),
        f"{holder} version {registered.version}",
    )


def _describe(champion: Candidate, test_accuracy: float) -> str:
    """Returns the description of the champion's version in MLflow's registry."""
    config = champion.recommended_config
    plan = champion.study.plan
    trial = trial_in_sentence(champion.recommended_number)
    seeds = len(champion.runs[config])
    means = f", means over {seeds} seeds" if seeds > 1 else ""
    return (
        f"{plan.config.model.name}: {trial} of the study {plan.name}. Accuracy "
        f"{champion.validation_accuracy:.2%} on validation, {test_accuracy:.2%} on test{means}; "
        f"the weights are those of seed {champion.best_seed(config)}, best on validation."
    )


def _has_model(run: Path) -> bool:
    return (run / "model").exists()


def _accuracy(run: Path) -> float:
    return journal.history(run)[0]["val/best_accuracy"]
