"""Class names, their colours, what shows them in masks, and the label that is ignored."""

import collections
import csv
import dataclasses
import functools
import json
import os
import pathlib
import re
import typing

import numpy as np
from numpy.typing import ArrayLike

from seglib.system import replacing, warn

IGNORED_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "ignored", "backgroundtoignore")
BACKGROUND = ("background", "_background_")
CUSTOMARY_IGNORE_LABEL = 255
NO_NUMBER = np.iinfo(np.int64).min  # stands for NaN among the values of a mask
COLOR = re.compile(r"#[0-9a-fA-F]{6}|[(\[]?\d+, *\d+, *\d+[)\]]?")  # as a key of JSON
VALUES = re.compile(r"-?\d+(--?\d+)?|rest|nan|#[0-9a-f]{6}")
# What tools call a row's name, its id and its colour, without spaces, signs and capitals.
NAME_FIELDS = ("name", "class", "label", "title", "classname", "labelname")
NAME_FIELDS += ("category", "categoryname")
ID_FIELDS = ("id", "pixelvalue", "value", "pngindex", "index", "idx", "classid", "labelid")
ID_FIELDS += ("label", "classidx", "categoryid", "gray")
COLOR_FIELDS = ("color", "colour", "colorrgb", "rgb")
CHANNELS = (("r", "g", "b"), ("red", "green", "blue"))
HOLDERS = ("classes", "labels", "categories", "id2label")  # of the rows in a JSON file
TABLE = "class_dict.csv"
# What tools call their class tables; some names count only where the file lists classes.
TABLES = re.compile(
    r"(label_)?class_dict(_seg)?|_?classes|(class|label)_(names|classes|list)|label_?map|labels"
    r"|((label|class)_)?(colors|codes)|obj_class_to_machine_color|dataset_meta|meta|config.*"
)
VAGUE = re.compile("meta|config.*")
LISTS_CLASSES = re.compile(r'"(classes|labels|label_map|id2label)"')
# Of `images.SUFFIXES`: a file that lists pictures is no class table.
LISTED_PICTURE = re.compile(r"\.(png|jpe?g|bmp|tiff?|webp|gif|p[gp]m)\b")


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTable:
    """Which id is which class, and in which colour a mask shows it.

    Ids follow the order of the rows. An ignored class keeps its row and its id. An `ignore_label`
    outside the table, such as 255, has no row and is not counted in `num_classes`.

    Args:
        names: sequence of n str, unique.
        colors: int array `(n, 3)`, RGB in [0, 255], unique.
        ignore_label: int or None. Pixels with this id are neither learned nor scored.
        also_ignored: ints, ids of further ignored rows. Reading a mask turns them into
            `ignore_label`, which is a row of the table then.
        values: dict, which values of a mask of ids show which id, where a value is not the id
            itself: `{value: id}`. A key is a number, a range "1-9", "nan", "rest" for all other
            values, or "#rrggbb" for a further colour of a class. Tables that differ by it alone
            are equal: it says how masks were written, not what they show.

    Raises:
        ValueError: the table is empty, a name or colour occurs twice, a colour is no RGB
            triple in [0, 255], or `values` has an unknown key or id.

    Example:
        >>> table = ClassTable(["road", "void"], [(128, 64, 128), (0, 0, 0)],
        ...                    ignore_label=1)
        >>> table.num_classes, table.mapping[(128, 64, 128)], table.scored_ids
        (2, 0, (0,))
    """

    names: tuple
    colors: np.ndarray
    ignore_label: int | None = None
    also_ignored: tuple = ()
    values: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_ignore_label(self.ignore_label)
        names, colors = tuple(map(str, self.names)), np.asarray(self.colors)
        fits = colors.shape == (len(names), 3) and np.isin(colors, range(256)).all()
        if not (names and fits):
            raise ValueError(
                "a class table needs an RGB colour in [0, 255] for each name, received "
                f"{len(names)} names and the colours {colors.tolist()}"
            )
        for values in (names, map(tuple, colors.tolist())):
            ((value, count),) = collections.Counter(values).most_common(1)
            if count > 1:
                raise ValueError(f"{value!r} occurs twice in the class table")
        colors = colors.astype(np.uint8)
        colors.setflags(write=False)
        values = {str(key).lower(): int(label) for key, label in self.values.items()}
        ignored = tuple(map(int, self.also_ignored))
        vars(self).update(names=names, colors=colors, also_ignored=ignored, values=values)
        for key, label in values.items():
            if not VALUES.fullmatch(key) or label not in {*range(len(names)), self.ignore_label}:
                raise ValueError(
                    'expected values to be {value: id} with a number, "1-9", "nan", "rest" or '
                    f'"#rrggbb" as value and an id of the class table, received {key!r}: {label}'
                )

    @property
    def num_classes(self) -> int:
        """The number of rows, an ignored row included."""
        return len(self.names)

    @functools.cached_property
    def mapping(self) -> dict:
        """`{(r, g, b): id}` in the order of the rows, further colours of classes behind them."""
        ids = {tuple(color): i for i, color in enumerate(self.colors.tolist())}
        ids |= {tuple(bytes.fromhex(key[1:])): i for key, i in self.values.items() if key[0] == "#"}
        return {c: self.ignore_label if i in self.also_ignored else i for c, i in ids.items()}

    @functools.cached_property
    def ranges(self) -> list:
        """`(lowest, highest, id)` of what `values` lists, sorted; empty where values are ids."""
        found = []
        for key, label in self.values.items():
            ends = [NO_NUMBER] if key == "nan" else re.findall(r"(?<!\d)-?\d+", key)
            if ends and key[0] != "#":
                found.append((int(ends[0]), int(ends[-1]), label))
        return sorted(found)

    @property
    def scored_ids(self) -> tuple:
        """The ids that are learned and scored: all but the ignored one."""
        ignored = {self.ignore_label, *self.also_ignored}
        return tuple(i for i in range(self.num_classes) if i not in ignored)

    def __eq__(self, other):
        if not isinstance(other, ClassTable):
            return False
        return self.to_dict() | {"values": None} == other.to_dict() | {"values": None}

    def __hash__(self):
        return hash((self.names, self.ignore_label, self.colors.tobytes()))

    def to_dict(self) -> dict:
        """Return the table as lists and ints, for JSON; `ClassTable(**...)` reads it."""
        table = {
            "names": list(self.names),
            "colors": self.colors.tolist(),
            "ignore_label": self.ignore_label,
            "also_ignored": list(self.also_ignored),
        }
        return table | {"values": dict(self.values)} if self.values else table


