"""The page and the figure of what speed.py measured."""

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy import stats

Results = dict[str, Any]  # the parts that were measured on one machine, by name
Found = Sequence[tuple[float, float]]  # when, in seconds after the start, which validation accuracy was seen
OURS, PLAIN = sns.color_palette("colorblind")[:2]
MODELS = ("model1", "model2")
SETTINGS = {
    "plain": "`model.fit` with its defaults, all cores",
    "float32": "float32, one thread",
    "float32, two at once": "float32, two such processes at once, each",
    "mixed_bfloat16": "bfloat16, one thread",
    "mixed_bfloat16, two at once": "bfloat16, two such processes at once, each",
}


def write(everywhere: dict[str, Results], folder: Path) -> None:
    """Write speed.md and a picture for each machine below `folder`, with what has been measured so far."""
    parts = [part for machine, results in everywhere.items() for part in _machine(machine, results, folder)]
    (folder / "speed.md").write_text("\n\n".join([_introduction(), *parts]) + "\n", encoding="utf-8")


def _machine(name: str, results: Results, folder: Path) -> list[str]:
    sections: dict[Callable[[Results], str], set[str]] = {  # and the parts of which any is enough
        _steps: {"steps"},
        _trials: {"trials1", "trials2"},
        _sweeps: {"sweep1", "sweep2"},
        _overhead: {"overhead"},
        _memory: {"memory"},
    }
    parts = [f"## {name}", _circumstances(results)]
    if {"steps", "trials1", "trials2", "sweep1", "plain1"} <= results.keys():
        picture = folder / "images" / f"speed-{re.sub('[^a-z0-9]+', '-', name.lower())}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure(results).savefig(picture)
        parts.append(f"![Images per CPU second, trials per hour, a sweep](images/{picture.name})")
    return parts + [section(results) for section, names in sections.items() if names & results.keys()]


def figure(results: Results) -> Figure:
    """Images per CPU second, trials per hour, and what a sweep has found by when."""
    drawn = Figure(figsize=(12, 3.8), layout="constrained", dpi=100)
    steps, trials, sweep = drawn.subplots(1, 3, width_ratios=[1, 1, 1.3])
    measured = [results["steps"][model] for model in MODELS]
    images = [
        [_middle(_each(each[name], "images_per_cpu_second")) for each in measured]
        for name in ("plain", f"{_precision(results)}, two at once")
    ]
    _bars(steps, "training images per CPU second", *images)
    hours = [_per_hour(results[part]) for part in ("trials1", "trials2")]
    _bars(trials, "full-length trials per hour", [each[0] for each in hours], [each[1] for each in hours])
    for name, color, found in (
        ("plain script", PLAIN, _plain_found(results["plain1"])),
        ("svhn_sweep", OURS, results["sweep1"]["found"]),
    ):
        minutes, accuracies = [entry[0] / 60 for entry in found], np.maximum.accumulate([entry[1] for entry in found])
        sweep.step(minutes, accuracies, where="post", color=color, label=name, linewidth=1.8)
    highest = max(line.get_ydata().max() for line in sweep.lines)
    sweep.set(
        title="the same 24 trials of model1: best so far", xlabel="minutes", ylim=(highest - 0.04, highest + 0.004)
    )
    sweep.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    sweep.grid(alpha=0.3)
    sweep.legend(frameon=False, loc="lower right")
    return drawn


def _introduction() -> str:
    return (
        "# Speed\n\n"
        "Written by `benchmarks/speed.py FILE`, which measures svhn_sweep and the script that most people would write"
        " (`benchmarks/plain.py`: Optuna, `model.fit` with its defaults, MLflow by hand, one trial at a time) next to"
        " each other, in parts, each of them in one run. Where there are several values, the median, with the smallest"
        " and the largest in brackets."
    )


def _circumstances(results: Results) -> str:
    circumstances: dict[str, list[str]] = {}
    for name, part in results.items():
        circumstances.setdefault(part["with"], []).append(name)
    return "\n\n".join(f"{', '.join(names)}: {known}." for known, names in circumstances.items())


def _precision(results: Results) -> str:
    """That a sweep takes on this machine."""
    return "mixed_bfloat16" if "mixed_bfloat16" in results["steps"]["model1"] else "float32"


