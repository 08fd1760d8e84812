import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import OmegaConf

from svhn_sweep.config.data_sources import DataConfig, StanfordConfig, SvhnConfig, SyntheticConfig
from svhn_sweep.config.overrides import (
    Value,
    expand_home,
    override_value,
    pin_interpolations,
    pin_overrides,
    resolve_override,
    run_mode,
    run_name,
    run_role,
    sets_data_path,
    shell_command,
    user_config_dirs,
)
from svhn_sweep.config.schema import Config, EvaluationConfig, conf_dir

ComposeConfig = Callable[..., Config]


def arguments_of(command: str) -> list[str]:
    """The arguments of the command, as a shell parses it."""
    python, dash_m, package, *arguments = shlex.split(command)
    assert (python, dash_m, package) == ("python", "-m", "svhn_sweep")
    return arguments


def resolved(config: Config, data: DataConfig, *, threads: int = 3, test: bool = False) -> Config:
    """The config with everything resolved that may be left open."""
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
def test_the_command_names_the_data_source_that_was_resolved(
    composed: ComposeConfig, data: DataConfig
) -> None:
    typed = [
        "model=model1",
        "seed=7",
        "data=auto",
        "data.synthetic.train_size=99",
        "evaluation.test=null",
    ]
    config = resolved(composed(*typed), data)
    command = shell_command(pin_overrides(typed, config), [])
    assert composed(*arguments_of(command)) == config


