from .agreement import bland_altman as bland_altman, compare as compare, correlation as correlation, ssim as ssim
from .evaluation import evaluate as evaluate
from .overlap import dice as dice, dice_table as dice_table
from .plausible import plausibility as plausibility
from .smoothness import mesh_curvature as mesh_curvature, surface_curvature as surface_curvature
from .table import bootstrap_mean as bootstrap_mean, evaluate_cohort as evaluate_cohort
