"""Reader of MM-WHS, the Multi-Modality Whole Heart Segmentation challenge (Zhuang et al., Medical Image Analysis
58:101537, 2019): 60 CT and 60 MR of whole hearts, 20 of each with seven structures outlined.

Layout, the publisher's archives side by side, or all files in one folder; names in any case::

    ct_train/ct_train_1001_image.nii.gz  ct_train_1001_label.nii.gz
    mr_train/mr_train_1001_image.nii.gz  mr_train_1001_label.nii.gz
    ct_test/ct_test_2001_image.nii.gz                               blind: no label map; mr_test likewise

Axes are what the affine says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from shapelab.data.cards import Card, register
from shapelab.data.reading import Scan, volumes
from shapelab.data.scheme import WHOLE_HEART

#: The challenge's integers -> those of `WHOLE_HEART`. 421 is a slip in published label maps, for 420.
MMWHS = {500: 1, 205: 2, 600: 3, 420: 4, 421: 4, 550: 5, 820: 6, 850: 7}
#: The order 1 myocardium, 2 LA, 3 LV, 4 RA, 5 RV, 6 aorta, 7 pulmonary artery, which public CT cohorts use.
MYO_FIRST = {1: 2, 2: 4, 3: 1, 4: 5, 5: 3, 6: 6, 7: 7}
SLIPS = {421: 420}
_FOLDERS = ("", "ct_train", "mr_train", "ct_test", "mr_test")
_CASE = re.compile(r"((ct|mr)_(train|test)_\d+)_(?:image|label)")


def recognise(root: Path) -> bool:
    """Whether `root` holds files named as MM-WHS names them; looks at names only."""
    return bool(_cases(Path(root)))


def scan(root: str | Path, mapping: Mapping[int, int] | None = None) -> Scan:
    """Find scans and label maps.

    Args:
        mapping: the files' integers -> those of `WHOLE_HEART`, such as `MYO_FIRST` for label maps that were renumbered;
            None: the challenge's, `MMWHS`

    Facts of a subject: patient (such as "ct_train_1001"; nobody is in both modalities), modality ("CT", "MR"), subset.
    """
    found = Scan("mmwhs", Path(root), WHOLE_HEART, MMWHS if mapping is None else mapping, slips=SLIPS)
    for name, (modality, subset, folder) in _cases(found.root).items():
        label = f"{name}_label"
        labels = (
            [label] if subset == "train" or label in volumes(folder) else []
        )  # those of the blind test are held back
        facts = {"patient": name, "modality": modality.upper(), "subset": f"{subset}ing"}
        found.find(name, folder, [f"{name}_image"], labels, facts)
    return found


def _cases(root: Path) -> dict[str, tuple[str, str, Path]]:
    """Name of a case -> its modality, subset and folder; CT first, by number."""
    cases = {
        match[1]: (match[2], match[3], root / inside)
        for inside in _FOLDERS
        for name in volumes(root / inside)
        if (match := _CASE.fullmatch(name))
    }
    return dict(sorted(cases.items()))


register(
    Card(
        "mmwhs",
        "MM-WHS: whole hearts in CT and MR, seven structures",
        home="https://zmiclab.github.io/zxh/0/mmwhs/",
        licence="research use after registration",
        citation="Zhuang and Shen, Multi-scale patch and multi-modality atlases for whole heart segmentation of MRI, "
        "Medical Image Analysis 31:77-87, 2016, doi:10.1016/j.media.2016.02.006; "
        "Zhuang et al., Evaluation of algorithms for Multi-Modality Whole Heart Segmentation: An open-access grand "
        "challenge, Medical Image Analysis 58:101537, 2019, doi:10.1016/j.media.2019.101537",
        layout="ct_train/ct_train_1001_image.nii.gz and ct_train_1001_label.nii.gz, mr_train/ likewise, or all in one "
        "folder",
        folder="MM-WHS",
        scheme=WHOLE_HEART,
        phantom='open_cohort("phantom-wh")',
        recognise=recognise,
        scan=scan,
    )
)
