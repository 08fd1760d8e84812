"""What a sweep on a Ray cluster does when parts of it fail, and what it costs.

Needs root, iproute2 and the extra `ray`.

python benchmarks/cluster.py failures --rounds 20 [--seed N]
python benchmarks/cluster.py speed | scale
python benchmarks/cluster.py local FILE

failures   something fails in each round; promises.py looks at what is left
speed      4 nodes with 2 workers against 1: trials that sleep 20 s
scale      8, 32, 128 workers: trials that sleep 1 s
local      the same sweep by local processes and by actors, in turn

Results are appended to --out (benchmarks/cluster.jsonl) as they come.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import promises
from folder import PRETEND
from ray_nodes import RayNodes, descendants, ray_nodes

from svhn_sweep.provenance import git_commit
from svhn_sweep.tracking import journal

TINY = (
    "data=synthetic",
    "data.train_size=300",
    "data.test_size=60",
    "model=model1",
    "training.batch_size=16",
)
NARROW = ("model.filters.conv1=2", "model.filters.conv2=2")
EPOCHS, TRIALS, SEEDS = 12, 8, 2
LONGEST = 300.0  # seconds of one start
GONE_WITHIN = 10.0  # seconds, for actors whose driver was killed


class Sweep:
    """One command, started again until it is through."""

    def __init__(
        self, nodes: RayNodes, folder: Path, arguments: tuple[str, ...], **environment: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.nodes, self.folder, self.environment = nodes, folder, environment
        self.arguments = ("-m", "svhn_sweep", "-m", "optuna", *arguments)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        plain = {
            key: value
            for key, value in self.nodes.environment.items()
            if not key.startswith(("MLFLOW_", "HYDRA_"))
        }
        with (self.folder / "out.txt").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments, f"hydra.sweeper.cluster={self.nodes.address}"],
                cwd=self.folder,
                env=plain | self.environment,
                stdout=out,
                stderr=out,
            )

    def wait(self, seconds: float = LONGEST) -> int:
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def epochs(self) -> int:
        """How many there are in all journals."""
        folders = [
            path.parent for path in (self.folder / "multirun").glob(f"*/trial-*/{journal.JOURNAL}")
        ]
        return sum(len(journal.history(folder).keys() - {0}) for folder in folders)

    def wait_for_epochs(self, epochs: int) -> None:
        assert self.process is not None
        end = time.monotonic() + LONGEST
        while self.epochs() < epochs and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)


def failures(arguments: argparse.Namespace) -> int:
    """Each kind of failure in turn, at a moment drawn by chance."""
    chance = random.Random(arguments.seed)
    broken = 0
    known: dict[str, promises.History] = {}
    for number in range(arguments.rounds):
        name = list(FAILURES)[number % len(FAILURES)]
        with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as path:
            began = time.monotonic()
            found = _round(Path(path), name, chance.randint(1, EPOCHS * TRIALS // 2), known)
            note(
                arguments,
                {
                    "part": "failures",
                    "failure": name,
                    "seconds": time.monotonic() - began,
                    "broken": found,
                },
            )
            broken += bool(found)
            if found:
                shutil.copytree(Path(path) / "work", f"/tmp/broken-{number}", dirs_exist_ok=True)
    return int(broken > 0)


def _round(folder: Path, name: str, epochs: int, known: dict[str, promises.History]) -> list[str]:
    sweep_arguments = (
        *TINY,
        *NARROW,
        f"training.epochs={EPOCHS}",
        f"hydra.sweeper.n_trials={TRIALS}",
        f"hydra.sweeper.confirm.seeds={SEEDS}",
        "hydra.sweeper.pruner.min_resource=3",
    )
    with ray_nodes(folder, dict(os.environ), networks=True) as nodes:
        nodes.join("n1")
        nodes.join("n2")
        sweep = Sweep(nodes, folder / "work", sweep_arguments)
        sweep.start()
        sweep.wait_for_epochs(epochs)
        found = FAILURES[name](nodes, sweep)
        code = sweep.wait()
        if code == 1 and name == "the head is killed":
            found += _on_a_new_cluster(nodes, sweep)
        elif code != 0:
            found.append(f"exit code {code}: {(sweep.folder / 'out.txt').read_text()[-2000:]}")
        found += _still_alive(nodes)
    result = promises.Result(sweep.folder, EPOCHS, TRIALS, SEEDS, 1)
    return found + promises.broken(result, known)


def _still_alive(nodes: RayNodes) -> list[str]:
    """Workers that outlive their sweep, or its driver, by more than is promised."""
    end = time.monotonic() + GONE_WITHIN
    while any(node.workers() for node in nodes.nodes) and time.monotonic() < end:
        time.sleep(0.1)
    return [f"left: {pid}" for node in nodes.nodes for pid in node.workers()]


def _on_a_new_cluster(nodes: RayNodes, sweep: Sweep) -> list[str]:
    said = (sweep.folder / "out.txt").read_text()
    found = (
        [] if "the same command continues, on another cluster as well" in said else ["no sentence"]
    )
    found += ["a traceback"] if "Traceback" in said else []
    nodes.stop()
    nodes.start()
    nodes.join("n3")
    sweep.start()
    code = sweep.wait()
    return found if code == 0 else [*found, f"exit code {code} on the new cluster"]


def _node_dies(nodes: RayNodes, sweep: Sweep) -> list[str]:
    nodes.nodes[1].kill()
    return []


def _worker_dies(nodes: RayNodes, sweep: Sweep) -> list[str]:
    workers = nodes.nodes[1].workers()
    if workers:
        os.kill(workers[0], signal.SIGKILL)
    return []


def _node_is_cut_off(nodes: RayNodes, sweep: Sweep) -> list[str]:
    nodes.nodes[1].cut()
    time.sleep(15)
    nodes.nodes[1].cut(off=False)
    return []


def _node_joins(nodes: RayNodes, sweep: Sweep) -> list[str]:
    nodes.join("late")
    return []


def _driver_dies(nodes: RayNodes, sweep: Sweep) -> list[str]:
    assert sweep.process is not None
    sweep.process.kill()
    sweep.process.wait()
    found = _still_alive(nodes)
    sweep.start()
    return found


def _head_dies(nodes: RayNodes, sweep: Sweep) -> list[str]:
    nodes.nodes[0].kill()
    return []


FAILURES: dict[str, Callable[[RayNodes, Sweep], list[str]]] = {
    "a node is killed": _node_dies,
    "a worker is killed": _worker_dies,
    "a node is cut off and comes back": _node_is_cut_off,
    "a node joins late": _node_joins,
    "the driver is killed": _driver_dies,
    "the head is killed": _head_dies,
}


def speed(arguments: argparse.Namespace) -> int:
    """Trials that sleep, so that the two cores are there for everything else."""
    for count in (4, 1, 4, 1):
        seconds, runs = _sleeping(count, workers=2, trials=40, epochs=4, pause=5.0)
        note(arguments, {"part": "speed", "nodes": count, "seconds": seconds, **runs})
    return 0


def scale(arguments: argparse.Namespace) -> int:
    """Trials of one second on more and more workers."""
    for workers in arguments.workers:
        count = max(1, workers // 32)
        seconds, runs = _sleeping(count, workers // count, trials=4 * workers, epochs=4, pause=0.25)
        note(arguments, {"part": "scale", "workers": workers, "seconds": seconds, **runs})
    return 0


def _sleeping(
    count: int, workers: int, trials: int, epochs: int, pause: float
) -> tuple[float, dict[str, object]]:
    """The time from the first trial's start to the last one's end, and what else was seen."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as path:
        pretend = {
            "PYTHONPATH": os.pathsep.join([str(PRETEND), str(PRETEND.parents[1])]),
            "PRETEND_SECONDS": str(pause),
        }
        with ray_nodes(Path(path), dict(os.environ) | pretend) as nodes:
            for number in range(count):
                nodes.join(f"n{number}", workers)
            sweep = Sweep(
                nodes,
                Path(path) / "work",
                (
                    *TINY,
                    f"training.epochs={epochs}",
                    f"hydra.sweeper.n_trials={trials}",
                    "hydra.sweeper.confirm=null",
                    "hydra.sweeper.pruner.name=none",
                    "hydra.sweeper.sampler=random",
                ),
                SWEEP_TIMES=str(Path(path) / "times.jsonl"),
            )
            sweep.start()
            code = sweep.wait(LONGEST + trials * epochs * pause / (count * workers))
            said = (sweep.folder / "out.txt").read_text()
            assert code == 0, said
            return _times(sweep.folder, trials, Path(path) / "times.jsonl")


