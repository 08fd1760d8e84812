"""The page of what speed.py measured."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median

import gpu_page
from scipy import stats
from speed_figure import figure
from speed_results import (
    MODELS,
    Found,
    Results,
    per_hour,
    plain_found,
    precision_of,
    table,
    values_of,
)

SETTINGS = {
    "plain": "`model.fit` with its defaults, all cores",
    "float32": "float32, one thread",
    "float32, two at once": "float32, two such processes at once, each",
    "mixed_bfloat16": "bfloat16, one thread",
    "mixed_bfloat16, two at once": "bfloat16, two such processes at once, each",
}


def write(everywhere: dict[str, Results], folder: Path) -> None:
    """Write speed.md and a picture for each machine below `folder`, with what has been measured
    so far.
    """
    parts = [
        part
        for machine, results in everywhere.items()
        for part in _machine(machine, results, folder)
    ]
    (folder / "speed.md").write_text(
        "\n\n".join([_introduction(), *parts, *gpu_page.section()]) + "\n", encoding="utf-8"
    )


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
    return parts + [
        section(results) for section, names in sections.items() if names & results.keys()
    ]


def _introduction() -> str:
    return (
        "# Speed\n\n"
        "Written by `benchmarks/speed.py FILE`, which measures svhn_sweep and the "
        "script that most people would write"
        " (`benchmarks/plain.py`: Optuna, `model.fit` with its defaults, MLflow by "
        "hand, one trial at a time) next to"
        " each other, in parts, each of them in one run. Where there are several "
        "values, the median, with the smallest"
        " and the largest in brackets."
    )


def _circumstances(results: Results) -> str:
    circumstances: dict[str, list[str]] = {}
    for name, part in results.items():
        circumstances.setdefault(part["with"], []).append(name)
    return "\n\n".join(f"{', '.join(names)}: {known}." for known, names in circumstances.items())


def _steps(results: Results) -> str:
    measured = results["steps"]["model1"]
    precision = precision_of(results)
    rows = []
    for setting, text in (
        (setting, text) for setting, text in SETTINGS.items() if setting in measured
    ):
        cells = []
        for model in MODELS:
            values = values_of(results["steps"][model][setting], "images_per_cpu_second")
            ratio = median(values) / median(
                values_of(results["steps"][model]["plain"], "images_per_cpu_second")
            )
            cells.append(f"{_spread(values, '{:,.0f}')}, {ratio:.2f} times")
        rows.append([text, *cells])
    for setting in sorted({"float32", precision}):
        shares = [
            _spread(values_of(results["steps"][model][setting], "share"), "{:.0%}")
            for model in MODELS
        ]
        rows.append([f"{SETTINGS[setting]}: share of the core's own matrix products", *shares])
    parts = {model: results["steps"][model][precision][0]["parts"] for model in MODELS}
    names = sorted(set().union(*parts.values()), key=lambda name: -parts["model2"].get(name, 0))
    profile = [[name, *(f"{parts[model].get(name, 0):.0%}" for model in MODELS)] for name in names]
    return "\n\n".join(
        [
            "### Steps",
            "Training images per CPU second; validation is part of the time.",
            table(["", *MODELS], rows),
            "Where the time of the operations goes in "
            f"{precision.removeprefix('mixed_')}, in one epoch:",
            table(["", *MODELS], profile),
        ]
    )


def _trials(results: Results) -> str:
    rows = []
    for part, model in (("trials1", "model1"), ("trials2", "model2")):
        if part not in results:
            continue
        plain = results[part]["plain"]
        ours = results[part]["ours"]
        cpu = [median(run["cpu"] for run in runs) for runs in (plain, ours)]
        rows.append(
            [
                f"{model}: CPU seconds",
                *_both(plain, ours, "cpu", "{:.0f}"),
                f"{cpu[1] / cpu[0]:.2f} times",
            ]
        )
        hours = per_hour(results[part])
        rows.append(
            [
                f"{model}: trials per hour",
                *(f"{hour:.1f}" for hour in hours),
                f"{hours[1] / hours[0]:.2f} times",
            ]
        )
        rows.append(
            [f"{model}: best validation accuracy, mean of {len(ours)}", *_compared(plain, ours)]
        )
    note = (
        "The whole program each time, from its start to its end. The plain script "
        "has all cores for one trial; of ours"
        " two run at once, in a thread each, in the precision of a sweep on this "
        "machine, and a pair has ended when"
        " both have. None opens the test split. Ours also save the model and draw "
        "four figures, the script one. Ours"
        " are seeded, each with another number; the script's are not."
    )
    return "\n\n".join(
        ["### Full-length trials", note, table(["", "plain script", "svhn_sweep", ""], rows)]
    )


def _compared(plain: Sequence[Results], ours: Sequence[Results]) -> list[str]:
    """Accuracies of both, and Welch's interval for their difference."""
    theirs, found = ([run["accuracy"] for run in runs] for runs in (plain, ours))
    interval = stats.ttest_ind(found, theirs, equal_var=False).confidence_interval(0.95)
    difference = 100 * (mean(found) - mean(theirs))
    told = (
        f"{difference:+.2f} points, 95 % interval "
        f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"
    )
    return [*(f"{mean(each):.4f} ({_range(each, '{:.3f}')})" for each in (theirs, found)), told]


