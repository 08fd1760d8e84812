"""The variables that TensorFlow and Keras read: some have no influence, others are recorded.

Each list is from the sources of TensorFlow 2.21, its libraries, and Keras 3.15. Variables in
neither list change no numbers: devices, memory, logs. `NUMERIC` names variables one by one, since
other programs use the prefix TF_ as well, some for secrets.
"""

import os
import re
from collections.abc import Mapping

from svhn_sweep.errors import ConfigError

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# What these would change is a key of the config, or must be as it is here: XLA cannot compile the
# batches, and TensorFlow ends the process if a flag of XLA is misspelt.
IGNORED = re.compile(
    r"KERAS_\w+|AUTOGRAPH_\w+|TF_CONFIG|TF_USE_LEGACY_KERAS|TF_FORWARD_COMPATIBILITY_DELTA_DAYS"
    r"|TF_ENABLE_(CONTROL_FLOW|COND|WHILE|TENSOR_ARRAY)_V2|TF_NUM_INT(RA|ER)OP_THREADS"
    r"|(TF_)?XLA_FLAGS|TF_JITRT_FLAGS|TF_FUNCTION_JIT_COMPILE_DEFAULT|TF_JIT_COMPILE_REWRITE"
)
NUMERIC = (
    # of CPUs
    ONEDNN,
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "TF_SET_ONEDNN_FPMATH_MODE"),
    "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS",  # training goes on with weights of before
    "TF_ENABLE_ZENDNN_OPTS",
    "TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL",
    "TF_USE_DEEP_CONV2D",
    "TF_OVERRIDE_GLOBAL_THREADPOOL",
    # of NVIDIA GPUs
    *("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "CUDNN_ERRATA_JSON_FILE"),
    *("TF_CONV2D_USE_FP16_ACCUMULATE", "TF_FP16_CONV_USE_FP32_COMPUTE"),
    *("TF_FP16_MATMUL_USE_FP32_COMPUTE", "TF_DISABLE_RZ_CHECK", "TF_ENABLE_MAXPOOL_NANPROP"),
    *("TF_CUDNN_DETERMINISTIC", "TF_CUDNN_USE_AUTOTUNE", "TF_CUDNN_USE_RUNTIME_FUSION"),
    *("TF_CUDNN_DISABLE_CONV_1X1_OPTIMIZATION", "TF_CUDNN_WORKSPACE_LIMIT_IN_MB"),
    *("TF_CUBLAS_WORKSPACE_LIMIT_IN_MB", "TF_USE_CUBLASLT", "TF_MATMUL_AUTOTUNE_ENABLE"),
    *("TF_ENABLE_WINOGRAD_NONFUSED", "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT"),
    *("TF_USE_DEFAULT_CONV_ALGO", "TF_AUTOTUNE_THRESHOLD", "TF_DISABLE_JIT_KERNELS"),
    # of all devices
    *("TF_DETERMINISTIC_OPS", "TF_DETERMINISTIC_ORDER", "TF_USE_DETERMINISTIC_SEGMENT_REDUCTIONS"),
    "TF_DISABLE_SEGMENT_REDUCTION_OP_DETERMINISM_EXCEPTIONS",
    "TF_DISABLE_SCATTER_OP_DETERMINISM",
)
# NumPy and joblib convert them without a message of their own.
INTEGERS = ("LOKY_MAX_CPU_COUNT", "JOBLIB_MULTIPROCESSING", "NUMPY_MADVISE_HUGEPAGE")


def check() -> None:
    """Checks the variables with which an import would end in a traceback.

    Raises:
        ConfigError: One of `INTEGERS` is no whole number.
    """
    for name in INTEGERS:
        value = os.environ.get(name)
        if value is not None and re.fullmatch(r"[+-]?\d+", value.strip()) is None:
            raise ConfigError(f"{name} must be a whole number, or unset, but is {value!r}.")


def ignore_settings() -> None:
    """Removes the influence of `IGNORED` and keras.json; call it before TensorFlow is imported.

    oneDNN is on unless the user sets it: by itself TensorFlow 2.21 computes with it only on
    processors with AVX-512 VNNI, AVX-VNNI or the like. Where there is AVX2 alone, training with it
    takes 0.6 (model1) and 0.7 (model2) of the time.
    """
    for name in [name for name in os.environ if IGNORED.fullmatch(name)]:
        del os.environ[name]
    # Keras reads keras.json in this folder, or writes one; it can do neither where there is none.
    os.environ["KERAS_HOME"] = os.devnull
    os.environ[ONEDNN] = os.environ.get(ONEDNN) or "1"


def numeric_variables() -> dict[str, str]:
    """Returns the variables of `NUMERIC` that are set to anything but their default, by name."""
    variables = {name: os.environ.get(name, "") for name in sorted(NUMERIC)}
    return {
        name: value for name, value in variables.items() if value and (name, value) != (ONEDNN, "1")
    }


def replace_numeric_variables(variables: Mapping[str, str]) -> None:
    """Replaces the result of `numeric_variables` of this process by another process'."""
    for name in NUMERIC:
        os.environ.pop(name, None)
    os.environ.update(variables)
