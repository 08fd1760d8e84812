"""What a grid's command prints, writes and continues; its trainings are pretended."""

import csv
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import pytest

from svhn_sweep import cli, data
from svhn_sweep.config.schema import Config
from svhn_sweep.data.splits import Splits
from svhn_sweep.tracking.journal import Journal, end_tags
from svhn_sweep.tracking.run_info import RunInfo
from svhn_sweep.training.initial_weights import InitialWeights
from svhn_sweep.trial import TrialOutcome
from svhn_sweep.trial_status import TrialStatus

GRID = ("model=model1,model2", "seed=1,2,3")
ALL = [("model1", 1), ("model1", 2), ("model1", 3), ("model2", 1), ("model2", 2), ("model2", 3)]


class NoUploader:
    """Uploads nothing."""

    sent = False

    def __init__(self, *folders: object) -> None:
        self.watched: list[Path] = []

    def watch(self, folder: Path) -> None:
        self.watched.append(folder)

    def __enter__(self) -> "NoUploader":
        return self

    def __exit__(self, *exception: object) -> None:
        pass


@dataclass
class Commands:
    """Runs commands in a folder.

    `faults` has an error for the next training of a model and a seed; None lets it diverge.
    """

    path: Path
    digits: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    faults: dict[tuple[str, int], BaseException | None] = field(default_factory=dict)
    trained: list[tuple[str, int]] = field(default_factory=list)
    out: str = ""
    err: str = ""

    def run(self, *arguments: str) -> int:
        """Runs a multirun; returns its exit code."""
        self.trained.clear()
        self.monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        others = ["data=svhn", f"data.path={self.digits}", "hydra/job_logging=disabled"]
        self.monkeypatch.setattr(sys, "argv", ["svhn_sweep", "-m", *arguments, *others])
        exit_code = cli.main()
        self.out, self.err = self.capsys.readouterr()
        return exit_code

    def folders(self) -> list[Path]:
        return sorted(path.parent for path in self.path.glob("multirun/*/*/grid.json"))

    def train(
        self,
        config: Config,
        splits: Splits,
        folder: Path,
        command: str,
        run_info: RunInfo,
        initial_weights: InitialWeights | None = None,
        *,
        resumable: bool,
    ) -> TrialOutcome:
        assert resumable
        run = (config.model.name, config.seed)
        self.trained.append(run)
        accuracy = {"model1": 0.8, "model2": 0.9}[config.model.name] + config.seed / 1000
        with Journal(folder) as journal:
            run_info.start(journal)
            journal.log_metrics({"val/accuracy": accuracy}, step=1)
            if run in self.faults:
                return self._fail(journal, self.faults.pop(run))
            metrics = {
                "val/best_accuracy": accuracy,
                "val/best_epoch": 1.0,
                "val/final_accuracy": accuracy,
            }
            journal.log_metrics(metrics)
            journal.end(TrialStatus.complete)
        return TrialOutcome(TrialStatus.complete, metrics)

    def _fail(self, journal: Journal, error: BaseException | None) -> TrialOutcome:
        if error is None:
            journal.end(TrialStatus.diverged, "the loss was not finite in epoch 2")
            return TrialOutcome(TrialStatus.diverged, {})
        failed = isinstance(error, Exception)
        journal.end(TrialStatus.failed if failed else TrialStatus.interrupted, str(error))
        raise error


@pytest.fixture
def commands(
    own_process: None,
    tmp_path: Path,
    small_h5: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Commands]:
    commands = Commands(tmp_path, tmp_path / "digits.h5", monkeypatch, capsys)
    shutil.copy(small_h5, commands.digits)
    monkeypatch.setattr("svhn_sweep.hydra_job.run_trial", commands.train)
    monkeypatch.setattr("svhn_sweep.grid.run.BackgroundUploader", NoUploader)
    yield commands
    data.release()


def test_a_grid_ends_with_a_comparison_of_its_configs(commands: Commands) -> None:
    assert commands.run(*GRID) == 0
    assert commands.trained == ALL
    (folder,) = commands.folders()
    first, second = csv.DictReader((folder / "grid.csv").read_text().splitlines())
    assert (first["config"], first["model"], first["seeds"]) == ("model1", "model1", "3")
    assert float(first["mean"]) == pytest.approx(0.802)
    assert float(first["deviation"]) == pytest.approx(0.001)
    assert (first["difference"], first["verdict"]) == ("", "")
    assert (second["config"], second["common_seeds"], second["verdict"]) == (
        "model2",
        "3",
        "better",
    )
    assert float(second["difference"]) == pytest.approx(0.1)
    table = (folder / "grid.md").read_text()
    assert (
        "| model2 | 3 | 90.20% ± 0.10 | 89.95 to 90.45 | +10.00 | +10.00 to +10.00 | better |"
        in (table)
    )
    assert "90.20% ± 0.10" in commands.out
    assert "better" in commands.out
    assert (folder / "learning_curves.png").stat().st_size > 10_000
    assert (end_tags(folder) or {})["trial.state"] == "complete"


