"""Builds saved views: tables and charts with which MLflow's UI shows a sweep.

The format is that of "Save as new view" in MLflow 3.17: an experiment tag whose state is compressed
JSON. It is not documented; a version without it shows its plain table.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from svhn_sweep.tracking import journal

TAG_PREFIX = "mlflow.sharedViewState."
CONFUSION_MATRIX = "confusion_matrix"  # MLflow's key of the image that each trial logs
BEST_ACCURACY = "val/best_accuracy"
# Metrics of a whole run, by the objective: its value in the run's best epoch, and how far that is
# from the baseline's.
BEST_VALUE_METRICS = {"val/accuracy": BEST_ACCURACY, "val/loss": "val/lowest_loss"}
DELTA_METRICS = {"val/accuracy": "delta_to_baseline", "val/loss": "loss_delta_to_baseline"}
SECONDS = "seconds_per_1000_images"  # that a model takes to predict, on one core
MAX_IMAGES = 10  # of more MLflow leaves out those that come last in the table, here the best
CHART = "&compareRunsMode=CHART"
# Without these MLflow opens its pages, and those of an experiment, in its GenAI mode.
MODE = "workflowType=machine_learning"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
LEADERBOARD = "leaderboard-"
NO_TRIALS = ("sweep", "confirmation", "ensemble")  # roles of runs that are no trials
TRIALS = " and ".join(f"tags.role != '{role}'" for role in NO_TRIALS)
NO_GRID = "tags.role != 'grid'"  # leaves out the run of a grid itself

ViewState = dict[str, object]


@dataclass(frozen=True)
class ViewSpec:
    """What the views of a study show.

    Attributes:
        study: The study's name.
        data_sha256: The digits' SHA-256; trials on the same digits share a leaderboard.
        metric: The objective, by MLflow's key.
        maximize: Whether a higher value is better.
        params: The parameters that the study explores, by MLflow's keys.
        columns: The parameters that any study of the sweep explores.
        values: The value of each trial so far, best first.
    """

    study: str
    data_sha256: str
    metric: str
    maximize: bool
    params: Sequence[str]
    columns: Sequence[str]
    values: Sequence[float] = ()


def views(spec: ViewSpec) -> dict[str, tuple[str, ViewState]]:
    """Returns the name and the state of each view, by its key in the experiment."""
    trials = f"tags.study = '{spec.study}' and {TRIALS}"
    same_digits = f"tags.`data.sha256` = '{spec.data_sha256}' and {TRIALS}"
    digits = spec.data_sha256[:8]
    board = _leaderboard(spec, same_digits)
    # In the key, so that sweeps with an equal leaderboard share it.
    digest = hashlib.sha256(json.dumps(board).encode()).hexdigest()[:8]
    return {
        f"{LEADERBOARD}{digits}-{digest}": (
            f"Leaderboard by {spec.metric}, digits {digits}",
            board,
        ),
        f"charts-{spec.study}": (f"Charts of {spec.study}", _charts(spec, trials)),
        f"size-{spec.study}": (f"Accuracy and size of {spec.study}", _sizes(spec, trials)),
        f"matrices-{spec.study}": (
            f"Confusion matrices of {spec.study}",
            _matrices(spec, trials),
        ),
    }


def single_runs() -> tuple[str, str, ViewState]:
    """Returns the key, the name and the state of a table of the runs that belong to no sweep."""
    columns = [
        "tags.`trial.state`",
        *_metrics(BEST_ACCURACY, "test/accuracy"),
        *_params("model.name", "training.learning_rate", "model.dropout", "seed", "parameters"),
        "tags.`data.source`",
    ]
    runs = f"tags.study IS NULL and {NO_GRID}"
    state = _table(runs, BEST_ACCURACY, columns, ascending=False, name_width=330)
    return f"{LEADERBOARD}single-runs", "Single runs and grids", state


def grid_views(grid: str, params: Sequence[str]) -> dict[str, tuple[str, ViewState]]:
    """Returns the name and the state of each view of a grid, by its key in the experiment.

    In both the runs of each config are a group with their mean: the tag `config` names it.

    Args:
        grid: The runs' tag `grid`.
        params: The parameters that vary, by MLflow's keys.
    """
    columns = [
        *_metrics(BEST_ACCURACY, "val/final_accuracy", "val/best_epoch"),
        "tags.`trial.state`",
        *_params(*params, "seed"),
    ]
    grouped: ViewState = {
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": "config"}],
        },
        "runsHiddenMode": "SHOW_ALL",
    }
    table = _table(f"tags.grid = '{grid}'", BEST_ACCURACY, columns, ascending=False, name_width=330)
    curves = _sections({"Mean of each config": [_line("val/accuracy"), _line("val/loss")]})
    return {
        f"{LEADERBOARD}grid-{grid}": (f"Configs of grid {grid}", table | grouped),
        f"charts-grid-{grid}": (f"Curves of grid {grid}", table | curves | grouped),
    }


def pages(folder: Path, experiment_id: str) -> dict[str, str]:
    """Returns the `page` of each view in a run's journal, by the view's name."""
    return {
        event["name"]: page(event["key"], experiment_id)
        for event, _ in journal.read(folder)
        if event["kind"] == "view"
    }


def page(key: str, experiment_id: str) -> str:
    """Returns the address of a view, relative to the server's."""
    chart = "" if key.startswith(LEADERBOARD) else CHART
    return f"#/experiments/{experiment_id}/runs?{MODE}&viewStateShareKey={key}{chart}"


