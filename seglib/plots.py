"""Arrays and tables in, matplotlib figures out.

Each function returns a figure that pyplot no longer holds, so a notebook shows
it once, as the last expression of a cell, and figures do not pile up.
"""

import os
import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from scipy import ndimage

from seglib.checks import DatasetReport, find_strange_pixels
from seglib.classes import ClassTable
from seglib.images import read_image
from seglib.masks import (
    LOSSY_NOISE_DISTANCE,
    NOISE_DISTANCE,
    label_colors,
    read_mask,
    sharpen_boundaries,
)
from seglib.reports import find_regions
from seglib.system import make_folder

WIDTH = 10  # inches: what a notebook's column shows without shrinking
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
ERRORS = {"correct": (200, 200, 200), "wrong": (213, 94, 0), "ignored": (0, 0, 0)}
MARK = (213, 94, 0)
SMALL = 128  # pixels: of smaller pictures each pixel is shown
CROP = 40  # pixels a side, in which blends can be seen
SEVERITY_COLORS = {"error": "#B22222", "warning": "#A65900", "note": "0.3"}
CURVES = {  # column: the panel it is in
    "loss": "loss",
    "val_loss": "loss",
    "val_pixel_accuracy": "score, %",
    "val_mean_iou": "score, %",
    "pixel_accuracy": "score, %",
    "mean_iou": "score, %",
    "learning_rate": "learning rate",
}
UNITS = {  # of the columns that methods, networks and exports are compared by
    "ms": "an image, ms",
    "p50_ms": "predict, median of a picture, ms",
    "megabytes": "files, MB",
    "mean_iou": "mean IoU, %",
    "rare_iou": "mean IoU of rare classes, %",
    "common_iou": "mean IoU of common classes, %",
}


