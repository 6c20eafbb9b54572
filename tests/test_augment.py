import colorsys
import concurrent.futures
import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage
from small_runs import TABLE, make_split

import seglib
from seglib.augment import Augmentation, augment_pair, choose_augmentation
from seglib.augment.colors import change_colors, color_matrix
from seglib.augment.geometry import cut_window, draw_window, find_focus
from seglib.augment.mixing import blend_pairs, draw_box, paste_box, paste_class, soften
from seglib.classes import ClassTable
from seglib.images import resize_image
from seglib.preparing import PreparedSplit

LEVELS = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
COLUMNS = np.arange(256).reshape(1, 256)
NOTHING = {"flip": 0, "brightness": 0, "contrast": 0}
GEOMETRY = {**NOTHING, "flip": 0.5, "scale": (0.5, 2), "aspect": 1.3, "rotation": 30, "shift": 0.1}
ALL = {**GEOMETRY, "brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 20, "blur": 1,
       "noise": 9, "focus": 0.5, "mixup": 0.3, "cutmix": 0.3}  # fmt: skip
NINE = np.arange(1, 10, dtype=np.uint8).reshape(3, 3)


def augment_many(count=400, *, image=LEVELS, labels=COLUMNS, ignore_label=None, **options):
    augmentation = Augmentation(**{**NOTHING, **options})
    return [
        augment_pair(image, labels, seed=0, epoch=0, index=index, augmentation=augmentation,
                     ignore_label=ignore_label)
        for index in range(count)
    ]  # fmt: skip


