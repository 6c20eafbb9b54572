"""Clean up a predicted label map: thresholds, morphology, small regions, holes.

Every function returns a new array, and none of them brings in a class that was not there.
"""

import numpy as np

from seglib import reports

OPERATIONS = ("dilation", "erosion", "opening", "closing")
GROWING = ("dilation", "closing")


def apply_thresholds(probabilities, thresholds, *, below="next", ignore_label=None):
    """Turn probabilities into labels, with a threshold that each class has to reach.

    A class that is predicted too eagerly gets a high threshold; one of 0 changes nothing.

    Args:
        probabilities: float array `(..., k)`, such as `(height, width, k)`.
        thresholds: float for all classes, array `(k,)`, or dict `{id: float}`, 0 for the others.
        below: "next": a pixel takes the most probable of the classes that reach their own
            threshold, and the most probable of all where none does. "ignore": a pixel whose most
            probable class is below its threshold gets `ignore_label`.
        ignore_label: int, needed by "ignore" alone.

    Returns:
        uint8 array `(...)`, uint16 where an id is above 255. Equal probabilities go to the
        lower id.

    Raises:
        ValueError: thresholds do not fit the classes, `below` is unknown, or the ignore label is
            missing or negative.

    Example:
        >>> probabilities = [[[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]]]
        >>> apply_thresholds(probabilities, {0: 0.6})
        array([[1, 1]], dtype=uint8)
        >>> apply_thresholds(probabilities, 0.6, below="ignore", ignore_label=255)
        array([[255,   1]], dtype=uint8)
    """
    probabilities = np.asarray(probabilities)
    if probabilities.dtype.kind != "f":
        probabilities = probabilities.astype(np.float32)
    num_classes = probabilities.shape[-1]
    # In the dtype of the probabilities, as a float32 0.7 is below a float64 one.
    limits = _spread_thresholds(thresholds, num_classes).astype(probabilities.dtype)
    # A class of probability 0, such as the ignored one, reaches no threshold.
    reached, best = (probabilities >= limits) & (probabilities > 0), probabilities.argmax(axis=-1)
    if below == "next":
        allowed = np.where(reached, probabilities, -np.inf).argmax(axis=-1)
        labels, highest = np.where(reached.any(axis=-1), allowed, best), num_classes - 1
    elif below == "ignore":
        if ignore_label is None or ignore_label < 0:
            raise ValueError(f"below='ignore' needs an ignore_label >= 0, received {ignore_label}")
        sure = np.take_along_axis(reached, best[..., None], axis=-1)[..., 0]
        labels, highest = np.where(sure, best, ignore_label), max(num_classes - 1, ignore_label)
    else:
        raise ValueError(f"expected below='next' or 'ignore', received {below!r}")
    return labels.astype(np.uint8 if highest < 256 else np.uint16)


def fit_thresholds(probabilities, labels, *, ignore_label=None, candidates=None):
    """Choose the threshold of each class that gives the highest mean IoU.

    One class after the other, that with the most pixels first, is given the best of the
    candidates, the others' left as they are. Choose them on pictures that no figure is taken of.

    Args:
        probabilities: float array `(..., k)`.
        labels: int array `(...)`.
        ignore_label: int or None. Pixels with this id do not count.
        candidates: numbers in [0, 1]; None for 0, 0.1 … 0.9.

    Returns:
        float32 array `(k,)` for `apply_thresholds(..., below="next")`.

    Raises:
        ValueError: the shapes differ, or no pixel counts.

    Example:
        >>> probabilities = [[0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [0.6, 0.4]]
        >>> fit_thresholds(probabilities, [0, 0, 1, 0], candidates=(0, 0.58, 0.7))
        array([0.58, 0.  ], dtype=float32)
    """
    probabilities, labels = np.asarray(probabilities, np.float32), np.asarray(labels)
    if probabilities.shape[:-1] != labels.shape:
        raise ValueError(
            f"expected probabilities of {labels.shape} and classes, received {probabilities.shape}"
        )
    num_classes = probabilities.shape[-1]
    scored_out = ignore_label if ignore_label in range(num_classes) else None
    valid = np.ones(labels.shape, bool) if ignore_label is None else labels != ignore_label
    probabilities, labels = probabilities[valid], labels[valid]
    if not len(labels):
        raise ValueError("no pixel counts: all labels are the ignored one")
    candidates = np.arange(10) / 10 if candidates is None else candidates
    thresholds = np.zeros(num_classes, np.float32)

    def score(label, threshold):
        trial = thresholds.copy()
        trial[label] = threshold
        predicted = apply_thresholds(probabilities, trial)
        matrix = reports.confusion_matrix(labels, predicted, num_classes=num_classes)
        return reports.mean_iou(matrix, ignore_label=scored_out)

    for label in np.argsort(-np.bincount(labels, minlength=num_classes), kind="stable"):
        scores = [score(label, threshold) for threshold in candidates]
        thresholds[label] = candidates[int(np.argmax(scores))]
    return thresholds