def check_ignore_label(label: int | None) -> int | None:
    """Return the label that is ignored; ValueError where it is neither a whole number nor None."""
    if label is not None and (isinstance(label, bool) or not float(label).is_integer()):
        raise ValueError(f"expected ignore_label to be a whole number or None, received {label!r}")
    return label


class ClassRow(typing.NamedTuple):
    """A row as a file has it: `id` is what shows it in masks of ids, None for its place."""

    name: str
    color: tuple | None = None
    ignored: bool = False
    id: int | None = None


def read_class_table(
    path: str | os.PathLike, *, colors: ArrayLike | None = None, background: bool = False
) -> ClassTable:
    """Read a class table from a file in UTF-8.

    - `.csv` with the columns `name` (or `class`, `label`) and `r, g, b`, `color` or `id` (or
      `pixel value`); an `id` beside a colour decides the id. A row is ignored when it is named
      void, unlabelled or ignore, or where the optional column `ignore` holds 1, true, yes or x. Any
      other entry in this column counts the row.
    - `.json`: what `create_class_table` takes, such as `{name: [r, g, b]}` or a list of names.
    - `.txt`: a name a line, ids from 0, a leading `__ignore__` skipped; or `id name`, `r g b name`,
      `name r g b` or CVAT's `name:r,g,b::` a line. Lines that begin with # are comments.

    Rows of the same name are one class. Of several ignored rows, the first one's id stands for
    all. `colors` are the colours of the ids where a file has names alone; None for those of Pascal
    VOC. With `background`, a class of this name is added where ids or colours are given but 0 or
    black is not, or there is one class only: annotation tools leave it out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a row is no class.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no class table at {path}: expected CSV with name, r, g, b")
    parse = {".json": json.loads, ".txt": _parse_lines}.get(path.suffix.lower(), _parse_csv)
    try:
        content = parse(path.read_text(encoding="utf-8-sig"))
        return create_class_table(content, colors=colors, background=background)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not in UTF-8: save it again with this encoding") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None


def create_class_table(
    content, *, colors: ArrayLike | None = None, background: bool = False
) -> ClassTable:
    """Make a class table of a mapping or a list.

    Args:
        content: ClassTable, `{name: (r, g, b)}`, `{(r, g, b): name}`, `{id: name}`, `{name: id}`, a
            list of names, a list of dicts with `name` (or `title`), `color` (or `r`, `g`, `b`, or
            "#rrggbb") and perhaps `id` and `ignore`, any of these as `{"classes": …}`, or what
            `ClassTable.to_dict` gives. Rows of one name are one class; ids may have gaps.
        colors, background: as in `read_class_table`.

    Raises:
        ValueError: it is none of these, or a row has no id where others have one.

    Example:
        >>> create_class_table({"road": (128, 64, 128), "void": (0, 0, 0)}).ignore_label
        1
        >>> create_class_table(["back", "front"]).colors
        array([[  0,   0,   0],
               [128,   0,   0]], dtype=uint8)
        >>> create_class_table({0: "back", 50: "road", 100: "back"}).values
        {'0': 0, '50': 1, '100': 0}
    """
    if isinstance(content, ClassTable):
        return content
    if isinstance(content, dict) and {"names", "colors"} <= content.keys():
        return ClassTable(**content)
    rows, outside = _list_rows(content), None
    if rows[0].name == "__ignore__":  # labelme's name of the pixels of no class
        rows, outside = rows[1:], CUSTOMARY_IGNORE_LABEL
    keyed = any(row.id is not None for row in rows)
    colored = any(row.color for row in rows)
    shown = {row.id for row in rows} | {row.color for row in rows}
    if background and (keyed or colored or len(rows) == 1) and not shown & {0, (0, 0, 0)}:
        rows = [ClassRow("background", (0, 0, 0) if colored else None, id=0), *rows]
    if not keyed:
        rows = [row._replace(id=i) for i, row in enumerate(rows)]
    for row in rows:
        if row.id is None or (colored and not row.color):
            raise ValueError(f"expected an id or a colour for {row.name!r} as well")
    first, values = {}, {}
    for row in sorted(rows, key=lambda row: row.id):
        kept = first.setdefault(row.name, row)
        label = list(first).index(row.name)
        if values.setdefault(str(row.id), label) != label:
            raise ValueError(f"expected an id for each class, received {row.id} for {row.name!r}")
        if row.color != kept.color:
            values["#" + bytes(row.color).hex()] = label
    rows = list(first.values())
    if list(values) == [str(i) for i in range(len(rows))]:
        values = {}
    if colored:
        colors = [row.color for row in rows]
    elif colors is None or rows[-1].id >= len(colors):
        colors = voc_colors(len(rows))
    else:
        colors = [colors[row.id] for row in rows]
    ignored, *others = [i for i, row in enumerate(rows) if row.ignored] or [outside]
    return ClassTable(list(first), colors, ignored, tuple(others), values)


def number_classes(values: dict, classes: ClassTable | None = None) -> ClassTable:
    """Return a class table that says which values of masks show which class.

    Args:
        values: dict `{value: name}` with the keys of `ClassTable.values`; the name None for what
            is ignored.
        classes: ClassTable with these names; None for one that is made of them.

    Raises:
        ValueError: a name is not in the table, or a key is none.

    Example:
        >>> number_classes({0: "background", "rest": "nucleus"}).values
        {'0': 0, 'rest': 1}
    """
    names = dict.fromkeys(name for name in values.values() if name is not None)
    classes = create_class_table(list(names)) if classes is None else classes
    if not set(names) <= set(classes.names):
        raise ValueError(f"values= has the classes {[*names]}, the table {[*classes.names]}")
    label = classes.ignore_label
    if label is None and None in values.values():
        label = CUSTOMARY_IGNORE_LABEL
    ids = {None: label} | {name: i for i, name in enumerate(classes.names)}
    values = {key: ids[name] for key, name in values.items()}
    return dataclasses.replace(classes, ignore_label=label, values=values)


def find_tables(given, others, colors):
    """`{file or "classes=": [ClassTable, the same with a background]}`, the likeliest first.

    `given` is `classes=` of `open_dataset`, `others` the files of a data set that are no pictures,
    `colors` the colours of its masks, for tables without any.
    """
    if given is not None and not isinstance(given, str | os.PathLike):
        return {"classes=": [create_class_table(given, colors=colors)]}
    files = [] if given is None else [pathlib.Path(given)]
    for file in () if files else others:
        stem = file.stem.lower()
        if file.suffix.lower() in (".csv", ".json", ".txt") and TABLES.fullmatch(stem):
            text = file.read_bytes().decode("latin-1").lower()
            vague = VAGUE.fullmatch(stem) and not LISTS_CLASSES.search(text)
            if file.name.lower() == TABLE or not (vague or LISTED_PICTURE.search(text)):
                files.append(file)
    tables = {}
    for file in sorted(files, key=lambda f: (f.name.lower() != TABLE, len(f.parts), f)):
        try:
            both = [read_class_table(file, colors=colors, background=i) for i in (False, True)]
            tables[file] = both[:1] if both[0] == both[1] else both
        except ValueError as error:
            if given is not None or file.name.lower() == TABLE:
                raise
            warn(f"no class table is read from {error}")
    return tables


def find_table(others: list, names) -> ClassTable | None:
    """Return the class table in one of these files that has all these names, and a background."""
    for table in sum(find_tables(None, others, None).values(), []):  # noqa: RUF017
        known = {name.lower() for name in table.names}
        if set(names) <= set(table.names) | set(BACKGROUND) and not known.isdisjoint(BACKGROUND):
            return table
    return None


def write_class_table(path: str | os.PathLike, classes: ClassTable) -> None:
    """Write a class table for `read_class_table`; `values` and labels without row are lost."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "r", "g", "b", "ignore"])
        for i, (name, color) in enumerate(zip(classes.names, classes.colors.tolist(), strict=True)):
            writer.writerow([name, *color, int(i not in classes.scored_ids)])


