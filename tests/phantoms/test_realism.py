"""Features of label maps on shapes whose values are known, and the report that compares two cohorts."""

import numpy as np
import pytest

from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC
from shapelab.data.subject import Subject
from shapelab.errors import DataError, UsageError
from shapelab.phantoms import feature_table, heart_cohort, real_or_phantom, realism_report
from shapelab.phantoms.realism import shape_features


def rings(rv_slices=slice(1, 7), oval=0.0, spacing=(1.0, 1.0, 10.0)):
    """LV of radii 20 and 30 mm in 8 of 10 slices, RV a disc beside it."""
    x, y = np.meshgrid(np.arange(160) - 90.0, np.arange(120) - 60.0, indexing="ij")
    angle = np.arctan2(y, x)
    r = np.hypot(x, y) / (1 + oval * np.cos(2 * angle))
    label = np.zeros((160, 120, 10), np.uint8)
    label[np.hypot(x + 45, y) < 25, rv_slices] = 1
    label[r < 30, 1:9], label[r < 20, 1:9] = 2, 3
    facts = {"phase": "ED", "group": "NOR"}
    return Subject("rings_ED", CARDIAC, label=label, affine=np.diag([*spacing, 1]), facts=facts)


def test_features_of_rings():
    f = shape_features(rings())
    assert (f["lv_length"], f["rv_length"], f["rv_top"], f["rv_end"], f["cavity_end"]) == (80, 60, 0, 20, 0)
    assert f["lv_area_max"] == pytest.approx(np.pi * 4, rel=0.01) and f["lv_area_50"] == pytest.approx(1)
    assert f["wall_mean"] == pytest.approx(10, abs=0.3) and f["wall_sd"] < 0.5
    assert f["septum_flatness"] == pytest.approx(1, abs=0.02) and f["wall_septum_ratio"] == pytest.approx(1, abs=0.05)
    assert f["epi_oval"] < 0.01 and f["epi_step"] < 0.01 and f["centre_jitter"] < 1e-6 and f["lean"] < 1e-9


def test_oval_and_spacing():
    assert shape_features(rings(oval=0.1))["epi_oval"] == pytest.approx(0.1, abs=0.015)
    assert shape_features(rings(spacing=(2, 2, 8)))["wall_mean"] == pytest.approx(20, abs=0.6)


def test_missing_ventricle_is_named():
    s = rings()
    with pytest.raises(DataError, match="rings_ED"):
        shape_features(s.with_(label=np.where(s.label == 1, 0, s.label)))


def test_report_of_a_cohort_against_itself_is_zero():
    c = heart_cohort(5, resolution="LR", scheme=CARDIAC)
    report = realism_report(c, c)
    assert set(report.phase) == {"ED", "ES"} and (report.difference == 0).all()
    assert np.allclose(report.sd_ratio.dropna(), 1)
    assert len(report) == 2 * (feature_table(c).shape[1] - 2)


def test_hearts_without_a_phase_are_counted():
    c = heart_cohort(5, resolution="LR", scheme=CARDIAC)
    some = Cohort(
        [s.with_(facts={**s.facts, "phase": None}) if i == 3 else s for i, s in enumerate(c)], "some", CARDIAC
    )
    with pytest.warns(UserWarning, match=r"found \{'real': 1\} hearts without a phase"):
        report = realism_report(some, c)
    assert set(report.phase) == {"ED", "ES"}
    with pytest.raises(DataError, match="the id 'phantom000_ED' more than once"):
        feature_table([*c[:1], *c[:1]])


def test_report_needs_a_common_phase():
    ed, es = (heart_cohort(2, resolution="LR", phases=(p,)) for p in ("ED", "ES"))
    with pytest.raises(UsageError, match="phase"):
        realism_report(ed, es)


def test_forest_cannot_tell_two_draws_of_one_population_but_a_blown_up_one():
    a, b = (heart_cohort(10, seed=s, resolution="LR", scheme=CARDIAC) for s in (0, 1))
    assert real_or_phantom(a, b)["auc"] < 0.75
    big = Cohort([s.with_(affine=np.diag([*(1.4 * s.spacing), 1])) for s in b], "big", CARDIAC)
    assert real_or_phantom(a, big)["auc"] > 0.9


@pytest.mark.realdata
@pytest.mark.slow
def test_hard_to_tell_from_acdc(acdc_root):
    """40 real and 40 phantom patients: every feature within 1.1 pooled sd, most within half of one."""
    from shapelab.data import open_cohort

    real = open_cohort("acdc", root=acdc_root)
    real = real.filter(patient=list(real.patients)[::2])
    phantom = heart_cohort(40, seed=11, resolution="LR", scheme=CARDIAC)
    report = realism_report(real, phantom)
    assert report.difference.abs().max() < 1.1
    assert (report.difference.abs() < 0.5).mean() > 0.75
    assert real_or_phantom(real, phantom)["auc"] < 0.9
