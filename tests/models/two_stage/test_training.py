"""The four steps: what each minimises and trains, and leaves alone; a killed run; the history; what cannot be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shapelab.augment import AffineRanges
from shapelab.data.scheme import CARDIAC, WHOLE_HEART
from shapelab.errors import DataError, UsageError
from shapelab.models.two_stage import training
from shapelab.models.two_stage.networks import TwoStageConfig, TwoStageNet, short_axis_config
from shapelab.models.two_stage.training import beside, train_two_stage
from shapelab.models.two_stage.volumes import Drawn, Volume
from shapelab.phantoms.randomise import Randomisation
from shapelab.training import Run, TimeUp, probing, seeded, time_limit

STILL = AffineRanges((0, 0, 0), 0, 0, 0, (2, 2, 2))
TINY = TwoStageConfig(
    n_classes=4,
    factor=(2, 2, 2),
    width1=4,
    dilation=(2,),
    kernel1=(3, 3, 3),
    width2=4,
    levels2=1,
    fold=1,
    slices=3,
    outputs=4,
    dropout=0.1,
    steps=(2, 2, 2, 2),
    batch=(2, 1),
    sides=(12, 16),
    every=1,
    margin_mm=3.0,
    affine=STILL,
    elastic=None,
)
QUIET = {"progress": False, "device": "cpu"}
COMMON = {"stage", "steps", "epoch", "lr", "seconds", "loss"}


def heart(seed=0, shape=(24, 20, 16)):
    """A shell about a ball, and another beside them, each in its own grey."""
    rng = np.random.default_rng(seed)
    where = np.stack(np.indices(shape), -1) + 0.5
    left, right = (12, 8, 8) + rng.uniform(-1, 1, 3), (11, 15, 8) + rng.uniform(-1, 1, 3)
    label = np.zeros(shape, np.uint8)
    label[np.linalg.norm(where - right, axis=-1) < 3.5] = 1
    label[np.linalg.norm(where - left, axis=-1) < 5.5] = 2
    label[np.linalg.norm(where - left, axis=-1) < 3.5] = 3
    grey = np.array([-0.9, 0.3, -0.3, 0.9])[label] + 0.05 * rng.standard_normal(shape)
    return Volume(grey.clip(-1, 1).astype(np.float32), label, (1.5, 1.5, 1.5))


HEARTS = [heart(0), heart(1), heart(2)]


def train(volumes=HEARTS, run=None, validation=None, start=None, config=TINY, **changes):
    run = run or Run(seed=0, **QUIET)
    config = replace(config, **changes)
    return train_two_stage(
        volumes, config, run, scheme=CARDIAC, start=start, validation=validation, data="three hearts"
    )


def weights_of(part):
    return {name: value.clone() for name, value in part.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def trained():
    numbers = {"width1": 8, "width2": 8, "dropout": 0.0, "rates": (1e-2, 1e-2, 5e-3, 1e-2)}
    return train(steps=(40, 200, 40, 160), every=20, batch=(3, 2), **numbers)


# ------------------------------------------------------------------------------------------------------ what is learned


@pytest.mark.slow
def test_the_loss_falls_in_every_step(trained):
    _, history = trained
    for stage in (1, 2, 3, 4):
        losses = [row["loss"] for row in history.rows if row["stage"] == stage]
        assert losses[-1] < {1: 0.8, 2: 0.5, 3: 0.97, 4: 0.8}[stage] * losses[0], (stage, losses)
    assert history["stage"].tolist() == [1] * 2 + [2] * 10 + [3] * 2 + [4] * 8
    assert history["steps"].tolist() == [*range(20, 441, 20)]  # of all stages together


@pytest.mark.slow
def test_it_segments_hearts_it_has_not_seen(trained):
    made, other = trained[0], heart(7)
    assert training.mean_dice(made.segment, [other], made.config) > 0.8
    found = made.segment(other)
    assert found.dtype == np.uint8 and found.shape == other.label.shape
    assert made.metadata["n"] == 3 and made.metadata["steps"] == [40, 200, 40, 160]
    assert made.metadata["data"] == "three hearts" and made.metadata["final"]["stage"] == 4


@pytest.mark.parametrize(
    ("stage", "losses"),
    [
        (1, {"roi", "roi entropy"}),
        (2, {"roi", "dice1", "entropy1"}),
        (3, {"dice1", "entropy1", "dice2", "entropy2"}),
        (4, {"dice2", "entropy2"}),
    ],
)
def test_a_step_has_its_losses_and_trains_its_nets_alone(stage, losses):
    """Table 1: Net1 in steps 1 and 2, both in 3, Net2 in 4, with Net1 as it was to the last bit."""
    first = seeded(lambda: TwoStageNet(TINY), 0)
    made, history = train(steps=tuple(2 * (s == stage) for s in (1, 2, 3, 4)))
    assert set(history.last) - COMMON == losses
    assert history.last["loss"] == pytest.approx(sum(history.last[name] for name in losses))
    for part, trains in (("net1", stage <= 3), ("net2", stage >= 3)):
        now, then = weights_of(getattr(made.net, part)), weights_of(getattr(first, part))
        assert same(now, then) != trains
        if trains:  # all of it
            assert not [name for name in now if torch.equal(now[name], then[name])]
    assert {row["stage"] for row in history.rows} == {stage}


def test_net1_is_frozen_with_its_statistics_and_its_dropout():
    """Batch normalisation would go on counting in training mode; in step 3 it must, in step 4 it must not."""
    for steps, moves in (((0, 0, 2, 0), True), ((0, 0, 0, 2), False)):
        made, _ = train(units1="batch", units2="batch", steps=steps)
        counted = {name: int(b) for name, b in made.net.net1.named_buffers() if name.endswith("num_batches_tracked")}
        assert set(counted.values()) == ({2} if moves else {0})


@pytest.mark.parametrize("stage", [3, 4])
def test_what_net2_gets_wrong_moves_net1_in_step_3_alone(stage):
    """End to end: the fine loss has a gradient in Net1."""

    def look(part):
        part.model.train()
        losses = part.step(part.batches(0)[0])
        (losses["dice2"] + losses["entropy2"]).backward()
        slopes = [p.grad for p in look.net1.parameters()]
        if stage == 3:
            assert all(g is not None for g in slopes) and max(float(g.abs().max()) for g in slopes) > 0
        else:
            assert all(g is None for g in slopes)
        assert all(p.grad is not None for p in look.net2.parameters())
        raise InterruptedError

    build = training.TwoStageNet

    def noted(config):
        net = build(config)
        look.net1, look.net2 = net.net1, net.net2
        return net

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError), probing(look):
        patch.setattr(training, "TwoStageNet", noted)
        train(steps=tuple(int(s == stage) for s in (1, 2, 3, 4)))


def test_a_step_of_no_batches_is_left_out():
    made, history = train(steps=(0, 2, 0, 1))
    assert history["stage"].tolist() == [2, 2, 4] and history["steps"].tolist() == [1, 2, 3]
    assert not same(weights_of(made.net), weights_of(train(steps=(0, 2, 2, 1))[0].net))


def test_one_stage_trains_net2_alone_for_as_many_batches():
    made, history = train(stages=1)
    assert made.net.net1 is None
    assert history["stage"].tolist() == [4] * 8 and history["steps"].tolist() == [*range(1, 9)]
    assert set(history.last) - COMMON == {"dice2", "entropy2"}


def test_rates_and_decay_are_those_of_the_config():
    seen = []

    def look(part):
        seen.append((part.settings.learning_rate, part.settings.schedule, part.settings.weight_decay))
        return training.History([{"epoch": 0, "loss": 1.0}], "probed")

    with probing(look):
        train(rates=(1e-3, 2e-3, 3e-3, 4e-3), weight_decay=0.01)
    assert seen == [(rate, "one-cycle", 0.01) for rate in (1e-3, 2e-3, 3e-3, 4e-3)]


def test_coarser_scales_count_half_of_the_one_above():
    config = short_axis_config(
        "quick", field=32, window=16, outputs=2, width1=4, width2=4, dilation=(2,), levels2=2, deep=1, batch=(2, 2),
        steps=(0, 0, 0, 1), every=1, looks=Randomisation(**dict.fromkeys(vars(Randomisation()), 0)),
    )  # fmt: skip
    stacks = [Volume(h.image[..., :4], h.label[..., :4], (1.5, 1.5, 8.0)) for h in HEARTS]

    def look(part):
        part.model.train()
        found = []
        handle = part.model.register_forward_hook(lambda _, __, out: found.append(out))
        losses = part.step(part.batches(0)[0])
        handle.remove()
        assert set(losses) == {"dice2", "entropy2", "dice2 1", "entropy2 1"} and len(found[0]) == 2
        with pytest.MonkeyPatch.context() as patch:  # the very losses: of ones, to see the shares
            patch.setattr(training, "dice_loss", lambda *_: torch.ones(()))
            patch.setattr(training, "cross_entropy", lambda *_: torch.ones(()))
            losses = part.step(part.batches(0)[0])
        assert [float(losses[name]) for name in ("dice2", "entropy2", "dice2 1", "entropy2 1")] == pytest.approx(
            [1, 0.7, 0.5, 0.35]
        )
        raise InterruptedError

    with pytest.raises(InterruptedError), probing(look):
        train(stacks, config=config, cross_entropy=0.7)


def test_net2_reads_net1s_probabilities_where_its_slab_lies():
    """At the slab's ends the last slice again, as of the image; the image is the last channel."""
    coarse = torch.rand(1, 4, 6, 5, 4)
    fine = torch.rand(1, 1, 8, 6, 6)
    drawn = Drawn(torch.zeros(1, 1, 6, 5, 4), torch.zeros(1, 6, 5, 4), fine, torch.zeros(1, 8, 6, 4),
                  (slice(2, 10), slice(4, 10), slice(-2, 4)))  # fmt: skip
    made = beside(coarse, drawn, TINY)
    whole = torch.nn.functional.interpolate(coarse, scale_factor=2.0, mode="trilinear", align_corners=False)
    expected = whole[:, :, 2:10, 4:10, [0, 0, 0, 1, 2, 3]]
    assert made.shape == (1, 5, 8, 6, 6)
    assert torch.allclose(made[:, :4], expected, atol=1e-6) and torch.equal(made[:, 4:], fine)
    far = replace(drawn, box=(slice(2, 10), slice(4, 10), slice(4, 10)))
    assert torch.allclose(beside(coarse, far, TINY)[:, :4], whole[:, :, 2:10, 4:10, [4, 5, 6, 7, 7, 7]], atol=1e-6)


