"""Finds the run that saved a model, in MLflow or in its own folder, and fetches the model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from svhn_sweep.errors import ConfigError
from svhn_sweep.tracking import journal, tracking_uri
from svhn_sweep.tracking.store_errors import explained

if TYPE_CHECKING:  # importing it takes 2 s
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

KEY = "training.initial_weights"
MODEL_FILE = Path("data") / "model.keras"  # within a model that MLflow saved
RUN = "runs:/"
REGISTERED = "models:/"


@dataclass(frozen=True)
class SourceRun:
    """A run that trained a model.

    Attributes:
        address: `runs:/ID`, `runs:/ID/NAME` if the run has logged several models, or the path of
            the model's file.
        params: The run's params; empty if the run is not known.
        data_path: The file with its digits, on the machine that trained; None if not known.
        version: The registered model and its version, `NAME/VERSION`, that named the run; or empty.
        locations: Where MLflow has the models that the address can mean; one if it can be fetched.
    """

    address: str
    params: Mapping[str, str] = field(default_factory=dict)
    data_path: Path | None = None
    version: str = ""
    locations: Sequence[str] = ()


def is_stored(address: str) -> bool:
    """Returns whether an address is one of MLflow, not a file's."""
    return address.startswith((RUN, REGISTERED))


def find(address: str) -> SourceRun:
    """Returns the run that an address means now.

    Args:
        address: `runs:/ID`, `runs:/ID/model`, `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or the
            absolute path of a file. If the file is part of a run's folder, its journal has the
            params.

    Raises:
        ConfigError: MLflow has no such run or version.
        FailedError: MLflow does not answer.
    """
    if not is_stored(address):
        return _run_of_folder(Path(address))
    tracking_uri.check()
    if not tracking_uri.exists():
        raise _refusal(address, f"there is no MLflow store {tracking_uri.address()}")
    with explained(address, partial(_refusal, address)):
        client = tracking_uri.connect()
        if not address.startswith(REGISTERED):
            run_id, _, name = address.removeprefix(RUN).partition("/")
            run = client.get_run(run_id)
            models = _logged_models(client, run)
            return _source_run(run, [model for model in models if name in ("", model.name)], models)
        version = _version(client, address)
        if not version.run_id:
            raise _refusal(address, "it was registered without its run")
        run = client.get_run(version.run_id)
        models = _logged_models(client, run)
        meant = [model for model in models if _is_of_version(model, version)]
        source = _source_run(run, meant, models)
        location = meant[0].artifact_location if meant else version.source
        return replace(source, version=f"{version.name}/{version.version}", locations=[location])


def fetch(run: SourceRun, folder: Path) -> Path:
    """Copies the model that a run logged to a folder.

    Args:
        run: One with an address in MLflow.
        folder: An empty folder.

    Returns:
        Keras' file.

    Raises:
        ConfigError: The run has logged no such model of Keras, or several.
        FailedError: MLflow does not answer.
    """
    from mlflow.artifacts import download_artifacts

    if not run.locations:
        raise _refusal(run.address, "the run has logged no such model (tracking.log_model=true)")
    if len(run.locations) > 1:
        several = f"the run has logged {len(run.locations)} such models; runs:/ID/NAME names one"
        raise _refusal(run.address, several)
    with explained(run.address, partial(_refusal, run.address)):
        path = download_artifacts(
            artifact_uri=f"{run.locations[0]}/{MODEL_FILE}",
            dst_path=str(folder),
            tracking_uri=tracking_uri.store_uri(),
        )
    return Path(path)


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


def _logged_models(client: "MlflowClient", run: "Run") -> list["LoggedModel"]:
    of_run = f"source_run_id = '{run.info.run_id}'"
    return list(client.search_logged_models([run.info.experiment_id], of_run))


def _is_of_version(model: "LoggedModel", version: "ModelVersion") -> bool:
    if version.model_id:
        return bool(model.model_id == version.model_id)
    return bool(model.artifact_location == version.source)


def _source_run(
    run: "Run", meant: Sequence["LoggedModel"], models: Sequence["LoggedModel"]
) -> SourceRun:
    """Returns a run with the models that are meant, of all that it has logged."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    sources = [json.loads(entry.dataset.source).get("uri") for entry in inputs]
    return SourceRun(
        RUN + run.info.run_id + (f"/{meant[0].name}" if meant and len(models) > 1 else ""),
        dict(run.data.params),
        Path(sources[0]) if sources and sources[0] else None,
        locations=[model.artifact_location for model in meant],
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
