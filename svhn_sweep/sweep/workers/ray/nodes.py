"""The nodes of a Ray cluster that a sweep can use, which may join and leave at any time."""

import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svhn_sweep.config.schema import Precision
from svhn_sweep.console import print_text
from svhn_sweep.errors import ConfigError, SweepInterruptedError
from svhn_sweep.sweep.plan.formatting import format_items
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.workers.local_devices import workers_per_gpu
from svhn_sweep.sweep.workers.protocol import CPU, Slot
from svhn_sweep.sweep.workers.ray import node_facts
from svhn_sweep.sweep.workers.ray.worker import last_line

PROBE_TIMEOUT_SECONDS = 60.0  # for the facts of the nodes that are there at the start
# After this time without a node the sweep ends; until then the cluster may still be starting.
NO_NODES_TIMEOUT_SECONDS = 300.0
HEAD_TIMEOUT_SECONDS = 20.0  # while Ray's head does not answer
CONNECT_TIMEOUT_SECONDS = 2.0
RAY_RESOLUTION = 10_000  # Ray rounds fractions of CPUs and GPUs to this part


class NodeInfo(TypedDict):
    """Ray's description of a node, as far as it is used here; see `ray.nodes`."""

    NodeID: str
    Alive: bool
    NodeName: str
    NodeManagerHostname: str
    NodeManagerAddress: str
    Resources: dict[str, float]


@dataclass(frozen=True)
class Node:
    """A node on which workers run.

    Attributes:
        name: Its name, unique among the present nodes.
        node_id: Ray's id of it.
        slots: One for each worker.
        cpus: CPUs that an actor reserves; may be a fraction.
        gpus: GPUs that an actor reserves; may be a fraction.
        threads: CPU cores for each worker, at least 1.
        precision: The fastest that it supports: float32 or mixed_bfloat16.
    """

    name: str
    node_id: str
    slots: tuple[Slot, ...]
    cpus: float
    gpus: float
    threads: int
    precision: Precision


