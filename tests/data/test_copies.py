"""Exact copies between the splits of a file, as they are counted before a run."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from svhn_sweep.data import Splits, copies_tag, describe_copies, hdf5

Plant = tuple[str, int, str, int]  # the image at an index of a dataset is overwritten by another
Relabel = tuple[str, int]


def splits_of(path: Path) -> Splits:
    return hdf5.read(path, "svhn", test=False)


def write(
    path: Path, sizes: dict[str, int], plants: list[Plant], relabelled: list[Relabel]
) -> None:
    """Random images; copies have the label of their original unless they are relabelled."""
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, size in sizes.items():
        arrays[f"X_{split}"] = random.uniform(0, 255, (size, 32, 32)).astype(np.float32)
        arrays[f"y_{split}"] = (np.arange(size) % 10).astype(np.uint8)
    for split, index, original, original_index in plants:
        for name in "Xy":
            arrays[f"{name}_{split}"][index] = arrays[f"{name}_{original}"][original_index]
    for split, index in relabelled:
        arrays[f"y_{split}"][index] = (arrays[f"y_{split}"][index] + 1) % 10
    hdf5.write(path, arrays)


TWO = {"train": 100, "test": 50}  # the last 20 of train are for validation
THREE = {**TWO, "val": 30}
VALIDATION = "of 20 validation images are exact copies of images in the training part"
TEST = "of 50 test images are exact copies of images in X_train"
X_VAL = "of 30 images of X_val, which is not used, are exact copies of images in X_train or X_test"


@pytest.mark.parametrize(
    ("sizes", "plants", "relabelled", "description"),
    [
        (TWO, [], [], ""),
        ({"train": 100}, [], [], ""),
        (THREE, [], [], ""),
        (TWO, [("train", 90, "train", 3)], [], f"1 {VALIDATION}"),
        (TWO, [("train", 4, "train", 3), ("train", 91, "train", 90)], [], ""),  # in one part
        (TWO, [("train", 90, "train", 3), ("train", 91, "train", 3)], [], f"2 {VALIDATION}"),
        (TWO, [("test", 1, "train", 3), ("test", 2, "train", 95)], [], f"2 {TEST}"),
        (
            TWO,
            [("train", 90, "train", 3), ("test", 1, "train", 3)],
            [],
            f"1 {VALIDATION}, 1 {TEST}",
        ),
        (THREE, [("val", 5, "test", 7), ("val", 6, "train", 7)], [], f"2 {X_VAL}"),
        (
            TWO,
            [("train", 90, "train", 3), ("train", 91, "train", 4)],
            [("train", 91)],
            f"2 {VALIDATION} (1 with another label)",
        ),
        (  # one of the originals agrees
            TWO,
            [("train", 5, "train", 3), ("test", 1, "train", 3)],
            [("train", 5)],
            f"1 {TEST}",
        ),
        (TWO, [("test", 1, "train", 3)], [("test", 1)], f"1 {TEST} (1 with another label)"),
    ],
)
def test_copies_between_splits_are_counted(
    tmp_path: Path,
    sizes: dict[str, int],
    plants: list[Plant],
    relabelled: list[Relabel],
    description: str,
) -> None:
    path = tmp_path / "digits.h5"
    write(path, sizes, plants, relabelled)
    assert describe_copies(splits_of(path), 0.2) == description


def test_validation_begins_where_the_config_says(tmp_path: Path) -> None:
    path = tmp_path / "digits.h5"
    write(path, TWO, [("train", 60, "train", 3)], [])
    assert describe_copies(splits_of(path), 0.2) == ""
    assert describe_copies(splits_of(path), 0.5).startswith("1 of 50 validation images are exact")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_the_same_grey_levels_are_a_copy_in_any_type(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "digits.h5"
    write(path, TWO, [], [])
    with h5py.File(path, "a") as file:
        file["X_train"][3] = np.rint(file["X_train"][3])
        images = np.rint(file["X_test"][:]).astype(dtype)[..., None]
        images[1, ..., 0], file["y_test"][1] = file["X_train"][3], file["y_train"][3]
        del file["X_test"]
        file["X_test"] = images
    assert describe_copies(splits_of(path), 0.2) == f"1 {TEST}"


def remove_labels(file: h5py.File, split: str) -> None:
    del file[f"y_{split}"]


def use_a_missing_filter(file: h5py.File, split: str) -> None:
    """The images are compressed with Zstandard, which HDF5 has as a plugin only."""
    images = file[f"X_{split}"][:]
    del file[f"X_{split}"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(images.shape)
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple(images.shape)
    name = f"X_{split}".encode()
    dataset = h5py.h5d.create(file.id, name, h5py.h5t.NATIVE_FLOAT, space, dcpl=properties)
    dataset.write_direct_chunk((0, 0, 0), images.tobytes())


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("damage", [remove_labels, use_a_missing_filter])
def test_a_split_that_the_run_does_not_use_may_be_malformed_or_damaged(
    tmp_path: Path, split: str, damage: Callable[[h5py.File, str], None]
) -> None:
    path = tmp_path / "digits.h5"
    write(path, THREE, [("train", 90, "train", 3)], [])
    with h5py.File(path, "a") as file:
        damage(file, split)
    assert describe_copies(splits_of(path), 0.2) == f"1 {VALIDATION}"


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "digits.h5"
    write(path, TWO, [], [])
    assert describe_copies(splits_of(path), 0.2) == ""
    write(path, TWO, [("test", 1, "train", 3)], [])
    assert describe_copies(splits_of(path), 0.2) == f"1 {TEST}"


@pytest.mark.parametrize(("copies", "tags"), [("", {}), ("1", {"data.copies": "1"})])
def test_a_run_without_copies_has_no_tag(copies: str, tags: dict[str, str]) -> None:
    assert copies_tag(copies) == tags
