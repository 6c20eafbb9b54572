"""How training went, and what the trained model scores."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from seglib.plots.drawing import (
    OKABE_ITO,
    create_class_axes,
    create_figure,
    name_colors,
    plot_matrix,
)

CURVES = {  # column: the panel it is in
    "loss": "loss",
    "val_loss": "loss",
    "val_pixel_accuracy": "score, %",
    "val_mean_iou": "score, %",
    "pixel_accuracy": "score, %",
    "mean_iou": "score, %",
    "learning_rate": "learning rate",
}
COLORS = dict(zip(CURVES, OKABE_ITO, strict=True))
MATRIX_UNITS = {
    "true": "share of the true class, %",
    "pred": "share of the prediction, %",
    None: "pixels",
}


def plot_learning_curves(history):
    """Show losses and scores over the epochs, and mark the best one.

    The best epoch has the highest validation mean IoU; without one, the lowest
    validation loss, or what is known of the training data.

    Args:
        history: DataFrame, a row an epoch, as in `Run.history`: `epoch` (else
            rows count from 1), `loss`, `val_loss`, and `pixel_accuracy` and
            `mean_iou` in [0, 1] on the validation data. Where these are named
            `val_pixel_accuracy` and `val_mean_iou`, as Keras does, the names
            without `val_` are of the training data. `learning_rate` has a panel
            of its own. NaN and other columns are left out.

    Returns:
        Figure, a panel for each kind of column that holds a number.

    Raises:
        ValueError: there is no row, or no number in any of these columns.
    """
    table = _select_curves(history)
    if table.empty:
        raise ValueError(
            f"expected a row an epoch and columns such as loss and mean_iou, received "
            f"{len(history)} rows of the columns {list(history.columns)}"
        )
    panels = dict.fromkeys(CURVES[column] for column in table)
    figure = create_figure(3.4)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        _draw_curves(ax, table[[column for column in table if CURVES[column] == panel]], panel)
    _mark_best_epoch(figure, table)
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
    if normalize not in MATRIX_UNITS:
        raise ValueError(f"normalize must be 'true', 'pred' or None, received {normalize!r}")
    matrix = matrix[np.ix_(ids, ids)].astype(float)
    if normalize is not None:
        whole = matrix.sum(axis=1 if normalize == "true" else 0, keepdims=True)
        matrix = 100 * matrix / np.where(whole > 0, whole, np.nan)
    names = [classes.names[i] for i in ids]
    figure, ax = plot_matrix(matrix, names, MATRIX_UNITS[normalize])
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
    figure, (ax,) = create_class_axes(table.index)
    ends, colors = table["iou"], name_colors(table.index, classes)
    ax.barh(range(len(table)), ends.fillna(0), color=colors, ec="0.3")
    if {"iou_low", "iou_high"} <= set(table):
        _draw_intervals(ax, table)
        ends = table["iou_high"].fillna(ends)
    style = {"textcoords": "offset points", "va": "center", "fontsize": 9}
    for row, (value, end) in enumerate(zip(table["iou"], ends, strict=True)):
        text, place = ("not scored", 0) if np.isnan(value) else (f"{value:.1f}", end)
        ax.annotate(text, (place, row), (4, 0), **style)
    mean = table["iou"].mean()
    ax.axvline(mean, color="0.4", ls="--", lw=1, zorder=0, label=f"mean {mean:.1f} %")
    ax.set(xlim=(0, 108), xticks=range(0, 101, 20), xlabel="IoU, %")
    ax.legend(loc="lower right", frameon=False)
    return figure


def plot_methods(table, *, groups, baseline=None):
    """Compare methods by the mean IoU of groups of classes, such as rare and common ones.

    Args:
        table: DataFrame by method, as `balance.compare_methods` makes it: for each group the
            columns `{group}_iou`, and `{group}_iou_low` and `{group}_iou_high`, all in [0, 1].
        groups: names of the groups, a panel each, such as `("rare", "common")`.
        baseline: method that gets a dashed line, or None.

    Returns:
        Figure: the first row of the table on top, bars from the lowest to the highest seed.
    """
    table = table.iloc[::-1]
    figure, axes = create_class_axes(table.index, columns=len(groups))
    axes[0].set_ylabel("method")
    rows = np.arange(len(table))
    for ax, group, color in zip(axes, groups, OKABE_ITO, strict=False):
        mean, low, high = (100 * table[f"{group}_iou{end}"] for end in ("", "_low", "_high"))
        ax.errorbar(mean, rows, xerr=[mean - low, high - mean], fmt="o", color=color, capsize=3)
        for row, (value, end) in enumerate(zip(mean, high, strict=True)):
            ax.annotate(f"{value:.1f}", (end, row), (6, 0), textcoords="offset points",
                        va="center", fontsize=9, bbox={"fc": "white", "ec": "none", "pad": 0.5},
                        zorder=1)  # fmt: skip
        if baseline in table.index:
            ax.axvline(mean[baseline], color="0.4", ls="--", lw=1, zorder=0)
        ax.set(xlabel=f"mean IoU of {group} classes, %")
        ax.margins(x=0.15)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 0 else "")
        ax.grid(axis="y", color="0.92")
        ax.set_axisbelow(True)
    return figure


def _select_curves(history):
    """Return the columns to draw, by epoch, where the `val_` ones alone are of validation data."""
    epochs = history["epoch"] if "epoch" in history else range(1, len(history) + 1)
    table = history.set_axis(epochs, axis="index").filter(list(CURVES))
    scores = {column: f"val_{column}" for column in ("pixel_accuracy", "mean_iou")}
    if set(table).isdisjoint(scores.values()):
        table = table.rename(columns=scores)
    return table.astype(float).dropna(axis="columns", how="all")


def _draw_curves(ax, table, unit):
    for column in table:
        values = table[column].dropna()  # some are only measured every few epochs
        values = 100 * values if "%" in unit else values
        ax.plot(values.index, values, ".-", color=COLORS[column], label=_spell(column))
    ax.set(xlabel="epoch", ylabel=unit)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.spines[["top", "right"]].set_visible(False)
    if unit != "loss":
        ax.set_ylim(bottom=0)  # a rate that is held is a level line; the legend has room below
    if "learning_rate" not in table:
        ax.legend(edgecolor="none")


def _mark_best_epoch(figure, table):
    signs = {"val_mean_iou": 1, "val_loss": -1, "mean_iou": 1, "loss": -1}
    column = next((column for column in signs if column in table), None)
    if column is None:
        return
    scores = signs[column] * table[column]
    best, value = scores.idxmax(), signs[column] * scores.max()
    for ax in figure.axes:
        ax.axvline(best, color="0.4", ls="--", lw=1, zorder=0)
    value = f"{value:.3g}" if "loss" in column else f"{100 * value:.1f} %"
    figure.suptitle(f"best epoch: {best:.0f} ({_spell(column)} {value})", fontsize=10)


def _spell(column):
    data = "validation" if column.startswith("val_") else "training"
    return f"{data} {column.removeprefix('val_')}".replace("_", " ").replace("iou", "IoU")


def _draw_intervals(ax, table):
    sides = [table["iou"] - table["iou_low"], table["iou_high"] - table["iou"]]
    for color, width in (("white", 4), ("black", 1.5)):  # seen on dark and light bars
        style = {"fmt": "none", "ecolor": color, "elinewidth": width}
        ax.errorbar(table["iou"], range(len(table)), xerr=np.maximum(sides, 0), **style)
