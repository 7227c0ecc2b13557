"""How long the atlas refinement takes beside what one would write otherwise, and beside SimpleITK.

    python benchmarks/bench_atlas.py [--shape 192 192 80] [--rounds 3] [--skip-slow] [--only-memory] [-o ...]

Registration: heart-like label maps of five labels at 1.25 x 1.25 x 2 mm, one bent against the other, the same three
levels (40, 20, 10 mm). Beside ours: the same cost by torch, `grid_sample` of the one-hot maps and automatic
differentiation, run until it has our Dice; and SimpleITK's B-spline registration (mean squares of the label maps,
L-BFGS, as its examples have it). Fusion: five atlases, patch 7x7x1, window 7x7x3, h = 10;
beside it the plain loop, timed on sampled voxels and scaled up. Refinement: one phantom stack of 10 mm slices by five
phantom atlases of ten. Memory: `refine_cohort` over 2, 6 and 12 phantom stacks by two of four atlases at
2.5 x 2.5 x 4 mm, each in a process of its own; its greatest resident memory, and what the cohort added to it.

The ways take turns in one process. Wall time is what the targets are about; ratios are of the processor's time, so that
they hold also on a busy machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from reporting import report

import shapelab  # noqa: F401  (first: it sets OpenMP's variables before torch is loaded)

import torch  # isort: skip

from scipy import ndimage
from torch.nn import functional as F

from shapelab.atlas import (
    FreeFormDeformation,
    RefinementSettings,
    fuse_labels,
    phantom_atlases,
    refine,
    refine_cohort,
    simulate_low_resolution,
)
from shapelab.atlas.bspline import Lattice, apply_terms, jacobian
from shapelab.atlas.frame import Frame
from shapelab.atlas.fusion import BANDWIDTH, PATCH, WINDOW, undecided
from shapelab.phantoms import heart_cohort

SPACING, LABELS = (1.25, 1.25, 2.0), 5
COHORTS, COARSE = (2, 6, 12), (2.5, 2.5, 4.0)


def heart_like(shape, bend: float, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Five structures with as much surface as a heart's, centred in the array: (X, Y, Z) uint8."""
    x, y, z = np.meshgrid(*[s * (np.arange(n) - n / 2) for n, s in zip(shape, SPACING)], indexing="ij", sparse=True)
    scale = min(n * s for n, s in zip(shape, SPACING)) / 160  # smaller arrays hold a smaller heart
    x, y, z = x / scale, y / scale, z / scale
    wave = bend * (np.sin(x / 9) * np.cos(y / 11) + np.sin(z / 13 + y / 17))
    x, y, z = x - shift[0] + wave, y - shift[1] + 0.7 * wave, z - shift[2] + 0.5 * wave
    left, right, atrium = (
        np.sqrt((x + dx) ** 2 + y**2 + (0.62 * (z + dz)) ** 2) for dx, dz in ((-18, 0), (28, 0), (-18, -62))
    )
    label = np.zeros(shape, np.uint8)
    for structure, inside in ((5, atrium < 24), (4, right < 34), (1, right < 31), (2, left < 32), (3, left < 23)):
        label[inside] = structure
    return label


def ratio(this: dict[str, float], ours: dict[str, float]) -> dict[str, float]:
    return {"this / ours": this["cpu s"] / ours["cpu s"]}


def mean_dice(a: np.ndarray, b: np.ndarray, n: int = LABELS) -> float:
    both = [((a == v) & (b == v)).sum() * 2 / max(1, (a == v).sum() + (b == v).sum()) for v in range(1, n + 1)]
    return float(np.mean(both))


def timed(function, rounds: int) -> tuple[dict[str, float], object]:
    """Median wall and processor time (all threads) in seconds, and the last result."""
    wall, cpu, result = [], [], None
    for _ in range(rounds):
        started, used = time.perf_counter(), time.process_time()
        result = function()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return {"seconds": statistics.median(wall), "cpu s": statistics.median(cpu)}, result


