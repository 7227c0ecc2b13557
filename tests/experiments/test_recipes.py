"""`shapelab train`: what it refuses, what it leaves, that an interrupted run resumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shapelab.commands import main as cli
from shapelab.errors import UsageError
from shapelab.experiments import recipes as training
from shapelab.experiments.recipes import CHECKPOINTS, RECIPES, Recipe, listing, train
from shapelab.models.acnn import AESpace
from shapelab.spaces import load_network


@pytest.fixture
def recipe(monkeypatch):
    """A recipe that writes down its order, fails when told to, and leaves a model."""
    orders = []

    class Made:
        def save(self, folder, half=False):
            (folder / "model.json").write_text("{}")

    def make(order):
        order.checkpoint.mkdir(parents=True, exist_ok=True)
        orders.append(order)
        if order.epochs == 13:
            raise KeyboardInterrupt
        return Made()

    monkeypatch.setitem(RECIPES, "tiny", Recipe("a test", ("phantom", "acdc"), make))
    return orders


def test_the_order_is_handed_on(recipe, tmp_path):
    assert train("tiny", tmp_path / "net", hearts=4, epochs=2, seed=3, profile="quick") == tmp_path / "net"
    (order,) = recipe
    assert (order.model, order.data, order.profile, order.hearts, order.epochs, order.seed) == (
        "tiny",
        "phantom",
        "quick",
        4,
        2,
        3,
    )
    assert not (tmp_path / "net" / CHECKPOINTS).exists()


def test_an_interrupted_run_is_kept_and_goes_on_when_asked(recipe, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train("tiny", tmp_path, epochs=13)
    assert (tmp_path / CHECKPOINTS).is_dir()
    with pytest.raises(UsageError, match="interrupted training .*--resume"):
        train("tiny", tmp_path)
    train("tiny", tmp_path, resume=True)
    with pytest.raises(UsageError, match="found a trained network"):
        train("tiny", tmp_path, resume=True)


def test_resume_without_an_interrupted_run_says_so_and_begins(recipe, tmp_path):
    with pytest.warns(
        UserWarning, match=r"net: found no interrupted training that could be resumed; .* right folder\?"
    ):
        train("tiny", tmp_path / "net", resume=True)
    assert len(recipe) == 1 and [p.name for p in (tmp_path / "net").iterdir()] == ["model.json"]


@pytest.fixture
def interrupted(recipe, tmp_path):
    """A folder in which a training with a checkpoint was interrupted."""
    with pytest.raises(KeyboardInterrupt):
        train("tiny", tmp_path, epochs=13, seed=3, profile="quick")
    (tmp_path / CHECKPOINTS / "checkpoint.safetensors").write_text("")
    return tmp_path


@pytest.mark.parametrize("other", [{"seed": 4}, {"profile": "full"}, {"data": "acdc"}, {"model": "tinier"}])
def test_another_training_is_not_taken_for_the_interrupted_one(interrupted, monkeypatch, recipe, other):
    monkeypatch.setitem(RECIPES, "tinier", RECIPES["tiny"])
    order = {"model": "tiny", "seed": 3, "profile": "quick", **other}
    words = "; expected one of ".join(f"{name} {value}" for name, value in [*zip(other, [BEGUN[n] for n in other])])
    with pytest.raises(
        UsageError, match=f"output: found a training of {words} in .*begun with, or give another folder"
    ):
        train(output=interrupted, resume=True, **order)
    train("tiny", interrupted, resume=True, seed=3, profile="quick")
    assert [p.name for p in interrupted.iterdir()] == ["model.json"] and len(recipe) == 2


BEGUN = {"seed": 3, "profile": "quick", "data": "phantom", "model": "tiny"}


def test_two_trainings_at_once_need_two_folders(monkeypatch, tmp_path):
    def make(order):
        with pytest.raises(UsageError, match="output: found a run that is under way in .*wait for that one to end"):
            train("tiny", order.output, seed=1)
        raise KeyboardInterrupt

    monkeypatch.setitem(RECIPES, "tiny", Recipe("a test", ("phantom",), make))
    with pytest.raises(KeyboardInterrupt):
        train("tiny", tmp_path / "net")
    assert not (tmp_path / "net").exists()  # nothing was begun


@pytest.mark.parametrize("model", ["3d-seg", "autoencoder"])
def test_more_epochs_on_the_command_line_are_told_in_its_words(small, tmp_path, capsys, model):
    from shapelab.training import time_limit

    out = ["train", model, "-o", str(tmp_path / "net"), "--profile", "quick", "--hearts", "1", "--epochs"]
    with time_limit(0):
        assert cli.main([*out, "3"]) == 1
    assert cli.main([*out, "4", "--resume"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "epochs 3" in said and "epochs 4" in said and "is another run from its first step" in said
    assert "resume" not in said and said.endswith("give another output folder, or delete that file to begin anew.")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"model": "net"}, "model: found 'net'"),
        ({"model": "tiny", "data": "cetus"}, "data: found 'cetus'; expected one of phantom, acdc"),
        ({"model": "native-acnn", "data": "phantom"}, "expected one of acdc, folder$"),
        ({"model": "3d-seg", "data": "acdc"}, "data: found 'acdc'; expected one of phantom$"),
        ({"model": "native", "epochs": 3}, "counts training images"),
        ({"model": "tiny", "profile": "fast"}, "profile"),
    ],
)
def test_what_cannot_be_is_named(recipe, tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        train(output=tmp_path / "out", **arguments)
    assert not recipe


def test_a_data_set_of_another_scheme_is_named(hippocampus_root, tmp_path):
    order = training.Order("autoencoder", tmp_path, "hippocampus", hippocampus_root, "quick")
    with pytest.raises(UsageError, match="RV cavity"):
        order.cohort()


def test_the_list_names_every_model(capsys):
    assert [row[0] for row in listing()] == sorted(RECIPES)
    assert {"autoencoder", "tl", "native", "native-acnn", "acnn-seg-maug", "acnn-sr", "sslln-lr"} < set(RECIPES)
    assert cli.main(["train", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in RECIPES)


@pytest.fixture
def small(monkeypatch):
    """Profiles with few test hearts and small networks, so that each recipe is run as it is, in seconds."""
    from shapelab.experiments.acnn import segmentation as acnn_segmentation
    from shapelab.experiments.acnn import super_resolution as acnn_super_resolution

    for module, name in ((acnn_segmentation, "SegmentationConfig"), (acnn_super_resolution, "SuperResolutionConfig")):
        config_class = getattr(module, name)
        config = config_class.profile("quick")
        changes = {"network": replace(config.network, widths=(4, 4, 4, 4), batch=2)}
        if hasattr(config, "validation"):
            changes["validation"] = 1
        tiny = replace(config, **changes)
        monkeypatch.setattr(config_class, "profile", classmethod(lambda cls, profile=None, tiny=tiny: tiny))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["3d-seg", "acnn-seg-maug", "2d-fcn", "ae-seg", "sr", "sr-cnn"])
def test_a_network_is_trained_and_read_back(small, tmp_path, model):
    folder = train(model, tmp_path / model, profile="quick", hearts=1, epochs=1, progress=False)
    network = load_network(folder)
    assert network.task == ("sr" if model.startswith("sr") else "seg")
    assert network.metadata["data"] == "phantom" and np.isfinite(network.metadata["final"]["loss"])
    assert sorted(p.name for p in Path(folder).iterdir())[0] == "model.json"
    assert len(list(Path(folder).iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("model", ["sslln-hr", "sslln-lr"])
def test_sslln_is_trained_and_read_back(monkeypatch, tmp_path, model):
    from shapelab.experiments.sslln.laboratory import SSLLNExperiment
    from shapelab.models.sslln import SSLLN, SSLLNConfig

    tiny = SSLLNConfig(shape=(48, 48, 32), spacing=(4.0, 4.0, 4.0), widths=(4, 8), convs=(1, 1), merged=4)
    monkeypatch.setattr(SSLLNExperiment, "profile", classmethod(lambda cls, name=None: cls(network=tiny)))
    folder = train(model, tmp_path / model, profile="quick", hearts=2, epochs=1, progress=False)
    network = load_network(folder)
    assert isinstance(network, SSLLN) and network.scheme.names[-1] == "RV wall" and network.config.epochs == 1
    assert network.metadata["method"] == model.upper() and not (folder / CHECKPOINTS).exists()


@pytest.mark.slow
def test_the_autoencoder_is_trained_and_read_back(tmp_path):
    folder = train("autoencoder", tmp_path / "ae", profile="quick", hearts=3, epochs=1, progress=False)
    space = AESpace.load(folder)
    assert space.metadata["n"] == 6 and space.metadata["data"] == "3 phantom hearts, ED and ES, seed 20000"


@pytest.mark.slow
@pytest.mark.realdata
def test_real_hearts_are_those_of_the_folder(acdc_root, tmp_path):
    folder = train(
        "autoencoder", tmp_path / "ae", data="acdc", root=acdc_root, profile="quick", hearts=2, epochs=1, progress=False
    )
    assert AESpace.load(folder).metadata["n"] == 4
