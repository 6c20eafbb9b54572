"""Findings about a data set, as a table and in words."""

import dataclasses
import pathlib
import textwrap

from seglib.classes import ClassTable
from seglib.images import DatasetError
from seglib.system import make_folder

SEVERITIES = ("error", "warning", "note")
COLUMNS = ["check", "severity", "split", "count", "where", "meaning", "advice"]


@dataclasses.dataclass(frozen=True)
class Example:
    """Files in which a finding shows; `plots.plot_findings` reads and draws them.

    Args:
        check, split: str, the finding's.
        pairs: tuple of one or two `(image path, mask path)`.
        captions: tuple of str, one for each pair.
        encoding: str, how the masks are read.
    """

    check: str
    split: str
    pairs: tuple
    captions: tuple
    encoding: str = "auto"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set, or worth knowing.

    Args:
        check: str, what was looked for.
        severity: "error", "warning" or "note".
        split: str, such as "train" or "train, val"; "" for the whole data set.
        count: int, of what `meaning` begins with: files, masks, pairs or classes.
        where: str, a few names.
        meaning, advice: str, sentences: what it is, and what to do.
        examples: tuple of Example.
    """

    check: str
    severity: str
    split: str
    count: int
    where: str
    meaning: str
    advice: str
    examples: tuple = ()

    @property
    def rank(self):
        """int, 0 for the gravest."""
        return SEVERITIES.index(self.severity)

    def __str__(self):
        place = f" in {self.split}" if self.split else ""
        where = f" [{self.where}]" if self.where else ""
        return f"{self.check}{place}: {self.meaning} {self.advice}{where}"


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class DatasetReport:
    """What `check_dataset` found.

    Args:
        path: path of the data set's folder.
        classes: ClassTable.
        sizes: dict split -> number of pairs.
        image_size: `(height, width)` that will be trained at.
        findings: tuple of Finding, the gravest first.
    """

    path: pathlib.Path
    classes: ClassTable
    sizes: dict
    image_size: tuple
    findings: tuple

    @property
    def table(self):
        """DataFrame, a row a finding: check, severity, split, count, where, meaning, advice."""
        import pandas as pd

        rows = [[getattr(finding, name) for name in COLUMNS] for finding in self.findings]
        return pd.DataFrame(rows, columns=COLUMNS)

    @property
    def errors(self):
        """tuple of Finding: labels would be wrong, or cannot be read."""
        return self._select("error")

    @property
    def warnings(self):
        """tuple of Finding: scores would be flattered, or suffer."""
        return self._select("warning")

    @property
    def notes(self):
        """tuple of Finding that are good to know."""
        return self._select("note")

    @property
    def ok(self):
        """bool, whether there is no error."""
        return not self.errors

    @property
    def examples(self):
        """tuple of Example, of the gravest findings first."""
        return tuple(example for finding in self.findings for example in finding.examples)

    def raise_for_errors(self):
        """Return the report, or raise a DatasetError that lists its errors."""
        if self.errors:
            listed = "\n".join(f"- {finding}" for finding in self.errors)
            raise DatasetError(f"{self._summarize()}\n{listed}")
        return self

    def write(self, folder):
        """Write the table to `checks.csv` in a folder, and return the file's path."""
        path = make_folder(folder, "the report") / "checks.csv"
        self.table.to_csv(path, index=False)
        return path

    def _select(self, severity):
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def _summarize(self):
        sizes = ", ".join(f"{name} {count:,}" for name, count in self.sizes.items())
        counts = [len(part) for part in (self.errors, self.warnings, self.notes)]
        found = [f"{n} {name}{'s' * (n != 1)}" for n, name in zip(counts, SEVERITIES, strict=True)]
        return f"{self.path.resolve().name}: {sizes} pairs; {', '.join(found)}"

    def __repr__(self):
        style = {"initial_indent": "  ", "subsequent_indent": "    ", "break_on_hyphens": False}
        lines = [textwrap.fill(f"{f.severity}: {f}", 100, **style) for f in self.findings]
        return "\n".join([f"DatasetReport of {self._summarize()}", *lines])

    def _repr_html_(self):
        import html

        return f"<p>{html.escape(self._summarize())}</p>{self.table.to_html(index=False)}"


def find_in_pairs(check, severity, looks, meaning, advice, *, root, split=None, half="mask"):
    """Return a Finding about pairs.

    Args:
        looks: sequence of Look, the most telling one first.
        meaning: str, what follows the number of pairs, such as "mask{s} with …".
        root: path that names of files start from.
        split: str, or None for that of the first one.
        half: "image" or "mask", whose names are given.
    """
    names = [name_file(getattr(look, half), root) for look in looks]
    split = looks[0].split if split is None else split
    whole = [pair for pair in zip(looks, names, strict=True) if not pair[0].unreadable]
    examples = tuple(  # both halves are drawn
        Example(check, look.split, ((look.image, look.mask),), (name,), look.encoding)
        for look, name in whole[:1]
    )
    meaning = count(looks, meaning)
    return Finding(check, severity, split, len(looks), list_names(names), meaning, advice, examples)


def count(things, text):
    """Return a number before a text; `{s}` in it becomes the ending of a plural."""
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {text}".replace("{s}", "s" * (number != 1))


def percent(share):
    """Return a share in [0, 1] as str of two digits that count.

    Example:
        >>> percent(0.00123), percent(0.057), percent(0.996), percent(1)
        ('0.12 %', '5.7 %', '99.6 %', '100 %')
    """
    value = 100 * share
    return f"{value:.1f} %".replace(".0 ", " ") if value >= 10 else f"{value:.2g} %"


def list_names(names, *, limit=3):
    """Return a few names as one str."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def name_file(path, root):
    """Return a file's path below the data set's folder, as str."""
    path = pathlib.Path(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
