import numpy as np
import pytest

from seglib.augment import augment_pair

LEVELS = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
COLUMNS = np.arange(256).reshape(1, 256)


def augment_many(count=400, *, image=LEVELS, labels=COLUMNS, **settings):
    return [
        augment_pair(image, labels, seed=0, epoch=0, index=index, **settings)
        for index in range(count)
    ]


def test_result_is_a_function_of_seed_epoch_and_index():
    for arguments in ({"seed": 3, "epoch": 2, "index": 1}, {"seed": 0, "epoch": 0, "index": 0}):
        first = augment_pair(LEVELS, COLUMNS, **arguments)
        np.random.default_rng(0).random(7)
        again = augment_pair(LEVELS.copy(), COLUMNS.copy(), **arguments)
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])


def test_neither_reads_nor_sets_global_random_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = augment_pair(LEVELS, COLUMNS, seed=0, epoch=0, index=0)[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    np.testing.assert_array_equal(augment_pair(LEVELS, COLUMNS, seed=0, epoch=0, index=0)[0], first)


@pytest.mark.parametrize("name", ["seed", "epoch", "index"])
def test_seed_epoch_and_index_each_change_the_result(name):
    usual = {"seed": 1, "epoch": 1, "index": 1}
    results = [
        augment_pair(LEVELS, COLUMNS, **usual | {name: value})[0].tobytes() for value in range(20)
    ]
    assert len(set(results)) > 15


@pytest.mark.parametrize("jitter", [0, 0.2])
def test_image_and_labels_share_their_geometry(jitter):
    image = np.zeros((5, 7, 3), np.uint8)
    image[:, :3] = 255
    image[:2, :] //= 2
    labels = (image[..., 0] > 200) + 2 * (image[..., 0] == 127).astype(np.uint8)
    for changed, ids in augment_many(50, image=image, labels=labels, jitter=jitter):
        # Which pixels share a colour is what the jitter keeps.
        for label in np.unique(ids):
            assert len(np.unique(changed[ids == label])) == 1
        assert len(np.unique(changed)) == 3


def test_about_half_are_mirrored_and_only_left_to_right():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    labels = np.arange(6).reshape(2, 3)
    mirrored = 0
    for changed, ids in augment_many(image=image, labels=labels, jitter=0):
        step = 1 if ids[0, 0] == 0 else -1
        np.testing.assert_array_equal(ids, labels[:, ::step])
        np.testing.assert_array_equal(changed, image[:, ::step])
        mirrored += step == -1
    assert 160 < mirrored < 240  # 4 standard deviations of 400 fair coins


def test_flip_off_keeps_the_labels():
    assert all((ids == COLUMNS).all() for _, ids in augment_many(50, flip=False))


def test_jitter_changes_contrast_and_brightness_within_its_bounds():
    changed = np.stack([image[0, :, 0] for image, _ in augment_many(flip=False, jitter=0.2)])
    offset = np.arange(256) - 128.0
    bound = 0.2 * np.abs(offset) + 0.2 * 128 + 0.5
    shown = changed.astype(float)
    assert (np.abs(shown - np.arange(256)) <= bound).all()
    # The bounds are reached, nearly: brightness at mid grey, contrast by slope.
    assert shown[:, 128].min() < 128 - 24
    assert shown[:, 128].max() > 128 + 24
    slopes = (shown[:, 158] - shown[:, 98]) / 60
    assert 0.79 < slopes.min() < 0.82
    assert 1.18 < slopes.max() < 1.22
    assert (np.diff(shown, axis=1) >= 0).all()
    assert np.abs(np.corrcoef(slopes, shown[:, 128])[0, 1]) < 0.2


def test_brightness_saturates_and_does_not_wrap():
    changed = np.stack([image for image, _ in augment_many(100, flip=False, jitter=0.9)])
    assert (np.diff(changed[:, 0, :, 0].astype(int), axis=1) >= 0).all()
    assert changed.min() == 0
    assert changed.max() == 255


def test_jitter_0_without_flip_changes_nothing():
    for changed, ids in augment_many(20, flip=False, jitter=0):
        np.testing.assert_array_equal(changed, LEVELS)
        np.testing.assert_array_equal(ids, COLUMNS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_shapes_and_dtypes_are_kept_and_inputs_unchanged(dtype):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (6, 5, 3), np.uint8)
    labels = random.integers(0, 9, (6, 5)).astype(dtype)
    kept = image.copy(), labels.copy()
    for array in (image, labels):
        array.setflags(write=False)  # as memory-mapped arrays are
    for changed, ids in augment_many(20, image=image, labels=labels):
        assert (changed.shape, changed.dtype) == ((6, 5, 3), np.uint8)
        assert (ids.shape, ids.dtype) == ((6, 5), dtype)
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(labels, kept[1])
