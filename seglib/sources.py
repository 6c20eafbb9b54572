"""Files that say which labels a picture has: tables, JSON and YOLO's text."""

import collections
import contextlib
import functools
import json
import os
import pathlib
import re
import types
import unicodedata

import numpy as np
import yaml

from seglib.annotations import Found, decode_rle
from seglib.images import DatasetError, read_size
from seglib.splitting import SPLIT_WORD, find_split, natural_key
from seglib.system import warn

EXPORT = "export masks as PNG, or COCO JSON, from the tool, and put them beside the pictures"
FEW = 50  # cells of a table that tell what a column is
NOTHING = ("", "-1", "nan", "NaN", "None", "<NA>", "NA")  # cells of tables without run lengths
MASK_COLUMN = re.compile(
    r"masks?|label(s|led)?|annot(ation)?s?|gt|(ground)?truth|seg\w*|targets?|y", re.IGNORECASE
)
CLASS_COLUMN = r"(class|label|category|cell_?type)(_?(id|name))?"
NO_HEADER = "expected names of the columns in the first line"
NO_TABLE = re.compile("submission|sample")  # of run lengths that nobody annotated
RUNS = re.compile(r"\d+( \d+)+")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
MAX_CLASS = 9999  # of YOLO
YOLO_NAMES = re.compile(r"[^.].*\.ya?ml|classes\.txt")


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

    def find_beside(self, file, folder, other) -> list:
        """Return the pictures of a label file: at its path with the folder `other` for `folder`.

        Where no such folder is in the path, those of the file's name.
        """
        name = pathlib.Path(os.path.relpath(file, self.path)).with_suffix("").as_posix()
        name = unicodedata.normalize("NFC", name)
        there = re.sub(rf"(^|.*/){folder}(?=/)", rf"\1{other}", name)
        if there == name:
            return self.find(name.rpartition("/")[2], file)
        found = self.places.get(there, [])
        return [p for p in found if there in (p.name, p.name.removesuffix(p.path.suffix))]


def _list_endings(name):
    """The ends of a path, from all of it to its file's name."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _read_json(file, index):
    """Found of a JSON file; None where it is of no known kind."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        warn(f"{file} is passed over: it is damaged, or no JSON")
        return None
    keys = set(content) if isinstance(content, dict) else set()
    known = {
        _parse_coco: {"images", "annotations", "categories"},
        _parse_labelme: {"shapes", "imagePath"},
        _parse_supervisely: {"objects", "size"},
    }
    parse = next((parse for parse, marks in known.items() if keys >= marks), lambda *_: None)
    try:
        return parse(content, file, index)
    except DatasetError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
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
            outlines = [np.ravel(points).tolist() for points in outlines if np.size(points) > 4]
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
        (s["label"], _choose_drawing(s.get("shape_type"), s["points"], s.get("mask")))
        for s in content["shapes"]
    ]
    found = Found(index.path, "labelme", "*.json", [])
    name, size = content["imagePath"], (content.get("imageHeight"), content.get("imageWidth"))
    pictures = index.find(name or file.stem, file) or index.find(file.stem, file)
    found.add_named(name, pictures, file, shapes, size=size)
    return found


def _parse_supervisely(content, file, index):
    """Found of `ann/a.png.json`, for `img/a.png`; None where it is another tool's."""
    shapes, size = [], content["size"]
    if not all("classTitle" in thing for thing in content["objects"]):
        return None
    for thing in content["objects"]:
        points, bitmap = thing.get("points") or {}, thing.get("bitmap") or {}
        mask, holes = bitmap.get("data"), points.get("interior") or ()
        outline = [bitmap["origin"]] if mask else points.get("exterior", ())
        drawn = _choose_drawing(thing.get("geometryType"), outline, mask, holes)
        shapes.append((thing["classTitle"], drawn))
    found, sides = Found(index.path, "Supervisely", "*.json", []), (size["height"], size["width"])
    pictures = index.find_beside(file, "ann", "img")
    found.add_named(file.stem, pictures, file, shapes, size=sides)
    return found


def _choose_drawing(kind, points, mask, holes=()):
    """How a shape is drawn: polygon, rectangle, circle or mask; lines and points have no area.

    Old files name no kind, and mean polygons.
    """
    if mask:
        return "bitmap", mask, [round(place) for place in points[0]]
    if kind == "rectangle":
        corners = np.reshape(points, (-1, 2))
        return "figure", "rectangle", [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]
    if kind == "circle":
        (x, y), end = points
        radius = np.hypot(x - end[0], y - end[1])
        return "figure", "ellipse", [x - radius, y - radius, x + radius, y + radius]
    if kind in (None, "", "polygon") and len(points) > 2:
        return "holed", _flatten(points), [_flatten(hole) for hole in holes if len(hole) > 2]
    return ("no area",)


