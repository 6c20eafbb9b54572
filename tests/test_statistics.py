import subprocess
import sys

import numpy as np
import pytest

from seglib import statistics
from seglib.classes import ClassTable

CLASSES = ClassTable(
    ["road", "car", "pole", "void"],
    [(128, 64, 128), (64, 0, 128), (192, 192, 128), (0, 0, 0)],
    ignore_label=3,
)
FIRST = np.array([[0, 0, 1], [0, 1, 3], [1, 0, 0]], np.uint8)
SECOND = np.array([[0, 0, 0, 0], [0, 255, 3, 0]], np.uint8)


def grey_image(labels, value=100):
    return np.full((*labels.shape, 3), value, np.uint8)


@pytest.fixture(name="split")
def create_split():
    return [(grey_image(FIRST), FIRST), (grey_image(SECOND, 50), SECOND)]


@pytest.fixture(name="found")
def measure(split):
    return statistics.measure_split(split, CLASSES)


def test_count_pixels_leaves_out_ids_outside_the_table(split):
    counts = statistics.count_pixels(split, num_classes=4)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[5, 3, 0, 1], [6, 0, 0, 1]]


def test_count_pixels_takes_negative_ids_as_outside():
    labels = np.array([[-1, 0, 2]], np.int32)
    assert statistics.count_pixels([(None, labels)], num_classes=2).tolist() == [[1, 0]]


def test_frequency_by_hand(found):
    assert found.counts.tolist() == [[5, 3, 0, 1], [6, 0, 0, 1]]
    table = found.frequency
    assert table.index.tolist() == ["road", "car", "pole"]
    assert table["pixels"].tolist() == [11, 3, 0]
    np.testing.assert_allclose(table["pixel_share"], [11 / 14, 3 / 14, 0])
    assert table["images"].tolist() == [2, 1, 0]
    assert table["image_share"].tolist() == [1, 0.5, 0]
    # Car: 3 of the 8 scored pixels of the one image that holds it.
    np.testing.assert_allclose(table["share_where_present"], [11 / 14, 3 / 8, np.nan])


def test_imbalance_ratio_is_that_of_classes_that_are_present(found):
    assert found.imbalance_ratio == pytest.approx(11 / 3)
    assert np.isnan(statistics.imbalance_ratio([[0, 0, 0, 9]], CLASSES))


def test_co_occurrence_reads_from_the_row_to_the_column(found):
    expected = [[1, 0.5, 0], [1, 1, 0], [np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(found.co_occurrence.to_numpy(), expected)
    assert found.co_occurrence.loc["road", "car"] == 0.5
    assert found.co_occurrence.columns.tolist() == ["road", "car", "pole"]


def test_regions_are_8_connected(found):
    # In FIRST three cars touch at their corners, and so do the two pieces of road.
    table = found.regions
    assert table["regions"].tolist() == [2, 1, 0]
    np.testing.assert_array_equal(table["regions_per_image"], [1, 1, np.nan])
    np.testing.assert_array_equal(table["median_area"], [5.5, 3, np.nan])
    np.testing.assert_array_equal(table["smallest_area"], [5, 3, np.nan])
    np.testing.assert_array_equal(table["largest_area"], [6, 3, np.nan])


def test_regions_agree_with_scipy_class_by_class():
    from scipy import ndimage

    labels = np.random.default_rng(0).integers(0, 4, (60, 40), np.uint8)
    table = statistics.measure_split([(grey_image(labels), labels)], CLASSES).regions
    for i, name in enumerate(CLASSES.names[:3]):
        regions, count = ndimage.label(labels == i, structure=np.ones((3, 3)))
        areas = np.bincount(regions.ravel())[1:]
        row = table.loc[name]
        assert row["regions"] == count
        assert row["median_area"] == np.median(areas)
        assert (row["smallest_area"], row["largest_area"]) == (areas.min(), areas.max())


def test_location_is_the_mean_share_of_each_cell():
    top_road = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 255]], np.uint8)
    all_road = np.zeros((6, 2), np.uint8)
    split = [(grey_image(labels), labels) for labels in (top_road, all_road)]
    location = statistics.measure_split(split, CLASSES, grid=2).location
    assert location.shape == (4, 2, 2)
    assert location[0].tolist() == [[1, 1], [0.5, 0.5]]
    assert location[1].tolist() == [[0, 0], [0.5, 0.375]]
    assert not location[2:].any()


def test_location_of_an_image_smaller_than_the_grid():
    labels = np.array([[0, 1, 3]], np.uint8)
    location = statistics.measure_split([(grey_image(labels), labels)], CLASSES).location
    assert location.shape == (4, 32, 32)
    np.testing.assert_allclose(location.sum(axis=0), 1)
    assert (location[0, :, :10] == 1).all()
    assert (location[1, :, 11:21] == 1).all()


def test_images_of_a_flat_and_of_a_striped_picture():
    flat = np.full((4, 6, 3), (200, 100, 0), np.uint8)
    stripes = np.zeros((4, 6, 3), np.uint8)
    stripes[:, 1::2] = 255
    labels = np.zeros((4, 6), np.uint8)
    table = statistics.measure_split([(flat, labels), (stripes, labels)], CLASSES).images
    assert table[["height", "width"]].to_numpy().tolist() == [[4, 6], [4, 6]]
    assert table[["red", "green", "blue"]].to_numpy().tolist() == [[200, 100, 0], [127.5] * 3]
    # Grey is 0.299 R + 0.587 G + 0.114 B.
    np.testing.assert_allclose(table["brightness"], [118.5, 127.5], rtol=1e-5)
    np.testing.assert_allclose(table["contrast"], [0, 127.5], atol=1e-3)
    # Laplacian of the stripes: ±510, but ±255 in the first and the last column.
    np.testing.assert_allclose(
        table["sharpness"], [0, (4 * 510**2 + 2 * 255**2) / 6], atol=1e-3, rtol=1e-5
    )


def test_each_pair_is_read_once():
    class CountingSplit:
        reads = 0

        def __len__(self):
            return 3

        def __getitem__(self, i):
            self.reads += 1
            return grey_image(FIRST), FIRST

    split = CountingSplit()
    statistics.measure_split(split, CLASSES)
    assert split.reads == 3


def test_a_short_measurement_shows_no_progress_bar(split, capsys):
    statistics.measure_split(split, CLASSES)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ([], "the split holds no pair"),
        ([(None, np.zeros((2, 2, 3), np.uint8))], r"pair 0.*\(height, width\).*uint8 \(2, 2, 3\)"),
        ([(None, np.zeros((2, 2)))], r"received float64 \(2, 2\)"),
    ],
)
def test_errors_name_what_was_expected(split, message):
    with pytest.raises(ValueError, match=message):
        statistics.count_pixels(split, num_classes=4)


def test_counts_of_another_class_table_are_refused():
    with pytest.raises(ValueError, match=r"\(num_images, 4\), received \(1, 2\)"):
        statistics.class_frequency([[1, 2]], CLASSES)


def test_importing_needs_only_numpy():
    code = (
        "import sys, seglib.statistics, seglib.balance;"
        "print({'pandas', 'scipy', 'skimage', 'tqdm', 'matplotlib'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()", printed.stderr
