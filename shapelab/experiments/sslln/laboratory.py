"""The methods that SSLLN's tables compare: how each is trained, and what it makes of a cohort.

    2D FCN, 3D FCN, SSLLN-HR    on high-resolution volumes                                          (Tables I, II)
    SSLLN-HR, gaps              the same, trained with slices set to zero; not in the paper         (Table I, Fig. 8)
    SSLLN-LR                    on simulated low-resolution volumes, laid on the same grid
    SSLLN-LR+SR                 the same, refined with atlases that SSLLN-HR has segmented          (Tables III to VI)
    SSLLN-LR+SR, aligned        slices brought into line before; not in the paper
    3D-Seg, 3D-UNet, AE-Seg, ACNN-Seg   networks of the ACNN paper, trained on the same hearts      (Table V)
    multi-atlas                 atlases without a network                                           (Table V)

Deviations:
    Hearts: phantoms at ED (`shapelab.experiments.sslln.hearts`). Training hearts are of all five groups, so that what
        ships serves all; tests are the paper's: healthy hearts (its data set 1), and right ventricular overload for
        pulmonary hypertension (data set 2), with the same networks. The paper trains a network of its own for data set
        2.
    Tests: the paper has 831 hearts in Tables I and II and 600 of them in Tables III and IV; here one cohort serves all
        four: 60 hearts in `quick`, 600 in `paper`.
    Table I: the paper tests each pair of its three methods; here p compares 2D FCN and SSLLN-HR alone.
    Atlases: the paper's are 231 hearts of its third subset; here 40 phantoms in `quick`, 231 in `paper`.
    Labels of SSLLN-LR are those of the displaced, thick slices, as in the paper ("the LR volume Fig 13 e and its
        segmentation Fig 13 f"); its landmarks are the heart's.
    Networks of the ACNN paper see the same hearts, displacements of the same spread, and as many epochs, as pairs in
        the aligned crop that they need: 10 mm slices with the Gaussian of that paper, no apex cut off. So their task is
        easier in two ways (pose, apex), and they have no RV wall to find.
    multi-atlas: the paper's (Bai et al. 2015) registers images by intensities from landmarks set by hand. Here: affine
        from the *true* landmarks, the five atlases whose images are most like the stack (normalised mutual
        information), and label fusion by patches; no deformation.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from shapelab.atlas import (
    Atlas,
    Frame,
    LowResolution,
    Refinement,
    RefinementSettings,
    fuse_labels,
    landmark_affine,
    refine,
    select_atlases,
)
from shapelab.atlas.affine import Landmarks
from shapelab.atlas.warp import warp_image, warp_label
from shapelab.data.scheme import BIVENTRICULAR
from shapelab.data.volumes import LandmarkedVolumes
from shapelab.errors import DataError, must, one_of
from shapelab.experiments.acnn.segmentation import prior_before
from shapelab.experiments.kept_runs import KeptRun, Study, described, kept_network, slug, weights_key
from shapelab.experiments.recipes import Order, recipe
from shapelab.experiments.shipped import shipped
from shapelab.experiments.sslln.acnn_methods import acnn_prior, acnn_segmentations
from shapelab.experiments.sslln.hearts import COHORTS, SEEDS, Degradation, atlas_of, degrade, in_stack, phantom_volumes
from shapelab.experiments.sslln.starts import class_affines, started_from
from shapelab.metrics import evaluate_cohort
from shapelab.models.acnn import SubPixelConfig
from shapelab.models.sslln import SSLLNConfig, predict, train_sslln
from shapelab.phantoms import LANDMARKS
from shapelab.training import Config, numbers_of

#: Method of the tables -> (network of `shapelab.models.sslln.NETWORKS`, trained on low resolution).
TRAINED = {
    "2D FCN": ("2D FCN", False),
    "3D FCN": ("3D FCN", False),
    "SSLLN-HR": ("SSLLN", False),
    "SSLLN-HR, gaps": ("SSLLN", False),
    "SSLLN-LR": ("SSLLN", True),
}
GAPS = {"SSLLN-HR, gaps": 0.5}  # share of training volumes with missing slices
ACNN_METHODS = ("3D-Seg", "3D-UNet", "AE-Seg", "ACNN-Seg")
REFINED = {"SSLLN-LR+SR": False, "SSLLN-LR+SR, aligned": True}  # whether slices are brought into line
METHODS = (*TRAINED, *REFINED, *ACNN_METHODS, "multi-atlas")
#: Whose weights ship (quick), and the names of their folders under data/weights.
SHIPPED = {"SSLLN-HR": "sslln_hr", "SSLLN-HR, gaps": "sslln_gaps", "SSLLN-LR": "sslln_lr", "2D FCN": "sslln_fcn"}
STARTS = ("network", "labels", "classes")  # of the affine map, Fig. 12
STACK_SEED = 1  # of the degradation of tests; that of training hearts is 0


#: What "full" and "paper" have in common: the paper's slices and grids.
LARGER = {
    "degradation": Degradation(factor=5),
    "network": {},
    "acnn": SubPixelConfig.profile("paper", schedule="one-cycle"),
}


@dataclass(frozen=True)
class SSLLNExperiment(Config):
    """Numbers of the experiments; the defaults are the quick profile's."""

    training: int = 200  # hearts
    healthy: int = 60
    PH: int = 20  # as many as the paper has pairs
    atlases: int = 40
    compared: int = 20  # healthy hearts of Table V, as in the paper
    n_atlases: int = 5  # L, deformed and fused
    degradation: Degradation = field(default_factory=Degradation)
    seeds: tuple[int, ...] = (0,)  # of weights, order, augmentation
    network: SSLLNConfig = field(default_factory=SSLLNConfig)
    acnn: SubPixelConfig = field(
        default_factory=lambda: SubPixelConfig(
            shape=(56, 56, 36), spacing=(2.5, 2.5, 10 / 3), factor=3, batch=4, learning_rate=4e-3
        )
    )

    PROFILES = {
        "full": {**LARGER, "training": 400, "healthy": 200, "atlases": 100},
        "paper": {**LARGER, "training": 1000, "healthy": 600, "atlases": 231},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = (self.training, self.healthy, self.PH, self.atlases, self.compared, self.n_atlases, len(self.seeds))
        enough = min(sizes) >= 1 and self.compared <= self.healthy
        must(
            enough,
            "SSLLNExperiment",
            f"{sizes} hearts, atlases and seeds",
            "each from 1, and no more compared than tested",
        )


class Laboratory:
    """Hearts, networks and results of one experiment, made when they are asked for and kept in a folder.

    Args:
        config: numbers
        folder: where hearts, networks and cases are kept (None: nowhere)
        seed: of weights, order and augmentation
        progress: show bars
    """

    def __init__(self, config: SSLLNExperiment, folder: str | Path | None, seed: int = 0, progress: bool = False):
        self.config, self.seed, self.progress = config, int(seed), progress
        self.folder = None if folder is None else Path(folder)
        self._cohorts: dict[str, LandmarkedVolumes] = {}
        self._networks: dict[str, nn.Module] = {}

    # ---------------------------------------------------------------------------------------------------------- hearts

    def cohort(self, name: str) -> LandmarkedVolumes:
        """High-resolution hearts: "training", "healthy", "PH" or "atlases"."""
        if name not in self._cohorts:
            cache = None if self.folder is None else self.folder / f"volumes_{name}.npz"
            self._cohorts[name] = phantom_volumes(
                getattr(self.config, name), self.config.network.grid, SEEDS[name], COHORTS[name], cache, self.progress
            )
        return self._cohorts[name]

    def degraded(self, name: str) -> tuple[LandmarkedVolumes, list[LowResolution]]:
        """The low-resolution versions of a cohort, on the grid and as stacks."""
        seed = SEEDS[name] + (0 if name == "training" else STACK_SEED)
        return degrade(self.cohort(name), self.config.degradation, seed)

    @cached_property
    def atlases(self) -> list[Atlas]:
        """The atlas hearts with labels and landmarks by SSLLN-HR, as in the paper (section III-F)."""
        volumes = self.cohort("atlases")
        labels, landmarks = predict(self.network("SSLLN-HR"), volumes.images)
        assert landmarks is not None  # SSLLN finds them
        return [atlas_of(volumes, i, labels[i], landmarks[i]) for i in range(len(volumes))]

    # -------------------------------------------------------------------------------------------------------- networks

    def network(self, method: str) -> nn.Module:
        """The trained network of a method of `TRAINED`; a killed training resumes from its checkpoint."""
        one_of("method", method, TRAINED)
        if method not in self._networks:
            lowered = asdict(self.config.degradation) if TRAINED[method][1] else None
            hearts = {"training": self.config.training, "degradation": lowered}
            key = {"method": method, "seed": self.seed, "network": numbers_of(self._numbers(method)), **hearts}
            self._networks[method] = kept_network(self._folder(method), partial(self._train, method), key)
        return self._networks[method]

    def _numbers(self, method: str) -> SSLLNConfig:
        """Those of a method's network and training."""
        numbers = self.config.network
        epochs = numbers.epochs if TRAINED[method][0] == "SSLLN" else numbers.baseline_epochs
        return replace(numbers, epochs=epochs, gaps=GAPS.get(method, numbers.gaps))

    def _train(self, method: str, checkpoint: Path | None) -> nn.Module:
        name, hearts, numbers = TRAINED[method][0], self._seen(method, "training"), self._numbers(method)
        run = KeptRun(checkpoint, seed=self.seed, progress=self.progress)
        network, history = train_sslln(hearts, numbers, run, method=name)
        about = {
            "method": method,
            "data": f"{len(hearts)} phantom hearts at ED, seed {SEEDS['training']}",
            "seed": self.seed,
            "final": history.last,
        }
        return described(network, "seg", BIVENTRICULAR, about)

    def _seen(self, method: str, cohort: str) -> LandmarkedVolumes:
        """The hearts of a cohort as a method of `TRAINED` sees them."""
        return self.degraded(cohort)[0] if TRAINED[method][1] else self.cohort(cohort)

    def _folder(self, method: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{slug(method)}-{self.seed}"

    # --------------------------------------------------------------------------------------------------------- results

    def cases(self, method: str, cohort: str = "healthy") -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """A method's results on a test cohort, read where they were made before.

        Returns:
            A tuple of

            - cases: one row a (heart, structure): method, seed, cohort, id, label, then the columns of
              `shapelab.metrics.evaluate` (mm, ml)
            - places: one row a (heart, landmark) for methods that find landmarks, else None: method, seed, cohort, id,
              landmark, error (mm)

            UsageError for an unknown method or cohort; DataError where the folder holds another run's results.
        """
        known = method in METHODS and cohort in ("healthy", "PH")
        must(known, "cases", f"{method!r}, {cohort!r}", f"one of {METHODS}, 'healthy' or 'PH'")
        config = {name: value for name, value in numbers_of(self.config).items() if name != "seeds"}
        prior = acnn_prior(method, self.config, self.progress)
        key = {"method": method, "cohort": cohort, "seed": self.seed, "config": config, "prior": weights_key(prior)}
        before = {"prior": prior_before(method, self.config.acnn, prior)}
        tables, _ = Study(self._folder(method)).kept(
            key, lambda: (self._made(method, cohort), {}), f"_{cohort}", before
        )
        return tables["cases"], tables.get("landmarks")

    def _made(self, method: str, cohort: str) -> dict[str, pd.DataFrame]:
        """The tables of `cases`, made now."""
        few = method in (*ACNN_METHODS, "multi-atlas")
        made = self.cohort(cohort)[: self.config.compared if few else None]
        if method in ACNN_METHODS:
            found = acnn_segmentations(method, self.config, self.seed, self._folder(method), self.progress)
            (labels, truth, spacing, scheme), places = found, None
        else:
            labels, places = self._segment(method, cohort)
            truth, spacing, scheme = made.labels[: len(labels)], made.spacing, made.scheme
        who: dict[str, Any] = {"method": method, "seed": self.seed, "cohort": cohort}
        labels, truth = scheme.integers(labels), scheme.integers(truth)
        cases = evaluate_cohort(labels, truth, spacing, list(made.table.index), scheme, method=method)
        cases = cases.assign(**who)[[*who, *[c for c in cases if c not in who]]]
        if places is None:
            return {"cases": cases}
        return {
            "cases": cases,
            "landmarks": landmark_errors(places, made).assign(**who)[[*who, "id", "landmark", "error"]],
        }

    def _segment(self, method: str, cohort: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels (N, X, Y, S) channel numbers on the grid of the cohort, and landmarks (N, L, 3) voxels or None."""
        if method in TRAINED:
            return predict(self.network(method), self._seen(method, cohort).images)
        stacks = self.degraded(cohort)[1]
        if method == "multi-atlas":
            shown = self._bar(stacks[: self.config.compared], method)
            made = [multi_atlas(stack, self.true_atlases, self.config.n_atlases) for stack in shown]
        else:
            refined = self.refinements(cohort, align=REFINED[method])
            made = [self.on_truth(stack, r) for stack, r in zip(stacks, refined, strict=True)]
        return np.stack([BIVENTRICULAR.channels(m) for m in made]), None

    @cached_property
    def true_atlases(self) -> list[Atlas]:
        """The atlas hearts with their true labels and landmarks."""
        volumes = self.cohort("atlases")
        return [atlas_of(volumes, i) for i in range(len(volumes))]

    def refinements(
        self, cohort: str, rows: slice = slice(None), start: str = "network", align: bool = False
    ) -> Iterator[Refinement | None]:
        """Yield the refinement of each heart of a cohort: SSLLN-LR's labels and landmarks, onto the atlases; None for
        a heart whose segmentation cannot be refined (nothing labelled, landmarks on a line), with a warning.

        Args:
            start: where the affine map comes from: the "network"'s landmarks, landmarks taken from the "labels", or the
                tissue "classes" (`shapelab.experiments.sslln.starts`)
            align: bring slices into line first
        """
        one_of("start", start, STARTS)
        hearts, stacks = self.degraded(cohort)
        stacks = stacks[rows]
        labels, places = predict(self.network("SSLLN-LR"), hearts.images[rows])
        assert places is not None  # SSLLN finds landmarks
        for stack, label, place in zip(self._bar(stacks, "refinement"), labels, places, strict=True):
            try:
                thick, landmarks = in_stack(stack, label, place)
                yield self._refined(stack, thick, landmarks, start, align)
            except DataError as error:
                warnings.warn(f"{stack.truth.id}, start {start!r}: {error}", stacklevel=2)
                yield None

    def _refined(
        self, stack: LowResolution, thick: np.ndarray, landmarks: Landmarks | None, start: str, align: bool
    ) -> Refinement:
        atlases = self.atlases
        if start == "labels":
            landmarks = None
        elif start == "classes":
            affines = class_affines(thick, stack.spacing, atlases, stack.scheme)
            landmarks, atlases = started_from(affines, atlases, thick, stack.spacing)
        settings = RefinementSettings(n_atlases=self.config.n_atlases, align=align)
        return refine(thick, stack.image, landmarks, atlases, stack.spacing, settings=settings)

    @staticmethod
    def on_truth(stack: LowResolution, result: Refinement | None) -> np.ndarray:
        """A refined label map on the voxels of the high-resolution truth; empty where there is none: all missed."""
        if result is None:
            return np.zeros_like(stack.truth.label)
        return result.frame.nearest(result.label, stack.truth_frame)

    def _bar(self, things: Sequence[LowResolution], what: str) -> Iterable[LowResolution]:
        from tqdm.auto import tqdm

        return tqdm(things, desc=what, unit="heart", disable=not self.progress, leave=False)


def landmark_errors(places: np.ndarray, volumes: LandmarkedVolumes) -> pd.DataFrame:
    """Point-to-point distances, one row a (heart, landmark): id, landmark, error (mm). A landmark whose true place is
    not known has no row.

    Args:
        places: (N, L, 3) voxels; NaN where a landmark was not found: NaN mm
    """
    error = np.linalg.norm((np.asarray(places) - volumes.landmarks) * volumes.spacing, axis=2)
    ids = np.repeat(list(volumes.table.index), len(LANDMARKS))
    table = pd.DataFrame({"id": ids, "landmark": list(LANDMARKS) * len(volumes), "error": error.ravel()})
    known = np.isfinite(volumes.landmarks).all(2).ravel()
    return table if known.all() else table[known].reset_index(drop=True)


def multi_atlas(stack: LowResolution, atlases: list[Atlas], n: int = 5) -> np.ndarray:
    """A stack segmented by atlases alone, on the grid of its truth; see the head of this module.

    Returns (X, Y, S) integers of the scheme.
    """
    out = stack.truth_frame
    assert stack.image is not None and stack.landmarks is not None  # a phantom has both
    image = Frame(stack.label.shape, stack.spacing).linear(stack.image, out)
    still = np.zeros((3, *out.shape), np.float32)
    affines = [landmark_affine(stack.landmarks, atlas.landmarks_of()) for atlas in atlases]
    maps = [(np.linalg.inv(a.frame.matrix) @ affine)[:3] for a, affine in zip(atlases, affines, strict=True)]
    images = [atlas.image for atlas in atlases if atlas.image is not None]  # all of them, or the lengths differ
    warped = [warp_image(a, m, out.origin, out.spacing, still) for a, m in zip(images, maps, strict=True)]
    chosen, _ = select_atlases(image, warped, n)
    labels = [warp_label(atlases[i].label, maps[i], out.origin, out.spacing, still) for i in chosen]
    return fuse_labels(labels, [warped[i] for i in chosen], image)


@recipe("sslln-hr", "labels and landmarks of high-resolution volumes", ships=SHIPPED["SSLLN-HR"])
@recipe("sslln-hr-gaps", "labels and landmarks, trained with slices that are missing", ships=SHIPPED["SSLLN-HR, gaps"])
@recipe("sslln-lr", "labels and landmarks of thick slices", ships=SHIPPED["SSLLN-LR"])
@recipe("sslln-2d-fcn", "slice by slice, labels alone", ships=SHIPPED["2D FCN"])
def _ordered(order: Order) -> nn.Module:
    numbers = SSLLNExperiment.profile(order.profile)
    method = next(m for m in SHIPPED if recipe_of(m) == order.model)
    epochs = "baseline_epochs" if method == "2D FCN" else "epochs"
    asked: dict[str, Any] = {} if order.epochs is None else {epochs: order.epochs}
    numbers = replace(numbers, training=order.hearts or numbers.training, network=replace(numbers.network, **asked))
    return Laboratory(numbers, order.checkpoint, order.seed, order.progress).network(method)


def recipe_of(method: str) -> str:
    """The name of a method's recipe: "2D FCN" is one of the ACNN paper, too."""
    return f"sslln-{slug(method).removeprefix('sslln-')}"


def phantom_sslln(method: str = "SSLLN-HR", profile: str | None = None, progress: bool = True) -> nn.Module:
    """A network of `SHIPPED` learned from phantoms (seed 0): shipped weights, or trained now (and kept), which takes
    half an hour in `quick` on a busy core."""
    return shipped(recipe_of(one_of("method", method, SHIPPED)), profile, progress)
