"""Affine augmentation of label maps, and of images with their label maps, on the device the batch is on.

Random wrappers (`random_affine`, `random_affine_pair`) round a deterministic core (`apply_affine`, `affine_pair`), as
in TorchIO. The core has two paths with one result: compiled loops (numba) for tensors on the CPU, torch for those on a
GPU. The numba path is one thread: OpenMP threads of its own would fight with torch's. `pulled` is that core for any
`Places`, so that an affine map and a deformation (`shapelab.augment.elastic`) are one interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numba
import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from shapelab.device import sent, without_autocast
from shapelab.errors import in_range, must, spacing3, whole


@dataclass(frozen=True)
class AffineRanges:
    """How far a random affine map may go; each number is drawn evenly from -range to +range. 0 leaves it out."""

    # fmt: off
    rotation: tuple[float, float, float] = (5.0, 5.0, 15.0)     # degrees about x, y (tilt), z (in plane)
    scale: float = 0.15                                          # isotropic, as a share: 0.85 to 1.15 of the size
    stretch: float = 0.05                                        # each axis on its own, on top of `scale`
    shear: float = 0.05                                          # tangent of the angle, each pair of axes
    translation: tuple[float, float, float] = (4.0, 4.0, 5.0)   # mm
    # fmt: on

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", tuple(self.rotation))  # JSON gives lists
        object.__setattr__(self, "translation", tuple(self.translation))
        numbers = [*self.rotation, self.scale, self.stretch, self.shear, *self.translation]
        must(
            len(numbers) == 9 and all(math.isfinite(v) and v >= 0 for v in numbers),
            "AffineRanges",
            self,
            "finite numbers from 0, three each of rotation and translation",
        )
        must(
            (1 - self.scale) * (1 - self.stretch) > 0,
            "AffineRanges",
            f"scale {self.scale}, stretch {self.stretch}",
            "both below 1",
        )


def check_images(name: str, images: Tensor) -> None:
    """UsageError unless it is a batch (N, X, Y, Z) of floats."""
    must(
        images.ndim == 4 and images.is_floating_point(),
        name,
        f"shape {tuple(images.shape)} of {images.dtype}",
        "(N, X, Y, Z) of floats",
    )


def check_pair(images: Tensor, labels: Tensor) -> None:
    """UsageError unless the first is a batch (N, X, Y, Z) of floats, and the second of its shape and on its device."""
    check_images("images", images)
    found, wanted = (f"{tuple(x.shape)} on {x.device}" for x in (labels, images))
    must(found == wanted, "labels", f"shape {found}", f"that of images, {wanted}")


def check_generator(generator: Generator | None, device: str) -> None:
    """UsageError for a generator that is not on this type of device."""
    at = device if generator is None else generator.device.type
    must(at == device, "generator", f"one on {at}", f"one on {device}")


def random_matrices(n: int, ranges: AffineRanges, generator: Generator | None = None) -> Tensor:
    """n random affine maps (n, 4, 4) float64 in mm about the centre of the grid, input -> output.

    First scale and stretch, then shear, then the rotations about x, y and z, then the translation. Drawn on the CPU,
    so that a seed gives the same maps on every device. generator None: torch's default one, which `fit` seeds at every
    step.
    """
    check_generator(generator, "cpu")
    draws = torch.rand(n, 13, generator=generator, dtype=torch.float64) * 2 - 1
    angles = draws[:, 0:3] * torch.deg2rad(torch.tensor(ranges.rotation, dtype=torch.float64))
    factors = (1 + ranges.scale * draws[:, 3:4]) * (1 + ranges.stretch * draws[:, 4:7])
    linear = _unit_upper_lower(ranges.shear * draws[:, 7:10]) @ torch.diag_embed(factors)
    for axis in range(3):
        linear = _rotations(angles[:, axis], axis) @ linear
    matrices = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
    matrices[:, :3, :3] = linear
    matrices[:, :3, 3] = draws[:, 10:13] * torch.tensor(ranges.translation, dtype=torch.float64)
    return matrices


def random_affine(
    labels: Tensor, spacing: Sequence[float], ranges: AffineRanges | None = None, generator: Generator | None = None
) -> Tensor:
    """Move every label map of a batch by a random affine map of its own.

    Args:
        labels: (N, X, Y, Z) uint8
        spacing: mm per voxel along x, y, z
        ranges: how far to go
        generator: on the CPU; None is torch's default one

    Returns:
        (N, X, Y, Z) uint8 on the same device; what comes from outside the grid is background 0
    """
    return apply_affine(labels, random_matrices(len(labels), ranges or AffineRanges(), generator), spacing)


def apply_affine(labels: Tensor, matrices: Tensor, spacing: Sequence[float]) -> Tensor:
    """Move label maps (N, X, Y, Z) uint8 by affine maps (N, 4, 4) in mm about the centre of the grid, input -> output.

    Each output voxel takes the label that has most weight among its eight neighbours in the input, weighted linearly:
    linear interpolation of the one-hot map and argmax, as `shapelab.data.grid.to_grid` does it, without making a
    one-hot map. A tie goes to the smaller label.

    Raises UsageError for a wrong shape or type.
    """
    places = Places.of(labels, matrices, spacing)
    if labels.device.type == "cpu":
        return _by_numba(places, torch.empty(len(labels), 0, 0, 0), labels)[1]
    return labels_by_torch(places, labels)


def random_affine_pair(
    images: Tensor,
    labels: Tensor,
    spacing: Sequence[float],
    ranges: AffineRanges | None = None,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Move every image and its label map by one random affine map; see `affine_pair` and `random_affine`."""
    return affine_pair(images, labels, random_matrices(len(labels), ranges or AffineRanges(), generator), spacing)


