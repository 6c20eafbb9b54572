import io

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from seglib import plots
from seglib.checks import DatasetReport, Example, Finding
from seglib.classes import voc_colors
from seglib.masks import label_colors
from seglib.plots.drawing import WIDTH

matplotlib.use("agg")

MARK, SIZE = [213, 94, 0], (60, 80)
LABELS = np.zeros(SIZE, np.uint8)
LABELS[:30] = 1
PHOTOGRAPHS = [np.random.default_rng(i).integers(0, 256, (*SIZE, 3), np.uint8) for i in (0, 1)]


@pytest.fixture(name="report_of")
def create_report(tmp_path, classes):
    """Function from the finding and the mask of each example to a report."""

    def report_of(*kinds, photographs=PHOTOGRAPHS, encoding="colors", image_size=(128, 128)):
        findings = []
        for number, (check, severity, *masks) in enumerate(kinds):
            pairs = []
            for i, mask in enumerate(masks):
                pair = tmp_path / f"{number}_{i}.png", tmp_path / f"{number}_{i}_mask.png"
                Image.fromarray(photographs[i]).save(pair[0])
                Image.fromarray(mask).save(pair[1])
                pairs.append(pair)
            captions = tuple(f"photograph {i}" for i in range(len(masks)))
            example = Example(check, "train", tuple(pairs), captions, encoding)
            texts = "3 masks with something that is wrong.", "Do something about it."
            findings.append(
                Finding(check, severity, "train", 3, "a, b, c", *texts, (example,) * bool(masks))
            )
        return DatasetReport(tmp_path, classes, {"train": 3}, image_size, tuple(findings))

    return report_of


def pictures(figure):
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.images]


def texts(figure):
    return [text.get_text().replace("\n", " ") for ax in figure.axes for text in ax.texts]


def assert_whole(figure):
    """Nothing is cut off, and no text runs into the pictures."""
    assert pyplot.get_fignums() == []
    figure.savefig(io.BytesIO(), format="png")
    assert figure.get_figwidth() <= WIDTH
    page = figure.bbox
    for ax in figure.axes:
        for box in [ax.get_tightbbox(), *(text.get_window_extent() for text in ax.texts)]:
            assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1
            assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1


def test_a_report_without_pictures_says_so(report_of):
    for report in (report_of(), report_of(("absent classes", "warning"))):
        figure = plots.plot_findings(report)
        assert texts(figure) == ["There is no finding that a picture could show."]
        assert len(figure.axes) == 1, "notebooks show no figure without axes"
        assert_whole(figure)


def test_unknown_colours_are_marked(report_of, classes):
    mask = label_colors(LABELS, classes)
    mask[40:50, 40:60] = (10, 240, 30)
    figure = plots.plot_findings(report_of(("unknown colours", "error", mask)))
    raw, marked = pictures(figure)
    np.testing.assert_array_equal(raw, mask)
    assert marked[45, 50].tolist() == marked[39, 45].tolist() == MARK  # and one pixel around
    assert marked[10, 10].tolist() != MARK
    assert titles(figure) == ["0_0_mask.png", "unknown colours marked"]
    title, words = texts(figure)
    assert title == "error: unknown colours in train"
    assert words == "3 masks with something that is wrong. Do something about it. [a, b, c]"
    assert_whole(figure)


def test_blends_are_magnified_and_shown_as_they_are_read(report_of, classes):
    mask = label_colors(LABELS, classes)
    mask[30, 50:] = mask[29:31, 60].mean(axis=0)
    figure = plots.plot_findings(report_of(("blended boundaries", "warning", mask)))
    raw, read = pictures(figure)
    assert raw.shape == read.shape == (40, 40, 3)
    known = {tuple(color) for color in classes.colors[:2].tolist()}
    assert len(np.unique(raw.reshape(-1, 3), axis=0)) == 3
    assert {tuple(color) for color in read.reshape(-1, 3).tolist()} == known
    assert titles(figure) == ["part of 0_0_mask.png", "as it is read"]


