"""Codes in two dimensions, and how far such a picture can be trusted."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from shapelab.errors import in_range, must, one_of, whole
from shapelab.latent.codes import code_array, code_columns

METHODS = ("tsne", "umap", "pca")


def embed(
    codes: pd.DataFrame, method: str = "tsne", seed: int = 0, scale: bool = False, **options: Any
) -> pd.DataFrame:
    """Embed a Codes table in the plane.

    Args:
        codes: Codes table
        method: "tsne" (scikit-learn), "umap" (umap-learn, takes seconds to import), "pca" (the first two components)
        seed: t-SNE starts from the principal components, so its seed matters little; UMAP's matters
        scale: give each code unit standard deviation first (for spaces whose dimensions have no common unit)
        options: of the method: perplexity (t-SNE, default 30 or a third of N - 1 where N is small), n_neighbors
            (UMAP, default 15 or N - 1), and whatever else scikit-learn's TSNE, umap.UMAP or PCA take

    Returns:
        DataFrame with the index of `codes`, columns x, y and the facts

    Raises:
        UsageError: unknown method, fewer than four subjects, perplexity or n_neighbors too large for N
    """
    x = code_array(codes)
    points = _embed(StandardScaler().fit_transform(x) if scale else x, method, seed, options)
    facts = codes.drop(columns=[*code_columns(codes), *(c for c in ("x", "y") if c in codes)])
    return pd.concat([pd.DataFrame(points, index=codes.index, columns=["x", "y"]), facts], axis=1)


def _embed(x: np.ndarray, method: str, seed: int, options: dict) -> np.ndarray:
    n = len(x)
    one_of("embed: method", method, METHODS)
    must(n >= 4, "embed", f"{n} subjects", "at least 4")
    if method == "pca":
        if x.shape[1] == 1:
            return np.column_stack([x[:, 0] - x[:, 0].mean(), np.zeros(n)])
        return PCA(2, svd_solver="full", **options).fit_transform(x)
    if method == "tsne":
        perplexity = options.pop("perplexity", min(30.0, (n - 1) / 3))
        in_range(f"embed: perplexity for {n} subjects", perplexity, high=np.nextafter(n, 0), above=True)
        init = options.pop("init", "pca" if x.shape[1] > 1 else "random")
        return TSNE(2, perplexity=perplexity, init=init, random_state=seed, **options).fit_transform(x)
    neighbours = options.pop("n_neighbors", min(15, n - 1))
    whole(f"embed: n_neighbors for {n} subjects", neighbours, 2, n - 1)
    import umap

    with warnings.catch_warnings():
        # n_jobs=1 says what a seed means for UMAP anyway (one thread), and keeps its warning about it away; the other
        # is about a layout for fewer points than eigenvectors, for which it has a way out
        warnings.filterwarnings("ignore", message="n_jobs value .* overridden")
        warnings.filterwarnings("ignore", message="k >= N for N \\* N square matrix")
        settings = {"n_neighbors": neighbours, "random_state": seed, "n_jobs": 1, **options}
        return np.asarray(umap.UMAP(n_components=2, **settings).fit_transform(x), dtype=np.float64)


def embedding_quality(
    codes: pd.DataFrame,
    method: str | Sequence[str] = METHODS,
    seeds: Iterable[int] = range(5),
    target: str | None = "group",
    k: int = 10,
    scale: bool = False,
    options: Mapping[str, Mapping] | None = None,
) -> pd.DataFrame:
    """How far embeddings can be trusted: neighbours kept, and the same picture again with another seed.

    Args:
        codes: Codes table
        method: one or several of "tsne", "umap", "pca"
        seeds: at least one; stability needs two
        target: fact for the purity; None, or one that is not in the table, leaves purity out
        k: neighbours that count (at most half of N, as trustworthiness is defined to there)
        scale: as for `embed`
        options: of each method, e.g. {"tsne": {"init": "random"}}. From scikit-learn's default start, the principal
            components, t-SNE gives the same picture for every seed; a random start shows how much of it is t-SNE's
            choice.

    Returns:
        DataFrame, one row a method (index), mean over seeds unless said.

        - trustworthiness: 1 if every neighbour in the plane is one among the codes (Venna and Kaski; scikit-learn's)
        - continuity: the same the other way round: neighbours among the codes are neighbours in the plane
        - disparity: Procrustes, over pairs of seeds: 0 if one embedding is the other turned, moved, scaled or mirrored
        - overlap: Jaccard index of the k nearest neighbours in the plane, mean over subjects and pairs of seeds; 1: the
          same
        - purity: share of the k nearest neighbours in the plane that are of the subject's own class, among those whose
          classes are known (a warning counts the others)
        - purity_codes: the same among the codes; what the plane adds or loses is the difference

        Neighbours of a subject may be the same patient's other phase; embed one phase to look at groups.
    """
    x = code_array(codes)
    x = StandardScaler().fit_transform(x) if scale else x
    seeds, methods = list(seeds), [method] if isinstance(method, str) else list(method)
    must(seeds, "embedding_quality", "no seed", "at least one")
    whole(f"embedding_quality: k for {len(x)} subjects", k, 1, (len(x) - 1) // 2)
    classes = codes[target].astype(object).to_numpy() if target is not None and target in codes else None
    n_without = 0 if classes is None else int(pd.isna(classes).sum())
    if n_without:
        warnings.warn(
            f"embedding_quality: found {n_without} of {len(x)} subjects without a {target}; expected one for each. "
            "Purity leaves them out, as neighbours too.",
            stacklevel=2,
        )
    rows = []
    for name in methods:
        planes = [_embed(x, name, seed, dict((options or {}).get(name, {}))) for seed in seeds]
        rows.append({"method": name, "n": len(x), "n_seeds": len(seeds), "k": k, **_quality(x, planes, classes, k)})
    return pd.DataFrame(rows).set_index("method")


def _quality(x: np.ndarray, planes: list[np.ndarray], classes: np.ndarray | None, k: int) -> dict[str, float]:
    near = [_neighbours(plane, k) for plane in planes]
    pairs = [(i, j) for i in range(len(planes)) for j in range(i)]
    return {
        "trustworthiness": float(np.mean([trustworthiness(x, plane, n_neighbors=k) for plane in planes])),
        "continuity": float(np.mean([trustworthiness(plane, x, n_neighbors=k) for plane in planes])),
        "disparity": float(np.mean([procrustes(planes[i], planes[j])[2] for i, j in pairs])) if pairs else np.nan,
        "overlap": float(np.mean([neighbour_overlap(near[i], near[j]) for i, j in pairs])) if pairs else np.nan,
        "purity": float(np.mean([_purity(one, classes) for one in near])),
        "purity_codes": _purity(_neighbours(x, k), classes),
    }


def _neighbours(points: np.ndarray, k: int) -> np.ndarray:
    """(N, k) positions of the k nearest other points."""
    return NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)


def neighbour_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Mean Jaccard index of two lists of neighbours (N, k), row by row."""
    shared = np.array([len(np.intersect1d(one, other)) for one, other in zip(a, b, strict=True)])
    return float((shared / (a.shape[1] + b.shape[1] - shared)).mean())


def _purity(neighbours: np.ndarray, classes: np.ndarray | None) -> float:
    if classes is None:
        return float("nan")
    known = ~pd.isna(classes)
    pairs = known[neighbours] & known[:, None]
    return float((classes[neighbours] == classes[:, None])[pairs].mean()) if pairs.any() else float("nan")
