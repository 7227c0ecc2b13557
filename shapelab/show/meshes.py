"""Label maps and probabilities -> closed triangle meshes in mm, and plotly figures of them.

    probability (X, Y, Z) -> bounding box -> marching cubes at 0.5 -> Taubin smoothing -> trimesh.Trimesh

Vertices are in mm in the frame of the array: voxel (i, j, k) has its CENTRE at ((i + .5) sx, (j + .5) sy, (k + .5) sz),
as in `slices`, and faces are wound so that a closed mesh has a positive volume. A heart's z runs from base to apex and
its x from RV to LV, which makes the array's frame left-handed: pictures therefore turn z over (base up), so that what
is seen is the heart and not its mirror image. A whole heart's axes are the patient's right, anterior, superior: it is
seen from the front, head up, the patient's left on the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import trimesh
from scipy import ndimage, sparse
from skimage import measure

from shapelab.data.geometry import bounding_box, cut_out, off_level, reaches
from shapelab.data.scheme import LabelScheme
from shapelab.errors import UsageError, must, spacing3
from shapelab.show import style
from shapelab.types import Triple

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_FACES = 20_000  # triangles a figure: more cost time and megabytes and show nothing
TAUBIN_PASSES = 10
TAUBIN_LAMBDA, TAUBIN_NU = 0.5, 0.53  # 1/lambda - 1/nu = 0.11: shrinking and swelling nearly cancel


def surface(
    probability: np.ndarray,
    spacing: Triple,
    level: float = 0.5,
    *,
    smooth: int | None = None,
    max_faces: int | None = MAX_FACES,
    crop: bool = True,
) -> trimesh.Trimesh | None:
    """Closed surface of one structure, in mm; None where nothing reaches `level`.

    Args:
        probability: (X, Y, Z) floats; or a mask (X, Y, Z) of bool or integers 0/1, which is first turned into a signed
            distance in mm and interpolated to slices at most 2.5 mm apart, so that 10 mm slices do not give a staircase
        spacing: (3,) voxel size in mm
        level: the surface lies where the probability is `level`, with voxels of exactly that inside; a mask is cut
            where the mesh has its volume, since interpolated distances alone thin a wall by up to 10 %
        smooth: passes of Taubin's filter (SIGGRAPH 1995, lambda | mu), 0 for none; 10 by default
        max_faces: where there are more triangles, the field is resampled more coarsely, at the same volume
        crop: march over the bounding box only (3 to 5 times faster; False is there to be measured against)

    The mesh is closed also where the structure touches the edge of the grid. UsageError on a wrong shape, on NaN,
    and on a spacing that is not three positive numbers.
    """
    field = _field(np.asarray(probability), np.array(spacing3("spacing", spacing)), level, crop)
    if field is None:
        return None
    return _finish(field, _march(field.values, field.spacing, field.level), smooth, max_faces)


@dataclass(frozen=True)
class _Field:
    """What is marched over: samples with some outside round them, mm of the first sample, their spacing in mm.

    `volume` (mm3) is set for a mask: the mesh is to have it. Otherwise the surface lies at `level`.
    """

    values: np.ndarray
    origin: np.ndarray
    spacing: np.ndarray
    level: float
    volume: float | None


def _finish(
    field: _Field, first: tuple[np.ndarray, np.ndarray], smooth: int | None, max_faces: int | None
) -> trimesh.Trimesh | None:
    """Mesh of a field whose vertices and faces at its level are `first`: right volume, few enough faces, smoothed."""
    vertices, faces = first
    limit = np.inf if max_faces is None else max_faces
    volume = field.volume
    if volume is None and len(faces) > limit:
        volume = abs(_volume(vertices, faces))
    elif volume is not None and len(faces) <= limit:
        vertices, faces = _march_to_volume(field.values, field.spacing, volume)
    factor = 1.0
    while len(faces) > limit and factor > 0.05:
        assert volume is not None  # known where there are too many faces
        factor *= 0.97 * np.sqrt(limit / len(faces))  # faces grow with the square of the resolution
        vertices, faces = _march_to_volume(*_coarser(field.values, field.spacing, factor), volume)
    if len(faces) == 0:
        return None
    mesh = trimesh.Trimesh(vertices + field.origin, faces, process=False, validate=False)
    return taubin(mesh, TAUBIN_PASSES if smooth is None else smooth)


def _field(array: np.ndarray, spacing: np.ndarray, level: float, crop: bool) -> _Field | None:
    """A probability or a mask (X, Y, Z) -> what is marched over; None where nothing reaches the level."""
    must(array.ndim == 3, "surface", f"an array of shape {array.shape}", "three axes (X, Y, Z)")
    is_mask = array.dtype == bool or np.issubdtype(array.dtype, np.integer)
    highest = array.max() if array.size else 0
    must(
        not is_mask or highest <= 1,
        "surface",
        f"integers up to {highest}",
        "a mask of 0 and 1, or probabilities (heart_meshes takes a whole label map)",
    )
    array = array if is_mask else array.astype(np.float32, copy=False)
    inside = array > 0 if is_mask else reaches(array, level)
    box = bounding_box(inside)
    must(
        is_mask or np.isfinite(highest),
        "surface",
        "NaN or infinite probabilities",
        "numbers between 0 and 1",
    )
    if box is None:
        return None
    if not crop:
        box = tuple(slice(0, n) for n in array.shape)
    # One voxel outside the box is below the level and is needed: the surface runs between it and the box. Round a mask
    # there are 8 mm, so that a coarser distance field still has room to be cut lower.
    margin = np.maximum(1, np.ceil(8.0 / spacing)).astype(int) if is_mask else np.ones(3, dtype=int)
    first = (np.array([b.start for b in box]) - margin + 0.5) * spacing
    if is_mask:
        volume = float(np.count_nonzero(inside) * spacing.prod())
        values, fine = _distance_field(cut_out(inside, box, margin.tolist()), spacing)
        return _Field(values, first, fine, 0.0, volume)
    return _Field(cut_out(array, box, margin.tolist()), first, spacing, level, None)


def _distance_field(mask: np.ndarray, spacing: np.ndarray, thickest: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance (mm, positive inside) of a mask, with slices at most `thickest` mm apart, and its spacing."""
    distance = ndimage.distance_transform_edt(mask, sampling=spacing) - ndimage.distance_transform_edt(
        ~mask, sampling=spacing
    )
    # Both measure to the nearest voxel centre of the other side, so the zero is half way between the two.
    factors = np.maximum(1, np.ceil(spacing / thickest)).astype(int)
    for axis, factor in enumerate(factors):
        distance = _refine(distance, axis, int(factor))
    return distance.astype(np.float32), spacing / factors


