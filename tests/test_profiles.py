import pytest
import torch

from shapelab.errors import UsageError
from shapelab.profiles import current_profile


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
