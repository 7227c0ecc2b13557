"""Time and memory of the two-stage U-Net, beside one-stage networks and MONAI's of equal size.

    python benchmarks/two_stage.py [--rounds 5] [--small] [-o results/two_stage_speed.csv]

A volume: a whole-heart phantom, 128 x 112 x 128 at 1.5 mm, segmented by Net1, its region of interest (that of the
phantom's own labels) and Net2; by a 3-D U-Net of about as many parameters as Net2 over the whole volume at once; by the
same U-Net through MONAI's `SlidingWindowInferer`, windows of 64, overlap .25 and .5. Weights are random. Memory is what
a process of its own has at most while it segments, beyond what it had before.

A step: forward, loss, backward, Adam of Net2, in bf16 where the processor multiplies it in hardware, beside two
networks of MONAI of as many parameters within 2 %, pooled in plane alone, in the same form and as they come (fp32,
contiguous): `DynUNet` (nnU-Net's form: two convolutions a level, the first at full resolution, as in Net2) and `UNet`
(two residual units a level; nothing but its ends is at full resolution). Net2 labels the slices in the middle, MONAI's
all that it is given. Whole hearts: one slab of 96 x 96 x 16; short-axis stacks: six runs of 96 x 96 x 8.

Drawing: what a step waits for before the nets see a batch.

The ways take turns in one process, on one thread. Time is the processor's, so that ratios (the median over the rounds)
hold also on a busy machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from bench_atlas import peak_mb
from reporting import facts_of, report, timed

import shapelab  # noqa: F401  (first: it sets OpenMP's variables before torch is loaded)

import torch  # isort: skip
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet
from monai.networks.nets import UNet as MonaiUNet
from torch import Tensor, nn

from shapelab.data.grid import Grid
from shapelab.device import autocast, fast_dtype, laid_out
from shapelab.files import write_json
from shapelab.models.two_stage import Net1, Net2, TwoStage, TwoStageConfig, TwoStageNet, UNet, short_axis_config
from shapelab.models.two_stage.losses import dice_loss
from shapelab.models.two_stage.networks import coarse_image
from shapelab.models.two_stage.volumes import Source, Volume, coarse_labels, drawn_voxel, looked, volumes_of
from shapelab.phantoms.whole_heart_imaging import whole_heart_scans
from shapelab.training.losses import cross_entropy, onehot

CPU = torch.device("cpu")
SEED = 71_000
Way = Callable[[], object]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# ------------------------------------------------------------------------------------------------------------ a volume


class Aimed(TwoStage):
    """Nets that know nothing, sent to where the heart is: Net1 works, and its answer is replaced by the truth."""

    def __init__(self, config: TwoStageConfig, volume: Volume) -> None:
        super().__init__(TwoStageNet(config), config)
        labels = torch.from_numpy(np.asarray(volume.label))[None]
        self.truth = onehot(coarse_labels(labels, config.factor, config.n_classes), config.n_classes)
        with torch.no_grad():  # nothing found: no heart touches the border of the region
            self.net.net2.out[0].bias[: config.fold**2] = 1e3

    def coarse(self, volume: Volume) -> Tensor:
        super().coarse(volume)
        return self.truth


def unet_of(config: TwoStageConfig) -> UNet:
    """A one-stage 3-D U-Net whose number of parameters is the nearest to Net2's."""
    wanted = count(Net2(config))
    tried = [replace(config, unet_width=width) for width in range(2, 33)]
    with torch.device("meta"):
        best = min(tried, key=lambda c: abs(count(UNet(c)) - wanted))
    return UNet(best)


def segmenting(volume: Volume, config: TwoStageConfig, window: int) -> dict[str, Way]:
    """By name, ways to segment a volume at full resolution."""
    torch.manual_seed(0)
    two_stage, unet = Aimed(config, volume), unet_of(config).eval()

    def whole(infer: Callable[[Tensor, nn.Module], Tensor]) -> Way:
        def run() -> np.ndarray:
            image = torch.from_numpy(np.asarray(volume.image, np.float32))[None, None]
            with torch.inference_mode(), autocast(CPU):
                return infer(image, unet)[0].argmax(0).to(torch.uint8).numpy()

        return run

    ways: dict[str, Way] = {
        "two stages": lambda: two_stage.segment(volume),
        "one stage, whole volume": whole(lambda image, net: net(image)),
    }
    for overlap in (0.25, 0.5):
        ways[f"one stage, MONAI's windows, overlap {overlap}"] = whole(
            SlidingWindowInferer((window,) * 3, sw_batch_size=1, overlap=overlap, mode="gaussian")
        )
    return ways


