"""Atlas refinement: high-resolution hearts, deformed onto a segmentation of thick slices and fused (SSLLN, II-C)."""

from shapelab.atlas.affine import landmark_affine, transform_points
from shapelab.atlas.alignment import move_slices, slice_shifts
from shapelab.atlas.atlas import Atlas
from shapelab.atlas.cohort import read_refinement, refine_cohort, write_refinement
from shapelab.atlas.ffd import Deformation, FreeFormDeformation
from shapelab.atlas.frame import Frame
from shapelab.atlas.fusion import fuse_labels, majority_vote
from shapelab.atlas.interpolation import interpolate_slices
from shapelab.atlas.pipeline import Refinement, refine
from shapelab.atlas.selection import normalised_mutual_information, select_atlases
from shapelab.atlas.simulation import LowResolution, phantom_atlases, simulate_low_resolution

__all__ = [
    "Atlas",
    "Deformation",
    "Frame",
    "FreeFormDeformation",
    "LowResolution",
    "Refinement",
    "fuse_labels",
    "interpolate_slices",
    "landmark_affine",
    "majority_vote",
    "move_slices",
    "normalised_mutual_information",
    "phantom_atlases",
    "read_refinement",
    "refine",
    "refine_cohort",
    "select_atlases",
    "simulate_low_resolution",
    "slice_shifts",
    "transform_points",
    "write_refinement",
]
