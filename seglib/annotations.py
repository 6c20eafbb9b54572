"""Masks that annotation files, tables, or several mask files a picture show."""

import base64
import collections
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import types
import unicodedata
import zlib

import numpy as np
from PIL import Image, ImageDraw

from seglib.classes import ClassTable, create_class_table, read_class_table
from seglib.images import DatasetError, fit_classes, open_picture, read_grey, read_size
from seglib.splitting import SPLIT_WORD, find_split, natural_key
from seglib.system import show_progress, warn

MAX_LOOKED_AT = 200  # pictures whose layers are drawn when a data set is opened
BACKGROUND = ("background", "_background_")
BINARY = {"background": (0, 0, 0), "foreground": (255, 255, 255)}
EXPORT = "export masks as PNG, or COCO JSON, from the tool, and put them beside the pictures"
FEW = 50  # cells of a table that tell what a column is
NOTHING = ("", "-1", "nan", "NaN", "None", "<NA>", "NA")  # cells of tables without run lengths
MASK_COLUMN = re.compile(
    r"masks?|label(s|led)?|annot(ation)?s?|gt|(ground)?truth|seg\w*|targets?|y", re.IGNORECASE
)
CLASS_COLUMN = r"(class|label|category|cell_?type)(_?(id|name))?"
NO_TABLE = re.compile("submission|sample")  # of run lengths that nobody annotated
RUNS = re.compile(r"\d+( \d+)+")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
SHARE = r"-?(\d(\.\d+)?e-\d+|0?\.\d+|[01](\.\d*)?)"
YOLO_LINE = re.compile(rf"\s*\d{{1,4}}((\s+{SHARE}){{2}}){{2,}}\s*")
MAX_UNPACKED = 1 << 26  # bytes of a bitmap in an annotation file
DRAWING_ERRORS = ValueError, TypeError, IndexError, OverflowError, OSError, SyntaxError, zlib.error


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


def _draw_bitmap(text, left, top, size):
    """A PNG in base64, of which Supervisely's are packed by zlib, at its place in the picture."""
    content = base64.b64decode(text)
    if not content.startswith(b"\x89PNG"):
        content = zlib.decompressobj().decompress(content, MAX_UNPACKED)
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        right, bottom = left + picture.width, top + picture.height
        if min(left, top) < 0 or right > size[1] or bottom > size[0]:
            raise ValueError(f"a bitmap reaches from {left, top} to {right, bottom}")
        values = np.asarray(picture)
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = (values if values.ndim == 2 else values[..., -1]) > 0
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


class PictureIndex:
    """Finds pictures by names: paths, or ends of paths, with an extension or without."""

    def __init__(self, path, pictures):
        self.path, self.pictures = pathlib.Path(path), pictures
        self.places, self.joined = collections.defaultdict(list), collections.defaultdict(list)
        for picture in pictures:
            for name in {picture.name, picture.name.removesuffix(picture.path.suffix)}:
                for ending in _list_endings(name):
                    self.places[ending].append(picture)
            # case1_day2_slice_0001 is case1/case1_day2/scans/slice_0001_266_266.png
            for folder in picture.name.split("/")[:-1]:
                for end in re.finditer("[_-]|$", picture.stem):
                    self.joined[f"{folder}_{picture.stem[: end.start()]}"].append(picture)

    def find(self, name, file) -> list:
        """Return the pictures that a name in a file means; several where it tells no more."""
        name = unicodedata.normalize("NFC", name).replace("\\", "/")
        endings = [*_list_endings(name), *_list_endings(re.sub(r"\.[A-Za-z]{3,4}$", "", name))]
        found = next((self.places[e] for e in endings if e in self.places), None)
        found = found or self.joined.get(name, [])
        split = find_split(os.path.relpath(file, self.path))
        found = [picture for picture in found if picture.split == split] or found
        return [p for p in found if file.parent in p.path.parents] or found


def _list_endings(name):
    """The ends of a path, from all of it to its file's name."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _read_json(file, index):
    """Found of a JSON file; None where it is of no known kind."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    keys = set(content) if isinstance(content, dict) else set()
    known = {
        _parse_coco: {"images", "annotations", "categories"},
        _parse_labelme: {"shapes", "imagePath"},
        _parse_supervisely: {"objects", "size", "tags"},
    }
    parse = next((parse for parse, marks in known.items() if keys >= marks), lambda *_: None)
    try:
        return parse(content, file, index)
    except DatasetError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        words = f"is damaged, or refers to what it does not list: {type(error).__name__} {error}"
        raise DatasetError(f"{file} {words}") from error


