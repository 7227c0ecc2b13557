import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from shapelab.errors import UsageError
from shapelab.latent import embed, embedding_quality
from shapelab.latent.embedding import neighbour_overlap


def blobs(n=45, d=6, seed=0):
    """Three groups far apart in d dimensions."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 3
    z = rng.normal(size=(n, d)) + 20 * np.eye(3, d)[group]
    table = pd.DataFrame(z, columns=[f"z{k:02d}" for k in range(d)], index=[f"s{i}" for i in range(n)])
    return table.assign(group=np.array(["A", "B", "C"])[group], x="a fact of this name gives way")


def test_pca_is_scikit_learns():
    codes = blobs()
    plane = embed(codes, "pca")
    expected = PCA(2).fit_transform(codes.iloc[:, :6])
    np.testing.assert_allclose(np.abs(plane[["x", "y"]]), np.abs(expected), atol=1e-8)
    assert list(plane.columns) == ["x", "y", "group"] and list(plane.index) == list(codes.index)


@pytest.mark.parametrize("method", ["tsne", "pca", pytest.param("umap", marks=pytest.mark.slow)])  # it compiles
def test_groups_stay_together_and_the_same_seed_gives_the_same_plane(method):
    codes = blobs()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        plane, again = (embed(codes, method, seed=1) for _ in range(2))
    pd.testing.assert_frame_equal(plane, again)
    points, group = plane[["x", "y"]].to_numpy(), plane["group"].to_numpy()
    nearest = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(len(points))
    assert (group[nearest.argmin(axis=1)] == group).mean() > 0.95


def test_scale_gives_every_code_the_same_say():
    codes = blobs().assign(z05=np.linspace(-1e4, 1e4, 45))
    assert abs(np.corrcoef(embed(codes, "pca")["x"], codes["z05"])[0, 1]) > 0.999
    assert abs(np.corrcoef(embed(codes, "pca", scale=True)["x"], codes["z05"])[0, 1]) < 0.9


def test_one_code_is_a_line():
    plane = embed(blobs()[["z00", "group"]], "pca")
    assert (plane["y"] == 0).all() and plane["x"].mean() == pytest.approx(0)


def test_quality():
    codes = blobs()
    quality = embedding_quality(codes, ["pca", "tsne"], seeds=(0, 1), k=5)
    assert list(quality.index) == ["pca", "tsne"]
    pca = quality.loc["pca"]
    x, plane = codes.iloc[:, :6].to_numpy(), PCA(2).fit_transform(codes.iloc[:, :6])
    assert pca["trustworthiness"] == pytest.approx(trustworthiness(x, plane, n_neighbors=5))
    assert (pca["disparity"], pca["overlap"]) == (pytest.approx(0, abs=1e-12), 1)  # no chance in it: always the same
    assert (quality["purity"] > 0.95).all() and pca["purity_codes"] == 1
    assert quality["trustworthiness"].between(0.5, 1).all() and quality["continuity"].between(0.5, 1).all()
    free = embedding_quality(codes, "tsne", seeds=(0, 1), k=5, options={"tsne": {"init": "random"}}).loc["tsne"]
    assert 0 < free["disparity"] < 1 and free["overlap"] < 1 and quality.loc["tsne", "disparity"] < 1e-6
    one = embedding_quality(codes.drop(columns="group"), "pca", seeds=[0])
    assert one[["disparity", "overlap", "purity"]].isna().all(axis=None)


def test_purity_without_information_is_the_share_of_the_group():
    codes = blobs(300).assign(group=np.random.default_rng(0).permutation(["A", "B"] * 150))
    assert embedding_quality(codes, "pca", seeds=[0])["purity"].item() == pytest.approx(0.5, abs=0.05)


def test_overlap_by_hand():
    a, b = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 9], [4, 5, 6]])
    assert neighbour_overlap(a, b) == pytest.approx((2 / 4 + 1) / 2)


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("mds", {}, "method: found 'mds'"),
        ("tsne", {"perplexity": 45}, "perplexity for 45 subjects: found 45"),
        ("umap", {"n_neighbors": 45}, "n_neighbors for 45 subjects: found 45; expected a whole number from 2 to 44"),
    ],
)
def test_bad_arguments(method, options, message):
    with pytest.raises(UsageError, match=message):
        embed(blobs(), method, **options)


def test_too_few_subjects():
    with pytest.raises(UsageError, match="found 3 subjects"):
        embed(blobs(3), "pca")
    with pytest.raises(UsageError, match="k for 12 subjects: found 10"):
        embedding_quality(blobs(12), "pca")
    with pytest.raises(UsageError, match="no seed"):
        embedding_quality(blobs(), "pca", seeds=[])


def test_hearts_without_a_class_are_not_impure():
    """Two far clusters of ten: all pure, and stay so when half of one has no class."""
    rng = np.random.default_rng(0)
    codes = pd.DataFrame(rng.normal(size=(20, 3)), columns=["z00", "z01", "z02"])
    codes["z00"] += np.repeat([0, 100], 10)
    codes["group"] = np.repeat(["A", "B"], 10)
    (whole,) = embedding_quality(codes, "pca", seeds=[0], k=5)["purity"]
    some = codes.assign(group=codes["group"].where(codes.index >= 5))
    with pytest.warns(UserWarning, match="found 5 of 20 subjects without a group"):
        row = embedding_quality(some, "pca", seeds=[0], k=5).loc["pca"]
    assert whole == row["purity"] == row["purity_codes"] == 1
    mixed = some.assign(group=["C", *some["group"][1:]])  # one of another class among five that are known
    with pytest.warns(UserWarning, match="4 of 20"):
        assert embedding_quality(mixed, "pca", seeds=[0], k=9).loc["pca", "purity"] == pytest.approx(
            1 - 10 / (6 * 5 + 10 * 9)
        )
