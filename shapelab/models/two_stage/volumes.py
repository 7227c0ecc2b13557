"""Volumes at full resolution, and what is drawn from them for a batch: coarse ones, sub-volumes, slabs of slices.

"A hierarchical sampling strategy" (section 2.3): a batch is of few volumes; the class of a sub-volume's central voxel
is drawn evenly from those that are there, then the voxel evenly from that class.

Deviation: a sub-volume is laid as far inside its volume as it can, so near the border the drawn voxel is not in its
middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shapelab.augment import random_warp_pair
from shapelab.data.grid import to_unit_range
from shapelab.data.volumes import Scans
from shapelab.device import sent
from shapelab.errors import need, spacing3
from shapelab.models.two_stage.networks import TwoStageConfig, coarse_image
from shapelab.phantoms.randomise import randomised_stacks
from shapelab.types import Shape3, Triple, Vector3

ANYWHERE = 1 / 3  # share of the runs that one stage sees off the heart
ROI_JITTER_MM = 12.0  # that a training slab's borders are moved by, beside the margin


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan at full resolution.

    Attributes:
        image: (X, Y, Z) floating, in [-1, 1]
        label: (X, Y, Z) uint8, channel numbers; None: not known
        spacing: (3,) mm
    """

    image: np.ndarray
    label: np.ndarray | None
    spacing: Vector3

    def __post_init__(self) -> None:
        image, shape = self.image, None if self.label is None else self.label.shape
        need(image.ndim == 3, "Volume.image", f"shape {image.shape}", "(X, Y, Z)")
        low, high = float(image.min()), float(image.max())
        need(
            -1.001 <= low <= high <= 1.001,
            "Volume.image",
            f"intensities from {low:.3g} to {high:.3g}",
            "-1 to 1",
            "Make it with volume_of.",
        )
        need(shape in (None, image.shape), "Volume.label", f"shape {shape}", f"that of the image, {image.shape}")
        object.__setattr__(self, "spacing", spacing3("Volume.spacing", self.spacing))


def volume_of(image: np.ndarray, spacing: Triple, label: np.ndarray | None = None) -> Volume:
    """A scan of any unit: its percentiles 1 and 99 become -1 and 1, what is beyond them is cut off."""
    scaled = (2 * to_unit_range(np.asarray(image, np.float32)) - 1).astype(np.float16)
    return Volume(scaled, label, spacing3("spacing", spacing))


