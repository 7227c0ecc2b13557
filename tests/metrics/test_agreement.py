import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, stats

from shapelab.errors import DataError, UsageError
from shapelab.metrics import bland_altman, compare, correlation, ssim

# ------------------------------------------------------------------------------------------------ compare


def test_compare_by_hand():
    # differences 1, 2, 3, 4, -5: W+ = 1 + 2 + 3 + 4 = 10, W- = 5, effect 5 / 15
    found = compare([11, 12, 13, 14, 15], [10, 10, 10, 10, 20])
    assert found["effect"] == pytest.approx(1 / 3) and found["difference"] == 2 and found["n"] == found["n_differ"] == 5
    # exact: of the 32 signs of ranks 1 to 5, W <= 5 in 10 (partitions of 0 to 5 into different parts: 1 1 1 2 2 3)
    assert found["p"] == pytest.approx(2 * 10 / 32)
    assert found["mean_a"] == 13 and found["mean_b"] == 12
    # all five in one direction is 1 of 32 ways, and so is all in the other
    assert found["p_least"] == compare([11, 12, 13, 14, 15], [0] * 5)["p"] == 2 / 32


def p_of(differences) -> float:
    return compare(differences, np.zeros(len(differences)))["p"]


def test_ties_by_hand():
    # sizes 1 1 3 3 have ranks 1.5 1.5 3.5 3.5, W+ = 7; of 16 choices of signs 4 reach it: both of 3.5, 0 to 2 of 1.5
    # (ranks 1 2 3 4 would reach 7 in 5 ways)
    assert p_of([3, 3, -1, -1]) == 2 * 4 / 16 == p_of([-3, -3, 1, 1])
    assert p_of([2, 2, 2]) == 2 / 8 and p_of([1, -1]) == 1


def test_sizes_that_are_all_equal_make_it_the_sign_test():
    assert p_of([1] * 10 + [-1] * 3) == pytest.approx(stats.binomtest(10, 13).pvalue, rel=1e-12)
    # one pair more: W+ = 7.5 k is taken as normal, with mean 7.5 * 14 / 2 and variance 7.5^2 * 14 / 4
    assert p_of([1] * 11 + [-1] * 3) == pytest.approx(2 * stats.norm.sf((11 - 7) / np.sqrt(14 / 4)))


@pytest.mark.parametrize(("n", "method"), [(13, "exact"), (14, "exact"), (50, "exact"), (51, "auto")])
def test_sizes_that_all_differ_are_exact_up_to_50_pairs(n, method):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    assert p_of(differences) == pytest.approx(stats.wilcoxon(differences, method=method).pvalue, rel=1e-12)


def test_the_smallest_exact_p_of_50_pairs():
    assert p_of(np.arange(1, 51)) == 2 / 2**50


def test_all_pairs_equal():
    found = compare([0.9, 0.8, np.inf], [0.9, 0.8, np.inf])
    assert found["p"] == 1 and found["effect"] == 0 and found["n_differ"] == 0 and found["difference"] == 0
    assert found["n"] == 3 and found["n_missed_a"] == found["n_missed_b"] == 1
    assert found["mean_a"] == found["mean_b"] == pytest.approx(0.85)


def test_a_missed_case_is_the_worst_and_stays_in():
    a = np.array([3.0, 5, 2, 7, np.inf, 4])
    b = np.array([2.0, 1, 1.5, 9, 100, 4])
    found, finite = compare(a, b), compare(np.where(np.isinf(a), 1e9, a), b)
    assert {k: found[k] for k in ("p", "effect", "n", "n_differ", "difference")} == {
        k: finite[k] for k in ("p", "effect", "n", "n_differ", "difference")
    }
    assert found["n_missed_a"] == 1 and found["n_missed_b"] == 0 and found["n_differ"] == 5
    assert compare(np.full(4, np.inf), np.arange(4.0))["effect"] == 1
    assert compare(np.full(4, np.inf), np.arange(4.0))["difference"] == np.inf


numbers = hnp.arrays(float, 20, elements=st.floats(-5, 5) | st.just(np.inf))


@given(numbers, numbers)
@settings(max_examples=50)
def test_compare_turned_round(a, b):
    there, back = compare(a, b), compare(b, a)
    assert there["p"] == pytest.approx(back["p"]) and there["effect"] == pytest.approx(-back["effect"])
    assert there["difference"] == -back["difference"] and 0 <= there["p"] <= 1 and -1 <= there["effect"] <= 1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_compare_agrees_with_scipy(seed):
    # no equal pairs and no ties, of which scipy's versions think differently
    a, b = np.random.default_rng(seed).normal(size=(2, 30))
    assert compare(a, b)["p"] == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_series_are_matched_by_their_index():
    a, b = pd.Series([1.0, 2, 3], ["x", "y", "z"]), pd.Series([3.5, 1.5, 1.0], ["z", "y", "x"])
    assert compare(a, b) == compare([1, 2, 3], [1, 1.5, 3.5])
    for function in (bland_altman, correlation):
        assert function(a, b) == function([1, 2, 3], [1, 1.5, 3.5]) == function(a.to_numpy(), b[::-1])
    for function in (compare, bland_altman, correlation):
        with pytest.raises(
            DataError, match=f"{function.__name__}: found values for 'z', 'y', 'w'; expected one for each of"
        ):
            function(a, b.rename({"x": "w"}))
        with pytest.raises(DataError, match=function.__name__):
            function(pd.concat([a, a]), pd.concat([b, b]))


