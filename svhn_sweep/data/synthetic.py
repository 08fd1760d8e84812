"""Generates synthetic street numbers, for a first run without a download.

They imitate what makes SVHN hard: many typefaces, neighbouring digits that the edge cuts off, light
on dark and dark on light, low contrast, uneven light, texture, blur, noise and compression.
benchmarks/synthetic_to_real.py measures how close they are: it trains model2 on synthetic digits
only and tests it on real ones.
"""

import io
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from scipy import ndimage

from svhn_sweep.config.data_sources import IMAGE_SIZE, SyntheticConfig
from svhn_sweep.data import hdf5
from svhn_sweep.data.splits import Images, Labels

VERSION = 1  # part of the file's name: raise it when a crop with the same seed would look different
CANVAS = 2 * IMAGE_SIZE  # pixels, before downsampling
FONTS = (  # in matplotlib's own font folder
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-BoldOblique.ttf"),
    *("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
    *("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-BoldItalic.ttf"),
    *("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf"),
    *("cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmss10.ttf", "cmtt10.ttf"),
)
# grey levels: the crops' standard deviations are then distributed as the real ones', median 29
MEDIAN_CONTRAST = 85
Canvas = NDArray[np.float64]
HORIZONTAL_RAMP = np.broadcast_to(np.linspace(-1, 1, CANVAS), (CANVAS, CANVAS))
UPSAMPLING = ndimage.zoom(np.eye(4), (CANVAS / 4, 1), order=1)  # [64, 4]: linear interpolation


def build(config: SyntheticConfig) -> Path:
    """Generates the digits, unless their HDF5 file exists.

    Args:
        config: The folder, the sizes and the seed.

    Returns:
        The path of the HDF5 file.
    """
    sizes = f"{config.train_size}+{config.test_size}"
    path = (Path(config.folder) / f"synthetic-v{VERSION}-seed{config.seed}-{sizes}.h5").absolute()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)  # may fail, so before ten seconds of work
        x_train, y_train = generate(
            config.train_size, seed=(config.seed, 0), task="Generating training digits"
        )
        x_test, y_test = generate(
            config.test_size, seed=(config.seed, 1), task="Generating test digits"
        )
        hdf5.write(
            path, {"X_train": x_train, "y_train": y_train, "X_test": x_test, "y_test": y_test}
        )
    return path


