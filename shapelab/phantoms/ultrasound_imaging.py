"""What a 3D ultrasound scanner makes of a heart: echoes along beams, speckle, shadows, drop-out, log compression.

All that happens to a beam is in dB, all that adds up is an amplitude:

    echo(p)  = 10^((tissue - attenuation - shadow - drop-out) / 20) * speckle      speckle: Rayleigh
    image(p) = 20 log10 sqrt(echo^2 + clutter^2 + noise^2), cut to the dynamic range and scaled to [0, 1]

Tissues (dB below the brightest): pericardium and valve ring -8 to -12, myocardium and papillary muscles -24, lung haze
-31, blood -52. A boundary is a ramp as wide as a beam, which widens with depth. Speckle is drawn on a lattice of
range and two angles, so a grain is short along the beam and the longer across it the deeper it lies. A wall whose
normal is across the beam (the lateral one, most of all) sends little back; ribs and lung take whole wedges of beams
away; in the near field reverberation fills the cavity at the apex; noise grows with depth, since the gain does.

Levels and spreads were set by eye against published transthoracic pictures, not fitted: no real image was at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from shapelab.data.facts import PHASES

if TYPE_CHECKING:
    from shapelab.phantoms.ultrasound_geometry import Artefacts, Box, Levels, Probe

LATTICE_DEG = 1.9  # one grain of speckle across the beam: 3.3 mm at 100 mm
WIDEST_DEG = 46.0
BEAM_RAD = 0.020  # width of a ramp per mm of depth
PAPILLARY = ((140.0, 11.0), (238.0, 10.5))  # angle about the LV (0 towards the RV), thickness in mm
NOISE_DB = -62.0
ATRIUM_MM = 52.0  # height of the atria above the valve


@dataclass(frozen=True)
class Rays:
    """The voxels of a box that any sector could reach, and where they lie in polar coordinates.

    Attributes:
        box: whose voxels
        index: (P,) into the flattened box; points (3, P) mm; depth (P,) range in mm; azimuth, elevation (P,) radians
        where: (1, 1, 1, P, 3) place on the speckle's lattice for grid_sample, and `scale` (P,) 1 / sd after
            interpolation
    """

    box: Box
    index: torch.Tensor
    points: torch.Tensor
    depth: torch.Tensor
    azimuth: torch.Tensor
    elevation: torch.Tensor
    lattice: tuple[int, int, int]
    where: torch.Tensor
    scale: torch.Tensor


@lru_cache(maxsize=6)
def rays(box: Box, device: str = "cpu") -> Rays:
    """The `Rays` of a box, on a device; those of the last few boxes are kept."""
    if device != "cpu":
        here = rays(box)
        with torch.inference_mode(False):
            tensors = {k: v.to(device) for k, v in vars(here).items() if isinstance(v, torch.Tensor)}
        return replace(here, **tensors)
    points = box.points.flatten(1)
    azimuth, elevation = torch.atan2(points[0], points[2]), torch.atan2(points[1], points[2])
    widest = np.deg2rad(WIDEST_DEG)
    index = torch.nonzero((azimuth.abs() < widest) & (elevation.abs() < widest))[:, 0]
    points, azimuth, elevation = points[:, index].contiguous(), azimuth[index], elevation[index]
    depth = points.norm(dim=0)
    step = max(1.0, 0.6 * box.spacing[2])  # pulse length; no finer than the voxels can show
    across = int(np.ceil(2 * WIDEST_DEG / LATTICE_DEG)) + 1
    lattice = (int(np.ceil(float(depth.max()) / step)) + 2, across, across)
    place = torch.stack([depth / step, *((a / (2 * widest) + 0.5) * (across - 1) for a in (azimuth, elevation))])
    part = place - place.floor()
    # trilinear weights shrink white noise by their length: undo it, or the lattice would show
    scale = 1 / torch.sqrt(((1 - part) ** 2 + part**2).prod(0))
    size = torch.tensor([n - 1 for n in lattice])[:, None]
    where = (2 * place / size - 1).flip(0).T[None, None, None]
    return Rays(box, index, points, depth, azimuth, elevation, lattice, where.contiguous(), scale)


def _speckle(rng: np.random.Generator, r: Rays, channels: int) -> torch.Tensor:
    """White complex noise on the lattice, seen at the voxels: (channels, P) amplitudes of mean square 1."""
    white = torch.from_numpy(rng.standard_normal((1, 2 * channels, *r.lattice), dtype=np.float32))
    field = F.grid_sample(white, r.where, align_corners=True)[0, :, 0, 0] * r.scale
    return torch.sqrt((field[0::2] ** 2 + field[1::2] ** 2) / 2)


def _smooth(rng: np.random.Generator, r: Rays, mm: float, channels: int = 1) -> torch.Tensor:
    """Smooth random fields in space of correlation length about `mm`, sd about 1: (channels, P)."""
    extent = [n * s for n, s in zip(r.box.shape, r.box.spacing)]
    size = [max(3, int(np.ceil(e / mm)) + 1) for e in extent]
    coarse = torch.from_numpy(rng.standard_normal((1, channels, *size), dtype=np.float32))
    low = torch.tensor([float(o) for o in r.box.affine[:3, 3]])[:, None]
    where = ((r.points - low) / torch.tensor(extent)[:, None] * 2 - 1).flip(0).T[None, None, None]
    return 1.4 * F.grid_sample(coarse, where, align_corners=True, padding_mode="border")[0, :, 0, 0]


def _inside(level: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Share of a resolution cell inside a surface: 1 inside, 0 outside, a ramp between."""
    return (0.5 - level / width).clamp(0, 1)


