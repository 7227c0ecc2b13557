"""The data sets shapelab knows: what they are, where they come from, how they lie on disk, and how to open them."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from shapelab.data.cohort import Cohort
from shapelab.data.reading import OnError, Scan, to_cohort
from shapelab.errors import DataError, UsageError

#: Environment variable that names the folder of data sets.
VARIABLE = "SHAPELAB_DATA"
_PHANTOM = 'open_cohort("phantom")'
_US_PHANTOM = 'open_cohort("phantom-us")'


@dataclass(frozen=True)
class Card:
    """One data set.

    name : what `open_cohort` calls it
    title, home, licence, citation : as its publisher gives them
    layout : how the files must lie
    folder : its folder under SHAPELAB_DATA; "" if it has no fixed one
    fetchable : whether `shapelab data fetch` can download it
    phantom : what to open instead where it is not at hand
    reader : module and function that scan it; "" for the phantom
    """

    name: str
    title: str
    home: str
    licence: str
    citation: str
    layout: str
    folder: str
    fetchable: bool
    phantom: str
    reader: str = ""

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


_CARDS = (
    Card(
        "acdc",
        "ACDC: short-axis cardiac MR, 150 patients in five groups",
        "https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html",
        "CC BY-NC-SA 4.0",
        "Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-Structures Segmentation and "
        "Diagnosis: Is the Problem Solved?, IEEE TMI 37(11):2514-2525, 2018, doi:10.1109/TMI.2018.2837502",
        "training/patientNNN/ (and testing/) with Info.cfg, patientNNN_frameMM.nii.gz and patientNNN_frameMM_gt.nii.gz",
        "acdc",
        False,
        _PHANTOM,
        "acdc.scan",
    ),
    Card(
        "hippocampus",
        "Decathlon task 4: hippocampus in MR, 260 label maps",
        "http://medicaldecathlon.com",
        "CC BY-SA 4.0",
        "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022, "
        "doi:10.1038/s41467-022-30695-9; Simpson et al., arXiv:1902.09063",
        "dataset.json, imagesTr/hippocampus_NNN.nii.gz and labelsTr/hippocampus_NNN.nii.gz",
        "Task04_Hippocampus",
        True,
        _PHANTOM,
        "decathlon.scan_hippocampus",
    ),
    Card(
        "decathlon",
        "another Decathlon task of one channel",
        "http://medicaldecathlon.com",
        "CC BY-SA 4.0",
        "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022, "
        "doi:10.1038/s41467-022-30695-9",
        "dataset.json, imagesTr/ and labelsTr/",
        "",
        False,
        _PHANTOM,
        "decathlon.scan",
    ),
    Card(
        "cetus",
        "CETUS: 3D ultrasound of the left ventricle, 45 patients",
        "https://www.creatis.insa-lyon.fr/Challenge/CETUS/",
        "CC BY-NC-SA 4.0",
        "Bernard et al., Standardized Evaluation System for Left Ventricular Segmentation Algorithms in 3D "
        "Echocardiography, IEEE TMI 35(4):967-977, 2016, doi:10.1109/TMI.2015.2503890",
        "patientNN/patientNN_ED.nii.gz and patientNN_ED_gt.nii.gz, and so for ES (or .mhd with _truth)",
        "CETUS",
        False,
        _US_PHANTOM,
        "cetus.scan",
    ),
    Card(
        "digital_heart",
        "UK Digital Heart: pairs of a short-axis stack and a 3D scan (not public)",
        "https://digital-heart.org",
        "not public: ask the UK Digital Heart Project",
        "de Marvao et al., Population-based studies of myocardial hypertrophy: high resolution cardiovascular "
        "magnetic resonance atlases improve statistical power, JCMR 16:16, 2014, doi:10.1186/1532-429X-16-16; "
        "Bai et al., A bi-ventricular cardiac atlas built from 1000+ high resolution MR images of healthy subjects "
        "and an analysis of shape and motion, Medical Image Analysis 26(1):133-145, 2015, "
        "doi:10.1016/j.media.2015.08.009",
        "SUBJECT/lvsa_ED.nii.gz (3D), seg_lvsa_ED.nii.gz and sa_ED.nii.gz (stack), and so for ES; other names by "
        "high=, label=, low=",
        "digital_heart",
        False,
        _PHANTOM,
        "digital_heart.scan",
    ),
    Card(
        "folder",
        "your own NIfTI label maps",
        "",
        "yours",
        "",
        "labels/*.nii.gz (and images/ with the same names), or X_gt.nii.gz beside X.nii.gz (also _label, _seg), or "
        "label maps alone; optional facts.csv with a column id",
        "",
        False,
        _PHANTOM,
        "folder.scan",
    ),
    Card(
        "phantom",
        "synthetic hearts, ED and ES, in ACDC's groups",
        "",
        "Apache-2.0 (made by shapelab)",
        "",
        "nothing on disk: made when asked for",
        "",
        False,
        "",
    ),
    Card(
        "phantom-us",
        "synthetic hearts in 3D ultrasound, ED and ES, in CETUS's groups",
        "",
        "Apache-2.0 (made by shapelab)",
        "",
        "nothing on disk: made when asked for",
        "",
        False,
        "",
    ),
)


def catalogue() -> dict[str, Card]:
    """Name -> card of every data set that `open_cohort` knows."""
    return {card.name: card for card in _CARDS}


def get_card(name: str) -> Card:
    """The card of that name; UsageError listing the names if there is none."""
    cards = catalogue()
    if name not in cards:
        raise UsageError(f"data set: found {name!r}; expected one of {', '.join(cards)}")
    return cards[name]


def open_cohort(name: str, root: str | Path | None = None, on_error: OnError = "raise", **options) -> Cohort:
    """Open a data set.

    Parameters
    ----------
    name : "acdc", "hippocampus", "decathlon", "cetus", "digital_heart", "folder", "phantom" or "phantom-us"; see
        `catalogue`
    root : its folder, or the folder of data sets that it lies in. None: looked for under the environment variable
        SHAPELAB_DATA
    on_error : "raise": the first bad file met is raised; headers are checked now, voxels when an array is asked for.
        "skip": every file is read now; each bad subject is warned about and left out, its errors kept in
        ``Cohort.skipped``
    options : acdc: subset="training"|"testing"; folder: scheme=LabelScheme, mapping={file's integer: scheme's};
        phantom: all that `shapelab.phantoms.heart_cohort` takes (defaults here: n=100, resolution="LR", scheme=CARDIAC,
        so that it looks as ACDC does); phantom-us: all that `shapelab.phantoms.ultrasound.us_cohort` takes;
        digital_heart: high, label, low (names with {phase}), mapping

    Raises
    ------
    UsageError : unknown name or option
    DataError : the data set is not there, or a file in it is not what it should be

    >>> open_cohort("acdc").filter(phase="ED", group=["NOR", "DCM"])       # doctest: +SKIP
    """
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error: found {on_error!r}; expected 'raise' or 'skip'")
    if get_card(name).reader:
        return to_cohort(scan(name, root, **options), on_error)
    return _open_phantom(name, root, options)


def scan(name: str, root: str | Path | None = None, **options) -> Scan:
    """What the data set's reader finds below `root`; see `shapelab.data.reading.Scan`."""
    card = get_card(name)
    module, function = _reader(card)
    try:
        inspect.signature(function).bind(root, **options)
    except TypeError:
        known = list(inspect.signature(function).parameters)[1:]
        raise UsageError(
            f"open_cohort({name!r}): found the options {sorted(options)}; expected some of {known}"
        ) from None
    return function(locate(name, root), **options)


