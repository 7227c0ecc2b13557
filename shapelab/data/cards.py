"""The data sets shapelab knows: what they are, where they come from, how they lie on disk, and how to open them.

Each stands in a file of its own in `shapelab.data.readers`, which registers its `Card` here; the catalogue finds the
files by itself. A reader that lies elsewhere registers too, by being imported.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from shapelab.data import readers
from shapelab.data.cohort import Cohort
from shapelab.data.reading import ON_ERROR, OnError, Scan, to_cohort
from shapelab.data.scheme import LabelScheme
from shapelab.errors import DataError, must, one_of

T = TypeVar("T")
#: Environment variable that names the folder of data sets.
VARIABLE = "SHAPELAB_DATA"
#: Name -> card, in the order of registration; `catalogue` sorts them.
REGISTERED: dict[str, Card] = {}


@dataclass(frozen=True)
class Source:
    """Where an archive is and how it is known; its size in bytes. It holds one folder, the card's."""

    url: str
    known_hash: str
    size: int

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Card:
    """One data set.

    Attributes:
        name: what `open_cohort` calls it
        title: as its publisher gives them
        home: as its publisher gives them
        licence: as its publisher gives them
        citation: as its publisher gives them
        layout: how the files must lie
        folder: its folder under SHAPELAB_DATA; "" if it has no fixed one
        scheme: what its label maps hold; None: differs from one to the next
        source: the archive that `shapelab data fetch` downloads, if its publisher allows that
        phantom: what to open instead where it is not at hand
        recognise: whether a folder holds it; looks at names and small text files only
        scan: (root, options by name) -> `Scan`, what the folder holds
        make: for a data set that is made, not read: gives the function (options by name) -> `Cohort`
        general: the layout is so general that all others are asked first what a folder is
    """

    name: str
    title: str
    licence: str
    layout: str
    home: str = ""
    citation: str = ""
    folder: str = ""
    scheme: LabelScheme | None = None
    source: Source | None = None
    phantom: str = 'open_cohort("phantom")'
    recognise: Callable[[Path], bool] | None = None
    scan: Callable[..., Scan] | None = None
    make: Callable[[], Callable[..., Cohort]] | None = None
    general: bool = False

    @property
    def fetchable(self) -> bool:
        """Whether `shapelab data fetch` can download it."""
        return self.source is not None

    @property
    def how_to_get(self) -> str:
        """One sentence: where the data comes from and where it goes."""
        where = f"SHAPELAB_DATA/{self.folder}"
        if self.fetchable:
            return (
                f"Download it with `shapelab data fetch {self.name}` (from {self.home}, licence {self.licence}) "
                f"into {where}."
            )
        if self.folder:
            return (
                f"Download it by hand from {self.home} (licence {self.licence}; a registration or a click is asked "
                f"for) and unpack it into {where}."
            )
        got = f"Download it by hand from {self.home} (licence {self.licence}). " if self.home else ""
        return f"{got}Give the folder that holds it: root=FOLDER."

    def missing(self, where: str | Path, found: str) -> DataError:
        """The one message for a data set that is not there."""
        instead = f" Until then, {self.phantom} gives synthetic hearts and needs no data." if self.phantom else ""
        return DataError(where, found, f"{self.title}, laid out as {self.layout}", self.how_to_get + instead)


def register(card: Card) -> Card:
    """Add a data set to the catalogue; returns the card. UsageError: no way to open it, or a name that is taken."""
    must(
        (card.make is None) != (card.scan is None or card.recognise is None),
        "register",
        f"{card.name!r} with neither or both",
        "scan and recognise, or make",
    )
    held = REGISTERED.setdefault(card.name, card)
    must(
        (held.scan or held.make).__module__ == (card.scan or card.make).__module__,
        "register",
        f"the name {card.name!r} again",
        "a new one",
    )
    REGISTERED[card.name] = card
    return card


def catalogue() -> dict[str, Card]:
    """Name -> card of every data set that `open_cohort` knows: those that are read, then those that are made.

    Also the order in which a folder is asked what it is: data sets of a fixed folder first, general layouts last.
    """
    for module in pkgutil.iter_modules(readers.__path__, f"{readers.__name__}."):
        importlib.import_module(module.name)
    order = sorted(REGISTERED.values(), key=lambda c: (c.make is not None, c.general, not c.folder, c.name))
    return {card.name: card for card in order}


