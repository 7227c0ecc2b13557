"""What the single codes are like: normal? one hump? used at all? ACNN, Fig. 5: roughly normal and unimodal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats
from scipy.ndimage import gaussian_filter1d

from shapelab.errors import must
from shapelab.latent.codes import code_array, code_columns
from shapelab.spaces.contract import ShapeSpace, code_size, code_values

# fmt: off
BINS = 512                  # of the grid on which densities are smoothed
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
    codes: pd.DataFrame, space: ShapeSpace | None = None, alpha: float = 0.05, draws: int = 200, seed: int = 0
) -> pd.DataFrame:
    """One row a code column: moments, normality, number of modes, use.

    Args:
        codes: Codes table, at least 8 rows (D'Agostino's test needs them). Rows should be independent: one phase.
        space: its decoder's sensitivity separates used from unused dimensions; None: by spread alone. Only where the
            code columns are the space's dimensions (not paired phases).
        alpha: significance level of the corrected tests
        draws: of the bootstrap in the test for one mode; 0 leaves it out
        seed: of that bootstrap

    Returns:
        DataFrame, index = code column, with mean, sd, skew, kurtosis (excess; 0 for a normal)

        - k2, p_normal, q_normal: D'Agostino and Pearson's K^2 (scipy.stats.normaltest), its p, and p after Benjamini
          and Hochberg's correction over the columns; normal: q >= alpha (not rejected, which is not proof)
        - modes: humps of the density smoothed with Silverman's bandwidth
        - p_unimodal, q_unimodal: Silverman's bootstrap test of one hump, p and corrected; unimodal: q >= alpha
        - spread: sd / median sd of the columns; change (with `space`): see `decoder_sensitivity`
        - used: enough spread, and enough change where a space is given

        and a column for each of `STATISTICS` A column without any spread is neither tested nor used; its tests are NaN.
    """
    x, columns = code_array(codes), code_columns(codes)
    must(len(x) >= 8, "code_statistics", f"{len(x)} rows", "at least 8")
    sd = x.std(axis=0, ddof=1)
    alive = sd > 1e-12 * max(float(np.abs(x).max()), 1e-300)
    rows = pd.DataFrame({"mean": x.mean(axis=0), "sd": sd}, index=pd.Index(columns, name="column"))
    for name in ("skew", "kurtosis", "k2", "p_normal", "modes", "p_unimodal"):
        rows[name] = np.nan
    z = x[:, alive]
    rows.loc[alive, "skew"], rows.loc[alive, "kurtosis"] = stats.skew(z), stats.kurtosis(z)
    if alive.any():
        rows.loc[alive, "k2"], rows.loc[alive, "p_normal"] = stats.normaltest(z)
        generators = np.random.default_rng(seed).spawn(z.shape[1])
        rows.loc[alive, "modes"] = np.array([count_modes(column, silverman_bandwidth(column)) for column in z.T])
        if draws:
            rows.loc[alive, "p_unimodal"] = [unimodality_p(c, draws, g) for c, g in zip(z.T, generators, strict=True)]
    for kind in ("normal", "unimodal"):
        rows[f"q_{kind}"] = _corrected(rows[f"p_{kind}"].to_numpy())
        rows[kind] = rows[f"q_{kind}"] >= alpha
    rows = rows.join(_use(sd, columns, space))
    for name, function in STATISTICS.items():
        rows[name] = np.nan
        rows.loc[alive, name] = [function(column) for column in z.T]
    return rows


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


def count_modes(x: np.ndarray, bandwidth: float) -> int | np.ndarray:
    """Humps of the Gaussian kernel density of x, (n,) -> int, or of each row, (m, n) -> (m,)."""
    rows = np.atleast_2d(x)
    low, high = rows.min() - 3 * bandwidth, rows.max() + 3 * bandwidth
    step = (high - low) / BINS
    place = np.clip(((rows - low) / step).astype(int), 0, BINS - 1)
    counts = np.zeros((len(rows), BINS))
    np.add.at(counts, (np.arange(len(rows))[:, None], place), 1)
    density = gaussian_filter1d(counts, bandwidth / step, axis=1, mode="constant", truncate=6)
    density[density < 1e-9 * density.max()] = 0  # rounding far from any point is no hump
    slope = np.sign(np.round(np.diff(density, axis=1), 12))
    turns = (row[row != 0] for row in slope)
    modes = np.array([((s[:-1] > 0) & (s[1:] < 0)).sum() for s in turns])
    return int(modes[0]) if np.ndim(x) == 1 else modes


def critical_bandwidth(x: np.ndarray) -> float:
    """Smallest bandwidth at which the density of x has one hump (Silverman 1981); to 1 %."""
    low, high = 1e-3 * x.std(ddof=1), 3 * x.std(ddof=1)
    while high > 1.01 * low:
        middle = np.sqrt(low * high)
        low, high = (low, middle) if count_modes(x, middle) <= 1 else (middle, high)
    return float(high)


def unimodality_p(x: np.ndarray, draws: int, generator: np.random.Generator) -> float:
    """Silverman's (1981) test of one hump against more: p, large where one hump will do.

    Samples are drawn from the density at the critical bandwidth h, the closest unimodal one, scaled back to the
    variance of x; p is the share of them (x itself counted) that need more than h to have one hump. Known to be
    conservative.
    """
    h = critical_bandwidth(x)
    samples = generator.choice(x, size=(draws, len(x)))
    samples = samples.mean(axis=1, keepdims=True) + (
        samples - samples.mean(axis=1, keepdims=True) + h * generator.normal(size=samples.shape)
    ) / np.sqrt(1 + h**2 / x.var(ddof=1))
    return float((np.sum(count_modes(samples, h) > 1) + 1) / (draws + 1))


def _corrected(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's correction; NaN stays NaN and does not count."""
    q = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known], method="bh")
    return q
