import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from seglib import plots
from seglib.classes import ClassTable
from seglib.plots.drawing import WIDTH

matplotlib.use("agg")

CLASSES = ClassTable(
    ["road", "car", "pole", "void"],
    [(128, 64, 128), (64, 0, 128), (192, 192, 128), (0, 0, 0)],
    ignore_label=3,
)
NAMES = ["road", "car", "pole"]
TRUE = np.array([[0, 1, 2], [3, 0, 0]], np.uint8)
PRED = np.array([[0, 0, 2], [1, 0, 1]], np.uint8)
TRUE_COLORS = [
    [[128, 64, 128], [64, 0, 128], [192, 192, 128]],
    [[0, 0, 0], [128, 64, 128], [128, 64, 128]],
]
GREY, ORANGE, BLACK = [200, 200, 200], [213, 94, 0], [0, 0, 0]
ERRORS = [[GREY, ORANGE, GREY], [BLACK, GREY, ORANGE]]
IMAGE = np.full((2, 3, 3), 100, np.uint8)
FREQUENCY = pd.DataFrame(
    {"pixel_share": [0.25, 0.75, 0.0], "image_share": [1.0, 0.5, 0.0]}, index=NAMES
)
REGIONS = pd.DataFrame(
    {
        "regions": [1200, 3, 0],
        "median_area": [5.5, 40, np.nan],
        "smallest_area": [1, 9, np.nan],
        "largest_area": [600, 90, np.nan],
    },
    index=NAMES,
)
IMAGES = pd.DataFrame(
    {
        "height": [360, 360, 240],
        "width": [480, 480, 320],
        "brightness": [90.0, 100, 110],
        "contrast": [50.0, 60, 70],
        "red": [80.0, 90, 100],
        "green": [90.0, 100, 110],
        "blue": [100.0, 110, 120],
        "sharpness": [900.0, 1000, 2000],
    }
)
WEIGHTS = pd.DataFrame({"none": [1, 1, 0], "median_frequency": [0.5, 4, 0]}, index=NAMES)
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [3.0, 2, 1],
        "val_loss": [3.5, 2.5, 2.6],
        "pixel_accuracy": [0.6, np.nan, 0.8],
        "mean_iou": [0.2, 0.5, 0.4],
        "seconds": [70.0, 60, 60],
    }
)
PER_CLASS = pd.DataFrame(
    {"iou": [0.5, 0.9, np.nan], "iou_low": [0.4, 0.8, np.nan], "iou_high": [0.7, 0.95, np.nan]},
    index=NAMES,
)
MATRIX = np.array([[90, 10, 0, 7], [5, 15, 0, 7], [0, 0, 0, 7], [9, 9, 9, 9]])
CO_OCCURRENCE = pd.DataFrame([[1, 0.5, 0], [1, 1, 0], [np.nan] * 3], index=NAMES, columns=NAMES)

FIGURES = {
    "samples": lambda: plots.plot_samples([(IMAGE, TRUE)], CLASSES),
    "variants": lambda: plots.plot_variants([(IMAGE, TRUE)] * 2, CLASSES, ["before", "after"]),
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
    "methods": lambda: plots.plot_methods(METHODS, groups=("rare", "common"), baseline="plain"),
    "predictions": lambda: plots.plot_predictions(
        [IMAGE], [TRUE], [PRED], CLASSES, confidence=[np.full((2, 3), 0.5)]
    ),
    "overlay": lambda: plots.plot_overlay(IMAGE, TRUE, CLASSES),
    "error_map": lambda: plots.plot_error_map(TRUE, PRED, ignore_label=3),
    "confidence": lambda: plots.plot_confidence(IMAGE, np.full((2, 3), 0.5)),
    "label_comparison": lambda: plots.plot_label_comparison({"a": TRUE, "b": IMAGE}, CLASSES),
}


def shown(ax):
    """Return the array that the axes show."""
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def tick_names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def legend_names(legend):
    return [text.get_text() for text in legend.get_texts()]


