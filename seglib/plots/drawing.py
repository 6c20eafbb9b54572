"""What the figures share: their width, colours, axes of classes, a matrix of numbers."""

import pathlib

import numpy as np
from matplotlib import pyplot

from seglib.system import make_folder

WIDTH = 10  # inches: what a notebook's column shows without shrinking
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")


def create_figure(height, *, width=WIDTH, layout="constrained"):
    """Return an empty figure of this size in inches, which pyplot does not hold."""
    # Made by pyplot, which teaches the notebook to show figures; closed at once,
    # or the notebook would show each of them twice.
    figure = pyplot.figure(figsize=(width, height), layout=layout)
    pyplot.close(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return figure


def keep_figure(figure, path):
    """Write a figure as a picture beside the other results, and return it to be shown.

    Args:
        figure: Figure.
        path: str or path, such as `outputs/run/figures/curves.png`; folders are created.

    Returns:
        Figure, the same.

    Raises:
        OSError: the folder cannot be written.
    """
    path = pathlib.Path(path)
    make_folder(path.parent, "the figure")
    figure.savefig(path, dpi=100, facecolor="white")
    return figure


def grow_figure(figure, inches):
    """Make room for a legend."""
    figure.set_figheight(figure.get_figheight() + inches)


def create_class_axes(names, *, columns=1):
    """Return a figure and its axes side by side, a row a class, the first one at the bottom."""
    figure = create_figure(0.9 + 0.32 * len(names))
    axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set(ylim=(-0.6, len(names) - 0.4), ylabel="class")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def name_colors(names, classes):
    """Return the colours in [0, 1] of the classes with these names."""
    colors = dict(zip(classes.names, classes.colors / 255, strict=True))
    return [colors[name] for name in names]


def widen(values, least=2.0):
    """Return limits that show all values, and do not make much of differences below a point."""
    middle, half = (values.min() + values.max()) / 2, 0.6 * (values.max() - values.min())
    return middle - max(half, least / 2), middle + max(half, least / 2)


def plot_matrix(matrix, names, unit):
    """Return a figure of a square matrix with its numbers written in, and the axes.

    Args:
        matrix: float array `(k, k)`, percentages or counts; NaN is left grey.
        names: k str, of rows and columns.
        unit: str, what the numbers are; `%` in it makes them percentages.
    """
    size, percent = len(names), "%" in unit
    figure = create_figure(min(max(0.55 * size + 1.5, 4), 9))
    ax = figure.subplots()
    top = 100 if percent else np.nanmax(matrix, initial=1)
    mesh = ax.imshow(matrix, "cividis", vmin=0, vmax=top, aspect="auto")
    figure.colorbar(mesh, label=unit, aspect=30)
    ax.set_facecolor("0.8")
    ax.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), names)
    style = {"ha": "center", "va": "center", "size": min(9, 180 / size)}
    for (row, column), value in np.ndenumerate(matrix):
        text = _format_cell(value, many=size > 12, percent=percent)
        ax.text(column, row, text, color="black" if value > 0.5 * top else "white", **style)
    return figure, ax


def _format_cell(value, *, many, percent):
    if np.isnan(value) or (many and value < 0.5):
        return ""  # a large matrix is easier to read without its zeros
    if value < 999.5:
        return f"{value:.1f}" if percent and not many and 0 < value < 99.95 else f"{value:.0f}"
    return f"{value / 1e6:.3g}M" if value >= 999_500 else f"{value / 1e3:.3g}k"
