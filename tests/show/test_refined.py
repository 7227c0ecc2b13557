"""A refinement before and after: where the heart's axes lie, planes by hand, what is written, errors by name."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text

from shapelab.atlas import FreeFormDeformation, RefinementSettings, phantom_atlases, refine, simulate_low_resolution
from shapelab.atlas.frame import Frame
from shapelab.data.scheme import CARDIAC, HIPPOCAMPUS
from shapelab.errors import DataError, UsageError
from shapelab.show.refined import STEP, before_after, heart_axes, plane, segmented, turned_over

FFD = FreeFormDeformation(
    control_mm=20.0, levels=1, iterations=5, bending=(6,), blur_mm=(3,), sampling_mm=(5,), step_mm=(3,)
)


def blocks(rv, lv, shape=(30, 30, 4)) -> np.ndarray:
    """An LV (cavity in its wall) round `lv`, wider at the first slice, and an RV cavity round `rv`, in voxels."""
    label = np.zeros(shape, np.uint8)
    for k in range(shape[2]):
        reach = 6 - k
        label[lv[0] - reach : lv[0] + reach + 1, lv[1] - reach : lv[1] + reach + 1, k] = 2
        label[lv[0] - 1 : lv[0] + 2, lv[1] - 1 : lv[1] + 2, k] = 3
        label[rv[0] - 2 : rv[0] + 3, rv[1] - 2 : rv[1] + 3, k] = 1
    return label


def test_axes_of_the_heart_by_hand():
    label = blocks(rv=(6, 15), lv=(20, 15))  # ACDC's: RV at small x
    axes = heart_axes(label, Frame(label.shape, (2, 2, 10), (100, 0, 0)), CARDIAC)
    assert axes.centre[:2] == pytest.approx((140, 30)) and 0 < axes.centre[2] < 15
    assert np.allclose([axes.across, axes.down, axes.along], np.eye(3))
    # the RV above the LV in the picture: a quarter turn; the base last
    label = blocks(rv=(15, 6), lv=(15, 20))[:, :, ::-1]
    axes = heart_axes(label, Frame(label.shape, (2, 2, 10)), CARDIAC)
    assert np.allclose([axes.across, axes.down, axes.along], [[0, 1, 0], [-1, 0, 0], [0, 0, -1]])
    assert np.allclose(heart_axes(label, Frame(label.shape, (2, 2, 10)), CARDIAC, mirrored=True).down, [1, 0, 0])


def test_no_heart():
    label = blocks(rv=(6, 15), lv=(20, 15))
    with pytest.raises(UsageError, match="without"):
        heart_axes(label, Frame(label.shape, (1, 1, 1)), HIPPOCAMPUS)
    with pytest.raises(DataError, match="both ventricles"):
        heart_axes(np.where(label == 1, 0, label), Frame(label.shape, (1, 1, 1)), CARDIAC)


def test_a_plane_by_hand():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4) + 1
    frame = Frame((2, 3, 4), (1.0, 2.0, 4.0), (10.0, 0.0, 0.0))
    window = np.array([[-1.0, 5.0], [-2.0, 14.0]])
    found = plane(array, frame, (11, 0, 0), np.array([0.0, 1, 0]), np.array([0.0, 0, 1]), window)
    n = round(1 / STEP)  # samples a mm
    wanted = np.kron(array[1], np.ones((2 * n, 4 * n), np.int16))
    assert np.array_equal(found, wanted)  # each voxel as large as it is
    outside = plane(array, frame, (13, 0, 0), np.array([0.0, 1, 0]), np.array([0.0, 0, 1]), window)
    assert not outside.any()


@pytest.fixture(scope="module")
def found():
    hearts = phantom_atlases(2, seed=3, scheme=CARDIAC, images=False, resolution=(2.5, 2.5, 4.0))
    low = simulate_low_resolution(hearts[0], factor=3)
    return refine(
        low.label, None, low.landmarks, hearts[1:], low.spacing, settings=RefinementSettings(n_atlases=1, ffd=FFD)
    )


def texts(fig) -> list[str]:
    fig.draw_without_rendering()
    return [t.get_text() for t in fig.findobj(Text) if t.get_text()]


def test_before_and_after_side_by_side_in_mm(found):
    fig = before_after(found, title="mine")
    said = texts(fig)
    assert {
        "mine",
        "RV cavity",
        "LV myocardium",
        "LV cavity",
        "RV → LV (mm)",
        "base → apex (mm)",
        "anterior → inferior (mm)",
        "long axis, RV to LV: as given",
        "long axis, RV to LV: refined",
    } <= set(said)
    axes = [ax for part in fig.subfigs for ax in part.axes]
    assert len(axes) == 10
    for before, after in zip(axes[::2], axes[1::2]):
        assert before.get_xlim() == after.get_xlim() and before.get_ylim() == after.get_ylim()
        assert before.get_ylim()[0] > before.get_ylim()[1] and before.get_aspect() == 1  # base, anterior up
    assert not turned_over(found)


def test_the_rv_is_drawn_on_the_left_where_it_lies(found):
    ax = before_after(found).subfigs[1].axes[0]
    rv, *_, lv = ax.images  # in the order of the scheme
    at = [
        np.argwhere(np.asarray(image.get_array())[..., 3] > 0)[:, 1].mean() * STEP + ax.get_xlim()[0]
        for image in (rv, lv)
    ]
    assert at[0] < -20 and abs(at[1]) < 8  # mm from the LV's centre


def test_an_image_stands_behind_the_contours(found):
    image = np.linspace(0, 1, found.target.size, dtype=np.float32).reshape(found.target.shape)
    fig = before_after(found, image)
    axes = [ax for part in fig.subfigs for ax in part.axes]
    assert all(len(ax.images) == 1 and ax.collections for ax in axes)
    assert len({ax.images[0].get_clim() for ax in axes}) == 1
    with pytest.raises(UsageError, match="image of shape"):
        before_after(found, image[1:])


def stack_of(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A scan that is brighter from slice to slice, and its label map."""
    return np.broadcast_to(10.0 + np.arange(label.shape[2]), label.shape).astype(np.float32), label


