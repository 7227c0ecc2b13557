import numpy as np
import pytest

from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import DataError


def label(shape=(4, 5, 6)):
    array = np.zeros(shape, np.uint8)
    array[1:3, 1:3, 1:3] = 3
    return array


def test_arrays_are_read_when_asked_for():
    reads = []

    def read():
        reads.append(1)
        return label()

    s = Subject("p1_ED", CARDIAC, label=read, affine=np.diag([1.5, 1.5, 10, 1]), facts={"patient": "p1"})
    assert reads == []
    assert s.label.dtype == np.uint8 and s.label.shape == (4, 5, 6) and len(reads) == 2
    assert s.load().label.sum() == 24 and len(reads) == 3
    assert np.allclose(s.spacing, [1.5, 1.5, 10]) and s.patient == "p1"


def test_spacing_of_a_rotated_affine():
    c, s = np.cos(0.3), np.sin(0.3)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([1.25, 1.5, 8])
    assert np.allclose(Subject("a", CARDIAC, label=label(), affine=affine).spacing, [1.25, 1.5, 8])


def test_image_is_float32_and_facts_cannot_be_changed():
    s = Subject("a", CARDIAC, image=np.ones((2, 2, 2), np.int16), facts={"group": "NOR"})
    assert s.image.dtype == np.float32 and s.label is None and s.shape == (2, 2, 2)
    with pytest.raises(TypeError):
        s.facts["group"] = "DCM"
    assert s.with_(facts={"group": "DCM"}).facts["group"] == "DCM" and s.facts["group"] == "NOR"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Subject("a", CARDIAC), "subject a: found neither image nor label"),
        (lambda: Subject("a", CARDIAC, label=label()[0]).label, r"shape \(5, 6\)"),
        (
            lambda: Subject("a", CARDIAC, label=label() * 3, file="f.nii").label,
            r"f\.nii: found label values \[9\]",
        ),
        (lambda: Subject("a", CARDIAC, image=label()[0]).image, r"an image of shape"),
        (lambda: Subject("a", CARDIAC, label=label(), affine=np.zeros((4, 4))).affine, "cannot be inverted"),
        (lambda: Subject("a", CARDIAC, label=label(), affine=np.eye(4) + np.eye(4, k=1)).spacing, "right angles"),
        (
            lambda: Subject("a", CARDIAC, label=label(), affine=np.diag([0.0015, 0.0015, 0.01, 1])).spacing,
            "Is the unit mm",
        ),
        (
            lambda: Subject("a", CARDIAC, label=label(), affine=np.full((4, 4), np.nan)).spacing,
            "cannot be inverted",
        ),
        (
            lambda: Subject("a", CARDIAC, label=label(), image=np.ones((2, 2, 2))).load(),
            r"image \(2, 2, 2\) and label",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_with_unknown_field():
    with pytest.raises(TypeError, match="colour"):
        Subject("a", CARDIAC, label=label()).with_(colour="red")
