"""`Atlas`: a high-resolution heart with labels, landmarks and, where there is one, an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shapelab.atlas.frame import Frame, as_frame
from shapelab.data.gaps import without_gaps
from shapelab.data.landmarks import landmarks_from_label
from shapelab.data.orientation import canonical
from shapelab.data.scheme import BIVENTRICULAR, LabelScheme
from shapelab.data.subject import Subject
from shapelab.errors import DataError, need
from shapelab.types import Vector3

LandmarkSource = Literal["given", "label"]


@dataclass(frozen=True, eq=False)
class Atlas:
    """SSLLN, section II-C: "each of which consists of an HR CMR volume (1.25 x 1.25 x 2.0 mm), and its corresponding
    landmarks and segmentation labels".

    Attributes:
        label: (D0, D1, D2) integers of the scheme, slices along the third axis; those that nobody annotated are filled
            from the slices beside them, with a warning (`shapelab.data.gaps`)
        spacing: (3,) mm; voxel (0, 0, 0) lies at 0 mm
        landmarks: name -> (3,) mm, or (n, 3) mm, or None: taken from the label map when they are needed
        image: (D0, D1, D2) float or None
        id: what errors and tables call it

    Raises DataError: an empty label map, values outside the scheme, shapes that differ, an image that is not finite.
    """

    label: np.ndarray
    spacing: tuple[float, float, float]
    landmarks: Mapping[str, np.ndarray] | np.ndarray | None = None
    image: np.ndarray | None = None
    scheme: LabelScheme = BIVENTRICULAR
    id: str = "atlas"

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", np.asarray(self.label))
        frame = as_frame(self.spacing, self.label, self.id)
        object.__setattr__(self, "spacing", frame.spacing)
        self.scheme.check(self.label, self.id)
        frame.box(self.label, self.id)
        object.__setattr__(self, "label", without_gaps(self.label, self.spacing, self.scheme, self.id))
        if self.image is not None:
            object.__setattr__(self, "image", checked_image(self.image, self.label.shape, self.id))

    @property
    def frame(self) -> Frame:
        return Frame(self.label.shape, self.spacing)

    def landmarks_of(self, source: LandmarkSource = "given") -> Mapping[str, np.ndarray] | np.ndarray:
        """The landmarks given, or those that the label map gives ("label", or none were given)."""
        if source == "given" and self.landmarks is not None:
            return self.landmarks
        return landmarks_from_label(self.label, self.spacing, self.scheme, self.id)

    @staticmethod
    def of(subject: Subject) -> Atlas:
        """A subject's arrays, read now and in canonical order, landmarks in mm along the array's axes. DataError if it
        has no label."""
        label, image, spacing, landmarks = arrays_of(canonical(subject, from_base=True)[0])
        return Atlas(label, spacing, landmarks, image, subject.scheme, subject.id)


def arrays_of(
    subject: Subject,
) -> tuple[np.ndarray, np.ndarray | None, Vector3, Mapping[str, np.ndarray] | None]:
    """(label, image or None, spacing, landmarks or None) of a subject. Landmarks are brought from the frame of the
    subject's affine to mm along the axes of its array (voxel index * spacing). DataError if it has no label."""
    label, image = subject.label, subject.image
    if label is None:
        raise DataError(subject.where, "no label map", "one to refine, or to refine by")
    affine = subject.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    landmarks = subject.landmarks
    if landmarks is not None:
        back = np.diag(spacing) @ np.linalg.inv(affine)[:3, :3]
        landmarks = {name: back @ (np.asarray(p) - affine[:3, 3]) for name, p in landmarks.items()}
    x, y, z = (float(s) for s in spacing)
    return label, image, (x, y, z), landmarks


def checked_image(image: np.ndarray, shape: Sequence[int], name: str) -> np.ndarray:
    """float32, of the label's shape and finite; DataError otherwise."""
    image = np.asarray(image)
    need(
        image.shape == tuple(shape), name, f"an image of shape {image.shape}", f"the label map's shape, {tuple(shape)}"
    )
    image = image.astype(np.float32, copy=False)
    need(np.isfinite(image).all(), name, "an image with NaN or infinity", "finite intensities")
    return image
