import sys

import keras
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from small_runs import make_model

import seglib
from seglib.augment import Augmentation
from seglib.balance import BlendedSplit, oversample_patches, patches
from seglib.classes import ClassTable
from seglib.preparing import PreparedDataset, PreparedSplit
from seglib.training import Batches

TABLE = ClassTable(["road", "car", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)


def make_rare_dataset(count=8, share=0.1, seed=0, side=32):
    """Noise, with a rare class in 8×8 blocks of a brighter noise; the first rows are ignored."""
    random = np.random.default_rng(seed)
    blocks = random.random((count, side // 8, side // 8)) < share
    blocks[0, 1:3] = True
    labels = np.kron(blocks, np.ones((8, 8), int)).astype(np.uint8)
    images = random.integers(0, 120, (count, side, side, 3)) + 100 * labels[..., None]
    labels[:, :2] = 2
    names = [f"image_{i}" for i in range(count)]
    train = PreparedSplit(images.astype(np.uint8), labels, names, TABLE)
    return PreparedDataset(
        path=None, image_size=(side, side), fingerprint="data", classes=TABLE,
        train=train, val=train[:2], test=train[:0],
    )  # fmt: skip


DATASET = make_rare_dataset()


@pytest.fixture(scope="module")
def blended():
    """A split with pairs whose patches are blended."""
    return oversample_patches(DATASET, size=8, count=300).train


def patch_classes(split, corners, pairs):
    """The class of each patch, from its centre; patches here lie inside."""
    rows, columns = (corners + np.floor_divide(split.size, 2)).T
    return split.labels[pairs, rows, columns]


@pytest.mark.parametrize("method", ["random", "smote"])
def test_each_class_has_as_many_patches_as_the_commonest(method):
    prepared = oversample_patches(DATASET, method=method, size=8, count=300, seed=1)
    split, own = prepared.train, len(DATASET.train)
    pairs, corners, classes = patches._draw_patches(
        DATASET.train, (8, 8), 300, np.random.default_rng(1)
    )
    counts = np.bincount(classes)
    assert len(split) - own == counts[0] - counts[1] > 200
    drawn = {(p, *c): k for p, c, k in zip(pairs, corners.tolist(), classes, strict=True)}
    for first, corner in zip(split.first[own:], split.corners[own:].tolist(), strict=True):
        assert drawn[(first, *corner)] == 1  # all new ones are of the rare class
    assert split.share.min() == 1 if method == "random" else split.share.min() < 0.99
    np.testing.assert_array_equal(split.first[:own], range(own))
    assert (split.share[:own] == 1).all()


def test_patches_are_drawn_in_proportion_to_the_pixels():
    train = DATASET.train
    pairs, corners, classes = patches._draw_patches(train, (8, 8), 4000, np.random.default_rng(0))
    scored = train.labels[train.labels != 2]
    assert np.mean(classes == 1) == pytest.approx(np.mean(scored == 1), abs=0.02)
    assert corners.min() == 0
    assert corners.max() == 24
    assert set(pairs) == set(range(8))


def test_a_rarer_class_makes_more_patches_drawn():
    rare = make_rare_dataset(count=40, share=0)  # two blocks of 40 pictures
    share = np.mean(rare.train.labels[rare.train.labels != 2] == 1)
    assert patches._choose_count(rare.train) == int(20 / share) == 1500
    assert patches._choose_count(DATASET.train) == 1000
    rare.train.labels[rare.train.labels == 1] = 0
    rare.train.labels[0, 8, :4] = 1
    assert patches._choose_count(rare.train) == 10_000
    rare.train.labels[:] = 2
    with pytest.raises(ValueError, match="more than half of the training pixels are ignored"):
        oversample_patches(rare)


def test_smote_blends_with_a_near_neighbour_of_its_class_as_imbalanced_learn_does():
    from imblearn.over_sampling import SMOTE

    random = np.random.default_rng(0)
    features, classes = random.random((60, 12)), np.repeat([0, 1], [45, 15])
    first, second, share = patches._resample(features, classes, "smote", 3, 5)
    expected, _ = SMOTE(k_neighbors=3, random_state=5).fit_resample(features, classes)
    blends = share[:, None] * features[first] + (1 - share[:, None]) * features[second]
    np.testing.assert_allclose(blends, expected[60:], atol=1e-6)
    near = NearestNeighbors(n_neighbors=4).fit(features[45:]).kneighbors(features[45:])[1] + 45
    for one, other in zip(first, second, strict=True):
        assert other in near[one - 45] or one in near[other - 45]  # the larger share is the first


def test_adasyn_makes_patches_where_classes_meet():
    random = np.random.default_rng(0)
    features = np.concatenate([random.normal(0, 1, (60, 2)), random.normal(3, 1, (30, 2))])
    classes = np.repeat([0, 1], [60, 30])
    first, second, share = patches._resample(features, classes, "adasyn", 5, 0)
    near = NearestNeighbors(n_neighbors=6).fit(features).kneighbors(features)[1][:, 1:]
    among_others = (near < 60).mean(axis=1)
    assert among_others[first].mean() > among_others[60:].mean()
    assert set(first) <= set(range(60, 90)) >= set(second)
    assert 0.5 <= share.min() < share.max() <= 1


def test_a_partner_has_the_other_patch_in_its_place():
    images = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 100, np.uint8)])
    labels = np.array([np.zeros((4, 4)), np.arange(16).reshape(4, 4) % 2], np.uint8)
    split = BlendedSplit(
        images, labels, ["a", "b"], TABLE, size=(1, 2), first=np.array([0, 0]),
        second=np.array([0, 1]), corners=np.array([[0, 0], [2, 1]]),
        others=np.array([[0, 0], [3, 2]]), share=np.array([1.0, 0.75]),
    )  # fmt: skip
    assert split.is_soft
    image, changed = split.partner(1)
    expected = np.zeros((4, 4), int)
    expected[2, 1:3] = 100
    np.testing.assert_array_equal(image[..., 0], expected)
    np.testing.assert_array_equal(changed, (np.arange(16).reshape(4, 4) == 10) * 1)
    np.testing.assert_array_equal(split.partner(0)[0], images[0])
    assert not images[0].any()
    assert repr(split) == "BlendedSplit(2 pairs, 1 with blended patches)"


