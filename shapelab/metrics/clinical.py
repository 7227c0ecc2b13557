"""Clinical indices from label maps: volumes (ml), masses (g), ejection fractions (%); and which no heart has."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from shapelab.data.cohort import Cohort
from shapelab.data.facts import PHASES
from shapelab.data.gaps import canonical_without_gaps, without_gaps
from shapelab.data.rows import in_one_order, row_names
from shapelab.data.scheme import LabelScheme
from shapelab.errors import must, need
from shapelab.types import Triple

Numbers = TypeVar("Numbers", float, np.ndarray, pd.Series)  # one, or a column of them
MYOCARDIAL_DENSITY = 1.05  # g/ml, the value of cardiac MR practice (design, "Metrics")
_CAVITIES, _MASSES = {"LVV": "LV cavity", "RVV": "RV cavity"}, {"LVM": "LV myocardium", "RVM": "RV wall"}
#: Index -> (lowest, highest, unit) that an adult's heart has, ill or not; outside it is a mistake of the label map, its
#: voxel size or its phase. Healthy hearts have, mean and sd, 148 and 35 ml (LV at ED), 172 and 40 ml (RV), 119 and 26 g
#: (LV), 34 and 7 g (RV) (SSLLN, Table IV), and in pulmonary hypertension an RV of 204 and 59 ml, 50 and 14 g (Table
#: VI); a healthy LVEF is 58 to 61 and 5 % (Petersen et al., JCMR 2017). What 80 ACDC patients of five groups have by
#: their own label maps stands in parentheses; the ranges are wider by about a third at either end. LVV and RVV are of a
#: label map whose phase is not known; the last four compare two numbers of one patient.
# fmt: off
PLAUSIBLE: dict[str, tuple[float, float, str]] = {
    "LVV_ED": (30, 500, "ml"),               # (49 to 374)
    "LVV_ES": (8, 450, "ml"),                # (19 to 334)
    "RVV_ED": (30, 450, "ml"),               # (47 to 294)
    "RVV_ES": (6, 400, "ml"),                # (10 to 248)
    "LVV": (8, 500, "ml"),
    "RVV": (6, 450, "ml"),
    "LVM": (25, 450, "g"),                   # (37 to 272)
    "RVM": (8, 150, "g"),
    "LVEF": (1, 90, "%"),                    # (10 to 82)
    "RVEF": (1, 90, "%"),                    # (1.9 to 86)
    "RVV_ED / LVV_ED": (0.2, 5, ""),         # (.31 to 3.6)
    "LVM / LVV_ED": (0.2, 4, "g/ml"),        # (.46 to 1.95)
    "LVM at ES / at ED": (0.6, 1.6, ""),     # (.89 to 1.47: a base that moves in and out of the last slice)
    "RV / LV stroke volume": (0.1, 10, ""),  # (.17 to 2.8, and .06 of one RV that hardly moves in its label maps)
}
# fmt: on


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
    wall_of = {"myocardial_mass_g": "LV myocardium", "rv_mass_g": "RV wall"}
    masses = {key: round(float(mass(volumes[name])), 2) for key, name in wall_of.items() if name in volumes}
    return {"volumes_ml": {str(k): round(float(v), 2) for k, v in volumes.items()}, **masses}


def ejection_fraction(ed_ml: Numbers, es_ml: Numbers) -> Numbers:
    """(EDV - ESV) / EDV in %. Numbers, arrays or columns; two columns are matched by their index, here the patients."""
    ed_ml, es_ml = in_one_order("ejection_fraction", ed_ml, es_ml)
    need(
        not np.any(np.asarray(ed_ml) <= 0), "ejection_fraction", "an end-diastolic volume of 0 ml", "a positive volume"
    )
    return 100 * (ed_ml - es_ml) / ed_ml


def indices_of(ed: Mapping[Any, float] | pd.Series, es: Mapping[Any, float] | pd.Series) -> dict[str, float]:
    """Indices of one patient from the volumes (ml, by structure) of both phases, as `cardiac_indices` has them.

    An ejection fraction is NaN where there is no cavity at ED.
    """
    row = {f"{key}_{phase}": by[of] for key, of in _CAVITIES.items() for phase, by in zip(PHASES, (ed, es))}
    row |= {
        f"{key[0]}VEF": ejection_fraction(ed[of], es[of]) if ed[of] > 0 else np.nan for key, of in _CAVITIES.items()
    }
    return row | {key: mass(ed[of]) for key, of in _MASSES.items() if of in ed}


def doubts(indices: Mapping[Any, float], es: Mapping[Any, float] | pd.Series | None = None) -> list[str]:
    """What of one patient's indices no heart has (`PLAUSIBLE`), in words; none: [].

    Args:
        indices: some of those that `indices_of` gives; LVV and RVV are of a label map of unknown phase
        es: volumes (ml, by structure) at ES, to compare the mass of both phases
    """
    known = {key: float(indices[key]) for key in PLAUSIBLE if key in indices}
    strokes = [known.get(f"{v}VV_ED", 0) - known.get(f"{v}VV_ES", np.inf) for v in "RL"]
    pairs = {
        "RVV_ED / LVV_ED": (known.get("RVV_ED", 0), known.get("LVV_ED", 0)),
        "LVM / LVV_ED": (known.get("LVM", 0), known.get("LVV_ED", 0)),
        "LVM at ES / at ED": (0 if es is None else mass(float(es.get(_MASSES["LVM"], 0))), known.get("LVM", 0)),
        "RV / LV stroke volume": (strokes[0], strokes[1]),
    }
    known |= {key: a / b for key, (a, b) in pairs.items() if a > 0 and b > 0}
    found = []
    for key, (low, high, unit) in PLAUSIBLE.items():
        value = known.get(key, low)
        if not low <= value <= high:
            text = "none" if np.isnan(value) else f"{value:.3g} {unit}".rstrip()
            found.append(f"{key} {text} (hearts: {low:g} to {high:g}{_guess(key, value)})")
    return found


def _guess(key: str, value: float) -> str:
    """What an index outside its range may come from."""
    if key.endswith("EF"):
        guesses = {"ED and ES exchanged?": value < 0, "one label map twice?": value == 0, "none at ES?": value == 100}
    else:
        guesses = {"not there?": value == 0, "is the unit mm?": "/" not in key and not 1 < value < 1e4}
    return next((f"; {guess}" for guess, holds in guesses.items() if holds), "")


def doubts_of_map(told: Mapping[str, Any]) -> list[str]:
    """What of one label map's `volumes_and_masses` no heart has, in words, whatever its phase; none: []."""
    volumes = told["volumes_ml"]
    return doubts({"LVV": volumes["LV cavity"], "RVV": volumes["RV cavity"], "LVM": told["myocardial_mass_g"]})


