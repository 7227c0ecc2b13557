"""Synthetic hearts with known answers: labels, landmarks and images from one set of implicit surfaces."""

from shapelab.phantoms.anatomy import LANDMARKS, Heart, build_heart
from shapelab.phantoms.cohort import heart_cohort, training_hearts
from shapelab.phantoms.heart import HeartSurfaces, label_batch
from shapelab.phantoms.population import GROUPS, TERRITORIES, draw_factors
from shapelab.phantoms.realism import feature_table, real_or_phantom, realism_report
from shapelab.phantoms.ultrasound import US_GROUPS, us_arrays, us_cohort
from shapelab.phantoms.ultrasound_geometry import Artefacts

__all__ = [
    "GROUPS",
    "LANDMARKS",
    "TERRITORIES",
    "US_GROUPS",
    "Artefacts",
    "Heart",
    "HeartSurfaces",
    "build_heart",
    "draw_factors",
    "feature_table",
    "heart_cohort",
    "label_batch",
    "real_or_phantom",
    "realism_report",
    "training_hearts",
    "us_arrays",
    "us_cohort",
]
