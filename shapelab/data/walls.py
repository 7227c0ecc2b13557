"""From structures' shares of a voxel to a label map whose walls are whole.

On another grid a voxel holds shares of several structures. Taking the largest share tears thin walls: where a wall of
less than a voxel parts cavity and background, it has the largest share nowhere. So nested questions are asked of the
same shares: is more than half of the voxel inside the epicardium (cavity and wall together)? Then, is more than half of
it cavity? What lies in what the `LabelScheme` says; what lies in nothing is asked alone. Where several meet, whether
more than half of the voxel is any of them, and then which of them has most.

Three things are then set right, slice by slice: background that touches what lies in a wall becomes wall, holes in what
holds others are filled, and pieces that the shape does not have in its own voxels go to what surrounds them.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from shapelab.data.geometry import FACES, bounding_box, components
from shapelab.data.scheme import CARDIAC, VENTRICLES, LabelScheme

CRUMB = 4  # voxels: smaller pieces of a slice that the own voxels do not have are no anatomy
_SIDES = np.array(FACES)
_SIDES[:, :, [0, 2]] = False  # neighbours in the slice that share a side
_PATCH = np.zeros((3, 3, 3), bool)
_PATCH[:, :, 1] = True  # ... or a corner


def whole_structures(shares: np.ndarray, own: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Channel numbers (X, Y, Z) uint8 of the structures' shares of each voxel.

    Args:
        shares: (C - 1, X, Y, Z), 0 to 1, of the structures; the background has the rest
        own: (I, J, K) channel numbers of the same shape in the voxels that the shares were taken from, slices along the
            last axis here and there
        scheme: with C classes; says what lies in what
    """
    out = nested_choice(shares, scheme)
    box = bounding_box(out, (2, 2, 0))
    if box is None:
        return out
    part = out[box].copy()
    _keep_walls(part, scheme)
    _drop_pieces(part, own[bounding_box(own) or ()], scheme)
    _keep_walls(part, scheme)
    out[box] = part
    return out


