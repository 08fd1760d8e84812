"""Resolves what the configs of a sweep leave open."""

from collections.abc import Sequence
from dataclasses import replace

from svhn_sweep import data, transfer
from svhn_sweep.config.overrides import sets_data_path
from svhn_sweep.config.schema import Config
from svhn_sweep.errors import DataError
from svhn_sweep.run_header import print_validation_warning
from svhn_sweep.sweep.plan.make_plans import Resolve, Resolved
from svhn_sweep.sweep.workers.protocol import Cluster


def make_resolver(arguments: Sequence[str], cluster: Cluster, *, needs_test: bool) -> Resolve:
    """Returns a function that resolves data source, precision and initial weights of a config.

    It counts copies among the digits as well: the driver alone has all splits.

    Args:
        arguments: The user's overrides.
        cluster: Trains the trials.
        needs_test: Whether the data must have a test split, which is not evaluated yet.
    """
    warned: set[str] = set()

    def resolve(config: Config) -> Resolved:
        source = data.resolve(config.data, path_given=sets_data_path(arguments))
        splits = data.load(source, test=False)
        fit_data = data.split_validation(splits, config.training.validation_split)
        if (imbalance := data.describe_imbalance(fit_data)) not in warned:
            warned.add(imbalance)
            print_validation_warning(imbalance)
        if needs_test:
            _check_test(splits)
        training = replace(
            config.training, precision=cluster.resolve_precision(config.training.precision)
        )
        weights = transfer.resolve(config, splits)
        config = transfer.with_address(replace(config, data=source, training=training), weights)
        copies = data.describe_copies(splits, config.training.validation_split)
        return Resolved(config, splits.sha256, weights, copies)

    return resolve


def _check_test(splits: data.Splits) -> None:
    try:
        data.check_test(splits.path)
    except DataError as error:
        raise DataError(
            f"{error} A sweep evaluates its champion on test; "
            "hydra.sweeper.confirm=null leaves that out."
        ) from error
