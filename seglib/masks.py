"""Masks: colours to labels and back, other sizes, and what mask files hold."""

import concurrent.futures
import dataclasses
import functools
import itertools
import math
import os
from collections import Counter

import numpy as np
from numpy.typing import ArrayLike

from seglib.annotations import Annotation
from seglib.classes import CUSTOMARY_IGNORE_LABEL, NO_NUMBER, ClassTable, voc_colors
from seglib.images import (
    ONE_CHANNEL,
    RGB,
    DatasetError,
    convert_to_rgb,
    cut_rows,
    in_bands,
    open_picture,
    read_image,
)
from seglib.system import show_progress

ENCODINGS = ("ids", "colors", "binary")
LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP"})
MAX_UNKNOWN_SHARE = 0.01  # of a mask's pixels: more is no accident of drawing
# Euclidean in RGB, by whether the mask's format changes colours. The line between two CamVid
# colours passes a third at 17.8 or more, or right through it: within 16, blends are told from
# shifted colours. JPEG shifts more; 24 and 64 read its masks best.
NOISE_DISTANCE = {False: 16, True: 24}
UNKNOWN_DISTANCE = {False: 32, True: 64}
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
        ValueError: `pixels` is no RGB in [0, 255].

    Example:
        >>> closest_labels([[0, 0, 0], [250, 9, 9], [90, 80, 80]],
        ...                {(0, 0, 0): 7, (255, 0, 0): 4})
        array([7, 4, 7], dtype=uint8)
    """
    palette, labels, entries = _closest_table(tuple(mapping.items()))
    pixels = np.asarray(pixels)

    def look_up(pixels):
        keys = _pack_colors(pixels)
        found = entries.take(keys, mode="clip")  # take, unlike [], lets threads run
        if not found.all():
            new = np.unique(keys[found == 0])
            entries[new] = _find_nearest(_unpack_colors(new), palette) + 1
            found = entries.take(keys, mode="clip")
        return labels.take(found - 1, mode="clip")

    if pixels.ndim < 2:
        return look_up(pixels)
    return in_bands(look_up, pixels, 32 * pixels[:1].size)  # small: they stay in the CPU's cache


find_closest_labels_vectorized = closest_labels


@functools.lru_cache(maxsize=4)  # 16 MB each
def _closest_table(items):
    """Colours, labels, and for each of the 2**24 colours 0 or 1 + the place of the nearest.

    The memory comes zeroed from the system, so a new table costs nothing until colours arrive.
    Threads may share it: they write the same values.
    """
    palette = np.array([color for color, _ in items])
    _pack_colors(palette)  # checks them
    labels = _shrink(np.array([label for _, label in items]))
    return palette, labels, np.zeros(1 << 24, np.uint8 if len(items) < 255 else np.uint32)


def _shrink(labels):
    """Labels in 8 or 16 bits where they fit."""
    fit = labels.min() >= 0 and labels.max() < 1 << 16
    return labels.astype(np.min_scalar_type(labels.max())) if fit else labels


def _find_nearest(colors, palette):
    """Which of a palette `(k, 3)` is nearest to each colour `(n, 3)`."""
    from scipy.spatial import distance

    def find(part):
        return distance.cdist(part, palette, "sqeuclidean").argmin(axis=1)

    return in_bands(find, colors, len(palette))


def measure_colors(pixels: ArrayLike, classes: ClassTable) -> tuple:
    """Return the colour nearest to each pixel, its place in `mapping`, and the squared distance."""
    pixels, colors = np.asarray(pixels), np.array(list(classes.mapping), np.int32)
    rows = closest_labels(pixels, {tuple(color): i for i, color in enumerate(colors.tolist())})

    def measure(part):
        some, near = pixels[part], rows[part]
        return sum((some[..., c] - colors[:, c].take(near)) ** 2 for c in range(3))

    if pixels.ndim < 2:
        return rows, measure(...)
    return rows, in_bands(measure, np.arange(len(pixels)), pixels[:1].size)


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
    return colors.take(labels, axis=0)


def check_labels(labels: ArrayLike, classes: ClassTable, *, source="labels") -> None:
    """Raise DatasetError naming `source` if an id is not in the class table nor ignored."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise DatasetError(f"{source}: expected integer ids, received {labels.dtype}")
    wrong = (labels < 0) | (labels >= classes.num_classes)
    if classes.ignore_label is not None:
        wrong &= labels != classes.ignore_label
    if wrong.any():
        raise DatasetError(
            f"{source}: {wrong.sum()} pixels hold a label outside the class table "
            f"({', '.join(map(str, np.unique(labels[wrong])[:8]))}); expected 0 to "
            f"{classes.num_classes - 1} or an ignored one: add the class, correct the mask, or "
            "ignore it by ClassTable(…, ignore_label=255)"
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
    """
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    palette = np.array(list(classes.mapping), np.int32)
    rows, squared = measure_colors(pixels, classes)
    padded = _pad_rows(rows, 1)
    rows = padded[1:-1, 1:-1]
    rows[squared > tolerance**2] = -1  # not settled yet
    squared = None  # which frees much memory

    def find_best(positions):
        votes = _count_around(padded, positions, len(palette), reach=1)
        colors = pixels[tuple(positions.T)].astype(np.int32)
        cost = ((colors[:, None] - palette) ** 2).sum(axis=2)
        cost = np.where(votes > 0, 9 * cost + 8 - votes, np.iinfo(np.int32).max)
        return np.where(votes.any(axis=1), cost.argmin(axis=1), -1).astype(rows.dtype)

    unsettled = _find_positions(rows < 0)
    while len(unsettled):
        best = in_bands(find_best, unsettled, 4 * len(palette))
        if (best < 0).all():
            break
        rows[tuple(unsettled.T)] = best
        unsettled = unsettled[best < 0]
    ids = np.array(list(classes.mapping.values()), labels.dtype)
    return np.where(rows >= 0, ids[rows], labels)


def _pad_rows(rows, reach):
    rows = rows.astype(np.promote_types(rows.dtype, np.int8))
    return np.pad(rows, reach, constant_values=-1)


def _find_positions(there):
    """Where a map is True, int32 `(n, 2)`, a third of the memory that `np.argwhere` takes."""
    bands = cut_rows(len(there), there.shape[1])
    return np.concatenate(
        [np.argwhere(there[band]).astype(np.int32) + np.int32([band.start, 0]) for band in bands]
    )


def _count_around(padded, positions, num_classes, *, reach):
    """How often each row occurs within `reach` pixels of each position, `(positions, classes)`."""
    counts = np.zeros((len(positions), num_classes + 1), np.int32)  # the last is for -1
    for down, right in itertools.product(range(2 * reach + 1), repeat=2):
        around = padded[positions[:, 0] + down, positions[:, 1] + right]
        counts[np.arange(len(positions)), around] += 1
    return counts[:, :-1]


def find_unknown_colors(pixels: np.ndarray, classes: ClassTable, *, lossy=False) -> np.ndarray:
    """Return which pixels `(height, width)` are far from each class and no blend of neighbours.

    A blend lies near the line between the colours of two classes in the 5×5 pixels around it.
    """
    distance = UNKNOWN_DISTANCE[lossy]
    rows, squared = measure_colors(pixels, classes)
    highest, known = pixels.max(axis=(0, 1), initial=0), np.array(list(classes.mapping))
    # Ids in a channel, as CARLA has them, 1 in several, or colours that are close to each other.
    is_exact = np.count_nonzero(highest) == 1 or highest.max() == 1 or known.max() < distance
    if is_exact and not lossy and 0 < highest.max() < distance:
        return squared > 0
    far, palette = squared > distance**2, known
    padded, squared = _pad_rows(rows, 2), None  # which frees much memory

    def drop_blends(numbers):
        unknown = far[numbers]
        positions = np.argwhere(unknown)
        positions[:, 0] += numbers[0]
        around = _count_around(padded, positions, len(palette), reach=2) > 0
        blended = _near_segments(pixels[tuple(positions.T)], palette, around, distance)
        unknown[unknown] = ~blended
        return unknown

    return in_bands(drop_blends, np.arange(len(pixels)), pixels[:1].size * len(palette))


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


def _pack_colors(pixels):
    """RGB `(..., 3)` as one int32 `r << 16 | g << 8 | b` each."""
    are_rgb = pixels.shape[-1:] == (3,) and pixels.dtype.kind in "iu"
    if not are_rgb or (pixels.dtype != np.uint8 and (pixels >> 8).any()):
        raise ValueError(
            "expected integer RGB colours (..., 3) in [0, 255], received "
            f"{pixels.dtype} {pixels.shape}: drop an alpha channel; multiply colours in [0, 1] "
            "by 255 and round them"
        )
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _unpack_colors(keys):
    return np.stack([keys >> 16, keys >> 8 & 255, keys & 255], axis=-1)


def _count_colors(pixels, there):
    """Counter `{(r, g, b): pixels}` of a picture where `there`, an array like it, is True."""
    counts = Counter()
    for band in cut_rows(len(pixels), pixels[:1].size):
        keys, found = np.unique(_pack_colors(pixels[band][there[band]]), return_counts=True)
        colors = map(tuple, _unpack_colors(keys).tolist())
        counts.update(dict(zip(colors, found.tolist(), strict=True)))
    return counts


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
            "expected integer labels (height, width) and a size of at least (1, 1), "
            f"received {labels.dtype} {labels.shape} and {tuple(size)}"
        )
    if labels.shape == tuple(size):
        return labels.copy()
    ids = np.flatnonzero(np.bincount(labels.ravel())).astype(labels.dtype)
    compact = np.zeros(int(ids[-1]) + 1, np.int64)
    compact[ids] = np.arange(len(ids))
    heights, sources, targets = _pieces(labels.shape[0], size[0])
    widths, from_columns, to_columns = _pieces(labels.shape[1], size[1])

    def resize(rows):
        pieces = slice(*np.searchsorted(targets, (rows[0], rows[-1] + 1)))
        # Which class's area in which pixel each piece belongs to, and how large it is.
        pixels = (targets[pieces, None] - rows[0]) * size[1] + to_columns
        keys = compact.take(labels.take(sources[pieces], axis=0).take(from_columns, axis=1))
        keys += pixels * len(ids)
        area = (heights[pieces, None] * widths).ravel()
        shape = len(rows), size[1], len(ids)
        area = np.bincount(keys.ravel(), weights=area, minlength=math.prod(shape))
        return ids[area.reshape(shape).argmax(axis=-1)]

    cells = max(len(heights) * len(widths) // size[0], size[1] * len(ids))
    return in_bands(resize, np.arange(size[0]), cells)


@functools.lru_cache(maxsize=64)
def _pieces(source, target):
    """Cut a line at the pixel edges of both grids: each piece's length, source and target pixel.

    Lengths are whole, in units in which the line is `source * target` long.
    """
    edges = np.union1d(np.arange(source + 1) * target, np.arange(target + 1) * source)
    return np.diff(edges).astype(np.float64), edges[:-1] // target, edges[:-1] // source


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
    """What masks hold, one or all of a data set.

    Of masks with one channel, or grey ones, `values` counts the pixels by value and `shown` by the
    colour that they show; `palette` is `{value: colour}`, the first mask's that has one.
    """

    values: Counter = dataclasses.field(default_factory=Counter)
    shown: Counter = dataclasses.field(default_factory=Counter)
    palette: dict = dataclasses.field(default_factory=dict)
    colored: int = 0  # how many masks are of colours
    lossy: bool = False  # whether a format changes values or colours
    conflict: bool = False  # whether palettes show a value in different colours
    together: set = dataclasses.field(default_factory=set)  # frozensets of up to 3 in one mask
    fault: DatasetError | None = None  # why the first that cannot be read cannot

    def add(self, other):
        """Add what another mask holds."""
        self.values.update(other.values)
        self.shown.update(other.shown)
        self.colored += other.colored
        self.lossy |= other.lossy
        self.fault = self.fault or other.fault
        self.together |= other.together
        for value, color in other.palette.items():
            self.conflict |= self.palette.setdefault(value, color) != color

    @property
    def colors(self) -> list | None:
        """Colours of the ids from 0 to 255: the palette's, if each has its own; None without."""
        if not self.palette or self.conflict:
            return None
        taken, usual = set(self.palette.values()), voc_colors(512).tolist()
        palette = self.palette if len(taken) == len(self.palette) else {}
        spare = [usual[i + 256 if tuple(usual[i]) in taken else i] for i in range(256)]
        return [palette.get(i, color) for i, color in enumerate(spare)]

    def looks_binary(self):
        """Whether masks with one channel are black and white, give or take what JPEG does."""
        if set(self.values) == {0, 65535} or self.mixes_whites():
            return True
        if self.palette or not self.values or min(self.values) < 0:
            return False
        noise, least = (NOISE_DISTANCE[False], 0.9) if self.lossy else (0, 1)
        near = sum(n for v, n in self.values.items() if v <= noise or v >= 255 - noise)
        bright = 255 - NOISE_DISTANCE[False] <= max(self.values) <= 255
        return bright and (near >= least * self.values.total() or self.blends())

    def blends(self):
        """Whether most pixels are 0 and 255, and others of all values between, as when resized."""
        most, grey = dict(self.values.most_common(2)), sorted(self.values)[1:-1]
        return most.keys() == {0, 255} and len(grey) > 32 and 200 < grey[-1] < 255

    def mixes_whites(self):
        """Whether some masks are of 0 and 1, others of 0 and 255, and none of all three."""
        both, every = {frozenset({0, 1}), frozenset({0, 255})}, frozenset(self.values)
        return every == {0, 1, 255} and both <= self.together and every not in self.together


def survey_masks(paths) -> Survey:
    """Look at all masks: at the head of colour masks, at every value of those with one channel.

    What cannot be read is passed over; `fault` is the reason of the first.
    """
    survey = Survey()
    grey = functools.partial(_survey_file, as_grey=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
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
        head, picture = open_picture(path, decode=False), None
        if head.mode in ONE_CHANNEL:
            picture = open_picture(path)
        elif as_grey:
            picture = _take_grey(open_picture(path))
        lossy = head.format in LOSSY_FORMATS
        return _survey_picture(picture, path, lossy) if picture else Survey(colored=1, lossy=lossy)
    except DatasetError as error:
        return Survey(fault=error)


def _survey_picture(picture, path, lossy):
    """Survey of a mask with one channel or a palette."""
    found, counts = np.unique(_read_values(picture, path), return_counts=True)
    values = Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    shows, shown = {}, Counter()
    if picture.mode in ("P", "PA"):
        palette = picture.getpalette("RGB")
        shows = {v: tuple(palette[3 * v : 3 * v + 3]) or (0, 0, 0) for v in values}
    elif picture.mode in ("1", "L", "LA", "La"):
        shows = {v: ((255 if picture.mode == "1" else 1) * v,) * 3 for v in values}
    for value, color in shows.items():
        shown[color] += values[value]
    together = {frozenset(values)} if len(values) < 4 else set()
    palette = {} if picture.mode[0] == "L" else shows
    return Survey(values, shown, palette, lossy=lossy, together=together)


def _take_grey(picture):
    """The one channel of a colour picture whose channels are all alike; else None."""
    red, *others = convert_to_rgb(picture).split()
    return red if all(red.tobytes() == other.tobytes() for other in others) else None


def _read_values(picture, path):
    """The values of a picture with one channel or a palette, int `(height, width)`."""
    values = np.asarray(picture.getchannel(0) if picture.mode in ("LA", "La", "PA") else picture)
    if values.dtype.kind == "f":
        is_number = np.abs(values) < 1 << 62  # others are NaN, infinite or a float's least
        values = np.where(is_number, values, 0)
        if not np.array_equal(values, np.round(values)):
            raise DatasetError(f"{path} holds fractions: expected whole numbers, the classes' ids")
        values = np.where(is_number, values.astype(np.int64), NO_NUMBER)
    return values.astype(np.uint8) if values.dtype == bool else values


def find_ids(values: ArrayLike, classes: ClassTable) -> tuple:
    """Return the ids of mask values, and which of the values the class table knows.

    The values are ids unless `classes.values` says more. What is not known stays as it is.

    Example:
        >>> classes = ClassTable("ab", [(0, 0, 0), (1, 1, 1)], values={0: 0, "7-9": 1})
        >>> find_ids([0, 8, 10], classes)
        (array([ 0,  1, 10]), array([ True,  True, False]))
    """
    values = np.asarray(values)
    known, labels = (values >= 0) & (values < classes.num_classes), values
    if classes.ranges:
        lowest, highest, ids = np.array(classes.ranges).T
        place = np.searchsorted(lowest, values, side="right") - 1
        known = (place >= 0) & (values <= highest[place])
        labels = np.where(known, ids[place], values)
    if "rest" in classes.values:
        labels = np.where(known, labels, classes.values["rest"])
        known = np.ones_like(known)
    return labels, known


def choose_encoding(survey: Survey, classes: ClassTable) -> str:
    """Decide how masks with one channel or a palette show the classes: one of `ENCODINGS`.

    They hold ids if all values, over the whole data set, are in the table or 255. They are read
    as colours if all their colours are in the table, which is no coincidence, or if palettes
    differ between masks.
    """
    known = [color for color in survey.shown if color in classes.mapping]
    fitting = sum(survey.shown[color] for color in known) / max(1, survey.values.total())
    if not survey.values or survey.conflict or (fitting == 1 and len(survey.values) > 1):
        return "colors"
    if survey.looks_binary() and classes.num_classes == 2 and classes.ignore_label in (None, 0, 1):
        return "binary"
    strange = {value for value in survey.values if not find_ids(value, classes)[1]}
    mostly_known = fitting == 1 or (len(known) > 1 and fitting > 0.5)
    are_colors = not strange <= {CUSTOMARY_IGNORE_LABEL, classes.ignore_label}
    return "colors" if are_colors and (survey.lossy or mostly_known) else "ids"


def read_labels(
    path: str | os.PathLike, classes: ClassTable, *, encoding: str = "auto"
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

    Returns:
        uint8 array `(height, width)`; uint16 where ids exceed 255.

    Raises:
        DatasetError: the file is truncated, more than 1 % of its pixels have colours
            that belong to no class, or an id is outside the table.
    """
    labels, pixels, lossy = read_mask(path, classes, encoding=encoding)
    if pixels is None:
        check_labels(labels, classes, source=path)
        return labels
    if np.array_equal(classes.colors.take(labels, axis=0, mode="clip"), pixels):  # exact
        return labels
    inexact = np.count_nonzero(measure_colors(pixels, classes)[1]) / labels.size
    if inexact > MAX_UNKNOWN_SHARE:
        unknown = find_unknown_colors(pixels, classes, lossy=lossy)
        if unknown.mean() > MAX_UNKNOWN_SHARE:
            color, count = _count_colors(pixels, unknown).most_common(1)[0]
            nearest = classes.names[closest_labels(color, classes.mapping)]
            raise DatasetError(
                f"{path}: {unknown.sum()} of {labels.size} pixels are far from every class "
                f"colour, most often {color} ({count} pixels; nearest class {nearest}): add the "
                "colour to the class table, or correct the mask"
            )
    if not inexact:
        return labels
    return sharpen_boundaries(pixels, labels, classes, tolerance=NOISE_DISTANCE[lossy])


def read_mask(path: str | os.PathLike, classes: ClassTable, *, encoding: str = "auto") -> tuple:
    """Read a mask without asking whether it makes sense; arguments as of `read_labels`.

    Returns `(labels, pixels, lossy)`: ids, or those of the nearest colours; uint8 RGB, or None
    where the mask holds ids; whether the format changes colours.
    """
    if isinstance(path, Annotation):
        return path.read(), None, False
    picture = open_picture(path)
    lossy = picture.format in LOSSY_FORMATS
    tags = getattr(picture, "tag_v2", {})  # of TIFF, of which Pillow may leave bands out
    hidden = picture.mode == "L" and tags.get(277, 1) > 1
    if picture.mode in ("LA", "RGBA"):
        *colors, (low, high) = picture.getextrema()
        pixels = np.asarray(picture)
        hidden |= low < high and all(darkest == brightest for darkest, brightest in colors)
        hidden |= picture.mode == "LA" and pixels[pixels[..., 1] == 0].any()
    if hidden:
        raise DatasetError(
            f"{path} shows its classes by transparency or in several bands: save it with classes "
            "as colours or as ids"
        )
    if picture.mode not in ONE_CHANNEL:
        grey = _take_grey(picture) if encoding in ("ids", "binary") else None
        picture, encoding = (picture, "colors") if grey is None else (grey, encoding)
    elif encoding == "auto":
        encoding = choose_encoding(_survey_picture(picture, path, lossy), classes)
    if encoding == "colors":
        pixels = np.asarray(convert_to_rgb(picture, path))
        return closest_labels(pixels, classes.mapping), pixels, lossy
    labels = _read_values(picture, path)
    if encoding == "binary":
        return (labels > (127 if labels.max() > 1 else 0)).astype(np.uint8), None, lossy
    values, (labels, known) = labels, find_ids(labels, classes)
    ignored = np.isin(labels, classes.also_ignored)
    if classes.num_classes <= CUSTOMARY_IGNORE_LABEL and classes.ignore_label is not None:
        ignored |= ~known & (values == CUSTOMARY_IGNORE_LABEL)
    if classes.ranges and not (known | ignored).all():
        strange = np.unique(values[~(known | ignored)])
        raise DatasetError(
            f"{path} holds values that show no class ({list_values(strange)}), expected those of "
            f'{classes.values}: add them to values=, "rest" for all others, or None to ignore one'
        )
    labels = np.where(ignored, classes.ignore_label, labels) if ignored.any() else labels
    return _shrink(labels), None, lossy


def list_values(values, most: int = 8) -> str:
    """Return the first values of masks in words."""
    words = ["NaN" if value == NO_NUMBER else str(value) for value in values[:most]]
    return ", ".join(words) + (", …" if len(values) > most else "")


def read_pair(
    image_path, mask_path, classes, *, encoding="auto", resize_masks=False, pixels=RGB
) -> tuple:
    """Read a photograph and its labels, and check that they have the same size.

    With `resize_masks`, each pixel of a mask of another size takes the nearest of its labels.
    """
    image = read_image(image_path, pixels)
    labels = read_labels(mask_path, classes, encoding=encoding)
    if resize_masks:
        rows, columns = (
            (np.arange(new) + 0.5) * old // new
            for new, old in zip(image.shape, labels.shape, strict=False)
        )
        labels = labels[rows.astype(int)[:, None], columns.astype(int)]
    if image.shape[:2] != labels.shape:
        raise DatasetError(explain_sizes(image_path, image.shape, mask_path, labels.shape))
    return image, labels


def explain_sizes(image_path, image_shape: tuple, mask_path, mask_shape: tuple) -> str:
    """Return in words what is wrong with a pair whose halves differ in size."""
    return (
        f"{mask_path} is {mask_shape[0]}×{mask_shape[1]} (height × width) but its image "
        f"{image_path} is {image_shape[0]}×{image_shape[1]}: export the mask at the image's size "
        "and the same way up, or pass resize_masks=True to open_dataset"
    )


def propose_class_table(paths, *, lossy: bool = False) -> ClassTable:
    """Propose a class table, named by number, from the colours of some `MAX_MASKS` masks.

    Colours come by their share of the pixels. Where formats are lossy, colours near a more
    frequent one are taken for it.
    """
    counts = Counter()
    for path in paths[:: -(-len(paths) // MAX_MASKS)]:
        pixels = np.asarray(convert_to_rgb(open_picture(path), path))
        counts += _count_colors(pixels, np.ones(pixels.shape[:2], bool))
    merging = lossy or len(counts) > MANY_COLORS
    left, found = np.array(sorted(counts, key=lambda color: (-counts[color], color))), Counter()
    while len(left):
        near = ((left - left[0]) ** 2).sum(axis=1) <= merging * MERGE_DISTANCE**2
        found[tuple(left[0].tolist())] = sum(counts[tuple(color)] for color in left[near].tolist())
        left = left[~near]
    least = merging * MIN_SHARE * counts.total()
    colors = [color for color, count in found.most_common(MAX_PROPOSED) if count >= least]
    return ClassTable([f"class_{i}" for i in range(len(colors))], colors)