def encode(name: str, state: str, milliseconds: int) -> str:
    """Returns the value of a view's experiment tag.

    Args:
        name: The view's name.
        state: Its state, as JSON.
        milliseconds: When it was created, since 1970.
    """
    compressed = "deflate;" + base64.b64encode(zlib.compress(state.encode())).decode()
    return json.dumps(
        {"name": name, "createdAt": milliseconds, "updatedAt": milliseconds, "state": compressed}
    )


def _leaderboard(spec: ViewSpec, runs_filter: str) -> ViewState:
    """Returns a table of the runs that match a filter, the best run first."""
    objective = BEST_VALUE_METRICS[spec.metric]
    columns = [
        "tags.`trial.state`",
        *_metrics(objective, DELTA_METRICS[spec.metric]),
        *_params("model.name", *spec.columns),
        *_metrics(BEST_ACCURACY, "val/best_epoch"),  # the epoch of that accuracy
        *_params("parameters", "multiply_adds"),
        *_metrics(SECONDS),
        "tags.`study`",
    ]
    unique = list(dict.fromkeys(columns))
    return _table(runs_filter, objective, unique, ascending=not spec.maximize)


def _table(
    runs_filter: str,
    objective: str,
    columns: Sequence[str],
    *,
    ascending: bool,
    name_width: int = 200,
) -> ViewState:
    """Returns a table of the runs that match a filter, ordered by a metric; widths in pixels."""
    # Wide enough for the whole name: those of several parameters begin alike.
    widths = {column: max(105, 45 + 8 * len(column.split("`")[1])) for column in columns}
    order = (
        {"attributes.`Run Name`": name_width} | widths | {"duration": 80, "runDateAndNestInfo": 130}
    )
    return {
        "searchFilter": runs_filter,
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(order),
        "columnWidths": order,
        "runsHiddenMode": "FIRST_10_RUNS",
    }


def _charts(spec: ViewSpec, runs_filter: str) -> ViewState:
    curves = [_line(metric) for metric in dict.fromkeys((spec.metric, "val/accuracy", "val/loss"))]
    lines = {
        "selectedParams": list(spec.params),
        "selectedMetrics": [BEST_VALUE_METRICS[spec.metric]],
        "showAllRuns": False,
    }
    parallel = _chart("PARALLEL", "Hyperparameters and result", lines)
    return _leaderboard(spec, runs_filter) | _sections(
        {"Learning curves": curves, "Hyperparameters": [parallel]}
    )


def _sizes(spec: ViewSpec, runs_filter: str) -> ViewState:
    """Returns charts of the complete trials' accuracy by size; loss in studies by loss."""
    objective = BEST_VALUE_METRICS[spec.metric]
    charts = [
        _scatter("parameters", "PARAM", objective),
        _scatter("multiply_adds", "PARAM", objective),
        _scatter(SECONDS, "METRIC", objective),
    ]
    complete = f"{runs_filter} and tags.`trial.state` = 'complete'"
    visibility: ViewState = {"runsHiddenMode": "SHOW_ALL"}
    return _leaderboard(spec, complete) | _sections({"Accuracy and size": charts}) | visibility


def _matrices(spec: ViewSpec, runs_filter: str) -> ViewState:
    images = _chart(
        "IMAGE",
        "Confusion matrices",
        {"imageKeys": [CONFUSION_MATRIX], "step": 0, "showRunParams": False},
    )
    section = _sections({"Confusion matrices on validation, the best first": [images]}, height=1200)
    objective = BEST_VALUE_METRICS[spec.metric]
    if len(spec.values) > MAX_IMAGES:
        best = [value for value in spec.values[:MAX_IMAGES] if value != spec.values[MAX_IMAGES]]
        worst = best[-1] if best else spec.values[0]
        bound = f"{'>=' if spec.maximize else '<='} {worst!r}"
        runs_filter += f" and metrics.`{objective}` {bound}"
    others: ViewState = {
        "runListHidden": True,  # the images have names, and need its space
        "orderByAsc": spec.maximize,  # MLflow shows the images in the reverse order
        "runsHiddenMode": "SHOW_ALL",
    }
    return _leaderboard(spec, runs_filter) | section | others


def _sections(charts: Mapping[str, Sequence[ViewState]], height: int = 360) -> ViewState:
    """Returns the page of charts: each section has its charts one below the other.

    Args:
        charts: The charts of each section, by the section's name.
        height: The height of each chart, in pixels.
    """
    shape: ViewState = {"display": True, "isReordered": True, "columns": 1, "cardHeight": height}
    sections = [shape | {"uuid": name, "name": name} for name in charts]
    in_sections = [
        chart
        | {
            "uuid": f"{name} {index}",
            "metricSectionId": name,
            "deleted": False,
            "isGenerated": False,
        }
        for name, section in charts.items()
        for index, chart in enumerate(section)
    ]
    return {
        "compareRunCharts": in_sections,
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }


def _line(metric: str) -> ViewState:
    axes = {
        "scaleType": "linear",
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
    }
    return _chart("LINE", metric, {"metricKey": metric, "lineSmoothness": 0, "range": {}} | axes)


def _scatter(x: str, kind: str, y: str) -> ViewState:
    axes = {"xaxis": {"key": x, "type": kind}, "yaxis": {"key": y, "type": "METRIC"}}
    return _chart("SCATTER", f"{y} by {x}", axes)


def _chart(kind: str, name: str, settings: Mapping[str, object]) -> ViewState:
    return {"type": kind, "displayName": name, "runsCountToCompare": 10, **settings}


def _metrics(*keys: str) -> list[str]:
    return [f"metrics.`{key}`" for key in keys]


def _params(*keys: str) -> list[str]:
    return [f"params.`{key}`" for key in keys]
