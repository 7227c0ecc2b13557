"""`heart_cohort`: determinism, published means measured on label maps, topology, HR against LR, bad arguments."""

import pickle

import numpy as np
import pytest
from scipy import ndimage

from shapelab.data.cohort import Cohort
from shapelab.data.scheme import HIPPOCAMPUS
from shapelab.errors import ShapelabError, UsageError
from shapelab.metrics.clinical import cardiac_indices, structure_volumes
from shapelab.phantoms import LANDMARKS, heart_cohort
from shapelab.phantoms.acquisition import StackFlaws
from shapelab.phantoms.cohort import tidy


@pytest.fixture(scope="module")
def fine():
    """Ten patients at 1.25 x 1.25 x 2 mm, in memory."""
    cohort = heart_cohort(10, seed=2, resolution="HR")
    return Cohort([s.load() for s in cohort], cohort.name, cohort.scheme)


def test_ids_facts_and_shapes(fine):
    assert len(fine) == 20 and fine[0].id == "phantom000_ED" and fine[1].id == "phantom000_ES"
    table = fine.table
    assert list(table.group[::2]) == ["NOR", "DCM", "HCM", "MINF", "RV"] * 2
    for column in ("patient", "phase", "height", "weight", "LVV_ED", "LVEF", "infarct_territory", "angle", "spacing_z"):
        assert column in table
    strings = {"patient", "phase", "group", "modality"}
    assert all(np.issubdtype(table[c].dtype, np.number) for c in set(table.columns) - strings)
    assert {s.label.shape for s in fine[:4]} == {(144, 144, 64)}
    assert np.allclose(fine[0].spacing, (1.25, 1.25, 2.0))


def test_same_seed_same_arrays_whatever_n():
    few, many = heart_cohort(2, seed=9, resolution="LR"), heart_cohort(7, seed=9, resolution="LR")
    for a, b in zip(few, many):
        assert a.id == b.id and a.facts == b.facts and np.array_equal(a.label, b.label)
        assert all(np.array_equal(a.landmarks[k], b.landmarks[k]) for k in LANDMARKS)
    other = heart_cohort(2, seed=10, resolution="LR")
    assert other[0].facts["LVV_ED"] != few[0].facts["LVV_ED"]
    assert np.array_equal(few[0].label, few[0].label)  # made anew each time


def test_patient_is_the_same_heart_at_every_resolution(fine):
    coarse = heart_cohort(1, seed=2, resolution="LR")[0]
    for fact in ("LVV_ED", "RVEF", "angle", "shape_seed", "tilt_x"):
        assert coarse.facts[fact] == fine[0].facts[fact]
    apart = [h.landmarks["apex"] - h.landmarks["mitral valve centre"] for h in (coarse, fine[0])]
    assert np.allclose(*apart)


def test_one_phase_alone_is_the_same():
    both, alone = heart_cohort(1, resolution="LR"), heart_cohort(1, resolution="LR", phases=("ES",))
    assert len(alone) == 1 and np.array_equal(alone[0].label, both[1].label)


def test_subjects_travel_between_processes():
    s = heart_cohort(1, resolution="LR")[0]
    assert np.array_equal(pickle.loads(pickle.dumps(s.label_source))(), s.label)


