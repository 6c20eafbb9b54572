"""Labels that are drawn from annotation files: run lengths, polygons, several mask files a picture.

A reader turns a file into Sources; `find_annotations` matches their names with the pictures.
"""

import base64
import collections
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import types
import unicodedata
import warnings
import zlib

import numpy as np
from PIL import Image, ImageDraw

from seglib.classes import (
    CUSTOMARY_IGNORE_LABEL,
    create_class_table,
    read_class_table,
)
from seglib.images import ORIENTATION, DatasetError, open_picture
from seglib.system import show_progress

MAX_LOOKED_AT = 200  # pictures whose layers are drawn when a data set is opened
MANY_CLASSES = 64  # of mask files: more different names are names of objects
BACKGROUND = ("background", "_background_")
SPLIT_WORD = re.compile(
    r"(?<![a-z])(?:(train)(?:ing|val)?|(val)(?:id|idation)?|(test)(?:ing)?)(?![a-z])", re.IGNORECASE
)
MASK_WORD = re.compile(r"masks?|label(s|led)?|annot(ation)?s?|gt|(ground)?truth|seg\w*|targets?")
CLASS_COLUMN = re.compile(r"(class|label|category|cell_?type)(_?(id|name))?")
# Mask files of such names show a picture's classes once more, or what another person drew.
NO_CLASS = re.compile(
    "colou?rs?|gr[ae]y|(label|train|label ?train|instance)? ?ids|labels?|instances?|parts|objects?"
    "|manual|ho|experts?|annotators?|raters?|readers?|observers?|fov|roi|edges?|contours?|boundary"
    "|boundaries|depth|overlays?|machine|human|watershed|polygons"
)
YOLO_LINE = re.compile(r"\d+( [01]?\.?\d*(e-\d+)?)+", re.IGNORECASE)
LABEL_STUDIO = re.compile(r"task-(\d+)-annotation-\d+-by-\d+-tag-(.+)-\d+")


@dataclasses.dataclass(frozen=True, eq=False)
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
        return f"{self.path}{os.sep}{self.image.name}"

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
        if self.size not in (None, size):
            stated, real = ("×".join(map(str, sides)) for sides in (self.size, size))
            raise DatasetError(
                f"{self} is for a picture of {stated} (height × width), but {self.image} is "
                f"{real}: take the picture that was annotated, or scale the annotations to it"
            )
        labels = np.full(size, self.fill, np.uint16)
        for label, (kind, *content) in self.layers:
            try:
                mask = DRAW[kind](size, *content)
            except DatasetError:
                raise
            except (ValueError, TypeError, IndexError, OverflowError, OSError) as error:
                raise DatasetError(f"{self}: a layer of kind {kind} is wrong: {error}") from None
            below = labels[mask]
            below = below[(below != self.fill) & (below != label)]
            for id_, count in zip(*np.unique(below, return_counts=True), strict=True):
                hidden[int(id_), label] += int(count)
            labels[mask] = label
        return labels if labels.max(initial=0) > 255 else labels.astype(np.uint8), hidden

    def digest(self) -> str:
        """Return 32 hexadecimal digits that change with the layers or with their mask files."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([self.layers, self.fill, self.size], default=str).encode())
        for _, (kind, *content) in self.layers:
            if kind in ("file", "segments"):
                digest.update(pathlib.Path(content[0]).read_bytes())
        return digest.hexdigest()


def read_size(path) -> tuple:
    """Return the `(height, width)` of a photograph that stands upright, from its file's head."""
    head = open_picture(path, decode=False)
    exif = {} if head.format == "PNG" and "exif" not in head.info else head.getexif()
    return head.size if exif.get(ORIENTATION, 1) > 4 else head.size[::-1]


# The kinds of layers. Each function gives a bool array of a size.


def _draw_polygon(size, points):
    """Corners as `[x, y, x, y, …]`; the outline belongs to it, as in labelme."""
    picture = Image.new("1", size[::-1])
    ImageDraw.Draw(picture).polygon(points, fill=1, outline=1)
    return np.array(picture)


def _draw_ellipse(size, box):
    picture = Image.new("1", size[::-1])
    ImageDraw.Draw(picture).ellipse(box, fill=1, outline=1)
    return np.array(picture)


def _draw_runs(size, text, by_rows):
    """A competition's "start length start length …", counted from 1, down columns or along rows."""
    starts, lengths = np.array(text.split(), np.int64).reshape(-1, 2).T
    order = np.argsort(starts)
    return _fill_runs(size, starts[order] - 1, lengths[order], by_rows)


def _draw_counts(size, counts, stated):
    """COCO's lengths of runs of 0 and 1 in turn, as a list or as text, down columns."""
    if tuple(stated) != size:
        raise ValueError(f"run lengths are for {stated}, the picture is {list(size)}")
    counts = np.array(_decode_counts(counts) if isinstance(counts, str) else counts, np.int64)
    if (counts < 0).any() or counts.sum() != size[0] * size[1]:
        raise ValueError(f"run lengths add up to {counts.sum()}, not to {size[0] * size[1]} pixels")
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
    mask = _read_grey(path)
    if mask.shape != size:
        stated, real = "×".join(map(str, mask.shape)), "×".join(map(str, size))
        raise DatasetError(f"{path} is {stated} (height × width), but its picture is {real}")
    return mask > max(mask.max(), 1) // 2


