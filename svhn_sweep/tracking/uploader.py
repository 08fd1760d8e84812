"""Uploads a run's journal to MLflow.

Uploading twice, or continuing after a failure, gives the same run.
"""

import getpass
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from PIL import Image

from svhn_sweep.files import file_lock
from svhn_sweep.tracking import journal, markdown, saved_views, tracking_uri, upload_state
from svhn_sweep.tracking.journal import JournalEvent
from svhn_sweep.tracking.upload_state import UploadState

logger = logging.getLogger(__name__)

BATCHED = {"params", "tags", "metrics", "description"}  # kinds of events that one call can send
MAX_BATCH_EVENTS = 50  # keeps a call below MLflow's limit of 1,000 metrics
MAX_DIGEST_LENGTH = 36  # MLflow's limit, in characters
KEY_TAG = "journal.key"  # the tag of a run in MLflow that holds its journal's key
LOCK = "mlflow.lock"  # held while a folder is uploaded: two uploaders would both create its run


def send(folder: Path) -> UploadState:
    """Uploads what the current store lacks of a run's journal.

    One process or thread uploads a folder at a time; others wait.

    Raises:
        MlflowException, OSError, requests.RequestException: The store refused or did not answer;
            the next call continues after what was uploaded so far.
    """
    client = tracking_uri.connect()
    with file_lock(folder / LOCK):
        state = upload_state.load(folder)
        for events, offset in _batches(journal.read(folder, state["position"] if state else 0)):
            if events[0]["kind"] == "start":
                (event,) = events
                parent = _parent_id(client, folder / event["parent"]) if "parent" in event else None
                state = _find_or_create(client, event, parent)
            else:
                assert state is not None, f"{folder}: the journal does not begin with its start"
                _send_events(client, state, events, folder)
            state["position"] = offset
            upload_state.save(folder, state)
    assert state is not None, f"{folder}: the journal is empty"
    return state


def check_and_send(folder: Path) -> UploadState | None:
    """Uploads a run like `send`, after a check whether the store still has its earlier upload.

    A run that the store does not know, because its database was replaced, is uploaded from the
    beginning.

    Returns:
        None if the user deleted the run in MLflow: it is not uploaded then.
    """
    client = tracking_uri.connect()
    state = upload_state.load(folder)
    if state is not None:
        try:
            if client.get_run(state["run_id"]).info.lifecycle_stage == "deleted":
                return None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            with file_lock(folder / LOCK):
                upload_state.save(folder, None)
    return send(folder)


def _batches(
    events: Iterable[tuple[JournalEvent, int]],
) -> Iterator[tuple[list[JournalEvent], int]]:
    """Yields lists of events that one call can send, with the offset after their last one."""
    batch: list[JournalEvent] = []
    end = 0
    for event, offset in events:
        if batch and (event["kind"] not in BATCHED or len(batch) == MAX_BATCH_EVENTS):
            yield batch, end
            batch = []
        if event["kind"] in BATCHED:
            batch = [*batch, event]
            end = offset
        else:
            yield [event], offset
    if batch:
        yield batch, end


def _parent_id(client: MlflowClient, folder: Path) -> str:
    """Returns the id of the parent run, which is created if the store does not have it."""
    with file_lock(folder / LOCK):
        event, offset = next(journal.read(folder))
        old = upload_state.load(folder)
        new = _find_or_create(client, event, None)
        if old is None or old["run_id"] != new["run_id"]:  # or the database was replaced
            upload_state.save(folder, new | {"position": offset})
        return new["run_id"]


def _find_or_create(client: MlflowClient, start: JournalEvent, parent: str | None) -> UploadState:
    experiment = _experiment(client, start["experiment"])
    filter_string = f"tags.`{KEY_TAG}` = '{start['key']}'"
    runs = client.search_runs(
        [experiment.experiment_id], filter_string, ViewType.ALL, max_results=1
    )
    tags = {KEY_TAG: start["key"], "mlflow.user": _user(), "mlflow.source.name": "svhn_sweep"}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    run = (
        runs[0]
        if runs
        else client.create_run(experiment.experiment_id, start["time"], tags, start["name"])
    )
    return {"run_id": run.info.run_id, "experiment_id": experiment.experiment_id, "position": 0}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return "unknown"


