"""Table I of the ACNN paper: segmentation of short-axis stacks on a grid finer than they are (section III-C).

The paper: 1200 pairs of a cine stack (LR, 10 mm slices, each from its own breath-hold) and a 3-D acquisition (HR) with
labels; 900 to train on, 100 to validate, 200 to test; ED. Input: the LR stack. Truth: the HR labels, without motion.

Here: pairs of phantom hearts (`shapelab.phantoms.pairs`), or pairs of one's own (UK Digital Heart's layout). Training,
validation and test hearts are drawn from different seeds, so no patient is in two of them. All methods see the same
hearts in the same order, the same affine augmentation and the same number of steps; only network, loss and motion
augmentation differ (`METHODS`), and capacities are Table I's (`shapelab.models.acnn.baselines`).

Where the paper is silent, or we chose otherwise
------------------------------------------------
lambda: the paper's 0.01 is in the units of its codes. Squared distances of codes grow with their spread, the sum of
    sigma^2 over the codes: about 200 in the paper, if its Fig. 5 (16 histograms of 64) is typical, and 2.7 in our
    autoencoder. By that, 0.01 there is about 1 here; but with 1 the prior term is five times cross-entropy at the end
    of a training, and Dice falls. `weight` is 0.1, where it is half of it. It was chosen by the losses of training;
    what other values do on test hearts is in `shapelab.experiments.acnn.robustness.sweep`.
ACNN-Seg and motion: whether the paper's ACNN-Seg was trained with motion augmentation is not told. Both are here, so
    that prior and augmentation are seen apart (2 x 2).
Batch and learning rate: the paper's, 8 and 0.001, but in `quick`, which can afford 700 updates: there 4 and 0.004. With
    the paper's, 3D-Seg stays for 250 updates where it tells heart from background and no more (validation Dice .13),
    and reaches .76 after 480; with these after 320.
Phases: trained on ED and ES; the table is of ED, as the paper's; ES is in the table of cases.
Distances: "voxel" surfaces (see `shapelab.metrics.evaluate`). A structure that a method misses has an infinite
    distance: it is counted in n_missed and left out of mean and sd, and Wilcoxon's test ranks it worst.
Mean and sd are over test hearts, after the mean over seeds; sd_seeds is that of the seeds' means.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shapelab import __version__
from shapelab.augment import MotionRanges
from shapelab.data.facts import PHASES
from shapelab.data.volumes import HeartPairs
from shapelab.device import describe
from shapelab.errors import DataError, UsageError
from shapelab.experiments.acnn.segmentation_tables import (
    MEASURES,
    METHODS,
    ORDER,
    Method,
    contrasts,
    layout,
    summarise,
)
from shapelab.experiments.shipped import phantom_autoencoder, shipped_or_trained
from shapelab.files import atomic_write, write_csv
from shapelab.metrics import evaluate, plausibility
from shapelab.models.acnn import (
    ACNNLoss,
    InputSettings,
    SubPixelConfig,
    Training,
    lr_stacks,
    predict_labels,
    train_network,
)
from shapelab.models.acnn.baselines import CascadeLoss, build, count_parameters
from shapelab.phantoms.pairs import SHIFT_MM, TURN_DEG, breath_holds, heart_pairs
from shapelab.phantoms.patients import Mix
from shapelab.profiles import current_profile
from shapelab.spaces import load_network, save_network
from shapelab.spaces.kept import NETWORK as FILE
from shapelab.training import History, Run

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
    "ship",
    "slug",
    "split_pairs",
    "summarise",
    "train_method",
    "trained_network",
]

#: Seeds of the phantom hearts; no other experiment draws from them.
SEEDS = {"training": 41_000, "validation": 41_001, "test": 41_002}
#: Methods whose weights ship (quick), and the names of their folders under data/weights.
SHIPPED = {"3D-Seg-MAug": "acnn_seg", "ACNN-Seg-MAug": "acnn_seg_prior", "2D-FCN": "acnn_fcn"}
STACK_SEED = 7  # of the noise in the test stacks: every method gets the same
CHECKS = ("violations", "holes", "pieces", "leaks", "gaps", "missing")  # of `plausibility`


@dataclass(frozen=True)
class SegmentationConfig:
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

    def __post_init__(self):
        if min(self.training, self.test, self.epochs, len(self.seeds)) < 1 or self.validation < 0:
            raise UsageError(f"SegmentationConfig: found {self}; expected hearts, epochs and seeds from 1")

    @classmethod
    def profile(cls, name: str | None = None) -> SegmentationConfig:
        name = current_profile(name)
        if name == "quick":
            return cls()
        larger = {"training": 900, "validation": 100, "test": 200, "phases": ("ED",), "epochs": 100, "seeds": (0, 1, 2)}
        return cls(network=SubPixelConfig.profile(name), **larger)


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
    """Train every method of Table I, test it, and write the table; it comes back in long form.

    Parameters
    ----------
    data : "phantom", or "digital_heart" (pairs of one's own under `root`)
    root : folder of the data set; None looks under SHAPELAB_DATA
    profile : "quick", "full" or "paper"; None: what fits this machine
    seeds : of weights, order and augmentation, a training each; None: the profile's
    output : folder, by default ``results/acnn``; acnn_table1_<data>.csv, ..._contrasts.csv, ..._cases.csv and ....json
        go there, and a folder for each (method, seed), from which a killed run goes on
    methods : some of `METHODS`; None: all
    config : instead of the profile's numbers

    Returns
    -------
    DataFrame, see `summarise`
    """
    profile = current_profile(profile)
    config = config or SegmentationConfig.profile(profile)
    seeds = config.seeds if seeds is None else tuple(int(s) for s in seeds)
    methods = _checked(methods)
    output = Path(output) if output is not None else Path("results") / "acnn"
    pairs = load_pairs(data, config, root, output, progress)
    folder = output / f"table1_{data}"
    parts, facts = [], []
    for seed in seeds:
        for method in methods:
            cases, about = run_method(method, seed, pairs, config, folder / f"{slug(method)}-{seed}", progress)
            parts.append(cases)
            facts.append(about)
            write(parts, facts, output, data, profile, config)  # after each: a run cut short has its table
    return write(parts, facts, output, data, profile, config)


def _checked(methods: Sequence[str] | None) -> tuple[str, ...]:
    """The methods in the order in which they are trained; UsageError for one that is unknown."""
    known = (*ORDER, "predictor + decoder")
    if methods is None:
        return known
    wrong = [m for m in methods if m not in known]
    if wrong or not methods:
        raise UsageError(f"methods: found {list(methods)}; expected some of {', '.join(known)}")
    return tuple(m for m in known if m in methods)


# ----------------------------------------------------------------------------------------------------------- the data


def load_pairs(
    data: str,
    config: SegmentationConfig,
    root: str | Path | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
    parts: Sequence[str] = tuple(SEEDS),
) -> dict[str, HeartPairs]:
    """Training, validation and test hearts; phantoms are kept in `folder`, as making them takes minutes.

    parts : which of the three
    """
    grid, factor = config.network.grid, config.network.factor
    if data == "phantom":
        sizes = {"training": config.training, "validation": config.validation, "test": config.test}
        return {
            name: heart_pairs(
                n,
                grid,
                factor,
                SEEDS[name],
                mix=Mix(phases=config.phases),
                progress=progress,
                cache=None if folder is None else Path(folder) / f"pairs_{name}.npz",
            )
            for name, n in sizes.items()
            if n and name in parts
        }
    if data == "digital_heart":
        return real_pairs(root, config, progress)
    raise UsageError(f"data: found {data!r}; expected 'phantom' or 'digital_heart'")


def real_pairs(root: str | Path | None, config: SegmentationConfig, progress: bool = False) -> dict:
    """Real pairs in parts by patient, and under "stacks" the real LR stacks (N, X, Y, Z/K) of the test part.

    Networks learn from stacks made of the HR scans, with breath-holds as the phantom's, since those of a real pair are
    not known; they are tested on the stacks that were scanned.
    """
    from shapelab.data.cards import locate
    from shapelab.experiments.acnn.digital_heart_pairs import digital_heart_pairs

    grid, factor = config.network.grid, config.network.factor
    folder = Path(root) if root is not None else locate("digital_heart")
    pairs, stacks = digital_heart_pairs(folder, grid, factor, progress)
    slices = grid.shape[2] // factor
    motion = np.stack([breath_holds(SEEDS["training"], i, slices, SHIFT_MM, TURN_DEG) for i in range(len(pairs))])
    parts = split_pairs(replace(pairs, motion=motion), config)
    tested = pairs.table["patient"].isin(set(parts["test"].table["patient"])).to_numpy()
    return {**parts, "stacks": torch.from_numpy(stacks[tested]).float()}


def split_pairs(pairs: HeartPairs, config: SegmentationConfig, seed: int = 0) -> dict[str, HeartPairs]:
    """Pairs in training, validation and test by patient, in the config's proportions (the paper's: 900 : 100 : 200)."""
    patients = np.array(list(dict.fromkeys(pairs.table["patient"])))
    order = patients[np.random.default_rng(seed).permutation(len(patients))]
    sizes = np.array([config.training, config.validation, config.test], float)
    cuts = np.round(np.cumsum(sizes / sizes.sum()) * len(order)).astype(int)[:2]
    parts = {n: set(p) for n, p in zip(SEEDS, np.split(order, cuts), strict=True)}
    if not parts["training"] or not parts["test"]:
        raise DataError("pairs", f"{len(patients)} patients", "enough for a training and a test part")
    return {n: pairs[pairs.table["patient"].isin(p).to_numpy()] for n, p in parts.items() if p}


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

    weight : lambda, instead of the config's

    Returns the table of cases (see `evaluate_cases`; with columns method and seed) and the facts: method, seed,
    parameters, seconds (a volume), train_seconds, weight, n_training.

    Raises DataError where the folder holds another run's results.
    """
    folder, how = Path(folder), METHODS[method]
    weight = (config.weight if weight is None else float(weight)) if how.prior else 0.0
    key = {
        "method": method,
        "seed": seed,
        "weight": weight,
        "epochs": config.epochs,
        "test": len(pairs["test"]),
        "n_training": len(pairs["training"]),
        "network": _plain(asdict(config.network)),
        "motion": _plain(asdict(config.motion)) if how.motion else None,
    }
    cases_file, about_file = folder / "cases.csv", folder / "about.json"
    if about_file.is_file() and cases_file.is_file():
        about = json.loads(about_file.read_text())
        if any(about.get(k) != v for k, v in key.items()):
            raise DataError(about_file, "results of another run", f"those of {key}", "Use another output folder.")
        return pd.read_csv(cases_file), about
    stacks = pairs["stacks"] if "stacks" in pairs else lr_stacks(pairs["test"], seed=STACK_SEED)
    started = time.perf_counter()
    if how.network is None:
        segment, facts = _predictor_and_decoder(config)
    else:
        network = _trained(how, seed, pairs, config, weight, folder, progress)
        segment, facts = _segment_with(network), {"parameters": count_parameters(network)}
    facts["train_seconds"] = round(time.perf_counter() - started, 1)
    facts["seconds"] = seconds_per_volume(segment, stacks)
    cases = evaluate_cases(segment(stacks), pairs["test"]).assign(method=method, seed=seed)
    about = {**key, **facts, **describe(), "shapelab": __version__, "date": date.today().isoformat()}
    write_csv(cases, cases_file)
    with atomic_write(about_file) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")
    return cases, about


