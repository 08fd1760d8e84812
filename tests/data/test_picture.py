import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svhn_sweep.data import picture
from svhn_sweep.errors import DataError


@pytest.fixture
def pixels() -> np.ndarray:
    """Random grey pixels, uint8 [32, 32]."""
    return np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)


def saved(image: Image.Image, path: Path, exif: Image.Exif | None = None) -> Path:
    image.save(path, exif=exif or Image.Exif())
    return path


def test_a_grey_picture_of_32_by_32_keeps_its_pixels(pixels: np.ndarray, tmp_path: Path) -> None:
    digit = picture.read(saved(Image.fromarray(pixels), tmp_path / "a digit.png"))
    assert digit.shape == (32, 32, 1)
    assert digit.dtype == np.float32
    assert (digit[..., 0] == pixels).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_are_0_and_255_in_every_mode(tmp_path: Path, mode: str, value: int) -> None:
    image = Image.new("L", (32, 32), value)
    if mode == "I;16":
        image = Image.fromarray(np.full((32, 32), value * 257, np.uint16))
    elif mode == "LA":
        image = image.convert("RGBA").convert("LA")
    else:
        image = image.convert(mode)
    digit = picture.read(saved(image, tmp_path / ("digit.tiff" if mode == "CMYK" else "digit.png")))
    assert np.unique(digit).tolist() == [value]


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    digit = picture.read(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), tmp_path / "digit.png"))
    assert np.unique(digit).tolist() == [255]


def test_colours_become_the_same_grey_as_in_the_data(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), (255, 0, 0))
    assert picture.read(saved(image, tmp_path / "red.png"))[0, 0, 0] == round(0.299 * 255)


@pytest.mark.parametrize(
    "size",
    [
        *[(1, 1), (20, 20), (64, 64), (16, 48), (300, 100), (33, 32)],
        *[(300_000, 1), (1, 300_000), (60_000, 10)],
    ],
)
def test_every_size_is_scaled(tmp_path: Path, size: tuple[int, int]) -> None:
    digit = picture.read(saved(Image.new("L", size, 100), tmp_path / "digit.png"))
    assert digit.shape == (32, 32, 1)
    assert np.unique(digit).tolist() == [100]


def test_a_narrow_picture_is_padded_with_its_edges(tmp_path: Path) -> None:
    narrow = np.zeros((32, 16), np.uint8)
    narrow[:, -1] = 200
    digit = picture.read(saved(Image.fromarray(narrow), tmp_path / "narrow.png"))[..., 0]
    assert (digit[:, :23] == 0).all()
    assert (digit[:, 23:] == 200).all()


def test_a_photo_is_rotated_as_its_exif_says(tmp_path: Path, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by 180 degrees
    path = saved(Image.fromarray(pixels), tmp_path / "photo.png", exif=exif)
    assert (picture.read(path)[..., 0] == pixels[::-1, ::-1]).all()


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"],
        b"II*\x00\x08\x00\x00\x00\x05\x00",  # a TIFF of which Pillow warns
    ],
)
def test_a_file_that_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"digit\.png must be a picture but cannot be read: "):
        picture.read(path)


@pytest.mark.parametrize("pixels", [np.ones((8, 8), np.float32), np.ones((8, 8), np.int32)])
def test_a_mode_without_a_known_white_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match="more than 16 bits, and no known white"):
        picture.read(saved(Image.fromarray(pixels), tmp_path / "digit.tiff"))


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    black, white = (Image.new("L", (8, 8), value) for value in (0, 255))
    black.save(tmp_path / "digit.gif", save_all=True, append_images=[white])
    assert np.unique(picture.read(tmp_path / "digit.gif")).tolist() == [0]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.png does not exist\."):
        picture.read(tmp_path / "missing.png")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(DataError, match=rf"{path} must be a picture but is no file\."):
            picture.read(path)


def test_a_truncated_picture_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    path = saved(Image.fromarray(pixels), tmp_path / "digit.png")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="must be a picture"):
        picture.read(path)
