"""Super-resolution of short-axis stacks: Table III and Fig. 8 of the ACNN paper (section III-E), with controls.

The paper: 1200 pairs of cardiac MR (UK Digital Heart), 1000 to learn from and 200 to test on; stacks of 10 mm slices
to 2 mm, K = 5. SSIM of linear and B-spline interpolation, SR-CNN [34], 3D-UNet and ACNN-SR, seconds per volume on a
GPU, and opinion scores of two cardiologists.

Here: phantom pairs (`shapelab.phantoms.pairs`), patients of other seeds in the test; and beside the paper's rows the SR
network without the prior, with which alone the prior can be compared. Stacks come from the HR images by the paper's
acquisition model (Gaussian of 4 mm through plane, decimation), with one breath-hold a slice and noise; HR images are
not moved. Each method is tried on clean stacks and on those whose slices are displaced.

Deviations:
    No opinion scores: there are no clinicians here. In their place: PSNR (which phantoms allow, their pairs being
        perfectly aligned), the error inside the heart, and the Dice of the label map that a T-L network reads from the
        result.
    Test stacks are simulated, as those of training; the paper tests on clinical pairs of a stack and a 3-D acquisition,
        which differ in contrast, too.
    All networks give the residual of linear interpolation (`shapelab.models.acnn.sr_baselines.Residual`), not
        intensities.
    The paper's number of parameters is met within 3 % by SR-CNN and 3D-UNet alike.
    SR-CNN learns from patches, as its own paper does: squares of `patch` voxels, whole stacks through plane.
    Two unseen hearts of one patient (ED, ES) count as two, in the test of the paper as well as here; p is Wilcoxon's,
        over patients (mean of their hearts and of the seeds).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shapelab.augment import MotionRanges, random_motion, shift_slices
from shapelab.data.volumes import HeartPairs
from shapelab.device import best_device, generator_of
from shapelab.errors import one_of
from shapelab.experiments.acnn.super_resolution_tables import METHODS, claims, layout, sweep_table, table_three
from shapelab.experiments.kept_runs import KeptRun, Study, described, seeds_of
from shapelab.experiments.recipes import Order, recipe
from shapelab.experiments.shipped import phantom_tl, shipped
from shapelab.metrics import ssim
from shapelab.models.acnn import (
    ACNNLoss,
    InputSettings,
    SubPixelConfig,
    Training,
    baselines,
    lr_stacks,
    predict_images,
    train_network,
)
from shapelab.models.acnn.sr_baselines import (
    SRCNN,
    Interpolation,
    Patches,
    PatchLoss,
    Residual,
    SRCNNConfig,
    SubPixelSR,
)
from shapelab.models.acnn.tl import TLSpace
from shapelab.phantoms.pairs import SHIFT_MM, TURN_DEG, heart_pairs
from shapelab.spaces import save_network
from shapelab.tensor_files import checksum, read_tensors, write_tensors
from shapelab.training import Config, History, Run, numbers_of, seeded

__all__ = [
    "SHIPPED",
    "SuperResolutionConfig",
    "SuperResolutionResult",
    "build",
    "evaluate",
    "layout",
    "motion_curve",
    "phantom_sr",
    "run",
    "run_whole",
    "speed_table",
    "test_stacks",
    "tl_space",
]

TRAINING_SEED, TEST_SEED = 30_000, 31_000  # phantom patients: no other experiment draws from these


@dataclass(frozen=True)
class SuperResolutionConfig(Config):
    """Numbers of the experiment."""

    network: SubPixelConfig = field(default_factory=lambda: SubPixelConfig(n_out=1, widths=(8, 16, 24, 32)))
    layers: int = 6  # of SR-CNN, before the one that makes the image
    patch: int = 24  # of SR-CNN's training, voxels in plane
    train: int = 200  # patients, two hearts each
    test: int = 30
    epochs: int = 12
    learning_rate: float = 2e-3
    srcnn_rate: float = 1e-3  # without normalisation: at 2e-3 its units die
    weight: float = 0.01  # lambda (supplement)
    sweep: tuple[float, ...] = (0.1, 1.0)  # other lambdas, first seed only
    noise: float = 0.02  # largest sd of the Gaussian noise
    shifts: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 4.0)  # mm, sd of a slice's motion: the robustness curve
    repeats: int = 5  # of a timed run
    paper_speed: bool = True  # time the paper's sizes too (untrained networks)

    PROFILES = dict.fromkeys(
        ("full", "paper"),
        {"network": {"n_out": 1}, "patch": 48, "train": 1000, "test": 200, "epochs": 100, "learning_rate": 1e-3},
    )


@dataclass(frozen=True, eq=False)
class SuperResolutionResult:
    """`table`: a row a method and condition; `hearts`: a row a heart, method, seed and condition; `sweep`: a row a
    lambda and condition; `motion`: SSIM against the strength of motion; `speed`: seconds per volume; `networks`: those
    of the first seed."""

    table: pd.DataFrame
    hearts: pd.DataFrame
    sweep: pd.DataFrame
    motion: pd.DataFrame
    speed: pd.DataFrame
    networks: dict[str, nn.Module]


def run(
    data: str = "phantom",
    root: str | Path | None = None,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run the experiment and write its tables; returns Table III.

    Args:
        data: "phantom"
        root: not asked for by phantoms
        profile: "quick", "full" or "paper"; None: the current one
        seeds: of weights and training; every method is trained once a seed; None: 0 and 1
        output: folder for acnn_table3_<data>.csv, ..._hearts.csv, ..._sweep.csv, ..._motion.csv, ..._speed.csv,
            ..._claims.csv, ....json and the networks, from which an interrupted run resumes; None: results/acnn

    Returns:
        DataFrame: condition, method, ssim, sd, psnr (dB), error (mean absolute, in the heart), dice (of what a T-L
        network reads), parameters, seconds (per volume), times_srcnn, p (two best), paper_ssim, paper_sd,
        paper_seconds, n_hearts, n_seeds
    """
    return run_whole(data, seeds, root=root, profile=profile, output=output, progress=progress).table


