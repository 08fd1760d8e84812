"""A Ray cluster as the driver sees it: workers are Ray actors on its nodes.

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

os.environ.setdefault(
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0"
)  # nodes use their own Python, also below `uv run`

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from svhn_sweep import data
from svhn_sweep.config.schema import Precision
from svhn_sweep.errors import ConfigError, SweepInterruptedError
from svhn_sweep.native_output import redirect_native_output
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.workers.local import LocalMachine, worker_environment
from svhn_sweep.sweep.workers.protocol import CPU, EvaluateRequest, EvaluateResult, Slot, Worker
from svhn_sweep.sweep.workers.ray.actor import TrialActor
from svhn_sweep.sweep.workers.ray.nodes import RayNodes, reach
from svhn_sweep.sweep.workers.ray.worker import RayWorker, calls_of_ray, last_line

LOOK_SECONDS = 1.0  # between two looks at the nodes
SHUTDOWN_SECONDS = 10.0  # of a cluster whose head may be gone


class RayCluster:
    """The nodes of a running Ray cluster that have the driver's versions."""

    def __init__(self, settings: SweeperConfig, log: Path) -> None:
        """Connect, and wait for the first node.

        Args:
            settings: of the sweep.
            log: gets what Ray's C++ prints, and the process that evaluates on test.

        Raises:
            ConfigError: there is no such cluster, or none of its nodes can be used.
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
        self._stack.enter_context(
            redirect_native_output(log)
        )  # Ray's C++ speaks of lost nodes, too
        try:
            _connect(settings.cluster)
            self.nodes = RayNodes(ray.get_runtime_context().gcs_address, settings)
            with calls_of_ray():
                self.nodes.wait_for_first()
        except SweepInterruptedError as error:
            self.close()
            raise ConfigError(str(error)) from error
        except BaseException:
            self.close()
            raise
        self.nodes.notices.clear()
        self.threads = min(node.threads for node in self.nodes.present.values())
        self._looked = time.monotonic()

    def precision(self, wanted: Precision) -> Precision:
        """What `auto` means for all nodes; nodes that do not compute in it are refused from now
        on.
        """
        if wanted == Precision.auto:
            precisions = {node.precision for node in self.nodes.present.values()}
            wanted = precisions.pop() if len(precisions) == 1 else Precision.float32
        self.nodes.require(wanted)
        return wanted

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Put the digits into Ray's object store, without the test split."""
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
        if time.monotonic() - self._looked > LOOK_SECONDS:
            with calls_of_ray():
                self.nodes.look()
            self._looked = time.monotonic()
        return [slot for node in self.nodes.present.values() for slot in node.slots]

    def notices(self) -> list[str]:
        notices = self.nodes.notices
        self.nodes.notices = []
        return notices

    def describe(self) -> str:
        slots = sorted(
            self.slots(), key=lambda slot: slot.index
        )  # the scheduler's order, which spreads them
        if self.settings.workers != "auto":
            slots = slots[: int(self.settings.workers)]
        nodes = len({slot.node for slot in slots})
        gpus = len({(slot.node, slot.device) for slot in slots if slot.device != CPU})
        workers = f"{len(slots)} worker{'' if len(slots) == 1 else 's'}"
        where = f"{gpus} GPU{'' if gpus == 1 else 's'} of " if gpus else ""
        return (
            f"{workers} on {where}{nodes} "
            f"node{'' if nodes == 1 else 's'} of Ray at {self.nodes.address}"
        )

    def start(self, slot: Slot) -> RayWorker:
        node = next(node for node in self.nodes.present.values() if slot in node.slots)
        actor_class = ray.remote(TrialActor).options(
            num_cpus=node.cpus,
            num_gpus=node.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
            max_restarts=0,  # the scheduler decides
            max_task_retries=0,
        )
        visible = {} if node.gpus else {"CUDA_VISIBLE_DEVICES": "-1"}
        with calls_of_ray():
            actor = actor_class.remote(worker_environment() | visible)
            return RayWorker(
                actor, node.name, self._digits, self.settings.max_trials_per_worker, self._look_soon
            )

    def _look_soon(self) -> None:
        self._looked = 0.0

    def wait(self, workers: Collection[Worker], timeout: float) -> list[Worker]:
        waiting = {
            worker.pending: worker
            for worker in cast(Collection[RayWorker], workers)
            if worker.pending
        }
        if not waiting:
            time.sleep(timeout)
            return []
        with calls_of_ray():
            ray.wait(list(waiting), num_returns=1, timeout=timeout)
            ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        return [waiting[reference] for reference in ready]

    def evaluate(self, request: EvaluateRequest) -> EvaluateResult:
        # nothing is trained any more, and Ray would end this process if its head went meanwhile
        self._leave()
        return self._evaluator.evaluate(request)

    def close(self) -> None:
        """Leave the cluster: its actors end with that."""
        self._evaluator.close()
        self._leave()
        self._stack.close()

    def _leave(self) -> None:
        thread = threading.Thread(target=ray.shutdown, daemon=True)
        thread.start()
        thread.join(SHUTDOWN_SECONDS)


def _connect(address: str) -> None:
    """Attach this process to a running cluster.

    Raises:
        ConfigError: there is none, it has another version, or it does not let this process in.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        reach(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            "hydra.sweeper.cluster must be a running Ray cluster, of which this machine "
            f"is a node, but {address} "
            f"is not: {last_line(error)}."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which ends the process
    # Ray prints what its raylets report over the sweep's lines, whatever `log_to_driver` is
    # (ray/_private/worker.py, listen_error_messages); the scheduler says the same in one line.
    ray._private.worker._worker_logs_enabled = False
