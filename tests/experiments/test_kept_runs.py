"""Results under their key: written, found again, refused for another; folders that an earlier shapelab left are read.

tests/experiments/kept was made by the commit 7421e51, with the numbers below.
"""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shapelab.data.scheme import CARDIAC
from shapelab.data.volumes import HeartPairs
from shapelab.errors import DataError, UsageError
from shapelab.experiments.acnn import segmentation as table1
from shapelab.experiments.acnn import super_resolution as table3
from shapelab.experiments.kept_runs import (
    ANY,
    BEFORE,
    Study,
    kept_network,
    measured,
    plain,
    seeds_of,
    slug,
    weights_key,
)
from shapelab.experiments.sslln.hearts import Degradation
from shapelab.experiments.sslln.laboratory import Laboratory, SSLLNExperiment
from shapelab.models.acnn import SubPixelConfig, SubPixelNet
from shapelab.models.sslln import SSLLNConfig
from shapelab.training import History

KEPT = Path(__file__).parent / "kept"
GRID = {"shape": (16, 16, 8), "spacing": (9.0, 9.0, 15.0), "factor": 2}
NETWORK = SubPixelConfig(**GRID, widths=(4, 4, 4, 4), batch=4)
KEY = {"seed": 0, "sizes": (1, 2)}


@pytest.fixture
def kept(tmp_path):
    """A copy of what an earlier shapelab kept."""
    return Path(shutil.copytree(KEPT, tmp_path / "kept"))


def make():
    return {"cases": pd.DataFrame({"dice": [0.1234567]}), "landmarks": None}, {"seconds": 3}


def test_results_are_made_once(tmp_path):
    study = Study(tmp_path / "new")
    tables, about = study.kept(KEY, make)
    assert list(tables) == ["cases"] and about["seconds"] == 3 and about["sizes"] == [1, 2]
    assert {"shapelab", "machine", "torch", "date"} <= set(about)
    again, facts = study.kept(KEY, None)  # nothing is made
    assert facts == about and again["cases"]["dice"].tolist() == [0.12346]
    assert sorted(p.name for p in study.folder.iterdir()) == ["about.json", "cases.csv"]
    with pytest.raises(DataError, match=r"about.json: found results of another run; expected those of .*'seed': 1"):
        study.kept({**KEY, "seed": 1}, make)


def test_parts_of_a_folder_are_kept_beside_each_other(tmp_path):
    places = pd.DataFrame({"error": [2.0]})
    Study(tmp_path).kept(KEY, lambda: ({**make()[0], "landmarks": places}, {}), part="_healthy")
    Study(tmp_path).kept({**KEY, "seed": 1}, make, part="_PH")
    tables, _ = Study(tmp_path).kept(KEY, None, part="_healthy")
    assert tables["landmarks"]["error"].tolist() == [2.0]
    assert len(list(tmp_path.iterdir())) == 5


def test_tables_are_written_with_their_facts(tmp_path):
    table = pd.DataFrame({"ssim": [0.123456789]})
    Study(tmp_path).write(
        "t", {"": table, "_cases": table}, {"data": "phantom", "seeds": (0,)}, digits=6, facts="_facts"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t_cases.csv", "t_facts.json"]
    assert (tmp_path / "t.csv").read_text() == "ssim\n0.123457\n"
    about = json.loads((tmp_path / "t_facts.json").read_text())
    assert list(about)[:3] == ["data", "seeds", "shapelab"] and about["seeds"] == [0]


def test_without_a_folder_nothing_is_kept():
    tables, facts = Study(None).kept(KEY, make)
    assert list(tables) == ["cases"] and facts == {"seconds": 3}
    with pytest.raises(UsageError, match="Study: found no folder"):
        Study(None).write("t", {"": tables["cases"]}, facts)


def test_the_door(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "paper")
    assert Study.of("acnn") == Study(Path("results/acnn"), "paper")
    assert Study.of("acnn", tmp_path, "quick", "here", False) == Study(tmp_path, "quick", "here", False)
    with pytest.raises(UsageError, match="profile"):
        Study.of("acnn", profile="fast")


def test_seeds():
    assert seeds_of(None, (0, 1)) == (0, 1) and seeds_of([3.0], (0,)) == (3,)
    for wrong in ([], [1, 1]):
        with pytest.raises(UsageError, match="seeds: found .*; expected one or more, each once"):
            seeds_of(wrong, (0,))


def test_names_of_folders_and_what_json_gives_back():
    names = ("ACNN-Seg-MAug", "predictor + decoder", "SSLLN-LR+SR, aligned", "2D FCN")
    assert [slug(n) for n in names] == ["acnn-seg-maug", "predictor-decoder", "sslln-lr-sr-aligned", "2d-fcn"]
    assert plain({"a": (1, (2,))}) == {"a": [1, [2]]}


@pytest.mark.parametrize("checkpoint", ["training", ""])
def test_a_network_is_trained_once(tmp_path, checkpoint):
    def train(folder):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "checkpoint.safetensors").write_text("")
        network = SubPixelNet(NETWORK)
        network.task, network.scheme, network.metadata = "seg", CARDIAC, {"data": "none"}
        return network

    made = kept_network(tmp_path / "one", train, KEY, checkpoint)
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["network"]
    again = kept_network(tmp_path / "one", None, KEY, checkpoint)
    assert again.metadata["data"] == "none"
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))
    assert kept_network(None, train, KEY).metadata == {"data": "none"}
    with pytest.raises(
        DataError, match=r"key.json: found a network of another run; .* seed is 0 there and 1 here\. Use an"
    ):
        kept_network(tmp_path / "one", train, {**KEY, "seed": 1}, checkpoint)
    (tmp_path / "one" / "network" / "key.json").unlink()  # as an earlier shapelab left it: taken as it is
    kept_network(tmp_path / "one", None, {**KEY, "seed": 1}, checkpoint)