# ------------------------------------------------------------------------------------------------ registration


def torch_ffd(target: np.ndarray, atlas: np.ndarray, wanted: float, most: int = 90) -> tuple[np.ndarray, float]:
    """As one would write it in torch: the same spline, levels, blur, energy, Adam; the cost by `grid_sample` of all
    one-hot channels over the whole array, gradients by autograd. The last level ends when `wanted` Dice is reached."""
    settings, frame = FreeFormDeformation(), Frame(target.shape, SPACING)
    high = [p[-1] for p in frame.positions()]
    lattice = Lattice.over((0, 0, 0), high, settings.control_mm, settings.levels - 1)
    onehot = F.one_hot(torch.from_numpy(target).long(), LABELS + 1).permute(3, 0, 1, 2).float()
    c, sizes = torch.from_numpy(lattice.zeros()).float(), torch.tensor(target.shape, dtype=torch.float32)
    still = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in target.shape], indexing="ij"), -1)
    spacing = torch.tensor(SPACING)
    for level in range(settings.levels):
        sigma = [settings.blur_mm[level] / s for s in SPACING]
        maps = [ndimage.gaussian_filter((atlas == v).astype(np.float32), sigma) for v in range(LABELS + 1)]
        moving = torch.from_numpy(np.stack(maps))[None]
        bases = [torch.from_numpy(b).float() for b in lattice.bases(frame.positions())]
        terms = [
            (w, [torch.from_numpy(m).float() for m in ms])
            for w, ms in lattice.energy_terms(settings.bending[level], settings.stretch)
        ]
        c = c.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([c], lr=settings.step_mm[level], betas=(0.9, 0.98))
        for k in range(most):
            for group in optimiser.param_groups:
                group["lr"] = settings.step_mm[level] * max(0.05, 1 - k / settings.iterations)
            u = c
            for axis, basis in enumerate(bases):
                u = torch.tensordot(basis, u, dims=([1], [axis + 1])).movedim(0, axis + 1)
            index = still + u.permute(1, 2, 3, 0) / spacing
            where = ((2 * index + 1) / sizes - 1).flip(-1)[None]
            warped = F.grid_sample(moving, where, padding_mode="border", align_corners=False)[0]
            loss = -(warped * onehot).sum(0).mean() + apply_terms(c, terms)[0]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if level < settings.levels - 1 and k + 1 == settings.iterations:
                break
            if level == settings.levels - 1 and k % 5 == 4:
                label = warped.detach().argmax(0).numpy()
                if mean_dice(label, target) >= wanted:
                    break
        if level < settings.levels - 1:
            lattice, finer = lattice.refined(c.detach().numpy())
            c = torch.from_numpy(finer).float()
    least, _ = jacobian(lattice, c.detach().numpy(), frame.positions())
    return warped.detach().argmax(0).numpy(), least


