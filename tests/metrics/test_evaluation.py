import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist

from shapelab.errors import DataError, UsageError
from shapelab.metrics import evaluate
from shapelab.metrics.evaluation import COLUMNS

DISTANCES = ["hd", "hd95", "assd"]
families = pytest.mark.parametrize("surface", ["voxel", "element"])


def by_distance_transform(a, b, spacing):
    """hd, hd95, assd of two masks (voxel family) by scipy's exact distance transform."""
    edge_a, edge_b = (m ^ ndimage.binary_erosion(m) for m in (a, b))
    to_b = ndimage.distance_transform_edt(~edge_b, sampling=spacing)[edge_a]
    to_a = ndimage.distance_transform_edt(~edge_a, sampling=spacing)[edge_b]
    hd95 = max(np.percentile(to_b, 95), np.percentile(to_a, 95))
    return max(to_b.max(), to_a.max()), hd95, np.concatenate([to_b, to_a]).mean()


# ------------------------------------------------------------------------------------------------ by hand


def test_two_voxels():
    a, b = np.zeros((6, 6, 6), np.uint8), np.zeros((6, 6, 6), np.uint8)
    a[1, 1, 1] = 1
    b[3, 1, 4] = 1  # 2 x 1.5 mm and 3 x 4 mm away: the hypotenuse of 3 and 12
    row = evaluate(a, b, (1.5, 1.0, 4.0)).loc[1]
    assert row["dice"] == row["jaccard"] == 0
    assert row[DISTANCES].tolist() == pytest.approx(3 * [np.sqrt(153)])
    assert row["volume"] == row["volume_truth"] == pytest.approx(0.006) and not row["missed"]
    # one element at each of the 8 corners of a voxel: the same shape moved, 8 distances, the nearest corners count
    row = evaluate(a, b, (1.5, 1.0, 4.0), surface="element").loc[1]
    # along x corners at 0, 1 and 2, 3 voxels: 2 or 1; along z at 0, 1 and 3, 4: 3 or 2
    expected = [np.hypot(1.5 * dx, 4 * dz) for dx in (1, 2) for dz in (2, 3)]
    assert row["hd"] == pytest.approx(max(expected)) and row["assd"] == pytest.approx(np.mean(expected))


def test_a_cube_and_the_cube_moved_by_one_voxel():
    a, b = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.uint8)
    a[1:5, 1:5, 1:5] = 2
    b[2:6, 1:5, 1:5] = 2
    row = evaluate(a, b, (2.0, 1.0, 1.0)).loc[2]
    assert row["dice"] == 0.75 and row["jaccard"] == pytest.approx(48 / 80)
    assert row["hd"] == row["hd95"] == 2.0
    # of the 56 surface voxels of a, 16 at x = 1 are 2 mm from b. At x = 2 the inner 4 are 1 mm from b's face voxels of
    # x = 2 (they are those: 0); x = 2, 3: the rims are b's too; x = 4: the inner 4 are inside b, 1 mm from its rim
    assert row["assd"] == pytest.approx((16 * 2.0 + 4 * 1.0) / 56)
    assert row["volume"] == pytest.approx(0.128)


def box_elements(low, high):
    """Corners between voxels round a box and the areas there: by how many sides of the box meet in one."""
    grid = np.stack(np.meshgrid(*[np.arange(i, j + 1) for i, j in zip(low, high)], indexing="ij"), -1).reshape(-1, 3)
    sides = ((grid == low) | (grid == high)).sum(1)
    return grid[sides > 0], np.array([0, 1, np.sqrt(0.5), np.sqrt(3) / 8])[sides[sides > 0]]


def test_element_family_of_two_boxes_by_hand():
    a, b = np.zeros((12, 20, 20), np.uint8), np.zeros((12, 20, 20), np.uint8)
    a[2:6, 1:20, :], b[3:9, 1:20, :] = 1, 1
    points_a, areas_a = box_elements((2, 1, 0), (6, 20, 20))
    points_b, areas_b = box_elements((3, 1, 0), (9, 20, 20))
    apart = cdist(points_a, points_b)
    row = evaluate(a, b, (1.0, 1.0, 1.0), surface="element").loc[1]
    assert row["hd"] == row["hd95"] == 3.0  # the faces at 6 and 9; those at 2 and 3 are 1 apart
    mean = (apart.min(1) @ areas_a + apart.min(0) @ areas_b) / (areas_a.sum() + areas_b.sum())
    assert row["assd"] == pytest.approx(mean)


