import concurrent.futures
import json

import numpy as np
import pytest
from scipy import ndimage
from small_runs import make_split

from seglib import augment
from seglib.augment import Augmentation, augment_pair, cut_window, draw_window
from seglib.classes import ClassTable
from seglib.images import resize_image
from seglib.preparing import PreparedSplit

PHOTO, IDS = np.zeros((8, 32, 3), np.uint8), np.zeros((8, 32), int)
NOTHING = {"flip": 0, "brightness": 0, "contrast": 0}
GEOMETRY = NOTHING | {"flip": 0.5, "scale": (0.5, 2), "aspect": 1.3, "rotation": 30}
COLORS = {"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 20, "blur": 1, "noise": 9}
ALL = GEOMETRY | COLORS | {"focus": 0.5}
NINE = np.arange(1, 10, dtype=np.uint8).reshape(3, 3)


def augment_many(count, image, labels, *, ignore_label=None, partners=None, **options):
    given = {"augmentation": Augmentation(**NOTHING | options), "partners": partners}
    given["ignore_label"] = ignore_label
    return [augment_pair(image, labels, seed=0, epoch=0, index=i, **given) for i in range(count)]


def test_the_result_is_a_function_of_seed_epoch_and_index():
    split, augmentation = make_split(6, 0), Augmentation(**ALL, mixup=0.3, cutmix=0.3)

    def change(key):
        options = {"augmentation": augmentation, "ignore_label": 2, "partners": split}
        pair = augment_pair(*split[key[1]], seed=3, epoch=key[0], index=key[1], **options)
        return [array.tobytes() for array in pair]

    keys = [(epoch, index) for epoch in range(3) for index in range(6)]
    first = [change(key) for key in keys]
    assert [change(key) for key in keys[::-1]] == first[::-1]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(change, keys)) == first
    assert len({image for image, _ in first}) == len(keys)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_shapes_and_dtypes_are_kept_and_inputs_unchanged(dtype):
    labels = np.random.default_rng(0).integers(0, 6, (64, 80)).astype(dtype)
    image = np.repeat(40 * labels[..., None].astype(np.uint8), 3, axis=-1)
    for array in (image, labels):
        array.setflags(write=False)  # as memory-mapped arrays are
    for size, shape in ((None, (64, 80)), ((20, 30), (20, 30)), (9, (9, 9))):
        for changed, ids in augment_many(10, image, labels, ignore_label=255, size=size, **ALL):
            assert (changed.shape, changed.dtype) == ((*shape, 3), np.uint8)
            assert (ids.shape, ids.dtype) == (shape, dtype)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1, 0, 0], [0, 1, 0]], NINE),
        ([[1, 0, 0], [0, -1, 3]], NINE[:, ::-1]),  # mirrored
        ([[0, 1, 0], [-1, 0, 3]], [[3, 6, 9], [2, 5, 8], [1, 4, 7]]),  # turned to the left
        ([[0, -1, 3], [1, 0, 0]], [[7, 4, 1], [8, 5, 2], [9, 6, 3]]),  # to the right
        ([[1, 0, 1], [0, 1, -1]], [[0, 4, 5], [0, 7, 8], [0, 0, 0]]),  # moved
        ([[1 / 3, 0, 1], [0, 1 / 3, 1]], np.full((3, 3), 5)),  # thrice as large
    ],
)
def test_image_and_labels_through_a_window(matrix, expected):
    shown, ids = cut_window(10 * np.dstack([NINE] * 3), NINE, matrix, size=(3, 3), ignore_label=0)
    np.testing.assert_array_equal(ids, expected)
    if matrix[0][0] != 1 / 3:  # where bilinear is not nearest
        np.testing.assert_array_equal(shown[..., 1], np.where(ids > 0, 10 * ids, 128))


@pytest.mark.parametrize("size", [(128, 128), (20, 31), (77, 40)])
def test_a_whole_picture_is_as_sharp_as_one_that_is_predicted(size):
    image = np.random.default_rng(0).integers(0, 256, (72, 90, 3), dtype=np.uint8)
    (down, right), labels = np.divide((72, 90), size), image[..., 0]
    for step, start, wanted in ((right, 0, image), (-right, 90, image[:, ::-1])):
        shown, _ = cut_window(image, labels, [[down, 0, 0], [0, step, start]], size=size)
        expected = resize_image(np.ascontiguousarray(wanted), size)
        assert np.abs(shown.astype(int) - expected).max() <= 1  # rounding of a mirrored sum


