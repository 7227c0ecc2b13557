"""Oktay et al., "Anatomically constrained neural networks (ACNNs)", IEEE TMI 2018: its tables, made anew.

Table 1: segmentation of cardiac MR, 2: of 3-D ultrasound, 3: super-resolution.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
