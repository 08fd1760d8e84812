import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from svhn_sweep.errors import ConfigError
from svhn_sweep.tracking import tracking_uri

# MLflow's own: SQLAlchemy sessions that its store leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def test_a_killed_process_leaves_no_incomplete_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    script = "from svhn_sweep.tracking import tracking_uri; tracking_uri.connect()"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not list(tmp_path.iterdir()):
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert tracking_uri.connect().search_experiments()


@pytest.mark.parametrize(
    ("uri", "address", "error"),
    [
        (
            "http://user:secret@host:5000",
            "http://host:5000",
            "no route to http://user:secret@host:5000/api",
        ),
        (
            "http://user:se/cret@host:5000",
            "http://host:5000",
            "no route to http://user:se/cret@host:5000",
        ),
        ("http://user:se%2Fcret@host", "http://host", "wrong password se/cret for user:se%2Fcret"),
        ("https://host/mlflow?token=secret", "https://host/mlflow", "GET /mlflow?token=secret"),
        (
            "postgresql+psycopg://me:secret@db/x",
            "postgresql+psycopg://db/x",
            "password 'secret' refused",
        ),
        (
            "postgresql://db/x?user=u&password=secret",
            "postgresql://db/x",
            "db/x?user=u&password=secret",
        ),
        ("http://host", "http://host", "and http://other:secret@proxy"),
        ("http://host", "http://host", "Cannot convert '{'url': 'postgresql://u:se/cret@h/db'}'"),
        ("http://host", "http://host", "mysql://u@h/db?passwd=secret&ssl=1"),
    ],
)
def test_passwords_are_never_shown(
    uri: str, address: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri.address() == address
    text = tracking_uri.redact(error) + tracking_uri.reason(RuntimeError(error))
    assert "secret" not in text
    assert "se/cret" not in text
    assert "***" in text


def test_a_path_with_an_at_sign_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/a@b/mlflow.db")
    assert tracking_uri.address() == "sqlite:////tmp/a@b/mlflow.db"
    assert tracking_uri.redact("in /tmp/a@b") == "in /tmp/a@b"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("first\nsecond"), "first"),
        (TimeoutError(), "TimeoutError"),
        (OSError("  \n"), "OSError"),
    ],
)
def test_an_error_always_has_a_reason(error: Exception, reason: str) -> None:
    assert tracking_uri.reason(error) == reason


@pytest.mark.parametrize(("level", "refused"), [("NOPE", True), ("debug", False), ("", False)])
def test_a_logging_level_that_mlflow_has_not_is_refused(
    level: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", level)
    expected = pytest.raises(ConfigError, match=r"^MLFLOW_LOGGING_LEVEL must be .* but is 'NOPE'")
    with expected if refused else nullcontext():
        tracking_uri.check()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_a_store_that_is_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    make(tmp_path / "mlflow.db")
    message = f"{tmp_path}/mlflow.db must be a file, MLflow's database, but is none; move it away"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        tracking_uri.check()


@pytest.mark.parametrize(
    ("uri", "beginning"),
    [
        ("localhost:5000", "localhost"),
        ("./mlruns", "./mlruns"),
        ("ftp://host", "ftp"),
        ("http//user:secret@host", "http//user"),
        ("http:user:secret@host", "http"),
        ("user:secret@host", "user"),
        ("secret@host", "***"),
        ("sqlit:///x?password=secret", "sqlit"),
        ("sqlite:///x?password=secret", "sqlite"),
        ("sqlite+pysqlcipher://:secret@/x", "sqlite+pysqlcipher"),
        ("sqlite:///", "sqlite"),
        ("http:///path", "http"),
    ],
)
def test_an_address_that_is_no_store_is_refused_and_its_beginning_alone_is_shown(
    uri: str, beginning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(
        ConfigError,
        match=re.escape(f"mysql or mssql database, but begins with {beginning!r}.") + "$",
    ):
        tracking_uri.check()


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://host",
        "https://user:secret@host:5000/x",
        "sqlite:///m.db",
        "sqlite:////a@b/m.db",
        "postgresql://user:secret@host/db",
        "mysql+pymysql://host/db",
        "mssql+pyodbc://host/db",
    ],
)
def test_an_address_of_a_store_is_accepted(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tracking_uri.check()


def test_relative_and_absolute_paths_of_a_database_are_one_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    addresses = []
    for uri in ("", "sqlite:///mlflow.db", f"sqlite:///{tmp_path}/mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        addresses.append(tracking_uri.address())
    assert set(addresses) == {f"sqlite:///{tmp_path}/mlflow.db"}


def test_the_default_store_is_mlflows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri.store_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert tracking_uri.store_uri() == "http://server"


def test_a_store_below_the_home_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///~/m.db")
    with pytest.raises(ConfigError, match=r"without ~.* write sqlite:////home/me/ instead of"):
        tracking_uri.check()
