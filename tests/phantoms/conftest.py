"""Phantom stacks that several tests look at, made once."""

from __future__ import annotations

import pytest

from shapelab.data.subject import Subject
from shapelab.phantoms import heart_cohort


@pytest.fixture(scope="session")
def stacks() -> list[Subject]:
    """Fifty patients as ACDC's scanners take them, in memory."""
    return [s.load() for s in heart_cohort(50, seed=2, resolution="LR")]
