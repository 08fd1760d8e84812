from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from svhn_sweep.config.schema import Config, Precision, TrainingConfig
from svhn_sweep.training.evaluation import predictor
from svhn_sweep.training.fit import Metrics, TrainResult, _batches, fit, seed_noise
from svhn_sweep.training.model import build_model
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
    """A model small enough to fit in a moment."""
    small = ("model.filters.conv1=2", "model.filters.conv2=2", "model.dense_units=4")
    return composed("model=model1", *small, "training.epochs=3", "training.batch_size=16")


def fitted(
    config: Config,
    digits: Arrays,
    training: TrainingConfig | None = None,
    **callables: Callable[..., object],
) -> tuple[keras.Model, TrainResult]:
    training = training or config.training
    model = build_model(config.model, training.augmentation, training.precision, config.seed)
    return model, fit(model, digits, digits, training, config.seed, **callables)  # type: ignore[arg-type]


def test_every_epoch_is_logged_once_in_order(config: Config, digits: Arrays) -> None:
    seen: list[tuple[int, Metrics]] = []
    _, result = fitted(config, digits, log=lambda epoch, metrics: seen.append((epoch, metrics)))
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert [metrics for _, metrics in seen] == result.history
    assert all(set(metrics) == METRICS for metrics in result.history)
    assert result.status is TrialStatus.complete
    assert all(metrics["learning_rate"] == pytest.approx(1e-3) for metrics in result.history)


def test_asked_to_stop_it_stops_after_that_epoch(config: Config, digits: Arrays) -> None:
    asked: list[tuple[int, Metrics]] = []

    def should_stop(epoch: int, metrics: Metrics) -> bool:
        asked.append((epoch, metrics))
        return epoch == 2

    _, result = fitted(config, digits, should_stop=should_stop)
    assert result.status is TrialStatus.pruned
    assert asked == [(1, result.history[0]), (2, result.history[1])]


def test_a_loss_that_is_not_finite_ends_it(config: Config, digits: Arrays) -> None:
    _, result = fitted(config, digits, replace(config.training, learning_rate=1e30))
    assert result.status is TrialStatus.diverged
    assert len(result.history) < 3
    assert all(np.isfinite(list(metrics.values())).all() for metrics in result.history)


@pytest.mark.parametrize("restore", [False, True])
def test_weights_are_the_last_epochs_or_the_best_ones(
    config: Config, digits: Arrays, restore: bool
) -> None:
    training = replace(config.training, learning_rate=0.01, epochs=6, restore_best_weights=restore)
    other_digits = digits[0][::-1], digits[1]  # what is learnt from `digits` does not help on these
    weights: list[list[np.ndarray]] = []
    model = build_model(config.model, training.augmentation, training.precision, config.seed)
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
    assert result.validation is not None  # of these weights
    assert (result.validation.probabilities == predictor(model)(other_digits[0])).all()
    of = result.history[result.best_epoch - 1 if restore else -1]
    assert of["val/accuracy"] == pytest.approx(result.validation.accuracy)
    assert of["val/loss"] == pytest.approx(result.validation.loss)


