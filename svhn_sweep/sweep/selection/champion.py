"""What the sweep recommends: chosen on validation, then judged on test, side by side with its
baseline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from optuna.trial import TrialState

from svhn_sweep.config.schema import source_of
from svhn_sweep.run_header import console
from svhn_sweep.sweep.selection.confirmation import Verdict, proven, verdicts
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.workers.protocol import Cluster, EvaluateRequest
from svhn_sweep.tracking import journal, tracking_uri

BASELINE, BEST = "baseline", "best"  # the arms
TEST = "test"  # the study's attribute: test accuracies that were read already


@dataclass(frozen=True)
class Candidate:
    """A study's recommendation.

    Attributes:
        study: whose search is over.
        number: of the trial that is its best config, as far as was confirmed.
        verdicts: on each config that was confirmed, by its trial.
        runs: the folders of the trained models, by arm and seed; without those that were removed.
    """

    study: Study
    number: int
    verdicts: Mapping[int, Verdict]
    runs: Mapping[str, Mapping[int, Path]]

    @property
    def verdict(self) -> Verdict | None:
        """On its best config; None if that was not confirmed."""
        return self.verdicts.get(self.number)

    @property
    def arm(self) -> str:
        """The best config if it is better, else the baseline."""
        return BEST if self.verdict is not None and self.verdict.word == "better" else BASELINE

    @property
    def validation(self) -> float:
        """The mean over seeds of the arm's best validation accuracy, 0..1."""
        return mean(_accuracy(folder) for folder in self.runs[self.arm].values())

    @property
    def name(self) -> str:
        """Of the registered model; one that learnt from drawn digits has its own."""
        from svhn_sweep.tracking.registry import MODEL, SYNTHETIC  # imports mlflow

        return SYNTHETIC if source_of(self.study.plan.config.data) == "synthetic" else MODEL

    def seed(self, arm: str) -> int:
        """The seed whose run of an arm did best on validation: its weights stand for the arm."""
        return max(self.runs[arm], key=lambda seed: _accuracy(self.runs[arm][seed]))

    def evaluate_request(self, config_dirs: Sequence[str]) -> EvaluateRequest:
        """To evaluate all its models on test."""
        plan = self.study.plan
        return EvaluateRequest(
            overrides=tuple(plan.overrides({}, self.study.threads)),
            config_dirs=tuple(config_dirs),
            models={arm: tuple(runs.values()) for arm, runs in self.runs.items()},
            shown={arm: runs[self.seed(arm)] for arm, runs in self.runs.items()},
            folder=self.study.plan.parent_run_dir,
        )


@dataclass(frozen=True)
class Recommendation:
    """The candidate that did best on validation.

    Attributes:
        candidate: it.
        test: accuracies on test by arm, one for each seed.
        reads: how often the test split was read in this study: once for each choice of models.
        registered: whether MLflow's registry has heard of it.
        registration: what became of it there, in words.
    """

    candidate: Candidate
    test: Mapping[str, Sequence[float]]
    reads: int
    registered: bool
    registration: str


def candidate(study: Study, confirmation: Study | None) -> Candidate | None:
    """What a study recommends; None if it has nothing to recommend."""
    best = study.best()
    baseline = study.baseline()
    if best is None or baseline is None:
        return None
    runs: dict[str, dict[int, Path]] = {}
    found = verdicts(confirmation) if confirmation is not None else {}
    number = best.number
    if confirmation is not None:
        number = proven(found, best.number)
        arms = {baseline.number: BASELINE, number: BEST}
        for trial in confirmation.trials():
            folder = confirmation.folder(trial.number)
            if (
                trial.state == TrialState.COMPLETE
                and trial.params["trial"] in arms
                and (folder / "model").exists()
            ):
                runs.setdefault(arms[trial.params["trial"]], {})[trial.params["seed"]] = folder
    elif (study.folder(0) / "model").exists():
        runs[BASELINE] = {study.plan.config.seed: study.folder(0)}
    return Candidate(study, number, found, runs) if runs or confirmation is not None else None


def recommend(
    candidates: Sequence[Candidate | None], cluster: Cluster, config_dirs: Sequence[str]
) -> Recommendation | None:
    """Choose among studies on validation, evaluate on test, register; None if there is nothing to
    recommend.

    Args:
        candidates: one for each study, or None.
        cluster: that evaluates.
        config_dirs: the user's own folders of configs.

    Raises:
        SweepError: the models could not be evaluated.
    """
    choices = [each for each in candidates if each is not None and each.arm in each.runs]
    if not choices:
        return None
    chosen = max(choices, key=lambda each: each.validation)
    test, reads = _test(chosen, cluster, config_dirs)
    return Recommendation(chosen, test, reads, *_register(chosen))


def _test(
    chosen: Candidate, cluster: Cluster, config_dirs: Sequence[str]
) -> tuple[dict[str, list[float]], int]:
    """Test accuracies by arm, in the order of the runs, and how often the test split was read
    for them and others.
    """
    folder = chosen.study.plan.folder
    study = chosen.study.optuna
    known: dict[str, dict[str, list[float]]] = study.user_attrs.get(TEST, {})
    key = " ".join(
        str(run.relative_to(folder)) for runs in chosen.runs.values() for run in runs.values()
    )
    if key not in known:
        count = len(key.split())
        console.print(
            f"{chosen.study.plan.name}: judging {count} model{'' if count == 1 else 's'} on test"
        )
        known[key] = cluster.evaluate(chosen.evaluate_request(config_dirs)).accuracies
        study.set_user_attr(TEST, known)
    return known[key], len(known)


def _register(chosen: Candidate) -> tuple[bool, str]:
    """Register the champion's weights; whether that was done, and in words what became of them."""
    from svhn_sweep.tracking.registry import ALIAS, register

    seed = chosen.seed(chosen.arm)
    tags = {
        "data.sha256": chosen.study.plan.data_sha256,
        "study": chosen.study.plan.name,
        "arm": chosen.arm,
        "seed": str(seed),
        "seeds": str(len(chosen.runs[chosen.arm])),
    }
    try:
        registered = register(chosen.name, chosen.runs[chosen.arm][seed], chosen.validation, tags)
    except Exception as error:  # noqa: BLE001  # the store is out of reach; what was found stands
        return (
            False,
            f"the model {chosen.name} is not registered: {tracking_uri.reason(error)}; "
            "the same command tries again",
        )
    if registered.rival:
        return (
            True,
            f"the {ALIAS} of {chosen.name} stays version "
            f"{registered.version}: it {registered.rival}",
        )
    version = f"{chosen.name} version {registered.version}, alias {ALIAS}"
    return True, f"registered as {version}, with the weights of seed {seed}"


def _accuracy(folder: Path) -> float:
    return journal.history(folder)[0]["val/best_accuracy"]