def _flatten(points):
    points = np.array(points, float)
    if points.shape[1:] != (2,):
        raise ValueError(f"expected points x, y, received {points[:2].tolist()}")
    return points.ravel().tolist()


def _read_yolo(files, index):
    """Found of YOLO's label files, one a picture: a class's number and a polygon a line.

    Points are shares of the picture's sides; a box, of four shares, has no area. The nearest
    data.yaml or classes.txt names the classes.
    """
    found, labels, wrong = Found(index.path, "YOLO", "*.txt", []), {}, {}
    read_names = functools.cache(functools.partial(_read_yolo_names, top=index.path))
    for file in files:
        try:
            labels[file] = _parse_yolo(file)
        except ValueError as error:
            wrong[file] = error
    pictures = {file: index.find_beside(file, "labels", "images") for file in [*labels, *wrong]}
    paired = {file: rows for file, rows in labels.items() if rows and pictures[file]}
    drawn = [row for rows in paired.values() for row in rows]
    if all(share in (0, 1) for _, (_, shares) in drawn for share in shares):
        return None  # other numbers
    folders, known, nameless = {file.parent for file in paired}, {}, []
    for file in pictures:
        if file.parent not in folders and "labels" not in file.relative_to(index.path).parts:
            continue
        if file in wrong and pictures[file]:
            raise DatasetError(str(wrong[file]))
        rows, names = labels.get(file, []), read_names(file.parent)
        unknown = [number for number, _ in rows if names and number not in names]
        if unknown:
            raise DatasetError(f"{file} has class {unknown[0]}, which is not in {names}: add it")
        if rows or pictures[file]:
            shapes = [(names.get(number, f"class_{number}"), shape) for number, shape in rows]
            found.add(file.stem, pictures[file], file, shapes)
            known |= dict.fromkeys(names.values())
            nameless += [] if names else [file]
    if nameless and known:
        raise DatasetError(f"no data.yaml names the classes of {nameless[0]}, as of others: add it")
    found.names = list(known) or [f"class_{i}" for i in range(1 + max(i for i, _ in drawn))]
    return found


