"""Whose class table, and how the masks show its classes."""

import pathlib
import re
import warnings

from seglib.classes import create_class_table, read_class_table, voc_colors
from seglib.encodings import choose_encoding, ignore_customary, survey_masks
from seglib.images import SUFFIXES, DatasetError
from seglib.proposals import BINARY, propose_from_survey, propose_lines

TABLE = "class_dict.csv"
PICTURE = re.compile("|".join(rf"\{suffix}\b" for suffix in SUFFIXES))  # lists of pictures
OTHER_TABLES = frozenset(
    (
        "class_dict",
        "classes",
        "_classes",
        "class_names",
        "labels",
        "label_colors",
        "class_colors",
        "colors",
    )
)


def find_classes(path, given, others, masks, encoding):
    """Find out which classes masks show, and how.

    Args:
        path: path of the data set's folder.
        given: ClassTable, path of a class table, mapping or list that makes one, or None.
        others: list of paths of files in the folder that are no pictures.
        masks: list of paths.
        encoding: "ids", "colors", "binary" or "auto".

    Returns:
        `(ClassTable, encoding)`.

    Raises:
        DatasetError: no table is to be had; the message proposes one.
    """
    survey = survey_masks(masks)
    classes = _read_table(path, given, others, survey)
    if classes is None:
        classes = propose_from_survey(survey)
        if classes is None:
            raise DatasetError(
                f"no class table for {path}: write {path / TABLE} with the lines below (or "
                "another file, and pass its path as classes), and give each class its name\n"
                + propose_lines(masks)
            )
        if classes is not BINARY:
            warnings.warn(
                f"no class table for {path}: the masks hold ids from 0 to "
                f"{classes.num_classes - 1}, named {classes.names[0]} to {classes.names[-1]}; "
                f"write {path / TABLE}, or pass classes=[…], to give them names",
                stacklevel=4,
            )
    if encoding == "auto":
        encoding = choose_encoding(survey, classes, source=path)
    return ignore_customary(survey, classes, encoding), encoding


def _read_table(path, given, others, survey):
    colors = _colors_of_ids(survey)
    if isinstance(given, str | pathlib.Path):
        return read_class_table(given, colors=colors)
    if given is not None:
        return create_class_table(given, colors=colors)
    files = sorted(others, key=lambda file: (len(file.parts), file))
    for file in files:
        if file.name.lower() == TABLE:
            return read_class_table(file, colors=colors)
    for file in files:
        if file.suffix.lower() in (".csv", ".json", ".txt") and file.stem.lower() in OTHER_TABLES:
            try:
                table = read_class_table(file, colors=colors)
            except (ValueError, KeyError):
                continue  # a file of another kind with such a name
            if not any(PICTURE.search(name.lower()) for name in table.names):
                return table
    return None


def _colors_of_ids(survey):
    """The palette's colours for ids; None where masks have none, or one that repeats itself."""
    if not survey.palette or survey.conflict:
        return None
    colors = voc_colors(256)
    for value, color in survey.palette.items():
        colors[value] = color
    distinct = {tuple(color) for color in colors.tolist()}
    return colors if len(distinct) == len(colors) else None