def test_identity_and_empty_masks():
    a = np.zeros((5, 5, 5), np.int32)
    a[1:3, 1:3, 1:3] = 1
    a[4, 4, 4] = 5
    table = evaluate(a, np.where(a == 1, 1, 0), (1, 1, 1), labels=[5, 1, 2])
    assert table.index.tolist() == [5, 1, 2] and table.index.name == "label" and tuple(table.columns) == COLUMNS
    assert table.loc[1].tolist() == [1, 1, 0, 0, 0, 0.008, 0.008, False]
    assert table.loc[5].tolist() == [0, 0, np.inf, np.inf, np.inf, 0.001, 0, True]
    assert table.loc[2].tolist() == [1, 1, 0, 0, 0, 0, 0, False]
    assert table["missed"].dtype == bool
    assert evaluate(np.where(a == 1, 1, 0), a, (1, 1, 1)).loc[5, "missed"]


@families
def test_no_label_at_all(surface):
    a = np.zeros((3, 4, 5), np.uint8)
    table = evaluate(a, a, (1, 1, 1), surface=surface)
    assert len(table) == 0 and tuple(table.columns) == COLUMNS
    assert evaluate(a, a, (1, 1, 1), [3], surface).loc[3, "dice"] == 1


# ------------------------------------------------------------------------------------------------ other libraries


def test_voxel_family_agrees_with_distance_transform(pair):
    a, b, spacing = pair
    table = evaluate(a, b, spacing)
    assert set(table.index) == (set(np.unique(a)) | set(np.unique(b))) - {0}
    for v, row in table.iterrows():
        expected = by_distance_transform(a == v, b == v, spacing)
        assert np.abs(np.array(row[DISTANCES], float) - expected).max() < 1e-6


