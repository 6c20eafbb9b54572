import io
import os

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from PIL import Image

from seglib import plots
from seglib.annotations import Annotation
from seglib.balance import IMAGE_COLUMNS
from seglib.checks import DatasetReport, Finding
from seglib.classes import ClassTable
from seglib.datasets import Split
from seglib.images import read_image
from seglib.masks import label_colors

matplotlib.use("agg")

NAN, NAMES = np.nan, ["road", "car", "pole"]
COLORS = [(128, 64, 128), (64, 0, 128), (192, 192, 128), (0, 0, 0)]
CLASSES = ClassTable([*NAMES, "void"], COLORS, ignore_label=3)
TRUE = np.array([[0, 1, 2], [3, 0, 0]], np.uint8)
PRED = np.array([[0, 0, 2], [1, 0, 1]], np.uint8)
TRUE_COLORS = np.array(COLORS, np.uint8)[TRUE]
GREY, ORANGE, BLACK = [200, 200, 200], [213, 94, 0], [0, 0, 0]
ERRORS = [[GREY, ORANGE, GREY], [BLACK, GREY, ORANGE]]
IMAGE = np.full((2, 3, 3), 100, np.uint8)
SHARES = np.array([[[0.7, 0.3], [0.25, 0.75], [0.5, 0.5]]] * 2)
SIZE = (60, 80)
LABELS = np.zeros(SIZE, np.uint8)
LABELS[:30] = 1
PHOTOGRAPHS = [np.random.default_rng(i).integers(0, 256, (*SIZE, 3), np.uint8) for i in (0, 1)]
FREQUENCY = pd.DataFrame({"pixel_share": [0.25, 0.75, 0], "image_share": [1, 0.5, 0]}, index=NAMES)
REGION_COLUMNS = ["regions", "median_area", "smallest_area", "largest_area"]
REGIONS = [[1200, 5.5, 1, 600], [3, 40, 9, 90], [0, NAN, NAN, NAN]]
REGIONS = pd.DataFrame(REGIONS, index=NAMES, columns=REGION_COLUMNS)
IMAGES = [[360, 480, 90, 50, 80, 90, 100, 900]] * 2 + [[240, 320, 110, 70, 100, 9, 12, 2]]
IMAGES = pd.DataFrame(IMAGES, columns=IMAGE_COLUMNS)
WEIGHTS = pd.DataFrame({"none": [1, 1, 0], "median_frequency": [0.5, 4, 0]}, index=NAMES)
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2, 1], "val_loss": [3.5, 2.5, 2.6]})
HISTORY = HISTORY.assign(pixel_accuracy=[0.6, NAN, 0.8], mean_iou=[0.2, 0.5, 0.4], seconds=60)
PER_CLASS = pd.DataFrame(
    {"iou": [0.5, 0.9, NAN], "iou_low": [0.4, 0.8, NAN], "iou_high": [0.7, 0.95, NAN]}, index=NAMES
)
MATRIX = np.array([[90, 10, 0, 7], [5, 15, 0, 7], [0, 0, 0, 7], [9, 9, 9, 9]])
CO_OCCURRENCE = pd.DataFrame([[1, 0.5, 0], [1, 1, 0], [NAN] * 3], index=NAMES, columns=NAMES)
NETWORKS = pd.DataFrame(
    {"ms": [10.0, 20], "mean_iou": [0.5, 0.6], "parameters": [1_000_000, 134_000_000]}
    | {"mean_iou_low": [0.4, 0.58], "mean_iou_high": [0.55, 0.65]},
    index=["small", "large"],
)
ROWS = [("whole", "keras", "float32"), ("whole", "onnx", "int8"), ("small", "onnx", "int8")]
EXPORTS = pd.DataFrame(
    {"p50_ms": [8.0, 2, 90], "megabytes": [4.0, 1, 0.5], "mean_iou": [0.5, 0.25, 0.75]},
    index=pd.MultiIndex.from_tuples(ROWS),
)
FIGURES = {
    "grid": lambda: plots.plot_grid(
        [(IMAGE, TRUE, PRED, SHARES)], CLASSES, titles="e", overlay=True, errors=True
    ),
    "large grid": lambda: plots.plot_grid([(PHOTOGRAPHS[0], LABELS)], CLASSES, overlay=True),
    "palette": lambda: plots.plot_palette(CLASSES),
    "class_frequency": lambda: plots.plot_class_frequency(FREQUENCY, CLASSES),
    "co_occurrence": lambda: plots.plot_co_occurrence(CO_OCCURRENCE),
    "region_sizes": lambda: plots.plot_region_sizes(REGIONS, CLASSES),
    "location": lambda: plots.plot_location(np.full((4, 2, 2), 0.25), CLASSES),
    "image_statistics": lambda: plots.plot_image_statistics(IMAGES),
    "class_weights": lambda: plots.plot_class_weights(WEIGHTS),
    "learning_curves": lambda: plots.plot_learning_curves(HISTORY),
    "confusion_matrix": lambda: plots.plot_confusion_matrix(MATRIX, CLASSES),
    "per_class": lambda: plots.plot_per_class(PER_CLASS, CLASSES),
    "networks": lambda: plots.plot_tradeoff(NETWORKS, "ms", "mean_iou", size="parameters"),
    "exports": lambda: plots.plot_tradeoff(EXPORTS, ["p50_ms", "megabytes"], "mean_iou"),
}


