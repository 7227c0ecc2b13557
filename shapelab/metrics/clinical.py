"""Clinical indices from label maps: volumes (ml), masses (g), ejection fractions (%)."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from shapelab.data.cohort import Cohort
from shapelab.data.facts import PHASES
from shapelab.data.gaps import without_gaps
from shapelab.data.scheme import LabelScheme
from shapelab.errors import must, need
from shapelab.types import Triple

Numbers = TypeVar("Numbers", float, np.ndarray, pd.Series)  # one, or a column of them
MYOCARDIAL_DENSITY = 1.05  # g/ml, the value of cardiac MR practice (design, "Metrics")


def structure_volumes(label: np.ndarray, spacing: Triple, scheme: LabelScheme) -> pd.Series:
    """Volume of each structure in ml: number of its voxels times the voxel volume.

    Args:
        label: (X, Y, Z) integers of the scheme
        spacing: (3,) mm
    """
    counts = np.bincount(scheme.channels(label).ravel(), minlength=scheme.n_classes)[1:]
    return pd.Series(counts * float(np.prod(spacing)) / 1000, index=list(scheme.names), name="volume_ml")


def mass(volume_ml: Numbers) -> Numbers:
    """Myocardial mass in g from its volume in ml."""
    return MYOCARDIAL_DENSITY * volume_ml


def volumes_and_masses(
    label: np.ndarray, spacing: Triple, scheme: LabelScheme, file: str | Path | None = None
) -> dict[str, dict[str, float] | float]:
    """What a report says of one label map: volumes_ml by structure, myocardial_mass_g and rv_mass_g where the scheme
    has an LV myocardium and an RV wall; to two decimals.

    Slices that nobody annotated count as if filled from those beside them, with a warning (`shapelab.data.gaps`).
    Arguments as for `structure_volumes`, slices along the last axis; `file` is what the warning names.
    """
    volumes = structure_volumes(without_gaps(label, spacing, scheme, file), spacing, scheme)
    found: dict[str, dict[str, float] | float] = {
        "volumes_ml": {str(k): round(float(v), 2) for k, v in volumes.items()}
    }
    for key, name in (("myocardial_mass_g", "LV myocardium"), ("rv_mass_g", "RV wall")):
        if name in volumes:
            found[key] = round(float(mass(volumes[name])), 2)
    return found


def ejection_fraction(ed_ml: Numbers, es_ml: Numbers) -> Numbers:
    """(EDV - ESV) / EDV in %. Numbers, arrays or columns."""
    need(
        not np.any(np.asarray(ed_ml) <= 0), "ejection_fraction", "an end-diastolic volume of 0 ml", "a positive volume"
    )
    return 100 * (ed_ml - es_ml) / ed_ml


def cardiac_indices(cohort: Cohort) -> pd.DataFrame:
    """Indices of each patient from ED and ES label maps. Slices that nobody annotated are filled from those beside
    them, with a warning (`shapelab.data.gaps`).

    Returns:
        DataFrame, one row a patient (index `patient`); LVV_ED, LVV_ES, RVV_ED, RVV_ES (ml), LVEF, RVEF (%), LVM (g, of
        the myocardium at ED), RVM (g) where the scheme has an RV wall, and the patient's other facts that do not differ
        between the phases (group, height, weight, ...).

    Raises:
        UsageError: a scheme without LV and RV cavity
        DataError: a patient without exactly one ED and one ES subject, named
    """
    names, masses = {"LVV": "LV cavity", "RVV": "RV cavity"}, {"LVM": "LV myocardium", "RVM": "RV wall"}
    missing = [n for n in names.values() if n not in cohort.scheme.names]
    must(not missing, "cardiac_indices", f"scheme {cohort.scheme.name!r} without {missing}", "a heart's")
    found: dict[str, dict[str, tuple[pd.Series, dict]]] = {p: {} for p in cohort.patients}
    for s in cohort:
        phase, label = str(s.facts.get("phase")), s.label
        need(
            phase in PHASES and phase not in found[s.patient] and label is not None,
            s.where,
            f"phase {phase!r} of patient {s.patient!r} (twice, or none of ED and ES)",
            "one ED and one ES subject a patient",
        )
        assert label is not None
        label = without_gaps(label, s.spacing, cohort.scheme, s.where)
        found[s.patient][phase] = structure_volumes(label, s.spacing, cohort.scheme), dict(s.facts)
    rows = {}
    for patient, by_phase in found.items():
        need(
            set(by_phase) == set(PHASES),
            patient,
            f"only {sorted(by_phase)}",
            "ED and ES",
            "Leave the patient out with cohort.filter, or supply the missing phase.",
        )
        (ed, facts), (es, facts_es) = (by_phase[phase] for phase in PHASES)
        row = {f"{short}_{phase}": by_phase[phase][0][name] for short, name in names.items() for phase in PHASES}
        row |= {f"{short[0]}VEF": ejection_fraction(ed[name], es[name]) for short, name in names.items()}
        row |= {mass_of: mass(ed[name]) for mass_of, name in masses.items() if name in ed}
        both = {k: (v, facts_es[k]) for k, v in facts.items() if k in facts_es and k not in row}
        # an array is no fact of the patient for a table
        same = (k for k, (a, b) in both.items() if np.ndarray not in (type(a), type(b)) and bool(a == b))
        rows[patient] = row | {k: facts[k] for k in same}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("patient").drop(columns="patient", errors="ignore")
