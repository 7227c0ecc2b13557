"""How real the phantoms are, in numbers: features of label maps, compared between a real and a phantom cohort."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import ConvexHull

from shapelab.data.cohort import Cohort
from shapelab.data.geometry import bounding_box
from shapelab.data.orientation import canonical
from shapelab.data.subject import Subject
from shapelab.errors import must, need

_ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)
_HEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # relative heights, base to apex, at which areas are compared


def shape_features(subject: Subject) -> dict[str, float]:
    """Features of one heart's label map (scheme CARDIAC or BIVENTRICULAR, short axis).

    Returns:
        name -> value; lengths mm, areas cm2, angles from LV to RV centroid

        - lv_length, rv_length (labelled slices x spacing), rv_top, rv_end (RV's first and last slice against the LV's),
          cavity_end (LV wall beyond the cavity)
        - lv_area_10 ... lv_area_90, rv_area_..., wall_area_...: areas at relative heights of the LV, as shares of the
          largest; lv_area_max, rv_area_max
        - wall_mean, wall_sd (over sectors and slices), wall_septum_ratio (septal over lateral), wall_apex_ratio
        - septum_flatness: radius of the septal outline against the mean radius, at mid height (1 round, below 1 flat)
        - epi_oval, epi_3, epi_rough; endo_...: amplitude of angular frequency 2, 3 and 4 to 9, share of the radius
        - epi_step, endo_step, rv_step: change of the outline between neighbouring slices beyond a smooth course
        - rv_distance (centroid to centroid, in LV radii), rv_inferior (RV centroid towards inferior at 70 % height),
          rv_solidity (area over convex hull), rv_compact (perimeter^2 over 4 pi area)
        - centre_jitter: deviation of slice centres from a straight line; lean: slope of that line (mm a mm)

        Raises DataError where a heart has no LV or RV.
    """
    subject = canonical(subject, from_base=True)[0]
    label, spacing = subject.label, subject.spacing
    need(label is not None, subject.where, "no label map", "a label map")
    assert label is not None
    # a crop makes all that follows several times faster
    label = np.pad(label[bounding_box(label > 0) or ()], ((1, 1), (1, 1), (0, 0)))
    lv, cavity, rv = (label == 2) | (label == 3), label == 3, label == 1
    need(cavity.any() and rv.any(), subject.where, "no LV or no RV", "RV cavity 1, LV myocardium 2 and LV cavity 3")
    slices = np.flatnonzero(lv.any((0, 1)))
    first, n, dz = slices[0], slices[-1] - slices[0] + 1, spacing[2]
    rv_slices, cavity_slices = np.flatnonzero(rv.any((0, 1))), np.flatnonzero(cavity.any((0, 1)))
    f = {
        "lv_length": n * dz,
        "rv_length": (rv_slices[-1] - rv_slices[0] + 1) * dz,
        "rv_top": (rv_slices[0] - first) * dz,
        "rv_end": (slices[-1] - rv_slices[-1]) * dz,
        "cavity_end": (slices[-1] - cavity_slices[-1]) * dz,
    }
    f |= _areas(lv, cavity, rv, slices, spacing)
    outlines = _outlines(lv, cavity, rv, slices, spacing)
    return f | _outline_features(outlines, spacing) | _rv_features(rv, slices, spacing, outlines)


def _areas(
    lv: np.ndarray, cavity: np.ndarray, rv: np.ndarray, slices: np.ndarray, spacing: np.ndarray
) -> dict[str, float]:
    """Areas of LV cavity, wall and RV along the LV, and the largest of each in cm2."""
    pixel = spacing[0] * spacing[1] / 100
    at = (np.arange(len(slices)) + 0.5) / len(slices)
    out = {}
    for name, mask in (("lv", cavity), ("wall", lv & ~cavity), ("rv", rv)):
        area = mask[:, :, slices].sum((0, 1)) * pixel
        out[f"{name}_area_max"] = float(area.max())
        for h in _HEIGHTS:
            out[f"{name}_area_{round(100 * h)}"] = float(np.interp(h, at, area) / area.max())
    return out


def _radii(mask: np.ndarray, centre: np.ndarray, spacing: np.ndarray, angle: float) -> np.ndarray:
    """Outermost radius (mm) of a mask along 72 rays from `centre` (pixels), the first at `angle`; 0 where it misses."""
    r = np.arange(0, 90, 0.5)
    x = centre[0] + np.outer(np.cos(_ANGLES + angle), r) / spacing[0]
    y = centre[1] + np.outer(np.sin(_ANGLES + angle), r) / spacing[1]
    inside = ndimage.map_coordinates(mask.astype(np.float32), [x, y], order=1) > 0.5
    last = r.size - 1 - np.argmax(inside[:, ::-1], 1)
    return np.where(inside.any(1), last * 0.5 + 0.25, 0.0)


def _outlines(
    lv: np.ndarray, cavity: np.ndarray, rv: np.ndarray, slices: np.ndarray, spacing: np.ndarray
) -> dict[str, np.ndarray]:
    """Outlines of the LV in each slice about its own centre, angle 0 towards the RV."""
    both = np.argwhere(rv).mean(0) - np.argwhere(lv).mean(0)
    angle = np.arctan2(both[1] * spacing[1], both[0] * spacing[0])
    rows: dict[str, list[np.ndarray | int]] = {"k": [], "centre": [], "epi": [], "endo": [], "rv": []}
    for i, k in enumerate(slices):
        if lv[:, :, k].sum() < 20 or cavity[:, :, k].sum() < 12:
            continue
        centre = np.argwhere(lv[:, :, k]).mean(0)
        rows["k"].append(i)
        rows["centre"].append(centre * spacing[:2])
        for name, mask in (("epi", lv), ("endo", cavity), ("rv", rv)):
            rows[name].append(_radii(mask[:, :, k], centre, spacing, angle))
    return {name: np.array(v) for name, v in rows.items()} | {"angle": np.array(angle)}


def _step(radius: np.ndarray) -> float:
    """RMS second difference between neighbouring slices (mm), where the outline exists in all three."""
    if len(radius) < 3:
        return np.nan
    there = (radius[:-2] > 0) & (radius[1:-1] > 0) & (radius[2:] > 0)
    second = radius[:-2] - 2 * radius[1:-1] + radius[2:]
    second = second - second.mean(1, keepdims=True)  # the taper towards the apex is no step
    return float(np.sqrt(np.mean(second[there] ** 2))) if there.any() else np.nan


def _outline_features(o: dict[str, np.ndarray], spacing: np.ndarray) -> dict[str, float]:
    """Form, steps and wall of the outlines that `_outlines` gives."""
    if not len(o["k"]):
        return {}
    middle = slice(len(o["k"]) // 6, max(len(o["k"]) // 6 + 1, -(-4 * len(o["k"]) // 5)))
    out: dict[str, float] = {}
    for name in ("epi", "endo"):
        r = o[name][middle]
        share = np.abs(np.fft.rfft(r, axis=1))[:, :10] * 2 / len(_ANGLES) / r.mean(1, keepdims=True)
        amplitude = np.sqrt((share**2).mean(0))
        out |= {
            f"{name}_oval": amplitude[2],
            f"{name}_3": amplitude[3],
            f"{name}_rough": np.sqrt((amplitude[4:] ** 2).sum()),
            f"{name}_step": _step(o[name]),
        }
    wall = o["epi"] - o["endo"]
    septal, lateral = np.abs(_wrapped(_ANGLES)) < 0.7, np.abs(_wrapped(_ANGLES - np.pi)) < 0.7
    third = max(1, len(wall) // 3)
    centre_ray = o["epi"][middle][:, np.abs(_wrapped(_ANGLES)) < 0.3].mean()
    out |= {
        "rv_step": _step(o["rv"]),
        "wall_mean": wall[middle].mean(),
        "wall_sd": wall[middle].std(),
        "wall_septum_ratio": wall[middle][:, septal].mean() / wall[middle][:, lateral].mean(),
        "wall_apex_ratio": wall[-third:].mean() / wall[:third].mean(),
        "septum_flatness": centre_ray / o["epi"][middle].mean(),
    }
    z = o["k"] * spacing[2]
    if len(z) > 3:
        line = np.polynomial.polynomial.polyfit(z, o["centre"], 1)
        rest = o["centre"] - np.polynomial.polynomial.polyval(z, line).T
        out["centre_jitter"], out["lean"] = np.sqrt((rest**2).sum(1).mean()), np.hypot(*line[1])
    return {name: float(v) for name, v in out.items()}


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles from -pi to pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _hull_area(mask: np.ndarray) -> float:
    """Area (pixels) of the convex hull of a mask's pixels, corners and all."""
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    corners = (edge[:, None] + np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])).reshape(-1, 2)
    return float(ConvexHull(corners).volume)  # in the plane, `volume` is the area


