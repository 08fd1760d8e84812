"""A finished sweep: its runs, its registered champion, MLflow's UI in a browser, the same command.

The browser opens the links as a person would who has never seen the project.
"""

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from folder import Folder
from mlflow.entities import Run
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sweeps import assert_runs_match_trials, runs_of, small, study_names

CHROMIUM = shutil.which("chromium")
SECONDS = 60  # MLflow's server and a browser on two busy cores take their time
SWEEP = ("training.epochs=3", "hydra.sweeper.n_trials=3", "hydra.sweeper.confirm.seeds=2")
# One process of TensorFlow: tests/sweep/test_chaos.py has two workers.
ALONE = ("hydra.sweeper.workers=1", "training.threads=1")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning"
    ),  # SQLite connections of MLflow and Optuna
]
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser on this machine: apt-get install chromium"
)


def command(digits: Path) -> tuple[str, ...]:
    return small("data=svhn", f"data.path={digits}", *SWEEP, *ALONE)


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory, plain_environment: dict[str, str], small_h5: Path
) -> tuple[Folder, str, str]:
    """A folder with a finished sweep, its study's name, and its stdout.

    The driver leaves a file if it imports TensorFlow.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    own = {"MLFLOW_PORT": port}
    folder = Folder(tmp_path_factory.mktemp("a sweep"), plain_environment | own)
    environment = folder.python_begins_with(
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tensorflow':\n"
        "            open('tensorflow-in-driver', 'w').close()\n"
        "if 'svhn_sweep.sweep.workers.worker_main' not in sys.orig_argv:\n"
        "    sys.meta_path.insert(0, Finder())\n"
    )
    result = folder.run(*command(small_h5), **environment)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    (study,) = [name for name in study_names(folder) if "confirm" not in name]
    return folder, study, result.stdout


def test_every_trial_is_a_nested_run(swept: tuple[Folder, str, str]) -> None:
    folder, study, _ = swept
    assert_runs_match_trials(folder, study, 3)
    (study_run,) = [run for run in folder.runs() if run.data.tags["role"] == "sweep"]
    assert study_run.info.status == "FINISHED"
    children = [run for run in folder.runs() if run.info.run_id != study_run.info.run_id]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {study_run.info.run_id}
    assert runs_of(folder, study)[0].info.run_name == "model1 · baseline"
    assert 0 < runs_of(folder, study)[0].data.metrics["seconds_per_1000_images"] < 60
    for number, run in runs_of(folder, study).items():
        assert run.data.tags["role"] == ("trial" if number else "baseline")
        assert {
            "config.yaml",
            "command.txt",
            "figures/curves.png",
            "confusion_matrix/validation.png",
        } <= (folder.artifacts(run))
        assert "delta_to_baseline" in run.data.metrics
        assert not any(key.startswith("test/") for key in run.data.metrics)
    assert not list(folder.path.rglob("checkpoint.npz"))


def test_the_study_run_has_the_leaderboard(swept: tuple[Folder, str, str]) -> None:
    folder, study, _ = swept
    (study_run,) = [run for run in folder.runs() if run.data.tags["role"] == "sweep"]
    description = study_run.data.tags["mlflow.note.content"]
    assert "**3 of 3** trials" in description
    assert "| **baseline** |" in description
    assert "python -m svhn_sweep -m optuna" in description
    figures = {
        f"{name}.png"
        for name in ("history", "importances", "learning_curves", "parallel_coordinates", "slices")
    }
    assert figures | {"leaderboard.csv", "leaderboard.md", "report.html"} <= folder.artifacts(
        study_run
    )
    page = (folder.path / "multirun" / study / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)


def test_the_driver_does_not_import_tensorflow(swept: tuple[Folder, str, str]) -> None:
    folder, _, _ = swept
    assert not (folder.path / "tensorflow-in-driver").exists()


def test_the_champion_is_evaluated_on_test_and_registered(swept: tuple[Folder, str, str]) -> None:
    folder, study, stdout = swept
    (version,) = folder.client.search_model_versions("name='svhn-digits'")
    assert (
        folder.client.get_model_version_by_alias("svhn-digits", "champion").version
        == version.version
    )
    assert version.tags["study"] == study
    evaluations = optuna.load_study(
        study_name=study, storage=f"sqlite:///{folder.path}/optuna.db"
    ).user_attrs["test"]
    (accuracies,) = evaluations.values()
    assert all(0 <= value <= 1 for values in accuracies.values() for value in values)
    assert "On test, evaluated once" in stdout
    assert f"with the weights of seed {version.tags['seed']}" in stdout


def test_whether_an_ensemble_does_better_is_one_sentence_and_a_run_if_it_does(
    swept: tuple[Folder, str, str],
) -> None:
    """Whether it does depends on the processor's rounding: test_ensemble.py has the run itself."""
    folder, study, stdout = swept
    runs = [run for run in folder.runs() if run.data.tags["role"] == "ensemble"]
    (sentence,) = [line for line in stdout.splitlines() if re.search("(An|No) ensemble of", line)]
    page = (folder.path / "multirun" / study / "report.html").read_text()
    is_better = "No ensemble of the trials" not in sentence
    assert len(runs) == is_better
    assert ("An ensemble of trials " if is_better else "No ensemble of the trials") in page


