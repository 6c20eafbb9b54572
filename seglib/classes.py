"""Class names, their colours, and the label that is ignored."""

import csv
import dataclasses
import functools
import os
import re

import numpy as np

IGNORED_NAMES = frozenset(
    {"void", "unlabelled", "unlabeled", "ignore", "ignored", "backgroundtoignore"}
)
YES = frozenset({"1", "true", "yes", "y", "x"})


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTable:
    """Which id is which class, and in which colour a mask shows it.

    Ids follow the order of the rows. A class that is ignored keeps its row and
    its id; an `ignore_label` outside the table, such as 255, has no row and is
    not counted in `num_classes`.

    Args:
        names: sequence of n str, unique.
        colors: int array `(n, 3)`, RGB in [0, 255], unique.
        ignore_label: int or None. Pixels with this id count nowhere.
        also_ignored: ints, further rows whose pixels become `ignore_label` when masks are read.

    Raises:
        ValueError: the table is empty, a name or colour occurs twice, a colour
            is no RGB triple in [0, 255], or the ignored label is negative.

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
        names = tuple(str(name) for name in self.names)
        colors = np.asarray(self.colors)
        if not names or colors.shape != (len(names), 3):
            raise ValueError(
                f"a class table needs one RGB colour for each name, received "
                f"{len(names)} names and colours of shape {colors.shape}"
            )
        if colors.min() < 0 or colors.max() > 255:
            raise ValueError(
                f"class colours must be in [0, 255], received {colors.min()} to {colors.max()}"
            )
        if self.ignore_label is not None and self.ignore_label < 0:
            raise ValueError(
                f"expected an ignore label of 0 or more, or None, received {self.ignore_label}: "
                "255 is the customary one outside a table"
            )
        _check_unique(names, "name")
        _check_unique([tuple(color) for color in colors.tolist()], "colour")
        colors = colors.astype(np.uint8)
        colors.setflags(write=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "colors", colors)
        object.__setattr__(self, "also_ignored", tuple(self.also_ignored))

    @property
    def num_classes(self):
        """int, the number of rows, an ignored row included."""
        return len(self.names)

    @functools.cached_property
    def mapping(self):
        """dict `{(r, g, b): id}` in the order of the rows."""
        ids = [self.ignore_label if i in self.also_ignored else i for i in range(self.num_classes)]
        return dict(zip(map(tuple, self.colors.tolist()), ids, strict=True))

    @property
    def scored_ids(self):
        """tuple of int, the ids that are learned and scored: all but the ignored one."""
        ignored = {self.ignore_label, *self.also_ignored}
        return tuple(i for i in range(self.num_classes) if i not in ignored)

    def __eq__(self, other):
        return (
            isinstance(other, ClassTable)
            and self.names == other.names
            and self.ignore_label == other.ignore_label
            and self.also_ignored == other.also_ignored
            and np.array_equal(self.colors, other.colors)
        )

    def __hash__(self):
        return hash((self.names, self.ignore_label, self.colors.tobytes()))

    def to_dict(self):
        """Return the table as lists and ints, for JSON; `ClassTable(**...)` reads it."""
        return {
            "names": list(self.names),
            "colors": self.colors.tolist(),
            "ignore_label": self.ignore_label,
            "also_ignored": list(self.also_ignored),
        }


def read_class_table(path):
    """Read a class table from a CSV file with the columns `name, r, g, b`.

    A row is ignored when it is named void, unlabelled or ignore, in any case
    and spelling; where the optional column `ignore` says something, 1, true or yes
    against anything else, that decides.
    Should several rows be ignored, the first one's id stands for all of them.

    Args:
        path: str or path of the CSV file.

    Returns:
        ClassTable; ids follow the order of the rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, or a row is no class.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"no class table at {path}: expected a CSV file with the columns name, r, g, b"
        )
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    lines = [(number, row) for number, row in lines if any(row)]
    header = [cell.lower() for cell in lines[0][1]] if lines else []
    missing = [column for column in ("name", "r", "g", "b") if column not in header]
    if missing:
        raise ValueError(
            f"{path}: expected the columns name, r, g, b in the first line, "
            f"received {header}; missing: {', '.join(missing)}"
        )
    records = [
        _parse_row(path, line, dict(zip(header, row, strict=False))) for line, row in lines[1:]
    ]
    ignored = [i for i, (_, _, ignore) in enumerate(records) if ignore]
    try:
        return ClassTable(
            names=[name for name, _, _ in records],
            colors=np.array([color for _, color, _ in records], int).reshape(-1, 3),
            ignore_label=ignored[0] if ignored else None,
            also_ignored=tuple(ignored[1:]),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_class_table(path, classes):
    """Write a class table as CSV, so that `read_class_table` gives it back.

    An ignored label outside the table, such as 255, has no row and is not kept.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "r", "g", "b", "ignore"])
        for i, (name, color) in enumerate(zip(classes.names, classes.colors.tolist(), strict=True)):
            writer.writerow([name, *color, int(i not in classes.scored_ids)])


def _parse_row(path, line, row):
    try:
        name, color = row["name"], tuple(int(row[channel]) for channel in "rgb")
    except (KeyError, ValueError):
        raise ValueError(
            f"{path}, line {line}: expected name, r, g, b with colours in 0..255, "
            f"received {list(row.values())}"
        ) from None
    plain = re.sub(r"[^a-z]", "", name.lower())
    marked = row.get("ignore", "").lower()
    return name, color, marked in YES if marked else plain in IGNORED_NAMES


def _check_unique(values, what):
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"the {what} {value!r} occurs twice in the class table")
        seen.add(value)
