"""Table II: its numbers by hand, and a whole run of a tiny one, killed and taken up again."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from shapelab.errors import UsageError
from shapelab.experiments.acnn import ultrasound as table2
from shapelab.experiments.acnn.ultrasound import (
    METHODS,
    UltrasoundConfig,
    layout,
    lv_plausibility,
    on_prior_grid,
    summarise,
)
from shapelab.experiments.acnn.ultrasound_tables import ejection_fractions
from shapelab.experiments.tables import printed

TINY = UltrasoundConfig(
    name="tiny",
    shape=(24, 24, 24),
    spacing=(6.0, 6.0, 6.0),
    widths=(4, 4, 8, 8),
    train=2,
    test=3,
    seeds=(0,),
    epochs=1,
    prior_step=(1, 1, 1),
    prior_hearts=3,
    prior_epochs=1,
    bottleneck=4,
    curve=2,
)


def cases(shift=0.0):
    """Two patients, two methods, two seeds; FCN's numbers are `shift` worse."""
    rows = []
    for seed in (0, 1):
        for method, worse in (("FCN", shift), ("ACNN-Seg", 0.0)):
            for k, (patient, ed, es) in enumerate((("a", 100.0, 40.0), ("b", 200.0, 150.0), ("c", 160.0, 60.0))):
                for phase, volume in (("ED", ed), ("ES", es)):
                    rows.append(
                        {
                            "case": f"{patient}_{phase}",
                            "patient": patient,
                            "phase": phase,
                            "method": method,
                            "seed": seed,
                            "dice": 0.9 - worse / 100,
                            "hd": 5.0 + k + worse + seed,
                            "assd": 1.0 + worse,
                            "volume": volume + worse,
                            "volume_truth": volume,
                            "plausible": True,
                        }
                    )
    return pd.DataFrame(rows)


def value(table, measure, phase, method, column="mean"):
    row = table[(table.measure == measure) & (table.phase == phase) & (table.method == method)]
    assert len(row) == 1
    return row[column].iloc[0]


def test_the_papers_numbers():
    paper = printed("acnn", "II").set_index(["measure", "what", "method"])
    for (measure, phase, method), known in {
        ("hd", "ED", "ACNN-Seg"): (6.96, 1.75),
        ("dice", "ES", "FCN"): (0.872, 0.050),
        ("EF bias (limits)", "", "BEAS"): (-6.78, 27.71),
        ("assd", "ES", "BEAS"): (2.43, 0.91),
    }.items():
        assert tuple(paper.loc[(measure, phase, method)]) == known


def test_summary_by_hand():
    table = summarise(cases(shift=10.0))
    # hd of a case: mean over seeds of 5 + k + 10 + seed = 15.5 + k
    assert value(table, "hd", "ED", "FCN") == pytest.approx(16.5)
    assert value(table, "hd", "ED", "FCN", "sd") == pytest.approx(1.0)
    assert value(table, "hd", "ED", "FCN", "sd_seeds") == pytest.approx(np.sqrt(0.5))
    assert value(table, "hd", "ED", "ACNN-Seg") == pytest.approx(6.5)
    assert value(table, "hd", "ED", "ACNN-Seg", "p") == pytest.approx(0.25)  # three cases: the least there is
    assert value(table, "dice", "ES", "ACNN-Seg", "paper") == 0.873
    # EF: truth 60, 25, 62.5; FCN's volumes are 10 ml too large: 1 - 50/110, 1 - 160/210, 1 - 70/170
    gap = np.array([100 * (1 - 50 / 110) - 60, 100 * (1 - 160 / 210) - 25, 100 * (1 - 70 / 170) - 62.5])
    assert value(table, "EF bias (limits)", "", "FCN") == pytest.approx(gap.mean())
    assert value(table, "EF bias (limits)", "", "FCN", "sd") == pytest.approx(1.96 * gap.std(ddof=1))
    assert value(table, "EF bias (limits)", "", "ACNN-Seg") == 0
    assert value(table, "EDV bias (limits)", "", "FCN") == pytest.approx(10)
    assert value(table, "EF correlation", "", "ACNN-Seg") == pytest.approx(1)


def test_a_missed_case_is_counted_and_not_averaged():
    found = cases()
    lost = (found.case == "a_ED") & (found.method == "FCN") & (found.seed == 0)
    found.loc[lost, ["hd", "assd", "dice", "volume", "plausible"]] = [np.inf, np.inf, 0.0, 0.0, False]
    table = summarise(found)
    assert value(table, "hd", "ED", "FCN", "n_missed") == 1 and value(table, "hd", "ED", "FCN", "n") == 3
    assert value(table, "hd", "ED", "FCN") == pytest.approx(7.0)  # of b and c
    assert value(table, "dice", "ED", "FCN") == pytest.approx((0.45 + 0.9 + 0.9) / 3)  # a failure is not dropped
    assert value(table, "EF correlation", "", "FCN", "n_missed") == 1
    assert np.isnan(
        ejection_fractions(found[lost | (found.case == "a_ES") & (found.seed == 0) & (found.method == "FCN")]).EF
    ).all()


