"""The errors that end a command with a message instead of a traceback."""


class UserError(Exception):
    """The input or the config is at fault; the command prints the message and exits with 2."""


class ConfigError(UserError):
    """A key, a type or a value in the config is not allowed."""


class DataError(UserError):
    """A data file is missing, malformed or not what it should be."""


class FailedError(Exception):
    """What was asked for cannot be done, whoever is at fault; the command prints the message and
    exits with 1.
    """


class OutOfMemoryError(FailedError):
    """A device has too little memory for what runs on it."""


class SweepError(FailedError):
    """A sweep cannot go on."""


class SweepInterruptedError(SweepError):
    """A sweep cannot go on for now, for no reason of its own: the same command continues it."""


class RefusedError(BaseException):
    """A job was refused, for `reason`.

    Not an Exception: of those Hydra's callbacks make warnings.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


class Terminated(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt, not an Exception: only what ends a run catches
    it.
    """
