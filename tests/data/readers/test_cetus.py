"""The CETUS reader: today's archive, MetaImage, and the challenge's frames."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from shapelab.data import check_folder, open_cohort
from shapelab.data.checking import detect
from shapelab.data.scheme import LV_CAVITY
from shapelab.errors import DataError

SHAPE = (10, 11, 12)


def ball(scale=1.0):
    x, y, z = np.indices(SHAPE)
    return (((x - 5) / 3) ** 2 + ((y - 5) / 3) ** 2 + ((z - 6) / 4) ** 2 < scale).astype(np.uint8)


def write_mhd(path, array, spacing=1.0):
    kind = {"uint8": "MET_UCHAR", "int16": "MET_SHORT"}[array.dtype.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"ElementSpacing = {spacing} {spacing} {spacing}\nDimSize = {' '.join(map(str, array.shape))}\n"
        f"ElementType = {kind}\nElementDataFile = {path.stem}.raw\n"
    )
    path.with_suffix(".raw").write_bytes(array.tobytes(order="F"))


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 255, SHAPE).astype(np.int16)


def make(root, layout="mhd", n=2, write_nifti=None):
    for i in range(1, n + 1):
        for phase, scale in (("ED", 1.0), ("ES", 0.5)):
            if layout == "nifti":
                stem = root / f"patient{i:02d}" / f"patient{i:02d}_{phase}"
                write_nifti(stem.with_name(stem.name + ".nii.gz"), image(i), (0.0006, 0.0006, 0.0006))
                write_nifti(stem.with_name(stem.name + "_gt.nii.gz"), 255 * ball(scale), (0.0006, 0.0006, 0.0006))
            else:
                stem = root / f"Patient{i}" / f"Patient{i}_{phase}"
                write_mhd(stem.with_name(stem.name + ".mhd"), image(i))
                write_mhd(stem.with_name(stem.name + "_truth.mhd"), ball(scale))
    return root


@pytest.mark.parametrize("inside", ["", "dataset", "CETUS"])
def test_metaimage_layout(tmp_path, inside):
    make(tmp_path / inside)
    cohort = open_cohort("cetus", tmp_path)
    assert cohort.ids == ("patient01_ED", "patient01_ES", "patient02_ED", "patient02_ES")
    assert cohort.scheme is LV_CAVITY and cohort.name == "cetus" and cohort.patients == ("patient01", "patient02")
    assert dict(cohort[1].facts) == {"patient": "patient01", "phase": "ES", "modality": "3D US"}
    assert (cohort[0].label == ball()).all() and (cohort[1].label == ball(0.5)).all()
    assert (cohort[0].image == image(1)).all() and cohort[0].spacing.tolist() == [1, 1, 1]
    assert np.diag(cohort[0].affine).tolist() == [1, 1, 1, 1]  # the axes of the probe, in the file's order


def test_todays_archive_in_metres_with_255(tmp_path, write_nifti):
    cohort = open_cohort("cetus", make(tmp_path, "nifti", write_nifti=write_nifti))
    assert len(cohort) == 4 and (cohort[0].label == ball()).all()
    assert np.allclose(cohort[0].spacing, 0.6, atol=1e-6)  # mm
    assert check_folder(tmp_path).empty and detect(tmp_path) == [("cetus", tmp_path)]


def test_frames_of_the_challenge(tmp_path):
    folder = make(tmp_path, n=1) / "Patient1"
    for phase, number in (("ED", 1), ("ES", 7)):
        for suffix in (".mhd", ".raw"):
            (folder / f"Patient1_{phase}{suffix}").unlink()
        write_mhd(folder / f"Patient1_frame{number:02d}.mhd", image(number))
    times = folder / "Patient1_ED_ES_time.txt"
    times.write_text("ED: frame 1\r\nES: frame 7\r\n")
    cohort = open_cohort("cetus", tmp_path)
    assert [s.facts["frame"] for s in cohort] == [1, 7] and (cohort[1].image == image(7)).all()
    times.write_text("ED first\n")
    with pytest.raises(DataError, match="two lines that end in `frame N`"):
        open_cohort("cetus", tmp_path)
    times.write_text("ED: frame 1\nES: frame 9\n")
    with pytest.raises(DataError, match="Patient1_frame09.nii.gz: found no such file .here: .*Patient1_frame07.mhd"):
        open_cohort("cetus", tmp_path)
    times.write_text("ED: frame 1\nES: frame 7\n")
    for phase in ("ED", "ES"):
        for suffix in (".mhd", ".raw"):
            (folder / f"Patient1_{phase}_truth{suffix}").unlink()
        (folder / f"Patient1_{phase}_truth.vtk").write_text("# vtk DataFile Version 3.0\n")
    with pytest.raises(DataError, match="an outline as a mesh"):
        open_cohort("cetus", tmp_path)


def test_testing_part_has_images_alone(tmp_path):
    make(tmp_path / "training", n=1)
    make(tmp_path / "x", n=2)
    (tmp_path / "testing").mkdir()
    shutil.move(tmp_path / "x" / "Patient2", tmp_path / "testing" / "Patient2")
    for file in (tmp_path / "testing" / "Patient2").glob("*_truth.*"):
        file.unlink()
    cohort = open_cohort("cetus", tmp_path)
    assert [s.label is None for s in cohort] == [False, False, True, True]
    assert [s.facts["subset"] for s in cohort] == ["training", "training", "testing", "testing"]
    assert len(open_cohort("cetus", tmp_path, subset="training")) == 2


@pytest.mark.parametrize(
    ("name", "found", "kind"),
    [
        ("Patient1_ES.mhd", "no such file", "layout"),
        ("Patient1_ES_truth.mhd", "no such file", "layout"),
        ("Patient1_ES.raw", "no such file", "image"),
        ("Patient1_ES_truth.raw", "no such file", "label"),
    ],
)
def test_absent_file(tmp_path, name, found, kind):
    (make(tmp_path) / "Patient1" / name).unlink()
    table = check_folder(tmp_path, name="cetus")
    assert len(table) == 1 and table.found[0].startswith(found) and table.problem[0] == kind
    with pytest.warns(UserWarning, match="left out"):
        assert len(open_cohort("cetus", tmp_path, on_error="skip")) == 3


def test_broken_files(tmp_path):
    folder = make(tmp_path, n=3)
    raw = folder / "Patient1" / "Patient1_ED_truth.raw"
    raw.write_bytes(raw.read_bytes()[:-5])
    write_mhd(folder / "Patient1" / "Patient1_ES_truth.mhd", np.full(SHAPE, 7, np.uint8))
    write_mhd(folder / "Patient2" / "Patient2_ED_truth.mhd", ball()[:-1].copy())
    write_mhd(folder / "Patient2" / "Patient2_ES_truth.mhd", 0 * ball())
    write_mhd(folder / "Patient3" / "Patient3_ED_truth.mhd", ball(), spacing=1.5)
    (folder / "Patient3" / "Patient3_ES.mhd").write_text("<html>")
    table = check_folder(folder)
    wanted = {
        ("Patient1_ED_truth.raw", "label"): "a truncated file",
        ("Patient1_ES_truth.mhd", "label"): "label values [7]",
        ("Patient2_ED_truth.mhd", "pair"): "a label map of 9 x 11 x 12",
        ("Patient2_ES_truth.mhd", "label"): "an empty",
        ("Patient3_ED_truth.mhd", "pair"): "a label map whose affine",
        ("Patient3_ES.mhd", "header"): "no key 'ElementDataFile'",
    }
    assert len(table) == len(wanted)
    for (name, kind), found in wanted.items():
        row = table[table.file.str.endswith(name) & (table.problem == kind)]
        assert len(row) == 1 and row.found.iloc[0].startswith(found), (name, table.to_string())


def test_acdc_is_no_cetus_and_cetus_no_acdc(tmp_path, make_acdc):
    make_acdc(tmp_path / "a", n=1)
    make(tmp_path / "c", n=1)
    assert detect(tmp_path) == [("acdc", tmp_path / "a"), ("cetus", tmp_path / "c")]
    with pytest.raises(DataError, match="CETUS: 3D ultrasound"):
        open_cohort("cetus", tmp_path / "a")
