import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from shapelab.errors import DataError, UsageError
from shapelab.experiments import shipped as spaces
from shapelab.experiments.acnn import pathology
from shapelab.latent import classification
from shapelab.models.acnn import AEConfig, train_autoencoder
from shapelab.models.acnn.predictor import PredictorConfig
from shapelab.models.acnn.tl import train_tl_network
from shapelab.places import weights_of
from shapelab.training import Run

GRID = {"shape": (24, 24, 12), "spacing": (6.0, 6.0, 10.0)}
TINY = AEConfig(**GRID, widths=(4, 4, 4), bottleneck=16, code=8, epochs=1)
TINY_TL = PredictorConfig(**GRID, widths=(4, 4, 8, 8), last=8, code=8, thick=0.0, epochs=1, joint_epochs=1)
FAST = pathology.PathologyConfig(others=(), n_splits=4, n_repeats=1, permutations=3, epochs=1, phantoms=20)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of weights with a tiny autoencoder and a tiny T-L network in the quick profile's place."""
    segmenter = weights_of("acnn_seg_native_quick")
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path / "weights"))
    labels, _ = spaces.phantom_shapes(4, TINY.grid, seed=9)
    space, _ = train_autoencoder(labels, TINY, run=Run(seed=0, progress=False))
    space.save(tmp_path / "weights" / "acnn_ae_quick")
    images, labels, _ = spaces.phantom_images(2, TINY.grid, 2, seed=9)
    tl, _ = train_tl_network(images, labels, TINY_TL, run=Run(seed=0, progress=False), autoencoder=space)
    tl.save(tmp_path / "weights" / "acnn_tl_quick")
    shutil.copytree(segmenter, tmp_path / "weights" / segmenter.name)
    # a tenth of the trees: the test is of what is put together, not of the forest
    monkeypatch.setitem(classification.MODELS, "forest", RandomForestClassifier(n_estimators=30, max_features="sqrt"))
    return tmp_path / "weights"


@pytest.mark.slow
def test_the_whole_experiment_on_phantoms(weights, tmp_path):
    options = {"data": "phantom", "profile": "quick", "progress": False, "config": FAST}
    result = pathology.run_whole(output=tmp_path / "out", **options)
    table = result.table
    assert set(table["features"]) == {
        "AE codes",
        "PCA codes",
        "T-L codes, images alone",
        "T-L codes, from images",
        "T-L codes, from labels",
        "AE codes, phantoms only",
        "volumes + EF",
        "shuffled labels",
        "random codes",
    }
    assert set(table["groups"]) == {"NOR/DCM/HCM", "NOR/DCM/HCM/MINF/RV"}
    assert set(table["phases"]) == {"ED", "ED+ES"} and len(table) == 9 * 2 * 2
    assert not table["saw_test_shapes"].any()
    assert table["accuracy"].between(0, 1).all() and (table["low"] <= table["accuracy"]).all()
    both = table[(table.groups == "NOR/DCM/HCM/MINF/RV") & (table.phases == "ED+ES")].set_index("features")
    assert both.loc["volumes + EF", "accuracy"] > 0.6 > both.loc["random codes", "accuracy"]
    assert both["n_features"].to_dict()["AE codes"] == 3 * 8

    paper = table[(table.groups == "NOR/DCM/HCM") & (table.features == "AE codes")].set_index("phases")["paper"]
    assert paper.to_dict() == {"ED": 0.833, "ED+ES": 0.916}
    assert table.loc[table.groups != "NOR/DCM/HCM", "paper"].isna().all()

    dice = result.reconstruction.set_index(["features", "structure"])["dice"]
    assert len(dice) == 15 and dice.between(0, 1).all() and (result.reconstruction["n"] == 40).all()
    assert result.agreement.shape == (8, 5) and result.agreement["share"].sum() == pytest.approx(1)

    written = pd.read_csv(tmp_path / "out" / "pathology_phantom.csv")
    assert np.allclose(written["accuracy"], table["accuracy"], atol=1e-5)
    about = json.loads((tmp_path / "out" / "pathology_phantom.json").read_text())
    assert len(about["poses not found"]) <= 2  # of 40: the native network finds the phantom's hearts
    assert about["profile"] == "quick" and about["config"]["n_splits"] == 4

    # an interrupted run resumes from the codes of the folds it had done: no space is fitted again
    def fail(*args, **kwargs):
        raise AssertionError("fitted again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pathology, "train_autoencoder", fail)
        again = pathology.run_whole(output=tmp_path / "out", **options)
    pd.testing.assert_frame_equal(again.table, table)


def test_agreement_of_codes_by_hand():
    true = pd.DataFrame({"z00": [0.0, 1.0, 2.0, 3.0], "z01": [1.0, 1.0, -1.0, -1.0]}, index=list("abcd"))
    read = pd.DataFrame({"z00": [1.0, 2.0, 3.0, 4.0], "z01": [1.0, -1.0, 1.0, -1.0]}, index=list("abcd"))
    table = pathology.code_agreement(read, true)
    assert table["r"].tolist() == pytest.approx([1.0, 0.0])
    assert table["explained"].tolist() == pytest.approx([1 - 1 / 1.25, 1 - 2 / 1.0])  # off by one; half wrong by 2
    assert table["share"].tolist() == pytest.approx([1.25 / 2.25, 1 / 2.25])
    assert table["sd labels"].tolist() == pytest.approx([np.sqrt(1.25), 1.0])
    for other in (read.loc[list("cadb")], read[["z01", "z00"]]):
        pd.testing.assert_frame_equal(pathology.code_agreement(other, true), table)
    with pytest.raises(DataError, match="code_agreement: found values for 'a', 'b', 'c', 'e'"):
        pathology.code_agreement(read.set_axis(list("abce")), true)
    with pytest.raises(UsageError, match=r"code_agreement: found codes \(4, 1\) and \(4, 2\)"):
        pathology.code_agreement(read[["z00"]], true)


@pytest.mark.slow
def test_codes_from_images_alone_take_their_pose_from_another_label_map(weights, tmp_path):
    options = {"data": "phantom", "profile": "quick", "groups": ["NOR", "DCM"], "progress": False, "config": FAST}
    cohort = spaces.cardiac_cohort("phantom", n=FAST.phantoms)
    own = {s.id: s.label for s in cohort}
    posed = pathology.run_whole(output=tmp_path / "a", refit=False, poses=own, **options).table
    assert "AE codes" not in set(posed["features"])
    accuracy = posed.set_index(["features", "phases"])["accuracy"].unstack(0)
    assert accuracy["T-L codes, images alone"].equals(accuracy["T-L codes, from images"])  # the same poses


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
