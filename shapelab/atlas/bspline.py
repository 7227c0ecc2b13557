"""Cubic B-splines on a regular lattice of control points, as products of small matrices.

A displacement u(x) = sum_ijk B_i(x0) B_j(x1) B_k(x2) c_ijk on a regular grid of points is three matrix products, one an
axis, each with the basis values of that axis; its gradient with respect to c is the same three products transposed.
Derivatives take the basis' derivatives. All of it works on numpy arrays and on torch tensors alike.

Rueckert et al., IEEE TMI 18(8), 1999: the free-form deformation, and the bending energy (its eq. 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from shapelab.errors import in_range, whole

# Energies of u are sums over these pairs of (weight, order of the derivative along each axis).
BENDING = ((1, (2, 0, 0)), (1, (0, 2, 0)), (1, (0, 0, 2)), (2, (1, 1, 0)), (2, (1, 0, 1)), (2, (0, 1, 1)))
STRETCH = ((1, (1, 0, 0)), (1, (0, 1, 0)), (1, (0, 0, 1)))


@dataclass(frozen=True)
class Axis:
    """One axis of a lattice: `cells` cells of `step` mm from `start`; cells + 3 control points, from start - step."""

    start: float
    step: float
    cells: int

    @property
    def n(self) -> int:
        """Number of control points."""
        return self.cells + 3

    @property
    def stop(self) -> float:
        """Where the last cell ends, mm."""
        return self.start + self.step * self.cells

    def basis(self, x: np.ndarray, order: int = 0) -> np.ndarray:
        """Values (P, n) float64 of the basis at positions x (P,) mm, or of its derivative of order 1 or 2 (1/mm^order).

        Positions outside take the nearest position inside.
        """
        t = (np.clip(np.asarray(x, np.float64), self.start, self.stop) - self.start) / self.step
        cell = np.minimum(t.astype(np.int64), self.cells - 1)
        weights = _pieces(t - cell, order) / self.step**order
        out = np.zeros((len(t), self.n))
        out[np.arange(len(t))[:, None], cell[:, None] + np.arange(4)] = weights
        return out

    def gram(self, order: int) -> np.ndarray:
        """Integrals (n, n) of products of the basis' derivatives of that order over the axis, exact (Gauss)."""
        nodes, weights = np.polynomial.legendre.leggauss(4)  # exact to degree 7; a product has at most 6
        x = self.start + self.step * (np.arange(self.cells)[:, None] + (nodes + 1) / 2).ravel()
        values = self.basis(x, order)
        return values.T @ (values * np.tile(weights * self.step / 2, self.cells)[:, None])

    def halved(self) -> Axis:
        """The same axis with cells half as long."""
        return Axis(self.start, self.step / 2, 2 * self.cells)

    def subdivision(self) -> np.ndarray:
        """Control points of `halved()` from this axis' that give the same spline, (2 cells + 3, cells + 3)."""
        out = np.zeros((2 * self.cells + 3, self.n))
        for k in range(len(out)):
            if k % 2:  # at a coarse control point
                out[k, (k - 1) // 2 : (k - 1) // 2 + 3] = 1 / 8, 6 / 8, 1 / 8
            else:  # half way between two
                out[k, k // 2 : k // 2 + 2] = 1 / 2, 1 / 2
        return out


@dataclass(frozen=True)
class Lattice:
    """Control points of a free-form deformation: three axes. Coefficients are (3, n0, n1, n2) in mm."""

    axes: tuple[Axis, Axis, Axis]

    @staticmethod
    def over(low, high, step: float, halvings: int = 0) -> Lattice:
        """The lattice over the box from low (3,) to high (3,) mm, whose cells after `halvings` are `step` mm long."""
        in_range("control points: distance in mm", step, above=True)
        coarse = step * 2**halvings
        cells = np.maximum(1, np.ceil((np.asarray(high) - low) / coarse - 1e-9)).astype(int)
        slack = cells * coarse - (np.asarray(high) - low)  # the box lies in the middle
        return Lattice(tuple(Axis(float(a), coarse, int(n)) for a, n in zip(np.asarray(low) - slack / 2, cells)))

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(a.n for a in self.axes)

    @property
    def step(self) -> float:
        """Distance of control points in mm."""
        return self.axes[0].step

    @property
    def volume(self) -> float:
        """Of the box, mm^3."""
        return float(np.prod([a.step * a.cells for a in self.axes]))

    def zeros(self) -> np.ndarray:
        """Coefficients of no displacement."""
        return np.zeros((3, *self.shape))

    def bases(self, points, orders=(0, 0, 0)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Basis matrices of the three axes at `points`, a position array (P_d,) mm per axis."""
        return tuple(a.basis(x, o) for a, x, o in zip(self.axes, points, orders))

    def refined(self, coefficients: np.ndarray) -> tuple[Lattice, np.ndarray]:
        """The lattice at half the distance, and the coefficients there of the very same displacement."""
        finer = Lattice(tuple(a.halved() for a in self.axes))
        return finer, spread(coefficients, *(a.subdivision() for a in self.axes))

    @cached_property
    def _grams(self) -> list[list[np.ndarray]]:
        return [[a.gram(order) for order in range(3)] for a in self.axes]

    def energy_terms(self, bending: float, stretch: float) -> list[tuple[float, tuple[np.ndarray, ...]]]:
        """(weight, a matrix an axis) whose sum `apply_terms` takes: bending * (Rueckert's eq. 8) + stretch * the mean
        squared first derivative, both means over the box: mm^2 * 1/mm^2 and a pure number."""
        terms = [(bending * w, o) for w, o in BENDING] + [(stretch * w, o) for w, o in STRETCH]
        return [(w / self.volume, tuple(g[k] for g, k in zip(self._grams, order))) for w, order in terms if w]


def spread(values, first, second, third):
    """A matrix for each of the last three axes: (C, n0, n1, n2), (p0, n0), (p1, n1), (p2, n2) -> (C, p0, p1, p2).

    With basis matrices it evaluates the spline; with their transposes it is the adjoint, which takes gradients at the
    points to gradients of the coefficients.
    """
    c, n0, n1, n2 = values.shape
    p0, p1, p2 = len(first), len(second), len(third)
    values = first @ values.reshape(c, n0, n1 * n2)
    values = second @ values.reshape(c * p0, n1, n2)
    return (values.reshape(c * p0 * p1, n2) @ third.T).reshape(c, p0, p1, p2)


def apply_terms(coefficients, terms):
    """Energy of a displacement and its gradient: sum over terms of w c' (A0 x A1 x A2) c, and 2 w (A0 x A1 x A2) c."""
    half = sum(weight * spread(coefficients, *matrices) for weight, matrices in terms)
    return (half * coefficients).sum(), 2 * half


def jacobian(lattice: Lattice, coefficients: np.ndarray, points, slab: int = 16) -> tuple[float, float]:
    """Least determinant of d(x + u)/dx at a grid of points, and the share of points where it is not above 0 (folded).

    Args:
        points: a position array (P_d,) in mm per axis. Slabs of the first axis keep memory small.
    """
    coefficients = np.asarray(coefficients, np.float32)
    tables = [[a.basis(x, o).astype(np.float32) for o in (0, 1)] for a, x in zip(lattice.axes, points)]
    least, folded, count = np.inf, 0, 0
    for first in range(0, len(points[0]), slab):
        rows = slice(first, first + slab)
        du = [spread(coefficients, tables[0][d == 0][rows], tables[1][d == 1], tables[2][d == 2]) for d in range(3)]
        low, some, n = _determinants(*du)
        least, folded, count = min(least, low), folded + some, count + n
    return float(least), folded / max(count, 1)


@numba.njit(nogil=True, cache=True)
def _determinants(d0, d1, d2):  # pragma: no cover - compiled
    """Least determinant of I + (d0 d1 d2), d_k (3, a, b, c) derivatives along axis k; how many <= 0; of how many."""
    least, folded = np.inf, 0
    _, n0, n1, n2 = d0.shape
    for i in range(n0):
        for j in range(n1):
            for k in range(n2):
                a, b, c = 1 + d0[0, i, j, k], d1[0, i, j, k], d2[0, i, j, k]
                d, e, f = d0[1, i, j, k], 1 + d1[1, i, j, k], d2[1, i, j, k]
                g, h, m = d0[2, i, j, k], d1[2, i, j, k], 1 + d2[2, i, j, k]
                det = a * (e * m - f * h) - b * (d * m - f * g) + c * (d * h - e * g)
                least = min(least, det)
                if det <= 0:
                    folded += 1
    return least, folded, n0 * n1 * n2


def _pieces(t: np.ndarray, order: int) -> np.ndarray:
    """The four cubic pieces, or their derivatives, at t in [0, 1] within a cell: (P,) -> (P, 4)."""
    if whole("order", order, 0, 2) == 0:
        rows = (1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3
    elif order == 1:
        rows = -3 * (1 - t) ** 2, 9 * t**2 - 12 * t, -9 * t**2 + 6 * t + 3, 3 * t**2
    else:
        rows = 6 * (1 - t), 18 * t - 12, -18 * t + 6, 6 * t
    return np.stack(rows, -1) / 6
