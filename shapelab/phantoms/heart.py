"""The surfaces of a heart, and their label maps on any grid.

A heart is four closed surfaces: LV endocardium, LV epicardium, RV endocardium (free wall) and RV epicardium. In the
plane of a short-axis slice each is a star-shaped curve, radius = f(angle, height): the two of the LV about the LV's
axis, the two of the RV about a pole inside the LV, at 0.7 of its radius towards the septum, from which the whole
crescent can be seen. The level function of a surface is `distance from the pole - radius` in mm, negative inside:

    LV cavity      endo < 0
    LV myocardium  epi < 0 and not LV cavity
    RV cavity      rv < 0 and not (epi < 0)
    RV wall        rv_outer < 0 and none of these

So the structures never overlap, RV and septum share one surface, and a volume is an integral of squared radii that can
be solved for (`shapelab.phantoms.anatomy`). A label map on any grid, at any resolution, comes from these surfaces and
never from another label map.

Frames. The heart's own frame has its origin at the centre of the mitral valve, x towards the RV, y anterior, z from
base to apex. Arrays are (X, Y, Z) with slice 0 at the base, as in ACDC; shown as ``a[:, :, k].T``, the y axis of the
picture points down, so a rotation by `angle` (130 to 250 degrees) puts the RV on the left and the anterior wall up.

Deviation from a scanner's geometry: the LV's axis leans against the slices by a shear (the centre line moves from
slice to slice), cross-sections stay in the slice plane. At 10 degrees the two differ by 1.5 % in one diameter; in
return volumes do not depend on the tilt, and the base is cut along a slice, as annotators do it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from shapelab.data.grid import Grid
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC, LabelScheme
from shapelab.errors import must

N_ANGLES = 128  # 2.8 degrees: the chord of a 60 mm radius misses the arc by 0.02 mm
N_LEVELS = 33  # nodes from base to apex, denser towards the apex, where the radius falls like a square root
POLE = 0.7  # place of the RV's pole, as a share of the LV's mean outer radius
CAP_MM = 12.0
MIN_WALL = 3.0  # mm; thinnest wall, so that the LV cavity is closed at ACDC's 1.8 mm voxels
ANGLES = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
CURVES = ("endo", "epi", "rv", "rv_outer")


def level_of_node(u: np.ndarray) -> np.ndarray:
    """Relative height s (0 base, 1 apex) of table coordinate u (0 to 1): s = 1 - (1 - u)^2."""
    return 1 - (1 - u) ** 2


NODES = level_of_node(np.linspace(0, 1, N_LEVELS))


@dataclass(frozen=True, eq=False)
class HeartSurfaces:
    """Surfaces of N hearts (one phase each) in a slice stack, float32 tensors; lengths in mm, angles in radians.

    Attributes:
        endo: (N, U, T) radius at table level U (relative height `NODES`) and angle T (`ANGLES`)
        epi: see `endo`
        rv: see `endo`
        rv_outer: see `endo`
        lv_base: (N,) height of the LV's base, and lengths of cavity and of LV down to its apex
        endo_length: see `lv_base`
        epi_length: see `lv_base`
        rv_base: (N,) the same for the RV
        rv_length: (N,) the same for the RV
        pole: (N, U) distance of the RV's pole from the LV's centre, at the levels of `epi`
        centre: (N, 2, 3) polynomial of the LV's centre line, x and y: c0 + c1 z + c2 z^2 in mm, z from the origin
        origin: (N, 3) the origin of the heart's frame (the mitral valve at ED) in the stack's frame
        angle: (N,) direction LV -> RV in the slice plane
    """

    endo: torch.Tensor
    epi: torch.Tensor
    rv: torch.Tensor
    rv_outer: torch.Tensor
    lv_base: torch.Tensor
    endo_length: torch.Tensor
    epi_length: torch.Tensor
    rv_base: torch.Tensor
    rv_length: torch.Tensor
    pole: torch.Tensor
    centre: torch.Tensor
    origin: torch.Tensor
    angle: torch.Tensor

    def __len__(self) -> int:
        return len(self.endo)

    def to(self, device: torch.device | str) -> HeartSurfaces:
        """The same on another device."""
        return HeartSurfaces(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def __getitem__(self, key: slice | list[int]) -> HeartSurfaces:
        """Some of the hearts (a slice or a list of positions)."""
        return HeartSurfaces(**{f.name: getattr(self, f.name)[key] for f in fields(self)})

    @staticmethod
    def stack(hearts: list[HeartSurfaces]) -> HeartSurfaces:
        """Several batches as one."""
        return HeartSurfaces(**{f.name: torch.cat([getattr(h, f.name) for h in hearts]) for f in fields(HeartSurfaces)})

    def moved(self, origin: torch.Tensor | np.ndarray | None = None, angle=None) -> HeartSurfaces:
        """The same hearts elsewhere: `origin` (N, 3) mm and `angle` (N,) radians, where given."""
        given = {name: value for name, value in (("origin", origin), ("angle", angle)) if value is not None}
        new = {k: torch.as_tensor(v, dtype=torch.float32, device=self.endo.device) for k, v in given.items()}
        return replace(self, **{name: value.reshape(getattr(self, name).shape) for name, value in new.items()})


@dataclass(frozen=True, eq=False)
class SliceCurves:
    """The curves of N hearts in Z slices.

    Attributes:
        radii: (4, N, Z, T) of endo, epi, rv, rv_outer in mm; -1 where the slice misses the structure
        lv: (N, Z, 2) centre of the LV and pole of the RV in the heart's frame, mm
        rv_pole: see `lv`
    """

    radii: torch.Tensor
    lv: torch.Tensor
    rv_pole: torch.Tensor


def _levels(table: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Interpolate tables (N, U, T) linearly in u at relative heights s (N, Z) -> (N, Z, T)."""
    u = (1 - (1 - s.clamp(0, 1)).sqrt()) * (N_LEVELS - 1)
    low = u.floor().clamp(0, N_LEVELS - 2)
    weight = (u - low)[..., None]
    index = low.long()[..., None].expand(-1, -1, table.shape[-1])
    return torch.lerp(table.gather(1, index), table.gather(1, index + 1), weight)


