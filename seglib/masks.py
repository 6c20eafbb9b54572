"""Colours to labels and back, and label maps of another size without invented classes."""

import dataclasses
import functools

import numpy as np

MAX_CHUNK = 1 << 16  # colours compared with every class at once: 32 classes take 25 MB
MAX_KEYS = 1 << 22  # pixels looked up at once, some 20 bytes each
MAX_BAND = 1 << 19  # pixels whose neighbours are looked at, at once: 25 offsets and all classes
REACH = 2  # pixels around one, in which the classes of a blend are looked for
MAX_PIECES = 1 << 21  # pieces of pixels, or areas, counted at once: 8 bytes each and thrice


def closest_labels(pixels, mapping):
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
    table = _closest_table(tuple(mapping.items()))
    return _look_up(table, np.asarray(pixels), table.labels.dtype)


def label_colors(labels, classes):
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


def check_labels(labels, classes, *, source="labels"):
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
            + ": add the class to the table, correct the mask, or name the label that is to be "
            "ignored, as in ClassTable(names, colors, ignore_label=255)"
        )


def sharpen_boundaries(pixels, labels, classes, *, tolerance=0):
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
    if pixels.shape != (*labels.shape, 3) or labels.ndim != 2:
        raise ValueError(
            f"expected pixels (height, width, 3) and labels (height, width), "
            f"received {pixels.shape} and {labels.shape}"
        )
    if classes.also_ignored:  # one id for rows of several colours
        rows = _label_rows(pixels, classes, sharpen_boundaries, tolerance=tolerance)
        return np.array(list(classes.mapping.values()), labels.dtype)[rows]
    settled = exact_colors(pixels, classes)
    if tolerance > 0 and not settled.all():
        palette = np.array(list(classes.mapping), np.int32)
        nearest = _squared_distance_to_nearest(pixels[~settled].astype(np.int32), palette)
        settled[~settled] = nearest <= tolerance**2
    open_pixels = np.argwhere(~settled)
    while len(open_pixels):
        best = np.concatenate(
            [
                _best_neighbors(pixels, labels, settled, open_pixels[i : i + MAX_BAND], classes)
                for i in range(0, len(open_pixels), MAX_BAND)
            ]
        )
        found = best >= 0
        if not found.any():
            break
        rows, columns = open_pixels[found].T
        labels[rows, columns] = best[found]
        settled[rows, columns] = True
        open_pixels = open_pixels[~found]
    return labels


def exact_colors(pixels, classes):
    """Return a bool array `(...)`: which pixels have exactly a class's colour."""
    table = _exact_table(tuple(classes.mapping))
    return _look_up(lambda keys: table.take(keys, mode="clip"), np.asarray(pixels), bool)


def find_unknown_colors(pixels, labels, classes, *, distance=32):
    """Find pixels that are far from every class colour and no blend of their neighbours.

    A blend lies within `distance` of the line between the colours of two classes that
    occur among the 5×5 labels around it.

    Args:
        pixels: uint8 array `(height, width, 3)`, the mask as RGB.
        labels: int array `(height, width)`, its nearest classes.
        classes: ClassTable.
        distance: number, Euclidean in RGB.

    Returns:
        bool array `(height, width)`.
    """
    bands = find_unknown_in_bands(pixels, labels, classes, distance=distance)
    return np.concatenate([np.zeros((0, labels.shape[1]), bool), *bands])


