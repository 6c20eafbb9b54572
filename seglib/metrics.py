"""The confusion matrix, every figure that follows from one, and the boundary F1 score.

Figures work over leading axes: one matrix, one an image, or a thousand resampled ones.
"""

import numpy as np

CHUNK_VALUES = 1 << 21  # numbers that a chunk of resamples may hold: 16 MiB of float64


def confusion_matrix(y_true, y_pred, *, num_classes, ignore_label=None):
    """Count how often each true class was predicted as each class.

    Matrices add, so a large set can be scored one batch at a time.

    Args:
        y_true: int array, any shape. Ids in `[0, num_classes)` or `ignore_label`.
        y_pred: int array, same shape. Ids in `[0, num_classes)`.
        num_classes: int. Includes the background.
        ignore_label: int or None. Pixels whose true id is this are skipped.

    Returns:
        int64 array of shape `(num_classes, num_classes)`; row is the true
        class, column the predicted one.

    Raises:
        ValueError: the shapes differ, or an id is out of range.

    Example:
        >>> confusion_matrix([0, 0, 1, 255], [0, 1, 1, 1],
        ...                  num_classes=2, ignore_label=255)
        array([[1, 1],
               [0, 1]])
    """
    y_true, y_pred, valid = _check_labels(y_true, y_pred, num_classes, ignore_label)
    pairs = y_true[valid] * num_classes + y_pred[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(matrix, *, ignore_label=None):
    """Intersection over union of each class, also called the Jaccard index.

    Args:
        matrix: array `(..., k, k)` of counts, row true and column predicted.
        ignore_label: int or None. True pixels of this class count nowhere and its figure is NaN;
            predicting it is still an error of the true class.

    Returns:
        float64 array `(..., k)` in [0, 1]; NaN for a class neither true nor predicted anywhere.

    Raises:
        ValueError: the matrix is not square.

    Example:
        >>> class_iou([[1, 1, 0], [0, 2, 0], [0, 0, 0]]).round(3)
        array([0.5  , 0.667,   nan])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, true + predicted - hits)


def class_f1(matrix, *, ignore_label=None):
    """F1 score of each class, also called Dice; arguments and NaN as in `class_iou`.

    Example:
        >>> class_f1([[1, 1], [0, 2]]).round(3)
        array([0.667, 0.8  ])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(2 * hits, true + predicted)


def class_precision(matrix, *, ignore_label=None):
    """Share of each class's predicted pixels that are right, 0 for a class never predicted.

    Arguments and NaN as in `class_iou`.

    Example:
        >>> class_precision([[1, 1], [0, 2]]).round(3)
        array([1.   , 0.667])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, np.where(true > 0, np.maximum(predicted, 1), predicted))


def class_recall(matrix, *, ignore_label=None):
    """Share of each class's true pixels that are found, 0 for a class only predicted.

    Arguments and NaN as in `class_iou`.

    Example:
        >>> class_recall([[1, 1], [0, 2]])
        array([0.5, 1. ])
    """
    hits, true, predicted = _count(matrix, ignore_label)
    return _divide(hits, np.where(predicted > 0, np.maximum(true, 1), true))


def pixel_accuracy(matrix, *, ignore_label=None):
    """Share of all pixels that are right; arguments as in `class_iou`, one figure a matrix.

    Example:
        >>> float(pixel_accuracy([[1, 1], [0, 2]]))
        0.75
    """
    hits, true, _ = _count(matrix, ignore_label)
    return _divide(np.nansum(hits, axis=-1), np.nansum(true, axis=-1))[()]


def mean_iou(matrix, *, ignore_label=None):
    """Mean of `class_iou` over the classes that are true or predicted somewhere.

    Example:
        >>> float(mean_iou([[1, 1, 0], [0, 3, 0], [0, 0, 0]]))
        0.625
    """
    return _mean(class_iou(matrix, ignore_label=ignore_label))


def mean_accuracy(matrix, *, ignore_label=None):
    """Mean of `class_recall` over the classes that are true somewhere.

    Example:
        >>> float(mean_accuracy([[1, 1, 0], [0, 1, 1], [0, 0, 0]]))
        0.5
    """
    hits, true, _ = _count(matrix, ignore_label)
    return _mean(_divide(hits, true))


def frequency_weighted_iou(matrix, *, ignore_label=None):
    """Mean of `class_iou`, each class weighted by its number of true pixels.

    Example:
        >>> round(float(frequency_weighted_iou([[1, 1], [0, 2]])), 3)
        0.583
    """
    hits, true, predicted = _count(matrix, ignore_label)
    weighted = true * _divide(hits, true + predicted - hits)
    return _divide(np.nansum(weighted, axis=-1), np.nansum(true, axis=-1))[()]


def boundary_f1(y_true, y_pred, *, num_classes, ignore_label=None, tolerance=None):
    """Say how well the outline of each class is met in one image.

    A boundary pixel has a 4-neighbour of another class. Precision is the share of a class's
    predicted boundary pixels within `tolerance` of a true one, recall the reverse. Ignored pixels
    are neither boundary pixels nor another class. A class that has no boundary in truth and
    prediction, as when it fills the image, scores 1 if it covers the same pixels in both, else 0.

    Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.

    Args:
        y_true: int array `(height, width)`. Ids in `[0, num_classes)` or `ignore_label`.
        y_pred: int array, same shape. Ids in `[0, num_classes)`.
        num_classes: int.
        ignore_label: int or None. Pixels whose true id is this take no part.
        tolerance: float. Pixels; None takes 0.75 % of the image diagonal, rounded up.

    Returns:
        float64 array `(num_classes,)` in [0, 1]; NaN for a class that is not in the truth.

    Raises:
        ValueError: the shapes differ or are not 2D, an id is out of range, or tolerance < 0.

    Example:
        >>> boundary_f1([[0, 0, 0, 1]], [[0, 0, 1, 1]], num_classes=3, tolerance=1)
        array([ 1.,  1., nan])
    """
    y_true, y_pred, valid = _check_labels(y_true, y_pred, num_classes, ignore_label)
    if y_true.ndim != 2:
        raise ValueError(f"expected labels of shape (height, width), received {y_true.shape}")
    if tolerance is None:
        tolerance = np.ceil(0.0075 * np.hypot(*y_true.shape))
    if tolerance < 0:
        raise ValueError(f"expected a tolerance of 0 pixels or more, received {tolerance}")
    outlines = [_find_boundaries(labels, valid) for labels in (y_true, y_pred)]
    recall = _matched_share(*outlines, num_classes, tolerance)
    precision = _matched_share(*outlines[::-1], num_classes, tolerance)
    scores = np.nan_to_num(_divide(2 * precision * recall, precision + recall))
    matrix = np.bincount(y_true[valid] * num_classes + y_pred[valid], minlength=num_classes**2)
    hits, true, predicted = _count(matrix.reshape(num_classes, num_classes), None)
    filled = np.isnan(precision) & np.isnan(recall) & (true == hits) & (predicted == hits)
    return np.where(true > 0, np.where(filled, 1.0, scores), np.nan)


def bootstrap_interval(matrices, statistic, *, num_resamples=1000, confidence=0.95, seed=0):
    """Percentile interval of a figure, had other images of the same kind been scored.

    Images are resampled with replacement, not pixels: the pixels of one image are not independent.

    Args:
        matrices: array `(n, k, k)`, the confusion matrix of each image.
        statistic: function of an array `(r, k, k)` that returns `(r, ...)`, as `mean_iou` does.
        num_resamples: int.
        confidence: float in (0, 1); 0.95 leaves out 2.5 % on either side.
        seed: int.

    Returns:
        Two float64 arrays, low and high, in the shape of the figure. Resamples where it is NaN
        are left out.

    Raises:
        ValueError: there is no matrix, or confidence is not in (0, 1).

    Example:
        >>> low, high = bootstrap_interval([[[1, 1], [0, 2]]] * 3, pixel_accuracy)
        >>> float(low), float(high)
        (0.75, 0.75)
    """
    matrices = np.asarray(matrices, np.float64)
    if matrices.ndim != 3 or not len(matrices):
        raise ValueError(f"expected matrices (n, k, k) with n > 0, received {matrices.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence in (0, 1), received {confidence}")
    rng, chances = np.random.default_rng(seed), np.full(len(matrices), 1 / len(matrices))
    chunk = max(1, CHUNK_VALUES // (len(matrices) + matrices[0].size))
    values = []
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        counts = rng.multinomial(len(matrices), chances, size=rows).astype(np.float64)
        values.append(statistic(np.tensordot(counts, matrices, axes=1)))
    return _interval(np.concatenate(values), confidence)


def _check_labels(y_true, y_pred, num_classes, ignore_label):
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(f"y_true has shape {y_true.shape}, but y_pred has shape {y_pred.shape}")
    valid = np.ones(y_true.shape, bool) if ignore_label is None else y_true != ignore_label
    for name, labels in (("y_true", y_true), ("y_pred", y_pred)):
        if labels.size and labels.dtype.kind not in "iub":
            raise ValueError(f"{name}: expected integer ids, received {labels.dtype}")
        ids = labels[valid]
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise ValueError(
                f"{name}: expected ids in [0, {num_classes}), received {ids.min()} to {ids.max()}; "
                f"give the id of pixels without a class as ignore_label (now {ignore_label})"
            )
    return y_true.astype(np.int64), y_pred.astype(np.int64), valid


def _count(matrix, ignore_label):
    """Return hits, true and predicted pixels, float64 `(3, ..., k)`, NaN for the ignored class."""
    matrix = np.array(matrix, np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"expected a square confusion matrix (..., k, k), received {matrix.shape}")
    ignored = np.arange(matrix.shape[-1]) == (-1 if ignore_label is None else ignore_label)
    matrix[..., ignored, :] = 0
    counts = np.stack([np.einsum("...ii->...i", matrix), matrix.sum(axis=-1), matrix.sum(axis=-2)])
    counts[..., ignored] = np.nan
    return counts


def _divide(numerator, denominator):
    nothing = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)


def _mean(values):
    return _divide(np.nansum(values, axis=-1), np.sum(~np.isnan(values), axis=-1))[()]


def _interval(values, confidence):
    tail = (1 - confidence) / 2
    bounds = np.full((2, *values.shape[1:]), np.nan)
    some = ~np.isnan(values).all(axis=0)  # nanquantile warns where all are NaN
    bounds[:, some] = np.nanquantile(values[:, some], [tail, 1 - tail], axis=0)
    return bounds[0][()], bounds[1][()]


def _find_boundaries(labels, valid):
    """Return the ids of the boundary pixels, -1 elsewhere."""
    found = np.zeros(labels.shape, bool)
    for ids, ok, out in ((labels, valid, found), (labels.T, valid.T, found.T)):
        differ = (ids[1:] != ids[:-1]) & ok[1:] & ok[:-1]
        out[1:] |= differ
        out[:-1] |= differ
    return np.where(found, labels, -1).astype(np.int32)


def _matched_share(outline, target, num_classes, tolerance):
    """Share of each class's pixels of `outline` near one of `target`; NaN where it has none."""
    reach = min(int(tolerance), max(outline.shape))
    target = np.pad(target, reach, constant_values=-1)
    distance = np.add.outer(*[np.arange(-reach, reach + 1) ** 2] * 2)
    near = np.argsort(distance, axis=None, kind="stable")[: np.sum(distance <= tolerance**2)]
    offsets = np.ravel_multi_index(np.unravel_index(near, distance.shape), target.shape)
    rows, cols = np.nonzero(outline >= 0)
    ids, spots, target = outline[rows, cols], rows * target.shape[1] + cols, target.ravel()
    total = np.bincount(ids, minlength=num_classes)
    hopeless = ~np.isin(ids, target)
    missed = np.bincount(ids[hopeless], minlength=num_classes)
    spots, ids = spots[~hopeless], ids[~hopeless]
    for offset in offsets:  # nearest first: most pixels match, and leave, after a few
        unmet = target[spots + offset] != ids
        spots, ids = spots[unmet], ids[unmet]
    missed += np.bincount(ids, minlength=num_classes)
    return _divide(total - missed, total)