def _trained(how: Method, seed: int, pairs, config: SegmentationConfig, weight: float, folder: Path, progress):
    """The network of a method, trained on from its checkpoint, or read where it was trained before."""
    if (folder / "network").is_dir():
        return load_network(folder / "network")
    network, history = train_method(how, seed, pairs, config, folder, progress, weight)
    hearts = pairs["training"].table
    modality = "phantom " if "phantom" in str(hearts["patient"].iloc[0]) else ""
    data = f"{len(hearts)} images of {hearts['patient'].nunique()} {modality}hearts"
    about = {"data": data, "seed": seed, "weight": weight, "final": history.last}
    save_network(folder / "network", network, metadata=about)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return network


def train_method(
    method: str | Method,
    seed: int,
    pairs: Mapping[str, HeartPairs],
    config: SegmentationConfig,
    checkpoint: str | Path | None,
    progress: bool = True,
    weight: float | None = None,
) -> tuple[nn.Module, History]:
    """Train the network of a method (a name of `METHODS`) on the training pairs; a killed run goes on from its
    `checkpoint`.

    method : a name of `METHODS`, or a `Method`; weight : lambda, instead of the config's

    Raises UsageError for a method that has no network of its own.
    """
    how = METHODS[method] if isinstance(method, str) else method
    if how.network is None:
        raise UsageError(f"method: found {method!r}; expected one that is trained on pairs")
    weight = (config.weight if weight is None else weight) if how.prior else 0.0
    numbers = config.network
    network = build(how.network, numbers, seed)
    prior = phantom_autoencoder_for(numbers, progress) if weight else None
    loss = CascadeLoss() if how.network.startswith("AE-Seg") else ACNNLoss(prior, weight if prior is not None else 0.0)
    return train_network(
        network,
        pairs["training"],
        loss,
        Run(checkpoint, seed=seed, progress=progress),
        training=replace(Training.of(numbers), epochs=config.epochs),
        inputs=InputSettings(motion=config.motion if how.motion else None),
        validation=pairs.get("validation"),
    )


