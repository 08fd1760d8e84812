"""The page of what speed.py measured: a table for each part, with a column for each machine."""

import re
from collections.abc import Callable, Mapping, Sequence
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

Machines = Mapping[str, Results]  # by name
Cells = dict[str, str]  # of a machine, by their row; "" for what was not measured

SETTINGS = {
    "plain": "`model.fit` with its defaults, all cores",
    "float32": "float32, one thread",
    "float32, two at once": "float32, two such processes at once, each",
    "mixed_bfloat16": "bfloat16, one thread",
    "mixed_bfloat16, two at once": "bfloat16, two such processes at once, each",
}
INTRODUCTION = """# Speed

Written by `benchmarks/speed.py FILE`.
It measures svhn_sweep next to the script that most people would write
(`benchmarks/plain.py`: Optuna, `model.fit` with its defaults, MLflow by hand, one trial at a time).
A column is a machine, and each of its parts was measured in one run.
Of several values it is the median, with the smallest and the largest in brackets.
An empty cell was not measured."""
STEPS = """## Steps

Training images per CPU second; validation is part of the time."""
OPERATIONS = """Where the time of the operations goes in one epoch, of model1 and of model2,
in the precision of a sweep on that machine:"""
TRIALS = """## Full-length trials

The whole program each time, from its start to its end.
The plain script has all cores for one trial.
Of ours two run at once, in a thread each, in the precision of a sweep on that machine;
a pair has ended when both have.
None opens the test split.
Ours also save the model and draw four figures, the script one.
Ours are seeded, each with another number; the script's are not."""
SWEEPS = """## Sweeps

One sweep of 24 trials, drawn by TPE and pruned, not confirmed, on as many workers as cores.
The script trains the same settings in the same order, each to its end."""
SHARES = """What the workers' time went to.
Bookkeeping is what a trial takes before, between and after its epochs, which include validation:
the study's answer, building the model, journal, checkpoints, figures, files.
The driver talks to Optuna and MLflow beside them."""
OVERHEAD = """## What is not training

One worker with one thread, four trials of four epochs, nothing beside it.
Tracing is what the first epoch took longer than the later ones, which vary: it may be below 0."""
MEMORY = """## Memory

The workers of a sweep of model2, one thread each, at their most: one worker, and four."""
OVERHEADS = {
    "first_epoch_after": "from the command to the first epoch, once",
    "between_trials": "between the last epoch of a trial and the first of the next",
    "tracing": "tracing, in the first epoch of each trial",
    "between_epochs": "between two epochs: journal, checkpoint, pruner",
}
MEMORIES = {
    "private": "private",
    "proportional": "private and its part of what is shared",
    "resident": "resident",
}
BOTH = "plain script / svhn_sweep"


def write(machines: Machines, folder: Path) -> None:
    """Writes speed.md below `folder`, and a picture of each machine that has all that it shows."""
    paragraphs = [
        INTRODUCTION,
        _conditions(machines),
        *_pictures(machines, folder),
        *_section(STEPS, machines, _steps),
        *_section(OPERATIONS, machines, _operations),
        *_section(TRIALS, machines, _trials),
        *_section(SWEEPS, machines, _sweeps),
        *_section(SHARES, machines, _shares),
        *_section(OVERHEAD, machines, _overhead),
        *_section(MEMORY, machines, _memory),
        *gpu_page.section(),
    ]
    (folder / "speed.md").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")


def _section(text: str, machines: Machines, cells: Callable[[Results], Cells]) -> list[str]:
    """The text and its table, without machines and rows of which nothing was measured."""
    columns = {_short(name): cells(results) for name, results in machines.items()}
    columns = {name: column for name, column in columns.items() if any(column.values())}
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    rows = [[label, *(column.get(label, "") for column in columns.values())] for label in labels]
    return [text, table(["", *columns], [row for row in rows if any(row[1:])])] if columns else []


def _short(machine: str) -> str:
    """Its processor and widest instructions: all have two cores."""
    return machine.partition("CPU: ")[2] or machine


def _conditions(machines: Machines) -> str:
    """What else the figures depend on, by machine and part."""
    parts: dict[tuple[str, str], list[str]] = {}
    for name, results in machines.items():
        for part, measured in results.items():
            parts.setdefault((_short(name), measured["with"]), []).append(part)
    rows = [[name, ", ".join(names), known] for (name, known), names in parts.items()]
    return table(["2 cores of", "parts", "with"], rows)


def _pictures(machines: Machines, folder: Path) -> list[str]:
    paragraphs = []
    for name, results in machines.items():
        if {"steps", "trials1", "trials2", "sweep1", "plain1"} <= results.keys():
            picture = folder / "images" / f"speed-{re.sub('[^a-z0-9]+', '-', name.lower())}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            figure(results).savefig(picture)
            title = f"{_short(name)}: images per CPU second, trials per hour, a sweep"
            paragraphs.append(f"![{title}](images/{picture.name})")
    return paragraphs


def _steps(results: Results) -> Cells:
    cells: Cells = {}
    for model in MODELS:
        measured = results.get("steps", {}).get(model, {})
        for setting, text in SETTINGS.items():
            label = f"{model}: {text}"
            cells[label] = _images(measured, setting) if setting in measured else ""
            if setting in ("float32", "mixed_bfloat16"):
                share = values_of(measured.get(setting, []), "share")
                label = f"{label}, share of the core's own matrix products"
                cells[label] = _spread(share, "{:.0%}")
    return cells


