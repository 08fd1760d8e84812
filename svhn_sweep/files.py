"""Small files that are there whole or as they were before, after a power cut too."""

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file as one atomic step; text is UTF-8. The folder must exist."""
    unfinished = path.with_name(
        f".{path.name}.unfinished"
    )  # what a kill leaves of it, the next one overwrites
    with unfinished.open("wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
