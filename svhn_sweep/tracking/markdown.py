"""What MLflow's UI shows first of a run: Markdown, with pictures from the run's own artifacts."""

import shlex
from urllib.parse import quote

TAG = "mlflow.note.content"
RUN_ID, EXPERIMENT_ID = (
    "{run_id}",
    "{experiment_id}",
)  # stand for the ids that the run gets when it is sent
WIDTH = 110  # characters; MLflow's page grows as wide as the longest line of code


def picture(path: str) -> str:
    """An artifact of the run, by its path; the address is that of MLflow's server, relative to
    its page.
    """
    return f"![{path}](get-artifact?path={quote(path, safe='')}&run_uuid={RUN_ID})"


def code(command: str) -> str:
    """A shell command as a block, continued over several lines where it is long."""
    lines = [""]
    for word in map(shlex.quote, shlex.split(command)):
        if lines[-1] and len(lines[-1]) + len(word) > WIDTH:
            lines.append(" ")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return "```\n" + " \\\n".join(lines) + "\n```"
