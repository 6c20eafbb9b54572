"""Class names, their colours, and the label that is ignored."""

import collections
import csv
import dataclasses
import functools
import json
import os
import pathlib
import re

import numpy as np
from numpy.typing import ArrayLike

IGNORED_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "ignored", "backgroundtoignore")
CUSTOMARY_IGNORE_LABEL = 255


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

    Raises:
        ValueError: the table is empty, a name or colour occurs twice, or a colour is no RGB
            triple in [0, 255].

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
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "colors", colors)
        object.__setattr__(self, "also_ignored", tuple(map(int, self.also_ignored)))

    @property
    def num_classes(self) -> int:
        """The number of rows, an ignored row included."""
        return len(self.names)

    @functools.cached_property
    def mapping(self) -> dict:
        """`{(r, g, b): id}` in the order of the rows."""
        ids = [self.ignore_label if i in self.also_ignored else i for i in range(self.num_classes)]
        return dict(zip(map(tuple, self.colors.tolist()), ids, strict=True))

    @property
    def scored_ids(self) -> tuple:
        """The ids that are learned and scored: all but the ignored one."""
        ignored = {self.ignore_label, *self.also_ignored}
        return tuple(i for i in range(self.num_classes) if i not in ignored)

    def __eq__(self, other):
        return isinstance(other, ClassTable) and self.to_dict() == other.to_dict()

    def __hash__(self):
        return hash((self.names, self.ignore_label, self.colors.tobytes()))

    def to_dict(self) -> dict:
        """Return the table as lists and ints, for JSON; `ClassTable(**...)` reads it."""
        return {
            "names": list(self.names),
            "colors": self.colors.tolist(),
            "ignore_label": self.ignore_label,
            "also_ignored": list(self.also_ignored),
        }


def check_ignore_label(label: int | None) -> int | None:
    """Return the label that is ignored; ValueError where it is neither a whole number nor None."""
    if label is not None and (isinstance(label, bool) or not float(label).is_integer()):
        raise ValueError(f"expected ignore_label to be a whole number or None, received {label!r}")
    return label


