"""Slices brought back into line before a refinement: each breath-hold puts the heart somewhere else.

The deformation follows its target's slices, so what has moved stays moved. SSLLN itself has no such step; it cites one
(its reference 15, "misalignment was corrected using quadratic polynomials"), and this is that: the centre of the left
ventricle runs down the heart along a smooth line, and what a slice's centre is off that line is taken for its
breath-hold.

What cannot be recovered: a shift, a tilt or a bend of the whole stack, which three numbers an axis describe; they take
about a third of the variance of ten random shifts. Measured on phantoms (`benchmarks/atlas_settings.py`,
atlas_alignment*.csv; the degree on twelve hearts, the refinement on ten others):

- of shifts of 1.9 mm (root mean square) a line leaves 1.5 mm, a parabola 1.4, a cubic 1.5; slices that were in place
  are moved by .8 mm, .03 and .03. So: a parabola. Real hearts are less smooth than phantoms, and are moved more
- Dice of RV cavity, LV myocardium, LV cavity, RV wall after the refinement: .89 .80 .93 .49 as they are, .92 .86 .95
  .60 aligned, .96 .96 .98 .85 with the true shifts taken out
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from shapelab.data.scheme import LV, LabelScheme
from shapelab.errors import must, need
from shapelab.types import Triple

DEGREE = 2


def slice_shifts(label: np.ndarray, spacing: Triple, scheme: LabelScheme, degree: int = DEGREE) -> np.ndarray:
    """How far each slice lies off the smooth course of the left ventricle's centre: (Z, 2) mm along the first two axes.

    label (X, Y, Z) integers of the scheme, slices along the third axis; spacing (3,) mm; degree of the polynomial,
    fitted to the centroids of LV cavity and myocardium together, each slice weighed by its area. 0 for slices without
    an LV; all 0 if fewer than degree + 2 have one. UsageError for another scheme or degree, DataError for another
    shape.
    """
    label, size = np.asarray(label), np.asarray(spacing, float)
    missing = [name for name in LV if name not in scheme.names]
    must(
        not missing and degree >= 0,
        "slice_shifts",
        f"scheme {scheme.name!r} without {missing}, degree {degree}",
        "a heart's scheme and a degree from 0",
    )
    need(
        label.ndim == 3 and size.shape == (3,),
        "slice_shifts",
        f"shape {label.shape}, spacing {size}",
        "(X, Y, Z) and three lengths in mm",
    )
    ventricle = np.isin(label, [scheme.structure(name).value for name in LV])
    area, out = ventricle.sum((0, 1)), np.zeros((label.shape[2], 2))
    slices = np.flatnonzero(area)
    if len(slices) < degree + 2:
        return out
    centres = np.array([np.argwhere(ventricle[:, :, k]).mean(0) for k in slices]) * size[:2]
    for axis in (0, 1):
        # numpy's weights multiply residuals, so that squares are weighed by the area
        smooth = np.polyfit(slices, centres[:, axis], degree, w=np.sqrt(area[slices]))
        out[slices, axis] = centres[:, axis] - np.polyval(smooth, slices)
    return out


def move_slices(stack: np.ndarray, shift: np.ndarray, spacing: Triple) -> np.ndarray:
    """Each slice (X, Y) of a stack (X, Y, Z) displaced by shift (Z, 2) mm along the first two axes.

    Integers are label maps: the label of most weight among the four neighbours (of two alike the smaller), 0 from
    beyond the edge. Floats are images: linear, the edge repeated. DataError if the numbers do not fit.
    """
    stack, shift = np.asarray(stack), np.asarray(shift, float)
    need(
        stack.ndim == 3 and shift.shape == (stack.shape[2], 2) and np.isfinite(shift).all(),
        "move_slices",
        f"stack {stack.shape}, shift {shift.shape}",
        "(X, Y, Z) and finite (Z, 2) mm",
    )
    pixels, out = shift / np.asarray(spacing, float)[:2], np.empty_like(stack)
    for k, by in enumerate(pixels):
        if not np.issubdtype(stack.dtype, np.integer):
            out[:, :, k] = ndimage.shift(stack[:, :, k].astype(np.float32), by, order=1, mode="nearest")
            continue
        values = np.union1d(0, stack[:, :, k])
        masks = {int(v): (stack[:, :, k] == v).astype(np.float32) for v in values}
        votes = [ndimage.shift(mask, by, order=1, cval=float(v == 0)) for v, mask in masks.items()]
        out[:, :, k] = values[np.argmax(votes, axis=0)]
    return out
