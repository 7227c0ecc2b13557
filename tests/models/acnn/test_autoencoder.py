"""The autoencoder against Table V of the paper, and its shape space."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shapelab.augment import AffineRanges
from shapelab.data.placement import LaidLabels, Placement
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.models.acnn import (
    AEConfig,
    AESpace,
    Autoencoder,
    measure_statistics,
    rotate_to_principal_axes,
    train_autoencoder,
)
from shapelab.training import Run
from shapelab.training.loop import CHECKPOINT
from shapelab.training.losses import onehot

TINY = AEConfig(shape=(24, 24, 12), spacing=(6.0, 6.0, 10.0), widths=(8, 8, 16), bottleneck=24, code=8, epochs=3)


def hearts(n=12, shape=(24, 24, 12), seed=0):
    """Label maps with two factors: size of the LV and thickness of its wall."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij")
    out = np.zeros((n, *shape), np.uint8)
    for label, (size, wall) in zip(out, rng.uniform((0.3, 0.1), (0.5, 0.25), (n, 2))):
        left = np.sqrt((x - 0.15) ** 2 + y**2 + (0.6 * z) ** 2)
        label[np.sqrt((x + 0.35) ** 2 + y**2 + (0.6 * z) ** 2) < 0.45] = 1
        label[left < size + wall] = 2
        label[left < size] = 3
    return out


@pytest.fixture(scope="module")
def trained():
    return train_autoencoder(hearts(), TINY, run=Run(seed=0, progress=False, device="cpu"), data="test hearts")


# ----------------------------------------------------------------------------------------------------------- Table V


def layers(model, kind):
    return [m for m in model.modules() if isinstance(m, kind)]


def test_the_paper_profile_is_table_v():
    config = AEConfig.profile("paper")
    assert (config.shape, config.spacing, config.cells) == ((120, 120, 60), (1.25, 1.25, 2.0), (5, 5, 5))
    assert (config.widths, config.bottleneck, config.code) == ((16, 32, 64), 1, 64)
    assert (config.swap, config.batch, config.learning_rate, config.schedule) == (0.1, 8, 1e-3, "constant")
    model = Autoencoder(config)
    rows = [(m.out_channels, m.kernel_size, m.stride) for m in layers(model, nn.Conv3d)]
    cube, one = (3, 3, 3), (1, 1, 1)
    assert rows == [
        (16, cube, (2, 2, 1)),
        (16, cube, one),
        (32, cube, (2, 2, 2)),
        (32, cube, one),
        (64, cube, (2, 2, 2)),
        (64, cube, one),
        (1, cube, (3, 3, 3)),
        (64, cube, one),
        (32, cube, one),
        (16, cube, one),
        (4, cube, one),
    ]
    up = [(m.out_channels, m.kernel_size, m.stride) for m in layers(model, nn.ConvTranspose3d)]
    assert up == [
        (64, (7, 7, 7), (3, 3, 3)),
        (32, (4, 4, 4), (2, 2, 2)),
        (16, (4, 4, 4), (2, 2, 2)),
        (16, (4, 4, 1), (2, 2, 1)),
    ]
    assert [(m.in_features, m.out_features) for m in layers(model, nn.Linear)] == [(125, 64), (64, 125)]
    # every convolution but the last is normalised; each of those has a ReLU
    assert len(layers(model, nn.BatchNorm3d)) == len(layers(model, nn.ReLU)) == 14


def test_the_paper_profile_has_as_many_parameters_as_counted_by_hand():
    cube = 27
    encoder = cube * (4 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 1)
    code = (125 * 64 + 64) + (64 * 125 + 125)
    up = 343 * 1 * 64 + 64 * 64 * 32 + 64 * 32 * 16 + 16 * 16 * 16
    decoder = cube * (64 * 64 + 32 * 32 + 16 * 16 + 16 * 4) + 4
    norms = 2 * (16 + 16 + 32 + 32 + 64 + 64 + 1 + 64 + 64 + 32 + 32 + 16 + 16 + 16)
    assert encoder + code + up + decoder + norms == 571_619
    model = Autoencoder(AEConfig.profile("paper"))
    assert sum(p.numel() for p in model.parameters()) == 571_619


def shapes_of(model, maps):
    seen = []
    hooks = [
        m.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
        for m in [*model.encoder, model.to_code, model.from_code, *model.decoder]
    ]
    with torch.inference_mode():
        model(maps)
    for hook in hooks:
        hook.remove()
    return seen


