"""Tests what a sweep's progress writes to a terminal and to a file."""

import re
import threading

import pytest
from screen import DESCRIPTION, Screen

from svhn_sweep.sweep.terminal.study_progress import FinishedTrial
from svhn_sweep.trial_status import TrialStatus

# Rich must not take the brackets for markup.
LONG_DESCRIPTION = "learning_rate 1.2e-03, filters [16, 32], dropout 0.31"


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize(("status", "value", "reason", "epochs", "result"), [
    ("complete", 0.8912, "", 10, "complete  val/accuracy 89.12%"),
    ("pruned", 0.71, "", 6, "pruned after epoch 6  val/accuracy 71.00%"),
    ("pruned", None, "", 6, "pruned after epoch 6"),
    ("diverged", None, "loss is nan", 3, "diverged after epoch 3: loss is nan"),
    ("failed", None, "no memory", 0, "failed: no memory"),
    ("interrupted", None, "", 4, "interrupted after epoch 4"),
])  # fmt: skip
def test_a_trial_that_ends_leaves_a_line(
    status: str, value: float | None, reason: str, epochs: int, result: str
) -> None:
    written = Screen().run_trial(7, status, value, reason, epochs=epochs, seconds=130)
    assert written == f"m trial 7  {result}  {DESCRIPTION}  2 min 10 s\n"


@pytest.mark.parametrize(("metric", "maximize", "values", "results"), [
    ("val/accuracy", True, (0.80, 0.8042, 0.79),
     ("80.00%", "80.42%  best of 2 (+0.42 points)", "-1.00 points")),
    ("val/loss", False, (0.5, 0.4588, 0.6),
     ("0.5000", "0.4588  best of 2 (-0.0412)", "0.6000  +0.1000")),
    ("val/loss", False, (0.5, 0.6, 0.4),
     ("0.5000", "0.6000  +0.1000", "0.4000  best of 3 (-0.1000)")),
    ("f1", True, (0.5, 0.5, 0.6),
     ("0.5000", "0.5000  +0.0000", "0.6000  best of 3 (+0.1000)")),
])  # fmt: skip
def test_a_complete_trial_is_compared_with_the_baseline_and_the_best(
    metric: str, maximize: bool, values: tuple[float, ...], results: tuple[str, ...]
) -> None:
    screen = Screen(metric=metric, maximize=maximize)
    for number, (value, result) in enumerate(zip(values, results, strict=True)):
        description = "baseline" if number == 0 else DESCRIPTION
        written = screen.run_trial(number, value=value, description=description)
        assert f"{result}  {description}" in written


def test_the_baseline_is_trial_0_whatever_its_description() -> None:
    screen = Screen()
    assert "points" not in screen.run_trial(0, value=0.7)
    assert "-10.00 points" in screen.run_trial(1, value=0.6, description="baseline")


def test_the_runs_of_a_confirmation_have_no_baseline_and_no_best() -> None:
    screen = Screen(is_search=False)
    screen.run_trial(0, value=0.7, description="baseline, seed 43")
    written = screen.run_trial(1, value=0.8, description="trial 7, seed 43")
    assert written == "m run 1  complete  val/accuracy 80.00%  trial 7, seed 43  1 min\n"
    counts = "m  2/8  2 complete, 0 pruned, 0 failed  at most 3 min left\n"
    assert screen.written_by(screen.progress.__exit__) == counts


def test_before_the_baseline_is_complete_there_is_no_difference_to_it() -> None:
    screen = Screen(terminal=True)
    with screen.progress:
        screen.run_trial(3, value=0.8)
        best = "best val/accuracy 80.00% in trial 3"
        assert f"{best}, baseline not finished" in screen.live_rows()
        screen.run_trial(0, value=0.7, description="baseline")
        assert f"{best}, +10.00 points vs baseline" in screen.live_rows()


def test_the_best_may_be_the_baseline_that_ends_after_an_equal_trial() -> None:
    screen = Screen(terminal=True)
    with screen.progress:
        screen.run_trial(1, value=0.7)
        screen.run_trial(0, value=0.7, description="baseline")
        screen.run_trial(2, value=0.6)
        assert "best val/accuracy 70.00% in the baseline" in screen.live_rows()


def test_only_a_complete_trial_is_the_best() -> None:
    screen = Screen()
    screen.run_trial(0, value=0.8, description="baseline")
    assert "best" not in screen.run_trial(1, "pruned", 0.99, epochs=3)
    assert "best" not in screen.run_trial(2, "failed", 0.98)
    assert "best" not in screen.run_trial(3, value=float("nan"))
    assert "best of 5 (+1.00 points)" in screen.run_trial(4, value=0.81)


