"""Does a sweep that is killed and started again end as one that was not?

python benchmarks/chaos.py --rounds 30 [--seed N] [--folder DIR]

--rounds N   random kills, several in each sweep
--short      one small sweep, six kills at chosen moments
--scenes     kills that chance rarely brings together

Each round is a sweep in a folder of its own. SIGKILL hits a worker, the driver, or both with all
others, at a named moment (between Optuna's answer and the trial's values, in the middle of a
checkpoint, ...) or after some seconds; the same command is started until it exits with 0. Then
promises.py looks at what is left.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = (
    "-1"  # the sweeps are on the CPU, and so must be what they are compared with
)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import promises

KILL = Path(__file__).parent / "kill"  # its sitecustomize.py does what a Kill says
GONE_WITHIN = 5.0  # seconds, for workers whose driver is dead
LONGEST = 240.0  # seconds of one start
MOST_STARTS = 20
TINY = (
    "data=synthetic",
    "data.train_size=200",
    "data.test_size=40",
    "training.epochs=6",
    "training.batch_size=16",
)
SWEEPER = (
    "hydra.sweeper.workers=2",
    "hydra.sweeper.pruner.startup_trials=1",
    "hydra.sweeper.pruner.min_resource=1",
    "hydra.sweeper.max_consecutive_failures=100",
)
FILTERS = tuple(f"model.filters.conv{layer}=2" for layer in (1, 2))
MORE_FILTERS = tuple(f"model.filters.conv{layer}=2" for layer in (3, 4))
FATAL = ("driver", "all")


@dataclass(frozen=True)
class Variant:
    """A sweep: the user's arguments, and the numbers among them that the result is held to."""

    arguments: tuple[str, ...]
    n_trials: int
    epochs: int
    seeds: int | None
    models: int = 1

    def command(self, folder: Path) -> list[str]:
        confirm = "confirm=null" if self.seeds is None else f"confirm.seeds={self.seeds}"
        return [
            *(sys.executable, "-m", "svhn_sweep", "-m", "optuna", f"data.folder={folder}/digits"),
            *(
                *self.arguments,
                *SWEEPER,
                f"hydra.sweeper.n_trials={self.n_trials}",
                f"hydra.sweeper.{confirm}",
            ),
        ]


MODEL1 = ("model=model1", *TINY, *FILTERS)
SHORT = ("model=model1", *TINY[:3], "training.epochs=4", *TINY[4:], *FILTERS)
MODEL2 = ("model=model2", *TINY, *FILTERS, *MORE_FILTERS)
DIVERGING = (*MODEL1, "training.learning_rate=choice(1e-3,1e-4,1e30)")
LONG = (
    "model=model2",
    "data=synthetic",
    "data.train_size=2000",
    "data.test_size=40",
    "training.epochs=2",
)
VARIANTS = {
    "model1": Variant(MODEL1, 6, 6, 2),
    "model1 alone": Variant(MODEL1, 6, 6, None),
    "short": Variant(SHORT, 4, 4, None),
    "model2": Variant((*MODEL2, "training.augmentation.enabled=true"), 6, 6, 2),
    "both": Variant(("model=model1,model2", *TINY, *FILTERS), 4, 6, 2, models=2),
    "diverging": Variant(DIVERGING, 6, 6, 2),
    "long epochs": Variant(
        (*LONG, "training.batch_size=4", "training.schedule=plateau"), 3, 2, None
    ),
}


@dataclass(frozen=True)
class Kill:
    """Who is killed when: see kill/sitecustomize.py; without a moment it is after `seconds`."""

    victim: str
    process: str = ""
    side: str = ""
    moment: str = ""
    nth: int = 1
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.moment:
            return f"{self.victim} after {self.seconds:.1f} s"
        return (
            f"{self.victim} {self.side} {self.moment.partition(':')[2]} "
            f"in the {self.process}, time {self.nth}"
        )