def _rv_features(
    rv: np.ndarray, slices: np.ndarray, spacing: np.ndarray, o: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Form and place of the RV in the slices in which it has 40 pixels and more."""
    from skimage.measure import perimeter_crofton

    solid, compact, where = [], [], []
    for i, centre in zip(o["k"], o["centre"]):
        mask = rv[:, :, slices[i]]
        if mask.sum() < 40:
            continue
        solid.append(mask.sum() / _hull_area(mask))
        compact.append(perimeter_crofton(mask, 4) ** 2 / (4 * np.pi * mask.sum()))
        away = np.argwhere(mask).mean(0) * spacing[:2] - centre
        c, s, r = np.cos(o["angle"]), np.sin(o["angle"]), o["epi"][list(o["k"]).index(i)].mean()
        where.append([(i + 0.5) / len(slices), (c * away[0] + s * away[1]) / r, (s * away[0] - c * away[1]) / r])
    if len(where) < 2:
        return {}
    places = np.array(where)
    return {
        "rv_solidity": float(np.mean(solid)),
        "rv_compact": float(np.mean(compact)),
        "rv_distance": float(places[:, 1].mean()),
        "rv_inferior": float(np.interp(0.7, places[:, 0], places[:, 2])),
    }


def feature_table(cohort: Cohort | Iterable[Subject]) -> pd.DataFrame:
    """`shape_features` of each subject, with phase and group where they are known; index = subject id."""
    rows: dict[str, dict] = {}
    for s in cohort:
        need(s.id not in rows, s.where, f"the id {s.id!r} more than once", "a distinct id for each subject")
        rows[s.id] = {**shape_features(s), "phase": s.fact("phase"), "group": s.fact("group")}
    return pd.DataFrame.from_dict(rows, orient="index")


def realism_report(real: Cohort, phantom: Cohort, by_phase: bool = True) -> pd.DataFrame:
    """Features of real and phantom label maps side by side.

    Returns:
        DataFrame, one row a (phase and) feature, with real_mean, real_sd, phantom_mean, phantom_sd, difference (phantom
        minus real in units of the pooled sd: 0.2 is small, 0.8 large), sd_ratio. Sorted by the size of the difference.
    """
    tables = {"real": feature_table(real), "phantom": feature_table(phantom)}
    features = [c for c in tables["real"].columns if c not in ("phase", "group")]
    known = {name: set(t["phase"].dropna()) for name, t in tables.items()}
    phases = sorted(known["real"] & known["phantom"]) if by_phase else [None]
    left_out = {name: n for name, t in tables.items() if by_phase and (n := int((~t["phase"].isin(phases)).sum()))}
    if left_out:
        warnings.warn(
            f"realism_report: found {left_out} hearts without a phase that both cohorts have; expected one for each. "
            "They are left out; by_phase=False takes all.",
            stacklevel=2,
        )
    must(phases, "realism_report", "no phase that both cohorts have", "ED or ES in both")
    rows = []
    for phase in phases:
        a, b = (t if phase is None else t[t["phase"] == phase] for t in tables.values())
        for name in features:
            m, s = (a[name].mean(), b[name].mean()), (a[name].std(), b[name].std())
            pooled = np.sqrt((s[0] ** 2 + s[1] ** 2) / 2)
            rows.append(
                {
                    "phase": phase,
                    "feature": name,
                    "real_mean": m[0],
                    "real_sd": s[0],
                    "phantom_mean": m[1],
                    "phantom_sd": s[1],
                    "difference": (m[1] - m[0]) / pooled if pooled > 0 else 0.0,
                    "sd_ratio": s[1] / s[0] if s[0] > 0 else np.nan,
                }
            )
    table = pd.DataFrame(rows)
    return table.reindex(table["difference"].abs().sort_values(ascending=False).index).reset_index(drop=True)


def real_or_phantom(
    real: Cohort, phantom: Cohort, seed: int = 0, features: list[str] | None = None
) -> dict[str, float]:
    """How well a random forest tells real from phantom label maps by `shape_features`: patient-grouped 5-fold CV.

    Returns {"auc": ..., "accuracy": ..., and "importance: NAME" of the ten features it uses most}. AUC 0.5: it cannot.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    tables = [feature_table(c) for c in (real, phantom)]
    columns = features or [c for c in tables[0].columns if c not in ("phase", "group")]
    x = np.nan_to_num(np.concatenate([t[columns].to_numpy(float) for t in tables]), nan=-1.0)
    x = np.column_stack([x, np.concatenate([t["phase"] == "ES" for t in tables])])
    y = np.repeat([0, 1], [len(t) for t in tables])
    groups = [f"{name} {s.patient}" for name, c in (("real", real), ("phantom", phantom)) for s in c]
    forest = RandomForestClassifier(200, min_samples_leaf=2, random_state=seed, n_jobs=1)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    p = cross_val_predict(forest, x, y, groups=groups, cv=folds, method="predict_proba")[:, 1]
    out = {"auc": float(roc_auc_score(y, p)), "accuracy": float(((p > 0.5) == y).mean())}
    weight = forest.fit(x, y).feature_importances_
    names = [*columns, "phase"]
    return out | {f"importance: {names[i]}": float(weight[i]) for i in np.argsort(-weight)[:10]}
