"""Tests the command line: exit codes, messages, and which packages it does not import."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from svhn_sweep import cli
from svhn_sweep.cli import main
from svhn_sweep.config.schema import conf_dir
from svhn_sweep.sweep.plan import settings

Command = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., str]
HEAVY = {"tensorflow", "keras", "mlflow", "optuna", "sklearn", "matplotlib", "numpy"}


@pytest.fixture
def refused(in_process: Command, tmp_path: Path) -> Refused:
    """`refused("model=1")`: the one line that the command prints before it exits with 2."""

    def run(*arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        result = in_process(*arguments)
        assert result.returncode == 2
        assert sorted(tmp_path.rglob("*")) == before  # nothing is written
        assert not result.stdout
        (line,) = result.stderr.splitlines()
        return str(line).removeprefix("svhn_sweep: ")

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["model.dropout=2"],
            "svhn_sweep: model.dropout must be at least 0 and less than 1 but got 2.0.",
        ),
        (["-m", "seed=1,2", "data.path=nowhere.h5"], "nowhere.h5 does not exist; set data.path"),
        (
            ["-m", "optuna", "tracking.experiment=http://:secret@host"],
            "svhn_sweep: tracking.experiment must not hold a password, since everybody on this",
        ),
    ],
)
def test_a_user_error_ends_the_process_with_one_line_and_exit_code_2(
    svhn_sweep: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = svhn_sweep(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.stderr
    assert not result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=model2"], "modle is not a key of the config; did you mean model?"),
        (
            ["-m", "seed=1,2", "hydra.sweep.subdir=same"],
            "hydra.sweep.subdir must differ between the runs but is same for two",
        ),
        *[
            (
                ["-m", *overrides],
                f"a grid must have at most 200 runs but this one has {count}; start",
            )
            for overrides, count in [
                (["seed=range(1,2000)"], "1,999"),
                (["seed=shuffle(range(1,1000000000))"], "999,999,999"),
                (["seed=range(0,100)", "model.dropout=0.1,0.2,0.3"], "300"),
                (["training.learning_rate=range(0.1,1,0.001)"], "900"),
            ]
        ],
        (
            ["hydra.sweeper.n_trials=4"],
            "hydra.sweeper.n_trials is a setting of a sweep: python -m svhn_sweep -m optuna ...",
        ),
        (["-m", "optuna", "--cfg", "job"], "-m must be left out with --cfg, which"),
        (["-i", "seed=1,2", "--multirun"], "-m must be left out with --info, which"),
        (["hydra.run.dir=/etc/hostname"], "hydra.run.dir must be a folder but /etc/hostname is a"),
        (["-m", "hydra.sweep.dir=/etc/hostname"], "hydra.sweep.dir must be a folder but /etc/hos"),
        (
            ["data=svhn", "data.path=nowhere.h5"],
            "nowhere.h5 does not exist; set data.path to an HDF5 file",
        ),
        (["data.path=nowhere.h5"], "nowhere.h5 does not exist; set data.path to an HDF5 file"),
        (
            ["model=model1,model2"],
            "model=model1,model2 names several values; add -m to run each of them.",
        ),
        (
            ["trian"],
            "'trian' is neither a command nor an override; "
            "write optuna, ui, sync, predict, audit or key",
        ),
        (
            ["-m", "optune"],
            "'optune' is neither a command nor an override; did you mean optuna?",
        ),
        (
            ["optuna"],
            "optuna starts a sweep, which needs -m: python -m svhn_sweep -m optuna ...",
        ),
        (
            ["-m", "model=model1,model2", "model.dropout=0.1,2"],
            "model.dropout must be at least 0 and",
        ),
        (
            ["-m", "model.dropout=interval(0,0.3)"],
            "model.dropout must have a list of values, each of which is run, but got "
            "model.dropout=interval(0,0.3); to search a range: python -m svhn_sweep -m optuna ...",
        ),
        (["hydra.job.chdir=true"], "hydra.job.chdir must be false"),
        (
            ["hydra.output_subdir=../done"],
            "hydra.output_subdir must be the name of a folder in the run's own, or null, but is ",
        ),
        (
            ["hydra.job.env_set.X=0"],
            "hydra.job.env_set.X is not a key of the config; there is none",
        ),
        (
            ["-m", "training.augmentation.shift=0.1,0.2"],
            "training.augmentation.shift changes nothing without training.augmentation.enabled",
        ),
        (
            ["-m", "optuna", "target_value=57"],
            "hydra.sweeper.target_value must be from 0 to 1, as val/accuracy is, but got 57.",
        ),
        (["-m", "optuna", "hydra.job.chdir=true"], "hydra.job.chdir must be false"),
        (
            ["--config-n=schema"],
            "--config-n must be left out, since all configs begin with conf/config.yaml",
        ),
        (
            ["--config-name=schema"],
            "--config-name must be left out, since all configs begin with conf/",
        ),
        (["-m", "optuna", "-cn", "schema"], "-cn must be left out"),
        (
            ["-m", "seed=1,2", "evaluation.test=true"],
            "evaluation.test must not be true in a multirun",
        ),
        (
            ["data=synthetic", "data.folder=/etc/hostname"],
            "the digits cannot be stored: [Errno 17] File exists",
        ),
        *[
            (["sync", path], f"sync takes folders of runs, but no folder is {path}.")
            for path in ("nowhere", "/etc/hostname")
        ],
        (
            ["seed=7", "--cfg", "jobs"],
            "argument --cfg/-c: invalid choice: 'jobs' (choose from 'job', 'hydra', 'all'); a key",
        ),
        (
            ["--model", "model1"],
            "unrecognized arguments: --model; a key of the config is KEY=VALUE, and --hydra-help "
            "lists the flags.",
        ),
        (["--config-dir"], "argument --config-dir/-cd: expected one argument; a key of the"),
        *[
            (
                ["-m", "optuna", override],
                f"{key} must not hold a password, since everybody on this machine",
            )
            for key, override in [
                (
                    "hydra.sweeper.storage",
                    "hydra.sweeper.storage=postgresql+psycopg://me:secret@host/optuna",
                ),
                (
                    "hydra.sweeper.storage",
                    "hydra.sweeper.storage=postgresql+psycopg://host/optuna?password=secret",
                ),
                ("tracking.experiment", "tracking.experiment=http://:secret@host"),
            ]
        ],
        (
            ["-m", "optuna", "hydra.sweeper.cluster=auto", "hydra.sweeper.devices=[0]"],
            "hydra.sweeper.devices must be null with hydra.sweeper.cluster: Ray assigns devices.",
        ),
        (
            ["-m", "optuna", "hydra.sweeper.takeover_after=60"],
            "hydra.sweeper.takeover_after is not a key of the config",
        ),
        (
            ["-m", "optuna", "hydra.sweep.dir=elsewhere"],
            "hydra.sweep.dir must be left out with optuna, whose folders are "
            "multirun/STUDY in the current folder, but got elsewhere",
        ),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(
    refused: Refused, arguments: list[str], message: str
) -> None:
    line = refused(*arguments)
    assert message in line
    assert "secret" not in line


def test_a_notebooks_backend_has_no_influence_on_figures(svhn_sweep: Command) -> None:
    """Jupyter and Colab set it for every process that they start."""
    backend = "module://matplotlib_inline.backend_inline"
    result = svhn_sweep("data=synthetic", "data.folder=/etc/hostname", MPLBACKEND=backend)
    assert result.returncode == 2
    assert "the digits cannot be stored" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_variable_that_numpy_cannot_read_is_one_sentence(svhn_sweep: Command) -> None:
    result = svhn_sweep("predict", "nowhere.png", NUMPY_MADVISE_HUGEPAGE="yes")
    assert result.returncode == 2
    assert result.stderr == (
        "svhn_sweep: NUMPY_MADVISE_HUGEPAGE must be a whole number, or unset, but is 'yes'.\n"
    )


def test_windows_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no module fcntl there."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert main() == 2
    assert capsys.readouterr().err == (
        "svhn_sweep: Windows is not supported; run the command in WSL2, which is Linux.\n"
    )


def test_a_deleted_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    (tmp_path / "x").rmdir()
    assert main() == 2
    assert capsys.readouterr().err == (
        "svhn_sweep: the current folder was deleted; change to another one.\n"
    )


@pytest.mark.parametrize("override", ["modle=model2", "model.dropout=2"])
def test_hydra_full_error_prints_the_traceback(svhn_sweep: Command, override: str) -> None:
    result = svhn_sweep(override, HYDRA_FULL_ERROR="1")
    assert result.returncode == 2
    assert "Traceback" in result.stderr


def test_a_password_in_a_file_that_hydra_refuses_is_not_printed(
    svhn_sweep: Command, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "hydra" / "sweeper"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "defaults: [optuna]\nstorage: {url: 'postgresql://me:secret@host/db'}\n"
    )
    result = svhn_sweep("-m", "--config-dir", "own", "hydra/sweeper=mine", HYDRA_FULL_ERROR="1")
    assert result.returncode == 2
    assert "postgresql://***@host/db" in result.stderr
    assert "secret" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "flags",
    [["--cfg", "hydra"], ["--cf=all"], ["-chydra"]],  # argparse takes the beginning of a flag
)
def test_a_password_in_a_users_file_is_not_shown_with_the_config(
    svhn_sweep: Command, tmp_path: Path, flags: list[str]
) -> None:
    own = tmp_path / "own" / "hydra" / "sweeper"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "defaults: [optuna]\nstorage: postgresql://me:secret@host/db?sslpassword=secret\n"
    )
    result = svhn_sweep(*flags, "--config-dir", "own", "hydra/sweeper=mine")
    assert result.returncode == 0, result.stderr
    assert "storage: postgresql://***@host/db?sslpassword=***" in result.stdout
    assert "secret" not in result.stdout + result.stderr


def test_a_misspelt_key_inside_a_yaml_file_is_named(svhn_sweep: Command, tmp_path: Path) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (own / "wide.yaml").write_text("defaults: [model2]\nfilterz: {conv1: 8}\n")
    result = svhn_sweep(
        "--config-dir", "own", "model=wide", "training=model2", "search_space/filters=model2"
    )
    assert result.returncode == 2
    assert "filterz" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["-m", "optuna", "--help"],
        ["ui", "--help"],
        ["predict", "--help"],
        ["sync", "--help"],
        ["audit", "--help"],
        ["--cfg", "job"],
        ["--info", "defaults"],
        ["model.dropout=2"],
    ],
)
def test_help_and_user_errors_import_no_heavy_package(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from svhn_sweep.cli import main; sys.argv = ['svhn_sweep', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: print('HEAVY', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    imported = set(result.stdout.splitlines()[-1].removeprefix("HEAVY ").split())
    assert not imported & HEAVY


def test_help_lists_the_commands(svhn_sweep: Command) -> None:
    result = svhn_sweep("--help")
    assert result.returncode == 0
    for command in ("svhn_sweep ui ", "svhn_sweep sync ", "svhn_sweep -m model=model1,model2 "):
        assert command in result.stdout
    assert "model=model1|model2, data=auto|svhn|stanford|synthetic" in result.stdout
    assert {option.stem for option in (conf_dir() / "data").iterdir()} == {
        "auto",
        "svhn",
        "stanford",
        "synthetic",
    }


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--version"], ["svhn_sweep 0."]),
        (["seed=7", "--version"], ["svhn_sweep 0."]),
        (["ui", "--help"], ["--port PORT", "variable MLFLOW_PORT", "--host HOST"]),
        (["predict", "-h"], ["IMAGE [IMAGE ...]", "models:/svhn-digits@champion"]),
        (["audit", "--help"], ["FILE or KEY=VALUE", "nothing is removed"]),
        (["sync", "--help"], ["[FOLDER ...]", "default: outputs and"]),
        (["optuna", "--help"], ["  sampler=tpe  (one of tpe, random, qmc)\n"]),
        (
            ["-m", "hydra/sweeper=optuna", "n_trials=3", "-h"],
            [f"\n  {name}" for name in settings.NAMES],
        ),
        (
            ["-m", "optuna", "-h"],
            [
                "\n  n_trials=24  (int at least 1 and at most 1000000)\n      finished trials of ",
                "\n  timeout=null  (float greater than 0, or null)\n      seconds, null: no limit.",
                "\n  metric=val/accuracy  (one of val/accuracy, val/loss)\n      a trial scores",
                "\n  pruner.startup_trials=5  (int",
                "\n  confirm\n      null: no confirmation",
            ],
        ),
    ],
)
def test_each_command_has_a_page_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    texts: list[str],
) -> None:
    terminate = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["svhn_sweep", *arguments])
    assert cli.main() == 0
    signal.signal(signal.SIGTERM, terminate)
    shown = capsys.readouterr()
    assert not shown.err
    assert max(map(len, shown.out.splitlines())) <= 80
    for text in texts:
        assert text in shown.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cfg", "job", "model=model1", "seed=7"],
        ["model=model1", "--cfg", "job", "--config-dir", ".", "seed=7"],
        ["model=model1", "-c=job", "seed=7"],
    ],
)
def test_cfg_job_shows_the_composed_config(svhn_sweep: Command, arguments: list[str]) -> None:
    result = svhn_sweep(*arguments)
    assert result.returncode == 0, result.stderr
    assert "name: model1" in result.stdout
    assert "seed: 7" in result.stdout


def test_a_flags_value_may_look_like_an_override(svhn_sweep: Command, tmp_path: Path) -> None:
    (tmp_path / "lr=1").mkdir()
    result = svhn_sweep("--cfg", "job", "--config-dir", "lr=1", "model=model1")
    assert result.returncode == 0, result.stderr
    assert "name: model1" in result.stdout


def test_an_override_may_follow_a_flag_without_its_value(svhn_sweep: Command) -> None:
    result = svhn_sweep("--info", "model=model1", "seed=7")
    assert result.returncode == 0, result.stderr
    assert "model: model1" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # not Hydra's own exceptions
        (["model=1"], "model is a group of conf/ and must be the name of a file in it but got 1."),
        (["seed=7", "model=1"], "model is a group of conf/ and must be the name of a file in it"),
        (["-m", "~search_space", "model=1,2"], "model is a group of conf/ and must be the name of"),
        (["data=null"], "data is a group of conf/ and must be the name of a file in it but got nu"),
        (["-m", "optuna", "model=1,2"], "model is a group of conf/ and must be the name of a file"),
        (["-m", "hydra.sweeper=null"], "hydra.sweeper must not be null."),
        (
            ["--resolve"],
            "the config cannot be composed: The --resolve flag can only be used in con",
        ),
        (
            ["--cfg", "job", "-m"],
            "-m must be left out with --cfg, which shows the config of one run.",
        ),
        (
            ["hydra.job.env_copy=[NOPE]"],
            "hydra.job.env_copy=[NOPE] cannot be used: there is no NOPE",
        ),
        (
            ["-m", "seed=range(1,5,0)"],
            "seed must be a range whose step is not 0 but got seed=range(1,5,0).",
        ),
        (
            ["hydra.verbose=[a,2]"],
            "the config cannot be composed: A logger name must be a string.",
        ),
        (
            ["hydra.hydra_logging.root.level=NOPE"],
            "the config cannot be composed: Unable to config",
        ),
        (
            ["hydra.sweeper=null", "training.epochs=0"],
            "training.epochs must be at least 1 and at m",
        ),
        (["hydra/job_logging=disabled", "training.epochs=0"], "training.epochs must be at least 1"),
        # settings of a sweep
        (
            ["n_trials=6"],
            "n_trials is a setting of a sweep: python -m svhn_sweep -m optuna n_trials=",
        ),
        (
            ["-m", "pruner.name=none"],
            "pruner is a setting of a sweep: python -m svhn_sweep -m optun",
        ),
        (
            ["-m", "optuna", "n_trials=0"],
            "hydra.sweeper.n_trials must be at least 1 and at most 10",
        ),
        (
            ["-m", "optuna", "pruner.name=nope"],
            "hydra.sweeper.pruner.name must be one of none, med",
        ),
        (
            ["-m", "hydra/sweeper=optuna", "confirm.seeds=1"],
            "hydra.sweeper.confirm.seeds must be at",
        ),
        (
            ["-m", "optuna", "pruner=none"],
            "hydra.sweeper.pruner is a section: set hydra.sweeper.pr",
        ),
        (
            ["-m", "optuna", "n_trails=3"],
            "n_trails is neither a key of the config nor a setting of the sweep; did you mean n_tr",
        ),
        (["-m", "confrim=null", "optuna"], "did you mean confirm?"),
        (["-m", "optuna", "+prunner.name=none"], "did you mean pruner?"),
        (["-m", "optuna", "modle=model1"], "modle is not a key of the config; did you mean model?"),
        (["-m", "optuna", "n_trials.x=1"], "hydra.sweeper.n_trials"),
        # options of the commands
        (
            ["ui", "--prot", "1"],
            "ui: unrecognized arguments: --prot 1; see python -m svhn_sweep ui",
        ),
        (
            ["ui", "--port"],
            "ui: argument --port: expected one argument; see python -m svhn_sweep ui",
        ),
        (["ui", "--port", "70000"], "the port, --port or MLFLOW_PORT, must be a number from 1 to"),
        (
            ["ui", "--host", "no host"],
            "--host must be an address of this machine but got 'no host'",
        ),
        (
            ["ui", "--host", "192.0.2.1"],
            "cannot be used on 192.0.2.1: cannot assign requested addr",
        ),
        (
            ["predict"],
            "predict: the following arguments are required: IMAGE; see python -m svhn_sw",
        ),
        (
            ["audit", "a.h5", "--all"],
            "audit: unrecognized arguments: --all; see python -m svhn_swe",
        ),
        (["audit", "a.h5", "b.h5"], "audit takes one file but got a.h5, b.h5."),
        (
            ["predict", "a.png", "--modle=x"],
            "predict: unrecognized arguments: --modle=x; see python",
        ),
        (
            ["sync", "--all"],
            "sync: unrecognized arguments: --all; see python -m svhn_sweep sync --",
        ),
        # interpolations
        (
            ["seed=${oc.env:NOPE}"],
            "seed cannot be resolved: KeyError raised while resolving interp",
        ),
        (
            ["data.path=${nope}"],
            "data.path cannot be resolved: Interpolation key 'nope' not found.",
        ),
        (
            ["training.epochs=${hydra:job.nope}"],
            "training.epochs: While dereferencing interpolation",
        ),
        (
            ["-m", "seed=1,2", "model.dropout=${hydra:job.num}"],
            "model.dropout must be at least 0 and less than 1 but got 1.0.",
        ),
        (
            ["-m", "optuna", "model=model1", "data=svhn", "data.path=${hydra:runtime.cwd}/no.h5"],
            "/no.h5 does not exist; set data.path to an HDF5 file",
        ),
    ],
)
def test_whatever_hydra_raises_for_a_config_is_one_line(
    refused: Refused, arguments: list[str], message: str
) -> None:
    assert message in refused(*arguments)


LAUGHS = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: m\n\tdropout: 1\n", "m.yaml is no valid YAML: line 2, column 1: while scanning"),
        (b"name: a\nname: b\n", "m.yaml is no valid YAML: line 2, column 1: while constructing a"),
        (
            b"filters: [1, 2\n",
            "m.yaml is no valid YAML: line 2, column 1: while parsing a flow seq",
        ),
        (
            b"name: 'm\n",
            "m.yaml is no valid YAML: line 2, column 1: while scanning a quoted scalar",
        ),
        (
            b"name: a\n---\nname: b\n",
            "m.yaml is no valid YAML: line 2, column 1: expected a single",
        ),
        (b"name: *x\n", "m.yaml is no valid YAML: line 1, column 7: found undefined alias 'x'."),
        (b"name: \x07\n", "m.yaml is no valid YAML: unacceptable character #x0007"),
        (b"name: m\n# \xfc\n", "own/model/m.yaml must be UTF-8 but line 2 is not."),
        (b"7\n", "own/model/m.yaml must hold keys with values but holds 7."),
        (LAUGHS.encode(), "own/model/m.yaml must stand for at most 100,000 values but its aliases"),
        (b"a: &a [*a]\n", "own/model/m.yaml must stand for at most 100,000 values but its aliases"),
        (b"defaults: [m]\n", "the config has no end: its defaults form a cycle, or it is nested"),
        (b"defaults: 7\n", "the config cannot be composed: Invalid defaults list in 'model/m'"),
        (b"defaults: [gone]\n", "In 'model/m': Could not load 'model/gone'."),
        (b"defaults: [{x: y}]\n", "model/x is no group of the config but got 'y'."),
        (
            b"- 1\n",
            "In 'model/m': ValidationError raised while composing config: Merge error: list",
        ),
        (b"defaults: [model2]\nname: ${a\n", "name: no viable alternative at input '${a'."),
        (b"defaults: [model2]\nname: ${a}\n", "model.name cannot be resolved: Interpolation key"),
        (b"defaults: [model2]\nname: ${model.name}\n", "model.name cannot be resolved: Recursive"),
    ],
)
def test_a_broken_file_of_the_users_is_named(
    refused: Refused, tmp_path: Path, content: bytes, message: str
) -> None:
    own = tmp_path / "own" / "model"
    own.mkdir(parents=True)
    (own / "m.yaml").write_bytes(content)
    options = ["model=m", "training=model2", "search_space/filters=model2"]
    assert message in refused("--config-dir", "own", *options)


def test_a_folder_holds_one_run(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "journal.jsonl").write_text("")
    assert "hydra.run.dir must be a new folder but" in refused("hydra.run.dir=old")
