"""How well a label map agrees with the truth, whether it can be a heart, and whether one method beats another."""

from shapelab.metrics.agreement import bland_altman, compare, correlation, ssim
from shapelab.metrics.evaluation import evaluate
from shapelab.metrics.overlap import dice, dice_table
from shapelab.metrics.plausible import plausibility, plausibility_table
from shapelab.metrics.smoothness import mesh_curvature, surface_curvature
from shapelab.metrics.table import bootstrap_mean, compare_methods, evaluate_cohort, summary

__all__ = [
    "bland_altman",
    "bootstrap_mean",
    "compare",
    "compare_methods",
    "correlation",
    "dice",
    "dice_table",
    "evaluate",
    "evaluate_cohort",
    "mesh_curvature",
    "plausibility",
    "plausibility_table",
    "ssim",
    "summary",
    "surface_curvature",
]
