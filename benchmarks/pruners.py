"""What a pruner saves and what it costs: recorded learning curves, replayed in other orders.

python benchmarks/pruners.py [--orders 400] [--trials 20] [--workers 2]
    replays benchmarks/curves/*.csv through each pruner
python benchmarks/pruners.py --record STUDY_FOLDER FILE.csv
    keeps the curves of a sweep without pruner

A row of FILE.csv is one trial: what it explored, then the validation accuracy of each epoch. Trial
0 is the baseline, which starts every sweep; it is never pruned, but the others compete with it. An
order draws the other trials without replacement; workers take turns, an epoch each. The last two
columns say how many times fewer epochs a pruned search takes to see the best accuracy of its
trials: fewer than random search without a pruner spends in all, and fewer than that one takes to
see it. A search that pruned its best trial never sees it, and counts as having spent everything.
What was saved can be spent on more trials: "with the epochs of 5" is how far below the best of all
recorded trials a search is that draws new ones until it has spent as many epochs as 5 whole trials
have; of 10, the thriftiest pruners would run out of curves.
"""

import argparse
import csv
import json
import math
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from omegaconf import OmegaConf
from optuna import pruners

from svhn_sweep.tracking.journal import history

Curves = list[list[float]]  # of each trial, by epoch; the baseline's first

RECORDED = Path(__file__).parent / "curves"
CANDIDATES: dict[str, Callable[[int], pruners.BasePruner]] = {  # for trials of so many epochs
    "none": lambda epochs: pruners.NopPruner(),
    "median, 5 trials, 5 epochs": lambda epochs: pruners.MedianPruner(5, 5),
    "median, 5 trials, 4 epochs": lambda epochs: pruners.MedianPruner(5, 4),
    "median, 5 trials, 3 epochs": lambda epochs: pruners.MedianPruner(5, 3),
    "median, 3 trials, 3 epochs": lambda epochs: pruners.MedianPruner(3, 3),
    "best third, 5 trials, 5 epochs": lambda epochs: pruners.PercentilePruner(33, 5, 5),
    "best third, 3 trials, 3 epochs": lambda epochs: pruners.PercentilePruner(33, 3, 3),
    "best quarter, 5 trials, 5 epochs": lambda epochs: pruners.PercentilePruner(25, 5, 5),
    "best quarter, 3 trials, 3 epochs": lambda epochs: pruners.PercentilePruner(25, 3, 3),
    "halving from epoch 2, factor 2": lambda epochs: pruners.SuccessiveHalvingPruner(
        2, reduction_factor=2
    ),
    "halving from epoch 2, factor 3": lambda epochs: pruners.SuccessiveHalvingPruner(
        2, reduction_factor=3
    ),
    "halving from epoch 3, factor 2": lambda epochs: pruners.SuccessiveHalvingPruner(
        3, reduction_factor=2
    ),
    "halving from epoch 3, factor 3": lambda epochs: pruners.SuccessiveHalvingPruner(
        3, reduction_factor=3
    ),
    "halving from epoch 3, factor 4": lambda epochs: pruners.SuccessiveHalvingPruner(
        3, reduction_factor=4
    ),
    "halving from epoch 4, factor 2": lambda epochs: pruners.SuccessiveHalvingPruner(
        4, reduction_factor=2
    ),
    "halving from epoch 4, factor 3": lambda epochs: pruners.SuccessiveHalvingPruner(
        4, reduction_factor=3
    ),
    "halving from epoch 4, or nothing better for 5": lambda epochs: Either(
        pruners.SuccessiveHalvingPruner(4, reduction_factor=2), pruners.PatientPruner(None, 5)
    ),
    "halving from epoch 5, factor 2": lambda epochs: pruners.SuccessiveHalvingPruner(
        5, reduction_factor=2
    ),
    "halving from epoch 5, factor 3": lambda epochs: pruners.SuccessiveHalvingPruner(
        5, reduction_factor=3
    ),
    "halving from epoch 5, factor 4": lambda epochs: pruners.SuccessiveHalvingPruner(
        5, reduction_factor=4
    ),
    "halving from epoch 6, factor 2": lambda epochs: pruners.SuccessiveHalvingPruner(
        6, reduction_factor=2
    ),
    "hyperband from epoch 3": lambda epochs: pruners.HyperbandPruner(3, epochs),
    "hyperband from epoch 4": lambda epochs: pruners.HyperbandPruner(4, epochs),
    "hyperband from epoch 5": lambda epochs: pruners.HyperbandPruner(5, epochs),
}


class Either(pruners.BasePruner):
    """Ends what one of its pruners would end."""

    def __init__(self, *pruners: pruners.BasePruner) -> None:
        self.pruners = pruners

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return any(pruner.prune(study, trial) for pruner in self.pruners)


@dataclass(frozen=True)
class Replay:
    """How one order went.

    Attributes:
        spent: epochs in all.
        best: the best accuracy seen, 0..1.
        reached: epochs spent when a trial showed the best accuracy of all that were drawn; None if
            none did.
    """

    spent: int
    best: float
    reached: int | None


