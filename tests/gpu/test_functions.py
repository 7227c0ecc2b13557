"""Every public function that takes tensors takes them on a GPU, gives its result there, and the CPU's numbers.

Where random numbers are drawn on the device, its result has other numbers of the same shape and type.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shapelab
from shapelab import augment
from shapelab.atlas import Frame, FreeFormDeformation, fuse_labels, majority_vote
from shapelab.augment import landmarks as marks
from shapelab.device import best_device, generator_of, sent
from shapelab.metrics import ssim
from shapelab.metrics.evaluation import evaluate
from shapelab.models import native, sslln
from shapelab.models.acnn import autoencoder, baselines, predictor, prior, sr_baselines, tl, trainer
from shapelab.models.two_stage import losses as two_losses
from shapelab.models.two_stage import networks as two_nets
from shapelab.models.two_stage import training as two_steps
from shapelab.models.two_stage import volumes as two_volumes
from shapelab.phantoms import randomise
from shapelab.phantoms.ultrasound_geometry import make_box
from shapelab.phantoms.ultrasound_imaging import more_shadows, shadow_db
from shapelab.spaces.kept import open_kept
from shapelab.spaces.network_space import NetworkSpace
from shapelab.training import losses

SPACING = (2.0, 1.5, 3.0)
WEIGHTS = sorted(p.parent for p in (Path(shapelab.__file__).parents[1] / "data" / "weights").glob("*/*.json"))
random = np.random.default_rng(0)
IMAGES = torch.from_numpy(random.random((3, 12, 10, 8), dtype=np.float32))
LABELS = torch.from_numpy(np.kron(random.integers(0, 4, (3, 3, 5, 4)), np.ones((1, 4, 2, 2), int)).astype(np.uint8))
LOGITS, OTHERS = (torch.from_numpy(random.normal(size=(3, 4, 12, 10, 8)).astype(np.float32)) for _ in range(2))
CODES = torch.from_numpy(random.normal(size=(3, 6)).astype(np.float32))
MAPS = augment.random_matrices(3, augment.AffineRanges(), generator_of(0))
KNOTS = augment.random_knots(3, (12, 10, 8), SPACING, augment.ElasticRanges((8, 8, 8)), generator_of(0))
MOTION = augment.random_motion(3, 8, generator=generator_of(1))
MARKS = torch.tensor([[[2.0, 3.0, 4.0], [float("nan"), 1.0, 1.0]]]).repeat(3, 1, 1)
SLICES = torch.from_numpy(random.random((4, 3, 32, 32), dtype=np.float32))
TISSUES = torch.from_numpy(np.kron(random.integers(0, 5, (4, 3, 4, 4)), np.ones((1, 1, 8, 8), int)).astype(np.uint8))
AE = autoencoder.AEConfig(shape=(24, 24, 12), widths=(2, 2, 2), bottleneck=2, code=4)
READER = predictor.PredictorConfig(shape=(24, 24, 12), spacing=AE.spacing, widths=(2, 2, 2, 2), code=4)
HEARTS, HEART_LABELS = (torch.from_numpy(a) for a in (random.random((2, 24, 24, 12), dtype=np.float32),
                        random.integers(0, 4, (2, 24, 24, 12)).astype(np.uint8)))  # fmt: skip
SMALL = sslln.SSLLNConfig(shape=(16, 16, 6), widths=(2, 2), convs=(1, 1), merged=2, crop=(8, 8, 6))
BOX = make_box((8, 8, 8), (18.0, 18.0, 18.0))
BALL = torch.from_numpy((np.hypot(*np.indices((16, 16, 16))[:2] - 7.5) < 5).astype(np.uint8))
Put = Callable[[Any], Any]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


def tl_network() -> nn.Module:
    return seeded(lambda: tl.TLNetwork(autoencoder.Autoencoder(AE), predictor.Predictor(READER)))


def measured(network: nn.Module, measure: Callable[[nn.Module], None]) -> list[Tensor]:
    measure(network)
    return [b for b in network.buffers() if b.is_floating_point()]


def exact(name: str, call: Callable[[Put], Any]):
    return pytest.param(name, call, False, id=name)


def drawn(name: str, call: Callable[[Put], Any]):
    """A function that draws random numbers on the device."""
    return pytest.param(name, call, True, id=name)


def on_slices(name: str, *more, tissues: bool = True):
    """One of the looks of `phantoms.randomise`, which draw from a generator on the device."""
    function = getattr(randomise, name)
    return drawn(
        f"phantoms.randomise.{name}",
        lambda put: function(
            put(SLICES), *([put(TISSUES)] if tissues else []), *more, generator_of(3, put(SLICES).device)
        ),
    )


# fmt: off
CALLS = [
    exact("augment.affine.apply_affine", lambda put: augment.apply_affine(put(LABELS), MAPS, SPACING)),
    exact("augment.affine.random_affine",
          lambda put: augment.random_affine(put(LABELS), SPACING, None, generator_of(2))),
    exact("augment.affine.affine_pair", lambda put: augment.affine_pair(put(IMAGES), put(LABELS), MAPS, SPACING)),
    exact("augment.affine.random_affine_pair",
          lambda put: augment.random_affine_pair(put(IMAGES), put(LABELS), SPACING, None, generator_of(2))),
    drawn("augment.affine.swap_labels", lambda put: augment.swap_labels(put(LABELS), 0.2, 4)),
    exact("augment.corruptions.acquire", lambda put: augment.acquire(put(IMAGES), SPACING, 2)),
    exact("augment.corruptions.shift_slices", lambda put: augment.shift_slices(put(IMAGES), MOTION, SPACING)),
    drawn("augment.corruptions.add_noise", lambda put: augment.add_noise(put(IMAGES), torch.arange(3) / 9, 5)),
    drawn("augment.corruptions.rician_noise", lambda put: augment.rician_noise(put(IMAGES), 0.1, 5)),
    exact("augment.corruptions.drop_slices",
          lambda put: augment.drop_slices(put(IMAGES), augment.random_missing(3, 8, 1.5, generator_of(4)))),
    drawn("augment.corruptions.corrupt", lambda put: augment.corrupt(
        put(IMAGES), SPACING, augment.Corruption(2, 4.0, 2.0, 2.0, rician=0.1, noise=0.1, missing=1.5), 7)),
    exact("augment.elastic.warp_pair",
          lambda put: augment.warp_pair(put(IMAGES), put(LABELS), MAPS, put(KNOTS), SPACING, -1.0)),
    exact("augment.elastic.random_warp_pair", lambda put: augment.random_warp_pair(
        put(IMAGES), put(LABELS), SPACING, None, augment.ElasticRanges((8, 8, 8)), generator_of(2))),
    exact("augment.elastic.random_flip_pair",
          lambda put: augment.random_flip_pair(put(IMAGES), put(LABELS), (0, 2), generator_of(2))),
    exact("augment.landmarks.move_landmarks",
          lambda put: marks.move_landmarks(put(MARKS), MAPS, (12, 10, 8), SPACING)),
    exact("augment.landmarks.random_gaps", lambda put: marks.random_gaps(put(IMAGES), 0.7, 3)),
    exact("device.sent", lambda put: sent(IMAGES, best_device())),
    exact("training.losses.onehot", lambda put: losses.onehot(put(LABELS), 4)),
    exact("training.losses.cross_entropy",
          lambda put: losses.cross_entropy(put(LOGITS), put(LABELS), put(torch.ones(4)))),
    exact("training.losses.soft_dice_loss", lambda put: losses.soft_dice_loss(put(LOGITS), put(LABELS))),
    exact("training.losses.code_distance", lambda put: losses.code_distance(put(CODES), put(CODES.flip(0)))),
    exact("training.losses.dice_scores", lambda put: losses.dice_scores(put(LABELS.flip(0)), put(LABELS), 4)),
    exact("models.acnn.autoencoder.measure_statistics", lambda put: measured(
        put(seeded(lambda: autoencoder.Autoencoder(AE))), lambda n: autoencoder.measure_statistics(n, HEART_LABELS))),
    exact("models.acnn.baselines.upsample", lambda put: baselines.upsample(put(IMAGES)[:, None], 3)),
    exact("models.acnn.predictor.random_contrast",
          lambda put: predictor.random_contrast(put(IMAGES), predictor.ContrastRanges(), generator_of(6))),
    exact("models.acnn.predictor.thick_slices", lambda put: predictor.thick_slices(put(IMAGES), SPACING, 2)),
    drawn("models.acnn.predictor.augment_pairs",
          lambda put: predictor.augment_pairs(put(HEARTS), put(HEART_LABELS), READER)),
    exact("models.acnn.predictor.measure_image_statistics", lambda put: measured(
        put(seeded(lambda: predictor.Predictor(READER))), lambda n: predictor.measure_image_statistics(n, HEARTS))),
    exact("models.acnn.prior.resample", lambda put: prior.resample(put(LOGITS), (6, 10, 12))),
    exact("models.acnn.prior.ACNNLoss", lambda put: prior.ACNNLoss(tl_network())(
        put(LOGITS).repeat(1, 1, 2, 3, 2)[:2, :, :, :24, :12].requires_grad_(True), put(HEART_LABELS))),
    exact("models.acnn.sr_baselines.through_plane_product", lambda put: sr_baselines.through_plane_product(
        put(IMAGES), sr_baselines.interpolation_matrix(8, 3, "bspline"))),
    exact("models.acnn.tl.joint_losses",
          lambda put: tl.joint_losses(put(tl_network()), put(HEARTS), put(HEART_LABELS), put(HEART_LABELS.flip(0)))),
    exact("models.acnn.tl.distance", lambda put: tl.distance(put(CODES), put(CODES.flip(0)))),
    exact("models.acnn.trainer.predict_labels", lambda put: trainer.predict_labels(put(flat()), IMAGES)),
    exact("models.acnn.trainer.predict_images", lambda put: trainer.predict_images(put(flat()), IMAGES)),
    exact("models.native.turned", lambda put: native.turned(put(SLICES), 20.0)),
    exact("models.sslln.dice_term", lambda put: sslln.dice_term(put(LOGITS), put(LABELS))),
    exact("models.sslln.landmark_term", lambda put: sslln.landmark_term(put(LOGITS[:, :3]), put(MARKS))),
    exact("models.sslln.landmarks_of", lambda put: sslln.landmarks_of(put(LOGITS[0]))),
    *(exact(f"models.sslln.predict {method}", lambda put, method=method: sslln.predict(
        put(seeded(lambda: sslln.NETWORKS[method](SMALL))), torch.rand(2, 16, 16, 6, generator=generator_of(8))))
      for method in sslln.NETWORKS),
    exact("models.two_stage.losses.class_weights", lambda put: two_losses.class_weights(put(torch.arange(4) * 9))),
    exact("models.two_stage.losses.dice_loss",
          lambda put: two_losses.dice_loss(put(LOGITS), put(LABELS), put(torch.ones(4)))),
    exact("models.two_stage.losses.roi_loss", lambda put: two_losses.roi_loss(put(LOGITS), put(LABELS))),
    exact("models.two_stage.losses.roi_entropy", lambda put: two_losses.roi_entropy(put(LOGITS), put(LABELS))),
    exact("models.two_stage.networks.coarse_image", lambda put: two_nets.coarse_image(put(IMAGES)[:, None], (4, 4, 3))),
    exact("models.two_stage.networks.full_sized",
          lambda put: two_nets.full_sized(put(LOGITS), (2, 3, 1), (slice(3, 20), slice(0, 7), slice(2, 8)))),
    exact("models.two_stage.volumes.repeated", lambda put: two_volumes.repeated(put(IMAGES), slice(-2, 12))),
    exact("models.two_stage.volumes.coarse_labels", lambda put: two_volumes.coarse_labels(put(LABELS), (3, 2, 2), 4)),
    exact("models.two_stage.training.beside", lambda put: two_steps.beside(put(LOGITS), two_volumes.Drawn(
        put(LOGITS[:, :1]), put(LABELS), put(IMAGES)[:, None], put(LABELS), (slice(1, 13), slice(2, 12), slice(-4, 4))),
        two_nets.TwoStageConfig(factor=(2, 2, 2)))),
    drawn("phantoms.randomise.randomise", lambda put: randomise.randomise(
        put(SLICES), put(TISSUES), 1.6, 24, randomise.Randomisation(), 3, torch.tensor([0, 0, 1, 1]))),
    drawn("phantoms.randomise.randomised_stacks", lambda put: randomise.randomised_stacks(
        put(SLICES), put(TISSUES), 1.6, 24, randomise.Randomisation(), 3)),
    on_slices("move", 1.6, 24, randomise.Randomisation()),
    on_slices("more_trabeculae", 0.7), on_slices("new_contrast", 0.8), on_slices("new_surroundings", 0.6),
    on_slices("bias_field", 0.3, tissues=False), on_slices("ghost", 0.5, tissues=False),
    on_slices("blur_and_noise", 1.0, 0.06, tissues=False), on_slices("to_unit", tissues=False),
    on_slices("intensity_curve", 0.8, tissues=False), on_slices("without_neighbours", 0.3, tissues=False),
    exact("phantoms.ultrasound_imaging.more_shadows",
          lambda put: more_shadows(put(torch.rand(2, 8, 8, 8, generator=generator_of(9))), BOX, 3)),
    exact("phantoms.ultrasound_imaging.shadow_db", lambda put: shadow_db(
        np.random.default_rng(1), put(torch.linspace(-0.7, 0.7, 9)), put(torch.linspace(0.7, -0.7, 9)))),
    exact("atlas.fusion.majority_vote", lambda put: majority_vote(put(LABELS))),
    exact("atlas.fusion.fuse_labels", lambda put: fuse_labels(put(LABELS), put(IMAGES), put(IMAGES[0]))),
    exact("metrics.evaluate", lambda put: evaluate(put(LABELS[0]), put(LABELS[1]), SPACING).to_numpy(float)),
    exact("metrics.ssim", lambda put: ssim(put(HEARTS[0, :, :, :]), put(HEARTS[1, :, :, :]))),
]
# fmt: on

#: Tensors are no matter of the device there.
EXCUSED = {
    "augment.affine.check_pair": "looks at the shapes",
    "phantoms.drawing.drawn": "hands it on where it is",
    "models.acnn.subpixel.check_stack": "looks at the shape",
    "phantoms.ultrasound_geometry.closed": "the larger of two tensors",
    "models.two_stage.volumes.looked": "of volumes on the CPU, where they are cut",
    "models.two_stage.volumes.drawn_voxel": "of volumes on the CPU, where they are cut",
}


def flat() -> nn.Module:
    """A network of one convolution: stacks (N, 1, X, Y, Z) to two channels."""
    return seeded(lambda: nn.Conv3d(1, 2, 3, padding=1))


def parts(made: Any) -> list[Tensor]:
    """What a function gave, as tensors."""
    if isinstance(made, dict):
        made = list(made.values())
    if isinstance(made, list | tuple):
        return [part for one in made for part in parts(one)]
    return [] if made is None else [made if isinstance(made, Tensor) else torch.as_tensor(made)]


@pytest.mark.parametrize("name, call, random_there", CALLS)
def test_a_function_takes_tensors_on_the_device(name, call, random_there, place, monkeypatch):
    monkeypatch.setattr("shapelab.device.fast_dtype", lambda device: torch.float32)
    torch.manual_seed(0)
    there = parts(call(lambda value: value.to(place.device)))
    devices = {made.device.type for made in there}
    assert devices <= {place.device.type} or devices == {"cpu"} and not name.startswith(("augment", "training")), (
        devices
    )
    torch.manual_seed(0)
    here = parts(call(lambda value: value)) if name != "device.sent" else [IMAGES]
    assert len(there) == len(here) != 0
    for a, b in zip((t.detach().cpu() for t in there), (t.detach() for t in here), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        if random_there and place.device.type != "cpu":
            continue
        if b.dtype == torch.uint8:  # label maps: a tie may go the other way
            assert float((a != b).double().mean()) <= 5e-3
        else:
            assert torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4, equal_nan=True)


def test_every_public_function_of_a_tensor_is_among_them():
    found = set()
    for module in pkgutil.walk_packages([str(Path(shapelab.__file__).parent)], "shapelab."):
        if module.name.split(".")[1] in ("augment", "training", "phantoms", "models", "device"):
            for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
                first = next(iter(inspect.signature(function).parameters.values()), None)
                tensor = first is not None and first.annotation in ("Tensor", "torch.Tensor", Tensor)
                if tensor and function.__module__ == module.name and not name.startswith("_"):
                    found.add(f"{module.name}.{name}".removeprefix("shapelab."))
    tested = {call.values[0].split()[0] for call in CALLS}
    assert found - tested - set(EXCUSED) == set() and set(EXCUSED) <= found


@pytest.mark.slow
@pytest.mark.parametrize("folder", WEIGHTS, ids=lambda p: p.name)
def test_what_ships_opens_there(folder, place, monkeypatch):
    """Of a space, codes and probabilities; of a network, where its weights are."""
    monkeypatch.setattr("shapelab.device.fast_dtype", lambda device: torch.float32)
    there, here = open_kept(folder), open_kept(folder, "cpu")
    network = next(getattr(there, name) for name in ("network", "net", "model") if hasattr(there, name))
    assert {p.device.type for p in network.parameters()} == {place.device.type}
    if isinstance(there, NetworkSpace):
        codes = np.stack([there.mean, there.mean + there.sigma])
        assert np.allclose(there.decode(codes), here.decode(codes), atol=1e-4)
        labels = here.label_maps(codes)
        assert np.allclose(there.encode(labels), here.encode(labels), atol=1e-3 * float(here.sigma.max()))


@pytest.mark.slow
def test_a_registration_there_is_that_of_the_cpu(place):
    frame = Frame(BALL.shape, (2.0, 2.0, 2.0))
    ffd = FreeFormDeformation(levels=1, bending=(1,), blur_mm=(2,), sampling_mm=(0,), step_mm=(1,))
    moved = BALL.roll(1, 0)
    there = replace(ffd, engine="torch").fit(BALL.to(place.device), moved.to(place.device), frame, frame)
    here = ffd.fit(BALL, moved, frame, frame)
    assert (there.engine, here.engine) == ("torch", "numba")
    assert np.abs(here.displacement()).max() > 0.5  # it moved
    assert np.allclose(there.displacement(), here.displacement(), atol=0.05)
