"""What MLflow holds of a trial's run before the trial is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

from svhn_sweep.tracking.journal import Journal, Scalar


@dataclass(frozen=True)
class RunInfo:
    """A run's name and tags, and where it belongs in MLflow.

    Attributes:
        name: The run's name.
        experiment: The name of its experiment.
        store: The address of the MLflow store, without a password.
        tags: role (baseline, trial or confirmation); in a sweep also study and trial.number, in a
            grid also grid and config.
        parent: The folder of the parent run, relative to the run's own; empty if there is none.
    """

    name: str
    experiment: str
    store: str
    tags: dict[str, Scalar]
    parent: str = ""

    def start(self, journal: Journal, tags: Mapping[str, Scalar] | None = None) -> None:
        """Starts the run in its journal, or resumes it.

        Args:
            journal: The run's journal.
            tags: Further tags; the run's own replace those of the same name.
        """
        journal.start(
            name=self.name,
            experiment=self.experiment,
            store=self.store,
            tags={**(tags or {}), **self.tags},
            parent=self.parent,
        )
