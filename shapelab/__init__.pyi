from . import (
    atlas as atlas,
    augment as augment,
    commands as commands,
    course as course,
    data as data,
    device as device,
    errors as errors,
    experiments as experiments,
    files as files,
    latent as latent,
    metrics as metrics,
    models as models,
    phantoms as phantoms,
    places as places,
    profiles as profiles,
    show as show,
    spaces as spaces,
    tensor_files as tensor_files,
    training as training,
    types as types,
)
from .data import open_cohort as open_cohort
from .data.cohort import Cohort as Cohort
from .data.grid import Grid as Grid, from_grid as from_grid, stack_labels as stack_labels, to_grid as to_grid
from .data.scheme import (
    BIVENTRICULAR as BIVENTRICULAR,
    CARDIAC as CARDIAC,
    HIPPOCAMPUS as HIPPOCAMPUS,
    LabelScheme as LabelScheme,
    Structure as Structure,
)
from .data.subject import Subject as Subject
from .errors import DataError as DataError, ShapelabError as ShapelabError, UsageError as UsageError
from .profiles import current_profile as current_profile

__version__: str