def test_voxel_family_agrees_with_monai(pair):
    pytest.importorskip("monai")
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
    )

    a, b, spacing = pair
    for v, row in evaluate(a, b, spacing).iterrows():
        masks = [torch.from_numpy(x == v)[None, None] for x in (a, b)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {"include_background": True, "spacing": spacing}
            expected = {
                "dice": compute_dice(*masks),
                "jaccard": compute_iou(*masks),
                "hd": compute_hausdorff_distance(*masks, **options),
                "hd95": compute_hausdorff_distance(*masks, percentile=95, **options),
                "assd": compute_average_surface_distance(*masks, symmetric=True, **options),
            }
        for name, value in expected.items():
            assert row[name] == pytest.approx(float(value), rel=1e-5), name


def test_voxel_family_agrees_with_contours_of_simpleitk(pair_of):
    import SimpleITK as sitk

    a, b, spacing = pair_of("near and far")  # nothing at the border, where ITK has no contour
    contours = []
    for x in (a, b):
        image = sitk.GetImageFromArray((x > 0).astype(np.uint8).transpose(2, 1, 0))
        image.SetSpacing(spacing)
        contours.append(sitk.LabelContour(image, fullyConnected=False))
    measure = sitk.HausdorffDistanceImageFilter()
    measure.Execute(*contours)
    assert evaluate(a, b, spacing).loc[300, "hd"] == pytest.approx(measure.GetHausdorffDistance(), abs=1e-5)


def deepmind(a, b, spacing):
    """hd, hd95, assd of two masks from DeepMind's tables and codes as MONAI ships them, by distance transforms."""
    pytest.importorskip("monai")
    from monai.metrics.utils import get_mask_edges

    edge_a, edge_b, area_a, area_b = (np.asarray(x) for x in get_mask_edges(a, b, spacing=spacing))
    to_b = ndimage.distance_transform_edt(~edge_b, sampling=spacing)[edge_a]
    to_a = ndimage.distance_transform_edt(~edge_a, sampling=spacing)[edge_b]
    area_a, area_b = area_a[edge_a].astype(float), area_b[edge_b].astype(float)

    def robust(distance, area):
        order = np.argsort(distance)
        share = np.cumsum(area[order]) / area.sum()
        return distance[order][min(np.searchsorted(share, 0.95), len(share) - 1)]

    hd95 = max(robust(to_b, area_a), robust(to_a, area_b))
    total = area_a.sum() + area_b.sum()
    return max(to_b.max(), to_a.max()), hd95, ((to_b * area_a).sum() + (to_a * area_b).sum()) / total


def test_element_family_agrees_with_deepmind(pair):
    a, b, spacing = pair
    for v, row in evaluate(a, b, spacing, surface="element").iterrows():
        expected = deepmind(a == v, b == v, spacing)
        assert np.array(row[DISTANCES], float) == pytest.approx(expected, rel=1e-5)


def test_families_differ_by_less_than_a_voxel_and_overlaps_do_not(pair_of):
    a, b, spacing = pair_of("blobs")
    voxel, element = (evaluate(a, b, spacing, surface=s) for s in ("voxel", "element"))
    assert voxel[["dice", "jaccard", "volume"]].equals(element[["dice", "jaccard", "volume"]])
    assert ((voxel["assd"] - element["assd"]).abs() < 1).all() and not np.allclose(voxel["assd"], element["assd"])


# ------------------------------------------------------------------------------------------------ properties

maps = hnp.arrays(np.uint8, (7, 6, 5), elements=st.sampled_from([0, 0, 0, 1, 2]))
lengths = st.tuples(*3 * [st.floats(0.1, 20)])


@families
@given(a=maps, b=maps, spacing=lengths)
@settings(max_examples=40)
def test_symmetric(surface, a, b, spacing):
    there, back = evaluate(a, b, spacing, [1, 2], surface), evaluate(b, a, spacing, [1, 2], surface)
    measures = ["dice", "jaccard", *DISTANCES]
    assert np.allclose(there[measures], back[measures])
    assert there["missed"].equals(back["missed"]) and there["volume"].equals(back["volume_truth"].rename("volume"))


@families
@given(a=maps, b=maps, move=st.tuples(*3 * [st.integers(0, 4)]))
@settings(max_examples=40)
def test_moving_both_changes_nothing(surface, a, b, move):
    moved = [np.pad(x, [(m, 4 - m) for m in move]) for x in (a, b)]
    here, there = evaluate(a, b, (1, 2, 3), [1, 2], surface), evaluate(*moved, (1, 2, 3), [1, 2], surface)
    assert np.allclose(here.astype(float), there.astype(float))


@families
@given(a=maps, b=maps, spacing=lengths, factor=st.floats(0.1, 30))
@settings(max_examples=40)
def test_lengths_scale_with_the_spacing(surface, a, b, spacing, factor):
    one = evaluate(a, b, spacing, [1, 2], surface)
    other = evaluate(a, b, [s * factor for s in spacing], [1, 2], surface)
    assert np.allclose(one[["dice", "jaccard"]], other[["dice", "jaccard"]])
    assert np.allclose(one[["hd", "assd"]] * factor, other[["hd", "assd"]])
    assert np.allclose(one["volume"] * factor**3, other["volume"])


@families
@given(a=maps, spacing=lengths)
@settings(max_examples=30)
def test_a_map_agrees_with_itself(surface, a, spacing):
    table = evaluate(a, a, spacing, [1, 2], surface)
    assert (table[["dice", "jaccard"]] == 1).all(axis=None) and (table[DISTANCES] == 0).all(axis=None)
    assert not table["missed"].any()


@families
@given(a=maps, b=maps, order=st.permutations(range(3)), spacing=lengths)
@settings(max_examples=40)
def test_axes_have_no_order(surface, a, b, order, spacing):
    assume((a == 1).any() and (b == 1).any())
    turned = evaluate(a.transpose(order), b.transpose(order), [spacing[d] for d in order], [1], surface)
    straight = evaluate(a, b, spacing, [1], surface)
    assert np.allclose(straight[["dice", "hd"]], turned[["dice", "hd"]])
    if surface == "voxel":  # marching cubes cut some twisted quadrilaterals along one of two diagonals
        assert np.allclose(straight[DISTANCES], turned[DISTANCES])


@given(a=maps, b=maps)
@settings(max_examples=40)
def test_one_row_at_a_time_gives_the_same(a, b):
    both = evaluate(a, b, (1, 1, 2), [1, 2])
    for v in (1, 2):
        alone = evaluate((a == v), (b == v), (1, 1, 2), [1])
        assert both.loc[v].tolist() == alone.loc[1].tolist()


# ------------------------------------------------------------------------------------------------ what comes in


@families
@pytest.mark.parametrize("kind", ["torch", "int64", "bool", "uint16", "Fortran", "view"])
def test_every_kind_of_array(pair_of, kind, surface):
    a, b, spacing = pair_of("at the border")
    a, b = (a == 1).astype(np.uint8), (b == 1).astype(np.uint8)
    change = {
        "torch": torch.from_numpy,
        "int64": lambda x: x.astype(np.int64),
        "bool": lambda x: x.astype(bool),
        "uint16": lambda x: x.astype(np.uint16),
        "Fortran": np.asfortranarray,
        "view": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    }[kind]
    assert evaluate(change(a), b, spacing, surface=surface).equals(evaluate(a, b, spacing, surface=surface))


@families
def test_labels_past_65535(pair_of, surface):
    a, b, spacing = pair_of("at the border")
    names = np.array([0, 70000, 10**12])
    table = evaluate(names[a], names[b], spacing, surface=surface)
    assert table.index.tolist() == [70000, 10**12]
    assert np.array_equal(table, evaluate(a, b, spacing, surface=surface))


def test_inputs_are_left_alone(pair_of):
    a, b, spacing = pair_of("blobs")
    before = a.copy(), b.copy()
    evaluate(a, b, spacing, surface="element")
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])