def test_hydras_own_params_are_overrides_before_those_of_the_command(commands: Commands) -> None:
    own = commands.path / "own" / "hydra" / "sweeper"
    own.mkdir(parents=True)
    params = "{seed: '1,2,3', model: 'model1,model2'}"
    (own / "mine.yaml").write_text(f"defaults: [basic]\nparams: {params}\n")
    arguments = ("--config-dir=own", "hydra/sweeper=mine", "model=model2")
    commands.faults = {("model2", 2): KeyboardInterrupt()}
    assert commands.run(*arguments) == 130
    assert commands.run(*arguments) == 0
    assert commands.trained == ALL[4:]


def test_the_last_override_of_a_key_counts(commands: Commands) -> None:
    assert commands.run("model=model1", "seed=1,2", "seed=3") == 0
    assert commands.trained == [("model1", 3)]


def test_a_failed_run_stops_no_other_and_is_named(commands: Commands) -> None:
    commands.faults = {("model1", 1): RuntimeError("no luck"), ("model2", 2): None}
    assert commands.run(*GRID) == 1
    assert commands.trained == ALL
    assert "not complete: model1 · seed 1: failed, no luck\n" in commands.out
    assert "not complete: model2 · seed 2: diverged, the loss was not finite in" in commands.out
    (folder,) = commands.folders()
    _, second = csv.DictReader((folder / "grid.csv").read_text().splitlines())
    assert (second["seeds"], second["common_seeds"]) == ("2", "1")
    assert "- model1 · seed 1: failed, no luck\n" in (folder / "grid.md").read_text()
    # what failed is trained again, what diverged is not; still not every run is complete
    assert commands.run(*GRID) == 1
    assert commands.trained == [("model1", 1)]
    assert "1 of 6 runs are left" in commands.out


def test_the_same_command_continues_an_interrupted_grid_and_then_starts_another(
    commands: Commands,
) -> None:
    commands.faults = {("model1", 3): KeyboardInterrupt()}
    assert commands.run(*GRID) == 130
    assert commands.trained == ALL[:3]
    assert "2 of 6 runs are over; the same command continues" in commands.out
    (folder,) = commands.folders()
    assert (end_tags(folder) or {})["trial.state"] == "interrupted"

    assert commands.run(*GRID) == 0
    assert commands.trained == ALL[2:]
    relative = folder.relative_to(commands.path)
    assert f"grid · 2 configs x 3 seeds: continues in {relative}, 4 of 6 runs are left" in (
        commands.out
    )
    assert commands.folders() == [folder]

    assert commands.run(*GRID) == 0
    assert commands.trained == ALL
    assert len(commands.folders()) == 2


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["seed=1,2", "model=model1"], {}),
        (["seed=1,2", "model=model2", "hydra.sweep.dir=multirun/other/folder"], {}),
        (["seed=1,2", "model=model2"], {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    ],
)
def test_another_command_starts_another_grid(
    commands: Commands, arguments: list[str], environment: dict[str, str]
) -> None:
    commands.faults = {("model2", 2): KeyboardInterrupt()}
    assert commands.run("seed=1,2", "model=model2") == 130
    for name, value in environment.items():
        commands.monkeypatch.setenv(name, value)
    assert commands.run(*arguments) == 0
    assert len(commands.trained) == 2
    assert len(commands.folders()) == 2


def test_a_grid_in_a_folder_of_the_users_is_continued_and_never_overwritten(
    commands: Commands,
) -> None:
    arguments = ("model=model1", "seed=1,2", "hydra.sweep.dir=mine")
    commands.faults = {("model1", 2): KeyboardInterrupt()}
    assert commands.run(*arguments) == 130
    assert commands.run(*arguments) == 0
    assert commands.trained == [("model1", 2)]
    assert commands.run(*arguments) == 2
    assert "hydra.sweep.dir must be a new folder but " in commands.err


def test_a_grid_is_continued_by_the_name_of_its_folder(commands: Commands) -> None:
    folder = interrupted(commands)
    assert commands.run("model=model1", "seed=1,2", f"hydra.sweep.dir={folder}") == 0
    assert commands.trained == [("model1", 2)]


def test_a_grid_in_a_named_folder_of_multirun_is_continued_without_the_name(
    commands: Commands,
) -> None:
    interrupted(commands, "hydra.sweep.dir=multirun/my/grid")
    assert commands.run("model=model1", "seed=1,2") == 0
    assert commands.trained == [("model1", 2)]


def interrupted(commands: Commands, *arguments: str) -> Path:
    """Returns the folder, as messages have it, of a grid that was interrupted."""
    commands.faults = {("model1", 2): KeyboardInterrupt()}
    assert commands.run("model=model1", "seed=1,2", *arguments) == 130
    return commands.folders()[0].relative_to(commands.path)


