"""Arrays and tables in, matplotlib figures out.

Each function returns a figure that pyplot no longer holds, so a notebook shows
it once, as the last expression of a cell, and figures do not pile up.
"""

import numpy as np
from matplotlib import pyplot
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from seglib.masks import label_colors

WIDTH = 10  # inches: what a notebook's column shows without shrinking
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
ERRORS = {"correct": (200, 200, 200), "wrong": (213, 94, 0), "ignored": (0, 0, 0)}

# ---------------------------------------------------------------- arrays


def overlay(image, labels, classes, *, alpha=0.5):
    """Lay the colours of the classes over an image.

    Args:
        image: array `(height, width, 3)`; uint8, or float in [0, 1].
        labels: int array `(height, width)` of ids.
        classes: ClassTable.
        alpha: float in [0, 1], how much of the class colour: 1 hides the image.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        ValueError: image and labels differ in size, or an id is not in the table.

    Example:
        >>> from seglib.classes import ClassTable
        >>> table = ClassTable(["road"], [(200, 100, 0)])
        >>> overlay(np.full((1, 1, 3), 100, np.uint8), np.array([[0]]), table, alpha=0.25)
        array([[[125, 100,  75]]], dtype=uint8)
    """
    image, colors = _to_bytes(image), label_colors(labels, classes)
    if image.shape != colors.shape:
        raise ValueError(
            f"image and labels must have the same size, received an image of shape "
            f"{image.shape} and labels of shape {np.shape(labels)}"
        )
    return np.rint((1 - alpha) * image + alpha * colors).astype(np.uint8)


