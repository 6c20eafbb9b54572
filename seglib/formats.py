"""Pairs that tables, annotation files and several mask files a picture make, in place of masks.

A reader turns a file into a Source; `_match` finds the pictures that its names mean.
"""

import collections
import csv
import dataclasses
import functools
import json
import os
import pathlib
import re
import types
import unicodedata
import warnings
from collections.abc import Callable

import numpy as np

from seglib.annotations import (
    DRAW,
    Annotation,
    check_annotations,
    choose_classes,
    read_grey,
    read_size,
)
from seglib.images import DatasetError, open_picture

MANY_CLASSES = 64  # of mask files: more different names are names of objects
FEW = 50  # cells of a table that tell what a column is
NOTHING = ("", "-1", "nan", "NaN", "None", "<NA>", "NA")  # cells of tables without run lengths
SPLIT_WORD = re.compile(
    r"(?<![a-z])(?:(train)(?:ing|val)?|(val)(?:id|idation)?|(test)(?:ing)?)(?![a-z])", re.IGNORECASE
)
MASK_WORD = re.compile(r"masks?|label(s|led)?|annot(ation)?s?|gt|(ground)?truth|seg\w*|targets?")
CLASS_COLUMN = re.compile(r"(class|label|category|cell_?type)(_?(id|name))?")
NUMBER = re.compile(r"\d+")
NO_TABLE = re.compile("submission|sample")  # of run lengths that nobody annotated
RUNS = re.compile(r"\d+( \d+)+")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Mask files of such names show a picture's classes once more, or what another person drew.
NO_CLASS = re.compile(
    "colou?rs?|gr[ae]y|ids|labels?|instances?|parts|objects?|manual|ho|experts?|annotators?|raters?"
    "|readers?|observers?|fov|roi|edges?|contours?|boundary|boundaries|depth|overlays?|machine"
    "|human|watershed|polygons"
)
LABEL_STUDIO = re.compile(r"task-(\d+)-annotation-\d+-by-\d+-tag-(.+)-\d+")
YOLO_LINE = re.compile(r"\d+( [01]?\.?\d*(e-\d+)?)+", re.IGNORECASE)


# Which pictures the names in a file mean


class PictureIndex:
    """Finds photographs by names: paths, or ends of paths, with an extension or without."""

    def __init__(self, pictures):
        self.pictures, self.places = pictures, collections.defaultdict(list)
        for picture in pictures:
            for name in {picture.name, picture.name.removesuffix(picture.path.suffix)}:
                for ending in _list_endings(name):
                    self.places[ending].append(picture)

    def find(self, name, split=None) -> list:
        """Return the pictures that are meant; several where the name tells no more."""
        name = unicodedata.normalize("NFC", name).replace("\\", "/")
        endings = [*_list_endings(name), *_list_endings(re.sub(r"\.[A-Za-z]{3,4}$", "", name))]
        found = next((self.places[e] for e in endings if e in self.places), None)
        found = self._joined.get(name, []) if found is None else found
        return [picture for picture in found if len(found) > 1 and picture.split == split] or found

    @functools.cached_property
    def _joined(self):
        """Pictures by a folder's name and the beginning of their own, as `case1_day2_slice_0001`
        for case1/case1_day2/scans/slice_0001_266_266.png.
        """
        joined = collections.defaultdict(list)
        for picture in self.pictures:
            for folder in picture.name.split("/")[:-1]:
                for end in re.finditer("[_-]|$", picture.stem):
                    joined[f"{folder}_{picture.stem[: end.start()]}"].append(picture)
        return joined


