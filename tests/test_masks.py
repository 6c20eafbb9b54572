import concurrent.futures
import fractions
import itertools
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import cKDTree

from seglib import masks
from seglib.classes import ClassTable
from seglib.scenes import STREET_CLASSES

CAMVID = STREET_CLASSES  # the twelve classes and colours of CamVid
PAIRS = list(itertools.combinations(range(12), 2))
SKY, BUILDING, POLE, ROAD, SIDEWALK, TREE = range(6)


def nearest_slowly(pixels, mapping, chunk=20_000):
    """Index of the nearest entry, by the definition."""
    palette = np.array(list(mapping), np.int64)
    pixels = np.asarray(pixels, np.int64).reshape(-1, 3)
    return np.concatenate(
        [
            ((pixels[start : start + chunk, None] - palette) ** 2).sum(axis=-1).argmin(axis=1)
            for start in range(0, max(1, len(pixels)), chunk)
        ]
    )


def random_mapping(count, seed=0):
    colors = np.random.default_rng(seed).integers(0, 256, (count, 3))
    return {tuple(color): i for i, color in enumerate(np.unique(colors, axis=0).tolist())}


# closest_labels


def test_closest_labels_by_hand():
    mapping = {(0, 0, 0): 7, (255, 0, 0): 4, (10, 10, 10): 2}
    pixels = [[[0, 0, 0], [5, 5, 4], [5, 5, 6]], [[255, 255, 255], [255, 0, 0], [130, 0, 9]]]
    assert masks.closest_labels(pixels, mapping).tolist() == [[7, 7, 2], [4, 4, 2]]


@pytest.mark.parametrize(
    "mapping",
    [CAMVID.mapping, random_mapping(32), random_mapping(300), {(9, 9, 9): 0}],
    ids=["camvid", "32", "300", "1"],
)
def test_closest_labels_agree_with_numpy_and_a_k_d_tree(mapping):
    count = 200_000 if len(mapping) <= 32 else 20_000
    pixels = np.random.default_rng(1).integers(0, 256, (count, 3), np.uint8)
    labels = masks.closest_labels(pixels, mapping)
    np.testing.assert_array_equal(labels, nearest_slowly(pixels, mapping))
    palette = np.array(list(mapping), float)
    distance, _ = cKDTree(palette).query(pixels.astype(float))
    np.testing.assert_allclose(np.linalg.norm(pixels - palette[labels], axis=1), distance)


@pytest.mark.long
@pytest.mark.parametrize("mapping", [CAMVID.mapping, random_mapping(32)], ids=["camvid", "32"])
def test_closest_labels_are_exact_for_every_colour(mapping):
    palette = np.array(list(mapping), np.int64)
    for red in range(256):
        green, blue = np.divmod(np.arange(1 << 16), 256)
        pixels = np.stack([np.full_like(green, red), green, blue], axis=1)
        # |p - c|² less |p|², which is the same for all c.
        expected = ((palette**2).sum(axis=1) - 2 * pixels @ palette.T).argmin(axis=1)
        np.testing.assert_array_equal(masks.closest_labels(pixels, mapping), expected)


def test_ties_go_to_the_first_entry_of_the_mapping():
    assert masks.closest_labels([1, 0, 0], {(0, 0, 0): 5, (2, 0, 0): 3}) == 5
    assert masks.closest_labels([1, 0, 0], {(2, 0, 0): 3, (0, 0, 0): 5}) == 3


SMALL_COLORS = st.tuples(*[st.integers(0, 4)] * 3)  # so near to each other that many tie


