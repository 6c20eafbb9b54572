"""Photographs: read from files, upright and as uint8, and brought to another size."""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import re
import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps, UnidentifiedImageError

from seglib.classes import ClassTable

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
MAX_PIXELS = 50_000_000  # of a picture: 0.7 GB while it is decoded
MIN_IMAGE_SIZE = 32
TIFF, ARRAYS = (".tif", ".tiff"), (".npy", ".npz")
MAX_CHANNELS = 8
SAMPLED, SAMPLED_SIDE = 64, 128  # photographs that a range is chosen by, and their rows, columns
CUT_OFF = 0.1  # % of the values at either end of a range: hot pixels and the like
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION = 0x0112  # the EXIF tag; from 5 on, height and width change places
ONE_CHANNEL = ("1", "L", "LA", "La", "P", "PA", "F", *SIXTEEN_BITS)
FITS = ("stretch", "letterbox")
PADDING = 128  # the models scale it to 0, with which convolutions pad as well


class DatasetError(ValueError):
    """Something in the data is wrong; the message says what, where and what to do."""


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How the values in a photograph's file become the channels of a uint8 image.

    Args:
        bands: ints, 1 to 8, counted from 0: the band of each channel. None for RGB: the first
            three bands, or a single one three times.
        value_range: `(low, high)`, the values that become 0 and 255; those beyond are cut off.
            It applies to values of any dtype but uint8, which stay as they are.

    Raises:
        ValueError: these are no bands, or no range.
    """

    bands: tuple | None = None
    value_range: tuple | None = None

    def __post_init__(self):
        for name, values in self.to_dict().items():
            object.__setattr__(self, name, tuple(values))
        bands, limits = self.to_dict().get("bands", [0]), self.value_range or (0, 1)
        known = 1 <= len(bands) <= MAX_CHANNELS and set(bands) <= set(range(10_000))
        if not (known and len(limits) == 2 and -np.inf < limits[0] < limits[1] < np.inf):
            raise ValueError(
                f"expected 1 to {MAX_CHANNELS} bands, whole numbers from 0 on, and a value_range "
                f"(low, high), received bands={self.bands}, value_range={self.value_range}"
            )

    @property
    def channels(self) -> int:
        """How many channels an image has."""
        return 3 if self.bands is None else len(self.bands)

    def to_dict(self) -> dict:
        """Return what is set, for JSON: `Pixels(**options)` reads it."""
        options = {"bands": self.bands, "value_range": self.value_range}
        return {k: np.ravel(v).tolist() for k, v in options.items() if v is not None}

    def select(self, values: ArrayLike, source="the picture") -> np.ndarray:
        """Return the bands `(height, width, channels)` of values `(height, width[, bands])`."""
        values = np.atleast_3d(values)
        count = values.shape[2]
        bands = self.bands or ((0, 1, 2) if count > 2 else (0, 0, 0))
        if count == 1 and max(bands) < 3:  # grey
            bands = (0,) * len(bands)
        if max(bands) >= count:
            raise DatasetError(
                f"{source} has {count} bands, counted from 0, but bands={bands} are wanted: "
                "choose bands that all pictures have, or remove this one"
            )
        return values[..., list(bands)]

    def convert(self, values: ArrayLike, source="the picture") -> np.ndarray:
        """Return the uint8 image `(height, width, channels)` of values; see `select`."""
        values = self.select(values, source)
        if values.dtype == np.uint8:
            return values
        least, most, is_whole = values.min(), values.max(), values.dtype.kind in "iu"
        if self.value_range is None and (is_whole or not (least >= 0 and most <= 1)):
            raise DatasetError(
                f"{source} holds {values.dtype if is_whole else 'floating-point'} values from "
                f"{least:g} to {most:g}: expected [0, 1] or uint8; pass value_range=(low, high), "
                "one for all pictures, or save it with 8 bits a channel"
            )
        low, high = self.value_range or (0, 1)
        steps = 256 / (high + 1 - low) if is_whole else 255 / (high - low)
        levels = np.subtract(values, low, dtype=np.float32) * np.float32(steps)
        levels = np.floor(levels) if is_whole else np.round(levels)  # of 0 to 65535, the upper bits
        return np.nan_to_num(levels).clip(0, 255).astype(np.uint8)


RGB = Pixels()


def read_image(path: str | os.PathLike, pixels: Pixels = RGB) -> np.ndarray:
    """Read a photograph, turned upright where its EXIF data say that it lies on its side.

    Args:
        path: str or path of a picture, of a page such as `stack.tif/3`, or of a `.npy` array.
        pixels: Pixels, which bands become channels, and which values 0 to 255. What it leaves
            open is chosen by this one file, with a warning, where `open_dataset` chooses for all;
            but grey values in floating point must be in [0, 1] then.

    Returns:
        uint8 array `(height, width, channels)`, RGB unless `pixels` names other bands.

    Raises:
        DatasetError: the file is truncated, no picture, of more than `MAX_PIXELS`, or lacks a band.
    """
    if not holds_more(path) and pixels.bands is None:
        return np.asarray(convert_to_rgb(open_picture(path, upright=True), path))
    if pixels.bands is None and (count := count_pages(path)) > 1:
        words = f"{path} has {count} pages, of which the first is read: {path}/1 is the second"
        warnings.warn(f"{words}; Pixels(bands=(0, 1)) takes pages for bands", stacklevel=2)
        path = pathlib.Path(path, "0")
    values = read_values(path)
    return choose_pixels([values], pixels, path, kinds="iu").convert(values, path)


def find_file(path: str | os.PathLike) -> tuple:
    """Return the file of a picture, and its page: of `stack.tif/3`, `stack.tif` and 3; or None."""
    if isinstance(path, str | os.PathLike) and os.path.basename(path).isdecimal():
        file = pathlib.Path(path).parent
        if _ends(file, TIFF + ARRAYS) and file.is_file():
            return file, int(os.path.basename(path))
    return path, None


def count_pages(path: str | os.PathLike) -> int:
    """Return how many pages a TIFF file has, smaller copies not counted; 1 for others."""
    if _ends(path, TIFF):
        with contextlib.suppress(Exception), _open_tiff(path) as tiff:  # reading it tells why
            return len(_list_pages(tiff))
    return 1


def split_pages(pairs, *, as_bands: bool = False) -> list:
    """Return pairs of paths, one for each page where image and mask have several.

    Raises:
        DatasetError: one has more pages than the other, and they are not taken for bands.
    """
    split = []
    for image, mask in pairs:
        count, others = count_pages(image), count_pages(mask)
        if others == 1 and (count == 1 or as_bands):
            split.append((image, mask))
        elif count == others:
            split += [(image / str(page), mask / str(page)) for page in range(count)]
        else:
            raise DatasetError(
                f"{image} has {count} pages but its mask {mask} has {others}: expected as many of "
                "both, each page a pair; if an image's pages are its bands, pass bands=(0, 1, 2)"
            )
    return split


def survey_images(paths, pixels: Pixels, source) -> Pixels:
    """Return how all photographs are read: what `pixels` leave open, some `SAMPLED` decide."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        samples = pool.map(_sample_values, paths[:: -(-len(paths) // SAMPLED) or 1])
        samples = [values for values in samples if values is not None]
    return choose_pixels(samples, pixels, source) if samples else pixels


