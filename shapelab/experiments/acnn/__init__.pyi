from .tables import experiment_of as experiment_of
from .tables import printed as printed
from .tables import run as run
