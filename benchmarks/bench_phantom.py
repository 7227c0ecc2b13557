"""Throughput of the heart phantom: label maps, solving the surfaces, images.

    python benchmarks/bench_phantom.py [-n HEARTS] [--repeats R] [--device cpu|cuda] [-o FILE.csv]

One row a task and grid: median and p95 of seconds a heart, hearts a second. Machine, versions and date go into the CSV.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from shapelab.device import describe
from shapelab.files import atomic_write
from shapelab.phantoms import (
    GROUPS,
    WHOLE_GROUPS,
    HeartSurfaces,
    build_heart,
    draw_factors,
    heart_cohort,
    label_batch,
    labels_of_whole_hearts,
)
from shapelab.phantoms.patients import Mix, anatomy

GRIDS = {
    "quick 48x48x24": ((48, 48, 24), (3.0, 3.0, 4.5)),
    "64x64x16": ((64, 64, 16), (2.25, 2.25, 8.0)),
    "LR 128x128x10": ((128, 128, 10), (1.5625, 1.5625, 10.0)),
    "HR 120x120x60": ((120, 120, 60), (1.25, 1.25, 2.0)),
}


WHOLE_GRIDS = {
    "3 mm 72x61x84": ((72, 61, 84), (3.0, 3.0, 3.0)),
    "1.5 mm 144x122x168": ((144, 122, 168), (1.5, 1.5, 1.5)),
}


def in_the_middle(n: int, grid) -> HeartSurfaces:
    """Surfaces of n patients at ED and ES about the middle of a grid, RV towards -x."""
    middle = (np.array(grid[0]) - 1) / 2 * grid[1] - (0, 0, 45)  # the valve lies half a heart above it
    both = [anatomy(Mix().patient(0, i))[1] for i in range(n)]
    hearts = HeartSurfaces.stack([heart.surfaces for phases in both for heart in phases.values()])
    return hearts.moved(origin=np.tile(middle, (2 * n, 1)), angle=np.full(2 * n, np.pi))


def timed(function, repeats: int, hearts: int, device) -> list[float]:
    """Seconds a heart of each repetition, after one that is not counted."""
    import torch  # after shapelab, which sets OpenMP's variables

    out = []
    for i in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if i:
            out.append((time.perf_counter() - start) / hearts)
    return out


def main(arguments: list[str] | None = None) -> int:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=16, help="hearts in a batch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", help="CSV file to write")
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    tasks = {}
    for name, grid in GRIDS.items():
        hearts = in_the_middle(max(1, args.n // 2), grid).to(device)
        tasks[f"labels {name}"] = (lambda h=hearts, g=grid: label_batch(h, g), len(hearts))
    factors = [draw_factors(0, i, GROUPS[i % 5]) for i in range(10)]
    tasks["solve surfaces"] = (lambda: [build_heart(f) for f in factors], 20)
    scans = heart_cohort(4, resolution="LR", images=True)
    tasks["cohort label LR"] = (lambda: [s.label for s in scans], len(scans))
    tasks["cohort image LR"] = (lambda: [s.image for s in scans], len(scans))
    whole = [Mix(WHOLE_GROUPS, known=WHOLE_GROUPS).patient(0, i) for i in range(12)]
    for name, grid in WHOLE_GRIDS.items():  # on the CPU, in two threads
        tasks[f"whole hearts {name}"] = (lambda g=grid: labels_of_whole_hearts(whole, g), len(whole))
    rows = []
    for name, (function, hearts) in tasks.items():
        seconds = timed(function, args.repeats, hearts, device)
        median, p95 = np.median(seconds), np.percentile(seconds, 95)
        speed = {"ms_median": 1e3 * median, "ms_p95": 1e3 * p95, "hearts_per_s": 1 / median}
        rows.append({"task": name, "hearts": hearts, **speed})
    table = pd.DataFrame(rows)
    print(table.round(2).to_string(index=False))
    if args.output:
        facts = {**describe(), "device": str(device), "threads": torch.get_num_threads()}
        facts["date"] = datetime.now(UTC).isoformat(timespec="seconds")
        with atomic_write(args.output) as temporary:
            table.assign(**facts).to_csv(temporary, index=False)
        print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
