"""What the integers of a label map mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shapelab.errors import must, need, one_of


@dataclass(frozen=True)
class Structure:
    """One structure of a label map: its integer, its name in the field, its colour (hex), the same in every picture."""

    value: int
    name: str
    colour: str

    def numbered(self, value: int) -> Structure:
        """The same structure under the integer that another scheme gives it."""
        return replace(self, value=value)


#: Structures that lie in another one wherever both are in a scheme.
KNOWN_INSIDE = (("LV cavity", "LV myocardium"), ("RV cavity", "RV wall"))


@dataclass(frozen=True)
class LabelScheme:
    """Names, integers and colours of the structures of a label map.

    Background is 0 and not listed. Channel 0 of a one-hot map is background, channel k the k-th structure listed.
    Two schemes are equal when name, structures and nesting are.

    Attributes:
        inside: pairs of names (structure, the one it lies in): an LV cavity lies in its myocardium, so that no voxel of
            it may touch the background in a slice. None: what is known of the structures' names (`KNOWN_INSIDE`)
    """

    name: str
    structures: tuple[Structure, ...]
    inside: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self) -> None:
        known = [pair for pair in KNOWN_INSIDE if set(pair) <= set(self.names)]
        inside = known if self.inside is None else self.inside
        object.__setattr__(self, "inside", tuple((inner, outer) for inner, outer in inside))
        values = [s.value for s in self.structures]
        what = f"label scheme {self.name!r}"
        must(values, what, "no structure", "at least one")
        distinct = len(set(values)) == len(values) and min(values) > 0 and max(values) <= 65535
        must(distinct, what, f"integers {values}", "distinct ones, 1 to 65535 (0 is the background)")
        must(len(set(self.names)) == len(values), what, f"names {self.names}", "distinct ones")
        must(self._nests(), what, f"inside={self.inside}", "pairs of its names, each in one other at most, no circle")

    def _nests(self) -> bool:
        """Whether `inside` says of each structure at most one that it lies in, and no two lie in each other."""
        pairs = self.inside or ()
        outer_of: dict[str, str] = dict(pairs)
        if len(outer_of) < len(pairs) or not {*outer_of, *outer_of.values()} <= set(self.names):
            return False
        ends = set(outer_of)
        for _ in outer_of:  # from each structure outwards: without a circle all have come out by then
            ends = {outer_of[name] for name in ends if name in outer_of}
        return not ends & set(outer_of)

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

    @property
    def dtype(self) -> type:
        """Of label maps: the smallest that holds the scheme's integers."""
        return np.uint8 if max(self.values) < 256 else np.uint16

    @property
    def outer(self) -> tuple[int, ...]:
        """Of each channel, the channel it lies in; 0 (background, itself included) where it lies in nothing."""
        outer_of = dict(self.inside or ())
        return 0, *(self.names.index(outer_of[n]) + 1 if n in outer_of else 0 for n in self.names)

    def structure(self, name: str) -> Structure:
        """The structure of that name; UsageError listing the names if there is none."""
        return self.structures[self.names.index(one_of(f"label scheme {self.name!r}: structure", name, self.names))]

    def labels_of(self, *names: str) -> list[int]:
        """Integers of the structures of those names; a name that the scheme lacks gives none."""
        return [s.value for s in self.structures if s.name in names]

    def channel_of(self, value: int) -> int:
        """Channel of an integer of the label map (background 0 -> 0)."""
        integers = (0, *self.values)
        return integers.index(one_of(f"label scheme {self.name!r}: integer", value, integers))

    def check(self, labels: np.ndarray, file: str | Path | None = None) -> None:
        """Raise DataError naming `file` if `labels` holds an integer outside the scheme."""
        extra = sorted(set(present_values(labels)) - {0, *self.values})
        need(
            not extra,
            file,
            f"label values {extra[:8]}",
            f"values of the scheme {self.name!r}, {[0, *self.values]}",
            "Give the scheme that belongs to these label maps, or remap them with LabelScheme.remap.",
        )

    def channels(self, labels: np.ndarray) -> np.ndarray:
        """Integers of a label map -> channel numbers, uint8, same shape. DataError on values outside the scheme.

        Where a scheme's integers are not 1, 2, ..., channel numbers given by mistake are outside it and refused.
        """
        self.check(labels)
        if self.values == tuple(range(1, self.n_classes)):
            return np.asarray(labels, dtype=np.uint8)
        table = np.zeros(max(self.values) + 1, dtype=np.uint8)
        table[list(self.values)] = np.arange(1, self.n_classes)
        return table[np.asarray(labels)]

    def integers(self, channels: np.ndarray) -> np.ndarray:
        """Channel numbers -> integers of the label map; the inverse of `channels`.

        DataError on what is no channel number: integers of a label map whose scheme counts otherwise, among them.
        """
        extra = [c for c in present_values(channels) if c >= self.n_classes]
        need(
            not extra,
            None,
            f"channel numbers {extra[:8]}",
            f"0 to {self.n_classes - 1}, those of the scheme {self.name!r}",
            "A label map's integers become channel numbers by LabelScheme.channels.",
        )
        return np.array([0, *self.values], self.dtype)[np.asarray(channels)]

    def onehot(self, labels: np.ndarray) -> np.ndarray:
        """Label map (...) -> one-hot (C, ...) float32, channel 0 the background."""
        channels = self.channels(labels)
        return (np.arange(self.n_classes).reshape(-1, *[1] * channels.ndim) == channels[None]).astype(np.float32)

    def remap(self, labels: np.ndarray, mapping: Mapping[int, int], file: str | Path | None = None) -> np.ndarray:
        """Map a data set's own integers to this scheme's (MM-WHS 500, 205, ... -> 1, 2, ...).

        0 stays 0 unless `mapping` says otherwise. An integer that `mapping` does not name is a DataError: dropping a
        structure must be said, by mapping it to 0.
        """
        mapping = {0: 0, **{int(k): int(v) for k, v in mapping.items()}}
        targets = set(mapping.values()) - {0, *self.values}
        must(
            not targets,
            f"label scheme {self.name!r}",
            f"mapping to {sorted(targets)}",
            f"targets among {[0, *self.values]}",
        )
        extra = sorted(set(present_values(labels)) - set(mapping))
        need(
            not extra,
            file,
            f"label values {extra[:8]}",
            f"values named in the mapping, {sorted(mapping)}",
            "Add them to the mapping (to 0, if they are to be dropped).",
        )
        table: np.ndarray = np.zeros(max(mapping) + 1, self.dtype)
        table[list(mapping)] = list(mapping.values())
        return table[np.asarray(labels)]


def present_values(labels: np.ndarray) -> list[int]:
    """The integers in a label map, sorted. A label map must be of an integer type and not negative."""
    labels = np.asarray(labels)
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    need(np.issubdtype(labels.dtype, np.integer), None, f"a label map of type {labels.dtype}", "an integer type")
    if labels.size == 0:
        return []
    low, high = int(labels.min()), int(labels.max())
    need(low >= 0, None, f"label value {low}", "values from 0")
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
#: Seven structures of a whole heart, in the order in which tables of MM-WHS name them.
WHOLE_HEART = LabelScheme(
    "whole heart",
    (
        CARDIAC.structure("LV cavity").numbered(1),
        CARDIAC.structure("LV myocardium").numbered(2),
        CARDIAC.structure("RV cavity").numbered(3),
        Structure(4, "left atrium", "#CC79A7"),
        Structure(5, "right atrium", "#56B4E9"),
        Structure(6, "ascending aorta", "#E69F00"),
        Structure(7, "pulmonary artery", "#F0E442"),
    ),
)