def shown(figure):
    """Return the arrays that the figure shows."""
    axes = [ax for ax in figure.axes if ax.images]
    return [np.ma.filled(ax.images[0].get_array(), NAN) for ax in axes]


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.images]


def texts(ax):
    return [text.get_text().replace("\n", " ") for text in ax.texts]


def tick_names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def legend_names(legend):
    return [text.get_text() for text in legend.get_texts()]


def assert_whole(figure):
    """Nothing is cut off, and the figure is left to the caller."""
    assert pyplot.get_fignums() == []
    assert figure.axes, "notebooks show no figure without axes"
    figure.savefig(io.BytesIO(), format="png")
    assert figure.get_figwidth() <= plots.WIDTH
    page = figure.bbox
    drawn = [ax for ax in figure.axes if ax.axison]
    for artist in [*drawn, *figure.legends, *(text for ax in figure.axes for text in ax.texts)]:
        box = artist.get_tightbbox()
        if box is not None and np.isfinite(box.x0):
            assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, f"{artist} is cropped"
            assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, f"{artist} is cropped"


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_whole_and_every_axis_with_ticks_has_a_label(name):
    figure = FIGURES[name]()
    assert_whole(figure)
    common = {"x": figure.get_supxlabel(), "y": figure.get_supylabel()}
    for ax in figure.axes:
        if not ax.axison or ax.get_label() == "<colorbar>":
            continue
        for which, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            drawn = any(tick_names(axis)) and axis.get_tick_params().get("labelleft", True)
            assert not drawn or axis.get_label_text() or common[which], f"{which} of {ax}"


# Pictures


def test_a_grid_paints_pictures_labels_and_probabilities_and_what_is_asked_for():
    figure = plots.plot_grid(
        [(IMAGE, labels, PRED, SHARES, SHARES[..., 0]) for labels in (TRUE, TRUE[::-1])],
        CLASSES,
        columns=["photo", "truth", "prediction", "confidence", "share"],
        titles=["first", "second"],
        overlay=True,
        errors=True,
    )
    pictures = shown(figure)
    assert len(pictures) == 14
    assert titles(plots.plot_grid([(IMAGE, TRUE)], CLASSES, overlay=True)) == ["", "", "overlay"]
    assert titles(figure)[3:7] == ["confidence", "share", "overlay", "errors"]
    assert [figure.axes[i].get_ylabel() for i in (0, 7)] == ["first", "second"]
    np.testing.assert_array_equal(pictures[0], IMAGE)
    np.testing.assert_array_equal(pictures[1], TRUE_COLORS)
    np.testing.assert_array_equal(pictures[8], TRUE_COLORS[::-1])
    np.testing.assert_array_equal(pictures[3], [[0.7, 0.75, 0.5]] * 2)
    np.testing.assert_array_equal(pictures[4], SHARES[..., 0])
    assert pictures[5][0].tolist() == [[114, 82, 114], [114, 82, 114], [146, 146, 114]]
    assert pictures[6].tolist() == ERRORS
    assert figure.axes[3].images[0].get_clim() == (0, 1)
    assert {ax.images[0].get_interpolation() for ax in figure.axes[1:5]} == {"nearest"}
    assert legend_names(figure.legends[0]) == [*NAMES, "void (ignored)", "correct", "wrong"]


