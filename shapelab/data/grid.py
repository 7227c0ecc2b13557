"""From a scan's own voxels to the grid a model works on, and back.

One 4x4 matrix per subject takes grid voxels to scan voxels; it holds the crop, the resampling and, where asked for,
the rotation, so that a prediction comes back to the scan's own voxels through its inverse.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from shapelab.data.cohort import Cohort
from shapelab.data.facts import RV_SIDE_MM, SIDE
from shapelab.data.gaps import canonical_without_gaps
from shapelab.data.geometry import bounding_box
from shapelab.data.orientation import Orientation, is_whole_heart
from shapelab.data.placement import HEARTS, HasGrid, LaidLabels, Placement, placement_for
from shapelab.data.scheme import LV, VENTRICLES, LabelScheme
from shapelab.data.subject import Subject
from shapelab.data.walls import whole_structures
from shapelab.errors import must, need, spacing3
from shapelab.types import Shape3, Triple, Vector3

LARGEST_VOXEL_MM = 20.0  # of a grid; larger ones are sizes in voxels, most likely
MOST_OUTSIDE = 0.1  # of a shape may be cut off by a grid without a word


@dataclass(frozen=True)
class Grid:
    """Shape (X, Y, Z) in voxels and spacing in mm of the box a model sees."""

    shape: Shape3
    spacing: Vector3

    if TYPE_CHECKING:  # what comes is made tuples of

        def __init__(self, shape: Sequence[int] | np.ndarray, spacing: Triple) -> None: ...

    def __post_init__(self) -> None:
        exchanged = "three positive integers (voxels); are shape and spacing exchanged?"
        must(
            len(self.shape) == 3 and all(float(n).is_integer() and n > 0 for n in self.shape),
            "Grid: shape",
            tuple(self.shape),
            exchanged,
        )
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing", spacing3("Grid: spacing", self.spacing))
        doubtful = min(self.spacing) > max(self.shape) and max(self.spacing) > LARGEST_VOXEL_MM
        must(not doubtful, "Grid", str(self), exchanged)

    @property
    def extent(self) -> tuple[float, float, float]:
        """Size of the box in mm."""
        x, y, z = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return x, y, z

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} at {'x'.join(f'{s:g}' for s in self.spacing)} mm"


@dataclass(frozen=True, eq=False)
class GridTransform:
    """How one subject was laid on a grid.

    Attributes:
        matrix: (4, 4), grid voxel indices -> voxel indices of the subject in canonical order
        shape: (3,) of its array in that order
        orientation: from the order of its file to that order
        whole_walls: see `to_grid`; `from_grid` does it the same way
    """

    grid: Grid
    matrix: np.ndarray
    shape: tuple[int, ...]
    scheme: LabelScheme
    orientation: Orientation
    whole_walls: bool = False


@dataclass(frozen=True, eq=False)
class GridSample:
    """A subject on a grid.

    Attributes:
        outside: share of labelled volume that the grid cuts off (0 to 1)
        assumed: what neither the label map nor the affine could tell, and what was taken for true
    """

    label: np.ndarray | None
    image: np.ndarray | None
    transform: GridTransform
    subject: Subject = field(repr=False)
    outside: float = 0.0
    assumed: tuple[str, ...] = ()


def to_grid(
    subject: Subject,
    grid: Grid,
    centre: str | Iterable[float] = "auto",
    align: str = "none",
    mirror: str = "none",
    whole_walls: bool = False,
) -> GridSample:
    """Lay a subject on a grid; sizes in mm are kept. Slices that nobody annotated, the empty ones between drawn ones,
    are filled from those beside them, with a warning (`shapelab.data.gaps`).

    Its voxels are first brought to canonical order (`shapelab.data.orientation`), so that one heart stored in any
    order, with the affine that says so, is laid the same way. Handedness is what the affine says.

    Args:
        subject: with a label map, unless `centre` is "volume" or a position and `align` is "none"
        grid: shape and spacing of the result
        centre: what comes to the middle of the grid: "lv" the centroid of LV cavity and myocardium, "heart" that of all
            structures, "volume" the middle of the scan, (3,) a position in the subject's voxel index * spacing (mm);
            "auto" is "lv" where the scheme has one, "heart" for whole hearts and other organs, "volume" without label
        align: "rigid" also turns the heart about the through-plane axis until the RV cavity's centroid lies straight to
            the left (-x) of the LV's, which takes out how the patient lay and how the slices were planned (spread on
            ACDC: 130 degrees), and moves the middle of the grid 18 mm from there towards the RV, so that a box of 144
            mm holds both ventricles; and a stack that begins at the apex (`shapelab.data.landmarks.base_end`) is
            counted from its other end, so that the base comes first; size and shape are not touched
        mirror: "right" mirrors subjects whose fact `side` is "right" (left to right, in canonical order), so that
            paired organs share one space
        whole_walls: decide what a voxel is by nested questions (`shapelab.data.walls`), so that no wall tears; False:
            the largest share, as the spaces that ship were trained

    Returns:
        GridSample: label (X, Y, Z) by linear interpolation of the one-hot map (averaged over each grid voxel where the
        grid is coarser than the scan), image linear likewise, and the transform for `from_grid`

    Raises:
        DataError: an empty label, or no RV to align by
        UsageError: unknown `centre`, `align` or `mirror`
    """
    placement = Placement(centre if isinstance(centre, str) else tuple(centre), align, mirror, whole_walls)
    own, (subject, turn) = subject, canonical_without_gaps(subject, from_base=align == "rigid")
    label, image, spacing = subject.label, subject.image, subject.spacing
    middle = _centre(subject, label, placement.centre, own, turn)
    rotation = _rotation(subject, label, align)
    if align == "rigid":
        middle = middle + rotation @ (-RV_SIDE_MM, 0, 0)
    if mirror == "right" and str(subject.facts.get(SIDE)).lower() in ("right", "r"):
        rotation = rotation @ np.diag([-1.0, 1, 1])
    # grid index -> mm from the middle -> (turned) -> mm in the scan -> scan index
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1 / spacing) @ rotation @ np.diag(grid.spacing)
    matrix[:3, 3] = middle / spacing - matrix[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    transform = GridTransform(
        grid, matrix, np.asarray(image if label is None else label).shape, subject.scheme, turn, whole_walls
    )
    # a coarse grid averages the scan instead of skipping
    oversampling = tuple(int(max(1, round(g / s))) for g, s in zip(grid.spacing, spacing, strict=True))
    new_label, outside = None, 0.0
    if label is not None:
        channels = subject.scheme.channels(label)
        box = bounding_box(channels, margin=1) or np.s_[:1, :1, :1]  # 3-10x less to interpolate
        cropped = matrix.copy()
        cropped[:3, 3] -= np.array([side.start for side in box])
        soft = _resample(_onehot_tensor(channels[box], subject.scheme.n_classes), cropped, grid.shape, oversampling)
        new_label = subject.scheme.integers(_decided(soft, transform, channels[box]))
        inside = float(soft.sum()) * np.prod(grid.spacing)
        outside = max(0.0, 1 - inside / (float((label > 0).sum()) * np.prod(spacing)))
    if image is not None:
        image = _resample(torch.from_numpy(image)[None], matrix, grid.shape, oversampling)[0].numpy()
    return GridSample(new_label, image, transform, own, outside, turn.assumed)


def from_grid(array: np.ndarray, transform: GridTransform) -> np.ndarray:
    """Bring a result on the grid back to the subject's own voxels, in its file's order; the inverse of `to_grid`.

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
    if array.ndim == 4:
        channels = array.argmax(0)
        soft = torch.from_numpy(np.ascontiguousarray(array[1:], dtype=np.float32))
    else:
        channels = scheme.channels(array)
        soft = _onehot_tensor(channels, scheme.n_classes)
    back = np.linalg.inv(transform.matrix)
    spacing_ratio = np.linalg.norm(back[:3, :3], axis=0)  # grid voxels per scan voxel, along the scan's axes
    soft = _resample(soft, back, transform.shape, tuple(int(max(1, np.floor(r + 0.25))) for r in spacing_ratio))
    label = scheme.integers(_decided(soft, transform, channels))
    return np.ascontiguousarray(transform.orientation.back(label))