def _shell(level: torch.Tensor, thick: float, width: torch.Tensor) -> torch.Tensor:
    """Share of a resolution cell inside a sheet of `thick` mm about level 0; a sheet thinner than the cell is paler."""
    return ((thick / 2 + width / 2 - level.abs()) / width).clamp(0, 1) * (thick / (thick + 0.5 * width)).clamp(max=1)


def echo_image(
    levels: Levels, probe: Probe, box: Box, artefacts: Artefacts, seed: int, index: int, phase: str
) -> np.ndarray:
    """Image (X, Y, Z) float32 in [0, 1] of one heart before its probe.

    Scanner, shadows and gain are a function of (seed, index), the speckle also of the phase. `artefacts` scales effects
    that are drawn whatever it says, so images of one seed differ by the artefact alone.
    """
    body = np.random.default_rng([int(seed), int(index), 21])
    noise = np.random.default_rng([int(seed), int(index), 22, PHASES.index(phase)])
    r = rays(box)
    h = torch.from_numpy(probe.to_heart(r.points.T.numpy()).astype(np.float32)).T.contiguous()
    width = torch.hypot(r.depth * BEAM_RAD, torch.tensor(0.5 * (1.0 + max(box.spacing))))
    tissue, loss = _tissue(levels, probe, r, h, width, body, noise, artefacts.dropout)

    grain = _speckle(noise, r, 2)
    grain[0] = grain[0] ** artefacts.speckle
    tilt = body.uniform(-0.04, 0.05)  # what the time gain compensation leaves over, dB a mm
    shadow = artefacts.shadow * shadow_db(body, r.azimuth, r.elevation) * (1 - torch.exp(-r.depth / 12))
    loss = (
        loss
        + shadow
        + tilt * (r.depth - 70)
        + 4 * ((r.azimuth / probe.azimuth) ** 2 + (r.elevation / probe.elevation) ** 2)
    )
    echo = 10 ** ((tissue - loss) / 20) * grain[0]

    near, fade = body.uniform(-24, -15), body.uniform(9, 15)
    patchy = 10 ** (0.25 * _smooth(body, r, 14.0)[0])
    clutter = artefacts.clutter * 10 ** (near / 20) * torch.exp(-(r.depth - 8).clamp(min=0) / fade) * patchy * grain[1]
    # haze comes along the beam as the echoes do, and is shadowed with them
    haze = artefacts.clutter * 10 ** ((body.uniform(-54, -44) - shadow) / 20) * patchy * grain[1].roll(1)
    floor = 10 ** ((NOISE_DB + 0.12 * r.depth) / 20) * grain[1].roll(7)
    total = torch.sqrt(echo**2 + clutter**2 + haze**2 + floor**2).clamp(min=1e-5)

    span, gain = body.uniform(50, 62), body.uniform(4, 12)
    shown = ((20 * torch.log10(total) + gain + span) / span).clamp(0, 1)
    seen = (r.azimuth.abs() < probe.azimuth) & (r.elevation.abs() < probe.elevation) & (r.depth < probe.depth)
    out = torch.zeros(int(np.prod(box.shape)))
    out[r.index] = torch.where(seen, shown, 0.0)
    return out.reshape(box.shape).numpy()


