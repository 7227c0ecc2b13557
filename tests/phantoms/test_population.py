"""Drawn factors: determinism, distributions against the published ones, bad arguments."""

import numpy as np
import pandas as pd
import pytest

from shapelab.errors import UsageError
from shapelab.phantoms.population import GROUPS, MODELS, _bounded, draw_factors, lognormal


@pytest.fixture(scope="module")
def table():
    rows = [{"group": GROUPS[i % 5], **draw_factors(0, i, GROUPS[i % 5], i // 5)} for i in range(1000)]
    return pd.DataFrame(rows)


def test_same_seed_and_index_same_factors():
    assert draw_factors(4, 17, "HCM") == draw_factors(4, 17, "HCM")
    assert draw_factors(4, 17, "HCM") != draw_factors(5, 17, "HCM")
    assert draw_factors(4, 17, "HCM") != draw_factors(4, 18, "HCM")


def test_every_factor_is_a_float(table):
    for group in GROUPS:
        assert all(isinstance(v, float) and np.isfinite(v) for v in draw_factors(0, 3, group).values())
    assert all(draw_factors(0, 3, g).keys() == draw_factors(0, 3, "NOR").keys() for g in GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_volumes_have_the_published_mean_and_spread(table, group):
    t, m = table[table.group == group], MODELS[group]
    for name, (mean, sd) in {"LVV_ED": m.LVV, "LVM": m.LVM, "RVV_ED": m.RVV, "RVM": m.RVM}.items():
        assert t[name].mean() == pytest.approx(mean, rel=0.04), name
        assert t[name].std() == pytest.approx(sd, rel=0.2), name
    for name, (mean, sd, low, high) in {"LVEF": m.LVEF, "RVEF": m.RVEF}.items():
        assert t[name].mean() == pytest.approx(mean, abs=2), name
        assert t[name].std() == pytest.approx(sd, rel=0.2), name
        assert t[name].between(low, high).all()


def test_the_published_numbers_are_in_the_models():
    """SSLLN Tables IV and VI (ml, g)."""
    nor, rv = MODELS["NOR"], MODELS["RV"]
    assert (nor.LVV, nor.LVM, nor.RVV, nor.RVM) == ((147.6, 34.7), (119.3, 25.7), (171.6, 39.5), (33.7, 7.3))
    assert (rv.LVV, rv.LVM, rv.RVV, rv.RVM) == ((114.8, 25.1), (124.2, 25.3), (204.3, 58.5), (49.9, 14.2))


def test_size_goes_with_the_body_and_ventricles_with_each_other(table):
    t = table[table.group == "NOR"]
    assert t[["LVV_ED", "bsa"]].corr().iloc[0, 1] > 0.25
    assert t[["LVV_ED", "RVV_ED"]].corr().iloc[0, 1] > 0.7
    assert np.allclose(t.bsa, np.sqrt(t.height * t.weight / 3600), atol=0.01)  # Mosteller; the table's are rounded
    assert t.height.mean() == pytest.approx(171.5, abs=2) and t.weight.mean() == pytest.approx(76, abs=4)


def test_orientation_is_that_of_acdc(table):
    assert table.angle.mean() == pytest.approx(172, abs=5) and table.angle.between(128, 250).all()


def test_ejection_fractions_are_apart(table):
    by = table.groupby("group").LVEF
    assert by.max()["DCM"] < 40 and by.min()["NOR"] > 50 and by.min()["HCM"] > 50 and by.max()["MINF"] < 47
    assert table[table.group == "RV"].RVEF.mean() < 35 < 50 < table[table.group == "NOR"].RVEF.mean()


def test_score_functions():
    z = np.random.default_rng(0).standard_normal(20000)
    values = np.array([lognormal(v, 150.0, 35.0) for v in z])
    assert values.mean() == pytest.approx(150, rel=0.01) and values.std() == pytest.approx(35, rel=0.03)
    values = np.array([_bounded(v, 60.0, 5.0, 50.0, 72.0) for v in z[:3000]])
    assert values.mean() == pytest.approx(60, abs=0.3) and values.std() == pytest.approx(5, rel=0.05)
    assert 50 <= values.min() and values.max() <= 72


def test_unknown_group_is_named():
    with pytest.raises(UsageError, match="group: found 'ARV'"):
        draw_factors(0, 0, "ARV")