def cardiac_indices(cohort: Cohort) -> pd.DataFrame:
    """Indices of each patient, or of each side or visit of one (`shapelab.data.rows.row_names`), from ED and ES label
    maps. Slices that nobody annotated are filled from those beside them, with a warning (`shapelab.data.gaps`).

    A warning names the patients with indices that no heart has (`PLAUSIBLE`); they stay in the table.

    Returns:
        DataFrame, one row a patient (index `patient`); LVV_ED, LVV_ES, RVV_ED, RVV_ES (ml), LVEF, RVEF (%; NaN without
        a cavity at ED), LVM (g, of the myocardium at ED), RVM (g) where the scheme has an RV wall, the patient's other
        facts that do not differ between the phases (group, height, weight, ...), and, where any patient is in doubt,
        `doubtful`: why, "" for the others

    Raises:
        UsageError: a scheme without LV and RV cavity
        DataError: a patient without exactly one ED and one ES subject, named
    """
    missing = [n for n in _CAVITIES.values() if n not in cohort.scheme.names]
    must(not missing, "cardiac_indices", f"scheme {cohort.scheme.name!r} without {missing}", "a heart's")
    own = row_names(cohort.table)
    if own.name == "row":  # each side or visit as a patient of its own
        of = dict(zip(own, cohort.table["patient"]))
        parts = (s.with_(facts={**s.facts, "patient": own[s.id]}) for s in cohort)
        table = cardiac_indices(Cohort(parts, cohort.name, cohort.scheme))
        return table.assign(patient=[of[name] for name in table.index])
    found: dict[str, dict[str, tuple[pd.Series, dict, np.ndarray]]] = {p: {} for p in cohort.patients}
    for s in cohort:
        phase, label = str(s.facts.get("phase")), s.label
        need(
            phase in PHASES and phase not in found[s.patient] and label is not None,
            s.where,
            f"phase {phase!r} of patient {s.patient!r} (twice, or none of ED and ES)",
            "one ED and one ES subject a patient",
        )
        whole = canonical_without_gaps(s.with_(image=None, label=label))[0]
        volumes = structure_volumes(np.asarray(whole.label), whole.spacing, cohort.scheme)
        found[s.patient][phase] = volumes, dict(s.facts), whole.spacing
    rows, why = {}, {}
    for patient, by_phase in found.items():
        need(
            set(by_phase) == set(PHASES),
            patient,
            f"only {sorted(by_phase)}",
            "ED and ES",
            "Leave the patient out with cohort.filter, or supply the missing phase.",
        )
        (ed, facts, voxel), (es, facts_es, voxel_es) = (by_phase[phase] for phase in PHASES)
        row = indices_of(ed, es)
        other = [] if np.allclose(voxel, voxel_es, rtol=0.01) else [f"voxels of {voxel} mm at ED, {voxel_es} at ES"]
        why[patient] = "; ".join([*doubts(row, es), *other])
        both = {k: (v, facts_es[k]) for k, v in facts.items() if k in facts_es and k not in row}
        # an array is no fact of the patient for a table
        same = (k for k, (a, b) in both.items() if np.ndarray not in (type(a), type(b)) and bool(a == b))
        rows[patient] = row | {k: facts[k] for k in same}
    if any(why.values()):
        rows = {patient: row | {"doubtful": why[patient]} for patient, row in rows.items()}
        warnings.warn(_warning("cardiac_indices", why), stacklevel=2)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("patient").drop(columns="patient", errors="ignore")


def _warning(where: str, why: Mapping[str, str], shown: int = 5) -> str:
    """Found, expected, what to do: every patient in doubt by name, the first few with the reason."""
    named = [patient for patient, text in why.items() if text]
    told = [f"{patient}: {why[patient]}" for patient in named[:shown]]
    rest = [f"and {', '.join(named[shown:])}"] if named[shown:] else []
    return (
        f"{where}: found what no heart has in {len(named)} of {len(why)} patients ({' | '.join([*told, *rest])}); "
        "expected numbers of adults' hearts (shapelab.metrics.clinical.PLAUSIBLE). "
        "They are in the table, named in its column `doubtful`: look at their label maps, phases and voxel sizes."
    )
