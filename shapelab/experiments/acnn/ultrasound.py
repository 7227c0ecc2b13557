"""Table II of the ACNN paper: LV cavity in 3D ultrasound, with and without a shape prior.

FCN is a fully convolutional network at native resolution (the sub-pixel backbone with factor 1) trained by cross-
entropy; ACNN-Seg is the same network from the same initial weights, on the same images in the same order, with the
prior term of eq. 1 beside it. The prior is an autoencoder of LV label maps. As in the paper, few patients have images
(CETUS: 15 to train with); shapes are cheaper, and the phantom's prior has seen more of them, other hearts all.

Differences from the paper: the FCN of reference [11] works on several views, ours in 3D; BEAS, a deformable model, is
not made again, its numbers stand beside ours; volumes are 6 x 6 x 4 mm in `quick` (the paper: 1 mm); on "cetus"
training and testing part are drawn from whatever patients have outlines (the challenge kept 30 for itself), the prior
learns from the training patients' outlines alone, and predictions are brought back to the scan's voxels before they
are measured. The paper calls its EF bias "ml"; an EF has none, ours is in % points.

lambda. The pixel term is a mean over voxels, so one voxel's share of it is tiny beside its share of a code, and the
paper's 0.01 is too much here. First trials (seed 0, 240 steps, a weaker prior on the full grid, 20 hearts kept for
choices): 0.01 broke segmentations into eight or nine pieces, codes in units of their sigma at 0.001 into a hundred;
0.001 was ahead of no prior (mean distance at ED and ES 3.93 and 4.06 mm against 4.30 and 4.44). The prior now looks at
the average of 2 x 2 x 1 voxels: that trains four times as fast, to a better autoencoder, and its gradient cannot single
voxels out. With it, after 600 steps: no prior 2.71 and 2.75 mm, 0.001 2.66 and 2.89, 0.003 3.06 and 3.06.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shapelab.augment import AffineRanges, random_affine_pair
from shapelab.data.geometry import count_components, count_holes, reaches
from shapelab.data.grid import Grid, GridTransform, from_grid, to_grid, to_unit_range
from shapelab.data.scheme import LV_CAVITY
from shapelab.errors import must, one_of
from shapelab.experiments.acnn.ultrasound_tables import METHODS, layout, summarise
from shapelab.experiments.kept_runs import KeptRun, Study, plain, seeds_of
from shapelab.experiments.tables import spread
from shapelab.files import write_csv
from shapelab.metrics import evaluate
from shapelab.models.acnn import ACNNLoss, AEConfig, AESpace, SubPixelConfig, SubPixelNet, train_autoencoder
from shapelab.models.acnn.trainer import predict_labels
from shapelab.phantoms.ultrasound import us_arrays, us_cohort
from shapelab.phantoms.ultrasound_geometry import Artefacts, make_box
from shapelab.phantoms.ultrasound_imaging import more_shadows
from shapelab.places import weights_of
from shapelab.spaces.kept import is_kept, load_network, save_network
from shapelab.tensor_files import checksum
from shapelab.training import Batches, Config, FitSettings, fit, numbers_of, seeded

__all__ = [
    "METHODS",
    "Echoes",
    "UltrasoundConfig",
    "cetus_echoes",
    "layout",
    "lv_plausibility",
    "measure",
    "on_prior_grid",
    "phantom_echoes",
    "robustness",
    "run",
    "shape_prior",
    "summarise",
    "train_method",
]

#: Seeds that share no heart: of the prior's shapes, of training, of the choice of lambda, of the test.
PRIOR_SEED, TRAIN_SEED, CHOICE_SEED, TEST_SEED = 20_000, 31_000, 32_000, 33_000


LARGER = {  # than "quick"
    "shape": (96, 96, 96),
    "spacing": (1.5, 1.5, 1.5),
    "widths": (16, 32, 64, 96),
    "test": 200,
    "epochs": 100,
    "prior_hearts": 2000,
    "prior_epochs": 50,
    "prior_step": (1, 1, 1),
    "bottleneck": 2,
    "curve": 60,
}


@dataclass(frozen=True)
class UltrasoundConfig(Config):
    """Numbers of the experiment; the defaults are the quick profile's."""

    name: str = "quick"
    shape: tuple[int, int, int] = (48, 48, 36)
    spacing: tuple[float, float, float] = (3.0, 3.0, 4.0)  # a box of 144 mm
    widths: tuple[int, int, int, int] = (8, 16, 32, 48)
    train: int = 15  # patients with images, ED and ES each: as CETUS
    test: int = 40
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 40
    batch: int = 2
    learning_rate: float = 3e-3
    decay: str = "all"  # what weight decay is of: see `shapelab.training.decay`
    weight: float = 0.001  # lambda; the paper's 0.01 breaks segmentations up here: see the module's docstring
    scale: str = "none"  # the autoencoder's own codes, as in the paper
    prior_step: tuple[int, int, int] = (2, 2, 1)  # voxels that the prior averages before it looks
    prior_hearts: int = 400
    prior_epochs: int = 16
    bottleneck: int = 32
    curve: int = 15  # patients of the robustness curve
    affine: AffineRanges = field(
        default_factory=lambda: AffineRanges((8.0, 8.0, 15.0), scale=0.1, shear=0.03, translation=(6.0, 6.0, 6.0))
    )
    # the prior's: less than the autoencoder's usual, since the probe is always near the LV's axis
    prior_affine: AffineRanges = field(
        default_factory=lambda: AffineRanges((6.0, 6.0, 15.0), scale=0.08, shear=0.03, translation=(4.0, 4.0, 4.0))
    )

    PROFILES = {
        "full": {"name": "full", **LARGER},
        "paper": {"name": "paper", **LARGER, "test": 30, "learning_rate": 1e-3},
    }

    @property
    def prior_grid(self) -> Grid:
        (x, y, z), (dx, dy, dz), (a, b, c) = self.shape, self.spacing, self.prior_step
        return Grid((x // a, y // b, z // c), (dx * a, dy * b, dz * c))

    @property
    def autoencoder(self) -> AEConfig:
        """Of the prior."""
        grid = self.prior_grid
        return AEConfig(
            shape=grid.shape,
            spacing=grid.spacing,
            n_classes=2,
            bottleneck=self.bottleneck,
            epochs=self.prior_epochs,
            learning_rate=2e-3,
            affine=self.prior_affine,
        )

    @property
    def network(self) -> SubPixelConfig:
        """Of the segmentation network."""
        return SubPixelConfig(shape=self.shape, spacing=self.spacing, factor=1, n_out=2, widths=self.widths)

    def weight_of(self, method: str) -> float:
        """lambda of a method."""
        return 0.0 if method == "FCN" else self.weight


@dataclass(frozen=True, eq=False)
class Echoes:
    """Images (N, X, Y, Z) float16 in [0, 1] and labels uint8 on the grid; one row of `table` each (patient, phase).

    Attributes:
        truths: where results are measured on the scan's own voxels: (label map, spacing, transform) of each; else None
    """

    images: np.ndarray
    labels: np.ndarray
    table: pd.DataFrame
    truths: list[tuple[np.ndarray, np.ndarray, GridTransform]] | None = None

    @property
    def checksum(self) -> str:
        return checksum({"images": self.images.astype(np.float32), "labels": self.labels})


def phantom_echoes(
    n: int, config: UltrasoundConfig, seed: int, artefacts: Artefacts | None = None, progress: bool = False
) -> Echoes:
    """Phantom patients on the experiment's grid; artefacts: of usual strength if not given."""
    return Echoes(*us_arrays(us_cohort(n, seed=seed, grid=config.grid, artefacts=artefacts or Artefacts()), progress))


def cetus_echoes(
    root: str | Path | None, config: UltrasoundConfig, seed: int = 0, progress: bool = False
) -> tuple[Echoes, Echoes]:
    """(training, test) part of CETUS's patients with outlines; the middle of the scan comes to that of the grid."""
    from tqdm.auto import tqdm

    from shapelab.data import open_cohort

    cohort = open_cohort("cetus", root).filter(lambda s: s.label_source is not None)
    patients = np.random.default_rng(seed).permutation(cohort.patients)
    n = min(config.train, len(patients) // 2)
    must(n >= 1, "cetus", f"{len(patients)} patients with outlines", "at least 2")
    parts = []
    for chosen in (patients[:n], patients[n:]):
        part = cohort.filter(patient=list(chosen))
        samples = [
            to_grid(s, config.grid, centre="volume")
            for s in tqdm(part, desc="cetus", disable=not progress, leave=False)
        ]
        parts.append(
            Echoes(
                np.stack([to_unit_range(s.image, (0, 100)) for s in samples if s.image is not None]).astype(np.float16),
                np.stack([s.label for s in samples if s.label is not None]),
                part.table,
                truths=[
                    (s.subject.label, s.subject.spacing, s.transform) for s in samples if s.subject.label is not None
                ],
            )
        )
    return parts[0], parts[1]


def shape_prior(
    config: UltrasoundConfig, cache: Path, labels: np.ndarray | None = None, progress: bool = True
) -> AESpace:
    """The autoencoder of LV cavities: shipped, or kept in `cache`, or trained now.

    Args:
        labels: (N, X, Y, Z) on the experiment's grid, to learn from instead of phantoms
    """
    taught, grid = None, config.prior_grid
    data = f"{config.prior_hearts} phantom hearts in 3D ultrasound's frame, ED and ES, seed {PRIOR_SEED}"
    if labels is not None:
        labels = on_prior_grid(labels, config)
        taught, data = checksum({"l": labels}), "training outlines"
    wanted = plain(asdict(config.autoencoder))
    for folder in (cache,) if taught else (weights_of(f"acnn_ae_us_{config.name}"), cache):
        if is_kept(folder):
            space = AESpace.load(folder)
            of_these = data == space.metadata.get("data") if taught is None else taught == space.metadata.get("taught")
            if plain(asdict(space.config)) == wanted and of_these:
                return space
    if labels is None:
        cohort = us_cohort(config.prior_hearts, PRIOR_SEED, grid=grid, images=False)
        labels = np.stack([s.label for s in cohort if s.label is not None])
    run = KeptRun(cache / "training", progress=progress)
    space, _ = train_autoencoder(labels, config.autoencoder, run, scheme=LV_CAVITY, data=data)
    space.metadata["taught"] = taught
    space.save(cache)
    return space


def on_prior_grid(labels: np.ndarray, config: UltrasoundConfig) -> np.ndarray:
    """Label maps (N, X, Y, Z) as the prior sees them: a voxel of its grid is LV if half of its volume is."""
    if config.prior_step == (1, 1, 1):
        return labels
    soft = torch.nn.functional.avg_pool3d(torch.from_numpy(labels).float()[:, None], config.prior_step)[:, 0]
    return reaches(soft.numpy()).astype(np.uint8)


def train_method(
    method: str, seed: int, train: Echoes, prior: AESpace, config: UltrasoundConfig, folder: Path, progress: bool = True
) -> torch.nn.Module:
    """The trained network of one method and seed, loaded from `folder` if it was trained before with the same numbers.

    Both methods of a seed start from the same weights and see the same batches, moved and shadowed alike.
    """
    weight = config.weight_of(method)
    scale = config.scale if weight else "none"
    told = ("widths", "epochs", "batch", "learning_rate", "decay")
    about = plain(
        {
            "method": "prior" if weight else "plain",
            "seed": seed,
            "training": {k: v for k, v in numbers_of(config).items() if k in told} | asdict(config.affine),
            "weight": weight,
            "scale": scale,
            "data": train.checksum,
            "prior": checksum(prior.model.state_dict()) if weight else None,
        }
    )
    if is_kept(folder):
        network = load_network(folder)
        if network.metadata.get("about") == about:
            return network
    network = seeded(lambda: SubPixelNet(config.network), seed)
    loss = ACNNLoss(prior if weight else None, weight=weight, scale=scale)
    box = make_box(config.shape, config.spacing)

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = random_affine_pair(batch[0].float(), batch[1], config.spacing, config.affine)
        images = more_shadows(images, box, int(torch.randint(2**31, (1,))))
        return loss(network(images[:, None]), labels)

    history = fit(
        step,
        network,
        Batches(train.images, train.labels, batch_size=config.batch, seed=seed),
        config.epochs,
        settings=FitSettings(
            learning_rate=config.learning_rate, schedule="one-cycle", weight_decay=5e-6, decay=config.decay
        ),
        run=KeptRun(folder / "training", seed=seed, progress=progress, identity=about),
    )
    save_network(folder, network, scheme=LV_CAVITY, metadata={"about": about, "final": history.last})
    return network


def lv_plausibility(mask: np.ndarray) -> dict[str, int | bool]:
    """Pieces beside the largest (26 neighbours) and holes (background that the cavity encloses, 6 neighbours) of an LV
    cavity (X, Y, Z); plausible: one piece, no hole."""
    pieces, holes = count_components(mask), count_holes(mask)
    return {"pieces": max(pieces - 1, 0), "holes": holes, "plausible": bool(pieces == 1 and holes == 0)}


def measure(network: torch.nn.Module, test: Echoes, spacing: Sequence[float]) -> pd.DataFrame:
    """One row a case: patient, phase, group, dice, hd, assd, volume, volume_truth (ml), missed, pieces, holes."""
    made = predict_labels(network, test.images.astype(np.float32))
    rows = []
    for i, (name, facts) in enumerate(test.table.iterrows()):
        truth, size, transform = test.truths[i] if test.truths else (test.labels[i], spacing, None)
        prediction = from_grid(made[i], transform) if transform else made[i]
        rows.append(
            {
                "case": name,
                "patient": facts["patient"],
                "phase": facts["phase"],
                "group": facts.get("group", ""),
                **{str(k): v for k, v in evaluate(prediction, truth, size, labels=[1]).loc[1].items()},
                **lv_plausibility(prediction),
            }
        )
    return pd.DataFrame(rows)


def run(
    data: str = "phantom",
    root: str | Path | None = None,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    config: UltrasoundConfig | None = None,
) -> pd.DataFrame:
    """Table II.

    Args:
        data: "phantom" or "cetus"
        root: folder of the data set; None looks under SHAPELAB_DATA
        profile: "quick", "full" or "paper"; None: the current one
        seeds: one training of each method each (weights, order, augmentation); None: the profile's
        output: folder for acnn_table2_<data>.csv, ..._cases.csv, ....json, networks and checkpoints, from which a
            killed run resumes; None is ``results/acnn``
        config: instead of the profile's numbers

    Returns:
        DataFrame, one row per measure, phase and method; mean and sd over cases of the mean over seeds, sd_seeds (of
        the mean over cases), n, n_missed (cases that some seed's network left empty: their distances are inf and not in
        the mean), p (Wilcoxon against the other method, over cases), paper, paper_sd. For "EF bias (limits)", "EDV bias
        (limits)", "ESV bias (limits)" mean is the bias (prediction - truth) and sd 1.96 standard deviations.
    """
    one_of("data", data, ("phantom", "cetus"))
    config, study, work = _door(config, profile, seeds, output, data)
    if data == "phantom":
        train = phantom_echoes(config.train, config, TRAIN_SEED, progress=progress)
        test = phantom_echoes(config.test, config, TEST_SEED, progress=progress)
    else:
        train, test = cetus_echoes(root, config, progress=progress)
    prior = shape_prior(config, work / "prior", None if data == "phantom" else train.labels, progress)
    cases = []
    for seed, method in itertools.product(config.seeds, METHODS):
        network = train_method(method, seed, train, prior, config, work / f"{method}-{seed}", progress)
        cases.append(measure(network, test, config.spacing).assign(method=method, seed=seed))
        write_csv(pd.concat(cases), study.results / f"acnn_table2_{data}_cases.csv", digits=6)
    table = summarise(pd.concat(cases, ignore_index=True))
    kept = prior.reconstruction_dice(on_prior_grid(test.labels, config)).mean()
    about = {
        "data": data,
        "config": numbers_of(config),
        "train": len(train.images),
        "test": len(test.images),
        "prior": prior.metadata,
        "prior's Dice of the test shapes": float(kept),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    study.write(f"acnn_table2_{data}", {"": table}, about, digits=6)
    return table


def _door(
    config: UltrasoundConfig | None,
    profile: str | None,
    seeds: Sequence[int] | None,
    output: str | Path | None,
    data: str,
) -> tuple[UltrasoundConfig, Study, Path]:
    """The numbers with the seeds that were asked for, the folder of the results, and that of what is trained."""
    study = Study.of("acnn", output, profile)
    config = config or UltrasoundConfig.profile(study.profile)
    config = replace(config, seeds=seeds_of(seeds, config.seeds))
    return config, study, study.results / f"table2_{data}_{config.name}"


def robustness(
    strengths: Sequence[float] = (0.0, 1.0, 2.0, 3.0),
    artefact: str = "shadow",
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    config: UltrasoundConfig | None = None,
) -> pd.DataFrame:
    """Dice, distances and plausibility of both methods against the strength of one artefact, on phantoms.

    The networks are those of `run` (trained now if they are not there); the hearts are the test's first, the images
    differ by the artefact alone.

    Args:
        artefact: a field of `shapelab.phantoms.ultrasound.Artefacts`; the others stay as usual

    Returns one row per strength, method and seed: dice, assd, hd (means of finite values), plausible (share), n_missed,
    n; written to acnn_table2_robustness_<artefact>.csv.
    """
    one_of("artefact", artefact, asdict(Artefacts()))
    config, study, work = _door(config, profile, seeds, output, "phantom")
    train = phantom_echoes(config.train, config, TRAIN_SEED, progress=progress)
    prior = shape_prior(config, work / "prior", None, progress)
    rows = []
    for strength in strengths:
        test = phantom_echoes(config.curve, config, TEST_SEED, Artefacts(**{artefact: strength}), progress)
        for seed, method in itertools.product(config.seeds, METHODS):
            network = train_method(method, seed, train, prior, config, work / f"{method}-{seed}", progress)
            cases = measure(network, test, config.spacing)
            found = {m: spread(cases[m]) for m in ("dice", "assd", "hd", "plausible")}
            rows.append(
                {
                    artefact: strength,
                    "method": method,
                    "seed": seed,
                    **{measured: one["mean"] for measured, one in found.items()},
                    "n": len(cases),
                    "n_missed": found["hd"]["n_missed"],
                }
            )
    table = pd.DataFrame(rows)
    write_csv(table, study.results / f"acnn_table2_robustness_{artefact}.csv", digits=6)
    return table
