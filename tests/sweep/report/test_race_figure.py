import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from svhn_sweep.sweep.report.race_figure import race
from svhn_sweep.sweep.selection.race import Race, RaceRules, hold_race

BASELINE = [0.80, 0.81, 0.79, 0.80, 0.82]
LEADER = [value + 0.02 + 0.002 * (-1) ** index for index, value in enumerate(BASELINE)]
LAST = [value - 0.05 - 0.002 * (-1) ** index for index, value in enumerate(BASELINE)]


def held(n_seeds: int) -> Race:
    values = {0: BASELINE, 7: LEADER, 12: LAST}
    results = {number: dict(enumerate(known[:n_seeds])) for number, known in values.items()}
    return hold_race(results, [7, 12], RaceRules(range(8), fixed=False, margin=0, maximize=True))


def errorbars(axes: Axes) -> list[ErrorbarContainer]:
    return [item for item in axes.containers if isinstance(item, ErrorbarContainer)]


def test_each_candidate_has_its_means_and_intervals() -> None:
    result = held(5)
    (axes,) = race(result, "val/accuracy", 0.005).axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert {"baseline", "trial 7, the best candidate", "trial 12", "left"} <= drawn.keys()
    bars = [np.asarray(container.lines[0].get_ydata()) for container in errorbars(axes)]
    means = [[look.difference for look in result.looks[number]] for number in (7, 12)]
    assert [list(bar) for bar in bars] == [pytest.approx(mean) for mean in means]
    ends = [container.lines[2][0].get_segments()[-1][:, 1] for container in errorbars(axes)]
    looks = [result.looks[number][-1] for number in (7, 12)]
    assert [list(end) for end in ends] == [pytest.approx([look.low, look.high]) for look in looks]


def test_a_race_that_every_candidate_has_left_is_drawn() -> None:
    values: dict[int, list[float | None]] = {
        0: [*BASELINE],
        7: [0.82, 0.83, 0.80, None],
        12: [0.81, 0.80, 0.81, None],
    }
    results = {number: dict(enumerate(known)) for number, known in values.items()}
    rules = RaceRules(range(8), fixed=False, margin=0, maximize=True)
    result = hold_race(results, [7, 12], rules)
    assert (result.leader, result.left) == (None, {7: 4, 12: 4})
    figure = race(result, "val/accuracy", 0.005)
    assert figure.get_suptitle() == "The race: every candidate has left it"
    assert len(errorbars(figure.axes[0])) == 2


@pytest.mark.parametrize(
    ("maximize", "metric", "state"),
    [
        (True, "val/accuracy", "trial 7, the best candidate, is 2.07 points ahead of the baseline"),
        (False, "val/loss", "trial 7, the best candidate, is 0.0207 behind the baseline"),
    ],
)
def test_the_title_tells_whether_the_best_candidate_is_ahead_and_the_verdict(
    maximize: bool, metric: str, state: str
) -> None:
    values = {0: BASELINE, 7: LEADER}
    results = {number: dict(enumerate(known)) for number, known in values.items()}
    rules = RaceRules(range(8), fixed=False, margin=0, maximize=maximize)
    result = hold_race(results, [7], rules)
    title = " ".join(race(result, metric, 0.005).get_suptitle().split())
    assert title.startswith(f"The race after 3 seeds: {state} (+")
    assert title.endswith(": better" if maximize else ": worse")


def test_the_baseline_is_in_sight() -> None:
    ahead = [value + 0.04 + 0.001 * (-1) ** index for index, value in enumerate(BASELINE)]
    results = {0: dict(enumerate(BASELINE)), 7: dict(enumerate(ahead))}
    result = hold_race(results, [7], RaceRules(range(5), fixed=False, margin=0, maximize=True))
    (axes,) = race(result, "val/accuracy", 0.005).axes
    low, high = axes.get_ylim()
    assert low < 0 < 0.04 < high


def test_differences_of_accuracy_are_in_points() -> None:
    figure = race(held(4), "val/accuracy", 0.005)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_ylabel() == "points above the baseline"
    assert axes.yaxis.get_major_formatter()(0.015) == "+1.5"
