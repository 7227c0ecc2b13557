"""Surfaces of all labels of two label maps, and the distances between them: the compiled part of `evaluate`.

One pass over both maps counts the overlaps and lists the surface voxels of every label. The distance from a surface
voxel to the other surface is then looked up: the offsets to all neighbours are sorted by their length in mm, and the
first one that lands on the other surface is the answer. Two surfaces that nearly agree are done after a few steps each.
What no offset reaches is left to a k-d tree.

Coordinates are voxel indices (n, 3), spacing and distances mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from scipy.spatial import cKDTree

# So many neighbours are looked up before the k-d tree takes over: a ball of 10 mm at 1 mm, of 14.5 mm at
# 1.25 x 1.25 x 2 mm. Past that the tree's logarithm wins over the ball's cube.
N_OFFSETS = 4096
# The tree takes a point at once if its neighbour on the surface says that most of the ball is empty.
GIVE_UP = 0.75
MAX_REACH = 64  # voxels: however long a voxel is, its neighbours across it are not looked for so far away
N_BUCKETS = 256


@dataclass(frozen=True)
class Surfaces:
    """What one pass over two label maps finds.

    Attributes:
        prediction: label -> surface (n, 3) int32 coordinates, in raster order
        truth: label -> surface (n, 3) int32 coordinates, in raster order
        size_prediction: voxels of each label (index = label) in either map and in both
        size_truth: see `size_prediction`
        overlap: see `size_prediction`
    """

    prediction: dict[int, np.ndarray]
    truth: dict[int, np.ndarray]
    size_prediction: np.ndarray
    size_truth: np.ndarray
    overlap: np.ndarray

    def sizes(self, label: int) -> tuple[int, int, int]:
        """Voxels of a label in the prediction, in the truth and in both."""
        return int(self.size_prediction[label]), int(self.size_truth[label]), int(self.overlap[label])


def scan(prediction: np.ndarray, truth: np.ndarray) -> Surfaces:
    """Overlaps and voxel surfaces of every label of two maps (D0, D1, D2) of unsigned integers of one type.

    A voxel is of the surface of its label if one of its six face neighbours has another label, or if it lies at the
    border of the array: what is outside counts as background, as in scipy's binary_erosion and in MONAI.
    """
    a, b = np.ascontiguousarray(prediction), np.ascontiguousarray(truth)
    top = int(max(a.max(), b.max()))
    found = _scan(a.ravel(), b.ravel(), _words(a), _words(b), a.shape, top)
    sizes, (list_a, list_b) = found[:3], found[3:]
    surfaces = (_by_label(flat, volume, top) for flat, volume in ((list_a, a), (list_b, b)))
    return Surfaces(*surfaces, *sizes)


def distances(points: np.ndarray, surface: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Distance in mm from each of `points` (n, 3) to the nearest of `surface` (m, 3), both voxel indices; float64 (n,).

    Exact. Points in raster order are fastest: each starts where its neighbour's distance says that it can.
    """
    offsets, length, start, reach = _offsets(spacing)
    found = _search(points, surface, np.array(spacing), offsets, length, start, reach)
    far = np.flatnonzero(found < 0)
    if len(far):
        tree = cKDTree(surface * np.array(spacing), balanced_tree=False, compact_nodes=False)
        found[far] = tree.query(points[far] * np.array(spacing))[0]
    return found