@pytest.mark.parametrize(
    ("typed", "others"),
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
def test_pinned_overrides_replace_what_was_resolved(
    composed: ComposeConfig, typed: list[str], others: list[str], test: bool
) -> None:
    config = resolved(composed(*others), SvhnConfig("/tmp/digits.h5"), threads=5, test=test)
    overrides = pin_overrides(typed, config)
    machine = ["training.precision=float32", "training.threads=5"]
    pinned = [
        "data=svhn",
        "data.path=/tmp/digits.h5",
        *machine,
        f"evaluation.test={str(test).lower()}",
    ]
    assert overrides == [*others, *pinned]
    assert composed(*overrides) == config


def test_pinning_twice_changes_nothing(composed: ComposeConfig) -> None:
    typed = ["model=model1", "training.threads=2", "data=synthetic"]
    config = resolved(composed(*typed), SyntheticConfig("/tmp/drawn", 20, 10, 3))
    once = pin_overrides(typed, config)
    assert pin_overrides(once, config) == once


@pytest.mark.parametrize(
    ("argument", "expanded"),
    [
        ("data.path=~/a.h5", "data.path=/home/me/a.h5"),
        ("data.path=~/a (1).h5", "data.path='/home/me/a (1).h5'"),
        ("+data.folder=~", "+data.folder=/home/me"),
        ("storage=sqlite:///~/m.db", "storage=sqlite:////home/me/m.db"),
        ("--config-dir=~/my conf", "--config-dir=/home/me/my conf"),
        ("data.path=~nobody-at-all/a.h5", "data.path='~nobody-at-all/a.h5'"),
        ("~model.filters.conv6", "~model.filters.conv6"),
        ("~seed=1", "~seed=1"),
        ("data.path=a~b", "data.path=a~b"),
    ],
)
def test_a_path_below_the_home_folder_needs_no_quotes(
    monkeypatch: pytest.MonkeyPatch, argument: str, expanded: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home(argument) == expanded


def test_interpolations_are_pinned_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED", "7")
    (tmp_path / "mine.yaml").write_text(
        "seed: ${oc.env:SEED}\nmodel: {name: m, again: '${seed}'}\nsearch_space: {a.b: '${now:%f}'}"
    )
    typed = ["model.name=m-${oc.env:SEED}", "model.again=${seed}"]
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        composed = compose("mine", typed)
        assert pin_interpolations(typed, composed) == [
            "model.again=${seed}",
            "seed='7'",
            "model.name=m-7",
        ]
        assert [resolve_override(item, composed) for item in typed] == [
            "model.name=m-7",
            "model.again=${seed}",
        ]


@pytest.mark.parametrize(
    ("folders", "options"),
    [
        ([], []),
        (["/tmp/conf"], ["--config-dir=/tmp/conf"]),
        (["/tmp/my conf", "/tmp/it's"], ["--config-dir=/tmp/my conf", "--config-dir=/tmp/it's"]),
    ],
)
def test_a_shell_parses_the_command_back_to_its_overrides(
    folders: list[str], options: list[str]
) -> None:
    overrides = ["model=wide", "data.path='/tmp/$HOME and `more`; #'", "+x=[1, 2]"]
    assert arguments_of(shell_command(overrides, folders)) == [*options, *overrides]


def test_the_command_sets_the_variables_that_change_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("CUDNN_ERRATA_JSON_FILE", "/tmp/an errata.json")
    assert shell_command(["seed=7"], []) == (
        "CUDNN_ERRATA_JSON_FILE='/tmp/an errata.json' ONEDNN_MAX_CPU_ISA=AVX2 "
        "python -m svhn_sweep seed=7"
    )


@pytest.mark.parametrize("folders", [[], ["/tmp/my conf"]])
def test_config_dirs_are_those_of_the_command_line(folders: list[str]) -> None:
    sources = [
        SimpleNamespace(provider="hydra", path="pkg://hydra.conf"),
        SimpleNamespace(provider="main", path=str(conf_dir())),
        *(SimpleNamespace(provider="command-line", path=folder) for folder in folders),
        SimpleNamespace(provider="schema", path="structured://"),
    ]
    job: HydraConf = SimpleNamespace(runtime=SimpleNamespace(config_sources=sources))  # type: ignore[assignment]
    assert user_config_dirs(job) == folders


@pytest.mark.parametrize(
    ("mode", "overrides", "added"),
    [
        (RunMode.RUN, [], []),
        (RunMode.MULTIRUN, ["hydra.mode=MULTIRUN"], []),  # -m
        (RunMode.MULTIRUN, ["hydra/sweeper=optuna"], ["hydra.mode=RUN"]),  # a file
    ],
)
def test_a_command_trains_once_although_a_file_sets_the_mode(
    mode: RunMode, overrides: list[str], added: list[str]
) -> None:
    job: HydraConf = SimpleNamespace(
        mode=mode, overrides=SimpleNamespace(hydra=OmegaConf.create(overrides))
    )  # type: ignore[assignment]
    assert run_mode(job) == added


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
def test_hydra_parses_a_value_back_to_the_same_value_and_type(
    tmp_path: Path, value: Value, text: str | None
) -> None:
    if text is not None:
        assert override_value(value) == text
    (tmp_path / "config.yaml").write_text("seed: 1")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        parsed = compose("config", [f"+value={override_value(value)}"]).value
    assert (parsed, type(parsed)) == (value, type(value))


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
        (["search_space=wide"], "trial"),
        (["search_space=notebook", "search_space/filters=model2"], "baseline"),
    ],
)
def test_a_run_is_a_baseline_unless_model_or_training_is_changed(
    overrides: list[str], role: str
) -> None:
    assert run_role(overrides, {"model": "model1", "training": "model1"}) == role


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "model2 · seed 42"),
        (["model=model1", "data=synthetic", "evaluation.test=false"], "model1 · seed 42"),
        (
            ["model=model1", "training.learning_rate=3e-4", "seed=7"],
            "model1 · learning_rate 3e-4 · seed 7",
        ),
        (
            ["+model.filters.conv5=8", "+model.filters.conv6=8"],
            "model2 · conv5 8 · conv6 8 · seed 42",
        ),
        (["training.augmentation.enabled=true"], "model2 · augmentation true · seed 42"),
        (["training=model1", "training.threads=1"], "model2 · training model1 · seed 42"),
        (["search_space=wide"], "model2 · search_space wide · seed 42"),
        (["tracking.run_name='my run: 1'", "model.dropout=0"], "my run: 1"),
        (["model.dropout=0." + 300 * "1"], f"model2 · dropout 0.{'1' * 180}…"),
    ],
)
def test_the_name_of_a_run_tells_what_differs_from_its_baseline(
    composed: ComposeConfig, overrides: list[str], name: str
) -> None:
    assert run_name(overrides, composed(*overrides)) == name


@pytest.mark.parametrize(
    ("choices", "role"),
    [
        ({"model": "model2", "training": "model2"}, "baseline"),
        ({"model": "my_own", "training": "model2"}, "trial"),
        ({"model": "model2", "training": "my_own"}, "trial"),
    ],
)
def test_an_option_that_is_not_in_conf_is_no_baseline(choices: dict[str, str], role: str) -> None:
    assert run_role([f"model={choices['model']}"], choices) == role


@pytest.mark.parametrize(
    ("override", "is_set"),
    [
        ("data.path=a.h5", True),
        ("+data.path=a.h5", True),
        ("++data.path=a.h5", True),
        ("data.paths=a", False),
    ],
)
def test_the_data_path_is_set_with_any_prefix(override: str, is_set: bool) -> None:
    assert sets_data_path(["model=model2", override]) is is_set
