from . import affine as affine, corruptions as corruptions, elastic as elastic, landmarks as landmarks
from .affine import (
    AffineRanges as AffineRanges,
    affine_pair as affine_pair,
    apply_affine as apply_affine,
    random_affine as random_affine,
    random_affine_pair as random_affine_pair,
    random_matrices as random_matrices,
    swap_labels as swap_labels,
)
from .corruptions import (
    Corruption as Corruption,
    MotionRanges as MotionRanges,
    acquire as acquire,
    acquisition_matrix as acquisition_matrix,
    add_noise as add_noise,
    corrupt as corrupt,
    drop_slices as drop_slices,
    missing_slices as missing_slices,
    noisy as noisy,
    random_missing as random_missing,
    random_motion as random_motion,
    rician_noise as rician_noise,
    sample_seeds as sample_seeds,
    shift_slices as shift_slices,
)
from .elastic import (
    ElasticRanges as ElasticRanges,
    random_flip_pair as random_flip_pair,
    random_knots as random_knots,
    random_warp_pair as random_warp_pair,
    warp_pair as warp_pair,
)
