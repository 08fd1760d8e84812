"""One training on this machine's GPU (or CPU), as the program does it, with what docs/speed.md asks
about GPUs.

python benchmarks/gpu_trial.py FILE [--model model2] [--precision float32] [--operations any]
[--wait]

Prints one line of JSON. With `--wait` it first trains an epoch, prints `ready` and waits for a line
on its standard input: so several of them begin to train at the same time. It ends after `--epochs`,
or after the first epoch that ends later than `--seconds` after the first epoch (of those that
count).
"""

import svhn_sweep.training  # noqa: F401  # before TensorFlow, which reads on import what this sets

# isort: split
import argparse
import hashlib
import json
import sys
import time

import keras
import steps
import tensorflow as tf
from gpu_page import WAYS
from speed_results import MODELS

from svhn_sweep.training import fit
from svhn_sweep.training.device import current_device, use_deterministic_operations


def digest(model: keras.Model) -> str:
    """Two models have the same one if and only if their weights are equal, to the last bit."""
    found = hashlib.sha256()
    for weights in model.get_weights():
        found.update(weights.tobytes())
    return found.hexdigest()


def peak_memory() -> int | None:
    """MiB that TensorFlow's own allocator has given out at most; None without a GPU."""
    if not tf.config.list_physical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) >> 20


def train(options: argparse.Namespace) -> dict[str, object]:
    config = steps.composed(options.model, options.file, options.precision, options.epochs)
    parts, model = steps.prepared(config)
    ends = [time.perf_counter()]

    def log(epoch: int, metrics: dict[str, float]) -> None:
        ends.append(time.perf_counter())

    def should_stop(epoch: int, metrics: dict[str, float]) -> bool:
        if epoch == 1 and options.wait:
            print("ready", flush=True)
            sys.stdin.readline()
            ends[-1] = time.perf_counter()
        return bool(ends[-1] - ends[1] > options.seconds)

    result = fit.fit(
        model, parts.train, parts.validation, config.training, config.seed, log, should_stop
    )
    return {
        "device": current_device(),
        "images": len(parts.train[0]),
        "first_epoch_seconds": ends[1] - ends[0] if not options.wait else None,
        "epochs": len(ends) - 2,
        "seconds": ends[-1] - ends[1],
        "accuracies": [epoch["val/accuracy"] for epoch in result.history],
        "digest": digest(model),
        "peak_memory_mib": peak_memory(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--model", choices=MODELS, default="model2")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--operations", choices=WAYS, default="deterministic", help="on a GPU")
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--wait", action="store_true")
    options = parser.parse_args()
    fit.JIT_COMPILE = options.operations == "xla"
    if options.operations == "deterministic":
        use_deterministic_operations()
    print(json.dumps(train(options)), flush=True)


if __name__ == "__main__":
    main()
