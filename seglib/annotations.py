"""Masks that annotation files, tables, or several mask files a picture show."""

import base64
import collections
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import types
import zlib

import numpy as np
from PIL import Image, ImageDraw

from seglib.classes import BACKGROUND, ClassTable, create_class_table, read_class_table
from seglib.images import DatasetError, fit_classes, open_picture, read_grey, read_size
from seglib.splitting import find_split
from seglib.system import show_progress, warn

MAX_LOOKED_AT = 200  # pictures whose layers are drawn when a data set is opened
BINARY = {"background": (0, 0, 0), "foreground": (255, 255, 255)}
MAX_UNPACKED = 1 << 26  # bytes of a bitmap in an annotation file
FAR = 1e6  # pixels
DRAWING_ERRORS = (
    *(ValueError, TypeError, IndexError, OverflowError, OSError, SyntaxError),
    *(zlib.error, Image.DecompressionBombError),
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Annotation(os.PathLike):
    """Labels of a photograph that are drawn when they are read: the mask half of a pair."""

    image: pathlib.Path  # the photograph, whose upright size the labels have
    path: pathlib.Path  # the annotation file, or the folder of mask files
    layers: tuple  # of `(class id, (kind, …))`, later ones on top; `DRAW` has the kinds
    fill: int = 0  # id of pixels that no layer covers
    size: tuple | None = None  # `(height, width)` that the file states

    def __fspath__(self):
        return os.path.join(self.path, self.image.name)

    __str__ = __fspath__

    def read(self) -> np.ndarray:
        """Return the labels, uint8 `(height, width)`; uint16 where ids exceed 255."""
        return self.draw()[0]

    def draw(self) -> tuple:
        """Return the labels, and how many pixels of one class another one covers, by both ids."""
        size, hidden = read_size(self.image), collections.Counter()
        _check_size(self.size, size, self, self.image)
        labels = np.full(size, self.fill, np.uint16)
        for label, (kind, *content) in self.layers:
            try:
                mask = DRAW[kind](*content, size)
            except DRAWING_ERRORS as error:
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


def _check_size(stated, size, what, image="its picture"):
    if stated is not None and tuple(stated) != size:
        stated, real = ("×".join(map(str, sides)) for sides in (stated, size))
        raise DatasetError(
            f"{what} is for a picture of {stated} (height × width), but {image} is {real}: take "
            "the picture that was annotated, or scale the annotations to it"
        )


# The kinds of layers. Each function gives a bool array of a size.


def _draw_figure(kind, points, size):
    """A polygon or an ellipse, to which its outline belongs, as in labelme."""
    if not np.all(np.abs(points) < FAR):  # Pillow draws nothing then
        raise ValueError(f"expected points near the picture, received {points[:8]}")
    picture = Image.new("1", size[::-1])
    getattr(ImageDraw.Draw(picture), kind)(points, fill=1, outline=1)
    return np.array(picture)


def _draw_shares(points, size):
    """A polygon of x, y in shares of the width and height, written with few digits."""
    points = np.reshape(points, (-1, 2)) * size[::-1]
    return _draw_figure("polygon", points.round(2).ravel().tolist(), size)


def _draw_holed(outline, holes, size):
    mask = _draw_figure("polygon", outline, size)
    for hole in holes:
        mask &= ~_draw_figure("polygon", hole, size)
    return mask


def _draw_bitmap(text, place, size):
    """A PNG in base64, of which Supervisely's are packed by zlib, at its `(left, top)`."""
    content, (left, top) = base64.b64decode(text), place
    if not content.startswith(b"\x89PNG"):
        content = zlib.decompressobj().decompress(content, MAX_UNPACKED)
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        right, bottom = left + picture.width, top + picture.height
        if min(left, top) < 0 or right > size[1] or bottom > size[0]:
            raise ValueError(f"a bitmap reaches from {left, top} to {right, bottom}")
        has_alpha = "A" in picture.getbands()
        values = np.asarray(picture.getchannel("A") if has_alpha else picture.convert("L"))
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = values > 0
    return mask


def decode_rle(text: str | float | None, shape: tuple[int, int]) -> np.ndarray:
    """Decode what `encode_rle` wrote, its runs in any order, to a bool array of a shape.

    An empty str is an empty mask, and so are NaN and None, as pandas reads an empty field.

    Raises:
        ValueError: these are no pairs, a run is empty or leaves the image, or two runs overlap.
    """
    pixels, text = shape[0] * shape[1], str(text)
    text = "" if text in ("nan", "None", "<NA>") else text
    try:
        runs = np.array(text.split(), np.int64).reshape(-1, 2)
        starts, lengths = runs[np.argsort(runs[:, 0])].T
        ends = starts + lengths
        fits = (starts >= 1) & (lengths >= 1) & (lengths <= pixels + 1 - starts)
        if not fits.all() or (starts[1:] < ends[:-1]).any():
            raise ValueError
    except (ValueError, OverflowError):
        wanted = f"'start length start length ...', no overlap, within {pixels} pixels from 1 on"
        raise ValueError(f"expected {wanted}, received {text[:60]!r}") from None
    change = np.zeros(pixels + 2, np.int8)
    change[starts] += 1
    change[ends] -= 1
    return (np.cumsum(change)[1:-1] > 0).reshape(shape[::-1]).T


def _draw_counts(counts, stated, size):
    """COCO's lengths of runs of 0 and 1 in turn, a list or text, down columns."""
    _check_size(stated, size, "the run lengths")
    counts = np.array(_decode_counts(counts) if isinstance(counts, str) else counts, np.int64)
    if counts.sum() != size[0] * size[1]:
        pixels = size[0] * size[1]
        raise ValueError(f"run lengths add up to {counts.sum()}, not to {pixels} pixels")
    return np.repeat(np.arange(len(counts)) % 2 > 0, counts).reshape(size[::-1]).T


def _decode_counts(text):
    """Counts of COCO's text: 5 bits a character, from the third on as differences (cocoapi)."""
    counts, value, shift = [], 0, 0
    for code in (ord(letter) - 48 for letter in text):
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code & 16 > 0) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    return counts


