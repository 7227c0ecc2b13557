"""The parts of a whole heart that coarse voxels lose, and how well a segmentation keeps them.

Veins and branches are thinner than the chamber or the trunk that they leave. What is thin is found by the opening with
a ball, the union of all balls of one radius that lie inside a structure: what none of them reaches is thinner than the
ball. So it is with a wall. An opening takes two distance transforms, whatever the radius.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from shapelab.data.geometry import TOUCHING, bounding_box
from shapelab.data.scheme import WHOLE_HEART, LabelScheme
from shapelab.errors import need, spacing3
from shapelab.metrics.whole_heart import CAVITY, LA, PA, RA, RV, WALL, as_whole_heart
from shapelab.types import Array, Triple, Vector3

VEIN = 9.0  # mm, radius of the ball that no pulmonary vein holds
BRANCH = 0.75  # ... and no branch of the pulmonary artery, of the radius of the largest ball in the artery
THIN_WALL = 5.0  # mm, thickness
VALVE = 3.0  # mm from the faces where two cavities meet
STANDS_OUT = 6.0  # mm that a thin piece must reach beyond the thick part: edges and bumps do not
ROOT = 15.0  # mm from the RV in which a pulmonary artery has no branch
NEAR = 3.0  # mm about a part where what a segmentation adds counts against it
#: The parts, and the channels of `WHOLE_HEART` whose agreement counts in each.
PARTS = {
    "pulmonary veins": (LA,),
    "pulmonary artery branches": (PA,),
    "valve plane": tuple(range(1, WHOLE_HEART.n_classes)),
    "thin wall": (WALL,),
}
_MEET = np.zeros((WHOLE_HEART.n_classes,) * 2, bool)  # side by side at a valve between atrium and ventricle
for _pair in ((CAVITY, LA), (RV, RA)):
    _MEET[_pair] = _MEET[_pair[::-1]] = True


def thin_parts(label: Array, scheme: LabelScheme = WHOLE_HEART, spacing: Triple = (1, 1, 1)) -> dict[str, np.ndarray]:
    """Parts of a whole heart that are lost on coarse voxels, from the label map alone.

    A surface is taken to lie half a voxel (the mean of its three sides) from the voxels next to it, so that radii and
    thickness hold whatever the voxels are. Nothing is known beyond the border of the array: a chamber that is cut off
    there is not thin for it.

    Args:
        label: (X, Y, Z) integers of the scheme, numpy or torch
        scheme: must name the structures of `WHOLE_HEART`; others are looked at as background
        spacing: mm

    Returns:
        name -> mask (X, Y, Z), empty where the heart has no such part

        - pulmonary veins: of the left atrium, what balls of 9 mm radius do not reach
        - pulmonary artery branches: of the pulmonary artery, what balls of .75 times the radius of its largest do not
          reach, more than 15 mm from the RV cavity
        - valve plane: voxels of all structures, their centres within 3 mm of the faces where LV cavity and left atrium,
          or RV cavity and right atrium, meet
        - thin wall: LV myocardium that is thinner than 5 mm

        All but the valve plane in pieces that reach 6 mm from the rest: bumps and edges are none, but an atrium's sharp
        rim at the valve stays where it hangs together with a vein. In 60 phantoms (six groups, 1.5 mm) veins are 5 to
        27 % of the left atrium, branches 20 to 53 % of the pulmonary artery, valve planes 2 to 3 % of the heart, thin
        wall 0 to 54 % of the myocardium; in one real heart, outlined in CT, 10, 20, 2 and 0 % at 1.5 mm and 9, 18, 2
        and 0 % at 0.5 mm, and no veins where they were cut off.

    Raises:
        UsageError: a scheme without one of the structures, wrong spacing
        DataError: not a label map (X, Y, Z) of the scheme
    """
    array, voxel = as_whole_heart(label, scheme, "thin_parts"), spacing3("spacing", spacing)
    box = bounding_box(array, 1) or ()  # the margin: what lies beyond the border of an array is not known
    heart = array[box]
    found = {
        "pulmonary veins": _thinner(heart == LA, voxel, VEIN),
        "pulmonary artery branches": _thinner(heart == PA, voxel, None, heart == RV),
        "valve plane": _at_valves(heart, voxel),
        "thin wall": _thinner(heart == WALL, voxel, THIN_WALL / 2),
    }
    masks = {name: np.zeros(array.shape, bool) for name in found}
    for name, part in found.items():
        masks[name][box] = part
    return masks


def thin_dice(
    predicted: Array, truth: Array, scheme: LabelScheme = WHOLE_HEART, spacing: Triple = (1, 1, 1)
) -> dict[str, float]:
    """Dice of each thin part of the truth: how much of it a segmentation has, and what it adds there.

    The truth is a part of `thin_parts`. The prediction is what it has of the part's structures in the part and, within
    3 mm of it, where the truth has none of them: neither the chamber that a vein leaves nor what lies far away counts.
    A segmentation without the veins has 0, one in which they are twice as thick less than 1. The valve plane is made of
    all structures: voxels that agree are those of the same one.

    Args:
        predicted: (X, Y, Z) integers of the scheme, numpy or torch
        truth: see `predicted`
        scheme: see `thin_parts`
        spacing: mm

    Returns:
        name -> Dice, NaN where the truth has no such part

    Raises:
        UsageError: see `thin_parts`
        DataError: not label maps of the scheme, or of different shapes
    """
    ours, true = (as_whole_heart(x, scheme, "thin_dice") for x in (predicted, truth))
    need(ours.shape == true.shape, "thin_dice", f"prediction {ours.shape} and truth {true.shape}", "the same shape")
    parts = thin_parts(true, WHOLE_HEART, spacing)
    voxel = spacing3("spacing", spacing)
    return {name: _agreement(ours, true, part, PARTS[name], voxel) for name, part in parts.items()}


def _agreement(
    ours: np.ndarray, true: np.ndarray, part: np.ndarray, channels: tuple[int, ...], spacing: Vector3
) -> float:
    """Dice in and about a part, all its channels taken together."""
    box = bounding_box(part, tuple(math.ceil(NEAR / s) for s in spacing))
    if box is None:
        return math.nan
    ours, true, part = ours[box], true[box], part[box]
    about = ndimage.distance_transform_edt(~part, sampling=spacing) <= NEAR
    added = about & np.isin(ours, channels) & ~np.isin(true, channels)
    kept = part & np.isin(ours, channels)
    return float(2 * (part & (ours == true)).sum() / (kept.sum() + added.sum() + part.sum()))


def _thinner(mask: np.ndarray, spacing: Vector3, radius: float | None, root: np.ndarray | None = None) -> np.ndarray:
    """What of a mask lies outside its opening by a ball, in pieces that stand out.

    Args:
        radius: of the ball, mm; None: `BRANCH` times that of the largest ball in the mask
        root: what a piece must keep away from
    """
    thin = np.zeros(mask.shape, bool)
    box = bounding_box(mask, 1)
    if box is None or mask[box].all():
        return thin
    inside, half = mask[box], float(np.mean(spacing)) / 2
    depth = ndimage.distance_transform_edt(inside, sampling=spacing)
    reach = half + (BRANCH * (depth.max() - half) if radius is None else radius)
    core = depth >= reach
    if not core.any():
        return mask
    away = ndimage.distance_transform_edt(~core, sampling=spacing) - reach
    left = inside & (away >= 0)
    if root is not None and root.any():
        left &= (ndimage.distance_transform_edt(~root, sampling=spacing) > ROOT)[box]
    numbers, n = ndimage.label(left, TOUCHING)
    stands_out = ndimage.maximum(away, numbers, np.arange(n + 1)) > STANDS_OUT
    thin[box] = left & stands_out[numbers]
    return thin


def _at_valves(heart: np.ndarray, spacing: Vector3) -> np.ndarray:
    """Voxels of a heart whose centres are within `VALVE` of the middle of a face where atrium and ventricle meet."""
    faces = []
    for axis, n in enumerate(heart.shape):
        one, next_one = (np.take(heart, range(k, n - 1 + k), axis) for k in (0, 1))
        faces.append(np.argwhere(_MEET[one, next_one]) + 0.5 * np.eye(3)[axis])
    points, near = np.concatenate(faces) * spacing, heart > 0
    if len(points):
        near[near] = cKDTree(points).query(np.argwhere(near) * spacing, distance_upper_bound=VALVE + 1e-6)[0] <= VALVE
    return near & bool(len(points))
