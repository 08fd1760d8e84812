import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf

from svhn_sweep import provenance
from svhn_sweep.config.schema import (
    Config,
    DataConfig,
    EvaluationConfig,
    StanfordConfig,
    SvhnConfig,
    SyntheticConfig,
    conf_dir,
)

Composed = Callable[..., Config]


def words(command: str) -> list[str]:
    """The arguments of the recorded command, as a shell understands it."""
    python, dash_m, package, *arguments = shlex.split(command)
    assert (python, dash_m, package) == ("python", "-m", "svhn_sweep")
    return arguments


def resolved(config: Config, data: DataConfig, *, threads: int = 3, test: bool = False) -> Config:
    """With everything decided that may be left open."""
    training = replace(config.training, threads=threads)
    return replace(config, data=data, training=training, evaluation=EvaluationConfig(test))


@pytest.mark.parametrize(
    "data",
    [
        SyntheticConfig(folder="/tmp/drawn", train_size=20, test_size=10, seed=3),
        StanfordConfig(folder="/tmp/stanford", extra=True, train_size=20, test_size=10, seed=3),
        *(
            SvhnConfig(path=path)
            for path in (
                "/tmp/digits.h5",
                "/tmp/it's a (1), [2] {3}.h5",
                "/tmp/\N{LATIN SMALL LETTER E WITH ACUTE}.h5",
                "/tmp/a=b,c:d#e.h5",
                "/tmp/back\\slash\\",
                "/tmp/${HOME}/$HOME.h5",
                "/tmp/1e5",
            )
        ),
    ],
)
def test_the_command_names_the_data_that_was_used(composed: Composed, data: DataConfig) -> None:
    typed = [
        "model=model1",
        "seed=7",
        "data=auto",
        "data.synthetic.train_size=99",
        "evaluation.test=null",
    ]
    config = resolved(composed(*typed), data)
    command = provenance.command(provenance.explicit(typed, config), [])
    assert composed(*words(command)) == config


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ([], []),
        (["model=model1", "seed=7"], ["model=model1", "seed=7"]),
        (["training=model1", "training.epochs=3"], ["training=model1", "training.epochs=3"]),
        (["data=auto", "data.path=/elsewhere", "++data.synthetic.seed=5"], []),
        (["evaluation.test=null", "+evaluation.test=true"], []),
        (["training.threads=null"], []),
        (["training.precision=auto"], []),
        (["++training.threads=8", "training.batch_size=8"], ["training.batch_size=8"]),
        (
            ["tracking.experiment=data.x", "model.dropout=0"],
            ["tracking.experiment=data.x", "model.dropout=0"],
        ),
    ],
)
@pytest.mark.parametrize("test", [False, True])
def test_what_was_left_open_is_spelt_out(
    composed: Composed, typed: list[str], kept: list[str], test: bool
) -> None:
    config = resolved(composed(*kept), SvhnConfig("/tmp/digits.h5"), threads=5, test=test)
    overrides = provenance.explicit(typed, config)
    machine = ["training.precision=float32", "training.threads=5"]
    spelt = [
        "data=svhn",
        "data.path=/tmp/digits.h5",
        *machine,
        f"evaluation.test={str(test).lower()}",
    ]
    assert overrides == [*kept, *spelt]
    assert composed(*overrides) == config


def test_what_is_spelt_out_stays_as_it_is(composed: Composed) -> None:
    typed = ["model=model1", "training.threads=2", "data=synthetic"]
    config = resolved(composed(*typed), SyntheticConfig("/tmp/drawn", 20, 10, 3))
    once = provenance.explicit(typed, config)
    assert provenance.explicit(once, config) == once


@pytest.mark.parametrize(
    ("folders", "options"),
    [
        ([], []),
        (["/tmp/conf"], ["--config-dir=/tmp/conf"]),
        (["/tmp/my conf", "/tmp/it's"], ["--config-dir=/tmp/my conf", "--config-dir=/tmp/it's"]),
    ],
)
def test_the_command_is_one_for_a_shell(folders: list[str], options: list[str]) -> None:
    overrides = ["model=wide", "data.path='/tmp/$HOME and `more`; #'", "+x=[1, 2]"]
    assert words(provenance.command(overrides, folders)) == [*options, *overrides]


