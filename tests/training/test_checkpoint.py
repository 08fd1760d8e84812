"""Fits that are killed and resumed.

The tests of the sweep do this with real processes and SIGKILL.
"""

import os
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from svhn_sweep.config.schema import (
    AugmentationConfig,
    ModelConfig,
    PlateauConfig,
    Precision,
    Schedule,
    TrainingConfig,
)
from svhn_sweep.data.synthetic import generate
from svhn_sweep.errors import DataError
from svhn_sweep.training import checkpoint
from svhn_sweep.training.fit import fit
from svhn_sweep.training.model import build_model
from svhn_sweep.training.progress import Progress
from svhn_sweep.training.result import Log, Metrics, ShouldStop, TrainResult
from svhn_sweep.trial_status import TrialStatus

Arrays = tuple[np.ndarray, np.ndarray]
Fitted = tuple[keras.Model, TrainResult]

NO_AUGMENTATION = AugmentationConfig(enabled=False, shift=0, rotation=0, zoom=0)
AUGMENTATION = AugmentationConfig(enabled=True, shift=0.1, rotation=0.03, zoom=0.1)
PLATEAU = PlateauConfig(factor=0.5, patience=0, min_learning_rate=0)
PLAIN = ModelConfig(
    name="plain",
    filters={"conv1": 2, "conv2": 2},
    batch_norm=False,
    dense_units=4,
    dropout=0,
    leaky_relu_slope=0.1,
)
STATEFUL = replace(PLAIN, batch_norm=True, dropout=0.3)
TRAINING = TrainingConfig(
    epochs=4,
    batch_size=16,
    learning_rate=0.02,
    restore_best_weights=True,
    precision=Precision.float32,
    schedule=Schedule.plateau,
    reduce_on_plateau=PLATEAU,
    weight_decay=0,
    label_smoothing=0,
    ema_momentum=0,
    augmentation=NO_AUGMENTATION,
)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def digits() -> Arrays:
    """64 synthetic digits, float32 [64, 32, 32, 1] in 0..255, and their labels."""
    images, labels = generate(64, seed=(7, 64))
    return images[..., None], labels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.npz"


def log_nothing(epoch: int, metrics: Metrics) -> None: ...


def never_stop(epoch: int, metrics: Metrics) -> bool:
    return False


def fitted(
    digits: Arrays,
    path: Path | None = None,
    training: TrainingConfig = TRAINING,
    model: ModelConfig = PLAIN,
    log: Log = log_nothing,
    should_stop: ShouldStop = never_stop,
) -> Fitted:
    built = build_model(model, training.precision, 42)
    images, labels = digits
    train = images[:48], labels[:48]
    validation = images[48:], labels[48:]
    return built, fit(built, train, validation, training, 42, log, should_stop, path)


def killed_in_log(killed_epoch: int) -> Log:
    def log(epoch: int, metrics: Metrics) -> None:
        if epoch == killed_epoch:
            raise Killed

    return log


def kill_in_save(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save

    def killed_save(
        path: Path, model: keras.Model, history: list[Metrics], judged: list[np.ndarray]
    ) -> None:
        if len(history) == epoch:
            raise Killed
        save(path, model, history, judged)

    monkeypatch.setattr(checkpoint, "save", killed_save)


def refuse_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*arguments: object, **options: object) -> None:
        pytest.fail("Model.fit was called.")

    monkeypatch.setattr(keras.Model, "fit", train)


def assert_equal(first: Fitted, second: Fitted) -> None:
    """Compares all weights, the random states, and the history without its times."""
    model, result = first
    other_model, other_result = second
    assert result.status is other_result.status
    assert without_times(result) == without_times(other_result)
    assert result.validation is not None
    assert other_result.validation is not None
    assert np.array_equal(result.validation.probabilities, other_result.validation.probabilities)
    for a, b in zip(model.variables, other_model.variables, strict=True):
        assert (np.asarray(a.numpy()) == np.asarray(b.numpy())).all(), a.path


def without_times(result: TrainResult) -> list[Metrics]:
    return [
        {name: value for name, value in epoch.items() if name != "epoch_seconds"}
        for epoch in result.history
    ]


