"""The driver's loop: hand out trials, hear of their epochs, tell the studies how they ended."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from svhn_sweep.errors import SweepError
from svhn_sweep.sweep.endings import Endings, finished
from svhn_sweep.sweep.messages import Ended, Epoch, Judge, Judged, OutOfMemory, Task
from svhn_sweep.sweep.open_places import OpenPlaces
from svhn_sweep.sweep.ownership import TakenOverError
from svhn_sweep.sweep.patience import OutOfReachError
from svhn_sweep.sweep.pool import SECONDS_TO_STOP, Places, Worker
from svhn_sweep.sweep.record import ending, record
from svhn_sweep.sweep.settings import SweeperConfig
from svhn_sweep.sweep.study import Assignment, Study
from svhn_sweep.sweep.view import View
from svhn_sweep.tracking import journal
from svhn_sweep.tracking.live import Live

POLL_SECONDS = 1.0
ANSWER_SECONDS = 5.0  # after which a trial goes on without the driver's word: his database may be away
LOOK_SECONDS = 2.0  # between two looks at what other drivers have left to do
DEATHS_WITHOUT_PROGRESS = 3  # of workers under one trial, before the trial is thought to be the reason


class Driver:
    """Has studies worked off by worker processes, one at each place, which live until they are stopped."""

    def __init__(
        self, settings: SweeperConfig, places: Places, config_dirs: Sequence[str], log: Path, live: Live
    ) -> None:
        """`log`: of what workers print outside their trials; `live`: shows trials in MLflow."""
        self.settings, self.places, self.config_dirs = settings, places, tuple(config_dirs)
        self.log, self.live = log, live
        self.workers: dict[int, Worker] = {}  # by place
        self.open = OpenPlaces(places)
        self.tasks: dict[int, tuple[Study, Assignment]] = {}
        self.deaths: dict[Path, tuple[int, int]] = {}  # by trial: in which epoch, how often in a row
        self.look_again = 0.0  # of `time.monotonic`

    def work_off(
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
            self.stop(hurry=True)
            raise
        return True

    def judge(self, task: Judge) -> dict[str, list[float]]:
        """Have a worker judge models on test.

        Raises:
            SweepError: it could not.
        """
        reason, place = "", next(iter(self.open))
        for _ in range(DEATHS_WITHOUT_PROGRESS):
            if place not in self.workers:
                self.workers[place] = Worker(self.places.devices[place], self.log)
            try:
                self.workers[place].connection.send(task)
                answer = self.workers[place].connection.recv()
            except (EOFError, OSError):
                reason = self.workers[place].death()[1]
                self._end_worker(place)
                continue
            if isinstance(answer, Judged):
                return answer.accuracies
            assert isinstance(answer, Ended)
            reason = answer.reason
            break
        raise SweepError(f"the models could not be judged on test: {reason}; the same command tries again.")

    def stop(self, *, hurry: bool = False) -> None:
        """End the workers; what they were training can be continued. `hurry`: whatever becomes of the database."""
        for worker in self.workers.values():
            worker.process.terminate()
        end = time.monotonic() + SECONDS_TO_STOP
        for worker in self.workers.values():
            worker.close(end - time.monotonic())
        self.workers = {}
        while self.tasks:
            _, (study, assignment) = self.tasks.popitem()
            folder = study.folder(assignment.number)
            if hurry:
                study.hurry()
            with suppress(OutOfReachError):
                if (ended := ending(folder)) is not None:
                    self.endings.tell(study, assignment, ended)
                    continue
                if (folder / journal.JOURNAL).exists():
                    journal.has_ended(folder)
                self.endings.interrupted(study, assignment, "")

    def _hand_out(self, studies: Sequence[Study]) -> bool:
        """Give every idle worker a trial; returns whether anything is being trained, here or by another driver."""
        if time.monotonic() < self.look_again:
            return True
        for place in self.open:
            while place not in self.tasks:
                study, assignment = next(((each, new) for each in studies if (new := each.next())), (None, None))
                if study is None or assignment is None:
                    return bool(self.tasks) or self._wait_for_others(studies)
                self.tasks[place] = study, assignment
                self._start(place)
        return True

    def _wait_for_others(self, studies: Sequence[Study]) -> bool:
        """Whether other drivers are still at work, whose trials may be left to this one."""
        for study in studies:
            self.view.others(study.plan.name, finished(study))
        self.look_again = time.monotonic() + LOOK_SECONDS
        return not all(study.is_over() for study in studies)

    def _start(self, place: int) -> None:
        study, assignment = self.tasks[place]
        plan, number, params = study.plan, assignment.number, assignment.params
        folder = study.folder(number)
        self.live.follow(folder)
        words = plan.describe(number, params)
        words += f"; taken over from {assignment.former}" if assignment.former is not None else ""
        self.view.started(plan.name, number, words, plan.epochs(params), assignment.epochs_done)
        if (ended := ending(folder)) is not None:  # its end is written, but the study was not told
            self._ended(place, ended)
            return
        if assignment.former is not None and not study.sees(assignment.former):
            with record(study, assignment) as opened:
                opened.supersede({"study": plan.name, "trial.number": number}, f"{assignment.former} was lost")
        self.open.begin(place)
        worker = self.workers.get(place)
        if worker is not None and not worker.can_train(study.threads, self.settings.trials_per_worker):
            self._end_worker(place)
        if place not in self.workers:
            self.workers[place] = Worker(self.places.devices[place], self.log)
        with suppress(OSError):  # it is dead, which is heard at once
            overrides = tuple(plan.overrides(params, study.threads))
            patience = ANSWER_SECONDS if study.claims is not None else None
            task = Task(overrides, self.config_dirs, folder, study.label(assignment), patience)
            self.workers[place].train(task, study.threads)

    def _listen(self) -> None:
        by_connection = {worker.connection: place for place, worker in self.workers.items()}
        for connection in wait(list(by_connection), POLL_SECONDS):
            place = by_connection[connection]  # type: ignore[index]
            try:
                message = self.workers[place].connection.recv()
            except (EOFError, OSError):
                self._died(place)
                continue
            if isinstance(message, Epoch):
                self._answer(place, message)
            elif isinstance(message, OutOfMemory):
                self._out_of_memory(place, message.reason)
            elif isinstance(message, Ended):
                self._ended(place, message)

    def _answer(self, place: int, message: Epoch) -> None:
        """Tell the worker whether to stop after this epoch."""
        study, assignment = self.tasks[place]
        value = message.metrics[self.settings.metric]
        try:
            stop = study.report(assignment.number, message.epoch, value)
        except TakenOverError as other:
            self._end_worker(place)
            del self.tasks[place]
            self.endings.drop(study, assignment, other)
            return
        self.view.epoch(study.plan.name, assignment.number, message.epoch, value)
        with suppress(OSError):
            self.workers[place].connection.send(stop)

    def _ended(self, place: int, ended: Ended) -> None:
        self.endings.ended(*self.tasks.pop(place), ended)

    def _died(self, place: int) -> None:
        """A worker is gone: its trial goes on in another one, unless the trial was the reason."""
        stopped, reason = self.workers[place].death()
        self._end_worker(place)
        if place not in self.tasks:
            return
        study, assignment = self.tasks[place]
        folder = study.folder(assignment.number)
        if not stopped and not (folder / journal.JOURNAL).exists():
            raise SweepError(f"no worker can start: {reason}; {self.log} tells why.")
        epochs = max(journal.history(folder), default=0)
        before, times = self.deaths.get(folder, (epochs, 0))
        times = times + 1 if before == epochs else 1
        self.deaths[folder] = epochs, times
        if stopped and times < DEATHS_WITHOUT_PROGRESS:
            del self.tasks[place]
            self.endings.interrupted(study, assignment, reason)
        else:
            again = f"{reason} {times} times in epoch {epochs + 1}; perhaps the memory is too small"
            self._ended(place, Ended("failed", again if stopped else reason))

    def _out_of_memory(self, place: int, reason: str) -> None:
        """The trial goes on when there is a place for it, unless it had the device to itself."""
        study, assignment = self.tasks[place]
        self._end_worker(place)
        before = len(self.open)
        if self.open.out_of_memory(place):
            self._ended(place, Ended("failed", reason))
        else:
            del self.tasks[place]
            self.endings.interrupted(study, assignment, reason)
        self.view.workers = len(self.open)
        if len(self.open) != before:
            self.view.say(f"{len(self.open)} of {len(self.places.devices)} workers from now on")

    def _end_overdue(self) -> None:
        limit = self.settings.trial_timeout
        for place in list(self.tasks):
            if limit is not None and time.monotonic() - self.workers[place].busy_since > limit:
                self.workers[place].process.kill()
                self._end_worker(place)
                self._ended(place, Ended("failed", f"it took longer than trial_timeout={limit:g} seconds"))

    def _end_worker(self, place: int) -> None:
        worker = self.workers.pop(place)
        worker.process.terminate()
        worker.close(SECONDS_TO_STOP)
