"""Slices that nobody annotated: found, and drawn from their neighbours as worked out by hand; hearts stay whole."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from shapelab.data.gaps import (
    canonical_without_gaps,
    fill_gaps,
    filled_text,
    forgotten,
    gaps,
    listed,
    without_gaps,
)
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS, LV_CAVITY, VENTRICLES, WHOLE_HEART
from shapelab.data.subject import Subject
from shapelab.errors import UsageError
from shapelab.metrics import dice, plausibility
from shapelab.metrics.clinical import structure_volumes
from shapelab.phantoms import heart_cohort

X, Y = np.mgrid[:40, :40].astype(float)


def disc(radius, x=20.0, y=20.0, spacing=(1.0, 1.0)):
    return np.hypot((X - x) * spacing[0], (Y - y) * spacing[1]) < radius


def stack(*slices):
    """Slices, None for one that nobody annotated."""
    return np.stack([np.zeros((40, 40), np.uint8) if s is None else s.astype(np.uint8) for s in slices], -1)


def ring(radius, wall=5, **where):
    """LV cavity 3 within its wall 2."""
    return np.where(disc(radius - wall, **where), 3, 2 * disc(radius, **where))


def test_gaps_lie_between_drawn_slices():
    a = disc(8)
    assert gaps(stack(None, a, None, a, a, None, None, a, None)) == [2, 5, 6]
    assert gaps(stack(a, a, a)) == gaps(stack(None, None, None)) == gaps(stack(None, a, None)) == []


def test_what_parts_two_shapes_is_no_gap():
    above, below = disc(5, x=10), disc(5, x=30)
    assert gaps(stack(above, None, below)) == []  # apart in the plane
    assert gaps(stack(disc(8), None, 2 * disc(8))) == []  # of other structures
    assert gaps(stack(ring(10), None, 2 * disc(4))) == [1]  # the apex: solid below, within the ring
    assert gaps(stack(above | below, None, below)) == [1]


def test_without_a_gap_the_very_array_comes_back():
    label = stack(None, disc(8), disc(5))
    filled, numbers = fill_gaps(label, (1, 1, 10), LV_CAVITY)
    assert filled is label and numbers == []


def test_a_cylinder_stays_one_and_drawn_slices_are_not_touched():
    label = stack(None, disc(9), None, disc(9), None, None, disc(9), None)
    before = label.copy()
    filled, numbers = fill_gaps(label, (1, 1, 10), LV_CAVITY)
    assert numbers == [2, 4, 5] and (label == before).all()
    assert (filled == stack(None, *[disc(9)] * 6, None)).all()


def test_a_cone_narrows_from_slice_to_slice():
    filled, _ = fill_gaps(stack(disc(12), None, None, disc(6)), (1, 1, 10), LV_CAVITY)
    for k, radius in ((1, 10), (2, 8)):
        assert not (filled[:, :, k].astype(bool) & ~disc(radius + 0.6)).any()
        assert not (disc(radius - 0.6) & (filled[:, :, k] == 0)).any()


def test_a_disc_that_moves_is_half_way_half_way():
    filled, _ = fill_gaps(stack(disc(10, x=16), None, disc(10, x=22)), (1, 1, 10), LV_CAVITY)
    middle = filled[:, :, 1].astype(bool)
    np.testing.assert_allclose(np.argwhere(middle).mean(0), (19, 20), atol=1e-9)
    assert np.ptp(np.flatnonzero(middle.any(1))) == np.ptp(np.flatnonzero(disc(10).any(1)))


def test_distances_in_the_plane_are_in_mm():
    spacing = (1.0, 2.0)
    filled, _ = fill_gaps(stack(disc(16, spacing=spacing), None, disc(8, spacing=spacing)), (*spacing, 10), LV_CAVITY)
    wide, high = (int(filled[:, :, 1].any(axis).sum()) for axis in (1, 0))
    assert wide in (23, 24, 25) and high in (11, 12, 13)  # 24 mm across
    # a bar along x becomes a bar along y, 4 mm wide both: half way a place counts that is less than its depth in the
    # one (2 mm at most) from the other, so a square of 4 mm and little more; distances in pixels would double it in y
    bars = np.zeros((40, 40, 3), np.uint8)
    bars[5:35, 19:21, 0], bars[18:22, 5:35, 2] = 1, 1
    cross = fill_gaps(bars, (*spacing, 10), LV_CAVITY)[0][:, :, 1]
    reach = [np.ptp(np.flatnonzero(cross.any(axis))) * mm for axis, mm in zip((1, 0), spacing)]
    assert max(reach) <= 8


def test_a_wall_keeps_its_thickness_and_the_cavity_shrinks_to_the_apex():
    filled, _ = fill_gaps(stack(ring(14), None, ring(10)), (1, 1, 10), CARDIAC)
    assert dict(zip(CARDIAC.names, dice(filled[:, :, 1:2], ring(12)[:, :, None], CARDIAC)))["LV myocardium"] > 0.95
    # wall alone below: of a cavity of radius 9 half is left half way, of the epicardium from 14 to 6 the mean
    apex, _ = fill_gaps(stack(ring(14), None, 2 * disc(6)), (1, 1, 10), CARDIAC)
    cavity, lv = apex[:, :, 1] == 3, apex[:, :, 1] > 0
    assert abs(np.sqrt(cavity.sum() / np.pi) - 4.5) < 0.5 and abs(np.sqrt(lv.sum() / np.pi) - 10) < 0.5


def test_what_lies_in_what_is_seen_where_no_scheme_says_it():
    label = stack(ring(14), None, ring(10, x=23))
    for slice_ in (0, 2):
        label[3:6, 15:25, slice_] = 1
    known, _ = fill_gaps(label, (1, 1, 10), CARDIAC)
    assert (fill_gaps(label, (1, 1, 10))[0] == known).all()
    other = np.array([0, 7, 5, 2], np.uint8)[label]  # the same heart with integers of somebody else
    assert (fill_gaps(other, (1, 1, 10))[0] == np.array([0, 7, 5, 2])[known]).all()


masks = hnp.arrays(bool, (9, 8), elements=st.booleans())


@given(masks, masks, st.integers(1, 3), st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)))
def test_filled_slices_lie_between_what_both_show_and_what_either_shows(a, b, n, spacing):
    label = np.stack([a, *[np.zeros_like(a)] * n, b], -1).astype(np.uint8)
    filled, numbers = fill_gaps(label, (*spacing, 5), LV_CAVITY)
    assert numbers == (list(range(1, n + 1)) if (a & b).any() else [])
    for k in numbers:
        drawn = filled[:, :, k] > 0
        assert (drawn >= (a & b)).all() and (drawn <= (a | b)).all()


@given(
    st.lists(hnp.arrays(bool, (7, 7)), min_size=2, max_size=2),
    st.lists(hnp.arrays(bool, (11, 11)), min_size=2, max_size=2),
)
def test_hearts_are_not_torn(cavities, walls):
    """Whatever the shapes: where no drawn cavity touches the background, no filled one does."""
    slices = []
    for cavity, wall in zip(cavities, walls, strict=True):
        cavity = np.pad(cavity, 2)
        slices.append(np.where(cavity, 3, 2 * (wall | ndimage.binary_dilation(cavity))))
    label = np.stack([slices[0], 0 * slices[0], slices[1]], -1).astype(np.uint8)
    filled, numbers = fill_gaps(label, (1.3, 0.8, 9), CARDIAC)
    for k in numbers:
        reach = ndimage.binary_dilation(filled[:, :, k] == 3)
        assert (filled[:, :, k][reach] > 0).all()


@pytest.mark.parametrize("scheme", [CARDIAC, BIVENTRICULAR], ids=lambda s: s.name)
def test_hearts_drawn_on_every_second_slice_come_back(scheme):
    for subject in heart_cohort(3, seed=5, resolution=(1.5, 1.5, 8), scheme=scheme):
        label, spacing = subject.label, subject.spacing
        assert gaps(label) == [] and fill_gaps(label, spacing, scheme)[0] is label
        used = np.flatnonzero(label.any((0, 1)))
        sparse, truth = label.copy(), label.copy()
        sparse[:, :, used[1::2]] = 0
        truth[:, :, np.flatnonzero(sparse.any((0, 1)))[-1] + 1 :] = 0
        filled, numbers = fill_gaps(sparse, spacing, scheme)
        assert numbers == [k for k in used[1::2] if truth[:, :, k].any()]
        given, found, true = (structure_volumes(m, spacing, scheme) for m in (sparse, filled, truth))
        for name in VENTRICLES[:2]:
            assert given[name] < 0.75 * true[name] and abs(found[name] / true[name] - 1) < 0.05
        assert given["RV cavity"] < found["RV cavity"]  # it ends abruptly: where, a slice left out does not say
        assert plausibility(filled, scheme)["gaps"] == 0 and plausibility(filled, scheme)["leaks"] == 0


def test_warns_once_with_the_file_and_the_slices():
    label = stack(disc(8), None, disc(8), None, disc(8))
    with pytest.warns(UserWarning, match=r"^a.nii.gz: found empty slices 1, 3 \(counted from 0\) between") as caught:
        assert without_gaps(label, (1, 1, 10), LV_CAVITY, "a.nii.gz").all((0, 1)).sum() == 0
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert without_gaps(stack(disc(8), disc(8)), (1, 1, 10)).any()


def test_words():
    assert listed([3]) == "slice 3 (counted from 0)"
    assert listed(range(20), most=2) == "slices 0, 1, ... (20 in all) (counted from 0)"
    assert filled_text(None, [1]).startswith("(array): found empty slice 1 ")


def test_slices_are_filled_and_counted_in_any_voxel_order(every_order):
    whole = np.stack([ring(12 - k) for k in range(6)], 2)
    sparse = whole.copy()
    sparse[..., 2] = 0
    expected = fill_gaps(sparse, (1.5, 1.5, 8), CARDIAC)[0]
    for label, _, affine in every_order(sparse, sparse, np.diag([1.5, 1.5, 8, 1])):
        slices = int(np.argmax(np.linalg.norm(affine[:3, :3], axis=0)))
        forward = affine[2, slices]
        with pytest.warns(UserWarning, match=rf"a: found empty slice {2 if forward > 0 else 3} \(counted from 0\)"):
            filled, turn = canonical_without_gaps(Subject("a", CARDIAC, label, affine=affine))
        assert (filled.label == expected).all() and turn.slices_in_file([2]) == [2 if forward > 0 else 3]


def test_a_structure_forgotten_in_one_slice():
    whole = ring(12, x=24)
    whole[2:8, 15:25] = 1
    without = np.where(whole == 1, 0, whole)
    assert forgotten(stack(whole, without, whole, without), CARDIAC) == {"RV cavity": [1]}
    assert forgotten(stack(whole, None, whole, 2 * disc(5)), CARDIAC) == {}  # a gap; and an apex without a cavity
    with pytest.raises(UsageError, match="a heart's"):
        forgotten(stack(whole), HIPPOCAMPUS)


def test_wrong_arguments():
    with pytest.raises(UsageError, match="three axes"):
        gaps(np.zeros((3, 3), np.uint8))
    with pytest.raises(UsageError, match="three voxel sizes"):
        fill_gaps(stack(disc(8), None, disc(8)), (1, 1), LV_CAVITY)


@pytest.mark.realdata
def test_no_heart_of_acdc_has_a_gap(acdc_root):
    from shapelab.data import open_cohort

    for subject in open_cohort("acdc", root=acdc_root):
        assert gaps(subject.label) == [] and forgotten(subject.label, CARDIAC) == {}, subject.id


def test_a_whole_heart_is_no_stack():
    label = stack(disc(8), None, disc(8))
    assert fill_gaps(label, (1, 1, 1), CARDIAC)[1] == [1]
    same, numbers = fill_gaps(label, (1, 1, 1), WHOLE_HEART)
    assert same is label and numbers == []
    subject = canonical_without_gaps(Subject("a", WHOLE_HEART, label, None, np.eye(4)))[0]
    assert not subject.label[:, :, 1].any()
