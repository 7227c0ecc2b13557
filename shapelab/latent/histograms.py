"""What the single codes are like: normal? one hump? used at all? ACNN, Fig. 5: roughly normal and unimodal."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import fft, stats
from scipy.ndimage import fourier_gaussian

from shapelab.errors import in_range, must, whole
from shapelab.latent.codes import code_array, code_columns
from shapelab.spaces.contract import ShapeSpace, code_size, code_values

# fmt: off
BINS = 8, 15                # powers of 2: how fine at least and at most the grid is on which densities are smoothed
BANDWIDTH_BINS = 8          # ... between them, so fine that a bandwidth has so many of its steps
HUMP_SHARE = 20             # a hump has at least one heart in so many
HUMP_HEARTS = 3             # ... and at least so many
FENCE = 3                   # interquartile ranges beyond a quartile where a heart is far out (Tukey 1977: outer fences)
ENOUGH = 20                 # drawn samples that need as much smoothing as the data end the drawing: p is not small
BATCH = 200                 # samples drawn at once
UNUSED_SPREAD = 0.05        # a dimension with less than this share of the median spread is taken as unused
UNUSED_CHANGE = 0.05        # ... or one that moves the decoder by less than this share of the median
# fmt: on
#: Name -> function of one code column (n,) -> number: further columns of `code_statistics`.
STATISTICS: dict[str, Callable[[np.ndarray], float]] = {}


def statistic(name: str) -> Callable[[Callable[[np.ndarray], float]], Callable[[np.ndarray], float]]:
    """Register a function of one code column (n,) -> number: `code_statistics` has a column `name` from then on.

    >>> @statistic("range")                                             # doctest: +SKIP
    ... def spread(z):
    ...     return float(np.ptp(z))
    """

    def enter(function: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], float]:
        STATISTICS[name] = function
        return function

    return enter


def code_statistics(
    codes: pd.DataFrame, space: ShapeSpace | None = None, alpha: float = 0.05, draws: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """One row a code column: moments, normality, number of modes, outliers, use.

    Args:
        codes: Codes table, at least 8 rows (D'Agostino's test needs them). Rows should be independent: one phase.
        space: its decoder's sensitivity separates used from unused dimensions; None: by spread alone. Only where the
            code columns are the space's dimensions (not paired phases).
        alpha: significance level of the corrected tests
        draws: at most, of the bootstrap in the test for one mode, whose p is at least 1 / (draws + 1); None: so many
            that this is a tenth of what the correction asks of a column that is alone in having two humps (12 800 for
            64 columns and alpha .05); 0 leaves the test out
        seed: of that bootstrap

    Returns:
        DataFrame, index = code column, with mean, sd, skew, kurtosis (excess; 0 for a normal)

        - k2, p_normal, q_normal: D'Agostino and Pearson's K^2 (scipy.stats.normaltest), its p, and p after Benjamini
          and Hochberg's correction over the columns; normal: q >= alpha (not rejected, which is not proof)
        - modes: humps of the density smoothed with Silverman's bandwidth, without outliers
        - p_unimodal, q_unimodal: Silverman's bootstrap test of one hump (`unimodality_p`) without outliers, p and
          corrected; unimodal: q >= alpha
        - outliers: names of the rows that are far out, see `far_out`; () if none
        - spread: sd / median sd of the columns; change (with `space`): see `decoder_sensitivity`
        - used: enough spread, and enough change where a space is given

        and a column for each of `STATISTICS`. A column without any spread is neither tested nor used: its tests are
        NaN, and whether it is normal or unimodal is <NA>. So are humps where all but outliers are equal, or without
        draws.

    Raises:
        UserWarning: too few draws to find a column that is alone in having two humps
    """
    x, columns = code_array(codes), code_columns(codes)
    in_range("code_statistics: alpha", alpha, 0, 1, above=True)
    must(len(x) >= 8, "code_statistics", f"{len(x)} rows", "at least 8")
    sd = x.std(axis=0, ddof=1)
    alive = sd > 1e-12 * max(float(np.abs(x).max()), 1e-300)
    later = dict.fromkeys(("skew", "kurtosis", "k2", "p_normal", "modes", "p_unimodal"), np.nan)
    rows = pd.DataFrame({"mean": x.mean(axis=0), "sd": sd, **later}, index=pd.Index(columns, name="column"))
    z = x[:, alive]
    rows.loc[alive, "skew"], rows.loc[alive, "kurtosis"] = stats.skew(z), stats.kurtosis(z)
    if alive.any():
        rows.loc[alive, "k2"], rows.loc[alive, "p_normal"] = stats.normaltest(z)
        generators = np.random.default_rng(seed).spawn(z.shape[1])
        most = _draws(draws, z.shape[1], alpha)
        humps = [_humps(column, most, generator) for column, generator in zip(z.T, generators, strict=True)]
        rows.loc[alive, ["modes", "p_unimodal"]] = np.array(humps)
    for kind in ("normal", "unimodal"):
        q = rows[f"q_{kind}"] = _corrected(rows[f"p_{kind}"].to_numpy())
        rows[kind] = pd.Series(q >= alpha, rows.index, dtype="boolean").mask(np.isnan(q))
    rows["outliers"] = [tuple(codes.index[far_out(column)]) for column in x.T]
    rows = rows.join(_use(sd, columns, space))
    for name, function in STATISTICS.items():
        rows[name] = np.nan
        rows.loc[alive, name] = [function(column) for column in z.T]
    return rows


def _draws(draws: int | None, columns: int, alpha: float) -> int:
    """How many at most, see `code_statistics`. The smallest of m p-values is believed up to alpha / m."""
    if draws is None:
        return math.ceil(10 * columns / alpha)
    if 0 < whole("code_statistics: draws", draws, 0) < (least := int(columns / alpha)):
        warnings.warn(
            f"code_statistics: {draws} draws give p of at least 1/{draws + 1}; a column that is alone in having two "
            f"humps among {columns} can be found from {least} draws on (None: ten times as many)",
            stacklevel=3,
        )
    return draws


def _humps(x: np.ndarray, draws: int, generator: np.random.Generator) -> tuple[float, float]:
    """How many humps a column has without its outliers, and p of one; NaN where the others all have one code."""
    near = x[~far_out(x)]
    if np.ptp(near) == 0:
        return math.nan, math.nan
    p = unimodality_p(near, draws, generator) if draws else math.nan
    return float(count_modes(near, silverman_bandwidth(near))), p


def _use(sd: np.ndarray, columns: list[str], space: ShapeSpace | None) -> pd.DataFrame:
    median = float(np.median(sd))
    use = pd.DataFrame(
        {"spread": sd / median if median > 0 else np.zeros(len(sd))}, index=pd.Index(columns, name="column")
    )
    use["used"] = (use["spread"] >= UNUSED_SPREAD) & (sd > 0)
    if space is not None:
        must(
            len(columns) == code_size(space),
            "code_statistics",
            f"{len(columns)} code columns and a space of {code_size(space)}",
            "as many of both",
        )
        use.insert(1, "change", decoder_sensitivity(space, pd.Series(sd, columns)).to_numpy())
        use["used"] &= (use["change"] >= UNUSED_CHANGE * use["change"].median()) & (use["change"] > 0)
    return use


def decoder_sensitivity(space: ShapeSpace, sigma: np.ndarray | pd.Series | None = None, batch: int = 16) -> pd.Series:
    """How much each dimension moves the decoded shape: voxels' worth of probability changed by one standard deviation.

    change_k = 1/2 (|p(mean + sigma_k) - p(mean)| + |p(mean - sigma_k) - p(mean)|), summed over voxels and halved over
    channels (what one class gains another loses), in voxels of the grid.

    Args:
        space: fitted
        sigma: (d,), a Series by the names of the code columns; None: the space's own
        batch: dimensions decoded at once

    Returns:
        Series, index = dimension
    """
    d = code_size(space)
    sigma = np.asarray(space.sigma if sigma is None else code_values(sigma, d), dtype=np.float32)
    mean = np.asarray(space.mean, dtype=np.float32)
    must(sigma.shape == (d,), "decoder_sensitivity", f"sigma of shape {sigma.shape}", f"({d},)")
    middle = np.asarray(space.decode(mean))[0]
    change = np.zeros(d)
    for start in range(0, d, batch):
        chosen = np.arange(start, min(start + batch, d))
        for sign in (-1, 1):
            moved = np.repeat(mean[None], len(chosen), axis=0)
            moved[np.arange(len(chosen)), chosen] += sign * sigma[chosen]
            change[chosen] += np.abs(space.decode(moved) - middle).sum(axis=(1, 2, 3, 4), dtype=np.float64) / 4
    return pd.Series(change, index=pd.RangeIndex(d, name="dimension"), name="change")


# ---- how many humps --------------------------------------------------------------------------------------------------


def silverman_bandwidth(x: np.ndarray) -> float:
    """0.9 min(sd, interquartile range / 1.34) n^(-1/5) (Silverman 1986, eq. 3.31)."""
    spread = min(x.std(ddof=1), stats.iqr(x) / 1.34) or x.std(ddof=1)
    return 0.9 * float(spread) * len(x) ** -0.2


def far_out(x: np.ndarray) -> np.ndarray:
    """Which of x (n,) are outliers: beyond Tukey's outer fences, and too few on that side to be a hump, (n,) bool."""
    low, high = np.quantile(x, [0.25, 0.75])
    below, above = x < low - FENCE * (high - low), x > high + FENCE * (high - low)
    least = _least_hearts(len(x))
    return (below & (below.sum() < least)) | (above & (above.sum() < least))


