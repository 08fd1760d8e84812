import time

import pytest

from svhn_sweep.training.progress import Progress


def test_the_bar_does_not_exceed_the_epoch_if_several_steps_are_one_call() -> None:
    progress = Progress(epochs=1, steps=20)
    progress.on_train_batch_end(31, {"loss": 1.0})
    assert progress.bars.tasks[1].completed == 20


def test_without_a_terminal_a_long_epoch_is_a_line_every_30_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    progress = Progress(epochs=20, steps=1000)
    with progress.bars:
        progress.on_epoch_begin(0)
        for batch in range(0, 1000, 100):
            now += 7
            progress.on_train_batch_end(batch, {"loss": 2.25})
    assert capsys.readouterr().out == (
        "in epoch 1/20  batch 401/1000  loss 2.250  35 s\n"
        "in epoch 1/20  batch 901/1000  loss 2.250  70 s\n"
    )
