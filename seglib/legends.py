"""Which classes the masks of a data set show: as given, as a file beside them says, or as found."""

import dataclasses
import os
import re
import warnings

import numpy as np

from seglib.classes import (
    CUSTOMARY_IGNORE_LABEL,
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


def find_classes(path, given, others: list, masks: list, encoding: str = "auto") -> tuple:
    """Return `(ClassTable, encoding)`: which classes masks show, and how.

    Args:
        path: path of the data set's folder, for messages.
        given: what the caller of `open_dataset` passed as `classes`, or None.
        others: paths of the folder's files that are no pictures; a class table may be among them.
        masks: paths of all masks.
        encoding: as of `open_dataset`.

    Raises:
        DatasetError: there is no class table, and the masks are of colours.
    """
    survey = survey_masks(masks)
    classes = _read_table(given, others, survey)
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
