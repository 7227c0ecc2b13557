from .contract import ShapeSpace as ShapeSpace, code_size as code_size
from .kept import load as load, load_network as load_network, save_network as save_network
from .network_space import NetworkSpace as NetworkSpace
from .pca import PCASpace as PCASpace
