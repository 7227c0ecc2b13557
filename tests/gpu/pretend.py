"""A pretended GPU: tensors that say they are on another device (torch's "lazy") and compute on the CPU.

So code that runs on a GPU is tested without one: the numbers are those of the GPU's path; an operation between a tensor
of the pretended device and one of the CPU is an error, as it would be there; and each wait for the device is counted
(a number read back, a size that depends on values, a copy to the CPU).
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("lazy")
aten = torch.ops.aten
READS = (aten._local_scalar_dense, aten.nonzero, aten.unique_dim, aten._unique2, aten.unique_consecutive,
         aten.masked_select, aten.equal, aten.bincount, aten.is_nonzero)  # fmt: skip
COPIES = (aten._to_copy, aten.copy_)
INDEXED = (aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_)  # a GPU takes indices from the CPU


class Pretended(Tensor):
    """A tensor that says it is on the pretended device; `inner` holds its numbers."""

    @staticmethod
    def __new__(cls, inner: Tensor, mode: Pretence):
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.inner, made.mode = inner, mode
        return made

    def __repr__(self) -> str:
        return f"Pretended({self.inner})"

    def tolist(self):
        self.mode.wait("tolist")
        return self.inner.tolist()

    def numpy(self):
        raise TypeError("can't convert a tensor of the pretended device to numpy; use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function}: a tensor of the pretended device outside `Pretence`")


class _Generator(torch.Generator):
    """A generator that may say it is on the pretended device."""

    def __new__(cls, device: torch.device | str = "cpu"):
        made = super().__new__(cls)
        made.said = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.said


class Pretence(TorchDispatchMode):
    """Context in which the device "lazy" is a GPU. `waits` counts what a GPU would have to be waited for, by name."""

    def __init__(self):
        super().__init__()
        self.waits: dict[str, int] = {}
        self.before = []  # what the next exits put back

    def __enter__(self) -> Self:
        self.before.append((torch._C._only_lift_cpu_tensors(), torch.Generator))
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) then goes through this mode, too
        torch.Generator = _Generator
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        lift, torch.Generator = self.before.pop()
        torch._C._set_only_lift_cpu_tensors(lift)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if torch.is_inference_mode_enabled():  # operations made of others come here whole
            with self:
                if (made := function.decompose(*args, **kwargs)) is not NotImplemented:
                    return made
        packet = function.overloadpacket
        tensors = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        there = any(isinstance(t, Pretended) for t in tensors)
        target = kwargs.get("device")
        onto = torch.device(target).type == DEVICE.type if target is not None else there
        if there and packet not in COPIES:
            where = [t for t in args if isinstance(t, Tensor)][:1] if packet in INDEXED else tensors
            strangers = [t for t in where if not isinstance(t, Pretended) and t.ndim > 0]
            if strangers:
                raise RuntimeError(f"{function}: {[tuple(t.shape) for t in strangers]} are on the CPU, others are not")
        if there and (packet in READS or (target is not None and not onto) or _reads_back(packet, args)):
            self.wait(str(packet))
        if target is not None and onto:
            kwargs["device"] = torch.device("cpu")
        real = function(*tree_map(_real, args), **tree_map(_real, kwargs))
        if packet is aten._local_scalar_dense:
            return real
        if packet is aten._to_copy and real is _real(args[0]):
            real = real.clone()
        same = {id(_real(t)): t for t in tensors}
        return tree_map(
            lambda t: same.get(id(t), Pretended(t, self) if onto else t) if isinstance(t, Tensor) else t, real
        )

    def wait(self, why: str) -> None:
        """Count one wait for the device."""
        self.waits[why] = self.waits.get(why, 0) + 1


def _reads_back(packet, args) -> bool:
    """Copies to the CPU, and sizes that depend on the values of a mask."""
    if packet is aten.copy_:
        return not isinstance(args[0], Pretended) and isinstance(args[1], Pretended)
    masks = packet is aten.index or (packet in INDEXED and args[2].ndim > 0)  # one number is filled in by the mask
    return masks and any(isinstance(i, Pretended) and i.dtype == torch.bool for i in args[1])


def _real(value):
    return value.inner if isinstance(value, Pretended) else value
