"""MLflow's UI as a person sees it who has never seen the project: what the links of a sweep
open, in a real browser.
"""

import re
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from folder import Folder
from mlflow.entities import Run
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
SECONDS = 60  # MLflow's server and a browser on two busy cores take their time

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no browser on this machine: apt-get install chromium"
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # SQLite connections of MLflow
]


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory, plain_environment: dict[str, str], small_h5: Path
) -> Folder:
    """A folder in which a sweep of three trials is over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = Folder(tmp_path_factory.mktemp("seen"), plain_environment | {"MLFLOW_PORT": port})
    data = ("data=svhn", f"data.path={small_h5}", "training.epochs=2", "hydra.sweeper.n_trials=3")
    result = folder.run(
        "-m",
        "optuna",
        "model=model1",
        "model.dropout=0",
        *data,
        "hydra.sweeper.confirm=null",
        "hydra.sweeper.pruner.name=none",
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def links(swept: Folder) -> Iterator[dict[str, str]]:
    """What `ui` prints: addresses by the first word of their names; the server runs."""
    server = swept.start("ui")
    assert server.stdout is not None
    found: dict[str, str] = {}
    for line in server.stdout:
        name, _, address = line.strip().partition(": ")
        found |= {name.split()[0]: address} if address.startswith("http") else {}
        if "All" in found:
            break
    end = time.monotonic() + 2 * SECONDS
    while not _answers(f"http://127.0.0.1:{swept.environment['MLFLOW_PORT']}/health"):
        assert time.monotonic() < end
        time.sleep(0.5)
    yield found
    server.terminate()
    server.communicate()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address).close()
    except OSError:
        return False
    return True


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


def test_the_leaderboard_begins_with_the_winner_and_its_accuracy(
    swept: Folder, links: dict[str, str], page: Page
) -> None:
    page.goto(links["Leaderboard"])
    best = winner(swept)
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


def test_two_clicks_lead_from_the_leaderboard_to_the_winners_confusion_matrix_and_curves(
    swept: Folder, links: dict[str, str], page: Page
) -> None:
    page.goto(links["Leaderboard"])
    page.locator("[row-index='0'] [col-id='attributes.`Run Name`'] a").click()
    page.get_by_text("Show more", exact=True).click()
    run_id = winner(swept).info.run_id
    for path in ("confusion_matrix%2Fvalidation.png", "figures%2Fcurves.png"):
        assert_rendered(page, f"img[src='get-artifact?path={path}&run_uuid={run_id}']", 1)


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


def test_accuracy_is_drawn_against_size_and_time(links: dict[str, str], page: Page) -> None:
    page.goto(links["Accuracy"])
    for name in ("parameters", "multiply_adds"):
        expect(page.get_by_text(f"{name} vs. val/best_accuracy")).to_be_visible()
    points = page.locator(".js-plotly-plot").first.locator(".scatterlayer .trace path.point")
    expect(points).to_have_count(3)


def test_the_confusion_matrices_stand_side_by_side(links: dict[str, str], page: Page) -> None:
    page.goto(links["Confusion"])
    assert_rendered(page, "img[src*='get-artifact'], img[src^='blob:']", 3)


def test_the_studys_page_tells_what_was_found_and_leads_to_its_views(
    swept: Folder, links: dict[str, str], page: Page
) -> None:
    page.goto(run_page(links, parent(swept)))
    page.get_by_text("Show more", exact=True).click()
    expect(page.get_by_text(re.compile("3 of 3"))).to_be_visible()
    assert_rendered(page, "img[src*='history.png']", 1)
    with page.expect_popup() as opened:
        page.get_by_role("link", name=re.compile("^Leaderboard")).click()
    accuracy = opened.value.locator("[row-index='0'] [col-id='metrics.`val/best_accuracy`']")
    expect(accuracy).to_have_text(str(winner(swept).data.metrics["val/best_accuracy"]))


def test_the_report_opens_in_the_artifact_viewer(
    swept: Folder, links: dict[str, str], page: Page
) -> None:
    page.goto(run_page(links, parent(swept)).replace("?", "/artifacts/report.html?"))
    report = page.frame_locator("iframe")
    expect(report.locator("h1")).to_have_text(re.compile("^model1-"))
    expect(report.locator("img").first).to_be_visible()
