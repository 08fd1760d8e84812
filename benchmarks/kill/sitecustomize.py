"""Ends processes of a sweep at named moments. Python imports this at its start where this folder is
on PYTHONPATH.

CHAOS_KILLS is a JSON list of kills. In `process` (driver or worker) `moment` (MODULE:FUNCTION,
MODULE:CLASS.METHOD) is about to happen or has happened (`side`: before or after) for the `nth` time
in all processes together: then `victim` (driver, worker or all) gets SIGKILL. `count` is a file
with one byte for each time, `told` one that gets a line for each kill.
"""

import functools
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

KILLS: list[dict[str, Any]] = json.loads(os.environ.get("CHAOS_KILLS", "[]"))
WORKER = "svhn_sweep.sweep.workers.worker_main"
ENDLESS = 60  # seconds


class Finder(importlib.abc.MetaPathFinder):
    """Finds modules as ever, and wraps the functions in question when such a module has been
    executed.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        wanted = [kill for kill in KILLS if kill["moment"].partition(":")[0] == fullname]
        if not wanted:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(
            (spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None
        )
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                for kill in wanted:
                    wrap(module, kill)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def wrap(module: ModuleType, kill: dict[str, Any]) -> None:
    """Put the kill before or after the function it names."""
    *owners, name = kill["moment"].partition(":")[2].split(".")
    owner = functools.reduce(getattr, owners, module)
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if kill["side"] == "before":
            happened(kill)
        result = function(*arguments, **options)
        if kill["side"] == "after":
            happened(kill)
        return result

    setattr(owner, name, wrapped)


def happened(kill: dict[str, Any]) -> None:
    in_worker = "worker_main.py" in sys.argv[0]
    if in_worker != (kill["process"] == "worker"):
        return
    descriptor = os.open(kill["count"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b".")
    times = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.close(descriptor)
    if times == kill["nth"]:
        end(kill, in_worker)


def end(kill: dict[str, Any], in_worker: bool) -> None:
    own = os.getpid()
    victim = kill["victim"]
    driver = os.getppid() if in_worker else own
    if victim == "worker":
        victims = [own] if in_worker else workers(own)[:1]
    else:
        victims = [driver] if b"svhn_sweep" in read(driver, "cmdline") else []
    if not victims:
        return
    # pathlib would be imported before its time
    with open(kill["told"], "a") as file:  # noqa: PTH123
        file.write(json.dumps(kill) + "\n")
    if victim == "all":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(victims[0], signal.SIGKILL)
    if in_worker:
        time.sleep(ENDLESS)  # as in a long epoch: only the driver's end can end this


def workers(driver: int) -> list[int]:
    """The driver's workers, oldest first."""
    numbers = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208
    return [n for n in numbers if WORKER.encode() in read(n, "cmdline") and parent(n) == driver]


def parent(number: int) -> int:
    fields = read(number, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def read(number: int, name: str) -> bytes:
    try:
        with open(f"/proc/{number}/{name}", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


if KILLS:
    sys.meta_path.insert(0, Finder())
