"""Renders a study's report as one HTML file that needs no other file and no network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from svhn_sweep.sweep.report.leaderboard import Row, to_cells

CAPTIONS = {
    "history": "Each trial's value by its number, the best so far, and what was pruned or failed.",
    "importances": "How much each hyperparameter sets the best trials apart "
    "from the others, pruned ones included, as PED-ANOVA sees it.",
    "parallel_coordinates": "One line for each complete trial, through its "
    "hyperparameters to its value.",
    "slices": "The value against each hyperparameter. A trial is one point in every panel.",
    "value_by_size": "The value against the size of the model and the work of one prediction. "
    "On the line are the trials that no smaller one equals.",
    "confusion_difference": "Which digits the best config takes for which, "
    "against the baseline, on validation.",
    "race": "The confirmation on fresh seeds: each candidate's mean difference to the baseline and "
    "its interval after each seed. In the grey band a difference counts as none.",
    "learning_curves": "Each trial's value by epoch; on the right the best values from close up.",
}
CSS_CLASSES = {"trial": "text", "state": "text", "reason": "reason"}  # all others are numbers


def render_page(
    title: str,
    summary: Sequence[str],
    details: Mapping[str, str],
    rows: Sequence[Row],
    metric: str,
    images: Sequence[Path],
    commands: Mapping[str, str],
) -> str:
    """Renders the report of a study.

    Args:
        title: The heading; plain text, as all other arguments.
        summary: Sentences; each becomes a paragraph.
        details: The study's data, search space and settings: a description for each term.
        rows: The leaderboard, as `make_rows` returns it.
        metric: The name of the sweep's metric.
        images: PNG files; one whose name is in CAPTIONS gets that caption.
        commands: Commands that train configs again, by what the configs are.

    Returns:
        HTML with the images inside; it loads nothing from the network.
    """
    environment = Environment(
        loader=PackageLoader("svhn_sweep.sweep.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    columns, *cells = to_cells(rows, metric)
    return environment.get_template("report.html.j2").render(
        title=title,
        summary=summary,
        details=details,
        columns=columns,
        css_classes=[CSS_CLASSES.get(column, "number") for column in columns],
        lines=list(zip(rows, cells, strict=True)),
        figures=[_figure(path) for path in images],
        commands=commands,
        zip=zip,
    )


def _figure(path: Path) -> dict[str, str]:
    """Returns what the page shows of a PNG file: its name, its caption and its data."""
    name = path.stem.replace("_", " ")
    data = base64.b64encode(path.read_bytes()).decode()
    return {"name": name, "caption": CAPTIONS.get(path.stem, name), "data": data}
