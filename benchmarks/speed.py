"""How fast svhn_sweep is, next to the script that most people would write (plain.py), in one run.

python benchmarks/speed.py FILE [--parts steps trials1 ...] [--into docs]

steps              images per CPU second in float32, and in bfloat16 where the processor computes in
                   it; the faster of them side by side, too; the share of the core's own matrix
                   products
trials1, trials2   a model's full-length baseline, six times: whole programs, CPU seconds, how many
                   an hour
overhead           until the first epoch, between two trials, between two epochs
memory             of one worker, and of four
sweep1, sweep2     24 trials of a model with the defaults, but for the confirmation
plain1             plain.py trains the same 24 settings of model1 in the same order, to their ends
plain2             of model2 it trains four, from cheap to dear, to be multiplied by six

Nothing else should run meanwhile: all of it takes some four hours on two cores. Each part is kept
in benchmarks/speed.json when it is done, below the machine's name and with the commit of the code;
so parts can be measured one at a time (plain1 after sweep1, plain2 after sweep2). Page and figures
are written from what is there.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import memory
import speed_page
import timeline
from omegaconf import OmegaConf
from speed_results import MODELS

from svhn_sweep import machine
from svhn_sweep.config.schema import Precision
from svhn_sweep.tracking import journal

HERE = Path(__file__).parent
RESULTS = HERE / "speed.json"
MEASURED = ("svhn_sweep", "conf", "benchmarks/*.py")
WIDEST = ("avx512_bf16", "avx512f", "avx2")  # of what TensorFlow computes with, by its flag
SEEDS = range(42, 48)
DEVICE = "from svhn_sweep.training.device import current_device; print(current_device())"
LEFT_OUT = ("MLFLOW_", "HYDRA_", "TF_ENABLE_ONEDNN_OPTS")
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(LEFT_OUT)}
Part = dict[str, Any]


@dataclass(frozen=True)
class Ran:
    """A command that is over.

    Attributes:
        wall: seconds of the clock.
        cpu: seconds of the processor, its children's too.
        own_cpu: without theirs.
    """

    folder: Path
    wall: float
    cpu: float
    own_cpu: float
    printed: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--into", type=Path, default=HERE.parent / "docs")
    options = parser.parse_args()
    for part in options.parts:
        measured_with = circumstances(options.file)
        with tempfile.TemporaryDirectory() as folder:
            found = PARTS[part](options.file.resolve(), Path(folder)) | {"with": measured_with}
        known = everywhere()
        here = this_machine()
        known[here] = known.get(here, {}) | {part: found}
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")
        print(part, json.dumps(found), flush=True)
    speed_page.write(everywhere(), options.into)


def everywhere() -> dict[str, dict[str, Part]]:
    """The parts that were measured before, by name, of each machine."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def this_machine() -> str:
    """Its cores, device and widest instructions, which differ between processors of one name."""
    # In a process of its own: this one keeps away from TensorFlow, whose pages it would share with
    # those it measures.
    device = subprocess.run(
        [sys.executable, "-c", DEVICE], capture_output=True, text=True, check=True
    ).stdout.strip()
    return ", ".join(
        [
            f"{machine.cores()} cores",
            device,
            *[each for each in WIDEST if each in machine.cpu_flags()][:1],
        ]
    )


def circumstances(file: Path) -> str:
    """What else the figures depend on."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("tensorflow", "keras", "mlflow", "optuna")
    )
    with h5py.File(file) as digits:
        data = (
            f"the {len(digits['y_train']):,} training digits of "
            f"{file.name}, a fifth of them for validation"
        )
    return f"Python {platform.python_version()}, {versions}; {data}; commit {code_commit()}"


def code_commit() -> str:
    """The last one that changed what is measured; `-changed` if its files differ."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(HERE.parent), *arguments, "--", *MEASURED]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return git("log", "-1", "--format=%h") + ("-changed" if git("status", "--porcelain") else "")


def together(commands: Sequence[Sequence[str]], folder: Path) -> list[Ran]:
    """Run commands of Python side by side, each in a folder of its own."""
    begun = time.perf_counter()
    processes = []
    folders = dict[int, Path]()
    for command in commands:
        own = Path(tempfile.mkdtemp(dir=folder))
        with (own / "printed").open("w") as printed, (own / "errors").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=own, env=ENVIRONMENT, stdout=printed, stderr=errors
            )
        processes.append(process)
        folders[process.pid] = own
    found: dict[int, Ran] = {}
    while len(found) < len(processes):
        pid, ran = _next_over(begun, folders)
        found[pid] = ran
    return [found[process.pid] for process in processes]


