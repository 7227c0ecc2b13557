"""Surfaces of whole hearts: frames, valves and tubes."""

import numpy as np
import pytest

from shapelab.phantoms.whole_heart_population import whole_heart_factors
from shapelab.phantoms.whole_heart_surfaces import AORTA, AXES, DESCENDING, TRUNK, VEINS, surfaces


@pytest.fixture(scope="module")
def normal():
    f = whole_heart_factors((0, 0, "NOR", 0))
    sizes = {"LVV_ED": 150.0, "LVM": 115.0, "RVV_ED": 170.0, "la_radius": 29.0, "ra_radius": 33.0}
    return f, surfaces(f, sizes, np.zeros(3))


def test_frame_is_that_of_the_real_heart(normal):
    assert np.allclose(AXES @ AXES.T, np.eye(3)) and np.linalg.det(AXES) == pytest.approx(-1)  # left-handed
    assert AXES[2] @ [-0.57, 0.71, -0.42] > 0.99  # the apex: to the patient's left, forward, down
    turn = normal[1].to_heart[:, :3]
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-5) and np.linalg.det(turn) == pytest.approx(-1, abs=1e-5)


def test_diameters_are_those_of_the_factors(normal):
    f, s = normal
    first, end = s.tubes[AORTA, :2].astype(int)
    assert s.segments[first:end, 6].max() * 2 == pytest.approx(max(f["aorta"], 2 * 12 * 1.32 * f["root"]), rel=0.05)
    assert 2 * s.segments[end - 1, 6] == pytest.approx(f["aorta"], rel=1e-5)
    first, end = s.tubes[TRUNK, :2].astype(int)
    assert np.allclose(2 * s.segments[first:end, 6], f["trunk"])


def test_tubes_hang_together_and_lie_in_their_balls(normal):
    s = normal[1]
    for number, (first, end) in enumerate(s.tubes[:, :2].astype(int)):
        tube = s.segments[first:end]
        stops = tube[:, :3] + tube[:, 3:6]
        if number != VEINS:
            assert np.allclose(stops[:-1], tube[1:, :3], atol=1e-3)
        for points, radius in ((tube[:, :3], tube[:, 6]), (stops, tube[:, 6] + tube[:, 7])):
            away = np.linalg.norm(points - s.tubes[number, 2:5], axis=1)
            assert (away + radius <= s.tubes[number, 5] + 1e-3).all()
    assert len(s.tubes) == DESCENDING + 1 and s.tubes[-1, 1] == len(s.segments)


def test_valves_lead_out_of_the_ventricles(normal):
    aortic, pulmonary, tricuspid = normal[1].planes
    assert all(valve[5] < -0.7 for valve in (aortic, pulmonary, tricuspid))  # away from the apex
    assert (
        tricuspid[0] > pulmonary[0] and pulmonary[1] > aortic[1] > tricuspid[1]
    )  # RV inflow to the right, outflow in front