def _images(measured: Results, setting: str) -> str:
    key = "images_per_cpu_second"
    values, plain = (values_of(measured[name], key) for name in (setting, "plain"))
    ratio = "" if setting == "plain" else f", {median(values) / median(plain):.2f} times"
    return f"{_spread(values, '{:,.0f}')}{ratio}"


def _operations(results: Results) -> Cells:
    if "steps" not in results:
        return {}
    precision = precision_of(results)
    shares = [results["steps"][model][precision][0]["parts"] for model in MODELS]
    names = sorted({*shares[0], *shares[1]}, key=lambda name: -shares[1].get(name, 0))
    return {name: " / ".join(f"{share.get(name, 0):.0%}" for share in shares) for name in names}


def _trials(results: Results) -> Cells:
    cells: Cells = {}
    for number, model in enumerate(MODELS, start=1):
        if (part := results.get(f"trials{number}")) is None:
            continue
        hours = per_hour(part)
        cpu, accuracies = (
            [[run[key] for run in part[who]] for who in ("plain", "ours")]
            for key in ("cpu", "accuracy")
        )
        cells |= {
            f"{model}: CPU seconds, {BOTH}": f"{_spread(cpu[0], '{:.0f}')} / "
            f"{_spread(cpu[1], '{:.0f}')}, {median(cpu[1]) / median(cpu[0]):.2f} times",
            f"{model}: trials per hour, {BOTH}": f"{hours[0]:.1f} / {hours[1]:.1f}, "
            f"{hours[1] / hours[0]:.2f} times",
            f"{model}: mean best validation accuracy, {BOTH}": " / ".join(
                f"{mean(each):.4f} ({_range(each, '{:.3f}')})" for each in accuracies
            ),
            f"{model}: difference in points, 95 % interval": _difference(*accuracies),
        }
    return cells


def _difference(plain: Sequence[float], ours: Sequence[float]) -> str:
    """Welch's interval of svhn_sweep's accuracies minus the script's."""
    interval = stats.ttest_ind(ours, plain, equal_var=False).confidence_interval(0.95)
    ends = f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"
    return f"{100 * (mean(ours) - mean(plain)):+.2f} ({ends})"


def _sweeps(results: Results) -> Cells:
    cells: Cells = {}
    for number, model in enumerate(MODELS, start=1):
        ours, plain = (results.get(f"{part}{number}") for part in ("sweep", "plain"))
        if ours is None or plain is None:
            continue
        # The script's trials may be a part of the sweep's: of model2, four from cheap to dear.
        times = ours["trials"] / len(plain["trials"])
        training = sum(trial["seconds"] for trial in plain["trials"])
        minutes = (plain["wall"] + (times - 1) * training) / 60, ours["wall"] / 60
        epochs = times * sum(len(trial["accuracies"]) for trial in plain["trials"])
        cells |= {
            f"{model}: minutes, {BOTH}": _ratio(*minutes),
            f"{model}: epochs, {BOTH}": f"{epochs:.0f} / {ours['epochs']}",
        }
        if times == 1:
            cells |= _found(model, plain_found(plain), ours["found"])
    return cells


def _found(model: str, plain: Found, ours: Found) -> Cells:
    """What both sweeps found, and when they had found nearly the worse of the two."""
    best = [max(accuracy for _, accuracy in found) for found in (plain, ours)]
    cells = {f"{model}: best validation accuracy, {BOTH}": f"{best[0]:.4f} / {best[1]:.4f}"}
    for below in (0.01, 0.005):
        minutes = [
            next(seconds for seconds, accuracy in found if accuracy >= min(best) - below) / 60
            for found in (plain, ours)
        ]
        label = f"{model}: minutes until {below} below the worse of these, {BOTH}"
        cells[label] = _ratio(*minutes)
    return cells


def _ratio(plain: float, ours: float) -> str:
    return f"{plain:.1f} / {ours:.1f}, {plain / ours:.1f} times"


def _shares(results: Results) -> Cells:
    cells: Cells = {}
    for number, model in enumerate(MODELS, start=1):
        if (part := results.get(f"sweep{number}")) is not None:
            shares = part["shares"] | {"the driver, of all cores": part["driver"]}
            cells |= {f"{model}: {name}": f"{share:.1%}" for name, share in shares.items()}
    return cells


def _overhead(results: Results) -> Cells:
    if (measured := results.get("overhead")) is None:
        return {}
    cells = {
        f"`{command}`": _spread(measured[key], "{:.1f} s")
        for command, key in (("--help", "help"), ("--cfg job", "config"))
    }
    for model in MODELS:
        for key, text in OVERHEADS.items():
            values = measured[model][key]
            values = values if isinstance(values, list) else [values]
            cells[f"{model}: {text}"] = _spread(values, "{:.2f} s")
    return cells


def _memory(results: Results) -> Cells:
    if (measured := results.get("memory")) is None:
        return {}
    cells: Cells = {}
    for key, text in MEMORIES.items():
        one, four = (sum(worker[key] for worker in measured[count]) for count in ("1", "4"))
        cells[text] = f"{one:,} MiB / {four:,} MiB, {four / one:.1f} times"
    return cells


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    spread = f" ({_range(values, form)})" if len(values) > 1 else ""
    return form.format(median(values)) + spread


def _range(values: Sequence[float], form: str) -> str:
    return f"{form.format(min(values))}..{form.format(max(values))}"