def test_unknown_ids_are_marked(report_of):
    labels = LABELS.copy()
    labels[40:50, 40:60] = 9
    figure = plots.plot_findings(report_of(("unknown ids", "error", labels), encoding="ids"))
    photograph, marked = pictures(figure)
    np.testing.assert_array_equal(photograph, PHOTOGRAPHS[0])
    assert marked[45, 50].tolist() == MARK
    assert marked[10, 10].tolist() != MARK


def test_tiny_regions_are_marked_unless_they_are_ignored(report_of, classes):
    labels = LABELS.copy()
    labels[50, 60], labels[10, 20] = 2, 3
    kind = ("tiny regions", "note", label_colors(labels, classes))
    mask, marked = pictures(plots.plot_findings(report_of(kind, image_size=(32, 32))))
    assert mask[50, 60].tolist() == classes.colors[2].tolist()
    assert marked[50, 60].tolist() == MARK
    assert marked[10, 20].tolist() != MARK


@pytest.mark.parametrize("check", ["near-duplicates", "shared sequences"])
def test_two_photographs_are_shown_side_by_side(report_of, check):
    figure = plots.plot_findings(report_of((check, "warning", LABELS, LABELS)))
    for shown, photograph in zip(pictures(figure), PHOTOGRAPHS, strict=True):
        np.testing.assert_array_equal(shown, photograph)
    assert titles(figure) == ["photograph 0", "photograph 1"]
    assert_whole(figure)


@pytest.mark.parametrize("check", ["blank masks", "sizes differ", "turned photographs"])
def test_other_pairs_are_shown_with_their_sizes(report_of, classes, check):
    mask = label_colors(LABELS[:, :50], classes)
    figure = plots.plot_findings(report_of((check, "error", mask)))
    np.testing.assert_array_equal(pictures(figure)[1], mask)
    assert titles(figure) == ["photograph, 60×80", "mask, 60×50"]


def test_the_gravest_come_first_and_each_kind_at_most_twice(report_of):
    kinds = [("sizes differ", "error", LABELS)] * 3 + [("blank masks", "note", LABELS)]
    report = report_of(*kinds, encoding="ids")
    bold = [text for text in texts(plots.plot_findings(report)) if ": " in text]
    assert bold == ["error: sizes differ in train"] * 2 + ["note: blank masks in train"]
    assert len(pictures(plots.plot_findings(report, max_examples=1))) == 2


def test_upright_wide_and_large_pictures_and_long_texts_fit(report_of, classes):
    shapes = [(90, 60), (60, 400), (1500, 2100), (60, 80)]
    report = report_of(
        *[(f"kind {i}", "note", np.zeros(shape, np.uint8)) for i, shape in enumerate(shapes)],
        encoding="ids",
    )
    words = "An explanation that goes on and on, with a path/that/has/no/space/to/break/at. " * 20
    findings = [
        Finding(f.check, f.severity, "train, val", 1, f.where, words, words, f.examples)
        for f in report.findings
    ]
    report = DatasetReport(report.path, classes, {"train": 4}, (128, 128), tuple(findings))
    figure = plots.plot_findings(report)
    assert_whole(figure)
    assert [picture.shape[:2] for picture in pictures(figure)[1::2]][2] == (500, 700)
    for row in range(4):
        left, right, text = figure.axes[3 * row : 3 * row + 3]
        bottom = min(extent.get_window_extent().y0 for extent in text.texts)
        below = figure.axes[3 * row + 3].get_tightbbox().y1 if row < 3 else 0
        assert bottom >= below, "the text runs into the next row"
        edge = max(ax.get_tightbbox().x1 for ax in (left, right))
        assert edge <= min(extent.get_window_extent().x0 for extent in text.texts)


def test_a_picture_of_ignored_pixels_outside_the_table(report_of, classes):
    table = type(classes)(classes.names, voc_colors(4), ignore_label=255)
    labels = np.full(SIZE, 255, np.uint8)
    report = report_of(("blank masks", "warning", labels), encoding="ids")
    report = DatasetReport(report.path, table, {"train": 1}, (128, 128), report.findings)
    assert not pictures(plots.plot_findings(report))[1].any()
