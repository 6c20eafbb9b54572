"""Photographs and masks from files, checked while they are read."""

import numpy as np
from PIL import Image

from seglib import masks

MAX_UNKNOWN_SHARE = 0.01  # of a mask's pixels: more is no accident of drawing
MIN_IMAGE_SIZE = 32
# Lossy formats shift colours by about this much. The line between two CamVid colours passes
# a third at 17.8 or more, or right through it, so clean blends are told from shifted colours.
NOISE_DISTANCE = 16


class DatasetError(ValueError):
    """Something in the data is wrong; the message says what, where and what to do."""


def read_image(path):
    """Read a photograph.

    Args:
        path: str or path of a file that Pillow reads.

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        DatasetError: the file is truncated or no picture.
    """
    return np.asarray(_decode(path).convert("RGB"))


def read_labels(path, classes, *, sharpen=True):
    """Read a mask as label ids.

    A colour mask is mapped to the nearest class colours, boundaries sharpened. So is a
    palette or grey mask that shows the table's colours exactly; otherwise the values of
    a mask with one channel are ids already.

    Args:
        path: str or path of the mask.
        classes: ClassTable.
        sharpen: bool. False leaves blended pixels at their nearest class.

    Returns:
        uint8 array `(height, width)`; uint16 where ids exceed 255.

    Raises:
        DatasetError: the file is truncated, more than 1 % of its pixels have colours
            that belong to no class, or an id is outside the table.
    """
    picture = _decode(path)
    if is_color(picture):
        return _labels_from_colors(np.asarray(picture.convert("RGB")), classes, path, sharpen)
    labels, pixels = np.asarray(picture), np.asarray(picture.convert("RGB"))
    if picture.mode == "P" and masks.exact_colors(pixels, classes).all():
        return masks.closest_labels(pixels, classes.mapping)
    try:
        masks.check_labels(labels, classes, source=path)
    except ValueError as error:
        if masks.exact_colors(pixels, classes).all():  # grey values that the table has as colours
            return masks.closest_labels(pixels, classes.mapping)
        raise DatasetError(str(error)) from None
    ignored = np.isin(labels, classes.also_ignored)
    labels = labels.astype(np.uint8 if labels.max() < 256 else np.uint16)
    return np.where(ignored, classes.ignore_label, labels) if ignored.any() else labels


def read_pair(image_path, mask_path, classes):
    """Read a photograph and its labels, and check that they have the same size."""
    image, labels = read_image(image_path), read_labels(mask_path, classes)
    if image.shape[:2] != labels.shape:
        raise DatasetError(
            f"{mask_path} is {labels.shape[0]}×{labels.shape[1]} (height × width) but its image "
            f"{image_path} is {image.shape[0]}×{image.shape[1]}: "
            "export the mask at the image's size"
        )
    return image, labels


def resize_image(image, size):
    """Resize a photograph, bilinearly and antialiased.

    Args:
        image: uint8 array `(height, width, 3)`.
        size: `(height, width)` in pixels.

    Returns:
        uint8 array `(*size, 3)`.
    """
    if image.shape[:2] == tuple(size):
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def check_image_size(size):
    """Return an image size as `(height, width)`; an int means a square.

    Raises:
        ValueError: a side is no whole number of at least 32 pixels.
    """
    size = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(size) != 2 or any(int(side) != side or side < MIN_IMAGE_SIZE for side in size):
        raise ValueError(
            f"expected an image size (height, width) of at least {MIN_IMAGE_SIZE} pixels a side, "
            f"received {size}: in smaller pictures the deep levels of a U-Net see nothing"
        )
    return int(size[0]), int(size[1])


def is_color(picture):
    """Whether a Pillow picture shows classes as colours, not as ids."""
    return picture.mode not in ("1", "L", "P", "I", "I;16", "F")


def count_colors(path):
    """Return the values of a mask and how many pixels have each: two arrays.

    Values are RGB `(n, 3)` for a colour mask, ids `(n,)` for any other.
    """
    picture = _decode(path)
    if is_color(picture):
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        return np.unique(pixels, axis=0, return_counts=True)
    return np.unique(np.asarray(picture), return_counts=True)


def _decode(path):
    try:
        with Image.open(path) as picture:
            picture.load()
    except FileNotFoundError:
        raise DatasetError(f"{path} is not there any more") from None
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DatasetError(
            f"{path} cannot be read as a picture ({error}): it is truncated or of another "
            "format; copy it again or remove the pair"
        ) from error
    return picture


def _labels_from_colors(pixels, classes, path, sharpen):
    labels = masks.closest_labels(pixels, classes.mapping)
    exact = masks.exact_colors(pixels, classes)
    if exact.all():
        return labels
    if 1 - exact.mean() > MAX_UNKNOWN_SHARE:
        _check_unknown_colors(pixels, labels, classes, path)
    if not sharpen:
        return labels
    return masks.sharpen_boundaries(pixels, labels, classes, tolerance=NOISE_DISTANCE)


def _check_unknown_colors(pixels, labels, classes, path):
    unknown = masks.find_unknown_colors(pixels, labels, classes)
    if unknown.mean() <= MAX_UNKNOWN_SHARE:
        return
    colors, counts = np.unique(pixels[unknown], axis=0, return_counts=True)
    color = tuple(colors[counts.argmax()].tolist())
    nearest = classes.names[labels[unknown & (pixels == color).all(axis=-1)][0]]
    raise DatasetError(
        f"{path}: {int(unknown.sum())} of {unknown.size} pixels are far from every class colour, "
        f"most often {color} ({counts.max()} pixels; nearest class {nearest}): "
        "add the colour to the class table, or correct the mask"
    )