def _parse_coco(content, file, index):
    """Instances, stuff or panoptic; None where nothing has an area."""
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    shapes, used = {picture["id"]: [] for picture in content["images"]}, set()
    panoptic = any("segments_info" in annotation for annotation in content["annotations"])
    for annotation in content["annotations"]:
        parts, outlines = collections.defaultdict(list), annotation.get("segmentation") or []
        if panoptic:
            png = os.path.join(file.with_suffix(""), annotation["file_name"])
            for part in annotation["segments_info"]:
                parts[part["category_id"]].append(part["id"])
            drawn = [(category, ("segments", png, ids)) for category, ids in parts.items()]
        elif isinstance(outlines, dict):
            drawn = [(annotation["category_id"], ("counts", outlines["counts"], outlines["size"]))]
        else:
            if outlines and np.size(outlines[0]) < 3:  # one outline, of numbers or of points
                outlines = [outlines]
            outlines = [np.ravel(outline).tolist() for outline in outlines]
            outlines = [outline for outline in outlines if len(outline) > 4]  # two points
            figures = [("figure", "polygon", outline) for outline in outlines] or [("no area",)]
            drawn = [(annotation["category_id"], figure) for figure in figures]
        shapes[annotation["image_id"]] += [(names[category], shape) for category, shape in drawn]
        used.update(category for category, _ in drawn)
    drawn = [shape for own in shapes.values() for _, shape in own if shape[0] == "figure"]
    if drawn and max(max(points) for *_, points in drawn) <= 1:
        raise DatasetError(f"{file} has all polygons between 0 and 1: expected pixels, not shares")
    parents = {category.get("supercategory") for category in content["categories"]} - {None}
    kept = [name for i, name in sorted(names.items()) if i in used or name not in parents]
    found = Found(index.path, "COCO", os.path.relpath(file, index.path), kept, panoptic)
    for picture in content["images"]:
        name, size = picture["file_name"], (picture.get("height"), picture.get("width"))
        if shapes[picture["id"]] or not panoptic:
            found.add(name, index.find(name, file), file, shapes[picture["id"]], size=size)
    return found if any(shapes.values()) else None


def _parse_labelme(content, file, index):
    shapes = [
        (
            str(shape["label"]),
            _choose_drawing(shape.get("shape_type"), shape["points"], mask=shape.get("mask")),
        )
        for shape in content["shapes"]
    ]
    found = Found(index.path, "labelme", "*.json", [label for label, _ in shapes])
    name, size = content["imagePath"], (content.get("imageHeight"), content.get("imageWidth"))
    pictures = index.find(name or file.stem, file) or index.find(file.stem, file)
    found.add(name, pictures, file, shapes, size=size)
    return found


def _parse_supervisely(content, file, index):
    """Found of `ann/a.png.json`, for `img/a.png`."""
    found, shapes = Found(index.path, "Supervisely", "*.json", []), []
    for thing in content["objects"]:
        points, bitmap = thing.get("points") or {}, thing.get("bitmap") or {}
        kind, mask = thing.get("geometryType"), bitmap.get("data")
        outline = [bitmap["origin"]] if mask else points["exterior"]
        holes = points.get("interior", ())
        shapes.append((thing["classTitle"], _choose_drawing(kind, outline, holes=holes, mask=mask)))
    found.names += [name for name, _ in shapes]
    name, size = _swap_folder(file, index, "ann", "img"), content["size"]
    found.add(name, index.find(name, file), file, shapes, size=(size["height"], size["width"]))
    return found


def _choose_drawing(kind, points, *, holes=(), mask=None):
    """How a shape is drawn: polygon, rectangle, circle or mask; lines and points have no area."""
    if mask:
        return ("bitmap", mask, *(round(place) for place in points[0]))
    if kind == "rectangle":
        return "figure", "rectangle", np.sort(points, axis=0).ravel().tolist()
    if kind == "circle":
        (x, y), end = points
        radius = np.hypot(x - end[0], y - end[1])
        return "figure", "ellipse", [x - radius, y - radius, x + radius, y + radius]
    if kind in (None, "", "polygon") and len(points) > 2:
        return "holed", np.ravel(points).tolist(), [np.ravel(hole).tolist() for hole in holes]
    return ("no area",)


