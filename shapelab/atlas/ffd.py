"""Free-form deformation of an atlas onto a target, by their label maps alone.

SSLLN, section II-C and eq. 4: after a landmark affine, a B-spline free-form deformation (Rueckert et al., IEEE TMI
18(8), 1999) that maximises the label consistency, from coarse to fine.

A place x in the target (mm) is looked up in the atlas at y = A (x + u(x)): u is the spline, A the affine map from
target to atlas. What is minimised at each level over the control points c is

    E(c) = - mean over target voxels of p_S(x)(y(x))  +  bending  +  stretch  +  folding penalty

with S the target's labels and p the atlas' one-hot maps, interpolated linearly (`shapelab.atlas.consistency`).

Deviations, the paper being silent on all of it but the first. The settings were chosen on three phantoms; the numbers
are of ten others, in stacks of 10 mm slices without shifts (`benchmarks/atlas_settings.py`, atlas_ffd.csv):
- The paper minimises "C = sum_i P(i, i)", which is greatest where labels agree; we maximise it. The sum includes the
  background: without it, an atlas that swallows the target would be best.
- The target is looked at where it was measured: a stack of 10 mm slices counts at its slices and is not interpolated
  to 2 mm first, so its staircase has no part in the fit. Dice of RV cavity, LV myocardium, LV cavity, RV wall in the
  end .96 .96 .98 .85, mean HD 6.5 mm; with the stack interpolated first (nearest slice) .94 .95 .97 .81, but HD 6.0
  mm, and the myocardium below the last slice, cut off in the stack, is better guessed (.78 against .75).
- Smoothness: the bending energy, and a little of the first derivative. Without the latter, Dice of the myocardium
  below the last slice is .72 in place of .75, mean HD 7.2 mm in place of 6.5.
- Levels: 40, 20 and 10 mm between control points, each the subdivision of the one before (the same displacement, to be
  refined). The atlas is blurred by a Gaussian at the coarser levels, which widens the reach of the gradient.
  A fourth level of 5 mm keeps nearer to the labels that were given, not to the truth: Dice .96 .95 .98 .85, mean HD 6.8
  mm, myocardium below the last slice .70 in place of .75.
- Adam with a step that falls to 0, in place of steepest descent; analytic gradient.
- Folding: a penalty on Jacobian determinants under `least_jacobian`, and after each level a guard: what the level
  added is damped until no determinant is at or under 0. Reported: least determinant, share of folded places, damping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapelab.atlas.affine import transform_points
from shapelab.atlas.bspline import Lattice, spread
from shapelab.atlas.descent import Problem, descend, without_folds
from shapelab.atlas.frame import Frame, as_frame
from shapelab.atlas.warp import warp_image, warp_label
from shapelab.errors import in_range, must, need, one_of, whole
from shapelab.metrics.agreement import as_array
from shapelab.types import Array, Kind, Triple

ENGINES = ("auto", "numba", "torch")


@dataclass(frozen=True, eq=False)
class Level:
    """What one level of the registration left.

    Attributes:
        lattice: the displacement, (3, n0, n1, n2) float32 mm at the control points
        coefficients: see `lattice`
        consistency: mean probability of the target's labels at their places (1: all agree), at this level's blur
        min_jacobian: least determinant of d(x + u)/dx over the domain, and share of places where it is <= 0
        folded: see `min_jacobian`
        kept: share of what the level added that the folding guard left (1: all of it)
    """

    lattice: Lattice
    coefficients: np.ndarray
    consistency: float
    min_jacobian: float
    folded: float
    kept: float = 1.0

    @property
    def name(self) -> str:
        return f"FFD {self.lattice.step:g} mm"


@dataclass(frozen=True, eq=False)
class Deformation:
    """An atlas' way to a target, with every level of it.

    Attributes:
        affine: (4, 4), mm of the target -> mm of the atlas
        levels: coarse to fine
        target: frames of the two
        atlas: frames of the two
        domain: (2, 3) mm of the target, the box the spline is defined on; outside, its border values go on
    """

    affine: np.ndarray
    levels: tuple[Level, ...]
    target: Frame
    atlas: Frame
    domain: np.ndarray
    engine: str = field(default="numba", repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the stages: "affine", then each level's."""
        return ("affine", *(level.name for level in self.levels))

    @property
    def min_jacobian(self) -> float:
        """Least determinant of d(x + u)/dx after the last level (the affine part left out)."""
        return self.levels[-1].min_jacobian if self.levels else 1.0

    @property
    def folded(self) -> float:
        """Share of folded places after the last level; 0 unless the guard was switched off."""
        return self.levels[-1].folded if self.levels else 0.0

    @property
    def consistency(self) -> float:
        """Mean probability of the target's labels after the last level."""
        return self.levels[-1].consistency

    def displacement(self, frame: Frame | None = None, stage: int | str = -1) -> np.ndarray:
        """u (3, D0, D1, D2) float32 mm at the voxels of a frame of the target (default: its own).

        Args:
            stage: index into `names` or one of them; 0 or "affine" has no displacement
        """
        frame = frame or self.target
        stage = self._stage(stage)
        if stage == 0:
            return np.zeros((3, *frame.shape), np.float32)
        level = self.levels[stage - 1]
        first, second, third = (b.astype(np.float32) for b in level.lattice.bases(frame.positions()))
        return spread(level.coefficients, first, second, third)

    def warp_label(self, label: Kind, frame: Frame | None = None, stage: int | str = -1) -> Kind:
        """A label map of the atlas (D0, D1, D2) in a frame of the target: each voxel the label of most weight among
        the eight neighbours of its place (of two alike the smaller one), 0 outside the atlas."""
        return self._warp(warp_label, label, frame, stage)

    def warp_image(self, image: Kind, frame: Frame | None = None, stage: int | str = -1) -> Kind:
        """An image of the atlas in a frame of the target, float32: linear; outside the atlas its border values."""
        return self._warp(warp_image, image, frame, stage)

    def _warp(self, function: Callable[..., Any], array: Array, frame: Frame | None, stage: int | str) -> Any:
        need(
            tuple(array.shape) == self.atlas.shape,
            "warp",
            f"an array of shape {tuple(array.shape)}",
            f"the atlas' shape, {self.atlas.shape}",
        )
        frame = frame or self.target
        matrix = (np.linalg.inv(self.atlas.matrix) @ self.affine)[:3]
        displacement: Array = self.displacement(frame, stage)
        if isinstance(array, Tensor):
            displacement = torch.as_tensor(displacement, device=array.device)
        return function(array, matrix, frame.origin, frame.spacing, displacement)

    def _stage(self, stage: int | str) -> int:
        if isinstance(stage, str):
            return self.names.index(one_of("stage", stage, self.names))
        must(-len(self.names) <= stage < len(self.names), "stage", stage, f"an index into {self.names}")
        return stage % len(self.names)


