import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapelab.data.geometry import count_components, count_holes
from shapelab.data.grid import Grid
from shapelab.data.scheme import CARDIAC
from shapelab.errors import UsageError
from shapelab.latent import blend, interpolate, path_table, traverse
from shapelab.spaces import PCASpace

GRID = Grid((24, 24, 6), (2.0, 2.0, 5.0))


def heart(x, cavity, wall):
    """A ball of LV in a shell of myocardium, centred at x mm."""
    position = np.indices(GRID.shape).transpose(1, 2, 3, 0) * GRID.spacing
    distance = np.linalg.norm(position - [x, 23, 12.5], axis=-1)
    label = np.zeros(GRID.shape, np.uint8)
    label[distance < cavity + wall] = 2
    label[distance < cavity] = 3
    return label


@pytest.fixture(scope="module")
def space():
    rng = np.random.default_rng(0)
    hearts = np.stack([heart(x, c, w) for x, c, w in rng.uniform([14, 5, 4], [32, 9, 6], (40, 3))])
    return PCASpace(8, "sdf", grid=GRID, scheme=CARDIAC, max_distance=40).fit(hearts)


def test_traverse_one_dimension(space):
    path = traverse(space, 2, n_sigma=2, steps=5)
    np.testing.assert_allclose(path.position, [-2, -1, 0, 1, 2])
    expected = np.zeros((5, 8), np.float32)
    expected[:, 2] = np.array([-2, -1, 0, 1, 2]) * space.sigma[2]
    np.testing.assert_allclose(path.codes, expected, rtol=1e-6)
    np.testing.assert_array_equal(path.probabilities, space.decode(expected))
    assert len(path) == 5 and path.channels.shape == (5, *GRID.shape) and path.channels.dtype == np.uint8


def test_traverse_several_dimensions_about_a_subject(space):
    base = np.arange(8, dtype=np.float32)
    path = traverse(space, [0, 5], n_sigma=1, steps=3, base=base)
    np.testing.assert_allclose(path.codes[1], base)
    moved = path.codes[2] - base
    np.testing.assert_allclose(moved[[0, 5]], space.sigma[[0, 5]], rtol=1e-5)
    assert (moved[[1, 2, 3, 4, 6, 7]] == 0).all()


def test_first_dimension_moves_the_heart(space):
    # the position varies most, so the first dimension carries it: the centroid moves one way along it
    centroids = [np.nonzero(one)[0].mean() for one in traverse(space, 0, 1.5, 7).channels]
    steps = np.diff(centroids)
    assert (np.sign(steps) == np.sign(steps[0])).all() and np.abs(centroids[-1] - centroids[0]) > 4


@settings(max_examples=20, deadline=None)
@given(arrays(np.float32, (2, 8), elements=st.floats(-100, 100, width=32)), st.integers(2, 7))
def test_interpolation_ends_exactly_at_both_codes(ends, steps):
    class Space:
        mean, sigma = np.zeros(8, np.float32), np.ones(8, np.float32)

        def decode(self, codes):
            return np.zeros((len(codes), 2, 1, 1, 1), np.float32)

    path = interpolate(Space(), *ends, steps)
    np.testing.assert_array_equal(path.codes[[0, -1]], ends)
    np.testing.assert_allclose(np.diff(path.codes, 2, axis=0), 0, atol=1e-3)  # evenly spaced, on a line
    assert path.position[0] == 0 and path.position[-1] == 1


def test_blend_by_hand():
    a, b = np.zeros((3, 1, 1), np.uint8), np.zeros((3, 1, 1), np.uint8)
    a[:, 0, 0], b[:, 0, 0] = [3, 2, 0], [3, 0, 1]
    path = blend(a, b, 5, CARDIAC)
    assert path.codes is None
    np.testing.assert_allclose(
        path.probabilities[1, :, :, 0, 0].T, [[0, 0, 0, 1], [0.25, 0, 0.75, 0], [0.75, 0.25, 0, 0]]
    )
    labels = path.channels[:, :, 0, 0].tolist()
    assert labels == [[3, 2, 0], [3, 2, 0], [3, 2, 1], [3, 0, 1], [3, 0, 1]]  # a tie in the middle: the structure


