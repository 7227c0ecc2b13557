"""Would the tests notice? One-line mistakes, each made in a copy of the tree, and the test of that module that fails.

    python benchmarks/mutations.py                     # all of them: "caught N of N"
    python benchmarks/mutations.py tl.py grid.py       # those of some modules
    python benchmarks/mutations.py --output FILE.csv   # ... and a table of what was caught by which test

Each stands for a mistake that an earlier set of tests let pass: wrong axis, wrong sign, mm for voxels, half a weight, a
mask that is missing. Tests mirror the tree, so the fast tests of shapelab/x/y.py are those in tests/x/test_y.py. A
mistake is caught if they fail, not if they cannot run; the same tests pass in the tree as it is, which is asked first.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FAST = "not slow and not realdata and not browser and not notebooks"

# (module under shapelab/, what stands there once, what is put in its place)
# fmt: off
MUTATIONS: list[tuple[str, str, str]] = [
    # the segmenter gets the heart unturned; the fine slice distance
    ("commands/files/predict.py", 'to_grid(subject, thick, align="rigid")', 'to_grid(subject, thick, align="none")'),
    ("commands/files/predict.py", "fine.spacing[2] * factor)", "fine.spacing[2])"),
    # which way up: thick slices anywhere, turned the wrong way upright, the wrong order back, base and apex exchanged
    ("data/orientation.py", "if spacing[thick] >= THICK", "if spacing[thick] <= THICK"),
    ("data/orientation.py", "directions = _upright(directions[:, slices]) @ directions", "pass"),
    ("data/orientation.py", '& (base == "last")', '& (base == "first")'),
    ("data/orientation.py", "self.shape[slices] - 1 - n if", "self.shape[slices] - n if"),
    # a whole heart: turned to its LV; seen in a mirror, from behind, or with its feet up
    ("data/orientation.py", " and not is_whole_heart(scheme):", ":"),
    ("show/style.py", "(-1, -1, 1) if in_body", "(1, -1, 1) if in_body"),
    ("show/meshes.py", "[b, a] if way < 0", "[b, a] if way > 0"),
    ("show/slices.py", "xlim=window[0][::-1], ylim=window[1])", "xlim=window[0], ylim=window[1])"),
    ("show/slices.py", "xlim=window[0][::-1], ylim=window[1])", "xlim=window[0][::-1], ylim=window[1][::-1])"),
    ("show/slices.py", '("sagittal", "APFH")', '("sagittal", "PAFH")'),
    ("data/landmarks.py", "first >= CLEARLY * last else", "last >= CLEARLY * first else"),
    ("models/native.py", "share_there > share:", "share_there < share:"),
    # a deformation the other way, in mm for voxels, of the input; label and image mirrored apart; no fill put back
    ("augment/elastic.py", "knots=(places.maps[:, :, :3] @", "knots=-(places.maps[:, :, :3] @"),
    ("augment/elastic.py", " / torch.tensor(spacing).double().view(3, 1, 1, 1)", ""),
    ("augment/elastic.py", "(places.maps[:, :, :3] @ voxels.flatten(2)).view_as(voxels)", "voxels"),
    ("augment/elastic.py", "for batch in (images, labels))", "for batch in (images, labels.flip(1)))"),
    ("augment/elastic.py", "(moved + fill)", "moved"),
    ("augment/affine.py", "(2 / size)", "(1 / size)"),
    # walls: a question less strict, crumbs and far pieces kept, the torn wall left open
    ("data/walls.py", "(stacked.sum(0) > 0.5)", "(stacked.sum(0) > 0.4)"),
    ("data/walls.py", "label[gone] = scheme.outer[channel]", "label[gone] = channel"),
    ("data/walls.py", "label[near & (label == 0)] = outer", "label[near & (label == 0)] = 0"),
    # a space that forgets, or says nothing of label maps laid another way
    ("spaces/contract.py", "and fitted != here", "and fitted == here"),
    ("spaces/pca.py", "self.placement = remembered(labels)", "self.placement = None"),
    # thin parts: branches at the RV; a voxel's half counted twice; what a segmentation adds about a vein does not count
    ("metrics/thin.py", "> ROOT)[box]", "< ROOT)[box]"),
    ("metrics/thin.py", "reach = half +", "reach = 2 * half +"),
    ("metrics/thin.py", "& ~np.isin(true, channels)", "& np.isin(true, channels)"),
    # sform and qform
    ("data/formats/nifti.py", "_qform(raw), _shape(path, raw))", "affine, _shape(path, raw))"),
    # codes: so few draws that no column can be found once corrected; a bump of one heart taken for a hump
    ("latent/histograms.py", "10 * columns / alpha", "10 / alpha"),
    ("latent/histograms.py", " & (hearts > least) & (hearts < n - least)", ""),
    # T-L: the weight inverted
    ("models/acnn/tl.py", "sums[0] / sums[1]", "sums[1] / sums[0]"),
    # the two-stage network's tables: hearts left out, the whole heart's Jaccard, seeds in which a network is better
    ("experiments/two_stage/hearts.py", "return scans[~mask], scans[mask]", "return scans[mask], scans[~mask]"),
    ("experiments/two_stage/measures.py", "both.sum() / (size - both).sum()", "both.sum() / size.sum()"),
    ("experiments/two_stage/tables.py", "(ours[both] - theirs[both])", "(theirs[both] - ours[both])"),
    # the joint space: image batches that train the decoder, or its statistics; the other statistics
    ("models/joint_space.py", 'f"decoder.{name}": p.detach() for', 'f"decoder.{name}": p for'),
    ("models/joint_space.py", "b.clone() for name, b in statistics", "b for name, b in statistics"),
    ("models/joint_space.py", 'instance = statistics == "instance"', 'instance = statistics != "instance"'),
    # the same pass again and again; a mean over steps that do not give the loss
    ("training/turns.py", "kind(number // len(kind))", "kind(0)"),
    ("training/loop.py", "total / self.counts[name]", "total / self.index"),
    # the box moves away from the heart; what was not scanned is as bright as water
    ("commands/files/whole_hearts.py", "heart.mean(0) - aim", "aim - heart.mean(0)"),
    ("commands/files/whole_hearts.py", "image=image - image.min()", "image=image"),
    # the background counted
    ("training/losses.py",
     "softmax(1)[:, 1:]\n    truth = onehot(labels, logits.shape[1])[:, 1:]",
     "softmax(1)\n    truth = onehot(labels, logits.shape[1])"),
    # half of the weight decay
    ("models/sslln.py", "weight_decay=2 * config.gamma", "weight_decay=config.gamma"),
    # statistics of clean maps and images not measured
    ("models/acnn/autoencoder.py", "    measure_statistics(space.model, channels)\n", ""),
    ("models/acnn/tl.py", "        self.measure()\n        labels", "        labels"),
    # a run's identity without the data, or a part of it
    ("models/acnn/trainer.py", '                "pairs": checksum({', '                "pairs": len({'),
    ("models/acnn/trainer.py", '"motion": pairs.motion}', '}'),
    ("models/sslln.py", '"data": checksum(arrays)', '"data": len(arrays)'),
    ("models/native.py", '"data": checksum({"i": data.images, "t": data.tissues})', '"data": len(data)'),
    # a checkpoint of another loss, optimiser, data, network; more epochs of a schedule; a network of another key
    ("training/identity.py", '"step": about.of(training.step, numbers=False),', '"step": {},'),
    ("training/identity.py", 'about.optimiser(optimiser) if training.optimiser else "by the settings"', '"any"'),
    ("training/identity.py", '"batches": about.of(training.batches),', '"batches": {},'),
    ("training/identity.py", '{**told, "weights": checksum(weights)} if weights else told', 'told'),
    ("training/identity.py", 'if schedule != "constant":', 'if schedule == "none":'),
    ("training/batches.py", '"shuffle": self.shuffle, **arrays}', '"shuffle": self.shuffle}'),
    ("experiments/kept_runs.py", 'plain(key), "a network")', '{}, "a network")'),
    ("experiments/acnn/segmentation.py", '        "prior": weights_key(prior),\n', ""),
    ("atlas/cohort.py", 'given is None or given == _given(subject)', 'True'),
    # rotation and spacing swapped: shows where pixels are not square
    ("data/grid.py", "np.diag(1 / spacing) @ rotation", "rotation @ np.diag(1 / spacing)"),
    # slices moved the other way, label map and image
    ("atlas/pipeline.py", "move_slices(label, -shift", "move_slices(label, shift"),
    ("atlas/pipeline.py", "move_slices(image, -shift", "move_slices(image, shift"),
    # a step of training: what is moved with what, by how much, and by which numbers
    ("models/sslln.py", "move_landmarks(landmarks, maps, config.shape, config.spacing)", "landmarks"),
    ("models/sslln.py", "(images * factor.to(images.device)[:, None, None, None]).clamp(0, 1)", "images.clamp(0, 1)"),
    ("models/sslln.py", "round(config.gap_mm / config.spacing[2])", "round(config.gap_mm)"),
    ("models/sslln.py", "images[..., some], labels[..., some]", "images[..., some], labels[..., : len(some)]"),
    ("models/sslln.py", "SSLLNLoss(config.alpha, config.beta)", "SSLLNLoss()"),
    ("models/acnn/trainer.py",
     'labels if task == "seg" else images.float()[:, None]',
     'labels if task == "seg" else 0 * images.float()[:, None]'),
    ("models/acnn/trainer.py", "pairs.factor, settings.sigma_mm)", "pairs.factor)"),
    ("models/acnn/trainer.py", "weight_decay=training.weight_decay,", "weight_decay=training.weight_decay / 2,"),
    ("models/acnn/trainer.py", "            schedule=training.schedule,\n", ""),
    ("models/native.py", "weight_decay=config.weight_decay, ", ""),
    ("models/native.py", "labels[labels >= config.n_classes] = 0", "labels[labels >= config.n_classes] = 1"),
    ("training/losses.py", "axes = tuple(range(2, logits.ndim))", "axes = tuple(range(1, logits.ndim))"),
    # prediction: statistics of the batch, a turn not undone, the wrong distance, the wrong place, a large crumb
    ("models/sslln.py", "    network.eval()\n    device", "    device"),
    ("models/native.py", "_turned(logits.float().softmax(1), -turn)", "_turned(logits.float().softmax(1), turn)"),
    ("models/native.py", "to_unit_range(sample.image), dz, turns", "to_unit_range(sample.image), 10.0, turns"),
    ("models/native.py", "[*place, middle[2]], self.config.second", "middle, self.config.second"),
    ("models/native.py", "size < 0.2 * size.max()", "size < 0.5 * size.max()"),
    # grids: axes of a turned matrix, percentiles, hearts unturned, poses not looked at, neighbours in slices for mm
    ("data/grid.py", "np.linalg.norm(back[:3, :3], axis=0)", "np.linalg.norm(back[:3, :3], axis=1)"),
    ("data/grid.py", "np.percentile(scanned, 99)", "np.percentile(image, 99)"),
    ("data/grid.py", "np.clip(image / np.percentile(scanned, 99), 0, 1)", "image / np.percentile(scanned, 99)"),
    ("data/grid.py", "percentiles: tuple[float, float] = (1, 99)", "percentiles: tuple[float, float] = (0, 100)"),
    ("data/grid.py", "subject = subject.with_(label=poses[subject.id])", "pass"),
    ("data/grid.py", "to_grid(subject, grid, **vars(HEARTS))", "to_grid(subject, grid)"),
    ("data/volumes.py", "step = max(1, round(STEP_MM / distance_mm))", "step = 1"),
    # masses of the other phase; a voxel too far; a border that is nobody's; a step of the descent ten times as long;
    # slices weighed by the squares of their areas
    ("metrics/clinical.py", "mass(ed[of]) for", "mass(es[of]) for"),
    # a mass of the same phase twice; half as outside
    ("metrics/clinical.py", "es.get(_MASSES", "indices.get(_MASSES"),
    ("data/geometry.py", "share >= level - _ROUNDING", "share > level + _ROUNDING"),
    ("atlas/frame.py", "np.floor((x - o) / s + 0.5)", "np.floor((x - o) / s)"),
    ("atlas/interpolation.py", "depth >= (0 if best", "depth > (0 if best"),
    ("atlas/descent.py", "* first + (1 - BETAS[0]) * gradient", "* first + gradient"),
    ("atlas/alignment.py", "w=np.sqrt(area[slices])", "w=area[slices]"),
]
# fmt: on


def tests_of(module: str) -> Path:
    """The tests of a module."""
    path = Path("tests") / module
    return path.with_name(f"test_{path.name}")


def failure(tree: Path, tests: Path) -> tuple[int, str, str]:
    """pytest's exit status, the first test that fails, and what it says."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-m",
        FAST,
        str(tests),
    ]
    clean = {k: v for k, v in os.environ.items() if k != "SHAPELAB_DATA"} | {"PYTHONPATH": str(tree), "COLUMNS": "300"}
    done = subprocess.run(command, cwd=tree, env=clean, capture_output=True, text=True)
    found = re.search(r"^FAILED (\S+?)(?: - (.*))?$", done.stdout, re.MULTILINE)
    return done.returncode, *((found[1], found[2] or "") if found else ("", done.stdout[-300:]))


