"""The native network: shapes, neighbours, training that learns, two passes back to a scan's own voxels, files."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from shapelab.data.grid import to_grid
from shapelab.data.scheme import BIVENTRICULAR, CARDIAC
from shapelab.data.subject import Subject
from shapelab.data.volumes import (
    SliceData,
)
from shapelab.errors import DataError, UsageError
from shapelab.models import native
from shapelab.models.native import (
    NativeConfig,
    NativeNet,
    NativeSegmenter,
    heart_centre,
    keep_largest,
    segment,
    train_native,
)
from shapelab.phantoms.randomise import Randomisation
from shapelab.tensor_files import checksum
from shapelab.training import Run, seeded

SMALL = NativeConfig(spacing=2.0, size=32, first=64, second=48, widths=(8, 8), slices=32, batch=8)


def heart(shape=(48, 48, 5), centre=(24, 24)) -> np.ndarray:
    """Tissues of a round LV in its wall, and an RV at its left."""
    x, y = np.meshgrid(np.arange(shape[0]) - centre[0], np.arange(shape[1]) - centre[1], indexing="ij")
    plane = np.zeros(shape[:2], np.uint8)
    plane[np.hypot(x + 9, y) < 8] = 1
    plane[np.hypot(x - 2, y) < 8] = 2
    plane[np.hypot(x - 2, y) < 5] = 3
    return np.repeat(plane[:, :, None], shape[2], 2)


def image_of(tissues: np.ndarray) -> np.ndarray:
    return np.array([0.1, 0.6, 0.3, 0.9], np.float32)[tissues]


class Knows(NativeSegmenter):
    """Reads the label from the intensity: what a perfect network would do, to test all that is around it."""

    def probabilities(self, image, distance_mm, turns=(0.0,)):
        levels = np.array([0.0, 0.625, 0.25, 1.0])  # of background, RV, wall, LV after scaling to [0, 1]
        return np.eye(4, dtype=np.float32)[np.abs(image[..., None] - levels).argmin(-1)].transpose(3, 0, 1, 2)


def test_output_is_as_large_as_the_input_and_every_parameter_is_used():
    net = NativeNet(SMALL)
    out = net(torch.rand(2, 3, 48, 32))
    assert out.shape == (2, 4, 48, 32)
    out.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_size_of_the_quick_network():
    # four blocks down (the first reads 12 planes of 2 x 2 pixels), three up, one last convolution
    w = NativeConfig().widths

    def block(i, o):
        return 9 * i * o + 9 * o * o + 4 * o

    up = [block(w[k] + w[k - 1], w[k - 1]) for k in (3, 2, 1)]
    expected = sum(block(i, o) for i, o in zip((12, *w), w)) + sum(up) + 9 * w[0] * 16 + 16
    assert sum(p.numel() for p in NativeNet(NativeConfig()).parameters()) == expected < 1.5e6


def test_training_learns_and_resumes_to_the_same_weights(tmp_path):
    tissues = heart()
    data = SliceData.of_stacks([image_of(tissues)] * 3, [tissues] * 3, [10.0] * 3)
    strength = Randomisation(**{**dict.fromkeys(vars(Randomisation()), 0), "shift_mm": 4.0})
    config = replace(SMALL, slices=150, strength=strength, learning_rate=1e-2)
    made, history = train_native(data, config, run=Run(progress=False, seed=1))
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    again, _ = train_native(data, config, run=Run(progress=False, seed=1, checkpoint=tmp_path))
    third, _ = train_native(
        data, config, run=Run(progress=False, seed=1, checkpoint=tmp_path)
    )  # finds the end of the run
    assert checksum(made.network.state_dict()) == checksum(again.network.state_dict())
    assert checksum(third.network.state_dict()) == checksum(again.network.state_dict())


def test_other_data_is_another_run(tmp_path):
    tissues, run = heart(), Run(tmp_path, progress=False)
    train_native(SliceData.of_stacks([image_of(tissues)], [tissues], [10.0]), SMALL, run)
    for image, label in ((1 - image_of(tissues), tissues), (image_of(tissues), np.flip(tissues, 1))):
        with pytest.raises(DataError, match="found a checkpoint with data"):
            train_native(SliceData.of_stacks([image], [label], [10.0]), SMALL, run)


class Far:
    """A term of whole stacks that a network gives, with its weight."""

    def __init__(self, seed, weight):
        self.network, self.weight = seeded(lambda: torch.nn.Conv2d(4, 1, 1), seed), weight

    def __call__(self, logits, labels, distance_mm):
        return self.weight * self.network(logits).square().mean()


@pytest.mark.parametrize("other, words", [(Far(1, 0.5), "network.weights"), (Far(0, 0.1), "weight 0.5"), (None, "")])
def test_another_prior_is_another_run(tmp_path, other, words):
    tissues, run = heart(), Run(tmp_path, progress=False)
    data = SliceData.of_stacks([image_of(tissues)], [tissues], [10.0])

    def train(term):
        train_native(data, SMALL, run, stack_loss=term, whole_stacks=True)

    train(Far(0, 0.5))
    train(Far(0, 0.5))
    with pytest.raises(DataError, match=f"found a checkpoint with .*step.stack_loss.*{words}"):
        train(other)


def test_the_rvs_wall_is_background_and_weight_decay_is_the_configs(monkeypatch):
    seen = {}
    monkeypatch.setattr(native, "fit", lambda step, *args, settings, **rest: seen.update(step=step, settings=settings))
    monkeypatch.setattr(native, "cross_entropy", lambda logits, labels: seen.update(labels=labels) or logits.mean())
    wall = np.where(heart() > 0, 4, 0).astype(np.uint8)
    data = SliceData.of_stacks([image_of(heart())], [wall], [10.0])
    config = replace(SMALL, weight_decay=0.3, decay="convolutions", learning_rate=0.1)
    train_native(data, config, Run(progress=False))
    seen["step"](torch.arange(5))
    assert not seen["labels"].any()
    told = seen["settings"]
    assert (told.learning_rate, told.weight_decay, told.decay) == (0.1, 0.3, "convolutions")


def test_stacks_stay_whole_and_the_prior_sees_each():
    tissues = heart()
    data = SliceData.of_stacks([image_of(tissues)] * 2, [tissues] * 2, [10.0, 5.0])
    seen = []

    def prior(logits, labels, distance):
        seen.append((tuple(logits.shape), tuple(labels.shape), distance))
        return logits.square().mean()

    _, history = train_native(
        data, replace(SMALL, slices=10, batch=10), run=Run(progress=False), stack_loss=prior, whole_stacks=True
    )
    assert sorted(seen) == [((5, 4, 32, 32), (5, 32, 32), 5.0), ((5, 4, 32, 32), (5, 32, 32), 10.0)]
    assert history["prior"][0] > 0
    with pytest.raises(UsageError, match="whole_stacks"):
        train_native(data, SMALL, run=Run(progress=False), stack_loss=prior)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 10.0), (1.0, 1.0, 8.0), (1.5, 1.5, 5.0)])
def test_a_prediction_comes_back_to_the_scans_own_voxels(spacing):
    size = round(120 / spacing[0])
    tissues = heart((48, 48, 4))
    grow = round(2 / spacing[0] * 10) / 10
    index = np.clip((np.arange(size) / grow - size / grow / 2 + 24 + 6).astype(int), 0, 47)  # 12 mm off the middle
    scan = tissues[np.ix_(index, index, np.arange(4))]
    made = Knows(NativeNet(SMALL), SMALL).predict(100 * image_of(scan) + 7, spacing)
    assert made.shape == scan.shape and made.dtype == np.uint8
    for value in (1, 2, 3):
        both = ((made == value) & (scan == value)).sum()
        # an edge of blood and wall, interpolated, has the grey of the RV for a pixel: not all can be right
        assert 2 * both / ((made == value).sum() + (scan == value).sum()) > 0.8


def test_the_second_pass_is_about_the_heart_and_both_know_the_distance_of_slices(monkeypatch):
    centres, distances = [], []

    class Notes(Knows):
        def probabilities(self, image, distance_mm, turns=(0.0,)):
            distances.append(distance_mm)
            return super().probabilities(image, distance_mm, turns)

    def noted(subject, grid, centre):
        centres.append(np.array(centre))
        return to_grid(subject, grid, centre)

    monkeypatch.setattr(native, "to_grid", noted)
    scan = heart((70, 60, 3), centre=(42, 22))
    Notes(NativeNet(SMALL), SMALL).predict(image_of(scan), (2.0, 2.0, 8.0))
    assert centres[0] == pytest.approx([69, 59, 8]) and distances == [8.0, 8.0]  # the middle of the scan
    assert centres[1] == pytest.approx([*heart_centre(scan, (2.0, 2.0)), 8], abs=2)


def test_turns_are_undone():
    class Sees(torch.nn.Module):
        """Logit of the LV cavity: the intensity."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return torch.cat([x[:, 1:2] * k for k in (0, 0, 0, 8)], 1) * self.weight

    x, y = np.meshgrid(np.arange(48) - 23.5, np.arange(48) - 23.5, indexing="ij")
    bar = np.exp(-((x - 6) ** 2) / 60 - (y + 4) ** 2 / 8).astype(np.float32)[:, :, None]
    segmenter = NativeSegmenter(Sees(), SMALL)
    plain, turned = (segmenter.probabilities(bar, 10.0, turns)[3, 8:40, 8:40] for turns in ((0.0,), (30.0,)))
    assert np.abs(plain - turned).max() < 0.1 and np.ptp(plain) > 0.7