def test_some_of_the_pairs_are_a_split_as_well(blended):
    split = blended
    part = split[5:30:3]
    assert len(part) == len(part.names) == 9
    assert len(split.names) == len(split)
    for i, row in enumerate(range(5, 30, 3)):
        assert part.names[i] == split.names[row] == f"image_{split.first[row]}"
        for a, b in zip(part.partner(i), split.partner(row), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_batch_blends_picture_and_one_hot_labels_by_the_same_share(blended):
    split = blended
    batches = Batches(split, batch_size=16, seed=0, augment=False, heads=1)
    order, soft = batches._draw_order(0), 0
    for place, (image, shares) in enumerate(zip(*batches[0], strict=True)):
        index = order[place]
        own, other, share = split[index], split.partner(index), split.share[index]
        blend = share * own[0] + (1 - share) * other[0].astype(float)
        assert np.abs(image - blend).max() <= 1
        one_hot = np.eye(3)[own[1]] * share + np.eye(3)[other[1]] * (1 - share)
        one_hot[..., 2] = 0
        np.testing.assert_allclose(shares, one_hot, atol=1e-6)
        soft += bool(((shares > 0.01) & (shares < 0.99)).any())
    assert soft > 3


def test_the_patch_stays_where_it_is_however_the_pair_is_changed(blended):
    split = blended
    geometry = Augmentation(scale=(0.5, 2), rotation=40, aspect=1.3, brightness=0, contrast=0)
    batches = Batches(split, batch_size=8, seed=0, augment=geometry, heads=1)
    place = next(i for i, j in enumerate(batches._draw_order(0)) if split.share[j] < 0.9)
    index = int(batches._draw_order(0)[place])
    own, other = (
        batches._change_pair(pair, 0, place) for pair in (split[index], split.partner(index))
    )
    changed = (own[0] != other[0]).any(axis=-1)
    assert 0 < changed.mean() < 0.6  # the same window of both: most of it is alike


def test_the_same_seed_gives_the_same_pairs_and_other_settings_another_fingerprint():
    first, again = (oversample_patches(DATASET, size=8, count=300) for _ in range(2))
    np.testing.assert_array_equal(first.train.share, again.train.share)
    assert first.fingerprint == again.fingerprint != DATASET.fingerprint
    for change in ({"seed": 1}, {"method": "adasyn"}, {"count": 301}, {"neighbors": 4}):
        other = oversample_patches(DATASET, **{"size": 8, "count": 300, **change})
        assert other.fingerprint != first.fingerprint


def test_blended_batches_are_a_function_of_the_step(blended):
    options = {"batch_size": 16, "seed": 0, "augment": Augmentation(scale=(0.8, 1.2)), "heads": 1}
    whole, later = Batches(blended, **options), Batches(blended, start=7, **options)
    for i in range(3):
        for a, b in zip(later[i], whole[7 + i], strict=True):
            np.testing.assert_array_equal(a, b)


def test_blended_pairs_are_learned(tmp_path):
    data = oversample_patches(DATASET, size=8, count=60, neighbors=2)
    run = seglib.train(make_model(dropout=0), data, run_dir=tmp_path, epochs=2, batch_size=16,
                       schedule="constant")  # fmt: skip
    assert run.history["loss"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "tomek"}, "expected method to be one of random, smote, adasyn"),
        ({"size": 40}, r"at most \(32, 32\), received \(40, 40\)"),
        ({"count": 20}, "needs at least 6 patches of a class, found car [0-9]: draw more"),
    ],
)
def test_wrong_use_says_so(options, message):
    with pytest.raises(ValueError, match=message):
        oversample_patches(DATASET, **options)


