"""Finds near copies: the same picture shifted by up to two pixels, brighter, darker or flatter.

Candidates are pairs whose 7x7 thumbnails correlate; each is compared at full resolution.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from svhn_sweep.config.data_sources import IMAGE_SIZE
from svhn_sweep.data.splits import Images
from svhn_sweep.machine import cores

Indices = NDArray[np.intp]
Floats = NDArray[np.float32]
Pairs = tuple[Indices, Indices, Floats, Indices]  # as in NearCopies

MAX_SHIFT = 2  # pixels; what is compared is the middle of one image and a window of the other
WINDOW = IMAGE_SIZE - 2 * MAX_SHIFT
THUMBNAIL = 7  # pixels; 4 pixels of the image each
# Of one image against the middle of the other, and vice versa: no whole shift is more than half a
# pixel away.
QUERY_SHIFTS = ((0.0, 0.0), (1.5, 0.0), (0.0, 1.5), (1.5, 1.5), (1.5, -1.5))
# Correlations. benchmarks/audit.py measures what they find; real digits have almost nothing between
# 0.98 and 0.999, and pictures of different numbers differ in their details below that.
MIN_THUMBNAIL = 0.9
MIN_SIMILARITY = 0.98
MIN_DETAIL = 0.6  # of what a 3x3 mean takes away: edges and noise
MIN_SIMILARITY_CLIPPED = 0.85  # of all pixels, where a brighter copy is cut off at 255
MIN_CONTRAST = 1.0  # grey levels, standard deviation of a thumbnail; plain images are all alike
MIN_UNCLIPPED = 0.05  # share of the pixels that are compared
ROWS, COLUMNS = 1024, 2048  # thumbnails that are compared at a time, which fit into a cache
BATCH = 1024  # pairs, which fit into a processor's cache
BLACK, WHITE = 0.5, 254.5  # pixels beyond may be cut off
MIN_CLIPPED = 0.01  # share of such pixels from which an image counts as clipped
NOTHING: Pairs = (
    np.empty(0, np.intp),
    np.empty(0, np.intp),
    np.empty(0, np.float32),
    np.empty((0, 2), np.intp),
)


@dataclass(frozen=True)
class NearCopies:
    """Pairs of images, most similar first.

    Attributes:
        first: The index of one image, [N].
        second: The index of the other one, which is higher, [N].
        similarities: The correlation of their unclipped pixels, 0.98..1, [N].
        shifts: How far the second is shifted down and to the right of the first, pixels, [N, 2].
    """

    first: Indices
    second: Indices
    similarities: Floats
    shifts: Indices


def find_near_copies(images: Images) -> NearCopies:
    """Compares all images with each other; equal ones are found too.

    Args:
        images: float32 [N, 32, 32, 1], 0..255. Those without contrast are left out.

    Returns:
        The pairs that show the same picture.
    """
    pixels = images[..., 0]
    contrasting = np.flatnonzero(_means(_window(pixels, 0, 0)).std(axis=1) >= MIN_CONTRAST)
    pixels = pixels[contrasting]
    thumbnails = np.ascontiguousarray(_thumbnails(pixels, 0, 0).T)
    comparison = _Comparison(pixels)

    def copies_of(start: int) -> list[Pairs]:
        block = pixels[start : start + ROWS]
        pairs: list[Pairs] = []
        for shift in QUERY_SHIFTS:
            first, second = _alike(_thumbnails(block, *shift), thumbnails)
            pairs += comparison.verify(start + first, second, shift)
        return pairs

    # A thread of its own for each block takes half the CPU time of BLAS' threads for each product.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as threads:
        pairs = chain([NOTHING], *threads.map(copies_of, range(0, len(contrasting), ROWS)))
    first, second, similarities, shifts = map(np.concatenate, zip(*pairs, strict=True))
    return _best_of_each_pair(contrasting[first], contrasting[second], similarities, shifts)


def _alike(rows: Floats, columns: Floats) -> tuple[Indices, Indices]:
    """The rows and columns whose scalar product is high enough, of rows [M, 49] and [49, N]."""
    pairs = []
    for start in range(0, columns.shape[1], COLUMNS):
        correlations = rows @ columns[:, start : start + COLUMNS]
        # Few rows have any: their maxima are a faster pass than np.nonzero.
        with_any = np.flatnonzero(correlations.max(axis=1) >= MIN_THUMBNAIL)
        row, column = np.nonzero(correlations[with_any] >= MIN_THUMBNAIL)
        pairs.append((with_any[row], start + column))
    row, column = map(np.concatenate, zip(*pairs, strict=True))
    return row, column


class _Comparison:
    """Compares pairs of images at full resolution."""

    def __init__(self, pixels: Floats) -> None:
        self._pixels = pixels
        self._middles = _unit(_window(pixels, 0, 0))
        clipped = np.mean((pixels > WHITE) | (pixels < BLACK), axis=(1, 2))
        self._is_clipped = clipped > MIN_CLIPPED

    def verify(self, first: Indices, second: Indices, shift: tuple[float, float]) -> list[Pairs]:
        """The near copies among candidates, for each whole shift next to theirs.

        The indices in `first` are close together.
        """
        different = first < second if shift == (0.0, 0.0) else first != second
        first, second = first[different], second[different]
        if not len(first):
            return []
        down, right = map(_whole_shifts, shift)
        return [
            self._verify(*self._likely(first, second, whole), whole)
            for whole in product(down, right)
        ]

    def _likely(
        self, first: Indices, second: Indices, shift: tuple[int, int]
    ) -> tuple[Indices, Indices]:
        """The pairs that correlate; those with clipped pixels may do so less."""
        start = first.min()
        windows = _unit(_window(self._pixels[start : first.max() + 1], *shift))
        correlations = np.concatenate(
            [
                np.einsum("ij,ij->i", windows[first[batch] - start], self._middles[second[batch]])
                for batch in np.array_split(np.arange(len(first)), len(first) // BATCH + 1)
            ]
        )
        clipped = self._is_clipped[first] | self._is_clipped[second]
        likely = correlations >= np.where(clipped, MIN_SIMILARITY_CLIPPED, MIN_SIMILARITY - 0.01)
        return first[likely], second[likely]

    def _verify(self, first: Indices, second: Indices, shift: tuple[int, int]) -> Pairs:
        pair = _window(self._pixels[first], *shift), _window(self._pixels[second], 0, 0)
        unclipped = (np.minimum(*pair) > BLACK) & (np.maximum(*pair) < WHITE)
        details = _details(pair[0]), _details(pair[1])
        similarities = _correlations(*pair, unclipped)
        copies = similarities >= MIN_SIMILARITY
        copies &= _correlations(*details, unclipped) >= MIN_DETAIL
        copies &= unclipped.mean(axis=(1, 2)) >= MIN_UNCLIPPED
        first, second = first[copies], second[copies]
        # The window of the first image is the middle of the second one, which is shifted back.
        return first, second, similarities[copies], np.tile(shift, (len(first), 1)) * -1


def _window(pixels: Floats, down: int, right: int) -> Floats:
    """The 28x28 pixels around a point that is shifted from the middle, [N, 28, 28]."""
    top = MAX_SHIFT + down
    left = MAX_SHIFT + right
    return pixels[:, top : top + WINDOW, left : left + WINDOW]


def _whole_shifts(shift: float) -> tuple[int, ...]:
    """The shifts between which a half one is, or the shift itself if it is whole."""
    return tuple(sorted({math.floor(shift), math.ceil(shift)}))


def _thumbnails(pixels: Floats, down: float, right: float) -> Floats:
    """The means of 4x4 pixels without their own mean, of length 1, [N, 49]."""
    shifts = list(product(_whole_shifts(down), _whole_shifts(right)))
    means = sum(_means(_window(pixels, *shift)) for shift in shifts)
    return _unit(np.asarray(means))


def _means(windows: Floats) -> Floats:
    side = WINDOW // THUMBNAIL
    tiles = windows.reshape(len(windows), THUMBNAIL, side, THUMBNAIL, side)
    return np.asarray(tiles.mean(axis=(2, 4)).reshape(len(windows), THUMBNAIL**2))


def _unit(images: Floats) -> Floats:
    """Each image as a row without its mean, of length 1; plain ones become 0."""
    rows = images.reshape(len(images), math.prod(images.shape[1:]))
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1))


def _details(pixels: Floats) -> Floats:
    """Images without the mean of each pixel's neighbourhood."""
    return np.asarray(pixels - ndimage.uniform_filter(pixels, (1, 3, 3), mode="nearest"))


