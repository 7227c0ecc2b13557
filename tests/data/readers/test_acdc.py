"""The ACDC reader: its layout in all its forms, Info.cfg, and the real patients."""

import shutil

import numpy as np
import pytest

from shapelab.data import open_cohort
from shapelab.data.facts import GROUPS
from shapelab.data.readers import acdc
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError


@pytest.fixture
def root(tmp_path, make_acdc):
    return make_acdc(tmp_path / "acdc", n=5)


def patient(root, n=1):
    return root / "training" / f"patient{n:03d}"


def test_ids_facts_and_arrays(root, tiny_heart):
    cohort = open_cohort("acdc", root)
    assert cohort.ids[:3] == ("patient001_ED", "patient001_ES", "patient002_ED") and len(cohort) == 10
    assert cohort.scheme is CARDIAC and cohort.name == "acdc" and len(cohort.patients) == 5
    assert dict(cohort["patient002_ES"].facts) == {
        "patient": "patient002",
        "phase": "ES",
        "group": "DCM",
        "modality": "MR",
        "height": 171.0,
        "weight": 71.0,
        "frame": 4,
        "n_frames": 8,
        "subset": "training",
    }
    assert list(cohort.filter(phase="ED").table.group) == ["NOR", "DCM", "HCM", "MINF", "RV"]
    assert np.array_equal(cohort[0].label, tiny_heart()) and np.array_equal(cohort[1].label, tiny_heart(scale=0.75))
    assert cohort[0].image.dtype == np.float32 and cohort[0].image.max() > 200
    train, test = cohort.split(stratify=None, test=0.4)
    assert not set(train.patients) & set(test.patients) and len(test) == 4


@pytest.mark.parametrize("inside", ["", "training", "database/training", "ACDC/database/training"])
def test_layouts(tmp_path, make_acdc, inside):
    make_acdc(tmp_path / "x" / inside, n=2, subset=None)
    cohort = open_cohort("acdc", tmp_path / "x")
    assert len(cohort) == 4
    assert cohort[0].facts.get("subset") == ("training" if inside else None)


def test_root_may_be_a_subset_folder_or_the_folder_of_data_sets(root):
    assert len(open_cohort("acdc", root / "training")) == 10
    assert len(open_cohort("acdc", str(root.parent))) == 10


def test_training_and_testing(root, tmp_path, make_acdc):
    make_acdc(tmp_path / "more", n=1)
    shutil.move(tmp_path / "more" / "training" / "patient001", root / "testing" / "patient101")
    for file in (root / "testing" / "patient101").glob("patient001*"):
        file.rename(file.with_name(file.name.replace("001", "101")))
    assert open_cohort("acdc", root).filter(phase="ED").table.subset.tolist() == ["training"] * 5 + ["testing"]
    assert open_cohort("acdc", root, subset="testing").patients == ("patient101",)
    with pytest.raises(UsageError, match="found 'validation'; expected one of"):
        open_cohort("acdc", root, subset="validation")


def test_cine_other_files_and_plain_nifti_do_not_disturb(root, write_nifti, tiny_heart):
    write_nifti(patient(root) / "patient001_4d.nii.gz", np.ones((24, 20, 5, 8), np.int16))
    (patient(root) / "._patient001_frame01.nii.gz").write_bytes(b"macOS")
    (root / "training" / "MANDATORY_CITATION.md").write_text("cite us")
    (root / "__MACOSX").mkdir()
    gt = patient(root) / "patient001_frame01_gt.nii.gz"
    gt.unlink()
    write_nifti(gt.with_suffix(""), tiny_heart())
    assert len(open_cohort("acdc", root, on_error="skip")) == 10


def test_cine_in_place_of_a_frame(root, write_nifti):
    file = write_nifti(patient(root) / "patient001_frame01.nii.gz", np.ones((24, 20, 5, 8), np.int16))
    with pytest.raises(DataError, match="a 4D array, 24 x 20 x 5 x 8; expected three axes") as caught:
        open_cohort("acdc", root)
    assert caught.value.file == str(file) and "cine" in caught.value.todo


@pytest.mark.parametrize("phase, number", [("ED", 1), ("ES", 4)])
@pytest.mark.parametrize("ending, what", [("", "image"), ("_gt", "label map")])
def test_frame_absent(root, phase, number, ending, what):
    file = patient(root) / f"patient001_frame{number:02d}{ending}.nii.gz"
    file.unlink()
    with pytest.raises(DataError) as caught:
        open_cohort("acdc", root)
    error = caught.value
    assert error.file == str(file) and f"patient001_frame{5 - number:02d}.nii.gz" in error.found
    assert error.found.startswith("no such file (here: ")
    assert error.expected == f"the {what} of the {phase} frame, number {number} in Info.cfg"
    with pytest.warns(UserWarning, match="left out"):
        assert len(open_cohort("acdc", root, on_error="skip")) == 9


