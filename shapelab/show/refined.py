"""A refinement before and after, or a segmentation and its scan: long-axis cuts and short-axis slices through the same
places, on one scale.

The planes are turned with the heart: the RV is on the left, anterior up in short axis, the base up in long axis,
however the stack was stored. Nothing is smoothed for the picture; thick slices look thick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import SubFigure
from matplotlib.transforms import Affine2D

from shapelab.atlas.frame import Frame
from shapelab.atlas.pipeline import Refinement
from shapelab.data.scheme import LV, VENTRICLES, LabelScheme
from shapelab.errors import ShapelabError, must, need
from shapelab.show import slices, style
from shapelab.show.style import Picture
from shapelab.types import Triple

#: (name, label map or None for the scan alone, where its voxels lie)
Drawn: TypeAlias = tuple[str, np.ndarray | None, Frame]
#: (origin, the plane's two directions, window along each, names of the axes)
Cut: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], str, str]
# fmt: off
STEP = 0.5              # mm between the samples of a plane
MARGIN = 8.0            # mm round the labels
SEEN = 30.0             # and round a segmentation, which may have missed the heart or a part of it
DEPTHS = (0.2, 0.5, 0.8)        # short-axis slices shown: shares of the LV's length below the base
NEAR_ENDS = (0.1, 0.5, 0.9)     # and of a segmentation, which fails at the ends first
# fmt: on


@dataclass(frozen=True)
class Axes3:
    """The heart's own axes in mm of an array: centre of the LV (3,), and unit vectors from RV to LV, from anterior to
    inferior, from base to apex."""

    centre: np.ndarray
    across: np.ndarray
    down: np.ndarray
    along: np.ndarray


def heart_axes(label: np.ndarray, frame: Frame, scheme: LabelScheme, mirrored: bool = False) -> Axes3:
    """How a heart lies in its array; the third axis is through plane.

    The base is the end where the LV is wider; anterior lies a quarter turn from the second axis to the first beside the
    RV, as in ACDC, or the other way round in a mirrored array.

    Raises UsageError for a scheme without LV and RV cavity, DataError where one of the two is not there.
    """
    missing = [n for n in VENTRICLES if n not in scheme.names]
    must(not missing, "heart_axes", f"scheme {scheme.name!r} without {missing}", "a heart's")
    left = np.isin(label, [scheme.structure(n).value for n in LV])
    right = label == scheme.structure("RV cavity").value
    need(left.any() and right.any(), "heart_axes", "a label map without LV or without RV", "both ventricles")
    (lv, rv), area = (np.argwhere(m).mean(0) * frame.spacing + frame.origin for m in (left, right)), left.sum((0, 1))
    used = np.flatnonzero(area)
    upper, lower = area[used[: len(used) // 2 + 1]].mean(), area[used[len(used) // 2 :]].mean()
    across = np.array([*(lv - rv)[:2], 0.0])
    across = across / np.linalg.norm(across) if np.linalg.norm(across) > 1e-6 else np.array([1.0, 0.0, 0.0])
    down = np.array([-across[1], across[0], 0.0]) * (-1 if mirrored else 1)
    return Axes3(lv, across, down, np.array([0.0, 0.0, 1.0 if upper >= lower else -1.0]))


def turned_over(result: Refinement) -> bool:
    """Whether the target's array is the mirror image, in plane, of the best atlas' (a phantom's is as ACDC's)."""
    return bool(np.linalg.det(result.affines[result.chosen[0]][:2, :2]) < 0)


def plane(
    array: np.ndarray, frame: Frame, origin: Triple, u: np.ndarray, v: np.ndarray, window: Sequence[Any] | np.ndarray
) -> np.ndarray:
    """Nearest voxels of an array (D0, D1, D2) on a plane, (n, m): at ``origin + s u + t v``, s and t at the middles of
    steps of `STEP` mm over `window` ((s low, high), (t low, high)); 0 outside."""
    s, t = (low + (np.arange(round((high - low) / STEP)) + 0.5) * STEP for low, high in window)
    mm = np.asarray(origin) + s[:, None, None] * u + t[None, :, None] * v
    index = np.floor((mm - frame.origin) / frame.spacing + 0.5).astype(int)
    inside = ((index >= 0) & (index < frame.shape)).all(-1)
    index = np.clip(index, 0, np.array(frame.shape) - 1)
    return np.where(inside, array[tuple(np.moveaxis(index, -1, 0))], array.dtype.type(0))


@style.styled
def before_after(result: Refinement, image: np.ndarray | None = None, title: str | None = None) -> Picture:
    """What was given and what became of it, side by side.

    Left two columns: the cut from RV to LV along the long axis, and the one across it; right two columns: three
    short-axis slices, at middles of the slices given. Millimetres count from the LV's centre; before and after lie
    side by side on one scale.

    Args:
        result: of `shapelab.atlas.refine`, of a heart
        image: (X, Y, Z) the scan on the target's voxels, shown behind the contours; None: the label maps are filled

    Raises UsageError where the image is of another shape, and as `heart_axes`.
    """
    must(
        image is None or image.shape == result.target_frame.shape,
        "before_after",
        f"an image of shape {getattr(image, 'shape', None)}",
        f"{result.target_frame.shape}",
    )
    heart = heart_axes(result.label, result.frame, result.scheme, turned_over(result))
    pair = (("as given", result.target, result.target_frame), ("refined", result.label, result.frame))
    w, d, h = _windows(pair, heart)
    scan = None if image is None else Scan(image, result.target_frame, np.any(result.target, (0, 1)))
    fig = style.figure(11.0, 7.4)
    left, right = fig.subfigures(1, 2, squeeze=False, width_ratios=(1.22 * np.ptp(w), np.ptp(w)))[0]
    views = [
        (heart.centre, heart.across, heart.along, (w, h), "RV → LV (mm)", "base → apex (mm)"),
        (heart.centre, heart.down, heart.along, (d, h), "anterior → inferior (mm)", "base → apex (mm)"),
    ]
    volumes = _fill(left, views, pair, result.scheme, scan, ["long axis, RV to LV", "long axis, across"])
    left_ventricle = np.isin(result.target, [result.scheme.structure(n).value for n in LV])
    depths = _depths(left_ventricle, result.target_frame, heart, DEPTHS)
    names = [f"short axis, {round(t):+d} mm" for t in depths]
    volumes += _fill(right, _short_axis(heart, depths, w, d), pair, result.scheme, scan, names)
    return slices.finished(fig, title or "Refinement, before and after", volumes)


@style.styled
def segmented(
    parts: Sequence[tuple[str, np.ndarray, np.ndarray]], spacing: Sequence[Triple], scheme: LabelScheme, title: str
) -> Picture:
    """What a network made of scans: three short-axis slices of each, base to apex, without and with the outlines.

    Args:
        parts: (name, image, label map), both (X, Y, Z) with slices along Z; the label map has a voxel at least
        spacing: (3,) mm of each
        scheme: of the label maps; they may lack structures (then nothing is turned)
    """
    fig = style.figure(5.6 * len(parts), 8.0)
    volumes: list[slices.Volume] = []
    for sub, (name, image, label), size in zip(fig.subfigures(1, len(parts), squeeze=False)[0], parts, spacing):
        where = Frame(label.shape, size)
        heart = _axes_or_array(label, where, scheme)
        columns: list[Drawn] = [("scan", None, where), ("segmented", label, where)]
        w, d, _ = _windows(columns, heart, SEEN)
        depths = _depths(label > 0, where, heart, NEAR_ENDS)
        names = [f"{name} {place}" for place in ("basal", "middle", "apical")]
        scan = Scan(image, where, np.any(label, (0, 1)))
        volumes += _fill(sub, _short_axis(heart, depths, w, d), columns, scheme, scan, names)
    return slices.finished(fig, title, volumes)


def _axes_or_array(label: np.ndarray, where: Frame, scheme: LabelScheme) -> Axes3:
    """The heart's axes, or the array's where one of the ventricles is missing."""
    try:
        return heart_axes(label, where, scheme)
    except ShapelabError:
        return Axes3(np.argwhere(label > 0).mean(0) * where.spacing + where.origin, *np.eye(3))


@dataclass(frozen=True)
class Scan:
    """What is shown behind the outlines: image (X, Y, Z), where its voxels lie, and the slices (Z,) that set the
    window of grey."""

    image: np.ndarray
    frame: Frame
    labelled: np.ndarray

    @property
    def grey(self) -> np.ndarray:
        """One window of grey for all panels."""
        return np.percentile(self.image[:, :, self.labelled], (1, 99.5))


def _short_axis(heart: Axes3, depths: Sequence[float], across: np.ndarray, down: np.ndarray) -> list[Cut]:
    """Short-axis planes so many mm along the heart from its centre, in windows (low, high) across and down."""
    names = "RV → LV (mm)", "anterior → inferior (mm)"
    return [(heart.centre + t * heart.along, heart.across, heart.down, (across, down), *names) for t in depths]


def _windows(pair: Sequence[Drawn], heart: Axes3, margin: float = MARGIN) -> list[np.ndarray]:
    """(low, high) mm from the centre along the three axes, round the labels of both maps."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for label, frame in ((label, frame) for _, label, frame in pair if label is not None):
        mm = np.argwhere(label > 0) * frame.spacing + frame.origin - heart.centre
        half = np.array([0, 0, frame.spacing[2] / 2])  # a slice is as thick as it is
        places = mm @ np.stack([heart.across, heart.down, heart.along]).T
        low, high = np.minimum(low, places.min(0) - half), np.maximum(high, places.max(0) + half)
    return [np.array([np.floor(a - margin), np.ceil(b + margin)]) for a, b in zip(low, high)]


