from . import hearts as hearts, laboratory as laboratory, measures as measures, tables as tables
from .laboratory import run_one as run_one, run_share as run_share
from .tables import gather as gather, run as run
