"""Arrays and tables in, matplotlib figures out.

Each function returns a figure that pyplot no longer holds, so a notebook shows
it once, as the last expression of a cell, and figures do not pile up.
"""

from seglib.plots.architectures import plot_architectures
from seglib.plots.checks import plot_findings
from seglib.plots.data import (
    plot_class_frequency,
    plot_class_weights,
    plot_co_occurrence,
    plot_image_statistics,
    plot_location,
    plot_region_sizes,
)
from seglib.plots.deployment import plot_exports
from seglib.plots.drawing import keep_figure
from seglib.plots.pictures import (
    error_map,
    overlay,
    plot_confidence,
    plot_error_map,
    plot_label_comparison,
    plot_models,
    plot_overlay,
    plot_palette,
    plot_predictions,
    plot_samples,
    plot_variants,
)
from seglib.plots.scores import (
    plot_confusion_matrix,
    plot_learning_curves,
    plot_methods,
    plot_per_class,
)

__all__ = [
    "error_map",
    "keep_figure",
    "overlay",
    "plot_architectures",
    "plot_class_frequency",
    "plot_class_weights",
    "plot_co_occurrence",
    "plot_confidence",
    "plot_confusion_matrix",
    "plot_error_map",
    "plot_exports",
    "plot_findings",
    "plot_image_statistics",
    "plot_label_comparison",
    "plot_learning_curves",
    "plot_location",
    "plot_methods",
    "plot_models",
    "plot_overlay",
    "plot_palette",
    "plot_per_class",
    "plot_predictions",
    "plot_region_sizes",
    "plot_samples",
    "plot_variants",
]
