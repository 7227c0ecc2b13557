"""The refinement of one subject: from thick, misaligned slices to a smooth high-resolution label map.

SSLLN, section II-C and Fig. 5: landmark affine of every atlas -> the L = 5 most like the target by normalised mutual
information -> free-form deformation of each onto the target's labels -> label fusion.

Deviation: the majority of the warped atlases decides, not eq. 5 (`shapelab.atlas.fusion` says why, with numbers);
``fusion="non-local"`` is the paper's.

Slices that nobody annotated (empty ones between drawn ones) are not seen: they say nothing to the deformation, and
landmarks and selection take them as filled by the shapes of the slices beside them (`shapelab.data.gaps`). Of 30
phantom stacks drawn on every second slice the volumes were (RV cavity, LV myocardium, LV cavity) 1.03, 1.00 and 1.03 of
the whole stack's, refined from the whole stacks 1.06, 1.02 and 1.03; fitted to the filled slices as to drawn ones .93,
.99 and .99, and taken for background .65, .71 and .76. Dice with the whole stack: .90 .89 .94, .85 .88 .94 and .58 .57
.75.

Breath-holds: every level of the deformation fits the labels of every slice, so a slice that lies 2 mm out of line bends
the heart there. ``align=True`` brings slices into line first (`shapelab.atlas.alignment`), which the paper does not.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from shapelab.atlas.affine import Landmarks, landmark_affine
from shapelab.atlas.alignment import move_slices, slice_shifts
from shapelab.atlas.atlas import Atlas, LandmarkSource, checked_image
from shapelab.atlas.ffd import Deformation, FreeFormDeformation
from shapelab.atlas.frame import Frame, as_frame
from shapelab.atlas.fusion import BANDWIDTH, PATCH, WINDOW, fuse_labels, majority_vote
from shapelab.atlas.selection import select_atlases
from shapelab.atlas.warp import warp_label
from shapelab.data.gaps import fill_gaps, filled_text
from shapelab.data.geometry import bounding_box
from shapelab.data.grid import to_unit_range
from shapelab.data.landmarks import landmarks_from_label
from shapelab.data.scheme import VENTRICLES, LabelScheme
from shapelab.errors import must, one_of, spacing3, whole
from shapelab.metrics import dice
from shapelab.metrics.agreement import as_array
from shapelab.metrics.clinical import structure_volumes
from shapelab.types import Array, Triple

SELECTION_MARGIN_MM = 10.0  # round the target's labels; far background would make all atlases look alike
FUSIONS = ("majority", "non-local")
# Of 60 phantom stacks as ACDC's (ED and ES, slices displaced, apex cut off) the least Dice on the slices given was .82,
# and volumes were .93 to 1.19 of the stack's; of 80 hearts of ACDC .80, and .96 to 1.29.
LEAST_DICE, MOST_CHANGE = 0.75, 0.35


@dataclass(frozen=True, eq=False)
class Refinement:
    """A refined label map and how it came about.

    Attributes:
        label: (D0, D1, D2) integers of the scheme, in `frame` (mm of the target: its voxel (0, 0, 0) at 0)
        target: what was given, its slices brought into line if that was asked for
        unseen: numbers of its slices that nobody annotated, see `shapelab.data.gaps`
        target_frame: see `target`
        shift: (Z, 2) mm, what was taken out of each slice; 0 unless that was asked for
        atlases: the chosen ones, best first
        deformations: theirs, in that order
        affines: (4, 4) of every atlas offered, mm of the target -> mm of the atlas
        scores: normalised mutual information of every atlas offered
        chosen: indices into it
        landmarks: "given" or "label", where the target's came from
        fusion: "non-local", or "majority" where there is no image
        seconds: wall time of each step
    """

    label: np.ndarray
    frame: Frame
    target: np.ndarray
    target_frame: Frame
    scheme: LabelScheme
    atlases: tuple[Atlas, ...] = field(repr=False)
    deformations: tuple[Deformation, ...] = field(repr=False)
    affines: tuple[np.ndarray, ...] = field(repr=False)
    scores: np.ndarray
    chosen: tuple[int, ...]
    landmarks: str
    fusion: str
    seconds: dict[str, float]
    shift: np.ndarray
    unseen: tuple[int, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages: "affine", one a level of the deformation, "fusion"."""
        return (*self.deformations[0].names, "fusion")

    def stage(self, name: str, atlas: int | None = None) -> np.ndarray:
        """The label map at a stage, in `frame`: of one of the chosen atlases, or (None) what their majority says;
        "fusion" is the result. Made when asked for."""
        if one_of("stage", name, self.stages) == "fusion":
            return self.label
        if atlas is not None:
            return self.deformations[atlas].warp_label(self.atlases[atlas].label, self.frame, name)
        return majority_vote([d.warp_label(a.label, self.frame, name) for d, a in zip(self.deformations, self.atlases)])

    @property
    def min_jacobian(self) -> float:
        """Least Jacobian determinant of all deformations."""
        return min(d.min_jacobian for d in self.deformations)

    @property
    def folded(self) -> float:
        """Greatest share of folded places of all deformations."""
        return max(d.folded for d in self.deformations)

    def on_target(self, label: np.ndarray | None = None) -> np.ndarray:
        """The refined label map (or another one in `frame`) at the target's voxels: the nearest voxel's label."""
        return self.frame.nearest(self.label if label is None else label, self.target_frame)

    def agreement(self) -> pd.Series:
        """Dice of each structure between the refined label map at the target's voxels and what was given, on the slices
        that were annotated: what the refinement changed on the slices themselves. Breath-hold shifts that it took out
        count against it."""
        refined, given = (np.delete(label, self.unseen, 2) for label in (self.on_target(), self.target))
        return dice(refined, given, self.scheme)

    @property
    def filled(self) -> np.ndarray:
        """The target, the slices that nobody annotated filled by the shapes of those beside them."""
        return fill_gaps(self.target, self.target_frame.spacing, self.scheme)[0]

    def doubts(self, name: str = "target", unseen: Sequence[int] | None = None) -> list[str]:
        """What is to be known before the result is used: slices that nobody annotated, and `drift`; each with the name
        of what was refined. `unseen`: their numbers as its file counts them."""
        gaps = [filled_text(name, self.unseen if unseen is None else unseen)] if self.unseen else []
        return [*gaps, *(f"{name}: found {text}" for text in self.drift())]

    def drift(self) -> list[str]:
        """Where the result is far from what was given, in words: a cavity or the LV myocardium with Dice below
        `LEAST_DICE` on the slices given, or a volume off by more than the share `MOST_CHANGE` of the filled stack's.
        Not asked of an RV wall, which is about a voxel thick and often moves by half of that."""
        before = structure_volumes(self.filled, self.target_frame.spacing, self.scheme)
        after = structure_volumes(self.label, self.frame.spacing, self.scheme)
        agreement, found = self.agreement(), []
        for name in (n for n in self.scheme.names if n in VENTRICLES):
            if agreement[name] < LEAST_DICE:
                found.append(
                    f"{name} with Dice {agreement[name]:.2f} on the slices given; expected {LEAST_DICE:g} at least"
                )
            if abs(after[name] - before[name]) > MOST_CHANGE * before[name]:
                found.append(
                    f"{name} of {before[name]:.1f} ml before, {after[name]:.1f} ml after; expected a change of no more "
                    f"than {MOST_CHANGE:.0%}"
                )
        return [f"{text}. Compare before and after before this result is used." for text in found]


