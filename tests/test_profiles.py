import pytest
import torch

from shapelab.errors import UsageError
from shapelab.profiles import current_profile, limited, limits


def test_argument_beats_variable_beats_quick_with_a_gpu_or_without(monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "paper")
    assert current_profile("full") == "full"
    assert current_profile() == "paper"
    monkeypatch.delenv("SHAPELAB_PROFILE")
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert current_profile() == "quick"


def test_unknown_profile_is_named(monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "huge")
    with pytest.raises(UsageError, match="found 'huge'; expected one of quick, full, paper"):
        current_profile()


def test_limits_hold_down_the_numbers_of_full_by_name(monkeypatch):
    monkeypatch.delenv("SHAPELAB_LIMITS", raising=False)
    assert limits() == {} and limited(2000, "hearts", "full") == 2000 and limited(None, "hearts", "full") is None
    monkeypatch.setenv("SHAPELAB_LIMITS", "hearts=8,seeds=2,widths=20,hearts=6")
    assert limits() == {"hearts": 6, "seeds": 2, "widths": 20}  # the last one said
    assert limited((16, 32, 64), "widths", "full") == (16, 20, 20)
    assert limited(2000, "hearts", "full") == 6 and limited(4, "hearts", "full") == 4
    assert limited(None, "hearts", "full") == 6  # all there are
    assert limited((0, 1, 2), "seeds", "full") == (0, 1)
    assert limited(2000, "epochs", "full") == 2000
    assert limited(2000, "hearts", "quick") == limited(2000, "hearts", "paper") == 2000


@pytest.mark.parametrize("text", ["hearts", "hearts=", "=3", "hearts=few", "hearts=-1"])
def test_limits_of_another_form_are_named(monkeypatch, text):
    monkeypatch.setenv("SHAPELAB_LIMITS", text)
    with pytest.raises(UsageError, match="SHAPELAB_LIMITS: found"):
        limits()