def run_whole(
    data: str = "phantom",
    seeds: Sequence[int] | None = None,
    config: SuperResolutionConfig | None = None,
    prior: TLSpace | None = None,
    **options: Any,
) -> SuperResolutionResult:
    """As `run`, with everything that came out; `config` instead of the profile's numbers, `prior` (a `TLSpace`) instead
    of the one learned from phantoms; options: root, profile, output, progress, as `run`'s."""
    study = Study.of("acnn", **options)
    progress = study.progress
    config, seeds = config or SuperResolutionConfig.profile(study.profile), seeds_of(seeds, (0, 1))
    train, test, stacks = _data(data, config, study.results, progress)
    prior = prior if prior is not None else tl_space(study.profile, progress)
    trainer = _Trainer(config, train, prior, study.results / "table3" / "networks", progress)

    def scored(network: nn.Module) -> pd.DataFrame:
        return pd.concat([evaluate(network, x, test, prior).assign(condition=name) for name, x in stacks.items()])

    parts, sweeps = [], []
    networks: dict[str, nn.Module] = {}
    for method in METHODS:
        for seed in seeds if method not in ("Linear", "B-spline") else seeds[:1]:
            network, history = trainer(method, seed)
            networks.setdefault(method, network)
            parts.append(scored(network).assign(method=method, seed=seed))
            if method in ("SR", "ACNN-SR") and seed == seeds[0]:
                sweeps.append((0.0 if method == "SR" else config.weight, parts[-1], history))
    for weight in config.sweep:
        network, history = trainer("ACNN-SR", seeds[0], weight)
        sweeps.append((weight, scored(network), history))
    hearts = pd.concat(parts, ignore_index=True)
    speed = speed_table(networks, config)
    result = SuperResolutionResult(
        table_three(hearts, speed), hearts, sweep_table(sweeps), motion_curve(networks, test, config), speed, networks
    )
    patients = {name: int(pairs.table["patient"].nunique()) for name, pairs in (("train", train), ("test", test))}
    about = {
        "data": data,
        "profile": study.profile,
        "seeds": list(seeds),
        "config": numbers_of(config),
        "patients": patients,
        "prior": prior.metadata,
    }
    _write(result, study, about)
    return result


# --------------------------------------------------------------------------------------------------------------- data


