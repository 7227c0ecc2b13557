"""A trained space or network in a folder: a description (JSON) and its weights (safetensors), written and read here.

The description says the kind, which is all one needs to open a folder: `load`, `load_network` and `open_kept` find the
class by it, whatever has been imported. It names the file of weights, whose name holds their checksum, and is put in
place last, so that the two always belong together.

    {"kind": "subpixel", "weights": "weights-7c1e9e47.safetensors", "config": {...}, "scheme": {...}, ...}

A class of one's own is kept like those in `KINDS`: a space or segmenter inherits from `Kept`; a network needs only that
it is built from one dataclass, `Network(config)`, annotated, and has it as `network.config`. `register` gives it a
short kind; without one its kind is "module:Class", which any session that can import the module can open.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor, nn

from shapelab import __version__
from shapelab.data.placement import Placement
from shapelab.data.scheme import CARDIAC, LabelScheme, Structure
from shapelab.device import best_device, describe
from shapelab.errors import DataError, UsageError, must, need, one_of
from shapelab.files import atomic_write
from shapelab.spaces.contract import ShapeSpace
from shapelab.tensor_files import checksum, read_tensors, write_tensors
from shapelab.training.config import numbers_of

C = TypeVar("C", bound=type)
SPACE, TL, NETWORK = FILES = ("space.json", "tl.json", "model.json")  # a description's name, as folders have had it
ADVICE = "Save it again, or fetch the folder anew."
#: kind -> class, or "module:Class", imported when such a folder is opened.
KINDS: dict[str, str | type] = {
    "autoencoder": "shapelab.models.acnn.autoencoder:AESpace",
    "tl": "shapelab.models.acnn.tl:TLSpace",
    "joint": "shapelab.models.joint_space:JointSpace",
    "PCASpace": "shapelab.spaces.pca:PCASpace",
    "native": "shapelab.models.native:NativeSegmenter",
    "two-stage": "shapelab.models.two_stage.segmenter:TwoStage",
    "subpixel": "shapelab.models.acnn.subpixel:SubPixelNet",
    "fcn2d": "shapelab.models.acnn.baselines:FCN2D",
    "unet3d": "shapelab.models.acnn.baselines:UNet3D",
    "aeseg": "shapelab.models.acnn.baselines:AESeg",
    "aesegm": "shapelab.models.acnn.baselines:AESegM",
    "sr": "shapelab.models.acnn.sr_baselines:SubPixelSR",
    "srcnn": "shapelab.models.acnn.sr_baselines:SRCNN",
    "sslln": "shapelab.models.sslln:SSLLN",
    "slicefcn": "shapelab.models.sslln:SliceFCN",
    "volumefcn": "shapelab.models.sslln:VolumeFCN",
}


# -------------------------------------------------------------------------------------------------------------- kinds


def register(kind: str) -> Callable[[C], C]:
    """Class decorator: folders of this class say `kind`, and open by it in a session that has imported the class."""

    def decorate(cls: C) -> C:
        if _name(KINDS.get(kind, cls)) != _name(cls):
            raise UsageError(f"kind: found {kind!r}, which is {_name(KINDS[kind])}; expected a kind of its own")
        KINDS[kind] = cls
        return cls

    return decorate


def _name(cls: str | type) -> str:
    return cls if isinstance(cls, str) else f"{cls.__module__}:{cls.__qualname__}"


def kind_of(cls: type) -> str:
    """The kind of a class: the one it is registered under, else "module:Class"."""
    return next((kind for kind, known in KINDS.items() if _name(known) == _name(cls)), _name(cls))


def class_of(kind: str) -> type:
    """The class of a kind; UsageError for an unknown one."""
    found = kind if ":" in str(kind) else KINDS[one_of("kind", kind, KINDS)]
    if isinstance(found, str):
        module, name = found.split(":")
        found = getattr(import_module(module), name)
    return found


# ------------------------------------------------------------------------------------------------------ what is kept


class Kept(ABC):
    """Base of what can be kept in a folder, with what a class says of itself.

    Attributes:
        FILE: name of its description, one of `FILES`
        FULL: parts of names of tensors that stay fp32 where the others are stored as fp16
        placement: of a space, how the label maps it was fitted on were laid on its grid; None: not known
    """

    FILE: ClassVar[str] = SPACE
    FULL: ClassVar[tuple[str, ...]] = ()
    placement: Placement | None = None

    def kind(self) -> str:
        """What its folders say it is."""
        return kind_of(type(self))

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """All but its numbers, as JSON has it; `rebuilt` takes it."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Its numbers; `restore` takes them."""

    @classmethod
    @abstractmethod
    def rebuilt(cls, text: Mapping[str, Any]) -> Self:
        """One of the same description, its numbers not yet those that were kept."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Take the numbers that were kept; KeyError or RuntimeError where they do not fit."""

    def save(self, folder: str | Path, half: bool = False) -> Path:
        """Write the description and the weights beside it (safetensors); what was kept there before is replaced.

        Args:
            half: store weights as fp16, half the size (they are used as fp32)
        """
        folder, text, tensors = Path(folder), self.description(), self.tensors()
        if half:
            full = {k for k, v in tensors.items() if not v.is_floating_point() or any(part in k for part in self.FULL)}
            tensors = {k: v if k in full else v.half() for k, v in tensors.items()}
        weights = f"weights-{checksum(tensors)}.safetensors"
        text |= {"placement": asdict(self.placement)} if self.placement else {}
        write_tensors(folder / weights, tensors)
        with atomic_write(folder / self.FILE) as temporary:
            written = json.dumps({"kind": self.kind(), "weights": weights, **text}, indent=1)
            temporary.write_text(written + "\n", encoding="utf-8")
        for old in (*folder.glob("weights-*.safetensors"), *(folder / name for name in FILES)):
            if old.name not in (weights, self.FILE):
                old.unlink(missing_ok=True)
        return folder

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str | None = None) -> Self:
        """Read what `save` wrote. DataError naming the file if it is missing, damaged, or of another kind."""
        return open_kept(folder, device, cls)


