"""The axes along which codes are spelt: so that the first numbers say most, and with signs that do not hang on luck."""

from __future__ import annotations

import numpy as np


def shape_axes(codes: np.ndarray, channels: np.ndarray, n_classes: int, at_most: int = 400) -> np.ndarray:
    """Axes of the code space sorted by the variance of the label maps that they carry.

    Among linear functions of the code, the one that explains the one-hot label maps best (least squares) is taken;
    `codes @ axes` are uncorrelated, and the variance of each is its share of what that function explains: principal
    components as they would be in the space of label maps. Scaled so that the total variance of the codes is kept.

    Args:
        codes: (N, d) of the training shapes
        channels: (N, X, Y, Z) their label maps, channel numbers; `at_most` of them, spread evenly, are used for the fit

    Returns:
        (d, d) float64, invertible; directions that carry nothing keep 1e-4 of the first one's variance. The
        entry of largest size in each axis is positive.
    """
    centred = np.asarray(codes, np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    rows = np.linspace(0, len(channels) - 1, min(len(channels), at_most)).round().astype(int)
    flat = channels[rows].reshape(len(rows), -1)
    flat = flat[:, flat.any(axis=0)]  # the rest is background in all
    products = np.zeros((len(rows), len(rows)))
    for structure in range(1, n_classes):
        hot = (flat == structure).astype(np.float32)
        hot -= hot.mean(axis=0)
        products += hot @ hot.T
    fit = np.linalg.pinv(centred[rows] - centred[rows].mean(axis=0))  # label maps ~ codes @ (fit @ maps)
    effect = fit @ products @ fit.T  # (d, d): what moving a code does
    size, basis = np.linalg.eigh(centred.T @ centred / len(centred))
    size = np.maximum(size, 1e-6 * size.max())
    half, inverse_half = (basis * size**power @ basis.T for power in (0.5, -0.5))
    carried, turn = np.linalg.eigh(half @ effect @ half)
    carried, turn = np.maximum(carried[::-1], 1e-4 * carried[-1]), turn[:, ::-1]
    return with_fixed_signs(inverse_half @ turn * np.sqrt(carried * size.sum() / carried.sum()))


def principal_axes(scatter: np.ndarray) -> np.ndarray:
    """Eigenvectors (d, d) of a scatter or covariance matrix: columns, largest variance first, signs fixed.

    Codes (N, d) @ them are uncorrelated.
    """
    _, axes = np.linalg.eigh(scatter)
    return with_fixed_signs(axes[:, ::-1])


def with_fixed_signs(axes: np.ndarray) -> np.ndarray:
    """Axes (F, d), one a column, with the entry of largest size in each made positive."""
    return axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
