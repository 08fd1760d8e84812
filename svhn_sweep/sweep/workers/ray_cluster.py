"""A Ray cluster as the driver sees it: nodes that come and go, and workers that are Ray actors.

The driver runs on one of the cluster's nodes. No other node needs its folder, its data, Optuna or MLflow: digits travel
once to each node through Ray's object store, epochs and files back to the driver with each of a worker's replies.
"""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # nodes use their own Python, also below `uv run`

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svhn_sweep import data
from svhn_sweep.config import Precision
from svhn_sweep.errors import ConfigError, SweepError, SweepInterruptedError
from svhn_sweep.sweep.plan import Plan
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.sweep.workers import node_facts
from svhn_sweep.sweep.workers.local import LocalMachine, worker_environment, workers_per_gpu
from svhn_sweep.sweep.workers.node_facts import NodeFacts
from svhn_sweep.sweep.workers.protocol import CPU, EvaluateRequest, EvaluateResult, Slot, Worker
from svhn_sweep.sweep.workers.ray_actor import TrialActor
from svhn_sweep.sweep.workers.ray_worker import RayWorker
from svhn_sweep.tracking import store

LOOK_SECONDS = 1.0  # between two looks at the nodes
WITHOUT_NODES_SECONDS = 300.0  # after which a sweep ends that has no node to work on: a cluster may still be starting
HEAD_SECONDS = 20.0  # for which Ray's head may be out of reach
SHUTDOWN_SECONDS = 10.0  # of a cluster whose head may be gone


