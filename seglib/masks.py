"""Masks: colours to labels and back, other sizes, and what mask files hold."""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
import warnings

import numpy as np
from numpy.typing import ArrayLike

from seglib.classes import CUSTOMARY_IGNORE_LABEL, ClassTable
from seglib.images import (
    ONE_CHANNEL,
    ORIENTATION,
    DatasetError,
    convert_to_rgb,
    open_picture,
    pad_picture,
    place_picture,
    read_image,
)
from seglib.system import show_progress

MAX_CELLS = 1 << 21  # of an array that is made at once, some 8 bytes each
ENCODINGS = ("ids", "colors", "binary")
LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP"})
MAX_UNKNOWN_SHARE = 0.01  # of a mask's pixels: more is no accident of drawing
# The line between two CamVid colours passes a third at 17.8 or more, or right through it: within
# 16, blends are told from shifted colours. JPEG shifts more; 24 and 64 read its masks best.
NOISE_DISTANCE, UNKNOWN_DISTANCE = 16, 32
LOSSY_NOISE_DISTANCE, LOSSY_UNKNOWN_DISTANCE = 24, 64
FEW = 16  # colour masks that are decoded to see whether they are grey
BINARY = ClassTable(["background", "foreground"], [(0, 0, 0), (255, 255, 255)])
# Of colours that a lossy format made of one; more than MANY_COLORS are blends or such a format's.
MERGE_DISTANCE, MIN_SHARE, MANY_COLORS = 48, 0.005, 1024
MAX_MASKS, MAX_PROPOSED = 50, 64  # looked at for a class table; its classes


def closest_labels(pixels: ArrayLike, mapping: dict) -> np.ndarray:
    """Give each colour the label of the nearest class colour (Euclidean in RGB).

    Exact for each of the 2**24 colours. The answers are kept in a table of that
    many entries, filled as colours occur: a colour that was seen before costs one
    look-up, and memory does not grow with the picture.

    Args:
        pixels: int array `(..., 3)`, RGB in [0, 255].
        mapping: dict `{(r, g, b): label}`; equally near colours go to its first.

    Returns:
        array `(...)` of labels: uint8 where all labels fit, else uint16 or int64.

    Raises:
        ValueError: `pixels` is no RGB in [0, 255], or `mapping` is empty.

    Example:
        >>> closest_labels([[0, 0, 0], [250, 9, 9], [90, 80, 80]],
        ...                {(0, 0, 0): 7, (255, 0, 0): 4})
        array([7, 4, 7], dtype=uint8)
    """
    table, pixels = _closest_table(tuple(mapping.items())), np.asarray(pixels)
    if pixels.ndim < 3:
        return table.look_up(_pack_colors(pixels))
    found = np.empty(pixels.shape[:-1], table.labels.dtype)
    for band in _cut(len(pixels), pixels[:1].size):
        found[band] = table.look_up(_pack_colors(pixels[band]))
    return found


find_closest_labels_vectorized = closest_labels


class _ClosestTable:
    """The nearest entry of one mapping for each of the 2**24 colours, found on demand.

    The memory for entries comes zeroed from the system, so a new table costs nothing
    until colours arrive. Threads may share it: they write the same values.
    """

    def __init__(self, items):
        if not items:
            raise ValueError("the mapping of colours to labels is empty")
        self.palette = np.array([color for color, _ in items])
        _pack_colors(self.palette)  # checks them
        self.labels = np.array([label for _, label in items])
        if self.labels.min() >= 0 and self.labels.max() < 1 << 16:
            self.labels = self.labels.astype(np.min_scalar_type(self.labels.max()))
        # 0: not known yet, otherwise entry + 1
        self.entries = np.zeros(1 << 24, np.uint8 if len(items) < 255 else np.uint32)

    def look_up(self, keys):
        found = self.entries.take(keys, mode="clip")  # take, unlike [], lets threads run
        if not found.all():
            new = np.unique(keys[found == 0])
            self.entries[new] = nearest_colors(_unpack_colors(new), self.palette)[0] + 1
            found = self.entries.take(keys, mode="clip")
        return self.labels.take(found - 1, mode="clip")


