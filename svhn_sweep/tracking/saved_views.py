"""Saved views: how MLflow's UI shows a sweep, instead of a table without columns.

The format is that of MLflow 3.17's own "Save as new view": an experiment tag whose state is
compressed JSON. It is not documented; a version that does not know it shows its plain table.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svhn_sweep.tracking import journal

TAG = "mlflow.sharedViewState."
MATRIX = "confusion_matrix"  # MLflow's key of the image that each trial logs
FINALS = {
    "val/accuracy": "val/best_accuracy",
    "val/loss": "val/lowest_loss",
}  # the objective's best epoch in a run
DELTAS = {
    "val/accuracy": "delta_to_baseline",
    "val/loss": "loss_delta_to_baseline",
}  # they share a leaderboard
CHART = "&compareRunsMode=CHART"
MODE = "workflowType=machine_learning"  # without it MLflow opens in its GenAI mode
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development"
}  # the same for the experiment's own page
LEADERBOARD = "leaderboard-"
TRIALS = "tags.role != 'sweep' and tags.role != 'confirmation'"

State = dict[str, object]


@dataclass(frozen=True)
class About:
    """What a sweep's views are about.

    Attributes:
        study: name.
        data_sha256: of the digits; trials on the same ones stand in one leaderboard.
        metric: the objective, by MLflow's key.
        maximize: whether more of it is better.
        params: what the study explores, by MLflow's keys.
        columns: those, and what other studies of the sweep explore.
    """

    study: str
    data_sha256: str
    metric: str
    maximize: bool
    params: Sequence[str]
    columns: Sequence[str]


def views(about: About) -> dict[str, tuple[str, State]]:
    """Name and state of each view by its key in the experiment."""
    trials = f"tags.study = '{about.study}' and {TRIALS}"
    same_digits = f"tags.`data.sha256` = '{about.data_sha256}' and {TRIALS}"
    digits = about.data_sha256[:8]
    board = _state(about, same_digits)
    shown = hashlib.sha256(json.dumps(board).encode()).hexdigest()[
        :8
    ]  # sweeps that show the same share one
    return {
        f"{LEADERBOARD}{digits}-{shown}": (
            f"Leaderboard by {about.metric}, digits {digits}",
            board,
        ),
        f"charts-{about.study}": (f"Charts of {about.study}", _charts(about, trials)),
        f"matrices-{about.study}": (
            f"Confusion matrices of {about.study}",
            _matrices(about, trials),
        ),
    }


def pages(folder: Path, experiment_id: str) -> dict[str, str]:
    """The `page` of each view that a run's journal holds, by its name."""
    found: dict[str, str] = {}
    for event, _ in journal.read(folder):
        if event["kind"] == "view":
            found[event["name"]] = page(event["key"], experiment_id)
    return found


def page(key: str, experiment_id: str) -> str:
    """The part of a view's address that follows the server's."""
    chart = "" if key.startswith(LEADERBOARD) else CHART
    return f"#/experiments/{experiment_id}/runs?{MODE}&viewStateShareKey={key}{chart}"


def encoded(name: str, state: str, milliseconds: int) -> str:
    """The tag's value for a state in JSON."""
    compressed = "deflate;" + base64.b64encode(zlib.compress(state.encode())).decode()
    return json.dumps(
        {"name": name, "createdAt": milliseconds, "updatedAt": milliseconds, "state": compressed}
    )


def _state(about: About, runs: str) -> State:
    """A table of runs, best first, with the columns that matter."""
    final = FINALS[about.metric]
    first = ["tags.`trial.state`", *_metrics(final, DELTAS[about.metric])]
    last = dict.fromkeys(
        _metrics("val/best_accuracy", "val/best_epoch")
    )  # that epoch is the best accuracy's
    columns = [
        *dict.fromkeys([*first, *_params("model.name", *about.columns), *last, "tags.`study`"])
    ]
    widths = {
        column: max(105, 45 + 8 * len(column.split("`")[1])) for column in columns
    }  # conv1 and conv2 end alike
    order = {"attributes.`Run Name`": 130} | widths | {"duration": 80, "runDateAndNestInfo": 130}
    return {
        "searchFilter": runs,
        "orderByKey": f"metrics.`{final}`",
        "orderByAsc": not about.maximize,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": list(order),
        "columnWidths": order,
        "runsHiddenMode": "FIRST_10_RUNS",
    }


def _charts(about: About, runs: str) -> State:
    curves = [_line(metric) for metric in dict.fromkeys((about.metric, "val/accuracy", "val/loss"))]
    lines = {
        "selectedParams": list(about.params),
        "selectedMetrics": [FINALS[about.metric]],
        "showAllRuns": False,
    }
    parallel = _chart("PARALLEL", "Hyperparameters and result", lines)
    return _state(about, runs) | _sections(
        {"Learning curves": curves, "Hyperparameters": [parallel]}
    )


def _matrices(about: About, runs: str) -> State:
    images = _chart(
        "IMAGE", "Confusion matrices", {"imageKeys": [MATRIX], "step": 0, "showRunParams": False}
    )
    section = _sections({"Confusion matrices on validation, the best last": [images]}, height=1200)
    wide: State = {
        "runListHidden": True
    }  # the images have names; without the list there is more room for them
    return _state(about, runs) | section | wide


def _sections(charts: Mapping[str, Sequence[State]], height: int = 360) -> State:
    """The page of charts: each section with its charts beneath one another, as wide as the page;
    `height` in pixels.
    """
    shape: State = {"display": True, "isReordered": True, "columns": 1, "cardHeight": height}
    sections = [shape | {"uuid": name, "name": name} for name in charts]
    placed = [
        each
        | {
            "uuid": f"{name} {place}",
            "metricSectionId": name,
            "deleted": False,
            "isGenerated": False,
        }
        for name, inside in charts.items()
        for place, each in enumerate(inside)
    ]
    return {
        "compareRunCharts": placed,
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }


def _line(metric: str) -> State:
    axes = {
        "scaleType": "linear",
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
    }
    return _chart("LINE", metric, {"metricKey": metric, "lineSmoothness": 0, "range": {}} | axes)


def _chart(kind: str, name: str, more: Mapping[str, object]) -> State:
    return {"type": kind, "displayName": name, "runsCountToCompare": 10, **more}


def _metrics(*keys: str) -> list[str]:
    return [f"metrics.`{key}`" for key in keys]


def _params(*keys: str) -> list[str]:
    return [f"params.`{key}`" for key in keys]
