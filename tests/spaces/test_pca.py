import json

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from shapelab.data.grid import Grid
from shapelab.data.placement import LaidLabels, Placement
from shapelab.data.scheme import CARDIAC, HIPPOCAMPUS
from shapelab.errors import DataError, UsageError
from shapelab.spaces import PCASpace, ShapeSpace, code_size
from shapelab.spaces.pca import principal_axes

GRID = Grid((20, 20, 8), (2.0, 2.0, 4.0))


@pytest.fixture(scope="module")
def hearts():
    """60 nested spheres of two independent radii (LV cavity in myocardium) beside an RV."""
    rng = np.random.default_rng(0)
    centres = (np.indices(GRID.shape).reshape(3, -1).T * GRID.spacing).reshape(*GRID.shape, 3)
    distance = np.linalg.norm(centres - [24, 20, 14], axis=-1)
    right = np.linalg.norm((centres - [8, 20, 14]) / [1, 1.6, 1.4], axis=-1)
    labels = np.zeros((60, *GRID.shape), np.uint8)
    radii = rng.uniform([5, 2, 3], [9, 5, 7], (60, 3))
    for one, (cavity, wall, rv) in zip(labels, radii):
        one[right < rv] = 1
        one[distance < cavity + wall] = 2
        one[distance < cavity] = 3
    return labels


@parametrize_with_checks([PCASpace(n_codes=4), PCASpace(n_codes=2, whiten=True)])
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)  # none is excused; scikit-learn itself skips its array-API check without SCIPY_ARRAY_API


@pytest.mark.parametrize("shape", [(30, 200), (30, 40), (200, 12)])
@pytest.mark.parametrize("whiten", [False, True])
def test_agrees_with_scikit_learns_pca(shape, whiten):
    x = np.random.default_rng(1).normal(size=shape) * np.linspace(3, 1, shape[1])
    d = 8
    ours, theirs = PCASpace(d, whiten=whiten).fit(x), PCA(d, whiten=whiten, svd_solver="full").fit(x)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-9)
    signs = np.sign((ours.components_ * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.components_, theirs.components_ * signs[:, None], atol=1e-8)
    np.testing.assert_allclose(ours.transform(x), theirs.transform(x) * signs, atol=1e-8)
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(x)), theirs.inverse_transform(theirs.transform(x)), atol=1e-8
    )


def test_gram_matrix_and_svd_give_the_same_axes_and_signs():
    x = np.random.default_rng(2).normal(size=(20, 400)).astype(np.float32)
    x -= x.mean(axis=0)
    components, singular = principal_axes(x, 19)
    _, s, v = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    v *= np.sign(v[np.arange(20), np.abs(v).argmax(axis=1)])[:, None]
    np.testing.assert_allclose(singular, s[:19], rtol=1e-5)
    np.testing.assert_allclose(components, v[:19], atol=1e-4)
    np.testing.assert_allclose(components @ components.T, np.eye(19), atol=1e-5)


def test_few_shapes_give_fewer_codes(hearts):
    space = PCASpace(64, grid=GRID, scheme=CARDIAC).fit(hearts[:10])
    assert space.n_codes == 64 and space.n_codes_ == 9 == code_size(space)
    assert space.encode(hearts[10:13]).shape == (3, 9)
    twice = PCASpace(64, grid=GRID, scheme=CARDIAC).fit(np.concatenate([hearts[:10], hearts[:10]]))
    assert twice.n_codes_ == 9  # repeated shapes add no direction


@pytest.mark.parametrize("representation", ["labels", "sdf"])
def test_all_codes_reproduce_the_training_shapes(hearts, representation):
    space = PCASpace(64, representation, grid=GRID, scheme=CARDIAC).fit_labels(hearts[:20])
    codes = space.encode(hearts[:20])
    p = space.decode(codes)
    assert isinstance(space, ShapeSpace)
    assert p.shape == (20, 4, *GRID.shape) and p.dtype == np.float32 and codes.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert p.min() >= 0 and p.max() <= 1 + 1e-6
    np.testing.assert_array_equal(p.argmax(axis=1), hearts[:20])
    np.testing.assert_allclose(codes.mean(axis=0), space.mean, atol=1e-3)
    np.testing.assert_allclose(codes.std(axis=0, ddof=1), space.sigma, rtol=1e-3)