def test_the_paper_profile_has_table_vs_shapes_at_each_scale():
    model = Autoencoder(AEConfig.profile("paper")).eval().to("meta")
    s1, s2, s3 = (60, 60, 60), (30, 30, 30), (15, 15, 15)
    assert shapes_of(model, torch.zeros(1, 4, 120, 120, 60, device="meta")) == [
        (16, *s1),
        (16, *s1),
        (32, *s2),
        (32, *s2),
        (64, *s3),
        (64, *s3),
        (1, 5, 5, 5),
        (64,),
        (125,),
        (64, *s3),
        (64, *s3),
        (32, *s2),
        (32, *s2),
        (16, *s1),
        (16, *s1),
        (16, 120, 120, 60),
        (4, 120, 120, 60),
    ]


@pytest.mark.parametrize("name", ["quick", "full", "paper"])
@pytest.mark.parametrize("n_classes", [3, 5])
def test_every_profile_gives_back_its_own_shape_and_feeds_its_codes(name, n_classes):
    config = AEConfig.profile(name, n_classes=n_classes)
    assert np.prod(config.cells) * config.bottleneck >= config.code
    model = Autoencoder(config).eval().to("meta")
    maps = torch.zeros(2, n_classes, *config.shape, device="meta")
    assert model.encode(maps).shape == (2, 64) and model(maps).shape == maps.shape
    assert config.grid.shape == config.shape and min(config.grid.extent) >= 120


def test_config_comes_back_from_json_and_changes_by_name():
    config = AEConfig.profile("full", swap=0.2, affine=AffineRanges(scale=0.1))
    from dataclasses import asdict

    assert AEConfig(**json.loads(json.dumps(asdict(config)))) == config and config.swap == 0.2


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"shape": (50, 48, 24)}, r"AEConfig.shape: found \(50, 48, 24\); expected multiples of the strides"),
        ({"shape": (0, 48, 24)}, "AEConfig.shape"),
        ({"shape": (48, 48)}, "AEConfig.shape"),
        ({"n_classes": 1}, "at least two classes"),
        ({"code": 0}, "AEConfig: found"),
    ],
)
def test_wrong_numbers_are_named(changes, words):
    with pytest.raises(UsageError, match=words):
        replace(TINY, **changes)


# ---------------------------------------------------------------------------------------------------------- training


def test_training_lowers_the_loss_and_is_repeatable(trained):
    space, history = trained
    assert history["loss"][-1] < history["loss"][0] and len(history) == 3
    again, _ = train_autoencoder(hearts(), TINY, run=Run(seed=0, progress=False, device="cpu"))
    assert np.array_equal(again.encode(hearts()), space.encode(hearts()))
    other, _ = train_autoencoder(hearts(), TINY, run=Run(seed=1, progress=False, device="cpu"))
    assert not np.allclose(other.encode(hearts()), space.encode(hearts()))
    assert {"data", "n", "labels", "seed", "shapelab", "torch"} <= set(space.metadata)
    assert space.metadata["data"] == "test hearts" and space.metadata["n"] == 12


@pytest.mark.slow
def test_it_learns_to_rebuild_shapes_it_has_not_seen():
    config = replace(
        TINY, epochs=60, batch=4, learning_rate=5e-3, affine=AffineRanges((0, 0, 0), 0.05, 0, 0, (3, 3, 3))
    )
    space, history = train_autoencoder(hearts(32), config, run=Run(progress=False), validation=hearts(8, seed=1))
    dice = space.reconstruction_dice(hearts(8, seed=1)).mean(0)
    assert (dice > 0.8).all(), dice
    assert history.table["val dice"].dropna().iloc[-1] == pytest.approx(dice.mean(), abs=0.01)


def test_validation_does_not_change_the_result(trained):
    seen, history = train_autoencoder(
        hearts(), TINY, run=Run(seed=0, progress=False, device="cpu"), validation=hearts(3, seed=1)
    )
    assert np.array_equal(seen.encode(hearts()), trained[0].encode(hearts()))
    assert history.table["val dice"].notna().all()


def test_fine_tuning_starts_where_the_other_ended(trained, tmp_path):
    space = trained[0]
    space.save(tmp_path / "space")
    for init in (space, tmp_path / "space"):
        tuned, history = train_autoencoder(
            hearts(seed=2), replace(TINY, epochs=1), run=Run(progress=False, device="cpu"), init=init
        )
        assert history["loss"][0] < trained[1]["loss"][0]
    assert tuned.config.epochs == 1 and not np.allclose(tuned.encode(hearts()), space.encode(hearts()))
    with pytest.raises(UsageError, match="init: found a space with"):
        train_autoencoder(hearts(), replace(TINY, code=9), run=Run(progress=False, device="cpu"), init=space)


