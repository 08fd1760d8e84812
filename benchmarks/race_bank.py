"""How often is a race right, and what does it cost? Recorded trainings, raced in other orders.

python benchmarks/race_bank.py [--replays 2000]
    races the trainings in race_bank.json
python benchmarks/race_bank.py --record FILE.h5 [--processes 2]
    trains what race_bank.json lacks, seed by seed; each result is written as it comes

A training is model1 on the real digits of FILE, its result the best epoch's validation accuracy, as
in a sweep. `copy` is the baseline once more with seeds of its own. A candidate's true difference is
its mean over all recorded seeds. A replay draws the seeds of its pairs with replacement (the
bootstrap); the copy's results are drawn from all that the baseline and the copy have, and in races
of the copy alone the baseline's are, too, so that in truth the two are equal.

A race is the package's own, `hold_race`, with the defaults of the sweeper. It is compared with
Student's interval after a fixed number of pairs: five, and the fewest that find the difference as
often as the race does.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, median, quantiles, stdev

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from omegaconf import OmegaConf
from speed_results import table
from transfer import begin, composed

from svhn_sweep import data
from svhn_sweep.config.schema import conf_dir
from svhn_sweep.files import write_atomically
from svhn_sweep.sweep.plan.plan import BASELINE_NUMBER
from svhn_sweep.sweep.selection.race import (
    Race,
    RaceRules,
    VerdictOutcome,
    hold_race,
)
from svhn_sweep.sweep.selection.repeated_intervals import single_interval

BANK = Path(__file__).with_suffix(".json")
CONFIGS = {
    "baseline": ["training.epochs=12"],
    "small": ["training.epochs=12", "model.dropout=0.1"],
    "large": ["training.epochs=12", "model.dropout=0.3"],
    "copy": ["training.epochs=12"],
}
CANDIDATES = ("large", "small", "copy")
SEEDS = range(1, 41)
SEEDS_OF_THE_COPY = 1000  # are larger by so much
DEFAULTS = OmegaConf.load(conf_dir() / "hydra/sweeper/optuna.yaml").confirm
N_PAIRS = 40  # are drawn for a replay
FIXED = 5  # pairs of confirm.seeds=5

Bank = dict[str, dict[int, float]]  # the accuracy by config and seed


def train(config_name: str, seed: int, digits: Path) -> float:
    """Returns the best validation accuracy of one training."""
    from svhn_sweep.training.fit import fit
    from svhn_sweep.training.model import build_model

    if config_name == "copy":
        seed += SEEDS_OF_THE_COPY
    config = composed("model1", seed, *CONFIGS[config_name])
    splits = data.hdf5.read(digits, "svhn", test=False)
    parts = data.split_validation(splits, config.training.validation_split)
    model = build_model(config.model, config.training.precision, seed)
    result = fit(model, parts.train, parts.validation, config.training, seed)
    return max(epoch["val/accuracy"] for epoch in result.history)


def load() -> Bank:
    """Reads what is recorded."""
    recorded = json.loads(BANK.read_text()) if BANK.exists() else {}
    by_name = {name: recorded.get(name, {}) for name in CONFIGS}
    return {
        name: {int(seed): value for seed, value in values.items()}
        for name, values in by_name.items()
    }


def record(digits: Path, processes: int) -> None:
    """Trains what the bank lacks, one seed of all configs after another."""
    bank = load()
    left = [(name, seed) for seed in SEEDS for name in CONFIGS if seed not in bank[name]]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, begin, (1,)) as pool:
        running = {pool.submit(train, *each, digits): each for each in left}
        for future in as_completed(running):
            name, seed = running[future]
            bank[name][seed] = future.result()
            write_atomically(BANK, json.dumps(bank, indent=1) + "\n")
            print(f"{name:8} seed {seed:2}: {bank[name][seed]:.4f}", flush=True)


def draw(bank: Bank, random: np.random.Generator, *, null: bool) -> Bank:
    """Draws the results of one replay; `null`: of one in which copy and baseline are equal."""
    seeds = random.choice(SEEDS, N_PAIRS).tolist()
    drawn = {name: [bank[name][seed] for seed in seeds] for name in CONFIGS}
    equal = [*bank["baseline"].values(), *bank["copy"].values()]
    for name in ("baseline", "copy") if null else ("copy",):
        drawn[name] = random.choice(equal, N_PAIRS).tolist()
    return {name: dict(enumerate(values)) for name, values in drawn.items()}


def race(drawn: Bank, candidates: Sequence[str]) -> Race:
    """Holds a race of some configs against the baseline with the sweeper's default rules."""
    seeds = range(DEFAULTS.max_seeds)
    rules = RaceRules(seeds, fixed=False, margin=DEFAULTS.margin, maximize=True)
    numbers = range(BASELINE_NUMBER + 1, BASELINE_NUMBER + 1 + len(candidates))
    results = {number: drawn[name] for number, name in zip(numbers, candidates, strict=True)}
    return hold_race({BASELINE_NUMBER: drawn["baseline"], **results}, numbers, rules)


