"""From a label map to single objects: told apart, counted, boxed."""

from typing import NamedTuple

import numpy as np


class Instances(NamedTuple):
    """What `separate_instances` finds.

    Args:
        instances: int32 array `(height, width)`, 1.. for the pixels of each object, 0 elsewhere.
        counts: dict `class id -> number of objects`, of each class that was looked at.
        boxes: DataFrame by the objects' numbers: class, top, left, bottom and right in pixels
            (the last two are one past the object, as in slices), pixels.
    """

    instances: np.ndarray
    counts: dict
    boxes: object


def separate_instances(labels, boundary=None, *, class_ids=None, min_size=8, threshold=0.5):
    """Tell the objects of a label map apart.

    Without a boundary map an object is a set of pixels of one class that touch at a side or a
    corner. With one, such a set falls apart where boundaries cut through it: its parts between
    them grow, those over the weakest boundaries first, until they meet (a watershed). A set that
    boundaries fill stays one object.

    Args:
        labels: int array `(height, width)`, as of `seglib.predict`.
        boundary: float array `(height, width)` in [0, 1], as of `seglib.predict_heads`, or None.
        class_ids: ints, the classes whose objects are told apart. None: all of them.
        min_size: int, pixels. Smaller parts do not grow, and smaller objects are left out.
        threshold: float. Where the boundary map is at least this, it cuts.

    Returns:
        Instances.

    Raises:
        ValueError: labels are not 2D, or the boundary map has another shape.

    Example:
        >>> found = separate_instances([[1, 1, 0, 2], [0, 0, 0, 2], [1, 0, 0, 2]],
        ...                            class_ids=[1, 2], min_size=2)
        >>> found.instances
        array([[1, 1, 0, 2],
               [0, 0, 0, 2],
               [0, 0, 0, 2]], dtype=int32)
        >>> found.counts
        {1: 1, 2: 1}

    Source: Meyer 1994, "Topographic distance and watershed lines", for the growing; scikit-image's.
    """
    labels, boundary = _check_maps(labels, boundary)
    class_ids = np.unique(labels).tolist() if class_ids is None else [int(i) for i in class_ids]
    instances, owners = np.zeros(labels.shape, np.int32), []
    for class_id in class_ids:
        objects = _separate(labels == class_id, boundary, min_size, threshold)
        count = int(objects.max())
        instances[objects > 0] = objects[objects > 0] + len(owners)
        owners += [class_id] * count
    counts = {class_id: owners.count(class_id) for class_id in class_ids}
    return Instances(instances, counts, _measure_boxes(instances, owners))


def _check_maps(labels, boundary):
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"expected integer labels (height, width), received {labels.dtype} {labels.shape}; "
            "call it once for each image"
        )
    if boundary is not None:
        boundary = np.asarray(boundary, np.float32)
        if boundary.shape != labels.shape:
            raise ValueError(
                f"expected a boundary map of the labels' shape {labels.shape}, "
                f"received {boundary.shape}"
            )
    return labels, boundary


def _separate(mask, boundary, min_size, threshold):
    """Number the objects of a mask from 1 on."""
    from skimage.measure import label
    from skimage.segmentation import relabel_sequential, watershed

    objects = label(mask, connectivity=2)
    if boundary is not None:
        parts = label(mask & (boundary < threshold), connectivity=1)
        parts = _drop_small(parts, min_size)
        whole = ~np.isin(objects, objects[parts > 0])  # none of its parts is left
        parts = np.where(mask & whole, objects + parts.max(), parts)
        objects = watershed(boundary, parts, mask=mask, connectivity=2)
    return relabel_sequential(_drop_small(objects, min_size))[0]


def _drop_small(objects, min_size):
    sizes = np.bincount(objects.ravel())
    return np.where(sizes[objects] < min_size, 0, objects)


def _measure_boxes(instances, owners):
    import pandas as pd
    from scipy import ndimage

    places = ndimage.find_objects(instances)
    rows = [(*(part.start for part in place), *(part.stop for part in place)) for place in places]
    boxes = pd.DataFrame(rows, columns=["top", "left", "bottom", "right"], dtype=int)
    boxes.insert(0, "class", np.array(owners, int))
    boxes["pixels"] = np.bincount(instances.ravel(), minlength=len(owners) + 1)[1:]
    boxes.index = pd.RangeIndex(1, len(owners) + 1, name="instance")
    return boxes
