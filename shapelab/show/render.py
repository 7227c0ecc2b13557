"""Still pictures of meshes, without a graphics card, a browser or plotly: a small shaded renderer in numpy.

A committed notebook shows these beside each widget. Parallel projection (so a scale bar in mm is true everywhere),
z-buffer, smooth shading; translucent walls are drawn as glass: clear where seen face on, dense at their rim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from shapelab.data.scheme import LabelScheme
from shapelab.errors import must
from shapelab.show import meshes as _meshes
from shapelab.show import style
from shapelab.show.slices import HALO
from shapelab.show.style import Picture

Meshes = Mapping[str, trimesh.Trimesh]
LIGHT = np.array([-0.45, -0.72, 0.53])  # from the viewer's upper left: (right, away, up)


@dataclass(frozen=True)
class View:
    """Where the viewer stands. azimuth 0: in front (of a heart: anterior, RV to the viewer's left); degrees.

    azimuth 90 looks from what is on the left in front: the RV, or a whole heart's right; elevation > 0 looks down.
    """

    azimuth: float = -12.0
    elevation: float = 18.0

    def axes(self) -> np.ndarray:
        """Rows: the viewer's right, away, up, in the displayed frame (x, y, height)."""
        a, e = np.deg2rad([self.azimuth, self.elevation])
        right = np.array([np.cos(a), -np.sin(a), 0.0])
        away = np.array([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), -np.sin(e)])
        return np.stack([right, away, np.cross(right, away)])


FRONT, SIDE = View(), View(azimuth=78.0)


def project(vertices: np.ndarray, view: View, scheme: LabelScheme) -> np.ndarray:
    """Vertices (V, 3) mm -> (right, away, up) mm as the viewer sees them (`style.towards`)."""
    return (np.asarray(vertices, dtype=float) * style.towards(scheme)) @ view.axes().T


@dataclass(frozen=True)
class _Fragments:
    """Points of one mesh that fall on pixels: pixel, depth (mm, larger is farther), normal (right, away, up)."""

    pixel: np.ndarray
    depth: np.ndarray
    normal: np.ndarray


