import errno
import os
import statistics
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from numpy.testing import assert_allclose, assert_array_equal, assert_equal

from seglib import reports
from seglib.classes import ClassTable, voc_colors
from seglib.reports import bootstrap_interval, boundary_f1, confusion_matrix, create_report

NAN = np.nan
CLASSES = ClassTable(["void", "road", "sky", "car"], voc_colors(4), ignore_label=0)


@pytest.mark.parametrize(
    ("ignored", "dtype", "absent"),
    [(255, np.uint8, "in truth"), (150, np.uint64, "in prediction"), (150, int, "nowhere")],
)
def test_matrix_and_class_figures_are_scikit_learns(ignored, dtype, absent):
    """Of a prediction that is right about half the time; class 50 is absent from one of both."""
    rng, ids = np.random.default_rng(0), np.array([0, 50, 100, 150, 200], dtype)
    y_true, others = rng.choice(ids, (2, 40, 30))
    y_pred = np.where(rng.random((40, 30)) < 0.5, y_true, others)
    y_true[(y_true == 50) & (absent == "in truth")] = 0
    y_pred[(y_pred == 50) & (absent == "in prediction")] = 0
    y_true[rng.random((40, 30)) < 0.1] = ignored
    y_pred[y_true == 255] = 230  # whatever is predicted there
    matrix = confusion_matrix(y_true, y_pred, num_classes=201, ignore_label=ignored)
    scored, valid = [i for i in ids if i != ignored], y_true != ignored
    pair = y_true[valid], y_pred[valid]
    assert_array_equal(matrix, sklearn.metrics.confusion_matrix(*pair, labels=range(201)))
    for name in ("jaccard", "f1", "precision", "recall"):
        reference = getattr(sklearn.metrics, f"{name}_score")
        figure = getattr(reports, f"class_{name}".replace("jaccard", "iou"))
        received = figure(matrix, ignore_label=ignored)
        expected = reference(*pair, labels=scored, average=None, zero_division=0)
        assert_allclose(received[scored], expected, rtol=1e-12)
        assert ignored == 255 or np.isnan(received[ignored])


# Class 2 is predicted alone, class 3 is true alone, class 4 is in neither.
MATRIX = np.zeros((5, 5), int)
MATRIX[[0, 1, 3], :3] = [[4, 1, 1], [0, 3, 0], [2, 0, 0]]
# Figure: expected, and expected where class 0 is ignored: its row is skipped, though it was
# counted; its column keeps the two errors of class 3.
FIGURES = {
    "class_iou": ([4 / 8, 3 / 4, 0, 0, NAN], [NAN, 1, NAN, 0, NAN]),
    "class_f1": ([8 / 12, 6 / 7, 0, 0, NAN], [NAN, 1, NAN, 0, NAN]),
    "class_precision": ([4 / 6, 3 / 4, 0, 0, NAN], [NAN, 1, NAN, 0, NAN]),
    "class_recall": ([4 / 6, 1, 0, 0, NAN], [NAN, 1, NAN, 0, NAN]),
    "pixel_accuracy": (7 / 11, 3 / 5),
    "mean_iou": ((4 / 8 + 3 / 4) / 4, 1 / 2),
    "mean_accuracy": ((4 / 6 + 1 + 0) / 3, 1 / 2),
    "frequency_weighted_iou": ((6 * 4 / 8 + 3 * 3 / 4) / 11, 3 / 5),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_a_hand_typed_matrix_of_many_and_of_nothing(name):
    figure, (plain, ignoring) = getattr(reports, name), FIGURES[name]
    assert_allclose(figure(MATRIX), plain, rtol=1e-12)
    assert_allclose(figure(MATRIX, ignore_label=0), ignoring, rtol=1e-12)
    assert np.isnan(figure(confusion_matrix([], [], num_classes=3))).all()
    matrices = np.random.default_rng(0).integers(0, 3, (2, 6, 4, 4))
    before = matrices.copy()
    expected = [[figure(matrix, ignore_label=1) for matrix in row] for row in matrices]
    assert_array_equal(figure(matrices, ignore_label=1), expected)
    assert_array_equal(matrices, before)


def slow_boundary_f1(y_true, y_pred, num_classes, ignore_label, tolerance):
    """Follow the definition word by word, one pixel at a time."""
    spots = {spot for spot, i in np.ndenumerate(y_true) if i != ignore_label}

    def outline(region):
        others = spots - region
        for r, c in region:
            if others & {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)}:
                yield r, c

    def share(some, others):
        near = [any(np.hypot(r - u, c - v) <= tolerance for u, v in others) for r, c in some]
        return np.mean(near) if near else 0.0

    scores = np.full(num_classes, NAN)
    for i in range(num_classes):
        true, predicted = ({s for s in spots if labels[s] == i} for labels in (y_true, y_pred))
        a, b = list(outline(true)), list(outline(predicted))
        if true and (a or b):
            scores[i] = statistics.harmonic_mean([share(b, a), share(a, b)])
        elif true:
            scores[i] = true == predicted
    return scores


