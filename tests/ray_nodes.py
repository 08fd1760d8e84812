"""A real Ray cluster on this machine: a head that trains nothing, and nodes that come, go, and
are cut off.
"""

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

BRIDGE = f"sweep{os.getpid() % 100_000}"  # an interface has at most 15 characters
SUBNET = f"10.77.{os.getpid() % 250}"  # two of these clusters may be at work
GATEWAY = f"{SUBNET}.1"
RAY = Path(sys.executable).with_name("ray")
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
}
NODE = ("--object-store-memory", "100000000", "--disable-usage-stats", "--block")


def namespaces_allowed() -> bool:
    """Whether this user may make network namespaces."""
    return os.getuid() == 0 and shutil.which("ip") is not None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


@dataclass
class Node:
    """A raylet with its workers, and its network namespace if it has one."""

    name: str
    process: subprocess.Popen[bytes]
    namespace: str = ""

    def kill(self) -> None:
        """As a power cut does: all processes at once."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def cut(self, *, off: bool = True) -> None:
        """Take its network cable out, or put it back."""
        _ip("link", "set", self.namespace, "down" if off else "up")

    def workers(self) -> list[int]:
        """The process ids of its workers, oldest first."""
        return sorted(
            pid
            for pid in descendants(self.process.pid)
            if _title(pid).startswith("ray::TrialActor")
        )


@dataclass
class RayNodes:
    """The cluster. Nodes are in network namespaces of their own where `networks` says so."""

    folder: Path
    environment: dict[str, str]
    networks: bool = False
    nodes: list[Node] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"{GATEWAY if self.networks else '127.0.0.1'}:{self.port}"

    def start(self, cpus: int = 0) -> Node:
        """Start the head."""
        if self.networks and not self.nodes:
            _ip("link", "add", BRIDGE, "type", "bridge")
            _ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
            _ip("link", "set", BRIDGE, "up")
        self.port = free_port()
        host = self.address.partition(":")[0]
        own = (
            "--head",
            f"--port={self.port}",
            f"--node-ip-address={host}",
            "--include-dashboard=false",
        )
        return self._node("head", cpus, *own)

    def join(
        self,
        name: str,
        cpus: int = 2,
        gpus: int = 0,
        hidden: Sequence[Path] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Node:
        """Start another node, which does not see the `hidden` folders; `environment`: beside the
        cluster's own.
        """
        where = ("--node-ip-address=127.0.0.1",)
        namespace = ""
        if self.networks:
            number = len(self.nodes) + 2
            namespace = f"{BRIDGE}-{number}"  # of its cable, too
            _ip("netns", "add", namespace)
            _ip(
                "link", "add", namespace, "type", "veth", "peer", "name", "eth0", "netns", namespace
            )
            _ip("link", "set", namespace, "master", BRIDGE, "up")
            _ip("-n", namespace, "addr", "add", f"{SUBNET}.{number}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
            where = (f"--node-ip-address={SUBNET}.{number}",)
        options = (f"--address={self.address}", *where, *((f"--num-gpus={gpus}",) if gpus else ()))
        return self._node(
            name, cpus, *options, namespace=namespace, hidden=hidden, environment=environment
        )

    def _node(
        self,
        name: str,
        cpus: int,
        *options: str,
        namespace: str = "",
        hidden: Sequence[Path] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Node:
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        if hidden:
            mounts = " && ".join(f"mount -t tmpfs none {shlex.quote(str(path))}" for path in hidden)
            inside += ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*inside, *self._command(name, cpus), *options],
                cwd="/",
                env=self.environment | SETTINGS | dict(environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(Node(name, process, namespace))
        if name == "head":
            self._wait_for_head()
        return self.nodes[-1]

    def _command(self, name: str, cpus: int) -> list[str]:
        own = (f"--num-cpus={cpus}", f"--node-name={name}", f"--temp-dir={self.folder}/{name}")
        return [str(RAY), "start", *own, *NODE]

    def _wait_for_head(self) -> None:
        host, _, port = self.address.partition(":")
        for _ in range(300):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                time.sleep(1)  # for its raylet
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError((self.folder / "head.log").read_text())

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.kill()
        for node in self.nodes:
            if node.namespace:
                _ip("netns", "del", node.namespace, check=False)
        if self.networks:
            _ip("link", "del", BRIDGE, check=False)
        self.nodes.clear()


@contextmanager
def ray_nodes(
    folder: Path, environment: dict[str, str], *, cpus: int = 0, networks: bool = False
) -> Iterator[RayNodes]:
    """A cluster with a head that has so many CPUs to train on, and a token without which nobody
    gets in.
    """
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    secured = environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    nodes = RayNodes(folder, secured, networks)
    try:
        nodes.start(cpus)
        yield nodes
    finally:
        nodes.stop()


def descendants(pid: int) -> list[int]:
    """The processes that it started, and those that they started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
