"""Send a run's journal to MLflow. Sending twice, or going on after a failure, gives the same run."""

import getpass
import json
from pathlib import Path
from typing import TypedDict

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
)
from mlflow.exceptions import MlflowException

from svhn_sweep.tracking import journal, store
from svhn_sweep.tracking.journal import Event

SENT = "mlflow.json"
KEY = "journal.key"  # the tag that tells which run in MLflow a journal belongs to


class Sent(TypedDict):
    """How far a journal has been sent to one store."""

    run_id: str
    experiment_id: str
    position: int  # bytes


def send(folder: Path) -> Sent:
    """Bring the run in the present store up to the journal's last event.

    Raises:
        MlflowException, OSError, requests.RequestException: the store refused or did not answer; what was sent so far
            is remembered.
    """
    client = store.connect()
    sent = recall(folder)
    for event, position in journal.read(folder, sent["position"] if sent else 0):
        if sent is None:  # the first event is the start
            sent = _find_or_create(client, event)
        else:
            _send_event(client, sent, event, folder)
        sent["position"] = position
        _remember(folder, sent)
    assert sent is not None, f"{folder} has an empty journal"
    return sent


def recall(folder: Path) -> Sent | None:
    """What is known of earlier sending to the present store."""
    path = folder / SENT
    known: dict[str, Sent] = json.loads(path.read_text()) if path.exists() else {}
    return known.get(store.redacted(store.store_uri()))


def forget(folder: Path) -> None:
    """Send everything again next time."""
    (folder / SENT).unlink(missing_ok=True)


def is_known(folder: Path) -> bool:
    """Whether the run that was sent earlier still exists in the present store, deleted ones in its bin included."""
    sent = recall(folder)
    if sent is None:
        return False
    try:
        store.connect().get_run(sent["run_id"])
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _remember(folder: Path, sent: Sent) -> None:
    path = folder / SENT
    known: dict[str, Sent] = json.loads(path.read_text()) if path.exists() else {}
    known[store.redacted(store.store_uri())] = sent
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(known, indent=2))
    unfinished.replace(path)


def _find_or_create(client: MlflowClient, start: Event) -> Sent:
    experiment = _experiment(client, start["experiment"])
    runs = client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = '{start['key']}'", max_results=1)
    run = (
        runs[0]
        if runs
        else client.create_run(
            experiment.experiment_id,
            start_time=start["time"],
            run_name=start["name"],
            tags={KEY: start["key"], "mlflow.user": _user(), "mlflow.source.name": "svhn_sweep"},
        )
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
        local = store.is_local(store.store_uri())
        location = (Path.cwd() / store.ARTIFACTS).as_uri() if local else None
        experiment = client.get_experiment(client.create_experiment(name, location))
    return experiment


def _send_event(client: MlflowClient, sent: Sent, event: Event, folder: Path) -> None:
    run_id = sent["run_id"]
    match event["kind"]:
        case "params":
            params = [Param(key, str(value)) for key, value in event["values"].items()]
            client.log_batch(run_id, params=params, synchronous=True)
        case "tags":
            tags = [RunTag(key, str(value)) for key, value in event["values"].items()]
            client.log_batch(run_id, tags=tags, synchronous=True)
        case "metrics":
            metrics = [
                Metric(key, float(value), event["time"], event["step"]) for key, value in event["values"].items()
            ]
            client.log_batch(run_id, metrics=metrics, synchronous=True)
        case "dataset":
            source = json.dumps({"uri": event["source"]})
            dataset = Dataset(event["name"], event["digest"][:36], "local", source)  # 36 characters is MLflow's limit
            client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        case "artifact":
            parent = str(Path(event["path"]).parent)
            client.log_artifact(run_id, str(folder / event["path"]), None if parent == "." else parent)
        case "model":
            _send_model(client, sent, folder / event["path"])
        case "end":
            client.set_terminated(run_id, event["status"], event["time"])


def _send_model(client: MlflowClient, sent: Sent, path: Path) -> None:
    outputs = client.get_run(sent["run_id"]).outputs
    if outputs and outputs.model_outputs:  # an earlier attempt got this far
        model_id = outputs.model_outputs[0].model_id
    else:
        model = client.create_logged_model(sent["experiment_id"], path.name, sent["run_id"], model_type="keras")
        model_id = model.model_id
        client.log_outputs(sent["run_id"], [LoggedModelOutput(model_id, step=0)])
    client.log_model_artifacts(model_id, str(path))
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