def generate(
    count: int, seed: tuple[int, ...], task: str = "Generating digits"
) -> tuple[Images, Labels]:
    """Returns synthetic digits, which depend on count and seed alone.

    Args:
        count: The number of crops; each digit gets a tenth of them, give or take one.
        seed: The seed, as NumPy's `default_rng` takes it.
        task: The text beside the progress bar.

    Returns:
        Images, float32 [N, 32, 32] in 0..255, and their labels, uint8 [N] in 0..9.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 10).astype(np.uint8)
    images = np.stack([_crop(int(digit), random) for digit in track(labels, task)])
    return images.astype(np.float32), labels


def _crop(digit: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """One finished crop, [32, 32]: a digit painted on a wall, as a camera sees it."""
    wall_level, paint_level = _grey_levels(random)
    wall = wall_level + _uneven_light(random, strength=10) + _texture(random)
    paint = paint_level + _uneven_light(random, strength=6)
    coverage = _coverage(digit, random)
    if random.random() < 0.2:  # a raised digit casts a shadow
        shadow = ndimage.shift(coverage, random.uniform(-4, 4, size=2), order=1)
        wall = wall - random.uniform(10, 50) * shadow
    return _degrade(wall * (1 - coverage) + paint * coverage, random)


def _grey_levels(random: np.random.Generator) -> tuple[float, float]:
    """The mean grey levels of wall and paint; either may be the lighter one."""
    contrast = float(np.clip(random.lognormal(np.log(MEDIAN_CONTRAST), 0.5), 22, 225))
    darker = random.uniform(5, 250 - contrast)
    levels = (darker + contrast, darker)
    return levels if random.random() < 0.5 else levels[::-1]


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def _coverage(digit: int, random: np.random.Generator) -> Canvas:
    """The share of paint in each pixel, 0..1, [64, 64].

    The digit is in the middle, and neighbours may stand beside it.
    """
    height = random.uniform(0.6, 0.95) * CANVAS
    font = _font(str(random.choice(FONTS)), int(height / 0.73))  # a digit is about 0.73 em high
    stroke = int(random.choice([0, 0, 1, 1, 2, 3, 4]))
    outlined = stroke > 0 and random.random() < 0.12
    image = Image.new("L", (3 * CANVAS, 3 * CANVAS))
    pen = ImageDraw.Draw(image)

    def write(text: str, x: float) -> None:
        pen.text((x, y), text, fill=255, font=font, stroke_width=stroke)
        if outlined:
            pen.text((x, y), text, fill=0, font=font)

    left, top, right, bottom = font.getbbox(str(digit), stroke_width=stroke)
    middle = 1.5 * CANVAS
    y = middle - (top + bottom) / 2
    write(str(digit), middle - (left + right) / 2)
    gap = random.uniform(-0.04, 0.2) * height
    for side in (-1, 1):
        if random.random() < 0.6:
            neighbour = str(random.integers(10))
            neighbour_left, _, neighbour_right, _ = font.getbbox(neighbour, stroke_width=stroke)
            edge = middle + side * ((right - left) / 2 + gap)
            write(neighbour, edge - (neighbour_left if side > 0 else neighbour_right))
    return _transform(image, random)


def _transform(image: Image.Image, random: np.random.Generator) -> Canvas:
    """The middle of an image, 0..1, [64, 64].

    It is rotated, sheared, stretched, shifted and seen in a slight perspective.
    """
    angle = random.normal(0, 0.07)
    shear = random.normal(0, 0.13)
    widen = np.exp(random.normal(-0.15, 0.22))
    matrix = np.array([[1 / widen, shear], [0, 1]])
    matrix = matrix @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = 1.5 * CANVAS - matrix @ (CANVAS / 2 + random.normal(0, 0.04 * CANVAS, size=2))
    perspective = random.normal(0, 0.0012, size=2)
    scale = 1 + perspective.sum() * CANVAS / 2
    coefficients = (*matrix[0] * scale, offset[0], *matrix[1] * scale, offset[1], *perspective)
    transformed = image.transform(
        (CANVAS, CANVAS), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(transformed, dtype=np.float64) / 255


def _uneven_light(random: np.random.Generator, strength: float) -> Canvas:
    """Differences in brightness, [64, 64]: a slope, and a smooth random surface."""
    slope = (
        random.normal(0, strength) * HORIZONTAL_RAMP
        + random.normal(0, strength) * HORIZONTAL_RAMP.T
    )
    coarse = random.normal(0, strength / 2, (4, 4))
    return np.asarray(slope + UPSAMPLING @ coarse @ UPSAMPLING.T)


def _texture(random: np.random.Generator) -> Canvas:
    """The background's pattern, [64, 64]: plain, boards, or a plate with an edge; some rough."""
    surface = np.zeros((CANVAS, CANVAS))
    kind = random.random()
    if kind < 0.2:  # boards: dark seams at equal distances
        pitch, start = random.integers(8, 40, size=2)
        surface[start % pitch :: pitch] -= random.uniform(5, 45)
        surface = surface.T if random.random() < 0.4 else surface
    elif kind < 0.4:  # a plate that ends inside the crop
        edges = random.integers(1, 10, size=4)
        surface += random.normal(0, 35)
        surface[edges[0] : -edges[1], edges[2] : -edges[3]] = 0
    if kind < 0.4:
        surface = ndimage.rotate(
            surface, random.normal(0, 4), reshape=False, order=1, mode="nearest"
        )
    if random.random() < 0.5:  # rough plaster
        surface = surface + ndimage.gaussian_filter(
            random.normal(0, random.uniform(2, 30), surface.shape), 1.2
        )
    return np.asarray(surface)


def _degrade(canvas: Canvas, random: np.random.Generator) -> NDArray[np.uint8]:
    """The crop, [32, 32], of a canvas that is blurred, downsampled, noisy and compressed."""
    blur = random.uniform(0.6, 1.5) if random.random() < 0.3 else random.uniform(1.5, 5.5)
    blurred = ndimage.gaussian_filter(canvas, (blur, blur * random.uniform(0.7, 1.4)))
    downsampled = blurred.reshape(IMAGE_SIZE, 2, IMAGE_SIZE, 2).mean(axis=(1, 3))
    noisy = downsampled + random.normal(0, random.uniform(0.5, 4), downsampled.shape)
    crop = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    if random.random() < 0.5:
        compressed = io.BytesIO()
        crop.save(compressed, "JPEG", quality=int(random.integers(30, 90)))
        crop = Image.open(compressed)
    return np.asarray(crop, dtype=np.uint8)
