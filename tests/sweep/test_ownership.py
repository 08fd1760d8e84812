"""Drivers that share a study in a real PostgreSQL: whose each trial is, and who may tell of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from optuna.trial import Trial, TrialState
from servers import Postgres, postgres_programs
from studies import BASELINE, Studies, sweeper, train, write

from svhn_sweep.sweep import storage
from svhn_sweep.sweep.claims import Claims
from svhn_sweep.sweep.ownership import TakenOverError
from svhn_sweep.sweep.patience import PatientStorage
from svhn_sweep.sweep.plan import Params
from svhn_sweep.sweep.study import Assignment, Study

pytestmark = [
    pytest.mark.skipif(postgres_programs() is None, reason="needs PostgreSQL: apt-get install postgresql"),
]

GRACE = 0.6
NEW: Params = {"training.learning_rate": 2e-3, "model.dense_units": 64, "model.batch_norm": True}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with TemporaryDirectory(prefix="svhn_sweep") as folder:
        Path(folder).chmod(0o755)  # for PostgreSQL's user, who may not enter pytest's own folders
        server = Postgres(Path(folder))
        server.create()
        yield server
        server.stop()


@pytest.fixture
def driver(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Study]]:
    """`driver(grace=..., **plan)`: another host's, with a folder of its own, in this test's study."""
    monkeypatch.setenv("PGPASSWORD", server.password)
    with ExitStack() as stack:
        hosts: list[Studies] = []

        def start(grace: float = GRACE, **plan: object) -> Study:
            kept = storage.connect(storage.url(server.storage))
            assert isinstance(kept, PatientStorage)
            stack.callback(kept.engine.dispose)
            claims = stack.enter_context(Claims(kept, grace))
            hosts.append(Studies(tmp_path / f"host-{len(hosts)}"))
            planned = replace(hosts[-1].plan(**plan), name=request.node.name)  # type: ignore[arg-type]
            return Study(planned, sweeper(), kept, 1, prune=False, claims=claims)

        yield start


def begin(study: Study) -> Assignment:
    assignment = study.next()
    assert assignment is not None
    return assignment


def stand_still(study: Study) -> None:
    """As a host does that is cut off, or dead."""
    assert study.claims is not None
    study.claims._closing.set()
    study.claims._thread.join()


def take_over(study: Study) -> Assignment:
    """Wait for the trial of a driver that stands still."""
    for _ in range(300):
        if (assignment := study.next()) is not None:
            return assignment
        time.sleep(GRACE / 10)
    raise TimeoutError


@pytest.mark.parametrize("budget", [1, 3])
def test_the_budget_is_that_of_all_drivers_together(driver: Callable[..., Study], budget: int) -> None:
    first, second = driver(n_trials=budget), driver(n_trials=budget)
    begun = [study.next() for study in (first, second, first, second)]
    assert [each.number for each in begun if each is not None] == list(range(budget))


def test_of_drivers_that_ask_in_the_same_moment_those_of_lower_numbers_have_the_budget(
    driver: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = driver(n_trials=1), driver(n_trials=1)
    ask = slow.optuna.ask

    def overtaken() -> Trial:
        assert begin(fast).number == 0
        return ask()

    monkeypatch.setattr(slow.optuna, "ask", overtaken)
    assert slow.next() is None
    states = [(trial.state, trial.user_attrs.get("state")) for trial in slow.optuna.trials]
    assert states == [(TrialState.RUNNING, None), (TrialState.FAIL, "surplus")]
    assert [trial.number for trial in slow.trials()] == [0]


def test_who_was_cut_off_while_it_asked_leaves_the_trial_to_who_has_it(
    driver: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, heir = driver(n_trials=1), driver(n_trials=1)
    ask = slow.optuna.ask

    def cut_off() -> Trial:
        trial = ask()
        stand_still(slow)
        heir.next()  # looks for the first time, and finds no heartbeat
        assert take_over(heir).number == trial.number
        return trial

    monkeypatch.setattr(slow.optuna, "ask", cut_off)
    assert slow.next() is None
    (trial,) = heir.trials()
    assert heir.ownership.has(trial)


def test_a_living_drivers_trial_is_left_to_it(driver: Callable[..., Study]) -> None:
    living, other = driver(grace=2, n_trials=1), driver(grace=2, n_trials=1)
    begin(living)
    time.sleep(4)
    assert other.next() is None
    assert not other.is_over()
    assert other.ownership.others_at_work()


def test_a_dead_drivers_trial_is_the_first_ones_who_asks(driver: Callable[..., Study]) -> None:
    dead, heir, other = (driver(n_trials=1) for _ in range(3))
    lost = begin(dead)
    stand_still(dead)
    taken = take_over(heir)
    assert (taken.number, taken.params, taken.former) == (lost.number, lost.params, dead.claims and dead.claims.owner)
    assert other.next() is None
    (trial,) = other.trials()
    assert heir.ownership.has(trial)
    assert not dead.ownership.has(trial)


def report(study: Study) -> object:
    return study.report(0, 1, 0.5)


def tell(study: Study) -> object:
    write(study, 0, 0.5)
    return study.tell(0, "complete", "")


def interrupt(study: Study) -> None:
    study.interrupted(0)


@pytest.mark.parametrize("heirs", ["takes it", "takes and tells it"])
def test_who_loses_a_trial_in_the_middle_of_telling_is_not_heard(
    driver: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, heirs: str
) -> None:
    former, heir = driver(n_trials=1), driver(n_trials=1)
    begin(former)
    write(former, 0, 0.5)
    set_user_attr = Trial.set_user_attr

    def cut_off(trial: Trial, key: str, value: object) -> None:
        if key == "seconds" and trial.study is former.optuna:
            stand_still(former)
            take_over(heir)
            if heirs == "takes and tells it":
                write(heir, 0, 0.7)
                heir.tell(0, "complete", "")
        set_user_attr(trial, key, value)

    monkeypatch.setattr(Trial, "set_user_attr", cut_off)
    with pytest.raises(TakenOverError):
        former.tell(0, "complete", "")
    former.drop(0)
    if heirs == "takes it":
        write(heir, 0, 0.7)
        heir.tell(0, "complete", "")
    assert [trial.value for trial in former.finished()] == [0.7]


@pytest.mark.parametrize("late", [report, tell, interrupt])
@pytest.mark.parametrize("told", [False, True])
def test_what_its_former_driver_says_of_a_trial_is_not_heard(
    driver: Callable[..., Study], late: Callable[[Study], object], told: bool
) -> None:
    former, heir = driver(n_trials=1), driver(n_trials=1)
    begin(former)
    stand_still(former)
    take_over(heir)
    if told:
        write(heir, 0, 0.7)
        heir.tell(0, "complete", "")
    assert heir.claims is not None
    with pytest.raises(TakenOverError, match=f"{heir.claims.owner} has it now"):
        late(former)
    former.drop(0)
    if not told:
        write(heir, 0, 0.7)
        heir.tell(0, "complete", "")
    assert [trial.value for trial in former.finished()] == [0.7]
    assert former.next() is None


def test_nobody_takes_over_before_it_was_in_touch_for_the_grace_period(driver: Callable[..., Study]) -> None:
    dead = driver(n_trials=1)
    begin(dead)
    stand_still(dead)
    time.sleep(3)
    new = driver(grace=3, n_trials=1)
    assert new.next() is None  # it has just come
    assert take_over(new).number == 0


def test_what_a_driver_gives_back_is_anybodys_at_once(driver: Callable[..., Study]) -> None:
    stopped, other = driver(grace=600, n_trials=1), driver(grace=600, n_trials=1)
    begin(stopped)
    stopped.interrupted(0)
    assert stopped.claims is not None
    stopped.claims.__exit__()
    assert begin(other).number == 0


def test_what_was_queued_twice_is_trained_once(driver: Callable[..., Study]) -> None:
    """The database died after it had queued the trial and before it could say so: the driver queued it again."""
    study = driver(n_trials=None, queue=(BASELINE, NEW))
    study.optuna.enqueue_trial(dict(NEW))
    trained = [train(study, 0.5).params for _ in range(2)]
    assert trained == [BASELINE, NEW]
    assert study.next() is None
    assert study.n_trials == len(study.finished()) == 2


def test_what_failed_and_was_queued_twice_is_trained_again(driver: Callable[..., Study]) -> None:
    study = driver(n_trials=None)
    study.optuna.enqueue_trial(dict(BASELINE))
    first = begin(study)
    assert study.next() is None  # the second is superfluous
    write(study, first.number, 0.5)
    study.tell(first.number, "failed", "")
    assert begin(driver(n_trials=None)).params == BASELINE


def test_what_failed_and_was_queued_again_is_trained_again(driver: Callable[..., Study]) -> None:
    train(driver(n_trials=None), 0.5, state="failed")
    again = driver(n_trials=None)
    assert begin(again).params == BASELINE
