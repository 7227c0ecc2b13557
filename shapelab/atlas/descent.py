"""What a free-form deformation minimises at one level, its gradient, and the descent; numpy or torch, one code.

The parts that cost time have two paths (`shapelab.atlas.consistency`); the rest is products of small matrices, written
once for both kinds of array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from shapelab.atlas.bspline import Lattice, apply_terms, jacobian, spread
from shapelab.atlas.consistency import consistency
from shapelab.atlas.frame import Frame
from shapelab.data.geometry import bounding_box
from shapelab.data.scheme import present_values
from shapelab.errors import need

FOLDING = 10.0  # weight of the penalty; a cell of 10 mm that folds costs what the labels of its wall are worth
BETAS = 0.9, 0.98  # of Adam: means over about 10 gradients and 50 squares


@dataclass(frozen=True, eq=False)
class Problem:
    """Two label maps as channel numbers, cropped to where they matter, and the map between them.

    Attributes:
        target: (p0, p1, p2) uint8 in `frame`, the target's voxels within the domain
        atlas: (q0, q1, q2) uint8 round the atlas' labels; its voxel (0, 0, 0) is `corner` of the whole
        matrix: (3, 4) mm of the target -> voxel index of the whole atlas
        device: None for numpy
    """

    target: np.ndarray
    frame: Frame
    atlas: np.ndarray
    spacing: tuple[float, float, float]
    corner: np.ndarray
    matrix: np.ndarray
    channels: int
    domain: np.ndarray
    device: torch.device | None

    @staticmethod
    def of(target, atlas, target_frame: Frame, atlas_frame: Frame, affine, domain, device=None) -> Problem:
        """From whole label maps (numpy). DataError where they hold more than 255 labels."""
        values = sorted({0, *present_values(target), *present_values(atlas)})
        need(len(values) <= 255, "label maps", f"{len(values)} labels", "at most 255")
        frame, crop = target_frame.part(*domain)
        around = bounding_box(atlas)
        corner = np.array([s.start for s in around])
        matrix = (np.linalg.inv(atlas_frame.matrix) @ affine)[:3]
        parts = (np.searchsorted(values, a[c]).astype(np.uint8) for a, c in ((target, crop), (atlas, around)))
        target, atlas = (np.ascontiguousarray(p) for p in parts)
        return Problem(target, frame, atlas, atlas_frame.spacing, corner, matrix, len(values), domain, device)

    def at(
        self, lattice: Lattice, blur: float, sampling: float, bending: float, stretch: float, least_jacobian: float
    ) -> Cost:
        """What is minimised at one level; lengths in mm."""
        array = np.asarray if self.device is None else lambda a: torch.as_tensor(a, device=self.device)
        thin = [max(1, round(sampling / s)) for s in self.frame.spacing]
        frame = self.frame.every(thin)
        target = np.ascontiguousarray(self.target[tuple(slice(None, None, n) for n in thin)])
        thin = [max(1, round(sampling / s)) for s in self.spacing]
        matrices = [_thinning(n, s, blur, k) for n, s, k in zip(self.atlas.shape, self.spacing, thin)]
        firsts = [first for first, _ in matrices]
        hot = (self.atlas == np.arange(1, self.channels).reshape(-1, 1, 1, 1)).astype(np.float32)
        maps = np.empty((self.channels, *(len(m) for _, m in matrices)), np.float32)
        maps[1:] = spread(hot, *(m for _, m in matrices))
        maps[0] = 1 - maps[1:].sum(0)
        matrix = self.matrix.copy()
        matrix[:, 3] -= self.corner + firsts
        matrix /= np.array(thin)[:, None]
        bases = [b.astype(np.float32) for b in lattice.bases(frame.positions())]
        sparse = [np.linspace(low, high, max(2, round(2 * (high - low) / lattice.step))) for low, high in self.domain.T]
        slopes = [[b.astype(np.float32) for b in lattice.bases(sparse, np.eye(3, dtype=int)[d])] for d in range(3)]
        terms = [(w, [m.astype(np.float32) for m in ms]) for w, ms in lattice.energy_terms(bending, stretch)]
        return Cost(
            array(target),
            array(maps),
            matrix,
            frame,
            [array(b) for b in bases],
            [(w, [array(m) for m in ms]) for w, ms in terms],
            [[array(b) for b in bs] for bs in slopes],
            least_jacobian,
        )


@dataclass(frozen=True, eq=False)
class Cost:
    """E(c) of `shapelab.atlas.ffd` and its gradient; c and gradient (3, n0, n1, n2) float32 of the engine's kind."""

    target: object
    maps: object
    matrix: np.ndarray
    frame: Frame
    bases: list
    terms: list
    slopes: list
    least_jacobian: float

    def array(self, coefficients: np.ndarray):
        """Coefficients of the engine's kind."""
        if isinstance(self.maps, np.ndarray):
            return np.asarray(coefficients, np.float32)
        return torch.as_tensor(coefficients, dtype=torch.float32, device=self.maps.device)

    def data(self, c):
        """Mean consistency and its gradient."""
        u = spread(c, *self.bases)
        gradient = np.empty_like(u) if isinstance(u, np.ndarray) else torch.empty_like(u)
        n = float(np.prod(self.frame.shape))
        total = consistency(self.target, self.maps, self.matrix, self.frame.origin, self.frame.spacing, u, gradient)
        return total / n, spread(gradient, *(b.T for b in self.bases)) / n

    def __call__(self, c):
        value, gradient = self.data(c)
        energy, energy_gradient = apply_terms(c, self.terms)
        penalty, penalty_gradient = folding_penalty(c, self.slopes, self.least_jacobian)
        return (float(energy) - value + FOLDING * penalty, energy_gradient - gradient + FOLDING * penalty_gradient)

    def consistency(self, coefficients: np.ndarray) -> float:
        """Mean probability of the target's labels, within the domain."""
        return float(self.data(self.array(coefficients))[0])


