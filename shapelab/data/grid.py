"""From a scan's own voxels to the grid a model works on, and back.

One 4x4 matrix per subject takes grid voxels to scan voxels; it holds the crop, the resampling and, where asked for,
the rotation, so that a prediction comes back to the scan's own voxels through its inverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from shapelab.data.cohort import Cohort
from shapelab.data.facts import RV_SIDE_MM
from shapelab.data.gaps import without_gaps
from shapelab.data.geometry import bounding_box
from shapelab.data.scheme import LV, VENTRICLES, LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import must, need, one_of, spacing3, whole
from shapelab.types import Shape3, Triple, Vector3

CENTRES = ("auto", "lv", "heart", "volume")
ALIGNMENTS = ("none", "rigid")


@dataclass(frozen=True)
class Grid:
    """Shape (X, Y, Z) in voxels and spacing in mm of the box a model sees."""

    shape: Shape3
    spacing: Vector3

    if TYPE_CHECKING:  # what comes is made tuples of

        def __init__(self, shape: Sequence[int] | np.ndarray, spacing: Triple) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(whole("Grid: shape", int(n)) for n in self.shape))
        object.__setattr__(self, "spacing", spacing3("Grid: spacing", self.spacing))
        must(len(self.shape) == 3, "Grid", f"shape {self.shape}", "three positive integers")

    @property
    def extent(self) -> tuple[float, float, float]:
        """Size of the box in mm."""
        x, y, z = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return x, y, z

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} at {'x'.join(f'{s:g}' for s in self.spacing)} mm"


@dataclass(frozen=True, eq=False)
class GridTransform:
    """How one subject was laid on a grid: `matrix` (4x4) takes grid voxel indices to the subject's voxel indices."""

    grid: Grid
    matrix: np.ndarray
    shape: tuple[int, ...]
    scheme: LabelScheme


@dataclass(frozen=True, eq=False)
class GridSample:
    """A subject on a grid. `outside` is the share of labelled volume that the grid cuts off (0 to 1)."""

    label: np.ndarray | None
    image: np.ndarray | None
    transform: GridTransform
    subject: Subject = field(repr=False)
    outside: float = 0.0


