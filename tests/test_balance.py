import imblearn.over_sampling
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.utils.class_weight import compute_class_weight
from small_runs import make_dataset

import seglib
from seglib import balance
from seglib.augment import Augmentation
from seglib.classes import ClassTable, read_class_table
from seglib.preparing import PreparedDataset, PreparedSplit

# Columns: road, car, pole (in no image), void (ignored).
COUNTS = np.array([[6, 2, 0, 2], [8, 0, 0, 2], [4, 4, 0, 0]])
STREET = ClassTable(
    ["road", "car", "pole", "void"],
    [(128, 64, 128), (64, 0, 128), (192, 192, 128), (0, 0, 0)],
    ignore_label=3,
)
FIRST = np.array([[0, 0, 1], [0, 1, 3], [1, 0, 0]], np.uint8)
SECOND = np.array([[0, 0, 0, 0], [0, 255, 3, 0]], np.uint8)
CARS = ClassTable(["road", "car", "void"], [(9, 9, 9), (8, 8, 8), (0, 0, 0)], ignore_label=2)


def make_pair(labels, color=100):
    return np.full((*labels.shape, 3), color, np.uint8), labels


def make_rare_dataset(count=8, share=0.1, seed=0):
    """Noise, with cars in 8×8 blocks of a brighter noise; the first rows are ignored."""
    random = np.random.default_rng(seed)
    blocks = random.random((count, 4, 4)) < share
    blocks[0, 1:3] = True
    labels = np.kron(blocks, np.ones((8, 8), int)).astype(np.uint8)
    images = random.integers(0, 120, (count, 32, 32, 3)) + 100 * labels[..., None]
    labels[:, :2] = 2
    names = [f"image_{i}" for i in range(count)]
    train = PreparedSplit(images.astype(np.uint8), labels, names, CARS)
    splits = {"train": train, "val": train[:2], "test": train[:0]}
    return PreparedDataset(
        path=None, image_size=(32, 32), fingerprint="data", classes=CARS, **splits
    )


DATASET = make_rare_dataset()


@pytest.fixture(name="found", scope="module")
def measure():
    return seglib.measure_split([make_pair(FIRST), make_pair(SECOND, 50)], STREET)


@pytest.fixture(scope="module")
def blended():
    return balance.oversample_patches(DATASET, count=300)


