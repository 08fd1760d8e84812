"""The script that most people would write: Optuna, `model.fit` with its defaults, MLflow by hand,
one trial at a time.

python benchmarks/plain.py FILE [--model model2] [--trials 24] [--epochs 30] [--seed 42] [--first
JSON]

It is what svhn_sweep is compared with: the same models, data, split, search space and budget,
nothing of our code. Only the sampler is seeded: after `keras.utils.set_random_seed`, `model.fit` of
Keras 3.15 shows the batches in one and the same order in each epoch, which costs accuracy
(docs/architecture.md, *Repeatable*). Prints one line of JSON for each trial: number, seconds of the
clock, CPU seconds, validation accuracy by epoch.
"""

import argparse
import json
import time

import h5py
import keras
import matplotlib as mpl
import mlflow
import optuna
import seaborn as sns
from keras import layers
from matplotlib import pyplot as plt
from sklearn.metrics import confusion_matrix

BASELINES: dict[str, dict[str, float]] = {
    "model1": {"learning_rate": 1e-3, "dropout": 0.0, "conv1": 16, "conv2": 32},
    "model2": {
        "learning_rate": 1e-3,
        "dropout": 0.5,
        "conv1": 16,
        "conv2": 32,
        "conv3": 32,
        "conv4": 64,
    },
}
BATCHES = {"model1": 32, "model2": 128}
EPOCHS = {"model1": 20, "model2": 30}


def build(filters: list[int], dropout: float) -> keras.Sequential:
    stack = [keras.Input((32, 32, 1)), layers.Rescaling(1 / 255)]
    for index, count in enumerate(filters):
        stack += [layers.Conv2D(count, 3, padding="same"), layers.LeakyReLU(0.1)]
        if index % 2:
            stack.append(layers.MaxPooling2D())
            if len(filters) == 4:
                stack.append(layers.BatchNormalization())
    stack += [layers.Flatten(), layers.Dense(32), layers.LeakyReLU(0.1)]
    stack += [layers.Dropout(dropout), layers.Dense(10, activation="softmax")]
    return keras.Sequential(stack)


def suggest(trial: optuna.Trial, model: str) -> tuple[float, float, list[int]]:
    tops = [32, 64, 64, 128] if model == "model2" else [32, 64]
    learning_rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.6)
    return (
        learning_rate,
        dropout,
        [
            trial.suggest_int(f"conv{i}", top // 4, top, step=top // 4)
            for i, top in enumerate(tops, 1)
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--model", choices=BASELINES, default="model2")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--first", type=json.loads, default=[], help="the first trials, as a list of params"
    )
    options = parser.parse_args()
    mpl.use("agg")
    mlflow.set_experiment("plain")
    with h5py.File(options.file) as file:
        x = file["X_train"][:].reshape(-1, 32, 32, 1).astype("float32")
        y = file["y_train"][:]
    labels = keras.utils.to_categorical(y, 10)
    held_out = int(len(x) * 0.8)
    batch_size = BATCHES[options.model]
    epochs = options.epochs or EPOCHS[options.model]

    def objective(trial: optuna.Trial) -> float:
        began = time.perf_counter()
        cpu = time.process_time()
        learning_rate, dropout, filters = suggest(trial, options.model)
        with mlflow.start_run(run_name=f"trial {trial.number}"):
            mlflow.log_params(
                {"learning_rate": learning_rate, "dropout": dropout, "filters": filters}
            )
            model = build(filters, dropout)
            model.compile(
                keras.optimizers.Adam(learning_rate),
                "categorical_crossentropy",
                metrics=["accuracy"],
            )
            fitted = model.fit(
                x, labels, batch_size=batch_size, epochs=epochs, validation_split=0.2, verbose=2
            )
            for epoch in range(epochs):
                mlflow.log_metrics(
                    {key: values[epoch] for key, values in fitted.history.items()}, step=epoch
                )
            predicted = model.predict(x[held_out:], verbose=0).argmax(axis=1)
            figure, axes = plt.subplots()
            sns.heatmap(confusion_matrix(y[held_out:], predicted), annot=True, fmt="d", ax=axes)
            mlflow.log_figure(figure, "confusion_matrix.png")
            plt.close(figure)
        accuracies = [float(accuracy) for accuracy in fitted.history["val_accuracy"]]
        line = {
            "trial": trial.number,
            "seconds": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
        }
        print(json.dumps(line | {"accuracies": accuracies}), flush=True)
        return max(accuracies)

    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=options.seed)
    )
    for params in options.first:
        study.enqueue_trial(params)
    study.optimize(objective, n_trials=options.trials)


if __name__ == "__main__":
    main()