def test_a_checkpoint_of_other_labels_or_another_start_is_an_error(trained, tmp_path):
    train_autoencoder(hearts(), TINY, run=Run(checkpoint=tmp_path, progress=False, device="cpu"))
    resumed, _ = train_autoencoder(hearts(), TINY, run=Run(checkpoint=tmp_path, progress=False, device="cpu"))
    assert np.array_equal(resumed.encode(hearts()), trained[0].encode(hearts()))
    for labels, options, key in ((hearts(seed=1), {}, "labels"), (hearts(), {"init": trained[0]}, "initial weights")):
        with pytest.raises(DataError, match=f"{CHECKPOINT}: found a checkpoint with {key}"):
            train_autoencoder(labels, TINY, run=Run(checkpoint=tmp_path, progress=False, device="cpu"), **options)
    with pytest.raises(DataError, match="with config"):
        train_autoencoder(hearts(), replace(TINY, swap=0.2), run=Run(checkpoint=tmp_path, progress=False, device="cpu"))


def test_statistics_are_those_of_clean_maps():
    model = Autoencoder(TINY)
    maps = torch.from_numpy(hearts(6))
    measure_statistics(model, maps)
    first = model.encoder[0]
    with torch.no_grad():
        out = first[0](onehot(maps, 4))
    assert torch.allclose(first[1].running_mean, out.mean((0, 2, 3, 4)), atol=2e-3)
    assert torch.allclose(first[1].running_var, out.var((0, 2, 3, 4)), rtol=0.02)
    assert first[1].momentum == 0.1 and not model.training


def test_what_training_leaves_are_statistics_of_clean_maps(trained):
    first = trained[0].model.encoder[0]
    with torch.no_grad():
        out = first[0](onehot(torch.from_numpy(hearts()), 4))
    assert torch.allclose(first[1].running_mean, out.mean((0, 2, 3, 4)), atol=2e-3)
    assert torch.allclose(first[1].running_var, out.var((0, 2, 3, 4)), rtol=0.05)


