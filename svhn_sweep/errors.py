"""Defines the errors that end a command with a message instead of a traceback."""

from types import FrameType


class UserError(Exception):
    """The input or the config is at fault; the command prints the message and exits with 2."""


class ConfigError(UserError):
    """A key, a type or a value in the config is not allowed."""


class DataError(UserError):
    """A data file is missing, malformed or not what it should be."""


class FailedError(Exception):
    """The command cannot do what it was asked to; it prints the message and exits with 1."""


class OutOfMemoryError(FailedError):
    """A device has too little memory for what runs on it."""


class SweepError(FailedError):
    """A sweep cannot continue."""


class SweepInterruptedError(SweepError):
    """A sweep stops for an external reason, such as a lost database; it can be continued."""


class RefusedError(BaseException):
    """An error of this package that ends the command from within Hydra.

    This is no `Exception`: Hydra turns one in a callback into a warning, and any other that Hydra
    raises is an error in the config.

    Attributes:
        reason: The error.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


class Terminated(BaseException):
    """The process received SIGTERM, or its terminal was closed.

    Like KeyboardInterrupt this is no `Exception`: only code that ends a run catches it.
    """


def raise_terminated(number: int, frame: FrameType | None) -> None:
    """Handles a signal by raising Terminated."""
    raise Terminated
