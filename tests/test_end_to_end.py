"""The command as a user types it; its results are read with MLflow's client."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import keras
import mlflow
import mlflow.pyfunc
import numpy as np
import pytest
from folder import Folder
from mlflow import MlflowClient
from mlflow.entities import Run

from svhn_sweep.commands.sync import sync
from svhn_sweep.errors import FailedError
from svhn_sweep.files import file_digest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # MLflow's SQLite connections
]

TINY = ("model=model1", "model.filters.conv1=2", "model.filters.conv2=2", "training.epochs=2")
TINY2 = (  # with dropout and augmentation, which draw random numbers
    "model=model2",
    *(f"model.filters.conv{layer}=2" for layer in (1, 2, 3, 4)),
    "training.augmentation.enabled=true",
    "training.epochs=2",
)
ENDLESS = ("model=model1", "training.epochs=10000")
# A variable that is recorded, and of GPUs alone.
CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


@pytest.fixture(scope="module")
def copies_h5(tmp_path_factory: pytest.TempPathFactory, small_h5: Path) -> Path:
    """The small digits with an image of validation that is one of the training part."""
    path = tmp_path_factory.mktemp("copies") / "copies.h5"
    shutil.copy(small_h5, path)
    with h5py.File(path, "a") as file:
        file["X_train"][250] = file["X_train"][3]
        file["y_train"][250] = (file["y_train"][3] + 1) % 10
    return path


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, plain_environment: dict[str, str], copies_h5: Path
) -> tuple[Folder, str]:
    """A folder with one finished run, and its stdout."""
    folder = Folder(tmp_path_factory.mktemp("it's a folder"), plain_environment)
    result = folder.run(*TINY2, "data=svhn", f"data.path={copies_h5}", **CUBLAS)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    return folder, result.stdout


def test_curves_and_summary_metrics(finished: tuple[Folder, str]) -> None:
    folder, _ = finished
    (run,) = folder.runs()
    for key in (
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "learning_rate",
        "epoch_seconds",
    ):
        assert [step for step, _ in folder.history(run, key)] == [1, 2]
    accuracies = [value for _, value in folder.history(run, "val/accuracy")]
    metrics = run.data.metrics
    assert metrics["val/best_accuracy"] == max(accuracies)
    assert metrics["val/best_epoch"] == accuracies.index(max(accuracies)) + 1
    assert metrics["val/final_accuracy"] == accuracies[-1]
    for key in (
        "val/macro_f1",
        "test/accuracy",
        "test/macro_f1",
        "val/calibration_error",
        "test/calibration_error",
        *(f"{split}/recall_{digit}" for split in ("val", "test") for digit in range(10)),
    ):
        assert 0 <= metrics[key] <= 1
        assert len(folder.history(run, key)) == 1


def test_a_run_begins_with_the_weights_of_another(
    finished: tuple[Folder, str], copies_h5: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    (source,) = folder.runs()
    begun = Folder(tmp_path, dict(folder.environment))
    for name in ("mlflow.db", "mlruns"):
        (tmp_path / name).symlink_to(folder.path / name)
    result = begun.run(
        *TINY2,
        "training.epochs=1",
        *("data=svhn", f"data.path={copies_h5}"),
        *(f"training.initial_weights=runs:/{source.info.run_id}/model", "training.freeze=2"),
        "tracking.experiment=begun",
    )
    assert result.returncode == 0, result.stderr
    (run,) = begun.runs("begun")
    params = run.data.params
    (file,) = folder.path.glob("outputs/*/*/model/data/model.keras")
    assert params["training.initial_weights"] == f"runs:/{source.info.run_id}"
    assert params["training.freeze"] == "2"
    assert params["initial_weights.sha256"] == file_digest(file)
    assert params["initial_weights.data_sha256"] == source.data.params["data.sha256"]
    (folder_of_run,) = tmp_path.glob("outputs/*/*")
    assert f"training.initial_weights=runs:/{source.info.run_id} " in (
        (folder_of_run / "command.txt").read_text().replace("\n", " ")
    )
    (begun_file,) = folder_of_run.glob("model/data/model.keras")
    old, new = (keras.models.load_model(path) for path in (file, begun_file))
    for name in ("conv1", "conv2", "batch_norm1", "conv3", "conv4", "dense"):
        before, after = (model.get_layer(name).get_weights() for model in (old, new))
        equal = all(map(np.array_equal, before, after))
        assert equal == (name in ("conv1", "conv2", "batch_norm1"))


def test_params_and_tags(finished: tuple[Folder, str], copies_h5: Path) -> None:
    folder, _ = finished
    (run,) = folder.runs()
    assert run.info.status == "FINISHED"
    params, tags = run.data.params, run.data.tags
    assert params["model.filters.conv1"] == "2"
    assert params["training.learning_rate"] == "0.001"
    assert params["seed"] == "42"
    assert int(params["parameters"]) > 0
    assert int(params["multiply_adds"]) > 0
    assert int(params["training.threads"]) > 0
    assert len(params["data.sha256"]) == 64
    assert params["data.sha256"] == tags["data.sha256"]
    assert params["environment.CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    expected = {
        "role": "trial",
        "trial.state": "complete",
        "data.source": "svhn",
        "precision": "float32",
    }
    assert expected.items() <= tags.items()
    assert tags["device"].startswith(("CPU: ", "GPU: "))
    assert "python -m svhn_sweep" in tags["mlflow.note.content"]
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == (
        copies_h5.name,
        params["data.sha256"][:36],
    )


def test_copies_between_the_splits_are_one_line_before_training_and_a_tag(
    finished: tuple[Folder, str], copies_h5: Path
) -> None:
    folder, stdout = finished
    copies = (
        "1 of 60 validation images are exact copies of images in the training part "
        "(1 with another label)"
    )
    line = f"COPIES: {copies}; see python -m svhn_sweep audit {copies_h5}\n"
    assert line in stdout.partition("starting TensorFlow")[0]
    (run,) = folder.runs()
    assert run.data.tags["data.copies"] == copies


def test_artifacts(finished: tuple[Folder, str]) -> None:
    folder, _ = finished
    (run,) = folder.runs()
    artifacts = folder.artifacts(run)
    images = {
        path for path in artifacts if path.startswith("images/confusion_matrix+step+0+")
    }  # and MLflow's smaller copy
    assert sorted(Path(path).suffix for path in images) == [".png", ".webp"]
    assert artifacts - images == {
        "command.txt",
        "config.yaml",
        "model_summary.txt",
        "trial.log",
        "figures/curves.png",
        "figures/mistakes.png",
        "figures/samples.png",
        *(
            f"confusion_matrix/{split}.{kind}"
            for split in ("validation", "test")
            for kind in ("png", "json")
        ),
        *(
            f"classification_report/{split}.{kind}"
            for split in ("validation", "test")
            for kind in ("txt", "json")
        ),
    }
    matrix = json.loads((folder.only_output / "confusion_matrix" / "test.json").read_text())[
        "counts"
    ]
    assert np.trace(matrix) / np.sum(matrix) == pytest.approx(run.data.metrics["test/accuracy"])


def test_stdout_has_the_accuracies_the_folder_and_the_run_id(
    finished: tuple[Folder, str],
) -> None:
    folder, stdout = finished
    (run,) = folder.runs()
    assert [line[:9] for line in stdout.splitlines() if line.startswith("epoch")] == [
        "epoch 1/2",
        "epoch 2/2",
    ]
    assert f"{run.data.metrics['test/accuracy']:.2%}" in stdout
    assert str(folder.only_output) in stdout
    assert run.info.run_id in stdout
    assert "\x1b" not in stdout  # no terminal, no control codes


def served_and_local(folder: Folder, run: Run) -> tuple[mlflow.pyfunc.PyFuncModel, keras.Model]:
    """The logged model as MLflow loads it, and Keras' own from the run's folder."""
    mlflow.set_tracking_uri(f"sqlite:///{folder.path}/mlflow.db")
    try:
        served = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    finally:
        mlflow.set_tracking_uri(None)  # for the whole process, and in its environment
    return served, keras.models.load_model(folder.only_output / "model" / "data" / "model.keras")


def test_the_model_takes_raw_pixels(finished: tuple[Folder, str], small_h5: Path) -> None:
    folder, _ = finished
    (run,) = folder.runs()
    with h5py.File(small_h5) as file:
        images, labels = file["X_test"][:][..., None], file["y_test"][:]
    served, local = served_and_local(folder, run)
    assert served.metadata.signature.inputs.inputs[0].shape == (-1, 32, 32, 1)
    probabilities = served.predict(images)
    assert (probabilities == local.predict(images, verbose=0)).all()
    assert (np.argmax(probabilities, axis=1) == labels).mean() == pytest.approx(
        run.data.metrics["test/accuracy"]
    )


def test_accuracy_on_real_digits_is_far_above_chance(folder: Folder, real_h5: Path) -> None:
    result = folder.run("model=model1", "training.epochs=1", "data=svhn", f"data.path={real_h5}")
    assert result.returncode == 0, result.stderr
    (run,) = folder.runs()
    assert run.data.metrics["val/final_accuracy"] > 0.5  # the most frequent digit alone gives 0.2
    with h5py.File(real_h5) as file:
        images = file["X_test"][:200].reshape(-1, 32, 32, 1).astype(np.float32)
    served, local = served_and_local(folder, run)
    assert (served.predict(images) == local.predict(images, verbose=0)).all()


def test_the_recorded_command_gives_the_same_numbers_whatever_settings_keras_has(
    finished: tuple[Folder, str], folder: Folder
) -> None:
    first, _ = finished
    variable, *command = shlex.split((first.only_output / "command.txt").read_text())
    assert variable == "CUBLAS_WORKSPACE_CONFIG=:4096:8"
    assert command[:3] == ["python", "-m", "svhn_sweep"]
    (folder.path / "keras.json").write_text(
        '{"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}'
    )
    keras_variables = {
        "KERAS_HOME": str(folder.path),
        "KERAS_BACKEND": "jax",
        "KERAS_MAX_EPOCHS": "1",
        "KERAS_MAX_STEPS_PER_EPOCH": "1",
        "TF_USE_LEGACY_KERAS": "1",
    }
    assert folder.run(*command[3:], **CUBLAS, **keras_variables).returncode == 0
    (one,), (other,) = first.runs(), folder.runs()
    assert one.data.params == other.data.params
    for key in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
        assert first.history(one, key) == folder.history(other, key)
    times = ("epoch_seconds",)
    assert {k: v for k, v in one.data.metrics.items() if k not in times} == {
        k: v for k, v in other.data.metrics.items() if k not in times
    }


def test_a_multirun_never_reads_the_test_split(folder: Folder, small_h5: Path) -> None:
    with h5py.File(small_h5) as whole, h5py.File(folder.path / "train.h5", "w") as train:
        for name in ("X_train", "y_train"):
            train[name] = whole[name][:]
    result = folder.run(
        "-m", *TINY, "data=svhn", "data.path=train.h5", "training.learning_rate=1e-3,1e-4,1e30"
    )
    assert result.returncode == 1
    assert (
        "training.learning_rate=1e+30: training diverged: the loss is not finite" in result.stderr
    )
    ends = sorted((run.data.tags["trial.state"], run.info.status) for run in folder.runs())
    grid = ("failed", "FAILED")
    assert ends == [("complete", "FINISHED")] * 2 + [("diverged", "FAILED"), grid]
    assert not any(key.startswith("test/") for run in folder.runs() for key in run.data.metrics)


def wait_for_two_epochs(process: subprocess.Popen[str], folder: Folder) -> None:
    """Waits until two epochs are finished and the run is in MLflow, whose import takes seconds."""
    for _ in range(1200):
        journals = list(folder.path.rglob("journal.jsonl"))
        if (
            journals
            and '"step": 2' in journals[0].read_text()
            and (journals[0].parent / "mlflow.json").exists()
        ):
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    raise TimeoutError("no two epochs were finished in two minutes")


def assert_interrupted(folder: Folder, stdout: str) -> None:
    """Asserts that the only run is over, has its epochs, and that stdout leads to it."""
    (run,) = folder.runs()
    sentence = "A single run is not resumed: the same command starts a new one."
    (line,) = [line for line in stdout.splitlines() if line.startswith(sentence)]
    assert line.endswith(str(folder.only_output))
    assert f"/runs/{run.info.run_id}?" in stdout.partition(line)[2]
    assert run.info.status == "KILLED"
    assert run.data.tags["trial.state"] == "interrupted"
    assert [step for step, _ in folder.history(run, "val/accuracy")][:2] == [1, 2]


def stop(folder: Folder, digits: Path, number: signal.Signals) -> tuple[int, str]:
    """Starts a run and sends it a signal in the middle; returns its exit code and its stdout."""
    process = folder.start(*ENDLESS, "data=svhn", f"data.path={digits}")
    wait_for_two_epochs(process, folder)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert stderr == "svhn_sweep: interrupted\n"
    return process.returncode, stdout


def test_a_run_that_trains_is_interrupted_by_ctrl_c_and_keeps_its_epochs(
    folder: Folder, small_h5: Path
) -> None:
    exit_code, stdout = stop(folder, small_h5, signal.SIGINT)
    assert exit_code == 130
    assert_interrupted(folder, stdout)


def test_a_terminated_run_is_interrupted_and_keeps_its_epochs(
    pretending: Folder, small_h5: Path
) -> None:
    exit_code, stdout = stop(pretending, small_h5, signal.SIGTERM)
    assert exit_code == 143
    assert_interrupted(pretending, stdout)


def test_a_killed_run_does_not_stay_running(
    pretending: Folder,
    small_h5: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pretending.path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    process = pretending.start(*ENDLESS, "data=svhn", f"data.path={small_h5}")
    wait_for_two_epochs(process, pretending)
    sync([])
    assert "still running" in capsys.readouterr().out
    process.kill()
    process.communicate()
    sync([])
    (run,) = pretending.runs()
    assert run.info.status == "KILLED"
    assert run.data.tags["trial.state"] == "interrupted"


@pytest.fixture
def port() -> int:
    """A free port."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def start_server(folder: Folder, port: int) -> Iterator[Callable[[], None]]:
    """A function that starts a real MLflow server."""
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        server = folder.path / "server"
        server.mkdir()
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
        log = (server / "log").open("w")
        with log:
            processes.append(
                subprocess.Popen(
                    command, cwd=server, env=folder.environment | light, stdout=log, stderr=log
                )
            )
        for _ in range(600):
            try:
                MlflowClient(f"http://127.0.0.1:{port}").search_experiments()
                return
            except mlflow.MlflowException:
                time.sleep(0.2)
        raise TimeoutError((server / "log").read_text())

    yield start
    for process in processes:
        process.terminate()
        process.wait()