@pytest.fixture(scope="module", params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


METHODS = pd.DataFrame(
    {
        f"{group}_iou{end}": [value + shift, value - 0.1 + shift]
        for group, value in (("rare", 0.3), ("common", 0.8))
        for end, shift in (("", 0), ("_low", -0.02), ("_high", 0.03))
    },
    index=["smote", "plain"],
)


def test_every_figure_is_drawn_whole_and_left_to_the_caller(figure):
    assert pyplot.get_fignums() == []
    assert figure.axes, "notebooks show no figure without axes"
    figure.savefig(io.BytesIO(), format="png")
    assert figure.get_figwidth() <= WIDTH
    page = figure.bbox
    for artist in [*figure.axes, *figure.legends]:
        box = artist.get_tightbbox()
        if box is not None and getattr(artist, "axison", True):
            assert box.x0 >= page.x0 - 1, f"{artist} is cropped at the left"
            assert box.y0 >= page.y0 - 1, f"{artist} is cropped below"
            assert box.x1 <= page.x1 + 1, f"{artist} is cropped at the right"
            assert box.y1 <= page.y1 + 1, f"{artist} is cropped above"


def test_every_axis_with_ticks_has_a_label(figure):
    shared = {"x": figure.get_supxlabel(), "y": figure.get_supylabel()}
    for ax in figure.axes:
        if not ax.axison or ax.get_label() == "<colorbar>":
            continue
        for which, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            drawn = any(tick_names(axis)) and axis.get_tick_params().get("labelleft", True)
            assert not drawn or axis.get_label_text() or shared[which], f"{which} of {ax}"


def test_overlay_blends_by_alpha():
    mixed = plots.overlay(IMAGE, TRUE, CLASSES, alpha=0.25)
    assert mixed.dtype == np.uint8
    assert mixed[0].tolist() == [[107, 91, 107], [91, 75, 107], [123, 123, 107]]
    np.testing.assert_array_equal(plots.overlay(IMAGE, TRUE, CLASSES, alpha=0), IMAGE)
    np.testing.assert_array_equal(plots.overlay(IMAGE, TRUE, CLASSES, alpha=1), TRUE_COLORS)


def test_overlay_takes_a_float_image():
    mixed = plots.overlay(np.full((2, 3, 3), 0.4, np.float32), TRUE, CLASSES, alpha=0)
    assert (mixed == 102).all()


def test_overlay_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"same size.*\(4, 4, 3\).*\(2, 3\)"):
        plots.overlay(np.zeros((4, 4, 3), np.uint8), TRUE, CLASSES)


def test_error_map_by_hand():
    assert plots.error_map(TRUE, PRED, 3).tolist() == ERRORS
    # Nothing is ignored: the pixel of the third class is simply wrong.
    assert plots.error_map(TRUE, PRED)[1, 0].tolist() == ORANGE
    with pytest.raises(ValueError, match=r"received \(2, 3\) and \(3, 2\)"):
        plots.error_map(TRUE, PRED.T)


def test_samples_show_photo_mask_and_overlay_in_rows():
    pairs = [(IMAGE, TRUE), (IMAGE, TRUE[::-1])]
    figure = plots.plot_samples(pairs, CLASSES, titles=["first", "second"])
    assert len(figure.axes) == 6
    assert [ax.get_title() for ax in figure.axes[:3]] == ["photo", "mask", "overlay"]
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["first", "second"]
    np.testing.assert_array_equal(shown(figure.axes[0]), IMAGE)
    np.testing.assert_array_equal(shown(figure.axes[1]), TRUE_COLORS)
    np.testing.assert_array_equal(shown(figure.axes[2]), plots.overlay(IMAGE, TRUE, CLASSES))
    np.testing.assert_array_equal(shown(figure.axes[4]), TRUE_COLORS[::-1])
    assert figure.axes[1].images[0].get_interpolation() == "nearest"


