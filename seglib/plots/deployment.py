"""Ways to deploy a model, by speed, size and accuracy."""

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, ScalarFormatter

from seglib.plots.drawing import OKABE_ITO, create_figure, widen

MARKERS = {"float32": "o", "float16": "s", "bfloat16": "D", "int8": "^"}
PANELS = {"p50_ms": "predict, median of a picture, ms", "megabytes": "files, MB"}


def plot_exports(table):
    """Show accuracy against time and against size, a mark for each export.

    Args:
        table: DataFrame by (model, format, precision) with the columns p50_ms, megabytes and
            mean_iou, as `DeploymentCard.table`.

    Returns:
        Figure with two panels. Colours are formats, shapes precisions; models after the first are
        hollow, their names beside their fastest and smallest mark.

    Raises:
        ValueError: the table has no row.
    """
    if table.empty:
        raise ValueError("expected a row an export, received an empty table")
    models, formats, precisions = (list(table.index.unique(level)) for level in range(3))
    precisions = sorted(precisions, key=[*MARKERS, *precisions].index)
    colors = dict(zip(formats, OKABE_ITO, strict=False))
    figure = create_figure(4.4)
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for ax, (column, label) in zip(axes, PANELS.items(), strict=True):
        for (model, format, precision), row in table.iterrows():
            face = colors[format] if model == models[0] else "white"
            ax.plot(row[column], 100 * row["mean_iou"], MARKERS.get(precision, "P"), ms=8,
                    color=colors[format], mfc=face, mew=1.5)  # fmt: skip
        for model in models[1:]:
            part = table.xs(model)
            row = part.loc[part[column].idxmin()]
            ax.annotate(model, (row[column], 100 * row["mean_iou"]), (0, -14), fontsize=9,
                        textcoords="offset points", ha="center")  # fmt: skip
        _set_log_axis(ax, table[column], label)
    axes[0].set(ylabel="mean IoU, %", ylim=widen(100 * table["mean_iou"]))
    handles = [Line2D([], [], ls="", marker="o", color=colors[f], label=f) for f in formats]
    handles += [
        Line2D([], [], ls="", marker=MARKERS.get(p, "P"), color="0.4", label=p) for p in precisions
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), edgecolor="none",
                  handletextpad=0.2, columnspacing=1.2)  # fmt: skip
    return figure


def _set_log_axis(ax, values, label):
    """A logarithmic axis with the numbers that people expect."""
    low, high = values.min() / 1.3, values.max() * 1.3
    ticks = [m * 10.0**e for e in range(-2, 6) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    ax.set(xscale="log", xlim=(low, high), xlabel=label)
    if ticks:
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    else:
        ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
