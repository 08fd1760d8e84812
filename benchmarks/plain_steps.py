"""How fast `model.fit` trains without any setting, on all cores: images per CPU second, as steps.py
has it of ours.

python benchmarks/plain_steps.py FILE [--model model2] [--epochs 4]

Nothing of svhn_sweep is imported: it changes a setting of TensorFlow's. Prints one line of JSON.
"""

import argparse
import json
import time

import h5py
import keras
import plain
from speed_results import MODELS, rates


def by_defaults(model: str, path: str, epochs: int) -> dict[str, object]:
    """Train as the plain script does."""
    with h5py.File(path) as file:
        x = file["X_train"][:].reshape(-1, 32, 32, 1).astype("float32")
        y = file["y_train"][:]
    explored = plain.BASELINES[model]
    network = plain.build(
        [int(value) for key, value in explored.items() if "conv" in key], explored["dropout"]
    )
    network.compile(
        keras.optimizers.Adam(explored["learning_rate"]),
        "categorical_crossentropy",
        metrics=["accuracy"],
    )
    ends = [(time.perf_counter(), time.process_time())]
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append((time.perf_counter(), time.process_time()))
    )

    labels = keras.utils.to_categorical(y, 10)
    batch_size = plain.BATCHES[model]
    options = {"batch_size": batch_size, "epochs": epochs, "validation_split": 0.2, "verbose": 0}
    fitted = network.fit(x, labels, callbacks=[clock], **options)
    return rates(ends, int(len(x) * 0.8)) | {"accuracy": fitted.history["val_accuracy"][-1]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--model", choices=MODELS, default="model2")
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    print(json.dumps(by_defaults(options.model, options.file, options.epochs)))


if __name__ == "__main__":
    main()
