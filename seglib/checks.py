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
import textwrap

import numpy as np
import pandas as pd
from scipy import ndimage, spatial
from skimage import measure

from seglib import masks
from seglib.classes import ClassTable
from seglib.images import DatasetError, check_image_size
from seglib.masks import (
    LOSSY_NOISE_DISTANCE,
    LOSSY_UNKNOWN_DISTANCE,
    MAX_UNKNOWN_SHARE,
    NOISE_DISTANCE,
    UNKNOWN_DISTANCE,
    explain_sizes,
    read_mask,
)
from seglib.splitting import (
    drop_shared_ending,
    find_near_duplicates,
    find_sequences,
    look_at_photograph,
    name_pictures,
    name_sequence,
)
from seglib.system import make_folder, show_progress

KEPT_COLORS = 16  # unknown ones of a mask
MAX_ASPECTS, MAX_AREAS = 1.2, 4  # the largest by the smallest: what augmentation makes up for
MIN_RATIO = 10  # of the commonest class's pixels to the rarest's: less needs no class weights
MIN_LOST, MANY_LOST = 0.01, 0.5  # of a class's pixels, in regions that are too small
COLUMNS = ["check", "severity", "split", "count", "where", "meaning", "advice"]
PACK = np.array([1 << 16, 1 << 8, 1], np.int32)

