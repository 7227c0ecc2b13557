"""Subjects, cohorts, the catalogue of data sets, a reader for each, and the doctor that checks a folder.

Names are imported when first asked for, so that ``import shapelab.data`` loads neither pandas nor nibabel.
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers only
    from shapelab.data.cards import Card as Card
    from shapelab.data.cards import catalogue as catalogue
    from shapelab.data.cards import open_cohort as open_cohort
    from shapelab.data.checking import check_folder as check_folder
    from shapelab.data.cohort import Cohort as Cohort
    from shapelab.data.download import fetch as fetch
    from shapelab.data.landmarks import landmarks_from_label as landmarks_from_label
    from shapelab.data.landmarks import read_landmarks as read_landmarks
    from shapelab.data.landmarks import write_landmarks as write_landmarks
    from shapelab.data.reading import SkippedSubject as SkippedSubject
    from shapelab.data.scheme import BIVENTRICULAR as BIVENTRICULAR
    from shapelab.data.scheme import CARDIAC as CARDIAC
    from shapelab.data.scheme import HIPPOCAMPUS as HIPPOCAMPUS
    from shapelab.data.scheme import LV_CAVITY as LV_CAVITY
    from shapelab.data.scheme import LabelScheme as LabelScheme
    from shapelab.data.scheme import Structure as Structure
    from shapelab.data.subject import Subject as Subject
    from shapelab.errors import DataError as DataError

#: Name -> module it lives in.
_NAMES = {
    "Card": "shapelab.data.cards",
    "catalogue": "shapelab.data.cards",
    "open_cohort": "shapelab.data.cards",
    "Cohort": "shapelab.data.cohort",
    "check_folder": "shapelab.data.checking",
    "fetch": "shapelab.data.download",
    "landmarks_from_label": "shapelab.data.landmarks",
    "read_landmarks": "shapelab.data.landmarks",
    "write_landmarks": "shapelab.data.landmarks",
    "SkippedSubject": "shapelab.data.reading",
    "BIVENTRICULAR": "shapelab.data.scheme",
    "CARDIAC": "shapelab.data.scheme",
    "HIPPOCAMPUS": "shapelab.data.scheme",
    "LV_CAVITY": "shapelab.data.scheme",
    "LabelScheme": "shapelab.data.scheme",
    "Structure": "shapelab.data.scheme",
    "Subject": "shapelab.data.subject",
    "DataError": "shapelab.errors",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in _NAMES:
        raise AttributeError(f"module 'shapelab.data' has no attribute {name!r}")
    value = getattr(_importlib.import_module(_NAMES[name]), name)
    globals()[name] = value  # next time without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
