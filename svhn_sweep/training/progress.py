"""Shows the progress of a fit: a bar in a terminal, and a line for each epoch everywhere."""

import logging
import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

logger = logging.getLogger(__name__)

MIN_SECONDS_BETWEEN_UPDATES = 0.1  # of the bar
MIN_SECONDS_BETWEEN_LINES = 30.0  # of an epoch that is trained, where there is no terminal


class Progress(keras.callbacks.Callback):
    """A Keras callback that shows how far the fit is.

    Attributes:
        bars: Rich's display: a task for the epochs, then one for the batches of the present epoch.
            It is visible while its context is open.
    """

    def __init__(self, epochs: int, steps: int, epochs_done: int = 0) -> None:
        """Prepares the bars.

        Args:
            epochs: All epochs of the fit.
            steps: The batches of an epoch.
            epochs_done: Epochs that were trained before the fit was resumed.
        """
        super().__init__()
        self.epochs, self.steps = epochs, steps
        self.console = Console(highlight=False)
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.epoch_task = self.bars.add_task(
            "epochs ", total=epochs, completed=epochs_done, loss=""
        )
        self.batch_task = self.bars.add_task("batches", total=steps, loss="")
        self.epoch = epochs_done
        self.epoch_started = self.last_line = self.last_update = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Empties the bar of the batches."""
        self.epoch = epoch
        self.epoch_started = self.last_line = time.perf_counter()
        self.bars.reset(self.batch_task, total=self.steps, loss="")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Updates the bar of the batches, at most ten times a second; prints a line at times."""
        assert logs is not None
        now = time.perf_counter()
        prints_line = self.bars.disable and now - self.last_line > MIN_SECONDS_BETWEEN_LINES
        if not prints_line and now - self.last_update <= MIN_SECONDS_BETWEEN_UPDATES:
            return
        done = min(batch + 1, self.steps)  # the last call may have fewer batches than Keras counts
        loss = f"loss {logs['loss']:.3f}"
        self.last_update = now
        self.bars.update(self.batch_task, completed=done, loss=loss)
        if prints_line:
            self.last_line = now
            self.console.print(
                f"in epoch {self.epoch + 1}/{self.epochs}  batch {done}/{self.steps}  {loss}  "
                f"{now - self.epoch_started:.0f} s",
                soft_wrap=True,
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Prints and logs the epoch's line."""
        assert logs is not None
        seconds = time.perf_counter() - self.epoch_started
        self.bars.update(self.epoch_task, completed=epoch + 1)
        width = len(str(self.epochs))
        line = (
            f"epoch {epoch + 1:>{width}}/{self.epochs}"
            f"  loss {logs['loss']:.3f} accuracy {logs['accuracy']:.3f}"
            f"  validation {logs['val_loss']:.3f} {logs['val_accuracy']:.3f}"
            f"  {seconds:.1f} s"
        )
        logger.info(line)
        self.console.print(line, soft_wrap=True)
