"""What a person watching sees of a fit: a bar in a terminal, a line per epoch everywhere."""

import logging
import time
from types import TracebackType

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

logger = logging.getLogger(__name__)


class Progress(keras.callbacks.Callback):
    """A Keras callback that is a context manager: leaving it always gives the terminal back."""

    def __init__(self, epochs: int, steps: int, done: int = 0) -> None:
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
        self.all_epochs = self.bars.add_task("epochs ", total=epochs, completed=done, loss="")
        self.this_epoch = self.bars.add_task("batches", total=steps, loss="")
        self.started = self.drawn = 0.0

    def __enter__(self) -> "Progress":
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.started = time.perf_counter()
        self.bars.reset(self.this_epoch, total=self.steps, loss="")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.perf_counter()
        if (
            logs and now - self.drawn > 0.1
        ):  # drawing each of a thousand batches would cost more than it tells
            self.drawn = now
            self.bars.update(
                self.this_epoch,
                completed=min(batch + 1, self.steps),
                loss=f"loss {logs['loss']:.3f}",
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        seconds = time.perf_counter() - self.started
        self.bars.update(self.all_epochs, completed=epoch + 1)
        width = len(str(self.epochs))
        line = (
            f"epoch {epoch + 1:>{width}}/{self.epochs}"
            f"  loss {logs['loss']:.3f} accuracy {logs['accuracy']:.3f}"
            f"  validation {logs['val_loss']:.3f} {logs['val_accuracy']:.3f}"
            f"  {seconds:.1f} s"
        )
        logger.info(line)
        self.console.print(line, soft_wrap=True)
