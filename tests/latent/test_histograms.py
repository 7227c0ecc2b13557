import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from shapelab.data.grid import Grid
from shapelab.data.scheme import CARDIAC
from shapelab.errors import UsageError
from shapelab.latent import code_statistics, decoder_sensitivity, histograms
from shapelab.latent.histograms import (
    _corrected,
    count_modes,
    critical_bandwidth,
    far_out,
    silverman_bandwidth,
    unimodality_p,
)
from shapelab.spaces import PCASpace


@pytest.fixture(scope="module")
def codes():
    """z00 normal, z01 two humps, z02 skewed, z03 normal and nearly unused, z04 constant."""
    rng = np.random.default_rng(0)
    n = 200
    return pd.DataFrame(
        {
            "z00": rng.normal(3, 1, n),
            "z01": rng.normal(0, 0.5, n) + 4 * (np.arange(n) % 2),
            "z02": rng.exponential(1, n),
            "z03": 0.001 * rng.normal(size=n),
            "z04": 7.0,
            "group": "A",
        }
    )


def test_moments_and_normality_are_scipys(codes):
    table = code_statistics(codes)
    row, x = table.loc["z02"], codes["z02"]
    assert row["mean"] == pytest.approx(x.mean()) and row["sd"] == pytest.approx(x.std())
    assert row["skew"] == pytest.approx(stats.skew(x)) and row["kurtosis"] == pytest.approx(stats.kurtosis(x))
    assert (row["k2"], row["p_normal"]) == pytest.approx(tuple(stats.normaltest(x)))
    assert table["normal"].drop("z04").to_dict() == {"z00": True, "z01": False, "z02": False, "z03": True}
    assert table.loc["z04", ["normal", "unimodal"]].isna().all()  # not tested is neither yes nor no
    expected = stats.false_discovery_control(table["p_normal"].dropna())
    np.testing.assert_allclose(table["q_normal"].dropna(), expected)


