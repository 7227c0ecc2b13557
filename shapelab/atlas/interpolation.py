"""Shape-based interpolation: a label map between its slices, without any atlas. What a refinement has to beat.

Raya and Udupa, IEEE TMI 9(1), 1990; SSLLN compares with it in section III-G ("shape-based interpolation (SBI)").
"""

from __future__ import annotations

import numpy as np

from shapelab.atlas.frame import Frame, as_frame
from shapelab.data.gaps import without_gaps
from shapelab.data.scheme import present_values
from shapelab.spaces.distances import signed_distance
from shapelab.types import Triple

LIMIT_MM = 20.0  # beyond it a distance says nothing about the border; also that of a structure that is not there


def interpolate_slices(label: np.ndarray, frame: Frame | Triple, out: Frame) -> np.ndarray:
    """A stack's label map in a finer frame: signed distances within each slice, linear between slices.

    Args:
        label: (D0, D1, D2) integers, slices along the third axis; those that nobody annotated are filled first, with a
            warning (`shapelab.data.gaps`)
        frame: `Frame` of it, or spacing (3,) mm (voxel (0, 0, 0) at 0)
        out: where the result is wanted, in the same mm

    Returns:
        of the label's type, in `out`; the structure that a place is deepest in, the background included (its depth is
        that out of all structures; of two alike a structure). At the slices themselves nothing changes; past the first
        and the last one they go on for half a slice, as the nearest slice does, and end there: no apex is guessed.
    """
    frame = as_frame(frame, label, "label")
    label = without_gaps(label, frame.spacing)
    thin = Frame(
        (*out.shape[:2], frame.shape[2]), (*out.spacing[:2], frame.spacing[2]), (*out.origin[:2], frame.origin[2])
    )
    winner = np.zeros(out.shape, label.dtype)
    best: np.ndarray | None = None
    for value in (v for v in present_values(label) if v):
        slices = [label[:, :, k] == value for k in range(frame.shape[2])]
        depth = -np.stack(
            [signed_distance(mask, np.array(frame.spacing[:2]), LIMIT_MM) for mask in slices], -1
        )  # > 0 inside
        depth = thin.linear(frame.linear(depth, thin), out)
        better = depth >= (0 if best is None else np.maximum(best, 0))
        winner[better] = value
        best = depth if best is None else np.maximum(best, depth)
    z, half = out.positions()[2], frame.spacing[2] / 2
    first, last = frame.positions()[2][[0, -1]]
    winner[:, :, (z < first - half - 1e-6) | (z > last + half + 1e-6)] = 0
    return winner
