"""Spaces and networks in folders: those of before, those of one's own, and what is said of broken ones."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shapelab import device
from shapelab.data.grid import Grid
from shapelab.data.scheme import CARDIAC, LabelScheme
from shapelab.errors import DataError, UsageError
from shapelab.models.acnn import SubPixelConfig, SubPixelNet
from shapelab.models.two_stage import Volume
from shapelab.spaces import PCASpace, ShapeSpace, load, load_network, save_network
from shapelab.spaces.kept import FILES, KINDS, find, is_kept, kind_of, open_kept, register, scheme_of, scheme_text

OLD = Path(__file__).parent / "old"  # a folder of each kind, written before there was this module
NUMBERS = json.loads((OLD / "numbers.json").read_text())  # every so-many-th number of what each gave then
SPACES = ("autoencoder", "tl", "joint", "PCASpace")
SEGMENTERS = ("native", "two-stage")
labels = np.random.default_rng(0).integers(0, 4, (3, 24, 24, 12)).astype(np.uint8)
images = np.random.default_rng(1).random((2, 24, 24, 12)).astype(np.float32)
stack = torch.from_numpy(np.random.default_rng(2).random((1, 1, 16, 16, 4)).astype(np.float32))
small = np.random.default_rng(3).integers(0, 4, (6, 4, 4, 2)).astype(np.uint8)


def given(kind: str, made) -> list[np.ndarray]:
    """What an object of a kind gives for the arrays above."""
    if kind == "autoencoder":
        return [made.encode(labels), made.decode(made.mean), made.sigma]
    if kind == "tl":
        return [made.encode(labels), made.decode(made.mean), made.encode_images(images)]
    if kind == "joint":
        return [made.encode(labels), made.decode(made.mean), made.encode_images((images - 0.5) * np.sqrt(12))]
    if kind == "PCASpace":
        return [made.encode(small), made.decode(made.sigma)]
    if kind == "native":
        return [made.probabilities(stack[0, 0].numpy(), 10.0)]
    if kind == "two-stage":
        return [made.probabilities(Volume(2 * stack[0, 0].numpy() - 1, None, (2.0, 2.0, 8.0)), net) for net in (1, 2)]
    with torch.no_grad():
        output = made(stack[:, 0] if kind in ("sslln", "slicefcn", "volumefcn") else stack)
    return [o.numpy() for o in (output if isinstance(output, tuple) else (output,)) if o is not None]


def same(kind: str, made) -> bool:
    arrays = given(kind, made)
    picked = [a.ravel()[:: max(1, a.size // 12)] for a in arrays]
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(picked, NUMBERS[kind], strict=True))


@pytest.fixture(autouse=True)
def in_fp32(monkeypatch):
    monkeypatch.setattr(device, "fast_dtype", lambda _: torch.float32)


def test_there_is_an_old_folder_of_every_kind():
    assert sorted(p.name for p in OLD.iterdir() if p.is_dir()) == sorted(NUMBERS) == sorted(KINDS)


@pytest.mark.parametrize("kind", sorted(NUMBERS))
def test_an_old_folder_opens_and_gives_the_same_numbers_and_is_kept_anew(kind, tmp_path):
    folder = OLD / kind
    made = load(folder, "cpu") if kind in SPACES else load_network(folder, "cpu")
    assert same(kind, made)
    assert made.scheme.n_classes in (4, 5) and kind_of(type(made)) == kind
    if kind in (*SPACES, *SEGMENTERS):
        made.save(tmp_path)
    else:
        assert made.task == ("sr" if kind.startswith("sr") else "seg") and not made.training
        save_network(tmp_path, made, task=made.task, scheme=made.scheme, metadata=made.metadata)
    assert find(tmp_path).name == find(folder).name and len(list(tmp_path.iterdir())) == 2
    again = open_kept(tmp_path, "cpu")
    assert same(kind, getattr(again, "network", again) if kind not in SEGMENTERS else again)
    old, new = (json.loads(find(f).read_text()) for f in (folder, tmp_path))
    if kind != "PCASpace":  # its description names the weights now
        assert old.keys() == new.keys() and {k: old[k] for k in old if k not in ("weights", "metadata")} == {
            k: new[k] for k in old if k not in ("weights", "metadata")
        }


def test_every_kind_opens_whatever_has_been_imported():
    code = f"""
import sys, shapelab.spaces as s
for kind, how in {[(k, k in SPACES) for k in KINDS]}:
    (s.load if how else s.load_network)({str(OLD)!r} + "/" + kind, "cpu")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------------ one's own kind

