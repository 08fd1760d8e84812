"""A real PostgreSQL and a real MLflow server, each with a password and its own folder."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

USER = "sweeper"


def postgres_programs() -> Path | None:
    """Returns Debian's folder with initdb and pg_ctl; None if PostgreSQL is not installed."""
    programs = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    return programs[-1].parent if programs else None


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as free:
        return int(free.getsockname()[1])


@dataclass
class Postgres:
    """A server with a database `optuna` and one `mlflow`, whose user has a password."""

    folder: Path
    host: str = "127.0.0.1"
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    port: int = 0

    def create(self) -> None:
        """Creates the databases and starts the server, for root as user postgres."""
        self.port = free_port(self.host)
        if os.getuid() == 0:  # PostgreSQL refuses root
            shutil.chown(self.folder, "postgres", "postgres")
        self._program(
            "initdb",
            "--pgdata",
            "data",
            "--auth=scram-sha-256",
            f"--pwfile={self._password_file()}",
            "-U",
            USER,
        )
        with (self.folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {self.port}\nlisten_addresses = '*'\nunix_socket_directories = ''\n"
            )
            settings.write("max_connections = 300\nfsync = off\n")  # no test cuts the power
            settings.write("shared_preload_libraries = 'pg_stat_statements'\n")
        with (self.folder / "data" / "pg_hba.conf").open("a") as hosts:
            hosts.write("host all all 0.0.0.0/0 scram-sha-256\n")
        self.start()
        with self.connect("postgres") as connection:
            for name in ("optuna", "mlflow", "mlflow_auth"):
                connection.execute(f"CREATE DATABASE {name}")

    def start(self) -> None:
        self._program("pg_ctl", "--pgdata", "data", "--wait", "--log", "log", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._program("pg_ctl", "--pgdata", "data", "--wait", "--mode", mode, "stop")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stops the server for the time of the context."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            dbname=database,
            autocommit=True,
            host=self.host,
            port=self.port,
            user=USER,
            password=self.password,
        )

    @property
    def storage(self) -> str:
        """The value of `hydra.sweeper.storage`."""
        return f"postgresql+psycopg://{USER}@{self.host}:{self.port}/optuna"

    @property
    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.password}

    def _password_file(self) -> str:
        path = self.folder / "password"
        path.write_text(self.password)
        path.chmod(0o644)
        return str(path)

    def _program(self, name: str, *arguments: str) -> None:
        programs = postgres_programs()
        assert programs is not None
        command: Sequence[str] = [str(programs / name), *arguments]
        if os.getuid() == 0:
            command = [
                "setpriv",
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                *command,
            ]
        subprocess.run(
            command,
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@dataclass
class Mlflow:
    """A tracking server on PostgreSQL with basic auth, which serves artifacts as well."""

    folder: Path
    postgres: Postgres
    host: str = "127.0.0.1"
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        self.port = self.port or free_port(self.host)
        database = f"postgresql+psycopg://{USER}@{self.postgres.host}:{self.postgres.port}"
        (self.folder / "auth.ini").write_text(
            f"[mlflow]\ndefault_permission = EDIT\ndatabase_uri = {database}/mlflow_auth\n"
            f"admin_username = {USER}\nadmin_password = {self.password}\n"
            # Without a cache each request computes the password's hash, for 0.1 s.
            "auth_cache_ttl_seconds = 60\n"
        )
        arguments = [
            "--app-name",
            "basic-auth",
            "--backend-store-uri",
            f"{database}/mlflow",
            "--workers",
            "1",
        ]
        arguments += [
            "--artifacts-destination",
            str(self.folder / "artifacts"),
            "--host",
            self.host,
        ]
        arguments += ["--allowed-hosts", f"{self.host}:{self.port}"]
        light = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        own = {
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test",
        }
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments, "--port", str(self.port)],
                env=os.environ | light | own | self.postgres.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, number)
            self.process.wait()
            self.process = None

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }

    def _wait(self) -> None:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
            except (urllib.error.URLError, OSError):
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "mlflow.log").read_text()
                time.sleep(0.1)
            else:
                return
        raise TimeoutError((self.folder / "mlflow.log").read_text())