GOOD = np.ones((3, 3, 3), np.uint8)


@pytest.mark.parametrize(
    "spacing", [(1, 1), (1, 1, 1, 1), (1, 1, 0), (1, 1, -2), (1, 1, np.nan), (1, np.inf, 1), 1.0, "abc"]
)
def test_wrong_spacing(spacing):
    with pytest.raises(UsageError, match="spacing: found"):
        evaluate(GOOD, GOOD, spacing)


@pytest.mark.parametrize("labels", [[0, 1], [1, 1], [-2], [1.5], [], ["LV"], 3])
def test_wrong_labels(labels):
    with pytest.raises(UsageError, match="labels: found"):
        evaluate(GOOD, GOOD, (1, 1, 1), labels)


def test_unknown_surface():
    with pytest.raises(UsageError, match="surface: found 'mesh'; expected one of"):
        evaluate(GOOD, GOOD, (1, 1, 1), surface="mesh")


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (GOOD.astype(float), "an array of type float64"),
        (torch.full((3, 3, 3), torch.nan), "an array of type float32 with NaN"),
        (GOOD.astype(float), r"an array of type float64.*astype\(np.uint8\)"),
        (GOOD * 0.5, "an array of type float64.*argmax"),
        (-GOOD.astype(np.int16), "label -1"),
        (GOOD[0], r"shape \(3, 3\)"),
        (np.zeros((3, 0, 3), np.uint8), r"shape \(3, 0, 3\)"),
        (np.array([["a"]]), "an array of type <U1"),
    ],
)
def test_what_is_no_label_map_is_named(bad, found):
    with pytest.raises(DataError, match=f"prediction: found {found}"):
        evaluate(bad, GOOD, (1, 1, 1))
    with pytest.raises(DataError, match=f"truth: found {found}"):
        evaluate(GOOD, bad, (1, 1, 1))


def test_shapes_that_differ():
    with pytest.raises(DataError, match="the same shape"):
        evaluate(GOOD, np.ones((3, 3, 4), np.uint8), (1, 1, 1))