def test_a_segmentation_beside_its_scan():
    label = blocks(rv=(15, 6), lv=(15, 20), shape=(30, 30, 6))  # the RV above: a quarter turn
    part = stack_of(label)
    fig = segmented([("ED", *part), ("ES", *part)], [(2, 2, 10), (2, 2, 10)], CARDIAC, "mine")
    said = texts(fig)
    assert {
        f"{p} {place}: {what}"
        for p in ("ED", "ES")
        for place in ("basal", "middle", "apical")
        for what in ("scan", "segmented")
    } <= set(said)
    assert "mine" in said and set(CARDIAC.names) <= set(said)
    assert len(fig.axes) == 12
    for ax in fig.axes:
        bare = ax.get_title().endswith(": scan")
        assert bool(ax.collections) != bare  # outlines on the right one alone
    # slices at .1, .5 and .9 of six (0 is the base, the LV is wider there): 0, 2 and 4
    seen = [np.unique(np.asarray(ax.images[0].get_array())).max() for ax in fig.axes[:6:2]]
    assert seen == [10, 12, 14]
    # turned so that the RV lies to the left: in the middle slice its outline is left of the LV's
    rv, lv = (fig.axes[3].collections[k].get_paths()[0].vertices.mean(0) for k in (1, -1))
    assert rv[0] < lv[0] and abs(rv[1] - lv[1]) < 2


def test_a_segmentation_that_lacks_a_ventricle_is_drawn_as_the_array_has_it():
    label = np.where(blocks(rv=(6, 15), lv=(20, 15)) == 1, 0, blocks(rv=(6, 15), lv=(20, 15))).astype(np.uint8)
    fig = segmented([("scan", *stack_of(label))], [(2, 2, 10)], CARDIAC, "half")
    assert "RV cavity" not in texts(fig) and "LV cavity" in texts(fig) and len(fig.axes) == 6
