"""Which way up a scan is stored: its voxel axes brought to one order and direction, by the affine, and back.

A file may store its voxels in any of 48 orders (three axes, each from either end); its affine says which. All that
looks at the axes of an array (grids, networks, landmarks, pictures) is given the canonical order: the one of the 48
whose axes lie closest to right, anterior, superior (RAS+), as `nibabel.as_closest_canonical` has it.

A short-axis stack is planned along the heart and not along the body: its slices may face any way. There the axis with
the thickest voxels becomes the third, and what is compared with RAS are the other two, after the stack was tipped
upright by the shortest way. The stack then begins at its lower end (the left, the posterior one, where it stands
upright).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import nibabel
import numpy as np

from shapelab.data.landmarks import base_end
from shapelab.data.scheme import BIVENTRICULAR, LV, WHOLE_HEART, LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import need
from shapelab.types import Triple

THICK = 1.2  # times as thick as the next: the slice axis of a short-axis stack
#: At 45 degrees two orders are as close; this turn (rad) decides, and not the rounding of what happens to be stored.
TIE = 1e-4


@dataclass(frozen=True, eq=False)
class Orientation:
    """How an array in its file's order becomes one in canonical order.

    Attributes:
        axes: (3, 2) as nibabel's orientations have it: axis k of the file becomes axis ``axes[k, 0]``, in the same
            direction (1) or the other (-1)
        shape: (3,) of the file's array
        assumed: what the affine could not tell, and what was taken for true
    """

    axes: np.ndarray
    shape: tuple[int, ...]
    assumed: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """What stands in the file, such as "RAS" or "LPS"; of a stack that was tipped, after that."""
        return "".join(nibabel.orientations.ornt2axcodes(self.axes))

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4), voxel index in canonical order -> voxel index in the file's order."""
        return nibabel.orientations.inv_ornt_aff(self.axes, self.shape)

    def slices_in_file(self, numbers: Sequence[int], axis: int = 2) -> list[int]:
        """Numbers of slices along an axis of the canonical order, as the file counts them along its own."""
        slices = int(np.flatnonzero(self.axes[:, 0] == axis)[0])
        return sorted(self.shape[slices] - 1 - n if self.axes[slices, 1] < 0 else n for n in numbers)

    @property
    def mirrors(self) -> bool:
        """Whether a picture of a slice in canonical order is the mirror image of one in the file's order."""
        (first, one), (second, other) = self.inverse[:2]
        return bool((first > second) != (one * other < 0))

    def half_turned(self) -> Orientation:
        """The same, slices turned by 180 degrees in their plane."""
        return replace(self, axes=np.where(self.axes[:, :1] != 2, self.axes * (1, -1), self.axes))

    def from_base(self, label: np.ndarray, values: Sequence[int]) -> Orientation:
        """The same, slices of a heart from base to apex, where its label map in the file's order tells (`base_end`);
        else as they come, which `assumed` says.

        Args:
            label: in the file's order
            values: integers of LV cavity and myocardium
        """
        base = base_end(np.isin(self.canonical(label), values).sum((0, 1)))
        if base is None:
            as_it_comes = "the first slice is the base: the LV is as wide at either end"
            return replace(self, assumed=(*self.assumed, as_it_comes))
        reverse = (self.axes[:, :1] == 2) & (base == "last")
        return replace(self, axes=np.where(reverse, self.axes * (1, -1), self.axes))

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """An array of the file's order, in canonical order: a view."""
        return nibabel.orientations.apply_orientation(array, self.axes)

    @property
    def inverse(self) -> np.ndarray:
        """(3, 2) as `axes`, from canonical order to the file's."""
        inverse = np.empty((3, 2))
        inverse[self.axes[:, 0].astype(int)] = np.column_stack([np.arange(3), self.axes[:, 1]])
        return inverse

    def back(self, array: np.ndarray) -> np.ndarray:
        """An array in canonical order, in the file's: a view."""
        return nibabel.orientations.apply_orientation(array, self.inverse)

    def applied(self, subject: Subject) -> Subject:
        """A subject of the file's order in canonical order, in the same mm. Landmarks are in mm and stay."""
        arrays = {"label": subject.label, "image": subject.image}
        laid = {name: None if a is None else np.ascontiguousarray(self.canonical(a)) for name, a in arrays.items()}
        return subject.with_(**laid, affine=subject.affine @ self.matrix)

    def per_axis(self, values: Triple) -> np.ndarray:
        """Three numbers of the file's axes, such as voxel sizes, in canonical order."""
        return np.asarray(values)[np.argsort(self.axes[:, 0])]


