"""The limit of trials that local workers and Ray's have in common."""


class LimitedWorker:
    """Counts the trials of a worker.

    Attributes:
        max_trials: The most trials that it trains.
        trials: The trials that it has begun.
        threads: The threads that it computes with; 0 before the first trial.
    """

    def __init__(self, max_trials: int) -> None:
        self.max_trials = max_trials
        self.trials = 0
        self.threads = 0

    def can_train(self, threads: int) -> bool:
        """Returns false after `max_trials`, since TensorFlow keeps memory from trial to trial.

        TensorFlow cannot change its number of threads either.
        """
        return self.trials < self.max_trials and self.threads in (0, threads)

    def count_trial(self, threads: int) -> None:
        """Counts a trial that begins with this number of threads."""
        self.trials += 1
        self.threads = threads
