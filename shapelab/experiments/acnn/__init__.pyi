from .tables import experiment_of as experiment_of, measured as measured, printed as printed, run as run
