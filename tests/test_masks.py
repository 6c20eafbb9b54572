"""Colours to labels and back, other sizes, and masks of every kind."""

import concurrent.futures
import fractions
import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.spatial import cKDTree

import seglib
from seglib import images, masks
from seglib.classes import ClassTable, voc_colors
from seglib.datasets import propose_from_survey
from seglib.images import DatasetError
from seglib.masks import (
    BINARY,
    choose_encoding,
    propose_class_table,
    read_labels,
    survey_masks,
)
from seglib.scenes import STREET_CLASSES

CAMVID = STREET_CLASSES  # the twelve classes and colours of CamVid
SKY, BUILDING, POLE, ROAD, SIDEWALK, TREE = range(6)
TABLE = ClassTable(["back", "road", "car", "tree"], voc_colors(4))


def save(path, values, mode=np.uint8, **options):
    Image.fromarray(np.asarray(values, mode)).save(path, **options)
    return path


def save_palette(path, values, colors):
    picture = Image.fromarray(np.asarray(values, np.uint8))
    picture.putpalette(np.asarray(colors, np.uint8).ravel().tolist())
    picture.save(path)
    return path


def nearest_slowly(pixels, mapping):
    """Index of the nearest entry, by the definition."""
    pixels = np.asarray(pixels, np.int32).reshape(-1, 3)
    return ((pixels[:, None] - np.array(list(mapping))) ** 2).sum(axis=-1).argmin(axis=1)


def random_mapping(count, seed=0):
    colors = np.random.default_rng(seed).integers(0, 256, (count, 3))
    return {tuple(color): i for i, color in enumerate(np.unique(colors, axis=0).tolist())}


# Colours to labels and back


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
    tracemalloc.start()
    masks.closest_labels(pixels, random_mapping(32, seed=5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (1 << 24) + 90 * 0.6e6
    mapping = random_mapping(12, seed=7)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: masks.closest_labels(part, mapping), pixels[:8]))
    np.testing.assert_array_equal(np.ravel(found), nearest_slowly(pixels[:8], mapping))


def blend(first, second, quarters):
    """Colour with `quarters` of four shares of the first class; CamVid's divide evenly."""
    colors = CAMVID.colors.astype(int)
    return (quarters * colors[first] + (4 - quarters) * colors[second]) // 4


def test_label_colors_by_hand(classes):
    painted = masks.label_colors([[0, 3], [2, 1]], classes)
    assert painted.tolist() == [[[128] * 3, [0] * 3], [[128, 64, 128], [128, 0, 0]]]
    table = ClassTable(["a", "b"], [(1, 2, 3), (4, 5, 6)], ignore_label=255)
    assert masks.label_colors([[False, True]], table).tolist() == [table.colors.tolist()]
    assert masks.label_colors([255, 1], table).tolist() == [[0, 0, 0], [4, 5, 6]]  # ignored: black


# Boundaries


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


def test_a_large_mask_takes_at_most_20_bytes_a_pixel(tmp_path, monkeypatch):
    """Of 50 megapixels, the most that are decoded, that is 1 GB."""
    monkeypatch.setattr("seglib.images.MAX_CELLS", 1 << 16)
    random = np.random.default_rng(0)
    classes = ClassTable([f"c{i}" for i in range(11)], random.integers(0, 256, (11, 3)).tolist())
    blocks = np.kron(random.integers(0, 11, (150, 150)), np.ones((10, 10), int))
    Image.fromarray(seglib.label_colors(blocks, classes)).save(tmp_path / "mask.jpg", quality=80)
    read_labels(tmp_path / "mask.jpg", classes)  # makes the table of colours
    tracemalloc.start()
    try:
        labels = read_labels(tmp_path / "mask.jpg", classes)
        assert tracemalloc.get_traced_memory()[1] < 20 * labels.size
    finally:
        tracemalloc.stop()


