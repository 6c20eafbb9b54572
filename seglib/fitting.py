"""How a picture fits a size: stretched to it, or its shape kept and the rest padded."""

import dataclasses

import numpy as np

from seglib.images import resize_image
from seglib.masks import resize_labels

FITS = ("stretch", "letterbox")
PADDING = 128  # the models scale it to 0, with which convolutions pad as well


def place_picture(size, target, *, fit):
    """Tell where a picture lies once it has been fitted.

    Args:
        size: `(height, width)` of the picture.
        target: `(height, width)` that it is fitted to.
        fit: "stretch", or "letterbox" for as large as its aspect ratio allows, in the middle.

    Returns:
        `((height, width), (top, left))`, its size and offset in pixels of the target.

    Raises:
        ValueError: `fit` is neither.

    Example:
        >>> place_picture((360, 480), (128, 128), fit="letterbox")
        ((96, 128), (16, 0))
    """
    check_fit(fit)
    (height, width), (rows, columns) = size, target
    if fit == "letterbox" and height * columns > width * rows:
        columns = max(1, (2 * width * rows + height) // (2 * height))  # rounded
    elif fit == "letterbox":
        rows = max(1, (2 * height * columns + width) // (2 * width))
    return (rows, columns), ((target[0] - rows) // 2, (target[1] - columns) // 2)


def fit_image(image, size, *, fit="stretch"):
    """Fit a photograph to a size; what it does not cover is grey.

    Args:
        image: uint8 array `(height, width, 3)`.
        size: `(height, width)` in pixels.
        fit: as in `place_picture`.

    Returns:
        uint8 array `(*size, 3)`.
    """
    inner, offset = place_picture(image.shape[:2], size, fit=fit)
    return _pad(resize_image(image, inner), size, offset, PADDING)


def fit_labels(labels, size, *, fit="stretch", ignore_label=255):
    """Fit a label map to a size; what it does not cover is ignored.

    Args:
        labels: int array `(height, width)`.
        size: `(height, width)` in pixels.
        fit: as in `place_picture`.
        ignore_label: int, the label of the padding; None where `fit` makes none.

    Returns:
        array of shape `size` and the dtype of `labels`, or one that holds `ignore_label`.
    """
    inner, offset = place_picture(labels.shape, size, fit=fit)
    return _pad(resize_labels(labels, inner), size, offset, ignore_label)


def cut_padding(values, size, *, fit):
    """Return the part of a fitted array that shows the picture: the way back.

    Args:
        values: array `(height, width, …)`, such as probabilities of a fitted picture.
        size: `(height, width)` that the picture had before.
        fit: as in `place_picture`.

    Returns:
        view of `values`, still at its scale.
    """
    (rows, columns), (top, left) = place_picture(size, values.shape[:2], fit=fit)
    return values[top : top + rows, left : left + columns]


def fit_classes(classes, *, fit):
    """Return the class table that fitted labels are of: one that can ignore the padding."""
    if fit == "stretch" or classes.ignore_label is not None:
        return classes
    return dataclasses.replace(classes, ignore_label=255 if classes.num_classes <= 255 else 65535)


def check_fit(fit):
    """Raise ValueError where `fit` is none of `FITS`."""
    if fit not in FITS:
        raise ValueError(f"expected fit to be one of {', '.join(FITS)}, received {fit!r}")


def _pad(picture, size, offset, value):
    if picture.shape[:2] == tuple(size):
        return picture
    dtype = np.promote_types(picture.dtype, np.min_scalar_type(value))
    padded = np.full((*size, *picture.shape[2:]), value, dtype)
    (top, left), (rows, columns) = offset, picture.shape[:2]
    padded[top : top + rows, left : left + columns] = picture
    return padded
