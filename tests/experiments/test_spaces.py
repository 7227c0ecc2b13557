import numpy as np
import pytest

from shapelab.data.scheme import CARDIAC
from shapelab.errors import UsageError
from shapelab.experiments import spaces
from shapelab.grid import Grid
from shapelab.models.acnn import AEConfig, AESpace

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
    monkeypatch.setattr(spaces, "train_phantom_autoencoder", None)
    again = spaces.phantom_autoencoder("quick")
    labels, _ = spaces.phantom_shapes(1, GRID, seed=3)
    assert np.array_equal(again.encode(labels), made.encode(labels))


def test_the_weights_that_ship_know_hearts_they_never_saw():
    """Regression of what data/weights holds: LV Dice of new phantoms, on the grid."""
    folder = spaces.weights_folder() / "acnn_ae_quick"
    space = AESpace.load(folder)
    labels, _ = spaces.phantom_shapes(5, space.grid, seed=77)
    assert space.scheme == CARDIAC and space.n_codes == 64
    dice = space.reconstruction_dice(labels).mean(0)
    assert (dice > [0.85, 0.80, 0.89]).all(), dice      # 40 new phantoms: .88, .83, .92
    assert sum(f.stat().st_size for f in folder.iterdir()) < 5_000_000


def test_pca_has_the_codes_asked_for():
    labels, _ = spaces.phantom_shapes(4, GRID, seed=1)
    space = spaces.fit_pca(labels, GRID, n_codes=5)
    assert space.encode(labels).shape == (8, 5)


def test_unknown_data():
    with pytest.raises(UsageError, match="found 'mri'"):
        spaces.cardiac_cohort("mri")