def _parse_yolo(file):
    """`[(class's number, shape), …]` of the lines of a file; ValueError where one is none."""
    rows = []
    for place, line in enumerate(file.read_text("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            number, *shares = map(float, line.split())
            is_one = number in range(MAX_CLASS + 1) and len(shares) % 2 == 0 and len(shares) > 3
            if not (is_one and all(-0.1 < share < 1.1 for share in shares)):
                raise ValueError
        except ValueError:
            wanted = "expected a class's number and x y x y … as shares of the sides, received"
            raise ValueError(f"{file}, line {place}: {wanted} {line[:60]!r}") from None
        rows.append((int(number), ("shares" if len(shares) > 4 else "box", shares)))
    return rows


def _read_yolo_names(folder, top):
    """`{number: name}` that files in a folder, or else in one above it, list."""
    tables = {}
    for file in sorted(file for file in folder.iterdir() if YOLO_NAMES.fullmatch(file.name)):
        try:
            names = _list_names(file)
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise DatasetError(f"{file} does not name the classes: {error}") from None
        tables |= {file: names} if names else {}
    if len({str(names) for names in tables.values()}) > 1:
        files = " and ".join(map(str, tables))
        raise DatasetError(f"{files} name the classes differently: remove all but one")
    if tables or folder == top:
        return next(iter(tables.values()), {})
    return _read_yolo_names(folder.parent, top)


def _list_names(file):
    """`{number: name}` of a file; None where it lists something else."""
    text = file.read_text("utf-8-sig", "replace")
    if file.suffix == ".txt":
        return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    content = yaml.safe_load(text)
    names = content.get("names") if isinstance(content, dict) else None
    if names and "kpt_shape" in content:
        raise ValueError("the labels are key points, expected polygons")
    if not isinstance(names, list | dict):
        return None
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {int(number): str(name) for number, name in pairs}


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


def _pair_files(table, file, index):
    """Found of a table with a column of pictures and one of mask files; None of other tables."""
    find = functools.cache(functools.partial(_find_cell, file, index))

    def find_mask(name, cell):
        own = [picture.path for picture in find(name)]
        return [picture.path for picture in find(cell, "mask") if picture.path not in own]

    named = [c for c in table if any(map(MASK_COLUMN.fullmatch, WORD.findall(c)))]
    named = [c for c in named if not all(map(str.isdigit, table[c]))]
    named = [c for c in named if _count_found(table[c], find)]
    if not named:
        return None
    cells = table.pop(named[0])
    names = max(table.values(), key=lambda values: _count_found(values, find), default=[])
    if not (_count_found(names, find) and any(map(find_mask, names[:FEW], cells))):
        return None
    if re.search("[./]", named[0]) and find(named[0], "mask"):
        raise DatasetError(f"{file}: {NO_HEADER}")
    if len(named) > 1:
        warn(f"{file}: of the columns {named} the first has the masks")
    found = Found(index.path, "table", os.path.relpath(file, index.path), [])
    splits = _read_splits(table, file) or [None] * len(cells)
    for row, (name, cell, split) in enumerate(zip(names, cells, splits, strict=True), 2):
        files = find_mask(name, cell)
        if len(files) == 1:
            found.add(name, find(name), file, files[0], split=split)
        elif cell not in NOTHING:
            found.missing.append(f"{file}, row {row}: {cell}")
    return found


def _pair_runs(table, file, index):
    """Found of a table with a column of pictures and one of run lengths, or one a class; or None.

    A class may also have a column of its own, or be behind the picture's name.
    """
    find = functools.cache(functools.partial(_find_cell, file, index))
    runs = {column: values for column, values in table.items() if _are_runs(values)}
    table = {column: values * len(runs) for column, values in table.items() if column not in runs}
    cells = [cell for values in runs.values() for cell in values]
    if len(runs) > 1:
        table["class"] = [column for column, values in runs.items() for _ in values]
    classes = _find_column(table, "(class|label|category)_?name")
    classes = classes or _find_column(table, CLASS_COLUMN)
    keys = [(values, classes) for values in table.values()]
    for values in table.values() if runs else ():  # a.jpg_3 is class 3
        keys.append(tuple(zip(*(value.rpartition("_")[::2] for value in values), strict=True)))
    names, labels = max(keys, key=lambda key: _count_found(key[0], find), default=((), None))
    if not (runs and _count_found(names, find)):
        return None
    if any(map(RUNS.fullmatch, [*table, *runs])):
        raise DatasetError(f"{file}: {NO_HEADER}")
    for column, values in () if labels else table.items():
        count = len(set(zip(names, values, strict=True)))
        if count > len(set(names)) and 1 < len(set(values)) <= count / 2:
            words = f"{column} differs within pictures: name it class if it says the classes"
            warn(f"{file}: all rows are taken for one class, but {words}")
    kind = _look_at_runs(list(map(find, names)), cells, file)
    sides = [_find_column(table, f"(ima?ge?_?)?{side}") for side in ("height", "width")]
    splits, records = _read_splits(table, file) or [None] * len(cells), {}
    for row, (name, cell, split) in enumerate(zip(names, cells, splits, strict=True)):
        size = [side and int(float(side[row])) for side in sides]
        shapes = records.setdefault(name, (split, size, []))[2]
        if cell in NOTHING:
            continue
        if labels and not labels[row]:
            raise DatasetError(f"{file}, row {row + 2}: expected a class, as in other rows")
        shapes.append((labels[row] if labels else "foreground", (kind, cell)))
    found = Found(index.path, "table", os.path.relpath(file, index.path), [])
    for name, (split, size, shapes) in records.items():
        found.add(name, find(name), file, shapes, split=split, size=size)
    found.names = sorted(set(labels or ["foreground"]) - {""})
    return found


def _find_cell(file, index, name, role=None):
    """What a cell of a table names: a file that is there, or pictures, of a role if there are."""
    name = name.removeprefix(f"{index.path.resolve()}{os.sep}")
    places = [place / name for place in (index.path, file.parent) if name]
    there = [types.SimpleNamespace(path=p, split=None) for p in filter(os.path.isfile, places)]
    found = index.find(name, file)
    return there[:1] or [p for p in found if (p.role == "mask") == (role == "mask")] or found


def _count_found(names, find):
    return sum(bool(find(name)) for name in list(filter(None, names))[:FEW])


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
            pair = _pair_files if pairs else _pair_runs
            found = table and pair(table, place, index)
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
        if kind != "table" and not found.names:
            continue  # all are empty
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
