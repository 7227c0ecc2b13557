import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shapelab.data.scheme import (
    BIVENTRICULAR,
    CARDIAC,
    HIPPOCAMPUS,
    WHOLE_HEART,
    LabelScheme,
    Structure,
    present_values,
)
from shapelab.errors import DataError, UsageError

SPARSE = LabelScheme(
    "whole heart", (Structure(500, "LV cavity", "#000000"), Structure(205, "LV myocardium", "#ffffff"))
)


def test_acdc_integers():
    assert dict(zip(CARDIAC.names, CARDIAC.values, strict=True)) == {
        "RV cavity": 1,
        "LV myocardium": 2,
        "LV cavity": 3,
    }
    assert BIVENTRICULAR.structures[:3] == CARDIAC.structures
    assert (CARDIAC.n_classes, BIVENTRICULAR.n_classes, HIPPOCAMPUS.n_classes) == (4, 5, 3)


def test_colours_differ():
    for scheme in (CARDIAC, BIVENTRICULAR, HIPPOCAMPUS, WHOLE_HEART):
        assert len(set(scheme.colours)) == len(scheme.colours)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=st.integers(0, 3)))
def test_onehot_sums_to_one_and_comes_back(labels):
    onehot = CARDIAC.onehot(labels)
    assert onehot.shape == (4, *labels.shape)
    assert (onehot.sum(0) == 1).all()
    assert (CARDIAC.integers(onehot.argmax(0)) == labels).all()


def test_sparse_integers_become_channels_and_back():
    labels = np.array([[0, 500], [205, 205]], dtype=np.uint16)
    assert SPARSE.channels(labels).tolist() == [[0, 1], [2, 2]]
    assert (SPARSE.integers(SPARSE.channels(labels)) == labels).all()
    assert SPARSE.channel_of(205) == 2 and SPARSE.channel_of(0) == 0


def test_channels_and_integers_that_are_mixed_up_fail_loudly():
    integers, channels = np.array([0, 500, 205], np.uint16), np.array([0, 1, 2], np.uint8)
    with pytest.raises(DataError, match=r"label values \[1, 2\]"):
        SPARSE.channels(channels)
    with pytest.raises(DataError, match=r"channel numbers \[205, 500\]; expected 0 to 2, those of the scheme 'whole"):
        SPARSE.integers(integers)
    with pytest.raises(DataError, match="value -1"):
        SPARSE.integers(np.array([-1]))


def test_labels_of_some_structures():
    assert SPARSE.labels_of("LV myocardium", "RV cavity") == [205] and SPARSE.labels_of() == []
    assert SPARSE.dtype is np.uint16 and CARDIAC.dtype is np.uint8


def test_remap_mmwhs_integers():
    out = CARDIAC.remap(np.array([0, 500, 205, 600], dtype=np.int16), {500: 3, 205: 2, 600: 1})
    assert out.tolist() == [0, 3, 2, 1] and out.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, bool])
def test_present_values(dtype):
    assert present_values(np.array([1, 0, 1], dtype=dtype)) == [0, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.array([0, 7]),
            r"scan\.nii\.gz: found label values \[7\]; expected values of the scheme 'cardiac",
        ),
        (np.array([0, 70000]), r"\[70000\]"),
        (np.array([-1, 0]), "label value -1"),
        (np.array([0.0, 1.0]), "type float64"),
    ],
)
def test_values_outside_the_scheme(labels, message):
    with pytest.raises(DataError, match=message):
        CARDIAC.check(labels, "scan.nii.gz")


def test_remap_refuses_to_drop_in_silence():
    with pytest.raises(DataError, match=r"x\.nii: found label values \[9\]"):
        CARDIAC.remap(np.array([0, 9]), {500: 3}, file="x.nii")
    with pytest.raises(UsageError, match=r"mapping to \[8\]"):
        CARDIAC.remap(np.array([0]), {500: 8})


@pytest.mark.parametrize(
    "structures",
    [
        (),
        (Structure(0, "a", "#0"),),
        (Structure(1, "a", "#0"), Structure(1, "b", "#0")),
        (Structure(1, "a", "#0"), Structure(2, "a", "#0")),
    ],
)
def test_bad_schemes(structures):
    with pytest.raises(UsageError, match="bad"):
        LabelScheme("bad", structures)


def test_unknown_structure_lists_those_there_are():
    with pytest.raises(UsageError, match="RV cavity"):
        CARDIAC.structure("aorta")
    with pytest.raises(UsageError, match="integer: found 9"):
        CARDIAC.channel_of(9)


def test_what_lies_in_what_is_known_by_name_or_said():
    assert CARDIAC.inside == (("LV cavity", "LV myocardium"),)
    assert BIVENTRICULAR.inside == (("LV cavity", "LV myocardium"), ("RV cavity", "RV wall"))
    assert HIPPOCAMPUS.inside == () == LabelScheme("flat", CARDIAC.structures, ()).inside
    assert LabelScheme(CARDIAC.name, CARDIAC.structures) == CARDIAC
    assert LabelScheme(CARDIAC.name, CARDIAC.structures, ()) != CARDIAC


@pytest.mark.parametrize(
    "inside",
    [
        (("LV cavity", "aorta"),),
        (("LV cavity", "LV cavity"),),
        (("LV cavity", "LV myocardium"), ("LV myocardium", "LV cavity")),
        (("LV cavity", "LV myocardium"), ("LV cavity", "RV cavity")),
        (("RV cavity", "LV cavity"), ("LV cavity", "LV myocardium"), ("LV myocardium", "RV cavity")),
    ],
)
def test_nesting_that_cannot_be_is_refused(inside):
    with pytest.raises(UsageError, match="inside=.*no circle"):
        LabelScheme("bad", CARDIAC.structures, inside)


def test_a_structure_keeps_name_and_colour_under_another_schemes_integer():
    for name in CARDIAC.names:
        assert WHOLE_HEART.structure(name).numbered(9) == CARDIAC.structure(name).numbered(9)
    assert WHOLE_HEART.values == (1, 2, 3, 4, 5, 6, 7) and len(set(WHOLE_HEART.colours)) == 7
