"""Writes run descriptions for MLflow's UI: Markdown with images from the run's own artifacts."""

import shlex
from urllib.parse import quote

TAG = "mlflow.note.content"
# Placeholders for the ids that the run gets in MLflow; the uploader fills them in.
RUN_ID = "{run_id}"
EXPERIMENT_ID = "{experiment_id}"
WIDTH = 80  # characters; MLflow's page grows as wide as the longest line of code


def picture(path: str) -> str:
    """Returns an image that shows an artifact of the run.

    Args:
        path: The artifact's path; the address is relative to MLflow's page.
    """
    return f"![{path}](get-artifact?path={quote(path, safe='')}&run_uuid={RUN_ID})"


def code(command: str) -> str:
    """Returns a shell command as a code block; a long one is continued over several lines."""
    lines = [""]
    for argument in map(shlex.quote, shlex.split(command)):
        if lines[-1] and len(lines[-1]) + len(argument) > WIDTH:
            lines.append(" ")
        lines[-1] += f"{' ' if lines[-1] else ''}{argument}"
    return "```\n" + " \\\n".join(lines) + "\n```"
