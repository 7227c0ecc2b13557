"""What the heart phantom's population measures, beside published figures, and how real its label maps are.

    python benchmarks/phantom_population.py [-n 100] [-o FOLDER]

Clinical indices are counted on label maps at 1.25 x 1.25 x 2 mm and compared with SSLLN's Tables IV (NOR) and VI (RV).
Where ACDC is under SHAPELAB_DATA, ejection fractions stand beside its groups', and a random forest tries to tell real
from phantom label maps (AUC: .5 it cannot, 1 it always can). With -o the tables are written as CSV.
"""

from __future__ import annotations

import argparse
import os
from datetime import date
from pathlib import Path

import pandas as pd

import shapelab
from shapelab.device import describe
from shapelab.errors import DataError
from shapelab.files import atomic_write
from shapelab.metrics.clinical import cardiac_indices
from shapelab.phantoms import heart_cohort, real_or_phantom, realism_report

#: (group, index) -> mean, sd; ml and g at ED.
PUBLISHED = {
    ("NOR", "LVV_ED"): (147.6, 34.7),
    ("NOR", "LVM"): (119.3, 25.7),
    ("NOR", "RVV_ED"): (171.6, 39.5),
    ("NOR", "RVM"): (33.7, 7.3),
    ("RV", "LVV_ED"): (114.8, 25.1),
    ("RV", "LVM"): (124.2, 25.3),
    ("RV", "RVV_ED"): (204.3, 58.5),
    ("RV", "RVM"): (49.9, 14.2),
}


def population(n: int) -> pd.DataFrame:
    """Mean and sd of each index in each group of n phantoms, beside the published ones."""
    indices = cardiac_indices(heart_cohort(n, seed=0, resolution="HR"))
    names = ["LVV_ED", "LVM", "RVV_ED", "RVM", "LVEF", "RVEF"]
    stats = indices.groupby("group")[names].agg(["mean", "std"]).stack(level=0, future_stack=True)
    stats.index.names = ["group", "index"]
    published = pd.DataFrame.from_dict(PUBLISHED, orient="index", columns=["published mean", "published sd"])
    published.index = pd.MultiIndex.from_tuples(published.index, names=["group", "index"])
    table = stats.rename(columns={"mean": "phantom mean", "std": "phantom sd"}).join(published)
    table["difference %"] = 100 * (table["phantom mean"] / table["published mean"] - 1)
    return table.assign(n=n // 5)


def beside_acdc(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, float] | None:
    """The table with ACDC's mean and sd, the realism report, and the AUC of real against phantom; None without ACDC."""
    if not os.environ.get("SHAPELAB_DATA"):
        return None
    try:
        acdc = shapelab.open_cohort("acdc")
    except DataError as error:
        print(error)
        return None
    real = cardiac_indices(acdc).groupby("group")[["LVV_ED", "LVM", "RVV_ED", "LVEF", "RVEF"]].agg(["mean", "std"])
    real = real.stack(level=0, future_stack=True).rename(columns={"mean": "ACDC mean", "std": "ACDC sd"})
    real.index.names = ["group", "index"]
    phantoms = shapelab.open_cohort("phantom", n=len(acdc.patients), seed=0)
    return table.join(real), realism_report(acdc, phantoms), real_or_phantom(acdc, phantoms)["auc"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=100, help="phantoms, all groups together (100)")
    parser.add_argument("-o", "--output", type=Path, help="folder for the CSV files")
    arguments = parser.parse_args()
    table = population(arguments.n)
    tables = {"phantom_population": table}
    compared = beside_acdc(table)
    if compared is not None:
        table, report, auc = compared
        tables = {"phantom_population": table.assign(auc_real_or_phantom=auc), "phantom_realism": report}
        print("real or phantom, random forest on label features:", f"AUC {auc:.2f}")
    print(table.round(1).to_string())
    for name, one in tables.items():
        if arguments.output is not None:
            with atomic_write(arguments.output / f"{name}.csv") as temporary:
                one.assign(**describe(), date=date.today().isoformat()).to_csv(temporary, float_format="%.4g")


if __name__ == "__main__":
    main()