def test_legend_holds_the_scored_classes_in_their_colours_then_the_ignored_one():
    (legend,) = plots.plot_palette(CLASSES).legends
    assert legend_names(legend) == ["road", "car", "pole", "void (ignored)"]
    colors = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    np.testing.assert_allclose(colors, CLASSES.colors / 255)


def test_legend_names_an_ignore_label_outside_the_table():
    table = ClassTable(["road"], [(128, 64, 128)], ignore_label=255)
    (legend,) = plots.plot_palette(table).legends
    assert legend_names(legend) == ["road", "255 (ignored)"]
    table = ClassTable(["road"], [(128, 64, 128)])
    assert legend_names(plots.plot_palette(table).legends[0]) == ["road"]


def test_class_frequency_bars_are_the_shares_in_percent_commonest_on_top():
    figure = plots.plot_class_frequency(FREQUENCY, CLASSES)
    pixels, images = figure.axes
    assert tick_names(pixels.yaxis) == ["pole", "road", "car"]
    assert [bar.get_width() for bar in pixels.patches] == [0, 25, 75]
    assert [bar.get_width() for bar in images.patches] == [0, 100, 50]
    assert [text.get_text() for text in pixels.texts] == ["0 %", "25 %", "75 %"]
    assert (pixels.get_xscale(), images.get_xscale()) == ("log", "linear")
    np.testing.assert_allclose(pixels.patches[2].get_facecolor()[:3], np.divide((64, 0, 128), 255))


def test_class_frequency_without_a_pixel_is_still_a_figure():
    figure = plots.plot_class_frequency(FREQUENCY * 0, CLASSES)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0, 0, 0]


def test_co_occurrence_shows_percentages_and_leaves_absent_rows_empty():
    ax = plots.plot_co_occurrence(CO_OCCURRENCE).axes[0]
    assert tick_names(ax.xaxis) == tick_names(ax.yaxis) == NAMES
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["100", "50.0", "0", "100", "100", "0", "", "", ""]


def test_region_sizes_show_median_and_range_of_each_class():
    ax = plots.plot_region_sizes(REGIONS, CLASSES).axes[0]
    assert tick_names(ax.yaxis) == ["pole", "road", "car"]
    assert ax.get_xscale() == "log"
    assert ax.collections[-1].get_offsets()[1:].tolist() == [[5.5, 1], [40, 2]]
    lines = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()[1:]]
    assert lines == [[1, 600], [9, 90]]
    assert [text.get_text() for text in ax.texts] == ["regions: 0", "regions: 1,200", "regions: 3"]


def test_location_maps_share_one_scale():
    location = np.zeros((4, 2, 2))
    location[0, 0] = 0.5
    figure = plots.plot_location(location, CLASSES)
    maps = figure.axes[:3]
    assert [ax.get_title() for ax in maps] == NAMES
    assert {ax.images[0].get_clim() for ax in maps} == {(0.1, 100)}
    assert shown(maps[0]).tolist() == [[50, 50], [0.1, 0.1]]
    assert figure.axes[-1].get_ylabel() == "share of pixels, %"


def test_image_statistics_count_every_image():
    figure = plots.plot_image_statistics(IMAGES)
    by_title = {ax.get_title(): ax for ax in figure.axes}
    for title in ("brightness", "contrast", "sharpness"):
        assert sum(bar.get_height() for bar in by_title[title].patches) == 3
    sizes = by_title["size, and how many"]
    assert sizes.collections[0].get_offsets().tolist() == [[480, 360], [320, 240]]
    assert [text.get_text() for text in sizes.texts] == ["2", "1"]


def test_class_weights_are_dots_and_zero_is_none():
    figure = plots.plot_class_weights(WEIGHTS)
    ax = figure.axes[0]
    assert tick_names(ax.yaxis) == NAMES
    assert legend_names(figure.legends[0]) == ["none", "median frequency"]
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [0.5, 4, np.nan])


