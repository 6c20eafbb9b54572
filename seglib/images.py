"""Photographs: read from files, upright and as uint8, and brought to another size."""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps, UnidentifiedImageError

from seglib.classes import ClassTable
from seglib.system import warn

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
)
FORMATS = (
    "PNG",
    "JPEG",
    "BMP",
    "TIFF",
    "WEBP",
    "GIF",
    "PPM",
)  # of these alone, whatever the suffix
MAX_CELLS = 1 << 21  # of an array that is made at once, some 8 bytes each
MAX_PIXELS = 50_000_000  # of a picture: 0.7 GB while it is decoded
MAX_BYTES = 600_000_000  # of all bands of a picture
MIN_IMAGE_SIZE = 32
TIFF, ARRAYS = (".tif", ".tiff"), (".npy", ".npz")
MAX_CHANNELS = 8
SAMPLED, SAMPLED_SIDE = 64, 128  # photographs that a range is chosen by, and their rows, columns
CUT_OFF = 0.1  # % of the values at either end of a range: hot pixels and the like
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # Pillow's modes of more than 8 bits
ORIENTATION = 0x0112  # the EXIF tag; from 5 on, height and width change places
PHOTOMETRIC, SOFTWARE = 262, 305  # tags of TIFF
ONE_CHANNEL = ("1", "L", "LA", "La", "P", "PA", *DEEP)
FITS = ("stretch", "letterbox")
PADDING = 128  # the models scale it to 0, with which convolutions pad as well


class DatasetError(ValueError):
    """Something in the data is wrong; the message says what, where and what to do."""


