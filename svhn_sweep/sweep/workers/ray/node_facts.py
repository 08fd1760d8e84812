"""What must be equal on all nodes for their trials to be comparable."""

import hashlib
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from svhn_sweep import machine
from svhn_sweep.config.schema import Precision, conf_dir

# Packages that compute, compose configs or write files; Ray compares its own version and Python's.
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
    """What is installed on a node, and how fast it computes.

    Attributes:
        versions: Versions of Python and of `PACKAGES`, by name; `missing` if not installed.
        code: Hexadecimal SHA-256 of this package's files and of conf/.
        precision: The fastest that its GPUs, or its CPU, support: float32 or mixed_bfloat16.
    """

    versions: dict[str, str]
    code: str
    precision: Precision

    def difference(self, other: "NodeFacts") -> str:
        """Returns the first difference of another node from this one, the driver's, as text.

        Precisions are not compared. The text is empty if there is no difference.
        """
        for name, own in self.versions.items():
            if (others := other.versions.get(name)) != own:
                return f"its {name} is {others}, the driver's {own}"
        if self.code != other.code:
            return (
                f"its svhn_sweep differs from the driver's: {other.code[:8]}, not {self.code[:8]}"
            )
        return ""


def collect() -> NodeFacts:
    """Collects the facts of the node that this process runs on."""
    versions = {"Python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    precision = machine.resolve_precision(Precision.auto, machine.installed_gpus())
    return NodeFacts(versions, _code_digest(), precision)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _code_digest() -> str:
    digest = hashlib.sha256()
    package = Path(__file__).parents[3]
    for root, pattern in ((package, "*.py"), (conf_dir(), "*.yaml")):
        for path in sorted(root.rglob(pattern)):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
