"""Table I: hearts in parts by patient, measures of hand-made cases, the table, and a run killed and gone on with."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from shapelab.data.volumes import HeartPairs
from shapelab.errors import DataError, UsageError
from shapelab.experiments.acnn import segmentation as table1
from shapelab.experiments.acnn import segmentation_tables as tables
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


# ------------------------------------------------------------------------------------------------------- the table


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
    plain = json.loads((tmp_path / "3D-Seg" / "about.json").read_text())
    assert about["prior"] is not None and plain["prior"] is None


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