def _least_hearts(n: int) -> int:
    """How many of n hearts a hump has at least."""
    return max(math.ceil(n / HUMP_SHARE), HUMP_HEARTS)


def count_modes(x: np.ndarray, bandwidth: float) -> int | np.ndarray:
    """Humps of the Gaussian kernel density of x, (n,) -> int, or of each row, (m, n) -> (m,).

    A valley parts two humps if there are hearts enough for one on either side (`HUMP_SHARE`, `HUMP_HEARTS`): a single
    heart in a tail makes a bump, which Silverman's test takes for a hump unless it is restricted to an interval (Hall
    and York 2001).
    """
    rows = np.atleast_2d(x)
    low, high = rows.min() - 4 * bandwidth, rows.max() + 4 * bandwidth
    bins = 2 ** int(np.clip(np.ceil(np.log2((high - low) / bandwidth * BANDWIDTH_BINS)), *BINS))
    step = (high - low) / bins
    place = np.clip(((rows - low) / step).astype(int), 0, bins - 1) + bins * np.arange(len(rows))[:, None]
    counts = np.bincount(place.ravel(), minlength=bins * len(rows)).reshape(-1, bins) / rows.shape[1]
    density = fft.irfft(fourier_gaussian(fft.rfft(counts, axis=1), (0, bandwidth / step), bins, axis=1), bins, axis=1)
    density[density < 1e-9 * density.max()] = 0  # rounding far from any point is no hump
    slope = np.sign(np.round(np.diff(density, axis=1), 12))
    latest = np.maximum.accumulate(np.where(slope != 0, np.arange(bins - 1), 0), axis=1)
    slope = np.take_along_axis(slope, latest, axis=1)  # where it is level: as before
    n = rows.shape[1]
    hearts, least = n * np.cumsum(density, axis=1)[:, 1:-1], _least_hearts(n) - 0.5  # density spills over a valley
    valleys = (slope[:, :-1] < 0) & (slope[:, 1:] > 0) & (hearts > least) & (hearts < n - least)
    modes = 1 + valleys.sum(axis=1)
    return int(modes[0]) if np.ndim(x) == 1 else modes


