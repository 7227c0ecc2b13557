"""CE-Reg of "Deep multi-modal encoder-decoder networks for shape constrained segmentation and joint representation
learning" (Bouteldja et al., BVM 2019): one shape space for CT, MR and label maps, with the variants of its Table 1.

One encoder E reads label maps S and images I, CT or MR; one decoder D rebuilds label maps. Mini-batches alternate:

    label maps    min over E and D     CE(D(E(S)), S)     an autoencoder: D learns what hearts look like
    images        min over E alone     CE(D(E(I)), S)     through the FIXED decoder: E learns to say it in D's language

so a scan and its label map come to lie close together, though no term asks for it. The first convolution differs for
label maps (one-hot channels) and images (one channel, CT and MR alike); all else is shared.

Each kind of batch has an optimiser of its own, Adam at .002 and .004, over weights that they share. Here both are one
`torch.optim.Adam`: image batches run with parameters that share the memory of the network's but have gradients and
moments of their own (`ImageTurn`), and Adam leaves alone what has no gradient. So a checkpoint holds both.

`METHODS`, at equal image batches:

    CE-Reg          the paper's
    l1-Reg          images: min over E of |E(I) - E(S)|_1 (E(S) is the aim and gets no gradient)
    2E-D            an encoder for label maps and one for images, each with half the channels
    E-D             no label batches: encoder and decoder learn from images
    U-Net           E-D with skip connections: its codes do not tell the whole shape, and can't be decoded alone
    free decoder    CE-Reg with a decoder that image batches train too (the paper: "two different shape spaces")

Deviations:
    Layers: the paper prints 624K parameters and 2 x 8 x 9 x 11 codes, the list is read from its drawing. One that fits:
        15 convolutions in E (3 x 10, 3 x 16, 3 x 32, 3 x 40, 2 x 80 channels, 2; the first of a group strides by 2, in
        the first group none) and 5 in D (80, 40, 32, 16, 8), with biases: 624,044, and 2 x 9 x 8 x 11 codes.
    Upsampling: trilinear, to the sizes that the encoder had on its way down (122 is no multiple of 16).
    Fixed decoder: image batches leave its weights and running statistics alone; they are normalised by their own
        statistics, as in use.
    Evaluation: "we use instance normalization during evaluation": each volume is normalised by its own statistics, so a
        result does not depend on its batch. `statistics="running"` is batch normalisation as usual.
    Learning rates: times .9 at "every 30th epoch" of 1000 is read as every 30th of 1000 parts of the run ("stairs").
        Its length is a number of image batches (`steps`), the same for all methods.
    Weight decay, affine maps: the paper gives no numbers.
    Head start: `label_steps` label batches go with each image batch (the paper: 1), `label_lead` come before the first.
    Grids of `quick` and `full` are coarser, with fewer groups, so that a code's cell keeps its 24 mm.
    Mean and sigma are of the training label maps' codes; of the images' where nothing encodes label maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import prod
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from shapelab.augment import AffineRanges, random_affine, random_affine_pair
from shapelab.data.volumes import Scans
from shapelab.device import laid_out
from shapelab.errors import must, need, one_of
from shapelab.spaces.contract import check_images
from shapelab.spaces.kept import made_here, scheme_of
from shapelab.spaces.network_space import BATCH, NetworkSpace
from shapelab.tensor_files import checksum
from shapelab.training import Batches, Config, FitSettings, History, Run, fit, seeded
from shapelab.training.losses import cross_entropy, onehot
from shapelab.training.turns import Turns
from shapelab.types import Shape3

METHODS = ("CE-Reg", "l1-Reg", "2E-D", "E-D", "U-Net", "free decoder")
IMAGES_ALONE = ("E-D", "U-Net")  # no batches of label maps
LEARN_BOTH = ("E-D", "U-Net", "free decoder")  # image batches train the decoder as well
STATISTICS = ("instance", "running")


@dataclass(frozen=True)
class JointSpaceConfig(Config):
    """Numbers of the joint space and of its training; the defaults are the quick profile's."""

    # fmt: off
    method: str = "CE-Reg"                          # one of METHODS
    shape: tuple[int, int, int] = (28, 24, 28)      # a box of 168 x 144 x 168 mm
    spacing: tuple[float, float, float] = (6.0, 6.0, 6.0)
    n_classes: int = 8                              # background and seven structures
    widths: tuple[int, ...] = (8, 16, 32)           # channels of the encoder's groups; the decoder's, the other way
    convs: tuple[int, ...] = (2, 3, 3)              # convolutions of each group
    channels: int = 2                               # of the code; at the quick grid 2 x 7 x 6 x 7 = 588 numbers
    statistics: str = "instance"                    # at evaluation: each volume's own, or "running" ones
    batch: int = 3                                  # section 2.2
    steps: int = 6000                               # image batches
    every: int = 200                                # image batches in a row of the history, with validation
    label_steps: int = 1                            # label batches to each image batch
    label_lead: int = 0                             # label batches before the first image batch
    label_rate: float = 0.002                       # section 2.2
    image_rate: float = 0.004                       # section 2.2
    weight_decay: float = 1e-5                      # "used"
    affine: AffineRanges = field(default_factory=lambda: AffineRanges((10, 10, 10), 0.1, 0.05, 0.05, (10, 10, 10)))
    # fmt: on

    PROFILES = {
        "full": {
            "shape": (72, 61, 84),
            "spacing": (3.0, 3.0, 3.0),
            "widths": (8, 16, 32, 40),  # 8 take half the time of the paper's 10 on a CPU
            "convs": (3, 3, 3, 4),
        },
        "paper": {  # Fig. 1; 14 batches of 40 scans, 1000 epochs
            "shape": (144, 122, 168),
            "spacing": (1.5, 1.5, 1.5),
            "widths": (10, 16, 32, 40, 80),
            "convs": (3, 3, 3, 3, 2),
            "steps": 14000,
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("JointSpaceConfig.method", self.method, METHODS)
        one_of("JointSpaceConfig.statistics", self.statistics, STATISTICS)
        must(
            len(self.widths) == len(self.convs) >= 2
            and min(*self.widths, *self.convs, self.n_classes - 1, self.channels, self.batch) >= 1
            and prod(self.sizes[-1]) > 1,
            "JointSpaceConfig",
            self,
            "two groups or more with as many widths as convs, more than one cell in the end, one of everything else",
        )

    @property
    def sizes(self) -> list[Shape3]:
        """Grid at each scale, fine to coarse, the last that of the code; a stride of 2 keeps an odd voxel."""
        x, y, z = self.shape
        return [(-(-x // 2**i), -(-y // 2**i), -(-z // 2**i)) for i in range(len(self.widths))]

    @property
    def code(self) -> int:
        """Length of a code."""
        return self.channels * prod(self.sizes[-1])


# ---------------------------------------------------------------------------------------------------------- the model


class Norm(nn.BatchNorm3d):
    """Batch normalisation; with `instance`, at evaluation each volume is normalised by its own statistics."""

    instance = True

    def forward(self, x: Tensor) -> Tensor:
        if self.training or not self.instance:
            return super().forward(x)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def conv(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """A convolution of Fig. 1, with what follows it."""
    return nn.Sequential(nn.Conv3d(n_in, n_out, 3, stride, padding=1), Norm(n_out), nn.LeakyReLU(inplace=True))


class Encoder(nn.Module):
    """E of Fig. 1. Shapes in the comments are the paper profile's: (channels, x, y, z).

    Args:
        config: numbers
        inputs: kind of input -> its channels; each kind has a first convolution of its own
        share: of the channels of each group (2E-D: a half)
    """

    def __init__(self, config: JointSpaceConfig, inputs: Mapping[str, int], share: float = 1.0) -> None:
        super().__init__()
        widths = [max(1, int(share * w)) for w in config.widths]
        self.first = nn.ModuleDict({kind: conv(n, widths[0]) for kind, n in inputs.items()})
        groups = []
        for level, (width, n) in enumerate(zip(widths, config.convs, strict=True)):
            # 10 (144, 122, 168) -> 16 (72, 61, 84) -> 32 (36, 31, 42) -> 40 (18, 16, 21) -> 80 (9, 8, 11)
            into = [] if level == 0 else [conv(widths[level - 1], width, stride=2)]
            groups.append(nn.Sequential(*into, *(conv(width, width) for _ in range(n - 1))))
        self.groups = nn.ModuleList(groups)
        self.to_code = conv(widths[-1], config.channels)  # 80 -> 2 (9, 8, 11)

    def forward(self, x: Tensor, kind: str) -> tuple[Tensor, list[Tensor]]:
        """The code (N, 2, x, y, z), and what each group ends in."""
        x, ends = self.first[kind](x), []
        for group in self.groups:
            x = group(x)
            ends.append(x)
        return self.to_code(x), ends


class Decoder(nn.Module):
    """D of Fig. 1: five convolutions, upsampled between them; a U-Net's reads what the encoder's groups end in."""

    def __init__(self, config: JointSpaceConfig) -> None:
        super().__init__()
        self.sizes = config.sizes[-2::-1]  # coarse to fine
        first, *others = [*config.widths[:0:-1], config.n_classes]  # 80; 40, 32, 16, 8
        skips = config.widths[-2::-1] if config.method == "U-Net" else [0] * len(others)  # 40, 32, 16, 10
        self.first = conv(config.channels, first)  # 2 -> 80 (9, 8, 11)
        widths = [first, *others]
        last = len(others) - 1
        self.groups = nn.ModuleList(
            nn.Conv3d(a + skip, b, 3, padding=1) if i == last else conv(a + skip, b)
            for i, (a, b, skip) in enumerate(zip(widths, others, skips))
        )  # 40 (18, 16, 21) -> 32 (36, 31, 42) -> 16 (72, 61, 84) -> 8 (144, 122, 168), logits

    def forward(self, code: Tensor, skips: Sequence[Tensor] = ()) -> Tensor:
        x = self.first(code)
        for i, (size, group) in enumerate(zip(self.sizes, self.groups, strict=True)):
            x = F.interpolate(x, size=size, mode="trilinear", align_corners=False)
            x = group(torch.cat([x, skips[-i - 1]], 1) if skips else x)
        return x


class JointNetwork(nn.Module):
    """Fig. 1: E and D; of 2E-D, two encoders.

    Attributes:
        encode: one-hot maps or probabilities (N, C, X, Y, Z) -> codes (N, d)
        encode_images: images (N, X, Y, Z) -> codes (N, d)
        decode: codes (N, d) -> logits (N, C, X, Y, Z)
        rebuild: one-hot maps -> logits, D(E(S))
        segment: images (N, X, Y, Z) -> logits (N, C, X, Y, Z), D(E(I))
    """

    def __init__(self, config: JointSpaceConfig) -> None:
        super().__init__()
        self.config = config
        two, labels = config.method == "2E-D", {"labels": config.n_classes}
        inputs = {"images": 1} | ({} if two or config.method in IMAGES_ALONE else labels)
        self.encoder = Encoder(config, inputs, share=0.5 if two else 1.0)
        self.label_encoder = Encoder(config, labels, share=0.5) if two else None
        self.decoder = Decoder(config)
        self.use(config.statistics)
        laid_out(self, torch.channels_last_3d)

    def use(self, statistics: str) -> None:
        """Normalise by these statistics at evaluation, one of `STATISTICS`."""
        self.statistics = one_of("statistics", statistics, STATISTICS)
        for module in self.modules():
            if isinstance(module, Norm):
                module.instance = statistics == "instance"

    def encode(self, maps: Tensor) -> Tensor:
        return (self.label_encoder or self.encoder)(maps, "labels")[0].flatten(1)

    def encode_images(self, images: Tensor) -> Tensor:
        return self.encoder(images[:, None], "images")[0].flatten(1)

    def decode(self, codes: Tensor) -> Tensor:
        cells = codes.unflatten(1, (self.config.channels, *self.config.sizes[-1]))
        return self.decoder(cells.contiguous(memory_format=torch.channels_last_3d))

    def rebuild(self, maps: Tensor) -> Tensor:
        return self.decode(self.encode(maps))

    def segment(self, images: Tensor) -> Tensor:
        code, ends = self.encoder(images[:, None], "images")
        return self.decoder(code, ends[:-1] if self.config.method == "U-Net" else ())

    def forward(self, x: Tensor, do: str = "segment") -> Tensor:
        """`do`: the name of one of these."""
        return getattr(self, do)(x)

    def learners(self, kind: str) -> dict[str, nn.Parameter]:
        """Name -> parameter that a batch of "labels" or "images" trains."""
        images, method = kind == "images", self.config.method
        if not images and method in IMAGES_ALONE:
            return {}
        encoder = "encoder." if images or self.label_encoder is None else "label_encoder."
        parts = (encoder, "decoder.") if not images or method in LEARN_BOTH else (encoder,)
        others = "encoder.first." + ("labels." if images else "images.")
        named = self.named_parameters()
        return {name: p for name, p in named if name.startswith(parts) and not name.startswith(others)}


# ---------------------------------------------------------------------------------------------------------- training


class ImageTurn:
    """What a batch of images runs with: parameters in the memory of the network's, but with gradients and moments of
    their own, and a decoder that it cannot change, unless it shall."""

    def __init__(self, network: JointNetwork) -> None:
        self.network = network
        self.parameters = {name: nn.Parameter(p.detach()) for name, p in network.learners("images").items()}

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor to run with: of what is not trained, weights without a gradient, copies of statistics."""
        if self.network.config.method in LEARN_BOTH:
            return {**self.parameters}
        weights, statistics = self.network.decoder.named_parameters(), self.network.decoder.named_buffers()
        fixed = {f"decoder.{name}": p.detach() for name, p in weights}
        return {**self.parameters, **fixed, **{f"decoder.{name}": b.clone() for name, b in statistics}}

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Of images (N, X, Y, Z) and their channel numbers: CE(D(E(I)), S); of l1-Reg the mean of |E(I) - E(S)|."""
        if self.network.config.method != "l1-Reg":
            return cross_entropy(functional_call(self.network, self.tensors(), (images,)), labels)
        with torch.no_grad():
            copies = {name: b.clone() for name, b in self.network.named_buffers()}
            maps = onehot(labels, self.network.config.n_classes)
            aim = functional_call(self.network, copies, (maps, "encode"))
        codes = functional_call(self.network, {**self.parameters}, (images, "encode_images"))
        return F.l1_loss(codes.float(), aim.float())


def train_joint_space(
    scans: Scans,
    config: JointSpaceConfig | None = None,
    run: Run | None = None,
    *,
    shapes: np.ndarray | None = None,
    validation: Scans | None = None,
    data: str = "",
) -> tuple[JointSpace, History]:
    """Train the joint space, or one of its variants, on scans and their label maps.

    Args:
        scans: images and label maps on the config's grid; images alone where the method has no label batches
        config: numbers; None takes the current profile's
        run: where it is kept, seed (of weights, order, augmentation), device: see `shapelab.training.Run`
        shapes: (M, X, Y, Z) integers of the scheme: further label maps without images, for the label batches
        validation: other scans; what comes of them goes into the history at every row
        data: what the scans are, in words; kept in the space's metadata

    Returns:
        A tuple of

        - space: `JointSpace`
        - history: a row for every `config.every` image batches: labels and images (mean losses of each kind of batch),
          loss (of all), steps (image batches until then), seconds; of `validation` the Dice of each modality ("val
          CT", "val MR"), of its label maps rebuilt ("val labels", which is the ceiling), the share of scans whose code
          lies nearest to that of their own label map ("val rank-1"), and "val seconds", which are in seconds
    """
    config, run = config or JointSpaceConfig.profile(n_classes=scans.n_classes), run or Run()
    space = JointSpace(config, scans.scheme, seeded(lambda: JointNetwork(config), run.seed).to(run.target))
    space.metadata = {"modalities": sorted(set(map(str, scans.table["modality"])))}
    images, labels = space.check_images(scans), scans.labels
    further = np.empty((0, *labels.shape[1:]), np.uint8) if shapes is None else space.check(shapes)
    maps = np.concatenate([labels, further])
    network, turn = space.model, ImageTurn(space.model)

    def step(batch: Tensor | tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        if isinstance(batch, Tensor):  # label maps alone
            moved = random_affine(batch, config.spacing, config.affine)  # S
            return {"labels": cross_entropy(network(onehot(moved, config.n_classes), "rebuild"), moved)}
        images, labels = random_affine_pair(batch[0].float(), batch[1], config.spacing, config.affine)
        return {"images": turn.loss(images, labels)}

    def optimiser(_: list[nn.Parameter]) -> torch.optim.Optimizer:
        rates = {"labels": config.label_rate, "images": config.image_rate}
        trained = {"labels": network.learners("labels"), "images": turn.parameters}
        groups = [{"params": [*trained[kind].values()], "lr": rate} for kind, rate in rates.items() if trained[kind]]
        return torch.optim.Adam(groups, weight_decay=config.weight_decay)

    weights, seen = checksum(network.state_dict()), checksum({"labels": maps})
    identity = {"config": asdict(config), "scheme": scans.scheme.name, "labels": seen, "initial weights": weights}
    batches = Turns(
        Batches(images, labels, batch_size=config.batch, seed=run.seed),
        Batches(maps, batch_size=config.batch, seed=run.seed) if space.reads_labels else None,
        steps=config.steps,
        every=config.every,
        each=config.label_steps,
        lead=config.label_lead,
    )
    history = fit(
        step,
        network,
        batches,
        len(batches),
        settings=FitSettings(learning_rate=config.label_rate, schedule="stairs"),
        optimiser=optimiser,
        validate=None if validation is None else partial(_measured, space, validation),
        run=run.about(identity),
    )
    for row in history.rows:
        row["steps"] = batches.steps_until(int(row["epoch"]) + 1)
    integers = space.scheme.integers(maps)
    space.set_training_codes(space.encode(integers) if space.reads_labels else space.encode_images(images))
    middle = [round(float(places.mean()), 2) for places in np.nonzero(maps)[1:]]  # voxels
    facts = {"data": data, "n": len(images), "maps": len(maps), "labels": seen, "middle": middle, "seed": run.seed}
    space.metadata = made_here({**space.metadata, **facts, "final": history.last})
    return space, history


def _measured(space: JointSpace, scans: Scans, _: nn.Module) -> dict[str, float]:
    """What a row of the history says of validation scans: see `train_joint_space`."""
    started, truth = perf_counter(), space.scheme.integers(scans.labels)
    dice = space.dice(space.segment(scans), truth).mean(1)
    modalities = scans.table["modality"].to_numpy()
    found = {f"val {name}": float(dice[modalities == name].mean()) for name in np.unique(modalities)}
    if space.reads_labels:
        own, codes = space.encode(truth), space.encode_images(scans)
        far = np.square(codes[:, None] - own[None]).sum(2)
        found["val labels"] = float(space.dice(space.label_maps(own), truth).mean())
        found["val rank-1"] = float((far.diagonal() <= far.min(1)).mean())  # scans may share a label map
    return {**found, "val seconds": perf_counter() - started}


# ---------------------------------------------------------------------------------------------------------- the space


class JointSpace(NetworkSpace):
    """The joint space: label maps and images of every modality <-> codes (a `shapelab.spaces.ShapeSpace`).

    >>> space.encode(labels), space.encode_images(scans)              # (N, d) both, in one space    doctest: +SKIP
    >>> space.segment(scans)                                           # (N, X, Y, Z) label maps      doctest: +SKIP

    Images are `Scans`, whose grid, scheme and modality are checked, or an array (N, X, Y, Z), each of mean 0 and sd 1.

    Attributes: those of `NetworkSpace`, `statistics` (may be set), `reads_labels`; `metadata` names the modalities.
    """

    config: JointSpaceConfig
    model: JointNetwork

    @property
    def statistics(self) -> str:
        """By which it normalises, one of `STATISTICS`; set it to use others. Mean and sigma stay as they are."""
        return self.fitted("model").statistics

    @statistics.setter
    def statistics(self, statistics: str) -> None:
        self.fitted("model").use(statistics)

    @property
    def reads_labels(self) -> bool:
        """Whether it encodes label maps."""
        return self.config.method not in IMAGES_ALONE

    def check_images(self, images: np.ndarray | Scans) -> np.ndarray:
        """Images (N, X, Y, Z) on the grid, each of about mean 0 and sd 1; DataError on anything else.

        Of `Scans` also where grid, scheme or modality are others than those that it was trained on.
        """
        if isinstance(images, Scans):
            for name in ("grid", "scheme"):
                found, own = getattr(images, name), getattr(self, name)
                need(found == own, f"scans.{name}", str(found), f"{own}, the space's", "Bring the scans to it.")
            self.check_modality(*images.table["modality"])
            images = images.images
        images = check_images(images, self.grid)
        means, sds = (np.atleast_1d(f(images, axis=(1, 2, 3), dtype=np.float64)) for f in (np.mean, np.std))
        off = np.maximum(np.abs(means), 1.5 * np.abs(sds - 1))  # sd 1/3 to 5/3
        row = int(off.argmax())
        found = f"mean {means[row]:.3g} and sd {sds[row]:.3g} in row {row}"
        todo = "Normalise each with shapelab.data.grid.z_normalised."
        need(off[row] <= 1, "images", found, "about 0 and 1 in every image", todo)
        return images

    def check_modality(self, *modalities: str) -> None:
        """DataError unless it was trained on images of these modalities."""
        known = self.metadata.get("modalities", [])
        others = ", ".join(sorted(set(modalities) - set(known)))
        todo = "Take a space that was trained on such images."
        need(not others, "scans", f"images of {others}", f"of {' or '.join(known)}, which it was trained on", todo)

    def encode(self, labels: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """As every space; UsageError of E-D and U-Net, which never saw a label map."""
        found = f"a space of {self.config.method}, which reads images alone"
        must(self.reads_labels, "encode", found, "another method's, or encode_images(images)")
        return super().encode(labels, batch)

    def decode(self, codes: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """As every space; UsageError of a U-Net, whose codes do not tell the shape without its skips."""
        must(
            self.config.method != "U-Net", "decode", "a U-Net, whose codes alone do not tell a shape", "segment(images)"
        )
        return super().decode(codes, batch)

    def encode_images(self, images: np.ndarray | Scans, batch: int = BATCH) -> np.ndarray:
        """Images (N, X, Y, Z) -> codes (N, d) float32: E(I), in fp32 on every machine."""
        return np.concatenate([part.cpu().numpy() for part in self._of_images(images, "encode_images", batch)])

    def segment(self, images: np.ndarray | Scans, batch: int = BATCH) -> np.ndarray:
        """Images (N, X, Y, Z) -> label maps (N, X, Y, Z), integers of the scheme: D(E(I))."""
        parts = self._of_images(images, "segment", batch)
        return self.scheme.integers(np.concatenate([part.argmax(1).to(torch.uint8).cpu().numpy() for part in parts]))

    def probabilities(self, images: np.ndarray | Scans, batch: int = BATCH) -> np.ndarray:
        """Images (N, X, Y, Z) -> probabilities (N, C, X, Y, Z) float32: D(E(I))."""
        return np.concatenate([part.softmax(1).cpu().numpy() for part in self._of_images(images, "segment", batch)])

    def _of_images(self, images: np.ndarray | Scans, do: str, batch: int) -> list[Tensor]:
        x, model = torch.from_numpy(self.check_images(images)), self.fitted("model").eval()
        device = next(model.parameters()).device
        with torch.inference_mode():
            return [model(part.to(device).float(), do) for part in x.split(batch)]

    @classmethod
    def rebuilt(cls, text: Mapping[str, Any]) -> JointSpace:
        config = JointSpaceConfig(**text["config"])
        space = cls(config, scheme_of(text["scheme"]), JointNetwork(config))
        space.metadata = text.get("metadata", {})
        return space