def _next_over(begun: float, folders: dict[int, Path]) -> tuple[int, Ran]:
    """Wait for one of these processes."""
    over = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # the kernel still has its figures
    assert over is not None
    pid = over.si_pid
    wall = time.perf_counter() - begun
    own_cpu = _own_cpu(pid)
    folder = folders[pid]
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, (folder / "errors").read_text()
    return pid, Ran(
        folder, wall, usage.ru_utime + usage.ru_stime, own_cpu, (folder / "printed").read_text()
    )


def _own_cpu(pid: int) -> float:
    """Seconds of the processor that a process took, without its children's."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def steps(file: Path, folder: Path) -> Part:
    """Three epochs of each setting after the first, twice, the second time the other way round;
    one more profiled.
    """
    precision = machine.resolve_precision(Precision.auto, machine.visible_gpus())
    settings = {
        "plain": (["plain_steps.py"], 1),
        "float32": (["steps.py", "--precision=float32"], 1),
    } | {
        precision: (["steps.py", f"--precision={precision}", "--profile", "--epochs=5"], 1),
        f"{precision}, two at once": (["steps.py", f"--precision={precision}"], 2),
    }
    found: dict[str, dict[str, list[Part]]] = {
        model: {name: [] for name in settings} for model in MODELS
    }
    for turn in (list(settings), list(reversed(settings))):
        for model in MODELS:
            for name in turn:
                (script, *arguments), at_once = settings[name]
                command = [str(HERE / script), str(file), f"--model={model}", *arguments]
                found[model][name] += [
                    _last_json(ran.printed) for ran in together([command] * at_once, folder)
                ]
    return dict(found)


def trials(model: str, file: Path, folder: Path) -> Part:
    """The baseline, some times: the plain script's one after the other, ours two at a time, one
    thread each.
    """
    found: dict[str, list[Part]] = {"plain": [], "ours": []}
    for pair in (SEEDS[at : at + 2] for at in range(0, len(SEEDS), 2)):
        both = together([our_command(file, model, f"seed={seed}") for seed in pair], folder)
        for seed, ran in zip(pair, both, strict=True):
            (written,) = ran.folder.rglob("journal.jsonl")
            best = max(
                accuracy for _, accuracy in timeline.found([timeline.trial(written.parent)], 0)
            )
            found["ours"].append(_told(ran, seed, best))
        for seed in pair:
            baseline = explored(written.with_name("config.yaml"))
            (ran,) = together([plain_command(file, model, [baseline], f"--seed={seed}")], folder)
            found["plain"].append(_told(ran, seed, max(_last_json(ran.printed)["accuracies"])))
    return dict(found)


def overhead(file: Path, folder: Path) -> Part:
    """A sweep of four short trials in one worker: what is not training."""
    quick = {"help": ["-m", "svhn_sweep", "--help"], "config": ["-m", "svhn_sweep", "--cfg", "job"]}
    found: Part = {
        name: [together([command], folder)[0].wall for _ in range(5)]
        for name, command in quick.items()
    }
    for model in MODELS:
        begun = time.time()
        options = [
            "hydra.sweeper.n_trials=4",
            "hydra.sweeper.workers=1",
            "training.threads=1",
            "training.epochs=4",
        ]
        (ran,) = together(
            [our_sweep(file, model, *options, "hydra.sweeper.pruner.name=none")], folder
        )
        trained = trials_in(ran.folder)
        found[model] = {
            "first_epoch_after": min(trial.first_epoch for trial in trained) - begun,
            "tracing": [timeline.tracing(trial) for trial in trained],
            "between_epochs": timeline.between_epochs(trained),
            "between_trials": timeline.between_trials(trained),
        }
    return found


def held(file: Path, folder: Path) -> Part:
    """The most memory that the workers of a sweep hold, each, in MiB."""
    found: Part = {}
    for workers in (1, 4):
        own = Path(tempfile.mkdtemp(dir=folder))
        options = [
            f"hydra.sweeper.n_trials={4 * workers}",
            f"hydra.sweeper.workers={workers}",
            "training.threads=1",
        ]
        command = [sys.executable, *our_sweep(file, "model2", *options, "training.epochs=1")]
        found[str(workers)] = memory.most_held_by_children(command, own, ENVIRONMENT)
    return found


def sweep(model: str, file: Path, folder: Path) -> Part:
    """24 trials, and their settings in the order in which they began."""
    begun = time.time()
    (ran,) = together([our_sweep(file, model)], folder)
    folders = sorted(path.parent for path in ran.folder.glob("multirun/*/trial-*/config.yaml"))
    for trial in folders:
        ending = journal.end_tags(trial)
        assert ending is not None, trial
        assert ending["trial.state"] in ("complete", "pruned"), ending
    trained = trials_in(ran.folder)
    cores = machine.cores()
    return {
        "wall": ran.wall,
        "trials": len(trained),
        "epochs": sum(len(trial.epochs) for trial in trained),
        "shares": timeline.shares(trained, begun, begun + ran.wall, cores),
        "driver": ran.own_cpu / (ran.wall * cores),
        "found": timeline.found(trained, begun),
        "tried": [explored(trial / "config.yaml") for trial in folders],
    }


def plain_sweep(model: str, file: Path, folder: Path) -> Part:
    """All settings of model1's sweep, or four of model2's."""
    tried = everywhere()[this_machine()][model.replace("model", "sweep")]["tried"]
    if model == "model2":
        tried = [sorted(tried, key=_products)[len(tried) * at // 8] for at in (1, 3, 5, 7)]
    (ran,) = together([plain_command(file, model, tried)], folder)
    lines = [json.loads(line) for line in ran.printed.splitlines() if line.startswith("{")]
    return {"wall": ran.wall, "trials": lines}


def _products(params: dict[str, float]) -> float:
    """Multiplications of model2's convolutions, but for the first one's and a factor."""
    return (
        params["conv1"] * params["conv2"] * 4
        + (params["conv2"] + params["conv4"]) * params["conv3"]
    )


def explored(path: Path) -> dict[str, float]:
    """Of a trial's config.yaml."""
    config = OmegaConf.load(path)
    return {
        "learning_rate": config.training.learning_rate,
        "dropout": config.model.dropout,
        **config.model.filters,
    }


