"""The facts that nodes must have in common, and the messages about differences."""

import platform
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

from svhn_sweep import machine
from svhn_sweep.config.schema import Precision, conf_dir
from svhn_sweep.sweep.workers.ray import node_facts
from svhn_sweep.sweep.workers.ray.node_facts import NodeFacts, collect

FACTS = NodeFacts({"Python": "3.11.7", "numpy": "2.3.1"}, "0123456789abcdef", Precision.float32)


def test_a_node_has_no_difference_from_itself() -> None:
    facts = collect()
    assert facts.versions["Python"] == platform.python_version()
    assert facts.versions["tensorflow"] == tf.__version__
    assert "missing" not in facts.versions.values()
    assert facts.precision == machine.resolve_precision(Precision.auto, [])
    assert facts == collect()
    assert facts.difference(collect()) == ""


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            replace(FACTS, versions=FACTS.versions | {"numpy": "2.2.0"}),
            "its numpy is 2.2.0, the driver's 2.3.1",
        ),
        (
            replace(FACTS, versions=FACTS.versions | {"Python": "3.12.1"}),
            "its Python is 3.12.1, the driver's 3.11.7",
        ),
        (
            replace(FACTS, code="fedcba98"),
            "its svhn_sweep differs from the driver's: fedcba98, not 01234567",
        ),
        # the cluster decides which precisions it accepts
        (replace(FACTS, precision=Precision.mixed_bfloat16), ""),
    ],
)
def test_a_difference_is_described_by_name_and_both_values(other: NodeFacts, message: str) -> None:
    assert FACTS.difference(other) == message


def test_the_version_of_a_package_that_is_not_installed_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_facts, "PACKAGES", ("numpy", "no-such-package"))
    assert collect().versions["no-such-package"] == "missing"


def test_a_changed_config_file_changes_the_digest_of_the_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest = collect().code
    for path in conf_dir().rglob("*.yaml"):
        copy = tmp_path / path.relative_to(conf_dir())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(node_facts, "conf_dir", lambda: tmp_path)
    assert collect().code == digest
    (tmp_path / "model" / "model1.yaml").write_text("name: another\n")
    assert collect().code != digest