def test_learning_curves_show_losses_and_validation_scores_and_mark_the_best_epoch():
    figure = plots.plot_learning_curves(HISTORY)
    losses, scores = figure.axes
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "score, %"]
    assert legend_names(losses.get_legend()) == ["training loss", "validation loss"]
    names = ["validation pixel accuracy", "validation mean IoU"]
    assert legend_names(scores.get_legend()) == names
    assert losses.lines[1].get_xydata().tolist() == [[1, 3.5], [2, 2.5], [3, 2.6]]
    # An epoch without a measurement is left out, and the line goes on.
    assert scores.lines[0].get_xydata().tolist() == [[1, 60], [3, 80]]
    assert scores.lines[1].get_ydata().tolist() == [20, 50, 40]
    assert losses.lines[-1].get_xdata() == scores.lines[-1].get_xdata() == [2, 2]
    assert figure.get_suptitle() == "best epoch: 2 (validation mean IoU 50.0 %)"


def test_learning_curves_without_validation_data():
    unknown = dict.fromkeys(["val_loss", "pixel_accuracy", "mean_iou"], np.nan)
    figure = plots.plot_learning_curves(HISTORY.assign(**unknown))
    (losses,) = figure.axes
    assert legend_names(losses.get_legend()) == ["training loss"]
    assert figure.get_suptitle() == "best epoch: 3 (training loss 1)"


def test_learning_curves_as_keras_names_them():
    scores = {"mean_iou": [0.6, 0.7, 0.8], "val_mean_iou": [0.2, 0.3, 0.1]}
    figure = plots.plot_learning_curves(pd.DataFrame({**scores, "learning_rate": [1, 2, 1]}))
    assert [ax.get_ylabel() for ax in figure.axes] == ["score, %", "learning rate"]
    assert [ax.get_ylim()[0] for ax in figure.axes] == [0, 0]
    names = ["validation mean IoU", "training mean IoU"]
    assert legend_names(figure.axes[0].get_legend()) == names
    assert figure.get_suptitle() == "best epoch: 2 (validation mean IoU 30.0 %)"


def test_learning_curves_of_one_epoch_with_one_column():
    figure = plots.plot_learning_curves(pd.DataFrame({"val_loss": [0.5]}))
    (ax,) = figure.axes
    assert ax.lines[0].get_xydata().tolist() == [[1, 0.5]]
    assert figure.get_suptitle() == "best epoch: 1 (validation loss 0.5)"
    figure.draw_without_rendering()
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [1]


def test_learning_curves_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"received 1 rows of the columns \['time'\]"):
        plots.plot_learning_curves(pd.DataFrame({"time": [1]}))
    with pytest.raises(ValueError, match="received 0 rows"):
        plots.plot_learning_curves(HISTORY[:0])


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        ("true", [["90.0", "10.0", "0"], ["25.0", "75.0", "0"], ["", "", ""]]),
        ("pred", [["94.7", "40.0", ""], ["5.3", "60.0", ""], ["0", "0", ""]]),
        (None, [["90", "10", "0"], ["5", "15", "0"], ["0", "0", "0"]]),
    ],
)
def test_confusion_matrix_by_hand_without_the_ignored_class(normalize, expected):
    ax = plots.plot_confusion_matrix(MATRIX, CLASSES, normalize=normalize).axes[0]
    assert tick_names(ax.xaxis) == tick_names(ax.yaxis) == NAMES
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert np.reshape([text.get_text() for text in ax.texts], (3, 3)).tolist() == expected


def test_confusion_matrix_writes_light_on_dark_and_large_counts_short():
    ax = plots.plot_confusion_matrix(MATRIX, CLASSES).axes[0]
    assert [text.get_color() for text in ax.texts[:2]] == ["black", "white"]
    large = np.diag([1_234_567, 15_400, 999, 0])
    ax = plots.plot_confusion_matrix(large, CLASSES, normalize=None).axes[0]
    assert [ax.texts[i].get_text() for i in (0, 4, 8)] == ["1.23M", "15.4k", "999"]


