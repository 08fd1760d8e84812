"""What TensorFlow and Keras read from the environment has no influence or is recorded."""

import os
from contextlib import nullcontext

import pytest

from svhn_sweep import environment
from svhn_sweep.errors import ConfigError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.NUMERIC:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", "/somewhere")


@pytest.mark.parametrize(
    ("variables", "after"),
    [
        ({}, {"KERAS_HOME": os.devnull, "TF_ENABLE_ONEDNN_OPTS": "1"}),
        ({"TF_ENABLE_ONEDNN_OPTS": ""}, {"TF_ENABLE_ONEDNN_OPTS": "1"}),
        ({"TF_ENABLE_ONEDNN_OPTS": "0"}, {"TF_ENABLE_ONEDNN_OPTS": "0"}),
        ({"KERAS_HOME": "/mine"}, {"KERAS_HOME": os.devnull}),
        ({"KERAS_BACKEND": "jax"}, {"KERAS_BACKEND": None}),
        ({"KERAS_MAX_EPOCHS": "1"}, {"KERAS_MAX_EPOCHS": None}),
        ({"KERAS_MAX_STEPS_PER_EPOCH": "1"}, {"KERAS_MAX_STEPS_PER_EPOCH": None}),
        ({"KERAS_NNX_ENABLED": "1"}, {"KERAS_NNX_ENABLED": None}),
        ({"TF_USE_LEGACY_KERAS": "1"}, {"TF_USE_LEGACY_KERAS": None}),
        ({"TF_ENABLE_CONTROL_FLOW_V2": "0"}, {"TF_ENABLE_CONTROL_FLOW_V2": None}),
        ({"TF_NUM_INTRAOP_THREADS": "1"}, {"TF_NUM_INTRAOP_THREADS": None}),
        ({"TF_XLA_FLAGS": "--misspelt"}, {"TF_XLA_FLAGS": None}),
        ({"XLA_FLAGS": "--misspelt"}, {"XLA_FLAGS": None}),
        ({"TF_FUNCTION_JIT_COMPILE_DEFAULT": "1"}, {"TF_FUNCTION_JIT_COMPILE_DEFAULT": None}),
        ({"NVIDIA_TF32_OVERRIDE": "0"}, {"NVIDIA_TF32_OVERRIDE": "0"}),
        ({"TF_CPP_MIN_LOG_LEVEL": "3"}, {"TF_CPP_MIN_LOG_LEVEL": "3"}),
    ],
)
def test_what_is_not_recorded_has_no_influence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], after: dict[str, str | None]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment.ignore_settings()
    assert {name: os.environ.get(name) for name in after} == after


@pytest.mark.parametrize(
    ("name", "value", "recorded"),
    [
        ("TF_ENABLE_ONEDNN_OPTS", "0", True),
        ("TF_DETERMINISTIC_OPS", "1", True),
        ("NVIDIA_TF32_OVERRIDE", "0", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", True),
        ("TF_ENABLE_ONEDNN_OPTS", "1", False),  # the default
        ("NVIDIA_TF32_OVERRIDE", "", False),
        ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2", False),  # has no influence
        ("KERAS_BACKEND", "jax", False),  # has no influence
        ("OMP_NUM_THREADS", "1", False),  # TensorFlow has threads of its own
        ("CUDA_VISIBLE_DEVICES", "1", False),  # the run's device is recorded
        ("TF_CPP_MIN_LOG_LEVEL", "3", False),
        ("TF_TOKEN_app_terraform_io", "secret", False),  # another program's
    ],
)
def test_what_changes_numbers_is_recorded(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, recorded: bool
) -> None:
    monkeypatch.setenv(name, value)
    assert environment.numeric_variables() == ({name: value} if recorded else {})


@pytest.mark.parametrize("name", environment.INTEGERS)
@pytest.mark.parametrize(
    ("value", "allowed"), [("2", True), ("-1", True), ("", False), ("x", False)]
)
def test_a_number_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: bool
) -> None:
    monkeypatch.setenv(name, value)
    refused = pytest.raises(ConfigError, match=f"{name} must be a whole .* but is {value!r}.$")
    with nullcontext() if allowed else refused:
        environment.check()


def test_a_node_takes_the_drivers_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    environment.replace_numeric_variables({"NVIDIA_TF32_OVERRIDE": "0"})
    assert environment.numeric_variables() == {"NVIDIA_TF32_OVERRIDE": "0"}
