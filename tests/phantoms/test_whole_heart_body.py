"""What lies round a whole heart, and where."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from shapelab.data.grid import Grid
from shapelab.phantoms import whole_heart_body as wb
from shapelab.phantoms.whole_heart import draw_whole_heart

GRID = Grid((56, 61, 56), (3.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def bodies():
    """(drawing, body) of one patient of each of four groups."""
    made = []
    for i, group in enumerate(("NOR", "LAE", "PH", "DCM")):
        drawn = draw_whole_heart((0, i, group, 0), GRID)
        made.append((drawn, wb.make_body(drawn, np.random.default_rng(i))))
    return made


def axes(step, n):
    return ((np.arange(n) - (n - 1) / 2) * step,) * 3


def test_a_random_field_has_mean_0_and_sd_1_and_goes_by_mm_not_by_voxels():
    fine = wb.random_field(np.random.default_rng(3), axes(2.0, 101), 10)
    assert fine.dtype == np.float32 and abs(fine.mean()) < 0.06 and fine.std() == pytest.approx(1, abs=0.06)
    coarse = wb.random_field(np.random.default_rng(3), axes(4.0, 51), 10)
    assert np.allclose(coarse, fine[::2, ::2, ::2], atol=1e-5)
    near, far = (np.corrcoef(fine[k:].ravel(), fine[:-k].ravel())[0, 1] for k in (1, 20))
    assert near > 0.9 and abs(far) < 0.1  # 2 mm, 40 mm


def test_the_splines_sum_to_1_and_repeat():
    """Heights that are all 1 make a constant; one height makes a bump that comes back after a period."""
    ones = SimpleNamespace(standard_normal=lambda shape, dtype: np.ones(shape, dtype))
    flat = wb.random_field(ones, axes(3.1, 90), 25)
    assert np.allclose(flat, (315 / 151) ** 1.5, rtol=1e-4)
    there = (np.array([-7.0, 4.0]),) * 3
    beyond = tuple(a + wb.PERIOD_MM for a in there)
    one, other = (wb.random_field(np.random.default_rng(0), at, 25) for at in (there, beyond))
    assert np.allclose(one, other, atol=1e-4)


def test_labelled_voxels_are_their_own_material_but_for_the_ventricles_muscles(bodies):
    for drawn, body in bodies:
        labelled = drawn.labels > 0
        same = body.materials[labelled] == drawn.labels[labelled]
        odd = labelled.copy()
        odd[labelled] = ~same
        assert (body.materials[odd] == wb.WALL).all() and np.isin(drawn.labels[odd], (wb.LV, wb.RV)).all()
        assert not np.isin(body.materials[~labelled], range(1, 8)).any()
        assert 0.005 < odd.sum() / (drawn.labels == wb.LV).sum() < 0.35


def test_neighbours_lie_where_they_are_in_a_chest(bodies):
    """A wrong sign along any axis fails."""
    for drawn, body in bodies:
        middle = drawn.points[drawn.labels > 0].mean(0)

        def centre(material, body=body, drawn=drawn):
            return drawn.points[body.materials == material].mean(0)

        assert centre(wb.LIVER)[2] < middle[2] - 30  # under the heart
        if (body.materials == wb.STOMACH).any():
            assert centre(wb.STOMACH)[0] < centre(wb.LIVER)[0]
        assert centre(wb.DESCENDING)[1] < middle[1] - 20  # behind it
        assert centre(wb.SUPERIOR)[2] > centre(wb.INFERIOR)[2]
        bone = drawn.points[body.materials == wb.BONE]
        spine = bone[bone[:, 1] < middle[1]].mean(0)
        assert spine[1] < middle[1] - 40 and spine[0] > centre(wb.DESCENDING)[0]  # the aorta lies left of the spine
        front = body.materials[:, -1]
        assert np.isin(front, (wb.MUSCLE, wb.BONE, wb.FAT)).mean() > 0.5  # the chest wall
        assert (body.materials == wb.LUNG).mean() > 0.1


def test_the_rv_has_a_wall_that_no_label_names_and_fat_lies_round_the_heart(bodies):
    shares = []
    for drawn, body in bodies:
        gaps = (ndimage.gaussian_filter((drawn.labels > 0).astype(float), 3) > 0.6) & (drawn.labels == 0)
        assert gaps.sum() > 20 and not np.isin(body.materials[gaps], (wb.LUNG, wb.LIVER)).any()  # between chambers
        free = ndimage.binary_dilation(drawn.labels == wb.RV) & (drawn.labels == 0) & (drawn.others == 0)
        assert (body.materials[free] == wb.WALL).mean() > 0.5
        near = (drawn.distance > 0) & (drawn.distance < 8) & (drawn.labels == 0)
        shares.append((body.materials[near] == wb.FAT).mean())
    assert 0.1 < min(shares) and max(shares) < 0.9 and np.ptp(shares) > 0.1  # lean and other patients


def test_the_aorta_goes_on_beyond_its_label_to_the_descending_one(bodies):
    """Above the labelled part lies more unlabelled aorta, of which some is over the middle between both."""
    found = []
    for drawn, body in bodies:
        labelled = drawn.points[drawn.labels == wb.AORTA]
        arch = drawn.points[(body.materials == wb.DESCENDING) & (drawn.others == 0)]
        if len(arch):
            assert arch[:, 2].max() > labelled[:, 2].max() - 3 and np.ptp(arch[:, 1]) > 15
        found.append(len(arch) > 20)
    assert sum(found) >= 2


def test_papillary_muscles_reach_in_from_the_walls_and_leave_the_middle_of_the_lv(bodies):
    for drawn, body in bodies:
        deep = ndimage.distance_transform_edt(drawn.labels == wb.LV, sampling=3.0)
        share = [(body.materials[part] == wb.WALL).mean() for part in ((deep > 2) & (deep < 8), deep > 16)]
        assert share[0] > 0.03 and share[0] > 3 * share[1]


def test_a_body_follows_its_random_numbers_alone(bodies):
    drawn, body = bodies[0]
    again, other = (wb.make_body(drawn, np.random.default_rng(seed)) for seed in (0, 9))
    assert np.array_equal(again.materials, body.materials) and np.array_equal(again.texture, body.texture)
    assert (other.materials != body.materials).mean() > 0.05
    assert body.axes[0][0] == -(56 - 1) / 2 * 3 and body.axes[1][-1] == (61 - 1) / 2 * 3


def test_an_empty_drawing_is_a_chest_without_a_heart():
    empty = draw_whole_heart((0, 0, "NOR", 0), GRID)
    nothing = wb.Drawn(
        np.zeros_like(empty.labels), np.full_like(empty.distance, 99), np.zeros_like(empty.others), empty.points
    )
    found = np.unique(wb.make_body(nothing, np.random.default_rng(0)).materials)
    assert {wb.LUNG, wb.BONE, wb.LIVER} <= set(found.tolist()) and not set(range(1, 8)) & set(found.tolist())
