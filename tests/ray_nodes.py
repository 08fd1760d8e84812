"""A real Ray cluster on this machine: a head without workers and nodes that join and leave."""

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

BRIDGE = f"sweep{os.getpid() % 100_000}"  # an interface's name has at most 15 characters
SUBNET = f"10.77.{os.getpid() % 250}"  # two of these clusters may run at the same time
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
NODE_OPTIONS = ("--object-store-memory", "100000000", "--disable-usage-stats", "--block")


def namespaces_allowed() -> bool:
    """Returns whether this user may create network namespaces."""
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
        """Kills all its processes, as a power cut does."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def cut(self, *, off: bool = True) -> None:
        """Takes its network interface down, or up with `off=False`."""
        _ip("link", "set", self.namespace, "down" if off else "up")

    def workers(self) -> list[int]:
        """Returns the process ids of its workers, oldest first."""
        return sorted(
            pid
            for pid in descendants(self.process.pid)
            if _title(pid).startswith("ray::TrialActor")
        )


@dataclass
class RayNodes:
    """The cluster; with `networks` each node but the head has its own network namespace."""

    folder: Path
    environment: dict[str, str]
    networks: bool = False
    nodes: list[Node] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"{GATEWAY if self.networks else '127.0.0.1'}:{self.port}"

    def start(self, cpus: int = 0) -> Node:
        """Starts the head."""
        if self.networks and not self.nodes:
            _ip("link", "add", BRIDGE, "type", "bridge")
            _ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
            _ip("link", "set", BRIDGE, "up")
        self.port = free_port()
        host = self.address.partition(":")[0]
        options = (
            "--head",
            f"--port={self.port}",
            f"--node-ip-address={host}",
            "--include-dashboard=false",
        )
        return self._node("head", cpus, *options)

    def join(
        self,
        name: str,
        cpus: int = 2,
        gpus: int = 0,
        hidden: Sequence[Path] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Node:
        """Starts another node.

        Args:
            name: The node's name, and its log's.
            cpus: CPUs that it offers.
            gpus: GPUs that it offers; they need not exist.
            hidden: Folders that it sees as empty.
            environment: Variables beside the cluster's own.
        """
        host = "127.0.0.1"
        namespace = ""
        if self.networks:
            number = len(self.nodes) + 2
            host = f"{SUBNET}.{number}"
            namespace = f"{BRIDGE}-{number}"  # also the name of its interface on the bridge
            _ip("netns", "add", namespace)
            _ip(
                "link", "add", namespace, "type", "veth", "peer", "name", "eth0", "netns", namespace
            )
            _ip("link", "set", namespace, "master", BRIDGE, "up")
            _ip("-n", namespace, "addr", "add", f"{host}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
        options = [f"--address={self.address}", f"--node-ip-address={host}"]
        if gpus:
            options.append(f"--num-gpus={gpus}")
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
        prefix = ["ip", "netns", "exec", namespace] if namespace else []
        if hidden:
            mounts = " && ".join(f"mount -t tmpfs none {shlex.quote(str(path))}" for path in hidden)
            prefix += ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*prefix, *self._command(name, cpus), *options],
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
        options = (f"--num-cpus={cpus}", f"--node-name={name}", f"--temp-dir={self.folder}/{name}")
        return [str(RAY), "start", *options, *NODE_OPTIONS]

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
        """Kills all nodes."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.kill()
        for node in self.nodes:
            if node.namespace:
                _ip("netns", "del", node.namespace, check=False)
                # A process that is still ending keeps the namespace and its interface.
                _ip("link", "del", node.namespace, check=False)
        if self.networks:
            _ip("link", "del", BRIDGE, check=False)
        self.nodes.clear()


@contextmanager
def ray_nodes(
    folder: Path, environment: dict[str, str], *, cpus: int = 0, networks: bool = False
) -> Iterator[RayNodes]:
    """Starts a cluster that requires a token; it is stopped on exit.

    Args:
        folder: Receives logs and Ray's files; its path must be short.
        environment: Variables of all its processes.
        cpus: CPUs that the head offers to workers.
        networks: Whether each node has its own network namespace.
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
    """Returns the ids of a process' children, of their children, and so on."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    pids = [pid]
    for ancestor in pids:
        pids += [child for child, parent in parents.items() if parent == ancestor]
    return pids[1:]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
