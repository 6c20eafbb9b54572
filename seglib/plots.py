"""Arrays and tables in, matplotlib figures out.

Each function returns a figure that pyplot no longer holds, so a notebook shows
it once, as the last expression of a cell, and figures do not pile up.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy import ndimage

from seglib.checks import DatasetReport, find_strange_pixels
from seglib.classes import ClassTable
from seglib.images import read_image, show_rgb
from seglib.masks import label_colors, read_mask
from seglib.reports import find_regions
from seglib.system import make_folder, replacing

WIDTH = 10  # inches: what a notebook's column shows without shrinking
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
MARK = (213, 94, 0)
ERRORS = {"correct": (200, 200, 200), "wrong": MARK, "ignored": (0, 0, 0)}
NAMED = 40  # pixels a side: in smaller label maps there is no room for names
MAX_EXAMPLES = 6
CURVES = {  # of the columns of a history: panel, and name there
    "loss": ("loss", "training loss"),
    "val_loss": ("loss", "validation loss"),
    "pixel_accuracy": ("score, %", "validation pixel accuracy"),
    "mean_iou": ("score, %", "validation mean IoU"),
    "learning_rate": ("learning rate", "learning rate"),
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
    """Write a figure as a picture beside the other results, and return it to be shown."""
    path = pathlib.Path(path)
    make_folder(path.parent, "the figure")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, facecolor="white")
    return figure


def _plain(text):
    """A name as matplotlib shows it: no formula, and with ? for what is not UTF-8."""
    return str(text).replace("$", r"\$").encode("utf-8", "replace").decode()


# Pictures


def plot_grid(
    rows, classes: ClassTable | None = None, *, columns=(), titles=(), overlay=False, errors=False
) -> Figure:
    """Show pictures, label maps and probabilities side by side.

    In label maps that are wide enough, large regions bear the name of their class, and classes of
    less than 1 % of the pixels an outline.

    Args:
        rows: iterable of rows, each of as many arrays. uint8 `(height, width, channels)` is a
            picture; int `(height, width)` are labels; float `(height, width)` in [0, 1] is a
            probability; of float `(height, width, k)` the highest is shown. A dict
            `{title: array}` is one row.
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
    columns = [*columns, *[""] * (len(rows[0]) - len(columns))]
    columns += ["overlay"] * overlay + ["errors"] * errors
    for row, maps in zip(rows, labels, strict=True):
        if overlay:
            photo = next(picture for picture in row if picture.ndim == 3)
            blend = 0.5 * show_rgb(photo) + 0.5 * label_colors(maps[-1], classes)
            row.append(np.rint(blend).astype(np.uint8))
        if errors:
            kinds = np.where(maps[0] == classes.ignore_label, 2, maps[0] != maps[1])
            row.append(np.array(list(ERRORS.values()), np.uint8)[kinds])
    ratios = [max(min(1.5, p.shape[0] / p.shape[1]) for p in row) for row in rows]
    height = sum(ratios) * WIDTH / len(rows[0]) + 0.05 * len(rows) + 0.35 * any(columns)
    figure = _create_figure(height, layout="compressed")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False, height_ratios=ratios)
    for ax, picture in zip(axes.flat, (p for row in rows for p in row), strict=True):
        _draw_picture(ax, picture, classes, with_names=len(rows[0]) <= 3)
    for ax, title in zip(axes[0], columns, strict=False):
        ax.set_title(_plain(title))
    for ax, title in zip(axes[:, 0], titles, strict=False):
        ax.set_ylabel(_plain(title), fontsize=9)
    shares = [ax for ax in axes[-1] if ax.images[0].get_array().ndim == 2]
    for ax in shares:
        style = {"orientation": "horizontal", "aspect": 30, "pad": 0.02, "ticks": [0, 0.5, 1]}
        figure.colorbar(ax.images[0], ax=ax, label="probability", **style)
    _grow_figure(figure, 0.5 * bool(shares))
    if any(labels):
        _add_class_legend(figure, classes, with_errors=errors)
    return figure


def plot_palette(classes: ClassTable) -> Figure:
    """Show the colours of the classes, scored ones first, as a strip."""
    figure = _create_figure(0.1)
    figure.subplots().set_axis_off()  # notebooks show no figure without axes
    _add_class_legend(figure, classes, loc="center")
    return figure