def _read_grey(path):
    picture = open_picture(path)
    values = np.asarray(picture.convert("RGB") if picture.mode[0] == "P" else picture)
    return values if values.ndim == 2 else values[..., :3].max(axis=-1)


def _read_segments(size, path, ids):
    """Segments of a panoptic picture, whose ids are R + 256 G + 65536 B."""
    pixels = np.asarray(open_picture(path).convert("RGB")).astype(np.uint32)
    if pixels.shape[:2] != size:
        raise DatasetError(f"{path} is {pixels.shape[:2]}, but its picture is {size}")
    return np.isin(pixels @ np.array([1, 256, 65536], np.uint32), ids)


def _read_bitmap(size, data, corner):
    """A PNG in base64 whose upper left corner is at `(x, y)`; what leaves the picture is cut."""
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        part = np.asarray(picture.convert("RGBA" if "A" in picture.mode else "L"))
    part = part[..., 3] if part.ndim == 3 else part
    mask, (left, top) = Image.new("L", size[::-1]), (round(side) for side in corner)
    mask.paste(Image.fromarray((part > 0).astype(np.uint8)), (left, top))
    return np.array(mask) > 0


def _draw_relative(size, points):
    """A polygon of YOLO, in shares of the picture's width and height."""
    return _draw_polygon(size, (np.reshape(points, (-1, 2)) * size[::-1]).ravel().tolist())


DRAW = {
    "polygon": _draw_polygon,
    "relative": _draw_relative,
    "ellipse": _draw_ellipse,
    "runs": _draw_runs,
    "counts": _draw_counts,
    "file": _read_file,
    "segments": _read_segments,
    "bitmap": _read_bitmap,
}


# Readers. `records` is {what the file calls a picture: (size or None, [(class, shape), …])}.


