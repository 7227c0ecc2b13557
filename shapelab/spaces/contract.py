"""`ShapeSpace`: what every shape space can do, whatever made it (PCA, autoencoder, T-L net, joint space)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from shapelab.data.scheme import LabelScheme
from shapelab.errors import must, need

if TYPE_CHECKING:  # loading it loads torch, which a table of codes does not need
    from shapelab.data.grid import Grid

BATCH = 32  # label maps in memory at once, as float, when a cohort is encoded or a path decoded


@runtime_checkable
class ShapeSpace(Protocol):
    """Label maps <-> codes. Analyses and widgets use these names and nothing else.

    Attributes:
        grid: `Grid` of the label maps, spacing in mm
        scheme: `LabelScheme` of the label maps; C = scheme.n_classes, channel 0 the background
        mean: (d,) mean and standard deviation of the training codes
        sigma: (d,) mean and standard deviation of the training codes
    """

    @property
    def grid(self) -> Grid: ...

    @property
    def scheme(self) -> LabelScheme: ...

    @property
    def mean(self) -> np.ndarray: ...

    @property
    def sigma(self) -> np.ndarray: ...

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Label maps (N, X, Y, Z), integers -> codes (N, d) float32."""
        ...

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes (N, d) or (d,) -> probabilities (N, C, X, Y, Z) float32, summing to 1 over C."""
        ...


def code_size(space: ShapeSpace) -> int:
    """Length d of the codes of a fitted space (may be less than was asked for, see `PCASpace`)."""
    return int(np.size(space.mean))


def code_names(d: int) -> list[str]:
    """Names of the d code columns: z00, z01, ... (three digits where d > 100)."""
    digits = max(2, len(str(max(d - 1, 0))))
    return [f"z{i:0{digits}d}" for i in range(d)]


def code_values(codes: Any, d: int) -> Any:
    """The d codes of a table (DataFrame) or of one of its rows (Series), by their names and in the order of the
    dimensions, without what stands beside them; what has no names stays as it is.

    UsageError where dimensions are missing, twice, or more than d.
    """
    if not isinstance(codes, (pd.DataFrame, pd.Series)):
        return codes
    names = codes.columns if isinstance(codes, pd.DataFrame) else codes.index
    if isinstance(names, pd.RangeIndex):
        return codes
    found = sorted((int(m[1]), i) for i, name in enumerate(names) if (m := re.fullmatch(r"z(\d+)", str(name))))
    must(
        [k for k, _ in found] == list(range(d)),
        "codes",
        f"columns {[str(n) for n in names[:6]]}",
        f"{code_names(d)[0]} to {code_names(d)[-1]}, each once",
    )
    places = [i for _, i in found]
    return codes.iloc[:, places] if isinstance(codes, pd.DataFrame) else codes.iloc[places]


def check_codes(codes: np.ndarray | pd.DataFrame | pd.Series, d: int) -> np.ndarray:
    """Codes, or a table or row of them (`code_values`), as a finite float32 (N, d) array; (d,) becomes (1, d).
    UsageError otherwise."""
    array = np.asarray(code_values(codes, d), dtype=np.float32)
    if array.ndim == 1:
        array = array[None]
    must(array.ndim == 2 and array.shape[1] == d, "codes", f"shape {np.shape(codes)}", f"(N, {d}) or ({d},)")
    wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
    must(not len(wrong), "codes", f"NaN or infinity in row {next(iter(wrong), None)}", "finite numbers")
    return array


def check_labels(labels: np.ndarray, grid: Grid, scheme: LabelScheme) -> np.ndarray:
    """Label maps (N, X, Y, Z) -> channel numbers, uint8. DataError on another shape, type or integer."""
    check_shape(labels, grid)
    return np.ascontiguousarray(scheme.channels(np.asarray(labels)))


def check_placement(space: object, labels: object) -> None:
    """Warn where label maps are known to be laid on the grid otherwise than those that a space was fitted on."""
    fitted, here = (getattr(one, "placement", None) for one in (space, labels))
    if None not in (fitted, here) and fitted != here:
        warnings.warn(
            f"labels: found them laid with {here}; expected {fitted}, as the space's own. Their codes mean something "
            "else: lay them with stack_labels(cohort, space).",
            stacklevel=3,
        )


def check_shape(labels: np.ndarray, grid: Grid) -> None:
    """DataError unless `labels` is (N, X, Y, Z) on the grid with N >= 1."""
    labels = np.asarray(labels)
    need(
        labels.ndim == 4 and labels.shape[1:] == tuple(grid.shape),
        "labels",
        f"an array of shape {labels.shape}",
        f"(N, X, Y, Z) with (X, Y, Z) = {tuple(grid.shape)}, the space's grid",
        "Bring the label maps to the grid with shapelab.data.grid.stack_labels.",
    )
    need(len(labels), "labels", "no label map", "at least one")


def check_images(images: np.ndarray, grid: Grid) -> np.ndarray:
    """Images as finite floats (N, X, Y, Z) on the grid, N >= 1; DataError on anything else."""
    images = np.asarray(images)
    need(
        images.ndim == 4 and images.shape[1:] == tuple(grid.shape) and len(images) != 0,
        "images",
        f"an array of shape {images.shape}",
        f"(N, X, Y, Z) with (X, Y, Z) = {tuple(grid.shape)}, the space's grid",
        "Bring the images to the grid with shapelab.data.grid.to_grid.",
    )
    finite = bool(np.isfinite(images).all())
    found = f"numbers of type {images.dtype}, finite: {finite}"
    need(images.dtype.kind == "f" and finite, "images", found, "finite floats")
    return np.ascontiguousarray(images)


def encode_batches(space: ShapeSpace, labels: np.ndarray, batch: int = BATCH) -> np.ndarray:
    """`space.encode` in batches, to bound memory; (N, X, Y, Z) -> (N, d) float32."""
    return np.concatenate(
        [np.asarray(space.encode(labels[part]), dtype=np.float32) for part in batches(len(labels), batch)]
    )


def batches(n: int, size: int = BATCH) -> Iterator[slice]:
    """Slices that cover 0..n in steps of `size`."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
