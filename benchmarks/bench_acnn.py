"""How long a training step and a prediction of the ACNN's backbone take: ours, plain PyTorch, and MONAI's U-Net.

    python benchmarks/bench_acnn.py [--profile quick] [--batch 8] [--device cuda] [--compile] [-o acnn_speed.csv]

Plain: fp32, contiguous, eager. Ours: bf16 where the processor multiplies it in hardware, channels last. MONAI's U-Net
has as many parameters within 2 %; it maps a grid to itself, so it is fed with the stack interpolated linearly to the
fine grid, and that is part of its time. The ways take turns in one process, so that the ratio holds also on a busy
machine. Then what a step does before the network sees a batch: reading rows and moving them to the device (waiting for
data), the affine map of image and label, acquisition, slice motion, noise.

--busy counts the processor's time of one thread instead of the clock's, for a CPU that others keep busy.
torch.compile is measured on CUDA, or with --compile. With several profiles on one machine, -o adds rows to the file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from bench_training import heart_like
from reporting import report, timed

import shapelab  # noqa: F401  (first: it sets OpenMP's variables before torch is loaded)

import torch  # isort: skip
from torch import Tensor, nn
from torch.nn import functional as F

from shapelab.augment import AffineRanges, acquire, add_noise, random_affine_pair, random_motion, shift_slices
from shapelab.device import autocast, best_device, fast_dtype
from shapelab.models.acnn import AEConfig, Autoencoder
from shapelab.models.acnn.prior import ACNNLoss
from shapelab.models.acnn.subpixel import SubPixelConfig, SubPixelNet
from shapelab.training import Batches, to_device

HEARTS = 32  # rows that batches are drawn from


class Upsampled(nn.Module):
    """MONAI's U-Net (two residual units a level, as in its tutorials) on the fine grid of a `SubPixelNet`."""

    STRIDES = ((2, 2, 1), (2, 2, 2), (2, 2, 2))

    def __init__(self, config: SubPixelConfig, channels: tuple[int, ...]):
        super().__init__()
        from monai.networks.nets import UNet  # gpu.py does without where it is not installed

        self.factor = config.factor
        self.net = UNet(
            spatial_dims=3,
            in_channels=config.n_in,
            out_channels=config.n_out,
            channels=channels,
            strides=self.STRIDES,
            num_res_units=2,
            norm="batch",
            act="relu",
        )

    def forward(self, stack: Tensor) -> Tensor:
        return self.net(F.interpolate(stack, scale_factor=(1, 1, self.factor), mode="trilinear"))

    @classmethod
    def of_size(cls, config: SubPixelConfig, parameters: int) -> Upsampled:
        """The one whose number of parameters is nearest; kernels double from scale to scale but the last."""

        def size(channels: tuple[int, ...]) -> int:
            with torch.device("meta"):
                return count(cls(config, channels))

        first = next(n for n in range(4, 64) if size((n, 2 * n, 4 * n, 6 * n)) > parameters) - 1
        channels = min(
            ((first, 2 * first, 4 * first, last) for last in range(5 * first, 9 * first)),
            key=lambda c: abs(size(c) - parameters),
        )
        if abs(size(channels) - parameters) > 0.02 * parameters:
            raise RuntimeError(f"no U-Net of {parameters} parameters: {channels} has {size(channels)}")
        return cls(config, channels)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


class Runs:
    """The ways in which one batch is learnt from and predicted; every way has its own weights and optimiser."""

    def __init__(self, config: SubPixelConfig, batch: int, device: torch.device):
        self.config, self.device = config, device
        labels = heart_like(config.shape)[:1].repeat(batch, 1, 1, 1)
        self.labels = labels.to(device)
        images = labels.float() / 4 + 0.1 * torch.rand(labels.shape, generator=torch.Generator().manual_seed(0))
        self.stack = acquire(images.to(device), config.spacing, config.factor)[:, None]

    def ways(
        self, network: nn.Module, last: bool, fast: bool, loss: ACNNLoss | None = None, compiled: bool = False
    ) -> tuple[Callable[[], None], Callable[[], None]]:
        """(one update: forward, backward, Adam; one prediction)"""
        layout = torch.channels_last_3d if last else torch.contiguous_format
        network = network.to(self.device).to(memory_format=layout).train()
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=5e-6)
        run, loss = torch.compile(network) if compiled else network, loss or ACNNLoss()
        stack = self.stack.contiguous(memory_format=layout)

        def step() -> None:
            with autocast(self.device, fast):
                value = loss(run(stack), self.labels)["loss"]
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            self.wait()

        def predict() -> None:
            network.eval()
            with torch.inference_mode(), autocast(self.device, fast):
                run(stack).argmax(1)
            network.train()
            self.wait()

        return step, predict

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def network_ways(runs: Runs, profile: str, compiled: bool) -> dict[str, Callable[[], None]]:
    """By name, "step: ..." and "prediction: ...", the plain form first."""
    config = runs.config
    fast = str(fast_dtype(runs.device)).replace("torch.", "")
    ours = SubPixelNet(config)
    monai = Upsampled.of_size(config, count(ours))
    prior = ACNNLoss(Autoencoder(AEConfig.profile(profile)).to(runs.device))
    copies = {
        "fp32, contiguous (plain)": runs.ways(SubPixelNet(config), False, False),
        "fp32, channels last": runs.ways(SubPixelNet(config), True, False),
        f"{fast}, contiguous": runs.ways(SubPixelNet(config), False, True),
        f"{fast}, channels last (ours)": runs.ways(ours, True, True),
        "MONAI U-Net, fp32, contiguous": runs.ways(monai, False, False),
        f"MONAI U-Net, {fast}, channels last": runs.ways(Upsampled.of_size(config, count(ours)), True, True),
    }
    if compiled:
        copies["ours, compiled"] = runs.ways(SubPixelNet(config), True, True, compiled=True)
    ways = {
        f"{kind}: {name}": pair[i] for i, kind in enumerate(("step", "prediction")) for name, pair in copies.items()
    }
    ways["step: plain, with the prior"] = runs.ways(SubPixelNet(config), False, False, prior)[0]
    ways["step: ours, with the prior"] = runs.ways(SubPixelNet(config), True, True, prior)[0]
    return ways


