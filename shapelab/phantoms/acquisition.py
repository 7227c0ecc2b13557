"""How a slice stack lies over a heart: spacing, matrix, first slice, breath-hold shifts, the observer's hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from shapelab.data.facts import PHASES
from shapelab.data.grid import Grid
from shapelab.errors import in_range, one_of, spacing3, whole
from shapelab.phantoms.anatomy import Heart
from shapelab.phantoms.heart import ANGLES, HeartSurfaces, slice_curves

HR_SPACING = (1.25, 1.25, 2.0)
FIELD_MM = (180.0, 180.0, 128.0)  # of a fixed grid: holds every heart the population draws, RV wall included
# ACDC's in-plane spacings and slice distances, with their shares
LR_IN_PLANE = (1.3671875, 1.4063, 1.4453, 1.4844, 1.5625, 1.6406, 1.6797, 1.7578, 1.7857, 1.875)
LR_IN_PLANE_SHARE = (0.22, 0.05, 0.10, 0.09, 0.28, 0.05, 0.06, 0.06, 0.05, 0.04)
LR_THROUGH_PLANE, LR_THROUGH_PLANE_SHARE = (10.0, 5.0, 7.0), (0.88, 0.10, 0.02)
LR_SHIFT_MM = 1.5  # sd of a slice's breath-hold displacement; ACDC's slice centres leave a smooth line by 1 to 2 mm
MARGIN_MM = 12.0  # least distance from a heart to the edge of a cropped LR image
# Standard deviation (mm) of a contour about its smooth course, per angular frequency from 0, between neighbouring ACDC
# slices: endocardium, epicardium, RV. It is the hand's error, and what changes over 10 mm beyond the smooth surfaces.
HAND = np.array(
    [
        [0.30, 0.55, 0.55, 0.35, 0.22, 0.16, 0.12, 0.09, 0.06, 0.04],
        [0.20, 0.30, 0.44, 0.31, 0.24, 0.19, 0.15, 0.11, 0.07, 0.05],
        [0.40, 0.70, 0.60, 0.45, 0.38, 0.28, 0.20, 0.15, 0.10, 0.06],
    ]
)


@dataclass(frozen=True)
class Stack(Grid):
    """Where and how one patient was scanned; the same for ED and ES.

    Attributes:
        shape: of the arrays
        spacing: of the arrays, mm
        origin: (x, y, z) mm of the mitral valve's centre at ED, voxel (0, 0, 0) at 0
        shift: (Z, 2) mm, in-plane displacement of each slice: one breath-hold a slice, shared by both phases
        hand: strength of the contour noise, 1 as in ACDC, 0 none
    """

    origin: tuple[float, float, float]
    shift: np.ndarray
    hand: float

    @property
    def affine(self) -> np.ndarray:
        """Voxel index -> mm."""
        return np.diag([*self.spacing, 1.0])


def check_resolution(resolution) -> tuple[float, float, float] | str:
    """Resolution as given: "HR", "LR", or a spacing (x, y, z) of 0.25 to 20 mm; UsageError otherwise."""
    if isinstance(resolution, str):
        return one_of("resolution (or a spacing in mm)", resolution, ("HR", "LR"))
    what = "resolution ('HR', 'LR' or a spacing)"
    return tuple(in_range(what, size, 0.25, 20) for size in spacing3(what, resolution))


@dataclass(frozen=True)
class StackFlaws:
    """What is wrong with a stack of slices; UsageError for a number out of range.

    Attributes:
        slice_shift_mm: sd of the in-plane displacement of each slice; None is 1.5 at LR, else 0
        contour_noise: strength of the observer's contour noise; None is 1 at LR (as between ACDC's slices), else 0
        missing_slices: slices left out at the apex
    """

    slice_shift_mm: float | None = None
    contour_noise: float | None = None
    missing_slices: int = 0

    def __post_init__(self):
        for name, most in (("slice_shift_mm", 10), ("contour_noise", 5)):
            if getattr(self, name) is not None:
                in_range(name, getattr(self, name), 0, most)
        whole("missing_slices", self.missing_slices, 0, 20)

    def at(self, resolution) -> tuple[float, float, int]:
        """Shift (mm), contour noise and missing slices at a resolution, as `make_stack` takes them."""
        usual = (LR_SHIFT_MM, 1.0) if resolution == "LR" else (0.0, 0.0)
        given = (self.slice_shift_mm, self.contour_noise)
        shift, hand = (float(u if g is None else g) for u, g in zip(usual, given, strict=True))
        return shift, hand, self.missing_slices


def outline_points(h: HeartSurfaces, angle: float, n_levels: int = 24) -> np.ndarray:
    """Points of the outer surfaces of one heart, (P, 3) mm about its origin, turned by `angle` in the plane."""
    low = float(min(h.lv_base, h.rv_base))
    high = float(max(h.lv_base + h.epi_length, h.rv_base + h.rv_length))
    z = torch.linspace(low, high - 1e-3, n_levels)
    curves = slice_curves(h.moved(origin=np.zeros((1, 3))), z)
    c, s = np.cos(angle), np.sin(angle)
    points = []
    for k, pole in ((1, curves.lv), (3, curves.rv_pole)):
        r = curves.radii[k, 0].numpy()
        x = pole[0, :, :1].numpy() + r * np.cos(ANGLES)
        y = pole[0, :, 1:].numpy() + r * np.sin(ANGLES)
        height = np.broadcast_to(z.numpy()[:, None], r.shape)
        points.append(np.stack([c * x - s * y, s * x + c * y, height], -1)[r > 0])
    return np.concatenate(points)


def extent(hearts: list[HeartSurfaces], angle: float) -> np.ndarray:
    """Box of all surfaces, (2, 3) mm: lowest and highest x, y, z about the origin, turned by `angle` in the plane."""
    points = np.concatenate([outline_points(h, angle) for h in hearts])
    return np.stack([points.min(0), points.max(0)])


def make_stack(
    seed: int,
    index: int,
    f: Mapping[str, float],
    hearts: Mapping[str, Heart],
    resolution,
    shift_mm: float,
    hand: float,
    missing: int,
) -> Stack:
    """Lay a slice stack over one patient's heart; a function of (seed, index) and the arguments.

    Args:
        resolution: "LR" draws ACDC-like spacing, matrix and stack; else a fixed field with the heart in its middle
        shift_mm: sd of the breath-hold displacement of a slice, each of x and y
        missing: number of slices not taken at the apex
    """
    rng = np.random.default_rng([int(seed), int(index), 2])
    low, high = extent([h.surfaces for h in hearts.values()], np.deg2rad(f["angle"]))
    if resolution == "LR":
        in_plane = float(rng.choice(LR_IN_PLANE, p=LR_IN_PLANE_SHARE))
        dz = float(rng.choice(LR_THROUGH_PLANE, p=LR_THROUGH_PLANE_SHARE))
        spacing = (in_plane, in_plane, dz)
        pixels = np.ceil((high - low + 2 * MARGIN_MM)[:2] / in_plane)
        matrix = [int(max(8 * np.ceil(n / 8), rng.choice([112, 120, 128, 128, 136, 144]))) for n in pixels]
        free = np.array(matrix) * in_plane - (high - low)[:2]
        at = -low[:2] + free * np.clip(0.5 + 0.12 * rng.standard_normal(2), 0.3, 0.7)
        # The base is cut somewhere between two slices; at times the stack starts one slice above it.
        above = int(rng.random() < 0.35)
        z = dz * (above - rng.uniform(0.2, 0.8))
        below = int(rng.choice([0, 0, 1, 2]))
        n = int(np.ceil((z + high[2]) / dz)) + below - missing
        shape, origin = (*matrix, max(n, 3)), (float(at[0]), float(at[1]), float(z))
    else:
        spacing = HR_SPACING if resolution == "HR" else resolution
        shape = tuple(int(np.ceil(mm / s)) for mm, s in zip(FIELD_MM, spacing))
        middle = (np.array(shape) - 1) / 2 * spacing
        origin = tuple(float(v) for v in middle - (low + high) / 2)
        if missing:
            shape = (*shape[:2], shape[2] - missing)
    # some patients hold their breath the same way each time, others do not
    restless = float(np.exp(0.6 * np.clip(rng.standard_normal(), -2, 1.6) - 0.15))
    shift = shift_mm * restless * np.clip(rng.standard_normal((shape[2], 2)), -2.5, 2.5)
    # contours of some hearts are easier to follow than of others
    hand *= float(np.exp(0.3 * np.clip(rng.standard_normal(), -2, 1.4) - 0.03))
    return Stack(shape, spacing, origin, shift, hand)


def square_field(
    stack: Stack, hearts: Mapping[str, Heart], angle_deg: float, in_plane: float, pixels: int, above: int = 0
) -> Stack:
    """The same stack with a field of `pixels` x `pixels` at `in_plane` mm and the hearts' box in its middle: slices of
    many patients then lie on one grid, each made there and none resampled. `above`: slices added over the base."""
    low, high = extent([h.surfaces for h in hearts.values()], np.deg2rad(angle_deg))
    at = (pixels - 1) / 2 * in_plane - (low + high)[:2] / 2
    dz = stack.spacing[2]
    return replace(
        stack,
        shape=(pixels, pixels, stack.shape[2] + above),
        spacing=(in_plane, in_plane, dz),
        origin=(float(at[0]), float(at[1]), stack.origin[2] + above * dz),
        shift=np.concatenate([stack.shift[:above][::-1], stack.shift]),
    )


def field_of_view(seed: int, index: int, hearts: Mapping[str, Heart], angle_deg: float, shape, spacing) -> Stack:
    """A given field with the heart somewhere in it, as a scan without a region of interest has it: the box of all
    hearts a third to two thirds of the free way from either side. A function of (seed, index) and the arguments."""
    rng = np.random.default_rng([int(seed), int(index), 13])
    low, high = extent([h.surfaces for h in hearts.values()], np.deg2rad(angle_deg))
    free = (np.array(shape) - 1) * spacing - (high - low)
    at = -low + free * np.clip(0.5 + 0.12 * rng.standard_normal(3), 1 / 3, 2 / 3)
    shape, spacing = tuple(int(n) for n in shape), tuple(float(s) for s in spacing)
    return Stack(shape, spacing, tuple(float(v) for v in at), np.zeros((shape[2], 2)), 0.0)


def contour_noise(seed: int, index: int, phase: str, stack: Stack) -> np.ndarray | None:
    """The observer's hand: (3, 1, Z, T) mm added to endocardium, epicardium and RV; None where the strength is 0."""
    if stack.hand == 0:
        return None
    rng = np.random.default_rng([int(seed), int(index), 3, PHASES.index(phase)])
    n = stack.shape[2]
    strength = stack.hand * HAND[:, None]
    strength[0] *= 1.25 if phase == "ES" else 1.0  # between the papillary muscles of a contracted LV
    amount = rng.standard_normal((2, 3, n, HAND.shape[1])) * strength
    turns = np.arange(HAND.shape[1])[:, None] * ANGLES
    return (amount[0] @ np.cos(turns) + amount[1] @ np.sin(turns))[:, None].astype(np.float32)
