import errno
import os

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from seglib import reports
from seglib.classes import ClassTable
from seglib.reports import bootstrap_interval, boundary_f1, confusion_matrix, create_report

NAN = np.nan
COLORS = [(0, 0, 0), (128, 64, 128), (70, 130, 180), (64, 0, 128)]
CLASSES = ClassTable(["void", "road", "sky", "car"], COLORS, ignore_label=0)
CLASS_FIGURES = ("class_iou", "class_f1", "class_precision", "class_recall")


@pytest.fixture
def pair():
    """Truth and a prediction that is right about half the time; 255 is to be ignored."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 5, (40, 30))
    y_pred = np.where(rng.random((40, 30)) < 0.5, y_true, rng.integers(0, 5, (40, 30)))
    y_true[rng.random((40, 30)) < 0.1] = 255
    return y_true, y_pred


# Confusion matrices and what follows from them


def test_confusion_matrix_of_a_hand_typed_image():
    y_true = [[0, 0, 1], [1, 1, 2], [9, 9, 2]]
    y_pred = [[0, 1, 1], [1, 0, 2], [0, 99, 0]]
    matrix = confusion_matrix(y_true, y_pred, num_classes=3, ignore_label=9)
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 1]]
    assert matrix.dtype == np.int64
    assert confusion_matrix([], [], num_classes=2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_confusion_matrix_is_scikit_learns(pair, dtype):
    y_true, y_pred = (labels.astype(dtype) for labels in pair)
    matrix = confusion_matrix(y_true, y_pred, num_classes=5, ignore_label=255)
    valid = y_true != 255
    expected = sklearn.metrics.confusion_matrix(y_true[valid], y_pred[valid], labels=range(5))
    np.testing.assert_array_equal(matrix, expected)
    labels = np.array([200], np.uint8)  # ids do not wrap around in small dtypes
    assert confusion_matrix(labels, labels, num_classes=201)[200, 200] == 1


@pytest.mark.parametrize("name", CLASS_FIGURES)
@pytest.mark.parametrize(("ignored", "removed"), [(255, "true"), (3, "predicted"), (3, None)])
def test_class_figures_are_scikit_learns(pair, name, ignored, removed):
    y_true, y_pred = np.where(pair[0] == 255, ignored, pair[0]), pair[1]
    if removed == "true":  # class 1 is predicted, but never true
        y_true = np.where(y_true == 1, 0, y_true)
    if removed == "predicted":
        y_pred = np.where(y_pred == 1, 0, y_pred)
    matrix = confusion_matrix(y_true, y_pred, num_classes=5, ignore_label=ignored)
    scored, valid = [i for i in range(5) if i != ignored], y_true != ignored
    reference = dict(zip(CLASS_FIGURES, ("jaccard", "f1", "precision", "recall"), strict=True))
    reference = getattr(sklearn.metrics, f"{reference[name]}_score")
    expected = reference(y_true[valid], y_pred[valid], labels=scored, average=None, zero_division=0)
    received = getattr(reports, name)(matrix, ignore_label=ignored)
    np.testing.assert_allclose(received[scored], expected, rtol=1e-12)
    assert ignored == 255 or np.isnan(received[ignored])


# Class 2 is predicted alone, class 3 is true alone, class 4 is in neither.
MATRIX = np.array(
    [[4, 1, 1, 0, 0], [0, 3, 0, 0, 0], [0, 0, 0, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
)
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
    np.testing.assert_allclose(figure(MATRIX), plain, rtol=1e-12)
    np.testing.assert_allclose(figure(MATRIX, ignore_label=0), ignoring, rtol=1e-12)
    assert np.isnan(figure(np.zeros((3, 3), int))).all()
    matrices = np.random.default_rng(0).integers(0, 3, (2, 6, 4, 4))
    before = matrices.copy()
    expected = [[figure(matrix, ignore_label=1) for matrix in row] for row in matrices]
    np.testing.assert_array_equal(figure(matrices, ignore_label=1), expected)
    np.testing.assert_array_equal(matrices, before)


# Boundaries


def slow_boundary_f1(y_true, y_pred, num_classes, ignore_label, tolerance):
    """Follow the definition word by word, one pixel at a time."""
    spots = {spot for spot, i in np.ndenumerate(y_true) if i != ignore_label}

    def outline(labels, class_id):
        for r, c in spots:
            near = {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)} & spots
            if labels[r, c] == class_id and any(labels[n] != class_id for n in near):
                yield r, c

    def share(some, others):
        near = [any(np.hypot(r - u, c - v) <= tolerance for u, v in others) for r, c in some]
        return np.mean(near) if near else 0.0

    scores = np.full(num_classes, NAN)
    for i in range(num_classes):
        true, predicted = ({s for s in spots if labels[s] == i} for labels in (y_true, y_pred))
        a, b = list(outline(y_true, i)), list(outline(y_pred, i))
        if true and (a or b):
            total = share(b, a) + share(a, b)
            scores[i] = 2 * share(b, a) * share(a, b) / total if total else 0
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
    expected = slow_boundary_f1(y_true, y_pred, 5, 255, tolerance)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_the_default_tolerance_is_three_quarters_of_a_percent_of_the_diagonal():
    # 300 x 400: the diagonal is 500, of which 0.75 % is 3.75, so 4 pixels.
    y_true, within, beyond = (np.zeros((300, 400), int) for _ in range(3))
    y_true[:, 200:], within[:, 204:], beyond[:, 205:] = 1, 1, 1
    assert boundary_f1(y_true, within, num_classes=2).tolist() == [1, 1]
    assert boundary_f1(y_true, beyond, num_classes=2).tolist() == [0, 0]


FULL, HALF = np.zeros((4, 4), int), np.array([[0, 0, 1, 1]] * 4)
BESIDE, FILLED = np.array([[0, 0, 255, 1, 1]]), np.array([[0, 0, 1, 1, 1]])


@pytest.mark.parametrize(
    ("y_true", "y_pred", "ignore_label", "expected"),
    [
        (FULL, FULL, None, [1, NAN]),  # no boundary anywhere
        (FULL, HALF, None, [0, NAN]),
        (HALF, FULL, None, [0, 0]),
        (FULL, FULL + 1, None, [0, NAN]),
        (BESIDE, FILLED, 255, [1, 1]),  # no boundary beside ignored pixels
        (BESIDE * 0, FILLED, 0, [NAN, NAN]),
    ],
)
def test_boundary_f1_of_hand_typed_images(y_true, y_pred, ignore_label, expected):
    received = boundary_f1(y_true, y_pred, num_classes=2, ignore_label=ignore_label, tolerance=0)
    np.testing.assert_equal(received, expected)


# Intervals


@pytest.mark.parametrize("statistic", [reports.mean_iou, reports.class_iou])
def test_bootstrap_is_a_plain_loop_over_the_same_draws(statistic):
    matrices = np.random.default_rng(3).integers(0, 50, (30, 4, 4)) + 60 * np.eye(4, dtype=int)
    rng, values = np.random.default_rng(5), []
    for _ in range(1000):
        counts = rng.multinomial(30, [1 / 30] * 30)
        values.append(statistic(np.repeat(matrices, counts, axis=0).sum(axis=0)))
    received = bootstrap_interval(matrices, statistic, seed=5)
    np.testing.assert_allclose(received, np.percentile(values, [2.5, 97.5], axis=0), rtol=1e-12)


def test_bootstrap_leaves_out_resamples_without_the_class():
    images = np.array([[[1, 0], [0, 0]]] * 3 + [[[1, 0], [0, 1]]])
    np.testing.assert_equal(bootstrap_interval(images, reports.class_iou), [[1, 1]] * 2)
    np.testing.assert_equal(bootstrap_interval(images[:3], reports.class_iou), [[1, NAN]] * 2)


# Reports


def draw_pairs(count=6, seed=0):
    """Images of three sizes; car is in half of them at most, void in all."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        shape = (8 + i % 3, 12)
        y_true = rng.integers(0, 4 if i % 2 else 3, shape)
        yield y_true, np.where(rng.random(shape) < 0.3 + i / 10, y_true, rng.integers(0, 4, shape))


