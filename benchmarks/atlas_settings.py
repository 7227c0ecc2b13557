"""Which settings of the atlas refinement, on phantom hearts whose truth is known.

    python benchmarks/atlas_settings.py [--selection 5] [--test 10] [--atlases 20] [--only-alignment] [-o results]

Targets are stacks of 10 mm slices of hearts at 1.25 x 1.25 x 2 mm, one apical slice cut off, without breath-hold shifts
and with them (sd 2 mm); atlases are other hearts. Three sets of hearts, a seed each: atlases, selection, test.

1. Label fusion (atlas_fusion_selection.csv): every candidate on the selection hearts, after one and the same
   registration. The candidate of greatest mean Dice over structures, hearts and both kinds of stack is the choice.
2. atlas_fusion.csv: the choice, the paper's eq. 5, the majority, and no refinement at all (the nearest slice,
   shape-based interpolation), on the test hearts; Dice and Hausdorff distance (mm) of each structure.
3. Registration (atlas_ffd.csv): the test hearts again, the majority fused: as it is; the stack interpolated to 2 mm
   first (nearest slice); without the membrane energy; with a fourth level of 5 mm between control points, which keeps
   nearer to the labels given. "myocardium below" is the Dice of the LV myocardium below the
   last slice, where nothing was measured.

4. Alignment of slices (`shapelab.atlas.slice_shifts`). atlas_alignment_degree.csv: twelve selection hearts, shifts of
   0 to 3 mm, root mean square of what a line, a parabola and a cubic leave of them, mm. atlas_alignment.csv: the test
   hearts with both kinds of stack, refined as they are, aligned, and with their true shifts taken out.

The selection hearts never appear in 2, 3 and the second table of 4, the test hearts never in 1 and the first.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from dataclasses import replace
from pathlib import Path

import shapelab  # before torch: it sets the OpenMP variables that torch reads when it is loaded

import numpy as np  # isort: skip
import pandas as pd

from shapelab.atlas import (
    Atlas,
    Frame,
    FreeFormDeformation,
    LowResolution,
    Refinement,
    RefinementSettings,
    fuse_labels,
    interpolate_slices,
    move_slices,
    phantom_atlases,
    refine,
    simulate_low_resolution,
    slice_shifts,
)
from shapelab.data.grid import to_unit_range
from shapelab.device import describe
from shapelab.files import atomic_write
from shapelab.metrics import dice, evaluate

RESOLUTION = (1.25, 1.25, 2.0)
SEEDS = {"atlases": 70_000, "selection": 71_000, "test": 72_000}
SHIFTS = (0.0, 2.0)  # sd of a slice's displacement, mm
PATCH, PAPER = (7, 7, 1), "non-local 7x7x3 h=10"
WINDOWS, BANDWIDTHS = ((7, 7, 3), (3, 3, 1), (1, 1, 1)), (10.0, 1.0, 0.1, 0.01)
FINE = FreeFormDeformation(
    control_mm=5.0,
    levels=4,
    bending=(10, 3, 1, 0.3),
    blur_mm=(5, 2, 0, 0),
    sampling_mm=(5, 2.5, 0, 0),
    step_mm=(2, 1, 0.5, 0.25),
)
CANDIDATES = {"majority": None} | {
    f"non-local {'x'.join(map(str, w))} h={h:g}": {"window": w, "h": h} for w in WINDOWS for h in BANDWIDTHS
}


def stack_of(atlas: Atlas, shift: float, number: int) -> LowResolution:
    """One thick stack of a heart; where its first slice lies and how its slices move depend on its number alone."""
    return simulate_low_resolution(atlas, 5, shift, 1, first=number % 5, seed=number)


def registered(stack: LowResolution, atlases, image: bool = False, **settings) -> Refinement:
    image = stack.image if image else None
    how = RefinementSettings(**settings)
    return refine(stack.label, image, stack.landmarks, atlases, stack.spacing, settings=how, threads=1)


def scores(label: np.ndarray, frame: Frame, stack: LowResolution) -> pd.DataFrame:
    """Dice and HD of each structure against the truth, in `frame`; a row a structure."""
    truth = stack.truth_frame.nearest(stack.truth.label, frame)
    found = evaluate(label, truth, frame.spacing, labels=list(stack.scheme.values))
    return pd.DataFrame(
        {
            "structure": [s.name for s in stack.scheme.structures],
            "dice": found["dice"].to_numpy(),
            "hd": found["hd"].to_numpy(),
        }
    )


def below(result: Refinement, stack: LowResolution) -> float:
    """Dice of the LV myocardium beyond the last slice towards the apex; NaN if the truth has none there."""
    truth = stack.truth_frame.nearest(stack.truth.label, result.frame)
    z = result.frame.positions()[2]
    first, last = 0.0, (stack.label.shape[2] - 1) * stack.spacing[2]
    apex = stack.landmarks["apex"][2]
    there = z > last if apex > last / 2 else z < first
    value = stack.scheme.structure("LV myocardium").value
    if not (truth[:, :, there] == value).any():
        return np.nan
    return float(dice(result.label[:, :, there], truth[:, :, there], stack.scheme)["LV myocardium"])


def fused(result: Refinement, stack: LowResolution, names) -> dict[str, np.ndarray]:
    """The warped atlases of one registration, fused by each candidate."""
    labels = [d.warp_label(a.label, result.frame) for d, a in zip(result.deformations, result.atlases)]
    images = [d.warp_image(to_unit_range(a.image), result.frame) for d, a in zip(result.deformations, result.atlases)]
    target = result.target_frame.linear(to_unit_range(stack.image), result.frame)
    return {
        name: fuse_labels(labels)
        if CANDIDATES[name] is None
        else fuse_labels(labels, images, target, PATCH, threads=2, **CANDIDATES[name])
        for name in names
    }


def fusion(part: str, hearts, atlases, names) -> pd.DataFrame:
    """Rows: part, heart, group, shift_mm, way, structure, dice, hd."""
    tables = []
    for number, heart in enumerate(hearts):
        for shift in SHIFTS:
            started = time.perf_counter()
            stack = stack_of(heart, shift, number)
            result = registered(stack, atlases)
            without = {
                "nearest slice": result.target_frame.nearest(stack.label, result.frame),
                "shape-based interpolation": interpolate_slices(stack.label, stack.spacing, result.frame),
            }
            for way, label in (without | fused(result, stack, names)).items():
                tables.append(
                    scores(label, result.frame, stack).assign(part=part, heart=heart.id, shift_mm=shift, way=way)
                )
            print(f"{part} {heart.id} shift {shift:g}: {time.perf_counter() - started:.0f} s", flush=True)
    return pd.concat(tables, ignore_index=True)


def registration(hearts, atlases) -> pd.DataFrame:
    """The test hearts, without shifts, by three registrations."""
    tables = []
    for number, heart in enumerate(hearts):
        stack = stack_of(heart, 0.0, number)
        fine = Frame(stack.label.shape, stack.spacing)
        fine = Frame.covering(fine.origin, [p[-1] for p in fine.positions()], RESOLUTION)
        thin = LowResolution(
            Frame(stack.label.shape, stack.spacing).nearest(stack.label, fine),
            None,
            RESOLUTION,
            stack.landmarks,
            stack.shift,
            stack.truth,
            stack.truth_frame,
        )
        ways = {
            "as it is": (stack, FreeFormDeformation()),
            "interpolated to 2 mm first": (thin, FreeFormDeformation()),
            "without membrane energy": (stack, FreeFormDeformation(stretch=0.0)),
            "a fourth level, 5 mm": (stack, FINE),
        }
        for way, (given, ffd) in ways.items():
            result = registered(given, atlases, ffd=ffd)
            tables.append(
                scores(result.label, result.frame, stack).assign(
                    part="test",
                    heart=heart.id,
                    way=way,
                    **{"myocardium below": below(result, stack)},
                    min_jacobian=result.min_jacobian,
                    folded=result.folded,
                )
            )
        print(f"registration {heart.id}", flush=True)
    return pd.concat(tables, ignore_index=True)


def degrees(hearts) -> pd.DataFrame:
    """What polynomials leave of breath-hold shifts; rows: shift_mm, degree, heart, shift (rms), left (rms), mm."""
    rows = []
    for number, heart in enumerate(hearts):
        for sd in (0.0, 1.0, 2.0, 3.0):
            stack = stack_of(heart, sd, number)
            used = stack.label.any((0, 1))
            for degree in (1, 2, 3):
                left = slice_shifts(stack.label, stack.spacing, stack.scheme, degree) - stack.shift
                rms = [float(np.sqrt((v[used] ** 2).mean())) for v in (stack.shift, left)]
                rows.append({"shift_mm": sd, "degree": degree, "heart": heart.id, "shift": rms[0], "left": rms[1]})
    return pd.DataFrame(rows)


def alignment(hearts, atlases) -> pd.DataFrame:
    """The test hearts refined as they are, with slices brought into line, and with the true shifts taken out."""
    tables = []
    for number, heart in enumerate(hearts):
        for sd in SHIFTS:
            stack = stack_of(heart, sd, number)
            true = replace(stack, label=move_slices(stack.label, -stack.shift, stack.spacing))
            for way, (given, align) in {
                "as it is": (stack, False),
                "aligned": (stack, True),
                "true shifts taken out": (true, False),
            }.items():
                result = registered(given, atlases, align=align)
                tables.append(
                    scores(result.label, result.frame, stack).assign(part="test", heart=heart.id, shift_mm=sd, way=way)
                )
        print(f"alignment {heart.id}", flush=True)
    return pd.concat(tables, ignore_index=True)


def choice(table: pd.DataFrame) -> str:
    """The candidate of greatest mean Dice."""
    means = table[table["way"].isin(CANDIDATES)].groupby("way", sort=False)["dice"].mean()
    return str(means.idxmax())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--selection", type=int, default=5, help="hearts to choose on")
    parser.add_argument("--test", type=int, default=10, help="hearts to report on")
    parser.add_argument("--atlases", type=int, default=20)
    parser.add_argument("--only-alignment", action="store_true", help="the fourth part alone")
    parser.add_argument("-o", "--output", type=Path, help="folder for the tables")
    args = parser.parse_args()
    aligned(args)
    if args.only_alignment:
        return
    atlases = phantom_atlases(args.atlases, SEEDS["atlases"], resolution=RESOLUTION)
    made = {p: phantom_atlases(getattr(args, p), SEEDS[p], resolution=RESOLUTION) for p in ("selection", "test")}
    tables = {"atlas_fusion_selection": fusion("selection", made["selection"], atlases, CANDIDATES)}
    show(tables["atlas_fusion_selection"], ["way", "shift_mm"])
    chosen = choice(tables["atlas_fusion_selection"])
    print(f"chosen: {chosen}", flush=True)
    names = list(dict.fromkeys(["majority", PAPER, chosen]))
    write(args, tables, chosen)
    tables["atlas_fusion"] = fusion("test", made["test"], atlases, names)
    show(tables["atlas_fusion"], ["way", "shift_mm"])
    write(args, tables, chosen)
    tables["atlas_ffd"] = registration(made["test"], atlases)
    show(tables["atlas_ffd"], ["way"])
    print(tables["atlas_ffd"].groupby("way", sort=False)["myocardium below"].mean().round(3).to_string())
    write(args, tables, chosen)


def aligned(args) -> None:
    """The fourth part; it needs no images."""
    bare = {"resolution": RESOLUTION, "images": False}
    found = degrees(phantom_atlases(12, SEEDS["selection"], **bare))
    print(found.groupby(["shift_mm", "degree"])[["shift", "left"]].mean().round(2).to_string(), flush=True)
    tables = {"atlas_alignment_degree": found}
    atlases = phantom_atlases(args.atlases, SEEDS["atlases"], **bare)
    tables["atlas_alignment"] = alignment(phantom_atlases(args.test, SEEDS["test"], **bare), atlases)
    show(tables["atlas_alignment"], ["way", "shift_mm"])
    if args.output is not None:
        for name, table in tables.items():
            with atomic_write(args.output / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False, float_format="%.5g")


def show(table: pd.DataFrame, by: list[str]) -> None:
    for measure in ("dice", "hd"):
        print(
            table.pivot_table(measure, by, "structure", sort=False)
            .assign(mean=lambda t: t.mean(axis=1))
            .round(3)
            .to_string(),
            flush=True,
        )


def write(args, tables: dict[str, pd.DataFrame], chosen: str) -> None:
    if args.output is None:
        return
    for name, table in tables.items():
        with atomic_write(args.output / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")
    about = {
        "chosen": chosen,
        "selection hearts": args.selection,
        "test hearts": args.test,
        "atlases": args.atlases,
        "seeds": SEEDS,
        "resolution mm": RESOLUTION,
        "shapelab": shapelab.__version__,
        **describe(),
        "date": datetime.date.today().isoformat(),
    }
    with atomic_write(args.output / "atlas_settings.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
