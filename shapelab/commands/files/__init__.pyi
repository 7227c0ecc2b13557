from . import outputs as outputs, predict as predict, refine as refine
