"""`Subject`: one scan, one label map, or both, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from shapelab.data.geometry import MOST_SKEW, check_voxels, skew
from shapelab.data.scheme import LabelScheme
from shapelab.errors import need
from shapelab.types import Shape3, Triple

Lazy = np.ndarray | Callable[[], np.ndarray] | None


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Subject:
    """Image and label of one time point of one patient. Immutable; arrays are read when asked for, and not kept.

    Args:
        id: unique in its cohort, e.g. ``patient001_ED``
        scheme: meaning of the label integers
        label: (X, Y, Z) integers, or a function that returns them, or None
        image: (X, Y, Z) intensities, or a function that returns them, or None
        affine: 4x4, voxel index -> mm, or a function that returns it
        landmarks: name -> position (3,) in mm, in the frame of `affine`
        facts: what is known: patient, phase (ED/ES), group, height (cm), weight (kg), ...
        file: where the label (else the image) came from; errors name it

    Axes: x, y, through-plane z, as nibabel gives them. Short-axis slices are shown as ``a[:, :, k].T`` with the
    origin at the top; slice 0 is the base, as in ACDC.
    """

    id: str
    scheme: LabelScheme
    label_source: Lazy = None
    image_source: Lazy = None
    affine_source: Lazy = None
    landmarks: Mapping[str, np.ndarray] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    file: str | Path | None = None

    def __init__(
        self,
        id: str,
        scheme: LabelScheme,
        label: Lazy = None,
        image: Lazy = None,
        affine: Lazy = None,
        landmarks: Mapping[str, Triple] | None = None,
        facts: Mapping[str, Any] | None = None,
        file: str | Path | None = None,
    ):
        if landmarks is not None:
            landmarks = MappingProxyType({k: np.asarray(v, dtype=np.float64) for k, v in landmarks.items()})
        vars(self).update(  # frozen: no attribute can be set
            id=str(id),
            scheme=scheme,
            label_source=label,
            image_source=image,
            affine_source=np.eye(4) if affine is None else affine,
            landmarks=landmarks,
            facts=MappingProxyType(dict(facts or {})),
            file=file,
        )
        need(label is not None or image is not None, self.where, "neither image nor label", "at least one of them")

    @property
    def where(self) -> str:
        """What errors call this subject: its file, else its id."""
        return str(self.file) if self.file is not None else f"subject {self.id}"

    @property
    def label(self) -> np.ndarray | None:
        """Label map (X, Y, Z), uint8 (uint16 where the scheme needs it); read now. None if there is none."""
        if self.label_source is None:
            return None
        label = _read(self.label_source)
        need(label.ndim == 3, self.where, f"a label map of shape {label.shape}", "three axes (X, Y, Z)")
        self.scheme.check(label, self.where)
        return label.astype(self.scheme.dtype, copy=False)

    @property
    def image(self) -> np.ndarray | None:
        """Image (X, Y, Z) float32; read now. None if there is none."""
        if self.image_source is None:
            return None
        image = _read(self.image_source).astype(np.float32, copy=False)
        need(image.ndim == 3, self.where, f"an image of shape {image.shape}", "three axes (X, Y, Z)")
        return image

    @property
    def affine(self) -> np.ndarray:
        """Voxel index -> mm, (4, 4) float64."""
        affine = _read(self.affine_source).astype(np.float64, copy=False)
        good = affine.shape == (4, 4) and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) >= 1e-9
        need(good, self.where, f"an affine that cannot be inverted: {affine.tolist()}", "4x4, invertible, in mm")
        need(
            skew(affine) <= MOST_SKEW,
            self.where,
            f"an affine whose axes are not at right angles: {affine.tolist()}",
            "axes at right angles: voxels are boxes here",
        )
        return affine

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size (3,) in mm along the array's axes."""
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        check_voxels(self.where, spacing)
        return spacing

    @property
    def shape(self) -> Shape3:
        """Shape of the label, else of the image (reads it)."""
        x, y, z = np.asarray(self.image if self.label_source is None else self.label).shape
        return x, y, z

    @property
    def patient(self) -> str:
        """Fact `patient`, if it is known, else the id: what a split must not tear apart."""
        patient = self.facts.get("patient")
        return str(patient) if is_known(patient) else self.id

    def fact(self, name: str) -> Any:
        """What is known of it under this name; None: nothing (also where NaN stands for it)."""
        value = self.patient if name == "patient" else self.facts.get(name)
        return value if is_known(value) else None

    def load(self) -> Subject:
        """The same subject with its arrays in memory, for those who read them often."""
        label, image = self.label, self.image
        if image is not None and label is not None:
            need(
                image.shape == label.shape,
                self.where,
                f"image {image.shape} and label {label.shape}",
                "one shape for both",
            )
        return self.with_(label=label, image=image, affine=self.affine)

    def with_(self, **changes: Any) -> Subject:
        """A copy with some of (id, scheme, label, image, affine, landmarks, facts, file) changed."""
        now = {f.name.removesuffix("_source"): getattr(self, f.name) for f in fields(self)}
        if unknown := sorted(set(changes) - set(now)):
            raise TypeError(f"Subject.with_: found {unknown}; expected some of {sorted(now)}")
        return Subject(**now | changes)

    def __repr__(self) -> str:
        has = "+".join(n for n, s in (("image", self.image_source), ("label", self.label_source)) if s is not None)
        return f"Subject({self.id!r}, {has}, {dict(self.facts)})"


def is_known(fact: Any) -> bool:
    """Whether a fact says something: None, NaN and pandas' NA do not."""
    return fact is not None and not (np.ndim(fact) == 0 and bool(pd.isna(fact)))


def _read(source: Lazy) -> np.ndarray:
    return np.asarray(source() if callable(source) else source)
