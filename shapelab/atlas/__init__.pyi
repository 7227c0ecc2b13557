from . import (
    affine as affine,
    alignment as alignment,
    atlas as atlas,
    bspline as bspline,
    cohort as cohort,
    consistency as consistency,
    descent as descent,
    ffd as ffd,
    frame as frame,
    fusion as fusion,
    interpolation as interpolation,
    pipeline as pipeline,
    selection as selection,
    simulation as simulation,
    warp as warp,
)
from .affine import landmark_affine as landmark_affine, transform_points as transform_points
from .alignment import move_slices as move_slices, slice_shifts as slice_shifts
from .atlas import Atlas as Atlas
from .cohort import (
    read_refinement as read_refinement,
    refine_cohort as refine_cohort,
    write_refinement as write_refinement,
)
from .ffd import Deformation as Deformation, FreeFormDeformation as FreeFormDeformation
from .frame import Frame as Frame
from .fusion import fuse_labels as fuse_labels, majority_vote as majority_vote
from .interpolation import interpolate_slices as interpolate_slices
from .pipeline import Refinement as Refinement, RefinementSettings as RefinementSettings, refine as refine
from .selection import normalised_mutual_information as normalised_mutual_information, select_atlases as select_atlases
from .simulation import (
    LowResolution as LowResolution,
    phantom_atlases as phantom_atlases,
    simulate_low_resolution as simulate_low_resolution,
)
