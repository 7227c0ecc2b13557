"""Whether two series of numbers agree, and which of two methods is better; and how alike two images are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from shapelab.data.rows import in_one_order
from shapelab.errors import DataError, in_range, must, need
from shapelab.types import Array

if TYPE_CHECKING:  # for those who compare columns of tables, torch is not loaded
    from torch import Tensor

Numbers: TypeAlias = "Sequence[float] | np.ndarray | pd.Series | Tensor"

SSIM_SIGMA = 1.5  # Wang et al. 2004: a Gaussian window of 11 samples with sigma 1.5
SSIM_WINDOW = 11
MOST_EXACT, MOST_EXACT_TIED = 50, 13  # pairs up to which Wilcoxon's test is exact: all sizes different, some equal
LIMITS = 1.96  # Bland and Altman 1986: 95 % of the differences, were they normal


def compare(a: Numbers, b: Numbers) -> dict[str, float]:
    """Are the paired numbers a and b different? Wilcoxon's signed-rank test, two-sided.

    Args:
        a: n numbers each, of the same cases in the same order (two Series are matched by their index, here as in all
            that takes two: `shapelab.data.rows`). inf is what a
            missed structure's distance is: it ranks as worse than every finite one, and as equal to another inf. -inf
            and NaN are errors.
        b: see `a`

    Returns:
        dict with

        - n, n_differ: pairs, and those that are not equal (Wilcoxon: equal pairs are left out of the ranks)
        - n_missed_a, n_missed_b: cases that are inf
        - p: 1 if all pairs are equal; exact up to 50 pairs that differ, each by another amount, or up to 13 pairs if
          some differ by the same; otherwise by the normal approximation
        - p_least: see `least_p`; above .05 for five pairs or fewer, which can show nothing at that level
        - effect: matched-pairs rank-biserial correlation, (W+ - W-) / (W+ + W-): 1 if a is greater in every pair that
          differs, -1 if b is, 0 if neither prevails
        - difference: median of a - b (inf - inf taken as 0)
        - mean_a, mean_b: over the finite ones

    Raises:
        UsageError: not as many of both, or no pair
        DataError: NaN or -inf; two Series of different cases
    """
    from scipy import stats

    a, b = in_one_order("compare", a, b)
    a, b = _numbers(a, "a"), _numbers(b, "b")
    must(len(a) == len(b) > 0, "compare", f"{len(a)} and {len(b)} numbers", "as many of both, at least one")
    for name, values in (("a", a), ("b", b)):
        need((values > -np.inf).all(), "compare", f"-inf in {name}", "finite numbers, or inf for a missed case")
    with np.errstate(invalid="ignore"):
        difference = np.where(a == b, 0.0, a - b)
    finite = np.abs(difference[np.isfinite(difference)])
    worst = 2 * finite.max(initial=0.0) + 1  # any number past all others has the highest rank
    ranked = np.where(np.isinf(difference), np.sign(difference) * worst, difference)
    moved = ranked[ranked != 0]
    p, effect = 1.0, 0.0
    if len(moved):
        ranks = stats.rankdata(np.abs(moved))
        p = _signed_rank_p(ranks, moved > 0)
        effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    return {
        "n": len(a),
        "n_differ": len(moved),
        "n_missed_a": int(np.isinf(a).sum()),
        "n_missed_b": int(np.isinf(b).sum()),
        "p": p,
        "p_least": least_p(len(a)),
        "effect": effect,
        "difference": median(difference),
        "mean_a": finite_mean(a),
        "mean_b": finite_mean(b),
    }


def least_p(n: int) -> float:
    """The smallest two-sided p that Wilcoxon's test can give for n pairs: of all that differ in one direction."""
    return 2.0 ** (1 - n)


