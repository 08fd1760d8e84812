"""Saved views: what MLflow's UI is told to show; that it does, tests/test_browser.py sees in a
browser.
"""

import base64
import json
import zlib
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
NO_TRIALS = "tags.role != 'sweep' and tags.role != 'confirmation'"
PARAMS = ("training.learning_rate", "model.dropout")


def about(metric: str = "val/accuracy", *, maximize: bool = True) -> saved_views.About:
    return saved_views.About(
        "model2-abc", SHA256, metric, maximize, PARAMS, (*PARAMS, "model.filters.conv4")
    )


def state(key: str, metric: str = "val/accuracy", *, maximize: bool = True) -> dict[str, object]:
    found = saved_views.views(about(metric, maximize=maximize))
    return next(state for each, (_, state) in found.items() if each.startswith(key))


@pytest.fixture
def run(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "multirun" / "model2-abc")
    journal.start(name="model2-abc", experiment="svhn", store="", tags={"role": "sweep"})
    return journal


def decoded(tag: str) -> dict[str, object]:
    """As MLflow's UI reads it."""
    value = json.loads(tag)
    assert value["state"].startswith("deflate;")
    found: dict[str, object] = json.loads(
        zlib.decompress(base64.b64decode(value["state"].removeprefix("deflate;")))
    )
    return found


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


def test_the_leaderboard_is_of_trials_on_the_same_digits_with_what_tells_them_apart() -> None:
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
        "tags.`study`",
    ]


def test_by_loss_the_distance_is_that_of_the_loss_and_the_epoch_stands_beside_its_accuracy() -> (
    None
):
    columns = state("leaderboard-01234567", "val/loss", maximize=False)["selectedColumns"]
    assert isinstance(columns, list)
    assert columns[1:3] == ["metrics.`val/lowest_loss`", "metrics.`loss_delta_to_baseline`"]
    assert columns[-3:] == [
        "metrics.`val/best_accuracy`",
        "metrics.`val/best_epoch`",
        "tags.`study`",
    ]


def test_sweeps_that_show_the_same_share_a_leaderboard_and_others_have_their_own() -> None:
    boards = [
        next(iter(saved_views.views(each)))
        for each in (about(), about(), about("val/loss", maximize=False))
    ]
    assert boards[0] == boards[1]
    assert boards[0] != boards[2]


@pytest.mark.parametrize("key", ["charts-model2-abc", "matrices-model2-abc"])
def test_charts_are_of_one_study_and_each_lies_in_a_section(key: str) -> None:
    charts = state(key)
    assert charts["searchFilter"] == f"tags.study = 'model2-abc' and {NO_TRIALS}"
    drawn, sections = charts["compareRunCharts"], charts["compareRunSections"]
    assert isinstance(drawn, list)
    assert isinstance(sections, list)
    assert len({chart["uuid"] for chart in drawn}) == len(drawn)
    assert {chart["metricSectionId"] for chart in drawn} == {
        section["uuid"] for section in sections
    }


def test_what_is_drawn() -> None:
    drawn = state("charts-model2-abc", "val/loss", maximize=False)["compareRunCharts"]
    assert isinstance(drawn, list)
    curves = [chart["metricKey"] for chart in drawn if chart["type"] == "LINE"]
    (parallel,) = [chart for chart in drawn if chart["type"] == "PARALLEL"]
    assert curves == ["val/loss", "val/accuracy"]
    assert (parallel["selectedParams"], parallel["selectedMetrics"]) == (
        list(PARAMS),
        ["val/lowest_loss"],
    )


def test_a_view_arrives_in_mlflow_as_it_is_and_small_enough(
    client: MlflowClient, run: Journal
) -> None:
    with run:
        for key, (name, wanted) in saved_views.views(about()).items():
            run.view(key, name, json.dumps(wanted))
    sent = uploader.send(run.folder)
    tags = client.get_experiment(sent["experiment_id"]).tags
    for key, (name, wanted) in saved_views.views(about()).items():
        tag = tags[f"mlflow.sharedViewState.{key}"]
        assert decoded(tag) == wanted
        assert json.loads(tag)["name"] == name
        assert len(tag) < 20_000  # MLflow's limit


def test_a_view_is_written_when_it_changes(run: Journal) -> None:
    with run:
        for text in ("{}", "{}", '{"a": 1}', '{"a": 1}'):
            run.view("key", "name", text)
    assert (run.folder / JOURNAL).read_text().count('"kind": "view"') == 2


def test_the_pages_of_a_study_are_known_once_mlflow_has_it(
    client: MlflowClient, run: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run:
        for key, (name, wanted) in saved_views.views(about()).items():
            run.view(key, name, json.dumps(wanted))
    assert ui_links.pages(run.folder) == {}
    sent = uploader.send(run.folder)
    runs = f"#/experiments/{sent['experiment_id']}/runs"
    page = f"{runs}?workflowType=machine_learning&viewStateShareKey="
    leaderboard = next(iter(saved_views.views(about())))
    assert ui_links.pages(run.folder) == {
        "Leaderboard by val/accuracy, digits 01234567": page + leaderboard,
        "Charts of model2-abc": f"{page}charts-model2-abc&compareRunsMode=CHART",
        "Confusion matrices of model2-abc": f"{page}matrices-model2-abc&compareRunsMode=CHART",
        "Study model2-abc": f"{runs}/{sent['run_id']}?workflowType=machine_learning",
    }
    assert set(ui_links.addresses([run.folder]).values()) == {
        f"http://127.0.0.1:5000/{each}" for each in ui_links.pages(run.folder).values()
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@host:81/")
    upload_state.save(run.folder, sent)
    assert all(
        each.startswith("http://host:81/#/") for each in ui_links.addresses([run.folder]).values()
    )


def test_an_image_is_sent_once_though_it_is_sent_again(client: MlflowClient, run: Journal) -> None:
    with run:
        Image.new("L", (8, 8)).save(run.folder / "matrix.png")
        for _ in range(2):
            run.image("matrix.png", saved_views.MATRIX)
    for _ in range(2):
        sent = uploader.send(run.folder)
        (run.folder / upload_state.SENT).unlink()
    images = [entry.path for entry in client.list_artifacts(sent["run_id"], "images")]
    assert sorted(path.endswith("webp") for path in images) == [
        False,
        True,
    ]  # and MLflow's own smaller copy
    assert client.get_run(sent["run_id"]).data.tags["mlflow.loggedImages"] == "True"