@dataclass(frozen=True)
class RefinementSettings:
    """How hearts are refined.

    Args:
        n_atlases: L, how many are deformed and fused
        ffd: of the registration
        fusion: "majority" of the warped atlases, or "non-local", the paper's eq. 5 (a deviation, measured: see the top
            of `shapelab.atlas.fusion`)
        patch: of the non-local fusion, in voxels of the result; the defaults are the paper's
        window: see `patch`
        h: see `patch`
        out_spacing: (3,) mm of the result; None: that of the first atlas
        align: bring slices into line first (`shapelab.atlas.slice_shifts`); the result then lies where the heart is
            most likely to be, and not on each slice's own breath-hold
    """

    n_atlases: int = 5
    ffd: FreeFormDeformation = FreeFormDeformation()
    fusion: str = "majority"
    patch: Sequence[int] = PATCH
    window: Sequence[int] = WINDOW
    h: float = BANDWIDTH
    out_spacing: Sequence[float] | None = None
    align: bool = False

    def __post_init__(self) -> None:
        one_of("fusion", self.fusion, FUSIONS)
        whole("n_atlases", self.n_atlases)
        if self.out_spacing is not None:
            object.__setattr__(self, "out_spacing", spacing3("out_spacing", self.out_spacing))


def refine(
    label: Array,
    image: Array | None,
    landmarks: Landmarks | None,
    atlases: Sequence[Atlas],
    spacing: Frame | Triple,
    scheme: LabelScheme | None = None,
    settings: RefinementSettings | None = None,
    threads: int | None = None,
) -> Refinement:
    """Refine one label map.

    Args:
        label: (D0, D1, D2) integers, numpy or torch: the segmentation of a stack, thick slices along the third axis. A
            tensor on a GPU is deformed onto and fused there; so is one on the CPU with ``FreeFormDeformation(engine=
            "torch")``. What is returned is numpy
        image: (D0, D1, D2) the scan, any intensities, for the non-local fusion; None: the majority decides
        landmarks: name -> (3,) mm, or (n, 3) in the order of the atlases'; mm is voxel index * spacing. None: the six
            that the label map gives (`shapelab.data.landmarks.landmarks_from_label`), for atlases and target alike, so
            that what is systematic in them cancels. The paper warns of that ("the non-rigid refinement failed
            completely if the affine transform is initialised from the tissue classes"); that was an affine registration
            of labels
        atlases: high-resolution hearts of the same scheme
        spacing: (3,) mm of `label`
        scheme: of `label`; default: that of the atlases
        settings: how; default: `RefinementSettings()`
        threads: atlases registered at a time; default: as many as there are cores

    Returns:
        Refinement. Its frame holds the target's whole field and the atlases where they reach beyond it (an apex that
        was not scanned); its voxels lie at whole multiples of `out_spacing` from the target's voxel (0, 0, 0).

    Raises:
        DataError: an empty label map, values outside the scheme, shapes that differ, degenerate landmarks
        UsageError: no atlas, atlases of another scheme, wrong settings
    """
    settings, seconds = settings or RefinementSettings(), _Laps()
    there = _there(settings.ffd.torch_device(label))
    label, image, frame, scheme = _checked(label, image, spacing, atlases, scheme)
    source: LandmarkSource = "given" if landmarks is not None else "label"
    shift = np.zeros((label.shape[2], 2))
    if settings.align:
        label, image, shift = _in_line(label, image, frame, scheme)
        seconds.lap("alignment")
    whole, unseen = fill_gaps(label, frame.spacing, scheme)
    if landmarks is None:
        landmarks = landmarks_from_label(whole, frame.spacing, scheme, "target")
    affines = tuple(landmark_affine(landmarks, atlas.landmarks_of(source)) for atlas in atlases)
    seconds.lap("affine")
    chosen, scores = most_like(whole, frame, atlases, affines, settings.n_atlases)
    seconds.lap("selection")
    threads = min(len(chosen), threads or len(os.sched_getaffinity(0)))
    # BLAS with threads of its own would fight with these
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        target, fit = there(_unseen(whole, unseen, scheme)), settings.ffd.fit
        deformations = tuple(
            pool.map(lambda i: fit(target, atlases[i].label, frame, atlases[i].frame, affines[i]), chosen)
        )
        seconds.lap("deformation")
        best = [atlases[i] for i in chosen]
        out = _frame(frame, settings.out_spacing or atlases[0].spacing, deformations)
        labels = list(pool.map(lambda d, a: d.warp_label(there(a.label), out), deformations, best))
        images, own, greys = None, None, [a.image for a in best if a.image is not None]
        if settings.fusion == "non-local" and image is not None and len(greys) == len(best):
            images = list(pool.map(lambda d, a: d.warp_image(there(to_unit_range(a)), out), deformations, greys))
            own = there(frame.linear(to_unit_range(image), out))
        seconds.lap("warp")
        fused = as_array(fuse_labels(labels, images, own, settings.patch, settings.window, settings.h, threads))
    seconds.lap("fusion")
    return Refinement(
        label=fused.astype(np.uint8 if max(scheme.values) < 256 else np.uint16, copy=False),
        frame=out,
        target=label,
        target_frame=frame,
        scheme=scheme,
        atlases=tuple(best),
        deformations=deformations,
        affines=affines,
        scores=scores,
        chosen=tuple(chosen),
        landmarks=source,
        fusion="majority" if images is None else settings.fusion,
        seconds=dict(seconds),
        shift=shift,
        unseen=tuple(unseen),
    )