@lru_cache(maxsize=16)
def _offsets(spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Offsets (n, 3) sorted by length, their lengths in mm, the first of each length class, and the reach by axis."""
    radius = min((3 * N_OFFSETS * np.prod(spacing) / (4 * np.pi)) ** (1 / 3), MAX_REACH * min(spacing))
    reach = np.array([int(radius / s) for s in spacing])  # 0 where one voxel is longer than all that
    grid = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    length = np.sqrt(((grid * np.array(spacing)) ** 2).sum(1))
    order = np.argsort(length, kind="stable")
    order = order[length[order] <= radius]
    offsets, length = grid[order].astype(np.int32), length[order]
    start = np.searchsorted(length, np.arange(N_BUCKETS + 1) * (radius / N_BUCKETS), side="left")
    return offsets, np.append(length, radius), start, reach


def _words(volume: np.ndarray) -> np.ndarray:
    """The array as 64-bit words, so that empty voxels are passed over many at a time, without a rest at the end."""
    flat = volume.ravel()
    per = 8 // flat.itemsize
    return flat[: flat.size // per * per].view(np.uint64)


def _by_label(flat: np.ndarray, volume: np.ndarray, top: int) -> dict[int, np.ndarray]:
    """Surface voxels, given as flat indices, by label: coordinates (n, 3)."""
    coordinates, first = _group(flat, volume.ravel(), np.array(volume.shape), top)
    return {int(v): coordinates[first[v] : first[v + 1]] for v in np.flatnonzero(np.diff(first))}


# ------------------------------------------------------------------------------------------------ compiled


@numba.njit(nogil=True, cache=True)
def _scan(a, b, words_a, words_b, shape, top):  # pragma: no cover - compiled
    """Sizes of each label in both maps and of the overlap, and flat indices of the surface voxels of either."""
    nx, ny, nz = shape
    size_a, size_b = np.zeros(top + 1, np.int64), np.zeros(top + 1, np.int64)
    both = np.zeros(top + 1, np.int64)
    list_a, list_b = np.empty(4096, np.int64), np.empty(4096, np.int64)
    n_a, n_b = 0, 0
    per = 8 // a.itemsize
    n_words = len(words_a)
    for i in range(nx):
        for j in range(ny):
            low = (i * ny + j) * nz
            high = low + nz
            # words that hold something, from the first to the last; they may reach into the next row
            first, last = high, low
            for w in range(low // per, (high + per - 1) // per):
                if w >= n_words or words_a[w] | words_b[w]:
                    first = min(first, max(low, w * per))
                    last = min(high, (w + 1) * per)
            if first >= last:
                continue
            at_border = i == 0 or i == nx - 1 or j == 0 or j == ny - 1
            if n_a + nz > len(list_a):
                list_a = _longer(list_a, n_a, nz)
            if n_b + nz > len(list_b):
                list_b = _longer(list_b, n_b, nz)
            for p in range(first, last):
                va, vb = a[p], b[p]
                if va == 0 and vb == 0:
                    continue
                border = at_border or p == low or p == high - 1
                if va:
                    size_a[va] += 1
                    if border or _differs(a, p, va, nz, ny * nz):
                        list_a[n_a] = p
                        n_a += 1
                    if va == vb:
                        both[va] += 1
                if vb:
                    size_b[vb] += 1
                    if border or _differs(b, p, vb, nz, ny * nz):
                        list_b[n_b] = p
                        n_b += 1
    return size_a, size_b, both, list_a[:n_a], list_b[:n_b]


@numba.njit(nogil=True, cache=True, inline="always")
def _differs(a, p, value, row, plane):  # pragma: no cover - compiled
    """Whether one of the six face neighbours of a flat index has another label."""
    return (
        a[p - 1] != value
        or a[p + 1] != value
        or a[p - row] != value
        or a[p + row] != value
        or a[p - plane] != value
        or a[p + plane] != value
    )


@numba.njit(nogil=True, cache=True)
def _longer(values, n, more):  # pragma: no cover - compiled
    """A list with room for as many again and `more`."""
    longer = np.empty(2 * (n + more), values.dtype)
    longer[:n] = values[:n]
    return longer


@numba.njit(nogil=True, cache=True)
def _group(flat, labels, shape, top):  # pragma: no cover - compiled
    """Flat indices -> coordinates (n, 3), sorted by label (a counting sort), and where each label begins (top + 2,)."""
    first = np.zeros(top + 2, np.int64)
    for p in flat:
        first[labels[p] + 1] += 1
    for v in range(top + 1):
        first[v + 1] += first[v]
    where = first.copy()
    coordinates = np.empty((len(flat), 3), np.int32)
    ny, nz = shape[1], shape[2]
    for p in flat:
        n = where[labels[p]]
        where[labels[p]] += 1
        row = p // nz
        coordinates[n, 0], coordinates[n, 1], coordinates[n, 2] = row // ny, row % ny, p - row * nz
    return coordinates, first


@numba.njit(nogil=True, cache=True)
def _extent(points):  # pragma: no cover - compiled
    """Lowest and highest coordinates of points (n, 3)."""
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for d in range(3):
        low[d], high[d] = points[:, d].min(), points[:, d].max()
    return low, high


@numba.njit(nogil=True, cache=True)
def _search(points, surface, spacing, offsets, length, start, reach):  # pragma: no cover - compiled
    """Distance from each point to the surface, -1 where it is longer than the longest offset (or taken to be)."""
    n_offsets = len(offsets)
    radius = length[n_offsets]
    out = np.empty(len(points))
    low, high = _extent(surface)
    low_p, high_p = _extent(points)
    # a box round the points that the surface may be within reach of, with room for that reach: no offset leaves it
    origin = np.maximum(low - reach, low_p) - reach
    size = np.minimum(high + reach, high_p) + reach - origin + 1
    if (size <= 2 * reach).any():  # no such point
        out[:] = -1.0
        return out
    stride_0, stride_1 = size[1] * size[2], size[2]
    box = np.zeros(size[0] * stride_0, np.uint8)
    for n in range(len(surface)):
        x, y, z = surface[n, 0] - origin[0], surface[n, 1] - origin[1], surface[n, 2] - origin[2]
        if 0 <= x < size[0] and 0 <= y < size[1] and 0 <= z < size[2]:
            box[x * stride_0 + y * stride_1 + z] = 1
    steps = offsets[:, 0] * stride_0 + offsets[:, 1] * stride_1 + offsets[:, 2]

    least = 0.0  # the distance of the last point is at least that
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        if n > 0:
            # triangle inequality: no nearer than the last point's distance less the step from it
            dx = (x - points[n - 1, 0]) * spacing[0]
            dy = (y - points[n - 1, 1]) * spacing[1]
            dz = (z - points[n - 1, 2]) * spacing[2]
            least = max(0.0, least - np.sqrt(dx * dx + dy * dy + dz * dz) - 1e-9 * radius)
        out[n] = -1.0
        if (
            x < low[0] - reach[0]
            or x > high[0] + reach[0]
            or y < low[1] - reach[1]
            or y > high[1] + reach[1]
            or z < low[2] - reach[2]
            or z > high[2] + reach[2]
        ):
            least = radius
            continue
        if least > GIVE_UP * radius:
            continue
        centre = (x - origin[0]) * stride_0 + (y - origin[1]) * stride_1 + z - origin[2]
        least_here = least
        least = radius
        for m in range(start[int(least_here / radius * N_BUCKETS)], n_offsets):
            if box[centre + steps[m]]:
                out[n] = length[m]
                least = length[m]
                break
    return out
