"""Photographs: read from files, upright and as RGB, and brought to another size."""

import dataclasses
import os
from fractions import Fraction

import numpy as np
from PIL import Image, ImageOps

from seglib.classes import ClassTable

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
MAX_PIXELS = 50_000_000  # of a picture: 0.7 GB while it is decoded
MIN_IMAGE_SIZE = 32
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION = 0x0112  # the EXIF tag; from 5 on, height and width change places
ONE_CHANNEL = ("1", "L", "LA", "La", "P", "PA", "F", *SIXTEEN_BITS)
FITS = ("stretch", "letterbox")
PADDING = 128  # the models scale it to 0, with which convolutions pad as well


class DatasetError(ValueError):
    """Something in the data is wrong; the message says what, where and what to do."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a photograph, turned upright where its EXIF data say that it lies on its side.

    Args:
        path: str or path of a file that Pillow reads. Of 16 bits a channel the upper 8 are
            taken; grey values in floating point must be in [0, 1].

    Returns:
        uint8 array `(height, width, 3)`, RGB.

    Raises:
        DatasetError: the file is truncated, no picture, or of more than `MAX_PIXELS`.
    """
    return np.asarray(convert_to_rgb(open_picture(path, upright=True), path))


def open_picture(path: str | os.PathLike, *, upright=False, decode=True) -> Image.Image:
    """Return the Pillow picture of a file, turned `upright` or not; without decoding, its head."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DatasetError(
                    f"{path} claims {picture.height}×{picture.width} pixels (height × width), more "
                    f"than the {MAX_PIXELS:,} that are decoded: reduce it or cut it into tiles, or "
                    "raise seglib.images.MAX_PIXELS"
                )
            if decode:
                picture.load()
            return ImageOps.exif_transpose(picture) if upright else picture
    except DatasetError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DatasetError(
            f"{path} cannot be read as a picture ({error}): it is missing, truncated or of another "
            "format; copy it again or remove the pair"
        ) from error


def convert_to_rgb(picture: Image.Image, path: str | os.PathLike = "the picture") -> Image.Image:
    """Return a Pillow picture of any kind as one of RGB, 8 bits a channel."""
    if picture.mode == "RGB":
        return picture
    if picture.mode in SIXTEEN_BITS:
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        values = np.asarray(picture)
        if not (values.min() >= 0 and values.max() <= 1):
            raise DatasetError(
                f"{path} holds floating-point values from {values.min():g} to {values.max():g}: "
                "expected [0, 1]; save it with 8 bits a channel"
            )
        return Image.fromarray((255 * values).round().astype(np.uint8)).convert("RGB")
    if "transparency" in picture.info:  # Pillow warns of what it would drop
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def resize_image(image: np.ndarray, size: tuple) -> np.ndarray:
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


def check_image_size(size) -> tuple:
    """Return an image size as `(height, width)`; an int means a square."""
    size = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(size) != 2 or any(int(side) != side or side < MIN_IMAGE_SIZE for side in size):
        raise ValueError(
            f"expected an image size (height, width) of at least {MIN_IMAGE_SIZE} pixels a side, "
            f"received {size}: in smaller pictures the deep levels of a U-Net see nothing"
        )
    return int(size[0]), int(size[1])


def fit_image(image: np.ndarray, size: tuple, *, fit: str = "stretch") -> np.ndarray:
    """Fit a photograph to a size, see `cut_padding`; what it does not cover is grey."""
    fitted = np.full((*size, 3), PADDING, np.uint8)
    inside = cut_padding(fitted, image.shape[:2], fit=fit)
    inside[:] = resize_image(image, inside.shape[:2])
    return fitted


def cut_padding(fitted: np.ndarray, size: tuple, *, fit: str) -> np.ndarray:
    """Return the part of a fitted array, a view, that shows a picture which had this size before.

    `fit` is "stretch", or "letterbox" for as large as its aspect ratio allows, in the middle.

    Example:
        >>> cut_padding(np.arange(25).reshape(5, 5), (3, 9), fit="letterbox")
        array([[ 5,  6,  7,  8,  9],
               [10, 11, 12, 13, 14]])
    """
    check_fit(fit)
    shape = inner = fitted.shape[:2]
    if fit == "letterbox":
        scale = min(Fraction(new, old) for new, old in zip(shape, size, strict=True))
        inner = [max(1, int(side * scale + Fraction(1, 2))) for side in size]  # rounded
    top, left = (shape[0] - inner[0]) // 2, (shape[1] - inner[1]) // 2
    return fitted[top : top + inner[0], left : left + inner[1]]


def fit_classes(classes: ClassTable, *, fit: str) -> ClassTable:
    """Return the class table that fitted labels are of: one that can ignore the padding."""
    check_fit(fit)
    if fit == "stretch" or classes.ignore_label is not None:
        return classes
    return dataclasses.replace(classes, ignore_label=255 if classes.num_classes <= 255 else 65535)


def check_fit(fit: str) -> None:
    """Raise ValueError where `fit` is none of `FITS`."""
    if fit not in FITS:
        raise ValueError(f"expected fit to be one of {', '.join(FITS)}, received {fit!r}")
