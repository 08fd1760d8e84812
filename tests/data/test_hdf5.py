import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
import pytest

from svhn_sweep import data
from svhn_sweep.config.data_sources import SvhnConfig
from svhn_sweep.data import hdf5
from svhn_sweep.errors import DataError, OutOfMemoryError

N = 20
IMAGES = np.random.default_rng(0).uniform(0, 255, (N, 32, 32)).astype(np.float32)
LABELS = (np.arange(N) % 10).astype(np.uint8)


def write_file(path: Path, **changed: object) -> Path:
    """Writes a valid file with some datasets changed; None leaves one out."""
    datasets: dict[str, object] = {
        "X_train": IMAGES,
        "y_train": LABELS,
        "X_test": IMAGES,
        "y_test": LABELS,
    }
    with h5py.File(path, "w") as file:
        for name, value in (datasets | changed).items():
            if value is not None:
                file[name] = value
    return path


def images_with_pixel(value: float) -> np.ndarray:
    changed = IMAGES.astype(np.float64)
    changed[3, 4, 5] = value
    return changed


def labels_with(value: float) -> np.ndarray:
    changed = LABELS.astype(np.float64)
    changed[3] = value
    return changed


BAD_DATASETS = [
    ("X_train", None, "X_train is missing; the file holds X_test, y_test, y_train."),
    ("y_train", None, "y_train is missing"),
    (
        "X_train",
        IMAGES[:, :31],
        r"X_train must have the shape \(N, 32, 32\) or .* but has \(20, 31, 32\)",
    ),
    ("X_train", IMAGES[0], r"X_train must have the shape .* but has \(32, 32\)"),
    ("X_train", np.repeat(IMAGES[..., None], 3, axis=3), r"but has \(20, 32, 32, 3\)"),
    (
        "y_train",
        LABELS[:19],
        "X_train and y_train must hold equally many digits but hold 20 and 19",
    ),
    ("X_train", IMAGES[:0], "X_train must not be empty"),
    (
        "X_train",
        images_with_pixel(np.nan),
        "X_train must be finite but 1 pixels are NaN or infinite",
    ),
    (
        "X_train",
        images_with_pixel(np.inf),
        "X_train must be finite but 1 pixels are NaN or infinite",
    ),
    (
        "X_train",
        images_with_pixel(256),
        r"X_train must have pixels in 0..255 but they are in \S+\.\.256",
    ),
    (
        "X_train",
        images_with_pixel(-1),
        r"X_train must have pixels in 0..255 but they are in -1\.\.",
    ),
    ("X_train", IMAGES / 255, "look already scaled to 0..1; store them unscaled"),
    ("X_train", IMAGES.astype("S8"), "X_train must hold numbers but its type is"),
    ("y_train", labels_with(11), "y_train must be whole numbers in 0..9 but 1 are not, 11 first"),
    ("y_train", labels_with(-1), "y_train must be whole numbers in 0..9 but 1 are not, -1 first"),
    ("y_train", labels_with(2.5), "y_train must be whole numbers in 0..9 but 1 are not, 2.5 first"),
    (
        "y_train",
        labels_with(np.nan),
        "y_train must be whole numbers in 0..9 but 1 are not, nan first",
    ),
    (
        "y_train",
        np.where(LABELS == 0, 10, LABELS),
        "y_train has label 10: Stanford's label for the digit 0",
    ),
    (
        "y_train",
        np.eye(10)[LABELS],
        r"y_train must have the shape \(N,\) or \(N, 1\) but has \(20, 10\)",
    ),
    ("X_test", images_with_pixel(300), "X_test must have pixels in 0..255"),
    (
        "X_train",
        h5py.SoftLink("/X_test"),
        "X_train must be stored in the file itself but is a SoftLink to /X_test",
    ),
    (
        "X_train",
        h5py.ExternalLink("/etc/x.h5", "X"),
        "must be stored in the file itself but is a ExternalLink to X",
    ),
    ("X_train", images_with_pixel(1e300), r"X_train must have pixels in 0..255 .*\.\.1e\+300"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_DATASETS)
def test_the_message_for_an_invalid_dataset_names_file_and_dataset(
    tmp_path: Path, name: str, value: object, message: str
) -> None:
    path = write_file(tmp_path / "digits.h5", **{name: value})
    with pytest.raises(DataError, match=message) as caught:
        hdf5.read(path, "svhn", test=True)
    assert str(path) in str(caught.value)
    assert name in str(caught.value)


def missing(path: Path) -> None:
    pass


def text(path: Path) -> None:
    path.write_text("these are no digits")


def truncated(path: Path) -> None:
    write_file(path)
    path.write_bytes(path.read_bytes()[:50_000])


def folder(path: Path) -> None:
    path.mkdir()


def external_storage(path: Path) -> None:
    with h5py.File(write_file(path, X_train=None), "a") as file:
        file.create_dataset(
            "X_train",
            shape=IMAGES.shape,
            dtype="f4",
            external=[(str(path.parent / "raw"), 0, 2**30)],
        )


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout(shape=IMAGES.shape, dtype="f4")
    layout[:] = h5py.VirtualSource(str(path.parent / "other.h5"), "X", shape=IMAGES.shape)
    with h5py.File(write_file(path, X_train=None), "a") as file:
        file.create_virtual_dataset("X_train", layout)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def missing_filter(path: Path) -> None:
    """The images are compressed with Zstandard, which HDF5 has as a plugin only."""
    write_file(path, X_train=None)
    with h5py.File(path, "a") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(IMAGES.shape)
        properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple(IMAGES.shape)
        dataset = h5py.h5d.create(
            file.id, b"X_train", h5py.h5t.NATIVE_FLOAT, space, dcpl=properties
        )
        dataset.write_direct_chunk((0, 0, 0), IMAGES.tobytes())


def null_images(path: Path) -> None:
    with h5py.File(write_file(path, X_train=None), "a") as file:
        file["X_train"] = h5py.Empty("f4")


def null_labels(path: Path) -> None:
    with h5py.File(write_file(path, y_train=None), "a") as file:
        file["y_train"] = h5py.Empty("u1")


def huge(path: Path) -> None:
    with h5py.File(write_file(path, X_train=None), "a") as file:
        file.create_dataset("X_train", shape=(10**9, 32, 32), dtype="f4", chunks=(1, 32, 32))


def group(path: Path) -> None:
    with h5py.File(write_file(path, X_train=None), "a") as file:
        file.create_group("X_train")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            missing,
            "does not exist; set data.path to an HDF5 file, or "
            "take data=synthetic or data=stanford",
        ),
        (text, "is not an HDF5 file"),
        (truncated, "cannot be read as HDF5: .*truncated file"),
        (folder, "is not an HDF5 file"),
        (fifo, "is not an HDF5 file"),
        (
            missing_filter,
            r"X_train must be compressed with .* but needs filter 32015 .*; set HDF5_PLUGIN_PATH",
        ),
        (external_storage, "X_train must be stored in the file itself but points at other files"),
        (virtual, "X_train must be stored in the file itself but points at other files"),
        (group, "X_train must be a dataset but is a Group"),
        (null_images, r"X_train must have the shape .* but has None"),
        (null_labels, r"y_train must have the shape .* but has None"),
        (huge, "X_train must hold at most 2,000,000 digits but holds 1,000,000,000"),
    ],
)
def test_the_message_for_an_invalid_file_names_it(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "digits.h5"
    make(path)
    with pytest.raises(DataError, match=message) as caught:
        hdf5.read(path, "svhn", test=True)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "images", [IMAGES, IMAGES[..., None], IMAGES.astype(np.uint8), IMAGES.astype(np.float64)]
)
@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.astype(np.float32)])
def test_every_accepted_layout_is_read_as_the_same_arrays(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray
) -> None:
    splits = hdf5.read(
        write_file(tmp_path / "digits.h5", X_train=images, y_train=labels), "svhn", test=True
    )
    assert splits.x_train.dtype == np.float32
    assert splits.x_train.shape == (N, 32, 32, 1)
    assert (splits.x_train == images.astype(np.float32).reshape(N, 32, 32, 1)).all()
    assert splits.y_train.dtype == np.uint8
    assert (splits.y_train == LABELS).all()