def _times(folder: Path, trials: int, times: Path) -> tuple[float, dict[str, object]]:
    journals = [
        list(journal.read(path.parent))
        for path in folder.glob(f"multirun/*/trial-*/{journal.JOURNAL}")
    ]
    begun = min(event["time"] for events in journals for event, _ in events)
    over = max(
        event["time"] for events in journals for event, _ in events if event["kind"] == "end"
    )
    steps = [
        [e["time"] for e, _ in events if e["kind"] == "metrics" and e["step"]]
        for events in journals
    ]
    gaps = sorted(later - earlier for each in steps for earlier, later in pairwise(each))
    seconds = (over - begun) / 1000
    driver = [json.loads(line) for line in times.read_text().splitlines()][-1]
    return seconds, {
        "trials": len(journals),
        "wanted": trials,
        "trials_per_second": len(journals) / seconds,
        "between_epochs_median": median(gaps) / 1000,
        "between_epochs_90": gaps[int(len(gaps) * 0.9)] / 1000,
        "driver_cpu_seconds": driver["cpu"],
    }


def local(arguments: argparse.Namespace) -> int:
    """The same sweep, by local processes and by actors, in turn."""
    settings = (
        *(
            "model=model1",
            "data=svhn",
            f"data.path={Path(arguments.file).absolute()}",
            "training.epochs=5",
        ),
        *(
            "hydra.sweeper.n_trials=6",
            "hydra.sweeper.confirm=null",
            "hydra.sweeper.pruner.name=none",
        ),
    )
    for kind in ("local", "ray", "local", "ray", "local", "ray"):
        with (
            tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as path,
            _cluster(kind, Path(path)) as nodes,
        ):
            began = time.monotonic()
            peak = _Peak(nodes)
            sweep = Sweep(nodes, Path(path) / "work", settings)
            sweep.start() if kind == "ray" else _start_local(sweep)
            assert sweep.process is not None
            peak.watch(sweep.process.pid)
            code = sweep.wait()
            seconds = time.monotonic() - began
            assert code == 0, (sweep.folder / "out.txt").read_text()
            note(
                arguments,
                {"part": "local", "kind": kind, "seconds": seconds, "peak_mib": peak.mib()},
            )
    return 0


