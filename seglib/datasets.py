"""Finding pairs of image and mask in a folder, and splitting them."""

import collections
import contextlib
import dataclasses
import fnmatch
import glob
import hashlib
import itertools
import os
import pathlib
import re
import tempfile
import unicodedata
import warnings

import numpy as np
from PIL import Image

from seglib import annotations, splitting
from seglib.annotations import Annotation
from seglib.classes import ClassTable
from seglib.images import (
    ARRAYS,
    RGB,
    SUFFIXES,
    DatasetError,
    Pixels,
    open_picture,
    read_image,
    split_pages,
    survey_images,
)
from seglib.legends import find_classes, find_table
from seglib.masks import ENCODINGS, read_pair
from seglib.system import make_folder

EMBEDDED = pathlib.Path("data/streets")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_OF_WORD = {word: split for split, words in SPLIT_NAMES.items() for word in words}
SPLIT_OF_WORD |= dict.fromkeys(("unlabelled", "unlabeled"), "unlabelled")
LISTS = {**SPLIT_NAMES, "train": ("train", "training", "trainval", "train_val")}
# What folders are called: of photographs, of masks, and of what exporters write beside the masks.
IMAGE_WORD = "images?|imgs?|photos?|pictures?|rgb|frames?|inputs?"
MASK_WORD = (
    "masks?|label(l?ed|s)?|annot(ation)?s?|gts?|(ground)?truth|seg(mentation)?s?|targets?"
    "|semantics?|stuffthingmaps"
)
PASSED_OVER = "visualizations?|viz|overlays?|npy|previews|thumbnails"
# Set aside where others pair: masks that number objects, and measured distances.
OBJECTS = "instances?|panoptic"
DISTANCES = "n?dsm|depths?|disparity|disparities"
FOLDER_WORDS = [
    re.compile(words) for words in (MASK_WORD, IMAGE_WORD, PASSED_OVER, OBJECTS, DISTANCES)
]
OBJECT_NAME = re.compile(r"_instance(Train)?Ids$|_parts_\d+$|^instance_\d+_|_polygons$")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
RUN_TOGETHER = re.compile(  # such as trainannot
    rf"^({'|'.join(SPLIT_OF_WORD)}|default)(?=({IMAGE_WORD}|{MASK_WORD})\b)", re.IGNORECASE
)
# What the names of masks and of photographs have before or after what they have in common.
KINDS = ("L", "mask", "masks", "label", "labels", "gt", "labelTrainIds", "labelIds", "seg")
MASK_AFFIX = re.compile(
    rf"(?<=.)[_\- ]({'|'.join(KINDS)}|segmentation|annotation|color)([_\-]\d{{1,3}})?$"
    r"|^(mask|labels?|gt|seg|L)[_\-](?=.)"
)
IMAGE_AFFIX = re.compile("(?<=.)_(sat|image|img|photo|rgb)$|^(image|img|photo)_(?=.)")
ROLES = ("mask", "image")
SEPARATORS = "_-. "
LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
MAX_KINDS = 10  # of masks in one folder, told by the last word of their names
MAX_DRAWN = 64  # colours of a mask in a folder that does not say that it holds masks
# Masks that are compared, at this size; the mean variance of a pixel between them over the variance
# of all pixels: 0 for a camera's field of view, near 1 for what is drawn into each picture.
MAX_COMPARED, SIDE, MIN_VARIATION = 8, 32, 0.2
# What of the folders of two halves must agree, from all of it to nothing.
AGREEMENTS = (("split", "place"), ("split", "folders"), ("split",), ())


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
        pairs = [tuple(map(_keep_path, pair)) for pair in self.pairs]
        object.__setattr__(self, "pairs", pairs)
        if self.names is None:
            object.__setattr__(self, "names", name_apart([image for image, _ in pairs]))

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
    unlabelled: Split | None = None

    def __post_init__(self):
        if self.unlabelled is None:
            empty = dataclasses.replace(self.train, pairs=[], names=[])
            object.__setattr__(self, "unlabelled", empty)

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
        old = list(self.splits.values())
        pairs, names, groups, presence = self._gather(old, by, stratify)
        dealt = splitting.deal_out(groups, fractions=fractions, seed=seed, presence=presence)
        new = {name: _take(pairs, names, chosen, self.train) for name, chosen in dealt.items()}
        return dataclasses.replace(self, **new)

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
        pairs, names, groups, presence = self._gather([self.train, self.val], by, stratify)
        groups = list(range(groups)) if isinstance(groups, int) else list(groups)
        if not 1 < count <= len(set(groups)):
            raise ValueError(
                f"{len(set(groups))} groups cannot be dealt out to {count} folds: expected two "
                'folds or more and a group for each; make finer groups, or pass by="random"'
            )
        left, folds = np.arange(len(pairs)), []
        for number in range(count, 0, -1):
            own, shares = [groups[i] for i in left], (1 - 1 / number, 1 / number, 0)
            some = None if presence is None else presence[left]
            dealt = splitting.deal_out(own, fractions=shares, seed=seed, presence=some)
            fold, left = left[dealt["val"]], left[dealt["train"]]
            others = np.setdiff1d(np.arange(len(pairs)), fold)
            new = {"train": others, "val": fold}
            new = {name: _take(pairs, names, chosen, self.train) for name, chosen in new.items()}
            folds.append(dataclasses.replace(self, **new))
        return folds

    def _gather(self, old, by, stratify):
        """`(pairs, names, groups, presence)` of these splits, for `splitting.deal_out`."""
        pairs = [pair for split in old for pair in split.pairs]
        names = [name for split in old for name in split.names]
        if isinstance(by, str) and by == "random":
            groups = len(pairs)
        elif isinstance(by, str) and by == "sequence":
            groups = splitting.find_groups([image for image, _ in pairs], self.train.pixels)
        else:
            groups = [by(name) for name in names] if callable(by) else by
            if isinstance(by, str) or np.shape(groups)[:1] != (len(pairs),):
                raise ValueError(
                    'expected by to be "random", "sequence", a function from a name to its group, '
                    f"or {len(pairs)} groups, received {by!r}"
                )
        presence = None
        if stratify:
            ids = list(self.classes.scored_ids)
            labels, count = (labels for split in old for _, labels in split), max(ids) + 1
            presence = np.stack([np.bincount(x.ravel(), minlength=count)[ids] for x in labels])
        return pairs, names, groups, presence

    def write_splits(self, path):
        """Write which pair is in which split, for `open_dataset(..., splits=path)`."""
        splitting.write_splits(path, {n: s.pairs for n, s in self.splits.items()}, self.path)

    def __repr__(self):
        shown = self.splits | ({"unlabelled": self.unlabelled} if self.unlabelled else {})
        counts = ", ".join(f"{name} {len(split)}" for name, split in shown.items())
        return f"Dataset({self.path.resolve().name}: {self.classes.num_classes} classes, {counts})"


