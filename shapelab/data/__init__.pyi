from . import (
    cards as cards,
    checking as checking,
    cohort as cohort,
    download as download,
    facts as facts,
    formats as formats,
    gaps as gaps,
    geometry as geometry,
    grid as grid,
    landmarks as landmarks,
    orientation as orientation,
    placement as placement,
    readers as readers,
    reading as reading,
    scheme as scheme,
    subject as subject,
    volumes as volumes,
    walls as walls,
)
from .cards import Card as Card, catalogue as catalogue, open_cohort as open_cohort
from .checking import check_folder as check_folder
from .cohort import Cohort as Cohort
from .download import fetch as fetch
from .landmarks import (
    landmarks_from_label as landmarks_from_label,
    read_landmarks as read_landmarks,
    write_landmarks as write_landmarks,
)
from .reading import SkippedSubject as SkippedSubject
from .scheme import (
    BIVENTRICULAR as BIVENTRICULAR,
    CARDIAC as CARDIAC,
    HIPPOCAMPUS as HIPPOCAMPUS,
    WHOLE_HEART as WHOLE_HEART,
    LV_CAVITY as LV_CAVITY,
    LabelScheme as LabelScheme,
    Structure as Structure,
)
from .subject import Subject as Subject
