"""Data sets: pairs of image and mask in a folder, in splits, with the classes that they share."""

import collections
import contextlib
import csv
import dataclasses
import hashlib
import itertools
import os
import pathlib
import re
import tempfile
import types

import numpy as np
from scipy import ndimage

from seglib import pairing, splitting
from seglib.annotations import Annotation
from seglib.classes import (
    BACKGROUND,
    CUSTOMARY_IGNORE_LABEL,
    TABLE,
    ClassTable,
    create_class_table,
    find_tables,
    number_classes,
    voc_colors,
)
from seglib.images import (
    RGB,
    DatasetError,
    Pixels,
    find_file,
    read_image,
    split_pages,
    survey_images,
)
from seglib.masks import (
    BINARY,
    ENCODINGS,
    MAX_UNKNOWN_SHARE,
    MERGE_DISTANCE,
    Survey,
    choose_encoding,
    find_ids,
    find_unknown_colors,
    list_values,
    propose_class_table,
    read_mask,
    read_pair,
    survey_masks,
)
from seglib.system import make_folder, warn

EMBEDDED = pathlib.Path("data/streets")
KNOWN = pathlib.Path(__file__).with_name("known_classes.csv")
FEW = 8  # masks whose colours or regions are looked at
MANY_OBJECTS = 10  # in a mask: their numbers may have gaps, and are no classes all the same


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Pairs of image and mask that are read when they are asked for.

    `split[i]` is `(image, labels)`: uint8 `(height, width, channels)` and uint8
    `(height, width)`. `split[2:5]` is a split again. Where a picture has no mask, `labels` is None.

    Args:
        pairs: sequence of `(image path, mask path)`; the mask may be None.
        classes: ClassTable.
        encoding: str, see `read_labels`.
        resize_masks: bool, whether masks of another size than their image take its size.
        names: list of str, one for each pair; None for the images' file names without extension,
            with as many of their folders as tell them apart.
        pixels: Pixels, which bands of the photographs' files are channels, and in which range.
    """

    pairs: list
    classes: ClassTable
    encoding: str = "auto"
    names: list | None = None
    resize_masks: bool = False
    pixels: Pixels = RGB

    def __post_init__(self):
        pairs = [tuple(map(_as_path, pair)) for pair in self.pairs]
        object.__setattr__(self, "pairs", pairs)
        if self.names is None:
            images = [image for image, _ in pairs]
            names = [image.stem for image in images]
            if len(set(names)) < len(names):
                names = splitting.name_below_shared(images)
            object.__setattr__(self, "names", names)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return dataclasses.replace(self, pairs=self.pairs[index], names=self.names[index])
        image, mask = self.pairs[index]
        if mask is None:
            return read_image(image, self.pixels), None
        how = {"encoding": self.encoding, "resize_masks": self.resize_masks, "pixels": self.pixels}
        return read_pair(image, mask, self.classes, **how)

    def _take(self, chosen):
        """A Split of the pairs with these numbers."""
        pairs, names = ([every[i] for i in chosen] for every in (self.pairs, self.names))
        return dataclasses.replace(self, pairs=pairs, names=names)

    def _group(self, by, stratify):
        """Each pair's group, or their number, and its pixels of each class, or None."""
        groups = len(self)
        if isinstance(by, str) and by == "sequence":
            groups = splitting.find_groups([image for image, _ in self.pairs], self.pixels)
        elif not (isinstance(by, str) and by == "random"):
            groups = [by(name) for name in self.names] if callable(by) else by
            if isinstance(by, str) or np.shape(groups)[:1] != (len(self),):
                raise ValueError(
                    'expected by to be "random", "sequence", a function from a name to its group, '
                    f"or {len(self)} groups, received {by!r}"
                )
        if not stratify:
            return groups, None
        ids = list(self.classes.scored_ids)
        pixels = [np.bincount(labels.ravel(), minlength=max(ids) + 1)[ids] for _, labels in self]
        return groups, np.stack(pixels)

    def __repr__(self):
        return f"Split({len(self)} pairs)"


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
    """Three splits that share a class table. An absent split has length 0.

    `unpaired` are the paths of photographs without mask and masks without photograph. `unlabelled`
    is a Split of the photographs in a folder `unlabelled/`, or of a split without any mask, such
    as `test/` in a competition; it is not among `splits`.
    """

    path: pathlib.Path
    classes: ClassTable
    train: Split
    val: Split
    test: Split
    unpaired: tuple = ()
    unlabelled: Split = Split([], None)

    @property
    def splits(self) -> dict:
        """The three splits by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def __len__(self):
        return sum(len(split) for split in self.splits.values())

    def prepare(self, *, image_size=(128, 128), cache_dir="outputs/cache", **options):
        """Decode and resize all pairs once; see `seglib.prepare_dataset`."""
        from seglib.preparing import prepare_dataset

        return prepare_dataset(self, image_size=image_size, cache_dir=cache_dir, **options)

    def split(self, by="random", *, fractions=(0.7, 0.15, 0.15), seed: int = 0, stratify=True):
        """Deal all pairs out anew.

        Args:
            by: "random"; "sequence", which keeps the frames of a drive or film and near-duplicates
                together; a function from a pair's name to its group; or a sequence of groups, one
                for each pair in the order of `splits`.
            fractions: shares of train, val and test.
            seed: int, which pairs go where; the same on every machine.
            stratify: bool. True reads all masks, so that each class is in every split as far as
                the groups allow.

        Returns:
            Dataset; `write_splits` keeps it.
        """
        whole = _join([self.train, self.val, self.test])
        groups, presence = whole._group(by, stratify)
        dealt = splitting.deal_out(groups, fractions=fractions, seed=seed, presence=presence)
        return dataclasses.replace(self, **{name: whole._take(own) for name, own in dealt.items()})

    def folds(self, count: int = 5, by="sequence", *, seed: int = 0, stratify=True) -> list:
        """Deal the pairs of train and val out to folds; each fold is `val` of one data set.

        Args:
            count: int, how many folds.
            by, seed, stratify: as of `split`. Groups stay unbroken.

        Returns:
            list of `count` Datasets: `val` is a fold, `train` all others, `test` as it is. To
            deal out the pairs of test as well, call `dataset.split(fractions=(1, 0, 0)).folds()`.

        Raises:
            ValueError: there are fewer groups than folds.
        """
        whole = _join([self.train, self.val])
        groups, presence = whole._group(by, stratify)
        folds = splitting.deal_folds(groups, count, seed=seed, presence=presence)
        others = [np.setdiff1d(range(len(whole)), fold) for fold in folds]
        return [
            dataclasses.replace(self, train=whole._take(rest), val=whole._take(fold))
            for rest, fold in zip(others, folds, strict=True)
        ]

    def write_splits(self, path):
        """Write which pair is in which split, for `open_dataset(..., splits=path)`."""
        splitting.write_splits(path, {n: s.pairs for n, s in self.splits.items()}, self.path)

    def __repr__(self):
        shown = self.splits | ({"unlabelled": self.unlabelled} if self.unlabelled else {})
        counts = ", ".join(f"{name} {len(split)}" for name, split in shown.items())
        return f"Dataset({self.path.resolve().name}: {self.classes.num_classes} classes, {counts})"


def _join(splits):
    """A Split of all pairs of these."""
    pairs = [pair for split in splits for pair in split.pairs]
    names = [name for split in splits for name in split.names]
    return dataclasses.replace(splits[0], pairs=pairs, names=names)


def _as_path(half):
    return half if half is None or isinstance(half, Annotation) else pathlib.Path(half)


def open_dataset(
    path: str | os.PathLike,
    *,
    classes=None,
    images: str | None = None,
    masks: str | None = None,
    encoding: str = "auto",
    values: dict | None = None,
    resize_masks: bool = False,
    bands: tuple | None = None,
    value_range: tuple | None = None,
    splits: str | os.PathLike | None = None,
    format: str | None = None,
    unpaired: str = "error",
    fractions: tuple = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> Dataset:
    """Find the pairs of image and mask in a folder.

    Understood are the layouts in data/README.md: a folder a split, `images/` + `masks/` (or
    labels, annotations, …), Pascal VOC, labelme, Cityscapes, or all in one folder. Case does not
    matter. A mask is named like its image, but for an ending or beginning such as `_L`,
    `_labelIds` or `mask_`. The pictures of a split without any mask, and those in `unlabelled/`,
    are `dataset.unlabelled`.

    Args:
        path: str or path of the folder; a table of pairs: a CSV file or a pandas DataFrame; or an
            annotation file. `data/streets`, written just so, is the embedded data set
            and drawn if it is missing.
        classes: ClassTable; path of a CSV, JSON or text file; a mapping or list, see
            `create_class_table`; or None for `class_dict.csv`, `class_names.txt` or the like in
            `path`. Black and white masks and such of ids need none.
        images, masks: str or None, folder or pattern below `path` such as
            "gtFine/**/*_labelIds.png", where more than one reading is possible. `masks` may
            choose annotation files, such as "annotations/instances_*.json".
        encoding: "ids", "colors" or "binary", how masks with one channel or a palette show the
            classes; "auto" looks at all of them and decides once.
        values: dict or None, which values of masks with one channel show which class:
            `{0: "background", "1-9": "road", "rest": "tree", 255: None}`. Values of one name are
            one class, "rest" are all others, None is ignored.
        resize_masks: bool. True brings masks of another size than their image to its size; each
            pixel takes the nearest label.
        bands: ints from 0 on, 1 to 8 of them: which bands of the photographs, or pages that are
            bands, are the channels of the images. None for RGB, or the first three.
        value_range: `(low, high)`, the values of photographs with more than 8 bits, or with
            negative or fractional values, that become 0 and 255. None for those of all
            photographs, but for the outermost 0.1 %.
        splits: path of a file that `Dataset.write_splits` made, or None for the folder's own.
        format: str or None, one of datumaro's formats, such as "cvat"; needs the extra `formats`.
        unpaired: "error"; "skip" for the pairs that there are; or "background", where there are
            annotations, for photographs that none names.
        fractions: shares of train, val and test where the folder has no splits.
        seed: int, which pairs go where then; the same on every machine.

    Raises:
        FileNotFoundError: there is no such folder.
        DatasetError: nothing to pair, an image without mask or a mask without image,
            or no class table; then the colours found are offered.
    """
    if encoding not in ("auto", *ENCODINGS) or unpaired not in ("error", "skip", "background"):
        raise ValueError(
            f"expected encoding to be auto, {', '.join(ENCODINGS)}, and unpaired to be error "
            f"or skip, or background for annotations, received {encoding!r} and {unpaired!r}"
        )
    tables = None if images is None and splits is None else []  # the folder's own may name pairs
    if not isinstance(path, str | os.PathLike):
        path, tables = ".", [path]
    path = pathlib.Path(path)
    if path.is_file():
        path, masks = path.parent, path.name
    if path == EMBEDDED and not path.exists():
        from seglib import scenes

        scenes.write_scenes(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder at {path}: expected images and masks in it")

    files = pairing.find_files(path, images, masks) if not tables else ([], [], [])
    found, lonely, classes = pairing.find_pairs(
        path, files, tables, masks, splits, format, classes, unpaired
    )
    pairs = pairing.sort_into_splits(
        path, found.pairs, splits, fractions, seed, as_bands=bands is not None
    )
    every = [pair for own in pairs.values() for pair in own]
    images, masks = ([pair[half] for pair in every] for half in (0, 1))
    if found.names:
        encoding = "ids"
    else:
        classes, encoding = _find_classes(path, classes, files[2], masks, encoding, values, images)
    objects = [mask.name for _, mask in found.pairs if getattr(mask, "aside", False)]
    if objects and classes.names[0] == "class_0":
        raise DatasetError(
            f"{path} has masks that number objects, such as {objects[0]}, and none of "
            'classes: add these, or pass values={0: "background", "rest": "object"} to '
            "open_dataset to read all objects as one class"
        )
    pixels = survey_images(images, Pixels(bands, value_range), path)
    left, new = Split(every, classes, encoding, None, resize_masks, pixels), {}
    for name, own in pairs.items():
        new[name], left = left[: len(own)], left[len(own) :]
    labelled = set(images)
    bare = [image for image in found.bare if image not in labelled]
    if any(find_file(image)[1] is not None for image in images):
        bare = [page for page, _ in split_pages([(image, image) for image in bare])]
    bare = [(image, None) for image in bare]
    unlabelled = Split(bare, classes, encoding, pixels=pixels)
    return Dataset(path, classes, **new, unpaired=tuple(lonely), unlabelled=unlabelled)


def open_arrays(
    images, labels, *, classes=None, folder: str | os.PathLike = "outputs/arrays", **options
) -> Dataset:
    """Open NumPy arrays as a data set.

    They are written once, below a folder, since splits, caches and runs refer to files.

    Args:
        images: array `(n, height, width[, channels])`, or a sequence of n arrays of any sizes.
        labels: int array `(n, height, width)` of class ids, or a sequence likewise.
        classes: as of `open_dataset`, such as a list of names.
        folder: str or path, created if missing.
        options: further arguments of `open_dataset`, such as `fractions`.

    Raises:
        ValueError: there are not as many images as labels, or labels are no ids.
    """
    if not len(images) == len(labels) > 0:
        raise ValueError(
            f"expected as many images as labels, received {len(images)} and {len(labels)}"
        )
    pairs = [tuple(map(np.asarray, pair)) for pair in zip(images, labels, strict=True)]
    wrong = [ids.shape for _, ids in pairs if ids.ndim != 2 and ids.shape[2:] != (1,)]
    if wrong:
        advice = "take np.argmax(labels, axis=-1) of one-hot labels"
        raise ValueError(f"expected labels (height, width) of class ids, not {wrong[0]}: {advice}")
    digest = hashlib.blake2b(digest_size=8)
    for array in itertools.chain(*pairs):
        digest.update(f"{array.shape} {array.dtype}".encode() + array.tobytes())
    path = make_folder(folder, "the arrays") / digest.hexdigest()
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            for half, name in enumerate(("images", "masks")):
                os.makedirs(f"{unfinished}/done/{name}")
                for i, pair in enumerate(pairs):
                    np.save(f"{unfinished}/done/{name}/{i:06}.npy", pair[half])
            os.replace(f"{unfinished}/done", path)
    return open_dataset(path, classes=classes, **options)


# Which classes the masks show


def _find_classes(path, given, others: list, paths: list, encoding, values, images: list) -> tuple:
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
    survey, unfit = survey_masks(paths), []
    tables = find_tables(given, others, survey.colors)
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
        classes, shown = _find_known_classes(path, images, paths, survey)
        encoding = shown if encoding == "auto" else encoding
    if encoding in ("auto", "binary"):
        found = [both[0] for both in tables.values()] if classes is None else [classes]
        _refuse_lossy_ids(path, found, survey, encoding)
    if classes is None:
        classes = _propose(path, paths, survey, encoding, unfit)
    if encoding == "auto":
        encoding = choose_encoding(survey, classes)
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
    if (alone and encoding == "auto") or max(survey.values) < MERGE_DISTANCE:
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
        proposed = propose_class_table(paths, lossy=survey.lossy)
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


def propose_from_survey(survey: Survey) -> ClassTable | None:
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
            labels, _, _ = read_mask(path, BINARY, encoding="ids")
            boxes = enumerate(ndimage.find_objects(labels), 1)
            regions = [box and ndimage.label(labels[box] == i, corners)[1] for i, box in boxes]
            highest.add(len(regions))
            if sum(map(bool, regions)) >= MANY_OBJECTS:
                regions = [number for number in regions if number]
            if regions.count(1) < 0.9 * len(regions):  # some are left out, or cut in two
                return False
    return len(highest) > 1 and max(highest) > 2


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
        encoding = choose_encoding(survey, table)
    strange, shares, shows = collections.Counter(), [], table.mapping
    if encoding == "colors" and (survey.values or survey.colored):
        for path in paths[:: -(-len(paths) // FEW)]:
            with contextlib.suppress(DatasetError):
                _, pixels, lossy = read_mask(path, table, encoding="colors")
                unknown = find_unknown_colors(pixels, table, lossy=lossy)
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
    rank = unknown > MAX_UNKNOWN_SHARE, unknown > 0, by_order
    return types.SimpleNamespace(
        file=file, table=table, unknown=unknown, missing=missing, shows=shows, rank=rank
    )


# Well-known data sets


def _find_known_classes(path, images, paths, survey) -> tuple:
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
