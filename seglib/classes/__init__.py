"""Class names, their colours, and the label that is ignored."""

import dataclasses
import functools

import numpy as np


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
        also_ignored: ints, further rows whose pixels become `ignore_label`, which is a row then,
            when masks are read.

    Raises:
        ValueError: the table is empty, a name or colour occurs twice, a colour
            is no RGB triple in [0, 255], or the ignored label is negative, or no row though
            further ones become it.

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
        also_ignored = tuple(map(int, self.also_ignored))
        if also_ignored and self.ignore_label not in range(len(names)):
            raise ValueError(
                f"the rows {also_ignored} become the ignored one: expected an "
                f"ignore_label from 0 to {len(names) - 1}, received {self.ignore_label}"
            )
        _check_unique(names, "name")
        _check_unique([tuple(color) for color in colors.tolist()], "colour")
        colors = colors.astype(np.uint8)
        colors.setflags(write=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "colors", colors)
        object.__setattr__(self, "also_ignored", also_ignored)

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


def make_up_classes(count):
    """Return a table for a model that knows none: names by number, and colours that differ.

    Args:
        count: int >= 1, the classes.

    Returns:
        ClassTable; the same for the same count.

    Example:
        >>> make_up_classes(3).names
        ('class_0', 'class_1', 'class_2')
    """
    steps = max(2, int(np.ceil(count ** (1 / 3))))
    levels = np.linspace(0, 255, steps).round().astype(int)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    order = np.random.default_rng(0).permutation(len(colors))[:count]
    return ClassTable([f"class_{i}" for i in range(count)], colors[order])


def _check_unique(values, what):
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"the {what} {value!r} occurs twice in the class table")
        seen.add(value)


# At the end, as these make class tables.
from seglib.classes.files import create_class_table, read_class_table, write_class_table  # noqa: E402

__all__ = [
    "ClassTable",
    "create_class_table",
    "make_up_classes",
    "read_class_table",
    "write_class_table",
]