@settings(max_examples=20, deadline=None)
@given(arrays(np.uint8, (2, 3, 3, 2), elements=st.integers(0, 3)), st.integers(2, 6))
def test_blend_sums_to_one_and_ends_at_both(pair, steps):
    path = blend(*pair, steps, CARDIAC)
    np.testing.assert_allclose(path.probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(path.channels[[0, -1]], pair)


def test_table_by_hand():
    a, b = np.zeros((6, 6, 3), np.uint8), np.zeros((6, 6, 3), np.uint8)
    a[1:3, 1:3, 1], b[2:4, 1:3, 1] = 3, 3
    table = path_table(np.stack([a, b]), (2, 2, 5), CARDIAC).set_index(["step", "structure"])
    lv = table.loc[(0, "LV cavity")]
    assert lv["volume_ml"] == pytest.approx(4 * 20 / 1000)
    assert (lv["dice_a"], lv["dice_b"]) == (1, 0.5)
    assert (lv["components"], lv["holes"], lv["position"]) == (1, 0, 0)
    assert table.loc[(1, "LV cavity"), "dice_b"] == 1 and table.loc[(1, "LV cavity"), "position"] == 1
    assert table.loc[(0, "RV cavity"), "dice_a"] == 1 and table.loc[(0, "RV cavity"), "components"] == 0


def test_blending_jumps_where_the_shape_space_moves(space):
    # a small and a large LV about one centre: the blend is A until the middle and B after it, the space's way grows
    a, b = heart(23, 5, 5), heart(23, 9, 5)
    codes = space.encode(np.stack([a, b]))
    ours = path_table(interpolate(space, *codes, 9), GRID.spacing, CARDIAC, ends=(a, b))
    plain = path_table(blend(a, b, 9, CARDIAC), GRID.spacing, CARDIAC, ends=(a, b))
    lv, lv_blend = (t[t["structure"] == "LV cavity"].set_index("step") for t in (ours, plain))
    assert lv_blend.loc[:3, "dice_a"].eq(1).all() and lv_blend.loc[5:, "dice_b"].eq(1).all()
    assert lv_blend["volume_ml"].nunique() == 2
    assert lv["volume_ml"].nunique() >= 5 and lv["volume_ml"].is_monotonic_increasing
    assert lv["components"].eq(1).all() and lv["holes"].eq(0).all()
    assert lv["dice_a"].iloc[0] > 0.8 and lv["dice_b"].iloc[-1] > 0.8
    assert lv["dice_a"].is_monotonic_decreasing and lv["dice_b"].is_monotonic_increasing


def test_components_and_holes():
    shell = np.ones((5, 5, 5), bool)
    shell[2, 2, 2] = False
    assert count_components(shell) == 1 and count_holes(shell) == 1
    shell[2, 2, :] = False  # a tunnel to the border is no hole
    assert count_holes(shell) == 0
    apart = np.zeros((5, 5, 5), bool)
    apart[0, 0, 0] = apart[1, 1, 1] = apart[4, 4, 4] = True
    assert count_components(apart) == 2 and count_holes(apart) == 0
    assert count_components(np.zeros((2, 2, 2), bool)) == 0 == count_holes(np.ones((2, 2, 2), bool))


def test_bad_arguments(space):
    for dimensions in (8, -1, [0, 9], 1.5, []):
        with pytest.raises(UsageError, match="expected integers from 0 to 7"):
            traverse(space, dimensions)
    with pytest.raises(UsageError, match="steps: found 1"):
        traverse(space, 0, steps=1)
    with pytest.raises(UsageError, match="n_sigma: found 0"):
        traverse(space, 0, n_sigma=0)
    with pytest.raises(UsageError, match=r"shape \(3,\)"):
        traverse(space, 0, base=np.zeros(3))
    with pytest.raises(UsageError, match=r"shape \(7,\)"):
        interpolate(space, np.zeros(8), np.zeros(7))
    with pytest.raises(UsageError, match=r"\(2, 2, 2\) and \(2, 2, 3\)"):
        blend(np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int), 3, CARDIAC)
    with pytest.raises(UsageError, match="no scheme"):
        blend(np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int), 3)
    with pytest.raises(UsageError, match=r"expected \(S, X, Y, Z\)"):
        path_table(np.zeros((2, 2, 2), int), (1, 1, 1), CARDIAC)