# -------------------------------------------------------------------------------------------------- seeds and kept runs


def test_the_seed_makes_the_weights():
    one, again, other = (train(run=Run(seed=seed, **QUIET))[0] for seed in (0, 0, 1))
    assert same(weights_of(one.net), weights_of(again.net))
    assert not torch.equal(one.net.net2.out[0].weight, other.net.net2.out[0].weight)


def test_a_run_that_is_stopped_in_every_step_ends_in_the_same_weights(tmp_path):
    whole, history = train()
    stopped = 0
    while True:
        try:
            with time_limit(0):  # one batch at least each time
                resumed, again = train(run=Run(tmp_path, seed=0, **QUIET))
            break
        except TimeUp:
            stopped += 1
    assert stopped == 8  # in each of the four steps
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step1", "step2", "step3", "step4"]
    assert same(weights_of(whole.net), weights_of(resumed.net))
    assert again["loss"].tolist() == history["loss"].tolist() and again["stage"].tolist() == history["stage"].tolist()


@pytest.mark.parametrize("changes", [{"margin_mm": 4.0}, {"steps": (2, 2, 2, 3)}])
def test_a_kept_run_of_other_numbers_or_volumes_is_not_taken(tmp_path, changes):
    run = Run(tmp_path, seed=0, **QUIET)
    train(run=run, steps=(1, 0, 0, 0))
    with pytest.raises(DataError, match="found a checkpoint with"):
        train(run=run, **{"steps": (1, 0, 0, 0), **changes})
    with pytest.raises(DataError, match="found a checkpoint with volumes"):
        train([heart(0), heart(1), heart(3)], run=run, steps=(1, 0, 0, 0))


