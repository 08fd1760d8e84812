"""Tests the content of saved views; tests/sweep/test_finished_sweep.py tests them in a browser."""

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from svhn_sweep.tracking import saved_views, ui_links, upload_state, uploader
from svhn_sweep.tracking.journal import JOURNAL, Journal

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # SQLAlchemy sessions of MLflow's store

SHA256 = "0123456789abcdef" * 4
NO_TRIALS = "tags.role != 'sweep' and tags.role != 'confirmation' and tags.role != 'ensemble'"
PARAMS = ("training.learning_rate", "model.dropout")


def spec(metric: str = "val/accuracy", *, maximize: bool = True) -> saved_views.ViewSpec:
    return saved_views.ViewSpec(
        "model2-abc", SHA256, metric, maximize, PARAMS, (*PARAMS, "model.filters.conv4")
    )


def state(key: str, metric: str = "val/accuracy", *, maximize: bool = True) -> dict[str, object]:
    views = saved_views.views(spec(metric, maximize=maximize))
    return next(state for name, (_, state) in views.items() if name.startswith(key))


@pytest.fixture
def run(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "multirun" / "model2-abc")
    journal.start(name="model2-abc", experiment="svhn", store="", tags={"role": "sweep"})
    return journal


def decoded(tag: str) -> dict[str, object]:
    """As MLflow's UI reads it."""
    value = json.loads(tag)
    assert value["state"].startswith("deflate;")
    state: dict[str, object] = json.loads(
        zlib.decompress(base64.b64decode(value["state"].removeprefix("deflate;")))
    )
    return state


@pytest.mark.parametrize(
    ("metric", "maximize", "order"),
    [
        ("val/accuracy", True, ("metrics.`val/best_accuracy`", False)),
        ("val/loss", False, ("metrics.`val/lowest_loss`", True)),
    ],
)
def test_the_best_comes_first(metric: str, maximize: bool, order: tuple[str, bool]) -> None:
    board = state("leaderboard-01234567", metric, maximize=maximize)
    assert (board["orderByKey"], board["orderByAsc"]) == order


def test_the_leaderboard_has_trials_on_the_same_digits_and_what_differs_between_them() -> None:
    board = state("leaderboard-01234567")
    assert board["searchFilter"] == f"tags.`data.sha256` = '{SHA256}' and {NO_TRIALS}"
    assert board["selectedColumns"] == [
        "tags.`trial.state`",
        "metrics.`val/best_accuracy`",
        "metrics.`delta_to_baseline`",
        "params.`model.name`",
        "params.`training.learning_rate`",
        "params.`model.dropout`",
        "params.`model.filters.conv4`",
        "metrics.`val/best_epoch`",
        "params.`parameters`",
        "params.`multiply_adds`",
        "metrics.`seconds_per_1000_images`",
        "tags.`study`",
    ]


def test_by_loss_the_delta_is_that_of_the_loss_and_the_best_epoch_follows_its_accuracy() -> None:
    columns = state("leaderboard-01234567", "val/loss", maximize=False)["selectedColumns"]
    assert isinstance(columns, list)
    assert columns[1:3] == ["metrics.`val/lowest_loss`", "metrics.`loss_delta_to_baseline`"]
    assert columns[-6:-4] == [
        "metrics.`val/best_accuracy`",
        "metrics.`val/best_epoch`",
    ]


def test_sweeps_with_an_equal_leaderboard_share_it() -> None:
    boards = [
        next(iter(saved_views.views(view_spec)))
        for view_spec in (spec(), spec(), spec("val/loss", maximize=False))
    ]
    assert boards[0] == boards[1]
    assert boards[0] != boards[2]


@pytest.mark.parametrize("key", ["charts-model2-abc", "matrices-model2-abc"])
def test_charts_show_one_study_and_each_is_in_a_section(key: str) -> None:
    charts = state(key)
    assert charts["searchFilter"] == f"tags.study = 'model2-abc' and {NO_TRIALS}"
    plots = charts["compareRunCharts"]
    sections = charts["compareRunSections"]
    assert isinstance(plots, list)
    assert isinstance(sections, list)
    assert len({plot["uuid"] for plot in plots}) == len(plots)
    assert {plot["metricSectionId"] for plot in plots} == {section["uuid"] for section in sections}


@pytest.mark.parametrize(
    ("metric", "maximize", "values", "bound"),
    [
        ("val/accuracy", True, [0.9] * 10, ""),
        ("val/accuracy", True, [0.9] * 9 + [0.8, 0.7], " and metrics.`val/best_accuracy` >= 0.8"),
        ("val/accuracy", True, [0.9] * 9 + [0.8, 0.8], " and metrics.`val/best_accuracy` >= 0.9"),
        ("val/accuracy", True, [0.9] * 11, " and metrics.`val/best_accuracy` >= 0.9"),
        ("val/loss", False, [0.1] * 9 + [0.2, 0.3], " and metrics.`val/lowest_loss` <= 0.2"),
    ],
)
def test_the_matrices_are_at_most_ten_and_begin_with_the_winner_which_mlflow_shows_last(
    metric: str, maximize: bool, values: list[float], bound: str
) -> None:
    spec_of_values = replace(spec(metric, maximize=maximize), values=values)
    _, matrices = saved_views.views(spec_of_values)["matrices-model2-abc"]
    assert str(matrices["searchFilter"]) == f"tags.study = 'model2-abc' and {NO_TRIALS}{bound}"
    assert (matrices["orderByAsc"], matrices["runsHiddenMode"]) == (maximize, "SHOW_ALL")