def test_compare_names_what_is_wrong():
    with pytest.raises(UsageError, match="found 2 and 3 numbers"):
        compare([1, 2], [1, 2, 3])
    with pytest.raises(UsageError, match="found 0 and 0"):
        compare([], [])
    with pytest.raises(DataError, match="b: found 1 NaN"):
        compare([1, 2], [1, np.nan])
    with pytest.raises(DataError, match="-inf in a"):
        compare([1, -np.inf], [1, 2])
    with pytest.raises(DataError, match=r"a: found shape \(1, 2\)"):
        compare([[1, 2]], [1, 2])
    with pytest.raises(DataError, match="a: found values of type list"):
        compare(["good", "bad"], [1, 2])


# ------------------------------------------------------------------------------------------------ agreement


def test_bland_altman_by_hand():
    found = bland_altman([10, 12, 14], [9, 12, 12])  # differences 1, 0, 2
    assert found == pytest.approx({"bias": 1, "sd": 1, "low": 1 - 1.96, "high": 1 + 1.96, "n": 3})
    assert bland_altman(torch.tensor([1.0, 2.0]), np.array([1.0, 2.0]))["sd"] == 0


def test_limits_hold_95_percent_of_normal_differences():
    generator = np.random.default_rng(0)
    truth = generator.normal(60, 10, 4000)
    measured = truth + generator.normal(2, 3, 4000)
    found = bland_altman(measured, truth)
    assert found["bias"] == pytest.approx(2, abs=0.2)
    inside = (measured - truth > found["low"]) & (measured - truth < found["high"])
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


def test_correlation():
    a = np.array([1.0, 2, 3, 4])
    assert correlation(a, 3 - 2 * a)["r"] == pytest.approx(-1)
    generator = np.random.default_rng(1)
    b = a + generator.normal(size=4)
    found, (r, p) = correlation(a, b), stats.pearsonr(a, b)
    slope, intercept = np.polyfit(a, b, 1)
    assert found == pytest.approx({"r": r, "p": p, "slope": slope, "intercept": intercept, "n": 4})
    flat = correlation(a, np.ones(4))
    assert np.isnan(flat["r"]) and flat["p"] == 1


@pytest.mark.parametrize(("function", "least"), [(bland_altman, 2), (correlation, 3)])
def test_agreement_names_what_is_wrong(function, least):
    name = function.__name__
    with pytest.raises(UsageError, match=f"{name}: found .* at least {least}"):
        function(np.ones(least - 1), np.ones(least - 1))
    with pytest.raises(UsageError, match="found 4 and 5 numbers"):
        function(np.ones(4), np.ones(5))
    with pytest.raises(DataError, match=f"{name}: found inf"):
        function([1, 2, np.inf], [1, 2, 3])
    with pytest.raises(DataError, match=f"{name} b: found 1 NaN"):
        function([1, 2, 3], [1, 2, np.nan])


# ------------------------------------------------------------------------------------------------ ssim


def ssim_by_definition(a, b, data_range):
    """Wang et al. 2004, equation 13, with a Gaussian window of 11 voxels in 3-D."""

    def mean(x):
        return ndimage.gaussian_filter(x, 1.5, truncate=5 / 1.5)

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    every = (2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return every[5:-5, 5:-5, 5:-5].mean()


def test_ssim_is_wangs():
    generator = np.random.default_rng(0)
    a = ndimage.gaussian_filter(generator.random((24, 20, 13)), 1)
    b = np.clip(a + 0.1 * generator.normal(size=a.shape), 0, 1)
    assert ssim(a, b) == pytest.approx(ssim_by_definition(a, b, 1.0), abs=1e-9)
    assert ssim(100 * a, 100 * b, 100) == pytest.approx(ssim(a, b))
    assert ssim(a, b) == pytest.approx(ssim(b, a)) and ssim(a, a) == 1
    assert ssim(torch.from_numpy(a), torch.from_numpy(b).float()) == pytest.approx(ssim(a, b), abs=1e-5)
    assert ssim(a, np.clip(a + 0.3 * generator.normal(size=a.shape), 0, 1)) < ssim(a, b)


def test_ssim_names_what_is_wrong():
    good = np.zeros((12, 12, 12))
    with pytest.raises(DataError, match="each of at least 11 voxels"):
        ssim(good[:, :, :10], good[:, :, :10])
    with pytest.raises(DataError, match="three axes"):
        ssim(good[0], good[0])
    with pytest.raises(DataError, match="the same shape"):
        ssim(good, good[:11])
    with pytest.raises(DataError, match="NaN or inf"):
        ssim(good, good * np.nan)
    for bad in (0, -1, np.inf, "one", None):
        with pytest.raises(UsageError, match="data_range: found"):
            ssim(good, good, bad)