def affine_pair(images: Tensor, labels: Tensor, matrices: Tensor, spacing: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Move images and their label maps by the same affine maps.

    Args:
        images: (N, X, Y, Z) of any floating type; interpolated linearly, in fp32 at least
        labels: (N, X, Y, Z) uint8; moved as by `apply_affine`
        matrices: (N, 4, 4) in mm about the centre of the grid, input -> output
        spacing: mm per voxel along x, y, z

    Returns:
        A tuple of

        - images, labels: of the same types, on the same device. No gradient flows through.

        Outside the grid the image is 0, as the label is background, and within one voxel of the border both fade alike.
        To repeat the image's edge would draw a heart that reaches the border on beyond it, where the label says
        background; 0 is also what `shapelab.data.grid.to_grid` puts where nothing was scanned, so the network meets it
        in real data as well.

        Raises UsageError for a wrong shape or type.
    """
    check_pair(images, labels)
    return pulled(Places.of(labels, matrices, spacing), images, labels)


def swap_labels(labels: Tensor, p: float, n_classes: int, generator: Generator | None = None) -> Tensor:
    """Give each voxel, with probability p, the label of another class, each of the other classes equally likely.

    labels (N, X, Y, Z) channel numbers, 0 to n_classes - 1, on any device; generator on that device, None is torch's
    default one.
    """
    in_range("p", p, 0, 1)
    whole("n_classes", n_classes, 2)
    if p == 0:
        return labels
    draw = torch.rand(labels.shape, generator=generator, device=labels.device)
    # one draw does for both: below p it is spread evenly over [0, p), which tells the classes apart
    offset = 1 + (draw * ((n_classes - 1) / p)).clamp(max=n_classes - 2).to(labels.dtype)
    return torch.where(draw < p, (labels + offset) % n_classes, labels)


# ---------------------------------------------------------------------------------------------------------- the core


def _rotations(angles: Tensor, axis: int) -> Tensor:
    """Rotations (n, 3, 3) about one axis by angles (n,) in radians."""
    cos, sin = torch.cos(angles), torch.sin(angles)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    out = torch.eye(3, dtype=torch.float64).repeat(len(angles), 1, 1)
    out[:, i, i], out[:, i, j], out[:, j, i], out[:, j, j] = cos, -sin, sin, cos
    return out


def _unit_upper_lower(shears: Tensor) -> Tensor:
    """Shear matrices with xy, xz and yz components; determinant 1, so that shear does not change volume."""
    out = torch.eye(3, dtype=torch.float64).repeat(len(shears), 1, 1)
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = shears.unbind(1)
    return out


@dataclass(frozen=True)
class Places:
    """Where the voxels of the output come from in the input, both in voxel indices: an affine map, then a shift.

    Attributes:
        maps: (N, 3, 4) float64 on the CPU
        knots: (N, 3, gx, gy, gz) float64, the shift at some knots; None is no shift
        tables: (X, gx), (Y, gy), (Z, gz) float64, what each knot along an axis adds to each voxel along it
    """

    maps: Tensor
    knots: Tensor | None = None
    tables: Sequence[Tensor] = ()

    @staticmethod
    def of(labels: Tensor, matrices: Tensor, spacing: Sequence[float]) -> Places:
        """Of a batch of label maps moved by affine maps in mm; UsageError for a wrong shape or type."""
        must(
            labels.ndim == 4 and labels.dtype == torch.uint8,
            "labels",
            f"shape {tuple(labels.shape)} of {labels.dtype}",
            "(N, X, Y, Z) of uint8",
        )
        wanted = (len(labels), 4, 4)
        must(matrices.shape == wanted, "matrices", f"shape {tuple(matrices.shape)}", str(wanted))
        return Places(_voxel_matrices(matrices, labels.shape[1:], spacing))

    def spread(self, like: Tensor, axes: int) -> Tensor | None:
        """The shift (N, 3, X, Y, Z), at the voxels along the first `axes` axes and at the knots along the others.

        On the device and of the type of `like`; None is no shift.
        """
        if self.knots is None:
            return None
        values = sent(self.knots.to(like.dtype), like.device)
        with without_autocast(like.device):  # bf16 has two digits, and a place three
            for axis, table in enumerate(self.tables[:axes], start=2):
                values = torch.tensordot(values, sent(table.to(like.dtype), like.device), ([axis], [1]))
                values = values.movedim(-1, axis)
        return values


def pulled(places: Places, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images and their label maps, each voxel from its place; see `affine_pair`. Nothing is checked."""
    fine = images.detach().to(torch.promote_types(images.dtype, torch.float32))
    if labels.device.type == "cpu":
        moved, moved_labels = _by_numba(places, fine, labels)
    else:
        moved, moved_labels = images_by_torch(places, fine), labels_by_torch(places, labels)
    return moved.to(images.dtype), moved_labels


def _voxel_matrices(matrices: Tensor, shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Maps in mm, input -> output, to maps in voxel indices, output -> input: (N, 3, 4) float64 on the CPU."""
    size = torch.tensor(spacing3("spacing", spacing), dtype=torch.float64)
    inverse = torch.linalg.inv(matrices.to("cpu", torch.float64))
    centre = (torch.tensor(list(shape), dtype=torch.float64) - 1) / 2
    linear = inverse[:, :3, :3] * size / size[:, None]
    offset = inverse[:, :3, 3] / size + centre - linear @ centre
    return torch.cat([linear, offset[:, :, None]], dim=2)


def _by_numba(places: Places, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Image and label by compiled loops; images of no voxel, where there are only labels."""
    n, sx, sy, sz = labels.shape
    rows, steps = np.empty((n, sx, sy, 3, 0)), np.empty((0, sz))
    shift = places.spread(places.maps, 2)  # the last axis is left to the loops, row by row: that saves memory
    if shift is not None:
        rows = shift.permute(0, 2, 3, 1, 4).contiguous().numpy()
        steps = places.tables[2].T.contiguous().numpy()
    arrays = _affine_numba(images.contiguous().numpy(), labels.contiguous().numpy(), places.maps.numpy(), rows, steps)
    return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])


