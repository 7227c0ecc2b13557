import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from shapelab.errors import UsageError
from shapelab.experiments import pathology, spaces
from shapelab.latent import classification
from shapelab.models.acnn import AEConfig, train_autoencoder

TINY = AEConfig(shape=(24, 24, 12), spacing=(6.0, 6.0, 10.0), widths=(4, 4, 4), bottleneck=16, code=8, epochs=1)
FAST = pathology.PathologyConfig(others=(), n_splits=4, n_repeats=1, permutations=3, epochs=1, phantoms=20)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of weights with a tiny autoencoder in the quick profile's place."""
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "weights"))
    labels, _ = spaces.phantom_shapes(4, TINY.grid, seed=9)
    space, _ = train_autoencoder(labels, TINY, seed=0, progress=False)
    space.save(tmp_path / "weights" / "acnn_ae_quick")
    # a tenth of the trees: the test is of what is put together, not of the forest
    monkeypatch.setitem(classification.MODELS, "forest", RandomForestClassifier(n_estimators=30, max_features="sqrt"))
    return tmp_path / "weights"


@pytest.mark.slow
def test_the_whole_experiment_on_phantoms(weights, tmp_path):
    options = {"data": "phantom", "profile": "quick", "progress": False, "config": FAST}
    result = pathology.run_whole(output=tmp_path / "out", **options)
    table = result.table
    assert set(table["features"]) == {"AE codes", "PCA codes", "AE codes, phantoms only", "volumes + EF",
                                      "shuffled labels", "random codes"}
    assert set(table["groups"]) == {"NOR/DCM/HCM", "NOR/DCM/HCM/MINF/RV"}
    assert set(table["phases"]) == {"ED", "ED+ES"} and len(table) == 6 * 2 * 2
    assert not table["saw_test_shapes"].any()
    assert table["accuracy"].between(0, 1).all() and (table["low"] <= table["accuracy"]).all()
    both = table[(table.groups == "NOR/DCM/HCM/MINF/RV") & (table.phases == "ED+ES")].set_index("features")
    assert both.loc["volumes + EF", "accuracy"] > 0.6 > both.loc["random codes", "accuracy"]
    assert both["n_features"].to_dict()["AE codes"] == 3 * 8

    paper = table[(table.groups == "NOR/DCM/HCM") & (table.features == "AE codes")].set_index("phases")["paper"]
    assert paper.to_dict() == {"ED": 0.833, "ED+ES": 0.916}
    assert table.loc[table.groups != "NOR/DCM/HCM", "paper"].isna().all()

    dice = result.reconstruction.set_index(["features", "structure"])["dice"]
    assert len(dice) == 9 and dice.between(0, 1).all() and (result.reconstruction["n"] == 40).all()

    written = pd.read_csv(tmp_path / "out" / "pathology_phantom.csv")
    assert np.allclose(written["accuracy"], table["accuracy"], atol=1e-5)
    about = json.loads((tmp_path / "out" / "pathology_phantom.json").read_text())
    assert about["profile"] == "quick" and about["config"]["n_splits"] == 4

    # an interrupted run goes on from the codes of the folds it had done: no space is fitted again
    def fail(*args, **kwargs):
        raise AssertionError("fitted again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pathology, "train_autoencoder", fail)
        again = pathology.run_whole(output=tmp_path / "out", **options)
    pd.testing.assert_frame_equal(again.table, table)


def test_bad_input_is_named(weights):
    with pytest.raises(UsageError, match="data: found 'moon'"):
        pathology.run("moon", profile="quick", progress=False)
    with pytest.raises(UsageError, match=r"groups: found \['NOR', 'ABC'\]"):
        pathology.run_whole("phantom", groups=["NOR", "ABC"], profile="quick", progress=False, config=FAST)
    with pytest.raises(UsageError, match="learned from its hearts"):
        pathology.run("phantom", profile="quick", seed=spaces.TRAINING_SEED, progress=False)


def test_profiles_differ_in_numbers_only():
    quick, full = (pathology.PathologyConfig.profile(p) for p in ("quick", "full"))
    assert (full.n_repeats, full.permutations) == (10, 999) and quick.n_splits == full.n_splits == 10
    assert replace(full, n_repeats=quick.n_repeats, permutations=quick.permutations, epochs=quick.epochs) == quick
