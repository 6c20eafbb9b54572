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
        known = set(bands) <= set(range(1000)) and 1 <= len(bands) <= MAX_CHANNELS
        if not (known and len(limits) == 2 and -np.inf < limits[0] < limits[1] < np.inf):
            wanted = f"1 to {MAX_CHANNELS} bands, counted from 0, and a value_range (low, high)"
            raise ValueError(f"expected {wanted}, received {self}")

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
        count, bands = values.shape[2], self.bands or (0, 1, 2)
        if count == 1 and max(bands) < 3:  # grey
            bands = (0,) * len(bands)
        if max(bands) >= count:
            found = f"{source} has bands 0 to {count - 1}, but bands={bands} are wanted"
            raise DatasetError(f"{found}: choose others, or remove the picture")
        return values[..., list(bands)]

    def convert(self, values: ArrayLike, source="the picture") -> np.ndarray:
        """Return the uint8 image `(height, width, channels)` of values; see `select`."""
        values = self.select(values, source)
        if values.dtype == np.uint8:
            return values
        least, most, is_whole = values.min(), values.max(), values.dtype.kind in "iu"
        if self.value_range is None and (is_whole or not 0 <= least <= most <= 1):
            kind = values.dtype if is_whole else "floating-point"
            found = f"{source} holds {kind} values from {least:g} to {most:g}"
            advice = f"pass value_range=({least:g}, {most:g}), or another for all pictures"
            raise DatasetError(f"{found}: expected [0, 1] or uint8; {advice}")
        low, high = self.value_range or (0, 1)
        # Of 0 to 65535 these are the upper 8 bits.
        steps = 256 / (high + 1 - low) if is_whole else 255 / (high - low)
        levels = np.subtract(values, low, dtype=np.float32) * np.float32(steps)
        levels = np.floor(levels) if is_whole else np.round(levels)
        return np.nan_to_num(levels).clip(0, 255).astype(np.uint8)


RGB, SIXTEEN = Pixels(), Pixels(value_range=(0, 65535))


def read_image(path: str | os.PathLike, pixels: Pixels = RGB) -> np.ndarray:
    """Read a photograph, turned upright where its EXIF data say that it lies on its side.

    Args:
        path: str or path of a picture, of a page such as `stack.tif/3`, or of a `.npy` array.
        pixels: Pixels, which bands become channels, and which values 0 to 255. What it leaves
            open is chosen by this one file, with a warning, where `open_dataset` chooses for all;
            but values in floating point must be in [0, 1] then.

    Returns:
        uint8 array `(height, width, channels)`, RGB unless `pixels` names other bands.

    Raises:
        DatasetError: the file is truncated, no picture, of more than `MAX_PIXELS`, or lacks a band.
    """
    if pixels.bands is None and len(pages := list_pages(path)) > 1:
        words = f"{path} has {len(pages)} pages, of which the first is read"
        warnings.warn(f"{words}: {path}/{pages[1]} is the second", stacklevel=2)
        path = pathlib.Path(path, str(pages[0]))
    values = read_values(path)
    if values is not None:
        return choose_pixels([values], pixels, path, kinds="iu").convert(values, path)
    picture = open_picture(path, upright=True)
    if pixels.bands is None:
        return np.asarray(convert_to_rgb(picture, path))
    has_alpha = picture.mode in ("LA", "RGBA")  # which may be a band
    return pixels.convert(picture if has_alpha else convert_to_rgb(picture, path), path)


def find_file(path: str | os.PathLike) -> tuple:
    """Return the file of a picture, and its page: of `stack.tif/3`, `stack.tif` and 3; or None."""
    if isinstance(path, str | os.PathLike) and os.path.basename(path).isdecimal():
        file = pathlib.Path(path).parent
        if _ends(file, TIFF + ARRAYS) and file.is_file():
            return file, int(os.path.basename(path))
    return path, None


def list_pages(path: str | os.PathLike) -> list:
    """Return the numbers of a TIFF file's pages, without smaller copies of them; [0] of others."""
    if _ends(path, TIFF):
        with contextlib.suppress(Exception), _open_tiff(path) as tiff:  # reading it tells why
            return [page.index for page in tiff.pages if not (page.is_reduced or page.is_mask)]
    return [0]


