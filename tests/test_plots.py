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
from seglib.checks import DatasetReport, Finding, check_dataset
from seglib.classes import ClassTable
from seglib.datasets import Split
from seglib.images import read_image

matplotlib.use("agg")

NAN, NAMES = np.nan, ["road", "car", "pole"]
COLORS = [(128, 64, 128), (64, 0, 128), (192, 192, 128), (0, 0, 0)]
CLASSES = ClassTable([*NAMES, "void"], COLORS, ignore_label=3)
GREY, ORANGE, BLACK = [200, 200, 200], [213, 94, 0], [0, 0, 0]
LABELS = np.repeat(np.array([1, 0], np.uint8), 30)[:, None].repeat(80, axis=1)
PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
IOU = [[0.5, 0.4, 0.7], [0.9, 0.8, 0.95], [NAN] * 3]
PER_CLASS = pd.DataFrame(IOU, NAMES, ["iou", "iou_low", "iou_high"])
MATRIX = np.array([[90, 10, 0, 7], [5, 15, 0, 7], [0, 0, 0, 7], [9, 9, 9, 9]])
NETWORKS = pd.DataFrame(
    [[10, 0.5, 0.4, 0.55, 1_000_000], [20, 0.6, 0.58, 0.65, 134_000_000]],
    ["small", "large"],
    ["ms", "mean_iou", "mean_iou_low", "mean_iou_high", "parameters"],
)


def texts(artists):
    return [artist.get_text().replace("\n", " ") for artist in artists]


def shown(figure):
    """The arrays that the figure shows."""
    axes = [ax for ax in figure.axes if ax.images]
    return [np.ma.filled(ax.images[0].get_array(), NAN) for ax in axes]


def checked(figure):
    """The figure, left to the caller, with nothing cut off and a label at all axes with ticks."""
    assert pyplot.get_fignums() == []
    assert figure.axes, "notebooks show no figure without axes"
    figure.savefig(io.BytesIO(), format="png")
    assert figure.get_figwidth() <= plots.WIDTH
    page = figure.bbox.padded(1)
    drawn = [ax for ax in figure.axes if ax.axison]
    for artist in [*drawn, *figure.legends, *(text for ax in figure.axes for text in ax.texts)]:
        box = artist.get_tightbbox()
        if box is not None and np.isfinite(box.x0):
            assert page.count_contains(box.corners()) == 4, f"{artist} is cropped"
    for ax in drawn:
        shared = {ax.xaxis: figure.get_supxlabel(), ax.yaxis: figure.get_supylabel()}
        for axis, label in shared.items():
            ticks = axis.get_tick_params().get("labelleft", True) and texts(axis.get_ticklabels())
            label = label or axis.get_label_text() or ax.get_label() == "<colorbar>"
            assert label or not any(ticks or [])
    return figure


def test_a_grid_paints_pictures_labels_probabilities_and_what_is_asked_for():
    image = np.full((2, 3, 3), 100, np.uint8)
    truth = np.array([[0, 1, 2], [3, 0, 0]], np.uint8)
    prediction = np.array([[0, 0, 2], [1, 0, 1]], np.uint8)
    shares = np.array([[[0.7, 0.3], [0.25, 0.75], [0.5, 0.5]]] * 2)
    rows = [(image, labels, prediction, shares, shares[..., 0]) for labels in (truth, truth[::-1])]
    names = ["photo", "truth", "prediction", "confidence", "share"]
    options = {"columns": names, "titles": ["first", "second"], "overlay": True, "errors": True}
    figure = checked(plots.plot_grid(rows, CLASSES, **options))
    assert texts(ax.title for ax in figure.axes[:14]) == [*names, "overlay", "errors"] + [""] * 7
    assert [figure.axes[i].get_ylabel() for i in (0, 7)] == ["first", "second"]
    pictures = shown(figure)
    colors = np.array(COLORS)[truth]
    errors = [[GREY, ORANGE, GREY], [BLACK, GREY, ORANGE]]
    confidence = [[0.7, 0.75, 0.5]] * 2
    expected = {0: image, 1: colors, 3: confidence, 4: shares[..., 0], 6: errors, 8: colors[::-1]}
    for i, array in expected.items():
        np.testing.assert_array_equal(pictures[i], array)
    assert pictures[5][0].tolist() == [[114, 82, 114], [114, 82, 114], [146, 146, 114]]
    assert figure.axes[3].images[0].get_clim() == (0, 1)
    assert {ax.images[0].get_interpolation() for ax in figure.axes[1:5]} == {"nearest"}
    assert texts(figure.legends[0].get_texts()) == [*NAMES, "void (ignored)", "correct", "wrong"]


