"""Pairs of a thick stack and a thin scan: found, checked, and laid on a grid."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.data import check_folder, open_cohort
from shapelab.data.grid import Grid
from shapelab.data.readers.digital_heart import check_pair, read_stack
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.experiments.acnn.digital_heart_pairs import digital_heart_pairs
from shapelab.phantoms import heart_cohort

FACTOR = 5
GRID = Grid((48, 48, 60), (3.0, 3.0, 2.0))


def to_project(label):
    """CARDIAC's integers -> the project's: 1 LV cavity, 2 LV myocardium, 4 RV cavity."""
    return np.array([0, 4, 2, 1], np.uint8)[label]


def make(root, write_nifti, n=2, phases=("ED", "ES"), names=("lvsa", "seg_lvsa", "sa")):
    """Phantom hearts at 3 x 3 x 2 mm; the stack is every fifth slice, starting with the third: same frame, 10 mm."""
    cohort = heart_cohort(n, seed=4, resolution=(3.0, 3.0, 2.0), images=True, scheme=CARDIAC, phases=phases)
    for s in cohort:
        folder, phase = root / s.patient, s.facts["phase"]
        image = (1000 * s.image).astype(np.int16)
        write_nifti(folder / f"{names[0]}_{phase}.nii.gz", image, affine=s.affine)
        write_nifti(folder / f"{names[1]}_{phase}.nii.gz", to_project(s.label), affine=s.affine)
        low = s.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 5, 2], [0, 0, 0, 1.0]])
        write_nifti(folder / f"{names[2]}_{phase}.nii.gz", np.ascontiguousarray(image[:, :, 2::5]), affine=low)
    return cohort


@pytest.fixture(scope="module")
def root(tmp_path_factory, write_nifti):
    folder = tmp_path_factory.mktemp("pairs")
    return folder, make(folder, write_nifti, n=2, phases=("ED",))


def test_cohort_has_the_fine_side_and_knows_the_stack(root):
    folder, hearts = root
    cohort = open_cohort("digital_heart", folder)
    assert cohort.ids == ("phantom000_ED", "phantom001_ED") and cohort.scheme is CARDIAC
    assert (cohort[0].label == hearts[0].label).all()  # integers of the project came to ours
    facts = cohort[0].facts
    assert (facts["high_spacing_z"], facts["low_spacing_z"], facts["phase"]) == (2, 10, "ED")
    stack = read_stack(cohort[0])
    assert stack.image.shape == (*hearts[0].shape[:2], len(range(2, hearts[0].shape[2], 5)))
    assert stack.affine[2, 2] == 10 and stack.affine[2, 3] == 4
    assert check_folder(folder).empty and check_folder(folder).attrs["checked"][0][0] == "digital_heart"
    with pytest.raises(UsageError, match="without an LR stack"):
        read_stack(hearts[0])


def test_pairs_on_a_grid(root):
    folder, hearts = root
    pairs, stacks = digital_heart_pairs(folder, GRID, FACTOR)
    assert pairs.images.shape == (2, 48, 48, 60) and stacks.shape == (2, 48, 48, 12) and (pairs.motion == 0).all()
    assert pairs.images.dtype == stacks.dtype == np.float16 and set(np.unique(pairs.labels)) == {0, 1, 2, 3}
    volume = (pairs.labels[0] == 3).sum() * 18 / 1000
    assert volume == pytest.approx((hearts[0].label == 3).sum() * 18 / 1000, rel=0.03)
    # the grid's LR slices hold what its HR slices show there: the stack was cut out of the scan without blurring
    middle = pairs.images[0].astype(np.float32)[:, :, 2::5]
    inside = (pairs.labels[0][:, :, 2::5] > 0) & (stacks[0] > 0)
    assert np.corrcoef(middle[inside], stacks[0].astype(np.float32)[inside])[0, 1] > 0.9
    with pytest.raises(UsageError, match="found 7 for 60 slices"):
        digital_heart_pairs(folder, GRID, 7)


def test_other_names(tmp_path, write_nifti):
    make(tmp_path, write_nifti, n=1, phases=("ED",), names=("high/scan", "high/labels", "low/stack"))
    names = {"high": "high/scan_{phase}", "label": "high/labels_{phase}", "low": "low/stack_{phase}"}
    assert len(scan_all(tmp_path, names)) == 1
    for name in ("lvsa_ED", "../{phase}", "/x/{phase}"):
        with pytest.raises(UsageError, match="digital_heart high: found"):
            scan_all(tmp_path, {"high": name})


def scan_all(root, names):
    from shapelab.data.readers.digital_heart import scan

    return scan(root, **names).cases


def test_what_is_no_pair(tmp_path, write_nifti):
    make(tmp_path, write_nifti, n=2)
    a, b = tmp_path / "phantom000", tmp_path / "phantom001"
    (a / "sa_ED.nii.gz").unlink()
    (a / "sa_ES.nii.gz").rename(a / "swap.nii.gz")
    (a / "lvsa_ES.nii.gz").rename(a / "sa_ES.nii.gz")
    (a / "swap.nii.gz").rename(a / "lvsa_ES.nii.gz")  # HR and LR taken for one another
    write_nifti(
        b / "sa_ED.nii.gz",
        np.ones((20, 20, 8), np.int16),
        (3, 3, 10),
        affine=np.array([[3, 0, 0, 900], [0, 3, 0, 0], [0, 0, 10, 0], [0, 0, 0, 1.0]]),
    )
    table = check_folder(tmp_path, name="digital_heart")
    assert sorted(table.problem) == ["layout", "pair", "pair"]
    assert table.found.str.contains("slices 10 mm apart").sum() == 1
    assert table.found.str.contains("a stack whose box shares").sum() == 1
    with pytest.raises(DataError, match="sa_ED.nii.gz: found no such file; expected the LR stack of the pair"):
        open_cohort("digital_heart", tmp_path)
    with pytest.warns(UserWarning, match="left out"):
        assert open_cohort("digital_heart", tmp_path, on_error="skip").ids == ("phantom001_ES",)


def test_slices_that_are_not_twice_as_thick(tmp_path, write_nifti):
    high = write_nifti(tmp_path / "h.nii.gz", np.ones((4, 4, 8), np.int16), (1, 1, 3))
    low = write_nifti(tmp_path / "l.nii.gz", np.ones((4, 4, 5), np.int16), (1, 1, 5))
    with pytest.raises(DataError, match="at least 2 times the distance"):
        check_pair(high, low)