# What is found, how grave it is, what it means and what to do; `{n}` is the number of finds.
CHECKS = {
    "error": {
        "missing half": (
            "Photographs without a mask, or masks without a photograph: {n}.",
            "Add the other half, or remove the file.",
        ),
        "unreadable file": (
            "{n} of {total} pairs not decoded; the first: {detail}.",
            "Reading such pairs fails.",
        ),
        "sizes differ": (
            "{n} of {total} masks of another size than the photograph; {detail}.",
            "Reading such pairs fails.",
        ),
        "unknown colours": (
            "{n} of {total} masks with over 1 % of the pixels in colours of no class: {detail}.",
            "Add the colours to the class table, or correct the masks: reading them fails.",
        ),
        "unknown ids": (
            "{n} of {total} masks with ids outside the class table, which ends at {detail}.",
            "Correct the masks, add classes, or ignore one id: ClassTable(…, ignore_label=255).",
        ),
    },
    "warning": {
        "stray colours": (
            "{n} of {total} masks with a few pixels in colours of no class: {detail}.",
            "They are read as a class nearby: correct the masks, or add the colours to the table.",
        ),
        "lossy masks": (
            "{n} of {total} masks in JPEG or WebP, which change colours most where classes meet.",
            "Export them as PNG, or trust boundaries less.",
        ),
        "blended boundaries": (
            "{n} of {total} masks with blends of two classes' colours on {detail} of the pixels.",
            "Reading gives them the class of a neighbour; better export without antialiasing.",
        ),
        "blank masks": (
            "{n} of {total} masks with a single class or less; {detail} with ignored pixels alone.",
            "See whether they were left undone, or whether it is the nature of the data.",
        ),
        "absent classes": (
            "{n} of {total} classes in {detail}.",
            "See whether the table is right; dataset.split() spreads classes over the splits.",
        ),
        "empty split": (
            "{detail}.",
            "Deal the pairs out anew with dataset.split().",
        ),
        "near-duplicates": (
            "Copies, but for compression, size or brightness{detail}: {n} pairs.",
            'Keep one of each, or both on one side, as dataset.split(by="sequence") does.',
        ),
        "shared sequences": (
            "{n} of {total} sequences of frames are in {detail}, which flatters scores.",
            'Deal sequences out as wholes: dataset.split(by="sequence").',
        ),
    },
    "note": {
        "turned photographs": (
            "{n} of {total} photographs that EXIF data turn or mirror: read upright.",
            "See to it that the masks stand upright too.",
        ),
        "picture sizes": (
            "{n} sizes, from {detail} times as wide as high.",
            'Augment the scale; prepare(fit="letterbox") keeps proportions.',
        ),
        "tiny regions": (
            "{n} of {total} masks with regions smaller than a pixel at {detail} of its pixels.",
            "They vanish in training: choose a larger image_size if they matter.",
        ),
        "class imbalance": (
            "{commonest} has {ratio:,.0f} times as many pixels as {rarest}, the rarest class.",
            "The default loss hears rare classes; notebook 5 shows what more there is.",
        ),
        "neighbours in time": (
            "{n} of {total} pictures follow one another, and tell less than independent ones.",
            "Add other places rather than more frames; intervals of scores are too narrow.",
        ),
    },
}
EMPTY = {
    "train": "train holds no pair: there is nothing to learn from",
    "val": "val holds no pair: nothing tells which epoch is best, nor how good the model is",
}
# Which rows of the table a check finds.
FIND = {
    "unreadable file": lambda rows: rows.unreadable != "",
    "sizes differ": lambda rows: (
        rows.image_size.notna() & rows.mask_size.notna() & (rows.image_size != rows.mask_size)
    ),
    "turned photographs": lambda rows: rows.turned.astype(bool),
    "unknown colours": lambda rows: rows.refused,
    "stray colours": lambda rows: (rows.unknown > 0) & ~rows.refused,
    "lossy masks": lambda rows: rows.lossy,
    "blended boundaries": lambda rows: (rows.blends > 0) & ~(rows.lossy | rows.refused),
    "unknown ids": lambda rows: rows.wrong_ids.map(len) > 0,
    "blank masks": lambda rows: rows.mask_size.notna() & rows.blank,
}


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
        check: str, what was looked for: one of `CHECKS`.
        severity: "error", "warning" or "note".
        split: str, such as "train" or "train, val"; "" for the whole data set.
        count: int, of files, masks, pairs or classes.
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
    def table(self) -> pd.DataFrame:
        """DataFrame, a row a finding: check, severity, split, count, where, meaning, advice."""
        rows = [[getattr(finding, name) for name in COLUMNS] for finding in self.findings]
        return pd.DataFrame(rows, columns=COLUMNS)

    def select(self, severity: str) -> tuple:
        """Return the findings of one severity: "error", "warning" or "note"."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.select("error")

    def raise_for_errors(self) -> "DatasetReport":
        """Return the report, or raise a DatasetError that lists its errors."""
        if not self.ok:
            listed = "\n".join(f"- {finding}" for finding in self.select("error"))
            raise DatasetError(f"{self._summarize()}\n{listed}")
        return self

    def write(self, folder: str | os.PathLike) -> pathlib.Path:
        """Write the table to `checks.csv` in a folder, and return the file's path."""
        path = make_folder(folder, "the report") / "checks.csv"
        self.table.to_csv(path, index=False)
        return path

    def _summarize(self):
        sizes = ", ".join(f"{name} {count:,}" for name, count in self.sizes.items())
        counts = {name: len(self.select(name)) for name in CHECKS}
        found = ", ".join(f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items())
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
        from seglib.datasets import open_dataset

        dataset = open_dataset(dataset, unpaired="skip")
    rows = look_at_pairs(dataset, image_size)
    findings = [
        *_check_unpaired(dataset),
        *_check_pairs(rows, dataset),
        *_check_sizes(rows),
        *_check_classes(rows, dataset, image_size),
        *_check_leaks(rows, dataset),
    ]
    return DatasetReport(
        path=pathlib.Path(dataset.path),
        classes=dataset.classes,
        sizes={name: len(split) for name, split in dataset.splits.items()},
        image_size=image_size,
        findings=tuple(sorted(findings, key=lambda f: list(CHECKS).index(f.severity))),
    )


# One pass over all pairs