def find(folder: str | Path) -> Path | None:
    """The description in a folder; None where nothing is kept in it."""
    return next((file for name in FILES if (file := Path(folder) / name).is_file()), None)


def is_kept(folder: str | Path) -> bool:
    """Whether something is kept in a folder."""
    return find(folder) is not None


def open_kept(folder: str | Path, device: torch.device | str | None = None, expected: type[Kept] = Kept) -> Any:
    """What is kept in a folder, of any kind that is an `expected`; of a network, a `KeptNetwork`.

    Args:
        device: for its weights; None: the best available

    DataError naming the file if it is missing or damaged, of an unknown or another kind, or does not fit its weights.
    """
    file = find(folder) or Path(folder) / expected.FILE
    need(file.is_file(), file, "no such file", "the description of a saved space or network", ADVICE)
    try:
        raw = file.read_text(encoding="utf-8")
        text = json.loads(raw)
        cls: type[Kept] = class_of(text["kind"])
        if issubclass(cls, nn.Module):
            cls = KeptNetwork
        need(
            issubclass(cls, expected),
            file,
            f"kind {text['kind']!r}",
            f"a {expected.__name__}",
            f"It holds a {cls.__name__}.",
        )
        kept = cls.rebuilt(text)
        kept.placement = Placement(**text["placement"]) if "placement" in text else None
        weights = file.parent / text.get("weights", file.with_suffix(".safetensors").name)
    except (ValueError, KeyError, TypeError, AttributeError, ImportError, UsageError) as error:
        raise DataError(
            file,
            f"a damaged description ({type(error).__name__}: {error})",
            f"JSON of a {expected.__name__}: kind, weights, config, scheme",
            ADVICE,
        ) from error
    # spaces of principal components once had no checksum: their weights repeat the description instead
    tensors, texts = read_tensors(weights, checked="weights" in text)
    need(
        "weights" in text or texts.get("space") == raw,
        weights,
        "tensors of another space",
        f"those of {file.name} beside it",
        ADVICE,
    )
    try:
        kept.restore(tensors, torch.device(device or best_device()))
    except (KeyError, RuntimeError) as error:
        raise DataError(
            weights,
            f"weights that do not fit ({' '.join(str(error).split())})",
            f"those that {file.name} describes",
            ADVICE,
        ) from error
    return kept