def test_a_dict_is_one_row_and_pictures_alone_need_no_classes():
    figure = plots.plot_grid({"frame 0": PHOTOGRAPH[:2, :3], "frame 1": PHOTOGRAPH})
    assert texts(ax.title for ax in figure.axes) == ["frame 0", "frame 1"]
    np.testing.assert_array_equal(shown(figure)[1], PHOTOGRAPH)
    assert not figure.legends
    with pytest.raises(ValueError, match="pass classes to colour them"):
        plots.plot_grid({"a": LABELS})


def test_large_regions_bear_their_names_and_rare_classes_an_outline():
    labels = LABELS.copy()
    labels[40:44, 70:74] = 2
    (ax,) = checked(plots.plot_grid([[labels]], CLASSES)).axes
    names = {text.get_text(): text.get_position() for text in ax.texts}
    assert set(names) == {"road", "car"}
    for name, (column, row) in names.items():
        assert labels[int(row), int(column)] == NAMES.index(name)
    (outline,) = ax.collections
    assert outline.get_paths()[0].get_extents().bounds == pytest.approx((69.5, 39.5, 4, 4))
    (ax, *_) = plots.plot_grid([[labels] * 4], CLASSES).axes
    assert not ax.texts, "there is no room for names in narrow pictures"
    columns = np.digitize(np.arange(80), [16, 32]).astype(np.uint8)
    (ax,) = checked(plots.plot_grid([[np.tile(columns, (60, 1))]], CLASSES)).axes
    first, second, _ = (text.get_position()[1] for text in ax.texts)
    assert abs(first - second) > 4, "neighbours' names are at different heights"


def test_the_legend_names_an_ignore_label_outside_the_table():
    (legend,) = checked(plots.plot_palette(CLASSES)).legends
    colors = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    np.testing.assert_allclose(colors, CLASSES.colors / 255)
    table = ClassTable(["road"], COLORS[:1], ignore_label=255)
    assert texts(plots.plot_palette(table).legends[0].get_texts()) == ["road", "255 (ignored)"]


def test_class_frequency_bars_are_the_shares_in_percent_commonest_on_top():
    shares = {"pixel_share": [0.25, 0.75, 0], "image_share": [1, 0.5, 0]}
    figure = checked(plots.plot_class_frequency(pd.DataFrame(shares, index=NAMES), CLASSES))
    pixels, images = figure.axes
    assert texts(pixels.yaxis.get_ticklabels()) == ["pole", "road", "car"]
    assert [bar.get_width() for bar in pixels.patches] == [0, 25, 75]
    assert [bar.get_width() for bar in images.patches] == [0, 100, 50]
    assert texts(pixels.texts) == ["0 %", "25 %", "75 %"]
    np.testing.assert_allclose(pixels.patches[2].get_facecolor()[:3], np.divide(COLORS[1], 255))


def test_matrices_show_percentages_and_leave_what_is_absent_empty():
    shares = pd.DataFrame([[1, 0.5, 0], [1, 1, 0], [NAN] * 3], index=NAMES, columns=NAMES)
    together = checked(plots.plot_co_occurrence(shares)).axes[0]
    confusion = checked(plots.plot_confusion_matrix(MATRIX, CLASSES)).axes[0]
    for ax in (together, confusion):
        assert texts(ax.xaxis.get_ticklabels()) == texts(ax.yaxis.get_ticklabels()) == NAMES
        assert [text.get_color() for text in ax.texts[::2][:2]] == ["black", "white"]
    assert (confusion.get_xlabel(), confusion.get_ylabel()) == ("predicted class", "true class")
    assert texts(together.texts) == ["100.0", "50.0", "0.0", "100.0", "100.0", "0.0"]
    assert texts(confusion.texts) == ["90.0", "10.0", "0.0", "25.0", "75.0", "0.0"]


def test_region_sizes_show_median_and_range_of_each_class():
    columns = ["regions", "median_area", "smallest_area", "largest_area"]
    table = pd.DataFrame([[1200, 5.5, 1, 600], [3, 40, 9, 90], [0] + [NAN] * 3], NAMES, columns)
    ax = checked(plots.plot_region_sizes(table, CLASSES)).axes[0]
    assert texts(ax.yaxis.get_ticklabels()) == ["pole (0)", "road (1,200)", "car (3)"]
    assert ax.collections[-1].get_offsets()[1:].tolist() == [[5.5, 1], [40, 2]]
    lines = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()[1:]]
    assert lines == [[1, 600], [9, 90]]


