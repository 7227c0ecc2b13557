"""Arrays of hearts on one grid, image and label beside each other: what networks learn from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shapelab.data.cohort import Cohort
from shapelab.data.grid import Grid, note_outside, to_grid, z_normalised
from shapelab.data.placement import Placement
from shapelab.data.rows import Rows, positions
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, WHOLE_HEART, LabelScheme
from shapelab.device import gathered, resident, sent
from shapelab.errors import need


class Volumes:
    """Base of frozen dataclasses of arrays that share their first axis, a heart a row, beside a `table` of facts."""

    images: np.ndarray
    labels: np.ndarray
    table: pd.DataFrame
    scheme: LabelScheme

    def __post_init__(self) -> None:
        highest = int(self.labels.max(initial=0))
        need(
            highest < self.n_classes,
            f"{type(self).__name__}.labels",
            f"channel number {highest}",
            f"0 to {self.n_classes - 1}, those of the scheme {self.scheme.name!r}",
            "Bring the scheme's integers to channel numbers with scheme.channels.",
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | Iterable[int] | Iterable[str] | Rows) -> Self:
        """Some of the hearts: a slice, positions, names of the table's rows, or a mask (see `data.rows.positions`)."""
        rows = rows if isinstance(rows, slice) else positions(type(self).__name__, rows, self.table.index)
        taken = {name: array[rows] for name, array in vars(self).items() if isinstance(array, np.ndarray)}
        return type(self)(**{**vars(self), **taken, "table": self.table.iloc[rows]})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the grid."""
        x, y, z = self.images.shape[1:]
        return x, y, z

    @property
    def n_classes(self) -> int:
        """Background included."""
        return self.scheme.n_classes


@dataclass(frozen=True, eq=False)
class HeartPairs(Volumes):
    """HR images and labels of N hearts, and how their LR slices are displaced.

    Attributes:
        images: (N, X, Y, Z) float16 in [0, 1]
        labels: (N, X, Y, Z) uint8, channel numbers (0 background)
        motion: (N, Z/K, 3) float32, each LR slice's breath-hold: dx mm, dy mm, rotation in degrees
        table: one row a heart: patient, phase, group, drawn factors
        spacing: mm of the HR grid
        factor: K, HR slices per LR slice
    """

    images: np.ndarray
    labels: np.ndarray
    motion: np.ndarray
    table: pd.DataFrame
    spacing: tuple[float, float, float]
    factor: int
    scheme: LabelScheme = CARDIAC

    def __post_init__(self) -> None:
        n, *shape = self.images.shape
        for name, expected in {"labels": (n, *shape), "motion": (n, shape[2] // self.factor, 3)}.items():
            need(
                getattr(self, name).shape == expected,
                f"HeartPairs.{name}",
                f"shape {getattr(self, name).shape}",
                f"{expected}",
            )
        need(
            len(self.table) == n and shape[2] % self.factor == 0,
            "HeartPairs",
            f"{len(self.table)} rows for {n} hearts, {shape[2]} slices, K={self.factor}",
            "a row a heart, and slices a multiple of K",
        )
        super().__post_init__()


@dataclass(frozen=True, eq=False)
class LandmarkedVolumes(Volumes):
    """Volumes of N hearts with labels and landmarks, on one grid.

    Attributes:
        images: (N, X, Y, S) floating, in [0, 1]
        labels: (N, X, Y, S) uint8, channel numbers of `scheme`
        landmarks: (N, L, 3) in voxels of the grid, in the order of `data.facts.HEART_LANDMARKS`; NaN: not known
        table: one row a heart
        spacing: mm
    """

    images: np.ndarray
    labels: np.ndarray
    landmarks: np.ndarray
    table: pd.DataFrame
    spacing: tuple[float, float, float]
    scheme: LabelScheme = BIVENTRICULAR

    def __post_init__(self) -> None:
        n = len(self.images)
        found = {"labels": self.labels.shape, "landmarks": (len(self.landmarks), *self.landmarks.shape[2:])}
        for name, expected in {"labels": self.images.shape, "landmarks": (n, 3)}.items():
            need(
                found[name] == expected and self.images.ndim == 4 and len(self.table) == n,
                f"LandmarkedVolumes.{name}",
                f"shape {getattr(self, name).shape}, {len(self.table)} rows",
                f"those of {n} images (N, X, Y, S): {self.images.shape}",
            )
        super().__post_init__()


@dataclass(frozen=True, eq=False)
class Scans(Volumes):
    """Scans of N hearts with their label maps, on one grid; of one modality or of several.

    Attributes:
        images: (N, X, Y, Z) floating, each of mean 0 and sd 1 (`shapelab.data.grid.z_normalised`)
        labels: (N, X, Y, Z) uint8, channel numbers of `scheme`
        table: one row a scan: patient, modality ("CT", "MR"), ...
        grid: shape and spacing
    """

    images: np.ndarray
    labels: np.ndarray
    table: pd.DataFrame
    grid: Grid
    scheme: LabelScheme = WHOLE_HEART

    def __post_init__(self) -> None:
        shape = (len(self.table), *self.grid.shape)
        for name in ("images", "labels"):
            found = getattr(self, name).shape
            need(found == shape, f"Scans.{name}", f"shape {found}", f"{shape}: a row of the table each, on {self.grid}")
        super().__post_init__()

    @classmethod
    def of(cls, *parts: Scans) -> Scans:
        """Scans on one grid, one after the other."""
        images, labels = (np.concatenate([getattr(p, name) for p in parts]) for name in ("images", "labels"))
        return cls(images, labels, pd.concat([p.table for p in parts]), parts[0].grid, parts[0].scheme)


#: Whole hearts: the centre of all structures comes to the middle of the grid, and no wall tears.
WHOLE_HEARTS = Placement("heart", whole_walls=True)


def scans_on_grid(cohort: Cohort, grid: Grid, placement: Placement = WHOLE_HEARTS, progress: bool = False) -> Scans:
    """Lay images and label maps of a cohort on a grid, as the joint shape space learns from: resampled, cropped round
    the heart, and each image z-normalised over what the crop holds.

    Args:
        cohort: subjects with image and label map
        placement: how they are laid; of short-axis stacks `shapelab.data.placement.HEARTS`
        progress: show a bar

    Returns:
        Scans: images float16; the cohort's table with a column `outside`, as `shapelab.data.grid.stack_labels` has it

    Raises DataError: no subject, or one without image or label map.
    """
    from tqdm.auto import tqdm

    need(len(cohort), cohort.name, "no subject", "at least one")
    for subject in cohort:
        for name, source in (("image", subject.image_source), ("label map", subject.label_source)):
            todo = "Leave it out: cohort.filter(lambda s: s.label_source is not None and s.image_source is not None)."
            need(source is not None, subject.where, f"no {name}", "image and label map of each scan", todo)
    images, labels = (np.empty((len(cohort), *grid.shape), kind) for kind in (np.float16, np.uint8))
    outside: list[float] = []
    for row, subject in enumerate(tqdm(cohort, desc=f"{cohort.name} on {grid}", disable=not progress, leave=False)):
        sample = to_grid(subject, grid, **vars(placement))
        images[row] = z_normalised(np.asarray(sample.image))
        labels[row] = cohort.scheme.channels(np.asarray(sample.label))
        outside.append(sample.outside)
    table = cohort.table
    note_outside(table, outside, cohort.name, grid)
    return Scans(images, labels, table, grid, cohort.scheme)


STEP_MM = 10.0  # a neighbour is the slice about this far away: the next one in most stacks, the second next at 5 mm


@dataclass(frozen=True, eq=False)
class SliceData:
    """Slices of many stacks on one in-plane grid, what the network learns from.

    Attributes:
        images: (S, X, Y) uint8, 255 for 1; an array, or a tensor on a device (`on`)
        tissues: (S, X, Y) uint8, integers of BIVENTRICULAR; an RV wall that nobody outlined is 0; likewise
        around: (S, 3) row of the slice above, the slice itself, the slice below; -1 where the stack ends
        stack: (S,) number of the stack a slice is from; slices of a stack follow each other
        distances: (stacks,) mm between slices
    """

    images: np.ndarray | Tensor
    tissues: np.ndarray | Tensor
    around: np.ndarray
    stack: np.ndarray
    distances: np.ndarray

    @classmethod
    def of_stacks(cls, images: list[np.ndarray], tissues: list[np.ndarray], distances: list[float]) -> SliceData:
        """From stacks (X, Y, Z), images in [0, 1], and the distances (mm) of their slices."""
        around, start = [], 0
        for image, dz in zip(images, distances, strict=True):
            around.append(np.where((rows := neighbours(image.shape[2], dz)) >= 0, rows + start, -1))
            start += image.shape[2]
        as_bytes = [np.rint(255 * np.clip(i, 0, 1)).astype(np.uint8) for i in images]
        parts = (as_bytes, [t.astype(np.uint8) for t in tissues])
        grey, tissue = (np.ascontiguousarray(np.concatenate([np.moveaxis(a, 2, 0) for a in p])) for p in parts)
        stack = np.repeat(np.arange(len(images)), [i.shape[2] for i in images])
        return cls(grey, tissue, np.concatenate(around), stack, np.asarray(distances, dtype=float))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images (N, 3, X, Y) float32 in [0, 1] and tissues (N, 3, X, Y) uint8; zeros beyond a stack's ends."""
        around = self.around[np.asarray(rows)]
        images, tissues = gathered(self.images, around), gathered(self.tissues, around)
        there = sent(torch.from_numpy(around >= 0), images.device)[:, :, None, None]
        return (images * there).float() / 255, tissues * there

    def on(self, device: torch.device | str) -> SliceData:
        """The same slices, on a device that has room for them."""
        images, tissues = resident([self.images, self.tissues], device)
        return replace(self, images=images, tissues=tissues)


def neighbours(n: int, distance_mm: float) -> np.ndarray:
    """(n, 3) numbers of the slice about 10 mm above, the slice, and the one below; -1 where there is none."""
    step = max(1, round(STEP_MM / distance_mm))
    rows = np.arange(n)[:, None] + np.array([-step, 0, step])
    return np.where((rows >= 0) & (rows < n), rows, -1)
