"""What is measured of a joint space on scans that it has not seen. Each table has one row a scan, or several.

    scored        Dice of each structure
    retrieval     how near a scan's code lies to that of its own label map, and to that of the same heart's other scan
    walks         shapes between the scan of one patient and that of another (Fig. 3)
    smoothness    curvature of outputs, beside label maps, rough label maps (Fig. 2a) and what the space makes of them
    robustness    Dice and impossible shapes against noise, missing slices, an unseen contrast
    statistics    instance normalisation against running statistics

A `reader` is whatever has `segment(images)`, `encode_images(images)` and the attributes of `JointSpace`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from shapelab.augment import missing_slices, noisy
from shapelab.data.grid import z_normalised
from shapelab.data.scheme import LabelScheme
from shapelab.data.volumes import Scans
from shapelab.metrics import dice_table, plausibility, surface_curvature
from shapelab.metrics.smoothness import SCALE_MM
from shapelab.models.joint_space import STATISTICS, JointSpace

MEAN = "mean"  # beside the structures
#: kind of corruption -> strengths. Noise: sd, where the image's own is 1; missing: share of the slices.
CORRUPTIONS = {"noise": (0.0, 0.5, 1.0, 2.0), "missing slices": (0.0, 0.1, 0.2, 0.4)}
CONTRAST, GIVEN = "unseen contrast", "given label maps"
SEED = 17  # of noise, of the slices that are missing, of rough label maps: the same for every method


def whose(scans: Scans) -> pd.DataFrame:
    """scan, patient, modality: a row a scan."""
    names = {"scan": list(scans.table.index), "patient": scans.table["patient"].to_numpy()}
    return pd.DataFrame({**names, "modality": scans.table["modality"].to_numpy()})


def scored(made: np.ndarray, scans: Scans) -> pd.DataFrame:
    """Dice of label maps (N, X, Y, Z), integers of the scheme: one row a (scan, structure), and "mean".

    Columns: scan, patient, modality, structure, dice.
    """
    found = dice_table(made, scans.scheme.integers(scans.labels), scans.scheme)
    rows = pd.concat([whose(scans), found.assign(**{MEAN: found.mean(axis=1)})], axis=1)
    return rows.melt(["scan", "patient", "modality"], var_name="structure", value_name="dice")


def plausible(labels: np.ndarray, scheme: LabelScheme) -> pd.DataFrame:
    """violations and plausible of label maps (N, X, Y, Z), a row each."""
    found = [plausibility(label, scheme) for label in labels]
    return pd.DataFrame([{"violations": int(f["violations"]), "plausible": bool(f["plausible"])} for f in found])


def _judged(made: np.ndarray, scans: Scans) -> pd.DataFrame:
    """scan, patient, modality, dice (the mean of structures), violations, plausible: a row a scan."""
    found = dice_table(made, scans.scheme.integers(scans.labels), scans.scheme)
    return pd.concat([whose(scans), found.mean(axis=1).rename("dice"), plausible(made, scans.scheme)], axis=1)


# -------------------------------------------------------------------------------------------------------------- codes


def retrieval(images: np.ndarray, maps: np.ndarray, own: np.ndarray) -> pd.DataFrame:
    """How near codes of scans lie to those of their own label maps, by Euclidean distance.

    Args:
        images: (N, d) codes of scans
        maps: (M, d) codes of the label maps, each once
        own: (N,) which of them is the scan's

    Returns a row a scan: rank (1: none lies nearer than its own), own and others (distance; the mean of the others'),
    and chance (of rank 1).
    """
    far = np.linalg.norm(images[:, None] - maps[None], axis=2)
    mine = far[np.arange(len(far)), own]
    rank = 1 + (far < mine[:, None]).sum(1)
    others = (far.sum(1) - mine) / max(1, len(maps) - 1)
    return pd.DataFrame({"rank": rank, "own": mine, "others": others, "chance": 1 / len(maps)})


def twin_ranks(codes: np.ndarray, patients: np.ndarray, modalities: np.ndarray) -> np.ndarray:
    """(N,) of each scan the rank of the same patient's scan of another modality among all of that modality; NaN where
    there is none.

    Args:
        codes: (N, d)
        patients: (N,)
        modalities: (N,)
    """
    far = np.linalg.norm(codes[:, None] - codes[None], axis=2)
    found = np.full(len(codes), np.nan)
    for i, (patient, modality) in enumerate(zip(patients, modalities, strict=True)):
        twins = np.flatnonzero((patients == patient) & (modalities != modality))
        if len(twins):
            there = modalities == modalities[twins[0]]
            found[i] = 1 + (far[i, there] < far[i, twins[0]]).sum()
    return found


def codes(reader: JointSpace, scans: Scans) -> pd.DataFrame:
    """`retrieval` and `twin_ranks` (column twin) of the scans, beside scan, patient and modality; where label maps are
    not read, twin alone."""
    table, images = whose(scans), reader.encode_images(scans)
    table["twin"] = twin_ranks(images, table["patient"].to_numpy(), table["modality"].to_numpy())
    if not reader.reads_labels:
        return table
    flat = scans.labels.reshape(len(scans), -1)
    _, first, own = np.unique(flat, axis=0, return_index=True, return_inverse=True)  # CT and MR of a heart share one
    maps = reader.encode(scans.scheme.integers(scans.labels[first]))
    return pd.concat([table, retrieval(images, maps, own.ravel())], axis=1)


def walks(reader: JointSpace, scans: Scans, pairs: int = 10, steps: int = 9) -> pd.DataFrame:
    """Straight lines from the code of a scan to that of another patient's scan, of another modality where there is one.

    Returns one row a (pair, step): source, target (names of scans), t (0 to 1), violations, plausible, change (1 - the
    mean Dice with the step before; NaN at the first).
    """
    table, found = whose(scans), []
    kinds = list(dict.fromkeys(table["modality"]))
    sources, targets = (table.index[table["modality"] == kind] for kind in (kinds[0], kinds[-1]))
    for number, source in enumerate(sources[:pairs]):
        others = [i for i in targets if table["patient"][i] != table["patient"][source]]
        target = others[number % len(others)]
        a, b = reader.encode_images(scans[[source, target]])
        t = np.linspace(0, 1, steps)
        made = reader.label_maps(a + t[:, None] * (b - a))
        change = 1 - dice_table(made[1:], made[:-1], scans.scheme).mean(axis=1).to_numpy()
        names = {"pair": number, "source": table["scan"][source], "target": table["scan"][target]}
        rows = plausible(made, scans.scheme).assign(**names, t=t, change=[np.nan, *change])
        found.append(rows[[*names, "t", "violations", "plausible", "change"]])
    return pd.concat(found, ignore_index=True)


# --------------------------------------------------------------------------------------------------------- smoothness


def roughened(labels: np.ndarray, share: float = 0.3, seed: int = SEED) -> np.ndarray:
    """Label maps (N, X, Y, Z) as rough as outlines drawn in haste: a share of the voxels takes what one of its six
    neighbours has, so that nothing moves but borders."""
    rng = np.random.default_rng(seed)
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1), (1, 1)), mode="edge")
    shifts = [(a, d) for a in (1, 2, 3) for d in (-1, 1)]
    inner = (slice(None), *[slice(1, -1)] * 3)
    neighbours = np.stack([np.roll(padded, d, axis=a)[inner] for a, d in shifts])
    which = rng.integers(len(shifts), size=labels.shape)
    taken = np.take_along_axis(neighbours, which[None], axis=0)[0]
    return np.where(rng.random(labels.shape) < share, taken, labels)


def curvatures(labels: np.ndarray, scans: Scans) -> pd.DataFrame:
    """Mean absolute curvature (1/mm) of each structure's outer surface, one column a structure: what lies in a
    structure is taken with it, and the scale is at least a voxel. NaN where there is none."""
    scheme = scans.scheme
    spacing = scans.grid.spacing
    scale = max(SCALE_MM, min(spacing))
    within = {
        name: scheme.labels_of(name, *(inner for inner, outer in scheme.inside or () if outer == name))
        for name in scheme.names
    }
    return pd.DataFrame(
        [
            {name: surface_curvature(np.isin(label, values), spacing, scale) for name, values in within.items()}
            for label in labels
        ]
    )


def smoothness(reader: JointSpace, scans: Scans) -> pd.DataFrame:
    """Curvature and Dice of what the reader makes of images, of the label maps that were given, of these made rough,
    and of what it makes of the rough ones (where it reads label maps).

    Returns one row a (of, scan): of, scan, patient, modality, curvature (the mean of structures, 1/mm), dice (with the
    label map that was given).
    """
    truth = scans.scheme.integers(scans.labels)
    rough = roughened(truth)
    kinds = {"output": reader.segment(scans), "given": truth, "rough": rough}
    if reader.reads_labels:
        kinds["rough, rebuilt"] = reader.reconstruct(rough)
    parts = []
    for name, made in kinds.items():
        curved = curvatures(made, scans).mean(axis=1).rename("curvature")
        dice = dice_table(made, truth, scans.scheme).mean(axis=1).rename("dice")
        parts.append(pd.concat([whose(scans), curved, dice], axis=1).assign(of=name))
    found = pd.concat(parts, ignore_index=True)
    return found[["of", *[c for c in found if c != "of"]]]


# --------------------------------------------------------------------------------------------------------- robustness


def robustness(reader: JointSpace, scans: Scans, unseen: Scans | None = None) -> pd.DataFrame:
    """Dice and impossible shapes against growing corruption (`CORRUPTIONS`); images are normalised anew afterwards.
    Beside them the label maps that were given: on a coarse grid some of these are impossible as well.

    Args:
        unseen: scans of contrasts that nothing was trained on

    Returns one row a (kind, strength, scan): kind, strength, scan, patient, modality, dice, violations, plausible.
    """
    ways = {"noise": noisy, "missing slices": missing_slices}
    images, parts = scans.images.astype(np.float32), []
    clean = _judged(reader.segment(scans.images), scans)
    for kind, strengths in CORRUPTIONS.items():
        for strength in strengths:
            found = clean
            if strength:
                changed = np.stack([z_normalised(i) for i in ways[kind](images, strength, SEED)])
                found = _judged(reader.segment(changed), scans)
            parts.append(found.assign(kind=kind, strength=strength))
    given = _judged(scans.scheme.integers(scans.labels), scans)
    parts += [clean.assign(kind=CONTRAST, strength=0.0), given.assign(kind=GIVEN, strength=0.0)]
    if unseen is not None:
        parts.append(_judged(reader.segment(unseen.images), unseen).assign(kind=CONTRAST, strength=1.0))
    found = pd.concat(parts, ignore_index=True)
    first = ["kind", "strength"]
    return found[[*first, *[c for c in found if c not in first]]]


def statistics(reader: JointSpace, scans: Scans) -> pd.DataFrame:
    """Dice (the mean of structures) and rank of each scan by each volume's own statistics and by running ones.

    Returns one row a (statistics, scan): statistics, scan, patient, modality, dice, and rank where label maps are read.
    """
    usual, parts = reader.statistics, []
    for name in STATISTICS:
        reader.statistics = name
        found = codes(reader, scans)
        dice = dice_table(reader.segment(scans), scans.scheme.integers(scans.labels), scans.scheme).mean(axis=1)
        ranks = [c for c in ("rank",) if c in found]
        parts.append(found[["scan", "patient", "modality", *ranks]].assign(dice=dice, statistics=name))
    reader.statistics = usual
    return pd.concat(parts, ignore_index=True)
