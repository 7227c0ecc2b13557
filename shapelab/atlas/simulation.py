"""Atlases from the phantom, and low-resolution stacks whose high-resolution truth is known.

SSLLN, section III-F and Fig. 13: an HR volume and its labels are "downsampled from 1.25 x 1.25 x 2 mm to 1.25 x 1.25 x
10 mm", "the segmentation around the apical region is now incomplete due to the lack of coverage of the whole heart",
and "we further simulated inter-slice shift artefact by randomly translating each 2D short-axis slice horizontally".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shapelab.atlas.alignment import move_slices
from shapelab.atlas.atlas import Atlas
from shapelab.atlas.frame import Frame
from shapelab.data.scheme import BIVENTRICULAR, LabelScheme
from shapelab.errors import in_range, need, whole
from shapelab.phantoms import GROUPS, heart_cohort


@dataclass(frozen=True, eq=False)
class LowResolution:
    """A simulated stack of thick slices.

    Attributes:
        label: (D0, D1, Z), what the stack shows; voxel (0, 0, 0) at 0 mm; spacing (3,) mm
        image: see `label`
        landmarks: the truth's, in mm of the stack
        shift: (Z, 2) mm, how far each slice was moved along the first two axes
        truth: the high-resolution heart; `truth_frame` says where its voxels lie in mm of the stack
    """

    label: np.ndarray
    image: np.ndarray | None
    spacing: tuple[float, float, float]
    landmarks: Mapping[str, np.ndarray] | None
    shift: np.ndarray
    truth: Atlas
    truth_frame: Frame

    @property
    def scheme(self) -> LabelScheme:
        return self.truth.scheme


def phantom_atlases(
    n: int,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    scheme: LabelScheme = BIVENTRICULAR,
    images: bool = True,
    phase: str = "ED",
    resolution="HR",
) -> list[Atlas]:
    """n phantom hearts as atlases, with known landmarks.

    Args:
        n: as in `shapelab.phantoms.heart_cohort`; group "RV" is right ventricular overload, the paper's pulmonary
            hypertension
        seed: see `n`
        groups: see `n`
        scheme: see `n`
        phase: see `n`
        resolution: see `n`
        images: make images too (three seconds each at 1.25 x 1.25 x 2 mm)

    Raises UsageError for a wrong argument. Atlases of one seed and targets of another are different hearts.
    """
    return [Atlas.of(heart) for heart in heart_cohort(n, seed, groups, resolution, images, scheme, (phase,))]


def simulate_low_resolution(
    atlas: Atlas, factor: int = 5, shift_mm: float = 2.0, apex_slices: int = 1, first: int = 0, seed: int = 0
) -> LowResolution:
    """The stack of thick slices that a scan in several breath-holds would give of a high-resolution heart.

    Args:
        atlas: the heart; the third axis is through plane
        factor: every factor-th slice is kept (5: from 2 mm to 10 mm)
        shift_mm: sd of a slice's displacement along each of the first two axes, at most 2.5 sd, in whole voxels so that
            labels stay what they are; the paper gives no number, ACDC's slices are 1 to 2 mm out of line
        apex_slices: so many labelled slices are cut off at the apical end, and all that lies beyond
        first: the first slice kept
        seed: of the displacements

    What a slice moves in from beyond the edge repeats the edge (image) or is background (label). UsageError for wrong
    numbers, DataError if no labelled slice is left.
    """
    d2 = atlas.label.shape[2]
    for name, value, least, most in (
        ("factor", factor, 1, None),
        ("first", first, 0, d2 - 1),
        ("apex_slices", apex_slices, 0, None),
    ):
        whole(f"simulate_low_resolution: {name}", value, least, most)
    in_range("simulate_low_resolution: shift_mm", shift_mm)
    kept = np.arange(first, d2, factor)
    area = (atlas.label[:, :, kept] > 0).sum((0, 1))
    used = np.flatnonzero(area)
    if apex_slices:
        need(
            len(used) > apex_slices,
            atlas.id,
            f"{len(used)} labelled slices of {factor} times the thickness",
            f"more than the {apex_slices} to cut off",
        )
        at_end = area[used[-1]] <= area[used[0]]  # the apex is the narrower end
        kept = kept[: used[-apex_slices]] if at_end else kept[used[apex_slices - 1] + 1 :]
    rng = np.random.default_rng(seed)
    voxels = np.rint(np.clip(rng.standard_normal((len(kept), 2)), -2.5, 2.5) * shift_mm / atlas.spacing[:2]).astype(int)
    shift = voxels * atlas.spacing[:2]
    label = move_slices(atlas.label[:, :, kept], shift, atlas.spacing)
    image = None if atlas.image is None else move_slices(atlas.image[:, :, kept], shift, atlas.spacing)
    start = np.array([0, 0, kept[0] * atlas.spacing[2]])
    landmarks = atlas.landmarks
    if landmarks is not None:
        landmarks = (
            {n: p - start for n, p in landmarks.items()}
            if isinstance(landmarks, Mapping)
            else np.asarray(landmarks) - start
        )
    return LowResolution(
        label,
        image,
        (*atlas.spacing[:2], atlas.spacing[2] * factor),
        landmarks,
        shift,
        atlas,
        Frame(atlas.label.shape, atlas.spacing, tuple(-start)),
    )
