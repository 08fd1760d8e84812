"""A sweep as one HTML file that needs nothing else: to mail, to keep, to open offline."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from svhn_sweep.sweep.leaderboard import Row, table

CAPTIONS = {
    "history": "Each trial's value by its number, the best so far, and what was pruned or failed.",
    "importances": "How much each hyperparameter sets the best trials apart from the others, as PED-ANOVA sees it.",
    "parallel_coordinates": "One line for each complete trial, through its hyperparameters to its value.",
    "slices": "The value against each hyperparameter. A trial is one point in every panel.",
    "confusion_difference": "Which digits the best config takes for which, against the baseline, on validation.",
    "learning_curves": "Each trial's value by epoch; on the right the best values from close up.",
}
STYLE = """
:root { color-scheme: light dark; --line: #8884; --mark: #0072b21f; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td.number, th.number { text-align: right; }
td.reason { white-space: normal; min-width: 14rem; }
tr.baseline { font-weight: bold; background: var(--mark); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .875rem; }
dt { opacity: .8; } dd { margin: 0; overflow-wrap: anywhere; }
pre { padding: .75rem; border: 1px solid var(--line); white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; overflow-x: auto; } figcaption { font-size: .875rem; opacity: .8; }
img { min-width: 40rem; max-width: 100%; height: auto; background: white; border-radius: .4rem; }
"""


def page(
    title: str,
    summary: Sequence[str],
    about: Mapping[str, str],
    rows: Sequence[Row],
    metric: str,
    images: Sequence[Path],
    command: str,
) -> str:
    """The whole page.

    Args:
        title: Its heading, plain text as everything else here.
        summary: One paragraph for each.
        about: What was done, on what: words for each term.
        rows: The leaderboard, as leaderboard.rows gives it.
        metric: What the values are.
        images: PNG files; those that are called as in CAPTIONS get that caption.
        command: What trains the best trial again, empty where none is complete.

    Returns:
        HTML with the images inside, which loads nothing from anywhere.
    """
    paragraphs = "".join(f"<p>{escape(line)}</p>\n" for line in summary)
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(words)}</dd>\n" for term, words in about.items())
    again = f"<h2>Train the best trial again</h2>\n<pre>{escape(command)}</pre>\n" if command else ""
    figures = "".join(_figure(path) for path in images)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{paragraphs}<dl>
{terms}</dl>
{again}<h2 id="leaderboard">Leaderboard</h2>
<div class="wide" role="region" aria-labelledby="leaderboard" tabindex="0">
{_table(rows, metric)}</div>
<h2>Figures</h2>
{figures}</main>
</body>
</html>
"""


def _table(rows: Sequence[Row], metric: str) -> str:
    header, *lines = table(rows, metric)
    words = {"trial": "", "state": "", "reason": ' class="reason"'}
    kinds = [words.get(title, ' class="number"') for title in header]
    head = "".join(f'<th scope="col"{kind}>{escape(title)}</th>' for kind, title in zip(kinds, header, strict=True))
    body = ""
    for row, line in zip(rows, lines, strict=True):
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, line, strict=True))
        kind = ' class="baseline"' if row.number == 0 else ""
        body += f"<tr{kind}>{cells}</tr>\n"
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _figure(path: Path) -> str:
    name = path.stem.replace("_", " ")
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="Figure: {escape(name)}">'
    return f"<figure>\n{image}\n<figcaption>{escape(CAPTIONS.get(path.stem, name))}</figcaption>\n</figure>\n"
