import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist

from shapelab.metrics import surface
from shapelab.metrics.surface import distances, scan


def voxel_surface(mask):
    """The definition, by scipy."""
    return np.argwhere(mask ^ ndimage.binary_erosion(mask))


def small(array):
    return array.astype(np.uint8 if array.max() < 256 else np.uint16)


def test_surface_of_a_cube_by_hand():
    a = np.zeros((7, 7, 7), np.uint8)
    a[2:5, 2:5, 2:5] = 4  # 27 voxels, all but the middle one at the surface
    found = scan(a, np.zeros_like(a))
    assert found.sizes(4) == (27, 0, 0) and found.sizes(0) == (0, 0, 0)
    assert len(found.prediction[4]) == 26 and found.truth == {}
    assert (3, 3, 3) not in {tuple(p) for p in found.prediction[4]}


def test_border_of_the_array_counts_as_background():
    a = np.ones((3, 3, 3), np.uint8)
    assert len(scan(a, a).prediction[1]) == 26  # filled to the border, and still a closed surface


def test_surfaces_and_overlaps_agree_with_scipy(pair):
    a, b, _ = (small(pair[0]), small(pair[1]), pair[2])
    found = scan(*((a, b) if a.dtype == b.dtype else (a.astype(np.uint16), b.astype(np.uint16))))
    for volume, surfaces in ((a, found.prediction), (b, found.truth)):
        assert set(surfaces) == set(np.unique(volume)) - {0}
        for v, points in surfaces.items():
            assert np.array_equal(points, voxel_surface(volume == v))  # the same ones, in raster order
    for v in set(found.prediction) | set(found.truth):
        assert found.sizes(v) == ((a == v).sum(), (b == v).sum(), ((a == v) & (b == v)).sum())


small_maps = hnp.arrays(np.uint8, st.tuples(*3 * [st.integers(1, 11)]), elements=st.sampled_from([0, 0, 0, 1, 2]))


@given(small_maps, st.booleans())
def test_surfaces_of_any_small_map(a, wide):
    # rows of every length: the words of eight voxels begin and end within rows
    a = a.astype(np.uint16) * 300 if wide else a
    found = scan(a, a[::-1].copy())
    for v in np.unique(a[a > 0]):
        assert np.array_equal(found.prediction[v], voxel_surface(a == v))
        assert np.array_equal(found.truth[v], voxel_surface(a[::-1] == v))


spacings = st.tuples(*3 * [st.floats(0.05, 50)])
points = hnp.arrays(np.int32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(0, 60))


@given(points, points, spacings)
def test_distances_are_those_of_all_pairs(a, b, spacing):
    expected = cdist(a * np.array(spacing), b * np.array(spacing)).min(1)
    assert np.allclose(distances(a, b, spacing), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spacing", [(1e-3, 1.0, 1.0), (1.0, 1.0, 1e5), (300.0, 300.0, 300.0)])
def test_a_voxel_of_any_shape_costs_no_more_than_so_many_offsets(spacing):
    offsets, length, start, reach = surface._offsets(spacing)
    assert len(offsets) <= 20 * surface.N_OFFSETS and (np.diff(length) >= 0).all() and tuple(offsets[0]) == (0, 0, 0)
    assert len(length) == len(offsets) + 1 and start[-1] <= len(offsets) and (np.abs(offsets) <= reach).all()
    a, b = np.array([[0, 0, 0], [9, 9, 9]], np.int32), np.array([[40, 0, 1]], np.int32)
    expected = cdist(a * np.array(spacing), b * np.array(spacing)).min(1)
    assert np.allclose(distances(a, b, spacing), expected)


def test_offsets_and_tree_both_take_part():
    # a long row of points moving away from one voxel: near ones by offsets, far ones by the tree
    a = np.stack([np.arange(200), np.zeros(200), np.zeros(200)], 1).astype(np.int32)
    b = np.zeros((1, 3), np.int32)
    spacing = (0.5, 1.0, 1.0)
    near = surface._search(a, b, np.array(spacing), *surface._offsets(spacing)) >= 0
    assert near[:10].all() and not near[100:].any()
    assert np.allclose(distances(a, b, spacing), 0.5 * np.arange(200))
