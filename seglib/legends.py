"""Which classes the masks of a data set show: as given, as a file beside them says, or as found."""

import collections
import contextlib
import csv
import dataclasses
import os
import pathlib
import re
import types

import numpy as np
from scipy import ndimage

from seglib import masks
from seglib.annotations import BACKGROUND
from seglib.classes import (
    CUSTOMARY_IGNORE_LABEL,
    ClassTable,
    create_class_table,
    number_classes,
    read_class_table,
    voc_colors,
)
from seglib.images import SUFFIXES, DatasetError
from seglib.masks import BINARY, find_ids, list_values
from seglib.system import warn

TABLE = "class_dict.csv"
# What tools call their class tables; some names count only where the file lists classes.
TABLES = re.compile(
    r"(label_)?class_dict(_seg)?|_?classes|(class|label)_(names|classes|list)|label_?map|labels"
    r"|((label|class)_)?(colors|codes)|obj_class_to_machine_color|dataset_meta|meta|config.*"
)
VAGUE = re.compile("meta|config.*")
LISTS_CLASSES = re.compile(r'"(classes|labels|label_map|id2label)"')
LISTED_PICTURE = re.compile("|".join(rf"\{suffix}\b" for suffix in SUFFIXES))
FEW = 8  # masks whose colours or regions are looked at
MANY_OBJECTS = 10  # in a mask: their numbers may have gaps, and are no classes all the same


def find_classes(path, given, others: list, paths: list, encoding, values, images: list) -> tuple:
    """Return `(ClassTable, encoding)`: which classes masks show, and how.

    Args:
        path: path of the data set's folder, for messages.
        given: what the caller of `open_dataset` passed as `classes`, or None.
        others: paths of the folder's files that are no pictures; a class table may be among them.
        paths: paths of all masks.
        encoding, values: as of `open_dataset`.
        images: paths of their photographs, whose names tell a well-known data set.

    Raises:
        DatasetError: no class table beside the masks fits them, or two fit differently; there is
            none, and the masks are of colours; or they are ids in JPEG, or cannot be read.
    """
    survey, unfit = masks.survey_masks(paths), []
    tables = _read_tables(given, others, survey.colors)
    if values is None:
        classes, unfit = _choose_table(tables, paths, survey, encoding)
    elif survey.colored:
        raise DatasetError(
            f"{path}: values= is for masks of one channel, but {survey.colored} masks are of "
            "colours: pass classes={(r, g, b): name, …} instead"
        )
    else:
        named = None if given is None else next(iter(tables.values()))[0]
        classes, encoding = number_classes(values, named), "ids"
    if classes is None and given is None:
        classes, shown = find_known_classes(path, images, paths, survey)
        encoding = shown if encoding == "auto" else encoding
    if encoding in ("auto", "binary"):
        found = [both[0] for both in tables.values()] if classes is None else [classes]
        _refuse_lossy_ids(path, found, survey, encoding)
    if classes is None:
        classes = _propose(path, paths, survey, encoding, unfit)
    if encoding == "auto":
        encoding = masks.choose_encoding(survey, classes)
    if encoding == "binary":
        encoding, classes = _check_binary(path, classes, survey)
    if encoding == "ids":
        classes = _ignore_no_data(path, classes, survey)
    return classes, encoding


def _check_binary(path, classes, survey):
    """Tell of doubtful black and white; `(encoding, ClassTable)`, of ids where nothing is white."""
    if classes.names[1].lower() in BACKGROUND:
        raise DatasetError(
            f"{path}: the class table has {classes.names[1]} second, which white would show: write "
            f'it first, or pass values={{0: "background", "rest": {classes.names[0]!r}}}'
        )
    if survey.mixes_whites():
        warn(
            f"{path}: some masks are of 0 and 1, others of 0 and 255: 1 and 255 are taken for one "
            'class; pass encoding="ids" to ignore 255'
        )
    if survey.blends():
        warn(f"{path}: black and white are blended: values from 128 on are white")
    bright = sum(n for value, n in survey.values.items() if 231 <= value <= 255 or value == 65535)
    is_white = 2 * bright >= survey.values.total() - survey.values[0]
    if is_white or survey.colored or survey.lossy or survey.blends():
        return "binary", classes
    return "ids", dataclasses.replace(classes, values={"0": 0, "rest": 1})