def _start_local(sweep: Sweep) -> None:
    with (sweep.folder / "out.txt").open("ab") as out:
        sweep.process = subprocess.Popen(
            [sys.executable, *sweep.arguments],
            cwd=sweep.folder,
            env=dict(os.environ),
            stdout=out,
            stderr=out,
        )


@contextmanager
def _cluster(kind: str, path: Path) -> Iterator[RayNodes]:
    if kind == "local":
        yield RayNodes(path, dict(os.environ))
        return
    with ray_nodes(path, dict(os.environ), cpus=2) as nodes:
        yield nodes


class _Peak:
    """The most memory that a sweep and its cluster take together: proportional set sizes, once a
    second.
    """

    def __init__(self, nodes: RayNodes) -> None:
        self.nodes, self.most = nodes, 0

    def watch(self, pid: int) -> None:
        def look() -> None:
            while Path(f"/proc/{pid}").exists():
                heads = [pid, *(node.process.pid for node in self.nodes.nodes)]
                pids = {each for head in heads for each in [head, *descendants(head)]}
                self.most = max(self.most, sum(map(_pss, pids)))
                time.sleep(1)

        threading.Thread(target=look, daemon=True).start()

    def mib(self) -> int:
        return self.most // 1024


def _pss(pid: int) -> int:
    try:
        return int(
            re.findall(
                r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE
            )[0]
        )
    except (OSError, IndexError):
        return 0


def note(arguments: argparse.Namespace, result: dict[str, object]) -> None:
    line = json.dumps({"at": f"{datetime.now():%Y-%m-%d %H:%M}", "commit": git_commit(), **result})
    print(line, flush=True)
    with arguments.out.open("a") as out:
        out.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("cluster.jsonl"))
    parts = parser.add_subparsers(required=True)
    for part in (failures, speed, scale, local):
        added = parts.add_parser(part.__name__, help=part.__doc__)
        added.set_defaults(part=part)
        if part is failures:
            added.add_argument("--rounds", type=int, default=20)
            added.add_argument("--seed", type=int, default=0)
        if part is scale:
            added.add_argument("--workers", type=int, nargs="+", default=[8, 32, 128])
        if part is local:
            added.add_argument("file")
    arguments = parser.parse_args()
    return int(arguments.part(arguments))


if __name__ == "__main__":
    sys.exit(main())
