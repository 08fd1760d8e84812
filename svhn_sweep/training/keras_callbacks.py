"""The Keras callbacks that record a fit and that change its learning rate."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from svhn_sweep.config.schema import Schedule, TrainingConfig
from svhn_sweep.training import checkpoint
from svhn_sweep.training.evaluation import Evaluation
from svhn_sweep.training.model import seed_noise
from svhn_sweep.training.result import Log, Metrics, ShouldStop, TrainResult
from svhn_sweep.trial_status import TrialStatus


class EpochRecorder(keras.callbacks.Callback):
    """Seeds, validates, saves and logs each epoch, then asks whether to stop.

    Attributes:
        result: The result so far.
        evaluated_weights: Those of the evaluation in the result: of the best epoch if the fit
            restores it, else of the last one; None before the first epoch.
        epoch: The present epoch, from 0: an int64 variable, which order and augmentation of the
            batches depend on.
    """

    def __init__(
        self,
        config: TrainingConfig,
        seed: int,
        validate: Callable[[], Evaluation],
        log: Log,
        should_stop: ShouldStop,
        checkpoint_path: Path | None,
        with_evaluated_weights: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Creates a recorder without any epoch; the arguments are those of `fit`.

        Args:
            config: The training config.
            seed: The seed of the dropout.
            validate: Evaluates the model on the validation images.
            log: Is called after each epoch.
            should_stop: Is called after `log`.
            checkpoint_path: The file that is rewritten before `log` is called, or None.
            with_evaluated_weights: Lets the model hold the weights that an epoch is evaluated with
                for a while.
        """
        super().__init__()
        self.result = TrainResult()
        self.evaluated_weights: list[NDArray[np.float32]] | None = None
        with tf.device("CPU"):  # as the images
            self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._config, self._seed, self._validate = config, seed, validate
        self._log, self._should_stop, self._checkpoint_path = log, should_stop, checkpoint_path
        self._with_evaluated_weights = with_evaluated_weights
        self._started = 0.0

    def resume(self, saved: checkpoint.Checkpoint) -> None:
        """Continues after a checkpoint; repeats what a kill may have prevented after it.

        Logs all its epochs, since the log may lack the last one, and asks whether to stop.

        Args:
            saved: The checkpoint, of at least one epoch.
        """
        self.result.history = saved.history
        self.evaluated_weights = saved.evaluated_weights
        for epoch, metrics in enumerate(saved.history, start=1):
            self._log(epoch, metrics)
        self._prune_if_asked()

    def on_epoch_begin(self, epoch: int, logs: Metrics | None = None) -> None:
        """Sets the seeds of the epoch, from 0."""
        self._started = time.perf_counter()
        self.epoch.assign(epoch)
        seed_noise(self.model.notebook_model, self._seed, epoch)

    def on_epoch_end(self, epoch: int, logs: Metrics | None = None) -> None:
        """Validates and records the epoch; stops the fit if it diverged or is pruned."""
        assert logs is not None
        with self._with_evaluated_weights():
            evaluation = self._validate()
            weights = self.model.get_weights()
        # for the other callbacks, too
        logs.update(val_loss=evaluation.loss, val_accuracy=evaluation.accuracy)
        if not all(math.isfinite(value) for value in logs.values()):
            self.result.status = TrialStatus.diverged
            self.result.validation = None
            self.model.stop_training = True
            return
        self._record(epoch + 1, self._metrics(logs), evaluation, weights)
        self._prune_if_asked()
        if self.result.status is TrialStatus.pruned:
            self.model.stop_training = True

    def _metrics(self, logs: Metrics) -> Metrics:
        return {
            "train/loss": _shortest_decimal(logs["loss"]),
            "train/accuracy": _shortest_decimal(logs["accuracy"]),
            "val/loss": _shortest_decimal(logs["val_loss"]),
            "val/accuracy": _shortest_decimal(logs["val_accuracy"]),
            "learning_rate": _shortest_decimal(self.model.optimizer.learning_rate),
            "epoch_seconds": round(time.perf_counter() - self._started, 3),
        }

    def _record(
        self,
        epoch: int,
        metrics: Metrics,
        evaluation: Evaluation,
        weights: list[NDArray[np.float32]],
    ) -> None:
        """Adds an epoch, from 1, to the result, the checkpoint and the log, in this order."""
        self.result.history.append(metrics)
        if self.result.best_epoch == epoch or not self._config.restore_best_weights:
            self.evaluated_weights = weights
            self.result.validation = evaluation
        assert self.evaluated_weights is not None  # the first epoch is the best one so far
        if self._checkpoint_path is not None:
            checkpoint.save(
                self._checkpoint_path, self.model, self.result.history, self.evaluated_weights
            )
        self._log(epoch, metrics)

    def _prune_if_asked(self) -> None:
        history = self.result.history
        if self._should_stop(len(history), history[-1]):
            self.result.status = TrialStatus.pruned


def schedule_callbacks(
    config: TrainingConfig, history: list[Metrics]
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that change the learning rate as the config's schedule says.

    Args:
        config: The training config.
        history: The metrics of the epochs that are trained already; empty in a new fit.
    """
    match config.schedule:
        case Schedule.plateau:
            return [ResumedReduceLROnPlateau(config, history)]
        case Schedule.cosine:
            rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.epochs)
            return [keras.callbacks.LearningRateScheduler(lambda epoch, _: float(rate(epoch)))]
        case Schedule.constant:
            return []


class ResumedReduceLROnPlateau(keras.callbacks.ReduceLROnPlateau):
    """Keras' callback; at the beginning it replays the epochs before the fit was resumed."""

    def __init__(self, config: TrainingConfig, history: list[Metrics]) -> None:
        """Creates the callback.

        Args:
            config: The training config.
            history: The metrics of the epochs that are trained already; empty in a new fit.
        """
        plateau = config.reduce_on_plateau
        super().__init__(
            "val_loss", plateau.factor, plateau.patience, min_lr=plateau.min_learning_rate
        )
        self._learning_rate = config.learning_rate
        self._history = history

    def on_train_begin(self, logs: Metrics | None = None) -> None:
        """Sets the learning rate to what it was after the last epoch of the history."""
        super().on_train_begin(logs)
        self.model.optimizer.learning_rate = self._learning_rate
        for epoch, metrics in enumerate(self._history):
            self.on_epoch_end(epoch, {"val_loss": float(np.float32(metrics["val/loss"]))})


def _shortest_decimal(number: float) -> float:
    """A float32 in its shortest decimal form: 0.001, not its exact value 0.0010000000474974513."""
    return float(str(np.float32(number)))