def find_unknown_in_bands(pixels, labels, classes, *, distance=32):
    """Yield what `find_unknown_colors` returns, some rows at a time, so that memory is bounded."""
    if classes.also_ignored:  # one id for rows of several colours
        yield from _label_rows(pixels, classes, find_unknown_in_bands, distance=distance)
        return
    rows = max(1, MAX_BAND // max(1, labels.shape[1]))
    for start in range(0, len(labels), rows):
        first, last = max(0, start - REACH), min(len(labels), start + rows + REACH)
        unknown = _find_unknown(pixels[first:last], labels[first:last], classes, distance)
        yield unknown[start - first :][:rows]


def _label_rows(pixels, classes, compute, **options):
    """What is computed of labels that are the rows of the table, each with a colour of its own."""
    plain = dataclasses.replace(classes, ignore_label=None, also_ignored=())
    return compute(pixels, closest_labels(pixels, plain.mapping), plain, **options)


def _find_unknown(pixels, labels, classes, distance):
    pixels = np.asarray(pixels)
    unknown = np.zeros(labels.shape, bool)
    rows, columns = np.nonzero(~exact_colors(pixels, classes))
    if not len(rows):
        return unknown
    colors = pixels[rows, columns].astype(np.int32)
    palette = np.array(list(classes.mapping), np.int32)
    nearest = _squared_distance_to_nearest(colors, palette)
    far = nearest > distance**2
    rows, columns, colors = rows[far], columns[far], colors[far]
    around = _classes_around(labels, rows, columns, reach=REACH)
    blend = near_segments(colors, classes.colors, around, distance)
    unknown[rows[~blend], columns[~blend]] = True
    return unknown


def resize_labels(labels, size):
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
    row_pieces, column_pieces = _pieces(labels.shape[0], size[0]), _pieces(labels.shape[1], size[1])
    pieces_a_row = len(row_pieces[0]) * len(column_pieces[0]) // size[0]
    step = max(1, MAX_PIECES // max(pieces_a_row, size[1] * len(ids)))
    result = np.empty(size, labels.dtype)
    for start in range(0, size[0], step):
        stop = min(start + step, size[0])
        first, last = np.searchsorted(row_pieces[2], (start, stop))
        rows = [values[first:last] for values in row_pieces]
        area = _covered_area(labels, compact, rows, column_pieces, start)
        area = area.reshape(stop - start, size[1], len(ids))
        result[start:stop] = ids[area.argmax(axis=-1)]
    return result


def find_invented(resized, labels):
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


@functools.lru_cache(maxsize=64)
def _pieces(source, target):
    """Cut a line at the pixel edges of both grids: each piece's length, source and target pixel.

    Lengths are whole, in units in which the line is `source * target` long.
    """
    edges = np.union1d(np.arange(source + 1) * target, np.arange(target + 1) * source)
    return np.diff(edges).astype(np.float64), edges[:-1] // target, edges[:-1] // source


def _covered_area(labels, compact, rows, columns, start):
    """Area of each class in each target pixel from row `start` on, flat."""
    length, source, target = rows
    keys = compact.take(labels.take(source, axis=0).take(columns[1], axis=1))
    pixels = (target[:, None] - start) * (columns[2][-1] + 1) + columns[2]
    keys += pixels * (compact.max() + 1)
    minlength = (target[-1] - start + 1) * (columns[2][-1] + 1) * (compact.max() + 1)
    weights = (length[:, None] * columns[0]).ravel()
    return np.bincount(keys.ravel(), weights=weights, minlength=minlength)


def _look_up(table, pixels, dtype):
    """What a table says of each colour, some rows at a time."""
    if pixels.size <= 3 * MAX_KEYS or pixels.ndim < 2:
        return table(_pack_colors(pixels))
    rows = max(1, 3 * MAX_KEYS * len(pixels) // pixels.size)
    found = np.empty(pixels.shape[:-1], dtype)
    for start in range(0, len(pixels), rows):
        found[start : start + rows] = table(_pack_colors(pixels[start : start + rows]))
    return found


def _pack_colors(pixels):
    """RGB `(..., 3)` as one int32 `r << 16 | g << 8 | b` each."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 0 or pixels.shape[-1] != 3:
        raise ValueError(
            f"expected RGB colours of shape (..., 3), received shape {pixels.shape}"
            + (": drop the alpha channel" if pixels.shape[-1:] == (4,) else "")
        )
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "iu":
            raise ValueError(
                f"expected integer colours in [0, 255], received {pixels.dtype}: "
                "multiply colours in [0, 1] by 255 and round them"
            )
        if pixels.size and (pixels.min() < 0 or pixels.max() > 255):
            raise ValueError(
                f"expected colours in [0, 255], received {pixels.min()} to {pixels.max()}"
            )
    keys = pixels[..., 0].astype(np.int32)
    for channel in (1, 2):
        keys <<= 8
        keys |= pixels[..., channel].astype(np.int32)
    return keys


class _ClosestTable:
    """The nearest entry of one mapping for each of the 2**24 colours, found on demand.

    The memory for entries comes zeroed from the system, so a new table costs nothing
    until colours arrive. Threads may share it: they write the same values.
    """

    def __init__(self, items):
        if not items:
            raise ValueError("the mapping of colours to labels is empty")
        self.colors = np.array([color for color, _ in items])
        _pack_colors(self.colors)
        self.labels = np.array([label for _, label in items])
        if self.labels.min() >= 0 and self.labels.max() < 1 << 16:
            self.labels = self.labels.astype(np.min_scalar_type(self.labels.max()))
        entry = np.uint8 if len(items) < 255 else np.uint32
        self.entries = np.zeros(1 << 24, entry)  # 0: not known yet, otherwise entry + 1

    def __call__(self, keys):
        found = self.entries.take(keys, mode="clip")  # take, unlike [], lets threads run
        unknown = found == 0
        if unknown.any():
            self._learn(np.unique(keys[unknown]))
            found = self.entries.take(keys, mode="clip")
        return self.labels.take(found - 1, mode="clip")

    def _learn(self, keys):
        palette = self.colors.astype(np.int32)
        for start in range(0, len(keys), MAX_CHUNK):
            chunk = keys[start : start + MAX_CHUNK]
            channels = (chunk >> 16, chunk >> 8 & 255, chunk & 255)
            distance = sum(
                (channel[:, None] - palette[:, i]) ** 2 for i, channel in enumerate(channels)
            )
            self.entries[chunk] = distance.argmin(axis=1) + 1


@functools.lru_cache(maxsize=4)  # 16 MB each
def _closest_table(items):
    return _ClosestTable(items)


@functools.lru_cache(maxsize=4)
def _exact_table(colors):
    table = np.zeros(1 << 24, bool)
    table[_pack_colors(np.array(colors))] = True
    return table


def _best_neighbors(pixels, labels, settled, positions, classes):
    """For each position the best settled class among its 8 neighbours, -1 where there is none."""
    votes = np.zeros((len(positions), classes.num_classes), np.int32)
    votable = np.where(settled, labels.astype(np.int32), -1)
    for neighbors, inside in _neighbors(votable, *positions.T, reach=1):
        valid = inside & (neighbors >= 0)
        votes[np.flatnonzero(valid), neighbors[valid]] += 1
    colors = pixels[tuple(positions.T)].astype(np.int32)
    cost = np.stack(
        [((colors - color) ** 2).sum(axis=1) for color in classes.colors.astype(np.int32)], axis=1
    )
    cost = np.where(votes > 0, cost * 9 + 8 - votes, np.iinfo(np.int32).max)
    return np.where(votes.any(axis=1), cost.argmin(axis=1), -1)


def _classes_around(labels, rows, columns, *, reach):
    """Bool array `(positions, classes)`: which classes occur near each position."""
    around = np.zeros((len(rows), int(labels.max(initial=0)) + 1), bool)
    for neighbors, valid in _neighbors(labels, rows, columns, reach=reach):
        around[np.flatnonzero(valid), neighbors[valid]] = True
    return around


def _neighbors(labels, rows, columns, *, reach):
    """Yield the labels at each offset within `reach` pixels, and which are inside the map."""
    height, width = labels.shape
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            row, column = rows + down, columns + right
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            row, column = row.clip(0, height - 1), column.clip(0, width - 1)
            yield labels[row, column], inside


def _squared_distance_to_nearest(colors, palette):
    nearest = np.full(len(colors), np.iinfo(np.int32).max, np.int32)
    for color in palette:
        np.minimum(nearest, ((colors - color) ** 2).sum(axis=1), out=nearest)
    return nearest


def near_segments(points, palette, allowed, distance):
    """Tell which colours lie within `distance` of a line between two of their allowed ones.

    Args:
        points: int array `(n, 3)`, RGB.
        palette: int array `(k, 3)`, RGB.
        allowed: bool array `(n, k)`.
        distance: number, Euclidean in RGB.

    Returns:
        bool array `(n,)`.
    """
    palette = palette.astype(np.float64)
    near = np.zeros(len(points), bool)
    present = np.flatnonzero(allowed.any(axis=0))
    for first, second in ((a, b) for a in present for b in present if a < b):
        pick = np.flatnonzero(allowed[:, first] & allowed[:, second] & ~near)
        line = palette[second] - palette[first]
        offset = points[pick] - palette[first]
        share = np.clip(offset @ line / (line @ line), 0, 1)
        rest = offset - share[:, None] * line
        near[pick] = (rest**2).sum(axis=1) <= distance**2
    return near