def test_counts_and_frequencies_by_hand(found):
    assert found.counts.tolist() == [[5, 3, 0, 1], [6, 0, 0, 1]]
    labels = np.array([[-1, 0, 2]], np.int32)
    assert seglib.count_pixels([(None, labels)], num_classes=2).tolist() == [[1, 0]]
    expected = pd.DataFrame(
        {
            "pixels": [11, 3, 0],
            "pixel_share": [11 / 14, 3 / 14, 0],
            "images": [2, 1, 0],
            "image_share": [1, 0.5, 0],
            "share_where_present": [11 / 14, 3 / 8, np.nan],  # 3 of the 8 scored pixels of FIRST
        },
        index=pd.Index(["road", "car", "pole"], name="class"),
    )
    pd.testing.assert_frame_equal(found.frequency, expected)
    assert found.imbalance_ratio == pytest.approx(11 / 3)
    # From the row to the column.
    together = [[1, 0.5, 0], [1, 1, 0], [np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(found.co_occurrence, together)


def test_regions_are_8_connected(found):
    # In FIRST three cars touch at their corners, and so do the two pieces of road.
    assert found.regions["regions"].tolist() == [2, 1, 0]
    areas = found.regions[["median_area", "smallest_area", "largest_area"]]
    np.testing.assert_array_equal(areas, [[5.5, 5, 6], [3, 3, 3], [np.nan] * 3])


def test_regions_agree_with_scipy_class_by_class():
    labels = np.random.default_rng(0).integers(0, 4, (60, 40), np.uint8)
    table = seglib.measure_split([make_pair(labels)], STREET).regions
    for i, name in enumerate(STREET.names[:3]):
        regions, count = ndimage.label(labels == i, structure=np.ones((3, 3)))
        areas = np.bincount(regions.ravel())[1:]
        expected = [count, np.median(areas), areas.min(), areas.max()]
        assert table.loc[name].tolist() == expected


def test_location_is_the_mean_share_of_each_cell():
    labels = np.zeros((64, 32), np.uint8)  # cells of 2×1 pixels
    labels[32:] = 1
    labels[63] = 255
    small = np.array([[0, 1, 3]], np.uint8)  # fewer pixels than cells
    location = seglib.measure_split([make_pair(labels), make_pair(small)], STREET).location
    assert location.shape == (4, 32, 32)
    assert (location[0, :16, :10] == 1).all()
    assert (location[0, :16, 11:] == 0.5).all()
    assert (location[1, :16, 11:21] == 0.5).all()
    assert (location[1, 16:31, 11:21] == 1).all()
    assert (location[1, 31, :10] == 0.25).all()


def test_images_of_a_flat_and_of_a_striped_picture():
    stripes, labels = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)
    stripes[:, 1::2] = 255
    split = [make_pair(labels, (200, 100, 0)), (stripes, labels)]
    table = seglib.measure_split(split, STREET).images
    # Grey is 0.299 R + 0.587 G + 0.114 B. Laplacian of the stripes: ±510, but ±255 in the first
    # and the last column.
    flat = [4, 6, 118.5, 0, 200, 100, 0, 0]
    striped = [4, 6, 127.5, 127.5, 127.5, 127.5, 127.5, (4 * 510**2 + 2 * 255**2) / 6]
    assert tuple(table) == balance.IMAGE_COLUMNS
    np.testing.assert_allclose(table, [flat, striped], atol=1e-3, rtol=1e-5)


class Pairs(list):
    classes = CARS


def make_colored(seed, mixed):
    """Pixels of two colours, a share of whose labels is exchanged; the top row is ignored."""
    random, pairs = np.random.default_rng(seed), Pairs()
    for _ in range(4):
        seen = random.integers(0, 2, (20, 30))
        labels = np.where(random.random(seen.shape) < mixed, 1 - seen, seen).astype(np.uint8)
        labels[0] = 2
        pairs.append((np.array([[255, 0, 0], [0, 0, 255]], np.uint8)[seen], labels))
    return pairs


def test_colours_that_say_all_are_read_and_those_that_say_nothing_are_not():
    for mixed, expected in ((0, 1), (0.2, 0.8), (0.5, 0.5)):
        score = seglib.score_colors(make_colored(0, mixed), make_colored(1, mixed))
        assert score == pytest.approx(expected, abs=0.04)
    alone = Pairs([make_pair(np.zeros((4, 4), np.uint8))])
    assert seglib.score_colors(alone, Pairs([make_pair(np.array([[0, 1, 1, 1, 2]]))])) == 0.25


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("none", [1, 1, 0, 0]),
        # 24 scored pixels, 2 classes present: 24 / (2 * 18) and 24 / (2 * 6).
        ("inverse_frequency", [2 / 3, 2, 0, 0]),
        # Road: 18 of the 28 pixels of images 0 to 2, ignored ones included. Car: 6 of the 18
        # pixels of images 0 and 2. Median of 9/14 and 1/3: 41/84.
        ("median_frequency", [(41 / 84) / (9 / 14), (41 / 84) / (1 / 3), 0, 0]),
    ],
)
def test_weights_by_hand(method, expected):
    weights = seglib.class_weights(COUNTS, method=method, ignore_label=3)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    soft = seglib.class_weights(COUNTS, method=method, ignore_label=3, power=0.5)
    np.testing.assert_allclose(soft, np.sqrt(expected), rtol=1e-6)


