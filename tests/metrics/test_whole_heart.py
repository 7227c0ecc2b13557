import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from shapelab.data import open_cohort
from shapelab.data.grid import Grid, to_grid
from shapelab.data.readers.mmwhs import MYO_FIRST
from shapelab.data.scheme import CARDIAC, WHOLE_HEART, LabelScheme
from shapelab.data.volumes import WHOLE_HEARTS
from shapelab.errors import DataError, UsageError
from shapelab.metrics import evaluate_cohort
from shapelab.metrics import plausibility as of_any_scheme
from shapelab.metrics.clinical import volumes_and_masses
from shapelab.metrics.plausible import map_doubts
from shapelab.metrics.whole_heart import plausibility
from shapelab.phantoms.patients import Mix
from shapelab.phantoms.whole_heart import whole_heart_labels
from shapelab.phantoms.whole_heart_population import WHOLE_GROUPS

COUNTS = ["missing", "pieces", "holes", "leaks", "lost"]
LV, WALL, RV, LA, RA, AORTA, PA = range(1, 8)


def heart():
    """Of blocks: a cavity of 6 x 6 x 6 in a wall that is open above, where left atrium and aorta lie; an RV beside the
    wall, right atrium and pulmonary artery above it. 152 of the cavity's 216 voxels are at its rim."""
    label = np.zeros((22, 14, 18), np.uint8)
    label[2:12, 2:12, 2:10] = WALL
    label[4:10, 4:10, 4:10] = LV
    label[4:10, 4:7, 10:15] = LA
    label[4:10, 7:10, 10:15] = AORTA
    label[12:18, 2:12, 2:10] = RV
    label[12:18, 2:7, 10:15] = RA
    label[12:18, 7:12, 10:15] = PA
    return label


def counts(label, **options):
    found = plausibility(label, **options)
    assert found["violations"] == sum(found[COUNTS]) and found["plausible"] == (found["violations"] == 0)
    return {name: n for name, n in found[COUNTS].items() if n}


def test_a_heart_is_plausible():
    found = plausibility(heart())
    assert found["plausible"] is True and found["violations"] == found["stray"] == found["leak_voxels"] == 0
    assert list(found.index) == [*COUNTS, "violations", "plausible", "leak_voxels", "stray"]


def test_missing_structures_are_not_lost_contacts():
    label = heart()
    label[label == PA] = 0
    assert counts(label) == {"missing": 1}
    label[label == RV] = 0
    assert counts(label) == {"missing": 2}
    assert counts(np.zeros((4, 4, 4), np.uint8)) == {"missing": 7}


@pytest.mark.parametrize("value", range(1, 8))
def test_pieces_of_each_structure(value):
    label = heart()
    label[20, 12, 15:17] = value
    more = {"leaks": 1} if value == LV else {}  # two cavity voxels in the open, of 154 at the rim: 1.3 %
    assert counts(label, leak=0.01) == {"pieces": 1, **more}
    assert counts(label) == {"pieces": 1} and counts(label, min_voxels=2) == {"pieces": 1}
    assert counts(label, min_voxels=3) == {}
    found = plausibility(label, spacing=(10, 10, 5))
    assert found["stray"] == pytest.approx(1.0) and plausibility(label)["stray"] == 2


def test_pieces_hang_together_by_a_corner():
    label = heart()
    label[18, 12, 15] = PA  # shares a corner with (17, 11, 14)
    assert counts(label) == {}
    label[18, 12, 15], label[19, 12, 15] = 0, PA
    assert counts(label) == {"pieces": 1}


def test_holes():
    label = heart()
    label[14, 5:7, 6] = 0  # in the RV, of two voxels
    assert counts(label) == {"holes": 1} and plausibility(label)["stray"] == 2
    label[3, 3, 3] = 0  # in the LV's wall
    label[6, 5, 12] = AORTA  # in the left atrium: of another structure, a piece of which it is as well
    assert counts(label) == {"holes": 3, "pieces": 1}
    assert counts(label, min_voxels=2) == {"holes": 1}


