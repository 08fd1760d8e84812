"""Sweeps on a real Ray cluster: what nodes need, and which devices their workers get."""

import os
import re
from collections import Counter
from pathlib import Path

import keras
import pytest
from folder import Folder
from ray_nodes import ray_nodes
from ray_sweeps import DRY_RUN, PRETENDING, Cluster, assert_whole, finish, tags_of, wait_for_nodes

from svhn_sweep.errors import ConfigError
from svhn_sweep.files import file_digest
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.tracking import journal

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# what a node needs


@pytest.mark.timeout(600)  # two whole sweeps, one of them on nodes that start for it
def test_nodes_without_the_drivers_files_train_bit_identical_trials(
    short_path: Path,
    folder: Folder,
    plain_environment: dict[str, str],
    small_h5: Path,
    tmp_path: Path,
) -> None:
    """The trials equal (`==`) those of a sweep without Ray; the confirmation is on Ray only.

    The nodes see neither the driver's folder nor its data, the user's configs or the weights that
    the trials begin with.
    """
    weights = folder.path / "source.keras"
    save_model(weights)
    search_space = folder.path / "own" / "search_space"
    search_space.mkdir(parents=True)
    (search_space / "few.yaml").write_text(
        "training.learning_rate: choice(1e-3,2e-3,4e-3)\ntraining.freeze: choice(0,1,2)\n"
    )
    arguments = (
        *(
            f"--config-dir={search_space.parent}",
            "-m",
            "optuna",
            "search_space=few",
            "model=model1",
            "training.epochs=1",
        ),
        *("data=svhn", f"data.path={small_h5}", "training.threads=1"),
        *("model.filters.conv1=2", "model.filters.conv2=2"),
        f"training.initial_weights={weights}",
        *(
            "hydra.sweeper.n_trials=2",
            "hydra.sweeper.sampler=random",
        ),
        *("hydra.sweeper.study_name=study", "training.precision=float32"),
    )
    with ray_nodes(short_path, plain_environment) as nodes:
        own = {"TF_ENABLE_ONEDNN_OPTS": "0", "KERAS_BACKEND": "jax"}  # without influence
        nodes.join("blind", cpus=2, hidden=[folder.path, small_h5.parent], environment=own)
        folder.environment = nodes.environment
        on_nodes = (f"hydra.sweeper.cluster={nodes.address}", "hydra.sweeper.confirm.seeds=2")
        result = folder.run(*arguments, *on_nodes)
    assert result.returncode == 0, result.stderr
    assert "2 workers on 1 node of Ray" in result.stdout
    assert "On test, evaluated once" in result.stdout
    on_ray = folder.path / "multirun" / "study"
    local_folder = Folder(tmp_path / "local", dict(plain_environment))
    local_folder.path.mkdir()
    alone = ("hydra.sweeper.workers=1", "hydra.sweeper.confirm=null")
    result = local_folder.run(*arguments, *alone)
    assert result.returncode == 0, result.stderr
    local = local_folder.path / "multirun" / "study"
    trial_folders = relative_trial_folders(on_ray)
    assert len(trial_folders) == 2
    assert trial_folders == relative_trial_folders(local)
    for trial_folder in trial_folders:
        assert metrics(on_ray / trial_folder) == metrics(local / trial_folder)
        assert files(on_ray / trial_folder) == files(local / trial_folder)
        recorded = journal.params(on_ray / trial_folder)["initial_weights.sha256"]
        assert recorded == file_digest(weights)
    assert {run.info.status for run in folder.runs()} == {"FINISHED"}


def save_model(path: Path) -> None:
    layers = [
        keras.Input((32, 32, 1)),
        *(keras.layers.Conv2D(2, 3, padding="same") for _ in range(2)),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        *(keras.layers.Dense(units) for units in (32, 10)),
    ]
    keras.Sequential(layers).save(path)


def relative_trial_folders(study: Path) -> list[Path]:
    """Returns the folders of the search's trials, without the confirmation's."""
    return sorted(path.parent.relative_to(study) for path in study.glob("trial-*/journal.jsonl"))


def metrics(folder: Path) -> dict[int, dict[str, float]]:
    """Returns all metrics of a trial but its times, by epoch."""
    return {
        step: {key: value for key, value in values.items() if "seconds" not in key}
        for step, values in journal.history(folder).items()
    }


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_node_with_other_versions_is_refused_and_others_have_a_worker_per_core(
    ray_cluster: Cluster, tmp_path: Path
) -> None:
    metadata = tmp_path / "other" / "seaborn-0.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: seaborn\nVersion: 0.1\n")
    path = os.pathsep.join([str(metadata.parent), PRETENDING["PYTHONPATH"]])
    ray_cluster.nodes.join("old", environment={"PYTHONPATH": path})
    result = ray_cluster.folder.run(*ray_cluster.sweep())
    assert result.returncode == 2
    assert re.fullmatch(
        r"svhn_sweep: no node of the Ray cluster can be used: node old is refused: "
        r"its seaborn is 0\.1, the driver's "
        r"[\d.]+\.\n",
        result.stderr,
    )
    ray_cluster.nodes.join("one", cpus=3)
    ray_cluster.nodes.join("two", cpus=1)
    wait_for_nodes(ray_cluster, 3)
    for setting, workers in (((), "4 workers"), (("hydra.sweeper.workers=2",), "2 workers")):
        result = ray_cluster.folder.run(*ray_cluster.sweep(DRY_RUN, *setting))
        assert f"{workers} on 2 nodes of Ray" in result.stdout  # spread over the nodes


def test_a_cluster_that_refuses_the_driver_is_reported_in_one_line(ray_cluster: Cluster) -> None:
    secret = Path(ray_cluster.nodes.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    other = ray_cluster.folder.path / "other-token"
    other.write_text("0" * 64)
    result = ray_cluster.folder.run(*ray_cluster.sweep(), RAY_AUTH_TOKEN_PATH=str(other))
    assert result.returncode == 2
    assert result.stderr.startswith(
        "svhn_sweep: hydra.sweeper.cluster must be a running Ray cluster, of which "
    )
    assert len(result.stderr.splitlines()) == 1
    assert secret not in result.stdout + result.stderr


def test_a_cluster_that_does_not_exist_is_an_error_of_the_setting(tmp_path: Path) -> None:
    from svhn_sweep.sweep.workers.ray.cluster import RayCluster

    settings = SweeperConfig(cluster="127.0.0.1:1", devices=None)
    with pytest.raises(ConfigError, match=r"cluster must be a running Ray cluster, .* not: .*\.$"):
        RayCluster(settings, tmp_path / "workers.log")


# devices


def test_workers_share_gpus_and_each_sees_one_only(ray_cluster: Cluster) -> None:
    ray_cluster.nodes.join("gpus", cpus=4, gpus=2)
    output = finish(ray_cluster.start("hydra.sweeper.workers_per_gpu=2", n_trials=8))
    assert "4 workers on 2 GPUs of 1 node of Ray" in output
    assert_whole(ray_cluster, 8)
    assert {tag["visible"] for tag in tags_of(ray_cluster)} == {"0", "1"}
    workers = {(tag["visible"], tag["pid"]) for tag in tags_of(ray_cluster)}
    assert Counter(device for device, _ in workers) == {"0": 2, "1": 2}