def get_card(name: str) -> Card:
    """The card of that name; UsageError listing the names if there is none."""
    cards = catalogue()
    return cards[one_of("data set", name, cards)]


def data_sets(scheme: LabelScheme) -> tuple[str, ...]:
    """Names of the data sets whose label maps are of this scheme, and of those of a general layout, which may be.

    >>> data_sets(CARDIAC)       # doctest: +SKIP
    ('acdc', 'folder', 'phantom')
    """
    return tuple(name for name, card in catalogue().items() if card.general or card.scheme == scheme)


def recognise(path: Path) -> str | None:
    """Name of the data set that lies in a folder; None if no reader knows it."""
    return next((card.name for card in catalogue().values() if card.recognise and card.recognise(path)), None)


def open_cohort(name: str, root: str | Path | None = None, on_error: OnError = "raise", **options: Any) -> Cohort:
    """Open a data set.

    Args:
        name: "acdc", "cetus", "hippocampus", "lpba40", "mmwhs", "decathlon", "folder", "phantom", "phantom-us",
            "phantom-wh" or one that was registered; see `catalogue`
        root: its folder, or the folder of data sets that it lies in. None: looked for under the environment variable
            SHAPELAB_DATA
        on_error: "raise": the first bad file met is raised; headers are checked now, voxels when an array is asked for.
            "skip": every file is read now; each bad subject is warned about and left out, its errors kept in
            ``Cohort.skipped``
        options: acdc, cetus: subset="training"|"testing"; folder: scheme=LabelScheme, mapping={file's integer:
            scheme's}; mmwhs: mapping; phantom: all that `shapelab.phantoms.heart_cohort` takes (defaults here: n=100,
            resolution="LR", scheme=CARDIAC, so that it looks as ACDC does); phantom-us: all that
            `shapelab.phantoms.ultrasound.us_cohort` takes

    Raises:
        UsageError: unknown name or option
        DataError: the data set is not there, or a file in it is not what it should be

    >>> open_cohort("acdc").filter(phase="ED", group=["NOR", "DCM"])       # doctest: +SKIP
    """
    one_of("on_error", on_error, ON_ERROR)
    card = get_card(name)
    if card.make is None:
        return to_cohort(scan(name, root, **options), on_error)
    must(root is None, f"open_cohort({name!r})", "a root", "none, phantoms are made and not read")
    return _called(card, card.make(), options)


def scan(name: str, root: str | Path | None = None, **options: Any) -> Scan:
    """What the data set's reader finds below `root`; see `shapelab.data.reading.Scan`."""
    card, folder = get_card(name), locate(name, root)
    assert card.scan is not None  # what can be located is read, and not made
    return _called(card, partial(card.scan, folder), options)


def locate(name: str, root: str | Path | None = None) -> Path:
    """Folder of the data set: `root` itself, or its folder below `root`, or below SHAPELAB_DATA if root is None.

    Raises DataError that says how to get the data set, if it is at none of them.
    """
    card = get_card(name)
    must(card.make is None, "data set", f"{name!r}, which is made and not read", f"open_cohort({name!r})")
    if root is None:
        must(card.folder, f"open_cohort({name!r})", "no root", "root=FOLDER")
        base = os.environ.get(VARIABLE)
        if not base:
            raise card.missing(name, f"no environment variable {VARIABLE} and no root")
        candidates = [Path(base).expanduser() / card.folder]
    else:
        root = Path(root).expanduser()
        candidates = [root, root / card.folder] if card.folder else [root]
    if there := next(filter(card.recognise, candidates), None):
        return there
    where = candidates[0]
    raise card.missing(
        where, ("a folder without it" if where.is_dir() else "a file" if where.exists() else "no such folder")
    )


def _called(card: Card, function: Callable[..., T], options: dict[str, Any]) -> T:
    """What the function returns; UsageError naming the options that it does not take."""
    known = list(inspect.signature(function).parameters)
    unknown = sorted(set(options) - set(known))
    must(not unknown, f"open_cohort({card.name!r})", f"the options {unknown}", f"some of {known}")
    return function(**options)