def memory(name: str, volume: Volume, config: TwoStageConfig, window: int) -> float:
    """Greatest resident memory of this process beyond what it had before a volume was segmented, MB."""
    torch.set_num_threads(1)
    way = segmenting(volume, config, window)[name]
    before = peak_mb()
    way()
    return peak_mb() - before


def volumes(volume: Volume, config: TwoStageConfig, window: int, rounds: int) -> list[dict]:
    """One row a way to segment a volume."""
    ways = segmenting(volume, config, window)
    seconds = timed(ways, rounds, time.process_time)
    parameters = [count(TwoStageNet(config))] + [count(unet_of(config))] * (len(ways) - 1)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        megabytes = pool.starmap(memory, [(name, volume, config, window) for name in ways], chunksize=1)
    rows = rows_of("volume", seconds, "two stages")
    return [{**row, "MB": mb, "parameters": n} for row, mb, n in zip(rows, megabytes, parameters, strict=True)]


# -------------------------------------------------------------------------------------------------------------- a step


class Planes(nn.Module):
    """A network of MONAI in Net2's place: its logits of the slices in the middle."""

    def __init__(self, network: nn.Module, slices: int) -> None:
        super().__init__()
        self.network, self.half = network, slices // 2

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[..., self.half : x.shape[-1] - self.half]


def dyn_unet(config: TwoStageConfig, widths: Sequence[int]) -> nn.Module:
    poolings = [(2, 2, 1)] * config.levels2
    return DynUNet(
        spatial_dims=3,
        in_channels=config.inputs2,
        out_channels=config.n_classes,
        kernel_size=[config.kernel2] * len(widths),
        strides=[(1, 1, 1), *poolings],
        upsample_kernel_size=poolings,
        filters=widths,
        norm_name="batch" if config.units2 == "batch" else "instance",
    )


def res_unet(config: TwoStageConfig, widths: Sequence[int]) -> nn.Module:
    return MonaiUNet(
        spatial_dims=3,
        in_channels=config.inputs2,
        out_channels=config.n_classes,
        channels=widths,
        strides=[(2, 2, 1)] * config.levels2,
        kernel_size=config.kernel2,
        up_kernel_size=config.kernel2,
        num_res_units=2,
        norm="batch" if config.units2 == "batch" else "instance",
    )