def is_short_axis(scheme: LabelScheme) -> bool:
    """Whether label maps of a scheme are short-axis stacks: of a ventricle with its wall, and no other organ."""
    return LV[1] in scheme.names and set(scheme.names) <= set(BIVENTRICULAR.names)


def is_whole_heart(scheme: LabelScheme) -> bool:
    """Whether a scheme names an atrium or a great vessel: it lies as in the body, and is not turned to the LV."""
    return bool(set(scheme.names) & set(WHOLE_HEART.names) - set(BIVENTRICULAR.names))


def orientation_of(affine: np.ndarray, shape: tuple[int, ...], stack: bool) -> Orientation:
    """How an array of this affine becomes one in canonical order.

    Args:
        affine: (4, 4) voxel index -> mm, RAS+
        shape: (3,) of the array
        stack: a short-axis stack, see the top of this module
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes
    slices = thick_axis(sizes)
    assumed: tuple[str, ...] = ()
    if stack and slices is not None:
        directions = _upright(directions[:, slices]) @ directions
    elif stack:
        assumed = ("slices lie along the axis closest to superior: no axis has clearly thicker voxels",)
    a, b, c = TIE * np.array([1.0, 2.0, 3.0])
    tie = np.array([[1, -c, b], [c, 1, -a], [-b, a, 1]])
    return Orientation(nibabel.io_orientation(nibabel.affines.from_matvec(tie @ directions)), tuple(shape), assumed)


def thick_axis(spacing: Triple) -> int | None:
    """The axis of clearly thicker voxels, along which the slices of a stack lie; None where there is none."""
    _, thin, thick = np.argsort(spacing, kind="stable").tolist()
    return thick if spacing[thick] >= THICK * spacing[thin] else None


def _upright(normal: np.ndarray) -> np.ndarray:
    """The shortest turn (3, 3) that takes a direction, or the one opposite, to (0, 0, 1)."""
    high = next(v for v in normal[::-1] if abs(v) > 1e-3)
    normal = normal * np.sign(high)
    x, y, z = normal
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])  # of normal x (0, 0, 1)
    return np.eye(3) + cross + cross @ cross / (1 + z)


def canonical(subject: Subject, from_base: bool = False) -> tuple[Subject, Orientation]:
    """A subject with its arrays and its affine in canonical order (the same mm), and how it came there.

    Landmarks are in mm and stay. A label map and an image are read now.

    Args:
        from_base: the slices of a heart also run from base to apex, where its label map tells (`base_end`); as they
            come, where it cannot, which the orientation's `assumed` says. A whole heart stays as it lies in the body

    Raises:
        DataError: image and label of two shapes
    """
    label, image, scheme = subject.label, subject.image, subject.scheme
    shapes = [a.shape for a in (label, image) if a is not None]
    need(len(set(shapes)) == 1, subject.where, f"image and label of shapes {shapes}", "one shape for both")
    turn = orientation_of(subject.affine, shapes[0], is_short_axis(scheme))
    if from_base and label is not None and (lv := scheme.labels_of(*LV)) and not is_whole_heart(scheme):
        turn = turn.from_base(label, lv)
    return turn.applied(subject.with_(label=label, image=image)), turn
