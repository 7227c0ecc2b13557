"""What a training depends on, as JSON holds it: a checkpoint is taken up only by the training that it was made by.

No trainer has to list what its step uses. It is found where Python keeps it: in the closure of `step`, the globals that
it names, the object whose method it is. What counts there:

    a network that is not trained (prior, teacher, decoder)    class, numbers, checksum of its weights
    a loss: any object that is called                          class and all its attributes
    a configuration (dataclass)                                class and all its fields
    an array                                                   its checksum
    a function                                                 its name, and what it uses in turn
    what has an `identity`: a mapping, or a method giving one  that

Single numbers and texts of a closure, and devices anywhere, do not: a counter, a clock or the name of a file would make
another training of the same one. A number that changes the result belongs into a configuration or a loss, or into
`Run.identity`.
"""

from __future__ import annotations

import inspect
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from textwrap import shorten
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from shapelab.errors import need
from shapelab.tensor_files import checksum
from shapelab.training.config import LATER

if TYPE_CHECKING:
    from shapelab.training.watching import Training

DEEPEST = 8  # objects within objects
ROUNDED = "~"  # before the checksum of floats that were computed: another machine's differ in the last bits
#: What identities of an earlier shapelab lack: a checkpoint without it is taken up unless something else differs.
YOUNGER = ("fit",)
SILENT = ("training", "metadata", "history")  # attributes that say how something came about
DONE = "all epochs done"  # why most trainings end
NOTHING = object()


def fingerprint(thing: Any) -> Any:
    """What makes a loss, a network or a configuration this one and no other, as JSON gives it back."""
    found = _Description().of(thing)
    return json.loads(json.dumps(None if found is NOTHING else found))


