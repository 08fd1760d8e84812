"""The scheduler: starts trials on workers, handles the workers' events, stops workers."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.study_storage import DATABASE_ERRORS
from svhn_sweep.sweep.study.trial_run import run_info
from svhn_sweep.sweep.workers.fault_counts import MAX_EXITS_WITHOUT_PROGRESS, ExitCounts
from svhn_sweep.sweep.workers.protocol import (
    Cluster,
    EpochDone,
    NodeFault,
    OutOfMemory,
    TrainRequest,
    TrialEnded,
    WorkerEvent,
    WorkerExited,
    WorkerReady,
)
from svhn_sweep.sweep.workers.slots import SlotState
from svhn_sweep.sweep.workers.sweep_callbacks import SweepCallbacks
from svhn_sweep.sweep.workers.trial_finalizer import TrialFinalizer, recorded_end
from svhn_sweep.sweep.workers.worker_pool import WorkerPool
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.trial_status import TrialStatus

POLL_SECONDS = 1.0  # longest wait for an event before nodes and time limits are checked again
# A worker must be ready within this time; TensorFlow's import, or other jobs, may take a while.
START_TIMEOUT_SECONDS = 300.0


class Scheduler:
    """Trains the trials of studies on the workers of a cluster.

    Workers live over many trials and several calls of `run_until_done`, until `stop`.
    """

    def __init__(
        self,
        settings: SweeperConfig,
        cluster: Cluster,
        config_dirs: Sequence[str],
        uploader: BackgroundUploader,
    ) -> None:
        """Takes the cluster's present slots; no worker starts yet.

        Args:
            settings: The sweep's settings.
            cluster: Where workers run.
            config_dirs: The user's own config folders, for the workers.
            uploader: Sends trials to MLflow while they run.
        """
        self.settings = settings
        self.pool = WorkerPool(cluster, settings.workers)
        self.config_dirs = tuple(config_dirs)
        self.uploader = uploader
        self.exit_counts = ExitCounts()
        # Both are set by each `run_until_done`.
        self.callbacks: SweepCallbacks
        self.finalizer: TrialFinalizer

    def run_until_done(
        self,
        studies: Sequence[Study],
        callbacks: SweepCallbacks,
        deadline: float = math.inf,
        on_study_change: Callable[[Study], object] = lambda study: None,
    ) -> bool:
        """Trains until the studies have no trials left or the deadline has passed.

        Args:
            studies: The studies; trials of the first one come first.
            callbacks: Receives the progress of trials.
            deadline: As `time.monotonic`; trials that run then are interrupted.
            on_study_change: Is called with a study after one of its trials ended for good.

        Returns:
            True if no trials are left, false after the deadline.

        Raises:
            SweepError: Too many consecutive trials failed, or no worker can start.
            SweepInterruptedError: The cluster is gone, or its nodes have too many faults.
        """
        self.callbacks = callbacks
        self.finalizer = TrialFinalizer(self.settings, callbacks, on_study_change)
        try:
            while self._start_trials(studies):
                for state, event in self.pool.events(POLL_SECONDS):
                    self._handle(state, event)
                self._stop_overdue()
                callbacks.on_poll()
                if time.monotonic() > deadline:
                    self.stop()
                    return False
        except BaseException:
            self.stop()
            raise
        return True

    def stop(self) -> None:
        """Stops all workers and interrupts their trials."""
        self.pool.stop()
        for state in self.pool.slots:
            if state.trial is not None:
                # Without its database or its disk a sweep stops as well: the next start reads the
                # journals.
                with suppress(OSError, *DATABASE_ERRORS):
                    self.finalizer.stop(*state.release())

    def _start_trials(self, studies: Sequence[Study]) -> bool:
        """Gives each idle worker a trial; returns whether trials are running or left."""
        self.pool.update_slots(self.callbacks)
        for state in self.pool.slots.open():
            while state.trial is None:
                study = next((study for study in studies if study.trials_left()), None)
                if study is None:
                    break
                n_left = sum(study.trials_left() for study in studies)
                if not self.pool.ensure_worker(state, study.threads, n_left):
                    break
                self._start_trial(state, study)
        return self.pool.slots.is_training() or any(study.trials_left() for study in studies)

    def _start_trial(self, state: SlotState, study: Study) -> None:
        """Starts the study's next trial, or finalizes it if its journal has an end already."""
        pending = study.ask()
        assert pending is not None
        assert state.worker is not None
        state.trial = study, pending
        plan = study.plan
        folder = plan.trial_dir(pending.number)
        self.uploader.watch(folder)
        self.callbacks.on_trial_start(
            plan.name,
            pending.number,
            plan.describe(pending.number, pending.params),
            plan.epochs(pending.params),
            pending.epochs_done,
        )
        recorded = recorded_end(folder)
        if recorded is not None:  # the last driver died before it could tell Optuna
            self.finalizer.finalize(*state.release(), recorded)
            return
        self.pool.slots.begin_trial(state)
        request = TrainRequest(
            overrides=tuple(plan.overrides(pending.params, study.threads)),
            config_dirs=self.config_dirs,
            folder=folder,
            run_info=run_info(plan, pending),
            data_sha256=plan.data_sha256,
            initial_weights=plan.kept_weights,
        )
        state.busy_since = time.monotonic()
        state.worker.train(request, study.threads)

    def _handle(self, state: SlotState, event: WorkerEvent) -> None:
        match event:
            case WorkerReady():  # the next `_start_trials` gives it a trial
                state.device = event.device or state.slot.device
            case EpochDone():
                self._on_epoch_done(state, event)
            case TrialEnded():
                self.finalizer.finalize(*state.release(), event)
            case OutOfMemory():
                self._on_out_of_memory(state, event)
            case NodeFault():
                self._on_node_fault(state, event)
            case WorkerExited():
                self._on_worker_exited(state, event)

    def _on_epoch_done(self, state: SlotState, event: EpochDone) -> None:
        """Reports the epoch to Optuna and answers whether to prune the trial."""
        assert state.trial is not None
        assert state.worker is not None
        study, pending = state.trial
        value = event.metrics[self.settings.metric]
        stop = study.report(pending.number, event.epoch, value)
        state.worker.answer(stop=stop)
        self.callbacks.on_epoch(study.plan.name, pending.number, event.epoch, value)
        self.pool.reset_node_faults(state.slot.node)

    def _on_out_of_memory(self, state: SlotState, event: OutOfMemory) -> None:
        """Interrupts the trial; fails it if it did not share the memory with others."""
        self.pool.stop_worker(state)
        if self.pool.slots.out_of_memory(state, whole_node=event.whole_node):
            self._fail(state, event.reason)
        else:
            self._interrupt(state, event.reason)
        self.pool.report_capacity(self.callbacks)

    def _on_node_fault(self, state: SlotState, event: NodeFault) -> None:
        self.pool.count_node_fault(state.slot.node, event.reason, self.callbacks)
        self.pool.stop_worker(state)
        self._interrupt(state, event.reason)

    def _on_worker_exited(self, state: SlotState, event: WorkerExited) -> None:
        """Interrupts the trial; fails it if it may be the cause.

        Raises:
            SweepError: The worker crashed before it was ready.
        """
        was_ready = state.worker is not None and state.worker.is_ready
        self.pool.stop_worker(state)
        if not was_ready:
            self._on_failed_start(state, event)
        elif state.trial is None:
            return
        elif event.node_lost:
            self._interrupt(state, event.reason)
        elif event.external:
            self._on_worker_killed(state, event.reason)
        else:
            self._fail(state, event.reason)

    def _on_failed_start(self, state: SlotState, event: WorkerExited) -> None:
        """Counts a fault of the node; ends the sweep if the worker crashed: others would, too."""
        if not event.external:
            raise SweepError(
                f"no worker can start: {event.reason}; multirun/workers.log tells why."
            )
        if not event.node_lost:
            self.pool.count_node_fault(state.slot.node, event.reason, self.callbacks)

    def _on_worker_killed(self, state: SlotState, reason: str) -> None:
        """Interrupts the trial; fails it after the third worker killed in the same epoch."""
        assert state.trial is not None
        study, pending = state.trial
        folder = study.plan.trial_dir(pending.number)
        epochs_done = study.epochs_done(pending.number)
        n_exits = self.exit_counts.add(folder, epochs_done)
        if n_exits < MAX_EXITS_WITHOUT_PROGRESS:
            self._interrupt(state, reason)
            return
        self._fail(
            state,
            f"{reason} {n_exits} times in epoch {epochs_done + 1}; perhaps the memory is too small",
        )

    def _interrupt(self, state: SlotState, reason: str) -> None:
        self.finalizer.interrupt(*state.release(), reason)

    def _fail(self, state: SlotState, reason: str) -> None:
        self.finalizer.finalize(*state.release(), TrialEnded(TrialStatus.failed, reason))

    def _stop_overdue(self) -> None:
        """Fails trials that exceed `trial_timeout`, stops workers that are not ready in time."""
        limit = self.settings.trial_timeout or math.inf
        for state in self.pool.slots:
            seconds = time.monotonic() - state.busy_since
            if state.trial is not None and seconds > limit:
                self.pool.stop_worker(state, timeout=0)
                self._fail(state, f"it took longer than trial_timeout={limit:g} seconds")
            elif (
                state.worker is not None
                and not state.worker.is_ready
                and seconds > START_TIMEOUT_SECONDS
            ):
                self.pool.stop_worker(state)
                node = state.slot.node
                on_node = f" on node {node}" if node else ""
                reason = f"no worker starts{on_node} within {START_TIMEOUT_SECONDS:.0f} s"
                self.pool.count_node_fault(node, reason, self.callbacks)