def test_inverse_frequency_is_what_scikit_learn_calls_balanced():
    labels = np.random.default_rng(0).choice(5, 2000, p=[0.6, 0.2, 0.1, 0.08, 0.02])
    expected = compute_class_weight("balanced", classes=np.arange(5), y=labels)
    weights = seglib.class_weights(np.bincount(labels)[None], method="inverse_frequency")
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_effective_number_by_hand():
    # beta 0.5 for a median of 2: 0.5 / (1 - 0.5 ** n) is 1, 2/3 and 4/7 for 1, 2 and 3 pixels.
    weights = seglib.class_weights([[1, 2, 3]], method="effective_number")
    np.testing.assert_allclose(weights, np.array([1, 2 / 3, 4 / 7]) * 63 / 47, rtol=1e-6)


@pytest.mark.camvid
def test_median_frequency_weights_of_camvid(camvid):
    """The values come from CamVid's 367 training masks at 480×360, computed apart from seglib."""
    classes = read_class_table(camvid / "class_dict.csv")
    ids = np.full(1 << 24, 255, np.uint8)
    ids[classes.colors.astype(np.int32) @ [65536, 256, 1]] = np.arange(classes.num_classes)
    masks = [Image.open(path).convert("RGB") for path in (camvid / "train_labels").glob("*.png")]
    labels = [ids[np.asarray(mask).astype(np.int32) @ [65536, 256, 1]].ravel() for mask in masks]
    counts = [np.bincount(part, minlength=classes.num_classes) for part in labels]
    weights = seglib.class_weights(counts, method="median_frequency", ignore_label=11)
    assert len(counts) == 367
    assert dict(zip(classes.names, weights.astype(float).round(4), strict=True)) == {
        "Sky": 0.2793, "Building": 0.2017, "Column_Pole": 4.7865, "Road": 0.1490,
        "Sidewalk": 1.0, "Tree": 0.4217, "SignSymbol": 3.8467, "Fence": 1.9736, "Car": 0.7889,
        "Pedestrian": 6.3747, "Bicyclist": 8.8587, "Void": 0,
    }  # fmt: skip


def test_images_are_weighed_by_their_share_of_each_class():
    # Road: 6, 8, 4 of 18 pixels; car: 2, 0, 4 of 6. The mean of both, times three images.
    weights = seglib.image_weights(COUNTS, ignore_label=3)
    expected = 3 * (np.array([6, 8, 4]) / 18 + np.array([2, 0, 4]) / 6) / 2
    np.testing.assert_allclose(weights, expected)
    assert seglib.image_weights([[0, 9], [9, 0]], ignore_label=1).tolist() == [0, 2]


def test_rare_is_what_has_less_than_a_quarter_of_an_equal_share():
    names = ["road", "car", "pole", "sign", "void"]
    table = ClassTable(names, [(i, i, i) for i in range(5)], ignore_label=4)
    # Of 100 scored pixels an equal share is 25, a quarter of it 6.25; sign has none.
    assert balance.find_rare([[44, 7, 3, 0, 900], [43, 0, 3, 0, 0]], table) == {"pole": 0.06}
    assert balance.find_rare([[44, 0, 7, 0, 0], [44, 7, 0, 0, 0]], table) == {}


@pytest.mark.parametrize("method", ["random", "smote", "adasyn"])
def test_patches_make_up_for_the_rare_class(method):
    data = seglib.oversample_patches(DATASET, method=method, count=300, seed=1)
    split, own = data.train, len(DATASET.train)
    assert split.size == (8, 8)
    assert len(split) == len(split.names) > own + 150
    assert split.names[:own] == DATASET.train.names
    np.testing.assert_array_equal(split.partner(own - 1)[0], DATASET.train.images[own - 1])
    new = split.patches[own:]
    assert split.patches[..., 1:].min() >= 0
    assert split.patches[..., 1:].max() <= 24
    # Nearly all are away from the border, where their centres are of the rare class.
    pairs, rows, columns = (new[..., 0], new[..., 1] + 4, new[..., 2] + 4)
    assert (DATASET.train.labels[pairs, rows, columns] == 1).mean() > 0.9
    assert split.is_soft == (method != "random")
    assert (split.share[:own] == 1).all()
    assert 0.5 <= split.share.min() <= split.share.max() == 1