def test_location_and_statistics_of_images_have_a_panel_each():
    figure = checked(plots.plot_location(np.full((4, 2, 2), 0.25), CLASSES))
    assert texts(ax.title for ax in figure.axes[:3]) == NAMES
    images = [[360, 480, 90, 50, 80, 90, 100, 900]] * 2 + [[240, 320, 110, 70, 100, 9, 12, 2]]
    figure = checked(plots.plot_image_statistics(pd.DataFrame(images, columns=IMAGE_COLUMNS)))
    assert figure.axes[3].collections[0].get_offsets().tolist() == [[480, 360], [320, 240]]
    assert texts(figure.axes[3].texts) == ["2", "1"]


def test_class_weights_are_dots_and_zero_is_none():
    weights = pd.DataFrame({"none": [1, 1, 0], "median_frequency": [0.5, 4, 0]}, index=NAMES)
    figure = checked(plots.plot_class_weights(weights))
    assert texts(figure.legends[0].get_texts()) == ["none", "median frequency"]
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xdata(), [NAN, 4, 0.5])


def test_findings_are_drawn_the_gravest_first_two_of_a_kind_with_marks(city, classes):
    figure = checked(plots.plot_findings(check_dataset(city)))
    assert texts(figure.axes[0].texts) == ["There is no finding that a picture could show."]
    masks = sorted(city.glob("*_labels/*.png"), key=lambda path: path.name)
    plain = classes.colors[[0, 1]].repeat(20, axis=0)[:, None].repeat(48, axis=1)
    unknown, blended, tiny = plain.copy(), plain.copy(), plain.copy()
    unknown[5:15, 5:15] = 10, 240, 30
    blended[20, 20:] = plain[19:21, 30].mean(axis=0)
    tiny[24:36:2, ::2], tiny[10, 20] = classes.colors[2], classes.colors[3]
    written = {0: unknown, 1: blended, 2: np.kron(plain, np.ones((40, 50, 1)))}
    written |= {4: plain.repeat(10, axis=1), 6: plain.repeat(2, axis=0), 7: tiny}
    for i, pixels in written.items():
        Image.fromarray(pixels.astype(np.uint8)).save(masks[i])
    Image.open(city / "train/scene_3.png").save(city / "val/scene_5.png")
    figure = checked(plots.plot_findings(check_dataset(city, image_size=(32, 32))))
    assert [ax.get_ylabel().replace("\n", ", ") for ax in figure.axes[::2]] == [
        "error: sizes differ, train: scene_2",
        "error: sizes differ, val: scene_4",
        "error: unknown colours, train: scene_0",
        "warning: blended boundaries, train: scene_1",
        "warning: near-duplicates, train: scene_3, val: scene_5",
        "note: tiny regions, test: scene_7",
    ]
    pictures = shown(figure)
    assert pictures[1].shape == (534, 800, 3)
    np.testing.assert_array_equal(*pictures[8:10])
    assert np.ptp(pictures[8]) > 200, "these are the photographs"
    wrong = {4: (unknown, (10, 10)), 6: (blended, (20, 30)), 10: (tiny, (24, 30))}
    for i, (mask, place) in wrong.items():
        np.testing.assert_array_equal(pictures[i], mask)
        marked = (pictures[i + 1] == ORANGE).all(axis=-1)
        assert (marked[place], marked[10, 20]) == (True, False)
    assert pictures[5][4, 10].tolist() == ORANGE, "a mark is a pixel larger than what is wrong"


def test_masks_of_ids_and_annotations_are_marked_in_colours(tmp_path, classes):
    photo, mask = tmp_path / "a.png", tmp_path / "a_mask.png"
    Image.fromarray(PHOTOGRAPH).save(photo)
    Image.fromarray(np.where(LABELS == 1, 9, LABELS)).save(mask)
    shape = Annotation(photo, tmp_path / "train.csv", ((2, ("runs", "1 1")),))
    kinds = ("unknown ids", mask, "ids", 0), ("tiny regions", shape, "colors", 2)
    for check, drawn_from, encoding, color in kinds:
        examples = Split([(photo, drawn_from)], classes, encoding)
        finding = Finding(check, "note", "", 1, "a", "Wrong.", "Do something.", examples)
        report = DatasetReport(tmp_path, {"train": 1}, (32, 32), (finding,))
        drawn, marked = shown(plots.plot_findings(report))
        assert drawn[0, 0].tolist() == classes.colors[color].tolist()
        assert [marked[row, 0].tolist() == ORANGE for row in (0, 50)] == [True, False]