def _take(pairs, names, chosen, like):
    """A Split like another one, of the chosen pairs."""
    own = [names[i] for i in chosen]
    return dataclasses.replace(like, pairs=[pairs[i] for i in chosen], names=own)


def _keep_path(half):
    return half if half is None or isinstance(half, Annotation) else pathlib.Path(half)


def name_apart(images) -> list:
    """Return a name for each picture: its stem, or with its folders where stems occur twice."""
    stems = [image.stem for image in images]
    if len(set(stems)) == len(stems):
        return stems
    shared = len(pathlib.Path(os.path.commonpath([image.parent for image in images])).parts)
    return [pathlib.Path(*image.parts[shared:]).with_suffix("").as_posix() for image in images]


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
    table = None if isinstance(path, str | os.PathLike) else path
    path = given = pathlib.Path(path if table is None else ".")
    if path.is_file():
        path, masks = path.parent, path.name
    if encoding not in ("auto", *ENCODINGS) or unpaired not in ("error", "skip", "background"):
        raise ValueError(
            f"expected encoding to be auto, {', '.join(ENCODINGS)}, and unpaired to be error "
            f"or skip, or background where there are annotations, received {encoding!r} and "
            f"{unpaired!r}"
        )
    if path == EMBEDDED and not path.exists():
        from seglib import scenes

        scenes.write_scenes(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder at {path}: expected images and masks in it")
    pixels = Pixels(bands, value_range)
    pictures, aside, others = [], [], []
    if table is None:
        pictures, aside, others = _find_pictures(path, images, masks)
    if format is None:
        tables = others if splits is None else []
        photographs, found = _find_drawn(path, pictures, tables, table, images, masks)
    else:
        found = annotations.import_annotations(path, format, pictures)
    chosen = masks is not None
    every, lonely = ([], []) if found else _choose_reading(path, pictures, chosen)
    if not (found or every):
        files = _choose(others, path, masks) if chosen else others
        found = annotations.read_sources(path, files, photographs, pairs=False)
    if not (found or every) and splits is not None:
        found = annotations.read_sources(path, [pathlib.Path(splits)], pictures, pairs=True)
    if not (found or every or annotations.name_unread(path, others)):
        every, lonely = _choose_reading(path, pictures + aside, chosen)
    if found and found.names and classes is None:
        classes = find_table(others, found.names)
    if found:
        every, classes = annotations.settle(found, path, classes, unpaired)
    elif not every and given != path:
        raise FileNotFoundError(f"no folder at {given}: expected images and masks in it")
    elif not every:
        others += [picture.path for picture in aside]
        raise DatasetError(_explain_no_pairs(path, others, table))
    unlabelled = _find_unlabelled(pictures, every, found.bare if found else [])
    number_objects = [mask.name for _, mask in every if not found and mask.aside]
    pairs, lonely = _sort_into_splits(path, every, lonely, [] if found else others)
    if unpaired != "skip" and lonely:
        image, mask = (half.path.relative_to(path) for half in every[0])
        raise DatasetError(
            f"{len(lonely)} pictures have no other half, first {lonely[0]}: expected every mask to "
            f"be named like {mask} of {image}; add what is missing or remove the picture, or pass "
            'unpaired="skip" to go on without it'
        )
    pairs = {
        name: split_pages(chosen, as_bands=bands is not None) for name, chosen in pairs.items()
    }
    if splits is not None:
        drawn = [mask.path for _, mask in every if isinstance(mask.path, Annotation)]
        pairs = splitting.read_splits(splits, path, drawn)
    elif None in pairs:
        dealt = splitting.deal_out(len(pairs[None]), fractions=fractions, seed=seed)
        pairs = {name: [pairs[None][i] for i in chosen] for name, chosen in dealt.items()}
    elif list(pairs) == ["train"]:
        warnings.warn(
            f"{path}: only train has masks, so val and test are empty: deal its pairs out with "
            'dataset = dataset.split(fractions=(0.8, 0.2, 0)), or with by="sequence" for films',
            stacklevel=2,
        )
    pairs = {name: pairs.get(name, []) for name in SPLIT_NAMES}
    every = [pair for chosen in pairs.values() for pair in chosen]
    if found and found.names:
        encoding = "ids"
    else:
        images, masks = ([pair[half] for pair in every] for half in (0, 1))
        classes, encoding = find_classes(path, classes, others, masks, encoding, values, images)
    if number_objects and classes.names[0] == "class_0":
        raise DatasetError(
            f"{path} has masks that number objects, such as {number_objects[0]}, and none of "
            'classes: add these, or pass values={0: "background", "rest": "object"} to '
            "open_dataset to read all objects as one class"
        )
    pixels = survey_images([image for image, _ in every], pixels, path)
    names = iter(name_apart([image for image, _ in every]))
    new = {
        name: Split(
            chosen,
            classes,
            encoding,
            list(itertools.islice(names, len(chosen))),
            resize_masks,
            pixels,
        )
        for name, chosen in pairs.items()
    }
    labelled = {image for image, _ in every}
    bare = [(image, None) for image in unlabelled if image not in labelled]
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
        ValueError: there are not as many images as labels, or the sizes of a pair differ.
    """
    pairs = [(np.asarray(image), np.asarray(ids)) for image, ids in zip(images, labels)]  # noqa: B905
    different = [i for i, (image, ids) in enumerate(pairs) if image.shape[:2] != ids.shape[:2]]
    if not len(images) == len(labels) > 0 or different:
        where = f", and other sizes at {different[0]}" if different else ""
        raise ValueError(
            "expected as many images as labels, of the same height and width, received "
            f"{len(images)} and {len(labels)}{where}"
        )
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


# The pictures in a folder, and what the names of their folders say about them


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A file, and what its folders say."""

    path: pathlib.Path
    name: str  # its path below the data set's folder, with `/`, in one of Unicode's spellings
    stem: str  # its file's name without extension, likewise
    split: str | None
    role: str | None  # "image", "mask", or None where no folder says
    source: tuple  # the words of the folders that say the role
    place: tuple  # what else is in the folders' names
    folders: tuple  # the folders that say neither split nor role
    aside: bool = False  # it shows objects, parts or distances


def _find_pictures(path, images, masks):
    """`(pictures, those to set aside, other files)`; `images`, `masks` are folders, patterns, None.

    Set aside are arrays, masks of objects or parts, and distances: they count where nothing else
    pairs.
    """
    files, arrays, others = [], [], []
    for folder, names, found in os.walk(path, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        for name in sorted(file for file in found if not file.startswith(".")):
            file, suffix = pathlib.Path(folder, name), os.path.splitext(name)[1].lower()
            kind = files if suffix in SUFFIXES else arrays if suffix in ARRAYS else others
            kind.append(file)
    folders = [file.parent for file in (*files, *arrays)]
    shared = len(pathlib.Path(os.path.commonpath(folders)).parts) if folders else 0
    asked = {}
    for role, pattern in zip(ROLES, (masks, images), strict=True):
        if pattern is None:
            continue
        relative = os.path.relpath(os.path.join(path, pattern), path)
        asked[role] = _normalize(pathlib.PurePath(relative).as_posix())
        if not any(
            _matches(_name_below(file, path), asked[role]) for file in (*files, *arrays, *others)
        ):
            raise DatasetError(
                f"{role}s={pattern!r} matches no picture in {path}: expected a folder below it, or "
                'a pattern such as "gtFine/**/*_labelIds.png"'
            )
    pictures = list(filter(None, (_describe(file, path, shared, asked) for file in files)))
    aside = [picture for picture in pictures if picture.aside]
    aside += filter(None, (_describe_array(file, path, shared, asked) for file in arrays))
    return [picture for picture in pictures if not picture.aside], aside, others


def _describe(file, path, shared, asked):
    """Picture, or None; the first `shared` parts of its path are those of all pictures."""
    name = _name_below(file, path)
    chosen = next((role for role in asked if _matches(name, asked[role])), None)
    split = role = None
    source, place, folders, aside = (), (), (), bool(OBJECT_NAME.search(file.stem))
    for part in file.parent.parts[shared:]:
        words = WORD.findall(RUN_TOGETHER.sub(r"\1_", _normalize(part)))
        words = [word.lower() for word in words]
        splits = [SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD]
        rest = tuple(word for word in words if word not in SPLIT_OF_WORD)
        is_mask, is_image, is_other, are_objects, are_distances = (
            any(map(kind.fullmatch, words)) for kind in FOLDER_WORDS
        )
        if chosen is None and is_other:
            return None
        if splits:  # train_val is for training
            split = "train" if "train" in splits else splits[-1]
        are_objects |= is_mask and not {"object", "objects"}.isdisjoint(words)
        aside |= are_objects or are_distances
        if is_mask or is_image or are_objects:
            role, source = "image" if is_image and not is_mask else "mask", source + rest
        elif not splits:
            folders += (part,)
        place += tuple(w for w in rest if not any(kind.fullmatch(w) for kind in FOLDER_WORDS[:2]))
    if chosen is None and (role or "image") in asked:
        return None  # another one of the kind that was chosen
    stem, aside = _normalize(file.stem), aside and chosen is None
    return Picture(file, name, stem, split, chosen or role, source, place, folders, aside)


def _describe_array(file, path, shared, asked):
    """Picture of a `.npy` file, whose name may say what else folders say: `X_train`, `masks`."""
    plain = _describe(file, path, shared, asked)
    if plain is None or plain.role:
        return plain
    words = [{"x": "images", "y": "masks"}.get(w, w) for w in annotations.list_words(file.stem)]
    known = [w for w in words if w in SPLIT_OF_WORD or any(k.fullmatch(w) for k in FOLDER_WORDS)]
    said = _describe(file.parent / "_".join(known) / file.name, path, shared, asked)
    stem = "_".join(word for word in words if word not in known)
    return said and dataclasses.replace(said, path=file, name=plain.name, stem=stem)


def _normalize(name):
    """One spelling for names that Unicode can spell in two ways, as macOS and Linux do."""
    return unicodedata.normalize("NFC", name)


def _name_below(file, path):
    return _normalize(file.relative_to(path).as_posix())


def _matches(name, pattern):
    """Whether a path, relative to the data set's folder, is chosen by a folder or a pattern."""
    return name.startswith(f"{pattern}/") or fnmatch.fnmatchcase(name, pattern.replace("**/", "*"))


# Which mask belongs to which photograph. A reading is one way to pair them, `(pairs, doubles,
# lonely)`: pairs of Pictures, lists of those of one name, and paths of those without other half.


def _choose_reading(path, pictures, chosen):
    """`(pairs, lonely)`: what pairs most; other readings are told of, if no masks were chosen."""
    found = _find_all_readings(pictures, chosen)
    if not found:
        return [], []
    best = max(found, key=lambda reading: (len(reading[0]), len(found) == 1 or _fit(reading)))
    if len(found) > 1 and _are_alike(best):  # such as the field of view beside the vessels
        others = [reading for reading in found if not reading[2] and not _are_alike(reading)]
        best = max(others, key=lambda reading: len(reading[0]), default=best)
    pairs, doubles, lonely = best
    if doubles:
        first, second = doubles[0][:2]
        raise DatasetError(
            f"{first.path} and {second.path} have the same name: expected one picture of each; "
            "remove or rename one, or choose folders with images= and masks="
        )
    _refuse_several(pairs, pictures)
    others = ", ".join(f"masks={_name_masks(r[0])!r}" for r in found if r is not best)
    unsaid = pairs[0][1].role is None and pairs[0][0].role == "image"
    if others or unsaid:
        taken = _name_masks(pairs)
        words = f"also possible are {others}, passed to open_dataset; or"
        words = words if others else "the folder's name does not say that it holds masks:"
        warnings.warn(
            f"{path}: masks are taken from {taken}; {words} pass masks={taken!r} to confirm the "
            "choice",
            stacklevel=3,
        )
    return pairs, lonely


def _refuse_several(pairs, pictures):
    """Raise DatasetError where a picture has a second mask file, such as `x_mask_1.png`."""
    taken = {(mask.path.parent, _bare(mask.stem)): (image, mask) for image, mask in pairs}
    for picture in pictures:
        pair = taken.get((picture.path.parent, _bare(picture.stem)))
        affixes = [MASK_AFFIX.search(mask.stem) for mask in (picture, *(pair or ())[1:])]
        numbered = any(affix and affix[0][-1].isdigit() for affix in affixes)
        if pair and picture not in pair and affixes[0] and numbered:
            raise DatasetError(
                f"{pair[0].path} has several mask files, {pair[1].path.name} and "
                f"{picture.path.name}: merge them into one, or pass masks={_name_masks(pairs)!r} "
                "to read one of each picture"
            )


def _find_all_readings(pictures, chosen):
    """Readings of each source of masks, and of folders beside images/ that may hold masks too."""
    pictures = [picture for picture in pictures if picture.split != "unlabelled"]
    photographs, sources = _tell_apart(pictures)
    found = [reading for masks in sources for reading in _find_readings(photographs, masks)]
    images = [picture for picture in pictures if picture.role == "image"]
    unsaid = collections.defaultdict(list)
    for picture in pictures if images and not chosen else ():
        if picture.role is None:
            unsaid[picture.folders[:1]].append(picture)
    drawn = [group for group in unsaid.values() if _looks_drawn(group[0].path)]
    return found + [reading for masks in drawn for reading in _find_readings(images, masks)]


def _fit(reading):
    """Whether its first mask is as large as the photograph, upright or not, and has few colours."""
    with contextlib.suppress(DatasetError):
        image, mask = (half.path for half in reading[0][0])
        sizes = [sorted(open_picture(half, decode=False).size) for half in (image, mask)]
        return sizes[0] == sizes[1], _looks_drawn(mask)
    return False, False


def _are_alike(reading):
    """Whether its masks are black and white, and pixels vary little from mask to mask."""
    masks = [mask.path for _, mask in reading[0]]
    small = []
    with contextlib.suppress(DatasetError):
        for mask in masks[:: -(-len(masks) // MAX_COMPARED)]:
            picture = open_picture(mask).convert("L")
            if len(picture.getcolors()) > 2:
                return False
            small.append(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), float))
    return bool(small) and np.var(small, axis=0).mean() <= MIN_VARIATION * np.var(small)


def _explain_no_pairs(path, others, table):
    if table is not None:
        return (
            f"no pairs in the table: expected a column of pictures and one of masks, such as image "
            f"and mask, with paths from {path.resolve()} on; received {', '.join(map(str, table))}"
        )
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    names[10:] = ["…"] * (len(names) > 10)
    return annotations.name_unread(path, others) or (
        f"no pairs of image and mask in {path}: expected train/ and train_labels/, or "
        f"images/ and masks/, with {', '.join(sorted(SUFFIXES))} files, or other folders, "
        f"passed as images= and masks=; found {', '.join(names) or 'nothing'}"
    )


def _find_drawn(path, pictures, others, table, images, masks):
    """`(photographs, Found)` of a table of pairs, or of several mask files a picture; or None."""
    photographs, sources = _tell_apart(pictures)
    tables = [table]
    if table is None:
        tables = others if masks is None else _choose(others, path, masks)
        tables = [file for file in tables if file.suffix.lower() in (".csv", ".tsv")]
    found = annotations.read_sources(path, tables, pictures, pairs=True) if images is None else None
    if found and table is None and masks is None:
        words = f"{path}: pairs are taken from {found.text}, masks={found.text!r} confirms it"
        warnings.warn(words, stacklevel=3)
    several = [mask for masks in sources for mask in masks]
    if not found and several:
        listed = others if masks is None else ()
        found = annotations.merge_mask_files(path, photographs, several, listed)
    return photographs, found


def _choose(files, path, pattern):
    """Those that a folder or pattern below `path` means."""
    pattern = _normalize(pathlib.PurePath(pattern).as_posix())
    return [file for file in files if _matches(_name_below(file, path), pattern)]


def _tell_apart(pictures):
    """`(photographs, lists of masks by source)`; by their names where no folder says."""
    masks, photographs, unsaid = ([p for p in pictures if p.role == r] for r in (*ROLES, None))
    photographs = photographs or unsaid
    if masks and photographs:
        sources = collections.defaultdict(list)
        for mask in masks:
            sources[mask.source].append(mask)
        return photographs, sources.values()
    pictures = masks or pictures  # all in one folder, whose name may say labels
    named = [picture for picture in pictures if MASK_AFFIX.search(picture.stem)]
    plain = {(p.path.parent, _bare(p.stem)) for p in pictures if not MASK_AFFIX.search(p.stem)}
    masks = [mask for mask in named if (mask.path.parent, _bare(mask.stem)) in plain]
    if not masks:  # a lossless picture beside a lossy one of the same name
        lossless = [p for p in pictures if p.path.suffix.lower() in LOSSLESS]
        lossy = {p.path.with_suffix("") for p in set(pictures).difference(lossless)}
        masks = [picture for picture in lossless if picture.path.with_suffix("") in lossy]
    chosen = set(masks)
    return [picture for picture in pictures if picture not in chosen], [masks]


def _looks_drawn(file):
    """Whether a picture has few colours, and so may be a mask."""
    with contextlib.suppress(DatasetError):
        return open_picture(file).getcolors(MAX_DRAWN) is not None
    return False


def _find_readings(photographs, masks):
    """The readings that pair most: none, one, or several that take other masks each."""
    kinds = collections.defaultdict(list)  # such as labelIds and color beside each other
    for mask in masks:
        kinds[mask.stem.rpartition("_")[2]].append(mask)
    groups = [masks]
    if 1 < len(kinds) <= MAX_KINDS:
        known = [kind for kind in KINDS if kind in kinds]
        groups += [kinds[kind] for kind in [*known, *sorted(set(kinds) - set(known))]]
    named, found = _list_names(photographs), []
    for agreement in AGREEMENTS:
        for group in groups:
            for names, mask_names in zip(named, _list_names(group), strict=True):
                reading = _match(photographs, names, group, mask_names, agreement)
                found += [reading] if reading[0] else []
        if any(len(pairs) == len(photographs) for pairs, _, _ in found):
            break
    most, readings, taken = max(map(_rank, found), default=None), [], set()
    for reading in found:
        mine = {mask for _, mask in reading[0]}
        if _rank(reading) == most and mine.isdisjoint(taken):
            readings.append(reading)
            taken |= mine
    return readings


def _rank(reading):
    pairs, doubles, _ = reading
    return len(pairs), not doubles


def _list_names(pictures):
    """Their names as they are, without known affixes, and without what all, or a split's, share."""
    stems = [picture.stem for picture in pictures]
    own = (_drop_shared(pictures, by_split=by_split) for by_split in (False, True))
    return stems, list(map(_bare, stems)), *own


def _drop_shared(pictures, *, by_split):
    """Their names without what all of them, or those of a split, begin and end with."""
    groups, shared = collections.defaultdict(list), {}
    for picture in pictures:
        groups[by_split and picture.split].append(picture.stem)
    for split, stems in groups.items():
        start, end = _common_ends(stems)
        start = start[: max(map(start.rfind, SEPARATORS)) + 1]
        shared[split] = len(start), len(re.search(r"[_\-. ].*|$", end)[0])
    ends = [(picture.stem, *shared[by_split and picture.split]) for picture in pictures]
    return [stem[start : len(stem) - end] for stem, start, end in ends]


def _bare(stem):
    return IMAGE_AFFIX.sub("", MASK_AFFIX.sub("", stem))


def _common_ends(texts):
    """What all texts begin and end with."""
    start = os.path.commonprefix(texts)  # noqa: RUF071
    return start, os.path.commonprefix([text[len(start) :][::-1] for text in texts])[::-1]  # noqa: RUF071


def _match(photographs, names, masks, mask_names, agreement):
    """The reading where these names agree, and so much of the folders."""
    by_key = []
    for pictures, own in ((photographs, names), (masks, mask_names)):
        by_key.append(collections.defaultdict(list))
        for picture, name in zip(pictures, own, strict=True):
            key = (*(getattr(picture, what) for what in agreement), name)
            by_key[-1][key].append(picture)
    images, masks = by_key
    both = [key for key in images if key in masks]
    pairs = [(image, masks[key][0]) for key in both for image in images[key]]
    doubles = [same for key in both for same in (images[key], masks[key]) if len(same) > 1]
    if agreement != AGREEMENTS[0] and doubles:
        return [], [], []  # names are not unique without the folders' names
    splits, paired = {image.split for image, _ in pairs}, {key[-1] for key in both}
    lonely = [
        picture.path
        for mine, other in ((images, masks), (masks, images))
        for key in mine
        if key not in other and not (mine is masks and _is_of_another_kind(key[-1], paired))
        for picture in mine[key]
        if picture.split in splits or (mine is masks and not agreement)
    ]
    return pairs, doubles, lonely


def _is_of_another_kind(name, paired):
    """Whether a mask is named like a paired one and more, such as …_color: it is not missed."""
    return any(name[:i] in paired for i, letter in enumerate(name) if letter in SEPARATORS)


def _name_masks(pairs):
    """A pattern that takes the masks of these pairs."""
    parts = []
    for texts in zip(*(mask.name.split("/") for _, mask in pairs), strict=False):
        start, end = map(glob.escape, _common_ends(texts))
        parts.append(start if len(set(texts)) == 1 else f"{start}*{end}")
    return "/".join(parts)


# Who gets what, and what it shows


def _find_unlabelled(pictures, every, bare):
    """Paths of the photographs that lie in a split without any pair, and of bare ones."""
    paired = {half.path for pair in every for half in pair}
    splits, named = {image.split for image, _ in every}, {p.role for p in pictures} >= {"image"}
    found = [
        picture.path
        for picture in pictures
        if picture.split not in {None, *splits}
        and picture.role != "mask"
        and (picture.role == "image" or not picture.folders or not named)
    ]
    return [path for path in dict.fromkeys([*found, *bare]) if path not in paired]


def _sort_into_splits(path, every, lonely, others):
    """`({split: pairs of paths}, lonely)` as the folders say, or lists; the split None for none."""
    pairs = collections.defaultdict(list)
    for image, mask in every:
        pairs[image.split].append((image.path, mask.path))
    if len(pairs) == 1 and "train" not in pairs:  # also all of them in "my test/"
        (every,) = pairs.values()
        listed = _read_lists(path, others, every)
        return (listed, []) if listed else ({None: every}, lonely)
    if "train" not in pairs and None in pairs:
        pairs["train"] = pairs.pop(None)
    if None in pairs:
        warnings.warn(
            f"{path}: {len(pairs.pop(None))} pairs are in no folder of a split and left out",
            stacklevel=3,
        )
    return dict(pairs), lonely


def _read_lists(path, others, pairs):
    """Pairs by split as text files say, such as `ImageSets/Segmentation/train.txt`; or nothing.

    A line is a name or a path, with or without an extension, of as many folders as tell it
    apart; what follows it, such as its mask, does not count. Without a list for training, that is
    what no other list names.
    """
    places = {}  # the end of a path -> its pair; None where several end alike
    for pair in pairs:
        for ending in _list_endings(_name_below(pair[0].with_suffix(""), path)):
            places[ending] = None if ending in places else pair
    found, taken = {}, set()
    for split, names in LISTS.items():
        files = [
            (names.index(f.stem.lower()), "segmentation" not in str(f).lower(), len(f.parts), f)
            for f in others
            if f.suffix.lower() == ".txt" and f.stem.lower() in names
        ]
        if not files:
            continue
        *_, file = min(files)
        lines = file.read_text("utf-8-sig", "replace").splitlines()
        listed = [_find_listed(line.strip(), places) for line in lines if line.strip()]
        chosen = {pair for pair in listed if pair is not None} - taken
        left = sum(pair is None or pair in taken for pair in listed)
        if left:
            words = f"{file} lists {left} pictures without a pair, or that another split has"
            warnings.warn(f"{words}; they are left out of this one", stacklevel=4)
        if chosen:
            found[split] = sorted(chosen)
        taken |= chosen
    if found and "train" not in found:
        found["train"] = sorted(set(pairs) - taken)
    return found


def _list_endings(name):
    """The ends of a path, from all of it to its file's name."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _find_listed(line, places):
    """The pair in a line: all of it, or its first word; a path, with an extension or not."""
    for name in (line, re.split(r"[\s,;]", line)[0]):
        name = _normalize(name).replace("\\", "/")
        for ending in (*_list_endings(name), *_list_endings(re.sub(r"\.[^./]*$", "", name))):
            if places.get(ending) is not None:
                return places[ending]
    return None
