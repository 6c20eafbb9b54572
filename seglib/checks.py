"""What is wrong with a data set, found before anything is trained on it.

One pass over all pairs makes a table with a row for each; the checks are questions to this table.
"""

import collections
import concurrent.futures
import dataclasses
import html
import itertools
import math
import os
import pathlib
import re
import textwrap

import numpy as np
import pandas as pd
from scipy import ndimage

from seglib import masks, splitting
from seglib.classes import ClassTable
from seglib.datasets import Split, open_dataset
from seglib.images import DatasetError, check_image_size
from seglib.reports import find_regions
from seglib.system import make_folder, replacing, show_progress

MAX_SHRINKING = 3  # times that pictures are larger than what is trained at: more loses thin things
MIN_RATIO = 10  # of the commonest class's pixels to the rarest's: less needs no class weights
OUTLINE, MIN_ALIKE = 64, 0.9  # the size at which masks are compared; IoU of each of their classes
MIN_LOST, MANY_LOST = 0.01, 0.5  # of a class's pixels, in regions that are too small
COLUMNS = ["check", "severity", "split", "count", "where", "meaning", "advice"]
SEVERITIES = ("error", "warning", "note")

# What is looked for, and what to do about it.
ADVICE = {
    "missing half": "Add the other half, or remove the file.",
    "unreadable file": "Reading such pairs fails.",
    "sizes differ": "Reading such pairs fails.",
    "unknown colours": "Reading fails: correct the masks, or add the colours to the class table.",
    "unknown ids": "Correct the masks, add classes, or ignore one as ignore_label=255.",
    "stray colours": "They are read as a class nearby: correct the masks or the class table.",
    "lossy masks": "Export them as PNG, or trust boundaries less.",
    "blended boundaries": "They become a class nearby; better export without antialiasing.",
    "masks alike": "They may be fields of view: see whether masks= finds others.",
    "one class": 'Ignore no other: rename it, or write 0 in its column "ignore"; train refuses.',
    "blank masks": "See whether they were left undone, or whether it is the nature of the data.",
    "absent classes": "Is the table right? dataset.split() spreads classes over the splits.",
    "empty split": "Deal the pairs out anew with dataset.split().",
    "near-duplicates": 'Keep one, or both on one side, as dataset.split(by="sequence") does.',
    "shared sequences": 'This flatters scores: dataset.split(by="sequence") deals out wholes.',
    "turned photographs": "See to it that the masks stand upright too.",
    "tiny regions": "They vanish in training: choose a larger image_size if they matter.",
    "large pictures": 'For their own scale: notebook 3 with SCALE = "native", or '
    "get_preset(name, native_size=(height, width) of the pictures).",
    "class imbalance": "Dice, half of the default loss, weighs all classes alike; "
    "notebook 5 shows more.",
}
# Checks of single pairs: columns of the table. What the first cell says is added to the words.
IN_PAIRS = {
    "unreadable file": ("error", "pairs not decoded; the first: "),
    "sizes differ": ("error", "masks of another size than the photograph; "),
    "turned photographs": ("note", "photographs that EXIF data turn or mirror: read upright"),
    "unknown colours": ("error", "masks with over 1 % of pixels in colours of no class, at worst "),
    "unknown ids": ("error", "masks with ids outside the class table, which ends at "),
    "stray colours": ("warning", "masks with a few pixels in colours of no class, at worst "),
    "lossy masks": ("warning", "masks in JPEG or WebP, which change colours where classes meet"),
    "blended boundaries": ("warning", "masks with blends of two colours, at worst on "),
    "blank masks": ("warning", "masks with a single class or less"),
}
ROW = ["split", "image", "mask", "file", "thumbnail", "image_size", "faults", "counts", "outline"]
ROW += ["lost", "tiny regions", *IN_PAIRS]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set, or worth knowing: a row of the report's table.

    `examples` are one or two pairs in which it shows.
    """

    check: str
    severity: str
    split: str
    count: int
    where: str
    meaning: str
    advice: str
    examples: Split | tuple = ()

    def __str__(self):
        place = f" in {self.split}" if self.split else ""
        where = f" [{self.where}]" if self.where else ""
        return f"{self.check}{place}: {self.meaning} {self.advice}{where}"


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class DatasetReport:
    """What `check_dataset` found: `findings`, the gravest first.

    `sizes` are the numbers of pairs in each split, `image_size` what will be trained at.
    """

    path: pathlib.Path
    sizes: dict
    image_size: tuple
    findings: tuple

    @property
    def table(self) -> pd.DataFrame:
        """DataFrame, a row a finding: check, severity, split, count, where, meaning, advice."""
        return pd.DataFrame([vars(finding) for finding in self.findings], columns=COLUMNS)

    def raise_for_errors(self) -> "DatasetReport":
        """Return the report, or raise a DatasetError that lists its errors."""
        errors = [f"- {finding}" for finding in self.findings if finding.severity == "error"]
        if errors:
            raise DatasetError("\n".join([self._summarize(), *errors]))
        return self

    def write(self, folder: str | os.PathLike) -> pathlib.Path:
        """Write the table to `checks.csv` in a folder, and return the file's path."""
        path = make_folder(folder, "the report") / "checks.csv"
        with replacing(path) as temporary:
            self.table.to_csv(temporary, index=False, errors="surrogateescape")
        return path

    def _summarize(self):
        sizes = ", ".join(f"{name} {count:,}" for name, count in self.sizes.items())
        counts = collections.Counter(finding.severity for finding in self.findings)
        found = ", ".join(f"{counts[s]} {s}{'s' * (counts[s] != 1)}" for s in SEVERITIES)
        return f"{self.path.resolve().name}: {sizes} pairs; {found}"

    def __repr__(self):
        style = {"initial_indent": "  ", "subsequent_indent": "    ", "break_on_hyphens": False}
        lines = [textwrap.fill(f"{f.severity}: {f}", 100, **style) for f in self.findings]
        return "\n".join([f"DatasetReport of {self._summarize()}", *lines])

    def _repr_html_(self):
        return f"<p>{html.escape(self._summarize())}</p>{self.table.to_html(index=False)}"


