"""Landmarks of a heart: one's own, from a CSV file, and those that a label map gives.

Positions are in mm. In a `Subject` they are in the frame of its affine; those taken from a label map by
`landmarks_from_label` are voxel index * spacing.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shapelab.data.facts import HEART_LANDMARKS
from shapelab.data.formats.text import read_rows
from shapelab.data.scheme import VENTRICLES, LabelScheme
from shapelab.errors import must, need, spacing3
from shapelab.files import atomic_write
from shapelab.types import Triple

COLUMNS = ("name", "x", "y", "z")
APEX_FIT_MM = 25.0  # from the lowest slices of this stretch, three at least, the apex is extrapolated
APEX_REACH_MM = 20.0  # no further than this past the lowest slice: two slices of 10 mm that were not taken

CLEARLY = 1.25  # times as wide: the end of a stack where the base is


def read_landmarks(file: str | Path) -> dict[str, np.ndarray]:
    """Landmarks of one subject: name -> (3,) float64 in mm, in the order of the file.

    Args:
        file: CSV (UTF-8) with the columns name, x, y, z in any order and one landmark a row; other columns are ignored,
            empty lines too

    Raises DataError naming file and line, what was found there and what was expected.
    """
    todo = "Write it as `name,x,y,z`, then one landmark a line, such as `apex,108.8,107.3,112.5`."
    header, rows = read_rows(file, COLUMNS, todo)
    landmarks: dict[str, np.ndarray] = {}
    for line, row in rows:
        cells = dict(zip(header, row, strict=True))
        name, texts = cells["name"], [cells[c] for c in "xyz"]
        try:
            position = np.array([float(text) for text in texts])
        except ValueError:
            position = np.array([np.nan])
        need(
            np.isfinite(position).all(),
            file,
            f"in line {line} x, y, z = {texts}",
            "three finite numbers in mm, with a decimal point",
            todo,
        )
        need(
            name and name not in landmarks,
            file,
            f"in line {line} {f'the name {name!r} again' if name else 'no name'}",
            "a name of its own for each landmark",
            todo,
        )
        landmarks[name] = position
    need(landmarks, file, "no landmark under the header", "one a line", todo)
    return landmarks


def write_landmarks(file: str | Path, landmarks: Mapping[str, np.ndarray]) -> None:
    """Write name -> (3,) mm as `read_landmarks` reads them, to 1e-6 mm. UsageError on anything else."""
    rows = []
    for name, position in landmarks.items():
        position = np.asarray(position, np.float64)
        must(
            position.shape == (3,) and np.isfinite(position).all() and str(name).strip(),
            "landmarks",
            f"{name!r}: {position.tolist()}",
            "a name and three numbers",
        )
        rows.append([str(name).strip(), *(f"{v:.6f}" for v in position)])
    with atomic_write(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([COLUMNS, *rows])


def landmarks_from_label(
    label: np.ndarray, spacing: Triple, scheme: LabelScheme, file: str | Path | None = None
) -> dict[str, np.ndarray]:
    """The six landmarks of SSLLN as far as a short-axis label map gives them: name -> (3,) mm (voxel index * spacing).

    Deviation: the paper's are marked by hand on the image, or found by its network ("directly detecting the six
    landmarks ... is neater and better", section III-E). From a label map, z being the slice axis and LV its cavity
    and myocardium:

    - the base is the end of the stack where the LV is wider
    - mitral valve centre: the LV cavity's centroid in its last slice towards the base, half a slice beyond it
    - apex: where the LV's cross-section, falling linearly over the lowest 25 mm as a paraboloid's does, would vanish,
      at most 20 mm past the lowest slice, on the line of the centroids: so an apex that was not scanned is guessed
    - the other four in the plane half way between the two, between the two slices next to it (in the nearest slice
      with a septum where the RV does not reach so far):
      RV insertion points: where the contact of myocardium and RV cavity ends, seen from the LV's centre; the anterior
      one lies a quarter turn from x to y past the direction LV -> RV, as in ACDC (mirrored arrays swap the two)
      RV lateral wall turning point: the RV cavity's point farthest from the chord of the insertion points
      LV lateral wall mid-point: the middle of the wall opposite the RV's centroid

    Args:
        label: (X, Y, Z) integers of the scheme
        spacing: (3,) mm
        file: what errors name

    Raises:
        UsageError: a scheme without LV cavity, LV myocardium and RV cavity
        DataError: an LV of fewer than three slices, or no slice with a septum
    """
    label, spacing = np.asarray(label), np.array(spacing3("landmarks_from_label: spacing", spacing))
    missing = [n for n in VENTRICLES if n not in scheme.names]
    must(not missing, "landmarks_from_label", f"scheme {scheme.name!r} without {missing}", "a heart's")
    must(label.ndim == 3, "landmarks_from_label", f"a label of shape {label.shape}", "(X, Y, Z)")
    cavity, wall, rv = (label == scheme.structure(n).value for n in VENTRICLES)
    area = (cavity | wall).sum((0, 1)).astype(float)
    slices = np.flatnonzero(area)
    need(
        len(slices) >= 3 and cavity.any(),
        file,
        f"an LV in {len(slices)} slices",
        "at least three, with a cavity",
        "Give landmarks.",
    )
    if _ends(area, slices)[1] > _ends(area, slices)[0]:
        slices = slices[::-1]  # from base to apex
    step = float(np.sign(slices[-1] - slices[0]))
    centres = {int(k): _centroid(cavity[:, :, k] | wall[:, :, k]) for k in slices}
    base = int(next(k for k in slices if cavity[:, :, k].any()))
    valve = np.array([*_centroid(cavity[:, :, base]), base - 0.5 * step])
    apex = _apex(slices, area, centres, step, spacing[2])
    at = (valve[2] + apex[2]) / 2
    below = int(np.clip(np.floor(at), 0, label.shape[2] - 2))
    beside = ((below, below + 1 - at), (below + 1, at - below))
    found = [(w, p) for k, w in beside if w > 1e-9 and (p := _in_slice(cavity, wall, rv, k, spacing)) is not None]
    if not found:  # an RV that ends above
        nearest = sorted(slices, key=lambda k: abs(k - at))
        points = ((k, _in_slice(cavity, wall, rv, k, spacing)) for k in map(int, nearest))
        others = ((k, p) for k, p in points if p is not None)
        at, found = next(((float(k), [(1.0, p)]) for k, p in others), (0.0, []))
        need(
            found,
            file,
            "no slice with a septum between RV cavity and LV myocardium",
            "both ventricles",
            "Give landmarks.",
        )
    middle = sum(w * p for w, p in found) / sum(w for w, _ in found)
    places = np.column_stack([middle, np.full(4, at)])
    return {name: p * spacing for name, p in zip(HEART_LANDMARKS, [*places, apex, valve])}


def base_end(area: np.ndarray) -> str | None:
    """At which end of a stack the base lies, where the LV (cavity and myocardium) is wider: "first" or "last".

    None where the ends differ by less than a quarter, or the LV is in fewer than three slices. Of 160 ACDC stacks (all
    from base to apex) 158 are told, and none is told wrongly.

    Args:
        area: (Z,) of the LV in each slice
    """
    slices = np.flatnonzero(area)
    if len(slices) < 3:
        return None
    first, last = _ends(np.asarray(area, float), slices)
    return "first" if first >= CLEARLY * last else "last" if last >= CLEARLY * first else None


def _ends(area: np.ndarray, slices: np.ndarray) -> tuple[float, float]:
    """Mean area of the first and of the last third of the slices."""
    third = max(1, len(slices) // 3)
    return float(area[slices[:third]].mean()), float(area[slices[-third:]].mean())


def _centroid(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(0)


def _apex(
    slices: np.ndarray, area: np.ndarray, centres: Mapping[int, np.ndarray], step: float, thickness: float
) -> np.ndarray:
    """Where the cross-section would vanish, in voxel indices."""
    last = slices[-max(3, int(round(APEX_FIT_MM / thickness))) :]
    slope, start = np.polyfit(last, area[last], 1)
    end = float(slices[-1])
    # where the cross-section does not fall, nothing says how far the LV goes on
    vanishes = step * (-start / slope - end) if step * slope < -1e-3 * area[last].mean() else 0.5
    beyond = np.clip(vanishes, 0.5, max(0.5, APEX_REACH_MM / thickness))
    xy = [np.polyval(np.polyfit(last, [centres[k][axis] for k in last], 1), end + step * beyond) for axis in (0, 1)]
    return np.array([*xy, end + step * beyond])


def _in_slice(cavity: np.ndarray, wall: np.ndarray, rv: np.ndarray, k: int, spacing: np.ndarray) -> np.ndarray | None:
    """Of slice k: lateral mid-wall, both insertion points, RV turning point (4, 2), voxel indices; None: no septum."""
    cavity, wall, rv = (mask[:, :, k] for mask in (cavity, wall, rv))
    if not (wall.any() and rv.any()):
        return None
    size = spacing[:2]
    centre = _centroid(cavity | wall) * size
    beside = np.logical_or.reduce([np.roll(rv, shift, axis) for axis in (0, 1) for shift in (-1, 1)])
    septum, outline = np.argwhere(wall & beside) * size, np.argwhere(rv) * size
    if len(septum) < 2:
        return None
    towards = outline.mean(0) - centre
    turn = np.arctan2(towards[1], towards[0])

    def angles(points: np.ndarray) -> np.ndarray:
        return (np.arctan2(*(points - centre).T[::-1]) - turn + np.pi) % (2 * np.pi) - np.pi

    seen = angles(septum)
    anterior, inferior = septum[seen.argmax()], septum[seen.argmin()]
    chord = anterior - inferior
    away = np.array([chord[1], -chord[0]])
    reach = (outline - inferior) @ away * np.sign(away @ towards) / max(np.linalg.norm(away), 1e-9)
    turning = outline[reach > reach.max() - size.max() / 2].mean(0)
    # the wall's voxels within a narrow sector opposite the RV
    ring = np.argwhere(wall) * size
    opposite = np.abs(np.abs(angles(ring)) - np.pi) < 0.12
    if not opposite.any():
        return None
    distance = np.linalg.norm(ring[opposite] - centre, axis=1)
    radius = (distance.min() + distance.max()) / 2
    lateral = centre - radius * np.array([np.cos(turn), np.sin(turn)])
    return np.stack([lateral, anterior, inferior, turning]) / size