def _depths(mask: np.ndarray, where: Frame, heart: Axes3, shares: Sequence[float]) -> list[float]:
    """mm along the long axis of the slices nearest to shares of a mask's length from its basal end."""
    t = np.sort((where.positions()[2][mask.any((0, 1))] - heart.centre[2]) * heart.along[2])
    return [float(t[round(share * (len(t) - 1))]) for share in shares]


def _fill(
    fig: SubFigure,
    views: Sequence[Cut],
    pair: Sequence[Drawn],
    scheme: LabelScheme,
    scan: Scan | None,
    names: Sequence[str],
) -> list[slices.Volume]:
    """Draw a column for each map, a row for each view; what was drawn."""
    axes = fig.subplots(len(views), 2, squeeze=False)
    drawn = []
    for row, (origin, u, v, window, x_name, y_name) in enumerate(views):
        for column, (name, label, frame) in enumerate(pair):
            cut = None if label is None else plane(label, frame, origin, u, v, window)[:, None]
            behind = None if scan is None else plane(scan.image, scan.frame, origin, u, v, window)[:, None]
            volume = slices.Volume(behind, cut, np.array([STEP, 1.0, STEP]), scheme)
            ax = axes[row, column]
            slices.draw(ax, volume, 1, 0)
            move = Affine2D().translate(window[0][0], window[1][0])  # to millimetres of the window
            for artist in (*ax.images, *ax.collections):
                artist.set_transform(move + ax.transData)
            if scan is not None:
                ax.images[0].set_clim(*scan.grey)
            slices.frame(
                ax,
                np.array(window),
                (x_name, y_name),
                left=column == 0,
                bottom=row == len(views) - 1 or names[row + 1].split(",")[0] == "long axis",
            )
            ax.set_title(f"{names[row]}: {name}", fontsize=8.5)
            drawn.append(volume)
    return drawn
