"""How much memory a command's child processes hold."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PAUSE_SECONDS = 0.5  # adding up a process's pages takes the kernel milliseconds


def most_held_by_children(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> list[dict[str, int]]:
    """Run the command in a folder; what each of its children held, in MiB, when together they held
    most.

    `private`; `proportional`: with its part of what is shared; `resident`: with all of it.
    """
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=printed, stderr=printed
        )
    most: list[dict[str, int]] = []
    while process.poll() is None:
        now = [held for pid in _children(process.pid) if (held := _held(pid))]
        most = max(most, now, key=lambda each: sum(entry["proportional"] for entry in each))
        time.sleep(PAUSE_SECONDS)
    assert process.returncode == 0, (folder / "printed").read_text()
    return most


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def _held(pid: int) -> dict[str, int]:
    """Of a process; empty if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    size = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines}
    return {
        "private": size["Private_Clean"] + size["Private_Dirty"],
        "proportional": size["Pss"],
        "resident": size["Rss"],
    }
