"""How many real digits does a training on synthetic ones replace?

python benchmarks/transfer.py FILE.h5 [--processes N] [--results FILE.json] [--figure FILE.png]

Trains model2 on 250, 1,000, 3,000, 4,000 and all training digits of FILE, in an order that the seed
draws, a fifth of them for validation: from random weights, and from those of model2 after 10,000
synthetic digits of the same seed. Both have the same epochs, batches of 32 digits, and keep the
epoch that is best on validation; test accuracy is that of FILE's test split. Each result is written
as it comes, one seed after another, and a second call continues. Models trained on synthetic digits
are kept in ./data.
"""

import argparse
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import seaborn as sns
from hydra import initialize_config_dir
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from svhn_sweep import data
from svhn_sweep.config.schema import Config, compose_config, conf_dir, register_schema
from svhn_sweep.files import file_digest, write_atomically
from svhn_sweep.training.initial_weights import InitialWeights, take_over

SEEDS = range(1, 6)
ALL = 0
# by digits: 1,050 to 9,460 steps, after which validation no longer improves
EPOCHS = {250: 150, 1000: 60, 3000: 40, 4000: 40, ALL: 20}
STARTS = ("scratch", "transfer")


@dataclass(frozen=True)
class Point:
    """A training on real digits; `digits` 0 means all."""

    seed: int
    digits: int
    start: str


def composed(model: str, seed: int, *overrides: str) -> Config:
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose_config([f"model={model}", f"seed={seed}", *overrides])


def train_source(seed: int, file: Path) -> None:
    """Trains model2's baseline on the 10,000 default synthetic digits, and saves it."""
    from svhn_sweep.training.fit import fit
    from svhn_sweep.training.model import build_model

    config = composed("model2", seed, "data=synthetic")
    splits = data.load(data.resolve(config.data), test=False)
    parts = data.split_validation(splits, config.training.validation_split)
    model = build_model(config.model, config.training.precision, seed)
    fit(model, parts.train, parts.validation, config.training, seed)
    model.save(file)


def accuracy(point: Point, digits: Path, source: Path) -> float:
    """Returns the test accuracy of one training on real digits."""
    from svhn_sweep.training.evaluation import evaluate, predictor
    from svhn_sweep.training.fit import fit
    from svhn_sweep.training.model import build_model

    overrides = ["training.batch_size=32", "training.restore_best_weights=true"]
    config = composed("model2", point.seed, *overrides)
    training = replace(config.training, epochs=EPOCHS[point.digits])
    splits = data.hdf5.read(digits, "svhn", test=True)
    order = np.random.default_rng(point.seed).permutation(len(splits.x_train))
    chosen = order[: point.digits or None]
    subset = replace(splits, x_train=splits.x_train[chosen], y_train=splits.y_train[chosen])
    parts = data.split_validation(subset, training.validation_split)
    model = build_model(config.model, training.precision, point.seed)
    if point.start == "transfer":
        weights = InitialWeights(str(source), source, file_digest(source))
        take_over(model, weights, config.model)
    fit(model, parts.train, parts.validation, training, point.seed)
    assert splits.x_test is not None
    assert splits.y_test is not None
    return evaluate(predictor(model), splits.x_test, splits.y_test, "test").accuracy


def begin(threads: int) -> None:
    """Gives way to all other processes, and limits TensorFlow's threads."""
    from svhn_sweep.training.device import use_threads

    os.nice(19 - os.nice(0))
    use_threads(threads)


def measure(digits: Path, results: Path, processes: int) -> list[dict[str, object]]:
    """Trains what the results lack; returns all results."""
    found = json.loads(results.read_text()) if results.exists() else []
    done = {Point(each["seed"], each["digits"], each["start"]) for each in found}
    points = [Point(*key) for key in ((s, d, t) for s in SEEDS for d in EPOCHS for t in STARTS)]
    left = [point for point in points if point not in done]
    sources = {seed: Path("data", f"transfer-source-{seed}.keras").absolute() for seed in SEEDS}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin, (1,)) as pool:
        for seed in dict.fromkeys(point.seed for point in left):
            if not sources[seed].exists():
                pool.submit(train_source, seed, sources[seed]).result()
            running = {
                pool.submit(accuracy, point, digits, sources[seed]): point
                for point in left
                if point.seed == seed
            }
            for future in as_completed(running):
                found.append({**asdict(running[future]), "test": future.result()})
                write_atomically(results, json.dumps(found, indent=1) + "\n")
                print(found[-1], flush=True)
    return found


def table(found: list[dict[str, object]]) -> dict[str, dict[int, list[float]]]:
    """The test accuracies by start and number of digits."""
    values: dict[str, dict[int, list[float]]] = {start: {} for start in STARTS}
    for start in STARTS:
        for digits in EPOCHS:
            each = [
                float(str(entry["test"]))
                for entry in found
                if entry["start"] == start and entry["digits"] == digits
            ]
            if each:
                values[start][digits] = each
    return values


def figure(values: dict[str, dict[int, list[float]]], total: int) -> Figure:
    drawn = Figure(figsize=(6, 3.8), layout="constrained", dpi=100)
    axes = drawn.subplots()
    names = {"scratch": "random weights", "transfer": "weights from 10,000 synthetic digits"}
    for color, start in zip(sns.color_palette("colorblind"), STARTS, strict=False):
        by_digits = {digits or total: each for digits, each in values[start].items()}
        for digits, each in by_digits.items():
            axes.plot([digits] * len(each), each, ".", color=color, alpha=0.5)
        means = [mean(each) for each in by_digits.values()]
        axes.plot(list(by_digits), means, color=color, label=names[start])
    axes.set(
        xscale="log",
        xlabel="real digits to train and validate",
        ylabel="accuracy on real test digits",
    )
    ticks = [digits or total for digits in EPOCHS]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=30)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    sns.despine(ax=axes)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    file = options.file.resolve()
    values = table(measure(file, options.results.resolve(), options.processes))
    for start, by_digits in values.items():
        for digits, each in by_digits.items():
            spread = f" +- {stdev(each):.4f}" if len(each) > 1 else ""
            print(f"{start:8} {digits or 'all':>6}: {mean(each):.4f}{spread} of {len(each)} seeds")
    if options.figure is not None:
        total = len(data.hdf5.read(file, "svhn", test=False).x_train)
        figure(values, total).savefig(options.figure)


if __name__ == "__main__":
    main()
