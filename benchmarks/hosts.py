"""Several hosts on one study: how much faster, what the storage costs, and what is lost when hosts and servers fail.

python benchmarks/hosts.py speed | drivers [--drivers 1 4 8 16 32] | storage | failures [--rounds 20]

Workers sleep instead of training (tests/pretend), so that the two cores of a laptop do not hide what is measured.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import h5py
import optuna
from cluster import GRACE, Cluster, Host, started
from optuna.trial import TrialState
from studies import SPACE, Studies, sweeper, write

from svhn_sweep.data.synthetic import draw
from svhn_sweep.sweep import storage
from svhn_sweep.sweep.claims import Claims
from svhn_sweep.sweep.patience import PatientStorage
from svhn_sweep.sweep.settings import PrunerConfig
from svhn_sweep.sweep.study import Study

Answer = TypeVar("Answer")

WINDOW = 30.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "drivers", "storage", "failures"])
    parser.add_argument("--drivers", type=int, nargs="*", default=[1, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with cluster() as servers:
        if arguments.what == "speed":
            speed(servers)
        elif arguments.what == "drivers":
            drivers(servers, arguments.drivers)
        elif arguments.what == "storage":
            asking(servers)
        else:
            failures(servers, arguments.rounds)


@contextmanager
def cluster() -> Iterator[Cluster]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "HYDRA_"))}
    with started(environment) as servers:
        with servers.postgres.connect("optuna") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        with h5py.File(servers.folder / "small.h5", "w") as file:
            file["X_train"], file["y_train"] = draw(300, seed=(7, 300))
        yield servers


def command(servers: Cluster, name: str, *more: str) -> list[str]:
    data = [
        "-m",
        "optuna",
        "data=svhn",
        f"data.path={servers.folder / 'small.h5'}",
        "model=model1",
        "training.epochs=4",
    ]
    small = ["hydra.sweeper.confirm=null", "hydra.sweeper.pruner.name=none", f"hydra.sweeper.takeover_after={GRACE}"]
    return [
        *data,
        *small,
        f"hydra.sweeper.storage={servers.postgres.storage}",
        f"hydra.sweeper.study_name={name}",
        *more,
    ]


def speed(servers: Cluster) -> None:
    """The same 40 trials of 20 s on one host with two workers and on four."""
    seconds: dict[int, list[float]] = {}
    for count in (1, 4):
        arguments = command(servers, f"on{count}", "hydra.sweeper.n_trials=40", "hydra.sweeper.workers=2")
        began = time.monotonic()
        for process in [servers.host(PRETEND_SECONDS="5").start(*arguments) for _ in range(count)]:
            process.communicate()
        trials = servers.study(f"on{count}").trials
        starts, ends = zip(*[times(trial) for trial in trials], strict=True)
        seconds[count] = [time.monotonic() - began, max(ends) - min(starts)]
        print(f"{count} hosts: {shown(trials)}; {seconds[count][0]:.1f} s in all, {seconds[count][1]:.1f} s of trials")
    whole, inside = (one / four for one, four in zip(seconds[1], seconds[4], strict=True))
    print(
        f"4 hosts are {whole:.2f} times as fast as 1, {inside:.2f} times from the first trial's start to the last's end"
    )


def times(trial: optuna.trial.FrozenTrial) -> tuple[float, float]:
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    return trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()


def shown(trials: Sequence[optuna.trial.FrozenTrial]) -> str:
    states = Counter(str(trial.user_attrs.get("state", "none")) for trial in trials)
    twice = len(trials) - len({str(trial.params) for trial in trials})
    return f"{', '.join(f'{count} {state}' for state, count in states.items())}, {twice} twice"


def drivers(servers: Cluster, counts: Sequence[int]) -> None:
    """Drivers with one worker each and trials of 1 s, in the middle of their work: how many trials, at what price."""
    print(
        f"{'drivers':>7} {'trials/s':>8} {'waiting':>8} {'statements':>10} {'requests':>8}  CPU seconds, for each trial"
    )
    for count in counts:
        waits, ready = servers.folder / f"waits{count}", servers.folder / f"ready{count}"
        arguments = command(servers, f"many{count}", "hydra.sweeper.n_trials=100000", "hydra.sweeper.workers=1")
        pruner = [
            "hydra.sweeper.pruner.name=median",
            "hydra.sweeper.pruner.startup_trials=1000000",
        ]  # asks, ends nothing
        arguments = [*arguments, *pruner, "hydra.sweeper.trials_per_worker=1000000"]
        paths = {"PRETEND_AFTER": str(ready), "SWEEP_WAITS": str(waits)}
        hosts = [servers.host(PRETEND_SECONDS="0.25", **paths) for _ in range(count)]  # type: ignore[arg-type]
        processes = [host.start(*arguments) for host in hosts]
        study = f"many{count}"
        while owners(servers, study) < count:
            time.sleep(1)
        ready.touch()
        time.sleep(5)
        began, before = time.monotonic(), counted(servers, study)
        time.sleep(WINDOW)
        ended, after = time.monotonic(), counted(servers, study)
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.communicate()
        moments = [tuple(map(float, line.split())) for line in waits.read_text().splitlines()]
        waited = sum(seconds for moment, seconds in moments if began < moment < ended)
        trials = after["trials"] - before["trials"]
        each = {key: (after[key] - before[key]) / trials for key in after}
        shares = ", ".join(f"{key} {each[key]:.3f}" for key in GROUPS.values())
        print(
            f"{count:>7} {trials / (ended - began):>8.2f} {100 * waited / (ended - began) / count:>6.1f} % "
            f"{each['statements']:>10.0f} {each['requests']:>8.1f}  {shares}"
        )


GROUPS = {
    b" optuna ": "PostgreSQL for Optuna",
    b" mlflow ": "PostgreSQL for MLflow",
    b"uvicorn": "MLflow",
    b"svhn_sweep.sweep.worker": "worker",
    b"svhn_sweep\0-m": "driver",
}


def counted(servers: Cluster, study: str) -> dict[str, float]:
    """Since they started: finished trials, statements in Optuna's database, requests to MLflow, CPU seconds."""
    ticks = dict.fromkeys(GROUPS.values(), 0.0)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, spent = (process / "cmdline").read_bytes(), (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        group = next((group for key, group in GROUPS.items() if key in name), None)
        if group is not None and not name.startswith(b"ip\0"):
            ticks[group] += sum(map(int, spent[11:13])) / os.sysconf("SC_CLK_TCK")
    requests = (servers.folder / "mlflow" / "mlflow.log").read_bytes().count(b" HTTP/1.1")
    complete = "SELECT count(*) FROM trials NATURAL JOIN studies WHERE study_name = %s AND state = 'COMPLETE'"
    finished = ask(servers, complete, study)
    return {"trials": finished, "statements": calls(servers), "requests": requests} | ticks


def owners(servers: Cluster, study: str) -> int:
    """How many drivers have begun a trial."""
    return len({trial.user_attrs.get("owner") for trial in trials_of(servers, study)} - {None})


def ask(servers: Cluster, query: str, *values: str) -> int:
    """A number from Optuna's database."""
    with servers.postgres.connect("optuna") as connection:
        row = connection.execute(query, values or None).fetchone()
    assert row is not None
    return int(str(row[0] or 0))


def calls(servers: Cluster) -> int:
    """Statements that Optuna's database has executed so far."""
    found = "SELECT oid FROM pg_database WHERE datname = 'optuna'"
    return ask(servers, f"SELECT sum(calls) FROM pg_stat_statements WHERE dbid = ({found})")


def asking(servers: Cluster) -> None:
    """What one trial asks of the storage, in studies of some sizes, with other trials running at the same time."""
    os.environ.update(servers.postgres.environment)
    kept = storage.connect(storage.url(servers.postgres.storage))
    assert isinstance(kept, PatientStorage)
    for size, running in ((10, 0), (100, 0), (1000, 0), (1000, 30), (1000, 100), (1000, 300)):
        with Claims(kept, 60) as claims, tempfile.TemporaryDirectory() as folder:
            name = f"study{size}-{running}"
            study = optuna.create_study(storage=kept, study_name=name, direction="maximize")
            study.add_trials([past(number) for number in range(size)])
            study.add_trials([past(number, TrialState.RUNNING) for number in range(size, size + running)])
            plan = replace(Studies(Path(folder)).plan(n_trials=100_000, fingerprint=name), name=name)
            own = Study(plan, sweeper(sampler="tpe", pruner=PrunerConfig("median", 5, 0)), kept, 1, claims=claims)
            print(f"{size} trials, {running} of others running: {asked(servers, own)}")


def asked(servers: Cluster, study: Study) -> str:
    """Time and statements of one ask, one report and one tell."""
    seconds: dict[str, list[float]] = {}
    statements: Counter[str] = Counter()

    def timed(what: str, do: Callable[[], Answer]) -> Answer:
        before, since = calls(servers), time.perf_counter()
        answer = do()
        seconds.setdefault(what, []).append(time.perf_counter() - since)
        statements[what] += calls(servers) - before - 1  # the count itself
        return answer

    for _ in range(20):
        assignment = timed("ask", study.next)
        assert assignment is not None
        timed("report", partial(study.report, assignment.number, 1, 0.5))
        write(study, assignment.number, 0.5)
        timed("tell", partial(end, study, assignment.number))
    each = [f"{what} {milliseconds(spent)}, {statements[what] / 20:.0f} statements" for what, spent in seconds.items()]
    return "; ".join(each)


def end(study: Study, number: int) -> None:
    study.tell(number, "complete", "")
    for _ in range(3):  # the terminal and the leaderboard look at all trials
        study.finished()


def past(number: int, state: TrialState = TrialState.COMPLETE) -> optuna.trial.FrozenTrial:
    chosen = random.Random(number)
    params = {
        "training.learning_rate": 10 ** chosen.uniform(-4, -2),
        "model.dense_units": chosen.randint(1, 1000),
        "model.batch_norm": chosen.random() < 0.5,
    }
    return optuna.trial.create_trial(
        state=state,
        params=params,
        distributions=dict(SPACE),
        value=chosen.random() if state == TrialState.COMPLETE else None,
        intermediate_values={epoch: chosen.random() for epoch in range(1, 16)},
        user_attrs={"state": "complete", "owner": "somebody"},
    )


def milliseconds(seconds: Sequence[float]) -> str:
    found = sorted(1000 * each for each in seconds)
    return f"{statistics.median(found):.0f} ms ({found[0]:.0f} to {found[-1]:.0f})"


def failures(servers: Cluster, rounds: int) -> None:
    """Each round: three hosts, and something happens to one of them or to a server."""
    chosen = random.Random(0)
    kinds = ["host killed", "host cut off", "PostgreSQL away", "MLflow restarted"]
    for number in range(rounds):
        kind = kinds[number % len(kinds)]
        name = f"round{number}"
        arguments = command(servers, name, "hydra.sweeper.n_trials=12", "hydra.sweeper.workers=1")
        hosts = [servers.host(PRETEND_SECONDS="1") for _ in range(3)]
        processes = [host.start(*arguments) for host in hosts]
        while not all(list(host.path.glob(f"multirun/{name}/hosts/*/mlflow.json")) for host in hosts):
            time.sleep(0.2)  # who joins while a server is away is refused
        time.sleep(chosen.uniform(0, 8))
        before = {trial.number: trial.user_attrs.get("owner") for trial in trials_of(servers, name)}
        strike(servers, kind, hosts[0])
        codes = [process.wait(300) for process in processes]
        after = trials_of(servers, name)
        moved = sum(1 for trial in after if before.get(trial.number) not in (None, trial.user_attrs.get("owner")))
        print(
            f"{number + 1}. {kind}: exit codes {codes}; {shown(after)}; {moved} taken over; {in_mlflow(servers, name)}"
        )
        for process in processes:
            process.communicate()


def trials_of(servers: Cluster, name: str) -> list[optuna.trial.FrozenTrial]:
    try:
        return servers.study(name).trials
    except KeyError:  # not yet created
        return []


def strike(servers: Cluster, kind: str, host: Host) -> None:
    if kind == "host killed":
        host.kill()
    elif kind == "host cut off":
        assert servers.network is not None
        servers.network.cut(host.namespace)
        time.sleep(3 * GRACE)
        servers.network.cut(host.namespace, off=False)
    elif kind == "PostgreSQL away":
        with servers.postgres.away():
            time.sleep(2 * GRACE)
    else:
        servers.mlflow.stop()
        time.sleep(GRACE)
        servers.mlflow.start()


def in_mlflow(servers: Cluster, name: str) -> str:
    runs = servers.runs(name)
    parents = [run for run in runs if run.data.tags["role"] == "sweep"]
    statuses = Counter(run.info.status for run in runs if run not in parents)
    doubles = len(runs) - len(parents) - len({run.data.tags["trial.number"] for run in runs if run not in parents})
    return f"MLflow: {len(parents)} parent, {dict(statuses)}, {doubles} twice"


if __name__ == "__main__":
    main()
