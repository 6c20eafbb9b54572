"""Class weights that make up for classes that are rare."""

import numpy as np

METHODS = ("none", "inverse_frequency", "median_frequency", "effective_number")


def class_weights(counts, *, method, ignore_label=None, power=1.0, beta=None):
    """Weigh each class by how rare it is.

    - `"none"`: 1 for every class.
    - `"inverse_frequency"`: all scored pixels over the class's pixels times the
      number of classes present; scikit-learn's `"balanced"`.
    - `"median_frequency"`: the frequency of a class is its pixels over all
      pixels, ignored ones included, of the images that hold it; the weight is
      the median of these frequencies over the class's own.
    - `"effective_number"`: `(1 - beta) / (1 - beta ** pixels)`, then scaled to
      a mean of 1. `1 / (1 - beta)` is the number N of pixels past which more of
      a class stop counting. The median of the classes' pixels is taken for N:
      classes rarer than that are weighed nearly by inverse frequency, commoner
      ones nearly alike, and neither more images nor larger ones change it.

    The ignored class and a class without a pixel get 0 whatever the method, and
    do not enter the medians and means.

    Args:
        counts: int array `(num_images, num_classes)`, pixels, as
            `statistics.count_pixels` returns it. The ignored class's column
            belongs to it; an ignore label outside the table has none.
        method: str, one of `METHODS`.
        ignore_label: int or None. The class that gets the weight 0.
        power: float. The weights are raised to it at the end: 0.5 softens them.
        beta: float in [0, 1) or None, for `"effective_number"` only.

    Returns:
        float32 array `(num_classes,)`.

    Raises:
        ValueError: the method is unknown, `counts` has a wrong shape, is
            negative or holds no scored pixel, `beta` is out of range, or a
            weight is not finite.

    Example:
        >>> class_weights([[6, 2, 2], [8, 0, 2]], method="median_frequency",
        ...               ignore_label=2)
        array([0.64285713, 2.25      , 0.        ], dtype=float32)

    References:
        Eigen & Fergus 2015, https://arxiv.org/abs/1411.4734 (median frequency);
        Cui et al. 2019, https://arxiv.org/abs/1901.05555 (effective number).
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    counts = check_counts(counts)
    present = find_present(counts, ignore_label)
    weights = np.zeros(len(present), np.float32)
    # Overflow is reported below, in the user's words.
    with np.errstate(over="ignore", invalid="ignore"):
        weights[present] = _weigh(counts, present, method, beta) ** power
    if not np.isfinite(weights).all():
        raise ValueError(f"a weight is not finite, with power={power}: received {weights.tolist()}")
    return weights


def weight_table(counts, classes, *, power=1.0):
    """Set the weights of all methods side by side.

    Args:
        counts: int array `(num_images, num_classes)`, pixels.
        classes: ClassTable of `num_classes` classes.
        power: float. The weights are raised to it.

    Returns:
        DataFrame, a row a scored class by name, a column a method.

    Raises:
        ValueError: `counts` does not fit the classes, or `class_weights` refuses it.

    Example:
        >>> from seglib.classes import ClassTable
        >>> table = ClassTable(["road", "car"], [(128, 64, 128), (64, 0, 128)])
        >>> weight_table([[4, 4]], table)["inverse_frequency"].to_dict()
        {'road': 1.0, 'car': 1.0}
    """
    import pandas as pd

    counts = check_counts(counts)
    if counts.shape[1] != classes.num_classes:
        raise ValueError(
            f"expected a column for each of {classes.num_classes} classes, "
            f"received counts of shape {counts.shape}"
        )
    weights = {
        method: class_weights(counts, method=method, ignore_label=classes.ignore_label, power=power)
        for method in METHODS
    }
    table = pd.DataFrame(weights, index=pd.Index(classes.names, name="class"))
    return table.iloc[list(classes.scored_ids)]


def check_counts(counts):
    """Return counts as an array; ValueError where they are no numbers of pixels."""
    counts = np.asarray(counts)
    if counts.ndim != 2 or 0 in counts.shape:
        raise ValueError(
            f"counts must have the shape (num_images, num_classes), received {counts.shape}; "
            f"count_pixels returns it"
        )
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError("counts are numbers of pixels, received some that are negative or NaN")
    return counts


def find_present(counts, ignore_label):
    """Return which of the scored classes have a pixel; ValueError where none has."""
    present = counts.sum(axis=0) > 0
    if ignore_label is not None and 0 <= ignore_label < len(present):
        present[ignore_label] = False
    if not present.any():
        raise ValueError("the counts hold no pixel of a scored class: are the labels decoded?")
    return present


def _weigh(counts, present, method, beta):
    pixels = counts.sum(axis=0)[present].astype(np.float64)
    if method == "none":
        return np.ones_like(pixels)
    if method == "inverse_frequency":
        return pixels.sum() / (len(pixels) * pixels)
    if method == "median_frequency":
        holds = counts[:, present] > 0
        frequency = pixels / (counts.sum(axis=1) @ holds)
        return np.median(frequency) / frequency
    return _weigh_by_effective_number(pixels, beta)


def _weigh_by_effective_number(pixels, beta):
    if beta is None:
        beta = 1 - 1 / np.median(pixels)
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), received {beta}")
    weights = (1 - beta) / (1 - beta**pixels)
    return weights / weights.mean()