def _list_endings(name):
    """The ends of a path, from all of it to its file's name."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _natural(text):
    """Key by which 10 comes after 9."""
    return [(not p.isdigit(), int(p) if p.isdigit() else p) for p in re.split(r"(\d+)", text)]


# Readers of annotation files


@dataclasses.dataclass
class Source:
    """What a file says: `records` are {what it calls a picture: (size or None, shapes)}.

    Shapes are `(class, (kind, …))`, see `DRAW`; boxes and lines are of kind "no area". `names` are
    the classes in their order; `ignores_rest` is whether pixels of none are void. Tables bring a
    function that finds pictures, the splits of pictures, and what they name in vain.
    """

    path: pathlib.Path
    kind: str
    names: list
    records: dict
    ignores_rest: bool = False
    find: Callable | None = None
    splits: dict = dataclasses.field(default_factory=dict)
    lost: list = dataclasses.field(default_factory=list)


def _read_json(file):
    """Source of a JSON file; None where it is of no known kind."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        keys = set(content) if isinstance(content, dict) else set()
        if keys >= {"images", "annotations", "categories"}:
            return _parse_coco(content, file)
        return _parse_labelme(content, file) if keys >= {"shapes", "imagePath"} else None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DatasetError(f"{file} is damaged: {type(error).__name__} {error}") from error


def _parse_coco(content, file):
    """Instances, stuff or panoptic; None where nothing has an area."""
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    shapes = {picture["id"]: [] for picture in content["images"]}
    panoptic, strange, used = set(), [], set()
    for annotation in content["annotations"]:
        key, segments = annotation.get("image_id"), collections.defaultdict(list)
        for part in annotation.get("segments_info", [annotation]):
            category, found = part.get("category_id"), part.get("segmentation")
            if key not in shapes or category not in names:
                strange.append(annotation.get("id", annotation.get("file_name")))
                continue
            used.add(category)
            if "segments_info" in annotation:
                segments[category].append(part["id"])
                panoptic.add(key)
            elif isinstance(found, dict):
                shapes[key].append((names[category], ("counts", found["counts"], found["size"])))
            else:
                rings = [("polygon", ring) for ring in found or []]
                shapes[key] += [(names[category], ring) for ring in rings or [("no area",)]]
        for category, ids in segments.items():
            shapes[key].append((names[category], ("segments", _find_png(file, annotation), ids)))
    if strange:
        raise DatasetError(
            f"{file}: {len(strange)} annotations are of a category or an image that the file does "
            f"not list, first {strange[0]}: add it there, or remove them"
        )
    parents = {category.get("supercategory") for category in content["categories"]} - {None}
    kept = [name for i, name in sorted(names.items()) if i in used or name not in parents]
    records = {
        picture["file_name"]: (_read_sides(picture, "height", "width"), shapes[picture["id"]])
        for picture in content["images"]
        if not panoptic or picture["id"] in panoptic
    }
    return Source(file, "COCO", kept, records, bool(panoptic)) if any(shapes.values()) else None


def _find_png(file, annotation):
    """The picture of segments that belongs to an annotation of a panoptic file."""
    folders = (file.with_suffix(""), file.parent, file.parent.parent / file.stem)
    places = [folder / annotation["file_name"] for folder in folders]
    return str(next(filter(os.path.isfile, places), places[0]))


def _parse_labelme(content, file):
    """Polygons, rectangles, circles and masks; lines and points have no area."""
    shapes = []
    for shape in content["shapes"]:
        kind, points = shape.get("shape_type") or "polygon", shape["points"]
        drawn = ("no area",)
        if kind == "polygon" and len(points) > 2:
            drawn = ("polygon", np.ravel(points).tolist())
        elif kind == "rectangle":
            (x, y), (right, bottom) = points
            drawn = ("polygon", [x, y, right, y, right, bottom, x, bottom])
        elif kind == "circle":
            (x, y), end = points
            radius = np.hypot(x - end[0], y - end[1])
            drawn = ("ellipse", [x - radius, y - radius, x + radius, y + radius])
        elif kind == "mask":
            drawn = ("bitmap", shape["mask"], points[0])
        shapes.append((str(shape["label"]), drawn))
    size = _read_sides(content, "imageHeight", "imageWidth")
    records = {content["imagePath"] or file.stem: (size, shapes)}
    return Source(file, "labelme", [label for label, _ in shapes], records)