def _refine(field: np.ndarray, axis: int, factor: int) -> np.ndarray:
    """Linear interpolation to `factor` samples a voxel along one axis; the end samples stay where they are."""
    if factor == 1:
        return field
    n = field.shape[axis]
    where = np.arange((n - 1) * factor + 1) / factor
    low = np.minimum(where.astype(int), n - 2)
    weight = (where - low).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.take(field, low, axis) * (1 - weight) + np.take(field, low + 1, axis) * weight


def _coarser(field: np.ndarray, spacing: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """The field on a grid with `factor` times as many samples an axis; its border stays outside (below the level)."""
    shape = np.maximum(3, np.floor((np.array(field.shape) - 1) * factor).astype(int) + 1)
    zoom = (np.array(field.shape) - 1) / (shape - 1)
    border = 0.0 if field.min() >= 0 else -0.5 * float(spacing.min())  # of a probability, of a distance
    inner = ndimage.gaussian_filter(field, 0.5 * np.sqrt(np.maximum(zoom**2 - 1, 0.0)), mode="nearest")
    grid = np.meshgrid(*(np.linspace(0, n - 1, m) for n, m in zip(field.shape, shape, strict=True)), indexing="ij")
    coarse = ndimage.map_coordinates(inner, grid, order=1, mode="nearest")
    for axis in range(3):
        edge: list[slice | int] = [slice(None)] * 3
        for end in (0, -1):
            edge[axis] = end
            coarse[tuple(edge)] = np.minimum(coarse[tuple(edge)], border)
    return coarse.astype(np.float32), spacing * zoom


def _march(field: np.ndarray, spacing: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes (Lewiner): vertices (V, 3) in mm from the first voxel centre, faces (F, 3)."""
    field = off_level(field, level)
    if not field.min() < level < field.max():
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32)
    vertices, faces, _, _ = measure.marching_cubes(field, level, spacing=tuple(spacing), gradient_direction="ascent")
    return vertices, faces


def _volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume of a closed mesh: the sum of the signed tetrahedra to the origin."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def _march_to_volume(field: np.ndarray, spacing: np.ndarray, volume: float) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes at the level that gives the mesh that volume (mm3) within 1 %, or nearly.

    Coarse samples of a thin wall miss its crests: at a fixed level a myocardium loses a fifth. The first level is the
    quantile of the samples with that volume, then it is corrected by what the mesh has.
    """
    edges = [np.take(field, end, axis).max() for axis in range(3) for end in (0, -1)]
    low, high = float(max(edges)) + 1e-3, float(field.max())  # lower, the surface would run out of the grid
    ordered = np.sort(field, axis=None)[::-1]
    level = float(ordered[min(int(volume / spacing.prod()), ordered.size - 1)])
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for _ in range(8):
        level = min(max(level, low), low + 0.999 * (high - low))
        vertices, faces = _march(field, spacing, level)
        found = abs(_volume(vertices, faces))
        if best is None or abs(found - volume) < best[0]:
            best = abs(found - volume), vertices, faces
        if best[0] < 0.01 * volume:
            break
        low, high = (level, high) if found > volume else (low, level)
        level = (low + high) / 2
    assert best is not None
    return best[1:]


def averaging_operator(n_vertices: int, faces: np.ndarray) -> sparse.csr_matrix:
    """(V, V) matrix whose product with the vertices is the mean of each vertex's neighbours."""
    a, b = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    ones = np.ones(2 * len(a), dtype=np.float32)
    matrix = sparse.csr_matrix((ones, (np.r_[a, b], np.r_[b, a])), shape=(n_vertices, n_vertices))
    matrix.data[:] = 1.0  # each edge came from two faces; csr has summed them
    degree = np.diff(matrix.indptr)
    matrix.data /= np.repeat(np.maximum(degree, 1), degree).astype(np.float32)
    return matrix


def taubin(mesh: trimesh.Trimesh, passes: int = TAUBIN_PASSES) -> trimesh.Trimesh:
    """Taubin's lambda | mu smoothing with trimesh's filter, in place; keeps the volume, which Laplacian does not."""
    if passes <= 0 or not len(mesh.faces):
        return mesh
    return trimesh.smoothing.filter_taubin(
        mesh,
        lamb=TAUBIN_LAMBDA,
        nu=TAUBIN_NU,
        iterations=passes,
        laplacian_operator=averaging_operator(len(mesh.vertices), mesh.faces),
    )


def heart_meshes(
    probabilities: np.ndarray,
    spacing: Triple,
    scheme: LabelScheme,
    *,
    smooth: int | None = None,
    max_faces: int = MAX_FACES,
) -> dict[str, trimesh.Trimesh]:
    """One closed mesh per structure, in the order of the scheme, with at most `max_faces` triangles in total.

    `probabilities` are (C, X, Y, Z) with background at channel 0, as a ShapeSpace decodes them, or a label map
    (X, Y, Z) of the scheme's integers. A structure that is not there has no entry; figures say so.
    """
    array = np.asarray(probabilities)
    if array.ndim == 4 and array.shape[0] == scheme.n_classes:
        parts = {s.name: array[c] for c, s in enumerate(scheme.structures, start=1)}
    elif array.ndim == 3 and np.issubdtype(array.dtype, np.integer):
        scheme.check(array)
        parts = {s.name: array == s.value for s in scheme.structures}
    else:
        raise UsageError(
            f"heart_meshes: found an array {array.shape} of {array.dtype}; expected probabilities "
            f"({scheme.n_classes}, X, Y, Z) or a label map (X, Y, Z) of integers"
        )
    size = np.array(spacing3("spacing", spacing))
    fields = {name: f for name, part in parts.items() if (f := _field(part, size, 0.5, True)) is not None}
    marched = {name: _march(f.values, f.spacing, f.level) for name, f in fields.items()}
    total = sum(len(faces) for _, faces in marched.values())
    share = min(1.0, 0.97 * max_faces / max(total, 1))  # each gives up the same part of its triangles
    meshes = {}
    for name, first in marched.items():
        limit = max_faces if share == 1.0 else int(share * len(first[1]))
        meshes[name] = _finish(fields[name], first, smooth, limit)
    return {name: mesh for name, mesh in meshes.items() if mesh is not None}


def missing(meshes: Mapping[str, trimesh.Trimesh], scheme: LabelScheme) -> str:
    """What a figure says about structures without a surface: '' or 'no surface: RV cavity'."""
    absent = [n for n in scheme.names if n not in meshes]
    return f"no surface: {', '.join(absent)}" if absent else ""


def opacities(scheme: LabelScheme) -> dict[str, float]:
    """Structure -> opacity: walls translucent so that the cavities in them are seen, everything else solid."""
    walls = {s.name for s in scheme.structures if "myocardium" in s.name.lower() or "wall" in s.name.lower()}
    return {n: (0.35 if n in walls and len(walls) < len(scheme.names) else 1.0) for n in scheme.names}


def display_vertices(mesh: trimesh.Trimesh, opacity: float) -> np.ndarray:
    """Vertices as drawn: a translucent wall is grown by .8 mm, so as not to flicker with the cavity inside."""
    return mesh.vertices if opacity >= 1 else mesh.vertices + 0.8 * mesh.vertex_normals


def mesh_figure(
    meshes: Mapping[str, trimesh.Trimesh], scheme: LabelScheme, *, title: str = "Surfaces", height: int = 520
) -> go.Figure:
    """Plotly figure of the meshes, axes in mm on one scale; a heart is shown base up with the RV to the left, a
    whole heart from the front, head up.

    Structures without a mesh are named in the title.
    """
    import plotly.graph_objects as go

    alpha, fig = opacities(scheme), go.Figure()
    for structure in (s for s in scheme.structures if s.name in meshes):
        mesh = meshes[structure.name]
        corners = np.round(display_vertices(mesh, alpha[structure.name]), 2).astype(np.float32).T
        faces = mesh.faces.T.astype(np.uint16 if len(mesh.vertices) < 65536 else np.uint32)
        fig.add_mesh3d(
            **dict(zip("xyzijk", (*corners, *faces), strict=True)),
            color=structure.colour,
            opacity=alpha[structure.name],
            name=structure.name,
            showlegend=True,
            hovertemplate=f"{structure.name}<br>x %{{x:.0f}} y %{{y:.0f}} z %{{z:.0f}} mm<extra></extra>",
            lighting={"ambient": 0.55, "diffuse": 0.6, "specular": 0.15, "roughness": 0.6},
        )
    note = missing(meshes, scheme)
    layout = {"legend": {"orientation": "h", "y": -0.02}, "margin": {"l": 0, "r": 0, "t": 50, "b": 0}}
    title = f"{title}<br><sup>{note}</sup>" if note else title
    return fig.update_layout(style.plotly_layout(title, 560, height, scene=_scene(meshes, scheme), **layout))


def _scene(meshes: Mapping[str, trimesh.Trimesh], scheme: LabelScheme) -> dict[str, Any]:
    """Axes of a plotly figure in mm, and where the viewer stands. The ranges are fixed: a structure that is switched
    off in the legend must not change the scale of the others."""
    bounds = np.array([m.bounds for m in meshes.values()]) if meshes else np.array([[[0.0] * 3, [100.0] * 3]])
    low, high = bounds[:, 0].min(axis=0) - 3, bounds[:, 1].max(axis=0) + 3
    ratio = 1.45 * (high - low) / (high - low).max()  # 1.45: as large as it fits while it is turned
    # turned as `style.towards` says (see the module's text)
    ranges = [[b, a] if way < 0 else [a, b] for a, b, way in zip(low, high, style.towards(scheme), strict=True)]
    words = ("x (mm)", "y (mm)", "z (mm)")
    if style.is_heart(scheme):
        words = "x (mm), RV → LV", "y (mm), anterior in front", "z (mm), base up"
    elif style.in_body(scheme):
        words = "x (mm), right → left", "y (mm), anterior in front", "z (mm), head up"
    plain = {"showbackground": False, "gridcolor": style.GRID, "nticks": 5}
    axes = {
        f"{n}axis": {"title": {"text": w}, "range": r, **plain} for n, w, r in zip("xyz", words, ranges, strict=True)
    }
    return axes | {
        "aspectmode": "manual",
        "aspectratio": dict(zip("xyz", ratio.tolist(), strict=True)),
        "camera": {
            "eye": {"x": -0.27, "y": -1.2, "z": 0.41},
            "up": {"x": 0, "y": 0, "z": 1},
            "center": {"x": 0, "y": 0, "z": -0.08},
            "projection": {"type": "orthographic"},
        },
    }
