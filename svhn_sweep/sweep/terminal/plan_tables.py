"""Prints the plan of a sweep, how far it is, and a dry run."""

from collections.abc import Sequence

import optuna
from rich.table import Table

from svhn_sweep import data, run_header
from svhn_sweep.config.overrides import shell_command
from svhn_sweep.console import console, print_text
from svhn_sweep.sweep.plan.formatting import format_items
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.settings import SweeperConfig
from svhn_sweep.sweep.study.sampling import sampler_maker, suggest_params
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.sweep.study.untried_sampler import UntriedSampler
from svhn_sweep.sweep.workers.protocol import Cluster
from svhn_sweep.trial import experiment_name

DRY_RUN_TRIALS = 3


def print_plan(
    plans: Sequence[Plan], settings: SweeperConfig, cluster: Cluster, threads: Sequence[int]
) -> None:
    """Prints the studies, their search spaces, the workers, sampler and pruner.

    Args:
        plans: One plan for each study.
        settings: The sweep's settings.
        cluster: Trains the trials.
        threads: TensorFlow's threads for each trial of each study.
    """
    run_header.print_synthetic_warning(plans[0].config, experiment_name(plans[0].config))
    for copies, source in {plan.data_copies: plan.config.data for plan in plans}.items():
        run_header.print_copies(copies, data.locate(source))
    for plan in plans:
        n_configs = plan.n_configs
        n_trials = min(settings.n_trials, n_configs or settings.n_trials)
        print_text(
            f"{plan.name}: {n_trials} trials of at most {plan.max_epochs} epochs, out of "
            f"{_describe_size(plan)}"
        )
        table = Table("explored", "values", "baseline")
        for key in plan.space:
            baseline = str(plan.enqueued_trials[0].get(key, ""))
            table.add_row(key, plan.space.describe(key), baseline)
        console.print(table)
    counts = dict.fromkeys(format_items(count, "thread") for count in threads)
    precisions = dict.fromkeys(plan.config.training.precision.value for plan in plans)
    print_text(
        f"{cluster.describe()}, "
        f"{' or '.join(counts)}{'' if len(cluster.slots()) == 1 else ' each'}, "
        f"{' and '.join(precisions)}; "
        f"sampler {settings.sampler}, pruner {settings.pruner.name}; "
        f"objective: {settings.direction} {settings.metric}"
    )


def print_continued(studies: Sequence[Study]) -> None:
    """Prints how far the studies are that an earlier start began.

    Args:
        studies: The searches, in which no trial runs yet.
    """
    for study in studies:
        finished = len(study.finished())
        interrupted = [trial for trial in study.trials() if not trial.state.is_finished()]
        if finished or interrupted:
            counts = f"{finished} of {format_items(study.n_trials, 'trial')} finished"
            trials = [_describe_interrupted(study, trial.number) for trial in interrupted]
            print_text(f"{study.plan.name} continues: {'; '.join([counts, *trials])}")


def _describe_interrupted(study: Study, number: int) -> str:
    epochs_done = study.epochs_done(number)
    state = f"after epoch {epochs_done}" if epochs_done else "in its first epoch"
    return f"trial {number} {state}"


def _describe_size(plan: Plan) -> str:
    if plan.n_configs:
        return f"{plan.n_configs:,} configurations"
    if plan.space.size:
        return f"{plan.space.size:,} configurations, some with more than max_parameters"
    return "a continuous space"


def print_dry_run(
    plans: Sequence[Plan],
    settings: SweeperConfig,
    threads: Sequence[int],
    config_dirs: Sequence[str],
) -> None:
    """Prints the commands of up to three trials of each study without starting any.

    Args:
        plans: One plan for each study.
        settings: The sweep's settings.
        threads: TensorFlow's threads for each trial of each study.
        config_dirs: The user's own config folders.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for plan, count in zip(plans, threads, strict=True):
        console.print()
        print_text(f"Trials that {plan.name} may train; none was started:")
        study = optuna.create_study()
        make_sampler = sampler_maker(settings.sampler, plan)
        study.sampler = UntriedSampler(make_sampler, plan, study.get_trials)
        for _ in range(min(DRY_RUN_TRIALS, plan.n_configs or DRY_RUN_TRIALS)):
            params = suggest_params(study.ask(), plan.space)
            overrides = plan.overrides(params, count)
            console.print(shell_command(overrides, config_dirs))
