"""Wang et al., "A two-stage U-Net model for 3D multi-class segmentation on full-resolution cardiac data", STACOM 2018:
its tables, made anew.

Tables 2 and 3: seven structures in CT and in MR, 3D U-Net, Net1 and Net2. Table 4: Net2 on hearts of the challenge.
"""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