@dataclass(frozen=True)
class FreeFormDeformation:
    """Registration of an atlas' label map to a target's.

    Args:
        control_mm: distance of control points at the last level
        levels: how many; each doubles the distance of the next
        iterations: of gradient descent at each level
        bending: weight of the bending energy (Rueckert's eq. 8) at each level, coarse to fine, mm^2
        stretch: weight of the mean squared first derivative at all levels: where nothing was measured (an apex that was
            cut off) the displacement stays as it is at the nearest slice, instead of going on with its slope
        blur_mm: sd of the Gaussian that the atlas' maps are blurred by at each level
        sampling_mm: about how far apart the voxels are that a level looks at (0: all)
        step_mm: first step of a control point at each level
        least_jacobian: determinants under it are penalised
        guard: damp a level's part until nothing is folded; without it folding is only reported
        margin_mm: how far the domain reaches beyond target and atlas
        engine: "numba" (CPU), "torch" (where the label maps are: CPU or GPU), "auto": torch for tensors on a GPU

    Per-level settings are tuples as long as `levels`. UsageError for what cannot be.
    """

    control_mm: float = 10.0
    levels: int = 3
    iterations: int = 50
    bending: tuple[float, ...] = (10.0, 3.0, 1.0)
    stretch: float = 0.05
    blur_mm: tuple[float, ...] = (5.0, 2.0, 0.0)
    sampling_mm: tuple[float, ...] = (5.0, 2.5, 0.0)
    step_mm: tuple[float, ...] = (2.0, 1.0, 0.5)
    least_jacobian: float = 0.3
    guard: bool = True
    margin_mm: float = 10.0
    engine: str = "auto"

    def __post_init__(self) -> None:
        whole("FreeFormDeformation: levels", self.levels)
        for name in ("bending", "blur_mm", "sampling_mm", "step_mm"):
            values = tuple(float(v) for v in getattr(self, name))
            object.__setattr__(self, name, values)
            must(
                len(values) == self.levels and np.isfinite(values).all() and min(values) >= 0,
                "FreeFormDeformation",
                f"{name}={values}",
                f"{self.levels} numbers from 0, one a level",
            )
        whole("FreeFormDeformation: iterations", self.iterations, 0)
        in_range("FreeFormDeformation: control_mm", self.control_mm, above=True)
        in_range("FreeFormDeformation: least_jacobian", self.least_jacobian, high=np.nextafter(1, 0))
        for name in ("margin_mm", "stretch"):
            in_range(f"FreeFormDeformation: {name}", getattr(self, name))
        one_of("FreeFormDeformation: engine", self.engine, ENGINES)

    def torch_device(self, target: Array) -> torch.device | None:
        """Where torch registers to this label map (numpy or torch); None: numba does."""
        device = target.device if isinstance(target, Tensor) else torch.device("cpu")
        engine = self.engine if self.engine != "auto" else "numba" if device.type == "cpu" else "torch"
        return device if engine == "torch" else None

    def fit(
        self,
        target: Array,
        atlas: Array,
        target_frame: Frame | Triple,
        atlas_frame: Frame | Triple,
        affine: np.ndarray | None = None,
    ) -> Deformation:
        """Register an atlas to a target.

        Args:
            target: label maps (D0, D1, D2), integers (0 background), numpy or torch, each in its frame
            atlas: see `target`
            target_frame: `Frame`, or spacing (3,) mm (voxel (0, 0, 0) at 0)
            atlas_frame: `Frame`, or spacing (3,) mm (voxel (0, 0, 0) at 0)
            affine: (4, 4) mm of the target -> mm of the atlas; default: none, both lie alike in mm. From landmarks:
                ``landmark_affine(target_landmarks, atlas_landmarks)``

        Returns `Deformation`. Raises DataError on an empty label map or one that does not fit its frame, UsageError on
        an affine that cannot be inverted.
        """
        target_frame = as_frame(target_frame, target, "target")
        atlas_frame = as_frame(atlas_frame, atlas, "atlas")
        affine = checked_affine(affine)
        device = self.torch_device(target)
        fixed, moving = as_array(target), as_array(atlas)
        domain = self._domain(fixed, moving, target_frame, atlas_frame, affine)
        lattice = Lattice.over(domain[0], domain[1], self.control_mm, self.levels - 1)
        # as finely as the target is sampled, at least five places a cell
        fine = np.minimum(target_frame.spacing, self.control_mm / 5)
        checked = [np.linspace(low, high, 1 + int(np.ceil((high - low) / s))) for low, high, s in zip(*domain, fine)]
        coefficients, done = lattice.zeros().astype(np.float32), []
        problem = Problem.of(fixed, moving, target_frame, atlas_frame, affine, domain, device)
        for k in range(self.levels):
            before = coefficients
            cost = problem.at(
                lattice, self.blur_mm[k], self.sampling_mm[k], self.bending[k], self.stretch, self.least_jacobian
            )
            coefficients = descend(cost, coefficients, self.iterations, self.step_mm[k])
            coefficients, *report = without_folds(lattice, before, coefficients, checked, self.guard)
            done.append(Level(lattice, coefficients, cost.consistency(coefficients), *report))
            if k + 1 < self.levels:
                lattice, coefficients = lattice.refined(coefficients)
                coefficients = coefficients.astype(np.float32)
        return Deformation(
            affine, tuple(done), target_frame, atlas_frame, domain, "numba" if device is None else "torch"
        )

    def _domain(
        self, target: np.ndarray, atlas: np.ndarray, target_frame: Frame, atlas_frame: Frame, affine: np.ndarray
    ) -> np.ndarray:
        """Box (2, 3) mm round the target's labels and the affinely mapped atlas', with a margin: of the target one
        voxel at least, since the first slice without a label says where the heart ends."""
        corners = np.array(list(product(*atlas_frame.box(atlas, "atlas").T)))
        atlas_there = transform_points(np.linalg.inv(affine), corners)
        low, high = target_frame.box(target, "target")
        reach = np.maximum(self.margin_mm, 1.01 * np.array(target_frame.spacing))
        low = np.minimum(low - reach, atlas_there.min(0) - self.margin_mm)
        return np.stack([low, np.maximum(high + reach, atlas_there.max(0) + self.margin_mm)])


def checked_affine(affine: np.ndarray | None) -> np.ndarray:
    """(4, 4) float64; None is the identity. UsageError on what cannot be inverted."""
    affine = np.eye(4) if affine is None else np.asarray(affine, np.float64)
    must(
        affine.shape == (4, 4) and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) >= 1e-9,
        "affine",
        affine.tolist(),
        "an invertible 4x4 matrix in mm",
    )
    return affine