def test_fields_that_an_older_key_lacks_mean_what_they_did(tmp_path):
    study = Study(tmp_path)
    study.kept(KEY, make)
    younger = {**KEY, "prior": "new"}
    for before, found in (({"prior": "new"}, True), ({"prior": ANY}, True), ({"prior": "old"}, False), ({}, False)):
        if found:
            study.kept(younger, None, before=before)
        else:
            with pytest.raises(DataError, match=f"prior is {before.get('prior')} there and new here"):
                study.kept(younger, None, before=before)
    (tmp_path / "about.json").unlink()
    study.kept(younger, make)
    with pytest.raises(DataError, match="prior is new there and newer here"):
        study.kept({**KEY, "prior": "newer"}, None, before={"prior": ANY})


def test_what_shipped_when_keys_named_no_prior():
    """The numbers stay when other weights ship: results of then are results of those."""
    assert BEFORE == {"quick": ("f8a32509", "1adbe3d8")}


def test_measured_tables_are_read_from_the_repository():
    found = measured("acnn_table1_phantom")
    assert {"method", "structure", "measure", "mean", "sd", "paper_mean"} <= set(found.columns)
    assert {"3D-Seg", "ACNN-Seg", "2D-FCN"} <= set(found["method"])
    with pytest.raises(DataError, match="no such file"):
        measured("acnn_table9")


# ------------------------------------------------------------------------------------- folders of an earlier shapelab


def test_table_one_reads_what_was_kept(kept, monkeypatch):
    config = table1.SegmentationConfig(training=2, validation=0, test=1, epochs=1, seeds=(0,), network=NETWORK)
    pairs = table1.load_pairs("phantom", config)
    monkeypatch.setattr(table1, "train_network", None)
    folder = kept / "table1_phantom" / "3d-seg-maug-0"
    cases, about = table1.run_method("3D-Seg-MAug", 0, pairs, config, folder, progress=False)
    assert len(cases) == 6 and about["parameters"] > 0 and about["date"] == "2026-11-27"
    with pytest.raises(DataError, match="results of another run"):
        table1.run_method("3D-Seg", 0, pairs, config, folder, progress=False)
    (folder / "cases.csv").unlink()  # measured again, with the network that is there
    again, _ = table1.run_method("3D-Seg-MAug", 0, pairs, config, folder, progress=False)
    assert again["case"].tolist() == cases["case"].tolist() and np.allclose(again["dice"], cases["dice"], atol=0.02)


