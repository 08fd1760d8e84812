"""Finds the run that saved a model, in MLflow or in its own folder, and fetches the model."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from svhn_sweep.errors import ConfigError, FailedError
from svhn_sweep.tracking import journal, tracking_uri

if TYPE_CHECKING:  # importing it takes 2 s
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

KEY = "training.initial_weights"
MODEL_FILE = Path("data") / "model.keras"  # within a model that MLflow saved
RUN = "runs:/"
REGISTERED = "models:/"
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class SourceRun:
    """A run that trained a model.

    Attributes:
        address: `runs:/ID`, or the path of the model's file.
        params: The run's params; empty if the run is not known.
        data_path: The file with its digits, on the machine that trained; None if not known.
        version: The registered model and its version, `NAME/VERSION`, that named the run; or empty.
    """

    address: str
    params: Mapping[str, str] = field(default_factory=dict)
    data_path: Path | None = None
    version: str = ""


def is_stored(address: str) -> bool:
    """Returns whether an address is one of MLflow, not a file's."""
    return address.startswith((RUN, REGISTERED))


def find(address: str) -> SourceRun:
    """Returns the run that an address means now.

    Args:
        address: `runs:/ID`, `runs:/ID/model`, `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or the
            absolute path of a file. If the file is part of a run's folder, its journal knows the
            run.

    Raises:
        ConfigError: MLflow has no such run or version.
        FailedError: MLflow does not answer.
    """
    if not is_stored(address):
        return _run_of_folder(Path(address))
    client = _connect(address)
    with _explained(address):
        version = _version(client, address) if address.startswith(REGISTERED) else None
        run_id = version.run_id if version else address.removeprefix(RUN).partition("/")[0]
        if not run_id:
            raise _refusal(address, "it was registered without its run")
        return _described(client.get_run(run_id), version)


def fetch(run: SourceRun, folder: Path) -> Path:
    """Copies the model that a run logged to a folder.

    Args:
        run: One with an address in MLflow.
        folder: An empty folder.

    Returns:
        Keras' file.

    Raises:
        ConfigError: The run has logged no model of Keras.
        FailedError: MLflow does not answer.
    """
    from mlflow.artifacts import download_artifacts

    client = _connect(run.address)
    run_id = run.address.removeprefix(RUN)
    with _explained(run.address):
        experiment = client.get_run(run_id).info.experiment_id
        models = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
        if not models:
            raise _refusal(run.address, "the run has logged no model (tracking.log_model=true)")
        path = download_artifacts(
            artifact_uri=f"{models[0].artifact_location}/{MODEL_FILE}",
            dst_path=str(folder),
            tracking_uri=tracking_uri.store_uri(),
        )
    return Path(path)


def _connect(address: str) -> "MlflowClient":
    tracking_uri.check()
    if not tracking_uri.exists():
        raise _refusal(address, f"there is no MLflow store {tracking_uri.address()}")
    with _explained(address):
        return tracking_uri.connect()


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turns what MLflow raises into one sentence, by whose fault it is."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = tracking_uri.reason(error).rstrip(".")
        if getattr(error, "error_code", "") in MISSING:
            raise _refusal(address, reason) from error
        raise FailedError(
            f"MLflow at {tracking_uri.address()} did not hand over {address}: {reason}."
        ) from error


def _refusal(address: str, reason: str) -> ConfigError:
    return ConfigError(f"{KEY} must be a model in MLflow or a file but {address} is not: {reason}.")


def _version(client: "MlflowClient", address: str) -> "ModelVersion":
    path = address.removeprefix(REGISTERED)
    name, at, alias = path.partition("@")
    if at:
        return client.get_model_version_by_alias(name, alias)
    name, _, number = path.rpartition("/")
    if not name or not number.isdecimal():
        raise _refusal(address, "an alias or a version must follow its name")
    return client.get_model_version(name, number)


def _described(run: "Run", version: "ModelVersion | None") -> SourceRun:
    inputs = run.inputs.dataset_inputs if run.inputs else []
    sources = [json.loads(entry.dataset.source).get("uri") for entry in inputs]
    return SourceRun(
        RUN + run.info.run_id,
        dict(run.data.params),
        Path(sources[0]) if sources and sources[0] else None,
        f"{version.name}/{version.version}" if version else "",
    )


def _run_of_folder(file: Path) -> SourceRun:
    """Returns the run in whose folder a model's file lies, as `model/data/model.keras`."""
    if file.parts[-3:] != ("model", *MODEL_FILE.parts):
        return SourceRun(str(file))
    folder = file.parents[2]
    sources = [event["source"] for event, _ in journal.read(folder) if event["kind"] == "dataset"]
    return SourceRun(
        str(file),
        {key: str(value) for key, value in journal.params(folder).items()},
        Path(sources[-1]) if sources else None,
    )
