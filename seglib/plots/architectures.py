"""Networks side by side, by accuracy, speed and size."""

import numpy as np

from seglib.plots.drawing import OKABE_ITO, create_figure, set_log_axis, widen

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
    figure = create_figure(4.8)
    ax = figure.subplots()
    spread = {"mean_iou_low", "mean_iou_high"} <= set(table.columns)
    shown = [c for c in ("mean_iou", "mean_iou_low", "mean_iou_high") if c in table]
    colors = [OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(table))]
    areas = LARGEST * table["parameters"] / table["parameters"].max()
    scores = 100 * table["mean_iou"]
    ax.scatter(table["ms"], scores, areas, colors, alpha=0.5, edgecolors=colors)
    if spread:
        low, high = (100 * table[f"mean_iou_{end}"] for end in ("low", "high"))
        ax.vlines(table["ms"], low, high, colors, lw=2)
    for name, row in table.iterrows():
        parameters = f"{row['parameters'] / 1e6:.2g} million"
        above = 5 + np.sqrt(LARGEST * row["parameters"] / table["parameters"].max()) / 2
        ax.annotate(f"{name}\n{parameters}", (row["ms"], 100 * row["mean_iou"]), (0, above),
                    textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
    low, high = widen(100 * np.concatenate([table[column] for column in shown]))
    set_log_axis(ax, table["ms"], "an image, ms", margin=1.5)
    ax.set(ylabel="mean IoU, %", ylim=(low, high + 0.25 * (high - low)))  # names stand above
    return figure