@pytest.mark.parametrize(("seconds", "time_left"), [
    (10, "about 1 min left"),  # 7 trials, one half done, on 2 workers: 3.25 times a trial
    (240, "about 13 min left"),
    (3600, "about 3 h 15 min left"),
])  # fmt: skip
def test_the_time_left_is_known_once_a_trial_is_finished(seconds: float, time_left: str) -> None:
    screen = Screen(terminal=True)
    with screen.progress as progress:
        progress.on_trial_start("m", 1, DESCRIPTION, 10)
        progress.on_epoch("m", 1, 5, 0.5)
        assert " left" not in screen.live_rows()
        screen.run_trial(0, value=0.8, seconds=seconds)
        assert time_left in screen.live_rows()


def test_without_a_worker_the_time_left_is_unknown() -> None:
    """All nodes of a cluster may be gone for a while."""
    screen = Screen(terminal=True)
    screen.run_trial(0, value=0.8)
    screen.progress.on_workers_change(0)
    with screen.progress:
        assert " left" not in screen.live_rows()


def test_the_last_trial_occupies_one_worker_and_no_time_is_left_after_it() -> None:
    screen = Screen(
        terminal=True,
        earlier=[
            FinishedTrial(number, TrialStatus.failed, None, DESCRIPTION) for number in range(6)
        ],
    )
    with screen.progress:
        screen.run_trial(6, value=0.8, seconds=600)
        assert "about 10 min left" in screen.live_rows()
        screen.run_trial(7, value=0.8, seconds=600)
        assert " left" not in screen.live_rows()


def test_a_trial_resumed_halfway_counts_as_half_in_the_mean_duration() -> None:
    screen = Screen(terminal=True)
    with screen.progress:
        screen.run_trial(0, value=0.8, after=5, seconds=60)
        assert "about 7 min left" in screen.live_rows()  # 7 trials of 2 min, 2 workers


def test_an_interrupted_trial_is_not_counted_until_it_ends() -> None:
    screen = Screen(terminal=True)
    with screen.progress:
        screen.run_trial(0, "interrupted", epochs=4)
        assert "m  0/8  0 complete, 0 pruned, 0 failed\n" in screen.live_rows() + "\n"
        screen.run_trial(0, value=0.8, after=4)
        assert "m  1/8  1 complete, 0 pruned, 0 failed" in screen.live_rows()


def test_trials_of_earlier_starts_are_counted() -> None:
    earlier = [
        FinishedTrial(0, TrialStatus.complete, 0.80, DESCRIPTION),
        FinishedTrial(1, TrialStatus.complete, 0.85, DESCRIPTION),
        FinishedTrial(2, TrialStatus.pruned, 0.95, DESCRIPTION),
        FinishedTrial(3, TrialStatus.diverged, None, DESCRIPTION),
        FinishedTrial(4, TrialStatus.failed, None, DESCRIPTION),
        FinishedTrial(5, TrialStatus.interrupted, None, DESCRIPTION),
    ]
    screen = Screen(earlier=earlier)
    assert screen.file.getvalue() == "m  5/8  2 complete, 1 pruned, 2 failed\n"
    assert "84.00%  +4.00 points" in screen.run_trial(6, value=0.84)
    assert "86.00%  best of 7 (+6.00 points)" in screen.run_trial(5, value=0.86)
    assert screen.written_by(screen.progress.__exit__) == (
        "m  7/8  4 complete, 1 pruned, 2 failed  about 1 min left"
        f"  best val/accuracy 86.00% in trial 5, +6.00 points vs baseline  {DESCRIPTION}\n"
    )


def test_a_terminal_shows_a_row_for_each_running_trial() -> None:
    screen = Screen(terminal=True)
    with screen.progress as progress:
        progress.on_trial_start("m", 3, DESCRIPTION, 40, resumed_after=7)
        progress.on_trial_start("m", 4, DESCRIPTION, 40)
        rows = screen.live_rows()
        trial_3, trial_4 = rows.splitlines()[:2]
        assert re.search(r"m trial 3  [━╸╺]+  7/40  in epoch 8 +0 s", trial_3)
        assert re.search(r"m trial 4  ━+  0/40  in epoch 1 +0 s", trial_4)
        for epoch, value in [(8, 0.82), (9, 0.8), (10, float("nan")), (11, 0.81)]:
            progress.on_epoch("m", 3, epoch, value)
        screen.now += 75
        rows = screen.live_rows()
        assert re.search(r"m trial 3  [━╸╺]+  11/40  81.00% +best 82.00%  1 min 15 s", rows)
        progress.on_trial_end("m", 3, TrialStatus.pruned, 0.81)
        assert "trial 3" not in screen.live_rows()


