import numpy as np
import pytest
import torch

from shapelab.metrics.elements import element_areas, element_surfaces
from shapelab.metrics.surface import distances

# bit 4 x + 2 y + z of ours, (x, y, z) of DeepMind's kernel [[[128, 64], [32, 16]], [[8, 4], [2, 1]]]
THEIRS = [sum(1 << (7 - n) for n in range(8) if way >> n & 1) for way in range(256)]


def test_areas_by_hand():
    area = element_areas((1.0, 1.0, 1.0))
    assert area[0] == area[255] == 0
    # one corner: a triangle through the middles of three edges, of side sqrt(1/2)
    assert area[1] == area[254] == pytest.approx(np.sqrt(3) / 8)
    # one side full: the plane half way
    assert area[0b00001111] == area[0b11110000] == pytest.approx(1.0)
    # an edge: a rectangle of 1 x sqrt(1/2)
    assert area[0b00000011] == pytest.approx(np.sqrt(0.5))
    anisotropic = element_areas((2.0, 3.0, 5.0))
    assert anisotropic[0b00001111] == pytest.approx(15.0)  # x half way: y times z
    assert anisotropic[0b00110011] == pytest.approx(10.0) and anisotropic[0b01010101] == pytest.approx(6.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 2.0, 10.0)])
def test_areas_are_deepminds(spacing):
    pytest.importorskip("monai")
    from monai.metrics.utils import create_table_neighbour_code_to_surface_area

    expected, _ = create_table_neighbour_code_to_surface_area(spacing)
    assert element_areas(spacing) == pytest.approx(expected.numpy()[THEIRS], rel=1e-5)


def test_a_shape_and_what_it_leaves_out_have_one_surface():
    area = element_areas((1.0, 2.0, 3.0))
    assert area == pytest.approx(area[::-1])


def test_elements_of_a_box():
    a = np.zeros((9, 9, 9), np.uint8)
    a[2:5, 3:7, 4:6] = 3
    cubes, areas = element_surfaces(a, a, (1.0, 1.0, 1.0))[0][3]
    # corners between voxels, from 2 to 5, 3 to 7, 4 to 6; all but those inside
    assert len(cubes) == 4 * 5 * 3 - 2 * 3 * 1
    assert cubes.min(0).tolist() == [2, 3, 4] and cubes.max(0).tolist() == [5, 7, 6]
    # faces (n-1)(m-1) elements of 1; edges n-1 of sqrt(1/2); 8 corners of sqrt(3)/8
    faces = 2 * (2 * 3 + 2 * 1 + 3 * 1)
    edges = 4 * (2 + 3 + 1) * np.sqrt(0.5)
    assert areas.sum() == pytest.approx(faces + edges + np.sqrt(3))


def test_area_of_a_ball():
    x, y, z = np.meshgrid(*3 * [np.arange(50) - 24.5], indexing="ij")
    a = (x**2 + y**2 + z**2 < 20**2).astype(np.uint8)
    _, areas = element_surfaces(a, a, (1.0, 1.0, 1.0))[0][1]
    # a staircase of voxels is rougher than the ball: marching cubes on masks overestimate by some 9 %
    assert 1.05 < areas.sum() / (4 * np.pi * 20**2) < 1.12


def test_surface_dice_agrees_with_monai(pair):
    pytest.importorskip("monai")
    from monai.metrics import compute_surface_dice

    a, b, spacing = pair
    kind = np.uint16
    both = element_surfaces(a.astype(kind), b.astype(kind), spacing)
    for v in set(both[0]) & set(both[1]):
        tolerance = 1.7 * min(spacing)
        (points_a, areas_a), (points_b, areas_b) = both[0][v], both[1][v]
        to_b, to_a = distances(points_a, points_b, spacing), distances(points_b, points_a, spacing)
        within = areas_a[to_b <= tolerance].sum() + areas_b[to_a <= tolerance].sum()
        masks = [torch.from_numpy(x == v)[None, None] for x in (a, b)]
        options = {"include_background": True, "spacing": spacing, "use_subvoxels": True}
        expected = compute_surface_dice(*masks, [tolerance], **options)
        assert within / (areas_a.sum() + areas_b.sum()) == pytest.approx(float(expected), rel=1e-4)


def test_empty_maps_have_no_elements():
    assert element_surfaces(*2 * [np.zeros((3, 3, 3), np.uint8)], (1.0, 1.0, 1.0)) == ({}, {})
