"""What the two-stage U-Net is compared with: a 3-D U-Net on voxels of 2 mm, its output brought back by B-splines of
second order ("3D U-Nets for each modality which predict on data resampled to resolution of 2 x 2 x 2 mm3", section
2.3).

Deviations:
    It is trained as Net1 is in step 2: on sub-volumes, with the same augmentation, the loss L of equation 2 and
    cross-entropy, for as many batches as all four steps have. The paper says "well-trained".
    What is brought back are probabilities; the paper says "the output volumes".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from shapelab.data.scheme import WHOLE_HEART, LabelScheme
from shapelab.device import autocast, laid_out, without_autocast
from shapelab.models.two_stage.losses import class_weights, dice_loss
from shapelab.models.two_stage.networks import Block, TwoStageConfig, Unit
from shapelab.models.two_stage.training import begun_with, check_volumes, in_turn, mean_dice, settings_of
from shapelab.models.two_stage.volumes import Source, Volume
from shapelab.training import History, Run, fit, seeded
from shapelab.training.losses import cross_entropy
from shapelab.types import Shape3

KERNEL = (3, 3, 3)
ORDER = 2  # of the B-splines


class UNet(nn.Module):
    """(N, 1, X, Y, Z) voxels of 2 mm in [-1, 1] -> logits (N, C, X, Y, Z): a U-Net of 3 x 3 x 3 convolutions."""

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__()
        self.config = config
        like = (config.units1, config.dropout)
        w = [config.unet_width * 2**level for level in range(config.unet_levels + 1)]
        self.down = nn.ModuleList(Block(n_in, n, KERNEL, *like) for n_in, n in zip([1, *w], w))
        self.grow = nn.ModuleList(Unit(below, n, KERNEL, config.units1) for n, below in [*pairwise(w)][::-1])
        self.up = nn.ModuleList(Block(2 * n, n, KERNEL, *like) for n in w[-2::-1])
        self.out = nn.Conv3d(w[0], config.n_classes, 1)
        laid_out(self, torch.channels_last_3d)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 1, 4, 2, 3).contiguous(memory_format=torch.channels_last_3d)
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool3d(x, 2, ceil_mode=True) if skips else x)
            skips.append(x)
        skips.pop()
        for grow, block in zip(self.grow, self.up):
            skip = skips.pop()
            x = block(torch.cat([grow(F.interpolate(x, size=skip.shape[2:], mode="nearest")), skip], 1))
        return self.out(x).permute(0, 1, 3, 4, 2)

    @torch.inference_mode()
    def segment(self, volume: Volume) -> np.ndarray:
        """Label map (X, Y, Z) uint8, channel numbers, at the volume's own resolution."""
        device, coarse = next(self.parameters()).device, resampled(volume, self.config.unet_mm)
        image = torch.from_numpy(np.asarray(coarse.image, np.float32))[None, None].to(device)
        with autocast(device):
            found = self.eval()(image)[0].float().softmax(0).cpu().numpy()
        ratio = np.array(volume.spacing) / coarse.spacing  # coarse voxels in one of the volume's
        back = partial(
            ndimage.affine_transform,
            matrix=ratio,
            offset=0.5 * ratio - 0.5,
            output_shape=volume.image.shape,
            order=ORDER,
            mode="nearest",
        )
        return np.argmax([back(part) for part in found], 0).astype(np.uint8)


def resampled(volume: Volume, mm: float) -> Volume:
    """A volume on cubes of about `mm`, which fill its field: the image linear, of labels the largest share."""
    fields = np.array(volume.image.shape) * volume.spacing
    x, y, z = (max(1, round(side / mm)) for side in fields)
    shape: Shape3 = (x, y, z)
    size = partial(F.interpolate, size=shape, mode="trilinear", align_corners=False)
    image = size(torch.from_numpy(np.asarray(volume.image, np.float32))[None, None])[0, 0].numpy()
    label = None
    if volume.label is not None:
        named = torch.from_numpy(np.asarray(volume.label))
        shares = [size((named == c).float()[None, None])[0, 0] for c in range(int(named.max()) + 1)]
        label = torch.stack(shares).argmax(0).to(torch.uint8).numpy()
    a, b, c = fields / shape
    return Volume(image.astype(np.float16), label, (a, b, c))


def train_unet(
    volumes: Sequence[Volume],
    config: TwoStageConfig | None = None,
    run: Run | None = None,
    *,
    scheme: LabelScheme = WHOLE_HEART,
    validation: Sequence[Volume] | None = None,
) -> tuple[UNet, History]:
    """Train the U-Net; arguments and history as `shapelab.models.two_stage.train_two_stage` has them ("val unet")."""
    config, run = config or TwoStageConfig.profile(), run or Run()
    check_volumes(volumes, config, scheme)
    unet = seeded(lambda: UNet(config), run.seed)
    near = tuple(max(1, round(side * config.spacing[0] / config.unet_mm)) for side in config.sides)
    source = Source([resampled(v, config.unet_mm) for v in volumes], replace(config, sides=near), run.target)
    weights = class_weights(source.counts()).to(run.target)

    def step(rows: np.ndarray) -> dict[str, Tensor]:
        with torch.no_grad(), without_autocast(source.device):
            images, labels = source.sub_volumes(rows.tolist())
        logits = unet(images)
        entropy = config.cross_entropy * cross_entropy(logits, labels)
        return {"dice": dice_loss(logits, labels, weights), "entropy": entropy}

    turns = in_turn(len(volumes), config.batch[1], config, sum(config.steps), run.seed)
    history = fit(
        step,
        unet,
        turns,
        len(turns),
        settings=settings_of(config, config.rates[1]),
        validate=None if validation is None else lambda _: {"val unet": mean_dice(unet.segment, validation, config)},
        run=run.about(begun_with(unet, volumes, config, scheme)),
    )
    for row in history.rows:
        row["steps"] = turns.steps_until(int(row["epoch"]) + 1)
    return unet, history
