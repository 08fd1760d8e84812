"""Initial weights: which addresses name them, what is recorded, and which have seen too much."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from svhn_sweep import transfer
from svhn_sweep.config.schema import Config
from svhn_sweep.data import Splits, hdf5
from svhn_sweep.errors import ConfigError, FailedError
from svhn_sweep.files import file_digest
from svhn_sweep.tracking import registry, uploader
from svhn_sweep.tracking.journal import Journal, Scalar
from svhn_sweep.tracking.saved_model import save_model
from svhn_sweep.training.initial_weights import InitialWeights
from svhn_sweep.trial_status import TrialStatus

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

Composed = Callable[..., Config]
FILE = Path("data") / "model.keras"
SMALL = ("model=model1", "model.filters.conv1=2", "model.filters.conv2=2", "model.dense_units=4")


@pytest.fixture
def config(composed: Composed) -> Config:
    return composed(*SMALL)


@pytest.fixture
def splits(small_h5: Path) -> Splits:
    return hdf5.read(small_h5, "svhn", test=False)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a model in MLflow's format, which takes seconds to write."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Conv2D(2, 3, padding="same"),
            layers.Conv2D(2, 3, padding="same"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(4),
            layers.Dense(10, activation="softmax"),
        ]
    )
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(model, folder)
    return folder


def ended_run(
    folder: Path, model: Path | None, trained_on: Path, sha256: str, **params: str | float
) -> Path:
    """Writes the folder of a run as `run_trial` does; returns Keras' file in it."""
    with Journal(folder) as journal:
        journal.start(name="source", experiment="svhn", store="", tags={})
        journal.log_dataset(name=trained_on.name, digest=sha256, source=str(trained_on))
        values: dict[str, Scalar] = {"data.sha256": sha256, "training.validation_split": 0.2}
        journal.log_params(values | {key.replace("__", "."): each for key, each in params.items()})
        if model is not None:
            shutil.copytree(model, folder / "model")
            journal.log_model("model")
        journal.end(TrialStatus.complete)
    return folder / "model" / "data" / "model.keras"


def resolved(config: Config, splits: Splits, address: str | Path) -> InitialWeights:
    training = replace(config.training, initial_weights=str(address))
    weights = transfer.resolve(replace(config, training=training), splits)
    assert weights is not None
    return weights


def test_without_an_address_there_are_none(config: Config, splits: Splits) -> None:
    assert transfer.resolve(config, splits) is None


def test_every_address_of_a_model_means_the_same_weights(
    client: MlflowClient, tmp_path: Path, config: Config, splits: Splits, model_folder: Path
) -> None:
    file = ended_run(tmp_path / "run", model_folder, tmp_path / "gone.h5", "ab" * 32)
    state = uploader.send(tmp_path / "run")
    registry.register("digits", tmp_path / "run", 0.9, {"data.sha256": "", "study": ""})
    run = f"runs:/{state['run_id']}"
    found = {
        address: resolved(config, splits, address)
        for address in (
            run,
            f"{run}/model",
            "models:/digits@champion",
            "models:/digits/1",
            str(file),
        )
    }
    assert [weights.address for weights in found.values()] == [run] * 4 + [str(file)]
    assert len({weights.sha256 for weights in found.values()}) == 1
    assert {weights.file.read_bytes() for weights in found.values()} == {file.read_bytes()}
    origin = {"initial_weights.data_sha256": "ab" * 32}
    version = {"initial_weights.model": "digits/1"}
    sha256 = {"initial_weights.sha256": found[run].sha256}
    assert found[run].params == found[str(file)].params == sha256 | origin
    assert found["models:/digits@champion"].params == sha256 | origin | version

    # within a process, an alias means what it meant at first
    ended_run(tmp_path / "newer", model_folder, tmp_path / "gone.h5", "cd" * 32)
    registry.register("digits", tmp_path / "newer", 0.95, {"data.sha256": "", "study": ""})
    assert resolved(config, splits, "models:/digits@champion").address == run


def test_of_several_models_of_a_run_the_address_names_one(
    client: MlflowClient, tmp_path: Path, config: Config, splits: Splits, model_folder: Path
) -> None:
    ended_run(tmp_path / "run", model_folder, tmp_path / "gone.h5", "ab" * 32)
    state = uploader.send(tmp_path / "run")
    run_id = state["run_id"]
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    (other / "data" / "model.keras").unlink()
    model = keras.models.load_model(model_folder / "data" / "model.keras")
    model.set_weights([weights + 1 for weights in model.get_weights()])
    model.save(other / "data" / "model.keras")
    logged = client.create_logged_model(state["experiment_id"], "other", run_id)
    client.log_model_artifacts(logged.model_id, str(other))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.create_registered_model("digits")
    for model_id in (logged.model_id, None):
        client.create_model_version("digits", logged.artifact_location, run_id, model_id=model_id)
    sha256s = {name: file_digest(tmp_path / name / FILE) for name in ("run/model", "other")}

    for address, name, file in (
        (f"runs:/{run_id}/model", "model", "run/model"),
        (f"runs:/{run_id}/other", "other", "other"),
        ("models:/digits/1", "other", "other"),
        ("models:/digits/2", "other", "other"),
    ):
        weights = resolved(config, splits, address)
        assert (weights.sha256, weights.address) == (sha256s[file], f"runs:/{run_id}/{name}")
    with pytest.raises(ConfigError, match="has logged 2 such models; runs:/ID/NAME names one"):
        resolved(config, splits, f"runs:/{run_id}")
    with pytest.raises(ConfigError, match="has logged no such model"):
        resolved(config, splits, f"runs:/{run_id}/third")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere.keras", "must be runs:/ID, models:/NAME@ALIAS, models:/NAME/VERSION or a .keras"),
        (".", "is a folder"),
        ("runs:/0123456789abcdef0123456789abcdef", "is not: Run with id=0123"),
        ("runs:/no-id", "is not: "),
        ("models:/nothing@champion", "is not: "),
        ("models:/nothing/1", "is not: "),
        ("models:/nothing", "is not: an alias or a version must follow its name."),
    ],
)
def test_an_address_without_a_model_is_refused(
    client: MlflowClient, config: Config, splits: Splits, address: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=r"^training.initial_weights must be ") as error:
        resolved(config, splits, address)
    assert message in str(error.value)


