"""Surfaces and label maps: geometry by hand, independence of batch and grid, integrals against voxels."""

import numpy as np
import pytest
import torch

from shapelab.data.grid import Grid
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS
from shapelab.errors import UsageError
from shapelab.phantoms.anatomy import build_heart, volume
from shapelab.phantoms.heart import ANGLES, N_ANGLES, N_LEVELS, NODES, HeartSurfaces, label_batch, slice_curves
from shapelab.phantoms.population import draw_factors

HR = ((144, 144, 64), (1.25, 1.25, 2.0))


def cylinder(endo=20.0, epi=30.0, length=60.0, rv=55.0, outer=60.0, origin=(60.0, 75.0, 10.0), angle=0.0):
    """A heart of straight round walls: LV of radius `epi`, RV a disc of radius `rv` about its pole at 0.7 `epi`."""

    def t(value):
        return torch.as_tensor(np.asarray(value, np.float32))[None]

    flat = np.ones((N_LEVELS, N_ANGLES))
    return HeartSurfaces(
        endo=t(endo * flat),
        epi=t(epi * flat),
        rv=t(rv * flat),
        rv_outer=t(outer * flat),
        lv_base=t(0.0),
        endo_length=t(length - 8),
        epi_length=t(length),
        rv_base=t(0.0),
        rv_length=t(length),
        pole=t(0.7 * epi * flat[:, 0]),
        centre=t(np.zeros((2, 3))),
        origin=t(origin),
        angle=t(angle),
    )


@pytest.fixture(scope="module")
def heart():
    f = draw_factors(3, 0, "NOR")
    both = build_heart(f)
    place = {"origin": [[100.0, 85.0, 12.0]], "angle": [np.deg2rad(f["angle"])]}
    return f, {p: h.surfaces.moved(**place) for p, h in both.items()}


def test_cylinder_has_the_areas_of_its_circles():
    label = label_batch(cylinder(), ((300, 300, 70), (0.5, 0.5, 1.0)))[0].numpy()
    area = [(label[:, :, 20] == v).sum() * 0.25 for v in range(5)]
    assert area[3] == pytest.approx(np.pi * 20**2, rel=0.005)
    assert area[2] == pytest.approx(np.pi * (30**2 - 20**2), rel=0.005)
    # the RV's disc (centre 21 mm off, radius 55) holds the whole LV (21 + 30 < 55)
    assert area[1] == pytest.approx(np.pi * (55**2 - 30**2), rel=0.005)
    assert area[4] == pytest.approx(np.pi * (60**2 - 55**2), rel=0.005)


def test_cylinder_ends_where_it_says():
    label = label_batch(cylinder(), ((150, 150, 80), (1, 1, 1)))[0].numpy()
    there = {v: np.flatnonzero((label == v).any((0, 1))) for v in (1, 2, 3)}
    assert there[3][0] == 10 and there[3][-1] == 61  # from the base at 10 mm, 52 mm of cavity
    assert there[2][-1] == 69 and there[1][-1] == 69


def test_angle_turns_towards_the_rv():
    for degrees in (0, 90, 180, 225):
        heart = cylinder(origin=(90, 90, 10), angle=np.deg2rad(degrees))
        label = label_batch(heart, ((180, 180, 3), (1, 1, 20)))[0].numpy()
        away = np.argwhere(label == 1).mean(0) - np.argwhere(label >= 2).mean(0)
        found = np.rad2deg(np.arctan2(away[1], away[0]))
        assert (found - degrees + 180) % 360 - 180 == pytest.approx(0, abs=1.5)


def test_shift_moves_one_slice_by_that_much():
    shift = np.zeros((1, 4, 2), np.float32)
    shift[0, 1] = [3, -2]
    grid = ((150, 150, 4), (1, 1, 12))
    still, moved = label_batch(cylinder(), grid)[0], label_batch(cylinder(), grid, shift=shift)[0]
    assert torch.equal(still[:, :, 2], moved[:, :, 2])
    assert torch.equal(torch.roll(still[:, :, 1], (3, -2), (0, 1)), moved[:, :, 1])


def test_noise_moves_a_contour_by_its_amplitude():
    noise = np.zeros((3, 1, 4, N_ANGLES), np.float32)
    noise[1] = 2.0
    label = label_batch(cylinder(), ((300, 300, 4), (0.5, 0.5, 12)), noise=noise)[0].numpy()
    assert (label[:, :, 1] == 2).sum() * 0.25 == pytest.approx(np.pi * (32**2 - 20**2), rel=0.006)


