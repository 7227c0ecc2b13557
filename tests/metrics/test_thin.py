"""Thin parts of hearts of blocks, whose voxels can be counted, and of a phantom."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from shapelab.data.grid import Grid
from shapelab.data.scheme import CARDIAC, WHOLE_HEART, LabelScheme
from shapelab.errors import DataError, UsageError
from shapelab.metrics import thin_dice, thin_parts
from shapelab.metrics.thin import PARTS
from shapelab.phantoms.patients import Mix
from shapelab.phantoms.whole_heart import whole_heart_labels
from shapelab.phantoms.whole_heart_population import WHOLE_GROUPS

LV, WALL, RV, LA, RA, AORTA, PA = range(1, 8)
VEINS, BRANCHES, VALVES, THIN = PARTS


def with_tube(value):
    """At 1 mm: a structure that fills the array up to z = 22, and goes on beyond its borders; from there a tube of 6 x
    6 x 30 = 1,080 voxels. Balls reach to its root and not into it."""
    label = np.zeros((20, 20, 60), np.uint8)
    label[:, :, :22] = value
    label[7:13, 7:13, 22:52] = value
    return label


def counts(label, spacing=(1, 1, 1)):
    return {name: int(mask.sum()) for name, mask in thin_parts(label, spacing=spacing).items() if mask.any()}


@pytest.mark.parametrize(("value", "name"), [(LA, VEINS), (PA, BRANCHES)])
def test_a_tube_is_what_is_thin(value, name):
    label = with_tube(value)
    parts = thin_parts(label)
    assert list(parts) == list(PARTS) and all(m.shape == label.shape and m.dtype == bool for m in parts.values())
    assert counts(label) == {name: 1080} and np.array_equal(parts[name][:, :, 22:], label[:, :, 22:] > 0)


@pytest.mark.parametrize("value", [LV, RV, RA, AORTA])
def test_other_structures_have_no_thin_part(value):
    assert counts(with_tube(value)) == {}


@pytest.mark.parametrize(("wide", "thin"), [(19, {}), (17, {VEINS: 17 * 400})])
def test_a_tube_as_wide_as_the_ball_is_thick(wide, thin):
    label = np.zeros((25, 20, 20), np.uint8)
    label[3 : 3 + wide] = LA  # a plate that goes on beyond the borders; balls are of 18 mm
    assert counts(label) == thin


def test_bumps_are_none_and_veins_begin_at_6_mm():
    label = with_tube(LA)
    label[:, :, 29:] = 0  # the farthest voxels of the tube, at z = 28, are 6.5 mm from the structure's surface at 21.5
    assert counts(label) == {VEINS: 7 * 36}
    label[:, :, 28:] = 0
    assert counts(label) == {}


def test_branches_keep_away_from_the_rv():
    label = with_tube(PA)
    label[:, :, 55:] = RV  # 15 mm from there: z = 40
    assert counts(label) == {BRANCHES: 36 * 18}
    assert counts(np.where(label == RV, RA, label)) == {BRANCHES: 1080}


@pytest.mark.parametrize(("wide", "thin"), [(17, {}), (15, {BRANCHES: 15 * 400})])
def test_branches_are_measured_by_the_trunk(wide, thin):
    label = np.zeros((45, 20, 20), np.uint8)
    label[2:23] = PA  # a plate of 21 mm; balls are of .75 x 21 mm = 15.75 mm
    label[26 : 26 + wide] = PA
    assert counts(label) == thin


def test_walls_under_5_mm_are_thin():
    label = np.zeros((10, 10, 20), np.uint8)
    label[:, :, 5:9] = WALL
    assert counts(label) == {THIN: 4 * 100}
    label[:, :, 9] = WALL
    assert counts(label) == {}
    assert counts(label, (1, 1, 0.9)) == {THIN: 5 * 100}
    label[:, :, 8:] = 0
    assert counts(label) == counts(label, (2, 2, 1)) == {THIN: 3 * 100}
    assert counts(label, (1, 1, 2)) == {}  # 6 mm
    label[:, :, 7] = 0
    assert counts(label, (1, 1, 2)) == {THIN: 2 * 100}


@pytest.mark.parametrize(("cavity", "atrium"), [(LV, LA), (RV, RA)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_valve_planes_are_3_mm_on_either_side(cavity, atrium, axis):
    label = np.full((20, 20, 20), cavity, np.uint8)
    label[:, :, 10:] = atrium
    label[0, 0] = AORTA  # one column of another structure: of the plane as well
    label[1, 1] = 0
    spacing = np.roll((1, 1, 2), axis)
    turned = np.moveaxis(label, (0, 1, 2), np.roll((0, 1, 2), -axis))
    assert turned.shape == (20, 20, 20)
    assert counts(label) == {VALVES: 6 * 399}  # centres at .5, 1.5 and 2.5 mm
    thick = thin_parts(turned, spacing=spacing)[VALVES]  # at 1 and 3 mm
    assert thick.sum() == 4 * 398 + 2  # of the corner, 1 mm off the faces, only the nearer ones
    assert not thick[turned == 0].any()


def test_other_neighbours_make_no_valve():
    label = np.full((20, 20, 20), LV, np.uint8)
    label[:, :, 10:] = RA
    assert counts(label) == {}
    label[:, :, 10:12], label[:, :, 12:] = 0, LA  # they do not meet
    assert VALVES not in counts(label)
    label[:, :, :10], label[:, :, 10:] = LA, LV
    assert counts(label) == {VALVES: 6 * 400}


def test_a_heart_of_other_integers_in_torch():
    odd = LabelScheme(
        "odd", tuple(s.numbered(v) for s, v in zip(WHOLE_HEART.structures, (500, 205, 600, 420, 550, 820, 850)))
    )
    label = odd.integers(with_tube(LA)).astype(np.int64)
    found, same = thin_parts(torch.from_numpy(label), odd), thin_parts(with_tube(LA))
    assert all(np.array_equal(found[name], same[name]) for name in PARTS)
    assert thin_dice(label, label, odd)[VEINS] == 1


def by_hand(mask, reach):
    """Opening with an open ball by its definition, voxels beyond the border counted as if they went on."""
    r = int(reach) + 1
    ball = sum(g.astype(float) ** 2 for g in np.ogrid[-r : r + 1, -r : r + 1, -r : r + 1]) < reach**2
    return ndimage.binary_dilation(ndimage.binary_erosion(mask, ball, border_value=1), ball) & mask


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_agrees_with_an_opening_by_its_definition(seed):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(24, 20, 22)), 2.5)
    wall = field > 0
    ours = thin_parts(wall.astype(np.uint8) * WALL)[THIN]
    left = wall & ~by_hand(wall, 3.0)
    assert not (ours & ~left).any()
    numbers, n = ndimage.label(left, np.ones((3, 3, 3)))
    whole = [k for k in range(1, n + 1) if ours[numbers == k].any()]
    assert np.array_equal(ours, np.isin(numbers, whole))


def test_dice_of_veins_lost_halved_and_too_thick():
    truth = with_tube(LA)
    assert thin_dice(truth, truth)[VEINS] == 1
    lost, half, far, thick = (truth.copy() for _ in range(4))
    lost[:, :, 22:] = 0
    assert thin_dice(lost, truth)[VEINS] == 0
    half[:, :, 37:] = 0
    assert thin_dice(half, truth)[VEINS] == pytest.approx(2 * 540 / (540 + 1080))
    far[:2, :2, 57:] = LA  # not about the vein
    half[:, :, :10] = 0  # nor is the chamber
    assert thin_dice(far, truth)[VEINS] == 1 and thin_dice(half, truth)[VEINS] == pytest.approx(2 / 3)
    thick[6:14, 6:14, 22:52] = LA  # a voxel wider: 28 more a slice
    assert thin_dice(thick, truth)[VEINS] == pytest.approx(2 * 1080 / (2 * 1080 + 28 * 30))
    other = np.where(thick == LA, RA, thick)
    assert thin_dice(other, truth)[VEINS] == 0


def test_what_is_added_counts_for_3_mm():
    truth, long = with_tube(LA), with_tube(LA)
    long[7:13, 7:13, 52:] = LA  # eight slices on, of which the next three count
    assert thin_dice(long, truth)[VEINS] == pytest.approx(2 * 1080 / (2 * 1080 + 3 * 36))
    assert thin_dice(long, truth, spacing=(1, 1, 1.5))[VEINS] == pytest.approx(2 * 1080 / (2 * 1080 + 2 * 36))


def test_dice_of_a_valve_that_is_displaced():
    truth = np.full((20, 20, 20), LV, np.uint8)
    truth[:, :, 10:] = LA
    moved = np.where(np.arange(20) < 11, LV, LA) * np.ones((20, 20, 1), int)
    assert thin_dice(moved, truth)[VALVES] == pytest.approx(5 / 6)
    found = thin_dice(moved, truth)
    assert all(np.isnan(found[name]) for name in (VEINS, BRANCHES, THIN))


def test_without_a_heart():
    nothing = np.zeros((5, 6, 7), np.uint8)
    assert counts(nothing) == {} and all(np.isnan(d) for d in thin_dice(nothing, nothing).values())
    assert counts(np.full((5, 6, 7), LA, np.uint8)) == {}  # LA all over: its walls lie beyond


def test_a_structure_without_a_thick_part_is_thin():
    label = np.zeros((12, 12, 40), np.uint8)
    label[4:8, 4:8, 3:37] = LA
    assert counts(label) == {VEINS: 16 * 34}


def test_a_phantom_and_its_mirror_image():
    grid, who = Grid((64, 56, 64), (3.0, 3.0, 3.0)), Mix(WHOLE_GROUPS, known=WHOLE_GROUPS).patient(3, 0)
    label = whole_heart_labels(who, grid)
    parts = thin_parts(label, spacing=grid.spacing)
    own = {VEINS: LA, BRANCHES: PA, THIN: WALL}
    assert all(parts[name].any() and (label[parts[name]] == v).all() for name, v in own.items())
    share = {name: parts[name].sum() / (label == v).sum() for name, v in own.items()}
    assert 0.05 < share[VEINS] < 0.35 and 0.15 < share[BRANCHES] < 0.6
    mirrored = thin_parts(label[::-1], spacing=grid.spacing)
    assert all(np.array_equal(mirrored[name][::-1], parts[name]) for name in PARTS)
    without = np.where(parts[VEINS], 0, label)
    found = thin_dice(without, label, spacing=grid.spacing)
    assert found[VEINS] == 0 and found[BRANCHES] == found[THIN] == 1 and found[VALVES] > 0.9


def test_wrong_arguments():
    label = with_tube(LA)
    with pytest.raises(UsageError, match="spacing"):
        thin_parts(label, spacing=(1, 0, 1))
    with pytest.raises(UsageError, match="left atrium"):
        thin_parts(np.zeros((4, 4, 4), np.uint8), CARDIAC)
    with pytest.raises(DataError, match="thin_parts: found label values"):
        thin_parts(label * 2)
    with pytest.raises(DataError, match="thin_dice: found prediction .* the same shape"):
        thin_dice(label[1:], label)
    with pytest.raises(DataError, match="argmax"):
        thin_dice(np.full(label.shape, 0.5), label)