def test_a_dict_is_one_row_and_pictures_alone_need_no_classes():
    figure = plots.plot_grid({"frame 0": IMAGE, "frame 1": PHOTOGRAPHS[0]})
    assert titles(figure) == ["frame 0", "frame 1"]
    np.testing.assert_array_equal(shown(figure)[1], PHOTOGRAPHS[0])
    assert not figure.legends
    with pytest.raises(ValueError, match="pass classes to colour them"):
        plots.plot_grid({"a": TRUE})


def test_large_regions_bear_their_names_and_rare_classes_an_outline():
    labels = LABELS.copy()
    labels[40:44, 70:74] = 2
    (ax,) = plots.plot_grid([[labels]], CLASSES).axes
    names = {text.get_text(): text.get_position() for text in ax.texts}
    assert set(names) == {"road", "car"}
    for name, (column, row) in names.items():
        assert labels[int(row), int(column)] == NAMES.index(name)
    (outline,) = ax.collections
    assert outline.get_paths()[0].get_extents().bounds == pytest.approx((69.5, 39.5, 4, 4))
    (ax, *_) = plots.plot_grid([[labels] * 4], CLASSES).axes
    assert not ax.texts, "there is no room for names in narrow pictures"
    columns = np.digitize(np.arange(80), [16, 32]).astype(np.uint8)
    (ax,) = plots.plot_grid([[np.tile(columns, (60, 1))]], CLASSES).axes
    first, second, _ = (text.get_position()[1] for text in ax.texts)
    assert abs(first - second) > 4, "neighbours' names are at different heights"


def test_the_legend_names_an_ignore_label_outside_the_table():
    (legend,) = plots.plot_palette(CLASSES).legends
    colors = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    np.testing.assert_allclose(colors, CLASSES.colors / 255)
    table = ClassTable(["road"], COLORS[:1], ignore_label=255)
    assert legend_names(plots.plot_palette(table).legends[0]) == ["road", "255 (ignored)"]


# Data


def test_class_frequency_bars_are_the_shares_in_percent_commonest_on_top():
    pixels, images = plots.plot_class_frequency(FREQUENCY, CLASSES).axes
    assert tick_names(pixels.yaxis) == ["pole", "road", "car"]
    assert [bar.get_width() for bar in pixels.patches] == [0, 25, 75]
    assert [bar.get_width() for bar in images.patches] == [0, 100, 50]
    assert texts(pixels) == ["0 %", "25 %", "75 %"]
    np.testing.assert_allclose(pixels.patches[2].get_facecolor()[:3], np.divide((64, 0, 128), 255))


def test_matrices_show_percentages_and_leave_what_is_absent_empty():
    together = plots.plot_co_occurrence(CO_OCCURRENCE).axes[0]
    confusion = plots.plot_confusion_matrix(MATRIX, CLASSES).axes[0]
    for ax in (together, confusion):
        assert tick_names(ax.xaxis) == tick_names(ax.yaxis) == NAMES
        assert [text.get_color() for text in ax.texts[::2][:2]] == ["black", "white"]
    assert (confusion.get_xlabel(), confusion.get_ylabel()) == ("predicted class", "true class")
    assert texts(together) == ["100.0", "50.0", "0.0", "100.0", "100.0", "0.0"]
    assert texts(confusion) == ["90.0", "10.0", "0.0", "25.0", "75.0", "0.0"]


def test_region_sizes_show_median_and_range_of_each_class():
    ax = plots.plot_region_sizes(REGIONS, CLASSES).axes[0]
    assert tick_names(ax.yaxis) == ["pole (0)", "road (1,200)", "car (3)"]
    assert ax.collections[-1].get_offsets()[1:].tolist() == [[5.5, 1], [40, 2]]
    lines = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()[1:]]
    assert lines == [[1, 600], [9, 90]]


def test_class_weights_are_dots_and_zero_is_none():
    figure = plots.plot_class_weights(WEIGHTS)
    assert legend_names(figure.legends[0]) == ["none", "median frequency"]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xdata(), [NAN, 4, 0.5])


# Findings


@pytest.fixture(name="report_of")
def create_report(tmp_path, classes):
    """Function from the finding and the mask of each example to a report."""

    def report_of(*kinds, encoding="colors", image_size=(128, 128)):
        findings = []
        for number, (check, severity, *masks) in enumerate(kinds):
            pairs = []
            for i, mask in enumerate(masks):
                pair = tmp_path / f"{number}_{i}.png", tmp_path / f"{number}_{i}_mask.png"
                Image.fromarray(PHOTOGRAPHS[i]).save(pair[0])
                Image.fromarray(mask).save(pair[1])
                pairs.append(pair)
            texts = ("train", 3, "a, b", "3 masks are wrong.", "Do something.")
            examples = Split(pairs, classes, encoding, names=["a"] * len(pairs))
            findings.append(Finding(check, severity, *texts, examples))
        return DatasetReport(tmp_path, {"train": 3}, image_size, tuple(findings))

    return report_of