def _data(
    data: str, config: SuperResolutionConfig, folder: Path, progress: bool
) -> tuple[HeartPairs, HeartPairs, dict[str, Tensor]]:
    """Pairs to learn from, pairs of other patients, and condition -> LR stacks of these."""
    one_of("data", data, ("phantom",))
    grid, factor = config.network.grid, config.network.factor
    train, test = (
        heart_pairs(n, grid, factor, seed, cache=folder / "table3" / f"{name}.npz", progress=progress)
        for name, n, seed in (("train", config.train, TRAINING_SEED), ("test", config.test, TEST_SEED))
    )
    return train, test, test_stacks(test, config)


def test_stacks(pairs: HeartPairs, config: SuperResolutionConfig) -> dict[str, Tensor]:
    """Condition -> LR stacks (N, X, Y, Z/K): "clean" has noise and no motion, "motion" each patient's breath-holds."""
    return {
        "clean": lr_stacks(pairs, InputSettings(natural=False, noise=config.noise)),
        "motion": lr_stacks(pairs, InputSettings(noise=config.noise)),
    }


# ----------------------------------------------------------------------------------------------------------- training


def tl_space(profile: str | None = None, progress: bool = True) -> TLSpace:
    """The T-L network learned from phantoms, whose predictor is the prior of equation 2."""
    return phantom_tl(profile, progress)


def build(method: str, config: SuperResolutionConfig, seed: int = 0) -> nn.Module:
    """The untrained network of a row of Table III, its weights a function of the seed; parameters within 3 %."""
    one_of("method", method, METHODS)
    numbers = config.network
    if method in ("Linear", "B-spline"):
        return Interpolation(numbers.factor, method.lower().replace("-", ""))
    network = seeded(lambda: SubPixelSR(numbers), seed)
    if method in ("SR", "ACNN-SR"):
        return network
    capacity = count(network)
    if method == "SR-CNN":
        return seeded(lambda: SRCNN(SRCNNConfig.matching(capacity, numbers.factor, config.layers)), seed)
    widths = _unet_widths(numbers, capacity)
    return seeded(lambda: Residual(baselines.UNet3D(numbers, widths), numbers.factor), seed)