def copied(target: str) -> Path:
    """The tree without its data sets, results and notebooks; shipped weights by a link."""
    tree = Path(target)
    for name in ("shapelab", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    (tree / "data").symlink_to(ROOT / "data", target_is_directory=True)
    return tree


def mutate(mutations: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Make each mistake by itself and say what noticed it: a row each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(folder)
        for tests in dict.fromkeys(tests_of(module) for module, _, _ in mutations):
            status, test, said = failure(tree, tests)
            if status:
                sys.exit(f"{tests}: fails without any mistake: {test} {said}")
        for module, old, new in mutations:
            file = tree / "shapelab" / module
            text = file.read_text(encoding="utf-8")
            if text.count(old) != 1:
                sys.exit(
                    f"{file.name}: found {old!r} {text.count(old)} times; expected it once: the list is out of date"
                )
            file.write_text(text.replace(old, new), encoding="utf-8")
            status, test, said = failure(tree, tests_of(module))
            file.write_text(text, encoding="utf-8")
            line = text[: text.index(old)].count("\n") + 1
            row = {
                "line": f"{module}:{line}",
                "old": old,
                "new": new,
                "status": "caught" if status == 1 else "SURVIVED",
            }
            if status > 1:
                row["status"] = "NO TEST RAN"
            rows.append({**row, "test": test.split("::")[-1], "message": said if status else ""})
            print(
                f"{row['status']:<12} {row['line']:<36} {' '.join(new.split())[:60]:<62} {rows[-1]['test']}", flush=True
            )
    return rows


def main() -> None:
    """Make those that were asked for; the exit status is 1 unless all were caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="ends of modules' names; none: all")
    parser.add_argument("--output", type=Path, help="a table (CSV)")
    asked = parser.parse_args()
    rows = mutate([m for m in MUTATIONS if not asked.modules or m[0].endswith(tuple(asked.modules))])
    caught = sum(row["status"] == "caught" for row in rows)
    print(f"mutations caught: {caught} of {len(rows)}")
    if asked.output:
        with asked.output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    sys.exit(caught < len(rows))


if __name__ == "__main__":
    main()