def trainings(held: Race) -> int:
    """Returns how many trainings a race has used."""
    return len(held.seeds) * (1 + len(held.active)) + sum(held.left.values())


def found_with(drawn: Sequence[Bank], candidate: str, pairs: int) -> float:
    """Returns how often a fixed number of pairs finds that a candidate is better."""
    found = 0
    for each in drawn:
        differences = [each[candidate][seed] - each["baseline"][seed] for seed in range(pairs)]
        found += single_interval(differences).low > 0
    return found / len(drawn)


def fewest_pairs(drawn: Sequence[Bank], candidate: str, power: float) -> int | None:
    """Returns how many fixed pairs find a candidate as often as `power`; None: all do not."""
    for pairs in range(2, N_PAIRS + 1):
        if found_with(drawn, candidate, pairs) >= power:
            return pairs
    return None


def single_races(bank: Bank, name: str, drawn: Sequence[Bank]) -> list[str]:
    """Returns what races of one candidate against the baseline say and cost, as a table's row."""
    held = [race(each, [name]) for each in drawn]
    outcomes = [each.outcome for each in held]
    shares = {kind: mean(outcome is kind for outcome in outcomes) for kind in VerdictOutcome}
    fixed = fewest_pairs(drawn, name, shares[VerdictOutcome.better]) if name != "copy" else None
    points = [100 * (bank[name][seed] - bank["baseline"][seed]) for seed in SEEDS]
    used = [trainings(each) for each in held]
    low, _, high = quantiles(used, n=4)
    return [
        name,
        f"{mean(points):+.2f} ({stdev(points):.2f})",
        *(f"{share:.1%}" for share in shares.values()),
        f"{median(used):g} ({low:g}..{high:g})",
        f"{found_with(drawn, name, FIXED):.1%}",
        "" if fixed is None else str(2 * fixed),
    ]


def joint_races(drawn: Sequence[Bank]) -> list[list[str]]:
    """Returns how often each candidate wins a race of all, and how often it is best on one seed."""
    leaders = [race(each, CANDIDATES).leader for each in drawn]
    best = [max(CANDIDATES, key=lambda name: each[name][0]) for each in drawn]
    numbered = enumerate(CANDIDATES, BASELINE_NUMBER + 1)
    return [
        [
            name,
            f"{mean(leader == number for leader in leaders):.1%}",
            f"{mean(other == name for other in best):.1%}",
        ]
        for number, name in numbered
    ]


def report(bank: Bank, replays: int) -> None:
    """Prints the tables."""
    random = np.random.default_rng(0)
    drawn = [draw(bank, random, null=False) for _ in range(replays)]
    null = [draw(bank, random, null=True) for _ in range(replays)]
    rows = [single_races(bank, name, null if name == "copy" else drawn) for name in CANDIDATES]
    head = ["candidate", "points (spread of a pair)", *(kind.value for kind in VerdictOutcome)]
    costs = ["trainings (quartiles)", "better by 5 pairs", "trainings of as good a fixed number"]
    print(table([*head, *costs], rows), end="\n\n")
    print(table(["candidate", "wins the race", "is best on one seed"], joint_races(drawn)))
    used = [trainings(race(each, CANDIDATES)) for each in drawn]
    print(f"\n{replays} replays each; a race of all takes {median(used):g} trainings (median)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, metavar="FILE.h5")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replays", type=int, default=2000)
    options = parser.parse_args()
    if options.record:
        record(options.record.resolve(), options.processes)
    report(load(), options.replays)


if __name__ == "__main__":
    main()
