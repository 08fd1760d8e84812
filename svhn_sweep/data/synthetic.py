"""Street numbers drawn by rule, for a first run without a download.

What makes SVHN hard is imitated: many typefaces, neighbouring digits cut by the edge, light on dark
and dark on light, low contrast, shading, texture, blur, noise and compression. How far that goes is
measured: a model2 trained on these digits alone is tested on real ones
(benchmarks/synthetic_to_real.py).
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

from svhn_sweep.config.schema import SyntheticConfig
from svhn_sweep.data import hdf5
from svhn_sweep.data.splits import Images, Labels

VERSION = 1  # part of the file's name: raise it when a crop with the same seed would look different
SIZE = 32  # pixels, of a finished crop
CANVAS = 2 * SIZE  # pixels, while drawing
FONTS = (  # in matplotlib's own font folder
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-BoldOblique.ttf"),
    *("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
    *("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-BoldItalic.ttf"),
    *("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf"),
    *("cmr10.ttf", "cmb10.ttf", "cmss10.ttf", "cmss10.ttf", "cmtt10.ttf"),
)
MEDIAN_CONTRAST = (
    85  # grey levels: the crops' standard deviations then lie as the real ones' do, median 29
)
Canvas = NDArray[np.float64]
ACROSS = np.broadcast_to(np.linspace(-1, 1, CANVAS), (CANVAS, CANVAS))
SOFTEN = ndimage.zoom(np.eye(4), (CANVAS / 4, 1), order=1)  # [64, 4]: four values, interpolated


def build(config: SyntheticConfig) -> Path:
    """The HDF5 file with these digits; draws and stores it if it is not there yet."""
    sizes = f"{config.train_size}+{config.test_size}"
    path = (Path(config.folder) / f"synthetic-v{VERSION}-seed{config.seed}-{sizes}.h5").absolute()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)  # now, not after ten seconds of drawing
        x_train, y_train = draw(
            config.train_size, seed=(config.seed, 0), task="Drawing digits to train on"
        )
        x_test, y_test = draw(
            config.test_size, seed=(config.seed, 1), task="Drawing digits to test on"
        )
        hdf5.write(
            path, {"X_train": x_train, "y_train": y_train, "X_test": x_test, "y_test": y_test}
        )
    return path


def draw(count: int, seed: tuple[int, ...], task: str = "Drawing digits") -> tuple[Images, Labels]:
    """`count` crops, float32 [N, 32, 32] in 0..255, and their labels, each digit equally often
    (give or take one).
    """
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
    if random.random() < 0.2:  # a raised digit throws a shadow
        shadow = ndimage.shift(coverage, random.uniform(-4, 4, size=2), order=1)
        surface = surface - random.uniform(10, 50) * shadow
    return _photograph(surface * (1 - coverage) + ink * coverage, random)


def _two_levels(random: np.random.Generator) -> tuple[float, float]:
    """Grey levels of wall and paint; either may be the lighter one."""
    contrast = float(np.clip(random.lognormal(np.log(MEDIAN_CONTRAST), 0.5), 22, 225))
    darker = random.uniform(5, 250 - contrast)
    levels = (darker + contrast, darker)
    return levels if random.random() < 0.5 else levels[::-1]


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def _coverage(digit: int, random: np.random.Generator) -> Canvas:
    """How much of each pixel is paint, 0..1, [64, 64]: the digit in the middle, its neighbours
    beside it.
    """
    height = random.uniform(0.6, 0.95) * CANVAS
    font = _font(str(random.choice(FONTS)), int(height / 0.73))  # a digit is about 0.73 em high
    stroke = int(random.choice([0, 0, 1, 1, 2, 3, 4]))
    outlined = stroke > 0 and random.random() < 0.12
    image = Image.new("L", (3 * CANVAS, 3 * CANVAS))
    pen = ImageDraw.Draw(image)

    def write(text: str, left: float) -> None:
        pen.text((left, top), text, fill=255, font=font, stroke_width=stroke)
        if outlined:
            pen.text((left, top), text, fill=0, font=font)

    box = font.getbbox(str(digit), stroke_width=stroke)
    middle = 1.5 * CANVAS
    top = middle - (box[1] + box[3]) / 2
    write(str(digit), middle - (box[0] + box[2]) / 2)
    gap = random.uniform(-0.04, 0.2) * height
    for side in (-1, 1):
        if random.random() < 0.6:
            neighbour = str(random.integers(10))
            near, _, far, _ = font.getbbox(neighbour, stroke_width=stroke)
            edge = middle + side * ((box[2] - box[0]) / 2 + gap)
            write(neighbour, edge - near if side > 0 else edge - far)
    return _seen_from_the_street(image, random)


def _seen_from_the_street(image: Image.Image, random: np.random.Generator) -> Canvas:
    """The middle of the picture, [64, 64]: rotated, sheared, stretched, a little bent and off
    centre.
    """
    angle = random.normal(0, 0.07)
    shear = random.normal(0, 0.13)
    widen = np.exp(random.normal(-0.15, 0.22))
    matrix = np.array([[1 / widen, shear], [0, 1]])
    matrix = matrix @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = 1.5 * CANVAS - matrix @ (CANVAS / 2 + random.normal(0, 0.04 * CANVAS, size=2))
    bend = random.normal(0, 0.0012, size=2)  # perspective: lines that meet
    scale = 1 + bend.sum() * CANVAS / 2
    coefficients = (*matrix[0] * scale, offset[0], *matrix[1] * scale, offset[1], *bend)
    seen = image.transform(
        (CANVAS, CANVAS), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
    )
    return np.asarray(seen, dtype=np.float64) / 255


def _shading(random: np.random.Generator, strength: float) -> Canvas:
    """Light that falls unevenly, [64, 64]: a slope and a few soft clouds."""
    slope = random.normal(0, strength) * ACROSS + random.normal(0, strength) * ACROSS.T
    return np.asarray(slope + SOFTEN @ random.normal(0, strength / 2, (4, 4)) @ SOFTEN.T)


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
    if kind < 0.4:
        surface = ndimage.rotate(
            surface, random.normal(0, 4), reshape=False, order=1, mode="nearest"
        )
    if random.random() < 0.5:  # rough plaster
        surface = surface + ndimage.gaussian_filter(
            random.normal(0, random.uniform(2, 30), surface.shape), 1.2
        )
    return np.asarray(surface)


def _photograph(scene: Canvas, random: np.random.Generator) -> NDArray[np.uint8]:
    """Out of focus, sampled, noisy and compressed, [32, 32]."""
    blur = random.uniform(0.6, 1.5) if random.random() < 0.3 else random.uniform(1.5, 5.5)
    blurred = ndimage.gaussian_filter(scene, (blur, blur * random.uniform(0.7, 1.4)))
    sampled = blurred.reshape(SIZE, 2, SIZE, 2).mean(axis=(1, 3))
    noisy = sampled + random.normal(0, random.uniform(0.5, 4), sampled.shape)
    crop = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    if random.random() < 0.5:
        compressed = io.BytesIO()
        crop.save(compressed, "JPEG", quality=int(random.integers(30, 90)))
        crop = Image.open(compressed)
    return np.asarray(crop, dtype=np.uint8)
