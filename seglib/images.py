"""Photographs from files, upright and as RGB, checked while they are read."""

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
MAX_PIXELS = 50_000_000  # of a picture: 0.7 GB while it is decoded
MIN_IMAGE_SIZE = 32
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
ONE_CHANNEL = ("1", "L", "LA", "La", "P", "PA", "F", *SIXTEEN_BITS)


class DatasetError(ValueError):
    """Something in the data is wrong; the message says what, where and what to do."""


def read_image(path):
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


def open_picture(path, *, upright=False, decode=True):
    """Return the Pillow picture of a file, decoded.

    Args:
        path: str or path.
        upright: bool. True turns it as its EXIF data say.
        decode: bool. False reads the file's head only.

    Raises:
        DatasetError: as `read_image`.
    """
    try:
        with Image.open(path) as picture:
            _check_pixels(path, picture)
            if decode:
                picture.load()
            return ImageOps.exif_transpose(picture) if upright else picture
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError(f"{path} is not there any more") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(f"{path} is too large ({error}): reduce it") from None
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DatasetError(
            f"{path} cannot be read as a picture ({error}): it is truncated or of another "
            "format; copy it again or remove the pair"
        ) from error


def convert_to_rgb(picture, path="the picture"):
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


def _check_pixels(path, picture):
    if picture.width * picture.height > MAX_PIXELS:
        raise DatasetError(
            f"{path} claims {picture.height}×{picture.width} pixels (height × width), more than "
            f"the {MAX_PIXELS:,} that are decoded: reduce it or cut it into tiles, or raise "
            "seglib.images.MAX_PIXELS"
        )
