"""What the prior of ACNN-Seg does, beyond Table I: growing corruption, lambda, few hearts.

The paper claims that a segmentation network trained with the prior holds out against motion, shadows and missing
information, and makes fewer anatomically impossible results. Here that is measured:

    robustness      Dice, Hausdorff distance and plausibility against growing motion, noise or missing slices
    sweep           trainings with other values of lambda, or fewer hearts, everything else equal
    prior_terms     how large the prior term is beside cross-entropy, and what the autoencoder's codes respond to
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shapelab.augment import Corruption, corrupt
from shapelab.data.cohort import Cohort
from shapelab.data.grid import Grid, to_grid, unit_image
from shapelab.data.volumes import HeartPairs
from shapelab.device import best_device
from shapelab.errors import DataError, must, one_of
from shapelab.experiments.acnn.segmentation import (
    STACK_SEED,
    SegmentationConfig,
    evaluate_cases,
    load_pairs,
    phantom_autoencoder_for,
    run_method,
    slug,
    trained_network,
)
from shapelab.experiments.kept_runs import Study
from shapelab.experiments.shipped import cardiac_cohort
from shapelab.metrics import dice_table
from shapelab.models.acnn import ACNNLoss, AESpace, InputSettings, SubPixelConfig, lr_stacks, predict_labels
from shapelab.show import style
from shapelab.training import numbers_of
from shapelab.training.losses import cross_entropy, onehot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: kind -> what befalls the stack at strength 1, strengths to try, what the strength is.
CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...], str]] = {
    "motion": (
        Corruption(shift_mm=1.0, rotation_deg=1.0),
        (0, 1, 2, 4, 8),
        "sd of each slice's shift (mm) and turn (°)",
    ),
    "noise": (Corruption(noise=1.0), (0, 0.05, 0.1, 0.2, 0.3), "sd of the noise (white blood is about 1)"),
    "missing": (Corruption(missing=1.0), (0, 1, 2, 3, 5), "slices missing, of those of the stack"),
}
WEIGHTS = (0.0, 0.01, 0.1, 1.0, 10.0)


#: Networks of Table I (seed 0) whose robustness is measured.
COMPARED = ("3D-Seg", "ACNN-Seg", "3D-Seg-MAug", "ACNN-Seg-MAug", "2D-FCN")
HEARTS = 40
#: The sweep: training patients (None: all) -> lambdas, updates (None: the config's epochs), seeds. With few patients a
#: run may do well by chance, and costs a minute: three seeds.
SWEEP = {20: (WEIGHTS, 320, (0, 1, 2)), None: ((0.0, 0.1, 1.0), None, (0,))}


def run(
    data: str = "phantom",
    profile: str | None = None,
    output: str | Path | None = None,
    progress: bool = True,
    config: SegmentationConfig | None = None,
) -> dict[str, pd.DataFrame]:
    """All of it, after `acnn_segmentation.run` with the same arguments, whose networks it reads.

    Returns and writes to `output`: acnn_table1_robustness.csv, acnn_table1_prior_terms.csv, acnn_table1_lambda.csv,
    acnn_table1_acdc.csv (Dice of each training on real stacks, where ACDC is there), and acnn_table1_claims.json with
    configuration, machine and date. Curves are means over the seeds of Table I; prior terms are of its first seed. A
    killed run resumes where it was.

    Raises DataError where a network has not been trained yet.
    """
    study = Study.of("acnn", output, profile)
    config, folder = config or SegmentationConfig.profile(study.profile), study.results
    pairs = load_pairs(data, config, folder, progress)
    hearts = pairs["test"]  # the curves: of the first HEARTS of them
    if "ED" in set(hearts.table["phase"]):
        hearts = hearts[(hearts.table["phase"] == "ED").to_numpy()]
    trained = trainings(config, folder, data)
    models = {name: trained_network(trained[name, config.seeds[0]], config) for name in COMPARED}
    prior = phantom_autoencoder_for(config.network, progress)
    terms = {name: prior_terms(one, prior, hearts, config.weight) for name, one in models.items()}
    several = {
        f"{name} @ {seed}": trained_network(f, config) for (name, seed), f in trained.items() if name in COMPARED
    }
    curves = pd.concat([robustness(several, hearts[slice(0, HEARTS)], kind=kind) for kind in CORRUPTIONS])
    curves["method"] = curves["method"].str.rsplit(" @ ", n=1).str[0]
    tables = {
        "robustness": curves.groupby(["kind", "method", "strength", "structure"], sort=False).mean().reset_index(),
        "prior_terms": pd.DataFrame(terms).T.rename_axis("method").reset_index(),
        "lambda": pd.concat(
            [
                sweep(pairs, config, folder / "sweep", weights, (n,), steps, seeds, progress=progress)
                for n, (weights, steps, seeds) in SWEEP.items()
            ]
        ),
    }
    real = _acdc()
    if real is not None:
        models = {f"{name} @ {seed}": trained_network(folder, config) for (name, seed), folder in trained.items()}
        cases = on_real(models, real, config.network)[0]
        cases[["method", "seed"]] = cases["method"].str.rsplit(" @ ", n=1, expand=True)
        dice = cases.groupby(["method", "seed", "phase", "structure"], sort=False)["dice"]
        tables["acdc"] = dice.agg(mean="mean", sd="std", n="count").reset_index()
    about = {"data": data, "hearts": len(hearts), "config": numbers_of(config)}
    study.write("acnn_table1", {f"_{name}": table for name, table in tables.items()}, about, facts="_claims")
    return tables


def trainings(config: SegmentationConfig, output: Path, data: str) -> dict[tuple[str, int], Path]:
    """(method, seed) -> folder of each training tried on real hearts: all seeds, as one may do well by chance."""
    found = {
        (name, seed): output / f"table1_{data}" / f"{slug(name)}-{seed}"
        for name, seed in itertools.product(COMPARED, config.seeds)
    }
    for n, (weights, _, seeds) in SWEEP.items():
        for weight, seed in itertools.product(weights, seeds):
            if n is not None and weight <= config.weight:
                name = f"ACNN-Seg, {n} patients, λ {weight:g}" if weight else f"3D-Seg, {n} patients"
                found[name, seed] = output / "sweep" / f"hearts{n}-lambda{weight:g}-seed{seed}"
    return found


def _acdc() -> Cohort | None:
    """ACDC, ED and ES, or None where it is absent."""
    try:
        return cardiac_cohort("acdc")
    except DataError:
        return None


# --------------------------------------------------------------------------------------------------------- corruption


def corrupted_stacks(pairs: HeartPairs, kind: str, strength: float, seed: int = STACK_SEED) -> Tensor:
    """LR stacks (N, X, Y, Z/K) of hearts, corrupted further; a pure function of its arguments.

    "motion" counts from a stack without any; "noise" and "missing" are added to each heart's own breath-holds. A larger
    strength moves the same slices the same way, farther, and takes away the same slices and more.
    """
    one_of("kind", kind, CORRUPTIONS)
    clean = lr_stacks(pairs, InputSettings(natural=kind != "motion", noise=0.0))
    if strength == 0:
        return clean
    spacing = (*pairs.spacing[:2], float(pairs.spacing[2]) * pairs.factor)
    return corrupt(clean, spacing, CORRUPTIONS[kind][0].scaled(strength), seed)


def robustness(
    models: Mapping[str, nn.Module],
    pairs: HeartPairs,
    strengths: Sequence[float] | None = None,
    kind: str = "motion",
    seed: int = STACK_SEED,
) -> pd.DataFrame:
    """Measures of every model against growing corruption; all models see the same stacks.

    Args:
        models: name -> network of LR stacks to HR logits
        pairs: hearts that none of them was trained on
        strengths: None: those of `CORRUPTIONS`
        kind: "motion" (mm and degrees), "noise" (units of intensity), "missing" (slices)

    Returns:
        DataFrame, a row a (method, strength, structure); kind, method, strength, structure, dice, dice_sd, hd, assd
        (means; mm; a missed structure is left out), n_missed, n, and of the hearts: plausible (share), violations (a
        heart)
    """
    one_of("kind", kind, CORRUPTIONS)
    rows = []
    for strength in CORRUPTIONS[kind][1] if strengths is None else strengths:
        stacks = corrupted_stacks(pairs, kind, float(strength), seed)
        for name, network in models.items():
            means = _means(evaluate_cases(predict_labels(network, stacks), pairs))
            rows += [{"kind": kind, "method": name, "strength": float(strength), **row} for row in means]
    return pd.DataFrame(rows)


def _means(cases: pd.DataFrame) -> list[dict]:
    """Means over hearts, a row a structure."""
    hearts, rows = cases.drop_duplicates("case"), []
    for structure, part in cases.groupby("structure", sort=False):
        found = part[~part["missed"].astype(bool)]
        rows.append(
            {
                "structure": structure,
                "dice": part["dice"].mean(),
                "dice_sd": part["dice"].std(ddof=1),
                "hd": found["hd"].mean(),
                "assd": found["assd"].mean(),
                "n_missed": len(part) - len(found),
                "n": len(part),
                "plausible": float(hearts["plausible"].mean()),
                "violations": float(hearts["violations"].mean()),
            }
        )
    return rows


@style.styled
def robustness_figure(
    table: pd.DataFrame,
    structure: str | None = "LV myocardium",
    trained_at: float | None = None,
    title: str | None = None,
) -> style.Picture:
    """Dice, Hausdorff distance and violations of plausibility against strength, a line a method.

    Args:
        table: as `robustness` returns it, of one kind
        structure: the one whose Dice and distance are drawn; None takes the mean over structures
        trained_at: strength that the networks met in training, marked by a line
    """
    style.check_columns(table, ["kind", "method", "strength", "structure", "dice", "hd", "violations"], "robustness")
    kinds = sorted(set(table["kind"]))
    must(len(kinds) == 1, "table", f"corruptions {kinds}", "one")
    kind = kinds[0]
    if structure is not None:
        table = table[table["structure"] == one_of("structure", structure, sorted(set(table["structure"])))]
    name = structure or "mean of the structures"
    panels = {
        "dice": f"Dice, {name}",
        "hd": f"Hausdorff distance, {name} (mm)",
        "violations": "violations a heart",
    }
    means = table.groupby(["method", "strength"], sort=False)[list(panels)].mean()
    fig = style.figure(9.0, 2.9)
    for ax, (measure, label) in zip(fig.subplots(1, 3), panels.items(), strict=True):
        _curves(ax, means[measure].unstack("method", sort=False), CORRUPTIONS[kind][2], label)
        if trained_at is not None:
            ax.axvline(trained_at, color=style.MUTED, lw=0.8, ls=":")
        ax.xaxis.label.set_fontsize(7.5)
    fig.axes[2].set_ylim(0, None)
    _legend(fig, 4)
    fig.suptitle(title or f"Growing {'number of missing slices' if kind == 'missing' else kind}")
    return fig


def _curves(ax: Axes, table: pd.DataFrame, xlabel: str, title: str) -> None:
    """A line a column against the index."""
    for i, (name, line) in enumerate(table.items()):
        look = style.spare(i)
        ax.plot(line.index, line, ms=4, label=name, color=look.colour, marker=look.marker, ls=style.line_style(i % 2))
    ax.set(xlabel=xlabel, title=title)
    ax.grid(True)


def _legend(fig: style.Picture, columns: int) -> None:
    """One legend, under panels that have the same lines."""
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def on_real(models: Mapping[str, nn.Module], cohort: Cohort, network: SubPixelConfig) -> tuple[pd.DataFrame, tuple]:
    """Networks that learned from phantoms, on real short-axis stacks: the hardest corruption of all.

    Each heart is laid on the grid by its own labels (no network sees them); its truth has no finer grid than its
    slices, and is interpolated.

    Returns a table, a row a (method, heart, structure) with dice; and (stacks, truths, name -> labels)
    """
    thick = Grid(
        (*network.shape[:2], network.shape[2] // network.factor),
        (*network.spacing[:2], network.spacing[2] * network.factor),
    )
    images = (to_grid(s, thick, align="rigid").image for s in cohort)
    stacks = torch.from_numpy(np.stack([unit_image(image) for image in images if image is not None]))
    labels = (to_grid(s.with_(image=None), network.grid, align="rigid").label for s in cohort)
    truths = np.stack([label for label in labels if label is not None])
    made = {name: predict_labels(one, stacks) for name, one in models.items()}
    rows = []
    for name, found in made.items():
        scores = dice_table(cohort.scheme.integers(found), truths, cohort.scheme, cohort.table.index)
        long = scores.rename_axis("case").reset_index().melt("case", var_name="structure", value_name="dice")
        rows.append(long.assign(method=name, phase=long["case"].map(cohort.table["phase"])))
    return pd.concat(rows, ignore_index=True), (stacks, truths, made)


# -------------------------------------------------------------------------------------------------------- the prior


@torch.inference_mode()
def prior_terms(
    network: nn.Module,
    prior: AESpace,
    pairs: HeartPairs,
    weight: float = 0.01,
    stacks: Tensor | None = None,
    batch: int = 8,
) -> dict[str, float]:
    """How large the prior term of equation 1 is on unseen hearts, and what it responds to.

    Args:
        prior: an `AESpace`
        stacks: instead of the pairs' own

    Returns a dict of means over hearts; distances are squared Euclidean distances of codes.

    - pixel: cross-entropy
    - prior: f(softmax) to f(truth), the prior term itself
    - share: weight * prior / pixel
    - spread: sum of the codes' variances over the true hearts
    - between: two different true hearts (2 x spread)
    - hard: f(label map, the argmax) to f(truth), what is wrong with the shape
    - soft: f(softmax) to f(argmax) of the same prediction: nothing is wrong there but doubt
    """
    loss, network = ACNNLoss(prior, 1.0), network.eval()
    stacks = lr_stacks(pairs, seed=STACK_SEED) if stacks is None else stacks
    device = next((p.device for p in network.parameters()), best_device())
    sums, codes = np.zeros(4), []
    for start in range(0, len(pairs), batch):
        rows = slice(start, start + batch)
        logits = network(stacks[rows].to(device).float()[:, None]).float()
        truth = torch.as_tensor(pairs.labels[rows]).to(device)
        wanted, soft = loss.codes(truth), loss.codes(logits.softmax(1))
        hard = loss.codes(onehot(logits.argmax(1), logits.shape[1]))
        distances = [(a - b).square().sum(1).mean() for a, b in ((soft, wanted), (hard, wanted), (soft, hard))]
        sums += len(truth) * np.array([float(v) for v in (cross_entropy(logits, truth), *distances)])
        codes.append(wanted.cpu())
    pixel, distance, hard, soft = sums / len(pairs)
    spread = float(torch.cat(codes).var(0, correction=0).sum()) if len(pairs) > 1 else float("nan")
    return {
        "pixel": pixel,
        "prior": distance,
        "share": weight * distance / max(pixel, 1e-12),
        "spread": spread,
        "between": 2 * spread * len(pairs) / max(1, len(pairs) - 1),
        "hard": hard,
        "soft": soft,
    }


def sweep(
    pairs: Mapping[str, HeartPairs],
    config: SegmentationConfig,
    folder: str | Path,
    weights: Sequence[float] = WEIGHTS,
    hearts: Sequence[int | None] = (None,),
    steps: int | None = None,
    seeds: Sequence[int] = (0,),
    progress: bool = True,
) -> pd.DataFrame:
    """Trainings of ACNN-Seg with other lambdas, or fewer training patients, everything else equal.

    Args:
        pairs: as `acnn_segmentation.load_pairs` gives them
        folder: a training each goes into its own folder there; a killed sweep resumes
        weights: lambdas; 0 is 3D-Seg
        hearts: numbers of training patients, the first of those there are; None: all
        steps: updates of each training, whatever the number of hearts; None: the config's epochs
        seeds: of weights, order, augmentation

    Returns:
        DataFrame, a row a (hearts, weight, seed); hearts (patients), weight, seed, epochs; means over test hearts of
        all phases and structures: dice, hd, assd (mm), n_missed; plausible (share), violations; what `prior_terms`
        gives; and dice and hd of each structure
    """
    prior, rows = phantom_autoencoder_for(config.network), []
    for n in hearts:
        part = {"training": first_patients(pairs["training"], n), "test": pairs["test"]}
        per_epoch = -(-len(part["training"]) // config.network.batch)
        settings = config if steps is None else replace(config, epochs=max(1, round(steps / per_epoch)))
        patients = part["training"].table["patient"].nunique()
        for weight, seed in itertools.product(weights, seeds):
            here = Path(folder) / f"hearts{patients}-lambda{weight:g}-seed{seed}"
            name = "ACNN-Seg" if weight else "3D-Seg"
            cases, _ = run_method(name, seed, part, settings, here, progress, weight=weight)
            rows.append(
                {
                    "hearts": patients,
                    "weight": weight,
                    "seed": seed,
                    "epochs": settings.epochs,
                    **_overall(cases),
                    **prior_terms(trained_network(here), prior, pairs["test"], weight),
                }
            )
    return pd.DataFrame(rows)


def first_patients(pairs: HeartPairs, n: int | None) -> HeartPairs:
    """All phases of the first n patients; UsageError if there are not as many."""
    patients = list(dict.fromkeys(pairs.table["patient"]))
    if n is None:
        return pairs
    must(1 <= n <= len(patients), "hearts", n, f"1 to {len(patients)} patients")
    return pairs[pairs.table["patient"].isin(patients[:n]).to_numpy()]


def _overall(cases: pd.DataFrame) -> dict[str, float]:
    rows = pd.DataFrame(_means(cases)).set_index("structure")
    return {
        **{m: float(rows[m].mean()) for m in ("dice", "hd", "assd")},
        "n_missed": int(rows["n_missed"].sum()),
        **{m: float(rows[m].iloc[0]) for m in ("plausible", "violations")},
        **{f"{m} {s}": float(rows.loc[s, m]) for m in ("dice", "hd") for s in rows.index},
    }


@style.styled
def sweep_figure(table: pd.DataFrame, title: str | None = None) -> style.Picture:
    """Dice, Hausdorff distance, violations and the prior's share of the loss against lambda, a line a number of
    training patients; `table` as `sweep` returns it."""
    style.check_columns(table, ["hearts", "weight", "dice", "hd", "violations", "prior", "pixel"], "sweep")
    rows = table.assign(share=table["weight"] * table["prior"] / table["pixel"])
    panels = {
        "dice": "Dice, mean of structures",
        "hd": "Hausdorff distance (mm)",
        "violations": "violations a heart",
        "share": "λ · prior / cross-entropy (%)",
    }
    means = pd.DataFrame(rows.groupby(["weight", "hearts"])[list(panels)].mean().unstack("hearts"))
    means["share"] *= 100
    positive = sorted(w for w in table["weight"].unique() if w > 0)
    zero = positive[0] / 10 if positive else 1.0  # where lambda = 0 is drawn on a logarithmic axis
    fig = style.figure(9.0, 2.7)
    for ax, (column, name) in zip(fig.subplots(1, 4), panels.items(), strict=True):
        ax.set_xscale("log")
        _curves(ax, pd.DataFrame(means[column]).rename(index={0.0: zero}, columns="{} patients".format), "λ", name)
        ax.set_xticks([zero, *positive], ["0", *(f"{w:g}" for w in positive)])
        ax.minorticks_off()
    fig.axes[3].set_yscale("symlog", linthresh=1)
    fig.axes[3].set_ylim(0, None)
    _legend(fig, len(fig.axes[0].lines))
    fig.suptitle(title or "The weight of the prior")
    return fig


@style.styled
def segmentation_figure(
    stack: np.ndarray | Tensor | None,
    labels: Mapping[str, np.ndarray],
    truth: np.ndarray,
    pairs: HeartPairs,
    slices: Sequence[int] | None = None,
    title: str | None = None,
) -> style.Picture:
    """One heart: the LR stack and segmentations of it, with the truth's outline; short-axis rows, then a long-axis one.

    Args:
        stack: (X, Y, Z/K), what the networks were given, or None
        labels: name -> channel numbers (X, Y, Z)
        truth: alike
        pairs: give spacing, factor and scheme
        slices: HR slices to show; None: near base, middle and apex of the true LV
    """
    spacing = pairs.spacing
    lv = np.flatnonzero((truth >= 2).any((0, 1)))
    chosen = list(slices) if slices is not None else [int(lv[round(q * (len(lv) - 1))]) for q in (0.1, 0.5, 0.85)]
    cut = int(np.round(np.argwhere(truth == truth.max())[:, 1].mean()))
    colours = np.stack([style.rgb(c) for c in ("white", *pairs.scheme.colours)])
    fine = None if stack is None else np.asarray(stack).repeat(pairs.factor, axis=2)
    columns = dict(labels) if stack is None else {"LR input": None, **labels}
    heights = [*[truth.shape[1] * spacing[1]] * len(chosen), truth.shape[2] * spacing[2]]
    width = min(1.9, 9.0 / len(columns))
    fig = style.figure(width * len(columns), width * sum(heights) / (truth.shape[0] * spacing[0]) + 0.7)
    axes = fig.subplots(len(heights), len(columns), squeeze=False, height_ratios=heights)
    View = tuple[slice | int, slice | int, slice | int]
    views: list[tuple[str, View, float]] = [
        (f"z = {k * spacing[2]:.0f} mm", (slice(None), slice(None), k), spacing[1] / spacing[0]) for k in chosen
    ]
    views.append(("long axis", (slice(None), cut, slice(None)), spacing[2] / spacing[0]))
    for row, (name, where, aspect) in zip(axes, views, strict=True):
        for ax, (column, label) in zip(row, columns.items(), strict=True):
            if label is None:
                assert fine is not None
                ax.imshow(fine[where].T, cmap="gray", vmin=0, vmax=1, aspect=aspect)
            else:
                ax.imshow(colours[label[where].T], aspect=aspect)
            for value in range(1, pairs.n_classes):
                mask = (truth[where] == value).T.astype(float)
                if 0 < mask.sum() < mask.size:
                    ax.contour(mask, [0.5], colors="#F0E442" if label is None else style.INK, linewidths=0.7)
            ax.set(xticks=[], yticks=[])
            if where is views[0][1]:
                ax.set_title(column)
        row[0].set_ylabel(name, fontsize=8)
    fig.suptitle(title or "Segmentations; the lines are the outlines of the truth")
    return fig