@given(
    mapping=st.dictionaries(SMALL_COLORS, st.integers(-(2**62), 2**62), min_size=1, max_size=8),
    pixels=hnp.arrays(
        np.uint8, st.tuples(st.integers(0, 20), st.just(3)), elements=st.integers(0, 5)
    ),
)
@settings(max_examples=60, deadline=None)
def test_closest_labels_of_any_mapping(mapping, pixels):
    nearest = [
        min(mapping, key=lambda color: sum((p - c) ** 2 for p, c in zip(pixel, color, strict=True)))
        for pixel in pixels.astype(int).tolist()
    ]
    labels = masks.closest_labels(pixels, mapping)
    assert labels.tolist() == [mapping[color] for color in nearest]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [((0, 11), np.uint8), ((0, 255), np.uint8), ((0, 256), np.uint16), ((0, 65535), np.uint16),
     ((0, 65536), np.int64), ((-1, 1), np.int64)],
)  # fmt: skip
def test_labels_keep_their_values_in_the_smallest_dtype(labels, dtype):
    mapping = dict(zip([(0, 0, 0), (200, 200, 200)], labels, strict=True))
    found = masks.closest_labels([[3, 0, 0], [180, 190, 180]], mapping)
    assert found.dtype == dtype
    assert found.tolist() == list(labels)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (4, 0), (4, 5), (2, 3, 4)])
def test_shape_without_the_channels_is_kept(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    labels = masks.closest_labels(pixels, CAMVID.mapping)
    assert labels.shape == shape
    np.testing.assert_array_equal(labels.ravel(), nearest_slowly(pixels, CAMVID.mapping))


def test_integers_of_any_kind_and_layout_are_read_and_not_changed():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    expected = masks.closest_labels(pixels, CAMVID.mapping)
    for dtype in (np.int16, np.uint16, np.int32, np.int64, np.uint64):
        again = pixels.astype(dtype)
        np.testing.assert_array_equal(masks.closest_labels(again, CAMVID.mapping), expected)
        np.testing.assert_array_equal(again, pixels)
    turned = masks.closest_labels(pixels[::-1, ::2], CAMVID.mapping)
    np.testing.assert_array_equal(turned, expected[::-1, ::2])


def test_memory_stays_bounded():
    # All distances at once would take 0.6 M pixels × 32 classes × 4 bytes, several times over.
    pixels = np.random.default_rng(0).integers(0, 256, (600, 1000, 3), np.uint8)
    mapping = random_mapping(32, seed=5)
    tracemalloc.start()
    try:
        masks.closest_labels(pixels, mapping)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    table, chunk, per_pixel = 1 << 24, 25e6, 20
    assert peak < table + chunk + per_pixel * 0.6e6


def test_threads_may_share_a_table():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 20_000, 3), np.uint8)
    mapping = random_mapping(12, seed=7)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: masks.closest_labels(part, mapping), pixels))
    np.testing.assert_array_equal(np.ravel(found), nearest_slowly(pixels, mapping))


def blend(first, second, quarters):
    """Colour with `quarters` of four shares of the first class; CamVid's divide evenly."""
    colors = CAMVID.colors.astype(int)
    return (quarters * colors[first] + (4 - quarters) * colors[second]) // 4


def test_69_of_198_blends_of_two_camvid_colours_lie_nearest_to_a_third_class():
    # 66 pairs, each blended 1:3, 1:1 and 3:1. This is why boundaries are sharpened.
    found = [
        masks.closest_labels(blend(first, second, quarters), CAMVID.mapping) not in (first, second)
        for first, second in PAIRS
        for quarters in (1, 2, 3)
    ]
    assert (sum(found), len(found)) == (69, 198)


@pytest.mark.parametrize(
    ("pixels", "mapping", "message"),
    [
        ([[0, 0, 0, 255]], {(0, 0, 0): 0}, r"received shape \(1, 4\): drop the alpha channel"),
        ([1, 2], {(0, 0, 0): 0}, r"of shape \(\.\.\., 3\), received shape \(2,\)"),
        (3, {(0, 0, 0): 0}, r"received shape \(\)"),
        ([[0.5, 0, 0]], {(0, 0, 0): 0}, r"received float64: multiply colours in \[0, 1\] by 255"),
        ([[0, 0, 256]], {(0, 0, 0): 0}, r"in \[0, 255\], received 0 to 256"),
        ([[-1, 0, 0]], {(0, 0, 0): 0}, r"received -1 to 0"),
        ([[0, 0, 0]], {}, "the mapping of colours to labels is empty"),
        ([[0, 0, 0]], {(0, 0, 300): 0}, "received 0 to 300"),
    ],
)
def test_closest_labels_says_what_is_wrong(pixels, mapping, message):
    with pytest.raises(ValueError, match=message):
        masks.closest_labels(pixels, mapping)


