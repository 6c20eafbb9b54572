"""A window of a picture and its labels: one affine map for both, drawn at random.

Places are `(row, column)` with pixel edges at whole numbers, so that the first pixel's centre
is at 0.5. A map is a float array `(2, 3)`: `map @ (row, column, 1)` is the place in the picture
of a place in the window.
"""

import math

import numpy as np
from PIL import Image

from seglib.images import PADDING


def draw_window(random, labels, augmentation, ignore_label):
    """Draw where a window lies in a picture.

    As many numbers are drawn whatever the options, so that one option does not change what
    is drawn for the others.

    Args:
        random: numpy Generator.
        labels: int array `(height, width)`.
        augmentation: Augmentation.
        ignore_label: int or None. With None, the window stays inside the picture.

    Returns:
        float array `(2, 3)`, the map from window to picture.
    """
    mirrored, zoom, aspect, turn, *place = random.random(6)
    focused, chosen, pixel = random.random(3)
    sides = np.array(labels.shape, float)
    window = np.array(augmentation.size or labels.shape, float)
    step = _draw_step(zoom, aspect, augmentation, sides / window)
    matrix = _turn(augmentation.rotation * (2 * turn - 1)) * step
    half = np.abs(matrix) @ window / 2  # of the upright box around the window
    if ignore_label is None:
        shrinking = min(1.0, *(sides / 2 / half))
        matrix, step, half = matrix * shrinking, step * shrinking, half * shrinking
    free = np.abs(sides - step * window) / 2 + augmentation.shift * step * window
    center = sides / 2 + (2 * np.array(place) - 1) * free
    if focused < augmentation.focus:
        found = find_focus(labels, chosen, pixel, augmentation.focus_weights, ignore_label)
        if found is not None:
            center = np.clip(found, sides / 2 - free, sides / 2 + free)
    if ignore_label is None:
        center = np.clip(center, half, sides - half)
    if mirrored < augmentation.flip:
        matrix = matrix * (1, -1)
    return np.column_stack([matrix, center - matrix @ window / 2])


def find_focus(labels, chosen, pixel, weights=None, ignore_label=None):
    """Return the centre of a random pixel of a random class, or None if there is none.

    Args:
        labels: int array `(height, width)`.
        chosen, pixel: numbers in [0, 1) that choose the class and one of its pixels.
        weights: sequence of a number for each class, or None for all alike.
        ignore_label: int or None, which is never chosen.

    Returns:
        float array, `(row, column)`.

    Raises:
        ValueError: a class has no weight.

    Example:
        >>> find_focus(np.array([[0, 0, 0], [0, 0, 4]]), 0.5, 0.9)
        array([1.5, 2.5])
    """
    label = find_class(labels, chosen, weights, ignore_label)
    if label is None:
        return None
    pixels = np.flatnonzero(labels == label)
    return np.array(divmod(pixels[int(pixel * len(pixels))], labels.shape[1])) + 0.5


def find_class(labels, chosen, weights=None, ignore_label=None):
    """Return a random class of those that labels hold, or None if there is none.

    Args: as of `find_focus`.

    Raises:
        ValueError: a class has no weight.
    """
    present = np.flatnonzero(np.bincount(labels.ravel()))
    present = present[present != (-1 if ignore_label is None else ignore_label)]
    if not len(present):
        return None
    if weights is not None and present[-1] >= len(weights):
        raise ValueError(
            f"expected a weight for each class, received {len(weights)} but labels hold "
            f"class {present[-1]}: give as many as the class table has rows"
        )
    wanted = np.cumsum(np.ones(len(present)) if weights is None else np.take(weights, present))
    if not wanted[-1]:
        return None
    return int(present[np.searchsorted(wanted, chosen * wanted[-1], side="right")])


def cut_window(image, labels, matrix, *, size, ignore_label=None):
    """Show a picture and its labels through a window.

    The image is interpolated bilinearly, averaged where it is reduced: as `resize_image` does it,
    so that what a model learns from is as sharp as what it will predict; turned windows are
    averaged over whole pixels. Labels are those of the nearest pixel. Outside of the picture,
    labels are the ignored one and the image is grey like the padding of a letterbox: the models
    scale it to 0, with which convolutions pad as well.

    Args:
        image: uint8 array `(height, width, 3)`.
        labels: int array `(height, width)`.
        matrix: float array `(2, 3)`, the map from window to picture.
        size: `(height, width)` of the window.
        ignore_label: int or None.

    Returns:
        `(image, labels)` of the window.

    Example:
        >>> image, labels = np.zeros((2, 2, 3), np.uint8), np.array([[1, 2], [3, 4]])
        >>> cut_window(image, labels, [[1, 0, 1], [0, 1, 0]], size=(2, 2), ignore_label=9)[1]
        array([[3, 4],
               [9, 9]])
    """
    matrix = np.asarray(matrix, float)
    if size == labels.shape:
        if np.array_equal(matrix, [[1, 0, 0], [0, 1, 0]]):
            return image, labels
        if np.array_equal(matrix, [[1, 0, 0], [0, -1, size[1]]]):
            return image[:, ::-1], labels[:, ::-1]
    first, last = _find_part(matrix, size, labels.shape)
    part = tuple(slice(*ends) for ends in zip(first, last, strict=True))
    matrix = matrix - np.column_stack([np.zeros((2, 2)), first])
    return (
        _sample_image(image[part], matrix, size),
        _sample_labels(labels[part], matrix, size, ignore_label),
    )