# In the order in which a sweep comes to them; how often each happens at least in a search of 6
# trials.
DRIVER = {
    "svhn_sweep.data.synthetic:build": 1,
    "optuna.storages._rdb.storage:RDBStorage.__init__": 1,
    "svhn_sweep.sweep.study.study_storage:connect": 1,
    "optuna.study.study:create_study": 1,
    "optuna.study.study:Study.set_user_attr": 2,
    "optuna.study.study:Study.enqueue_trial": 1,
    "svhn_sweep.sweep.report.study_run:StudyRun.start": 1,
    "svhn_sweep.tracking.journal:Journal.start": 1,
    "optuna.study.study:Study.ask": 4,
    "optuna.trial._trial:Trial.suggest_float": 8,
    "svhn_sweep.files:create_atomically": 2,
    "mlflow.tracking.client:MlflowClient.create_experiment": 1,
    "mlflow.tracking.client:MlflowClient.create_run": 4,
    "mlflow.tracking.client:MlflowClient.log_batch": 20,
    "mlflow.tracking.client:MlflowClient.update_run": 1,
    "svhn_sweep.tracking.upload_state:save": 30,
    "svhn_sweep.sweep.study.study:Study.report": 10,
    "optuna.trial._trial:Trial.report": 10,
    "svhn_sweep.sweep.study.study:Study.tell": 4,
    "optuna.trial._trial:Trial.set_user_attr": 8,
    "optuna.study.study:Study.tell": 4,
    "svhn_sweep.sweep.report.study_run:StudyRun.update": 4,
    "mlflow.tracking.client:MlflowClient.log_artifact": 10,
    "mlflow.tracking.client:MlflowClient.set_terminated": 3,
    "svhn_sweep.sweep.report.study_run:StudyRun.write_report": 1,
    "svhn_sweep.sweep.selection.confirmation:plan_confirmation": 1,
    "mlflow.tracking.client:MlflowClient.create_logged_model": 1,
    "mlflow.tracking.client:MlflowClient.finalize_logged_model": 1,
    "svhn_sweep.sweep.workers.local:LocalMachine.evaluate": 1,
    "svhn_sweep.tracking.registry:register": 1,
    "mlflow.tracking.client:MlflowClient.create_model_version": 1,
    "mlflow.tracking.client:MlflowClient.set_registered_model_alias": 1,
    "svhn_sweep.sweep.report.study_run:StudyRun.end": 1,
}
WORKER = {
    "svhn_sweep.tracking.journal:Journal.start": 4,
    "svhn_sweep.tracking.journal:Journal.log_params": 4,
    "svhn_sweep.training.fit:fit": 4,
    "svhn_sweep.training.progress:Progress.on_train_batch_end": 20,  # up to 16 batches each
    "svhn_sweep.training.checkpoint:save": 15,
    "numpy:savez": 15,  # in the middle of saving: the file is open, or not yet in its place
    "svhn_sweep.tracking.journal:Journal.log_metrics": 15,
    "multiprocessing.connection:Connection.send": 15,
    "svhn_sweep.tracking.saved_model:save_model": 1,
    "svhn_sweep.tracking.journal:Journal.end": 4,
    "svhn_sweep.tracking.saved_model:load_model": 1,
}
FIRST_WITH_WORKERS = "optuna.trial._trial:Trial.report"
ORDER = [*DRIVER, *(moment for moment in WORKER if moment not in DRIVER)]


def deck(chance: random.Random) -> list[Kill]:
    """Every moment in every process, before and after, with a victim drawn for each; shuffled."""
    kills = []
    for process, moments in (("driver", DRIVER), ("worker", WORKER)):
        for moment, most in moments.items():
            for side in ("before", "after"):
                alone = process == "driver" and ORDER.index(moment) < ORDER.index(
                    FIRST_WITH_WORKERS
                )
                victim = chance.choice(FATAL if alone else ("worker", *FATAL))
                kills.append(Kill(victim, process, side, moment, chance.randint(1, most)))
    chance.shuffle(kills)
    return kills


