"""Short-axis slices and long-axis cuts, with contours or filled label maps, in millimetres.

Orientation: a slice is shown as ``a[:, :, k].T`` with the origin at the top, so that the RV is on the left and
anterior is up; slices run from base to apex, and a long-axis cut has the base at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import ndimage

from shapelab.data.scheme import LabelScheme
from shapelab.errors import UsageError
from shapelab.show import style
from shapelab.show.style import Picture

MARGIN = 15.0  # mm round the labelled structures
HALO = [patheffects.withStroke(linewidth=2.2, foreground="white")]


@dataclass(frozen=True)
class _Volume:
    """What is drawn: image and/or label (X, Y, Z), spacing (3,) mm, scheme (needed with a label)."""

    image: np.ndarray | None
    label: np.ndarray | None
    spacing: np.ndarray
    scheme: LabelScheme | None

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.label if self.label is not None else self.image).shape

    def masks(self) -> list[tuple[int, str, str, np.ndarray]]:
        """(position, name, colour, mask) of every structure of the scheme that the label has."""
        if self.label is None:
            return []
        found = ((i, s.name, s.colour, self.label == s.value) for i, s in enumerate(self.scheme.structures))
        return [m for m in found if m[3].any()]


def _volume(item, spacing=None, scheme: LabelScheme | None = None) -> _Volume:
    """A Subject, a label map, an image, or a pair (image, label) -> what is drawn; UsageError names what is wrong."""
    if hasattr(item, "facts") and hasattr(item, "scheme"):  # a Subject
        image, label = item.image, item.label
        spacing, scheme = (item.spacing if spacing is None else spacing), scheme or item.scheme
    elif isinstance(item, tuple):
        if len(item) != 2:
            raise UsageError(f"slices: found a tuple of {len(item)}; expected (image, label)")
        image, label = (None if a is None else np.asarray(a) for a in item)
    else:
        array = np.asarray(item)
        is_label = array.dtype == bool or np.issubdtype(array.dtype, np.integer)
        image, label = (None, array) if is_label else (array, None)
    for name, array in (("image", image), ("label", label)):
        if array is not None and array.ndim != 3:
            raise UsageError(f"slices: found {name} of shape {array.shape}; expected three axes (X, Y, Z)")
    if image is None and label is None:
        raise UsageError("slices: found neither image nor label; expected at least one")
    if image is not None and label is not None and image.shape != label.shape:
        raise UsageError(f"slices: found image {image.shape} and label {label.shape}; expected one shape")
    if spacing is None:
        raise UsageError("slices: found no spacing; expected three voxel sizes in mm")
    if label is not None and scheme is None:
        raise UsageError("slices: found a label map without a scheme; expected a LabelScheme")
    return _Volume(image, label, _check_spacing(spacing), scheme)


def _check_spacing(spacing) -> np.ndarray:
    spacing = np.asarray(spacing, dtype=float)
    if spacing.shape != (3,) or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise UsageError(f"spacing: found {spacing.tolist()}; expected three positive voxel sizes in mm")
    return spacing


def _window(volume: _Volume, axes: tuple[int, int], margin: float) -> np.ndarray:
    """((low, high), (low, high)) in mm along two axes: the labelled region with its margin, else everything."""
    extent = np.array([[0.0, volume.shape[a] * volume.spacing[a]] for a in axes])
    if volume.label is None or not volume.label.any():
        return extent
    for row, axis in enumerate(axes):
        hit = np.flatnonzero(volume.label.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = hit[0] * volume.spacing[axis] - margin, (hit[-1] + 1) * volume.spacing[axis] + margin
        extent[row] = max(low, extent[row, 0]), min(high, extent[row, 1])
    return extent


def _union(windows: Sequence[np.ndarray]) -> np.ndarray:
    """The least window that holds all of them."""
    return np.stack([np.min(windows, 0)[:, 0], np.max(windows, 0)[:, 1]], 1)


def pick_slices(label: np.ndarray | None, n_slices: int, n: int) -> list[int]:
    """`n` slices spread evenly from base to apex over those with a label (over all where there is none)."""
    present = np.arange(n_slices)
    if label is not None and label.any():
        present = np.flatnonzero(label.any(axis=(0, 1)))
    n = min(n, len(present))
    return [int(present[i]) for i in np.unique(np.linspace(0, len(present) - 1, n).round().astype(int))]


def _draw(ax: Axes, volume: _Volume, cut: tuple, axes: tuple[int, int], contours: bool, names: bool) -> None:
    """One plane: grey image with contours, or the label map filled. `cut` indexes a plane, `axes` are its two axes."""
    size = [volume.shape[a] * volume.spacing[a] for a in axes]
    extent = (0.0, size[0], size[1], 0.0)
    if volume.image is not None:
        low, high = np.percentile(volume.image, (1, 99.5))
        ax.imshow(volume.image[cut].T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, origin="upper")
    for position, name, colour, mask in volume.masks():
        plane = mask[cut]
        if not plane.any():
            continue
        if volume.image is None:
            layer = np.zeros((*plane.T.shape, 4))
            layer[plane.T] = (*style.rgb(colour), 0.85)
            ax.imshow(layer, extent=extent, origin="upper")
        if contours:
            _contour(ax, plane, [volume.spacing[a] for a in axes], position, colour, on_image=volume.image is not None)
        if names:
            _write_name(ax, plane, [volume.spacing[a] for a in axes], style.short_name(name))


def _contour(ax: Axes, plane: np.ndarray, spacing: Sequence[float], position: int, colour: str, on_image: bool) -> None:
    """The outline of a mask, through the middle between voxel centres; a line style per structure."""
    padded = np.pad(plane.astype(float), 1)
    x, y = ((np.arange(n) - 0.5) * s for n, s in zip(padded.shape, spacing, strict=True))
    if on_image:  # a light edge keeps a dark blue line readable on dark blood-free tissue
        ax.contour(x, y, padded.T, [0.5], colors="white", linewidths=2.0, alpha=0.55)
        ax.contour(x, y, padded.T, [0.5], colors=colour, linewidths=1.3, linestyles=[style.line_style(position)])
    else:
        ax.contour(x, y, padded.T, [0.5], colors=style.INK, linewidths=0.7, linestyles=[style.line_style(position)])


def _write_name(ax: Axes, plane: np.ndarray, spacing: Sequence[float], text: str) -> None:
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


def _frame(ax: Axes, window: np.ndarray, labels: tuple[str, str], left: bool, bottom: bool) -> None:
    """Limits in mm (second axis downwards), equal scale; axis titles on the outer panels only."""
    ax.set_xlim(*window[0])
    ax.set_ylim(*window[1][::-1])
    ax.set_aspect("equal")
    ax.locator_params(nbins=4)
    ax.tick_params(length=2, labelleft=left, labelbottom=bottom)
    if left:
        ax.set_ylabel(labels[1])
    if bottom:
        ax.set_xlabel(labels[0])
    for side in ax.spines.values():
        side.set_visible(True)
        side.set_color(style.GRID)


def _legend(fig: Picture, volumes: Sequence[_Volume]) -> None:
    """One entry per structure that is there: colour, and line style where contours are drawn."""
    entries: dict[str, Line2D | Patch] = {}
    for volume in volumes:
        for position, name, colour, _ in volume.masks():
            if volume.image is not None:
                entries[name] = Line2D([], [], color=colour, lw=1.6, linestyle=style.line_style(position), label=name)
            else:
                entries.setdefault(name, Patch(facecolor=colour, alpha=0.85, edgecolor=style.INK, label=name))
    columns = len(entries) if fig.get_figwidth() > 1.7 * len(entries) else 2
    if entries:
        fig.legend(handles=list(entries.values()), loc="outside lower center", ncols=columns, handlelength=2.6)


def _axis_names(volume: _Volume) -> tuple[str, str]:
    if style.is_heart(volume.scheme):
        return "x (mm), RV → LV", "y (mm), anterior up"
    return "x (mm)", "y (mm)"


@style.styled
def slices(
    item,
    spacing=None,
    scheme: LabelScheme | None = None,
    *,
    n: int = 6,
    indices: Sequence[int] | None = None,
    contours: bool = True,
    title: str | None = None,
    columns: int = 6,
    margin: float = MARGIN,
) -> Picture:
    """Montage of short-axis slices from base to apex.

    Parameters
    ----------
    item : a Subject, a label map (X, Y, Z) of integers, an image (X, Y, Z) of floats, or a pair (image, label)
    spacing : voxel size (3,) in mm; a Subject brings its own
    scheme : meaning of the label's integers; a Subject brings its own
    n, indices : how many slices, evenly spread over the labelled ones, or exactly which
    contours : draw the outline of each structure (colour and line style per structure)
    margin : mm shown round the labelled region

    Without an image the label map is filled. UsageError names an argument that does not fit.
    """
    volume = _volume(item, spacing, scheme)
    chosen = list(indices) if indices is not None else pick_slices(volume.label, volume.shape[2], n)
    outside = [k for k in chosen if not 0 <= k < volume.shape[2]]
    if outside or not chosen:
        raise UsageError(f"slices: found indices {chosen}; expected some of 0..{volume.shape[2] - 1}")
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    window = _window(volume, (0, 1), margin)
    ratio = np.ptp(window[1]) / np.ptp(window[0])
    width = min(style.WIDTH, 2.6 * columns + 0.6)
    fig = style.figure(width, rows * (width / columns * ratio + 0.25) + 0.9)
    axes = fig.subplots(rows, columns, squeeze=False)
    named = max(chosen, key=lambda k: len(np.unique(volume.label[:, :, k]))) if volume.label is not None else None
    for position, ax in enumerate(axes.flat):
        if position >= len(chosen):
            ax.set_axis_off()
            continue
        k = chosen[position]
        _draw(ax, volume, (slice(None), slice(None), k), (0, 1), contours, names=k == named)
        last_in_column = position + columns >= len(chosen)
        _frame(ax, window, _axis_names(volume), left=position % columns == 0, bottom=last_in_column)
        if position > 0:
            ax.set_xlabel("x (mm)" if last_in_column else "")
        ax.set_title(f"slice {k}, z = {k * volume.spacing[2]:.0f} mm{_end_name(volume, k, chosen)}", fontsize=8.5)
    fig.suptitle(title if title is not None else _default_title(item))
    _legend(fig, [volume])
    return fig


def _end_name(volume: _Volume, k: int, chosen: Sequence[int]) -> str:
    if not style.is_heart(volume.scheme) or len(chosen) < 2:
        return ""
    return "\n(basal)" if k == chosen[0] else "\n(apical)" if k == chosen[-1] else "\n"


def _default_title(item) -> str:
    if not hasattr(item, "facts"):
        return "Slices"
    group = item.facts.get("group")
    return f"{item.id} ({group})" if group else item.id


def _cut_position(volume: _Volume, axis: int) -> int:
    """Where to cut: through the middle of the LV cavity if there is one, else of everything labelled, else half way."""
    if volume.label is None or not volume.label.any():
        return volume.shape[axis] // 2
    wanted = [s.value for s in volume.scheme.structures if s.name == "LV cavity"]
    mask = np.isin(volume.label, wanted) if wanted and np.isin(volume.label, wanted).any() else volume.label > 0
    return int(round(ndimage.center_of_mass(mask)[axis]))


@style.styled
def long_axis(
    item,
    spacing=None,
    scheme: LabelScheme | None = None,
    *,
    plane: str = "xz",
    position: int | None = None,
    contours: bool = True,
    title: str | None = None,
    margin: float = MARGIN,
) -> Picture:
    """A cut along the long axis, base up: plane "xz" (RV on the left) or "yz" (anterior on the left).

    `position` is the voxel index across the plane; by default it goes through the LV cavity. Other arguments as in
    `slices`. Voxels are drawn as large as they are in mm, so thick slices look thick.
    """
    volume = _volume(item, spacing, scheme)
    cut, along, across, where = _long_cut("long_axis", volume, plane, position)
    window = _window(volume, (along, 2), margin)
    width = 4.6
    fig = style.figure(width, (width - 0.8) * np.ptp(window[1]) / np.ptp(window[0]) + 1.2)
    ax = fig.subplots()
    _draw(ax, volume, cut, (along, 2), contours, names=True)
    _frame(ax, window, _long_names(volume, plane), left=True, bottom=True)
    ax.set_title(
        title
        if title is not None
        else f"{_default_title(item)}: {plane} cut at {'xy'[across]} = {where * volume.spacing[across]:.0f} mm"
    )
    _legend(fig, [volume])
    return fig


def _long_cut(who: str, volume: _Volume, plane: str, position: int | None) -> tuple[tuple, int, int, int]:
    """How to index the plane, the axis that lies in it, the axis across it, and where on that."""
    if plane not in ("xz", "yz"):
        raise UsageError(f"{who}: found plane {plane!r}; expected 'xz' or 'yz'")
    along, across = (0, 1) if plane == "xz" else (1, 0)
    where = _cut_position(volume, across) if position is None else int(position)
    if not 0 <= where < volume.shape[across]:
        raise UsageError(f"{who}: found position {where}; expected 0..{volume.shape[across] - 1}")
    cut = (slice(None), where, slice(None)) if plane == "xz" else (where, slice(None), slice(None))
    return cut, along, across, where


def _long_names(volume: _Volume, plane: str) -> tuple[str, str]:
    if not style.is_heart(volume.scheme):
        return f"{plane[0]} (mm)", "z (mm)"
    return {"xz": "x (mm), RV → LV", "yz": "y (mm), anterior → inferior"}[plane], "z (mm), base up"


@style.styled
def compare_long_axes(
    items: Sequence[tuple[str, object]],
    spacing=None,
    scheme: LabelScheme | None = None,
    *,
    plane: str = "xz",
    position: int | None = None,
    contours: bool = True,
    title: str | None = None,
    margin: float = MARGIN,
) -> Picture:
    """One cut along the long axis of several label maps on one grid, side by side: a heart and what was made of it.

    `items` is a list of (title, Subject | label map | image | (image, label)); the cut goes through the LV cavity of
    the first that has one. Other arguments as in `long_axis`.
    """
    if not items:
        raise UsageError("compare_long_axes: found no item; expected a list of (title, subject)")
    volumes = [_volume(item, spacing, scheme) for _, item in items]
    _check_same_grid("compare_long_axes", volumes)
    labelled = [v for v in volumes if v.label is not None and v.label.any()] or volumes
    cut, along, _, _ = _long_cut("compare_long_axes", labelled[0], plane, position)
    windows = [_window(v, (along, 2), margin) for v in labelled]
    window = _union(windows)
    panel = (style.WIDTH - 0.8) / len(items)
    fig = style.figure(style.WIDTH, min(4.2, panel * np.ptp(window[1]) / np.ptp(window[0])) + 1.1)
    names, axes = _long_names(labelled[0], plane), fig.subplots(1, len(items), squeeze=False)[0]
    for column, (ax, (name, _), volume) in enumerate(zip(axes, items, volumes, strict=True)):
        _draw(ax, volume, cut, (along, 2), contours, names=False)
        _frame(ax, window, names if column == 0 else (names[0].split(",")[0], ""), left=column == 0, bottom=True)
        ax.set_title(name)
    fig.suptitle(title if title is not None else "One cut along the long axis")
    _legend(fig, volumes)
    return fig


@style.styled
def compare_slices(
    items: Sequence[tuple[str, object]],
    spacing=None,
    scheme: LabelScheme | None = None,
    *,
    n: int = 5,
    indices: Sequence[int] | None = None,
    contours: bool = True,
    title: str | None = None,
    margin: float = 8.0,
) -> Picture:
    """Several hearts, one a row, base to apex, all at the same millimetre scale.

    `items` is a list of (title, Subject | label map | (image, label)); each row shows `n` slices spread over its own
    labelled ones, centred on its own labelled region. With `indices` every row shows these very slices and the same
    window: for label maps on one grid (a heart and its reconstruction). Other arguments as in `slices`.
    """
    if not items:
        raise UsageError("compare_slices: found no item; expected a list of (title, subject)")
    volumes = [_volume(item, spacing, scheme) for _, item in items]
    windows = [_window(v, (0, 1), margin) for v in volumes]
    if indices is not None:
        _check_same_grid("compare_slices", volumes)
        if not len(indices) or not all(0 <= k < volumes[0].shape[2] for k in indices):
            raise UsageError(
                f"compare_slices: found indices {list(indices)}; expected some of 0..{volumes[0].shape[2] - 1}"
            )
        n = len(indices)
        windows = [_union(windows)] * len(volumes)
    size = np.max([np.ptp(w, axis=1) for w in windows], axis=0)
    panel = min(1.75, (style.WIDTH - 1.0) / n)
    fig = style.figure(panel * n + 1.0, len(items) * panel * size[1] / size[0] + 1.1)
    axes = fig.subplots(len(items), n, squeeze=False)
    for row, ((name, _), volume, window) in enumerate(zip(items, volumes, windows, strict=True)):
        centre = window.mean(axis=1)
        shown = np.stack([centre - size / 2, centre + size / 2], axis=1)
        chosen = pick_slices(volume.label, volume.shape[2], n) if indices is None else list(indices)
        for column, ax in enumerate(axes[row]):
            if column >= len(chosen):
                ax.set_axis_off()
                continue
            _draw(
                ax, volume, (slice(None), slice(None), chosen[column]), (0, 1), contours, names=column == 0 and row == 0
            )
            _frame(ax, shown, ("", ""), left=False, bottom=False)
            ax.set_xticks([])
            ax.set_yticks([])
            if column == 0:
                ax.set_ylabel(name, fontsize=9)
            if row == 0 and indices is not None:
                ax.set_title(f"z = {chosen[column] * volume.spacing[2]:.0f} mm", fontsize=8.5)
        _scale_bar(axes[row, 0], shown, 30.0)
    heart = all(style.is_heart(v.scheme) for v in volumes)
    fig.suptitle(title if title is not None else "Base to apex, one scale" if heart else "One scale")
    _legend(fig, volumes)
    return fig


def _check_same_grid(who: str, volumes: Sequence[_Volume]) -> None:
    """UsageError unless all volumes have one shape and spacing."""
    grids = {(v.shape, tuple(v.spacing.tolist())) for v in volumes}
    if len(grids) > 1:
        raise UsageError(f"{who}: found {len(grids)} different grids; expected one grid for all")


def _scale_bar(ax: Axes, window: np.ndarray, length: float) -> None:
    """A bar of `length` mm in the lower left corner."""
    x, y = window[0, 0] + 0.05 * np.ptp(window[0]), window[1, 1] - 0.06 * np.ptp(window[1])
    edge = [patheffects.Stroke(linewidth=4.5, foreground="white"), patheffects.Normal()]
    ax.plot([x, x + length], [y, y], color=style.INK, lw=2.0, path_effects=edge, solid_capstyle="butt")
    ax.text(x, y - 0.02 * np.ptp(window[1]), f"{length:.0f} mm", fontsize=7, va="bottom", path_effects=HALO)