# each of the four ways to end, and of the three moments, once or twice
@pytest.mark.parametrize(
    ("restore", "momentum", "killed_in", "epoch"),
    [
        pytest.param(False, 0, "save", 3, id="last weights"),
        pytest.param(True, 0, "log", 4, id="best weights"),
        pytest.param(False, 0.8, "log", 1, id="last average"),
        pytest.param(True, 0.8, "save", 3, id="best average"),
    ],
)
def test_a_resumed_fit_equals_an_uninterrupted_one(
    digits: Arrays,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    restore: bool,
    momentum: float,
    killed_in: str,
    epoch: int,
) -> None:
    noisy = replace(
        TRAINING,
        augmentation=AUGMENTATION,
        weight_decay=0.01,
        label_smoothing=0.1,
        restore_best_weights=restore,
        ema_momentum=momentum,
    )
    model, result = fitted(digits, None, noisy, STATEFUL)
    if restore:
        assert result.best_epoch != 4  # else the best weights are the last ones
    assert len({epoch["learning_rate"] for epoch in result.history}) > 1
    with monkeypatch.context() as patch:
        if killed_in == "save":
            kill_in_save(epoch, patch)
        with pytest.raises(Killed):
            fitted(digits, path, noisy, STATEFUL, log=killed_in_log(epoch))
    assert path.exists()
    assert_equal(fitted(digits, path, noisy, STATEFUL), (model, result))


@pytest.mark.parametrize("precision", [Precision.mixed_bfloat16, Precision.mixed_float16])
def test_a_fit_that_is_resumed_several_times_equals_an_uninterrupted_one(
    digits: Arrays, path: Path, precision: Precision
) -> None:
    training = replace(TRAINING, epochs=3, precision=precision)
    for epoch in (1, 2):
        with pytest.raises(Killed):
            fitted(digits, path, training, log=killed_in_log(epoch))
        with pytest.raises(Killed):  # while it resumes
            fitted(digits, path, training, log=killed_in_log(epoch))
    assert_equal(fitted(digits, path, training), fitted(digits, None, training))


def test_a_resumed_fit_follows_the_cosine_as_an_uninterrupted_one(
    digits: Arrays, path: Path
) -> None:
    training = replace(TRAINING, schedule=Schedule.cosine)
    with pytest.raises(Killed):
        fitted(digits, path, training, log=killed_in_log(2))
    assert_equal(fitted(digits, path, training), fitted(digits, None, training))


@pytest.mark.parametrize(
    ("patience", "killed_after", "rates"),
    [
        (0, 2, [1, 1, 1 / 2, 1 / 4, 1 / 8]),
        (1, 3, [1, 1, 1 / 2, 1 / 4, 1 / 8]),  # in Keras the same as 0
        (
            2,
            2,
            [1, 1, 1, 1 / 2, 1 / 2],
        ),  # one epoch without improvement before the kill, one after it
        (2, 3, [1, 1, 1, 1 / 2, 1 / 2]),  # the rate falls after the checkpoint
    ],
)
def test_a_resumed_fit_reduces_the_learning_rate_as_an_uninterrupted_one(
    digits: Arrays, path: Path, patience: int, killed_after: int, rates: list[float]
) -> None:
    initial = 2.0**-40  # too small to learn anything: no epoch is better than the first
    training = replace(
        TRAINING,
        epochs=5,
        learning_rate=initial,
        reduce_on_plateau=replace(PLATEAU, patience=patience),
    )
    with pytest.raises(Killed):
        fitted(digits, path, training, log=killed_in_log(killed_after))
    _, result = fitted(digits, path, training)
    assert [epoch["learning_rate"] / initial for epoch in result.history] == pytest.approx(rates)


def test_a_resumed_fit_logs_all_epochs_and_asks_whether_to_stop_after_the_last_one(
    digits: Arrays, path: Path
) -> None:
    with pytest.raises(Killed):
        fitted(digits, path, log=killed_in_log(2))
    calls: list[tuple[str, int, Metrics]] = []

    def log(epoch: int, metrics: Metrics) -> None:
        calls.append(("log", epoch, metrics))

    def should_stop(epoch: int, metrics: Metrics) -> bool:
        calls.append(("ask", epoch, metrics))
        return False

    _, result = fitted(digits, path, log=log, should_stop=should_stop)
    order = [("log", 1), ("log", 2), ("ask", 2), ("log", 3), ("ask", 3), ("log", 4), ("ask", 4)]
    assert calls == [(name, epoch, result.history[epoch - 1]) for name, epoch in order]


