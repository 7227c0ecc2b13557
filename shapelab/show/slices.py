"""Short-axis slices and long-axis cuts, with contours or filled label maps, in millimetres.

Orientation: a slice is shown as ``a[:, :, k].T`` with the origin at the top, so that the RV is on the left and
anterior is up; slices run from base to apex, and a long-axis cut has the base at the top. A `Subject` is drawn in
canonical order, a heart's base first (`shapelab.data.orientation`), so that one heart gives one picture however its
file stores it; arrays are drawn as they are.

A whole heart, whose axes are the patient's right, anterior and superior, is drawn as radiologists see it: head and
anterior up, the patient's left on the right, and in sagittal planes anterior on the left; letters at the edges say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import ndimage

from shapelab.data.geometry import bounding_box
from shapelab.data.orientation import canonical
from shapelab.data.scheme import LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import must, one_of, spacing3, whole
from shapelab.show import style
from shapelab.show.style import Picture
from shapelab.types import Array, Triple

#: What is drawn: a subject, a label map, an image, or a pair (image, label).
Item: TypeAlias = "Subject | Array | tuple[Array | None, Array | None]"
MARGIN, NARROW = 15.0, 8.0  # mm round the labelled structures; and where many hearts stand side by side
#: Where a picture's axes go, in short axis and in a whole heart; and of the planes across x, y, z of one: name, letters
#: at the left, right, bottom and top edge (Right, Left, Anterior, Posterior, Head, Feet).
HEART_WORDS = {"x": ", RV → LV", "y": ", anterior → inferior", "up y": ", anterior up", "up z": ", base up"}
BODY_WORDS = {"x": ", right → left", "y": ", anterior → posterior", "up y": ", anterior up", "up z": ", head up"}
BODY_PLANES = (("sagittal", "APFH"), ("coronal", "RLFH"), ("axial", "RLPA"))
EDGES = (  # where these letters stand, in shares of the panel, and how they are aligned
    (0.02, 0.98, 0.5, 0.5),
    (0.5, 0.5, 0.02, 0.98),
    ("left", "right", "center", "center"),
    ("center", "center", "bottom", "top"),
)
PATCH = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
HALO = [patheffects.withStroke(linewidth=2.2, foreground="white")]


@dataclass(frozen=True)
class Volume:
    """What is drawn: image and/or label (X, Y, Z), spacing (3,) mm, scheme (needed with a label)."""

    image: np.ndarray | None
    label: np.ndarray | None
    spacing: np.ndarray
    scheme: LabelScheme | None

    @property
    def shape(self) -> tuple[int, int, int]:
        array = self.image if self.label is None else self.label
        assert array is not None
        return array.shape

    @property
    def heart(self) -> bool:
        return style.is_heart(self.scheme)

    @property
    def body(self) -> bool:
        return style.in_body(self.scheme)

    def axis_titles(self, across: int) -> tuple[str, str]:
        """Of the plane across an axis: the titles of its two axes."""
        words = HEART_WORDS if self.heart else BODY_WORDS if self.body else {}
        x, y = (n for n in "xyz" if n != "xyz"[across])
        return f"{x} (mm){words.get(x, '')}", f"{y} (mm){words.get(f'up {y}', '')}"

    def masks(self) -> list[tuple[int, str, str, np.ndarray]]:
        """(position, name, colour, mask) of every structure of the scheme that the label has."""
        if self.label is None or self.scheme is None:
            return []
        masks = [(i, s.name, s.colour, self.label == s.value) for i, s in enumerate(self.scheme.structures)]
        return [one for one in masks if one[3].any()]


def _volume(item: Item, spacing: Triple | None = None, scheme: LabelScheme | None = None) -> Volume:
    """A Subject, a label map, an image, or a pair (image, label) -> what is drawn; UsageError names what is wrong."""
    if isinstance(item, Subject):
        item, turn = canonical(item, from_base=True)
        image, label = item.image, item.label
        spacing, scheme = (item.spacing if spacing is None else turn.per_axis(spacing)), scheme or item.scheme
    elif isinstance(item, tuple):
        image, label = (None if a is None else np.asarray(a) for a in item)
    else:
        array = np.asarray(item)
        is_label = array.dtype == bool or np.issubdtype(array.dtype, np.integer)
        image, label = (None, array) if is_label else (array, None)
    shapes = [a.shape for a in (image, label) if a is not None]
    for wrong, found, expected in (
        (not shapes, "neither image nor label", "at least one"),
        (any(len(s) != 3 for s in shapes), f"an array of shape {shapes}", "three axes (X, Y, Z)"),
        (len(set(shapes)) > 1, f"image and label of shapes {shapes}", "one shape"),
        (spacing is None, "no spacing", "three voxel sizes in mm"),
        (label is not None and scheme is None, "a label map without a scheme", "a LabelScheme"),
    ):
        must(not wrong, "slices", found, expected)
    return Volume(image, label, np.array(spacing3("spacing", spacing)), scheme)


def _window(volume: Volume, axis: int, margin: float) -> np.ndarray:
    """((low, high), (low, high)) in mm of planes across an axis: the labelled region and its margin, else all."""
    extent = np.stack([np.zeros(3), volume.shape * volume.spacing], 1)
    box = None if volume.label is None else bounding_box(volume.label)
    if box is not None:
        ends = np.array([[b.start, b.stop] for b in box]) * volume.spacing[:, None] + (-margin, margin)
        extent = np.clip(ends, extent[:, :1], extent[:, 1:])
    return np.delete(extent, axis, 0)


def _union(windows: Sequence[np.ndarray]) -> np.ndarray:
    """The least window that holds all of them."""
    return np.stack([np.min(windows, 0)[:, 0], np.max(windows, 0)[:, 1]], 1)


def pick_slices(label: np.ndarray | None, n_slices: int, n: int) -> list[int]:
    """`n` slices spread evenly from base to apex over those with a label (over all where there is none)."""
    labels = np.ones((1, 1, n_slices)) if label is None or not label.any() else label
    present = np.flatnonzero(labels.any(axis=(0, 1)))
    return present[np.unique(np.linspace(0, len(present) - 1, min(n, len(present))).round().astype(int))].tolist()


def draw(ax: Axes, volume: Volume, axis: int, position: int, contours: bool = True, names: bool = False) -> None:
    """The plane across an axis at a voxel: grey image with contours, or the label map filled; mm of the array."""
    spacing, image = np.delete(volume.spacing, axis), volume.image
    size = np.delete(volume.shape, axis) * spacing
    extent = (0.0, size[0], size[1], 0.0)
    if image is not None:
        low, high = np.percentile(image, (1, 99.5))
        grey = {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-6)}
        ax.imshow(image.take(position, axis).T, extent=extent, origin="upper", **grey)
    for number, name, colour, mask in volume.masks():
        plane = mask.take(position, axis)
        if not plane.any():
            continue
        if image is None:
            layer = np.zeros((*plane.T.shape, 4))
            layer[plane.T] = (*style.rgb(colour), 0.85)
            ax.imshow(layer, extent=extent, origin="upper")
        if contours:
            _contour(ax, plane, spacing, number, colour, on_image=image is not None)
        if names:
            _write_name(ax, plane, spacing, style.short_name(name))


def _contour(ax: Axes, plane: np.ndarray, spacing: np.ndarray, position: int, colour: str, on_image: bool) -> None:
    """The outline of a mask, through the middle between voxel centres; a line style per structure."""
    padded = np.pad(plane.astype(float), 1)
    x, y = ((np.arange(n) - 0.5) * s for n, s in zip(padded.shape, spacing, strict=True))
    if on_image:  # a light edge keeps a dark blue line readable on dark blood-free tissue
        ax.contour(x, y, padded.T, [0.5], colors="white", linewidths=2.0, alpha=0.55)
        ax.contour(x, y, padded.T, [0.5], colors=colour, linewidths=1.3, linestyles=[style.line_style(position)])
    else:
        ax.contour(x, y, padded.T, [0.5], colors=style.INK, linewidths=0.7, linestyles=[style.line_style(position)])


def _write_name(ax: Axes, plane: np.ndarray, spacing: np.ndarray, text: str) -> None:
    """The structure's short name where the mask is widest (the middle of a ring is not inside it)."""
    depth = ndimage.distance_transform_edt(np.pad(plane, 1), sampling=spacing)[1:-1, 1:-1]
    x, y = np.unravel_index(np.argmax(depth), depth.shape)
    ax.text(
        (x + 0.5) * spacing[0],
        (y + 0.5) * spacing[1],
        text,
        ha="center",
        va="center",
        fontsize=7.5,
        color=style.INK,
        path_effects=HALO,
        clip_on=True,
    )


