"""Send a run's journal to MLflow.

Sending twice, or going on after a failure, gives the same run.
"""

import fcntl
import getpass
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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

from svhn_sweep.tracking import journal, markdown, saved_views, tracking_uri, upload_state
from svhn_sweep.tracking.journal import Event

logger = logging.getLogger(__name__)

BATCHED = {
    "params",
    "tags",
    "metrics",
    "description",
}  # kinds of events that one call sends together
MOST_EVENTS = 50  # of them, within MLflow's limit of 1,000 metrics in a call
KEY = "journal.key"  # the tag that tells which run in MLflow a journal belongs to


def send(folder: Path) -> upload_state.Sent:
    """Bring the run in the present store up to the journal's last event; one process at a time,
    others wait.

    Raises:
        MlflowException, OSError, requests.RequestException: the store refused or did not answer;
            what was sent so far is remembered.
    """
    client = tracking_uri.connect()
    with _alone(folder):
        sent = upload_state.load(folder)
        for events, position in _together(journal.read(folder, sent["position"] if sent else 0)):
            if events[0]["kind"] == "start":
                (event,) = events
                parent = _started(client, folder / event["parent"]) if "parent" in event else None
                sent = _find_or_create(client, event, parent)
            else:
                assert sent is not None, f"{folder}: the journal does not begin with its start"
                _send_events(client, sent, events, folder)
            sent["position"] = position
            upload_state.save(folder, sent)
    assert sent is not None, f"{folder}: the journal is empty"
    return sent


def resend(folder: Path) -> upload_state.Sent | None:
    """`send`, after a look whether the store still has what it was sent; None if the user
    deleted the run there.
    """
    client = tracking_uri.connect()
    sent = upload_state.load(folder)
    if sent is not None:
        try:
            if client.get_run(sent["run_id"]).info.lifecycle_stage == "deleted":
                return None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            with _alone(folder):
                upload_state.save(
                    folder, None
                )  # another database at the same address: send everything again
    return send(folder)