def test_weights_to_begin_with():
    """The very weights where nothing can move; another seed changes nothing of them."""
    start, _ = train(steps=(0, 0, 1, 0))
    made, _ = train(start=start, steps=(0, 0, 1, 0), rates=(1e-20,) * 4, run=Run(seed=5, **QUIET), weight_decay=0.0)
    for name, value in start.net.state_dict().items():
        assert torch.allclose(made.net.state_dict()[name], value, atol=1e-7), name
    with pytest.raises(UsageError, match="start: found nets of .*'width2': 4.*; expected .*'width2': 6"):
        train(start=start, width2=6)
    before = weights_of(start.net)
    train(start=start)
    assert same(weights_of(start.net), before)  # what is begun with is left alone


# ----------------------------------------------------------------------------------------------------------- validation


def test_validation_is_the_mean_dice_of_each_net_that_is_trained_by_then():
    others = [heart(8), heart(9)]
    made, history = train(validation=others)
    columns = {
        stage: {c for row in history.rows if row["stage"] == stage for c in row if c[:3] == "val"}
        for stage in (1, 2, 3, 4)
    }
    assert columns == {1: {"val net1"}, 2: {"val net1"}, 3: {"val net1", "val net2"}, 4: {"val net1", "val net2"}}
    for net in (1, 2):
        dice = []
        for volume in others:
            found = made.segment(volume, net=net)
            for c in (1, 2, 3):
                a, b = found == c, volume.label == c
                dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert history.last[f"val net{net}"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert same(weights_of(made.net), weights_of(train()[0].net))  # looking changes nothing
    assert {c for c in train(stages=1, steps=(1, 0, 0, 0), validation=others)[1].last if c[:3] == "val"} == {"val net2"}


# ------------------------------------------------------------------------------------------------------- what cannot be


def test_what_cannot_be_learned_from_is_named():
    with pytest.raises(DataError, match="volumes: found none"):
        train([])
    with pytest.raises(DataError, match=r"volumes\[1\]: found no label"):
        train([HEARTS[0], replace(HEARTS[1], label=None)])
    with pytest.raises(DataError, match=r"validation\[0\]: found no label"):
        train(validation=[replace(HEARTS[1], label=None)])
    with pytest.raises(DataError, match=r"sizes .* in one batch"):
        train([HEARTS[0], heart(1, (24, 20, 12))])
    with pytest.raises(UsageError, match="of 8 classes; expected 4"):
        train_two_stage(HEARTS, TINY, Run(seed=0, **QUIET), scheme=WHOLE_HEART)


def test_labels_beyond_the_classes_are_refused_where_they_mean_nothing():
    """Of a stack they are the RV's wall, which becomes background; of a whole heart, integers of no channel."""
    wrong = replace(HEARTS[1], label=np.where(HEARTS[1].label == 3, 4, 0).astype(np.uint8))
    with pytest.raises(DataError, match=r"volumes\[1\]: found labels up to 4; expected channel numbers 0 to 3"):
        train([HEARTS[0], wrong])
    training.check_volumes([HEARTS[0], wrong], replace(TINY, looks=Randomisation()), CARDIAC)