def draw_blocks(seed=0, *, blocks=(4, 5), side=16, classes=6, dtype=np.uint8):
    """A picture of flat blocks whose grey value is 40 times the class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, blocks).repeat(side, axis=0).repeat(side, axis=1)
    image = np.repeat((40 * labels).astype(np.uint8)[..., None], 3, axis=-1)
    return image, labels.astype(dtype)


def within_regions(labels, reach=2):
    """Where all labels around are the same, and not beyond the window."""
    around = {"size": 2 * reach + 1, "mode": "constant", "cval": -1}
    labels = labels.astype(int)
    return ndimage.maximum_filter(labels, **around) == ndimage.minimum_filter(labels, **around)


# The stream


def test_the_result_is_a_function_of_seed_epoch_and_index():
    split, augmentation = make_split(6, 0), Augmentation(**ALL)

    def augment(key):
        epoch, index = key
        return augment_pair(*split[index], seed=3, epoch=epoch, index=index, ignore_label=2,
                            augmentation=augmentation, partners=split)  # fmt: skip

    keys = [(epoch, index) for epoch in range(3) for index in range(6)]
    first = {key: augment(key) for key in keys}
    np.random.default_rng(0).random(7)
    backwards = {key: augment(key) for key in keys[::-1]}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        in_threads = dict(zip(keys, pool.map(augment, keys), strict=True))
    for key, pair in first.items():
        for again in (backwards[key], in_threads[key]):
            np.testing.assert_array_equal(pair[0], again[0])
            np.testing.assert_array_equal(pair[1], again[1])
    assert len({image.tobytes() for image, _ in first.values()}) == len(keys)


def test_neither_reads_nor_sets_global_random_state():
    split = make_split(3, 0)
    options = {"seed": 0, "epoch": 0, "augmentation": Augmentation(**ALL), "partners": split,
               "ignore_label": 2}  # fmt: skip
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = [augment_pair(*split[0], index=index, **options)[0] for index in range(9)]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    for index in range(9):
        again = augment_pair(*split[0], index=index, **options)[0]
        np.testing.assert_array_equal(again, first[index])


@pytest.mark.parametrize("name", ["seed", "epoch", "index"])
def test_seed_epoch_and_index_each_change_the_result(name):
    usual = {"seed": 1, "epoch": 1, "index": 1}
    results = [
        augment_pair(LEVELS, COLUMNS, **usual | {name: value})[0].tobytes() for value in range(20)
    ]
    assert len(set(results)) > 15


def test_one_option_does_not_change_what_is_drawn_for_the_others():
    image, labels = draw_blocks()
    plain = augment_many(20, image=image, labels=labels, ignore_label=9, **GEOMETRY)
    more = augment_many(20, image=image, labels=labels, ignore_label=9,
                        **{**GEOMETRY, "hue": 90, "blur": 2, "noise": 5})  # fmt: skip
    for (_, first), (_, second) in zip(plain, more, strict=True):
        np.testing.assert_array_equal(first, second)


def test_nothing_drawn_changes_nothing():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (7, 5, 3), np.uint8)
    labels = random.integers(0, 4, (7, 5))
    for options in ({}, {"size": (7, 5)}, {"native": True}, {"focus": 1}):
        for ignore_label in (None, 3):
            for changed, ids in augment_many(
                5, image=image, labels=labels, ignore_label=ignore_label, **options
            ):
                np.testing.assert_array_equal(changed, image)
                np.testing.assert_array_equal(ids, labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_shapes_and_dtypes_are_kept_and_inputs_unchanged(dtype):
    image, labels = draw_blocks(dtype=dtype)
    kept = image.copy(), labels.copy()
    for array in (image, labels):
        array.setflags(write=False)  # as memory-mapped arrays are
    options = {**ALL, "mixup": 0, "cutmix": 0}
    for size in (None, (20, 30), 9):
        shape = {None: (64, 80), 9: (9, 9)}.get(size, size)
        for changed, ids in augment_many(
            10, image=image, labels=labels, ignore_label=255, **options, size=size
        ):
            assert (changed.shape, changed.dtype) == ((*shape, 3), np.uint8)
            assert (ids.shape, ids.dtype) == (shape, dtype)
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(labels, kept[1])


# Geometry: known answers


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1, 0, 0], [0, 1, 0]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        ([[1, 0, 0], [0, -1, 3]], [[3, 2, 1], [6, 5, 4], [9, 8, 7]]),  # mirrored
        ([[0, 1, 0], [-1, 0, 3]], [[3, 6, 9], [2, 5, 8], [1, 4, 7]]),  # turned to the left
        ([[0, -1, 3], [1, 0, 0]], [[7, 4, 1], [8, 5, 2], [9, 6, 3]]),  # to the right
        ([[1, 0, 1], [0, 1, -1]], [[0, 4, 5], [0, 7, 8], [0, 0, 0]]),  # moved
        ([[1 / 3, 0, 1], [0, 1 / 3, 1]], [[5, 5, 5], [5, 5, 5], [5, 5, 5]]),  # thrice as large
    ],
)
def test_image_and_labels_through_a_window(matrix, expected):
    image = np.repeat(10 * NINE[..., None], 3, axis=-1)
    shown, ids = cut_window(image, NINE, matrix, size=(3, 3), ignore_label=0)
    np.testing.assert_array_equal(ids, expected)
    covered = ids > 0
    if matrix[0][0] != 1 / 3:  # where bilinear is not nearest
        np.testing.assert_array_equal(shown[covered], 10 * np.repeat(ids[covered, None], 3, 1))
        assert (shown[~covered] == 128).all()


def test_rotation_by_90_degrees_is_that_of_numpy():
    """As rotation is drawn from ±180, the draw that means 90 is given."""

    class Drawn:
        def random(self, count):
            return np.array([0.9, 0.5, 0.5, 0.75, 0.5, 0.5][:count])

    augmentation = Augmentation(**NOTHING, rotation=180)
    matrix = draw_window(Drawn(), NINE, augmentation, 0)
    image = np.repeat(10 * NINE[..., None], 3, axis=-1)
    shown, ids = cut_window(image, NINE, matrix, size=(3, 3), ignore_label=0)
    np.testing.assert_array_equal(ids, np.rot90(NINE))
    np.testing.assert_array_equal(shown, np.rot90(image))


@pytest.mark.parametrize("size", [(128, 128), (20, 31), (77, 40)])
def test_a_whole_picture_is_as_sharp_as_one_that_is_predicted(size):
    image = np.random.default_rng(0).integers(0, 256, (72, 90, 3), dtype=np.uint8)
    step = np.divide(image.shape[:2], size)
    matrix = np.column_stack([np.diag(step), (0, 0)])
    mirrored = np.column_stack([np.diag(step * (1, -1)), (0, 90)])
    for given, wanted in ((matrix, image), (mirrored, image[:, ::-1])):
        shown, _ = cut_window(image, image[..., 0], given, size=size)
        expected = resize_image(np.ascontiguousarray(wanted), size)
        assert np.abs(shown.astype(int) - expected).max() <= 1  # rounding of a mirrored sum


def test_a_part_of_a_picture_is_as_sharp_as_the_whole():
    image = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)
    whole = resize_image(image, (32, 40))
    shown, _ = cut_window(image, image[..., 0], [[3, 0, 12], [0, 3, 30]], size=(16, 20))
    np.testing.assert_array_equal(shown, whole[4:20, 10:30])


def test_a_turned_window_of_half_the_size_shows_means_of_four_pixels():
    image = np.array([[0, 100, 8, 8], [100, 0, 8, 8]], np.uint8)[..., None].repeat(3, axis=-1)
    labels = np.zeros((2, 4), np.uint8)
    quarter_turn = [[0, -2, 2], [2, 0, 0]]
    shown, _ = cut_window(image, labels, quarter_turn, size=(2, 1))
    np.testing.assert_array_equal(shown[..., 0], [[50], [8]])


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 7])
def test_a_reduced_picture_is_antialiased(scale):
    checks = (255 * (np.indices((84, 84)).sum(axis=0) % 2)).astype(np.uint8)
    image = np.repeat(checks[..., None], 3, axis=-1)
    size = (round(84 * scale),) * 2
    [(shown, _)] = augment_many(1, image=image, labels=checks, size=size)
    assert np.abs(shown.astype(float) - 127.5).max() < 20  # bilinear alone shows 0 or 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_geometry_is_that_of_scipy(dtype):
    random = np.random.default_rng(0)
    image = ndimage.gaussian_filter(random.uniform(0, 255, (40, 50, 3)), (3, 3, 0))
    image = (128 + 4 * (image - 128)).round().clip(0, 255).astype(np.uint8)
    labels = random.integers(0, 250, (40, 50)).astype(dtype) + (300 if dtype == np.uint16 else 0)
    augmentation = Augmentation(
        **{**GEOMETRY, "scale": (1, 2)}, size=(30, 36)
    )  # nothing is averaged
    ignore_label = 255 if dtype == np.uint8 else 700
    for _ in range(20):
        matrix = draw_window(random, labels, augmentation, ignore_label)
        shown, ids = cut_window(image, labels, matrix, size=(30, 36), ignore_label=ignore_label)
        options = {"offset": matrix @ (0.5, 0.5, 1) - 0.5, "output_shape": (30, 36)}
        expected = ndimage.affine_transform(
            labels, matrix[:, :2], order=0, mode="grid-constant", cval=ignore_label, **options
        )
        # SciPy's centres on a pixel's edge, and Pillow's 16 bits after the point, may differ.
        assert (ids == expected).mean() > 0.99
        valid = ids != ignore_label
        for i in range(3):
            channel = ndimage.affine_transform(
                image[..., i].astype(float), matrix[:, :2], order=1, mode="nearest", **options
            )
            assert np.abs(shown[..., i] - channel)[valid].max() < 2.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
@pytest.mark.parametrize("size", [None, (64, 64)])
def test_image_and_labels_move_together(dtype, size):
    checked = 0
    for seed in range(40):
        image, labels = draw_blocks(seed, side=32, dtype=dtype)
        augmentation = Augmentation(**GEOMETRY, size=size)
        shown, ids = augment_pair(image, labels, seed=0, epoch=0, index=seed,
                                  augmentation=augmentation, ignore_label=7)  # fmt: skip
        inside = within_regions(ids) & (ids != 7)
        expected = 40 * ids[inside].astype(int)
        assert np.abs(shown[inside].astype(int) - expected[:, None]).max(initial=0) <= 1
        checked += inside.mean()
    assert checked > 12  # of 40 pictures' area


def test_no_class_is_invented_and_outside_is_ignored():
    ids_seen, outside = set(), 0
    for seed in range(60):
        image, labels = draw_blocks(seed)
        labels[labels == 3] = 5
        [(_, ids)] = augment_many(1, image=image, labels=labels, ignore_label=255,
                                  **{**GEOMETRY, "scale": (0.3, 3), "rotation": 180})  # fmt: skip
        ids_seen |= set(np.unique(ids).tolist())
        outside += (ids == 255).mean()
    assert ids_seen <= {0, 1, 2, 4, 5, 255}
    assert 255 in ids_seen


def test_labels_beyond_255_keep_their_values():
    labels = np.array([[300, 65535, 0]], np.uint16).repeat(3, axis=0)
    image = np.zeros((3, 3, 3), np.uint8)
    _, ids = cut_window(image, labels, [[1, 0, 0], [0, 1, 1]], size=(3, 3), ignore_label=1000)
    np.testing.assert_array_equal(ids, np.array([[65535, 0, 1000]]).repeat(3, axis=0))


EXTREMES = [
    {"scale": (0.01, 0.01)},
    {"scale": (100, 100)},
    {"scale": (0.01, 100), "aspect": 10, "rotation": 180, "shift": 1},
    {"scale": (0.01, 100), "aspect": 10, "rotation": 180, "shift": 1, "native": True, "size": 40},
    {"shift": 1},
    {"rotation": 180, "size": (1, 1)},
    {"size": (1, 90), "rotation": 180},
]


@pytest.mark.parametrize("options", EXTREMES, ids=str)
@pytest.mark.parametrize("shape", [(24, 32), (1, 9), (1, 1)])
def test_extreme_geometry_shows_nothing_but_the_picture_and_ignored_labels(options, shape):
    random = np.random.default_rng(0)
    image = np.full((*shape, 3), 77, np.uint8)
    labels = random.integers(0, 3, shape).astype(np.uint8)
    for focus in (0, 1):
        for changed, ids in augment_many(30, image=image, labels=labels, ignore_label=9,
                                         **options, focus=focus):  # fmt: skip
            assert set(np.unique(ids)) <= {*np.unique(labels), 9}
            assert set(np.unique(changed)) <= {77, 128}


@pytest.mark.parametrize("options", EXTREMES, ids=str)
def test_without_an_ignored_label_the_window_stays_inside(options):
    labels = np.zeros((24, 32), np.uint8)
    augmentation = Augmentation(**NOTHING, **options)
    size = np.array(augmentation.size or labels.shape)
    random = np.random.default_rng(0)
    for _ in range(60):
        matrix = draw_window(random, labels, augmentation, None)
        corners = np.array([[0, 0, 1], [0, size[1], 1], [size[0], 0, 1], [*size, 1]])
        places = corners @ matrix.T
        assert (places > -1e-9).all()
        assert (places < np.array(labels.shape) + 1e-9).all()


def test_without_an_ignored_label_no_label_is_added():
    labels = np.full((24, 32), 5, np.uint8)
    image = np.full((24, 32, 3), 200, np.uint8)
    for changed, ids in augment_many(100, image=image, labels=labels, **GEOMETRY):
        assert (ids == 5).all()
        assert (changed == 200).all()


# Geometry: what is drawn


def measure_windows(shape=(100, 200), count=500, ignore_label=9, **options):
    """Matrices drawn for a picture, and the scale of each window's rows and columns."""
    random, augmentation = np.random.default_rng(0), Augmentation(**{**NOTHING, **options})
    labels = np.zeros(shape, np.uint8)
    matrices = np.stack(
        [draw_window(random, labels, augmentation, ignore_label) for _ in range(count)]
    )
    return matrices, 1 / np.linalg.norm(matrices[:, :, :2], axis=1)


