"""Turns what MLflow raises while a model is fetched into one sentence, by whose fault it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from svhn_sweep.errors import FailedError, UserError
from svhn_sweep.tracking import tracking_uri

# MLflow's codes for a thing that does not exist; the second is that of an alias.
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@contextmanager
def explained(address: str, refusal: Callable[[str], UserError]) -> Iterator[None]:
    """Explains every `Exception` that is no error of this package's yet.

    Args:
        address: What is fetched.
        refusal: Returns the error to raise if MLflow has no such thing, for MLflow's reason.

    Raises:
        UserError: MLflow has no such thing.
        FailedError: MLflow does not answer.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = tracking_uri.reason(error).rstrip(".")
        if getattr(error, "error_code", "") in MISSING:
            raise refusal(reason) from error
        raise FailedError(
            f"MLflow at {tracking_uri.address()} did not hand over {address}: {reason}."
        ) from error
