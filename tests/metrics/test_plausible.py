import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import euler_number
from skimage.measure import label as components

from shapelab.data import open_cohort
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS, LabelScheme, Structure
from shapelab.errors import DataError, UsageError
from shapelab.metrics import plausibility
from shapelab.metrics.plausible import _holes, _pieces, _pieces_in_slices, map_doubts
from shapelab.phantoms.cohort import heart_cohort

COUNTS = ["holes", "pieces", "leaks", "gaps", "missing"]


def heart():
    """A cavity in a ring, an RV beside it: 5 slices of 24 x 20."""
    x, y = np.meshgrid(np.arange(24) - 14, np.arange(20) - 10, indexing="ij")
    r = np.hypot(x, y)
    flat = np.where(r < 4, 3, np.where(r < 7, 2, 0))
    flat[2:5, 6:14] = 1
    return np.repeat(flat[:, :, None], 5, axis=2).astype(np.uint8)


def broken(**expected):
    """Counts that are not 0."""
    return {name: expected.get(name, 0) for name in COUNTS}


def counts(label, **options):
    found = plausibility(label, **options)
    assert found["violations"] == sum(found[COUNTS]) and found["plausible"] == (found["violations"] == 0)
    return found[COUNTS].to_dict()


def test_a_heart_is_plausible():
    found = plausibility(heart())
    assert found["plausible"] is True and found["violations"] == found["stray"] == found["leak_voxels"] == 0
    assert list(found.index) == [*COUNTS, "violations", "plausible", "leak_voxels", "stray"]


def test_a_hole_in_the_wall():
    label = heart()
    label[19, 9:11, 2] = 0  # in the wall, of two voxels
    assert counts(label) == broken(holes=1)
    assert plausibility(label)["stray"] == 2 and plausibility(label, spacing=(2, 2, 10))["stray"] == pytest.approx(0.08)
    assert counts(label, min_voxels=3) == broken()
    label[3, 8, 4] = 0  # and one in the RV, of another slice
    assert counts(label) == broken(holes=2)


def test_a_hole_through_which_the_cavity_leaks():
    label = heart()
    label[14, 10, 1] = 0  # in the middle of the cavity: a hole, and its four neighbours touch it
    found = plausibility(label, leak=0)
    assert found["holes"] == 1 and found["leaks"] == 1 and found["leak_voxels"] == 4


def test_an_open_ring():
    label = heart()
    label[17:, 10, 3] = 0  # a slit one voxel wide, from the cavity to the outside
    label[18:, 10, 3] = 0
    found = plausibility(label)
    # (17, 10) was of the cavity: its three neighbours in the cavity touch background now; of about 20 at the rim
    assert found[COUNTS].to_dict() == broken(leaks=1) and found["leak_voxels"] == 3
    assert counts(label, leak=0.5) == broken()


def test_cavity_that_touches_rv_or_the_border_of_the_array():
    label = heart()
    label[5:11, 9:12, 2] = 3  # a channel of cavity, three wide, into the RV
    assert counts(label)["leaks"] == 1 and plausibility(label)["leak_voxels"] > 0
    filled = np.full((6, 6, 3), 3, np.uint8)
    assert plausibility(filled)["leaks"] == 3 and plausibility(filled)["missing"] == 2


def test_pieces():
    label = heart()
    label[0, 0, 0] = 1  # an RV voxel far from the RV, alone
    assert counts(label) == broken(pieces=1) and counts(label, min_voxels=2) == broken()
    label = heart()
    label[14, 10, 0] = 2  # an island of wall in the cavity: a second piece of wall in its slice
    assert counts(label) == broken(pieces=1)
    label = heart()
    label[0:3, 17:20, 3] = 2  # a second LV wall with a cavity: a piece of LV, of wall, of cavity
    label[1, 18, 3] = 3
    assert counts(label) == broken(pieces=3)


def test_slack_forgives_displaced_slices():
    label = heart()
    label[2:5, :, :] = 0
    label[2, 6:14, :3], label[4, 6:14, 3:] = 1, 1  # a thin RV that jumps by two voxels between two slices
    assert counts(label, slack=0) == broken(pieces=1) and counts(label, slack=1) == broken()
    label[4, :, :], label[0, 6:14, 3:] = 0, 1
    label[5, 6:14, :3], label[2, 6:14, :3] = 1, 0  # by five
    assert counts(label, slack=1) == broken(pieces=1)


def test_gaps_and_missing():
    label = heart()
    label[:, :, 2] = 0
    assert counts(label) == broken(gaps=3)  # cavity, wall and RV
    label = heart()
    label[label == 1] = 0
    assert counts(label) == broken(missing=1)
    assert counts(np.zeros((5, 5, 5), np.uint8)) == broken(missing=3)


def test_other_schemes_and_kinds_of_array():
    label = heart()
    label[1, 5:15, :] = 4
    assert plausibility(label, BIVENTRICULAR)["plausible"]  # an RV wall is background to the checks
    odd = LabelScheme(
        "odd",
        (
            Structure(500, "LV cavity", "#000000"),
            Structure(205, "LV myocardium", "#000000"),
            Structure(600, "RV cavity", "#000000"),
        ),
    )
    values = np.array([0, 600, 205, 500])[heart()]
    assert plausibility(values, odd).equals(plausibility(heart()))
    assert plausibility(torch.from_numpy(heart())).equals(plausibility(heart()))