def stack_labels(
    cohort: Cohort,
    grid: Grid | HasGrid,
    centre: str | Iterable[float] = "auto",
    align: str = "none",
    mirror: str = "none",
    whole_walls: bool = False,
    progress: bool = False,
) -> tuple[LaidLabels, pd.DataFrame]:
    """Lay the label maps of a cohort on a grid; warns where the grid cuts more than a tenth of a shape off.

    Args:
        cohort: subjects with label maps
        grid: of the result; or a shape space: its grid, laid as its own shapes were (what follows is then not given)
        centre: this and what follows as `to_grid` takes it; a space that is fitted on the result remembers it
        align: see `centre`
        mirror: see `centre`
        whole_walls: see `centre`
        progress: show a bar

    Returns:
        labels (N, X, Y, Z) uint8 with their `placement`, and the cohort's table with a column `outside` (share of
        labelled volume cut off); its ``attrs["assumed"]`` is subject id -> `GridSample.assumed`, where there is any
    """
    need(len(cohort), cohort.name, "no subject", "at least one")
    from tqdm.auto import tqdm

    how = Placement(centre if isinstance(centre, str) else tuple(centre), align, mirror, whole_walls)
    if isinstance(grid, Grid):
        box = grid
    else:
        must(how == Placement(), "stack_labels", str(how), "nothing of this beside a space, which remembers it")
        box, how = grid.grid, placement_for(grid)
    samples = [
        to_grid(s.with_(image=None), box, **vars(how))
        for s in tqdm(cohort, desc=f"{cohort.name} on {box}", disable=not progress, leave=False)
    ]
    table = cohort.table
    table.attrs["assumed"] = {s.subject.id: s.assumed for s in samples if s.assumed}
    note_outside(table, [s.outside for s in samples], cohort.name, box)
    return LaidLabels.of(np.stack([s.label for s in samples if s.label is not None]), how), table


