"""Where a 3-D ultrasound probe stands, what box it sees, and the surfaces of the heart at any point in space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from shapelab.data.grid import Grid
from shapelab.errors import in_range
from shapelab.phantoms.anatomy import centre_line
from shapelab.phantoms.heart import HeartSurfaces, slice_curves

NODE_MM = 1.0  # distance of the tables' heights
MARGIN_MM = 45.0  # how far a table goes on below the apex
FAR_MM = 6.0  # least distance from the valve plane to the far side of the box


@dataclass(frozen=True)
class Artefacts:
    """How strong the artefacts of an image are: 1 as usual, 0 none, 3 three times (in dB where it is a loss).

    Attributes:
        shadow: ribs and lung: wedges of lost signal (1: 12 to 26 dB in their middle)
        dropout: walls parallel to the beam, first the lateral and the anterior one, fade (1: up to 20 dB)
        speckle: contrast of the speckle (1: fully developed, Rayleigh)
        clutter: reverberation in the near field, which fills the cavity at the apex
    """

    shadow: float = 1.0
    dropout: float = 1.0
    speckle: float = 1.0
    clutter: float = 1.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            in_range(f"Artefacts.{name}", value, 0, 5)


@dataclass(frozen=True, eq=False)
class Probe:
    """Where the probe is and what it sees; the same for ED and ES of a patient.

    Attributes:
        turn: (3, 3); p = shift - turn @ (h - at) takes heart coordinates h to the probe's p, mm
        shift: (3,) the place of `at` in front of the probe, mm
        at: (3,) the LV's apex at ED in heart coordinates, mm
        azimuth: half angle of the sector in x, radians
        elevation: half angle of the sector in y, radians
        depth: mm from the tip
    """

    turn: np.ndarray
    shift: np.ndarray
    at: np.ndarray
    azimuth: float
    elevation: float
    depth: float

    def to_heart(self, points: np.ndarray) -> np.ndarray:
        """Probe coordinates (P, 3) mm -> the heart's."""
        return self.at - (points - self.shift) @ self.turn

    def to_probe(self, points: np.ndarray) -> np.ndarray:
        """Heart coordinates (P, 3) mm -> the probe's."""
        return self.shift - (points - self.at) @ self.turn.T


def _rotation(axis: int, angle: float) -> np.ndarray:
    """Rotation (3, 3) about one axis; angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    out = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    out[i, i], out[i, j], out[j, i], out[j, j] = c, -s, s, c
    return out


def _aligning(v: np.ndarray) -> np.ndarray:
    """Smallest rotation that takes the direction v to +z."""
    v = v / np.linalg.norm(v)
    cross, c = np.cross(v, [0.0, 0.0, 1.0]), v[2]
    k = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    return np.eye(3) + k + k @ k / (1 + c)


def make_probe(seed: int, index: int, f: Mapping[str, float], depth_mm: float) -> Probe:
    """The probe of one patient: a function of (seed, index), the heart's factors and the depth of the box."""
    rng = np.random.default_rng([int(seed), int(index), 20])
    z = np.clip(rng.standard_normal(8), -2, 2)
    line, length = centre_line(f), f["LV_length"]
    apex = np.append(line @ np.array([1.0, length, length**2]), length)  # the valve is the origin of the heart's frame
    tilt = _rotation(0, np.deg2rad(5.0 * z[0])) @ _rotation(1, np.deg2rad(5.0 * z[1]))
    turn = _rotation(2, np.deg2rad(12.0 * z[2])) @ tilt @ _aligning(apex)
    # the chest wall is 12 to 25 mm thick; of a long heart the probe is pressed closer to the apex
    room = depth_mm - FAR_MM - np.linalg.norm(apex)
    away = float(np.clip(min(18 + 3.5 * z[3], room), 9, None))
    shift = np.array([4.0 * z[4], 4.0 * z[5], away])
    return Probe(
        turn,
        shift,
        apex,
        azimuth=float(np.deg2rad(rng.uniform(36, 45))),
        elevation=float(np.deg2rad(rng.uniform(34, 44))),
        depth=float(min(away + np.linalg.norm(apex) + rng.uniform(10, 35), 1.25 * depth_mm)),
    )