def phantom_autoencoder_for(network: SubPixelConfig, progress: bool = False):
    """The prior: the shape autoencoder learned from phantoms, of the profile whose grid this is."""
    return phantom_autoencoder(_profile_of(network), progress)


def _segment_with(network: nn.Module):
    return lambda stacks: predict_labels(network, stacks)


def _predictor_and_decoder(config: SegmentationConfig):
    """The T-L network as a segmentation method: image -> codes -> label map."""
    from shapelab.data.grid import unit_image
    from shapelab.experiments.shipped import phantom_tl
    from shapelab.models.acnn.baselines import upsample

    space = phantom_tl(_profile_of(config.network))

    def segment(stacks: Tensor) -> np.ndarray:
        images = upsample(stacks[:, None], config.network.factor)[:, 0].numpy()
        return space.scheme.channels(space.segment(np.stack([unit_image(i) for i in images])))

    networks = (space.predictor, space.model.autoencoder.decoder, space.model.autoencoder.from_code)
    return segment, {"parameters": sum(count_parameters(n) for n in networks)}


def _profile_of(network: SubPixelConfig) -> str:
    """The profile whose grid it is; quick's networks serve any other (the loss resamples to the prior's grid)."""
    return next((p for p in ("quick", "full", "paper") if SubPixelConfig.profile(p).shape == network.shape), "quick")