def trials_in(folder: Path) -> list[timeline.Trial]:
    """Of the sweep in a folder, in their order."""
    return [
        timeline.trial(path.parent)
        for path in sorted(folder.glob("multirun/*/trial-*/journal.jsonl"))
    ]


def our_command(file: Path, model: str, *options: str) -> list[str]:
    as_trial = ["training.precision=auto", "training.threads=1", "evaluation.test=false"]
    return [
        "-m",
        "svhn_sweep",
        f"model={model}",
        "data=svhn",
        f"data.path={file}",
        *as_trial,
        *options,
    ]


def our_sweep(file: Path, model: str, *options: str) -> list[str]:
    start = ["-m", "svhn_sweep", "-m", "optuna", f"model={model}", "data=svhn", f"data.path={file}"]
    return [*start, "hydra.sweeper.confirm=null", *options]


def plain_command(
    file: Path, model: str, params: list[dict[str, float]], *options: str
) -> list[str]:
    given = [f"--trials={len(params)}", f"--first={json.dumps(params)}"]
    return [str(HERE / "plain.py"), str(file), f"--model={model}", *given, *options]


def _told(ran: Ran, seed: int, accuracy: float) -> Part:
    return {"seed": seed, "wall": ran.wall, "cpu": ran.cpu, "accuracy": accuracy}


def _last_json(printed: str) -> Part:
    return dict(json.loads([line for line in printed.splitlines() if line.startswith("{")][-1]))


PARTS: dict[str, Callable[[Path, Path], Part]] = {
    "steps": steps,
    "trials1": partial(trials, "model1"),
    "trials2": partial(trials, "model2"),
    "overhead": overhead,
    "memory": held,
    "sweep1": partial(sweep, "model1"),
    "plain1": partial(plain_sweep, "model1"),
    "sweep2": partial(sweep, "model2"),
    "plain2": partial(plain_sweep, "model2"),
}

if __name__ == "__main__":
    main()
