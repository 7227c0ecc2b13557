import numpy as np
import pytest

from shapelab.data.grid import Grid
from shapelab.data.scheme import CARDIAC
from shapelab.errors import DataError, UsageError
from shapelab.experiments import shipped as spaces
from shapelab.latent.codes import codes_table
from shapelab.models.acnn import AEConfig, AESpace, train_autoencoder
from shapelab.models.acnn.predictor import PredictorConfig
from shapelab.models.acnn.tl import TLSpace
from shapelab.places import weights_of
from shapelab.training import Run

GRID = Grid((24, 24, 12), (6.0, 6.0, 10.0))


def test_phantom_shapes_lie_on_the_grid():
    labels, table = spaces.phantom_shapes(3, GRID, seed=1)
    assert labels.shape == (6, *GRID.shape) and set(np.unique(labels)) == {0, 1, 2, 3}
    assert table["phase"].tolist() == ["ED", "ES"] * 3 and table["outside"].max() < 0.05


def test_shipped_weights_are_read_and_missing_ones_are_trained_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    tiny = AEConfig(shape=GRID.shape, spacing=GRID.spacing, widths=(4, 4, 4), bottleneck=8, code=6, epochs=1)
    monkeypatch.setattr(AEConfig, "profile", classmethod(lambda cls, name=None, **kw: tiny))
    monkeypatch.setitem(spaces.TRAINING, "quick", (2, 1))
    made = spaces.phantom_autoencoder("quick", progress=False)
    assert (tmp_path / "acnn_ae_quick" / AESpace.FILE).is_file() and made.metadata["n"] == 4
    monkeypatch.setattr(spaces, "train_autoencoder", None)
    again = spaces.phantom_autoencoder("quick")
    labels, _ = spaces.phantom_shapes(1, GRID, seed=3)
    assert np.array_equal(again.encode(labels), made.encode(labels))