def _read_sides(content, height, width):
    size = content.get(height), content.get(width)
    return size if all(size) else None


def _read_yolo(file, names):
    """Source of a YOLO file, a polygon a line: `class x y x y x y …`; None for other text."""
    lines = [line.split() for line in file.read_text("utf-8", "replace").splitlines()]
    if not all(YOLO_LINE.fullmatch(" ".join(cells)) for cells in lines if cells):
        return None
    shapes = []
    for label, *cells in filter(None, lines):
        drawn = ("relative", list(map(float, cells))) if len(cells) > 4 else ("no area",)
        shapes.append((names.get(label, label), drawn))
    return Source(file, "YOLO", list(names.values()), {file.stem: (None, shapes)})


def _read_yolo_names(files):
    """`{id as text: name}` of a YAML file whose `names` are a list, or lines of `id: name`; or of
    `classes.txt`, a name a line.
    """
    text = "".join(f.read_text("utf-8", "replace") for f in files if f.suffix in (".yaml", ".yml"))
    block = re.search(r"names:\s*([\[{][^\]}]*|(?:\n? *(?:\d+:|- )[^\n]*)+)", text)
    names = re.findall(r"(?:[\[,]|\d+:|- )\s*['\"]?([^,:\n'\"]+)", block[1]) if block else []
    lists = [file for file in files if file.name in ("classes.txt", "obj.names")]
    names = names or [line for file in lists[:1] for line in file.read_text("utf-8").splitlines()]
    return {str(i): name.strip() for i, name in enumerate(names)}


