"""The LPBA40 reader: Analyze and NIfTI, sides, a user's mapping, and copies that are broken."""

import nibabel
import numpy as np
import pytest

from shapelab.data import check_folder, open_cohort
from shapelab.data.checking import detect
from shapelab.data.readers.lpba40 import CAUDATE_HIPPOCAMPUS, LABELS, LPBA40
from shapelab.errors import DataError, UsageError

SHAPE = (9, 8, 7)
KINDS = {"img": nibabel.AnalyzeImage, "pair": nibabel.Nifti1Pair, "nii.gz": nibabel.Nifti1Image}


def labels():
    """Both sides by the array's first axis, from left (high) to right (low), and the brainstem."""
    label = np.zeros(SHAPE, np.uint8)
    label[6, 5, 4], label[2, 5, 4] = 161, 162
    label[7, 3, 2], label[1, 3, 2] = 165, 166
    label[4, 2, 1] = 182
    return label


def make(root, n=2, kind="img", label=None, axes=3):
    for i in range(1, n + 1):
        name, ending = f"S{i:02d}", "nii.gz" if kind == "nii.gz" else "img"
        (root / name).mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(i).integers(1, 200, SHAPE).astype(np.int16)
        for what, array in (("skullstripped", image), ("structure.label", labels() if label is None else label)):
            array = array[..., None] if axes == 4 else array
            affine = np.diag([-1, 1, 1.5, 1])
            KINDS[kind](array, affine).to_filename(root / name / f"{name}.delineation.{what}.{ending}")
    return root


@pytest.mark.parametrize("kind, axes", [("img", 3), ("img", 4), ("pair", 3), ("nii.gz", 3)])
def test_each_format(tmp_path, kind, axes):
    make(tmp_path, kind=kind, axes=axes)
    cohort = open_cohort("lpba40", tmp_path)
    assert cohort.ids == cohort.patients == ("S01", "S02") and cohort.scheme == CAUDATE_HIPPOCAMPUS
    assert dict(cohort[1].facts) == {"patient": "S02", "modality": "MR"}
    one = cohort[0]
    assert {v: np.argwhere(one.label == v).tolist() for v in range(1, 5)} == {
        1: [[6, 5, 4]],
        2: [[2, 5, 4]],
        3: [[7, 3, 2]],
        4: [[1, 3, 2]],
    }
    assert one.label.sum() == 10  # the brainstem is left out
    assert np.allclose(one.spacing, (1, 1, 1.5)) and one.image.shape == SHAPE
    assert "".join(nibabel.aff2axcodes(one.affine)) == "LAS"  # also where the header does not say it


@pytest.mark.parametrize("inside", ["LPBA40", "delineation_space", "LPBA40/delineation_space"])
def test_folders(tmp_path, inside):
    make(tmp_path / inside, n=1, kind="nii.gz")
    assert detect(tmp_path) == [("lpba40", tmp_path)]
    assert open_cohort("lpba40", tmp_path).ids == ("S01",)


def test_all_structures(tmp_path):
    cohort = open_cohort("lpba40", make(tmp_path, n=1), structures="all")
    assert len(LABELS) == 56 and cohort.scheme == LPBA40 and (cohort[0].label == labels()).all()
    known = {21: "left superior frontal gyrus", 34: "right gyrus rectus", 50: "right precuneus", 67: "left cuneus"}
    known |= {
        92: "right fusiform gyrus",
        101: "left insular cortex",
        122: "right cingulate gyrus",
        164: "right putamen",
    }
    assert {v: LABELS[v] for v in known} == known
    assert sum(n.startswith("left") for n in LABELS.values()) == 27


def test_a_mapping_and_axes_of_ones_own(tmp_path):
    label = np.zeros(SHAPE, np.uint8)
    label[6, 5, 4], label[2, 5, 4] = 7, 9
    make(tmp_path, n=1, label=label)
    with pytest.raises(DataError, match=r"label values \[7, 9\]"):
        open_cohort("lpba40", tmp_path)[0].label.any()
    one = open_cohort("lpba40", tmp_path, mapping={7: 3, 9: 0}, axes="PIR")[0]
    assert np.argwhere(one.label).tolist() == [[6, 5, 4]] and one.label.max() == 3
    assert np.allclose(one.affine[:3, :3], [[0, 0, 1.5], [-1, 0, 0], [0, -1, 0]])


def test_broken_copies(tmp_path):
    make(tmp_path, n=6, kind="nii.gz")

    def file(n, what="structure.label"):
        return tmp_path / f"S{n:02d}" / f"S{n:02d}.delineation.{what}.nii.gz"

    def write(path, array):
        nibabel.Nifti1Image(array, np.diag([-1, 1, 1.5, 1])).to_filename(path)

    file(1).write_bytes(file(1).read_bytes()[:-20])
    write(file(2), labels()[1:])
    write(file(3), np.full(SHAPE, 200, np.uint8))
    write(file(4, "skullstripped"), np.full(SHAPE, np.nan, np.float32))
    write(file(5), np.zeros(SHAPE, np.uint8))
    file(6).unlink()
    told = " ".join(check_folder(tmp_path)["found"])
    for part in ("truncated", "a label map of 8 x 8 x 7", "label values [200]", "not finite", "empty", "no such file"):
        assert part in told
    with pytest.raises(DataError, match="no such file"):
        open_cohort("lpba40", tmp_path)


def test_wrong_options(tmp_path):
    make(tmp_path, n=1)
    with pytest.raises(UsageError, match="found structures"):
        open_cohort("lpba40", tmp_path, structures="cortex")
    for axes in ("LA", "LAR", "las", "LASS"):
        with pytest.raises(UsageError, match="axes"):
            open_cohort("lpba40", tmp_path, axes=axes)
