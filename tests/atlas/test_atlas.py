"""An atlas of a subject: its arrays, and landmarks in mm along the array's axes."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.atlas import Atlas
from shapelab.data.landmarks import landmarks_from_label
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError

SPACING = (1.5, 2.0, 8.0)


def test_a_subjects_landmarks_come_to_its_array():
    label = np.zeros((8, 8, 4), np.uint8)
    label[2:5, 2:5, 1:3] = 3
    affine = np.array([[0, -2.0, 0, 50], [1.5, 0, 0, -10], [0, 0, 10, 7], [0, 0, 0, 1]])  # axes swapped, moved
    index = np.array([3.0, 2, 1])
    there = affine[:3, :3] @ index + affine[:3, 3]
    subject = Subject("a", CARDIAC, label=label, affine=affine, landmarks={"apex": there})
    atlas = Atlas.of(subject)
    # in canonical order: first the second axis of the file, from its other end
    assert atlas.spacing == (2.0, 1.5, 10.0) and np.allclose(atlas.landmarks["apex"], (5 * 2.0, 3 * 1.5, 1 * 10))
    assert (atlas.label == label.transpose(1, 0, 2)[::-1]).all()


def test_landmarks_are_those_given_or_those_of_the_label_map(tiny_heart):
    label = tiny_heart((24, 20, 6))
    from_label = landmarks_from_label(label, SPACING, CARDIAC)
    given = Atlas(label, SPACING, {"apex": np.zeros(3)}, scheme=CARDIAC)
    assert list(given.landmarks_of()) == ["apex"]
    for found in (given.landmarks_of("label"), Atlas(label, SPACING, scheme=CARDIAC).landmarks_of()):
        assert found.keys() == from_label.keys() and all(np.array_equal(found[n], from_label[n]) for n in found)


def test_slices_that_nobody_annotated_are_filled(tiny_heart):
    label = tiny_heart((24, 20, 7))
    label[:, :, 2:5] = label[:, :, 3:4]
    sparse = label.copy()
    sparse[:, :, 3] = 0
    with pytest.warns(UserWarning, match="^a: found empty slice 3 "):
        assert (Atlas(sparse, (1.5, 1.5, 10), scheme=CARDIAC, id="a").label == label).all()
    assert not sparse[:, :, 3].any() and Atlas(label, (1.5, 1.5, 10), scheme=CARDIAC).label is label


def test_bad_atlases():
    label = np.ones((4, 4, 4), np.uint8)
    with pytest.raises(DataError, match="a label map without labels"):
        Atlas(0 * label, (1, 1, 1))
    with pytest.raises(DataError, match="label values .9."):
        Atlas(9 * label, (1, 1, 1))
    with pytest.raises(DataError, match="an image of shape"):
        Atlas(label, (1, 1, 1), image=np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match="NaN"):
        Atlas(label, (1, 1, 1), image=np.full((4, 4, 4), np.nan))
    with pytest.raises(UsageError, match="spacing"):
        Atlas(label, (1, 1))
    with pytest.raises(DataError, match="subject b: found no label map"):
        Atlas.of(Subject("b", CARDIAC, image=np.zeros((4, 4, 4))))