@dataclass(frozen=True)
class _Node:
    """A node that trains.

    Attributes:
        name: unique among the nodes.
        node_id: Ray's.
        slots: of its devices.
        cpus, gpus: what an actor asks Ray for; a GPU may be a fraction.
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


class RayCluster:
    """The nodes of a running Ray cluster that have the driver's versions."""

    def __init__(self, settings: SweeperConfig, log: Path) -> None:
        """Connect, and wait for the first node.

        Args:
            settings: of the sweep.
            log: of the process that evaluates on test, on this machine.

        Raises:
            ConfigError: there is no such cluster, or none of its nodes can be used.
        """
        if settings.devices is not None:
            raise ConfigError("hydra.sweeper.devices must be null with hydra.sweeper.cluster: Ray assigns devices.")
        assert settings.cluster is not None
        self.settings = settings
        self._evaluator = LocalMachine(replace(settings, devices=[CPU], workers="1"), log)
        self._facts = node_facts.collect()
        self._nodes: dict[str, _Node] = {}  # by Ray's id, in order of appearance
        self._probes: dict[str, ray.ObjectRef] = {}  # of nodes that were asked for their facts
        self._refused: set[str] = set()
        self._wanted = Precision.auto
        self._digits: dict[str, ray.ObjectRef] = {}  # by SHA-256
        self._notices: list[str] = []
        self._looked = self._reached = 0.0  # of `time.monotonic`
        self._with_nodes = time.monotonic()
        _connect(settings.cluster)
        self.address = ray.get_runtime_context().gcs_address
        self._wait_for_nodes()
        self.threads = min(node.threads for node in self._nodes.values())

    def precision(self, wanted: Precision) -> Precision:
        """What `auto` means for all nodes; nodes that do not compute in it are refused from now on."""
        if wanted == Precision.auto:
            precisions = {node.precision for node in self._nodes.values()}
            wanted = precisions.pop() if len(precisions) == 1 else Precision.float32
        self._wanted = wanted
        for node in list(self._nodes.values()):
            if reason := self._lacks_precision(node.precision):
                self._refuse(node.node_id, node.name, reason)
        if not self._nodes:
            raise ConfigError(" ".join(["no node of the Ray cluster can be used:", *self.notices()]))
        return wanted

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Put the digits into Ray's object store, without the test split."""
        for plan in plans:
            if plan.data_sha256 not in self._digits:
                splits = data.load(plan.config.data, test=False)
                try:
                    self._digits[plan.data_sha256] = ray.put(splits)
                except ray.exceptions.RayError as error:
                    raise SweepInterruptedError(
                        f"Ray's object store cannot hold the digits ({splits.x_train.nbytes / 2**20:.0f} MiB): "
                        f"{store.reason(error)}; start Ray with a larger --object-store-memory."
                    ) from error

    def slots(self) -> Sequence[Slot]:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
        found = [slot for node in self._nodes.values() for slot in node.slots]
        if self.settings.workers == "auto":
            return found
        return sorted(found, key=lambda slot: slot.index)[: int(self.settings.workers)]  # spread over the nodes

    def notices(self) -> list[str]:
        notices, self._notices = self._notices, []
        return notices

    def describe(self) -> str:
        slots = self.slots()
        nodes = Counter(slot.node for slot in slots)
        gpus = len({(slot.node, slot.device) for slot in slots if slot.device != CPU})
        what = f"{gpus} GPU{'' if gpus == 1 else 's'} of " if gpus else ""
        workers = f"{len(slots)} worker{'' if len(slots) == 1 else 's'}"
        return f"{workers} on {what}{len(nodes)} node{'' if len(nodes) == 1 else 's'} of Ray at {self.address}"

    def start(self, slot: Slot) -> RayWorker:
        node = next(node for node in self._nodes.values() if slot in node.slots)
        options = {
            "num_cpus": node.cpus,
            "num_gpus": node.gpus,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False),
            "max_restarts": 0,  # the scheduler decides
            "max_task_retries": 0,
        }
        visible = {} if node.gpus else {"CUDA_VISIBLE_DEVICES": "-1"}
        actor = ray.remote(TrialActor).options(**options).remote(worker_environment() | visible)
        return RayWorker(actor, node.name, self._digits, self.settings.trials_per_worker)

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        waiting = {worker.pending: worker for worker in cast(Collection[RayWorker], workers) if worker.pending}
        if not waiting:
            time.sleep(timeout)
            return []
        ray.wait(list(waiting), num_returns=1, timeout=timeout)
        ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        return [waiting[reference] for reference in ready]

    def evaluate(self, request: EvaluateRequest) -> EvaluateResult:
        return self._evaluator.evaluate(request)

    def close(self) -> None:
        """Leave the cluster: its actors end with that."""
        self._evaluator.close()
        thread = threading.Thread(target=ray.shutdown, daemon=True)
        thread.start()
        thread.join(SHUTDOWN_SECONDS)

    def _wait_for_nodes(self) -> None:
        while not self._nodes:
            try:
                self._look()
            except SweepError as error:
                raise ConfigError(" ".join([str(error), *self.notices()])) from error
            if self._refused and not self._nodes and not self._probes:
                raise ConfigError(" ".join(["no node of the Ray cluster can be used:", *self.notices()]))
            time.sleep(0.1)
        while self._probes and time.monotonic() - self._with_nodes < LOOK_SECONDS * 10:  # of those that are there
            self._look()
            time.sleep(0.1)
        self._notices = [notice for notice in self._notices if "joined" not in notice]

    def _look(self) -> None:
        """Which nodes there are; new ones are asked for their facts first."""
        self._check_head()
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for node_id in self._nodes.keys() - alive.keys():
            self._notices.append(f"node {self._nodes.pop(node_id).name} is gone")
        for node_id in self._probes.keys() - alive.keys():
            del self._probes[node_id]
        for node_id, info in alive.items():
            known = node_id in self._nodes or node_id in self._probes or node_id in self._refused
            if not known and _has_workers(info["Resources"]):
                self._probes[node_id] = _probe(node_id)
        self._collect_facts(alive)
        self._looked = time.monotonic()
        if self._nodes:
            self._with_nodes = self._looked
        elif self._looked - self._with_nodes > WITHOUT_NODES_SECONDS:
            raise SweepInterruptedError(
                f"the Ray cluster at {self.address} had no node with free CPUs or GPUs for {WITHOUT_NODES_SECONDS:.0f} "
                "s; the same command continues once it has."
            )

    def _check_head(self) -> None:
        """Ray's own calls wait a minute for a head that is gone, and then end the process.

        Raises:
            SweepInterruptedError: it is out of reach for too long.
        """
        host, _, port = self.address.rpartition(":")
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
                self._reached = time.monotonic()
                return
            except OSError as error:
                if time.monotonic() - self._reached > HEAD_SECONDS:
                    raise SweepInterruptedError(
                        f"Ray's head at {self.address} does not answer any more ({error}); every finished epoch is "
                        "kept, and the same command continues, on another cluster as well."
                    ) from error
                time.sleep(LOOK_SECONDS)

    def _collect_facts(self, alive: dict[str, dict[str, Any]]) -> None:
        if not self._probes:
            return
        ready, _ = ray.wait(list(self._probes.values()), num_returns=len(self._probes), timeout=0)
        for node_id, reference in list(self._probes.items()):
            if reference not in ready:
                continue
            del self._probes[node_id]
            name = self._name(alive[node_id])
            try:
                facts = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._refuse(node_id, name, f"svhn_sweep does not run there: {_last_line(error)}")
                continue
            reason = self._facts.difference(facts) or self._lacks_precision(facts.precision)
            if reason:
                self._refuse(node_id, name, reason)
            else:
                self._nodes[node_id] = _node(name, node_id, alive[node_id]["Resources"], facts, self.settings)
                slots = len(self._nodes[node_id].slots)
                self._notices.append(f"node {name} joined with {slots} worker{'' if slots == 1 else 's'}")

    def _lacks_precision(self, precision: Precision) -> str:
        if self._wanted == Precision.mixed_bfloat16 and precision != Precision.mixed_bfloat16:
            return "it does not compute in bfloat16, as the sweep does"
        return ""

    def _refuse(self, node_id: str, name: str, reason: str) -> None:
        self._nodes.pop(node_id, None)
        self._refused.add(node_id)
        self._notices.append(f"node {name} is refused: {reason}.")

    def _name(self, info: dict[str, Any]) -> str:
        """The name that the node was started with, else its host's; a second one of that name gets a part of its id."""
        own = info["NodeName"] not in ("", info["NodeManagerAddress"])
        name = str(info["NodeName"] if own else info["NodeManagerHostname"])
        taken = {node.name for node in self._nodes.values()}
        return name if name not in taken else f"{name}-{info['NodeID'][:6]}"


