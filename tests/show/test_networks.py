"""A network as boxes: their sizes, the code, what feeds what; errors by name."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from shapelab.errors import UsageError
from shapelab.show import style
from shapelab.show.networks import network_picture

LAYERS = [
    [("label map", 8, (28, 24, 28)), ("scan", 1, (28, 24, 28))],
    ("3 conv", 16, (14, 12, 14)),
    ("code", 2, (7, 6, 7)),
    ("conv", 16, (14, 12, 14)),
]


def boxes(fig):
    return [p for p in fig.axes[0].patches if isinstance(p, Rectangle)]


def test_boxes_are_as_high_as_the_grid_and_as_wide_as_the_channels(words, inside):
    fig = network_picture(LAYERS, title="A network")
    label, scan, conv, code, back = boxes(fig)
    assert label.get_height() == scan.get_height() == 2 * conv.get_height() == 4 * code.get_height()
    assert conv.get_width() == back.get_width() == 2 * label.get_width() == 8 * code.get_width()
    assert label.get_x() < conv.get_x() < code.get_x() < back.get_x()
    assert label.get_y() > conv.get_y() > scan.get_y()  # the first of a place stands on top
    colours = [to_hex(b.get_facecolor()) for b in boxes(fig)]
    assert colours[3] == style.CONTRAST.lower() and colours[0] == colours[1] == colours[2] != colours[4]
    text = words(fig)
    for word in ("A network", "label map\n8 ch", "14×12×14", "588 numbers"):  # 2 x 7 x 6 x 7
        assert word in text
    inside(fig)


def test_arrows_go_from_each_box_to_what_reads_it():
    fig = network_picture(LAYERS)
    arrows = [t for t in fig.axes[0].texts if getattr(t, "arrow_patch", None) is not None]
    assert len(arrows) == 4  # two into the first convolution, then one each
    label, scan, conv, *_ = boxes(fig)
    starts = {round(a.xyann[1], 6) for a in arrows[:2]}
    assert starts == {round(b.get_y() + b.get_height() / 2, 6) for b in (label, scan)}
    assert all(a.xy[0] < conv.get_x() and a.xyann[0] < a.xy[0] for a in arrows[:2])
    beside = network_picture([LAYERS[0], LAYERS[0], LAYERS[1]])
    ends = [(a.xyann[1], a.xy[1]) for a in beside.axes[0].texts if getattr(a, "arrow_patch", None) is not None][:2]
    assert [a for a, _ in ends] == [b for _, b in ends]  # two ways side by side do not cross


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "0 places"),
        ([LAYERS[1], []], "at least one layer"),
        ([("conv", 0, (2, 2, 2))], "conv: found 0 channels"),
        ([("conv", 4, (2, 2))], r"conv: found 4 channels of \(2, 2\)"),
        ([("conv", 4, (2, 2.5, 2))], "counts"),
    ],
)
def test_what_is_no_layer_is_named(layers, words):
    with pytest.raises(UsageError, match=words):
        network_picture(layers)
