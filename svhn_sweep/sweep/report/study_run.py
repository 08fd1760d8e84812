"""Records a study as an MLflow run, whose description is the leaderboard."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from svhn_sweep.config.overrides import shell_command
from svhn_sweep.files import write_atomically
from svhn_sweep.provenance import code_tags
from svhn_sweep.sweep.plan.formatting import format_difference
from svhn_sweep.sweep.report import leaderboard, study_facts
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices
from svhn_sweep.sweep.selection.race import Race
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.tracking import markdown, saved_views, tracking_uri
from svhn_sweep.tracking.journal import JOURNAL, Journal, history
from svhn_sweep.trial import experiment_name
from svhn_sweep.trial_status import TrialStatus

logger = logging.getLogger(__name__)

MAX_DESCRIBED_TRIALS = 20
RACE_FIGURE = "race.png"
DESCRIBED_FIGURES = (
    RACE_FIGURE,
    "confusion_difference.png",
    "value_by_size.png",
    "history.png",
    "learning_curves.png",
)
DELTA_DECIMALS = 7  # of a difference of two float32
SUMMARY = "findings.md"


@dataclass(eq=False)
class StudyRun:
    """Writes the leaderboard, the description, the figures and the report of a study's run.

    It also adds to each trial's run its difference to the baseline.

    Attributes:
        study: The search.
        journal: The journal of the study's run, which is started.
        explored: The keys that any study of the sweep explores.
        sweep_command: The command that continues the sweep.
        config_dirs: The user's own config folders.
        ended: Whether this object ended the run.
    """

    study: Study
    journal: Journal
    explored: Sequence[str]
    sweep_command: str
    config_dirs: Sequence[str]
    ended: bool = False
    _compared: set[int] = field(default_factory=set)  # numbers of trials whose difference is logged

    @classmethod
    def start(
        cls, study: Study, explored: Sequence[str], sweep_command: str, config_dirs: Sequence[str]
    ) -> "StudyRun":
        """Opens the journal of a study's run, and starts or resumes the run.

        The arguments are the attributes of those names.

        Raises:
            BlockingIOError: Another process holds the journal.
        """
        plan = study.plan
        journal = Journal(plan.parent_run_dir)
        journal.start(
            name=plan.config.tracking.run_name or plan.name,
            experiment=experiment_name(plan.config),
            store=tracking_uri.address(),
            tags=study_facts.tags(study) | code_tags(),
        )
        journal.log_params(study_facts.params(study))
        _write_artifact(journal, "command.txt", sweep_command + "\n")
        space = "".join(f"{key}: {plan.space.describe(key)}\n" for key in plan.space)
        _write_artifact(journal, "search_space.txt", space)
        return cls(study, journal, explored, sweep_command, config_dirs)

    def update(self) -> list[leaderboard.Row]:
        """Writes the leaderboard, the description and each trial's difference to the baseline.

        The sweep calls it after each trial's end.

        Returns:
            The rows of the leaderboard.
        """
        rows = leaderboard.make_rows(self.study.optuna_study)
        metric = self.study.settings.metric
        folder = self.journal.folder
        try:
            write_atomically(folder / "leaderboard.csv", leaderboard.to_csv(rows))
            write_atomically(folder / "leaderboard.md", leaderboard.to_markdown(rows, metric))
        except OSError:  # the next trial's end tries again; training goes on
            logger.exception("no leaderboard")
        n_finished = len(self.study.finished())
        self.journal.log_metrics(study_facts.metrics(self.study), step=n_finished, replace=True)
        self._log_differences(rows)
        self._set_description(rows)
        return rows

    def write_report(
        self,
        lines: Sequence[str],
        metrics: Mapping[str, float],
        best: int | None,
        confusions: ConfusionMatrices | None,
        step: int,
        race: Race | None = None,
        recommended: int | None = None,
    ) -> None:
        """Writes leaderboard, figures and report of the results so far.

        Args:
            lines: The headline, then the summary in sentences.
            metrics: The summary as metrics.
            best: The trial whose command is written; None if none is complete.
            confusions: Of the best config and the baseline; None if they are the same.
            step: The metrics' step: the number of finished trials, confirmations included.
            race: The race of the confirmation; None without one.
            recommended: As in `commands`.
        """
        from svhn_sweep.sweep.report import html_page

        headline, *sentences = lines
        findings = "".join(f"- {sentence}\n" for sentence in sentences)
        _write_artifact(self.journal, SUMMARY, f"{headline}\n\n{findings}")
        rows = self.update()
        metric = self.study.settings.metric
        folder = self.journal.folder
        for name in ("leaderboard.csv", "leaderboard.md"):
            self.journal.log_artifact(name)
        self.journal.log_metrics(dict(metrics), step=step, replace=True)
        best_command = "" if best is None else self._command(best)
        _write_artifact(self.journal, "best_command.txt", best_command + "\n")
        images = self._draw(confusions, race)
        for image in images:
            self.journal.log_artifact(image.name)
        self._set_description(rows)  # again, now with the figures
        name = self.study.plan.name
        details = study_facts.details(self.study)
        commands = self.commands(best, recommended)
        page = html_page.render_page(name, lines, details, rows, metric, images, commands)
        _write_artifact(self.journal, "report.html", page)
        for path in sorted((folder / "test").rglob("*.*")):
            self.journal.log_artifact(str(path.relative_to(folder)))

    def _draw(self, confusions: ConfusionMatrices | None, race: Race | None) -> list[Path]:
        """Draws all figures, that of the race first."""
        # takes a second: not while trials wait
        from svhn_sweep.sweep.report import figures, race_figure

        folder = self.journal.folder
        settings = self.study.settings
        images = figures.save_all(self.study.optuna_study, settings.metric, confusions, folder)
        if race is None:  # that of an earlier start
            (folder / RACE_FIGURE).unlink(missing_ok=True)
        elif any(race.looks.values()):
            assert settings.confirm is not None
            _log_race(self.journal, race)
            figure = race_figure.race(race, settings.metric, settings.confirm.margin)
            figure.savefig(folder / RACE_FIGURE)
            images.insert(0, folder / RACE_FIGURE)
        return images

    def has_verdict(self) -> bool:
        """Returns whether a report with the verdict of a confirmation was ever written."""
        return any(
            key.startswith("confirmed/")
            for metrics in history(self.journal.folder).values()
            for key in metrics
        )

    def end(self, status: TrialStatus, reason: str = "") -> None:
        """Ends the study's run; the next start of the sweep resumes it.

        Args:
            status: How the sweep ended; any but running.
            reason: Why; empty if there is nothing to explain.
        """
        self.ended = True
        self.journal.end(status, reason)

    def _log_differences(self, rows: Sequence[leaderboard.Row]) -> None:
        """Logs the difference to the baseline in the runs of trials that ended since the last time.

        A trial whose folder has no journal is skipped.
        """
        new = {trial.number for trial in self.study.finished()} - self._compared
        for row in [row for row in rows if row.number in new and row.delta is not None]:
            trial_dir = self.study.plan.trial_dir(row.number)
            if (trial_dir / JOURNAL).exists():
                with Journal(trial_dir) as journal:
                    _log_difference(journal, row, self.study.settings.metric)
                self._compared.add(row.number)

    def _set_description(self, rows: Sequence[leaderboard.Row]) -> None:
        n_finished = len(self.study.finished())
        folder = self.journal.folder
        summary = folder / SUMMARY
        # First the verdict: MLflow shows the first lines and hides the rest below "Show more".
        text = [
            summary.read_text(encoding="utf-8") if summary.exists() else "",
            f"**{n_finished} of {self.study.n_trials}** trials of {self.study.plan.name}.\n",
            _set_views(self.journal, self.study, self.explored, rows),
            "",
            # MLflow's page grows as wide as the table.
            leaderboard.to_markdown(
                rows, self.study.settings.metric, MAX_DESCRIBED_TRIALS, effort=False
            ),
        ]
        figures = [path for path in DESCRIBED_FIGURES if (folder / path).exists()]
        text += [f"\n{markdown.picture(path)}" for path in figures]
        text += ["", "Continue or extend it:", "", markdown.code(self.sweep_command)]
        self.journal.set_description("\n".join(text))

    def commands(self, best: int | None, recommended: int | None) -> dict[str, str]:
        """Returns the commands that train configs again, by what the configs are.

        Args:
            best: The best trial; None if none is complete.
            recommended: The trial whose config the sweep recommends; None if that is of another
                study, nothing, or not known yet.
        """
        if best is None:
            return {}
        if recommended is None:
            return {"The best trial again": self._command(best)}
        commands = {"The recommended config again": self._command(recommended)}
        if best != recommended:
            commands["The best trial again, which is not recommended"] = self._command(best)
        return commands

    def _command(self, number: int) -> str:
        """Returns the command that trains a trial again."""
        (params,) = [trial.params for trial in self.study.trials() if trial.number == number]
        overrides = self.study.plan.overrides(params, self.study.threads)
        return shell_command(overrides, self.config_dirs)


def _write_artifact(journal: Journal, path: str, text: str) -> None:
    target = journal.folder / path
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
    journal.log_artifact(path)


def _log_race(journal: Journal, race: Race) -> None:
    """Logs each candidate's difference to the baseline and its interval after each pair.

    The number of pairs is the metrics' step. A race with other rules replaces those of an earlier
    one.
    """
    for number, looks in race.looks.items():
        for look in looks:
            values = {"difference": look.difference, "low": look.low, "high": look.high}
            metrics = {f"race/trial_{number}/{name}": value for name, value in values.items()}
            journal.log_metrics(metrics, step=look.pairs, replace=True)


def _log_difference(trial: Journal, row: leaderboard.Row, metric: str) -> None:
    """Logs a trial's difference to the baseline, and begins its description with it."""
    assert row.delta is not None
    trial.log_metrics({saved_views.DELTA_METRICS[metric]: round(row.delta, DELTA_DECIMALS)})
    difference = f"**{format_difference(row.delta, metric)}** of {metric} against the baseline."
    if not row.is_baseline and trial.description and not trial.description.startswith(difference):
        trial.set_description(f"{difference}\n\n{trial.description}")


def _set_views(
    journal: Journal, study: Study, explored: Sequence[str], rows: Sequence[leaderboard.Row]
) -> str:
    """Records the saved views of a study; returns links to them in Markdown."""
    values = [row.value for row in rows if row.value is not None]
    values.sort(reverse=study.settings.maximize)
    spec = saved_views.ViewSpec(
        study=study.plan.name,
        data_sha256=study.plan.data_sha256,
        metric=study.settings.metric,
        maximize=study.settings.maximize,
        params=_logged_params(study.plan.space),
        columns=_logged_params(explored),
        values=values,
    )
    links = []
    for key, (name, state) in saved_views.views(spec).items():
        journal.set_view(key, name, json.dumps(state))
        links.append(f"[{name}]({saved_views.page(key, markdown.EXPERIMENT_ID)})")
    return " · ".join(links)


def _logged_params(keys: Iterable[str]) -> list[str]:
    """Leaves out groups of conf/, whose keys have no dot: runs have no such params."""
    return [key for key in keys if "." in key]
