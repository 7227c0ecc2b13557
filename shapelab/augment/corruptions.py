"""What a scanner and a patient do to a stack: thick slices, motion between breath-holds, noise, missing slices.

Every step is a function of a batch (N, X, Y, Z) on the device the batch is on, and of numbers that are drawn
beforehand (`random_motion`, `random_missing`) or from a generator that is handed over. `corrupt` strings them together
as a pure function of (volume, parameters, seed), for robustness curves and for test sets that must never change.

The acquisition model is that of the ACNN paper (section III-A): a short-axis slice sees the heart through a Gaussian
profile of 4 mm, and every K-th position is measured. Images may be float16, bfloat16 or float32; sums are done in
float32 at least, also inside an autocast context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from shapelab.augment.affine import check_generator, check_images
from shapelab.device import generator_of, sent, without_autocast
from shapelab.errors import in_range, must, spacing3, whole

# ------------------------------------------------------------------------------------------------------ thick slices


def acquisition_matrix(n_hr: int, spacing_z: float, factor: int, sigma_mm: float = 4.0) -> Tensor:
    """Weights (n_hr // factor, n_hr) float32, rows that sum to 1: slice k = sum over HR planes j of weight[k, j].

    Row k is a Gaussian of sd `sigma_mm` about the centre of planes kK to kK + K - 1, K = factor, which is plane
    kK + (K - 1) / 2: a plane for odd K, half way between two for even K. Rows are cut off at the ends of the volume
    and normalised there, so a constant volume stays constant. Planes left over at the end (n_hr not a multiple of K)
    have no slice of their own. sigma_mm 0 takes the plane at the centre, or the mean of the two beside it.

    UsageError where n_hr < factor, or a number is out of range.
    """
    return _acquisition_matrix(*_checked_acquisition(n_hr, spacing_z, factor, sigma_mm), "cpu").clone()


def acquire(images: Tensor, spacing: Sequence[float], factor: int, sigma_mm: float = 4.0) -> Tensor:
    """The LR stack that a scanner takes of HR images.

    Args:
        images: (N, X, Y, Z) float, HR
        spacing: mm per voxel of `images` along x, y, z
        factor: K, HR planes a slice
        sigma_mm: sd of the slice profile, 4 mm in the ACNN paper

    Returns:
        (N, X, Y, Z // K) of the same type on the same device; see `acquisition_matrix`. Differentiable.
    """
    check_images("images", images)
    numbers = _checked_acquisition(images.shape[3], spacing3("spacing", spacing)[2], factor, sigma_mm)
    weights = _acquisition_matrix(*numbers, str(images.device))
    fine = _fine(images)
    with without_autocast(images.device):  # bf16 products would cost 3 digits of the intensities
        return (fine @ weights.to(fine.dtype).T).to(images.dtype)


# ------------------------------------------------------------------------------------------------------------- motion


@dataclass(frozen=True)
class MotionRanges:
    """Standard deviations of a slice's rigid motion in its plane, one breath-hold a slice."""

    shift_mm: float = 2.0  # of x and of y, each
    rotation_deg: float = 2.0  # about the middle of the slice

    def __post_init__(self) -> None:
        _check_numbers(self, ("shift_mm", "rotation_deg"))


def random_motion(
    n: int, slices: int, ranges: MotionRanges | None = None, generator: Generator | None = None
) -> Tensor:
    """Motion of every slice, (n, slices, 3) float32: dx mm, dy mm, degrees; normally distributed, independent.

    Drawn on the CPU, so that a seed gives the same motion on every device. generator: on the CPU; None is torch's
    default one.
    """
    ranges = ranges or MotionRanges()
    check_generator(generator, "cpu")
    scale = torch.tensor([ranges.shift_mm, ranges.shift_mm, ranges.rotation_deg])
    return torch.randn(n, slices, 3, generator=generator) * scale


def shift_slices(stack: Tensor, motion: Tensor, spacing: Sequence[float]) -> Tensor:
    """Move every slice of a stack in its own plane.

    Args:
        stack: (N, X, Y, Z) float
        motion: (N, Z, 3): what slice k shows moves by dx mm along x and dy mm along y after a turn by `degrees` about
            the middle of the slice, from x towards y
        spacing: mm per voxel along x, y, z

    Returns:
        (N, X, Y, Z) of the same type. Linear interpolation. Edge values are repeated; the field of view of a scanner is
        larger than the crop, so what moves in is tissue, and over a few mm the edge is the best guess at it.
        Differentiable in both.
    """
    check_images("stack", stack)
    n, sx, sy, sz = stack.shape
    must(motion.shape == (n, sz, 3), "motion", f"shape {tuple(motion.shape)}", f"({n}, {sz}, 3)")
    dx, dy, _ = spacing3("spacing", spacing)
    fine = _fine(stack)
    shift_x, shift_y, degrees = sent(motion.to(fine.dtype), stack.device).reshape(-1, 3, 1, 1).unbind(1)
    cos, sin = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    # where each output voxel comes from: mm from the middle, shift undone, turned back, then from -1 to 1 as asked for
    x = (torch.arange(sx, device=stack.device, dtype=fine.dtype)[:, None] - (sx - 1) / 2) * dx - shift_x
    y = (torch.arange(sy, device=stack.device, dtype=fine.dtype) - (sy - 1) / 2) * dy - shift_y
    where = torch.stack([(cos * y - sin * x) * (2 / (dy * sy)), (cos * x + sin * y) * (2 / (dx * sx))], dim=-1)
    slices = fine.permute(0, 3, 1, 2).reshape(n * sz, 1, sx, sy)
    moved = F.grid_sample(slices, where, padding_mode="border", align_corners=False)
    return moved.view(n, sz, sx, sy).permute(0, 2, 3, 1).contiguous().to(stack.dtype)


# -------------------------------------------------------------------------------------------- noise, missing slices


def add_noise(images: Tensor, sigma: float | Tensor, generator: Generator | int | None = None) -> Tensor:
    """Images (N, X, Y, Z) with Gaussian noise of sd `sigma` (one number or (N,), in units of intensity); not clipped.

    Args:
        generator: on the device of the images, or a seed, or None for torch's default one
    """
    return _noisy(images, sigma, generator, lambda fine, noise: fine + noise())


def rician_noise(images: Tensor, sigma: float | Tensor, generator: Generator | int | None = None) -> Tensor:
    """Images (N, X, Y, Z) as the magnitude of a complex MR signal with Gaussian noise of sd `sigma` in both parts.

    Where the image is dark the mean rises (to 1.25 sigma at 0): what sets MR noise apart from `add_noise`, whose
    arguments these are.
    """
    return _noisy(images, sigma, generator, lambda fine, noise: torch.hypot(fine + noise(), noise()))


def random_missing(n: int, slices: int, count: float, generator: Generator | None = None) -> Tensor:
    """Which slices are missing, (n, slices) bool on the CPU, True where one is.

    `count` slices of each stack, drawn without repetition; 1.5 takes one or two, with equal chance. The draws for a
    larger count hold those for a smaller one, from the same generator.
    """
    in_range("count", count, 0, slices)
    draws = torch.rand(n, slices + 1, generator=generator, dtype=torch.float64)
    taken = torch.floor(count + draws[:, :1])  # floor(count), or one more with the chance of the rest
    return draws[:, 1:].argsort(dim=1).argsort(dim=1) < taken


def drop_slices(stack: Tensor, mask: Tensor) -> Tensor:
    """A stack (N, X, Y, Z) with the slices of `mask` (N, Z) bool set to 0, as where nothing was scanned."""
    check_images("stack", stack)
    must(
        mask.shape == stack.shape[::3] and mask.dtype == torch.bool,
        "mask",
        f"shape {tuple(mask.shape)} of {mask.dtype}",
        f"{tuple(stack.shape[::3])} of bool",
    )
    return stack.masked_fill(sent(mask, stack.device)[:, None, None, :], 0)


# --------------------------------------------------------------------------------------------------------- all of it


@dataclass(frozen=True)
class Corruption:
    """All that can befall an image, in the order in which it is done. Nothing is by default."""

    # fmt: off
    factor: int | None = None       # HR planes a slice; None leaves the grid as it is
    sigma_mm: float = 4.0           # sd of the slice profile; used where there is a factor
    shift_mm: float = 0.0           # sd of each slice's shift along x and y
    rotation_deg: float = 0.0       # sd of each slice's turn
    rician: float = 0.0             # sd of MR noise, in units of the intensity
    noise: float = 0.0              # sd of Gaussian noise
    missing: float = 0.0            # slices a stack; 1.5 is one or two
    # fmt: on

    def __post_init__(self) -> None:
        if self.factor is not None:
            whole("Corruption.factor", self.factor)
        _check_numbers(self, ("sigma_mm", "shift_mm", "rotation_deg", "rician", "noise", "missing"))

    def scaled(self, strength: float) -> Corruption:
        """The same at `strength` (0 none, 1 this), for a curve against growing corruption.

        Motion, noise and the number of missing slices grow with it. The slices' thickness does not: `factor` and
        `sigma_mm` say what grid the network is fed with, which stays the same along the curve.
        """
        in_range("strength", strength)
        grown = ("shift_mm", "rotation_deg", "rician", "noise", "missing")
        return replace(self, **{name: getattr(self, name) * strength for name in grown})


def sample_seeds(seed: int, n: int) -> list[int]:
    """The seeds that `corrupt` gives the samples of a batch of n: seed i depends on (seed, i) alone."""
    return [_mixed(seed, i) for i in range(n)]


def corrupt(volume: Tensor, spacing: Sequence[float], parameters: Corruption, seed: int | Sequence[int]) -> Tensor:
    """Corrupt a batch: a pure function of its arguments, whatever was drawn before and whatever else is in the batch.

    Args:
        volume: (N, X, Y, Z) float on any device; HR where `parameters.factor` is given
        spacing: mm per voxel of `volume`
        parameters: what befalls it
        seed: one number, from which sample i takes the i-th of `sample_seeds(seed, N)`; or N numbers, a seed a sample,
            for a part of a larger set: `corrupt(v, s, p, seed)[3:5]` is `corrupt(v[3:5], s, p, sample_seeds(seed,
            5)[3:])`

    Returns:
        (N, X, Y, Z // factor) of the same type on the same device

        Motion, missing slices and noise each draw from a stream of their own, a function of the sample's seed. So two
        strengths of one corruption (`Corruption.scaled`) differ by size alone: slices move the same way, only farther,
        and what is missing at a low strength is missing at a high one. Noise is drawn on the volume's device: a CPU and
        a GPU give different noise, of the same distribution; all else is the same on both.
    """
    check_images("volume", volume)
    n = len(volume)
    seeds = sample_seeds(seed, n) if isinstance(seed, (int, np.integer)) else [int(s) for s in seed]
    must(len(seeds) == n, "seed", f"{len(seeds)} numbers", f"one, or one a sample ({n})")
    p = parameters
    if p.factor is not None:
        volume = acquire(volume, spacing, p.factor, p.sigma_mm)
    slices = volume.shape[3]
    if p.shift_mm or p.rotation_deg:
        ranges = MotionRanges(p.shift_mm, p.rotation_deg)
        volume = shift_slices(volume, _each(seeds, 0, lambda g: random_motion(1, slices, ranges, g)), spacing)
    for stream, sigma, noise in ((1, p.rician, rician_noise), (2, p.noise, add_noise)):
        if sigma:
            volume = torch.cat([noise(one[None], sigma, _mixed(s, stream)) for one, s in zip(volume, seeds)])
    if p.missing:
        count = min(p.missing, slices)
        volume = drop_slices(volume, _each(seeds, 3, lambda g: random_missing(1, slices, count, g)))
    return volume


# ------------------------------------------------------------------------------------------- arrays of normalised scans


def noisy(images: np.ndarray, sd: float, seed: int) -> np.ndarray:
    """Images (N, X, Y, Z) of mean 0 and sd 1 with Gaussian noise of sd `sd`, of the same type; see `corrupt`.

    Image i is a function of (seed, i): at a larger sd the same noise is larger.
    """
    return corrupt(torch.from_numpy(images), (1.0, 1.0, 1.0), Corruption(noise=sd), seed).numpy()


def missing_slices(images: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Images (N, X, Y, Z) of which a share (0 to 1) of the slices along Z shows nothing: the image's darkest value.

    Image i is a function of (seed, i): what is missing at a low share is missing at a high one.
    """
    count, slices = in_range("share", share, 0, 1) * images.shape[3], images.shape[3]
    mask = _each(sample_seeds(seed, len(images)), 3, lambda g: random_missing(1, slices, count, g)).numpy()
    return np.where(mask[:, None, None], images.min((1, 2, 3), keepdims=True), images)


# ----------------------------------------------------------------------------------------------------------- the core


def _mixed(*numbers: int) -> int:
    """One 63-bit seed from several numbers; neighbours give unrelated seeds (NumPy's SeedSequence)."""
    state = np.random.SeedSequence([int(v) % 2**64 for v in numbers]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def _each(seeds: Sequence[int], stream: int, draw: Callable[[Generator], Tensor]) -> Tensor:
    """What `draw` gives for each sample from its own generator on the CPU, one after the other along axis 0."""
    return torch.cat([draw(generator_of(_mixed(s, stream))) for s in seeds])


def _check_numbers(parameters: object, names: Sequence[str]) -> None:
    """UsageError for one of these attributes that is not a number from 0."""
    for name in names:
        in_range(f"{type(parameters).__name__}.{name}", getattr(parameters, name))


def _checked_acquisition(n_hr: int, spacing_z: float, factor: int, sigma_mm: float) -> tuple[int, float, int, float]:
    """The arguments of an acquisition; UsageError for one out of range."""
    spacing_z, factor = in_range("spacing_z", spacing_z, above=True), whole("factor", factor, 1, n_hr)
    return int(n_hr), spacing_z, factor, in_range("sigma_mm", sigma_mm)


@lru_cache(maxsize=32)
def _acquisition_matrix(n_hr: int, spacing_z: float, factor: int, sigma_mm: float, device: str) -> Tensor:
    """`acquisition_matrix` on a device, kept: not to be written into."""
    centres = np.arange(n_hr // factor)[:, None] * factor + (factor - 1) / 2
    squared = (np.arange(n_hr) - centres) ** 2
    squared -= squared.min(axis=1, keepdims=True)  # a narrow Gaussian between two planes must not vanish
    weights = np.exp(-squared / (2 * max(sigma_mm / spacing_z, 1e-3) ** 2))  # 1e-3: all but the nearest are 0
    weights /= weights.sum(axis=1, keepdims=True)
    with torch.inference_mode(False):  # kept for later calls, which may be differentiated
        return torch.from_numpy(weights.astype(np.float32)).to(device)


def _fine(images: Tensor) -> Tensor:
    """In float32 at least."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def _per_image(images: Tensor, sigma: float | Tensor) -> Tensor | None:
    """sigma so that it multiplies a batch; None where there is none of it."""
    values = torch.as_tensor(sigma, dtype=torch.float32)
    must(
        values.shape in ((), (len(images),)) and bool((torch.isfinite(values) & (values >= 0)).all()),
        "sigma",
        sigma,
        f"one finite number from 0, or one an image ({len(images)})",
    )
    if not isinstance(sigma, Tensor) and sigma == 0:
        return None
    return sent(values, images.device).view(-1, 1, 1, 1)


def _noisy(images: Tensor, sigma: float | Tensor, generator: Generator | int | None, put: Callable) -> Tensor:
    """What `put(images, noise)` makes of images in fp32 at least, `noise()` being drawn anew at each call."""
    check_images("images", images)
    spread = _per_image(images, sigma)
    if spread is None:
        return images
    fine = _fine(images)
    if isinstance(generator, int):
        generator = generator_of(generator, images.device)
    check_generator(generator, images.device.type)

    def noise() -> Tensor:
        return spread * torch.randn(fine.shape, generator=generator, device=fine.device, dtype=fine.dtype)

    return put(fine, noise).to(images.dtype)
