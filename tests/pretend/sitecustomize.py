"""On PYTHONPATH: workers sleep instead of training.

Journals, drivers, databases and servers are the real ones.
"""

from __future__ import annotations

import os
import sys
import types

if any(
    "workers.worker_main" in each or each.endswith("default_worker.py") for each in sys.orig_argv
):
    import errno
    import math
    import time

    sys.modules["svhn_sweep.training.fit"] = types.ModuleType("no TensorFlow: nothing is fitted")

    from svhn_sweep import trial
    from svhn_sweep.config.schema import Config, flatten
    from svhn_sweep.tracking import journal as journals
    from svhn_sweep.tracking.journal import Journal
    from svhn_sweep.trial_status import TrialStatus

    def sleep(
        config: Config,
        splits: object,
        parts: object,
        journal: Journal,
        command: str,
        should_stop: trial.ShouldStop,
    ) -> trial.Outcome:
        """A curve that depends on the params alone; it goes on after its last epoch as a real
        one does.
        """
        journal.params(dict(flatten(config.training, "training.")))
        journal.tags(
            {"visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""), "pid": str(os.getpid())}
        )
        if os.environ.get("PRETEND_DISK") == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        memory = b"x" * int(os.environ.get("PRETEND_BYTES", "0"))
        top = 0.9 - abs(math.log10(config.training.learning_rate) + 3) / 10
        seconds = float(os.environ.get("PRETEND_SECONDS", "0.05"))
        while "PRETEND_AFTER" in os.environ and not os.path.exists(os.environ["PRETEND_AFTER"]):  # noqa: PTH110
            time.sleep(0.1)
        for epoch in range(
            max(journals.history(journal.folder), default=0) + 1, config.training.epochs + 1
        ):
            time.sleep(seconds)
            accuracy = top * (1 - 0.5**epoch)
            values = {"val/accuracy": accuracy, "val/loss": 1 - accuracy, "epoch_seconds": seconds}
            journal.metrics(values, step=epoch)
            if should_stop(epoch, values):
                trial._end(journal, TrialStatus.pruned)
                return trial.Outcome(TrialStatus.pruned, {})
        del memory
        finals = {
            "val/best_accuracy": top * (1 - 0.5**config.training.epochs),
            "val/best_epoch": config.training.epochs,
        }
        journal.metrics(finals)
        trial._end(journal, TrialStatus.complete)
        return trial.Outcome(TrialStatus.complete, finals)

    trial._train_and_judge = sleep

elif "SWEEP_TIMES" in os.environ and "svhn_sweep" in sys.orig_argv:
    import atexit
    import json
    from pathlib import Path

    def note() -> None:
        """What the driver's own process has computed."""
        with Path(os.environ["SWEEP_TIMES"]).open("a") as file:
            file.write(json.dumps({"cpu": sum(os.times()[:2])}) + "\n")

    atexit.register(note)
