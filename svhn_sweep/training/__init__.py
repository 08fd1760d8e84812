"""Builds, trains and evaluates models; imports neither MLflow nor Optuna."""

import os

# By itself TensorFlow 2.21 computes with oneDNN only on processors with AVX-512 VNNI, AVX-VNNI or
# the like. Where there is AVX2 alone, training with it takes 0.6 (model1) and 0.7 (model2) of the
# time. The variable is read on import.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
