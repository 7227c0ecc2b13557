"""What is measured of a label map at full resolution: agreement, thin parts apart, and whether it can be a heart.

The paper's "WH" is not the mean of its structures (test_tables.py holds its numbers against that): each counts by its
size, as in the challenge's generalised scores. Here both are told:

    mean           of the structures
    whole heart    Dice 2 sum |A n B| / sum (|A| + |B|), Jaccard sum |A n B| / sum |A u B|, over structures; distances
                   are means weighted by |A| + |B|
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from shapelab.data.scheme import LabelScheme
from shapelab.metrics import evaluate, plausibility, thin_dice
from shapelab.types import Vector3

MEAN, WHOLE = "mean", "whole heart"  # beside the structures
MEASURES = ("dice", "jaccard", "assd", "hd95")


def scored(made: np.ndarray, truth: np.ndarray, scheme: LabelScheme, spacing: Vector3) -> pd.DataFrame:
    """How well a label map (X, Y, Z) agrees with the truth, both integers of the scheme: a row a structure, then `MEAN`
    and `WHOLE`.

    Columns: structure, dice, jaccard, assd, hd95 (mm; inf where one of the two is empty), missed.
    """
    values = [scheme.structure(name).value for name in scheme.names]
    found = evaluate(made, truth, spacing, values).set_axis(list(scheme.names))
    size = found["volume"] + found["volume_truth"]
    rows = found[[*MEASURES, "missed"]]
    both = found["dice"] * size / 2
    far = {name: np.average(found[name], weights=size) for name in ("assd", "hd95")}
    whole = {"dice": 2 * both.sum() / size.sum(), "jaccard": both.sum() / (size - both).sum(), **far}
    missed = bool(found["missed"].any())
    ends = pd.DataFrame([{**rows[list(MEASURES)].mean(), "missed": missed}, {**whole, "missed": missed}], [MEAN, WHOLE])
    return pd.concat([rows, ends]).rename_axis("structure").reset_index()


def thin(made: np.ndarray, truth: np.ndarray, scheme: LabelScheme, spacing: Vector3) -> pd.DataFrame:
    """Dice of the thin parts (`shapelab.metrics.thin_dice`): structure, dice."""
    return pd.DataFrame(thin_dice(made, truth, scheme, spacing).items(), columns=["structure", "dice"])


def judged(made: np.ndarray, scheme: LabelScheme) -> pd.DataFrame:
    """violations and plausible (`shapelab.metrics.plausibility`), in one row."""
    found = plausibility(made, scheme)
    return pd.DataFrame([{"violations": int(found["violations"]), "plausible": bool(found["plausible"])}])