def test_a_report_without_pictures_says_so(report_of):
    figure = plots.plot_findings(report_of(("absent classes", "warning")))
    assert texts(figure.axes[0]) == ["There is no finding that a picture could show."]
    assert_whole(figure)


def test_unknown_colours_and_ids_are_marked(report_of, classes):
    labels, mask = LABELS.copy(), label_colors(LABELS, classes)
    labels[40:50, 40:60], mask[40:50, 40:60] = 9, (10, 240, 30)
    figure = plots.plot_findings(report_of(("unknown colours", "error", mask)))
    raw, marked = shown(figure)
    np.testing.assert_array_equal(raw, mask)
    assert marked[45, 50].tolist() == marked[39, 45].tolist() == ORANGE  # and one pixel around
    assert marked[10, 10].tolist() != ORANGE
    assert figure.axes[0].get_ylabel() == "error: unknown colours\na"
    assert_whole(figure)
    report = report_of(("unknown ids", "error", labels), encoding="ids")
    raw, marked = shown(plots.plot_findings(report))
    np.testing.assert_array_equal(raw, label_colors(np.where(labels == 9, 0, labels), classes))
    assert (marked[45, 50].tolist() == ORANGE, marked[10, 10].tolist() == ORANGE) == (True, False)


def test_blends_are_marked(report_of, classes):
    mask = label_colors(LABELS, classes)
    mask[30, 50:] = mask[29:31, 60].mean(axis=0)
    figure = plots.plot_findings(report_of(("blended boundaries", "warning", mask)))
    raw, marked = shown(figure)
    np.testing.assert_array_equal(raw, mask)
    assert (marked[30, 60].tolist() == ORANGE, marked[30, 40].tolist() == ORANGE) == (True, False)


def test_tiny_regions_are_marked_and_near_duplicates_shown_as_photographs(report_of, classes):
    labels = LABELS.copy()
    labels[50, 60], labels[10, 20] = 2, 3
    tiny = ("tiny regions", "note", label_colors(labels, classes))
    twins = ("near-duplicates", "warning", LABELS, LABELS)
    figure = plots.plot_findings(report_of(tiny, twins, image_size=(32, 32)))
    mask, marked, *photographs = shown(figure)
    np.testing.assert_array_equal(photographs, PHOTOGRAPHS)
    assert figure.axes[2].get_ylabel() == "warning: near-duplicates\na\na"
    assert mask[50, 60].tolist() == classes.colors[2].tolist()
    assert (marked[50, 60].tolist() == ORANGE, marked[10, 20].tolist() == ORANGE) == (True, False)


def test_masks_may_be_drawn_from_annotations(tmp_path, classes):
    Image.fromarray(PHOTOGRAPHS[0]).save(tmp_path / "a.png")
    mask = Annotation(tmp_path / "a.png", tmp_path / "train.csv", ((2, ("runs", "1 1")),))
    examples = Split([(tmp_path / "a.png", mask)], classes)
    finding = Finding("tiny regions", "note", "", 1, "a", "Tiny.", "Enlarge.", examples)
    report = DatasetReport(tmp_path, {"train": 1}, (32, 32), (finding,))
    drawn, marked = shown(plots.plot_findings(report))
    assert (drawn[0, 0].tolist(), marked[0, 0].tolist()) == (classes.colors[2].tolist(), ORANGE)


def test_each_kind_is_shown_at_most_twice_and_odd_shapes_fit(report_of):
    shapes = [(1500, 2100), (60, 400), (90, 60)]
    kinds = [("sizes differ", "error", np.zeros(shape, np.uint8)) for shape in shapes]
    figure = plots.plot_findings(report_of(*kinds, ("blank masks", "note", LABELS), encoding="ids"))
    assert_whole(figure)
    rows = [ax.get_ylabel().split("\n")[0] for ax in figure.axes[::2]]
    assert rows == ["error: sizes differ"] * 2 + ["note: blank masks"]
    assert shown(figure)[1].shape == (500, 700, 3)