@pytest.mark.parametrize(("dtype", "start", "ignored"), [(np.uint8, 0, 255), (np.uint16, 300, 700)])
def test_geometry_is_that_of_scipy(dtype, start, ignored):
    random, size = np.random.default_rng(0), (30, 36)
    image = ndimage.gaussian_filter(random.uniform(0, 255, (40, 50, 3)), (3, 3, 0))
    image = (128 + 4 * (image - 128)).round().clip(0, 255).astype(np.uint8)
    labels = random.integers(start, start + 250, (40, 50)).astype(dtype)
    augmentation = Augmentation(**GEOMETRY | {"scale": (1, 2)}, size=size)  # not averaged
    for _ in range(20):
        matrix = draw_window(random, labels, augmentation, ignored)
        shown, ids = cut_window(image, labels, matrix, size=size, ignore_label=ignored)
        options = {"offset": matrix @ (0.5, 0.5, 1) - 0.5, "output_shape": size}
        nearest = {"order": 0, "mode": "grid-constant", "cval": ignored}
        expected = ndimage.affine_transform(labels, matrix[:, :2], **nearest, **options)
        # SciPy's centres on a pixel's edge, and Pillow's 16 bits after the point, may differ.
        assert (ids == expected).mean() > 0.99
        for i in range(3):
            channel, linear = image[..., i].astype(float), {"order": 1, "mode": "nearest"}
            expected = ndimage.affine_transform(channel, matrix[:, :2], **linear, **options)
            assert np.abs(shown[..., i] - expected)[ids != ignored].max() < 2.5


ANY = {"scale": (0.01, 100), "aspect": 10, "rotation": 180}
EXTREMES = [
    {"scale": (0.01, 0.01)},
    {"scale": (100, 100)},
    ANY,
    ANY | {"native": True, "size": 40},
    {"rotation": 180, "size": (1, 1)},
    {"rotation": 180, "size": (1, 90)},
]


@pytest.mark.parametrize("options", EXTREMES, ids=str)
@pytest.mark.parametrize("shape", [(24, 32), (1, 9), (1, 1)])
def test_extreme_windows_show_the_picture_and_ignored_labels_or_stay_inside(options, shape):
    image, random = np.full((*shape, 3), 77, np.uint8), np.random.default_rng(0)
    labels = random.integers(0, 3, shape).astype(np.uint8)
    for focus in (0, 1):
        for pair in augment_many(10, image, labels, ignore_label=9, focus=focus, **options):
            assert set(np.unique(pair[0])) <= {77, 128}
            assert set(np.unique(pair[1])) <= {*np.unique(labels), 9}
    augmentation = Augmentation(**NOTHING, **options)
    height, width = augmentation.size or shape
    corners = np.array([[0, 0, 1], [0, width, 1], [height, 0, 1], [height, width, 1]])
    for _ in range(20):
        places = corners @ draw_window(random, labels, augmentation, None).T
        assert ((places > -1e-9) & (places < np.array(shape) + 1e-9)).all()


def test_at_scale_1_a_window_shows_the_whole_picture_or_its_own_pixels():
    random, labels = np.random.default_rng(0), np.zeros((100, 200), np.uint8)
    whole = draw_window(random, labels, Augmentation(**NOTHING, size=(50, 50)), 9)
    np.testing.assert_allclose(whole, [[2, 0, 0], [0, 4, 0]])
    native = Augmentation(**NOTHING, size=(50, 50), native=True)
    matrices = np.stack([draw_window(random, labels, native, 9) for _ in range(500)])
    np.testing.assert_allclose(matrices[:, :, :2], np.broadcast_to(np.eye(2), (500, 2, 2)))
    assert ((matrices[..., 2] >= 0) & (matrices[..., 2] <= (50, 150))).all()


def test_focus_centres_on_pixels_favours_rare_classes_and_never_the_ignored_one():
    labels = np.zeros((64, 80), np.uint8)
    labels[30, 41], labels[:8, :8] = 1, 9

    def centres(count=400, **options):
        given = {"ignore_label": 9, "size": 15, "native": True}
        windows = augment_many(count, labels[..., None].repeat(3, 2), labels, **given, **options)
        return [ids[7, 7] for _, ids in windows]

    assert set(centres(40, focus=1, focus_weights=[0, 1])) == {1}
    found = centres(focus=1)
    assert 160 < found.count(1) < 240  # one of two classes, 4 standard deviations
    assert 9 not in found
    assert 65 < centres(focus=0.5).count(1) < 135


def test_weights_decide_which_class_is_chosen():
    labels = np.array([[0, 1, 2, 2, 2, 9]])
    found = [
        augment.find_class(labels, place, (1, 0, 3), 9) for place in np.linspace(0, 0.999, 400)
    ]
    assert (found.count(0), found.count(2)) == (100, 300)
    assert augment.find_class(labels, 0.999, None, None) == 9
    assert augment.find_class(labels, 0.5, (0, 0, 0), 9) is None


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
    np.testing.assert_allclose(augment.color_matrix(**options) @ (*color, 1), expected)


def test_every_second_picture_has_normal_noise_of_uniform_deviation():
    grey, labels = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)
    noisy = augment_many(300, grey, labels, noise=20)
    offsets = [image - 128.0 for image, _ in noisy if (image != 128).any()]
    assert 110 < len(offsets) < 190
    deviations = np.array([offset.std() for offset in offsets])
    assert deviations.max() < 20.5
    np.testing.assert_allclose(np.quantile(deviations, (0.25, 0.5, 0.75)), (5, 10, 15), atol=2.5)
    loud = max(offsets, key=np.std)
    # Within one and two deviations.
    within = [(np.abs(loud) < k * loud.std()).mean() for k in (1, 2)]
    np.testing.assert_allclose(within, (0.683, 0.954), atol=0.02)
    assert abs(np.corrcoef(loud[..., 0].ravel(), loud[..., 1].ravel())[0, 1]) < 0.05