def locate(name: str, root: str | Path | None = None) -> Path:
    """Folder of the data set: `root` itself, or its folder below `root`, or below SHAPELAB_DATA if root is None.

    Raises DataError that says how to get the data set, if it is at none of them.
    """
    card = get_card(name)
    if root is None:
        if not card.folder:
            raise UsageError(f"open_cohort({name!r}): found no root; expected root=FOLDER")
        base = os.environ.get(VARIABLE)
        if not base:
            raise card.missing(name, f"no environment variable {VARIABLE} and no root")
        candidates = [Path(base).expanduser() / card.folder]
    else:
        root = Path(root).expanduser()
        candidates = [root, root / card.folder] if card.folder else [root]
    recognise = _reader(card)[0].recognise
    for candidate in candidates:
        if recognise(candidate):
            return candidate
    where = candidates[0]
    found = "a folder without it" if where.is_dir() else "a file" if where.exists() else "no such folder"
    raise card.missing(where, found)


def _reader(card: Card) -> tuple[ModuleType, Callable[..., Scan]]:
    if not card.reader:
        raise UsageError(
            f"data set: found {card.name!r}, which is made and not read; open it with open_cohort({card.name!r})"
        )
    module_name, function = card.reader.split(".")
    module = importlib.import_module(f"shapelab.data.readers.{module_name}")
    return module, getattr(module, function)


def _open_phantom(name: str, root: str | Path | None, options: dict) -> Cohort:
    if root is not None:
        raise UsageError(f"open_cohort({name!r}): found a root; expected none, phantoms are made and not read")
    if name == "phantom-us":
        from shapelab.phantoms.ultrasound import us_cohort as make
    else:
        from shapelab.data.scheme import CARDIAC
        from shapelab.phantoms import heart_cohort as make

        options = {"n": 100, "resolution": "LR", "scheme": CARDIAC} | options
    known = inspect.signature(make).parameters
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(f"open_cohort({name!r}): found the options {unknown}; expected some of {list(known)}")
    return make(**options)
