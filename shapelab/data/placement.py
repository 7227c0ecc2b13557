"""How shapes are laid on a grid, as one value: label maps and spaces carry it, so that new shapes lie alike."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shapelab.errors import must, one_of

if TYPE_CHECKING:
    from shapelab.data.grid import Grid

CENTRES = ("auto", "lv", "heart", "volume")
ALIGNMENTS = ("none", "rigid")
MIRRORS = ("none", "right")


@dataclass(frozen=True)
class Placement:
    """How shapes are laid on a grid, as `to_grid` takes it: what a space remembers, so that new ones are laid alike."""

    centre: str | tuple[float, ...] = "auto"
    align: str = "none"
    mirror: str = "none"
    whole_walls: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.centre, str):
            one_of("to_grid: found centre", self.centre, CENTRES)
        else:
            position = np.asarray(list(self.centre), dtype=float)
            must(
                position.shape == (3,) and np.isfinite(position).all(),
                "to_grid",
                f"centre={self.centre}",
                f"three numbers in mm or one of {CENTRES}",
            )
            object.__setattr__(self, "centre", tuple(position.tolist()))
        one_of("to_grid: found align", self.align, ALIGNMENTS)
        one_of("to_grid: found mirror", self.mirror, MIRRORS)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in vars(self).items())


#: How hearts are laid for every space here: turned so that the RV lies to the left.
HEARTS = Placement(align="rigid")


class LaidLabels(np.ndarray):
    """Label maps (N, X, Y, Z) on a grid that know how they were laid there; else an array as any other.

    Attributes:
        placement: None where it got lost, as in `numpy.concatenate`
    """

    placement: Placement | None

    def __array_finalize__(self, source: object) -> None:
        self.placement = getattr(source, "placement", None)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What is computed from label maps is no label map: plain arrays and numbers."""
        return np.asarray(array) if np.ndim(array) else np.asarray(array)[()]

    @staticmethod
    def of(labels: np.ndarray, placement: Placement) -> LaidLabels:
        laid = np.asarray(labels).view(LaidLabels)
        laid.placement = placement
        return laid


class HasGrid(Protocol):
    """What has a grid, such as a shape space; `placement` is how shapes were laid on it, where that is known."""

    @property
    def grid(self) -> Grid: ...


def remembered(source: object) -> Placement | None:
    """How the shapes of a space, or label maps, were laid on their grid; None where it is not known."""
    return getattr(source, "placement", None)


def placement_for(space: HasGrid) -> Placement:
    """How to lay new shapes for a space: as its own were. Where it does not know: turned as hearts are here, and warns.

    That is so for spaces that were fitted on plain arrays, or kept by a version that did not write it down.
    """
    if (found := remembered(space)) is None:
        warnings.warn(
            f"{type(space).__name__}: found no word of how the shapes it was fitted on were laid on the grid; taken: "
            f"{HEARTS}. Fit spaces on what stack_labels returns, or say how (align=...).",
            stacklevel=3,
        )
        return HEARTS
    return found
