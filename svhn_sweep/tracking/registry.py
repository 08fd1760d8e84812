"""The recommended model, registered in MLflow under an alias."""

from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from svhn_sweep.tracking import tracking_uri, upload_state, uploader

ALIAS = "champion"
MODEL = "svhn-digits"
SYNTHETIC = f"{MODEL}-synthetic"  # one that learnt from drawn digits has its own name


@dataclass(frozen=True)
class Registered:
    """What became of a candidate.

    Attributes:
        version: that holds the alias now.
        rival: why that is not the candidate's, in words; empty if it is.
    """

    version: str
    rival: str = ""


@dataclass(frozen=True)
class Fetched:
    """A champion's version, and the folder that its model was copied to."""

    version: str
    folder: Path


def fetch(name: str, target: Path) -> Fetched | None:
    """The champion among a registered model's versions, copied below `target`; None if there is
    none.

    Raises:
        MlflowException, OSError, requests.RequestException: the store refused or did not answer.
    """
    if not tracking_uri.exists():
        return None
    champion = _champion(tracking_uri.connect(), name)
    if champion is None:
        return None
    folder = download_artifacts(
        artifact_uri=champion.source, dst_path=str(target), tracking_uri=tracking_uri.store_uri()
    )
    return Fetched(str(champion.version), Path(folder))


def register(name: str, folder: Path, score: float, tags: dict[str, str]) -> Registered:
    """Register the logged model of the run in `folder` as champion, unless a better one on the same
    data is.

    Args:
        name: of the registered model.
        folder: of a run that logged a model.
        score: its confirmed validation accuracy, 0..1.
        tags: of the version; `data.sha256` and `study` tell which scores are compared (those of
            other studies on the same digits), `seeds` how many are behind the score.

    Raises:
        LookupError: the user deleted the run in MLflow.
        MlflowException, OSError, requests.RequestException: the store refused or did not answer.
    """
    sent = uploader.resend(folder)
    if sent is None:
        raise LookupError(f"the run of {folder} was deleted in MLflow, where it can be restored")
    client = tracking_uri.connect()
    tags = tags | {"validation": str(score)}
    _create_registered_model(client, name)
    champion = _champion(client, name)
    if champion is not None:
        if champion.run_id == sent["run_id"]:
            _set_tags(client, champion, tags)
            return Registered(str(champion.version))
        comparable = champion.tags.get("data.sha256") == tags["data.sha256"]
        comparable = (
            comparable and champion.tags.get("study") != tags["study"]
        )  # whose newer word counts
        validation = float(champion.tags.get("validation", 0))
        seeds = int(champion.tags.get("seeds", 1))
        if comparable and validation >= score:
            return Registered(
                str(champion.version), f"had {validation:.2%} on validation of the same digits"
            )
        if comparable and seeds > int(tags.get("seeds", 1)):
            return Registered(str(champion.version), f"has more seeds behind it, {seeds}")
    earlier = client.search_model_versions(f"name='{name}' and run_id='{sent['run_id']}'")
    version = earlier[0] if earlier else _create(client, name, sent, tags)
    _set_tags(client, version, tags)
    client.set_registered_model_alias(name, ALIAS, str(version.version))
    return Registered(str(version.version))


def _set_tags(client: MlflowClient, version: ModelVersion, tags: dict[str, str]) -> None:
    """More seeds may have judged it meanwhile."""
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)


def _create_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def _create(
    client: MlflowClient, name: str, sent: upload_state.Sent, tags: dict[str, str]
) -> ModelVersion:
    run_id = sent["run_id"]
    (model,) = client.search_logged_models(
        [sent["experiment_id"]], f"source_run_id = '{run_id}'", max_results=1
    )
    # not models:/ID, which MLflow 3.17 looks up in the process-wide store rather than in the
    # client's
    return client.create_model_version(
        name, model.artifact_location, run_id, tags=tags, model_id=model.model_id
    )
