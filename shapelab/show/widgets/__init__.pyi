from . import shapes as shapes, views as views
from .shapes import (
    EmbeddingWidget as EmbeddingWidget,
    InterpolationWidget as InterpolationWidget,
    StagesWidget as StagesWidget,
    TraversalWidget as TraversalWidget,
)