def sitk_ffd(target: np.ndarray, atlas: np.ndarray, threads: int) -> np.ndarray:
    """SimpleITK's own B-spline registration: control points 40, 20, 10 mm apart, a pyramid of three images, mean
    squares of the label maps, L-BFGS, as its examples have it. Its derivatives are dense (a voxel's takes time for
    *every* control point), so that the finer levels look at a part of the voxels only: with all of them it was not done
    in eight minutes; five times as many, or a closer tolerance, took four times as long for no better Dice."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)

    def image(array, kind):
        out = sitk.GetImageFromArray(array.transpose(2, 1, 0).astype(kind))
        out.SetSpacing(SPACING)
        return out

    fixed, moving = image(target, np.float32), image(atlas, np.float32)
    mesh = [max(1, int(np.ceil(n * s / 40))) for n, s in zip(target.shape, SPACING)]
    transform = sitk.BSplineTransformInitializer(fixed, mesh, order=3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetOptimizerAsLBFGS2(solutionAccuracy=1e-5, numberOfIterations=30, deltaConvergenceTolerance=1e-4)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 0])
    method.SetInitialTransformAsBSpline(transform, inPlace=True, scaleFactors=[1, 2, 4])
    method.SetMetricSamplingStrategy(sitk.ImageRegistrationMethod.REGULAR)
    method.SetMetricSamplingPercentagePerLevel([1.0, 0.1, 0.01])
    found = method.Execute(fixed, moving)
    warped = sitk.Resample(image(atlas, np.uint8), fixed, found, sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    return sitk.GetArrayFromImage(warped).transpose(2, 1, 0)


def registration(shape, rounds: int, slow: bool) -> list[dict]:
    target, atlas = heart_like(shape, 2.0, (6.0, -4.0, 3.0)), heart_like(shape, 0.0)
    ffd = FreeFormDeformation()
    ffd.fit(target, atlas, SPACING, SPACING)  # compile
    ours, found = timed(lambda: ffd.fit(target, atlas, SPACING, SPACING), rounds)
    score = mean_dice(found.warp_label(atlas), target)
    print(f"ours: {ours}, Dice {score:.3f}", flush=True)
    rows = [
        {"what": "before registration", "way": "", "dice": mean_dice(atlas, target)},
        {
            "what": "registration",
            "way": "FreeFormDeformation (ours)",
            **ours,
            "target s": 1.5,
            "dice": score,
            "min jacobian": found.min_jacobian,
        },
    ]
    if slow:
        seconds, (label, least) = timed(lambda: torch_ffd(target, atlas, score - 0.002), 1)
        print(f"torch: {seconds}, Dice {mean_dice(label, target):.3f}", flush=True)
        rows.append(
            {
                "what": "registration",
                "way": "torch grid_sample, autograd",
                **seconds,
                "dice": mean_dice(label, target),
                "min jacobian": least,
                **ratio(seconds, ours),
            }
        )
        seconds, label = timed(lambda: sitk_ffd(target, atlas, torch.get_num_threads()), 1)
        print(f"SimpleITK: {seconds}, Dice {mean_dice(label, target):.3f}", flush=True)
        rows.append(
            {
                "what": "registration",
                "way": "SimpleITK B-spline",
                **seconds,
                "dice": mean_dice(label, target),
                **ratio(seconds, ours),
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------ fusion


def plain_vote(labels, images, image, x) -> int:
    """Eq. 5 at one voxel away from the border, as it is written."""
    half, reach = [p // 2 for p in PATCH], [w // 2 for w in WINDOW]

    def patch(f, y):
        return f[tuple(slice(c - p, c + p + 1) for c, p in zip(y, half))]

    votes = np.zeros(LABELS + 1)
    for f, label in zip(images, labels):
        for offset in np.ndindex(*WINDOW):
            y = tuple(c + o - r for c, o, r in zip(x, offset, reach))
            votes[label[y]] += np.exp(-((patch(image, x) - patch(f, y)) ** 2).sum() / BANDWIDTH)
    return int(votes.argmax())


def fusion(shape, rounds: int, threads: int) -> list[dict]:
    rng = np.random.default_rng(0)
    grey = np.array([0.2, 0.9, 0.4, 0.85, 0.5, 0.7], np.float32)
    maps = [heart_like(shape, 1.0 + 0.4 * i, rng.normal(0, 1, 3)) for i in range(6)]
    pictures = [(grey[m] + rng.normal(0, 0.05, shape)).astype(np.float32) for m in maps]
    labels, images, image = np.stack(maps[1:]), np.stack(pictures[1:]), pictures[0]
    fuse_labels(labels[:, :20, :20, :10], images[:, :20, :20, :10], image[:20, :20, :10])  # compile
    ours, found = timed(lambda: fuse_labels(labels, images, image, threads=threads), rounds)
    one, _ = timed(lambda: fuse_labels(labels, images, image), 1)
    asked = np.argwhere(undecided(labels))
    inside = asked[((asked > 8) & (asked < np.array(shape) - 9)).all(1)]
    sample = inside[rng.choice(len(inside), 200, replace=False)]
    plain, same = timed(lambda: [plain_vote(labels, images, image, tuple(x)) == found[tuple(x)] for x in sample], 1)
    plain = {name: s / len(sample) * len(asked) for name, s in plain.items()}
    return [
        {
            "what": "fusion",
            "way": f"fuse_labels (ours), {threads} threads",
            **ours,
            "target s": 2.5,
            "same as plain": float(np.mean(same)),
            "undecided voxels": len(asked),
        },
        {"what": "fusion", "way": "fuse_labels (ours), 1 thread", **one, **ratio(one, ours)},
        {"what": "fusion", "way": "plain loops, scaled up from 200 voxels", **plain, **ratio(plain, ours)},
    ]


# ------------------------------------------------------------------------------------------------ the whole


def refinement(resolution, rounds: int, threads: int) -> list[dict]:
    atlases = phantom_atlases(10, seed=1, resolution=resolution)
    target = phantom_atlases(1, seed=2, resolution=resolution)[0]
    stack = simulate_low_resolution(target, factor=5, first=2)
    rows = []
    for way in ("non-local", "majority"):

        def run(way=way):
            how = RefinementSettings(fusion=way)
            return refine(
                stack.label, stack.image, stack.landmarks, atlases, stack.spacing, settings=how, threads=threads
            )

        run()
        seconds, found = timed(run, rounds)
        truth = stack.truth_frame.nearest(target.label, found.frame)
        steps = ", ".join(f"{name} {s:.2f}" for name, s in found.seconds.items())
        rows.append(
            {
                "what": f"refinement, 5 of 10 atlases ({'x'.join(map(str, found.frame.shape))})",
                "way": f"refine, {way}, {threads} threads",
                **seconds,
                "target s": 10.0,
                "dice": mean_dice(found.label, truth, 4),
                "min jacobian": found.min_jacobian,
                "steps": steps,
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------ memory


def peak_mb() -> float:
    """Greatest resident memory of this program so far, in MB. (`ru_maxrss` begins at that of the program's parent.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def cohort_memory(n: int) -> dict:
    """Seconds and memory of a cohort of n stacks, one job, in a fresh process."""
    atlases = phantom_atlases(4, seed=1, images=False, resolution=COARSE)
    subjects = heart_cohort(n, seed=2, resolution="LR", phases=("ED",))
    before = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        seconds, table = timed(
            lambda: refine_cohort(subjects, atlases, folder, n_jobs=1, settings=RefinementSettings(n_atlases=2)), 1
        )
    dice = table[[c for c in table if c.startswith("dice")]].to_numpy().mean()
    return {
        "what": f"refine_cohort, {n} subjects",
        "way": "one job, majority",
        **seconds,
        "dice": dice,
        "peak MB": peak_mb(),
        "of it added by the cohort": peak_mb() - before,
    }


def memory() -> list[dict]:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        return pool.map(cohort_memory, COHORTS, chunksize=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 192, 80))
    parser.add_argument("--resolution", type=float, nargs=3, default=(1.25, 1.25, 2.0), help="of the refinement, mm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-slow", action="store_true", help="leave torch and SimpleITK out")
    parser.add_argument("--only-memory", action="store_true", help="leave out everything but the memory of a cohort")
    parser.add_argument("-o", "--output", type=Path, help="CSV to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shape = tuple(args.shape)
    rows = (
        []
        if args.only_memory
        else [
            *registration(shape, args.rounds, not args.skip_slow),
            *fusion(shape, args.rounds, args.threads),
            *refinement(tuple(args.resolution), args.rounds, args.threads),
        ]
    )
    table = pd.DataFrame([*rows, *memory()])
    report(
        table,
        args.output,
        ("scipy", "numba", "SimpleITK"),
        3,
        threads=args.threads,
        shape="x".join(map(str, shape)),
        labels=LABELS,
    )


if __name__ == "__main__":
    main()
