"""The Decathlon reader: dataset.json in order and out of order, and the real hippocampus."""

import json

import numpy as np
import pytest

from shapelab.data import check_folder, open_cohort
from shapelab.data.readers import decathlon
from shapelab.data.scheme import HIPPOCAMPUS
from shapelab.errors import DataError


@pytest.fixture
def root(tmp_path, make_decathlon):
    return make_decathlon(tmp_path / "Task04_Hippocampus")


def edit(root, **changes):
    """Change keys of dataset.json; None takes one away."""
    file = root / "dataset.json"
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return file


def test_hippocampus(root):
    cohort = open_cohort("hippocampus", root)
    assert cohort.ids == ("hippocampus_001", "hippocampus_002", "hippocampus_003") and cohort.scheme is HIPPOCAMPUS
    assert dict(cohort[0].facts) == {"patient": "hippocampus_001", "modality": "MR"}
    assert cohort[0].label.shape == cohort[0].image.shape == (12, 16, 10)
    assert np.bincount(cohort[1].label.ravel())[1:].tolist() == [6 * 6 * 4, 6 * 5 * 4]
    assert len(open_cohort("hippocampus", root.parent)) == 3


def test_any_task_takes_its_scheme_from_the_json(root):
    edit(root, name="Liver", labels={"0": "background", "2": "tumour", "1": "liver"}, modality={"0": "CT"})
    cohort = open_cohort("decathlon", root)
    assert cohort.scheme.name == "Liver" and cohort.scheme.values == (1, 2)
    assert cohort.scheme.names == ("liver", "tumour")
    assert cohort.scheme.colours == ("#E69F00", "#56B4E9") and cohort[0].facts["modality"] == "CT"
    assert check_folder(root).attrs["checked"][0][0] == "decathlon"


def test_hippocampus_with_other_meanings_is_refused(root):
    edit(root, labels={"0": "background", "1": "Posterior", "2": "Anterior"})
    with pytest.raises(DataError, match="expected 1 Anterior, 2 Posterior"):
        open_cohort("hippocampus", root)


@pytest.mark.parametrize(
    "changes, found",
    [
        ({"labels": None}, "no key 'labels'"),
        ({"training": None}, "no key 'training'"),
        ({"training": []}, "training = []"),
        ({"training": {"a": 1}}, "training = {'a': 1}"),
        ({"labels": ["background", "Anterior"]}, "labels = ['background', 'Anterior']"),
        ({"labels": {"background": 0, "Anterior": 1}}, "labels {'background': 0"),
        ({"labels": {"0": "background", "-1": "x"}}, "labels that make no scheme"),
        ({"labels": {"0": "background"}}, "labels that make no scheme"),
        ({"labels": {"1": "a", "2": "a"}}, "labels that make no scheme"),
        ({"training": ["./imagesTr/hippocampus_001.nii.gz"]}, "the training entry ./imagesTr"),
        ({"training": [{"image": "./imagesTr/hippocampus_001.nii.gz"}]}, "the training entry {'image'"),
        (
            {"training": [{"image": "/etc/passwd", "label": "./labelsTr/hippocampus_001.nii.gz"}]},
            "the path '/etc/passwd'",
        ),
        ({"training": [{"image": "a.nii.gz", "label": "../labelsTr/x.nii.gz"}]}, "the path '../labelsTr/x.nii.gz'"),
        ({"training": [{"image": "a.png", "label": "b.png"}]}, "the label 'b.png'"),
    ],
)
def test_json_out_of_order(root, changes, found):
    file = edit(root, **changes)
    with pytest.raises(DataError) as caught:
        open_cohort("decathlon", root)
    assert caught.value.file == str(file) and found in caught.value.found and caught.value.todo


@pytest.mark.parametrize(
    "content, found",
    [
        (b"{", "no valid JSON"),
        (b"", "no valid JSON"),
        (b"[1, 2]", "a JSON list"),
        (b"\xff\xfe\x01", "cannot be read as text"),
        (b"[" * 100000, "no valid JSON"),
    ],
)
def test_json_broken(root, content, found):
    (root / "dataset.json").write_bytes(content)
    for name in ("hippocampus", "decathlon"):
        with pytest.raises(DataError, match=found):
            open_cohort(name, root)
    table = check_folder(root)  # known by its folder's name; one row, no exception
    assert len(table) == 1 and found in table.found[0]


def test_cases_twice_or_without_a_file(root):
    training = json.loads((root / "dataset.json").read_text())["training"]
    edit(root, training=[*training, training[0]])
    with pytest.raises(DataError, match="the case 'hippocampus_001' more than once"):
        open_cohort("hippocampus", root)
    edit(root, training=training)
    (root / "imagesTr" / "hippocampus_002.nii.gz").unlink()
    with pytest.raises(DataError, match="hippocampus_002.nii.gz: found no such file .*; expected the image of"):
        open_cohort("hippocampus", root)
    with pytest.warns(UserWarning, match="left out"):
        assert open_cohort("hippocampus", root, on_error="skip").ids == ("hippocampus_001", "hippocampus_003")


def test_several_channels_are_refused(root, write_nifti):
    file = write_nifti(root / "imagesTr" / "hippocampus_002.nii.gz", np.ones((12, 16, 10, 4), np.float32), (1, 1, 1))
    with pytest.raises(DataError, match="a 4D array, 12 x 16 x 10 x 4") as caught:
        open_cohort("hippocampus", root)
    assert caught.value.file == str(file)


def test_notes_of_the_doctor(root, write_nifti):
    edit(root, numTraining=7)
    write_nifti(root / "labelsTr" / "extra.nii.gz", np.ones((4, 4, 4), np.uint8))
    (root / "labelsTr" / "._hippocampus_001.nii.gz").write_bytes(b"macOS")
    assert len(open_cohort("hippocampus", root)) == 3  # nothing that hinders reading
    found = list(check_folder(root).found)
    assert found == ["numTraining 7 and 3 training entries", "a label map that dataset.json does not list"]


def test_recognise(root, tmp_path):
    assert decathlon.recognise(root) and not decathlon.recognise(tmp_path) and decathlon.recognise_hippocampus(root)


@pytest.mark.realdata
def test_real_hippocampus(hippocampus_root):
    cohort = open_cohort("hippocampus", hippocampus_root)
    assert len(cohort) >= 200
    first = cohort["hippocampus_001"]
    assert first.label.dtype == np.uint8 and np.allclose(first.spacing, 1) and set(np.unique(first.label)) == {0, 1, 2}
    table = check_folder(hippocampus_root)
    assert table.empty, table.to_string()
    assert table.attrs["checked"] == [("hippocampus", str(hippocampus_root), len(cohort))]
