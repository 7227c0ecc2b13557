"""The methods that SSLLN's tables compare, with networks that know the answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shapelab.data.volumes import LandmarkedVolumes
from shapelab.errors import DataError, UsageError
from shapelab.experiments.sslln import laboratory as sslln_methods
from shapelab.experiments.sslln.hearts import Degradation, slices_of
from shapelab.experiments.sslln.laboratory import Laboratory, SSLLNExperiment
from shapelab.phantoms import LANDMARKS


def test_refinement_with_perfect_networks_restores_what_was_cut_off(config, folder, oracle):
    laboratory = Laboratory(replace(config, degradation=Degradation(2, 0.0, 1)), folder, seed=3)
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


def test_results_are_kept_and_those_of_another_run_refused(config, folder, oracle, monkeypatch):
    kept, _ = Laboratory(config, folder).cases("SSLLN-LR+SR", "PH")
    monkeypatch.setattr(Laboratory, "_segment", None)  # nothing is made a second time
    again, _ = Laboratory(config, folder).cases("SSLLN-LR+SR", "PH")
    pd.testing.assert_frame_equal(kept, again, rtol=1e-4)
    with pytest.raises(DataError, match="results of another run"):
        Laboratory(replace(config, n_atlases=1), folder).cases("SSLLN-LR+SR", "PH")


def test_a_kept_network_is_of_its_numbers_and_hearts(config, folder, monkeypatch):
    Laboratory(config, folder, seed=5).network("SSLLN-LR")
    monkeypatch.setattr(sslln_methods, "train_sslln", None)  # none is trained a second time
    Laboratory(replace(config, atlases=1, n_atlases=1), folder, seed=5).network("SSLLN-LR")
    for changes, words in (
        ({"training": 3}, "training is 4 there and 3 here"),
        ({"network": replace(config.network, alpha=1.0)}, "network.alpha is 32.0 there and 1.0 here"),
        ({"degradation": Degradation(2, 1.0, 1)}, "degradation.shift_mm is 2.0 there and 1.0 here"),
    ):
        with pytest.raises(DataError, match=f"key.json: found a network of another run; .*{words}"):
            Laboratory(replace(config, **changes), folder, seed=5).network("SSLLN-LR")


def test_a_heart_that_cannot_be_refined_counts_as_missed(config, folder, oracle, monkeypatch):
    nothing = lambda network, images: (np.zeros(images.shape, np.uint8), np.zeros((len(images), 6, 3)))  # noqa: E731
    laboratory = Laboratory(config, folder, seed=7)
    assert len(laboratory.atlases) == 2
    monkeypatch.setattr(sslln_methods, "predict", nothing)
    with pytest.warns(UserWarning, match="without labels"):
        cases, _ = laboratory.cases("SSLLN-LR+SR", "PH")
    assert cases["missed"].all() and (cases["dice"] == 0).all()


def test_multi_atlas_finds_the_heart_from_its_landmarks(config, folder, oracle):
    cases, _ = Laboratory(config, folder).cases("multi-atlas")
    assert len(cases) == 4 and cases.set_index("label").loc["LV cavity", "dice"] > 0.6


def test_wrong_names_are_refused(config, folder):
    laboratory = Laboratory(config, folder)
    with pytest.raises(UsageError, match="'3D-Net'"):
        laboratory.cases("3D-Net")
    with pytest.raises(UsageError, match="'training'"):
        laboratory.cases("SSLLN-HR", "training")
    with pytest.raises(UsageError, match="'SSLLN'"):
        laboratory.network("SSLLN")
    with pytest.raises(UsageError, match="'guess'"):
        next(laboratory.refinements("healthy", start="guess"))
    with pytest.raises(UsageError, match="more compared"):
        replace(config, compared=3)
    with pytest.raises(UsageError, match="'SSLLN-LR\\+SR'"):
        sslln_methods.phantom_sslln("SSLLN-LR+SR")


def test_profiles():
    assert SSLLNExperiment.profile("paper").network.shape == (192, 192, 80)
    assert SSLLNExperiment.profile("paper").training == 1000 and SSLLNExperiment.profile("full").degradation.factor == 5


def test_a_landmark_without_a_true_place_is_no_error():
    labels = np.zeros((2, 4, 4, 3), np.uint8)
    places = np.zeros((2, len(LANDMARKS), 3))
    places[0, 0] = np.nan  # the truth of one is not known; of another heart one was not found
    volumes = LandmarkedVolumes(labels / 1.0, labels, places, pd.DataFrame(index=["a", "b"]), (1.0, 1.0, 2.0))
    found = np.ones((2, len(LANDMARKS), 3))
    found[1, 2] = np.nan
    table = sslln_methods.landmark_errors(found, volumes).set_index(["id", "landmark"])["error"]
    assert ("a", LANDMARKS[0]) not in table and len(table) == 2 * len(LANDMARKS) - 1
    assert np.isnan(table["b", LANDMARKS[2]]) and table.dropna().tolist() == pytest.approx([6**0.5] * (len(table) - 1))