def voc_colors(count: int) -> np.ndarray:
    """Return the colours that Pascal VOC gives to ids: the id's bits, spread over R, G and B.

    Source: Everingham et al. 2012, PASCAL VOC development kit, `VOClabelcolormap`.

    Example:
        >>> voc_colors(3).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    ids = np.arange(count)[:, None] >> 3 * np.arange(8)
    channels = ids[..., None] >> np.arange(3) & 1
    return (channels << 7 - np.arange(8)[:, None]).sum(axis=1).astype(np.uint8)


def _list_rows(content):
    """`ClassRow`s in the file's order."""
    if isinstance(content, dict) and "label_map" in content:  # Datumaro's dataset_meta.json
        items, colors = _list_items(content["label_map"]), content.get("segmentation_colors")
        content = [
            i | {"color": c} for i, c in zip(items, colors or [None] * len(items), strict=True)
        ]
    for holder in HOLDERS:
        content = content.get(holder, content) if isinstance(content, dict) else content
    if isinstance(content, dict):
        content = _list_items(content)
    if not isinstance(content, list | tuple) or not content:
        raise ValueError(
            "expected a class table as {name: [r, g, b]}, {id: name}, or a list of names or of "
            f"objects with name and color, received {content!r}"
        )
    return [_read_item(item) for item in content]


