"""Random contrast, artefacts and surroundings for phantom images, so that a network learned from them reads real scans.

A phantom shows each tissue in one way; scanners, coils and bodies differ far more. A network that has seen only the
one way takes the phantom's look for the heart. So every training image is drawn anew: what must stay are the shapes
and their labels, what may change is all the rest (domain randomisation: Tobin et al., IROS 2017; for MR label maps
Billot et al., SynthSeg, Medical Image Analysis 86:102789, 2023).

Every function is pure: of a batch, parameters and a `torch.Generator` (or a seed, for `randomise`), on the device the
batch is on. Images are (N, C, X, Y) in [0, 1], C neighbouring slices of one stack; tissues (N, C, X, Y) uint8, the
integers of BIVENTRICULAR: 1 RV cavity, 2 LV myocardium, 3 LV cavity, 4 RV wall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shapelab.device import generator_of
from shapelab.errors import in_range, must

RV, WALL, LV, RV_WALL = 1, 2, 3, 4


@dataclass(frozen=True)
class Randomisation:
    """Strengths. Shares are probabilities per image; ranges are drawn uniformly unless said otherwise."""

    # fmt: off
    rotation_deg: float = 35.0           # +-, about the phantom's own spread of positions
    log_scale: float = 0.16              # +-, of both axes together
    log_stretch: float = 0.07            # +-, of one axis against the other
    shift_mm: float = 20.0               # +-, what a first guess of the heart's place may be off
    surroundings: float = 0.6            # share whose surroundings are replaced; as many get discs beside the heart
    contrast: float = 0.8                # share whose blood-to-wall contrast is drawn anew
    trabeculae: float = 0.7              # share with more dark tissue on the cavities' walls
    curve: float = 0.8                   # share with a random intensity curve
    bias: float = 0.35                   # sd of the logarithm of the coils' sensitivity
    blur_px: float = 1.0                 # largest sigma
    noise: float = 0.06                  # largest sd
    ghosts: float = 0.15                 # share with a ghost along one axis
    missing: float = 0.1                 # share of neighbouring slices taken away
    upside_down: float = 0.5             # share with the neighbours exchanged: some scanners begin at the apex
    # fmt: on

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            in_range(f"Randomisation.{name}", value, 0, 999)


def randomise(
    images: Tensor,
    tissues: Tensor,
    spacing: float,
    size: int,
    strength: Randomisation,
    seed: int,
    stacks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Random place, surroundings, contrast and artefacts: a function of its arguments alone.

    Args:
        images: (N, C, X, Y) float32 in [0, 1], C odd, the middle slice between its neighbours
        tissues: (N, C, X, Y) uint8, integers of BIVENTRICULAR
        spacing: in-plane, mm
        size: pixels along x and y of the result, cut about the middle
        stacks: (N,) numbers; images of one number are moved alike. None moves each in its own way

    Returns:
        images (N, C, size, size) float32 in [0, 1], tissues of the middle slice (N, size, size) uint8
    """
    must(
        images.shape[1] % 2,
        "randomise",
        f"{images.shape[1]} slices",
        "an odd number, the middle one between its neighbours",
    )
    images, tissues = randomised_stacks(images, tissues, spacing, size, strength, seed, stacks)
    return images, tissues[:, tissues.shape[1] // 2].contiguous()


def randomised_stacks(
    images: Tensor,
    tissues: Tensor,
    spacing: float,
    size: int,
    strength: Randomisation,
    seed: int,
    stacks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`randomise` of whole stacks, C their slices, of any number: images and tissues (N, C, size, size)."""
    must(
        images.ndim == 4 and images.shape == tissues.shape,
        "randomise",
        f"images {tuple(images.shape)} and tissues {tuple(tissues.shape)}",
        "two of one shape (N, C, X, Y)",
    )
    g = generator_of(seed, images.device)
    images, tissues = move(images, tissues, spacing, size, strength, g, stacks)
    turned = _chosen(g, len(images), strength.upside_down)
    images, tissues = torch.where(turned, images.flip(1), images), torch.where(turned, tissues.flip(1), tissues)
    images = more_trabeculae(images, tissues, strength.trabeculae, g)
    images = new_contrast(images, tissues, strength.contrast, g)
    images = new_surroundings(images, tissues, strength.surroundings, g)
    images = bias_field(images, strength.bias, g)
    images = ghost(images, strength.ghosts, g)
    images = blur_and_noise(images, strength.blur_px, strength.noise, g)
    images = to_unit(images, g)
    images = intensity_curve(images, strength.curve, g)
    images = without_neighbours(images, strength.missing, g)
    return images, tissues


# ------------------------------------------------------------------------------------------------------- random numbers


def _uniform(g: torch.Generator, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
    """Numbers drawn evenly from `low` to `high`, on the device of the generator."""
    return torch.rand(shape, generator=g, device=g.device) * (high - low) + low


def _chosen(g: torch.Generator, n: int, share: float) -> Tensor:
    """(N, 1, 1, 1) bool: which images something is done to."""
    return torch.rand((n, 1, 1, 1), generator=g, device=g.device) < share


def _decided(g: torch.Generator, place: int, draw: Callable[[torch.Generator], Tensor]) -> int:
    """One number for the whole batch, as `draw` gives it. On a GPU it is drawn by the CPU, of the generator's seed and
    the `place` that asks, for the GPU would have to be waited for."""
    return int(draw(g if g.device.type == "cpu" else generator_of((g.initial_seed() + place) % 2**63)))


def smooth_field(n: int, channels: int, shape: Sequence[int], cells: int, g: torch.Generator) -> Tensor:
    """Smooth random fields of sd about 1, (N, channels, X, Y), `cells` wide waves along an axis."""
    coarse = torch.randn((n, channels, cells + 3, cells + 3), generator=g, device=g.device)
    if cells < 12:  # bilinear in two steps: as smooth as bicubic to the eye, three times faster
        coarse = F.avg_pool2d(F.interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False), 3, 1)
    return F.interpolate(coarse, size=tuple(shape), mode="bilinear", align_corners=False) * 1.4


# ------------------------------------------------------------------------------------------------------------ geometry


def move(
    images: Tensor,
    tissues: Tensor,
    spacing: float,
    size: int,
    strength: Randomisation,
    g: torch.Generator,
    stacks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Random rotation, scale, stretch and shift of images (linear) and tissues (nearest), cut to `size` pixels; the
    same for images of one number in `stacks`."""
    n, device = len(images), images.device
    drawn = _uniform(g, (n, 5), -1, 1)
    if stacks is not None:
        drawn = drawn[torch.unique(stacks, return_inverse=True)[1].to(device)]
    angle = torch.deg2rad(drawn[:, 0] * strength.rotation_deg)
    scale, stretch = torch.exp(drawn[:, 1] * strength.log_scale), torch.exp(drawn[:, 2] * strength.log_stretch)
    shift = drawn[:, 3:] * strength.shift_mm / spacing
    c, s = torch.cos(angle), torch.sin(angle)
    # output pixel -> input pixel, both from the middle
    matrix = torch.stack(
        [torch.stack([c / scale * stretch, -s / scale], -1), torch.stack([s / scale, c / scale / stretch], -1)], 1
    )
    axis = torch.arange(size, device=device) - (size - 1) / 2
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(1, -1, 2)  # (1, P, 2) x, y
    half = torch.tensor([images.shape[-2] / 2, images.shape[-1] / 2], device=device)
    where = (
        ((pixels @ matrix.mT + shift[:, None]) / half).flip(-1).view(n, size, size, 2)
    )  # grid_sample counts axes from the last
    moved = F.grid_sample(images, where, mode="bilinear", padding_mode="zeros", align_corners=False)
    named = F.grid_sample(tissues.float(), where, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved, named.to(torch.uint8)


# --------------------------------------------------------------------------------------------------------------- heart


def _near(mask: Tensor, pixels: int) -> Tensor:
    """Share of the neighbourhood of `pixels` (odd) that lies in the mask, (N, C, X, Y)."""
    half = pixels // 2  # along one axis, then the other: 30 additions instead of 225
    rows = F.avg_pool2d(mask.float(), (pixels, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, pixels), 1, (0, half), count_include_pad=False)


def _mean_in(images: Tensor, mask: Tensor, otherwise: float) -> Tensor:
    """Mean intensity inside a mask, (N, 1, 1, 1)."""
    size = mask.sum((1, 2, 3), keepdim=True)
    return torch.where(size > 20, (images * mask).sum((1, 2, 3), keepdim=True) / size.clamp(min=1), otherwise)


def more_trabeculae(images: Tensor, tissues: Tensor, share: float, g: torch.Generator) -> Tensor:
    """Dark tissue inside the walls: papillary muscles and trabeculae, cavity in the label (as in ACDC)."""
    n, c, *shape = images.shape
    dark = _mean_in(images, tissues == WALL, 0.25)
    near = _near((tissues == WALL) | (tissues == RV_WALL), 9)
    fine = smooth_field(n, c, shape, 26, g)
    chosen = _chosen(g, n, share)
    amount = _uniform(g, (n, 1, 1, 1), 0.5, 4.5)
    # an RV at ES can be so full of them that little blood is seen
    amount = torch.where(tissues == RV, _uniform(g, (n, 1, 1, 1), 0.5, 7.5), amount) * chosen
    # twice the closeness is about 1 at the wall; the field decides where the trabeculae are
    cover = torch.sigmoid(4 * (fine + amount * near * 2 - 3.0)) * (near > 0.02)
    cavity = (tissues == LV) | (tissues == RV)
    return torch.lerp(
        images, dark.expand_as(images), cover * cavity * _uniform(g, (n, 1, 1, 1), 0.5, 1.0) * (amount > 0)
    )


def new_contrast(images: Tensor, tissues: Tensor, share: float, g: torch.Generator) -> Tensor:
    """Blood against wall, RV against LV, and flow: another contrast inside the heart, its edges and grain kept."""
    n, c, *shape = images.shape
    dark = _mean_in(images, tissues == WALL, 0.25)
    blood = _mean_in(images, tissues == LV, 0.75)
    ratio = _uniform(g, (n, 1, 1, 1), 0.16, 0.68)  # wall : blood
    level = _uniform(g, (n, 1, 1, 1), 0.45, 1.0)  # blood
    gain = level * (1 - ratio) / (blood - dark).clamp(min=0.1)
    rv = 1 + _uniform(g, (n, 1, 1, 1), -0.4, 0.2) * _near(tissues == RV, 3)
    flow = 1 + _uniform(g, (n, 1, 1, 1), 0, 0.13) * smooth_field(n, c, shape, 7, g) * _near(tissues % 2 == 1, 3)
    patchy = 1 + _uniform(g, (n, 1, 1, 1), 0, 0.12) * smooth_field(n, c, shape, 9, g) * _near(tissues == WALL, 3)
    changed = ((images - dark) * gain + level * ratio) * rv * flow * patchy
    return torch.lerp(images, changed.clamp(0, 1.3), _near(tissues > 0, 3) * _chosen(g, n, share))


# -------------------------------------------------------------------------------------------------------- surroundings


def new_surroundings(images: Tensor, tissues: Tensor, share: float, g: torch.Generator) -> Tensor:
    """Other surroundings: organs of random outline and brightness, vessels, another phantom's; soft towards the heart.

    Of the images chosen a third keep a ring of their own surroundings about the heart.
    """
    n = len(images)
    heart = (tissues > 0).float()
    width = _decided(g, 1, lambda g: torch.randint(1, 4, (1,), generator=g)) * 2 + 1
    own = torch.where(_chosen(g, n, 0.35), (_near(heart, 15) > 0.02).float(), heart)
    keep = torch.maximum(_near(F.max_pool2d(own, 3, 1, 1), width), heart)
    made = organs(n, images.shape[1], images.shape[2:], g)
    other = _others(images, heart, made, g)
    made = torch.where(_chosen(g, n, 0.35), other, made)
    out = torch.where(_chosen(g, n, share), keep * images + (1 - keep) * made, images)
    # discs and tubes of blood or fat beside the heart: aorta, valve plane, stomach, veins
    discs, value = _discs(n, images.shape[2:], g)
    outside = 1 - _near(F.max_pool2d(heart, 3, 1, 1), 3)
    return torch.lerp(out, value.expand_as(out), discs * outside * _chosen(g, n, share))


def organs(n: int, channels: int, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    """Random surroundings (N, C, X, Y): organs with sharp outlines and vessels, each with its brightness, the same in
    neighbouring slices, and grain."""
    out = _uniform(g, (n, 1, 1, 1), 0.0, 0.5).expand(n, 1, *shape)
    for cells in (3, 4, 6, 9, 22):
        field = smooth_field(n, 1, shape, cells, g)
        threshold = _uniform(g, (n, 1, 1, 1), -0.5, 1.6) + (0.9 if cells > 9 else 0.0)
        sharp = torch.exp(_uniform(g, (n, 1, 1, 1), 0.5, 2.5))
        value = _uniform(g, (n, 1, 1, 1)) ** 1.5 * (1.1 if cells < 9 else 1.4)
        out = torch.lerp(out, value.expand_as(out), torch.sigmoid(sharp * 4 * (field - threshold)))
    grain = smooth_field(n, channels, shape, 40, g) * _uniform(g, (n, 1, 1, 1), 0, 0.2)
    return (out * (1 + grain)).clamp(0, 1.4)


def _others(images: Tensor, heart: Tensor, fill: Tensor, g: torch.Generator) -> Tensor:
    """Surroundings of another image of the batch, mirrored or turned, its heart painted over with `fill`."""
    n = len(images)
    step = _decided(g, 2, lambda g: torch.randint(1, max(n, 2), (1,), generator=g))
    alone = torch.lerp(images, fill, F.max_pool2d(heart, 5, 1, 2)).roll(step, 0)
    alone = torch.rot90(alone, _decided(g, 3, lambda g: torch.randint(0, 4, (1,), generator=g)), (2, 3))
    return alone.flip(2) if _decided(g, 4, lambda g: torch.rand((1,), generator=g) < 0.5) else alone


def _discs(n: int, shape: tuple[int, ...], g: torch.Generator, number: int = 3) -> tuple[Tensor, Tensor]:
    """Ellipses with soft edges: cover (N, 1, X, Y) and one brightness an image (N, 1, 1, 1)."""
    x = torch.linspace(-1, 1, shape[0], device=g.device)[None, :, None]
    y = torch.linspace(-1, 1, shape[1], device=g.device)[None, None, :]
    cover = torch.zeros((n, *shape), device=g.device)
    for _ in range(number):
        cx, cy = _uniform(g, (n, 1, 1), -0.9, 0.9), _uniform(g, (n, 1, 1), -0.9, 0.9)
        a, b = torch.exp(_uniform(g, (n, 1, 1), -3.2, -1.2)), torch.exp(_uniform(g, (n, 1, 1), -3.2, -1.2))
        level = torch.sqrt(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 + 1e-6) - 1
        cover = torch.maximum(cover, torch.sigmoid(-level * torch.minimum(a, b) * 60))
    return cover[:, None], _uniform(g, (n, 1, 1, 1), 0.1, 1.1)


# ------------------------------------------------------------------------------------------------------------- scanner


def bias_field(images: Tensor, sd: float, g: torch.Generator) -> Tensor:
    """Sensitivity of the coils: exp of a smooth field, one for all slices of a stack."""
    field = smooth_field(len(images), 1, images.shape[2:], 1, g)
    return images * torch.exp(field * (sd * _uniform(g, (len(images), 1, 1, 1))))


def ghost(images: Tensor, share: float, g: torch.Generator) -> Tensor:
    """A faint copy of the image, displaced along one axis, as from breathing during the read-out."""
    n, axis = len(images), 2 + _decided(g, 5, lambda g: torch.rand((1,), generator=g) < 0.5)
    size = images.shape[axis]
    step = _decided(g, 6, lambda g: torch.randint(size // 8, size // 2, (1,), generator=g))
    weight = _uniform(g, (n, 1, 1, 1), 0.03, 0.15) * _chosen(g, n, share)
    return images + weight * images.roll(step, axis)


def blur_and_noise(images: Tensor, blur_px: float, noise: float, g: torch.Generator) -> Tensor:
    """Blur or sharpen, then Rician-like noise (white, and white noise interpolated by the scanner)."""
    n, c, *shape = images.shape
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)  # sigma .82 pixels
    # lerp beyond 0 sharpens; the variance of the blur is about proportional to the weight
    weight = _uniform(g, (n, 1, 1, 1), -0.5, 1.0) * min(blur_px, 1.0)
    images = torch.lerp(images, soft, weight)
    white = torch.randn(images.shape, generator=g, device=g.device)
    coarse = F.interpolate(white[:, :, ::2, ::2].contiguous(), size=shape, mode="bilinear", align_corners=False) * 1.5
    white = torch.where(_chosen(g, n, 0.5), white, coarse)
    return (images + white * (noise * _uniform(g, (n, 1, 1, 1)) ** 2)).abs()


def to_unit(images: Tensor, g: torch.Generator | None = None) -> Tensor:
    """Scale each stack to [0, 1] by percentiles: 1 and 99, or drawn about them where a generator is given."""
    n = len(images)
    some = images[:, :, ::3, ::3].reshape(n, -1).sort(1).values
    at = torch.tensor([[0.01, 0.99]], device=images.device).repeat(n, 1)
    if g is not None:
        at = torch.cat([_uniform(g, (n, 1), 0.0, 0.03), _uniform(g, (n, 1), 0.95, 1.0)], 1)
    index = (at * (some.shape[1] - 1)).round().long()
    low, high = (v[:, :, None, None] for v in some.gather(1, index).split(1, 1))
    return ((images - low) / (high - low).clamp(min=1e-3)).clamp(0, 1)


def intensity_curve(images: Tensor, share: float, g: torch.Generator) -> Tensor:
    """A random curve from [0, 1] to [0, 1]: rising, at times with a flat or slightly falling stretch."""
    n, knots = len(images), 6
    curve = torch.cat([torch.zeros((n, 1), device=g.device), _uniform(g, (n, knots), -0.04, 1.0).cumsum(1)], 1)
    low = curve.amin(1, keepdim=True)
    curve = (curve - low) / (curve.amax(1, keepdim=True) - low).clamp(min=1e-3)
    place = images.clamp(0, 1) * knots
    index = place.long().clamp(max=knots - 1)
    flat = index.view(n, -1)
    start, end = curve.gather(1, flat).view_as(place), curve.gather(1, flat + 1).view_as(place)
    return torch.where(_chosen(g, n, share), start + (end - start) * (place - index), images)


def without_neighbours(images: Tensor, share: float, g: torch.Generator) -> Tensor:
    """Take neighbouring slices away (zeros), as at the ends of a stack; the middle one stays."""
    n, c = images.shape[:2]
    keep = torch.rand((n, c, 1, 1), generator=g, device=g.device) >= share
    keep[:, c // 2] = True
    return images * keep