@dataclasses.dataclass
class Source:
    """What a file says about pictures; `kind` in words, `names` of its classes in their order."""

    path: pathlib.Path
    kind: str
    names: list
    records: dict
    ignores_rest: bool = False
    passed_over: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def _read_json(file):
    """Source of a JSON file; None where it is of no known kind."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    if {"shapes", "imagePath"} <= content.keys():
        return _parse_labelme(content, file)
    if {"images", "annotations", "categories"} <= content.keys():
        return _parse_coco(content, file)
    if {"size", "objects"} <= content.keys():
        return _parse_supervisely(content, file)
    return None


def _read_yolo(file, names):
    """Source of a YOLO file, a polygon a line: `class x y x y x y …`; None for other text."""
    lines = file.read_text("utf-8", "replace").split("\n")
    cells = [line.split() for line in lines if line.strip()]
    if not all(YOLO_LINE.fullmatch(" ".join(line)) for line in cells):
        return None
    shapes = [
        (names.get(int(line[0]), line[0]), ("relative", list(map(float, line[1:]))))
        for line in cells
        if len(line) > 5
    ]
    boxes = collections.Counter(box=len(cells) - len(shapes))
    return Source(file, "YOLO", list(names.values()), {file.stem: (None, shapes)}, False, boxes)


def _read_yolo_names(files):
    """`{id: name}` of `data.yaml`, where names are a list or lines of `id: name`."""
    file = next((file for file in files if file.suffix.lower() in (".yaml", ".yml")), None)
    text = file.read_text("utf-8", "replace") if file else ""
    text = text.partition("names:")[2]
    if text.lstrip().startswith("["):
        names = re.split(r"\s*,\s*", text.partition("[")[2].partition("]")[0])
        return {i: name.strip("'\" \n") for i, name in enumerate(names)}
    found = re.match(r"(?:\s*\n\s*(?:\d+:|-) *[^\n]+)*", text)[0].split("\n")
    found = [re.sub(r"^\s*(\d+:|-)\s*", "", line).strip("'\" ") for line in found if line.strip()]
    return dict(enumerate(found))


def _parse_coco(content, file):
    """Instances, stuff or panoptic; boxes alone and key points are passed over."""
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    pictures = {picture["id"]: picture for picture in content["images"]}
    shapes, panoptic = {key: [] for key in pictures}, set()
    strange, passed_over, used = [], collections.Counter(), set()
    for annotation in content["annotations"]:
        key, segments = annotation.get("image_id"), collections.defaultdict(list)
        for part in annotation.get("segments_info", [annotation]):
            category, found = part.get("category_id"), part.get("segmentation") or []
            if key not in pictures or category not in names:
                strange.append(annotation.get("id", annotation.get("file_name")))
                continue
            used.add(category)
            if "segments_info" in annotation:
                segments[names[category]].append(part["id"])
                panoptic.add(key)
                continue
            passed_over["box"] += not found
            if isinstance(found, dict):
                shapes[key].append((names[category], ("counts", found["counts"], found["size"])))
            else:
                shapes[key] += [(names[category], ("polygon", ring)) for ring in found]
        for name, ids in segments.items():
            shapes[key].append((name, ("segments", _find_png(file, annotation), ids)))
    if strange:
        raise DatasetError(
            f"{file}: {len(strange)} annotations are of a category or an image that the file does "
            f"not list, first {strange[0]}: add it there, or remove them"
        )
    if not any(shapes.values()):
        return None
    parents = {category.get("supercategory") for category in content["categories"]} - {None}
    kept = [name for i, name in sorted(names.items()) if i in used or name not in parents]
    records = {
        picture["file_name"]: ((picture["height"], picture["width"]), shapes[key])
        for key, picture in pictures.items()
        if not panoptic or key in panoptic
    }
    return Source(file, "COCO", kept, records, bool(panoptic), passed_over)


def _find_png(file, annotation):
    """The picture of segments that belongs to an annotation of a panoptic file."""
    name = annotation["file_name"]
    places = (
        file.with_suffix("") / name,
        file.parent / name,
        file.parent.parent / file.stem / name,
    )
    return str(next((place for place in places if place.is_file()), places[0]))


def _parse_labelme(content, file):
    """Polygons, rectangles, circles and masks; lines and points have no area."""
    shapes, passed_over = [], collections.Counter()
    for shape in content["shapes"]:
        kind, label, points = shape.get("shape_type") or "polygon", shape["label"], shape["points"]
        if kind == "polygon" and len(points) > 2:
            shapes.append((label, ("polygon", np.ravel(points).tolist())))
        elif kind == "rectangle" and len(points) == 2:
            (left, right), (top, bottom) = (sorted(sides) for sides in zip(*points, strict=True))
            corners = [left, top, right, top, right, bottom, left, bottom]
            shapes.append((label, ("polygon", corners)))
        elif kind == "circle" and len(points) == 2:
            (x, y), end = points
            radius = ((x - end[0]) ** 2 + (y - end[1]) ** 2) ** 0.5
            shapes.append((label, ("ellipse", [x - radius, y - radius, x + radius, y + radius])))
        elif kind == "mask":
            shapes.append((label, ("bitmap", shape["mask"], points[0])))
        else:
            passed_over[kind] += 1
    size = content.get("imageHeight"), content.get("imageWidth")
    name = content["imagePath"] or file.stem
    records = {name: (size if all(size) else None, shapes)}
    names = sorted({label for label, _ in shapes})
    return Source(file, "labelme", names, records, passed_over=passed_over)


def _parse_supervisely(content, file):
    """Polygons and bitmaps of a Supervisely project: `ann/a.jpg.json` beside `img/a.jpg`."""
    shapes = []
    for item in content["objects"]:
        label = item.get("classTitle")
        if item.get("geometryType") == "bitmap":
            data = zlib.decompress(base64.b64decode(item["bitmap"]["data"]))
            text = base64.b64encode(data).decode()
            shapes.append((label, ("bitmap", text, item["bitmap"]["origin"])))
        elif item.get("geometryType") == "polygon":
            shapes.append((label, ("polygon", np.ravel(item["points"]["exterior"]).tolist())))
    size = content["size"]["height"], content["size"]["width"]
    return Source(file, "Supervisely", sorted({n for n, _ in shapes}), {file.stem: (size, shapes)})


def read_table(source) -> dict:
    """Return `{column: [text, …]}` of a CSV file or a pandas DataFrame; NaN becomes ""."""
    import pandas as pd  # takes half a second

    if not isinstance(source, pd.DataFrame):
        with open(source, encoding="utf-8-sig", errors="surrogateescape") as file:
            line = file.readline()
        options = {"dtype": str, "encoding_errors": "surrogateescape", "skipinitialspace": True}
        source = pd.read_csv(source, sep=max(",;\t", key=line.count), **options)
    return {
        str(column).strip(): ["" if pd.isna(value) else str(value).strip() for value in values]
        for column, values in source.items()
    }


def _parse_runs(table, file, index):
    """Source of a competition's CSV of run lengths; None where the table is another one.

    Several rows may be of one picture. The class is in a column or behind the picture's name.
    """
    runs = next((column for column, values in table.items() if _are_runs(values)), None)
    if runs is None:
        return None
    keys = {column: values for column, values in table.items() if column != runs}
    keys |= {(c, "class"): [v.rpartition("_")[0] for v in values] for c, values in keys.items()}
    matches = {c: sum(index.find(v) != [] for v in values) for c, values in keys.items()}
    column = max(matches, key=matches.get, default=None)  # the whole name, where both match
    if not matches.get(column):
        return None
    classes = ["foreground"] * len(table[runs])
    if isinstance(column, tuple):
        classes = [value.rpartition("_")[2] for value in table[column[0]]]
    for name, values in table.items():
        if CLASS_COLUMN.fullmatch(name.lower()) and name not in (runs, column):
            classes = values
    height, width = (
        next((v for c, v in table.items() if re.fullmatch(rf"(ima?ge?_?)?{side}", c.lower())), None)
        for side in ("height", "width")
    )
    records = {}
    for row, (key, label, text) in enumerate(zip(keys[column], classes, table[runs], strict=True)):
        size = (int(height[row]), int(width[row])) if height and width else None
        shapes = records.setdefault(key, (size, []))[1]
        if text not in ("", "-1"):
            if not label:
                raise DatasetError(f"{file}: row {row + 2} has run lengths but no class: add it")
            shapes.append((label, text))
    by_rows = _go_by_rows(records, index)
    if by_rows:
        warnings.warn(f"{file}: the run lengths go along rows, not down columns", stacklevel=6)
    for _, shapes in records.values():
        shapes[:] = [(label, ("runs", text, by_rows)) for label, text in shapes]
    names = sorted({label for label in classes if label}, key=_natural)
    return Source(file, "run lengths", names, records)


def _are_runs(values):
    filled = [value for value in values if value not in ("", "-1")][:100]
    return bool(filled) and all(re.fullmatch(r"\d+( \d+)+", value) for value in filled)


def _go_by_rows(records, index):
    """Whether runs follow each other at the picture's width, not at its height."""
    votes = []
    for key, (_, shapes) in records.items():
        found = index.find(key)
        if len(found) == 1 and shapes and len(votes) < MAX_LOOKED_AT:
            height, width = read_size(found[0].path)
            steps = [np.diff(np.array(t.split()[::2], np.int64)) for _, t in shapes]
            steps = np.concatenate(steps)
            if len(steps) and height != width:
                votes.append(abs(np.median(steps) - width) < abs(np.median(steps) - height))
    return bool(votes) and sum(votes) > len(votes) / 2


