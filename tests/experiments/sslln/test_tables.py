"""SSLLN's tables: numbers from hand-made cases; every method on tiny hearts; a run that was cut short."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from shapelab.atlas import landmark_affine, transform_points
from shapelab.data.scheme import BIVENTRICULAR
from shapelab.errors import DataError, UsageError
from shapelab.experiments.sslln import laboratory as sslln_methods
from shapelab.experiments.sslln import layout as tables
from shapelab.experiments.sslln import starts as sslln_starts
from shapelab.experiments.sslln import tables as sslln
from shapelab.experiments.sslln.hearts import Degradation, slices_of
from shapelab.experiments.sslln.laboratory import Laboratory, SSLLNExperiment
from shapelab.models.acnn import SubPixelConfig
from shapelab.models.sslln import SSLLNConfig
from shapelab.phantoms import LANDMARKS

NETWORK = SSLLNConfig(
    shape=(48, 48, 32),
    spacing=(4.0, 4.0, 4.0),
    widths=(4, 4, 8),
    convs=(1, 1, 1),
    merged=8,
    crop=(32, 32, 32),
    epochs=1,
    slices=4,
)
PAIRS = SubPixelConfig(shape=(16, 16, 8), spacing=(9.0, 9.0, 15.0), factor=2, widths=(8, 8, 8, 8), batch=4)
CONFIG = SSLLNExperiment(
    training=4,
    healthy=2,
    PH=1,
    atlases=2,
    compared=1,
    n_atlases=2,
    degradation=Degradation(2, 2.0, 1),
    network=NETWORK,
    acnn=PAIRS,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hearts are made once for all tests of this file."""
    return tmp_path_factory.mktemp("sslln")


@pytest.fixture
def oracle(monkeypatch):
    """Networks that know the labels and landmarks of every image that was made here."""
    known = {}

    def remember(made):
        volumes = made[0] if isinstance(made, tuple) else made
        for image, label, places in zip(volumes.images, volumes.labels, volumes.landmarks, strict=True):
            known[image.tobytes()] = label, places
        return made

    for name in ("phantom_volumes", "degrade"):
        true = getattr(sslln_methods, name)
        monkeypatch.setattr(sslln_methods, name, lambda *a, true=true: remember(true(*a)))
    monkeypatch.setattr(Laboratory, "network", lambda self, method: None)
    monkeypatch.setattr(
        sslln_methods,
        "predict",
        lambda network, images: tuple(np.stack(v) for v in zip(*(known[i.tobytes()] for i in images), strict=True)),
    )


# ------------------------------------------------------------------------------------------------------------- tables


def hand_made(dice: dict[str, list[float]], label: str = "LV cavity") -> dict[str, pd.DataFrame]:
    return {
        m: pd.DataFrame(
            {
                "id": list("abcdef")[: len(v)],
                "label": label,
                "dice": v,
                "hd": [1 / d for d in v],
                "volume": [100 * d for d in v],
                "volume_truth": 100.0,
                "seed": 0,
            }
        )
        for m, v in dice.items()
    }


def test_overlap_table_by_hand():
    values = {"SSLLN-HR": [0.9, 0.95, 0.8, 0.9, 0.85], "2D FCN": [0.8, 0.9, 0.7, 0.85, 0.9]}
    table = tables.overlap_table(hand_made(values), "I", ("LV cavity",))
    assert list(table["measure"]) == ["dice", "dice", "hd", "hd"]
    ours = table.iloc[0]
    assert (ours["method"], ours["n"], ours["n_missed"]) == ("SSLLN-HR", 5, 0)
    assert ours["mean"] == pytest.approx(0.88) and ours["sd"] == pytest.approx(np.std(values["SSLLN-HR"], ddof=1))
    assert (ours["paper_mean"], ours["paper_sd"]) == (0.962, 0.015)
    # differences .1 .05 .1 .05 -.05, ranks 4.5 2 4.5 2 2: of 32 choices of signs W- <= 2 in 4, none or one of the three
    assert ours["p"] == table.iloc[1]["p"] == 2 * 4 / 32


def test_seeds_are_averaged_in_each_heart_and_missed_hearts_counted():
    cases = hand_made({"SSLLN-HR": [0.8, 0.9]})["SSLLN-HR"]
    both = pd.concat([cases, cases.assign(seed=1, dice=[0.6, 0.9], hd=[np.inf, 2.0])])
    table = tables.overlap_table({"SSLLN-HR": both}, "V", ("LV cavity",))  # the paper's has no such row
    assert table.iloc[0]["mean"] == pytest.approx(0.8) and table.iloc[0]["n"] == 2
    assert table.iloc[1]["n_missed"] == 1 and table.iloc[1]["mean"] == pytest.approx((1 / 0.9 + 2) / 2)
    assert np.isnan(table["p"]).all() and np.isnan(table["paper_mean"]).all()


