"""`gpu.py --speed`: how long every trainer's step takes in `full`, and everything else that runs on the device.

A recipe is started as ever; a probe takes each of its trainings (a trainer of several stages has several) and trains it
for a few steps by `fit` itself, so that loading, augmentation and logging are part of a step. Ways take turns:

ours                as `fit` trains: autocast, layout and loading of data as in the library
plain               the same network, step and data in eager fp32: contiguous weights and features, no autocast, no TF32
MONAI, MONAI fast   MONAI's U-Net of as many parameters within 2 %, in place of a network of that form and in the same
                    step; as plain, and with autocast and channels last
compiled            with --compile, ours with the network's `forward` through torch.compile: a minute a network

Numbers of a step: kernels (seconds in which the GPU works, by torch.profiler) over the clock's seconds without a
profiler; floating-point operations of convolutions and matrix products (torch.utils.flop_counter) over those of a
bf16 product of matrices; bytes, each operator reading its arguments and writing its results once as eager execution
does, over those of a copy. The two peaks are measured in the same process. The larger of both shares is what binds.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial, singledispatch
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from reporting import timed

import shapelab  # noqa: F401  (first: it sets OpenMP's variables before torch is loaded)

import torch  # isort: skip
from bench_acnn import Upsampled, count
from bench_atlas import SPACING, heart_like
from bench_phantom import in_the_middle
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from shapelab.atlas import FreeFormDeformation, fuse_labels
from shapelab.augment import AffineRanges, acquire, random_affine_pair, random_motion, shift_slices
from shapelab.device import best_device
from shapelab.errors import DataError
from shapelab.experiments.acnn import super_resolution
from shapelab.experiments.kept_runs import save_trained
from shapelab.experiments.recipes import Order, Recipe, recipes
from shapelab.metrics import evaluate
from shapelab.models.acnn import AESpace, predict_images, predict_labels
from shapelab.models.acnn.baselines import UNet3D
from shapelab.models.acnn.subpixel import SubPixelNet
from shapelab.models.acnn.tl import TLSpace
from shapelab.models.native import NativeSegmenter
from shapelab.models.sslln import NETWORKS, predict
from shapelab.phantoms import label_batch
from shapelab.training import Batches, History, Run, fit
from shapelab.training.batches import to_device
from shapelab.training.losses import dice_scores
from shapelab.training.turns import Turns
from shapelab.training.watching import Training, probing

FIRST = ("autoencoder", "tl")  # others need them: measured once, and left for them
EPOCH_SECONDS, MOST_STEPS, ROUNDS = 0.2, 24, 5
AIM_BUSY = 0.8
#: Table III's rows whose speed is compared, and the seconds that the papers print.
PAPER_SECONDS = {"SR-CNN": 0.29, "ACNN-SR": 0.06, "SSLLN": 1.0}


class Measure:
    """All that `--speed` measures, a row each into `out`; networks are left for other recipes in `weights`.

    Attributes:
        small: few rounds of little (a dry run)
        compiled: with torch.compile as a further way
    """

    def __init__(self, out: Any, weights: Path, small: bool, compiled: bool = False):
        self.out, self.weights, self.small, self.compiled = out, weights, small, compiled
        self.device = best_device()
        self.rounds, self.most_steps = (1, 2) if small else (ROUNDS, MOST_STEPS)
        self.peaks = Peaks()

    def all(self, only: Sequence[str] = ()) -> None:
        """Peaks of the card, then every recipe (or those named), volumes, and what else runs on the device."""
        with self.out.attempt(kind="card", name="peaks", stage=0):
            self.peaks = Peaks.measured(self.device, self.small)
            self.out.add(kind="card", name="peaks", stage=0, **self.peaks.row)
        known = recipes()
        rank = {name: (name not in FIRST, not known[name].ships, name) for name in known}
        for name in sorted(known, key=rank.__getitem__):
            if not only or name in only:
                with self.out.attempt(kind="step", name=name, stage=0):
                    self.recipe(name, known[name])
        if not only:
            with self.out.attempt(kind="volume", name="super-resolution", stage=0):
                self.super_resolution()
            with self.out.attempt(kind="device", name="all", stage=0):
                self.on_device()

    # ----------------------------------------------------------------------------------------------------- trainings

    def recipe(self, name: str, found: Recipe) -> None:
        """A row a stage, then one of predicting a volume; the network, hardly trained, is left for other recipes."""
        data, stages = "phantom" if "phantom" in found.learns_from else found.learns_from[0], []

        def probe(training: Training) -> History:
            stages.append(training)
            row, history = self.training(training)
            self.out.add(kind="step", name=name, stage=len(stages), **row)
            return history

        self.out.forget(kind="step", name=name)
        try:
            with probing(probe):
                hearts = None if data == "phantom" else 2
                made = found.train(Order(name, data=data, profile="full", hearts=hearts, progress=False))
        except DataError as error:
            if data == "phantom":
                raise
            self.out.add(kind="step", name=name, stage=0, note=f"needs real scans: {error}".split("\n")[0])
            return
        if found.ships:
            save_trained(made, self.weights / f"{found.ships}_full", found.half)
        if (work := one_volume(made)) is not None:
            seconds = float(np.median(self.turns({"": work})[""]))
            paper = PAPER_SECONDS["SSLLN"] if isinstance(made, tuple(NETWORKS.values())) else math.nan
            self.out.add(kind="volume", name=name, stage=0, seconds=seconds, paper_seconds=paper)

    def training(self, training: Training) -> tuple[dict[str, Any], History]:
        """Seconds a step of every way, and what the device does in a step of ours."""
        one = repeated(training, 1)
        first = self.seconds_a_step(one)
        steps = max(2, min(self.most_steps, math.ceil(EPOCH_SECONDS / first)))
        many = repeated(training, steps)
        ways = {"ours": self.seconds_a_step, "plain": self.plain} | self.monai_ways(training.model)
        if self.compiled:
            forward = torch.compile(training.model.forward)
            ways["compiled"] = lambda t: self.seconds_in_place(t, t.model, forward)
        with quiet():
            found = {name: [] for name in ways}
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            history = run_epochs(one, 1)
            peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else math.nan
            for _ in range(self.rounds):
                for name, way in ways.items():
                    with fitting_or_nan(found[name]) as values:
                        values.append(way(many))
        seconds = {name: float(np.median(values)) for name, values in found.items()}
        few = batches_of(training)
        row = {
            "network": type(training.model).__name__,
            "parameters": count(training.model),
            "batch": few.batch_size if few is not None else math.nan,
            "seconds": seconds["ours"],
            **{f"{name} seconds": value for name, value in seconds.items() if name != "ours"},
            "plain / ours": seconds["plain"] / seconds["ours"],
            "MONAI fast / ours": seconds.get("MONAI fast", math.nan) / seconds["ours"],
            "GB": peak,
            **self.work_of(one, many, seconds["ours"]),
        }
        notes = (
            [] if "MONAI" in ways else [f"MONAI {'is not installed' if no_monai() else 'has no network of this form'}"]
        )
        notes += ["the profiler saw no kernel"] if self.device.type == "cuda" and math.isnan(row["busy"]) else []
        return {**row, "note": "; ".join(notes)}, history

    def seconds_a_step(self, training: Training, amp: bool = True) -> float:
        """Of the second of two epochs, which the device has ended."""
        ends: list[float] = []

        def stamp(_: nn.Module) -> dict[str, float]:
            self.wait()
            ends.append(time.perf_counter())
            return {}

        settings = replace(training.settings, amp=amp and training.settings.amp, validate_every=1)
        run_epochs(replace(training, validate=stamp, settings=settings), 2)
        return (ends[1] - ends[0]) / len(first_epoch(training))

    def plain(self, training: Training) -> float:
        with plain_torch(training.model):
            return self.seconds_a_step(training, amp=False)

    def monai_ways(self, network: nn.Module) -> dict[str, Callable[[Training], float]]:
        """MONAI's network in place of one of its form: the step calls `network`, which then hands over to it."""
        if no_monai() or not isinstance(network, SubPixelNet | UNet3D):
            return {}
        other = Upsampled.of_size(network.config, count(network)).to(self.device)

        def plain(training: Training) -> float:
            with plain_torch(other):
                return self.seconds_in_place(training, other, other.__call__, amp=False)

        def fast(training: Training) -> float:
            return self.seconds_in_place(training, other, other.__call__)

        other.to(memory_format=torch.channels_last_3d)
        return {"MONAI": plain, "MONAI fast": fast}

    def seconds_in_place(self, training: Training, model: nn.Module, forward: Callable, amp: bool = True) -> float:
        """Of a step that calls the training's network, and gets `forward`; `model` is what is trained."""
        with mock.patch.object(training.model, "forward", forward):
            return self.seconds_a_step(replace(training, model=model), amp)

    def work_of(self, one: Training, many: Training, seconds: float) -> dict[str, Any]:
        """What the device does in a step: kernels, arithmetic, memory, and which of both binds."""
        flops, traffic = FlopCounterMode(display=False), Traffic()
        batch = to_device(first_epoch(one)[0], self.device)
        with quiet(), flops, traffic:
            run_epochs(replace(one, batches=[batch]), 1)
        busy = kernel_seconds(many) / seconds if self.device.type == "cuda" else math.nan
        arithmetic, memory = flops.get_total_flops() / seconds, traffic.bytes / seconds
        shares = {"arithmetic": arithmetic / self.peaks.bf16, "memory": memory / self.peaks.copy}
        binds = max(shares, key=shares.__getitem__)
        return {
            "busy": busy,
            "busy aim": AIM_BUSY,
            "TFLOP/s": arithmetic / 1e12,
            "GB/s": memory / 1e9,
            "binds": binds,
            "share of peak": shares[binds],
        }

    # ------------------------------------------------------------------------------------------- volumes, the device

    def super_resolution(self) -> None:
        """Seconds a volume of Table III's networks (untrained: as fast), at this profile's size and the paper's."""
        config = super_resolution.SuperResolutionConfig.profile("full")
        config = replace(config, paper_speed=not self.small)
        networks = {m: super_resolution.build(m, config).to(self.device).eval() for m in ("SR-CNN", "3D-UNet", "SR")}
        for row in super_resolution.speed_table(networks, config).to_dict("records"):
            self.out.add(
                kind="volume",
                name=f"{row['method']}, size of {row['size']}",
                stage=0,
                seconds=row["seconds"],
                parameters=row["parameters"],
                paper_seconds=PAPER_SECONDS.get({"SR": "ACNN-SR"}.get(row["method"], row["method"]), math.nan),
                note=f"SR-CNN takes {row['times_srcnn']:.3g} times as long",
            )

    def on_device(self) -> None:
        """A row each: seconds on the device and of the CPU's own path."""
        for name, (there, here) in device_tasks(self.device, self.small).items():
            with self.out.attempt(kind="device", name=name, stage=0):
                seconds = {k: float(np.median(v)) for k, v in self.turns({"ours": there, "CPU": here}).items()}
                ratio = seconds["CPU"] / seconds["ours"]
                more = {"seconds": seconds["ours"], "CPU seconds": seconds["CPU"], "CPU / ours": ratio}
                self.out.add(kind="device", name=name, stage=0, **more)

    def turns(self, ways: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Seconds of each way in each round, until the device has done it."""
        waited = {name: (lambda way=way: (way(), self.wait())) for name, way in ways.items()}
        return timed(waited, min(self.rounds, 3))

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


# ----------------------------------------------------------------------------------------------------------- trainings


def batches_of(training: Training) -> Batches | None:
    """The `Batches` that a training's come from; some trainers take only the numbers of their rows."""
    batches = training.batches
    found = batches if isinstance(batches, Batches) else getattr(batches, "__self__", None)
    return found if isinstance(found, Batches) else None


def repeated(training: Training, steps: int) -> Training:
    """The training with its few rows repeated until an epoch has so many steps of its batch size."""
    if (few := batches_of(training)) is None:
        return training
    if isinstance(few, Turns):  # its two kinds in turn; a step is one of either
        return replace(training, batches=Turns(few.main, few.others, steps=2 * steps, every=steps, each=few.each))
    rows = np.arange(steps * few.batch_size) % len(few.arrays[0])
    many = Batches(*[a[rows] for a in few.arrays], batch_size=few.batch_size, seed=few.seed)
    numbers = training.batches is not few
    return replace(training, batches=(lambda epoch: [rows[of] for of in many.rows(epoch)]) if numbers else many)


def first_epoch(training: Training) -> Sequence[Any]:
    """Its batches."""
    return training.batches(0) if callable(training.batches) else training.batches


def run_epochs(training: Training, epochs: int) -> History:
    """Train for so many epochs; nothing is kept or shown."""
    run = Run(seed=training.run.seed, progress=False, device=training.run.device)
    return fit(**{**vars(training), "epochs": epochs, "run": run})


@contextlib.contextmanager
def plain_torch(model: nn.Module) -> Iterator[None]:
    """Context in which a model's weights and features lie contiguously and fp32 is not rounded to TF32; afterwards it
    has its weights as they were."""
    kept, backends = {p: p.data for p in model.parameters()}, (torch.backends.cuda.matmul, torch.backends.cudnn)
    allowed, contiguous = [b.allow_tf32 for b in backends], torch.Tensor.contiguous
    for p in kept:
        p.data = p.data.clone(memory_format=torch.contiguous_format)
    for backend in backends:
        backend.allow_tf32 = False
    try:
        # what a network asks for on its way: `x.contiguous(memory_format=torch.channels_last_3d)`
        with mock.patch.object(torch.Tensor, "contiguous", lambda tensor, memory_format=None: contiguous(tensor)):
            yield
    finally:
        for backend, allow in zip(backends, allowed, strict=True):
            backend.allow_tf32 = allow
        for p, data in kept.items():
            p.data, p.grad = data, None


@contextlib.contextmanager
def fitting_or_nan(values: list[float]) -> Iterator[list[float]]:
    """Context in which a way that finds no room on the device has NaN for its seconds, and stops no other."""
    try:
        yield values
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        values.append(math.nan)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context without the warnings of trainings that are too short to be right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def no_monai() -> bool:
    try:
        importlib.import_module("monai.networks.nets")
    except ImportError:
        return True
    return False


class Traffic(TorchDispatchMode):
    """Counts the bytes that operators read and write, each argument and result once; views move nothing."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return result


def kernel_seconds(training: Training) -> float:
    """Seconds a step in which a kernel runs on the GPU; NaN where the profiler sees none, as machines may forbid it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        run_epochs(training, 1)
        torch.cuda.synchronize()
    end = total = 0.0
    spans = [
        (e.time_range.start, e.time_range.end)
        for e in profiler.events()
        # neither copies, nor ranges that the optimiser names
        if e.device_type == DeviceType.CUDA and not e.name.startswith("Mem") and "#" not in e.name
    ]
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total / 1e6 / len(first_epoch(training)) if spans else math.nan


@dataclass(frozen=True)
class Peaks:
    """What the card reaches: bf16 and fp32 (no TF32) operations a second in a product of matrices, bytes a second in a
    copy (read and written)."""

    bf16: float = math.nan
    fp32: float = math.nan
    copy: float = math.nan
    row: dict[str, float] = field(default_factory=dict)

    @classmethod
    def measured(cls, device: torch.device, small: bool) -> Peaks:
        n, size = (256, 2**20) if small else (8192, 2**28)

        def seconds(work: Callable[[], object]) -> float:
            def ten() -> None:
                for _ in range(10):
                    work()
                if device.type == "cuda":
                    torch.cuda.synchronize()

            return float(np.median(timed({"": ten}, 5)[""])) / 10

        def product(dtype: torch.dtype) -> float:
            a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
            return 2 * n**3 / seconds(lambda: a @ b)

        source = torch.zeros(size, device=device)
        target = torch.empty_like(source)
        bf16, fp32 = product(torch.bfloat16), product(torch.float32)
        copy = 2 * source.nbytes / seconds(lambda: target.copy_(source))
        return cls(bf16, fp32, copy, {"TFLOP/s": bf16 / 1e12, "fp32 TFLOP/s": fp32 / 1e12, "GB/s": copy / 1e9})


# ------------------------------------------------------------------------------------------------------------- volumes


@singledispatch
def one_volume(made: Any) -> Callable[[], object] | None:
    """What predicts one volume of what a recipe made; None where nothing is known of its kind."""
    if isinstance(made, tuple(NETWORKS.values())):
        return partial(predict, made, torch.rand(1, *made.config.shape))
    if isinstance(made, nn.Module) and hasattr(made, "task"):
        config = made.config if hasattr(made.config, "lr_shape") else None
        ours = predict_images if made.task == "sr" else predict_labels
        return None if config is None else partial(ours, made, torch.rand(1, *config.lr_shape))
    return None


@one_volume.register
def _(made: AESpace) -> Callable[[], object]:
    return partial(made.decode, np.zeros((1, made.config.code), np.float32))


@one_volume.register
def _(made: TLSpace) -> Callable[[], object]:
    return partial(made.segment, np.zeros((1, *made.config.shape), np.float32))


@one_volume.register
def _(made: NativeSegmenter) -> Callable[[], object]:
    """A cine stack as ACDC's; two passes, the second turned three ways, where a heart is found."""
    image = heart_like((160, 160, 10), 0.0).astype(np.float32)
    return partial(made.predict, image, (1.5, 1.5, 10.0))


# ---------------------------------------------------------------------------------------------------------- the device


def device_tasks(device: torch.device, small: bool) -> dict[str, tuple[Callable, Callable]]:
    """Name -> (on the device, the CPU's own path: numba where there is one), at the size of `full`."""
    shape, factor = ((32, 32, 16), 4) if small else ((192, 192, 80), 5)
    batch = (4 if small else 8, *((24, 24, 36) if small else (96, 96, 36)))
    target, atlas = heart_like(shape, 2.0, (6.0, -4.0, 3.0)), heart_like(shape, 0.0)
    maps = [heart_like(shape, 1.0 + 0.4 * i) for i in range(4)]
    rng = np.random.default_rng(0)
    pictures = [(m / 5 + rng.normal(0, 0.05, shape)).astype(np.float32) for m in maps]
    images = torch.rand(batch)
    labels = torch.from_numpy(np.stack([heart_like(batch[1:], 0.5)] * batch[0]))
    motion, grid = random_motion(batch[0], batch[3] // 3), (shape, SPACING)
    hearts, ranges, ffd = in_the_middle(2, grid), AffineRanges(), FreeFormDeformation()

    def of(work: Callable, *values: Any) -> tuple[Callable, Callable]:
        """The same function of tensors on the device and of what the CPU's path takes."""
        there = [torch.as_tensor(v).to(device) if isinstance(v, np.ndarray | Tensor) else v for v in values]
        return (lambda: work(*there)), (lambda: work(*values))

    def stacks(x: Tensor) -> Tensor:
        return shift_slices(acquire(x, (1.5, 1.5, 10 / 3), 3), motion.to(x.device), (1.5, 1.5, 10 / 3))

    moved = hearts.to(device)
    return {
        "augmentation: affine map of a batch": of(
            lambda x, y: random_affine_pair(x, y, (1.5, 1.5, 10 / 3), ranges), images, labels
        ),
        "augmentation: thick, displaced slices of a batch": of(stacks, images),
        "phantoms: label maps of 4 hearts": (lambda: label_batch(moved, grid), lambda: label_batch(hearts, grid)),
        "registration: free-form deformation": of(lambda a, b: ffd.fit(a, b, SPACING, SPACING), target, atlas),
        "registration: label fusion, 3 atlases": of(
            fuse_labels, np.stack(maps[1:]), np.stack(pictures[1:]), pictures[0]
        ),
        "metrics: Dice of a batch": of(lambda x, y: dice_scores(x, y, 6), labels, labels.flip(1)),
        "metrics: Dice and distances of a volume": of(lambda a, b: evaluate(a, b, SPACING), target, atlas),
    }