def split_pages(pairs, *, as_bands: bool = False) -> list:
    """Return pairs of paths, one for each page where image and mask have several.

    Raises:
        DatasetError: one has more pages than the other, and they are not taken for bands.
    """
    split = []
    for image, mask in pairs:
        pages, others = list_pages(image), list_pages(mask)
        if len(others) == 1 and (len(pages) == 1 or as_bands):
            split.append((image, mask))
        elif len(pages) == len(others):
            both = zip(pages, others, strict=True)
            split += [(image / str(page), mask / str(other)) for page, other in both]
        else:
            found = f"{image} has {len(pages)} pages but its mask {mask} has {len(others)}"
            advice = "cut them into pairs, or pass bands=(0, 1, 2) where pages are bands"
            raise DatasetError(f"{found}: {advice}")
    return split


def survey_images(paths, pixels: Pixels, source) -> Pixels:
    """Return how all photographs are read: what `pixels` leave open, some `SAMPLED` decide."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        samples = pool.map(_sample_values, paths[:: -(-len(paths) // SAMPLED) or 1])
        samples = [values for values in samples if values is not None]
    if pixels.value_range and all(values.dtype == "u1" for values in samples):
        words = "value_range changes nothing, as all photographs have 8 bits"
        warnings.warn(f"{source}: {words}", stacklevel=3)
    return choose_pixels(samples, pixels, source) if samples else pixels


def choose_pixels(samples: list, pixels: Pixels, source, *, kinds="iuf") -> Pixels:
    """Choose what `pixels` leave open by arrays `(height, width, bands)`, and warn of it.

    A range is chosen for dtypes of these `kinds`.
    """
    count = max(values.shape[2] for values in samples)
    if pixels.bands is None and count not in (1, 3):
        bands = (0, 1, 2) if count > 2 else (0, 0, 0)
        pixels = dataclasses.replace(pixels, bands=bands)
        left = ", ".join(map(str, sorted({*range(count)} - {*bands})))
        words = f"of bands 0 to {count - 1} these are left out: {left}; pass bands={bands}"
        more = tuple(range(min(count, MAX_CHANNELS)))
        warnings.warn(f"{source}: {words} to confirm, or others such as {more}", stacklevel=3)
    deep = [v for v in samples if v.dtype != "u1" and v.dtype.kind in kinds]
    if pixels.value_range is None and deep:
        low, high = find_range(np.concatenate([pixels.select(v, source).ravel() for v in deep]))
        pixels = dataclasses.replace(pixels, value_range=(low, high))
        if high not in (1, 65535):
            words = f"{source}: values from {low:g} to {high:g} become 0 to 255"
            advice = f"pass value_range=({low:g}, {high:g}) to confirm, or another"
            warnings.warn(f"{words}: {advice}", stacklevel=3)
    return pixels


def find_range(values: np.ndarray) -> tuple:
    """Return which values become 0 and 255.

    It is `(0, 65535)` of whole numbers and `(0, 1)` of others, where values fill half of it, or
    all but the outermost 0.1 %. One value that is further from all others than these from each
    other, such as -9999, marks pixels without data and does not count.
    """
    full = 65535 if values.dtype.kind in "iu" else 1
    values = values[np.isfinite(values)].astype(np.float64)
    found = np.unique(values)
    for end, rest in ((0, found[1:]), (-1, found[:-1])):
        if len(found) > 16 and abs(rest[end] - found[end]) > np.ptp(rest):
            values = values[values != found[end]]
    low, high = np.percentile(values, (CUT_OFF, 100 - CUT_OFF)) if len(found) else (0, full)
    if values.min(initial=0) >= 0 and values.max(initial=0) <= full <= 2 * (high - low):
        return 0, full
    ends = (np.floor(low), np.ceil(high)) if full > 1 else (low, high)
    low, high = (float(f"{end:.4g}") for end in ends)  # as a warning shows them
    return low, high if high > low else low + 1


def read_values(path: str | os.PathLike) -> np.ndarray | None:
    """Return all that a photograph's file holds: `(height, width, bands)` of its own dtype.

    Pages count as bands, unless `path` is that of one page. None where Pillow reads all of it,
    8 bits of grey or RGB.
    """
    file, page = find_file(path)
    try:
        if _ends(file, ARRAYS):
            values = np.load(file, mmap_mode="r")
            values = values[values.files[0]] if _ends(file, ".npz") else values
            values = np.array(values if page is None else values[page])
        elif _ends(file, TIFF):
            values = _read_tiff(file, page)
        else:
            values = _read_by_pillow(file, page) if _ends(file, ".png") else None
        if values is not None and (values.ndim not in (2, 3) or not values.size):
            raise ValueError(f"its array is {values.dtype} {values.shape}")
        return None if values is None else np.atleast_3d(values)
    except DatasetError:
        raise
    except Exception as error:
        raise _explain(path, error) from error


def _sample_values(path):
    """Some pixels of a photograph that holds more than 8 bits of grey or RGB; None of others."""
    with contextlib.suppress(DatasetError):  # reading it tells why
        values = read_values(path)
        if values is None and open_picture(path, decode=False).mode == "RGBA":
            values = np.asarray(open_picture(path))  # with near infrared, or transparency
            values = None if np.isin(values[..., 3], (0, 255)).mean() > 0.5 else values
        step = 1 if values is None else -(-max(values.shape) // SAMPLED_SIDE)
        return values if values is None else values[::step, ::step]


def _open_tiff(file):
    import tifffile

    return tifffile.TiffFile(file)


def _read_tiff(file, page):
    """Values of a TIFF file by tifffile, or by Pillow where that alone can decompress it."""
    try:
        tiff = _open_tiff(file)
    except Exception:  # another format, or damaged: Pillow tells
        return None
    planes = []
    with tiff:
        parts = [tiff.pages[i] for i in (list_pages(file) if page is None else [page])]
        colors = parts[0].samplesperpixel - (tuple(parts[0].extrasamples) in ((1,), (2,)))  # alpha
        is_known = colors in (1, 3, 4 if parts[0].photometric == 5 else 3)  # CMYK
        if is_known and len(parts) == 1 and parts[0].dtype in ("u1", "?"):
            return None
        for part in parts:
            _check_pixels(file, part.imagelength, part.imagewidth)
            try:
                values = part.asarray()
            except ValueError:
                values = _read_by_pillow(file, part.index)
                if values is None or values.shape[2] != part.samplesperpixel:
                    raise
            planes.append(np.moveaxis(values, 0, -1) if part.axes == "SYX" else values)
    return np.dstack(planes)


def _read_by_pillow(file, page):
    """Values of more than 8 bits, or None. Pillow keeps a byte of two in RGB, so it reads twice."""
    halves = []
    for order in "BL":
        with Image.open(file) as picture:
            picture.seek(page or 0)
            if not re.search("(RGBA?|I|F);(16|32)", str(picture.tile)):
                return None
            is_big, tiles = ";16B" in str(picture.tile), []
            for tile in picture.tile:
                raw, *rest = (tile.args,) if isinstance(tile.args, str) else tile.args
                raw = re.sub("(RGBA?;16).", rf"\g<1>{order}", raw)
                tiles.append(tile._replace(args=(raw, *rest)))
            picture.tile = tiles
            halves.append(np.atleast_3d(ImageOps.exif_transpose(picture)))
    high, low = halves if is_big else halves[::-1]
    return high.astype(np.uint16) << 8 | low if high.dtype == np.uint8 else high


def open_picture(path: str | os.PathLike, *, upright=False, decode=True) -> Image.Image:
    """Return the Pillow picture of a file, turned `upright` or not; without decoding, its head.

    `path` may be that of a page such as `stack.tif/3`.
    """
    file, page = find_file(path)
    try:
        with Image.open(file) as picture:
            picture.seek(page or 0)
            _check_pixels(path, picture.height, picture.width)
            if decode:
                picture.load()
            return ImageOps.exif_transpose(picture) if upright else picture
    except DatasetError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        is_unknown = isinstance(error, UnidentifiedImageError)
        values = read_values(path) if is_unknown else None
        if values is None or values.shape[2] != 1:
            raise _explain(path, error) from error
    keep = values.dtype in ("?", "u1", "u2")
    return Image.fromarray(values[..., 0] if keep else np.float32(values[..., 0]))


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


def convert_to_rgb(picture: Image.Image, path: str | os.PathLike = "the picture") -> Image.Image:
    """Return a Pillow picture of any kind as one of RGB, 8 bits a channel."""
    if picture.mode == "RGB":
        return picture
    if picture.mode in (*SIXTEEN_BITS, "F"):
        pixels = RGB if picture.mode == "F" else SIXTEEN
        return Image.fromarray(pixels.convert(picture, path))
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
