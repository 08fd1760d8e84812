"""The run of a grid in MLflow: the parent of its runs, with the comparison of their results."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console

from svhn_sweep.console import console
from svhn_sweep.errors import ConfigError, DataError, RefusedError, Terminated, UserError
from svhn_sweep.files import write_atomically
from svhn_sweep.grid import plan, tables
from svhn_sweep.grid.comparison import MARGIN, Row, compare
from svhn_sweep.grid.results import (
    accuracies,
    count_left,
    curves,
    diverged,
    read_result,
    read_results,
)
from svhn_sweep.provenance import code_tags
from svhn_sweep.tracking import markdown, saved_views, tracking_uri, ui_links
from svhn_sweep.tracking.background_uploader import BackgroundUploader
from svhn_sweep.tracking.run_folders import RUN_FOLDERS
from svhn_sweep.trial_status import TrialStatus

CSV = "grid.csv"
MARKDOWN = "grid.md"
FIGURE = "learning_curves.png"
NOTE = (
    "Best validation accuracy, the mean over seeds ± standard deviation; differences in points, "
    "paired by seed. Each 95 % interval holds by itself: of many configs, one in 40 that equal "
    "the first one comes out better by chance. There is no verdict where a run has diverged."
)
# MLflow cuts a description at 8,000 characters; a row has some 100.
MAX_DESCRIBED = 20


class GridRun:
    """Holds the journal of a grid's run while its context is open, and uploads all of its runs.

    The end of the context prints the comparison and records it; where the user interrupted the
    command, it says how to continue.

    Attributes:
        grid: The grid.
        folder: Its folder.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the grid in a folder, which `svhn_sweep.job_checks` wrote.

        Raises:
            RefusedError: It cannot be read, or another process trains it.
        """
        grid = plan.load(folder)
        if grid is None:
            raise RefusedError(UserError(f"{folder / plan.FILE} must be a grid but is none."))
        try:
            self._journal = plan.open_journal(folder)
        except ConfigError as error:
            raise RefusedError(error) from error
        self.grid = grid
        self.folder = folder
        self._results = read_results(grid, folder)
        self._uploader = BackgroundUploader([folder], [*RUN_FOLDERS, folder])

    @property
    def is_complete(self) -> bool:
        """Whether every run of the grid is complete."""
        return all(result.is_complete for result in self._results.values())

    def is_over(self, path: str) -> bool:
        """Returns whether a run need not be trained; `path` is relative to the grid's folder."""
        return self._results[path].is_over

    def check_digits(self, path: str, sha256: str) -> None:
        """Checks that a run gets the digits that the grid was started with.

        Args:
            path: The run's folder, relative to the grid's.
            sha256: The digits' SHA-256.

        Raises:
            DataError: They have changed.
        """
        if sha256 != self._results[path].plan.data_sha256:
            raise DataError(
                "the digits must not change during a grid but have another SHA-256 now."
            )

    def begin(self, path: str) -> None:
        """Prints which run begins, and uploads it from now on."""
        number = list(self._results).index(path) + 1
        result = self._results[path]
        name = f"{result.config} · seed {result.plan.seed}"
        console.print(f"run {number} of {len(self._results)}: {name}")
        self._uploader.watch(self.folder / path)

    def tags(self, path: str) -> dict[str, str]:
        """Returns the tags that a run has as one of this grid."""
        return {"grid": self.grid.key, "config": self._results[path].config}

    def record(self, path: str) -> None:
        """Reads how a run ended, and writes the comparison of the results so far."""
        result = self._results[path]
        self._results[path] = read_result(self.folder, result.plan, result.config)
        self._write_tables(self._compare())

    def __enter__(self) -> "GridRun":
        try:
            self._start()
        except BaseException as error:
            with suppress(OSError):  # of a full disk
                self._journal.end(TrialStatus.interrupted, f"{type(error).__name__}: {error}")
            self._journal.close()
            if isinstance(error, Exception):  # Hydra would go on with the next run
                raise RefusedError(error) from error
            raise
        self._uploader.__enter__()
        return self

    def _start(self) -> None:
        """Records the start of the grid, or that it continues, in its journal."""
        self._journal.start(
            name=self.grid.name,
            experiment=self.grid.experiment,
            store=tracking_uri.address(),
            tags={
                "trial.state": TrialStatus.running.value,
                **code_tags(),
                **self.grid.tags,
                "role": "grid",
            },
        )
        write_atomically(self.folder / "command.txt", self.grid.command.shell() + "\n")
        self._journal.log_artifact("command.txt")
        for key, (name, state) in self._views().items():
            self._journal.set_view(key, name, json.dumps(state))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
            else:
                self._interrupt(error)
        finally:
            if not self._journal.ended:
                self._journal.end(TrialStatus.interrupted, "the comparison was not written")
            self._journal.close()
            self._uploader.__exit__(kind, error, traceback)
        if error is None and self._uploader.sent:
            for line in ui_links.links(self.folder):
                console.print(line)

    def _finish(self) -> None:
        """Prints and records the comparison."""
        rows = self._compare()
        Console(highlight=False).print(tables.to_terminal(rows))
        console.print(NOTE)
        missing = tables.incomplete_lines(self._results.values())
        for line in missing:
            console.print(f"not complete: {line}")
        self._draw()
        self._write_tables(rows)  # the description shows the figure
        for name in (CSV, MARKDOWN, FIGURE):
            self._journal.log_artifact(name)
        self._end(len(missing))
        console.print(f"Everything about this grid: {self.folder}")

    def _end(self, n_missing: int) -> None:
        if n_missing == 0:
            self._journal.end(TrialStatus.complete)
            return
        reason = f"{n_missing} of {len(self._results)} runs not complete"
        self._journal.end(TrialStatus.failed, reason)
        left = count_left(self._results.values())
        if left:
            console.print(f"The same command trains {left} of them again.")

    def _interrupt(self, error: BaseException) -> None:
        stopped = isinstance(error, KeyboardInterrupt | Terminated)
        reason = "interrupted" if stopped else f"{type(error).__name__}: {error}"
        self._journal.end(TrialStatus.interrupted, reason)
        left = count_left(self._results.values())
        n_runs = len(self._results)
        console.print(f"{n_runs - left} of {n_runs} runs are over; the same command continues.")

    def _compare(self) -> list[Row]:
        results = self._results.values()
        return compare(accuracies(results), diverged(results))

    def _write_tables(self, rows: list[Row]) -> None:
        write_atomically(self.folder / CSV, tables.to_csv(rows, self._overrides()))
        write_atomically(self.folder / MARKDOWN, self._markdown(rows))
        self._describe(rows)

    def _draw(self) -> None:
        # drawing takes a second to import
        from svhn_sweep.grid import figures

        figures.learning_curves(curves(self._results.values())).savefig(self.folder / FIGURE)

    def _overrides(self) -> Mapping[str, Mapping[str, str]]:
        """Returns the overrides that vary, by config."""
        return {
            result.config: {key: result.plan.overrides[key] for key in self.grid.varying}
            for result in self._results.values()
        }

    def _markdown(self, rows: list[Row], limit: int | None = None) -> str:
        """Returns the comparison and the list of what is not complete, each up to a limit."""
        lines = tables.incomplete_lines(self._results.values())
        missing = "".join(f"- {line}\n" for line in lines[:limit])
        if limit is not None and len(lines) > limit:
            missing += f"- and {len(lines) - limit} more\n"
        text = f"{tables.to_markdown(rows, limit)}\n{NOTE}\n"
        text += f"*equivalent*: within a margin of {100 * MARGIN:g} points.\n"
        return text + (f"\nNot complete:\n\n{missing}" if missing else "")

    def _describe(self, rows: list[Row]) -> None:
        """Sets the description in MLflow."""
        views = [
            f"[{name}]({saved_views.page(key, markdown.EXPERIMENT_ID)})"
            for key, (name, _) in self._views().items()
        ]
        figure = [markdown.picture(FIGURE)] if (self.folder / FIGURE).exists() else []
        command = ["Continue or repeat it:", markdown.code(self.grid.command.shell())]
        parts = [" · ".join(views), *figure, *command, self._markdown(rows, MAX_DESCRIBED)]
        self._journal.set_description("\n\n".join(parts))

    def _views(self) -> dict[str, tuple[str, saved_views.ViewState]]:
        params = ["model.name" if key == "model" else key for key in self.grid.varying]
        logged = [key for key in params if "." in key]  # groups of conf/ are no params of a run
        return saved_views.grid_views(self.grid.key, logged)
