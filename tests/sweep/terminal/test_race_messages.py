"""Tests what the terminal says about a confirmation, before it and after each seed."""

import pytest
from studies import Studies, sweeper, train, write

from svhn_sweep.sweep.plan.settings import ConfirmConfig
from svhn_sweep.sweep.selection.confirmation import ConfirmationStudy, plan_confirmation
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal.race_messages import RaceMessages, print_confirmation
from svhn_sweep.trial_status import TrialStatus

GAINS = {0: 0.0, 1: 0.02, 2: 0.01, 3: 0.05}  # of the trials of the search over the baseline


@pytest.fixture
def study(studies: Studies) -> Study:
    """A study whose search is over: the baseline and three trials that beat it."""
    study = studies.open(settings=sweeper())
    for number in GAINS:
        train(study, 0.5 + 0.1 * number)
    return study


def confirm(studies: Studies, study: Study, settings: ConfirmConfig) -> ConfirmationStudy:
    plan = plan_confirmation(study, settings)
    assert plan is not None
    return ConfirmationStudy(plan, study.settings, studies.opened[-1], study.threads)


def finish(confirmation: ConfirmationStudy) -> None:
    """Trains the next config on the next seed: its value depends a little on the seed."""
    pending = confirmation.ask()
    assert pending is not None
    seed, trial = int(str(pending.params["seed"])), int(str(pending.params["trial"]))
    write(confirmation, pending.number, 0.8 + GAINS[trial] + 0.001 * (seed % 3))
    confirmation.tell(pending.number, TrialStatus.complete, "")


@pytest.mark.parametrize(
    ("candidates", "max_seeds", "seeds", "text"),
    [
        (1, 16, None, "trial 3 against the baseline on 3 to 16 fresh seeds: 6 to 32 trainings"),
        (2, 16, None, "trials 3 and 2 against the baseline on 3 to 16 fresh seeds: 9 to 48 trai"),
        (3, 3, None, "trials 3, 2 and 1 against the baseline on 3 fresh seeds: 12 trainings"),
        (3, 16, 5, "trial 3 against the baseline on 5 fresh seeds: 10 trainings, about"),
    ],
)
def test_the_cost_of_a_confirmation_is_announced(
    studies: Studies,
    study: Study,
    capsys: pytest.CaptureFixture[str],
    candidates: int,
    max_seeds: int,
    seeds: int | None,
    text: str,
) -> None:
    settings = ConfirmConfig(candidates, max_seeds, margin=0.005, seeds=seeds)
    print_confirmation(study, confirm(studies, study, settings), workers=2)
    assert f"study: confirming {text}" in capsys.readouterr().out


def test_a_race_is_described_once_for_each_seed_from_the_third(
    studies: Studies, study: Study
) -> None:
    settings = ConfirmConfig(candidates=3, max_seeds=8, margin=0.005, seeds=None)
    confirmation = confirm(studies, study, settings)
    describe = RaceMessages()
    messages = []
    while confirmation.trials_left():
        finish(confirmation)
        messages += [describe(confirmation), describe(confirmation)]
    assert [message for message in messages if message] == [
        "study-confirm: after 3 seeds trial 3, the best candidate, is 5.00 points ahead of the "
        "baseline (+5.00 to +5.00); out of the race: trials 1 and 2; better"
    ]


def test_fixed_seeds_are_no_race(studies: Studies, study: Study) -> None:
    settings = ConfirmConfig(candidates=1, max_seeds=8, margin=0.005, seeds=3)
    confirmation = confirm(studies, study, settings)
    describe = RaceMessages()
    while confirmation.trials_left():
        finish(confirmation)
        assert describe(confirmation) == ""
