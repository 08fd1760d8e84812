"""Tests run descriptions in MLflow: commands can be copied, pictures are the run's own."""

import shlex
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svhn_sweep.tracking import markdown, uploader
from svhn_sweep.tracking.journal import JOURNAL, Journal

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # SQLAlchemy sessions of MLflow's store

LONG = shlex.join(
    ["python", "-m", "svhn_sweep", *[f"model.filters.conv{n}=interval(16, {n})" for n in range(30)]]
)


@pytest.mark.parametrize(
    "command", ["python -m svhn_sweep model=model2", "echo 'a  b' \"$HOME\" '' \\\\", LONG]
)
def test_a_copied_command_has_the_same_arguments(command: str) -> None:
    fence, *lines, end = markdown.code(shlex.join(shlex.split(command))).splitlines()
    assert (fence, end) == ("```", "```")
    program = "import sys; print(sys.argv[1:])"
    shell = " ".join(["python3", "-c", shlex.quote(program), *"\n".join(lines).split(" ", 1)[1:]])
    copied = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert copied == str(shlex.split(command)[1:])
    assert all(len(line) <= markdown.WIDTH + 40 for line in lines)


def test_pictures_are_artifacts_of_the_uploaded_run(client: MlflowClient, tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.start(name="a run", experiment="svhn", store="", tags={})
        journal.set_description(f"{markdown.picture('figures/a b.png')} {{seed}}")
    sent = uploader.send(tmp_path)
    tags = client.get_run(sent["run_id"]).data.tags
    address = f"get-artifact?path=figures%2Fa%20b.png&run_uuid={sent['run_id']}"
    assert tags["mlflow.note.content"] == f"![figures/a b.png]({address}) {{seed}}"


def test_an_unchanged_description_is_not_written_again(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.start(name="a run", experiment="svhn", store="", tags={})
        for text in ("one", "one", "two"):
            journal.set_description(text)
    with Journal(tmp_path) as journal:
        journal.set_description("two")
        assert journal.description == "two"
    assert (tmp_path / JOURNAL).read_text().count('"kind": "description"') == 2
