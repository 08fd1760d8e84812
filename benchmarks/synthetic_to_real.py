"""Are the synthetic digits worth anything? Train on them alone, test on them and on real ones.

python benchmarks/synthetic_to_real.py FILE.h5 [SEED...]     both baselines, seeds 42 43 44 unless
given
"""

import os
import sys
from pathlib import Path

import numpy as np
from hydra import initialize_config_dir

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from svhn_sweep.config.data_sources import SyntheticConfig
from svhn_sweep.config.schema import compose_config, conf_dir, register_schema
from svhn_sweep.data import Images, Labels, Splits, hdf5, load, split_validation
from svhn_sweep.training.evaluation import evaluate, predictor
from svhn_sweep.training.fit import fit
from svhn_sweep.training.model import build_model


def accuracies(model_name: str, seed: int, tests: list[tuple[Images, Labels]]) -> list[float]:
    """Train one baseline on the default synthetic digits; its accuracy on each test set."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose_config([f"model={model_name}", f"seed={seed}", "data=synthetic"])
    training = config.training
    digits = load(config.data, test=False)
    parts = split_validation(digits, training.validation_split)
    model = build_model(config.model, training.precision, seed)
    fit(model, parts.train, parts.validation, training, seed)
    predict = predictor(model)
    return [evaluate(predict, images, labels, "test").accuracy for images, labels in tests]


def test_split(splits: Splits) -> tuple[Images, Labels]:
    assert splits.x_test is not None
    assert splits.y_test is not None
    return splits.x_test, splits.y_test


def main() -> None:
    register_schema()
    seeds = [int(seed) for seed in sys.argv[2:]] or [42, 43, 44]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        synthetic = compose_config(["data=synthetic"]).data
    assert isinstance(synthetic, SyntheticConfig)
    tests = [
        test_split(load(synthetic, test=True)),
        test_split(hdf5.read(Path(sys.argv[1]), "svhn", test=True)),
    ]
    for model in ("model1", "model2"):
        results = np.array([accuracies(model, seed, tests) for seed in seeds])
        for name, column in zip(("synthetic", "real"), results.T, strict=True):
            listed = ", ".join(f"{value:.4f}" for value in column)
            print(
                f"{model} on {name:9} test: mean {column.mean():.4f} of seeds {seeds}: {listed}",
                flush=True,
            )


if __name__ == "__main__":
    main()
