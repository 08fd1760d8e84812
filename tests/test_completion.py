"""Tests the completion of command lines, with Hydra's function for bash."""

import subprocess
import sys
from pathlib import Path

import pytest

from svhn_sweep.completion import complete

SCRIPT = """
eval "$(svhn-sweep -sc install=bash)"
for COMP_LINE in "$@"; do
    words=($COMP_LINE)
    COMP_POINT=${#COMP_LINE} COMP_CWORD=$((${#words[@]} - 1))
    hydra_bash_completion
    echo "$COMP_LINE: ${COMPREPLY[@]}"
done
"""


@pytest.mark.parametrize(
    ("line", "own", "for_hydra"),
    [
        ("svhn-sweep ", "optuna ui sync predict audit", "svhn-sweep "),
        ("svhn-sweep mod", "", "svhn-sweep mod"),
        ("svhn-sweep model=model1 o", "optuna", "svhn-sweep model=model1 o"),
        ("svhn-sweep pre", "predict", "svhn-sweep pre"),
        ("svhn-sweep predict --m", "--model", ""),
        ("svhn-sweep ui --port 5001 ", "--port --host", ""),
        ("svhn-sweep sync out", "", ""),
        ("svhn-sweep --con", "", ""),
        (
            "svhn-sweep model=model1 -m optuna pru",
            "pruner.name= pruner.startup_trials= pruner.min_resource=",
            "svhn-sweep -m -m model=model1 hydra/sweeper=optuna pru",
        ),
        (
            "svhn-sweep optuna n_trials=3 tracking.tags.a=b x",
            "",
            "svhn-sweep -m hydra/sweeper=optuna hydra.sweeper.n_trials=3 ++tracking.tags.a=b x",
        ),
    ],
)
def test_own_words_are_completed_and_hydra_gets_its_own_grammar(
    line: str, own: str, for_hydra: str
) -> None:
    assert complete(line) == (own.split(), for_hydra)


@pytest.mark.slow
def test_bash_completes_keys_whatever_is_on_the_line(
    tmp_path: Path, plain_environment: dict[str, str]
) -> None:
    completed = {
        "svhn-sweep model.dr": "model.dropout=",
        "svhn-sweep -m optuna model=model1 training.learning_r": "training.learning_rate=",
        "svhn-sweep -m optuna n_t": "n_trials=",
        "svhn-sweep predict pict": "picture.png",  # bash's own, of files
        "svhn-sweep model=nope [ mod": "",
    }
    (tmp_path / "picture.png").touch()
    path = f"{Path(sys.executable).parent}:{plain_environment['PATH']}"
    result = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", *completed],
        cwd=tmp_path,
        env=plain_environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not result.stderr
    lines = dict(line.split(": ", maxsplit=1) for line in result.stdout.splitlines())
    assert lines == completed