@functools.lru_cache(maxsize=4)  # 16 MB each
def _closest_table(items):
    return _ClosestTable(items)


def nearest_colors(colors: ArrayLike, palette: ArrayLike) -> tuple:
    """Return which of the colours `(k, 3)` of a palette is nearest to each colour `(n, 3)`.

    Returns:
        `(indices, squared)`: int arrays `(n,)`, the first of equally near ones, and the squared
        Euclidean distance.
    """
    channels = np.array(np.asarray(colors, np.int32).T, order="C")
    nearest = np.full(channels.shape[1], np.iinfo(np.int32).max, np.int32)
    indices = np.zeros(len(nearest), np.int64)
    for index, color in enumerate(np.asarray(palette, np.int32)):
        squared = sum((channels[i] - color[i]) ** 2 for i in range(3))
        indices[squared < nearest] = index
        np.minimum(nearest, squared, out=nearest)
    return indices, nearest


def measure_colors(pixels: ArrayLike, classes: ClassTable) -> tuple:
    """Return the row of the class table nearest to each pixel `(..., 3)`, and how near.

    Returns `(rows, squared)`, int arrays `(...)`; the latter is the squared distance in RGB.
    """
    pixels, colors = np.asarray(pixels), classes.colors.astype(np.int32)
    rows = closest_labels(pixels, {tuple(color): i for i, color in enumerate(colors.tolist())})
    squared = np.zeros(rows.shape, np.int32)
    for channel in range(3):
        squared += (pixels[..., channel] - colors[:, channel].take(rows)) ** 2
    return rows, squared


def exact_colors(pixels: ArrayLike, classes: ClassTable) -> np.ndarray:
    """Return a bool array `(...)`: which pixels have exactly a class's colour."""
    return measure_colors(pixels, classes)[1] == 0


def label_colors(labels: ArrayLike, classes: ClassTable) -> np.ndarray:
    """Paint a label map in the colours of its classes.

    Args:
        labels: int array `(...)` of ids. An id outside the table that is the
            ignored label, such as 255, is painted black.
        classes: ClassTable.

    Returns:
        uint8 array `(..., 3)`, RGB.

    Raises:
        ValueError: an id is neither in the table nor the ignored label.
    """
    labels = np.asarray(labels)
    check_labels(labels, classes)
    colors = np.zeros((max(classes.num_classes, (classes.ignore_label or 0) + 1), 3), np.uint8)
    colors[: classes.num_classes] = classes.colors
    return colors[labels.astype(np.uint8) if labels.dtype == bool else labels]