def _draw_picture(ax, picture, classes, with_names):
    """Draw an array by its kind. Photographs are interpolated; class colours never are."""
    if picture.dtype.kind == "f":
        shares = picture.max(axis=-1) if picture.ndim == 3 else picture
        ax.imshow(shares, interpolation="nearest", vmin=0, vmax=1)
    elif picture.ndim == 3:
        ax.imshow(show_rgb(picture))
    else:
        ax.imshow(label_colors(picture, classes), interpolation="nearest")
        if with_names and min(picture.shape) >= NAMED:
            _name_regions(ax, picture, classes)
    ax.set(xticks=[], yticks=[])


def _name_regions(ax, labels, classes):
    """Write the names of classes into their largest regions, and outline the rare ones."""
    regions, ids, areas = find_regions(labels)
    down, right = np.ogrid[: labels.shape[0], : labels.shape[1]]
    free, width = np.ones(labels.shape, bool), labels.shape[1]
    for i in classes.scored_ids:
        if 0 < (labels == i).mean() < 0.01:
            ax.contour(labels == i, [0.5], colors="white", linewidths=0.8)
        largest = np.argmax(np.where(ids == i, areas, 0))
        if ids[largest] != i or areas[largest] < 0.02 * labels.size:
            continue
        inside = np.pad((regions == largest) & free, 1)
        depth = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        free &= np.hypot(4 * (down - row), right - column) > 0.3 * width  # of this name
        side = np.digitize(column / width, [0.15, 0.85])  # so that nothing is cut off
        style = {"ha": ("left", "center", "right")[side], "va": "center", "fontsize": 8}
        text = ax.text(column, row, _plain(classes.names[i]), color="white", **style)
        text.set_path_effects([withStroke(linewidth=2, foreground="0.2")])


