"""Hearts that are made and not read: `shapelab.phantoms` as data sets, so that whatever runs on data runs without.

The phantoms' room stands below this one, so it is imported when a heart is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from shapelab.data.cards import Card, register
from shapelab.data.cohort import Cohort
from shapelab.data.scheme import CARDIAC, LV_CAVITY, WHOLE_HEART


def short_axis() -> Callable[..., Cohort]:
    """`shapelab.phantoms.heart_cohort`, set so that it looks as ACDC does."""
    from shapelab.phantoms import heart_cohort

    return partial(heart_cohort, n=100, resolution="LR", scheme=CARDIAC)


def ultrasound() -> Callable[..., Cohort]:
    """`shapelab.phantoms.ultrasound.us_cohort`."""
    from shapelab.phantoms.ultrasound import us_cohort

    return us_cohort


def whole_hearts() -> Callable[..., Cohort]:
    """`shapelab.phantoms.whole_heart_imaging.whole_heart_cohort`, with images."""
    from shapelab.phantoms.whole_heart_imaging import whole_heart_cohort

    return partial(whole_heart_cohort, images=True)


_MADE: dict[str, Any] = {
    "licence": "Apache-2.0 (made by shapelab)",
    "layout": "nothing on disk: made when asked for",
    "phantom": "",
}
register(Card("phantom", "synthetic hearts, ED and ES, in ACDC's groups", scheme=CARDIAC, make=short_axis, **_MADE))
register(
    Card(
        "phantom-us",
        "synthetic hearts in 3D ultrasound, ED and ES, in CETUS's groups",
        scheme=LV_CAVITY,
        make=ultrasound,
        **_MADE,
    )
)
register(
    Card(
        "phantom-wh",
        "synthetic whole hearts in CT and MR, seven structures, in six groups",
        scheme=WHOLE_HEART,
        make=whole_hearts,
        **_MADE,
    )
)