def _draw_step(zoom, aspect, augmentation, fitting):
    """Rows and columns of the picture for one of the window."""
    lowest, highest = augmentation.scale
    scale = lowest * (highest / lowest) ** zoom
    stretch = augmentation.aspect ** (aspect - 0.5)
    return (1.0 if augmentation.native else fitting) / scale * np.array([stretch, 1 / stretch])


def _turn(degrees):
    """The map that turns what the window shows to the left."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, sine], [-sine, cosine]])


def _find_part(matrix, size, sides):
    """The first and last row and column of the picture that a window needs."""
    center = matrix @ (size[0] / 2, size[1] / 2, 1)
    half = np.abs(matrix[:, :2]) @ size / 2
    margin = 1 + np.hypot(*matrix[:, :2].T)  # what interpolation and averaging look at
    first = np.floor(center - half - margin).clip(0, np.subtract(sides, 1)).astype(int)
    last = np.ceil(center + half + margin).clip(first + 1, sides).astype(int)
    return first, last


def _sample_image(image, matrix, size):
    if not matrix[0, 1] and not matrix[1, 0]:
        return _resize_part(image, matrix, size)
    picture = Image.fromarray(image)
    reduction = np.hypot(*matrix[:, :2].T) + 1e-6
    reduction = reduction.astype(int).clip(1, image.shape[:2])
    if reduction.max() > 1:
        picture = picture.reduce((int(reduction[1]), int(reduction[0])))
        matrix = matrix / reduction[:, None]
    shown = _transform(picture, matrix, size, Image.Resampling.BILINEAR, (PADDING,) * 3)
    return np.asarray(shown)


def _resize_part(image, matrix, size):
    """What an upright window shows, as sharp as `resize_image` makes a whole picture."""
    steps, starts = matrix.diagonal(), matrix[:, 2]
    starts, steps, mirrored = np.minimum(starts, starts + steps * size), np.abs(steps), steps < 0
    boxes, places = zip(*map(_find_covered, starts, steps, size, image.shape[:2]), strict=True)
    shown = np.full((*size, 3), PADDING, np.uint8)
    place = tuple(slice(*ends) for ends in places)
    if shown[place].size:
        padding = [(max(0, -math.floor(low)), max(0, math.ceil(high) - side))
                   for (low, high), side in zip(boxes, image.shape[:2], strict=True)]  # fmt: skip
        picture = Image.fromarray(np.pad(image, [*padding, (0, 0)], mode="edge"))
        (top, bottom), (left, right) = (
            (low + before, high + before)
            for (low, high), (before, _) in zip(boxes, padding, strict=True)
        )
        shown[place] = picture.resize(
            shown[place].shape[1::-1], Image.Resampling.BILINEAR, (left, top, right, bottom)
        )
    return shown[:: -1 if mirrored[0] else 1, :: -1 if mirrored[1] else 1]


def _find_covered(start, step, length, side):
    """The pixels of a window's side whose centres lie in the picture, and what they cover."""
    centers = start + step * (np.arange(length) + 0.5)
    first, last = np.searchsorted(centers, (0, side))
    ends = start + step * np.array([first, last])
    return ends.round(6).tolist(), (int(first), int(last))


def _sample_labels(labels, matrix, size, ignore_label):
    # Pillow interpolates ids of one byte, or of four.
    picture = Image.fromarray(labels if labels.dtype == np.uint8 else labels.astype(np.int32))
    moved = _transform(picture, matrix, size, Image.Resampling.NEAREST, ignore_label)
    return np.asarray(moved).astype(labels.dtype, copy=False)


def _transform(picture, matrix, size, resampling, fill):
    (rows_down, rows_right, top), (columns_down, columns_right, left) = matrix.tolist()
    return picture.transform(
        (size[1], size[0]),
        Image.Transform.AFFINE,
        (columns_right, columns_down, left, rows_right, rows_down, top),
        resampling,
        fillcolor=fill,
    )
