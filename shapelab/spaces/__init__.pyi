from . import (
    axes as axes,
    contract as contract,
    distances as distances,
    kept as kept,
    network_space as network_space,
    pca as pca,
)
from .contract import ShapeSpace as ShapeSpace, code_size as code_size
from .kept import load as load, load_network as load_network, save_network as save_network
from .network_space import NetworkSpace as NetworkSpace
from .pca import PCASpace as PCASpace
