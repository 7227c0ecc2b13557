"""The two-stage U-Net in use: Net1 finds the region of interest, Net2 draws it, slab by slab.

The dynamic tile (section 2.1) is the box of what Net1 labels and a margin about it. Where Net1 finds nothing, or what
Net2 labels reaches the border of the box, Net2 reads whole slices, and a warning says so.

Deviations:
    The largest piece of what Net1 labels makes the box; a crumb of it elsewhere would make the box the scan.
    Short-axis stacks: Net1 sees the middle of the slices first, as wide as its training field, and then the region of
        interest again, from which Net2's probabilities are: intensities are scaled by what is seen, as in training.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapelab.data.geometry import bounding_box, largest_component
from shapelab.data.grid import Grid, GridSample, from_grid, to_grid
from shapelab.data.orientation import canonical
from shapelab.data.scheme import WHOLE_HEART, LabelScheme
from shapelab.data.subject import Subject
from shapelab.data.walls import one_heart
from shapelab.device import autocast
from shapelab.errors import must, one_of
from shapelab.models.native import heart_centre, keep_largest, turned
from shapelab.models.two_stage.networks import TwoStageConfig, TwoStageNet, coarse_image, full_sized
from shapelab.models.two_stage.volumes import Volume, in_steps, repeated, volume_of
from shapelab.spaces.kept import NETWORK, Kept, scheme_of, scheme_text
from shapelab.training import numbers_of
from shapelab.types import Triple

Box = tuple[slice, slice, slice]
AT_ONCE = 24  # slices that Net2 labels in one pass
TURNS = (-12.0, 0.0, 12.0)  # degrees in plane, over which probabilities of a stack are averaged


class TwoStage(Kept):
    """Both nets, and how they are used on a scan.

    >>> volume = volume_of(image, spacing)                                              # doctest: +SKIP
    >>> label = two_stage.segment(volume)                       # (X, Y, Z) uint8       # doctest: +SKIP

    Attributes:
        net: `TwoStageNet`, with `net1` (None of a config with one stage) and `net2`
        config: its numbers
        scheme: of the label maps
        metadata: what it was trained on
    """

    FILE = NETWORK

    def __init__(
        self,
        net: TwoStageNet,
        config: TwoStageConfig,
        scheme: LabelScheme = WHOLE_HEART,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        must(
            scheme.n_classes == config.n_classes,
            "TwoStage",
            f"scheme {scheme.name!r} of {scheme.n_classes} classes",
            f"{config.n_classes}, as the nets have",
        )
        self.net, self.config, self.scheme, self.metadata = net, config, scheme, dict(metadata or {})

    @property
    def device(self) -> torch.device:
        """Where the nets are."""
        return next(self.net.parameters()).device

    # ------------------------------------------------------------------------------------------------ volume to labels

    @torch.inference_mode()
    def coarse(self, volume: Volume) -> Tensor:
        """Net1's probabilities (1, C, x, y, z) on coarse voxels; UsageError of a config with one stage."""
        net1 = self.net.net1
        must(net1 is not None, "coarse", "a config with one stage, which has no Net1", "one with two")
        assert net1 is not None
        image = self._image(volume)
        with autocast(self.device):
            return net1.eval()(coarse_image(image, self.config.factor)).float().softmax(1)

    def roi(self, probabilities: Tensor, volume: Volume) -> Box | None:
        """The region of interest that Net1's probabilities (1, C, x, y, z) leave of a volume; None: nothing found."""
        found = probabilities[0].argmax(0).cpu().numpy() > 0
        box = bounding_box(largest_component(found)) if found.any() else None
        if box is None:
            return None
        sides = []
        for axis, part in enumerate(box):
            n, f = volume.image.shape[axis], self.config.factor[axis]
            if axis == 2 and self.config.looks is not None:  # a stack has few slices: none is left out
                sides.append(slice(0, n))
                continue
            margin = int(np.ceil(self.config.margin_mm / volume.spacing[axis]))
            step = (2**self.config.levels2 if self.config.fold == 1 else self.config.fold) if axis < 2 else 1
            sides.append(in_steps(part.start * f - margin, part.stop * f + margin, n, step))
        return sides[0], sides[1], sides[2]

    def segment(self, volume: Volume, net: int = 2) -> np.ndarray:
        """Label map (X, Y, Z) uint8, channel numbers, of a volume at the config's spacing.

        Args:
            net: 1 for Net1's, brought to full resolution
        """
        one_of("net", net, (1, 2))
        return self.probabilities(volume, net).argmax(0).astype(np.uint8)

    @torch.inference_mode()
    def probabilities(self, volume: Volume, net: int = 2) -> np.ndarray:
        """Probabilities (C, X, Y, Z) float32 of a volume: see `segment`. Background outside the region of interest."""
        outer = self._outer(volume)
        made = self._within(self._part(volume, outer), net)
        return _placed(made, outer, volume)

    def _within(self, volume: Volume, net: int) -> np.ndarray:
        """Probabilities of a volume that both nets may see whole."""
        whole: Box = _box_of(volume)
        first = self.coarse(volume) if self.config.stages == 2 or net == 1 else None  # net 1 of one stage: an error
        if net == 1 and first is not None:
            return full_sized(first, self.config.factor, whole)[0].cpu().numpy()
        box = whole if first is None else self.roi(first, volume)
        if box is None:
            warnings.warn(
                "two-stage network: Net1 found no heart; expected one in the scan. Net2 read the whole slices: look "
                "at the result.",
                stacklevel=4,
            )
            box = whole
        made = self._fine(volume, first, box)
        if box != whole and _reaches(made.argmax(0) > 0, box, whole):
            warnings.warn(
                "two-stage network: the heart reaches the border of the region that Net1 found; expected a margin "
                "about it. Net2 read the whole slices instead.",
                stacklevel=4,
            )
            box = whole
            made = self._fine(volume, first, box)
        return _placed(made, box, volume)

    def averaged(self, volume: Volume, turns: Sequence[float] = TURNS) -> np.ndarray:
        """Mean of `probabilities` over a stack turned by some degrees in its plane, and with its slices from the other
        end: scanners begin at base or apex. No other mirror image of a heart is one."""
        found = []
        for degrees in turns:
            image = turned(_planes(np.asarray(volume.image, np.float32) + 1), degrees) - 1  # dark where nothing is
            made = self.probabilities(replace(volume, image=_stack(image), label=None))
            found.append(_stack(turned(_planes(made), -degrees)))
        backwards = np.asarray(volume.image)[..., ::-1].copy()
        found.append(self.probabilities(replace(volume, image=backwards, label=None))[..., ::-1])
        return np.mean(found, axis=0)

    def _outer(self, volume: Volume) -> Box:
        """What the nets see at most: of a stack the field of its training, about the middle of the slices."""
        most = volume.image.shape[:2] if self.config.looks is None else [self.config.field] * 2
        sides = []
        for n, side in zip(volume.image.shape, most):
            size = min(n, side) // self.config.fold * self.config.fold
            sides.append(slice((n - size) // 2, (n - size) // 2 + size))
        return sides[0], sides[1], slice(0, volume.image.shape[2])

    def _part(self, volume: Volume, box: Box) -> Volume:
        """What is seen of a box: of a stack scaled by the percentiles of what is seen, as in its training."""
        image = np.asarray(volume.image)[box]
        if self.config.looks is None:
            return replace(volume, image=image, label=None)
        return volume_of(image, volume.spacing)

    def _image(self, volume: Volume) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(volume.image)).to(self.device).float()[None, None]

    def _fine(self, volume: Volume, first: Tensor | None, box: Box) -> np.ndarray:
        """Net2's probabilities (C, *box) in slabs; beside a part of a stack, what Net1 says of that part, as in its
        training."""
        if self.config.looks is not None:
            volume = self._part(volume, box)
            first, box = None if first is None else self.coarse(volume), _box_of(volume)
        x, y, z = box
        half, image, parts = self.config.slices // 2, self._image(volume)[:, :, x, y], []
        net2, deep = self.net.net2.eval(), volume.image.shape[2]
        for start in range(z.start, z.stop, AT_ONCE):
            stop = min(start + AT_ONCE, z.stop)
            slab = slice(start - half, stop + half)
            seen = repeated(image, slab)
            if first is not None:
                inside = slice(max(0, slab.start), min(deep, slab.stop))
                grown = full_sized(first, self.config.factor, (x, y, inside))
                grown = repeated(grown, slice(slab.start - inside.start, slab.stop - inside.start))
                seen = torch.cat([grown, seen], 1)
            with autocast(self.device):
                parts.append(net2(seen)[0].float().softmax(0).cpu().numpy())
        return np.concatenate(parts, 3)

    # ----------------------------------------------------------------------------------------------- stacks as they are

    def predict(self, image: np.ndarray, spacing: Triple) -> np.ndarray:
        """Label map (X, Y, Z), integers of the scheme, of a short-axis stack in its own voxels, slices along the last
        axis: of the mean of probabilities (`averaged`) the largest pieces (`shapelab.models.native.keep_largest`), made
        one heart (`shapelab.data.walls.one_heart`); empty where none was found.

        The nets see what they saw in training, a field with the heart in its middle: first the field in the middle of
        the image, then the one about the heart that was found there (by Net1, where there is one).

        Args:
            image: (X, Y, Z) of any unit
            spacing: (3,) mm
        """
        affine, scan = np.diag([*np.asarray(spacing, float), 1.0]), np.asarray(image, np.float32)
        scan = scan - scan.min()  # what lies beyond the scan is 0, as dark as it gets
        subject = Subject("scan", self.scheme, image=scan, affine=affine)
        middle = (np.array(image.shape) - 1) / 2 * np.asarray(spacing, float)
        volume, _ = self.laid(subject, middle)
        first = self.segment(volume, net=1 if self.config.stages == 2 else 2)
        place = heart_centre(np.where(largest_component(first > 0), first, 0), volume.spacing)
        if place is not None:
            middle[:2] += place - (self.config.field - 1) / 2 * np.array(volume.spacing[:2])
        volume, sample = self.laid(subject, middle)
        found = from_grid(self.averaged(volume), sample.transform)
        return one_heart(keep_largest(found), self.scheme)

    def laid(self, subject: Subject, middle: np.ndarray | None = None) -> tuple[Volume, GridSample]:
        """A subject's image at the config's spacing, and how it was laid there: `shapelab.data.grid.from_grid` brings
        probabilities back to its own voxels.

        Args:
            middle: (3,) mm, voxel index * spacing, what lies in the middle of a square of `config.field` pixels; None:
                all of the image is laid
        """
        upright = canonical(subject)[0]
        sizes = upright.spacing
        own = np.array([wanted or s for wanted, s in zip(self.config.spacing, sizes, strict=True)])
        shape = np.maximum(1, np.rint(np.array(upright.shape) * sizes / own)).astype(int)
        shape[:2] = -(-shape[:2] // 16) * 16 if middle is None else self.config.field
        sample = to_grid(subject, Grid(tuple(shape), tuple(own)), centre="volume" if middle is None else middle)
        assert sample.image is not None  # the subject has one
        return volume_of(sample.image, own), sample

    # ------------------------------------------------------------------------------------------------------------ kept

    def description(self) -> dict[str, Any]:
        return {"config": numbers_of(self.config), "scheme": scheme_text(self.scheme), "metadata": self.metadata}

    def tensors(self) -> dict[str, Tensor]:
        return self.net.state_dict()

    @classmethod
    def rebuilt(cls, text: Mapping[str, Any]) -> TwoStage:
        config = TwoStageConfig(**text["config"])
        return cls(TwoStageNet(config), config, scheme_of(text["scheme"]), text.get("metadata", {}))

    def restore(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        self.net.load_state_dict(tensors)
        self.net.to(device).eval()


def _placed(made: np.ndarray, box: Box, volume: Volume) -> np.ndarray:
    """Probabilities (C, *box) in their place in a volume; background elsewhere."""
    full = np.zeros((len(made), *volume.image.shape), np.float32)
    full[0] = 1
    full[(slice(None), *box)] = made
    return full


def _box_of(volume: Volume) -> Box:
    """All of it."""
    x, y, z = volume.image.shape
    return slice(0, x), slice(0, y), slice(0, z)


def _planes(stack: np.ndarray) -> Tensor:
    """(X, Y, Z) or (C, X, Y, Z) -> (Z, C, X, Y)."""
    return torch.from_numpy(np.moveaxis(stack.reshape(-1, *stack.shape[-3:]), -1, 0).copy())


def _stack(planes: Tensor) -> np.ndarray:
    """The other way round."""
    made = np.moveaxis(planes.numpy(), 0, -1)
    return made[0] if len(made) == 1 else made


def _reaches(heart: np.ndarray, box: Box, whole: Box) -> bool:
    """Whether what is labelled in a box (mask of its size) touches one of its sides that is no side of the scan."""
    for axis, (part, all_of) in enumerate(zip(box, whole, strict=True)):
        for end, inner in ((0, part.start > all_of.start), (-1, part.stop < all_of.stop)):
            if inner and np.take(heart, end, axis).any():
                return True
    return False
