"""Hearts for the SSLLN experiments: volumes with labels and landmarks on one grid, high-resolution or degraded.

The paper (section III-A, III-F): HR volumes of healthy volunteers with labels and six landmarks; LR volumes simulated
from them ("downsampled", "lack of coverage of the whole heart", "randomly translating each 2D short-axis slice"); real
LR volumes "interpolated to 1.25 x 1.25 x 2 mm", so that one network's grid serves both.

Here: phantom hearts at end diastole, drawn straight on the network's grid from their surfaces, each where and how its
scan has it (no region of interest, nothing aligned). What `simulate_low_resolution` makes of them is laid on the same
grid again: images linearly between the slices, labels from the nearest slice (the staircase), background beyond the
stack. Landmarks stay those of the heart, also where the slices beside them have moved or are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shapelab.atlas import Atlas, LowResolution, simulate_low_resolution
from shapelab.data.grid import Grid
from shapelab.data.scheme import BIVENTRICULAR
from shapelab.data.volumes import LandmarkedVolumes
from shapelab.device import best_device
from shapelab.errors import whole
from shapelab.phantoms import GROUPS, LANDMARKS
from shapelab.phantoms.cohort import landmarks_in_stack, make_image, make_label, patient_on_grid
from shapelab.phantoms.patients import Mix, Patient, cached_hearts

PHASE = "ED"  # "During training, we only used ED instances"
#: Seeds of the phantom hearts; no other experiment draws from them.
SEEDS = {"training": 51_000, "healthy": 51_001, "atlases": 51_002, "PH": 51_003}
COHORTS = {"training": GROUPS, "healthy": ("NOR",), "atlases": GROUPS, "PH": ("RV",)}


@dataclass(frozen=True)
class Degradation:
    """How HR volumes become LR stacks; see `shapelab.atlas.simulate_low_resolution`."""

    factor: int = 3  # of 10/3 mm: 10 mm, the paper's
    shift_mm: float = 2.0
    apex_slices: int = 1

    def __call__(self, atlas: Atlas, seed: int) -> LowResolution:
        first = int(np.random.default_rng([int(seed), 14]).integers(self.factor))
        return simulate_low_resolution(atlas, self.factor, self.shift_mm, self.apex_slices, first, seed)


def phantom_volumes(
    n: int,
    grid: Grid,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    cache: str | Path | None = None,
    progress: bool = False,
) -> LandmarkedVolumes:
    """HR images, labels and landmarks of n phantom hearts at ED on one grid.

    Args:
        n: hearts; heart i is a function of (seed, groups, i): that of `heart_cohort`, at a place of its own in the grid
        grid: the network's; hearts that do not fit are cut at its edge
        cache: `.npz` file that is read if it holds these very volumes, else written

    Returns LandmarkedVolumes: images float16 in [0, 1], labels of BIVENTRICULAR, landmarks in voxels (outside the
    grid: not there). UsageError for a wrong argument.
    """
    mix = Mix(groups, (PHASE,))
    key = repr((n, tuple(grid.shape), tuple(grid.spacing), seed, tuple(groups)))

    def draw(who: Patient, phase: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        _, facts, stack = patient_on_grid(seed, who[1], groups, grid, mix.phases)
        placed = landmarks_in_stack(who, phase, stack)
        label = make_label(who, phase, stack, BIVENTRICULAR, best_device())
        return {
            "images": make_image(who, phase, stack, best_device()).astype(np.float16),
            "labels": BIVENTRICULAR.channels(label).astype(np.uint8),
            "landmarks": np.array([placed[name] / grid.spacing for name in LANDMARKS]),
        }, facts

    who = [mix.patient(seed, i) for i in range(whole("n", n))]
    arrays, table = cached_hearts(who, mix.phases, draw, cache, key, progress)
    return LandmarkedVolumes(arrays["images"], arrays["labels"], arrays["landmarks"], table, grid.spacing)


def atlas_of(
    volumes: LandmarkedVolumes, i: int, label: np.ndarray | None = None, landmarks: np.ndarray | None = None
) -> Atlas:
    """One of the hearts as an atlas, with its own labels (X, Y, S) and landmarks (L, 3) voxels or those given."""
    label = volumes.labels[i] if label is None else label
    landmarks = volumes.landmarks[i] if landmarks is None else landmarks
    return Atlas(
        volumes.scheme.integers(label),
        volumes.spacing,
        dict(zip(LANDMARKS, np.asarray(landmarks, float) * volumes.spacing, strict=True)),
        volumes.images[i],
        volumes.scheme,
        str(volumes.table.index[i]),
    )


def degrade(
    volumes: LandmarkedVolumes, how: Degradation, seed: int = 0
) -> tuple[LandmarkedVolumes, list[LowResolution]]:
    """LR versions of volumes: on the same grid for the network, and the stacks themselves.

    The heart's own number and `seed` decide its first slice and its breath-holds. Landmarks are the HR heart's.
    """
    stacks = [how(atlas_of(volumes, i), int(seed) * 100_003 + i) for i in range(len(volumes))]
    images, labels = zip(*[on_grid(stack, volumes.images.shape[1:]) for stack in stacks], strict=True)
    labels = np.stack([volumes.scheme.channels(label) for label in labels]).astype(np.uint8)
    return replace(volumes, images=np.stack(images), labels=labels), stacks


def slices_of(stack: LowResolution) -> np.ndarray:
    """Which of the HR slices the stack's slices are, (Z,) whole numbers."""
    fine = stack.truth.spacing[2]
    first = -stack.truth_frame.origin[2] / fine
    return np.rint(first + np.arange(stack.label.shape[2]) * stack.spacing[2] / fine).astype(int)


