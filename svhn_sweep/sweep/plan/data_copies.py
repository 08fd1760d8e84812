"""Counts the images that are in two splits of a plan's digits."""

from collections.abc import Sequence
from dataclasses import replace

from svhn_sweep import data
from svhn_sweep.sweep.plan.plan import Plan


def count_copies(plans: Sequence[Plan]) -> list[Plan]:
    """Returns the plans with the number of copies; the driver alone has all splits.

    Args:
        plans: Their digits are loaded, or are loaded now.

    Raises:
        DataError: The digits cannot be read.
    """
    return [
        replace(
            plan,
            data_copies=data.describe_copies(
                data.load(plan.config.data, test=False), plan.config.training.validation_split
            ),
        )
        for plan in plans
    ]