@lru_cache(maxsize=16)
def _unet_widths(numbers: SubPixelConfig, capacity: int) -> tuple[int, ...]:
    """3D-UNet's widths at the capacity of SR: those of Table I (1.64 to 1.60 million), the deepest changed."""
    *others, deepest = baselines.matched_widths("3D-UNet", numbers)
    with torch.device("meta"):
        size = lambda n: count(baselines.UNet3D(numbers, (*others, n)))  # noqa: E731
        return (*others, baselines.nearest_width(size, capacity, max(1, deepest // 2), deepest + 1))


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())


@dataclass
class _Trainer:
    """Trains each network once, and reads it back when the run is started again."""

    config: SuperResolutionConfig
    pairs: HeartPairs
    prior: TLSpace
    folder: Path
    progress: bool

    def __call__(self, method: str, seed: int, weight: float | None = None) -> tuple[nn.Module, History]:
        network = build(method, self.config, seed).to(best_device())
        if not count(network):
            return network.eval(), History()
        weight = (self.config.weight if weight is None else weight) if method == "ACNN-SR" else 0.0
        folder = self.folder / f"{method}-{seed}{f'-{weight:g}' if method == 'ACNN-SR' else ''}"
        keys = self._keys(method, weight, seed)
        file = folder / "network.safetensors"
        if file.is_file():
            tensors, texts = read_tensors(file)
            if texts.get("key") in keys:
                network.load_state_dict(tensors)
                return network.eval(), History.read(folder / "history.csv")
        run = KeptRun(folder / "training", seed=seed, progress=self.progress)
        network, history = train_method(method, self.pairs, self.config, run, self.prior, weight)
        history.write(folder / "history.csv")
        write_tensors(file, network.state_dict(), {"key": keys[0]})
        return network.eval(), history

    def _keys(self, method: str, weight: float, seed: int) -> tuple[str, str]:
        """What a network depends on, and the same as an earlier shapelab wrote it, which left out the motion."""
        c = self.config
        numbers = [numbers_of(c.network), c.epochs, c.learning_rate, c.noise, weight, seed]
        numbers += [c.layers, c.patch, c.srcnn_rate] if method == "SR-CNN" else []
        prior = checksum(self.prior.model.state_dict()) if weight else ""
        numbers += [checksum({"images": self.pairs.images}), prior]
        return json.dumps([*numbers, checksum({"motion": self.pairs.motion})]), json.dumps(numbers)


def train_method(
    method: str,
    pairs: HeartPairs,
    config: SuperResolutionConfig,
    run: Run | None = None,
    prior: TLSpace | None = None,
    weight: float = 0.0,
) -> tuple[nn.Module, History]:
    """Train the network of a method that has parameters; a killed run resumes from its checkpoint.

    Args:
        prior: the `TLSpace` of equation 2, used where its weight (lambda) is not 0

    The network has `task`, `scheme` and `metadata` as those that are read have.
    """
    run = run or Run()
    network = build(method, config, run.seed).to(run.target)
    learner, loss, rate = network, ACNNLoss(prior if weight else None, weight), config.learning_rate
    if method == "SR-CNN":
        learner, rate = Patches(network, config.patch), config.srcnn_rate
        loss = PatchLoss(learner)
    _, history = train_network(
        learner,
        pairs,
        loss,
        run,
        training=replace(Training.of(config.network), epochs=config.epochs, learning_rate=rate),
        task="sr",
        inputs=training_inputs(config, pairs),
    )
    data = f"{pairs.table['patient'].nunique()} phantom patients, ED and ES, seed {TRAINING_SEED}"
    return described(network, "sr", pairs.scheme, {"data": data, "final": history.last}), history


def training_inputs(config: SuperResolutionConfig, pairs: HeartPairs) -> InputSettings:
    """Each slice displaced (section III-B), by its own breath-hold where the pairs have them, else drawn in each step;
    noise; no affine maps: the paper has none for SR."""
    drawn = None if pairs.motion.any() else MotionRanges(SHIFT_MM, TURN_DEG)
    return InputSettings(affine=None, motion=drawn, noise=config.noise)


# --------------------------------------------------------------------------------------------------------- evaluation


def evaluate(network: nn.Module, stacks: Tensor, pairs: HeartPairs, prior: TLSpace | None = None) -> pd.DataFrame:
    """A row a heart: ssim, psnr (dB), error (mean absolute difference inside the heart), dice (of the T-L network's
    label map of the result; mean over structures; NaN without one), patient."""
    made = predict_images(network, stacks)
    truth = pairs.images.astype(np.float32)
    rows = []
    for one, wanted, label in zip(made, truth, pairs.labels, strict=True):
        difference = one - wanted
        rows.append(
            {
                "ssim": ssim(one, wanted, data_range=1.0),
                "psnr": float(-10 * np.log10(np.mean(difference**2))),
                "error": float(np.abs(difference)[label > 0].mean()),
            }
        )
    table = pd.DataFrame(rows, index=pairs.table.index)
    table["dice"] = np.nan
    if prior is not None and prior.config.shape == pairs.shape:
        read = prior.segmentation_dice(np.clip(made, 0, 1), pairs.scheme.integers(pairs.labels))
        table["dice"] = np.asarray(read).mean(1)
    return table.assign(patient=pairs.table["patient"]).reset_index(names="heart")


def speed_table(networks: dict[str, nn.Module], config: SuperResolutionConfig) -> pd.DataFrame:
    """Seconds per volume of each method, one volume at a time: median of `repeats` runs (see `median_seconds`).

    Columns: size ("this profile", or "paper": untrained networks of the paper's numbers), method, grid, parameters,
    seconds, times_srcnn (SR-CNN's seconds / these), threads, device.
    """
    sizes = {"this profile": (networks, config, config.repeats)}
    paper = replace(config, network=SubPixelConfig.profile("paper", n_out=1))
    if config.paper_speed and paper.network != config.network:
        kept = [m for m in networks if m != "ACNN-SR"]  # as fast as SR, whose network it is
        sizes["paper"] = {m: build(m, paper).to(best_device()).eval() for m in kept}, paper, 1
    rows = []
    for size, (found, numbers, repeats) in sizes.items():
        stack = torch.rand(1, *numbers.network.lr_shape)
        for method, network in found.items():
            rows.append(
                {
                    "size": size,
                    "method": method,
                    "grid": "x".join(map(str, numbers.network.shape)),
                    "parameters": count(network),
                    "seconds": median_seconds(partial(predict_images, network, stack), repeats),
                    "threads": torch.get_num_threads(),
                    "device": best_device().type,
                }
            )
    table = pd.DataFrame(rows)
    srcnn = table[table["method"] == "SR-CNN"].set_index("size")["seconds"]
    return table.assign(times_srcnn=table["size"].map(srcnn) / table["seconds"])


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of `work()` over repeated calls, one call before them not counted.

    On a CPU the processor's time of this process, which holds on a busy machine as well (with one thread it is what an
    idle machine would take); where there is a GPU, wall-clock time.
    """
    gpu = torch.cuda.is_available()
    clock = time.perf_counter if gpu else time.process_time
    work()
    seconds = []
    for _ in range(max(1, repeats)):
        start = clock()
        work()
        if gpu:
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return float(np.median(seconds))


def motion_curve(networks: dict[str, nn.Module], pairs: HeartPairs, config: SuperResolutionConfig) -> pd.DataFrame:
    """SSIM against the sd of each slice's motion (mm, and as many degrees x 0.75): columns method, shift_mm, ssim, sd.

    The same slices move the same way at each strength, only farther.
    """
    clean = test_stacks(pairs, config)["clean"]
    unit = random_motion(len(pairs), clean.shape[3], MotionRanges(1.0, 0.75), generator_of(TEST_SEED))
    truth, rows = pairs.images.astype(np.float32), []
    for shift in config.shifts:
        stacks = shift_slices(clean, shift * unit, pairs.spacing)
        for method, network in networks.items():
            values = [ssim(a, b, data_range=1.0) for a, b in zip(predict_images(network, stacks), truth, strict=True)]
            rows.append({"method": method, "shift_mm": shift, "ssim": np.mean(values), "sd": np.std(values)})
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------------- files, weights

#: Method -> where its weights lie under data/weights, before the profile's name.
SHIPPED = {"SR": "acnn_sr", "ACNN-SR": "acnn_sr_prior", "SR-CNN": "acnn_srcnn"}


@recipe("sr", "sub-pixel super-resolution (Fig. 2)", method="SR", ships=SHIPPED["SR"])
@recipe(
    "acnn-sr", "sub-pixel super-resolution with the shape prior (eq. 2)", method="ACNN-SR", ships=SHIPPED["ACNN-SR"]
)
@recipe("sr-cnn", "upsampling first (Table III)", method="SR-CNN", ships=SHIPPED["SR-CNN"])
def _ordered(order: Order, method: str) -> nn.Module:
    config = order.numbers(SuperResolutionConfig.profile(order.profile), hearts="train")
    pairs = heart_pairs(
        config.train, config.network.grid, config.network.factor, TRAINING_SEED, progress=order.progress
    )
    prior = (tl_space(order.profile, order.progress), config.weight) if method == "ACNN-SR" else ()
    return train_method(method, pairs, config, order.run, *prior)[0]


def phantom_sr(method: str, profile: str | None = None, progress: bool = True) -> nn.Module:
    """A network learned from phantoms: shipped weights, or trained now (and kept) where there are none.

    Args:
        method: "SR", "ACNN-SR" or "SR-CNN"; UsageError for another. In `quick` training takes 3 to 5 minutes on one
            core.
    """
    return shipped(one_of("method", method, SHIPPED).lower(), profile, progress)


def _write(result: SuperResolutionResult, study: Study, about: dict) -> None:
    """All tables, each whole or not at all; the network of ACNN-SR as `load_network` reads it."""
    tables = {
        "": result.table,
        **{f"_{name}": getattr(result, name) for name in ("hearts", "sweep", "motion", "speed")},
        "_claims": claims(result.hearts, result.speed),
    }
    study.write(f"acnn_table3_{about['data']}", tables, about, digits=6)
    for method in SHIPPED:
        facts = {"data": about["data"], "config": about["config"]}
        save_network(study.results / "table3" / method, result.networks[method], task="sr", metadata=facts)