def _read_file(path, size):
    """A mask file of one object or class: what is brighter than half of its brightest pixel."""
    mask = read_grey(path)
    _check_size(mask.shape, size, path)
    return mask > max(mask.max(), 1) // 2


def _read_segments(path, ids, size):
    """Segments of a panoptic picture, whose ids are R + 256 G + 65536 B."""
    pixels = np.asarray(open_picture(path).convert("RGB")).astype(np.uint32)
    _check_size(pixels.shape[:2], size, path)
    return np.isin(pixels @ np.array([1, 256, 65536], np.uint32), ids)


DRAW = {
    "figure": _draw_figure,
    "shares": _draw_shares,
    "holed": _draw_holed,
    "bitmap": _draw_bitmap,
    "runs": decode_rle,
    "rows": lambda text, size: decode_rle(text, size[::-1]).T,
    "counts": _draw_counts,
    "file": _read_file,
    "segments": _read_segments,
}


@dataclasses.dataclass
class Found:
    """Pairs that files make: objects with `path` and `split`."""

    path: pathlib.Path  # the data set's folder
    kind: str
    text: str  # names the files
    names: list  # classes of Annotations in the order of their ids; empty where masks are files
    ignores_rest: bool = False  # whether pixels without annotation are void, not background
    pairs: list = dataclasses.field(default_factory=list)
    missing: list = dataclasses.field(default_factory=list)  # what is named but not there
    bare: list = dataclasses.field(default_factory=list)  # photographs that nothing names
    no_area: int = 0  # boxes, lines and points

    def add(self, name, pictures, file, shapes, *, split=None, size=(None,)):
        """Pair what a name means with a mask file, or shapes `(class, (kind, …))`, see `DRAW`."""
        if not pictures:
            self.missing.append(f"{file}: {name}")
            return
        image = pictures[0].path
        if len(pictures) > 1:
            other = f"{pictures[1].path}: name pictures with their folders"
            raise DatasetError(f"{file}: {name!r} means {image}, or {other}")
        split = split or pictures[0].split or find_split(os.path.relpath(file, self.path))
        if isinstance(shapes, pathlib.Path):
            self.pairs.append(_pair(image, shapes, split))
            return
        size = tuple(size) if all(size) else None
        layers = tuple(shape for shape in shapes if shape[1][0] in DRAW)
        self.no_area += len(shapes) - len(layers)
        self.pairs.append(_pair(image, Annotation(image, file, layers, size=size), split))

    def add_named(self, name, pictures, file, shapes, *, size):
        """Add shapes whose classes the file names."""
        if any(label in (None, "") for label, _ in shapes):
            raise DatasetError(f"{file} has a shape without a class: name it")
        shapes = [(str(label), shape) for label, shape in shapes]
        self.names += [label for label, _ in shapes]
        self.add(name, pictures, file, shapes, size=size)

    def check(self, pictures):
        """Look for pictures with two entries or none, and for shapes without area."""
        images = collections.Counter(image.path for image, _ in self.pairs)
        twice = next((image for image, count in images.items() if count > 1), None)
        if twice:
            raise DatasetError(f"{self.text} has two entries for {twice}: expected one a picture")
        folders = {mask.path.parent for _, mask in self.pairs if not self.names}
        folders -= {image.parent for image in images}  # in which there are masks alone
        self.bare = [p.path for p in pictures if p.role != "mask" and p.path not in images]
        self.bare = [path for path in self.bare if path.parent not in folders]
        self.pairs.sort(key=lambda pair: pair[0].path)
        if self.no_area:
            areas = sum(len(half.path.layers) for _, half in self.pairs)
            share = f"{self.no_area} of {self.no_area + areas} annotations in {self.text}"
            words = f"{self.path}: {share} have no area, as boxes, lines and points"
            if not areas:
                raise DatasetError(f"{words}: expected polygons or run lengths")
            warn(f"{words}: passed over")
        return self


