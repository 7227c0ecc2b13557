"""What is drawn with torch is what NumPy and scipy draw."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from shapelab.phantoms.drawing import blurred, drawn, here, of, percentile, there

IMAGE = np.random.default_rng(0).normal(size=(9, 14, 6))
CPU = torch.device("cpu")


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
@pytest.mark.parametrize("sigma", [(0.55, 0.55, 0), (1.5, 4.0, 9.0)])  # the last kernel is wider than its axis
def test_a_blur_by_matrices_is_scipys(mode, sigma):
    expected = ndimage.gaussian_filter(IMAGE, sigma, mode=mode)
    assert np.allclose(blurred(torch.from_numpy(IMAGE), sigma, mode).numpy(), expected, atol=1e-12)
    assert np.array_equal(blurred(IMAGE, sigma, mode), expected)
    assert blurred(torch.from_numpy(IMAGE).float(), sigma, mode).dtype == torch.float32


@pytest.mark.parametrize("share", [0, 37.5, 99, 100])
def test_a_percentile_is_numpys(share):
    assert float(percentile(torch.from_numpy(IMAGE), share)) == pytest.approx(np.percentile(IMAGE, share), abs=1e-12)
    assert percentile(IMAGE, share) == np.percentile(IMAGE, share)


def test_arrays_go_there_and_back():
    assert of(CPU) is np and of(torch.device("cuda")) is torch
    assert there(IMAGE, CPU) is IMAGE and here(IMAGE) is IMAGE
    assert isinstance(drawn(torch.ones(2)), np.ndarray) and np.array_equal(here(torch.from_numpy(IMAGE)), IMAGE)
