import sys

import numpy as np
import pytest
import sklearn.metrics

from seglib import metrics

NAN = np.nan


@pytest.fixture
def pair():
    """Truth and a prediction that is right about half the time; 255 and 4 are to be ignored."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 5, (40, 30))
    y_pred = np.where(rng.random((40, 30)) < 0.5, y_true, rng.integers(0, 5, (40, 30)))
    y_true[rng.random((40, 30)) < 0.1] = 255
    return y_true, y_pred


def test_confusion_matrix_of_a_hand_typed_image():
    y_true = [[0, 0, 1], [1, 1, 2], [9, 9, 2]]
    y_pred = [[0, 1, 1], [1, 0, 2], [0, 2, 0]]
    matrix = metrics.confusion_matrix(y_true, y_pred, num_classes=3, ignore_label=9)
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 1]]
    assert matrix.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_confusion_matrix_is_scikit_learns(pair, dtype):
    y_true, y_pred = (labels.astype(dtype) for labels in pair)
    matrix = metrics.confusion_matrix(y_true, y_pred, num_classes=5, ignore_label=255)
    valid = y_true != 255
    expected = sklearn.metrics.confusion_matrix(y_true[valid], y_pred[valid], labels=range(5))
    np.testing.assert_array_equal(matrix, expected)


def test_confusion_matrices_add(pair):
    def matrix(rows):
        return metrics.confusion_matrix(
            pair[0][rows], pair[1][rows], num_classes=5, ignore_label=255
        )

    np.testing.assert_array_equal(matrix(slice(0, 7)) + matrix(slice(7, None)), matrix(slice(None)))


def test_ids_do_not_wrap_around_in_small_dtypes():
    labels = np.array([200], np.uint8)
    matrix = metrics.confusion_matrix(labels, labels, num_classes=201)
    assert matrix[200, 200] == matrix.sum() == 1


def test_nothing_to_count():
    assert metrics.confusion_matrix([], [], num_classes=2).tolist() == [[0, 0], [0, 0]]
    ignored = metrics.confusion_matrix([7, 7], [0, 99], num_classes=2, ignore_label=7)
    assert ignored.sum() == 0


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([0, 1], [0], r"y_true has shape \(2,\), but y_pred has shape \(1,\)"),
        ([0, 255], [0, 1], r"y_true: expected ids in \[0, 2\), received 0 to 255.*ignore_label"),
        ([0, 1], [0, 2], r"y_pred: expected ids in \[0, 2\), received 0 to 2"),
        ([0, -1], [0, 1], r"received -1 to 0"),
        ([0.0, 1.0], [0, 1], "y_true: expected integer ids, received float64"),
    ],
)
def test_confusion_matrix_says_what_is_wrong(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        metrics.confusion_matrix(y_true, y_pred, num_classes=2)


@pytest.mark.parametrize(
    ("figure", "reference", "options"),
    [
        (metrics.class_iou, sklearn.metrics.jaccard_score, {"zero_division": 0}),
        (metrics.class_f1, sklearn.metrics.f1_score, {"zero_division": 0}),
        (metrics.class_precision, sklearn.metrics.precision_score, {"zero_division": 0}),
        (metrics.class_recall, sklearn.metrics.recall_score, {"zero_division": 0}),
    ],
)
@pytest.mark.parametrize("ignored", [255, 3])
@pytest.mark.parametrize("removed", ["none", "true", "predicted"])
def test_class_figures_are_scikit_learns(pair, figure, reference, options, ignored, removed):
    y_true, y_pred = pair
    y_true = np.where(y_true == 255, ignored, y_true)
    if removed == "true":  # class 1 is predicted, but never true
        y_true = np.where(y_true == 1, 0, y_true)
    if removed == "predicted":
        y_pred = np.where(y_pred == 1, 0, y_pred)
    matrix = metrics.confusion_matrix(y_true, y_pred, num_classes=5, ignore_label=ignored)
    scored = [i for i in range(5) if i != ignored]
    valid = y_true != ignored
    expected = reference(y_true[valid], y_pred[valid], labels=scored, average=None, **options)
    received = figure(matrix, ignore_label=ignored)
    np.testing.assert_allclose(received[scored], expected, rtol=1e-12)
    assert ignored == 255 or np.isnan(received[ignored])


@pytest.mark.parametrize("ignored", [255, 3])
def test_mean_figures_are_scikit_learns(pair, ignored):
    y_true, y_pred = np.where(pair[0] == 255, ignored, pair[0]), pair[1]
    matrix = metrics.confusion_matrix(y_true, y_pred, num_classes=5, ignore_label=ignored)
    scored = [i for i in range(5) if i != ignored]
    valid = y_true != ignored
    truth, prediction = y_true[valid], y_pred[valid]
    expected = {
        "pixel_accuracy": sklearn.metrics.accuracy_score(truth, prediction),
        "mean_iou": sklearn.metrics.jaccard_score(
            truth, prediction, labels=scored, average="macro"
        ),
        "mean_accuracy": sklearn.metrics.recall_score(
            truth, prediction, labels=scored, average="macro"
        ),
        "frequency_weighted_iou": sklearn.metrics.jaccard_score(
            truth, prediction, labels=scored, average="weighted"
        ),
    }
    for name, value in expected.items():
        received = getattr(metrics, name)(matrix, ignore_label=ignored)
        assert received == pytest.approx(value, rel=1e-12), name


# Class 2 is predicted alone, class 3 is true alone, class 4 is in neither.
MATRIX = np.array(
    [[4, 1, 1, 0, 0], [0, 3, 0, 0, 0], [0, 0, 0, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ("class_iou", [4 / 8, 3 / 4, 0, 0, NAN]),
        ("class_f1", [8 / 12, 6 / 7, 0, 0, NAN]),
        ("class_precision", [4 / 6, 3 / 4, 0, 0, NAN]),
        ("class_recall", [4 / 6, 1, 0, 0, NAN]),
        ("pixel_accuracy", 7 / 11),
        ("mean_iou", (4 / 8 + 3 / 4) / 4),
        ("mean_accuracy", (4 / 6 + 1 + 0) / 3),
        ("frequency_weighted_iou", (6 * 4 / 8 + 3 * 3 / 4) / 11),
    ],
)
def test_figures_of_a_hand_typed_matrix(figure, expected):
    np.testing.assert_allclose(getattr(metrics, figure)(MATRIX), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        # Row 0 is skipped, though it was counted; column 0 keeps the two errors of class 3.
        ("class_iou", [NAN, 1, NAN, 0, NAN]),
        ("class_recall", [NAN, 1, NAN, 0, NAN]),
        ("pixel_accuracy", 3 / 5),
        ("mean_iou", 1 / 2),
        ("mean_accuracy", 1 / 2),
        ("frequency_weighted_iou", 3 / 5),
    ],
)
def test_an_ignored_class_in_the_table_counts_nowhere(figure, expected):
    received = getattr(metrics, figure)(MATRIX, ignore_label=0)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


FIGURES = [
    *("class_iou", "class_f1", "class_precision", "class_recall"),
    *("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou"),
]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_many_matrices_are_those_of_each(name):
    figure = getattr(metrics, name)
    matrices = np.random.default_rng(0).integers(0, 3, (2, 6, 4, 4))
    before = matrices.copy()
    received = figure(matrices, ignore_label=1)
    expected = [[figure(matrix, ignore_label=1) for matrix in row] for row in matrices]
    np.testing.assert_array_equal(received, expected)
    np.testing.assert_array_equal(matrices, before)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_nothing_are_nan(name):
    received = getattr(metrics, name)(np.zeros((3, 3), int))
    assert received.dtype == np.float64
    assert np.isnan(received).all()


def test_figures_want_a_square_matrix():
    with pytest.raises(ValueError, match=r"square confusion matrix .* received \(2, 3\)"):
        metrics.mean_iou(np.zeros((2, 3)))


def slow_boundary_f1(y_true, y_pred, num_classes, ignore_label, tolerance):
    """Follow the definition word by word, one pixel at a time."""
    height, width = y_true.shape
    spots = [(r, c) for r in range(height) for c in range(width) if y_true[r, c] != ignore_label]

    def outline(labels, class_id):
        return [
            (r, c)
            for r, c in spots
            if labels[r, c] == class_id
            and any(
                n in spots and labels[n] != class_id
                for n in [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
            )
        ]

    def share(some, others):
        near = [
            any((r - u) ** 2 + (c - v) ** 2 <= tolerance**2 for u, v in others) for r, c in some
        ]
        return np.mean(near) if near else 0.0

    scores = []
    for class_id in range(num_classes):
        true, predicted = (
            {s for s in spots if labels[s] == class_id} for labels in (y_true, y_pred)
        )
        a, b = outline(y_true, class_id), outline(y_pred, class_id)
        precision, recall = share(b, a), share(a, b)
        if not true:
            scores.append(np.nan)
        elif not a and not b:
            scores.append(float(true == predicted))
        elif precision + recall == 0:
            scores.append(0.0)
        else:
            scores.append(2 * precision * recall / (precision + recall))
    return scores


@pytest.mark.parametrize("seed", range(8))
def test_boundary_f1_is_the_slow_one(seed):
    rng = np.random.default_rng(seed)
    size = (11, 7) if seed % 2 else (6, 14)
    y_true = np.kron(rng.integers(0, 4, (4, 5)), np.ones((4, 4), int))[: size[0], : size[1]]
    y_pred = np.where(rng.random(size) < 0.8, y_true, rng.integers(0, 5, size))
    y_true = np.where(rng.random(size) < 0.2, 255, y_true)
    tolerance = [0, 1, 1.5, 2, 3, 2.9, 40, 1][seed]
    received = metrics.boundary_f1(
        y_true, y_pred, num_classes=5, ignore_label=255, tolerance=tolerance
    )
    expected = slow_boundary_f1(y_true, y_pred, 5, 255, tolerance)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def square(row, column):
    labels = np.zeros((20, 24), np.uint8)
    labels[row : row + 8, column : column + 8] = 1
    return labels


@pytest.mark.parametrize(
    ("shift", "tolerance", "perfect"),
    [((0, 0), 0, True), ((0, 2), 2, True), ((2, 0), 2, True), ((0, 3), 2, False)],
)
def test_a_square_shifted_within_the_tolerance_is_perfect(shift, tolerance, perfect):
    moved = square(5 + shift[0], 6 + shift[1])
    scores = metrics.boundary_f1(square(5, 6), moved, num_classes=2, tolerance=tolerance)
    assert np.all(scores == 1) if perfect else np.all((scores > 0) & (scores < 1))


def test_the_default_tolerance_is_three_quarters_of_a_percent_of_the_diagonal():
    # 300 x 400: the diagonal is 500, of which 0.75 % is 3.75, so 4 pixels.
    y_true, within, beyond = (np.zeros((300, 400), int) for _ in range(3))
    y_true[:, 200:], within[:, 204:], beyond[:, 205:] = 1, 1, 1
    assert metrics.boundary_f1(y_true, within, num_classes=2).tolist() == [1, 1]
    assert metrics.boundary_f1(y_true, beyond, num_classes=2).tolist() == [0, 0]


def test_boundary_f1_where_a_class_has_no_boundary():
    full, half = np.zeros((4, 4), int), np.array([[0, 0, 1, 1]] * 4)
    np.testing.assert_equal(metrics.boundary_f1(full, full, num_classes=2), [1, NAN])
    np.testing.assert_equal(metrics.boundary_f1(full, half, num_classes=2), [0, NAN])
    np.testing.assert_equal(metrics.boundary_f1(half, full, num_classes=2), [0, 0])
    np.testing.assert_equal(metrics.boundary_f1(full, full + 1, num_classes=2), [0, NAN])


def test_boundary_f1_knows_no_boundary_beside_ignored_pixels():
    y_true = np.array([[0, 0, 255, 1, 1]])
    y_pred = np.array([[0, 0, 1, 1, 1]])
    np.testing.assert_equal(
        metrics.boundary_f1(y_true, y_pred, num_classes=3, ignore_label=255, tolerance=0),
        [1, 1, NAN],
    )
    all_ignored = metrics.boundary_f1(y_true * 0, y_pred, num_classes=3, ignore_label=0)
    assert np.isnan(all_ignored).all()


@pytest.mark.parametrize(
    ("labels", "tolerance", "message"),
    [([0, 1], 1, r"\(height, width\), received \(2,\)"), ([[0, 1]], -1, "tolerance of 0 pixels")],
)
def test_boundary_f1_says_what_is_wrong(labels, tolerance, message):
    with pytest.raises(ValueError, match=message):
        metrics.boundary_f1(labels, labels, num_classes=2, tolerance=tolerance)


@pytest.fixture
def matrices():
    return np.random.default_rng(3).integers(0, 50, (30, 4, 4)) + 60 * np.eye(4, dtype=int)


@pytest.mark.parametrize("statistic", [metrics.mean_iou, metrics.class_iou])
def test_bootstrap_is_a_plain_loop_over_the_same_draws(matrices, statistic):
    rng = np.random.default_rng(5)
    values = []
    for _ in range(200):
        counts = rng.multinomial(30, [1 / 30] * 30)
        values.append(statistic(np.repeat(matrices, counts, axis=0).sum(axis=0)))
    expected = np.percentile(values, [5, 95], axis=0)
    received = metrics.bootstrap_interval(
        matrices, statistic, num_resamples=200, confidence=0.9, seed=5
    )
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_bootstrap_does_not_depend_on_the_chunks(matrices, monkeypatch):
    whole = metrics.bootstrap_interval(matrices, metrics.mean_iou)
    monkeypatch.setattr(metrics, "CHUNK_VALUES", 1000)
    assert metrics.bootstrap_interval(matrices, metrics.mean_iou) == whole
    assert metrics.bootstrap_interval(matrices, metrics.mean_iou, seed=1) != whole


def test_bootstrap_of_equal_images_is_a_point(matrices):
    low, high = metrics.bootstrap_interval(matrices[[0] * 9], metrics.pixel_accuracy)
    assert low == high == pytest.approx(metrics.pixel_accuracy(matrices[0]))


def test_bootstrap_covers_the_truth():
    # 40 images of one pixel each, right with probability 0.7: 95 % of intervals hold 0.7.
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        right = rng.random(40) < 0.7
        images = np.where(right[:, None, None], [[1, 0], [0, 0]], [[0, 1], [0, 0]])
        low, high = metrics.bootstrap_interval(
            images, metrics.pixel_accuracy, num_resamples=300, seed=trial
        )
        held += low <= 0.7 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_bootstrap_leaves_out_resamples_without_the_class():
    images = np.array([[[1, 0], [0, 0]]] * 3 + [[[1, 0], [0, 1]]])
    low, high = metrics.bootstrap_interval(images, metrics.class_iou)
    np.testing.assert_equal(low, [1, 1])
    np.testing.assert_equal(high, [1, 1])
    low, high = metrics.bootstrap_interval(images[:3], metrics.class_iou)
    np.testing.assert_equal(low, [1, NAN])
    np.testing.assert_equal(high, [1, NAN])


@pytest.mark.parametrize(
    ("shape", "confidence", "message"),
    [
        ((0, 2, 2), 0.95, r"n > 0, received \(0, 2, 2\)"),
        ((2, 2), 0.95, r"received \(2, 2\)"),
        ((1, 2, 2), 95, r"confidence in \(0, 1\), received 95"),
    ],
)
def test_bootstrap_says_what_is_wrong(shape, confidence, message):
    with pytest.raises(ValueError, match=message):
        metrics.bootstrap_interval(np.ones(shape), metrics.mean_iou, confidence=confidence)


def test_the_modules_import_nothing_but_numpy():
    import subprocess

    code = (
        "import sys, seglib.metrics, seglib.reports, seglib.postprocess, seglib.submission; "
        "print([m for m in ('pandas', 'scipy', 'skimage', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
