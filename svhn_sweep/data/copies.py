"""Counts the images of one split that another one has too, before anything is trained."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from svhn_sweep.data.splits import Labels, count_to_train

Digests = NDArray[np.uint64]  # [N]; two of 60,000 images have the same one by a chance of 1e-10


def digest_images(images: NDArray[np.generic]) -> Digests:
    """Returns a number for each image, which depends on its rounded grey levels alone.

    Args:
        images: Of any number type, [N, 32, 32] or [N, 32, 32, 1], 0..255.
    """
    with np.errstate(invalid="ignore"):  # NaN: such a split is refused where it is used
        rounded = np.rint(images) if np.issubdtype(images.dtype, np.floating) else images
        pixels = np.ascontiguousarray(rounded, np.uint8)
    rows = (hashlib.blake2b(image.data, digest_size=8).digest() for image in pixels)
    return np.frombuffer(b"".join(rows), np.uint64)


def describe_copies(digests: Mapping[str, tuple[Digests, Labels]], fraction: float) -> str:
    """Returns how many images are in two splits; empty if none is.

    Args:
        digests: From `hdf5.read_digests`.
        fraction: The fraction of the training split that is used for validation.
    """
    train, labels = digests["train"]
    cut = count_to_train(len(train), fraction)
    validation = train[cut:], labels[cut:]
    counts = [
        _count(validation, [(train[:cut], labels[:cut])], "validation images", "the training part")
    ]
    if "test" in digests:
        counts.append(_count(digests["test"], [digests["train"]], "test images", "X_train"))
    if "val" in digests:
        others = [digests[split] for split in ("train", "test") if split in digests]
        names = "X_train or X_test" if "test" in digests else "X_train"
        counts.append(_count(digests["val"], others, "images of X_val, which is not used,", names))
    return ", ".join(filter(None, counts))


def _count(
    split: tuple[Digests, Labels], others: list[tuple[Digests, Labels]], name: str, others_name: str
) -> str:
    images, labels = split
    other_images, other_labels = map(np.concatenate, zip(*others, strict=True))
    copies = np.isin(images, other_images)
    # The same image with the same label: the sum of both is a digest too.
    agreeing = np.isin(images + labels, other_images + other_labels)
    if not copies.any():
        return ""
    contradicting = np.sum(copies & ~agreeing)
    text = f"{copies.sum():,} of {len(images):,} {name} are exact copies of images in {others_name}"
    return f"{text} ({contradicting:,} with another label)" if contradicting else text
