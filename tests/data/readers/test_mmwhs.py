"""The MM-WHS reader: the publisher's layout in order and out of order, label maps that count otherwise, preparation."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from shapelab.data import check_folder, open_cohort
from shapelab.data.checking import detect
from shapelab.data.grid import Grid, to_grid
from shapelab.data.readers import mmwhs
from shapelab.data.readers.mmwhs import MYO_FIRST
from shapelab.data.reading import check_case
from shapelab.data.scheme import WHOLE_HEART
from shapelab.data.volumes import WHOLE_HEARTS
from shapelab.errors import DataError, UsageError
from shapelab.experiments.joint_space.hearts import real_scans

SHAPE = (16, 14, 12)
#: The challenge's integers in the order of WHOLE_HEART: LV, myocardium, RV, LA, RA, aorta, pulmonary artery.
INTEGERS = (500, 205, 600, 420, 550, 820, 850)
#: The same in the order myocardium, LA, LV, RA, RV, aorta, pulmonary artery.
OTHERS = (3, 1, 5, 2, 4, 6, 7)


def blocks(integers=INTEGERS, dtype=np.int16):
    """Structure k (from 1) fills k + 1 voxels along z in a column of 2 x 2 of its own."""
    label = np.zeros(SHAPE, dtype)
    for k, (value, (i, j)) in enumerate(zip(integers, itertools.product((4, 6, 8), (4, 6, 8)), strict=False)):
        label[i : i + 2, j : j + 2, 2 : 4 + k] = value
    return label


def image(seed=0):
    return np.random.default_rng(seed).integers(-200, 400, SHAPE).astype(np.int16)


@pytest.fixture
def make(tmp_path, write_nifti):
    """``make(flat=False, integers=INTEGERS) -> root``: two CT, two MR, one blind CT."""

    def made(flat=False, integers=INTEGERS):
        root, spacing = tmp_path / "MM-WHS", (2.0, 2.0, 2.0)
        for kind, numbers in (("ct_train", (1001, 1002)), ("mr_train", (1001, 1002)), ("ct_test", (2001,))):
            for number in numbers:
                stem = root / ("" if flat else kind) / f"{kind}_{number}"
                write_nifti(Path(f"{stem}_image.nii.gz"), image(number), spacing)
                if kind != "ct_test":
                    write_nifti(Path(f"{stem}_label.nii.gz"), blocks(integers), spacing)
        return root

    return made


@pytest.mark.parametrize("flat", [False, True])
def test_the_publishers_layout(make, flat):
    root = make(flat)
    cohort = open_cohort("mmwhs", root)
    assert cohort.ids == ("ct_test_2001", "ct_train_1001", "ct_train_1002", "mr_train_1001", "mr_train_1002")
    assert cohort.scheme is WHOLE_HEART and len(cohort.patients) == 5
    assert dict(cohort["mr_train_1002"].facts) == {"patient": "mr_train_1002", "modality": "MR", "subset": "training"}
    assert cohort["ct_test_2001"].label is None and cohort["ct_test_2001"].facts["subset"] == "testing"
    label = cohort["ct_train_1001"].label
    assert np.bincount(label.ravel())[1:].tolist() == [8, 12, 16, 20, 24, 28, 32]  # LV, myocardium, RV, LA, ...
    assert [int(label[i, j, 2]) for i, j in ((4, 4), (4, 6), (4, 8), (6, 4), (6, 6))] == [1, 2, 3, 4, 5]
    assert (cohort["ct_train_1001"].image == image(1001)).all()
    assert detect(root) == detect(root.parent) == [("mmwhs", root)]
    assert check_folder(root).empty and check_folder(root).attrs["notes"] == []


def test_the_known_slip_is_the_left_atrium_and_is_noted(make, write_nifti):
    root = make()
    file = root / "mr_train" / "mr_train_1002_label.nii.gz"
    slipped = blocks()
    slipped[6, 4, 2] = 421
    write_nifti(file, slipped, (2.0, 2.0, 2.0))
    assert (open_cohort("mmwhs", root)["mr_train_1002"].label == blocks((1, 2, 3, 4, 5, 6, 7))).all()
    table = check_folder(root)
    assert table.empty
    assert table.attrs["notes"] == ["mmwhs: label value 421 in mr_train_1002; taken for 420, as a slip that is known"]


def test_the_slip_is_noted_whatever_the_format(make, write_nifti):
    import SimpleITK

    root = make(flat=True)
    file, slipped = root / "ct_train_1001_label.nii.gz", blocks()
    slipped[6, 4, 2] = 421
    write_nifti(file, slipped, (2.0, 2.0, 2.0))
    SimpleITK.WriteImage(SimpleITK.ReadImage(file), root / "ct_train_1001_label.nrrd")
    file.unlink()
    table = check_folder(root)
    assert table.empty and [note[:39] for note in table.attrs["notes"]] == ["mmwhs: label value 421 in ct_train_1001"]


def test_a_slip_is_none_to_a_mapping_that_does_not_know_it(make, write_nifti):
    slipped = blocks(OTHERS)
    slipped[6, 4, 2] = 421
    root = make(integers=OTHERS)
    write_nifti(root / "ct_train" / "ct_train_1001_label.nii.gz", slipped, (2.0, 2.0, 2.0))
    scan = mmwhs.scan(root, mapping=MYO_FIRST)
    found = {case.id: check_case(scan, case) for case in scan.cases}
    assert [(name, c.slips, len(c.problems)) for name, c in found.items() if c.problems] == [("ct_train_1001", [], 1)]
    subject = found["ct_train_1002"].subject
    assert (subject.label == blocks((1, 2, 3, 4, 5, 6, 7))).all() and subject.image is None
    assert found["ct_train_1001"].subject is None and found["ct_test_2001"].subject is None
    assert all(np.allclose(c.affine[:3, :3], 2 * np.eye(3)) for c in found.values())


def break_label(value):
    def broken(label):
        label[0, 0, 0] = value
        return label

    return broken


@pytest.mark.parametrize(
    "broken, found",
    [
        (break_label(422), r"label values \[422\]"),
        (break_label(np.nan), r"not finite"),
        (lambda label: 0 * label, "an empty label map"),
        (lambda label: label[:-1], "15 x 14 x 12 voxels; expected 16 x 14 x 12"),
    ],
)
def test_label_maps_out_of_order(make, write_nifti, broken, found):
    root = make()
    file = root / "ct_train" / "ct_train_1002_label.nii.gz"
    write_nifti(file, broken(blocks(dtype=np.float32)), (2.0, 2.0, 2.0))
    with pytest.raises(DataError, match=found) as caught:
        _ = open_cohort("mmwhs", root)["ct_train_1002"].label
    assert caught.value.file == str(file)
    assert check_folder(root).file.tolist() == [str(file)]
    with pytest.warns(UserWarning, match="left out"):
        assert "ct_train_1002" not in open_cohort("mmwhs", root, on_error="skip").ids


@pytest.mark.parametrize("kind", ["image", "label"])
def test_files_cut_short_or_missing(make, kind):
    root = make()
    file = root / "mr_train" / f"mr_train_1001_{kind}.nii.gz"
    file.write_bytes(file.read_bytes()[:-60])
    assert "truncated" in check_folder(root).found[0]
    file.unlink()
    what = {"image": "image", "label": "label map"}[kind]
    with pytest.raises(DataError, match=f"no such file .*; expected the {what} of 'mr_train_1001'"):
        open_cohort("mmwhs", root)


def test_label_maps_that_count_from_one(make):
    root = make(integers=OTHERS)
    with pytest.raises(DataError, match=r"label values \[1, 2, 3, 4, 5, 6, 7\]"):
        _ = open_cohort("mmwhs", root)["ct_train_1001"].label
    right = blocks((1, 2, 3, 4, 5, 6, 7))
    assert (open_cohort("mmwhs", root, mapping=MYO_FIRST)["ct_train_1001"].label == right).all()
    with pytest.raises(DataError, match=r"label values \[205, 420"):
        _ = open_cohort("mmwhs", make(), mapping=MYO_FIRST)["ct_train_1001"].label
    with pytest.raises(UsageError, match="mapping to"):
        _ = open_cohort("mmwhs", root, mapping={k: k + 1 for k in range(1, 8)})["ct_train_1001"].label


def test_in_a_folder_of_ones_own(tmp_path, write_nifti):
    write_nifti(tmp_path / "heart.nii.gz", blocks(OTHERS), (2.0, 2.0, 2.0))
    cohort = open_cohort("folder", tmp_path, scheme=WHOLE_HEART, mapping=MYO_FIRST)
    assert (cohort["heart"].label == blocks((1, 2, 3, 4, 5, 6, 7))).all()


def test_recognise(make, tmp_path):
    assert not mmwhs.recognise(tmp_path) and mmwhs.recognise(make())


def test_on_the_grid_of_the_joint_space(make, tmp_path):
    grid = Grid(SHAPE, (2.0, 2.0, 2.0))
    scans = real_scans("mmwhs", grid, make(), tmp_path)
    assert scans.table.modality.tolist() == ["CT", "CT", "MR", "MR"] and scans.scheme is WHOLE_HEART
    assert set(np.unique(scans.labels)) == set(range(8))
    assert np.allclose(scans.images.astype(float).mean((1, 2, 3)), 0, atol=1e-3)
    middle = np.argwhere(scans.labels[0]).mean(0)
    assert np.allclose(middle, (np.array(SHAPE) - 1) / 2, atol=0.6)  # the heart is in the middle, which it was not
    assert not np.allclose(np.argwhere(blocks()).mean(0), (np.array(SHAPE) - 1) / 2, atol=0.6)
    assert np.array_equal(real_scans("mmwhs", grid, make(), tmp_path).images, scans.images)


@pytest.mark.realdata
@pytest.mark.slow
def test_a_real_whole_heart():
    folder = Path(os.environ.get("SHAPELAB_DATA", "")) / "whole_heart"
    if not (folder / "heart_chambers.nii.gz").is_file():
        pytest.skip("needs heart_chambers.nii.gz in SHAPELAB_DATA/whole_heart")
    cohort = open_cohort("folder", folder, scheme=WHOLE_HEART, mapping=MYO_FIRST)
    sample = to_grid(cohort["heart_chambers"], Grid((28, 24, 28), (6, 6, 6)), **vars(WHOLE_HEARTS))
    volumes = np.bincount(np.asarray(sample.label).ravel(), minlength=8)[1:] * 0.216
    assert np.allclose(volumes, [45, 89, 67, 80, 92, 66, 68], rtol=0.08)  # ml: LV, myocardium, RV, LA, RA, aorta, PA
    centre = {name: np.argwhere(sample.label == k + 1).mean(0) for k, name in enumerate(WHOLE_HEART.names)}
    assert centre["RV cavity"][0] > centre["LV cavity"][0]  # to the patient's right
    assert centre["left atrium"][1] < centre["RV cavity"][1] and centre["ascending aorta"][2] > centre["LV cavity"][2]
