from . import (
    agreement as agreement,
    clinical as clinical,
    elements as elements,
    evaluation as evaluation,
    overlap as overlap,
    plausible as plausible,
    smoothness as smoothness,
    surface as surface,
    table as table,
    thin as thin,
    whole_heart as whole_heart,
)
from .agreement import bland_altman as bland_altman, compare as compare, correlation as correlation, ssim as ssim
from .evaluation import evaluate as evaluate
from .overlap import dice as dice, dice_table as dice_table
from .plausible import plausibility as plausibility
from .smoothness import mesh_curvature as mesh_curvature, surface_curvature as surface_curvature
from .table import (
    bootstrap_mean as bootstrap_mean,
    compare_methods as compare_methods,
    evaluate_cohort as evaluate_cohort,
    summary as summary,
)
from .thin import thin_dice as thin_dice, thin_parts as thin_parts