def _natural(text):
    """Key by which 10 comes after 9."""
    return [(not p.isdigit(), int(p) if p.isdigit() else p) for p in re.split(r"(\d+)", text)]


# Which pictures the names of a file mean


class PictureIndex:
    """Finds pictures by names: paths, or ends of paths, with an extension or without."""

    def __init__(self, pictures):
        self.pictures, self.places = pictures, collections.defaultdict(list)
        self.joined = None
        for picture in pictures:
            bare = picture.name.removesuffix(picture.path.suffix)
            for name in {picture.name, bare}:
                for ending in _list_endings(name):
                    self.places[ending].append(picture)

    def find(self, name, split=None, folder=None) -> list:
        """Return the pictures that are meant; several where the name tells no more."""
        name = unicodedata.normalize("NFC", name).replace("\\", "/")
        endings = _list_endings(name)
        endings += _list_endings(re.sub(r"\.[^./]*$", "", name))
        found = next((self.places[e] for e in endings if e in self.places), None)
        if found is None:
            found = self._join_folders().get(name, [])
        for fits in (lambda p: p.split == split, lambda p: folder in p.path.parents):
            if len(found) > 1:
                found = [picture for picture in found if fits(picture)] or found
        return found

    def _join_folders(self):
        """Pictures by a folder's name and the beginning of their own, as `case1_day2_slice_0001`
        for case1/case1_day2/scans/slice_0001_266_266.png.
        """
        if self.joined is None:
            self.joined = collections.defaultdict(list)
            for picture in self.pictures:
                stem, folders = picture.stem, picture.name.split("/")[:-1]
                ends = [m.start() for m in re.finditer("[_-]", stem)] + [len(stem)]
                for folder in folders:
                    for end in ends:
                        self.joined[f"{folder}_{stem[:end]}"].append(picture)
        return self.joined


