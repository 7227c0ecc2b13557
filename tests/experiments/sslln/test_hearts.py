"""Hearts for SSLLN: what lies where on the grid, high-resolution, degraded, and back in the stack."""

from __future__ import annotations

import numpy as np
import pytest

from shapelab.data.grid import Grid
from shapelab.data.scheme import BIVENTRICULAR
from shapelab.errors import UsageError
from shapelab.experiments.sslln import hearts as data
from shapelab.phantoms import LANDMARKS, heart_cohort

GRID = Grid((48, 48, 32), (4.0, 4.0, 4.0))
HOW = data.Degradation(factor=2, shift_mm=4.0, apex_slices=1)


@pytest.fixture(scope="module")
def volumes():
    return data.phantom_volumes(3, GRID, seed=5)


@pytest.fixture(scope="module")
def degraded(volumes):
    return data.degrade(volumes, HOW, seed=3)


def test_hearts_lie_whole_in_the_field_and_are_those_of_the_cohort(volumes):
    assert volumes.images.shape == volumes.labels.shape == (3, 48, 48, 32) and volumes.images.dtype == np.float16
    assert volumes.images.min() >= 0 and volumes.images.max() <= 1
    cohort = heart_cohort(3, 5, resolution=(4.0, 4.0, 4.0), phases=("ED",))
    for i, subject in enumerate(cohort):
        assert [volumes.table["group"].iloc[i], volumes.table["height"].iloc[i]] == [
            subject.facts["group"],
            subject.facts["height"],
        ]
        for channel in range(1, 5):  # the same surfaces, another place: volumes agree to the voxels cut
            ours, theirs = (volumes.labels[i] == channel).sum(), (subject.label == channel).sum()
            assert ours == pytest.approx(theirs, rel=0.12)
    for face in (0, -1):
        assert not volumes.labels[:, face].any() and not volumes.labels[:, :, face].any()
        assert not volumes.labels[..., face].any()
    places = np.array([np.argwhere(v).mean(0) for v in volumes.labels])
    assert np.ptp(places[:, :2], axis=0).min() > 0.5  # not aligned


def test_landmarks_lie_where_their_names_say(volumes):
    for label, landmarks in zip(volumes.labels, volumes.landmarks, strict=True):
        at = dict(zip(LANDMARKS, landmarks, strict=True))
        cavity = np.argwhere(label == BIVENTRICULAR.names.index("LV cavity") + 1)
        assert abs(at["mitral valve centre"][2] - cavity[:, 2].min()) <= 2
        assert at["apex"][2] >= cavity[:, 2].max()
        inside = np.rint(at["LV lateral wall mid-point"]).astype(int)
        near = label[tuple(slice(v - 1, v + 2) for v in inside)]
        assert (near == BIVENTRICULAR.names.index("LV myocardium") + 1).any()


def test_volumes_are_a_function_of_seed_and_number_and_are_kept(tmp_path, volumes):
    file = tmp_path / "v.npz"
    first = data.phantom_volumes(2, GRID, seed=5, cache=file)
    again = data.phantom_volumes(2, GRID, seed=5, cache=file)
    for name in ("images", "labels", "landmarks"):
        assert np.array_equal(getattr(first, name), getattr(volumes, name)[:2])
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert again.spacing == first.spacing and list(again.table.index) == list(first.table.index)
    assert len(data.phantom_volumes(1, GRID, seed=6, cache=file)) == 1  # another key: made anew
    with pytest.raises(UsageError, match="n: found 0"):
        data.phantom_volumes(0, GRID)


def test_degraded_labels_are_the_stacks_slices_displaced_and_repeated(volumes, degraded):
    low, stacks = degraded
    assert low.images.shape == volumes.images.shape and np.array_equal(low.landmarks, volumes.landmarks)
    for i, stack in enumerate(stacks):
        at = data.slices_of(stack)
        assert np.array_equal(np.diff(at), np.full(len(at) - 1, 2))
        for k, z in enumerate(at):
            moved = np.roll(volumes.labels[i][:, :, z], np.rint(stack.shift[k] / 4).astype(int), (0, 1))
            assert np.array_equal(low.labels[i][:, :, z], moved)
        # every covered slice repeats one of its neighbours among the stack's; beyond the stack nothing is labelled
        between = low.labels[i][:, :, at[0] : at[-1] + 1]
        for z, label in enumerate(np.moveaxis(between, 2, 0)):
            nearest = {z // 2, min(z // 2 + 1, len(at) - 1)}
            assert any(np.array_equal(label, low.labels[i][:, :, at[k]]) for k in nearest)
        assert not low.labels[i][:, :, at[-1] + 2 :].any() and not low.images[i][:, :, at[-1] + 2 :].any()
        truth = np.flatnonzero(volumes.labels[i].any((0, 1)))
        assert np.flatnonzero(low.labels[i].any((0, 1)))[-1] < truth[-1]  # the apex is cut off
    assert stacks[0].shift.any() and not np.array_equal(stacks[0].shift[:3], stacks[1].shift[:3])


def test_degraded_images_are_linear_between_slices(degraded):
    low, stacks = degraded
    at = data.slices_of(stacks[0])
    image = low.images[0].astype(float)
    middle = (image[:, :, at[2]] + image[:, :, at[3]]) / 2
    assert np.allclose(image[:, :, at[2] + 1], middle, atol=2e-3)


def test_in_stack_is_the_way_back(volumes, degraded):
    low, stacks = degraded
    for i, stack in enumerate(stacks):
        label, landmarks = data.in_stack(stack, low.labels[i], low.landmarks[i])
        assert np.array_equal(label, stack.label)
        for name, place in landmarks.items():
            assert place == pytest.approx(stack.landmarks[name])
    assert data.in_stack(stacks[0], low.labels[0])[1] is None


def test_atlas_of_takes_labels_and_landmarks_of_others(volumes):
    atlas = data.atlas_of(volumes, 1)
    assert np.array_equal(BIVENTRICULAR.channels(atlas.label), volumes.labels[1])
    assert atlas.landmarks["apex"] == pytest.approx(volumes.landmarks[1][LANDMARKS.index("apex")] * 4)
    other = data.atlas_of(volumes, 1, volumes.labels[0], volumes.landmarks[0])
    assert np.array_equal(BIVENTRICULAR.channels(other.label), volumes.labels[0])


def test_missing_slices_are_in_the_middle_of_the_heart(volumes):
    holed, where = data.missing_slices(volumes, 5)
    for image, label, (a, b) in zip(holed.images, volumes.labels, where, strict=True):
        assert b - a == 5 and not image[:, :, a:b].any() and image[:, :, a - 1].any() and image[:, :, b].any()
        used = np.flatnonzero(label.any((0, 1)))
        assert abs((a + b - 1) / 2 - used.mean()) <= 1
    assert volumes.images[0][:, :, where[0][0]].any()  # the whole ones are left alone