# label_colors

COLORS = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=20, unique=True)


@given(colors=COLORS, data=st.data())
@settings(max_examples=30, deadline=None)  # each makes tables of 2**24 entries
def test_painted_labels_are_read_back(colors, data):
    classes = ClassTable([f"class {i}" for i in range(len(colors))], colors)
    shape = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)
    labels = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, len(colors) - 1)))
    painted = masks.label_colors(labels, classes)
    assert (painted.shape, painted.dtype) == ((*labels.shape, 3), np.uint8)
    assert masks.exact_colors(painted, classes).all()
    np.testing.assert_array_equal(masks.closest_labels(painted, classes.mapping), labels)


def test_label_colors_by_hand(classes):
    painted = masks.label_colors([[0, 3], [2, 1]], classes)
    assert painted.tolist() == [
        [[128, 128, 128], [0, 0, 0]],
        [[128, 64, 128], [128, 0, 0]],
    ]


def test_an_ignored_label_outside_the_table_is_black():
    classes = ClassTable(["a", "b"], [(1, 2, 3), (4, 5, 6)], ignore_label=255)
    assert masks.label_colors([[False, True]], classes).tolist() == [classes.colors[:2].tolist()]
    assert masks.label_colors([255, 1], classes).tolist() == [[0, 0, 0], [4, 5, 6]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 4], [9, 4]], r"labels: 3 pixels hold a label outside the class table \(4, 9\); "
                           r"expected 0 to 3 or 3 \(ignored\): add the class"),
        ([-1], r"1 pixels hold .* \(-1\)"),
        ([0.0], "expected integer ids, received float64"),
    ],
)  # fmt: skip
def test_labels_outside_the_table_are_named(classes, labels, message):
    with pytest.raises(ValueError, match=message):
        masks.label_colors(labels, classes)


# sharpen_boundaries


def sharpen(pixels, **settings):
    pixels = np.asarray(pixels, np.uint8)
    nearest = masks.closest_labels(pixels, CAMVID.mapping)
    return masks.sharpen_boundaries(pixels, nearest, CAMVID, **settings)


def seam(first, second, quarters, *, height=4, side=3):
    """Picture of two classes side by side, with columns of blends between them."""
    columns = [blend(first, second, 4)] * side
    columns += [blend(first, second, share) for share in quarters]
    columns += [blend(first, second, 0)] * side
    return np.tile(np.array(columns, np.uint8), (height, 1, 1))


# Half way between these two lies exactly the colour of a third class: nobody could know.
COINCIDENCES = {
    (CAMVID.names.index(first), CAMVID.names.index(second))
    for first, second in [("Column_Pole", "Fence"), ("SignSymbol", "Car"), ("Tree", "Void")]
}


@pytest.mark.parametrize("quarters", [(2,), (3,), (1,), (3, 1), (3, 2, 1), (2, 2, 2, 2)])
def test_a_seam_between_two_camvid_classes_never_gives_a_third(quarters):
    third = 0
    for first, second in PAIRS:
        pixels = seam(first, second, quarters)
        third += bool(set(masks.closest_labels(pixels, CAMVID.mapping).flat) - {first, second})
        if 2 not in quarters or (first, second) not in COINCIDENCES:
            assert set(sharpen(pixels).flat) <= {first, second}
            assert set(sharpen(pixels, tolerance=16).flat) <= {first, second}
    assert third > 10  # without sharpening it does, for many pairs


def test_only_three_pairs_blend_to_a_third_classs_own_colour():
    half_way = {pair: masks.exact_colors(blend(*pair, 2), CAMVID) for pair in PAIRS}
    assert {pair for pair, exact in half_way.items() if exact} == COINCIDENCES


