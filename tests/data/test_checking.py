"""The doctor finds everything that is wrong, in every file, and nothing where nothing is."""

import numpy as np
import pytest

from shapelab.data import check_folder
from shapelab.data.checking import COLUMNS, detect
from shapelab.data.formats import nifti
from shapelab.errors import DataError, UsageError


def test_a_good_data_set_has_an_empty_table(tmp_path, make_acdc):
    table = check_folder(make_acdc(tmp_path, n=2))
    assert table.empty and tuple(table.columns) == COLUMNS
    assert table.attrs["checked"] == [("acdc", str(tmp_path), 4)]


def test_finds_all_and_not_only_the_first(tmp_path, make_acdc, write_nifti, tiny_heart):
    make_acdc(tmp_path, n=5)

    def file(n, frame, ending=""):
        return tmp_path / "training" / f"patient00{n}" / f"patient00{n}_frame{frame:02d}{ending}.nii.gz"

    whole = file(1, 1, "_gt").read_bytes()
    file(1, 1, "_gt").write_bytes(whole[:-30])  # truncated
    write_nifti(file(1, 4, "_gt"), np.zeros((24, 20, 5), np.uint8))  # empty
    write_nifti(file(2, 1), np.full((24, 20, 5), np.nan, np.float32))  # NaN
    write_nifti(file(2, 4, "_gt"), tiny_heart() + 3)  # values
    write_nifti(file(3, 1, "_gt"), tiny_heart(), spacing=(1.4, 1.4, 10))  # affine
    file(4, 4).unlink()  # absent
    (tmp_path / "training" / "patient005" / "Info.cfg").write_text("ED: 1\nES: 4\nGroup: NOR\nHeight: x\n")
    table = check_folder(tmp_path)
    expected = {
        (str(file(1, 1, "_gt")), "label", "a truncated gzip file"),
        (str(file(1, 4, "_gt")), "label", "an empty label map"),
        (str(file(2, 1)), "image", "2400 voxel(s) that are not finite"),
        (str(file(2, 4, "_gt")), "label", "label values [4, 5, 6]"),
        (str(file(3, 1, "_gt")), "pair", "a label map whose affine puts a corner"),
        (str(file(4, 4)), "layout", "no such file"),
        (str(tmp_path / "training" / "patient005" / "Info.cfg"), "facts", "no key 'NbFrame'"),
        (str(tmp_path / "training" / "patient005" / "Info.cfg"), "facts", "no key 'Weight'"),
        (str(tmp_path / "training" / "patient005" / "Info.cfg"), "facts", "Height 'x'"),
    }
    assert len(table) == len(expected)
    for path, kind, found in expected:
        row = table[(table.file == path) & (table.problem == kind) & table.found.str.startswith(found)]
        assert len(row) == 1, (path, kind, found)
        assert row.expected.iloc[0] and row.todo.iloc[0]


def test_detects_each_kind_and_several_at_once(tmp_path, make_acdc, make_decathlon, make_folder):
    make_acdc(tmp_path / "a", n=1)
    make_decathlon(tmp_path / "b", n=1)
    make_folder(tmp_path / "c", n=1)
    (tmp_path / "d").mkdir()
    (tmp_path / ".e").mkdir()
    assert detect(tmp_path) == [("acdc", tmp_path / "a"), ("hippocampus", tmp_path / "b"), ("folder", tmp_path / "c")]
    assert detect(tmp_path / "b") == [("hippocampus", tmp_path / "b")]
    table = check_folder(tmp_path)
    assert table.empty and [n for _, _, n in table.attrs["checked"]] == [2, 1, 1]


def test_name_says_what_it_should_be(tmp_path, make_acdc):
    make_acdc(tmp_path, n=1)
    assert check_folder(tmp_path, name="acdc").empty
    with pytest.raises(DataError, match="laid out as dataset.json"):
        check_folder(tmp_path, name="hippocampus")
    with pytest.raises(UsageError, match="found 'x'; expected one of"):
        check_folder(tmp_path, name="x")
    with pytest.raises(UsageError, match="made and not read"):
        check_folder(tmp_path, name="phantom")


def test_nothing_to_check(tmp_path):
    with pytest.raises(DataError, match="nothing that a reader knows; expected one of these layouts: acdc: training/"):
        check_folder(tmp_path)
    with pytest.raises(DataError, match="found no such folder"):
        check_folder(tmp_path / "x")


def test_voxels_are_read_once(tmp_path, make_acdc, monkeypatch):
    make_acdc(tmp_path, n=2)
    read = []
    for kind in ("label", "image"):
        checked = getattr(nifti, f"checked_{kind}")
        monkeypatch.setattr(
            nifti, f"checked_{kind}", lambda file, *rest, was=checked: read.append(file) or was(file, *rest)
        )
    assert check_folder(tmp_path).empty
    assert len(read) == len(set(read)) == 8  # two patients, two phases, image and label map