def note_outside(table: pd.DataFrame, outside: Sequence[float], name: str, grid: Grid) -> None:
    """Add the column `outside`, the share of labelled volume that a grid cuts off; warn where it is over a tenth."""
    table["outside"] = outside
    cut = table.index[table["outside"] > MOST_OUTSIDE]
    if len(cut):
        warnings.warn(
            f"{name}: the grid {grid} cuts off more than {MOST_OUTSIDE:.0%} of {len(cut)} of {len(table)} shapes "
            f"({table['outside'].max():.0%} of {table['outside'].idxmax()}); expected a grid that holds them. Take a "
            "larger one, or another centre; the column `outside` says how much of each is lost.",
            stacklevel=3,
        )


def to_unit_range(image: np.ndarray, percentiles: tuple[float, float] = (1, 99)) -> np.ndarray:
    """Clip at two percentiles of the image and scale to [0, 1] float32; a constant image becomes 0."""
    low, high = np.percentile(image, percentiles)
    if high <= low:
        return np.zeros(image.shape, np.float32)
    return ((np.clip(image, low, high) - low) / (high - low)).astype(np.float32)


def _centroid(subject: Subject, label: np.ndarray | None, values: Iterable[int], what: str, instead: str) -> np.ndarray:
    """Centroid in mm (voxel index * spacing) of the voxels that hold one of `values`; DataError if there is none."""
    mask = np.isin(np.asarray(label), list(values))
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
    subject: Subject, label: np.ndarray | None, centre: str | tuple[float, ...], own: Subject, turn: Orientation
) -> np.ndarray:
    """Middle of the box in mm (voxel index * spacing) of the subject in canonical order, see `to_grid`; `own`: in its
    file's, in which a position is given."""
    if not isinstance(centre, str):
        index = np.linalg.inv(turn.matrix) @ [*np.asarray(centre) / own.spacing, 1]
        return index[:3] * turn.per_axis(own.spacing)
    lv = subject.scheme.labels_of(*LV)
    if centre == "auto":
        centre = "volume" if label is None else "lv" if lv and not is_whole_heart(subject.scheme) else "heart"
    if centre == "volume":
        return (np.array(subject.shape) - 1) / 2 * subject.spacing
    need(label is not None, subject.where, f"no label, and centre={centre!r}", "a label map, or centre='volume'")
    must(lv or centre != "lv", "to_grid", f"centre='lv' with scheme {subject.scheme.name!r}", "one with an LV")
    values, what = (lv, "the LV") if centre == "lv" else (subject.scheme.values, "any structure")
    return _centroid(subject, label, values, what, "centre='volume'")


def _rotation(subject: Subject, label: np.ndarray | None, align: str) -> np.ndarray:
    """In-plane rotation (3x3) that takes -x on the grid to the direction LV -> RV in the scan."""
    if align == "none":
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


def _decided(soft: torch.Tensor, transform: GridTransform, own: np.ndarray) -> np.ndarray:
    """Structures' shares (C-1, X, Y, Z) -> channel numbers; background holds what is left to 1.

    `own`: the channel numbers that the shares were taken from, on the voxels from which they come.
    """
    if transform.whole_walls:
        return whole_structures(soft.numpy(), own, transform.scheme)
    return torch.cat([1 - soft.sum(0, keepdim=True), soft]).argmax(0).to(torch.uint8).numpy()


def unit_image(image: np.ndarray) -> np.ndarray:
    """An image divided by the 99th percentile of what was scanned (voxels above 0), clipped to [0, 1]; float32."""
    image = np.asarray(image, dtype=np.float32)
    scanned = image[image > 0]
    return np.clip(image / np.percentile(scanned, 99), 0, 1) if len(scanned) else np.zeros_like(image)


def z_normalised(image: np.ndarray) -> np.ndarray:
    """An image less its mean, divided by its standard deviation, float32; a constant image becomes 0."""
    image = np.asarray(image, np.float32)
    return (image - image.mean()) / max(float(image.std()), 1e-6)


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
        sample = to_grid(subject, grid, **vars(HEARTS))
        images.append(unit_image(np.asarray(sample.image)))
        labels.append(np.asarray(sample.label))
    return np.stack(images), LaidLabels.of(np.stack(labels), HEARTS), rows
