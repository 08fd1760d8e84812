"""Trains a model with Keras, epoch by epoch; an interrupted fit resumes from its checkpoint."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

import keras
import tensorflow as tf

from svhn_sweep.config.data_sources import CLASSES
from svhn_sweep.config.schema import Precision, TrainingConfig
from svhn_sweep.data.splits import Images, Labels
from svhn_sweep.training import checkpoint
from svhn_sweep.training.averaged_weights import averaged_weights
from svhn_sweep.training.batches import training_batches
from svhn_sweep.training.evaluation import Evaluation, evaluate, predictor
from svhn_sweep.training.fast_model import FastModel, FusedAdam
from svhn_sweep.training.keras_callbacks import EpochRecorder, schedule_callbacks
from svhn_sweep.training.progress import Progress
from svhn_sweep.training.result import Log, ShouldStop, TrainResult
from svhn_sweep.trial_status import TrialStatus

# Keras chooses XLA on a GPU unless its operations are deterministic, which device.py makes them.
JIT_COMPILE: bool | Literal["auto"] = "auto"
# Steps in one call of TensorFlow: fewer cost more time in Python (one: 14 % of model1's); with more
# images in one call, a wide model would take seconds to stop.
MAX_STEPS_PER_CALL = 16
MAX_IMAGES_PER_CALL = 512


def fit(
    model: keras.Sequential,
    train: tuple[Images, Labels],
    validation: tuple[Images, Labels],
    config: TrainingConfig,
    seed: int,
    log: Log = lambda epoch, metrics: None,
    should_stop: ShouldStop = lambda epoch, metrics: False,
    checkpoint_path: Path | None = None,
) -> TrainResult:
    """Trains as the notebook does: Adam, categorical cross-entropy, a new order in each epoch.

    The order of the batches, dropout and augmentation depend on (seed, epoch) alone. So a fit that
    was killed and is called again with equal arguments ends with the same weights and history,
    `epoch_seconds` apart, as an uninterrupted one.

    Args:
        model: From `build_model`, untrained; afterwards it holds the weights of the last epoch, or
            of the best one if `restore_best_weights`; with `ema_momentum` their average.
        train: Images and labels to train on.
        validation: Images and labels to evaluate each epoch on.
        config: How to train.
        seed: The seed of batch order, dropout and augmentation.
        log: Is called after each epoch with its number, from 1, and its metrics. A resumed fit
            first calls it for all epochs of its checkpoint again.
        should_stop: Is called after `log`; True ends the fit as pruned. A resumed fit first calls
            it for the last epoch of its checkpoint again.
        checkpoint_path: Rewritten after each epoch before `log` is called; resumed if it exists.

    Returns:
        The status, the history and the evaluation of the weights that the model holds.

    Raises:
        DataError: The checkpoint is damaged or of another model.
    """
    fast_model = _compiled(model, config)
    validate = partial(evaluate, predictor(fast_model), *validation, "validation")
    average = partial(averaged_weights, fast_model, train[0])
    with_evaluated_weights = average if config.ema_momentum > 0 else nullcontext
    recorder = EpochRecorder(
        config, seed, validate, log, should_stop, checkpoint_path, with_evaluated_weights
    )
    if checkpoint_path is not None and checkpoint_path.exists():
        recorder.resume(checkpoint.load(checkpoint_path, fast_model))
    result = recorder.result
    if result.status is TrialStatus.complete and len(result.history) < config.epochs:
        _train(fast_model, train, config, seed, recorder)
    return _final_result(model, recorder, validate)


def _final_result(
    model: keras.Sequential, recorder: EpochRecorder, validate: Callable[[], Evaluation]
) -> TrainResult:
    """Gives the model the evaluated weights, and validates them if no epoch has done it."""
    result = recorder.result
    if recorder.evaluated_weights is not None:
        model.set_weights(recorder.evaluated_weights)
    if result.validation is None and result.status is not TrialStatus.diverged:
        result.validation = validate()  # the weights are the checkpoint's
    return result


def _compiled(notebook_model: keras.Sequential, config: TrainingConfig) -> FastModel:
    model = FastModel(notebook_model)
    optimizer = _optimizer(config)
    if config.precision == Precision.mixed_float16:
        # Small gradients are 0 in float16. Keras scales the loss by itself only if the precision
        # is the whole model's.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    steps = max(1, min(MAX_STEPS_PER_CALL, MAX_IMAGES_PER_CALL // config.batch_size))
    model.compile(
        optimizer, loss, metrics=["accuracy"], steps_per_execution=steps, jit_compile=JIT_COMPILE
    )
    # Otherwise the first step creates these variables, and TensorFlow traces it a second time,
    # which takes 0.8 s.
    optimizer.build(model.trainable_variables)
    model.compute_metrics(None, tf.one_hot([0], CLASSES), tf.one_hot([0], CLASSES))
    return model


def _optimizer(config: TrainingConfig) -> FusedAdam:
    optimizer = FusedAdam(
        config.learning_rate,
        weight_decay=config.weight_decay or None,  # 0 would take time for nothing
        use_ema=config.ema_momentum > 0,
        ema_momentum=config.ema_momentum,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _train(
    model: FastModel,
    train: tuple[Images, Labels],
    config: TrainingConfig,
    seed: int,
    recorder: EpochRecorder,
) -> None:
    """Trains the epochs after those in the recorder's history."""
    history = recorder.result.history
    epochs_done = len(history)
    batches = training_batches(*train, config.batch_size, config.augmentation, seed, recorder.epoch)
    progress = Progress(config.epochs, len(batches), epochs_done)
    # The recorder comes first: it adds the validation metrics that the others read, and logs the
    # learning rate before the plateau reduces it.
    callbacks = [
        keras.callbacks.TerminateOnNaN(),
        recorder,
        progress,
        *schedule_callbacks(config, history),
    ]
    with progress.bars:
        model.fit(
            batches,
            initial_epoch=epochs_done,
            epochs=config.epochs,
            callbacks=callbacks,
            shuffle=False,  # the batches already come in their order
            verbose=0,
        )