def of_size(config: TwoStageConfig, make: Callable[[TwoStageConfig, Sequence[int]], nn.Module]) -> nn.Module:
    """A network of MONAI with as many parameters as Net2: widths double from level to level, but the last."""
    wanted = count(Net2(config))

    def size(widths: Sequence[int]) -> int:
        with torch.device("meta"):
            return count(make(config, widths))

    def widths_of(first: int, last: int) -> list[int]:
        return [first * 2**level for level in range(config.levels2)] + [last]

    def nearest(first: int) -> list[int]:
        tried = range(first, 4 * first * 2**config.levels2, max(1, first // 4))
        return min((widths_of(first, last) for last in tried), key=lambda w: abs(size(w) - wanted))

    first = next(n for n in range(2, 128) if size(widths_of(n, n * 2**config.levels2)) > wanted)
    widths = min((nearest(n) for n in (first - 1, first)), key=lambda w: abs(size(w) - wanted))
    if abs(size(widths) - wanted) > 0.02 * wanted:
        raise RuntimeError(f"no network of {wanted} parameters: {widths} has {size(widths)}")
    return make(config, widths)


def learning(network: nn.Module, x: Tensor, labels: Tensor, classes: int, ours: bool = True) -> Way:
    """One update; `ours`: bf16 and channels last, else fp32, contiguous."""
    network = laid_out(network.train(), torch.channels_last_3d if ours else torch.contiguous_format)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    weights = torch.ones(classes)

    def step() -> None:
        with autocast(CPU, ours):
            found = network(x)
            scales = found if isinstance(found, tuple) else (found,)
            loss = torch.stack([dice_loss(s, labels, weights) + cross_entropy(s, labels) for s in scales]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def steps(name: str, config: TwoStageConfig, rounds: int) -> list[dict]:
    """One row a network that learns from a batch of step 4."""
    torch.manual_seed(0)
    n, classes = config.batch[1], config.n_classes
    x = torch.rand(n, config.inputs2, config.window, config.window, config.outputs + config.slices - 1)
    labels = torch.randint(classes, (n, config.window, config.window, config.outputs))
    fast = str(fast_dtype(CPU)).removeprefix("torch.")
    networks: dict[str, tuple[nn.Module, bool]] = {"Net2": (Net2(config), True)}
    if config.deep:
        networks["Net2, one output"] = (Net2(replace(config, deep=0)), True)
    for kind, make in (("DynUNet", dyn_unet), ("UNet", res_unet)):
        networks[f"MONAI {kind}, {fast}, channels last"] = (Planes(of_size(config, make), config.slices), True)
        networks[f"MONAI {kind}, fp32, contiguous"] = (Planes(of_size(config, make), config.slices), False)
    ways = {key: learning(network, x, labels, classes, ours) for key, (network, ours) in networks.items()}
    rows = rows_of(f"step, {name}", timed(ways, rounds, time.process_time), "Net2")
    return [{**row, "parameters": count(networks[row["what"]][0])} for row in rows]


# ------------------------------------------------------------------------------------------------------------- drawing


def drawing(found: Sequence[Volume], config: TwoStageConfig, rounds: int) -> list[dict]:
    """One row a piece of what is done for batches of whole hearts, its share of the step that it belongs to."""
    torch.manual_seed(0)
    source = Source(found, config, CPU)
    image, label = source.images[0].float(), source.labels[0]
    (coarse, named), drawn = source.coarse([0, 1], sub=False), source.both([0], whole=True)
    seen = torch.rand(1, config.inputs2, *drawn.fine.shape[2:])
    pieces: dict[str, Way] = {
        "step 1: whole volumes": lambda: source.coarse([0, 1], sub=False),
        "step 2: sub-volumes": lambda: source.coarse([0, 1], sub=True),
        "step 3: sub-volumes": lambda: source.both([0], whole=False),
        "step 4: slices": lambda: source.both([0], whole=True),
        "of these, a volume: noise and looks": lambda: looked(image[None]),
        "of these, a volume: coarse labels": lambda: coarse_labels(label[None], config.factor, config.n_classes),
        "of these, a volume: coarse image": lambda: coarse_image(image[None, None], config.factor),
        "of these, a volume: a voxel of a class": lambda: drawn_voxel(label),
    }
    net1 = Net1(config)
    nets = {
        "step 1: Net1 learns": learning(net1, coarse, named, config.n_classes),
        "step 4: Net2 learns": learning(Net2(config), seen, drawn.labels, config.n_classes),
    }
    with torch.no_grad():
        seconds = timed(pieces, rounds, time.process_time)
    seconds |= timed(nets, rounds, time.process_time)
    rows = rows_of("drawing", seconds, "step 4: Net2 learns")
    medians = {row["what"]: row["ms"] for row in rows}
    for row, learns in ((rows[0], "step 1: Net1 learns"), (rows[3], "step 4: Net2 learns")):
        row["% of a step"] = 100 * row["ms"] / (row["ms"] + medians[learns])
    return rows


# --------------------------------------------------------------------------------------------------------------- table


def rows_of(part: str, seconds: dict[str, list[float]], reference: str) -> list[dict]:
    """Median ms, and the median over the rounds of the ratio to the reference of the same round."""
    return [
        {
            "part": part,
            "what": name,
            "ms": 1e3 * statistics.median(values),
            "this / reference": statistics.median(a / b for a, b in zip(values, seconds[reference], strict=True)),
            "reference": reference,
        }
        for name, values in seconds.items()
    ]


def measure(rounds: int, small: bool = False) -> pd.DataFrame:
    """All three parts; `small`: tiny nets and volumes, to see that it runs."""
    torch.set_num_threads(1)
    whole, axial, window = TwoStageConfig.profile("quick"), short_axis_config("quick"), 64
    grid = Grid((128, 112, 128), (1.5, 1.5, 1.5))
    if small:
        whole = replace(whole, width1=4, width2=4, dilation=(2, 2), levels2=2, window=32, unet_levels=2)
        axial = replace(axial, width1=4, width2=4, window=32)
        grid, window = Grid((32, 28, 32), (6.0, 6.0, 6.0)), 16
    found = volumes_of(whole_heart_scans(2, grid, SEED, ("CT",)))
    rows = [
        *volumes(found[0], whole, window, max(1, rounds // 2)),
        *steps("whole hearts", whole, rounds),
        *steps("short axis", axial, rounds),
        *drawing(found, whole, rounds),
    ]
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="tiny nets and volumes: does it run")
    parser.add_argument("-o", "--output", type=Path, help="CSV to write; what it was measured on beside it, as JSON")
    args = parser.parse_args()
    table = measure(args.rounds, args.small)
    facts = {"threads": 1, "rounds": args.rounds, "time": "processor"}
    report(table, args.output, ("monai",), **facts)
    if args.output:
        write_json(facts_of(("monai",), **facts), args.output.with_suffix(".json"))


if __name__ == "__main__":
    main()
