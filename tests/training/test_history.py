"""The history of a training: a table and a CSV."""

from shapelab.training import History


def test_history_is_a_table_and_a_csv(tmp_path):
    rows = [{"epoch": 0, "loss": 1 / 3}, {"epoch": 1, "loss": 0.1, "val dice": 0.9}]
    history = History(rows)
    assert list(history.table.index) == [0, 1] and history.last["val dice"] == 0.9 and len(history) == 2
    assert history["loss"].tolist() == [1 / 3, 0.1]
    assert history.csv.splitlines()[0] == "epoch,loss,val dice"
    history.write(tmp_path / "h.csv")
    again = History.read(tmp_path / "h.csv")
    assert again.rows == rows  # every bit of every number
    assert "loss 0.1" in repr(history)
    assert History().table.empty and History().last == {}
