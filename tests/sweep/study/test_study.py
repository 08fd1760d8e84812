"""A study over the drivers that work on it, one after another: each test is one way in which
trials go wrong.
"""

from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState
from studies import BASELINE, EPOCHS, SPACE, Studies, sweeper, train, write

from svhn_sweep.config.schema import Precision
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.plan import Params
from svhn_sweep.sweep.plan.settings import PrunerConfig
from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.tracking import journal
from svhn_sweep.trial_status import TrialStatus


def handed_out(study: Study) -> PendingTrial:
    assignment = study.next()
    assert assignment is not None
    return assignment


def drawn(study: Study) -> list[Params]:
    """What was drawn so far: all but the baseline."""
    return [trial.params for trial in study.trials()[1:]]


def distinct(params: list[Params]) -> int:
    return len({tuple(each.items()) for each in params})


# what is drawn


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_no_start_draws_what_another_drew(studies: Studies, name: str) -> None:
    for _ in range(3):
        study = studies.open(settings=sweeper(sampler=name))
        train(study, 0.5)
        train(study, 0.6)
    assert distinct(drawn(study)) == 5


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_nor_if_all_trials_before_failed(studies: Studies, name: str) -> None:
    for _ in range(3):
        study = studies.open(settings=sweeper(sampler=name))
        train(study, state="failed", reason="no memory")
        train(study, state="failed", reason="no memory")
    assert distinct(drawn(study)) == 5


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_nor_while_the_trials_of_the_start_before_are_running(studies: Studies, name: str) -> None:
    for start in range(1, 4):
        study = studies.open(settings=sweeper(sampler=name))
        for _ in range(2 * start):  # those that were interrupted come first
            handed_out(study)
    assert distinct(drawn(study)) == 5


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_the_same_seed_draws_the_same(studies: Studies, tmp_path: Path, name: str) -> None:
    found = []
    for folder in ("a", "b"):
        each = Studies(tmp_path / folder)
        study = each.open(settings=sweeper(sampler=name))
        for value in range(5):
            train(study, value / 10)
        found.append(drawn(study))
        each.close()
    assert found[0] == found[1]


# whose study it is


def test_a_study_is_not_continued_with_another_sweep(studies: Studies) -> None:
    studies.open()
    with pytest.raises(
        ConfigError, match=r"^hydra\.sweeper\.study_name must be new for a changed sweep, but study"
    ):
        studies.open(studies.plan(fingerprint="another"))


def test_a_study_computes_in_one_precision(studies: Studies) -> None:
    studies.open()
    refused = (
        r"^training\.precision must be float32, in which study was begun, but is "
        r"mixed_bfloat16 here: add training"
    )
    with pytest.raises(ConfigError, match=refused):
        studies.open(studies.plan(precision=Precision.mixed_bfloat16))


def test_a_study_keeps_the_threads_that_it_was_created_with(studies: Studies) -> None:
    study = studies.open()
    assert (study.threads, Study(study.plan, study.settings, studies.opened[0], 8).threads) == (
        1,
        1,
    )


def test_a_study_whose_database_is_gone_does_not_take_the_folders_of_another(
    studies: Studies,
) -> None:
    train(studies.open(), 0.5)
    (studies.path / "optuna.db").rename(studies.path / "old.db")
    with pytest.raises(
        ConfigError, match=r"but the database does not know this folder; put back what was moved"
    ):
        studies.open()
    (studies.path / "old.db").rename(studies.path / "optuna.db")
    assert len(studies.open().trials()) == 1


def test_a_study_whose_folder_is_gone_does_not_begin_another(studies: Studies) -> None:
    train(studies.open(), 0.5)
    (studies.path / "multirun").rename(studies.path / "moved")
    with pytest.raises(
        ConfigError,
        match=r"study must belong to the study of that name .*, but the folder is not there",
    ):
        studies.open()
    assert not (studies.path / "multirun").exists()  # what was moved fits where it was


# how many trials there are


