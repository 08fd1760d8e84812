"""Provides shared fixtures: a small data set, the composed config, the command, MLflow stores."""

# Before TensorFlow, which reads at its import what this sets.
from svhn_sweep import training  # noqa: F401

# isort: split
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from folder import PRETEND, Folder
from hydra import initialize_config_dir
from mlflow import MlflowClient
from ray_nodes import RayNodes, namespaces_allowed, ray_nodes
from ray_sweeps import PRETENDING, Cluster
from studies import Studies

from svhn_sweep import cli
from svhn_sweep.config.schema import Config, compose_config, conf_dir, register_schema
from svhn_sweep.data.synthetic import generate
from svhn_sweep.environment import NUMERIC
from svhn_sweep.tracking import tracking_uri

Command = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs slow files first, so that no worker of pytest-xdist is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def small_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns an HDF5 file with 300 synthetic digits to train on and 100 to test on."""
    path = tmp_path_factory.mktemp("data") / "small.h5"
    with h5py.File(path, "w") as file:
        for split, size in (("train", 300), ("test", 100)):
            images, labels = generate(size, seed=(7, size))
            file[f"X_{split}"], file[f"y_{split}"] = images, labels
    return path


@pytest.fixture(scope="session")
def real_h5() -> Path:
    """Returns the file of real digits that SVHN_H5 names; skips the test without one."""
    path = os.environ.get("SVHN_H5")
    if not path:
        pytest.skip("set SVHN_H5 to a file of real digits to run this test")
    return Path(path)


@pytest.fixture
def composed() -> Iterator[Callable[..., Config]]:
    """Returns a function that composes and checks the config for some overrides."""
    register_schema()

    def compose_checked(*overrides: str) -> Config:
        return compose_config(overrides)

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield compose_checked


@pytest.fixture(scope="session")
def plain_environment() -> dict[str, str]:
    """Returns the environment without settings of MLflow, Hydra, TensorFlow and Keras."""
    others = ("MLFLOW_", "HYDRA_", "KERAS_", *NUMERIC)
    return {key: value for key, value in os.environ.items() if not key.startswith(others)}


@pytest.fixture
def svhn_sweep(tmp_path: Path, plain_environment: dict[str, str]) -> Command:
    """Returns a function that runs `python -m svhn_sweep` with some arguments in `tmp_path`."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "svhn_sweep", *arguments],
            cwd=tmp_path,
            env=plain_environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets a test call the command in `tmp_path` and in its own process, which stays as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    terminate = signal.getsignal(signal.SIGTERM)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # Whoever sets logging up anew closes all handlers, and absl's closes its stream: pytest's own.
    monkeypatch.setattr(logging, "shutdown", lambda handlers: None)
    root.handlers = []
    yield
    signal.signal(signal.SIGTERM, terminate)
    root.handlers, root.level = handlers, level


@pytest.fixture
def in_process(
    own_process: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Returns a function that runs the command in `tmp_path`, in the test's own process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        monkeypatch.setattr(sys, "argv", ["svhn_sweep", *arguments])
        exit_code = cli.main()
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, exit_code, shown.out, shown.err)

    return run


@pytest.fixture
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns 64 random images, float32 [64, 32, 32, 1] in 0..255, and their labels, uint8."""
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (64, 32, 32, 1)).astype(np.float32)
    return images, (np.arange(64) % 10).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, plain_environment: dict[str, str], new_store: Path) -> Iterator[Folder]:
    """Returns a folder with an empty store, which takes each command seconds to create."""
    shutil.copy(new_store, tmp_path)
    folder = Folder(tmp_path, plain_environment)
    yield folder
    for process in folder.started:
        process.kill()
        process.communicate()


@pytest.fixture
def pretending(folder: Folder) -> Folder:
    """Returns the folder; workers and single runs in it sleep instead of training."""
    folder.environment = folder.environment | {"PYTHONPATH": str(PRETEND)}
    return folder


@pytest.fixture
def studies(tmp_path: Path) -> Iterator[Studies]:
    studies = Studies(tmp_path)
    yield studies
    studies.close()


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns an empty SQLite store, which takes MLflow 2 s to create."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    return path


@pytest.fixture
def client(tmp_path: Path, new_store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Changes to `tmp_path` and returns a client of an empty store in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(new_store, tmp_path)
    return tracking_uri.connect()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Returns a folder with a short name, which Ray's sockets need and `tmp_path` has not."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def ray_head(plain_environment: dict[str, str]) -> Iterator[RayNodes]:
    """Returns a Ray head whose nodes have workers that sleep 0.5 s an epoch instead of training."""
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as name,
        ray_nodes(Path(name), plain_environment | PRETENDING) as nodes,
    ):
        yield nodes


@pytest.fixture
def ray_cluster(ray_head: RayNodes, folder: Folder, small_h5: Path) -> Iterator[Cluster]:
    """Returns a cluster without nodes."""
    yield Cluster(ray_head, folder, small_h5)
    for node in ray_head.nodes[1:]:
        node.kill()
    del ray_head.nodes[1:]


@pytest.fixture
def ray_networks(
    short_path: Path, folder: Folder, plain_environment: dict[str, str], small_h5: Path
) -> Iterator[Cluster]:
    """Returns a cluster without nodes; if it can be, each will have a network of its own."""
    own = namespaces_allowed()
    with ray_nodes(short_path, plain_environment | PRETENDING, networks=own) as nodes:
        yield Cluster(nodes, folder, small_h5)