def test_charts_are_learning_curves_and_parallel_coordinates() -> None:
    charts = state("charts-model2-abc", "val/loss", maximize=False)["compareRunCharts"]
    assert isinstance(charts, list)
    curves = [chart["metricKey"] for chart in charts if chart["type"] == "LINE"]
    (parallel,) = [chart for chart in charts if chart["type"] == "PARALLEL"]
    assert curves == ["val/loss", "val/accuracy"]
    assert (parallel["selectedParams"], parallel["selectedMetrics"]) == (
        list(PARAMS),
        ["val/lowest_loss"],
    )


@pytest.mark.parametrize(
    ("metric", "objective"),
    [("val/accuracy", "val/best_accuracy"), ("val/loss", "val/lowest_loss")],
)
def test_sizes_are_scatter_charts_of_the_complete_trials(metric: str, objective: str) -> None:
    sizes = state("size-model2-abc", metric, maximize=metric == "val/accuracy")
    assert str(sizes["searchFilter"]).endswith(" and tags.`trial.state` = 'complete'")
    assert sizes["runsHiddenMode"] == "SHOW_ALL"
    charts = sizes["compareRunCharts"]
    assert isinstance(charts, list)
    assert [(chart["type"], chart["xaxis"]["key"], chart["yaxis"]["key"]) for chart in charts] == [
        ("SCATTER", "parameters", objective),
        ("SCATTER", "multiply_adds", objective),
        ("SCATTER", "seconds_per_1000_images", objective),
    ]


def test_mlflow_gets_a_view_unchanged_and_below_its_size_limit(
    client: MlflowClient, run: Journal
) -> None:
    with run:
        for key, (name, state) in saved_views.views(spec()).items():
            run.set_view(key, name, json.dumps(state))
    sent = uploader.send(run.folder)
    tags = client.get_experiment(sent["experiment_id"]).tags
    for key, (name, state) in saved_views.views(spec()).items():
        tag = tags[f"mlflow.sharedViewState.{key}"]
        assert decoded(tag) == state
        assert json.loads(tag)["name"] == name
        assert len(tag) < 20_000  # MLflow's limit


def test_a_view_is_written_only_when_it_changes(run: Journal) -> None:
    with run:
        for text in ("{}", "{}", '{"a": 1}', '{"a": 1}'):
            run.set_view("key", "name", text)
    assert (run.folder / JOURNAL).read_text().count('"kind": "view"') == 2


def test_a_study_has_pages_once_it_is_uploaded(
    client: MlflowClient, run: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run:
        for key, (name, state) in saved_views.views(spec()).items():
            run.set_view(key, name, json.dumps(state))
    assert ui_links.pages(run.folder) == {}
    sent = uploader.send(run.folder)
    runs = f"#/experiments/{sent['experiment_id']}/runs"
    page = f"{runs}?workflowType=machine_learning&viewStateShareKey="
    leaderboard = next(iter(saved_views.views(spec())))
    assert ui_links.pages(run.folder) == {
        "Leaderboard by val/accuracy, digits 01234567": page + leaderboard,
        "Charts of model2-abc": f"{page}charts-model2-abc&compareRunsMode=CHART",
        "Accuracy and size of model2-abc": f"{page}size-model2-abc&compareRunsMode=CHART",
        "Confusion matrices of model2-abc": f"{page}matrices-model2-abc&compareRunsMode=CHART",
        "Study model2-abc": f"{runs}/{sent['run_id']}?workflowType=machine_learning",
    }
    assert set(ui_links.addresses([run.folder]).values()) == {
        f"http://127.0.0.1:5000/{page}" for page in ui_links.pages(run.folder).values()
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@host:81/")
    upload_state.save(run.folder, sent)
    assert all(
        address.startswith("http://host:81/#/")
        for address in ui_links.addresses([run.folder]).values()
    )


def test_an_image_is_uploaded_once_though_the_journal_is_sent_twice(
    client: MlflowClient, run: Journal
) -> None:
    with run:
        Image.new("L", (8, 8)).save(run.folder / "matrix.png")
        for _ in range(2):
            run.log_image("matrix.png", saved_views.CONFUSION_MATRIX)
    for _ in range(2):
        sent = uploader.send(run.folder)
        (run.folder / upload_state.FILE_NAME).unlink()
    images = [entry.path for entry in client.list_artifacts(sent["run_id"], "images")]
    assert sorted(path.endswith("webp") for path in images) == [
        False,
        True,
    ]  # and MLflow's own smaller copy
    assert client.get_run(sent["run_id"]).data.tags["mlflow.loggedImages"] == "True"
