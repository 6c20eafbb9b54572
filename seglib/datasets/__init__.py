"""Finding pairs of image and mask in a folder, and splitting them."""

import dataclasses
import os
import pathlib

import numpy as np

from seglib import scenes, splitting
from seglib.classes import ClassTable
from seglib.datasets.files import SPLIT_NAMES
from seglib.datasets.layouts import find_layout
from seglib.datasets.tables import find_classes
from seglib.encodings import ENCODINGS, read_pair
from seglib.images import DatasetError
from seglib.statistics import count_pixels

EMBEDDED = "streets"


class Split:
    """Pairs of image and mask that are read when they are asked for.

    `split[i]` is `(image, labels)`: uint8 `(height, width, 3)` and uint8
    `(height, width)`. `split[2:5]` is a split again.

    Args:
        pairs: sequence of `(image path, mask path)`.
        classes: ClassTable.
        encoding: str, how masks with one channel show the classes; see `read_labels`.
        names: list of str, one for each pair; the images' file names without extension, and
            with as many of their folders as tell them apart, where it is None.
    """

    def __init__(self, pairs, classes, encoding="auto", names=None):
        self.pairs = [(pathlib.Path(image), pathlib.Path(mask)) for image, mask in pairs]
        self.classes, self.encoding = classes, encoding
        self.names = name_apart([image for image, _ in self.pairs]) if names is None else names

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Split(self.pairs[index], self.classes, self.encoding, self.names[index])
        return read_pair(*self.pairs[index], self.classes, encoding=self.encoding)

    def __repr__(self):
        return f"Split({len(self)} pairs)"


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
    """Three splits that share a class table. An absent split has length 0.

    Args:
        path: path of the folder.
        classes: ClassTable.
        train, val, test: Split.
        unpaired: tuple of paths, photographs without mask and masks without photograph.
    """

    path: pathlib.Path
    classes: ClassTable
    train: Split
    val: Split
    test: Split
    unpaired: tuple = ()

    @property
    def splits(self):
        """dict of the three splits by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def __len__(self):
        return sum(len(split) for split in self.splits.values())

    def prepare(self, *, image_size=(128, 128), cache_dir="outputs/cache", **options):
        """Decode and resize all pairs once; see `seglib.prepare_dataset`."""
        from seglib.preparing import prepare_dataset

        return prepare_dataset(self, image_size=image_size, cache_dir=cache_dir, **options)

    def split(self, by="random", *, fractions=(0.7, 0.15, 0.15), seed=0, stratify=True):
        """Deal all pairs out anew.

        Args:
            by: "random"; "sequence", which keeps the frames of a drive or film and near-duplicates
                together, see `splitting.find_groups`; a function from a pair's name to its
                group; or a sequence of groups, one for each pair in the order of `splits`.
            fractions: shares of train, val and test.
            seed: int, which pairs go where; the same on every machine.
            stratify: bool. True reads all masks, so that each class is in every split as far as
                the groups allow.

        Returns:
            Dataset; `write_splits` keeps it.

        Raises:
            ValueError: `by` is none of these, or there are fewer groups than splits.
        """
        old = list(self.splits.values())
        pairs = [pair for split in old for pair in split.pairs]
        names = [name for split in old for name in split.names]
        groups = self._find_groups(by, pairs, names)
        presence = None
        if stratify:
            num_classes = self.classes.num_classes
            presence = np.concatenate(
                [count_pixels(s, num_classes=num_classes) for s in old if len(s)]
            )
            presence = presence[:, list(self.classes.scored_ids)]
        dealt = splitting.deal_out(groups, fractions=fractions, seed=seed, presence=presence)
        new = {
            name: Split(
                [pairs[i] for i in chosen],
                self.classes,
                self.train.encoding,
                [names[i] for i in chosen],
            )
            for name, chosen in dealt.items()
        }
        return dataclasses.replace(self, **new)

    def _find_groups(self, by, pairs, names):
        if isinstance(by, str) and by == "random":
            return len(pairs)
        if isinstance(by, str) and by == "sequence":
            return splitting.find_groups([image for image, _ in pairs])
        groups = [by(name) for name in names] if callable(by) else by
        is_series = hasattr(groups, "__len__") and not isinstance(groups, str)
        if not is_series or len(groups) != len(pairs):
            raise ValueError(
                'expected by to be "random", "sequence", a function from a name to its group, or '
                f"{len(pairs)} groups, received {by!r}"
            )
        return groups

    def write_splits(self, path):
        """Write which pair is in which split, for `open_dataset(..., splits=path)`."""
        splitting.write_splits(path, {n: s.pairs for n, s in self.splits.items()}, self.path)

    def __repr__(self):
        counts = ", ".join(f"{name} {len(split)}" for name, split in self.splits.items())
        return f"Dataset({self.path.resolve().name}: {self.classes.num_classes} classes, {counts})"


def name_apart(images):
    """Return a name for each picture: its stem, or with its folders where stems occur twice."""
    stems = [image.stem for image in images]
    if len(set(stems)) == len(stems):
        return stems
    shared = len(pathlib.Path(os.path.commonpath([image.parent for image in images])).parts)
    return [pathlib.Path(*image.parts[shared:]).with_suffix("").as_posix() for image in images]


def open_dataset(
    path,
    *,
    classes=None,
    images=None,
    masks=None,
    encoding="auto",
    splits=None,
    unpaired="error",
    fractions=(0.7, 0.15, 0.15),
    seed=0,
):
    """Find the pairs of image and mask in a folder.

    Understood are `train/` + `train_labels/` (and val, test); `images/` + `masks/` (or labels,
    annotations, …), with a folder a split inside or outside, or none; `JPEGImages/` +
    `SegmentationClass/` with lists of names, or as labelme exports them; masks in the same
    folder, told by an ending, a beginning or another extension. Case does not matter. A mask is
    named like its image, but for an ending or beginning such as `_L`, `_labelIds` or `mask_`. A
    split without any mask is left out.

    Args:
        path: str or path of the folder. `data/streets`, the embedded data set, is
            drawn if it is missing.
        classes: ClassTable; path of a CSV, JSON or text file; a mapping or list, see
            `create_class_table`; or None for `class_dict.csv`, `class_names.txt` or the like in
            `path`. Black and white masks and such of ids need none.
        images, masks: str or None, folder or pattern below `path` such as
            "gtFine/**/*_labelIds.png", where more than one reading is possible.
        encoding: "ids", "colors" or "binary", how masks with one channel or a palette show the
            classes; "auto" looks at all of them and decides once.
        splits: path of a file that `Dataset.write_splits` made, or None for the folder's own.
        unpaired: "error", or "skip" for the pairs that there are.
        fractions: shares of train, val and test where the folder has no splits.
        seed: int, which pairs go where then; the same on every machine.

    Returns:
        Dataset.

    Raises:
        FileNotFoundError: there is no such folder.
        DatasetError: nothing to pair, an image without mask or a mask without image,
            or no class table; then the colours found are offered.
        ValueError: an argument is not one of its choices.
    """
    path = pathlib.Path(path)
    _check_choice("encoding", encoding, ("auto", *ENCODINGS))
    _check_choice("unpaired", unpaired, ("error", "skip"))
    if path.name == EMBEDDED and not path.exists():
        scenes.write_scenes(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder at {path}: expected images and masks in it")
    layout = find_layout(path, images=images, masks=masks)
    if unpaired == "error":
        _check_paired(layout)
    pairs = layout.pairs
    if splits is not None:
        pairs = splitting.read_splits(splits, path)
    elif None in pairs:
        dealt = splitting.deal_out(len(pairs[None]), fractions=fractions, seed=seed)
        pairs = {name: [pairs[None][i] for i in chosen] for name, chosen in dealt.items()}
    mask_paths = [mask for chosen in pairs.values() for _, mask in chosen]
    classes, encoding = find_classes(path, classes, layout.others, mask_paths, encoding)
    return Dataset(
        path=path,
        classes=classes,
        unpaired=(*layout.without_mask, *layout.without_image),
        **_create_splits(pairs, classes, encoding),
    )


def _create_splits(pairs, classes, encoding):
    pairs = {name: pairs.get(name, []) for name in SPLIT_NAMES}
    names = iter(name_apart([image for chosen in pairs.values() for image, _ in chosen]))
    return {
        name: Split(chosen, classes, encoding, [next(names) for _ in chosen])
        for name, chosen in pairs.items()
    }


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"expected {name} to be one of {', '.join(choices)}, received {value!r}")


def _check_paired(layout):
    mask, mask_folder, image, image_folder = layout.expected
    advice = 'or pass unpaired="skip" to go on without it'
    if layout.without_mask:
        raise DatasetError(
            f"{len(layout.without_mask)} images have no mask, first {layout.without_mask[0].name}: "
            f"expected {mask}.png in {mask_folder}; add the mask or remove the image, {advice}"
        )
    if layout.without_image:
        raise DatasetError(
            f"{len(layout.without_image)} masks have no image, first "
            f"{layout.without_image[0].name}: expected {image} with a picture's extension in "
            f"{image_folder}; add the image or remove the mask, {advice}"
        )
