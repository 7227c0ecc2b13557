"""shapelab.atlas.simulation and Atlas: what a thick, shifted stack shows of a known heart."""

import numpy as np
import pytest

from shapelab.atlas import Atlas, Frame, phantom_atlases, simulate_low_resolution
from shapelab.data.landmarks import HEART_LANDMARKS
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError


def test_decimation_alone_is_every_fifth_slice(hearts):
    low = simulate_low_resolution(hearts[0], factor=5, shift_mm=0, apex_slices=0, first=2)
    assert np.array_equal(low.label, hearts[0].label[:, :, 2::5])
    assert np.array_equal(low.image, hearts[0].image[:, :, 2::5])
    assert low.spacing == (2.5, 2.5, 20.0) and (low.shift == 0).all()
    # in mm the heart is where it was, seen from the first slice
    assert np.allclose(low.landmarks["apex"], hearts[0].landmarks["apex"] - [0, 0, 8])
    assert np.array_equal(low.truth_frame.nearest(low.truth.label, Frame(low.label.shape, low.spacing)), low.label)


def test_shift_moves_whole_slices_by_whole_voxels(hearts):
    low = simulate_low_resolution(hearts[0], factor=2, shift_mm=5, apex_slices=0, seed=4)
    still = hearts[0].label[:, :, ::2]
    voxels = low.shift / 2.5
    assert np.array_equal(voxels, np.rint(voxels)) and 0 < np.abs(low.shift).max() <= 12.5
    for k in range(still.shape[2]):
        moved = np.roll(still[:, :, k], voxels[k].astype(int), (0, 1))  # nothing of the heart is near the edge
        assert np.array_equal(low.label[:, :, k], moved)
    assert np.array_equal(low.label, simulate_low_resolution(hearts[0], 2, 5, 0, seed=4).label)
    assert not np.array_equal(low.label, simulate_low_resolution(hearts[0], 2, 5, 0, seed=5).label)


@pytest.mark.parametrize("flip", [False, True])
def test_the_apex_is_cut_off(hearts, flip):
    atlas = Atlas(hearts[0].label[:, :, :: -1 if flip else 1], hearts[0].spacing)
    whole = simulate_low_resolution(atlas, 2, 0, 0)
    cut = simulate_low_resolution(atlas, 2, 0, apex_slices=2)
    area = (whole.label > 0).sum((0, 1))
    used = np.flatnonzero(area)
    kept = slice(used[2], None) if flip else slice(None, used[-2])
    assert np.array_equal(cut.label, whole.label[:, :, kept]) and cut.landmarks is None and cut.image is None
    assert cut.truth_frame.origin[2] == (-used[2] * 8 if flip else 0)


def test_wrong_arguments(hearts):
    for wrong in ({"factor": 0}, {"first": -1}, {"apex_slices": -1}, {"shift_mm": np.inf}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            simulate_low_resolution(hearts[0], **wrong)
    with pytest.raises(DataError, match="more than the 9 to cut off"):
        simulate_low_resolution(hearts[0], factor=5, apex_slices=9)


def test_phantom_atlases_have_known_landmarks():
    first, second = phantom_atlases(2, seed=1, groups=("NOR", "RV"), scheme=CARDIAC, images=False, resolution=(4, 4, 8))
    assert first.id == "phantom000_ED" and first.scheme == CARDIAC and first.label.max() == 3 and first.image is None
    assert tuple(first.landmarks) == HEART_LANDMARKS and not np.array_equal(first.label, second.label)
    # the apex lies at the end of the labels, the valve at the base
    used = np.flatnonzero(first.label.any((0, 1))) * 8
    assert abs(first.landmarks["apex"][2] - used[-1]) < 10
    assert abs(first.landmarks["mitral valve centre"][2] - used[0]) < 10
    with pytest.raises(UsageError, match="n: found 0"):
        phantom_atlases(0)