def folding_penalty(c, slopes, least: float):
    """Mean over sparse places of max(0, least - det(I + du/dx))^2, and its gradient.

    Args:
        slopes: for each axis d the basis matrices that give du/dx_d at those places
    """
    a, b, d = columns = [spread(c, *bases) for bases in slopes]
    for axis, column in enumerate(columns):
        column[axis] += 1
    cofactors = _cross(b, d), _cross(d, a), _cross(a, b)
    short = (least - (a * cofactors[0]).sum(0)).clip(min=0)
    n = float(np.prod(short.shape))
    push = (-2 / n) * short
    if not float(short.max()) > 0:  # most of the time
        return 0.0, 0 * c
    gradient = sum(spread(push * f, *(m.T for m in bases)) for f, bases in zip(cofactors, slopes))
    return float((short * short).sum()) / n, gradient


def _cross(a, b):
    """Cross products of vectors along the first axis."""
    rows = [a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return np.stack(rows) if isinstance(a, np.ndarray) else torch.stack(rows)


def descend(cost: Cost, coefficients: np.ndarray, iterations: int, step_mm: float) -> np.ndarray:
    """Adam with a step that falls evenly from `step_mm` to 0; coefficients (3, n0, n1, n2) float32, numpy."""
    c = cost.array(coefficients)
    first, second = 0 * c, 0 * c
    for k in range(iterations):
        gradient = cost(c)[1]
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient * gradient
        mean, size = first / (1 - BETAS[0] ** (k + 1)), (second / (1 - BETAS[1] ** (k + 1))) ** 0.5
        # control points without data have next to no gradient, which must not be blown up to a full step
        c = c - step_mm * (1 - k / iterations) * mean / (size + 1e-3 * size.max() + 1e-30)
    return c if isinstance(c, np.ndarray) else c.cpu().numpy()


def without_folds(lattice: Lattice, before: np.ndarray, after: np.ndarray, positions, guard: bool = True):
    """The displacement `after`, drawn back towards `before` as far as it takes for no determinant to be <= 0.

    Args:
        before: coefficients on one lattice; `before` has no folds
        after: coefficients on one lattice; `before` has no folds
        positions: per axis, of the places that are checked

    Returns coefficients, least determinant, share of folded places, share of the difference that was kept.
    """
    least, folded = jacobian(lattice, after, positions)
    kept = 1.0
    if guard and folded:
        low, high = 0.0, 1.0
        for _ in range(10):
            middle = (low + high) / 2
            least, folded = jacobian(lattice, before + middle * (after - before), positions)
            low, high = (low, middle) if folded else (middle, high)
        kept = low
        after = (before + np.float32(kept) * (after - before)).astype(np.float32)
        least, folded = jacobian(lattice, after, positions)
    return after, least, folded, kept


def _thinning(n: int, spacing: float, sigma: float, stride: int) -> tuple[int, np.ndarray]:
    """Matrix (m, n) float32 that blurs n voxels by a Gaussian and takes every stride-th, beyond both ends until nothing
    of it is left; and the index of the first one taken, from 0 downwards. What lies outside is background."""
    reach = int(np.ceil(3 * sigma / spacing / stride)) + 1
    taken = np.arange(-reach, (n - 1) // stride + reach + 2) * stride
    offsets = np.arange(-int(3 * sigma / spacing), int(3 * sigma / spacing) + 1)
    kernel = np.exp(-0.5 * (offsets * spacing / sigma) ** 2) if sigma else np.ones(1)
    distance = np.arange(n) - taken[:, None]
    inside = np.abs(distance) <= offsets[-1]
    weights = np.where(inside, kernel[np.clip(distance - offsets[0], 0, len(offsets) - 1)], 0) / kernel.sum()
    return int(taken[0]), weights.astype(np.float32)
