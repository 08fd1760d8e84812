"""How fast one setting trains: images per CPU second, and the share of the core's own matrix
products.

python benchmarks/steps.py FILE [--model model2] [--precision mixed_bfloat16] [--threads 1]
[--epochs 4]

Prints one line of JSON, as plain_steps.py does of `model.fit` with its defaults. Validation is part
of the time, the first epoch is not: TensorFlow traces the model in it.
"""

import svhn_sweep.training  # noqa: F401  # before TensorFlow, which reads on import what this sets

# isort: split
import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import keras
import tensorflow as tf
from hydra import initialize_config_dir
from speed_results import MODELS, rates

from svhn_sweep import data
from svhn_sweep.config.schema import Config, compose_config, conf_dir, register_schema
from svhn_sweep.training.device import use_threads
from svhn_sweep.training.fit import fit
from svhn_sweep.training.model import build_model

PARTS = {  # of a step, by what the names of its operations contain
    "convolution, forward": r"FusedConv2D|:Conv2D$",
    "convolution, gradient of the filters": r"Conv2DBackpropFilter",
    "convolution, gradient of the input": r"Conv2DBackpropInput",
    "leaky ReLU": r"LeakyRelu",
    "max pool": r"MaxPool",
    "batch normalisation": r"batch_norm|moments|batchnorm",
    "dense layers": r"MatMul|BiasAdd",
    "Adam": r"adam|Adam",
}
OPERATION = r"[^:]:\w+$"  # scope/name:Type; with two colons it is about operations
BATCHES = {"PrefetchProduce", "MakeIterator::RootDataset"}  # tf.data, in threads of its own


def composed(model: str, path: str, precision: str, epochs: int, *overrides: str) -> Config:
    """A baseline of conf/ on the digits of a file."""
    register_schema()
    chosen = [f"model={model}", "data=svhn", f"data.path={path}", f"training.precision={precision}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose_config([*chosen, f"training.epochs={epochs}", *overrides])


def prepared(config: Config) -> tuple[data.FitData, keras.Model]:
    """Its digits and its untrained model, in a process with its threads."""
    use_threads(config.training.threads)
    splits = data.load(config.data, test=False)
    training = config.training
    return (
        data.split_validation(splits, training.validation_split),
        build_model(config.model, training.precision, config.seed),
    )


def flop(model: keras.Model) -> tuple[float, float]:
    """Floating-point operations per image of convolutions and dense layers: forward alone, and
    with all gradients.
    """
    forward = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            forward.append(
                2.0
                * layer.kernel.shape.num_elements()
                * layer.output.shape[1]
                * layer.output.shape[2]
            )
        elif isinstance(layer, keras.layers.Dense):
            forward.append(2.0 * layer.kernel.shape.num_elements())
    return sum(forward), 3 * sum(forward) - forward[0]  # nobody asks for the gradient of the pixels


def matrix_products(dtype: str, size: int = 2048) -> float:
    """What this core does at its best: GFLOP per second of a large matrix product."""
    factor = tf.cast(tf.random.normal((size, size)), dtype)
    times = []
    for _ in range(12):
        began = time.process_time()
        tf.linalg.matmul(factor, factor).numpy()
        times.append(time.process_time() - began)
    return 2 * size**3 / min(times) / 1e9


def ours(config: Config, profile: Path | None = None) -> dict[str, object]:
    """Train as the program does, on one process's threads."""
    assert config.training.threads
    use_threads(config.training.threads)  # before the products, which are to use them too
    dtype = "bfloat16" if config.training.precision == "mixed_bfloat16" else "float32"
    rate = matrix_products(dtype)
    parts, model = prepared(config)
    ends = [(time.perf_counter(), time.process_time())]

    def log(epoch: int, metrics: dict[str, float]) -> None:
        ends.append((time.perf_counter(), time.process_time()))
        if profile and epoch == config.training.epochs - 1:
            tf.profiler.experimental.start(str(profile))

    result = fit(model, parts.train, parts.validation, config.training, config.seed, log=log)
    if profile:
        tf.profiler.experimental.stop()
    forward, trained = flop(model)
    work = (len(parts.train[0]) * trained + len(parts.validation[0]) * forward) / 1e9
    found = rates(ends[: -1 if profile else None], len(parts.train[0]))
    return found | {
        "gflop": work,
        "matrix_products": rate,
        "share": [work / seconds / rate for seconds in found["cpu_seconds"]],
        "accuracy": result.history[-1]["val/accuracy"],
    }


def shares(profile: Path) -> dict[str, float]:
    """Which operations an epoch's time went to, as shares of all operations' time."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    (path,) = profile.rglob("*.xplane.pb")
    space = xplane_pb2.XSpace()
    seconds = Counter[str]()
    space.ParseFromString(path.read_bytes())
    for plane, line in ((each, line) for each in space.planes for line in each.lines):
        for event in line.events:
            name = plane.event_metadata[event.metadata_id].name
            duration = event.duration_ps / 1e12
            if name in BATCHES:
                seconds["batches"] += duration
            elif line.name.startswith("tf_Compute") and re.search(OPERATION, name):
                seconds[
                    next(
                        (part for part, pattern in PARTS.items() if re.search(pattern, name)),
                        "other",
                    )
                ] += duration
    return {part: value / seconds.total() for part, value in seconds.most_common()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--model", choices=MODELS, default="model2")
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument(
        "--profile", action="store_true", help="also where the time of the last epoch went"
    )
    options = parser.parse_args()
    config = composed(
        options.model,
        options.file,
        options.precision,
        options.epochs,
        f"training.threads={options.threads}",
    )
    with tempfile.TemporaryDirectory() as folder:
        found = ours(config, Path(folder) if options.profile else None)
        print(json.dumps(found | ({"parts": shares(Path(folder))} if options.profile else {})))


if __name__ == "__main__":
    main()
