"""A grid that is killed in the middle and continued, and what MLflow has then."""

import time
from pathlib import Path

import pytest
from folder import Folder
from mlflow.entities import Run

from svhn_sweep.tracking.journal import JOURNAL, history
from svhn_sweep.trial_end import CHECKPOINT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # MLflow's SQLite connections
]

# The runs 0 and 1 are equal: 0 is trained at once, 1 is killed and continued.
GRID = ("-m", "seed=1,1", "model=model2", "model.filters.conv1=2", "training.epochs=20")
WHOLE, KILLED = 0, 1


def wait_for(path: Path, text: str, folder: Folder) -> None:
    end = time.monotonic() + 240
    while not (path.exists() and text in path.read_text()):
        process = folder.started[0]
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def continued(
    tmp_path_factory: pytest.TempPathFactory, plain_environment: dict[str, str], small_h5: Path
) -> tuple[Folder, Path, bytes, str]:
    """A folder with a continued grid; the grid's folder, a run's journal before, and stdout."""
    folder = Folder(tmp_path_factory.mktemp("grid"), plain_environment)
    command = (*GRID, "data=svhn", f"data.path={small_h5}", "tracking.log_model=false")
    process = folder.start(*command, "hydra.sweep.dir=grid")
    grid = folder.path / "grid"
    wait_for(grid / str(KILLED) / JOURNAL, '"step": 2}', folder)
    process.kill()
    process.communicate()
    assert max(history(grid / str(KILLED))) < 20  # in the middle
    before = (grid / str(WHOLE) / JOURNAL).read_bytes()
    result = folder.run(*command, "hydra.sweep.dir=grid")
    assert result.returncode == 0, result.stderr
    return folder, grid, before, result.stdout


def runs(folder: Folder) -> tuple[Run, list[Run]]:
    """The grid's own run, and its runs by their start."""
    (parent,) = [run for run in folder.runs() if run.data.tags["role"] == "grid"]
    others = [run for run in folder.runs() if run.data.tags["role"] != "grid"]
    return parent, sorted(others, key=lambda run: run.info.start_time)


def test_a_killed_run_continues_with_equal_results_and_a_finished_one_is_left_alone(
    continued: tuple[Folder, Path, bytes, str],
) -> None:
    folder, grid, before, stdout = continued
    assert "grid · 1 config x 1 seed: continues in grid, 1 of 2 runs are left" in stdout
    assert (grid / str(WHOLE) / JOURNAL).read_bytes() == before
    killed, whole = (history(grid / str(number)) for number in (KILLED, WHOLE))
    for epochs in (killed, whole):
        for metrics in epochs.values():
            metrics.pop("epoch_seconds", None)
    assert killed == whole
    assert list(whole) == [*range(1, 21), 0]
    _, others = runs(folder)
    assert len(others) == 2  # the killed one continued in its own run
    assert {run.info.status for run in others} == {"FINISHED"}
    assert not list(grid.rglob(CHECKPOINT))


def test_mlflow_has_the_grid_with_its_runs_table_figure_and_views(
    continued: tuple[Folder, Path, bytes, str],
) -> None:
    folder, _, _, stdout = continued
    parent, others = runs(folder)
    assert parent.info.run_name == "grid · 1 config x 1 seed"
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in others} == {parent.info.run_id}
    assert {run.data.tags["config"] for run in others} == {"model2"}
    assert folder.artifacts(parent) == {
        "command.txt",
        "grid.csv",
        "grid.md",
        "learning_curves.png",
    }
    description = parent.data.tags["mlflow.note.content"]
    assert "| model2 | 1 | " in description
    assert f"path=learning_curves.png&run_uuid={parent.info.run_id}" in description
    (key,) = {run.data.tags["grid"] for run in others}
    tags = folder.client.get_experiment(parent.info.experiment_id).tags
    views = {f"mlflow.sharedViewState.{view}-{key}" for view in ("leaderboard-grid", "charts-grid")}
    assert views <= tags.keys()
    assert f"viewStateShareKey=leaderboard-grid-{key}" in stdout
