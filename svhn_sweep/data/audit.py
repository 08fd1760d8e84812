"""Finds the images of a data file that are copies or near copies of others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from svhn_sweep.data.copies import Digests, digest_images
from svhn_sweep.data.near_copies import Indices, find_near_copies
from svhn_sweep.data.splits import Images, Labels, count_to_train
from svhn_sweep.errors import OutOfMemoryError
from svhn_sweep.machine import available_memory

MAX_MEMORY = 6  # times the images', beside them; measured 5.5 with 25,000 images


@dataclass(frozen=True)
class Part:
    """The images of a data file that have one use.

    Attributes:
        name: training, validation, test or X_val.
        dataset: The name of the images in the file.
        start: The index of the first image in that dataset.
        images: float32 [N, 32, 32, 1], 0..255.
        labels: uint8 [N], 0..9.
    """

    name: str
    dataset: str
    start: int
    images: Images
    labels: Labels


@dataclass(frozen=True)
class Location:
    """An image in a data file.

    Attributes:
        part: training, validation, test or X_val.
        dataset: The name of the images in the file.
        index: The image's index in that dataset.
        label: 0..9.
    """

    part: str
    dataset: str
    index: int
    label: int


@dataclass(frozen=True)
class Copy:
    """Two images that show the same picture.

    Attributes:
        first: The one that comes first in the order of the parts.
        second: The other one.
        exact: Whether all grey levels are equal.
        similarity: The correlation of the pixels, 1 if they are equal.
        down: How far the second is shifted down, pixels.
        right: How far the second is shifted to the right, pixels.
    """

    first: Location
    second: Location
    exact: bool
    similarity: float = 1
    down: int = 0
    right: int = 0

    @property
    def contradicting(self) -> bool:
        """Whether the labels differ."""
        return self.first.label != self.second.label

    @property
    def parts(self) -> tuple[str, str]:
        """The names of the images' parts."""
        return self.first.part, self.second.part


def make_parts(splits: Mapping[str, tuple[Images, Labels]], fraction: float) -> list[Part]:
    """Returns the parts of a file: training, validation, test, X_val, as far as it has them.

    Args:
        splits: From `hdf5.read_all`.
        fraction: The fraction of X_train that is used for validation.
    """
    images, labels = splits["train"]
    cut = count_to_train(len(images), fraction)
    parts = [
        Part("training", "X_train", 0, images[:cut], labels[:cut]),
        Part("validation", "X_train", cut, images[cut:], labels[cut:]),
    ]
    for split, name in (("test", "test"), ("val", "X_val")):
        if split in splits:
            parts.append(Part(name, f"X_{split}", 0, *splits[split]))
    return parts


def find_copies(parts: Sequence[Part]) -> list[Copy]:
    """Compares all images with each other.

    Of equal images, each is a pair with the first one of its own and of each earlier part, and
    only the first one of each part is compared with other images.

    Returns:
        The exact copies, then the near ones, the most similar first.

    Raises:
        OutOfMemoryError: The machine has too little memory for the comparison.
    """
    _check_memory(parts)
    images = np.concatenate([part.images for part in parts])
    numbers = np.repeat(np.arange(len(parts)), [len(part.images) for part in parts])
    locations = [
        Location(part.name, part.dataset, part.start + index, int(label))
        for part in parts
        for index, label in enumerate(part.labels)
    ]
    digests = digest_images(images)
    copies = [
        Copy(locations[first], locations[second], exact=True)
        for first, second in _exact_pairs(digests, numbers)
    ]
    _, firsts = np.unique(np.stack([digests, numbers.astype(np.uint64)]), axis=1, return_index=True)
    firsts = np.sort(firsts)
    pairs = find_near_copies(images[firsts])
    for first, second, similarity, (down, right) in zip(
        firsts[pairs.first], firsts[pairs.second], pairs.similarities, pairs.shifts, strict=True
    ):
        if digests[first] != digests[second]:
            pair = locations[first], locations[second]
            copies.append(Copy(*pair, False, float(similarity), int(down), int(right)))
    return copies


def _check_memory(parts: Sequence[Part]) -> None:
    needed = MAX_MEMORY * sum(part.images.nbytes for part in parts)
    available = available_memory()
    if needed > available:
        raise OutOfMemoryError(
            f"comparing {sum(len(part.images) for part in parts):,} digits takes "
            f"{needed / 2**30:.1f} GiB of memory but {available / 2**30:.1f} GiB are free; use a "
            "file with fewer digits or a machine with more memory."
        )


def _exact_pairs(digests: Digests, numbers: Indices) -> Iterator[tuple[int, int]]:
    """The indices of equal images, each with the first one of its own and of each earlier part."""
    _, group, counts = np.unique(digests, return_inverse=True, return_counts=True)
    firsts: dict[int, dict[int, int]] = {}  # of each group by the number of the part
    for index in np.flatnonzero(counts[group] > 1):
        by_part = firsts.setdefault(int(group[index]), {})
        yield from ((first, int(index)) for first in by_part.values())
        by_part.setdefault(int(numbers[index]), int(index))