def frame(
    ax: Axes, window: np.ndarray, labels: tuple[str, str], left: bool, bottom: bool, body: int | None = None
) -> None:
    """Limits in mm (second axis downwards), equal scale; axis titles on the outer panels only.

    `body`: of a whole heart, the axis that the plane lies across: both its axes are turned round, its edges lettered.
    """
    x, y = labels[0] if bottom else "", labels[1] if left else ""
    ax.set(xlim=window[0], ylim=window[1][::-1], aspect="equal", xlabel=x, ylabel=y)
    ax.locator_params(nbins=4)
    ax.tick_params(length=2, labelleft=left, labelbottom=bottom)
    ax.spines[:].set(visible=True, color=style.GRID)
    if body is not None:
        ax.set(xlim=window[0][::-1], ylim=window[1])
        for letter, right, up, ha, va in zip(BODY_PLANES[body][1], *EDGES, strict=True):
            ax.text(right, up, letter, transform=ax.transAxes, ha=ha, va=va, fontsize=7.5, bbox=PATCH)


def finished(fig: Picture, title: str, volumes: Sequence[Volume]) -> Picture:
    """The figure with its title, and in its legend an entry per structure that is there: colour, and line style where
    contours are drawn."""
    entries: dict[str, Line2D | Patch] = {}
    for volume in volumes:
        for position, name, colour, _ in volume.masks():
            if volume.image is not None:
                entries[name] = Line2D([], [], color=colour, lw=1.6, linestyle=style.line_style(position), label=name)
            else:
                entries.setdefault(name, Patch(facecolor=colour, alpha=0.85, edgecolor=style.INK, label=name))
    columns = len(entries) if fig.get_figwidth() > 1.7 * len(entries) else max(2, (len(entries) + 1) // 2)
    fig.suptitle(title)
    if entries:
        fig.legend(handles=list(entries.values()), loc="outside lower center", ncols=columns, handlelength=2.6)
    return fig


@style.styled
def slices(
    item: Item,
    spacing: Triple | None = None,
    scheme: LabelScheme | None = None,
    *,
    n: int = 6,
    indices: Sequence[int] | None = None,
    contours: bool = True,
    title: str | None = None,
) -> Picture:
    """Montage of short-axis slices from base to apex, six a row.

    Args:
        item: a Subject, a label map (X, Y, Z) of integers, an image (X, Y, Z) of floats, or a pair (image, label)
        spacing: voxel size (3,) in mm; a Subject brings its own
        scheme: meaning of the label's integers; a Subject brings its own
        n: how many slices, evenly spread over the labelled ones, or exactly which
        indices: see `n`
        contours: draw the outline of each structure (colour and line style per structure)

    Without an image the label map is filled. UsageError names an argument that does not fit.
    """
    volume = _volume(item, spacing, scheme)
    chosen = _chosen("slices", volume, n, indices)
    columns = min(6, len(chosen))
    rows = -(-len(chosen) // columns)
    window = _window(volume, 2, MARGIN)
    width = min(style.WIDTH, 2.6 * columns + 0.6)
    ratio = np.ptp(window[1]) / np.ptp(window[0])
    fig = style.figure(width, rows * (width / columns * ratio + 0.25) + 0.9)
    label = volume.label
    named = None if label is None else max(chosen, key=lambda k: len(np.unique(label[:, :, k])))
    labels, body = volume.axis_titles(2), 2 if volume.body else None
    between = ", " if body is None else "\n"
    ends = {chosen[-1]: "\n(apical)", chosen[0]: "\n(basal)"}
    axes = fig.subplots(rows, columns, squeeze=False).flat
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    for position, (ax, k) in enumerate(zip(axes, chosen)):
        draw(ax, volume, 2, k, contours, names=k == named)
        bottom, left = position + columns >= len(chosen), position % columns == 0
        frame(ax, window, labels if position == 0 else ("x (mm)", labels[1]), left, bottom, body)
        end = ends.get(k, "\n") if volume.heart and len(chosen) > 1 else ""
        ax.set_title(f"slice {k}{between}z = {k * volume.spacing[2]:.0f} mm{end}", fontsize=8.5)
    return finished(fig, title if title is not None else _default_title(item), [volume])


def _chosen(who: str, volume: Volume, n: int, indices: Sequence[int] | None) -> list[int]:
    """The slices asked for, else `n` of the labelled ones; UsageError where there is no such slice."""
    chosen = pick_slices(volume.label, volume.shape[2], n) if indices is None else list(indices)
    must(
        chosen and all(0 <= k < volume.shape[2] for k in chosen),
        who,
        f"indices {chosen}",
        f"some of 0..{volume.shape[2] - 1}",
    )
    return chosen


def _default_title(item: Item) -> str:
    if not isinstance(item, Subject):
        return "Slices"
    return f"{item.id} ({item.facts['group']})" if item.facts.get("group") else item.id


def _cut_position(volume: Volume, axis: int) -> int:
    """Where to cut: through the middle of a heart's LV cavity, else of everything labelled, else half way."""
    if volume.label is None or not volume.label.any():
        return volume.shape[axis] // 2
    cavities = [mask for _, name, _, mask in volume.masks() if name == "LV cavity" and not volume.body]
    return int(round(ndimage.center_of_mass((cavities or [volume.label > 0])[0])[axis]))


def long_axis(
    item: Item,
    spacing: Triple | None = None,
    scheme: LabelScheme | None = None,
    *,
    title: str | None = None,
    **options: Any,
) -> Picture:
    """A cut along the long axis, base up; of a whole heart a coronal or sagittal plane.

    `compare_long_axes` of one item, with its `plane`, `position`, `contours`.
    """
    title = title if title is not None else f"{_default_title(item)}: {options.get('plane', 'xz')} cut"
    return compare_long_axes([("", item)], spacing, scheme, title=title, **options)


@style.styled
def compare_long_axes(
    items: Sequence[tuple[str, Item]],
    spacing: Triple | None = None,
    scheme: LabelScheme | None = None,
    *,
    plane: str = "xz",
    position: int | None = None,
    contours: bool = True,
    title: str | None = None,
) -> Picture:
    """One cut along the long axis of label maps on one grid, base up, side by side: a heart and what was made of it.

    Args:
        items: list of (title, Subject | label map | image | (image, label)), one or several
        spacing: as in `slices`
        scheme: as in `slices`
        contours: as in `slices`
        plane: "xz" (RV, of a whole heart the patient's right, on the left) or "yz" (anterior on the left)
        position: voxel index across the plane; None: through the LV cavity of the first item that has one, of a whole
            heart through its middle

    Voxels are drawn as large as they are in mm, so thick slices look thick.
    """
    volumes = _volumes("compare_long_axes", items, spacing, scheme)
    _check_same_grid("compare_long_axes", volumes)
    labelled = [v for v in volumes if v.label is not None and v.label.any()] or volumes
    first, across = labelled[0], 1 if one_of("plane", plane, ("xz", "yz")) == "xz" else 0
    where = _cut_position(first, across) if position is None else position
    whole("compare_long_axes: position", where, 0, first.shape[across] - 1)
    window = _union([_window(v, across, MARGIN) for v in labelled])
    width = min(style.WIDTH, 4.6 * len(items))
    panel = (width - 0.8) / len(items)
    fig = style.figure(width, min(4.2, panel * np.ptp(window[1]) / np.ptp(window[0])) + 1.1)
    names, body = first.axis_titles(across), across if first.body else None
    axes = fig.subplots(1, len(items), squeeze=False)[0]
    for column, (ax, (name, _), volume) in enumerate(zip(axes, items, volumes, strict=True)):
        draw(ax, volume, across, where, contours)
        frame(ax, window, names if column == 0 else (names[0].split(",")[0], ""), column == 0, True, body)
        ax.set_title(name)
    cut = f"One {BODY_PLANES[across][0]} plane" if first.body else "One cut along the long axis"
    return finished(fig, title if title is not None else cut, volumes)


def planes(
    item: Item,
    spacing: Triple | None = None,
    scheme: LabelScheme | None = None,
    *,
    title: str | None = None,
    **options: Any,
) -> Picture:
    """Axial, coronal and sagittal plane of a whole heart: `compare_planes` of one item, with its `at`, `contours`."""
    title = title if title is not None else _default_title(item)
    return compare_planes([("", item)], spacing, scheme, title=title, **options)


@style.styled
def compare_planes(
    items: Sequence[tuple[str, Item]],
    spacing: Triple | None = None,
    scheme: LabelScheme | None = None,
    *,
    at: Sequence[int] | None = None,
    contours: bool = True,
    title: str | None = None,
) -> Picture:
    """Axial, coronal and sagittal plane of whole hearts on one grid, a heart a row, all at the same millimetre scale.

    The patient's left is on the right, in the sagittal plane anterior on the left; the head is up.

    Args:
        items: list of (title, Subject | label map | image | (image, label)), one or several
        spacing: as in `slices`
        scheme: as in `slices`, of images without labels too: it says that they show a whole heart
        at: voxel (3,) that all planes go through, of a Subject in canonical order; None: the middle of what is labelled
            in the first item with labels
        contours: as in `slices`

    UsageError for another scheme, and a voxel outside the grid.
    """
    who, volumes = "compare_planes", _volumes("compare_planes", items, spacing, scheme)
    _check_same_grid(who, volumes)
    found = [None if v.scheme is None else v.scheme.name for v in volumes if not v.body]
    must(not found, who, f"label scheme {found[:1]}", "a whole heart's, with an atrium or a great vessel")
    labelled = [v for v in volumes if v.label is not None and v.label.any()] or volumes
    point = [_cut_position(labelled[0], axis) for axis in range(3)] if at is None else list(at)
    must(len(point) == 3, f"{who}: at", point, "a voxel (3,)")
    for k, n in zip(point, volumes[0].shape, strict=True):
        whole(f"{who}: at", k, 0, n - 1)
    windows = [_union([_window(v, axis, MARGIN) for v in labelled]) for axis in range(3)]
    size = np.array([np.ptp(window, axis=1) for window in windows])
    inches = min((style.WIDTH - 0.8) / size[:, 0].sum(), 3.4 / size[:, 1].max())
    fig = style.figure(inches * size[:, 0].sum() + 0.8, len(items) * (inches * size[:, 1].max() + 0.1) + 1.2)
    axes = fig.subplots(len(items), 3, squeeze=False, width_ratios=size[::-1, 0].tolist())
    for row, (volume, (name, _)) in enumerate(zip(volumes, items, strict=True)):
        for ax, axis in zip(axes[row], (2, 1, 0), strict=True):
            draw(ax, volume, axis, point[axis], contours, names=volume.image is None)
            frame(ax, windows[axis], ("", ""), False, False, axis)
            ax.set(xticks=[], yticks=[])
            if row == 0:
                where = f"{'xyz'[axis]} = {point[axis] * volume.spacing[axis]:.0f} mm"
                ax.set_title(f"{BODY_PLANES[axis][0]}, {where}", fontsize=8.5)
        axes[row, 0].set_ylabel(name, fontsize=9)
    _scale_bar(axes[0, 0], 30.0)
    return finished(fig, title if title is not None else "Three planes, one scale", volumes)


def _volumes(
    who: str, items: Sequence[tuple[str, Item]], spacing: Triple | None, scheme: LabelScheme | None
) -> list[Volume]:
    """What is drawn of several (title, item); UsageError for none."""
    must(items, who, "no item", "a list of (title, subject)")
    return [_volume(item, spacing, scheme) for _, item in items]


@style.styled
def compare_slices(
    items: Sequence[tuple[str, Item]],
    spacing: Triple | None = None,
    scheme: LabelScheme | None = None,
    *,
    n: int = 5,
    indices: Sequence[int] | None = None,
    contours: bool = True,
    title: str | None = None,
    margin: float = NARROW,
) -> Picture:
    """Several hearts, one a row, base to apex, all at the same millimetre scale.

    `items` is a list of (title, Subject | label map | (image, label)); each row shows `n` slices spread over its own
    labelled ones, centred on its own labelled region. With `indices` every row shows these very slices and the same
    window: for label maps on one grid (a heart and its reconstruction). `margin` is in mm. Other arguments as in
    `slices`.
    """
    volumes = _volumes("compare_slices", items, spacing, scheme)
    windows = [_window(v, 2, margin) for v in volumes]
    if indices is not None:
        _check_same_grid("compare_slices", volumes)
        n, windows = len(indices), [_union(windows)] * len(volumes)
    chosen = [_chosen("compare_slices", v, n, indices) for v in volumes]
    size = np.max([np.ptp(w, axis=1) for w in windows], axis=0)
    panel = min(1.75, (style.WIDTH - 1.0) / n)
    fig = style.figure(panel * n + 1.0, len(items) * panel * size[1] / size[0] + 1.1)
    axes = fig.subplots(len(items), n, squeeze=False)
    for row, (volume, window) in enumerate(zip(volumes, windows, strict=True)):
        shown = window.mean(axis=1)[:, None] + size[:, None] * (-0.5, 0.5)
        for ax in axes[row, len(chosen[row]) :]:
            ax.set_axis_off()
        for column, (ax, k) in enumerate(zip(axes[row], chosen[row])):
            draw(ax, volume, 2, k, contours, names=column == 0 and row == 0)
            frame(ax, shown, ("", ""), False, False, 2 if volume.body else None)
            ax.set(xticks=[], yticks=[])
            if row == 0 and indices is not None:
                ax.set_title(f"z = {k * volume.spacing[2]:.0f} mm", fontsize=8.5)
        axes[row, 0].set_ylabel(items[row][0], fontsize=9)
        _scale_bar(axes[row, 0], 30.0)
    heart = all(v.heart for v in volumes)
    return finished(fig, title if title is not None else "Base to apex, one scale" if heart else "One scale", volumes)


def _check_same_grid(who: str, volumes: Sequence[Volume]) -> None:
    """UsageError unless all volumes have one shape and spacing."""
    grids = {(v.shape, tuple(v.spacing.tolist())) for v in volumes}
    must(len(grids) <= 1, who, f"{len(grids)} different grids", "one grid for all")


def _scale_bar(ax: Axes, length: float) -> None:
    """A bar of `length` mm in the lower left corner."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    x, y = left + 0.05 * (right - left), low + 0.06 * (high - low)
    end = x + length * np.sign(right - left)
    edge = [patheffects.Stroke(linewidth=4.5, foreground="white"), patheffects.Normal()]
    ax.plot([x, end], [y, y], color=style.INK, lw=2.0, path_effects=edge, solid_capstyle="butt")
    ax.text(x, y + 0.02 * (high - low), f"{length:.0f} mm", fontsize=7, va="bottom", path_effects=HALO)