def _swap_folder(file, index, folder, other):
    """A file's path without its last extension, in another folder beside its own."""
    name = pathlib.Path(os.path.relpath(file, index.path)).with_suffix("").as_posix()
    return re.sub(rf"(^|.*/){folder}(?=/)", rf"\1{other}", name)


def _read_yolo(files, index):
    """Found of YOLO's files, one a picture: a class's number and a polygon in shares a line.

    A file such as `data.yaml` names the classes. A box, of four shares, has no area.
    """
    found, drawn = Found(index.path, "YOLO", "*.txt", []), {}
    for file in files:
        lines = list(filter(str.strip, file.read_text("utf-8", "replace").splitlines()))
        name = _swap_folder(file, index, "labels", "images")
        if all(map(YOLO_LINE.fullmatch, lines)) and (lines or index.find(name, file)):
            drawn[file] = (
                name,
                [
                    (int(number), ("shares" if len(rest) > 4 else "box", list(map(float, rest))))
                    for number, *rest in map(str.split, lines)
                ],
            )
    used = {number for _, rows in drawn.values() for number, _ in rows}
    if not used:
        return None
    for file in sorted(index.path.rglob("*.y*ml")):
        with contextlib.suppress(ValueError):  # it lists something else
            found.names = found.names or list(read_class_table(file).names)
    found.names += [f"class_{i}" for i in range(len(found.names), max(used) + 1)]
    for file, (name, rows) in drawn.items():
        shapes = [(found.names[number], shape) for number, shape in rows]
        found.add(name, index.find(name, file), file, shapes)
    return found


def _read_table(source):
    """`{column: [text, …]}` of a CSV file or a pandas DataFrame; None of other files."""
    import pandas as pd

    if isinstance(source, os.PathLike):
        with open(source, encoding="utf-8-sig", errors="surrogateescape") as file:
            sep = max(",;\t", key=file.readline().count)
            file.seek(0)
            try:
                source = pd.read_csv(file, sep=sep, dtype=str, na_filter=False, index_col=False)
            except ValueError:
                return None
    cells = source.astype(object).where(source.notna(), "").astype(str)
    cells = cells[(cells != "").any(axis=1)]
    return {str(column).strip(): cells[column].str.strip().tolist() for column in cells}


def _pair_table(table, file, index, *, runs):
    """Found of a table with a column of pictures, and one of run lengths or of mask files.

    Columns are told by what they hold. A class may be behind the picture's name.
    """

    @functools.cache
    def find(name, role=None):
        """Files that are there, or else pictures of a role if there are any."""
        name = name.removeprefix(f"{index.path.resolve()}{os.sep}")
        places = [place / name for place in (index.path, file.parent) if name]
        there = [types.SimpleNamespace(path=p, split=None) for p in filter(os.path.isfile, places)]
        found = index.find(name, file)
        return there[:1] or [p for p in found if (p.role == "mask") == (role == "mask")] or found

    def find_mask(name, cell):
        own = [picture.path for picture in find(name)]
        return [picture.path for picture in find(cell, "mask") if picture.path not in own]

    def count_found(names):
        return sum(bool(find(name)) for name in list(filter(None, names))[:FEW])

    if runs:
        wide = [column for column, values in table.items() if _are_runs(values)]
        masks = next(iter(wide), None)
        if len(wide) > 1:  # a column a class
            rows, runs_of = len(table[masks]), {column: table.pop(column) for column in wide}
            table = {column: values * len(wide) for column, values in table.items()}
            table["class"] = [column for column in wide for _ in range(rows)]
            table[masks] = sum(runs_of.values(), [])  # noqa: RUF017
    else:
        named = [c for c in table if any(map(MASK_COLUMN.fullmatch, WORD.findall(c)))]
        named = [c for c in named if not all(map(str.isdigit, table[c])) and count_found(table[c])]
        masks = next(iter(named), None)
    cells = table.pop(masks, [])
    if not cells:
        return None
    named_classes = _find_column(table, "(class|label|category)_?name")
    classes = named_classes or _find_column(table, CLASS_COLUMN)
    keys = [(values, classes) for values in table.values()]
    if runs:  # a.jpg_3 is class 3
        cut = [[value.rpartition("_")[::2] for value in values] for values in table.values()]
        keys += [tuple(zip(*pairs, strict=True)) for pairs in cut]
    names, labels = max(keys, key=lambda key: count_found(key[0]), default=((), None))
    if not (count_found(names) and (runs or any(map(find_mask, names[:FEW], cells)))):
        return None
    if any(map(RUNS.fullmatch, [*table, masks])):
        raise DatasetError(f"{file}: expected names of the columns in the first line")
    found, records = Found(index.path, "table", os.path.relpath(file, index.path), []), {}
    splits = _read_splits(table, file) or [None] * len(cells)
    rows = list(zip(names, cells, splits, strict=True))
    if not runs:
        if len(named) > 1:
            warn(f"{file}: of the columns {named} the first has the masks")
        for row, (name, cell, split) in enumerate(rows, 2):
            files = find_mask(name, cell)
            if len(files) == 1:
                found.add(name, find(name), file, files[0], split=split)
            elif cell not in NOTHING:
                found.missing.append(f"{file}, row {row}: {cell}")
        return found
    for column, values in () if labels else table.items():
        count = len(set(zip(names, values, strict=True)))
        if count > len(set(names)) and 1 < len(set(values)) <= count / 2:
            words = f"{column} differs within pictures: name it class if it says the classes"
            warn(f"{file}: all rows are taken for one class, but {words}")
    kind = _look_at_runs(list(map(find, names)), cells, file)
    sides = [_find_column(table, f"(ima?ge?_?)?{side}") for side in ("height", "width")]
    for row, (name, cell, split) in enumerate(rows):
        size = [side and int(float(side[row])) for side in sides]
        shapes = records.setdefault(name, (split, size, []))[2]
        if cell in NOTHING:
            continue
        if labels and not labels[row]:
            raise DatasetError(f"{file}, row {row + 2}: expected a class, as in other rows")
        shapes.append((labels[row] if labels else "foreground", (kind, cell)))
    for name, (split, size, shapes) in records.items():
        found.add(name, find(name), file, shapes, split=split, size=size)
    found.names = sorted(set(labels or ["foreground"]) - {""})
    return found


