"""shapelab.data.landmarks: CSV there and back, what is wrong in one; those of label maps against the phantom's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shapelab.data.landmarks import HEART_LANDMARKS, base_end, landmarks_from_label, read_landmarks, write_landmarks
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS
from shapelab.errors import DataError, UsageError
from shapelab.phantoms import LANDMARKS, heart_cohort
from shapelab.phantoms.acquisition import StackFlaws


def test_reads_by_column_name(tmp_path):
    file = tmp_path / "points.csv"
    file.write_text('\ufeffz, name ,who,x,y\n3,apex,me,1,-2.5\n\n1e1,"valve, mitral",,0,0\n', encoding="utf-8")
    found = read_landmarks(file)
    assert list(found) == ["apex", "valve, mitral"]
    assert found["apex"].tolist() == [1, -2.5, 3] and found["valve, mitral"].tolist() == [0, 0, 10]


points = hnp.arrays(float, (3,), elements=st.floats(-1e4, 1e4))
names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)


@given(st.dictionaries(names, points, min_size=1, max_size=5))
def test_what_is_written_is_read_again(tmp_path_factory, landmarks):
    file = tmp_path_factory.mktemp("landmarks") / "points.csv"
    write_landmarks(file, landmarks)
    found = read_landmarks(file)
    assert list(found) == list(landmarks)
    assert all(np.abs(found[n] - landmarks[n]).max() <= 1e-6 for n in landmarks)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file"),
        ("name,x,y\na,1,2\n", "in line 1 the columns .*; z missing or twice"),
        ("name,x,y,z,x\n", "x missing or twice"),
        ("name,x,y,z\n", "no landmark under the header"),
        ("name,x,y,z\na,1,2,3\nb,1,2\n", "in line 3 3 cells; expected 4"),
        ("name,x,y,z\na,1,2,3\n\nb,1,two,3\n", "in line 4 x, y, z = .'1', 'two', '3'.; expected three finite numbers"),
        ("name,x,y,z\na,1,,3\n", "in line 2 x, y, z"),
        ("name,x,y,z\na,1,nan,3\n", "in line 2 x, y, z"),
        ('name,x,y,z\na,"1,5",2,3\n', "with a decimal point"),
        ("name,x,y,z\na,1,2,3\na,4,5,6\n", "in line 3 the name 'a' again"),
        ("name,x,y,z\n,1,2,3\n", "in line 2 no name"),
        ('name,x,y,z\n"a,1,2,3\n', "text that cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path, text, words):
    file = tmp_path / "points.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_landmarks(file)
    assert caught.value.file == str(file)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_landmarks(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("name,x,y,z\nKlappe \xe4,1,2,3\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_landmarks(tmp_path / "latin.csv")
    with pytest.raises(UsageError, match="three numbers"):
        write_landmarks(tmp_path / "a.csv", {"a": [1, 2, np.nan]})
    assert not (tmp_path / "a.csv").exists()


# ------------------------------------------------------------------------------------------------ from label maps


def test_names_are_the_phantoms():
    assert HEART_LANDMARKS == LANDMARKS


def errors(resolution, **more):
    """mm between landmarks of label maps and the surfaces' own, (subjects, 6)."""
    cohort = heart_cohort(5, seed=2, resolution=resolution, phases=("ED",), **more)
    found = [landmarks_from_label(s.label, s.spacing, s.scheme) for s in cohort]
    return np.array([[np.linalg.norm(f[n] - s.landmarks[n]) for n in HEART_LANDMARKS] for f, s in zip(found, cohort)])


def test_landmarks_of_phantoms_are_near_the_known_ones():
    lateral, anterior, inferior, turning, apex, valve = errors((1.5, 1.5, 3.0)).mean(0)
    assert max(anterior, inferior, turning, apex, valve) < 5 and lateral < 12  # its direction is the RV's centroid


def test_an_apex_that_was_not_scanned_is_guessed():
    thick = errors((1.5, 1.5, 10.0), flaws=StackFlaws(missing_slices=1)).mean(0)
    assert thick[4] < 8 and thick[5] < 6  # less than the slice that is missing


def cylinder(flip=False):
    """An LV of radius 20 mm in a wall of 10, slices 2 to 9, and an RV at +x of it."""
    x, y, z = np.meshgrid(np.arange(100) - 50, np.arange(100) - 50, np.arange(12), indexing="ij")
    r = np.hypot(x, y)
    outer = np.where((z >= 2) & (z <= 9), 30.0, 0)
    label = np.zeros(r.shape, np.uint8)
    label[(np.hypot(x - 25, y) < 18) & (z >= 2) & (z <= 9)] = 1
    label[r < outer] = 2
    label[r < outer - 10] = 3
    return label[:, :, ::-1] if flip else label


@pytest.mark.parametrize("flip", [False, True])
def test_by_hand(flip):
    # equally wide all the way: the end with the lower index counts as the base, and nothing says where the apex would
    # be, so it is half a slice beyond the last one
    found = landmarks_from_label(cylinder(flip), (1.0, 1.0, 5.0), CARDIAC)
    assert np.allclose(found["LV lateral wall mid-point"], [25, 50, 27.5], atol=1.5)
    assert np.allclose([found["mitral valve centre"][2], found["apex"][2]], [7.5, 47.5], atol=0.1)
    assert np.allclose(found["apex"][:2], 50, atol=0.1)
    assert np.allclose(found["RV lateral wall turning point"], [92, 50, 27.5], atol=2.5)
    anterior, inferior = found["RV insertion anterior"], found["RV insertion inferior"]
    assert anterior[1] > 60 and inferior[1] < 40 and abs(anterior[0] - inferior[0]) < 2  # a quarter turn from x to y


def test_base_is_the_wider_end():
    label = cylinder()
    label[:25, :, 2] = label[75:, :, 2] = 0
    found = landmarks_from_label(label, (1.0, 1.0, 5.0), CARDIAC)
    assert found["mitral valve centre"][2] > found["apex"][2]


def test_label_maps_without_landmarks():
    label = cylinder()
    with pytest.raises(UsageError, match="hippocampus"):
        landmarks_from_label(label, (1, 1, 5), HIPPOCAMPUS)
    with pytest.raises(UsageError, match="spacing: found .1, 5.; expected three voxel sizes in mm"):
        landmarks_from_label(label, (1, 5), CARDIAC)
    with pytest.raises(DataError, match="case7: found an LV in 2 slices"):
        landmarks_from_label(label[:, :, :4], (1, 1, 5), BIVENTRICULAR, "case7")
    with pytest.raises(DataError, match="no slice with a septum"):
        landmarks_from_label(np.where(label == 1, 0, label), (1, 1, 5), CARDIAC)


@pytest.mark.parametrize(
    ("area", "end"),
    [
        ([0, 40, 35, 30, 20, 10, 5], "first"),
        ([5, 10, 20, 30, 35, 40, 0], "last"),
        ([10, 10, 10, 10, 10, 8.1], None),  # mean of two: 10 against 9.05
        ([10, 8], None),
        ([10, 9, 8], "first"),  # 10 is exactly a quarter more than 8
        ([0, 0, 0], None),
    ],
)
def test_the_base_is_where_the_lv_is_clearly_wider(area, end):
    assert base_end(np.array(area)) == end
