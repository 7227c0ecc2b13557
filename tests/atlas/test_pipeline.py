"""shapelab.atlas.pipeline: one subject from thick slices to a smooth heart, with and without image and landmarks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shapelab.atlas import (
    Atlas,
    Frame,
    FreeFormDeformation,
    RefinementSettings,
    majority_vote,
    move_slices,
    pipeline,
    refine,
    simulate_low_resolution,
)
from shapelab.data.gaps import filled_text
from shapelab.data.grid import to_unit_range
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.metrics import dice
from shapelab.metrics.clinical import structure_volumes

FFD = FreeFormDeformation(
    control_mm=12.0, levels=2, iterations=25, bending=(15, 6), blur_mm=(4, 0), sampling_mm=(5, 0), step_mm=(2, 0.8)
)
SETTINGS = RefinementSettings(ffd=FFD)


@pytest.fixture(scope="module")
def target(hearts):
    """The first heart in slices of 12 mm, without shifts: their labels are true, and what is between is known."""
    return simulate_low_resolution(hearts[0], factor=3, shift_mm=0, apex_slices=1, first=1)


@pytest.fixture(scope="module")
def refined(target, hearts):
    return refine(
        target.label,
        target.image,
        target.landmarks,
        hearts[1:],
        target.spacing,
        settings=RefinementSettings(n_atlases=3, ffd=FFD),
        threads=1,
    )


def truth_in(target, frame):
    return target.truth_frame.nearest(target.truth.label, frame)


def test_a_thick_stack_becomes_the_heart_it_was_taken_of(target, refined):
    truth = truth_in(target, refined.frame)
    assert (truth > 0).sum() == (target.truth.label > 0).sum()  # the frame holds the apex that was cut off
    score = dice(refined.label, truth, refined.scheme)
    nearest = Frame(target.label.shape, target.spacing).nearest(target.label, target.truth_frame)
    assert (score > dice(nearest, target.truth.label, refined.scheme)).all() and score[:3].min() > 0.87
    assert (refined.agreement()[:3] > 0.93).all()  # nothing drifts from what was given
    assert refined.min_jacobian > 0 and refined.folded == 0


def test_slices_that_nobody_annotated_are_not_seen(target, hearts, refined, monkeypatch):
    """A heart drawn on every second slice comes back as the whole one; what it is fitted to says nothing there."""
    used = np.flatnonzero(target.label.any((0, 1)))
    sparse, missing = target.label.copy(), used[1:-1:2].tolist()
    sparse[:, :, missing] = 0
    fitted, fit = [], FreeFormDeformation.fit

    def fit_and_keep(self, label, *more):
        fitted.append(label)
        return fit(self, label, *more)

    monkeypatch.setattr(FreeFormDeformation, "fit", fit_and_keep)
    how = RefinementSettings(n_atlases=3, ffd=FFD)
    with pytest.warns(UserWarning, match=r"target: found empty slices? [\d, ]+ \(counted from 0\) between"):
        found = refine(sparse, None, target.landmarks, hearts[1:], target.spacing, settings=how, threads=1)
    assert found.unseen == tuple(missing) and refined.unseen == () and np.array_equal(found.target, sparse)
    for label in fitted:
        drawn = np.delete(np.arange(label.shape[2]), missing)
        assert np.array_equal(label[:, :, drawn], sparse[:, :, drawn])
        assert set(np.unique(label[:, :, missing])) == {0, max(found.scheme.values) + 1}
    truth = truth_in(target, found.frame)
    assert dice(found.label, truth, found.scheme)[:3].min() > 0.8
    after = structure_volumes(found.label, found.frame.spacing, found.scheme)[:3]
    assert (abs(after / structure_volumes(truth, found.frame.spacing, found.scheme)[:3] - 1) < 0.15).all()
    # on the slices given, by hand; all slices would count the others as wrong
    back = found.on_target()
    expected = [
        2 * ((back == v) & (sparse == v))[:, :, drawn].sum() / ((back == v)[:, :, drawn].sum() + (sparse == v).sum())
        for v in found.scheme.values
    ]
    np.testing.assert_allclose(found.agreement(), expected)
    assert (found.agreement()[:3] > 0.9).all() and found.drift() == []
    assert found.doubts() == [filled_text("target", missing)]


def test_what_is_far_from_what_was_given_is_said(refined):
    assert refined.drift() == []
    value = refined.scheme.structure("LV cavity").value
    thin = refined.label.copy()
    thin[::2][thin[::2] == value] = 0  # half of the cavity, and so two thirds of Dice
    first, second = (shrunk := replace(refined, label=thin)).drift()
    assert first.startswith("LV cavity with Dice 0.6") and first.endswith("before this result is used.")
    assert second.startswith("LV cavity of ") and " ml before, " in second and second.count("no more than 35%.") == 1
    assert shrunk.doubts("a.nii") == [f"a.nii: found {first}", f"a.nii: found {second}"]
    moved = replace(refined, label=np.roll(refined.label, 8, 0))  # 20 mm
    assert [" with Dice 0." in text for text in moved.drift()] == [True] * 3


def test_every_stage_is_there(target, refined):
    assert refined.stages == ("affine", "FFD 24 mm", "FFD 12 mm", "fusion")
    truth = truth_in(target, refined.frame)
    scores = [dice(refined.stage(s), truth, refined.scheme).mean() for s in refined.stages]
    assert scores[0] < scores[1] < scores[2] == scores[3]
    assert np.array_equal(refined.stage("fusion"), refined.label)
    assert refined.stage("affine", atlas=0).shape == refined.frame.shape
    assert len(refined.chosen) == 3 and refined.scores.shape == (4,)
    assert list(refined.chosen) == list(np.argsort(-refined.scores)[:3])
    assert set(refined.seconds) == {"affine", "selection", "deformation", "warp", "fusion"}
    with pytest.raises(UsageError, match="stage: found 'end'"):
        refined.stage("end")


def test_voxels_lie_at_whole_multiples_of_the_spacing(refined):
    assert refined.frame.spacing == (2.5, 2.5, 4.0) and refined.label.dtype == np.uint8
    steps = np.array(refined.frame.origin) / refined.frame.spacing
    assert np.allclose(steps, np.rint(steps))


def test_alignment_moves_slices_back(target, hearts, monkeypatch):
    out = np.zeros((target.label.shape[2], 2))
    out[4] = 7.5, -5.0  # mm: the breath-hold of one slice
    label, image = (move_slices(a, out, target.spacing) for a in (target.label, target.image))
    images = []
    monkeypatch.setattr(pipeline, "to_unit_range", lambda image: images.append(image) or to_unit_range(image))
    settings = RefinementSettings(
        n_atlases=1, ffd=FFD, fusion="non-local", patch=(1, 1, 1), window=(1, 1, 1), align=True
    )
    made = refine(label, image, target.landmarks, hearts[1:2], target.spacing, settings=settings, threads=1)
    assert made.shift[4] == pytest.approx(out[4], abs=4) and np.abs(made.shift[4]).min() > 2
    wrong = [(a[:, :, 4] != target.label[:, :, 4]).sum() for a in (label, made.target)]
    assert wrong[1] < 0.7 * wrong[0]
    errors = [np.abs(a - target.image)[:, :, 4].mean() for a in (image, images[-1])]
    assert errors[1] < 0.7 * errors[0]


def test_an_image_votes(target, hearts):
    arrays = [torch.from_numpy(a) for a in (target.label, target.image)]
    local = RefinementSettings(ffd=FFD, fusion="non-local", patch=(3, 3, 1), window=(3, 3, 1))
    result = refine(*arrays, target.landmarks, hearts[1:3], target.spacing, settings=local)
    assert result.fusion == "non-local" and len(result.atlases) == 2
    assert dice(result.label, truth_in(target, result.frame), result.scheme)[:3].min() > 0.8
    # threads change nothing, nor do intensities of another scale
    again = refine(
        target.label,
        900 * target.image + 50,
        target.landmarks,
        hearts[1:3],
        target.spacing,
        settings=local,
        threads=1,
    )
    assert (again.label != result.label).mean() < 1e-3


@pytest.mark.parametrize("fusion", ["majority", "non-local"])
def test_torch_refines_as_numba_does(target, hearts, fusion):
    settings = RefinementSettings(ffd=FFD, fusion=fusion, patch=(3, 3, 1), window=(3, 3, 1))
    given = (target.landmarks, hearts[1:3], target.spacing)
    one = refine(target.label, target.image, *given, settings=settings)
    arrays = [torch.from_numpy(a) for a in (target.label, target.image)]
    other = refine(*arrays, *given, settings=replace(settings, ffd=replace(FFD, engine="torch")))
    assert {d.engine for d in other.deformations} == {"torch"} and {d.engine for d in one.deformations} == {"numba"}
    assert isinstance(other.label, np.ndarray) and other.label.dtype == one.label.dtype == np.uint8
    assert other.frame == one.frame and dice(other.label, one.label, one.scheme).min() > 0.95
    assert np.array_equal(other.stage("affine"), one.stage("affine"))


def test_without_an_image_the_majority_decides(target, hearts):
    result = refine(target.label, None, target.landmarks, hearts[1:2], target.spacing, settings=SETTINGS)
    assert result.fusion == "majority" and np.array_equal(result.label, result.stage("FFD 12 mm"))
    bare = [Atlas(a.label, a.spacing, a.landmarks) for a in hearts[1:2]]
    again = refine(
        target.label,
        target.image,
        target.landmarks,
        bare,
        target.spacing,
        settings=RefinementSettings(ffd=FFD, fusion="non-local"),
    )
    assert again.fusion == "majority" and np.array_equal(again.label, result.label)


def test_the_majority_decides_unless_the_image_is_asked(refined):
    assert refined.fusion == "majority"  # the target had an image
    votes = [d.warp_label(a.label, refined.frame) for d, a in zip(refined.deformations, refined.atlases)]
    assert np.array_equal(refined.label, majority_vote(votes))


def test_without_landmarks_the_label_map_gives_them(target, hearts):
    result = refine(target.label, None, None, hearts[1:3], target.spacing, settings=SETTINGS)
    assert result.landmarks == "label"
    assert dice(result.label, truth_in(target, result.frame), result.scheme)[:3].min() > 0.83
    bare = [Atlas(a.label, a.spacing) for a in hearts[1:3]]  # atlases without: theirs too
    assert np.array_equal(refine(target.label, None, None, bare, target.spacing, settings=SETTINGS).label, result.label)


def test_another_spacing_of_the_result(target, hearts):
    result = refine(
        target.label,
        None,
        target.landmarks,
        hearts[1:2],
        target.spacing,
        settings=RefinementSettings(ffd=FFD, out_spacing=(5, 5, 6)),
    )
    assert result.frame.spacing == (5, 5, 6)
    assert dice(result.label, truth_in(target, result.frame), result.scheme)["LV cavity"] > 0.85


def test_bad_input(target, hearts):
    def call(**changed):
        given = {
            "label": target.label,
            "image": None,
            "landmarks": target.landmarks,
            "atlases": hearts[1:2],
            "spacing": target.spacing,
        }
        return refine(**given | changed)

    with pytest.raises(UsageError, match="no atlas"):
        call(atlases=[])
    with pytest.raises(UsageError, match="atlases of another scheme"):
        call(scheme=CARDIAC)
    with pytest.raises(UsageError, match="fusion: found 'vote'"):
        RefinementSettings(fusion="vote")
    with pytest.raises(UsageError, match="Frame: found"):
        call(spacing=(1, 1))
    with pytest.raises(UsageError, match="n_atlases: found 0"):
        RefinementSettings(n_atlases=0)
    with pytest.raises(DataError, match="target: found a label map without labels"):
        call(label=0 * target.label)
    with pytest.raises(DataError, match="target: found label values .7."):
        call(label=7 * (target.label > 0).astype(np.uint8))
    with pytest.raises(DataError, match="target: found an image of shape"):
        call(image=target.image[1:])
    with pytest.raises(DataError, match="source landmarks: found 6 points in one plane"):
        call(landmarks={n: p * (1, 1, 0) for n, p in target.landmarks.items()})
    with pytest.raises(DataError, match="an LV in 2 slices"):
        call(label=target.label[:, :, 3:5], landmarks=None)