@pytest.mark.parametrize(
    ("budgets", "trained"),
    [
        ([10], [10]),
        ([4, 10], [4, 6]),
        ([10, 10], [10, 0]),
        ([10, 4], [10, 0]),
        ([1, 2, 3], [1, 1, 1]),
    ],
)
def test_the_budget_holds_over_all_starts(
    studies: Studies, budgets: list[int], trained: list[int]
) -> None:
    found = []
    for budget in budgets:
        study = studies.open(studies.plan(n_trials=budget))
        before = len(study.trials())
        while (assignment := study.next()) is not None:
            write(study, assignment.number, 0.5)
            study.tell(assignment.number, TrialStatus.complete, "")
        found.append(len(study.trials()) - before)
    assert found == trained
    assert [trial.number for trial in study.finished()] == list(range(sum(trained)))


def test_the_rest_of_the_budget_is_trained_after_a_break(studies: Studies) -> None:
    study = studies.open()
    for _ in range(4):
        train(study, 0.5)
    again = studies.open()
    numbers = [train(again, 0.5).number for _ in range(6)]
    assert (numbers, again.next()) == ([4, 5, 6, 7, 8, 9], None)


def test_a_trial_whose_process_died_does_not_run_until_it_goes_on(studies: Studies) -> None:
    study = studies.open()
    for number in range(3):
        handed_out(study)
        if number:
            write(study, number, 0.5)
    again = studies.open()
    endings = [journal.end_tags(again.folder(number)) for number in range(3)]
    assert [ending and ending["trial.state"] for ending in endings] == [
        None,
        "interrupted",
        "interrupted",
    ]
    assert not again.folder(0).exists()


def test_what_runs_pruned_diverged_and_failed_counts(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=5))
    for state in ("complete", "pruned", "diverged", "failed"):
        train(study, 0.5, state=state)
    assert handed_out(study).number == 4
    assert study.next() is None
    assert [trial.number for trial in study.finished()] == [0, 1, 2, 3]
    assert [trial.number for trial in study.trials()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("direction", "target", "values", "over"),
    [
        ("maximize", 0.9, [0.5, 0.8], False),
        ("maximize", 0.9, [0.5, 0.9], True),
        ("minimize", 0.3, [0.5, 0.4], False),
        ("minimize", 0.3, [0.5, 0.3], True),
        ("minimize", 0.3, [0.2], True),
        ("maximize", 0.0, [0.5], True),
        ("maximize", None, [1.0], False),
        ("minimize", 0.3, [], False),
    ],
)
def test_a_value_that_is_good_enough_ends_the_search(
    studies: Studies, direction: str, target: float | None, values: list[float], over: bool
) -> None:
    settings = sweeper(direction=direction, target=target)
    study = studies.open(settings=settings)
    for value in values:
        train(study, value)
    assert (study.next() is None) is over
    assert (studies.open(settings=settings).next() is None) is over


def test_only_a_complete_trial_reaches_the_target(studies: Studies) -> None:
    study = studies.open(settings=sweeper(target=0.9))
    train(study, 0.5)
    train(study, 0.95, state="pruned")
    assert study.next() is not None


def test_what_was_interrupted_is_finished_although_the_target_is_reached(studies: Studies) -> None:
    study = studies.open(settings=sweeper(target=0.9))
    interrupted, trained = handed_out(study), handed_out(study)
    study.interrupt(interrupted.number)
    write(study, trained.number, 0.95)
    study.tell(trained.number, TrialStatus.complete, "")
    assert handed_out(study).number == interrupted.number
    assert study.next() is None


# the baseline


def test_the_baseline_is_the_first_trial_and_there_once(studies: Studies) -> None:
    for _ in range(3):
        study = studies.open()
        study = studies.open()  # a driver that ended before it handed anything out
        train(study, 0.5)
    queued = [trial.number for trial in study.trials() if "fixed_params" in trial.system_attrs]
    assert (queued, study.trials()[0].params) == ([0], BASELINE)
    assert [trial.state for trial in study.optuna.trials] == [TrialState.COMPLETE] * 3