@numba.njit(nogil=True, cache=True)
def _elect(near: np.ndarray, weight: np.ndarray, votes: np.ndarray) -> int:  # pragma: no cover - compiled
    """The label of most weight among eight neighbours, of two alike the smaller; `votes` is left at 0."""
    for k in range(8):
        votes[near[k]] += weight[k]
    best, winner = -1.0, 0
    for k in range(8):
        label = near[k]
        if votes[label] > best or (votes[label] == best and label < winner):
            best, winner = votes[label], label
    for k in range(8):
        votes[near[k]] = 0.0
    return winner


@numba.njit(nogil=True, cache=True)
def _affine_numba(
    images: np.ndarray, labels: np.ndarray, maps: np.ndarray, rows: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover - compiled
    """Image and label in one pass; images of no voxel, where there are only labels. maps: (N, 3, 4), output -> input
    voxel indices, to which rows (N, X, Y, 3, G) @ steps (G, Z) are added; G may be 0. Inside the grid the eight
    neighbours are read without asking one by one whether they are there: 2.3 times as fast as a loop over them."""
    n, sx, sy, sz = labels.shape
    moved, out = np.zeros_like(images), np.zeros_like(labels)
    with_image = images.size > 0
    votes, weight, near, shift = np.zeros(256), np.empty(8), np.empty(8, np.uint8), np.zeros((3, sz))
    for s in range(n):
        image, source, m = images[s].ravel(), labels[s].ravel(), maps[s]
        for x in range(sx):
            for y in range(sy):
                _product(rows[s, x, y], steps, shift)
                for z in range(sz):
                    fx = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3] + shift[0, z]
                    fy = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3] + shift[1, z]
                    fz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3] + shift[2, z]
                    if fx <= -1 or fy <= -1 or fz <= -1 or fx >= sx or fy >= sy or fz >= sz:
                        continue
                    ix, iy, iz = int(np.floor(fx)), int(np.floor(fy)), int(np.floor(fz))
                    wx, wy, wz = fx - ix, fy - iy, fz - iz
                    if 0 <= ix < sx - 1 and 0 <= iy < sy - 1 and 0 <= iz < sz - 1:
                        a = (ix * sy + iy) * sz + iz  # neighbours a, b in y, c in x, d in both; + 1 in z
                        b, c, d = a + sz, a + sy * sz, a + sy * sz + sz
                        if with_image:
                            low = image[a] + wz * (image[a + 1] - image[a])
                            low += wy * (image[b] + wz * (image[b + 1] - image[b]) - low)
                            high = image[c] + wz * (image[c + 1] - image[c])
                            high += wy * (image[d] + wz * (image[d + 1] - image[d]) - high)
                            moved[s, x, y, z] = low + wx * (high - low)
                        first = source[a]
                        same = (source[a + 1] == first) & (source[b] == first) & (source[b + 1] == first)
                        same &= (source[c] == first) & (source[c + 1] == first)
                        if same & (source[d] == first) & (source[d + 1] == first):  # most voxels: nothing to weigh
                            out[s, x, y, z] = first
                            continue
                        near[0], near[1], near[2], near[3] = first, source[a + 1], source[b], source[b + 1]
                        near[4], near[5], near[6], near[7] = source[c], source[c + 1], source[d], source[d + 1]
                        _weigh(wx, wy, wz, weight)
                        out[s, x, y, z] = _elect(near, weight, votes)
                        continue
                    total = 0.0
                    _weigh(wx, wy, wz, weight)
                    for k in range(8):
                        px, py, pz = ix + ((k >> 2) & 1), iy + ((k >> 1) & 1), iz + (k & 1)
                        near[k] = 0
                        if 0 <= px < sx and 0 <= py < sy and 0 <= pz < sz:
                            near[k] = source[(px * sy + py) * sz + pz]
                            if with_image:
                                total += weight[k] * image[(px * sy + py) * sz + pz]
                    if with_image:
                        moved[s, x, y, z] = total
                    out[s, x, y, z] = _elect(near, weight, votes)
    return moved, out


