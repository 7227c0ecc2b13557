"""Who the phantoms are: five groups, and the factors of each heart drawn from published distributions.

Sources. NOR volumes and masses: healthy subjects of SSLLN, Table IV (by hand). RV (RV overload, pulmonary
hypertension): SSLLN, Table VI. DCM, HCM, MINF volumes and all ejection fractions, and the statistics of shape (length,
tilt, orientation, how far down the RV reaches): 80 patients of ACDC's training set, as group means and standard
deviations; no single patient is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from shapelab.data.facts import GROUPS
from shapelab.errors import one_of


@dataclass(frozen=True)
class GroupModel:
    """Distributions of one group, (mean, sd): volumes in ml, masses in g, EF in % on an interval, lengths in mm."""

    LVV: tuple[float, float]
    LVM: tuple[float, float]
    RVV: tuple[float, float]
    RVM: tuple[float, float]
    LVEF: tuple[float, float, float, float]  # mean, sd, lowest, highest
    RVEF: tuple[float, float, float, float]
    LVV_RVV: float  # correlation of the two ventricles beyond what body size makes
    LVV_LVM: float
    equator: float
    rv_short: tuple[float, float]  # how far the RV's end lies above the LV's apex, ED and ES
    rv_drop: tuple[float, float]  # how far the RV's base lies below the LV's, ED and ES
    rv_fullness: float  # 1 normal; above 1 the RV stays wide towards the apex
    rv_twist: float  # degrees from base to apex, RV turned about its pole: negative towards inferior
    rv_thin: float  # share of its depth the RV lacks all round: a small RV also reaches less far round the LV
    chord: tuple[float, float]  # septum: distance of the chord it is flattened to, in LV radii, ED and ES


MODELS = {
    "NOR": GroupModel((147.6, 34.7), (119.3, 25.7), (171.6, 39.5), (33.7, 7.3), (59.8, 4.5, 50.5, 72),
                      (54.6, 8, 40, 74), 0.85, 0.75, 0.15, (5, 8), (-1.5, 9), 1.0, -8, 0, (1.08, 1.2)),
    "DCM": GroupModel((290, 43), (178, 28), (177, 67), (36, 9), (19.2, 7.0, 6, 37), (36, 17.5, 6, 72),
                      0.45, 0.4, 0.25, (10, 14), (2.5, 7), 0.9, -5, 0.08, (1.12, 1.15)),
    "HCM": GroupModel((130, 38), (175, 55), (119, 36), (36, 8), (67.4, 8, 51, 86), (60.6, 10.5, 36, 82),
                      0.7, 0.55, 0.2, (15, 21), (2, 7), 0.72, -20, 0.10, (1.12, 1.2)),
    "MINF": GroupModel((175, 47), (122, 21), (115, 39), (32, 7), (30.5, 8.3, 12, 46), (55, 10, 30, 76),
                       0.4, 0.65, 0.2, (13, 18), (2.5, 8), 0.85, -5, 0.06, (1.08, 1.15)),
    "RV": GroupModel((114.8, 25.1), (124.2, 25.3), (204.3, 58.5), (49.9, 14.2), (54.8, 6.1, 40, 70), (30, 16, 5, 68),
                     0.3, 0.7, 0.15, (-2, -2), (0.5, 4.5), 1.6, 0, -0.03, (0.95, 0.92)),
}  # fmt: skip

#: Coronary territories of an infarct: centre angle (0 septum, 90 anterior, 180 lateral, 270 inferior), half width in
#: degrees, level and half height as shares of the LV's length (AHA territories LAD, LCX, RCA).
TERRITORIES = {"LAD": (50.0, 75.0, 0.78, 0.50), "LCX": (178.0, 48.0, 0.45, 0.38), "RCA": (275.0, 48.0, 0.38, 0.38)}
TERRITORY_SHARE = {"LAD": 0.65, "LCX": 0.13, "RCA": 0.22}


def lognormal(z: float, mean: float, sd: float) -> float:
    """Value with that mean and sd at standard normal score z."""
    s2 = np.log1p((sd / mean) ** 2)
    return float(np.exp(np.log(mean) - s2 / 2 + np.sqrt(s2) * z))


def _bounded(z: float, mean: float, sd: float, low: float, high: float) -> float:
    """Beta distribution on [low, high] with that mean and sd, at standard normal score z: no EF leaves its range."""
    m, v = (mean - low) / (high - low), (sd / (high - low)) ** 2
    k = m * (1 - m) / v - 1
    return float(low + (high - low) * stats.beta.ppf(stats.norm.cdf(z), m * k, (1 - m) * k))


def mixed_score(share: float, common: float, own: float) -> float:
    """Standard normal score with correlation `share` to the score `common`."""
    return share * common + np.sqrt(1 - share * share) * own


_N_EVEN = 10  # scores that are spread evenly: body, volumes, masses, EFs, length, shortening


@lru_cache(maxsize=32)
def _even_scores(seed: int, group: str, block: int) -> np.ndarray:
    """Normal scores (256, 10) of patients 256 * block to 256 * block + 255 of a group (Sobol points, shifted).

    A small cohort then has nearly the mean and sd of the population, though each patient is drawn without the others.
    """
    points = stats.qmc.Sobol(_N_EVEN, scramble=False)
    if block:
        points.fast_forward(256 * block)
    shift = np.random.default_rng([seed, GROUPS.index(group), 4]).random(_N_EVEN)
    return stats.norm.ppf(np.clip((points.random(256) + shift) % 1, 1e-4, 1 - 1e-4))


def draw_factors(seed: int, index: int, group: str, turn: int | None = None) -> dict[str, float]:
    """Factors of patient number `index`: a function of (seed, index, group, turn) alone.

    Args:
        turn: number of the patient within its group (default: `index`), which chooses its place in the even spread of
            the group's volumes and ejection fractions

    Returns:
        name -> float. height (cm), weight (kg), male (0/1), bsa (m2); targets LVV_ED, RVV_ED (ml), LVEF, RVEF (%),
        LVM, RVM (g); lengths in mm, angles in degrees, the rest shares (see `shapelab.phantoms.anatomy`).
        infarct_territory: 0 none, 1 LAD, 2 LCX, 3 RCA. shape_seed: of the smooth random deformations.
    """
    m, rng = MODELS[one_of("group", group, GROUPS)], np.random.default_rng([int(seed), int(index), 0])
    z = rng.standard_normal(44)  # a fixed number of scores: a factor added later does not change the others
    turn = int(index) if turn is None else int(turn)
    z[:_N_EVEN] = _even_scores(int(seed), group, turn // 256)[turn % 256]
    f: dict[str, float] = {"shape_seed": float(rng.integers(2**31))}
    f |= _body(rng, z[0], z[1])
    size = (f["bsa"] - 1.9) / 0.21  # score of body size
    left = mixed_score(0.45, size, z[2])
    right, wall = mixed_score(m.LVV_RVV, left, z[3]), mixed_score(m.LVV_LVM, left, z[4])
    rv_wall = mixed_score(0.6, right, z[5])
    for name, score in (("LVV", left), ("LVM", wall), ("RVV", right), ("RVM", rv_wall)):
        f[name if name.endswith("M") else f"{name}_ED"] = lognormal(np.clip(score, -2.4, 2.5), *getattr(m, name))
    f |= {
        "LVEF": _bounded(z[6], *m.LVEF),
        "RVEF": _bounded(mixed_score(0.5, z[6], z[7]), *m.RVEF),
        "wall_ratio": 1 + float(np.clip(0.012 * z[29], -0.025, 0.025)),  # wall volume ES : ED; conserved within 5 %
    }
    f |= _left_shape(m, f, z, group) | _right_shape(m, z) | _disease(rng, z, group)
    return f | {"angle": float(np.clip(126 + rng.gamma(2.4, 19.0), 128, 250))}  # LV -> RV in the array, ACDC: 172 +- 30


def _body(rng: np.random.Generator, z_height: float, z_weight: float) -> dict[str, float]:
    """Sex, height (cm), weight (kg) and body surface (Mosteller, m2); ACDC: 171 +- 9 cm, 76 +- 17 kg."""
    male = float(rng.random() < 0.62)
    height = float(np.clip((174.5 if male else 165.5) + 7.2 * z_height, 148, 198))
    bmi = lognormal(mixed_score(-0.1, z_height, z_weight), 25.8, 4.3)
    weight = float(np.clip(bmi * (height / 100) ** 2, 44, 140))
    bsa = float(np.sqrt(height * weight / 3600))
    return {"male": male, "height": round(height, 1), "weight": round(weight, 1), "bsa": bsa}


def _left_shape(m: GroupModel, f: dict, z: np.ndarray, group: str) -> dict[str, float]:
    """Length, profile, tilt and motion of the LV."""
    total = f["LVV_ED"] + f["LVM"] / 1.05
    length = 80.0 * (total / 240) ** 0.34 * np.exp(0.07 * z[8])
    return {
        "LV_length": float(length),
        "shortening": float(np.clip(0.15 * f["LVEF"] / 100 + 0.02 * z[9], 0.005, 0.2)),
        "base_share": float(np.clip(0.5 + 0.15 * z[11], 0.15, 0.85)),
        "apex_wall": float(np.clip(3.2 + 0.5 * z[12], 2.4, 4.5) * (1.3 if group == "HCM" else 1)),
        "equator": float(np.clip(m.equator + 0.07 * z[13], 0.05, 0.4)),
        "taper": float(np.clip(0.53 * np.exp(0.2 * z[40]), 0.35, 0.85)),
        "narrowing": float(np.clip(0.085 + 0.07 * z[14], 0, 0.25)),
        "narrowing_ES": float(np.clip(0.07 + 0.07 * z[38], -0.05, 0.25)),
        "basal_thinning_ES": float(np.clip(0.22 + 0.16 * z[36], -0.1, 0.6)),
        "base_thicker": float(np.clip(0.20 + 0.14 * z[15], -0.3, 0.6)),
        "septum_chord_ED": float(m.chord[0] * np.exp(0.04 * z[16])),
        "septum_chord_ES": float(m.chord[1] * np.exp(0.04 * (0.7 * z[16] + 0.7 * z[17]))),
        "tilt_x": float(np.clip(1.2 + 4.5 * z[18], -10, 12)),
        "tilt_y": float(np.clip(-1.8 + 3.8 * z[19], -11, 8)),
        "bow_x": float(3.5 * z[20]),
        "bow_y": float(3.5 * z[21]),
        "irregularity": float(np.exp(0.2 * z[22])),
    }


def _right_shape(m: GroupModel, z: np.ndarray) -> dict[str, float]:
    """Extent and fullness of the RV."""
    reach, drop = 5.0 * z[23], 2.5 * z[24]
    return {
        "rv_short_ED": float(np.clip(m.rv_short[0] + reach, -3, 30)),
        "rv_short_ES": float(np.clip(m.rv_short[1] + reach + 3 * z[25], -3, 36)),
        "rv_drop_ED": float(np.clip(m.rv_drop[0] + drop, 0, 10)),
        "rv_drop_ES": float(np.clip(m.rv_drop[1] + drop + 2.5 * z[26], 0, 18)),
        "rv_fullness": float(m.rv_fullness * np.exp(0.15 * z[27])),
        "rv_twist": float(m.rv_twist + 12 * z[10]),
        "rv_thin": float(m.rv_thin + 0.03 * z[39]),
        "rv_turn": float(9.0 * z[28]),
        "rv_fullness_ES": float(0.88 * np.exp(0.06 * z[37])),
    }


def _disease(rng: np.random.Generator, z: np.ndarray, group: str) -> dict[str, float]:
    """Hypertrophy (HCM) and infarct (MINF); zero strength elsewhere."""
    f = {
        "hypertrophy": 0.0,
        "hypertrophy_angle": 20.0,
        "hypertrophy_width": 60.0,
        "hypertrophy_level": 0.25,
        "hypertrophy_height": 0.5,
        "infarct_territory": 0.0,
        "infarct_angle": 0.0,
        "infarct_width": 50.0,
        "infarct_level": 0.5,
        "infarct_height": 0.4,
        "infarct_thinning": 0.0,
        "infarct_akinesia": 0.0,
    }
    if group == "HCM":
        kind = rng.choice(3, p=[0.7, 0.12, 0.18])  # asymmetric septal, apical, concentric
        f |= {
            "hypertrophy": float(np.exp(-0.6 + 0.4 * z[30])) * (1.0, 0.9, 0.1)[kind],
            "hypertrophy_angle": float(15 + 45 * z[31]),
            "hypertrophy_width": float((65, 180, 180)[kind] * np.exp(0.15 * z[32])),
            "hypertrophy_level": float((0.25, 0.85, 0.5)[kind] + 0.08 * z[33]),
        }
    if group == "MINF":
        name = rng.choice(list(TERRITORIES), p=list(TERRITORY_SHARE.values()))
        angle, width, level, height = TERRITORIES[name]
        f |= {
            "infarct_territory": float(list(TERRITORIES).index(name) + 1),
            "infarct_angle": float(angle + 10 * z[30]),
            "infarct_width": float(width * np.exp(0.15 * z[31])),
            "infarct_level": float(level + 0.05 * z[32]),
            "infarct_height": float(height * np.exp(0.12 * z[33])),
            "infarct_thinning": float(np.clip(0.40 + 0.10 * z[34], 0.15, 0.55)),
            "infarct_akinesia": float(np.clip(0.95 + 0.08 * z[35], 0.7, 1.05)),
        }
    return f
