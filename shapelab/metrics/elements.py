"""Surfaces as elements with an area, between voxel centres: the definition of DeepMind's surface-distance.

Every cube of 2x2x2 neighbouring voxel centres that is neither empty nor full holds one element of the surface. It lies
at the cube's centre, and its area is that of the marching cubes' triangles in it. Distances are between centres; hd95
and assd weight each element by its area. (Nikolov et al. 2021, "Clinically applicable segmentation of head and neck
anatomy", J Med Internet Res 23(7):e26151; MONAI has the same as `use_subvoxels`.)

Beside voxel surfaces these have no thickness: a plane cut into voxels has one layer of elements on the plane itself,
where its voxel surface lies half a voxel inside; and each part of a surface counts by its area (that of a ball comes
out 9 % too large: the staircase of voxels is rough), not by the number of voxels that it cuts.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np

from shapelab.data.geometry import bounding_box

Surface = tuple[np.ndarray, np.ndarray]  # cubes (n, 3) in raster order, areas (n,) mm2


def element_surfaces(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[dict[int, Surface], dict[int, Surface]]:
    """Label -> surface elements, for every label of two maps (D0, D1, D2) of unsigned integers; one frame for both.

    Cube (i, j, k) has voxel (i, j, k) at its far corner and voxel (i-1, j-1, k-1) at its near one; what is outside the
    array is background, so that cubes go from 0 to D.
    """
    area = element_areas(spacing)
    box = bounding_box(prediction | truth) or (slice(0, 1),) * 3  # one voxel of background if there is no label
    origin = np.array([cut.start for cut in box], np.int32)
    surfaces = []
    for volume in (prediction, truth):
        cubes, labels, codes = _cubes(np.pad(volume[box], 1))
        order = np.argsort(labels, kind="stable")
        cubes, labels, areas = cubes[order] + origin, labels[order], area[codes[order]]
        values, first = np.unique(labels, return_index=True)
        ends = np.append(first[1:], len(labels))
        surfaces.append({int(v): (cubes[i:j], areas[i:j]) for v, i, j in zip(values, first, ends)})
    return surfaces[0], surfaces[1]


@lru_cache(maxsize=16)
def element_areas(spacing: tuple[float, float, float]) -> np.ndarray:
    """Area (mm2) of the surface in a cube of 2x2x2 voxel centres, for each of the 256 ways to fill it; (256,) float64.

    Bit 4 x + 2 y + z of the way stands for the corner (x, y, z).
    """
    triangles, ways = _triangles()
    corners = triangles * np.array(spacing)
    doubled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.bincount(ways, np.linalg.norm(doubled, axis=1) / 2, minlength=256)


@lru_cache(maxsize=1)
def _triangles() -> tuple[np.ndarray, np.ndarray]:
    """Triangles (n, 3 corners, 3) of marching cubes for the 254 mixed ways, corners at the middles of edges, and their
    ways.

    Where a face is ambiguous (two full corners across), Lorensen and Cline cut off what is full; a way with more than
    four full corners is taken as its complement, so that the surface of a shape is also that of what it leaves out.
    """
    from skimage.measure import marching_cubes

    triangles, ways = [], []
    for way in range(1, 255):
        full = (way >> np.arange(8)) & 1
        if full.sum() > 4:
            full = 1 - full
        corners, faces, _, _ = marching_cubes(full.reshape(2, 2, 2).astype(float), 0.5, method="lorensen")
        triangles.append(corners[faces])
        ways += [way] * len(faces)
    return np.concatenate(triangles), np.array(ways)


@numba.njit(nogil=True, cache=True)
def _cubes(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    """Mixed cubes of a map with a border of 0: coordinates (n, 3), label and way; a cube may be of many labels."""
    n0, n1, n2 = a.shape[0] - 1, a.shape[1] - 1, a.shape[2] - 1
    capacity, n = 4096, 0
    cubes, labels, ways = np.empty((capacity, 3), np.int32), np.empty(capacity, np.int64), np.empty(capacity, np.uint8)
    corner = np.empty(8, a.dtype)
    for i in range(n0):
        for j in range(n1):
            if n + 8 * n2 > capacity:
                capacity = 2 * (capacity + 8 * n2)
                more_cubes, more_labels = np.empty((capacity, 3), np.int32), np.empty(capacity, np.int64)
                more_ways = np.empty(capacity, np.uint8)
                more_cubes[:n], more_labels[:n], more_ways[:n] = cubes[:n], labels[:n], ways[:n]
                cubes, labels, ways = more_cubes, more_labels, more_ways
            for k in range(n2):
                v = a[i, j, k]
                if (
                    v == a[i, j, k + 1]
                    and v == a[i, j + 1, k]
                    and v == a[i, j + 1, k + 1]
                    and v == a[i + 1, j, k]
                    and v == a[i + 1, j, k + 1]
                    and v == a[i + 1, j + 1, k]
                    and v == a[i + 1, j + 1, k + 1]
                ):
                    continue
                for m in range(8):
                    corner[m] = a[i + (m >> 2), j + ((m >> 1) & 1), k + (m & 1)]
                for m in range(8):
                    if corner[m] == 0:
                        continue
                    way, seen = 0, False
                    for other in range(8):
                        if corner[other] == corner[m]:
                            seen = seen or other < m
                            way |= 1 << other
                    if not seen:
                        cubes[n, 0], cubes[n, 1], cubes[n, 2] = i, j, k
                        labels[n], ways[n] = corner[m], way
                        n += 1
    return cubes[:n], labels[:n], ways[:n]