def check_dataset(dataset, *, image_size: int | tuple = (128, 128)) -> DatasetReport:
    """Look at every pair of a data set once, and report what is wrong or worth knowing.

    An error makes labels wrong, or is refused when it is read; a warning flatters scores or
    spoils some; a note is good to know.

    Args:
        dataset: Dataset, or path of its folder, in which halves of pairs may be missing.
        image_size: `(height, width)` that will be trained at; regions of less than one of its
            pixels are too small to survive.

    Returns:
        DatasetReport. `plots.plot_findings` shows examples.

    Raises:
        DatasetError: there is no pair in the folder, or no class table.
    """
    image_size = check_image_size(image_size)
    if isinstance(dataset, str | os.PathLike):
        dataset = open_dataset(dataset, unpaired="skip")
    if not hasattr(dataset, "splits"):
        kind = type(dataset).__name__
        raise ValueError(f"expected what open_dataset returned, or its path, received a {kind}")
    halves = [(name, *pair) for name, split in dataset.splits.items() for pair in split.pairs]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        looks = pool.map(lambda pair: _look_at_pair(*pair, dataset, image_size), halves)
        bar = show_progress(looks, total=len(halves), desc="checking", unit="pair")
        rows = pd.DataFrame(bar, columns=ROW)
    findings = [
        *_check_pairs(rows.sort_values("faults", ascending=False, kind="stable"), dataset),
        *_check_classes(rows[rows.counts.notna()], dataset, image_size),
        *_check_splits(rows[rows.thumbnail.notna()].reset_index(drop=True), dataset),
    ]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    return DatasetReport(pathlib.Path(dataset.path), sizes, image_size, tuple(findings))


