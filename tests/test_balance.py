import re

import imblearn.over_sampling
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from small_runs import make_dataset

import seglib
from seglib import balance
from seglib.augment import Augmentation
from seglib.classes import ClassTable, read_class_table, voc_colors
from seglib.masks import read_mask
from seglib.preparing import PreparedDataset, PreparedSplit

# Columns: road, car, pole (in no image), void (ignored).
COUNTS = np.array([[6, 2, 0, 2], [8, 0, 0, 2], [4, 4, 0, 0]])
STREET = ClassTable(["road", "car", "pole", "void"], voc_colors(4), ignore_label=3)
CARS = ClassTable(["road", "car", "void"], voc_colors(3), ignore_label=2)
FIRST = np.array([[0, 0, 1], [0, 1, 3], [1, 0, 0]], np.uint8)
SECOND = np.array([[0, 0, 0, 0], [0, 255, 3, 0]], np.uint8)


def make_pair(labels, color=100):
    return np.full((*labels.shape, 3), color, np.uint8), labels


def make_split(images, labels):
    names = [f"image_{i}" for i in range(len(labels))]
    return PreparedSplit(np.uint8(images), np.uint8(labels), names, CARS)


def make_rare_dataset(count=8, share=0.1):
    """Noise, with cars in 8×8 blocks of a brighter noise; the first rows are ignored."""
    random = np.random.default_rng(0)
    blocks = random.random((count, 4, 4)) < share
    blocks[0, 1:3] = True
    labels = np.kron(blocks, np.ones((8, 8), int))
    images = random.integers(0, 120, (count, 32, 32, 3)) + 100 * labels[..., None]
    labels[:, :2] = 2
    train = make_split(images, labels)
    return PreparedDataset(None, (32, 32), "data", CARS, train, train[:2], train[:0])


DATASET = make_rare_dataset()
BLENDED = seglib.oversample_patches(DATASET, count=300)


