"""Builds the command that continues a sweep."""

from collections.abc import Sequence

from omegaconf import DictConfig

from svhn_sweep.config.overrides import (
    key_of,
    resolve_override,
    shell_command,
    to_override,
    typed_overrides,
    unstable_keys,
    user_config_dirs,
)
from svhn_sweep.sweep.plan.plan import Plan
from svhn_sweep.sweep.plan.space_checks import INITIAL_WEIGHTS


def resume_command(composed: DictConfig, plans: Sequence[Plan]) -> str:
    """Returns the command that continues a sweep.

    It holds what interpolations of the time, the environment and Hydra's config stand for, also
    those in a file of the user's, and the run or version that an alias of initial weights stands
    for: other values would be other studies.

    Args:
        composed: Hydra's config of the sweep.
        plans: The sweep's plans.
    """
    hydra = composed.hydra
    hydra_overrides = [
        override
        for override in typed_overrides(hydra.overrides.hydra)
        if not override.startswith(("hydra.mode=", "hydra/sweeper="))
    ]
    typed = [
        resolve_override(override, composed)
        for override in (*typed_overrides(hydra.overrides.task), *hydra_overrides)
    ]
    in_files = set(unstable_keys(composed)) - set(map(key_of, typed))
    # What differs between the models cannot be part of a command for all of them.
    pinned = [
        override
        for override in plans[0].fixed
        if key_of(override) in in_files and all(override in plan.fixed for plan in plans)
    ]
    addresses = {plan.config.training.initial_weights for plan in plans}
    if addresses != {None} and len(addresses) == 1:
        typed = [override for override in typed if key_of(override) != INITIAL_WEIGHTS]
        pinned.append(to_override(INITIAL_WEIGHTS, addresses.pop()))
    return shell_command(["-m", "optuna", *typed, *pinned], user_config_dirs(hydra))
