"""Layers whose bf16 gradient is in doubt: which they are, that they train in fp32, that a training can be repeated."""

import warnings

import pytest
import torch
from torch import nn

from shapelab import device
from shapelab.tensor_files import checksum
from shapelab.training import FitSettings, Run, fit
from shapelab.training.exact import exact_gradients, gradient_errs

# kernel, stride, padding, width: bad and good as measured on a processor where the gradients go wrong
BAD = [
    (3, 1, 1, 2),
    (4, 1, 1, 3),
    (4, 1, 2, 2),
    (5, 1, 2, 3),
    (5, 1, 2, 4),
    (7, 1, 3, 4),
    (7, 1, 3, 6),
    (5, 2, 2, 4),
    (7, 3, 3, 5),
]
GOOD = [
    (3, 1, 1, 1),
    (3, 1, 1, 3),
    (3, 1, 1, 4),
    (3, 2, 1, 2),
    (3, 1, 0, 3),
    (3, 1, 0, 4),
    (1, 1, 0, 2),
    (5, 1, 2, 5),
    (7, 1, 3, 7),
    (3, 3, 1, 6),
]
BAD_TRANSPOSED = [(3, 1, 1, 2), (5, 1, 2, 3), (5, 2, 2, 2), (6, 2, 2, 2), (7, 2, 3, 3)]
GOOD_TRANSPOSED = [(4, 2, 1, 2), (7, 3, 2, 2), (7, 3, 2, 1), (3, 2, 1, 2), (4, 1, 1, 3), (5, 3, 2, 2)]


@pytest.mark.parametrize(
    "kind, cases, errs",
    [
        (nn.Conv3d, BAD, True),
        (nn.Conv3d, GOOD, False),
        (nn.ConvTranspose3d, BAD_TRANSPOSED, True),
        (nn.ConvTranspose3d, GOOD_TRANSPOSED, False),
    ],
)
def test_layers_in_doubt_are_those_that_were_measured(kind, cases, errs):
    found = {case: gradient_errs(kind(1, 1, case[0], case[1], case[2]), case[3]) for case in cases}
    assert found == dict.fromkeys(cases, errs)


def test_only_the_kernel_along_x_counts_and_a_wide_step_within_it_does_not():
    assert not gradient_errs(nn.Conv3d(1, 1, (1, 3, 3), padding=(0, 1, 1)), 2)
    assert gradient_errs(nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0)), 2)
    assert gradient_errs(nn.Conv3d(1, 1, 3, padding="same"), 2)
    assert not gradient_errs(nn.Conv3d(1, 1, 3, padding=2, dilation=2), 2)


class Small(nn.Module):
    """A network with a map two voxels wide inside."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.narrow = nn.Conv3d(1, 8, 3, 2, 1), nn.Conv3d(8, 8, 3, padding=1)
        self.out = nn.Linear(8, 1)
        self.seen = []
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, x):
        x = self.narrow(torch.relu(self.first(x)))
        self.seen.append(x.dtype)
        return self.out(x.float().mean((2, 3, 4)))


def bf16(monkeypatch):
    monkeypatch.setattr(device, "fast_dtype", lambda _: torch.bfloat16)


def trained(settings=None):
    model = Small()
    x = torch.randn(8, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last_3d)
    fit(
        lambda b: {"loss": (model(b) - b.mean()).square().mean()},
        model,
        [x],
        4,
        run=Run(progress=False, device="cpu"),
        settings=settings or FitSettings(learning_rate=0.02),
    )
    return model


def test_a_training_in_bf16_can_be_repeated(monkeypatch):
    bf16(monkeypatch)
    junk = []
    sums = set()
    for i in range(4):
        junk = [torch.full((1 + i * 3000,), float("nan")) for _ in range(20)]  # what a wrong kernel would pick up
        del junk
        with pytest.warns(UserWarning, match="narrow: its map is narrower than its kernel"):
            sums.add(checksum(trained().state_dict()))
    assert len(sums) == 1


def test_the_layer_in_doubt_runs_in_fp32_and_says_so_once(monkeypatch):
    bf16(monkeypatch)
    with pytest.warns(UserWarning) as said:
        model = trained()
    assert len([w for w in said if "narrower than its kernel" in str(w.message)]) == 1
    assert set(model.seen) == {torch.float32}
    assert "forward" not in vars(model.narrow) and "forward" not in vars(model.first)  # all as before


def test_nothing_changes_without_gradients_in_fp32_or_for_other_layers(monkeypatch):
    bf16(monkeypatch)
    model, x = Small(), torch.randn(2, 1, 4, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with exact_gradients(model), torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                model(x)
            assert model.first(x).dtype == torch.bfloat16  # 4 voxels wide: not in doubt
        trained(FitSettings(amp=False))
    assert model.seen == [torch.bfloat16]


def test_gradients_are_those_of_fp32(monkeypatch):
    """The weight gradient of the narrow layer agrees with plain fp32 up to bf16's rounding of what comes before."""
    x = torch.randn(4, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    grads = []
    for amp in (False, True):
        model = Small()
        with (
            exact_gradients(model),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            model(x).square().mean().backward()
        grads.append(model.narrow.weight.grad)
    assert torch.allclose(grads[0], grads[1], atol=0.02 * float(grads[0].abs().max()))