def _are_runs(values):
    filled = [value for value in values if value not in NOTHING][:FEW]
    return bool(filled) and all(map(RUNS.fullmatch, filled))


def _find_column(table, pattern):
    return next((v for c, v in table.items() if re.fullmatch(pattern, c.lower())), None)


def _read_splits(table, file):
    """The split of each row; None where no column says it."""
    for values in table.values():
        if all(map(SPLIT_WORD.fullmatch, values)):
            return list(map(find_split, values))
    patterns = {"val": "is_?val(id(ation)?)?", "test": "is_?test"}
    said = {split: _find_column(table, pattern) for split, pattern in patterns.items()}
    said, splits = {split: cells for split, cells in said.items() if cells}, []
    for marks in zip(*said.values(), strict=True):
        marked = zip(said, marks, strict=True)
        yes = (split for split, mark in marked if mark.lower() in ("1", "true", "yes"))
        splits.append(next(yes, "train"))
    if splits:
        return splits
    unknown = set(_find_column(table, "split|subset|partition") or ())
    if unknown and not all(map(str.isdecimal, unknown)):
        words = ", ".join(sorted(unknown)[:5])
        raise DatasetError(
            f"{file}: expected train, val or test as the split, received {words}: rename them"
        )
    folds = _find_column(table, "(k_?)?folds?|split|subset|partition")
    if not any(folds or ()):
        return None
    first = min(filter(None, folds), key=natural_key)
    warn(f"{file}: fold {first} is for validation, the others for training")
    return ["val" if fold == first else "train" for fold in folds]