def keep_figure(figure: Figure, path: str | os.PathLike) -> Figure:
    """Write a figure as a picture beside the other results, and return it to be shown.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = pathlib.Path(path)
    make_folder(path.parent, "the figure")
    figure.savefig(path, dpi=100, facecolor="white")
    return figure


# Pictures


def plot_grid(
    rows, classes: ClassTable | None = None, *, columns=(), titles=(), overlay=False, errors=False
) -> Figure:
    """Show pictures, label maps and probabilities side by side.

    In label maps that are wide enough, large regions bear the name of their class, and classes of
    less than 1 % of the pixels an outline.

    Args:
        rows: iterable of rows, each of as many arrays, drawn by their kind: uint8 `(height, width,
            3)` is a picture; int `(height, width)` are labels; float `(height, width)` in [0, 1] is
            a probability, and of float `(height, width, k)` the highest is shown, the confidence.
            A dict `{title: array}` is one row with titles of its columns.
        classes: ClassTable; needed where there are labels.
        columns, titles: str for each column, and for each row.
        overlay: bool. True adds the row's last labels over its first picture.
        errors: bool. True adds where the row's second labels differ from its first, the truth.

    Returns:
        Figure, with legends below.

    Raises:
        ValueError: there are labels and no classes, or two of a row that differ in size.
    """
    if isinstance(rows, dict):
        columns, rows = list(rows), [rows.values()]
    rows = [[np.asarray(picture) for picture in row] for row in rows]
    labels = [[p for p in row if p.ndim == 2 and p.dtype.kind in "iu"] for row in rows]
    if any(labels) and classes is None:
        raise ValueError("some of the arrays are labels: pass classes to colour them")
    columns = [*columns, *["overlay"] * overlay, *["errors"] * errors]
    for row, maps in zip(rows, labels, strict=True):
        photo = next((picture for picture in row if picture.ndim == 3), None)
        row += [_blend(photo, maps[-1], classes)] if overlay else []
        row += [_map_errors(*maps[:2], classes.ignore_label)] if errors else []
    ratios = [max(picture.shape[0] / picture.shape[1] for picture in row) for row in rows]
    height = sum(ratios) * WIDTH / len(rows[0]) + 0.05 * len(rows) + 0.35 * any(columns)
    figure = _create_figure(height, layout="compressed")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False, height_ratios=ratios)
    for ax, picture in zip(axes.flat, (p for row in rows for p in row), strict=True):
        _draw_picture(ax, picture, classes, with_names=len(rows[0]) <= 3)
    for ax, title in zip(axes[0], columns, strict=False):
        ax.set_title(title)
    for ax, title in zip(axes[:, 0], titles, strict=False):
        ax.set_ylabel(title, fontsize=9)
    for ax, picture in zip(axes[-1], rows[-1], strict=True):
        if picture.dtype.kind == "f":
            _add_probability_bar(ax)
    if any(labels):
        _add_class_legend(figure, classes, with_errors=errors)
    return figure


def plot_palette(classes: ClassTable) -> Figure:
    """Show the colours of the classes, scored ones first, as a strip."""
    figure = _create_figure(0.1)
    figure.subplots().set_axis_off()  # notebooks show no figure without axes
    _add_class_legend(figure, classes, loc="center")
    return figure


def _blend(image, labels, classes):
    return np.rint(0.5 * image + 0.5 * label_colors(labels, classes)).astype(np.uint8)


def _map_errors(y_true, y_pred, ignore_label):
    kinds = np.where(y_true == ignore_label, 2, y_true != y_pred)
    return np.array(list(ERRORS.values()), np.uint8)[kinds]


def _draw_picture(ax, picture, classes, with_names):
    """Draw an array by its kind. Photographs are interpolated; class colours never are."""
    smooth = "auto" if picture.ndim == 3 and max(picture.shape) > SMALL else "nearest"
    if picture.dtype.kind == "f":
        picture = picture.max(axis=-1) if picture.ndim == 3 else picture
        ax.imshow(picture, interpolation="nearest", vmin=0, vmax=1)
    elif picture.ndim == 3:
        ax.imshow(picture, interpolation=smooth)
    else:
        ax.imshow(label_colors(picture, classes), interpolation="nearest")
        if with_names and min(picture.shape) >= CROP:
            _name_regions(ax, picture, classes)
    ax.set(xticks=[], yticks=[])


def _name_regions(ax, labels, classes):
    """Write the names of classes into their largest regions, and outline the rare ones."""
    regions, ids, areas = find_regions(labels)
    for i in classes.scored_ids:
        share = (labels == i).mean()
        if 0 < share < 0.01:
            ax.contour(labels == i, [0.5], colors="white", linewidths=0.8)
        largest = np.argmax(np.where(ids == i, areas, 0))
        if ids[largest] != i or areas[largest] < 0.02 * labels.size:
            continue
        depth = ndimage.distance_transform_edt(np.pad(regions == largest, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        side = np.digitize(column / labels.shape[1], [0.15, 0.85])  # so that nothing is cut off
        style = {"ha": ("left", "center", "right")[side], "va": "center", "fontsize": 8}
        text = ax.text(column, row, classes.names[i], color="white", **style)
        text.set_path_effects([withStroke(linewidth=2, foreground="0.2")])


def _add_class_legend(figure, classes, *, loc="outside lower center", with_errors=False):
    colors = {classes.names[i]: classes.colors[i] / 255 for i in classes.scored_ids}
    ignored = classes.ignore_label
    if ignored is not None:
        inside = 0 <= ignored < classes.num_classes
        name = classes.names[ignored] if inside else ignored
        colors[f"{name} (ignored)"] = classes.colors[ignored] / 255 if inside else "black"
    if with_errors:
        colors |= {kind: np.divide(ERRORS[kind], 255) for kind in ("correct", "wrong")}
    handles = [Patch(fc=color, ec="0.5", label=name) for name, color in colors.items()]
    fitting = max(1, int(figure.get_figwidth() / (0.5 + 0.08 * max(map(len, colors)))))
    rows = -(-len(colors) // fitting)
    _grow_figure(figure, 0.2 + 0.2 * rows)
    style = {"fontsize": 9, "handlelength": 1.2, "columnspacing": 1.2, "frameon": False}
    figure.legend(handles=handles, loc=loc, ncols=-(-len(colors) // rows), **style)


def _add_probability_bar(ax):
    figure, (rows, columns) = ax.figure, ax.images[0].get_size()
    inches = rows / columns * figure.get_figwidth() / ax.get_gridspec().ncols
    place = ax.inset_axes([0.05, -0.22 / inches, 0.9, 0.12 / inches])
    bar = figure.colorbar(ax.images[0], cax=place, orientation="horizontal")
    bar.set_label("probability", fontsize=8)
    bar.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"], fontsize=8)
    _grow_figure(figure, 0.4)


# What is in the data


def plot_class_frequency(frequency: pd.DataFrame, classes: ClassTable) -> Figure:
    """Show how rare the classes are, by pixels and by images, the commonest on top.

    Args:
        frequency: DataFrame by class name with the columns `pixel_share` and `image_share` in
            [0, 1], as in `SplitStatistics.frequency`.
        classes: ClassTable.
    """
    table = 100 * frequency[["pixel_share", "image_share"]].sort_values("pixel_share")
    figure, axes = _create_class_axes(table.index, columns=2)
    for ax, column in zip(axes, table, strict=True):
        colors = _name_colors(table.index, classes)
        bars = ax.barh(range(len(table)), table[column], color=colors, ec="0.3")
        ax.bar_label(bars, [f"{share:.3g} %" for share in table[column]], padding=3, fontsize=9)
        ax.set_xlabel(f"share of {column.removesuffix('_share')}s, %")
    lowest = min((share for share in table["pixel_share"] if share > 0), default=1)
    axes[0].set(xlim=(lowest / 3, 300), xscale="log")
    axes[0].xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value <= 100 else "")
    axes[1].set(xlim=(0, 120), xticks=range(0, 101, 25))
    return figure


def plot_co_occurrence(co_occurrence: pd.DataFrame) -> Figure:
    """Show which classes come together in an image.

    Args:
        co_occurrence: DataFrame of shares in [0, 1] by class name, as in
            `SplitStatistics.co_occurrence`; NaN is left grey.
    """
    shares = 100 * co_occurrence.to_numpy(float)
    figure, ax = _plot_matrix(shares, co_occurrence.index, "share of the row's images, %")
    ax.set(xlabel="also holds", ylabel="an image that holds")
    return figure


def plot_region_sizes(regions: pd.DataFrame, classes: ClassTable) -> Figure:
    """Show how large the connected regions of each class are: median, smallest and largest.

    Args:
        regions: DataFrame by class name with the columns `regions`, `median_area`,
            `smallest_area`, `largest_area` in pixels, as in `SplitStatistics.regions`.
        classes: ClassTable.
    """
    table = regions.sort_values("median_area", na_position="first")
    figure, (ax,) = _create_class_axes(table.index)
    rows, colors = np.arange(len(table)), _name_colors(table.index, classes)
    for width, color in ((7, "0.3"), (5, colors)):  # the wider line is the narrower one's edge
        ax.hlines(rows, table["smallest_area"], table["largest_area"], color=color, lw=width)
    ax.scatter(table["median_area"], rows, s=90, color=colors, ec="black", lw=1.5, zorder=3)
    place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
    for row, count in zip(rows, table["regions"], strict=True):
        ax.annotate(f"regions: {count:,}", (1.01, row), **place)
    ax.set(xscale="log", xlabel="area of a region, pixels: smallest, median (dot), largest")
    return figure


def plot_location(location: np.ndarray, classes: ClassTable) -> Figure:
    """Show where in the frame each scored class lies, all on one logarithmic scale.

    Args:
        location: float array `(num_classes, rows, columns)` in [0, 1], as in
            `SplitStatistics.location`.
        classes: ClassTable.
    """
    names = {i: classes.names[i] for i in classes.scored_ids}
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = _create_figure(0.7 + rows * (0.4 + 5.4 / columns))
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


def plot_image_statistics(images: pd.DataFrame) -> Figure:
    """Show how images differ in size, light, colour and sharpness.

    Args:
        images: DataFrame, a row an image, as in `SplitStatistics.images`.
    """
    figure = _create_figure(5.5)
    units = {
        "brightness": "mean grey value, 0–255",
        "contrast": "standard deviation of grey, 0–255",
        "sharpness": "variance of the Laplacian, grey²",
    }
    axes = figure.subplot_mosaic([list(units), ["size", "colour", "colour"]])
    for column, unit in units.items():
        axes[column].hist(images[column], bins=20, color=OKABE_ITO[0], ec="white")
        axes[column].set(title=column, xlabel=unit, ylabel="images")
    sizes, ax = images.value_counts(["width", "height"]), axes["size"]
    ax.scatter(*zip(*sizes.index, strict=True), 20 + 200 * sizes / len(images), OKABE_ITO[0])
    for size, count in sizes.head(4).items():
        ax.annotate(f"{count:,}", size, (0, 9), textcoords="offset points", ha="center")
    ax.margins(0.2)
    ax.set(title="size, and how many", xlabel="width, pixels", ylabel="height, pixels")
    for column, color in {"red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}.items():
        bins = np.arange(0, 261, 5)
        axes["colour"].hist(images[column], bins, histtype="step", color=color, lw=2, label=column)
    axes["colour"].legend(frameon=False)
    axes["colour"].set(title="colour", xlabel="mean of a channel, 0–255", ylabel="images")
    return figure


def plot_class_weights(weights: pd.DataFrame) -> Figure:
    """Compare ways to weigh the classes, on a logarithmic axis.

    Args:
        weights: DataFrame by class name, a column a method, as `weight_table` makes it. Weights of
            0 are not drawn.
    """
    figure, (ax,) = _create_class_axes(weights.index)
    rows, middle = np.arange(len(weights)), (weights.shape[1] - 1) / 2
    for k, method in enumerate(weights):
        values = weights[method].where(weights[method] > 0)
        style = {"marker": MARKERS[k % 7], "color": OKABE_ITO[k % 7], "ls": "none"}
        offset = 0.25 * (k - middle) / max(middle, 1)
        ax.plot(values, rows + offset, label=str(method).replace("_", " "), **style)
    ax.set(xscale="log", xlabel="class weight (no unit)")
    ax.set_yticks(rows[1:] - 0.5, minor=True)
    ax.grid(which="minor", axis="y", color="0.85")
    ax.tick_params(which="minor", left=False)
    ax.axvline(1, color="0.6", lw=1, zorder=0)
    ax.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    _grow_figure(figure, 0.4)
    return figure


def plot_findings(report: DatasetReport, *, max_examples: int = 8) -> Figure:
    """Show examples of what is wrong with a data set, a row each, the gravest first.

    Args:
        report: DatasetReport.
        max_examples: int. Of one kind of finding at most two are shown.

    Raises:
        DatasetError: a file is not there any more.
    """
    rows = []
    for finding in report.findings:
        if finding.pairs and sum(finding.check == other.check for other in rows) < 2:
            rows.append(finding)
    rows = rows[:max_examples]
    if not rows:
        figure = _create_figure(0.6)
        ax = figure.add_subplot(frameon=False, xticks=[], yticks=[])
        ax.text(0, 0.5, "There is no finding that a picture could show.", va="center")
        return figure
    pictures = [_draw_example(finding, report) for finding in rows]
    ratios = [max(0.5, *(p.shape[0] / p.shape[1] for _, p in row)) for row in pictures]
    heights = [min(ratio, 1.2) * WIDTH / 3 + 0.4 for ratio in ratios]
    figure = _create_figure(sum(heights))
    axes = figure.subplots(len(rows), 3, squeeze=False, height_ratios=heights)
    for row, finding, shown in zip(axes, rows, pictures, strict=True):
        for ax, (caption, picture) in zip(row, shown, strict=False):
            step = -(-max(picture.shape) // 1000)  # no more pixels are seen
            smooth = "auto" if max(picture.shape) > 2 * CROP else "nearest"
            ax.imshow(picture[::step, ::step].copy(), interpolation=smooth)
            ax.set(xticks=[], yticks=[], anchor="N")
            ax.set_title(caption if len(caption) <= 40 else f"…{caption[-39:]}", fontsize=9)
        _explain(row[-1], finding)
    return figure


def _draw_example(finding, report):
    """Two `(caption, picture)` that show what is wrong."""
    if len(finding.pairs) == 2:
        images = [read_image(image) for image, _ in finding.pairs]
        return list(zip(finding.captions, images, strict=True))
    (image, mask), classes = finding.pairs[0], report.classes
    labels, pixels, lossy = read_mask(mask, classes, encoding=finding.encoding)
    wrong = (labels < 0) | (labels >= classes.num_classes)
    if classes.ignore_label is not None:
        wrong &= labels != classes.ignore_label
    colors = label_colors(np.where(wrong, 0, labels), classes)
    if finding.check in ("unknown colours", "stray colours"):
        unknown, _ = find_strange_pixels(pixels, labels, classes, lossy=lossy)
        return [(mask.name, pixels), ("unknown colours marked", _mark(pixels, unknown))]
    if finding.check in ("blended boundaries", "lossy masks"):
        # The part of the mask with the most blends, as it is and as it is read.
        strange = np.logical_or(*find_strange_pixels(pixels, labels, classes, lossy=lossy))
        dense = ndimage.uniform_filter(strange.astype(np.float32), CROP, mode="constant")
        middle = np.unravel_index(dense.argmax(), dense.shape)
        top, left = np.minimum(middle, np.subtract(dense.shape, CROP // 2)) - CROP // 2
        part = np.s_[max(0, top) : max(0, top) + CROP, max(0, left) : max(0, left) + CROP]
        tolerance = LOSSY_NOISE_DISTANCE if lossy else NOISE_DISTANCE
        read = sharpen_boundaries(pixels, labels, classes, tolerance=tolerance)
        read = label_colors(read[part], classes)
        return [(f"part of {mask.name}", pixels[part]), ("as it is read", read)]
    if finding.check == "unknown ids":
        return [(image.name, read_image(image)), ("unknown ids marked", _mark(colors, wrong))]
    if finding.check == "tiny regions":
        regions, ids, areas = find_regions(labels)
        tiny = areas * np.prod(report.image_size) < labels.size  # under a pixel in training
        tiny &= np.isin(ids, classes.scored_ids)
        return [(mask.name, colors), ("tiny regions marked", _mark(colors, tiny[regions]))]
    halves = [("photograph", read_image(image)), ("mask", colors)]
    return [(f"{name}, {half.shape[0]}×{half.shape[1]}", half) for name, half in halves]


def _mark(colors, where):
    """Fade a picture and paint pixels, with some around them, or single ones would not show."""
    marked = (0.3 * colors + 0.7 * 245).astype(np.uint8)
    marked[ndimage.binary_dilation(where, iterations=1 + max(where.shape) // 250)] = MARK
    return marked


def _explain(ax, finding):
    """Write the finding beside its pictures."""
    place = f" in {finding.split}" if finding.split else ""
    where = f" [{finding.where}]" if finding.where else ""
    title = textwrap.wrap(f"{finding.severity}: {finding.check}{place}", 38)
    style = {"max_lines": 14, "placeholder": " …", "break_on_hyphens": False}
    words = textwrap.wrap(f"{finding.meaning} {finding.advice}{where}", 42, **style)
    ax.set_axis_off()
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    color = SEVERITY_COLORS[finding.severity]
    ax.annotate("\n".join(title), (0, 1), (0, 0), weight="bold", color=color, **style)
    ax.annotate("\n".join(words), (0, 1), (0, -15 * len(title)), fontsize=9, **style)


# How training went, and what models score


def plot_learning_curves(history: pd.DataFrame) -> Figure:
    """Show losses and scores over the epochs, a panel a unit, and mark the best epoch.

    The best epoch has the highest validation mean IoU; without one, the lowest
    validation loss, or what is known of the training data.

    Args:
        history: DataFrame, a row an epoch, as in `Run.history`: `epoch` (else rows count from 1),
            `loss`, `val_loss`, `learning_rate`, and `pixel_accuracy` and `mean_iou` in [0, 1] on
            the validation data. Where these are named `val_pixel_accuracy` and `val_mean_iou`, as
            Keras does, the names without `val_` are of the training data. NaN and other columns
            are left out.

    Raises:
        ValueError: there is no row, or no number in any of these columns.
    """
    epochs = history["epoch"] if "epoch" in history else range(1, len(history) + 1)
    table = history.set_axis(epochs, axis="index").filter(list(CURVES))
    scores = {column: f"val_{column}" for column in ("pixel_accuracy", "mean_iou")}
    if set(table).isdisjoint(scores.values()):
        table = table.rename(columns=scores)
    table = table.astype(float).dropna(axis="columns", how="all")
    if table.empty:
        raise ValueError(
            f"expected a row an epoch and columns such as loss and mean_iou, received "
            f"{len(history)} rows of the columns {list(history.columns)}"
        )
    panels = dict.fromkeys(CURVES[column] for column in table)
    figure = _create_figure(3.4)
    axes = dict(zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True))
    for column, color in zip(CURVES, OKABE_ITO, strict=True):
        if column in table:
            values = table[column].dropna()  # some are only measured every few epochs
            values = 100 * values if "%" in CURVES[column] else values
            ax = axes[CURVES[column]]
            ax.plot(values.index, values, ".-", color=color, label=_spell(column))
    for unit, ax in axes.items():
        ax.set(xlabel="epoch", ylabel=unit)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.spines[["top", "right"]].set_visible(False)
        if unit != "loss":
            ax.set_ylim(bottom=0)  # a rate that is held is a level line; the legend has room below
        if unit != "learning rate":
            ax.legend(edgecolor="none")
    signs = {"val_mean_iou": 1, "val_loss": -1, "mean_iou": 1, "loss": -1}
    column = next((column for column in signs if column in table), None)
    if column is not None:
        best = (signs[column] * table[column]).idxmax()
        for ax in axes.values():
            ax.axvline(best, color="0.4", ls="--", lw=1, zorder=0)
        value = table[column][best]
        value = f"{value:.3g}" if "loss" in column else f"{100 * value:.1f} %"
        figure.suptitle(f"best epoch: {best:.0f} ({_spell(column)} {value})", fontsize=10)
    return figure


def _spell(column):
    data = "validation" if column.startswith("val_") else "training"
    return f"{data} {column.removeprefix('val_')}".replace("_", " ").replace("iou", "IoU")


def plot_confusion_matrix(matrix: np.ndarray, classes: ClassTable) -> Figure:
    """Show which class is taken for which, in % of the pixels of the true class.

    Args:
        matrix: int array `(num_classes, num_classes)`; row is the true class.
        classes: ClassTable; rows and columns of its ignored class are left out. A class without
            pixels is left grey.
    """
    ids = list(classes.scored_ids)
    matrix = np.asarray(matrix, float)[np.ix_(ids, ids)]
    whole = matrix.sum(axis=1, keepdims=True)
    matrix = 100 * matrix / np.where(whole > 0, whole, np.nan)
    figure, ax = _plot_matrix(matrix, [classes.names[i] for i in ids], "share of the true class, %")
    ax.set(xlabel="predicted class", ylabel="true class")
    return figure


def plot_per_class(per_class: pd.DataFrame, classes: ClassTable) -> Figure:
    """Show the IoU of each class with its interval, the best on top, and the mean IoU.

    Args:
        per_class: DataFrame by class name with the column `iou` and, where known, `iou_low` and
            `iou_high`, all in [0, 1], as in `Report.per_class`; NaN has no bar.
        classes: ClassTable.
    """
    table = 100 * per_class.filter(["iou", "iou_low", "iou_high"])
    table = table.sort_values("iou", na_position="first")
    figure, (ax,) = _create_class_axes(table.index)
    ends, rows, colors = table["iou"], range(len(table)), _name_colors(table.index, classes)
    ax.barh(rows, ends.fillna(0), color=colors, ec="0.3")
    if {"iou_low", "iou_high"} <= set(table):
        sides = [table["iou"] - table["iou_low"], table["iou_high"] - table["iou"]]
        for color, width in (("white", 4), ("black", 1.5)):  # seen on dark and light bars
            style = {"fmt": "none", "ecolor": color, "elinewidth": width}
            ax.errorbar(table["iou"], rows, xerr=np.maximum(sides, 0), **style)
        ends = table["iou_high"].fillna(ends)
    style = {"textcoords": "offset points", "va": "center", "fontsize": 9}
    for row, value, end in zip(rows, table["iou"], ends, strict=True):
        text, place = ("not scored", 0) if np.isnan(value) else (f"{value:.1f}", end)
        ax.annotate(text, (place, row), (4, 0), **style)
    mean = table["iou"].mean()
    ax.axvline(mean, color="0.4", ls="--", lw=1, zorder=0, label=f"mean {mean:.1f} %")
    ax.set(xlim=(0, 108), xticks=range(0, 101, 20), xlabel="IoU, %")
    ax.legend(loc="lower right", frameon=False)
    return figure


def plot_tradeoff(
    table: pd.DataFrame, x: str | Sequence[str], y: str, *, size=None, baseline=None
) -> Figure:
    """Show one figure of methods, networks or exports against another, a mark a row.

    Where the table has `{column}_low` and `{column}_high`, a line goes from one to the other.

    Args:
        table: DataFrame by name; or by (model, format, precision), as `DeploymentCard.table`: then
            colours are formats and shapes precisions, and models after the first are hollow.
        x: column, or several, a panel each; logarithmic where it spans more than a factor of 10.
        y: column. Of both, those that end with `iou` are in [0, 1].
        size: column that the areas of the marks are proportional to, such as "parameters".
        baseline: row that gets dashed lines, or None.

    Raises:
        ValueError: the table has no row.
    """
    if table.empty:
        raise ValueError("expected a table with a row for each mark, received an empty one")
    columns = [x] if isinstance(x, str) else list(x)
    looks, legend = _choose_looks(table.index)
    areas = np.full(len(table), 60) if size is None else 900 * table[size] / table[size].max()
    figure = _create_figure(4.4)
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    up, colors = _read_column(table, y), [color for _, color, _ in looks]
    for ax, column in zip(axes, columns, strict=True):
        across = _read_column(table, column)
        marks = zip(across[column], up[y], areas, looks, strict=True)
        for left, height, area, (marker, color, face) in marks:
            style = {"marker": marker, "edgecolors": color, "lw": 1.5, "alpha": 0.7}
            ax.scatter(left, height, area, face, zorder=3, **style)
        if across.shape[1] == 3:
            ax.hlines(up[y], *across.iloc[:, 1:].T.to_numpy(), colors)
        if up.shape[1] == 3:
            ax.vlines(across[column], *up.iloc[:, 1:].T.to_numpy(), colors)
        if baseline in table.index:
            ax.axvline(across[column][baseline], color="0.4", ls="--", lw=1, zorder=0)
            ax.axhline(up[y][baseline], color="0.4", ls="--", lw=1, zorder=0)
        ax.set(xlabel=UNITS.get(column, column), ylim=_widen(up.to_numpy()))
        _set_limits(ax, column, across.to_numpy())
    axes[0].set_ylabel(UNITS.get(y, y))
    if size is not None:
        numbers = [f", {number / 1e6:.3g} M" for number in table[size]]
        legend = {f"{n}{number}": legend[n] for n, number in zip(legend, numbers, strict=True)}
    handles = [
        Line2D([], [], ls="", marker=marker, color=color, mfc=face, ms=8, label=label)
        for label, (marker, color, face) in legend.items()
    ]
    place = {"loc": "outside right center"}
    if table.index.nlevels > 1:
        place = {"loc": "outside lower center", "ncols": -(-len(handles) // 2)}
    figure.legend(handles=handles, title=size, frameon=False, handletextpad=0.2, **place)
    return figure


def _choose_looks(index):
    """Return `(marker, colour, colour inside)` of each row, and of each name in the legend."""
    if index.nlevels == 1:
        pairs = [(MARKERS[i // 7 % 7], OKABE_ITO[i % 7]) for i in range(len(index))]
        looks = [(marker, color, color) for marker, color in pairs]
        return looks, dict(zip(index, looks, strict=True))
    models, formats, precisions = (list(index.unique(level)) for level in range(3))
    colors = dict(zip(formats, OKABE_ITO, strict=False))
    markers = dict(zip(precisions, MARKERS, strict=False))
    looks = [(markers[p], colors[f], colors[f] if m == models[0] else "white") for m, f, p in index]
    legend = {name: ("o", color, color) for name, color in colors.items()}
    legend |= {name: (marker, "0.4", "0.4") for name, marker in markers.items()}
    if len(models) > 1:
        legend |= {m: ("o", "0.4", "0.4" if m == models[0] else "white") for m in models}
    return looks, legend


def _read_column(table, name):
    """Return a column with its lower and higher ends, where they are known, in its unit."""
    part = table[[c for c in (name, f"{name}_low", f"{name}_high") if c in table]]
    return 100 * part if name.endswith("iou") else part


def _widen(values, least=2.0):
    """Return limits that show all values, and do not make much of differences below a point."""
    middle, half = (values.min() + values.max()) / 2, 0.6 * (values.max() - values.min())
    return middle - max(half, least / 2), middle + max(half, least / 2)


def _set_limits(ax, column, values):
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    if column.endswith("iou"):
        ax.set_xlim(_widen(values))
    elif values.max() <= 10 * values.min():
        ax.set_xlim(0, 1.15 * values.max())
    else:
        ax.set(xscale="log", xlim=(values.min() / 1.3, values.max() * 1.3))
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())


# What the figures share


def _create_figure(height, *, layout="constrained"):
    """Return an empty figure of this height in inches, which pyplot does not hold."""
    # Made by pyplot, which teaches the notebook to show figures; closed at once,
    # or the notebook would show each of them twice.
    figure = pyplot.figure(figsize=(WIDTH, height), layout=layout)
    pyplot.close(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return figure


def _grow_figure(figure, inches):
    """Make room for a legend."""
    figure.set_figheight(figure.get_figheight() + inches)


def _create_class_axes(names, *, columns=1):
    """Return a figure and its axes side by side, a row a class, the first one at the bottom."""
    figure = _create_figure(0.9 + 0.32 * len(names))
    axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set(ylim=(-0.6, len(names) - 0.4), ylabel="class")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _name_colors(names, classes):
    """Return the colours in [0, 1] of the classes with these names."""
    colors = dict(zip(classes.names, classes.colors / 255, strict=True))
    return [colors[name] for name in names]


def _plot_matrix(matrix, names, unit):
    """Return a figure of percentages `(k, k)` with the numbers written in, and the axes."""
    size = len(names)
    figure = _create_figure(min(max(0.55 * size + 1.5, 4), 9))
    ax = figure.subplots()
    mesh = ax.imshow(matrix, "cividis", vmin=0, vmax=100, aspect="auto")
    figure.colorbar(mesh, label=unit, aspect=30)
    ax.set_facecolor("0.8")
    ax.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), names)
    style = {"ha": "center", "va": "center", "size": min(9, 180 / size)}
    for (row, column), value in np.ndenumerate(matrix):
        if np.isnan(value) or (size > 12 and value < 0.5):
            text = ""  # a large matrix is easier to read without its zeros
        else:
            text = f"{value:.1f}" if size <= 12 and 0 < value < 99.95 else f"{value:.0f}"
        ax.text(column, row, text, color="black" if value > 50 else "white", **style)
    return figure, ax
