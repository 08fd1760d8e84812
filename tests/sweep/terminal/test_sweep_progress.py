"""What the progress says, to a terminal and to a file, through the calls a driver makes."""

import io
import re
import threading
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from svhn_sweep.sweep.terminal.progress import SweepProgress
from svhn_sweep.sweep.terminal.study_progress import FinishedTrial
from svhn_sweep.trial_status import TrialStatus

WHAT = "learning_rate 1.2e-03, dropout 0.31"
MORE = "learning_rate 1.2e-03, filters [16, 32], dropout 0.31"  # brackets are text, not markup


class Screen:
    """A progress of a study `m` of 8 trials on 2 workers, with a clock that only `wait` moves."""

    def __init__(
        self,
        terminal: bool,
        metric: str,
        maximize: bool,
        earlier: Sequence[FinishedTrial],
        width: int,
    ) -> None:
        self.file, self.now = io.StringIO(), 1000.0
        console = Console(file=self.file, force_terminal=terminal, width=width)
        self.progress = SweepProgress(console, metric, maximize, workers=2, clock=lambda: self.now)
        self.progress.add_study("m", 8, earlier)

    def trial(
        self,
        number: int,
        state: str = "complete",
        value: float | None = None,
        reason: str = "",
        what: str = WHAT,
        epochs: int = 10,
        seconds: float = 60,
        after: int = 0,
    ) -> str:
        """A trial from its start to its end, of which all that was then written is returned."""
        self.progress.on_trial_start("m", number, what, 10, after)
        for epoch in range(after + 1, epochs + 1):
            self.progress.on_epoch("m", number, epoch, 0.5)
        self.now += seconds
        return self.says(
            lambda: self.progress.on_trial_end("m", number, TrialStatus(state), value, reason)
        )

    def says(self, action: Callable[[], object]) -> str:
        """What is written while something is done, without the codes that colour it and move the
        cursor.
        """
        start = len(self.file.getvalue())
        action()
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.file.getvalue()[start:]).replace(
            "\r", "\n"
        )

    def rows(self) -> str:
        """What rich's thread would draw now."""
        return self.says(self.progress.live.refresh)


def screen(
    terminal: bool = False,
    metric: str = "val/accuracy",
    maximize: bool = True,
    earlier: Sequence[FinishedTrial] = (),
    width: int = 80,
) -> Screen:
    return Screen(terminal, metric, maximize, earlier, width)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize(
    ("state", "value", "reason", "epochs", "line"),
    [
        (
            "complete",
            0.8912,
            "",
            10,
            f"m trial 7  complete  val/accuracy 89.12 %  {WHAT}  2 min 10 s\n",
        ),
        (
            "pruned",
            0.71,
            "",
            6,
            f"m trial 7  pruned after epoch 6  val/accuracy 71.00 %  {WHAT}  2 min 10 s\n",
        ),
        ("pruned", None, "", 6, f"m trial 7  pruned after epoch 6  {WHAT}  2 min 10 s\n"),
        (
            "diverged",
            None,
            "loss is nan",
            3,
            f"m trial 7  diverged after epoch 3: loss is nan  {WHAT}  2 min 10 s\n",
        ),
        ("failed", None, "no memory", 0, f"m trial 7  failed: no memory  {WHAT}  2 min 10 s\n"),
        ("interrupted", None, "", 4, f"m trial 7  interrupted after epoch 4  {WHAT}  2 min 10 s\n"),
    ],
)
def test_a_trial_that_ends_leaves_a_line(
    state: str, value: float | None, reason: str, epochs: int, line: str
) -> None:
    assert screen().trial(7, state, value, reason, epochs=epochs, seconds=130) == line


@pytest.mark.parametrize(
    ("metric", "maximize", "values", "lines"),
    [
        (
            "val/accuracy",
            True,
            (0.80, 0.8042, 0.79),
            ("80.00 %", "80.42 %  best of 2 (+0.42 points)", "-1.00 points"),
        ),
        (
            "val/loss",
            False,
            (0.5, 0.4588, 0.6),
            ("0.5000", "0.4588  best of 2 (-0.0412)", "0.6000  +0.1000"),
        ),
        (
            "val/loss",
            False,
            (0.5, 0.6, 0.4),
            ("0.5000", "0.6000  +0.1000", "0.4000  best of 3 (-0.1000)"),
        ),
        ("f1", True, (0.5, 0.5, 0.6), ("0.5000", "0.5000  +0.0000", "0.6000  best of 3 (+0.1000)")),
    ],
)
def test_results_are_told_from_the_baselines(
    metric: str, maximize: bool, values: tuple[float, ...], lines: tuple[str, ...]
) -> None:
    shown = screen(metric=metric, maximize=maximize)
    for number, (value, line) in enumerate(zip(values, lines, strict=True)):
        what = "baseline" if number == 0 else WHAT
        assert f"{line}  {what}" in shown.trial(number, value=value, what=what)