def choose_pixels(samples: list, pixels: Pixels, source, *, kinds="iuf") -> Pixels:
    """Choose what `pixels` leave open by arrays `(height, width, bands)`, and warn of it.

    A range is chosen for dtypes of these `kinds`.
    """
    count, said = max(values.shape[2] for values in samples), []
    if pixels.bands is None and count not in (1, 3):
        bands, every = (0, 1, 2) if count > 2 else (0, 0, 0), tuple(range(count))
        pixels = dataclasses.replace(pixels, bands=bands)
        left = f"{every[len(set(bands)) :]} of bands {every} are left out"
        said.append(f"{left}: pass bands={bands} to confirm, or up to {MAX_CHANNELS} others")
    deep = [pixels.select(v).ravel() for v in samples if v.dtype != "u1" and v.dtype.kind in kinds]
    if pixels.value_range is None and deep:
        low, high = find_range(np.concatenate(deep))
        pixels = dataclasses.replace(pixels, value_range=(low, high))
        if (low, high) not in ((0, 65535), (0, 1)):
            words = f"values from {low:g} to {high:g} become 0 to 255: pass value_range="
            said.append(f"{words}({low:g}, {high:g}) to confirm, or another for all pictures")
    for words in said:
        warnings.warn(f"{source}: {words}", stacklevel=3)
    return pixels