def test_an_empty_result_stays_empty():
    made = Knows(NativeNet(SMALL), SMALL).predict(np.zeros((40, 40, 3)), (2.0, 2.0, 10.0))
    assert made.shape == (40, 40, 3) and not made.any()


def test_the_mean_over_turns_keeps_shape_and_sums_to_one():
    torch.manual_seed(0)
    segmenter = NativeSegmenter(NativeNet(SMALL), SMALL)
    image = np.random.default_rng(0).random((32, 48, 3), np.float32)
    soft = segmenter.probabilities(image, 10.0, (-10.0, 0.0, 10.0))
    assert soft.shape == (4, 32, 48, 3)
    assert np.allclose(soft[:, 12:-12, 16:-16].sum(0), 1, atol=1e-3)


def test_the_batch_does_not_change_a_slice():
    torch.manual_seed(0)
    segmenter = NativeSegmenter(NativeNet(SMALL), SMALL)
    image = np.random.default_rng(0).random((32, 32, 5), np.float32)
    whole = segmenter.probabilities(image, 10.0)
    part = segmenter.probabilities(image[:, :, 1:4], 10.0)
    assert np.allclose(whole[..., 2], part[..., 1], atol=2e-2)  # bf16 where the processor has it


def test_keep_largest_by_hand():
    label = np.zeros((12, 12, 1), np.uint8)
    label[1:5, 1:5] = 2
    label[2:4, 2:4] = 3  # LV of 16 voxels
    label[8:10, 8:10] = 2  # 4 stray voxels of wall
    label[6:11, 1:5] = 1  # RV of 20
    label[1, 8:10] = 1  # 2: less than a fifth
    label[10:, 10:] = 1  # 4: a fifth
    label[8:10, 6] = 0
    out = keep_largest(label)
    assert (out[1:5, 1:5] == label[1:5, 1:5]).all() and (out[6:11, 1:5] == 1).all()
    assert (out > 0).sum() == 16 + 20 + 4
    assert not keep_largest(np.zeros_like(label)).any()


