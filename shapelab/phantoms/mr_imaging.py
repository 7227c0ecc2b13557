"""What a bSSFP cine scanner makes of a heart and its neighbours.

The image is drawn from the surfaces, not from a label map: tissue fractions come from the level functions, with several
thin layers a slice (partial volume through the plane) and a ramp one pixel wide (partial volume in the plane).
Neighbours lie round the heart as a short-axis view shows them: chest wall to the left, lung to the upper right,
liver and stomach below, descending aorta behind. Above the valve plane, the ventricles' blood goes on with a thin
wall, as that of the atria. Papillary muscles and trabeculae are dark in the image and cavity in the label, as in ACDC.

Intensities: bright blood and fat, grey muscle, dark lung; bias field of the surface coils; Rician noise; clipped at the
99th percentile and scaled to [0, 1]. Means and spreads as of ACDC (blood .69 +- .17 in the LV, .57 +- .17 in the RV,
myocardium .26 +- .06).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from shapelab.data.facts import PHASES
from shapelab.phantoms.acquisition import Stack
from shapelab.phantoms.drawing import Array, blurred, drawn, here, of, percentile, there
from shapelab.phantoms.heart import HeartSurfaces, SliceCurves, heart_frame, level_functions, slice_curves
from shapelab.types import Shape3, Triple

LAYER_MM = 2.0  # thickness of one layer of the sum through a slice
SLICE_SHARE = 0.8  # ACDC: 5 to 8 mm slices at 10 mm distance
PAPILLARY_DEG = (140.0, 238.0)  # anterolateral and posteromedial


def mr_image(
    hearts: HeartSurfaces, stack: Stack, f: Mapping[str, float], outline: np.ndarray, seed: int, index: int, phase: str
) -> np.ndarray:
    """bSSFP-like image (X, Y, Z) float32 in [0, 1] of one heart (batch of one) placed in its stack.

    Drawn where the surfaces are: by NumPy on the CPU, by torch on a GPU. Random numbers are the CPU's, so that a GPU's
    image is the CPU's to rounding.

    Args:
        outline: (P, 3) mm, the heart's outer surface at ED about the stack's origin; the neighbours are laid against it

    Scanner and neighbours are a function of (seed, index), the noise also of the phase.
    """
    body = np.random.default_rng([int(seed), int(index), 5])
    variety = np.random.default_rng([int(seed), int(index), 7])
    noise = np.random.default_rng([int(seed), int(index), 6, PHASES.index(phase)])
    tissue, device = _tissues(body), hearts.endo.device
    image, wall_side = _neighbours(body, tissue, stack, f, outline, device, lung_vessels=variety.uniform(1.5, 2.2))
    image = _paint_heart(image, wall_side, hearts, stack, tissue, body, phase, variety)
    image = blurred(image, (0.55, 0.55, 0))  # finite k-space
    image *= bias_field(body, stack.shape, device)
    sigma = body.uniform(0.008, 0.022)
    real, imaginary = (sigma * there(noise.standard_normal(stack.shape), device) for _ in range(2))
    image = of(device).hypot(image + real, imaginary)
    return here((image / percentile(image, 99)).clip(0, 1)).astype(np.float32)


def _tissues(rng: np.random.Generator) -> dict[str, float]:
    """Intensities of one scan."""
    blood = rng.uniform(0.66, 1.0)
    return {
        "lv": blood,
        "rv": blood * rng.uniform(0.75, 0.98),
        "wall": blood * rng.uniform(0.26, 0.42),
        "fat": rng.uniform(0.7, 1.0),
        "muscle": rng.uniform(0.12, 0.24),
        "lung": rng.uniform(0.03, 0.07),
        "liver": rng.uniform(0.15, 0.3),
        "gut": rng.uniform(0.2, 0.45),
    }


def _ramp(level: Array, width: float) -> Array:
    """Share of a pixel inside a surface: 1 inside, 0 outside, a ramp `width` mm wide between."""
    return (0.5 - level / width).clip(0, 1)


def _texture(rng: np.random.Generator, shape: Shape3, sigma: Triple, device: torch.device) -> Array:
    """Smooth random field of sd 1."""
    field = blurred(there(rng.standard_normal(shape).astype(np.float32), device), sigma, mode="wrap")
    return field / (field.std() if isinstance(field, np.ndarray) else field.std(correction=0))


def _neighbours(
    rng: np.random.Generator,
    tissue: Mapping[str, float],
    stack: Stack,
    f: Mapping[str, float],
    outline: np.ndarray,
    device: torch.device,
    lung_vessels: float = 2.2,
) -> tuple[Array, Array]:
    """Chest wall, lung, liver, gut and aorta without the heart; and how far a pixel faces the chest wall or the liver.

    Both (X, Y, Z); the second from 0 (towards the lung) to 1. lung_vessels: the lower, the more of them.
    """
    x, y = (np.arange(n) * s - o for n, s, o in zip(stack.shape[:2], stack.spacing[:2], stack.origin[:2]))
    heights, xp = np.arange(stack.shape[2]) * stack.spacing[2] - stack.origin[2], of(device)
    deep = (heights / f["LV_length"])[None, None]  # apex 1
    dx, dy, deep = (there(a, device) for a in (x[:, None, None], y[None, :, None], deep))

    def texture(plane_mm: float, through_mm: float) -> Array:
        return _texture(rng, stack.shape, np.divide((plane_mm, plane_mm, through_mm), stack.spacing), device)

    nearby = np.abs(outline[None, :, 2] - np.clip(heights, 0, outline[:, 2].max())[:, None]) < 15  # (Z, P)

    def reach(direction: float, follow: float = 0.0) -> Array:
        """How far the heart extends that way, (1, 1, Z) mm; `follow` 1: at each height, 0: anywhere."""
        along = outline[:, :2] @ [np.cos(direction), np.sin(direction)]
        farthest = np.where(nearby, along, -np.inf).max(1)
        level = ndimage.gaussian_filter1d(farthest, 10 / stack.spacing[2], mode="nearest")
        return there(((1 - follow) * along.max() + follow * level)[None, None], device)

    broad, fine, vessels = texture(14, 25), texture(1.5, 5), texture(1.6, 5)
    image = tissue["lung"] * (1 + 0.25 * fine) + 0.5 * (vessels - lung_vessels).clip(0, 1)  # vessels, cut across

    down = np.deg2rad(rng.uniform(85, 118))
    across = -dx * np.sin(down) + dy * np.cos(down)
    floor = reach(down, 0.8) + rng.uniform(-3, 3) + 0.003 * (across - rng.uniform(-10, 30)) ** 2
    below = _ramp(floor + 2 * broad - (dx * np.cos(down) + dy * np.sin(down)), 2)
    image = image + below * (tissue["liver"] * (1 + 0.1 * fine) + 0.25 * (vessels - 1.8).clip(0, 1) - image)
    side = below * _ramp(across + rng.uniform(5, 30) + 4 * broad, 4)  # the patient's left: fat, stomach, spleen
    image = image + side * (0.7 * tissue["fat"] * (1 + 0.15 * broad) - image)
    under = dy - reach(np.pi / 2, 0.5)
    from_gut = xp.hypot(dx - rng.uniform(5, 40), (under - rng.uniform(20, 36)) * rng.uniform(0.8, 1.3))
    gut = from_gut - rng.uniform(15, 28) + 3 * broad
    image = image + _ramp(gut, 2) * (tissue["gut"] * (1 + 0.25 * texture(4, 8)) - image)
    behind = np.deg2rad(rng.uniform(35, 70))
    away, size = reach(behind) + rng.uniform(13, 24), rng.uniform(8, 11)
    aorta = xp.hypot(dx - away * np.cos(behind), dy - away * np.sin(behind)) - size + 0 * deep
    image = image + _ramp(aorta, 2) * (tissue["lv"] * 0.95 - image) * (deep < 0.6)

    out = np.deg2rad(rng.uniform(185, 228))  # towards the chest wall: left, somewhat up
    radius, gap = rng.uniform(110, 155), reach(out, 0.5) + rng.uniform(4, 12)
    cx, cy = (gap - radius) * np.cos(out), (gap - radius) * np.sin(out)
    edge = radius - xp.hypot(dx - cx, (dy - cy) * rng.uniform(0.9, 1.1)) + 1.5 * broad + 0 * deep  # under the ribs
    muscle = (tissue["muscle"] * (1 + 0.5 * texture(3, 6))).clip(0.03, None)
    skin = rng.uniform(7, 13)
    for depth, value in (
        (rng.uniform(1, 5), 0.6 * tissue["fat"] * (1 + 0.2 * fine)),
        (0.0, muscle),
        (-skin, tissue["fat"] * (1 + 0.06 * broad)),
        (-skin - rng.uniform(8, 28), 0.01),
    ):
        image = image + _ramp(edge - depth, 2) * (value - image)
    near = ((22 - edge) / 18).clip(0, 1) + ((dx * np.cos(down) + dy * np.sin(down) - floor + 14) / 14).clip(0, 1)
    return image, near.clip(0, 1)


def _paint_heart(
    image: Array,
    wall_side: Array,
    hearts: HeartSurfaces,
    stack: Stack,
    tissue: Mapping[str, float],
    rng: np.random.Generator,
    phase: str,
    variety: np.random.Generator,
) -> Array:
    """The heart over its neighbours: fat, wall, blood, papillary muscles; layers averaged through each slice."""
    thickness = stack.spacing[2] * (SLICE_SHARE if stack.spacing[2] > 4 else 1.0)
    n_layers = max(1, int(np.ceil(thickness / LAYER_MM)))
    device, pixel = hearts.endo.device, float(stack.spacing[0])
    x, y = (torch.arange(n, dtype=torch.float32, device=device) * s for n, s in zip(stack.shape[:2], stack.spacing[:2]))
    hx, hy = heart_frame(hearts, x, y, torch.as_tensor(stack.shift[None], dtype=torch.float32, device=device))

    def field(mm: float) -> Array:
        return _texture(rng, stack.shape, (mm / pixel, mm / pixel, 6 / stack.spacing[2]), device)

    grain, knobs, hollow = 0.05 * field(1.2), field(2.4), field(9)
    fat_mm = rng.uniform(0.8, 1.8) + wall_side * rng.uniform(4, 11) * (1 + 0.5 * hollow).clip(0.1, 2)
    rough = rng.uniform(0.7, 1.4)
    muscles = [(np.deg2rad(a + rng.normal(0, 8)), rng.uniform(4.2, 6.2)) for a in PAPILLARY_DEG]
    muscles, loose, rough_lv = _more_muscles(muscles, variety, phase)
    if variety.random() < 0.3:  # fat all round, as in the obese
        fat_mm = fat_mm + variety.uniform(1, 6) * (1 + 0.5 * hollow).clip(0.1, 2)
    chambers, atria = _chambers(variety), _draw_atria(variety)
    total, minimum = 0.0, of(device).minimum
    for offset in ((np.arange(n_layers) + 0.5) / n_layers - 0.5) * thickness:
        z = torch.arange(stack.shape[2], dtype=torch.float32) * stack.spacing[2] + float(offset)
        curves, height = _with_atria(hearts, z, atria)
        levels = level_functions(curves, hx, hy)[:, 0].reshape(4, stack.shape[2], *stack.shape[:2])
        endo, epi, rv, outer = drawn(levels.permute(0, 2, 3, 1))
        low = (2 * height).clip(0, 1)  # trabeculae grow towards the apex
        rv_image = rv + rough * low * (0.6 + 2.2 * knobs).clip(0, 7)
        endo_image = endo + rough_lv * rough * low * (0.2 + 1.6 * knobs).clip(0, 4)
        papillary = _papillary(curves, hx, hy, height, muscles, stack, phase, loose)
        vessel = _chamber_levels(chambers, curves, hx, hy, height, stack)
        layer = image
        for share, value in (
            (_ramp(vessel - 2, pixel), tissue["wall"] * (1 + grain)),
            (_ramp(vessel, pixel), 0.5 * (tissue["lv"] + tissue["rv"]) * (1 + grain)),
            (_ramp(minimum(epi, outer) - fat_mm, pixel), tissue["fat"] * (0.62 + grain)),
            (_ramp(outer, pixel), tissue["wall"] * (1 + grain)),
            (_ramp(rv_image, pixel), tissue["rv"] * (1 + grain)),
            (_ramp(epi, pixel), tissue["wall"] * (1 + grain)),
            (_ramp(endo_image, pixel), tissue["lv"] * (1 + grain)),
            (_ramp(papillary + 0.8 * knobs, pixel) * _ramp(endo, pixel), tissue["wall"] * (1 + grain)),
        ):
            layer = layer + share * (value - layer)
        total = total + layer / n_layers
    return total


def _draw_atria(rng: np.random.Generator) -> dict[str, float]:
    """How the ventricles' outlines go on above the valves: the left atrium's wall (mm), shape and place, and how fast
    the RV narrows to its outflow tract (share of its radius lost in 10 mm)."""
    return {
        "wall": rng.uniform(1.5, 5),
        "oval": rng.uniform(0, 0.25),
        "turn": rng.uniform(0, np.pi),
        "away": rng.uniform(0, 0.9),
        "where": rng.uniform(-np.pi, np.pi),
        "narrowing": rng.uniform(0, 0.5),
    }


def _with_atria(hearts: HeartSurfaces, z: torch.Tensor, atria: Mapping[str, float]) -> tuple[SliceCurves, Array]:
    """Slice curves whose ventricles go on above the valve as atria; and relative height (1, 1, Z), base 0."""
    base = float(torch.minimum(hearts.lv_base, hearts.rv_base)[0] + hearts.origin[0, 2])
    top = replace(hearts, rv_base=hearts.lv_base, rv_length=hearts.rv_length + hearts.rv_base - hearts.lv_base)
    curves = slice_curves(top, z.clamp(min=base + 0.5))
    height = (z.numpy() - base) / float(hearts.epi_length[0])
    radii, device = curves.radii.clone(), curves.radii.device
    up = (base - z).clamp(0, 25).to(device)[None, :, None]  # mm above the valve
    turns = torch.arange(radii.shape[-1], device=device) * (2 * np.pi / radii.shape[-1])
    oval = 1 + atria["oval"] * (up / 12).clamp(max=1) * torch.cos(2 * (turns - atria["turn"]))
    narrow = (1 - atria["narrowing"] * up / 10).clamp(min=0.2)
    radii[1] = torch.where(radii[1] > 0, radii[1] * oval, radii[1])
    radii[2:] = torch.where(radii[2:] > 0, radii[2:] * narrow, radii[2:])
    above = torch.as_tensor(height < 0, device=device)[None, :, None]
    radii[0] = torch.where(above, radii[1] - atria["wall"], radii[0])
    aside = torch.tensor([np.cos(atria["where"]), np.sin(atria["where"])], device=device).float()
    moved = up * (0.4 * atria["away"]) * aside
    return SliceCurves(radii, curves.lv + moved, curves.rv_pole), there(height[None, None], device)


def _more_muscles(
    muscles: list[tuple[float, float]], rng: np.random.Generator, phase: str
) -> tuple[list[tuple[float, float]], float, float]:
    """Papillary muscles with their smaller heads beside them; how loosely they lie from the wall; the LV's roughness.

    At ES they are thick, and lie on the wall or run into it: on ACDC's images the cavity that is outlined then holds
    a dark rim.
    """
    heads = [
        (angle + np.deg2rad(rng.uniform(18, 45)) * rng.choice([-1, 1]), size * rng.uniform(0.45, 0.8))
        for angle, size in muscles
        if rng.random() < 0.6
    ]
    thick, loose, rough = rng.uniform(0.8, 1.25), rng.uniform(0.75, 1.25), rng.uniform(0.6, 2.2)
    if phase == "ES":
        thick, loose, rough = thick * 1.15, loose * 0.85, rough * 1.4
    return [(angle, size * thick) for angle, size in muscles + heads], loose, rough


def _chambers(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """What lies against the ventricles at the valve plane: outflow tract, right atrium, left atrium.

    (direction about the LV in the heart's frame, radius mm, relative height down to which it reaches) of each.
    """
    kinds = ((35, 15, 9, 15, 0.7), (-55, 18, 11, 21, 0.6), (165, 35, 8, 15, 0.4))  # direction, sd, radii, share
    return [
        (np.deg2rad(at + sd * rng.standard_normal()), rng.uniform(small, large), rng.uniform(-0.1, 0.12))
        for at, sd, small, large, share in kinds
        if rng.random() < share
    ]


def _chamber_levels(
    chambers: list[tuple[float, float, float]],
    curves: SliceCurves,
    hx: torch.Tensor,
    hy: torch.Tensor,
    height: Array,
    stack: Stack,
) -> Array:
    """Level function of those chambers, (X, Y, Z): discs that touch the LV's outline; the ventricles cover them."""
    shape, xp = (stack.shape[2], *stack.shape[:2]), of(hx.device)
    out = there(np.full(stack.shape, 99.0, np.float32), hx.device)
    lv, epi = drawn(curves.lv[0]), drawn(curves.radii[1, 0]).clip(0)
    for angle, radius, lowest in chambers:
        reach = epi[:, int(angle / (2 * np.pi) * epi.shape[1]) % epi.shape[1]] + 0.75 * radius
        dx = drawn(hx[0]) - (lv[:, :1] + reach[:, None] * np.cos(angle))
        dy = drawn(hy[0]) - (lv[:, 1:] + reach[:, None] * np.sin(angle))
        level = xp.moveaxis((xp.hypot(dx, dy) - radius).reshape(shape), 0, 2)
        out = xp.minimum(out, xp.where(height < lowest, level, 99.0))
    return out


def _papillary(
    curves: SliceCurves,
    hx: torch.Tensor,
    hy: torch.Tensor,
    height: Array,
    muscles: list[tuple[float, float]],
    stack: Stack,
    phase: str,
    loose: float = 1.0,
) -> Array:
    """Level function of the papillary muscles, (X, Y, Z): on the wall, from 20 to 80 % of the height.

    Args:
        loose: their distance from the wall, against the usual one
    """
    shape, xp = (stack.shape[2], *stack.shape[:2]), of(hx.device)
    endo = drawn(curves.radii[0, 0])  # (Z, T)
    out = there(np.full(stack.shape, 99.0, np.float32), hx.device)
    lv = curves.lv[0]
    px = drawn((hx[0] - lv[:, :1]).reshape(shape).permute(1, 2, 0))
    py = drawn((hy[0] - lv[:, 1:]).reshape(shape).permute(1, 2, 0))
    strength = (1 - abs(height - 0.5) / 0.3).clip(0, 1) ** 0.5
    for angle, thick in muscles:
        radius = endo[:, int(angle / (2 * np.pi) * endo.shape[1]) % endo.shape[1]][None, None]
        size = (0.3 * radius.clip(0, None)).clip(None, thick * (1.15 if phase == "ES" else 1.0)) * strength
        away = radius - size * loose * (1.1 if phase == "ES" else 1.5)
        level = xp.hypot(px - away * np.cos(angle), py - away * np.sin(angle)) - size
        out = xp.minimum(out, xp.where(size > 0.5, level, 99.0))
    return out


def bias_field(rng: np.random.Generator, shape: Shape3, device: torch.device) -> Array:
    """Sensitivity of the surface coils: a smooth product about 1, brighter towards the chest."""
    axes = (np.linspace(-1, 1, n).reshape([-1 if i == k else 1 for i in range(3)]) for k, n in enumerate(shape))
    u, v, w = (there(axis, device) for axis in axes)
    c = rng.normal(0, 1, 6) * np.array([0.15, 0.15, 0.06, 0.06, 0.06, 0.06]) + np.array([-0.12, -0.08, 0, 0, 0, 0])
    c = c.tolist()
    return of(device).exp(c[0] * u + c[1] * v + c[2] * w + c[3] * u * v + c[4] * u * u + c[5] * v * v)