def test_the_test_split_is_read_on_request_only(tmp_path: Path) -> None:
    path = write_file(tmp_path / "digits.h5", X_test=None, y_test=None)
    splits = hdf5.read(path, "svhn", test=False)
    assert splits.x_test is None
    assert splits.y_test is None
    with pytest.raises(DataError, match="X_test is missing"):
        hdf5.read(path, "svhn", test=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, None),
        ({"X_test": IMAGES[..., None]}, None),
        ({"X_test": None}, "X_test is missing; the file holds X_train, y_test, y_train"),
        ({"X_test": h5py.Empty("f4")}, "X_test must have the shape .* but has None"),
        ({"y_test": h5py.Empty("u1")}, "y_test must have the shape .* but has None"),
        ({"X_test": h5py.SoftLink("/X_test")}, "X_test .* is a SoftLink to /X_test"),
        ({"X_test": IMAGES.astype("S8")}, "X_test must hold numbers"),
        ({"X_test": IMAGES[:, :31]}, "X_test must have the shape"),
        ({"y_test": LABELS[:19]}, "X_test and y_test must hold equally many digits"),
        ({"X_test": IMAGES[:0], "y_test": LABELS[:0]}, "X_test must not be empty"),
    ],
)
def test_a_test_split_is_checked_without_reading_it(
    tmp_path: Path, changed: dict[str, object], message: str | None
) -> None:
    path = write_file(tmp_path / "digits.h5", **changed)
    with pytest.raises(DataError, match=message) if message else nullcontext():
        hdf5.check_test(path)


