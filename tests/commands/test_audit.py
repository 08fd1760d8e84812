"""The audit of a data file with planted copies."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from svhn_sweep.commands.audit import audit
from svhn_sweep.data import hdf5
from svhn_sweep.errors import ConfigError, DataError, OutOfMemoryError, UserError

Edit = Callable[[dict[str, np.ndarray]], object]
Rows = list[dict[str, str]]


@pytest.fixture
def audited(
    tmp_path: Path,
    small_h5: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[str, Rows]]:
    """`audited(edit)`: what is printed and the rows of the CSV, after the arrays were edited."""
    monkeypatch.chdir(tmp_path)

    def run(edit: Edit, *overrides: str) -> tuple[str, Rows]:
        with h5py.File(small_h5) as file:
            arrays = {name: file[name][:].astype(np.uint8) for name in file}
        edit(arrays)
        hdf5.write(tmp_path / "digits.h5", arrays)
        audit(["digits.h5", *overrides])
        printed = capsys.readouterr().out
        lines = [
            line
            for path in tmp_path.glob("outputs/audit/*/copies.csv")
            for line in path.read_text().splitlines()
        ]
        return printed, list(csv.DictReader(lines))

    return run


def plant(arrays: dict[str, np.ndarray]) -> None:
    """Copies into validation (from 240 on), test and X_val; two have another label."""
    images, labels = arrays["X_train"], arrays["y_train"]
    images[250], labels[250] = images[7], labels[7]
    arrays["X_test"][3], arrays["y_test"][3] = np.roll(images[8], 1, axis=0), (labels[8] + 1) % 10
    arrays["X_test"][4], arrays["y_test"][4] = images[251], labels[251]
    arrays["X_val"] = arrays["X_test"][:10].copy()
    arrays["y_val"] = arrays["y_test"][:10].copy()
    arrays["y_val"][9] = (arrays["y_val"][9] + 1) % 10


def test_planted_copies_are_in_the_table_the_csv_and_the_picture(
    audited: Callable[..., tuple[str, Rows]], tmp_path: Path
) -> None:
    printed, rows = audited(plant)
    counts = Counter((row["part_1"], row["part_2"], row["kind"]) for row in rows)
    assert counts == {
        ("training", "validation", "exact"): 1,
        ("training", "test", "near"): 1,
        ("validation", "test", "exact"): 1,
        ("training", "X_val", "near"): 1,
        ("validation", "X_val", "exact"): 1,
        ("test", "X_val", "exact"): 10,
    }
    (near,) = [row for row in rows if (row["part_2"], row["kind"]) == ("test", "near")]
    assert (near["dataset_1"], near["index_1"]) == ("X_train", "8")
    assert (near["dataset_2"], near["index_2"]) == ("X_test", "3")
    assert (near["down"], near["right"]) == ("1", "0")
    assert float(near["similarity"]) > 0.99
    assert sum(row["label_1"] != row["label_2"] for row in rows) == 3
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    assert ["validation", "training", "1", "1", "0", "0"] in lines
    assert ["X_val", "test", "10", "10", "0", "1"] in lines
    assert ["all", "240", "60", "100", "10"] in lines
    (folder,) = tmp_path.glob("outputs/audit/*")
    assert printed.count(str(folder.relative_to(tmp_path))) == 2
    with Image.open(folder / "copies.png") as picture:
        assert picture.width > 900


def test_equal_images_are_pairs_with_the_first_one_alone(
    audited: Callable[..., tuple[str, Rows]],
) -> None:
    def repeat(arrays: dict[str, np.ndarray]) -> None:
        arrays["X_train"][10:20] = arrays["X_train"][10]
        arrays["X_test"][5:7] = arrays["X_train"][10]

    _, rows = audited(repeat)
    assert {row["kind"] for row in rows} == {"exact"}
    assert Counter((row["part_1"], row["part_2"], row["index_1"]) for row in rows) == {
        ("training", "training", "10"): 9,
        ("training", "test", "10"): 2,
        ("test", "test", "5"): 1,
    }


def test_equal_images_that_are_near_copies_of_another_one_are_all_counted(
    audited: Callable[..., tuple[str, Rows]],
) -> None:
    def repeat(arrays: dict[str, np.ndarray]) -> None:
        arrays["X_test"][[3, 4, 9]] = np.roll(arrays["X_train"][8], 1, axis=0)

    printed, rows = audited(repeat)
    assert Counter((row["part_1"], row["part_2"], row["kind"]) for row in rows) == {
        ("training", "test", "near"): 1,
        ("test", "test", "exact"): 2,
    }
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    assert [line[:5] for line in lines if line[:1] == ["test"]] == [
        ["test", "training", "3", "0", "1"],
        ["test", "test", "2", "2", "0"],
    ]


def test_more_pairs_than_a_picture_has_are_all_in_the_csv(
    audited: Callable[..., tuple[str, Rows]],
) -> None:
    def repeat(arrays: dict[str, np.ndarray]) -> None:
        arrays["X_test"][:] = arrays["X_train"][:100]

    _, rows = audited(repeat)
    assert len(rows) == 100


def test_a_file_without_copies_writes_nothing(
    audited: Callable[..., tuple[str, Rows]], tmp_path: Path
) -> None:
    printed, rows = audited(lambda arrays: None)
    assert printed.endswith("No image is a copy or a near copy of another one.\n")
    assert rows == []
    assert [path.name for path in tmp_path.iterdir()] == ["digits.h5"]


def test_a_file_with_one_training_digit_is_audited(
    audited: Callable[..., tuple[str, Rows]],
) -> None:
    def keep_one(arrays: dict[str, np.ndarray]) -> None:
        for name in ("X_train", "y_train"):
            arrays[name] = arrays[name][:1]

    printed, _ = audited(keep_one)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    assert ["all", "0", "1", "100"] in lines


def test_a_file_without_a_test_split_and_another_validation_split(
    audited: Callable[..., tuple[str, Rows]],
) -> None:
    def train_alone(arrays: dict[str, np.ndarray]) -> None:
        arrays["X_train"][200] = arrays["X_train"][7]
        del arrays["X_test"], arrays["y_test"]

    _, rows = audited(train_alone, "training.validation_split=0.5")
    assert [(row["part_1"], row["part_2"], row["index_2"]) for row in rows] == [
        ("training", "validation", "200")
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["a.h5", "b.h5"], UserError, r"audit takes one file but got a\.h5, b\.h5\."),
        (["nowhere.h5"], DataError, r"nowhere\.h5 does not exist"),
        (["data=synthetic", "training.validation_split=2"], ConfigError, "must be greater than 0"),
    ],
)
def test_a_wrong_argument_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        audit(arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "duration"),
    [(400, "1 s"), (60_000, "30 s"), (99_000, "82 s"), (600_000, "50 minutes")],
)
def test_the_time_to_expect_grows_with_the_square_of_the_digits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    count: int,
    duration: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.zeros((1, 32, 32, 1), np.float32)
    splits = {"train": (np.broadcast_to(image, (count, 32, 32, 1)), np.zeros(count, np.uint8))}
    monkeypatch.setattr("svhn_sweep.data.hdf5.read_all", lambda path: splits)
    monkeypatch.setattr("svhn_sweep.commands.audit.find_copies", lambda parts: [])
    audit(["digits.h5"])
    assert f"all of them with each other, some {duration} on 2 cores.\n" in capsys.readouterr().out


def test_too_little_memory_for_the_comparison_is_one_sentence(
    audited: Callable[..., tuple[str, Rows]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svhn_sweep.data.audit.available_memory", lambda: 2.0**20)
    with pytest.raises(OutOfMemoryError, match="comparing 400 digits takes"):
        audited(lambda arrays: None)


def test_a_malformed_x_val_is_an_error(audited: Callable[..., tuple[str, Rows]]) -> None:
    def scale(arrays: dict[str, np.ndarray]) -> None:
        arrays["X_val"] = np.zeros((5, 32, 32), np.float32)
        arrays["y_val"] = np.zeros(4, np.uint8)

    with pytest.raises(DataError, match="X_val and y_val must hold equally many digits"):
        audited(scale)
