"""Bubbles of networks, and the same pictures through several models."""

import numpy as np
import pandas as pd
import pytest

from seglib import plots
from seglib.classes import create_class_table

TABLE = pd.DataFrame(
    {"ms": [10.0, 20.0], "mean_iou": [0.5, 0.6], "parameters": [1_000_000, 4_000_000]},
    index=["small", "large"],
)


def test_a_bubble_stands_where_the_table_says_and_grows_with_the_parameters():
    (ax,) = plots.plot_architectures(TABLE).axes
    bubbles = ax.collections[0]
    assert bubbles.get_offsets().tolist() == [[10, 50], [20, 60]]
    small, large = bubbles.get_sizes()
    assert large == pytest.approx(4 * small)
    assert len(ax.collections) == 1
    assert ax.get_xlim()[0] == 0
    assert "ms" in ax.get_xlabel()
    assert "%" in ax.get_ylabel()


def test_lines_reach_from_the_lowest_to_the_highest_seed():
    table = TABLE.assign(mean_iou_low=[0.4, 0.58], mean_iou_high=[0.55, 0.65])
    (ax,) = plots.plot_architectures(table).axes
    ends = [segment[:, 1].tolist() for segment in ax.collections[1].get_segments()]
    assert ends == [pytest.approx([40, 55]), pytest.approx([58, 65])]
    assert ax.get_ylim()[0] < 40
    assert ax.get_ylim()[1] > 65


def test_the_legend_names_networks_and_parameters():
    table = TABLE.assign(parameters=[1_000_000, 134_000_000])
    (legend,) = plots.plot_architectures(table).legends
    assert [text.get_text() for text in legend.get_texts()] == ["small, 1 M", "large, 134 M"]


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="a row a network"):
        plots.plot_architectures(TABLE[:0])


def test_models_stand_beside_photo_and_truth():
    classes = create_class_table({"a": (255, 0, 0), "b": (0, 0, 255)})
    images = np.zeros((2, 4, 6, 3), np.uint8)
    truth, other = np.zeros((2, 4, 6), int), np.ones((2, 4, 6), int)
    figure = plots.plot_models(images, truth, {"one": truth, "two": other}, classes)
    assert [ax.get_title() for ax in figure.axes[:4]] == ["photo", "truth", "one", "two"]
    assert len(figure.axes) == 8
    pictures = [ax.images[0].get_array() for ax in figure.axes[:4]]
    assert (pictures[2] == (255, 0, 0)).all()
    assert (pictures[3] == (0, 0, 255)).all()