def test_confusion_matrix_errors():
    with pytest.raises(ValueError, match=r"shape \(4, 4\), received \(2, 2\)"):
        plots.plot_confusion_matrix(np.eye(2), CLASSES)
    with pytest.raises(ValueError, match="'true', 'pred' or None, received 'all'"):
        plots.plot_confusion_matrix(MATRIX, CLASSES, normalize="all")


def test_per_class_bars_and_intervals():
    ax = plots.plot_per_class(PER_CLASS, CLASSES).axes[0]
    assert tick_names(ax.yaxis) == ["pole", "road", "car"]
    assert [bar.get_width() for bar in ax.patches] == [0, 50, 90]
    intervals = [segment[:, 0] for segment in ax.collections[-1].get_segments()[1:]]
    np.testing.assert_allclose(intervals, [[40, 70], [80, 95]])
    assert [text.get_text() for text in ax.texts] == ["not scored", "50.0", "90.0"]
    assert legend_names(ax.get_legend()) == ["mean 70.0 %"]


def test_per_class_without_intervals():
    ax = plots.plot_per_class(PER_CLASS[["iou"]], CLASSES).axes[0]
    assert [bar.get_width() for bar in ax.patches] == [0, 50, 90]
    assert not ax.collections


def test_predictions_show_truth_prediction_errors_and_confidence():
    confidence = np.array([[1, 0.25, 1], [0.5, 1, 0.5]])
    figure = plots.plot_predictions([IMAGE], [TRUE], [PRED], CLASSES, confidence=[confidence])
    titles = ["photo", "truth", "prediction", "errors", "confidence"]
    assert [ax.get_title() for ax in figure.axes[:5]] == titles
    np.testing.assert_array_equal(shown(figure.axes[1]), TRUE_COLORS)
    assert shown(figure.axes[2])[1, 0].tolist() == [64, 0, 128]
    np.testing.assert_array_equal(shown(figure.axes[3]), ERRORS)
    np.testing.assert_array_equal(shown(figure.axes[4]), confidence)
    assert figure.axes[4].images[0].get_clim() == (0, 1)
    assert legend_names(figure.axes[3].get_legend()) == ["correct", "wrong", "ignored"]
    assert len(plots.plot_predictions([IMAGE], [TRUE], [PRED], CLASSES).axes) == 4


def test_error_map_figure_tells_the_share_of_scored_pixels():
    (ax,) = plots.plot_error_map(TRUE, PRED, ignore_label=3).axes
    np.testing.assert_array_equal(shown(ax), ERRORS)
    assert ax.get_title() == "40.0 % of the scored pixels are wrong"


def test_label_comparison_takes_pictures_and_labels_pixel_by_pixel():
    figure = plots.plot_label_comparison({"labels": TRUE, "photo": IMAGE}, CLASSES)
    assert [ax.get_title() for ax in figure.axes] == ["labels", "photo"]
    np.testing.assert_array_equal(shown(figure.axes[0]), TRUE_COLORS)
    np.testing.assert_array_equal(shown(figure.axes[1]), IMAGE)
    assert {ax.images[0].get_interpolation() for ax in figure.axes} == {"nearest"}
    with pytest.raises(ValueError, match="'labels' holds labels: pass classes"):
        plots.plot_label_comparison({"labels": TRUE})


def test_methods_have_a_panel_for_each_group_and_a_line_at_the_baseline():
    figure = plots.plot_methods(METHODS, groups=("rare", "common"), baseline="plain")
    rare, common = figure.axes
    assert [label.get_text() for label in rare.get_yticklabels()] == ["plain", "smote"]
    assert [text.get_text() for text in rare.texts] == ["20.0", "30.0"]
    assert [text.get_text() for text in common.texts] == ["70.0", "80.0"]
    assert rare.get_xlabel() == "mean IoU of rare classes, %"
    line = next(line for line in common.lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(line.get_xdata(), 70)
