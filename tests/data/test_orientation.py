import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from shapelab.data.orientation import canonical, is_short_axis, is_whole_heart, orientation_of, thick_axis
from shapelab.data.scheme import (
    BIVENTRICULAR,
    CARDIAC,
    HIPPOCAMPUS,
    LV_CAVITY,
    WHOLE_HEART,
    LabelScheme,
    Structure,
)
from shapelab.data.subject import Subject
from shapelab.errors import DataError

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 3, (5, 6, 7)).astype(np.uint8)


def affine(spacing, *turns, angles=(), shift=(3, -40, 17)):
    made = np.eye(4)
    made[:3, :3] = (
        Rotation.from_euler("".join(turns), angles, degrees=True).as_matrix() if turns else np.eye(3)
    ) @ np.diag(spacing)
    made[:3, 3] = shift
    return made


ISOTROPIC, STACK = (1, 1, 1), (1.5, 1.5, 8)
TURNED = {
    "straight": affine(ISOTROPIC),
    "oblique": affine(ISOTROPIC, *"zx", angles=(20, 30)),
    "at 45 degrees": affine(ISOTROPIC, "z", angles=45),
    "upside down": affine(ISOTROPIC, "x", angles=180),
    "left-handed": affine(ISOTROPIC) @ np.diag([1, -1, 1, 1]),
    "stack": affine(STACK),
    "oblique stack": affine(STACK, *"zyx", angles=(10, -50, 35)),
    "stack that stands": affine(STACK, "x", angles=90),
    "stack at 45 degrees": affine(STACK, "z", angles=45),
    "stack upside down": affine(STACK, "y", angles=180),
    "left-handed stack": affine(STACK, "y", angles=-40) @ np.diag([1, 1, -1, 1]),
}


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("scheme", [CARDIAC, HIPPOCAMPUS], ids=lambda s: s.name)
def test_all_48_orders_become_one(name, scheme, every_order):
    found = []
    for label, image, matrix in every_order(LABEL, LABEL * 2.5, TURNED[name]):
        subject, turn = canonical(Subject("a", scheme, label, image, matrix))
        assert (turn.back(subject.label) == label).all() and (turn.back(subject.image) == image).all()
        assert np.allclose(matrix @ turn.matrix, subject.affine)
        found.append(subject)
    assert len(found) == 48
    for other in found[1:]:
        assert (other.label == found[0].label).all() and (other.image == found[0].image).all()
        assert np.allclose(other.affine, found[0].affine)


@pytest.mark.parametrize("name", [n for n in TURNED if "stack" not in n])
def test_without_a_stack_the_order_is_nibabels(name, every_order):
    for label, _, matrix in every_order(LABEL, LABEL, TURNED[name]):
        if "45" in name:  # there it hangs on what is stored, see TIE
            continue
        theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(label, matrix))
        ours, turn = canonical(Subject("a", HIPPOCAMPUS, label, affine=matrix))
        assert (ours.label == np.asarray(theirs.dataobj)).all() and np.allclose(ours.affine, theirs.affine)
        assert turn.code == "".join(nibabel.aff2axcodes(matrix))


@pytest.mark.parametrize("name", [n for n in TURNED if "stack" in n])
def test_slices_of_a_short_axis_stack_come_last_whichever_way_they_face(name, every_order):
    for label, _, matrix in every_order(LABEL, LABEL, TURNED[name]):
        subject, turn = canonical(Subject("a", CARDIAC, label, affine=matrix))
        assert subject.spacing == pytest.approx(STACK) and not turn.assumed
        assert np.linalg.det(subject.affine) > 0  # right-handed, as mm are


def test_a_straight_array_stays_as_it_is():
    subject, turn = canonical(Subject("a", CARDIAC, LABEL, affine=np.diag([*STACK, 1])))
    assert (subject.label == LABEL).all() and (turn.matrix == np.eye(4)).all() and turn.code == "RAS"


def test_a_hand_made_array_comes_where_its_affine_says():
    label = np.zeros((2, 3, 4), np.uint8)
    label[0, 2, 1] = 1  # its axes run to the left, downwards and to the front
    matrix = np.array([[-1.0, 0, 0, 1], [0, 0, 1, 0], [0, -1, 0, 2], [0, 0, 0, 1]])
    subject, turn = canonical(Subject("a", HIPPOCAMPUS, label, affine=matrix))
    assert turn.code == "LIA" and np.argwhere(subject.label).tolist() == [[1, 1, 0]]
    assert np.allclose(subject.affine, np.eye(4))


def test_what_cannot_be_told_is_said():
    assert "superior" in orientation_of(np.eye(4), (3, 3, 3), stack=True).assumed[0]
    assert orientation_of(np.eye(4), (3, 3, 3), stack=False).assumed == ()


