"""docs/svhn_sweep.ipynb, run as Jupyter runs it."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parent.parent / "docs" / "svhn_sweep.ipynb"


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode, kind: str) -> list[str]:
    """Returns the outputs of one MIME type; those of commands are `text/plain` streams."""
    return [
        output.text if output.output_type == "stream" else output.data[kind]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "stream" and kind == "text/plain" or kind in output.get("data", ())
    ]


def test_the_notebook_is_committed_without_outputs() -> None:
    for cell in code_cells(nbformat.read(NOTEBOOK, as_version=4)):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.slow
@pytest.mark.timeout(600)  # of other people's processors; alone it takes one or two minutes
def test_the_notebook_runs_in_a_new_folder(
    tmp_path: Path, plain_environment: dict[str, str]
) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=plain_environment)
    assert [path.name for path in tmp_path.iterdir()] == ["notebook_runs"]
    shown = "".join(outputs(notebook, "text/plain"))
    assert "registered as svhn-digits-synthetic" in shown.lower()
    assert "\x1b" not in shown  # no table that redraws itself
    (table,) = outputs(notebook, "text/html")[:1]
    assert table.count("model2 · ") == 4
    assert len(outputs(notebook, "image/png")) == 5
    assert "srcdoc" in outputs(notebook, "text/html")[-1]
