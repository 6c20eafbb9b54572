import numpy as np
import pytest
from test_balance_patches import DATASET

import seglib
from seglib.augment import Augmentation
from seglib.balance import BlendedSplit
from seglib.balance.methods import (
    LOSSES,
    PATCHES,
    SAMPLING,
    TRAINED_METHODS,
    WEIGHTS,
    apply_method,
    cut_pairs,
)

COUNTS = seglib.count_pixels(DATASET.train, num_classes=3)
RARITY = seglib.class_weights(COUNTS, method="inverse_frequency", ignore_label=2)


def test_methods_are_those_of_the_tables():
    assert len(set(TRAINED_METHODS)) == len(LOSSES) + len(WEIGHTS) + len(SAMPLING) + len(PATCHES)


@pytest.mark.parametrize("method", TRAINED_METHODS)
def test_each_method_changes_one_thing(method):
    data, options = apply_method(method, DATASET, patch_size=8, count=300)
    names = {
        "focal": "Focal", "Dice": "Dice", "Tversky": "Tversky", "focal Tversky": "Tversky",
        "Lovász-softmax": "LovaszSoftmax", "cross-entropy + Dice": "CrossEntropyDice",
    }  # fmt: skip
    assert type(options["loss"]).__name__ == names.get(method, "CrossEntropy")
    assert getattr(options["loss"], "gamma", 1) == (4 / 3 if method == "focal Tversky" else
                                                    2 if method == "focal" else 1)  # fmt: skip
    plain = {"loss", "augment"}
    assert set(options) == plain | ({"sampling"} if method == "sampling: images" else set())
    assert isinstance(data.train, BlendedSplit) == (method in PATCHES)
    assert options["loss"].get_config()["ignore_label"] == 2
    is_weighted = options["loss"].get_config().get("class_weights") is not None
    assert is_weighted == (method in WEIGHTS)
    assert (options["augment"] is True) == (method not in SAMPLING[1:])


def test_weights_and_sampling_follow_from_the_counts():
    _, options = apply_method("weights: inverse frequency", DATASET)
    np.testing.assert_allclose(options["loss"].class_weights, RARITY)
    _, options = apply_method("sampling: images", DATASET)
    np.testing.assert_allclose(options["sampling"], seglib.image_weights(COUNTS, ignore_label=2))
    augment = Augmentation(flip=0.2)
    _, options = apply_method("sampling: windows", DATASET, augment=augment)
    assert (options["augment"].flip, options["augment"].focus) == (0.2, 0.5)
    np.testing.assert_allclose(options["augment"].focus_weights, RARITY)
    _, options = apply_method("sampling: copy-paste", DATASET, augment=augment)
    assert options["augment"].paste_weights == (0, pytest.approx(RARITY[1]), 0)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("magic", {}, "expected a method of cross-entropy, focal"),
        ("sampling: windows", {"augment": False}, "a kind of augmentation"),
        ("patches: smote", {"count": 20}, "patches of a class"),
    ],
)
def test_what_cannot_be_applied_says_why(method, options, message):
    with pytest.raises(ValueError, match=message):
        apply_method(method, DATASET, patch_size=8, **options)


def test_methods_are_shown_as_many_pairs_whether_or_not_they_add_some():
    assert cut_pairs(DATASET, 50) == (DATASET, 6)  # 48 pairs are nearest
    assert cut_pairs(DATASET, 3) == (DATASET, 1)
    data, _ = apply_method("patches: smote", DATASET, patch_size=8, count=300)
    added = len(data.train) - 8
    assert added > 100
    for count, kept, epochs in ((48, 48, 1), (5, 8, 1), (2 * added, added, 2)):
        cut, shown = cut_pairs(data, count, seed=1)
        assert (len(cut.train), shown) == (kept, epochs)
        np.testing.assert_array_equal(cut.train.first[:8], range(8))
