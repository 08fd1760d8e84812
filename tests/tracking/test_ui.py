"""`python -m svhn_sweep ui`: where it listens, and what it says when it cannot."""

import socket

import pytest
from folder import Folder


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", ""])
def test_a_port_that_is_none_is_refused(folder: Folder, port: str) -> None:
    result = folder.run("ui", MLFLOW_PORT=port)
    assert result.returncode == 2
    assert result.stderr == f"svhn_sweep: MLFLOW_PORT must be a number from 1 to 65535 but is {port!r}.\n"


def test_a_port_that_is_taken_is_named_with_the_way_out(folder: Folder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = folder.run("ui", MLFLOW_PORT=str(port))
    assert result.returncode == 2
    assert result.stderr == (
        f"svhn_sweep: port {port} cannot be used: address already in use; MLFLOW_PORT=5001 takes another.\n"
    )


def test_where_a_server_has_the_runs_it_is_named(folder: Folder) -> None:
    result = folder.run("ui", MLFLOW_TRACKING_URI="http://me:secret@mlflow.example:80/")
    assert (result.returncode, result.stderr) == (0, "")
    assert "http://mlflow.example:80/#/experiments?workflowType=machine_learning" in result.stdout
    assert "secret" not in result.stdout