@pytest.mark.parametrize("seed", range(8))
def test_boundary_f1_is_the_slow_one(seed):
    rng = np.random.default_rng(seed)
    size = (11, 7) if seed % 2 else (6, 14)
    y_true = np.kron(rng.integers(0, 4, (4, 5)), np.ones((4, 4), int))[: size[0], : size[1]]
    y_pred = np.where(rng.random(size) < 0.8, y_true, rng.integers(0, 5, size))
    y_true = np.where(rng.random(size) < 0.2, 255, y_true)
    tolerance = [0, 1, 1.5, 2, 3, 2.9, 40, 1][seed]
    received = boundary_f1(y_true, y_pred, num_classes=5, ignore_label=255, tolerance=tolerance)
    assert_allclose(received, slow_boundary_f1(y_true, y_pred, 5, 255, tolerance), rtol=1e-12)


FULL, HALF = np.zeros((4, 4), int), np.array([[0, 0, 1, 1]] * 4)
BESIDE, FILLED = np.array([[0, 0, 255, 1, 1]]), np.array([[0, 0, 1, 1, 1]])
WIDE = np.indices((300, 400))[1]  # the diagonal is 500, of which 0.75 % is 3.75, so 4 pixels


@pytest.mark.parametrize(
    ("y_true", "y_pred", "options", "expected"),
    [
        (FULL, FULL, {"tolerance": 0}, [1, NAN]),  # no boundary anywhere
        (FULL, HALF, {"tolerance": 0}, [0, NAN]),
        (HALF, FULL, {"tolerance": 0}, [0, 0]),
        (FULL, FULL + 1, {"tolerance": 0}, [0, NAN]),
        (BESIDE, FILLED, {"tolerance": 0, "ignore_label": 255}, [1, 1]),  # none beside ignored ones
        (BESIDE * 0, FILLED, {"tolerance": 0, "ignore_label": 0}, [NAN, NAN]),
        (WIDE >= 200, WIDE >= 204, {}, [1, 1]),
        (WIDE >= 200, WIDE >= 205, {}, [0, 0]),
    ],
)
def test_boundary_f1_of_known_images(y_true, y_pred, options, expected):
    assert_equal(boundary_f1(y_true, y_pred, num_classes=2, **options), expected)


@pytest.mark.parametrize("statistic", [reports.mean_iou, reports.class_iou])
def test_bootstrap_is_a_plain_loop_over_the_same_draws(statistic):
    matrices = np.random.default_rng(3).integers(0, 50, (30, 4, 4)) + 60 * np.eye(4, dtype=int)
    rng, values = np.random.default_rng(5), []
    for _ in range(1000):
        counts = rng.multinomial(30, [1 / 30] * 30)
        values.append(statistic(np.repeat(matrices, counts, axis=0).sum(axis=0)))
    received = bootstrap_interval(matrices, statistic, seed=5)
    assert_allclose(received, np.percentile(values, [2.5, 97.5], axis=0), rtol=1e-12)


def test_bootstrap_leaves_out_resamples_without_the_class():
    images = np.array([[[1, 0], [0, 0]]] * 3 + [[[1, 0], [0, 1]]])
    assert_equal(bootstrap_interval(images, reports.class_iou), [[1, 1]] * 2)
    assert_equal(bootstrap_interval(images[:3], reports.class_iou), [[1, NAN]] * 2)


def draw_pairs():
    """Six images of three sizes and two hand-typed ones; some classes are in neither half."""
    rng = np.random.default_rng(0)
    for i in range(6):
        shape = (8 + i % 3, 12)
        y_true = rng.integers(0, 4 if i % 2 else 3, shape)
        yield y_true, np.where(rng.random(shape) < 0.3 + i / 10, y_true, rng.integers(0, 4, shape))
    yield from ((np.array([[1, 0]]), np.array([[1, 3]])), (np.array([[2, 3]]), np.array([[1, 1]])))


@pytest.fixture
def report():
    timed = ((*pair, i) for i, pair in enumerate(draw_pairs()))
    return create_report(timed, CLASSES, names=list("abcdefgh"))


def test_report_of_a_hand_typed_image():
    y_true = [[1, 1, 2], [1, 1, 2], [0, 0, 2]]
    y_pred = [[1, 1, 2], [1, 2, 2], [1, 2, 2]]
    report = create_report([(y_true, y_pred)], CLASSES)
    assert report.confusion.tolist() == [[0] * 4, [0, 3, 1, 0], [0, 0, 3, 0], [0] * 4]
    assert report.intervals["mean_iou"] == pytest.approx((3 / 4, 3 / 4))
    # All boundaries are within one pixel. Car, neither true nor predicted, has a Dice of 1.
    figures = [6 / 7, 3 / 4, (3 / 4 + 1) / 2, 3 / 4, 1, (6 / 7 + 6 / 7 + 1) / 3]
    assert report.summary()["value"].tolist() == pytest.approx(figures)
    columns = ["iou", "iou_low", "iou_high", "f1", "precision", "recall", "boundary_f1"]
    rows = [[3 / 4] * 3 + [6 / 7, 1, 3 / 4, 1], [3 / 4] * 3 + [6 / 7, 3 / 4, 1, 1], [NAN] * 7]
    index = pd.Index(["road", "sky", "car"], name="class")
    expected = pd.DataFrame(rows, index, columns).assign(pixels=[4, 3, 0], images=[1, 1, 0])
    expected["dice"] = [6 / 7, 6 / 7, 1]
    pd.testing.assert_frame_equal(report.per_class, expected)


