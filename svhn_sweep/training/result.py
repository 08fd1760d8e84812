"""The result of a fit, and the functions that a fit calls after each epoch."""

from collections.abc import Callable
from dataclasses import dataclass, field

from svhn_sweep.training.evaluation import Evaluation
from svhn_sweep.trial_status import TrialStatus

Metrics = dict[str, float]
Log = Callable[[int, Metrics], None]  # of an epoch, from 1
ShouldStop = Callable[[int, Metrics], bool]


@dataclass
class TrainResult:
    """What a fit returns.

    Attributes:
        status: complete, pruned or diverged.
        history: One entry for each epoch whose loss was finite: train/loss, train/accuracy,
            val/loss, val/accuracy (accuracies in 0..1), learning_rate (the epoch's) and
            epoch_seconds (training and validation).
        validation: The evaluation on validation of the weights that the model holds; None if the
            fit diverged.
    """

    status: TrialStatus = TrialStatus.complete
    history: list[Metrics] = field(default_factory=list)
    # not compared: == of arrays has no truth value
    validation: Evaluation | None = field(default=None, compare=False)

    @property
    def best_epoch(self) -> int:
        """The first epoch, from 1, with the highest validation accuracy; 0 without any epoch."""
        accuracies = [epoch["val/accuracy"] for epoch in self.history]
        return accuracies.index(max(accuracies)) + 1 if accuracies else 0
