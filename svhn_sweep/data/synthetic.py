"""Street numbers drawn by rule, for a first run without a download.

What makes SVHN hard is imitated: many typefaces, neighbouring digits cut by the edge, light on dark and dark on
light, low contrast, shading, texture, blur, noise and compression. How far that goes is measured: a model2 trained on
these digits alone is tested on real ones (benchmarks/synthetic_to_real.py).
"""

import io
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rich.progress import track
from scipy import ndimage

from svhn_sweep.config import SyntheticConfig
from svhn_sweep.data import hdf5
from svhn_sweep.data.splits import Images, Labels

VERSION = 1  # part of the file's name: raise it when a crop with the same seed would look different
SIZE = 32  # pixels, of a finished crop
CANVAS = 2 * SIZE  # pixels, while drawing
FONTS = (  # in matplotlib's own font folder
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSans-BoldOblique.ttf"),
    *("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSansMono-Oblique.ttf"),
    *("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf", "DejaVuSerif-BoldItalic.ttf"),
    *("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf"),
    *("cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmtt10.ttf"),
)
Canvas = NDArray[np.float64]


def build(config: SyntheticConfig) -> Path:
    """The HDF5 file with these digits; draws and stores it if it is not there yet."""
    sizes = f"{config.train_size}+{config.test_size}"
    path = (Path(config.folder) / f"synthetic-v{VERSION}-seed{config.seed}-{sizes}.h5").absolute()
    if not path.exists():
        x_train, y_train = draw(config.train_size, seed=(config.seed, 0), task="Drawing digits to train on")
        x_test, y_test = draw(config.test_size, seed=(config.seed, 1), task="Drawing digits to test on")
        hdf5.write(path, {"X_train": x_train, "y_train": y_train, "X_test": x_test, "y_test": y_test})
    return path