def _list_endings(name):
    """The ends of a path, from all of it to its file's name."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[i:]) for i in range(len(parts))]


@dataclasses.dataclass
class Found:
    """Pairs that annotations give.

    `every` are pairs of objects with `path` and `split`; `names` the classes of annotations in the
    order of their ids, None where masks are pictures; `missing` what is named but not there.
    """

    every: list
    names: list | None = None
    ignores_rest: bool = False
    missing: list = dataclasses.field(default_factory=list)
    bare: list = dataclasses.field(default_factory=list)
    text: str = ""


def find_annotations(path, pictures, files) -> Found | None:
    """Read what annotation files say about pictures: run lengths, COCO, labelme, Supervisely.

    Files that differ by a split's name, and one of each picture, are read together. Of several
    ways the one of most pictures is taken, and the others are named.

    Args:
        path: path of the data set's folder, for messages.
        pictures: photographs, with `path`, `name`, `stem` and `split`.
        files: paths that may be annotations.

    Raises:
        DatasetError: a file contradicts itself, or its names fit several pictures.
    """
    index, groups = PictureIndex(pictures), collections.defaultdict(list)
    names = _read_yolo_names(files)
    for file in files:
        source, suffix = None, file.suffix.lower()
        if suffix == ".json":
            source = _read_json(file)
        elif suffix in (".csv", ".tsv") and not re.search("submission|sample", file.stem.lower()):
            table = _read_quietly(file)
            source = table and _parse_runs(table, file, index)
        elif suffix == ".txt" and index.find(file.stem):
            source = _read_yolo(file, names)
        if source:
            by_file = source.kind in ("COCO", "run lengths")
            name = SPLIT_WORD.sub("*", file.relative_to(path).as_posix()) if by_file else "*"
            groups[source.kind, name].append(source)
    found = [_match(path, kind, name, sources, index) for (kind, name), sources in groups.items()]
    found = [one for one in found if one.every]
    if not found:
        return None
    best = max(found, key=lambda one: (len(one.every), "instances" in one.text, one.text))
    others = ", ".join(f"masks={one.text!r}" for one in found if one is not best)
    if others:
        warnings.warn(
            f"{path}: masks are drawn from {best.text}; also possible are {others}, passed to "
            "open_dataset",
            stacklevel=4,
        )
    return best


def _read_quietly(file):
    """The columns of a table; None for a file that is none."""
    try:
        return read_table(file)
    except (ValueError, OSError):  # pandas' errors among them
        return None


def _match(path, kind, name, sources, index):
    """Found of the sources that are read together."""
    every, missing, taken, passed_over = [], [], {}, collections.Counter()
    for source in sources:
        *_, words = (None, *SPLIT_WORD.finditer(os.path.relpath(source.path, path)))
        split = next((word.lower() for word in words.groups() if word), None) if words else None
        passed_over += source.passed_over
        for key, (size, shapes) in source.records.items():
            pictures = index.find(key, split, source.path.parent)
            if not pictures and kind == "labelme":
                pictures = index.find(source.path.stem, split, source.path.parent)
            if not pictures:
                missing.append(f"{source.path}: {key}")
                continue
            picture = pictures[0]
            if len(pictures) > 1 or picture.path in taken:
                twice = taken.get(picture.path, pictures[-1].path)
                raise DatasetError(
                    f"{source.path}: {key!r} means {picture.path}, and so does {twice}: expected "
                    "one picture for each name; name them with their folders"
                )
            taken[picture.path] = f"{source.path}: {key}"
            layers = tuple((str(label), shape) for label, shape in shapes)
            half = Annotation(picture.path, source.path, layers, size=size)
            every.append(_pair(picture.path, half, picture.split or split))
    if passed_over.total():
        listed = ", ".join(f"{count} {what}" for what, count in passed_over.items() if count)
        first = next(source.path for source in sources if source.passed_over.total())
        warnings.warn(
            f"{first}: annotations without area are passed over in {len(sources)} files: {listed}",
            stacklevel=5,
        )
    names = list(dict.fromkeys(label for source in sources for label in source.names))
    names = names if kind == "COCO" else sorted(names, key=_natural)
    bare = [picture.path for picture in index.pictures if picture.path not in taken]
    text = name if len(sources) > 1 else sources[0].path.name
    every.sort(key=lambda pair: pair[0].path)
    return Found(every, names, sources[0].ignores_rest, missing, bare, text)


def _pair(image, half, split):
    return types.SimpleNamespace(path=image, split=split), types.SimpleNamespace(path=half)


def settle(found: Found, path, given, unpaired: str) -> tuple:
    """Return the pairs found, and their ClassTable, or `given` where masks are pictures.

    Raises:
        DatasetError: a picture is missing and `unpaired` is not "skip", the classes given are
            others, or annotations cannot be drawn.
    """
    if found.missing and unpaired != "skip":
        raise DatasetError(
            f"{len(found.missing)} files that {found.text} names are not in {path}, first "
            f'{found.missing[0]}: add them, or pass unpaired="skip" to go on without them'
        )
    known = {image.path.parent for image, _ in found.every}
    bare = [image for image in found.bare if image.parent in known]
    if bare and found.names and unpaired == "background":
        empty = dataclasses.replace(found.every[0][1].path, layers=(), size=None)
        splits = {image.path.parent: image.split for image, _ in found.every}
        found.every += [
            _pair(image, dataclasses.replace(empty, image=image), splits[image.parent])
            for image in bare
        ]
    elif bare and found.names:
        warnings.warn(
            f"{path}: {len(bare)} pictures beside others are not in {found.text}, first {bare[0]}: "
            'they count as unlabelled; pass unpaired="background" if they show none of the classes',
            stacklevel=4,
        )
    if not found.names:
        return found.every, given
    table = _choose_classes(found, given)
    check_annotations(path, [half.path for _, half in found.every], table.names)
    return found.every, table


def _choose_classes(found, given):
    """Give the layers the ids of a class table, and return it: of `given`, or as they were found.

    Id 0 is the background, unless the file ignores what it does not cover.
    """
    names = [name for name in found.names if name.lower() not in BACKGROUND]
    own = found.names if found.ignores_rest else ["background", *names]
    if given is None:
        table = create_class_table(own if len(own) > 2 else list(map(_paint, own)))
    else:
        is_file = isinstance(given, str | os.PathLike)
        table = read_class_table(given) if is_file else create_class_table(given)
    ids = {name: i for i, name in enumerate(table.names)}
    if not set(names) <= ids.keys():
        if table.num_classes != len(own):
            raise DatasetError(
                f"{found.text} has the classes {', '.join(own)}, but classes= has "
                f"{', '.join(table.names)}: pass these names, or {len(own)} others in this order"
            )
        ids = dict(zip(own, range(len(own)), strict=True))
    fill = 0
    if found.ignores_rest:
        fill = CUSTOMARY_IGNORE_LABEL if table.num_classes <= CUSTOMARY_IGNORE_LABEL else 65535
        table = dataclasses.replace(table, ignore_label=table.ignore_label or fill)
    for _, half in found.every:
        layers = tuple((ids.get(name, 0), shape) for name, shape in half.path.layers)
        half.path = dataclasses.replace(half.path, layers=layers, fill=fill)
    return table


def _paint(name):
    return {"name": name, "color": (0, 0, 0) if name in BACKGROUND else (255, 255, 255)}


def check_annotations(path, annotations: list, names) -> None:
    """Draw some annotations: raise what is wrong with them, and warn of classes that overlap."""
    few = annotations[:: -(-len(annotations) // MAX_LOOKED_AT) or 1]
    hidden, pixels, wrong, touched = collections.Counter(), 0, [], []
    for annotation in show_progress(few, desc="looking at annotations", unit="picture"):
        try:
            labels, covered = annotation.draw()
        except DatasetError as error:
            wrong.append(str(error))
            continue
        pixels += labels.size
        hidden += covered
        touched += [annotation] if covered else []
    if wrong:
        raise DatasetError(
            f"{path}: {len(wrong)} of {len(few)} annotations that were looked at cannot be drawn, "
            f"the first: {wrong[0]}"
        )
    if hidden:
        (below, above), _ = hidden.most_common(1)[0]
        warnings.warn(
            f"{path}: classes overlap on {100 * hidden.total() / pixels:.2g} % of the pixels, in "
            f"{len(touched)} of {len(few)} pictures looked at, first {touched[0].image}: the later "
            f"one wins, most often {names[above]} over {names[below]}",
            stacklevel=4,
        )


# Several mask files a picture


def merge_mask_files(path, photographs, masks, others=()) -> Found | None:
    """Take several black and white mask files for one picture's objects or classes.

    A mask belongs to the picture whose name its own begins with, or one of its folders has, or
    that is alone beside its folder. Folders, or else the rests of the names, are the classes, if
    they recur; otherwise all are objects of one class. None where this does not fit.
    """
    index, tasks = PictureIndex(photographs), _read_tasks(others, masks)
    by_stem = collections.defaultdict(list)
    alone = collections.defaultdict(list)
    for picture in photographs:
        by_stem[picture.stem].append(picture)
        alone[picture.split, picture.folders].append(picture)
    shared = len(os.path.commonpath([mask.path.parent for mask in masks] or ["."]))
    parts, lonely = collections.defaultdict(list), []
    for mask in masks:
        task = LABEL_STUDIO.fullmatch(mask.stem)
        if task:
            owners, rest = index.find(tasks.get(task[1], "/")), task[2]
        else:
            owners, rest = _find_owner(mask, by_stem, alone)
        if len(owners) != 1:
            lonely.append(mask.path)
            continue
        folders = str(mask.path.parent)[shared:].split(os.sep)
        known = {owners[0].stem, *owners[0].path.parts}
        folder = [f for f in folders if f not in known and _name_class(f)]
        parts[owners[0]].append((mask.path, folder[-1] if folder else "", rest))
    files = [part for several in parts.values() for part in several]
    if len(files) <= len(parts) or len(lonely) > len(files):
        return None
    place = 1 if len({folder for _, folder, _ in files}) > 1 else 2
    labels = {part[0]: part[place] for part in files}
    names = {_name_class(label) for label in labels.values()}
    if any(
        NO_CLASS.fullmatch(word) for name in names for word in [name.lower(), *_list_words(name)]
    ):
        return None
    per_picture = [{_name_class(part[place]) for part in several} for several in parts.values()]
    counts = collections.Counter(name for own in per_picture for name in own)
    recurring = sum(count > 1 for count in counts.values()) > len(counts) / 2 or len(parts) == 1
    are_classes = 1 < len(names) <= MANY_CLASSES and recurring and "" not in names
    if not all(map(_is_black_and_white, [file for file, _, _ in files[:: -(-len(files) // 8)]])):
        return None
    every = []
    for picture, several in parts.items():
        several.sort(key=lambda part: _natural(part[place]))
        layers = tuple(
            (_name_class(part[place]) if are_classes else "foreground", ("file", str(part[0])))
            for part in several
        )
        half = Annotation(picture.path, several[0][0].parent, layers)
        every.append(_pair(picture.path, half, picture.split))
    order = dict.fromkeys(_name_class(label) for label in sorted(labels.values(), key=_natural))
    names = list(order) if are_classes else ["foreground"]
    meaning = f"classes, {', '.join(names)}" if are_classes else "objects of one class"
    warnings.warn(
        f"{path}: {len(files)} mask files of {len(parts)} pictures, such as {files[0][0]}, are "
        f"taken for {meaning}; masks=… chooses one file a picture",
        stacklevel=4,
    )
    bare = [picture.path for picture in photographs if picture not in parts]
    every.sort(key=lambda pair: pair[0].path)
    return Found(every, names, False, lonely, bare, str(files[0][0].parent))


def _find_owner(mask, by_stem, alone):
    """`(pictures that a mask belongs to, the rest of its name)`."""
    ends = [match.start() for match in re.finditer(r"[_\-. ]|$", mask.stem)]
    for end in reversed(ends):
        found = by_stem.get(mask.stem[:end], [])
        for same in ("split", "folders"):
            if len(found) > 1:
                found = [p for p in found if getattr(p, same) == getattr(mask, same)] or found
        if found:
            return found, mask.stem[end:]
    for folder in reversed(mask.path.parent.parts):
        found = [p for p in by_stem.get(folder, []) if p.split in (mask.split, None)]
        if found:
            return found, mask.stem
    return alone.get((mask.split, mask.folders), []), mask.stem


def _name_class(text):
    """A class's name in that of a folder or a file: without numbers around it and words for masks.

    "1. Haemorrhages" is Haemorrhages, "_mask_1" nothing.
    """
    words = re.split(r"[_\-. ]+", text)
    kept = [word for word in words if word and not MASK_WORD.fullmatch(word.lower())]
    while kept and kept[0].isdigit():
        kept.pop(0)
    while kept and kept[-1].isdigit():
        kept.pop()
    return " ".join(kept)


def _is_black_and_white(path):
    grey = _read_grey(path)
    top = max(int(grey.max()), 1)
    return ((grey > top / 4) & (grey < 3 * top / 4)).mean() < 0.05


def _read_tasks(others, masks):
    """`{task: name of its picture}` of Label Studio's JSON export, where masks are called so."""
    tasks = {}
    if any(LABEL_STUDIO.fullmatch(mask.stem) for mask in masks):
        for file in others:
            if file.suffix.lower() == ".json":
                content = json.loads(file.read_text(encoding="utf-8-sig"))
                for task in content if isinstance(content, list) else []:
                    data = task.get("data", task)
                    name = next((v for k, v in data.items() if k in ("image", "img", "url")), None)
                    tasks[str(task.get("id"))] = str(name)
    return tasks


