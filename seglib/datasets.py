"""Data sets: pairs of image and mask in a folder, in splits, with the classes that they share."""

import dataclasses
import hashlib
import itertools
import os
import pathlib
import tempfile

import numpy as np

from seglib import pairing, splitting
from seglib.annotations import Annotation
from seglib.classes import ClassTable
from seglib.images import (
    RGB,
    DatasetError,
    Pixels,
    find_file,
    read_image,
    split_pages,
    survey_images,
)
from seglib.legends import find_classes
from seglib.masks import ENCODINGS, read_pair
from seglib.system import make_folder

EMBEDDED = pathlib.Path("data/streets")


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
        classes, encoding = find_classes(path, classes, files[2], masks, encoding, values, images)
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
