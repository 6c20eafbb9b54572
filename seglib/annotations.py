"""Masks that are drawn when they are read, from layers of run lengths, polygons or mask files."""

import base64
import collections
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import warnings

import numpy as np
from PIL import Image, ImageDraw

from seglib.classes import (
    CUSTOMARY_IGNORE_LABEL,
    ClassTable,
    create_class_table,
    read_class_table,
)
from seglib.images import ORIENTATION, DatasetError, open_picture
from seglib.system import show_progress

MAX_LOOKED_AT = 200  # pictures whose layers are drawn when a data set is opened
BACKGROUND = ("background", "_background_")
BINARY = {"background": (0, 0, 0), "foreground": (255, 255, 255)}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Annotation(os.PathLike):
    """Labels of a photograph that are drawn when they are read: the mask half of a pair.

    Args:
        image: path of the photograph, whose upright size the labels have.
        path: path of the annotation file, or of the folder of mask files.
        layers: tuple of `(class id, (kind, …))`, later ones on top; `DRAW` has the kinds.
        fill: int, id of pixels that no layer covers.
        size: `(height, width)` that the file states, or None.
    """

    image: pathlib.Path
    path: pathlib.Path
    layers: tuple
    fill: int = 0
    size: tuple | None = None

    def __fspath__(self):
        return os.path.join(self.path, self.image.name)

    __str__ = __fspath__

    def read(self) -> np.ndarray:
        """Return the labels, uint8 `(height, width)`; uint16 where ids exceed 255.

        Raises:
            DatasetError: the file states another size than the photograph's, or a layer cannot be
                drawn.
        """
        return self.draw()[0]

    def draw(self) -> tuple:
        """Return the labels, and how many pixels of one class another one covers, by both ids."""
        size, hidden = read_size(self.image), collections.Counter()
        _check_size(self.size, size, self, self.image)
        labels = np.full(size, self.fill, np.uint16)
        for label, (kind, *content) in self.layers:
            try:
                mask = DRAW[kind](size, *content)
            except (ValueError, TypeError, IndexError, OverflowError, OSError) as error:
                raise DatasetError(f"{self}: {error}") from None
            below = labels[mask]
            below = below[(below != self.fill) & (below != label)]
            for id_, count in zip(*np.unique(below, return_counts=True), strict=True):
                hidden[int(id_), label] += int(count)
            labels[mask] = label
        return labels if labels.max(initial=0) > 255 else labels.astype(np.uint8), hidden

    def digest(self) -> str:
        """Return 32 hexadecimal digits that change with the layers or with their mask files."""
        content = [self.layers, self.fill, self.size]
        digest = hashlib.blake2b(json.dumps(content).encode(), digest_size=16)
        for _, (kind, *content) in self.layers:
            if kind in ("file", "segments"):
                digest.update(pathlib.Path(content[0]).read_bytes())
        return digest.hexdigest()


def read_size(path) -> tuple:
    """Return the `(height, width)` of a photograph that stands upright, from its file's head."""
    head = open_picture(path, decode=False)
    exif = {} if head.format == "PNG" and "exif" not in head.info else head.getexif()
    return head.size if exif.get(ORIENTATION, 1) > 4 else head.size[::-1]


def _check_size(stated, size, what, image="its picture"):
    if stated is not None and tuple(stated) != size:
        stated, real = ("×".join(map(str, sides)) for sides in (stated, size))
        raise DatasetError(
            f"{what} is for a picture of {stated} (height × width), but {image} is {real}: take "
            "the picture that was annotated, or scale the annotations to it"
        )


# The kinds of layers. Each function gives a bool array of a size.


def _draw_figure(size, points, *, kind="polygon"):
    """The outline belongs to a figure, as in labelme."""
    picture = Image.new("1", size[::-1])
    getattr(ImageDraw.Draw(picture), kind)(points, fill=1, outline=1)
    return np.array(picture)


def _draw_relative(size, points):
    """A polygon of YOLO, in shares of the picture's width and height."""
    points = np.reshape(points, (-1, 2)) * size[::-1]
    return _draw_figure(size, points.round(2).ravel().tolist())  # shares are rounded as well


def _draw_runs(size, text, by_rows=False):
    """A competition's "start length start length …", counted from 1, down columns or along rows."""
    starts, lengths = np.array(text.split(), np.int64).reshape(-1, 2).T
    order = np.argsort(starts)
    return _fill_runs(size, starts[order] - 1, lengths[order], by_rows)


def _draw_counts(size, counts, stated):
    """COCO's lengths of runs of 0 and 1 in turn, a list or text, down columns."""
    _check_size(stated, size, "the run lengths")
    counts = np.array(_decode_counts(counts) if isinstance(counts, str) else counts, np.int64)
    if (counts < 0).any() or counts.sum() != size[0] * size[1]:
        pixels = size[0] * size[1]
        raise ValueError(f"run lengths add up to {counts.sum()}, not to {pixels} pixels")
    starts, lengths = np.cumsum(counts)[:-1:2], counts[1::2]
    return _fill_runs(size, starts[lengths > 0], lengths[lengths > 0], by_rows=False)


def _decode_counts(text):
    """Counts of COCO's text: 5 bits a character, from the third on as differences.

    Source: Lin et al., cocoapi, `rleFrString`.
    """
    counts, value, shift = [], 0, 0
    for code in (ord(letter) - 48 for letter in text):
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code & 16 > 0) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    return counts