def read_table(source) -> dict | None:
    """Return `{column: [text, …]}` of a CSV file or a pandas DataFrame; None of other files."""
    if not isinstance(source, os.PathLike):
        return {str(c): ["" if str(v) == "nan" else str(v) for v in source[c]] for c in source}
    csv.field_size_limit(1 << 30)  # run lengths of a large picture
    with open(source, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        line = file.readline()
        file.seek(0)
        try:
            header, *rows = csv.reader(file, delimiter=max(",;\t", key=line.count)) or [[]]
        except (csv.Error, ValueError):
            return None
    rows = [row + [""] * (len(header) - len(row)) for row in rows if any(row)]
    columns = zip(*rows, strict=False)
    return {c.strip(): list(map(str.strip, v)) for c, v in zip(header, columns, strict=False)}


def _parse_table(table, file, folder, index, *, runs):
    """Source of a table with a column of pictures, and one of run lengths or of mask files.

    Columns are told by what they hold. The class is in a column called so, or behind the name of
    the picture; a column of split names, or one called fold, says the splits.
    """

    @functools.cache
    def find(name, role=None):
        places = [place / name for place in (folder, file.parent)] if name else []
        there = [types.SimpleNamespace(path=p, split=None) for p in filter(os.path.isfile, places)]
        found = there[:1] or (index.find(name, _find_split(file.name)) if name else [])
        fitting = [p for p in found if (getattr(p, "role", role) == "mask") == (role == "mask")]
        return fitting or (found if role is None or "." in name else [])  # 3 may be a class

    def find_mask(name, cell):
        own = [picture.path for picture in find(name)]
        return [picture for picture in find(cell, "mask") if picture.path not in own]

    def fits(values):
        return sum(map(bool, map(find, [value for value in values if value][:FEW])))

    keys = dict(table)
    if runs:
        masks = next((column for column, values in table.items() if _are_runs(values)), None)
        keys |= {f"{c} ": [value.rpartition("_")[0] for value in table[c]] for c in table}
    else:
        masks = [c for c in table if any(map(MASK_WORD.fullmatch, list_words(c)))]
        masks = next((c for c in masks if not all(map(NUMBER.fullmatch, table[c]))), None)
    keys.pop(masks, None)
    key = max(keys, key=lambda column: fits(keys[column]), default=None)
    cells = list(zip(keys[key], table[masks], strict=True)) if masks and key else []
    if not (cells and fits(keys[key]) and (runs or any(find_mask(*row) for row in cells[:FEW]))):
        return None
    rest = {c: values for c, values in table.items() if c not in (key, masks)}
    labels = _find_column(rest, CLASS_COLUMN.pattern)
    if key not in table:
        labels = [value.rpartition("_")[2] for value in table[key.strip()]]
    sides = [_find_column(rest, f"(ima?ge?_?)?{side}") for side in ("height", "width")]
    own, splits, records, lost = _read_splits(rest, file), {}, {}, []
    for row, (name, cell) in enumerate(cells):
        size = tuple(int(float(side[row])) for side in sides) if all(sides) else None
        shapes = records.setdefault(name, (size, []))[1]
        splits[name] = own and own[row]
        if cell in NOTHING:
            continue
        files = [] if runs else find_mask(name, cell)
        if runs and labels and not labels[row]:
            raise DatasetError(f"{file}, row {row + 2}: expected a class, as in other rows")
        if not runs and len(files) != 1:
            lost.append(f"{file}, row {row + 2}: {cell}")
        else:
            content = ("runs", cell) if runs else ("file", str(files[0].path))
            shape = (labels[row] if labels else "foreground", content)
            shapes += [shape] if shape not in shapes else []
            if not (runs or labels) and len(shapes) > 1:
                raise DatasetError(
                    f"{file}, row {row + 2}: {name} has a second mask: expected one row for each "
                    "picture, or a column class that says what each mask shows"
                )
    names = sorted(set(labels or ["foreground"]) - {""})
    several = any(len(shapes) > 1 for _, shapes in records.values())
    kind = "run lengths" if runs else "mask files" if several else "pairs"
    return Source(file, kind, names, records, find=find, splits=splits, lost=lost)


def _are_runs(values):
    filled = [value for value in values if value not in NOTHING][:FEW]
    return bool(filled) and all(map(RUNS.fullmatch, filled))


def list_words(name: str) -> list:
    """Return the words in a name such as `MaskPath` or `mask_path`, in small letters."""
    return [word.lower() for word in WORD.findall(name)]


def _find_column(table, pattern):
    return next((v for c, v in table.items() if re.fullmatch(pattern, c.lower())), None)


def _read_splits(table, file):
    """The split of each row; None where no column says it."""
    for values in table.values():
        found = list(map(SPLIT_WORD.fullmatch, values))
        if all(found):
            return [match.group(match.lastindex).lower() for match in found]
    folds = _find_column(table, "(k_?)?folds?")
    if folds is None:
        return None
    first = min(folds, key=_natural)
    warnings.warn(f"{file}: fold {first} is for validation, the others for training", stacklevel=6)
    return ["val" if fold == first else "train" for fold in folds]


def _find_split(name):
    """The split whose name is the last in a path; None where there is none."""
    *_, last = (None, *SPLIT_WORD.finditer(name))
    return last and last.group(last.lastindex).lower()


# Pairs of photographs and what is drawn for them


@dataclasses.dataclass
class Found:
    """Pairs of objects with `path` and `split`; the masks' paths may be Annotations.

    `names` are the classes of Annotations in the order of their ids, empty where masks are files;
    `missing` is what is named but not there, `bare` are photographs that nothing names.
    """

    pairs: list
    names: list
    text: str
    ignores_rest: bool = False
    missing: list = dataclasses.field(default_factory=list)
    bare: list = dataclasses.field(default_factory=list)


def read_sources(path, files: list, pictures: list, *, pairs: bool) -> Found | None:
    """Read what files say about pictures: tables of pairs, or annotations.

    Annotations are run lengths, COCO, labelme and YOLO. Files whose names differ by a
    split, and those of one picture each, are read together. Of several ways that of most pictures
    is taken, and a warning names the others.

    Args:
        path: path of the data set's folder.
        files: paths, or a pandas DataFrame.
        pictures: photographs, and where there may be pairs also masks: objects with `path`, `name`,
            `stem`, `split` and `role`.
        pairs: bool, whether tables of pairs are meant.

    Raises:
        DatasetError: a file contradicts itself, or a name in it means several pictures.
    """
    index, groups = PictureIndex(pictures), collections.defaultdict(list)
    names = {} if pairs else _read_yolo_names(files)
    for file in files:
        place = file if isinstance(file, os.PathLike) else pathlib.Path(path, "DataFrame")
        suffix, source = place.suffix.lower(), None
        if suffix in ("", ".csv", ".tsv") and not NO_TABLE.search(place.stem.lower()):
            table = read_table(file)
            source = table and _parse_table(table, place, path, index, runs=not pairs)
        elif suffix == ".json" and not pairs:
            source = _read_json(file)
        elif suffix == ".txt" and not pairs and index.find(file.stem):
            source = _read_yolo(file, names)
        if source:
            alike = source.kind in ("labelme", "YOLO")
            name = "*" + suffix if alike else os.path.relpath(place, path)
            groups[source.kind, SPLIT_WORD.sub("*", name)].append(source)
    found = [_match(path, name, sources, index) for (_, name), sources in groups.items()]
    found = sorted(found, key=lambda one: (len(one.pairs), "instances" in one.text, one.text))
    if len(found) > 1:
        others = ", ".join(f"masks={one.text!r}" for one in found[:-1])
        warnings.warn(
            f"{path}: masks are taken from {found[-1].text}; also possible are {others}, passed to "
            "open_dataset",
            stacklevel=4,
        )
    return found[-1] if found and found[-1].pairs else None


def _match(path, name, sources, index):
    """Found of the sources that are read together."""
    text = name if len(sources) > 1 else os.path.relpath(sources[0].path, path)
    found, taken, areas = Found([], [], text), {}, collections.Counter()
    kind, found.ignores_rest = sources[0].kind, sources[0].ignores_rest
    for source in sources:
        split = _find_split(os.path.relpath(source.path, path))
        found.missing += source.lost
        found.names += [label for label in source.names if label not in found.names]
        for key, (size, shapes) in source.records.items():
            pictures = (source.find or functools.partial(index.find, split=split))(key)
            pictures = pictures or (index.find(source.path.stem) if kind == "labelme" else [])
            if len(pictures) > 1:  # such as one in the folder of the file
                pictures = [p for p in pictures if source.path.parent in p.path.parents] or pictures
            if not pictures:
                found.missing.append(f"{source.path}: {key}")
                continue
            image = pictures[0].path
            if len(pictures) > 1 or image in taken:
                other = (
                    f"and so does {taken.get(image)}"
                    if image in taken
                    else f"or {pictures[1].path}"
                )
                raise DatasetError(
                    f"{source.path}: {key!r} means {image}, {other}: expected one picture for each "
                    "name, and one entry for each picture; name pictures with their folders"
                )
            taken[image] = f"{key!r} in {source.path}"
            layers = tuple(shape for shape in shapes if shape[1][0] in DRAW)
            areas.update(layers=len(layers), none=len(shapes) - len(layers))
            half = Annotation(image, source.path, layers, size=size)
            if kind == "pairs":
                half = layers and pathlib.Path(layers[0][1][1])
            if half:
                own = source.splits.get(key) or pictures[0].split or split
                found.pairs.append(_pair(image, half, own))
    if areas["none"] and not areas["layers"]:
        words = "have no area, but are boxes, lines or points: expected polygons or run lengths"
        raise DatasetError(f"{path}: all {areas['none']} annotations in {name} {words}")
    if areas["none"]:
        warnings.warn(
            f"{path}: {areas['none']} of {areas.total()} annotations in {name} have no area, as "
            "boxes, lines and points: passed over",
            stacklevel=6,
        )
    if kind in ("run lengths", "labelme", "mask files"):
        found.names.sort(key=_natural)
    found.names = [] if kind == "pairs" else found.names
    bare = (picture for picture in index.pictures if picture.role != "mask")
    found.bare = [picture.path for picture in bare if picture.path not in taken]
    found.pairs.sort(key=lambda pair: pair[0].path)
    if kind == "run lengths" and _go_by_rows(found.pairs):
        warnings.warn(f"{name}: the run lengths go along rows, not down columns", stacklevel=6)
        for _, half in found.pairs:
            layers = [(label, (*shape, True)) for label, shape in half.path.layers]
            half.path = dataclasses.replace(half.path, layers=tuple(layers))
    return found


def _go_by_rows(pairs):
    """Whether runs follow each other at the picture's width, not at its height."""
    votes = []
    for image, half in pairs[:: -(-len(pairs) // FEW)]:
        height, width = read_size(image.path)
        for text in (text for _, (_, text) in half.path.layers if RUNS.fullmatch(text)):
            steps = np.diff(np.array(text.split()[::2], np.int64))
            if len(steps):
                votes.append(abs(np.median(steps) - width) < abs(np.median(steps) - height))
    return sum(votes) > len(votes) / 2


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
        warnings.warn(
            f"{path}: {len(bare)} pictures beside others are not in {found.text}, first {bare[0]}: "
            'they count as unlabelled; pass unpaired="background" if they show none of the classes',
            stacklevel=4,
        )
    if found.names:
        given = choose_classes(found, given)
        check_annotations(path, [half.path for _, half in found.pairs], given.names)
    return found.pairs, given


# Several mask files a picture


def merge_mask_files(path, photographs, masks, others=()) -> Found | None:
    """Take several black and white mask files for one picture's objects or classes.

    A mask belongs to the picture whose name its own begins with, or one of its folders has, or
    that is alone beside its folder. Folders, or else the rests of the names, are the classes if
    they recur; otherwise all are objects of one class. None where this does not fit.
    """
    index, tagged = PictureIndex(photographs), any(LABEL_STUDIO.fullmatch(m.stem) for m in masks)
    tasks = _read_tasks(others) if tagged else {}
    if tagged and not tasks:
        raise DatasetError(
            f"{path}: {masks[0].path.name} and others are masks of Label Studio, whose names do "
            "not say the picture: put its JSON export, which does, beside them"
        )
    by_stem, alone = collections.defaultdict(list), collections.defaultdict(list)
    for picture in photographs:
        by_stem[_drop_zeros(picture.stem)].append(picture)
        alone[picture.split, picture.folders].append(picture)
    owner, texts = {}, {}
    for mask in masks:
        task = LABEL_STUDIO.fullmatch(mask.stem)
        found, texts[mask] = _find_owner(mask, by_stem, alone)
        if task:
            found, texts[mask] = index.find(tasks.get(task[1], "")), task[2]
        if len(found) == 1:
            owner[mask] = found[0]
    owners, lonely = set(owner.values()), [str(mask.path) for mask in masks if mask not in owner]
    if len(owner) <= len(owners) or len(lonely) > len(owner):
        return None
    by_folder = len({(owner[mask], mask.path.parent) for mask in owner}) > len(owners)
    if by_folder:
        texts = {mask: _name_folder(mask.path) for mask in owner}
    names = {mask: _name_class(texts[mask]) for mask in owner}
    kinds = collections.Counter(name for name, _ in {(names[m], owner[m]) for m in owner})
    words = {word for name in kinds for word in [name.lower(), *list_words(name)]}
    if any(map(NO_CLASS.fullmatch, words)) or ("" in kinds and len(kinds) > 1):
        return None
    recur = len(owners) == 1 or sum(count > 1 for count in kinds.values()) > len(kinds) / 2
    are_classes = 1 < len(kinds) <= MANY_CLASSES and recur
    looked_at = list(owner)[:: -(-len(owner) // 8)]
    if (by_folder and not are_classes) or not all(_is_black_and_white(m.path) for m in looked_at):
        return None
    records = {picture.name: (None, []) for picture in photographs if picture in owners}
    ordered = sorted(owner, key=lambda mask: _natural(texts[mask]))
    for mask in ordered:
        names[mask] = names[mask] if are_classes else "foreground"
        records[owner[mask].name][1].append((names[mask], ("file", str(mask.path))))
    classes = list(dict.fromkeys(names[mask] for mask in ordered))
    meaning = f"classes, {', '.join(classes)}" if are_classes else "objects of one class"
    warnings.warn(
        f"{path}: {len(owner)} mask files of {len(owners)} pictures, such as {looked_at[0].path}, "
        f"are taken for {meaning}; masks=… chooses one file a picture",
        stacklevel=4,
    )
    folder = pathlib.Path(os.path.commonpath([mask.path.parent for mask in masks]))
    source = Source(folder, "objects", classes, records, lost=lonely)
    return _match(path, folder.name, [source], index)


def _find_owner(mask, by_stem, alone):
    """`(pictures that a mask belongs to, the rest of its name)`."""
    ends = [match.start() for match in re.finditer(r"[_\-. ]|$", mask.stem)]
    stems = [(_drop_zeros(mask.stem[:end]), mask.stem[end:]) for end in reversed(ends)]
    if not stems[-1][0].isdigit():  # a folder 3/ of masks 00012_hair.png is not that of picture 3
        stems += [(_drop_zeros(part), mask.stem) for part in reversed(mask.path.parent.parts)]
    choices = [(by_stem.get(stem), rest) for stem, rest in stems]
    choices += [(alone.get((mask.split, mask.folders)), mask.stem)]
    found, rest = next((choice for choice in choices if choice[0]), ([], ""))
    for same in ("split", "folders"):
        if len(found) > 1:
            found = [p for p in found if getattr(p, same) == getattr(mask, same)] or found
    return found, rest


def _drop_zeros(name):
    """One spelling for a name that is a number, such as 3 and 00003."""
    return str(int(name)) if name.isdecimal() else name


def _name_folder(path):
    return next((part for part in reversed(path.parent.parts) if _name_class(part)), "")


def _name_class(text):
    """A class's name in that of a folder or a file: without numbers around it and words for masks.

    "1. Haemorrhages" is Haemorrhages, "_mask_1" nothing.
    """
    numbered = re.search("class|cat", text, re.IGNORECASE)  # class_1, class_2
    words = [word for word in re.split(r"[_\-. ]+", text) if word]
    known = [MASK_WORD, SPLIT_WORD] if numbered else [MASK_WORD, SPLIT_WORD, NUMBER]
    return " ".join(w for w in words if not any(k.fullmatch(w.lower()) for k in known))


def _is_black_and_white(path):
    picture = open_picture(path)
    grey = read_grey(path)
    blurred = picture.format == "JPEG" and ((grey > 64) & (grey < 192)).mean() < 0.05
    return blurred or picture.convert("RGB").getcolors(2) is not None


def _read_tasks(files):
    """`{task: name of its picture}` of Label Studio's JSON export."""
    tasks = {}
    for file in files:
        content = json.loads(file.read_text("utf-8-sig")) if file.suffix == ".json" else ()
        for task in content if isinstance(content, list) else ():
            tasks[str(task.get("id"))] = task.get("data", task).get("image", "")
    return tasks


# What other packages read, and what is named


# What files give away: the end of their names, and words in them. FORMATS are datumaro's.
FORMATS = {
    "cvat": (".xml", "<annotations>"),
    "label_me": (".xml", "<polygon>"),
    "segment_anything": (".json", '"predicted_iou"'),
    "open_images": (".csv", "MaskPath,ImageID"),
    "mots": ("instances/labels.txt", ""),
}
EXPORT = "export masks as PNG, or COCO JSON, from the tool, and put them beside the pictures"
ARRAYS = ", and pass their arrays to seglib.open_arrays"
UNREAD = (
    ((".nii", ".nii.gz"), "", "NIfTI volumes", "read them with nibabel" + ARRAYS),
    ((".dcm",), "", "DICOM files", "read them with pydicom" + ARRAYS),
    ((".h5", ".hdf5"), "", "HDF5 files", "read them with h5py" + ARRAYS),
    ((".mat",), "", "MATLAB files", "read them with scipy.io.loadmat" + ARRAYS),
    ((".npy", ".npz"), "", "arrays that do not pair", "read them with np.load" + ARRAYS),
    ((".parquet", ".tfrecord"), "", "tables of pictures", "read them" + ARRAYS),
    ((".json",), '"classTitle"', "Supervisely's JSON", EXPORT),
    ((".json",), '"from_name"', "Label Studio's JSON", EXPORT),
    ((".json",), '"shape_attributes"', "VGG Image Annotator's JSON", EXPORT),
    ((".geojson", ".shp"), "", "vector maps", "burn them into rasters with rasterio.features"),
    ((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "", "archives", "unpack them"),
    ((".xml",), "<bndbox>", "boxes without masks", "annotate areas: boxes do not say whose pixels"),
)


def _has(file, endings, words):
    if not file.as_posix().lower().endswith(endings):
        return False
    with open(file, encoding="utf-8", errors="replace") as stream:
        return not words or words in stream.read(100_000)


def name_unread(path, files) -> str | None:
    """Return what files are and what to do, where they are of a kind that seglib does not read."""
    for name, marks in FORMATS.items():
        found = next((file for file in files if _has(file, *marks)), None)
        if found:
            return (
                f"{path} has annotations of the format {name}, such as {found}, which another "
                f"package reads: pip install 'seglib[formats]', then "
                f'open_dataset("{path}", format="{name}")'
            )
    for endings, words, what, step in UNREAD:
        found = next((file for file in files if _has(file, endings, words)), None)
        if found:
            return f"{path} has {what}, first {found}, which seglib does not read: {step}"
    return None


def refuse_object_files(path, files) -> None:
    """Raise DatasetError where a file says which objects the mask files beside it show."""
    files = sorted(files, key=lambda file: file.suffix.lower() != ".csv")
    looked_at = [file for file in files if file.suffix.lower() in (".csv", ".xml")][:10]
    kinds = ("label_me", "open_images")
    listed = [file for file in looked_at if any(_has(file, *FORMATS[kind]) for kind in kinds)]
    if listed:
        raise DatasetError(name_unread(path, listed))


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
    records, splits, areas = {}, {}, datumaro.AnnotationType
    try:
        items = datumaro.Dataset.import_from(str(path), name)
        names = [category.name for category in items.categories()[areas.label].items]
        for item in items:
            key = getattr(item.media, "path", None) or item.id
            splits[key] = _find_split(str(item.subset))
            shapes = records.setdefault(key, (None, []))[1]
            for part in sorted(item.annotations, key=lambda part: getattr(part, "z_order", 0)):
                drawn = ("no area",)
                if part.type == areas.polygon:
                    drawn = ("polygon", list(part.points))
                elif part.type == areas.mask:
                    drawn = ("counts", _count_runs(part.image > 0), list(part.image.shape))
                shapes.append((names[part.label], drawn))
    except Exception as error:  # datumaro raises many kinds
        raise DatasetError(f"datumaro cannot read {path} as {name}: {error}") from error
    source = Source(pathlib.Path(path), name, names, records, splits=splits)
    found = _match(path, name, [source], PictureIndex(pictures))
    if not any(half.path.layers for _, half in found.pairs):
        raise DatasetError(f"{path} has no areas of classes in the format {name}: {EXPORT}")
    return found


def _count_runs(mask):
    """Lengths of runs of 0 and 1 in turn, down columns, as COCO counts them."""
    edges = np.flatnonzero(np.diff(mask.T.ravel().astype(np.int8), prepend=0))
    return np.diff(edges, prepend=0, append=mask.size).tolist()
