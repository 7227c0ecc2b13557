"""Table III of the ACNN paper: what is put together, on tiny networks and a handful of phantoms."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from shapelab.errors import UsageError
from shapelab.experiments.acnn import super_resolution as sr
from shapelab.experiments.acnn.super_resolution_tables import claims
from shapelab.models.acnn import AEConfig, SubPixelConfig, lr_stacks, predict_images
from shapelab.models.acnn.sr_baselines import Interpolation, Patches, PatchLoss
from shapelab.models.acnn.tl import PredictorConfig, train_tl_network
from shapelab.phantoms.pairs import heart_pairs
from shapelab.spaces import load_network
from shapelab.training import Run

SHAPE, SPACING = (24, 24, 12), (6.0, 6.0, 10.0)
NETWORK = SubPixelConfig(shape=SHAPE, spacing=SPACING, factor=2, n_out=1, widths=(4, 8, 8, 8))
TINY = sr.SuperResolutionConfig(
    network=NETWORK,
    layers=3,
    patch=16,
    train=3,
    test=2,
    epochs=2,
    sweep=(0.1,),
    shifts=(0.0, 4.0),
    repeats=1,
    paper_speed=False,
)


@pytest.fixture(scope="module")
def pairs():
    return heart_pairs(2, (SHAPE, SPACING), 2, seed=1)


@pytest.fixture(scope="module")
def prior(pairs):
    autoencoder = AEConfig(shape=SHAPE, spacing=SPACING, widths=(4, 4, 4), bottleneck=16, code=8, epochs=1)
    config = PredictorConfig(shape=SHAPE, spacing=SPACING, widths=(4, 4, 8, 8), code=8, epochs=1, joint_epochs=1)
    labels = pairs.scheme.integers(pairs.labels)
    space, _ = train_tl_network(pairs.images, labels, config, run=Run(progress=False), autoencoder=autoencoder)
    return space


@pytest.mark.slow
def test_the_whole_experiment(prior, tmp_path, monkeypatch):
    options = {"seeds": (0, 1), "output": tmp_path, "progress": False, "config": TINY, "prior": prior}
    result = sr.run_whole(profile="quick", **options)
    table = result.table
    assert table.groupby("condition", sort=False)["method"].apply(list).to_dict() == {
        "clean": list(sr.METHODS),
        "motion": list(sr.METHODS),
    }
    assert table["ssim"].between(-1, 1).all() and (table["sd"] >= 0).all() and (table["n_hearts"] == 4).all()
    assert table.set_index("method")["n_seeds"].to_dict() == dict(zip(sr.METHODS, (1, 1, 2, 2, 2, 2), strict=True))
    assert table["dice"].between(0, 1).all() and (table["seconds"] > 0).all()
    linear = table[table["method"] == "Linear"].set_index("condition")["ssim"]
    assert linear["clean"] > linear["motion"]  # slices that do not fit cost similarity
    assert table.loc[table["method"] == "ACNN-SR", "paper_ssim"].eq(0.796).all()
    assert table.groupby("condition")["p"].apply(lambda p: p.notna().sum()).eq(2).all()
    assert table.set_index("method")["parameters"].drop(["Linear", "B-spline"]).gt(0).all()

    assert result.sweep["weight"].unique().tolist() == [0, 0.01, 0.1]
    learned = result.sweep[result.sweep["weight"] > 0]
    assert np.allclose(learned["share"], learned["weight"] * learned["prior"] / learned["pixel"])
    assert result.sweep[result.sweep["weight"] == 0]["prior"].isna().all()
    assert len(result.motion) == 2 * len(sr.METHODS)
    still = result.motion[result.motion["shift_mm"] == 0].set_index("method")["ssim"]
    assert still["Linear"] == pytest.approx(linear["clean"], abs=1e-6)

    written = pd.read_csv(tmp_path / "acnn_table3_phantom.csv")
    assert np.allclose(written["ssim"], table["ssim"], atol=1e-5)
    about = json.loads((tmp_path / "acnn_table3_phantom.json").read_text())
    assert about["patients"] == {"train": 3, "test": 2} and about["config"]["network"]["factor"] == 2
    stacks = torch.rand(1, 24, 24, 6)
    again = predict_images(load_network(tmp_path / "table3" / "ACNN-SR"), stacks)
    assert np.allclose(again, predict_images(result.networks["ACNN-SR"], stacks), atol=1e-6)
    shown = sr.layout(table)
    assert shown.loc[("clean", "ACNN-SR"), "SSIM"].endswith("(0.796)") and "(" not in shown.loc[("clean", "SR"), "SSIM"]
    found = claims(result.hearts, result.speed)
    assert {"the prior helps", "SR beats SR-CNN"} < set(found["claim"]) and found[
        "holds"
    ].isna().sum() == 8  # two patients

    # a second run trains nothing
    monkeypatch.setattr(sr, "train_network", None)
    same = sr.run_whole(profile="quick", **options)
    assert np.allclose(same.table["ssim"], table["ssim"])


def test_parameters_are_matched():
    for profile in ("quick", "paper"):
        config = sr.SuperResolutionConfig.profile(profile)
        with torch.device("meta"):
            counts = {method: sr.count(sr.build(method, config)) for method in sr.METHODS[2:]}
        assert all(abs(n / counts["SR"] - 1) < 0.03 for n in counts.values()), counts
        if profile == "paper":
            assert abs(counts["ACNN-SR"] / 1.6e6 - 1) < 0.03  # Fig. 2 and Table I
    assert sr.count(sr.build("B-spline", TINY)) == 0


def test_networks_start_from_linear_interpolation_and_depend_on_the_seed():
    stack = torch.rand(1, 1, 24, 24, 6)
    for method in ("SR-CNN", "3D-UNet", "SR", "ACNN-SR"):
        network = sr.build(method, TINY, seed=3).eval()
        assert torch.equal(network(stack), Interpolation(2, "linear")(stack))
    weights = [next(sr.build("SR", TINY, seed).parameters()) for seed in (3, 3, 4)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_full_profile_tests_on_two_hundred_patients():
    assert sr.SuperResolutionConfig.profile("full").test >= 200
    assert sr.TRAINING_SEED != sr.TEST_SEED


def test_patches():
    torch.manual_seed(0)
    patches = Patches(Interpolation(2, "linear"), 4).train()
    stack, target = torch.rand(2, 1, 9, 8, 3), torch.rand(2, 1, 9, 8, 6)
    windows = set()
    for _ in range(20):
        output = patches(stack)
        x, y = patches.window
        windows.add((x.start, y.start))
        assert torch.equal(output, Interpolation(2, "linear")(stack[:, :, x, y]))
        wanted = torch.nn.functional.smooth_l1_loss(output, target[:, :, x, y])
        assert torch.isclose(PatchLoss(patches)(output, target)["loss"], wanted)
    assert len(windows) > 5 and max(x for x, _ in windows) <= 5 and max(y for _, y in windows) <= 4
    assert patches.eval()(stack).shape == target.shape
    assert PatchLoss(patches)(patches(stack), target)["loss"].ndim == 0


def test_evaluation_by_hand(pairs):
    class Truth(torch.nn.Module):
        """Gives the right answer, plus a tenth."""

        def forward(self, stack):
            return torch.from_numpy(pairs.images.astype(np.float32))[: len(stack), None] + 0.1

    table = sr.evaluate(Truth(), lr_stacks(pairs), pairs)
    assert table["heart"].tolist() == list(pairs.table.index) and table["dice"].isna().all()
    assert np.allclose(table["psnr"], 20.0, atol=1e-3)  # -10 log10(0.1^2)
    assert np.allclose(table["error"], 0.1, atol=1e-4)
    assert (table["ssim"] < 1).all()


def test_evaluation_reads_a_label_map(pairs, prior):
    table = sr.evaluate(Interpolation(2, "linear"), lr_stacks(pairs), pairs, prior)
    assert table["dice"].between(0, 1).all() and table["patient"].nunique() == 2


def test_pairs_without_breath_holds_get_some_drawn(pairs):
    still = replace(pairs, motion=np.zeros_like(pairs.motion))
    assert sr.training_inputs(TINY, still).motion is not None and sr.training_inputs(TINY, pairs).motion is None


@pytest.mark.parametrize("method", sr.SHIPPED)
def test_weights_are_trained_once_and_kept(method, tmp_path, monkeypatch, prior):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(sr.SuperResolutionConfig, "profile", classmethod(lambda cls, name=None: replace(TINY, train=2)))
    monkeypatch.setattr(sr, "tl_space", lambda profile, progress: prior)
    made = sr.phantom_sr(method, "quick", progress=False)
    monkeypatch.setattr(sr, "train_network", None)  # a second call trains nothing
    again = sr.phantom_sr(method, "quick", progress=False)
    stacks = torch.rand(1, 24, 24, 6)
    assert again.metadata["data"] == f"2 phantom patients, ED and ES, seed {sr.TRAINING_SEED}"
    assert np.allclose(predict_images(again, stacks), predict_images(made, stacks), atol=0.02)  # kept in 16 bits


def test_bad_arguments(tmp_path):
    with pytest.raises(UsageError, match="seeds"):
        sr.run(seeds=(0, 0), output=tmp_path)
    with pytest.raises(UsageError, match="data"):
        sr.run(data="acdc", output=tmp_path, profile="quick")
    with pytest.raises(UsageError, match="method"):
        sr.build("SRGAN", TINY)
    with pytest.raises(UsageError, match="method"):
        sr.phantom_sr("3D-UNet")