@pytest.mark.parametrize("representation", ["labels", "sdf"])
def test_unseen_hearts_are_near(hearts, representation):
    space = PCASpace(10, representation, grid=GRID, scheme=CARDIAC).fit(hearts[:40])
    back = space.decode(space.encode(hearts[40:])).argmax(axis=1)
    for k in (1, 2, 3):
        a, b = back == k, hearts[40:] == k
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85
    # the mean code is the mean shape: larger than the smallest and smaller than the largest heart
    sizes = (hearts[:40] > 0).sum(axis=(1, 2, 3))
    assert sizes.min() < (space.decode(space.mean)[0].argmax(axis=0) > 0).sum() < sizes.max()


def test_whitened_codes_have_unit_deviation_and_decode_the_same(hearts):
    plain = PCASpace(6, grid=GRID, scheme=CARDIAC).fit(hearts)
    white = PCASpace(6, whiten=True, grid=GRID, scheme=CARDIAC).fit(hearts)
    np.testing.assert_allclose(white.encode(hearts).std(axis=0, ddof=1), 1, rtol=1e-4)
    np.testing.assert_allclose(white.encode(hearts) * plain.sigma, plain.encode(hearts), atol=1e-3)
    np.testing.assert_allclose(
        white.decode(white.encode(hearts[:2])), plain.decode(plain.encode(hearts[:2])), atol=1e-4
    )


def test_flattened_table_and_label_maps_are_the_same_space(hearts):
    space = PCASpace(6, grid=GRID, scheme=CARDIAC).fit(hearts)
    flat = space.flatten(hearts)
    np.testing.assert_allclose(space.transform(flat), space.encode(hearts), atol=1e-4)
    np.testing.assert_allclose(space.transform(hearts), space.encode(hearts))
    table = PCASpace(6, grid=GRID, scheme=CARDIAC).fit(flat)
    np.testing.assert_allclose(np.abs(table.components_), np.abs(space.components_), atol=1e-4)


def test_signed_distance_is_in_mm_and_decodes_to_itself(hearts):
    space = PCASpace(6, "sdf", grid=GRID, scheme=CARDIAC, max_distance=12.0)
    maps = space.flatten(hearts[:1]).reshape(3, *GRID.shape)
    cavity = hearts[0] == 3
    expected = np.clip(
        distance_transform_edt(~cavity, sampling=GRID.spacing) - distance_transform_edt(cavity, sampling=GRID.spacing),
        -12,
        12,
    )
    np.testing.assert_allclose(maps[2], expected, atol=1e-4)
    assert maps.max() == 12.0  # cut
    # hand-computed: one voxel of 2 mm is 2 mm deep, its neighbours 2 mm (in plane) and 4 mm (through plane)
    # away
    single = np.zeros((1, *GRID.shape), np.uint8)
    single[0, 5, 5, 4] = 1
    d = space.flatten(single).reshape(3, *GRID.shape)
    assert d[0, 5, 5, 4] == -2 and d[0, 6, 5, 4] == 2 and d[0, 5, 5, 5] == 4 and (d[1] == 12).all()


def test_full_structure_has_a_finite_distance():
    full = np.ones((1, *GRID.shape), np.uint8)
    space = PCASpace(representation="sdf", grid=GRID, scheme=CARDIAC)
    assert (space.flatten(full).reshape(3, -1)[0] == -20).all()


