"""`PCASpace`: the linear shape space, principal components of label maps or of signed distance maps.

x ~ mean + sum_i z_i v_i, with v_i the directions of greatest variance of the training shapes (Cootes et al.'s
point distribution model, on voxels instead of points). It is the baseline against which the ACNN paper holds
its codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from shapelab.data.grid import Grid
from shapelab.data.placement import remembered
from shapelab.data.scheme import LabelScheme
from shapelab.errors import must, need, one_of, whole
from shapelab.spaces.axes import with_fixed_signs
from shapelab.spaces.contract import (
    batches,
    check_codes,
    check_labels,
    check_placement,
    check_shape,
    code_names,
    code_values,
)
from shapelab.spaces.distances import distance_probabilities, signed_distances
from shapelab.spaces.kept import Kept, scheme_of, scheme_text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from sklearn.utils import Tags

REPRESENTATIONS = ("labels", "sdf")
TENSORS = ("components_", "mean_", "singular_values_", "explained_variance_", "explained_variance_ratio_")
SMALLEST = {np.float64: 1e-12, np.float32: 1e-5}  # singular values below this share of the largest: noise
GRAM_CHUNK = 16384  # features multiplied at once in double precision


class PCASpace(Kept, TransformerMixin, BaseEstimator):
    """Principal components of shapes: a scikit-learn estimator and a `ShapeSpace`.

    ``fit`` takes either label maps, (N, X, Y, Z) integers on `grid`, or any table, (N, F) numbers. Fitted on
    label maps it encodes and decodes them; a table gives the plain estimator (``transform``,
    ``inverse_transform``), which for label maps works on their flattened representation (``flatten``).

    Args:
        n_codes: most codes wanted. N shapes span N - 1 directions at most, so the space has
            ``n_codes_ = min(n_codes, N - 1, F)`` of them, less where shapes repeat (no direction without variance
            is kept).
        representation: ``"labels"``, the one-hot maps of the structures (the background is what they leave);
            ``"sdf"``, their signed distances in mm, cut at `max_distance`
        whiten: divide each code by its standard deviation over the training shapes
        grid: of the label maps; needed for label maps only
        scheme: of the label maps; needed for label maps only
        max_distance: mm, for ``"sdf"``
        temperature: mm over which ``"sdf"`` blurs a border when decoding; None: the smallest voxel side

    Attributes:
        components_: (n_codes_, F), orthonormal rows; each row's largest entry is positive, which fixes the sign
        mean_: (F,)
        explained_variance_: (n_codes_,), as in scikit-learn's PCA
        explained_variance_ratio_: (n_codes_,), as in scikit-learn's PCA
        singular_values_: (n_codes_,), as in scikit-learn's PCA
        n_codes_: int
        n_samples_: int
        n_features_in_: int

    Raises:
        ValueError: a table that is not 2-D and finite, one row only, all rows the same
        DataError: label maps off the grid or with integers outside the scheme
        UsageError: label maps without `grid` and `scheme`, an unknown representation
    """

    grid: Grid  # both None where a table is all it shall be fitted on; what works on label maps looks first
    scheme: LabelScheme

    def __init__(
        self,
        n_codes: int = 64,
        representation: str = "labels",
        whiten: bool = False,
        grid: Grid | None = None,
        scheme: LabelScheme | None = None,
        max_distance: float = 20.0,
        temperature: float | None = None,
    ) -> None:
        self.n_codes = n_codes
        self.representation = representation
        self.whiten = whiten
        self.grid = grid  # type: ignore[assignment]  # see above
        self.scheme = scheme  # type: ignore[assignment]  # see above
        self.max_distance = max_distance
        self.temperature = temperature

    # ---- scikit-learn --------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: object = None) -> PCASpace:
        """Fit on label maps (N, X, Y, Z), integers, or on a table (N, F); `y` is ignored."""
        self._check_parameters()
        if _is_label_batch(X):
            return self.fit_labels(X)  # type: ignore[arg-type]  # an array, by its ndim
        table = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        mean = table.mean(axis=0)
        return self._fit(table - mean, mean)

    def fit_labels(self, labels: np.ndarray) -> PCASpace:
        """Fit on label maps (N, X, Y, Z), integers of `scheme` on `grid`; N >= 2."""
        self._check_parameters()
        self.placement = remembered(labels)
        flat = self.flatten(labels)
        need(len(flat) >= 2, "labels", "one label map", "at least two", "A space needs shapes that differ.")
        mean = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
        flat -= mean  # in place: the largest array here
        self.n_features_in_ = flat.shape[1]
        return self._fit(flat, mean)

    def _fit(self, centred: np.ndarray, mean: np.ndarray) -> PCASpace:
        components, singular = principal_axes(centred, self.n_codes)
        if len(singular) == 0:
            raise ValueError(
                f"PCASpace: found {len(centred)} shapes that are all the same; expected shapes that differ"
            )
        n = len(centred)
        total = float(np.square(centred, dtype=np.float64).sum()) / (n - 1)
        self.components_, self.mean_ = components, mean
        self.singular_values_ = singular.astype(mean.dtype)
        self.explained_variance_ = (singular**2 / (n - 1)).astype(mean.dtype)
        self.explained_variance_ratio_ = (singular**2 / (n - 1) / total).astype(mean.dtype)
        self.n_samples_, self.n_codes_ = n, len(singular)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Table (N, F), or label maps (N, X, Y, Z) -> codes (N, n_codes_)."""
        check_is_fitted(self)
        if _is_label_batch(X):
            return self.encode(X)  # type: ignore[arg-type]  # see fit
        table = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        codes = (table - self.mean_) @ self.components_.T
        return (codes / self._scale()).astype(table.dtype, copy=False)

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """Codes (N, n_codes_) -> table (N, F), flattened label maps where the space holds label maps."""
        check_is_fitted(self)
        codes = np.asarray(code_values(X, self.n_codes_))
        if codes.ndim != 2 or codes.shape[1] != self.n_codes_:
            raise ValueError(f"codes: found shape {codes.shape}; expected (N, {self.n_codes_})")
        if not np.isfinite(codes).all():
            raise ValueError("codes: found NaN or infinity; expected finite numbers")
        return (codes * self._scale()).astype(self.mean_.dtype) @ self.components_ + self.mean_

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Names of the codes: z00, z01, ..."""
        check_is_fitted(self)
        return np.asarray(code_names(self.n_codes_), dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # ---- ShapeSpace ----------------------------------------------------------------------------------------

    @property
    def mean(self) -> np.ndarray:
        """(d,) mean of the training codes: zeros, as the shapes were centred."""
        check_is_fitted(self)
        return np.zeros(self.n_codes_, dtype=np.float32)

    @property
    def sigma(self) -> np.ndarray:
        """(d,) standard deviation of the training codes; ones where whitened."""
        check_is_fitted(self)
        deviation = np.ones(self.n_codes_) if self.whiten else np.sqrt(self.explained_variance_)
        return deviation.astype(np.float32)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Label maps (N, X, Y, Z), integers -> codes (N, d) float32."""
        self._check_fitted_on_labels()
        check_placement(self, labels)
        labels = np.asarray(labels)
        check_shape(labels, self.grid)
        codes = [(self.flatten(labels[part]) - self.mean_) @ self.components_.T for part in batches(len(labels))]
        return (np.concatenate(codes) / self._scale()).astype(np.float32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes (N, d) or (d,) -> probabilities (N, C, X, Y, Z) float32.

        ``"labels"``: the sums of components, a structure's share of a voxel, are clipped to [0, 1], the
        background is what is left of 1, and each voxel is divided by its sum. ``"sdf"``: softmax of the
        distances, see `distance_probabilities`.
        """
        self._check_fitted_on_labels()
        codes = check_codes(codes, self.n_codes_)
        maps = self.inverse_transform(codes).astype(np.float32, copy=False)
        maps = maps.reshape(len(codes), self.scheme.n_classes - 1, *self.grid.shape)
        if self.representation == "sdf":
            width = min(self.grid.spacing) if self.temperature is None else self.temperature
            return distance_probabilities(maps, width)
        out = np.empty((len(codes), self.scheme.n_classes, *self.grid.shape), dtype=np.float32)
        np.clip(1 - maps.sum(axis=1), 0, 1, out=out[:, 0])
        np.clip(maps, 0, 1, out=out[:, 1:])
        out /= out.sum(axis=1, keepdims=True)  # never 0: without a structure the background is 1
        return out

    def flatten(self, labels: np.ndarray) -> np.ndarray:
        """Label maps (N, X, Y, Z) -> their representation (N, F) float32, F = structures * X * Y * Z."""
        self._check_parameters()
        must(
            self.grid is not None and self.scheme is not None,
            "PCASpace",
            "label maps, but no grid or no scheme",
            "PCASpace(grid=Grid(...), scheme=...), which say what voxels and integers mean",
        )
        channels = check_labels(labels, self.grid, self.scheme)
        if self.representation == "sdf":
            maps = signed_distances(channels, self.scheme.n_classes, self.grid.spacing, self.max_distance)
        else:
            structures = np.arange(1, self.scheme.n_classes, dtype=np.uint8).reshape(1, -1, 1, 1, 1)
            maps = (channels[:, None] == structures).astype(np.float32)
        return maps.reshape(len(maps), -1)

    # ---- files ---------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, half: bool = False) -> Path:
        """Keep the space in `folder` (`shapelab.spaces.kept`); it must hold label maps."""
        self._check_fitted_on_labels()
        return super().save(folder, half)

    def description(self) -> dict[str, Any]:
        """Parameters, grid and scheme."""
        numbers = {
            "n_codes": int(self.n_codes),
            "representation": self.representation,
            "whiten": bool(self.whiten),
            "max_distance": float(self.max_distance),
            "temperature": None if self.temperature is None else float(self.temperature),
        }
        grid = {"shape": list(self.grid.shape), "spacing": list(self.grid.spacing)}
        return {"parameters": numbers, "grid": grid, "scheme": scheme_text(self.scheme), "n_samples": self.n_samples_}

    def tensors(self) -> dict[str, Tensor]:
        """The fitted arrays."""
        return {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in TENSORS}

    @classmethod
    def rebuilt(cls, text: Mapping[str, Any]) -> PCASpace:
        """A space of the same parameters, without its arrays."""
        grid = Grid(tuple(text["grid"]["shape"]), tuple(text["grid"]["spacing"]))
        space = cls(grid=grid, scheme=scheme_of(text["scheme"]), **text["parameters"])
        space.n_samples_ = text["n_samples"]
        return space

    def restore(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Take the arrays; a space of principal components computes on the CPU."""
        self.__dict__.update({name: tensors[name].numpy() for name in TENSORS})
        self.n_codes_, self.n_features_in_ = self.components_.shape

    # ---- checks --------------------------------------------------------------------------------------------

    def _scale(self) -> np.ndarray | np.floating:
        return np.sqrt(self.explained_variance_) if self.whiten else self.mean_.dtype.type(1)

    def _check_parameters(self) -> None:
        one_of("representation", self.representation, REPRESENTATIONS)
        whole("n_codes", self.n_codes)
        must(
            self.max_distance > 0 and (self.temperature is None or self.temperature > 0),
            "PCASpace",
            f"max_distance={self.max_distance}, temperature={self.temperature}",
            "lengths above 0 mm",
        )

    def _check_fitted_on_labels(self) -> None:
        check_is_fitted(self)
        must(
            self.grid is not None
            and self.scheme is not None
            and self.n_features_in_ == (self.scheme.n_classes - 1) * int(np.prod(self.grid.shape)),
            "PCASpace",
            "a space fitted on a table",
            "one fitted on label maps, PCASpace(grid=..., scheme=...).fit(labels)",
        )


def principal_axes(centred: np.ndarray, n_codes: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading right singular vectors of a centred matrix.

    Shapes are few and voxels many, so beyond F = 2 N the N x N Gram matrix is decomposed instead (G = X X^T =
    U S^2 U^T, V = X^T U / S): 144 x 200 000 in well under a second. G is summed in double precision, or
    squaring would cost the small singular values their digits.

    Args:
        centred: (N, F), column means zero
        n_codes: most vectors wanted

    Returns:
        A tuple of

        - components: (d, F), orthonormal rows, dtype of `centred`
        - singular: (d,) float64, falling; d = min(n_codes, N - 1, F) or fewer, directions without variance left out
    """
    n, f = centred.shape
    if f > 2 * n:
        gram = np.zeros((n, n))
        for part in batches(f, GRAM_CHUNK):
            chunk = centred[:, part].astype(np.float64)
            gram += chunk @ chunk.T
        values, vectors = scipy.linalg.eigh(gram)
        singular, left = np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]
    else:
        _, singular, rows = scipy.linalg.svd(centred, full_matrices=False)
        singular = singular.astype(np.float64)
    noise = SMALLEST[centred.dtype.type] * max(singular[0], 1e-300)
    d = min(n_codes, n - 1, f, int(np.sum(singular > noise)))
    if f > 2 * n:
        rows = (left[:, :d] / singular[:d]).astype(centred.dtype).T @ centred
        if d:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(with_fixed_signs(rows[:d].T).T), singular[:d]


def _is_label_batch(X: ArrayLike) -> bool:
    return getattr(X, "ndim", None) == 4 and np.issubdtype(np.asarray(X).dtype, np.integer)
