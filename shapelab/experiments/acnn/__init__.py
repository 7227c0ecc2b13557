"""Oktay et al., "Anatomically constrained neural networks (ACNNs)", IEEE TMI 2018: its tables, made anew.

Table 1: segmentation of cardiac MR, 2: of 3-D ultrasound, 3: super-resolution.
"""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
