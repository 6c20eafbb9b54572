"""Methods against imbalance by their names: what each means for training."""

import dataclasses

import numpy as np

from seglib.augment import choose_augmentation
from seglib.balance.patches import BlendedSplit, oversample_patches
from seglib.balance.sampling import image_weights
from seglib.balance.weights import class_weights
from seglib.losses import CrossEntropy, CrossEntropyDice, Dice, Focal, LovaszSoftmax, Tversky
from seglib.statistics import count_pixels

LOSSES = {
    "cross-entropy": CrossEntropy,
    "focal": Focal,
    "Dice": Dice,
    "Tversky": Tversky,
    "focal Tversky": lambda **options: Tversky(gamma=4 / 3, **options),
    "Lovász-softmax": LovaszSoftmax,
    "cross-entropy + Dice": CrossEntropyDice,
}
WEIGHTS = {
    f"weights: {name.replace('_', ' ')}": name
    for name in ("inverse_frequency", "median_frequency", "effective_number")
}
PATCHES = {f"patches: {name}": name for name in ("random", "smote", "adasyn")}
SAMPLING = ("sampling: images", "sampling: windows", "sampling: copy-paste")
TRAINED_METHODS = (*LOSSES, *WEIGHTS, *SAMPLING, *PATCHES)


def apply_method(method, dataset, *, augment=True, patch_size=None, count=None, seed=0):
    """Return the data and the arguments of `seglib.train` that a method stands for.

    Weights and over-sampling are tried with plain cross-entropy, so that nothing else helps.

    Args:
        method: str, one of `TRAINED_METHODS`.
        dataset: PreparedDataset.
        augment: bool or Augmentation, of all methods alike; windows and copy-paste add to it.
        patch_size, count: size and number of patches, as of `oversample_patches`.
        seed: int, of the patches.

    Returns:
        `(PreparedDataset, dict)`, the dict with `loss`, `augment` and what the method adds.

    Raises:
        ValueError: there is no such method, or it cannot be applied to these data.
    """
    if method not in TRAINED_METHODS:
        raise ValueError(f"expected a method of {', '.join(TRAINED_METHODS)}, received {method!r}")
    if method in PATCHES:
        dataset = oversample_patches(
            dataset, method=PATCHES[method], size=patch_size, count=count, seed=seed
        )
    ignore_label, num_classes = dataset.classes.ignore_label, dataset.classes.num_classes
    loss = LOSSES.get(method, CrossEntropy)(ignore_label=ignore_label)
    options = {"loss": loss, "augment": augment}
    if method in WEIGHTS or method in SAMPLING:
        counts = count_pixels(dataset.train, num_classes=num_classes)
        options |= _add_balance(method, counts, choose_augmentation(augment), ignore_label)
    return dataset, options


def cut_pairs(dataset, count, *, seed=0):
    """Return the data and epochs that show about `count` pairs, in whole epochs of equal length.

    So that methods are compared after as many steps, whether or not they add pairs. Of added
    pairs some are left out, of the data's own none.

    Args:
        dataset: PreparedDataset, such as of `apply_method`.
        count: int, pairs shown in all epochs together.
        seed: int, of which added pairs are kept.

    Returns:
        `(PreparedDataset, int)`, the int for `seglib.train(epochs=…)`.
    """
    train, own = dataset.train, len(dataset.train.images)
    if not isinstance(train, BlendedSplit):
        return dataset, max(1, round(count / len(train)))
    epochs = max(1, min(-(-count // len(train)), count // own))
    added = own + np.random.default_rng(seed).permutation(len(train) - own)
    rows = np.concatenate([np.arange(own), added[: max(0, count // epochs - own)]])
    return dataclasses.replace(dataset, train=train.take(rows)), epochs


def _add_balance(method, counts, augmentation, ignore_label):
    if method in WEIGHTS:
        weights = class_weights(counts, method=WEIGHTS[method], ignore_label=ignore_label)
        return {"loss": CrossEntropy(weights, ignore_label)}
    if method == "sampling: images":
        return {"sampling": image_weights(counts, ignore_label=ignore_label)}
    if augmentation is None:
        raise ValueError(f"{method} is a kind of augmentation: augment=False leaves none")
    rarity = class_weights(counts, method="inverse_frequency", ignore_label=ignore_label)
    if method == "sampling: windows":
        return {"augment": dataclasses.replace(augmentation, focus=0.5, focus_weights=rarity)}
    rare = rarity * (rarity > np.median(rarity[rarity > 0]))  # the rarer half
    return {"augment": dataclasses.replace(augmentation, paste=0.5, paste_weights=rare)}
