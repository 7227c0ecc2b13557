"""Where the voxels of an array lie: shape, spacing and origin in mm."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shapelab.data.geometry import bounding_box
from shapelab.errors import DataError, must, need
from shapelab.types import Array, Triple


@dataclass(frozen=True)
class Frame:
    """Voxel (i, j, k) of an array of `shape` lies at origin + (i, j, k) * spacing, in mm.

    All frames of one refinement are those of its target: millimetres from the target's voxel (0, 0, 0). An atlas has
    a frame of its own, and an affine map leads from one to the other. UsageError on what cannot be a frame.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    if TYPE_CHECKING:  # what comes is made tuples of

        def __init__(self, shape: Sequence[int] | np.ndarray, spacing: Triple, origin: Triple = ...) -> None: ...

    def __post_init__(self) -> None:
        shape: tuple[int, ...] = ()
        spacing: tuple[float, ...] = ()
        origin: tuple[float, ...] = ()
        with suppress(TypeError, ValueError):
            shape = tuple(int(n) for n in self.shape)
            spacing, origin = (tuple(float(v) for v in values) for values in (self.spacing, self.origin))
        for name, value in (("shape", shape), ("spacing", spacing), ("origin", origin)):
            object.__setattr__(self, name, value)
        must(
            len(shape) == len(spacing) == len(origin) == 3
            and np.isfinite([*spacing, *origin]).all()
            and min(shape) >= 1
            and min(spacing) > 0,
            "Frame",
            f"shape {shape}, spacing {spacing}, origin {origin}",
            "three positive whole numbers, three positive lengths and three positions in mm",
        )

    def positions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the voxels along each axis, mm."""
        x, y, z = (o + s * np.arange(n) for n, s, o in zip(self.shape, self.spacing, self.origin))
        return x, y, z

    @property
    def matrix(self) -> np.ndarray:
        """Voxel index -> mm, 4x4."""
        out = np.diag([*self.spacing, 1.0])
        out[:3, 3] = self.origin
        return out

    def box(self, label: np.ndarray, name: str = "label") -> np.ndarray:
        """Lowest and highest position of a label's voxels, (2, 3) mm. DataError naming the array if it has none."""
        around = bounding_box(label)
        if around is None:
            raise DataError(name, "a label map without labels", "at least one labelled voxel")
        return self.origin + np.array([[b.start for b in around], [b.stop - 1 for b in around]]) * self.spacing

    def part(self, low: Triple, high: Triple) -> tuple[Frame, tuple[slice, ...]]:
        """The voxels between low and high (3,) mm: their frame, and their place in an array; at least one voxel."""
        end = np.array(self.shape) - 1
        first = np.clip(np.ceil((np.asarray(low) - self.origin) / self.spacing - 1e-6).astype(int), 0, end)
        last = np.clip(np.floor((np.asarray(high) - self.origin) / self.spacing + 1e-6).astype(int), first, end)
        frame = Frame(tuple(last - first + 1), self.spacing, tuple(self.origin + first * self.spacing))
        return frame, tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last))

    def every(self, strides: Sequence[int]) -> Frame:
        """Every n-th voxel along each axis, from the first."""
        return Frame(
            tuple(-(-n // s) for n, s in zip(self.shape, strides)),
            tuple(np.multiply(self.spacing, strides)),
            self.origin,
        )

    @staticmethod
    def covering(low: Triple, high: Triple, spacing: Triple) -> Frame:
        """The smallest frame over the box low to high (3,) mm whose voxels lie at whole multiples of the spacing."""
        first = np.floor(np.asarray(low) / spacing + 1e-6).astype(int)
        last = np.ceil(np.asarray(high) / spacing - 1e-6).astype(int)
        return Frame(tuple(last - first + 1), tuple(spacing), tuple(first * np.asarray(spacing)))

    def nearest(self, array: np.ndarray, other: Frame) -> np.ndarray:
        """An array of this frame at another's voxels: the nearest voxel's value, 0 more than half a voxel outside."""
        places = zip(other.positions(), self.spacing, self.origin)
        index = [np.floor((x - o) / s + 0.5).astype(int) for x, s, o in places]
        a, b, c = ((i >= 0) & (i < n) for i, n in zip(index, self.shape))
        near = array[np.ix_(*(np.clip(i, 0, n - 1) for i, n in zip(index, self.shape)))]
        return np.where(a[:, None, None] & b[:, None] & c, near, array.dtype.type(0))

    def linear(self, array: np.ndarray, other: Frame) -> np.ndarray:
        """An image of this frame at the voxels of another, float32: linear, border values beyond the border."""
        array = np.asarray(array, np.float32)
        for axis, (x, n, s, o) in enumerate(zip(other.positions(), self.shape, self.spacing, self.origin)):
            t = np.clip((x - o) / s, 0, n - 1)
            i = np.minimum(t.astype(int), max(n - 2, 0))
            w = (t - i).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
            array = (1 - w) * array.take(i, axis) + w * array.take(np.minimum(i + 1, n - 1), axis)
        return array


def as_frame(frame: Frame | Triple, array: Array, name: str) -> Frame:
    """A `Frame`, or a spacing (3,) mm with the array's shape; checked against the array (D0, D1, D2) of integers or
    floats. UsageError or DataError says what was found."""
    shape = tuple(array.shape)
    need(len(shape) == 3 and min(shape) >= 1, name, f"an array of shape {shape}", "three axes (D0, D1, D2), none empty")
    if not isinstance(frame, Frame):
        frame = Frame(shape, frame)
    need(frame.shape == shape, name, f"an array of shape {shape}", f"its frame's shape, {frame.shape}")
    return frame
