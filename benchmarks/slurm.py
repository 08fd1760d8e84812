"""docker/slurm/sweep.sbatch, unchanged, under a real SLURM on this machine, one of whose nodes dies in the middle.

python benchmarks/slurm.py    as root; needs Debian's packages slurm-wlm, munge, postgresql
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cluster import Cluster
from folder import PRETEND
from hosts import cluster, in_mlflow, shown, trials_of

REPOSITORY = Path(__file__).parents[1]
NODES = ("n1", "n2", "n3")


def main() -> None:
    with cluster() as servers:
        slurm = Slurm(servers.folder / "slurm")
        try:
            slurm.start()
            sweep(servers, slurm)
        finally:
            slurm.stop()


class Slurm:
    """A controller and a daemon for each node, all on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        self.folder.mkdir()
        host = socket.gethostname()
        fixed = f"""
            ClusterName=test
            SlurmctldHost={host}(127.0.0.1)
            SlurmctldPort=17000
            SlurmUser=root
            SlurmdUser=root
            AuthType=auth/munge
            StateSaveLocation={self.folder}/state
            SlurmdSpoolDir={self.folder}/spool-%n
            SlurmctldPidFile={self.folder}/slurmctld.pid
            SlurmdPidFile={self.folder}/slurmd-%n.pid
            ProctrackType=proctrack/linuxproc
            TaskPlugin=task/none
            SelectType=select/cons_tres
            SelectTypeParameters=CR_Core
            SwitchType=switch/none
            MpiDefault=none
            SlurmdTimeout=15
            ReturnToService=2
        """
        lines = [line.strip() for line in fixed.splitlines()]
        for number, node in enumerate(NODES, 1):
            lines.append(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={17000 + number} CPUs=1")
        lines.append(f"PartitionName=all Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP")
        (self.folder / "slurm.conf").write_text("\n".join(lines))
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        munge = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", "--foreground"]
        self._daemon("munged", *munge)
        time.sleep(2)
        self._daemon("slurmctld", "slurmctld", "-D")
        for node in NODES:
            self._daemon(node, "slurmd", "-D", "-N", node)
        for _ in range(60):
            if self.command("sinfo", "--noheader", "--format=%t %D").split()[:2] == ["idle", str(len(NODES))]:
                return
            time.sleep(1)
        raise TimeoutError(self.command("sinfo"))

    def command(self, *arguments: str, **environment: str) -> str:
        known = self.environment | environment
        result = subprocess.run(
            arguments, env=known, capture_output=True, text=True, check=False, cwd=self.folder.parent
        )
        return result.stdout + result.stderr

    def kill(self, node: str) -> None:
        """As when the node's power goes: its daemon, and all that runs there."""
        self.daemons.pop(node).kill()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                there = f"SLURMD_NODENAME={node}".encode() in (process / "environ").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if there:
                os.kill(int(process.name), signal.SIGKILL)

    def stop(self) -> None:
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            daemon.wait()

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.daemons[name] = subprocess.Popen(arguments, env=self.environment, stdout=log, stderr=log)


def sweep(servers: Cluster, slurm: Slurm) -> None:
    work = servers.folder / "work"
    work.mkdir()
    environment = servers.postgres.environment | servers.mlflow.environment
    environment |= {"STUDY": "slurm", "STORAGE": servers.postgres.storage, "DATA": str(servers.folder / "small.h5")}
    environment |= {"PYTHON": sys.executable, "PYTHONPATH": str(PRETEND), "PRETEND_SECONDS": "3"}
    small = ["model=model1", "training.epochs=4", "hydra.sweeper.confirm=null", "hydra.sweeper.takeover_after=10"]
    small += ["hydra.sweeper.n_trials=12", "hydra.sweeper.pruner.name=none", "hydra.sweeper.workers=1"]
    script = str(REPOSITORY / "docker" / "slurm" / "sweep.sbatch")
    print(slurm.command("sbatch", f"--chdir={work}", "--array=0-2", script, *small, **environment).strip())
    while not any(trial.state.is_finished() for trial in trials_of(servers, "slurm")):
        time.sleep(1)
    time.sleep(4)
    before = {trial.number: trial.user_attrs.get("owner") for trial in trials_of(servers, "slurm")}
    slurm.kill("n2")
    print("node n2 is dead")
    while queue := slurm.command("squeue", "--noheader", "--format=%i %T %N").strip():
        print("  " + queue.replace("\n", "; "), flush=True)
        time.sleep(10)
    after = trials_of(servers, "slurm")
    moved = [trial.number for trial in after if before.get(trial.number) not in (None, trial.user_attrs.get("owner"))]
    print(f"{shown(after)}; taken over: {moved}; {in_mlflow(servers, 'slurm')}")
    print(dict(Counter(trial.user_attrs["owner"] for trial in after)))
    for path in sorted(work.glob("sweep-*.log")):
        print(path.name, path.read_text().splitlines()[-3:])


if __name__ == "__main__":
    main()
