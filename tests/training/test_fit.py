from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from svhn_sweep.config.schema import Config, Precision, Schedule, TrainingConfig
from svhn_sweep.training import averaged_weights
from svhn_sweep.training.evaluation import predictor
from svhn_sweep.training.fast_model import FastModel
from svhn_sweep.training.fit import fit
from svhn_sweep.training.model import build_model
from svhn_sweep.training.result import Metrics, TrainResult
from svhn_sweep.trial_status import TrialStatus

Composed = Callable[..., Config]
Arrays = tuple[np.ndarray, np.ndarray]
METRICS = {
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "learning_rate",
    "epoch_seconds",
}


@pytest.fixture
def config(composed: Composed) -> Config:
    """A config whose model is fitted in a moment."""
    small = ("model.filters.conv1=2", "model.filters.conv2=2", "model.dense_units=4")
    return composed("model=model1", *small, "training.epochs=3", "training.batch_size=16")


def fitted(
    config: Config,
    digits: Arrays,
    training: TrainingConfig | None = None,
    **callables: Callable[..., object],
) -> tuple[keras.Model, TrainResult]:
    training = training or config.training
    model = build_model(config.model, training.precision, config.seed)
    return model, fit(model, digits, digits, training, config.seed, **callables)  # type: ignore[arg-type]


def test_every_epoch_is_logged_once_in_order(config: Config, digits: Arrays) -> None:
    logged: list[tuple[int, Metrics]] = []
    _, result = fitted(config, digits, log=lambda epoch, metrics: logged.append((epoch, metrics)))
    assert [epoch for epoch, _ in logged] == [1, 2, 3]
    assert [metrics for _, metrics in logged] == result.history
    assert all(set(metrics) == METRICS for metrics in result.history)
    assert result.status is TrialStatus.complete
    assert all(metrics["learning_rate"] == pytest.approx(1e-3) for metrics in result.history)


def test_a_fit_is_pruned_after_the_epoch_for_which_should_stop_is_true(
    config: Config, digits: Arrays
) -> None:
    calls: list[tuple[int, Metrics]] = []

    def should_stop(epoch: int, metrics: Metrics) -> bool:
        calls.append((epoch, metrics))
        return epoch == 2

    _, result = fitted(config, digits, should_stop=should_stop)
    assert result.status is TrialStatus.pruned
    assert calls == [(1, result.history[0]), (2, result.history[1])]


def test_a_fit_ends_as_diverged_when_the_loss_is_not_finite(config: Config, digits: Arrays) -> None:
    _, result = fitted(config, digits, replace(config.training, learning_rate=1e30))
    assert result.status is TrialStatus.diverged
    assert len(result.history) < 3
    assert all(np.isfinite(list(metrics.values())).all() for metrics in result.history)


@pytest.mark.parametrize("restore", [False, True])
def test_the_model_holds_the_weights_of_the_last_or_the_best_epoch(
    config: Config, digits: Arrays, restore: bool
) -> None:
    training = replace(config.training, learning_rate=0.01, epochs=6, restore_best_weights=restore)
    other_digits = digits[0][::-1], digits[1]  # what is learnt from `digits` does not help on these
    weights: list[list[np.ndarray]] = []
    model = build_model(config.model, training.precision, config.seed)
    result = fit(
        model,
        digits,
        other_digits,
        training,
        config.seed,
        log=lambda epoch, metrics: weights.append(model.get_weights()),
    )
    assert result.best_epoch != 6  # else the test would show nothing
    expected = weights[result.best_epoch - 1] if restore else weights[-1]
    assert all((a == b).all() for a, b in zip(model.get_weights(), expected, strict=True))
    assert result.validation is not None
    expected_probabilities = predictor(FastModel(model))(other_digits[0])
    assert (result.validation.probabilities == expected_probabilities).all()
    metrics = result.history[result.best_epoch - 1 if restore else -1]
    assert metrics["val/accuracy"] == pytest.approx(result.validation.accuracy)
    assert metrics["val/loss"] == pytest.approx(result.validation.loss)