def test_the_baseline_is_one_only_when_it_is_complete(studies: Studies) -> None:
    study = studies.open()
    assert study.baseline() is None
    handed_out(study)
    assert study.baseline() is None
    write(study, 0, 0.5)
    study.tell(0, TrialStatus.complete, "")
    assert study.baseline() == study.trials()[0]


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_there_is_no_baseline_if_it_came_to_nothing(studies: Studies, state: str) -> None:
    study = studies.open()
    train(study, 0.5, state=state)
    train(study, 0.6)
    assert study.baseline() is None


# what a dead driver left


def test_a_trial_that_ran_goes_on_with_its_number_and_params(studies: Studies) -> None:
    study = studies.open()
    first = [handed_out(study) for _ in range(3)]
    write(study, 1, 0.4, 0.5)
    again = studies.open()
    assert [handed_out(again) for _ in range(3)] == [
        PendingTrial(each.number, each.params, 2 if each.number == 1 else 0) for each in first
    ]
    assert handed_out(again).number == 3
    assert len(again.trials()) == 4


def test_a_trial_that_is_interrupted_comes_next_in_the_same_driver(studies: Studies) -> None:
    study = studies.open()
    first, second = handed_out(study), handed_out(study)
    study.interrupt(first.number)
    assert handed_out(study) == first
    assert handed_out(study).number == second.number + 1


def test_a_baseline_whose_params_were_not_drawn_gets_its_own(studies: Studies) -> None:
    studies.open().optuna.ask()
    study = studies.open()
    assert study.trials()[0].params == {}
    assert handed_out(study) == PendingTrial(0, BASELINE, 0)
    assert study.trials()[0].params == BASELINE


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
@pytest.mark.parametrize("before", [0, 1])
def test_a_trial_whose_params_were_not_all_drawn_is_completed(
    studies: Studies, name: str, before: int
) -> None:
    settings = sweeper(sampler=name)
    study = studies.open(settings=settings)
    train(study, 0.5)
    trial = study.optuna.ask()
    units = [trial.suggest_int("model.dense_units", 1, 1000) for _ in range(before)]
    again = studies.open(settings=settings)
    assignment = handed_out(again)
    assert (assignment.number, list(assignment.params)) == (1, list(SPACE))
    assert not before or assignment.params["model.dense_units"] == units[0]
    assert again.trials()[1].params == assignment.params
    assert handed_out(again).number == 2


def test_a_trial_that_went_on_is_told_as_one(studies: Studies) -> None:
    study = studies.open()
    handed_out(study)
    write(study, 0, 0.4)
    study.report(0, 1, 0.4)
    again = studies.open()
    handed_out(again)
    write(again, 0, 0.4, 0.6)
    again.report(0, 2, 0.6)
    trial = again.tell(0, TrialStatus.complete, "")
    assert (trial.number, trial.value, trial.intermediate_values) == (0, 0.6, {1: 0.4, 2: 0.6})


# what came of a trial


@pytest.mark.parametrize(
    ("state", "optunas", "value"),
    [
        ("complete", TrialState.COMPLETE, 0.7),
        ("pruned", TrialState.PRUNED, 0.6),  # Optuna's own: of the last epoch
        ("diverged", TrialState.FAIL, None),
        ("failed", TrialState.FAIL, None),
    ],
)
def test_the_end_of_a_trial_in_optuna(
    studies: Studies, state: str, optunas: TrialState, value: float | None
) -> None:
    study = studies.open()
    train(study, 0.5, 0.7, 0.6, state=state, reason="because")
    trial = studies.open().trials()[0]
    assert (trial.state, trial.value) == (optunas, value)
    assert trial.user_attrs == {"state": state, "reason": "because", "seconds": 6.0}
    assert trial.intermediate_values == {1: 0.5, 2: 0.7, 3: 0.6}


