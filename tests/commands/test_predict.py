"""Tests the champion's predictions against those of the Keras model."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from svhn_sweep.commands.predict import format_prediction, predict
from svhn_sweep.config.schema import Config
from svhn_sweep.errors import DataError, FailedError, UserError
from svhn_sweep.tracking import registry, tracking_uri
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.tracking.registry import ALIAS, MODEL, SYNTHETIC, register
from svhn_sweep.tracking.saved_model import save_model
from svhn_sweep.training.model import build_model
from svhn_sweep.trial_status import TrialStatus

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # SQLAlchemy sessions of MLflow's store


@pytest.fixture
def model(composed: Callable[..., Config]) -> keras.Model:
    config = composed("model=model1")
    return build_model(config.model, config.training.precision, seed=1)


@pytest.fixture
def registered(client: MlflowClient, tmp_path: Path, model: keras.Model) -> Callable[..., None]:
    """`registered(name)`: the model, or another one, is that name's champion."""

    def register_as(name: str, model: keras.Model = model) -> None:
        with Journal(tmp_path / name) as journal:
            journal.start(name="a run", experiment="svhn", store="", tags={})
            save_model(model, tmp_path / name / "model")
            journal.log_model("model")
            journal.end(TrialStatus.complete)
        register(name, tmp_path / name, 0.9, {"data.sha256": "ab"})

    return register_as


@pytest.fixture
def pictures(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> list[Path]:
    """Five of them in files."""
    paths = [tmp_path / f"picture {index}.png" for index in range(5)]
    for path, image in zip(paths, digits[0], strict=False):
        Image.fromarray(image[..., 0].astype(np.uint8)).save(path)
    return paths


def announced(version: str) -> str:
    """What predict prints on stderr, and nothing of MLflow's."""
    return (
        f"asking MLflow at {tracking_uri.address()} for the champion\n"
        f"{version}; starting TensorFlow, some 10 to 30 s\n"
    )


def test_the_digit_of_every_picture_is_the_champions(
    registered: Callable[..., None],
    model: keras.Model,
    pictures: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    registered(MODEL)
    predict(pictures)
    output = capsys.readouterr()
    pixels = np.stack([np.asarray(Image.open(path), np.float32)[..., None] for path in pictures])
    probabilities = model.predict(pixels, verbose=0)
    for path, line, row in zip(pictures, output.out.splitlines(), probabilities, strict=True):
        assert re.match(rf"{re.escape(str(path))} +{row.argmax()} +{row.max():.1%} ", line)
    assert output.err == announced("svhn-digits version 1")


@pytest.mark.slow
def test_the_champion_served_by_mlflow_predicts_the_same_as_keras(
    registered: Callable[..., None], model: keras.Model, small_h5: Path, tmp_path: Path
) -> None:
    registered(MODEL)
    with h5py.File(
        os.environ.get("SVHN_H5", small_h5)
    ) as file:  # real digits, where there are some
        pixels = file["X_train"][:200].reshape(-1, 32, 32, 1).astype(np.float32)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        f"models:/{MODEL}@{ALIAS}",
        "--port",
        str(port),
    ]
    # as in an active environment
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "PATH": path,
    }
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        answer = _post(
            f"http://127.0.0.1:{port}/invocations", json.dumps({"instances": pixels.tolist()})
        )
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    served = np.array(answer["predictions"], np.float32)
    assert (served == model.predict(pixels, verbose=0)).all()


def _post(address: str, body: str) -> dict[str, list[list[float]]]:
    """Returns the server's answer; waits until the server has started."""
    request = urllib.request.Request(address, body.encode(), {"Content-Type": "application/json"})
    for _ in range(240):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content: dict[str, list[list[float]]] = json.load(answer)
                return content
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(address)


