"""A phantom that is drawn on a GPU is the CPU's to rounding: images within 1e-4, labels but for voxels on a surface."""

import numpy as np
import pytest

from shapelab.data.scheme import BIVENTRICULAR
from shapelab.device import computing_on
from shapelab.phantoms.acquisition import StackFlaws, make_stack
from shapelab.phantoms.cohort import make_image, make_label
from shapelab.phantoms.pairs import heart_pairs
from shapelab.phantoms.patients import Mix, anatomy

GRID = (32, 32, 12), (5.0, 5.0, 10.0)


def test_pairs_are_drawn_there(place):
    there = heart_pairs(1, GRID, 2, seed=3)
    with computing_on("cpu"):
        here = heart_pairs(1, GRID, 2, seed=3)
    assert there.images.dtype == here.images.dtype == np.float16 and len(set(here.labels.ravel())) == 4
    assert np.abs(there.images.astype(float) - here.images).max() <= 1e-3  # half precision
    assert (there.labels != here.labels).mean() <= 1e-3
    assert np.array_equal(there.motion, here.motion) and there.table.equals(here.table)


@pytest.mark.parametrize("resolution", ["LR", (3.0, 3.0, 6.0)])
def test_a_stack_is_drawn_there(place, resolution):
    who = Mix(groups=("MINF",)).patient(2, 1)
    factors, hearts = anatomy(who)
    stack = make_stack(*who[:2], factors, hearts, resolution, *StackFlaws().at(resolution))
    there, here = (make_image(who, "ES", stack, device) for device in (place.device, "cpu"))
    assert there.dtype == np.float32 and there.shape == stack.shape and there.std() > 0.1
    assert np.abs(there - here).max() <= 1e-4
    there, here = (make_label(who, "ES", stack, BIVENTRICULAR, device) for device in (place.device, "cpu"))
    assert set(np.unique(here)) == {0, 1, 2, 3, 4} and (there != here).mean() <= 1e-4
