"""How long `evaluate` takes beside what one would write otherwise, on label maps of 192x192x80 with 5 labels.

    python benchmarks/bench_metrics.py [--rounds 7] [-o results/metrics.csv]

Beside it: k-d trees and scipy's distance transform, each on the box round a structure, and MONAI, which also crops.
All give dice, hd, hd95 and assd of every label, and all are checked to give the same numbers. The ways take turns in
one process with one thread, and the processor's time is taken, so that the ratio holds also on a busy machine. Shapes:
a heart-like map and itself deformed (as a prediction is), and structures that are far apart (where looking up
neighbours finds nothing).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from reporting import report

import shapelab  # noqa: F401  (first: it sets OpenMP's variables before torch is loaded)

import torch  # isort: skip

from scipy import ndimage
from scipy.spatial import cKDTree

from shapelab.metrics import evaluate

SHAPE, SPACING, LABELS = (192, 192, 80), (1.25, 1.25, 2.0), (1, 2, 3, 4, 5)
Maps = tuple[np.ndarray, np.ndarray]


def heart_like(bend: float, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """Five structures with as much surface as a heart's: cavities in walls, and an atrium. (X, Y, Z) uint8."""
    x, y, z = np.meshgrid(*[s * (np.arange(n) - n / 2) for n, s in zip(SHAPE, SPACING)], indexing="ij", sparse=True)
    wave = bend * (np.sin(x / 9) * np.cos(y / 11) + np.sin(z / 13 + y / 17))
    x, y, z = x - shift[0] + wave, y - shift[1] + 0.7 * wave, z - shift[2] + 0.5 * wave
    left, right, atrium = (
        np.sqrt((x + dx) ** 2 + y**2 + (0.62 * (z + dz)) ** 2) for dx, dz in ((-18, 0), (28, 0), (-18, -62))
    )
    label = np.zeros(SHAPE, np.uint8)
    label[atrium < 24] = 5
    label[right < 34] = 4
    label[right < 31] = 1
    label[left < 32] = 2
    label[left < 23] = 3
    return label


def far_apart() -> Maps:
    """The same five structures, small, in two corners of the array."""
    small = heart_like(1.0)[::3, ::3, ::3]
    a, b = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    a[: small.shape[0], : small.shape[1], : small.shape[2]] = small
    b[-small.shape[0] :, -small.shape[1] :, -small.shape[2] :] = small[::-1]
    return a, b


# ------------------------------------------------------------------------------------------------ the other ways


def boxes_of(a: np.ndarray, b: np.ndarray) -> list[tuple]:
    """The box of each label in either map, found in one pass."""
    return list(zip(*(ndimage.find_objects(x, max_label=max(LABELS)) for x in (a, b))))


def numbers(n_a: int, n_b: int, both: int, to_b: np.ndarray, to_a: np.ndarray) -> list[float]:
    """dice, hd, hd95, assd from voxel counts and the distances of both surfaces."""
    hd95 = max(np.percentile(to_b, 95), np.percentile(to_a, 95))
    assd = (to_b.sum() + to_a.sum()) / (len(to_b) + len(to_a))
    return [2 * both / (n_a + n_b), max(to_b.max(), to_a.max()), hd95, assd]


def by_tree(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Each mask in its own box."""
    rows = []
    for v, boxes in zip(LABELS, boxes_of(a, b)):
        masks = [x[box] == v for x, box in zip((a, b), boxes)]
        points = [
            (np.argwhere(m ^ ndimage.binary_erosion(m)) + [s.start for s in box]) * SPACING
            for m, box in zip(masks, boxes)
        ]
        trees = [cKDTree(p, balanced_tree=False, compact_nodes=False) for p in points]  # the quickest
        common = tuple(slice(max(p.start, q.start), max(p.start, q.start, min(p.stop, q.stop))) for p, q in zip(*boxes))
        both = ((a[common] == v) & (b[common] == v)).sum()
        to_b, to_a = trees[1].query(points[0])[0], trees[0].query(points[1])[0]
        rows.append(numbers(masks[0].sum(), masks[1].sum(), both, to_b, to_a))
    return np.array(rows)


def by_transform(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Both masks in the box that holds them."""
    rows = []
    for v, boxes in zip(LABELS, boxes_of(a, b)):
        box = tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(*boxes))
        masks = a[box] == v, b[box] == v
        edges = [m ^ ndimage.binary_erosion(m) for m in masks]
        to_a, to_b = (ndimage.distance_transform_edt(~e, sampling=SPACING) for e in edges)
        both = (masks[0] & masks[1]).sum()
        rows.append(numbers(masks[0].sum(), masks[1].sum(), both, to_b[edges[0]], to_a[edges[1]]))
    return np.array(rows)


def by_monai(a: np.ndarray, b: np.ndarray, only_hd: bool = False) -> np.ndarray:
    from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance

    masks = [torch.from_numpy(np.stack([x == v for v in LABELS]))[None] for x in (a, b)]
    options = {"include_background": True, "spacing": SPACING}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd = compute_hausdorff_distance(*masks, **options)
        columns = (
            [hd]
            if only_hd
            else [
                compute_dice(*masks),
                hd,
                compute_hausdorff_distance(*masks, percentile=95, **options),
                compute_average_surface_distance(*masks, symmetric=True, **options),
            ]
        )
    return torch.stack([c[0].double() for c in columns], 1).numpy()


def ours(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return evaluate(a, b, SPACING)[["dice", "hd", "hd95", "assd"]].to_numpy()


WAYS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "evaluate, voxel surfaces (ours)": ours,
    "k-d trees, cropped": by_tree,
    "scipy distance transform, cropped": by_transform,
    "MONAI": by_monai,
}


# ------------------------------------------------------------------------------------------------ timing


def measure(name: str, maps: Maps, rounds: int) -> pd.DataFrame:
    """One row a way: median and 95th percentile in ms for all five labels, and how many times ours."""
    reference = ours(*maps)
    for way, function in WAYS.items():
        apart = np.abs(function(*maps) - reference).max()
        assert apart < 1e-3, f"{way} differs by {apart}"  # MONAI rounds to single precision
    ways = {
        **WAYS,
        "MONAI, hd alone": lambda a, b: by_monai(a, b, only_hd=True),
        "evaluate, surface elements (ours)": lambda a, b: evaluate(a, b, SPACING, surface="element"),
    }
    ways["evaluate, surface elements (ours)"](*maps)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, function in ways.items():
            started = time.process_time()
            function(*maps)
            seconds[way].append(time.process_time() - started)
    first = statistics.median(seconds["evaluate, voxel surfaces (ours)"])
    return pd.DataFrame(
        [
            {
                "maps": name,
                "way": way,
                "median ms": 1e3 * statistics.median(s),
                "p95": 1e3 * float(np.percentile(s, 95)),
                "this / ours": statistics.median(s) / first,
            }
            for way, s in seconds.items()
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, help="CSV to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = {
        "a prediction (heart, bent by 2 mm)": (heart_like(2.0, (1, -1, 1)), heart_like(0.0)),
        "a bad prediction (moved by 12 mm)": (heart_like(3.0, (12, -6, 4)), heart_like(0.0)),
        "far apart": far_apart(),
    }
    table = pd.concat([measure(name, maps, args.rounds) for name, maps in cases.items()])
    report(
        table, args.output, ("scipy", "numba", "monai"), threads=1, shape="x".join(map(str, SHAPE)), labels=len(LABELS)
    )


if __name__ == "__main__":
    main()