HALVES = np.repeat(np.array([0, 1], np.uint8), 80).reshape(2, 8, 10)


def mix_many(count, labels, **options):
    """A black pair, mixed with itself or with a white one."""
    images = np.stack([np.full((*labels[0].shape, 3), grey, np.uint8) for grey in (0, 255)])
    table = ClassTable(list("abcd"), [(i, i, i) for i in range(4)], ignore_label=3)
    split = PreparedSplit(images, labels, ["black", "white"], table)
    return augment_many(count, *split[0], ignore_label=3, partners=split, **options)


def test_a_blend_known_answer():
    first = np.full((1, 3, 3), 100, np.uint8), np.array([[0, 0, 9]])
    second = np.full((1, 3, 3), 200, np.uint8), np.array([[1, 9, 9]])
    image, soft = augment.blend_pairs(first, second, share=0.75, num_classes=2, ignore_label=9)
    np.testing.assert_array_equal(image, np.full((1, 3, 3), 125))
    np.testing.assert_array_equal(soft, [[[0.75, 0.25], [0.75, 0], [0, 0]]])


def test_mixup_blends_image_and_labels_by_the_same_share():
    shares = []
    for image, soft in mix_many(200, HALVES, mixup=1):
        assert (soft.shape, soft.dtype) == ((8, 10, 4), np.float32)
        share = soft[0, 0, 1]
        np.testing.assert_allclose(soft, np.full(soft.shape, [1 - share, share, 0, 0]), atol=1e-6)
        assert np.abs(image - 255 * share).max() <= 1
        shares.append(share)
    assert 0.3 < np.mean(np.array(shares) == 0) < 0.7  # the partner was the pair itself
    assert np.mean([0.1 < share < 0.9 for share in shares if share]) < 0.75  # Beta(0.4, 0.4)


def test_cutmix_pastes_a_box_of_the_drawn_area():
    areas = []
    for image, ids in mix_many(400, HALVES, cutmix=1):
        assert ids.dtype == np.uint8
        rows, columns = np.nonzero(ids)
        if len(rows):
            box = ids[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (box == 1).all()  # a box, and nothing outside of it
        np.testing.assert_array_equal(image[..., 0], 255 * ids)
        areas.append(ids.mean())
    assert 0.18 < np.mean(areas) < 0.32  # half of a half: a uniform share, half with itself


def test_pasting_draws_classes_by_their_weights_and_leaves_the_ignored_one():
    labels = np.array([[[0, 0, 0, 0]], [[0, 1, 2, 3]]], np.uint8)
    for weights, expected in (((0, 1, 0, 9), {(0, 1, 0, 0)}), (None, {(0, 1, 0, 0), (0, 0, 2, 0)})):
        found = set()
        for image, ids in mix_many(60, labels, paste=1, paste_weights=weights):
            assert (image[ids > 0] == 255).all()
            found.add(tuple(ids[0].tolist()))
        assert found == expected | {(0, 0, 0, 0)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Augmentation(flip=1.5), r"expected flip within \[0, 1\], received 1\.5"),
        (lambda: Augmentation(rotation=-3), r"rotation within \[0, 180\], received -3"),
        (lambda: Augmentation(hue=float("nan")), "hue within"),
        (lambda: Augmentation(scale=(0, 1)), r"scale within \[0\.01, 100\], received \(0, 1\)"),
        (lambda: Augmentation(mixup=0.6, cutmix=0.6), r"\+ paste of at most 1, received 1\.2"),
        (lambda: augment_many(1, 0.5 * PHOTO, IDS), "expected a uint8 image .*received float64"),
        (lambda: augment_many(1, PHOTO[:, :9], IDS), r"uint8 \(8, 9, 3\) and int64 \(8, 32\)"),
        (lambda: augment_many(1, PHOTO, 0.5 * IDS), "integer labels .*float64"),
        (lambda: augment_many(1, PHOTO, IDS, cutmix=0.1), "expected partners, a Prepared"),
        (
            lambda: augment.choose_augmentation("yes"),
            r"True, False or a seglib\.Aug.*received 'yes'",
        ),
    ],
)
def test_wrong_options_and_pairs_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_options_go_to_json_and_back():
    augmentation = Augmentation(size=np.int64(64), scale=[0.5, 2], focus_weights=np.ones(3))
    assert (augmentation.size, augmentation.scale) == ((64, 64), (0.5, 2))
    assert {Augmentation(**json.loads(json.dumps(augmentation.to_dict())))} == {augmentation}
    assert augment.choose_augmentation(True) == Augmentation()
    assert augment.choose_augmentation(False) is None
