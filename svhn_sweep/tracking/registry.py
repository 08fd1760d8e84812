"""Registers the recommended model in MLflow under the alias `champion`."""

from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from svhn_sweep.tracking import tracking_uri, uploader
from svhn_sweep.tracking.store_errors import MISSING
from svhn_sweep.tracking.upload_state import UploadState

ALIAS = "champion"
MODEL = "svhn-digits"
SYNTHETIC = f"{MODEL}-synthetic"  # for models that were trained on synthetic digits
ENSEMBLE_MODEL = f"{MODEL}-ensemble"
ENSEMBLE_SYNTHETIC = f"{ENSEMBLE_MODEL}-synthetic"


@dataclass(frozen=True)
class Registered:
    """The champion after a candidate was proposed.

    Attributes:
        name: The registered model's name.
        version: The version that has the alias.
        rival: Why that is not the candidate; empty if it is.
        is_new: Whether the candidate was registered now; False if it had been before.
        replaced: The version that had the alias until now; empty if that is the same, or none had.
        replaced_score: Its accuracy and on which digits; empty if its tags have none.
    """

    name: str
    version: str
    rival: str = ""
    is_new: bool = False
    replaced: str = ""
    replaced_score: str = ""

    def sentence(self, weights: str = "") -> str:
        """Returns what was done, and how to use the version that lost the alias.

        Args:
            weights: Whose weights the version has; empty if there is no choice.
        """
        if self.rival:
            return f"the {ALIAS} of {self.name} stays version {self.version}: it {self.rival}"
        verb = "registered as" if self.is_new else "already registered as"
        detail = f", with {weights}" if weights else ""
        done = f"{verb} {self.name} version {self.version}, alias {ALIAS}{detail}"
        if not self.replaced:
            return done
        score = f", with {self.replaced_score}" if self.replaced_score else ""
        return (
            f"{done}; version {self.replaced} had the alias until now{score}: "
            f"`{predict_command(f'models:/{self.name}/{self.replaced}')}` uses it"
        )


@dataclass(frozen=True)
class Fetched:
    """A copy of the champion.

    Attributes:
        version: The version of the registered model.
        folder: The folder with the model.
    """

    version: str
    folder: Path


def predict_command(address: str) -> str:
    """Returns the command that classifies a picture with a model of MLflow's address."""
    return f"python -m svhn_sweep predict --model {address} IMAGE"


def fetch(name: str, target: Path) -> Fetched | None:
    """Copies the champion of a registered model to a folder.

    Args:
        name: The registered model's name.
        target: The folder to copy to.

    Returns:
        None if there is no champion.

    Raises:
        MlflowException, OSError, requests.RequestException: The store refused or did not answer.
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


def download(address: str, target: Path) -> Path:
    """Copies a model of the store to a folder.

    Args:
        address: MLflow's, for example `runs:/RUN_ID/model` or `models:/NAME/VERSION`.
        target: The folder to copy to.

    Returns:
        The folder with the model.

    Raises:
        MlflowException, OSError, requests.RequestException: There is no such model, or the store
            refused or did not answer.
    """
    if not tracking_uri.exists():
        raise FileNotFoundError("there is no such file")
    tracking_uri.connect()  # corrects the addresses of a store that was moved
    uri = tracking_uri.store_uri()
    return Path(
        download_artifacts(
            artifact_uri=address, dst_path=str(target), tracking_uri=uri, registry_uri=uri
        )
    )


def register(
    name: str, folder: Path, score: float, tags: dict[str, str], description: str = ""
) -> Registered:
    """Registers a run's logged model as champion, unless the champion is better on the same data.

    Args:
        name: The registered model's name.
        folder: The folder of a run that logged a model.
        score: Its confirmed validation accuracy, 0..1.
        tags: The version's tags. Scores are compared if `data.sha256` is the same and `study` is
            not; `seeds` is the number of seeds that the score is the mean of.
        description: The version's, in Markdown.

    Raises:
        LookupError: The user deleted the run in MLflow.
        MlflowException, OSError, requests.RequestException: The store refused or did not answer.
    """
    state = uploader.check_and_send(folder)
    if state is None:
        raise LookupError(f"the run of {folder} was deleted in MLflow, where it can be restored")
    client = tracking_uri.connect()
    tags = tags | {"validation": str(score)}
    _create_registered_model(client, name)
    champion = _champion(client, name)
    if champion is not None:
        if champion.run_id == state["run_id"]:
            _describe(client, champion, tags, description)
            return Registered(name, str(champion.version))
        if rival := _rival(champion, score, tags):
            return Registered(name, str(champion.version), rival)
    versions = client.search_model_versions(f"name='{name}' and run_id='{state['run_id']}'")
    version = versions[0] if versions else _create_version(client, name, state, tags)
    _describe(client, version, tags, description)
    client.set_registered_model_alias(name, ALIAS, str(version.version))
    return Registered(
        name,
        str(version.version),
        is_new=not versions,
        replaced="" if champion is None else str(champion.version),
        replaced_score="" if champion is None else _format_score(champion, tags),
    )


def _rival(champion: ModelVersion, score: float, tags: dict[str, str]) -> str:
    """Returns why the champion stays champion; empty if the candidate replaces it."""
    if champion.tags.get("data.sha256") != tags["data.sha256"]:
        return ""
    if champion.tags.get("study") == tags["study"]:  # a study's newer result counts
        return ""
    validation = float(champion.tags.get("validation", 0))
    if validation >= score:
        return f"had {validation:.2%} on validation of the same digits"
    seeds = int(champion.tags.get("seeds", 1))
    return f"has more seeds behind it, {seeds}" if seeds > int(tags.get("seeds", 1)) else ""


def _format_score(champion: ModelVersion, tags: dict[str, str]) -> str:
    """Returns for example `90.00% on validation of other digits`; empty without the tag."""
    is_same = champion.tags.get("data.sha256") == tags["data.sha256"]
    digits = "the same digits" if is_same else "other digits"
    try:
        return f"{float(champion.tags['validation']):.2%} on validation of {digits}"
    except (KeyError, ValueError):
        return ""


def _describe(
    client: MlflowClient, version: ModelVersion, tags: dict[str, str], description: str
) -> None:
    """Sets the tags and the description of a version where they differ."""
    if version.description != description:
        client.update_model_version(version.name, version.version, description)
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
        if error.error_code not in MISSING:
            raise
        return None


def _create_version(
    client: MlflowClient, name: str, state: UploadState, tags: dict[str, str]
) -> ModelVersion:
    run_id = state["run_id"]
    (model,) = client.search_logged_models(
        [state["experiment_id"]], f"source_run_id = '{run_id}'", max_results=1
    )
    # Not models:/ID, which MLflow 3.17 looks up in the process-wide store instead of the client's.
    return client.create_model_version(
        name, model.artifact_location, run_id, tags=tags, model_id=model.model_id
    )
