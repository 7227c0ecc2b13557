"""How smooth a surface is: mean absolute curvature of triangle meshes and of label maps.

An edge between two faces bends the surface by the angle beta between their normals; the mean curvature H of a mesh,
integrated over the surface, is the sum over its edges of beta * length / 2 (Cohen-Steiner and Morvan, SoCG 2003). With
the angles taken without their sign and divided by the area,

    mean |H| = sum over edges of |beta| * length / (2 * area)        1/mm

Mean of the two principal curvatures: 1/R of a sphere, 1/(2R) of a cylinder, pi/(2a) of a cube of side a, 0 of a plane.
A staircase bends to and fro at each step, so it has more than the smooth surface it stands for.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from shapelab.data.geometry import bounding_box, off_level
from shapelab.errors import in_range, must, need, spacing3
from shapelab.types import Triple

SCALE_MM = 3.0  # sd of the Gaussian that a mask is blurred by: steps of a voxel vanish, those of a slice do not


def mesh_curvature(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Mean absolute curvature of a mesh, 1/mm (see the top of this module).

    Of vertices (V, 3) mm and faces (F, 3), indices, wound alike. Edges of one face only (a border) do not count.
    DataError for a mesh without area.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(normals, axis=1)
    area = doubled.sum() / 2
    need(area > 0, "mesh_curvature", f"{len(faces)} faces of area {area:g}", "a surface")
    real = doubled > 1e-12 * area  # a face of no area has no normal: left out
    normals = np.divide(normals, doubled[:, None], out=np.zeros_like(normals), where=real[:, None])
    from trimesh.graph import face_adjacency  # which no recipe needs

    pairs, edges = face_adjacency(faces, return_edges=True)
    a, b = normals[pairs[:, 0]], normals[pairs[:, 1]]
    # the angle by both sine and cosine: exact for small ones, where the cosine alone is not
    beta = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(1))
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    return float((beta * length)[real[pairs].all(1)].sum() / (2 * area))


def surface_curvature(mask: np.ndarray, spacing: Triple, scale_mm: float = SCALE_MM) -> float:
    """Mean absolute curvature of the surface of a mask, 1/mm; NaN for an empty one.

    The mask is blurred by a Gaussian of `scale_mm` and its surface is where it is 1/2 (marching cubes), without any
    other smoothing: so two label maps of one spacing are measured at one scale in mm. Spheres of 15 and 30 mm radius at
    1.25 x 1.25 x 2 mm come out 10 % above 1/R, in slices of 10 mm 50 and 110 % above it. A structure thinner than
    about twice the scale is not followed: measure what lies within its outer surface.

    Args:
        mask: (D0, D1, D2) bool
        spacing: (3,) mm. UsageError for another shape or scale.
    """
    mask, spacing = np.asarray(mask, bool), np.array(spacing3("spacing", spacing))
    in_range("scale_mm", scale_mm, above=True)
    must(mask.ndim == 3, "surface_curvature", f"shape {mask.shape}", "(D0, D1, D2)")
    box = bounding_box(mask)
    if box is None:
        return float("nan")
    pad = np.ceil(4 * scale_mm / spacing).astype(int) + 1
    field = gaussian_filter(np.pad(mask[box], pad[:, None]).astype(np.float32), scale_mm / spacing)
    field = off_level(field)
    if not field.max() > 0.5:
        return float("nan")
    vertices, faces, _, _ = marching_cubes(field, 0.5, spacing=tuple(spacing))
    return mesh_curvature(vertices, faces)
