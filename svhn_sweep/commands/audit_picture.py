"""Draws pairs of images that show the same picture."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svhn_sweep.data.audit import Copy, Location, Part
from svhn_sweep.data.splits import Images

MAX_PAIRS = 60
COLUMNS = 4
DPI = 96
PAIR_WIDTH = 2.45  # times an image's side, the unit of the axes
ROW_HEIGHT = 1.6  # likewise
TITLE_HEIGHT = 0.4  # inches


def draw_copies(parts: Sequence[Part], copies: Sequence[Copy]) -> Figure:
    """Draws pairs beside each other, with datasets, indices and labels, at most 60.

    Pairs whose labels differ come first, then those between two parts, then near copies.

    Args:
        parts: The images.
        copies: The pairs; at least one.
    """
    images = {part.name: part for part in parts}
    drawn = sorted(copies, key=_rank)[:MAX_PAIRS]
    rows = -(-len(drawn) // COLUMNS)
    height = rows * ROW_HEIGHT + TITLE_HEIGHT
    figure = Figure(figsize=(PAIR_WIDTH * COLUMNS, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1 - TITLE_HEIGHT / height))
    for number, copy in enumerate(drawn):
        left = number % COLUMNS * PAIR_WIDTH + 0.1
        bottom = (rows - 1 - number // COLUMNS) * ROW_HEIGHT + 0.08
        _draw_image(axes, _pixels(images, copy.first), left, bottom)
        _draw_image(axes, _pixels(images, copy.second), left + 1.1, bottom)
        note = "\n".join([_name(copy.first), _name(copy.second), _describe(copy)])
        colour = "tab:red" if copy.contradicting else "black"
        axes.text(left, bottom + 1.04, note, fontsize=7, va="bottom", color=colour)
    axes.set(xlim=(0, PAIR_WIDTH * COLUMNS), ylim=(0, rows * ROW_HEIGHT))
    axes.set_axis_off()
    count = f"{len(drawn):,} of {len(copies):,}" if len(drawn) < len(copies) else f"{len(copies):,}"
    figure.suptitle(f"{count} pairs; red: the labels differ", fontsize=11, y=0.99, va="top")
    return figure


def _rank(copy: Copy) -> tuple[bool, bool, bool]:
    return not copy.contradicting, copy.first.part == copy.second.part, copy.exact


def _pixels(parts: dict[str, Part], location: Location) -> Images:
    part = parts[location.part]
    return part.images[location.index - part.start, ..., 0]


def _draw_image(axes: Axes, pixels: Images, left: float, bottom: float) -> None:
    extent = (left, left + 1, bottom, bottom + 1)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)


def _name(location: Location) -> str:
    return f"{location.part} {location.dataset}[{location.index}]: label {location.label}"


def _describe(copy: Copy) -> str:
    if copy.exact:
        return "equal"
    shift = f", shifted {copy.down} down, {copy.right} right" if copy.down or copy.right else ""
    return f"correlation {copy.similarity:.3f}{shift}"