def test_clinical_table_by_hand():
    parts = [hand_made({"SSLLN-HR": [0.9, 1.1, 1.2]}, label)["SSLLN-HR"] for label in tables.STRUCTURES]
    table = tables.clinical_table({"SSLLN-HR": pd.concat(parts)}, "IV")
    row = table.set_index(["method", "what", "measure"])
    assert row.loc[("SSLLN-HR", "LVV (ml)", "value"), "mean"] == pytest.approx(320 / 3)
    assert row.loc[("SSLLN-HR", "LVM (g)", "value"), "mean"] == pytest.approx(1.05 * 320 / 3)
    assert row.loc[("SSLLN-HR", "RVM (g)", "|difference|"), "mean"] == pytest.approx(1.05 * 40 / 3)
    assert row.loc[("truth", "RVV (ml)", "value"), "mean"] == pytest.approx(100)
    assert row.loc[("SSLLN-HR", "LVV (ml)", "|difference|"), "paper_mean"] == 4.623
    assert row.loc[("truth", "RVM (g)", "value"), "paper_mean"] == 33.704


def test_landmark_table_and_cumulative_curve():
    rows = [{"id": i, "landmark": name, "error": e} for name in LANDMARKS for i, e in (("a", 3.0), ("b", 25.0))]
    table = tables.landmark_table({"SSLLN-HR": pd.DataFrame(rows)})
    assert set(table["what"]) == set(LANDMARKS)
    apex = table[table["what"] == "apex"].set_index("measure")
    assert apex.loc["error", "mean"] == 14 and apex.loc["within 20 mm", "mean"] == 0.5
    assert apex.loc["error", "paper_mean"] == 3.86
    assert np.allclose(tables.cumulative(pd.Series([3.0, 25.0, 4.0]), np.array([0, 3, 10, 30])), [0, 1 / 3, 2 / 3, 1])


def test_layout_prints_the_papers_numbers_beside_ours():
    values = {"SSLLN-HR": [0.9, 0.95, 0.8, 0.9, 0.85], "2D FCN": [0.8, 0.9, 0.7, 0.85, 0.9]}
    text = tables.layout(tables.overlap_table(hand_made(values), "I", ("LV cavity",)))
    assert "0.880±0.057 (0.962±0.015)" in text.to_string()
    with pytest.raises(UsageError, match="empty"):
        tables.layout(pd.DataFrame())


# -------------------------------------------------------------------------------------------------------- the methods


def test_refinement_with_perfect_networks_restores_what_was_cut_off(folder, oracle):
    laboratory = Laboratory(replace(CONFIG, degradation=Degradation(2, 0.0, 1)), folder, seed=3)
    refined, places = laboratory.cases("SSLLN-LR+SR")
    assert places is None and len(refined) == 2 * 4 and (refined["cohort"] == "healthy").all()
    rough, found = laboratory.cases("SSLLN-LR")
    assert found["error"].max() < 1e-3 and set(found["landmark"]) == set(LANDMARKS)
    assert refined.groupby("label")["dice"].mean()["LV cavity"] > 0.85
    truth, stacks = laboratory.cohort("healthy"), laboratory.degraded("healthy")[1]
    for i, (stack, result) in enumerate(zip(stacks, laboratory.refinements("healthy"), strict=True)):
        beyond = slices_of(stack)[-1] + 2
        heart, made = truth.labels[i][:, :, beyond:] > 0, laboratory.on_truth(stack, result)[:, :, beyond:] > 0
        assert heart.any() and 2 * (heart & made).sum() / (heart.sum() + made.sum()) > 0.4  # the apex was cut off


def test_results_are_kept_and_those_of_another_run_refused(folder, oracle, monkeypatch):
    kept, _ = Laboratory(CONFIG, folder).cases("SSLLN-LR+SR", "PH")
    monkeypatch.setattr(Laboratory, "_segment", None)  # nothing is made a second time
    again, _ = Laboratory(CONFIG, folder).cases("SSLLN-LR+SR", "PH")
    pd.testing.assert_frame_equal(kept, again, rtol=1e-4)
    with pytest.raises(DataError, match="results of another run"):
        Laboratory(replace(CONFIG, n_atlases=1), folder).cases("SSLLN-LR+SR", "PH")


def test_a_heart_that_cannot_be_refined_counts_as_missed(folder, oracle, monkeypatch):
    nothing = lambda network, images: (np.zeros(images.shape, np.uint8), np.zeros((len(images), 6, 3)))  # noqa: E731
    laboratory = Laboratory(CONFIG, folder, seed=7)
    assert len(laboratory.atlases) == 2
    monkeypatch.setattr(sslln_methods, "predict", nothing)
    with pytest.warns(UserWarning, match="without labels"):
        cases, _ = laboratory.cases("SSLLN-LR+SR", "PH")
    assert cases["missed"].all() and (cases["dice"] == 0).all()