@pytest.mark.parametrize(("width", "status", "result"), [
    (48, "complete", ["complete  80.00%  2 min 10 s",
                      "    learning_rate 1.2e-03, filters [16, 32],", "    dropout 0.31"]),
    (48, "pruned", ["pruned after epoch 10  80.00%",
                    "    learning_rate 1.2e-03, filters [16, 32],", "    dropout 0.31"]),
    (80, "complete", ["complete  80.00%  2 min 10 s", f"    {LONG_DESCRIPTION}"]),
    (80, "pruned", ["pruned after epoch 10  80.00%  2 min 10 s", f"    {LONG_DESCRIPTION}"]),
    (99, "complete", [f"complete  80.00%  {LONG_DESCRIPTION}  2 min 10 s"]),
])  # fmt: skip
def test_the_hyperparameters_are_readable_and_no_line_is_wider_than_the_terminal(
    width: int, status: str, result: list[str]
) -> None:
    screen = Screen(terminal=True, width=width)
    with screen.progress as progress:
        progress.on_trial_start("m", 1, LONG_DESCRIPTION, 40)
        progress.on_epoch("m", 1, 1, 0.5)
        written = screen.run_trial(0, status, 0.8, description=LONG_DESCRIPTION, seconds=130)
        rows = screen.live_rows()
    lines = [line.rstrip() for line in written.splitlines() if line.strip()]
    first = lines.index(f"m trial 0  {result[0]}")
    assert lines[first : first + len(result)] == [f"m trial 0  {result[0]}", *result[1:]]
    assert "dropout 0.31" in rows  # of the running trial
    assert max(map(len, (written + rows).splitlines())) <= width


def test_a_low_terminal_has_no_lines_for_the_hyperparameters_of_running_trials() -> None:
    screen = Screen(terminal=True)
    with screen.progress as progress:
        for number in range(1, 10):  # the screen has 25 lines
            progress.on_trial_start("m", number, DESCRIPTION, 40)
        assert "dropout" not in screen.live_rows()


def test_the_best_trial_is_shown_with_its_hyperparameters() -> None:
    screen = Screen(terminal=True)
    with screen.progress:
        screen.run_trial(0, value=0.7, description="baseline")
        assert "dropout" not in screen.live_rows()
        screen.run_trial(1, value=0.8)
        rows = screen.live_rows()
        assert f"trial 1, +10.00 points vs baseline\n  {DESCRIPTION}" in rows


def test_leaving_restores_the_terminal_and_prints_a_summary() -> None:
    screen = Screen(terminal=True)
    with pytest.raises(KeyboardInterrupt, match="now"), screen.progress:
        raise KeyboardInterrupt("now")
    written = screen.file.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is visible again
    assert written.endswith("m  0/8  0 complete, 0 pruned, 0 failed\n")


def test_without_a_terminal_events_are_printed_as_plain_lines() -> None:
    screen = Screen()
    with screen.progress as progress:
        written = screen.written_by(lambda: progress.on_trial_start("m", 0, "baseline", 10))
        assert written == "m trial 0  starts at epoch 1/10  baseline\n"
        written = screen.written_by(lambda: progress.on_trial_start("m", 1, DESCRIPTION, 10, 4))
        assert written == f"m trial 1  starts at epoch 5/10  {DESCRIPTION}\n"
        screen.now += 29
        assert screen.written_by(lambda: progress.on_epoch("m", 0, 1, 0.8)) == ""
        screen.now += 1
        assert screen.written_by(lambda: progress.on_epoch("m", 0, 2, 0.7)) == (
            "m trial 0  2/10  70.00%  best 80.00%  30 s\n"
            "m trial 1  4/10  in epoch 5  30 s\n"
            "m  0/8  0 complete, 0 pruned, 0 failed\n"
        )
        screen.now += 29
        assert screen.written_by(lambda: progress.on_epoch("m", 0, 3, 0.8)) == ""
        written = screen.written_by(lambda: progress.on_message("worker\r\n 1 \x1b[31mended\x07"))
        assert written == "worker   1  [31mended \n"
    assert re.fullmatch(r"[ -~\n]+", screen.file.getvalue())


def test_without_a_terminal_a_long_first_epoch_is_a_line_at_times() -> None:
    screen = Screen()
    with screen.progress as progress:
        screen.now += 60
        assert screen.written_by(progress.on_poll) == ""  # workers start
        progress.on_trial_start("m", 0, "baseline", 10)
        screen.now += 30
        line = "m trial 0  0/10  in epoch 1  30 s\nm  0/8  0 complete, 0 pruned, 0 failed\n"
        assert screen.written_by(progress.on_poll) == line
        assert screen.written_by(progress.on_poll) == ""


def test_a_trial_that_starts_while_rows_are_drawn_waits_for_them() -> None:
    screen = Screen(terminal=True)
    progress = screen.progress
    drawing = threading.current_thread()
    driver = threading.Thread(target=lambda: progress.on_trial_start("m", 2, DESCRIPTION, 10))

    def clock() -> float:
        if threading.current_thread() is drawing and driver.ident is None:
            driver.start()
            driver.join(0.1)
        return 0.0

    progress.on_trial_start("m", 1, DESCRIPTION, 10)
    progress.clock = clock
    progress.live.refresh()
    driver.join()
    assert set(progress.studies["m"].running) == {1, 2}
