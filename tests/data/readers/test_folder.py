"""The reader of one's own label maps: layouts, facts.csv, schemes."""

import numpy as np
import pytest

from shapelab.data import LabelScheme, Structure, check_folder, open_cohort
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError

IDS = ("case00", "case01", "case02")


@pytest.mark.parametrize("layout", ["folders", "beside", "plain"])
@pytest.mark.parametrize("images", [True, False])
def test_layouts(tmp_path, make_folder, tiny_heart, layout, images):
    cohort = open_cohort("folder", make_folder(tmp_path, layout=layout, images=images), scheme=CARDIAC)
    assert cohort.ids == IDS and cohort.scheme is CARDIAC and cohort.name == "folder"
    assert np.array_equal(cohort[1].label, tiny_heart(scale=0.9))
    if images and layout != "plain":
        assert np.array_equal(cohort[1].image, cohort[1].label * 10.0 + 1)
    else:
        assert cohort[1].image is None
    assert dict(cohort[1].facts) == {"patient": "case01", "group": "b", "age": 41}
    assert check_folder(tmp_path).empty


@pytest.mark.parametrize("ending", ["label", "gt", "seg"])
def test_endings(tmp_path, make_folder, ending):
    make_folder(tmp_path, layout="beside", facts=False)
    for file in tmp_path.glob("*_gt.nii.gz"):
        file.rename(file.with_name(file.name.replace("_gt", f"_{ending}")))
    assert open_cohort("folder", tmp_path).ids == IDS


def test_images_alone(tmp_path, make_folder):
    make_folder(tmp_path, facts=False)
    for file in (tmp_path / "labels").iterdir():
        file.unlink()
    cohort = open_cohort("folder", tmp_path, scheme=CARDIAC)
    assert cohort.ids == IDS and cohort[0].label is None and cohort[0].image is not None
    with pytest.raises(DataError, match="no label map to take a scheme from"):
        open_cohort("folder", tmp_path)


def test_scheme_from_all_files_together(tmp_path, write_nifti):
    for i, values in enumerate(((1,), (7, 300), (2,))):
        label = np.zeros((4, 4, 4), np.uint16)
        label.flat[: len(values)] = values
        write_nifti(tmp_path / f"{i}.nii.gz", label)
    scheme = open_cohort("folder", tmp_path).scheme
    assert scheme.values == (1, 2, 7, 300) and scheme.names == ("label 1", "label 2", "label 7", "label 300")
    assert scheme.name == f"labels in {tmp_path.name}"
    assert open_cohort("folder", tmp_path)["1"].label.dtype == np.uint16


def test_mapping(tmp_path, make_folder, tiny_heart):
    scheme = LabelScheme("ventricle", (Structure(1, "wall", "#009E73"), Structure(2, "cavity", "#D55E00")))
    root = make_folder(tmp_path)
    cohort = open_cohort("folder", root, scheme=scheme, mapping={1: 0, 2: 1, 3: 2})
    expected = np.array([0, 0, 1, 2])[tiny_heart()]
    assert np.array_equal(cohort[0].label, expected) and cohort.scheme is scheme
    assert open_cohort("folder", root, mapping={1: 0, 2: 5, 3: 5}).scheme.names == ("label 5",)
    with pytest.raises(DataError, match=r"case00.nii.gz: found label values \[3\]; expected values named in"):
        _ = open_cohort("folder", root, scheme=scheme, mapping={1: 0, 2: 1})[0].label


def test_values_outside_the_scheme_name_the_file(tmp_path, make_folder):
    scheme = LabelScheme("two", (Structure(1, "a", "#009E73"), Structure(2, "b", "#D55E00")))
    cohort = open_cohort("folder", make_folder(tmp_path), scheme=scheme)
    with pytest.raises(DataError, match=r"labels/case02.nii.gz: found label values \[3\]; expected values of"):
        _ = cohort["case02"].label
    with pytest.warns(UserWarning), pytest.raises(DataError, match="no subject that can be read"):
        open_cohort("folder", tmp_path, scheme=scheme, on_error="skip")