def test_a_blend_takes_the_nearer_of_its_two_sides():
    # Sky and Building: 3:1 lies nearest to Sky, 1:3 to Building.
    assert sharpen(seam(SKY, BUILDING, (3, 1)))[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    # Building and Sidewalk 1:1 is (64, 0, 96), nearest to Car; both sides are far.
    pixels = seam(BUILDING, SIDEWALK, (2,))
    assert masks.closest_labels(pixels, CAMVID.mapping)[0, 3] == CAMVID.names.index("Car")
    assert sharpen(pixels)[0].tolist() == [1, 1, 1, 1, 4, 4, 4]
    labels = sharpen(seam(SKY, BUILDING, (2,) * 6))[0].tolist()  # a ring at a time
    assert labels == [SKY] * 6 + [BUILDING] * 6


def sharpen_slowly(pixels, labels, classes, tolerance):
    """The rule of the docstring, pixel by pixel."""
    labels, palette = labels.astype(int), classes.colors.astype(int)
    cost = ((pixels[:, :, None].astype(int) - palette) ** 2).sum(axis=-1)
    inside = list(np.ndindex(labels.shape))
    settled = {place for place in inside if cost[place].min() <= tolerance**2}
    while True:
        found = {}
        for row, column in set(inside) - settled:
            square = itertools.product(range(row - 1, row + 2), range(column - 1, column + 2))
            around = [labels[place] for place in square if place in settled]
            if around:
                costs = cost[row, column]
                found[row, column] = min(around, key=lambda i: (costs[i], -around.count(i), i))
        if not found:
            return labels
        for place, label in found.items():
            labels[place] = label
        settled |= set(found)


@given(
    choice=hnp.arrays(
        np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 5)
    ),
    tolerance=st.sampled_from([0, 16, 60]),
)
@settings(max_examples=30, deadline=None)
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


def test_a_foreign_patch_is_found_and_a_seam_is_not():
    pixels = seam(SKY, BUILDING, (3, 2, 1), height=12, side=8)
    pixels[2:6, 1:4] = (0, 255, 0)
    expected = np.zeros(pixels.shape[:2], bool)
    expected[2:6, 1:4] = True
    np.testing.assert_array_equal(masks.find_unknown_colors(pixels, CAMVID), expected)
    pixels = np.tile(CAMVID.colors[TREE], (20, 20, 1))
    pixels[0, 0], pixels[0, 1] = CAMVID.colors[[POLE, SIDEWALK]]
    pixels[1, 0] = pixels[10, 10] = blend(POLE, SIDEWALK, 2)  # there of classes elsewhere
    assert np.argwhere(masks.find_unknown_colors(pixels, CAMVID)).tolist() == [[10, 10]]


# Other sizes


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
)
@settings(max_examples=40, deadline=None)
def test_resize_labels_is_the_majority_of_the_covered_area(labels, size):
    resized = masks.resize_labels(labels, size)
    assert (resized.shape, resized.dtype) == (size, labels.dtype)
    np.testing.assert_array_equal(resized, resize_slowly(labels, size))


def test_resize_labels_by_hand():
    labels = np.array([[5, 5, 1, 1], [5, 2, 1, 2], [7, 2, 0, 0], [7, 2, 9, 9]])
    assert masks.resize_labels(labels, (2, 2)).tolist() == [[5, 1], [2, 0]]  # 2 and 7, 0 and 9 tie
    assert masks.resize_labels(np.array([[3, 1, 2]]), (1, 2)).tolist() == [[3, 2]]
    same = masks.resize_labels(labels, (4, 4))
    np.testing.assert_array_equal(same, labels)
    assert not np.shares_memory(same, labels)