def test_before_the_baseline_there_is_no_distance_to_it() -> None:
    shown = screen(terminal=True)
    with shown.progress:
        shown.trial(3, value=0.8)
        assert "best val/accuracy 80.00 % in trial 3, baseline not finished" in shown.rows()
        shown.trial(0, value=0.7, what="baseline")
        assert "best val/accuracy 80.00 % in trial 3, +10.00 points vs baseline" in shown.rows()


def test_the_best_may_be_the_baseline() -> None:
    shown = screen(terminal=True)
    with shown.progress:
        shown.trial(0, value=0.7, what="baseline")
        shown.trial(1, value=0.6)
        assert "best val/accuracy 70.00 % in the baseline" in shown.rows()


def test_only_a_complete_trial_is_the_best() -> None:
    shown = screen()
    shown.trial(0, value=0.8, what="baseline")
    assert "best" not in shown.trial(1, "pruned", 0.99, epochs=3)
    assert "best" not in shown.trial(2, "failed", 0.98)
    assert "best" not in shown.trial(3, value=float("nan"))
    assert "best of 5 (+1.00 points)" in shown.trial(4, value=0.81)


@pytest.mark.parametrize(
    ("seconds", "left"),
    [
        (
            10,
            "about 1 min left",
        ),  # 7 trials, one of them half done, on 2 workers: 3.25 times a trial
        (240, "about 13 min left"),
        (3600, "about 3 h 15 min left"),
    ],
)
def test_the_time_left_is_told_from_the_first_finished_trial_on(seconds: float, left: str) -> None:
    shown = screen(terminal=True)
    with shown.progress as progress:
        progress.on_trial_start("m", 1, WHAT, 10)
        progress.on_epoch("m", 1, 5, 0.5)
        assert " left" not in shown.rows()
        shown.trial(0, value=0.8, seconds=seconds)
        assert left in shown.rows()


def test_without_a_worker_no_time_is_told() -> None:
    """All nodes of a cluster may be gone for a while."""
    shown = screen(terminal=True)
    shown.trial(0, value=0.8)
    shown.progress.workers = 0
    with shown.progress:
        assert " left" not in shown.rows()


def test_the_last_trial_has_one_worker_and_nothing_is_left_after_it() -> None:
    shown = screen(
        terminal=True,
        earlier=[FinishedTrial(number, TrialStatus.failed, None) for number in range(6)],
    )
    with shown.progress:
        shown.trial(6, value=0.8, seconds=600)
        assert "about 10 min left" in shown.rows()
        shown.trial(7, value=0.8, seconds=600)
        assert " left" not in shown.rows()


def test_half_a_trial_tells_the_time_of_a_whole_one() -> None:
    shown = screen(terminal=True)
    with shown.progress:
        shown.trial(0, value=0.8, after=5, seconds=60)
        assert "about 7 min left" in shown.rows()  # 7 trials of 2 min, 2 workers


def test_an_interrupted_trial_does_not_count_until_it_ends() -> None:
    shown = screen(terminal=True)
    with shown.progress:
        shown.trial(0, "interrupted", epochs=4)
        assert "m  0/8  0 complete, 0 pruned, 0 failed\n" in shown.rows() + "\n"
        shown.trial(0, value=0.8, after=4)
        assert "m  1/8  1 complete, 0 pruned, 0 failed" in shown.rows()


def test_what_was_done_earlier_counts() -> None:
    earlier = [
        FinishedTrial(0, TrialStatus.complete, 0.80, is_baseline=True),
        FinishedTrial(1, TrialStatus.complete, 0.85),
        FinishedTrial(2, TrialStatus.pruned, 0.95),
        FinishedTrial(3, TrialStatus.diverged, None),
        FinishedTrial(4, TrialStatus.failed, None),
        FinishedTrial(5, TrialStatus.interrupted, None),
    ]
    shown = screen(earlier=earlier)
    assert shown.file.getvalue() == "m  5/8  2 complete, 1 pruned, 2 failed\n"
    assert "84.00 %  +4.00 points" in shown.trial(6, value=0.84)
    assert "86.00 %  best of 7 (+6.00 points)" in shown.trial(5, value=0.86)
    assert shown.says(shown.progress.__exit__) == (
        "m  7/8  4 complete, 1 pruned, 2 failed  about 1 min left"
        "  best val/accuracy 86.00 % in trial 5, +6.00 points vs baseline\n"
    )


