from .contract import ShapeSpace as ShapeSpace
from .contract import code_size as code_size
from .pca import PCASpace as PCASpace
