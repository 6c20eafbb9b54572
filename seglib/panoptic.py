"""Panoptic quality: how well the objects of each class are found and outlined."""

from typing import NamedTuple

import numpy as np


class PanopticQuality(NamedTuple):
    """Figures of each class, float64 arrays `(num_classes,)`; NaN where there is nothing to judge.

    Args:
        pq: panoptic quality, the product of the two others.
        sq: segmentation quality, the mean IoU of the objects that were found.
        rq: recognition quality, the F1 score of finding them.
    """

    pq: np.ndarray
    sq: np.ndarray
    rq: np.ndarray


def count_matches(
    true_labels, true_instances, labels, instances, *, num_classes, things=None, ignore_label=None
):
    """Count the objects of an image that were found, invented and missed.

    An object is found where one of the same class covers it with an IoU above 0.5; there is one at
    the most. Counts add, so a large set can be scored one image at a time.

    Args:
        true_labels, labels: int arrays `(height, width)` of ids, true and predicted.
        true_instances, instances: int arrays `(height, width)`, 1.. for each object.
        num_classes: int.
        things: ids of the classes that have objects; of another class all pixels are one segment,
            whatever their numbers. None: all of them have. Pixels of a thing that have the
            number 0 belong to no object; in the truth they are ignored.
        ignore_label: int or None. Pixels whose true id is this count nowhere; a predicted object
            that lies on them by more than half is not an invented one.

    Returns:
        float64 array `(num_classes, 4)`: true positives, false positives, false negatives, and
        the sum of the IoUs of the true positives.

    Raises:
        ValueError: the shapes differ.
        IndexError: an id is `num_classes` or more, and not ignored.

    Example:
        >>> truth = [[1, 1, 1, 0, 1]], [[1, 1, 1, 0, 2]]
        >>> count_matches(*truth, [[1, 1, 0, 0, 0]], [[5, 5, 0, 0, 0]], num_classes=2, things=[1])
        array([[0.        , 1.        , 1.        , 0.        ],
               [1.        , 0.        , 1.        , 0.66666667]])

    Source: Kirillov et al. 2019, "Panoptic Segmentation", sections 4.1 and 4.2.
    """
    maps = [np.asarray(x) for x in (true_labels, true_instances, labels, instances)]
    if len({x.shape for x in maps}) > 1:
        raise ValueError(f"expected four maps of one shape, received {[x.shape for x in maps]}")
    things = range(num_classes) if things is None else things
    known = np.ones(maps[0].shape, bool) if ignore_label is None else maps[0] != ignore_label
    truth, true_classes = _number_segments(*maps[:2], known, things)
    guess, guessed_classes = _number_segments(*maps[2:], maps[2] < num_classes, things)
    overlaps = np.zeros((len(true_classes), len(guessed_classes)))  # row and column 0: no segment
    np.add.at(overlaps, (truth.ravel(), guess.ravel()), 1)
    sizes, areas = overlaps.sum(axis=1)[:, None], overlaps[1:].sum(axis=0)
    # Of a predicted segment, what lies where the truth has none does not count.
    iou = overlaps / np.maximum(sizes + areas - overlaps, 1)
    found = (iou > 0.5) & (true_classes[:, None] == guessed_classes)
    found[0], found[:, 0] = False, False
    invented = ~found.any(axis=0) & (overlaps[0] <= areas)
    missed = ~found.any(axis=1)
    counts = np.zeros((num_classes, 4))
    for column, classes, values in (
        (0, true_classes, found.any(axis=1)),
        (1, guessed_classes, invented),
        (2, true_classes, missed),
        (3, true_classes, (iou * found).sum(axis=1)),
    ):
        np.add.at(counts[:, column], classes[1:], values[1:])
    return counts


def panoptic_quality(counts):
    """Return the figures that follow from counts of `count_matches`, of one image or summed.

    Args:
        counts: array `(num_classes, 4)`.

    Returns:
        PanopticQuality.

    Example:
        >>> panoptic_quality([[0, 0, 0, 0], [3, 1, 1, 2.4]]).pq
        array([nan, 0.6])
    """
    found, invented, missed, iou = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    judged = found + (invented + missed) / 2
    pq, sq, rq = (
        np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
        for above, below in ((iou, judged), (iou, found), (found, judged))
    )
    return PanopticQuality(pq, sq, rq)


def _number_segments(labels, instances, known, things):
    """Number the segments of a map from 1 on; return numbers and each number's class (0: none)."""
    is_thing = np.isin(labels, list(things))
    known = known & ((instances > 0) | ~is_thing)
    pairs = np.stack([labels, np.where(is_thing, instances, 0)], axis=-1)[known]
    segments, places = np.unique(pairs, axis=0, return_inverse=True)
    numbers = np.zeros(labels.shape, int)
    numbers[known] = places.ravel() + 1
    return numbers, np.concatenate([[0], segments[:, 0]]).astype(int)
