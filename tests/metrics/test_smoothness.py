"""shapelab.metrics.smoothness: values of geometry, an independent library, a sphere against its staircase."""

import numpy as np
import pytest
import trimesh

from shapelab.errors import DataError, UsageError
from shapelab.metrics import mesh_curvature, surface_curvature


def test_a_cube_by_hand():
    box = trimesh.creation.box((3, 3, 3))  # 12 edges of 90 degrees, diagonals of 0
    assert mesh_curvature(box.vertices, box.faces) == pytest.approx(12 * 3 * (np.pi / 2) / 2 / 54)
    assert mesh_curvature(box.vertices, box.faces) == pytest.approx(np.pi / (2 * 3))


def test_a_sphere_has_its_radius_inverse():
    ball = trimesh.creation.icosphere(4, radius=20)
    assert mesh_curvature(ball.vertices, ball.faces) == pytest.approx(1 / 20, rel=0.01)
    # the oracle adds signed angles, which of a convex surface are all of one sign
    expected = ball.integral_mean_curvature / ball.area
    assert mesh_curvature(ball.vertices, ball.faces) == pytest.approx(expected, rel=1e-6)


def test_a_plane_has_none_and_its_border_does_not_count():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert mesh_curvature(vertices, np.array([[0, 1, 2], [0, 2, 3]])) == 0
    folded = vertices + [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]  # along the diagonal, sqrt(2) long
    areas = 0.5 + np.sqrt(3) / 2
    angle = np.arccos(1 / np.sqrt(3))
    expected = angle * np.sqrt(2) / 2 / areas
    assert mesh_curvature(folded, np.array([[0, 1, 2], [0, 2, 3]])) == pytest.approx(expected)


def ball(radius, spacing, steps=1):
    """A ball as a mask; with steps > 1 every plane repeats that of the thick slice it lies in."""
    n = [int(2 * (radius + 6) / s) for s in spacing]
    axes = [(np.arange(k) - (k - 1) / 2) * s for k, s in zip(n, spacing)]
    if steps > 1:
        axes[2] = axes[2].copy()
        for first in range(0, n[2], steps):
            axes[2][first : first + steps] = axes[2][first : first + steps].mean()
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < radius**2


@pytest.mark.parametrize("radius", [15.0, 30.0])
def test_a_mask_of_a_sphere_against_its_staircase(radius):
    spacing = (1.25, 1.25, 2.0)
    smooth, stairs = (surface_curvature(ball(radius, spacing, n), spacing) for n in (1, 5))
    assert smooth == pytest.approx(1 / radius, rel=0.12)
    assert stairs > 1.3 * smooth


def test_a_sphere_is_as_curved_at_another_spacing():
    found = [surface_curvature(ball(25.0, s), s) for s in ((1.0, 1.0, 1.0), (1.5, 1.5, 2.0))]
    assert found[0] == pytest.approx(found[1], rel=0.1)


def test_nothing_and_wrong_arguments():
    assert np.isnan(surface_curvature(np.zeros((4, 4, 4), bool), (1, 1, 1)))
    with pytest.raises(UsageError, match="surface_curvature: found shape"):
        surface_curvature(np.ones((4, 4), bool), (1, 1, 1))
    with pytest.raises(UsageError, match="scale_mm: found 0"):
        surface_curvature(np.ones((4, 4, 4), bool), (1, 1, 1), 0)
    with pytest.raises(DataError, match="a surface"):
        mesh_curvature(np.zeros((3, 3)), np.array([[0, 1, 2]]))