def test_what_is_open_by_a_side_is_no_hole():
    label = heart()
    label[14, 2:7, 6] = 0  # a slit to the RV's surface
    assert counts(label) == {}
    label[14, 2, 6] = RV  # closed
    assert counts(label) == {"holes": 1}


def test_a_cavity_within_its_wall_is_no_hole():
    label = heart()
    label[4:10, 4:10, 9] = WALL  # a lid: the wall encloses the cavity
    assert counts(label) == {"lost": 2}  # to left atrium and aorta


@pytest.mark.parametrize("value, open_to", [(0, 1), (RV, 1), (RA, 1), (PA, 1), (LA, 0), (AORTA, 0)])
def test_what_a_cavity_may_open_to(value, open_to):
    label = heart()
    label[10, 4:8, 4:8] = value  # in the wall beside the cavity, 16 voxels of its rim of 152: 10.5 %
    found = plausibility(label)
    assert found["leak_voxels"] == 16 * open_to and found["leaks"] == open_to
    assert plausibility(label, leak=0.11)["leaks"] == 0


def test_the_border_of_the_array_is_open():
    label = heart()[4:]  # cuts the cavity along 36 voxels
    found = plausibility(label)
    assert found["leaks"] == 1 and found["leak_voxels"] == 36


@pytest.mark.parametrize(
    "first, other",
    [(LV, WALL), (LV, LA), (LV, AORTA), (WALL, RV), (RV, RA), (RV, PA)],
)
def test_lost_contacts(first, other):
    label = heart()
    near = ndimage.binary_dilation(label == first) & (label == other)
    label[near] = 0
    assert counts(label, leak=1)["lost"] == 1
    x, y, z = np.argwhere(near)[0]
    label[x, y, z] = other  # one side is enough
    assert "lost" not in counts(label, leak=1)


def test_edges_are_no_contact():
    label = heart()
    label[:, :, 10:] = np.roll(label[:, :, 10:], 6, axis=0)  # RA and PA lie beside the RV's edge, LA and aorta on it
    found = plausibility(label)
    assert found["lost"] == 4 and found["leak_voxels"] == 36


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((1, -1))] * 3), st.integers(0, 3), st.integers(0, 2**32))
def test_turns_and_margins_change_nothing(axes, signs, margin, seed):
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(heart().shape) < 0.03, rng.integers(0, 8, heart().shape), heart()).astype(np.uint8)
    label = np.pad(label, 1)
    turned = np.pad(label.transpose(axes)[:: signs[0], :: signs[1], :: signs[2]], margin)
    assert plausibility(turned).equals(plausibility(label))
    pieces = sum(ndimage.label(label == v, np.ones((3, 3, 3)))[1] - 1 for v in range(1, 8))
    lv = np.isin(label, (LV, WALL))
    masks = [lv, *(label == v for v in range(3, 8))]
    inside = sum(ndimage.label(ndimage.binary_fill_holes(m) & ~m)[1] for m in masks)
    assert (plausibility(label)["pieces"], plausibility(label)["holes"]) == (pieces, inside)


def test_schemes_and_kinds_of_array():
    odd = LabelScheme(
        "odd", tuple(s.numbered(v) for s, v in zip(WHOLE_HEART.structures, (500, 205, 600, 420, 550, 820, 850)))
    )
    label = heart()
    label[14, 5, 6] = 0
    found = plausibility(label)
    assert plausibility(np.array([0, *odd.values])[label], odd).equals(found)
    assert of_any_scheme(label, WHOLE_HEART).equals(found) and plausibility(torch.from_numpy(label)).equals(found)
    assert of_any_scheme(label, WHOLE_HEART, min_voxels=2)["plausible"]


