"""Images: range, contrast, one scanner for both phases, partial volume, noise; all from one seed."""

import numpy as np
import pytest
from scipy import ndimage

from shapelab.phantoms import heart_cohort


@pytest.fixture(scope="module")
def scans():
    return [s.load() for s in heart_cohort(10, seed=6, resolution="LR", images=True)]


def test_no_image_unless_asked_for():
    assert heart_cohort(1, resolution="LR")[0].image is None


def test_range_shape_and_type(scans):
    for s in scans:
        assert s.image.dtype == np.float32 and s.image.shape == s.label.shape
        assert s.image.min() >= 0 and s.image.max() == 1
        assert 0.005 < (s.image == 1).mean() < 0.02  # clipped at the 99th percentile, as ACDC is


def test_blood_is_brighter_than_muscle_and_muscle_than_lung(scans):
    for s in scans:
        rv, wall, lv = (np.median(s.image[s.label == v]) for v in (1, 2, 3))
        assert lv > 1.6 * wall and rv > 1.3 * wall
        assert np.percentile(s.image, 10) < 0.6 * wall


def test_contrast_is_that_of_acdc(scans):
    medians = np.array([[np.median(s.image[s.label == v]) for v in (1, 2, 3)] for s in scans])
    assert np.allclose(medians.mean(0), (0.565, 0.255, 0.687), atol=0.12)


def test_papillary_muscles_are_dark_in_the_cavity(scans):
    ed = [s for s in scans if s.facts["phase"] == "ED"]
    share = []
    for s in ed:
        wall, blood = (np.median(s.image[s.label == v]) for v in (2, 3))
        inner = ndimage.binary_erosion(s.label == 3, np.ones((3, 3, 1)))
        share.append((s.image[inner] < (wall + blood) / 2).mean())
    assert 0.005 < np.mean(share) < 0.25


def test_the_image_shows_the_label(scans):
    """The strongest edge along rays lies at the endocardium that the label has (within two pixels)."""
    s = scans[0]
    k = np.flatnonzero((s.label == 3).any((0, 1)))[2]
    gradient = ndimage.gaussian_gradient_magnitude(s.image[:, :, k], 0.7)
    cavity = s.label[:, :, k] == 3
    edge = cavity ^ ndimage.binary_erosion(cavity)
    inside = ndimage.binary_erosion(cavity, iterations=4)
    assert gradient[edge].mean() > 2 * gradient[inside].mean()


def test_same_seed_same_image_and_noise_differs_between_phases():
    a, b = (heart_cohort(1, seed=6, resolution="LR", images=True) for _ in range(2))
    assert np.array_equal(a[0].image, b[0].image)
    corner = (slice(0, 12), slice(-12, None))
    ed, es = a[0].image[corner], a[1].image[corner]
    assert not np.array_equal(ed, es)
    assert abs(ed.mean() - es.mean()) < 0.1  # the neighbours stay


def test_fine_image_has_no_partial_volume_of_thick_slices():
    s = heart_cohort(1, seed=6, resolution=(1.8, 1.8, 3.0), images=True)[0]
    assert s.image.shape == s.label.shape and np.isfinite(s.image).all()
    assert np.median(s.image[s.label == 3]) > 1.6 * np.median(s.image[s.label == 2])