@pytest.fixture
def report():
    timed = ((*pair, i) for i, pair in enumerate(draw_pairs()))
    return create_report(timed, CLASSES, names=list("abcdef"))


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


def test_report_follows_from_the_matrices_of_its_images(report):
    options = {"num_classes": 4, "ignore_label": 0}
    matrices = [confusion_matrix(*pair, **options) for pair in draw_pairs()]
    np.testing.assert_array_equal(report.confusion, sum(matrices))
    for name in ("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou"):
        value = getattr(reports, name)(sum(matrices), ignore_label=0)
        low, high = report.intervals[name]
        assert low <= getattr(report, name) == value <= high
        if name in report.per_image:
            each = [getattr(reports, name)(matrix, ignore_label=0) for matrix in matrices]
            assert report.per_image[name].tolist() == each
    scores = pd.DataFrame([boundary_f1(*pair, **options) for pair in draw_pairs()])[[1, 2, 3]]
    np.testing.assert_allclose(report.per_image["boundary_f1"], scores.mean(axis=1))
    np.testing.assert_allclose(report.per_class["boundary_f1"], scores.mean(axis=0))
    assert report.boundary_f1 == pytest.approx(scores.mean(axis=0).mean())
    assert report.per_class["images"].tolist() == scores.count().tolist()
    assert report.per_image["image"].tolist() == list("abcdef")
    assert report.per_image["latency_ms"].tolist() == [0, 1, 2, 3, 4, 5]