def explain_shrinking(size: tuple, image_size: tuple) -> str:
    """Say what a picture loses that is shrunk to over three times smaller; "" where it is not."""
    factor = max(np.divide(size, image_size))
    if factor <= MAX_SHRINKING:
        return ""
    sizes = " shrunk to ".join(f"{height}×{width}" for height, width in (size, image_size))
    return f"{sizes}: what is thinner than {math.ceil(factor)} pixels is lost"


# One pass over all pairs


def _look_at_pair(split, image, mask, dataset, image_size):
    """Row of the table: what was read, and under a check's name what it found."""
    classes, how = dataset.classes, dataset.splits[split]
    row = {"split": split, "image": image, "mask": mask, "file": image}
    try:
        row["thumbnail"], size, turned = splitting.look_at_photograph(image, how.pixels)
        row |= {"image_size": size, "turned photographs": turned or None, "file": mask}
        labels, pixels, lossy = masks.read_mask(mask, classes, encoding=how.encoding)
    except DatasetError as error:
        return row | {"unreadable file": str(error)}
    if size != labels.shape and not how.resize_masks:
        row["sizes differ"] = masks.explain_sizes(image, size, mask, labels.shape)
    unknown, blends = find_strange_pixels(pixels, labels, classes, lossy=lossy)
    strange = unknown | blends
    refused = unknown.mean() > (0 if pixels is None else masks.MAX_UNKNOWN_SHARE)
    row |= {"faults": np.count_nonzero(strange), "lossy masks": (lossy and strange.any()) or None}
    if blends.any() and not (lossy or refused):
        row["blended boundaries"] = f"{100 * blends.mean():.2g} % of the pixels"
    if unknown.any() and pixels is None:
        found = _list_values(labels[unknown][:, None])
        row["unknown ids"] = f"{classes.num_classes - 1}: {found}"
    elif unknown.any():
        check = "unknown colours" if refused else "stray colours"
        row[check] = _list_values(pixels[unknown], classes)
    if strange.any() and not refused:
        noise = masks.NOISE_DISTANCE[lossy]
        labels = masks.sharpen_boundaries(pixels, labels, classes, tolerance=noise)
    counted = (labels >= 0) & (labels < classes.num_classes) & ~(strange & refused)
    row["counts"] = np.bincount(labels[counted], minlength=classes.num_classes)
    grid = (np.linspace(0, side - 1, OUTLINE).astype(int) for side in labels.shape)
    row["outline"] = labels[np.ix_(*grid)]
    scored = list(classes.scored_ids)
    if np.count_nonzero(row["counts"][scored]) < min(2, len(scored)):
        row["blank masks"] = True
    if not refused:
        _, ids, areas = find_regions(labels)
        tiny = np.isin(ids, scored) & (areas * math.prod(image_size) < labels.size)
        row["lost"] = np.bincount(ids[tiny], areas[tiny], classes.num_classes)
        row["tiny regions"] = np.count_nonzero(tiny) or None
    return row


def _list_values(values, classes=None):
    """The three commonest of ids `(n, 1)` or colours `(n, 3)`; colours with the nearest class."""
    listed = []
    for value, count in collections.Counter(map(tuple, values.tolist())).most_common(3):
        listed.append(f"{value if classes else value[0]} on {count:,} px")
        if classes:
            nearest = classes.names[masks.closest_labels(value, classes.mapping)]
            distance = masks.measure_colors(value, classes)[1] ** 0.5
            listed[-1] += f" (nearest class {nearest}, {distance:.0f} away)"
    return ", ".join(listed)


def find_strange_pixels(pixels, labels, classes: ClassTable, *, lossy: bool = False) -> tuple:
    """Return which pixels of a mask are of no class, and which are blends of neighbouring ones.

    The first are ids outside the table, or far from every class's colour but for the middle of a
    seam of blends, as where three classes meet. Arguments are as `masks.read_mask` returns them.
    """
    if pixels is None:
        unknown = (labels < 0) | (labels >= classes.num_classes)
        return unknown & (labels != classes.ignore_label), np.zeros_like(unknown)
    blends = masks.measure_colors(pixels, classes)[1] > masks.NOISE_DISTANCE[lossy] ** 2
    if not blends.any():
        return np.zeros_like(blends), blends
    unknown = masks.find_unknown_colors(pixels, classes, lossy=lossy)
    blends &= ~unknown
    if 0 < unknown.mean() <= masks.MAX_UNKNOWN_SHARE and blends.any():
        square = np.ones((3, 3), bool)
        seam = unknown & ~ndimage.binary_opening(unknown, square)
        seam &= ndimage.binary_dilation(blends, square)
        unknown, blends = unknown & ~seam, blends | seam
    return unknown, blends


