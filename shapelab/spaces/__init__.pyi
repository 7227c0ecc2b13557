from .contract import ShapeSpace as ShapeSpace
from .contract import code_size as code_size
from .kept import load as load
from .kept import load_network as load_network
from .kept import save_network as save_network
from .network_space import NetworkSpace as NetworkSpace
from .pca import PCASpace as PCASpace