def test_table_one_is_of_its_prior_its_lambda_and_its_hearts(tmp_path, monkeypatch):
    """With the prior, whose keys once named none: f8a32509 is the autoencoder that shipped then."""
    config = table1.SegmentationConfig(training=1, validation=0, test=1, epochs=1, seeds=(0,), network=NETWORK)
    pairs, folder = table1.load_pairs("phantom", config), tmp_path / "acnn-seg-0"
    shipped = table1.phantom_autoencoder_for(NETWORK)

    def run(method="ACNN-Seg", hearts=pairs):
        return table1.run_method(method, 0, hearts, config, folder, progress=False)

    run()
    about, key = (json.loads((folder / name).read_text()) for name in ("about.json", "network/key.json"))
    assert about["prior"] == key["prior"] == weights_key(shipped)
    monkeypatch.setattr(table1, "train_network", None)
    flipped = table1.replace(pairs["training"], images=pairs["training"].images[::-1].copy())
    with pytest.raises(DataError, match="training pairs is .* there and .* here"):
        run(hearts={**pairs, "training": flipped})
    older = {k: v for k, v in about.items() if k not in ("prior", "training pairs", "test pairs")}
    other = copy.deepcopy(shipped)
    next(iter(other.model.parameters())).data.add_(1)
    monkeypatch.setattr(table1, "phantom_autoencoder_for", lambda *_: other)
    for kept in (about, older):
        (folder / "about.json").write_text(json.dumps(kept))
        with pytest.raises(DataError, match=f"prior is f8a32509 there and {weights_key(other)} here"):
            run()
    (folder / "about.json").unlink()  # the network alone
    with pytest.raises(DataError, match="key.json: found a network of another run; .*prior is f8a32509 there"):
        run()


def test_table_three_reads_what_was_kept(kept, monkeypatch):
    network = SubPixelConfig(**GRID, n_out=1, widths=(2, 4, 4, 4))
    config = table3.SuperResolutionConfig(network=network, layers=2, patch=8, train=1, test=1, epochs=1)
    labels = np.zeros((2, *GRID["shape"]), np.uint8)
    labels[:, 4:12, 4:12, 2:6], labels[:, 6:10, 6:10, 2:6] = 2, 3
    images = (np.arange(labels.size).reshape(labels.shape) % 97 / 97).astype(np.float16)
    table = pd.DataFrame({"patient": ["one", "one"], "phase": ["ED", "ES"]}, index=["one_ED", "one_ES"])
    pairs = HeartPairs(images, labels, np.zeros((2, 4, 3), np.float32), table, GRID["spacing"], 2)
    monkeypatch.setattr(table3, "train_network", None)
    trainer = table3._Trainer(config, pairs, None, kept / "table3" / "networks", False)
    for method in ("SR", "SR-CNN"):
        network, history = trainer(method, 0)
        assert np.isfinite(history.last["loss"]) and table3.count(network) > 0
    monkeypatch.setattr(table3, "train_method", lambda *a: (table3.build("SR", config), History()))
    moved = table3.replace(pairs, motion=pairs.motion + 1)
    table3._Trainer(config, pairs, None, kept / "new", False)("SR", 0)
    monkeypatch.setattr(table3, "train_method", None)
    table3._Trainer(config, pairs, None, kept / "new", False)("SR", 0)
    with pytest.raises(TypeError):  # slices that moved otherwise: trained
        table3._Trainer(config, moved, None, kept / "new", False)("SR", 0)
    with pytest.raises(TypeError):  # other numbers: trained
        table3._Trainer(table3.replace(config, noise=0.1), pairs, None, trainer.folder, False)("SR", 0)


def test_sslln_reads_what_was_kept(kept, monkeypatch):
    network = SSLLNConfig(
        shape=(32, 32, 16),
        spacing=(6.0, 6.0, 8.0),
        widths=(4, 4),
        convs=(1, 1),
        merged=4,
        crop=(16, 16, 16),
        epochs=1,
        baseline_epochs=1,
        slices=4,
    )
    one = dict.fromkeys(("training", "healthy", "PH", "atlases", "compared", "n_atlases"), 1)
    config = SSLLNExperiment(**one, degradation=Degradation(2, 2.0, 1), network=network, acnn=NETWORK)
    monkeypatch.setattr("shapelab.experiments.sslln.laboratory.train_sslln", None)
    laboratory = Laboratory(config, kept / "phantom_quick")
    cases, places = laboratory.cases("SSLLN-HR")
    assert len(cases) == 4 and len(places) == 6 and places["seed"].eq(0).all()
    assert laboratory.network("SSLLN-HR").metadata["method"] == "SSLLN-HR"
    other = Laboratory(table1.replace(config, training=2), kept / "phantom_quick")
    with pytest.raises(DataError, match="results of another run"):
        other.cases("SSLLN-HR")