@pytest.mark.parametrize("key", acdc.KEYS)
def test_info_key_missing(root, key):
    file = patient(root, 2) / "Info.cfg"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith(key + ":")))
    with pytest.raises(DataError, match=f"found no key '{key}'; expected the keys ED, ES, Group") as caught:
        open_cohort("acdc", root)
    assert caught.value.file == str(file)


@pytest.mark.parametrize(
    "old, new, found",
    [
        ("ED: 1", "ED: one", "ED 'one'"),
        ("ED: 1", "ED: 1.5", "ED '1.5'"),
        ("ED: 1", "ED: 0", "ED '0'"),
        ("ES: 4", "ES: 9", "ES 9"),
        ("ES: 4", "ES: 1", "ED and ES both 1"),
        ("ES: 4", "ES:", "ES ''"),
        ("Group: DCM", "Group: XYZ", "Group 'XYZ'"),
        ("Group: DCM", "Group:", "Group ''"),
        ("Height: 171.0", "Height: nan", "Height 'nan'"),
        ("Height: 171.0", "Height: -3", "Height '-3'"),
        ("Weight: 71.0", "Weight: inf", "Weight 'inf'"),
        ("Weight: 71.0", "Weight: 7l", "Weight '7l'"),
        ("NbFrame: 8", "NbFrame: many", "NbFrame 'many'"),
        ("NbFrame: 8", "NbFrame 8", "the line 'NbFrame 8'"),
        ("Weight: 71.0", "Weight: 71.0\nWeight: 80", "the line 'Weight: 80' after another of that key"),
    ],
)
def test_info_value_wrong(root, old, new, found):
    file = patient(root, 2) / "Info.cfg"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DataError) as caught:
        open_cohort("acdc", root)
    assert caught.value.file == str(file) and caught.value.found == found


def test_info_absent_or_not_text(root):
    file = patient(root, 2) / "Info.cfg"
    file.write_bytes(b"\xff\xfe\x00ED")
    with pytest.raises(DataError, match="cannot be read as text"):
        open_cohort("acdc", root)
    file.unlink()
    with pytest.raises(DataError, match="Info.cfg: found no such file"):
        open_cohort("acdc", root)


def test_every_problem_of_an_info_is_told(tmp_path):
    file = tmp_path / "Info.cfg"
    file.write_text("\ufeffED: 1\nES: x\nGroup: ?\n\nHeight: 0\n", encoding="utf-8")
    info, errors = acdc.read_info(file)
    assert info is None and len(errors) == 5  # NbFrame and Weight missing; ES, Group, Height wrong
    file.write_text("ED: 2\r\nES:7\r\nGroup : RV\r\nHeight: 160\r\nNbFrame: 30\r\nWeight: 55.5\r\nOther: 1\r\n")
    assert acdc.read_info(file) == (acdc.Info(2, 7, "RV", 160.0, 30, 55.5), [])


# ------------------------------------------------------------------------------------------- real patients
@pytest.mark.realdata
def test_real_patients(acdc_root):
    cohort = open_cohort("acdc", acdc_root)
    counts = cohort.filter(phase="ED").table.group.value_counts()
    assert len(cohort) == 2 * len(cohort.patients) and len(cohort.patients) >= 80
    assert counts.nunique() == 1 and counts["NOR"] >= 16 and set(counts.index) == set(GROUPS)
    first = cohort["patient001_ED"]
    assert dict(first.facts) == {
        "patient": "patient001",
        "phase": "ED",
        "group": "DCM",
        "modality": "MR",
        "height": 184.0,
        "weight": 95.0,
        "frame": 1,
        "n_frames": 30,
        "subset": "training",
    }
    assert first.shape == (216, 256, 10) and np.allclose(first.spacing, (1.5625, 1.5625, 10))


@pytest.mark.realdata
def test_real_volumes_of_one_patient(acdc_root):
    """Voxels counted by hand with nibabel and numpy alone; times 1.5625 * 1.5625 * 10 / 1000 ml."""
    cohort = open_cohort("acdc", acdc_root)
    for phase, voxels in (("ED", (5723, 6728, 12104)), ("ES", (2439, 7990, 9241))):
        assert tuple(np.bincount(cohort[f"patient001_{phase}"].label.ravel())[1:]) == voxels
    ml = 1.5625 * 1.5625 * 10 / 1000
    assert 12104 * ml == pytest.approx(295.5, abs=0.05)
    assert 100 * (1 - 9241 / 12104) == pytest.approx(23.65, abs=0.01)  # EF of a dilated heart


@pytest.mark.realdata
def test_real_folder_has_nothing_wrong(acdc_root):
    from shapelab.data import check_folder

    table = check_folder(acdc_root)
    assert table.empty, table.to_string()
    assert table.attrs["checked"][0][0] == "acdc" and table.attrs["checked"][0][2] >= 160
