"""What all configurations do alike: profiles, and the way back from JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import pytest

from shapelab.augment import AffineRanges
from shapelab.data.grid import Grid
from shapelab.errors import UsageError
from shapelab.models.acnn import AEConfig, PredictorConfig, SubPixelConfig
from shapelab.models.acnn.sr_baselines import SRCNNConfig
from shapelab.models.native import NativeConfig
from shapelab.models.sslln import SSLLNConfig
from shapelab.training import Config

ALL = [AEConfig, PredictorConfig, SubPixelConfig, SRCNNConfig, NativeConfig, SSLLNConfig]


@dataclass(frozen=True)
class Inner(Config):
    width: int = 2
    depth: int = 3
    PROFILES = {"full": {"width": 20}}


@dataclass(frozen=True)
class Outer(Config):
    shape: tuple[int, int, int] = (2, 4, 6)
    spacing: tuple[float, ...] = (1.0, 1.0, 2.0)
    boxes: tuple[tuple[int, int], ...] = ((1, 2),)
    inner: Inner = field(default_factory=Inner)
    affine: AffineRanges | None = None
    limit: float | None = None
    PROFILES = {"full": {"inner": {"depth": 30}, "limit": 1.0}, "paper": {"shape": (8, 8, 8)}}


def test_a_profile_holds_what_differs_and_its_inner_profile():
    assert Outer.profile("quick") == Outer()
    assert Outer.profile("full") == Outer(inner=Inner(20, 30), limit=1.0)
    assert Outer.profile("paper", limit=2.0, shape=(4, 4, 4)) == Outer(shape=(4, 4, 4), limit=2.0)
    assert Outer.profile("paper").inner == Inner()  # not named there: the default
    assert Outer().grid == Grid((2, 4, 6), (1, 1, 2))


def test_the_current_profile_is_the_default_and_an_unknown_one_is_named(monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "full")
    assert Inner.profile().width == 20
    with pytest.raises(UsageError, match="profile: found 'huge'"):
        Inner.profile("huge")


def test_limits_make_full_small_and_nothing_else(monkeypatch):
    before = {name: Outer.profile(name) for name in ("quick", "full", "paper")}
    monkeypatch.setenv("SHAPELAB_LIMITS", "depth=4,width=5,coarser=2")
    small = Outer.profile("full")
    assert small.inner == Inner(5, 4)
    # the box is as large as it was; slices stay, whose number the networks' factors divide
    assert small.grid == Grid((1, 2, 6), (2, 2, 2)) and small.limit == 1.0
    assert Outer.profile("full", shape=(8, 8, 8)).shape == (8, 8, 8)  # asked for by name
    assert AEConfig.profile("full").cells == (2, 2, 3) and AEConfig.profile("full").bottleneck == 8 * 2**2
    assert Outer.profile("quick") == before["quick"] and Outer.profile("paper") == before["paper"]


def test_it_comes_back_from_json_as_it_was():
    one = Outer(affine=AffineRanges(scale=0.3), boxes=((1, 2), (3, 4)))
    back = Outer(**json.loads(json.dumps(asdict(one))))
    assert back == one and isinstance(back.boxes[1], tuple) and isinstance(back.inner, Inner)
    assert Outer(**json.loads(json.dumps(asdict(Outer())))).affine is None


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("name", ["quick", "full", "paper"])
def test_every_models_configuration_does(kind, name):
    one = kind.profile(name)
    assert kind(**json.loads(json.dumps(asdict(one)))) == one and hash(one) == hash(kind.profile(name))