def identity_of(training: Training, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """What `fit` was called with, whatever of it changes the result; `run.identity`, seed and epochs are not in it."""
    about = _Description(training.model)
    parts = {
        "model": about.module(training.model),
        "optimiser": about.optimiser(optimiser) if training.optimiser else "by the settings",
        "batches": about.of(training.batches),
        "step": about.of(training.step, numbers=False),
        "validate": None if training.validate is None else about.of(training.validate, numbers=False),
    }
    return {name: {} if part is NOTHING else part for name, part in parts.items()}


# ------------------------------------------------------------------------------------------------ one with another


@dataclass(frozen=True)
class Difference:
    """Something in which two identities differ: where, and what was found and asked there; None: nothing."""

    where: str
    found: Any
    asked: Any

    @property
    def by_rounding(self) -> bool:
        """Whether both are checksums of computed floats, which another machine rounds otherwise."""
        return all(isinstance(value, str) and value.startswith(ROUNDED) for value in (self.found, self.asked))


@dataclass(frozen=True)
class Compared:
    """A checkpoint beside the run that asks for it: in what it is another's, why that can't be, what is uncertain."""

    differing: Sequence[Difference]
    why: str = ""
    notes: Sequence[str] = ()

    def check(self, file: Path, advice: str, but: str = "none") -> None:
        """DataError naming what differs, where something does; `but`: what begins so is left out."""
        differing = [d for d in self.differing if not d.where.startswith(but)]
        found, asked = (
            "; ".join(f"{d.where.removeprefix('fit.')} {_shown(getattr(d, which))}" for d in differing)
            for which in ("found", "asked")
        )
        need(
            not differing,
            file,
            f"a checkpoint with {found}",
            f"one of this run, with {asked}",
            f"{self.why}{advice}",
        )


def _shown(value: Any) -> str:
    """A value of an identity in a message: of an object its class, and the checksum of its weights."""
    if isinstance(value, dict) and "class" in value:
        return " ".join(str(value[name]) for name in ("class", "weights") if name in value)
    return "none" if value is None else shorten(str(value), 200)


def compared(state: Mapping[str, Any], identity: Mapping[str, Any], machine: Mapping[str, Any]) -> Compared:
    """Whether a run of this identity goes on from a checkpoint's `state`; with more epochs it may, see `_longer`."""
    younger, notes = [name for name in YOUNGER if name not in state["identity"]], []
    asked = {name: value for name, value in identity.items() if name not in younger}
    differing = [*differences(state["identity"], asked)]
    there = state["machine"]
    if any(there.get(name, value) != value for name, value in machine.items()):
        rounded = ", ".join(d.where for d in differing if d.by_rounding)
        differing = [d for d in differing if not d.by_rounding]
        notes += [
            f"the run began with {there} and continues on {machine}",
            "results will agree to rounding, not in every bit",
            *([f"other numbers, by rounding or because they are others: {rounded}"] if rounded else []),
        ]
    if younger:
        notes += ["an older shapelab made it, which noted neither loss, prior, optimiser nor batches: not compared"]
    longer = "epochs" in (d.where for d in differing)
    why = _not_longer(state, identity) if longer else ""
    if longer and not why:
        differing = [d for d in differing if d.where.rpartition(".")[2] not in ("epochs", "validate_every")]
    return Compared(differing, why, notes)


def _not_longer(state: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Why a run can't go on to another number of epochs; "": it can, and ends in the weights of one that had them from
    its first step."""
    schedule = identity["settings"]["schedule"]
    if schedule != "constant":
        return (
            f"With the schedule {schedule!r} each step's learning rate depends on the number of epochs: "
            "with another number it is another run from its first step. "
        )
    if state["epoch"] > identity["epochs"] or (state["stopped"] and state["epoch"] == identity["epochs"]):
        return f"It has done {state['epoch']} epochs already. "
    if state["stopped"] and identity["settings"]["patience"] is not None:
        return "It has ended, and holds the weights of its best epoch, not of its last. "
    return ""


def differences(found: Any, asked: Any, where: str = "") -> Iterator[Difference]:
    """All that differs in two identities."""
    if isinstance(found, dict) and isinstance(asked, dict) and found.get("class") == asked.get("class"):
        for name in sorted({*found, *asked}, key=lambda name: (name in YOUNGER, name)):  # causes first
            yield from differences(found.get(name), asked.get(name), f"{where}.{name}".lstrip("."))
    elif found != asked:
        yield Difference(where, found, asked)


# ------------------------------------------------------------------------------------------------- what is described


class _Description:
    """One look at a training: what is trained is left out of it, and what holds itself is met once."""

    def __init__(self, trained: nn.Module | None = None) -> None:
        of_it = [] if trained is None else [*trained.modules(), *trained.parameters(), *trained.buffers()]
        self.trained = {id(part) for part in of_it}
        self.within: list[int] = []  # the objects that are being looked into
        self.sums: dict[
            int, tuple[Any, str]
        ] = {}  # of arrays that were met; each is held, so that its id stays its own

    def of(self, value: Any, numbers: bool = True) -> Any:
        """A value, or NOTHING; `numbers`: single numbers and texts in it count."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)  # or NaN would differ from itself
        if value is None or isinstance(value, bool | int | float | str):
            return value if numbers else NOTHING
        if isinstance(value, torch.dtype | Path | Enum | type):
            return str(value) if numbers else NOTHING
        if isinstance(value, Tensor | np.ndarray):
            return NOTHING if id(value) in self.trained else self.array(value)
        if id(value) in self.within or len(self.within) == DEEPEST:
            return NOTHING
        self.within.append(id(value))
        try:
            return self.object(value, numbers)
        finally:
            self.within.pop()

    def object(self, value: Any, numbers: bool) -> Any:
        """What is neither a number nor an array."""
        if isinstance(value, Mapping):
            return self.parts(value, numbers)
        if isinstance(value, list | tuple | set | frozenset):
            items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            held = [item for item in (self.of(item, numbers) for item in items) if item is not NOTHING]
            return held if held or numbers else NOTHING
        if isinstance(value, FunctionType):
            return self.function(value)
        if isinstance(value, MethodType):
            return self.parts({"function": value.__func__, "of": value.__self__}, numbers)
        if isinstance(value, partial):
            return self.parts({"function": value.func, "arguments": [*value.args, value.keywords]}, True)
        if isinstance(value, nn.Module):
            return NOTHING if id(value) in self.trained else self.module(value)
        name = {"class": type(value).__qualname__}
        said = getattr(value, "identity", None)
        said = said() if isinstance(said, MethodType) else said
        if isinstance(said, Mapping):
            return {**name, **self.parts(said, True)}
        if is_dataclass(value):
            told = {f.name: getattr(value, f.name, None) for f in fields(value)}
            return {**name, **self.parts({k: v for k, v in told.items() if (k, v) not in LATER.items()}, True)}
        attributes = getattr(value, "__dict__", {})
        if callable(value):
            named = {"class": getattr(value, "__name__", name["class"])}  # a compiled function has a name
            return {**named, **self.parts(attributes, True)}
        told = self.parts({k: v for k, v in attributes.items() if not k.startswith("_") and k not in SILENT}, numbers)
        return {**name, **told} if numbers else told

    def parts(self, parts: Mapping[Any, Any], numbers: bool) -> Any:
        """The values of a mapping by their names; loosely NOTHING where none of them counts."""
        told = {str(name): self.of(value, numbers) for name, value in parts.items()}
        told = {name: value for name, value in told.items() if value is not NOTHING}
        return told if told or numbers else NOTHING

    def function(self, function: FunctionType) -> Any:
        """A function's name, and what it uses: its closure and defaults, and of the globals that it names those that
        are no functions of other modules."""
        try:
            names = inspect.getclosurevars(function)
        except ValueError:  # a name that has no value yet
            names = inspect.ClosureVars({}, {}, {}, set())
        used = {**names.nonlocals, "defaults": [*(function.__defaults__ or ())]}
        for name, value in names.globals.items():
            if isinstance(value, FunctionType) and value.__module__ == function.__module__:
                theirs = self.of(value, False)
                used |= {name: value} if isinstance(theirs, dict) and len(theirs) > 1 else {}
            elif not isinstance(value, FunctionType | BuiltinFunctionType | ModuleType | type):
                used[name] = value
        found = self.parts(used, False)
        return {"function": function.__name__, **({} if found is NOTHING else found)}

    def module(self, module: nn.Module) -> dict[str, Any]:
        """A network: its class and numbers, its layers as they print themselves, and weights not trained."""
        own = {k: v for k, v in vars(module).items() if not k.startswith("_") and k not in SILENT}
        state = module.state_dict(keep_vars=True).items()
        weights = {k: v for k, v in state if isinstance(v, Tensor) and id(v) not in self.trained}
        layers = f"{zlib.crc32(repr(module).encode()):08x}"
        told = {"class": type(module).__qualname__, **self.parts(own, True), "layers": layers}
        return {**told, "weights": checksum(weights)} if weights else told

    def optimiser(self, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Its class, and each group's numbers; what is off or 0 is left out: younger versions of torch have more."""
        groups = {}
        for i, group in enumerate(optimiser.param_groups):
            told = {k: v for k, v in group.items() if k != "params" and (isinstance(v, Tensor) or v)}
            groups[str(i)] = self.parts({**told, "tensors": len(group["params"])}, True)
        return {"class": type(optimiser).__qualname__, "groups": groups}

    def array(self, array: Tensor | np.ndarray) -> str:
        """Its checksum."""
        if id(array) not in self.sums:
            self.sums[id(array)] = array, _checksum(array)
        return self.sums[id(array)][1]


def _checksum(array: Tensor | np.ndarray) -> str:
    """The checksum of an array, floats marked as `ROUNDED`."""
    floats = array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind in "fc"
    try:
        return f"{ROUNDED if floats else ''}{checksum({'': array})}"
    except TypeError:  # texts and objects
        return f"{zlib.crc32(repr(array.tolist()).encode()):08x}"