def test_a_partner_has_the_other_patch_in_its_place():
    images = np.stack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 100, np.uint8)])
    labels = np.array([np.zeros((4, 4)), np.arange(16).reshape(4, 4) % 2], np.uint8)
    patches = np.array([[[0, 0, 0], [0, 0, 0]], [[0, 2, 1], [1, 3, 2]]])
    shares = np.array([1, 0.75])
    split = balance.BlendedSplit(images, labels, ["a", "b"], CARS, (1, 2), patches, shares)
    image, changed = split.partner(1)
    expected = np.zeros((4, 4), int)
    expected[2, 1:3] = 100
    np.testing.assert_array_equal(image[..., 0], expected)
    np.testing.assert_array_equal(changed, (np.arange(16).reshape(4, 4) == 10) * 1)
    np.testing.assert_array_equal(split.partner(0)[0], images[0])
    assert not split[1][0].any()


@pytest.mark.parametrize("method", ["SMOTE", "ADASYN"])
def test_samples_are_blended_as_imbalanced_learn_does(method):
    features, ids = np.random.default_rng(0).random((80, 12)), np.repeat([0, 1], [50, 30])
    first, second, share = balance.blend_samples(features, ids, method.lower(), 5)
    blends = share[:, None] * features[first] + (1 - share[:, None]) * features[second]
    sampler = getattr(imblearn.over_sampling, method)(random_state=5)
    np.testing.assert_allclose(blends, sampler.fit_resample(features, ids)[0][80:], atol=1e-6)
    assert set(ids[first]) == set(ids[second]) == {1}


def test_fingerprint_follows_from_the_settings(blended):
    assert blended.fingerprint == seglib.oversample_patches(DATASET, count=300).fingerprint
    changes = ({}, {"seed": 1}, {"method": "adasyn"}, {"count": 301})
    made = {seglib.oversample_patches(DATASET, **{"count": 300, **c}).fingerprint for c in changes}
    assert len(made - {DATASET.fingerprint}) == 4


NAMES = {
    "focal": "Focal", "Dice": "Dice", "Tversky": "Tversky", "focal Tversky": "Tversky",
    "Lovász-softmax": "LovaszSoftmax", "cross-entropy + Dice": "CrossEntropyDice",
}  # fmt: skip


@pytest.mark.parametrize("method", balance.TRAINED_METHODS)
def test_each_method_changes_one_thing(method):
    data, options = seglib.apply_method(method, DATASET, count=300)
    loss, kind = options["loss"].get_config(), method.split(":")[0]
    assert type(options["loss"]).__name__ == NAMES.get(method, "CrossEntropy")
    assert loss["ignore_label"] == 2
    assert loss.get("gamma", 1) == {"focal Tversky": 4 / 3, "focal": 2}.get(method, 1)
    assert (loss.get("class_weights") is not None) == (kind == "weights")
    assert ("sampling" in options) == (method == "sampling: images")
    assert (options["augment"] is True) == (method[-7:] not in ("windows", "y-paste"))
    assert (data is DATASET) == (kind != "patches")


def test_weights_and_sampling_follow_from_the_counts():
    def apply(method):
        return seglib.apply_method(method, DATASET, augment=Augmentation(flip=0.2))[1]

    off = seglib.apply_method("sampling: windows", DATASET, augment=False)[1]["augment"]
    assert (off.flip, off.brightness, off.contrast, off.focus) == (0, 0, 0, 0.5)
    counts = seglib.count_pixels(DATASET.train, num_classes=3)
    rarity = seglib.class_weights(counts, method="inverse_frequency", ignore_label=2)
    loss = apply("weights: inverse frequency")["loss"]
    np.testing.assert_allclose(loss.class_weights, rarity)
    np.testing.assert_array_equal(
        seglib.weight_table(counts, CARS)["inverse_frequency"], rarity[:2]
    )
    expected = seglib.image_weights(counts, ignore_label=2)
    np.testing.assert_allclose(apply("sampling: images")["sampling"], expected)
    augment = apply("sampling: windows")["augment"]
    assert (augment.flip, augment.focus) == (0.2, 0.5)
    np.testing.assert_allclose(augment.focus_weights, rarity)
    augment = apply("sampling: copy-paste")["augment"]
    assert augment.paste_weights == (0, pytest.approx(rarity[1]), 0)