def test_layout_has_both_our_numbers_and_the_papers():
    text = layout(summarise(cases(1.0)))
    assert list(text.columns) == ["BEAS", "FCN", "ACNN-Seg", "p"]
    assert text.loc["Hausdorff (mm) ED", "ACNN-Seg"] == "6.50 ± 1.00 (6.96 ± 1.75)"
    assert text.loc["Hausdorff (mm) ED", "BEAS"] == "(8.10 ± 2.66)"
    assert text.loc["EF correlation", "FCN"].endswith("(0.885)")


def test_plausibility_by_hand():
    mask = np.zeros((8, 8, 8), np.uint8)
    assert lv_plausibility(mask) == {"pieces": 0, "holes": 0, "plausible": False}
    mask[2:6, 2:6, 2:6] = 1
    assert lv_plausibility(mask) == {"pieces": 0, "holes": 0, "plausible": True}
    mask[3, 3, 3] = 0
    mask[0, 0, 0] = mask[7, 7, 7] = 1
    assert lv_plausibility(mask) == {"pieces": 2, "holes": 1, "plausible": False}
    full = np.ones((3, 3, 3), np.uint8)
    assert lv_plausibility(full)["plausible"]


def test_labels_on_the_priors_grid():
    labels = np.zeros((1, 4, 4, 2), np.uint8)
    labels[0, :2, :3] = 1
    config = UltrasoundConfig(prior_step=(2, 2, 1))
    assert on_prior_grid(labels, config)[0, :, :, 0].tolist() == [[1, 1], [0, 0]]  # half of a voxel is enough
    assert on_prior_grid(labels, UltrasoundConfig(prior_step=(1, 1, 1))) is labels


@pytest.mark.parametrize("name", ["quick", "full", "paper"])
def test_profiles_fit_the_networks(name):
    config = UltrasoundConfig.profile(name)
    assert config.autoencoder.n_classes == 2 and config.network.factor == 1 and config.train == 15
    box = [n * s for n, s in zip(config.shape, config.spacing)]
    assert box == [144, 144, 144] and config.autoencoder.grid == config.prior_grid
    assert (config.weight_of("FCN"), config.weight_of("ACNN-Seg")) == (0, config.weight)


def test_wrong_arguments(tmp_path):
    with pytest.raises(UsageError, match="found 'acdc'; expected one of phantom, cetus"):
        table2.run("acdc", output=tmp_path)
    with pytest.raises(UsageError, match="artefact: found 'rain'"):
        table2.robustness(artefact="rain", output=tmp_path)


@pytest.mark.slow
def test_a_whole_run_is_kept_and_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "none"))
    first = table2.run("phantom", output=tmp_path, progress=False, config=TINY)
    assert set(first.method) == set(METHODS) and (first[first.measure == "dice"].n == 3).all()
    about = json.loads((tmp_path / "acnn_table2_phantom.json").read_text())
    assert about["config"]["train"] == 2 and about["train"] == 4 and about["test"] == 6
    written = pd.read_csv(tmp_path / "acnn_table2_phantom_cases.csv")
    assert len(written) == 2 * 6 and {"dice", "hd", "volume", "pieces"} <= set(written)

    def no(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(table2, "fit", no)
    monkeypatch.setattr(table2, "train_autoencoder", no)
    again = table2.run("phantom", output=tmp_path, progress=False, config=TINY)
    pd.testing.assert_frame_equal(first, again)
    curve = table2.robustness((0.0, 2.0), "shadow", output=tmp_path, progress=False, config=TINY)
    assert len(curve) == 4 and set(curve.shadow) == {0, 2} and (curve.n == 4).all()
    with pytest.raises(AssertionError, match="trained again"):  # other numbers are another training
        table2.run("phantom", output=tmp_path, progress=False, seeds=(1,), config=TINY)


@pytest.mark.slow
def test_cetus_comes_back_to_its_own_voxels(tmp_path, write_nifti):
    from shapelab.phantoms.ultrasound import us_cohort

    for s in us_cohort(3, seed=1, grid=((30, 32, 34), (4.0, 4.0, 4.0))):
        name = f"patient{int(s.patient[2:]) + 1:02d}"
        metres, stem = np.diag([0.004, 0.004, 0.004, 1]), tmp_path / name / f"{name}_{s.facts['phase']}"
        write_nifti(f"{stem}.nii.gz", (255 * s.image).astype(np.uint8), affine=metres)
        write_nifti(f"{stem}_gt.nii.gz", 255 * s.label, affine=metres)
    train, test = table2.cetus_echoes(tmp_path, TINY)
    assert not set(train.table.patient) & set(test.table.patient) and len(train.images) + len(test.images) == 6
    assert test.truths[0][0].shape == (30, 32, 34) and test.labels[0].sum() * 216 == pytest.approx(
        test.truths[0][0].sum() * 64, rel=0.05
    )
    table = table2.run("cetus", root=tmp_path, output=tmp_path / "out", progress=False, config=TINY)
    assert (table[table.measure == "dice"].n == len(test.images) // 2).all()
