"""A Ray cluster as the driver uses it: workers are Ray actors on its nodes.

The driver runs on one of the cluster's nodes. No other node needs its folder, its data, Optuna or
MLflow: digits travel once to each node through Ray's object store, epochs and files to the driver
with each of a worker's replies.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

# Before Ray's import: nodes use their own Python, also below `uv run`.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svhn_sweep import data, environment
from svhn_sweep.config.schema import Precision
from svhn_sweep.errors import ConfigError, SweepInterruptedError
from svhn_sweep.native_output import redirect_native_output
from svhn_sweep.sweep.plan.formatting import format_items
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.workers.evaluation_requests import ModelsRequest, Result
from svhn_sweep.sweep.workers.local import LocalMachine, worker_environment
from svhn_sweep.sweep.workers.protocol import CPU, Slot, Worker
from svhn_sweep.sweep.workers.ray.actor import TrialActor
from svhn_sweep.sweep.workers.ray.nodes import RayNodes, check_reachable
from svhn_sweep.sweep.workers.ray.worker import RayWorker, interrupted_by_ray, last_line

REFRESH_SECONDS = 1.0  # between two updates of the nodes
SHUTDOWN_TIMEOUT_SECONDS = 10.0  # for leaving a cluster whose head may be gone


class RayCluster:
    """The nodes of a running Ray cluster that have the driver's versions; see `Cluster`.

    Attributes:
        nodes: The nodes.
        threads: The threads that a worker can use on every node that is there at the start.
    """

    def __init__(self, settings: SweeperConfig, log: Path) -> None:
        """Connects and waits for the first node.

        Args:
            settings: The sweep's settings.
            log: The file to which the output of Ray's C++ and of the process that evaluates on
                test is appended.

        Raises:
            ConfigError: There is no such cluster, or none of its nodes can be used.
        """
        if settings.devices is not None:
            raise ConfigError(
                "hydra.sweeper.devices must be null with "
                "hydra.sweeper.cluster: Ray assigns devices."
            )
        assert settings.cluster is not None
        self.settings = settings
        self._evaluator = LocalMachine(replace(settings, devices=[CPU], workers="1"), log)
        self._digits: dict[str, ray.ObjectRef] = {}  # by SHA-256
        self._stack = ExitStack()
        log.parent.mkdir(exist_ok=True)
        # Ray's C++ writes to stderr, about lost nodes among others.
        self._stack.enter_context(redirect_native_output(log))
        try:
            _connect(settings.cluster)
            self.nodes = RayNodes(ray.get_runtime_context().gcs_address, settings)
            with interrupted_by_ray():
                self.nodes.wait_for_first()
        except SweepInterruptedError as error:
            self.close()
            raise ConfigError(str(error)) from error
        except BaseException:
            self.close()
            raise
        self.nodes.notices.clear()
        self.threads = min(node.threads for node in self.nodes.present.values())
        self._refreshed = time.monotonic()

    def resolve_precision(self, precision: Precision) -> Precision:
        """Returns what `auto` stands for on all nodes; other nodes are refused from now on.

        It is the precision that all present nodes are fastest in, or float32 if they differ.

        Raises:
            ConfigError: No node computes in it.
        """
        if precision == Precision.auto:
            precisions = {node.precision for node in self.nodes.present.values()}
            precision = precisions.pop() if len(precisions) == 1 else Precision.float32
        self.nodes.require_precision(precision)
        return precision

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Puts the digits, without the test split, into Ray's object store.

        Raises:
            SweepInterruptedError: The object store is too small.
        """
        for plan in plans:
            if plan.data_sha256 in self._digits:
                continue
            splits = data.load(plan.config.data, test=False)
            try:
                self._digits[plan.data_sha256] = ray.put(splits)
            except (OSError, ray.exceptions.RayError) as error:
                raise SweepInterruptedError(
                    "Ray's object store cannot hold the digits "
                    f"({splits.x_train.nbytes / 2**20:.0f} MiB): "
                    f"{last_line(error)}; start Ray with a larger --object-store-memory."
                ) from error

    def slots(self) -> Sequence[Slot]:
        """Returns the slots of all present nodes, which are updated once a second.

        Raises:
            SweepInterruptedError: The cluster is gone, or has had no node for too long.
        """
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            with interrupted_by_ray():
                self.nodes.refresh()
            self._refreshed = time.monotonic()
        return [slot for node in self.nodes.present.values() for slot in node.slots]

    def notices(self) -> list[str]:
        """Returns one sentence for each change of nodes since the last call."""
        notices = self.nodes.notices
        self.nodes.notices = []
        return notices

    def describe(self) -> str:
        """Returns the present workers as text: "4 workers on 2 GPUs of 1 node of Ray at ..."."""
        # The scheduler takes slots in this order, which spreads them over nodes and devices.
        slots = sorted(self.slots(), key=lambda slot: slot.index)
        if self.settings.workers != "auto":
            slots = slots[: int(self.settings.workers)]
        gpus = {(slot.node, slot.device) for slot in slots if slot.device != CPU}
        nodes = {slot.node for slot in slots}
        on_gpus = f"{format_items(len(gpus), 'GPU')} of " if gpus else ""
        return (
            f"{format_items(len(slots), 'worker')} on {on_gpus}{format_items(len(nodes), 'node')} "
            f"of Ray at {self.nodes.address}"
        )

    def start(self, slot: Slot) -> RayWorker:
        """Starts an actor on the slot's node; Ray chooses its GPU."""
        node = next(node for node in self.nodes.present.values() if slot in node.slots)
        actor_class = ray.remote(TrialActor).options(
            num_cpus=node.cpus,
            num_gpus=node.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
            max_restarts=0,  # the scheduler replaces workers and resumes trials
            max_task_retries=0,
        )
        visible_devices = {} if node.gpus else {"CUDA_VISIBLE_DEVICES": "-1"}
        with interrupted_by_ray():
            actor = actor_class.remote(
                worker_environment() | visible_devices, environment.numeric_variables()
            )
            return RayWorker(
                actor,
                node.name,
                self._digits,
                self.settings.max_trials_per_worker,
                on_exit=self._refresh_soon,
            )

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        """Waits for replies of actors, at most `timeout` seconds.

        Raises:
            SweepInterruptedError: The cluster is gone.
        """
        waiting = {
            worker.next_reply: worker
            for worker in cast(Collection[RayWorker], workers)
            if worker.next_reply
        }
        if not waiting:
            time.sleep(timeout)
            return []
        with interrupted_by_ray():
            ray.wait(list(waiting), num_returns=1, timeout=timeout)
            ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        return [waiting[reference] for reference in ready]

    def evaluate(self, request: ModelsRequest[Result]) -> Result:
        """Leaves the cluster and predicts with models in a process of this machine.

        Raises:
            SweepError: There is no result.
        """
        self._leave()
        return self._evaluator.evaluate(request)

    def close(self) -> None:
        """Leaves the cluster, which ends its actors."""
        self._evaluator.close()
        self._leave()
        self._stack.close()

    def _refresh_soon(self) -> None:
        self._refreshed = 0.0

    def _leave(self) -> None:
        """Leaves the cluster: Ray would end this process if the head went away later."""
        thread = threading.Thread(target=ray.shutdown, daemon=True)
        thread.start()
        thread.join(SHUTDOWN_TIMEOUT_SECONDS)


def _connect(address: str) -> None:
    """Attaches this process to a running cluster.

    Raises:
        ConfigError: There is none, it has another version, or it refuses this process.
    """
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    try:
        check_reachable(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            "hydra.sweeper.cluster must be a running Ray cluster, of which this machine "
            f"is a node, but {address} is not: {last_line(error)}."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, sigterm_handler)  # Ray's own handler ends the process
    # ray/_private/worker.py's listen_error_messages prints raylets' errors despite log_to_driver.
    ray._private.worker._worker_logs_enabled = False