def _together(events: Iterable[tuple[Event, int]]) -> Iterator[tuple[list[Event], int]]:
    """The events that one call can send, with the position after the last of them."""
    waiting: list[Event] = []
    last = 0
    for event, position in events:
        if waiting and (event["kind"] not in BATCHED or len(waiting) == MOST_EVENTS):
            yield waiting, last
            waiting = []
        if event["kind"] in BATCHED:
            waiting = [*waiting, event]
            last = position
        else:
            yield [event], position
    if waiting:
        yield waiting, last


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No two processes or threads send one folder at a time: both would create its run."""
    with (folder / "mlflow.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _started(client: MlflowClient, folder: Path) -> str:
    """The id of the run in `folder`, which another one lies within; it is created if the store
    does not have it.
    """
    with _alone(folder):
        event, position = next(journal.read(folder))
        sent = upload_state.load(folder)
        found = _find_or_create(client, event, None)
        if (
            sent is None or sent["run_id"] != found["run_id"]
        ):  # nothing is known, or of another database at its address
            upload_state.save(folder, found | {"position": position})
        return found["run_id"]


def _find_or_create(client: MlflowClient, start: Event, parent: str | None) -> upload_state.Sent:
    experiment = _experiment(client, start["experiment"])
    filter_string = f"tags.`{KEY}` = '{start['key']}'"
    runs = client.search_runs(
        [experiment.experiment_id], filter_string, ViewType.ALL, max_results=1
    )
    tags = {KEY: start["key"], "mlflow.user": _user(), "mlflow.source.name": "svhn_sweep"}
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
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"


def _experiment(client: MlflowClient, name: str) -> Experiment:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = (
            (Path.cwd() / tracking_uri.ARTIFACTS).as_uri()
            if tracking_uri.scheme() == "sqlite"
            else None
        )
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
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another process, which was faster
            raise
    return client.get_experiment_by_name(name)


def _send_events(
    client: MlflowClient, sent: upload_state.Sent, events: Sequence[Event], folder: Path
) -> None:
    event = events[0]
    match event["kind"]:
        case "params" | "tags" | "metrics" | "description":
            _send_batch(client, sent, events)
        case "dataset":
            source = json.dumps({"uri": event["source"]})
            dataset = Dataset(
                event["name"], event["digest"][:36], "local", source
            )  # 36 characters is MLflow's limit
            client.log_inputs(
                sent["run_id"],
                [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])],
            )
        case "artifact" | "image" | "model":
            _send_file(client, sent, event, folder / event["path"])
        case "view":
            view = saved_views.encoded(event["name"], event["state"], event["time"])
            client.set_experiment_tag(sent["experiment_id"], saved_views.TAG + event["key"], view)
        case "resume" | "end":
            _send_status(client, sent, event)


def _send_batch(client: MlflowClient, sent: upload_state.Sent, events: Sequence[Event]) -> None:
    params = []
    metrics = []
    tags: dict[str, str] = {}
    for event in events:
        if event["kind"] == "params":
            params += [Param(key, str(value)) for key, value in event["values"].items()]
        elif event["kind"] == "metrics":
            time = event["time"]
            step = event["step"]
            metrics += [
                Metric(key, float(value), time, step) for key, value in event["values"].items()
            ]
        elif event["kind"] == "tags":
            tags |= {key: str(value) for key, value in event["values"].items()}
        else:
            text = event["text"].replace(markdown.RUN_ID, sent["run_id"])
            tags[markdown.TAG] = text.replace(markdown.EXPERIMENT_ID, sent["experiment_id"])
    client.log_batch(
        sent["run_id"], metrics, params, [RunTag(*tag) for tag in tags.items()], synchronous=True
    )


def _send_status(client: MlflowClient, sent: upload_state.Sent, event: Event) -> None:
    if event["kind"] == "resume":
        client.update_run(sent["run_id"], "RUNNING")
    else:
        tags = [RunTag(key, str(value)) for key, value in event["values"].items()]
        client.log_batch(sent["run_id"], tags=tags, synchronous=True)
        client.set_terminated(sent["run_id"], event["status"], event["time"])


def _send_file(client: MlflowClient, sent: upload_state.Sent, event: Event, path: Path) -> None:
    if not path.exists():
        logger.warning("%s was removed and is not sent", path)
    elif event["kind"] == "model":
        _send_model(client, sent, path)
    elif event["kind"] == "image":
        _send_image(client, sent["run_id"], event, path)
    else:
        parent = str(Path(event["path"]).parent)
        client.log_artifact(sent["run_id"], str(path), None if parent == "." else parent)


def _send_image(client: MlflowClient, run_id: str, event: Event, path: Path) -> None:
    """Once, as far as is known: MLflow gives each image that it is sent a name of its own, and
    tags the run last.
    """
    earlier = [Path(entry.path).name for entry in client.list_artifacts(run_id, "images")]
    sent = any(name.startswith(f"{event['key']}+step+") for name in earlier)
    if sent and MLFLOW_LOGGED_IMAGES in client.get_run(run_id).data.tags:
        return
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
    except OSError:  # a power cut took it away
        logger.warning("%s is no picture and is not sent", path)
        return
    client.log_image(
        run_id, pixels, key=event["key"], step=0, timestamp=event["time"], synchronous=True
    )


def _send_model(client: MlflowClient, sent: upload_state.Sent, path: Path) -> None:
    run_id = sent["run_id"]
    experiment_id = sent["experiment_id"]
    earlier = client.search_logged_models(
        [experiment_id], f"source_run_id = '{run_id}'", max_results=1
    )
    model = (
        earlier[0]
        if earlier
        else client.create_logged_model(experiment_id, path.name, run_id, model_type="keras")
    )
    if not client.get_run(run_id).outputs.model_outputs:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