def test_other_digits_are_refused(commands: Commands) -> None:
    folder = interrupted(commands)
    with h5py.File(commands.digits, "r+") as file:
        file["X_train"][0] = 0
    data.release()
    assert commands.run("model=model1", "seed=1,2") == 2
    assert commands.err == (
        "svhn_sweep: the digits must not change during a grid but have another SHA-256 now: "
        f"{folder} holds an unfinished grid of this command; move it away to start anew.\n"
    )
    assert commands.trained == []


def test_digits_that_change_between_two_runs_are_refused(commands: Commands) -> None:
    def train_and_change(*arguments: Any, **options: Any) -> TrialOutcome:
        outcome = commands.train(*arguments, **options)
        with h5py.File(commands.digits, "r+") as file:
            file["X_train"][0] = 0
        data.release()
        return outcome

    commands.monkeypatch.setattr("svhn_sweep.hydra_job.run_trial", train_and_change)
    assert commands.run("model=model1", "seed=1,2") == 2
    assert commands.trained == [("model1", 1)]
    assert "seed=2" in commands.err
    assert ": the digits must not change during a grid but have another SHA-256 now." in (
        commands.err
    )
    assert "not complete: model1 · seed 2: not started" in commands.out


def test_different_numbers_of_threads_are_refused(commands: Commands) -> None:
    assert commands.run("seed=1", "training.threads=1,null") == 2
    assert commands.err == (
        "svhn_sweep: training.threads must be the same for all runs of one command but got "
        "1, null; start a command for each.\n"
    )
    assert commands.folders() == []


def test_other_settings_in_a_file_are_refused(commands: Commands) -> None:
    own = commands.path / "own" / "training"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("defaults: [model1]\nepochs: 2\n")
    arguments = ("--config-dir=own", "training=mine")
    folder = interrupted(commands, *arguments)
    (own / "mine.yaml").write_text("defaults: [model1]\nepochs: 3\n")
    assert commands.run("model=model1", "seed=1,2", *arguments) == 2
    assert "config files and initial weights must not change during a grid" in commands.err
    assert str(folder) in commands.err


def test_one_process_trains_a_grid(commands: Commands) -> None:
    folder = interrupted(commands)
    with Journal(folder):
        assert commands.run("model=model1", "seed=1,2") == 2
    assert commands.err == (
        f"svhn_sweep: the grid in {folder} must have one process at a time, but another one "
        "trains it; wait for it or stop it.\n"
    )


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "function", ["hydra.core.utils._save_config", "svhn_sweep.grid.run.write_atomically"]
)
def test_a_full_disk_ends_a_grid_with_one_message_and_its_journal_is_free(
    commands: Commands, function: str
) -> None:
    with commands.monkeypatch.context() as patched:
        patched.setattr(function, full_disk)
        assert commands.run(*GRID) == 1
    assert commands.err == "svhn_sweep: No space left on device.\n"
    assert commands.trained == []
    assert commands.run(*GRID) == 0
    assert commands.trained == ALL
    assert len(commands.folders()) == 1


@pytest.mark.parametrize("subdir", [".", "..", "../done", "a/../../done", "/done"])
def test_a_run_is_in_a_folder_below_the_grids(commands: Commands, subdir: str) -> None:
    assert commands.run("seed=1", f"hydra.sweep.subdir={subdir}") == 2
    assert commands.err.startswith(
        "svhn_sweep: hydra.sweep.subdir must be a folder below hydra.sweep.dir but is /"
    )
    assert commands.folders() == []


def test_two_names_of_one_folder_are_refused(commands: Commands) -> None:
    assert commands.run("seed=1,2", "hydra.sweep.subdir='a${seed}/../b'") == 2
    assert "hydra.sweep.subdir must differ between the runs but is b for two" in commands.err


@pytest.mark.parametrize(
    ("arguments", "name", "configs"),
    [
        (["model=model1"], "grid · 1 config x 1 seed", ["model1"]),
        (["seed=1,2"], "grid · 1 config x 2 seeds", ["model2"]),
        (
            ["training.learning_rate=1e-3,1e-2"],
            "grid · 2 configs x 1 seed",
            ["learning_rate 0.001", "learning_rate 0.01"],
        ),
        (
            ["model=model1,model2", "model.dropout=0,0.1", "seed=1", "training.epochs=1"],
            "grid · 4 configs x 1 seed",
            [
                *("model1 · dropout 0", "model1 · dropout 0.1"),
                *("model2 · dropout 0", "model2 · dropout 0.1"),
            ],
        ),
    ],
)
def test_configs_are_named_after_what_varies(
    commands: Commands, arguments: list[str], name: str, configs: list[str]
) -> None:
    assert commands.run(*arguments) == 0
    assert commands.out.startswith(f"{name} in multirun/")
    (folder,) = commands.folders()
    rows = csv.DictReader((folder / "grid.csv").read_text().splitlines())
    assert [row["config"] for row in rows] == configs
