"""What all configurations do alike: the numbers of a profile, and their way back from JSON.

A profile is resolved once, where a run begins (`AEConfig.profile("quick", epochs=3)`); from there the configuration
travels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, Union, get_args, get_origin, get_type_hints

from shapelab.data.grid import Grid
from shapelab.profiles import current_profile, limited, limits

if TYPE_CHECKING:
    from shapelab.types import Shape3, Vector3

    class HasBox(Protocol):
        """A configuration of label maps on a grid."""

        @property
        def shape(self) -> Shape3: ...
        @property
        def spacing(self) -> Vector3: ...


#: Fields that are younger than kept results, each with the value that stands for how it was before. With that value a
#: field is left out of keys, descriptions and identities: they stay those of old, and one without the field means it.
LATER: Mapping[str, Any] = {"decay": "all"}


def numbers_of(config: Any) -> dict[str, Any]:
    """`dataclasses.asdict`, as keys, descriptions and identities have it: fields of `LATER` only where they differ."""
    return asdict(config, dict_factory=lambda pairs: {k: v for k, v in pairs if (k, v) not in LATER.items()})


class Config:
    """Base of frozen dataclasses of numbers, whose defaults are those of the profile "quick".

    Attributes:
        PROFILES: profile -> the fields whose numbers differ from the defaults. A mapping for a field that is a `Config`
            itself holds changes of that one's profile of the same name.

    What JSON cannot hold is made again when an instance is made: lists become tuples, and mappings become the
    dataclass that the field's annotation names (lists of them as well). A subclass with a `__post_init__` of its own
    calls this one first.
    """

    PROFILES: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        own: type = type(self)
        for name, kind in _kinds(own).items():
            object.__setattr__(self, name, _restored(kind, getattr(self, name)))

    @classmethod
    def profile(cls, name: str | None = None, **changes: Any) -> Self:
        """The numbers of a profile ("quick", "full", "paper"; None: the current one), some of them changed by name."""
        name = current_profile(name)
        own: type = cls
        numbers = dict(cls.PROFILES.get(name, {}))
        for field, value in numbers.items():
            kind = _kinds(own)[field]
            if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, Config):
                numbers[field] = kind.profile(name, **{k: limited(v, k, name) for k, v in value.items()})
        return cls(**{**numbers, **_limited(cls, name, numbers), **changes})

    @property
    def grid(self: HasBox) -> Grid:
        """The grid of `shape` (voxels) and `spacing` (mm), where the configuration has both."""
        return Grid(self.shape, self.spacing)


def _limited(cls: type, profile: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a profile that a limit holds down, and the grid where it shall be coarser (`profiles.limits`)."""
    found = {f.name: numbers.get(f.name, f.default) for f in fields(cls)}
    held = {
        name: limited(value, name, profile)
        for name, value in found.items()
        if value is not MISSING and name in limits()
    }
    coarser = limits().get("coarser", 1) if profile == "full" else 1
    if coarser > 1 and {"shape", "spacing"} <= set(found):
        (x, y, z), (dx, dy, dz) = found["shape"], found["spacing"]
        held |= {"shape": (x // coarser, y // coarser, z), "spacing": (dx * coarser, dy * coarser, dz)}
        # kernels at the coarsest scale: a code is told from as many numbers as in the whole grid
        held |= {name: found[name] * coarser**2 for name in ("bottleneck", "last") if name in found}
    return held


@cache
def _kinds(cls: type) -> dict[str, Any]:
    """Field -> what its annotation names; of X | None: X."""
    hints, kinds = get_type_hints(cls), {}
    for field in fields(cls):
        kind = hints[field.name]
        if get_origin(kind) in (Union, UnionType):
            kind = next(k for k in get_args(kind) if k is not type(None))
        kinds[field.name] = kind
    return kinds


def _restored(kind: Any, value: Any) -> Any:
    """A field's value as its annotation has it, from what was read as JSON."""
    if value is None:
        return None
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, Mapping):
        return kind(**value)
    if get_origin(kind) is tuple:
        return tuple(_restored(get_args(kind)[0], part) for part in value)
    return value
