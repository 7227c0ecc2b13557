"""Augmentation and corruption in batches, on the device the batch is on."""

from shapelab.augment.affine import (
    AffineRanges,
    affine_pair,
    apply_affine,
    random_affine,
    random_affine_pair,
    random_matrices,
    swap_labels,
)
from shapelab.augment.corruptions import (
    Corruption,
    MotionRanges,
    acquire,
    acquisition_matrix,
    add_noise,
    corrupt,
    drop_slices,
    random_missing,
    random_motion,
    rician_noise,
    sample_seeds,
    shift_slices,
)

__all__ = [
    "AffineRanges",
    "Corruption",
    "MotionRanges",
    "acquire",
    "acquisition_matrix",
    "add_noise",
    "affine_pair",
    "apply_affine",
    "corrupt",
    "drop_slices",
    "random_affine",
    "random_affine_pair",
    "random_matrices",
    "random_missing",
    "random_motion",
    "rician_noise",
    "sample_seeds",
    "shift_slices",
    "swap_labels",
]