def _correlations(one: Floats, other: Floats, used: NDArray[np.bool_]) -> Floats:
    """The correlation of the pixels used of each pair, -1..1, [N]; 0 where one is plain."""
    weights = used / np.maximum(used.sum(axis=(1, 2), keepdims=True), 1, dtype=np.float32)
    centred = [
        values - np.sum(values * weights, axis=(1, 2), keepdims=True) for values in (one, other)
    ]

    def product_of(left: Floats, right: Floats) -> Floats:
        return np.asarray(np.sum(left * right * weights, axis=(1, 2)))

    variances = product_of(centred[0], centred[0]) * product_of(centred[1], centred[1])
    return np.asarray(product_of(*centred) / np.sqrt(np.maximum(variances, 1e-6)))


def _best_of_each_pair(
    first: Indices, second: Indices, similarities: Floats, shifts: Indices
) -> NearCopies:
    """Each pair once, at its best shift."""
    swapped = first > second
    first, second = np.minimum(first, second), np.maximum(first, second)
    shifts = np.where(swapped[:, None], -shifts, shifts)
    order = np.argsort(-similarities, kind="stable")
    _, best = np.unique(np.stack([first, second])[:, order], axis=1, return_index=True)
    chosen = order[np.sort(best)]
    return NearCopies(first[chosen], second[chosen], similarities[chosen], shifts[chosen])
