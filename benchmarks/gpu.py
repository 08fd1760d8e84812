"""What one NVIDIA GPU does with these models: one trial, several at once, and what goes wrong.

python benchmarks/gpu.py FILE [--json benchmarks/gpu.json] [--limit 480] [--parts ...] [--short]

machine         the GPU, its driver, TensorFlow and its CUDA
alone_MODEL     one training: `model.fit` with its defaults, then ours in float32 and bfloat16, each
                with deterministic operations as the program takes them, with any that TensorFlow
                has, and compiled by XLA
equal           one seed twice, at the same time, in each of these ways: equal weights or not
sweep           a small sweep of model2 to its end, and whether MLflow has all curves and matrices
at_once_MODEL   1, 2, 4 and 8 trainings at once: epochs a second, utilisation, memory by nvidia-smi
memory          a sweep with a trial that asks for more memory than there is

The file is written after each part, and a part that does not fit into `--limit` seconds is left
out: what is cut short keeps what it has. Without a GPU the same parts run on the CPU; `--short`
makes them as short as they can be.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from gpu_page import PRECISIONS, WAYS

from svhn_sweep import machine
from svhn_sweep.sweep.workers.local import worker_environment

HERE = Path(__file__).parent
GPU_FACTS = "name,driver_version,memory.total,compute_cap"
SAMPLED = "utilization.gpu,memory.used"
Found = dict[str, Any]
COUNTS = (1, 2, 4, 8)
SECONDS_AT_MOST = 120  # of one training
SECONDS_AT_LEAST = 60  # of a part: XLA compiles for 30 to 40 s
# 15,000 images of 32 x 32 x 1024 numbers: 63 GB, several times
TOO_WIDE = "model.filters.conv1=choice(16,1024)"


@dataclass(frozen=True)
class Bench:
    """What all parts share.

    Attributes:
        file: the digits.
        seconds: of training that are timed, in each measurement.
        epochs: at most, in each measurement.
        counts: of trainings at once.
        deadline: of `time.monotonic`; no part may last longer.
        sweep: overrides of the small sweep.
    """

    file: Path
    seconds: float
    epochs: int
    counts: tuple[int, ...]
    deadline: float
    sweep: tuple[str, ...]

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least one."""
        return max(1.0, self.deadline - time.monotonic())


def about_machine(bench: Bench) -> Found:
    build = (
        "import json, tensorflow as tf; b = tf.sysconfig.get_build_info(); g = "
        "tf.config.list_physical_devices()"
    )
    told = (
        f"{build}; print(json.dumps([b.get('cuda_version'), "
        "b.get('cudnn_version'), [d.name for d in g]]))"
    )
    cuda, cudnn, devices = json.loads(_run(bench, [sys.executable, "-c", told]))
    return {
        "gpu": _nvidia_smi(GPU_FACTS),
        "cores": machine.cores(),
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "keras": version("keras"),
        "built_for_cuda": cuda,
        "built_for_cudnn": cudnn,
        "devices": devices,
    }


def alone(bench: Bench, model: str) -> Found:
    """One training at a time, each in a process of its own."""
    plain = [sys.executable, str(HERE / "plain_steps.py"), str(bench.file), "--model", model]
    found: Found = {
        "model.fit": _Training(bench, [*plain, "--epochs", str(min(6, bench.epochs))]).result()
    }
    for precision in PRECISIONS:
        for kind in WAYS:
            training = _Training(bench, _training(bench, model, precision, "--operations", kind))
            found[f"{precision} {kind}"] = training.result()
    return found


def at_once(bench: Bench, model: str) -> Found:
    """Several trainings, which begin to train when all of them are ready."""
    found = {
        str(count): _together(bench, model, count)
        for count in bench.counts
        if bench.left > SECONDS_AT_LEAST
    }
    return {"operations": "deterministic", **found}


def equal(bench: Bench) -> Found:
    """Trainings of one seed: how many different weights come out of each kind."""
    kinds = {
        f"{precision} {kind}": (precision, "--operations", kind)
        for precision in PRECISIONS
        for kind in WAYS
    }
    epochs = str(min(3, bench.epochs))
    running = {
        kind: [
            _Training(bench, _training(bench, "model2", *arguments, "--epochs", epochs))
            for _ in range(2)
        ]
        for kind, arguments in kinds.items()
    }
    digests = {kind: [training.result() for training in pair] for kind, pair in running.items()}
    return {
        kind: {"equal": len({str(one.get("digest", one)) for one in pair}) == 1, "runs": pair}
        for kind, pair in digests.items()
    }


def sweep(bench: Bench) -> Found:
    """A sweep as a user starts it; fewer epochs."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        printed = _sweep(bench, Path(folder), *bench.sweep)
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "printed": printed[-6000:],
            "runs": _tracked(bench, Path(folder)),
        }


def memory(bench: Bench) -> Found:
    """Of four trials some ask for too much: they fail, the others do not, and the sweep says so."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = (
            "model=model2",
            "training.epochs=1",
            "hydra.sweeper.n_trials=4",
            "hydra.sweeper.confirm=null",
        )
        wide = (TOO_WIDE, "model.filters.conv2=choice(32,1024)", "training.batch_size=15000")
        printed = _sweep(bench, Path(folder), *chosen, *(wide if machine.visible_gpus() else ()))
        return {"printed": printed[-6000:], "runs": _tracked(bench, Path(folder))}