def replay(
    curves: Curves, pruner: pruners.BasePruner, workers: int, name: str, budget: float = math.inf
) -> Replay:
    """Hand the curves out in their order, an epoch to each worker in turn; Hyperband draws brackets
    by the name.

    `budget`: of epochs, after which the search is over.
    """
    study = optuna.create_study(direction="maximize", pruner=pruner, study_name=name)
    goal = max(max(curve) for curve in curves)
    waiting = iter(enumerate(curves))
    running = list[tuple[optuna.Trial, int, Iterator[tuple[int, float]]]]()
    spent, best, reached = 0, 0.0, None
    while True:
        while len(running) < workers and (following := next(waiting, None)) is not None:
            number, curve = following
            running.append((study.ask(), number, iter(enumerate(curve, start=1))))
        if not running or spent >= budget:
            return Replay(spent, best, reached)
        for entry in list(running):
            trial, number, epochs = entry
            epoch, accuracy = next(epochs)
            spent = spent + 1
            best = max(best, accuracy)
            reached = spent if reached is None and accuracy >= goal else reached
            trial.report(accuracy, epoch)
            if epoch == len(curves[number]):
                study.tell(trial, max(curves[number]))
            elif trial.should_prune() and number > 0:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                continue
            running.remove(entry)


def orders(curves: Curves, trials: int, count: int) -> list[Curves]:
    random = np.random.default_rng(0)
    drawn: list[NDArray[np.int64]] = [
        random.choice(np.arange(1, len(curves)), trials - 1, replace=False) for _ in range(count)
    ]
    return [[curves[0], *(curves[number] for number in order)] for order in drawn]


def replays(name: str, drawn: list[Curves], workers: int) -> list[Replay]:
    make = CANDIDATES[name]
    return [
        replay(curves, make(len(curves[0])), workers, f"replay {at}")
        for at, curves in enumerate(drawn)
    ]


def points_short(name: str, curves: Curves, count: int, workers: int) -> float:
    """Of the best of all curves, in the mean, with the epochs of 5 whole trials."""
    best = max(max(curve) for curve in curves)
    length = len(curves[0])
    seen = [
        replay(order, CANDIDATES[name](length), workers, f"replay {at}", budget=5 * length).best
        for at, order in enumerate(orders(curves, len(curves), count))
    ]
    return 100 * (best - statistics.mean(seen))


def summary(
    name: str, drawn: list[Curves], workers: int, unpruned: list[Replay], short: float
) -> str:
    """A row of the table: what this pruner does to each order."""
    found = replays(name, drawn, workers)
    both = list(zip(found, unpruned, strict=True))
    spent = [each.spent / without.spent for each, without in both]
    lost = [100 * (without.best - each.best) for each, without in both]
    budget = [without.spent / (each.reached or without.spent) for each, without in both]
    sooner = [
        (without.reached or without.spent) / (each.reached or without.spent)
        for each, without in both
    ]
    kept = sum(each.reached is not None for each in found) / len(found)
    return (
        f"| {name} | {statistics.mean(spent):.0%} | {statistics.mean(lost):.2f} | "
        f"{np.percentile(lost, 95):.2f} "
        f"| {kept:.0%} | {_spread(budget)} | {_spread(sooner)} | {short:.2f} |"
    )


def _spread(values: list[float]) -> str:
    """The median, and the middle half."""
    return (
        f"{statistics.median(values):.1f} ({np.percentile(values, 25):.1f} to "
        f"{np.percentile(values, 75):.1f})"
    )


def record(study: Path, target: Path) -> None:
    """Write the complete trials of a study's folder to a CSV file."""
    rows = []
    for folder in sorted(study.glob("trial-*")):
        epochs = history(folder)
        config = OmegaConf.load(folder / "config.yaml")
        if len(epochs) - (0 in epochs) < config.training.epochs:
            continue
        explored = {"learning_rate": config.training.learning_rate, "dropout": config.model.dropout}
        row = {"trial": int(folder.name.removeprefix("trial-")), **explored, **config.model.filters}
        rows.append(
            row
            | {
                str(epoch): metrics["val/accuracy"]
                for epoch, metrics in sorted(epochs.items())
                if epoch
            }
        )
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(json.dumps({"file": str(target), "trials": len(rows)}))


def recorded(path: Path) -> Curves:
    """The accuracies of a file, by trial and epoch."""
    with path.open(newline="") as file:
        return [
            [float(value) for key, value in row.items() if key.isdecimal()]
            for row in csv.DictReader(file)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=400)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", type=Path, nargs=2, metavar=("STUDY_FOLDER", "FILE"))
    options = parser.parse_args()
    if options.record:
        record(*options.record)
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # PatientPruner
    for path in sorted(RECORDED.glob("*.csv")):
        curves = recorded(path)
        drawn = orders(curves, options.trials, options.orders)
        print(
            f"\n{path.stem}: {len(curves)} curves of "
            f"{len(curves[0])} epochs, {options.orders} orders of",
            end=" ",
        )
        print(f"{options.trials} trials on {options.workers} workers\n")
        print(
            "| pruner | epochs spent | points lost, mean | 95th percentile | best trial kept",
            end=" ",
        )
        print(
            "| epochs: fewer than the whole | fewer than unpruned "
            "| points lost with the epochs of 5 |"
        )
        print("|---|---|---|---|---|---|---|---|")
        unpruned = replays("none", drawn, options.workers)
        for name in CANDIDATES:
            short = points_short(name, curves, options.orders, options.workers)
            print(summary(name, drawn, options.workers, unpruned, short), flush=True)


if __name__ == "__main__":
    main()
