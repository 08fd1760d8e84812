"""Prints what users read in the terminal."""

import re
import textwrap

from rich.console import Console

COMMAND = re.compile("`[^`]+`")
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"

console = Console(highlight=False, soft_wrap=True, markup=False)


def print_text(text: str) -> None:
    """Prints prose: wrapped between words in a terminal, on one line elsewhere.

    Commands between backticks are not wrapped, so that they can be copied; a line that is a command
    or an address is printed by `console`, which never wraps.
    """
    if console.is_terminal:
        text = COMMAND.sub(lambda match: match[0].replace(" ", NO_BREAK_SPACE), text)
        text = textwrap.fill(text, console.width, break_long_words=False, break_on_hyphens=False)
        text = text.replace(NO_BREAK_SPACE, " ")
    console.print(text)