def test_a_blend_takes_the_nearer_of_its_two_sides():
    # Sky and Building: 3:1 lies nearest to Sky, 1:3 to Building.
    assert sharpen(seam(SKY, BUILDING, (3, 1)))[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    # Building and Sidewalk 1:1 is (64, 0, 96), nearest to Car; both sides are far.
    pixels = seam(BUILDING, SIDEWALK, (2,))
    assert masks.closest_labels(pixels, CAMVID.mapping)[0, 3] == CAMVID.names.index("Car")
    assert sharpen(pixels)[0].tolist() == [1, 1, 1, 1, 4, 4, 4]


def test_wide_seams_are_filled_from_both_sides():
    labels = sharpen(seam(SKY, BUILDING, (2,) * 6))[0].tolist()
    assert labels == [SKY] * 6 + [BUILDING] * 6


def test_equally_near_neighbours_are_settled_by_their_number_then_by_id():
    sky, building, middle = CAMVID.colors[SKY], CAMVID.colors[BUILDING], (128, 64, 64)
    rows = [[building, building, building], [sky, middle, sky], [building, sky, sky]]
    assert sharpen(rows)[1, 1] == SKY  # 4 to 4
    rows[2][1] = building
    assert sharpen(rows)[1, 1] == BUILDING  # 3 to 5


def test_diagonal_neighbours_count():
    tree = CAMVID.colors[TREE]
    pixels = np.full((3, 3, 3), 255, np.uint8)
    pixels[0, 0] = tree
    assert sharpen(pixels)[1, 1] == TREE


def test_without_any_exact_neighbour_the_label_is_kept():
    pixels = np.random.default_rng(0).integers(1, 127, (6, 7, 3), np.uint8) | 1
    nearest = masks.closest_labels(pixels, CAMVID.mapping)
    np.testing.assert_array_equal(sharpen(pixels), nearest)


def test_exact_pixels_are_kept_and_inputs_unchanged():
    labels = np.random.default_rng(0).integers(0, 12, (9, 8), np.uint8)
    pixels = masks.label_colors(labels, CAMVID)
    pixels[3:5, 2:6] = 77
    nearest = masks.closest_labels(pixels, CAMVID.mapping)
    kept = pixels.copy(), nearest.copy()
    sharp = masks.sharpen_boundaries(pixels, nearest, CAMVID)
    assert sharp.dtype == nearest.dtype
    exact = (pixels != 77).any(axis=-1)
    np.testing.assert_array_equal(sharp[exact], labels[exact])
    np.testing.assert_array_equal(pixels, kept[0])
    np.testing.assert_array_equal(nearest, kept[1])


def sharpen_slowly(pixels, labels, classes, tolerance):
    """The rule of the docstring, pixel by pixel."""
    height, width = labels.shape
    labels = labels.astype(int)

    def distance(pixel, label):
        return sum(
            (int(a) - int(b)) ** 2 for a, b in zip(pixel, classes.colors[label], strict=True)
        )

    inside = list(itertools.product(range(height), range(width)))
    settled = {
        place
        for place in inside
        if min(distance(pixels[place], i) for i in range(classes.num_classes)) <= tolerance**2
    }
    while True:
        found = {}
        for row, column in set(inside) - settled:
            around = [
                labels[place]
                for place in itertools.product(
                    range(row - 1, row + 2), range(column - 1, column + 2)
                )
                if place in settled
            ]
            if around:
                found[row, column] = min(
                    around, key=lambda i: (distance(pixels[row, column], i), -around.count(i), i)
                )
        if not found:
            return labels
        for place, label in found.items():
            labels[place] = label
        settled |= set(found)


@given(
    choice=hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
                      elements=st.integers(0, 5)),
    tolerance=st.sampled_from([0, 16, 60]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_sharpening_agrees_with_its_rule_pixel_by_pixel(choice, tolerance):
    palette = np.array(
        [*CAMVID.colors[[SKY, BUILDING, ROAD]], (128, 64, 64), (120, 60, 130), (200, 30, 90)],
        np.uint8,
    )
    pixels = palette[choice]
    nearest = masks.closest_labels(pixels, CAMVID.mapping)
    np.testing.assert_array_equal(
        masks.sharpen_boundaries(pixels, nearest, CAMVID, tolerance=tolerance),
        sharpen_slowly(pixels, nearest, CAMVID, tolerance),
    )


def test_a_region_a_little_off_its_colour_is_not_overgrown():
    pixels = np.tile(CAMVID.colors[SKY], (8, 20, 1))
    pixels[:, 6:] = CAMVID.colors[ROAD] - 1
    assert (sharpen(pixels)[:, 6:] == SKY).all()  # the rule taken literally
    assert (sharpen(pixels, tolerance=2)[:, 6:] == ROAD).all()


def test_sharpening_refuses_shapes_that_do_not_fit():
    message = r"received \(4, 5, 3\) and \(5, 4\)"
    with pytest.raises(ValueError, match=message):
        masks.sharpen_boundaries(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), int), CAMVID)


