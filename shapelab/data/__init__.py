"""Subjects, cohorts, the catalogue of data sets, a reader for each, and the doctor that checks a folder.

Names are imported when first asked for, so that ``import shapelab.data`` loads neither pandas nor nibabel.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
