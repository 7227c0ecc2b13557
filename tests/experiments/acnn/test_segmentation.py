"""Table I: hearts in parts by patient, measures of hand-made cases, the table, and a run killed and gone on with."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from shapelab.data.volumes import HeartPairs
from shapelab.errors import DataError, UsageError
from shapelab.experiments.acnn import segmentation as table1
from shapelab.experiments.acnn import segmentation_tables as tables
from shapelab.experiments.tables import printed
from shapelab.models.acnn import SubPixelConfig

NETWORK = SubPixelConfig(shape=(16, 16, 8), spacing=(9.0, 9.0, 15.0), factor=2, widths=(8, 8, 8, 8), batch=4)
CONFIG = table1.SegmentationConfig(training=4, validation=2, test=3, epochs=2, seeds=(0,), network=NETWORK)


@pytest.fixture
def make_pairs(tiny_heart):
    def make(patients: int, seed: int = 0, phases=("ED", "ES")) -> HeartPairs:
        rng = np.random.default_rng(seed)
        scales = rng.uniform(0.8, 1.1, patients)
        labels, rows = [], []
        for i, scale in enumerate(scales):
            for phase in phases:
                labels.append(tiny_heart((16, 16, 8), scale if phase == "ED" else 0.8 * scale))
                rows.append({"patient": f"p{seed}-{i}", "group": "NOR", "phase": phase})
        labels = np.stack(labels)
        images = np.clip(0.3 * labels + rng.normal(0, 0.03, labels.shape), 0, 1).astype(np.float16)
        index = [f"{r['patient']}_{r['phase']}" for r in rows]
        return HeartPairs(
            images,
            labels,
            np.zeros((len(labels), 4, 3), np.float32),
            pd.DataFrame(rows, index=index),
            NETWORK.spacing,
            2,
        )

    return make


@pytest.fixture
def phantoms(monkeypatch, make_pairs):
    """`heart_pairs` gives tiny hearts that are made at once."""

    def tiny(n, grid, factor, seed, mix, cache=None, progress=False):
        assert (grid.shape, factor) == (NETWORK.shape, NETWORK.factor)
        return make_pairs(n, seed, mix.phases)

    monkeypatch.setattr(table1, "heart_pairs", tiny)


def hand_made_cases() -> pd.DataFrame:
    """Two methods, two seeds, three hearts; Dice of the LV cavity is chosen, all else constant."""
    dice = {
        ("3D-Seg", 0): (0.8, 0.9, 0.7),
        ("3D-Seg", 1): (0.9, 0.9, 0.9),
        ("ACNN-Seg", 0): (0.9, 0.95, 0.9),
        ("ACNN-Seg", 1): (0.9, 0.95, 1.0),
    }
    rows = []
    for (method, seed), values in dice.items():
        for case, value in zip("abc", values, strict=True):
            for structure in tables.STRUCTURES:
                rows.append(
                    {
                        "case": case,
                        "patient": case,
                        "group": "NOR",
                        "phase": "ED",
                        "structure": structure,
                        "assd": 1.0,
                        "hd": 5.0,
                        "dice": value if structure == "LV cavity" else 0.5,
                        "missed": False,
                        "plausible": not (method == "3D-Seg" and case == "c"),
                        "violations": 2 * (method == "3D-Seg" and case == "c"),
                        "method": method,
                        "seed": seed,
                    }
                )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------- the table


def test_means_are_over_hearts_after_seeds_and_the_best_two_are_compared():
    cases = hand_made_cases()
    facts = [{"method": m, "parameters": 7, "seconds": s} for m, s in (("3D-Seg", 0.1), ("3D-Seg", 0.3))]
    table = table1.summarise(cases, facts).set_index(["structure", "measure", "method"])
    table = table.sort_index()
    ours = table.loc[("LV cavity", "dice")]
    assert ours.loc["3D-Seg", "mean"] == pytest.approx(np.mean([0.85, 0.9, 0.8]))
    assert ours.loc["3D-Seg", "sd"] == pytest.approx(np.std([0.85, 0.9, 0.8], ddof=1))
    assert ours.loc["3D-Seg", "sd_seeds"] == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert ours.loc["ACNN-Seg", "mean"] == pytest.approx(np.mean([0.9, 0.95, 0.95]))
    assert ours["rank"].to_dict() == {"3D-Seg": 2, "ACNN-Seg": 1}
    expected = stats.wilcoxon([0.9, 0.95, 0.95], [0.85, 0.9, 0.8]).pvalue
    assert ours["p"].tolist() == pytest.approx([expected, expected])
    assert ours.loc["3D-Seg", "paper_mean"] == 0.923 and ours.loc["ACNN-Seg", "paper_sd"] == 0.017
    assert ours.loc["3D-Seg", "n"] == 3 and ours.loc["3D-Seg", "n_seeds"] == 2
    assert ours.loc["3D-Seg", "seconds"] == pytest.approx(0.2) and ours.loc["3D-Seg", "parameters"] == 7
    assert ours.loc["3D-Seg", "paper_parameters"] == 1.60e6
    hearts = table.loc["heart"]["mean"]
    assert hearts["plausible"].to_dict() == pytest.approx({"3D-Seg": 2 / 3, "ACNN-Seg": 1})
    assert hearts["violations"].to_dict() == pytest.approx({"3D-Seg": 2 / 3, "ACNN-Seg": 0})
    assert table.loc["heart"].loc["violations"]["rank"].to_dict() == {"3D-Seg": 2, "ACNN-Seg": 1}


def test_a_missed_structure_is_counted_and_never_wins():
    cases = hand_made_cases()
    gone = (cases.method == "ACNN-Seg") & (cases.seed == 0) & (cases.case == "a") & (cases.structure == "LV cavity")
    cases.loc[gone, ["assd", "hd", "dice", "missed"]] = [np.inf, np.inf, 0.0, True]
    table = table1.summarise(cases).set_index(["structure", "measure", "method"])
    row = table.loc[("LV cavity", "hd", "ACNN-Seg")]
    assert row["n_missed"] == 1 and row["mean"] == 5.0 and row["rank"] == 2
    assert table.loc[("LV cavity", "dice", "ACNN-Seg"), "mean"] == pytest.approx(np.mean([0.45, 0.95, 0.95]))
    assert "[1 missed]" in table1.layout(table1.summarise(cases)).loc["ACNN-Seg", "endocardium hd"]


def test_methods_that_differ_in_one_thing_are_compared_heart_by_heart():
    found = tables.contrasts(hand_made_cases()).set_index(["differs", "structure", "measure"])
    row = found.loc[("prior", "LV cavity", "dice")]
    with_prior, without = [0.9, 0.95, 0.95], [0.85, 0.9, 0.8]
    assert row["mean"] == pytest.approx(np.mean(with_prior)) and row["mean_other"] == pytest.approx(np.mean(without))
    assert row["difference"] == pytest.approx(np.mean(with_prior) - np.mean(without)) and row["better"]
    assert row["p"] == pytest.approx(stats.wilcoxon(with_prior, without).pvalue) and row["effect"] == 1
    assert set(found.index.get_level_values("differs")) == {"prior"} and row["n"] == 3  # the others are not there
    assert set(found.index.get_level_values("measure")) == {"assd", "hd", "dice", "violations"}
    assert tables.contrasts(hand_made_cases().query("method == '3D-Seg'")).empty


def test_only_the_phase_asked_for_counts():
    cases = hand_made_cases()
    other = cases.assign(phase="ES", dice=0.0)
    both = pd.concat([cases, other])
    pd.testing.assert_frame_equal(table1.summarise(both), table1.summarise(cases))
    assert (table1.summarise(both, phase="ES").query("measure == 'dice'")["mean"] == 0).all()
    with pytest.raises(UsageError, match="phase: found 'XX'"):
        table1.summarise(cases, phase="XX")


def test_the_printed_table_has_the_papers_numbers_beside_ours():
    facts = [{"method": m, "parameters": 413_332, "seconds": 0.0213} for m in ("3D-Seg", "ACNN-Seg")]
    wide = table1.layout(table1.summarise(hand_made_cases(), facts))
    assert wide.loc["ACNN-Seg", "endocardium dice"] == "0.933±0.029 (0.939±0.017)"
    assert wide.loc["3D-Seg", "myocardium hd"] == "5.00±0.00 (10.15±10.58)"
    assert wide.loc["3D-Seg", "RV dice"] == "0.500±0.000"
    assert wide.loc["3D-Seg", "plausible"] == "67 %" and wide.loc["3D-Seg", "s / volume"] == "0.021"
    assert wide.loc["3D-Seg", "parameters"] == "413,332 (1,600,000)"
    assert wide.loc["p, two best", "endocardium dice"].startswith("p = ")
    assert wide.loc["p, two best", "parameters"] == ""


def test_the_papers_table_is_as_printed():
    paper = printed("acnn", "I").pivot(index="method", columns=["what", "measure"], values="mean")
    assert set(paper.index) == {"2D-FCN", "3D-Seg", "3D-UNet", "AE-Seg", "3D-Seg-MAug", "AE-Seg-M", "ACNN-Seg"}
    best = {
        ("LV cavity", 0): "ACNN-Seg",
        ("LV cavity", 1): "AE-Seg-M",
        ("LV cavity", 2): "ACNN-Seg",
        ("LV myocardium", 0): "ACNN-Seg",
        ("LV myocardium", 1): "AE-Seg-M",
        ("LV myocardium", 2): "ACNN-Seg",
    }
    for (structure, column), method in best.items():
        values = paper[structure, tables.MEASURES[column]]
        assert (values.idxmax() if column == 2 else values.idxmin()) == method
    assert paper["LV cavity"].sum().tolist() == pytest.approx([11.80, 63.94, 6.474])  # columns added up by hand
    assert paper["LV myocardium"].sum().tolist() == pytest.approx([9.85, 61.51, 5.430])


# ------------------------------------------------------------------------------------------------------- the cases


def test_cases_of_a_perfect_and_of_an_empty_segmentation(make_pairs):
    pairs = make_pairs(2)
    perfect = table1.evaluate_cases(pairs.labels, pairs)
    assert len(perfect) == 4 * 3 and set(perfect["structure"]) == set(tables.STRUCTURES)
    assert (perfect["dice"] == 1).all() and (perfect["hd"] == 0).all() and not perfect["missed"].any()
    assert perfect["phase"].tolist()[:6] == ["ED"] * 3 + ["ES"] * 3
    empty = table1.evaluate_cases(np.zeros_like(pairs.labels), pairs)
    assert (empty["dice"] == 0).all() and np.isinf(empty["hd"]).all() and empty["missed"].all()
    assert not empty["plausible"].any() and (empty["violations"] >= 3).all()


def test_a_hole_in_the_wall_is_implausible(make_pairs):
    pairs = make_pairs(1, phases=("ED",))
    assert table1.evaluate_cases(pairs.labels, pairs)["plausible"].all()
    broken = pairs.labels.copy()
    x, y, z = np.argwhere(broken[0] == 2)[0]
    broken[0, :, :, z][broken[0, :, :, z] == 2] = 0  # no wall in one slice: its cavity lies open
    found = table1.evaluate_cases(broken, pairs)
    assert not found["plausible"].any() and (found["violations"] > 0).all()


# ------------------------------------------------------------------------------------------------------- the data


def test_phantoms_of_the_parts_come_from_different_seeds(phantoms):
    parts = table1.load_pairs("phantom", CONFIG)
    assert [len(parts[n]) for n in ("training", "validation", "test")] == [8, 4, 6]
    assert len({p for part in parts.values() for p in part.table["patient"]}) == 4 + 2 + 3
    assert "validation" not in table1.load_pairs("phantom", replace(CONFIG, validation=0))


# ------------------------------------------------------------------------------------------------------- a run


@pytest.mark.slow
def test_a_run_its_files_and_going_on(phantoms, monkeypatch, tmp_path):
    options = {"profile": "quick", "output": tmp_path, "config": CONFIG, "progress": False}
    table = table1.run(methods=["2D-FCN", "3D-Seg"], **options)
    assert table.set_index(["method", "structure", "measure"]).index.is_unique
    assert list(dict.fromkeys(table["method"])) == ["2D-FCN", "3D-Seg"]
    assert (table["n"] == 3).all() and table.query("measure == 'dice'")["mean"].between(0, 1).all()
    written = pd.read_csv(tmp_path / "acnn_table1_phantom.csv")
    assert np.allclose(written["mean"], table["mean"], rtol=1e-3, equal_nan=True)
    cases = pd.read_csv(tmp_path / "acnn_table1_phantom_cases.csv")
    assert len(cases) == 2 * 6 * 3 and set(cases["phase"]) == {"ED", "ES"}
    about = json.loads((tmp_path / "acnn_table1_phantom.json").read_text())
    assert about["config"]["epochs"] == 2 and {r["method"] for r in about["runs"]} == {"2D-FCN", "3D-Seg"}
    assert {"date", "machine", "torch", "shapelab"} <= set(about)
    network = table1.trained_network(tmp_path / "table1_phantom" / "3d-seg-0")
    assert network(torch.zeros(1, 1, 16, 16, 4)).shape == (1, 4, 16, 16, 8)
    assert not list(tmp_path.rglob("checkpoint.safetensors"))

    def fail(*args, **kwargs):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:  # what is done is not done again
        patch.setattr(table1, "train_network", fail)
        again = table1.run(methods=["2D-FCN", "3D-Seg"], **options)
        pd.testing.assert_frame_equal(again, table, check_exact=False, rtol=1e-3, check_dtype=False)
        with pytest.raises(AssertionError, match="trained again"):
            table1.run(methods=["3D-UNet"], **options)
        with pytest.raises(DataError, match="results of another run"):
            table1.run(methods=["3D-Seg"], **{**options, "config": replace(CONFIG, epochs=3)})


def test_each_method_is_trained_as_its_name_says(phantoms, monkeypatch, tmp_path):
    seen = {}

    def record(network, pairs, loss, run, *, inputs, **options):
        seen[len(seen)] = (type(network).__name__, loss.weight, inputs.motion is not None, run.seed)
        return network, type("History", (), {"last": {}})()

    monkeypatch.setattr(table1, "train_network", record)
    monkeypatch.setattr(table1, "phantom_autoencoder_for", lambda *a, **k: torch.nn.Identity())
    monkeypatch.setattr(table1, "ACNNLoss", lambda prior, weight: type("Loss", (), {"weight": weight})())
    pairs = table1.load_pairs("phantom", CONFIG)
    for method in table1.ORDER:
        table1.run_method(method, 5, pairs, CONFIG, tmp_path / method, progress=False)
    assert dict(zip(table1.ORDER, seen.values(), strict=True)) == {
        "3D-Seg": ("SubPixelNet", 0.0, False, 5),
        "ACNN-Seg": ("SubPixelNet", 0.1, False, 5),
        "3D-Seg-MAug": ("SubPixelNet", 0.0, True, 5),
        "ACNN-Seg-MAug": ("SubPixelNet", 0.1, True, 5),
        "2D-FCN": ("FCN2D", 0.0, False, 5),
        "3D-UNet": ("UNet3D", 0.0, False, 5),
        "AE-Seg": ("AESeg", 1.0, False, 5),
        "AE-Seg-M": ("AESegM", 1.0, False, 5),
    }  # the cascade's own weight
    about = json.loads((tmp_path / "ACNN-Seg" / "about.json").read_text())
    assert about["weight"] == CONFIG.weight and about["n_training"] == 8


def test_shipped_networks_are_read_or_trained(phantoms, monkeypatch, tmp_path):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(table1.SegmentationConfig, "profile", classmethod(lambda cls, name=None: CONFIG))
    made = table1.phantom_network("2D-FCN", "quick", progress=False)
    assert (tmp_path / "acnn_fcn_quick" / "model.json").is_file()

    monkeypatch.setattr(table1, "train_network", None)  # now it is read
    again = table1.phantom_network("2D-FCN", "quick", progress=False)
    assert again.metadata["method"] == "2D-FCN" and again.metadata["weight"] == 0
    stack = torch.rand(1, 1, 16, 16, 4)
    with torch.no_grad():
        assert torch.allclose(made(stack), again(stack), atol=0.05)  # kept in fp16
    with pytest.raises(UsageError, match="method: found 'AE-Seg'"):
        table1.phantom_network("AE-Seg", "quick")


def test_profiles():
    quick, full, paper = (table1.SegmentationConfig.profile(p) for p in ("quick", "full", "paper"))
    assert full.test >= 200 and paper.training == 900 and paper.validation == 100 and paper.phases == ("ED",)
    assert paper.network == SubPixelConfig.profile("paper")
    assert quick.network == SubPixelConfig.profile("quick", batch=4, learning_rate=4e-3)
    assert (paper.network.batch, paper.network.learning_rate, paper.network.weight_decay) == (8, 1e-3, 5e-6)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UsageError, match="data: found 'moon'"):
        table1.load_pairs("moon", CONFIG)
    with pytest.raises(UsageError, match=r"methods: found \['V-Net'\]"):
        table1.run(methods=["V-Net"], profile="quick", output=tmp_path)
    with pytest.raises(UsageError, match="expected hearts, epochs and seeds from 1"):
        table1.SegmentationConfig(training=0)