TOY = '''
from dataclasses import asdict, dataclass
import numpy as np, torch
from torch import nn
from shapelab.data.scheme import CARDIAC
from shapelab.data.grid import Grid
from shapelab.spaces.kept import Kept, register, scheme_of

@dataclass(frozen=True)
class ToyConfig:
    width: int = 3

class Toy(nn.Module):
    def __init__(self, config: ToyConfig):
        super().__init__()
        self.config, self.layer = config, nn.Linear(2, config.width)

@register("toy space")
class Mean(Kept):
    """A space of one code: how many voxels are the LV cavity."""
    grid, scheme = Grid((2, 2, 2), (1, 1, 1)), CARDIAC
    def __init__(self):
        self.mean, self.sigma = np.zeros(1, np.float32), np.ones(1, np.float32)
    def encode(self, labels):
        return (labels == 3).reshape(len(labels), -1).sum(1, keepdims=True).astype(np.float32)
    def decode(self, codes):
        return np.full((len(np.atleast_2d(codes)), 4, 2, 2, 2), 0.25, np.float32)
    def description(self):
        return {"scheme": asdict(self.scheme)}
    def tensors(self):
        return {"mean": torch.from_numpy(self.mean)}
    @classmethod
    def rebuilt(cls, text):
        return cls()
    def restore(self, tensors, device):
        self.mean = tensors["mean"].numpy()
'''


@pytest.fixture
def toys(tmp_path, monkeypatch):
    (tmp_path / "toys_of_a_test.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("shapelab.spaces.kept.KINDS", dict(KINDS))
    yield importlib.import_module("toys_of_a_test")
    sys.modules.pop("toys_of_a_test")


def test_a_network_of_ones_own_opens_by_its_module(toys, tmp_path):
    network = toys.Toy(toys.ToyConfig(5))
    folder = save_network(tmp_path / "net", network, metadata={"data": "none"})
    assert json.loads((folder / "model.json").read_text())["kind"] == "toys_of_a_test:Toy"
    again = load_network(folder)
    assert again.config == network.config and torch.equal(again.layer.weight, network.layer.weight)
    with pytest.raises(DataError, match="model.json: found a KeptNetwork; expected a shape space"):
        load(folder)


def test_a_space_of_ones_own_opens_by_its_kind(toys, tmp_path):
    space = toys.Mean()
    space.mean = np.array([2.5], np.float32)
    folder = space.save(tmp_path / "space")
    assert json.loads((folder / "space.json").read_text())["kind"] == "toy space" and isinstance(space, ShapeSpace)
    assert load(folder).mean == 2.5 and toys.Mean.load(folder).mean == 2.5
    with pytest.raises(DataError, match="found a Mean; expected a network"):
        load_network(folder)


def test_a_kind_belongs_to_one_class(toys):
    register("toy space")(toys.Mean)  # again: no harm
    with pytest.raises(UsageError, match="kind: found 'subpixel', which is shapelab.models.acnn.subpixel:SubPixelNet"):
        register("subpixel")(toys.Toy)


def test_a_class_that_no_other_session_finds_is_not_kept(tmp_path):
    class Local(SubPixelNet):
        pass

    with pytest.raises(UsageError, match="network: found Local; expected one of"):
        save_network(tmp_path, Local(SubPixelConfig(widths=(1, 1, 1, 1))))


# ------------------------------------------------------------------------------------------------------------- folders


def test_what_is_kept_in_a_folder_is_one_thing(tmp_path):
    assert not is_kept(tmp_path) and find(tmp_path) is None
    shutil.copytree(OLD / "tl", tmp_path / "a")
    assert is_kept(tmp_path / "a")
    space = PCASpace(2, grid=Grid((4, 4, 2), (3, 3, 5)), scheme=CARDIAC).fit(small)
    space.save(tmp_path / "a")  # another kind over it: what was there goes
    assert sorted(p.name for p in (tmp_path / "a").iterdir() if p.name in FILES) == ["space.json"]
    assert np.array_equal(load(tmp_path / "a").encode(small), space.encode(small))


def test_another_kind_is_named(tmp_path):
    from shapelab.models.acnn import AESpace, TLSpace

    with pytest.raises(DataError, match="tl.json: found kind 'tl'; expected a AESpace"):
        AESpace.load(OLD / "tl")
    with pytest.raises(DataError, match="space.json: found kind 'autoencoder'; expected a TLSpace"):
        TLSpace.load(OLD / "autoencoder")
    with pytest.raises(DataError, match="space.json: found no such file"):
        load(tmp_path)
    (tmp_path / "space.json").write_text(json.dumps({"kind": "autoencodr"}))
    with pytest.raises(DataError, match="Did you mean 'autoencoder'"):
        load(tmp_path)


def test_an_old_pca_of_two_halves_is_noticed(tmp_path):
    shutil.copytree(OLD / "PCASpace", tmp_path / "a")
    file = tmp_path / "a" / "space.json"
    file.write_text(file.read_text().replace('"n_samples": 6', '"n_samples": 7'))
    with pytest.raises(DataError, match="space.safetensors: found tensors of another space"):
        load(tmp_path / "a")


def test_a_scheme_comes_back_with_its_nesting():
    flat = LabelScheme(CARDIAC.name, CARDIAC.structures, inside=())
    for scheme in (CARDIAC, flat):
        assert scheme_of(json.loads(json.dumps(scheme_text(scheme)))) == scheme
    assert "inside" not in scheme_text(CARDIAC) and scheme_text(flat)["inside"] == ()
