"""What the integers of a label map mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shapelab.errors import DataError, UsageError


@dataclass(frozen=True)
class Structure:
    """One structure of a label map: its integer, its name in the field, its colour (hex), the same in every picture."""

    value: int
    name: str
    colour: str


@dataclass(frozen=True)
class LabelScheme:
    """Names, integers and colours of the structures of a label map.

    Background is 0 and not listed. Channel 0 of a one-hot map is background, channel k the k-th structure listed.
    Two schemes are equal when name and structures are.
    """

    name: str
    structures: tuple[Structure, ...]

    def __post_init__(self):
        values = [s.value for s in self.structures]
        if not values:
            raise UsageError(f"label scheme {self.name!r}: found no structure; expected at least one")
        if len(set(values)) != len(values) or 0 in values or min(values) < 0 or max(values) > 65535:
            raise UsageError(
                f"label scheme {self.name!r}: found integers {values}; expected distinct ones, 1 to 65535 "
                "(0 is the background)"
            )
        if len(set(self.names)) != len(values):
            raise UsageError(f"label scheme {self.name!r}: found names {self.names}; expected distinct ones")

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(s.value for s in self.structures)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.structures)

    @property
    def colours(self) -> tuple[str, ...]:
        return tuple(s.colour for s in self.structures)

    @property
    def n_classes(self) -> int:
        """Number of channels of a one-hot map: the structures and the background."""
        return len(self.structures) + 1

    def structure(self, name: str) -> Structure:
        """The structure of that name; UsageError listing the names if there is none."""
        for s in self.structures:
            if s.name == name:
                return s
        raise UsageError(f"label scheme {self.name!r}: found no structure {name!r}; expected one of {list(self.names)}")

    def channel_of(self, value: int) -> int:
        """Channel of an integer of the label map (background 0 -> 0)."""
        if value == 0:
            return 0
        if value not in self.values:
            raise UsageError(f"label scheme {self.name!r}: found integer {value}; expected one of {[0, *self.values]}")
        return self.values.index(value) + 1

    def check(self, labels: np.ndarray, file=None) -> None:
        """Raise DataError naming `file` if `labels` holds an integer outside the scheme."""
        found = present_values(labels)
        extra = sorted(set(found) - {0, *self.values})
        if extra:
            raise DataError(
                file,
                f"label values {extra[:8]}",
                f"values of the scheme {self.name!r}, {[0, *self.values]}",
                "Give the scheme that belongs to these label maps, or remap them with LabelScheme.remap.",
            )

    def channels(self, labels: np.ndarray) -> np.ndarray:
        """Integers of a label map -> channel numbers, uint8, same shape. DataError on values outside the scheme."""
        self.check(labels)
        if self.values == tuple(range(1, self.n_classes)):
            return np.asarray(labels, dtype=np.uint8)
        table = np.zeros(max(self.values) + 1, dtype=np.uint8)
        table[list(self.values)] = np.arange(1, self.n_classes)
        return table[np.asarray(labels)]

    def integers(self, channels: np.ndarray) -> np.ndarray:
        """Channel numbers -> integers of the label map; the inverse of `channels`."""
        table = np.array([0, *self.values], dtype=np.uint8 if max(self.values) < 256 else np.uint16)
        return table[np.asarray(channels)]

    def onehot(self, labels: np.ndarray) -> np.ndarray:
        """Label map (...) -> one-hot (C, ...) float32, channel 0 the background."""
        channels = self.channels(labels)
        return (np.arange(self.n_classes).reshape(-1, *[1] * channels.ndim) == channels[None]).astype(np.float32)

    def remap(self, labels: np.ndarray, mapping: Mapping[int, int], file=None) -> np.ndarray:
        """Map a data set's own integers to this scheme's (MM-WHS 500, 205, ... -> 1, 2, ...).

        0 stays 0 unless `mapping` says otherwise. An integer that `mapping` does not name is a DataError: dropping a
        structure must be said, by mapping it to 0.
        """
        mapping = {0: 0, **{int(k): int(v) for k, v in mapping.items()}}
        targets = set(mapping.values()) - {0, *self.values}
        if targets:
            raise UsageError(
                f"label scheme {self.name!r}: found mapping to {sorted(targets)}; expected targets among "
                f"{[0, *self.values]}"
            )
        found = present_values(labels)
        extra = sorted(set(found) - set(mapping))
        if extra:
            raise DataError(
                file,
                f"label values {extra[:8]}",
                f"values named in the mapping, {sorted(mapping)}",
                "Add them to the mapping (to 0, if they are to be dropped).",
            )
        table = np.zeros(max(max(mapping), 0) + 1, dtype=np.uint8 if max(self.values) < 256 else np.uint16)
        for source, target in mapping.items():
            table[source] = target
        return table[np.asarray(labels)]


def present_values(labels: np.ndarray) -> list[int]:
    """The integers in a label map, sorted. A label map must be of an integer type and not negative."""
    labels = np.asarray(labels)
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(None, f"a label map of type {labels.dtype}", "an integer type")
    if labels.size == 0:
        return []
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise DataError(None, f"label value {low}", "values from 0")
    if high > 65535:
        return [int(v) for v in np.unique(labels)]
    return np.flatnonzero(np.bincount(labels.ravel(), minlength=1)).tolist()  # bincount: 20x faster than unique


# Okabe-Ito colours: told apart with every common colour vision deficiency.
CARDIAC = LabelScheme(
    "cardiac short axis",
    (
        Structure(1, "RV cavity", "#0072B2"),
        Structure(2, "LV myocardium", "#009E73"),
        Structure(3, "LV cavity", "#D55E00"),
    ),
)
#: What a label map must hold to be turned, measured or judged as a heart: LV cavity, LV myocardium, RV cavity.
VENTRICLES = CARDIAC.names[::-1]
LV = VENTRICLES[:2]
BIVENTRICULAR = LabelScheme("bi-ventricular", (*CARDIAC.structures, Structure(4, "RV wall", "#56B4E9")))
HIPPOCAMPUS = LabelScheme(
    "hippocampus",
    (
        Structure(1, "anterior hippocampus", "#E69F00"),
        Structure(2, "posterior hippocampus", "#56B4E9"),
    ),
)
#: Of 3D ultrasound (CETUS): the LV's blood pool, closed at the mitral valve, papillary muscles inside.
LV_CAVITY = LabelScheme("LV cavity", (Structure(1, "LV cavity", "#D55E00"),))