def test_humps(codes):
    table = code_statistics(codes)
    assert table.loc["z01", "modes"] == 2 and not table.loc["z01", "unimodal"]
    assert table.loc[["z00", "z02", "z03"], "unimodal"].all()
    assert code_statistics(codes, draws=0)[["p_unimodal", "unimodal"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(table, code_statistics(codes))


def test_unused_by_spread(codes):
    table = code_statistics(codes, draws=0)
    assert table["used"].to_dict() == {"z00": True, "z01": True, "z02": True, "z03": False, "z04": False}
    assert table.loc["z04", ["skew", "k2", "modes"]].isna().all()


def test_number_of_humps_of_a_known_mixture():
    x = np.concatenate([np.full(50, -3.0), np.full(50, 0.0), np.full(50, 3.0)])
    assert [count_modes(x, h) for h in (0.3, 1.0, 3.0)] == [3, 3, 1]
    np.testing.assert_array_equal(count_modes(np.stack([x, np.zeros(150)]), 0.5), [3, 1])
    # two equal points have one hump exactly from h = half their distance (second derivative in the middle)
    assert critical_bandwidth(np.array([-1.0, 1.0] * 20)) == pytest.approx(1, rel=0.03)


def test_a_hump_has_a_twentieth_of_the_hearts_and_three():
    for n, least in ((200, 10), (20, 3)):
        for k, modes in ((least, 2), (least - 1, 1)):
            x = np.concatenate([np.linspace(-1, 1, n - k), np.full(k, 10.0)])
            assert count_modes(x, 0.9) == count_modes(-x, 0.9) == modes
            assert far_out(x).sum() == (0 if modes == 2 else k)


def test_far_out_is_three_interquartile_ranges_beyond_a_quartile():
    x = np.arange(101.0)  # quartiles 25 and 75, also when one end is moved outwards: fences at -125 and 225
    for place, value, far in ((100, 225, False), (100, 226, True), (0, -125, False), (0, -126, True)):
        moved = np.where(x == place, value, x)
        assert np.flatnonzero(far_out(moved)).tolist() == [place] * far


def planted(n_columns, rng, n=160, columns=64):
    """Normal columns, and before them some of two halves 4 sd apart."""
    z = rng.normal(size=(n, columns))
    z[:, :n_columns] += 4 * (np.arange(n)[:, None] % 2)
    return pd.DataFrame(z, columns=[f"z{i:02d}" for i in range(columns)])


@pytest.mark.parametrize("k", [0, 1, 3, 6])
def test_planted_humps_are_found_through_the_correction_and_no_others(k):
    table = code_statistics(planted(k, np.random.default_rng(k)))
    assert (~table["unimodal"]).tolist() == [True] * k + [False] * (64 - k)
    assert table["modes"].tolist()[:k] == [2] * k


def test_tails_and_lopsided_columns_are_no_humps():
    rng = np.random.default_rng(0)
    z = np.concatenate([draw(size=(160, 8)) for draw in (lambda size: rng.standard_t(2, size), rng.lognormal)], axis=1)
    table = code_statistics(pd.DataFrame(z, columns=[f"z{i:02d}" for i in range(16)]))
    assert not table["normal"].any() and table["unimodal"].all()


def test_far_hearts_are_named_and_are_no_humps():
    codes = planted(1, np.random.default_rng(0), columns=4).rename(index="heart {}".format)
    codes.loc["heart 3", ["z00", "z01"]], codes.loc["heart 7", ["z01", "z02"]] = 30.0, -10.0
    codes.loc["heart 8", "z02"] = -10.1
    table = code_statistics(codes)
    assert table["outliers"].tolist() == [("heart 3",), ("heart 3", "heart 7"), ("heart 7", "heart 8"), ()]
    assert table["unimodal"].tolist() == [False, True, True, True]
    for i, (column, row) in enumerate(table.iterrows()):  # the others are tested as if these were not there
        near = codes[column].drop(list(row["outliers"])).to_numpy()
        assert row["p_unimodal"] == unimodality_p(near, 800, np.random.default_rng(0).spawn(4)[i])
        assert row["modes"] == count_modes(near, silverman_bandwidth(near))


def test_codes_of_which_nearly_all_are_equal():
    x = np.zeros(100)
    x[:2] = 5, 6
    table = code_statistics(pd.DataFrame({"z00": x, "z01": np.arange(100) // 50}))
    assert table["outliers"].tolist() == [(0, 1), ()] and table["unimodal"].isna().tolist() == [True, False]
    assert table.loc["z01", ["modes", "unimodal"]].tolist() == [2, False]


def test_drawing_goes_on_while_p_is_small(monkeypatch):
    """Besag and Clifford: the 20th sample that needs more than the critical bandwidth ends it."""
    drawn = []

    def every(k):
        def modes(samples, bandwidth):
            drawn.append(len(samples))
            return 1 + ((np.arange(sum(drawn) - len(samples), sum(drawn)) + 1) % k == 0)

        monkeypatch.setattr(histograms, "count_modes", modes)
        drawn.clear()

    monkeypatch.setattr(histograms, "critical_bandwidth", lambda x: 1.0)
    x, generator = np.arange(10.0), np.random.default_rng(0)
    for k, draws, p, total in ((3, 1000, 1 / 3, 200), (25, 1000, 1 / 25, 600), (10, 150, 16 / 151, 150)):
        every(k)
        assert unimodality_p(x, draws, generator) == pytest.approx(p) and sum(drawn) == total
    every(10**9)
    assert unimodality_p(x, 450, generator) == pytest.approx(1 / 451) and drawn == [200, 200, 50]


def test_too_few_draws_to_reject_are_said():
    codes = planted(1, np.random.default_rng(0), columns=8)  # p has to be below 0.05 / 8 = 1 / 160
    codes["z00"] = np.where(np.arange(160) % 2, 100.0, 0) + codes["z01"]
    with pytest.warns(UserWarning, match="159 draws give p of at least 1/160; .* from 160 draws on"):
        assert code_statistics(codes, draws=159)["unimodal"].all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not code_statistics(codes, draws=160)["unimodal"]["z00"]
    with pytest.raises(UsageError, match="draws: found -1"):
        code_statistics(codes, draws=-1)
    with pytest.raises(UsageError, match="alpha: found 0"):
        code_statistics(codes, alpha=0)


def test_test_for_one_hump_keeps_its_level():
    rng = np.random.default_rng(0)
    p = [unimodality_p(rng.normal(size=80), 50, rng) for _ in range(60)]
    assert np.mean(np.array(p) < 0.05) <= 0.1
    assert unimodality_p(np.concatenate([rng.normal(-3, 1, 40), rng.normal(3, 1, 40)]), 50, rng) < 0.05


def test_correction():
    np.testing.assert_allclose(_corrected(np.array([0.01, np.nan, 0.02, 0.5])), [0.03, np.nan, 0.03, 0.5])
    assert np.isnan(_corrected(np.array([np.nan]))).all()


class Weighted:
    """p(foreground) of voxel k is the sigmoid of weight_k z_k: the last weight is 0, the decoder ignores that code."""

    weights = np.array([4.0, 1.0, 0.0])
    mean, sigma = np.zeros(3, np.float32), np.array([1, 1, 5], np.float32)

    def decode(self, codes):
        p = 1 / (1 + np.exp(-np.atleast_2d(codes) * self.weights))
        return np.stack([1 - p, p], axis=1).reshape(-1, 2, 3, 1, 1)


def test_sensitivity_by_hand():
    change = decoder_sensitivity(Weighted(), batch=2)
    np.testing.assert_allclose(change, [1 / (1 + np.exp(-4)) - 0.5, 1 / (1 + np.exp(-1)) - 0.5, 0], atol=1e-6)
    with pytest.raises(UsageError, match=r"expected \(3,\)"):
        decoder_sensitivity(Weighted(), np.ones(2))


def test_a_code_that_the_decoder_ignores_is_unused():
    rng = np.random.default_rng(0)
    codes = pd.DataFrame(rng.normal(size=(50, 3)), columns=["z00", "z01", "z02"])
    assert code_statistics(codes, draws=0)["used"].all()
    assert code_statistics(codes, Weighted(), draws=0)["used"].tolist() == [True, True, False]
    shuffled = code_statistics(codes[["z02", "z00", "z01"]], Weighted(), draws=0)
    pd.testing.assert_frame_equal(shuffled, code_statistics(codes, Weighted(), draws=0))
    sigma = pd.Series([1.0, 2.0, 3.0], index=["z01", "z02", "z00"])
    assert decoder_sensitivity(Weighted(), sigma).equals(decoder_sensitivity(Weighted(), np.array([3.0, 1.0, 2.0])))
    with pytest.raises(UsageError, match="expected z00 to z02, each once"):
        code_statistics(codes.rename(columns={"z02": "z03"}), Weighted(), draws=0)
    with pytest.raises(UsageError, match="2 code columns and a space of 3"):
        code_statistics(codes[["z00", "z01"]], Weighted(), draws=0)


def test_sensitivity_of_pca_falls_with_variance():
    rng = np.random.default_rng(0)
    labels = (rng.random((30, 6, 6, 3)) < rng.uniform(0.2, 0.8, (30, 1, 1, 1))).astype(np.uint8)
    space = PCASpace(5, grid=Grid((6, 6, 3), (1, 1, 1)), scheme=CARDIAC).fit(labels)
    change = decoder_sensitivity(space)
    assert change.idxmax() == 0 and (change > 0).all()


def test_too_few_rows(codes):
    with pytest.raises(UsageError, match="found 7 rows"):
        code_statistics(codes[:7])