def test_a_terminal_shows_a_row_for_each_running_trial() -> None:
    shown = screen(terminal=True)
    with shown.progress as progress:
        progress.on_trial_start("m", 3, WHAT, 40, resumed_after=7)
        progress.on_trial_start("m", 4, WHAT, 40)
        assert re.search(r"m trial 3  [━╸╺]+  7/40 +0 s *\nm trial 4  ━+  0/40 +0 s", shown.rows())
        for epoch, value in [(8, 0.82), (9, 0.8), (10, float("nan")), (11, 0.81)]:
            progress.on_epoch("m", 3, epoch, value)
        shown.now += 75
        assert re.search(
            r"m trial 3  [━╸╺]+  11/40  81.00 %  best 82.00 %  1 min 15 s", shown.rows()
        )
        progress.on_trial_end("m", 3, TrialStatus.pruned, 0.81)
        assert "trial 3" not in shown.rows()


@pytest.mark.parametrize(
    ("width", "state", "line"),
    [
        (48, "complete", "m trial 0  complete  80.00 %  2 min 10 s"),
        (48, "pruned", "m trial 0  pruned after epoch 10  80.00 %"),
        (60, "complete", "m trial 0  complete  80.00 %  learning_rate 1.2…  2 min 10 s"),
        (60, "pruned", "m trial 0  pruned after epoch 10  80.00 %  2 min 10 s"),
        (80, "complete", f"m trial 0  complete  80.00 %  {MORE[:37]}…  2 min 10 s"),
        (80, "pruned", f"m trial 0  pruned after epoch 10  80.00 %  {MORE[:24]}…  2 min 10 s"),
        (99, "complete", f"m trial 0  complete  80.00 %  {MORE}  2 min 10 s"),
    ],
)
def test_no_line_is_wider_than_the_terminal(width: int, state: str, line: str) -> None:
    shown = screen(terminal=True, width=width)
    with shown.progress as progress:
        progress.on_trial_start("m", 1, MORE, 40)
        progress.on_epoch("m", 1, 1, 0.5)
        text = shown.trial(0, state, 0.8, what=MORE, seconds=130) + shown.rows()
    assert line in text.splitlines()
    assert max(len(line) for line in text.splitlines()) <= width


def test_leaving_gives_the_terminal_back_and_says_how_far_it_came() -> None:
    shown = screen(terminal=True)
    with pytest.raises(KeyboardInterrupt, match="now"), shown.progress:
        raise KeyboardInterrupt("now")
    written = shown.file.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is shown again
    assert written.endswith("m  0/8  0 complete, 0 pruned, 0 failed\n")


def test_without_a_terminal_there_is_plain_text_as_it_happens() -> None:
    shown = screen()
    with shown.progress as progress:
        assert (
            shown.says(lambda: progress.on_trial_start("m", 0, "baseline", 10))
            == "m trial 0  starts at epoch 1/10  baseline\n"
        )
        assert (
            shown.says(lambda: progress.on_trial_start("m", 1, WHAT, 10, 4))
            == f"m trial 1  starts at epoch 5/10  {WHAT}\n"
        )
        shown.now += 29
        assert shown.says(lambda: progress.on_epoch("m", 0, 1, 0.8)) == ""
        shown.now += 1
        assert shown.says(lambda: progress.on_epoch("m", 0, 2, 0.7)) == (
            "m trial 0  2/10  70.00 %  best 80.00 %  30 s\n"
            "m trial 1  4/10  30 s\n"
            "m  0/8  0 complete, 0 pruned, 0 failed\n"
        )
        shown.now += 29
        assert shown.says(lambda: progress.on_epoch("m", 0, 3, 0.8)) == ""
        assert (
            shown.says(lambda: progress.on_message("worker\r\n 1 \x1b[31mended\x07"))
            == "worker   1  [31mended \n"
        )
    assert re.fullmatch(r"[ -~\n]+", shown.file.getvalue())


def test_a_trial_that_starts_while_rows_are_drawn_waits_for_them() -> None:
    shown = screen(terminal=True)
    progress, drawing = shown.progress, threading.current_thread()
    driver = threading.Thread(target=lambda: progress.on_trial_start("m", 2, WHAT, 10))

    def clock() -> float:
        if threading.current_thread() is drawing and driver.ident is None:
            driver.start()
            driver.join(0.1)
        return 0.0

    progress.on_trial_start("m", 1, WHAT, 10)
    progress.clock = clock
    progress.live.refresh()
    driver.join()
    assert set(progress.studies["m"].running) == {1, 2}
