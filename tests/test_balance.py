import os
import pathlib

import numpy as np
import pytest

from seglib import balance
from seglib.classes import ClassTable, read_class_table

# Columns: road, car, pole (in no image), void (ignored).
COUNTS = np.array([[6, 2, 0, 2], [8, 0, 0, 2], [4, 4, 0, 0]])
VOID = 3
CLASSES = ClassTable(
    ["road", "car", "pole", "void"],
    [(128, 64, 128), (64, 0, 128), (192, 192, 128), (0, 0, 0)],
    ignore_label=VOID,
)


def test_none_is_one_for_every_class_that_counts():
    weights = balance.class_weights(COUNTS, method="none", ignore_label=VOID)
    assert weights.dtype == np.float32
    assert weights.tolist() == [1, 1, 0, 0]


def test_inverse_frequency_by_hand():
    # 24 scored pixels, 2 classes present: 24 / (2 * 18) and 24 / (2 * 6).
    weights = balance.class_weights(COUNTS, method="inverse_frequency", ignore_label=VOID)
    np.testing.assert_allclose(weights, [2 / 3, 2, 0, 0], rtol=1e-6)


def test_inverse_frequency_is_what_scikit_learn_calls_balanced():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.random.default_rng(0).choice(5, 2000, p=[0.6, 0.2, 0.1, 0.08, 0.02])
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels)
    weights = balance.class_weights(np.bincount(labels)[None], method="inverse_frequency")
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_median_frequency_by_hand():
    # Road: 18 of the 28 pixels of images 0 to 2, ignored ones included.
    # Car: 6 of the 18 pixels of images 0 and 2. Median of 9/14 and 1/3: 41/84.
    weights = balance.class_weights(COUNTS, method="median_frequency", ignore_label=VOID)
    np.testing.assert_allclose(
        weights, [(41 / 84) / (9 / 14), (41 / 84) / (1 / 3), 0, 0], rtol=1e-6
    )


def test_effective_number_by_hand():
    # beta 0.5: (1 - 0.5) / (1 - 0.5) = 1 for 1 pixel, 0.5 / 0.75 = 2/3 for 2; mean 5/6.
    weights = balance.class_weights([[1, 2, 0]], method="effective_number", beta=0.5)
    np.testing.assert_allclose(weights, [6 / 5, 4 / 5, 0], rtol=1e-6)


def test_effective_number_lies_between_no_weights_and_inverse_frequency():
    pixels = np.array([[100, 1_000, 10_000, 100_000, 1_000_000]])
    weights = balance.class_weights(pixels, method="effective_number")
    assert weights.mean() == pytest.approx(1)
    # N is the median, 10 000: far below it inverse frequency, far above it alike.
    assert weights[0] / weights[1] == pytest.approx(10, rel=0.06)
    assert weights[3] / weights[4] == pytest.approx(1, rel=1e-3)


def test_effective_number_does_not_depend_on_how_many_images_there_are():
    counts = np.array([[900, 5_000, 40_000]])
    once = balance.class_weights(counts, method="effective_number")
    again = balance.class_weights(np.repeat(counts, 50, axis=0), method="effective_number")
    np.testing.assert_allclose(once, again, rtol=1e-3)


def test_effective_number_with_beta_zero_or_single_pixels_weighs_all_alike():
    for counts, beta in (([[5, 90]], 0.0), ([[1, 1]], None)):
        weights = balance.class_weights(counts, method="effective_number", beta=beta)
        assert weights.tolist() == [1, 1]


@pytest.mark.parametrize("method", balance.METHODS)
def test_power_one_half_is_the_square_root_and_zeros_stay(method):
    full = balance.class_weights(COUNTS, method=method, ignore_label=VOID)
    soft = balance.class_weights(COUNTS, method=method, ignore_label=VOID, power=0.5)
    np.testing.assert_allclose(soft, np.sqrt(full), rtol=1e-6)
    flat = balance.class_weights(COUNTS, method=method, ignore_label=VOID, power=0)
    assert flat.tolist() == [1, 1, 0, 0]


def test_an_ignore_label_outside_the_table_changes_nothing():
    plain = balance.class_weights(COUNTS, method="inverse_frequency")
    outside = balance.class_weights(COUNTS, method="inverse_frequency", ignore_label=255)
    np.testing.assert_array_equal(plain, outside)