def _ignore_no_data(path, classes, survey):
    """The class table that ignores what masks of ids hold besides: 255, NaN, negative numbers."""
    strange = [value for value in survey.values if not find_ids(value, classes)[1]]
    missing = sorted(value for value in strange if value < 0)[:2]
    if classes.num_classes > CUSTOMARY_IGNORE_LABEL or not (
        missing or CUSTOMARY_IGNORE_LABEL in strange
    ):
        return classes
    in_order = [*range(classes.num_classes - 1), CUSTOMARY_IGNORE_LABEL]
    if classes.ignore_label is None and sorted(survey.values) == in_order:
        words = f"255 is ignored, not {classes.names[-1]}; pass values={{…, 255: name}} to name it"
        warn(f"{path}: {words}")
    label, values = classes.ignore_label, classes.values
    label = CUSTOMARY_IGNORE_LABEL if label is None else label
    if missing:
        keys = [list_values([value]).lower() for value in missing]
        share = sum(survey.values[value] for value in missing) / survey.values.total()
        warn(
            f"{path}: {list_values(missing)} ({share:.1%} of the masks' pixels) is taken for no "
            f"data and ignored; pass values={{…, {keys[0]!r}: name}} to open_dataset to name it"
        )
        rows = {} if classes.ranges else {str(i): i for i in range(classes.num_classes)}
        values = rows | values | dict.fromkeys(keys, label)
    return dataclasses.replace(classes, ignore_label=label, values=values)


def _refuse_lossy_ids(path, tables, survey, encoding):
    """Raise DatasetError where grey ids are in a lossy format, or may be."""
    if survey.colored or not (survey.lossy and survey.values) or survey.looks_binary():
        return
    alone = any(np.array_equal(table.colors, voc_colors(table.num_classes)) for table in tables)
    if (alone and encoding == "auto") or max(survey.values) < masks.MERGE_DISTANCE:
        raise DatasetError(
            f"{path}: the masks are JPEG or WebP and hold ids ({list_values(sorted(survey.values))}"
            "), which compression changes into other ids: export them as PNG"
        )


def _propose(path, paths, survey, encoding, unfit):
    """The class table of masks that say enough by themselves."""
    if survey.fault and not (survey.values or survey.colored):
        raise survey.fault
    classes = BINARY if encoding == "binary" else propose_from_survey(survey)
    advice = 'pass classes=["background", …] to open_dataset to name them'
    if classes not in (None, BINARY) and _are_objects(paths):
        advice = (
            'pass values={0: "background", "rest": "object"} to open_dataset for one class, since '
            f"they seem to number objects, up to {classes.num_classes - 1} in a picture"
        )
    if unfit:
        raise DatasetError(
            f"{path}: no class table fits the masks: {'; '.join(unfit)}: correct it, or {advice}"
        )
    if classes is None and survey.values and not survey.shown:
        raise DatasetError(
            f"{path}: the masks hold the values {list_values(sorted(survey.values))}: pass "
            'values={0: "background", …} to open_dataset to name them, or None to ignore one'
        )
    if classes is None:
        proposed = masks.propose_class_table(paths, lossy=survey.lossy)
        rows = zip(proposed.names, proposed.colors.tolist(), strict=True)
        raise DatasetError(
            f"no class table for {path}: write {path / TABLE} with the lines below (or "
            "another file, and pass its path as classes), and give each class its name\n"
            + "\n".join(["name,r,g,b", *(f"{name},{r},{g},{b}" for name, (r, g, b) in rows)])
        )
    if classes is not BINARY:
        warn(
            f"no class table for {path}: the masks hold ids from 0 to {classes.num_classes - 1}, "
            f"named {classes.names[0]} to {classes.names[-1]}: {advice}"
        )
    return classes