def test_heart_centre_is_the_middle_of_the_box_in_mm():
    label = np.zeros((10, 10, 2), np.uint8)
    label[2, 3, 0], label[6, 9, 1] = 1, 3
    assert heart_centre(label, (1.5, 2.0, 10.0)).tolist() == [6.0, 12.0]
    assert heart_centre(np.zeros_like(label), (1.0, 1.0, 1.0)) is None


def test_saved_and_read_back(tmp_path):
    torch.manual_seed(3)
    segmenter = NativeSegmenter(NativeNet(SMALL), SMALL, metadata={"data": "none"})
    image = np.random.default_rng(0).random((32, 32, 3), np.float32)
    segmenter.save(tmp_path)
    back = NativeSegmenter.load(tmp_path)
    assert back.config == SMALL and back.scheme == CARDIAC and back.metadata == {"data": "none"}
    assert np.array_equal(back.probabilities(image, 10.0), segmenter.probabilities(image, 10.0))
    assert sorted(p.name.split("-")[0] for p in tmp_path.iterdir()) == ["model.json", "weights"]


def test_half_the_size_and_nearly_the_same(tmp_path):
    torch.manual_seed(3)
    segmenter = NativeSegmenter(NativeNet(SMALL), SMALL)
    size = []
    for half in (False, True):
        segmenter.save(tmp_path, half=half)
        size.append(next(tmp_path.glob("*.safetensors")).stat().st_size)
    assert size[1] < 0.75 * size[0]  # names and shapes are as long as before
    back = NativeSegmenter.load(tmp_path)
    for a, b in zip(segmenter.network.parameters(), back.network.parameters(), strict=True):
        assert b.dtype == torch.float32 and torch.allclose(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "damage, match",
    [
        ("missing", "no such file"),
        ("kind", "kind: found 'other'"),
        ("json", "damaged description"),
        ("config", "damaged"),
        ("widths", "do not fit"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, match):
    NativeSegmenter(NativeNet(SMALL), SMALL).save(tmp_path)
    file = tmp_path / "model.json"
    text = json.loads(file.read_text())
    if damage == "missing":
        file.unlink()
    elif damage == "json":
        file.write_text("{")
    else:
        if damage == "kind":
            text["kind"] = "other"
        elif damage == "config":
            text["config"]["depth"] = 3
        else:
            text["config"]["widths"] = [8, 16]
        file.write_text(json.dumps(text))
    with pytest.raises(DataError, match=match):
        NativeSegmenter.load(tmp_path)


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match="size=30"):
        NativeConfig(size=30)
    with pytest.raises(UsageError, match="5 classes"):
        NativeSegmenter(NativeNet(SMALL), SMALL, BIVENTRICULAR)
    assert NativeConfig.profile("quick", hearts=3).hearts == 3


class KnowsTheLeft(Knows):
    """Sees an RV only where it lies to the left of the LV, as a network does that has met no other hearts."""

    def probabilities(self, image, distance_mm, turns=(0.0,)):
        soft = super().probabilities(image, distance_mm, turns)
        middle = np.argwhere(soft[3] > 0).mean(0)[0]
        soft[:, int(middle) :][1] = 0
        soft[0] = 1 - soft[1:].sum(0)
        return soft


@pytest.fixture(scope="module")
def stack():
    """A heart that narrows to the apex, and its image, at 2 x 2 x 8 mm."""
    label = heart((64, 60, 6), (32, 30))
    label[..., 4:][label[..., 4:] == 2] = 0
    return label, image_of(label)


def test_one_scan_stored_in_any_order_gives_one_label_map_in_its_own(stack, every_order):
    label, image = stack
    knows = KnowsTheLeft(NativeNet(SMALL), SMALL)
    tipped = np.eye(4)
    tipped[:3, :3] = Rotation.from_euler("xy", (35, -20), degrees=True).as_matrix() @ np.diag([2.0, 2, 8])
    first = None
    for stored, grey, affine in [*every_order(label, image, tipped)][::5]:
        found, turn = segment(knows, Subject("a", CARDIAC, image=grey, affine=affine))
        upright = turn.canonical(found)
        first = upright if first is None else first
        assert found.shape == stored.shape and (upright == first).all()
        assert all(((found == v) == (stored == v)).mean() > 0.97 and (found == v).any() for v in (1, 2, 3))
        rv, lv = (np.argwhere(np.isin(upright, v)).mean(0) for v in ([1], [2, 3]))
        assert rv[0] < lv[0] and (upright[..., 0] > 0).sum() > (upright[..., -1] > 0).sum()


def test_a_stack_that_lies_half_turned_is_found_turned_back(stack):
    label, image = stack
    knows, turned = KnowsTheLeft(NativeNet(SMALL), SMALL), np.ascontiguousarray(image[::-1, ::-1])
    affine = np.diag([2.0, 2, 8, 1])  # does not say so
    found, turn = segment(knows, Subject("a", CARDIAC, image=turned, affine=affine))
    assert (found == label[::-1, ::-1]).mean() > 0.99 and (found == 1).sum() > 0.9 * (label == 1).sum()
    assert turn.axes.tolist() == [[0, -1], [1, -1], [2, 1]]
    # what a stack that lies the wrong way gives, the border of a mixed colour aside
    assert (knows.predict(turned, (2, 2, 8)) == 1).sum() < 0.2 * (label == 1).sum()


def test_what_is_warned_of_is_that_of_the_way_that_was_taken(stack):
    label, image = stack

    class Warns(KnowsTheLeft):
        def predict(self, image, spacing):
            found = super().predict(image, spacing)
            warnings.warn(f"saw {'an' if (found == 1).sum() > 0.5 * (label == 1).sum() else 'no'} RV", stacklevel=1)
            return found

    knows, affine = Warns(NativeNet(SMALL), SMALL), np.diag([2.0, 2, 8, 1])
    for scan in (image, np.ascontiguousarray(image[::-1, ::-1])):
        with pytest.warns(UserWarning) as said:
            segment(knows, Subject("a", CARDIAC, image=scan, affine=affine))
        assert [str(warning.message) for warning in said] == ["saw an RV"]


def test_a_subject_without_an_image_cannot_be_segmented(stack):
    with pytest.raises(UsageError, match="subject a: found no image"):
        segment(Knows(NativeNet(SMALL), SMALL), Subject("a", CARDIAC, stack[0]))