@pytest.mark.parametrize("heard", [[], [1], [2], [1, 2], [2, 1], [1, 1, 2]])
def test_every_epoch_of_the_folder_is_reported_once(studies: Studies, heard: list[int]) -> None:
    study = studies.open()
    assignment = handed_out(study)
    values = {1: 0.5, 2: 0.7, 3: 0.6}
    write(study, assignment.number, *values.values())
    for epoch in heard:
        assert not study.report(assignment.number, epoch, values[epoch])
    assert study.tell(assignment.number, TrialStatus.complete, "").intermediate_values == values


def test_a_trial_that_failed_before_its_folder_was_made_is_told(studies: Studies) -> None:
    study = studies.open()
    handed_out(study)
    trial = study.tell(0, TrialStatus.failed, "no memory")
    assert (trial.state, trial.intermediate_values) == (TrialState.FAIL, {})
    assert trial.user_attrs == {"state": "failed", "reason": "no memory", "seconds": 0}


@pytest.mark.parametrize(
    ("direction", "results", "best"),
    [
        ("maximize", [(0.5, "complete"), (0.6, "complete"), (0.4, "complete")], 1),
        ("minimize", [(0.5, "complete"), (0.6, "complete"), (0.4, "complete")], 2),
        ("maximize", [(0.5, "complete"), (0.9, "pruned"), (0.9, "diverged"), (0.9, "failed")], 0),
        ("minimize", [(0.5, "complete"), (0.1, "pruned"), (0.1, "diverged"), (0.1, "failed")], 0),
        ("maximize", [(0.5, "failed"), (0.6, "complete"), (0.6, "complete")], 1),
        ("minimize", [(0.6, "complete"), (0.5, "complete"), (0.5, "complete")], 1),
        ("maximize", [(0.5, "failed"), (0.5, "pruned")], None),
        ("maximize", [], None),
    ],
)
def test_the_best_is_a_complete_trial(
    studies: Studies, direction: str, results: list[tuple[float, str]], best: int | None
) -> None:
    study = studies.open(settings=sweeper(direction=direction))
    for value, state in results:
        train(study, value, state=state)
    found = study.best()
    assert (found.number if found else None) == best


@pytest.mark.parametrize(
    ("direction", "values", "value"),
    [
        ("maximize", [0.5, 0.7, 0.6], 0.7),
        ("minimize", [0.9, 0.4, 0.6], 0.4),
    ],
)
def test_the_best_epoch_counts(
    studies: Studies, direction: str, values: list[float], value: float
) -> None:
    study = studies.open(settings=sweeper(direction=direction))
    assert train(study, *values).value == value


# what is hopeless


def epochs_until_pruned(study: Study, *, value: float) -> int | None:
    """Of the next trial, which has the same bad value in each epoch."""
    assignment = handed_out(study)
    return next(
        (epoch for epoch in range(1, EPOCHS + 1) if study.report(assignment.number, epoch, value)),
        None,
    )


@pytest.mark.parametrize(
    ("name", "pruned"),
    [
        ("median", 2),
        ("successive_halving", 2),
        ("hyperband", 2),
        ("none", None),
    ],
)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_hopeless_trial_is_pruned_after_warm_up(
    studies: Studies, name: str, pruned: int | None, direction: str
) -> None:
    pruner = PrunerConfig(name, startup_trials=2, min_resource=2)
    study = studies.open(settings=sweeper(direction=direction, pruner=pruner))
    good, bad = (0.9, 0.1) if direction == "maximize" else (0.1, 0.9)
    for _ in range(2):
        number = len(study.trials())
        assert epochs_until_pruned(study, value=good) is None
        write(study, number, good)
        study.tell(number, TrialStatus.complete, "")
    assert epochs_until_pruned(study, value=bad) == pruned


