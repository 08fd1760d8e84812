"""docs/svhn_sweep.ipynb, run as Jupyter runs it."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parent.parent / "docs" / "svhn_sweep.ipynb"
SMALLER = {
    "train_size=5000": "train_size=300",
    "test_size=1000": "test_size=100",
    "epochs=3": "epochs=1",
    "n_trials=4": "n_trials=2 hydra.sweeper.workers=1 hydra.sweeper.ensemble=null",
    "confirm.seeds=3": "confirm.seeds=2",
}


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode, kind: str) -> list[str]:
    """Returns what the cells show of one MIME type, or write to `stdout`."""
    shown = [output for cell in code_cells(notebook) for output in cell.outputs]
    if kind == "stdout":
        return [output.text for output in shown if output.get("name") == kind]
    return [output.data[kind] for output in shown if kind in output.get("data", ())]


def test_the_notebook_is_committed_without_outputs() -> None:
    for cell in code_cells(nbformat.read(NOTEBOOK, as_version=4)):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_cell_runs_in_a_new_folder(tmp_path: Path, plain_environment: dict[str, str]) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        for usual, small in SMALLER.items():
            cell.source = cell.source.replace(usual, small)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=plain_environment)

    assert [path.name for path in tmp_path.iterdir()] == ["notebook_runs"]
    printed = "".join(outputs(notebook, "stdout"))
    assert "registered as svhn-digits-synthetic" in printed.lower()
    commands = [cell for cell in code_cells(notebook) if "\n!" in f"\n{cell.source}"]
    assert len(commands) >= 2
    for output in (output for cell in commands for output in cell.outputs):
        assert "\x1b" not in output.text  # no table that redraws itself
    leaderboard, report = outputs(notebook, "text/html")
    assert leaderboard.count("model2 · ") == 2
    assert "srcdoc=" in report
    # of the run, of the study (perhaps the confusion difference too), of the champion
    assert len(outputs(notebook, "image/png")) in (4, 5)