def test_schemes_of_short_axis_stacks():
    whole = LabelScheme("whole", (*BIVENTRICULAR.structures, Structure(5, "left atrium", "#000000")))
    assert [is_short_axis(s) for s in (CARDIAC, BIVENTRICULAR, whole, LV_CAVITY, HIPPOCAMPUS)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_whole_heart_stays_as_it_lies_in_the_body():
    assert is_whole_heart(WHOLE_HEART) and not is_short_axis(WHOLE_HEART)
    assert not any(is_whole_heart(s) for s in (CARDIAC, BIVENTRICULAR, LV_CAVITY, HIPPOCAMPUS))
    label = np.zeros((9, 9, 6), np.uint8)
    for z, radius in enumerate((1, 1, 2, 2, 3, 4)):  # wider at the end: its base, were it a stack
        label[4 - radius : 5 + radius, 4, z] = WHOLE_HEART.structure("LV myocardium").value
    turned, turn = canonical(Subject("a", WHOLE_HEART, label[::-1], None, np.diag([-3.0, 3, 3, 1])), from_base=True)
    assert (turned.label == label).all() and turn.code == "LAS" and not turn.assumed


def test_image_and_label_of_two_shapes_are_refused():
    with pytest.raises(DataError, match="image and label of shapes"):
        canonical(Subject("a", CARDIAC, LABEL, np.zeros((5, 6, 8))))


def test_the_base_comes_first_where_the_label_map_tells():
    label = np.zeros((9, 9, 6), np.uint8)
    for z, radius in enumerate((1, 1, 2, 2, 3, 4)):
        label[4 - radius : 5 + radius, 4, z] = 2
    heart = Subject("a", CARDIAC, label, np.arange(486.0).reshape(9, 9, 6), TURNED["stack"])
    turned, turn = canonical(heart, from_base=True)
    assert (turned.label == label[..., ::-1]).all() and (turned.image == heart.image[..., ::-1]).all()
    assert np.allclose(turned.affine @ [4, 4, 0, 1], heart.affine @ [4, 4, 5, 1])
    assert (turn.back(turned.label) == label).all() and not turn.assumed
    assert (canonical(heart)[0].label == label).all()
    first = heart.with_(label=np.ascontiguousarray(label[..., ::-1]))
    assert (canonical(first, from_base=True)[0].label == first.label).all()
    as_wide = heart.with_(label=np.ones_like(label) * 2)
    _, turn = canonical(as_wide, from_base=True)
    assert (turn.matrix == np.eye(4)).all() and "the first slice is the base" in turn.assumed[0]


def test_numbers_of_axes_go_with_them():
    matrix = np.eye(4)[[2, 0, 1, 3]] @ np.diag([1.0, 2, 3, 1])  # the third axis of the file runs to the right
    subject, turn = canonical(Subject("a", HIPPOCAMPUS, LABEL, affine=matrix))
    assert turn.per_axis((1, 2, 3)).tolist() == [3, 1, 2] == subject.spacing.tolist()
    assert subject.label.shape == (7, 5, 6)


@pytest.mark.parametrize(("flip", "found"), [(1, [0, 2, 6]), (-1, [0, 4, 6])])
def test_slices_are_counted_as_the_file_does(flip, found):
    matrix = np.diag([1.5, 1.5, 8, 1]) @ np.diag([1, 1, flip, 1])
    _, turn = canonical(Subject("a", CARDIAC, LABEL, affine=matrix))
    assert turn.slices_in_file([6, 2, 0]) == found and turn.slices_in_file([4], axis=0) == [4]


@pytest.mark.parametrize("name", TURNED)
def test_whether_slices_are_mirrored_is_told_by_the_way_back(name, every_order):
    for label, _, matrix in every_order(LABEL, LABEL, TURNED[name]):
        _, turn = canonical(Subject("a", CARDIAC, label, affine=matrix))
        # the two axes of a canonical slice, in the file's order
        first, second = (np.argmax(np.abs(turn.matrix[:3, k])) for k in (0, 1))
        flips = np.sign(turn.matrix[first, 0] * turn.matrix[second, 1])
        assert turn.mirrors == ((first > second) != (flips < 0))


@pytest.mark.parametrize(
    "spacing, axis", [((1.4, 1.4, 10.0), 2), ((10.0, 1.4, 1.4), 0), ((1.0, 1.2, 1.0), 1), ((1.0, 1.1, 1.3), None)]
)
def test_the_axis_of_clearly_thicker_voxels(spacing, axis):
    assert thick_axis(spacing) == axis
