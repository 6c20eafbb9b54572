import concurrent.futures
import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage
from small_runs import make_split

from seglib.augment import (
    Augmentation,
    augment_pair,
    blend_pairs,
    choose_augmentation,
    color_matrix,
    cut_window,
    draw_window,
    find_class,
)
from seglib.classes import ClassTable
from seglib.images import resize_image
from seglib.preparing import PreparedSplit

LEVELS = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
COLUMNS = np.arange(256).reshape(1, 256)
NOTHING = {"flip": 0, "brightness": 0, "contrast": 0}
GEOMETRY = {**NOTHING, "flip": 0.5, "scale": (0.5, 2), "aspect": 1.3, "rotation": 30}
ALL = {**GEOMETRY, "brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 20, "blur": 1,
       "noise": 9, "focus": 0.5, "mixup": 0.3, "cutmix": 0.3}  # fmt: skip
NINE = np.arange(1, 10, dtype=np.uint8).reshape(3, 3)


def augment_many(count=400, *, image=LEVELS, labels=COLUMNS, ignore_label=None, **options):
    given = {"augmentation": Augmentation(**{**NOTHING, **options}), "ignore_label": ignore_label}
    return [augment_pair(image, labels, seed=0, epoch=0, index=i, **given) for i in range(count)]


def draw_blocks(seed=0, *, blocks=(4, 5), side=16, classes=6, dtype=np.uint8):
    """A picture of flat blocks whose grey value is 40 times the class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, blocks).repeat(side, axis=0).repeat(side, axis=1)
    image = np.repeat((40 * labels).astype(np.uint8)[..., None], 3, axis=-1)
    return image, labels.astype(dtype)


# The stream


def test_the_result_is_a_function_of_seed_epoch_and_index():
    split, augmentation = make_split(6, 0), Augmentation(**ALL)

    def augment(key):
        options = {"augmentation": augmentation, "ignore_label": 2, "partners": split}
        return augment_pair(*split[key[1]], seed=3, epoch=key[0], index=key[1], **options)

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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_shapes_and_dtypes_are_kept_and_inputs_unchanged(dtype):
    image, labels = draw_blocks(dtype=dtype)
    for array in (image, labels):
        array.setflags(write=False)  # as memory-mapped arrays are
    options = {**ALL, "mixup": 0, "cutmix": 0}
    for size, shape in ((None, (64, 80)), ((20, 30), (20, 30)), (9, (9, 9))):
        pairs = augment_many(10, image=image, labels=labels, ignore_label=255, size=size, **options)
        for changed, ids in pairs:
            assert (changed.shape, changed.dtype) == ((*shape, 3), np.uint8)
            assert (ids.shape, ids.dtype) == (shape, dtype)


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


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_geometry_is_that_of_scipy(dtype):
    random = np.random.default_rng(0)
    image = ndimage.gaussian_filter(random.uniform(0, 255, (40, 50, 3)), (3, 3, 0))
    image = (128 + 4 * (image - 128)).round().clip(0, 255).astype(np.uint8)
    labels = random.integers(0, 250, (40, 50)).astype(dtype) + (300 if dtype == np.uint16 else 0)
    augmentation = Augmentation(**{**GEOMETRY, "scale": (1, 2)}, size=(30, 36))  # not averaged
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


EXTREMES = [
    {"scale": (0.01, 0.01)},
    {"scale": (100, 100)},
    {"scale": (0.01, 100), "aspect": 10, "rotation": 180},
    {"scale": (0.01, 100), "aspect": 10, "rotation": 180, "native": True, "size": 40},
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
        given = {"image": image, "labels": labels, "ignore_label": 9, "focus": focus, **options}
        for changed, ids in augment_many(10, **given):
            assert set(np.unique(ids)) <= {*np.unique(labels), 9}
            assert set(np.unique(changed)) <= {77, 128}


@pytest.mark.parametrize("options", EXTREMES, ids=str)
def test_without_an_ignored_label_the_window_stays_inside(options):
    labels = np.zeros((24, 32), np.uint8)
    augmentation = Augmentation(**NOTHING, **options)
    size = np.array(augmentation.size or labels.shape)
    random = np.random.default_rng(0)
    for _ in range(20):
        matrix = draw_window(random, labels, augmentation, None)
        corners = np.array([[0, 0, 1], [0, size[1], 1], [size[0], 0, 1], [*size, 1]])
        places = corners @ matrix.T
        assert (places > -1e-9).all()
        assert (places < np.array(labels.shape) + 1e-9).all()


# Geometry: what is drawn


def test_at_scale_1_a_window_shows_the_whole_picture_or_its_own_pixels():
    random, labels = np.random.default_rng(0), np.zeros((100, 200), np.uint8)
    whole = draw_window(random, labels, Augmentation(**NOTHING, size=(50, 50)), 9)
    np.testing.assert_allclose(whole, [[2, 0, 0], [0, 4, 0]])
    native = Augmentation(**NOTHING, size=(50, 50), native=True)
    matrices = np.stack([draw_window(random, labels, native, 9) for _ in range(500)])
    np.testing.assert_allclose(matrices[:, :, :2], np.broadcast_to(np.eye(2), (500, 2, 2)))
    assert (matrices[:, :, 2].min(axis=0) >= 0).all()
    assert (matrices[:, :, 2].max(axis=0) <= (50, 150)).all()


# Focus


def augment_rare(count=400, **options):
    """Windows of class 0 everywhere, class 1 in one pixel, the ignored class 9 in the corner."""
    labels = np.zeros((64, 80), np.uint8)
    labels[30, 41], labels[:8, :8] = 1, 9
    given = {"image": np.zeros((64, 80, 3), np.uint8), "labels": labels, "ignore_label": 9}
    return [ids for _, ids in augment_many(count, **given, size=15, native=True, **options)]


def test_focus_centres_on_pixels_favours_rare_classes_and_never_the_ignored_one():
    assert all(ids[7, 7] == 1 for ids in augment_rare(40, focus=1, focus_weights=[0, 1]))
    centres = [ids[7, 7] for ids in augment_rare(focus=1)]
    assert 160 < centres.count(1) < 240  # one of two classes, 4 standard deviations
    assert 65 < [ids[7, 7] for ids in augment_rare(focus=0.5)].count(1) < 135
    assert 9 not in centres


def test_weights_decide_which_class_is_chosen():
    labels = np.array([[0, 1, 2, 2, 2, 9]])
    found = [find_class(labels, place, (1, 0, 3), 9) for place in np.linspace(0, 0.999, 400)]
    assert (found.count(0), found.count(2)) == (100, 300)
    assert find_class(labels, 0.999, None, None) == 9
    assert find_class(labels, 0.5, (0, 0, 0), 9) is None


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


def test_every_second_picture_has_normal_noise_of_uniform_deviation():
    grey, labels = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)
    noisy = augment_many(300, image=grey, labels=labels, noise=20)
    offsets = [image - 128.0 for image, _ in noisy if (image != 128).any()]
    assert 110 < len(offsets) < 190
    deviations = np.array([offset.std() for offset in offsets])
    assert deviations.max() < 20.5
    np.testing.assert_allclose(np.quantile(deviations, (0.25, 0.5, 0.75)), (5, 10, 15), atol=2.5)
    loud = max(offsets, key=np.std)
    np.testing.assert_allclose(  # within one and two deviations
        [(np.abs(loud) < k * loud.std()).mean() for k in (1, 2)], (0.683, 0.954), atol=0.02
    )
    assert abs(np.corrcoef(loud[..., 0].ravel(), loud[..., 1].ravel())[0, 1]) < 0.05


# Mixing

TWO = ClassTable(["a", "b", "c"], [(i, i, i) for i in range(3)], ignore_label=2)


def mix_many(count=200, **options):
    """Pairs of class 0 in black, mixed with one of class 1 in white."""
    labels = np.array([0, 1], np.uint8)[:, None, None].repeat(8, 1).repeat(10, 2)
    split = PreparedSplit(255 * labels[..., None].repeat(3, -1), labels, ["a", "b"], TWO)
    given = {"augmentation": Augmentation(**{**NOTHING, **options}), "partners": split}
    given["ignore_label"] = 2
    return [augment_pair(*split[0], seed=0, epoch=0, index=i, **given) for i in range(count)]


def test_a_blend_known_answer():
    first = np.full((1, 3, 3), 100, np.uint8), np.array([[0, 0, 9]])
    second = np.full((1, 3, 3), 200, np.uint8), np.array([[1, 9, 9]])
    image, soft = blend_pairs(first, second, share=0.75, num_classes=2, ignore_label=9)
    np.testing.assert_array_equal(image, np.full((1, 3, 3), 125))
    np.testing.assert_array_equal(soft, [[[0.75, 0.25], [0.75, 0], [0, 0]]])


def test_mixup_blends_image_and_labels_by_the_same_share():
    shares = []
    for image, soft in mix_many(mixup=1):
        assert (soft.shape, soft.dtype) == ((8, 10, 3), np.float32)
        np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-6)
        share = soft[0, 0, 1]
        np.testing.assert_array_equal(soft, np.broadcast_to(soft[0, 0], soft.shape))
        assert np.abs(image - 255 * share).max() <= 1
        shares.append(share)
    assert 0.3 < np.mean(np.array(shares) == 0) < 0.7  # the partner was the pair itself
    assert np.mean([0.1 < share < 0.9 for share in shares if share]) < 0.75  # Beta(0.4, 0.4)


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


def test_pasting_draws_classes_by_their_weights_and_leaves_the_ignored_one():
    table = ClassTable(list("abcd"), [(i, i, i) for i in range(4)], ignore_label=3)
    labels = np.array([[[0, 0, 0, 0]], [[0, 1, 2, 3]]], np.uint8)
    images = np.stack([np.zeros((1, 4, 3), np.uint8), np.full((1, 4, 3), 255, np.uint8)])
    split = PreparedSplit(images, labels, ["none", "all"], table)
    for weights, expected in (((0, 1, 0, 9), {(0, 1, 0, 0)}), (None, {(0, 1, 0, 0), (0, 0, 2, 0)})):
        augmentation, found = Augmentation(**NOTHING, paste=1, paste_weights=weights), set()
        given = {"augmentation": augmentation, "ignore_label": 3, "partners": split}
        for index in range(60):
            image, ids = augment_pair(*split[0], seed=0, epoch=0, index=index, **given)
            assert (image[ids > 0] == 255).all()
            found.add(tuple(ids[0].tolist()))
        assert found == expected | {(0, 0, 0, 0)}


# Options


def augment_once(**change):
    usual = {"image": LEVELS, "labels": COLUMNS, "seed": 0, "epoch": 0, "index": 0}
    return augment_pair(**usual | change)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (Augmentation, {"flip": 1.5}, r"expected flip within \[0, 1\], received 1\.5"),
        (Augmentation, {"rotation": -3}, r"rotation within \[0, 180\], received -3"),
        (Augmentation, {"hue": float("nan")}, "hue within"),
        (Augmentation, {"scale": (0, 1)}, r"scale within \[0\.01, 100\], received \(0, 1\)"),
        (
            Augmentation,
            {"mixup": 0.6, "cutmix": 0.6},
            r"cutmix \+ paste of at most 1, received 1\.2",
        ),
        (
            augment_once,
            {"image": LEVELS.astype(float)},
            "expected a uint8 image .*received float64",
        ),
        (augment_once, {"image": LEVELS[:, :9]}, r"uint8 \(1, 9, 3\) and int64 \(1, 256\)"),
        (augment_once, {"labels": COLUMNS.astype(float)}, "integer labels .*float64"),
        (augment_once, {"augmentation": Augmentation(cutmix=0.1)}, "expected partners, a Prepared"),
        (choose_augmentation, {"augment": "yes"}, r"True, False or a seglib\.Aug.*received 'yes'"),
    ],
)
def test_wrong_options_and_pairs_that_do_not_fit_are_refused(call, options, message):
    with pytest.raises(ValueError, match=message):
        call(**options)


def test_options_go_to_json_and_back():
    augmentation = Augmentation(size=np.int64(64), scale=[0.5, 2], focus_weights=np.ones(3))
    assert augmentation.size == (64, 64)
    assert augmentation.scale == (0.5, 2)
    assert Augmentation(**json.loads(json.dumps(augmentation.to_dict()))) == augmentation
    assert hash(augmentation) is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        augmentation.flip = 1
    assert choose_augmentation(True) == Augmentation()
    assert choose_augmentation(False) is None
