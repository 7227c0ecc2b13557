"""How long one training step of the autoencoder takes, as it is done here and as plain PyTorch does it.

    python benchmarks/bench_training.py [--profile quick] [--threads 2] [-o results/bench_training.csv]

Plain: fp32, contiguous, eager. Ours: bf16 where the processor multiplies it in hardware, channels last. The ways take
turns in one process, so that the ratio holds also on a busy machine. Also: what augmentation adds, and the decoding of
one code.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from reporting import report, timed

import shapelab  # noqa: F401  (first: it sets OpenMP's variables before torch is loaded)

import torch  # isort: skip

from shapelab.augment import random_affine, swap_labels
from shapelab.device import autocast, fast_dtype
from shapelab.models.acnn import AEConfig, AESpace, Autoencoder
from shapelab.training.losses import cross_entropy, onehot

BATCH = 8


def heart_like(shape: tuple[int, int, int]) -> torch.Tensor:
    """Label maps (BATCH, X, Y, Z) uint8 with as much border as a heart's."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    left, right = (np.sqrt((x + dx) ** 2 + y**2 + 0.6 * z**2) for dx in (-0.1, 0.35))
    label = np.where(left < 0.3, 3, np.where(left < 0.42, 2, np.where(right < 0.4, 1, 0)))
    return torch.from_numpy(label.astype(np.uint8)).repeat(BATCH, 1, 1, 1)


def step_of(config: AEConfig, maps: torch.Tensor, channels_last: bool, fast: bool) -> Callable[[], None]:
    """One update: forward, backward, Adam."""
    torch.manual_seed(0)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    model = Autoencoder(config).to(memory_format=layout).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    inputs = onehot(maps, config.n_classes).contiguous(memory_format=layout)

    def decode(codes):  # as Autoencoder.decode, without its change to channels last
        features = torch.relu(model.from_code(codes)).unflatten(1, (config.bottleneck, *config.cells))
        return model.decoder(features.contiguous(memory_format=layout))

    def step() -> None:
        with autocast("cpu", fast):
            loss = cross_entropy(decode(model.encode(inputs)), maps)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def measure(profile: str, rounds: int) -> pd.DataFrame:
    """One row a way: median and 95th percentile in ms a sample, and the ratio to plain fp32."""
    config = AEConfig.profile(profile)
    maps = heart_like(config.shape)
    space = AESpace(config, model=Autoencoder(config).eval())
    code = np.random.default_rng(0).normal(size=config.code).astype(np.float32)
    steps = {
        "step: fp32, contiguous (plain)": step_of(config, maps, False, False),
        "step: fp32, channels last": step_of(config, maps, True, False),
        f"step: {fast_dtype('cpu')}, contiguous".replace("torch.", ""): step_of(config, maps, False, True),
        f"step: {fast_dtype('cpu')}, channels last (ours)".replace("torch.", ""): step_of(config, maps, True, True),
    }
    extras = {
        "affine augmentation": lambda: random_affine(maps, config.spacing, config.affine),
        "label swap and one-hot": lambda: onehot(swap_labels(maps, config.swap, config.n_classes), config.n_classes),
    }
    rows = []
    for name, seconds in timed({**steps, **extras}, rounds).items():
        rows.append((name, [1e3 * s / BATCH for s in seconds]))
    rows.append(("decode of one code", [1e3 * s for s in timed({"": lambda: space.decode(code)}, 5 * rounds)[""]]))
    plain = statistics.median(rows[0][1])
    return pd.DataFrame(
        [
            {
                "what": name,
                "median ms a sample": statistics.median(ms),
                "p95": float(np.percentile(ms, 95)),
                "plain / this": plain / statistics.median(ms) if name.startswith("step") else np.nan,
            }
            for name, ms in rows
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", choices=["quick", "full", "paper"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="torch threads; default: as torch chooses")
    parser.add_argument("-o", "--output", type=Path, help="CSV to write")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    table = measure(args.profile, args.rounds)
    report(table, args.output, threads=torch.get_num_threads(), profile=args.profile)


if __name__ == "__main__":
    main()
