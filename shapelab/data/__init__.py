"""Subjects, cohorts, the catalogue of data sets, a reader for each, and the doctor that checks a folder.

Names are imported when first asked for, so that ``import shapelab.data`` loads neither pandas nor nibabel.
"""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
