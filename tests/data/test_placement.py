import pickle

import numpy as np
import pytest

from shapelab.data.grid import Grid
from shapelab.data.placement import HEARTS, LaidLabels, Placement, placement_for, remembered
from shapelab.errors import UsageError

RIGID = Placement(align="rigid")


def laid():
    return LaidLabels.of(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), RIGID)


@pytest.mark.parametrize(
    "wrong", [{"align": "affine"}, {"centre": "rv"}, {"mirror": "left"}, {"centre": (1, 2)}, {"centre": (1, 2, np.nan)}]
)
def test_wrong_words_are_refused(wrong):
    with pytest.raises(UsageError, match=f"to_grid.*{next(iter(wrong))}"):
        Placement(**wrong)


def test_a_position_is_kept_as_numbers():
    assert Placement(centre=np.array([1, 2, 3])).centre == (1.0, 2.0, 3.0) != Placement().centre


def test_label_maps_carry_their_placement():
    labels = laid()
    for part in (labels, labels[:1], labels[[1, 0]], labels.copy(), labels[np.array([True, False])]):
        assert remembered(part) == RIGID
    assert remembered(np.asarray(labels)) is None and remembered(np.concatenate([labels, np.asarray(labels)])) is None
    assert remembered(pickle.loads(pickle.dumps(labels))) is None


def test_what_is_computed_from_them_is_plain():
    labels = laid()
    assert type(labels.max()) is np.uint8 and type(labels.sum()) in (np.uint64, np.int64)
    assert type(labels == 3) is np.ndarray and type(labels.mean(0)) is np.ndarray
    assert type((labels > 3).sum()) is np.int64 and f"{labels.max()}" == "23"


def test_a_space_that_does_not_remember_takes_hearts_with_a_warning():
    class Space:
        grid = Grid((2, 2, 2), (1, 1, 1))

    with pytest.warns(UserWarning, match="Space: found no word .* taken: .*align='rigid'.* Fit spaces"):
        assert placement_for(Space()) == HEARTS == RIGID
    Space.placement = Placement(whole_walls=True)
    assert placement_for(Space()).whole_walls