# Tables of pairs


def find_pairs(path, tables, pictures) -> Found | None:
    """Read a table of pairs: a CSV file or DataFrame with a column of images and one of masks.

    Columns are told by what they hold: names of files below the table's folder, `path`, or
    anywhere in the data set. A column of split names or a column `fold` says the splits; fold 0,
    or the lowest, is for validation then.
    """
    index = PictureIndex(pictures)
    for source in tables:
        is_file = isinstance(source, os.PathLike)
        table = _read_quietly(source) if is_file else read_table(source)
        folders = [path, source.parent] if is_file else [path]
        found = table and _parse_pairs(table, str(source) if is_file else "table", folders, index)
        if found:
            return found
    return None


def _parse_pairs(table, name, folders, index):
    def resolve(text, role):
        if not text:
            return None
        files = (folder / text for folder in folders if os.path.isfile(folder / text))
        file = next(files, None)
        if file:
            return file
        found = index.find(text)
        found = [p for p in found if (p.role == "mask") == (role == "mask")] or found
        return found[0].path if len(found) == 1 else None

    columns = []
    for column, values in table.items():
        few = [value for value in values if value][:50]
        if few and sum(resolve(value, "") is not None for value in few) > len(few) / 2:
            columns.append(column)
    mask = next((c for c in columns if any(map(MASK_WORD.fullmatch, _list_words(c)))), None)
    image = next((c for c in columns if c != mask), None)
    if mask is None or image is None:
        return None
    lower = {column.lower(): column for column in table}
    label = next((lower[c] for c in lower if CLASS_COLUMN.fullmatch(c) and lower[c] != mask), None)
    splits = _read_split_column(table, name)
    missing, bare, rows, found = [], [], collections.defaultdict(list), {}
    for row, cells in enumerate(zip(table[image], table[mask], strict=True)):
        paths = resolve(cells[0], "image"), resolve(cells[1], "mask")
        lost = [cell for cell, file in zip(cells, paths, strict=True) if cell and file is None]
        if lost or not cells[0]:
            missing.append(f"{name}, row {row + 2}: {lost[0] if lost else 'no image'}")
            continue
        found[paths[0]] = splits[row] if splits else None
        rows[paths[0]] += [(table[label][row] if label else "", paths[1])] if paths[1] else []
    several = any(len(masks) > 1 for masks in rows.values())
    if several and not label:
        twice = next(image for image, masks in rows.items() if len(masks) > 1)
        raise DatasetError(
            f"{name}: {twice} is in several rows: expected one row for each image, or a column "
            "class that says what each mask shows"
        )
    every = []
    for image, masks in rows.items():
        half = masks[0][1] if masks else None
        if several:
            layers = tuple((text, ("file", str(file))) for text, file in masks)
            half = Annotation(image, pathlib.Path(name), layers)
        if half is None:
            bare.append(image)
        else:
            every.append(_pair(image, half, found[image]))
    names = sorted({text for own in rows.values() for text, _ in own}, key=_natural)
    return Found(every, names if several else None, False, missing, bare, name)


