"""Which classes the masks of a data set show: as given, as a file beside them says, or as found."""

import collections
import csv
import dataclasses
import functools
import os
import pathlib
import re
import warnings

import numpy as np

from seglib.classes import (
    CUSTOMARY_IGNORE_LABEL,
    ClassTable,
    create_class_table,
    read_class_table,
    voc_colors,
)
from seglib.images import SUFFIXES, DatasetError
from seglib.masks import (
    BINARY,
    choose_encoding,
    propose_class_table,
    propose_from_survey,
    survey_masks,
)

TABLE = "class_dict.csv"
OTHER_TABLES = re.compile("class_dict|_?classes|class_names|labels|((label|class)_)?colors")
LISTED_PICTURE = re.compile("|".join(rf"\{suffix}\b" for suffix in SUFFIXES))


def find_classes(
    path, given, others: list, masks: list, encoding: str = "auto", images: list | None = None
) -> tuple:
    """Return `(ClassTable, encoding)`: which classes masks show, and how.

    Args:
        path: path of the data set's folder, for messages.
        given: what the caller of `open_dataset` passed as `classes`, or None.
        others: paths of the folder's files that are no pictures; a class table may be among them.
        masks: paths of all masks.
        encoding: as of `open_dataset`.
        images: paths of their photographs, whose names tell a well-known data set; or None.

    Raises:
        DatasetError: there is no class table, and the masks are of colours.
    """
    survey = survey_masks(masks)
    classes = _read_table(given, others, survey)
    known = classes is None and find_known_classes(path, images or masks, masks, survey)
    if known:
        name, classes, known_encoding = known
        encoding = known_encoding if encoding == "auto" else encoding
        warnings.warn(
            f"{path}: taken for {name}, whose {len(classes.scored_ids)} classes are known: pass "
            f"classes=… to open_dataset, or write {path / TABLE}, for other ones",
            stacklevel=3,
        )
    if classes is None:
        classes = propose_from_survey(survey)
        if classes is None:
            proposed = propose_class_table(masks, lossy=survey.lossy)
            rows = zip(proposed.names, proposed.colors.tolist(), strict=True)
            raise DatasetError(
                f"no class table for {path}: write {path / TABLE} with the lines below (or "
                "another file, and pass its path as classes), and give each class its name\n"
                + "\n".join(["name,r,g,b", *(f"{name},{r},{g},{b}" for name, (r, g, b) in rows)])
            )
        if classes is not BINARY:
            warnings.warn(
                f"no class table for {path}: the masks hold ids from 0 to "
                f"{classes.num_classes - 1}, named {classes.names[0]} to {classes.names[-1]}; "
                f"write {path / TABLE}, or pass classes=[…], to give them names",
                stacklevel=3,
            )
    if encoding == "auto":
        encoding = choose_encoding(survey, classes, source=path)
    unnamed = classes.ignore_label is None and classes.num_classes <= CUSTOMARY_IGNORE_LABEL
    if encoding == "ids" and unnamed and CUSTOMARY_IGNORE_LABEL in survey.values:
        classes = dataclasses.replace(classes, ignore_label=CUSTOMARY_IGNORE_LABEL)
    return classes, encoding


def _read_table(given, others, survey):
    """The ClassTable that was given, or is in a file of the data set's; else None.

    Where it has names alone, its colours are those that the masks' palettes have for ids.
    """
    colors = None
    if survey.palette and not survey.conflict:
        colors = voc_colors(256)
        colors[list(survey.palette)] = list(survey.palette.values())
        colors = colors if len(np.unique(colors, axis=0)) == len(colors) else None
    if isinstance(given, str | os.PathLike):
        return read_class_table(given, colors=colors)
    if given is not None:
        return create_class_table(given, colors=colors)
    files = [
        (f.name.lower() != TABLE, len(f.parts), f)
        for f in others
        if f.suffix.lower() in (".csv", ".json", ".txt") and OTHER_TABLES.fullmatch(f.stem.lower())
    ]
    for is_other, _, file in sorted(files):
        try:
            table = read_class_table(file, colors=colors)
        except ValueError:
            if not is_other:
                raise
            continue  # a file of another kind with such a name
        if not any(LISTED_PICTURE.search(name.lower()) for name in table.names):
            return table
    return None


# Well-known data sets


KNOWN = pathlib.Path(__file__).with_name("known_classes.csv")


def find_known_classes(path, images, masks, survey) -> tuple | None:
    """Return `(name, ClassTable, encoding)` of the well-known data set that masks are of, or None.

    It is known by the names of its files and folders below `path`, and by the values or colours in
    its masks; what the folder `path` is called does not count.
    """
    pairs = zip(images, masks, strict=True)
    names = ["\n".join(os.path.relpath(half, path) for half in pair) for pair in pairs]
    names = [name.replace(os.sep, "/") for name in names]
    rules, tables = _read_known()
    for rule in rules:
        if all(re.search(rule["masks"], name, re.IGNORECASE) for name in names):
            classes = _fit_known(tables[rule["data_set"]], rule["encoding"], masks, survey)
            if classes is not None:
                return rule["data_set"], classes, rule["encoding"].split()[0]
    return None


@functools.cache
def _read_known():
    """`(rules, tables)`: rows that say which masks a data set has, and rows of classes by name."""
    rules, tables = [], collections.defaultdict(list)
    with open(KNOWN, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            (tables[row["data_set"]] if row["id"] else rules).append(row)
    return rules, tables


def _fit_known(rows, encoding, masks, survey):
    """The ClassTable of these rows, if the masks hold nothing else; None if they do.

    Where the encoding is `ids // 1000`, masks show objects; smaller values are classes as they are.
    """
    ids, hexes = ([row[key] for row in rows] for key in ("id", "color"))
    color_of = dict(zip(map(int, ids), hexes, strict=True))
    if encoding == "colors":
        found = propose_class_table(masks, lossy=survey.lossy).colors if survey.colored else [()]
        return _make_known(rows) if {_to_hex(color) for color in found} <= set(hexes) else None
    divisor = int(encoding.partition("//")[2] or 1)
    shown = {v if v < divisor == 1000 else v // divisor for v in survey.values}
    palette = {v: _to_hex(color) for v, color in survey.palette.items() if color_of.get(v)}
    if (
        survey.colored
        or not shown
        or not shown <= {*color_of, CUSTOMARY_IGNORE_LABEL}
        or any(color_of[v] != color for v, color in palette.items())
    ):
        return None
    classes = _make_known([row for row in rows if int(row["id"]) != CUSTOMARY_IGNORE_LABEL])
    if divisor == 1:
        return classes
    values = {f"{i * divisor}-{(i + 1) * divisor - 1}": i for i in color_of}
    if divisor == 1000:
        values = {str(i): i for i in color_of} | {k: i for k, i in values.items() if i}
    return dataclasses.replace(classes, values=values)


def _to_hex(color):
    return "#" + bytes(color).hex()


def _make_known(rows):
    """ClassTable of rows; a colour that an earlier row has is made a little bluer."""
    colors = voc_colors(len(rows)).tolist()
    for i, row in enumerate(rows):
        color = list(bytes.fromhex(row["color"][1:])) or colors[i]
        while color in colors[:i]:
            color[2] += 1 if color[2] < 255 else -255
        colors[i] = color
    ignored = [i for i, row in enumerate(rows) if row["ignored"] == "1"]
    first, *others = ignored or [None]
    return ClassTable([row["name"] for row in rows], colors, first, tuple(others))
