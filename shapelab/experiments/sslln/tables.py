"""The SSLLN paper's tables and two of its figures, made anew: one door.

    Table I     2D FCN, 3D FCN, SSLLN-HR on high-resolution volumes; Fig. 8, slices that are missing
    Table II    landmarks; their cumulative errors, Fig. 10
    Table III   SSLLN-LR + refinement on simulated low-resolution volumes, beside SSLLN-HR
    Table IV    volumes and masses, automated against truth, healthy
    Table V     beside the networks of the ACNN paper and atlases without a network; Fig. 12, what the landmarks are for
    Table VI    volumes and masses in pulmonary hypertension

Which hearts, and where we chose otherwise than the paper: `shapelab.experiments.sslln.laboratory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from shapelab.errors import one_of
from shapelab.experiments.kept_runs import Study, seeds_of
from shapelab.experiments.sslln import layout as tables
from shapelab.experiments.sslln.hearts import SEEDS, missing_slices
from shapelab.experiments.sslln.laboratory import ACNN_METHODS, REFINED, STARTS, Laboratory, SSLLNExperiment
from shapelab.files import write_csv
from shapelab.metrics import evaluate_cohort
from shapelab.models.sslln import predict

#: Table -> (methods, cohort).
METHODS_OF = {
    1: (("2D FCN", "3D FCN", "SSLLN-HR", "SSLLN-HR, gaps"), "healthy"),
    2: (("SSLLN-HR", "SSLLN-LR"), "healthy"),
    3: (("SSLLN-HR", "SSLLN-LR", *REFINED), "healthy"),
    4: (("SSLLN-HR", "SSLLN-LR", *REFINED), "healthy"),
    5: ((*ACNN_METHODS, "multi-atlas", *REFINED), "healthy"),
    6: (("SSLLN-LR", *REFINED), "PH"),
}
NUMERALS = ("I", "II", "III", "IV", "V", "VI")
GAPS_MM = (10.0, 26.0, 40.0)  # Fig. 8: 5, 13 and 20 slices of 2 mm


def run(
    table: int = 1,
    data: str = "phantom",
    root: str | Path | None = None,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    config: SSLLNExperiment | None = None,
) -> pd.DataFrame:
    """Make one of the paper's tables, print it with the paper's numbers beside ours, and write it.

    Args:
        table: 1 to 6
        data: "phantom"; or "acdc", for which there is no finer truth than its slices: then, whatever the table, real
            label maps are refined and compared with what was given (`shapelab.experiments.sslln.refinement_acdc`)
        root: folder of the data set; None looks under SHAPELAB_DATA
        profile: "quick", "full" or "paper"; None: the current one
        seeds: of weights, order and augmentation, a training each; None: the profile's
        output: folder, by default ``results/sslln``: sslln_table<N>.csv, ..._cases.csv and ....json, for table 1 also
            sslln_gaps.csv (Fig. 8), for table 5 sslln_initialisation.csv (Fig. 12); hearts, networks and cases are kept
            in a folder beside them, from which a killed run goes on
        config: instead of the profile's numbers

    Returns the table in long form, see `shapelab.experiments.sslln.layout`. UsageError for an unknown table or data.
    """
    one_of("table", table, METHODS_OF)
    one_of("data", data, ("phantom", "acdc"))
    study = Study.of("sslln", output, profile, root, progress)
    if data == "acdc":
        from shapelab.experiments.sslln import refinement_acdc as refinement

        found = refinement.run(root=root, profile=profile, output=study.folder, progress=progress)
        print("\nACDC, refined: the outlines that were given, and how smooth the result is; no table of the paper\n")
        print(refinement.summary(found).to_string())
        return found
    config = config or SSLLNExperiment.profile(study.profile)
    seeds = seeds_of(seeds, config.seeds)
    methods, cohort = METHODS_OF[table]
    parts: dict[str, list] = {m: [] for m in methods}
    extra = []
    for seed in seeds:
        laboratory = Laboratory(config, study.folder / f"phantom_{study.profile}", seed, progress)
        for method in methods:
            parts[method].append(laboratory.cases(method, cohort)[1 if table == 2 else 0])
        if table in (1, 5):
            extra.append(gaps(laboratory) if table == 1 else initialisations(laboratory))
    cases = {m: pd.concat(p, ignore_index=True) for m, p in parts.items()}
    found = _table(table, cases)
    if extra:
        figure = "gaps" if table == 1 else "initialisation"
        write_csv(pd.concat(extra, ignore_index=True), study.folder / f"sslln_{figure}.csv")
    about = {
        "data": data,
        "profile": study.profile,
        "config": asdict(config),
        "seeds": list(seeds),
        "phantom seeds": SEEDS,
    }
    study.write(f"sslln_table{table}", {"": found, "_cases": pd.concat(cases.values(), ignore_index=True)}, about)
    print(f"\nTable {NUMERALS[table - 1]}: ours (the paper's)\n")
    print(tables.layout(found).to_string())
    return found


def _table(table: int, cases: dict[str, pd.DataFrame]) -> pd.DataFrame:
    numeral = NUMERALS[table - 1]
    if table == 2:
        return tables.landmark_table(cases)
    if numeral not in tables.OVERLAP:
        return tables.clinical_table(cases, numeral)
    if table == 5:
        some = set.intersection(*(set(c["id"]) for c in cases.values()))
        cases = {m: c[c["id"].isin(some)] for m, c in cases.items()}
    return tables.overlap_table(cases, numeral)


def gaps(laboratory: Laboratory, gaps_mm: Sequence[float] = GAPS_MM, hearts: int | None = None) -> pd.DataFrame:
    """Fig. 8: slices set to zero in the middle of the heart; Dice of each structure inside the gap.

    Returns one row a (method, gap, heart, structure): method, seed, gap_mm, slices, id, label, dice, missed.
    """
    whole = laboratory.cohort("healthy")[slice(hearts)]
    parts = []
    for gap in gaps_mm:
        count = max(1, round(gap / whole.spacing[2]))
        holed, where = missing_slices(whole, count)
        for method in METHODS_OF[1][0]:
            made, _ = predict(laboratory.network(method), holed.images)
            inside = [
                (whole.scheme.integers(m[:, :, a:b]), whole.scheme.integers(t[:, :, a:b]))
                for m, t, (a, b) in zip(made, whole.labels, where, strict=True)
            ]
            found = evaluate_cohort(*zip(*inside, strict=True), whole.spacing, list(whole.table.index), whole.scheme)
            found = found.assign(method=method, seed=laboratory.seed, gap_mm=gap, slices=count)
            parts.append(found[["method", "seed", "gap_mm", "slices", "id", "label", "dice", "missed"]])
    return pd.concat(parts, ignore_index=True)


def initialisations(laboratory: Laboratory, hearts: int | None = None) -> pd.DataFrame:
    """Fig. 12: the same refinement from other affine maps; Dice and Hausdorff distance of each structure.

    start: "network", landmarks that SSLLN found; "labels", landmarks taken from the label maps; "classes", no
    landmarks, an affine map that makes the tissue classes overlap.

    Returns one row a (start, heart, structure): start, seed, then the columns of `shapelab.metrics.evaluate_cohort`.
    """
    n = hearts or laboratory.config.compared
    truth, stacks = laboratory.cohort("healthy")[slice(n)], laboratory.degraded("healthy")[1]
    parts = []
    for start in STARTS:
        refined = laboratory.refinements("healthy", slice(n), start)
        made = [laboratory.on_truth(s, r) for s, r in zip(stacks, refined, strict=False)]
        found = evaluate_cohort(
            made, truth.scheme.integers(truth.labels), truth.spacing, list(truth.table.index), truth.scheme
        )
        parts.append(found.assign(start=start, seed=laboratory.seed))
    table = pd.concat(parts, ignore_index=True)
    return table[["start", "seed", *[c for c in table if c not in ("start", "seed")]]]
