"""SSLLN: one network for labels and landmarks of a heart (Duan et al., "Automatic 3D bi-ventricular segmentation of
cardiac images by a shape-refined multi-task deep learning approach", IEEE TMI 38(9):2151-2164, 2019), sections II-B
and III-B, and the two networks it is compared with.

    SSLLN       2.5D: the slices of a volume are the *channels* of a 2-D network. So its convolutions cost what those of
                a 2-D network cost, and yet every output voxel has seen every slice.
    SliceFCN    "2D FCN": the same network on each slice alone; no slice knows of another
    VolumeFCN   "3D FCN": the same in three dimensions, feature maps halved, on a crop of 112 x 112 x 64

All map volumes (N, X, Y, S) to logits; `SSLLNLoss` is equation 1. A landmark is a class of its own, one voxel large;
where the network puts it is the centre of gravity of the voxels it gives to that class (Fig. 9).

Deviations:
    Fig. 4 says 15 convolutions, features from fine to coarse, concatenated, and two heads; numbers of feature maps are
        not told. Those of `full` and `paper` are of the network the paper takes as its 2D FCN (Bai et al. 2018): five
        scales of 16, 32, 64, 128 and 256 maps, with 2, 2, 2, 3 and 3 convolutions of 3 x 3, the first of a scale with
        stride 2; then two of 1 x 1 with 64 maps on the concatenated scales, and the heads. `quick` has more maps at the
        fine scales, as they have to carry 39 slices.
    Concatenation: a 1 x 1 convolution of concatenated maps is the sum of 1 x 1 convolutions of each, and commutes with
        linear upsampling. So each scale is brought to 64 maps where it is, then upsampled and added: the same function,
        at a seventh of the cost of its first layer.
    Sums over training samples (equations 2 and 3) are means here, so that the batch size does not change what a weight
        of the loss means. Other sums are the paper's.
    alpha: the landmark term is a sum over voxels, the Dice term a ratio, so that with the paper's weights, 0.8 and 0.2,
        the gradient of the former in the trunk is a hundred times that of the latter (measured in a network of the
        quick profile after 800 steps). The paper's 6,250 large steps get over it. In `quick` alpha is 32, which makes
        both alike: on 24 validation hearts, after 640 to 800 steps, Dice of the LV myocardium was .65 with the paper's
        weights and .81 without the landmark term.
    Weight decay is the optimiser's: Adam with 2 gamma, the gradient of gamma ||W||^2.
    Missing slices: the paper sets slices to zero in tests (Fig. 8) and tells of none in training. A network of ours
        that has met none is lost where some are missing: every slice is a channel of every feature. `gaps` sets some to
        zero in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapelab.augment import AffineRanges, affine_pair
from shapelab.augment.landmarks import move_landmarks, random_gaps, random_maps
from shapelab.data.volumes import LandmarkedVolumes
from shapelab.device import autocast, best_device
from shapelab.errors import in_range, must, one_of
from shapelab.phantoms import LANDMARKS
from shapelab.tensor_files import checksum
from shapelab.training import Batches, Config, FitSettings, History, Run, fit, seeded

LARGER = {  # than "quick": the paper's grid
    "shape": (192, 192, 80),
    "spacing": (1.25, 1.25, 2.0),
    "widths": (16, 32, 64, 128, 256),
    "merged": 64,
    "crop": (112, 112, 64),
    "alpha": 0.8,
    "batch": 8,
    "slices": 80,
    "learning_rate": 1e-3,
    "epochs": 50,
    "baseline_epochs": 50,
}


@dataclass(frozen=True)
class SSLLNConfig(Config):
    """Numbers of the network and its training; the defaults are the quick profile's."""

    shape: tuple[int, int, int] = (80, 80, 39)  # X, Y, slices
    spacing: tuple[float, float, float] = (2.5, 2.5, 10 / 3)  # mm; the paper's box is 240 x 240 x 160 mm
    n_classes: int = 5  # background, LV cavity and wall, RV cavity and wall
    n_landmarks: int = len(LANDMARKS)  # the paper's six, Fig. 3
    widths: tuple[int, ...] = (48, 64, 96, 128, 160)  # feature maps at each scale
    convs: tuple[int, ...] = (2, 2, 2, 3, 3)  # 3 x 3 convolutions at each scale
    merged: int = 128  # feature maps of the concatenated scales
    crop: tuple[int, int, int] = (56, 56, 39)  # of the 3D FCN
    slices: int = 12  # 2D FCN: slices of each volume that a step of training looks at, drawn anew
    alpha: float = 32.0  # of the Dice loss; paper (section III-B): 0.8, see above
    beta: float = 0.2  # of the landmark loss
    gamma: float = 5e-5  # of ||W||^2
    batch: int = 2  # paper: 8; for more steps
    learning_rate: float = 3e-3  # paper: 1e-3, for more steps
    epochs: int = 80
    baseline_epochs: int = 16  # of the 2D and the 3D FCN, which learn one slice, or one voxel, for all
    schedule: str = "one-cycle"
    affine: AffineRanges = field(
        default_factory=lambda: AffineRanges(
            rotation=(15.0, 15.0, 15.0), scale=0.1, stretch=0.0, shear=0.0, translation=(12.0, 12.0, 0.0)
        )
    )
    intensity: float = 0.2  # intensities are multiplied by 1 +- this at most
    gaps: float = 0.0  # share of training volumes in which some consecutive slices are set to zero; not in the paper
    gap_mm: float = 45.0  # and over what length at most

    PROFILES = {"full": LARGER, "paper": {**LARGER, "schedule": "constant"}}

    def __post_init__(self):
        super().__post_init__()
        step = 2 ** (len(self.widths) - 1)
        must(
            len(self.widths) == len(self.convs) and min(self.widths + self.convs) >= 1,
            "SSLLNConfig",
            f"widths {self.widths}, convs {self.convs}",
            "as many, from 1",
        )
        must(
            all(not n % step for n in self.shape[:2]),
            "SSLLNConfig",
            f"shape {self.shape}",
            f"multiples of {step} in the plane",
        )


