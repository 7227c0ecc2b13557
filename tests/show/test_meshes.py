"""Meshes: volumes and areas against the formulas, closedness, orientation, limits, errors by name."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, HIPPOCAMPUS, WHOLE_HEART
from shapelab.errors import UsageError
from shapelab.latent import blend
from shapelab.show import meshes
from shapelab.show.meshes import heart_meshes, mesh_figure, surface

SPACING = (1.5, 2.0, 4.0)
RADIUS = 30.0


@pytest.fixture(scope="module")
def ball(shapes):
    return shapes.signed((60, 50, 25), SPACING, (45, 50, 50), RADIUS)


@pytest.mark.parametrize("smooth", [0, 10])
@pytest.mark.parametrize("kind", ["probability", "mask", "hard probability"])
def test_ball_has_the_volume_area_and_place_of_the_formula(ball, shapes, kind, smooth):
    given = {"probability": shapes.soft(ball), "mask": ball > 0, "hard probability": (ball > 0).astype(np.float32)}[
        kind
    ]
    mesh = surface(given, SPACING, smooth=smooth)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.01)
    # A hard mask has steps; the smoothing must take most of their area away.
    area = {"probability": 0.01, "mask": 0.06, "hard probability": 0.15}[kind] / (1 if smooth == 0 else 2)
    assert mesh.area == pytest.approx(4 * np.pi * RADIUS**2, rel=area)
    assert mesh.centroid == pytest.approx((45, 50, 50), abs=0.1)
    assert mesh.bounds == pytest.approx(np.array([[15, 20, 20], [75, 80, 80]]), abs=0.6)


def test_ellipsoid_volume_and_extent(shapes):
    radii = np.array((12.0, 20.0, 31.0))
    mesh = surface(
        shapes.soft(shapes.signed((40, 50, 40), (1.0, 1.25, 2.0), (20, 31, 40), radii), 0.5), (1.0, 1.25, 2.0)
    )
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * radii.prod(), rel=0.01)
    assert np.ptp(mesh.bounds, axis=0) == pytest.approx(2 * radii, abs=0.8)


def test_taubin_keeps_the_volume_that_laplacian_smoothing_loses(ball, shapes):
    rough = surface(ball > 0, SPACING, smooth=0)
    shrunk = trimesh.smoothing.filter_laplacian(rough.copy(), lamb=0.5, iterations=30, volume_constraint=False)
    kept = meshes.taubin(rough.copy(), 30)
    assert kept.volume == pytest.approx(rough.volume, rel=0.005)
    assert abs(shrunk.volume - rough.volume) > 3 * abs(kept.volume - rough.volume)


def test_smoothing_operator_is_trimesh_s_own():
    mesh = trimesh.creation.icosphere(2)
    ours = meshes.averaging_operator(len(mesh.vertices), mesh.faces)
    theirs = trimesh.smoothing.laplacian_calculation(mesh)
    assert abs(ours - theirs).max() < 1e-6
    assert np.asarray(ours.sum(axis=1)).ravel() == pytest.approx(1, abs=1e-6)


def test_structure_that_touches_every_edge_is_closed():
    mesh = surface(np.ones((5, 6, 7)), (1, 2, 3), smooth=0)
    assert mesh.is_watertight
    assert mesh.bounds == pytest.approx(np.array([[0, 0, 0], [5, 12, 21]]))
    assert mesh.volume == pytest.approx(5 * 12 * 21, rel=0.05)  # marching cubes cuts the corners off


def test_single_voxel_and_samples_exactly_on_the_level_are_closed(shapes):
    one = np.zeros((7, 7, 7), bool)
    one[3, 3, 3] = True
    assert surface(one, (1, 1, 10)).is_watertight
    a, b = (shapes.signed((24, 24, 24), (1, 1, 1), (x, 12, 12), 7) > 0 for x in (9, 15))
    half_way = 0.5 * a + 0.5 * b  # two hearts blended at t = .5: much of it is exactly on the level
    assert (half_way == 0.5).sum() > 500
    assert surface(half_way, (1, 1, 1), smooth=0).is_watertight


def box_of(n, low, high):
    cube = np.zeros((n, n, n), np.float32)
    cube[low:high, low:high, low:high] = 1
    return cube


def cube_volume(t, small=4, large=10):
    """mm3 by hand of a blend of a cube in a larger one, voxels of 1 mm.

    Between two samples the surface lies where the line from one to the other passes 1/2, `out` mm from the last sample
    inside; marching cubes cuts edges and corners off: triangles and tetrahedra of that side.
    """
    n, out = (small - 1, 0.5 / (1 - t)) if t < 0.5 else (large - 1, 1 - 0.5 / t)
    return n**3 + 6 * n**2 * out + 12 * n * out**2 / 2 + 8 * out**3 / 6


@pytest.mark.parametrize("forth", [True, False])
@pytest.mark.parametrize("crop", [True, False])
def test_half_way_of_a_blend_there_is_a_surface_as_large_as_those_on_either_side(crop, forth):
    small, large = box_of(20, 8, 12), box_of(20, 5, 15)
    found = {}
    for t in (0.25, 0.45, 0.5, 0.55, 0.75):
        weight = np.float32(t if forth else 1 - t)
        mesh = surface((1 - weight) * small + weight * large, (1, 1, 1), smooth=0, crop=crop)
        assert mesh.is_watertight
        found[t] = mesh.volume
    assert cube_volume(0.5) == 9**3
    for t, volume in found.items():
        assert volume == pytest.approx(cube_volume(t if forth else 1 - t), rel=0.002)
    assert list(found.values()) == sorted(found.values(), reverse=not forth)


def test_a_structure_that_has_half_at_most_has_a_surface_and_one_that_has_less_has_none():
    cube = box_of(12, 3, 9)
    assert surface(0.5 * cube, (1, 1, 2), smooth=0).volume == pytest.approx(5 * 5 * 5 * 2, rel=0.01)
    assert surface(0.4999 * cube, (1, 1, 2), smooth=0) is None
    # two hearts side by side: half way both are there, as in the label map
    apart = 0.5 * box_of(24, 2, 8) + 0.5 * box_of(24, 12, 20)
    assert surface(apart, (1, 1, 1), smooth=0).volume == pytest.approx(5**3 + 7**3, rel=0.01)


@pytest.mark.parametrize("max_faces", [20_000, 600])
def test_half_way_of_nested_hearts_no_structure_is_lost(max_faces):
    """A cavity in a wall, blended with the same heart larger: every structure has a surface, also of few triangles."""
    n = 32
    radius = np.linalg.norm(np.indices((n, n, n)) - (n - 1) / 2, axis=0)

    def heart(cavity, wall):
        label = np.where(radius < cavity, 3, np.where(radius < wall, 2, 0))
        return CARDIAC.onehot(np.where((label == 0) & (np.indices((n, n, n))[0] < 2), 1, label))

    volumes = {}
    for t in (0.45, 0.5, 0.55):
        found = heart_meshes(
            np.float32(1 - t) * heart(4, 8) + np.float32(t) * heart(8, 13), (1, 1, 1), CARDIAC, max_faces=max_faces
        )
        assert list(found) == list(CARDIAC.names)
        volumes[t] = {name: mesh.volume for name, mesh in found.items()}
    cavity = [volumes[t]["LV cavity"] for t in volumes]
    assert cavity == sorted(cavity) and len(set(cavity)) == 3
    # and in label maps: where the small heart has wall and the large one cavity there is cavity, which has 1/2
    ring = (radius >= 4) & (radius < 8)
    path = blend(*(CARDIAC.integers(heart(*r).argmax(0)) for r in ((4, 8), (8, 13))), 3, CARDIAC)
    assert (path.channels[1][ring] == 3).all() and (path.channels[1][(radius >= 8) & (radius < 13)] == 2).all()


def test_cropping_changes_nothing_but_the_time(ball, shapes):
    for given in (shapes.soft(ball), ball > 0):
        full, cropped = surface(given, SPACING, crop=False), surface(given, SPACING)
        assert len(full.faces) == len(cropped.faces)
        assert cropped.volume == pytest.approx(full.volume, rel=1e-4)
        assert cropped.bounds == pytest.approx(full.bounds, abs=1e-3)


def test_asymmetric_object_is_where_the_array_has_it():
    mask = np.zeros((20, 30, 10), bool)
    mask[2:6, 20:28, 7:9] = True  # small x, large y, large z
    mesh = surface(mask, (1.0, 1.0, 5.0), smooth=0)
    assert mesh.bounds == pytest.approx(np.array([[2, 20, 35], [6, 28, 45]]), abs=1.3)


@pytest.mark.parametrize("limit", [700, 3000])
def test_fewer_faces_at_the_same_volume(ball, shapes, limit):
    for given in (shapes.soft(ball), ball > 0):
        mesh = surface(given, SPACING, max_faces=limit)
        assert 0.4 * limit < len(mesh.faces) <= limit
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)


def test_heart_meshes_stay_under_the_limit_and_keep_a_thin_wall(shapes):
    label = shapes.heart_label(shape=(96, 96, 12), spacing=(1.25, 1.25, 10.0))
    found = heart_meshes(label, (1.25, 1.25, 10.0), CARDIAC, max_faces=6000)
    assert list(found) == list(CARDIAC.names)
    assert sum(len(m.faces) for m in found.values()) <= 6000
    voxel = 1.25 * 1.25 * 10
    for value, mesh in zip(CARDIAC.values, found.values(), strict=True):
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx((label == value).sum() * voxel, rel=0.03)


def test_probabilities_and_labels_give_the_same_heart(shapes):
    shape, spacing = shapes.QUICK
    soft, hard = heart_meshes(shapes.heart(), spacing, CARDIAC), heart_meshes(shapes.heart_label(), spacing, CARDIAC)
    for name in CARDIAC.names:
        assert soft[name].volume == pytest.approx(hard[name].volume, rel=0.06)
        assert soft[name].centroid == pytest.approx(hard[name].centroid, abs=1.0)
    assert soft["RV cavity"].centroid[0] < soft["LV cavity"].centroid[0]


def test_empty_structure_has_no_mesh_and_the_figure_says_so(shapes):
    p = shapes.heart()
    p[1] = 0
    found = heart_meshes(p, shapes.QUICK[1], CARDIAC)
    assert list(found) == ["LV myocardium", "LV cavity"]
    assert surface(p[1], shapes.QUICK[1]) is None
    assert "no surface: RV cavity" in mesh_figure(found, CARDIAC, title="x").layout.title.text


def test_figure_is_in_mm_base_up_with_translucent_walls_and_small(shapes):
    fig = mesh_figure(heart_meshes(shapes.heart(), shapes.QUICK[1], CARDIAC), CARDIAC, title="A heart")
    scene = fig.layout.scene
    assert scene.zaxis.range[0] > scene.zaxis.range[1]
    spans = [abs(np.ptp(a.range)) for a in (scene.xaxis, scene.yaxis, scene.zaxis)]
    ratio = [scene.aspectratio.x, scene.aspectratio.y, scene.aspectratio.z]
    assert np.divide(ratio, spans) == pytest.approx(ratio[0] / spans[0])  # one scale for the three axes
    assert all("mm" in a.title.text for a in (scene.xaxis, scene.yaxis, scene.zaxis))
    assert scene.camera.eye.y < 0  # from anterior: smaller x, the RV, on the left
    assert {t.name: t.opacity for t in fig.data} == meshes.opacities(CARDIAC)
    assert meshes.opacities(CARDIAC)["LV cavity"] == 1 > meshes.opacities(CARDIAC)["LV myocardium"]
    assert [t.color for t in fig.data] == list(CARDIAC.colours)
    assert len(fig.to_json()) < 600_000


def test_other_schemes_are_not_turned_over(shapes):
    label = (shapes.heart_label() > 1).astype(np.uint8)
    fig = mesh_figure(heart_meshes(label, (1, 1, 1), HIPPOCAMPUS), HIPPOCAMPUS)
    assert fig.layout.scene.zaxis.range[0] < fig.layout.scene.zaxis.range[1]
    assert set(meshes.opacities(HIPPOCAMPUS).values()) == {1.0}
    assert meshes.opacities(BIVENTRICULAR)["RV wall"] < 1


def test_whole_heart_is_seen_from_the_front_in_its_colours():
    label = np.zeros((20, 22, 24), np.uint8)
    for i in range(7):
        label[2 + 2 * i : 4 + 2 * i, 5:15, 8:16] = i + 1
    found = heart_meshes(label, (3, 3, 3), WHOLE_HEART)
    fig = mesh_figure(found, WHOLE_HEART)
    assert [t.color for t in fig.data] == list(WHOLE_HEART.colours) and [*found] == list(WHOLE_HEART.names)
    assert {n for n, alpha in meshes.opacities(WHOLE_HEART).items() if alpha < 1} == {"LV myocardium"}
    scene = fig.layout.scene
    ways = [np.sign(a.range[1] - a.range[0]) for a in (scene.xaxis, scene.yaxis, scene.zaxis)]
    assert ways == [-1, -1, 1] and scene.camera.eye.y < 0  # the viewer stands at large y, before the heart
    assert "right → left" in scene.xaxis.title.text and "head up" in scene.zaxis.title.text


@pytest.mark.parametrize(
    ("array", "spacing", "words"),
    [
        (np.zeros((4, 4)), (1, 1, 1), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 4)), (1, 0, 1), "above 0"),
        (np.zeros((4, 4, 4)), (1, 1), "above 0"),
        (np.full((4, 4, 4), np.nan), (1, 1, 1), "NaN"),
        (np.full((4, 4, 4), 3, np.uint8), (1, 1, 1), "integers up to 3"),
    ],
)
def test_wrong_input_is_named(array, spacing, words):
    with pytest.raises(UsageError, match=words):
        surface(array, spacing)


def test_wrong_number_of_channels_is_named():
    with pytest.raises(UsageError, match=r"\(4, X, Y, Z\)"):
        heart_meshes(np.zeros((3, 4, 4, 4)), (1, 1, 1), CARDIAC)