@numba.njit(nogil=True, cache=True)
def _product(row: np.ndarray, steps: np.ndarray, shift: np.ndarray) -> None:  # pragma: no cover - compiled
    """row (3, G) @ steps (G, Z) into `shift` (3, Z), which stays as it is where G is 0."""
    for axis in range(3):
        for g in range(len(steps)):
            for z in range(steps.shape[1]):
                shift[axis, z] = row[axis, g] * steps[g, z] + (shift[axis, z] if g else 0.0)


@numba.njit(nogil=True, cache=True)
def _weigh(wx: float, wy: float, wz: float, weight: np.ndarray) -> None:  # pragma: no cover - compiled
    """Linear weights of the eight neighbours, z fastest, into `weight`."""
    for k in range(8):
        dx, dy, dz = (k >> 2) & 1, (k >> 1) & 1, k & 1
        weight[k] = (wx if dx else 1 - wx) * (wy if dy else 1 - wy) * (wz if dz else 1 - wz)


def _at_voxels(maps: Tensor, shape: Sequence[int], shift: Tensor | None) -> list[Tensor]:
    """What affine maps (N, 3, 4) make of every voxel index, and a shift: three coordinates (N, X, Y, Z) each."""
    x, y, z = (torch.arange(size, device=maps.device, dtype=maps.dtype) for size in shape)
    rows = (maps[:, row, :, None, None, None] for row in range(3))
    places = [m[:, 0] * x[:, None, None] + m[:, 1] * y[:, None] + m[:, 2] * z + m[:, 3] for m in rows]
    return places if shift is None else [place + step for place, step in zip(places, shift.unbind(1))]