def _rasterise(
    points: np.ndarray, normals: np.ndarray, faces: np.ndarray, low: np.ndarray, scale: float, shape: tuple[int, int]
) -> _Fragments:
    """Barycentric coverage of every triangle, vectorised over triangles with pixel boxes of like size."""
    rows, columns = shape
    u = (points[:, 0] - low[0]) * scale
    v = rows - (points[:, 2] - low[1]) * scale
    tu, tv = u[faces], v[faces]
    area = (tu[:, 1] - tu[:, 0]) * (tv[:, 2] - tv[:, 0]) - (tu[:, 2] - tu[:, 0]) * (tv[:, 1] - tv[:, 0])
    first = np.stack([np.floor(tu.min(1)), np.floor(tv.min(1))], 1)
    size = np.maximum(np.ceil(tu.max(1)) - first[:, 0], np.ceil(tv.max(1)) - first[:, 1])
    classes = 2 ** np.ceil(np.log2(np.maximum(size, 1))).astype(int)
    parts: list[tuple[np.ndarray, ...]] = []
    for box in np.unique(classes):
        chosen = np.flatnonzero((classes == box) & (np.abs(area) > 1e-9))
        step = np.arange(box) + 0.5
        for some in np.array_split(chosen, max(1, len(chosen) * int(box) ** 2 // 2_000_000)):  # bounds the memory
            x = first[some, 0, None, None] + step[None, :, None]
            y = first[some, 1, None, None] + step[None, None, :]
            a, b = ((tu[some, i, None, None], tv[some, i, None, None]) for i in (0, 1))
            c = tu[some, 2, None, None], tv[some, 2, None, None]
            twice = area[some, None, None]
            w0 = ((b[0] - x) * (c[1] - y) - (c[0] - x) * (b[1] - y)) / twice
            w1 = ((c[0] - x) * (a[1] - y) - (a[0] - x) * (c[1] - y)) / twice
            w2 = 1 - w0 - w1
            inside = (w0 >= -1e-6) & (w1 >= -1e-6) & (w2 >= -1e-6) & (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            t, i, j = np.nonzero(inside)
            weights = np.stack([w0[inside], w1[inside], w2[inside]], 1)
            corner = faces[some[t]]
            pixel = (first[some[t], 1].astype(int) + j) * columns + first[some[t], 0].astype(int) + i
            parts.append((pixel, (points[corner, 1] * weights).sum(1), (normals[corner] * weights[..., None]).sum(1)))
    if not parts:
        return _Fragments(np.zeros(0, int), np.zeros(0), np.zeros((0, 3)))
    pixel, depth, normal = (np.concatenate(p) for p in zip(*parts, strict=True))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return _Fragments(pixel, depth, normal)


def _nearest(fragments: _Fragments, keep: np.ndarray, n_pixels: int) -> np.ndarray:
    """Index of the nearest kept fragment of each pixel, -1 where there is none."""
    order = np.flatnonzero(keep)
    order = order[np.argsort(-fragments.depth[order], kind="stable")]
    nearest = np.full(n_pixels, -1)
    nearest[fragments.pixel[order]] = order  # far to near: the last one written is the nearest
    return nearest


def _shade(colour: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Lambert with ambient light, a soft highlight and a darker rim; inner sides are lit like outer ones."""
    normal = np.where(normal[:, 1:2] > 0, -normal, normal)  # turned to the viewer
    facing = -normal[:, 1]
    halfway = LIGHT + (0, -1, 0)
    halfway = halfway / np.linalg.norm(halfway)
    diffuse = np.clip(normal @ LIGHT, 0, 1)
    shine = np.clip(normal @ halfway, 0, 1) ** 24
    tone = (0.42 + 0.68 * diffuse) * (0.72 + 0.28 * facing**0.5)
    return np.clip(colour * tone[:, None] + 0.16 * shine[:, None], 0, 1)


def shaded(
    meshes: Meshes,
    scheme: LabelScheme,
    window: np.ndarray,
    view: View = FRONT,
    pixels: int = 300,
) -> np.ndarray:
    """RGB picture (rows, columns, 3) float of the meshes on white.

    `window` is ((right low, high), (up low, high)) in mm of the projected frame; `pixels` is the picture's width. Twice
    as many are drawn each way and averaged, for smooth edges.
    """
    alpha = _meshes.opacities(scheme)
    scale = 2 * pixels / np.ptp(window[0])
    shape = 2 * max(1, round(pixels * np.ptp(window[1]) / np.ptp(window[0]))), 2 * pixels
    n = shape[0] * shape[1]
    image, depth = np.ones((n, 3)), np.full(n, np.inf)
    for structure in sorted((s for s in scheme.structures if s.name in meshes), key=lambda s: -alpha[s.name]):
        mesh = meshes[structure.name]
        points = project(_meshes.display_vertices(mesh, alpha[structure.name]), view, scheme)
        normals = project(mesh.vertex_normals, view, scheme)
        fragments = _rasterise(points, normals, mesh.faces, window[:, 0], scale, shape)
        front, inner = fragments.depth < depth[fragments.pixel], fragments.normal[:, 1] > 0
        for side in (front,) if alpha[structure.name] >= 1 else (front & inner, front & ~inner):
            _paint(image, depth, fragments, side, style.rgb(structure.colour), alpha[structure.name])
    return image.reshape(shape[0] // 2, 2, shape[1] // 2, 2, 3).mean(axis=(1, 3))


def _paint(
    image: np.ndarray,
    depth: np.ndarray,
    fragments: _Fragments,
    keep: np.ndarray,
    colour: np.ndarray,
    alpha: float,
) -> None:
    """Put the nearest kept fragments onto the picture, in place; a translucent one is denser where seen edge on."""
    chosen = _nearest(fragments, keep, len(image))
    hit = chosen >= 0
    normal = fragments.normal[chosen[hit]]
    paint = _shade(colour, normal)
    if alpha < 1:
        cover = np.clip(0.75 * (alpha + (1 - alpha) * (1 - np.abs(normal[:, 1:2])) ** 2), 0, 1)
        paint = image[hit] * (1 - cover) + paint * cover
    else:
        depth[hit] = fragments.depth[chosen[hit]]
    image[hit] = paint


def window_of(sets: Sequence[Meshes], view: View, scheme: LabelScheme, margin: float = 4.0) -> np.ndarray:
    """((right low, high), (up low, high)) in mm that holds every mesh of every set, seen from `view`."""
    corners = [project(m.vertices, view, scheme)[:, [0, 2]] for meshes in sets for m in meshes.values()]
    if not corners:
        return np.array([[0.0, 100.0], [0.0, 100.0]])
    low = np.min([c.min(0) for c in corners], axis=0) - margin
    return np.stack([low, np.max([c.max(0) for c in corners], axis=0) + margin], axis=1)


@style.styled
def mesh_grid(
    rows: Sequence[Sequence[Meshes]],
    scheme: LabelScheme,
    *,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    title: str | None = None,
    view: View | Sequence[View] = FRONT,
    width: float = style.WIDTH,
) -> Picture:
    """Still pictures of many mesh sets on one millimetre scale: a traversal has a dimension a row, steps as columns.

    `rows` may differ in length. A single `view`, or one per column. A set with no mesh says "empty"; structures
    missing from a set that others have are named under it. All sets are drawn where they are (not recentred).
    """
    row_names, column_names = (None if names is None else list(names) for names in (row_names, column_names))
    must(rows and any(len(r) for r in rows), "mesh_grid", "no meshes", "rows of dictionaries name -> mesh")
    columns = max(len(r) for r in rows)
    views = [view] * columns if isinstance(view, View) else list(view)
    must(len(views) == columns, "mesh_grid", f"{len(views)} views", f"one, or one for each of {columns} columns")
    windows = [window_of([m for r in rows for m in r], v, scheme) for v in views]
    span = np.max([np.ptp(w, axis=1) for w in windows], axis=0)
    windows = [np.stack([w.mean(1) - span / 2, w.mean(1) + span / 2], 1) for w in windows]
    panel = min((width - 0.4) / columns, 3.2)
    fig = style.figure(panel * columns + 0.4, len(rows) * (panel * span[1] / span[0] + 0.1) + 1.0)
    axes = fig.subplots(len(rows), columns, squeeze=False)
    seen = {name for r in rows for m in r for name in m}
    for r, row in enumerate(rows):
        for c, ax in enumerate(axes[r]):
            _panel(ax, row[c] if c < len(row) else None, scheme, windows[c], views[c], panel, seen)
            if r == 0 and column_names is not None and c < len(column_names):
                ax.set_title(column_names[c])
        if row_names is not None:
            axes[r, 0].set_ylabel(row_names[r])
    _scale(axes[0, 0], windows[0])
    if title:
        fig.suptitle(title)
    _names(fig, scheme, seen)
    return fig


def _panel(
    ax: Axes,
    meshes: Meshes | None,
    scheme: LabelScheme,
    window: np.ndarray,
    view: View,
    panel: float,
    seen: set[str],
) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if meshes is None:
        return
    picture = shaded(meshes, scheme, window, view, max(120, round(panel * style.DPI)))
    ax.imshow(picture, extent=(*window[0], *window[1]), interpolation="antialiased")
    absent = [n for n in scheme.names if n in seen and n not in meshes]
    if not meshes:
        ax.text(window[0].mean(), window[1].mean(), "empty", ha="center", color=style.MUTED)
    elif absent:
        ax.set_xlabel(
            "no surface: " + ", ".join(style.short_name(n) for n in absent), fontsize=7.5, color=style.CONTRAST
        )


def _scale(ax: Axes, window: np.ndarray) -> None:
    """A bar of 20, 50 or 100 mm, whichever is nearest to a third of the picture."""
    length = min((5.0, 10.0, 20.0, 50.0, 100.0), key=lambda v: abs(v - np.ptp(window[0]) / 3))
    x, y = window[0, 0] + 0.03 * np.ptp(window[0]), window[1, 0] + 0.03 * np.ptp(window[1])
    ax.plot([x, x + length], [y, y], color=style.INK, lw=2, solid_capstyle="butt")
    ax.text(x, y + 0.02 * np.ptp(window[1]), f"{length:.0f} mm", fontsize=7.5, va="bottom", path_effects=HALO)


def _names(fig: Picture, scheme: LabelScheme, seen: set[str]) -> None:
    alpha = _meshes.opacities(scheme)
    handles = [
        Patch(
            facecolor=s.colour,
            alpha=1 if alpha[s.name] >= 1 else 0.45,
            edgecolor=style.MUTED,
            label=s.name + ("" if alpha[s.name] >= 1 else " (translucent)"),
        )
        for s in scheme.structures
        if s.name in seen
    ]
    absent = [n for n in scheme.names if n not in seen]
    if absent:
        handles.append(Patch(facecolor="none", edgecolor="none", label=f"no surface: {', '.join(absent)}"))
    if handles:
        columns = len(handles) if len(handles) <= 5 else (len(handles) + 1) // 2
        fig.legend(handles=handles, loc="outside lower center", ncols=columns)


@style.styled
def mesh_picture(
    meshes: Meshes,
    scheme: LabelScheme,
    *,
    title: str | None = None,
    views: Sequence[View] = (FRONT, SIDE),
    names: bool = True,
) -> Picture:
    """Still picture of one heart from the front and from the side, on one scale, with the structures' names in it.

    Of a whole heart the legend alone has them: half of its seven structures are hidden by others.
    """
    where = [f"from {_where(v, scheme)}" for v in views]
    fig = mesh_grid([[meshes] * len(views)], scheme, column_names=where, title=title, view=views, width=6.8)
    if names and meshes and not style.in_body(scheme):
        for ax, view in zip(fig.axes, views, strict=True):
            _write_names(ax, meshes, view, scheme)
    return fig


def _where(view: View, scheme: LabelScheme) -> str:
    side = 0 if abs(view.azimuth) <= 45 else (1 if view.azimuth > 0 else 2)
    if style.is_heart(scheme):
        return ("anterior, base up", "the RV side, base up", "the LV side, base up")[side]
    if style.in_body(scheme):
        return ("the front, head up", "the patient's right, head up", "the patient's left, head up")[side]
    return ("the front", "low x", "high x")[side]


def _write_names(ax: Axes, meshes: Meshes, view: View, scheme: LabelScheme) -> None:
    """Each short name beside the picture with a line to the middle of its mesh."""
    left, right = ax.get_xlim()
    low, high = ax.get_ylim()
    ends = sorted(
        ((style.short_name(n), project(m.vertices, view, scheme)[:, [0, 2]]) for n, m in meshes.items()),
        key=lambda e: -e[1][:, 1].mean(),
    )
    for i, (name, points) in enumerate(ends):
        middle = points.mean(0)
        on_left = middle[0] < (left + right) / 2
        edge = points[np.argmin(points[:, 0]) if on_left else np.argmax(points[:, 0])]
        text = left + 0.01 * (right - left) if on_left else right - 0.01 * (right - left)
        inward = 0.06 if name in ("Myo", "RVw") else 0.45  # a wall is pointed at where nothing hides it
        ax.annotate(
            name,
            xy=(1 - inward) * edge + inward * middle,
            xytext=(text, high - (0.05 + 0.1 * i) * (high - low)),
            fontsize=8,
            ha="left" if on_left else "right",
            va="center",
            path_effects=HALO,
            arrowprops={"arrowstyle": "-", "color": style.INK, "lw": 0.7, "shrinkA": 1, "shrinkB": 0},
        )