def test_multi_atlas_finds_the_heart_from_its_landmarks(folder, oracle):
    cases, _ = Laboratory(CONFIG, folder).cases("multi-atlas")
    assert len(cases) == 4 and cases.set_index("label").loc["LV cavity", "dice"] > 0.6


def test_wrong_names_are_refused(folder):
    laboratory = Laboratory(CONFIG, folder)
    with pytest.raises(UsageError, match="'3D-Net'"):
        laboratory.cases("3D-Net")
    with pytest.raises(UsageError, match="'training'"):
        laboratory.cases("SSLLN-HR", "training")
    with pytest.raises(UsageError, match="'SSLLN'"):
        laboratory.network("SSLLN")
    with pytest.raises(UsageError, match="'guess'"):
        next(laboratory.refinements("healthy", start="guess"))
    with pytest.raises(UsageError, match="more compared"):
        replace(CONFIG, compared=3)
    with pytest.raises(UsageError, match="'SSLLN-LR\\+SR'"):
        sslln_methods.phantom_sslln("SSLLN-LR+SR")


def test_class_affine_finds_a_shift_and_a_scale(folder, oracle):
    atlas = Laboratory(CONFIG, folder).true_atlases[0]
    moved = np.zeros_like(atlas.label)
    moved[5:, 3:] = atlas.label[:-5, :-3]
    affine = sslln_starts.class_affines(moved, atlas.spacing, [atlas], BIVENTRICULAR)[0]
    points = np.argwhere(moved == 3)[::50] * np.array(atlas.spacing)
    expected = points - (20.0, 12.0, 0.0)
    assert np.abs(transform_points(affine, points) - expected).max() < 4.0  # one voxel
    landmarks, (pretended,) = sslln_starts.started_from(affine[None], [atlas], moved, atlas.spacing)
    assert landmark_affine(landmarks, pretended.landmarks) == pytest.approx(affine, abs=1e-6)


def test_profiles():
    assert SSLLNExperiment.profile("paper").network.shape == (192, 192, 80)
    assert SSLLNExperiment.profile("paper").training == 1000 and SSLLNExperiment.profile("full").degradation.factor == 5


# ----------------------------------------------------------------------------------------------------------- the door


@pytest.mark.parametrize("table", [1, 2, 6])
def test_run_writes_the_table_with_trained_networks(folder, tmp_path, table, monkeypatch, capsys):
    torch.manual_seed(0)
    monkeypatch.setattr(Laboratory, "refinements", lambda self, cohort, align: [None] * len(self.cohort(cohort)))
    found = sslln.run(table, profile="quick", output=folder / "door", progress=False, config=CONFIG)
    assert set(found["method"]) - {"truth"} == set(sslln.METHODS_OF[table][0])
    written = pd.read_csv(folder / "door" / f"sslln_table{table}.csv")
    assert len(written) == len(found) and list(written.columns) == list(tables.COLUMNS)
    about = json.loads((folder / "door" / f"sslln_table{table}.json").read_text())
    assert about["seeds"] == [0] and about["config"]["training"] == 4
    assert "ours (the paper's)" in capsys.readouterr().out
    if table == 1:
        gaps = pd.read_csv(folder / "door" / "sslln_gaps.csv")
        assert len(gaps) == 4 * 3 * 2 * 4 and set(gaps["slices"]) == {2, 6, 10}  # 10, 26 and 40 mm in slices of 4 mm


def test_table_five_trains_the_networks_of_the_other_paper(folder, oracle, capsys):
    found = sslln.run(5, profile="quick", output=folder / "five", progress=False, config=CONFIG)
    assert set(found["method"]) == set(sslln.METHODS_OF[5][0]) and set(found["what"]) == {"LV cavity", "LV myocardium"}
    assert (found["n"] == 1).all()
    starts = pd.read_csv(folder / "five" / "sslln_initialisation.csv")
    assert set(starts["start"]) == set(sslln_methods.STARTS) and len(starts) == 3 * 4


def test_real_hearts_are_refined_whatever_the_table(monkeypatch, tmp_path, capsys):
    from shapelab.experiments.sslln import refinement_acdc as refinement

    asked = []
    monkeypatch.setattr(refinement, "run", lambda **k: asked.append(k) or "a table")
    monkeypatch.setattr(refinement, "summary", lambda table: pd.DataFrame({"from": [table]}))
    assert sslln.run(4, data="acdc", root="r", profile="quick", output=tmp_path) == "a table"
    assert asked == [{"root": "r", "profile": "quick", "output": tmp_path, "progress": True}]
    assert "a table" in capsys.readouterr().out


def test_run_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(UsageError, match="table: found 7"):
        sslln.run(7)
    with pytest.raises(UsageError, match="data: found 'cetus'"):
        sslln.run(1, data="cetus")