def volumes_of(scans: Scans) -> list[Volume]:
    """Scans on one grid, each as a volume."""
    return [
        volume_of(image, scans.grid.spacing, label) for image, label in zip(scans.images, scans.labels, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A batch for both nets.

    Attributes:
        coarse: (N, 1, x, y, z), what Net1 sees
        coarse_labels: (N, x, y, z); None of whole slices, from which Net1 does not learn
        fine: (N, 1, X, Y, K + n - 1), what Net2 sees of the image
        labels: (N, X, Y, n), of its middle slices
        box: where `fine` lies in the full-resolution voxels that `coarse` covers; its slices may reach beyond, where
            the last one is repeated
    """

    coarse: Tensor
    coarse_labels: Tensor | None
    fine: Tensor
    labels: Tensor
    box: tuple[slice, slice, slice]


def repeated(x: Tensor, slices: slice) -> Tensor:
    """Slices (last axis) of a volume, those beyond its ends the last ones again."""
    index = torch.arange(slices.start, slices.stop, device=x.device).clamp(0, x.shape[-1] - 1)
    return x.index_select(-1, index)


def coarse_labels(labels: Tensor, factor: Shape3, n_classes: int) -> Tensor:
    """(N, X, Y, Z) -> the class of most voxels in each coarse one, (N, x, y, z) uint8."""
    shares = [coarse_image((labels == c).float()[:, None], factor)[:, 0] for c in range(n_classes)]
    return torch.stack(shares).argmax(0).to(torch.uint8)


class Source:
    """Volumes with labels, from which batches are drawn; everything random comes from torch's default generator.

    Whole hearts are moved and cut on the CPU, since where to cut depends on their voxels, for which a GPU would have to
    be waited for; batches are sent to the device.
    """

    def __init__(self, volumes: Sequence[Volume], config: TwoStageConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.images = [torch.from_numpy(np.ascontiguousarray(v.image)) for v in volumes]
        self.labels = [torch.from_numpy(np.ascontiguousarray(v.label)) for v in volumes]
        self.spacings = [v.spacing for v in volumes]

    def counts(self) -> Tensor:
        """Voxels of each class, (C,)."""
        n = self.config.n_classes
        return torch.stack([torch.bincount(label.flatten().int(), minlength=n)[:n] for label in self.labels]).sum(0)

    def coarse(self, rows: Sequence[int], sub: bool) -> tuple[Tensor, Tensor]:
        """Coarse images (N, 1, x, y, z) and labels (N, x, y, z): whole volumes, or sub-volumes of one random size."""
        if self.config.looks is not None:
            images, labels = self._stacks(rows, self.config.field)
        else:
            images, labels = self._cut(rows) if sub else self._warped(rows)
        factor, n = self.config.factor, self.config.n_classes
        return self._sent(coarse_image(images[:, None], factor)), self._sent(coarse_labels(labels, factor, n))

    def sub_volumes(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sub-volumes (N, 1, X, Y, Z) of one random size, and their labels (N, X, Y, Z)."""
        images, labels = self._cut(rows)
        return self._sent(images[:, None]), self._sent(labels)

    def both(self, rows: Sequence[int], whole: bool) -> Drawn:
        """What step 3 (sub-volumes) or step 4 (`whole`: slices as the region of interest leaves them) learns from."""
        config = self.config
        if config.looks is not None:
            images, labels = self._stacks(rows, config.window, anywhere=config.stages == 1)
            box = (slice(0, config.window), slice(0, config.window))
        else:
            images, labels = self._warped(rows) if whole else self._cut(rows)
            if not whole:
                x, y = images.shape[1:3]
                box = (slice(0, x // config.fold * config.fold), slice(0, y // config.fold * config.fold))
            else:
                box = self._region(labels)
        n, half = min(config.outputs, images.shape[3]), config.slices // 2
        start = self._first_slice(labels, n)
        slab = slice(start - half, start + n + half)
        fine = repeated(images[:, box[0], box[1]], slab)[:, None]
        middle = labels[:, box[0], box[1], start : start + n]
        factor = config.factor
        return Drawn(
            self._sent(coarse_image(images[:, None], factor)),
            None if whole else self._sent(coarse_labels(labels, factor, config.n_classes)),
            self._sent(fine),
            self._sent(middle),
            (*box, slab),
        )

    def _sent(self, tensor: Tensor) -> Tensor:
        return sent(tensor, self.device)

    # -------------------------------------------------------------------------------------------------- whole hearts

    def _warped(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Volumes, each moved and with another look: images (N, X, Y, Z) float32 in about [-1, 1], labels."""
        made = []
        for row in rows:
            image, label = self.images[row][None], self.labels[row][None]
            how = (self.spacings[row], self.config.affine, self.config.elastic)
            moved, named = random_warp_pair(image.float(), label, *how, fill=-1.0)  # outside it is as dark as can be
            made.append((looked(moved), named))
        return _same_sized([(i[0], m[0]) for i, m in made])

    def _cut(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sub-volumes of one random size."""
        images, labels = self._warped(rows)
        size = self._sides(images.shape[1:])
        return _same_sized([_part(image, label, size) for image, label in zip(images, labels)])

    def _sides(self, shape: Sequence[int]) -> Shape3:
        """Size of a batch's sub-volumes, each axis drawn by itself."""
        x, y, z = (min(n, self.config.sides[int(torch.randint(len(self.config.sides), (1,)))]) for n in shape)
        return x, y, z

    def _region(self, labels: Tensor) -> tuple[slice, slice]:
        """The box in plane about what is labelled, its four sides moved outwards by chance: as Net1 may leave it."""
        step = 2**self.config.levels2 if self.config.fold == 1 else self.config.fold
        most = [(self.config.margin_mm + ROI_JITTER_MM) / s for s in self.spacings[0][:2]]
        sides = []
        for axis, reach in zip((1, 2), most):
            there = (labels > 0).any(dim=0).any(dim=2).any(dim=2 - axis).nonzero()[:, 0]
            n = labels.shape[axis]
            low, high = (0, n) if not len(there) else (int(there[0]), int(there[-1]) + 1)
            draws = (torch.rand(2) * reach).long().tolist()
            sides.append(in_steps(low - draws[0], high + draws[1], n, step))
        return sides[0], sides[1]

    def _first_slice(self, labels: Tensor, n: int) -> int:
        """Where n slices begin whose middle one holds a voxel of a class that is drawn evenly."""
        deep = labels.shape[3]
        if deep == n:
            return 0
        centre = drawn_voxel(labels[int(torch.randint(len(labels), (1,)))])[2]
        return min(max(0, centre - n // 2), deep - n)

    # ----------------------------------------------------------------------------------------------- short-axis stacks

    def _stacks(self, rows: Sequence[int], size: int, anywhere: bool = False) -> tuple[Tensor, Tensor]:
        """Runs of `outputs` slices (fewer, where a stack has no more) of stacks, randomised, `size` pixels in plane
        about the middle; `anywhere`: of a third of them anywhere in the field, for what reads whole slices in use."""
        n = min(self.config.outputs, *(self.labels[row].shape[2] for row in rows))
        runs = []
        for row in rows:
            image, label = self.images[row], self.labels[row]
            start = int(torch.randint(image.shape[2] - n + 1, (1,)))
            reach = (self.config.field - size) // 2 if anywhere and float(torch.rand(1)) < ANYWHERE else 0
            move = torch.randint(-reach, reach + 1, (2,)).tolist()
            image, label = (sent(t[..., start : start + n], self.device) for t in (image.float(), label))
            runs.append([_about(t, size + 2 * (size // 10), move) for t in (image, label)])
        images, tissues = (torch.stack(parts).permute(0, 3, 1, 2) for parts in zip(*runs, strict=True))  # (N, Z, X, Y)
        assert self.config.looks is not None
        images, tissues = randomised_stacks(
            (images + 1) / 2,
            tissues,
            self.spacings[0][0],
            size,
            self.config.looks,
            int(torch.randint(2**31, (1,))),
        )
        labels = torch.where(tissues < self.config.n_classes, tissues, 0)  # the RV's wall is background
        return (2 * images - 1).permute(0, 2, 3, 1), labels.permute(0, 2, 3, 1)


def looked(images: Tensor) -> Tensor:
    """Images (N, X, Y, Z) in [-1, 1], on the CPU, each with another brightness, contrast, curve and noise."""
    n = len(images)
    gain, shift, curve, noise = (torch.randn(n, 1, 1, 1) for _ in range(4))
    unit = ((images + 1) / 2).clamp(0, 1) ** torch.exp(0.2 * curve)
    out = (2 * unit - 1) * (1 + 0.1 * gain) + 0.1 * shift
    return out + 0.05 * noise.abs() * torch.randn(images.shape)


def drawn_voxel(label: Tensor) -> tuple[int, int, int]:
    """A voxel of a label map (X, Y, Z): its class drawn evenly from those that are there, then evenly in the class."""
    here = torch.bincount(label.flatten()).nonzero()[:, 0]
    chosen = (label == here[int(torch.randint(len(here), (1,)))]).flatten().nonzero()[:, 0]
    x, y, z = np.unravel_index(int(chosen[int(torch.randint(len(chosen), (1,)))]), tuple(label.shape))
    return int(x), int(y), int(z)


def in_steps(low: int, high: int, n: int, step: int) -> slice:
    """A stretch that holds low to high (exclusive) inside 0 to n, widened to a multiple of `step` where n lets it."""
    low, high = max(0, low), min(n, high)
    size = min(-(-(high - low) // step) * step, n // step * step)
    start = min(max(0, (low + high - size) // 2), n - size)
    return slice(start, start + size)


def _part(image: Tensor, label: Tensor, size: Shape3) -> tuple[Tensor, Tensor]:
    """A sub-volume about a drawn voxel."""
    centre = drawn_voxel(label)
    starts = [min(max(0, c - s // 2), n - s) for c, s, n in zip(centre, size, label.shape, strict=True)]
    where = tuple(slice(start, start + s) for start, s in zip(starts, size, strict=True))
    return image[where], label[where]


def _about(x: Tensor, size: int, move: Sequence[int]) -> Tensor:
    """The middle (size, size, Z) of a stack (X, Y, Z), moved by some pixels; dark where the stack ends."""
    for axis, shift in zip((0, 1), move, strict=True):
        start = (x.shape[axis] - size) // 2 + shift
        before, after = max(0, -start), max(0, start + size - x.shape[axis])
        x = x.narrow(axis, max(0, start), size - before - after)
        pad = [0] * (4 - 2 * axis) + [before, after]
        x = F.pad(x, pad, value=-1.0 if x.is_floating_point() else 0)
    return x


def _same_sized(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stacked images and labels; those of one batch must be of one size."""
    images, labels = zip(*parts)
    sizes = {tuple(i.shape) for i in images}
    need(len(sizes) == 1, "volumes", f"sizes {sorted(sizes)} in one batch", "one size", "Lay them on one grid.")
    return torch.stack(images), torch.stack(labels)
