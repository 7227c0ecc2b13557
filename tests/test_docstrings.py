"""Docstrings parse as what they are: Google's sections, names beside descriptions, types in the annotations alone.

ruff holds the layout (`make lint`: D, DOC102); griffe, which documentation sites read docstrings with, says here what
it took for what.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe")

ROOT = Path(__file__).parents[1]
#: What an item of a section looked like in the layout before, where griffe, numpydoc and Sphinx took it for a type.
OLD_ITEM = re.compile(r"^\s*\*{0,2}\w+(, \*{0,2}\w+)* : \S", re.M)
OLD_HEADING = re.compile(r"^\s*(Parameters|Returns|Raises|Attributes)\n\s*-{3,}", re.M)


def _documented():
    """(object, its docstring's sections) of everything in the package that has a docstring."""
    logging.getLogger("griffe").setLevel(logging.CRITICAL)
    found, rest = [], [griffe.load("shapelab", search_paths=[ROOT], allow_inspection=False)]
    while rest:
        here = rest.pop()
        if here.docstring:
            sections = griffe.parse_google(
                here.docstring, warnings=False, returns_multiple_items=False, returns_named_value=False
            )
            found.append((here, sections))
        if here.is_module or here.is_class:
            rest += [member for member in here.members.values() if not member.is_alias]
    return found


@pytest.fixture(scope="module")
def documented():
    """All docstrings of the package, parsed."""
    return _documented()


def _items(documented, kind):
    return [(here, item) for here, sections in documented for s in sections if s.kind.value == kind for item in s.value]


def test_every_parameter_that_is_described_is_one_and_its_description_is_no_type(documented):
    described = _items(documented, "parameters")
    assert len(described) > 450, "griffe found too few parameters: are the sections laid out as before?"
    for here, item in described:
        names = [p.name for p in here.parameters]
        assert item.name.lstrip("*") in names, f"{here.path}: {item.name} is not one of {names}"
        assert isinstance(item.annotation, (griffe.Expr, str, type(None)))
        assert str(item.annotation) == str(here.parameters[item.name].annotation), f"{here.path}: {item.name}"
        assert item.description, f"{here.path}: nothing is said of {item.name}"


def test_what_a_function_returns_is_told_in_words_or_by_a_name(documented):
    returned = _items(documented, "returns")
    assert len(returned) > 50
    for here, item in returned:
        # griffe takes the text before a colon for a type: that must be a name, such as "GridSample"
        told = item.annotation
        own = here.annotation if here.is_function else None
        assert told is None or str(told) == str(own) or re.fullmatch(r"[\w.]+", str(told)), f"{here.path}: {told}"


def test_what_is_raised_is_an_error_s_name(documented):
    raised = _items(documented, "raises")
    assert len(raised) > 60
    name = r"\w+(Error|Warning)|KeyboardInterrupt|TimeUp"
    for here, item in raised:
        assert re.fullmatch(name, str(item.annotation)), f"{here.path}: {item.annotation}"


def test_one_layout(documented):
    for here, _ in documented:
        text = here.docstring.value
        assert not OLD_ITEM.search(text), f"{here.path}: {OLD_ITEM.search(text)[0].strip()}"
        assert not OLD_HEADING.search(text), f"{here.path}: {OLD_HEADING.search(text)[0]}"


def test_the_old_layout_would_be_seen():
    old = "Mean.\n\n    Parameters\n    ----------\n    a, b : n numbers\n"
    assert OLD_ITEM.search(old) and OLD_HEADING.search(old)
    assert not OLD_ITEM.search("Args:\n    a: n numbers : none\n")