def test_same_fit_twice_is_the_same(hearts):
    a, b = (PCASpace(8, grid=GRID, scheme=CARDIAC).fit(hearts).encode(hearts) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_save_and_load(hearts, tmp_path):
    space = PCASpace(8, "sdf", True, GRID, CARDIAC, max_distance=15, temperature=1.5).fit(hearts)
    again = PCASpace.load(space.save(tmp_path / "space"))
    assert again.get_params() == space.get_params() and again.n_samples_ == 60
    np.testing.assert_array_equal(again.encode(hearts[:3]), space.encode(hearts[:3]))
    np.testing.assert_array_equal(again.decode(again.sigma), space.decode(space.sigma))


def test_load_names_the_file_at_fault(hearts, tmp_path):
    with pytest.raises(DataError, match="space.json"):
        PCASpace.load(tmp_path / "nowhere")
    PCASpace(8, grid=GRID, scheme=CARDIAC).fit(hearts).save(tmp_path / "a")
    PCASpace(7, grid=GRID, scheme=CARDIAC).fit(hearts).save(tmp_path / "b")
    (tmp_path / "a" / "space.json").write_bytes((tmp_path / "b" / "space.json").read_bytes())
    with pytest.raises(DataError, match="weights-.*safetensors: found no such file"):
        PCASpace.load(tmp_path / "a")
    weights = next((tmp_path / "b").glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(DataError, match="weights-.*safetensors: found a damaged file"):
        PCASpace.load(tmp_path / "b")
    weights.write_bytes(whole[:-401] + bytes([whole[-401] ^ 8]) + whole[-400:])
    with pytest.raises(DataError, match="found contents with checksum"):
        PCASpace.load(tmp_path / "b")
    file = tmp_path / "b" / "space.json"
    text = json.loads(file.read_text())
    del text["grid"]["spacing"]
    file.write_text(json.dumps(text))
    with pytest.raises(DataError, match="space.json: found a damaged description .KeyError: 'spacing'"):
        PCASpace.load(tmp_path / "b")
    file.write_text(json.dumps({"kind": "autoencoder"}))
    with pytest.raises(DataError, match="kind 'autoencoder'; expected a PCASpace"):
        PCASpace.load(tmp_path / "b")


def test_bad_label_maps(hearts):
    space = PCASpace(8, grid=GRID, scheme=CARDIAC).fit(hearts)
    with pytest.raises(DataError, match=r"shape \(60, 20, 20, 7\)"):
        space.encode(hearts[..., :7])
    with pytest.raises(DataError, match=r"shape \(20, 20, 8\)"):
        space.encode(hearts[0])
    with pytest.raises(DataError, match="label values \\[7\\]"):
        space.encode(np.full((1, *GRID.shape), 7))
    with pytest.raises(DataError, match="float"):
        space.encode(hearts.astype(float))
    with pytest.raises(DataError, match="one label map"):
        PCASpace(8, grid=GRID, scheme=CARDIAC).fit(hearts[:1])
    with pytest.raises(ValueError, match="all the same"):
        PCASpace(8, grid=GRID, scheme=CARDIAC).fit(hearts[[0, 0, 0]])
    with pytest.raises(DataError, match="values of the scheme 'hippocampus'"):
        PCASpace(8, grid=GRID, scheme=HIPPOCAMPUS).fit(hearts)


def test_bad_codes(hearts):
    space = PCASpace(8, grid=GRID, scheme=CARDIAC).fit(hearts)
    with pytest.raises(UsageError, match=r"codes: found shape \(2, 7\); expected \(N, 8\)"):
        space.decode(np.zeros((2, 7)))
    with pytest.raises(UsageError, match="NaN or infinity in row 1"):
        space.decode(np.array([np.zeros(8), np.full(8, np.nan)]))


def test_bad_arguments(hearts):
    with pytest.raises(UsageError, match="no grid or no scheme"):
        PCASpace(8).fit(hearts)
    with pytest.raises(UsageError, match="representation: found 'mesh'"):
        PCASpace(8, "mesh").fit(np.eye(5))
    with pytest.raises(UsageError, match="n_codes: found 0"):
        PCASpace(0).fit(np.eye(5))
    with pytest.raises(UsageError, match="max_distance=-1"):
        PCASpace(2, max_distance=-1).fit(np.eye(5))
    with pytest.raises(UsageError, match="fitted on a table"):
        PCASpace(2).fit(np.eye(5)).encode(hearts)
    with pytest.raises(UsageError, match="fitted on a table"):
        PCASpace(2).fit(np.eye(5)).save("nowhere")


def test_how_its_label_maps_were_laid_is_remembered_and_kept(hearts, tmp_path):
    how = Placement(align="rigid", whole_walls=True)
    space = PCASpace(3, grid=GRID, scheme=CARDIAC)
    assert space.fit(LaidLabels.of(hearts, how)).placement == how == PCASpace.load(space.save(tmp_path)).placement
    assert space.fit(np.asarray(hearts)).placement is None is PCASpace.load(space.save(tmp_path)).placement