def _sweeps(results: Results) -> str:
    rows = []
    for number, model in enumerate(MODELS, start=1):
        if f"sweep{number}" in results:
            rows += _sweep(model, results[f"sweep{number}"], results.get(f"plain{number}"))
    note = (
        "One sweep of 24 trials, drawn by TPE and pruned, not confirmed, on as many "
        "workers as there are cores."
    )
    if {"plain1", "plain2"} & results.keys():
        note += " The script trains the same settings in the same order, each to its end"
        note += (
            "; of model2 four of them, from cheap to dear, times six."
            if "plain2" in results
            else "."
        )
    return "\n\n".join(
        [
            "### Sweeps",
            note,
            table(["", "plain script", "svhn_sweep", ""], rows),
            _time_of(results),
        ]
    )


def _time_of(results: Results) -> str:
    """What the workers' time went to."""
    shown = {
        model: results[part]
        for model, part in zip(MODELS, ("sweep1", "sweep2"), strict=True)
        if part in results
    }
    parts = {part: None for sweep in shown.values() for part in sweep["shares"]}
    rows = [
        [part, *(f"{sweep['shares'].get(part, 0):.1%}" for sweep in shown.values())]
        for part in parts
    ]
    if all("driver" in sweep for sweep in shown.values()):
        rows.append(
            ["the driver, of all cores", *(f"{sweep['driver']:.1%}" for sweep in shown.values())]
        )
    note = (
        "What the workers' time went to. Bookkeeping is what a trial takes before, "
        "between and after its epochs, which"
        " include validation: the study's answer, building the model, journal, "
        "checkpoints, figures, files. The driver"
        " talks to Optuna and MLflow beside them."
    )
    return f"{note}\n\n{table(['', *shown], rows)}"


def _sweep(model: str, ours: Results, plain: Results | None) -> list[list[str]]:
    """The rows of one sweep, next to the script's if that was measured."""
    trials = ours["trials"]
    best = max(entry[1] for entry in ours["found"])
    rows = [
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
    rows[0][1::2] = f"{minutes:.1f}{how}", f"{60 * minutes / ours['wall']:.1f} times less"
    rows[1][1::2] = f"{full}{how}", f"{full / ours['epochs']:.1f} times fewer"
    if trained == trials:
        seen = plain_found(plain)
        rows[2][1] = f"{max(entry[1] for entry in seen):.4f}"
        rows += [_reached(model, below, seen, ours["found"]) for below in (0.01, 0.005)]
    return rows


def _reached(model: str, below: float, plain: Found, ours: Found) -> list[str]:
    """A row: when both had found an accuracy a little below the worse of their two best."""
    goal = min(max(accuracy for _, accuracy in each) for each in (plain, ours)) - below
    minutes = [
        next(seconds for seconds, accuracy in each if accuracy >= goal) / 60
        for each in (plain, ours)
    ]
    times = f"{minutes[0] / minutes[1]:.1f} times sooner"
    return [f"{model}: minutes until {goal:.4f}", *(f"{each:.1f}" for each in minutes), times]


def _overhead(results: Results) -> str:
    found = results["overhead"]
    commands = [
        [f"`{text}`", _spread(found[name], "{:.1f} s")]
        for name, text in (("help", "--help"), ("config", "--cfg job"))
    ]
    rows = []
    for text, key in (
        ("from the command to the first epoch, once", "first_epoch_after"),
        ("between the last epoch of a trial and the first of the next", "between_trials"),
        ("tracing, in the first epoch of each trial", "tracing"),
        ("between two epochs: journal, checkpoint, pruner", "between_epochs"),
    ):
        values = [found[model][key] for model in MODELS]
        rows.append(
            [
                text,
                *(
                    _spread(each if isinstance(each, list) else [each], "{:.2f} s")
                    for each in values
                ),
            ]
        )
    note = (
        "One worker with one thread, four trials of four epochs, nothing beside it. "
        "Tracing is what the first epoch"
        " took longer than the later ones, which vary, so it may come out below 0."
    )
    return "\n\n".join(
        [
            "### What is not training",
            table(["command", "takes"], commands),
            note,
            table(["", *MODELS], rows),
        ]
    )


def _memory(results: Results) -> str:
    one = results["memory"]["1"]
    four = results["memory"]["4"]
    rows = [
        [text, *(f"{sum(worker[key] for worker in workers):,} MiB" for workers in (one, four))]
        for text, key in (
            ("private", "private"),
            ("private and its part of what is shared", "proportional"),
            ("resident", "resident"),
        )
    ]
    ratio = sum(worker["proportional"] for worker in four) / sum(
        worker["proportional"] for worker in one
    )
    note = (
        "The workers of a sweep of model2, one thread each, at their most. Four "
        f"hold {ratio:.1f} times what one holds."
    )
    return "\n\n".join(["### Memory", note, table(["", "one worker", "four workers"], rows)])


def _both(plain: Sequence[Results], ours: Sequence[Results], key: str, form: str) -> list[str]:
    return [_spread([run[key] for run in runs], form) for runs in (plain, ours)]


def _spread(values: Sequence[float], form: str) -> str:
    return (
        f"{form.format(median(values))} ({_range(values, form)})"
        if len(values) > 1
        else form.format(values[0])
    )


def _range(values: Sequence[float], form: str) -> str:
    return f"{form.format(min(values))}..{form.format(max(values))}"