SIX_KILLS = [
    Kill("all", "driver", "after", "optuna.study.study:Study.ask"),
    Kill("worker", "worker", "before", "svhn_sweep.tracking.journal:Journal.start"),
    Kill(
        "driver", "worker", "after", "svhn_sweep.training.progress:Progress.on_train_batch_end", 3
    ),
    Kill("worker", "worker", "after", "numpy:savez", 3),
    Kill("all", "driver", "before", "optuna.study.study:Study.tell", 2),
    Kill("driver", "driver", "before", "svhn_sweep.sweep.report.study_run:StudyRun.write_report"),
]
SCENES = {  # what random kills rarely meet
    "the baseline is late": [
        Kill("worker", "worker", "before", "svhn_sweep.tracking.journal:Journal.start"),
        Kill("all", "driver", "after", "optuna.study.study:Study.tell"),
    ],
    "nothing is left to do": [
        Kill("driver", "driver", "after", "optuna.study.study:Study.tell", 6)
    ],
}


@dataclass
class Round:
    """A sweep, started until it is through."""

    folder: Path
    variant: Variant
    waiting: list[Kill]
    happened: list[Kill] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    orphans: list[float] = field(
        default_factory=list
    )  # how many seconds workers outlived their driver
    starts: int = 0

    def __post_init__(self) -> None:
        self.work = self.folder / "work"
        self.work.mkdir(parents=True)
        self.mark = f"CHAOS_FOLDER={self.folder}"

    def play(self) -> None:
        """Start the command until it exits with 0."""
        while self.starts < MOST_STARTS:
            fatal = [kill for kill in self.waiting if kill.victim in FATAL][:1]
            armed = fatal + [kill for kill in self.waiting if kill.victim == "worker"][:1]
            before = len(self.happened)
            code = self.start(armed)
            happened = self.happened[before:]
            self.waiting = [kill for kill in self.waiting if kill not in happened]
            self.outlived(happened)
            if code == 0:
                return
            killed = code == -signal.SIGKILL and any(kill.victim in FATAL for kill in happened)
            judging = code == 1 and any(
                "evaluate" in kill.moment or "load_model" in kill.moment for kill in happened
            )
            if not killed and not judging:
                self.broken.append(
                    f"start {self.starts} exited with {code} after "
                    f"{[str(kill) for kill in happened]}"
                )
                return
        self.broken.append(f"not through after {MOST_STARTS} starts")

    def start(self, armed: Sequence[Kill]) -> int:
        """Run the command once and note which kills happened; returns its exit code."""
        self.starts += 1
        told = self.folder / f"told-{self.starts}.jsonl"
        kills = [
            asdict(kill)
            | {"count": str(self.folder / f"count-{self.starts}-{index}"), "told": str(told)}
            for index, kill in enumerate(armed)
            if kill.moment
        ]
        plain = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MLFLOW_", "HYDRA_", "CUDA_"))
        }
        path = os.pathsep.join([str(KILL), *filter(None, [os.environ.get("PYTHONPATH")])])
        hook = {
            "PYTHONPATH": path,
            "CHAOS_KILLS": json.dumps(kills),
            "CHAOS_FOLDER": str(self.folder),
        }
        with (self.folder / "log.txt").open("a") as log:
            log.write(f"\n--- start {self.starts}: {'; '.join(map(str, armed)) or 'no kill'}\n")
            log.flush()
            process = subprocess.Popen(
                self.variant.command(self.folder.parent),
                cwd=self.work,
                env=plain | hook,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            code = self.watch(process, [kill for kill in armed if not kill.moment])
        names = {(each["moment"], each["side"], each["victim"]) for each in promises.told(told)}
        self.happened += [
            kill for kill in armed if kill.moment and (kill.moment, kill.side, kill.victim) in names
        ]
        return code

    def watch(self, process: subprocess.Popen[bytes], timed: Sequence[Kill]) -> int:
        """Wait for the end of the driver; meanwhile do what is to be done after some seconds."""
        began = time.monotonic()
        left = list(timed)
        while process.poll() is None:
            seconds = time.monotonic() - began
            if left and seconds > left[0].seconds and self.kill(process, left[0]):
                self.happened.append(left.pop(0))
            if seconds > LONGEST:
                self.broken.append(f"start {self.starts} was still running after {LONGEST:.0f} s")
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.02)
        return int(process.wait())

    def kill(self, process: subprocess.Popen[bytes], kill: Kill) -> bool:
        """Kill somebody now; returns whether there was somebody."""
        if kill.victim == "all":
            os.killpg(process.pid, signal.SIGKILL)
        elif kill.victim == "driver":
            process.kill()
        else:
            workers = [
                number
                for number, command in promises.processes(self.mark)
                if "svhn_sweep.sweep.workers.worker_main" in command
            ]
            if not workers:
                return False
            os.kill(max(workers), signal.SIGKILL)
        return True

    def outlived(self, happened: Sequence[Kill]) -> None:
        """Nobody is left soon after the driver's end, however it ended."""
        ended = time.monotonic()
        while left := list(promises.processes(self.mark)):
            if time.monotonic() - ended > GONE_WITHIN:
                self.broken.append(f"after {[str(kill) for kill in happened]} still there: {left}")
                for number, _ in left:
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.05)
        self.orphans.append(time.monotonic() - ended)

    def judge(self, known: dict[str, promises.History]) -> None:
        variant = self.variant
        result = promises.Result(
            self.work, variant.epochs, variant.n_trials, variant.seeds, variant.models
        )
        self.broken += promises.broken(result, known)


