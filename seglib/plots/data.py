"""What is in the data: how much of each class, where, and in what images."""

import numpy as np
from matplotlib.colors import LogNorm

from seglib.plots.drawing import (
    OKABE_ITO,
    create_class_axes,
    create_figure,
    grow_figure,
    name_colors,
    plot_matrix,
)

GREY_UNITS = {
    "brightness": "mean grey value, 0–255",
    "contrast": "standard deviation of grey, 0–255",
    "sharpness": "variance of the Laplacian, grey²",
}
CHANNELS = {"red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}


def plot_class_frequency(frequency, classes):
    """Show how rare the classes are, by pixels and by images.

    Args:
        frequency: DataFrame by class name with the columns `pixel_share` and
            `image_share` in [0, 1], as `measure_split` makes it.
        classes: ClassTable.

    Returns:
        Figure: left a logarithmic axis, right a linear one; commonest on top.
    """
    table = 100 * frequency[["pixel_share", "image_share"]].sort_values("pixel_share")
    figure, axes = create_class_axes(table.index, columns=2)
    colors = name_colors(table.index, classes)
    for ax, column in zip(axes, table, strict=True):
        bars = ax.barh(range(len(table)), table[column], color=colors, ec="0.3")
        ax.bar_label(bars, [f"{share:.3g} %" for share in table[column]], padding=3, fontsize=9)
        ax.set_xlabel(f"share of {column.removesuffix('_share')}s, %")
    lowest = min((share for share in table["pixel_share"] if share > 0), default=1)
    axes[0].set(xlim=(lowest / 3, 300), xscale="log")
    axes[0].xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value <= 100 else "")
    axes[1].set(xlim=(0, 120), xticks=range(0, 101, 25))
    return figure


def plot_co_occurrence(co_occurrence):
    """Show which classes come together in an image.

    Args:
        co_occurrence: DataFrame of shares in [0, 1] by class name, as
            `measure_split` makes it; NaN is left grey.

    Returns:
        Figure.
    """
    shares = 100 * co_occurrence.to_numpy(float)
    figure, ax = plot_matrix(shares, co_occurrence.index, "share of the row's images, %")
    ax.set(xlabel="also holds", ylabel="an image that holds")
    return figure


def plot_region_sizes(regions, classes):
    """Show how large the connected regions of each class are.

    Args:
        regions: DataFrame by class name with the columns `regions`,
            `median_area`, `smallest_area`, `largest_area`, as in
            `SplitStatistics.regions`.
        classes: ClassTable.

    Returns:
        Figure: a dot at the median, a line from the smallest to the largest.
    """
    table = regions.sort_values("median_area", na_position="first")
    figure, (ax,) = create_class_axes(table.index)
    rows, colors = np.arange(len(table)), name_colors(table.index, classes)
    for width, color in ((7, "0.3"), (5, colors)):  # the wider line is the narrower one's edge
        ax.hlines(rows, table["smallest_area"], table["largest_area"], color=color, lw=width)
    ax.scatter(table["median_area"], rows, s=90, color=colors, ec="black", lw=1.5, zorder=3)
    place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
    for row, count in zip(rows, table["regions"], strict=True):
        ax.annotate(f"regions: {count:,}", (1.01, row), **place)
    ax.set(xscale="log", xlabel="area of a region, pixels: smallest, median (dot), largest")
    return figure


def plot_location(location, classes):
    """Show where in the frame each class lies.

    Args:
        location: float array `(num_classes, rows, columns)` in [0, 1], as in
            `SplitStatistics.location`.
        classes: ClassTable.

    Returns:
        Figure: a map a scored class, all on one logarithmic scale, so that
        rare classes show too and colours compare between maps.
    """
    names = {i: classes.names[i] for i in classes.scored_ids}
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = create_figure(0.7 + rows * (0.4 + 5.4 / columns))
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax, (i, name) in zip(axes.flat, names.items(), strict=False):
        shares = np.clip(100 * np.asarray(location[i]), 0.1, 100)
        mesh = ax.imshow(shares, norm=LogNorm(0.1, 100), aspect=0.75, extent=(0, 100, 100, 0))
        ax.set_title(name, fontsize=10)
        ax.set(xticks=[0, 50, 100], yticks=[0, 50, 100])
    figure.supxlabel("from the left, % of the width", fontsize=10)
    figure.supylabel("from the top, % of the height", fontsize=10)
    bar = figure.colorbar(mesh, ax=axes, label="share of pixels, %", aspect=30)
    bar.set_ticks([0.1, 1, 10, 100], labels=["≤ 0.1", "1", "10", "100"])
    return figure


def plot_image_statistics(images):
    """Show how images differ in size, light, colour and sharpness.

    Args:
        images: DataFrame, a row an image, as in `SplitStatistics.images`.

    Returns:
        Figure: histograms, and a dot a size that grows with its images.
    """
    figure = create_figure(5.5)
    axes = figure.subplot_mosaic([list(GREY_UNITS), ["size", "colour", "colour"]])
    for column, unit in GREY_UNITS.items():
        axes[column].hist(images[column], bins=20, color=OKABE_ITO[0], ec="white")
        axes[column].set(title=column, xlabel=unit, ylabel="images")
    _draw_sizes(axes["size"], images)
    _draw_channels(axes["colour"], images)
    return figure


def plot_class_weights(weights):
    """Compare ways to weigh the classes.

    Args:
        weights: DataFrame by class name, a column a method, as
            `balance.weight_table` makes it. Weights of 0 are not drawn.

    Returns:
        Figure with a logarithmic axis.
    """
    figure, (ax,) = create_class_axes(weights.index)
    rows, middle = np.arange(len(weights)), (weights.shape[1] - 1) / 2
    for k, method in enumerate(weights):
        values = weights[method].where(weights[method] > 0)
        style = {"marker": "osD^vP*"[k % 7], "color": OKABE_ITO[k % 7], "ls": "none"}
        offset = 0.25 * (k - middle) / max(middle, 1)
        ax.plot(values, rows + offset, label=str(method).replace("_", " "), **style)
    ax.set(xscale="log", xlabel="class weight (no unit)")
    ax.set_yticks(rows[1:] - 0.5, minor=True)
    ax.grid(which="minor", axis="y", color="0.85")
    ax.tick_params(which="minor", left=False)
    ax.axvline(1, color="0.6", lw=1, zorder=0)
    ax.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    grow_figure(figure, 0.4)
    return figure


def _draw_sizes(ax, images):
    sizes = images.value_counts(["width", "height"])
    ax.scatter(*zip(*sizes.index, strict=True), 20 + 200 * sizes / len(images), OKABE_ITO[0])
    for size, count in sizes.head(4).items():
        ax.annotate(f"{count:,}", size, (0, 9), textcoords="offset points", ha="center")
    ax.margins(0.2)
    ax.set(title="size, and how many", xlabel="width, pixels", ylabel="height, pixels")


def _draw_channels(ax, images):
    bins = np.arange(0, 261, 5)
    for column, color in CHANNELS.items():
        ax.hist(images[column], bins, histtype="step", color=color, lw=2, label=column)
    ax.legend(frameon=False)
    ax.set(title="colour", xlabel="mean of a channel, 0–255", ylabel="images")