@pytest.mark.slow
def test_cohort_means_are_the_published_ones():
    """Indices measured on label maps against SSLLN Tables IV and VI, and ACDC's groups: means within 10 %."""
    x = cardiac_indices(heart_cohort(100, seed=0, resolution=(2.5, 2.5, 4.0)))
    mean, sd = x.groupby("group").mean(numeric_only=True), x.groupby("group").std(numeric_only=True)
    published = {
        "NOR": {"LVV_ED": (147.6, 34.7), "LVM": (119.3, 25.7), "RVV_ED": (171.6, 39.5), "RVM": (33.7, 7.3)},
        "RV": {"LVV_ED": (114.8, 25.1), "LVM": (124.2, 25.3), "RVV_ED": (204.3, 58.5), "RVM": (49.9, 14.2)},
        "DCM": {"LVV_ED": (290, 43), "LVM": (178, 28), "RVV_ED": (177, 67)},
        "HCM": {"LVV_ED": (130, 38), "LVM": (175, 58), "RVV_ED": (119, 36)},
        "MINF": {"LVV_ED": (175, 47), "LVM": (122, 21), "RVV_ED": (115, 39)},
    }
    for group, indices in published.items():
        for name, (m, s) in indices.items():
            assert mean.loc[group, name] == pytest.approx(m, rel=0.10), (group, name)
            assert sd.loc[group, name] == pytest.approx(s, rel=0.5), (group, name)
    fractions = {"DCM": (19, 36), "HCM": (67, 61), "MINF": (31, 55), "NOR": (60, 55), "RV": (55, 30)}
    for group, (left, right) in fractions.items():
        assert mean.loc[group, "LVEF"] == pytest.approx(left, abs=3)
        assert mean.loc[group, "RVEF"] == pytest.approx(right, abs=5)
    low, high = x.groupby("group").LVEF.min(), x.groupby("group").LVEF.max()
    assert high["DCM"] < 40 and low["NOR"] > 49 and low["HCM"] > 49 and high["MINF"] < 49
    assert low["NOR"] > max(high["DCM"], high["MINF"])  # apart, as on ACDC


def test_measured_volumes_are_the_drawn_ones(fine):
    for s in fine:
        v, es = structure_volumes(s.label, s.spacing, s.scheme), s.facts["phase"] == "ES"
        assert v["LV cavity"] == pytest.approx(s.facts["LVV_ED"] * (1 - es * s.facts["LVEF"] / 100), rel=0.03)
        wall = s.facts["LVM"] / 1.05 * (s.facts["wall_ratio"] if es else 1)
        assert v["LV myocardium"] == pytest.approx(wall, rel=0.03)
        assert v["RV cavity"] == pytest.approx(s.facts["RVV_ED"] * (1 - es * s.facts["RVEF"] / 100), rel=0.06)
        assert v["RV wall"] == pytest.approx(s.facts["RVM"] / 1.05, rel=0.06)


def test_wall_volume_is_conserved_in_label_maps(fine):
    for ed, es in zip(fine[::2], fine[1::2]):
        wall = [structure_volumes(s.label, s.spacing, s.scheme)["LV myocardium"] for s in (ed, es)]
        assert wall[1] / wall[0] == pytest.approx(1, abs=0.06)  # 5 % of the surfaces, 1 % of voxels


def test_fine_label_maps_are_in_one_piece(fine):
    for s in fine:
        for value in s.scheme.values:
            assert ndimage.label(s.label == value, np.ones((3, 3, 3)))[1] == 1, (s.id, value)


def test_lv_cavity_is_closed_in_every_slice(fine, stacks):
    for s in [*fine, *stacks]:
        label = np.pad(s.label, ((1, 1), (1, 1), (0, 0)))
        cavity, open_to = label == 3, (label != 3) & (label != 2)
        for axis in (0, 1):
            for step in (1, -1):
                assert not (cavity & np.roll(open_to, step, axis)).any(), s.id


def test_rv_touches_the_septum_and_the_lv_lies_on_its_right(stacks):
    for s in stacks:
        label = s.label
        myocardium = ndimage.binary_dilation(label == 2, ndimage.generate_binary_structure(3, 1))
        assert ((label == 1) & myocardium).sum() > 20
        away = np.argwhere(label == 1).mean(0) - np.argwhere((label == 2) | (label == 3)).mean(0)
        found = np.rad2deg(np.arctan2(away[1], away[0]))
        assert abs((found - s.facts["angle"] + 180) % 360 - 180) < 45
        assert away[0] < 10  # RV on the left of the picture, or above or below