def find_range(values: np.ndarray) -> tuple:
    """Return which values become 0 and 255.

    It is `(0, 65535)` of whole numbers and `(0, 1)` of others, where values fill half of it, or
    all but the outermost 0.1 %. One value that is further from all others than these from each
    other, such as -9999, marks pixels without data and does not count.
    """
    full = 65535 if values.dtype.kind in "iu" else 1
    values = values[np.isfinite(values)].astype(np.float64)
    found = np.unique(values) if len(values) else np.array([0, full])
    for end, rest in ((0, found[1:]), (-1, found[:-1])):
        if len(found) > 16 and abs(rest[end] - found[end]) > np.ptp(rest):
            values = values[values != found[end]]
    low, high = np.percentile(values if len(values) else found, (CUT_OFF, 100 - CUT_OFF))
    if found[0] >= 0 and found[-1] <= full <= 2 * (high - low):
        return 0, full
    low, high = (np.floor(low), np.ceil(high)) if full > 1 else (low, high)
    return float(low), float(high if high > low else low + 1)


def holds_more(path: str | os.PathLike) -> bool:
    """Return whether a file holds more than 8 bits of grey or RGB, which `read_values` reads."""
    file, page = find_file(path)
    with contextlib.suppress(Exception):  # reading it tells why
        if _ends(file, TIFF):
            with _open_tiff(file) as tiff:
                pages = _list_pages(tiff)
            first = pages[page or 0]
            colors = first.samplesperpixel - (tuple(first.extrasamples) in ((1,), (2,)))  # alpha
            known = colors in (1, 3, 4 if first.photometric == 5 else 3)  # CMYK
            several = page is None and len(pages) > 1
            return several or not known or first.dtype not in ("u1", "?")
        if _ends(file, ".png"):
            with Image.open(file) as picture:
                return bool(re.search("(RGBA?|I);16", str(picture.tile)))
    return _ends(file, ARRAYS)


def read_values(path: str | os.PathLike) -> np.ndarray:
    """Return all that a photograph's file holds: `(height, width, bands)` of its own dtype.

    Pages count as bands, unless `path` is that of one page.
    """
    (file, page), keep = find_file(path), ("L", "LA", "RGB", "RGBA")
    try:
        if not holds_more(path):
            picture = open_picture(path, upright=True)
            values = np.asarray(picture if picture.mode in keep else convert_to_rgb(picture, path))
        elif _ends(file, ARRAYS):
            values = np.load(file, mmap_mode="r")
            values = values[values.files[0]] if _ends(file, ".npz") else values
            values = np.array(values if page is None else values[page])
        elif _ends(file, TIFF):
            values = _read_tiff(file, page)
        else:
            values = _read_sixteen_bits(file, page)
    except DatasetError:
        raise
    except Exception as error:
        raise _explain(path, error) from error
    return np.atleast_3d(values)