def test_methods_are_shown_as_many_pairs_whether_or_not_they_add_some(blended):
    assert balance.cut_pairs(DATASET, 50) == (DATASET, 6)  # 48 pairs are nearest
    assert balance.cut_pairs(DATASET, 3) == (DATASET, 1)
    added = len(blended.train) - 8
    for count, kept, epochs in ((48, 48, 1), (5, 8, 1), (2 * added, added, 2)):
        cut, shown = balance.cut_pairs(blended, count, seed=1)
        assert (len(cut.train), len(cut.train.names), shown) == (kept, kept, epochs)
        np.testing.assert_array_equal(cut.train.patches[:8, 0, 0], range(8))


SCORES = [
    ("cross-entropy", 0, 0.9, 0.8, 0.1),
    ("cross-entropy", 1, 0.8, 0.8, 0.2),
    ("focal", 0, 0.9, 0.7, 0.3),
    ("focal", 1, 0.8, 0.7, 0.4),
    ("Dice", 0, 0.5, 0.7, 0.9),
    ("Dice", 1, 0.5, 0.7, 0.9),
    ("Tversky", 2, 0.9, 0.9, 0.9),
]


def test_methods_are_compared_seed_by_seed():
    table = pd.DataFrame(SCORES, columns=["method", "seed", "road", "car", "pole"])
    rows = table.melt(["method", "seed"], var_name="class", value_name="iou")
    table = balance.compare_methods(rows, rare=["pole"])
    assert list(table.index[:3]) == ["Dice", "focal", "cross-entropy"]
    focal = table.loc["focal"]
    assert focal["seeds"] == 2
    assert focal["rare_iou"] == pytest.approx(0.35)
    assert (focal["rare_iou_low"], focal["rare_iou_high"]) == (0.3, 0.4)
    assert focal["common_iou"] == pytest.approx((0.8 + 0.75) / 2)
    assert focal["rare_gain"] == pytest.approx(0.2)
    assert focal["gain"] == pytest.approx(0.1 / 3)
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


TWICE, blend = seglib.oversample_patches(DATASET, method="random"), balance.blend_samples
APART = np.concatenate([np.zeros((20, 2)), 9 * np.ones((8, 2))])
WRONG = [
    (lambda: seglib.count_pixels([], num_classes=4), "the split is empty"),
    (lambda: seglib.class_weights(COUNTS, method="sqrt"), "'sqrt': expected one of none, inverse"),
    (lambda: seglib.class_weights([6, 2], method="none"), "(num_images, num_classes)"),
    (lambda: seglib.image_weights([[0, 7]], ignore_label=1), "no pixel of a scored class"),
    (lambda: seglib.apply_method("magic", DATASET), "a method of cross-entropy, focal"),
    (lambda: seglib.oversample_patches(DATASET, method="tomek"), "method of random, smote, adasyn"),
    (lambda: seglib.oversample_patches(DATASET, count=20), "needs at least 6 patches of a class"),
    (lambda: seglib.oversample_patches(TWICE), "over-sampled already"),
    (lambda: blend(APART[:20], np.zeros(20), "smote", 0), "no class is rarer"),
    (lambda: blend(APART, np.arange(28) // 20, "adasyn", 0), "or adasyn refuses it"),
]


@pytest.mark.parametrize(("call", "words"), WRONG, ids=[words for _, words in WRONG])
def test_wrong_arguments_are_refused(call, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the words are compared
        call()
    assert words in str(error.value)
