"""What must be equal on all nodes, for trials to be comparable."""

import hashlib
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from svhn_sweep import machine
from svhn_sweep.config.schema import Precision, conf_dir

# What computes, composes configs or writes files; Ray compares its own version and Python's.
PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "h5py",
    "hydra-core",
    "omegaconf",
    "mlflow",
    "scikit-learn",
    "matplotlib",
    "seaborn",
)


@dataclass(frozen=True)
class NodeFacts:
    """What a node has installed, and can compute.

    Attributes:
        versions: of Python and of packages, by name.
        code: the SHA-256 of this package's own files and of conf/.
        precision: the fastest in which its GPUs, or its processor, compute: float32 or
            mixed_bfloat16.
    """

    versions: dict[str, str]
    code: str
    precision: Precision

    def difference(self, other: "NodeFacts") -> str:
        """What another node has otherwise, in words; empty if there is nothing."""
        for name, mine in self.versions.items():
            if (theirs := other.versions.get(name)) != mine:
                return f"its {name} is {theirs}, the driver's {mine}"
        if self.code != other.code:
            return (
                f"its svhn_sweep differs from the driver's: {other.code[:8]}, not {self.code[:8]}"
            )
        return ""


def collect() -> NodeFacts:
    """The facts of this process' node."""
    versions = {"Python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    return NodeFacts(versions, _code(), machine.precision(Precision.auto, machine.installed_gpus()))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _code() -> str:
    digest = hashlib.sha256()
    package = Path(__file__).parents[3]
    for root, pattern in ((package, "*.py"), (conf_dir(), "*.yaml")):
        for path in sorted(root.rglob(pattern)):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
