"""shapelab.atlas.affine: exact maps, least squares against scipy, degenerate landmarks by name."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import least_squares

from shapelab.atlas import landmark_affine, transform_points
from shapelab.errors import DataError, UsageError

CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * 50


def test_by_hand():
    target = CORNERS * (2, 1, 0.5) + (10, -5, 3)
    expected = np.array([[2, 0, 0, 10], [0, 1, 0, -5], [0, 0, 0.5, 3], [0, 0, 0, 1.0]])
    assert np.allclose(landmark_affine(CORNERS, target), expected)


numbers = st.floats(-1, 1)


@given(hnp.arrays(float, (3, 3), elements=numbers), hnp.arrays(float, 3, elements=st.floats(-500, 500)))
def test_an_affine_map_is_found_again(part, shift):
    matrix = np.eye(4)
    matrix[:3, :3] = 3 * np.eye(3) + 0.5 * part
    matrix[:3, 3] = shift
    points = np.vstack([CORNERS, [[30.0, 20, 70], [-10, 40, 5]]]) + 200  # six, far from the origin
    assert np.allclose(landmark_affine(points, transform_points(matrix, points)), matrix, atol=1e-8)


def test_least_squares_of_six_landmarks_as_scipy_finds_it():
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 40, (6, 3)), rng.normal(0, 40, (6, 3))
    found = landmark_affine(source, target)

    def residual(p):
        return (source @ p.reshape(3, 4)[:, :3].T + p.reshape(3, 4)[:, 3] - target).ravel()

    best = least_squares(residual, np.eye(4)[:3].ravel()).x.reshape(3, 4)
    assert np.allclose(found[:3], best, atol=1e-4) and np.array_equal(found[3], [0, 0, 0, 1])


def test_tables_of_landmarks_are_matched_by_their_names():
    target = CORNERS * (2, 1, 0.5) + (10, -5, 3)
    a, b = (pd.DataFrame(points, index=list("pqrs"), columns=list("xyz")) for points in (CORNERS, target))
    assert np.allclose(landmark_affine(a, b.loc[list("rspq")]), landmark_affine(CORNERS, target))


def test_names_are_matched_whatever_their_order():
    source = dict(zip("abcd", CORNERS)) | {"only here": np.zeros(3)}
    target = {name: source[name] * 2 for name in "dcba"} | {"only there": np.zeros(3)}
    assert np.allclose(landmark_affine(source, target), np.diag([2, 2, 2, 1.0]))


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (CORNERS[:3], "found 3; expected at least four"),
        (np.vstack([CORNERS[:3], [[50.0, 50, 0]]]), "4 points in one plane"),
        (np.outer(np.arange(5), [1.0, 2, 3]), "5 points on one line"),
        (np.full((4, 3), 7.0), "4 points in one place"),
        (np.vstack([CORNERS[:3], CORNERS[:1]]), "in one plane.*the same position: number 0 = number 3"),
        (np.vstack([CORNERS[:3], [[np.nan, 0, 50]]]), "not finite: .'number 3'."),
    ],
)
@pytest.mark.parametrize("side", ["source", "target"])
def test_degenerate_landmarks(points, words, side):
    good = np.random.default_rng(1).normal(0, 30, points.shape)
    pair = (points, good) if side == "source" else (good, points)
    with pytest.raises(DataError, match=words) as caught:
        landmark_affine(*pair)
    if len(points) > 3:
        assert side in caught.value.file


def test_wrong_arguments():
    with pytest.raises(UsageError, match=r"shapes \(4, 3\) and \(5, 3\)"):
        landmark_affine(CORNERS, np.zeros((5, 3)))
    with pytest.raises(UsageError, match="names for both or none"):
        landmark_affine({"a": CORNERS[0]}, CORNERS)
    with pytest.raises(DataError, match="1 in common"):
        landmark_affine(dict(zip("abcd", CORNERS)), dict(zip("axyz", CORNERS)))
    with pytest.raises(UsageError, match="no numbers"):
        landmark_affine([["x", 0, 0]] * 4, CORNERS)