def test_a_complete_fit_is_not_trained_again(
    digits: Arrays, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = fitted(digits, path)
    refuse_training(monkeypatch)
    again = fitted(digits, path)
    assert [weights.tolist() for weights in again[0].get_weights()] == [
        weights.tolist() for weights in complete[0].get_weights()
    ]
    assert again[1] == complete[1]


def test_a_fit_that_is_pruned_when_it_resumes_trains_no_further_epoch(
    digits: Arrays, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = fitted(digits, should_stop=lambda epoch, metrics: epoch == 2)
    with pytest.raises(Killed):
        fitted(digits, path, log=killed_in_log(2))
    refuse_training(monkeypatch)
    again = fitted(digits, path, should_stop=lambda epoch, metrics: epoch == 2)
    assert again[1].status is TrialStatus.pruned
    assert_equal(again, pruned)


def test_a_resumed_fit_diverges_in_the_same_epoch(digits: Arrays, path: Path) -> None:
    def diverged() -> TrainResult:
        model = build_model(PLAIN, Precision.float32, 42)

        def log(epoch: int, metrics: Metrics) -> None:
            if epoch == 2:
                model.layers[-1].bias.assign(np.full(10, np.nan))

        return fit(model, digits, digits, TRAINING, 42, log, never_stop, path)

    first = diverged()
    assert first.status is TrialStatus.diverged
    assert len(first.history) == 2
    assert first.validation is None
    assert diverged() == first  # with its times: the history is that of the checkpoint


@pytest.mark.parametrize(("sync", "epochs"), [(3, 1), (4, 2)], ids=["of the file", "of the folder"])
def test_a_crash_while_writing_leaves_a_whole_checkpoint(
    digits: Arrays, path: Path, monkeypatch: pytest.MonkeyPatch, sync: int, epochs: int
) -> None:
    """Each epoch syncs twice: the new file before it replaces the old one, then the folder."""
    syncs: list[int] = []
    logged: list[int] = []

    def fsync(descriptor: int) -> None:
        syncs.append(descriptor)
        if len(syncs) == sync:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(Killed):
            fitted(digits, path, log=lambda epoch, metrics: logged.append(epoch))
    assert logged == [1]
    assert list(path.parent.iterdir()) == [path]
    _, result = fitted(digits, path, should_stop=lambda epoch, metrics: True)
    assert len(result.history) == epochs


def write_checkpoint(digits: Arrays, path: Path) -> bytes:
    fitted(digits, path, replace(TRAINING, epochs=1))
    return path.read_bytes()


def test_a_damaged_checkpoint_is_refused_and_kept(
    digits: Arrays, path: Path, tmp_path: Path
) -> None:
    whole = write_checkpoint(digits, path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "others.npz", weights=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", history=np.array([Path()], dtype=object))
    flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    damaged = [b"", b"text", whole[:100], whole[:-100], whole[:-1], flipped]
    damaged += [
        (tmp_path / name).read_bytes() for name in ("array.npy", "others.npz", "pickle.npz")
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=r"checkpoint\.npz must be a checkpoint but cannot be read .*; remove"
        ):
            fitted(digits, path)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            replace(PLAIN, dense_units=5),
            r"model/4 is float32 \[512, 4\] where the model's is float32 \[512, 5\]",
        ),
        (
            replace(PLAIN, dropout=0.3),
            r"model/6 is float32 \[4, 10\] where the model's is int64 \[2\]",
        ),
        (
            replace(PLAIN, filters=PLAIN.filters | {"conv3": 2, "conv4": 2}),
            r"model/4 is float32 \[512, 4\] where .* \[3, 3, 2, 2\]",
        ),
    ],
)
def test_another_models_checkpoint_is_refused(
    digits: Arrays, path: Path, model: ModelConfig, message: str
) -> None:
    write_checkpoint(digits, path)
    with pytest.raises(
        DataError, match=rf"checkpoint\.npz must hold a checkpoint of this model but its {message}"
    ):
        fitted(digits, path, model=model)


def test_the_progress_of_a_resumed_fit_begins_after_its_last_epoch(
    digits: Arrays, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Killed):
        fitted(digits, path, log=killed_in_log(3))
    capsys.readouterr()
    fitted(digits, path)
    assert [line[:9] for line in capsys.readouterr().out.splitlines()] == ["epoch 4/4"]
    assert Progress(epochs=4, steps=3, epochs_done=3).bars.tasks[0].completed == 3