def test_integral_volume_of_an_ellipsoid():
    # half an ellipsoid, semi-axes 30, 30, 80 mm: 2/3 pi a^2 c
    radius = 30 * np.sqrt(1 - NODES**2)[:, None] * np.ones_like(ANGLES)
    assert volume(radius, 80.0) == pytest.approx(2 / 3 * np.pi * 30**2 * 80 / 1000, rel=0.003)


@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_voxel_volumes_are_those_solved_for(heart, phase):
    f, hearts = heart
    count = np.bincount(label_batch(hearts[phase], HR).numpy().ravel(), minlength=5) * 1.25**2 * 2 / 1000
    es = phase == "ES"
    assert count[3] == pytest.approx(f["LVV_ED"] * (1 - es * f["LVEF"] / 100), rel=0.025)
    assert count[2] == pytest.approx(f["LVM"] / 1.05 * (f["wall_ratio"] if es else 1), rel=0.025)
    assert count[1] == pytest.approx(f["RVV_ED"] * (1 - es * f["RVEF"] / 100), rel=0.05)
    assert count[4] == pytest.approx(f["RVM"] / 1.05, rel=0.05)


def test_a_batch_is_its_hearts_one_by_one(heart):
    both = HeartSurfaces.stack(list(heart[1].values()))
    grid = Grid((48, 48, 24), (3.6, 3.6, 4.5))
    together = label_batch(both, grid)
    apart = torch.cat([label_batch(h, grid) for h in heart[1].values()])
    assert together.dtype == torch.uint8 and together.shape == (2, 48, 48, 24)
    assert (together != apart).float().mean() < 1e-5
    assert (label_batch(both[:1], grid) != together[:1]).float().mean() < 1e-5


def test_every_second_voxel_of_a_fine_grid_is_the_coarse_grid(heart):
    fine = label_batch(heart[1]["ED"], ((96, 96, 48), (1.8, 1.8, 2.0)))
    coarse = label_batch(heart[1]["ED"], ((48, 48, 24), (3.6, 3.6, 4.0)))
    assert (fine[:, ::2, ::2, ::2] != coarse).float().mean() < 1e-5  # nothing is resampled


def test_crop_does_not_change_labels(heart):
    whole = label_batch(heart[1]["ED"], ((96, 96, 32), (1.8, 1.8, 4.0)))
    part = label_batch(heart[1]["ED"].moved(origin=[[100.0 - 36, 85.0 - 36, 12.0 - 8]]), ((30, 40, 9), (1.8, 1.8, 4.0)))
    assert (whole[:, 20:50, 20:60, 2:11] != part).float().mean() < 1e-4


def test_heart_outside_the_grid_leaves_it_empty(heart):
    assert not label_batch(heart[1]["ED"].moved(origin=[[900.0, 0, 0]]), ((20, 20, 8), (2, 2, 8))).any()
    assert not label_batch(heart[1]["ED"].moved(origin=[[20.0, 20, 900]]), ((20, 20, 8), (2, 2, 8))).any()


def test_cardiac_scheme_drops_the_rv_wall_and_nothing_else(heart):
    grid = ((48, 48, 24), (3.6, 3.6, 4.5))
    all_four, three = label_batch(heart[1]["ED"], grid), label_batch(heart[1]["ED"], grid, scheme=CARDIAC)
    assert set(three.unique().tolist()) == {0, 1, 2, 3} and 4 in all_four
    assert torch.equal(torch.where(all_four == 4, 0, all_four), three)


def test_wall_is_never_thinner_than_it_may_be(heart):
    curves = slice_curves(heart[1]["ES"], torch.linspace(12, 100, 60))
    endo, epi = curves.radii[0], curves.radii[1]
    inside = endo > 0
    assert inside.any() and (epi - endo)[inside].min() >= 3.0 - 1e-4


@pytest.mark.parametrize("grid", [((0, 4, 4), (1, 1, 1)), ((4, 4), (1, 1, 1)), ((4, 4, 4), (1, -1, 1))])
def test_bad_grid_is_named(grid):
    with pytest.raises(UsageError, match="Grid: .*found"):
        label_batch(cylinder(), grid)


def test_bad_scheme_is_named():
    with pytest.raises(UsageError, match="hippocampus"):
        label_batch(cylinder(), ((8, 8, 8), (1, 1, 1)), scheme=HIPPOCAMPUS)
    assert BIVENTRICULAR.values == (1, 2, 3, 4)
