"""Duan et al., "Automatic 3D bi-ventricular segmentation of cardiac images by a shape-refined multi-task deep learning
approach", IEEE TMI 2019: its tables, made anew.

Table 1: high-resolution segmentation, 2: landmarks, 3: refinement of low resolution, 4: volumes and masses, 5: beside
other methods, 6: volumes and masses in pulmonary hypertension. With acdc as data, real label maps are refined instead.
"""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