# The checks


def _find(dataset, check, severity, split, where, meaning, rows=()):
    """A Finding whose paths start from the data set's folder, with examples from these rows."""
    few = ", ".join(map(str, where[:3])) + (f" and {len(where) - 3:,} more" if where[3:] else "")
    start = rf"(?<!\w){re.escape(f'{dataset.path}{os.sep}')}"
    few, meaning = (re.sub(start, "", text) for text in (few, f"{meaning}."))
    examples = ()
    if len(rows):
        names = [f"{split}: {image.stem}" for split, image in rows[["split", "image"]].values]
        pairs = rows[["image", "mask"]].values.tolist()
        how = dataset.splits[rows["split"].iloc[0]]
        examples = dataclasses.replace(how, pairs=pairs, names=names)
    return Finding(check, severity, split, len(where), few, meaning, ADVICE[check], examples)


def _find_in_pairs(dataset, check, severity, split, rows, text):
    found, meaning = rows[rows[check].notna()], f"{rows[check].count():,} of {len(rows):,} {text}"
    where = found["image" if check == "turned photographs" else "file"].tolist()
    shown = () if check == "unreadable file" else found[:1]  # both halves are drawn
    return _find(dataset, check, severity, split, where, meaning, shown)


def _check_pairs(rows, dataset):
    """Yield what is wrong with halves of pairs, and with the pairs of each split."""
    if dataset.unpaired:
        count = len(dataset.unpaired)
        meaning = f"Photographs without a mask, or masks without a photograph: {count:,}"
        yield _find(dataset, "missing half", "error", "", dataset.unpaired, meaning)
    for (check, (severity, text)), split in itertools.product(IN_PAIRS.items(), dataset.splits):
        part = rows[rows["split"] == split]
        found = part[check].dropna()
        if len(found):
            if check == "blank masks" and 2 * len(found) > len(part):
                severity = "note"
            text += found.iloc[0] if text.endswith(" ") else ""
            yield _find_in_pairs(dataset, check, severity, split, part, text)


def _check_classes(rows, dataset, image_size):
    """Yield what is wrong with classes: too few, all alike, lost, in no mask, or rare."""
    classes, scored = dataset.classes, list(dataset.classes.scored_ids)
    if len(scored) < 2:
        where = [name for i, name in enumerate(classes.names) if i not in scored]
        meaning = f"{len(scored)} class is left to tell apart: mean IoU is 1 whatever is learned"
        yield _find(dataset, "one class", "warning", "", where, meaning)
    if rows.empty:
        return
    first, *others = rows.outline
    if len(others) > 1 and len(np.unique(first)) > 1 and _are_alike(first, others):
        meaning = f"All {len(rows):,} masks show the same regions"
        yield _find(dataset, "masks alike", "warning", "", list(rows["mask"]), meaning, rows[:1])
    zeros, measured = np.zeros(classes.num_classes, int), rows[rows.lost.notna()]
    lost = sum(measured.lost, zeros) / np.maximum(1, sum(measured.counts, zeros))
    if lost.max() >= MIN_LOST:
        height, width = image_size
        text = (
            f"masks with regions smaller than a pixel at {height}×{width}. "
            f"{classes.names[lost.argmax()]} loses most, {100 * lost.max():.3g} % of its pixels"
        )
        severity = "warning" if lost.max() > MANY_LOST else "note"
        rows = rows.sort_values("tiny regions", ascending=False, kind="stable")
        yield _find_in_pairs(dataset, "tiny regions", severity, "", rows, text)
    large = rows[[bool(explain_shrinking(size, image_size)) for size in rows.image_size]]
    if len(large):
        worst = max(large.image_size, key=lambda size: max(np.divide(size, image_size)))
        lost = explain_shrinking(worst, image_size)
        meaning = f"{len(large):,} of {len(rows):,} pictures, at worst {lost}"
        yield _find(dataset, "large pictures", "note", "", list(large["image"]), meaning)
    counts = {split: sum(part.counts) for split, part in rows.groupby("split", sort=False)}
    anywhere = sum(counts.values())
    for split, pixels in {"": anywhere, **counts}.items():
        where = [classes.names[i] for i in scored if not pixels[i] and (anywhere[i] or not split)]
        place = f"other splits but not in {split}" if split else "no mask at all"
        if where:
            meaning = f"{len(where)} of {len(scored)} classes in {place}"
            yield _find(dataset, "absent classes", "warning", split, where, meaning)
    pixels = counts.get("train", anywhere)
    ordered = sorted((i for i in scored if pixels[i]), key=lambda i: pixels[i])
    ratio = pixels[ordered[-1]] / pixels[ordered[0]] if ordered else 0
    if ratio >= MIN_RATIO:
        rarest, commonest = classes.names[ordered[0]], classes.names[ordered[-1]]
        meaning = f"{commonest} has {ratio:,.0f} times as many pixels as {rarest}, the rarest class"
        yield _find(dataset, "class imbalance", "note", "", [rarest], meaning)


