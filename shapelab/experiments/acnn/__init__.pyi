from .tables import experiment_of as experiment_of, printed as printed, run as run
