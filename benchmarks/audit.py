"""What does the audit find, what does it report wrongly, and how long does it take?

python benchmarks/audit.py FILE.h5     plants copies among the digits; writes audit.json

The seconds are those for 60,000 images: the digits, mirrored, turned upside down.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from svhn_sweep.data import Images, copies, hdf5
from svhn_sweep.data.audit import Copy, find_copies, make_parts
from svhn_sweep.data.near_copies import find_near_copies
from svhn_sweep.machine import cores

RESULTS = Path(__file__).with_name("audit.json")
PLANTED = 2_000  # of each kind
TIMED = 60_000
RANDOM = np.random.default_rng(0)
AROUND = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]


def shifted(images: Images, pixels: int, mode: str) -> Images:
    """Each eighth in another direction."""
    result = np.empty_like(images)
    for number, (down, right) in enumerate(AROUND):
        chosen = images[number::8]
        if mode == "wrap":
            result[number::8] = np.roll(chosen, (pixels * down, pixels * right), axis=(1, 2))
            continue
        padded = np.pad(chosen, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        top, left = 2 - pixels * down, 2 - pixels * right
        result[number::8] = padded[:, top : top + 32, left : left + 32]
    return result


def rounded(images: NDArray[Any]) -> Images:
    return np.asarray(np.clip(np.rint(images), 0, 255), dtype=np.float32)


def flatter(images: Images) -> Images:
    means = images.mean(axis=(1, 2, 3), keepdims=True)
    return rounded((images - means) * 0.6 + means)


KINDS: dict[str, Callable[[Images], Images]] = {
    "equal": lambda images: images,
    "shifted by 1 pixel, edge repeated": lambda images: shifted(images, 1, "edge"),
    "shifted by 1 pixel, wrapped": lambda images: shifted(images, 1, "wrap"),
    "shifted by 2 pixels, edge repeated": lambda images: shifted(images, 2, "edge"),
    "20 % brighter, clipped at 255": lambda images: rounded(images * 1.2),
    "20 % darker": lambda images: rounded(images * 0.8),
    "60 % of the contrast": flatter,
    "20 % brighter and shifted by 1 pixel": lambda images: shifted(
        rounded(images * 1.2), 1, "edge"
    ),
    # beyond what it is made for
    "gamma 0.7": lambda images: rounded(255 * (images / 255) ** 0.7),
    "noise of 3 grey levels": lambda images: rounded(images + RANDOM.normal(0, 3, images.shape)),
    "shifted by half a pixel": lambda images: rounded((images + np.roll(images, 1, axis=2)) / 2),
}


def measure_planted(images: Images) -> dict[str, object]:
    """The share that is found of each kind, and the pairs of pictures that are not the same."""
    n_planted = min(PLANTED, len(images))
    chosen = [RANDOM.choice(len(images), n_planted, replace=False) for _ in KINDS]
    planted = [
        change(images[indices]) for change, indices in zip(KINDS.values(), chosen, strict=True)
    ]
    near = find_near_copies(np.concatenate([images, *planted]))
    original = np.concatenate([np.arange(len(images)), *chosen])
    same = original[near.first] == original[near.second]
    found = near.second[same & (near.first < len(images))] - len(images)
    known = find_near_copies(images)
    pairs = set(zip(known.first.tolist(), known.second.tolist(), strict=True))
    ends = np.sort(np.stack([original[near.first], original[near.second]], axis=1)[~same])
    others = {(first, second) for first, second in ends.tolist()} - pairs
    count = len(original)
    return {
        "found": {
            kind: round(float(np.mean(np.isin(np.arange(n_planted) + start, found))), 4)
            for kind, start in zip(KINDS, range(0, count, n_planted), strict=False)
        },
        "images": count,
        "pairs compared": count * (count - 1) // 2,
        "pairs of other pictures": len(others),
    }


def measure_file(path: Path) -> dict[str, object]:
    """What is reported of the file itself, to be looked at."""
    parts = make_parts(hdf5.read_all(path), 0.2)
    found = find_copies(parts)
    count = sum(len(part.images) for part in parts)
    return {
        "images": count,
        "pairs compared": count * (count - 1) // 2,
        "pairs": [_describe(copy) for copy in found],
    }


def _describe(copy: Copy) -> str:
    ends = [f"{end.dataset}[{end.index}]={end.label}" for end in (copy.first, copy.second)]
    return " ".join([*ends, "equal" if copy.exact else f"{copy.similarity:.4f}"])


def measure_seconds(images: Images) -> dict[str, float]:
    turned = [images, images[:, :, ::-1], images[:, ::-1]]
    many = np.ascontiguousarray(np.concatenate(turned)[:TIMED])
    labels = np.zeros(len(many), np.uint8)
    cut = len(many) * 7 // 10
    with TemporaryDirectory() as folder:
        path = Path(folder) / "many.h5"
        arrays = {"X_train": many[:cut], "y_train": labels[:cut]}
        hdf5.write(path, {**arrays, "X_test": many[cut:], "y_test": labels[cut:]})
        begun, cpu = time.perf_counter(), time.process_time()
        copies.describe_copies(hdf5.read_digests(path), 0.2)
        seconds = {
            "images": len(many),
            "before a run": time.perf_counter() - begun,
            "before a run, CPU": time.process_time() - cpu,
        }
        parts = make_parts(hdf5.read_all(path), 0.2)
    begun, cpu = time.perf_counter(), time.process_time()
    find_copies(parts)
    seconds["audit"] = time.perf_counter() - begun
    seconds["audit, CPU"] = time.process_time() - cpu
    return {name: round(value, 2) for name, value in seconds.items()}


def main() -> None:
    path = Path(sys.argv[1])
    images = np.concatenate([images for images, _ in hdf5.read_all(path).values()])
    results = {
        "cores": cores(),
        "seconds": measure_seconds(images),
        "file": measure_file(path),
        "planted": measure_planted(images),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
