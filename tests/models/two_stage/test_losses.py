"""The paper's equations 1 to 4 by hand, on a few voxels; weights; what has no voxel; what the printed form leaves."""

import math

import pytest
import torch

from shapelab.models.two_stage.losses import class_weights, dice_loss, roi_entropy, roi_loss

# four voxels: two of structure 1, one of structure 2, one of background
P = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.75, 0.125, 0.125]])
LABELS = torch.tensor([1, 1, 2, 0], dtype=torch.uint8).view(1, 4, 1, 1)
LOGITS = P.log().T.reshape(1, 3, 4, 1, 1)
S1 = (2 * (0.25 + 0.5) + 1) / (2 + 1.125 + 1)  # t p, t, p; a voxel is added above and below
S2 = (2 * 0.25 + 1) / (1 + 0.875 + 1)


def even(n=3):
    """Weights of structures of one size."""
    return class_weights(torch.ones(n))


def test_weights_are_one_over_the_voxels_of_a_structure_their_mean_one():
    assert class_weights(torch.tensor([90, 2, 1])).tolist() == pytest.approx([0, 2 / 3, 4 / 3])
    # the background counts for nothing, however large; nor does what is nowhere
    assert class_weights(torch.tensor([10**9, 2, 0, 1])).tolist() == pytest.approx([0, 2 / 3, 0, 4 / 3])
    assert class_weights(torch.tensor([5, 0, 0])).tolist() == [0, 0, 0]
    assert class_weights(torch.tensor([0, 3])).dtype == torch.float32


def test_equations_1_and_2():
    assert dice_loss(LOGITS, LABELS, even()).item() == pytest.approx(1 - (S1 + S2) / 2)
    weights = class_weights(torch.tensor([1, 2, 1]))
    assert dice_loss(LOGITS, LABELS, weights).item() == pytest.approx(1 - (S1 + 2 * S2) / 3)
    assert dice_loss(LOGITS, LABELS, 7 * weights).item() == pytest.approx(1 - (S1 + 2 * S2) / 3)  # a share, no size


def test_equations_3_and_4():
    # heart .5 .75 .5 .25, three voxels of it
    assert roi_loss(LOGITS, LABELS).item() == pytest.approx(1 - (2 * 1.75 + 1) / (3 + 2 + 1))
    expected = -(math.log(0.5) + math.log(0.75) + math.log(0.5) + math.log(0.75)) / 4
    assert roi_entropy(LOGITS, LABELS).item() == pytest.approx(expected)


def test_a_batch_is_one_image():
    """Sums go over all volumes of a batch: the order of voxels, and which volume they are in, change nothing."""
    parts = LOGITS.reshape(1, 3, 2, 2, 1), LABELS.reshape(1, 2, 2, 1)
    two = torch.cat([parts[0][:, :, :1], parts[0][:, :, 1:]]), torch.cat([parts[1][:, :1], parts[1][:, 1:]])
    for loss in (lambda x, y: dice_loss(x, y, even()), roi_loss, roi_entropy):
        assert loss(*two).item() == pytest.approx(loss(LOGITS, LABELS).item())


def test_a_structure_that_is_not_there_has_no_part():
    labels = torch.where(LABELS == 2, 0, LABELS)
    assert dice_loss(LOGITS, labels, even()).item() == pytest.approx(1 - S1)
    logits = LOGITS.clone().requires_grad_(True)
    loss = dice_loss(logits, torch.zeros_like(LABELS), even())  # background alone
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().max() == 0
    weights = class_weights(torch.tensor([1, 2, 0]))  # in no training volume, but here
    assert dice_loss(LOGITS, LABELS, weights).item() == pytest.approx(1 - S1)


def test_right_labels_cost_nothing_and_wrong_ones_all():
    labels = (torch.arange(2 * 6**3) % 3).to(torch.uint8).view(2, 6, 6, 6)
    sure = 30.0 * torch.nn.functional.one_hot(labels.long(), 3).float().movedim(-1, 1)
    wrong = sure.roll(1, 1)
    assert dice_loss(sure, labels, even()).item() == pytest.approx(0, abs=1e-5)
    assert roi_loss(sure, labels).item() == pytest.approx(0, abs=1e-5)
    assert roi_entropy(sure, labels).item() == pytest.approx(0, abs=1e-5)
    n = 2 * 6**3 / 3
    assert dice_loss(wrong, labels, even()).item() == pytest.approx(1 - 1 / (2 * n + 1))
    # of what is heart (2 n voxels), n are called background, and n of what is not are called heart
    assert roi_loss(wrong, labels).item() == pytest.approx(1 - (2 * n + 1) / (4 * n + 1))


@pytest.mark.parametrize("loss", [lambda x, y: dice_loss(x, y, even()), roi_loss, roi_entropy])
def test_a_step_down_the_gradient_makes_the_true_class_more_probable(loss):
    logits = torch.zeros(1, 3, 4, 1, 1, requires_grad=True)
    loss(logits, LABELS).backward()
    assert torch.isfinite(logits.grad).all()
    before, after = (x.softmax(1)[0, :, :, 0, 0] for x in (logits.detach(), logits.detach() - 0.1 * logits.grad))
    heart = LABELS.flatten() > 0
    assert (after[0, heart] < before[0, heart]).all() and after[0, ~heart] > before[0, ~heart]


def test_bf16_logits_are_summed_in_fp32():
    labels = torch.ones(1, 40, 40, 40, dtype=torch.uint8)  # 64,000: bf16 stops counting at 256
    logits = torch.zeros(1, 2, 40, 40, 40, dtype=torch.bfloat16)
    assert dice_loss(logits, labels, even(2)).item() == pytest.approx(1 - 64_001 / 96_001, rel=1e-5)
    assert roi_loss(logits, labels).item() == pytest.approx(1 - 64_001 / 96_001, rel=1e-5)


def printed(logits, labels, everywhere):
    """1 - sum_c S_c / N_c as equations 1 and 2 stand in print: sums over the voxels of class c alone, or over all."""
    p, loss = logits.softmax(1), torch.ones(())
    for c in range(1, logits.shape[1]):
        of_class = labels == c
        n, where = int(of_class.sum()), torch.ones_like(of_class) if everywhere else of_class
        t, q = of_class[where].float(), p[:, c][where]
        loss = loss - (2 * (t * q).sum() + 1) / ((t + q).sum() + 1) / n
    return loss


def test_the_printed_form_has_next_to_no_gradient():
    """Structures of 1,000 and 4,000 voxels: ours is 1 / (1/1000 + 1/4000) = 800 times the printed weights'; and the
    printed sums tell no voxel outside a structure that it is none."""
    labels = torch.zeros(1, 20, 20, 20, dtype=torch.uint8)
    labels.view(-1)[:1000], labels.view(-1)[1000:5000] = 1, 2
    start = 0.3 * torch.randn(1, 3, 20, 20, 20, generator=torch.Generator().manual_seed(0))
    weights = class_weights(torch.tensor([3000, 1000, 4000]))

    def slope(loss):
        logits = start.clone().requires_grad_(True)
        loss(logits).backward()
        return logits.grad

    ours = slope(lambda x: dice_loss(x, labels, weights))
    all_voxels = slope(lambda x: printed(x, labels, everywhere=True))
    assert torch.allclose(ours, 800 * all_voxels, rtol=1e-4, atol=1e-9)
    in_print = slope(lambda x: printed(x, labels, everywhere=False))
    assert in_print.norm() < ours.norm() / 300
    background = labels == 0
    assert in_print.movedim(1, -1)[background].abs().max() == 0 < ours.movedim(1, -1)[background].abs().max()