def _connect(address: str) -> None:
    """Attach this process to a running cluster.

    Raises:
        ConfigError: there is none, it has another version, or it does not let this process in.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"hydra.sweeper.cluster must be a running Ray cluster, of which this machine is a node, but {address} "
            f"is not: {_last_line(error)}."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which ends the process


def _has_workers(resources: dict[str, float]) -> bool:
    return resources.get("GPU", 0) >= 1 or resources.get("CPU", 0) >= 1


def _probe(node_id: str) -> "ray.ObjectRef":
    """Ask a node for its facts, whatever else it does."""
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(node_facts.collect).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote()


def _node(name: str, node_id: str, resources: dict[str, float], facts: NodeFacts, settings: SweeperConfig) -> _Node:
    """The slots of a node: on each GPU as many as settings say, on a node without GPUs one for each core."""
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if not gpus:
        slots = tuple(Slot(name, CPU, index) for index in range(cpus))
        return _Node(name, node_id, slots, 1, 0, 1, facts.precision)
    count = workers_per_gpu(settings, cpus // gpus)
    slots = tuple(Slot(name, f"GPU {gpu}", index) for gpu in range(gpus) for index in range(count))
    share = cpus / len(slots)
    return _Node(
        name,
        node_id,
        slots,
        cpus=math.floor(share) if share >= 1 else math.floor(share * 10_000) / 10_000,  # Ray's resolution
        gpus=math.floor(10_000 / count) / 10_000,
        threads=max(1, math.floor(share)),
        precision=facts.precision,
    )


def _last_line(error: BaseException) -> str:
    """What an error of Ray's comes to; it is the last line of its text."""
    lines = [line.strip() for line in store.redacted(str(error)).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