def test_principal_axes_turn_the_codes_and_leave_the_function():
    model = Autoencoder(TINY)
    maps = torch.from_numpy(hearts(20))
    measure_statistics(model, maps)
    with torch.no_grad():
        hot = onehot(maps, 4)
        before, codes = model(hot), model.encode(hot).numpy()
        rotate_to_principal_axes(model, codes)
        after, turned = model(hot), model.encode(hot).numpy()
    assert torch.allclose(before, after, atol=1e-3)
    covariance = np.cov(turned.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * covariance.max()
    assert (np.diff(np.diag(covariance)) <= 1e-6).all()
    assert np.allclose(np.diag(covariance), np.linalg.eigvalsh(np.cov(codes.T))[::-1], atol=1e-3 * covariance.max())


def test_axes_leave_the_reconstruction_alone(trained, tmp_path):
    space = trained[0]
    codes = space.training_codes
    covariance = np.cov(codes.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-2 * covariance.max()
    assert space.axes is not None and (np.diff(codes.var(axis=0)) <= 1e-5).all()
    made = space.decode(space.encode(hearts(3)))
    loaded = AESpace.load(space.save(tmp_path))
    assert np.allclose(loaded.axes, space.axes)
    assert np.allclose(loaded.decode(loaded.encode(hearts(3))), made, atol=1e-5)
    with torch.no_grad():
        direct = space.model(onehot(torch.from_numpy(hearts(3)), 4)).softmax(1).numpy()
    assert np.abs(made - direct).max() < 0.05  # bf16 in one of the two


# --------------------------------------------------------------------------------------------------------- the space


def test_encode_and_decode(trained):
    space = trained[0]
    codes = space.encode(hearts(5))
    assert codes.shape == (5, 8) and codes.dtype == np.float32
    assert np.allclose(space.encode(hearts(5), batch=2), codes, atol=1e-4)
    probabilities = space.decode(codes)
    assert probabilities.shape == (5, 4, 24, 24, 12) and probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert np.allclose(space.decode(codes[1])[0], probabilities[1], atol=0.02)
    assert np.array_equal(space.reconstruct(hearts(5)), probabilities.argmax(1))
    assert space.reconstruction_dice(hearts(5)).shape == (5, 3)
    codes = space.encode(hearts())
    assert np.allclose(space.mean, codes.mean(0), atol=1e-4) and np.allclose(space.sigma, codes.std(0), atol=1e-4)
    assert space.n_codes == 8 and space.grid.shape == (24, 24, 12) and space.scheme == CARDIAC


def test_it_is_a_shape_space(trained):
    from shapelab.spaces.contract import ShapeSpace

    assert isinstance(trained[0], ShapeSpace)


def test_fit_as_in_scikit_learn(trained):
    space = AESpace(TINY, seed=0)
    with pytest.raises(UsageError, match="without training"):
        space.encode(hearts())
    with pytest.raises(UsageError, match="without training"):
        _ = space.mean
    assert space.fit(hearts(), run=Run(progress=False, device="cpu")) is space
    assert np.array_equal(space.encode(hearts()), trained[0].encode(hearts())) and len(space.history) == 3


@pytest.mark.parametrize(
    "labels, words",
    [
        (hearts(2)[:, :20], r"found an array of shape \(2, 20, 24, 12\); expected .* \(24, 24, 12\)"),
        (hearts(2)[0], r"shape \(24, 24, 12\)"),
        (hearts(2)[:0], "no label map"),
        (hearts(2) + 1, r"label values \[4\]; expected values of the scheme"),
        (hearts(2).astype(float), "type float64"),
        (hearts(2).astype(int) - 1, "label value -1"),
    ],
)
def test_wrong_labels_are_named(trained, labels, words):
    with pytest.raises(DataError, match=words):
        trained[0].encode(labels)
    with pytest.raises(DataError, match=words):
        train_autoencoder(labels, TINY, run=Run(progress=False))


@pytest.mark.parametrize(
    "codes, words",
    [
        (np.zeros((2, 9)), r"found shape \(2, 9\); expected \(N, 8\) or \(8,\)"),
        (np.zeros(7), r"shape \(7,\)"),
        (np.full(8, np.nan), "NaN"),
    ],
)
def test_wrong_codes_are_named(trained, codes, words):
    with pytest.raises(UsageError, match=words):
        trained[0].decode(codes)


def test_config_and_scheme_must_agree():
    with pytest.raises(UsageError, match="4 classes in the config and 5 in the scheme 'bi-ventricular'"):
        AESpace(TINY, BIVENTRICULAR)


# ------------------------------------------------------------------------------------------------------------- files


def test_save_and_load_give_the_same_space(trained, tmp_path):
    space = trained[0]
    space.save(tmp_path / "a")
    again = AESpace.load(tmp_path / "a")
    assert np.array_equal(again.encode(hearts()), space.encode(hearts()))
    assert np.array_equal(again.decode(space.mean), space.decode(space.mean))
    assert (again.config, again.scheme, again.metadata) == (space.config, space.scheme, space.metadata)
    assert np.array_equal(again.mean, space.mean) and np.array_equal(again.sigma, space.sigma)
    space.model.to_code.bias.data += 0  # saved again: still one file of weights
    space.save(tmp_path / "a")
    assert len(list((tmp_path / "a").iterdir())) == 2


@pytest.mark.parametrize("damage", ["no folder", "no weights", "cut weights", "no json", "no config", "wrong config"])
def test_damaged_files_are_named(trained, tmp_path, damage):
    folder = trained[0].save(tmp_path / "a")
    weights, description = next(folder.glob("weights-*")), folder / "space.json"
    text = json.loads(description.read_text())
    if damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no json":
        description.write_text("{")
    elif damage == "no config":
        description.write_text(json.dumps({k: v for k, v in text.items() if k != "config"}))
    elif damage == "wrong config":
        description.write_text(json.dumps({**text, "config": {**text["config"], "code": 9}}))
    file = "weights-.*safetensors" if damage in ("no weights", "cut weights", "wrong config") else "space.json"
    with pytest.raises(DataError, match=f"{file}: found .*; expected"):
        AESpace.load(tmp_path / ("b" if damage == "no folder" else "a"))


def test_the_space_remembers_how_its_shapes_were_laid(tmp_path):
    config, run = replace(TINY, epochs=1), Run(progress=False, device="cpu")
    laid = LaidLabels.of(hearts(4), Placement(align="rigid", whole_walls=True))
    space, _ = train_autoencoder(laid, config, run)
    assert space.placement == laid.placement == AESpace.load(space.save(tmp_path / "a")).placement
    assert train_autoencoder(hearts(4), config, run)[0].placement is None
