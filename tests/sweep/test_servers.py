"""Sweeps with a real PostgreSQL and a real MLflow server, each with a password."""

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from folder import PRETEND, Folder
from mlflow import MlflowClient
from optuna.trial import TrialState
from servers import Mlflow, Postgres, postgres_programs

from svhn_sweep.tracking import journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # connections of MLflow and Optuna
    pytest.mark.skipif(
        postgres_programs() is None, reason="needs PostgreSQL: apt-get install postgresql"
    ),
]

EPOCHS = 6


@dataclass
class Servers:
    folder: Path
    postgres: Postgres
    mlflow: Mlflow

    @property
    def environment(self) -> dict[str, str]:
        return self.postgres.environment | self.mlflow.environment

    def states(self, study: str) -> list[TrialState]:
        address = self.postgres.storage.replace("@", f":{self.postgres.password}@")
        storage = optuna.storages.RDBStorage(address)
        try:
            return [
                trial.state for trial in optuna.load_study(study_name=study, storage=storage).trials
            ]
        finally:
            storage.engine.dispose()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="svhn_sweep") as path:
        folder = Path(path)
        folder.chmod(0o755)  # for PostgreSQL's user
        for name in ("postgres", "mlflow"):
            (folder / name).mkdir()
        postgres = Postgres(folder / "postgres")
        postgres.create()
        mlflow = Mlflow(folder / "mlflow", postgres)
        try:
            mlflow.start()
            yield Servers(folder, postgres, mlflow)
        finally:
            mlflow.stop()
            postgres.stop()


@pytest.fixture
def pretending(folder: Folder, servers: Servers) -> Folder:
    """Workers sleep instead of training, 0.5 s an epoch."""
    own = {"PYTHONPATH": str(PRETEND), "PRETEND_SECONDS": "0.5"}
    folder.environment = folder.environment | servers.environment | own
    return folder


def sweep(servers: Servers, digits: Path, name: str, *more: str) -> tuple[str, ...]:
    data = ("data=svhn", f"data.path={digits}", "model=model1", f"training.epochs={EPOCHS}")
    small = (
        "hydra.sweeper.confirm=null",
        "hydra.sweeper.pruner.name=none",
        "hydra.sweeper.workers=2",
    )
    storage = (
        f"hydra.sweeper.storage={servers.postgres.storage}",
        f"hydra.sweeper.study_name={name}",
    )
    return ("-m", "optuna", *data, *small, *storage, "hydra.sweeper.n_trials=3", *more)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    for _ in range(int(seconds * 10)):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError


def epochs_of(folder: Folder, study: str) -> int:
    return max(journal.history(folder.path / "multirun" / study / "trial-0000"), default=0)


def finish(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    return out


def test_after_a_database_outage_the_same_command_continues_and_no_password_is_written(
    pretending: Folder, servers: Servers, small_h5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in servers.mlflow.environment.items():
        monkeypatch.setenv(key, value)
    command = sweep(servers, small_h5, "away")
    process = pretending.start(*command)
    wait_until(lambda: epochs_of(pretending, "away") >= 1)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    with servers.postgres.away():
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    message = (
        r"^svhn_sweep: the studies' database cannot be used any more: .*; every "
        r"finished epoch is kept, and the same .*"
    )
    assert re.search(message, err, re.MULTILINE)
    assert "Traceback" not in err
    assert "The same command continues" in out
    wait_until(lambda: workers_of(pretending) == [], seconds=10)
    epochs_done = epochs_of(pretending, "away")
    stdout = finish(pretending.start(*command))
    assert f"away trial 0  starts at epoch {epochs_done + 1}/{EPOCHS}" in stdout
    assert servers.states("away") == [TrialState.COMPLETE] * 3
    runs = MlflowClient(servers.mlflow.address).search_runs(["1"], "tags.study = 'away'")
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    texts = [*commands, *(text.encode() for text in (out, err, stdout))]
    assert passwords_in(servers, pretending, texts) == []


def workers_of(folder: Folder) -> list[int]:
    """The ids of worker processes that run in the folder."""
    pids = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = (path / "cwd").readlink() == folder.path and b"worker_main" in (
                path / "cmdline"
            ).read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if is_worker:
            pids.append(int(path.name))
    return pids


def test_a_second_driver_of_a_study_is_refused_in_any_folder(
    pretending: Folder, servers: Servers, small_h5: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Folder(tmp_path_factory.mktemp("other"), pretending.environment)
    command = sweep(servers, small_h5, "one", "training.epochs=1000")
    process = pretending.start(*command)
    wait_until(lambda: epochs_of(pretending, "one") >= 1)
    result = other.run(*command)
    assert result.returncode == 2
    assert "another process on this database already runs the study one" in result.stderr
    process.terminate()
    process.communicate(timeout=60)
    result = other.run(*command)  # the lock is free, but the study is bound to the other folder
    assert result.returncode == 2
    assert "must belong to the study of that name in the database" in result.stderr


def passwords_in(servers: Servers, folder: Folder, texts: Sequence[bytes]) -> list[bytes]:
    """Returns which files of a sweep and of MLflow, and which texts, have a password in them."""
    roots = (folder.path, servers.folder / "mlflow" / "artifacts")
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    assert len(files) > 20
    secrets = [servers.postgres.password.encode(), servers.mlflow.password.encode()]
    contents = [*texts, *(path.read_bytes() for path in files)]
    return [content for content in contents if any(secret in content for secret in secrets)]