# find_unknown_colors


def test_a_foreign_patch_is_found_and_a_seam_is_not():
    pixels = seam(SKY, BUILDING, (3, 2, 1), height=12, side=8)
    pixels[2:6, 1:4] = (0, 255, 0)
    labels = masks.closest_labels(pixels, CAMVID.mapping)
    expected = np.zeros(labels.shape, bool)
    expected[2:6, 1:4] = True
    np.testing.assert_array_equal(masks.find_unknown_colors(pixels, labels, CAMVID), expected)


@pytest.mark.parametrize(("green", "unknown"), [(128 + 32, False), (128 + 33, True)])
def test_far_means_more_than_32(green, unknown):
    pixels = np.full((4, 4, 3), (128, green, 128), np.uint8)  # beside Sky, (128, 128, 128)
    labels = np.zeros((4, 4), np.uint8)
    found = masks.find_unknown_colors(pixels, labels, CAMVID)
    assert (found == unknown).all()
    assert not masks.find_unknown_colors(pixels, labels, CAMVID, distance=33).any()


def test_a_colour_beyond_both_classes_is_no_blend_of_them():
    pixels = seam(BUILDING, TREE, (), height=6)
    pixels[3, 3] = (128, 255, 0)  # in line with both
    labels = masks.closest_labels(pixels, CAMVID.mapping)
    found = masks.find_unknown_colors(pixels, labels, CAMVID)
    assert np.argwhere(found).tolist() == [[3, 3]]


def test_a_blend_of_classes_that_are_elsewhere_is_unknown():
    pixels = np.tile(CAMVID.colors[TREE], (20, 20, 1))
    pixels[10, 10] = blend(POLE, SIDEWALK, 2)
    pixels[0, 0], pixels[0, 1] = CAMVID.colors[POLE], CAMVID.colors[SIDEWALK]
    pixels[1, 0] = pixels[10, 10]
    labels = masks.closest_labels(pixels, CAMVID.mapping)
    found = masks.find_unknown_colors(pixels, labels, CAMVID)
    assert np.argwhere(found).tolist() == [[10, 10]]


# resize_labels


def resize_slowly(labels, size):
    """Areas as fractions, one target pixel at a time."""

    def overlaps(source, target, i):
        scale = fractions.Fraction(source, target)
        for j in range(source):
            length = min((i + 1) * scale, j + 1) - max(i * scale, j)
            if length > 0:
                yield j, length

    result = np.empty(size, labels.dtype)
    for row, column in itertools.product(range(size[0]), range(size[1])):
        area = {}
        for i, height in overlaps(labels.shape[0], size[0], row):
            for j, width in overlaps(labels.shape[1], size[1], column):
                label = int(labels[i, j])
                area[label] = area.get(label, 0) + height * width
        result[row, column] = min(area, key=lambda label: (-area[label], label))
    return result