def _steps(results: Results) -> str:
    measured, precision = results["steps"]["model1"], _precision(results)
    rows = []
    for setting, text in ((setting, text) for setting, text in SETTINGS.items() if setting in measured):
        cells = []
        for model in MODELS:
            values = _each(results["steps"][model][setting], "images_per_cpu_second")
            ratio = _middle(values) / _middle(_each(results["steps"][model]["plain"], "images_per_cpu_second"))
            cells.append(f"{_spread(values, '{:,.0f}')}, {ratio:.2f} times")
        rows.append([text, *cells])
    for setting in sorted({"float32", precision}):
        shares = [_spread(_each(results["steps"][model][setting], "share"), "{:.0%}") for model in MODELS]
        rows.append([f"{SETTINGS[setting]}: share of the core's own matrix products", *shares])
    parts = {model: results["steps"][model][precision][0]["parts"] for model in MODELS}
    names = sorted(set().union(*parts.values()), key=lambda name: -parts["model2"].get(name, 0))
    profile = [[name, *(f"{parts[model].get(name, 0):.0%}" for model in MODELS)] for name in names]
    return "\n\n".join(
        [
            "### Steps",
            "Training images per CPU second; validation is part of the time.",
            _table(["", *MODELS], rows),
            f"Where the time of the operations goes in {precision.removeprefix('mixed_')}, in one epoch:",
            _table(["", *MODELS], profile),
        ]
    )


def _trials(results: Results) -> str:
    rows = []
    for part, model in (("trials1", "model1"), ("trials2", "model2")):
        if part not in results:
            continue
        plain, ours = results[part]["plain"], results[part]["ours"]
        cpu = [_middle(run["cpu"] for run in runs) for runs in (plain, ours)]
        rows.append([f"{model}: CPU seconds", *_both(plain, ours, "cpu", "{:.0f}"), f"{cpu[1] / cpu[0]:.2f} times"])
        hours = _per_hour(results[part])
        rows.append(
            [f"{model}: trials per hour", *(f"{hour:.1f}" for hour in hours), f"{hours[1] / hours[0]:.2f} times"]
        )
        rows.append([f"{model}: best validation accuracy, mean of {len(ours)}", *_compared(plain, ours)])
    note = (
        "The whole program each time, from its start to its end. The plain script has all cores for one trial; of ours"
        " two run at once, in a thread each, and a pair has ended when both have. Ours also save the model and draw"
        " four figures, the script one. Ours are seeded, each with another number; the script's are not."
    )
    return "\n\n".join(["### Full-length trials", note, _table(["", "plain script", "svhn_sweep", ""], rows)])


def _compared(plain: Sequence[Results], ours: Sequence[Results]) -> list[str]:
    """Accuracies of both, and Welch's interval for their difference."""
    theirs, found = ([run["accuracy"] for run in runs] for runs in (plain, ours))
    interval = stats.ttest_ind(found, theirs, equal_var=False).confidence_interval(0.95)
    difference = 100 * (statistics.mean(found) - statistics.mean(theirs))
    told = f"{difference:+.2f} points, 95 % interval {100 * interval.low:+.2f} to {100 * interval.high:+.2f}"
    return [*(f"{statistics.mean(each):.4f} ({_range(each, '{:.3f}')})" for each in (theirs, found)), told]


def _sweeps(results: Results) -> str:
    rows = []
    for number, model in enumerate(MODELS, start=1):
        if f"sweep{number}" in results:
            rows += _sweep(model, results[f"sweep{number}"], results.get(f"plain{number}"))
    note = (
        "One sweep of 24 trials, drawn by TPE and pruned, on as many workers as there are cores. The script trains the"
        " same settings in the same order, each to its end."
    )
    return "\n\n".join(["### Sweeps", note, _table(["", "plain script", "svhn_sweep", ""], rows)])


def _sweep(model: str, ours: Results, plain: Results | None) -> list[list[str]]:
    """The rows of one sweep, next to the script's if that was measured."""
    trials, best = ours["trials"], max(entry[1] for entry in ours["found"])
    rows = [
        [f"{model}: of the workers' time in epochs", "", f"{ours['training']:.1%}", ""],
        [f"{model}: minutes", "", f"{ours['wall'] / 60:.1f}", ""],
        [f"{model}: epochs", "", f"{ours['epochs']}", ""],
        [f"{model}: best validation accuracy", "", f"{best:.4f}", ""],
    ]
    if plain is None:
        return rows
    trained = len(plain["trials"])
    start = plain["wall"] - sum(trial["seconds"] for trial in plain["trials"])
    minutes = (start + (plain["wall"] - start) / trained * trials) / 60
    full = max(len(trial["accuracies"]) for trial in plain["trials"]) * trials
    how = "" if trained == trials else f" ({trained} trials, times {trials / trained:g})"
    rows[1][1::2] = f"{minutes:.1f}{how}", f"{60 * minutes / ours['wall']:.1f} times less"
    rows[2][1::2] = f"{full}{how}", f"{full / ours['epochs']:.1f} times fewer"
    if trained == trials:
        seen = _plain_found(plain)
        rows[3][1] = f"{max(entry[1] for entry in seen):.4f}"
        rows += [_reached(model, below, seen, ours["found"]) for below in (0.01, 0.005)]
    return rows