def input_ways(runs: Runs) -> dict[str, Callable[[], None]]:
    """What a step does to a batch before the network sees it, piece by piece."""
    config, batch = runs.config, len(runs.labels)
    rng = np.random.default_rng(0)
    labels = np.repeat(runs.labels[:1].cpu().numpy(), HEARTS, axis=0)
    images = (labels / 4 + 0.1 * rng.random(labels.shape, np.float32)).astype(np.float16)
    rows = Batches(images, labels, np.zeros((HEARTS, config.lr_shape[2], 3), np.float32), batch_size=batch)
    image, label, _ = to_device(rows(0)[0], runs.device)
    stack, motion = runs.stack[:, 0], random_motion(batch, config.lr_shape[2])
    ranges = AffineRanges()
    pieces = {
        "waiting: rows of the batch, to the device": lambda: to_device(rows(0)[1], runs.device),
        "input: affine map of image and label": lambda: random_affine_pair(image, label, config.spacing, ranges),
        "input: acquisition": lambda: acquire(image, config.spacing, config.factor),
        "input: slice motion": lambda: shift_slices(stack, motion, config.spacing),
        "input: noise": lambda: add_noise(stack, 0.02),
    }
    return {name: (lambda piece=piece: (piece(), runs.wait())) for name, piece in pieces.items()}


def measure(
    profile: str,
    batch: int,
    rounds: int,
    device: torch.device,
    compiled: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> pd.DataFrame:
    """One row a way: median and 95th percentile in ms a sample, how many times plain takes that, and the share that
    waiting and input have of a step with the prior and them."""
    torch.manual_seed(0)
    runs = Runs(SubPixelConfig.profile(profile), batch, device)
    seconds = timed({**network_ways(runs, profile, compiled), **input_ways(runs)}, rounds, clock)
    ms = {name: [1e3 * s / batch for s in values] for name, values in seconds.items()}
    medians = {name: float(np.median(values)) for name, values in ms.items()}
    before = {name: value for name, value in medians.items() if name.startswith(("waiting", "input"))}
    whole = medians["step: ours, with the prior"] + sum(before.values())

    def plain(name: str) -> float:
        if "with the prior" in name:
            return medians["step: plain, with the prior"]
        return medians.get(name.split(":")[0] + ": fp32, contiguous (plain)", np.nan)

    return pd.DataFrame(
        [
            {
                "what": name,
                "median ms a sample": medians[name],
                "p95": float(np.percentile(values, 95)),
                "plain / this": plain(name) / medians[name],
                "% of a step": 100 * before.get(name, np.nan) / whole,
            }
            for name, values in ms.items()
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", choices=["quick", "full", "paper"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default=str(best_device()))
    parser.add_argument("--compile", action="store_true", help="measure torch.compile on the CPU as well")
    parser.add_argument("--busy", action="store_true", help="the processor's time, of one thread on the CPU")
    parser.add_argument("--threads", type=int, help="torch threads; default: as torch chooses")
    parser.add_argument("-o", "--output", type=Path, help="CSV to write or to add to")
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.busy and device.type != "cpu":
        parser.error("--busy is for the CPU")
    if args.busy or args.threads:
        torch.set_num_threads(1 if args.busy else args.threads)
    clock = time.process_time if args.busy else time.perf_counter
    table = measure(args.profile, args.batch, args.rounds, device, args.compile or device.type == "cuda", clock)

    def replaced(rows: pd.DataFrame) -> pd.DataFrame:
        """A newer measurement replaces that of the same profile, batch and device."""
        if not args.output.exists():
            return rows
        old = pd.read_csv(args.output)
        same = (old["profile"] == args.profile) & (old["batch"] == args.batch) & (old["device"] == device.type)
        return pd.concat([old[~same], rows])

    report(
        table,
        args.output,
        merge=replaced,
        profile=args.profile,
        batch=args.batch,
        device=device.type,
        rounds=args.rounds,
        time="processor" if args.busy else "clock",
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