def _fill_runs(size, starts, lengths, by_rows):
    pixels, ends = size[0] * size[1], starts + lengths
    if (starts < 0).any() or (lengths < 1).any() or (ends > pixels).any():
        raise ValueError(f"a run leaves the {pixels} pixels of the picture, {size[0]}×{size[1]}")
    if (starts[1:] < ends[:-1]).any():
        raise ValueError("two runs overlap")
    change = np.bincount(starts, minlength=pixels + 1) - np.bincount(ends, minlength=pixels + 1)
    mask = np.cumsum(change)[:-1] > 0
    return mask.reshape(size) if by_rows else mask.reshape(size[::-1]).T


def _read_file(size, path):
    """A mask file of one object or class: what is brighter than half of its brightest pixel."""
    mask = read_grey(path)
    _check_size(mask.shape, size, path)
    return mask > max(mask.max(), 1) // 2


def read_grey(path) -> np.ndarray:
    """Return the largest channel of a picture of any kind, `(height, width)`."""
    picture = open_picture(path)
    values = np.asarray(picture.convert("RGB") if picture.mode[0] == "P" else picture)
    return values if values.ndim == 2 else values[..., :3].max(axis=-1)


def _read_segments(size, path, ids):
    """Segments of a panoptic picture, whose ids are R + 256 G + 65536 B."""
    pixels = np.asarray(open_picture(path).convert("RGB")).astype(np.uint32)
    _check_size(pixels.shape[:2], size, path)
    return np.isin(pixels @ np.array([1, 256, 65536], np.uint32), ids)


def _read_bitmap(size, data, corner):
    """A PNG in base64 whose upper left corner is at `(x, y)`; what leaves the picture is cut."""
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        part = picture.convert("RGBA").getchannel("A") if "A" in picture.mode else picture
        part = part.convert("L").point(lambda value: value and 1)
    mask = Image.new("L", size[::-1])
    mask.paste(part, tuple(round(side) for side in corner))
    return np.array(mask) > 0


DRAW = {
    "polygon": _draw_figure,
    "ellipse": functools.partial(_draw_figure, kind="ellipse"),
    "relative": _draw_relative,
    "runs": _draw_runs,
    "counts": _draw_counts,
    "file": _read_file,
    "segments": _read_segments,
    "bitmap": _read_bitmap,
}


# Annotations of a data set: `found` is a `formats.Found`


def choose_classes(found, given) -> ClassTable:
    """Give the layers the ids of a class table, and return it: of `given`, or as they were found.

    Id 0 is the background, unless the file ignores what it does not cover.

    Raises:
        DatasetError: the classes given are others, or have no background where it is needed.
    """
    names = [name for name in found.names if name.lower() not in BACKGROUND]
    own = found.names if found.ignores_rest else ["background", *names]
    if given is None:
        given = BINARY if own == list(BINARY) else own
    is_file = isinstance(given, str | os.PathLike)
    table = read_class_table(given) if is_file else create_class_table(given)
    ids = {name: i for i, name in enumerate(table.names)}
    if not set(names) <= ids.keys():
        if table.num_classes != len(own):
            raise DatasetError(
                f"{found.text} has the classes {', '.join(own)}, but classes= has "
                f"{', '.join(table.names)}: pass these names, or {len(own)} others in this order"
            )
        ids = {name: i for i, name in enumerate(own)}
    fill = next((i for name, i in ids.items() if name.lower() in BACKGROUND), None)
    if fill is None and not found.ignores_rest:
        raise DatasetError(
            f"{found.text} leaves pixels without annotation, but classes= has no background for "
            f"them: pass classes={['background', *table.names]}"
        )
    if found.ignores_rest:
        fill = table.ignore_label
        if fill is None:
            fill = CUSTOMARY_IGNORE_LABEL if table.num_classes <= CUSTOMARY_IGNORE_LABEL else 65535
            table = dataclasses.replace(table, ignore_label=fill)
    for _, half in found.pairs:
        layers = tuple((ids.get(name, fill), shape) for name, shape in half.path.layers)
        half.path = dataclasses.replace(half.path, layers=layers, fill=fill)
    return table


def check_annotations(path, annotations: list, names) -> None:
    """Draw some annotations: raise what is wrong with them, and warn of classes that overlap."""
    few = annotations[:: -(-len(annotations) // MAX_LOOKED_AT) or 1]
    hidden, pixels, wrong, touched = collections.Counter(), 0, [], []
    for annotation in show_progress(few, desc="looking at annotations", unit="picture"):
        try:
            labels, covered = annotation.draw()
        except DatasetError as error:
            wrong.append(str(error))
        else:
            pixels, hidden = pixels + labels.size, hidden + covered
            touched += [annotation.image] if covered else []
    if wrong:
        words = f"{path}: {len(wrong)} of {len(few)} annotations looked at cannot be drawn, first "
        raise DatasetError(words + wrong[0])
    if hidden:
        (below, above), _ = hidden.most_common(1)[0]
        warnings.warn(
            f"{path}: classes overlap on {100 * hidden.total() / pixels:.2g} % of the pixels, in "
            f"{len(touched)} of {len(few)} pictures looked at, first {touched[0]}: the later one "
            f"wins, most often {names[above]} over {names[below]}",
            stacklevel=4,
        )