# Scores


def test_learning_curves_have_a_panel_a_unit_and_mark_the_best_epoch():
    figure = plots.plot_learning_curves(HISTORY)
    losses, scores = figure.axes
    assert (losses.get_ylabel(), scores.get_ylabel()) == ("loss", "score, %")
    assert legend_names(losses.get_legend()) == ["training loss", "validation loss"]
    assert figure.get_suptitle() == "best epoch: 2 (validation mean IoU 0.5)"
    assert losses.lines[1].get_xydata().tolist() == [[1, 3.5], [2, 2.5], [3, 2.6]]
    assert scores.lines[0].get_xydata().tolist() == [[1, 60], [3, 80]]  # the line goes on
    assert losses.lines[-1].get_xdata() == scores.lines[-1].get_xdata() == [2, 2]
    figure = plots.plot_learning_curves(HISTORY[["epoch", "loss"]])
    assert figure.get_suptitle() == "best epoch: 3 (training loss 1)"


def test_per_class_bars_and_intervals():
    ax = plots.plot_per_class(PER_CLASS, CLASSES).axes[0]
    assert tick_names(ax.yaxis) == ["pole", "road", "car"]
    assert [bar.get_width() for bar in ax.patches] == [0, 50, 90]
    intervals = [segment[:, 0] for segment in ax.collections[0].get_segments()[1:]]
    np.testing.assert_allclose(intervals, [[40, 70], [80, 95]])
    assert texts(ax) == ["not scored", "50.0", "90.0"]
    assert legend_names(ax.get_legend()) == ["mean 70.0 %"]
    assert not plots.plot_per_class(PER_CLASS[["iou"]], CLASSES).axes[0].collections


def test_a_tradeoff_has_a_mark_for_each_row_with_its_interval_and_size():
    figure = plots.plot_tradeoff(NETWORKS, "ms", "mean_iou", size="parameters", baseline="small")
    (ax,) = figure.axes
    small, large, lines, *_ = ax.collections
    assert (small.get_offsets().tolist(), large.get_offsets().tolist()) == ([[10, 50]], [[20, 60]])
    assert large.get_sizes()[0] == pytest.approx(134 * small.get_sizes()[0])
    ends = [segment[:, 1].tolist() for segment in lines.get_segments()]
    assert ends == [pytest.approx([40, 55]), pytest.approx([58, 65])]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("an image, ms", "mean IoU, %")
    assert ax.get_xlim()[0] == 0
    assert ax.get_ylim()[0] < 40 < 65 < ax.get_ylim()[1]
    assert legend_names(figure.legends[0]) == ["small, 1 M", "large, 134 M"]
    assert [line.get_xdata()[0] for line in ax.lines] == [10, 0]


def test_exports_have_a_panel_a_column_and_their_three_names():
    figure = plots.plot_tradeoff(EXPORTS, ["p50_ms", "megabytes"], "mean_iou")
    time, files = figure.axes
    assert [ax.get_xscale() for ax in figure.axes] == ["log", "linear"]
    places = [mark.get_offsets()[0].tolist() for mark in files.collections]
    assert places == [[4, 50], [1, 25], [0.5, 75]]
    assert len({tuple(mark.get_facecolor()[0]) for mark in time.collections[:3]}) == 3
    names = ["whole keras float32", "whole onnx int8", "small onnx int8"]
    assert legend_names(figure.legends[0]) == names


def test_names_are_no_formulas():
    names = [r"$\frac$", "5 $", os.fsdecode(b"caf\xe9"), "$a$ and $_"]
    classes = ClassTable(names, COLORS)
    figures = [
        plots.plot_grid([(TRUE, PRED)], classes, columns=names[:2], titles=names[:1]),
        plots.plot_confusion_matrix(MATRIX, classes),
        plots.plot_per_class(PER_CLASS.set_axis(names[:3]), classes),
        plots.plot_location(np.zeros((4, 2, 2)), classes),
        plots.plot_tradeoff(NETWORKS.set_axis(names[:2]), "ms", "mean_iou", size="parameters"),
    ]
    for figure in figures:
        figure.savefig(io.BytesIO(), format="png")


def test_figures_are_kept_in_folders_that_are_made(tmp_path):
    figure = plots.plot_palette(CLASSES)
    assert plots.keep_figure(figure, tmp_path / "new" / "palette.png") is figure
    assert read_image(tmp_path / "new" / "palette.png").shape[1] == 1000