def _reached(model: str, below: float, plain: Found, ours: Found) -> list[str]:
    """A row: when both had found an accuracy a little below the worse of their two best."""
    goal = min(max(accuracy for _, accuracy in each) for each in (plain, ours)) - below
    minutes = [next(seconds for seconds, accuracy in each if accuracy >= goal) / 60 for each in (plain, ours)]
    times = f"{minutes[0] / minutes[1]:.1f} times sooner"
    return [f"{model}: minutes until {goal:.4f}", *(f"{each:.1f}" for each in minutes), times]


def _overhead(results: Results) -> str:
    found = results["overhead"]
    commands = [
        [f"`{text}`", _spread(found[name], "{:.1f} s")] for name, text in (("help", "--help"), ("config", "--cfg job"))
    ]
    rows = []
    for text, key in (
        ("from the command to the first epoch, once", "first_epoch_after"),
        ("between the last epoch of a trial and the first of the next", "between_trials"),
        ("tracing, in the first epoch of each trial", "tracing"),
        ("between two epochs: journal, checkpoint, pruner", "between_epochs"),
    ):
        values = [found[model][key] for model in MODELS]
        rows.append([text, *(_spread(each if isinstance(each, list) else [each], "{:.2f} s") for each in values)])
    note = "One worker with one thread, four trials of four epochs, nothing beside it."
    return "\n\n".join(
        ["### What is not training", _table(["command", "takes"], commands), note, _table(["", *MODELS], rows)]
    )


def _memory(results: Results) -> str:
    one, four = results["memory"]["1"], results["memory"]["4"]
    rows = [
        [text, *(f"{sum(worker[key] for worker in workers):,} MiB" for workers in (one, four))]
        for text, key in (
            ("private", "private"),
            ("private and its part of what is shared", "proportional"),
            ("resident", "resident"),
        )
    ]
    ratio = sum(worker["proportional"] for worker in four) / sum(worker["proportional"] for worker in one)
    note = (
        f"The workers of a sweep of model2, one thread each, at their most. Four hold {ratio:.1f} times what one holds."
    )
    return "\n\n".join(["### Memory", note, _table(["", "one worker", "four workers"], rows)])


def _per_hour(part: Results) -> tuple[float, float]:
    """Full-length trials per hour on the whole machine: the plain script's, and ours."""
    walls = [run["wall"] for run in part["ours"]]
    pairs = [max(pair) for pair in zip(walls[::2], walls[1::2], strict=True)]
    return 3600 / _middle(run["wall"] for run in part["plain"]), 2 * 3600 / _middle(pairs)


def _plain_found(part: Results) -> Found:
    """When the plain script had seen which accuracy, its epochs taken to be equally long."""
    found: list[tuple[float, float]] = []
    before = part["wall"] - sum(trial["seconds"] for trial in part["trials"])
    for trial in part["trials"]:
        each = trial["seconds"] / len(trial["accuracies"])
        found += [(before + each * (at + 1), accuracy) for at, accuracy in enumerate(trial["accuracies"])]
        before += trial["seconds"]
    return found


def _bars(axes: Any, title: str, plain: Sequence[float], ours: Sequence[float]) -> None:
    for at, (name, color, values) in enumerate((("plain script", PLAIN, plain), ("svhn_sweep", OURS, ours))):
        bars = axes.bar([index + 0.4 * at for index in range(len(values))], values, 0.38, color=color, label=name)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9)
    axes.set_xticks([index + 0.2 for index in range(len(MODELS))], MODELS)
    axes.set_title(title)
    axes.margins(y=0.12)
    sns.despine(ax=axes)
    axes.legend(frameon=False, fontsize=8)


def _each(runs: Sequence[Results], key: str) -> list[float]:
    return [value for run in runs for value in run[key]]


def _both(plain: Sequence[Results], ours: Sequence[Results], key: str, form: str) -> list[str]:
    return [_spread([run[key] for run in runs], form) for runs in (plain, ours)]


def _middle(values: Iterable[float]) -> float:
    return statistics.median(values)


def _spread(values: Sequence[float], form: str) -> str:
    return f"{form.format(_middle(values))} ({_range(values, form)})" if len(values) > 1 else form.format(values[0])


def _range(values: Sequence[float], form: str) -> str:
    return f"{form.format(min(values))}..{form.format(max(values))}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