def nested_choice(shares: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Channel numbers (X, Y, Z) uint8 by nested questions alone; see the top of this module."""
    total = {c: shares[c - 1] + sum(shares[k - 1] for k in _within(c, scheme)) for c in range(1, scheme.n_classes)}
    out = np.zeros(shares.shape[1:], np.uint8)
    for outer in (0, *_from_outside(scheme)):
        if inner := _inner(outer, scheme):
            stacked = np.stack([total[c] for c in inner])
            there = (stacked.sum(0) > 0.5) & (out == outer)
            out[there] = np.array(inner, np.uint8)[stacked.argmax(0)[there]]
    return out


def _inner(channel: int, scheme: LabelScheme) -> list[int]:
    """The channels that lie in one, and in none between."""
    return [c for c, holder in enumerate(scheme.outer) if c and holder == channel]


def _within(channel: int, scheme: LabelScheme) -> list[int]:
    """The channels that lie in one, in those too."""
    return [k for c in _inner(channel, scheme) for k in (c, *_within(c, scheme))]


def _from_outside(scheme: LabelScheme) -> list[int]:
    """The structures' channels, from the outermost to the innermost."""
    return sorted(range(1, scheme.n_classes), key=lambda c: -len(_within(c, scheme)))


def _keep_walls(label: np.ndarray, scheme: LabelScheme) -> None:
    """Background that touches, in its slice, what lies in a structure becomes that structure; in place."""
    for outer in sorted(set(scheme.outer) - {0}):
        near = ndimage.binary_dilation(np.isin(label, _within(outer, scheme)), _SIDES)
        label[near & (label == 0)] = outer


def _drop_pieces(label: np.ndarray, own: np.ndarray, scheme: LabelScheme) -> None:
    """Pieces and small patches that the own voxels do not have go to what surrounds them, holes of what holds others
    are filled; in place, from the outermost structures to the innermost."""
    for channel in _from_outside(scheme):
        inner = _within(channel, scheme)
        mask, same = np.isin(label, [channel, *inner]), np.isin(own, [channel, *inner])
        pieces, size = components(mask, FACES)
        most = max(1, int(ndimage.label(same, FACES)[1]))
        gone = np.isin(pieces, np.argsort(size[1:], kind="stable")[::-1][most:] + 1)
        patches, size = components(mask & ~gone, _SIDES)
        most = max(1, _most_in_a_slice(ndimage.label(same, _SIDES)[0]))
        gone |= np.isin(patches, _small(patches, size, most))
        label[gone] = scheme.outer[channel]
        if inner:
            for z in range(label.shape[2]):
                filled = ndimage.binary_fill_holes(mask[..., z] & ~gone[..., z])
                label[..., z][filled & (label[..., z] == 0)] = channel


def _most_in_a_slice(patches: np.ndarray) -> int:
    """The largest number of patches in one slice."""
    return max((len(set(np.unique(patches[..., z])) - {0}) for z in range(patches.shape[2])), default=0)


def _small(patches: np.ndarray, size: np.ndarray, most: int) -> list[int]:
    """The patches of less than `CRUMB` voxels beside the `most` largest of their slice."""
    found: list[int] = []
    for z in range(patches.shape[2]):
        numbers = np.unique(patches[..., z])
        numbers = numbers[numbers > 0]
        beside = numbers[np.argsort(-size[numbers], kind="stable")][most:]
        found += beside[size[beside] < CRUMB].tolist()
    return found


# ------------------------------------------------------------------------------------------------- one heart in a stack


def one_heart(label: np.ndarray, scheme: LabelScheme = CARDIAC) -> np.ndarray:
    """A short-axis label map in which what cannot be in a heart is set right, voxel by voxel and no more than needed.

    In each slice the LV (cavity and wall) is its largest patch without holes, the cavity the largest patch in it, its
    wall closed round it and in one piece; of the RV cavity holes are filled and pieces that lie apart in 3-D dropped
    (those less than a voxel apart in a slice are one: slices are displaced by breath-holds). What is left out becomes
    what surrounds it. A slice that lacks a structure stays so.

    Args:
        label: (X, Y, Z) integers of the scheme, slices along the last axis
        scheme: with "LV cavity", "LV myocardium" and "RV cavity"
    """
    cavity_value, wall_value, rv_value = (scheme.structure(name).value for name in VENTRICLES)
    out = label.copy()
    cavity, rv = out == cavity_value, out == rv_value
    lv = _without_holes(_largest_in_slices(cavity | (out == wall_value)))
    cavity = _without_holes(_largest_in_slices(cavity & lv))
    lv = _without_holes(lv | ndimage.binary_dilation(cavity, _SIDES))
    wall = _largest_in_slices(lv & ~cavity, _PATCH)
    cavity = lv & ~wall
    rv = _without_holes(rv & ~lv) & ~lv
    there = rv.any((0, 1))  # slices without an RV part nothing
    pieces, _ = components(ndimage.binary_dilation(rv[..., there], _PATCH))
    sizes = np.bincount(pieces[rv[..., there]], minlength=2)
    rv[..., there] &= pieces == sizes[1:].argmax() + 1
    out[np.isin(out, (cavity_value, wall_value, rv_value))] = 0
    for value, mask in ((rv_value, rv), (wall_value, wall), (cavity_value, cavity)):
        out[mask] = value
    return out


def _largest_in_slices(mask: np.ndarray, neighbours: np.ndarray = _SIDES) -> np.ndarray:
    """Of each slice the largest patch of neighbours."""
    patches, _ = ndimage.label(mask, neighbours)
    out = np.zeros_like(mask)
    for z in range(mask.shape[2]):
        numbers, sizes = np.unique(patches[..., z][mask[..., z]], return_counts=True)
        if len(numbers):
            out[..., z] = patches[..., z] == numbers[sizes.argmax()]
    return out


def _without_holes(mask: np.ndarray) -> np.ndarray:
    """Each slice with its holes filled: what the mask encloses side to side or corner to corner."""
    return np.stack([ndimage.binary_fill_holes(mask[..., z]) for z in range(mask.shape[2])], -1)
