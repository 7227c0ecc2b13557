"""Which parameters decay; that the default is what torch does; that keys and checkpoints say so only where asked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from shapelab.errors import DataError, UsageError
from shapelab.experiments.acnn.ultrasound import UltrasoundConfig
from shapelab.models.acnn import SubPixelConfig, SubPixelNet, Training
from shapelab.models.native import NativeConfig
from shapelab.models.sslln import SSLLN, SSLLNConfig
from shapelab.spaces import load_network, save_network
from shapelab.training import FitSettings, Run, fit, numbers_of
from shapelab.training.decay import decay_groups

CONFIGS = [SubPixelConfig, NativeConfig, SSLLNConfig, UltrasoundConfig, Training, FitSettings]


class Small(nn.Module):
    """A convolution and a transposed one with biases, batch normalisation, a fully connected layer, one at rest."""

    def __init__(self):
        super().__init__()
        self.down, self.norm, self.up = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ConvTranspose2d(2, 1, 3)
        self.full = nn.Linear(4, 2)
        self.still = nn.Conv2d(1, 1, 1).requires_grad_(False)

    def forward(self, x):
        return self.full(self.up(self.norm(self.down(x)))).square().mean()


def small() -> Small:
    torch.manual_seed(0)
    model = Small()
    for p in model.parameters():
        nn.init.constant_(p, 0.5)
    return model


def names_of(model: nn.Module, group: dict) -> list[str]:
    return [name for name, p in model.named_parameters() if any(p is q for q in group["params"])]


def test_filters_decay_and_nothing_else():
    model = small()
    decaying, others = decay_groups(model, "convolutions", 0.1)
    assert names_of(model, decaying) == ["down.weight", "up.weight"] and decaying["weight_decay"] == 0.1
    rest = ["down.bias", "norm.weight", "norm.bias", "up.bias", "full.weight", "full.bias"]
    assert names_of(model, others) == rest and others["weight_decay"] == 0
    (all_of_them,) = decay_groups(model, "all", 0.1)
    assert [*map(id, all_of_them["params"])] == [id(p) for p in model.parameters() if p.requires_grad]
    with pytest.raises(UsageError, match="decay: found 'biases'"):
        decay_groups(model, "biases", 0.1)
    with pytest.raises(UsageError, match="decay: found 'biases'"):
        FitSettings(decay="biases")


def test_in_ssllns_network_norms_and_the_biases_of_its_heads_are_left_alone():
    network = SSLLN(SSLLNConfig(shape=(16, 16, 6), widths=(4, 6, 8), convs=(2, 2, 2), merged=8))
    decaying, others = decay_groups(network, "convolutions", 1e-4)
    assert all(p.ndim == 4 for p in decaying["params"]) and all(p.ndim == 1 for p in others["params"])
    heads = [name for name in names_of(network, others) if not any(part in name for part in ("scales", "norm", "last"))]
    assert heads == ["labels.bias", "landmarks.bias"]


def moved(settings: FitSettings) -> dict[str, torch.Tensor]:
    """How far training moved each parameter where nothing but decay does: the loss is 0."""
    model = small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fit(lambda batch: {"loss": 0 * model(batch)}, model, [torch.rand(2, 1, 4, 4)], 1, settings=settings, run=QUIET)
    return {name: p.detach() - before[name] for name, p in model.named_parameters()}


QUIET = Run(progress=False, device="cpu")


def test_training_pulls_towards_zero_what_decays():
    moves = moved(FitSettings(weight_decay=0.1, decay="convolutions"))
    # Adam's first step is the learning rate, against the sign of the gradient 0.1 * 0.5
    assert {name for name, move in moves.items() if move.any()} == {"down.weight", "up.weight"}
    assert torch.allclose(moves["down.weight"], torch.tensor(-1e-3), atol=1e-6)
    moves = moved(FitSettings(weight_decay=0.1))
    assert {name for name, move in moves.items() if not move.any()} == {"still.weight", "still.bias"}


def test_the_default_is_bit_for_bit_what_one_group_gives():
    batches = [torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    settings = FitSettings(weight_decay=0.1)
    one, other = small(), small()
    fit(lambda batch: {"loss": one(batch)}, one, batches, 2, settings=settings, run=QUIET)

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)

    fit(lambda batch: {"loss": other(batch)}, other, batches, 2, settings=settings, optimiser=adam, run=QUIET)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("decay, other", [("convolutions", "all"), ("all", "convolutions")])
def test_a_run_with_another_decay_is_refused(tmp_path, decay, other):
    def train(decay: str) -> Small:
        model, settings = small(), FitSettings(weight_decay=0.1, decay=decay)
        run = replace(QUIET, checkpoint=tmp_path)
        fit(lambda batch: {"loss": model(batch)}, model, [torch.ones(2, 1, 4, 4)], 1, settings=settings, run=run)
        return model

    model, again = train(decay), train(decay)  # the second finds the end of the run
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(DataError, match="found a checkpoint with settings"):
        train(other)


@pytest.mark.parametrize("kind", CONFIGS)
def test_keys_and_descriptions_are_those_of_old_at_the_default(kind):
    assert "decay" not in numbers_of(kind()) and kind(**numbers_of(kind())) == kind()
    other = kind(decay="convolutions")
    assert numbers_of(other) == {**numbers_of(kind()), "decay": "convolutions"} and kind(**numbers_of(other)) == other


def test_ssllns_runs_are_known_by_what_its_config_says_of_old():
    assert repr(SSLLNConfig(decay="convolutions")) == repr(SSLLNConfig()) and "decay" not in repr(SSLLNConfig())


def test_a_kept_network_says_its_decay_only_where_it_is_another(tmp_path):
    config = SubPixelConfig(shape=(8, 8, 2), widths=(2, 2, 2, 2))
    for decay, said in (("all", None), ("convolutions", "convolutions")):
        save_network(tmp_path / decay, SubPixelNet(replace(config, decay=decay)))
        text = json.loads((tmp_path / decay / "model.json").read_text())
        assert text["config"].get("decay") == said and load_network(tmp_path / decay).config.decay == decay
