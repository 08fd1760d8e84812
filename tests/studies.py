"""Studies in real SQLite whose trials are not trained: a test writes down what they came to."""

from collections.abc import Sequence
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

from svhn_sweep.config.schema import Config, Precision, SvhnConfig, TrainingConfig
from svhn_sweep.sweep.plan.plan import Params, Plan
from svhn_sweep.sweep.plan.settings import PrunerConfig, SweeperConfig
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
    """A folder's studies, as one driver after another opens them."""

    path: Path
    opened: list[RDBStorage] = field(default_factory=list)

    def plan(
        self,
        *,
        n_trials: int = 10,
        fingerprint: str = "fingerprint",
        queue: Sequence[Params] = (BASELINE,),
        precision: Precision = Precision.float32,
    ) -> Plan:
        config = Config(
            seed=42,
            data=SvhnConfig("digits.h5"),
            training=TrainingConfig(epochs=EPOCHS, precision=precision),
        )
        folder = self.path / "multirun" / "study"
        return Plan("study", folder, config, (), SPACE, queue, n_trials, fingerprint, "sha256")

    def open(
        self, plan: Plan | None = None, settings: SweeperConfig | None = None, *, prune: bool = True
    ) -> Study:
        """As a new driver does: nothing is known but what lies in the folder."""
        self.close()
        database = self.path / "optuna.db"
        if not database.exists():
            database.parent.mkdir(exist_ok=True)
            database.write_bytes(_empty())
        self.opened.append(study_storage.connect(study_storage.url(f"sqlite:///{database}")))
        _hurry(self.opened[-1])
        return Study(plan or self.plan(), settings or sweeper(), self.opened[-1], 1, prune=prune)

    def close(self) -> None:
        while self.opened:
            self.opened.pop().engine.dispose()


def _hurry(connected: RDBStorage) -> None:
    """Not to wait for the disk: no test takes its power away."""
    connected.engine.dispose()
    event.listen(
        connected.engine,
        "connect",
        lambda connection, _: connection.execute("PRAGMA synchronous=OFF"),
    )


@cache
def _empty() -> bytes:
    """A database without a study; to make its tables takes longer than all else that a test
    does.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optuna.db"
        study_storage.connect(study_storage.url(f"sqlite:///{path}")).engine.dispose()
        return path.read_bytes()


def sweeper(
    *,
    direction: str = "maximize",
    sampler: str = "random",
    pruner: PrunerConfig | None = None,
    target: float | None = None,
) -> SweeperConfig:
    """The settings that concern a study; its metric follows from the direction."""
    metric = "val/accuracy" if direction == "maximize" else "val/loss"
    pruner = pruner or PrunerConfig("none", startup_trials=0, min_resource=0)
    return SweeperConfig(metric=metric, sampler=sampler, pruner=pruner, target_value=target)


def write(study: Study, number: int, *values: float) -> None:
    """What a worker leaves in the trial's folder: the metric of each epoch."""
    with Journal(study.folder(number)) as journal:
        journal.start(
            name=f"trial {number}", experiment="svhn", store="sqlite:///mlflow.db", tags={}
        )
        for epoch, value in enumerate(values, start=1):
            journal.metrics({study.settings.metric: value, "epoch_seconds": 2.0}, step=epoch)
        journal.metrics({"val/macro_f1": 0.5})


def train(study: Study, *values: float, state: str = "complete", reason: str = "") -> FrozenTrial:
    """The next trial from its start to its end."""
    assignment = study.next()
    assert assignment is not None
    write(study, assignment.number, *values)
    return study.tell(assignment.number, TrialStatus(state), reason)