def look_at_pairs(dataset, image_size: tuple) -> pd.DataFrame:
    """Look at all pairs in threads; only a few pictures are in memory at a time.

    Returns:
        DataFrame, a row a pair in the order of the splits, with what the checks ask: what could
        not be read (`unreadable`, a message, and `file`), `thumbnail`, sizes, `counts` of each
        class's pixels, and how many pixels or regions are of each kind of fault.
    """
    pairs = [
        (name, image, mask, getattr(split, "encoding", "auto"))
        for name, split in dataset.splits.items()
        for image, mask in split.pairs
    ]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda pair: _look_at_pair(*pair, dataset.classes, image_size), pairs)
        return pd.DataFrame(show_progress(found, total=len(pairs), desc="checking", unit="pair"))


def _look_at_pair(split, image, mask, encoding, classes, image_size):
    row = {"split": split, "image": image, "mask": mask, "encoding": encoding}
    row |= {"unreadable": "", "file": mask, "thumbnail": None, "image_size": None, "turned": False}
    row |= {"mask_size": None, "lossy": False, "unknown": 0, "colors": {}, "blends": 0}
    row |= {"refused": False, "wrong_ids": {}, "blank": False, "void": False, "regions": 0}
    row |= {"tiny": 0, "counts": np.zeros(classes.num_classes, int), "lost": 0}
    for look, path in ((_look_at_image, image), (_look_at_mask, mask)):
        try:
            row |= look(path, classes, encoding, image_size)
        except DatasetError as error:
            row |= {"unreadable": str(error), "file": path}
    return row


def _look_at_image(path, classes, encoding, image_size):
    return dict(zip(("thumbnail", "image_size", "turned"), look_at_photograph(path), strict=True))