def load(folder: str | Path, device: torch.device | str | None = None) -> ShapeSpace:
    """Any shape space, by its folder; DataError as `open_kept`, or where a network is kept there."""
    space = open_kept(folder, device)
    need(
        hasattr(space, "encode") and hasattr(space, "decode"),
        find(folder),
        f"a {type(space).__name__}",
        "a shape space",
        "Open it with load_network.",
    )
    return space


def made_here(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts about what was trained, and with what: shapelab's version, machine and versions of libraries."""
    return {**facts, "shapelab": __version__, **describe()}


def scheme_text(scheme: LabelScheme) -> dict[str, Any]:
    """A scheme as a description has it: nesting only where it is another than its structures' names say."""
    text = asdict(scheme)
    if scheme == LabelScheme(scheme.name, scheme.structures):
        del text["inside"]
    return text


def scheme_of(text: Mapping[str, Any]) -> LabelScheme:
    """A scheme from a description, as `asdict` or (older folders) with lists."""
    made = (Structure(**s) if isinstance(s, Mapping) else Structure(*s) for s in text["structures"])
    inside = text.get("inside")
    return LabelScheme(text["name"], tuple(made), None if inside is None else tuple(map(tuple, inside)))


# ----------------------------------------------------------------------------------------------------------- networks


class KeptNetwork(Kept):
    """A network that is built from one dataclass, and what is said of it.

    Attributes:
        task: "seg" or "sr", what it makes
        scheme: of the label maps
        metadata: where it comes from
    """

    FILE = NETWORK

    def __init__(
        self,
        network: nn.Module,
        task: str = "seg",
        scheme: LabelScheme = CARDIAC,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.network, self.task, self.scheme, self.metadata = network, task, scheme, dict(metadata or {})

    def kind(self) -> str:
        return kind_of(type(self.network))

    def description(self) -> dict[str, Any]:
        cls = type(self.network)
        config: Any = getattr(self.network, "config", None)
        must(
            config_class(cls) is not None and is_dataclass(config) and "<locals>" not in self.kind(),
            "network",
            cls.__name__,
            f"one of {list(KINDS)}, or a class of a module, built from one dataclass, Network(config), that it "
            "has as its `config`",
        )
        about = {"task": self.task, "config": numbers_of(config), "scheme": scheme_text(self.scheme)}
        return {**about, "metadata": made_here(self.metadata)}

    def tensors(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    @classmethod
    def rebuilt(cls, text: Mapping[str, Any]) -> KeptNetwork:
        network = class_of(text["kind"])
        made = network(config_class(network)(**text["config"]))  # type: ignore[misc]  # None: a TypeError that is told
        return cls(made, text["task"], scheme_of(text["scheme"]), text.get("metadata", {}))

    def restore(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        self.network.load_state_dict(tensors)
        self.network.to(device).eval()
        vars(self.network).update(task=self.task, scheme=self.scheme, metadata=self.metadata)


def config_class(network: type[nn.Module]) -> type | None:
    """The dataclass that a network is built from, by the annotation of `config`; None: there is none."""
    hint = get_type_hints(network.__init__).get("config")
    return next((kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)), None)


def save_network(
    folder: str | Path,
    network: nn.Module,
    *,
    task: str = "seg",
    scheme: LabelScheme = CARDIAC,
    metadata: Mapping[str, Any] | None = None,
    half: bool = False,
) -> Path:
    """Keep a network in a folder (`KeptNetwork`); `half` : weights as fp16, half the size (they are used as fp32)."""
    return KeptNetwork(network, task, scheme, metadata).save(folder, half)


def load_network(folder: str | Path, device: torch.device | str | None = None) -> Any:
    """Any network by its folder, in evaluation mode, with `task`, `scheme`, `metadata` set on it; or the
    `NativeSegmenter` that is kept there.

    DataError naming the file if it is missing, damaged, of an unknown kind, or does not fit its config.
    """
    need(find(folder) is not None, Path(folder) / NETWORK, "no such file", "the description of a saved network", ADVICE)
    kept = open_kept(folder, device)
    need(
        kept.FILE == NETWORK,
        find(folder),
        f"a {type(kept).__name__}",
        "a network",
        "Open it with shapelab.spaces.load.",
    )
    return kept.network if isinstance(kept, KeptNetwork) else kept