def test_progress_bar(tmp_path, make_acdc, capsys):
    check_folder(make_acdc(tmp_path, n=1), progress=True)
    assert "checking acdc" in capsys.readouterr().err


def rewrite(file, write_nifti, change):
    """Change the label map in a file in place, given as an array."""
    import nibabel

    image = nibabel.load(file)
    label = np.asarray(image.dataobj).copy()
    change(label)
    write_nifti(file, label, affine=image.affine)


def test_slices_that_nobody_annotated_are_named(tmp_path, make_acdc, write_nifti):
    make_acdc(tmp_path, n=4, shape=(24, 20, 12))

    def file(n, frame):
        return tmp_path / "training" / f"patient00{n}" / f"patient00{n}_frame{frame:02d}_gt.nii.gz"

    def every_second(label):
        label[:, :, 1::2] = 0

    def without_rv(label):
        label[:, :, 3][label[:, :, 3] == 1] = 0

    def upper_half(label):
        label[:, :, :6], label[:, :, 6:] = label[:, :, 5:6], 0

    for number, change in ((1, every_second), (2, without_rv), (3, upper_half)):
        rewrite(file(number, 1), write_nifti, change)
    rows = check_folder(tmp_path).set_index("file")
    assert set(rows.problem) == {"slices"} and rows.expected.str.len().all() and rows.todo.str.len().all()
    found = rows.groupby(level=0).found.agg(list).to_dict()
    assert found == {
        str(file(1, 1)): ["empty slices 1, 3, 5, 7, 9 (counted from 0) between drawn ones"],
        str(file(2, 1)): ["no RV cavity in slice 3 (counted from 0), but above and below"],
        str(file(3, 1)): [
            "an LV that ends at 100% of its greatest cross-section, and 6 slices without annotation beyond",
            "6 annotated slices, of patient003's other phase 12 (patient003_frame04_gt.nii.gz)",
        ],
    }


def test_gaps_are_looked_for_along_the_thickest_axis(tmp_path, write_nifti, tiny_heart):
    label = tiny_heart(shape=(24, 20, 9))
    label[:, :, 3] = 0
    write_nifti(tmp_path / "a.nii.gz", label.transpose(2, 0, 1), spacing=(10, 1.5, 1.5))
    write_nifti(tmp_path / "b.nii.gz", np.ones((9, 5, 5), np.uint8), spacing=(10, 1.5, 1.5))
    table = check_folder(tmp_path)
    assert table.file.tolist() == [str(tmp_path / "a.nii.gz")] and "empty slice 3 " in table.found[0]


def test_volumes_that_are_passed_over_are_named(tmp_path, make_folder):
    make_folder(tmp_path, n=1)
    for name in ("B.NII.GZ", "c.mha", "d.nrrd", "e.nrrd", ".f.mha", "g.txt", "old/labels/h.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    table = check_folder(tmp_path)
    assert table[["file", "problem"]].agg(tuple, axis=1).tolist() == [
        *[(str(tmp_path), "layout")] * 3,
        (str(tmp_path / "old" / "labels"), "layout"),
    ]
    assert table.found.tolist() == [
        "1 volume (.NII.GZ) that the reader passes over: B.NII.GZ",
        "1 volume (.mha) that the reader passes over: c.mha",
        "2 volumes (.nrrd) that the reader passes over: d.nrrd, e.nrrd",
        "1 volume (.nii.gz) that the reader passes over: h.nii.gz",
    ]


def test_what_a_publisher_lays_beside_is_a_note(tmp_path, make_acdc):
    make_acdc(tmp_path, n=1)
    folder = tmp_path / "training" / "patient001"
    (folder / "patient001_4d.nii.gz").write_bytes(b"?")
    table = check_folder(tmp_path)
    assert table.empty and table.attrs["notes"] == [
        "acdc: 1 volume (.nii.gz) that the reader passes over: patient001_4d.nii.gz below "
        f"{folder}; not part of what its reader uses"
    ]


@pytest.mark.realdata
@pytest.mark.slow
def test_nothing_is_wrong_with_acdc(acdc_root):
    table = check_folder(acdc_root)
    assert table.empty and table.attrs["notes"] == []


def test_voxel_orders_that_differ_are_noted_and_no_fault(tmp_path, write_nifti, tiny_heart):
    label = tiny_heart((12, 10, 5))
    for name, signs in (("a", (1, 1)), ("b", (-1, -1)), ("c", (1, 1))):
        write_nifti(tmp_path / f"{name}.nii.gz", label, affine=np.diag([*np.multiply(signs, 1.5), 10, 1]))
    table = check_folder(tmp_path)
    (note,) = table.attrs["notes"]
    assert table.empty and "(2 RAS, 1 LPS); each is brought to one" in note
    (tmp_path / "b.nii.gz").unlink()
    assert check_folder(tmp_path).attrs["notes"] == []