def _signed_rank_p(ranks: np.ndarray, positive: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; W+ is the sum of the positive differences' ranks.

    Exact: how many of the 2^n choices of signs give each W+. For many pairs W+ is taken as normal, with mean
    n (n + 1) / 4, variance (n (n + 1) (2 n + 1) - sum (t^3 - t) / 2) / 24 over ties of t, uncorrected for continuity.
    SciPy chooses alike today; an older one (1.14) takes the distribution of ranks without ties for ranks with ties.

    Args:
        ranks: n ranks of the differences' sizes, the mean rank where sizes are equal
        positive: n bool, which differences are positive
    """
    from scipy import special

    n, w = len(ranks), ranks[positive].sum()
    _, tied = np.unique(ranks, return_counts=True)
    if n <= (MOST_EXACT if tied.max() == 1 else MOST_EXACT_TIED):
        halves, at = (2 * ranks).astype(int), int(2 * w)  # mean ranks are whole or half numbers
        ways = np.zeros(halves.sum() + 1)
        ways[0] = 1
        for rank in halves:  # with this sign negative, and with it positive
            ways[rank:] = ways[rank:] + ways[:-rank]
        return float(min(1.0, 2 * min(ways[: at + 1].sum(), ways[at:].sum()) / 2.0**n))
    variance = (n * (n + 1) * (2 * n + 1) - (tied**3 - tied).sum() / 2) / 24
    return float(2 * special.ndtr(-abs((w - n * (n + 1) / 4) / math.sqrt(variance))))


def bland_altman(a: Numbers, b: Numbers) -> dict[str, float]:
    """Agreement of two ways to measure the same (Bland and Altman 1986).

    Of n numbers each, finite, same unit. Returns bias (mean of a - b), sd (of a - b, n - 1), low and high (limits
    of agreement, bias -+ 1.96 sd) and n. UsageError: not as many of both, or fewer than two; DataError: NaN or inf.
    """
    a, b = _pairs(a, b, "bland_altman", 2)
    difference = a - b
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    return {"bias": bias, "sd": sd, "low": bias - LIMITS * sd, "high": bias + LIMITS * sd, "n": len(a)}


def correlation(a: Numbers, b: Numbers) -> dict[str, float]:
    """Pearson's r of two series of n >= 3 finite numbers: r, p (two-sided), slope and intercept of b ~ a, n.

    A series without spread has no correlation: r and slope NaN, p 1. UsageError, DataError: as `bland_altman`.
    """
    from scipy import stats

    a, b = _pairs(a, b, "correlation", 3)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return {"r": math.nan, "p": 1.0, "slope": math.nan, "intercept": math.nan, "n": len(a)}
    line = stats.linregress(a, b)
    return {
        "r": float(line.rvalue),
        "p": float(line.pvalue),
        "slope": float(line.slope),
        "intercept": float(line.intercept),
        "n": len(a),
    }


def ssim(a: Array, b: Array, data_range: float = 1.0) -> float:
    """Structural similarity of two images (X, Y, Z), in 3-D: 1 if they are the same.

    Wang et al. 2004: Gaussian window (sigma 1.5 voxels, 11 across), K1 = .01, K2 = .03, population covariance, the mean
    of the map without the rim that the window does not fill. In voxels: it knows no spacing. By scikit-image.

    Args:
        a: numpy or torch, same shape, at least 11 voxels along each axis
        b: see `a`
        data_range: greatest less smallest value that the images can have, 1 for images in [0, 1]

    Raises:
        UsageError: data_range not positive
        DataError: shapes differ, fewer than three axes or 11 voxels, NaN or inf
    """
    from skimage.metrics import structural_similarity

    in_range("data_range", data_range, above=True)
    a, b = (as_array(x).astype(np.float64) for x in (a, b))
    need(a.shape == b.shape, "ssim", f"images {a.shape} and {b.shape}", "the same shape")
    need(
        a.ndim == 3 and min(a.shape) >= SSIM_WINDOW,
        "ssim",
        f"images of shape {a.shape}",
        f"three axes, each of at least {SSIM_WINDOW} voxels",
        "The window has to fit; resample a thick-slice stack to a finer grid first.",
    )
    need(np.isfinite(a).all() and np.isfinite(b).all(), "ssim", "NaN or inf in an image", "finite numbers")
    return float(
        structural_similarity(
            a, b, data_range=data_range, gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False
        )
    )


# ------------------------------------------------------------------------------------------------ what is accepted


def as_array(values: Any) -> np.ndarray:
    """As a numpy array, from torch on any device too."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _numbers(values: Numbers, name: str) -> np.ndarray:
    """A flat float64 array without NaN; DataError that names it otherwise."""
    try:
        array = as_array(values).astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(name, f"values of type {type(values).__name__}", "numbers") from None
    need(array.ndim == 1, name, f"shape {array.shape}", "one number a case")
    n = int(np.isnan(array).sum())
    need(n == 0, name, f"{n} NaN", "numbers, inf for a missed case")
    return array


def _pairs(a: Numbers, b: Numbers, where: str, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Two series of as many finite numbers, at least `least`; an error that names `where` otherwise."""
    a, b = in_one_order(where, a, b)
    a, b = _numbers(a, f"{where} a"), _numbers(b, f"{where} b")
    must(len(a) == len(b) >= least, where, f"{len(a)} and {len(b)} numbers", f"as many of both, at least {least}")
    finite = np.isfinite(a).all() and np.isfinite(b).all()
    need(finite, where, "inf", "finite numbers", "Leave missed cases out, and say how many they were.")
    return a, b


def median(values: np.ndarray) -> float:
    """Of numbers that may be inf: the mean of -inf and inf, of an even series half one and half the other, is 0."""
    ordered = np.sort(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return 0.0 if low == -high else float((low + high) / 2)


def finite_mean(values: np.ndarray) -> float:
    """Mean of the finite ones; NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan
