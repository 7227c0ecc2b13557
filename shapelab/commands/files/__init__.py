"""From files of one's own to files: what `shapelab predict` and `shapelab refine` do, as functions."""
