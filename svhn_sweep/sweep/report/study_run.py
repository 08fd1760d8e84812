"""The run that stands for a whole study in MLflow, with the leaderboard as its description."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from svhn_sweep.config.overrides import shell_command
from svhn_sweep.config.schema import flatten, source_name
from svhn_sweep.files import write_atomically
from svhn_sweep.provenance import code_tags
from svhn_sweep.sweep.plan.formatting import format_difference
from svhn_sweep.sweep.plan.search_space import format_distribution
from svhn_sweep.sweep.report import leaderboard
from svhn_sweep.sweep.selection.confusion_differences import ConfusionMatrices
from svhn_sweep.sweep.study.study import Study
from svhn_sweep.tracking import markdown, saved_views, tracking_uri
from svhn_sweep.tracking.journal import JOURNAL, Journal, Scalar, history
from svhn_sweep.trial import experiment_name
from svhn_sweep.trial_status import TrialStatus

logger = logging.getLogger(__name__)

SHOWN_TRIALS = 20  # in the description
DECIMALS = 7  # of a difference of two float32
FINDINGS = "findings.md"
PICTURES = ("confusion_difference.png", "history.png", "learning_curves.png")  # in the description


class StudyRun:
    """The run of a study in MLflow: leaderboard, description, figures, report.

    It also adds to each trial's run its difference to the baseline.
    """

    def __init__(
        self, study: Study, explored: Sequence[str], sweep_command: str, config_dirs: Sequence[str]
    ) -> None:
        """Opens the run's journal, and starts or resumes the run.

        Args:
            study: the search.
            explored: the keys that any study of this sweep explores.
            sweep_command: continues the sweep.
            config_dirs: the user's own folders of config files.
        """
        self.study = study
        self.command = sweep_command
        self.config_dirs = config_dirs
        self.journal = Journal(study.plan.parent_run_dir)
        self.compared: set[int] = set()
        self.ended = False
        tags: dict[str, Scalar] = {
            "role": "sweep",
            "study": study.plan.name,
            "data.sha256": study.plan.data_sha256,
        }
        tags["trial.state"] = TrialStatus.running.value
        self.journal.start(
            name=study.plan.name,
            experiment=experiment_name(study.plan.config),
            store=tracking_uri.address(),
            tags=tags | code_tags(),
        )
        views = _views(study, explored)
        for key, (name, state) in views.items():
            self.journal.set_view(key, name, json.dumps(state))
        pages = {
            name: saved_views.page(key, markdown.EXPERIMENT_ID) for key, (name, _) in views.items()
        }
        self.links = " · ".join(f"[{name}]({page})" for name, page in pages.items())
        self._write("command.txt", sweep_command + "\n")
        self._write(
            "search_space.txt",
            "".join(f"{key}: {format_distribution(d)}\n" for key, d in study.plan.space.items()),
        )

    def update(self) -> list[leaderboard.Row]:
        """Writes the leaderboard, the description and each trial's difference to the baseline.

        Called after each trial's end. Returns the rows of the leaderboard.
        """
        rows = leaderboard.rows(self.study.optuna_study)
        metric = self.study.settings.metric
        folder = self.journal.folder
        try:
            write_atomically(folder / "leaderboard.csv", leaderboard.to_csv(rows))
            write_atomically(folder / "leaderboard.md", leaderboard.to_markdown(rows, metric))
        except OSError:  # the next trial's end tries again; training goes on
            logger.exception("no leaderboard")
        finished = self.study.finished()
        new = {trial.number for trial in finished} - self.compared
        for row in [row for row in rows if row.number in new and row.delta is not None]:
            if (self.study.plan.trial_dir(row.number) / JOURNAL).exists():
                with Journal(self.study.plan.trial_dir(row.number)) as trial:
                    _compare(trial, row, metric)
                self.compared.add(row.number)
        self._describe(rows)
        return rows

    def _describe(self, rows: Sequence[leaderboard.Row]) -> None:
        finished = len(self.study.finished())
        metric = self.study.settings.metric
        folder = self.journal.folder
        text = [f"**{finished} of {self.study.n_trials}** trials of {self.study.plan.name}.", ""]
        text += [self.links, ""]
        findings = folder / FINDINGS
        text += [findings.read_text(encoding="utf-8") if findings.exists() else "", ""]
        text += [leaderboard.to_markdown(rows, metric, SHOWN_TRIALS)]
        text += [f"\n{markdown.picture(path)}" for path in PICTURES if (folder / path).exists()]
        text += ["", "Continue or extend it:", "", markdown.code(self.command)]
        self.journal.set_note("\n".join(text))

    def report(
        self,
        lines: Sequence[str],
        metrics: Mapping[str, float],
        best: int | None,
        confusions: ConfusionMatrices | None,
        step: int,
    ) -> None:
        """Writes leaderboard, figures and report of the results so far.

        Args:
            lines: the summary in sentences.
            metrics: the summary as metrics.
            best: the trial whose command is written down; None if none is complete.
            confusions: of the best config and the baseline, if they differ.
            step: of the metrics: the number of trials, confirmations included, behind them.
        """
        from svhn_sweep.sweep.report import (
            figures,  # drawing takes a second to import: not while trials wait
            html_page,  # drawing takes a second to import: not while trials wait
        )

        self._write(FINDINGS, "".join(f"- {line}\n" for line in lines))
        rows = self.update()
        metric = self.study.settings.metric
        folder = self.journal.folder
        for name in ("leaderboard.csv", "leaderboard.md"):
            self.journal.log_artifact(name)
        self.journal.log_metrics(dict(metrics), step=step)
        best_command = "" if best is None else self._command(best)
        self._write("best_command.txt", best_command + "\n")
        images = figures.save_all(self.study.optuna_study, metric, confusions, folder)
        for image in images:
            self.journal.log_artifact(image.name)
        self._describe(rows)  # with the figures
        self._write(
            "report.html",
            html_page.page(
                self.study.plan.name, lines, self._about(), rows, metric, images, best_command
            ),
        )
        for path in sorted((folder / "test").rglob("*.*")):
            self.journal.log_artifact(str(path.relative_to(folder)))

    def has_verdict(self) -> bool:
        """Whether a report of a confirmation was written."""
        return any(
            key.startswith("confirmed/")
            for metrics in history(self.journal.folder).values()
            for key in metrics
        )

    def end(self, status: TrialStatus, reason: str = "") -> None:
        """Ends the study's run; the next start of the sweep resumes it."""
        self.ended = True
        self.journal.end(status, reason)

    def _about(self) -> dict[str, str]:
        plan = self.study.plan
        settings = self.study.settings
        digits = self.study.plan.config.data
        source = ", ".join(
            [source_name(digits), *(f"{key}={value}" for key, value in flatten(digits))]
        )
        warning = (
            "; they are synthetic: accuracies say nothing about SVHN"
            if source_name(digits) == "synthetic"
            else ""
        )
        epochs = plan.max_epochs
        pruner = settings.pruner.name
        baseline = plan.enqueued_trials[0]
        return {
            "digits": f"{source} (SHA-256 {plan.data_sha256[:8]}){warning}",
            "trials": f"{self.study.n_trials} of at most {epochs} epochs; "
            f"sampler {settings.sampler}, pruner {pruner}",
            "objective": f"{settings.direction} {settings.metric}, of each trial's epochs the best",
            **{
                key: f"{format_distribution(distribution)}; in the baseline {baseline[key]}"
                for key, distribution in plan.space.items()
            },
            "written": f"{datetime.now():%Y-%m-%d %H:%M}",
        }

    def _command(self, number: int) -> str:
        (params,) = [trial.params for trial in self.study.trials() if trial.number == number]
        overrides = self.study.plan.overrides(params, self.study.threads)
        return shell_command(overrides, self.config_dirs)

    def _write(self, path: str, text: str) -> None:
        target: Path = self.journal.folder / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
        self.journal.log_artifact(path)


def _compare(trial: Journal, row: leaderboard.Row, metric: str) -> None:
    """Logs a trial's difference to the baseline, and begins its description with it."""
    assert row.delta is not None
    trial.log_metrics({saved_views.DELTA_METRICS[metric]: round(row.delta, DECIMALS)})
    difference = f"**{format_difference(row.delta, metric)}** of {metric} against the baseline."
    if row.number > 0 and trial.description and not trial.description.startswith(difference):
        trial.set_note(f"{difference}\n\n{trial.description}")


def _views(study: Study, explored: Sequence[str]) -> dict[str, tuple[str, saved_views.ViewState]]:
    settings = study.settings
    # A key without a dot is a group of conf/.
    keys, columns = ([key for key in names if "." in key] for names in (study.plan.space, explored))
    about = saved_views.ViewSpec(
        study.plan.name, study.plan.data_sha256, settings.metric, settings.maximize, keys, columns
    )
    return saved_views.views(about)
