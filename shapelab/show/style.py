"""Colours, markers, fonts and sizes shared by every picture.

Structure colours belong to the `LabelScheme`. What is here: a look for matplotlib and plotly, one colour AND one
marker per group (no picture needs colour vision), one line style per structure, and a Figure that shows itself once.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from shapelab.data import facts
from shapelab.data.orientation import is_whole_heart
from shapelab.errors import must

if TYPE_CHECKING:
    import pandas as pd

    from shapelab.data.scheme import LabelScheme

P = ParamSpec("P")
T = TypeVar("T")

DPI = 90  # a 9 inch wide figure is 810 pixels: sharp enough on a page, 20 to 120 kB as PNG
WIDTH = 9.0  # inches, the width of a notebook's text column
INK, MUTED, GRID = "#222222", "#666666", "#DDDDDD"
ACCENT, CONTRAST = "#0072B2", "#D55E00"

RC: dict[Any, Any] = {  # matplotlib's own type of it names every key
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "figure.titlesize": 11.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "image.interpolation": "nearest",
}


@dataclass(frozen=True)
class Mark:
    """How one group (or category) is drawn: colour, matplotlib marker, plotly symbol."""

    colour: str
    marker: str
    symbol: str


# Okabe-Ito colours and a shape each, so that a grey print still tells the groups apart.
_GROUP_MARKS = (
    Mark("#009E73", "o", "circle"),
    Mark("#D55E00", "^", "triangle-up"),
    Mark("#0072B2", "s", "square"),
    Mark("#CC79A7", "D", "diamond"),
    Mark("#E69F00", "v", "triangle-down"),
)
GROUPS: dict[str, Mark] = dict(zip(facts.GROUPS, _GROUP_MARKS, strict=True))
SPARE = (
    Mark("#0072B2", "o", "circle"),
    Mark("#D55E00", "^", "triangle-up"),
    Mark("#009E73", "s", "square"),
    Mark("#CC79A7", "D", "diamond"),
    Mark("#E69F00", "v", "triangle-down"),
    Mark("#56B4E9", "P", "cross"),
    Mark("#999999", "X", "x"),
    Mark("#000000", "*", "star"),
)
#: Points without a group, or without a phase: drawn all the same, in grey, and counted in the legend.
WITHOUT = Mark("#A6A6A6", "H", "hexagon")
SHORT = {"left atrium": "LA", "right atrium": "RA", "ascending aorta": "Ao", "pulmonary artery": "PA"}
LINES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)))


def marks(values: Iterable[Any]) -> dict[Any, Mark]:
    """Value -> Mark, in the order of the five groups, then sorted; unknown values get spare marks.

    The same values always get the same marks. More values than spare marks start again from the first.
    """
    present = list(dict.fromkeys(values))
    known = [g for g in GROUPS if g in present]
    others = sorted((v for v in present if v not in GROUPS), key=str)
    taken = {GROUPS[g].colour for g in known}
    spare = [m for m in SPARE if m.colour not in taken] or SPARE
    return {**{g: GROUPS[g] for g in known}, **{v: spare[i % len(spare)] for i, v in enumerate(others)}}


def without(rows: pd.DataFrame, column: str) -> str:
    """What a legend says of rows that lack a fact: "10 without a group"."""
    return f"{len(rows)} without {'an' if column[:1].lower() in 'aeiou' else 'a'} {column}"


def by_value(table: pd.DataFrame, column: str) -> list[tuple[str, Mark, pd.DataFrame]]:
    """(legend text, mark, rows) of each value of a column, see `marks`; at last those that have none (`WITHOUT`)."""
    found = [(str(v), mark, table[table[column] == v]) for v, mark in marks(table[column].dropna()).items()]
    rest = table[table[column].isna()]
    return found + ([(without(rest, column), WITHOUT, rest)] if len(rest) else [])


def spare(position: int) -> Mark:
    """The mark of the thing at that position of a list; after eight they start again."""
    return SPARE[position % len(SPARE)]


def line_style(position: int) -> Any:
    """Line style of the structure at that position of its scheme."""
    return LINES[position % len(LINES)]


def short_name(name: str) -> str:
    """A structure's name for a crowded picture: 'LV myocardium' -> 'Myo', 'RV cavity' -> 'RV', 'RV wall' -> 'RVw'."""
    if name in SHORT:
        return SHORT[name]
    words = name.split()
    if "myocardium" in name.lower():
        return "Myo"
    endings = {"cavity": "", "wall": "w"}
    if len(words) == 2 and words[1].lower() in endings:
        return words[0] + endings[words[1].lower()]
    return name if len(name) <= 6 else words[0][:4].rstrip(".") + "."


def is_heart(scheme: LabelScheme | None) -> bool:
    """Whether a scheme is of ventricles: it has structures called LV ... (shown base up, RV to the left) and is no
    whole heart."""
    ventricles = scheme is not None and any(s.name.upper().startswith("LV") for s in scheme.structures)
    return ventricles and not in_body(scheme)


def in_body(scheme: LabelScheme | None) -> bool:
    """Whether a scheme is a whole heart: shown as it lies in the body, seen from the front, head up."""
    return scheme is not None and is_whole_heart(scheme)


def towards(scheme: LabelScheme | None) -> np.ndarray:
    """(3,) of 1 and -1: which way x, y, z of an array go in a picture in space: to the right, away, up.

    A heart's z runs to the apex and goes down. A whole heart's axes are the patient's right, anterior, superior: the
    patient's left is on the right, anterior in front, the head up.
    """
    return np.array((-1, -1, 1) if in_body(scheme) else (1, 1, -1) if is_heart(scheme) else (1, 1, 1))


class Picture(Figure):
    """A matplotlib Figure that is not pyplot's: a notebook shows it exactly once, and none is left open."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self)


def figure(width: float = WIDTH, height: float = 4.0, **kwargs: Any) -> Picture:
    """An empty Picture of that size in inches, laid out so that no label is clipped."""
    return Picture(figsize=(width, height), dpi=DPI, **{"layout": "constrained", **kwargs})


def png_bytes(fig: Figure, dpi: int = DPI) -> bytes:
    """The figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    fig.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: run the function under the project's matplotlib look, and leave the user's own look alone."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.rc_context(RC):
            return function(*args, **kwargs)

    return wrapped


def rgb(colour: str) -> np.ndarray:
    """Hex or named colour -> (3,) float in 0..1."""
    return np.asarray(matplotlib.colors.to_rgb(colour))


def plotly_layout(title: str | None = None, width: int = 720, height: int = 480, **more: Any) -> dict[str, Any]:
    """Layout for plotly figures that matches the matplotlib look."""
    return {
        "title": {"text": title or "", "font": {"size": 15}},
        "width": width,
        "height": height,
        "template": "plotly_white",
        "font": {"family": "DejaVu Sans, Arial, sans-serif", "size": 12, "color": INK},
        "margin": {"l": 60, "r": 20, "t": 50 if title else 20, "b": 50},
        **more,
    }


def check_columns(table: pd.DataFrame, needed: Sequence[str], what: str) -> None:
    """UsageError naming the missing columns of a table."""
    missing = [c for c in needed if c not in table.columns]
    must(not missing, what, f"columns {list(table.columns)[:12]}", f"also {missing}")