def _are_alike(first, others):
    """Whether each class has the same place in all masks."""
    pairs = ((first == i, other == i) for other in others for i in np.unique([first, other]))
    return all((a & b).sum() >= MIN_ALIKE * (a | b).sum() for a, b in pairs)


def _check_splits(rows, dataset):
    """Yield what is wrong with splits: empty ones, copies, and frames of one drive in two."""
    for split, use in (("train", "learn from"), ("val", "choose the best epoch with")):
        if not len(dataset.splits[split]):
            yield _find(dataset, "empty split", "warning", split, [], f"There is no pair to {use}")
    if rows.empty:
        return
    thumbnails, titles = np.stack(rows.thumbnail), splitting.name_pictures(rows["image"].tolist())
    numbers = [splitting.name_sequence(title)[1] for title in titles]
    rows = rows.assign(number=numbers, sequence=splitting.find_sequences(titles, thumbnails))
    copies = collections.defaultdict(list)
    for pair in splitting.find_near_duplicates(thumbnails).tolist():
        copies[tuple(rows["split"][pair].unique())].append(pair)
    for splits, found in sorted(copies.items(), key=lambda item: -len(item[0])):
        where = [f"{titles[i]} = {titles[j]}" for i, j in found]
        apart = f", one in {splits[0]} and one in {splits[1]}" if len(splits) > 1 else ""
        meaning = f"Copies, but for compression, size or brightness{apart}: {len(found):,} pairs"
        shown, split = rows.loc[found[0]], ", ".join(splits)
        yield _find(dataset, "near-duplicates", "warning", split, where, meaning, shown)
    frames = pd.crosstab(rows.sequence, rows["split"])[rows["split"].unique()]
    frames = frames[frames.sum(axis=1) > 1]
    for first, second in itertools.combinations(frames, 2):
        shared = frames[frames[[first, second]].all(axis=1)]
        if len(shared):
            where = [
                f"{sequence} ({row[first]:,} in {first}, {row[second]:,} in {second})"
                for sequence, row in shared.iterrows()
            ]
            # Two frames of the first one, where it goes on in the other split.
            both = rows[(rows.sequence == shared.index[0]) & rows["split"].isin([first, second])]
            both = both.sort_values("number")
            place = int((both["split"] != both["split"].iloc[0]).argmax())
            shown, split = both.iloc[place - 1 : place + 1].sort_index(), f"{first}, {second}"
            meaning = f"{len(shared)} of {len(frames)} sequences are in {first} and in {second}"
            yield _find(dataset, "shared sequences", "warning", split, where, meaning, shown)