@pytest.mark.parametrize(
    "csv, found",
    [
        ("id,age\ncase00,1\ncase01,2\n", "no row for: 'case02'"),
        ("id,age\ncase00,1\ncase01,2\ncase02,3\ncase09,4\nnobody,5\n", "ids without a file: 'case09', 'nobody'"),
        ("id,age\ncase00,1\ncase01,2\ncase01,2\ncase02,3\n", "the id 'case01' in 2 rows"),
        ("name,age\ncase00,1\n", "the columns 'name', 'age'"),
        ("id,age\ncase00,1\n,2\n", "no id in line 3"),
        ("id,age\ncase00,1,9\n", "in line 2 3 cells"),
        ("id,age\ncase00\n", "in line 2 1 cells"),
        ("id,age,age\ncase00,1,2\n", "age missing or twice"),
        ('id,age\n"case00,1\n', "text that cannot be read"),
        ("", "an empty file"),
        ("id;age\ncase00;1\n", "the columns 'id;age'"),
        ("id,Patient\ncase00,a\ncase01,a\ncase02,b\n", "a column 'Patient'"),
        ("id,patient\ncase00,p1\ncase01,P1\ncase02,p2\n", "in the column 'patient' 'p1', 'P1'"),
    ],
)
def test_facts_out_of_order(tmp_path, make_folder, csv, found):
    make_folder(tmp_path, facts=False)
    file = tmp_path / "facts.csv"
    file.write_text(csv)
    with pytest.raises(DataError) as caught:
        open_cohort("folder", tmp_path)
    assert caught.value.file == str(file) and found in caught.value.found and caught.value.todo


def test_facts_types_blanks_and_patients(tmp_path, make_folder):
    make_folder(tmp_path, facts=False)
    (tmp_path / "facts.csv").write_text(
        "\ufeffsubject, patient ,age,sex,note\n case00,007,40.5,F,None\ncase01,007,,M,\ncase02,008,NA,F,x\n",
        encoding="utf-8",
    )
    table = open_cohort("folder", tmp_path).table
    assert table.patient.tolist() == ["007", "007", "008"] and table.sex.tolist() == ["F", "M", "F"]
    assert table.age.iloc[0] == 40.5 and table.age.isna().tolist() == [False, True, True]
    assert table.note.iloc[0] == "None" and table.note.iloc[2] == "x"
    assert len(open_cohort("folder", tmp_path).patients) == 2


def test_facts_that_are_not_text(tmp_path, make_folder):
    make_folder(tmp_path, facts=False)
    (tmp_path / "facts.csv").write_bytes(b"id,age\n\xff\xfe\x00,1\n")
    with pytest.raises(DataError, match="a file that cannot be read as text"):
        open_cohort("folder", tmp_path)


def test_skip_leaves_out_whom_the_facts_do_not_know(tmp_path, make_folder):
    make_folder(tmp_path, facts=False)
    (tmp_path / "facts.csv").write_text("id,age\ncase00,1\ncase01,2\nnobody,3\n")
    with pytest.warns(UserWarning) as caught:
        cohort = open_cohort("folder", tmp_path, on_error="skip")
    assert cohort.ids == ("case00", "case01") and len(cohort.skipped) == len(caught) == 2


def test_image_without_label_and_label_without_image(tmp_path, make_folder):
    make_folder(tmp_path, facts=False)
    (tmp_path / "images" / "case01.nii.gz").unlink()
    assert open_cohort("folder", tmp_path)["case01"].image is None
    assert list(check_folder(tmp_path).found) == ["a label map without an image"]
    (tmp_path / "labels" / "case02.nii.gz").unlink()
    with pytest.raises(DataError, match="images/case02.nii.gz: found an image without a label map"):
        open_cohort("folder", tmp_path)


def test_two_files_for_one_id(tmp_path, make_folder, write_nifti, tiny_heart):
    make_folder(tmp_path, facts=False)
    write_nifti(tmp_path / "labels" / "case00.nii", tiny_heart())
    with pytest.raises(DataError, match="a second file for 'case00' beside case00.nii; expected one file"):
        open_cohort("folder", tmp_path)


def test_a_bad_file_is_found_while_the_scheme_is_derived(tmp_path, make_folder):
    root = make_folder(tmp_path, facts=False)
    (root / "labels" / "case01.nii.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="case01.nii.gz: found no gzip content"):
        open_cohort("folder", root)
    with pytest.warns(UserWarning) as caught:
        assert open_cohort("folder", root, on_error="skip").ids == ("case00", "case02")
    assert len(caught) == 1


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="laid out as labels/") as caught:
        open_cohort("folder", tmp_path)
    assert "phantom" in caught.value.todo
    with pytest.raises(UsageError, match=r"found no root; expected root=FOLDER"):
        open_cohort("folder")
