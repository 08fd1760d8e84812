"""Tests which commit a run is said to be trained with."""

import subprocess
from pathlib import Path

import pytest

from svhn_sweep import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder with the package's file, which is not yet a checkout."""
    module = tmp_path / "svhn_sweep" / "provenance.py"
    module.parent.mkdir()
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    command = ["git", "-C", str(folder), *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_checkout_and_changes_are_marked(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message", "One")
    commit = git(checkout, "rev-parse", "HEAD")
    assert provenance.git_commit() == provenance.code_tags()["git.commit"] == commit
    (checkout / "svhn_sweep" / "provenance.py").write_text("changed")
    assert provenance.git_commit() == f"{commit}-changed"


def test_outside_a_checkout_there_is_no_commit(checkout: Path) -> None:
    assert provenance.git_commit() is None
    assert "git.commit" not in provenance.code_tags()


def test_a_checkout_without_a_commit_has_none(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    assert provenance.git_commit() is None