class _Laps(dict[str, float]):
    """Name -> seconds since the lap before."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        self[name], self.last = time.perf_counter() - self.last, time.perf_counter()


def _in_line(
    label: np.ndarray, image: np.ndarray | None, frame: Frame, scheme: LabelScheme
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Label map and image with their slices brought into line, and the shifts (Z, 2) mm that were taken out."""
    shift = slice_shifts(label, frame.spacing, scheme)
    label = move_slices(label, -shift, frame.spacing)
    return label, None if image is None else move_slices(image, -shift, frame.spacing), shift


def _unseen(label: np.ndarray, slices: Sequence[int], scheme: LabelScheme) -> np.ndarray:
    """The label map with an integer that no atlas has in these slices, where the others are drawn: its probability
    is 0 everywhere in an atlas, so the deformation has nothing to gain or lose there. Warns where there are any."""
    box = bounding_box(label)
    if not slices or box is None:
        return label
    warnings.warn(filled_text("target", slices), stacklevel=3)
    marked = label.astype(np.int32)
    marked[box[0], box[1], list(slices)] = max(scheme.values) + 1
    return marked


def _there(device: torch.device | None) -> Callable[[np.ndarray], Any]:
    """What takes arrays to where deformation, warps and fusion are computed: a device of torch, or None: numpy."""
    if device is None:
        return np.asarray
    return lambda array: torch.as_tensor(np.ascontiguousarray(array), device=device)