def test_what_limits_made_small_is_not_kept_among_the_weights(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(spaces, "weights_of", lambda name: tmp_path / name)
    monkeypatch.setattr(spaces, "save_trained", lambda made, folder, half: saved.append(folder.name))
    monkeypatch.setitem(spaces.RECIPES, "small", spaces.replace(spaces.RECIPES["tl"], train=lambda order: "made"))
    monkeypatch.delenv("SHAPELAB_WEIGHTS", raising=False)
    monkeypatch.setenv("SHAPELAB_LIMITS", "hearts=2")
    assert spaces.shipped("small", "full") == spaces.shipped("small", "quick") == "made"
    assert saved == ["acnn_tl_quick"]  # which no limit holds down
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    spaces.shipped("small", "full")
    monkeypatch.delenv("SHAPELAB_LIMITS")
    monkeypatch.delenv("SHAPELAB_WEIGHTS")
    spaces.shipped("small", "full")
    assert saved[1:] == ["acnn_tl_full"] * 2


def test_the_weights_that_ship_know_hearts_they_never_saw():
    """Regression of what data/weights holds: LV Dice of new phantoms, on the grid."""
    folder = weights_of("acnn_ae_quick")
    space = AESpace.load(folder)
    labels, _ = spaces.phantom_shapes(5, space.grid, seed=77)
    assert space.scheme == CARDIAC and space.n_codes == 64
    dice = space.reconstruction_dice(labels).mean(0)
    assert (dice > [0.85, 0.80, 0.89]).all(), dice  # 40 new phantoms: .88, .83, .92
    assert sum(f.stat().st_size for f in folder.iterdir()) < 5_000_000


def test_images_and_labels_of_phantoms_come_in_two_forms():
    images, labels, facts = spaces.phantom_images(2, GRID, 2, seed=1)
    assert images.shape == labels.shape == (8, *GRID.shape) and images.dtype == np.float16
    assert facts["form"].tolist() == ["HR"] * 4 + ["stack"] * 4 and facts["phase"].tolist() == ["ED", "ES"] * 4
    assert images.min() >= 0 and images.max() <= 1 and set(np.unique(labels)) == {0, 1, 2, 3}
    # one heart in both forms, lying alike: its structures overlap
    for hr, stack in zip(labels[:4], labels[4:]):
        assert 2 * ((hr > 0) & (stack > 0)).sum() > 0.8 * ((hr > 0).sum() + (stack > 0).sum())
    blood, wall = images[labels == 3].mean(), images[labels == 2].mean()
    assert blood > 1.5 * wall
    same = spaces.phantom_images(2, GRID, 2, seed=1, randomised=1.0)
    assert np.array_equal(same[1], labels) and not np.allclose(same[0], images, atol=0.05)
    assert ((same[0] > 0) == (images > 0)).mean() > 0.99  # what was not scanned stays so


def test_unit_image_by_hand():
    image = np.zeros((10, 10, 2))
    image[:, :, 1] = np.arange(1, 101).reshape(10, 10)
    scaled = spaces.unit_image(image)
    assert scaled.max() == 1 and not scaled[:, :, 0].any()
    assert scaled[0, 0, 1] == pytest.approx(1 / np.percentile(np.arange(1, 101), 99))
    assert not spaces.unit_image(np.zeros((2, 2, 2))).any()


def small_tl(tmp_path, monkeypatch):
    """Tiny numbers of both networks in the quick profile's place, weights in a folder of the test's."""
    grid = {"shape": GRID.shape, "spacing": GRID.spacing}
    monkeypatch.setenv("SHAPELAB_WEIGHTS", str(tmp_path))
    ae = AEConfig(**grid, widths=(4, 4, 4), bottleneck=8, code=6, epochs=1)
    tl = PredictorConfig(**grid, widths=(4, 4, 4, 4), last=8, code=6, epochs=1, joint_epochs=1)
    monkeypatch.setattr(AEConfig, "profile", classmethod(lambda cls, name=None, **kw: ae))
    monkeypatch.setattr(PredictorConfig, "profile", classmethod(lambda cls, name=None, **kw: tl))
    monkeypatch.setitem(spaces.TL_PATIENTS, "quick", 2)
    labels, _ = spaces.phantom_shapes(2, GRID, seed=3)
    train_autoencoder(labels, ae, run=Run(seed=0, progress=False))[0].save(tmp_path / "acnn_ae_quick")


def image_codes(space, cohort, poses=None):
    """Codes table of a cohort, read from its images by the predictor."""
    images, _, table = spaces.images_on_grid(cohort, space.grid, poses)
    return codes_table(space.encode_images(images), table)


def test_a_missing_tl_network_is_trained_and_kept_and_reads_cohorts(tmp_path, monkeypatch):
    small_tl(tmp_path, monkeypatch)
    made = spaces.phantom_tl("quick", progress=False)
    assert (tmp_path / "acnn_tl_quick" / TLSpace.FILE).is_file() and made.metadata["n"] == 8
    assert "seed 20000" in made.metadata["data"]
    monkeypatch.setattr(spaces, "train_tl_network", None)
    again = spaces.phantom_tl("quick")
    cohort = spaces.cardiac_cohort("phantom", seed=5, n=2, images=True)
    codes = image_codes(again, cohort)
    assert codes.index.tolist() == list(cohort.ids) and codes["group"].notna().all()
    images, labels, _ = spaces.images_on_grid(cohort, GRID)
    z = codes[[f"z{k:02d}" for k in range(6)]].to_numpy()
    assert np.array_equal(z, again.encode_images(images))
    assert np.allclose(z, made.encode_images(images), atol=0.05 * np.abs(z).max())  # shipped in 16 bits

    # the pose from another label map: the same one gives the same codes, one that is turned does not
    poses = {s.id: s.label for s in cohort}
    assert image_codes(again, cohort, poses).equals(codes)
    turned = {s.id: s.label[::-1] for s in cohort}
    assert not np.allclose(image_codes(again, cohort, turned).iloc[:, :6], codes.iloc[:, :6], atol=1e-4)
    with pytest.raises(DataError, match="phantom001_ES.*no pose"):
        image_codes(again, cohort, {i: poses[i] for i in cohort.ids[:3]})
    with pytest.raises(DataError, match="no image"):
        image_codes(again, spaces.cardiac_cohort("phantom", seed=5, n=1))


def test_spaces_by_name(monkeypatch):
    monkeypatch.setattr(spaces, "phantom_autoencoder", lambda profile, progress: ("ae", profile, progress))
    monkeypatch.setattr(spaces, "phantom_tl", lambda profile, progress: ("tl", profile, progress))
    assert spaces.learned_space() == ("ae", None, True)
    assert spaces.learned_space("tl", "quick", progress=False) == ("tl", "quick", False)
    with pytest.raises(UsageError, match="space: found 'pca'"):
        spaces.learned_space("pca")


def test_pca_has_the_codes_asked_for():
    labels, _ = spaces.phantom_shapes(4, GRID, seed=1)
    space = spaces.fit_pca(labels, GRID, n_codes=5)
    assert space.encode(labels).shape == (8, 5)


def test_unknown_data():
    with pytest.raises(UsageError, match="found 'mri'"):
        spaces.cardiac_cohort("mri")