def draw(count: int, seed: tuple[int, ...], task: str = "Drawing digits") -> tuple[Images, Labels]:
    """`count` crops, float32 [N, 32, 32] in 0..255, and their labels, each digit equally often (give or take one)."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 10).astype(np.uint8)
    images = np.stack([_crop(int(digit), random) for digit in track(labels, task)])
    return images.astype(np.float32), labels


def _crop(digit: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """One finished crop, [32, 32]: paint on a wall, photographed."""
    wall, paint = _two_levels(random)
    surface = wall + _shading(random, strength=10) + _texture(random)
    ink = paint + _shading(random, strength=6)
    coverage = _coverage(digit, random)
    if random.random() < 0.15:  # a raised digit throws a shadow
        shadow = ndimage.shift(coverage, random.uniform(-4, 4, size=2), order=1)
        surface = surface - random.uniform(10, 50) * shadow
    return _photograph(surface * (1 - coverage) + ink * coverage, random)


def _two_levels(random: np.random.Generator) -> tuple[float, float]:
    """Grey levels of wall and paint; either may be the lighter one.

    Contrasts are log-normal around 65: so the crops' standard deviations match the real ones' (median 29, 5..95 % 16..54).
    """
    contrast = float(np.clip(random.lognormal(np.log(65), 0.5), 18, 215))
    darker = random.uniform(5, max(10, 245 - contrast)) * random.uniform(0.5, 1)
    levels = (darker + contrast, darker)
    return levels if random.random() < 0.5 else levels[::-1]


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def _coverage(digit: int, random: np.random.Generator) -> Canvas:
    """How much of each pixel is paint, 0..1, [64, 64]: the digit in the middle, its neighbours beside it."""
    height = random.uniform(0.62, 0.95) * CANVAS
    font = _font(str(random.choice(FONTS)), int(height / 0.73))  # a digit is about 0.73 em high
    stroke = int(random.choice([0, 0, 0, 1, 2, 3]))
    gap = random.uniform(-0.02, 0.22) * height
    image = Image.new("L", (3 * CANVAS, 3 * CANVAS))
    pen = ImageDraw.Draw(image)

    left, top, right, bottom = font.getbbox(str(digit), stroke_width=stroke)
    middle = 1.5 * CANVAS
    baseline = (middle - (top + bottom) / 2, middle - (left + right) / 2)
    pen.text((baseline[1], baseline[0]), str(digit), fill=255, font=font, stroke_width=stroke)
    for side in (-1, 1):
        if random.random() < 0.6:
            neighbour = str(random.integers(10))
            box = font.getbbox(neighbour, stroke_width=stroke)
            edge = middle + side * ((right - left) / 2 + gap)
            start = edge - box[0] if side > 0 else edge - box[2]
            pen.text((start, baseline[0]), neighbour, fill=255, font=font, stroke_width=stroke)
    if random.random() < 0.12 and stroke:  # outlined digits
        image = Image.fromarray(np.asarray(image) - np.asarray(image.filter(ImageFilter.MinFilter(3 + 2 * stroke))))
    return _tilt(image, random)


def _tilt(image: Image.Image, random: np.random.Generator) -> Canvas:
    """Seen from where the car stood: rotated, sheared, stretched, off centre; cut to the canvas."""
    angle, shear = random.normal(0, 0.07), random.normal(0, 0.12)
    widen = np.exp(random.normal(-0.08, 0.2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.array([[1 / widen, shear], [0, 1]]) @ rotation
    shift = random.normal(0, 0.035, size=2) * CANVAS
    offset = 1.5 * CANVAS - matrix @ (np.array([CANVAS / 2, CANVAS / 2]) + shift)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    tilted = image.transform((CANVAS, CANVAS), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(tilted, dtype=np.float64) / 255


def _shading(random: np.random.Generator, strength: float) -> Canvas:
    """Light that falls unevenly, [64, 64]: a slope and a few soft clouds."""
    across, down = np.meshgrid(np.linspace(-1, 1, CANVAS), np.linspace(-1, 1, CANVAS))
    slope = random.normal(0, strength) * across + random.normal(0, strength) * down
    clouds = ndimage.zoom(random.normal(0, strength / 2, (4, 4)), CANVAS / 4, order=1)
    return np.asarray(slope + clouds)


def _texture(random: np.random.Generator) -> Canvas:
    """What numbers hang on, [64, 64]: plain wall, boards and bricks, or a plate with an edge."""
    surface = np.zeros((CANVAS, CANVAS))
    kind = random.random()
    if kind < 0.2:  # boards: dark seams at equal distances
        pitch, start = random.integers(8, 40, size=2)
        surface[start % pitch :: pitch] -= random.uniform(5, 45)
        surface = surface.T if random.random() < 0.4 else surface
    elif kind < 0.4:  # a plate ends inside the picture
        edges = random.integers(1, 10, size=4)
        surface += random.normal(0, 35)
        surface[edges[0] : -edges[1], edges[2] : -edges[3]] = 0
    if random.random() < 0.5:  # rough plaster
        surface = surface + ndimage.gaussian_filter(random.normal(0, random.uniform(2, 25), surface.shape), 1.2)
    return np.asarray(ndimage.rotate(surface, random.normal(0, 4), reshape=False, order=1, mode="nearest"))


def _photograph(scene: Canvas, random: np.random.Generator) -> NDArray[np.uint8]:
    """Out of focus, sampled, noisy and compressed, [32, 32]."""
    blur = random.uniform(0.5, 1.2) if random.random() < 0.4 else random.uniform(1.2, 5.0)
    blurred = ndimage.gaussian_filter(scene, (blur, blur * random.uniform(0.7, 1.4)))
    sampled = blurred.reshape(SIZE, 2, SIZE, 2).mean(axis=(1, 3))
    noisy = sampled + random.normal(0, random.uniform(0.5, 4), sampled.shape)
    crop = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    if random.random() < 0.5:
        compressed = io.BytesIO()
        crop.save(compressed, "JPEG", quality=int(random.integers(30, 90)))
        crop = Image.open(compressed)
    return np.asarray(crop, dtype=np.uint8)
