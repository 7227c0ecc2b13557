"""Table I of the ACNN paper: segmentation of short-axis stacks on a grid finer than they are (section III-C).

The paper: 1200 pairs of a cine stack (LR, 10 mm slices, each from its own breath-hold) and a 3-D acquisition (HR) with
labels; 900 to train on, 100 to validate, 200 to test; ED. Input: the LR stack. Truth: the HR labels, without motion.

Here: pairs of phantom hearts (`shapelab.phantoms.pairs`). Training, validation and test hearts are drawn from different
seeds, so no patient is in two of them. All methods see the same hearts in the same order, the same affine augmentation
and the same number of steps; only network, loss and motion augmentation differ (`METHODS`), and capacities are Table
I's (`shapelab.models.acnn.baselines`).

Deviations:
    lambda: the paper's 0.01 is in the units of its codes. Squared distances of codes grow with their spread, the sum of
        sigma^2 over the codes: about 200 in the paper, if its Fig. 5 (16 histograms of 64) is typical, and 2.7 in our
        autoencoder. By that, 0.01 there is about 1 here; but with 1 the prior term is five times cross-entropy at the
        end of a training, and Dice falls. `weight` is 0.1, where it is half of it. It was chosen by the losses of
        training; what other values do on test hearts is in `shapelab.experiments.acnn.robustness.sweep`.
    ACNN-Seg and motion: whether the paper's ACNN-Seg was trained with motion augmentation is not said. Both are here,
        so that prior and augmentation are seen apart (2 x 2).
    Batch and learning rate: the paper's, 8 and 0.001, but in `quick`, which can afford 700 updates: there 4 and 0.004.
        With the paper's, 3D-Seg stays for 250 updates where it separates heart from background and no more (validation
        Dice .13), and reaches .76 after 480; with these after 320.
    Labels: RV cavity, LV myocardium and LV cavity; the paper's have no right ventricle. Table I's two are the last two.
    Pose: the paper crops by six landmarks that another algorithm finds; phantoms are drawn where their LV's centroid
        and the side of the RV put them, which is a truer pose than a network would have.
    Phases: trained on ED and ES; the table is of ED, as the paper's; ES is in the table of cases.
    Distances: "voxel" surfaces (see `shapelab.metrics.evaluate`). A structure that a method misses has an infinite
        distance: it is counted in n_missed and left out of mean and sd, and Wilcoxon's test ranks it worst.
    Mean and sd are over test hearts, after the mean over seeds; sd_seeds is that of the seeds' means.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from shapelab.augment import MotionRanges
from shapelab.data.facts import PHASES
from shapelab.data.grid import unit_image
from shapelab.data.scheme import CARDIAC
from shapelab.data.volumes import HeartPairs
from shapelab.errors import must, one_of
from shapelab.experiments.acnn.segmentation_tables import (
    MEASURES,
    METHODS,
    ORDER,
    Method,
    contrasts,
    layout,
    summarise,
)
from shapelab.experiments.kept_runs import (
    ANY,
    BEFORE,
    KeptRun,
    Study,
    check_key,
    described,
    kept_network,
    plain,
    seeds_of,
    slug,
    weights_key,
)
from shapelab.experiments.recipes import Order, recipe
from shapelab.experiments.shipped import phantom_autoencoder, phantom_tl, shipped
from shapelab.metrics import evaluate, plausibility
from shapelab.models.acnn import (
    ACNNLoss,
    AESpace,
    InputSettings,
    SubPixelConfig,
    Training,
    lr_stacks,
    predict_labels,
    train_network,
)
from shapelab.models.acnn.baselines import CascadeLoss, build, count_parameters, upsample
from shapelab.models.acnn.tl import TLSpace
from shapelab.phantoms.pairs import heart_pairs
from shapelab.phantoms.patients import Mix
from shapelab.spaces import load_network
from shapelab.tensor_files import checksum
from shapelab.training import Config, History, Run, numbers_of

__all__ = [
    "METHODS",
    "ORDER",
    "SHIPPED",
    "Method",
    "SegmentationConfig",
    "evaluate_cases",
    "layout",
    "load_pairs",
    "phantom_autoencoder_for",
    "phantom_network",
    "run",
    "run_method",
    "slug",
    "summarise",
    "train_method",
    "trained_network",
]

Segment = Callable[[Tensor], np.ndarray]  # LR stacks (N, X, Y, Z/K) -> channel numbers (N, X, Y, Z)
#: Seeds of the phantom hearts; no other experiment draws from them.
SEEDS = {"training": 41_000, "validation": 41_001, "test": 41_002}
#: Methods whose weights ship (quick), and the names of their folders under data/weights.
SHIPPED = {"3D-Seg-MAug": "acnn_seg", "ACNN-Seg-MAug": "acnn_seg_prior", "2D-FCN": "acnn_fcn"}
STACK_SEED = 7  # of the noise in the test stacks: every method gets the same
CHECKS = ("violations", "holes", "pieces", "leaks", "gaps", "missing")  # of `plausibility`


@dataclass(frozen=True)
class SegmentationConfig(Config):
    """Numbers of the experiment; the defaults are the quick profile's."""

    training: int = 160  # patients
    validation: int = 12
    test: int = 60
    phases: tuple[str, ...] = PHASES
    epochs: int = 24
    seeds: tuple[int, ...] = (0, 1)  # of weights, order, augmentation
    weight: float = 0.1  # lambda_1: see above
    motion: MotionRanges = field(default_factory=MotionRanges)  # MAug, beyond each heart's own breath-holds
    network: SubPixelConfig = field(default_factory=lambda: SubPixelConfig(batch=4, learning_rate=4e-3))

    PROFILES = dict.fromkeys(
        ("full", "paper"),
        {
            "training": 900,
            "validation": 100,
            "test": 200,
            "phases": ("ED",),
            "epochs": 100,
            "seeds": (0, 1, 2),
            "network": {},
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        enough = min(self.training, self.test, self.epochs, len(self.seeds)) >= 1 and self.validation >= 0
        must(enough, "SegmentationConfig", self, "hearts, epochs and seeds from 1")


def run(
    data: str = "phantom",
    root: str | Path | None = None,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    methods: Sequence[str] | None = None,
    config: SegmentationConfig | None = None,
) -> pd.DataFrame:
    """Train every method of Table I, test it, and write the table; returns it in long form.

    Args:
        data: "phantom"
        root: not asked for by phantoms
        profile: "quick", "full" or "paper"; None: the current one
        seeds: of weights, order and augmentation, a training each; None: the profile's
        output: folder, by default ``results/acnn``; acnn_table1_<data>.csv, ..._contrasts.csv, ..._cases.csv and
            ....json go there, and a folder for each (method, seed), from which a killed run resumes
        methods: some of `METHODS`; None: all
        config: instead of the profile's numbers

    Returns:
        DataFrame, see `summarise`
    """
    study = Study.of("acnn", output, profile)
    config = config or SegmentationConfig.profile(study.profile)
    seeds, methods = seeds_of(seeds, config.seeds), _checked(methods)
    pairs = load_pairs(data, config, study.results, progress)
    about = {"data": data, "profile": study.profile, "config": numbers_of(config), "phantom seeds": SEEDS}
    made = []
    for seed, method in itertools.product(seeds, methods):
        folder = study.results / f"table1_{data}" / f"{slug(method)}-{seed}"
        made.append(run_method(method, seed, pairs, config, folder, progress))
        parts, facts = zip(*made, strict=True)
        table = write(study, parts, {**about, "runs": list(facts)})  # after each: a run cut short has its table
    return table


def _checked(methods: Sequence[str] | None) -> tuple[str, ...]:
    """The methods in the order in which they are trained; UsageError for one that is unknown."""
    known = (*ORDER, "predictor + decoder")
    chosen = known if methods is None else list(methods)
    must(chosen and set(chosen) <= set(known), "methods", chosen, f"some of {', '.join(known)}")
    return tuple(m for m in known if m in chosen)


# ----------------------------------------------------------------------------------------------------------- the data


def load_pairs(
    data: str,
    config: SegmentationConfig,
    folder: str | Path | None = None,
    progress: bool = False,
    parts: Sequence[str] = tuple(SEEDS),
) -> dict[str, HeartPairs]:
    """Training, validation and test hearts; phantoms are kept in `folder`, as making them takes minutes.

    Args:
        parts: which of the three
    """
    one_of("data", data, ("phantom",))
    return {
        name: heart_pairs(
            n,
            config.network.grid,
            config.network.factor,
            SEEDS[name],
            mix=Mix(phases=config.phases),
            cache=None if folder is None else Path(folder) / f"pairs_{name}.npz",
            progress=progress,
        )
        for name in parts
        if (n := getattr(config, name))
    }


# -------------------------------------------------------------------------------------------------------- one method


def run_method(
    method: str,
    seed: int,
    pairs: Mapping[str, HeartPairs],
    config: SegmentationConfig,
    folder: str | Path,
    progress: bool = True,
    weight: float | None = None,
) -> tuple[pd.DataFrame, dict]:
    """Train one method from one seed and test it; what was done before is read from `folder`.

    Args:
        weight: lambda, instead of the config's

    Returns the table of cases (see `evaluate_cases`; with columns method and seed) and the facts: method, seed,
    parameters, seconds (a volume), train_seconds, weight, n_training.

    Raises DataError where the folder holds another run's results.
    """
    folder, how = Path(folder), METHODS[method]
    weight = (config.weight if weight is None else float(weight)) if how.prior else 0.0
    prior = prior_of(method, config, weight, progress)
    of_network = {
        "method": method,
        "seed": seed,
        "weight": weight,
        "epochs": config.epochs,
        "n_training": len(pairs["training"]),
        "network": numbers_of(config.network),
        "motion": asdict(config.motion) if how.motion else None,
        "prior": weights_key(prior),
        "training pairs": pairs_key(pairs["training"]),
    }
    key = {**of_network, "test": len(pairs["test"]), "test pairs": pairs_key(pairs["test"])}
    before = {"training pairs": ANY, "test pairs": ANY, "prior": prior_before(method, config.network, prior)}

    def train(checkpoint: Path | None) -> nn.Module:
        return train_method(method, pairs, config, KeptRun(checkpoint, seed=seed, progress=progress), weight)[0]

    def make() -> tuple[dict[str, pd.DataFrame], dict]:
        stacks = lr_stacks(pairs["test"], seed=STACK_SEED)
        started = time.perf_counter()
        segment: Segment
        if how.network is None:
            segment, facts = _predictor_and_decoder(config)
        else:
            network = kept_network(folder, train, of_network, checkpoint="")
            segment, facts = partial(predict_labels, network), {"parameters": count_parameters(network)}
        facts["train_seconds"] = round(time.perf_counter() - started, 1)
        facts["seconds"] = seconds_per_volume(segment, stacks)
        return {"cases": evaluate_cases(segment(stacks), pairs["test"]).assign(method=method, seed=seed)}, facts

    tables, about = Study(folder).kept(key, make, before=before)
    return tables["cases"], about


def pairs_key(pairs: HeartPairs) -> str:
    """What a key says of the hearts."""
    return checksum({"images": pairs.images, "labels": pairs.labels, "motion": pairs.motion})


def prior_of(
    method: str, config: SegmentationConfig, weight: float, progress: bool = False
) -> AESpace | TLSpace | None:
    """The trained space that a method's results depend on besides its own; None: there is none."""
    if METHODS[method].network is None:
        return phantom_tl(_profile_of(config.network), progress)
    return phantom_autoencoder_for(config.network, progress) if weight else None


def train_method(
    method: str,
    pairs: Mapping[str, HeartPairs],
    config: SegmentationConfig,
    run: Run | None = None,
    weight: float | None = None,
) -> tuple[nn.Module, History]:
    """Train the network of a method on the training pairs; a killed run resumes from its checkpoint.

    Args:
        method: a name of `METHODS`
        weight: lambda, instead of the config's

    The network has `task`, `scheme` and `metadata` as those that are read have. Raises UsageError for a method that has
    no network of its own.
    """
    how, run, numbers = METHODS[method], run or Run(), config.network
    must(how.network is not None, "method", repr(method), "one that is trained on pairs")
    assert how.network is not None
    weight = (config.weight if weight is None else weight) if how.prior else 0.0
    network = build(how.network, numbers, run.seed)
    prior = phantom_autoencoder_for(numbers, run.progress) if weight else None
    loss = CascadeLoss() if how.network.startswith("AE-Seg") else ACNNLoss(prior, weight if prior is not None else 0.0)
    _, history = train_network(
        network,
        pairs["training"],
        loss,
        run,
        training=replace(Training.of(numbers), epochs=config.epochs),
        inputs=InputSettings(motion=config.motion if how.motion else None),
        validation=pairs.get("validation"),
    )
    hearts = pairs["training"].table
    modality = "phantom " if "phantom" in str(hearts["patient"].iloc[0]) else ""
    data = f"{len(hearts)} images of {hearts['patient'].nunique()} {modality}hearts"
    about = {"data": data, "seed": run.seed, "weight": weight, "final": history.last}
    return described(network, "seg", CARDIAC, about), history


def prior_before(method: str, network: SubPixelConfig, prior: object) -> str | None:
    """What results whose key names no prior were made with, where their method has one."""
    shipped_then = BEFORE.get(_profile_of(network), (ANY, ANY))
    return None if prior is None else shipped_then[METHODS[method].network is None]


def phantom_autoencoder_for(network: SubPixelConfig, progress: bool = False) -> AESpace:
    """The prior: the shape autoencoder learned from phantoms, of the profile whose grid this is."""
    return phantom_autoencoder(_profile_of(network), progress)


def _predictor_and_decoder(config: SegmentationConfig) -> tuple[Segment, dict[str, Any]]:
    """The T-L network as a segmentation method: image -> codes -> label map."""
    space = phantom_tl(_profile_of(config.network))

    def segment(stacks: Tensor) -> np.ndarray:
        images = upsample(stacks[:, None], config.network.factor)[:, 0].numpy()
        return space.scheme.channels(space.segment(np.stack([unit_image(i) for i in images])))

    networks = (space.predictor, space.model.autoencoder.decoder, space.model.autoencoder.from_code)
    return segment, {"parameters": sum(map(count_parameters, networks))}


def _profile_of(network: SubPixelConfig) -> str:
    """The profile whose grid it is; quick's networks serve any other (the loss resamples to the prior's grid)."""
    return next((p for p in ("quick", "full", "paper") if SubPixelConfig.profile(p).shape == network.shape), "quick")


def seconds_per_volume(segment: Segment, stacks: Tensor, n: int = 10) -> float:
    """Median time of one stack alone, on this machine as it was then."""
    times = []
    for stack in stacks[: n + 1]:
        started = time.perf_counter()
        segment(stack[None])
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:] or times))