def morph_labels(labels, operation, *, class_ids=None, radius=1):
    """Grow, shrink or smooth the regions of classes.

    "dilation" grows a class by `radius` pixels and "erosion" shrinks it; "opening" erodes, then
    dilates, which drops thin parts; "closing" dilates, then erodes, which bridges gaps. Beyond the
    image border lies neither this class nor another.

    Dilation and closing grow each class from where it is in `labels` and overwrite what was there;
    where two classes grow into each other, the later one wins. Erosion and opening shrink one
    class after the other; a pixel that a class loses takes the nearest other class.

    Args:
        labels: int array `(height, width)`.
        operation: "dilation", "erosion", "opening" or "closing".
        class_ids: ints, worked in this order. None takes all ids in `labels`, an ignored one too,
            most frequent first, so that rare classes are not overwritten.
        radius: float, pixels. The structuring element is the Euclidean disk of it.

    Returns:
        Array of the shape and dtype of `labels`.

    Raises:
        ValueError: labels are not 2D, the operation is unknown, or the radius is negative.

    Example:
        >>> morph_labels([[0, 0, 0, 0], [0, 1, 0, 0]], "dilation", class_ids=[1])
        array([[0, 1, 0, 0],
               [1, 1, 1, 0]])
    """
    before = _copy_labels(labels)
    if operation not in OPERATIONS:
        raise ValueError(f"expected one of {', '.join(OPERATIONS)}, received {operation!r}")
    if radius < 0:
        raise ValueError(f"expected a radius of 0 pixels or more, received {radius}")
    labels = before.copy()
    for class_id in _order_classes(before, class_ids):
        # Were it grown from its present extent, a rare class could be gone before its turn.
        mask = (before if operation in GROWING else labels) == class_id
        morphed = _morph(mask, operation, radius)
        labels = _take_nearest(labels, mask & ~morphed, source=~mask)
        labels[morphed] = class_id
    return labels


def remove_small_regions(labels, *, min_size, class_ids=None):
    """Give regions that are too small the class of the nearest pixel that is in no such region.

    A region is a set of pixels of one class that touch at a side or a corner.

    Args:
        labels: int array `(height, width)`.
        min_size: int, pixels; or dict `{id: int}`, 0 for the others. Smaller regions go.
        class_ids: ints, the classes whose regions may go. None: all of them.

    Returns:
        Array of the shape and dtype of `labels`; a copy of it where every region is too small.

    Raises:
        ValueError: labels are not 2D.

    Example:
        >>> remove_small_regions([[2, 2, 2, 1], [2, 2, 2, 2]], min_size=2)
        array([[2, 2, 2, 2],
               [2, 2, 2, 2]])
    """
    from skimage.measure import label

    labels = _copy_labels(labels)
    ids, dense = np.unique(labels, return_inverse=True)
    limits = np.array([min_size.get(i, 0) if isinstance(min_size, dict) else min_size for i in ids])
    if class_ids is not None:
        limits[~np.isin(ids, list(class_ids))] = 0
    dense = dense.reshape(labels.shape)
    regions = label(dense, background=-1, connectivity=2)
    sizes = np.bincount(regions.ravel())
    small = sizes[regions] < limits[dense]
    return labels if small.all() else _take_nearest(labels, small, source=~small)


def fill_holes(labels, *, class_ids=None, max_size=None):
    """Give pixels that one class encloses to that class.

    A hole is a set of pixels of other classes, whichever they are, that are connected side by
    side (a corner does not connect them) and do not reach the image border.

    Args:
        labels: int array `(height, width)`.
        class_ids: ints, the classes whose holes are filled, in this order. None takes all ids in
            `labels`, most frequent first.
        max_size: int, pixels. Larger holes stay. None fills them all.

    Returns:
        Array of the shape and dtype of `labels`.

    Raises:
        ValueError: labels are not 2D.

    Example:
        >>> fill_holes([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]])
        array([[1, 1, 1, 0],
               [1, 1, 1, 0],
               [1, 1, 1, 0]])
    """
    from scipy import ndimage

    labels = _copy_labels(labels)
    for class_id in _order_classes(labels, class_ids):
        regions, _ = ndimage.label(labels != class_id)
        sizes = np.bincount(regions.ravel())
        hole = np.ones(len(sizes), bool) if max_size is None else sizes <= max_size
        hole[0] = False
        for border in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
            hole[border] = False
        labels[hole[regions]] = class_id
    return labels


def _spread_thresholds(thresholds, num_classes):
    if isinstance(thresholds, dict):
        strange = [i for i in thresholds if not 0 <= i < num_classes]
        if strange:
            raise ValueError(f"thresholds name ids {strange}, expected ids in [0, {num_classes})")
        return np.array([thresholds.get(i, 0.0) for i in range(num_classes)], float)
    thresholds = np.asarray(thresholds, float)
    if thresholds.shape not in ((), (num_classes,)):
        raise ValueError(
            f"expected one threshold or {num_classes}, one a class, received {thresholds.shape}"
        )
    return np.broadcast_to(thresholds, num_classes)


def _copy_labels(labels):
    labels = np.array(labels)
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "iu":
        raise ValueError(
            f"expected integer labels (height, width), received {labels.dtype} {labels.shape}; "
            "call it once for each image"
        )
    return labels


def _order_classes(labels, class_ids):
    if class_ids is not None:
        return list(class_ids)
    ids, counts = np.unique(labels, return_counts=True)
    return ids[np.argsort(-counts, kind="stable")]


def _morph(mask, operation, radius):
    steps = {
        "dilation": (_dilate,),
        "erosion": (_erode,),
        "opening": (_erode, _dilate),
        "closing": (_dilate, _erode),
    }
    for step in steps[operation]:
        mask = step(mask, radius)
    return mask


def _dilate(mask, radius):
    """Dilate by a disk: all within `radius` of the mask, at one price for any radius."""
    from scipy import ndimage

    if not mask.any():  # the transform has no distance to nothing
        return mask
    return ndimage.distance_transform_edt(~mask) <= radius


def _erode(mask, radius):
    return ~_dilate(~mask, radius)


def _take_nearest(labels, lost, *, source):
    """Return labels where pixels in `lost` have the label of the nearest pixel in `source`."""
    from scipy import ndimage

    if not lost.any():
        return labels.copy()
    rows, cols = ndimage.distance_transform_edt(
        ~source, return_distances=False, return_indices=True
    )[:, lost]
    result = labels.copy()
    result[lost] = labels[rows, cols]
    return result