def _checked(
    label: Array, image: Array | None, spacing: Frame | Triple, atlases: Sequence[Atlas], scheme: LabelScheme | None
) -> tuple[np.ndarray, np.ndarray | None, Frame, LabelScheme]:
    """The arguments of `refine`, of one kind and shape: label, image or None, frame, scheme."""
    must(len(atlases), "refine", "no atlas", "at least one")
    scheme = scheme or atlases[0].scheme
    others = [a.id for a in atlases if a.scheme != scheme]
    must(
        not others,
        "refine",
        f"atlases of another scheme than {scheme.name!r}: {others[:5]}",
        "one scheme (phantom_atlases has scheme=CARDIAC for labels without an RV wall)",
    )
    drawn = as_array(label)
    frame = as_frame(spacing, drawn, "target")
    scheme.check(drawn, "target")
    frame.box(drawn, "target")
    return drawn, None if image is None else checked_image(as_array(image), drawn.shape, "target"), frame, scheme


def most_like(
    label: np.ndarray, frame: Frame, atlases: Sequence[Atlas], affines: Sequence[np.ndarray], n: int
) -> tuple[list[int], np.ndarray]:
    """Indices of the n atlases most like the target, best first, and all scores: normalised mutual information at the
    target's voxels round its labels, the atlases brought there by their affine maps."""
    low, high = frame.box(label, "target")
    part, place = frame.part(low - SELECTION_MARGIN_MM, high + SELECTION_MARGIN_MM)
    still = np.zeros((3, *part.shape), np.float32)
    matrices = [(np.linalg.inv(a.frame.matrix) @ m)[:3] for a, m in zip(atlases, affines, strict=True)]
    warped = [warp_label(a.label, m, part.origin, part.spacing, still) for a, m in zip(atlases, matrices)]
    return select_atlases(label[place], warped, n)


def _frame(frame: Frame, spacing: Triple, deformations: Sequence[Deformation]) -> Frame:
    """The result's frame: the target's field and the deformations' domains."""
    low, high = zip(*[d.domain for d in deformations])
    last = [p[-1] for p in frame.positions()]
    return Frame.covering(np.min([*low, frame.origin], 0), np.max([*high, last], 0), spacing)