def test_about_half_are_mirrored_and_only_left_to_right():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    labels = np.arange(6).reshape(2, 3)
    mirrored = 0
    for changed, ids in augment_many(image=image, labels=labels, flip=0.5):
        step = 1 if ids[0, 0] == 0 else -1
        np.testing.assert_array_equal(ids, labels[:, ::step])
        np.testing.assert_array_equal(changed, image[:, ::step])
        mirrored += step == -1
    assert 160 < mirrored < 240  # 4 standard deviations of 400 fair coins


@pytest.mark.parametrize(("flip", "step"), [(0, 1), (1, -1)])
def test_flip_is_a_probability(flip, step):
    assert all((ids == COLUMNS[:, ::step]).all() for _, ids in augment_many(50, flip=flip))


def test_scale_is_drawn_log_uniformly():
    _, scales = measure_windows(scale=(0.5, 4))
    np.testing.assert_allclose(scales[:, 0], scales[:, 1])
    logs = np.log(scales[:, 0])
    assert logs.min() >= np.log(0.5)
    assert logs.max() <= np.log(4)
    expected = np.log([0.5 * 8**share for share in (0.25, 0.5, 0.75)])
    np.testing.assert_allclose(np.quantile(logs, (0.25, 0.5, 0.75)), expected, atol=0.15)