def test_a_run_without_a_model_is_refused(
    client: MlflowClient, tmp_path: Path, config: Config, splits: Splits
) -> None:
    ended_run(tmp_path / "run", None, tmp_path / "gone.h5", "ab" * 32)
    run_id = uploader.send(tmp_path / "run")["run_id"]
    with pytest.raises(ConfigError, match=r"has logged no such model \(tracking.log_model=true\)"):
        resolved(config, splits, f"runs:/{run_id}")


def test_no_store_is_created_to_look_for_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, splits: Splits
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="there is no MLflow store"):
        resolved(config, splits, "runs:/abc")
    assert not list(tmp_path.iterdir())


def test_a_store_that_does_not_answer_is_no_fault_of_the_user(
    monkeypatch: pytest.MonkeyPatch, config: Config, splits: Splits
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(FailedError, match="did not hand over runs:/abc"):
        resolved(config, splits, "runs:/abc")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test", "60 of the 100 test digits of"),
        ("train", None),  # the first ones, none of which validates
        ("kept", None),  # the source's own validation digits
        ("validation", "60 of the 60 validation digits of"),
    ],
)
def test_weights_that_have_learnt_from_digits_of_test_or_validation_are_refused(
    tmp_path: Path,
    config: Config,
    small_h5: Path,
    splits: Splits,
    model_folder: Path,
    split: str,
    message: str | None,
) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(small_h5) as source, h5py.File(other, "w") as file:
        images = {
            "test": source["X_test"][:60],
            "train": source["X_train"][:60],
            "validation": source["X_train"][240:],
            "kept": np.concatenate([source["X_train"][:60], source["X_test"][:15]]),
        }[split]
        n_kept = 15 if split != "kept" else 0
        images = np.concatenate([images, source["X_train"][100 : 100 + n_kept]])
        file["X_train"] = np.rint(images).astype(np.uint8)
        file["y_train"] = np.zeros(len(images), np.uint8)
    sha256 = file_digest(other)
    file = ended_run(tmp_path / "run", model_folder, other, sha256)
    if message is None:
        resolved(config, splits, file)
        return
    with pytest.raises(ConfigError, match="must not have learnt from digits that") as error:
        resolved(config, splits, file)
    assert message in str(error.value)
    # a run that began with these weights, and learnt from harmless digits itself
    later = ended_run(
        tmp_path / "later",
        model_folder,
        tmp_path / "gone.h5",
        "ab" * 32,
        training__initial_weights=str(file),
    )
    with pytest.raises(ConfigError, match="must not have learnt from digits that"):
        resolved(config, splits, later)
    # what the file holds now is not what was learnt from
    other.write_bytes(other.read_bytes() + b"\0")
    resolved(config, splits, file)


def test_a_malformed_test_split_that_is_not_used_refuses_no_weights(
    tmp_path: Path, config: Config, small_h5: Path, model_folder: Path
) -> None:
    path = tmp_path / "digits.h5"
    shutil.copy(small_h5, path)
    with h5py.File(path, "a") as file:
        del file["y_test"]
    file = ended_run(tmp_path / "run", model_folder, small_h5, file_digest(small_h5))
    resolved(config, hdf5.read(path, "svhn", test=False), file)


@pytest.mark.parametrize(("fraction", "refused"), [(0.2, False), (0.3, False), (0.1, True)])
def test_weights_of_the_same_file_have_learnt_from_no_digit_of_validation(
    tmp_path: Path,
    config: Config,
    splits: Splits,
    model_folder: Path,
    fraction: float,
    refused: bool,
) -> None:
    file = ended_run(
        tmp_path / "run",
        model_folder,
        splits.path,
        splits.sha256,
        training__validation_split=fraction,
    )
    if refused:
        with pytest.raises(ConfigError, match=r"validation_split must be at most 0\.1, with which"):
            resolved(config, splits, file)
    else:
        resolved(config, splits, file)


def test_weights_that_do_not_fit_are_refused(
    composed: Composed, tmp_path: Path, splits: Splits, model_folder: Path
) -> None:
    file = ended_run(tmp_path / "run", model_folder, tmp_path / "gone.h5", "ab" * 32)
    with pytest.raises(
        ConfigError, match=r"the layer .* is \[3, 3, 1, 2\] where the model's conv1"
    ):
        resolved(composed("model=model2"), splits, file)
