"""The predictor against Table IV of the paper, and how its images are varied."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from shapelab.augment import AffineRanges
from shapelab.errors import UsageError
from shapelab.models.acnn.predictor import (
    ContrastRanges,
    Predictor,
    PredictorConfig,
    augment_pairs,
    measure_image_statistics,
    random_contrast,
    thick_slices,
)

GRID = {"shape": (24, 24, 12), "spacing": (6.0, 6.0, 10.0)}


TINY = PredictorConfig(**GRID, widths=(8, 8, 16, 16), last=8, code=8, epochs=5, joint_epochs=3, batch=4)


STILL = {
    "affine": AffineRanges((0, 0, 0), 0, 0, 0, (0, 0, 0)),
    "contrast": ContrastRanges(0, 0, 0, 0),
    "noise": 0.0,
    "thick": 0.0,
}


def hearts(n):
    """Images and label maps of boxes in boxes, each label with an intensity of its own."""
    labels = np.zeros((n, 24, 24, 12), np.uint8)
    for k, label in enumerate(labels):
        label[3:8, 6:18, 2:10], label[9:21, 4:20, 1:11], label[12:18, 7 : 15 + k % 3, 3:9] = 1, 2, 3
    noise = 0.02 * np.random.default_rng(0).standard_normal(labels.shape)
    return (np.array([0.1, 0.7, 0.3, 0.9])[labels] + noise).clip(0, 1).astype(np.float16), labels


def test_the_paper_profile_is_table_iv():
    config = PredictorConfig.profile("paper")
    assert (config.shape, config.spacing, config.cells) == ((120, 120, 60), (1.25, 1.25, 2.0), (15, 15, 8))
    assert (config.batch, config.learning_rate, config.schedule) == (8, 1e-3, "constant")
    model = Predictor(config)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv3d)]
    cube, one, two = (3, 3, 3), (1, 1, 1), (2, 2, 2)
    assert [(m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
        (32, cube, one),
        (32, cube, one),
        (64, cube, two),
        (64, cube, one),
        (128, cube, two),
        (128, cube, one),
        (256, cube, two),
        (1, cube, one),
    ]
    assert [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)] == [(1800, 64)]
    # "each convolution layer, except the last one, is followed by batch-normalisation"; each by a ReLU
    assert sum(isinstance(m, nn.BatchNorm3d) for m in model.modules()) == 7
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 7  # the last one's is in forward
    assert convolutions[-1].bias is not None and all(m.bias is None for m in convolutions[:-1])


def test_the_paper_profile_has_as_many_parameters_as_counted_by_hand():
    cube = 27
    s1 = cube * (1 * 32 + 32 * 32)
    s2 = cube * (32 * 64 + 64 * 64)
    s3 = cube * (64 * 128 + 128 * 128)
    s4 = cube * (128 * 256 + 256 * 1) + 1
    norms = 2 * (32 + 32 + 64 + 64 + 128 + 128 + 256)
    code = 15 * 15 * 8 * 64 + 64
    assert s1 + s2 + s3 + s4 + norms + code == 1_866_273
    assert sum(p.numel() for p in Predictor(PredictorConfig.profile("paper")).parameters()) == 1_866_273


def test_the_paper_profile_has_table_ivs_shapes_at_each_scale():
    model = Predictor(PredictorConfig.profile("paper")).eval().to("meta")
    seen = []
    for layer in [*model.features, model.last, model.to_code]:
        layer.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
    model(torch.zeros(1, 120, 120, 60, device="meta"))
    s1, s2, s3, s4 = (120, 120, 60), (60, 60, 30), (30, 30, 15), (15, 15, 8)
    assert seen[:4] == [(32, *s1), (32, *s1), (64, *s2), (64, *s2)]
    assert seen[4:] == [(128, *s3), (128, *s3), (256, *s4), (1, *s4), (64,)]


def test_config_comes_back_from_json_and_changes_by_name():
    config = PredictorConfig.profile("full", noise=0.1, contrast=ContrastRanges(gain=0.1))
    assert PredictorConfig(**json.loads(json.dumps(asdict(config)))) == config and config.noise == 0.1


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"shape": (24, 24)}, "a shape of three"),
        ({"widths": (8, 8, 8)}, "four widths"),
        ({"code": 0}, "at least one of everything"),
        ({"thick": 1.5}, "found thick 1.5"),
        ({"factor": 5}, r"PredictorConfig.factor: found 5; expected a divisor of 12"),
        ({"contrast": {"gain": 1.0}}, "gain below 1"),
    ],
)
def test_wrong_numbers_are_named(changes, words):
    with pytest.raises(UsageError, match=words):
        replace(TINY, **changes)


def test_contrast_without_ranges_changes_nothing_and_keeps_the_dark_dark():
    images = torch.rand(3, 6, 5, 4)
    images[:, 0] = 0
    assert torch.allclose(random_contrast(images, ContrastRanges(0, 0, 0, 0)), images)
    changed = random_contrast(images, ContrastRanges(), torch.Generator().manual_seed(0))
    again = random_contrast(images, ContrastRanges(), torch.Generator().manual_seed(0))
    assert torch.equal(changed, again) and not changed[:, 0].any() and not torch.allclose(changed, images, atol=0.05)


def test_contrast_keeps_the_order_of_intensities_where_there_is_no_bias_field():
    images = torch.linspace(0.01, 1, 60).reshape(1, 5, 4, 3)
    changed = random_contrast(images, ContrastRanges(bias=0), torch.Generator().manual_seed(1))
    assert (changed.ravel().diff() > 0).all()


def test_thick_slices_keep_what_is_constant_and_linear_through_the_plane():
    flat = torch.full((1, 2, 2, 12), 0.5)
    assert torch.allclose(thick_slices(flat, (1, 1, 2.0), 3), flat, atol=1e-6)
    ramp = torch.arange(48.0).expand(1, 2, 2, 48)
    # symmetric weights leave a ramp alone, away from the ends (4 mm = 2 planes)
    assert torch.allclose(thick_slices(ramp, (1, 1, 2.0), 4)[..., 12:-12], ramp[..., 12:-12], atol=1e-3)


def test_augmented_pairs_stay_pairs():
    images, labels = (torch.from_numpy(a) for a in hearts(4))
    same_x, same_y = augment_pairs(images, labels, replace(TINY, **STILL))
    assert torch.equal(same_y, labels) and torch.allclose(same_x, images.float(), atol=1e-3)
    torch.manual_seed(0)
    x, y = augment_pairs(images, labels, replace(TINY, **{**STILL, "affine": AffineRanges()}))
    assert not torch.equal(y, labels)
    for value, intensity in enumerate((0.1, 0.7, 0.3, 0.9)):  # each tissue kept its intensity where it moved to
        assert float(x[y == value].median()) == pytest.approx(intensity, abs=0.05)


def test_statistics_are_those_of_the_images():
    model, images = Predictor(TINY), torch.from_numpy(hearts(6)[0])
    measure_image_statistics(model, images)
    first = model.features[0]
    with torch.no_grad():
        out = first[0](images.float()[:, None])
    assert torch.allclose(first[1].running_mean, out.mean((0, 2, 3, 4)), atol=3e-3)
    assert torch.allclose(first[1].running_var, out.var((0, 2, 3, 4)), rtol=0.03)
    assert first[1].momentum == 0.1 and not model.training