@pytest.mark.parametrize("folders", [[], ["/tmp/my conf"]])
def test_the_folders_of_own_configs_are_those_of_the_command_line(folders: list[str]) -> None:
    sources = [
        SimpleNamespace(provider="hydra", path="pkg://hydra.conf"),
        SimpleNamespace(provider="main", path=str(conf_dir())),
        *(SimpleNamespace(provider="command-line", path=folder) for folder in folders),
        SimpleNamespace(provider="schema", path="structured://"),
    ]
    job: HydraConf = SimpleNamespace(runtime=SimpleNamespace(config_sources=sources))  # type: ignore[assignment]
    assert provenance.config_dirs(job) == folders


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-3, "-3"),
        (0.1, "0.1"),
        (1e-05, "1e-05"),
        (1e16, "1e+16"),
        (0.1 + 0.2, "0.30000000000000004"),
        (2.0, "2.0"),
        ("model1", "model1"),
        ("/tmp/a-b_c.h5", "/tmp/a-b_c.h5"),
        ("http://host:5000/x", "http://host:5000/x"),
        ("nullable", "nullable"),
        *(
            (text, f"'{text}'")
            for text in ("", "null", "True", "FALSE", "inf", "NaN", "5", "1e5", "-1", "a b", " a")
        ),
        *(
            (text, f"'{text}'")
            for text in ("a,b", "[1]", "{a: 1}", "f(x)", "a=b", "#a", "$HOME", "~/x", "../x", "\n")
        ),
        ("it's", r"'it\'s'"),
        ("back\\", r"'back\\'"),
        ("${seed}", r"'\${seed}'"),
        ("\\${seed}", r"'\\\${seed}'"),
        ("\\\\${seed}", None),
        ("\\'${seed}'\\", None),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "'\N{LATIN SMALL LETTER E WITH ACUTE}'"),
    ],
)
def test_a_quoted_value_is_read_back_as_it_was(
    tmp_path: Path, value: str | int | float | bool | None, text: str | None
) -> None:
    if text is not None:
        assert provenance.quoted(value) == text
    (tmp_path / "config.yaml").write_text("seed: 1")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        read = compose("config", [f"+value={provenance.quoted(value)}"]).value
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("overrides", "role"),
    [
        ([], "baseline"),
        (["model=model1", "seed=3", "data=synthetic", "tracking.log_model=false"], "baseline"),
        (["model.dropout=0"], "trial"),
        (["+model.filters.conv5=8"], "trial"),
        (["training.epochs=3"], "trial"),
        (["training=model1"], "trial"),
        (["training@training=model1"], "trial"),
        (["~model.filters.conv6"], "trial"),
        (["training.threads=4", "evaluation.test=false"], "baseline"),
        (["++training.threads=null"], "baseline"),
        (["training.precision=float32"], "baseline"),
        (["training.precision=mixed_bfloat16"], "trial"),
        (["training.threads=4", "training.epochs=3"], "trial"),
    ],
)
def test_a_baseline_is_a_config_as_it_stands(overrides: list[str], role: str) -> None:
    assert provenance.role(overrides, {"model": "model1", "training": "model1"}) == role


@pytest.mark.parametrize(
    ("choices", "role"),
    [
        ({"model": "model2", "training": "model2", "search_space": "my_own"}, "baseline"),
        ({"model": "my_own", "training": "model2"}, "trial"),
        ({"model": "model2", "training": "my_own"}, "trial"),
    ],
)
def test_a_model_of_the_users_own_is_no_baseline(choices: dict[str, str], role: str) -> None:
    assert provenance.role([f"model={choices['model']}"], choices) == role


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data.path=a.h5", True),
        ("+data.path=a.h5", True),
        ("++data.path=a.h5", True),
        ("data.paths=a", False),
    ],
)
def test_a_file_is_named_with_any_prefix(override: str, named: bool) -> None:
    assert provenance.names_file(["model=model2", override]) is named


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    commit = provenance.git_commit()
    assert commit is None or len(commit.removesuffix("-changed")) == 40