def error_map(y_true, y_pred, ignore_label=None):
    """Paint pixels grey where the prediction is correct, orange where wrong, black where ignored.

    Args:
        y_true: int array `(height, width)` of ids.
        y_pred: int array, same shape.
        ignore_label: int or None. Pixels whose true id is this are ignored.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> error_map([[0, 1, 255]], [[0, 0, 0]], 255).tolist()
        [[[200, 200, 200], [213, 94, 0], [0, 0, 0]]]
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"y_true and y_pred must have the same shape, received {y_true.shape} and "
            f"{y_pred.shape}; resize the prediction to the size of the truth"
        )
    kinds = (y_true != y_pred).astype(int)
    if ignore_label is not None:
        kinds[y_true == ignore_label] = 2
    return np.array(list(ERRORS.values()), np.uint8)[kinds]


# -------------------------------------------------------------- pictures


def plot_samples(pairs, classes, *, titles=None):
    """Show photos, their masks, and both together, a row a pair.

    Args:
        pairs: sequence of `(image, labels)`, as a split gives them.
        classes: ClassTable.
        titles: sequence of str or None, a name for each row.

    Returns:
        Figure, with a legend of the classes below.
    """
    rows = [
        [_to_bytes(image), label_colors(labels, classes), overlay(image, labels, classes)]
        for image, labels in pairs
    ]
    figure, _ = _plot_pictures(rows, ["photo", "mask", "overlay"], titles, smooth=(0, 2))
    _add_class_legend(figure, classes)
    return figure


def plot_predictions(images, y_true, y_pred, classes, *, titles=None, confidence=None):
    """Compare predictions with the truth, a row an image.

    Args:
        images: sequence of arrays `(height, width, 3)`; uint8, or float in [0, 1].
        y_true: sequence of int arrays `(height, width)` of ids.
        y_pred: sequence of int arrays `(height, width)` of ids.
        classes: ClassTable.
        titles: sequence of str or None, a name for each row.
        confidence: sequence of float arrays `(height, width)` in [0, 1], or
            None: adds a column that shows them.

    Returns:
        Figure, with legends below.
    """
    rows = [
        [
            _to_bytes(image),
            label_colors(true, classes),
            label_colors(pred, classes),
            error_map(true, pred, classes.ignore_label),
        ]
        for image, true, pred in zip(images, y_true, y_pred, strict=True)
    ]
    names = ["photo", "truth", "prediction", "errors"]
    if confidence is not None:
        rows = [[*row, values] for row, values in zip(rows, confidence, strict=True)]
        names.append("confidence")
    figure, axes = _plot_pictures(rows, names, titles)
    _add_error_legend(axes[-1, 3], classes.ignore_label)
    if confidence is not None:
        _add_confidence_bar(axes[-1, 4])
    _add_class_legend(figure, classes)
    return figure


def plot_overlay(image, labels, classes, *, alpha=0.5):
    """Show the class colours over one image; arguments as `overlay` takes them."""
    picture = overlay(image, labels, classes, alpha=alpha)
    figure, _ = _plot_pictures([[picture]], [None], width=0.7 * WIDTH)
    _add_class_legend(figure, classes)
    return figure


def plot_error_map(y_true, y_pred, *, ignore_label=None):
    """Show where one prediction is wrong; arguments as `error_map` takes them."""
    picture = error_map(y_true, y_pred, ignore_label)
    wrong = (picture == ERRORS["wrong"]).all(axis=-1).sum()
    scored = (picture != ERRORS["ignored"]).any(axis=-1).sum()
    share = f"{100 * wrong / scored:.1f} % of the scored pixels are wrong" if scored else None
    figure, axes = _plot_pictures([[picture]], [share], width=0.7 * WIDTH)
    _add_error_legend(axes[0, 0], ignore_label)
    return figure


def plot_confidence(image, confidence):
    """Show an image beside the confidence of its prediction.

    Args:
        image: array `(height, width, 3)`; uint8, or float in [0, 1].
        confidence: float array `(height, width)` in [0, 1], the probability of
            the class that was chosen.

    Returns:
        Figure, with a colour bar.
    """
    row = [_to_bytes(image), np.asarray(confidence)]
    figure, axes = _plot_pictures([row], ["photo", "confidence"])
    _add_confidence_bar(axes[0, 1])
    return figure


def plot_label_comparison(images, classes=None):
    """Show pictures side by side, pixel by pixel, such as crops of one place.

    Args:
        images: dict `{title: picture}`; a picture is RGB `(height, width, 3)` or
            labels `(height, width)`.
        classes: ClassTable or None; needed where there are labels.

    Returns:
        Figure, with a legend where there are labels.

    Raises:
        ValueError: there are labels and no classes.
    """
    pictures = {title: np.asarray(picture) for title, picture in images.items()}
    with_labels = [title for title, picture in pictures.items() if picture.ndim == 2]
    if with_labels and classes is None:
        raise ValueError(f"{with_labels[0]!r} holds labels: pass classes to colour them")
    row = [label_colors(p, classes) if p.ndim == 2 else _to_bytes(p) for p in pictures.values()]
    figure, _ = _plot_pictures([row], list(pictures), smooth=())
    if with_labels:
        _add_class_legend(figure, classes)
    return figure


def plot_palette(classes):
    """Show the colours of the classes, scored ones first, as a strip."""
    figure = _create_figure(WIDTH, 0.1)
    figure.subplots().set_axis_off()  # notebooks show no figure without axes
    _add_class_legend(figure, classes, loc="center")
    return figure


# ------------------------------------------------------------------ data


def plot_class_frequency(frequency, classes):
    """Show how rare the classes are, by pixels and by images.

    Args:
        frequency: DataFrame by class name with the columns `pixel_share` and
            `image_share` in [0, 1], as `statistics.class_frequency` makes it.
        classes: ClassTable.

    Returns:
        Figure: left a logarithmic axis, right a linear one; commonest on top.
    """
    table = frequency.sort_values("pixel_share")
    figure = _create_figure(WIDTH, 0.9 + 0.32 * len(table))
    axes = figure.subplots(1, 2, sharey=True)
    rows, colors = np.arange(len(table)), _name_colors(table.index, classes)
    for ax, what in zip(axes, ("pixel", "image"), strict=True):
        shares = 100 * table[f"{what}_share"]
        bars = ax.barh(rows, shares, color=colors, ec="0.3")
        ax.bar_label(bars, [f"{share:.3g} %" for share in shares], padding=3, fontsize=9)
        ax.set_xlabel(f"share of {what}s, %")
        _label_rows(ax, table.index)
    lowest = min((share for share in 100 * table["pixel_share"] if share > 0), default=1)
    axes[0].set(xlim=(lowest / 3, 300), xscale="log")
    axes[0].xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value <= 100 else "")
    axes[1].set(xlim=(0, 120), xticks=range(0, 101, 25), ylabel=None)
    return figure


def plot_co_occurrence(co_occurrence):
    """Show which classes come together in an image.

    Args:
        co_occurrence: DataFrame of shares in [0, 1] by class name, as
            `statistics.co_occurrence` makes it; NaN is left grey.

    Returns:
        Figure.
    """
    figure, ax = _plot_matrix(
        100 * co_occurrence.to_numpy(float), co_occurrence.index, "share of the row's images, %"
    )
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
    figure = _create_figure(WIDTH, 0.9 + 0.32 * len(table))
    ax, rows = figure.subplots(), np.arange(len(table))
    colors = _name_colors(table.index, classes)
    for width, color in ((7, "0.3"), (5, colors)):  # the wider line is the narrower one's edge
        ax.hlines(rows, table["smallest_area"], table["largest_area"], color=color, lw=width)
    ax.scatter(table["median_area"], rows, s=90, color=colors, ec="black", lw=1.5, zorder=3)
    for row, count in zip(rows, table["regions"], strict=True):
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
        ax.annotate(f"regions: {count:,}", (1.01, row), **place)
    ax.set(xscale="log", xlabel="area of a region, pixels: smallest, median (dot), largest")
    _label_rows(ax, table.index)
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
    ids = classes.scored_ids
    columns = min(4, len(ids))
    rows = -(-len(ids) // columns)
    figure = _create_figure(WIDTH, 0.7 + rows * (0.4 + 5.4 / columns))
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(ids) :]:
        ax.set_axis_off()
    for ax, i in zip(axes.flat, ids, strict=False):
        shares = np.clip(100 * np.asarray(location[i]), 0.1, 100)
        mesh = ax.imshow(shares, norm=LogNorm(0.1, 100), aspect=0.75, extent=(0, 100, 100, 0))
        ax.set_title(classes.names[i], fontsize=10)
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
    figure = _create_figure(WIDTH, 5.5)
    axes = figure.subplot_mosaic(
        [["brightness", "contrast", "sharpness"], ["size", "mean", "mean"]]
    )
    units = {
        "brightness": "mean grey value, 0–255",
        "contrast": "standard deviation of grey, 0–255",
        "sharpness": "variance of the Laplacian, grey²",
    }
    for column, unit in units.items():
        axes[column].hist(images[column], bins=20, color=OKABE_ITO[0], ec="white")
        axes[column].set(title=column, xlabel=unit, ylabel="images")
    for column, color in {"red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}.items():
        bins = np.arange(0, 261, 5)
        axes["mean"].hist(images[column], bins, histtype="step", color=color, lw=2, label=column)
    axes["mean"].set(title="colour", xlabel="mean of a channel, 0–255", ylabel="images")
    axes["mean"].legend(frameon=False)
    sizes = images.value_counts(["width", "height"])
    areas = 20 + 200 * sizes / len(images)
    axes["size"].scatter(*zip(*sizes.index, strict=True), areas, OKABE_ITO[0])
    for size, count in sizes.head(4).items():
        place = {"textcoords": "offset points", "ha": "center"}
        axes["size"].annotate(f"{count:,}", size, (0, 9), **place)
    axes["size"].margins(0.2)
    axes["size"].set(title="size, and how many", xlabel="width, pixels", ylabel="height, pixels")
    return figure


def plot_class_weights(weights):
    """Compare ways to weigh the classes.

    Args:
        weights: DataFrame by class name, a column a method, as
            `balance.weight_table` makes it. Weights of 0 are not drawn.

    Returns:
        Figure with a logarithmic axis.
    """
    figure = _create_figure(WIDTH, 1.3 + 0.36 * len(weights))
    ax, rows = figure.subplots(), np.arange(len(weights))
    offsets = np.linspace(-0.25, 0.25, weights.shape[1]) if weights.shape[1] > 1 else [0]
    for k, (method, offset) in enumerate(zip(weights, offsets, strict=True)):
        values = weights[method].where(weights[method] > 0)
        style = {"marker": "osD^vP*"[k % 7], "color": OKABE_ITO[k % 7], "ls": "none"}
        ax.plot(values, rows + offset, label=str(method).replace("_", " "), **style)
    ax.set(xscale="log", xlabel="class weight (no unit)")
    _label_rows(ax, weights.index)
    ax.set_yticks(rows[1:] - 0.5, minor=True)
    ax.grid(which="minor", axis="y", color="0.85")
    ax.tick_params(which="minor", left=False)
    ax.axvline(1, color="0.6", lw=1, zorder=0)
    ax.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


# ---------------------------------------------------------------- scores


def plot_learning_curves(history):
    """Show losses, scores and the learning rate over the epochs, and mark the best one.

    The best epoch has the highest `val_mean_iou` or, failing that, `mean_iou`,
    or the lowest `val_loss` or `loss`.

    Args:
        history: DataFrame, a row an epoch, with the column `epoch` (else rows
            count from 1) and any of `loss`, `mean_iou`, `pixel_accuracy`, these
            with `val_` before them, and `learning_rate`. Scores are in [0, 1].

    Returns:
        Figure, a panel for each kind of column that is there.

    Raises:
        ValueError: there is no row, or none of these columns.
    """
    panels = {
        "loss": ["loss", "val_loss"],
        "score, %": ["mean_iou", "val_mean_iou", "pixel_accuracy", "val_pixel_accuracy"],
        "learning rate": ["learning_rate"],
    }
    panels = {unit: [c for c in names if c in history] for unit, names in panels.items()}
    panels = {unit: names for unit, names in panels.items() if names}
    if not panels or history.empty:
        raise ValueError(
            f"expected a row an epoch and columns such as loss and mean_iou, received "
            f"{len(history)} rows of the columns {list(history.columns)}"
        )
    epochs = history["epoch"] if "epoch" in history else np.arange(1, len(history) + 1)
    figure = _create_figure(WIDTH, 3.4)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (unit, names) in zip(axes, panels.items(), strict=True):
        _draw_curves(ax, epochs, history[names], unit)
    _mark_best_epoch(axes, epochs, history)
    return figure


def plot_confusion_matrix(matrix, classes, *, normalize="true"):
    """Show which class is taken for which.

    Args:
        matrix: int array `(num_classes, num_classes)`; row is the true class.
        classes: ClassTable; rows and columns of its ignored class are left out.
        normalize: `"true"`: % of each row; `"pred"`: % of each column; None:
            pixels.

    Returns:
        Figure. What has no pixel is left grey.

    Raises:
        ValueError: the matrix does not fit the classes, or `normalize` is unknown.
    """
    matrix, ids = np.asarray(matrix), list(classes.scored_ids)
    if matrix.shape != (classes.num_classes,) * 2:
        raise ValueError(
            f"expected a matrix of shape {(classes.num_classes,) * 2}, received {matrix.shape}"
        )
    units = {"true": "share of the true class, %", "pred": "share of the prediction, %"}
    if normalize not in (*units, None):
        raise ValueError(f"normalize must be 'true', 'pred' or None, received {normalize!r}")
    matrix = matrix[np.ix_(ids, ids)].astype(float)
    if normalize is not None:
        whole = matrix.sum(axis=1 if normalize == "true" else 0, keepdims=True)
        matrix = 100 * matrix / np.where(whole > 0, whole, np.nan)
    names = [classes.names[i] for i in ids]
    figure, ax = _plot_matrix(matrix, names, units.get(normalize, "pixels"))
    ax.set(xlabel="predicted class", ylabel="true class")
    return figure


def plot_per_class(per_class, classes):
    """Show the IoU of each class with its interval.

    Args:
        per_class: DataFrame by class name with the column `iou` and, where
            known, `iou_low` and `iou_high`, all in [0, 1]; NaN has no bar.
        classes: ClassTable.

    Returns:
        Figure: best class on top, a dashed line at the mean IoU.
    """
    table = 100 * per_class.filter(["iou", "iou_low", "iou_high"])
    table = table.sort_values("iou", na_position="first")
    figure = _create_figure(WIDTH, 0.9 + 0.32 * len(table))
    ax, rows, ends = figure.subplots(), np.arange(len(table)), table["iou"]
    ax.barh(rows, ends.fillna(0), color=_name_colors(table.index, classes), ec="0.3")
    if {"iou_low", "iou_high"} <= set(table):
        sides = np.maximum([ends - table["iou_low"], table["iou_high"] - ends], 0)
        for color, width in (("white", 4), ("black", 1.5)):  # seen on dark and light bars
            ax.errorbar(ends, rows, xerr=sides, fmt="none", ecolor=color, elinewidth=width)
        ends = table["iou_high"].fillna(ends)
    for row, (value, end) in enumerate(zip(table["iou"], ends, strict=True)):
        text, place = ("not scored", 0) if np.isnan(value) else (f"{value:.1f}", end)
        ax.annotate(text, (place, row), (4, 0), textcoords="offset points", va="center", fontsize=9)
    mean = table["iou"].mean()
    ax.axvline(mean, color="0.4", ls="--", lw=1, zorder=0, label=f"mean {mean:.1f} %")
    ax.set(xlim=(0, 108), xticks=range(0, 101, 20), xlabel="IoU, %")
    _label_rows(ax, table.index)
    ax.legend(loc="lower right", frameon=False)
    return figure


# --------------------------------------------------------------- drawing


def _create_figure(width, height, layout="constrained"):
    # Made by pyplot, which teaches the notebook to show figures; closed at once,
    # or the notebook would show each of them twice.
    figure = pyplot.figure(figsize=(width, height), layout=layout)
    pyplot.close(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return figure


def _to_bytes(image):
    image = np.asarray(image)
    return (
        image if image.dtype == np.uint8 else np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    )


def _plot_pictures(rows, titles, row_titles=None, *, smooth=(0,), width=WIDTH):
    # Photos, in the columns `smooth`, are interpolated; class colours never are.
    ratios = [max(picture.shape[0] / picture.shape[1] for picture in row) for row in rows]
    height = sum(ratios) * width / len(titles) + 0.05 * len(rows)
    figure = _create_figure(width, height + 0.35 * any(titles), layout="compressed")
    axes = figure.subplots(len(rows), len(titles), squeeze=False, height_ratios=ratios)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            interpolation = "auto" if c in smooth else "nearest"
            axes[r, c].imshow(picture, interpolation=interpolation, vmin=0, vmax=1)
            axes[r, c].set(xticks=[], yticks=[], title=titles[c] if r == 0 else None)
        if row_titles is not None:
            axes[r, 0].set_ylabel(row_titles[r], fontsize=9)
    return figure, axes


def _label_rows(ax, names):
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(-0.6, len(names) - 0.4), ylabel="class")
    ax.spines[["top", "right"]].set_visible(False)


def _plot_matrix(matrix, names, unit):
    size = len(names)
    figure = _create_figure(WIDTH, min(max(0.55 * size + 1.5, 4), 9))
    ax = figure.subplots()
    top = 100 if "%" in unit else np.nanmax(matrix, initial=1)
    mesh = ax.imshow(matrix, "cividis", vmin=0, vmax=top, aspect="auto")
    ax.set_facecolor("0.8")
    text_size = min(9, 180 / size)
    for (row, column), value in np.ndenumerate(matrix):
        text = _format_cell(value, many=size > 12, percent="%" in unit)
        color = "black" if value > 0.5 * top else "white"
        style = {"ha": "center", "va": "center", "size": text_size, "color": color}
        ax.text(column, row, text, **style)
    ax.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), names)
    figure.colorbar(mesh, label=unit, aspect=30)
    return figure, ax


def _format_cell(value, *, many, percent):
    if np.isnan(value) or (many and value < 0.5):
        return ""  # a large matrix is easier to read without its zeros
    if value < 999.5:
        return f"{value:.1f}" if percent and not many and 0 < value < 99.95 else f"{value:.0f}"
    return f"{value / 1e6:.3g}M" if value >= 999_500 else f"{value / 1e3:.3g}k"


def _draw_curves(ax, epochs, table, unit):
    for name, color in zip(table, OKABE_ITO, strict=False):
        values = table[name].astype(float)
        known = values.notna().to_numpy()  # some are only measured every few epochs
        values = (100 * values if "%" in unit else values)[known]
        ax.plot(np.asarray(epochs)[known], values, ".-", color=color, label=_spell(name))
    ax.set(xlabel="epoch", ylabel=unit)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.spines[["top", "right"]].set_visible(False)
    if len(table.columns) > 1:
        ax.legend(frameon=False)


def _spell(column):
    return column.replace("val_", "validation ").replace("_", " ").replace("iou", "IoU")


def _mark_best_epoch(axes, epochs, history):
    order = {"val_mean_iou": 1, "mean_iou": 1, "val_loss": -1, "loss": -1}
    for name, sign in order.items():
        if name in history and history[name].notna().any():
            row = np.nanargmax(sign * history[name].to_numpy(float))
            best = int(np.asarray(epochs)[row])
            for ax in axes:
                ax.axvline(best, color="0.4", ls="--", lw=1, zorder=0)
            value, what = history[name].iloc[row], _spell(name)
            value = f"{100 * value:.1f} %" if sign > 0 else f"{value:.3g}"
            axes[0].figure.suptitle(f"best epoch: {best} ({what} {value})", fontsize=10)
            return


def _name_colors(names, classes):
    colors = dict(zip(classes.names, classes.colors / 255, strict=True))
    return [colors[name] for name in names]


def _add_class_legend(figure, classes, loc="outside lower center"):
    ids = list(classes.scored_ids)
    entries = [(classes.names[i], classes.colors[i] / 255) for i in ids]
    if classes.ignore_label is not None:
        inside = 0 <= classes.ignore_label < classes.num_classes
        name = classes.names[classes.ignore_label] if inside else str(classes.ignore_label)
        color = classes.colors[classes.ignore_label] / 255 if inside else "black"
        entries.append((f"{name} (ignored)", color))
    handles = [Patch(fc=color, ec="0.5", label=name) for name, color in entries]
    width = figure.get_figwidth()
    columns = max(1, int(width / (0.5 + 0.08 * max(len(name) for name, _ in entries))))
    rows = -(-len(entries) // columns)
    columns = -(-len(entries) // rows)
    _grow(figure, 0.2 + 0.2 * rows)
    style = {"fontsize": 9, "handlelength": 1.2, "columnspacing": 1.2, "frameon": False}
    figure.legend(handles=handles, loc=loc, ncols=columns, **style)


def _grow(figure, height):
    figure.set_figheight(figure.get_figheight() + height)


def _add_error_legend(ax, ignore_label):
    names = ["correct", "wrong"] + ["ignored"] * (ignore_label is not None)
    handles = [Patch(fc=np.divide(ERRORS[name], 255), ec="0.5", label=name) for name in names]
    style = {"fontsize": 8, "handlelength": 0.9, "columnspacing": 0.6, "frameon": False}
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 0.2}
    ax.legend(handles=handles, ncols=3, handletextpad=0.4, **place, **style)
    _grow(ax.figure, 0.2)


def _add_confidence_bar(ax):
    figure, (rows, columns) = ax.figure, ax.images[0].get_size()
    inches = rows / columns * figure.get_figwidth() / ax.get_gridspec().ncols
    place = ax.inset_axes([0.05, -0.22 / inches, 0.9, 0.12 / inches])
    bar = figure.colorbar(ax.images[0], cax=place, orientation="horizontal")
    bar.set_label("probability of the class", fontsize=8)
    bar.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"], fontsize=8)
    _grow(figure, 0.4)