def test_validation_metrics_equal_those_of_keras(config: Config, digits: Arrays) -> None:
    model, result = fitted(config, digits)
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(digits[0], keras.utils.to_categorical(digits[1], 10), verbose=0)
    assert result.history[-1]["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert result.history[-1]["val/accuracy"] == pytest.approx(accuracy)


def test_the_loss_is_scaled_in_float16(
    config: Config, digits: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled = record_calls(monkeypatch, keras.optimizers.LossScaleOptimizer, "scale_loss")
    _, result = fitted(config, digits, replace(config.training, precision=Precision.mixed_float16))
    assert scaled
    assert result.history[-1]["learning_rate"] == config.training.learning_rate
    assert result.history[-1]["train/loss"] < result.history[0]["train/loss"]


def test_the_best_epoch_is_the_first_of_equals() -> None:
    accuracies = [0.1, 0.3, 0.2, 0.3]
    result = TrainResult(history=[{"val/accuracy": accuracy} for accuracy in accuracies])
    assert result.best_epoch == 2
    assert TrainResult().best_epoch == 0


def test_fits_with_one_seed_are_equal(config: Config, digits: Arrays) -> None:
    def losses(seed: int) -> list[float]:
        _, result = fitted(replace(config, seed=seed), digits)
        return [metrics["train/loss"] for metrics in result.history]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_an_augmented_fit_is_repeatable(composed: Composed, digits: Arrays) -> None:
    small = (
        "model.filters.conv1=2",
        "model.filters.conv2=2",
        "model.filters.conv3=2",
        "model.filters.conv4=2",
    )
    config = composed(*small, "training.augmentation.enabled=true", "training.epochs=2")
    as_they_are = replace(
        config.training, augmentation=replace(config.training.augmentation, enabled=False)
    )

    def losses(training: TrainingConfig) -> list[float]:
        return [metrics["train/loss"] for metrics in fitted(config, digits, training)[1].history]

    assert losses(config.training) == losses(config.training)
    assert losses(config.training) != losses(as_they_are)


@pytest.mark.parametrize("steps", [1, 16])
def test_the_number_of_steps_in_one_call_changes_no_number(
    config: Config, digits: Arrays, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("svhn_sweep.training.fit.MAX_STEPS_PER_CALL", steps)
    # 64 digits in 22 steps, the last with one digit
    training = replace(config.training, batch_size=3, epochs=2)
    model, result = fitted(config, digits, training)
    monkeypatch.setattr("svhn_sweep.training.fit.MAX_STEPS_PER_CALL", 5)
    other_model, other_result = fitted(config, digits, training)
    assert [metrics["train/loss"] for metrics in result.history] == [
        metrics["train/loss"] for metrics in other_result.history
    ]
    for a, b in zip(model.get_weights(), other_model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def record_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[object]:
    """Returns a list that gets an entry at each call of a method; TensorFlow calls once a trace."""
    calls: list[object] = []
    method = getattr(owner, name)

    def record(*arguments: object) -> object:
        calls.append(arguments)
        return method(*arguments)

    monkeypatch.setattr(owner, name, record)
    return calls


def test_a_training_step_is_traced_once(
    config: Config, digits: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that the first step creates would cause a second trace."""
    traces = record_calls(monkeypatch, FastModel, "train_step")
    fitted(config, digits)
    assert len(traces) == 1


def test_a_saved_model_predicts_with_one_trace(
    config: Config, digits: Arrays, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    traces = record_calls(monkeypatch, keras.Sequential, "predict_step")
    model, _ = fitted(config, digits)
    model.save(tmp_path / "model.keras")
    keras.models.load_model(tmp_path / "model.keras").predict(digits[0], batch_size=8, verbose=0)
    assert len(traces) == 1


def test_the_learning_rate_is_reduced_on_a_plateau(config: Config, digits: Arrays) -> None:
    plateau = replace(
        config.training.reduce_on_plateau,
        patience=0,
        factor=0.1,
        min_learning_rate=1e-6,
    )
    training = replace(
        config.training,
        epochs=4,
        learning_rate=0.5,
        schedule=Schedule.plateau,
        reduce_on_plateau=plateau,
    )
    _, result = fitted(config, digits, training)
    rates = [metrics["learning_rate"] for metrics in result.history]
    assert rates[0] == pytest.approx(0.5)
    assert rates[-1] < 0.5


def test_the_cosine_schedule_lowers_the_learning_rate_from_epoch_to_epoch_towards_0(
    config: Config, digits: Arrays
) -> None:
    training = replace(config.training, epochs=4, learning_rate=0.1, schedule=Schedule.cosine)
    _, result = fitted(config, digits, training)
    rates = [metrics["learning_rate"] for metrics in result.history]
    # 0.1 (1 + cos(pi epoch / 4)) / 2
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-4)


def in_one_step(
    config: Config, digits: Arrays, epochs: int = 1, weight_decay: float = 0
) -> keras.Model:
    """Returns a model that was trained by one step in each epoch, at a learning rate of 0.1."""
    training = replace(
        config.training,
        epochs=epochs,
        batch_size=len(digits[0]),
        learning_rate=0.1,
        weight_decay=weight_decay,
    )
    return fitted(config, digits, training)[0]


def test_weight_decay_takes_a_fraction_of_each_kernel_but_of_no_bias(
    config: Config, digits: Arrays
) -> None:
    untrained = build_model(config.model, config.training.precision, config.seed)
    plain = in_one_step(config, digits)
    decayed = in_one_step(config, digits, weight_decay=0.2)
    for start, without, with_decay in zip(
        untrained.variables, plain.variables, decayed.variables, strict=True
    ):
        fraction = 0.1 * 0.2 if "kernel" in start.path else 0
        loss = np.array(without) - np.array(with_decay)
        assert loss == pytest.approx(fraction * np.array(start), abs=1e-6), start.path


def test_label_smoothing_spreads_a_part_of_each_label_over_all_digits(
    config: Config, digits: Arrays
) -> None:
    training = replace(
        config.training, epochs=1, learning_rate=1e-12, batch_size=8, label_smoothing=0.4
    )
    model, result = fitted(config, digits, training)
    logs = np.log(predictor(model)(digits[0]))
    of_label = logs[np.arange(len(logs)), digits[1]]
    expected = -(0.6 * of_label + 0.4 * logs.mean(axis=1)).mean()
    assert result.history[0]["train/loss"] == pytest.approx(expected, rel=1e-5)
    assert result.history[0]["val/loss"] == pytest.approx(-of_label.mean(), rel=1e-5)


def test_an_average_of_the_weights_is_judged_and_kept(config: Config, digits: Arrays) -> None:
    config = replace(config, model=replace(config.model, batch_norm=True))
    first, second = (in_one_step(config, digits, epochs=epochs) for epochs in (1, 2))
    training = replace(
        config.training, epochs=2, batch_size=len(digits[0]), learning_rate=0.1, ema_momentum=0.8
    )
    model, result = fitted(config, digits, training)
    for average, one, two in zip(
        model.trainable_variables,
        first.trainable_variables,
        second.trainable_variables,
        strict=True,
    ):
        expected = 0.8 * np.array(one) + 0.2 * np.array(two)
        assert np.array(average) == pytest.approx(expected, abs=1e-6), average.path
    assert result.validation is not None
    probabilities = predictor(FastModel(model))(digits[0])
    assert np.array_equal(result.validation.probabilities, probabilities)


def test_the_batch_statistics_of_an_average_are_its_own(config: Config, digits: Arrays) -> None:
    config = replace(config, model=replace(config.model, batch_norm=True))
    model, _ = fitted(config, digits, replace(config.training, ema_momentum=0.9))
    layer = model.get_layer("batch_norm1")
    values = keras.Model(model.inputs[0], layer.input)(digits[0]).numpy()
    assert np.array(layer.moving_mean) == pytest.approx(values.mean(axis=(0, 1, 2)), rel=1e-4)
    assert np.array(layer.moving_variance) == pytest.approx(values.var(axis=(0, 1, 2)), rel=1e-4)


def test_the_batch_statistics_of_an_average_are_those_of_a_sorted_file_as_a_whole(
    config: Config, digits: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(averaged_weights, "STATISTICS_IMAGES", 8)
    config = replace(config, model=replace(config.model, batch_norm=True))
    images = np.repeat(np.array([10, 200], np.float32), len(digits[0]) // 2)[:, None, None, None]
    images = np.broadcast_to(images, digits[0].shape)
    model, _ = fitted(config, (images, digits[1]), replace(config.training, ema_momentum=0.9))
    layer = model.get_layer("batch_norm1")
    values = keras.Model(model.inputs[0], layer.input)(images).numpy()
    assert np.array(layer.moving_mean) == pytest.approx(values.mean(axis=(0, 1, 2)), rel=1e-4)