def test_aspect_changes_width_over_height_and_not_the_area():
    _, scales = measure_windows(aspect=2)
    ratio = np.log2(scales[:, 1] / scales[:, 0])
    np.testing.assert_allclose(scales.prod(axis=1), 1)
    assert -1 <= ratio.min() < -0.95
    assert 0.95 < ratio.max() <= 1
    assert abs(ratio.mean()) < 0.1


def test_rotation_turns_by_its_degrees_to_either_side():
    matrices, _ = measure_windows(rotation=20)
    degrees = np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    assert -20 <= degrees.min() < -19
    assert 19 < degrees.max() <= 20
    np.testing.assert_allclose(matrices @ (50, 100, 1), [[50, 100]] * 500)  # about the centre


@pytest.mark.parametrize("scale", [0.5, 2])
def test_windows_lie_anywhere_in_the_picture_and_small_pictures_anywhere_in_the_window(scale):
    matrices, _ = measure_windows(scale=(scale, scale))
    first = matrices[:, :, 2]
    free = np.array([100, 200]) * (1 - 1 / scale)
    low, high = np.minimum(free, 0), np.maximum(free, 0)
    assert (first >= low - 1e-9).all()
    assert (first <= high + 1e-9).all()
    np.testing.assert_allclose(first.mean(axis=0), free / 2, atol=8)
    np.testing.assert_allclose(first.min(axis=0), low, atol=3)
    np.testing.assert_allclose(first.max(axis=0), high, atol=3)


def test_shift_moves_the_window_beyond_by_a_share_of_its_sides():
    matrices, _ = measure_windows(shift=0.1)
    moved = np.abs(matrices[:, :, 2]) / (100, 200)
    assert moved.max() <= 0.1 + 1e-9
    assert moved.max() > 0.098


