"""shapelab.atlas.ffd and descent: gradients, known deformations, thick slices, folding, both engines alike."""

import dataclasses

import numpy as np
import pytest
import torch

from shapelab.atlas import Frame, FreeFormDeformation, landmark_affine
from shapelab.atlas.bspline import jacobian
from shapelab.data.scheme import BIVENTRICULAR
from shapelab.errors import DataError, UsageError
from shapelab.metrics import dice

SMALL = {
    "control_mm": 12.0,
    "levels": 2,
    "iterations": 25,
    "bending": (10, 5),
    "blur_mm": (4, 0),
    "sampling_mm": (5, 0),
    "step_mm": (2, 0.8),
}


@pytest.fixture(scope="module")
def pair(hearts):
    """A normal heart as target, a dilated one as atlas, and the affine map of their landmarks."""
    target, atlas = hearts[0], hearts[1]
    return target, atlas, landmark_affine(target.landmarks, atlas.landmarks)


@pytest.fixture(scope="module")
def fitted(pair):
    target, atlas, affine = pair
    return FreeFormDeformation(**SMALL).fit(target.label, atlas.label, target.spacing, atlas.spacing, affine)


def test_both_engines_end_alike(pair, fitted):
    target, atlas, affine = pair
    arrays = [torch.from_numpy(a.label) for a in (target, atlas)]
    settings = dataclasses.replace(FreeFormDeformation(**SMALL), engine="torch")
    other = settings.fit(*arrays, target.spacing, atlas.spacing, affine)
    assert (fitted.engine, other.engine) == ("numba", "torch")
    a, b = fitted.warp_label(atlas.label), other.warp_label(arrays[1])
    assert isinstance(b, torch.Tensor) and dice(a, b.numpy(), BIVENTRICULAR).min() > 0.97
    assert np.isclose(fitted.consistency, other.consistency, atol=2e-3)


def test_hearts_come_to_agree_level_by_level(pair, fitted):
    target, atlas, _ = pair
    scores = [dice(fitted.warp_label(atlas.label, stage=s), target.label, BIVENTRICULAR).mean() for s in fitted.names]
    assert fitted.names == ("affine", "FFD 24 mm", "FFD 12 mm")
    assert scores[0] < 0.6 and scores[0] + 0.1 < scores[1] and scores[1] + 0.05 < scores[2] and scores[2] > 0.88
    assert fitted.min_jacobian > 0 and fitted.folded == 0
    # what is reported holds for the displacement itself
    points = target.frame.part(*fitted.domain)[0].positions()
    least, folded = jacobian(fitted.levels[-1].lattice, fitted.levels[-1].coefficients, points)
    assert folded == 0 and least > 0


def test_is_deterministic(pair, fitted):
    target, atlas, affine = pair
    again = FreeFormDeformation(**SMALL).fit(target.label, atlas.label, target.spacing, atlas.spacing, affine)
    assert all(np.array_equal(a.coefficients, b.coefficients) for a, b in zip(fitted.levels, again.levels))


def test_a_ball_that_moved_is_followed(ball):
    shape, spacing = (48, 40, 30), (1.0, 1.5, 2.0)
    target, atlas = (ball(shape, c, 14, spacing).astype(np.uint8) for c in ((22, 30, 30), (26, 28, 30)))
    found = FreeFormDeformation(**SMALL).fit(target, atlas, spacing, spacing)
    assert (found.warp_label(atlas) == target).mean() > 0.995
    middle = found.displacement(Frame((1, 1, 1), (1, 1, 1), (22, 30, 30))).ravel()
    assert np.abs(middle - [4, -2, 0]).max() < 1.5  # inside, labels say little: smoothness does


def test_thick_slices_of_another_frame_are_enough(ball):
    # target: slices 10 mm apart, none of them at the atlas' voxels; atlas: 1.5 mm, elsewhere in the world
    fine, thick = Frame((50, 50, 50), (1.5, 1.5, 1.5)), Frame((40, 40, 7), (2.0, 2.0, 10.0), (0.3, 0, 4.0))
    atlas = ball(fine.shape, (35, 36, 37), 22, fine.spacing).astype(np.uint8)
    local = tuple(c - o for c, o in zip((40, 40, 34), thick.origin))
    target = ball(thick.shape, local, 20, thick.spacing).astype(np.uint8)
    found = FreeFormDeformation(**SMALL).fit(target, atlas, thick, fine)
    truth = Frame((60, 60, 50), (1.5, 1.5, 1.5))
    warped = found.warp_label(atlas, truth).astype(bool)
    expected = ball(truth.shape, (40, 40, 34), 20, truth.spacing)
    assert 2 * (warped & expected).sum() / (warped.sum() + expected.sum()) > 0.93  # between the slices too


def test_stages_and_warps_are_checked(fitted, hearts):
    with pytest.raises(UsageError, match="expected one of"):
        fitted.displacement(stage="FFD 3 mm")
    with pytest.raises(UsageError, match="stage: found 9"):
        fitted.displacement(stage=9)
    assert (fitted.displacement(stage="affine") == 0).all()
    with pytest.raises(DataError, match="the atlas' shape"):
        fitted.warp_label(hearts[1].label[1:])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bending": (1, 2)}, "bending"),
        ({"levels": 0}, "levels|one a level"),
        ({"control_mm": 0}, "control_mm"),
        ({"least_jacobian": 1.0}, "least_jacobian"),
        ({"engine": "cuda"}, "engine"),
        ({"step_mm": (1, -1, 0)}, "step_mm"),
        ({"iterations": -1}, "iterations"),
        ({"stretch": -1}, "stretch"),
    ],
)
def test_wrong_settings(wrong, words):
    with pytest.raises(UsageError, match=words):
        FreeFormDeformation(**wrong)


def test_wrong_maps(ball):
    label = ball((10, 10, 10), (5, 5, 5), 3).astype(np.uint8)
    ffd = FreeFormDeformation(**SMALL)
    with pytest.raises(DataError, match="target: found a label map without labels"):
        ffd.fit(0 * label, label, (1, 1, 1), (1, 1, 1))
    with pytest.raises(DataError, match="atlas: found a label map without labels"):
        ffd.fit(label, 0 * label, (1, 1, 1), (1, 1, 1))
    with pytest.raises(UsageError, match="invertible 4x4"):
        ffd.fit(label, label, (1, 1, 1), (1, 1, 1), np.zeros((4, 4)))
    with pytest.raises(DataError, match="integer type"):
        ffd.fit(label.astype(float), label, (1, 1, 1), (1, 1, 1))
    with pytest.raises(DataError, match="its frame's shape"):
        ffd.fit(label, label, Frame((10, 10, 9), (1, 1, 1)), (1, 1, 1))
