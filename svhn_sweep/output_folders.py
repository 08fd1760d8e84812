"""Checks folders before a command writes into them, so that a refused command leaves no trace."""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from svhn_sweep.errors import ConfigError, UserError
from svhn_sweep.tracking.journal import JOURNAL

MAX_NAME_BYTES = 255  # of Linux' and macOS' file systems
# MLflow and Optuna read what begins with `?` and `%20` in the address of a SQLite file as something
# else than its name, OmegaConf `${`.
SPECIAL = re.compile(r"\?|%[0-9A-Fa-f]{2}|\$\{")


def check_current_folder() -> None:
    """Checks that databases in the current folder can be named by an address.

    Raises:
        UserError: They cannot.
    """
    folder = str(Path.cwd())
    special = SPECIAL.search(folder)
    if special or not _is_text(folder):
        reason = f"without {special[0]}" if special else "of printable characters"
        is_utf8 = sys.getfilesystemencoding() == "utf-8"
        locale = "" if is_utf8 else ", or set PYTHONUTF8=1 if it has letters of other languages"
        raise UserError(
            f"the current folder's path must be {reason} but is {folder!r}; rename it, or start "
            f"in another folder{locale}."
        )


def _is_text(path: str) -> bool:
    # Bytes of a name that are no UTF-8 are surrogates in Python, which are not printable.
    return path.isprintable()


def check_new_run(key: str, folder: Path) -> None:
    """Checks that a run can be started in a folder, before Hydra creates it.

    Args:
        key: The config key that names the folder.
        folder: The run's folder.

    Raises:
        ConfigError: The folder has files, which the run's could replace, or cannot be created or
            written into.
    """
    check_folder(key, folder)
    check_no_run(key, folder)
    if names := _foreign_names(folder):
        raise ConfigError(
            f"{key} must be a new or an empty folder but {folder.absolute()} has "
            f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}."
        )


def _foreign_names(folder: Path) -> list[str]:
    """Lists what a folder has besides logs and what a run that ended early leaves of Hydra's."""
    paths = folder.iterdir() if folder.is_dir() else []
    return sorted(
        path.name for path in paths if not path.name.startswith(".") and path.suffix != ".log"
    )


def check_no_run(key: str, folder: Path) -> None:
    """Checks that no other process has started a run in a folder.

    Args:
        key: The config key that names the folder.
        folder: The folder, in which Hydra may have written its own files.

    Raises:
        ConfigError: The folder holds a run.
    """
    if os.path.lexists(folder / JOURNAL):
        raise ConfigError(
            f"{key} must be a new folder but {folder.absolute()} holds a run already."
        )


def check_folder(key: str, folder: Path, files: Iterable[str] = ()) -> None:
    """Checks that a folder can be created, or exists, and be written into.

    Args:
        key: What names the folder, the beginning of the message.
        folder: The folder.
        files: The names of files that will be written into it.

    Raises:
        ConfigError: It cannot, or one of `files` is something else than a file.
    """
    path = folder.absolute()
    if not _is_text(str(path)):
        raise ConfigError(f"{key} must be a folder of printable characters but is {str(path)!r}.")
    for part in path.parts:
        if len(os.fsencode(part)) > MAX_NAME_BYTES:
            raise ConfigError(
                f"{key} must be a folder whose names have at most {MAX_NAME_BYTES} bytes, but "
                f"{part[:20]}... has {len(os.fsencode(part))}."
            )
    existing = next(item for item in (path, *path.parents) if os.path.lexists(item))
    if not existing.is_dir():
        raise ConfigError(f"{key} must be a folder but {existing} is {_kind(existing)}.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{key} must be a folder but {existing} cannot be written into.")
    for file in (path / name for name in files):
        if os.path.lexists(file) and not file.is_file():
            raise ConfigError(f"{file} must be a file but is {_kind(file)}; move it away.")


def _kind(path: Path) -> str:
    """Returns what a path is."""
    if path.is_file():
        return "a file"
    if path.is_dir():
        return "a folder"
    return "a link to nothing" if path.is_symlink() else "neither a file nor a folder"
