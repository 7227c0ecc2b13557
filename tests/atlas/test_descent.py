"""What one level minimises: its gradient, both engines, thinning, and folds taken out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapelab.atlas import landmark_affine
from shapelab.atlas.bspline import Lattice
from shapelab.atlas.descent import Problem, _thinning, descend, folding_penalty, without_folds


@pytest.fixture(scope="module")
def pair(hearts):
    """A normal heart as target, a dilated one as atlas, and the affine map of their landmarks."""
    target, atlas = hearts[0], hearts[1]
    return target, atlas, landmark_affine(target.landmarks, atlas.landmarks)


def cost_of(pair, blur=3.0, sampling=0.0, device=None):
    target, atlas, affine = pair
    domain = np.array([[20.0, 20, 0], [150, 150, 110]])
    problem = Problem.of(target.label, atlas.label, target.frame, atlas.frame, affine, domain, device)
    lattice = Lattice.over(*domain, 20.0)
    return lattice, problem.at(lattice, blur, sampling, 10.0, 0.1, 0.4)


class Slope:
    """A cost with one gradient everywhere."""

    def __init__(self, gradient):
        self.gradient = np.float32(gradient)

    def array(self, coefficients):
        return np.asarray(coefficients, np.float32)

    def __call__(self, c):
        return 0.0, self.gradient


def test_a_step_of_the_descent_is_as_long_as_asked_for_and_goes_downhill():
    moved = descend(Slope([3.0, -0.5]), np.zeros(2), 1, 2.0)
    # Adam's first step: the gradient over its own size; a thousandth of the greatest is added below
    assert np.allclose(moved, [-2 * 3 / 3.003, 2 * 0.5 / 0.503], rtol=1e-4)
    # then evenly shorter steps: 2, 1.5, 1 and .5 mm
    assert np.allclose(descend(Slope([3.0, 3.0]), np.zeros(2), 4, 2.0), -5 / 1.001, rtol=1e-4)


def test_gradient_is_that_of_finite_differences(pair):
    lattice, cost = cost_of(pair)
    rng = np.random.default_rng(0)
    c = rng.normal(0, 9, (3, *lattice.shape)).astype(np.float32)  # far enough for some cells to be squeezed
    value, gradient = cost(c)
    assert folding_penalty(c, cost.slopes, 0.4)[0] > 0
    for _ in range(4):
        d = rng.normal(0, 1, c.shape).astype(np.float32)
        ends = [cost(c + np.float32(s) * d)[0] for s in (0.02, -0.02)]
        assert np.isclose((ends[0] - ends[1]) / 0.04, (gradient * d).sum(), rtol=0.02, atol=2e-5)


def test_both_engines_see_the_same_cost(pair):
    lattice, ours = cost_of(pair)
    _, theirs = cost_of(pair, device=torch.device("cpu"))
    c = np.random.default_rng(1).normal(0, 5, (3, *lattice.shape)).astype(np.float32)
    a, b = ours(c), theirs(theirs.array(c))
    assert np.isclose(a[0], b[0], rtol=1e-5) and np.allclose(a[1], b[1].numpy(), atol=1e-6)


def test_the_guard_takes_folds_out():
    lattice = Lattice.over((0, 0, 0), (40, 40, 40), 10)
    before = np.zeros((3, *lattice.shape), np.float32)
    after = before.copy()
    after[0, 3] = 30
    points = [np.linspace(0, 40, 21)] * 3
    c, least, folded, kept = without_folds(lattice, before, after, points)
    assert 0 < kept < 1 and least > 0 and folded == 0 and np.allclose(c, kept * after)
    assert without_folds(lattice, before, 1.05 * c, points)[3] < 1  # it is as much as goes
    c, least, folded, kept = without_folds(lattice, before, after, points, guard=False)
    assert least < 0 < folded < 1 and kept == 1 and np.array_equal(c, after)


def test_thinning_keeps_the_place():
    first, matrix = _thinning(20, 1.5, 4.0, 3)
    taken = first + 3 * np.arange(len(matrix))
    inner = (taken >= 8) & (taken < 12)
    assert np.allclose(matrix[inner].sum(1), 1) and np.allclose(matrix[inner] @ np.arange(20), taken[inner])
    assert (matrix[[0, -1]] == 0).all() and first % 3 == 0  # beyond: nothing, so background
    first, matrix = _thinning(4, 1.0, 0.0, 1)
    assert np.array_equal(matrix[-first : 4 - first], np.eye(4)) and matrix.sum() == 4
