"""Pairs of hearts: where they lie, that image and labels agree, that a seed decides."""

import numpy as np
import pandas as pd
import pytest

from shapelab.data.grid import Grid, to_grid
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.data.volumes import HeartPairs
from shapelab.errors import DataError, UsageError
from shapelab.phantoms.cohort import heart_cohort
from shapelab.phantoms.pairs import breath_holds, heart_pairs

GRID = Grid((48, 48, 24), (3.0, 3.0, 5.0))


@pytest.fixture(scope="module")
def pairs():
    return heart_pairs(5, GRID, 2, seed=7)


def test_shapes_and_types(pairs):
    assert pairs.images.shape == pairs.labels.shape == (10, 48, 48, 24)
    assert (pairs.images.dtype, pairs.labels.dtype, pairs.motion.dtype) == (np.float16, np.uint8, np.float32)
    assert pairs.motion.shape == (10, 12, 3)
    assert 0 <= pairs.images.min() and pairs.images.max() <= 1
    assert set(np.unique(pairs.labels)) == {0, 1, 2, 3}
    assert list(pairs.table["phase"]) == ["ED", "ES"] * 5 and pairs.table["group"].nunique() == 5


def test_hearts_lie_as_to_grid_lays_them(pairs):
    """RV straight to -x, the LV 18 mm to +x of the middle: to_grid finds next to nothing to turn or to move."""
    for label in pairs.labels[:4]:
        subject = Subject("x", CARDIAC, label=CARDIAC.integers(label), affine=np.diag([*GRID.spacing, 1]))
        matrix = to_grid(subject, GRID, align="rigid").transform.matrix
        assert abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) < 2
        moved = (matrix @ [23.5, 23.5, 11.5, 1])[:3] - (23.5, 23.5, 11.5)
        assert np.all(np.abs(moved * GRID.spacing) < (1.5, 1.5, 3.5))


def test_they_are_the_cohorts_hearts(pairs):
    """The same patients as heart_cohort's, whatever grid they are drawn on: volumes agree."""
    cohort = heart_cohort(3, seed=7, resolution="HR", scheme=CARDIAC)
    for k, subject in enumerate(cohort):
        ours = (pairs.labels[k] == 3).sum() * np.prod(GRID.spacing)
        theirs = (subject.label == 3).sum() * np.prod(subject.spacing)
        assert ours == pytest.approx(theirs, rel=0.04)
        assert pairs.table.index[k] == subject.id


def test_image_and_labels_agree(pairs):
    """Blood is brighter than muscle in every heart, by more than the spread within either."""
    for image, label in zip(pairs.images.astype(float), pairs.labels):
        blood, wall = image[label == 3], image[label == 2]
        assert np.median(blood) > np.median(wall) + 2 * wall.std() or np.median(blood) > 1.8 * np.median(wall)


def test_a_patient_is_a_function_of_seed_and_number(pairs):
    fewer = heart_pairs(2, GRID, 2, seed=7)
    assert np.array_equal(fewer.images, pairs.images[:4]) and np.array_equal(fewer.labels, pairs.labels[:4])
    assert np.array_equal(fewer.motion, pairs.motion[:4])
    other = heart_pairs(1, GRID, 2, seed=8)
    assert not np.array_equal(other.labels[0], pairs.labels[0])
    assert not np.array_equal(other.motion[0], pairs.motion[0])


def test_breath_holds_have_the_size_asked_for():
    all_of_them = np.stack([breath_holds(0, i, 12, 2.0, 1.5) for i in range(300)])
    sd = all_of_them.std((0, 1))
    assert np.allclose(sd / sd[0], (1, 1, 0.75), rtol=0.1)
    assert 1.6 < sd[0] < 2.8
    restless = all_of_them[:, :, 0].std(1)
    assert np.percentile(restless, 90) > 2 * np.percentile(restless, 10)
    assert not np.any(breath_holds(0, 0, 12, 0.0, 0.0))


def test_cache(tmp_path, pairs):
    file = tmp_path / "pairs.npz"
    made = heart_pairs(1, GRID, 2, seed=7, cache=file)
    read = heart_pairs(1, GRID, 2, seed=7, cache=file)
    assert np.array_equal(made.images, read.images) and np.array_equal(made.motion, read.motion)
    pd.testing.assert_frame_equal(made.table, read.table)
    assert made.spacing == read.spacing and made.factor == read.factor
    assert len(heart_pairs(1, GRID, 3, seed=7, cache=file).motion[0]) == 8  # other pairs: made anew
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="pairs.npz: found a damaged cache"):
        heart_pairs(1, GRID, 3, seed=7, cache=file)


def test_some_of_them(pairs):
    es = pairs[(pairs.table["phase"] == "ES").to_numpy()]
    assert len(es) == 5 and set(es.table["phase"]) == {"ES"}
    assert np.array_equal(es.images[0], pairs.images[1])
    assert pairs[2:4].table.index.tolist() == pairs.table.index[2:4].tolist()
    assert pairs[[3, 0]].table.index.tolist() == [pairs.table.index[3], pairs.table.index[0]]


@pytest.mark.parametrize(
    "arguments, word",
    [
        ((0, GRID, 2), "n: found 0"),
        ((1, GRID, 5), "factor"),
        ((1, GRID, 0), "factor"),
        ((1, ((4, 4), (1, 1)), 2), "Grid"),
    ],
)
def test_wrong_arguments_are_named(arguments, word):
    with pytest.raises(UsageError, match=word):
        heart_pairs(*arguments)


def test_parts_that_do_not_fit_are_named(pairs):
    with pytest.raises(DataError, match="HeartPairs.motion"):
        HeartPairs(pairs.images, pairs.labels, pairs.motion[:, :5], pairs.table, pairs.spacing, 2)
    with pytest.raises(DataError, match="3 rows for 10 hearts"):
        HeartPairs(pairs.images, pairs.labels, pairs.motion, pairs.table[:3], pairs.spacing, 2)