def _add_class_legend(figure, classes, *, loc="outside lower center", with_errors=False):
    colors = {classes.names[i]: classes.colors[i] / 255 for i in classes.scored_ids}
    ignored = classes.ignore_label
    if ignored is not None:
        name = dict(enumerate(classes.names)).get(ignored, ignored)
        colors[f"{name} (ignored)"] = label_colors(np.array([[ignored]]), classes)[0, 0] / 255
    if with_errors:
        colors |= {kind: np.divide(ERRORS[kind], 255) for kind in ("correct", "wrong")}
    handles = [Patch(fc=color, ec="0.5", label=_plain(name)) for name, color in colors.items()]
    columns = max(1, int(figure.get_figwidth() / (0.5 + 0.08 * max(map(len, colors)))))
    _grow_figure(figure, 0.2 + 0.2 * -(-len(colors) // columns))
    style = {"fontsize": 9, "handlelength": 1.2, "columnspacing": 1.2, "frameon": False}
    figure.legend(handles=handles, loc=loc, ncols=min(columns, len(colors)), **style)


# What is in the data


def plot_class_frequency(frequency: pd.DataFrame, classes: ClassTable) -> Figure:
    """Show how rare the classes are, the commonest on top (`SplitStatistics.frequency`)."""
    table = 100 * frequency[["pixel_share", "image_share"]].sort_values("pixel_share")
    figure, axes = _create_class_axes(table.index, columns=2)
    for ax, column in zip(axes, table, strict=True):
        bars = ax.barh(range(len(table)), table[column], **_color_bars(table.index, classes))
        ax.bar_label(bars, [f"{share:.3g} %" for share in table[column]], padding=3, fontsize=9)
        ax.set_xlabel(f"share of {column.removesuffix('_share')}s, %")
    lowest = table["pixel_share"].where(table["pixel_share"] > 0).min()
    axes[0].set(xlim=(lowest / 3, 300), xscale="log")
    axes[0].xaxis.set_major_formatter("{x:g}")
    axes[1].set(xlim=(0, 120), xticks=range(0, 101, 25))
    return figure


def plot_co_occurrence(co_occurrence: pd.DataFrame) -> Figure:
    """Show which classes come together in an image (`SplitStatistics.co_occurrence`)."""
    shares = 100 * co_occurrence.to_numpy(float)
    axes = "also holds", "an image that holds"
    return _plot_matrix(shares, co_occurrence.index, axes, "share of the row's images, %")


def plot_region_sizes(regions: pd.DataFrame, classes: ClassTable) -> Figure:
    """Show how large the connected regions of each class are (`SplitStatistics.regions`)."""
    table = regions.sort_values("median_area", na_position="first")
    names = [f"{name} ({count:,})" for name, count in table["regions"].items()]
    figure, (ax,) = _create_class_axes(names, label="class (regions)")
    rows, style = range(len(table)), _color_bars(table.index, classes)
    for width, color in ((7, "0.3"), (5, style["color"])):  # the wider is the narrower one's edge
        ax.hlines(rows, table["smallest_area"], table["largest_area"], color=color, lw=width)
    ax.scatter(table["median_area"], rows, s=90, **style | {"ec": "black"}, lw=1.5, zorder=3)
    ax.set(xscale="log", xlabel="area of a region, pixels: smallest, median (dot), largest")
    return figure


def plot_location(location: np.ndarray, classes: ClassTable) -> Figure:
    """Show where in the frame each scored class lies, all on one logarithmic scale.

    `location` is that of `SplitStatistics`: float `(num_classes, rows, columns)` in [0, 1].
    """
    columns = min(4, len(classes.scored_ids))
    rows = -(-len(classes.scored_ids) // columns)
    figure = _create_figure(0.7 + rows * (0.4 + 5.4 / columns))
    for place, i in enumerate(classes.scored_ids, start=1):
        ax = figure.add_subplot(rows, columns, place, xticks=[0, 50, 100], yticks=[0, 50, 100])
        shares = np.clip(100 * np.asarray(location[i]), 0.1, 100)
        mesh = ax.imshow(shares, norm=LogNorm(0.1, 100), aspect=0.75, extent=(0, 100, 100, 0))
        ax.set_title(_plain(classes.names[i]), fontsize=10)
    figure.supxlabel("from the left, % of the width", fontsize=10)
    figure.supylabel("from the top, % of the height", fontsize=10)
    style = {"label": "share of pixels, % (at least 0.1)", "aspect": 30, "format": "%g"}
    figure.colorbar(mesh, ax=figure.axes, **style)
    return figure


def plot_image_statistics(images: pd.DataFrame) -> Figure:
    """Show how images differ in size, light, colour and sharpness (`SplitStatistics.images`)."""
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
    colors = {"blue": "#0072B2", "green": "#009E73", "red": "#D55E00"}  # the legend turns them
    style = {"histtype": "step", "color": [*colors.values()], "lw": 2, "label": [*colors]}
    axes["colour"].hist(images[[*colors]], np.arange(0, 261, 5), **style)
    axes["colour"].set(title="colour", xlabel="mean of a channel, 0–255", ylabel="images")
    axes["colour"].legend(frameon=False)
    sizes, ax = images.value_counts(["width", "height"]), axes["size"]
    ax.scatter(*zip(*sizes.index, strict=True), 20 + 200 * sizes / len(images), OKABE_ITO[0])
    for size, count in sizes.head(4).items():
        ax.annotate(f"{count:,}", size, (0, 9), textcoords="offset points", ha="center")
    ax.margins(0.2)
    ax.set(title="size, and how many", xlabel="width, pixels", ylabel="height, pixels")
    return figure


def plot_class_weights(weights: pd.DataFrame) -> Figure:
    """Compare the weights of `weight_table` on a logarithmic axis; 0 is not drawn."""
    weights = weights[::-1].where(weights > 0)  # the first class on top
    figure, (ax,) = _create_class_axes(weights.index)
    for k, method in enumerate(weights):
        rows = np.arange(len(weights)) + 0.25 - 0.5 * k / max(1, len(weights.columns) - 1)
        style = {"marker": MARKERS[k % 7], "color": OKABE_ITO[k % 7], "ls": "none"}
        ax.plot(weights[method], rows, label=method.replace("_", " "), **style)
    ax.set(xscale="log", xlabel="class weight (no unit)")
    ax.grid(axis="y", color="0.92")
    ax.axvline(1, color="0.6", lw=1, zorder=0)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    _grow_figure(figure, 0.4)
    return figure


def plot_findings(report: DatasetReport) -> Figure:
    """Show six examples of what is wrong with a data set, two of a kind, the gravest first.

    They are two photographs that are alike, a photograph and its mask, or a mask and what is wrong
    in it. The report has the words.
    """
    findings = [finding for finding in report.findings if len(finding.examples)]
    checks = [finding.check for finding in findings]
    shown = [f for i, f in enumerate(findings) if checks[:i].count(f.check) < 2][:MAX_EXAMPLES]
    if not shown:
        figure = _create_figure(0.6)
        ax = figure.add_subplot(frameon=False, xticks=[], yticks=[])
        ax.text(0, 0.5, "There is no finding that a picture could show.", va="center")
        return figure
    rows, titles = [], []
    for finding in shown:
        rows.append(_draw_example(finding, report.image_size))
        names = [name[-40:] for name in finding.examples.names]
        titles.append("\n".join([f"{finding.severity}: {finding.check}", *names]))
    return plot_grid(rows, titles=titles)


def _draw_example(finding, image_size):
    """Two pictures that show what is wrong, of no more pixels than are seen."""
    examples, classes = finding.examples, finding.examples.classes
    pictures = [show_rgb(read_image(image, examples.pixels)) for image, _ in examples.pairs]
    if len(pictures) == 1:
        path, check = examples.pairs[0][1], finding.check
        labels, pixels, lossy = read_mask(path, classes, encoding=examples.encoding)
        unknown, blends = find_strange_pixels(pixels, labels, classes, lossy=lossy)
        mask = label_colors(np.where(unknown, 0, labels), classes) if pixels is None else pixels
        regions, ids, areas = find_regions(labels)
        tiny = np.isin(ids, classes.scored_ids) & (areas * np.prod(image_size) < labels.size)
        wrong = dict.fromkeys(("unknown colours", "unknown ids", "stray colours"), unknown)
        wrong |= dict.fromkeys(("blended boundaries", "lossy masks"), unknown | blends)
        wrong["tiny regions"] = tiny[regions]
        pictures = [mask, _mark(mask, wrong[check])] if check in wrong else [*pictures, mask]
    steps = [-(-max(picture.shape) // 1000) for picture in pictures]
    return [p[::step, ::step].copy() for p, step in zip(pictures, steps, strict=True)]


def _mark(colors, where):
    """Fade a picture and paint pixels, with some around them, or single ones would not show."""
    marked = (0.3 * colors + 0.7 * 245).astype(np.uint8)
    marked[ndimage.binary_dilation(where, iterations=1 + max(where.shape) // 250)] = MARK
    return marked


# How training went, and what models score


def plot_learning_curves(history: pd.DataFrame) -> Figure:
    """Show losses and scores over the epochs, as in `Run.history`, and mark the best epoch.

    The best epoch has the highest validation mean IoU; without one, the lowest loss.
    """
    table = history.set_index("epoch").dropna(axis="columns", how="all")
    columns = [column for column in CURVES if column in table]
    best_by = next(column for column in ("mean_iou", "val_loss", *columns) if column in columns)
    best = table[best_by].idxmax() if best_by == "mean_iou" else table[best_by].idxmin()
    panels = list(dict.fromkeys(CURVES[column][0] for column in columns))
    figure = _create_figure(3.4)
    axes = dict(zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True))
    for column, color in zip(columns, OKABE_ITO, strict=False):
        panel, label = CURVES[column]
        values = table[column].dropna() * (100 if "%" in panel else 1)  # not in each epoch
        axes[panel].plot(values.index, values, ".-", color=color, label=label)
    for panel, ax in axes.items():
        ax.set(xlabel="epoch", ylabel=panel)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.spines[["top", "right"]].set_visible(False)
        if panel != "loss":
            ax.set_ylim(bottom=0)  # a rate that is held is a level line
        ax.legend(edgecolor="none")
        ax.axvline(best, color="0.4", ls="--", lw=1, zorder=0)
    title = f"best epoch: {best} ({CURVES[best_by][1]} {table[best_by][best]:.3g})"
    figure.suptitle(title, fontsize=10)
    return figure


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
    axes, names = ("predicted class", "true class"), [classes.names[i] for i in ids]
    return _plot_matrix(matrix, names, axes, "share of the true class, %")


def plot_per_class(per_class: pd.DataFrame, classes: ClassTable) -> Figure:
    """Show the IoU of each class with its interval, the best on top, and the mean IoU.

    Args:
        per_class: DataFrame as in `Report.per_class`: `iou` and, where known, `iou_low` and
            `iou_high` in [0, 1]; NaN has no bar.
        classes: ClassTable.
    """
    table = per_class.sort_values("iou", na_position="first")
    figure, (ax,) = _create_class_axes(table.index)
    (values, ends), rows = _read_column(table, "iou"), range(len(table))
    edge = {"lw": 1.5, "path_effects": [withStroke(linewidth=4, foreground="white")]}
    style = _color_bars(table.index, classes) | {"xerr": ends, "error_kw": edge}
    bars = ax.barh(rows, values.fillna(0), **style)
    texts = ["not scored" if np.isnan(value) else f"{value:.1f}" for value in values]
    ax.bar_label(bars, texts, padding=3, fontsize=9)
    label = f"mean {values.mean():.1f} %"
    ax.axvline(values.mean(), color="0.4", ls="--", lw=1, zorder=0, label=label)
    ax.set(xlim=(0, 108), xticks=range(0, 101, 20), xlabel="IoU, %")
    ax.legend(loc="lower right", frameon=False)
    return figure


def plot_tradeoff(
    table: pd.DataFrame, x: str | Sequence[str], y: str, *, size=None, baseline=None
) -> Figure:
    """Show one figure of methods, networks or exports against another, a mark a row.

    Where the table has `{column}_low` and `{column}_high`, a line goes from one to the other.

    Args:
        table: DataFrame by name; or by several, as `DeploymentCard.table`.
        x: column, or several, a panel each; logarithmic where it spans more than a factor of 10.
        y: column. Of both, those that end with `iou` are in [0, 1].
        size: column that the areas of the marks are proportional to, such as "parameters".
        baseline: row that gets dashed lines, or None.
    """
    columns = [x] if isinstance(x, str) else x
    names = table.index if table.index.nlevels == 1 else table.index.map(" ".join)
    looks = [{"marker": MARKERS[i // 7 % 7], "color": OKABE_ITO[i % 7]} for i in range(len(names))]
    areas = np.full(len(table), 60) if size is None else 900 * table[size] / table[size].max()
    figure = _create_figure(4.4)
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    up, up_ends = _read_column(table, y)
    for ax, column in zip(axes, columns, strict=True):
        across, ends = _read_column(table, column)
        for left, height, area, look in zip(across, up, areas, looks, strict=True):
            ax.scatter(left, height, area, **look, lw=1.5, alpha=0.7, zorder=3)
        ax.errorbar(across, up, up_ends, ends, fmt="none", ecolor="0.2", zorder=4)
        if baseline in table.index:
            ax.axvline(across[baseline], color="0.4", ls="--", lw=1, zorder=0)
            ax.axhline(up[baseline], color="0.4", ls="--", lw=1, zorder=0)
        ax.set(xlabel=UNITS.get(column, column))
        ax.margins(0.1)
        ax.grid(color="0.92")
        ax.spines[["top", "right"]].set_visible(False)
        if across.max() > 10 * across.min():
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
        elif not column.endswith("iou"):
            ax.set_xlim(left=0)
    low, high = axes[0].get_ylim()
    more = max(0, 2 - (high - low)) / 2  # little is made of differences below a point
    axes[0].set(ylabel=UNITS.get(y, y), ylim=(low - more, high + more))
    for i, (name, look) in enumerate(zip(names, looks, strict=True)):
        count = "" if size is None else f", {table[size].iloc[i] / 1e6:.3g} M"
        axes[0].scatter([], [], 60, **look, label=_plain(name) + count)
    figure.legend(title=size, loc="outside right center", frameon=False, handletextpad=0.2)
    return figure


def _read_column(table, name):
    """Return a column in its unit, and how far its ends are from it, where they are known."""
    values, factor = table[name], 100 if name.endswith("iou") else 1
    ends = table.filter([f"{name}_low", f"{name}_high"]).sub(values, axis=0).abs().fillna(0)
    return factor * values, factor * ends.to_numpy().T if ends.size else None


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


def _create_class_axes(names, *, columns=1, label="class"):
    """Return a figure and its axes side by side, a row a class, the first one at the bottom."""
    figure = _create_figure(0.9 + 0.32 * len(names))
    axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    axes[0].set_yticks(range(len(names)), map(_plain, names))
    axes[0].set(ylim=(-0.6, len(names) - 0.4), ylabel=label)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _color_bars(names, classes):
    """Return the style of bars in the colours of the classes with these names."""
    colors = dict(zip(classes.names, classes.colors / 255, strict=True))
    return {"color": [colors[name] for name in names], "ec": "0.3"}


def _plot_matrix(matrix, names, labels, unit):
    """Return a figure of percentages `(k, k)` with the numbers written in."""
    size = len(names)
    figure = _create_figure(min(max(0.55 * size + 1.5, 4), 9))
    ax = figure.subplots()
    mesh = ax.imshow(matrix, "cividis", vmin=0, vmax=100, aspect="auto")
    figure.colorbar(mesh, label=unit, aspect=30)
    ax.set_facecolor("0.8")
    names = [_plain(name) for name in names]
    ax.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), names)
    style = {"ha": "center", "va": "center", "size": min(9, 180 / size)}
    for (row, column), value in np.ndenumerate(matrix):
        if value >= 0.5 or (size <= 12 and value >= 0):  # large ones are read without zeros
            text = f"{value:.1f}" if size <= 12 else f"{value:.0f}"
            ax.text(column, row, text, color="black" if value > 50 else "white", **style)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    return figure