def _list_items(content):
    """Items of `{id: name}`, `{(r, g, b): name}`, `{name: id}` or `{name: color}`."""
    if all(re.fullmatch(r"-?\d+", str(key)) for key in content):
        named = {i: n if isinstance(n, dict) else {"name": n} for i, n in content.items()}
        return [{"id": i, **item} for i, item in named.items()]
    if all(isinstance(key, tuple) or COLOR.fullmatch(str(key)) for key in content):
        return [{"name": name, "color": color} for color, name in content.items()]
    numbered = all(re.fullmatch(r"-?\d{1,5}", str(value)) for value in content.values())
    return [{"name": name, "id" if numbered else "color": v} for name, v in content.items()]


def _read_item(item):
    """`ClassRow` of a name or a dict."""
    item = {"name": item} if isinstance(item, str) else item
    known = item if isinstance(item, dict) else {}
    known = {key: v.strip() if isinstance(v, str) else v for key, v in known.items()}
    fields = {re.sub(r"[^a-z]", "", str(key).lower()): value for key, value in known.items()}
    name, color, value = (
        next((fields[key] for key in keys if fields.get(key) not in (None, "")), None)
        for keys in (NAME_FIELDS, COLOR_FIELDS, ID_FIELDS)
    )
    if name is None or isinstance(name, list | tuple):
        raise ValueError(f"expected a name, or an object with name and color, received {item!r}")
    for channels in CHANNELS:
        if color is None and channels[0] in fields:
            color = [fields.get(channel) for channel in channels]
    try:
        if isinstance(color, str):
            digits = re.fullmatch(r"(?:#|0x)?([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?", color)
            color = bytes.fromhex(digits[1]) if digits else re.findall(r"[\d.]+", color)
        color = tuple(int(str(c)) for c in color) if color else None
    except (TypeError, ValueError):
        raise ValueError(f"expected a colour r, g, b for {name!r}, received {color!r}") from None
    marks = (fields.get(key) for key in ("ignore", "ignored", "ignoreineval"))
    marked = next((str(mark).lower() for mark in marks if mark is not None), "")
    by_name = re.sub(r"[^a-z]", "", str(name).lower()) in IGNORED_NAMES
    ignored = marked in ("1", "1.0", "true", "yes", "x") if marked else by_name
    # A title is of Supervisely, whose ids are not those of masks.
    known = "title" not in fields and value != name and re.fullmatch(r"-?\d+", str(value))
    return ClassRow(str(name), color, ignored, int(value) if known else None)