def on_grid(stack: LowResolution, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A stack on the HR grid of its heart: image float16, linear between slices, and labels, of the nearest slice; 0
    farther than half a slice distance beyond the first and the last one."""
    at, factor = slices_of(stack), round(stack.spacing[2] / stack.truth.spacing[2])
    image, label = np.zeros(shape, np.float16), np.zeros(shape, stack.label.dtype)
    covered = np.arange(max(0, at[0] - factor // 2), min(shape[2], at[-1] + (factor + 1) // 2))
    place = np.clip((covered - at[0]) / factor, 0, len(at) - 1)
    below = np.minimum(np.floor(place).astype(int), len(at) - 1)
    above = np.minimum(below + 1, len(at) - 1)
    weight = (place - below).astype(np.float32)
    assert stack.image is not None  # an atlas of a phantom has one
    image[:, :, covered] = (1 - weight) * stack.image[:, :, below] + weight * stack.image[:, :, above]
    label[:, :, covered] = stack.label[:, :, np.minimum(np.floor(place + 0.5).astype(int), len(at) - 1)]
    return image, label


def in_stack(
    stack: LowResolution, label: np.ndarray, landmarks: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray] | None]:
    """What a network says on the grid, brought to the stack: label (X, Y, Z) integers of the scheme, and landmarks
    name -> (3,) mm of the stack (None: none were given)."""
    thick = stack.scheme.integers(label[:, :, slices_of(stack)])
    if landmarks is None:
        return thick, None
    mm = np.asarray(landmarks, float) * stack.truth.spacing + np.array(stack.truth_frame.origin)
    return thick, dict(zip(LANDMARKS, mm, strict=True))


def missing_slices(volumes: LandmarkedVolumes, count: int) -> tuple[LandmarkedVolumes, np.ndarray]:
    """Volumes with `count` consecutive slices set to zero (Fig. 8), in the middle of each heart; and which, (N, 2)
    first and last + 1."""
    images, gaps = volumes.images.copy(), []
    for image, label in zip(images, volumes.labels, strict=True):
        used = np.flatnonzero(label.any((0, 1)))
        start = int(np.clip(round(used.mean() + 0.5 - count / 2), 0, max(0, label.shape[2] - count)))
        image[:, :, start : start + count] = 0
        gaps.append((start, min(start + count, label.shape[2])))
    return replace(volumes, images=images), np.array(gaps)