def test_resizing_in_bands_changes_nothing_and_bounds_the_memory(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 60, (100, 100), np.uint8)
    tracemalloc.start()
    whole = masks.resize_labels(labels, (500, 600))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * images.MAX_CELLS  # all areas at once would be 144 MB
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
        (masks.closest_labels, ([[0, 0, 0, 255]], TABLE.mapping), "drop an alpha channel"),
        (masks.closest_labels, (3, TABLE.mapping), r"RGB colours .* received int64 \(\)"),
        (masks.closest_labels, ([[0.5, 0, 0]], TABLE.mapping), "received float64 .* multiply"),
        (masks.closest_labels, ([[0, 0, 256]], TABLE.mapping), r"RGB .* in \[0, 255\]"),
        (masks.closest_labels, ([[0, 0, 0]], {(0, 0, 300): 0}), r"RGB .* in \[0, 255\]"),
        (masks.label_colors, ([[0, 4], [9, 4]], TABLE), r"3 pixels .* \(4, 9\); expected 0 to 3"),
        (masks.label_colors, ([0.0], TABLE), "expected integer ids, received float64"),
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
    grey, alpha = Image.fromarray(labels), Image.fromarray(np.full((9, 7), 9, np.uint8))
    Image.merge("LA", [grey, alpha]).save(tmp_path / "alpha.png")
    for path in (
        save(tmp_path / "colors.png", TABLE.colors[labels]),
        save(tmp_path / "rgba.png", np.dstack([TABLE.colors[labels], np.full((9, 7), 255)])),
        save(tmp_path / "grey.png", labels),
        save(tmp_path / "16.png", labels, np.uint16),
        save(tmp_path / "32.tif", labels, np.int32),
        save(tmp_path / "float.tif", labels, np.float32),
        save_palette(tmp_path / "palette.png", labels, [[9, 8, 7], [6, 5, 4], [3, 2, 1], [0] * 3]),
        tmp_path / "alpha.png",
    ):
        found = read_labels(path, TABLE)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, labels)
    many = ClassTable(range(300), [(i // 256, i % 256, 0) for i in range(300)])
    found = read_labels(save(tmp_path / "16.png", [[0, 299], [255, 256]], np.uint16), many)
    assert (found.dtype, found.tolist()) == (np.uint16, [[0, 299], [255, 256]])
    found = read_labels(save(tmp_path / "bits.png", labels > 1, bool), TABLE)
    np.testing.assert_array_equal(found, labels > 1)
    for path in (tmp_path / "bits.png", save(tmp_path / "white.png", [[0, 200]])):
        assert set(read_labels(path, BINARY, encoding="binary").flat) == {0, 1}
    colors = [(9, 0, 0), (0, 9, 0), (0, 0, 9)]
    ignoring = ClassTable("abc", colors, ignore_label=1, also_ignored=(2,))
    for values in ([[0, 1, 2, 255]], ignoring.colors[None, [0, 1, 2, 2]]):
        assert read_labels(save(tmp_path / "a.png", values), ignoring).tolist() == [[0, 1, 1, 1]]


def test_how_masks_of_one_channel_show_classes_is_decided_by_their_values(tmp_path):
    def choose(table, *values, palette=None, suffix="png"):
        paths = [tmp_path / f"{i}.{suffix}" for i in range(len(values))]
        for path, one in zip(paths, values, strict=True):
            save(path, one) if palette is None else save_palette(path, one, palette)
        return choose_encoding(survey_masks(paths), table)

    grey = ClassTable("ab", [(255, 255, 255), (100, 100, 100)])
    assert choose(TABLE, [[0, 1]], [[2, 255]]) == "ids"
    assert choose(TABLE, [[0, 9]]) == "ids"  # a wrong one, told when it is read
    assert choose(grey, [[100, 255]]) == "colors"
    assert choose(grey, [[0, 255]]) == choose(BINARY, [[0, 255] * 9], suffix="jpg") != "ids"
    assert choose(ClassTable("ab", [(9, 9, 9), (8, 0, 0)]), [[0, 255]]) == "binary"
    assert choose(TABLE, [[0, 1]], palette=TABLE.colors) == "colors"  # and ids as well
    turned = ClassTable(TABLE.names, TABLE.colors[::-1])
    assert choose(turned, [[0, 1]], palette=TABLE.colors) == "colors"  # their order does not count
    paths = [
        save_palette(tmp_path / "a.png", [[0, 1]], TABLE.colors),
        save_palette(tmp_path / "b.png", [[0, 1]], TABLE.colors[::-1]),
    ]
    assert choose_encoding(survey_masks(paths), TABLE) == "colors"  # palettes of their own


def test_a_survey_counts_values_and_passes_over_what_cannot_be_read(tmp_path):
    paths = [save(tmp_path / f"{i}.png", [[i, i + 1]]) for i in range(3)]
    paths.append(save(tmp_path / "color.png", np.full((4, 4, 3), (9, 0, 0))))
    (tmp_path / "empty.png").touch()
    survey = survey_masks([*paths, tmp_path / "empty.png", tmp_path / "gone.png"])
    assert survey.values == {0: 1, 1: 2, 2: 2, 3: 1}
    assert (survey.colored, survey.lossy, survey.conflict, survey.palette) == (1, False, False, {})
    grey = survey_masks([save(tmp_path / "three.png", np.dstack([[[1, 2, 2]]] * 3))])
    assert (grey.values, grey.colored) == ({1: 1, 2: 2}, 0)


@pytest.mark.parametrize(
    ("values", "mode", "words"),
    [
        (
            [[0, 1, 255], [1, 9, 255]],
            np.uint8,
            r"mask.tif: 3 pixels hold a label outside the class table \(9, 255\); expected 0 to 3",
        ),
        ([[0, 0.5]], np.float32, "mask.tif holds fractions: expected whole numbers"),
        ([[0, -1]], np.int32, r"1 pixels hold a label outside the class table \(-1\)"),
        (np.dstack([np.zeros((4, 4, 3)), 60 * np.eye(4)]), np.uint8, "shows its classes by transp"),
        (np.dstack([np.full((4, 4), 255), 255 * np.eye(4)]), np.uint8, "or in several bands"),
        (
            np.dstack([np.eye(4), np.eye(4), np.zeros((4, 4))]),
            np.uint8,
            r"most often \(1, 1, 0\)",
        ),
    ],
)
def test_masks_that_make_no_sense_are_refused(tmp_path, values, mode, words):
    with pytest.raises(DatasetError, match=words):
        read_labels(save(tmp_path / "mask.tif", values, mode), TABLE)


@pytest.mark.parametrize(
    ("color", "count", "is_read"),
    [((0, 255, 0), 170, False), ((0, 255, 0), 100, True), ((128, 92, 140), 900, True)],
)
def test_more_than_one_percent_of_unknown_colours_is_an_error(tmp_path, color, count, is_read):
    pixels = np.tile(CAMVID.colors[SKY], (100, 100, 1))
    pixels[tuple(np.divmod(np.arange(count), 40))] = color
    path = save(tmp_path / "scene_L.png", pixels)
    if is_read:
        assert set(read_labels(path, CAMVID).flat) <= {SKY, ROAD}
        return
    with pytest.raises(
        DatasetError,
        match=r"170 of 10000 pixels are far from every class colour, most often \(0, 255, 0\) "
        r"\(170 pixels; nearest class Tree\): add the colour",
    ):
        read_labels(path, CAMVID)


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
    colors.resize((240, 180), Image.Resampling.BILINEAR).save(tmp_path / "smooth.png")
    colors.save(tmp_path / "lossy.jpg", quality=90)
    save(tmp_path / "off.png", (CAMVID.colors[labels] * 0.97).round())
    large = labels.repeat(3, axis=0).repeat(3, axis=1)
    for name, expected, most in (("smooth.png", large, 0.5), ("lossy.jpg", labels, 0.6)):
        path = tmp_path / name
        pixels = np.asarray(Image.open(path).convert("RGB"))
        nearest = (masks.closest_labels(pixels, CAMVID.mapping) != expected).mean()
        assert (read_labels(path, CAMVID) != expected).mean() < most * nearest
    np.testing.assert_array_equal(read_labels(tmp_path / "off.png", CAMVID), labels)


# A class table where there is none


def test_class_tables_are_proposed_from_what_masks_hold(tmp_path):
    labels = np.kron(np.random.default_rng(0).integers(0, 4, (6, 8)), np.ones((16, 16), int))
    labels[:80, :60] = 0
    rgb = save(tmp_path / "rgb.png", TABLE.colors[labels])
    jpeg = save(tmp_path / "rgb.jpg", TABLE.colors[labels], quality=90)
    found = propose_class_table([rgb])
    assert found.names == ("class_0", "class_1", "class_2", "class_3")
    assert set(found.mapping) == set(TABLE.mapping)
    assert found.colors[0].tolist() == [0, 0, 0]  # the most frequent first
    found = propose_class_table([jpeg], lossy=True).colors.astype(int)
    assert len(found) == 4
    assert (np.abs(found[:, None] - TABLE.colors).sum(axis=-1).min(axis=1) < 12).all()
    shades = save(tmp_path / "s.png", [[100, 200, 200, 0]])
    assert propose_class_table([shades]).colors[:, 0].tolist() == [200, 0, 100]
    palette = [(9, 9, 9), (8, 8, 8), (7, 7, 7), (6, 6, 6)]
    palette = save_palette(tmp_path / "p.png", labels, palette)
    grey, black = save(tmp_path / "g.png", labels), save(tmp_path / "b.png", 255 * (labels > 1))
    repeated = save_palette(tmp_path / "r.png", [[0, 1, 2]], [(9, 9, 9)] * 3)
    found = [
        propose_from_survey(survey_masks([path]))
        for path in (palette, grey, repeated, black, shades, rgb)
    ]
    assert [table and table.num_classes for table in found] == [4, 4, 3, 2, None, None]
    assert found[0].colors[3, 0] == 6
    assert found[3] is BINARY
    with pytest.raises(DatasetError, match=r"gone.png cannot be read"):
        propose_class_table([tmp_path / "gone.png"])


@pytest.mark.camvid
def test_the_table_of_camvid_is_proposed_from_its_masks(camvid):
    proposed = propose_class_table(sorted(camvid.glob("*_labels/*")))
    assert set(proposed.mapping) == set(seglib.open_dataset(camvid).classes.mapping)