def test_at_scale_1_a_window_shows_the_whole_picture_or_its_own_pixels():
    matrices, _ = measure_windows(count=1, size=(50, 50))
    np.testing.assert_allclose(matrices[0], [[2, 0, 0], [0, 4, 0]])
    matrices, scales = measure_windows(size=(50, 50), native=True)
    np.testing.assert_allclose(scales, 1)
    first = matrices[:, :, 2]
    assert first.min() >= 0
    assert (first <= (50, 150)).all()


# Focus


def draw_rare(place=(30, 41)):
    """Class 0 everywhere, class 1 in one pixel, the ignored class 9 in the corner."""
    labels = np.zeros((64, 80), np.uint8)
    labels[place] = 1
    labels[:8, :8] = 9
    return np.zeros((64, 80, 3), np.uint8), labels


def test_focus_centres_on_a_pixel_of_the_class():
    image, labels = draw_rare()
    for _, ids in augment_many(40, image=image, labels=labels, ignore_label=9, size=(15, 15),
                               native=True, focus=1, focus_weights=[0, 1]):  # fmt: skip
        assert ids[7, 7] == 1


def test_focus_favours_rare_classes_and_never_the_ignored_one():
    image, labels = draw_rare()
    results = augment_many(image=image, labels=labels, ignore_label=9, size=(15, 15), native=True,
                           focus=1)  # fmt: skip
    centred = sum(ids[7, 7] == 1 for _, ids in results)
    assert 160 < centred < 240  # one of two classes, 4 standard deviations
    half = augment_many(image=image, labels=labels, ignore_label=9, size=(15, 15), native=True,
                        focus=0.5)  # fmt: skip
    assert 65 < sum(ids[7, 7] == 1 for _, ids in half) < 135
    assert all(ids[7, 7] != 9 for _, ids in results)


def test_focus_goes_no_further_than_the_window_can():
    image, labels = draw_rare(place=(0, 79))
    for _, ids in augment_many(20, image=image, labels=labels, ignore_label=9, size=(15, 15),
                               native=True, focus=1, focus_weights=[0, 1]):  # fmt: skip
        assert ids[0, 14] == 1
        assert (ids != 9).all()


def test_focus_does_nothing_where_there_is_nothing_to_focus_on():
    image, labels = draw_rare()
    options = {"image": image, "ignore_label": 9, "size": (15, 15), "native": True}
    cases = {(0, 0): labels, None: np.full_like(labels, 9), (0, 0, 1): labels}
    for weights, ids in cases.items():
        plain = augment_many(20, labels=ids, **options)
        focused = augment_many(20, labels=ids, focus=1, focus_weights=weights, **options)
        for (_, first), (_, second) in zip(plain, focused, strict=True):
            np.testing.assert_array_equal(first, second)


def test_weights_decide_which_class_is_chosen():
    labels = np.array([[0, 1, 2, 2, 2, 9]])
    places = np.linspace(0, 0.999, 400)
    found = [find_focus(labels, place, 0.5, (1, 0, 3), 9)[1] for place in places]
    assert found.count(0.5) == 100
    assert found.count(3.5) == 300
    assert find_focus(labels, 0.999, 0.999, None, None).tolist() == [0.5, 5.5]


def test_missing_focus_weights_are_named():
    with pytest.raises(ValueError, match="received 2 but labels hold class 2"):
        find_focus(np.array([[0, 1, 2]]), 0.5, 0.5, (1, 1))


# Colours


@pytest.mark.parametrize(
    ("options", "color", "expected"),
    [
        ({"brightness": 0.2}, (10, 20, 30), (61, 71, 81)),
        ({"brightness": -0.1}, (100, 200, 30), (74.5, 174.5, 4.5)),
        ({"contrast": 0.5}, (128, 138, 108), (128, 143, 98)),
        ({"contrast": -1}, (1, 2, 3), (128, 128, 128)),
        ({"saturation": -1}, (30, 60, 90), (60, 60, 60)),
        ({"saturation": 1}, (50, 60, 70), (40, 60, 80)),
        ({"hue": 120}, (200, 30, 10), (10, 200, 30)),
        ({"hue": -120}, (200, 30, 10), (30, 10, 200)),
        ({"hue": 77}, (50, 50, 50), (50, 50, 50)),
    ],
)
def test_color_matrix_known_answers(options, color, expected):
    np.testing.assert_allclose(color_matrix(**options) @ (*color, 1), expected)


def test_hue_turns_by_its_degrees():
    color = np.array([140, 120, 110])
    turned = color_matrix(hue=60) @ (*color, 1)
    hues = [colorsys.rgb_to_hsv(*channels)[0] for channels in (color, turned)]
    assert 360 * (hues[1] - hues[0]) == pytest.approx(60, abs=1)


