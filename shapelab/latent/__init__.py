"""Shape spaces, and what is done with codes: embedding, histograms, classification, paths.

A `ShapeSpace` turns label maps into codes and back; a table of codes (one row a subject, columns z00, z01,
... and the subject's facts) is all that the analyses take. Names are imported when first asked for.
"""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
