"""`python -m svhn_sweep audit`: finds copies and near copies among the digits of a data file."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, fields, replace
from datetime import datetime
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from hydra import initialize_config_dir
from rich.table import Table

from svhn_sweep import data
from svhn_sweep.commands.audit_picture import draw_copies
from svhn_sweep.config.composition import composition_errors
from svhn_sweep.config.overrides import expand_home, sets_data_path, to_override
from svhn_sweep.config.schema import Config, compose_config, conf_dir, register_schema
from svhn_sweep.console import console
from svhn_sweep.data import hdf5
from svhn_sweep.data.audit import Copy, Location, Part, find_copies, make_parts
from svhn_sweep.errors import UserError
from svhn_sweep.output_folders import check_folder

FOLDER = Path("outputs") / "audit"
CSV = "copies.csv"
PICTURE = "copies.png"
SECONDS = 30  # for 60,000 images on 2 cores (benchmarks/audit.py)


def audit(arguments: Sequence[str]) -> None:
    """Prints the labels of each part of the digits and the number of copies; writes all pairs.

    Args:
        arguments: A data file, or overrides of the config as for a run.

    Raises:
        UserError: There is more than one file, or an override is not valid.
        DataError: The digits cannot be read.
        OutOfMemoryError: The machine has too little memory for the digits.
    """
    config = _compose(arguments)
    folder = FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    check_folder("the folder of an audit", folder)
    path = data.locate(config.data)
    parts = make_parts(hdf5.read_all(path), config.training.validation_split)
    count = sum(len(part.images) for part in parts)
    console.print(f"{path}: {count:,} digits")
    console.print(_label_table(parts))
    console.print(f"Comparing all of them with each other, some {_duration(count)} on 2 cores.")
    copies = find_copies(parts)
    if not copies:
        console.print("No image is a copy or a near copy of another one.")
        return
    console.print(_count_table(parts, copies))
    folder.mkdir(parents=True)
    _write_csv(folder / CSV, copies)
    draw_copies(parts, copies).savefig(folder / PICTURE)
    console.print(f"Nothing was removed. All {len(copies):,} pairs: {folder / CSV}")
    console.print(f"Pictures of them: {folder / PICTURE}")


def _duration(count: int) -> str:
    """Returns how long the comparison of so many images takes; it grows with their square."""
    seconds = SECONDS * (count / 60_000) ** 2
    return f"{max(seconds, 1):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _compose(arguments: Sequence[str]) -> Config:
    """The config of these arguments, whose data source is resolved."""
    files = [argument for argument in arguments if "=" not in argument]
    overrides = [expand_home(argument) for argument in arguments if "=" in argument]
    if len(files) > 1:
        raise UserError(f"audit takes one file but got {', '.join(files)}.")
    for file in files:
        overrides = ["data=svhn", to_override("data.path", file), *overrides]
    register_schema()
    with (
        initialize_config_dir(str(conf_dir()), version_base="1.3"),
        composition_errors(overrides),
    ):
        config = compose_config(overrides)
    source = data.resolve(config.data, path_given=sets_data_path(overrides))
    return replace(config, data=source)


def _label_table(parts: Sequence[Part]) -> Table:
    table = Table("label", *(part.name for part in parts))
    for column in table.columns[1:]:
        column.justify = "right"
    counts = [np.bincount(part.labels, minlength=10) for part in parts]
    for digit in range(10):
        table.add_row(
            str(digit),
            *(f"{count[digit]:,} ({count[digit] / max(1, count.sum()):.1%})" for count in counts),
        )
    table.add_row("all", *(f"{count.sum():,}" for count in counts))
    return table


def _count_table(parts: Sequence[Part], copies: Sequence[Copy]) -> Table:
    """The number of pairs between each two parts, and how many images of the second are in them."""
    exact = Counter(copy.parts for copy in copies if copy.exact)
    near_pairs = Counter(copy.parts for copy in copies if not copy.exact)
    contradicting = Counter(copy.parts for copy in copies if copy.contradicting)
    equals: dict[Location, list[Location]] = {}  # of the first of a part's equal images
    for copy in copies:
        if copy.exact and copy.first.part == copy.second.part:
            equals.setdefault(copy.first, []).append(copy.second)
    images: dict[tuple[str, str], set[Location]] = {}
    for copy in copies:
        second = [copy.second, *equals.get(copy.second, [])]
        images.setdefault(copy.parts, set()).update(second)
    table = Table(
        "images in", "that are also in", "images", "exact pairs", "near pairs", "labels differ"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for pair in combinations_with_replacement([part.name for part in parts], 2):
        if pair in images:
            counts = (len(images[pair]), exact[pair], near_pairs[pair], contradicting[pair])
            table.add_row(pair[1], pair[0], *(f"{count:,}" for count in counts))
    return table


def _write_csv(path: Path, copies: Sequence[Copy]) -> None:
    """Writes a row for each pair."""
    header = [f"{item.name}_{number}" for number in (1, 2) for item in fields(Location)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "kind", "similarity", "down", "right"])
        for copy in copies:
            kind = "exact" if copy.exact else "near"
            facts = kind, f"{copy.similarity:.4f}", copy.down, copy.right
            writer.writerow([*astuple(copy.first), *astuple(copy.second), *facts])