def test_hue_and_saturation_keep_the_mean_of_the_channels():
    matrix = color_matrix(saturation=0.4, hue=33)
    np.testing.assert_allclose(matrix[:, :3].sum(axis=0), 1)
    np.testing.assert_allclose(matrix[:, 3], 0)


def test_brightness_and_contrast_stay_within_their_bounds_and_reach_them():
    changed = np.stack([im[0, :, 0] for im, _ in augment_many(brightness=0.1, contrast=0.2)])
    offset = np.arange(256) - 128.0
    bound = 0.2 * np.abs(offset) + 25.5 + 0.5
    shown = changed.astype(float)
    assert (np.abs(shown - np.arange(256)) <= bound).all()
    assert shown[:, 128].min() < 128 - 24
    assert shown[:, 128].max() > 128 + 24
    slopes = (shown[:, 158] - shown[:, 98]) / 60
    assert 0.79 < slopes.min() < 0.82
    assert 1.18 < slopes.max() < 1.22
    assert (np.diff(shown, axis=1) >= 0).all()
    assert np.abs(np.corrcoef(slopes, shown[:, 128])[0, 1]) < 0.2


def test_brightness_saturates_and_does_not_wrap():
    changed = np.stack([image for image, _ in augment_many(100, brightness=1, contrast=1)])
    assert (np.diff(changed[:, 0, :, 0].astype(int), axis=1) >= 0).all()
    assert changed.min() == 0
    assert changed.max() == 255


def test_colours_leave_the_labels_alone():
    for _, ids in augment_many(20, brightness=1, saturation=1, hue=180, blur=3, noise=50):
        np.testing.assert_array_equal(ids, COLUMNS)


def test_blur_is_gaussian_up_to_its_largest_deviation():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (64, 64, 3), np.uint8)
    labels = np.zeros((64, 64), np.uint8)
    spreads = np.array([changed.std() for changed, _ in
                        augment_many(60, image=image, labels=labels, blur=2)])  # fmt: skip
    untouched = (spreads == image.std()).mean()
    assert 0.3 < untouched < 0.7
    largest = ndimage.gaussian_filter(image.astype(float), (2, 2, 0)).std()
    assert largest * 0.9 < spreads.min() < largest * 1.3
    always = augment_many(20, image=image, labels=labels, blur=2, blur_probability=1)
    assert sum((changed != image).any() for changed, _ in always) > 16