def test_validation_is_what_keras_says(config: Config, digits: Arrays) -> None:
    model, result = fitted(config, digits)
    loss, accuracy = model.evaluate(digits[0], keras.utils.to_categorical(digits[1], 10), verbose=0)
    assert result.history[-1]["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert result.history[-1]["val/accuracy"] == pytest.approx(accuracy)


def test_the_loss_is_scaled_where_small_gradients_would_vanish(
    config: Config, digits: Arrays
) -> None:
    model, result = fitted(
        config, digits, replace(config.training, precision=Precision.mixed_float16)
    )
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
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


def test_noise_depends_on_seed_and_epoch_alone(composed: Composed, digits: Arrays) -> None:
    """Dropout, shift, rotation and zoom each draw for themselves, and the same again for the
    same epoch.
    """
    config = composed("training.augmentation.enabled=true")
    model = build_model(config.model, config.training.augmentation, config.training.precision, 42)

    def noise(seed: int, epoch: int) -> list[tuple[int, ...]]:
        model(digits[0], training=True)  # whatever was drawn before
        seed_noise(model, seed, epoch)
        states = [
            variable for variable in model.variables if variable.name == "seed_generator_state"
        ]
        return [tuple(np.asarray(state).tolist()) for state in states]

    assert len(noise(1, 0)) == len(set(noise(1, 0))) == 4
    assert noise(1, 0) == noise(1, 0)
    assert not set(noise(1, 0)) & set(noise(1, 1))
    assert not set(noise(1, 0)) & set(noise(2, 0))


def test_an_augmented_fit_is_repeatable(composed: Composed, digits: Arrays) -> None:
    small = (
        "model.filters.conv1=2",
        "model.filters.conv2=2",
        "model.filters.conv3=2",
        "model.filters.conv4=2",
    )
    config = composed(*small, "training.augmentation.enabled=true", "training.epochs=2")
    losses = [
        [metrics["train/loss"] for metrics in fitted(config, digits)[1].history] for _ in range(2)
    ]
    assert losses[0] == losses[1]


def epoch_orders(labels: np.ndarray, seed: int, done: int = 0) -> list[list[int]]:
    """Which image comes when, in each of three epochs that is not done."""
    images = np.zeros((len(labels), 32, 32, 1), np.float32)
    images[:, 0, 0, 0] = np.arange(len(labels))
    epoch, orders = tf.Variable(done, dtype=tf.int64), []
    batches = _batches(images, labels, 10, seed, epoch)
    assert len(batches) == len(list(batches))
    for number in range(done, 3):
        epoch.assign(number)
        orders.append([int(pixel) for x, _ in batches for pixel in x[:, 0, 0, 0]])
    return orders


@pytest.mark.parametrize("at_once", [1, 16])
def test_how_many_steps_are_one_call_changes_nothing(
    config: Config, digits: Arrays, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("svhn_sweep.training.fit.STEPS_PER_CALL", at_once)
    training = replace(
        config.training, batch_size=3, epochs=2
    )  # 64 digits: 22 steps, the last with one of them
    model, result = fitted(config, digits, training)
    monkeypatch.setattr("svhn_sweep.training.fit.STEPS_PER_CALL", 5)
    other, others = fitted(config, digits, training)
    assert [metrics["train/loss"] for metrics in result.history] == [
        metrics["train/loss"] for metrics in others.history
    ]
    assert all(
        np.array_equal(*pair) for pair in zip(model.get_weights(), other.get_weights(), strict=True)
    )


def traces(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Gets an entry whenever TensorFlow traces this step of a model."""
    traced: list[object] = []
    step = getattr(keras.Sequential, name)

    def count(*given: object) -> object:
        traced.append(given)
        return step(*given)

    monkeypatch.setattr(keras.Sequential, name, count)
    return traced


def test_a_step_is_traced_once(
    config: Config, digits: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that are made in the first step would have it traced a second time."""
    traced = traces(monkeypatch, "train_step")
    fitted(config, digits)
    assert len(traced) == 1


def test_a_saved_model_predicts_with_one_trace(
    config: Config, digits: Arrays, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    traced = traces(monkeypatch, "predict_step")
    model, _ = fitted(config, digits)
    model.save(tmp_path / "model.keras")
    keras.models.load_model(tmp_path / "model.keras").predict(digits[0], batch_size=8, verbose=0)
    assert len(traced) == 1


def test_each_epoch_shows_every_image_once_in_its_own_order(digits: Arrays) -> None:
    orders = epoch_orders(digits[1], seed=1)
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders == epoch_orders(digits[1], seed=1)
    assert orders != epoch_orders(digits[1], seed=2)
    assert orders[2:] == epoch_orders(digits[1], seed=1, done=2)


def test_the_end_of_a_fit_waits_for_no_autotuner(digits: Arrays) -> None:
    """tf.data's autotune thread sleeps ever longer, and destroying the iterator joins it: 20 to
    40 s after a fit.
    """
    assert (
        _batches(*digits, 10, 1, tf.Variable(0, dtype=tf.int64)).options().autotune.enabled is False
    )


def test_images_keep_their_labels(digits: Arrays) -> None:
    images = np.broadcast_to(
        digits[1].astype(np.float32)[:, None, None, None], (64, 32, 32, 1)
    ).copy()
    for x, y in _batches(images, digits[1], 10, 1, tf.Variable(0, dtype=tf.int64)):
        assert (np.argmax(y, axis=1) == np.asarray(x)[:, 0, 0, 0]).all()


def test_the_learning_rate_falls_on_a_plateau(config: Config, digits: Arrays) -> None:
    plateau = replace(
        config.training.reduce_on_plateau,
        enabled=True,
        patience=0,
        factor=0.1,
        min_learning_rate=1e-6,
    )
    training = replace(config.training, epochs=4, learning_rate=0.5, reduce_on_plateau=plateau)
    _, result = fitted(config, digits, training)
    rates = [metrics["learning_rate"] for metrics in result.history]
    assert rates[0] == pytest.approx(0.5)
    assert rates[-1] < 0.5
