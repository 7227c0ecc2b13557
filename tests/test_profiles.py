import pytest
import torch

from shapelab.errors import UsageError
from shapelab.profiles import current_profile


def test_argument_beats_variable_beats_machine(monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "paper")
    assert current_profile("quick") == "quick"
    assert current_profile() == "paper"
    monkeypatch.delenv("SHAPELAB_PROFILE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert current_profile() == "quick"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert current_profile() == "full"


def test_unknown_profile_is_named(monkeypatch):
    monkeypatch.setenv("SHAPELAB_PROFILE", "huge")
    with pytest.raises(UsageError, match="found 'huge'; expected one of quick, full, paper"):
        current_profile()
