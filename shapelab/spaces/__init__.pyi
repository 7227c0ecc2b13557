from .contract import ShapeSpace as ShapeSpace, code_size as code_size
from .pca import PCASpace as PCASpace