def test_noise_is_normal_and_its_deviation_uniform():
    grey = np.full((64, 64, 3), 128, np.uint8)
    random = np.random.default_rng(0)
    augmentation = Augmentation(**NOTHING, noise=20, noise_probability=1)
    offsets = [change_colors(random, grey, augmentation) - 128.0 for _ in range(200)]
    deviations = np.array([offset.std() for offset in offsets])
    assert deviations.max() < 20.5
    np.testing.assert_allclose(np.quantile(deviations, (0.25, 0.5, 0.75)), (5, 10, 15), atol=2)
    loud = max(offsets, key=np.std)
    assert abs(loud.mean()) < 0.5
    np.testing.assert_allclose(  # within one and two deviations
        [(np.abs(loud) < k * loud.std()).mean() for k in (1, 2)], (0.683, 0.954), atol=0.02
    )
    assert abs(np.corrcoef(loud[..., 0].ravel(), loud[..., 1].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(loud[:-1].ravel(), loud[1:].ravel())[0, 1]) < 0.05


# Mixing

TWO = ClassTable(["a", "b", "c"], [(i, i, i) for i in range(3)], ignore_label=2)


def mix_many(count=200, *, classes=TWO, **options):
    """Pairs of class 0 in black, mixed with one of class 1 in white."""
    images = np.stack([np.zeros((8, 10, 3), np.uint8), np.full((8, 10, 3), 255, np.uint8)])
    labels = np.stack([np.zeros((8, 10), np.uint8), np.ones((8, 10), np.uint8)])
    split = PreparedSplit(images, labels, ["a", "b"], classes)
    augmentation = Augmentation(**{**NOTHING, **options})
    return [
        augment_pair(*split[0], seed=0, epoch=0, index=index, augmentation=augmentation,
                     ignore_label=classes.ignore_label, partners=split)
        for index in range(count)
    ]  # fmt: skip


def test_soft_labels_known_answers():
    labels = np.array([[0, 1, 2], [255, 2, 255]], np.uint8)
    soft = soften([(labels, 1.0)], num_classes=3, ignore_label=255)
    np.testing.assert_array_equal(soft[0], np.eye(3))
    np.testing.assert_array_equal(soft[1], [[0, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert soft.dtype == np.float32
    within = soften([(labels[:1], 1.0)], num_classes=3, ignore_label=2)
    np.testing.assert_array_equal(within, [[[1, 0, 0], [0, 1, 0], [0, 0, 0]]])


def test_a_blend_known_answer():
    first = np.full((1, 3, 3), 100, np.uint8), np.array([[0, 0, 9]])
    second = np.full((1, 3, 3), 200, np.uint8), np.array([[1, 9, 9]])
    image, soft = blend_pairs(first, second, share=0.75, num_classes=2, ignore_label=9)
    np.testing.assert_array_equal(image, np.full((1, 3, 3), 125))
    np.testing.assert_array_equal(soft, [[[0.75, 0.25], [0.75, 0], [0, 0]]])


def test_mixup_blends_image_and_labels_by_the_same_share():
    shares = []
    for image, soft in mix_many(mixup=1, mixup_alpha=1):
        assert (soft.shape, soft.dtype) == ((8, 10, 3), np.float32)
        np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-6)
        share = soft[0, 0, 1]
        np.testing.assert_array_equal(soft, np.broadcast_to(soft[0, 0], soft.shape))
        assert np.abs(image - 255 * share).max() <= 1
        shares.append(share)
    assert 0.3 < np.mean(np.array(shares) == 0) < 0.7  # the partner was the pair itself
    assert np.quantile([share for share in shares if share], 0.5) == pytest.approx(0.5, abs=0.15)


def test_all_pairs_are_soft_where_mixup_is_possible():
    results = mix_many(mixup=0.2, cutmix=0.3)
    assert {soft.dtype.name for _, soft in results} == {"float32"}
    for image, soft in results:
        np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-6)
        assert np.abs(image - 255 * soft[..., 1:2]).max() <= 1
    whole = np.mean([np.isin(soft, (0, 1)).all() for _, soft in results])
    assert 0.8 < whole < 0.97  # a blend in 0.2 of all, half of them with itself


def test_cutmix_pastes_a_box_of_the_drawn_area():
    areas = []
    for image, ids in mix_many(400, cutmix=1):
        assert ids.dtype == np.uint8
        rows, columns = np.nonzero(ids)
        if len(rows):
            box = ids[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (box == 1).all()  # a box, and nothing outside of it
        np.testing.assert_array_equal(image[..., 0], 255 * ids)
        areas.append(ids.mean())
    assert 0.18 < np.mean(areas) < 0.32  # half of a half: a uniform share, half with itself


def test_mixing_is_as_frequent_as_asked():
    for options in ({"cutmix": 0.4}, {"mixup": 0.4}, {"mixup": 0.2, "cutmix": 0.2}):
        results = mix_many(600, **options)
        mixed = np.mean([image.max() > 0 for image, _ in results])
        assert 0.1 < mixed < 0.26  # 0.4, half of them with itself; rounding hides small shares


def test_what_is_drawn_for_a_pair_is_the_same_whether_it_is_mixed_or_not():
    split = make_split(3, 0)
    changed = []
    for mixing in ({}, {"cutmix": 0.01}):
        augmentation = Augmentation(**{**ALL, "mixup": 0, "cutmix": 0, **mixing})
        changed.append([augment_pair(*split[0], seed=0, epoch=0, index=index, ignore_label=2,
                                     augmentation=augmentation, partners=split)[0]
                        for index in range(20)])  # fmt: skip
    same = [np.array_equal(a, b) for a, b in zip(*changed, strict=True)]
    assert sum(same) >= 19


def test_boxes_lie_inside_and_have_their_area():
    random = np.random.default_rng(0)
    for area in (0, 0.1, 0.5, 1):
        for _ in range(50):
            rows, columns = draw_box(random, (40, 60), area)
            assert 0 <= rows.start <= rows.stop <= 40
            assert 0 <= columns.start <= columns.stop <= 60
            covered = (rows.stop - rows.start) * (columns.stop - columns.start) / 2400
            assert covered == pytest.approx(area, abs=0.02)


def test_pasting_makes_new_arrays():
    first = np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3), np.uint8)
    second = np.full((3, 3, 3), 9, np.uint8), NINE
    image, labels = paste_box(first, second, (slice(0, 2), slice(1, 2)))
    np.testing.assert_array_equal(labels, [[0, 2, 0], [0, 5, 0], [0, 0, 0]])
    np.testing.assert_array_equal(image[..., 0], 9 * (labels > 0))
    assert not first[1].any()


def test_a_class_is_pasted_wherever_the_other_pair_shows_it():
    first = np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3), np.uint8)
    second = np.full((3, 3, 3), 9, np.uint8), NINE
    image, labels = paste_class(first, second, 5)
    np.testing.assert_array_equal(labels, 5 * (NINE == 5))
    np.testing.assert_array_equal(image[..., 0], 9 * (NINE == 5))
    assert not first[1].any()


