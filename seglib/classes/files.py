"""Class tables from the files that come with masks, and from mappings."""

import csv
import json
import pathlib
import re

import numpy as np

from seglib.classes import ClassTable

IGNORED_NAMES = frozenset(
    {"void", "unlabelled", "unlabeled", "ignore", "ignored", "backgroundtoignore"}
)
YES = frozenset({"1", "true", "yes", "y", "x"})
CUSTOMARY_IGNORE_LABEL = 255
ID_COLUMNS, NAME_COLUMNS = ("id", "pixel value", "value"), ("name", "class", "label")


def read_class_table(path, *, colors=None):
    """Read a class table from a file.

    - `.csv` with the columns `name, r, g, b`; or `id` (or `pixel value`) and `name` (or `class`).
      A row is ignored when it is named void, unlabelled or ignore, in any case and spelling;
      where the optional column `ignore` says something, 1, true or yes against anything else,
      that decides.
    - `.json`: `{name: [r, g, b]}`, a list of names, a list of objects with `name` and `color`
      (and `ignore`), `{id: name}`, `{name: id}`, or what `ClassTable.to_dict` gives.
    - `.txt`: a name a line, ids from 0, a leading `__ignore__` skipped; or `id name`, `r g b name`
      or `name r g b` a line.

    Should several rows be ignored, the first one's id stands for all of them.

    Args:
        path: str or path of the file.
        colors: int array `(n, 3)` or None, the colours of the ids where a file has names
            alone; None for those that Pascal VOC gives them.

    Returns:
        ClassTable; ids follow the order of the rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a row is no class.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no class table at {path}: expected a CSV file with the columns name, r, g, b"
        )
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json":
        try:
            return create_class_table(json.loads(text), colors=colors)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: {error}") from None
    rows = _read_lines(path, text) if path.suffix.lower() == ".txt" else _read_csv(path, text)
    try:
        return _create_from_rows(rows, colors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def create_class_table(content, *, colors=None):
    """Make a class table of a mapping or a list.

    Args:
        content: ClassTable, `{name: (r, g, b)}`, `{(r, g, b): name}`, `{id: name}`, a list of
            names, or a list of dicts with `name`, `color` and perhaps `ignore`.
        colors: int array `(n, 3)` or None, the colours of the ids where there are names
            alone; None for those that Pascal VOC gives them.

    Returns:
        ClassTable.

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
    if isinstance(content, dict) and "names" in content and "colors" in content:
        return ClassTable(**content)
    if isinstance(content, dict) and isinstance(content.get("classes"), list | dict):
        content = content["classes"]
    if isinstance(content, dict) and content:
        rows = _rows_from_mapping(content)
    elif isinstance(content, list | tuple) and content:
        rows = [_row_from_item(item) for item in content]
    else:
        raise ValueError(
            "expected a class table as {name: [r, g, b]}, {id: name}, a list of names or a list "
            f"of objects with name and color, received {type(content).__name__}"
        )
    return _create_from_rows(rows, colors)


def write_class_table(path, classes):
    """Write a class table as CSV, so that `read_class_table` gives it back.

    An ignored label outside the table, such as 255, has no row and is not kept.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "r", "g", "b", "ignore"])
        for i, (name, color) in enumerate(zip(classes.names, classes.colors.tolist(), strict=True)):
            writer.writerow([name, *color, int(i not in classes.scored_ids)])


def voc_colors(count):
    """Return the colours that Pascal VOC gives to ids: the id's bits, spread over R, G and B.

    Args:
        count: int up to 256.

    Returns:
        uint8 array `(count, 3)`.

    Source: Everingham et al. 2012, PASCAL VOC development kit, `VOClabelcolormap`.

    Example:
        >>> voc_colors(3).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    ids = np.arange(count)[:, None] >> 3 * np.arange(8)
    channels = ids[..., None] >> np.arange(3) & 1
    return (channels << 7 - np.arange(8)[:, None]).sum(axis=1).astype(np.uint8)


