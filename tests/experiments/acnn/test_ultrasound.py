"""Table II: its numbers by hand, and a whole run of a tiny one, killed and taken up again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shapelab.errors import UsageError
from shapelab.experiments.acnn import ultrasound as table2
from shapelab.experiments.acnn.ultrasound import (
    METHODS,
    UltrasoundConfig,
    lv_plausibility,
    on_prior_grid,
)
from shapelab.models.acnn import AESpace, Autoencoder

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


def test_a_kept_prior_is_of_the_hearts_asked_for(tmp_path, monkeypatch):
    """Of 3 hearts and of 4 the autoencoder's own numbers are the same."""
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "none"))
    taught = []

    def train(labels, config, run, *, scheme, data):
        taught.append(len(labels))
        space = AESpace(config, scheme, model=Autoencoder(config))
        space.set_training_codes(np.eye(2, config.code, dtype=np.float32))
        space.metadata = {"data": data}
        return space, None

    monkeypatch.setattr(table2, "train_autoencoder", train)
    for hearts, made in ((3, [6]), (3, [6]), (4, [6, 8])):
        table2.shape_prior(replace(TINY, prior_hearts=hearts), tmp_path / "prior", progress=False)
        assert taught == made


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
