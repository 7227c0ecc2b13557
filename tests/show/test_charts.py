"""Charts: what is drawn is what the table says; titles, units, marks; errors by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.show import charts


def test_ridgeline_densities_integrate_to_one_and_the_constant_dimension_is_named(words, inside):
    generator = np.random.default_rng(0)
    codes = pd.DataFrame(generator.normal(size=(200, 5)), columns=[f"z{i:02d}" for i in range(5)])
    codes["z03"] = 7.0
    fig = charts.ridgeline(codes)
    stairs = [p for p in fig.axes[0].patches if type(p).__name__ == "StepPatch"]
    assert len(stairs) == 4
    for patch in stairs:
        data = patch.get_data()
        assert ((data.values - data.baseline) * np.diff(data.edges)).sum() == pytest.approx(1)
    text = words(fig)
    assert "constant: not used" in text and "sigma (no unit)" in text and "200 shapes" in text
    inside(fig)


def test_ridgeline_takes_arrays_and_chosen_dimensions(words):
    array = np.random.default_rng(0).normal(size=(50, 20))
    assert "z19" in words(charts.ridgeline(array, [0, 19]))
    with pytest.raises(UsageError, match="25"):
        charts.ridgeline(array, [25])
    with pytest.raises(UsageError, match="z77"):
        charts.ridgeline(pd.DataFrame({"z00": [1.0, 2.0]}), ["z77"])
    with pytest.raises(UsageError, match="expected code columns"):
        charts.ridgeline(pd.DataFrame({"group": ["NOR"]}))
    with pytest.raises(UsageError, match=r"no finite code in 1 rows, \['b'\]"):
        charts.ridgeline(pd.DataFrame({"z00": [1.0, np.nan]}, index=["a", "b"]))


def test_confusion_shows_counts_shares_and_accuracy(words, inside):
    fig = charts.confusion(np.array([[14, 2], [4, 12]]), ["NOR", "DCM"], title="Codes")
    text = words(fig)
    for word in ("14\n88 %", "2\n12 %", "4\n25 %", "12\n75 %", "81.2 % right", "predicted group", "(n = 16)"):
        assert word in text
    inside(fig)
    assert "13.5" in words(charts.confusion(pd.DataFrame([[13.5, 2.5], [4, 12]], index=["a", "b"], columns=["a", "b"])))
    assert "0 %" in words(charts.confusion(np.array([[0, 0], [1, 3]])))  # a group without patients
    with pytest.raises(UsageError, match=r"\(2, 3\)"):
        charts.confusion(np.ones((2, 3)), ["a", "b"])


def test_confusion_matches_columns_with_rows_by_name(words):
    counts = pd.DataFrame([[14, 2], [4, 12]], index=["NOR", "DCM"], columns=["NOR", "DCM"])
    for table, labels in ((counts, None), (counts[["DCM", "NOR"]], None), (counts[["DCM", "NOR"]], ["DCM", "NOR"])):
        text = words(charts.confusion(table, labels))
        assert "81.2 % right" in text and "14\n88 %" in text
    cells = [t.get_text() for t in charts.confusion(counts, ["DCM", "NOR"]).axes[0].texts]
    assert cells == ["12\n75 %", "4\n25 %", "2\n12 %", "14\n88 %"]
    assert "normal\n(n = 16)" in words(charts.confusion(counts, ["normal", "dilated"]))
    with pytest.raises(DataError, match="columns: found values for 'NOR', 'HCM'"):
        charts.confusion(counts.set_axis(["NOR", "HCM"], axis=1))


def test_bars_have_the_length_and_interval_of_the_table(words, inside):
    table = pd.DataFrame(
        {
            "features": ["AE codes", "PCA codes", "AE codes", "PCA codes"],
            "phases": ["ED", "ED", "ED + ES", "ED + ES"],
            "accuracy": [0.8, 0.75, 0.92, 0.88],
            "low": [0.7, 0.65, 0.85, 0.8],
            "high": [0.88, 0.83, 0.97, 0.94],
        }
    )
    fig = charts.bars_with_interval(table, by="phases", chance=1 / 3)
    bars = fig.axes[0].patches
    assert [b.get_width() for b in bars] == pytest.approx([80, 75, 92, 88])
    assert bars[0].get_hatch() != bars[2].get_hatch()
    assert [70, 88] in [pytest.approx(line.get_xdata()) for line in fig.axes[0].lines]
    text = words(fig)
    assert "chance 33 %" in text and "accuracy (%), line: 95 % interval" in text and "92.0" in text
    inside(fig)
    with pytest.raises(UsageError, match="low"):
        charts.bars_with_interval(table.drop(columns="low"))


def test_a_picture_for_each_set_of_groups_of_one_model(words, inside):
    table = pd.DataFrame(
        {
            "groups": ["NOR, DCM", "NOR, DCM", "NOR, DCM", "all five"],
            "model": ["forest", "extra", "forest", "forest"],
            "features": ["AE codes", "AE codes", "PCA codes", "AE codes"],
            "phases": "ED",
            "accuracy": [0.8, 0.1, 0.75, 0.6],
            "low": 0.05,
            "high": 0.97,
            "chance": [0.5, 0.5, 0.5, 0.2],
            "n_patients": [32, 32, 32, 80],
        }
    )
    two, five = charts.accuracy_by_groups(table)
    assert [b.get_width() for b in two.axes[0].patches] == pytest.approx([80, 75])
    assert "NOR, DCM: 32 ACDC patients, forest" in words(two) and "chance 50 %" in words(two)
    assert "all five: 80 ACDC patients, forest" in words(five) and "chance 20 %" in words(five)
    with pytest.raises(UsageError, match="n_patients"):
        charts.accuracy_by_groups(table.drop(columns="n_patients"))


def test_history_takes_a_table_and_a_history(words, inside):
    from shapelab.training import History

    rows = [{"epoch": i, "loss": 1 / (i + 1), "val_dice": 1 - 0.5 / (i + 1), "seconds": 3.0} for i in range(20)]
    fig = charts.history(History(rows), log=True)
    assert len(fig.axes) == 2 and fig.axes[0].get_yscale() == "log"
    assert fig.axes[0].lines[0].get_ydata() == pytest.approx([1 / (i + 1) for i in range(20)])
    assert "seconds" not in words(fig) and "epoch" in words(fig)
    inside(charts.history(pd.DataFrame(rows)))
    with pytest.raises(UsageError, match="nothing"):
        charts.history(pd.DataFrame(rows), columns=["nothing"])


def test_path_chart_draws_volumes_and_dice_of_each_method(words, inside):
    t = np.linspace(0, 1, 5)
    table = pd.DataFrame(
        {
            "position": np.r_[t, t],
            "structure": ["LV cavity"] * 5 + ["LV myocardium"] * 5,
            "volume_ml": np.r_[200 - 80 * t, 120 + 0 * t],
            "dice_a": np.r_[1 - 0.3 * t, 1 - 0.5 * t],
            "dice_b": np.r_[0.7 + 0.3 * t, 0.5 + 0.5 * t],
        }
    )
    fig = charts.path_chart({"code": table, "voxel blending": table}, CARDIAC)
    volume, overlap = fig.axes
    assert volume.get_ylabel() == "volume (ml)" and "Dice" in overlap.get_ylabel()
    assert volume.lines[0].get_color() == CARDIAC.structure("LV myocardium").colour
    assert volume.lines[1].get_ydata() == pytest.approx(200 - 80 * t)
    assert overlap.lines[0].get_ydata() == pytest.approx(1 - 0.4 * t)
    assert len(volume.lines) == 4 and volume.lines[0].get_linestyle() != volume.lines[2].get_linestyle()
    assert "t (0 = A, 1 = B)" in words(fig) and "voxel blending" in words(fig)
    inside(fig)
    with pytest.raises(UsageError, match="volume_ml"):
        charts.path_chart(table[["position", "structure"]], CARDIAC)


def test_path_chart_takes_the_table_that_paths_make(tiny_heart):
    from shapelab.latent.paths import blend, path_table

    path = blend(tiny_heart(), tiny_heart(scale=0.7), 5, CARDIAC)
    fig = charts.path_chart(path_table(path, (2, 2, 8), CARDIAC), CARDIAC)
    assert len(fig.axes[0].lines) == 3 and len(fig.axes[1].lines) == 2


def test_explained_variance_adds_up(words, inside):
    fig = charts.explained_variance([0.5, 0.3, 0.1])
    assert fig.axes[0].lines[0].get_ydata() == pytest.approx([50, 80, 90])
    assert "variance explained (%)" in words(fig)
    inside(charts.explained_variance({"a": [0.5, 0.3], "b": [0.6, 0.2]}))


def test_bland_altman_draws_every_case_and_writes_the_limits(words, inside):
    generator = np.random.default_rng(0)
    truth = generator.uniform(20, 70, 20)
    table = pd.DataFrame({"ours": truth + 2, "expert": truth, "method": ["FCN", "ACNN"] * 10, "group": ["NOR"] * 20})
    limits = {m: {"bias": 2.0, "low": -1.5, "high": 5.5} for m in ("FCN", "ACNN")}
    names = {"measured": "ours", "truth": "expert", "unit": "%", "by": "method", "group": "group"}
    fig = charts.bland_altman(table, **names, limits=limits)
    text = words(fig)
    for part in ("FCN", "ACNN", "mean of both (%)", "ours - expert (%)", "+2.0", "-1.5", "+5.5", "NOR"):
        assert part in text
    points = np.concatenate([c.get_offsets() for ax in fig.axes for c in ax.collections])
    assert len(points) == 20 and np.allclose(points[:, 1], 2) and np.allclose(np.sort(points[:, 0]), np.sort(truth + 1))
    inside(fig)


def test_bland_altman_draws_cases_without_a_group_in_grey(words):
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1.0, 1.0, 1.0], "group": ["NOR", None, "NOR"]}, index=[1, 1, 2])
    fig = charts.bland_altman(table, measured="a", truth="b", unit="ml", group="group")
    assert sorted(len(c.get_offsets()) for c in fig.axes[0].collections) == [1, 2]
    assert "1 without a group" in words(fig)
    with pytest.raises(UsageError, match="1 cases without 'group'"):
        charts.bland_altman(table, measured="a", truth="b", unit="ml", by="group")


def test_bland_altman_refuses_what_it_cannot_draw():
    table = pd.DataFrame({"a": [1.0, np.nan], "b": [1.0, 2.0], "m": ["x", "y"]})
    with pytest.raises(UsageError, match="2 cases, 1 of them not finite"):
        charts.bland_altman(table, measured="a", truth="b", unit="ml")
    with pytest.raises(UsageError, match="bland_altman: found columns"):
        charts.bland_altman(table, measured="a", truth="c", unit="ml")
    with pytest.raises(UsageError, match=r"expected those of \['x'\]"):
        charts.bland_altman(table[:1], measured="a", truth="b", unit="ml", by="m", limits={"y": {}})


def test_curves_are_the_mean_over_seeds_with_their_spread(words, inside):
    steps = {"E-D": (0, 200), "CE-Reg": (0, 100, 200)}
    rows = [
        ("CT", method, seed, step, 0.2 + 0.1 * (method == "CE-Reg") + 0.1 * seed + step / 1000)
        for method in steps
        for seed in (0, 1)
        for step in steps[method]
    ]
    table = pd.DataFrame(rows, columns=["modality", "method", "seed", "step", "dice"])
    table = pd.concat([table, table.assign(modality="MR", dice=table["dice"] / 2)])
    fig = charts.curves(table, x="step", y="dice", panels="modality", levels={"MR": 0.9}, labels=("batches", "Dice"))
    ct, mr = fig.axes
    first, second = ct.lines  # in the order in which they come, and a line goes on where another has more points
    assert first.get_xdata().tolist() == [0, 200] and first.get_ydata() == pytest.approx([0.25, 0.45])
    assert second.get_xdata().tolist() == [0, 100, 200] and second.get_ydata() == pytest.approx([0.35, 0.45, 0.55])
    assert [line.get_color() for line in mr.lines[:2]] == [first.get_color(), second.get_color()]
    band = ct.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.2) and band[:, 1].max() == pytest.approx(0.5)
    assert mr.lines[2].get_ydata() == [0.9, 0.9] and mr.get_ylim()[1] > 0.9 and mr.get_ylim() == ct.get_ylim()
    assert all(w in words(fig) for w in ("CT", "MR", "E-D", "CE-Reg", "ceiling", "batches", "Dice"))
    inside(fig)
    assert len(charts.curves(table, x="step", y="dice", by="modality").axes) == 1
    with pytest.raises(UsageError, match="also .'seconds'."):
        charts.curves(table, x="seconds", y="dice")
    with pytest.raises(UsageError, match="no row with a number"):
        charts.curves(table.assign(dice=np.nan), x="step", y="dice")