def critical_bandwidth(x: np.ndarray) -> float:
    """Smallest bandwidth at which the density of x has one hump (Silverman 1981); to 1 %."""
    low, high = 1e-2 * silverman_bandwidth(x), 3 * x.std(ddof=1)
    while high > 1.01 * low:
        middle = np.sqrt(low * high)
        low, high = (low, middle) if count_modes(x, middle) == 1 else (middle, high)
    return float(high)


def unimodality_p(x: np.ndarray, draws: int, generator: np.random.Generator) -> float:
    """Silverman's (1981) test of one hump against more: p, large where one hump will do.

    The statistic is the critical bandwidth h. Samples are drawn from the density at h, the closest unimodal one, scaled
    back to the variance of x; p is the share of them that need more than h to have one hump. Drawing ends with the
    `ENOUGH`th of these (Besag and Clifford 1991: p = `ENOUGH` / samples until then), or with `draws` samples: then x
    itself is counted and p is at least 1 / (draws + 1). Mostly conservative, but not for flat columns:
    p is below .05 in 29 % of uniform columns of 160 (``benchmarks/code_humps.py``).
    """
    h = critical_bandwidth(x)
    more = np.zeros(0, bool)
    while len(more) < draws and more.sum() < ENOUGH:
        samples = generator.choice(x, size=(min(BATCH, draws - len(more)), len(x)))
        middle = samples.mean(axis=1, keepdims=True)
        noisy = samples - middle + h * generator.normal(size=samples.shape)
        more = np.append(more, count_modes(middle + noisy / np.sqrt(1 + h**2 / x.var(ddof=1)), h) > 1)
    if more.sum() >= ENOUGH:
        return ENOUGH / (int(np.flatnonzero(more)[ENOUGH - 1]) + 1)
    return float((more.sum() + 1) / (len(more) + 1))


def _corrected(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's correction; NaN stays NaN and does not count."""
    q = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known], method="bh")
    return q