def test_weight_table_holds_every_method_and_no_ignored_class():
    table = balance.weight_table(COUNTS, CLASSES)
    assert table.index.tolist() == ["road", "car", "pole"]
    assert table.columns.tolist() == list(balance.METHODS)
    for method in balance.METHODS:
        expected = balance.class_weights(COUNTS, method=method, ignore_label=VOID)
        np.testing.assert_array_equal(table[method], expected[:3])


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        (COUNTS, {"method": "sqrt"}, "'sqrt'.*none, inverse_frequency, median_frequency"),
        ([6, 2], {"method": "none"}, r"\(num_images, num_classes\), received \(2,\)"),
        (np.zeros((0, 4)), {"method": "none"}, r"received \(0, 4\)"),
        ([[6, -2]], {"method": "none"}, "negative or NaN"),
        ([[0, 0, 7]], {"method": "none", "ignore_label": 2}, "no pixel of a scored class"),
        ([[1, 9_999]], {"method": "inverse_frequency", "power": 99}, "not finite, with power=99"),
        ([[1, 9]], {"method": "effective_number", "beta": 1.0}, r"\[0, 1\), received 1.0"),
    ],
)
def test_errors_name_what_was_expected(counts, options, message):
    with pytest.raises(ValueError, match=message):
        balance.class_weights(counts, **options)


def test_weight_table_wants_a_column_for_each_class():
    with pytest.raises(ValueError, match=r"4 classes, received counts of shape \(1, 2\)"):
        balance.weight_table([[1, 2]], CLASSES)


@pytest.mark.camvid
def test_median_frequency_weights_of_camvid():
    """The values come from CamVid's 367 training masks at 480×360, computed apart from seglib."""
    from PIL import Image

    folder = pathlib.Path(os.environ.get("CAMVID_DIR", "data/camvid"))
    if not (folder / "train_labels").is_dir():
        pytest.skip(f"CamVid is not at {folder}: set CAMVID_DIR")
    classes = read_class_table(folder / "class_dict.csv")
    ids = np.full(1 << 24, 255, np.uint8)
    ids[classes.colors.astype(np.int32) @ [65536, 256, 1]] = np.arange(classes.num_classes)
    counts = []
    for path in sorted((folder / "train_labels").glob("*.png")):
        mask = np.asarray(Image.open(path).convert("RGB")).astype(np.int32)
        labels = ids[mask @ np.array([65536, 256, 1], np.int32)]
        assert labels.max() < classes.num_classes, f"{path} holds a colour outside the table"
        counts.append(np.bincount(labels.ravel(), minlength=classes.num_classes))
    assert len(counts) == 367
    weights = balance.class_weights(
        np.stack(counts), method="median_frequency", ignore_label=classes.ignore_label
    )
    expected = {
        "Sky": 0.2793,
        "Building": 0.2017,
        "Column_Pole": 4.7865,
        "Road": 0.1490,
        "Sidewalk": 1.0000,
        "Tree": 0.4217,
        "SignSymbol": 3.8467,
        "Fence": 1.9736,
        "Car": 0.7889,
        "Pedestrian": 6.3747,
        "Bicyclist": 8.8587,
        "Void": 0,
    }
    found = dict(zip(classes.names, weights.astype(float).round(4).tolist(), strict=True))
    assert found == pytest.approx(expected, abs=1e-9)


def test_images_are_weighed_by_their_share_of_each_class():
    # Road: 6, 8, 4 of 18 pixels; car: 2, 0, 4 of 6. The mean of both, times three images.
    weights = balance.image_weights(COUNTS, ignore_label=VOID)
    expected = 3 * (np.array([6, 8, 4]) / 18 + np.array([2, 0, 4]) / 6) / 2
    np.testing.assert_allclose(weights, expected)
    assert weights.mean() == pytest.approx(1)


def test_an_image_of_ignored_pixels_is_not_drawn():
    weights = balance.image_weights([[0, 9], [9, 0]], ignore_label=1)
    assert weights.tolist() == [0, 2]


def test_images_without_any_class_cannot_be_weighed():
    with pytest.raises(ValueError, match="no pixel of a scored class"):
        balance.image_weights([[0, 9]], ignore_label=1)
