"""Networks side by side, by accuracy, speed and size."""

import numpy as np
from matplotlib.lines import Line2D

from seglib.plots.drawing import OKABE_ITO, create_figure, widen

LARGEST = 900  # square points of the bubble with the most parameters


def plot_architectures(table):
    """Show accuracy against time, a bubble for each network, its area by parameters.

    Args:
        table: DataFrame by name with the columns ms, of an image, mean_iou in [0, 1] and
            parameters; with mean_iou_low and mean_iou_high a line is drawn from one to the other.

    Returns:
        Figure.

    Raises:
        ValueError: the table has no row.
    """
    if table.empty:
        raise ValueError("expected a row a network, received an empty table")
    columns = [c for c in ("mean_iou", "mean_iou_low", "mean_iou_high") if c in table]
    colors = [OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(table))]
    areas = LARGEST * table["parameters"] / table["parameters"].max()
    figure = create_figure(4.4)
    ax = figure.subplots()
    ax.scatter(table["ms"], 100 * table["mean_iou"], areas, colors, alpha=0.5, edgecolors=colors)
    if len(columns) == 3:
        low, high = (100 * table[f"mean_iou_{end}"] for end in ("low", "high"))
        ax.vlines(table["ms"], low, high, colors, lw=2)
    ax.set(xlabel="an image, ms", xlim=(0, 1.15 * table["ms"].max()), ylabel="mean IoU, %",
           ylim=widen(100 * np.concatenate([table[c] for c in columns])))  # fmt: skip
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    labels = [f"{name}, {n / 1e6:.3g} M" for name, n in table["parameters"].items()]
    handles = [
        Line2D([], [], ls="", marker="o", color=color, alpha=0.6, ms=9, label=label)
        for color, label in zip(colors, labels, strict=True)
    ]
    figure.legend(handles=handles, title="parameters", loc="outside right center", frameon=False)
    return figure
