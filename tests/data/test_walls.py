import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS, LabelScheme, Structure
from shapelab.data.walls import nested_choice, one_heart, whole_structures
from shapelab.metrics import plausibility


def shares(*voxels):
    """Shares of (RV, wall, LV cavity) of voxels in a row -> (3, n, 1, 1)."""
    return np.array(voxels, np.float32).T[:, :, None, None]


def chosen(scheme, *voxels):
    return nested_choice(shares(*voxels), scheme).ravel().tolist()


def test_nested_questions_by_hand():
    assert chosen(
        CARDIAC,
        (0, 0.3, 0.4),  # background .3 has less than any, yet cavity has not half: wall, as cavity + wall has
        (0, 0.2, 0.6),  # cavity
        (0, 0.2, 0.3),  # half is not more than half
        (0.3, 0.2, 0.2),  # three meet: more than half is heart, LV's side .4 is the larger
        (0.4, 0.3, 0.0),  # RV's is
        (0.6, 0.0, 0.4),
    ) == [2, 3, 0, 2, 1, 1]


def test_what_lies_in_nothing_is_asked_alone():
    flat = LabelScheme("flat", CARDIAC.structures, inside=())
    assert chosen(flat, (0, 0.3, 0.4), (0, 0.45, 0.4)) == [3, 2]
    two = np.array([[0.3, 0.26, 0.2], [0.3, 0.26, 0.2]], np.float32)[:, :, None, None]
    two[0, 1] += 0.02
    assert nested_choice(two, HIPPOCAMPUS).ravel().tolist() == [1, 1, 0]


def test_three_levels():
    tumour = LabelScheme(
        "tumour",
        tuple(Structure(i, n, c) for i, n, c in ((1, "necrosis", "#1"), (2, "oedema", "#2"), (3, "core", "#3"))),
        inside=(("necrosis", "core"), ("core", "oedema")),
    )
    assert tumour.outer == (0, 3, 0, 2)
    assert chosen(tumour, (0.2, 0.2, 0.2), (0.2, 0.2, 0.4), (0.6, 0, 0.1), (0.1, 0.1, 0.1)) == [2, 3, 1, 0]


def disc(radius, n=21):
    x, y = np.indices((n, n)) - n // 2
    return np.hypot(x, y) <= radius


def test_background_that_touches_the_cavity_in_its_slice_becomes_wall():
    own = np.zeros((21, 21, 1), np.uint8)
    own[disc(6)], own[disc(4)] = 2, 3
    torn = CARDIAC.onehot(own)[1:]
    torn[1, 10, 15:] = 0  # to the right of the cavity no wall
    made = whole_structures(torn, own, CARDIAC)
    assert made[10, 15, 0] == 2 and (made[:10] == own[:10]).all()
    assert (made[10, 16:, 0] == 0).all()  # one voxel, and no more


def test_above_and_below_the_cavity_no_wall_is_made():
    own = np.zeros((21, 21, 3), np.uint8)
    own[disc(6), 1], own[disc(4), 1] = 2, 3
    assert (whole_structures(CARDIAC.onehot(own)[1:], own, CARDIAC) == own).all()


def test_pieces_that_the_own_voxels_do_not_have_go_to_what_surrounds_them():
    own = np.zeros((30, 21, 2), np.uint8)
    own[:21][disc(8)], own[:21][disc(3)] = 2, 3
    own[24:28, 5:15] = 1
    with_crumbs = own.copy()
    with_crumbs[10, 17, 0] = 3  # cavity in the wall
    with_crumbs[24, 20, 1] = 1  # RV in the background
    with_crumbs[28, 1, 0] = 2  # wall far off
    with_crumbs[10, 5, 1] = 0  # a hole in the wall
    assert (whole_structures(CARDIAC.onehot(with_crumbs)[1:], own, CARDIAC) == own).all()


def test_pieces_that_the_own_voxels_have_stay():
    own = np.zeros((30, 21, 1), np.uint8)
    own[3:9, 5:15], own[24:26, 5] = 1, 1  # an RV in two pieces, the second of two voxels
    assert (whole_structures(CARDIAC.onehot(own)[1:], own, CARDIAC) == own).all()
    far_less = own.copy()
    far_less[24:26, 5] = 0
    assert (whole_structures(CARDIAC.onehot(own)[1:], far_less, CARDIAC) == far_less).all()