def test_counts_frequencies_and_8_connected_regions_by_hand():
    found = seglib.measure_split([make_pair(FIRST), make_pair(SECOND, 50)], STREET)
    assert found.counts.tolist() == [[5, 3, 0, 1], [6, 0, 0, 1]]
    labels = np.array([[-1, 0, 2]], np.int32)
    assert seglib.count_pixels([(None, labels)], num_classes=2).tolist() == [[1, 0]]
    columns = ["pixels", "pixel_share", "images", "image_share", "share_where_present"]
    # 3 of the 8 scored pixels of FIRST are cars.
    rows = [[11, 11 / 14, 2, 1, 11 / 14], [3, 3 / 14, 1, 0.5, 3 / 8], [0, 0, 0, 0, np.nan]]
    names = pd.Index(["road", "car", "pole"], name="class")
    expected = pd.DataFrame(rows, names, columns).astype({"pixels": int, "images": int})
    pd.testing.assert_frame_equal(found.frequency, expected)
    assert found.imbalance_ratio == pytest.approx(11 / 3)
    # From the row to the column.
    np.testing.assert_array_equal(found.co_occurrence, [[1, 0.5, 0], [1, 1, 0], [np.nan] * 3])
    # In FIRST three cars touch at their corners, and so do the two pieces of road.
    expected = [[2, 5.5, 5, 6], [1, 3, 3, 3], [0, np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(found.regions, expected)


def test_regions_agree_with_scipy_class_by_class():
    labels = np.random.default_rng(0).integers(0, 4, (60, 40), np.uint8)
    table = seglib.measure_split([make_pair(labels)], STREET).regions
    for i in range(3):
        regions, count = ndimage.label(labels == i, structure=np.ones((3, 3)))
        areas = np.bincount(regions.ravel())[1:]
        assert table.iloc[i].tolist() == [count, np.median(areas), areas.min(), areas.max()]


def test_location_is_the_mean_share_of_each_cell():
    labels = np.repeat([0, 1, 255], [32, 31, 1])[:, None].repeat(32, axis=1)  # cells of 2×1 pixels
    small = np.array([[0, 1, 3]])  # fewer pixels than cells
    location = seglib.measure_split([make_pair(labels), make_pair(small)], STREET).location
    assert location.shape == (4, 32, 32)
    road = [[1, 0.5, 0.5], [0.5, 0, 0], [0.5, 0, 0]]
    car = [[0, 0.5, 0], [0.5, 1, 0.5], [0.25, 0.75, 0.25]]
    np.testing.assert_array_equal(location[:2, [0, 16, 31]][..., [0, 11, 22]], [road, car])


def test_images_of_a_flat_and_of_a_striped_picture():
    labels = np.zeros((4, 6), np.uint8)
    stripes = np.tile(np.array([0, 255], np.uint8), (4, 3))[..., None].repeat(3, axis=2)
    split = [make_pair(labels, (200, 100, 0)), (stripes, labels)]
    table = seglib.measure_split(split, STREET).images
    # Grey is 0.299 R + 0.587 G + 0.114 B. Laplacian of stripes: ±510, at the left and right ±255.
    flat = [4, 6, 118.5, 0, 200, 100, 0, 0]
    striped = [4, 6, *[127.5] * 5, (4 * 510**2 + 2 * 255**2) / 6]
    assert tuple(table) == balance.IMAGE_COLUMNS
    np.testing.assert_allclose(table, [flat, striped], atol=1e-3, rtol=1e-5)


def test_colours_that_say_all_are_read_and_those_that_say_nothing_are_not():
    def create(seed, mixed):
        """Pixels of two colours, a share of whose labels is exchanged; the top row is ignored."""
        random = np.random.default_rng(seed)
        seen = random.integers(0, 2, (4, 20, 30))
        labels = np.where(random.random(seen.shape) < mixed, 1 - seen, seen)
        labels[:, 0] = 2
        return make_split(np.array([[255, 0, 0], [0, 0, 255]])[seen], labels)

    for mixed, expected in ((0, 1), (0.2, 0.8), (0.5, 0.5)):
        score = seglib.score_colors(create(0, mixed), create(1, mixed))
        assert score == pytest.approx(expected, abs=0.04)
    grey = np.full((1, 1, 5, 3), 100)
    alone, others = (make_split(grey, [[labels]]) for labels in ([0] * 5, [0, 1, 1, 1, 2]))
    assert seglib.score_colors(alone, others) == 0.25


@pytest.mark.parametrize(
    ("method", "counts", "expected"),
    [
        ("none", COUNTS, [1, 1, 0, 0]),
        # 24 scored pixels, 2 classes present: 24 / (2 * 18) and 24 / (2 * 6).
        ("inverse_frequency", COUNTS, [2 / 3, 2, 0, 0]),
        # Road: 18 of the 28 pixels of images 0 to 2, ignored ones included. Car: 6 of the 18
        # pixels of images 0 and 2. Median of 9/14 and 1/3: 41/84.
        ("median_frequency", COUNTS, [(41 / 84) / (9 / 14), (41 / 84) / (1 / 3), 0, 0]),
        # beta 0.5 for a median of 2: 0.5 / (1 - 0.5 ** n) is 1, 2/3 and 4/7 for 1 to 3 pixels.
        ("effective_number", [[1, 2, 3, 9]], np.array([1, 2 / 3, 4 / 7, 0]) * 63 / 47),
    ],
)
def test_weights_by_hand(method, counts, expected):
    weights = seglib.class_weights(counts, method=method, ignore_label=3)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    soft = seglib.class_weights(counts, method=method, ignore_label=3, power=0.5)
    np.testing.assert_allclose(soft, np.sqrt(expected), rtol=1e-6)


@pytest.mark.camvid
def test_median_frequency_weights_of_camvid(camvid):
    """The values come from CamVid's 367 training masks at 480×360, computed apart from seglib."""
    classes = read_class_table(camvid / "class_dict.csv")
    paths = (camvid / "train_labels").glob("*.png")
    counts = [np.bincount(read_mask(path, classes)[0].ravel(), minlength=12) for path in paths]
    assert len(counts) == 367
    weights = seglib.class_weights(counts, method="median_frequency", ignore_label=11)
    names = "Sky Building Column_Pole Road Sidewalk Tree SignSymbol Fence Car Pedestrian Bicyclist"
    expected = "0.2793 0.2017 4.7865 0.1490 1 0.4217 3.8467 1.9736 0.7889 6.3747 8.8587 0"
    assert classes.names == (*names.split(), "Void")
    np.testing.assert_allclose(weights, np.array(expected.split(), float), atol=5e-5)


def test_images_are_weighed_by_their_share_of_each_class():
    # Road: 6, 8, 4 of 18 pixels; car: 2, 0, 4 of 6. The mean of both, times three images.
    expected = 3 * (np.array([6, 8, 4]) / 18 + np.array([2, 0, 4]) / 6) / 2
    np.testing.assert_allclose(seglib.image_weights(COUNTS, ignore_label=3), expected)


def test_rare_is_what_has_less_than_a_quarter_of_an_equal_share():
    # Of three classes, a quarter of an equal share is 8.33 %.
    assert balance.find_rare([[43, 9, 3, 900], [40, 0, 5, 0]], STREET) == {"pole": 0.08}
    assert balance.find_rare([[0, 9, 0, 0], [91, 0, 0, 0]], STREET) == {}


@pytest.mark.parametrize("method", ["random", "smote", "adasyn"])
def test_patches_make_up_for_the_rare_class(method):
    split = seglib.oversample_patches(DATASET, method=method, count=300, seed=1).train
    assert split.size == (8, 8)
    assert len(split) == len(split.names) > 158
    assert split.names[:8] == DATASET.train.names
    np.testing.assert_array_equal(split.partner(7)[0], DATASET.train.images[7])
    assert 0 <= split.patches[..., 1:].min() <= split.patches[..., 1:].max() <= 24
    # Nearly all are away from the border, where their centres are of the rare class.
    pairs, rows, columns = np.moveaxis(split.patches[8:], -1, 0)
    assert (DATASET.train.labels[pairs, rows + 4, columns + 4] == 1).mean() > 0.9
    assert split.is_soft == (method != "random")
    assert (split.share[:8] == 1).all()
    assert 0.5 <= split.share.min() <= split.share.max() == 1


def test_a_partner_has_the_other_patch_in_its_place():
    images = np.repeat([0, 100], 48).reshape(2, 4, 4, 3)
    labels = np.tile([0, 1], (2, 4, 2)) * [[[0]], [[1]]]  # stripes in the second
    pairs = make_split(images, labels)
    patches = np.array([[[0, 0, 0], [0, 0, 0]], [[0, 2, 1], [1, 3, 2]]])
    split = balance.BlendedSplit(**vars(pairs), size=(1, 2), patches=patches, share=np.ones(2))
    image, labels = split.partner(1)
    assert np.argwhere(image[..., 0]).tolist() == [[2, 1], [2, 2]]
    assert np.argwhere(labels).tolist() == [[2, 2]]
    assert not np.any([split.partner(0)[0], split[1][0]])


@pytest.mark.parametrize("method", ["SMOTE", "ADASYN"])
def test_samples_are_blended_as_imbalanced_learn_does(method):
    features, ids = np.random.default_rng(0).random((80, 12)), np.repeat([0, 1], [50, 30])
    first, second, share = balance.blend_samples(features, ids, method.lower(), 5)
    blends = share[:, None] * features[first] + (1 - share[:, None]) * features[second]
    sampler = getattr(imblearn.over_sampling, method)(random_state=5)
    np.testing.assert_allclose(blends, sampler.fit_resample(features, ids)[0][80:], atol=1e-6)
    assert set(ids[first]) == set(ids[second]) == {1}


def test_fingerprint_follows_from_the_settings():
    changes = ({}, {}, {"seed": 1}, {"method": "adasyn"}, {"count": 301})
    first, *made = (seglib.oversample_patches(DATASET, **{"count": 300} | c) for c in changes)
    assert [first.fingerprint == data.fingerprint for data in made] == [True, False, False, False]
    assert len({data.fingerprint for data in (DATASET, *made)}) == 5


@pytest.mark.parametrize("method", balance.TRAINED_METHODS)
def test_each_method_changes_one_thing(method):
    data, options = seglib.apply_method(method, DATASET, count=300)
    loss, kind = options["loss"].get_config(), method.split(":")[0]
    names = {"focal": "Focal", "Dice": "Dice", "Tversky": "Tversky", "focal Tversky": "Tversky"}
    names |= {"Lovász-softmax": "LovaszSoftmax", "cross-entropy + Dice": "CrossEntropyDice"}
    assert type(options["loss"]).__name__ == names.get(method, "CrossEntropy")
    assert loss["ignore_label"] == 2
    assert loss.get("gamma", 1) == {"focal Tversky": 4 / 3, "focal": 2}.get(method, 1)
    assert (loss.get("class_weights") is not None) == (kind == "weights")
    assert ("sampling" in options) == (method == "sampling: images")
    assert (options["augment"] is True) == (method[-7:] not in ("windows", "y-paste"))
    assert (data is DATASET) == (kind != "patches")


def test_weights_and_sampling_follow_from_the_counts():
    def apply(method, augment=False):
        return seglib.apply_method(method, DATASET, augment=augment)[1]

    counts = seglib.count_pixels(DATASET.train, num_classes=3)
    rarity = seglib.class_weights(counts, method="inverse_frequency", ignore_label=2)
    weights = apply("weights: inverse frequency")["loss"].class_weights
    tabulated = seglib.weight_table(counts, CARS)["inverse_frequency"]
    shares = apply("sampling: images")["sampling"]
    windows = apply("sampling: windows", Augmentation(flip=0.2))["augment"]
    np.testing.assert_allclose(weights, rarity)
    np.testing.assert_array_equal(tabulated, rarity[:2])
    np.testing.assert_allclose(shares, seglib.image_weights(counts, ignore_label=2))
    np.testing.assert_allclose(windows.focus_weights, rarity)
    assert windows == Augmentation(flip=0.2, focus=0.5, focus_weights=windows.focus_weights)
    pasting = apply("sampling: copy-paste")["augment"]
    assert pasting.paste_weights == (0, pytest.approx(rarity[1]), 0)
    off = apply("sampling: windows")["augment"]
    assert (off.flip, off.brightness, off.contrast, off.focus) == (0, 0, 0, 0.5)


def test_methods_are_shown_as_many_pairs_whether_or_not_they_add_some():
    assert balance.cut_pairs(DATASET, 50) == (DATASET, 6)  # 48 pairs are nearest
    assert balance.cut_pairs(DATASET, 3) == (DATASET, 1)
    added = len(BLENDED.train) - 8
    for count, kept, epochs in ((48, 48, 1), (5, 8, 1), (2 * added, added, 2)):
        cut, shown = balance.cut_pairs(BLENDED, count, seed=1)
        assert (len(cut.train), len(cut.train.names), shown) == (kept, kept, epochs)
        np.testing.assert_array_equal(cut.train.patches[:8, 0, 0], range(8))


def test_methods_are_compared_seed_by_seed():
    rows = [("cross-entropy", 0, 0.9, 0.8, 0.1), ("cross-entropy", 1, 0.8, 0.8, 0.2)]
    rows += [("focal", 0, 0.9, 0.7, 0.3), ("focal", 1, 0.8, 0.7, 0.4)]
    rows += [("Dice", 0, 0.5, 0.7, 0.9), ("Dice", 1, 0.5, 0.7, 0.9), ("Tversky", 2, 0.9, 0.9, 0.9)]
    table = pd.DataFrame(rows, columns=["method", "seed", "road", "car", "pole"])
    table = table.melt(["method", "seed"], var_name="class", value_name="iou")
    table = balance.compare_methods(table, rare=["pole"])
    assert list(table.index[:3]) == ["Dice", "focal", "cross-entropy"]
    expected = {"seeds": 2, "rare_iou": 0.35, "rare_iou_low": 0.3, "rare_iou_high": 0.4}
    expected |= {"common_iou": (0.8 + 0.75) / 2, "rare_gain": 0.2, "gain": 0.1 / 3}
    assert table.loc["focal", list(expected)].to_dict() == pytest.approx(expected)
    assert table.loc["Dice", "rare_gain"] == pytest.approx((0.8 + 0.7) / 2)
    assert np.isnan(table.loc["Tversky", "rare_gain"])


def test_the_best_that_costs_little_is_recommended_with_its_reasons(tmp_path, monkeypatch):
    data = make_rare_dataset(count=40, share=0.05)  # 7 % of the pixels; an equal share is 50 %
    assert seglib.recommend_balance(data).method in balance.TRAINED_METHODS  # as on CamVid
    monkeypatch.setattr(balance, "MEASURED", tmp_path / "measured.csv")
    # Dice costs the others too much, focal was tried once, thresholds are not trained.
    balance.MEASURED.write_text(
        "method,seeds,rare_gain,gain\nDice,3,0.12,-0.05\nfocal,1,0.2,0.1\nTversky,3,0.08,0.03\n"
        "after: thresholds,3,0.2,0.1\ncross-entropy,3,0,0\nsampling: images,3,0.02,0\n"
    )
    method, (share, gain) = seglib.recommend_balance(data)
    cars = np.mean(data.train.labels[data.train.labels != 2] == 1)
    assert (method, share) == ("Tversky", f"car has {cars:.2%} of the pixels")
    assert "8.0 points of mean IoU for rare classes and 3.0 for all" in gain
    assert "3 runs" in gain
    advice = seglib.recommend_balance(make_dataset())
    assert advice == ("cross-entropy", ["no class is rare: nothing has to be made up for"])


oversample, blend = seglib.oversample_patches, balance.blend_samples
APART = np.repeat([0, 9], [40, 16]).reshape(28, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: seglib.count_pixels([], num_classes=4), "the split is empty"),
        (lambda: seglib.class_weights(COUNTS, method="sqrt"), "'sqrt': expected one of none, inv"),
        (lambda: seglib.class_weights([6, 2], method="none"), "(num_images, num_classes)"),
        (lambda: seglib.image_weights([[0, 7]], ignore_label=1), "no pixel of a scored class"),
        (lambda: seglib.apply_method("magic", DATASET), "a method of cross-entropy, focal"),
        (lambda: oversample(DATASET, method="tomek"), "method of random, smote, adasyn"),
        (lambda: oversample(DATASET, count=20), "needs at least 6 patches of a class"),
        (lambda: oversample(oversample(DATASET, method="random")), "over-sampled already"),
        (lambda: blend(APART[:20], np.zeros(20), "smote", 0), "no class is rarer"),
        (lambda: blend(APART, np.arange(28) // 20, "adasyn", 0), "or adasyn refuses it"),
    ],
)
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