def to_grid(subject: Subject, grid: Grid, centre: str | Iterable[float] = "auto", align: str = "none") -> GridSample:
    """Lay a subject on a grid; sizes in mm are kept. Slices that nobody annotated, the empty ones between drawn ones,
    are filled from those beside them, with a warning (`shapelab.data.gaps`).

    Args:
        subject: with a label map, unless `centre` is "volume" or a position and `align` is "none"
        grid: shape and spacing of the result
        centre: what comes to the middle of the grid: "lv" the centroid of LV cavity and myocardium, "heart" that of all
            structures, "volume" the middle of the scan, (3,) a position in voxel index * spacing (mm); "auto" is "lv"
            where the scheme has one, else "heart", else (no label) "volume"
        align: "rigid" also turns the heart about the through-plane axis until the RV cavity's centroid lies straight to
            the left (-x) of the LV's, which takes out how the patient lay and how the slices were planned (spread on
            ACDC: 130 degrees), and moves the middle of the grid 18 mm from there towards the RV, so that a box of 144
            mm holds both ventricles; size and shape are not touched

    Returns:
        GridSample: label (X, Y, Z) by linear interpolation of the one-hot map (averaged over each grid voxel where the
        grid is coarser than the scan) and argmax, image linear likewise, and the transform for `from_grid`

    Raises:
        DataError: an empty label, or no RV to align by
        UsageError: unknown `centre` or `align`
    """
    label, image, spacing = subject.label, subject.image, subject.spacing
    if label is not None:
        label = without_gaps(label, spacing, subject.scheme, subject.where)
    middle = _centre(subject, label, spacing, centre)
    rotation = _rotation(subject, label, align)
    if align == "rigid":
        middle = middle + rotation @ (-RV_SIDE_MM, 0, 0)
    # grid index -> mm from the middle -> (turned) -> mm in the scan -> scan index
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1 / spacing) @ rotation @ np.diag(grid.spacing)
    matrix[:3, 3] = middle / spacing - matrix[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    own = image if label is None else label
    assert own is not None  # a subject has one of them
    transform = GridTransform(grid, matrix, own.shape, subject.scheme)
    # a coarse grid averages the scan instead of skipping
    oversampling = tuple(int(max(1, round(g / s))) for g, s in zip(grid.spacing, spacing, strict=True))
    new_label, outside = None, 0.0
    if label is not None:
        channels = subject.scheme.channels(label)
        box = bounding_box(channels, margin=1) or np.s_[:1, :1, :1]  # 3-10x less to interpolate
        cropped = matrix.copy()
        cropped[:3, 3] -= np.array([side.start for side in box])
        soft = _resample(_onehot_tensor(channels[box], subject.scheme.n_classes), cropped, grid.shape, oversampling)
        new_label = subject.scheme.integers(_argmax_with_background(soft))
        inside = float(soft.sum()) * np.prod(grid.spacing)
        outside = max(0.0, 1 - inside / (float((label > 0).sum()) * np.prod(spacing)))
    if image is not None:
        image = _resample(torch.from_numpy(image)[None], matrix, grid.shape, oversampling)[0].numpy()
    return GridSample(new_label, image, transform, subject, outside)


def from_grid(array: np.ndarray, transform: GridTransform) -> np.ndarray:
    """Bring a result on the grid back to the subject's own voxels; the inverse of `to_grid`.

    Args:
        array: probabilities (C, X, Y, Z), channel 0 the background, or a label map (X, Y, Z), on the transform's grid
        transform: as `to_grid` returned it

    Returns:
        label map (X, Y, Z) of the subject's shape, integers of its scheme; background outside the grid
    """
    array, scheme = np.asarray(array), transform.scheme
    need(
        array.shape[-3:] == transform.grid.shape and array.ndim in (3, 4),
        None,
        f"an array of shape {array.shape}",
        f"(X, Y, Z) or (C, X, Y, Z) on the grid {transform.grid.shape}",
    )
    need(
        array.ndim == 3 or len(array) == scheme.n_classes,
        None,
        f"{len(array)} channels",
        f"{scheme.n_classes}: background and {scheme.names}",
    )
    soft = (
        torch.from_numpy(np.ascontiguousarray(array[1:], dtype=np.float32))
        if array.ndim == 4
        else _onehot_tensor(scheme.channels(array), scheme.n_classes)
    )
    back = np.linalg.inv(transform.matrix)
    spacing_ratio = np.linalg.norm(back[:3, :3], axis=0)  # grid voxels per scan voxel, along the scan's axes
    soft = _resample(soft, back, transform.shape, tuple(int(max(1, np.floor(r + 0.25))) for r in spacing_ratio))
    return scheme.integers(_argmax_with_background(soft))


def stack_labels(
    cohort: Cohort, grid: Grid, centre: str | Iterable[float] = "auto", align: str = "none", progress: bool = False
) -> tuple[np.ndarray, pd.DataFrame]:
    """Lay the label maps of a cohort on a grid.

    Returns:
        labels (N, X, Y, Z) uint8, and the cohort's table with a column `outside` (share of labelled volume cut off)
    """
    need(len(cohort), cohort.name, "no subject", "at least one")
    from tqdm.auto import tqdm

    samples = [
        to_grid(s.with_(image=None), grid, centre, align)
        for s in tqdm(cohort, desc=f"{cohort.name} on {grid}", disable=not progress, leave=False)
    ]
    table = cohort.table
    table["outside"] = [s.outside for s in samples]
    return np.stack([s.label for s in samples if s.label is not None]), table


def to_unit_range(image: np.ndarray, percentiles: tuple[float, float] = (1, 99)) -> np.ndarray:
    """Clip at two percentiles of the image and scale to [0, 1] float32; a constant image becomes 0."""
    low, high = np.percentile(image, percentiles)
    if high <= low:
        return np.zeros(image.shape, np.float32)
    return ((np.clip(image, low, high) - low) / (high - low)).astype(np.float32)


def _centroid(subject: Subject, label: np.ndarray | None, values: Iterable[int], what: str, instead: str) -> np.ndarray:
    """Centroid in mm (voxel index * spacing) of the voxels that hold one of `values`; DataError if there is none."""
    assert label is not None  # asked for before
    mask = np.isin(label, list(values))
    total = mask.sum()
    need(
        total,
        subject.where,
        f"no voxel of {what}",
        "a label map that holds it",
        f"Leave this subject out, or use {instead}.",
    )
    sums = [
        np.dot(np.arange(n), mask.sum(axis=tuple(a for a in range(3) if a != axis)))
        for axis, n in enumerate(mask.shape)
    ]
    return np.array(sums) / total * subject.spacing


def _centre(
    subject: Subject, label: np.ndarray | None, spacing: np.ndarray, centre: str | Iterable[float]
) -> np.ndarray:
    """Middle of the box in mm (voxel index * spacing), see `to_grid`."""
    if not isinstance(centre, str):
        position = np.asarray(list(centre), dtype=float)
        must(
            position.shape == (3,) and np.isfinite(position).all(),
            "to_grid",
            f"centre={centre}",
            f"three numbers in mm or one of {CENTRES}",
        )
        return position
    lv = subject.scheme.labels_of(*LV)
    if one_of("to_grid: found centre", centre, CENTRES) == "auto":
        centre = "volume" if label is None else "lv" if lv else "heart"
    if centre == "volume":
        return (np.array(subject.shape) - 1) / 2 * spacing
    need(label is not None, subject.where, f"no label, and centre={centre!r}", "a label map, or centre='volume'")
    must(lv or centre != "lv", "to_grid", f"centre='lv' with scheme {subject.scheme.name!r}", "one with an LV")
    values, what = (lv, "the LV") if centre == "lv" else (subject.scheme.values, "any structure")
    return _centroid(subject, label, values, what, "centre='volume'")


def _rotation(subject: Subject, label: np.ndarray | None, align: str) -> np.ndarray:
    """In-plane rotation (3x3) that takes -x on the grid to the direction LV -> RV in the scan."""
    if one_of("to_grid: found align", align, ALIGNMENTS) == "none":
        return np.eye(3)
    rv, cavity = (subject.scheme.labels_of(name) for name in (VENTRICLES[2], VENTRICLES[0]))
    must(
        label is not None and rv and cavity,
        "to_grid",
        f"align='rigid' for {subject.where}",
        "a label map with LV and RV",
    )
    middle = _centroid(subject, label, subject.scheme.labels_of(*LV), "the LV", "align='none'")
    direction = (_centroid(subject, label, rv, f"the {VENTRICLES[2]}", "align='none'") - middle)[:2]
    cos, sin = -direction / max(np.linalg.norm(direction), 1e-9)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])