class Levels:
    """The surfaces of one heart at one phase as functions of points in space (heart coordinates, mm).

    endo, epi, rv and rv_outer are levels in mm, negative inside; the LV's about its own centre, the RV's about its
    pole. They go on above the base as tubes; `base` is the LV's base, to close them with.
    """

    def __init__(self, hearts: HeartSurfaces):
        here = hearts.moved(origin=np.zeros((1, 3)), angle=np.zeros(1))
        self.base = float(here.lv_base[0])
        self.apex = self.base + float(here.epi_length[0])
        self.line = here.centre[0].double().numpy()
        self.low = min(self.base, float(here.rv_base[0]))
        self.n = int(np.ceil((self.apex + MARGIN_MM - self.low) / NODE_MM)) + 1
        self._lv = self._table(here, (0, 1))
        self._rv = self._table(here, (2, 3))

    def _table(self, hearts: HeartSurfaces, which: tuple[int, int]) -> torch.Tensor:
        """q and dq/dz of two surfaces, and the pole's place: (1, 6, heights, angles + 1)."""
        heights = self.low + NODE_MM * np.arange(self.n)
        out, poles = [], None
        for k in which:
            base = hearts.rv_base if k > 1 else hearts.lv_base
            length = (hearts.endo_length, hearts.epi_length, hearts.rv_length, hearts.rv_length)[k]
            first, last = float(base[0]), float(base[0] + length[0])
            inside = np.clip(heights, first + 1e-4, last - 1e-3)
            curves = slice_curves(hearts, torch.from_numpy(inside.astype(np.float32)))
            q = curves.radii[k, 0].double().clamp(min=0).numpy() ** 2
            # below its end the surface closes: q falls on as over the last 4 mm, at least by a sphere's 2 x 6 mm
            edge = slice_curves(hearts, torch.tensor([last - 4.0, last - 1e-3], dtype=torch.float32)).radii[k, 0]
            fall = np.minimum(np.diff(edge.double().clamp(min=0).numpy() ** 2, axis=0)[0] / 4.0, -12.0)
            out.append(q + fall * np.clip(heights - last, 0, None)[:, None])
            if k in (1, 3):
                line = np.stack([np.ones_like(heights), heights, heights**2]).T @ self.line.T
                poles = (curves.rv_pole[0] - curves.lv[0]).double().numpy()[:, 0] if k == 3 else 0 * heights
                poles = np.broadcast_to((line[:, 0] + poles)[:, None], q.shape)
        table = np.stack([*out, *(np.gradient(q, NODE_MM, axis=0) for q in out), poles])
        table = np.concatenate([table, table[..., :1]], -1)
        return torch.from_numpy(table.astype(np.float32))[None]

    def _ask(self, table: torch.Tensor, x, y, z) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Level of the two surfaces (2, P), outward normal of the first (3, P), angle about the pole (P,)."""
        row = (z - self.low) / NODE_MM * (2 / (self.n - 1)) - 1
        cy = self.line[1, 0] + self.line[1, 1] * z + self.line[1, 2] * z * z
        pole = F.grid_sample(
            table[:, 4:, :, :1].expand(-1, -1, -1, 2),
            torch.stack([0 * row, row], -1)[None, None],
            padding_mode="border",
            align_corners=True,
        )[0, 0, 0]
        dx, dy = x - pole, y - cy
        turn = torch.atan2(dy, dx)
        column = torch.where(turn < 0, turn + 2 * np.pi, turn) / np.pi - 1
        where = torch.stack([column, row], -1)[None, None]
        q = F.grid_sample(table[:, :4], where, padding_mode="border", align_corners=True)[0, :, 0]
        d2 = dx * dx + dy * dy
        size = 2 * torch.sqrt(d2 + (q[2:] / 2) ** 2).clamp(min=1e-3)
        return (d2 - q[:2]) / size, torch.stack([dx, dy, -q[2] / 2]) * (2 / size[0]), turn

    def lv(self, x, y, z) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """endo, epi (2, P), and the normal (3, P) of the first and angle (P,) about the LV's centre."""
        return self._ask(self._lv, x, y, z)

    def rv(self, x, y, z) -> tuple[torch.Tensor, torch.Tensor]:
        """rv, rv_outer (2, P), and the normal (3, P) of the first."""
        return self._ask(self._rv, x, y, z)[:2]


def closed(endo: torch.Tensor, z: torch.Tensor, base: float) -> torch.Tensor:
    """Level of the LV cavity closed at its base: what the label is."""
    return torch.maximum(endo, base - z)


@dataclass(frozen=True)
class Box(Grid):
    """A grid whose voxels lie in the probe's frame; shared by all subjects on it."""

    @cached_property
    def affine(self) -> np.ndarray:
        """Voxel index -> mm in the probe's frame: tip of the sector in the middle of the side z = 0."""
        out = np.diag([*self.spacing, 1.0])
        out[:3, 3] = [
            -(self.shape[0] - 1) / 2 * self.spacing[0],
            -(self.shape[1] - 1) / 2 * self.spacing[1],
            self.spacing[2] / 2,
        ]
        return out

    @cached_property
    def points(self) -> torch.Tensor:
        """(3, X, Y, Z) mm."""
        axes = [
            torch.arange(n, dtype=torch.float32) * s + float(o)
            for n, s, o in zip(self.shape, self.spacing, self.affine[:3, 3])
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))


@lru_cache(maxsize=4)
def make_box(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Box:
    """One `Box` for each grid in use."""
    return Box(shape, spacing)