def test_pasting_draws_classes_by_their_weights_and_leaves_the_ignored_one():
    table = ClassTable(list("abcd"), [(i, i, i) for i in range(4)], ignore_label=3)
    labels = np.array([[[0, 0, 0, 0]], [[0, 1, 2, 3]]], np.uint8)
    images = np.stack([np.zeros((1, 4, 3), np.uint8), np.full((1, 4, 3), 255, np.uint8)])
    split = PreparedSplit(images, labels, ["none", "all"], table)
    for weights, expected in (((0, 1, 0, 9), {(0, 1, 0, 0)}), (None, {(0, 1, 0, 0), (0, 0, 2, 0)})):
        augmentation = Augmentation(**NOTHING, paste=1, paste_weights=weights)
        found = {
            tuple(ids[0].tolist())
            for index in range(60)
            for image, ids in [augment_pair(*split[0], seed=0, epoch=0, index=index,
                               augmentation=augmentation, ignore_label=3, partners=split)]
            if np.array_equal(image[..., 0] > 0, ids > 0) or not ids.any()
        }  # fmt: skip
        assert found == expected | {(0, 0, 0, 0)}


def test_partners_are_changed_as_well_and_in_their_own_way():
    split = make_split(2, 0)
    augmentation = Augmentation(**{**NOTHING, "hue": 180, "cutmix": 1})
    images = [augment_pair(*split[0], seed=0, epoch=0, index=index, ignore_label=2,
                           augmentation=augmentation, partners=split[1:])[0]
              for index in range(8)]  # fmt: skip
    assert len({image.tobytes() for image in images}) == 8


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": 1.5}, r"expected flip to be a number in \[0, 1\], received 1\.5"),
        ({"flip": True}, r"flip to be a number in \[0, 1\], received True"),
        ({"noise": "loud"}, r"noise to be a number in \[0, 255\], received 'loud'"),
        ({"rotation": -3}, r"rotation to be a number in \[0, 180\], received -3"),
        ({"hue": float("nan")}, "hue to be a number"),
        ({"mixup_alpha": 0}, r"mixup_alpha to be a number in \[0\.01, 100\]"),
        ({"aspect": 0.5}, r"aspect to be a number in \[1, 10\]"),
        ({"scale": (2, 1)}, r"scale to be \(lowest, highest\) factors .*received \(2, 1\)"),
        ({"scale": 2}, r"scale to be \(lowest, highest\)"),
        ({"scale": (0, 1)}, r"within \[0\.01, 100\]"),
        ({"size": (0, 5)}, r"size to be \(height, width\) in whole pixels.*received \(0, 5\)"),
        ({"size": 4.5}, "in whole pixels"),
        ({"size": (4, 5, 3)}, "in whole pixels"),
        ({"native": 0.5}, "native to be True or False, received 0.5"),
        ({"focus_weights": [1, -1]}, "focus_weights to be a finite number of at least 0"),
        (
            {"mixup": 0.6, "cutmix": 0.6},
            r"cutmix \+ paste of at most 1, received 0\.6 \+ 0\.6 \+ 0",
        ),
        ({"paste": 1.5}, r"expected paste to be a number in \[0, 1\]"),
        ({"paste_weights": [np.inf]}, "paste_weights to be a finite number"),
    ],
)
def test_wrong_options_say_what_was_expected(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": LEVELS.astype(np.float32)}, "expected a uint8 image .*received float32"),
        ({"image": LEVELS[:, :9]}, r"received uint8 \(1, 9, 3\) and int64 \(1, 256\)"),
        ({"labels": COLUMNS.astype(float)}, "integer labels .*float64"),
        ({"ignore_label": 300, "labels": COLUMNS.astype(np.uint8)}, "uint8 cannot hold .*300"),
        ({"augmentation": Augmentation(cutmix=0.1)}, "expected partners to be a PreparedSplit"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(change, message):
    usual = {"image": LEVELS, "labels": COLUMNS, "seed": 0, "epoch": 0, "index": 0}
    with pytest.raises(ValueError, match=message):
        augment_pair(**usual | change)


def test_options_go_to_json_and_back():
    augmentation = Augmentation(size=np.int64(64), scale=[0.5, 2], focus_weights=np.ones(3))
    assert augmentation.size == (64, 64)
    assert augmentation.scale == (0.5, 2)
    assert Augmentation(**json.loads(json.dumps(augmentation.to_dict()))) == augmentation
    assert hash(augmentation) is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        augmentation.flip = 1


def test_true_means_the_defaults_and_false_nothing():
    assert choose_augmentation(True) == Augmentation()
    assert choose_augmentation(False) is None
    chosen = Augmentation(flip=0)
    assert choose_augmentation(chosen) is chosen
    with pytest.raises(ValueError, match=r"True, False or a seglib\.Augmentation.*received 'yes'"):
        choose_augmentation("yes")


def test_the_package_offers_both_names():
    assert seglib.Augmentation is Augmentation
    assert seglib.augment_pair is augment_pair
    assert TABLE.ignore_label == 2