def test_slice_0_is_the_base(stacks):
    for s in stacks:
        area = (s.label == 3).sum((0, 1))
        there = np.flatnonzero(area)
        assert area[there[-1]] < 0.8 * area[there[0]] or area[there[-1]] < 0.5 * area.max(), s.id
        assert s.landmarks["apex"][2] > s.landmarks["mitral valve centre"][2]


def test_landmarks_are_inside_their_structures(fine):
    for s in fine:
        label = s.label

        def near(name, s=s, label=label):
            i = np.round(s.landmarks[name] / s.spacing).astype(int)
            box = tuple(slice(k - 1, k + 2) for k in i)
            return set(np.unique(label[box]).tolist())

        assert 2 in near("LV lateral wall mid-point")
        for name in ("RV insertion anterior", "RV insertion inferior"):
            assert 2 in near(name) and near(name) & {1, 4, 0}
        assert near("RV lateral wall turning point") & {1, 4}
        assert 2 in near("apex")
        lowest = np.flatnonzero(((label == 2) | (label == 3)).any((0, 1)))[-1] * s.spacing[2]
        assert s.landmarks["apex"][2] == pytest.approx(lowest, abs=s.spacing[2] + 0.01)


def test_low_and_high_resolution_agree_in_volume():
    """The same hearts at 2 x 2 x 3 mm, as a 10 mm stack without an observer, and with one."""
    settings = (
        {"resolution": (2, 2, 3)},
        {"resolution": "LR", "flaws": StackFlaws(contour_noise=0)},
        {"resolution": "LR"},
    )
    names = ["LV cavity", "LV myocardium", "RV cavity"]
    fine, plain, drawn = (
        np.array([structure_volumes(s.label, s.spacing, s.scheme)[names] for s in heart_cohort(20, seed=4, **k)])
        for k in settings
    )
    # single hearts: a small cavity at ES is four slices high, and where its base lies between two of them counts
    for coarse, each in ((plain, 0.2), (drawn, 0.25)):
        ratio = coarse / fine
        assert np.allclose(ratio.mean(0), 1, atol=0.04)
        assert np.abs(ratio[:, :2] - 1).max() < each and np.median(np.abs(ratio - 1)) < 0.05


def test_tidy_drops_isolated_voxels_and_keeps_pieces():
    label = np.zeros((12, 12, 3), np.uint8)
    label[2:6, 2:6], label[2, 10, 1], label[8:10, 8:10, 1] = 1, 1, 1
    whole, slices = tidy(label, by_slice=False), tidy(label, by_slice=True)
    assert (whole == 1).sum() == 48 and whole[2, 10, 1] == 0 and whole[8, 8, 1] == 0
    assert slices[2, 10, 1] == 0 and slices[8, 8, 1] == 1  # 1 of 16 pixels is dropped, 4 of 16 a piece
    cavity = np.full((5, 5, 3), 2, np.uint8)
    cavity[1, 1], cavity[3, 3, 1] = 3, 3
    assert tidy(cavity, by_slice=False)[3, 3, 1] == 2 and (tidy(cavity, by_slice=False) == 3).sum() == 3


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("n", 0),
        ("n", 2.5),
        ("n", True),
        ("seed", -1),
        ("seed", "a"),
        ("groups", ("NOR", "ARV")),
        ("groups", "NOR"),
        ("groups", ()),
        ("resolution", "MR"),
        ("resolution", (1, 1)),
        ("resolution", (1, 1, -2)),
        ("resolution", None),
        ("phases", ("ED", "MID")),
        ("phases", "ED"),
        ("phases", ()),
        ("scheme", HIPPOCAMPUS),
    ],
)
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(UsageError, match=rf"^{argument}.*: found"):
        heart_cohort(**{"n": 1, argument: value})
    assert issubclass(UsageError, ShapelabError)
