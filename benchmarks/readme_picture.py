"""README's picture: a heart that turns from healthy to dilated and back, at end-diastole and at end-systole.

    python benchmarks/readme_picture.py [-o docs/heart.gif] [--frames FOLDER]

The straight way in the code space of the shipped autoencoder, from the mean code of healthy phantoms (NOR) to the mean
code of those with dilated cardiomyopathy (DCM), at ED and at ES; volumes and ejection fraction in the caption are
counted on the decoded label maps of the very frame. No real heart is in it, and one seed gives one picture. --frames
writes every frame as PNG too, to be looked at.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

import shapelab
from shapelab.data.facts import PHASES
from shapelab.experiments.shipped import learned_space
from shapelab.files import atomic_write
from shapelab.latent import interpolate
from shapelab.latent.paths import Path as Walk
from shapelab.metrics.clinical import ejection_fraction, structure_volumes
from shapelab.show import render, style
from shapelab.show.meshes import heart_meshes

ENDS = ("NOR", "DCM")
STEPS = 25  # there; and the same back
PANEL = 300  # pixels, the width of a heart
WIDTH, HEIGHT = 600, 380  # pixels
DPI = 100
SWAY = 16.0  # degrees, to either side
MILLISECONDS = 80  # a frame
COLOURS = 128  # one palette for all frames, without dither: nothing flickers, and 48 frames take less than 2 MB
LIMIT = 2_000_000  # bytes


def walks(n: int = 100, seed: int = 1) -> tuple[dict[str, Walk], object]:
    """Phase -> the path from the healthy mean code to the dilated one, and the space."""
    space = learned_space("autoencoder", "quick")
    labels, facts = shapelab.stack_labels(shapelab.open_cohort("phantom", n=n, seed=seed), space)
    codes = space.encode(labels)
    paths = {}
    for phase in PHASES:
        ends = [codes[((facts["group"] == g) & (facts["phase"] == phase)).to_numpy()].mean(axis=0) for g in ENDS]
        paths[phase] = interpolate(space, *ends, steps=STEPS)
    return paths, space


def surfaces(probabilities: np.ndarray, space) -> dict[str, trimesh.Trimesh]:
    """The meshes of one heart without islands: at the apex, where the wall is as thin as a voxel, some come off it."""
    meshes = heart_meshes(probabilities, space.grid.spacing, space.scheme)
    return {n: max(m.split(only_watertight=False), key=lambda piece: len(piece.faces)) for n, m in meshes.items()}


def frames(paths: dict[str, Walk], space) -> list[Image.Image]:
    """There and back again: 2 STEPS - 2 pictures of both phases from one window."""
    meshes = {phase: [surfaces(x, space) for x in walk.probabilities] for phase, walk in paths.items()}
    maps = {phase: space.scheme.integers(walk.channels) for phase, walk in paths.items()}
    volumes = {p: [structure_volumes(m, space.grid.spacing, space.scheme) for m in some] for p, some in maps.items()}
    every = [one for some in meshes.values() for one in some]
    centre = np.mean([mesh.bounds.mean(axis=0) for one in every for mesh in one.values()], axis=0)
    for one in every:
        for mesh in one.values():
            mesh.apply_translation(-centre)  # so that it turns about itself
    order = np.r_[0:STEPS, STEPS - 2 : 0 : -1]
    views = [render.View(azimuth=-12 + SWAY * np.sin(2 * np.pi * k / len(order))) for k in range(len(order))]
    windows = [render.window_of(every, views[k], space.scheme) for k in (0, len(order) // 4, 3 * len(order) // 4)]
    window = np.stack([np.min(windows, axis=0)[:, 0], np.max(windows, axis=0)[:, 1]], axis=1)
    pictures = []
    for step, view in zip(order, views, strict=True):
        shaded = [render.shaded(meshes[phase][step], space.scheme, window, view, PANEL) for phase in PHASES]
        around = [volumes[phase][step]["LV cavity"] for phase in PHASES]
        pictures.append(caption(shaded, around, step / (STEPS - 1), space.scheme))
    return pictures


@style.styled
def caption(shaded: list[np.ndarray], volumes: list[float], position: float, scheme) -> Image.Image:
    """One frame: both hearts, their LV volumes, the ejection fraction, and where on the way it is."""
    fig = style.figure(WIDTH / DPI, HEIGHT / DPI, layout="none")
    height = shaded[0].shape[0] / HEIGHT
    for i, (picture, phase, volume) in enumerate(zip(shaded, ("end-diastole", "end-systole"), volumes, strict=True)):
        axes = fig.add_axes((i * PANEL / WIDTH, 0.92 - height, PANEL / WIDTH, height))
        axes.imshow(picture, interpolation="none", aspect="auto")
        axes.axis("off")
        fig.text((0.25, 0.75)[i], 0.96, f"{phase}: LV {volume:.0f} ml", ha="center", va="center", fontsize=11)
    percent = ejection_fraction(*volumes)
    fig.text(0.5, 0.115, f"ejection fraction {percent:.0f} %", ha="center", va="center", fontsize=11, weight="bold")
    bar = fig.add_axes((0.32, 0.02, 0.36, 0.06))
    bar.plot([0, 1], [0, 0], color=style.GRID, linewidth=4, solid_capstyle="round")
    bar.plot([position], [0], marker="o", markersize=9, color=style.INK)
    bar.set(xlim=(-0.03, 1.03), ylim=(-1, 1))
    bar.axis("off")
    fig.text(0.30, 0.05, "healthy", ha="right", va="center", color=style.MUTED)
    fig.text(0.70, 0.05, "dilated", ha="left", va="center", color=style.MUTED)
    for i, structure in enumerate(scheme.structures):
        fig.text(0.02, 0.14 - 0.045 * i, f"\u25a0 {structure.name}", color=structure.colour, va="center", fontsize=8)
    return Image.open(io.BytesIO(style.png_bytes(fig, DPI))).convert("RGB")


def gif(pictures: list[Image.Image], colours: list[str]) -> bytes:
    """The bytes of an animation that never stops; one palette, from every eighth frame and patches of `colours`."""
    exact = [np.full((60, WIDTH, 3), np.rint(255 * style.rgb(colour)), np.uint8) for colour in colours]
    sample = np.concatenate([*map(np.asarray, pictures[:: len(pictures) // 6]), *exact])
    palette = Image.fromarray(sample).quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    flat = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    stream = io.BytesIO()
    flat[0].save(
        stream, "GIF", save_all=True, append_images=flat[1:], duration=MILLISECONDS, loop=0, optimize=False, disposal=1
    )
    return stream.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "heart.gif")
    parser.add_argument("--frames", type=Path, help="folder for the frames as PNG")
    arguments = parser.parse_args()
    paths, space = walks()
    made = frames(paths, space)
    content = gif(made, [structure.colour for structure in space.scheme.structures])
    if len(content) > LIMIT:
        raise SystemExit(f"{len(content)} bytes; expected at most {LIMIT}: fewer COLOURS or STEPS")
    with atomic_write(arguments.output) as file:
        file.write_bytes(content)
    print(f"written: {arguments.output}, {len(made)} frames, {len(content) / 1e6:.2f} MB")
    if arguments.frames:
        arguments.frames.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(made):
            one.save(arguments.frames / f"{number:02d}.png")