# in a browser


@pytest.fixture(scope="module")
def links(swept: tuple[Folder, str, str]) -> Iterator[dict[str, str]]:
    """What `ui` prints: addresses by the first word of their names; the server answers."""
    folder, _, _ = swept
    server = folder.start("ui")
    assert server.stdout is not None
    addresses: dict[str, str] = {}
    for line in server.stdout:
        name, _, address = line.strip().partition(": ")
        addresses |= {name.split()[0]: address} if address.startswith("http") else {}
        if "All" in addresses:
            break
    yield addresses
    server.terminate()
    server.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window of somebody who has never been here."""
    with browser.new_context(viewport={"width": 1600, "height": 1000}) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * SECONDS)
        expect.set_options(timeout=1000 * SECONDS)
        yield page


def winner(folder: Folder) -> Run:
    trials = [run for run in folder.runs() if run.data.tags["role"] in ("trial", "baseline")]
    return max(trials, key=lambda run: run.data.metrics["val/best_accuracy"])


def parent(folder: Folder) -> Run:
    (found,) = [run for run in folder.runs() if run.data.tags["role"] == "sweep"]
    return found


def run_page(links: dict[str, str], run: Run) -> str:
    experiments, _, mode = links["All"].partition("?")
    return f"{experiments}/{run.info.experiment_id}/runs/{run.info.run_id}?{mode}"


def assert_rendered(page: Page, images: str, count: int) -> None:
    """So many images are there, and each one has pixels."""
    expect(page.locator(images)).to_have_count(count)
    for place in range(count):
        image = page.locator(images).nth(place)
        image.scroll_into_view_if_needed()
        page.wait_for_function("image => image.naturalWidth > 0", arg=image.element_handle())


@in_browser
def test_the_leaderboard_begins_with_the_winner_and_its_accuracy(
    swept: tuple[Folder, str, str], links: dict[str, str], page: Page
) -> None:
    page.goto(links["Leaderboard"])
    best = winner(swept[0])
    name = page.locator("[row-index='0'] [col-id='attributes.`Run Name`'] a")
    failed = page.get_by_role(
        "heading", name="Something went wrong"
    )  # MLflow's page, of a server that is just starting
    expect(name.or_(failed).first).to_be_visible()
    if failed.is_visible():
        page.reload()
    accuracy = page.locator("[row-index='0'] [col-id='metrics.`val/best_accuracy`']")
    state = page.locator("[row-index='0'] [col-id='tags.`trial.state`']")
    expect(name).to_have_text(str(best.info.run_name))
    expect(accuracy).to_have_text(str(best.data.metrics["val/best_accuracy"]))
    expect(accuracy).to_be_in_viewport()
    expect(state).to_have_text("complete")
    expect(state).to_be_in_viewport()
    expect(page.locator("[col-id='attributes.`Run Name`'] a")).to_have_count(3)


@in_browser
def test_two_clicks_lead_from_the_leaderboard_to_the_winners_confusion_matrix_and_curves(
    swept: tuple[Folder, str, str], links: dict[str, str], page: Page
) -> None:
    page.goto(links["Leaderboard"])
    page.locator("[row-index='0'] [col-id='attributes.`Run Name`'] a").click()
    page.get_by_text("Show more", exact=True).click()
    run_id = winner(swept[0]).info.run_id
    for path in ("confusion_matrix%2Fvalidation.png", "figures%2Fcurves.png"):
        assert_rendered(page, f"img[src='get-artifact?path={path}&run_uuid={run_id}']", 1)


@in_browser
def test_the_charts_are_curves_and_parallel_coordinates(links: dict[str, str], page: Page) -> None:
    page.goto(links["Charts"])
    for name in ("val/accuracy", "val/loss"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.locator(".js-plotly-plot .scatterlayer .trace").first).to_be_attached()
    page.get_by_text(
        "Hyperparameters"
    ).first.scroll_into_view_if_needed()  # what is out of view is not drawn
    axes = page.locator(".parcoords svg")
    expect(axes).to_be_visible()
    for name in ("learning_rate", "conv1", "best_accuracy"):
        expect(axes).to_contain_text(name)


@in_browser
def test_accuracy_is_drawn_against_size_and_time(links: dict[str, str], page: Page) -> None:
    page.goto(links["Accuracy"])
    for name in ("parameters", "multiply_adds"):
        expect(page.get_by_text(f"{name} vs. val/best_accuracy")).to_be_visible()
    points = page.locator(".js-plotly-plot").first.locator(".scatterlayer .trace path.point")
    expect(points).to_have_count(3)


@in_browser
def test_the_confusion_matrices_stand_side_by_side(links: dict[str, str], page: Page) -> None:
    page.goto(links["Confusion"])
    assert_rendered(page, "img[src*='get-artifact'], img[src^='blob:']", 3)


@in_browser
def test_the_studys_page_tells_what_was_found_and_leads_to_its_views(
    swept: tuple[Folder, str, str], links: dict[str, str], page: Page
) -> None:
    page.goto(run_page(links, parent(swept[0])))
    page.get_by_text("Show more", exact=True).click()
    expect(page.get_by_text(re.compile("3 of 3"))).to_be_visible()
    assert_rendered(page, "img[src*='history.png']", 1)
    with page.expect_popup() as opened:
        page.get_by_role("link", name=re.compile("^Leaderboard")).click()
    accuracy = opened.value.locator("[row-index='0'] [col-id='metrics.`val/best_accuracy`']")
    expect(accuracy).to_have_text(str(winner(swept[0]).data.metrics["val/best_accuracy"]))


@in_browser
def test_the_report_opens_in_the_artifact_viewer(
    swept: tuple[Folder, str, str], links: dict[str, str], page: Page
) -> None:
    page.goto(run_page(links, parent(swept[0])).replace("?", "/artifacts/report.html?"))
    report = page.frame_locator("iframe")
    expect(report.locator("h1")).to_have_text(re.compile("^model1-"))
    expect(report.locator("img").first).to_be_visible()


# the same command again


def test_the_same_command_trains_nothing_again(
    swept: tuple[Folder, str, str], small_h5: Path
) -> None:
    folder, study, _ = swept
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("trial-*/*")}
    removed = folder.path / "multirun" / study / "trial-0002"  # by the user, to free disk space
    shutil.rmtree(removed)
    again = folder.run(*command(small_h5))
    assert again.returncode == 0, again.stderr
    assert_runs_match_trials(folder, study, 3)
    untouched = {path for path in before if path.name != "mlflow.lock" and path.exists()}
    assert not removed.exists()
    assert {path: path.stat().st_mtime_ns for path in untouched} == {
        path: before[path] for path in untouched
    }
    assert len(folder.client.search_model_versions("name='svhn-digits'")) == 1
    attributes = optuna.load_study(
        study_name=study, storage=f"sqlite:///{folder.path}/optuna.db"
    ).user_attrs
    assert len(attributes["ensembles"]) == len(attributes["test"]) == 1


def test_a_champion_whose_run_was_deleted_is_not_registered(
    swept: tuple[Folder, str, str], small_h5: Path
) -> None:
    folder, _, _ = swept
    (version,) = folder.client.search_model_versions("name='svhn-digits'")
    folder.client.delete_run(version.run_id)
    try:
        again = folder.run(*command(small_h5))
    finally:
        folder.client.restore_run(version.run_id)
    assert again.returncode == 0, again.stderr
    assert not again.stderr
    assert "The model svhn-digits is not registered: the run of " in again.stdout