def _look_at_mask(path, classes, encoding, image_size):
    labels, pixels, lossy = read_mask(path, classes, encoding=encoding)
    row = {"mask_size": labels.shape}
    if pixels is not None and not masks.exact_colors(pixels, classes).all():
        unknown, blends = find_strange_pixels(pixels, labels, classes, lossy=lossy)
        refused = bool(unknown.mean() > MAX_UNKNOWN_SHARE)
        keys, counts = np.unique(pixels[unknown].astype(np.int32) @ PACK, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:KEPT_COLORS]
        row["colors"] = {tuple((keys[i] // PACK % 256).tolist()): int(counts[i]) for i in most}
        row |= {"lossy": lossy, "refused": refused}
        row |= {"unknown": int(unknown.sum()), "blends": int(blends.sum())}
        if refused:
            labels = np.where(unknown | blends, -1, labels.astype(np.int64))
        else:
            tolerance = LOSSY_NOISE_DISTANCE if lossy else NOISE_DISTANCE
            labels = masks.sharpen_boundaries(pixels, labels, classes, tolerance=tolerance)
    known = (labels >= 0) & (labels < classes.num_classes)
    if pixels is None:
        ignored = -1 if classes.ignore_label is None else classes.ignore_label
        ids, counts = np.unique(labels[~known & (labels != ignored)], return_counts=True)
        row["wrong_ids"] = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    row["counts"] = np.bincount(labels[known], minlength=classes.num_classes)
    scored = list(classes.scored_ids)
    present = np.count_nonzero(row["counts"][scored])
    row |= {"blank": present < min(2, len(scored)), "void": present == 0}
    if not (row.get("refused") or row.get("wrong_ids")):
        _, ids, areas, tiny = find_tiny_regions(labels, image_size)
        of_scored = np.isin(ids, scored)
        tiny &= of_scored
        row |= {"regions": int(of_scored.sum()), "tiny": int(tiny.sum())}
        row["lost"] = np.bincount(ids[tiny], areas[tiny], classes.num_classes)
    return row


def find_strange_pixels(
    pixels: np.ndarray, labels: np.ndarray, classes: ClassTable, *, lossy: bool = False
) -> tuple:
    """Tell apart pixels whose colour is no class's.

    Args:
        pixels: uint8 array `(height, width, 3)`, the mask as RGB.
        labels: int array `(height, width)`, its nearest classes.
        classes: ClassTable.
        lossy: bool, whether its format changes colours.

    Returns:
        `(unknown, blends)`, bool arrays `(height, width)`: far from every class; and between the
        colours of classes nearby, with the far ones that are part of such a seam, as where three
        classes meet or a pole is narrower than its blur. Colours a little off are neither.
    """
    far = LOSSY_UNKNOWN_DISTANCE if lossy else UNKNOWN_DISTANCE
    noise = LOSSY_NOISE_DISTANCE if lossy else NOISE_DISTANCE
    unknown = masks.find_unknown_colors(pixels, classes, distance=far)
    blends = ~(masks.exact_colors(pixels, classes) | unknown)
    blends[blends] = spatial.cKDTree(classes.colors).query(pixels[blends])[0] > noise
    if 0 < unknown.mean() <= MAX_UNKNOWN_SHARE and blends.any():
        square = np.ones((3, 3), bool)
        seam = unknown & ~ndimage.binary_opening(unknown, square)
        seam &= ndimage.binary_dilation(blends, square)
        unknown, blends = unknown & ~seam, blends | seam
    return unknown, blends


def find_tiny_regions(labels: np.ndarray, image_size: tuple) -> tuple:
    """Find 8-connected regions of less area than one pixel has at the size of the training.

    Args:
        labels: int array `(height, width)`.
        image_size: `(height, width)`.

    Returns:
        `(regions, ids, areas, tiny)`: int array `(height, width)`, the number of a region from 1
        on; and by number, 0 meaning nothing, its id, its pixels, and whether it is tiny.
    """
    regions = measure.label(labels, background=-1, connectivity=2)
    areas = np.bincount(regions.ravel())
    ids = np.full(len(areas), -1, np.int64)
    ids[regions.ravel()] = labels.ravel()
    return regions, ids, areas, areas * (image_size[0] * image_size[1]) < labels.size


# The checks


def _create_finding(check, split, count, where, *, severity=None, examples=(), **words):
    usual = next(name for name, checks in CHECKS.items() if check in checks)
    meaning, advice = CHECKS[usual][check]
    meaning = meaning.format(n=f"{count:,}", **words)
    where = ", ".join(where[:3]) + (f" and {len(where) - 3:,} more" if len(where) > 3 else "")
    return Finding(check, severity or usual, split, count, where, meaning, advice, examples)


def _check_unpaired(dataset):
    """Yield a Finding about halves of pairs."""
    unpaired = [_name_file(path, dataset.path) for path in getattr(dataset, "unpaired", ())]
    if unpaired:
        yield _create_finding("missing half", "", len(unpaired), unpaired)


def _check_pairs(rows, dataset):
    """Yield what is wrong with the pairs of each split."""
    for check, find in FIND.items():
        for split, part in rows.groupby("split", sort=False):
            found = part[find(part)]
            if len(found):
                usual = check == "blank masks" and 2 * len(found) > len(part)
                severity, detail = "note" if usual else None, _describe(check, found, dataset)
                yield _find_in_pairs(check, split, found, dataset, severity, part, detail)


def _find_in_pairs(check, split, found, dataset, severity, part, detail):
    key = {"blended boundaries": "blends", "tiny regions": "tiny"}.get(check, "unknown")
    found = found.sort_values(key, ascending=False, kind="stable")
    half = "image" if check == "turned photographs" else "file"
    names = [_name_file(path, dataset.path) for path in found[half]]
    examples = tuple(  # both halves are drawn
        Example(check, row["split"], ((row["image"], row["mask"]),), (name,), row["encoding"])
        for (_, row), name in zip(found.iterrows(), names, strict=True)
        if not row["unreadable"]
    )[:1]
    words = {"total": f"{len(part):,}", "detail": detail}
    return _create_finding(
        check, split, len(found), names, severity=severity, examples=examples, **words
    )


def _describe(check, found, dataset):
    """What a finding says beside numbers."""
    classes, first, text = dataset.classes, found.iloc[0], ""
    if check == "unreadable file":
        text = first["unreadable"]
    elif check == "sizes differ":
        text = explain_sizes(first["image"], first.image_size, first["mask"], first.mask_size)
    elif check in ("unknown colours", "stray colours"):
        colors = sum(map(collections.Counter, found.colors), collections.Counter())
        listed = []
        for color, pixels in colors.most_common(3):
            distance, label = spatial.cKDTree(classes.colors).query(color)
            nearest = f"nearest class {classes.names[label]}, {distance:.0f} away"
            listed.append(f"{color} on {pixels:,} px ({nearest})")
        text = ", ".join(listed) + (" and others" if len(colors) > 3 else "")
    elif check == "blended boundaries":
        text = _percent(found.blends.sum() / found.mask_size.map(math.prod).sum())
    elif check == "unknown ids":
        ids = sum(map(collections.Counter, found.wrong_ids), collections.Counter())
        listed = ", ".join(f"{i} on {pixels:,} px" for i, pixels in sorted(ids.items())[:6])
        text = f"{classes.num_classes - 1}: {listed}" + (" and others" if len(ids) > 6 else "")
    elif check == "blank masks":
        text = f"{found.void.sum():,}"
    return text.replace(f"{dataset.path}{os.sep}", "")


def _check_sizes(rows):
    """Yield a Finding where pictures differ in size by more than augmentation makes up for."""
    sizes = sorted(set(rows.image_size.dropna()), key=lambda size: (size[0] * size[1], size))
    if not sizes:
        return
    (height, width), (max_height, max_width) = sizes[0], sizes[-1]
    narrowest, *_, widest = sorted([w / h for h, w in sizes] * 2)
    if widest > MAX_ASPECTS * narrowest or max_height * max_width > MAX_AREAS * height * width:
        detail = f"{height}×{width} to {max_height}×{max_width}, {narrowest:.2g} to {widest:.2g}"
        where = [f"{h}×{w}" for h, w in sizes]
        yield _create_finding("picture sizes", "", len(sizes), where, detail=detail)


def _check_classes(rows, dataset, image_size):
    """Yield what is wrong with classes: lost at this size, in no mask, or far from each other."""
    classes, scored = dataset.classes, list(dataset.classes.scored_ids)
    rows = rows[rows.mask_size.notna()]
    if rows["split"].empty:
        return
    counted = rows[rows.regions > 0]
    if len(counted):
        lost = (sum(counted.lost) / np.maximum(1, sum(counted.counts)))[scored]
        found, worst = counted[counted.tiny > 0], classes.names[scored[int(lost.argmax())]]
        if lost.max() >= MIN_LOST:
            detail = (
                f"{image_size[0]}×{image_size[1]}: {counted.tiny.sum():,} of "
                f"{counted.regions.sum():,}. {worst} loses most, {_percent(lost.max())}"
            )
            severity = "warning" if lost.max() > MANY_LOST else "note"
            yield _find_in_pairs("tiny regions", "", found, dataset, severity, rows, detail)
    counts = {split: sum(part.counts) for split, part in rows.groupby("split", sort=False)}
    anywhere = sum(counts.values())
    present = [i for i in scored if anywhere[i]]
    absent = {"": ([i for i in scored if not anywhere[i]], "no mask at all")}
    for split, pixels in counts.items():
        missing = [i for i in present if not pixels[i]]
        cannot = "learned" if split == "train" else "scored"
        absent[split] = missing, f"other splits but not in {split}: they cannot be {cannot} there"
    for split, (missing, detail) in absent.items():
        if missing:
            where = [classes.names[i] for i in missing]
            yield _create_finding(
                "absent classes", split, len(missing), where, detail=detail, total=len(scored)
            )
    pixels = counts.get("train", anywhere)
    seen = pixels[list(classes.scored_ids)]
    ratio = seen.max() / seen[seen > 0].min() if seen.any() else float("nan")
    if ratio >= MIN_RATIO:
        ordered = [classes.names[i] for i in sorted(present, key=lambda i: pixels[i]) if pixels[i]]
        words = {"rarest": ordered[0], "commonest": ordered[-1], "ratio": ratio}
        yield _create_finding("class imbalance", "", 1, ordered[:1], **words)


def _check_leaks(rows, dataset):
    """Yield what is wrong with splits: empty ones, copies, and frames of one drive in two."""
    for split, detail in EMPTY.items():
        if not len(dataset.splits[split]):
            yield _create_finding("empty split", split, 0, [], detail=detail)
    rows = rows[rows.thumbnail.notna()].reset_index(drop=True)
    if rows["split"].empty:
        return
    thumbnails = np.stack(rows.thumbnail)
    titles = drop_shared_ending(name_pictures(rows.image))
    rows = rows.assign(title=titles, number=[name_sequence(title)[1] for title in titles])
    rows["sequence"] = find_sequences(titles, thumbnails)
    copies = collections.defaultdict(list)
    for i, j in find_near_duplicates(thumbnails).tolist():
        copies[tuple(dict.fromkeys(rows["split"][[i, j]]))].append((i, j))
    for splits, found in sorted(copies.items(), key=lambda item: -len(item[0])):
        detail = f", one in {splits[0]} and one in {splits[1]}" if len(splits) > 1 else ""
        where = [f"{titles[i]} = {titles[j]}" for i, j in found]
        yield _create_finding(
            "near-duplicates",
            ", ".join(splits),
            len(found),
            where,
            detail=detail,
            examples=(_show_two("near-duplicates", rows.loc[list(found[0])]),),
        )
    frames = pd.crosstab(rows.sequence, rows["split"])[rows["split"].unique()]
    frames = frames[frames.sum(axis=1) > 1]
    for first, second in itertools.combinations(frames, 2):
        shared = frames[(frames[first] > 0) & (frames[second] > 0)]
        if len(shared):
            where = [
                f"{sequence} ({row[first]:,} in {first}, {row[second]:,} in {second})"
                for sequence, row in shared.iterrows()
            ]
            both = rows[rows.sequence.isin(shared.index) & rows["split"].isin((first, second))]
            both = both.sort_values(["sequence", "number"])
            same = both.sequence == both.sequence.shift()
            gaps = both.number.diff().where(same & (both["split"] != both["split"].shift()))
            place = int(np.nanargmin(gaps))
            closest = both.iloc[place - 1 : place + 1].sort_index()
            yield _create_finding(
                "shared sequences",
                f"{first}, {second}",
                len(shared),
                where,
                total=len(frames),
                detail=f"{first} and {second}",
                examples=(_show_two("shared sequences", closest),),
            )
    for split in frames:
        sizes = frames[split][frames[split] > 1]
        if len(sizes):
            where = [f"{sequence} ({size:,})" for sequence, size in sizes.items()]
            total = f"{(rows['split'] == split).sum():,}"
            yield _create_finding("neighbours in time", split, int(sizes.sum()), where, total=total)


def _show_two(check, rows):
    """Example of two photographs, side by side."""
    splits, titles = rows["split"].tolist(), [title.rsplit("/", 1)[-1] for title in rows.title]
    pairs = tuple(zip(rows["image"], rows["mask"], strict=True))
    captions = tuple(f"{split}: {title}" for split, title in zip(splits, titles, strict=True))
    return Example(
        check, ", ".join(dict.fromkeys(splits)), pairs, captions, rows["encoding"].iloc[0]
    )


def _percent(share):
    value = 100 * share
    return f"{value:.1f} %".replace(".0 ", " ") if value >= 10 else f"{value:.2g} %"


def _name_file(path, root):
    path = pathlib.Path(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