def drawn(chance: random.Random, cards: list[Kill], variant: str, kills: int) -> list[Kill]:
    """So many kills for one sweep, in the order in which they can happen."""
    named = 0 if variant == "long epochs" else kills - chance.randint(0, 1)
    timed = [
        Kill(chance.choice(("worker", *FATAL)), seconds=chance.uniform(0.5, 20))
        for _ in range(kills - named)
    ]
    named_ones = sorted(
        (cards.pop() for _ in range(min(named, len(cards)))),
        key=lambda kill: ORDER.index(kill.moment),
    )
    return [*named_ones, *timed]


def play(
    folder: Path, variant: str, kills: list[Kill], known: dict[str, promises.History]
) -> Round:
    began = time.monotonic()
    played = Round(folder, VARIANTS[variant], kills)
    played.play()
    through = time.monotonic() - began
    if not played.broken:
        played.judge(known)
    looked = time.monotonic() - began - through
    print(
        f"{folder.name} {variant}: {played.starts} starts in "
        f"{through:.0f} s, {looked:.0f} s to look"
    )
    print(f"    workers outlived their driver by {max(played.orphans):.1f} s at most")
    for kill in played.happened:
        print(f"    killed: {kill}")
    for kill in played.waiting:
        print(f"    not reached: {kill}")
    for each in played.broken:
        print(f"    BROKEN: {each}")
    if played.broken:
        print(f"    see {folder}")
    sys.stdout.flush()
    return played


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--kills", type=int, default=3, help="in each sweep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--moment", default="", help="only moments that contain this")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--scenes", action="store_true")
    options = parser.parse_args()
    folder: Path = (options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))).absolute()
    known: dict[str, promises.History] = {}
    rounds: list[Round] = []
    for scene, kills in SCENES.items() if options.scenes else ():
        rounds.append(play(folder / scene, "model1 alone", kills, known))
    if options.short:
        rounds.append(play(folder / "short", "short", SIX_KILLS, known))
    chance = random.Random(options.seed)
    cards: list[Kill] = []
    for number in range(0 if options.short or options.scenes else options.rounds):
        variant = options.variant or list(VARIANTS)[number % len(VARIANTS)]
        if len(cards) < options.kills:
            cards = [kill for kill in deck(chance) if options.moment in kill.moment]
        kills = drawn(chance, cards, variant, options.kills)
        rounds.append(play(folder / f"round-{number + 1}", variant, kills, known))
    happened = [kill for played in rounds for kill in played.happened]
    print(
        f"{len(rounds)} sweeps, {len(happened)} kills: "
        f"{dict(Counter(kill.victim for kill in happened))}"
    )
    print(f"{len(known)} interrupted trials compared with one trained in one go")
    return int(any(played.broken or (options.short and played.waiting) for played in rounds))


if __name__ == "__main__":
    sys.exit(main())