def _tissue(levels, probe, r: Rays, h, width, body, noise, dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Echo of the tissue at each voxel in dB, and what is lost of it because a wall lies along the beam (dB)."""
    (endo, epi), normal, turn = levels.lv(*h)
    (rv, rv_outer), rv_normal = levels.rv(*h)
    z = h[2]
    beam = -torch.from_numpy((probe.turn.T @ (r.points / r.depth).double().numpy()).astype(np.float32))
    facing = (normal * beam).sum(0).abs().clamp(max=1)
    rv_facing = (rv_normal * beam).sum(0).abs().clamp(max=1)
    muscle, blood = body.uniform(-29, -22), body.uniform(-58, -50)
    knobs = _smooth(noise, r, 5.0)[0]
    broad = _smooth(body, r, 22.0, 2)
    down = ((z - levels.base) / (levels.apex - levels.base)).clamp(0, 1.2)

    above = levels.base - z  # mm above the valve plane
    # the atria: tubes that widen a little and close; the LV's wall and the RV's go over into thin ones
    narrow = 5.0 + 22.0 * (above / ATRIUM_MM - 0.35) ** 2
    left_atrium = torch.maximum(epi + narrow, above - ATRIUM_MM)
    right_atrium = rv + 4.0 + 16.0 * (above / ATRIUM_MM - 0.3) ** 2
    right_atrium = torch.maximum(torch.maximum(right_atrium, above - 0.9 * ATRIUM_MM), 3.0 - left_atrium)
    upper = _inside(-above, width)
    lower = 1 - upper

    # trabeculae, most of them towards the apex, are bright and belong to the cavity
    rough = endo + (0.5 + 1.6 * down) * (0.35 + 0.8 * knobs).clamp(min=-0.5)
    echo = -31 + 4.5 * broad[0] + 2.0 * knobs
    pericardium = _shell(torch.minimum(epi, rv_outer) - 1.5, 3.0, width) * lower
    bright = -19 + body.uniform(7, 12) * torch.maximum(facing, rv_facing * (rv_outer < epi)) ** 2 + 2.0 * broad[1]
    outer = _inside(rv_outer, width) * lower
    layers = [
        (pericardium, bright),
        (outer, muscle + 1.5 * broad[1]),
        (_inside(rv, width) * lower, torch.full_like(z, blood + 2)),
        (_inside(torch.minimum(left_atrium, right_atrium) - 3.0, width) * upper, muscle + 3 + 1.5 * broad[1]),
        (_inside(torch.minimum(left_atrium, right_atrium), width) * upper, torch.full_like(z, blood)),
        (_inside(epi, width) * lower, muscle + 2.0 * broad[1]),
        (_inside(rough, width) * lower, torch.full_like(z, blood) + 2 * broad[0]),
        (_papillary(levels, endo, turn, down, width, body) * lower, torch.full_like(z, muscle + 1)),
        (*_valve(endo, epi, above, width, body, closed=0.55 if noise.random() < 0.5 else 1.0),),
    ]
    for share, value in layers:
        echo = echo + share * (value - echo)

    # a wall along the beam fades: most the lateral and the anterior one, the septum less
    fades = _fades(turn, body)
    strength = body.uniform(9, 20)
    patch = (1 + 0.5 * _smooth(body, r, 28.0)[0]).clamp(0, 2)
    near_wall = _inside(epi - 5.0, width) * lower
    lost = (
        dropout
        * strength
        * patch
        * (fades * near_wall * (1 - facing) ** 1.5 + 0.5 * (1 - near_wall) * outer * (1 - rv_facing) ** 1.5)
    )
    return echo, lost


def _fades(turn: torch.Tensor, body: np.random.Generator) -> torch.Tensor:
    """How much of the wall's loss each direction about the LV has, 0.35 to 1: most on the lateral and anterior side."""
    off = (turn - np.deg2rad(body.normal(150, 25)) + np.pi) % (2 * np.pi) - np.pi
    return 0.35 + 0.65 * torch.exp(-((off / np.deg2rad(body.uniform(45, 75))) ** 2))


def _papillary(levels, endo, turn, down, width, body) -> torch.Tensor:
    """Share inside one of the two papillary muscles: columns against the wall from 25 to 75 % of the height."""
    out = torch.zeros_like(endo)
    along = (1 - ((down - 0.5) / 0.28) ** 2).clamp(min=0).sqrt()
    for angle, size in PAPILLARY:
        angle = np.deg2rad(angle + body.normal(0, 8))
        size = size * body.uniform(0.75, 1.1) * along
        off = torch.remainder(turn - angle + np.pi, 2 * np.pi) - np.pi
        level = torch.hypot((endo + size * 0.55) / 1.1, off * 22.0) - size * 0.62
        out = torch.maximum(out, _inside(level, width) * (size > 2))
    return out


def _valve(endo, epi, above, width, body, closed: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mitral leaflets (a tent into the LV) with the bright ring at their rim: share, and echo in dB."""
    rim = (-endo / 14.0).clamp(0, 1)  # 0 at the ring, 1 from 14 mm inwards
    leaflets = _shell(above + closed * 6.0 * rim, 3.0, width) * _inside(endo - 1, width)
    ring = _inside(torch.hypot(endo - 1.5, above) - 3.2, width)
    return torch.maximum(leaflets * (0.9 - 0.4 * rim), ring), -10 - 5 * rim


def shadow_db(rng: np.random.Generator, azimuth: torch.Tensor, elevation: torch.Tensor) -> torch.Tensor:
    """Loss in dB of each beam (azimuth, elevation in radians) behind ribs and lung: one or two bars and an edge.

    A pure function of the generator's state. Ribs cross the sector as bars 5 to 11 degrees wide; lung covers one edge.
    """
    loss = torch.zeros_like(azimuth)
    for kind in ("edge", "bar", "bar"):
        direction, there = rng.uniform(0, 2 * np.pi), rng.random()
        strength, place, wide = rng.uniform(12, 26), rng.uniform(), rng.uniform(0.045, 0.095)
        across = azimuth * float(np.cos(direction)) + elevation * float(np.sin(direction))
        if kind == "edge":
            share = torch.sigmoid((across - (0.30 + 0.28 * place)) / 0.035)
        else:
            share = torch.exp(-(((across - (0.62 * place - 0.05)) / wide) ** 4))
            # a bar ends somewhere: a rib lies over part of the probe's face
            other = -azimuth * float(np.sin(direction)) + elevation * float(np.cos(direction))
            share = share * torch.sigmoid((other + rng.uniform(-0.1, 0.5)) / 0.05)
            strength = strength * (there < 0.6)
        loss = torch.maximum(loss, strength * share)
    return loss


def more_shadows(
    images: torch.Tensor, box: Box, seed: int, strength: float = 1.0, span_db: float = 56.0
) -> torch.Tensor:
    """Images (N, X, Y, Z) in [0, 1] with further shadows and another gain, for training: each its own.

    A pure function of (images, box, seed, strength). The shadows' loss is taken off the log-compressed intensity
    (`span_db` is its range) down to the dark noise that a shadow shows; outside the sector it stays 0.
    """
    r, out = rays(box, str(images.device)), images.float().clone().flatten(1)
    for i, rng in enumerate(np.random.default_rng([int(seed), 23]).spawn(len(out))):
        here = out[i, r.index]
        loss = strength * rng.random() * shadow_db(rng, r.azimuth, r.elevation) * (1 - torch.exp(-r.depth / 12))
        gain, gamma = rng.uniform(-0.06, 0.06), np.exp(rng.uniform(-0.15, 0.15))
        changed = (here + gain).clamp(0.01, 1) ** gamma
        changed = torch.maximum(changed - loss / span_db, 0.25 * changed)
        out[i, r.index] = torch.where(here > 0, changed, here)
    return out.reshape(images.shape)
