"""The nodes of a Ray cluster that a sweep can use: they come and go, and must have what the
driver has.
"""

import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svhn_sweep.config.schema import Precision
from svhn_sweep.errors import ConfigError, SweepInterruptedError
from svhn_sweep.run_header import console
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.workers.local import workers_per_gpu
from svhn_sweep.sweep.workers.protocol import CPU, Slot
from svhn_sweep.sweep.workers.ray import node_facts
from svhn_sweep.sweep.workers.ray.worker import last_line

PROBE_SECONDS = 60.0  # for which the sweep's start waits for the facts of a node
WITHOUT_NODES_SECONDS = (
    300.0  # after which a sweep without a node ends: the cluster may still be starting
)
HEAD_SECONDS = 20.0  # for which Ray's head may be out of reach
CONNECT_SECONDS = 2.0

# Ray's description of a node: NodeID, Alive, NodeName, NodeManagerHostname, NodeManagerAddress,
# Resources.
Info = Mapping[str, Any]


@dataclass(frozen=True)
class Node:
    """A node that trains.

    Attributes:
        name: unique among the nodes.
        node_id: Ray's.
        slots: of its devices.
        cpus, gpus: what an actor asks Ray for; each may be a fraction.
        threads: that each of its workers could use.
        precision: in which it computes best.
    """

    name: str
    node_id: str
    slots: tuple[Slot, ...]
    cpus: float
    gpus: float
    threads: int
    precision: Precision


