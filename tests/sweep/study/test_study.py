"""A study that one driver after another asks for trials, and how each of these can end."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from studies import BASELINE, EPOCHS, SPACE, Studies, sweeper, train, write

from svhn_sweep.config.schema import ModelConfig, Precision
from svhn_sweep.errors import ConfigError
from svhn_sweep.sweep.plan.search_space import Params
from svhn_sweep.sweep.plan.settings import PrunerConfig
from svhn_sweep.sweep.report import study_facts
from svhn_sweep.sweep.study.compatibility import stored_threads
from svhn_sweep.sweep.study.sampling import make_pruner
from svhn_sweep.sweep.study.study import PendingTrial, Study
from svhn_sweep.sweep.study.trial_run import run_info
from svhn_sweep.tracking import journal
from svhn_sweep.trial_status import TrialStatus


def ask(study: Study) -> PendingTrial:
    pending = study.ask()
    assert pending is not None
    return pending


def drawn(study: Study) -> list[Params]:
    """The params of all trials but the baseline."""
    return [trial.params for trial in study.trials()[1:]]


def distinct(drawn_params: list[Params]) -> int:
    return len({tuple(params.items()) for params in drawn_params})


# sampling


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_no_start_repeats_the_draws_of_another(studies: Studies, name: str) -> None:
    for _ in range(3):
        study = studies.open(settings=sweeper(sampler=name))
        train(study, 0.5)
        train(study, 0.6)
    assert distinct(drawn(study)) == 5


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_no_start_repeats_the_draws_of_failed_trials(studies: Studies, name: str) -> None:
    for _ in range(3):
        study = studies.open(settings=sweeper(sampler=name))
        train(study, state="failed", reason="no memory")
        train(study, state="failed", reason="no memory")
    assert distinct(drawn(study)) == 5


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_no_start_repeats_the_draws_of_interrupted_trials(studies: Studies, name: str) -> None:
    for start in range(1, 4):
        study = studies.open(settings=sweeper(sampler=name))
        for _ in range(2 * start):  # the interrupted ones come first
            ask(study)
    assert distinct(drawn(study)) == 5


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_the_same_seed_draws_the_same_however_often_the_sweep_is_stopped(
    tmp_path: Path, name: str
) -> None:
    draws = []
    for n_trials_of_starts in ([15], [1, 4, 2, 8]):
        opened = Studies(tmp_path / str(n_trials_of_starts))
        for n_trials in n_trials_of_starts:
            study = opened.open(opened.plan(n_trials=16), sweeper(sampler=name))
            for _ in range(n_trials):
                number = ask(study).number
                write(study, number, (7 * number) % 5 / 10)
                study.tell(number, TrialStatus.complete, "")
            ask(study)  # and the driver dies
            study = opened.open(opened.plan(n_trials=16), sweeper(sampler=name))
        draws.append(drawn(study))
        opened.close()
    assert len(draws[0]) == 16 - 1
    assert draws[0] == draws[1]


# no config twice

SIX: dict[str, BaseDistribution] = {
    "training.learning_rate": FloatDistribution(0.001, 0.003, step=0.001),
    "model.batch_norm": CategoricalDistribution((True, False)),
}
FIRST: Params = {"training.learning_rate": 0.001, "model.batch_norm": False}


def small_space(studies: Studies, sampler: str, n_trials: int = 9) -> Study:
    plan = studies.plan(n_trials=n_trials, space=SIX, enqueued_trials=(FIRST,))
    return studies.open(plan, sweeper(sampler=sampler))


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
@pytest.mark.parametrize("state", ["complete", "pruned", "failed"])
def test_each_config_of_a_finite_space_is_trained_once(
    studies: Studies, sampler: str, state: str
) -> None:
    for n_trials in (2, 4, 9):  # three starts
        study = small_space(studies, sampler, n_trials)
        assert study.n_trials == min(n_trials, 6)
        while study.trials_left():
            train(study, 0.5, state=state)
    assert study.ask() is None
    assert len(study.finished()) == distinct([trial.params for trial in study.trials()]) == 6
    assert study.stop_reason == ("all 6 configs of the search space are tried after 6 of 9 trials")


def test_a_baseline_that_is_too_large_is_tried_beside_all_configs_that_are_not(
    studies: Studies,
) -> None:
    space = {"model.dense_units": IntDistribution(8, 32, step=8)}
    plan = studies.plan(space=space, enqueued_trials=({"model.dense_units": 32},))
    model = ModelConfig(name="model1", filters={"conv1": 1}, dense_units=32, batch_norm=False)
    plan = replace(plan, config=replace(plan.config, model=model))
    plan = replace(plan, max_parameters=plan.parameters({"model.dense_units": 16}))
    study = studies.open(plan)
    while study.trials_left():
        train(study, 0.5)
    assert {trial.params["model.dense_units"] for trial in study.trials()} == {8, 16, 32}
    assert study.stop_reason == "all 3 configs of the search space are tried after 3 of 10 trials"


def test_configs_of_running_and_interrupted_trials_are_not_drawn_again(studies: Studies) -> None:
    first = [ask(small_space(studies, "tpe"))]
    study = small_space(studies, "tpe")
    assert ask(study) == first[0]  # interrupted, and continued
    first += [ask(study) for _ in range(5)]
    assert distinct([pending.params for pending in first]) == 6
    assert study.ask() is None
    assert study.stop_reason == ""  # until the last one has ended
    study.interrupt(3)
    assert ask(study) == first[3]


def test_a_config_that_somebody_enqueues_is_trained_again(studies: Studies) -> None:
    study = small_space(studies, "tpe")
    train(study, 0.5)
    study.optuna_study.enqueue_trial(dict(FIRST))
    study.optuna_study.enqueue_trial({"model.batch_norm": True})
    assert train(study, 0.5).params == FIRST
    assert train(study, 0.5).params["model.batch_norm"] is True
    while study.trials_left():
        train(study, 0.5)
    assert distinct([trial.params for trial in study.trials()]) == 6
    assert len(study.trials()) == 7


def test_a_study_with_the_same_config_twice_can_be_continued(studies: Studies) -> None:
    """Earlier versions trained a config again."""
    study = small_space(studies, "random")
    train(study, 0.5)
    for _ in range(3):
        study.optuna_study.enqueue_trial(dict(FIRST))
        train(study, 0.5)
    again = small_space(studies, "random")
    assert again.n_trials == 9  # 4 of one config, and 5 others
    while again.trials_left():
        train(again, 0.5)
    assert distinct([trial.params for trial in again.trials()]) == 6


# which study it continues


@pytest.mark.parametrize("n_trials", [0, 1])
def test_a_study_is_not_continued_with_another_fingerprint(studies: Studies, n_trials: int) -> None:
    study = studies.open()
    for _ in range(n_trials):
        train(study, 0.5)
    with pytest.raises(
        ConfigError, match=r"^hydra\.sweeper\.study_name must be new for a changed sweep, but study"
    ):
        studies.open(studies.plan(fingerprint="another", space=SIX))


def test_a_study_is_not_continued_in_another_precision(studies: Studies) -> None:
    studies.open()
    message = (
        r"^training\.precision must be float32, in which study was begun, but is "
        r"mixed_bfloat16 here: add training"
    )
    with pytest.raises(ConfigError, match=message):
        studies.open(studies.plan(precision=Precision.mixed_bfloat16))


def test_a_study_keeps_the_threads_that_it_was_created_with(studies: Studies) -> None:
    study = studies.open()
    assert (study.threads, Study(study.plan, study.settings, studies.opened[0], 8).threads) == (
        1,
        1,
    )


def test_the_threads_of_studies_that_exist_can_be_read_before_they_are_opened(
    studies: Studies,
) -> None:
    plan = studies.open().plan
    plans = [plan, replace(plan, name="new")]
    assert stored_threads(studies.opened[0], plans) == {"study": 1}


def test_a_new_study_does_not_take_the_folder_of_another(
    studies: Studies,
) -> None:
    train(studies.open(), 0.5)
    (studies.path / "optuna.db").rename(studies.path / "old.db")
    with pytest.raises(
        ConfigError, match=r"but the study there is another one; put back what was moved"
    ):
        studies.open()
    (studies.path / "old.db").rename(studies.path / "optuna.db")
    assert len(studies.open().trials()) == 1


def test_a_study_without_its_folder_does_not_create_another(studies: Studies) -> None:
    train(studies.open(), 0.5)
    (studies.path / "multirun").rename(studies.path / "moved")
    with pytest.raises(
        ConfigError,
        match=r"study must belong to the study of that name .*, but the folder is not there",
    ):
        studies.open()
    assert not (studies.path / "multirun").exists()  # it can be moved back


@pytest.mark.parametrize(
    ("edit", "number", "fault"),
    [
        ("DELETE FROM trial_user_attributes WHERE key = 'state'", 0, "it has no state"),
        ("DELETE FROM trial_user_attributes WHERE key = 'seconds'", 0, "it has no seconds"),
        ("UPDATE trial_user_attributes SET value_json = 'null' WHERE key = 'state'", 0,
         "None is not a valid TrialStatus"),
        ("UPDATE trial_user_attributes SET value_json = '\"pruned\"' WHERE key = 'state'", 0,
         "its state is COMPLETE and pruned"),
        ("UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'reason'", 0, ""),
        ("DELETE FROM trial_values", 0, "it has no value"),
        ("UPDATE trial_values SET value = NULL", 0, ""),
        ("DELETE FROM trial_params WHERE param_name = 'model.dense_units'", 0,
         "it has no model.dense_units"),
        ("UPDATE trial_params SET param_value = 5000 WHERE param_name = 'model.dense_units'", 0,
         "model.dense_units is 5000"),
        ("UPDATE trial_params SET param_value = 7 WHERE param_name = 'model.batch_norm' "
         "AND trial_id = 2", 1, ""),
        ("UPDATE trial_params SET distribution_json = replace(distribution_json, 'true', '1.5') "
         "WHERE param_name = 'model.batch_norm'", 0,
         "CategoricalDistribution does not support dynamic value space"),
        ("UPDATE trials SET state = 'DONE' WHERE number = 1", 1, ""),
        ("UPDATE trials SET number = 7 WHERE number = 1", 1, "its number is 7"),
    ],
)  # fmt: skip
def test_a_study_with_an_edited_trial_is_refused_in_one_sentence(
    studies: Studies, edit: str, number: int, fault: str
) -> None:
    study = studies.open()
    train(study, 0.5)
    train(study, 0.6)
    studies.close()
    with closing(sqlite3.connect(studies.path / "optuna.db")) as database, database:
        assert database.execute(edit).rowcount > 0
    with pytest.raises(
        ConfigError, match=rf"^trial {number} of study must be .* but was edited \(.*{fault}.*\);"
    ) as refused:
        studies.open()
    assert "\n" not in str(refused.value)


def test_a_study_with_an_edited_number_of_threads_is_refused(studies: Studies) -> None:
    studies.open().optuna_study.set_user_attr("threads", None)
    with pytest.raises(ConfigError, match=r"^threads of study must .* edited to 'None'"):
        studies.open()


# how many trials


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
def test_the_budget_is_that_of_all_starts_together(
    studies: Studies, budgets: list[int], trained: list[int]
) -> None:
    counts = []
    for budget in budgets:
        study = studies.open(studies.plan(n_trials=budget))
        before = len(study.trials())
        while (pending := study.ask()) is not None:
            write(study, pending.number, 0.5)
            study.tell(pending.number, TrialStatus.complete, "")
        counts.append(len(study.trials()) - before)
    assert counts == trained
    assert [trial.number for trial in study.finished()] == list(range(sum(trained)))


def test_the_rest_of_the_budget_is_trained_after_a_break(studies: Studies) -> None:
    study = studies.open()
    for _ in range(4):
        train(study, 0.5)
    again = studies.open()
    numbers = [train(again, 0.5).number for _ in range(6)]
    assert (numbers, again.ask()) == ([4, 5, 6, 7, 8, 9], None)


def test_the_runs_of_a_dead_driver_are_interrupted(studies: Studies) -> None:
    study = studies.open()
    for number in range(3):
        ask(study)
        if number:
            write(study, number, 0.5)
    again = studies.open()
    end_tags = [journal.end_tags(again.plan.trial_dir(number)) for number in range(3)]
    assert [tags and tags["trial.state"] for tags in end_tags] == [
        None,
        "interrupted",
        "interrupted",
    ]
    assert not again.plan.trial_dir(0).exists()


def test_running_pruned_diverged_and_failed_trials_count(studies: Studies) -> None:
    study = studies.open(studies.plan(n_trials=5))
    for state in ("complete", "pruned", "diverged", "failed"):
        train(study, 0.5, state=state)
    assert ask(study).number == 4
    assert study.ask() is None
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
def test_the_target_value_ends_the_search(
    studies: Studies, direction: str, target: float | None, values: list[float], over: bool
) -> None:
    settings = sweeper(direction=direction, target_value=target)
    study = studies.open(settings=settings)
    for value in values:
        train(study, value)
    assert (study.ask() is None) is over
    assert (studies.open(settings=settings).ask() is None) is over


def test_only_a_complete_trial_reaches_the_target(studies: Studies) -> None:
    study = studies.open(settings=sweeper(target_value=0.9))
    train(study, 0.5)
    train(study, 0.95, state="pruned")
    assert study.ask() is not None


def test_after_the_target_is_reached_the_interrupted_baseline_alone_is_continued(
    studies: Studies,
) -> None:
    settings = sweeper(target_value=0.9)
    study = studies.open(settings=settings)
    baseline, other, best = ask(study), ask(study), ask(study)
    study.interrupt(other.number)
    study.interrupt(baseline.number)
    write(study, best.number, 0.95)
    study.tell(best.number, TrialStatus.complete, "")
    again = studies.open(settings=settings)
    assert again.stop_reason == ("hydra.sweeper.target_value=0.9 is reached after 1 of 10 trials")
    for opened in (study, again):
        assert opened.trials_left() == 1
        assert ask(opened) == baseline
        assert opened.ask() is None
    without_target = studies.open()
    assert [ask(without_target).number for _ in range(3)] == [0, 1, 3]


# the baseline


def test_the_baseline_is_enqueued_once(studies: Studies) -> None:
    for _ in range(3):
        study = studies.open()
        study = studies.open()  # a driver that ended before its first trial
        train(study, 0.5)
    enqueued = [trial.number for trial in study.trials() if "fixed_params" in trial.system_attrs]
    assert (enqueued, study.trials()[0].params) == ([0], BASELINE)
    assert [trial.state for trial in study.optuna_study.trials] == [TrialState.COMPLETE] * 3


def test_there_is_no_baseline_until_it_is_complete(studies: Studies) -> None:
    study = studies.open()
    assert study.baseline() is None
    ask(study)
    assert study.baseline() is None
    write(study, 0, 0.5)
    study.tell(0, TrialStatus.complete, "")
    assert study.baseline() == study.trials()[0]


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_there_is_no_baseline_if_it_failed(studies: Studies, state: str) -> None:
    study = studies.open()
    train(study, 0.5, state=state)
    train(study, 0.6)
    assert study.baseline() is None


# interrupted trials


def test_an_interrupted_trial_keeps_its_number_and_params(studies: Studies) -> None:
    study = studies.open()
    first = [ask(study) for _ in range(3)]
    write(study, 1, 0.4, 0.5)
    again = studies.open()
    assert [ask(again) for _ in range(3)] == [
        PendingTrial(trial.number, trial.params, 2 if trial.number == 1 else 0) for trial in first
    ]
    assert ask(again).number == 3
    assert len(again.trials()) == 4


def test_a_trial_that_is_interrupted_comes_next_in_the_same_driver(studies: Studies) -> None:
    study = studies.open()
    first = ask(study)
    second = ask(study)
    study.interrupt(first.number)
    assert ask(study) == first
    assert ask(study).number == second.number + 1


def test_a_baseline_without_params_gets_its_own(studies: Studies) -> None:
    studies.open().optuna_study.ask()
    study = studies.open()
    assert study.trials()[0].params == {}
    assert ask(study) == PendingTrial(0, BASELINE, 0)
    assert study.trials()[0].params == BASELINE


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
@pytest.mark.parametrize("before", [0, 1])
def test_the_missing_params_of_a_trial_are_drawn(studies: Studies, name: str, before: int) -> None:
    settings = sweeper(sampler=name)
    study = studies.open(settings=settings)
    train(study, 0.5)
    trial = study.optuna_study.ask()
    units = [trial.suggest_int("model.dense_units", 1, 1000) for _ in range(before)]
    again = studies.open(settings=settings)
    pending = ask(again)
    assert (pending.number, list(pending.params)) == (1, list(SPACE))
    assert not before or pending.params["model.dense_units"] == units[0]
    assert again.trials()[1].params == pending.params
    assert ask(again).number == 2


def test_a_resumed_trial_is_one_trial_in_optuna(studies: Studies) -> None:
    study = studies.open()
    ask(study)
    write(study, 0, 0.4)
    study.report(0, 1, 0.4)
    again = studies.open()
    ask(again)
    write(again, 0, 0.4, 0.6)
    again.report(0, 2, 0.6)
    trial = again.tell(0, TrialStatus.complete, "")
    assert (trial.number, trial.value, trial.intermediate_values) == (0, 0.6, {1: 0.4, 2: 0.6})


# results


@pytest.mark.parametrize(
    ("state", "optuna_state", "value"),
    [
        ("complete", TrialState.COMPLETE, 0.7),
        ("pruned", TrialState.PRUNED, 0.6),  # Optuna takes the last epoch's
        ("diverged", TrialState.FAIL, None),
        ("failed", TrialState.FAIL, None),
    ],
)
def test_optuna_has_the_state_the_value_and_the_reason(
    studies: Studies, state: str, optuna_state: TrialState, value: float | None
) -> None:
    study = studies.open()
    train(study, 0.5, 0.7, 0.6, state=state, reason="because")
    trial = studies.open().trials()[0]
    assert (trial.state, trial.value) == (optuna_state, value)
    assert trial.user_attrs == {
        "state": state,
        "reason": "because",
        "seconds": 6.0,
        "parameters": 1234,
        "multiply_adds": 56789,
    }
    assert trial.intermediate_values == {1: 0.5, 2: 0.7, 3: 0.6}


@pytest.mark.parametrize("reported", [[], [1], [2], [1, 2], [2, 1], [1, 1, 2]])
def test_every_epoch_of_the_journal_is_reported_once(studies: Studies, reported: list[int]) -> None:
    study = studies.open()
    pending = ask(study)
    values = {1: 0.5, 2: 0.7, 3: 0.6}
    write(study, pending.number, *values.values())
    for epoch in reported:
        assert not study.report(pending.number, epoch, values[epoch])
    assert study.tell(pending.number, TrialStatus.complete, "").intermediate_values == values


def test_a_trial_can_fail_before_it_has_a_folder(studies: Studies) -> None:
    study = studies.open()
    ask(study)
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
    trial = study.best()
    assert (trial.number if trial else None) == best


@pytest.mark.parametrize(
    ("direction", "values", "value"),
    [
        ("maximize", [0.5, 0.7, 0.6], 0.7),
        ("minimize", [0.9, 0.4, 0.6], 0.4),
    ],
)
def test_the_value_of_a_trial_is_that_of_its_best_epoch(
    studies: Studies, direction: str, values: list[float], value: float
) -> None:
    study = studies.open(settings=sweeper(direction=direction))
    assert train(study, *values).value == value


# pruning


def epochs_until_pruned(study: Study, *, value: float) -> int | None:
    """The epoch in which the next trial, with this value in all epochs, is pruned."""
    pending = ask(study)
    return next(
        (epoch for epoch in range(1, EPOCHS + 1) if study.report(pending.number, epoch, value)),
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
def test_a_bad_trial_is_pruned_after_min_resource(
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


@pytest.mark.parametrize("name", ["median", "successive_halving"])
@pytest.mark.parametrize(
    ("epochs", "min_resource", "explored", "pruned_after"),
    [(30, None, "model.dropout", 4), (20, None, "model.dropout", 4), (12, None, "model.dropout", 4),
     (11, None, "model.dropout", 3), (6, None, "model.dropout", 2), (5, None, "model.dropout", 1),
     (2, None, "model.dropout", 1), (5, 4, "model.dropout", 4), (30, 6, "model.dropout", 6),
     (60, None, "training.augmentation.enabled", 20), (60, None, "training.schedule", 20),
     (30, None, "training.augmentation.shift", 10), (60, 8, "training.schedule", 8)],
)  # fmt: skip
def test_by_default_pruning_begins_after_a_third_of_the_epochs_or_after_four_where_gains_show_early(
    name: str, epochs: int, min_resource: int | None, explored: str, pruned_after: int
) -> None:
    pruner = PrunerConfig(name, startup_trials=1, min_resource=min_resource)
    study = optuna.create_study(
        direction="maximize", pruner=make_pruner(sweeper(pruner=pruner), epochs, [explored])
    )
    for accuracy in (0.9, 0.1):
        trial = study.ask()
        answers = []
        for epoch in range(1, epochs + 1):
            trial.report(accuracy, epoch)
            answers.append(trial.should_prune())
        study.tell(trial, accuracy)
    assert answers.index(True) + 1 == pruned_after


def complete_two_good_trials(study: Study) -> None:
    for number in range(2):
        assert epochs_until_pruned(study, value=0.9) is None
        write(study, number, 0.9)
        study.tell(number, TrialStatus.complete, "")


@pytest.mark.parametrize("name", ["median", "successive_halving", "hyperband"])
def test_a_resumed_trial_gets_the_same_answer_again(studies: Studies, name: str) -> None:
    settings = sweeper(pruner=PrunerConfig(name, startup_trials=2, min_resource=2))
    study = studies.open(settings=settings)
    complete_two_good_trials(study)
    assert epochs_until_pruned(study, value=0.1) == 2
    for _ in range(2):
        study = studies.open(settings=settings)
        number = ask(study).number
        assert [study.report(number, epoch, 0.1) for epoch in (1, 2)] == [False, True]


@pytest.mark.parametrize("name", ["median", "successive_halving", "hyperband"])
def test_the_pruner_is_asked_on_resume_if_the_driver_died_before(
    studies: Studies, name: str
) -> None:
    settings = sweeper(pruner=PrunerConfig(name, startup_trials=2, min_resource=2))
    study = studies.open(settings=settings)
    complete_two_good_trials(study)
    number = ask(study).number
    assert not study.report(number, 1, 0.1)
    trial = optuna.trial.Trial(study.optuna_study, study.trials()[number]._trial_id)
    trial.report(0.1, 2)  # and the driver dies
    study = studies.open(settings=settings)
    assert ask(study).number == number
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
    baseline = ask(study)
    train(study, 0.9)
    assert epochs_until_pruned(study, value=0.1) == 1
    assert not any(study.report(baseline.number, epoch, 0.1) for epoch in range(1, EPOCHS + 1))


def test_halving_compares_trials_with_a_baseline_that_is_still_training(
    studies: Studies,
) -> None:
    settings = sweeper(pruner=PrunerConfig("successive_halving", startup_trials=0, min_resource=2))
    study = studies.open(settings=settings)
    baseline = ask(study)
    assert not any(study.report(baseline.number, epoch, 0.9) for epoch in (1, 2))
    assert epochs_until_pruned(study, value=0.1) == 2
    assert epochs_until_pruned(study, value=0.95) is None


def test_halving_promotes_every_second_trial_from_a_rung_to_the_next(studies: Studies) -> None:
    settings = sweeper(pruner=PrunerConfig("successive_halving", startup_trials=0, min_resource=1))
    study = studies.open(settings=settings)
    assert epochs_until_pruned(study, value=0.9) is None
    number = ask(study).number
    assert [study.report(number, epoch, value) for epoch, value in ((1, 0.95), (2, 0.1))] == [
        False,
        True,
    ]


def test_a_trial_is_not_pruned_after_its_last_epoch(studies: Studies) -> None:
    settings = sweeper(pruner=PrunerConfig("median", startup_trials=1, min_resource=EPOCHS))
    study = studies.open(settings=settings)
    train(study, *[0.9] * EPOCHS)
    assert epochs_until_pruned(study, value=0.1) is None


def test_nothing_is_pruned_without_a_pruner(studies: Studies) -> None:
    settings = sweeper(pruner=PrunerConfig("median", startup_trials=0, min_resource=0))
    study = studies.open(settings=settings, prune=False)
    train(study, 0.9)
    assert epochs_until_pruned(study, value=0.1) is None


# MLflow


def test_the_folder_and_the_run_of_a_trial(studies: Studies) -> None:
    study = studies.open()
    runs = [run_info(study.plan, ask(study)) for _ in range(2)]
    assert [run.name for run in runs] == ["model1 · baseline", "model1 · trial 1"]
    assert [run.tags["role"] for run in runs] == ["baseline", "trial"]
    assert runs[1].tags == {
        "team": "vision",
        "role": "trial",
        "study": "study",
        "trial.number": 1,
    }
    assert (study.plan.trial_dir(1) / runs[1].parent).resolve() == study.plan.folder.resolve()
    assert study.plan.trial_dir(12).name == "trial-0012"


def test_copies_among_the_digits_are_a_tag_of_each_trial(studies: Studies) -> None:
    study = studies.open(replace(studies.plan(), data_copies="3 of 60"))
    assert run_info(study.plan, ask(study)).tags["data.copies"] == "3 of 60"
    assert study_facts.tags(study)["data.copies"] == "3 of 60"


def test_the_params_in_optuna_have_the_types_of_the_config(studies: Studies) -> None:
    study = studies.open()
    trials: list[FrozenTrial] = [train(study, 0.5) for _ in range(5)]
    for trial in trials:
        assert {key: type(value) for key, value in trial.params.items()} == {
            "training.learning_rate": float,
            "model.dense_units": int,
            "model.batch_norm": bool,
        }
