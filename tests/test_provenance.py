from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.conf import HydraConf

from svhn_sweep import provenance
from svhn_sweep.config import (
    Config,
    DataConfig,
    StanfordConfig,
    SvhnConfig,
    SyntheticConfig,
    conf_dir,
    from_composed,
    register_schema,
)


def job(*overrides: str, folder: str | None = None) -> HydraConf:
    """What Hydra knows of a run with these overrides."""
    sources = [SimpleNamespace(provider="main", path=str(conf_dir()))]
    sources += [SimpleNamespace(provider="command-line", path=folder)] if folder else []
    runtime, typed = SimpleNamespace(config_sources=sources), SimpleNamespace(task=list(overrides))
    return SimpleNamespace(runtime=runtime, overrides=typed)  # type: ignore[return-value]


def run_again(command: str) -> Config:
    """The config of the recorded command, as a shell and Hydra understand it."""
    import shlex

    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "svhn_sweep"]
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return from_composed(compose("config", words[3:]))


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
def test_the_command_names_the_data_that_was_used(data: DataConfig) -> None:
    typed = ("model=model1", "seed=7", "data=auto", "data.synthetic.train_size=99", "evaluation.test=null")
    config = run_again(provenance.command(job(*typed), data, test=False))
    assert config.data == data
    assert (config.model.name, config.seed, config.evaluation.test) == ("model1", 7, False)


def test_the_command_names_a_folder_of_own_configs() -> None:
    command = provenance.command(job("model=wide", folder="/tmp/my conf"), SvhnConfig("/x"), test=True)
    assert command.startswith("python -m svhn_sweep '--config-dir=/tmp/my conf' model=wide data=svhn ")


@pytest.mark.parametrize(
    ("overrides", "role"),
    [
        ([], "baseline"),
        (["model=model1", "seed=3", "data=synthetic", "tracking.log_model=false"], "baseline"),
        (["model.dropout=0"], "trial"),
        (["+model.filters.conv5=8"], "trial"),
        (["training.epochs=3"], "trial"),
        (["training=model1"], "trial"),
    ],
)
def test_a_baseline_is_a_config_as_it_stands(overrides: list[str], role: str) -> None:
    assert provenance.role(overrides) == role


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    commit = provenance.git_commit()
    assert commit is None or len(commit.removesuffix("-changed")) == 40
