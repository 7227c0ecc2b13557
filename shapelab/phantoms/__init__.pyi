from . import (
    acquisition as acquisition,
    anatomy as anatomy,
    cohort as cohort,
    heart as heart,
    mr_imaging as mr_imaging,
    pairs as pairs,
    patients as patients,
    population as population,
    randomise as randomise,
    realism as realism,
    ultrasound as ultrasound,
    ultrasound_geometry as ultrasound_geometry,
    ultrasound_imaging as ultrasound_imaging,
    whole_heart as whole_heart,
    whole_heart_body as whole_heart_body,
    whole_heart_imaging as whole_heart_imaging,
    whole_heart_levels as whole_heart_levels,
    whole_heart_population as whole_heart_population,
    whole_heart_surfaces as whole_heart_surfaces,
)
from .acquisition import StackFlaws as StackFlaws
from .anatomy import Heart as Heart, LANDMARKS as LANDMARKS, build_heart as build_heart
from .cohort import heart_cohort as heart_cohort
from .heart import HeartSurfaces as HeartSurfaces, label_batch as label_batch
from .patients import Mix as Mix
from .population import GROUPS as GROUPS, TERRITORIES as TERRITORIES, draw_factors as draw_factors
from .realism import (
    feature_table as feature_table,
    real_or_phantom as real_or_phantom,
    realism_report as realism_report,
)
from .ultrasound import US_GROUPS as US_GROUPS, us_arrays as us_arrays, us_cohort as us_cohort
from .ultrasound_geometry import Artefacts as Artefacts
from .whole_heart import (
    Drawn as Drawn,
    draw_whole_heart as draw_whole_heart,
    labels_of_whole_hearts as labels_of_whole_hearts,
    whole_heart_labels as whole_heart_labels,
)
from .whole_heart_imaging import whole_heart_cohort as whole_heart_cohort, whole_heart_scans as whole_heart_scans
from .whole_heart_population import WHOLE_GROUPS as WHOLE_GROUPS, whole_heart_factors as whole_heart_factors