def test_dice_is_scikit_learns_of_each_image_and_class():
    pairs = [*draw_pairs(), ([[1, 0]], [[1, 3]]), ([[2, 3]], [[1, 1]])]
    report, expected = create_report(pairs, CLASSES), []
    for truth, predicted in pairs:
        valid = np.asarray(truth) != 0
        both = np.asarray(truth)[valid], np.asarray(predicted)[valid]
        options = {"labels": [1, 2, 3], "average": None, "zero_division": 1}
        expected.append(sklearn.metrics.f1_score(*both, **options))
    assert len({tuple(row == 1) for row in expected}) > 1  # some classes are in no half
    np.testing.assert_allclose(reports.class_dice(report.matrices, ignore_label=0)[:, 1:], expected)
    np.testing.assert_allclose(report.per_class["dice"], np.mean(expected, axis=0))
    np.testing.assert_allclose(report.per_image["dice"], np.mean(expected, axis=1))
    assert report.dice == report.summary().loc["dice", "value"] == pytest.approx(np.mean(expected))


def test_worst_and_best_are_by_mean_iou_and_unscored_images_come_last():
    truth = np.array([[1, 2], [1, 2]])
    pairs = [(truth, truth), (truth, truth * 0 + 3), (truth * 0, truth), (truth, truth * 0 + 1)]
    report = create_report(pairs, CLASSES, names=["right", "wrong", "void", "half"])
    assert report.worst(2) == ["wrong", "half"]
    assert report.best() == ["right", "half", "wrong", "void"]
    assert report.worst()[-1] == "void"


def test_write_makes_three_tables(report, tmp_path):
    paths = report.write(tmp_path / "new" / "run")
    assert [path.name for path in paths] == ["results.csv", "per_class.csv", "summary.csv"]
    images, per_class, summary = map(pd.read_csv, paths)
    options = {"check_dtype": False, "check_column_type": False, "check_index_type": False}
    pd.testing.assert_frame_equal(images, report.per_image, **options)
    assert per_class["class"].tolist() == ["road", "sky", "car"]
    pd.testing.assert_frame_equal(summary.set_index("figure"), report.summary(), **options)
    assert report.summary().loc["boundary_f1"].isna().tolist() == [False, True, True]
    assert repr(report).startswith("Report(images: 6, pixel accuracy: 0.")


def test_tables_stay_whole_when_the_disk_is_full_and_names_need_not_be_utf_8(
    report, tmp_path, monkeypatch
):
    paths = report.write(tmp_path)
    kept = [path.read_bytes() for path in paths]
    name = os.fsdecode(b"caf\xe9")
    report.per_image.loc[0, "image"] = name

    def refuse(file):
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="no space left"):
            report.write(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [path.read_bytes() for path in paths] == kept
    report.write(tmp_path)
    assert os.fsencode(name) in paths[0].read_bytes()


# Regions


def test_regions_touch_at_corners_and_are_counted():
    regions, ids, areas = reports.find_regions(np.array([[0, 1, 1], [1, 0, 9], [9, 0, 1]]))
    assert regions.tolist() == [[1, 2, 2], [2, 1, 3], [4, 1, 5]]
    assert ids.tolist() == [-1, 0, 1, 9, 9, 1]
    assert areas.tolist() == [0, 3, 3, 1, 1, 1]


@pytest.mark.parametrize(
    ("y_true", "y_pred", "words"),
    [
        ([0, 1], [0], r"expected integer ids of shape \(2,\), received int64 of shape \(1,\)"),
        ([0, 255], [0, 1], "received 0 to 255; give an ignored one"),
        ([0, 1], [0, 2], r"y_pred: expected ids in \[0, 2"),
        ([0, -1], [0, 1], "received -1 to 0"),
        ([0.0], [0], "expected integer ids .* received float64"),
    ],
)
def test_labels_that_are_none_are_refused(y_true, y_pred, words):
    with pytest.raises(ValueError, match=words):
        confusion_matrix(y_true, y_pred, num_classes=2)


def test_a_report_names_the_image_that_is_wrong():
    with pytest.raises(ValueError, match=r"image number 1, .*: y_pred: expected"):
        create_report([([[1]], [[1]]), ([[1]], [[7]])], CLASSES)
    with pytest.raises(ValueError, match="the split is empty"):
        create_report([], CLASSES)