PARTS: dict[str, Callable[[Bench], Found]] = {
    "machine": about_machine,
    "sweep": sweep,
    "at_once_model2": lambda bench: at_once(bench, "model2"),
    "alone_model2": lambda bench: alone(bench, "model2"),
    "equal": equal,
    "memory": memory,
    "at_once_model1": lambda bench: at_once(bench, "model1"),
    "alone_model1": lambda bench: alone(bench, "model1"),
}


def _training(bench: Bench, model: str, precision: str, *flags: str) -> list[str]:
    command = [sys.executable, str(HERE / "gpu_trial.py"), str(bench.file), "--model", model]
    return [
        *command,
        "--precision",
        precision,
        "--epochs",
        str(bench.epochs),
        "--seconds",
        str(bench.seconds),
        *flags,
    ]


def _together(bench: Bench, model: str, count: int) -> Found:
    trainings = [
        _Training(bench, _training(bench, model, "mixed_bfloat16", "--wait")) for _ in range(count)
    ]
    for training in trainings:
        training.wait_until_ready()
    with _samples() as samples, ThreadPool(count) as threads:
        results = threads.map(_Training.result, trainings)
    rates = [one["epochs"] / one["seconds"] for one in results if "epochs" in one]
    return {"epochs_per_second": sum(rates), "each": rates, "nvidia_smi": samples, "runs": results}


@contextmanager
def _samples() -> Iterator[list[str]]:
    """Utilisation and memory while the block runs, five times a second, as nvidia-smi prints
    them.
    """
    samples: list[str] = []
    command = [
        "nvidia-smi",
        f"--query-gpu={SAMPLED}",
        "--format=csv,noheader,nounits",
        "--loop-ms=200",
    ]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        yield samples
        return
    yield samples
    process.terminate()
    samples += process.communicate()[0].splitlines()


def _nvidia_smi(facts: str) -> str:
    try:
        command = ["nvidia-smi", f"--query-gpu={facts}", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def _sweep(bench: Bench, folder: Path, *overrides: str) -> str:
    digits = ("data=svhn", f"data.path={bench.file}")
    command = [sys.executable, "-m", "svhn_sweep", "-m", "optuna", *digits, *overrides]
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=bench.left,
    )
    return f"{done.stdout.decode(errors='replace')}\nexit code {done.returncode}"


TRACKED = """
import json, mlflow
runs = []
for experiment in mlflow.search_experiments():
    for run in mlflow.search_runs([experiment.experiment_id], output_format="list"):
        client, run_id = mlflow.MlflowClient(), run.info.run_id
        runs.append({
            "name": run.info.run_name,
            "status": run.info.status,
            "tags": {
                key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")
            },
            "params": run.data.params,
            "epochs": len(client.get_metric_history(run_id, "val/accuracy")),
            "matrices": [file.path for file in client.list_artifacts(run_id, "confusion_matrix")],
        })
print(json.dumps(runs))
"""


def _tracked(bench: Bench, folder: Path) -> Any:
    """What MLflow has of a sweep: of each run how many epochs its curve has, and its confusion
    matrices.
    """
    return json.loads(_run(bench, [sys.executable, "-c", TRACKED], cwd=folder).splitlines()[-1])


def _environment() -> dict[str, str]:
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | worker_environment() | {"PYTHONPATH": os.pathsep.join(paths)}


class _Training:
    """A process that trains and prints what it measured as one line of JSON; stopped where it
    takes too long.
    """

    def __init__(self, bench: Bench, command: list[str]) -> None:
        # open as long as the process runs
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        limited = ["timeout", "--kill-after=5", f"{min(bench.left, SECONDS_AT_MOST):.0f}", *command]
        self._process = subprocess.Popen(
            limited,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=_environment(),
        )

    def wait_until_ready(self) -> None:
        assert self._process.stdout
        while (line := self._process.stdout.readline()) and line.strip() != "ready":
            pass

    def result(self) -> Found:
        """What it printed last, or the end of what it says instead.

        Also lets it begin, if it waits to.
        """
        try:
            printed, _ = self._process.communicate("go\n")
            return dict(json.loads(printed.splitlines()[-1]))
        except (IndexError, ValueError):
            self._errors.seek(0)
            return {
                "failed": f"exit code {self._process.returncode}: {self._errors.read()[-2000:]}"
            }


def _run(bench: Bench, command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=_environment(), stdout=subprocess.PIPE, text=True, timeout=bench.left
    )
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", type=Path, default=HERE / "gpu.json")
    parser.add_argument("--limit", type=float, default=480, help="seconds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    small = ("model=model2", "hydra.sweeper.confirm=null")
    sizes = (
        ("hydra.sweeper.n_trials=2", "training.epochs=1")
        if options.short
        else ("hydra.sweeper.n_trials=4",)
    )
    bench = Bench(
        options.file.resolve(),
        seconds=0.1 if options.short else 6,
        epochs=2 if options.short else 40,
        counts=(1,) if options.short else COUNTS,
        deadline=time.monotonic() + options.limit,
        sweep=(*small, *sizes, *(() if options.short else ("training.epochs=5",))),
    )
    results: Found = {}
    for name in options.parts:
        if bench.left < SECONDS_AT_LEAST:
            results[name] = {"failed": "no time left"}
            continue
        began = time.monotonic()
        try:
            results[name] = PARTS[name](bench)
        except (subprocess.TimeoutExpired, OSError, ValueError, KeyError, IndexError) as error:
            results[name] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
