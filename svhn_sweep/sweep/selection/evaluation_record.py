"""The scores of models on test, in a study's attributes, so that none is evaluated twice."""

from dataclasses import dataclass, field

from svhn_sweep.sweep.study.study import Study

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