def evaluate_cases(labels: np.ndarray, pairs: HeartPairs) -> pd.DataFrame:
    """Segmentations (N, X, Y, Z), channel numbers, against the HR truth: one row a (heart, structure).

    Columns: case, patient, group, phase, structure, assd, hd (mm), dice, missed; and of the whole heart, the same in
    its three rows: plausible and the counts of `shapelab.metrics.plausibility`.
    """
    scheme, rows = pairs.scheme, []
    names: dict[Any, str] = {s.value: s.name for s in scheme.structures}
    for i, (case, facts) in enumerate(pairs.table.iterrows()):
        made, truth = scheme.integers(labels[i]), scheme.integers(pairs.labels[i])
        checks = plausibility(made, scheme)
        for value, found in evaluate(made, truth, pairs.spacing, labels=list(names)).iterrows():
            rows.append(
                {
                    "case": case,
                    "patient": facts["patient"],
                    "group": facts["group"],
                    "phase": facts["phase"],
                    "structure": names[value],
                    **{m: float(found[m]) for m in MEASURES},
                    "missed": bool(found["missed"]),
                    "plausible": bool(checks["plausible"]),
                    **{c: int(checks[c]) for c in CHECKS},
                }
            )
    return pd.DataFrame(rows)


def write(study: Study, parts: Sequence[pd.DataFrame], about: Mapping[str, Any]) -> pd.DataFrame:
    """All tables of the cases so far, each whole or not at all; returns that of Table I.

    Args:
        about: data, profile, config, phantom seeds, and runs: the facts of each part
    """
    cases = pd.concat(parts, ignore_index=True)
    phase = "ED" if "ED" in set(cases["phase"]) else None
    table = summarise(cases, about["runs"], phase)
    study.write(
        f"acnn_table1_{about['data']}", {"": table, "_contrasts": contrasts(cases, phase), "_cases": cases}, about
    )
    return table


