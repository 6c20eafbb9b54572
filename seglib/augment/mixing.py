"""Two pairs made one: blended (mixup), or a box or class of one pasted into the other."""

import numpy as np
from PIL import Image


def blend_pairs(first, second, *, share, num_classes, ignore_label=None):
    """Blend two pairs.

    A pixel that is ignored in one of them counts for the share of the other: so the loss of
    the blend is that of both truths, each without its ignored pixels.

    Args:
        first, second: pairs `(image, labels)` of the same size.
        share: number in [0, 1] of the first.
        num_classes: int.
        ignore_label: int or None.

    Returns:
        `(image, labels)`, uint8 `(height, width, 3)` and float32
        `(height, width, num_classes)`.
    """
    image = Image.blend(*(Image.fromarray(pair[0]) for pair in (second, first)), share)
    parts = [(first[1], share), (second[1], 1 - share)]
    return np.asarray(image), soften(parts, num_classes=num_classes, ignore_label=ignore_label)


def soften(parts, *, num_classes, ignore_label=None):
    """Return the share of each class in each pixel.

    Args:
        parts: list of `(labels, share)`.
        num_classes: int.
        ignore_label: int or None. It has no share in anything.

    Returns:
        float32 array `(height, width, num_classes)`.

    Example:
        >>> parts = [(np.array([[0, 1, 9]]), 0.75), (np.array([[0, 0, 1]]), 0.25)]
        >>> soften(parts, num_classes=2, ignore_label=9).tolist()
        [[[1.0, 0.0], [0.25, 0.75], [0.0, 0.25]]]
    """
    shape = parts[0][0].shape
    shares = np.zeros((*shape, num_classes), np.float32)
    flat, starts = shares.reshape(-1), np.arange(0, shares.size, num_classes).reshape(shape)
    for labels, share in parts:
        places = starts + labels
        flat[places if ignore_label is None else places[labels != ignore_label]] += share
    return shares


def draw_box(random, size, area):
    """Draw a box of the picture's form that lies inside it.

    Args:
        random: numpy Generator.
        size: `(height, width)` of the picture.
        area: number in [0, 1], the share of its area.

    Returns:
        tuple of two slices, rows and columns.
    """
    sides = [round(side * area**0.5) for side in size]
    starts = [int(random.integers(side - part + 1)) for side, part in zip(size, sides, strict=True)]
    return tuple(slice(start, start + part) for start, part in zip(starts, sides, strict=True))


def paste_box(first, second, box):
    """Paste a box of the second pair into the first, at the same place.

    Args:
        first, second: pairs `(image, labels)` of the same size.
        box: tuple of two slices, rows and columns.

    Returns:
        `(image, labels)`, new arrays.
    """
    image, labels = np.array(first[0]), np.array(first[1])
    image[box], labels[box] = second[0][box], second[1][box]
    return image, labels


def paste_class(first, second, label):
    """Paste all pixels of a class of the second pair into the first, at the same places.

    Args:
        first, second: pairs `(image, labels)` of the same size.
        label: int.

    Returns:
        `(image, labels)`, new arrays.

    Example:
        >>> pairs = [(np.full((1, 3, 3), v, np.uint8), np.array([ids])) for v, ids in
        ...          ((10, [0, 0, 1]), (90, [2, 0, 2]))]
        >>> image, labels = paste_class(*pairs, 2)
        >>> labels.tolist(), image[..., 0].tolist()
        ([[2, 0, 2]], [[90, 10, 90]])
    """
    pasted = second[1] == label
    image = np.where(pasted[..., None], second[0], first[0])
    return image, np.where(pasted, second[1], first[1])
