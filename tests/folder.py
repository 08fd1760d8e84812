"""Runs the command in a folder and reads what is in MLflow afterwards."""

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

# Its sitecustomize.py lets workers sleep instead of training.
PRETEND = Path(__file__).parent / "pretend"


@dataclass
class Folder:
    """A folder in which the command is run."""

    path: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "svhn_sweep", *arguments]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def python_begins_with(self, program: str, *, pretend: bool = False) -> dict[str, str]:
        """Returns the environment variables with which every Python process runs `program` first.

        With `pretend` the program follows that in PRETEND.
        """
        start = (PRETEND / "sitecustomize.py").read_text() if pretend else ""
        site = self.path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(start + program)
        return {"PYTHONPATH": str(site)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # CI's shell may ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.path}/mlflow.db")

    def runs(self, experiment: str = "svhn") -> list[Run]:
        entity = self.client.get_experiment_by_name(experiment)
        return list(self.client.search_runs([entity.experiment_id])) if entity else []

    def history(self, run: Run, key: str) -> list[tuple[int, float]]:
        return [
            (metric.step, metric.value)
            for metric in self.client.get_metric_history(run.info.run_id, key)
        ]

    def artifacts(self, run: Run, folder: str = "") -> set[str]:
        entries = self.client.list_artifacts(run.info.run_id, folder)
        inside = [self.artifacts(run, entry.path) for entry in entries if entry.is_dir]
        return {entry.path for entry in entries if not entry.is_dir}.union(*inside)

    @property
    def only_output(self) -> Path:
        (journal,) = (self.path / "outputs").rglob("journal.jsonl")
        return journal.parent
