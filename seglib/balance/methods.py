"""Methods against imbalance by their names: what each means for training."""

import dataclasses

import numpy as np

from seglib.augment import choose_augmentation
from seglib.balance.patches import oversample_patches
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


def apply_method(method, dataset, *, augment=True, patch_size=None, count=1000, seed=0):
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
