from . import (
    pathology as pathology,
    reality as reality,
    robustness as robustness,
    segmentation as segmentation,
    segmentation_tables as segmentation_tables,
    super_resolution as super_resolution,
    super_resolution_tables as super_resolution_tables,
    tables as tables,
    ultrasound as ultrasound,
    ultrasound_tables as ultrasound_tables,
)
from .tables import experiment_of as experiment_of, printed as printed, run as run