def slice_curves(hearts: HeartSurfaces, z: torch.Tensor, noise: torch.Tensor | None = None) -> SliceCurves:
    """Cut the surfaces at heights z (N, Z) or (Z,), mm in the stack's frame.

    Args:
        noise: (3, N, Z, T) mm added to endo, epi and both RV curves: the observer's hand, different in each slice; and
            as in ACDC, the hand does not outline the cap of an apex below the cavity if its radius is less than
            `CAP_MM`
    """
    z = torch.as_tensor(z, dtype=torch.float32, device=hearts.endo.device)
    z = z.expand(len(hearts), -1) if z.ndim == 1 else z
    height = z - hearts.origin[:, 2:3]
    left, right = hearts.lv_base, (hearts.rv_base, hearts.rv_length)
    extents = ((left, hearts.endo_length), (left, hearts.epi_length), right, right)
    levels = [(height - base[:, None]) / length[:, None] for base, length in extents]
    radii = [_levels(getattr(hearts, name), s) for name, s in zip(CURVES, levels)]
    there = [((s >= 0) & (s < 1))[..., None] for s in levels]
    pole = _levels(hearts.pole[..., None], levels[1])[..., 0]
    if noise is not None:
        # near an apex the curves shrink to a point, and with them the hand's error
        radii = [r + noise[min(i, 2)] * (r / 12).clamp(0, 1) for i, r in enumerate(radii)]
    radii[0] = torch.minimum(radii[0], radii[1] - MIN_WALL)
    radii[3] = torch.maximum(radii[3], radii[2])
    if noise is not None:
        there[1] = there[1] & (there[0] | (radii[1].mean(-1, keepdim=True) > CAP_MM))
    radii = torch.stack([torch.where(inside, r, -1.0) for r, inside in zip(radii, there)])
    power = torch.stack([torch.ones_like(height), height, height**2], -1)
    lv = power @ hearts.centre.mT
    return SliceCurves(radii, lv, torch.stack([lv[..., 0] + pole, lv[..., 1]], -1))


