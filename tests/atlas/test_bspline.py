"""shapelab.atlas.bspline: against scipy's splines, numeric derivatives and quadrature."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from shapelab.atlas.bspline import Axis, Lattice, apply_terms, jacobian, spread
from shapelab.errors import UsageError

AXIS = Axis(-3.0, 2.5, 6)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_basis_is_scipys(order):
    knots = AXIS.start + AXIS.step * np.arange(-3, AXIS.cells + 4)
    x = np.linspace(AXIS.start, AXIS.stop - 1e-9, 57)
    expected = BSpline(knots, np.eye(AXIS.n), 3)(x, nu=order)
    assert np.allclose(AXIS.basis(x, order), expected, atol=1e-10)


def test_basis_by_hand():
    at_node = AXIS.basis(np.array([AXIS.start]))[0]
    assert np.allclose(at_node[:4], [1 / 6, 4 / 6, 1 / 6, 0]) and np.allclose(AXIS.basis([0.3, 7.7]).sum(1), 1)
    assert np.allclose(AXIS.basis([-99.0]), AXIS.basis([AXIS.start]))  # outside: the border's values
    with pytest.raises(UsageError, match="order: found 3"):
        AXIS.basis([0.0], 3)


@given(st.integers(1, 9), st.integers(0, 2**31))
def test_subdivision_keeps_the_displacement(cells, seed):
    axis = Axis(1.0, 8.0, cells)
    c = np.random.default_rng(seed).normal(size=axis.n)
    x = np.linspace(axis.start, axis.stop, 41)
    assert np.allclose(axis.basis(x) @ c, axis.halved().basis(x) @ (axis.subdivision() @ c), atol=1e-12)


def test_refined_keeps_the_displacement_in_3d():
    lattice = Lattice.over((0, 0, 0), (30, 40, 20), 10, halvings=1)
    assert lattice.step == 20 and lattice.refined(lattice.zeros())[0].step == 10
    c = np.random.default_rng(0).normal(size=(3, *lattice.shape))
    points = [np.linspace(0, n, 7) for n in (30, 40, 20)]
    finer, d = lattice.refined(c)
    assert np.allclose(spread(c, *lattice.bases(points)), spread(d, *finer.bases(points)))


def test_spread_is_the_sum_over_control_points():
    lattice = Lattice.over((0, 0, 0), (10, 20, 15), 5)
    c = np.random.default_rng(1).normal(size=(3, *lattice.shape))
    bases = lattice.bases([np.array([1.0, 7]), np.array([3.0, 12, 19]), np.array([0.0, 14])])
    expected = np.einsum("cijk,ai,bj,dk->cabd", c, *bases)
    assert np.allclose(spread(c, *bases), expected)
    tensors = [torch.from_numpy(v) for v in (c, *bases)]
    assert np.allclose(spread(*tensors).numpy(), expected)
    # and the transposed products are its adjoint
    g = np.random.default_rng(2).normal(size=expected.shape)
    assert np.isclose((expected * g).sum(), (c * spread(g, *(b.T for b in bases))).sum())


@pytest.mark.parametrize(("bending", "stretch"), [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_energy_is_the_integral(bending, stretch):
    lattice = Lattice.over((0, 0, 0), (6, 8, 4), 4)
    c = np.random.default_rng(3).normal(size=(3, *lattice.shape))
    # midpoint rule on a fine grid, over the box of the lattice
    points = [a.start + (np.arange(60) + 0.5) / 60 * (a.stop - a.start) for a in lattice.axes]

    def mean_square(*orders):
        return (spread(c, *lattice.bases(points, orders)) ** 2).sum(0).mean()

    one = np.eye(3, dtype=int)
    bend = sum(mean_square(*o) for o in 2 * one) + 2 * sum(mean_square(*o) for o in 1 - one)
    expected = bending * bend + stretch * sum(mean_square(*o) for o in one)
    energy, gradient = apply_terms(c, lattice.energy_terms(bending, stretch))
    assert np.isclose(energy, expected, rtol=1e-2)
    d = np.random.default_rng(4).normal(size=c.shape)
    slope = (apply_terms(c + 1e-5 * d, lattice.energy_terms(bending, stretch))[0] - energy) / 1e-5
    assert np.isclose(slope, (gradient * d).sum(), rtol=1e-3)


def test_bending_of_an_affine_displacement_is_nothing():
    lattice = Lattice.over((0, 0, 0), (20, 20, 20), 10)
    places = [a.start + a.step * (np.arange(a.n) - 1) for a in lattice.axes]
    c = np.stack([0.2 * x + 1 for x in np.meshgrid(*places, indexing="ij")])  # u = 0.2 x + 1
    assert apply_terms(c, lattice.energy_terms(1.0, 0.0))[0] < 1e-12
    least, folded = jacobian(lattice, c, [np.linspace(0, 20, 5)] * 3)
    assert np.isclose(least, 1.2**3, rtol=1e-5) and folded == 0


def test_jacobian_is_that_of_finite_differences():
    lattice = Lattice.over((0, 0, 0), (30, 30, 30), 10)
    c = np.random.default_rng(5).normal(0, 8, (3, *lattice.shape))
    points = [np.linspace(1, 29, 9), np.linspace(1, 29, 8), np.linspace(1, 29, 7)]

    def place(shift):
        return spread(c, *lattice.bases([p + s for p, s in zip(points, shift)])) + np.reshape(shift, (3, 1, 1, 1))

    columns = [(place(e) - place(-e)) / 2e-4 for e in 1e-4 * np.eye(3)]
    determinants = np.linalg.det(np.moveaxis(np.stack(columns, 1), (0, 1), (-2, -1)))
    least, folded = jacobian(lattice, c, points, slab=4)
    assert np.isclose(least, determinants.min(), atol=1e-3)
    assert np.isclose(folded, (determinants <= 0).mean(), atol=0.01) and folded > 0  # this one does fold


@pytest.mark.parametrize("step", [0, -1, np.nan])
def test_wrong_distance(step):
    with pytest.raises(UsageError, match="control points"):
        Lattice.over((0, 0, 0), (1, 1, 1), step)
