"""The scheduler's loop: hand out trials, answer their epochs, tell the studies how they ended."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from svhn_sweep.errors import SweepError, SweepInterruptedError
from svhn_sweep.sweep.endings import Endings
from svhn_sweep.sweep.record import ending
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.sweep.storage import DATABASE_ERRORS
from svhn_sweep.sweep.study import Assignment, Study
from svhn_sweep.sweep.view import View
from svhn_sweep.sweep.workers.protocol import (
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
from svhn_sweep.tracking import journal
from svhn_sweep.tracking.live import Live

POLL_SECONDS = 1.0
SECONDS_TO_STOP = 4.0
MAX_EXITS_WITHOUT_PROGRESS = 3  # of workers under one trial, before the trial is thought to be the reason
MAX_FAULTS_WITHOUT_PROGRESS = 3  # of a node, before it gets no more trials


class Scheduler:
    """Has the trials of studies trained by the workers of a cluster, which live until they are stopped."""

    def __init__(self, settings: SweeperConfig, cluster: Cluster, config_dirs: Sequence[str], live: Live) -> None:
        """`live`: shows trials in MLflow."""
        self.settings, self.cluster, self.live = settings, cluster, live
        self.config_dirs = tuple(config_dirs)
        self.slots = WorkerSlots(cluster.slots())
        self._exits: dict[Path, tuple[int, int]] = {}  # by trial: in which epoch, how often in a row
        self._faults: dict[str, int] = {}  # by node: how often in a row
        self._last_fault = ""

    def run_until_done(
        self,
        studies: Sequence[Study],
        view: View,
        deadline: float = math.inf,
        told: Callable[[Study], object] = lambda study: None,
    ) -> bool:
        """Train until the studies have nothing left (true) or `time.monotonic` is past the deadline (false).

        Args:
            studies: the first one's trials come first.
            view: is told what happens.
            deadline: what is being trained then can be continued.
            told: called with a study when one of its trials has ended.

        Raises:
            SweepError: too many trials failed in a row, or no worker can start.
        """
        self.view, self.endings = view, Endings(self.settings, view, told)
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
        with suppress(*DATABASE_ERRORS):  # what it is not told now, the next start finds out
            for state in self.slots:
                state.worker = None
                if state.trial is not None:
                    self._interrupt_or_tell(state)

    def _interrupt_or_tell(self, state: SlotState) -> None:
        assert state.trial is not None
        study, assignment = state.trial
        state.trial = None
        folder = study.folder(assignment.number)
        if (ended := ending(folder)) is not None:
            self.endings.tell(study, assignment, ended)
            return
        if (folder / journal.JOURNAL).exists():
            journal.has_ended(folder)
        self.endings.interrupted(study, assignment, "")

    def _hand_out(self, studies: Sequence[Study]) -> bool:
        """Give every idle worker a trial; returns whether anything is being trained."""
        self._look_at_cluster()
        for state in self.slots.open():
            while state.trial is None and (study := next((each for each in studies if each.has_next()), None)):
                if state.worker is not None and not state.worker.can_train(study.threads):
                    self._end_worker(state)
                if state.worker is None:
                    state.worker = self.cluster.start(state.slot)
                if not state.worker.is_ready:
                    break
                assignment = study.next()
                assert assignment is not None
                self._start(state, study, assignment)
        return any(state.trial is not None for state in self.slots) or any(study.has_next() for study in studies)

    def _look_at_cluster(self) -> None:
        """Nodes may have come or gone."""
        before = len(self.slots.open())
        faulty = {node for node, times in self._faults.items() if times >= MAX_FAULTS_WITHOUT_PROGRESS}
        for state in self.slots.update(slot for slot in self.cluster.slots() if slot.node not in faulty):
            self._faults.pop(state.slot.node, None)
            if state.worker is not None:
                self._end_worker(state)
        for notice in self.cluster.notices():
            self.view.say(notice)
        self._show_open(before)
        if not self.slots.open() and not any(state.trial for state in self.slots) and faulty:
            raise SweepInterruptedError(f"no worker can go on: {self._last_fault}; the same command continues.")

    def _start(self, state: SlotState, study: Study, assignment: Assignment) -> None:
        assert state.worker is not None
        state.trial = study, assignment
        plan, number, params = study.plan, assignment.number, assignment.params
        folder = study.folder(number)
        self.live.follow(folder)
        self.view.started(plan.name, number, plan.describe(number, params), plan.epochs(params), assignment.epochs_done)
        if (ended := ending(folder)) is not None:  # its end is written, but the study was not told
            self._ended(state, ended)
            return
        self.slots.begin(state)
        request = TrainRequest(
            overrides=tuple(plan.overrides(params, study.threads)),
            config_dirs=self.config_dirs,
            folder=folder,
            run_info=study.run_info(assignment),
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
            case WorkerReady():
                pass  # it is handed a trial with the next look
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
        study, assignment = state.trial
        value = event.metrics[self.settings.metric]
        stop = study.report(assignment.number, event.epoch, value)
        state.worker.answer(stop=stop)
        self.view.epoch(study.plan.name, assignment.number, event.epoch, value)
        self._faults.pop(state.slot.node, None)

    def _ended(self, state: SlotState, ended: TrialEnded) -> None:
        assert state.trial is not None
        study, assignment = state.trial
        state.trial = None
        self.endings.ended(study, assignment, ended)

    def _interrupted(self, state: SlotState, reason: str) -> None:
        assert state.trial is not None
        study, assignment = state.trial
        state.trial = None
        self.endings.interrupted(study, assignment, reason)

    def _exited(self, state: SlotState, event: WorkerExited) -> None:
        """A worker is gone: its trial goes on in another one, unless the trial was the reason."""
        started = state.worker is not None and state.worker.is_ready
        self._end_worker(state)
        if state.trial is None:
            if not started:
                self._count_fault(state.slot.node, event.reason)
            return
        study, assignment = state.trial
        folder = study.folder(assignment.number)
        if not event.external and not (folder / journal.JOURNAL).exists():
            raise SweepError(f"no worker can start: {event.reason}; multirun/workers.log tells why.")
        epochs = max(journal.history(folder), default=0)
        before, times = self._exits.get(folder, (epochs, 0))
        times = times + 1 if before == epochs else 1
        self._exits[folder] = epochs, times
        if event.external and times < MAX_EXITS_WITHOUT_PROGRESS:
            self._interrupted(state, event.reason)
        else:
            again = f"{event.reason} {times} times in epoch {epochs + 1}; perhaps the memory is too small"
            self._ended(state, TrialEnded("failed", again if event.external else event.reason))

    def _out_of_memory(self, state: SlotState, event: OutOfMemory) -> None:
        """The trial goes on when there is room for it, unless it had the memory to itself."""
        self._end_worker(state)
        before = len(self.slots.open())
        if self.slots.out_of_memory(state, whole_node=event.whole_node):
            self._ended(state, TrialEnded("failed", event.reason))
        else:
            self._interrupted(state, event.reason)
        self._show_open(before)

    def _node_fault(self, state: SlotState, reason: str) -> None:
        """The trial goes on elsewhere, or here, unless the node goes on like this."""
        self._count_fault(state.slot.node, reason)
        self._end_worker(state)
        self._interrupted(state, reason)

    def _count_fault(self, node: str, reason: str) -> None:
        self._faults[node] = self._faults.get(node, 0) + 1
        self._last_fault = reason
        if self._faults[node] == MAX_FAULTS_WITHOUT_PROGRESS and node:
            self.view.say(f"node {node} gets no more trials: {reason}")

    def _show_open(self, before: int) -> None:
        self.view.workers = len(self.slots.open())
        if self.view.workers != before:
            self.view.say(f"{self.view.workers} of {sum(1 for _ in self.slots)} workers from now on")

    def _end_overdue(self) -> None:
        limit = self.settings.trial_timeout
        if limit is None:
            return
        for state in self.slots:
            if state.trial is not None and time.monotonic() - state.busy_since > limit:
                self._end_worker(state, timeout=0)
                self._ended(state, TrialEnded("failed", f"it took longer than trial_timeout={limit:g} seconds"))

    def _end_worker(self, state: SlotState, timeout: float = SECONDS_TO_STOP) -> None:
        worker, state.worker = state.worker, None
        assert worker is not None
        worker.terminate()
        worker.close(timeout)
