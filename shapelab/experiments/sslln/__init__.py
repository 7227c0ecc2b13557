"""Duan et al., "Automatic 3D bi-ventricular segmentation of cardiac images by a shape-refined multi-task deep learning
approach", IEEE TMI 2019: its tables, made anew."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
