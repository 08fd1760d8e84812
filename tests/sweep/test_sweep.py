"""The sweep as a user types it; afterwards Optuna's trials are compared with MLflow's runs."""

import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from folder import Folder
from omegaconf import OmegaConf
from sweeps import assert_runs_match_trials, runs_of, small, study_names, trials_of

from svhn_sweep.tracking import journal

Command = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning"
    ),  # SQLite connections of MLflow and Optuna
]


def workers_of(folder: Folder) -> list[int]:
    """The ids of the package's processes that run in the folder."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"svhn_sweep" in command and (process / "cwd").readlink() == folder.path:
                pids.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return pids


def until_epoch(process: subprocess.Popen[str], folder: Folder, epoch: int) -> None:
    """Waits until some trial has finished the epoch and all started trials are in MLflow."""
    for _ in range(2400):
        trials = [path.parent for path in folder.path.glob("multirun/*/trial-*/journal.jsonl")]
        trained = epochs_of(folder) >= epoch
        if trained and all((trial / "mlflow.json").exists() for trial in trials):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise TimeoutError(f"no trial finished epoch {epoch}")


def epochs_of(folder: Folder) -> int:
    """The most finished epochs of a trial."""
    trials = folder.path.glob("multirun/*/trial-*")
    return max((max(journal.history(trial), default=0) for trial in trials), default=0)


def start(folder: Folder, *arguments: str) -> "subprocess.Popen[str]":
    """Starts a sweep and waits until some trial has finished two epochs more."""
    epoch = epochs_of(folder) + 2
    process = folder.start(*arguments)
    until_epoch(process, folder, epoch)
    return process


def test_a_stopped_sweep_is_continued_by_the_same_command(
    pretending: Folder, small_h5: Path
) -> None:
    """It is interrupted and terminated; a second driver is refused meanwhile.

    The digits have no test split, which only a confirmation needs; with `--config-dir`.
    """
    folder = pretending
    (folder.path / "own (é)").mkdir()
    with h5py.File(small_h5) as whole, h5py.File(folder.path / "train.h5", "w") as train:
        for name in ("X_train", "y_train"):
            train[name] = whole[name][:]
    sweep = small(
        "data=svhn",
        "data.path=train.h5",
        "training.epochs=60",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.confirm=null",
        "hydra.sweeper.pruner.name=none",
        "hydra.sweeper.workers=2",
    )
    command = ("--config-dir=own (é)", *sweep)
    quick = folder.environment
    folder.environment = quick | {"PRETEND_SECONDS": "1"}
    process = start(folder, *command)
    second = folder.run(*command)
    assert second.returncode == 2
    assert f"another process ({process.pid}) already runs the study" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "svhn_sweep: interrupted\n")
    assert workers_of(folder) == []
    *_, message, same = stdout.splitlines()
    assert message == "Nothing is lost. The same command continues:"
    assert shlex.split(same)[:3] == ["python", "-m", "svhn_sweep"]
    assert_all_interrupted(folder)

    process = start(folder, *shlex.split(same)[3:])
    process.terminate()
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (143, "svhn_sweep: interrupted\n")
    assert re.search(r"continues: \d of 3 trials finished; trial \d after epoch \d", stdout)
    assert re.search(r"trial \d  starts at epoch ([2-9]|\d\d)/60", stdout)
    assert workers_of(folder) == []
    assert_all_interrupted(folder)

    folder.environment = quick
    result = folder.run(*shlex.split(same)[3:])
    assert result.returncode == 0, result.stderr
    assert re.search(r"trial \d  starts at epoch ([3-9]|\d\d)/60", result.stdout)
    (study,) = study_names(folder)
    assert_runs_match_trials(folder, study, 3)
    assert "RUNNING" not in {run.info.status for run in folder.runs()}

    with_test = [argument for argument in command if "confirm" not in argument]
    refused = folder.run(*with_test)
    assert refused.returncode == 2
    assert (
        "X_test is missing; the file holds X_train, y_train. A sweep evaluates its"
        in refused.stderr
    )
    assert folder.client.search_registered_models() == []


def assert_all_interrupted(folder: Folder) -> None:
    assert {run.info.status for run in folder.runs()} == {"KILLED"}
    assert {run.data.tags["trial.state"] for run in folder.runs()} == {"interrupted"}


@pytest.fixture
def failing_trials(folder: Folder) -> dict[str, str]:
    """An environment in which trials 1 to 4 fail, each in another way."""
    return folder.python_begins_with(
        "if 'svhn_sweep.sweep.workers.worker_main' in sys.orig_argv:\n"
        "    import faulthandler, os, signal, time\n"
        "    def fail(config, splits, parts, journal, *others):\n"
        "        number = int(journal.folder.name[-4:])\n"
        "        if number == 1:\n"
        "            faulthandler._sigsegv()\n"
        "        if number == 2:\n"
        "            raise RuntimeError('no luck')\n"
        "        if number == 3:\n"
        "            time.sleep(1000)\n"
        "        if number == 4:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return sleep(config, splits, parts, journal, *others)\n"
        "    trial._train_and_evaluate = fail\n",
        pretend=True,
    )


def test_a_failed_trial_does_not_end_the_sweep(
    folder: Folder, small_h5: Path, failing_trials: dict[str, str]
) -> None:
    result = folder.run(
        *small(
            "data=svhn", f"data.path={small_h5}", "training.epochs=2", "hydra.sweeper.n_trials=6"
        ),
        "hydra.sweeper.confirm=null",
        "hydra.sweeper.trial_timeout=15",
        "hydra.sweeper.max_consecutive_failures=6",
        **failing_trials,
    )
    assert result.returncode == 0, result.stderr
    (study,) = study_names(folder)
    assert_runs_match_trials(folder, study, 6)
    states = {
        number: (run.data.tags["trial.state"], run.data.tags["trial.reason"])
        for number, run in runs_of(folder, study).items()
    }
    assert states[0] == states[5] == ("complete", "")
    for number, (state, reason) in {
        1: ("failed", "the worker was ended by SIGSEGV"),
        2: ("failed", "RuntimeError: no luck"),
        3: ("failed", "it took longer than trial_timeout=15 seconds"),
        4: (
            "failed",
            "the worker was ended by SIGKILL 3 times in epoch 1; perhaps the memory is too small",
        ),
    }.items():
        assert states[number][0] == state
        assert reason in states[number][1]
    assert (
        "Segmentation fault"
        in (folder.path / "multirun" / study / "trial-0001" / "trial.log").read_text()
    )
    assert "traceback.txt" in folder.artifacts(runs_of(folder, study)[2])
    assert workers_of(folder) == []


def test_a_trial_out_of_memory_reduces_the_workers_and_fails_as_the_only_one(
    folder: Folder, small_h5: Path
) -> None:
    environment = folder.python_begins_with(
        "if 'svhn_sweep.sweep.workers.worker_main' in sys.orig_argv:\n"
        "    def short(config, splits, parts, journal, command, should_stop, weights, resumable):\n"
        "        def full(epoch, metrics):\n"
        "            if journal.folder.name == 'trial-0001':\n"
        "                raise MemoryError('OOM when allocating')\n"
        "            return should_stop(epoch, metrics)\n"
        "        return sleep(config, splits, parts, journal, command, full, weights, resumable)\n"
        "    trial._train_and_evaluate = short\n",
        pretend=True,
    )
    result = folder.run(
        *small(
            "data=svhn", f"data.path={small_h5}", "training.epochs=2", "hydra.sweeper.n_trials=4"
        ),
        "hydra.sweeper.confirm=null",
        "hydra.sweeper.pruner.name=none",
        "hydra.sweeper.workers=2",
        **environment,
    )
    assert result.returncode == 0, result.stderr
    counts = re.findall(r"(\d of \d) workers from now on", result.stdout)
    assert counts == ["1 of 2", "2 of 2"]  # all others are trained after it
    (study,) = study_names(folder)
    assert_runs_match_trials(folder, study, 4)
    runs = runs_of(folder, study)
    states = [runs[number].data.tags["trial.state"] for number in range(4)]
    assert states == ["complete", "failed", "complete", "complete"]
    assert "out of memory" in runs[1].data.tags["trial.reason"]


def test_if_no_worker_can_start_no_trial_fails(folder: Folder, small_h5: Path) -> None:
    environment = folder.python_begins_with(
        "import sys\nif 'svhn_sweep.sweep.workers.worker_main' in sys.orig_argv:\n  "
        "  sys.exit('no TensorFlow here')\n"
    )
    command = small(
        "data=svhn", f"data.path={small_h5}", "training.epochs=1", "hydra.sweeper.n_trials=2"
    )
    result = folder.run(*command, **environment)
    assert result.returncode == 1
    assert result.stderr == (
        "svhn_sweep: no worker can start: the worker ended with exit code 1; "
        "multirun/workers.log tells why.\n"
    )
    assert "no TensorFlow here" in (folder.path / "multirun" / "workers.log").read_text()
    (study,) = study_names(folder)
    assert {state for _, state in trials_of(folder, study)} == {"WAITING"}


def test_consecutive_failures_end_the_sweep(
    folder: Folder, small_h5: Path, failing_trials: dict[str, str]
) -> None:
    result = folder.run(
        *small(
            "data=svhn", f"data.path={small_h5}", "training.epochs=1", "hydra.sweeper.n_trials=9"
        ),
        "hydra.sweeper.workers=1",
        "hydra.sweeper.max_consecutive_failures=2",
        **failing_trials,
    )
    assert result.returncode == 1
    assert (
        "svhn_sweep: 2 trials failed in a row, the last one because: RuntimeError: no luck"
        in result.stderr
    )
    (study_run,) = [run for run in folder.runs() if run.data.tags["role"] == "sweep"]
    assert study_run.info.status == "FAILED"


def test_a_sweep_in_which_nothing_is_complete_fails(folder: Folder, small_h5: Path) -> None:
    environment = folder.python_begins_with(
        "if 'svhn_sweep.sweep.workers.worker_main' in sys.orig_argv:\n"
        "    def fail(*others):\n"
        "        raise RuntimeError('no luck')\n"
        "    trial._train_and_evaluate = fail\n",
        pretend=True,
    )
    command = small(
        "data=svhn", f"data.path={small_h5}", "training.epochs=1", "hydra.sweeper.n_trials=2"
    )
    for _ in range(2):  # the second time nothing is trained
        result = folder.run(*command, "hydra.sweeper.workers=1", **environment)
        assert result.returncode == 1
        assert re.fullmatch(
            r"svhn_sweep: no trial of the sweep is complete: trial 1 of model1-\w+ failed, "
            r"RuntimeError: no luck\.\n",
            result.stderr,
        )
    (study_run,) = [run for run in folder.runs() if run.data.tags["role"] == "sweep"]
    assert study_run.info.status == "FAILED"


def test_a_dry_run_prints_the_commands_of_trials(
    in_process: Command, tmp_path: Path, small_h5: Path
) -> None:
    result = in_process(
        *small(
            "data=svhn", f"data.path={small_h5}", "training.epochs=1", "hydra.sweeper.dry_run=true"
        )
    )
    assert result.returncode == 0, result.stderr
    assert "COPIES" not in result.stdout
    assert list(tmp_path.iterdir()) == []
    commands = [
        line for line in result.stdout.splitlines() if line.startswith("python -m svhn_sweep ")
    ]
    assert len(commands) == 3
    arguments = shlex.split(commands[0])
    composed = in_process("--cfg", "job", *arguments[3:])
    assert composed.returncode == 0, composed.stderr
    config, typed = (
        OmegaConf.create(composed.stdout),
        dict(argument.split("=", 1) for argument in arguments[3:]),
    )
    for key in ("training.learning_rate", "model.filters.conv1"):
        assert OmegaConf.select(config, key) == float(typed[key])


def test_a_validation_unlike_the_digits_trained_on_and_copies_are_warned_of_once(
    in_process: Command, tmp_path: Path, small_h5: Path
) -> None:
    with h5py.File(small_h5) as file, h5py.File(tmp_path / "sorted.h5", "w") as by_label:
        for split in ("train", "test"):
            order = np.argsort(file[f"y_{split}"][:])
            for name in (f"X_{split}", f"y_{split}"):
                by_label[name] = file[name][:][order]
        by_label["X_test"][3] = by_label["X_train"][0]
    result = in_process(
        "-m", "optuna", "data=svhn", "data.path=sorted.h5", "hydra.sweeper.dry_run=true"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Validation, the end of X_train, has no 0, 1, 2") == 1
    line = (
        "COPIES: 1 of 100 test images are exact copies of images in X_train; "
        f"see python -m svhn_sweep audit {tmp_path / 'sorted.h5'}\n"
    )
    assert result.stdout.count(line) == 1


@pytest.mark.parametrize(
    ("study", "files", "message"),
    [
        ("driver.log", [], "hydra.sweeper.study_name must not be driver.log or workers.log, the"),
        ("s", ["multirun/s"], "the study s must be a folder but "),
        ("s", ["multirun"], "multirun must be a folder but "),
    ],
)
def test_a_taken_name_is_refused(
    in_process: Command, tmp_path: Path, small_h5: Path, study: str, files: list[str], message: str
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    before = sorted(tmp_path.rglob("*"))
    data = ("data=svhn", f"data.path={small_h5}")
    result = in_process(*small(*data, f"hydra.sweeper.study_name={study}"))
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_timeout_interrupts_the_trials(pretending: Folder, small_h5: Path) -> None:
    folder = pretending
    command = small(
        "data=svhn",
        f"data.path={small_h5}",
        "training.epochs=10000",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.workers=2",
        "hydra.sweeper.pruner.name=none",  # a fast machine would prune one before time is over
    )
    result = folder.run(*command, "hydra.sweeper.timeout=8")
    assert result.returncode == 0, result.stderr
    assert "timeout=8 s is over: the same command continues the search" in result.stdout
    assert re.search(r"with hydra.sweeper.n_trials=[12] it finishes what was begun", result.stdout)
    (study_run,) = [run for run in folder.runs() if run.data.tags["role"] == "sweep"]
    assert (study_run.info.status, study_run.data.tags["trial.state"]) == ("KILLED", "interrupted")
    assert folder.client.search_registered_models() == []
    (study,) = study_names(folder)
    # waiting if the workers take longer to start
    assert {state for _, state in trials_of(folder, study)} <= {"RUNNING", "WAITING"}
    states = {run.data.tags["trial.state"] for run in runs_of(folder, study).values()}
    assert states <= {"interrupted"}


def test_a_dead_server_costs_one_warning_and_no_data(
    pretending: Folder, small_h5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretending
    monkeypatch.chdir(folder.path)
    command = small(
        "data=svhn", f"data.path={small_h5}", "training.epochs=30", "hydra.sweeper.n_trials=2"
    )
    dead = "http://127.0.0.1:9"  # the discard port: nobody listens
    result = folder.run(
        *command,
        "hydra.sweeper.confirm=null",
        MLFLOW_TRACKING_URI=dead,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    assert result.returncode == 0
    assert result.stderr.count("cannot record this run") == 1
    assert len(result.stderr.splitlines()) == 2
    assert "not sent to MLflow" not in result.stdout
    assert "In MLflow: " not in result.stdout
    assert (
        f"MLflow at {dead} lacks some of it: `python -m svhn_sweep sync` sends it." in result.stdout
    )
    synced = folder.run("sync")
    assert synced.returncode == 0, synced.stderr
    (study,) = study_names(folder)
    assert_runs_match_trials(folder, study, 2)
