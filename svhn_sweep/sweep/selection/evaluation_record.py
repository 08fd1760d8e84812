"""The scores of models on test, in a study's attributes, so that none is evaluated twice."""

from dataclasses import dataclass, field

from svhn_sweep.console import print_text
from svhn_sweep.sweep.plan.formatting import format_items
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.workers.evaluation_requests import EvaluateRequest
from svhn_sweep.sweep.workers.protocol import Cluster

Scores = dict[str, dict[str, list[float]]]


@dataclass
class EvaluationRecord:
    """Test scores in a study's user attributes.

    Attributes:
        accuracies: Accuracies by config, for each choice of models: their runs' folders, relative
            to the study's and joined by spaces.
        calibration_errors: Expected calibration errors, likewise; earlier versions of this package
            recorded none.
    """

    ATTRIBUTE = "test"
    CALIBRATION_ATTRIBUTE = "test_calibration_errors"

    accuracies: Scores
    calibration_errors: Scores = field(default_factory=dict)

    @classmethod
    def load(cls, study: Study) -> "EvaluationRecord":
        """Reads the record of a study; it is empty if nothing was evaluated."""
        attributes = study.optuna_study.user_attrs
        return cls(attributes.get(cls.ATTRIBUTE, {}), attributes.get(cls.CALIBRATION_ATTRIBUTE, {}))

    def save(self, study: Study) -> None:
        """Writes the record to the study."""
        study.optuna_study.set_user_attr(self.CALIBRATION_ATTRIBUTE, self.calibration_errors)
        study.optuna_study.set_user_attr(self.ATTRIBUTE, self.accuracies)


def evaluate_once(
    study: Study, request: EvaluateRequest, cluster: Cluster
) -> tuple[dict[str, list[float]], dict[str, list[float]], int]:
    """Evaluates models of a study on test, unless the study's record has their scores.

    Args:
        study: The study.
        request: Names the models.
        cluster: Evaluates them.

    Returns:
        Accuracies and calibration errors by config, and how many choices of models the record has.

    Raises:
        SweepError: The models could not be evaluated.
    """
    record = EvaluationRecord.load(study)
    runs = [run for folders in request.models.values() for run in folders]
    key = " ".join(str(run.relative_to(study.plan.folder)) for run in runs)
    if key not in record.accuracies:
        models = format_items(len(runs), "model")
        print_text(f"{study.plan.name}: evaluating {models} on test")
        result = cluster.evaluate(request)
        record.accuracies[key] = result.accuracies
        record.calibration_errors[key] = result.calibration_errors
        record.save(study)
    return record.accuracies[key], record.calibration_errors.get(key, {}), len(record.accuracies)
