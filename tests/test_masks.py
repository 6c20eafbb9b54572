"""Colours to labels and back, other sizes, and masks of every kind."""

import concurrent.futures
import contextlib
import itertools
import tracemalloc

import numpy as np
import pytest
from folders import CLASSES, draw_palette, save
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.spatial import cKDTree

import seglib
from seglib import images, masks
from seglib.classes import ClassTable
from seglib.datasets import propose_from_survey
from seglib.images import DatasetError
from seglib.masks import BINARY, choose_encoding, propose_class_table, read_labels, survey_masks
from seglib.scenes import STREET_CLASSES as CAMVID

SKY, BUILDING, POLE, ROAD, SIDEWALK, TREE = range(6)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)
DTYPES = st.sampled_from([np.uint8, np.uint16, np.int64])


@contextlib.contextmanager
def memory_within(most):
    """Fail where more bytes are taken at once."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most


def nearest_slowly(pixels, mapping):
    """Index of the nearest entry, by the definition."""
    pixels = np.asarray(pixels, np.int32).reshape(-1, 3)
    return ((pixels[:, None] - np.array(list(mapping))) ** 2).sum(axis=-1).argmin(axis=1)


def random_mapping(count, seed=0):
    colors = np.random.default_rng(seed).integers(0, 256, (count, 3))
    return {tuple(color): i for i, color in enumerate(np.unique(colors, axis=0).tolist())}


def test_closest_labels_by_hand():
    mapping = {(0, 0, 0): 7, (255, 0, 0): 4, (10, 10, 10): 2}
    pixels = [[[0, 0, 0], [5, 5, 4], [5, 5, 6]], [[255, 255, 255], [255, 0, 0], [130, 0, 9]]]
    assert masks.closest_labels(pixels, mapping).tolist() == [[7, 7, 2], [4, 4, 2]]
    assert masks.closest_labels([1, 0, 0], {(0, 0, 0): 5, (2, 0, 0): 3}) == 5  # the first of equals
    assert masks.closest_labels([1, 0, 0], {(2, 0, 0): 3, (0, 0, 0): 5}) == 3
    assert seglib.find_closest_labels_vectorized is seglib.closest_labels


@pytest.mark.parametrize("count", [1, 12, 300])
def test_closest_labels_agree_with_numpy_and_a_k_d_tree(count):
    mapping = CAMVID.mapping if count == 12 else random_mapping(count)
    pixels = np.random.default_rng(1).integers(0, 256, (4000, 3), np.uint8)
    labels = masks.closest_labels(pixels, mapping)
    np.testing.assert_array_equal(labels, nearest_slowly(pixels, mapping))
    palette = np.array(list(mapping), float)
    distance, _ = cKDTree(palette).query(pixels.astype(float))
    np.testing.assert_allclose(np.linalg.norm(pixels - palette[labels], axis=1), distance)


def test_memory_stays_bounded_and_threads_may_share_a_table():
    # All distances at once would take 0.6 M pixels × 32 classes × 4 bytes, several times over.
    pixels = np.random.default_rng(0).integers(0, 256, (600, 1000, 3), np.uint8)
    with memory_within((1 << 24) + 90 * 0.6e6):
        masks.closest_labels(pixels, random_mapping(32, seed=5))
    mapping = random_mapping(12, seed=7)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: masks.closest_labels(part, mapping), pixels[:8]))
    np.testing.assert_array_equal(np.ravel(found), nearest_slowly(pixels[:8], mapping))


def test_label_colors_by_hand(classes):
    painted = masks.label_colors([[0, 3], [2, 1]], classes)
    assert painted.tolist() == [[[128] * 3, [0] * 3], [[128, 64, 128], [128, 0, 0]]]
    table = ClassTable(["a", "b"], [(1, 2, 3), (4, 5, 6)], ignore_label=255)
    assert masks.label_colors([[False, True]], table).tolist() == [table.colors.tolist()]
    assert masks.label_colors([255, 1], table).tolist() == [[0, 0, 0], [4, 5, 6]]  # ignored: black


# Boundaries


def sharpen(pixels, **options):
    nearest = masks.closest_labels(pixels, CAMVID.mapping)
    return masks.sharpen_boundaries(pixels, nearest, CAMVID, **options)


def seam(first, second, quarters, *, height=4, side=3):
    """Picture of two classes side by side; columns between them hold `quarters` of the first."""
    share = np.array([4] * side + [*quarters] + [0] * side)[:, None] / 4
    row = share * CAMVID.colors[first] + (1 - share) * CAMVID.colors[second]
    return np.tile(row.astype(np.uint8), (height, 1, 1))


def test_a_large_mask_takes_at_most_20_bytes_a_pixel(tmp_path, monkeypatch):
    """Of 50 megapixels, the most that are decoded, that is 1 GB."""
    monkeypatch.setattr("seglib.images.MAX_CELLS", 1 << 16)
    random = np.random.default_rng(0)
    classes = ClassTable([f"c{i}" for i in range(11)], random.integers(0, 256, (11, 3)).tolist())
    blocks = np.kron(random.integers(0, 11, (150, 150)), np.ones((10, 10), int))
    save(tmp_path / "mask.jpg", seglib.label_colors(blocks, classes), quality=80)
    read_labels(tmp_path / "mask.jpg", classes)  # makes the table of colours
    with memory_within(20 * blocks.size):
        read_labels(tmp_path / "mask.jpg", classes)


def test_a_blend_takes_the_nearer_of_its_two_sides():
    assert sharpen(seam(SKY, BUILDING, (3, 1)))[0].tolist() == [SKY] * 4 + [BUILDING] * 4
    # Building and Sidewalk 1:1 is (64, 0, 96), nearest to Car; both sides are far.
    pixels = seam(BUILDING, SIDEWALK, (2,))
    assert masks.closest_labels(pixels, CAMVID.mapping)[0, 3] == CAMVID.names.index("Car")
    assert sharpen(pixels)[0].tolist() == [BUILDING] * 4 + [SIDEWALK] * 3
    wide = sharpen(seam(SKY, BUILDING, [2] * 6))  # is filled ring by ring
    assert wide[0].tolist() == [SKY] * 6 + [BUILDING] * 6


def sharpen_slowly(pixels, tolerance):
    """The rule of the docstring, pixel by pixel."""
    cost = ((pixels[:, :, None].astype(int) - CAMVID.colors) ** 2).sum(axis=-1)
    labels, places = cost.argmin(axis=-1), set(np.ndindex(cost.shape[:2]))
    settled = found = {place for place in places if cost[place].min() <= tolerance**2}
    while found:
        found = {}
        for row, column in places - settled:
            square = itertools.product(range(row - 1, row + 2), range(column - 1, column + 2))
            around = [labels[place] for place in square if place in settled]
            if around:
                costs = cost[row, column]
                found[row, column] = min(around, key=lambda i: (costs[i], -around.count(i), i))
        for place, label in found.items():
            labels[place] = label
        settled = settled | found.keys()
    return labels


@given(
    choice=hnp.arrays(np.int8, SHAPES, elements=st.integers(0, 5)),
    tolerance=st.sampled_from([0, 16, 60]),
)
@settings(max_examples=30, deadline=None)
def test_sharpening_agrees_with_its_rule_pixel_by_pixel(choice, tolerance):
    odd_colors = [(128, 64, 64), (120, 60, 130), (200, 30, 90)]
    pixels = np.array([*CAMVID.colors[[SKY, BUILDING, ROAD]], *odd_colors], np.uint8)[choice]
    expected = sharpen_slowly(pixels, tolerance)
    np.testing.assert_array_equal(sharpen(pixels, tolerance=tolerance), expected)


def test_a_foreign_patch_is_found_and_a_seam_is_not():
    pixels = seam(SKY, BUILDING, (3, 2, 1), height=12, side=8)
    pixels[2:6, 1:4] = (0, 255, 0)
    unknown = masks.find_unknown_colors(pixels, CAMVID)
    assert unknown[2:6, 1:4].all()
    assert unknown.sum() == 12
    pixels = np.tile(CAMVID.colors[TREE], (20, 20, 1))
    pole, sidewalk = CAMVID.colors[[POLE, SIDEWALK]]
    pixels[0, 0], pixels[0, 1] = pole, sidewalk
    pixels[1, 0] = pixels[10, 10] = pole // 2 + sidewalk // 2  # there of classes elsewhere
    assert np.argwhere(masks.find_unknown_colors(pixels, CAMVID)).tolist() == [[10, 10]]


# Other sizes


def resize_slowly(labels, size):
    """Of each pixel a block of `size`: then a pixel of the result covers whole ones."""
    height, width = labels.shape
    fine = labels.repeat(size[0], axis=0).repeat(size[1], axis=1)
    result = np.empty(size, labels.dtype)
    for row, column in np.ndindex(size):
        covered = fine[row * height :, column * width :][:height, :width]
        result[row, column] = np.bincount(covered.ravel()).argmax()
    return result


@given(
    labels=hnp.arrays(DTYPES, SHAPES, elements=st.sampled_from([0, 1, 2, 7, 200])),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
)
@settings(max_examples=40, deadline=None)
def test_resize_labels_is_the_majority_of_the_covered_area(labels, size):
    resized = masks.resize_labels(labels, size)
    assert (resized.shape, resized.dtype) == (size, labels.dtype)
    np.testing.assert_array_equal(resized, resize_slowly(labels, size))


def test_resize_labels_by_hand():
    labels = np.array([[5, 5, 1, 1], [5, 2, 1, 2], [7, 2, 0, 0], [7, 2, 9, 9]])
    assert masks.resize_labels(labels, (2, 2)).tolist() == [[5, 1], [2, 0]]  # 2 and 7, 0 and 9 tie
    same = masks.resize_labels(labels, (4, 4))
    np.testing.assert_array_equal(same, labels)
    assert not np.shares_memory(same, labels)


def test_resizing_in_bands_changes_nothing_and_bounds_the_memory(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 60, (100, 100), np.uint8)
    with memory_within(4 * 8 * images.MAX_CELLS):  # all areas at once would be 144 MB
        whole = masks.resize_labels(labels, (500, 600))
    np.testing.assert_array_equal(whole, labels.repeat(5, axis=0).repeat(6, axis=1))
    small = masks.resize_labels(labels, (30, 41))
    monkeypatch.setattr(images, "MAX_CELLS", 1)
    np.testing.assert_array_equal(masks.resize_labels(labels, (30, 41)), small)


def test_interpolated_ids_and_classes_that_are_elsewhere_are_invented():
    labels = np.zeros((6, 12), np.uint8)
    labels[:, 6:] = 4
    assert not masks.find_invented(masks.resize_labels(labels, (3, 5)), labels).any()
    between = np.array([[0, 0, 2, 4, 4]] * 3)
    np.testing.assert_array_equal(masks.find_invented(between, labels), between == 2)
    labels[:, :11], labels[:, 11] = 0, 2
    invented = masks.find_invented(np.array([[0, 2, 0, 0, 0, 2], [0, 0, 0, 0, 2, 0]]), labels)
    assert np.argwhere(invented).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (masks.closest_labels, ([[0, 0, 0, 255]], CLASSES.mapping), "drop an alpha channel"),
        (masks.closest_labels, ([[0.5, 0, 0]], CLASSES.mapping), "received float64 .* multiply"),
        (masks.closest_labels, ([[0, 0, 256]], CLASSES.mapping), r"RGB .* in \[0, 255\]"),
        (masks.closest_labels, ([[0, 0, 0]], {(0, 0, 300): 0}), r"RGB .* in \[0, 255\]"),
        (masks.label_colors, ([[0, 4], [9, 4]], CLASSES), r"3 pixels .* \(4, 9\); expected 0 to 3"),
        (masks.label_colors, ([0.0], CLASSES), "expected integer ids, received float64"),
        (masks.resize_labels, (np.zeros((2, 2)), (1, 1)), "integer labels .* received float64"),
        (masks.resize_labels, (np.zeros((2, 2), int), (0, 1)), r"at least \(1, 1\), .* \(0, 1\)"),
    ],
)
def test_wrong_arguments(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(*arguments)


# Mask files


def test_ids_are_read_from_every_kind_of_file(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (9, 7), np.uint8)
    alpha = Image.merge("LA", [Image.fromarray(labels), Image.new("L", (7, 9), 9)])
    for path in (
        save(tmp_path / "alpha.png", alpha),
        save(tmp_path / "palette.png", draw_palette(labels, CLASSES.colors + 1)),
        save(tmp_path / "16.png", labels, np.uint16),
        save(tmp_path / "float.tif", labels, np.float32),
    ):
        found = read_labels(path, CLASSES)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, labels)
    many = ClassTable(range(300), [(i // 256, i % 256, 0) for i in range(300)])
    found = read_labels(save(tmp_path / "16.png", [[0, 299], [255, 256]], np.uint16), many)
    assert (found.dtype, found.tolist()) == (np.uint16, [[0, 299], [255, 256]])
    found = read_labels(save(tmp_path / "bits.png", labels > 1, bool), CLASSES)
    np.testing.assert_array_equal(found, labels > 1)
    for path in (tmp_path / "bits.png", save(tmp_path / "white.png", [[0, 200]])):
        assert set(read_labels(path, BINARY, encoding="binary").flat) == {0, 1}
    colors = [(9, 0, 0), (0, 9, 0), (0, 0, 9)]
    ignoring = ClassTable("abc", colors, ignore_label=1, also_ignored=(2,))
    for values in ([[0, 1, 2, 255]], ignoring.colors[None, [0, 1, 2, 2]]):
        assert read_labels(save(tmp_path / "a.png", values), ignoring).tolist() == [[0, 1, 1, 1]]


def test_how_masks_of_one_channel_show_classes_is_decided_by_their_values(tmp_path):
    def choose(table, *drawn, suffix="png"):
        paths = [save(tmp_path / f"{i}.{suffix}", mask) for i, mask in enumerate(drawn)]
        return choose_encoding(survey_masks(paths), table)

    grey = ClassTable("ab", [(255, 255, 255), (100, 100, 100)])
    assert choose(CLASSES, [[0, 1]], [[2, 255]]) == "ids"
    assert choose(CLASSES, [[0, 9]]) == "ids"  # a wrong one, told when it is read
    assert choose(grey, [[100, 255]]) == "colors"
    assert choose(grey, [[0, 255]]) == choose(BINARY, [[0, 255] * 9], suffix="jpg") != "ids"
    assert choose(ClassTable("ab", [(9, 9, 9), (8, 0, 0)]), [[0, 255]]) == "binary"
    turned = ClassTable(CLASSES.names, CLASSES.colors[::-1])
    palette, other = (draw_palette([[0, 1]], table.colors) for table in (CLASSES, turned))
    assert choose(CLASSES, palette) == "colors"  # and ids as well
    assert choose(turned, palette) == "colors"  # their order does not count
    assert choose(CLASSES, palette, other) == "colors"  # palettes of their own
    assert choose(CLASSES, np.dstack([[[1, 2, 2]]] * 3)) == "ids"  # grey in three channels
    (tmp_path / "empty.png").touch()
    survey = survey_masks([tmp_path / name for name in ("0.png", "empty.png", "gone.png")])
    assert (survey.values, survey.colored) == ({1: 1, 2: 2}, 0)  # what cannot be read is none


@pytest.mark.parametrize(
    ("values", "dtype", "words"),
    [
        ([[0, 1, 255], [1, 9, 255]], "u1", r"mask.tif: 3 .* table \(9, 255\); expected 0 to 3"),
        ([[0, 0.5]], "f4", "mask.tif holds fractions: expected whole numbers"),
        ([[0, -1]], "i4", r"1 pixels hold a label outside the class table \(-1\)"),
        (np.dstack([np.zeros((4, 4, 3)), 60 * np.eye(4)]), "u1", "shows its classes by transp"),
        (np.dstack([np.full((4, 4), 255), 255 * np.eye(4)]), "u1", "or in several bands"),
        (np.dstack([np.eye(4), np.eye(4), np.zeros((4, 4))]), "u1", r"most often \(1, 1, 0\)"),
    ],
)
def test_masks_that_make_no_sense_are_refused(tmp_path, values, dtype, words):
    with pytest.raises(DatasetError, match=words):
        read_labels(save(tmp_path / "mask.tif", values, dtype), CLASSES)


def test_more_than_one_percent_of_unknown_colours_is_an_error(tmp_path):
    def read(color, count):
        pixels = np.tile(CAMVID.colors[SKY], (100, 100, 1))
        pixels[tuple(np.divmod(np.arange(count), 40))] = color
        return set(read_labels(save(tmp_path / "scene_L.png", pixels), CAMVID).flat)

    assert read((0, 255, 0), 100) == {SKY}
    assert read((128, 92, 140), 900) == {SKY}  # a blend of Sky and Road
    words = r"170 of 10000 pixels are far from every class colour, most often \(0, 255, 0\) "
    with pytest.raises(DatasetError, match=rf"{words}\(170 pixels; nearest class Tree\): add"):
        read((0, 255, 0), 170)


def test_blends_with_each_of_several_ignored_colours_are_boundaries(tmp_path):
    """As in an antialiased mask: a road that borders on two colours, both ignored."""
    colors = [(128, 64, 128), (0, 0, 0), (0, 250, 90)]
    table = ClassTable(["road", "void", "unlabelled"], colors, ignore_label=1, also_ignored=(2,))
    pixels = table.colors[np.repeat([1, 0, 2], 6)[None].repeat(9, axis=0)].astype(float)
    for edge in (6, 12):
        pixels[:, edge] = 0.5 * pixels[:, edge - 1] + 0.5 * pixels[:, edge]
    labels = read_labels(save(tmp_path / "soft.png", pixels.round()), table)
    assert (labels[:, 8:11] == 0).all()
    assert (np.delete(labels, np.s_[6:13], axis=1) == 1).all()
    assert set(labels.flat) == {0, 1}


def test_sharpening_mends_masks_that_were_smoothed_or_saved_as_jpeg(tmp_path):
    labels = np.full((60, 80), SKY, np.uint8)
    labels[30:], labels[20:40, 10:30], labels[10:50, 60:65] = ROAD, BUILDING, POLE
    colors = Image.fromarray(CAMVID.colors[labels])
    smooth = save(tmp_path / "smooth.png", colors.resize((240, 180), Image.Resampling.BILINEAR))
    lossy = save(tmp_path / "lossy.jpg", colors, quality=90)
    large = np.kron(labels, np.ones((3, 3), int))
    for path, expected, most in ((smooth, large, 0.5), (lossy, labels, 0.6)):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        nearest = (masks.closest_labels(pixels, CAMVID.mapping) != expected).mean()
        assert (read_labels(path, CAMVID) != expected).mean() < most * nearest
    off = save(tmp_path / "off.png", (CAMVID.colors[labels] * 0.97).round())
    np.testing.assert_array_equal(read_labels(off, CAMVID), labels)


def test_class_tables_are_proposed_from_what_masks_hold(tmp_path):
    labels = np.kron(np.random.default_rng(0).integers(0, 4, (6, 8)), np.ones((16, 16), int))
    labels[:80, :60] = 0
    drawn = [
        draw_palette(labels, [(9, 9, 9), (8, 8, 8), (7, 7, 7), (6, 6, 6)]),
        labels,
        draw_palette([[0, 1, 2]], [(9, 9, 9)] * 3),
        255 * (labels > 1),
        [[100, 200, 200, 0]],
        CLASSES.colors[labels],
    ]
    *_, shades, rgb = paths = [save(tmp_path / f"{i}.png", mask) for i, mask in enumerate(drawn)]
    jpeg = save(tmp_path / "rgb.jpg", CLASSES.colors[labels], quality=90)
    found = propose_class_table([rgb])
    assert found.names == ("class_0", "class_1", "class_2", "class_3")
    assert set(found.mapping) == set(CLASSES.mapping)
    assert found.colors[0].tolist() == [0, 0, 0]  # the most frequent first
    found = propose_class_table([jpeg], lossy=True).colors.astype(int)
    assert len(found) == 4
    assert (np.abs(found[:, None] - CLASSES.colors).sum(axis=-1).min(axis=1) < 12).all()
    assert propose_class_table([shades]).colors[:, 0].tolist() == [200, 0, 100]
    found = [propose_from_survey(survey_masks([path])) for path in paths]
    assert [table and table.num_classes for table in found] == [4, 4, 3, 2, None, None]
    assert found[0].colors[3, 0] == 6
    assert found[3] is BINARY
    with pytest.raises(DatasetError, match=r"gone.png cannot be read"):
        propose_class_table([tmp_path / "gone.png"])
