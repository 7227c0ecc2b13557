"""Bouteldja et al., "Deep multi-modal encoder-decoder networks for shape constrained segmentation and joint
representation learning", BVM 2019 (CE-Reg): its table, made anew.

Table 1: Dice of seven structures in CT and MR, CE-Reg beside its variants, and always the label autoencoder's own. With
acdc as data, short-axis hearts, and then few labelled images beside many label maps.
"""

from shapelab.doors import open_room as _open_room

__getattr__, __dir__, __all__ = _open_room(__name__, __file__)