def propose_from_survey(survey: masks.Survey) -> ClassTable | None:
    """Return the class table of masks of ids, `BINARY` for black and white; None for others."""
    if survey.colored or not survey.values:
        return None
    if survey.looks_binary() or set(survey.shown) == set(BINARY.mapping):
        return BINARY
    ids = {v for v in survey.values if v >= 0 and v != CUSTOMARY_IGNORE_LABEL}
    if survey.conflict or survey.lossy or not ids:
        return None
    names = [f"class_{i}" for i in range(max(ids) + 1)]
    shades = not ids <= survey.palette.keys() and 2 * len(ids) < len(names)
    return None if shades else create_class_table(names, colors=survey.colors)


def _are_objects(paths):
    """Whether ids number objects: one region each, counted from 1 on in each mask."""
    highest, corners = set(), np.ones((3, 3))
    for path in paths[:: -(-len(paths) // FEW)]:
        with contextlib.suppress(DatasetError):
            labels, _, _ = masks.read_mask(path, BINARY, encoding="ids")
            boxes = enumerate(ndimage.find_objects(labels), 1)
            regions = [box and ndimage.label(labels[box] == i, corners)[1] for i, box in boxes]
            highest.add(len(regions))
            if sum(map(bool, regions)) >= MANY_OBJECTS:
                regions = [number for number in regions if number]
            if regions.count(1) < 0.9 * len(regions):  # some are left out, or cut in two
                return False
    return len(highest) > 1 and max(highest) > 2


# Class tables in files


def _read_tables(given, others, colors):
    """`{file or "classes=": [ClassTable, the same with a background]}`, the likeliest first."""
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
    for table in sum(_read_tables(None, others, None).values(), []):  # noqa: RUF017
        known = {name.lower() for name in table.names}
        if set(names) <= set(table.names) | set(BACKGROUND) and not known.isdisjoint(BACKGROUND):
            return table
    return None


def _choose_table(tables, paths, survey, encoding):
    """`(the class table that fits the masks or None, why the others do not)`."""
    fits = []
    for file, both in tables.items():
        mine = [_judge(file, table, paths, survey, encoding) for table in both]
        fits.append(min(mine, key=lambda fit: (fit.rank[0], fit.rank[2])))
    best = min(fits, key=lambda fit: fit.rank, default=None)
    if best is None or best.rank[0]:
        words = "{0.file} has no row for {0.missing} ({0.unknown:.1%} of the pixels)"
        return None, [words.format(fit) for fit in fits]
    for other in (fit for fit in fits if fit.rank == best.rank):
        for value in sorted(best.shows.keys() & other.shows.keys()):
            if best.shows[value] != other.shows[value]:
                raise DatasetError(
                    f"{best.file} and {other.file} both fit the masks, but {value} is "
                    f"{best.shows[value]!r} in the one and {other.shows[value]!r} in the other: "
                    "pass the path of the right one as classes= to open_dataset"
                )
    if best.table is not tables[best.file][0]:
        warn(
            f"{best.file} has no row for the masks' value 0, or black, which is taken for a class "
            "named background; pass classes= or values= to open_dataset for another reading"
        )
    return best.table, []


def _judge(file, table, paths, survey, encoding):
    """How a class table fits the masks.

    `unknown` is the share of pixels that it does not explain, `missing` the commonest value or
    colour of these, `shows` is `{value or colour: name}`. The lowest `rank` fits best; its last
    item is whether ids are rows, although the table has colours.
    """
    if encoding == "auto":
        encoding = masks.choose_encoding(survey, table)
    strange, shares, shows = collections.Counter(), [], table.mapping
    if encoding == "colors" and (survey.values or survey.colored):
        for path in paths[:: -(-len(paths) // FEW)]:
            with contextlib.suppress(DatasetError):
                _, pixels, lossy = masks.read_mask(path, table, encoding="colors")
                unknown = masks.find_unknown_colors(pixels, table, lossy=lossy)
                shares.append(unknown.mean())
                strange.update(map(tuple, pixels[unknown].tolist()))
    elif encoding == "ids":
        shows = table.values or {str(i): i for i in range(table.num_classes)}
        is_white = survey.looks_binary() and not survey.mixes_whites()
        usual = () if is_white else (CUSTOMARY_IGNORE_LABEL,)
        for value, count in survey.values.items():
            if value >= 0 and value not in usual and not find_ids(value, table)[1]:
                strange[value] = count
        shares = [strange.total() / max(1, survey.values.total())]
    ((missing, _),) = strange.most_common(1) or [("", 0)]
    by_order = encoding == "ids" and not table.ranges
    by_order &= not np.array_equal(table.colors, voc_colors(table.num_classes))
    names = [re.sub(r"\W|_", "", name.lower()) for name in table.names]
    shows = {key: names[label] for key, label in shows.items() if label < len(names)}
    unknown = float(np.median(shares or [0]))
    rank = unknown > masks.MAX_UNKNOWN_SHARE, unknown > 0, by_order
    return types.SimpleNamespace(
        file=file, table=table, unknown=unknown, missing=missing, shows=shows, rank=rank
    )


# Well-known data sets


KNOWN = pathlib.Path(__file__).with_name("known_classes.csv")


def find_known_classes(path, images, paths, survey) -> tuple:
    """Return `(ClassTable, encoding)` of the well-known data set that masks are of, with a warning.

    It is known by the names of its files and folders below `path`, and by the values or colours in
    its masks; what the folder `path` is called does not count. `(None, "auto")` for others.

    Raises:
        DatasetError: it is known, and its masks are of a kind that is not read.
    """
    pairs = zip(images, paths, strict=True)
    names = ["\n".join(os.path.relpath(half, path) for half in pair) for pair in pairs]
    names = [name.replace(os.sep, "/") for name in names]
    with open(KNOWN, newline="", encoding="utf-8") as file:
        known = list(csv.DictReader(file))
    for rule in known:
        if rule["id"] or not all(re.search(rule["masks"], name, re.IGNORECASE) for name in names):
            continue
        if rule["encoding"] == "unread":
            words = f"{path}: the masks of {rule['data_set']} are not read: "
            raise DatasetError(words + rule["name"])
        rows = [row for row in known if row["data_set"] == rule["data_set"] and row["id"]]
        classes, encoding = _make_known(rows, rule["encoding"]), rule["encoding"].split()[0]
        colors = {int(row["id"]): tuple(bytes.fromhex(row["color"][1:])) for row in rows}
        own = any(color != survey.palette.get(i, color) for i, color in colors.items() if color)
        plain = survey.values and not (survey.colored or own)
        fits = survey.colored if encoding == "colors" else plain
        if fits and _judge(KNOWN, classes, paths, survey, encoding).missing == "":
            warn(
                f"{path}: taken for {rule['data_set']}, whose {len(classes.scored_ids)} classes "
                f"are known: pass classes=… to open_dataset, or write {path / TABLE}, for others"
            )
            return classes, encoding
    return None, "auto"


def _make_known(rows, encoding):
    """ClassTable of rows; a colour that an earlier row has is made a little bluer.

    Where the encoding is `ids // 1000`, masks show objects; smaller values are classes as they are.
    """
    if encoding != "colors":
        rows = [row for row in rows if int(row["id"]) != CUSTOMARY_IGNORE_LABEL]
    colors = voc_colors(len(rows)).tolist()
    for i, row in enumerate(rows):
        color = list(bytes.fromhex(row["color"][1:])) or colors[i]
        while color in colors[:i]:
            color[2] += 1 if color[2] < 255 else -255
        colors[i] = color
    size, values = int(encoding.partition("//")[2] or 0), {}
    if size:
        values = {f"{i * size}-{(i + 1) * size - 1}": i for i in range(len(rows))}
    if size == 1000:
        del values["0-999"]
        values |= {str(i): i for i in range(len(rows))}
    ignored = [i for i, row in enumerate(rows) if row["ignored"] == "1"]
    first, *others = ignored or [None]
    return ClassTable([row["name"] for row in rows], colors, first, tuple(others), values)