def _list_words(column):
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", column)]


def _read_split_column(table, name):
    """The split of each row; None where no column says it."""
    for values in table.values():
        matches = [SPLIT_WORD.fullmatch(value) for value in values]
        if values and all(matches):
            return [next(word.lower() for word in m.groups() if word) for m in matches]
    fold = next((c for c in table if re.fullmatch(r"(k_?)?folds?", c.lower())), None)
    if fold is None:
        return None
    first = min(table[fold], key=_natural)
    warnings.warn(f"{name}: fold {first} is for validation, the others train", stacklevel=6)
    return ["val" if value == first else "train" for value in table[fold]]


# What other packages read, and what is named


# Formats of datumaro that a file gives away: the end of its name, and words in it.
FORMATS = {
    "cvat": (".xml", "<annotations>"),
    "label_me": (".xml", "<polygon>"),
    "segment_anything": (".json", '"predicted_iou"'),
    "open_images": (".csv", "MaskPath,ImageID"),
    "mots": ("instances/labels.txt", ""),
}
UNREAD = (
    ((".nii", ".nii.gz"), "", "NIfTI volumes", "read them with nibabel, and pass slices to "),
    ((".dcm",), "", "DICOM files", "read them with pydicom, and pass their pixel_array to "),
    ((".h5", ".hdf5"), "", "HDF5 files", "read them with h5py, and pass the arrays to "),
    ((".mat",), "", "MATLAB files", "read them with scipy.io.loadmat, and pass the arrays to "),
    ((".parquet", ".tfrecord", ".tfrecords"), "", "tables of pictures", "pass their arrays to "),
    ((".json",), '"from_name"', "Label Studio's JSON", ""),
    ((".json",), '"shape_attributes"', "VGG Image Annotator's JSON", ""),
    ((".geojson", ".shp"), "", "vector maps", "burn them into rasters with rasterio.features"),
    ((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "", "archives", "unpack them"),
    ((".xml",), "<bndbox>", "boxes without masks", "boxes do not say which pixels belong to it"),
)
EXPORT = "export masks as PNG, or COCO JSON, from the tool, and put them beside the pictures"


def _has(file, endings, words):
    if not file.as_posix().lower().endswith(endings):
        return False
    with open(file, encoding="utf-8", errors="replace") as stream:
        return not words or words in stream.read(100_000)


def name_unread(path, files) -> str | None:
    """Return what files are and what to do, where they are of a kind that seglib does not read."""
    for name, (ending, words) in FORMATS.items():
        found = next((file for file in files if _has(file, ending, words)), None)
        if found:
            return (
                f"{path} has annotations of the format {name} ({found}), which another package "
                f"reads: pip install 'seglib[formats]', then "
                f'open_dataset("{path}", format="{name}")'
            )
    for endings, words, what, step in UNREAD:
        found = [file for file in files if _has(file, endings, words)]
        if found:
            step = f"{step}seglib.open_arrays" if step.endswith(" to ") else step or EXPORT
            return f"{path} has {what}, first {found[0]}, which seglib does not read: {step}"
    return None


def import_annotations(path, name: str, pictures) -> Found:
    """Read a folder with datumaro; `name` is one of its formats, such as "cvat".

    Raises:
        ImportError: datumaro is not installed.
        DatasetError: the folder has no pictures with areas in this format.
    """
    try:
        import datumaro
    except ImportError as error:
        raise ImportError(
            f"format={name!r} needs datumaro, which is not installed: pip install 'seglib[formats]'"
        ) from error
    try:
        items = datumaro.Dataset.import_from(str(path), name)
        categories = items.categories()[datumaro.AnnotationType.label].items
        records, passed_over = {}, collections.Counter()
        for item in items:
            size, shapes = None, []
            for part in sorted(item.annotations, key=lambda part: getattr(part, "z_order", 0)):
                label = categories[part.label].name
                if part.type == datumaro.AnnotationType.mask:
                    size = part.image.shape
                    mask = np.concatenate([[0], part.image.T.ravel() > 0, [0]]).astype(np.int8)
                    edges = np.flatnonzero(np.diff(mask))
                    counts = np.diff(edges, prepend=0, append=part.image.size).tolist()
                    shapes.append((label, ("counts", counts, list(size))))
                elif part.type == datumaro.AnnotationType.polygon:
                    shapes.append((label, ("polygon", list(part.points))))
                else:
                    passed_over[part.type.name] += 1
            records[getattr(item.media, "path", None) or item.id] = (size, shapes)
    except Exception as error:  # datumaro raises many kinds
        raise DatasetError(f"datumaro cannot read {path} as {name}: {error}") from error
    names = [category.name for category in categories]
    source = Source(pathlib.Path(path), name, names, records, passed_over=passed_over)
    found = _match(path, name, name, [source], PictureIndex(pictures))
    if not any(half.path.layers for _, half in found.every):
        raise DatasetError(f"{path} has no areas of classes in the format {name}: {EXPORT}")
    return found