def test_a_dead_server_costs_a_warning_and_no_data_and_no_password_is_written(
    folder: Folder,
    small_h5: Path,
    port: int,
    start_server: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://someone:xyzzy-secret@127.0.0.1:{port}"
    result = folder.run(*TINY, "data=svhn", f"data.path={small_h5}", MLFLOW_TRACKING_URI=uri)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("cannot record this run") == 1
    assert "at the latest by `python -m svhn_sweep sync`" in result.stderr
    monkeypatch.chdir(folder.path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(FailedError, match=r"did not take 1 of 1 runs") as refused:
        sync([])

    start_server()
    synced = folder.run("sync", MLFLOW_TRACKING_URI=uri)
    assert synced.returncode == 0, synced.stderr
    assert "sent to run" in synced.stdout
    assert "View run" not in synced.stdout  # MLflow's own line, which would show the address
    client = MlflowClient(f"http://127.0.0.1:{port}")
    capsys.readouterr()
    sync([])
    again = capsys.readouterr()
    assert "nothing new" in again.out
    (run,) = client.search_runs([client.get_experiment_by_name("svhn").experiment_id])
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "val/accuracy")) == 2
    assert [entry.path for entry in client.list_artifacts(run.info.run_id, "figures")]

    outputs = (result.stdout, result.stderr, synced.stdout, synced.stderr, again.out, again.err)
    assert "xyzzy-secret" not in "".join([*outputs, str(refused.value)])
    for path in folder.path.rglob("*"):
        assert not path.is_file() or b"xyzzy-secret" not in path.read_bytes(), path


def test_an_error_while_training_is_a_failed_run_with_its_traceback(
    folder: Folder, small_h5: Path
) -> None:
    environment = folder.python_begins_with(
        "if is_single_run:\n"
        "    def fail(*others):\n"
        "        raise RuntimeError('no luck')\n"
        "    trial._train_and_evaluate = fail\n",
        pretend=True,
    )
    data = ("data=svhn", f"data.path={small_h5}", "tracking.experiment=broken")
    result = folder.run(*TINY, *data, **environment)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    (run,) = folder.runs("broken")
    assert run.info.status == "FAILED"
    assert run.data.tags["trial.state"] == "failed"
    assert run.data.tags["trial.reason"] == "RuntimeError: no luck"
    assert "traceback.txt" in folder.artifacts(run)
    assert "RuntimeError: no luck" in (folder.only_output / "traceback.txt").read_text()
