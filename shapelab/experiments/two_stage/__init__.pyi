from . import short_axis as short_axis, short_axis_tables as short_axis_tables