def test_report_follows_from_its_images(report):
    options = {"num_classes": 4, "ignore_label": 0}
    matrices = [confusion_matrix(*pair, **options) for pair in draw_pairs()]
    assert_array_equal(report.confusion, sum(matrices))
    for name in ("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou"):
        value = getattr(reports, name)(sum(matrices), ignore_label=0)
        low, high = report.intervals[name]
        assert low <= getattr(report, name) == value <= high
        if name in report.per_image:
            each = [getattr(reports, name)(matrix, ignore_label=0) for matrix in matrices]
            assert report.per_image[name].tolist() == each
    scores = pd.DataFrame([boundary_f1(*pair, **options) for pair in draw_pairs()])[[1, 2, 3]]
    assert_allclose(report.per_image["boundary_f1"], scores.mean(axis=1))
    assert_allclose(report.per_class["boundary_f1"], scores.mean(axis=0))
    assert report.boundary_f1 == pytest.approx(scores.mean(axis=0).mean())
    assert report.per_class["images"].tolist() == scores.count().tolist()
    assert report.per_image["image"].tolist() == list("abcdefgh")
    assert report.per_image["latency_ms"].tolist() == list(range(8))
    options = {"labels": [1, 2, 3], "average": None, "zero_division": 1}
    known = [(true[true != 0], predicted[true != 0]) for true, predicted in draw_pairs()]
    dice = np.array([sklearn.metrics.f1_score(*pair, **options) for pair in known])
    assert_allclose(reports.class_dice(report.matrices, ignore_label=0)[:, 1:], dice)
    assert_allclose(report.per_class["dice"], dice.mean(axis=0))
    assert_allclose(report.per_image["dice"], dice.mean(axis=1))
    assert report.dice == report.summary().loc["dice", "value"] == pytest.approx(dice.mean())


def test_worst_and_best_are_by_mean_iou_and_unscored_images_come_last():
    truth = np.array([[1, 2], [1, 2]])
    pairs = [(truth, truth), (truth, truth * 0 + 3), (truth * 0, truth), (truth, truth * 0 + 1)]
    report = create_report(pairs, CLASSES, names=["right", "wrong", "void", "half"])
    assert report.worst(2) == ["wrong", "half"]
    assert report.best() == ["right", "half", "wrong", "void"]
    assert report.worst()[-1] == "void"


def test_three_tables_are_written_and_stay_whole_on_a_full_disk(report, tmp_path):
    paths = report.write(tmp_path / "new" / "run")
    assert [path.name for path in paths] == ["results.csv", "per_class.csv", "summary.csv"]
    images, per_class, summary = map(pd.read_csv, paths)
    options = {"check_dtype": False, "check_column_type": False, "check_index_type": False}
    pd.testing.assert_frame_equal(images, report.per_image, **options)
    assert per_class["class"].tolist() == ["road", "sky", "car"]
    pd.testing.assert_frame_equal(summary.set_index("figure"), report.summary(), **options)
    assert report.summary().loc["boundary_f1"].isna().tolist() == [False, True, True]
    assert repr(report).startswith("Report(images: 8, pixel accuracy: 0.")
    kept = [path.read_bytes() for path in paths]
    report.per_image.loc[0, "image"] = os.fsdecode(b"caf\xe9")  # not UTF-8
    full = mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, "no space left"))
    with full, pytest.raises(OSError, match="no space left"):
        report.write(paths[0].parent)
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)
    assert [path.read_bytes() for path in paths] == kept
    report.write(paths[0].parent)
    assert b"caf\xe9" in paths[0].read_bytes()


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "the split is empty"),
        ([([[1]], [[1]]), ([[1]], [[7]])], r"image number 1, .*: y_pred: expected ids in \[0, 4"),
        ([([1, 2], [1])], r"expected integer ids of shape \(2,\), received int64 of shape \(1,\)"),
        ([([1, 255], [1, 2])], "received 1 to 255; give an ignored one"),
        ([([1, -1], [1, 2])], "received -1 to 1"),
        ([([1.0], [1])], "expected integer ids .* received float64"),
    ],
)
def test_labels_that_are_none_are_refused(pairs, words):
    with pytest.raises(ValueError, match=words):
        create_report(pairs, CLASSES)