def test_a_champion_trained_on_synthetic_digits_is_used_if_there_is_no_other(
    registered: Callable[..., None], pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    registered(SYNTHETIC)
    predict(pictures[:1])
    assert capsys.readouterr().err == announced(
        "svhn-digits-synthetic version 1, trained on synthetic digits only"
    )
    registered(MODEL)
    predict(pictures[:1])
    assert capsys.readouterr().err == announced("svhn-digits version 1")


@pytest.mark.parametrize("name", ["folder", "model", "runs", "version", "alias"])
def test_a_model_can_be_named(
    registered: Callable[..., None],
    client: MlflowClient,
    tmp_path: Path,
    pictures: list[Path],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    registered("mine")
    run_id = client.get_model_version("mine", "1").run_id
    models = {
        "folder": str(tmp_path / "mine"),
        "model": str(tmp_path / "mine" / "model"),
        "runs": f"runs:/{run_id}/model",
        "version": "models:/mine/1",
        "alias": f"models:/mine@{ALIAS}",
    }
    predict(pictures, models[name])
    output = capsys.readouterr()
    assert f"{models[name]}; starting TensorFlow" in output.err
    assert len(output.out.splitlines()) == len(pictures)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("nowhere", UserError, "--model must be a run's folder with a model in it, runs:/RUN_ID"),
        ("models:/nope/1", UserError, "models:/nope/1 must be a model in MLflow but is not: Regis"),
        ("models:/nope@no", UserError, "models:/nope@no must be a model in MLflow but is not: "),
        ("runs:/nope/model", UserError, "runs:/nope/model must be a model in MLflow but is not: "),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(
    client: MlflowClient, pictures: list[Path], model: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        predict(pictures, model)


@pytest.mark.parametrize(
    ("first", "second", "cells"),
    [
        (0.95, 0.03, ["4", "95.0%"]),
        (0.9, 0.05, ["4", "90.0%"]),
        (0.8, 0.15, ["4", "80.0%", "unsure: perhaps 7 (15.0%)"]),
    ],
)
def test_below_a_probability_of_90_percent_the_second_digit_is_named(
    first: float, second: float, cells: list[str]
) -> None:
    probabilities = np.full(10, (1 - first - second) / 8)
    probabilities[[4, 7]] = first, second
    assert format_prediction(probabilities) == cells


def test_without_a_champion_the_error_names_the_command_that_finds_one(
    tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(
        UserError,
        match=r"no champion is registered at sqlite:///.*/mlflow.db; a sweep registers one when it "
        r"has confirmed its best config: python -m svhn_sweep -m optuna .* that had confirm=null "
        r"but without that\. To name a model instead: python -m svhn_sweep predict --model outputs",
    ):
        predict(pictures)
    assert not (tmp_path / "mlflow.db").exists()


def test_files_that_are_no_pictures_do_not_refuse_the_others(
    registered: Callable[..., None],
    tmp_path: Path,
    pictures: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    registered(MODEL)
    with pytest.raises(
        DataError, match=r"none\.png does not exist\. \S+ must be a picture but is no file\."
    ):
        predict([pictures[0], tmp_path / "none.png", tmp_path, pictures[1]])
    named = [re.split("  +", line)[0] for line in capsys.readouterr().out.splitlines()]
    assert named == [str(path) for path in pictures[:2]]


def test_without_a_picture_no_champion_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "fetch", pytest.fail)
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        predict([tmp_path / "none.png"])


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("model.keras", b"PK\3\4 cut", "File not found: .* accessible `.keras` zip file"),
        ("MLmodel", b"flavors: [", "while parsing a flow node"),
    ],
)
def test_a_champion_with_a_damaged_file_is_named(
    registered: Callable[..., None],
    client: MlflowClient,
    pictures: list[Path],
    file: str,
    content: bytes,
    reason: str,
) -> None:
    registered(MODEL)
    folder = Path(client.get_model_version_by_alias(MODEL, ALIAS).source.removeprefix("file://"))
    next(folder.rglob(file)).write_bytes(content)
    with pytest.raises(FailedError, match=rf"svhn-digits version 1 is damaged or .*{reason}"):
        predict(pictures)


@pytest.mark.parametrize(
    ("size", "weight", "reason"),
    [
        (32, np.nan, "its output is not ten probabilities for each picture"),
        (28, 1, "Exception encountered when calling"),
    ],
)
def test_a_champion_that_cannot_classify_is_named(
    registered: Callable[..., None], pictures: list[Path], size: int, weight: float, reason: str
) -> None:
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, kernel_initializer="ones")]
    model = keras.Sequential([keras.Input((size, size, 1)), *layers])
    model.set_weights([weight * values for values in model.get_weights()])
    registered(MODEL, model)
    with pytest.raises(FailedError, match=rf"svhn-digits version 1 is damaged or .*{reason}"):
        predict(pictures)
