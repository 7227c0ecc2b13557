"""What CONTRIBUTING promises: a new reader, model or statistic is one file.

Each stands here in a file that nothing knows; to import it is all that is done.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from shapelab.commands.main import main
from shapelab.data import catalogue, open_cohort
from shapelab.latent import code_statistics
from shapelab.spaces import load

READER = """
    from pathlib import Path

    import numpy as np
    from shapelab.data.cards import Card, register
    from shapelab.data.reading import Case, Scan
    from shapelab.data.scheme import CARDIAC

    def recognise(root: Path) -> bool:
        return (root / "TOY").is_file()

    def scan(root) -> Scan:
        found = Scan("toy", Path(root), CARDIAC)
        for file in sorted(found.root.glob("*.nii.gz")):
            name = file.name.removesuffix(".nii.gz")
            found.add(Case(name, file, None, {"patient": name}))
        return found

    register(Card("toy", "Toys", "CC0", "NAME.nii.gz beside TOY", scheme=CARDIAC, recognise=recognise, scan=scan))
"""
MODEL = """
    import numpy as np
    import torch
    from shapelab.data.grid import Grid
    from shapelab.data.scheme import CARDIAC
    from shapelab.spaces.kept import Kept

    class ToySpace(Kept):
        \"\"\"The share of each structure, as a code.\"\"\"

        grid, scheme = Grid((4, 4, 2), (1.0, 1.0, 1.0)), CARDIAC

        def __init__(self, mean=(0.0, 0.0, 0.0)):
            self.mean, self.sigma = np.asarray(mean, np.float32), np.ones(3, np.float32)

        def encode(self, labels):
            return np.stack([(labels == v).mean((1, 2, 3)) for v in (1, 2, 3)], 1).astype(np.float32) - self.mean

        def decode(self, codes):
            shares = np.atleast_2d(codes) + self.mean
            shares = np.concatenate([1 - shares.sum(1, keepdims=True), shares], 1)
            return np.broadcast_to(shares[:, :, None, None, None], (*shares.shape, 4, 4, 2)).astype(np.float32)

        def description(self):
            return {"scheme": "cardiac"}

        def tensors(self):
            return {"mean": torch.from_numpy(self.mean)}

        @classmethod
        def rebuilt(cls, text):
            return cls()

        def restore(self, tensors, device):
            self.mean = tensors["mean"].numpy()
"""
STATISTIC = """
    import numpy as np
    from shapelab.latent.histograms import statistic

    @statistic("toy range")
    def spread(z):
        return float(np.ptp(z))
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a file, import it, forget it afterwards."""

    def write(name: str, text: str):
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(tmp_path / "own")
        module = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return write


def test_a_reader_is_one_file(written, monkeypatch, tmp_path, capsys):
    import nibabel

    from shapelab.data import cards

    monkeypatch.setattr(cards, "REGISTERED", {card.name: card for card in catalogue().values()})
    written("toy_reader", READER)
    assert catalogue()["toy"].title == "Toys"
    folder = tmp_path / "toys"
    folder.mkdir()
    (folder / "TOY").touch()
    label = np.zeros((4, 5, 3), np.uint8)
    label[1:3, 1:3, 1] = 3
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / "a.nii.gz")
    assert [s.id for s in open_cohort("toy", root=folder)] == ["a"]
    assert np.array_equal(open_cohort("toy", root=folder)["a"].label, label)
    assert main(["data", "check", str(folder)]) == 0
    assert "toy" in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    assert "Toys" in capsys.readouterr().out
    # --data of a command knows it: what is wrong is the folder, and not the name
    train = ["train", "autoencoder", "-o", str(tmp_path / "out"), "--root", str(tmp_path), "--data"]
    assert main([*train, "toy"]) == 1 and "Toys, laid out as NAME.nii.gz beside TOY" in capsys.readouterr().err
    assert main([*train, "toi"]) == 2 and "Did you mean 'toy'?" in capsys.readouterr().err


def test_a_model_is_one_file_and_opens_by_its_folder_in_any_session(written, tmp_path):
    toy = written("toy_model", MODEL)
    space = toy.ToySpace((0.1, 0.2, 0.3))
    space.save(tmp_path / "kept")
    again = load(tmp_path / "kept")
    labels = np.zeros((2, 4, 4, 2), np.uint8)
    labels[0, :2], labels[1, :1] = 1, 3
    assert np.array_equal(again.encode(labels), space.encode(labels)) and np.array_equal(again.mean, space.mean)
    code = f"from shapelab.spaces import load; print(load({str(tmp_path / 'kept')!r}).mean.tolist())"
    path = os.pathsep.join([str(tmp_path / "own"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.strip() == str(space.mean.tolist()), done.stderr


def test_a_statistic_is_one_file(written, monkeypatch):
    from shapelab.latent import histograms

    monkeypatch.setattr(histograms, "STATISTICS", dict(histograms.STATISTICS))
    written("toy_statistic", STATISTIC)
    codes = pd.DataFrame({"z00": np.arange(10.0), "z01": 2 * np.arange(10.0)}, index=[f"s{i}" for i in range(10)])
    table = code_statistics(codes.rename_axis("subject"), draws=0)
    assert table["toy range"].tolist() == [9.0, 18.0]