def _look_at_runs(pictures, cells, file):
    """The kind of layers that runs make: "runs", or "rows" along rows, which a warning tells."""
    named = zip(pictures, cells, strict=True)
    few = [(found[0].path, cell) for found, cell in named if found and RUNS.match(cell)]
    by_rows, relative, from_0 = [], [], []
    for path, cell in few[:: -(-len(few) // FEW) or 1]:
        starts, lengths = np.array(re.findall(r"(\d+) (\d+)", cell), float).T
        if len(starts) > 1:
            relative.append(np.diff(starts).min() < 0)
        with contextlib.suppress(ValueError):  # drawing it tells why
            height, width = read_size(path)
            down, along = decode_rle(cell, (height, width)), decode_rle(cell, (width, height)).T
            by_rows.append(_count_edges(along) < _count_edges(down))
            # Objects that borders cut off begin and end with lines: at pixel 1, unless it is 0.
            places = np.stack([starts, starts + lengths]) % (width if by_rows[-1] else height)
            from_0.append(np.sum(places == 0, axis=1) - 3 * np.sum(places == 1, axis=1))
    if sum(relative) > len(relative) / 2:
        words = "not how far it is from the run before, as SIIM-ACR does"
        raise DatasetError(f"{file}: expected where each run starts in the picture, {words}")
    if np.all(sum(from_0) > 2):
        words = "seem to count pixels from 0: add 1 to each start, or nothing if they do not"
        warn(f"{file}: the run lengths {words}")
    if sum(by_rows) <= len(by_rows) / 2:
        return "runs"
    warn(f"{file}: the run lengths go along rows, not down columns")
    return "rows"


def _count_edges(mask):
    """How often neighbours differ, the length of all outlines."""
    return np.sum(mask[1:] != mask[:-1]) + np.sum(mask[:, 1:] != mask[:, :-1])


def read_sources(path, files: list, pictures: list, *, pairs: bool) -> Found | None:
    """Read tables of pairs, or else run lengths, JSON and YOLO's text; the largest counts."""
    index, groups = PictureIndex(path, pictures), collections.defaultdict(list)
    texts = [] if pairs else [file for file in files if file.suffix.lower() == ".txt"]
    if yolo := _read_yolo(texts, index):
        groups[yolo.kind, yolo.text].append(yolo)
    for file in files:
        place = file if isinstance(file, os.PathLike) else pathlib.Path(path, "DataFrame")
        suffix, found = place.suffix.lower(), None
        if suffix in ("", ".csv", ".tsv") and not NO_TABLE.search(place.stem.lower()):
            table = _read_table(file)
            found = table and _pair_table(table, place, index, runs=not pairs)
        elif suffix == ".json" and not pairs:
            found = _read_json(file, index)
        if found:
            groups[found.kind, SPLIT_WORD.sub("*", found.text)].append(found)
    every = []
    for (kind, text), (found, *more) in groups.items():
        for other in more:
            found.text, found.names = text, found.names + other.names
            found.pairs, found.missing = found.pairs + other.pairs, found.missing + other.missing
            found.no_area += other.no_area
        found.names = list(dict.fromkeys(found.names))
        if kind not in ("COCO", "YOLO"):
            found.names.sort(key=natural_key)
        every.append(found.check(pictures))
    every.sort(key=lambda found: (len(found.pairs), len(found.names)))
    if len(every) > 1:
        others = ", ".join(f"masks={found.text!r}" for found in every[:-1])
        warn(
            f"{path}: masks are taken from {every[-1].text}; also possible are {others}, passed to "
            "open_dataset"
        )
    return every[-1] if every and every[-1].pairs else None


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
    own = found.names if found.ignores_rest else ["background", *names]
    if given is None:
        given = BINARY if own == list(BINARY) else own
    is_file = isinstance(given, str | os.PathLike)
    table = read_class_table(given) if is_file else create_class_table(given)
    ids = {name: i for i, name in enumerate(table.names)}
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


def import_annotations(path, name: str, pictures) -> Found:
    """Read a folder with datumaro; `name` is one of its formats, such as "cvat"."""
    try:
        import datumaro
    except ImportError as error:
        raise ImportError(
            f"format={name!r} needs datumaro, which is not installed: pip install 'seglib[formats]'"
        ) from error
    index, areas = PictureIndex(path, pictures), datumaro.AnnotationType
    try:
        items = datumaro.Dataset.import_from(str(path), name)
        names = [category.name for category in items.categories()[areas.label].items]
        found = Found(path, name, name, names)
        for item in items:
            key, shapes = getattr(item.media, "path", None) or item.id, []
            for part in sorted(item.annotations, key=lambda part: getattr(part, "z_order", 0)):
                drawn = ("no area",)
                if part.type == areas.polygon:
                    drawn = ("figure", "polygon", list(part.points))
                elif part.type == areas.mask:
                    drawn = ("counts", _count_runs(part.image > 0), list(part.image.shape))
                shapes.append((names[part.label], drawn))
            split = find_split(str(item.subset))
            found.add(key, index.find(key, path), path, shapes, split=split)
    except Exception as error:  # datumaro raises many kinds
        raise DatasetError(f"datumaro cannot read {path} as {name}: {error}") from error
    if not any(half.path.layers for _, half in found.pairs):
        raise DatasetError(f"{path} has no areas of classes in the format {name}: {EXPORT}")
    return found.check(pictures)


def _count_runs(mask):
    """Lengths of runs of 0 and 1 in turn, down columns, as COCO counts them."""
    edges = np.flatnonzero(np.diff(mask.T.ravel().astype(np.int8), prepend=0))
    return np.diff(edges, prepend=0, append=mask.size).tolist()
