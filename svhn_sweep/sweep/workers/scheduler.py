"""The scheduler's loop: hand out trials, answer their epochs, tell the studies how they ended."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from svhn_sweep.errors import SweepError, SweepInterruptedError
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.sweep.study.study_storage import DATABASE_ERRORS
from svhn_sweep.sweep.workers.callbacks import SweepCallbacks
from svhn_sweep.sweep.workers.protocol import (
    SECONDS_TO_STOP,
    Cluster,
    EpochDone,
    Event,
    NodeFault,
    OutOfMemory,
    TrainRequest,
    TrialEnded,
    WorkerExited,
    WorkerReady,
)
from svhn_sweep.sweep.workers.slots import SlotState, WorkerSlots
from svhn_sweep.sweep.workers.trial_finalizer import TrialFinalizer
from svhn_sweep.sweep.workers.trial_journal import recorded_end
from svhn_sweep.tracking import journal
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.trial_status import TrialStatus

POLL_SECONDS = 1.0
MAX_EXITS_WITHOUT_PROGRESS = (
    3  # of workers under one trial, before the trial is thought to be the reason
)
MAX_FAULTS_WITHOUT_PROGRESS = 3  # of a node, before it gets no more trials
FAULT_SECONDS = 5.0  # within which the faults of a node are one: all its workers meet the same
START_SECONDS = (
    300.0  # in which a worker must start: TensorFlow's import, or other jobs, may take a while
)


class Scheduler:
    """Has the trials of studies trained by the workers of a cluster, which live until they are
    stopped.
    """

    def __init__(
        self,
        settings: SweeperConfig,
        cluster: Cluster,
        config_dirs: Sequence[str],
        uploader: BackgroundUploader,
    ) -> None:
        """Open the cluster's slots; no worker starts yet.

        Args:
            settings: of the sweep.
            cluster: where workers run.
            config_dirs: the user's folders of config files, for the workers.
            uploader: shows trials in MLflow while they run.
        """
        self.settings = settings
        self.cluster = cluster
        self.uploader = uploader
        self.config_dirs = tuple(config_dirs)
        self.slots = WorkerSlots(cluster.slots())
        self._exits: dict[
            Path, tuple[int, int]
        ] = {}  # by trial: in which epoch, how often in a row
        self._faults: dict[str, tuple[int, float]] = {}  # by node: how often in a row, when last
        self._excluded: set[str] = set()  # nodes that get no more trials
        self._last_fault = ""
        self._limit = math.inf if settings.workers == "auto" else int(settings.workers)

    def run_until_done(
        self,
        studies: Sequence[Study],
        callbacks: SweepCallbacks,
        deadline: float = math.inf,
        on_study_change: Callable[[Study], object] = lambda study: None,
    ) -> bool:
        """Train until the studies have nothing left (true) or `time.monotonic` is past the deadline
        (false).

        Args:
            studies: the first one's trials come first.
            callbacks: called with what happens.
            deadline: what is being trained then can be continued.
            on_study_change: called with a study after one of its trials ended for good.

        Raises:
            SweepError: too many trials failed in a row, or no worker can start.
        """
        self.callbacks = callbacks
        self.finalizer = TrialFinalizer(self.settings, callbacks, on_study_change)
        try:
            while self._hand_out(studies):
                self._listen()
                self._end_overdue()
                if time.monotonic() > deadline:
                    self.stop()
                    return False
        except BaseException:
            self.stop()
            raise
        return True

    def stop(self) -> None:
        """End the workers; what they were training can be continued."""
        workers = [state.worker for state in self.slots if state.worker is not None]
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + SECONDS_TO_STOP
        for worker in workers:
            worker.close(end - time.monotonic())
        for state in self.slots:
            state.worker = None
        for state in self.slots:
            if state.trial is not None:
                with suppress(
                    *DATABASE_ERRORS
                ):  # what Optuna is not told now, the next start finds out
                    self._interrupt_or_tell(state)

    def _interrupt_or_tell(self, state: SlotState) -> None:
        assert state.trial is not None
        study, pending = state.trial
        state.trial = None
        folder = study.folder(pending.number)
        if (ended := recorded_end(folder)) is not None:
            self.finalizer.tell(study, pending, ended)
            return
        self._end_run(folder)
        self.finalizer.interrupt(study, pending, "")

    def _hand_out(self, studies: Sequence[Study]) -> bool:
        """Give every idle worker a trial; returns whether anything is being trained."""
        self._look_at_cluster()
        for state in self.slots.open():
            while state.trial is None and (
                study := next((each for each in studies if each.left()), None)
            ):
                if not self._has_worker(state, study, sum(each.left() for each in studies)):
                    break
                pending = study.next()
                assert pending is not None
                self._start(state, study, pending)
        return any(state.trial is not None for state in self.slots) or any(
            study.left() for study in studies
        )

    def _has_worker(self, state: SlotState, study: Study, left: int) -> bool:
        """Whether a worker is ready there; starts one, if there are trials for it."""
        if state.worker is not None and not state.worker.can_train(study.threads):
            self._end_worker(state)
        if state.worker is None:
            busy = sum(each.trial is not None for each in self.slots)
            idle = sum(each.worker is not None for each in self.slots) - busy
            if busy + idle >= self._limit or idle >= left:
                return False
            state.worker = self.cluster.start(state.slot)
            state.busy_since = time.monotonic()
        return state.worker.is_ready

    def _look_at_cluster(self) -> None:
        """Nodes may have come or gone."""
        before = self._capacity()
        slots = self.cluster.slots()
        for node in self._faults.keys() - {
            slot.node for slot in slots
        }:  # it is gone, and may come back mended
            del self._faults[node]
            self._excluded.discard(node)
        for state in self.slots.update(slot for slot in slots if slot.node not in self._excluded):
            if state.worker is not None:
                self._end_worker(state)
        for notice in self.cluster.notices():
            self.callbacks.on_message(notice)
        self._show_open(before)
        if (
            self._excluded
            and not self.slots.open()
            and not any(state.trial for state in self.slots)
        ):
            raise SweepInterruptedError(
                f"no worker can go on: {self._last_fault}; the same command continues."
            )

    def _start(self, state: SlotState, study: Study, pending: PendingTrial) -> None:
        assert state.worker is not None
        state.trial = study, pending
        plan = study.plan
        number = pending.number
        params = pending.params
        folder = study.folder(number)
        self.uploader.watch(folder)
        self.callbacks.on_trial_start(
            plan.name,
            number,
            plan.describe(number, params),
            plan.epochs(params),
            pending.epochs_done,
        )
        if (
            ended := recorded_end(folder)
        ) is not None:  # its end is written, but the study was not told
            self._ended(state, ended)
            return
        self.slots.begin(state)
        request = TrainRequest(
            overrides=tuple(plan.overrides(params, study.threads)),
            config_dirs=self.config_dirs,
            folder=folder,
            run_info=study.run_info(pending),
            data_sha256=plan.data_sha256,
        )
        state.busy_since = time.monotonic()
        state.worker.train(request, study.threads)

    def _listen(self) -> None:
        workers = [state.worker for state in self.slots if state.worker is not None]
        for worker in self.cluster.wait(workers, POLL_SECONDS):
            self._handle(self.slots.of(worker), worker.next_event())

    def _handle(self, state: SlotState, event: Event) -> None:
        match event:
            case WorkerReady():  # it is handed a trial with the next look
                state.device = event.device or state.slot.device
            case EpochDone():
                self._answer(state, event)
            case TrialEnded():
                self._ended(state, event)
            case OutOfMemory():
                self._out_of_memory(state, event)
            case NodeFault():
                self._node_fault(state, event.reason)
            case WorkerExited():
                self._exited(state, event)

    def _answer(self, state: SlotState, event: EpochDone) -> None:
        """Tell the worker whether to stop after this epoch."""
        assert state.trial is not None
        assert state.worker is not None
        study, pending = state.trial
        value = event.metrics[self.settings.metric]
        stop = study.report(pending.number, event.epoch, value)
        state.worker.answer(stop=stop)
        self.callbacks.on_epoch(study.plan.name, pending.number, event.epoch, value)
        self._faults.pop(state.slot.node, None)

    def _ended(self, state: SlotState, ended: TrialEnded) -> None:
        assert state.trial is not None
        study, pending = state.trial
        state.trial = None
        self.finalizer.finalize(study, pending, ended)

    def _interrupted(self, state: SlotState, reason: str) -> None:
        """The trial, whose worker has let go of its folder, goes on later."""
        assert state.trial is not None
        study, pending = state.trial
        state.trial = None
        self._end_run(study.folder(pending.number))
        self.finalizer.interrupt(study, pending, reason)

    def _end_run(self, folder: Path) -> None:
        """No run is shown as running that nobody trains."""
        if (folder / journal.JOURNAL).exists():
            journal.finalize_if_dead(folder)

    def _exited(self, state: SlotState, event: WorkerExited) -> None:
        """A worker is gone: its trial goes on in another one, unless the trial was the reason."""
        started = state.worker is not None and state.worker.is_ready
        self._end_worker(state)
        if state.trial is None:
            if not started and not event.node_lost:
                self._count_fault(state.slot.node, event.reason)
            return
        if event.node_lost:
            self._interrupted(state, event.reason)
            return
        study, pending = state.trial
        folder = study.folder(pending.number)
        if not event.external and not (folder / journal.JOURNAL).exists():
            raise SweepError(
                f"no worker can start: {event.reason}; multirun/workers.log tells why."
            )
        epochs = max(journal.history(folder), default=0)
        before, times = self._exits.get(folder, (epochs, 0))
        times = times + 1 if before == epochs else 1
        self._exits[folder] = epochs, times
        if event.external and times < MAX_EXITS_WITHOUT_PROGRESS:
            self._interrupted(state, event.reason)
        else:
            again = (
                f"{event.reason} {times} times in epoch "
                f"{epochs + 1}; perhaps the memory is too small"
            )
            self._ended(
                state, TrialEnded(TrialStatus.failed, again if event.external else event.reason)
            )

    def _out_of_memory(self, state: SlotState, event: OutOfMemory) -> None:
        """The trial goes on when there is room for it, unless it had the memory to itself."""
        self._end_worker(state)
        before = self._capacity()
        if self.slots.out_of_memory(state, whole_node=event.whole_node):
            self._ended(state, TrialEnded(TrialStatus.failed, event.reason))
        else:
            self._interrupted(state, event.reason)
        self._show_open(before)

    def _node_fault(self, state: SlotState, reason: str) -> None:
        """The trial goes on elsewhere, or here, unless the node goes on like this."""
        self._count_fault(state.slot.node, reason)
        self._end_worker(state)
        self._interrupted(state, reason)

    def _count_fault(self, node: str, reason: str) -> None:
        now = time.monotonic()
        (times, last) = self._faults.get(node, (0, -math.inf))
        if now - last < FAULT_SECONDS:
            return
        self._faults[node] = (times + 1, now)
        self._last_fault = reason
        if times + 1 >= MAX_FAULTS_WITHOUT_PROGRESS:
            self._excluded.add(node)
            if node:
                self.callbacks.on_message(f"node {node} gets no more trials: {reason}")

    def _show_open(self, before: int) -> None:
        workers = self._capacity()
        if workers == before:
            return
        self.callbacks.on_workers_change(workers)
        total = int(min(self._limit, sum(not state.is_gone for state in self.slots)))
        text = f"{workers} of {total} workers from now on"
        self.callbacks.on_message(text if workers else "no worker is left; waiting for one")

    def _end_overdue(self) -> None:
        limit = self.settings.trial_timeout or math.inf
        for state in self.slots:
            seconds = time.monotonic() - state.busy_since
            if state.trial is not None and seconds > limit:
                self._end_worker(state, timeout=0)
                self._ended(
                    state,
                    TrialEnded(
                        TrialStatus.failed, f"it took longer than trial_timeout={limit:g} seconds"
                    ),
                )
            elif state.worker is not None and not state.worker.is_ready and seconds > START_SECONDS:
                self._end_worker(state)
                reason = f"no worker starts on node {state.slot.node} within {START_SECONDS:.0f} s"
                self._count_fault(state.slot.node, reason)

    def _capacity(self) -> int:
        """How many trials can be trained at the same time."""
        return int(min(self._limit, len(self.slots.open())))

    def _end_worker(self, state: SlotState, timeout: float = SECONDS_TO_STOP) -> None:
        worker = state.worker
        state.worker = None
        assert worker is not None
        worker.terminate()
        worker.close(timeout)
