from . import (
    hearts as hearts,
    laboratory as laboratory,
    measures as measures,
    short_axis as short_axis,
    short_axis_tables as short_axis_tables,
    tables as tables,
)
from .laboratory import run_one as run_one, run_share as run_share
from .tables import gather as gather, run as run
