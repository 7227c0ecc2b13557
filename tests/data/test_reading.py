"""From a scan to a cohort: lazy or checked, raising or skipping."""

import pickle
import warnings

import numpy as np
import pytest

from shapelab.data.readers import acdc
from shapelab.data.reading import SkippedSubject, check_case, open_case, to_cohort
from shapelab.errors import DataError, UsageError


@pytest.fixture
def root(tmp_path, make_acdc):
    return make_acdc(tmp_path / "acdc", n=3)


def frame(root, patient=2, number=1, gt=True):
    name = f"patient{patient:03d}"
    return root / "training" / name / f"{name}_frame{number:02d}{'_gt' if gt else ''}.nii.gz"


def test_subjects_are_lazy_and_can_be_pickled(root):
    cohort = to_cohort(acdc.scan(root))
    frame(root).write_bytes(b"")  # spoilt after opening: noticed when its array is asked for, no sooner
    subject = cohort["patient001_ED"]
    again = pickle.loads(pickle.dumps(subject.label_source))
    assert np.array_equal(again(), subject.label) and subject.image.shape == subject.label.shape
    assert np.allclose(subject.spacing, (1.5, 1.5, 10)) and str(subject.file) == str(frame(root, 1))
    with pytest.raises(DataError, match="patient002_frame01_gt.nii.gz: found an empty file"):
        _ = cohort["patient002_ED"].label


def test_raise_names_the_first_bad_header(root):
    frame(root, gt=False).write_bytes(b"not nifti")
    with pytest.raises(DataError) as caught:
        to_cohort(acdc.scan(root))
    assert caught.value.file == str(frame(root, gt=False))


def test_sizes_in_metres_are_found_without_a_word_on_the_unit(root, write_nifti, tiny_heart):
    write_nifti(frame(root), tiny_heart(), spacing=(0.0015, 0.0015, 0.01))
    with pytest.raises(DataError, match="voxels of 0.0015 x 0.0015 x 0.01 mm; expected 0.02 to 100 mm. Is the unit mm"):
        to_cohort(acdc.scan(root))


def test_raise_finds_pairs_that_disagree(root, write_nifti):
    write_nifti(frame(root, gt=False), np.ones((24, 20, 6), np.int16))
    with pytest.raises(DataError, match="24 x 20 x 5 voxels; expected 24 x 20 x 6"):
        to_cohort(acdc.scan(root))


def test_skip_reports_header_and_content_and_keeps_the_others(root, write_nifti, tiny_heart):
    frame(root, 1, gt=False).write_bytes(b"")  # header of an image
    write_nifti(frame(root, 2, 4), tiny_heart() * 2)  # content of a label: values 4, 6
    (root / "training" / "patient003" / "Info.cfg").unlink()  # two subjects at once
    with pytest.warns(SkippedSubject) as caught:
        cohort = to_cohort(acdc.scan(root), on_error="skip")
    assert cohort.ids == ("patient001_ES", "patient002_ED")
    assert sorted(e.file for e in cohort.skipped) == sorted(
        map(str, (frame(root, 1, gt=False), frame(root, 2, 4), root / "training" / "patient003" / "Info.cfg"))
    )
    assert len(caught) == 3 and all("acdc: left out." in str(w.message) for w in caught)
    assert any("label values [4, 6]" in str(w.message) for w in caught)


def test_skip_is_silent_when_nothing_is_wrong(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cohort = to_cohort(acdc.scan(root), on_error="skip")
    assert len(cohort) == 6 and cohort.skipped == ()


def test_nothing_left_is_an_error(root):
    for file in root.rglob("Info.cfg"):
        file.write_text("")
    with pytest.warns(SkippedSubject), pytest.raises(DataError, match=r"no subject that can be read \(18 errors\)"):
        to_cohort(acdc.scan(root), on_error="skip")


def test_on_error_is_checked(root):
    with pytest.raises(UsageError, match="found 'ignore'; expected one of raise, skip"):
        to_cohort(acdc.scan(root), on_error="ignore")


def test_check_case_finds_several_things_in_one_subject(root, write_nifti):
    write_nifti(frame(root), np.full((24, 20, 5), 9, np.uint8))
    write_nifti(frame(root, gt=False), np.full((24, 20, 6), np.nan, np.float32))
    scan = acdc.scan(root)
    case = next(c for c in scan.cases if c.id == "patient002_ED")
    assert [p.kind for p in check_case(scan, case).problems] == ["label", "image", "pair"]
    assert [len(check_case(scan, other).problems) for other in scan.cases if other is not case] == [0] * 5
    with pytest.raises(DataError):
        open_case(scan, case)
