"""Several hosts on one study: how much faster, what the storage costs, and what is lost when hosts and servers fail.

python benchmarks/hosts.py speed | drivers [--drivers 32] | storage | failures [--rounds 20]

Workers sleep instead of training (tests/pretend), so that the two cores of a laptop do not hide what is measured.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import h5py
import optuna
from cluster import GRACE, Cluster, Host, started
from studies import SPACE, Studies, sweeper, write

from svhn_sweep.data.synthetic import draw
from svhn_sweep.sweep import storage
from svhn_sweep.sweep.claims import Claims
from svhn_sweep.sweep.patience import PatientStorage
from svhn_sweep.sweep.study import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "drivers", "storage", "failures"])
    parser.add_argument("--drivers", type=int, default=32)
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


def drivers(servers: Cluster, count: int) -> None:
    """Many drivers with trials of 1 s: what the storage has to do, and how long drivers wait for it."""
    waits = servers.folder / "waits"
    arguments = command(servers, "many", f"hydra.sweeper.n_trials={10 * count}", "hydra.sweeper.workers=1")
    hosts = [servers.host(PRETEND_SECONDS="0.25", SWEEP_WAITS=str(waits)) for _ in range(count)]
    statements = calls(servers)
    for process in [host.start(*arguments) for host in hosts]:
        process.communicate()
    trials = servers.study("many").trials
    starts, ends = zip(*[times(trial) for trial in trials], strict=True)
    lines = [[float(word) for word in line.split()] for line in waits.read_text().splitlines()]
    print(f"{count} drivers: {shown(trials)}; {len(trials) / (max(ends) - min(starts)):.2f} trials/s")
    print(f"  {(calls(servers) - statements) / len(trials):.0f} statements for each trial")
    shares = [100 * line[1] / line[2] for line in lines]
    print(
        f"  waiting for the storage: {statistics.median(shares):.1f} % of a driver's time, at most {max(shares):.1f} %"
    )


def calls(servers: Cluster) -> int:
    """Statements that Optuna's database has executed so far."""
    query = (
        "SELECT sum(calls) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'optuna')"
    )
    with servers.postgres.connect("optuna") as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(str(row[0] or 0))


def asking(servers: Cluster) -> None:
    """One ask and one tell, in studies of some sizes."""
    os.environ.update(servers.postgres.environment)
    kept = storage.connect(storage.url(servers.postgres.storage))
    assert isinstance(kept, PatientStorage)
    for size in (10, 100, 1000):
        with Claims(kept, 60) as claims, tempfile.TemporaryDirectory() as folder:
            plan = Studies(Path(folder)).plan(n_trials=100_000, fingerprint=str(size))
            study = optuna.create_study(storage=kept, study_name=f"study{size}", direction="maximize")
            study.add_trials([finished(number) for number in range(size)])
            plan = replace(plan, name=f"study{size}")
            own = Study(plan, sweeper(sampler="tpe"), kept, 1, prune=False, claims=claims)
            asks, tells, statements = [], [], calls(servers)
            for _ in range(20):
                since = time.perf_counter()
                assignment = own.next()
                assert assignment is not None
                asks.append(time.perf_counter() - since)
                write(own, assignment.number, 0.5, 0.6, 0.7)
                since = time.perf_counter()
                own.tell(assignment.number, "complete", "")
                tells.append(time.perf_counter() - since)
            each = (calls(servers) - statements) / 20
            print(
                f"{size} trials: ask {milliseconds(asks)}, tell {milliseconds(tells)}, {each:.0f} statements for both"
            )


def finished(number: int) -> optuna.trial.FrozenTrial:
    chosen = random.Random(number)
    params = {
        "training.learning_rate": 10 ** chosen.uniform(-4, -2),
        "model.dense_units": chosen.randint(1, 1000),
        "model.batch_norm": chosen.random() < 0.5,
    }
    attributes = {"state": "complete", "owner": "somebody"}
    return optuna.trial.create_trial(
        params=params, distributions=dict(SPACE), value=chosen.random(), user_attrs=attributes
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
        servers.postgres.stop()
        time.sleep(2 * GRACE)
        servers.postgres.start()
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
