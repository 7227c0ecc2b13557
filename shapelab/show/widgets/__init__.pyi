from .shapes import EmbeddingWidget as EmbeddingWidget
from .shapes import InterpolationWidget as InterpolationWidget
from .shapes import StagesWidget as StagesWidget
from .shapes import TraversalWidget as TraversalWidget
