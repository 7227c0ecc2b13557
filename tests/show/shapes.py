"""Analytic shapes for the tests of pictures: balls, ellipsoids, and a heart made of them."""

from __future__ import annotations

import numpy as np

QUICK = ((48, 48, 24), (2.5, 2.5, 5.0))


def signed(shape, spacing, centre, radii) -> np.ndarray:
    """About the signed distance in mm (positive inside) to an ellipsoid; exact for a ball."""
    axes = np.meshgrid(*[(np.arange(n) + 0.5) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    radii = np.broadcast_to(np.asarray(radii, dtype=float), 3)
    inside = np.sqrt(sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)))
    return (1 - inside) * radii.min()


def soft(distance: np.ndarray, width: float = 1.2) -> np.ndarray:
    return (1 / (1 + np.exp(-distance / width))).astype(np.float32)


def heart(shape=QUICK[0], spacing=QUICK[1], scale: float = 1.0) -> np.ndarray:
    """Probabilities (4, X, Y, Z): RV cavity at small x, myocardium round an LV cavity, apex (large z) pointed."""
    lv = signed(shape, spacing, (70, 60, 45), np.array((22, 22, 50)) * scale)
    epi = signed(shape, spacing, (70, 60, 45), np.array((22, 22, 50)) * scale + 9)
    rv = signed(shape, spacing, (42, 62, 35), np.array((22, 30, 42)) * scale)
    p_lv, p_myo = soft(lv), soft(epi) * soft(-lv)
    p_rv = soft(rv) * soft(-epi)
    return np.stack([1 - p_lv - p_myo - p_rv, p_rv, p_myo, p_lv]).astype(np.float32)


def heart_label(**kwargs) -> np.ndarray:
    return heart(**kwargs).argmax(0).astype(np.uint8)
