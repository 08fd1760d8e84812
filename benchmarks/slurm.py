"""docker/slurm/sweep.sbatch, unchanged, under a real SLURM on this machine; one of its three nodes
dies.

python benchmarks/slurm.py    as root; needs Debian's packages slurm-wlm, munge, iproute2

A node is a slurmd in its own network and process namespace. Workers sleep instead of training.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import optuna

REPOSITORY = Path(__file__).parents[1]
NODES = ("n1", "n2", "n3")
OVERRIDES = [
    "model=model1",
    "training.epochs=4",
    "hydra.sweeper.confirm=null",
    "hydra.sweeper.pruner.name=none",
]
OVERRIDES += ["hydra.sweeper.study_name=slurm", "hydra.sweeper.n_trials=24"]
SETTINGS = """
ClusterName=test SlurmctldHost={host}(10.77.0.254) SlurmUser=root SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc TaskPlugin=task/none SwitchType=switch/none MpiDefault=none
SelectType=select/cons_tres SelectTypeParameters=CR_Core SlurmdTimeout=15 ReturnToService=2
"""
NETWORK = """
ip link add slurm type bridge && ip addr add 10.77.0.254/24 dev slurm && ip link set slurm up
for i in 1 2 3; do
    ip netns add n$i
    ip link add sn$i master slurm up type veth peer name eth0 netns n$i
    ip -n n$i addr add 10.77.0.$i/24 dev eth0
    ip -n n$i link set eth0 up && ip -n n$i link set lo up
    ip -n n$i route add default via 10.77.0.254
done
"""


def sweep(slurm: "Slurm", folder: Path) -> None:
    slurm.start()
    folder.mkdir()
    write_digits(folder / "digits.h5")
    environment = {"PYTHONPATH": str(REPOSITORY / "tests" / "pretend"), "PRETEND_SECONDS": "3"}
    environment |= {
        "PYTHON": os.environ.get("PYTHON", sys.executable),
        "DATA": str(folder / "digits.h5"),
    }
    script = str(REPOSITORY / "docker" / "slurm" / "sweep.sbatch")
    submit = [
        "sbatch",
        "--parsable",
        f"--chdir={folder}",
        "--nodes=3",
        "--cpus-per-task=1",
        script,
        *OVERRIDES,
    ]
    wait_for(slurm, folder, job := slurm.command(*submit, **environment).strip(), finished=3)
    slurm.power_off("n2")
    print(f"n2 is dead: {states(folder)}", flush=True)
    wait_for(slurm, folder, job, finished=9)
    slurm.command(
        "scancel", "--batch", "--signal=TERM", job
    )  # as SLURM does a minute before --time is over
    wait_for(slurm, folder, job)
    print(f"the job ended after SIGTERM: {states(folder)}", flush=True)
    slurm.power_on("n2")
    slurm.wait_until_idle()
    wait_for(slurm, folder, slurm.command(*submit, **environment).strip())
    often = Counter(
        str(trial.params) for trial in trials(folder) if trial.state.name == "COMPLETE"
    ).most_common(1)
    print(f"submitted again: {states(folder)}; the config that was completed most often: {often}")


def wait_for(slurm: "Slurm", folder: Path, job: str, finished: int | None = None) -> None:
    """Returns when so many trials are finished, or the job has left the queue."""
    while slurm.command("squeue", "--noheader", f"--jobs={job}").strip():
        if (
            finished is not None
            and sum(trial.state.name == "COMPLETE" for trial in trials(folder)) >= finished
        ):
            return
        time.sleep(1)


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{folder}/optuna.db"
    names = [name for name in optuna.get_all_study_names(storage) if name.startswith("slurm")]
    return optuna.load_study(study_name=names[0], storage=storage).get_trials() if names else []


def states(folder: Path) -> dict[str, int]:
    return dict(Counter(trial.state.name for trial in trials(folder)))


def write_digits(path: Path) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for split, count in (("train", 400), ("test", 100)):
            file[f"X_{split}"] = rng.uniform(0, 255, (count, 32, 32)).astype("float32")
            file[f"y_{split}"] = np.arange(count, dtype="uint8") % 10


class Slurm:
    """A controller, and a daemon for each node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> "Slurm":
        return self

    def start(self) -> None:
        host = socket.gethostname()
        lines = SETTINGS.format(host=host, folder=self.folder).split()
        lines += [
            f"NodeName=n{i} NodeHostname={host} NodeAddr=10.77.0.{i} CPUs=1" for i in (1, 2, 3)
        ]
        lines += ["PartitionName=all Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP"]
        (self.folder / "slurm.conf").write_text("\n".join(lines))
        self.command("bash", "-euc", NETWORK)
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        self._daemon(
            "munged", "setpriv --reuid=munge --regid=munge --clear-groups munged --foreground"
        )
        time.sleep(2)
        self._daemon("slurmctld", "slurmctld -D")
        for node in NODES:
            self.power_on(node)
        self.wait_until_idle()

    def power_on(self, node: str) -> None:
        self._daemon(
            node,
            f"nsenter --net=/run/netns/{node} unshare -pf "
            f"--kill-child --mount-proc slurmd -D -N {node}",
        )

    def power_off(self, node: str) -> None:
        self.daemons[
            node
        ].kill()  # with its first process the namespace ends, and all that runs in it
        self.daemons.pop(node).wait()

    def wait_until_idle(self) -> None:
        while self.command("sinfo", "--noheader", "--format=%t %D").split() != [
            "idle",
            str(len(NODES)),
        ]:
            time.sleep(1)

    def command(self, *arguments: str, **environment: str) -> str:
        known = self.environment | environment
        return subprocess.run(
            arguments, env=known, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    def __exit__(self, *error: object) -> None:
        for node in self.daemons.keys() & set(NODES):
            self.power_off(node)
        for command in (
            *(f"link del s{node}; ip netns del {node}" for node in NODES),
            "link del slurm",
        ):
            subprocess.run(["bash", "-c", f"ip {command}"], check=False)
        for daemon in self.daemons.values():
            daemon.terminate()
            daemon.wait()

    def _daemon(self, name: str, command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command.split(), env=self.environment, stdout=log, stderr=log
            )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, Slurm(Path(temporary)) as started:
        sweep(started, Path(temporary) / "sweep")