def trained_network(folder: str | Path, config: SegmentationConfig | None = None) -> nn.Module:
    """The network that `run` left in the folder of a training; DataError where it is not of these numbers.

    Args:
        config: whose network it must be; None: any
    """
    about = Path(folder) / "about.json"
    if config is not None and about.is_file():
        check_key(about, json.loads(about.read_text()), plain({"network": numbers_of(config.network)}), "a network")
    return load_network(Path(folder) / "network")


@recipe("3d-seg", "sub-pixel segmentation (Fig. 2)", method="3D-Seg")
@recipe(
    "3d-seg-maug", "sub-pixel segmentation with motion augmentation", method="3D-Seg-MAug", ships=SHIPPED["3D-Seg-MAug"]
)
@recipe("acnn-seg", "sub-pixel segmentation with the shape prior (eq. 1)", method="ACNN-Seg")
@recipe(
    "acnn-seg-maug",
    "the shape prior (eq. 1) and motion augmentation",
    method="ACNN-Seg-MAug",
    ships=SHIPPED["ACNN-Seg-MAug"],
)
@recipe("2d-fcn", "slice by slice (Table I)", method="2D-FCN", ships=SHIPPED["2D-FCN"])
@recipe("3d-unet", "3D U-Net on the upsampled stack (Table I)", method="3D-UNet")
@recipe("ae-seg", "cascade with an autoencoder (Table I)", method="AE-Seg")
@recipe("ae-seg-m", "cascade with a larger autoencoder", method="AE-Seg-M")
def _ordered(order: Order, method: str) -> nn.Module:
    config = order.numbers(SegmentationConfig.profile(order.profile), hearts="training")
    pairs = load_pairs(order.data, config, order.checkpoint, order.progress, parts=("training", "validation"))
    network, _ = train_method(method, pairs, config, order.run)
    vars(network)["metadata"]["method"] = method
    return network


def phantom_network(method: str = "ACNN-Seg-MAug", profile: str | None = None, progress: bool = True) -> nn.Module:
    """A network of `SHIPPED` learned from phantoms (seed 0): shipped weights, or trained now (and kept), which takes
    about five minutes in `quick` on one core."""
    return shipped(slug(one_of("method", method, SHIPPED)), profile, progress)
