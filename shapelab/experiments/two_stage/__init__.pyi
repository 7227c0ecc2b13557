from . import short_axis as short_axis