def _about(dx: torch.Tensor, dy: torch.Tensor, radii: torch.Tensor) -> list[torch.Tensor]:
    """Distance from the pole minus radius, for each curve: dx, dy (N, Z, P) mm; radii (K, N, Z, T) -> K x (N, Z, P)."""
    turn = torch.atan2(dy, dx) * (N_ANGLES / (2 * np.pi))
    turn = torch.where(turn < 0, turn + N_ANGLES, turn)
    index = turn.to(torch.int64)  # floor: turn >= 0
    weight = turn - index
    index = index.clamp_(max=N_ANGLES)  # -0.0 rounds to a whole turn: entries T and T + 1 of the padded table
    distance = torch.sqrt(dx * dx + dy * dy)
    out = []
    for radius in radii:
        padded = torch.cat([radius, radius[..., :2]], -1)
        step = padded.diff(dim=-1)
        start, rise = padded.gather(-1, index), step.gather(-1, index)
        out.append(distance - torch.addcmul(start, weight, rise))
    return out


def heart_frame(hearts: HeartSurfaces, x: torch.Tensor, y: torch.Tensor, shift: torch.Tensor | None = None):
    """Stack coordinates (mm) of pixels, x (X,) and y (Y,), -> heart coordinates (N, Z or 1, X * Y) each.

    Args:
        shift: (N, Z, 2) mm, in-plane displacement of each slice (breath-hold position)
    """
    ox, oy = hearts.origin[:, 0, None], hearts.origin[:, 1, None]
    if shift is not None:
        ox, oy = ox + shift[..., 0], oy + shift[..., 1]
    dx = x[None, None, :, None] - ox[..., None, None]
    dy = y[None, None, None, :] - oy[..., None, None]
    c, s = torch.cos(hearts.angle)[:, None, None, None], torch.sin(hearts.angle)[:, None, None, None]
    hx, hy = c * dx + s * dy, -s * dx + c * dy
    return hx.flatten(2), hy.flatten(2)


def level_functions(curves: SliceCurves, hx: torch.Tensor, hy: torch.Tensor) -> torch.Tensor:
    """Level functions (4, N, Z, P) in mm at heart coordinates hx, hy (N, Z or 1, P): negative inside."""
    return torch.stack(_first_levels(curves, hx, hy, 4))


def _first_levels(curves: SliceCurves, hx: torch.Tensor, hy: torch.Tensor, number: int) -> list[torch.Tensor]:
    """The first `number` (3 or 4) of the level functions, (N, Z, P) each; a list, for to stack them costs time."""
    lv, pole = curves.lv[..., None], curves.rv_pole[..., None]
    about_pole = _about(hx - pole[:, :, 0], hy - pole[:, :, 1], curves.radii[2:number])
    return _about(hx - lv[:, :, 0], hy - lv[:, :, 1], curves.radii[:2]) + about_pole


def _labels(curves: SliceCurves, hx, hy, rv_wall: int) -> torch.Tensor:
    """Label integers (N, Z, P) uint8 at heart coordinates."""
    endo, epi, rv, *outer = _first_levels(curves, hx, hy, 4 if rv_wall else 3)
    label = (rv < 0).to(torch.uint8)
    if rv_wall:
        label[(outer[0] < 0) & (label == 0)] = rv_wall
    label[epi < 0] = 2
    label[endo < 0] = 3
    return label


def check_scheme(scheme: LabelScheme) -> None:
    """UsageError for a scheme that is not of a phantom heart."""
    must(
        scheme in (BIVENTRICULAR, CARDIAC), "scheme", repr(getattr(scheme, "name", scheme)), "BIVENTRICULAR or CARDIAC"
    )


def as_grid(grid) -> Grid:
    """A `Grid`, from one or from a pair (shape, spacing in mm); UsageError if it is neither."""
    return grid if isinstance(grid, Grid) else Grid(*grid)