def _create_from_rows(rows, colors):
    """Class table of `(name, color or None, ignore or None)`, a row an id."""
    if rows and rows[0][0] == "__ignore__":
        rows, outside = rows[1:], CUSTOMARY_IGNORE_LABEL
    else:
        outside = None
    if all(color is None for _, color, _ in rows):
        colors = voc_colors(len(rows)) if colors is None else colors[: len(rows)]
    else:
        colors = [color for _, color, _ in rows]
        if None in colors:
            raise ValueError(f"the class {rows[colors.index(None)][0]!r} has no colour")
    ignored = [
        i for i, (name, _, ignore) in enumerate(rows)
        if (_plain(name) in IGNORED_NAMES if ignore is None else ignore)
    ]  # fmt: skip
    return ClassTable(
        names=[name for name, _, _ in rows],
        colors=np.array(colors, int).reshape(-1, 3),
        ignore_label=ignored[0] if ignored else outside,
        also_ignored=tuple(ignored[1:]),
    )


def _plain(name):
    return re.sub(r"[^a-z]", "", name.lower())


def _read_csv(path, text):
    reader = csv.reader(text.splitlines())
    lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    lines = [(number, row) for number, row in lines if any(row)]
    header = [cell.lower() for cell in lines[0][1]] if lines else []
    missing = [column for column in ("name", "r", "g", "b") if column not in header]
    by_id = [next((header.index(word) for word in words if word in header), None)
             for words in (ID_COLUMNS, NAME_COLUMNS)]  # fmt: skip
    if missing and None not in by_id:
        return _rows_from_mapping({row[by_id[0]]: row[by_id[1]] for _, row in lines[1:]})
    if missing:
        raise ValueError(
            f"{path}: expected the columns name, r, g, b in the first line, "
            f"received {header}; missing: {', '.join(missing)}"
        )
    return [_parse_row(path, line, dict(zip(header, row, strict=False))) for line, row in lines[1:]]


def _parse_row(path, line, row):
    try:
        name, color = row["name"], tuple(int(row[channel]) for channel in "rgb")
    except (KeyError, ValueError):
        raise ValueError(
            f"{path}, line {line}: expected name, r, g, b with colours in 0..255, "
            f"received {list(row.values())}"
        ) from None
    marked = row.get("ignore", "").lower()
    return name, color, marked in YES if marked else None


def _read_lines(path, text):
    lines = list(filter(None, map(str.strip, text.splitlines())))
    numbered = [re.fullmatch(r"(\d+)\s*[:,;\s]\s*(\D.*)", line) for line in lines]
    if lines and all(numbered):
        return _rows_from_mapping({match[1]: match[2] for match in numbered})
    rows = []
    for line in lines:
        color = r"(\d+)[\s,]+(\d+)[\s,]+(\d+)"
        first, last = (
            re.fullmatch(rf"{color}[\s,]+(.+)", line),
            re.fullmatch(rf"(.+?)[\s,:]+{color}", line),
        )
        if first:
            rows.append((first[4], tuple(map(int, first.groups()[:3])), None))
        elif last:
            rows.append((last[1], tuple(map(int, last.groups()[1:])), None))
        else:
            rows.append((line, None, None))
    if not rows:
        raise ValueError(f"{path}: expected a class name a line, received an empty file")
    return rows


def _rows_from_mapping(content):
    if all(re.fullmatch(r"\d+", str(key)) for key in content):
        names = {int(key): name for key, name in content.items()}
        missing = set(range(max(names) + 1)) - set(names)
        if missing:
            raise ValueError(
                f"expected a name for each id from 0 to {max(names)}, received none for "
                f"{sorted(missing)[:8]}"
            )
        return [_row_from_item(names[i]) for i in range(len(names))]
    if all(isinstance(value, int) for value in content.values()):
        return _rows_from_mapping({str(i): str(name) for name, i in content.items()})
    if all(isinstance(key, tuple) for key in content):
        content = {name: color for color, name in content.items()}
    return [_row_from_item({"name": name, "color": color}) for name, color in content.items()]


def _row_from_item(item):
    if isinstance(item, str):
        return item, None, None
    if isinstance(item, dict) and "title" in item:
        item = {"name": item["title"], **item}
    if not isinstance(item, dict) or "name" not in item:
        raise ValueError(f"expected a name, or an object with name and color, received {item!r}")
    color = item.get("color", [item[c] for c in "rgb"] if "r" in item else None)
    if isinstance(color, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        color = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    if color is not None and np.shape(color) != (3,):
        raise ValueError(f"expected a colour [r, g, b] for {item['name']!r}, received {color!r}")
    return str(item["name"]), color, bool(item["ignore"]) if "ignore" in item else None
