"""Fit a model and say how it went, epoch by epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from svhn_sweep.config.schema import Precision, TrainingConfig
from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.training import checkpoint as checkpoints
from svhn_sweep.training.evaluation import Evaluation, evaluate, predictor
from svhn_sweep.training.progress import Progress
from svhn_sweep.trial_status import TrialStatus

Metrics = dict[str, float]
Log = Callable[[int, Metrics], None]
ShouldStop = Callable[[int, Metrics], bool]

JIT_COMPILE: bool | Literal["auto"] = "auto"  # by XLA: Keras' own choice, which is yes on a GPU
STEPS_PER_CALL = (
    16  # of TensorFlow, at most: fewer cost more time in Python (one: 14 % of model1's),
)
IMAGES_PER_CALL = 512  # and more images have whoever stops a wide model wait for seconds


@dataclass
class TrainResult:
    """What a fit leaves behind.

    Attributes:
        status: how it ended: complete, pruned or diverged.
        history: one entry per epoch whose loss was finite: train/loss, train/accuracy, val/loss,
            val/accuracy (accuracies in 0..1), learning_rate (that the epoch used) and epoch_seconds
            (training and validation).
        validation: how the weights that the model holds do on validation; None if it diverged.
    """

    status: TrialStatus = TrialStatus.complete
    history: list[Metrics] = field(default_factory=list)
    validation: Evaluation | None = field(default=None, compare=False)  # == of arrays is no truth

    @property
    def best_epoch(self) -> int:
        """The first epoch, from 1, with the highest validation accuracy; 0 if no epoch was
        finished.
        """
        accuracies = [epoch["val/accuracy"] for epoch in self.history]
        return accuracies.index(max(accuracies)) + 1 if accuracies else 0


def fit(
    model: keras.Model,
    train: tuple[Images, Labels],
    validation: tuple[Images, Labels],
    config: TrainingConfig,
    seed: int,
    log: Log = lambda epoch, metrics: None,
    should_stop: ShouldStop = lambda epoch, metrics: False,
    checkpoint: Path | None = None,
) -> TrainResult:
    """Train as the notebook does: Adam, categorical cross-entropy, a new order of the images in
    each epoch.

    The order of the batches and the noise of dropout and augmentation depend on (seed, epoch)
    alone, not on what was drawn before. So a fit that was killed, whenever that was, and is called
    again with equal arguments ends with the weights and the history (but for epoch_seconds) of one
    that was not.

    Args:
        model: untrained; holds the last epoch's weights afterwards, or the best one's with
            `restore_best_weights`.
        train: images and labels to learn from.
        validation: images and labels to judge each epoch by.
        config: how.
        seed: of batch order and noise.
        log: called with the epoch, from 1, and its metrics, as they become known. A fit that goes
            on first repeats all epochs of its checkpoint, of which the log may lack the last:
            ignore those that are known already.
        should_stop: called after `log` with the same; true ends the fit as pruned. A fit that goes
            on first asks again about the last epoch of its checkpoint, and only that.
        checkpoint: a file, rewritten after each epoch, before `log` is called; if it exists, the
            fit goes on after its last epoch. It stays there for the caller to remove.

    Raises:
        DataError: the checkpoint is damaged or of another model.
    """
    _compile(model, config)
    result = TrainResult()
    predict = predictor(model)

    def validate() -> Evaluation:
        return evaluate(predict, *validation, "validation")

    recorder = _Recorder(result, config, seed, validate, log, should_stop, checkpoint)
    if checkpoint is not None and checkpoint.exists():
        recorder.go_on_after(checkpoints.load(checkpoint, model))
    if result.status is TrialStatus.complete and len(result.history) < config.epochs:
        _train(model, train, config, seed, recorder)
    if recorder.best_weights is not None:
        model.set_weights(recorder.best_weights)
    if (
        result.validation is None and result.status is not TrialStatus.diverged
    ):  # its weights are those of the checkpoint
        result.validation = validate()
    return result


def _compile(model: keras.Model, config: TrainingConfig) -> None:
    optimizer = keras.optimizers.Adam(config.learning_rate)
    if config.precision == Precision.mixed_float16:
        # Small gradients are 0 in float16. Keras would see to it by itself if the precision were
        # the whole model's.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer, loss="categorical_crossentropy", metrics=["accuracy"], jit_compile=JIT_COMPILE
    )
    # Variables that the first step has to make would have TensorFlow trace it a second time, for
    # 0.8 s.
    optimizer.build(model.trainable_variables)
    model.compute_metrics(None, tf.one_hot([0], 10), tf.one_hot([0], 10))


def _train(
    model: keras.Model,
    train: tuple[Images, Labels],
    config: TrainingConfig,
    seed: int,
    recorder: "_Recorder",
) -> None:
    """The epochs after those in the recorder's history."""
    history = recorder.result.history
    done = len(history)
    steps = math.ceil(len(train[0]) / config.batch_size)
    with Progress(config.epochs, steps, done) as progress:
        callbacks: list[keras.callbacks.Callback] = [
            keras.callbacks.TerminateOnNaN(),
            recorder,
            progress,
        ]
        if config.reduce_on_plateau.enabled:
            callbacks.append(_ReduceOnPlateau(config, history))
        model.steps_per_execution = max(
            1, min(STEPS_PER_CALL, IMAGES_PER_CALL // config.batch_size)
        )
        model.fit(
            _batches(*train, config.batch_size, seed, recorder.epoch),
            initial_epoch=done,
            epochs=config.epochs,
            callbacks=callbacks,
            shuffle=False,  # the batches already come in their order
            verbose=0,
        )


def _batches(
    images: Images, labels: Labels, batch_size: int, seed: int, epoch: tf.Variable
) -> tf.data.Dataset:
    """The batches of one epoch, in an order of (seed, epoch), drawn anew whenever they are iterated
    over.

    A data set of a known length, because Keras takes several steps at a time of no other one
    without tripping over its end.
    """
    with tf.device("CPU"):  # where the batches are put together
        # tf.constant holds memory for twice the images
        x = tf.identity(images)
        y = tf.constant(_one_hot(labels))

    def shuffled(_: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(images)), seed=[tf.cast(seed, tf.int64), epoch]
        )
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    indices = tf.data.Dataset.range(1).flat_map(shuffled)
    indices = indices.apply(
        tf.data.experimental.assert_cardinality(math.ceil(len(images) / batch_size))
    )
    options = tf.data.Options()
    options.autotune.enabled = (
        False  # its thread sleeps ever longer, and the end of the fit waits for it: up to 40 s
    )
    return (
        indices.map(lambda index: (tf.gather(x, index), tf.gather(y, index)))
        .prefetch(2)
        .with_options(options)
    )