class RayNodes:
    """The nodes whose versions are the driver's.

    Attributes:
        address: HOST:PORT of Ray's head.
        present: The nodes that can be used, by Ray's id, in order of appearance.
        notices: One sentence for each change of nodes; whoever reads them empties the list.
    """

    def __init__(self, address: str, settings: SweeperConfig) -> None:
        """Collects the driver's own facts.

        Args:
            address: HOST:PORT of Ray's head, to which this process is connected.
            settings: The sweep's settings.
        """
        self.address = address
        self.settings = settings
        self.present: dict[str, Node] = {}
        self.notices: list[str] = []
        self._driver_facts = node_facts.collect()
        self._probes: dict[str, ray.ObjectRef] = {}  # references to the facts, by node id
        self._refused: set[str] = set()  # ids of nodes
        self._required_precision = Precision.auto
        self._empty_since: float | None = None  # `time.monotonic` while no node is present

    def wait_for_first(self) -> None:
        """Waits for the facts of all nodes that are there now, and for a node to be present.

        Raises:
            ConfigError: All nodes are refused.
            SweepInterruptedError: See `refresh`.
        """
        started = time.monotonic()
        self.refresh()
        while self._probes and time.monotonic() - started < PROBE_TIMEOUT_SECONDS:
            time.sleep(0.1)
            self.refresh()
        if not self.present:
            self._raise_if_all_refused()
            print_text(f"waiting for nodes of the Ray cluster at {self.address}")
        while not self.present:
            self._raise_if_all_refused()
            time.sleep(1)
            self.refresh()

    def require_precision(self, precision: Precision) -> None:
        """Refuses, from now on, nodes that do not support this precision.

        Raises:
            ConfigError: All nodes are refused.
        """
        self._required_precision = precision
        for node in list(self.present.values()):
            if reason := self._missing_precision(node.precision):
                self._refuse(node.node_id, node.name, reason)
        self._raise_if_all_refused()

    def refresh(self) -> None:
        """Updates the present nodes; new nodes are present once they have returned their facts.

        Raises:
            SweepInterruptedError: Ray's head does not answer, or no node has been present for too
                long.
        """
        self._check_head()
        live: dict[str, NodeInfo] = {info["NodeID"]: info for info in ray.nodes() if info["Alive"]}
        for node_id in self.present.keys() - live.keys():
            self.notices.append(f"node {self.present.pop(node_id).name} is gone")
        for node_id in self._probes.keys() - live.keys():
            del self._probes[node_id]
        seen = self.present.keys() | self._probes.keys() | self._refused
        for node_id, info in live.items():
            resources = info["Resources"]
            computes = max(resources.get("CPU", 0), resources.get("GPU", 0)) >= 1
            if computes and node_id not in seen:
                self._probes[node_id] = _probe(node_id)
        self._collect_facts(live)
        self._check_not_empty()

    def _check_head(self) -> None:
        """Waits for the head: Ray's own calls wait for a minute, and then end the process."""
        started = time.monotonic()
        while True:
            try:
                check_reachable(self.address)
            except OSError as error:
                if time.monotonic() - started > HEAD_TIMEOUT_SECONDS:
                    raise SweepInterruptedError(
                        f"Ray's head at {self.address} does not answer any more "
                        f"({error}); every finished epoch is "
                        "kept, and the same command continues, on another cluster as well."
                    ) from error
                time.sleep(1)
            else:
                return

    def _check_not_empty(self) -> None:
        if self.present:
            self._empty_since = None
            return
        self._empty_since = self._empty_since or time.monotonic()
        if time.monotonic() - self._empty_since > NO_NODES_TIMEOUT_SECONDS:
            raise SweepInterruptedError(
                f"the Ray cluster at {self.address} has had no node with CPUs or GPUs for "
                f"{NO_NODES_TIMEOUT_SECONDS:.0f} s; the same command continues once it has."
            )

    def _collect_facts(self, live: Mapping[str, NodeInfo]) -> None:
        """Handles the probes that have returned."""
        if not self._probes:
            return
        ready, _ = ray.wait(list(self._probes.values()), num_returns=len(self._probes), timeout=0)
        for node_id, reference in list(self._probes.items()):
            if reference in ready:
                del self._probes[node_id]
                self._add_or_refuse(live[node_id], reference)

    def _add_or_refuse(self, info: NodeInfo, reference: "ray.ObjectRef") -> None:
        node_id = info["NodeID"]
        name = self._unique_name(info)
        try:
            facts: node_facts.NodeFacts = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            self._refuse(node_id, name, f"svhn_sweep does not run there: {last_line(error)}")
            return
        except ray.exceptions.RayError:
            return  # the probe could not start, or was killed; the next refresh tries again
        reason = self._driver_facts.difference(facts) or self._missing_precision(facts.precision)
        if reason:
            self._refuse(node_id, name, reason)
            return
        node = _node(name, info, facts.precision, self.settings)
        self.present[node_id] = node
        self.notices.append(f"node {name} joined: {format_items(len(node.slots), 'worker')}")

    def _missing_precision(self, precision: Precision) -> str:
        """Why a node of this precision is refused; empty if it is not."""
        bfloat16 = Precision.mixed_bfloat16
        is_missing = self._required_precision == bfloat16 and precision != bfloat16
        return "it does not compute in bfloat16, as the sweep does" if is_missing else ""

    def _refuse(self, node_id: str, name: str, reason: str) -> None:
        self.present.pop(node_id, None)
        self._refused.add(node_id)
        self.notices.append(f"node {name} is refused: {reason}")

    def _raise_if_all_refused(self) -> None:
        if self._refused and not self.present and not self._probes:
            raise ConfigError(f"no node of the Ray cluster can be used: {'; '.join(self.notices)}.")

    def _unique_name(self, info: NodeInfo) -> str:
        """The name that the node was started with, or its host's.

        A part of the node's id is appended if a present node has the same name.
        """
        has_own_name = info["NodeName"] not in ("", info["NodeManagerAddress"])
        name = info["NodeName"] if has_own_name else info["NodeManagerHostname"]
        taken = {node.name for node in self.present.values()}
        return name if name not in taken else f"{name}-{info['NodeID'][:6]}"


def check_reachable(address: str) -> None:
    """Connects to Ray's head once; Ray itself would wait for minutes.

    Args:
        address: HOST:PORT; anything else is not checked.

    Raises:
        OSError: Nothing answers there.
    """
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection(
            (host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_SECONDS
        ).close()


def _probe(node_id: str) -> "ray.ObjectRef":
    """Starts collecting a node's facts, even if all its CPUs are reserved."""
    on_node = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return (
        ray.remote(node_facts.collect)
        .options(num_cpus=0, max_retries=0, scheduling_strategy=on_node)
        .remote()
    )


def _node(name: str, info: NodeInfo, precision: Precision, settings: SweeperConfig) -> Node:
    """A node with `workers_per_gpu` slots on each GPU, or one per core if it has no GPU."""
    cpus, gpus = (int(info["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
    if not gpus:
        slots = tuple(Slot(name, CPU, index) for index in range(cpus))
        return Node(name, info["NodeID"], slots, cpus=1, gpus=0, threads=1, precision=precision)
    per_gpu = workers_per_gpu(settings, cpus // gpus)
    slots = tuple(
        Slot(name, f"GPU {gpu}", index) for gpu in range(gpus) for index in range(per_gpu)
    )
    cpus_per_worker = cpus / len(slots)
    threads = math.floor(cpus_per_worker)
    return Node(
        name,
        info["NodeID"],
        slots,
        cpus=threads or math.floor(cpus_per_worker * RAY_RESOLUTION) / RAY_RESOLUTION,
        gpus=math.floor(RAY_RESOLUTION / per_gpu) / RAY_RESOLUTION,
        threads=max(1, threads),
        precision=precision,
    )
