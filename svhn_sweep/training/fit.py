"""Fit a model and say how it went, epoch by epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from svhn_sweep.config import TrainingConfig
from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.training.progress import Progress

Metrics = dict[str, float]
Log = Callable[[int, Metrics], None]
ShouldStop = Callable[[int, float], bool]

EVALUATION_BATCH = 512  # images


class State(StrEnum):
    """How a fit ended."""

    complete = "complete"
    pruned = "pruned"
    diverged = "diverged"


@dataclass
class TrainResult:
    """What a fit leaves behind.

    Attributes:
        state: how it ended.
        history: one entry per epoch whose loss was finite: train/loss, train/accuracy, val/loss, val/accuracy
            (accuracies in 0..1), learning_rate (that the epoch used) and epoch_seconds (training and validation).
    """

    state: State = State.complete
    history: list[Metrics] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The first epoch, from 1, with the highest validation accuracy; 0 if no epoch was finished."""
        accuracies = [epoch["val/accuracy"] for epoch in self.history]
        return accuracies.index(max(accuracies)) + 1 if accuracies else 0


def fit(
    model: keras.Model,
    train: tuple[Images, Labels],
    validation: tuple[Images, Labels],
    config: TrainingConfig,
    seed: int,
    log: Log = lambda epoch, metrics: None,
    should_stop: ShouldStop = lambda epoch, value: False,
) -> TrainResult:
    """Train as the notebook does: Adam, categorical cross-entropy, a new order of the images in each epoch.

    The order of the batches and the noise of dropout and augmentation depend on (seed, epoch) alone, not on what was
    drawn before.

    Args:
        model: untrained; holds the last epoch's weights afterwards, or the best one's with `restore_best_weights`.
        train: images and labels to learn from.
        validation: images and labels to judge each epoch by.
        config: how.
        seed: of batch order and noise.
        log: called with the epoch, from 1, and its metrics, as they become known.
        should_stop: called after `log` with the epoch and its validation accuracy; true ends the fit as pruned.
    """
    model.compile(keras.optimizers.Adam(config.learning_rate), loss="categorical_crossentropy", metrics=["accuracy"])
    result = TrainResult()
    steps = math.ceil(len(train[0]) / config.batch_size)
    with Progress(config.epochs, steps) as progress:
        callbacks: list[keras.callbacks.Callback] = [
            keras.callbacks.TerminateOnNaN(),
            _Recorder(result, config, seed, log, should_stop),
            progress,
        ]
        if config.reduce_on_plateau.enabled:
            callbacks.append(_reduce_on_plateau(config))
        model.fit(
            _batches(*train, config.batch_size, seed, config.epochs),
            epochs=config.epochs,
            steps_per_epoch=steps,
            validation_data=(validation[0], _one_hot(validation[1])),
            validation_batch_size=EVALUATION_BATCH,
            callbacks=callbacks,
            shuffle=False,  # the batches already come in their order
            verbose=0,
        )
    return result


def _batches(images: Images, labels: Labels, batch_size: int, seed: int, epochs: int) -> tf.data.Dataset:
    """Every epoch's batches, one epoch after the other, each in an order that (seed, epoch) gives."""
    x, y = tf.constant(images), tf.constant(_one_hot(labels))

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(images)), seed=[tf.cast(seed, tf.int64), epoch])
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    every_index = tf.data.Dataset.range(epochs).flat_map(one_epoch)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread sleeps ever longer, and the end of the fit waits for it: up to 40 s
    return every_index.map(lambda index: (tf.gather(x, index), tf.gather(y, index))).prefetch(2).with_options(options)


def seed_noise(model: keras.Model, seed: int, epoch: int) -> None:
    """Let dropout and augmentation of an epoch, from 0, depend on (seed, epoch) alone, each layer for itself."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    words = np.random.SeedSequence((seed, epoch)).generate_state(2 * len(states))
    for state, own in zip(states, words.reshape(-1, 2), strict=True):
        state.assign(own)


def _one_hot(labels: Labels) -> NDArray[np.float32]:
    return np.asarray(keras.utils.to_categorical(labels, 10), dtype=np.float32)


def _reduce_on_plateau(config: TrainingConfig) -> keras.callbacks.Callback:
    plateau = config.reduce_on_plateau
    return keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss", factor=plateau.factor, patience=plateau.patience, min_lr=plateau.min_learning_rate
    )


class _Recorder(keras.callbacks.Callback):
    """Seeds each epoch, records its metrics, asks whether to go on, and keeps the best weights if wanted."""

    def __init__(
        self, result: TrainResult, config: TrainingConfig, seed: int, log: Log, should_stop: ShouldStop
    ) -> None:
        super().__init__()
        self.result, self.config, self.seed = result, config, seed
        self.log, self.should_stop = log, should_stop
        self.best_weights: list[NDArray[np.float32]] | None = None
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Metrics | None = None) -> None:
        self.started = time.perf_counter()
        seed_noise(self.model, self.seed, epoch)

    def on_epoch_end(self, epoch: int, logs: Metrics | None = None) -> None:
        assert logs is not None
        if not all(math.isfinite(value) for value in logs.values()):
            self.result.state = State.diverged
            self.model.stop_training = True
            return
        metrics = {
            "train/loss": logs["loss"],
            "train/accuracy": logs["accuracy"],
            "val/loss": logs["val_loss"],
            "val/accuracy": logs["val_accuracy"],
            "learning_rate": float(self.model.optimizer.learning_rate),
            "epoch_seconds": time.perf_counter() - self.started,
        }
        self.result.history.append(metrics)
        if self.config.restore_best_weights and self.result.best_epoch == epoch + 1:
            self.best_weights = self.model.get_weights()
        self.log(epoch + 1, metrics)
        if self.should_stop(epoch + 1, metrics["val/accuracy"]):
            self.result.state = State.pruned
            self.model.stop_training = True

    def on_train_end(self, logs: Metrics | None = None) -> None:
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