def _pair(image, half, split):
    return types.SimpleNamespace(path=image, split=split), types.SimpleNamespace(path=half)


def settle(found: Found, path, given, unpaired: str) -> tuple:
    """Return the pairs found, and their ClassTable, or `given` where masks are pictures."""
    if found.missing and unpaired != "skip":
        raise DatasetError(
            f"{len(found.missing)} pictures or masks that {found.text} names have no other half, "
            f'first {found.missing[0]}: add them, or pass unpaired="skip" to go on without them'
        )
    splits = {image.path.parent: image.split for image, _ in found.pairs}
    bare = [image for image in found.bare if image.parent in splits and found.names]
    if unpaired == "background":
        for image in bare:
            half = Annotation(image, found.pairs[0][1].path.path, ())
            found.pairs.append(_pair(image, half, splits[image.parent]))
    elif bare:
        warn(
            f"{path}: {len(bare)} pictures beside others are not in {found.text}, first {bare[0]}: "
            'they count as unlabelled; pass unpaired="background" if they show none of the classes'
        )
    if not found.names:
        return found.pairs, given
    table, hidden, pixels = _choose_classes(found, given), collections.Counter(), 0
    few = found.pairs[:: -(-len(found.pairs) // MAX_LOOKED_AT)]
    for _, half in show_progress(few, desc="looking at annotations", unit="picture"):
        labels, covered = half.path.draw()
        pixels, hidden = pixels + labels.size, hidden + covered
    if hidden:
        (below, above), _ = hidden.most_common(1)[0]
        warn(
            f"{path}: classes overlap on {100 * hidden.total() / pixels:.2g} % of the pixels: the "
            f"later one wins, most often {table.names[above]} over {table.names[below]}"
        )
    return found.pairs, table


def _choose_classes(found, given) -> ClassTable:
    """Give the layers the ids of a class table, and return it: `given`, or classes as found."""
    names = [name for name in found.names if name.lower() not in BACKGROUND]
    is_numbered = found.kind == "YOLO" and names[:1] == ["class_0"]
    if is_numbered and given is None:
        warn(
            f"no data.yaml or classes.txt names the classes of {found.text}, named class_0 to "
            f'{names[-1]}: pass classes=["background", …] to open_dataset to name them'
        )
    own = found.names if found.ignores_rest else ["background", *names]
    if given is None:
        given = BINARY if own == list(BINARY) else own
    is_file = isinstance(given, str | os.PathLike)
    table = read_class_table(given) if is_file else create_class_table(given)
    ids = {name: i for i, name in enumerate(table.names)}
    if is_numbered:
        named = [name for name in table.names if name.lower() not in BACKGROUND]
        ids |= {f"class_{i}": ids[name] for i, name in enumerate(named)}
    if not set(names) <= ids.keys():
        shared = {*map(str.lower, names)}.intersection(map(str.lower, ids))  # in which order?
        if shared or table.num_classes != len(own):
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
        table = fit_classes(table, fit="letterbox")
        fill = table.ignore_label
    for _, half in found.pairs:
        layers = [(ids.get(name, fill), shape) for name, shape in half.path.layers]
        if found.kind == "files":  # whose order says nothing, but that of classes= may
            layers.sort(key=lambda layer: layer[0])
        half.path = dataclasses.replace(half.path, layers=tuple(layers), fill=fill)
    return table
