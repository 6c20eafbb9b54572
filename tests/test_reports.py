import numpy as np
import pandas as pd
import pytest

from seglib import metrics
from seglib.classes import ClassTable
from seglib.reports import create_report

COLORS = [(0, 0, 0), (128, 64, 128), (70, 130, 180), (64, 0, 128)]
CLASSES = ClassTable(["void", "road", "sky", "car"], COLORS, ignore_label=0)


def draw_pairs(count=6, seed=0):
    """Images of three sizes; car is in half of them at most, void in all."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        shape = (8 + i % 3, 12)
        y_true = rng.integers(0, 4 if i % 2 else 3, shape)
        yield y_true, np.where(rng.random(shape) < 0.3 + i / 10, y_true, rng.integers(0, 4, shape))


@pytest.fixture
def report():
    return create_report(draw_pairs(), CLASSES, names=list("abcdef"), latencies=range(6))


def test_report_of_a_hand_typed_image():
    y_true = [[1, 1, 2], [1, 1, 2], [0, 0, 2]]
    y_pred = [[1, 1, 2], [1, 2, 2], [1, 2, 2]]
    report = create_report([(y_true, y_pred)], CLASSES)
    assert report.confusion.tolist() == [[0] * 4, [0, 3, 1, 0], [0, 0, 3, 0], [0] * 4]
    assert report.confusion.dtype == np.int64
    assert report.pixel_accuracy == pytest.approx(6 / 7)
    assert report.mean_iou == pytest.approx(3 / 4)
    assert report.mean_accuracy == pytest.approx((3 / 4 + 1) / 2)
    assert report.frequency_weighted_iou == pytest.approx(3 / 4)
    assert report.boundary_f1 == 1.0  # everything within one pixel
    assert report.intervals["mean_iou"] == pytest.approx((3 / 4, 3 / 4))
    expected = pd.DataFrame(
        {
            "iou": [3 / 4, 3 / 4, np.nan],
            "iou_low": [3 / 4, 3 / 4, np.nan],
            "iou_high": [3 / 4, 3 / 4, np.nan],
            "f1": [6 / 7, 6 / 7, np.nan],
            "precision": [1, 3 / 4, np.nan],
            "recall": [3 / 4, 1, np.nan],
            "boundary_f1": [1, 1, np.nan],
            "pixels": [4, 3, 0],
            "images": [1, 1, 0],
        },
        index=pd.Index(["road", "sky", "car"], name="class"),
    )
    pd.testing.assert_frame_equal(report.per_class, expected)


def test_report_follows_from_the_matrix_of_all_pixels(report):
    pairs = list(draw_pairs())
    y_true, y_pred = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    matrix = metrics.confusion_matrix(y_true, y_pred, num_classes=4, ignore_label=0)
    np.testing.assert_array_equal(report.confusion, matrix)
    for name in ("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou"):
        value = getattr(metrics, name)(matrix, ignore_label=0)
        assert getattr(report, name) == value
        assert isinstance(getattr(report, name), float)
        low, high = report.intervals[name]
        assert low <= value <= high
    assert report.per_class["pixels"].tolist() == matrix.sum(axis=1)[1:].tolist()


def test_boundary_f1_averages_over_the_images_that_hold_a_class(report):
    scores = np.array(
        [metrics.boundary_f1(*pair, num_classes=4, ignore_label=0) for pair in draw_pairs()]
    )
    held = [(scores[:, i][~np.isnan(scores[:, i])]) for i in (1, 2, 3)]
    expected = [column.mean() for column in held]
    assert report.per_class["images"].tolist() == [len(column) for column in held]
    np.testing.assert_allclose(report.per_class["boundary_f1"], expected)
    assert report.boundary_f1 == pytest.approx(np.mean(expected))


def test_per_image_scores_each_image_alone(report):
    assert list(report.per_image) == [
        *("image", "pixel_accuracy", "mean_iou", "boundary_f1", "latency_ms")
    ]
    for (_, row), pair in zip(report.per_image.iterrows(), draw_pairs(), strict=True):
        matrix = metrics.confusion_matrix(*pair, num_classes=4, ignore_label=0)
        boundary = metrics.boundary_f1(*pair, num_classes=4, ignore_label=0)
        assert row["pixel_accuracy"] == metrics.pixel_accuracy(matrix, ignore_label=0)
        assert row["mean_iou"] == metrics.mean_iou(matrix, ignore_label=0)
        assert row["boundary_f1"] == pytest.approx(np.nanmean(boundary))
    assert report.per_image["image"].tolist() == list("abcdef")
    assert report.per_image["latency_ms"].tolist() == [0, 1, 2, 3, 4, 5]


def test_worst_and_best_are_by_mean_iou_and_unscored_images_come_last():
    truth = np.array([[1, 2], [1, 2]])
    pairs = [(truth, truth), (truth, truth * 0 + 3), (truth * 0, truth), (truth, truth * 0 + 1)]
    report = create_report(pairs, CLASSES, names=["right", "wrong", "void", "half"])
    assert report.worst(2) == ["wrong", "half"]
    assert report.best() == ["right", "half", "wrong", "void"]
    assert report.worst()[-1] == "void"


def test_summary_has_a_row_for_each_figure(report):
    summary = report.summary()
    assert summary.index.tolist() == [
        *("pixel_accuracy", "mean_iou", "mean_accuracy", "frequency_weighted_iou", "boundary_f1")
    ]
    assert summary.columns.tolist() == ["value", "low", "high"]
    assert summary.loc["mean_iou"].tolist() == [report.mean_iou, *report.intervals["mean_iou"]]
    assert summary.loc["boundary_f1"].isna().tolist() == [False, True, True]


def test_write_makes_three_tables(report, tmp_path):
    paths = report.write(tmp_path / "new" / "run")
    assert [path.name for path in paths] == ["results.csv", "per_class.csv", "summary.csv"]
    read = pd.read_csv(paths[0])
    pd.testing.assert_frame_equal(
        read, report.per_image, check_dtype=False, check_column_type=False
    )
    assert pd.read_csv(paths[1])["class"].tolist() == ["road", "sky", "car"]
    assert pd.read_csv(paths[2], index_col="figure").loc["mean_iou", "low"] > 0


def test_repr_is_short(report):
    expected = f"Report(6 images: pixel accuracy {report.pixel_accuracy:.3f}, mean IoU "
    assert repr(report).startswith(expected)


def test_pairs_are_consumed_one_at_a_time_and_may_time_themselves():
    latencies = []

    def predict():
        for pair in draw_pairs():
            latencies.append(2.5)
            yield pair

    report = create_report(predict(), CLASSES, latencies=latencies)
    assert report.per_image["latency_ms"].tolist() == [2.5] * 6
    assert report.per_image["image"].tolist() == ["0", "1", "2", "3", "4", "5"]
    assert create_report(draw_pairs(), CLASSES).per_image["latency_ms"].isna().all()


def test_the_seed_decides_the_intervals(report):
    again, other = (create_report(draw_pairs(), CLASSES, seed=seed) for seed in (0, 1))
    assert again.intervals == report.intervals != other.intervals


def test_an_ignored_label_outside_the_table():
    classes = ClassTable(["road", "sky"], COLORS[:2], ignore_label=255)
    report = create_report([([[0, 1, 255]], [[0, 1, 1]])], classes)
    assert report.pixel_accuracy == 1.0
    assert report.per_class.index.tolist() == ["road", "sky"]


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        ([], {}, "the split is empty"),
        ([([[1]], [[1]])], {"names": ["a", "b"]}, "expected 1 names, one an image, received 2"),
        ([([[1]], [[1]])], {"latencies": []}, "expected 1 latencies, one an image, received 0"),
        ([([[1]], [[1]]), ([[1]], [[7]])], {}, r"image number 1, .*: y_pred: expected ids in"),
        ([([[1]], [[1, 1]])], {}, "image number 0, .* but y_pred has shape"),
    ],
)
def test_create_report_says_what_is_wrong(pairs, options, message):
    with pytest.raises(ValueError, match=message):
        create_report(iter(pairs), CLASSES, **options)