class RayNodes:
    """Nodes whose versions are the driver's.

    Attributes:
        present: those that train, by Ray's id, in order of appearance.
        notices: what happened since somebody emptied the list, in sentences.
    """

    def __init__(self, address: str, settings: SweeperConfig) -> None:
        """`address`: HOST:PORT of Ray's head, to which this process is connected."""
        self.address, self.settings = address, settings
        self.present: dict[str, Node] = {}
        self.notices: list[str] = []
        self._facts = node_facts.collect()
        self._probes: dict[str, ray.ObjectRef] = {}  # of nodes that were asked for their facts
        self._refused: set[str] = set()
        self._precision = Precision.auto
        self._without_since: float | None = None  # of `time.monotonic`, while there is no node

    def wait_for_first(self) -> None:
        """Until all nodes that are there now have told their facts, and there is one to use.

        Raises:
            ConfigError: none can be used.
        """
        started = time.monotonic()
        self.look()
        while self._probes and time.monotonic() - started < PROBE_SECONDS:
            time.sleep(0.1)
            self.look()
        if not self.present:
            self._raise_if_all_refused()
            console.print(f"waiting for nodes of the Ray cluster at {self.address}")
        while not self.present:
            self._raise_if_all_refused()
            time.sleep(1)
            self.look()

    def require(self, precision: Precision) -> None:
        """Refuse nodes that do not compute in this precision, from now on.

        Raises:
            ConfigError: no node is left.
        """
        self._precision = precision
        for node in list(self.present.values()):
            if reason := self._lacks_precision(node.precision):
                self._refuse(node.node_id, node.name, reason)
        self._raise_if_all_refused()

    def look(self) -> None:
        """Find out which nodes there are; ask new ones for their facts, and use them once they have
        answered.

        Raises:
            SweepInterruptedError: Ray's head does not answer, or there has been no node for too
                long.
        """
        self._check_head()
        alive: dict[str, Info] = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for node_id in self.present.keys() - alive.keys():
            self.notices.append(f"node {self.present.pop(node_id).name} is gone")
        for node_id in self._probes.keys() - alive.keys():
            del self._probes[node_id]
        for node_id, info in alive.items():
            known = node_id in self.present or node_id in self._probes or node_id in self._refused
            if not known and max(info["Resources"].get(kind, 0) for kind in ("CPU", "GPU")) >= 1:
                self._probes[node_id] = _probe(node_id)
        self._use_answers(alive)
        if self.present:
            self._without_since = None
            return
        self._without_since = self._without_since or time.monotonic()
        if time.monotonic() - self._without_since > WITHOUT_NODES_SECONDS:
            raise SweepInterruptedError(
                f"the Ray cluster at {self.address} has had no node with CPUs or GPUs for "
                f"{WITHOUT_NODES_SECONDS:.0f} "
                "s; the same command continues once it has."
            )

    def _check_head(self) -> None:
        """Ray's own calls wait a minute for a head that is gone, and then end the process."""
        began = time.monotonic()
        while True:
            try:
                reach(self.address)
            except OSError as error:
                if time.monotonic() - began > HEAD_SECONDS:
                    raise SweepInterruptedError(
                        f"Ray's head at {self.address} does not answer any more "
                        f"({error}); every finished epoch is "
                        "kept, and the same command continues, on another cluster as well."
                    ) from error
                time.sleep(1)
            else:
                return

    def _use_answers(self, alive: Mapping[str, Info]) -> None:
        if not self._probes:
            return
        ready, _ = ray.wait(list(self._probes.values()), num_returns=len(self._probes), timeout=0)
        for node_id, reference in list(self._probes.items()):
            if reference in ready:
                del self._probes[node_id]
                self._use_answer(alive[node_id], reference)

    def _use_answer(self, info: Info, reference: "ray.ObjectRef") -> None:
        node_id = info["NodeID"]
        name = self._name(info)
        try:
            facts: node_facts.NodeFacts = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            self._refuse(node_id, name, f"svhn_sweep does not run there: {last_line(error)}")
            return
        except (
            ray.exceptions.RayError
        ):  # its worker could not start, or was killed: it is asked again
            return
        if reason := self._facts.difference(facts) or self._lacks_precision(facts.precision):
            self._refuse(node_id, name, reason)
            return
        node = self.present[node_id] = _node(name, info, facts.precision, self.settings)
        self.notices.append(
            f"node {name} joined: {len(node.slots)} worker{'' if len(node.slots) == 1 else 's'}"
        )

    def _lacks_precision(self, precision: Precision) -> str:
        bfloat16 = Precision.mixed_bfloat16
        lacks = self._precision == bfloat16 and precision != bfloat16
        return "it does not compute in bfloat16, as the sweep does" if lacks else ""

    def _refuse(self, node_id: str, name: str, reason: str) -> None:
        self.present.pop(node_id, None)
        self._refused.add(node_id)
        self.notices.append(f"node {name} is refused: {reason}")

    def _raise_if_all_refused(self) -> None:
        if self._refused and not self.present and not self._probes:
            raise ConfigError(f"no node of the Ray cluster can be used: {'; '.join(self.notices)}.")

    def _name(self, info: Info) -> str:
        """The name that the node was started with, else its host's; a second one of that name
        gets a part of its id.
        """
        own = info["NodeName"] not in ("", info["NodeManagerAddress"])
        name = str(info["NodeName"] if own else info["NodeManagerHostname"])
        taken = {node.name for node in self.present.values()}
        return name if name not in taken else f"{name}-{info['NodeID'][:6]}"


def reach(address: str) -> None:
    """Try the address of Ray's head, for which Ray itself would wait for minutes.

    Raises:
        OSError: nothing answers at HOST:PORT.
    """
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


def _probe(node_id: str) -> "ray.ObjectRef":
    """Ask a node for its facts, whatever else it does."""
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return (
        ray.remote(node_facts.collect)
        .options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        .remote()
    )


def _node(name: str, info: Info, precision: Precision, settings: SweeperConfig) -> Node:
    """The slots of a node: on each GPU as many as the settings say, on a node without GPUs one
    for each core.
    """
    cpus, gpus = (int(info["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
    if not gpus:
        slots = tuple(Slot(name, CPU, index) for index in range(cpus))
        return Node(name, info["NodeID"], slots, cpus=1, gpus=0, threads=1, precision=precision)
    count = workers_per_gpu(settings, cpus // gpus)
    slots = tuple(Slot(name, f"GPU {gpu}", index) for gpu in range(gpus) for index in range(count))
    share = cpus / len(slots)
    return Node(
        name,
        info["NodeID"],
        slots,
        cpus=math.floor(share)
        if share >= 1
        else math.floor(share * 10_000) / 10_000,  # Ray's resolution
        gpus=math.floor(10_000 / count) / 10_000,
        threads=max(1, math.floor(share)),
        precision=precision,
    )
