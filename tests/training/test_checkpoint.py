"""A fit that was killed and is started again; with real processes and SIGKILL, this is tested
with the sweep.
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
    TrainingConfig,
)
from svhn_sweep.data.synthetic import draw
from svhn_sweep.errors import DataError
from svhn_sweep.training import checkpoint as checkpoints
from svhn_sweep.training.fit import Log, Metrics, ShouldStop, TrainResult, fit
from svhn_sweep.training.model import build_model
from svhn_sweep.training.progress import Progress
from svhn_sweep.trial_status import TrialStatus

Arrays = tuple[np.ndarray, np.ndarray]
Fitted = tuple[keras.Model, TrainResult]

NO_NOISE = AugmentationConfig(enabled=False, shift=0, rotation=0, zoom=0)
ALL_NOISE = AugmentationConfig(enabled=True, shift=0.1, rotation=0.03, zoom=0.1)
PLATEAU = PlateauConfig(enabled=True, factor=0.5, patience=0, min_learning_rate=0)
PLAIN = ModelConfig(
    name="plain",
    filters={"conv1": 2, "conv2": 2},
    batch_norm=False,
    dense_units=4,
    dropout=0,
    leaky_relu_slope=0.1,
)
WITH_STATE = replace(PLAIN, batch_norm=True, dropout=0.3)
TRAINING = TrainingConfig(
    epochs=4,
    batch_size=16,
    learning_rate=0.02,
    restore_best_weights=True,
    precision=Precision.float32,
    reduce_on_plateau=PLATEAU,
    augmentation=NO_NOISE,
)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def digits() -> Arrays:
    """64 synthetic digits, float32 [64, 32, 32, 1] in 0..255, and their labels."""
    images, labels = draw(64, seed=(7, 64))
    return images[..., None], labels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.npz"


def nothing(epoch: int, metrics: Metrics) -> None: ...


def never(epoch: int, metrics: Metrics) -> bool:
    return False


def fitted(
    digits: Arrays,
    checkpoint: Path | None = None,
    training: TrainingConfig = TRAINING,
    model: ModelConfig = PLAIN,
    log: Log = nothing,
    should_stop: ShouldStop = never,
) -> Fitted:
    built = build_model(model, training.augmentation, training.precision, 42)
    train, validation = (digits[0][:48], digits[1][:48]), (digits[0][48:], digits[1][48:])
    return built, fit(built, train, validation, training, 42, log, should_stop, checkpoint)


def killed_in_log(epoch: int) -> Log:
    def log(now: int, metrics: Metrics) -> None:
        if now == epoch:
            raise Killed

    return log


def kill_in_save(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoints.save

    def killed(
        path: Path, model: keras.Model, history: list[Metrics], best: list[np.ndarray] | None
    ) -> None:
        if len(history) == epoch:
            raise Killed
        save(path, model, history, best)

    monkeypatch.setattr(checkpoints, "save", killed)


def refuse_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*arguments: object, **options: object) -> None:
        pytest.fail("Model.fit was called.")

    monkeypatch.setattr(keras.Model, "fit", train)


def assert_equal(one: Fitted, other: Fitted) -> None:
    """All weights, the seeds of the noise, and the history but for its times."""
    assert one[1].status is other[1].status
    assert without_times(one[1]) == without_times(other[1])
    assert one[1].validation is not None
    assert other[1].validation is not None
    assert np.array_equal(one[1].validation.probabilities, other[1].validation.probabilities)
    for a, b in zip(one[0].variables, other[0].variables, strict=True):
        assert (np.asarray(a.numpy()) == np.asarray(b.numpy())).all(), a.path


def without_times(result: TrainResult) -> list[Metrics]:
    return [
        {name: value for name, value in epoch.items() if name != "epoch_seconds"}
        for epoch in result.history
    ]


@pytest.fixture(scope="module", params=[False, True], ids=["last weights", "best weights"])
def noisy(request: pytest.FixtureRequest) -> TrainingConfig:
    return replace(TRAINING, augmentation=ALL_NOISE, restore_best_weights=request.param)


@pytest.fixture(scope="module")
def uninterrupted(digits: Arrays, noisy: TrainingConfig) -> Fitted:
    model, result = fitted(digits, None, noisy, WITH_STATE)
    assert result.best_epoch != 4  # else the best weights are the last ones
    assert len({epoch["learning_rate"] for epoch in result.history}) > 1
    return model, result


@pytest.mark.parametrize(("place", "epoch"), [("log", 1), ("save", 3), ("log", 4)], ids=str)
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(
    digits: Arrays,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    noisy: TrainingConfig,
    uninterrupted: Fitted,
    place: str,
    epoch: int,
) -> None:
    with monkeypatch.context() as patch:
        if place == "save":
            kill_in_save(epoch, patch)
        with pytest.raises(Killed):
            fitted(digits, path, noisy, WITH_STATE, log=killed_in_log(epoch))
    assert path.exists()
    assert_equal(fitted(digits, path, noisy, WITH_STATE), uninterrupted)


@pytest.mark.parametrize("precision", [Precision.mixed_bfloat16, Precision.mixed_float16])
def test_a_fit_killed_again_and_again_ends_as_if_it_had_not_been(
    digits: Arrays, path: Path, precision: Precision
) -> None:
    training = replace(TRAINING, epochs=3, precision=precision)
    for epoch in (1, 2):
        with pytest.raises(Killed):
            fitted(digits, path, training, log=killed_in_log(epoch))
        with pytest.raises(Killed):  # before it has trained on
            fitted(digits, path, training, log=killed_in_log(epoch))
    assert_equal(fitted(digits, path, training), fitted(digits, None, training))


@pytest.mark.parametrize(
    ("patience", "killed_after", "rates"),
    [
        (0, 2, [1, 1, 1 / 2, 1 / 4, 1 / 8]),
        (1, 3, [1, 1, 1 / 2, 1 / 4, 1 / 8]),  # in Keras the same as 0
        (2, 2, [1, 1, 1, 1 / 2, 1 / 2]),  # one epoch was waited, one is to come
        (2, 3, [1, 1, 1, 1 / 2, 1 / 2]),  # the rate falls after the checkpoint
    ],
)
def test_the_learning_rate_falls_as_if_nothing_had_happened(
    digits: Arrays, path: Path, patience: int, killed_after: int, rates: list[float]
) -> None:
    still = 2.0**-40  # too small to learn anything: no epoch is better than the first
    training = replace(
        TRAINING,
        epochs=5,
        learning_rate=still,
        reduce_on_plateau=replace(PLATEAU, patience=patience),
    )
    with pytest.raises(Killed):
        fitted(digits, path, training, log=killed_in_log(killed_after))
    _, result = fitted(digits, path, training)
    assert [epoch["learning_rate"] / still for epoch in result.history] == pytest.approx(rates)


def test_going_on_it_logs_all_known_epochs_and_asks_about_the_last_one(
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


def test_what_is_complete_is_not_trained_again(
    digits: Arrays, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = fitted(digits, path)
    refuse_training(monkeypatch)
    again = fitted(digits, path)
    assert [value.tolist() for value in again[0].get_weights()] == [
        w.tolist() for w in complete[0].get_weights()
    ]
    assert again[1] == complete[1]


def test_what_is_told_to_stop_is_not_trained_on(
    digits: Arrays, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = fitted(digits, should_stop=lambda epoch, metrics: epoch == 2)
    with pytest.raises(Killed):
        fitted(digits, path, log=killed_in_log(2))
    refuse_training(monkeypatch)
    again = fitted(digits, path, should_stop=lambda epoch, metrics: epoch == 2)
    assert again[1].status is TrialStatus.pruned
    assert_equal(again, pruned)


def test_what_diverges_diverges_again_in_the_same_epoch(digits: Arrays, path: Path) -> None:
    def diverged() -> TrainResult:
        model = build_model(PLAIN, NO_NOISE, Precision.float32, 42)

        def log(epoch: int, metrics: Metrics) -> None:
            if epoch == 2:
                model.layers[-1].bias.assign(np.full(10, np.nan))

        return fit(model, digits, digits, TRAINING, 42, log, never, path)

    first = diverged()
    assert first.status is TrialStatus.diverged
    assert len(first.history) == 2
    assert first.validation is None
    assert diverged() == first  # with its times: the history is that of the checkpoint


@pytest.mark.parametrize(("sync", "held"), [(3, 1), (4, 2)], ids=["of the file", "of the folder"])
def test_a_crash_while_writing_leaves_one_checkpoint_whole(
    digits: Arrays, path: Path, monkeypatch: pytest.MonkeyPatch, sync: int, held: int
) -> None:
    """Each epoch syncs twice: the new file before it takes the old one's place, the folder
    afterwards.
    """
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
    assert len(result.history) == held


def a_checkpoint(digits: Arrays, path: Path) -> bytes:
    fitted(digits, path, replace(TRAINING, epochs=1))
    return path.read_bytes()


def test_a_damaged_checkpoint_is_refused_and_kept(
    digits: Arrays, path: Path, tmp_path: Path
) -> None:
    whole = a_checkpoint(digits, path)
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
    a_checkpoint(digits, path)
    with pytest.raises(
        DataError, match=rf"checkpoint\.npz must hold a checkpoint of this model but its {message}"
    ):
        fitted(digits, path, model=model)


def test_one_sees_where_it_goes_on(
    digits: Arrays, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Killed):
        fitted(digits, path, log=killed_in_log(3))
    capsys.readouterr()
    fitted(digits, path)
    assert [line[:9] for line in capsys.readouterr().out.splitlines()] == ["epoch 4/4"]
    assert Progress(epochs=4, steps=3, done=3).bars.tasks[0].completed == 3
