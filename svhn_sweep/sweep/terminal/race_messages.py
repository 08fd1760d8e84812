"""Prints what a confirmation costs, and how its race goes on."""

from collections.abc import Sequence

from svhn_sweep.console import print_text
from svhn_sweep.sweep.plan.formatting import format_list
from svhn_sweep.sweep.report.verdict_sentences import race_state
from svhn_sweep.sweep.selection.confirmation import ConfirmationStudy
from svhn_sweep.sweep.selection.repeated_intervals import MIN_PAIRS
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.terminal.study_progress import format_duration


def print_confirmation(study: Study, confirming: ConfirmationStudy | None, workers: int) -> None:
    """Prints whether the best configs of a study are confirmed, and how long it takes.

    Args:
        study: The search, which is over.
        confirming: Trains the best configs and the baseline on fresh seeds; None if there is
            nothing to confirm.
        workers: How many trials can be trained at the same time.
    """
    if confirming is None:
        reason = (
            "its baseline is not complete"
            if study.baseline() is None
            else "nothing beat the baseline"
        )
        print_text(f"{study.plan.name}: nothing to confirm, {reason}")
        return
    if not confirming.race().missing:
        return
    rules = confirming.plan.rules
    is_fixed = rules.fixed or len(rules.seeds) == MIN_PAIRS
    seeds = f"{len(rules.seeds)}" if is_fixed else f"{MIN_PAIRS} to {len(rules.seeds)}"
    print_text(
        f"{study.plan.name}: confirming {_trials(confirming.plan.candidates)} against the baseline "
        f"on {seeds} fresh seeds: {_cost(study, confirming, workers)}"
    )


class RaceMessages:
    """Describes each race whenever another seed counts."""

    def __init__(self) -> None:
        """Starts without any race."""
        self._pairs: dict[str, int] = {}

    def __call__(self, study: Study) -> str:
        """Returns a line about the race of a confirmation; empty if it says nothing new."""
        assert isinstance(study, ConfirmationStudy)
        race = study.race()
        n_pairs = len(race.seeds)
        name = study.plan.name
        is_new = n_pairs != self._pairs.get(name) and n_pairs >= MIN_PAIRS
        self._pairs[name] = n_pairs
        if study.plan.rules.fixed or not is_new or race.leader is None:
            return ""
        parts = [f"{name}: after {n_pairs} seeds {race_state(race, study.settings.metric)}"]
        if race.left:
            parts.append(f"out of the race: {_trials(list(race.left))}")
        if race.outcome is not None:
            parts.append(race.outcome)
        return "; ".join(parts)


def _cost(study: Study, confirming: ConfirmationStudy, workers: int) -> str:
    """The trainings that are left, at least and at most, and how long they take."""
    missing = confirming.race().missing
    rules = confirming.plan.rules
    first_seeds = rules.seeds if rules.fixed else rules.seeds[:MIN_PAIRS]
    least = sum(seed in first_seeds for _, seed in missing)
    seconds = {trial.number: trial.user_attrs["seconds"] for trial in study.finished()}
    mean = sum(seconds[number] for number, _ in missing) / len(missing)
    counts = sorted({max(1, least), len(missing)})
    durations = [format_duration(count * mean / max(1, workers)) for count in counts]
    trainings = " to ".join(map(str, counts))
    return f"{trainings} trainings, about {' to '.join(dict.fromkeys(durations))}"


def _trials(numbers: Sequence[int]) -> str:
    return f"trial{'s' if len(numbers) > 1 else ''} {format_list(numbers)}"