def seconds_per_volume(segment, stacks: Tensor, n: int = 10) -> float:
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
    names = {s.value: s.name for s in scheme.structures}
    for i, (case, facts) in enumerate(pairs.table.iterrows()):
        made, truth = scheme.integers(labels[i]), scheme.integers(pairs.labels[i])
        checks = plausibility(made, scheme)
        heart = {"case": case, "patient": facts["patient"], "group": facts["group"], "phase": facts["phase"]}
        checked = {"plausible": bool(checks["plausible"]), **{c: int(checks[c]) for c in CHECKS}}
        for value, found in evaluate(made, truth, pairs.spacing, labels=list(names)).iterrows():
            measures = {m: float(found[m]) for m in MEASURES}
            rows.append({**heart, "structure": names[value], **measures, "missed": bool(found["missed"]), **checked})
    return pd.DataFrame(rows)


def write(parts, facts, output: Path, data: str, profile: str, config: SegmentationConfig) -> pd.DataFrame:
    """All tables, each whole or not at all; the table of Table I comes back."""
    cases = pd.concat(parts, ignore_index=True)
    phase = "ED" if "ED" in set(cases["phase"]) else None
    table = summarise(cases, facts, phase)
    write_csv(table, output / f"acnn_table1_{data}.csv")
    write_csv(contrasts(cases, phase), output / f"acnn_table1_{data}_contrasts.csv")
    write_csv(cases, output / f"acnn_table1_{data}_cases.csv")
    about = {
        "data": data,
        "profile": profile,
        "config": asdict(config),
        "phantom seeds": SEEDS,
        "runs": list(facts),
        "shapelab": __version__,
        **describe(),
        "date": date.today().isoformat(),
    }
    with atomic_write(output / f"acnn_table1_{data}.json") as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")
    return table


def slug(method: str) -> str:
    """A method's name as that of a folder."""
    return method.lower().replace(" + ", "-").replace(" ", "-")


def _plain(value):  # as JSON gives it back: tuples are lists
    return json.loads(json.dumps(value))


def trained_network(folder: str | Path) -> nn.Module:
    """The network that `run` left in the folder of a training."""
    return load_network(Path(folder) / "network")


def phantom_network(method: str = "ACNN-Seg-MAug", profile: str | None = None, progress: bool = True) -> nn.Module:
    """A network of `SHIPPED` learned from phantoms (seed 0): shipped weights, or trained now (and kept), which takes
    about five minutes in `quick` on one core."""
    profile = current_profile(profile)
    if method not in SHIPPED:
        raise UsageError(f"method: found {method!r}; expected one of {', '.join(SHIPPED)}")
    config = SegmentationConfig.profile(profile)

    def train() -> nn.Module:
        pairs = load_pairs("phantom", config, progress=progress)
        with TemporaryDirectory() as here:
            weight = config.weight if METHODS[method].prior else 0.0
            _trained(METHODS[method], 0, pairs, config, weight, Path(here), progress)
            return load_network(Path(here) / "network")

    return shipped_or_trained(
        f"{SHIPPED[method]}_{profile}", FILE, load_network, train, lambda network, folder: ship(method, network, folder)
    )


def ship(method: str, network: nn.Module, folder: str | Path) -> Path:
    """Write a network as it ships, in fp16."""
    return save_network(folder, network, metadata={**getattr(network, "metadata", {}), "method": method}, half=True)
