"""Names for what arguments are, for annotations: nothing here is needed when the program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar, Union

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

#: Three numbers, one an axis, as a user may give them: voxel sizes in mm, a place, a displacement.
Triple: TypeAlias = Union["Sequence[float]", "np.ndarray"]
#: An array of either library.
Array: TypeAlias = Union["np.ndarray", "Tensor"]
#: A shape of three axes, and three numbers, as the library gives them back.
Shape3: TypeAlias = tuple[int, int, int]
Vector3: TypeAlias = tuple[float, float, float]
#: One kind of array all through a computation.
Kind = TypeVar("Kind", "np.ndarray", "Tensor")
#: A network, and what comes back is the same one.
Network = TypeVar("Network", bound="nn.Module")
