"""A refinement before and after: long-axis cuts and short-axis slices through the same places, on one scale.

The planes are turned with the heart: the RV is on the left, anterior up in short axis, the base up in long axis,
however the stack was stored. Nothing is smoothed for the picture; thick slices look thick.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.transforms import Affine2D

from shapelab.atlas.frame import Frame
from shapelab.atlas.pipeline import Refinement
from shapelab.data.scheme import LV, VENTRICLES, LabelScheme
from shapelab.errors import must, need
from shapelab.show import slices, style
from shapelab.show.style import Picture

# fmt: off
STEP = 0.5              # mm between the samples of a plane
MARGIN = 8.0            # mm round the labels
DEPTHS = (0.2, 0.5, 0.8)        # short-axis slices shown: shares of the LV's length below the base
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


def plane(array: np.ndarray, frame: Frame, origin, u, v, window: np.ndarray) -> np.ndarray:
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
        f"an image of shape {np.shape(image)}",
        f"{result.target_frame.shape}",
    )
    heart = heart_axes(result.label, result.frame, result.scheme, turned_over(result))
    pair = (("as given", result.target, result.target_frame), ("refined", result.label, result.frame))
    w, d, h = _windows(pair, heart)
    fig = style.figure(11.0, 7.4)
    left, right = fig.subfigures(1, 2, width_ratios=(1.22 * np.ptp(w), np.ptp(w)))
    views = [
        (heart.centre, heart.across, heart.along, (w, h), "RV → LV (mm)", "base → apex (mm)"),
        (heart.centre, heart.down, heart.along, (d, h), "anterior → inferior (mm)", "base → apex (mm)"),
    ]
    volumes = _fill(left, views, pair, result, image, ["long axis, RV to LV", "long axis, across"])
    depths = [_slice_middle(result, heart, h, share) for share in DEPTHS]
    views = [
        (heart.centre + t * heart.along, heart.across, heart.down, (w, d), "RV → LV (mm)", "anterior → inferior (mm)")
        for t in depths
    ]
    volumes += _fill(right, views, pair, result, image, [f"short axis, {round(t):+d} mm" for t in depths])
    return slices.finished(fig, title or "Refinement, before and after", volumes)


def _windows(pair, heart: Axes3) -> list[np.ndarray]:
    """(low, high) mm from the centre along the three axes, round the labels of both maps."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for _, label, frame in pair:
        mm = np.argwhere(label > 0) * frame.spacing + frame.origin - heart.centre
        half = np.array([0, 0, frame.spacing[2] / 2])  # a slice is as thick as it is
        places = mm @ np.stack([heart.across, heart.down, heart.along]).T
        low, high = np.minimum(low, places.min(0) - half), np.maximum(high, places.max(0) + half)
    return [np.array([np.floor(a - MARGIN), np.ceil(b + MARGIN)]) for a, b in zip(low, high)]


def _slice_middle(result: Refinement, heart: Axes3, window: np.ndarray, share: float) -> float:
    """mm along the long axis of the given slice nearest to a share of the LV's length, from its basal end."""
    values = [result.scheme.structure(n).value for n in LV]
    z = result.target_frame.positions()[2][np.isin(result.target, values).any((0, 1))]
    t = np.sort((z - heart.centre[2]) * heart.along[2])
    return float(t[round(share * (len(t) - 1))])


def _fill(fig, views, pair, result: Refinement, image, names) -> list:
    """Draw a column for each map, a row for each view; what was drawn."""
    axes = fig.subplots(len(views), 2, squeeze=False)
    grey = None if image is None else np.percentile(image[:, :, result.target.any((0, 1))], (1, 99.5))
    drawn = []
    for row, (origin, u, v, window, x_name, y_name) in enumerate(views):
        for column, (name, label, frame) in enumerate(pair):
            cut = plane(label, frame, origin, u, v, window)
            behind = None if image is None else plane(image, result.target_frame, origin, u, v, window)
            volume = slices.Volume(
                None if behind is None else behind[:, None], cut[:, None], np.array([STEP, 1.0, STEP]), result.scheme
            )
            ax = axes[row, column]
            slices.draw(ax, volume, 1, 0)
            move = Affine2D().translate(window[0][0], window[1][0])  # to millimetres of the window
            for artist in (*ax.images, *ax.collections):
                artist.set_transform(move + ax.transData)
            if image is not None:  # one window of grey for all panels
                ax.images[0].set_clim(*grey)
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