def test_the_rv_lies_in_its_wall_too():
    assert BIVENTRICULAR.outer == (0, 4, 0, 2, 0) and CARDIAC.outer == (0, 0, 0, 2) and HIPPOCAMPUS.outer == (0, 0, 0)


@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(3, 9)] * 2, st.integers(1, 3)), elements=st.integers(0, 3)))
@settings(max_examples=60, deadline=None)
def test_no_cavity_touches_background_in_its_slice(own):
    """Whatever comes in: the border of the array is background too, so a margin is left."""
    own = np.pad(own, ((3, 3), (3, 3), (0, 0)))
    made = whole_structures(CARDIAC.onehot(own)[1:], own, CARDIAC)
    for axis in (0, 1):
        for shift in (-1, 1):
            assert not ((made == 3) & (np.roll(made, shift, axis) == 0)).any()


@pytest.mark.parametrize("scheme", [CARDIAC, HIPPOCAMPUS], ids=lambda s: s.name)
def test_an_empty_map_stays_empty(scheme):
    empty = np.zeros((4, 4, 2), np.uint8)
    assert not whole_structures(scheme.onehot(empty)[1:], empty, scheme).any()


# ------------------------------------------------------------------------------------------------- one heart in a stack


def rings(slices=3):
    """A cavity of 4 x 4 voxels in a wall of one voxel, an RV of 3 x 6 beside it, in each slice."""
    label = np.zeros((16, 16, slices), np.uint8)
    label[6:12, 5:11], label[7:11, 6:10], label[3:6, 5:11] = 2, 3, 1
    return label


def test_a_heart_stays_as_it_is():
    label = rings()
    assert np.array_equal(one_heart(label), label) and plausibility(label)["plausible"]
    assert not one_heart(np.zeros_like(label)).any()


@pytest.mark.parametrize(
    ("where", "value", "mended"),
    [
        ((6, 7, 1), 0, 2),  # the wall is open to the background: closed
        ((6, 7, 1), 1, 2),  # ... to the RV
        ((8, 8, 1), 0, 3),  # a hole in the cavity
        ((8, 8, 1), 2, 3),  # a papillary muscle that nobody outlines
        ((4, 8, 1), 0, 1),  # a hole in the RV
        ((14, 14, 1), 2, 0),  # a crumb of wall
        ((14, 14, 1), 3, 0),  # ... of cavity
        ((4, 7, 1), 3, 1),  # ... of cavity inside the RV
        ((14, 14, 1), 1, 0),  # ... of RV
    ],
)
def test_what_cannot_be_is_set_right(where, value, mended):
    label = rings()
    label[where] = value
    assert plausibility(label)["violations"]
    out = one_heart(label)
    assert out[where] == mended and plausibility(out)["plausible"]
    label[where] = out[where] = 9  # nothing else changed
    assert np.array_equal(out, label)


def test_a_structure_that_a_slice_lacks_is_not_made_up():
    label = rings()
    label[..., 1][label[..., 1] == 1] = 0
    assert np.array_equal(one_heart(label), label)


def test_rv_slices_that_a_breath_hold_displaced_are_one_piece():
    label = rings()
    for first, kept in ((12, True), (13, True), (14, False)):  # the RV ends at 10: one, two, three voxels between
        label[..., 2] = 0
        label[3:6, first:16, 2] = 1
        assert (one_heart(label) == 1)[..., 2].any() == kept


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, (9, 9, 2), elements=st.integers(0, 3)))
def test_whatever_comes_the_lv_is_closed_whole_and_once(label):
    out = one_heart(label)
    found = plausibility(out)
    inner = np.pad(out, ((1, 1), (1, 1), (0, 0)))
    assert found["leaks"] == 0 or (inner == 3)[[1, -2]].any() or (inner == 3)[:, [1, -2]].any()  # open at the border
    assert np.array_equal(one_heart(out) == 3, out == 3)  # a second time changes no cavity
