from .tables import run as run