masks = hnp.arrays(bool, (7, 6, 3))


@given(masks)
def test_holes_agree_with_the_euler_number(mask):
    # in the plane: Euler number = components - holes, by scikit-image (8 neighbours for the mask)
    slices = np.moveaxis(mask, 2, 0)
    expected = sum(components(s, connectivity=2).max() - euler_number(s, connectivity=2) for s in slices)
    assert len(_holes(mask)) == expected


@given(masks)
def test_pieces_agree_with_scikit_image(mask):
    there = mask[:, :, mask.any((0, 1))]  # what an empty slice parts is a gap, not a piece
    expected = sorted(np.bincount(components(there, connectivity=3).ravel())[1:])[:-1]
    assert _pieces(mask, 0) == expected
    slices = [sorted(np.bincount(components(s, connectivity=2).ravel())[1:])[:-1] for s in np.moveaxis(mask, 2, 0)]
    assert _pieces_in_slices(mask) == [size for sizes in slices for size in sizes]
    assert len(_pieces(mask, 1)) <= len(expected)


@given(hnp.arrays(np.uint8, (6, 5, 3), elements=st.integers(0, 3)), st.integers(0, 3), st.integers(0, 3))
def test_a_margin_and_a_mirror_change_nothing(label, before, after):
    found = plausibility(np.pad(label, ((1, 1), (1, 1), (0, 0))))
    around = np.pad(label, ((1 + before, 1 + after), (1 + after, 2), (before, after)))
    assert plausibility(around).equals(found)
    assert plausibility(around[::-1, :, ::-1]).equals(found)


def test_phantoms_are_plausible():
    fine = heart_cohort(10, seed=5, resolution=(3.0, 3.0, 5.0), scheme=CARDIAC)
    assert np.mean([plausibility(s.label)["plausible"] for s in fine]) >= 0.95
    assert all(plausibility(s.label)["plausible"] for s in heart_cohort(5, resolution="LR", scheme=CARDIAC))


@pytest.mark.slow
@pytest.mark.realdata
def test_expert_contours_are_plausible(acdc_root):
    table = pd.DataFrame([plausibility(s.label) for s in open_cohort("acdc", acdc_root)])
    assert table["plausible"].mean() >= 0.95 and (table[["holes", "gaps", "missing"]] == 0).all(axis=None)
    assert [map_doubts(s.label) for s in open_cohort("acdc", acdc_root)] == [[]] * 160


@pytest.mark.parametrize("name", ["min_voxels", "slack", "leak"])
@pytest.mark.parametrize("value", [-1, np.nan, "much", None])
def test_wrong_thresholds(name, value):
    with pytest.raises(UsageError, match=f"{name}: found"):
        plausibility(heart(), **{name: value})


def test_bad_input():
    with pytest.raises(UsageError, match="structure: found 'LV cavity'"):
        plausibility(np.zeros((3, 3, 3), np.uint8), HIPPOCAMPUS)
    with pytest.raises(DataError, match=r"label values \[4\]"):
        plausibility(np.full((3, 3, 3), 4, np.uint8))
    with pytest.raises(DataError, match="label map of integers"):
        plausibility(heart().astype(float))
    with pytest.raises(DataError, match="three axes"):
        plausibility(heart()[0])
    with pytest.raises(UsageError, match="spacing: found"):
        plausibility(heart(), spacing=(1, 1))


def without(*values, slices=slice(None), label=None):
    label = heart() if label is None else label
    part = label[:, :, slices]
    label[:, :, slices] = np.where(np.isin(part, values), 0, part)
    return label


def open_on_one_side(slices):
    label = heart()
    label[14:, 3:18, slices] = np.where(label[14:, 3:18, slices] == 2, 0, label[14:, 3:18, slices])
    return label


def with_crumbs(n):
    label = heart()
    label[0, :n, 0] = 2  # a bar of wall, in no touch with it
    return label


@pytest.mark.parametrize(
    "label, expected",
    [
        (heart(), []),
        (without(1), ["no RV cavity"]),
        (without(2, 3), ["no LV cavity, no LV myocardium"]),
        (without(1, slices=slice(1, None)), ["an RV in 1 of the LV's 5 slices"]),
        (without(1, slices=slice(2, None)), []),  # 2 of 5: ACDC's experts have 3 of 10
        (heart()[:, :, :2], ["an LV in 2 slices alone"]),
        (heart()[:, :, :3], []),
        (without(1, 2, 3, slices=2), ["3 slice(s) without a structure between slices with it"]),
        (open_on_one_side(slice(0, 1)), []),
        (open_on_one_side(slice(0, 2)), ["an LV cavity that is open to what is not its wall in 2 of 5 slices"]),
        (with_crumbs(8), []),  # of 5 slices of 173 voxels; counted in 3-D and in the slice: 1.8 %
        (with_crumbs(9), ["separate pieces or holes"]),  # 2.1 %
    ],
)
def test_what_speaks_of_a_failed_segmentation(label, expected):
    assert map_doubts(label) == expected


def test_a_wall_of_the_rv_is_no_doubt():
    label = heart()
    label[1:6, 5:15] = np.where(label[1:6, 5:15] == 0, 4, label[1:6, 5:15])
    assert map_doubts(label, BIVENTRICULAR) == []
    with pytest.raises(UsageError, match="hippocampus"):
        map_doubts(np.ones((4, 4, 4), np.uint8), HIPPOCAMPUS)