def images_by_torch(places: Places, images: Tensor) -> Tensor:
    """The image's part of the same on any device, by `grid_sample`: index i lies at (2 i + 1) / size - 1."""
    n, *shape = images.shape
    size = torch.tensor(shape).double()[:, None]
    maps = torch.cat([2 * places.maps[:, :, :3], 2 * places.maps[:, :, 3:] + 1], dim=2) / size
    maps = sent((maps - torch.tensor([0.0, 0.0, 0.0, 1.0])).to(images.dtype), images.device)
    shift = places.spread(images, 3)
    if shift is not None:
        shift = shift * sent((2 / size).to(images.dtype), images.device)[:, :, None, None]
    rows = _at_voxels(maps, shape, shift)[::-1]  # grid_sample: last axis first
    return F.grid_sample(images[:, None], torch.stack(rows, dim=-1), padding_mode="zeros", align_corners=False)[:, 0]


def labels_by_torch(places: Places, labels: Tensor) -> Tensor:
    """The same on any device: gather the eight neighbours, then let the label of each collect its weights."""
    n, *shape = labels.shape
    maps = sent(places.maps.to(torch.float32), labels.device)
    found = _at_voxels(maps, shape, places.spread(maps, 3))
    low, fraction = [place.floor().long() for place in found], [place - place.floor() for place in found]
    neighbours, weights = [], []
    for k in range(8):
        corner = [(k >> 2) & 1, (k >> 1) & 1, k & 1]
        where = [start + step for start, step in zip(low, corner)]
        inside = torch.stack([(w >= 0) & (w < size) for w, size in zip(where, shape)]).all(0)
        flat = (where[0] * shape[1] + where[1]) * shape[2] + where[2]
        taken = labels.flatten(1).gather(1, torch.where(inside, flat, 0).flatten(1)).view_as(flat)
        neighbours.append(torch.where(inside, taken, 0))
        x, y, z = (f if step else 1 - f for f, step in zip(fraction, corner))
        weights.append(x * y * z)
    return most_weight(neighbours, weights)


def most_weight(neighbours: list[Tensor], weights: list[Tensor]) -> Tensor:
    """The label of most weight among the neighbours of each place, of two alike the smaller; 0 where none has any.

    Background has votes to begin with; then each neighbour's label is a candidate, so that the device need not tell
    which labels there are.
    """
    winner, best = torch.zeros_like(neighbours[0]), _votes(0, neighbours, weights)
    for label in neighbours:
        votes = _votes(label, neighbours, weights)
        better = (votes > best) | ((votes == best) & (label < winner))
        winner, best = torch.where(better, label, winner), torch.where(better, votes, best)
    return winner


def _votes(label: Tensor | int, neighbours: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Sum of the weights of those neighbours that have this label."""
    return reduce(torch.add, (torch.where(near == label, w, 0.0) for near, w in zip(neighbours, weights)))
