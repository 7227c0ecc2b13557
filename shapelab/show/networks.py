"""A network as a row of boxes: what each layer gives out, as high as its grid and as wide as it has channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.patches import Rectangle

from shapelab.errors import must
from shapelab.show import style
from shapelab.show.style import Picture

#: (name, channels, shape (X, Y, Z) in voxels) of what a layer gives out
Layer: TypeAlias = tuple[str, int, Sequence[int]]
# fmt: off
PITCH = 0.8             # inches from one place to the next
WIDEST, HIGHEST = 0.5, 1.8      # of the box with the most channels, and of that of the finest grid (of all in a place)
WORDS = 0.62            # for what is written over a box and under it
# fmt: on
ARROW = {"arrowstyle": "->", "color": style.MUTED, "lw": 0.8, "shrinkA": 0, "shrinkB": 0}


@style.styled
def network_picture(layers: Sequence[Layer | list[Layer]], *, title: str | None = None) -> Picture:
    """Boxes from input to output: height by the last axis of the grid, width by the channels.

    Args:
        layers: in the order of the data; a list of them where several stand in one place (label map and image, each
            with a first convolution of its own), drawn one above the other. Twelve places fill a notebook's width:
            layers alike are better one box ("3 conv")
        title: of the picture

    The layer of fewest numbers, the code, has a colour of its own and says how many they are. UsageError for no layer,
    and for channels or a shape that are no counts.
    """
    places = [entry if isinstance(entry, list) else [entry] for entry in layers]
    must(
        places and all(places), "network_picture", f"{len(places)} places", "at least one layer in each of one or more"
    )
    boxes = [layer for place in places for layer in place]
    for name, channels, shape in boxes:
        counts = np.array([channels, *shape])
        fits = counts.shape == (4,) and np.issubdtype(counts.dtype, np.integer) and counts.min() > 0
        must(fits, f"network_picture: {name}", f"{channels} channels of {tuple(shape)}", "counts: channels, (X, Y, Z)")
    code = int(np.argmin([max(channels * int(np.prod(shape)) for _, channels, shape in place) for place in places]))
    most, finest = max(channels for _, channels, _ in boxes), max(shape[2] for _, _, shape in boxes)
    rows = max(len(place) for place in places)
    tallest = HIGHEST / rows
    high = rows * (tallest + WORDS)
    fig = style.figure(PITCH * len(places) + 0.2, high + 0.4, layout="none")
    ax = fig.add_axes((0, 0, 1, high / (high + 0.4)))
    ax.set(xlim=(-0.1, PITCH * len(places) + 0.1), ylim=(-high / 2, high / 2))
    ax.set_axis_off()
    before: list[tuple[float, float]] = []  # right edges of the boxes of the place before
    for position, place in enumerate(places):
        colour = style.CONTRAST if position == code else style.ACCENT if position < code else style.SPARE[2].colour
        middles = [(tallest + WORDS) * ((len(place) - 1) / 2 - row) for row in range(len(place))]
        edges = []
        for (name, channels, shape), y in zip(place, middles, strict=True):
            x, width, height = PITCH * (position + 0.5), WIDEST * channels / most, tallest * shape[2] / finest
            width, height = max(0.04, width), max(0.06, height)
            look: dict[str, Any] = {"facecolor": colour, "alpha": 0.6, "edgecolor": style.INK, "lw": 0.8}
            ax.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, **look))
            size = f"{channels * int(np.prod(shape))} numbers" if position == code else "×".join(map(str, shape))
            ax.text(x, y + height / 2 + 0.04, f"{name}\n{channels} ch", ha="center", va="bottom", fontsize=7)
            ax.text(x, y - height / 2 - 0.04, size, ha="center", va="top", fontsize=7)
            side_by_side = len(before) == len(place)
            for start in (e for e in before if not side_by_side or e[1] == y):
                ax.annotate("", (x - width / 2 - 0.02, y), start, arrowprops=ARROW)
            edges.append((x + width / 2 + 0.02, y))
        before = edges
    fig.suptitle(title or "")
    return fig
