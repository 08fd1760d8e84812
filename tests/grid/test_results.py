"""What is made of the results of a grid's runs."""

from pathlib import Path

from svhn_sweep.grid.plan import GridRunPlan
from svhn_sweep.grid.results import accuracies, curves, diverged, read_result
from svhn_sweep.tracking.journal import Journal
from svhn_sweep.trial_status import TrialStatus


def test_equal_runs_count_once(tmp_path: Path) -> None:
    results = []
    for number, (seed, status) in enumerate(
        [(1, "complete"), (1, "complete"), (2, "complete"), (3, "diverged"), (3, "diverged")]
    ):
        with Journal(tmp_path / str(number)) as journal:
            journal.start(name="run", experiment="svhn", store="", tags={})
            journal.log_metrics({"val/accuracy": 0.5}, step=1)
            journal.log_metrics({"val/best_accuracy": 0.5})
            journal.end(TrialStatus(status))
        plan = GridRunPlan(str(number), {}, "model1", seed, "", "")
        results.append(read_result(tmp_path, plan, "model1"))
    assert accuracies(results) == {"model1": {1: 0.5, 2: 0.5}}
    assert curves(results) == {"model1": [[0.5], [0.5]]}
    assert diverged(results) == {"model1": 1}
