"""Lets workers and single runs sleep instead of training: processes with this folder on PYTHONPATH.

Journals, drivers, databases and servers are the real ones.
"""

from __future__ import annotations

import os
import sys
import types

is_worker = any(
    "workers.worker_main" in argument or argument.endswith("default_worker.py")
    for argument in sys.orig_argv
)
is_single_run = (
    "svhn_sweep" in sys.orig_argv
    and "optuna" not in sys.orig_argv
    and any(argument.startswith("model=") for argument in sys.orig_argv)
)
if is_worker or is_single_run:
    import errno
    import math
    import time

    sys.modules["svhn_sweep.training.fit"] = types.ModuleType("no TensorFlow: nothing is fitted")

    from svhn_sweep import trial
    from svhn_sweep.config.flatten import flatten
    from svhn_sweep.config.schema import Config
    from svhn_sweep.sweep.workers import tasks
    from svhn_sweep.sweep.workers.evaluation_requests import TimeRequest, TimeResult
    from svhn_sweep.tracking import journal as journals
    from svhn_sweep.tracking.journal import Journal
    from svhn_sweep.trial_status import TrialStatus

    def end(journal: Journal, status: TrialStatus) -> None:
        journal.log_artifact("trial.log")
        journal.end(status)

    def sleep(
        config: Config,
        splits: object,
        parts: object,
        journal: Journal,
        command: str,
        should_stop: trial.ShouldStop | None,
        initial_weights: object,
        resumable: bool,
    ) -> trial.TrialOutcome:
        """Writes a curve that depends on the params alone; resumes after the last epoch."""
        journal.log_params(dict(flatten(config.training, "training.")))
        journal.set_tags(
            {"visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""), "pid": str(os.getpid())}
        )
        if os.environ.get("PRETEND_DISK") == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocated = b"x" * int(os.environ.get("PRETEND_BYTES", "0"))
        top = 0.9 - abs(math.log10(config.training.learning_rate) + 3) / 10
        seconds = float(os.environ.get("PRETEND_SECONDS", "0.05"))
        epochs_done = max(journals.history(journal.folder), default=0)
        for epoch in range(epochs_done + 1, config.training.epochs + 1):
            time.sleep(seconds)
            accuracy = top * (1 - 0.5**epoch)
            values = {"val/accuracy": accuracy, "val/loss": 1 - accuracy, "epoch_seconds": seconds}
            journal.log_metrics(values, step=epoch)
            if should_stop is not None and should_stop(epoch, values):
                end(journal, TrialStatus.pruned)
                return trial.TrialOutcome(TrialStatus.pruned, {})
        del allocated
        summary_metrics = {
            "val/best_accuracy": top * (1 - 0.5**config.training.epochs),
            "val/best_epoch": config.training.epochs,
        }
        journal.log_metrics(summary_metrics)
        end(journal, TrialStatus.complete)
        return trial.TrialOutcome(TrialStatus.complete, summary_metrics)

    def time_models(request: TimeRequest) -> TimeResult:
        """Returns the same times for all models: real ones take 10 s of TensorFlow."""
        return TimeResult({number: [0.1] * 3 for number in request.overrides})

    tasks.time_models = time_models  # before worker_main imports it

    # The public `run_trial` around it records errors, and stays the real one.
    trial._train_and_evaluate = sleep

elif "SWEEP_TIMES" in os.environ and "svhn_sweep" in sys.orig_argv:
    import atexit
    import json
    from pathlib import Path

    def write_cpu_seconds() -> None:
        """Appends the CPU seconds of the driver's own process."""
        with Path(os.environ["SWEEP_TIMES"]).open("a") as file:
            file.write(json.dumps({"cpu": sum(os.times()[:2])}) + "\n")

    atexit.register(write_cpu_seconds)
