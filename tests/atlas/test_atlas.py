"""An atlas of a subject: its arrays, and landmarks in mm along the array's axes."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.atlas import Atlas
from shapelab.data.landmarks import landmarks_from_label
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import DataError

SPACING = (1.5, 2.0, 8.0)
#: Voxel (i, j, k) lies at (100 - 2 j, 20 + 1.5 i, -30 + 8 k): a quarter turn in the plane, and away from the origin.
AFFINE = np.array([[0, -2.0, 0, 100], [1.5, 0, 0, 20], [0, 0, 8.0, -30], [0, 0, 0, 1]])


@pytest.fixture
def label(tiny_heart) -> np.ndarray:
    return tiny_heart((24, 20, 6))


def test_landmarks_come_from_the_frame_of_the_affine_to_mm_of_the_array(label):
    voxel = np.array([3.0, 7.0, 2.0])
    subject = Subject("s", CARDIAC, label=label, affine=AFFINE, landmarks={"apex": (AFFINE @ [*voxel, 1])[:3]})
    atlas = Atlas.of(subject)
    assert atlas.spacing == pytest.approx(SPACING) and atlas.id == "s" and atlas.scheme == CARDIAC
    assert atlas.landmarks["apex"] == pytest.approx(voxel * SPACING)
    assert atlas.frame.shape == label.shape and atlas.frame.origin == (0, 0, 0)


def test_landmarks_are_those_given_or_those_of_the_label_map(label):
    from_label = landmarks_from_label(label, SPACING, CARDIAC)
    given = Atlas(label, SPACING, {"apex": np.zeros(3)}, scheme=CARDIAC)
    assert list(given.landmarks_of()) == ["apex"]
    for found in (given.landmarks_of("label"), Atlas(label, SPACING, scheme=CARDIAC).landmarks_of()):
        assert found.keys() == from_label.keys() and all(np.array_equal(found[n], from_label[n]) for n in found)


def test_what_cannot_be_an_atlas_is_named(label):
    with pytest.raises(DataError, match="s: found no label map|no label map"):
        Atlas.of(Subject("s", CARDIAC, image=label.astype(np.float32), affine=AFFINE))
    with pytest.raises(DataError, match="atlas: found a label map without labels"):
        Atlas(0 * label, SPACING, scheme=CARDIAC)
    with pytest.raises(DataError, match=r"an image of shape \(24, 20, 5\)"):
        Atlas(label, SPACING, image=np.zeros((24, 20, 5)), scheme=CARDIAC)
    with pytest.raises(DataError, match="an image with NaN or infinity"):
        Atlas(label, SPACING, image=np.full(label.shape, np.nan), scheme=CARDIAC)