def _sample_values(path):
    """Some pixels of a photograph that holds more than 8 bits of grey or RGB; None of others."""
    with contextlib.suppress(DatasetError):  # reading it tells why
        if not holds_more(path):
            if open_picture(path, decode=False).mode != "RGBA":
                return None
            alpha = np.asarray(open_picture(path).getchannel("A"))
            if np.isin(alpha, (0, 255)).mean() > 0.5:  # it is no near infrared
                return None
        values = read_values(path)
        rows, columns = (-(-side // SAMPLED_SIDE) for side in values.shape[:2])
        return values[::rows, ::columns]


def _open_tiff(file):
    import tifffile

    return tifffile.TiffFile(file)


def _list_pages(tiff):
    return [page for page in tiff.pages if not (page.is_reduced or page.is_mask)]


def _read_tiff(file, page):
    planes = []
    with _open_tiff(file) as tiff:
        pages = _list_pages(tiff)
        for part in pages if page is None else [pages[page]]:
            _check_pixels(file, part.imagelength, part.imagewidth)
            try:
                values = part.asarray()
            except ValueError as error:  # of a compression that Pillow may know
                values = _read_sixteen_bits(file, part.index)
                if np.atleast_3d(values).shape[2] != part.samplesperpixel:
                    raise error
            planes.append(np.moveaxis(values, 0, -1) if part.axes == "SYX" else values)
    return np.dstack(planes)


def _read_sixteen_bits(file, page):
    """Values as Pillow reads them; of RGB with 16 bits it keeps one byte, so it reads twice."""
    halves = []
    for order in "BL":
        with Image.open(file) as picture:
            picture.seek(page or 0)
            is_big, tiles = ";16B" in str(picture.tile), []
            for *place, mode in picture.tile:
                raw, *rest = (mode,) if isinstance(mode, str) else mode
                raw = re.sub("(RGBA?;16).", rf"\g<1>{order}", raw)
                tiles.append((*place, (raw, *rest)))
            picture.tile = tiles
            halves.append(np.asarray(ImageOps.exif_transpose(picture)))
    high, low = halves if is_big else halves[::-1]
    return high.astype(np.uint16) << 8 | low if high.dtype == np.uint8 else low


def open_picture(path: str | os.PathLike, *, upright=False, decode=True) -> Image.Image:
    """Return the Pillow picture of a file, turned `upright` or not; without decoding, its head.

    `path` may be that of a page such as `stack.tif/3`.
    """
    file, page = find_file(path)
    try:
        if _ends(file, ARRAYS):
            return _create_picture(read_values(path))
        try:
            picture = Image.open(file)
        except UnidentifiedImageError:
            if not holds_more(path):
                raise
            return _create_picture(read_values(path))
        with picture:
            picture.seek(page or 0)
            _check_pixels(path, picture.height, picture.width)
            if decode:
                picture.load()
            return ImageOps.exif_transpose(picture) if upright else picture
    except DatasetError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise _explain(path, error) from error


def _ends(file, suffixes):
    return str(file).lower().endswith(suffixes)


def _check_pixels(path, height, width):
    if height * width > MAX_PIXELS:
        raise DatasetError(
            f"{path} claims {height}×{width} pixels (height × width), more "
            f"than the {MAX_PIXELS:,} that are decoded: reduce it or cut it into tiles, or "
            "raise seglib.images.MAX_PIXELS"
        )


def _explain(path, error):
    """DatasetError that tells why a file cannot be read."""
    advice = "it is missing, truncated or of another format; copy it again or remove the pair"
    if "imagecodecs" in str(error):
        advice = "pip install imagecodecs, or save it with another compression, such as deflate"
    return DatasetError(f"{path} cannot be read as a picture ({error}): {advice}")


def _create_picture(values):
    """Pillow picture of values `(height, width, bands)`; of whole numbers that are wide, as F."""
    values = values[..., 0] if values.shape[2] == 1 else values
    return Image.fromarray(values if values.dtype in ("?", "u1", "u2") else np.float32(values))


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
        image: uint8 array `(height, width, channels)`.
        size: `(height, width)` in pixels.

    Returns:
        uint8 array `(*size, channels)`.
    """
    if image.shape[:2] == tuple(size):
        return image
    shape = size[1], size[0]
    return change_image(image, lambda part: part.resize(shape, Image.Resampling.BILINEAR))


def change_image(image: np.ndarray, change: Callable) -> np.ndarray:
    """Return an image changed by a function of a Pillow picture: of RGB, else of each channel.

    Pillow has no mode for most numbers of channels, and takes a fourth one for transparency.
    """
    if image.shape[2] == 3:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(image))))
    parts = [np.asarray(change(Image.fromarray(part))) for part in np.moveaxis(image, 2, 0)]
    return np.stack(parts, axis=2)


def show_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image as RGB `(height, width, 3)` to look at: its first three channels, or grey."""
    count = image.shape[2]
    return image if count == 3 else image[..., [0, 1, 2] if count > 3 else [0, 0, 0]]


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
    fitted = np.full((*size, image.shape[2]), PADDING, np.uint8)
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
