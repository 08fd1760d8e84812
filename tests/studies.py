"""Studies in real SQLite whose trials are not trained: the tests write their journals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import event

from svhn_sweep.config.data_sources import SvhnConfig
from svhn_sweep.config.schema import Config, ModelConfig, Precision, TrackingConfig, TrainingConfig
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.search_space import Params, SearchSpace
from svhn_sweep.sweep.plan.settings import ConfirmConfig, PrunerConfig, SweeperConfig
from svhn_sweep.sweep.selection.race import RaceRules
from svhn_sweep.sweep.selection.verdict import Verdict, verdict_on_pairs
from svhn_sweep.sweep.study import study_storage
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.trial_status import TrialStatus

SPACE: dict[str, BaseDistribution] = {
    "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "model.dense_units": IntDistribution(1, 1000),
    "model.batch_norm": CategoricalDistribution((True, False)),
}
EPOCHS = 3
BASELINE: Params = {
    "training.learning_rate": 1e-3,
    "model.dense_units": 32,
    "model.batch_norm": False,
}


@dataclass
class Studies:
    """The study of a folder, which one driver after another opens."""

    path: Path
    opened: list[RDBStorage] = field(default_factory=list)

    def plan(
        self,
        *,
        n_trials: int = 10,
        fingerprint: str = "fingerprint",
        enqueued_trials: Sequence[Params] = (BASELINE,),
        precision: Precision = Precision.float32,
        space: Mapping[str, BaseDistribution] = SPACE,
    ) -> Plan:
        config = Config(
            seed=42,
            model=ModelConfig(name="model1"),
            tracking=TrackingConfig(experiment="svhn", tags={"team": "vision"}),
            data=SvhnConfig("digits.h5"),
            training=TrainingConfig(epochs=EPOCHS, precision=precision),
        )
        return Plan(
            name="study",
            folder=self.path / "multirun" / "study",
            config=config,
            fixed=(),
            space=SearchSpace(space),
            enqueued_trials=enqueued_trials,
            n_trials=n_trials,
            fingerprint=fingerprint,
            data_sha256="sha256",
            initial_weights=None,
            max_parameters=None,
        )

    def open(
        self, plan: Plan | None = None, settings: SweeperConfig | None = None, *, prune: bool = True
    ) -> Study:
        """Opens the study as a new driver does, from what is in the folder alone."""
        self.close()
        database = self.path / "optuna.db"
        if not database.exists():
            database.parent.mkdir(exist_ok=True)
            database.write_bytes(_empty_database())
        self.opened.append(
            study_storage.connect(study_storage.storage_url(f"sqlite:///{database}"))
        )
        _disable_fsync(self.opened[-1])
        return Study(plan or self.plan(), settings or sweeper(), self.opened[-1], 1, prune=prune)

    def close(self) -> None:
        while self.opened:
            self.opened.pop().engine.dispose()


def _disable_fsync(storage: RDBStorage) -> None:
    """Makes tests faster; none of them cuts the power."""
    storage.engine.dispose()
    event.listen(
        storage.engine,
        "connect",
        lambda connection, _: connection.execute("PRAGMA synchronous=OFF"),
    )


@cache
def _empty_database() -> bytes:
    """A database without a study; creating its tables takes longer than the rest of a test."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optuna.db"
        study_storage.connect(study_storage.storage_url(f"sqlite:///{path}")).engine.dispose()
        return path.read_bytes()


def sweeper(
    *,
    direction: str = "maximize",
    sampler: str = "random",
    pruner: PrunerConfig | None = None,
    target_value: float | None = None,
) -> SweeperConfig:
    """Settings of a study; the metric follows from the direction."""
    metric = "val/accuracy" if direction == "maximize" else "val/loss"
    pruner = pruner or PrunerConfig("none", startup_trials=0, min_resource=0)
    return SweeperConfig(
        metric=metric, sampler=sampler, pruner=pruner, target_value=target_value, ensemble=None
    )


def write(study: Study, number: int, *values: float) -> None:
    """Writes the journal of a trial with these values of the metric, one for each epoch."""
    with Journal(study.plan.trial_dir(number)) as journal:
        journal.start(
            name=f"trial {number}", experiment="svhn", store="sqlite:///mlflow.db", tags={}
        )
        journal.log_params({"parameters": 1234, "multiply_adds": 56789})
        for epoch, value in enumerate(values, start=1):
            journal.log_metrics({study.settings.metric: value, "epoch_seconds": 2.0}, step=epoch)
        journal.log_metrics({"val/macro_f1": 0.5})


def train(study: Study, *values: float, state: str = "complete", reason: str = "") -> FrozenTrial:
    """Asks for the next trial and tells its end; the values are those of its epochs."""
    pending = study.ask()
    assert pending is not None
    write(study, pending.number, *values)
    return study.tell(pending.number, TrialStatus(state), reason)


def fixed_seeds(seeds: int) -> ConfirmConfig:
    """A confirmation of the best config on so many seeds, without a race."""
    return ConfirmConfig(candidates=3, max_seeds=16, margin=0, seeds=seeds)


def compare(baseline: Sequence[float], best: Sequence[float], *, maximize: bool) -> Verdict:
    """The verdict on values of the same fixed seeds."""
    results = {0: dict(enumerate(baseline)), 1: dict(enumerate(best))}
    rules = RaceRules(range(len(best)), fixed=True, margin=0, maximize=maximize)
    verdict = verdict_on_pairs(results, rules, 1)
    assert verdict is not None
    return verdict
