"""Who the whole-heart phantoms are: six groups, and the factors of each heart drawn from published distributions.

Ventricles share their shape (wall pattern, taper, septum, extent of the RV) with the short-axis hearts of
`shapelab.phantoms.population`; what a whole heart has besides, and the sizes of normals, are drawn here.

Sources, mean +- sd of men and of women. LV, RV and largest LA volume: Hudsmith et al. 2005 (healthy volunteers, bSSFP).
LV mass: Kawel-Boehm et al. 2015. RA: 77 +- 11 ml/m2 (Radiology 1994; 191: 137, eight healthy subjects). Ascending
aorta at the level of the pulmonary bifurcation: Framingham, men 34.1 +- 3.9, women 31.9 +- 3.5 mm (Rogers et al. 2013).
Pulmonary trunk 25.1 +- 2.8 mm, its ratio to the aorta .77 +- .09: Truong et al. 2012. The volumes of DCM and HCM
and the ventricles of PH are those of the short-axis groups DCM, HCM and RV. Volumes of the pieces of aorta and
pulmonary artery in a field of view have no published value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from shapelab.errors import one_of
from shapelab.phantoms.patients import Patient
from shapelab.phantoms.population import draw_factors, lognormal, mixed_score

#: Groups: normal, left atrial enlargement, ascending aortic dilatation, pulmonary hypertension, DCM, HCM
WHOLE_GROUPS = ("NOR", "LAE", "AAD", "PH", "DCM", "HCM")

# (mean, sd) of women and of men
_LVV = ((135.0, 26.0), (160.0, 29.0))
_LVM = ((98.0, 21.0), (134.0, 21.0))
_RVV = ((148.0, 35.0), (190.0, 33.0))
_LAV = ((89.0, 21.0), (103.0, 30.0))
_RAV = ((77.0, 11.0),) * 2  # ml/m2
_AORTA = ((31.9, 3.5), (34.1, 3.9))
_TRUNK = ((24.3, 2.6), (25.9, 2.8))  # 25.1 +- 2.8 of both
_BODY = ((1.80, 0.19), (1.95, 0.20))  # m2, of the bodies that `population` draws


@dataclass(frozen=True)
class WholeHeartModel:
    """What sets a group apart: the short-axis group its ventricles have, and factors on the sizes of normals."""

    ventricles: str = "NOR"
    left_atrium: float = 1.0
    right_atrium: float = 1.0
    aorta: float = 1.0
    trunk: float = 1.0


WHOLE_MODELS = {
    "NOR": WholeHeartModel(),
    "LAE": WholeHeartModel(left_atrium=1.75),
    "AAD": WholeHeartModel(aorta=1.38),
    "PH": WholeHeartModel("RV", right_atrium=1.3, trunk=1.36),
    "DCM": WholeHeartModel("DCM", left_atrium=1.4, right_atrium=1.1),
    "HCM": WholeHeartModel("HCM", left_atrium=1.25),
}
#: Points that are shifted at random, each along R, A, S of the heart's frame, with the sd in mm
JITTER = {"mitral": 1.2, "tricuspid": 2.0, "la": 2.0, "ra": 2.0, "ao": 2.0, "arch": 2.5, "pa": 1.5, "lpa": 2.5,
          "rpa": 2.5, "vein1": 2.0, "vein2": 2.0, "vein3": 2.0, "vein4": 2.0}  # fmt: skip


@lru_cache(maxsize=256)
def _factors(who: Patient) -> tuple[tuple[str, float], ...]:
    seed, index, group, turn = who
    m = WHOLE_MODELS[one_of("group", group, WHOLE_GROUPS)]
    f = draw_factors(seed, index, m.ventricles, turn)
    rng = np.random.default_rng([int(seed), int(index), WHOLE_GROUPS.index(group), 7])
    z = np.clip(rng.standard_normal(96), -2.4, 2.4)  # a fixed number of scores: a later factor changes no other one
    sex = int(f["male"])
    body = float(np.clip((f["bsa"] - _BODY[sex][0]) / _BODY[sex][1], -2.5, 2.5))
    left = mixed_score(0.45, body, z[0])
    if m.ventricles == "NOR":
        f["LVV_ED"] = lognormal(left, *_LVV[sex])
        f["RVV_ED"] = lognormal(mixed_score(0.8, left, z[1]), *_RVV[sex])
        f["LVM"] = lognormal(mixed_score(0.7, left, z[2]), *_LVM[sex])
    vessel = mixed_score(0.35, body, z[3])
    f |= {
        "LAV": m.left_atrium * lognormal(mixed_score(0.4, left, z[4]), *_LAV[sex]),
        "RAV": m.right_atrium * lognormal(mixed_score(0.2, left, z[5]), *_RAV[sex]) * f["bsa"],
        "aorta": m.aorta * lognormal(mixed_score(0.65, vessel, z[6]), *_AORTA[sex]),
        "trunk": m.trunk * lognormal(mixed_score(0.65, vessel, z[7]), *_TRUNK[sex]),
    }
    f |= _shape(z[8:40], rng)
    scores = iter(z[40:])
    f |= {f"{name}_{axis}": float(sd * next(scores)) for name, sd in JITTER.items() for axis in "xyz"}
    return tuple(f.items())


def _shape(z: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Shapes beyond size: lengths in mm, angles in degrees, the rest ratios."""
    return {
        "rv_drop_ED": float(np.clip(7 + 1.8 * z[0], 3, 11)),
        "la_flat": float(np.exp(0.09 * z[1])),
        "la_wide": float(np.exp(0.08 * z[2])),
        "ra_long": float(np.exp(0.09 * z[3])),
        "ra_wide": float(np.exp(0.08 * z[4])),
        "veins": float(np.clip(6.3 + 0.8 * z[5], 4.6, 8.2)),
        "branches": float(np.clip(0.74 + 0.05 * z[6], 0.62, 0.86)),
        "arch": float(rng.random() < 0.5),
        "root": float(np.exp(0.06 * z[7])),
        "cavae": float(np.clip(9.5 + 1.0 * z[8], 7.5, 12)),
        "descending": float(np.clip(12.0 + 1.2 * z[9], 9.5, 15)),
        "warp": float(np.clip(1.8 + 0.5 * z[10], 0.8, 3.0)),
        "turn_x": float(7 * z[11]),
        "turn_y": float(7 * z[12]),
        "turn_z": float(7 * z[13]),
        "shift_x": float(3.0 * z[14]),
        "shift_y": float(3.0 * z[15]),
        "shift_z": float(3.0 * z[16]),
    }


def whole_heart_factors(who: Patient) -> dict[str, float]:
    """Factors of one whole heart: a function of the patient's key alone.

    Returns:
        name -> float. Those of `population.draw_factors` at ED; LVV_ED, RVV_ED, LAV, RAV (ml) and LVM (g), the sizes
        the drawn heart has; aorta and trunk (mm), the diameters of ascending aorta and pulmonary trunk; lengths in mm,
        angles in degrees, the rest ratios; and the random shift of each part (`JITTER`), in mm of the heart's frame.
    """
    return dict(_factors(who))