def test_learning_curves_have_a_panel_a_unit_and_mark_the_best_epoch():
    losses = {"epoch": [1, 2, 3], "loss": [3.0, 2, 1], "val_loss": [3.5, 2.5, 2.6]}
    scores = {"pixel_accuracy": [0.6, NAN, 0.8], "mean_iou": [0.2, 0.5, 0.4], "seconds": 60}
    figure = checked(plots.plot_learning_curves(pd.DataFrame(losses | scores)))
    assert figure.get_suptitle() == "best epoch: 2 (validation mean IoU 0.5)"
    loss, score = figure.axes
    assert (loss.get_ylabel(), score.get_ylabel()) == ("loss", "score, %")
    assert texts(loss.get_legend().get_texts()) == ["training loss", "validation loss"]
    assert loss.lines[1].get_xydata().tolist() == [[1, 3.5], [2, 2.5], [3, 2.6]]
    assert score.lines[0].get_xydata().tolist() == [[1, 60], [3, 80]]  # the line goes on
    assert loss.lines[-1].get_xdata() == score.lines[-1].get_xdata() == [2, 2]
    figure = plots.plot_learning_curves(pd.DataFrame(losses)[["epoch", "loss"]])
    assert figure.get_suptitle() == "best epoch: 3 (training loss 1)"


def test_per_class_bars_and_intervals():
    ax = checked(plots.plot_per_class(PER_CLASS, CLASSES)).axes[0]
    assert texts(ax.yaxis.get_ticklabels()) == ["pole", "road", "car"]
    assert [bar.get_width() for bar in ax.patches] == [0, 50, 90]
    intervals = [segment[:, 0] for segment in ax.collections[0].get_segments()[1:]]
    np.testing.assert_allclose(intervals, [[40, 70], [80, 95]])
    assert texts(ax.texts) == ["not scored", "50.0", "90.0"]
    assert texts(ax.get_legend().get_texts()) == ["mean 70.0 %"]
    assert not plots.plot_per_class(PER_CLASS[["iou"]], CLASSES).axes[0].collections


def test_a_tradeoff_has_a_mark_for_each_row_with_its_interval_and_size():
    options = {"size": "parameters", "baseline": "small"}
    figure = checked(plots.plot_tradeoff(NETWORKS, "ms", "mean_iou", **options))
    (ax,) = figure.axes
    small, large, lines, *_ = ax.collections
    assert (small.get_offsets().tolist(), large.get_offsets().tolist()) == ([[10, 50]], [[20, 60]])
    assert large.get_sizes()[0] == pytest.approx(134 * small.get_sizes()[0])
    ends = [segment[:, 1].tolist() for segment in lines.get_segments()]
    assert ends == [pytest.approx([40, 55]), pytest.approx([58, 65])]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("an image, ms", "mean IoU, %")
    assert ax.get_xlim()[0] == 0
    assert ax.get_ylim()[0] < 40 < 65 < ax.get_ylim()[1]
    assert texts(figure.legends[0].get_texts()) == ["small, 1 M", "large, 134 M"]
    assert [line.get_xdata()[0] for line in ax.lines] == [10, 0]


def test_exports_have_a_panel_a_column_and_their_three_names():
    names = ["whole keras float32", "whole onnx int8", "small onnx int8"]
    index = pd.MultiIndex.from_tuples([name.split() for name in names])
    columns = ["p50_ms", "megabytes", "mean_iou"]
    table = pd.DataFrame([[8, 4, 0.5], [2, 1, 0.25], [90, 0.5, 0.75]], index, columns)
    figure = checked(plots.plot_tradeoff(table, columns[:2], "mean_iou"))
    time, files = figure.axes
    assert [ax.get_xscale() for ax in figure.axes] == ["log", "linear"]
    places = [mark.get_offsets()[0].tolist() for mark in files.collections]
    assert places == [[4, 50], [1, 25], [0.5, 75]]
    assert len({tuple(mark.get_facecolor()[0]) for mark in time.collections[:3]}) == 3
    assert texts(figure.legends[0].get_texts()) == names


def test_names_are_no_formulas():
    names = [r"$\frac$", "5 $", os.fsdecode(b"caf\xe9"), "$a$ and $_"]
    classes = ClassTable(names, COLORS)
    figures = [
        plots.plot_grid([(LABELS, LABELS)], classes, columns=names[:2], titles=names[:1]),
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