def label_batch(
    hearts: HeartSurfaces,
    grid,
    device: torch.device | str | None = None,
    scheme: LabelScheme = BIVENTRICULAR,
    shift: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """Label maps of N hearts on one grid, in one call.

    Args:
        hearts: surfaces; `origin` and `angle` say where each lies on the grid (voxel (0, 0, 0) is at 0 mm)
        grid: `Grid`, or (shape, spacing in mm)
        device: where to compute and leave the result; default: where the surfaces are
        scheme: BIVENTRICULAR, or CARDIAC, in which the RV wall is background
        shift: (N, Z, 2) mm, in-plane displacement of each slice
        noise: (3, N, Z, T) mm, contour noise (see `slice_curves`)

    Returns:
        (N, X, Y, Z) uint8 on `device`. A voxel has the label of its centre; nothing is resampled.
    """
    grid = as_grid(grid)
    shape, spacing = grid.shape, grid.spacing
    check_scheme(scheme)
    if device is not None:
        hearts = hearts.to(device)
    device = hearts.endo.device
    shift, noise = (t if t is None else torch.as_tensor(t, dtype=torch.float32, device=device) for t in (shift, noise))
    x, y, z = (torch.arange(n, dtype=torch.float32, device=device) * s for n, s in zip(shape, spacing))
    curves = slice_curves(hearts, z, noise)
    box, first, last = _box(hearts, curves, shape, spacing, shift)
    out = torch.zeros(len(hearts), *shape, dtype=torch.uint8, device=device)
    (x0, x1), (y0, y1) = box
    if last <= first or x1 <= x0 or y1 <= y0:
        return out
    slices = slice(first, last)
    cut = SliceCurves(curves.radii[:, :, slices], curves.lv[:, slices], curves.rv_pole[:, slices])
    part = None if shift is None else shift[:, slices]
    # hearts in turn, not the whole batch at once: intermediate arrays then stay in the processor's cache
    step = len(hearts) if device.type != "cpu" else max(1, 400_000 // ((x1 - x0) * (y1 - y0) * (last - first)))
    for i in range(0, len(hearts), step):
        sub = slice(i, i + step)
        hx, hy = heart_frame(hearts[sub], x[x0:x1], y[y0:y1], None if part is None else part[sub])
        some = SliceCurves(cut.radii[:, sub], cut.lv[sub], cut.rv_pole[sub])
        label = _labels(some, hx, hy, 4 if scheme == BIVENTRICULAR else 0)
        out[sub, x0:x1, y0:y1, slices] = label.view(*label.shape[:2], x1 - x0, y1 - y0).permute(0, 2, 3, 1)
    return out


def _box(hearts, curves: SliceCurves, shape, spacing, shift):
    """Pixels and slices that hold any of the hearts: ((x0, x1), (y0, y1)), first slice, last + 1."""
    reach = curves.radii.amax(-1)  # (4, N, Z)
    there = (reach > 0).any(0).any(0)
    if not there.any():
        return ((0, 0), (0, 0)), 0, 0
    index = torch.nonzero(there)[:, 0]
    first, last = int(index[0]), int(index[-1]) + 1
    turn = torch.stack([torch.cos(hearts.angle), torch.sin(hearts.angle)], -1)
    box = []
    sizes = torch.stack([reach[:2].amax(0), reach[2:].amax(0)])  # about the LV's centre, about the RV's pole
    for axis in (0, 1):
        low, high = [], []
        for pole, size in zip((curves.lv, curves.rv_pole), sizes):
            a, b = turn[:, None, 0], turn[:, None, 1]
            place = a * pole[..., 0] - b * pole[..., 1] if axis == 0 else b * pole[..., 0] + a * pole[..., 1]
            place = place + hearts.origin[:, axis, None] + (0 if shift is None else shift[..., axis])
            low.append(torch.where(size > 0, place - size, torch.inf).min())
            high.append(torch.where(size > 0, place + size, -torch.inf).max())
        start = int(np.floor(float(min(low)) / spacing[axis]))
        stop = int(np.ceil(float(max(high)) / spacing[axis])) + 1
        box.append((min(max(start, 0), shape[axis]), min(max(stop, 0), shape[axis])))
    return box, first, last