def _parse_csv(text):
    lines = [line for line in text.splitlines() if line.strip(" ,;\t") and line[0] != "#"]
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    rows = list(csv.DictReader(lines, restval="", delimiter=delimiter, skipinitialspace=True))
    if any(row.id is None and not row.color for row in map(_read_item, rows)):
        raise ValueError(f"expected the columns name, r, g, b or id, name, received {lines[0]!r}")
    return rows


def _parse_lines(text):
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] != "#"]
    color = r"(\d+(?:\.\d+)?)[\s,;]+(\d+(?:\.\d+)?)[\s,;]+(\d+(?:\.\d+)?)"
    pattern = rf"\b{color}[\s,;]+(?!\d+(?:[\s,;]|$))|[\s,;:]+{color}(:.*)?$"
    items = []
    for line in lines:
        found = re.search(pattern, line)
        item = {"name": line.replace(found[0], "") if found else line}
        items.append(item | {"color": [n for n in found.groups()[:6] if n]} if found else item)
    numbered = [re.fullmatch(r"(\d+)\s*[=:,;.\s]\s*(\D.*)", item["name"]) for item in items]
    if all(numbered):
        return [i | {"id": m[1], "name": m[2]} for i, m in zip(items, numbered, strict=True)]
    bare = [item["name"] for item in items if "color" in item and item["name"].isdecimal()]
    if bare:
        raise ValueError(f"expected a name beside id and colour, received {bare[0]!r} alone")
    return items