def test_bad_input():
    with pytest.raises(UsageError, match="left atrium"):
        plausibility(heart() // 4, CARDIAC)
    with pytest.raises(DataError, match=r"label values \[8\]"):
        plausibility(np.full((3, 3, 3), 8, np.uint8))
    with pytest.raises(DataError, match="label map of integers"):
        plausibility(heart().astype(float))
    with pytest.raises(UsageError, match="min_voxels: found"):
        plausibility(heart(), min_voxels=-1)
    with pytest.raises(UsageError, match="leak: found"):
        plausibility(heart(), leak=np.nan)
    with pytest.raises(UsageError, match="spacing: found"):
        plausibility(heart(), spacing=(1, 1))


@pytest.mark.parametrize("shape, mm", [((28, 24, 28), 6.0), ((72, 61, 84), 3.0)])
def test_phantoms_are_plausible(shape, mm):
    grid, mix = Grid(shape, (mm, mm, mm)), Mix(WHOLE_GROUPS, known=WHOLE_GROUPS)
    assert all(plausibility(whole_heart_labels(mix.patient(5, i), grid))["plausible"] for i in range(6))


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("name, at_3_mm", [("heart_chambers", {}), ("heart_with_veins", {"pieces": 1})])
def test_a_real_whole_heart(name, at_3_mm):
    folder = Path(os.environ.get("SHAPELAB_DATA", "")) / "whole_heart"
    if not (folder / f"{name}.nii.gz").is_file():
        pytest.skip(f"needs {name}.nii.gz in SHAPELAB_DATA/whole_heart")
    subject = open_cohort("folder", folder, scheme=WHOLE_HEART, mapping=MYO_FIRST)[name]
    for shape, mm in (((72, 61, 84), 3.0), ((28, 24, 28), 6.0)):
        label = np.asarray(to_grid(subject, Grid(shape, (mm, mm, mm)), **vars(WHOLE_HEARTS)).label)
        assert counts(label, min_voxels=2) == {} and map_doubts(label, WHOLE_HEART) == []
        assert mm != 3.0 or counts(label) == at_3_mm  # one voxel of wall by itself, between LV cavity and aorta
        assert counts(label[:, :, label.shape[2] // 2 :])  # half a heart is none


def without(*values):
    return np.where(np.isin(heart(), values), 0, heart())


def opened():
    label = heart()
    label[10:12, 4:8, 4:8] = 0
    return label


def apart():
    label = np.roll(heart(), 1, axis=2)
    label[:, :, :11] = heart()[:, :, :11]
    label[:, :, 10] = np.where(np.isin(heart()[:, :, 10], (RA, PA)), 0, heart()[:, :, 10])
    return label


@pytest.mark.parametrize(
    "label, expected",
    [
        (heart(), []),
        (without(RA, PA), ["no right atrium, no pulmonary artery"]),
        (opened(), ["an LV cavity that is open to what is not its wall"]),
        (apart(), ["2 pair(s) of structures apart that touch in a heart"]),
    ],
)
def test_what_speaks_of_a_failed_segmentation(label, expected):
    assert map_doubts(label, WHOLE_HEART) == expected


def test_crumbs_are_no_doubt_but_pieces_are():
    label = heart()
    label[19:21, 2:12, 2] = PA  # 20 voxels of 1780: 1.1 %
    assert map_doubts(label, WHOLE_HEART) == []
    label[19:21, 2:12, 3] = PA  # 40 of 1800: 2.2 %
    assert map_doubts(label, WHOLE_HEART) == ["separate pieces or holes"]


def test_neither_volumes_nor_scores_take_a_whole_heart_for_a_stack():
    label = heart()
    label[:, :, 6] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = volumes_and_masses(label, (10, 10, 10), WHOLE_HEART)
        evaluate_cohort([label], [label], (10, 10, 10), labels=WHOLE_HEART)
    assert found["volumes_ml"]["LV cavity"] == (label == LV).sum() == 180
    with pytest.warns(UserWarning, match="slice 6"):
        volumes_and_masses(np.minimum(label, 3), (10, 10, 10), CARDIAC)