def _experiment(client: MlflowClient, name: str) -> Experiment:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        is_sqlite = tracking_uri.scheme() == "sqlite"
        location = (Path.cwd() / tracking_uri.ARTIFACTS).as_uri() if is_sqlite else None
        experiment = _create_experiment(client, name, location)
    if experiment.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        raise LookupError(
            f"the experiment {name} was deleted there; `{restore}` brings it back, "
            "tracking.experiment=NAME another"
        )
    return experiment


def _create_experiment(client: MlflowClient, name: str, location: str | None) -> Experiment | None:
    try:
        client.create_experiment(name, location, saved_views.EXPERIMENT_TAGS)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
            raise
    return client.get_experiment_by_name(name)


def _send_events(
    client: MlflowClient, state: UploadState, events: Sequence[JournalEvent], folder: Path
) -> None:
    event = events[0]
    match event["kind"]:
        case kind if kind in BATCHED:
            _send_batch(client, state, events)
        case "dataset":
            source = json.dumps({"uri": event["source"]})
            digest = event["digest"][:MAX_DIGEST_LENGTH]
            dataset = Dataset(event["name"], digest, "local", source)
            context = InputTag("mlflow.data.context", "training")
            client.log_inputs(state["run_id"], [DatasetInput(dataset, [context])])
        case "artifact" | "image" | "model":
            _send_file(client, state, event, folder / event["path"])
        case "view":
            view = saved_views.encode(event["name"], event["state"], event["time"])
            client.set_experiment_tag(
                state["experiment_id"], saved_views.TAG_PREFIX + event["key"], view
            )
        case "resume":
            client.update_run(state["run_id"], "RUNNING")
        case "end":
            tags = [RunTag(key, str(value)) for key, value in event["values"].items()]
            client.log_batch(state["run_id"], tags=tags, synchronous=True)
            client.set_terminated(state["run_id"], event["status"], event["time"])


def _send_batch(client: MlflowClient, state: UploadState, events: Sequence[JournalEvent]) -> None:
    params = []
    metrics = []
    tags: dict[str, str] = {}
    for event in events:
        if event["kind"] == "params":
            params += [Param(key, str(value)) for key, value in event["values"].items()]
        elif event["kind"] == "metrics":
            metrics += [
                Metric(key, float(value), event["time"], event["step"])
                for key, value in event["values"].items()
            ]
        elif event["kind"] == "tags":
            tags |= {key: str(value) for key, value in event["values"].items()}
        else:
            text = event["text"].replace(markdown.RUN_ID, state["run_id"])
            tags[markdown.TAG] = text.replace(markdown.EXPERIMENT_ID, state["experiment_id"])
    client.log_batch(
        state["run_id"], metrics, params, [RunTag(*tag) for tag in tags.items()], synchronous=True
    )


def _send_file(client: MlflowClient, state: UploadState, event: JournalEvent, path: Path) -> None:
    if not path.exists():
        logger.warning("%s was removed and is not sent", path)
    elif event["kind"] == "model":
        _send_model(client, state, path)
    elif event["kind"] == "image":
        _send_image(client, state["run_id"], event, path)
    else:
        parent = str(Path(event["path"]).parent)
        client.log_artifact(state["run_id"], str(path), None if parent == "." else parent)


def _send_image(client: MlflowClient, run_id: str, event: JournalEvent, path: Path) -> None:
    """Uploads an image once: MLflow stores every upload under a name of its own."""
    names = [Path(entry.path).name for entry in client.list_artifacts(run_id, "images")]
    uploaded = any(name.startswith(f"{event['key']}+step+") for name in names)
    # MLflow tags the run last: without the tag the upload was interrupted.
    if uploaded and MLFLOW_LOGGED_IMAGES in client.get_run(run_id).data.tags:
        return
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
    except OSError:  # a power cut damaged it
        logger.warning("%s is no picture and is not sent", path)
        return
    client.log_image(
        run_id, pixels, key=event["key"], step=0, timestamp=event["time"], synchronous=True
    )


def _send_model(client: MlflowClient, state: UploadState, path: Path) -> None:
    run_id = state["run_id"]
    experiment_id = state["experiment_id"]
    models = client.search_logged_models(
        [experiment_id], f"source_run_id = '{run_id}'", max_results=1
    )
    model = (
        models[0]
        if models
        else client.create_logged_model(experiment_id, path.name, run_id, model_type="keras")
    )
    if not client.get_run(run_id).outputs.model_outputs:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
