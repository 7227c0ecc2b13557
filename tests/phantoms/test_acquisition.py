"""How slice stacks lie over hearts: spacings, fields, breath-holds, flaws."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.errors import UsageError
from shapelab.phantoms import heart_cohort
from shapelab.phantoms.acquisition import StackFlaws


def test_stacks_look_like_acdcs(stacks):
    """Ranges of ACDC: 6 to 18 slices, 1.37 to 1.88 mm in the plane, mostly 10 mm between slices."""
    spacing = np.array([s.spacing for s in stacks])
    assert np.all((spacing[:, 0] >= 1.36) & (spacing[:, 0] <= 1.88)) and np.all(spacing[:, 0] == spacing[:, 1])
    assert set(spacing[:, 2]) <= {5.0, 7.0, 10.0} and (spacing[:, 2] == 10).mean() > 0.6
    for s in stacks:
        assert 5 <= s.label.shape[2] <= 28
        edge = np.concatenate([s.label[0].ravel(), s.label[-1].ravel(), s.label[:, 0].ravel(), s.label[:, -1].ravel()])
        assert not edge.any()  # the crop holds the heart
    centre = [np.argwhere(s.label > 0).mean(0)[:2] / s.label.shape[:2] for s in stacks]
    assert np.std(centre, 0).min() > 0.015  # not always in the middle


def test_breath_holds_and_hand_can_be_switched_off():
    quiet = heart_cohort(1, resolution="LR", flaws=StackFlaws(0, 0))[0].label
    usual = heart_cohort(1, resolution="LR")[0].label
    assert quiet.shape == usual.shape and (quiet != usual).any()
    shifted = heart_cohort(1, resolution=(2, 2, 8), flaws=StackFlaws(slice_shift_mm=3))[0].label
    still = heart_cohort(1, resolution=(2, 2, 8))[0].label

    def jitter(label):
        centres = np.array([np.argwhere(label[:, :, k] == 3).mean(0) for k in np.flatnonzero((label == 3).any((0, 1)))])
        return np.abs(np.diff(centres, 2, axis=0)).mean()

    assert jitter(shifted) > 2 * jitter(still)


def test_missing_slices_are_those_at_the_apex():
    whole, part = (heart_cohort(1, resolution="LR", flaws=StackFlaws(missing_slices=k))[0].label for k in (0, 2))
    assert part.shape[2] == whole.shape[2] - 2


@pytest.mark.parametrize(
    ("argument", "value"), [("slice_shift_mm", -1), ("contour_noise", np.nan), ("missing_slices", -1)]
)
def test_bad_flaws_are_named(argument, value):
    with pytest.raises(UsageError, match=f"^{argument}: found"):
        StackFlaws(**{argument: value})