def cut_rows(rows: int, cells: int) -> list[slice]:
    """Return slices of so many rows, each small enough to be handled at once at `cells` a row."""
    step = max(1, MAX_CELLS // max(1, cells))
    return [slice(start, start + step) for start in range(0, max(1, rows), step)]


def in_bands(function: Callable, values: np.ndarray, cells: int) -> np.ndarray:
    """Return `function(values)`, a part of the rows at a time: each takes so many cells."""
    first, *others = cut_rows(len(values), cells)
    part = function(values[first])
    found = np.empty((len(values), *part.shape[1:]), part.dtype)
    found[first] = part
    for band in others:
        found[band] = function(values[band])
    return found


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
        return values if bands == tuple(range(count)) else values[..., list(bands)]

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

        def scale(part):
            levels = np.subtract(part, low, dtype=np.float32) * np.float32(steps)
            levels = np.floor(levels) if is_whole else np.round(levels)
            return np.nan_to_num(levels).clip(0, 255).astype(np.uint8)

        return in_bands(scale, values, values[:1].size)


RGB = Pixels()


def read_grey(path) -> np.ndarray:
    """Return the largest channel of a picture of any kind, `(height, width)`."""
    picture = open_picture(path)
    values = np.asarray(picture.convert("RGB") if picture.mode[0] == "P" else picture)
    return values if values.ndim == 2 else values[..., :3].max(axis=-1)


def read_image(path: str | os.PathLike, pixels: Pixels = RGB) -> np.ndarray:
    """Read a photograph, turned upright where its EXIF data say that it lies on its side.

    Args:
        path: str or path of a picture, of a page such as `stack.tif/3`, or of a `.npy` array. The
            pages of a whole stack count as bands.
        pixels: Pixels, which bands become channels, and which values 0 to 255. What it leaves
            open, some pixels of this file decide, with a warning; `open_dataset` decides for all;
            but values in floating point must be in [0, 1] then.

    Returns:
        uint8 array `(height, width, channels)`, RGB unless `pixels` names other bands.

    Raises:
        DatasetError: the file is truncated, no picture, of more than `MAX_PIXELS`, or lacks a band.
    """
    values = _read_values(path, alpha=pixels.bands is not None)
    return choose_pixels([_thin_out(values)], pixels, path, kinds="iu").convert(values, path)


def find_file(path: str | os.PathLike) -> tuple:
    """Return the file of a picture, and its page: of `stack.tif/3`, `stack.tif` and 3; or None."""
    if isinstance(path, str | os.PathLike) and os.path.basename(path).isdecimal():
        file = pathlib.Path(path).parent
        if _ends(file, TIFF + ARRAYS) and file.is_file():
            return file, int(os.path.basename(path))
    return path, None


def read_orientation(tags) -> int:
    """Return the orientation in a picture's EXIF or TIFF tags: 1 where it is none of 1 to 8."""
    orientation = tags.get(ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def list_pages(path: str | os.PathLike) -> list:
    """Return the numbers of a TIFF file's pages, or of the arrays in a stack; [0] of others."""
    if _ends(path, TIFF + ARRAYS):
        with contextlib.suppress(Exception), _open_pages(path) as pages:  # reading it tells why
            return list(pages)
    return [0]


def split_pages(pairs, *, as_bands: bool = False) -> list:
    """Return pairs of paths, one for each page where image and mask have several.

    Raises:
        DatasetError: one has more pages than the other, and they are not taken for bands.
    """
    split = []
    for image, mask in pairs:
        others = list_pages(mask)
        pages = [0] if as_bands and len(others) == 1 else list_pages(image)
        if len(pages) != len(others):
            raise DatasetError(
                f"{image} has {len(pages)} pages but its mask {mask} has {len(others)}: cut them "
                "into pairs, or pass bands=(0, 1, 2) where pages are bands"
            )
        if len(pages) > 1:
            both = zip(pages, others, strict=True)
            split += [(image / str(page), mask / str(other)) for page, other in both]
        else:
            split.append((image, mask))
    return split


def survey_images(paths, pixels: Pixels, source) -> Pixels:
    """Return how all photographs are read: what `pixels` leave open, some `SAMPLED` decide."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        samples = pool.map(_sample_values, paths[:: -(-len(paths) // SAMPLED) or 1])
        return choose_pixels([v for v in samples if v is not None], pixels, source)


def choose_pixels(samples: list, pixels: Pixels, source, *, kinds="iuf") -> Pixels:
    """Choose what `pixels` leave open by arrays `(height, width, bands)`, and warn of it.

    A range is chosen for dtypes of these `kinds`.
    """
    count, chosen = max((values.shape[2] for values in samples), default=3), []
    if pixels.bands is None and count not in (1, 3):
        bands = (0, 1, 2) if count > 2 else (0, 0, 0)
        pixels = dataclasses.replace(pixels, bands=bands)
        left = ", ".join(map(str, sorted({*range(count)} - {*bands})))
        chosen.append((f"of bands 0 to {count - 1} these are left out: {left}", f"bands={bands}"))
    deep = [v for v in samples if v.dtype != "u1" and v.dtype.kind in kinds]
    if pixels.value_range is None and deep:
        low, high = find_range(np.concatenate([pixels.select(v, source).ravel() for v in deep]))
        pixels = dataclasses.replace(pixels, value_range=(low, high))
        if high not in (1, 65535):
            words = f"values from {low:g} to {high:g} become 0 to 255"
            chosen.append((words, f"value_range=({low:g}, {high:g})"))
    for words, option in chosen:
        warn(f"{source}: {words}: pass {option} to confirm, or another")
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


def _sample_values(path):
    """Some pixels of a photograph that holds more than 8 bits of grey or RGB; None of others."""
    with contextlib.suppress(DatasetError):  # reading it tells why
        values, mode = _read_array(path), None
        if values is None:
            mode = open_picture(path, decode=False).mode
            values = _read_values(path, alpha=True) if mode in (*DEEP, "RGBA") else None
        is_transparent = mode == "RGBA" and np.isin(values[..., 3], (0, 255)).mean() > 0.5
        if values is not None and not is_transparent:
            return _thin_out(values).copy()
    return None


def _thin_out(values):
    step = -(-max(values.shape) // SAMPLED_SIDE)
    return values[::step, ::step]


def _read_values(path, *, alpha):
    """All values of a photograph, `(height, width, bands)`; transparency is a band if `alpha`."""
    values = _read_array(path)
    if values is None:
        picture = open_picture(path, upright=True)
        is_whole = picture.mode in DEEP or (alpha and picture.mode in ("LA", "RGBA"))
        values = np.asarray(picture if is_whole else convert_to_rgb(picture, path))
    return np.atleast_3d(values)


def _read_array(path):
    """All values of a file that Pillow reads in part or not at all; None of others."""
    file, number = find_file(path)
    if not _ends(file, (".png", *TIFF, *ARRAYS)):
        return None
    with _explaining(path):
        if _ends(file, ".png"):
            return _read_png(file)
        with _open_pages(file) as pages:
            parts = list(pages.values()) if number is None else [pages[number]]
            if _ends(file, TIFF):
                if len(parts) == 1 and _suits_pillow(parts[0]):
                    return None
                _check_pixels(path, parts[0].imagelength, parts[0].imagewidth)
            size = sum(part.nbytes for part in parts)
            if size > MAX_BYTES:
                raise DatasetError(f"{path} holds {size} bytes: cut it into tiles")
            if _ends(file, TIFF):
                parts = [np.moveaxis(p.asarray(), p.axes.find("S"), -1) for p in parts]
            else:
                parts = list(map(np.array, parts))  # in place of a view of the file
            values = np.dstack(parts) if len(parts) > 1 else np.atleast_3d(parts[0])
        is_picture = np.ndim(parts[0]) > 1 and values.ndim == 3 and values.size
        if not is_picture or values.dtype.kind not in "buif":
            words = "expected real numbers (height, width, bands)"
            raise DatasetError(f"{path} holds {values.dtype} {values.shape}: {words}")
        return values


def _suits_pillow(page):
    """Whether Pillow reads all of a TIFF page: grey, or 8 bits of colours and transparency."""
    if page.samplesperpixel == 1:
        return page.dtype in ("?", "u1", "u2", "i2", "i4", "f4")
    is_cmyk, is_alpha = page.photometric == 5, tuple(page.extrasamples) in ((1,), (2,))
    return page.dtype == "u1" and (page.samplesperpixel == 3 or is_cmyk or is_alpha)


@contextlib.contextmanager
def _open_pages(file):
    """Pages of a TIFF file without smaller copies, or arrays of a stack, by their numbers."""
    if _ends(file, TIFF):
        import tifffile

        with tifffile.TiffFile(file) as tiff:
            yield {page.index: page for page in tiff.pages if not (page.is_reduced or page.is_mask)}
    else:
        values = np.load(file, mmap_mode="r")
        values = values[values.files[0]] if _ends(file, ".npz") else values
        is_stack = values.ndim > 3 or values.shape[2:] > (MAX_CHANNELS,)
        yield dict(enumerate(values if is_stack else [values]))


def _read_png(file):
    """Values of a PNG file of 16 bits RGB, of which Pillow keeps one byte, the upper; or None.

    Pillow's raw modes choose the byte: big-endian is the upper one, little-endian the lower.
    """
    halves = []
    for order in "BL":
        with Image.open(file, formats=FORMATS) as picture:
            tile = picture.tile[0]
            if tile.args not in ("RGB;16B", "RGBA;16B"):
                return None
            picture.tile = [tile._replace(args=tile.args[:-1] + order)]
            halves.append(np.asarray(ImageOps.exif_transpose(picture)))
    values = halves[0].astype(np.uint16)
    values <<= 8
    values |= halves[1]
    return values


def open_picture(path: str | os.PathLike, *, upright=False, decode=True) -> Image.Image:
    """Return the Pillow picture of a file, turned `upright` or not; without decoding, its head.

    `path` may be that of a page such as `stack.tif/3`.
    """
    file, page = find_file(path)
    with _explaining(path):
        try:
            with Image.open(file, formats=FORMATS) as picture:
                picture.seek(page or 0)
                _check_pixels(path, picture.height, picture.width)
                if decode:
                    picture.load()
                tags = getattr(picture, "tag_v2", {})
                is_raw = "tifffile" in str(tags.get(SOFTWARE)) and tags.get(PHOTOMETRIC) == 0
                if decode and picture.mode == "1" and is_raw:
                    return ImageOps.invert(picture)  # it holds True where it says black
                return ImageOps.exif_transpose(picture) if upright else picture
        except UnidentifiedImageError:
            values = _read_array(path)
            if values is not None and values.dtype == "u1" and values.shape[2] == 3:
                return Image.fromarray(values)
            if values is None:
                raise
            if values.shape[2] != 1:
                words = f"{values.shape[2]} bands: take np.argmax of one-hot labels"
                raise DatasetError(f"{path} holds {words}") from None
        keep = values.dtype in ("?", "u1", "u2")
        return Image.fromarray(values[..., 0] if keep else np.float32(values[..., 0]))


def read_size(path) -> tuple:
    """Return the `(height, width)` of a photograph that stands upright, from its file's head."""
    if _ends(path, TIFF + ARRAYS):  # of heads that Pillow may not know
        return _read_values(path, alpha=False).shape[:2]
    head = open_picture(path, decode=False)
    exif = {} if head.format == "PNG" and "exif" not in head.info else head.getexif()
    return head.size if read_orientation(exif) > 4 else head.size[::-1]


def _ends(file, suffixes):
    return str(file).lower().endswith(suffixes)


def _check_pixels(path, height, width):
    if height * width > MAX_PIXELS:
        raise DatasetError(
            f"{path} claims {height}×{width} pixels (height × width), more "
            f"than the {MAX_PIXELS:,} that are decoded: reduce it or cut it into tiles, or "
            "raise seglib.images.MAX_PIXELS"
        )


@contextlib.contextmanager
def _explaining(path):
    """Tell why a file cannot be read, whatever its reader raises."""
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        advice = "it is missing, truncated or of another format; copy it again or remove the pair"
        if "imagecodecs" in str(error):
            advice = "pip install imagecodecs, or save it with another compression, such as deflate"
        raise DatasetError(f"{path} cannot be read as a picture ({error}): {advice}") from error


def convert_to_rgb(picture: Image.Image, path: str | os.PathLike = "the picture") -> Image.Image:
    """Return a Pillow picture of any kind as one of RGB, 8 bits a channel."""
    if picture.mode == "RGB":
        return picture
    if picture.mode in DEEP:
        pixels = Pixels(value_range=None if picture.mode == "F" else (0, 65535))
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