def check_labels(labels: ArrayLike, classes: ClassTable, *, source="labels") -> None:
    """Raise ValueError naming `source` if an id is not in the class table nor ignored."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise ValueError(f"{source}: expected integer ids, received {labels.dtype}")
    wrong = (labels < 0) | (labels >= classes.num_classes)
    if classes.ignore_label is not None:
        wrong &= labels != classes.ignore_label
    if wrong.any():
        found = np.unique(labels[wrong])
        raise ValueError(
            f"{source}: {int(wrong.sum())} pixels hold a label outside the class table "
            f"({', '.join(map(str, found[:8]))}); expected 0 to {classes.num_classes - 1}"
            + ("" if classes.ignore_label is None else f" or {classes.ignore_label} (ignored)")
            + ": add the class, correct the mask, or ignore it by ClassTable(…, ignore_label=255)"
        )


def sharpen_boundaries(
    pixels: ArrayLike, labels: ArrayLike, classes: ClassTable, *, tolerance: float = 0
) -> np.ndarray:
    """Correct labels where colours were blended, as along antialiased boundaries.

    The blend of two class colours often lies nearest to a third class. So a pixel
    whose colour is no class's own takes one of the classes next to it (3×3): the
    one nearest in colour, then the one most often there, then the smallest id.
    Neighbours of an exact colour count first; wider seams are filled from both
    sides, a ring at a time. What touches no exact colour keeps its label.

    In a mask from a lossy format whole regions are a little off their colour. Give
    those a `tolerance`, or they are taken for seams and overgrown by their neighbours.

    Args:
        pixels: uint8 array `(height, width, 3)`, the mask as RGB.
        labels: int array `(height, width)`, its nearest classes (`closest_labels`).
        classes: ClassTable.
        tolerance: number, Euclidean in RGB. Colours as near as this to a class's
            own count as exact.

    Returns:
        array like `labels`, a new one.

    Raises:
        ValueError: the shapes do not belong together.
    """
    pixels, labels = np.asarray(pixels), np.array(labels)
    _check_shapes(pixels, labels)
    rows, squared = measure_colors(pixels, classes)
    rows = np.where(squared <= tolerance**2, rows.astype(np.int32), -1)  # -1: not settled yet
    unsettled = np.argwhere(rows < 0)
    while len(unsettled):
        parts = [unsettled[part] for part in _cut(len(unsettled), 2 * classes.num_classes)]
        best = np.concatenate([_best_around(pixels, rows, part, classes) for part in parts])
        if (best < 0).all():
            break
        rows[tuple(unsettled.T)] = best
        unsettled = unsettled[best < 0]
    ids = np.array(list(classes.mapping.values()), labels.dtype)
    return np.where(rows >= 0, ids[rows], labels)


def _best_around(pixels, rows, positions, classes):
    """For each position the best row of its 3×3 neighbours, -1 where none is settled."""
    votes = _count_around(rows, positions, classes.num_classes, reach=1)
    colors = pixels[tuple(positions.T)].astype(np.int32)
    cost = np.stack(
        [((colors - color) ** 2).sum(axis=1) for color in classes.colors.astype(np.int32)], axis=1
    )
    cost = np.where(votes > 0, 9 * cost + 8 - votes, np.iinfo(np.int32).max)
    return np.where(votes.any(axis=1), cost.argmin(axis=1), -1)


def _count_around(rows, positions, num_classes, *, reach):
    """How often each row occurs within `reach` pixels of each position, `(positions, classes)`."""
    padded = np.pad(rows.astype(np.int32), reach, constant_values=-1)
    counts = np.zeros((len(positions), num_classes + 1), np.int32)  # the last is for -1
    for down, right in itertools.product(range(2 * reach + 1), repeat=2):
        around = padded[positions[:, 0] + down, positions[:, 1] + right]
        counts[np.arange(len(positions)), around] += 1
    return counts[:, :-1]


def find_unknown_colors(
    pixels: ArrayLike, labels: ArrayLike, classes: ClassTable, *, distance: float = 32
) -> np.ndarray:
    """Find pixels that are far from every class colour and no blend of their neighbours.

    A blend lies within `distance` (Euclidean in RGB) of the line between the colours of two
    classes that occur among the 5×5 labels around it. Pixels and labels are as in
    `sharpen_boundaries`; returns a bool array `(height, width)`.
    """
    pixels = np.asarray(pixels)
    _check_shapes(pixels, np.asarray(labels))
    rows, squared = measure_colors(pixels, classes)
    unknown = squared > distance**2
    far = np.argwhere(unknown)
    for part in _cut(len(far), classes.num_classes):
        around = _count_around(rows, far[part], classes.num_classes, reach=2) > 0
        place = tuple(far[part].T)
        unknown[place] = ~_near_segments(pixels[place], classes.colors, around, distance)
    return unknown


def _near_segments(colors, palette, allowed, distance):
    """Which colours `(n, 3)` lie near the line between two of their allowed ones, `(n, k)`."""
    palette = palette.astype(np.float64)
    near = np.zeros(len(colors), bool)
    for first, second in itertools.combinations(np.flatnonzero(allowed.any(axis=0)), 2):
        pick = np.flatnonzero(allowed[:, first] & allowed[:, second] & ~near)
        line, offset = palette[second] - palette[first], colors[pick] - palette[first]
        share = np.clip(offset @ line / (line @ line), 0, 1)
        near[pick] = ((offset - share[:, None] * line) ** 2).sum(axis=1) <= distance**2
    return near


def _check_shapes(pixels, labels):
    if pixels.shape != (*labels.shape, 3) or labels.ndim != 2:
        raise ValueError(
            f"expected pixels (height, width, 3) and labels (height, width), "
            f"received {pixels.shape} and {labels.shape}"
        )


def _cut(length, cells):
    """Slices of `length` items of so many cells each that bound the memory taken at once."""
    step = max(1, MAX_CELLS // max(1, cells))
    return [slice(start, start + step) for start in range(0, length, step)]


def _pack_colors(pixels):
    """RGB `(..., 3)` as one int32 `r << 16 | g << 8 | b` each."""
    if pixels.ndim == 0 or pixels.shape[-1] != 3:
        raise ValueError(
            f"expected RGB colours of shape (..., 3), received shape {pixels.shape}"
            + (": drop the alpha channel" if pixels.shape[-1:] == (4,) else "")
        )
    if pixels.dtype.kind not in "iu":
        raise ValueError(
            f"expected integer colours in [0, 255], received {pixels.dtype}: "
            "multiply colours in [0, 1] by 255 and round them"
        )
    if pixels.dtype != np.uint8 and pixels.size and not 0 <= pixels.min() <= pixels.max() <= 255:
        raise ValueError(f"expected colours in [0, 255], received {pixels.min()} to {pixels.max()}")
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _unpack_colors(keys):
    return np.stack([keys >> 16, keys >> 8 & 255, keys & 255], axis=-1)


def _count_colors(pixels):
    """Counter `{(r, g, b): pixels}` of a uint8 array `(..., 3)`."""
    keys, counts = np.unique(_pack_colors(pixels), return_counts=True)
    colors = map(tuple, _unpack_colors(keys).tolist())
    return collections.Counter(dict(zip(colors, counts.tolist(), strict=True)))


# Other sizes


def resize_labels(labels: ArrayLike, size: tuple) -> np.ndarray:
    """Resize a label map so that each pixel takes the class covering most of its area.

    Args:
        labels: int array `(height, width)`.
        size: `(height, width)` in pixels.

    Returns:
        array of shape `size` and the dtype of `labels`. Ties go to the smallest id;
        never a class that was not there.

    Raises:
        ValueError: `labels` is no integer map, or a size is smaller than 1.

    Example:
        >>> resize_labels(np.array([[3, 3, 1], [3, 1, 1]]), (1, 2))
        array([[3, 1]])
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or min(*labels.shape, *size) < 1:
        raise ValueError(
            f"expected integer labels (height, width) and a size of at least (1, 1), "
            f"received {labels.dtype} {labels.shape} and {tuple(size)}"
        )
    if labels.shape == tuple(size):
        return labels.copy()
    ids = np.flatnonzero(np.bincount(labels.ravel()))
    compact = np.zeros(ids[-1] + 1, np.int64)
    compact[ids] = np.arange(len(ids))
    heights, sources, targets = _pieces(labels.shape[0], size[0])
    widths, from_columns, to_columns = _pieces(labels.shape[1], size[1])
    result = np.empty(size, labels.dtype)
    for band in _cut(size[0], max(len(heights) * len(widths) // size[0], size[1] * len(ids))):
        rows = result[band]
        pieces = slice(*np.searchsorted(targets, (band.start, band.start + len(rows))))
        # Which class's area in which pixel each piece belongs to, and how large it is.
        pixels = (targets[pieces, None] - band.start) * size[1] + to_columns
        keys = compact.take(labels.take(sources[pieces], axis=0).take(from_columns, axis=1))
        keys += pixels * len(ids)
        area = heights[pieces, None] * widths
        area = np.bincount(keys.ravel(), weights=area.ravel(), minlength=rows.size * len(ids))
        rows[:] = ids[area.reshape(*rows.shape, len(ids)).argmax(axis=-1)]
    return result


@functools.lru_cache(maxsize=64)
def _pieces(source, target):
    """Cut a line at the pixel edges of both grids: each piece's length, source and target pixel.

    Lengths are whole, in units in which the line is `source * target` long.
    """
    edges = np.union1d(np.arange(source + 1) * target, np.arange(target + 1) * source)
    return np.diff(edges).astype(np.float64), edges[:-1] // target, edges[:-1] // source


def fit_labels(
    labels: np.ndarray, size: tuple, *, fit: str = "stretch", ignore_label: int | None = 255
) -> np.ndarray:
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
    return pad_picture(resize_labels(labels, inner), size, offset, ignore_label)


def find_invented(resized: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Find pixels of a resized label map whose class was not there.

    Args:
        resized: int array `(new_height, new_width)`.
        labels: int array `(height, width)` that it was made from.

    Returns:
        bool array like `resized`: True where no pixel of the class lies in the area that
        the pixel or one of its eight neighbours covers.
    """
    from scipy import ndimage

    invented = np.zeros(resized.shape, bool)
    rows, columns = (_pieces(*sides) for sides in zip(labels.shape, resized.shape, strict=True))
    for label in np.unique(resized):
        there = np.zeros(resized.shape, bool)
        down, right = np.nonzero((labels == label)[rows[1]][:, columns[1]])
        there[rows[2][down], columns[2][right]] = True
        there = ndimage.binary_dilation(there, np.ones((3, 3), bool))
        invented |= (resized == label) & ~there
    return invented


# What mask files hold


@dataclasses.dataclass
class Survey:
    """What masks hold, one or all of a data set."""

    values: collections.Counter  # {value: pixels} of masks with one channel, or grey ones
    shown: collections.Counter  # {(r, g, b): pixels}, the colours that those masks show
    palette: dict  # {value: (r, g, b)} of palettes and of one bit; of the first mask
    colored: int = 0  # how many masks are of colours
    lossy: bool = False  # whether a format changes values or colours
    conflict: bool = False  # whether palettes show a value in different colours

    def add(self, other):
        """Add what another mask holds."""
        self.values.update(other.values)
        self.shown.update(other.shown)
        self.colored += other.colored
        self.lossy |= other.lossy
        for value, color in other.palette.items():
            self.conflict |= self.palette.setdefault(value, color) != color

    def looks_binary(self):
        """Whether masks with one channel are black and white, give or take what JPEG does."""
        values = np.array(list(self.values))
        if self.palette or not len(values) or values.min() < 0:
            return False
        noise = NOISE_DISTANCE if self.lossy else 0
        near = sum(self.values[v] for v in self.values if v <= noise or v >= 255 - noise)
        bright = 255 - NOISE_DISTANCE <= values.max() <= 255
        return bool(bright and near >= (0.9 if self.lossy else 1) * self.values.total())


def survey_masks(paths, *, workers: int | None = None) -> Survey:
    """Look at all masks: at the head of colour masks, at every value of those with one channel.

    What cannot be read is passed over; reading it tells why.
    """
    survey = Survey(collections.Counter(), collections.Counter(), {})
    grey = functools.partial(_survey_file, as_grey=True)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        found = pool.map(_survey_file, paths)
        found = list(show_progress(found, total=len(paths), desc="looking at masks", unit="mask"))
        colored = [path for path, one in zip(paths, found, strict=True) if one.colored]
        few = list(pool.map(grey, colored[:: -(-len(colored) // FEW) or 1]))
        if few and all(one.values for one in few):
            found = [one for one in found if not one.colored]
            found += pool.map(grey, colored)
    for one in found:
        survey.add(one)
    return survey


def _survey_file(path, *, as_grey=False):
    """Survey of one mask; colours whose channels are alike count as one channel if asked for."""
    try:
        picture = open_picture(path, decode=False)
        channel = None if picture.mode not in ONE_CHANNEL else open_picture(path)
        if channel is None and as_grey:
            channel = _take_grey(open_picture(path))
    except DatasetError:
        return Survey({}, {}, {})
    lossy = picture.format in LOSSY_FORMATS
    if channel is None:
        return Survey({}, {}, {}, colored=1, lossy=lossy)
    return dataclasses.replace(_survey_picture(channel, path), lossy=lossy)


def _survey_picture(picture, path):
    """Survey of a mask with one channel or a palette."""
    found, counts = np.unique(_read_values(picture, path), return_counts=True)
    values = dict(zip(found.tolist(), counts.tolist(), strict=True))
    if picture.mode in ("P", "PA"):
        given = np.array(picture.getpalette("RGB"), int).reshape(-1, 3).tolist()
        shows = {v: tuple(given[v]) if v < len(given) else (0, 0, 0) for v in values}
    else:
        scale = {"1": 255, "L": 1, "LA": 1, "La": 1}.get(picture.mode)
        shows = {v: (scale * v,) * 3 for v in values} if scale else {}
    shown = collections.Counter()
    for value, color in shows.items():
        shown[color] += values[value]
    palette = shows if picture.mode in ("P", "PA", "1") else {}
    lossy = picture.format in LOSSY_FORMATS
    return Survey(collections.Counter(values), shown, palette, lossy=lossy)


def _take_grey(picture):
    """The one channel of a colour picture whose channels are all alike; else None."""
    if _shows_by_alpha(picture):
        return None
    red, *others = convert_to_rgb(picture).split()
    return red if all(red.tobytes() == other.tobytes() for other in others) else None


def _shows_by_alpha(picture):
    """Whether a picture has one colour, and only its transparency varies."""
    if picture.mode != "RGBA":
        return False
    *colors, (low, high) = picture.getextrema()
    return low < high and all(lowest == highest for lowest, highest in colors)


def _read_values(picture, path):
    """The values of a picture with one channel or a palette, int `(height, width)`."""
    values = np.asarray(picture.getchannel(0) if picture.mode in ("LA", "La", "PA") else picture)
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.round(values)):
            raise DatasetError(f"{path} holds fractions: expected whole numbers, the classes' ids")
        values = values.astype(np.int64)
    return values.astype(np.uint8) if values.dtype == bool else values


def choose_encoding(survey: Survey, classes: ClassTable, *, source="the masks") -> str:
    """Decide how masks with one channel or a palette show the classes.

    They hold ids if all values, over the whole data set, are in the table or 255. Where they
    show exactly the table's colours as well, and these say something else, the colours count: by
    chance they would not fit. So they do where palettes differ from mask to mask. Black and white
    are the two classes of a table of two. What `source` names is warned of.

    Returns:
        "ids", "colors" or "binary".
    """
    if not survey.values or survey.conflict:
        return "colors"
    ids = {*range(classes.num_classes), CUSTOMARY_IGNORE_LABEL, classes.ignore_label}
    are_ids, binary = set(survey.values) <= ids, survey.looks_binary()
    known = [color for color in survey.shown if color in classes.mapping]
    fitting = sum(survey.shown[color] for color in known) / survey.values.total()
    if fitting == 1 and len(survey.values) > 1:
        shows = survey.palette or {value: (value,) * 3 for value in survey.values}
        rows = {color: row for row, color in enumerate(classes.mapping)}
        agree = all(rows.get(color) == value for value, color in shows.items())
        if are_ids and not agree and not binary:
            warnings.warn(
                f"{source}: the masks' values could be ids of the class table, but their colours "
                "are exactly the table's, in another order; read as colours: pass "
                'encoding="ids" to open_dataset for the other reading',
                stacklevel=2,
            )
        return "colors"
    if binary and classes.num_classes == 2 and classes.ignore_label is None:
        return "binary"
    mostly_known = fitting == 1 or (len(known) > 1 and fitting > 0.5)
    return "colors" if not are_ids and (survey.lossy or mostly_known) else "ids"


def ignore_customary(survey: Survey, classes: ClassTable, encoding: str) -> ClassTable:
    """Return the class table, with 255 ignored where masks of ids hold it and it is no class."""
    held = encoding == "ids" and CUSTOMARY_IGNORE_LABEL in survey.values
    if held and classes.num_classes <= CUSTOMARY_IGNORE_LABEL and classes.ignore_label is None:
        return dataclasses.replace(classes, ignore_label=CUSTOMARY_IGNORE_LABEL)
    return classes


def read_labels(
    path: str | os.PathLike, classes: ClassTable, *, encoding: str = "auto", sharpen: bool = True
) -> np.ndarray:
    """Read a mask as label ids.

    A colour mask is mapped to the nearest class colours, boundaries sharpened. The values of a
    mask with one channel or a palette are ids, or it shows colours too: see `encoding`.

    Args:
        path: str or path of the mask.
        classes: ClassTable.
        encoding: of masks with one channel or a palette: "ids", "colors", "binary" (the second
            class from 128 on), or "auto", which decides by this one mask, where a `Dataset`
            decides by all of its masks.
        sharpen: bool. False leaves blended pixels at their nearest class.

    Returns:
        uint8 array `(height, width)`; uint16 where ids exceed 255.

    Raises:
        DatasetError: the file is truncated, more than 1 % of its pixels have colours
            that belong to no class, or an id is outside the table.
    """
    labels, pixels, lossy = read_mask(path, classes, encoding=encoding)
    if pixels is None:
        try:
            check_labels(labels, classes, source=path)
        except ValueError as error:
            raise DatasetError(str(error)) from None
        return labels
    inexact = 1 - exact_colors(pixels, classes).mean()
    if inexact > MAX_UNKNOWN_SHARE:
        distance = LOSSY_UNKNOWN_DISTANCE if lossy else UNKNOWN_DISTANCE
        unknown = find_unknown_colors(pixels, labels, classes, distance=distance)
        if unknown.mean() > MAX_UNKNOWN_SHARE:
            color, count = _count_colors(pixels[unknown]).most_common(1)[0]
            raise DatasetError(
                f"{path}: {unknown.sum()} of {labels.size} pixels are far from every class "
                f"colour, most often {color} ({count} pixels; nearest class "
                f"{classes.names[measure_colors(color, classes)[0]]}): add the colour to the class "
                "table, or correct the mask"
            )
    if not (sharpen and inexact):
        return labels
    tolerance = LOSSY_NOISE_DISTANCE if lossy else NOISE_DISTANCE
    return sharpen_boundaries(pixels, labels, classes, tolerance=tolerance)


def read_mask(path: str | os.PathLike, classes: ClassTable, *, encoding: str = "auto") -> tuple:
    """Read a mask without asking whether it makes sense; arguments as of `read_labels`.

    Returns:
        `(labels, pixels, lossy)`: int array `(height, width)`, the ids or those of the nearest
        colours; uint8 array `(height, width, 3)`, or None where the mask holds ids; bool,
        whether the format changes colours.
    """
    picture = open_picture(path)
    lossy = picture.format in LOSSY_FORMATS
    if _shows_by_alpha(picture):
        raise DatasetError(
            f"{path} has one colour and shows its classes by transparency: save it with "
            "classes as colours or as ids"
        )
    if picture.mode not in ONE_CHANNEL:
        grey = _take_grey(picture) if encoding in ("ids", "binary") else None
        picture, encoding = (picture, "colors") if grey is None else (grey, encoding)
    elif encoding == "auto":
        encoding = choose_encoding(_survey_picture(picture, path), classes, source=path)
    if encoding == "colors":
        pixels = np.asarray(convert_to_rgb(picture, path))
        return closest_labels(pixels, classes.mapping), pixels, lossy
    labels = _read_values(picture, path)
    if encoding == "binary":
        return (labels > (0 if picture.mode == "1" else 127)).astype(np.uint8), None, lossy
    ignored = np.isin(labels, classes.also_ignored)
    if classes.num_classes <= CUSTOMARY_IGNORE_LABEL and classes.ignore_label is not None:
        ignored |= labels == CUSTOMARY_IGNORE_LABEL
    labels = np.where(ignored, classes.ignore_label, labels) if ignored.any() else labels
    if labels.min() >= 0 and labels.max() < 1 << 16:
        labels = labels.astype(np.uint8 if labels.max() < 256 else np.uint16)
    return labels, None, lossy


def read_pair(image_path, mask_path, classes: ClassTable, *, encoding: str = "auto") -> tuple:
    """Read a photograph and its labels, and check that they have the same size."""
    image = read_image(image_path)
    labels = read_labels(mask_path, classes, encoding=encoding)
    if image.shape[:2] != labels.shape:
        raise DatasetError(explain_sizes(image_path, image.shape, mask_path, labels.shape))
    return image, labels


def explain_sizes(image_path, image_shape: tuple, mask_path, mask_shape: tuple) -> str:
    """Return in words what is wrong with a pair whose halves differ in size."""
    advice = "export the mask at the image's size"
    turned = open_picture(image_path).getexif().get(ORIENTATION, 1) > 4
    if turned and mask_shape[:2] == image_shape[1::-1]:
        advice = (
            "the photograph was turned upright, as its EXIF data ask for, but the mask was drawn "
            "on it lying: turn the mask as well, or remove the orientation from the photograph"
        )
    return (
        f"{mask_path} is {mask_shape[0]}×{mask_shape[1]} (height × width) but its image "
        f"{image_path} is {image_shape[0]}×{image_shape[1]}: {advice}"
    )


def propose_class_table(paths) -> ClassTable:
    """Propose a class table, named by number, from the values or colours that masks hold.

    Masks with one channel or a palette that look like ids keep their ids, in the palette's
    colours; black and white is background and foreground; other colours come by their share of
    the pixels. In lossy formats colours near a more frequent one are taken for it.

    Args:
        paths: sequence of paths of masks; some `MAX_MASKS` of them are looked at.

    Raises:
        DatasetError: there is no mask that can be read.
    """
    paths = list(paths)
    paths = paths[:: -(-len(paths) // MAX_MASKS) or 1]
    survey = survey_masks(paths)
    table = propose_from_survey(survey)
    if table is not None:
        return table
    counts = collections.Counter(survey.shown)
    for path in paths if survey.colored else ():
        try:
            picture = open_picture(path)
        except DatasetError:
            continue
        if picture.mode not in ONE_CHANNEL:
            counts += _count_colors(np.asarray(convert_to_rgb(picture, path)))
    if not counts:
        raise DatasetError(f"no mask can be read among {len(paths)}: expected pictures of classes")
    if survey.lossy or len(counts) > MANY_COLORS:
        counts = _merge_colors(counts)
    colors = sorted(counts, key=lambda color: (-counts[color], color))[:MAX_PROPOSED]
    return ClassTable([f"class_{i}" for i in range(len(colors))], colors)


def _merge_colors(counts):
    """Counter of the colours that stand for those near them, the most frequent first."""
    merged = collections.Counter()
    for color, count in counts.most_common(1 << 12):
        index, squared = nearest_colors([color], list(merged) or [color])
        near = merged and squared[0] <= MERGE_DISTANCE**2
        merged[list(merged)[index[0]] if near else color] += count
    return collections.Counter(
        {color: n for color, n in merged.items() if n >= MIN_SHARE * counts.total()}
    )


def propose_from_survey(survey: Survey) -> ClassTable | None:
    """Return the class table of masks of ids, `BINARY` for black and white; None for others."""
    if survey.colored or not survey.values:
        return None
    if survey.looks_binary() or set(survey.shown) == set(BINARY.mapping):
        return BINARY
    ids = [value for value in survey.values if value != CUSTOMARY_IGNORE_LABEL]
    if survey.conflict or survey.lossy or not ids or min(ids) < 0:
        return None
    highest = max(ids)
    if not set(ids) <= set(survey.palette) and 2 * len(ids) < highest + 1:  # shades of grey
        return None
    colors = [
        survey.palette.get(i, (round(255 * i / max(highest, 1)),) * 3) for i in range(highest + 1)
    ]
    if len(set(colors)) < len(colors):  # of a palette that repeats itself, or of many ids
        colors = [(i >> 16 & 255, i >> 8 & 255, i & 255) for i in range(highest + 1)]
    return ClassTable([f"class_{i}" for i in range(highest + 1)], colors)