@pytest.mark.parametrize("name", ["median", "successive_halving", "hyperband"])
def test_a_resumed_trial_hears_the_same_answer_again(studies: Studies, name: str) -> None:
    settings = sweeper(pruner=PrunerConfig(name, startup_trials=2, min_resource=2))
    study = studies.open(settings=settings)
    for number in range(2):
        assert epochs_until_pruned(study, value=0.9) is None
        write(study, number, 0.9)
        study.tell(number, TrialStatus.complete, "")
    assert epochs_until_pruned(study, value=0.1) == 2
    for _ in range(2):
        study = studies.open(settings=settings)
        number = handed_out(study).number
        assert [study.report(number, epoch, 0.1) for epoch in (1, 2)] == [False, True]


def test_the_median_pruner_waits_for_complete_trials(studies: Studies) -> None:
    pruner = PrunerConfig("median", startup_trials=2, min_resource=0)
    study = studies.open(settings=sweeper(pruner=pruner))
    train(study, 0.9)
    train(study, 0.9, state="pruned")
    assert epochs_until_pruned(study, value=0.1) is None
    train(study, 0.9)
    assert epochs_until_pruned(study, value=0.1) == 1


def test_the_baseline_is_never_pruned(studies: Studies) -> None:
    settings = sweeper(pruner=PrunerConfig("median", startup_trials=1, min_resource=0))
    study = studies.open(settings=settings)
    baseline = handed_out(study)
    train(study, 0.9)
    assert epochs_until_pruned(study, value=0.1) == 1
    assert not any(study.report(baseline.number, epoch, 0.1) for epoch in range(1, EPOCHS + 1))


def test_halving_has_trials_compete_with_a_baseline_that_is_still_training(
    studies: Studies,
) -> None:
    settings = sweeper(pruner=PrunerConfig("successive_halving", startup_trials=0, min_resource=2))
    study = studies.open(settings=settings)
    baseline = handed_out(study)
    assert not any(study.report(baseline.number, epoch, 0.9) for epoch in (1, 2))
    assert epochs_until_pruned(study, value=0.1) == 2
    assert epochs_until_pruned(study, value=0.95) is None


def test_halving_lets_every_second_trial_go_on_from_a_rung_to_the_next(studies: Studies) -> None:
    settings = sweeper(pruner=PrunerConfig("successive_halving", startup_trials=0, min_resource=1))
    study = studies.open(settings=settings)
    assert epochs_until_pruned(study, value=0.9) is None
    number = handed_out(study).number
    assert [study.report(number, epoch, value) for epoch, value in ((1, 0.95), (2, 0.1))] == [
        False,
        True,
    ]


def test_a_trial_that_came_to_its_last_epoch_is_complete(studies: Studies) -> None:
    settings = sweeper(pruner=PrunerConfig("median", startup_trials=1, min_resource=EPOCHS))
    study = studies.open(settings=settings)
    train(study, *[0.9] * EPOCHS)
    assert epochs_until_pruned(study, value=0.1) is None


def test_nothing_is_pruned_where_every_value_is_needed(studies: Studies) -> None:
    settings = sweeper(pruner=PrunerConfig("median", startup_trials=0, min_resource=0))
    study = studies.open(settings=settings, prune=False)
    train(study, 0.9)
    assert epochs_until_pruned(study, value=0.1) is None


# where a trial lives and what it is called


def test_where_a_trial_lives_and_what_it_is_called(studies: Studies) -> None:
    study = studies.open()
    runs = [study.run_info(handed_out(study)) for _ in range(2)]
    assert [run.name for run in runs] == ["baseline", "trial 1"]
    assert [run.tags["role"] for run in runs] == ["baseline", "trial"]
    assert runs[1].tags == {"role": "trial", "study": "study", "trial.number": 1}
    assert (study.folder(1) / runs[1].parent).resolve() == study.plan.folder.resolve()
    assert study.folder(12).name == "trial-0012"


def test_a_trial_tells_its_values_to_optuna_as_it_does_to_hydra(studies: Studies) -> None:
    study = studies.open()
    trials: list[FrozenTrial] = [train(study, 0.5) for _ in range(5)]
    for trial in trials:
        assert {key: type(value) for key, value in trial.params.items()} == {
            "training.learning_rate": float,
            "model.dense_units": int,
            "model.batch_norm": bool,
        }
