"""Wang et al., "A two-stage 3D Unet framework for multi-class segmentation on full resolution image" (arXiv
1804.04341, 2018): its tables, made anew.

Table 2: CT, a 3D U-Net beside Net1 and Net2, with the steps of training left out one by one, and Net2 alone. Table 3:
the same in MR. Table 4: trained again on all training hearts, tested on others. With acdc as data, short-axis hearts in
their own voxels, whatever the table.
"""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
