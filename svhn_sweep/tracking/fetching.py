"""Runs of other hosts, as far as MLflow knows them."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from svhn_sweep.tracking import memory, store
from svhn_sweep.tracking.journal import JOURNAL, Journal

ARTIFACTS = {"confusion_matrix", "config.yaml", "command.txt"}


def fetch_run(experiment: str, tags: Mapping[str, str], folder: Path) -> bool:
    """Copy what there is of matrices, config and model of the run with these tags to a new folder; false if none has.

    The folder then is known as that run's: what is logged for it goes there. What was in it is put aside.

    Raises:
        MlflowException, OSError, requests.RequestException: the store refused or did not answer.
    """
    client = store.connect()
    found = client.get_experiment_by_name(experiment)
    same = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs = client.search_runs([found.experiment_id], f"{same} and tags.role != 'dropped'") if found is not None else []
    if not runs:
        return False
    run_id, experiment_id = runs[0].info.run_id, found.experiment_id
    known = memory.recall(folder)
    if known is not None and known["run_id"] == run_id:
        return True  # fetched before
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for path in {entry.path for entry in client.list_artifacts(run_id)} & ARTIFACTS:
        download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(unfinished), tracking_uri=store.store_uri())
    _fetch_model(client, experiment_id, run_id, unfinished / "model")
    _write_down(unfinished, runs[0], experiment)
    if folder.exists():  # of this host, which was cut off or stopped before the trial was over
        folder.rename(folder.with_name(f"{folder.name}.dropped-{time.time_ns()}"))
    unfinished.replace(folder)
    return True


def _write_down(folder: Path, run: Run, experiment: str) -> None:
    """A journal of what MLflow knows already, with nothing left to be sent."""
    finals = {key: value for key, value in run.data.metrics.items() if key.startswith("val/")}
    with Journal(folder) as record:
        record.start(name=run.info.run_name, experiment=experiment, store=store.address(), tags={})
        record.metrics(finals)
        record.end(run.info.status, {"trial.state": run.data.tags["trial.state"], "trial.reason": ""})
    size = (folder / JOURNAL).stat().st_size
    memory.remember(folder, {"run_id": run.info.run_id, "experiment_id": run.info.experiment_id, "position": size})


def ended(experiment: str, study: str) -> set[int]:
    """The trials of a study whose runs have ended, by number."""
    client = store.connect()
    found = client.get_experiment_by_name(experiment)
    same = (
        f"tags.study = '{study}' and tags.role != 'sweep' and tags.role != 'dropped' and attributes.status != 'RUNNING'"
    )
    runs = client.search_runs([found.experiment_id], same, max_results=50_000) if found is not None else []
    return {int(run.data.tags["trial.number"]) for run in runs}


def _fetch_model(client: MlflowClient, experiment_id: str, run_id: str, folder: Path) -> None:
    for model in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'", max_results=1):
        uri, address = model.artifact_location, store.store_uri()
        copied = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder.parent), tracking_uri=address))
        copied.replace(folder)