def seed_noise(model: keras.Model, seed: int, epoch: int) -> None:
    """Let dropout and augmentation of an epoch, from 0, depend on (seed, epoch) alone, each
    layer for itself.
    """
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    words = np.random.SeedSequence((seed, epoch)).generate_state(2 * len(states))
    for state, own in zip(states, words.reshape(-1, 2), strict=True):
        state.assign(own)


def _one_hot(labels: Labels) -> NDArray[np.float32]:
    return np.asarray(keras.utils.to_categorical(labels, 10), dtype=np.float32)


def _decimal(number: float) -> float:
    """A float32 in its shortest decimal form: 0.001, where its exact value is
    0.0010000000474974513.
    """
    return float(str(np.float32(number)))


class _ReduceOnPlateau(keras.callbacks.ReduceLROnPlateau):
    """Keras' callback, which sees the epochs that are done first, as if it had been there."""

    def __init__(self, config: TrainingConfig, history: list[Metrics]) -> None:
        plateau = config.reduce_on_plateau
        super().__init__(
            "val_loss", plateau.factor, plateau.patience, min_lr=plateau.min_learning_rate
        )
        self.learning_rate = config.learning_rate
        self.history = history

    def on_train_begin(self, logs: Metrics | None = None) -> None:
        super().on_train_begin(logs)
        self.model.optimizer.learning_rate = self.learning_rate
        for epoch, metrics in enumerate(self.history):
            self.on_epoch_end(epoch, {"val_loss": float(np.float32(metrics["val/loss"]))})


class _Recorder(keras.callbacks.Callback):
    """Seeds each epoch, judges it, records its metrics, asks whether to go on, keeps the best
    weights if wanted.
    """

    def __init__(
        self,
        result: TrainResult,
        config: TrainingConfig,
        seed: int,
        validate: Callable[[], Evaluation],
        log: Log,
        should_stop: ShouldStop,
        checkpoint: Path | None,
    ) -> None:
        super().__init__()
        self.result, self.config, self.seed, self.validate = result, config, seed, validate
        self.log, self.should_stop, self.checkpoint = log, should_stop, checkpoint
        self.best_weights: list[NDArray[np.float32]] | None = None
        self.started = 0.0
        with tf.device("CPU"):  # as the images
            self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)

    def go_on_after(self, known: checkpoints.Checkpoint) -> None:
        """Repeat what a kill may have cut off after the checkpoint: the log of its last epoch,
        and the question.
        """
        self.result.history = known.history
        self.best_weights = known.best_weights
        for epoch, metrics in enumerate(known.history, start=1):
            self.log(epoch, metrics)
        self._ask()

    def on_epoch_begin(self, epoch: int, logs: Metrics | None = None) -> None:
        self.started = time.perf_counter()
        self.epoch.assign(epoch)
        seed_noise(self.model, self.seed, epoch)

    def on_epoch_end(self, epoch: int, logs: Metrics | None = None) -> None:
        assert logs is not None
        evaluation = self.validate()
        logs.update(
            val_loss=evaluation.loss, val_accuracy=evaluation.accuracy
        )  # for the other callbacks, too
        if not all(math.isfinite(value) for value in logs.values()):
            self.result.status = TrialStatus.diverged
            self.result.validation = None
            self.model.stop_training = True
            return
        metrics = {
            "train/loss": _decimal(logs["loss"]),
            "train/accuracy": _decimal(logs["accuracy"]),
            "val/loss": _decimal(logs["val_loss"]),
            "val/accuracy": _decimal(logs["val_accuracy"]),
            "learning_rate": _decimal(self.model.optimizer.learning_rate),
            "epoch_seconds": time.perf_counter() - self.started,
        }
        self.result.history.append(metrics)
        if not self.config.restore_best_weights:
            self.result.validation = evaluation
        elif self.result.best_epoch == epoch + 1:
            self.best_weights = self.model.get_weights()
            self.result.validation = evaluation
        if self.checkpoint is not None:
            checkpoints.save(self.checkpoint, self.model, self.result.history, self.best_weights)
        self.log(epoch + 1, metrics)
        self._ask()
        if self.result.status is TrialStatus.pruned:
            self.model.stop_training = True

    def _ask(self) -> None:
        history = self.result.history
        if self.should_stop(len(history), history[-1]):
            self.result.status = TrialStatus.pruned
