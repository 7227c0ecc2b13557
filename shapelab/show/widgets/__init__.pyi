from .shapes import (
    EmbeddingWidget as EmbeddingWidget,
    InterpolationWidget as InterpolationWidget,
    StagesWidget as StagesWidget,
    TraversalWidget as TraversalWidget,
)