def test_what_is_over_sampled_already_is_refused():
    data = oversample_patches(DATASET, size=8, count=60, neighbors=2)
    with pytest.raises(ValueError, match="over-sampled already"):
        oversample_patches(data, size=8, count=60, neighbors=2)


def test_without_a_rare_class_there_is_nothing_to_do():
    with pytest.raises(ValueError, match="no class is rarer than another"):
        patches._check_classes(np.repeat([0, 1], 10), TABLE.names, "smote", 5)
    only = make_rare_dataset(share=0)
    only.train.labels[only.train.labels == 1] = 0
    with pytest.raises(ValueError, match="no class is rarer than another"):
        oversample_patches(only, size=8)


def test_adasyn_passes_over_a_class_that_needs_few():
    """Ten new ones dealt out to fifty round to none each; the rarest class gets its own."""
    random = np.random.default_rng(0)
    features = random.random((120, 3)).astype("float32")
    classes = np.repeat([0, 1, 2], [60, 50, 10])
    first, _, _ = patches._resample(features, classes, "adasyn", 5, 0)
    assert set(classes[first]) == {2}
    assert len(first) == pytest.approx(50, abs=10)


def test_adasyn_of_classes_far_apart_says_what_to_do():
    features = np.concatenate([np.zeros((20, 2)), 9 * np.ones((8, 2))])
    features += np.random.default_rng(0).normal(0, 0.1, features.shape)
    with pytest.raises(ValueError, match=r"adasyn finds nothing to make.*use method='smote'"):
        patches._resample(features, np.repeat([0, 1], [20, 8]), "adasyn", 3, 0)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn", None)
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    with pytest.raises(ModuleNotFoundError, match="pip install imbalanced-learn"):
        oversample_patches(DATASET, size=8, count=300)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": Augmentation(mixup=0.5)}, "blended already"),
        ({"augment": Augmentation(focus=0.5)}, "blended already"),
        ({"loss": keras.losses.SparseCategoricalCrossentropy()}, "takes ids alone"),
    ],
)
def test_what_cannot_be_done_with_blended_pairs_is_refused(tmp_path, options, message):
    data = oversample_patches(DATASET, size=8, count=60, neighbors=2)
    with pytest.raises(ValueError, match=message):
        seglib.train(make_model(), data, run_dir=tmp_path, epochs=1, **options)