@given(
    labels=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([0, 1, 2, 7, 200]),
    ),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    pieces=st.sampled_from([1, 40, 1 << 21]),
)
@settings(max_examples=120, deadline=None)
def test_resize_labels_is_the_majority_of_the_covered_area(labels, size, pieces):
    with mock.patch.object(masks, "MAX_PIECES", pieces):
        resized = masks.resize_labels(labels, size)
    assert (resized.shape, resized.dtype) == (size, labels.dtype)
    np.testing.assert_array_equal(resized, resize_slowly(labels, size))
    assert set(resized.flat) <= set(labels.flat)


def test_resize_labels_by_hand():
    labels = np.array([[5, 5, 1, 1], [5, 2, 1, 2], [7, 2, 0, 0], [7, 2, 9, 9]])
    assert masks.resize_labels(labels, (2, 2)).tolist() == [[5, 1], [2, 0]]  # 2 and 7, 0 and 9 tie
    assert masks.resize_labels(np.array([[3, 1, 2]]), (1, 2)).tolist() == [[3, 2]]
    assert masks.resize_labels(np.array([[3], [1]]), (3, 1)).tolist() == [[3], [1], [1]]


def test_enlarging_by_a_whole_factor_repeats_pixels():
    labels = np.random.default_rng(0).integers(0, 12, (23, 31), np.uint8)
    large = masks.resize_labels(labels, (23 * 3, 31 * 2))
    np.testing.assert_array_equal(large, labels.repeat(3, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(masks.resize_labels(large, labels.shape), labels)


def test_reducing_by_a_whole_factor_counts_blocks():
    labels = np.random.default_rng(0).integers(0, 5, (120, 80), np.uint8)
    blocks = labels.reshape(30, 4, 16, 5).swapaxes(1, 2).reshape(30, 16, 20)
    counts = (blocks[..., None] == np.arange(5)).sum(axis=2)
    np.testing.assert_array_equal(masks.resize_labels(labels, (30, 16)), counts.argmax(axis=-1))


def test_the_same_size_gives_a_copy():
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    resized = masks.resize_labels(labels, (3, 4))
    np.testing.assert_array_equal(resized, labels)
    assert not np.shares_memory(resized, labels)


def test_memory_is_bounded_for_many_ids():
    labels = np.random.default_rng(0).integers(0, 60, (100, 100), np.uint8)
    tracemalloc.start()
    try:
        masks.resize_labels(labels, (500, 600))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 8 * masks.MAX_PIECES  # all areas at once would be 144 MB


@pytest.mark.parametrize(
    ("labels", "size", "message"),
    [
        (np.zeros((2, 2, 3), int), (1, 1), r"received int64 \(2, 2, 3\)"),
        (np.zeros((2, 2)), (1, 1), r"expected integer labels .* received float64"),
        (np.zeros((2, 2), int), (0, 1), r"at least \(1, 1\), .*and \(0, 1\)"),
        (np.zeros((0, 2), int), (1, 1), r"received int64 \(0, 2\)"),
    ],
)
def test_resize_labels_says_what_is_wrong(labels, size, message):
    with pytest.raises(ValueError, match=message):
        masks.resize_labels(labels, size)


# find_invented


def test_interpolated_ids_are_invented_and_resized_labels_are_not():
    labels = np.zeros((6, 12), np.uint8)
    labels[:, 6:] = 4
    assert not masks.find_invented(masks.resize_labels(labels, (3, 5)), labels).any()
    between = np.array([[0, 0, 2, 4, 4]] * 3)
    expected = np.zeros((3, 5), bool)
    expected[:, 2] = True
    np.testing.assert_array_equal(masks.find_invented(between, labels), expected)


def test_a_class_that_is_there_but_elsewhere_is_invented():
    labels = np.zeros((4, 12), np.uint8)
    labels[:, 11] = 2
    resized = np.array([[0, 2, 0, 0, 0, 2], [0, 0, 0, 0, 2, 0]])
    invented = masks.find_invented(resized, labels)
    assert np.argwhere(invented).tolist() == [[0, 1]]