def _onehot_tensor(channels: np.ndarray, n_classes: int) -> torch.Tensor:
    """Channel numbers (X, Y, Z) -> one-hot of the structures (C-1, X, Y, Z); the background is what is left over."""
    tensor = torch.from_numpy(np.ascontiguousarray(channels))
    return torch.stack([(tensor == c) for c in range(1, n_classes)]).float()


def _resample(
    values: torch.Tensor, matrix: np.ndarray, shape: Sequence[int], oversampling: Sequence[int]
) -> torch.Tensor:
    """Sample (C, X, Y, Z) at matrix @ index for every index of `shape`: linear, 0 outside; -> (C, *shape).

    With oversampling k each output voxel is the mean of k samples spread evenly over it, per axis.
    """
    fine = [n * k for n, k in zip(shape, oversampling, strict=True)]
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) / k - 0.5 for n, k in zip(fine, oversampling, strict=True)]
    m = torch.from_numpy(np.asarray(matrix, dtype=np.float64))
    coordinates = []
    for row in range(3):
        index = (
            m[row, 0] * axes[0][:, None, None]
            + m[row, 1] * axes[1][None, :, None]
            + m[row, 2] * axes[2][None, None, :]
            + m[row, 3]
        )
        coordinates.append(
            ((2 * index + 1) / values.shape[1 + row] - 1).float()
        )  # grid_sample's range, align_corners=False
    where = torch.stack(coordinates[::-1], dim=-1)[None]  # grid_sample counts axes from the last
    out = F.grid_sample(values[None], where, mode="bilinear", padding_mode="zeros", align_corners=False)
    if max(oversampling) > 1:
        out = F.avg_pool3d(out, tuple(oversampling))
    return out[0]


def _argmax_with_background(soft: torch.Tensor) -> np.ndarray:
    """Structures' probabilities (C-1, X, Y, Z) -> channel numbers; background holds what is left to 1."""
    return torch.cat([1 - soft.sum(0, keepdim=True), soft]).argmax(0).to(torch.uint8).numpy()


ALIGN = "rigid"  # every space here: hearts turned so that the RV lies to the left (`shapelab.data.grid.to_grid`)


def unit_image(image: np.ndarray) -> np.ndarray:
    """An image divided by the 99th percentile of what was scanned (voxels above 0), clipped to [0, 1]; float32."""
    image = np.asarray(image, dtype=np.float32)
    scanned = image[image > 0]
    return np.clip(image / np.percentile(scanned, 99), 0, 1) if len(scanned) else np.zeros_like(image)


def images_on_grid(
    cohort: Cohort, grid: Grid, poses: Mapping[str, np.ndarray] | None = None, progress: bool = False
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Lay the images of a cohort on a grid, turned and centred as every space here expects hearts.

    Args:
        cohort: subjects with images; with label maps where there is no `poses`
        poses: subject id -> label map (in the scan's own voxels) that says where the heart is and how it is turned, as
            a segmentation network gives it. None takes the subject's own label map: then an observer has placed the
            box, and nothing but position and direction in the plane comes from the observer.

    Returns:
        images (N, X, Y, Z) float32 in [0, 1]; label maps (N, X, Y, Z) uint8; the subject's own, or those of `poses`;
        facts

    Raises:
        DataError: a subject without image or without pose, or with an empty one
    """
    from tqdm.auto import tqdm

    images, labels, rows = [], [], cohort.table
    for subject in tqdm(cohort, desc=f"{cohort.name} on {grid}", disable=not progress, leave=False):
        need(subject.image_source is not None, subject.where, "no image", "one, to read codes from")
        if poses is not None:
            need(subject.id in poses, subject.where, "no pose of this subject", "a label map for each in `poses`")
            subject = subject.with_(label=poses[subject.id])
        sample = to_grid(subject, grid, align=ALIGN)
        assert sample.image is not None and sample.label is not None  # both were asked for
        images.append(unit_image(sample.image))
        labels.append(sample.label)
    return np.stack(images), np.stack(labels), rows