# ---------------------------------------------------------------------------------------------------------- networks


class _Trunk(nn.Module):
    """Fig. 4 up to the heads, in two or three dimensions: 12 convolutions at five scales, and two on all of them.

    (N, n_in, X, Y[, Z]) -> (N, merged, X, Y[, Z]). Sizes in the comments: 192 x 192, widths of the paper profile.
    """

    def __init__(self, dims: int, n_in: int, widths: Sequence[int], convs: Sequence[int], merged: int):
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.mode = "bilinear" if dims == 2 else "trilinear"

        def block(n: int, m: int, stride: int) -> nn.Sequential:
            return nn.Sequential(conv(n, m, 3, stride, padding=1, bias=False), norm(m), nn.ReLU(inplace=True))

        ins = (n_in, *widths[:-1])
        self.scales = nn.ModuleList(  # (16, 192, 192), (32, 96, 96), (64, 48, 48), (128, 24, 24), (256, 12, 12)
            nn.Sequential(block(n, m, 1 if level == 0 else 2), *(block(m, m, 1) for _ in range(k - 1)))
            for level, (n, m, k) in enumerate(zip(ins, widths, convs, strict=True))
        )
        self.squeeze = nn.ModuleList(conv(m, merged, 1, bias=False) for m in widths)  # parts of one convolution
        self.norm = nn.Sequential(norm(merged), nn.ReLU(inplace=True))
        self.last = nn.Sequential(conv(merged, merged, 1, bias=False), norm(merged), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        size, total = x.shape[2:], None
        for scale, squeeze in zip(self.scales, self.squeeze, strict=True):
            x = scale(x)
            part = squeeze(x)
            if part.shape[2:] != size:
                part = F.interpolate(part, size=size, mode=self.mode, align_corners=False)
            total = part if total is None else total + part
        return self.last(self.norm(total))


class SSLLN(nn.Module):
    """The 2.5D network of Fig. 4, with two heads.

    volume (N, X, Y, S) in [0, 1] -> labels' logits (N, C, X, Y, S), landmarks' logits (N, L + 1, X, Y, S); C with the
    background, landmark channel 0 is "no landmark"
    """

    def __init__(self, config: SSLLNConfig | None = None):
        super().__init__()
        self.config = c = config or SSLLNConfig.profile()
        slices = c.shape[2]
        self.trunk = _Trunk(2, slices, c.widths, c.convs, c.merged)
        self.labels = nn.Conv2d(c.merged, c.n_classes * slices, 1)  # #C x #S maps
        self.landmarks = nn.Conv2d(c.merged, (c.n_landmarks + 1) * slices, 1)  # #LK x #S maps
        self.to(memory_format=torch.channels_last)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        _check(volume, self.config.shape)
        slices = self.config.shape[2]
        features = self.trunk(volume.permute(0, 3, 1, 2))  # slices are channels
        heads = (self.labels, self.config.n_classes), (self.landmarks, self.config.n_landmarks + 1)
        return tuple(h(features).unflatten(1, (n, slices)).permute(0, 1, 3, 4, 2) for h, n in heads)


class SliceFCN(nn.Module):
    """2D FCN: the same network on every slice by itself, without landmarks.

    volume (N, X, Y, S) -> logits (N, C, X, Y, S), None
    """

    def __init__(self, config: SSLLNConfig | None = None):
        super().__init__()
        self.config = c = config or SSLLNConfig.profile()
        self.trunk = _Trunk(2, 1, c.widths, c.convs, c.merged)
        self.labels = nn.Conv2d(c.merged, c.n_classes, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, volume: Tensor) -> tuple[Tensor, None]:
        _check(volume, (*self.config.shape[:2], None))
        n, _, _, slices = volume.shape
        images = volume.permute(0, 3, 1, 2).flatten(0, 1)[:, None]  # (N S, 1, X, Y)
        return self.labels(self.trunk(images)).unflatten(0, (n, slices)).permute(0, 2, 3, 4, 1), None


class VolumeFCN(nn.Module):
    """3D FCN: the same in three dimensions, feature maps halved, without landmarks; on a crop of the volume's middle.

    volume (N, X, Y, S) -> logits (N, C, X, Y, S), None; outside the crop: background, for certain
    """

    OUTSIDE = 20.0  # logit of the background where nothing was looked at

    def __init__(self, config: SSLLNConfig | None = None):
        super().__init__()
        self.config = c = config or SSLLNConfig.profile()
        self.trunk = _Trunk(3, 1, [max(1, n // 2) for n in c.widths], c.convs, max(1, c.merged // 2))
        self.labels = nn.Conv3d(max(1, c.merged // 2), c.n_classes, 1)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, volume: Tensor) -> tuple[Tensor, None]:
        _check(volume, self.config.shape)
        box = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(volume.shape[1:], self.crop, strict=True))
        made = self.labels(self.trunk(volume[(slice(None), *box)][:, None]))
        whole = made.new_zeros(len(volume), self.config.n_classes, *volume.shape[1:])
        whole[:, 0] = self.OUTSIDE
        whole[(slice(None), slice(None), *box)] = made
        return whole, None

    @property
    def crop(self) -> tuple[int, int, int]:
        """The crop, no larger than the volume."""
        return tuple(min(n, m) for n, m in zip(self.config.shape, self.config.crop, strict=True))


def _check(volume: Tensor, shape: tuple) -> None:
    must(
        volume.ndim == 4 and all(n is None or n == m for n, m in zip(shape, volume.shape[1:], strict=True)),
        "volume",
        f"shape {tuple(volume.shape)}",
        f"(N, {', '.join(map(str, shape))})",
    )


#: Name in the paper's tables -> network.
NETWORKS: dict[str, type[nn.Module]] = {"2D FCN": SliceFCN, "3D FCN": VolumeFCN, "SSLLN": SSLLN}


# -------------------------------------------------------------------------------------------------------------- loss


class SSLLNLoss:
    """Equation 1 without its last term, which is the optimiser's: alpha L_D + beta L_L.

    Attributes:
        alpha: 0.8 and 0.2 (section III-B; equation 1 itself writes one weight less)
        beta: see `alpha`

    Called with the network's two outputs, labels (N, X, Y, S) channel numbers, and landmarks (N, L, 3) in voxels; NaN,
    or a place outside the volume, is a landmark that is not there. Returns a dict of scalars: loss, dice (L_D, from -1
    to 0), landmarks (L_L; only where the network has landmarks).
    """

    def __init__(self, alpha: float = 0.8, beta: float = 0.2):
        self.alpha, self.beta = in_range("SSLLNLoss: alpha", alpha), in_range("SSLLNLoss: beta", beta)

    def __call__(self, output: tuple[Tensor, Tensor | None], labels: Tensor, landmarks: Tensor) -> dict[str, Tensor]:
        made, found = output
        dice = dice_term(made, labels)
        if found is None:
            return {"loss": self.alpha * dice, "dice": dice.detach()}
        located = landmark_term(found, landmarks)
        return {"loss": self.alpha * dice + self.beta * located, "dice": dice.detach(), "landmarks": located.detach()}


def dice_term(logits: Tensor, labels: Tensor, epsilon: float = 1e-8) -> Tensor:
    """L_D, equation 2: - 2 sum_kj 1[r_j = k] P_kj / sum_kj (1[r_j = k]^2 + P_kj^2 + epsilon), mean over samples.

    Numerator and denominator are summed over all classes, the background among them, before they are divided: one
    ratio a sample, from -1 (perfect) to 0.

    logits (N, C, X, Y, S); labels (N, X, Y, S) channel numbers
    """
    # (N, X, Y, C, S): as SSLLN's memory has it, so that nothing is copied
    p = logits.float().movedim(1, 3).softmax(3)
    right = p.gather(3, labels.long()[:, :, :, None]).flatten(1).sum(1)  # sum_kj 1[r_j = k] P_kj
    voxels = labels[0].numel()  # sum_kj 1[r_j = k]^2
    below = voxels * (1 + logits.shape[1] * epsilon) + p.square().flatten(1).sum(1)
    return -(2 * right / below).mean()


def landmark_term(logits: Tensor, landmarks: Tensor) -> Tensor:
    """L_L, equation 3: - sum_k w_k sum_{j in Y_k} log P(l_j = k), w_k = 1 - |Y_k| / |Y|, mean over samples.

    The six landmarks are a voxel each, all other voxels are the seventh class, so its weight is about 6 / |Y|.

    logits (N, L + 1, X, Y, S), channel 0 "no landmark"; landmarks (N, L, 3) voxels, NaN or outside: not there
    """
    n, channels, *shape = logits.shape
    must(
        landmarks.shape == (n, channels - 1, 3),
        "landmarks",
        f"shape {tuple(landmarks.shape)}",
        f"({n}, {channels - 1}, 3)",
    )
    log_p = logits.float().movedim(1, 3).log_softmax(3)  # (N, X, Y, L + 1, S)
    size = torch.tensor(shape, device=logits.device)
    there = torch.isfinite(landmarks).all(2)
    place = torch.where(there[..., None], landmarks, 0).round().long()
    there &= ((place >= 0) & (place < size)).all(2)
    i, j, k = torch.where(there[..., None], place, 0).unbind(2)  # (N, L) each
    sample, landmark = torch.arange(n, device=i.device)[:, None], torch.arange(1, channels, device=i.device)[None]
    total = float(np.prod(shape))
    of_landmarks = torch.where(there, log_p[sample, i, j, landmark, k], 0).sum(1) * (1 - 1 / total)
    none = log_p[:, :, :, 0].flatten(1).sum(1) - torch.where(there, log_p[sample, i, j, 0, k], 0).sum(1)
    return -(of_landmarks + there.sum(1) / total * none).mean()


# ---------------------------------------------------------------------------------------------------------- training


def train_sslln(
    volumes: LandmarkedVolumes,
    config: SSLLNConfig | None = None,
    run: Run | None = None,
    *,
    method: str = "SSLLN",
) -> tuple[nn.Module, History]:
    """Train SSLLN, or what it is compared with, by equation 1 with the paper's augmentation.

    Args:
        volumes: on the config's grid
        config: None takes the current profile's
        run: where it is kept, seed (of weights, order and augmentation), device: see `shapelab.training.Run`
        method: a key of `NETWORKS`

    Raises UsageError for an unknown method or another grid.
    """
    config, run = config or SSLLNConfig.profile(), run or Run()
    one_of("method", method, NETWORKS)
    must(
        volumes.images.shape[1:] == config.shape,
        "volumes",
        f"shape {volumes.images.shape[1:]}",
        f"the config's {config.shape}",
    )
    network = seeded(lambda: NETWORKS[method](config), run.seed)
    loss = SSLLNLoss(config.alpha, config.beta)

    def step(rows: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels, landmarks = rows
        maps = random_maps(len(images), config.affine)
        images, labels = affine_pair(images.float(), labels, maps, config.spacing)
        landmarks = move_landmarks(landmarks, maps, config.shape, config.spacing)
        factor = 1 + config.intensity * (2 * torch.rand(len(images)) - 1)
        images = (images * factor.to(images.device)[:, None, None, None]).clamp(0, 1)
        if config.gaps:
            images = random_gaps(images, config.gaps, round(config.gap_mm / config.spacing[2]))
        if isinstance(network, SliceFCN):
            some = torch.randperm(images.shape[3])[: config.slices].to(images.device)
            images, labels = images[..., some], labels[..., some]
        return loss(network(images), labels, landmarks)

    arrays = {"images": volumes.images, "labels": volumes.labels, "landmarks": volumes.landmarks.astype(np.float32)}
    history = fit(
        step,
        network,
        Batches(*arrays.values(), batch_size=config.batch, seed=run.seed),
        config.epochs,
        settings=FitSettings(
            learning_rate=config.learning_rate, weight_decay=2 * config.gamma, schedule=config.schedule
        ),
        run=run.about({"method": method, "config": repr(config), "data": checksum(arrays)}),
    )
    return network.eval(), history


# --------------------------------------------------------------------------------------------------------- inference


@torch.inference_mode()
def predict(network: nn.Module, images: np.ndarray | Tensor, batch: int = 4) -> tuple[np.ndarray, np.ndarray | None]:
    """Segment volumes and find their landmarks.

    Args:
        images: (N, X, Y, S) in [0, 1], on the network's grid

    Returns:
        labels (N, X, Y, S) uint8 channel numbers, and landmarks (N, L, 3) in voxels (None if the network has none); the
        centre of gravity of the voxels that are more likely this landmark than another or none; where there is no such
        voxel, the voxel in which the landmark is likeliest.
    """
    network.eval()
    device = next((p.device for p in network.parameters()), best_device())
    labels, places = [], []
    for part in torch.as_tensor(images).split(batch):
        with autocast(device):
            made, found = network(part.to(device).float())
        labels.append(made.argmax(1).to(torch.uint8).cpu().numpy())
        if found is not None:
            places += [landmarks_of(one) for one in found.float()]
    return np.concatenate(labels), np.stack(places) if places else None


def landmarks_of(logits: Tensor) -> np.ndarray:
    """Landmarks (L, 3) in voxels from the logits (L + 1, X, Y, S) of one volume; see `predict`."""
    winner = logits.argmax(0)
    places = []
    for k in range(1, len(logits)):
        voxels = (winner == k).nonzero()
        if not len(voxels):  # of log P, not of the logit: other classes count
            best = int((logits[k] - logits.logsumexp(0)).argmax())
            voxels = torch.tensor(np.unravel_index(best, tuple(logits.shape[1:])))[None]
        places.append(voxels.double().mean(0).cpu().numpy())
    return np.stack(places)