def read_class_table(path: str | os.PathLike, *, colors: ArrayLike | None = None) -> ClassTable:
    """Read a class table from a file.

    - `.csv` with the columns `name, r, g, b`; or `id` (or `pixel value`) and `name` (or `class`).
      A row is ignored when it is named void, unlabelled or ignore, or where the optional column
      `ignore` holds 1 or true. Any other entry in this column counts the row.
    - `.json`: what `create_class_table` takes, such as `{name: [r, g, b]}` or a list of names.
    - `.txt`: a name a line, ids from 0, a leading `__ignore__` skipped; or `id name`, `r g b name`
      or `name r g b` a line.

    Of several ignored rows, the first one's id stands for all. `colors` are the colours of the ids
    where a file has names alone; None for those of Pascal VOC.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a row is no class.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no class table at {path}: expected CSV with name, r, g, b")
    parse = {".json": json.loads, ".txt": _parse_lines}.get(path.suffix.lower(), _parse_csv)
    try:
        return create_class_table(parse(path.read_text(encoding="utf-8-sig")), colors=colors)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from None


def create_class_table(content, *, colors: ArrayLike | None = None) -> ClassTable:
    """Make a class table of a mapping or a list.

    Args:
        content: ClassTable, `{name: (r, g, b)}`, `{(r, g, b): name}`, `{id: name}`, a list of
            names, a list of dicts with `name` (or `title`), `color` (or `r`, `g`, `b`, or
            "#rrggbb") and perhaps `ignore`, any of these as `{"classes": …}`, or what
            `ClassTable.to_dict` gives.
        colors: int array `(n, 3)` or None, as in `read_class_table`.

    Raises:
        ValueError: it is none of these, or an id is left out.

    Example:
        >>> create_class_table({"road": (128, 64, 128), "void": (0, 0, 0)}).ignore_label
        1
        >>> create_class_table(["back", "front"]).colors
        array([[  0,   0,   0],
               [128,   0,   0]], dtype=uint8)
    """
    if isinstance(content, ClassTable):
        return content
    if isinstance(content, dict):
        if {"names", "colors"} <= content.keys():
            return ClassTable(**content)
        content = content.get("classes", content)
    if isinstance(content, dict):
        content = _list_items(content)
    if not isinstance(content, list | tuple) or not content:
        raise ValueError(
            "expected a class table as {name: [r, g, b]}, {id: name}, or a list of names or of "
            f"objects with name and color, received {content!r}"
        )
    rows, outside = [_read_item(item) for item in content], None
    if rows[0][0] == "__ignore__":  # labelme's name of the pixels of no class
        rows, outside = rows[1:], CUSTOMARY_IGNORE_LABEL
    names, own_colors, ignored = zip(*rows, strict=True)
    if any(own_colors):
        colors = np.array(own_colors, int)
    elif colors is None:
        colors = voc_colors(len(rows))
    first, *others = np.flatnonzero(ignored).tolist() or [outside]
    return ClassTable(names, colors[: len(rows)], first, tuple(others))


def write_class_table(path: str | os.PathLike, classes: ClassTable) -> None:
    """Write a class table as CSV for `read_class_table`; an ignored label without row is lost."""
    with open(path, "w", newline="", encoding="utf-8") as file:
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


def _list_items(content):
    """Items of `{id: name}`, `{(r, g, b): name}` or `{name: color}`, in the order of the ids."""
    if all(re.fullmatch(r"\d+", str(key)) for key in content):
        names = {int(key): name for key, name in content.items()}
        ids = sorted(names)
        if ids != list(range(len(ids))):
            raise ValueError(f"expected a name for each id from 0 to {ids[-1]}, received {ids}")
        return [names[i] for i in ids]
    if all(isinstance(key, tuple) for key in content):
        content = {name: color for color, name in content.items()}
    return [{"name": name, "color": color} for name, color in content.items()]


def _read_item(item):
    """`(name, color or None, whether it is ignored)` of a name or a dict."""
    if isinstance(item, str):
        item = {"name": item}
    name = item.get("name", item.get("title")) if isinstance(item, dict) else None
    if name is None:
        raise ValueError(f"expected a name, or an object with name and color, received {item!r}")
    color = item.get("color", [item.get(c) for c in "rgb"] if "r" in item else None)
    try:
        if isinstance(color, str):
            color = bytes.fromhex(color.removeprefix("#"))
        color = color and tuple(map(int, color))
    except (TypeError, ValueError):
        raise ValueError(f"expected a colour r, g, b for {name!r}, received {color!r}") from None
    marked = str(item.get("ignore", "")).lower()
    by_name = re.sub(r"[^a-z]", "", str(name).lower()) in IGNORED_NAMES
    return str(name), color, marked in ("1", "true") if marked else by_name


def _parse_csv(text):
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    header, *rows = [row for row in rows if any(row)] or [[]]
    header = [cell.lower() for cell in header]
    rows = [dict(zip(header, row, strict=False)) for row in rows]
    if {"name", "r", "g", "b"} <= set(header):
        return rows
    ids = [column for column in ("id", "pixel value", "value") if column in header]
    names = [column for column in ("name", "class", "label") if column in header]
    if not (ids and names):
        raise ValueError(f"expected the columns name, r, g, b in the first line, received {header}")
    return {row[ids[0]]: row[names[0]] for row in rows}


def _parse_lines(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d+)\s*[:,;\s]\s*(\D.*)", line) for line in lines]
    if all(numbered):
        return dict(match.groups() for match in numbered)
    number, items = r"(\d+)[\s,]+", []
    for line in lines:
        color = re.search(rf"^{3 * number}|[\s,:]+{2 * number}(\d+)$", line)
        name = line.replace(color[0], "") if color else line
        items.append({"name": name, "color": [n for n in color.groups() if n] if color else None})
    return items
