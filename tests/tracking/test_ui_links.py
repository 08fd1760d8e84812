"""Tests which runs `python -m svhn_sweep ui` links."""

import time
from pathlib import Path

import pytest

from svhn_sweep.tracking import tracking_uri, ui_links, upload_state
from svhn_sweep.tracking.journal import Journal

SERVER = "http://127.0.0.1:5000"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def record(path: str, role: str, view: str, *, uploaded: bool = True, parent: str = "") -> None:
    """Records a run that is named after its folder and has a saved view."""
    folder = Path(path)
    time.sleep(0.002)  # a journal's clock counts milliseconds
    with Journal(folder) as journal:
        start = {"experiment": role, "store": tracking_uri.address(), "parent": parent}
        journal.start(name=folder.name, tags={"role": role}, **start)
        journal.set_view(view, f"View {view}", "{}")
    if uploaded:
        upload_state.save(folder, {"run_id": folder.name, "experiment_id": role, "position": 1})


def linked() -> list[str]:
    return list(ui_links.newest_addresses(SERVER))


def test_without_runs_nothing_is_linked() -> None:
    assert linked() == []


def test_the_newest_sweep_grid_and_single_run_are_linked_with_their_views() -> None:
    record("multirun/old", "sweep", "old-board")
    record("multirun/study", "sweep", "board")
    record("multirun/study/trial-0", "baseline", "no-view", parent="..")
    Path("multirun/.newest").write_text("study\n")
    for number in (2, 1):  # the newest is not the last one in alphabetical order
        record(f"multirun/day/grid {number}", "grid", f"grid-{number}")
        record(f"multirun/day/grid {number}/0", "trial", "single", parent="..")
        record(f"outputs/run {number}", "baseline", f"single-{number}")
    assert linked() == [
        "View board",
        "Study study",
        "View grid-1",
        "Run grid 1",
        "View single-1",
        "Run run 1",
    ]


def test_a_run_that_is_not_uploaded_is_not_linked() -> None:
    record("outputs/older", "trial", "view")
    record("outputs/newer", "trial", "newer-view", uploaded=False)
    assert linked() == ["View view", "Run older"]


def test_a_link_leads_to_the_experiment_of_the_run() -> None:
    record("multirun/study", "sweep", "board")
    Path("multirun/.newest").write_text("study\n")
    record("outputs/run", "trial", "single")
    links = ui_links.newest_addresses(SERVER)
    assert links["View board"].startswith(f"{SERVER}/#/experiments/sweep/runs?")
    assert links["View single"].startswith(f"{SERVER}/#/experiments/trial/runs?")
    assert links["Run run"].startswith(f"{SERVER}/#/experiments/trial/runs/run?")