@pytest.mark.parametrize(("dtype", "gib"), [("f4", "7.6"), ("f8", "22.9"), ("u1", "9.5")])
def test_digits_that_do_not_fit_into_memory_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, gib: str
) -> None:
    monkeypatch.setattr(hdf5, "available_memory", lambda: 2**31)
    path = write_file(tmp_path / "digits.h5", X_train=None, y_train=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("X_train", (2_000_000, 32, 32), dtype, chunks=(100, 32, 32))
        file.create_dataset("y_train", (2_000_000,), "u1", chunks=True)
    with pytest.raises(
        OutOfMemoryError,
        match=rf"X_train takes {gib} GiB of memory to be read but 2.0 GiB are free",
    ):
        hdf5.read(path, "svhn", test=False)


@pytest.mark.parametrize(
    ("value", "read"), [(255.00000000000003, 255), (np.float32(255.00002), 255), (-1e-7, 0)]
)
def test_pixels_beyond_the_range_by_a_rounding_error_are_clipped(
    tmp_path: Path, value: float, read: float
) -> None:
    path = write_file(tmp_path / "digits.h5", X_train=images_with_pixel(value))
    assert hdf5.read(path, "svhn", test=False).x_train[3, 4, 5, 0] == read


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Object dtype"):
        hdf5.write(tmp_path / "digits.h5", {"X_train": IMAGES, "y_train": np.array([object()])})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_read_or_raises_a_data_error(tmp_path: Path) -> None:
    """Whatever h5py raises for a wrong byte, the user gets a message, no traceback."""
    whole = write_file(tmp_path / "digits.h5").read_bytes()
    random = np.random.default_rng(0)
    errors = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for offset in random.integers(0, 8000, size=4):  # HDF5's structure, in so small a file
            damaged[offset] = random.integers(256)
        (tmp_path / "damaged.h5").write_bytes(damaged)
        try:
            hdf5.read(tmp_path / "damaged.h5", "svhn", test=True)
        except DataError:
            errors += 1
    assert errors > 30


def test_real_digits_are_read(real_h5: Path) -> None:
    splits = hdf5.read(real_h5, "svhn", test=True)
    assert splits.x_test is not None
    assert len(splits.x_train) > len(splits.x_test) > 0
    assert set(splits.y_train) == set(range(10))


def test_a_process_reads_a_file_once_until_its_digits_are_released(tmp_path: Path) -> None:
    config = SvhnConfig(str(write_file(tmp_path / "digits.h5")))
    digits = data.load(config, test=False)
    assert data.load(config, test=False) is digits
    assert data.load(config, test=True).x_test is not None
    data.release()
    assert data.load(config, test=False) is not digits
