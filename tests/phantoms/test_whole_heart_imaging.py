"""CT and MR of whole hearts: intensities, noise, partial volume; scans and cohorts of them."""

import numpy as np
import pytest
from scipy import ndimage

from shapelab.data import open_cohort
from shapelab.data.grid import Grid
from shapelab.data.orientation import canonical
from shapelab.data.scheme import WHOLE_HEART
from shapelab.errors import UsageError
from shapelab.phantoms import whole_heart_body as wb
from shapelab.phantoms import whole_heart_imaging as wi
from shapelab.phantoms.whole_heart import whole_heart_labels
from shapelab.phantoms.whole_heart_population import WHOLE_GROUPS

QUICK = wi.QUICK
SMALL = Grid((14, 12, 14), (12.0, 12.0, 12.0))
LV, MYO, RV, LA, RA, AO, PA = range(1, 8)


def even(material, shape=(40, 40, 40)):
    """A body of one material, on the voxels of its grid."""
    zeros = np.zeros(shape, np.float32)
    axes = tuple(np.arange(n) * 3.0 for n in shape)
    return wb.Body(np.full(shape, material, np.uint8), zeros, zeros, axes), Grid(shape, (3.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def cohort():
    return wi.whole_heart_cohort(12, seed=4, images=True)


def medians(cohort, modality):
    """(patients, 7) median intensity of each structure, its rim left out where it is thick."""
    rows = []
    for subject in cohort.filter(modality=modality):
        image, label, row = subject.image, subject.label, []
        for k in range(1, 8):
            inside = ndimage.binary_erosion(label == k)
            row.append(np.median(image[inside if inside.sum() > 20 else label == k]))
        rows.append(row)
    return np.array(rows)


def test_ct_has_the_hounsfield_units_of_its_tissues(cohort):
    m = medians(cohort, "CT")
    blood = m[:, [LV - 1, LA - 1, AO - 1]]
    assert (blood > 190).all() and (blood < 560).all() and np.ptp(m[:, LV - 1]) > 100
    assert (m[:, MYO - 1] > 40).all() and (m[:, MYO - 1] < 260).all()  # 6 mm: blood on both sides comes in
    assert (m[:, MYO - 1] < m[:, LV - 1]).all()
    ratio = m[:, RV - 1] / m[:, LV - 1]
    assert ratio.min() < 0.65 and ratio.max() > 0.85 and ratio.mean() < 0.95  # the agent: left and right differ
    between = np.sort(m[:, [LV - 1, RV - 1]], 1) + [-60, 60]
    assert ((m[:, PA - 1] > between[:, 0]) & (m[:, PA - 1] < between[:, 1])).all()
    image = cohort.filter(modality="CT")[0].image
    assert image.min() >= -1024 and (image < -600).mean() > 0.1  # lung


def test_mr_has_bright_blood_and_dark_muscle_and_lung(cohort):
    m = medians(cohort, "MR")
    assert (m[:, MYO - 1] < 0.85 * m[:, LV - 1]).all() and (m > 0.1).all() and (m < 2.5).all()
    for subject in cohort.filter(modality="MR"):
        assert subject.image.min() >= 0 and np.median(subject.image) < m[:, LV - 1].max()
        assert np.percentile(subject.image, 10) < 0.25


def test_contrasts_that_nobody_is_trained_on():
    late = wi.whole_heart_cohort(6, modalities=("CT late", "MR dark blood"), images=True)
    m = medians(late, "CT late")
    assert np.allclose(m[:, LV - 1], m[:, RV - 1], atol=45) and (m[:, LV - 1] < 250).all()
    assert (m[:, MYO - 1] < m[:, LV - 1]).all()
    dark = medians(late, "MR dark blood")
    assert (dark[:, LV - 1] < dark[:, MYO - 1]).all()


def test_rician_noise_of_air_is_rayleighs_and_ct_noise_has_no_mean_and_is_correlated():
    body, grid = even(wb.AIR)
    air = wi.mr_image_3d(body, grid, np.random.default_rng(0))
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.05) and air.min() >= 0
    assert 0.05 * np.sqrt(2 - np.pi / 2) < air.std() < 0.125 * np.sqrt(2 - np.pi / 2)
    body, grid = even(wb.SOFT)
    soft = wi.ct_image(body, grid, np.random.default_rng(0))
    assert 30 < soft.mean() < 65 and 29 < soft.std() < 86
    near = np.corrcoef(soft[1:].ravel(), soft[:-1].ravel())[0, 1]
    assert 0.15 < near < 0.8 and abs(np.corrcoef(soft[6:].ravel(), soft[:-6].ravel())[0, 1]) < 0.05


def test_coils_are_nearer_to_the_front_and_agent_mixes_where_the_field_says():
    body, grid = even(wb.FAT, (20, 20, 20))
    rows = np.mean([wi.mr_image_3d(body, grid, np.random.default_rng(i)).mean((0, 2)) for i in range(20)], 0)
    assert rows[-5:].mean() > 1.05 * rows[:5].mean()  # y grows to the front
    body, grid = even(RA, (20, 20, 20))
    body.mixing[:] = np.linspace(-2, 2, 20, dtype=np.float32)
    mixed = wi.ct_image(body, grid, np.random.default_rng(0)).mean((0, 1))
    body.materials[:] = LV
    even_blood = wi.ct_image(body, grid, np.random.default_rng(0)).mean((0, 1))
    assert np.corrcoef(mixed, body.mixing[0, 0])[0, 1] > 0.9 and np.ptp(mixed) > 3 * np.ptp(even_blood)


@pytest.mark.parametrize("draw", [wi.ct_image, wi.mr_image_3d])
def test_a_voxel_cut_by_a_border_lies_half_way_between_its_neighbours(draw):
    body, _ = even(wb.LUNG, (40, 40, 40))
    body.materials[:21] = LV  # drawn on half voxels of the grid: the eleventh is half blood
    rows = draw(body, Grid((20, 20, 20), (6.0, 6.0, 6.0)), np.random.default_rng(1))
    if draw is wi.mr_image_3d:  # what the coils make brighter is flat along the border, across it taken as linear
        rows = rows / np.maximum(rows[:9].mean(0), 0.1)
    blood, cut, lung = (float(rows[part].mean()) for part in (slice(8, 10), 10, slice(11, 13)))
    assert lung < cut < blood and cut == pytest.approx((blood + lung) / 2, abs=0.08 * (blood - lung))


def test_the_scanners_voxels_are_coarser_than_a_fine_grid():
    """At 1.5 mm MR noise is interpolated along the axis of its thick slices, at 6 mm it is not."""
    body, _ = even(wb.AIR)
    fine, coarse = (wi.mr_image_3d(body, Grid((40, 40, 40), (mm,) * 3), np.random.default_rng(2)) for mm in (1.0, 6.0))

    def along(image):
        return [np.corrcoef(a[1:].ravel(), a[:-1].ravel())[0, 1] for a in (np.moveaxis(image, k, 0) for k in range(3))]

    assert min(along(fine)) > 0.1 and max(along(fine)) > min(along(fine)) + 0.1
    assert np.abs(along(coarse)).max() < 0.03


def test_an_even_body_stays_even_through_the_scanners_voxels():
    """Weights of means and of interpolation sum to 1, and a ramp is where it was (away from its ends)."""
    for voxel in (1.7, 2.4):
        ramp = np.arange(60.0)
        there = wi._interpolation(60, 1.5, voxel) @ (wi._box_means(60, 1.5, voxel) @ ramp)
        assert np.allclose(there[4:-4], ramp[4:-4], atol=0.2)
        assert np.allclose(wi._box_means(60, 1.5, voxel).sum(1), 1, atol=1e-6)
        assert np.allclose(wi._interpolation(60, 1.5, voxel).sum(1), 1, atol=1e-6)


def test_every_modality_sees_one_anatomy_and_rows_are_named():
    scans = wi.whole_heart_scans(3, QUICK, seed=1, modalities=("CT", "MR", "CT late"))
    assert scans.table.index.tolist()[:4] == ["phantom000_CT", "phantom000_MR", "phantom000_CT late", "phantom001_CT"]
    assert np.array_equal(scans.labels[0::3], scans.labels[1::3]) and np.array_equal(
        scans.labels[0::3], scans.labels[2::3]
    )
    assert scans.table["modality"].tolist() == ["CT", "MR", "CT late"] * 3
    assert scans.table["group"].tolist() == [g for g in ("NOR", "LAE", "AAD") for _ in range(3)]
    assert scans.scheme == WHOLE_HEART and scans.grid == QUICK and scans.images.dtype == np.float16
    flat = scans.images.reshape(9, -1).astype(float)
    assert np.allclose(flat.mean(1), 0, atol=2e-3) and np.allclose(flat.std(1), 1, atol=2e-3)
    assert (scans.labels.reshape(9, -1).max(1) == 7).all() and len(np.unique(scans.labels[0])) == 8
    assert not np.array_equal(scans.images[0], scans.images[1])


def test_a_patient_is_independent_of_how_many_there_are_and_of_the_first():
    many, one, other = (
        wi.whole_heart_scans(n, SMALL, seed=s, first=f) for n, s, f in ((3, 0, 0), (1, 0, 2), (1, 1, 2))
    )
    assert one.table.index.tolist() == ["phantom002_CT", "phantom002_MR"]
    assert np.array_equal(many.images[4:], one.images) and np.array_equal(many.labels[4:], one.labels)
    assert many.table.iloc[4:].equals(one.table) and not np.array_equal(other.labels, one.labels)
    mr = wi.whole_heart_scans(1, SMALL, first=2, modalities=("MR",))
    assert np.array_equal(mr.images[0], one.images[1])


def test_grids_show_one_patient():
    """A 3 mm image averaged over 6 mm is the 6 mm image, but for noise."""
    fine = Grid((56, 48, 56), (3.0, 3.0, 3.0))
    for modality in ("CT", "MR"):
        a, b = (wi.whole_heart_image((0, 1, "LAE", 0), modality, g) for g in (fine, QUICK))
        mean = a.reshape(28, 2, 24, 2, 28, 2).mean((1, 3, 5))
        assert np.corrcoef(mean.ravel(), b.ravel())[0, 1] > 0.93


def test_scans_are_kept_and_read_again(tmp_path):
    file = tmp_path / "scans.npz"
    made = wi.whole_heart_scans(2, SMALL, cache=file)
    again = wi.whole_heart_scans(2, SMALL, cache=file)
    assert np.array_equal(made.images, again.images) and made.table.equals(again.table)
    other = wi.whole_heart_scans(2, SMALL, cache=file, modalities=("MR",))
    assert len(other) == 2 and np.array_equal(other.images, made.images[1::2])


def test_a_cohort_holds_what_the_scans_hold_with_an_affine_about_the_middle():
    cohort, scans = wi.whole_heart_cohort(2, seed=3, images=True), wi.whole_heart_scans(2, QUICK, seed=3)
    assert cohort.ids == tuple(scans.table.index) and cohort.scheme == WHOLE_HEART and cohort.name == "phantom-wh"
    subject = cohort["phantom001_MR"]
    assert np.array_equal(subject.label, scans.labels[3]) and canonical(subject)[1].code == "RAS"
    centre = subject.affine @ [13.5, 11.5, 13.5, 1]
    assert np.allclose(centre, [0, 0, 0, 1]) and np.allclose(subject.spacing, 6)
    assert cohort.table[["patient", "group", "modality"]].iloc[3].tolist() == ["phantom001", "LAE", "MR"]
    factors = set(scans.table) - {"patient", "group", "modality"}
    assert factors <= set(cohort.table) and len(factors) > 10
    assert wi.whole_heart_cohort(1)[0].image is None
    assert np.array_equal(subject.label, whole_heart_labels((3, 1, "LAE", 0), QUICK))
    assert open_cohort("phantom-wh", n=2, modalities=("CT",)).ids == ("phantom000_CT", "phantom001_CT")


@pytest.mark.parametrize("make", [wi.whole_heart_scans, wi.whole_heart_cohort])
@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"n": 0}, "n: found 0"),
        ({"n": 1, "seed": -1}, "seed: found -1"),
        ({"n": 1, "first": -1}, "first: found -1"),
        ({"n": 1, "groups": ("NOR", "MINF")}, "groups: found .*MINF.*; expected some of .*LAE"),
        ({"n": 1, "modalities": ("PET",)}, "modalities: found .*PET.*; expected some of .*CT late"),
        ({"n": 1, "modalities": "CT"}, "modalities: found 'CT'"),
        ({"n": 1, "modalities": ()}, r"modalities: found \(\)"),
        ({"n": 1, "modalities": ("CT", "CT")}, "modalities: .* each once"),
        ({"n": 1, "grid": ((6.0, 6.0, 6.0), (28, 24, 28))}, "exchanged"),
    ],
)
def test_bad_arguments_are_named(make, arguments, words):
    with pytest.raises(UsageError, match=words):
        make(**arguments)


def test_groups_take_turns():
    table = wi.whole_heart_cohort(7, modalities=("CT",)).table
    assert table["group"].tolist() == [*WHOLE_GROUPS, "NOR"]
