"""shapelab.atlas.fusion: eq. 5 as it is written, on every voxel that is sampled; both paths alike."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, stats

from shapelab.atlas import fuse_labels, majority_vote
from shapelab.atlas.fusion import undecided
from shapelab.errors import DataError, UsageError


def smooth(shape, n, seed):
    """Labels 0 to n - 1 in blobs that reach the border, and a noisy image of them."""
    rng = np.random.default_rng(seed)
    label = np.argmax([ndimage.gaussian_filter(rng.normal(size=shape), 2) for _ in range(n)], 0).astype(np.uint8)
    return label, (np.linspace(0.1, 0.9, n)[label] + rng.normal(0, 0.1, shape)).astype(np.float32)


def votes(labels, images, image, x, patch, window, h):
    """Eq. 5 at one voxel, as it is written: patches repeat the border, windows end there."""
    half = [p // 2 for p in patch]
    wide = [np.pad(f, [(p, p) for p in half], mode="edge").astype(float) for f in (image, *images)]

    def patch_at(f, y):
        return f[tuple(slice(c, c + p) for c, p in zip(y, patch))]

    found = np.zeros(labels.max() + 1)
    ranges = [range(max(c - w // 2, 0), min(c + w // 2 + 1, n)) for c, w, n in zip(x, window, image.shape)]
    for f, label in zip(wide[1:], labels):
        for y in np.stack(np.meshgrid(*ranges), -1).reshape(-1, 3):
            distance = ((patch_at(wide[0], x) - patch_at(f, y)) ** 2).sum()
            found[label[tuple(y)]] += np.exp(-distance / h)
    return found


@pytest.mark.parametrize(
    ("patch", "window", "h"),
    [
        ((7, 7, 1), (7, 7, 3), 10.0),
        ((7, 7, 1), (7, 7, 3), 0.3),
        ((3, 1, 5), (1, 3, 5), 0.1),
        ((1, 1, 1), (1, 1, 1), 1.0),
    ],
)
def test_is_the_plain_definition(patch, window, h):
    shape = (22, 17, 9)
    target = smooth(shape, 5, 0)[1]
    labels, images = (np.stack(v) for v in zip(*[smooth(shape, 5, 0)] + [smooth(shape, 5, s) for s in (1, 2)]))
    found = fuse_labels(labels, images, target, patch, window, h)
    assert found.dtype == np.uint8
    where = np.argwhere(undecided(labels, window))
    sample = np.random.default_rng(0).permutation(len(where))[:150]
    corners = [(i, j, k) for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)]
    checked = 0
    for x in [*map(tuple, where[sample]), *corners]:
        expected = votes(labels, images, target, x, patch, window, h)
        best = np.sort(expected)[::-1]
        if best[0] - best[1] > 1e-5 * best[0]:  # not where rounding decides
            assert found[x] == expected.argmax()
            checked += 1
    assert checked > 50


def test_both_paths_agree_and_threads_change_nothing():
    shape = (40, 21, 9)  # more rows than one tile has
    target = smooth(shape, 4, 0)[1]
    labels, images = (np.stack(v) for v in zip(*[smooth(shape, 4, s) for s in (0, 1, 2)]))
    for settings in ({}, {"patch": (3, 5, 3), "window": (5, 1, 3), "h": 0.2}):
        one = fuse_labels(labels, images, target, **settings)
        assert np.array_equal(one, fuse_labels(labels, images, target, threads=3, **settings))
        other = fuse_labels(*(torch.from_numpy(v) for v in (labels, images, target)), **settings)
        assert other.dtype == torch.uint8 and (one == other.numpy()).mean() > 0.9999


def test_settled_voxels_are_the_ones_with_one_label_in_the_window():
    labels = np.zeros((2, 9, 9, 5), np.uint8)
    labels[1, 4, 4, 2] = 3
    expected = np.zeros((9, 9, 5), bool)
    expected[1:8, 1:8, 1:4] = True
    assert np.array_equal(undecided(labels, (7, 7, 3)), expected)


def test_the_atlas_that_looks_like_the_target_wins():
    label = np.zeros((2, 12, 12, 3), np.uint8)
    label[0, :6], label[1, :6] = 7, 2  # two atlases that disagree on the upper half
    image = np.zeros((12, 12, 3), np.float32)
    image[:6] = 1
    images = np.stack([image, 1 - image])  # only the first one looks like the target
    assert np.array_equal(np.unique(fuse_labels(label, images, image, h=0.1)[:2]), [7])
    assert np.array_equal(np.unique(fuse_labels(label, images[::-1], image, h=0.1)[:2]), [2])


@given(hnp.arrays(np.uint8, (4, 3, 4, 2), elements=st.integers(0, 3)))
def test_majority_is_the_mode(labels):
    expected = stats.mode(labels, axis=0).mode  # of two alike the smaller
    assert np.array_equal(majority_vote(labels), expected)
    assert np.array_equal(majority_vote(torch.from_numpy(labels)).numpy(), expected)
    assert np.array_equal(fuse_labels(list(labels)), expected)  # without images: the majority


def test_one_atlas_alone_and_nothing_to_decide():
    label, image = smooth((10, 10, 4), 3, 0)
    assert np.array_equal(majority_vote([label]), label)
    same = np.full((2, 6, 6, 4), 9, np.uint8)
    assert (fuse_labels(same, same.astype(np.float32), np.zeros((6, 6, 4))) == 9).all()


def test_wrong_arguments():
    label, image = np.zeros((2, 6, 6, 4), np.uint8), np.zeros((2, 6, 6, 4), np.float32)
    with pytest.raises(UsageError, match="no atlas"):
        fuse_labels([])
    with pytest.raises(UsageError, match="the target alone"):
        fuse_labels(label, None, image[0])
    with pytest.raises(UsageError, match="the atlases alone"):
        fuse_labels(label, image)
    with pytest.raises(UsageError, match=r"patch: found \(2, 7, 1\)"):
        fuse_labels(label, image, image[0], patch=(2, 7, 1))
    with pytest.raises(UsageError, match="window: found"):
        fuse_labels(label, image, image[0], window=(7, 7))
    with pytest.raises(UsageError, match="h: found 0"):
        fuse_labels(label, image, image[0], h=0)
    with pytest.raises(DataError, match=r"\(D0, D1, D2\)"):
        fuse_labels(label, image, image[0, 1:])
    with pytest.raises(DataError, match="one shape"):
        fuse_labels([label[0], label[0, 1:]])
    with pytest.raises(DataError, match="not finite"):
        fuse_labels(label, image * np.nan, image[0])
