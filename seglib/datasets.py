"""Finding pairs of image and mask in a folder, and splitting them."""

import collections
import dataclasses
import fnmatch
import glob
import os
import pathlib
import re
import unicodedata
import warnings

import numpy as np

from seglib import splitting
from seglib.classes import ClassTable, create_class_table, read_class_table, voc_colors
from seglib.images import SUFFIXES, DatasetError
from seglib.masks import (
    BINARY,
    ENCODINGS,
    choose_encoding,
    ignore_customary,
    propose_class_table,
    propose_from_survey,
    read_pair,
    survey_masks,
)

EMBEDDED = pathlib.Path("data/streets")
TABLE = "class_dict.csv"
OTHER_TABLES = re.compile("class_dict|_?classes|class_names|labels|((label|class)_)?colors")
LISTED_PICTURE = re.compile("|".join(rf"\{suffix}\b" for suffix in SUFFIXES))
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_OF_WORD = {word: split for split, words in SPLIT_NAMES.items() for word in words}
LISTS = {**SPLIT_NAMES, "train": ("train", "training", "trainval", "train_val")}
# What folders are called: of photographs, of masks, and of what exporters write beside the masks.
IMAGE_WORD = "images?|imgs?|photos?|pictures?|rgb|frames?|inputs?"
MASK_WORD = "masks?|label(l?ed|s)?|annot(ation)?s?|gt|(ground)?truth|seg(mentation)?s?|targets?"
PASSED_OVER = "visualizations?|viz|overlays?|instances?|npy|previews|thumbnails"
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
RUN_TOGETHER = re.compile(  # such as trainannot
    rf"^({'|'.join(SPLIT_OF_WORD)})(?=({IMAGE_WORD}|{MASK_WORD})\b)", re.IGNORECASE
)
# What the names of masks, and of photographs beside them, have before and after a pair's name.
MASK_WORDS = ("L", "mask", "masks", "label", "labels", "gt", "labelTrainIds", "labelIds", "seg")
MASK_ENDINGS = ["", *[f"_{word}" for word in MASK_WORDS], "_segmentation", "_annotation", "_color"]
MASK_ENDINGS += ["-mask", "-label", " mask"]
MASK_PREFIXES = ("mask_", "label_", "labels_", "gt_", "seg_", "mask-", "L_")
MASK_AFFIXES = [("", ending) for ending in MASK_ENDINGS] + [(start, "") for start in MASK_PREFIXES]
IMAGE_AFFIXES = [("", ending) for ending in ("", "_sat", "_image", "_img", "_photo", "_rgb")]
IMAGE_AFFIXES += [(prefix, "") for prefix in ("image_", "img_", "photo_")]
LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
SEPARATORS = "_-. "
MAX_KINDS = 10  # of masks in one folder, told by the last word of their names


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

    def __init__(self, pairs, classes: ClassTable, encoding: str = "auto", names=None):
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
    def splits(self) -> dict:
        """dict of the three splits by name."""
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

        Raises:
            ValueError: `by` is none of these, or there are fewer groups than splits.
        """
        old = list(self.splits.values())
        pairs = [pair for split in old for pair in split.pairs]
        names = [name for split in old for name in split.names]
        if isinstance(by, str) and by == "random":
            groups = len(pairs)
        elif isinstance(by, str) and by == "sequence":
            groups = splitting.find_groups([image for image, _ in pairs])
        else:
            groups = [by(name) for name in names] if callable(by) else by
            if isinstance(by, str) or not hasattr(groups, "__len__") or len(groups) != len(pairs):
                raise ValueError(
                    'expected by to be "random", "sequence", a function from a name to its group, '
                    f"or {len(pairs)} groups, received {by!r}"
                )
        presence = None
        if stratify:
            counts = [
                np.bincount(labels.ravel(), minlength=self.classes.num_classes)
                for split in old
                for _, labels in split
            ]
            presence = np.stack([count[list(self.classes.scored_ids)] for count in counts])
        dealt = splitting.deal_out(groups, fractions=fractions, seed=seed, presence=presence)
        new = {
            split: Split(
                [pairs[i] for i in chosen],
                self.classes,
                self.train.encoding,
                [names[i] for i in chosen],
            )
            for split, chosen in dealt.items()
        }
        return dataclasses.replace(self, **new)

    def write_splits(self, path):
        """Write which pair is in which split, for `open_dataset(..., splits=path)`."""
        splitting.write_splits(path, {n: s.pairs for n, s in self.splits.items()}, self.path)

    def __repr__(self):
        counts = ", ".join(f"{name} {len(split)}" for name, split in self.splits.items())
        return f"Dataset({self.path.resolve().name}: {self.classes.num_classes} classes, {counts})"


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
    splits: str | os.PathLike | None = None,
    unpaired: str = "error",
    fractions: tuple = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> Dataset:
    """Find the pairs of image and mask in a folder.

    Understood are `train/` + `train_labels/` (and val, test); `images/` + `masks/` (or labels,
    annotations, …), with a folder a split inside or outside, or none; `JPEGImages/` +
    `SegmentationClass/` with lists of names, or as labelme exports them; masks in the same
    folder, told by an ending, a beginning or another extension. Case does not matter. A mask is
    named like its image, but for an ending or beginning such as `_L`, `_labelIds` or `mask_`. A
    split without any mask is left out.

    Args:
        path: str or path of the folder. `data/streets`, written just so, is the embedded data set
            and drawn if it is missing.
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
    for name, value, choices in (
        ("encoding", encoding, ("auto", *ENCODINGS)),
        ("unpaired", unpaired, ("error", "skip")),
    ):
        if value not in choices:
            raise ValueError(
                f"expected {name} to be one of {', '.join(choices)}, received {value!r}"
            )
    if path == EMBEDDED and not path.exists():
        from seglib import scenes

        scenes.write_scenes(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder at {path}: expected images and masks in it")
    pictures, others = _find_pictures(path, images, masks)
    reading, lonely = _choose_reading(path, pictures)
    pairs, lonely = _sort_into_splits(path, reading, lonely, others)
    if unpaired == "error" and lonely:
        image, mask = reading.pairs[0]
        raise DatasetError(
            f"{len(lonely)} pictures have no other half, first {lonely[0]}: expected every mask to "
            f"be named like {mask.path.relative_to(path)} of {image.path.relative_to(path)}; add "
            'what is missing or remove the picture, or pass unpaired="skip" to go on without it'
        )
    if splits is not None:
        pairs = splitting.read_splits(splits, path)
    elif None in pairs:
        dealt = splitting.deal_out(len(pairs[None]), fractions=fractions, seed=seed)
        pairs = {name: [pairs[None][i] for i in chosen] for name, chosen in dealt.items()}
    pairs = {name: pairs.get(name, []) for name in SPLIT_NAMES}
    mask_paths = [mask for chosen in pairs.values() for _, mask in chosen]
    classes, encoding = _find_classes(path, classes, others, mask_paths, encoding)
    names = iter(name_apart([image for chosen in pairs.values() for image, _ in chosen]))
    return Dataset(
        path=path,
        classes=classes,
        unpaired=tuple(lonely),
        **{
            name: Split(chosen, classes, encoding, [next(names) for _ in chosen])
            for name, chosen in pairs.items()
        },
    )


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


def _find_pictures(path, images, masks):
    """`(pictures, other files)`; `images` and `masks` are folders, patterns or None."""
    files, others, seen = [], [], set()
    for folder, names, found in os.walk(path, followlinks=True):
        if os.path.realpath(folder) in seen:  # a link back
            names.clear()
            continue
        seen.add(os.path.realpath(folder))
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        for name in sorted(file for file in found if not file.startswith(".")):
            file = pathlib.Path(folder, name)
            (files if file.suffix.lower() in SUFFIXES else others).append(file)
    shared = len(pathlib.Path(os.path.commonpath([f.parent for f in files])).parts) if files else 0
    asked = {}
    for role, argument, pattern in (("image", "images", images), ("mask", "masks", masks)):
        if pattern is None:
            continue
        if os.path.isabs(pattern):
            pattern = os.path.relpath(pattern, os.path.abspath(path))
        asked[role] = _normalize(pathlib.PurePath(pattern).as_posix())
        if not any(_matches(_name_below(file, path), asked[role]) for file in files):
            raise DatasetError(
                f"{argument}={pattern!r} matches no picture in {path}: expected a folder below it, "
                'or a pattern such as "gtFine/**/*_labelIds.png"'
            )
    described = (_describe(file, path, shared, asked) for file in files)
    return [picture for picture in described if picture is not None], others


def _describe(file, path, shared, asked):
    """Picture, or None; the first `shared` parts of its path are those of all pictures."""
    name = _name_below(file, path)
    chosen = next((r for r in ("mask", "image") if r in asked and _matches(name, asked[r])), None)
    split = role = None
    source, place, folders = [], [], []
    for part in file.parent.parts[shared:]:
        words = RUN_TOGETHER.sub(r"\1_", _normalize(part))
        words = [word.lower() for word in WORD.findall(words)]
        here = [word for word in words if word in SPLIT_OF_WORD]
        is_mask, is_image, is_other = (
            any(re.fullmatch(pattern, word) for word in words)
            for pattern in (MASK_WORD, IMAGE_WORD, PASSED_OVER)
        )
        if chosen is None and (is_other or (is_mask and {"object", "objects"} & set(words))):
            return None
        if here:  # train_val is for training
            split = "train" if "train" in here else SPLIT_OF_WORD[here[-1]]
        rest = [word for word in words if word not in SPLIT_OF_WORD]
        if is_mask or is_image:
            role = "mask" if is_mask else "image"
            source += rest
        elif not here:
            folders.append(part)
        rest = [word for word in rest if not re.fullmatch(f"{IMAGE_WORD}|{MASK_WORD}", word)]
        place += ["_".join(rest)] * bool(rest)
    if chosen is None and ("mask" if role == "mask" else "image") in asked:
        return None  # another one of the kind that was chosen
    return Picture(
        file,
        name,
        _normalize(file.stem),
        split,
        chosen or role,
        tuple(source),
        tuple(place),
        tuple(folders),
    )


def _normalize(name):
    """One spelling for names that Unicode can spell in two ways, as macOS and Linux do."""
    return unicodedata.normalize("NFC", name)


def _name_below(file, path):
    return _normalize(file.relative_to(path).as_posix())


def _matches(name, pattern):
    """Whether a path, relative to the data set's folder, is chosen by a folder or a pattern."""
    return name.startswith(f"{pattern}/") or fnmatch.fnmatchcase(name, pattern.replace("**/", "*"))


# Which mask belongs to which photograph


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way to pair photographs and masks."""

    pairs: list  # of (photograph, mask), Pictures
    affixes: tuple  # (prefix, ending) of masks, and of photographs, that are not the pairs' names
    folders: str | None  # what of them must agree: "place", "folders", "split", or nothing
    doubles: list  # lists of Pictures of one name

    @property
    def masks(self):
        """Set of the ids of the masks, as Pictures."""
        return {id(mask) for _, mask in self.pairs}


def _choose_reading(path, pictures):
    """`(Reading, lonely)`: what pairs most; other readings that pair as many are told of.

    The lonely are the paths of photographs without mask and masks without photograph.
    """
    photographs, sources = _tell_apart(pictures)
    found = [(reading, masks) for masks in sources for reading in _pair(photographs, masks)]
    if not found:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
        names[10:] = ["…"] * (len(names) > 10)
        raise DatasetError(
            f"no pairs of image and mask in {path}: expected train/ and train_labels/, or "
            f"images/ and masks/, with {', '.join(sorted(SUFFIXES))} files, or other folders, "
            f"passed as images= and masks=; found {', '.join(names) or 'nothing'}"
        )
    best, masks = max(found, key=lambda item: len(item[0].pairs))
    if best.doubles:
        first, second = best.doubles[0][:2]
        raise DatasetError(
            f"{first.path} and {second.path} have the same name: expected one picture of each; "
            "remove or rename one, or choose folders with images= and masks="
        )
    others = [_name_masks(reading, pictures) for reading, _ in found if reading is not best]
    if others:
        taken = _name_masks(best, pictures)
        named = ", ".join(f"masks={other!r}" for other in others if other)
        warnings.warn(
            f"{path}: masks are taken from {taken or best.pairs[0][1].path.parent}; also possible "
            f"are {named or 'others that no one pattern tells apart'}, passed to open_dataset"
            + (f"; or pass masks={taken!r} to confirm the choice" if taken else ""),
            stacklevel=3,
        )
    return best, _find_lonely(best, photographs, masks)


def _tell_apart(pictures):
    """`(photographs, lists of masks by source)`; by their names where no folder says."""
    masks = [picture for picture in pictures if picture.role == "mask"]
    photographs = [picture for picture in pictures if picture.role == "image"]
    photographs = photographs or [picture for picture in pictures if picture.role is None]
    if masks and photographs:
        sources = collections.defaultdict(list)
        for mask in masks:
            sources[mask.source].append(mask)
        return photographs, sources.values()
    pictures = masks or pictures  # all in one folder, whose name may say labels
    suffixes = collections.defaultdict(set)
    for picture in pictures:
        suffixes[picture.path.parent, picture.stem].add(picture.path.suffix.lower())
    best = []
    for affix in MASK_AFFIXES[1:]:
        named = [(picture, _cut_affix(picture.stem, affix)) for picture in pictures]
        chosen = [
            picture
            for picture, stem in named
            if stem
            and any((picture.path.parent, a + stem + b) in suffixes for a, b in IMAGE_AFFIXES)
        ]
        best = max(best, chosen, key=len)
    if not best:  # a lossless picture beside a lossy one of the same name
        for picture in pictures:
            lossy = suffixes[picture.path.parent, picture.stem] - LOSSLESS
            if lossy and picture.path.suffix.lower() in LOSSLESS:
                best.append(picture)
    chosen = {id(mask) for mask in best}
    return [picture for picture in pictures if id(picture) not in chosen], [best]


def _pair(photographs, masks):
    """The Readings that pair most: none, one, or several that take other masks each.

    Names must agree without their affixes, and of the folders as much as possible.
    """
    most, readings = 0, []
    for folders in ("place", "folders", "split", None):
        for affixes in _list_affixes(photographs, masks):
            reading = _match(photographs, masks, affixes, folders)
            if len(reading.pairs) > most:
                most, readings = len(reading.pairs), [reading]
            elif most and len(reading.pairs) == most:
                taken = set().union(*(other.masks for other in readings))
                readings += [reading] if taken.isdisjoint(reading.masks) else []
        if most == len(photographs):
            break
    return readings


def _list_affixes(photographs, masks):
    """Affixes of masks and photographs: the customary ones of masks, and what all names share."""
    own = _common_ends([picture.stem for picture in photographs])
    affixes = [(affix, ("", "")) for affix in MASK_AFFIXES]
    affixes.append((_common_ends([mask.stem for mask in masks]), own))
    last = {mask.stem[mask.stem.rfind("_") :] for mask in masks if "_" in mask.stem}
    known = [ending for _, ending in MASK_AFFIXES if ending in last]
    if len(last) <= MAX_KINDS:  # such as _labelIds and _color beside each other
        for ending in [*known, *sorted(last - set(known))]:
            same = [mask.stem for mask in masks if mask.stem.endswith(ending)]
            affixes.append((_common_ends(same), own))
    return list(dict.fromkeys(affixes))


def _match(photographs, masks, affixes, folders):
    """The Reading where names without these affixes agree, and so much of the folders."""
    named = []
    for pictures, affix in ((masks, affixes[0]), (photographs, affixes[1])):
        by_name = collections.defaultdict(list)
        for picture in pictures:
            name = _name(picture, affix, folders)
            if name is not None:
                by_name[name].append(picture)
        named.append(by_name)
    masks, photographs = named
    paired = {name: same for name, same in photographs.items() if name in masks}
    pairs = [(image, masks[name][0]) for name, same in paired.items() for image in same]
    doubles = [same for same in [*paired.values(), *masks.values()] if len(same) > 1]
    if folders != "place" and doubles:
        pairs = []  # names are not unique without the folders' names
    return Reading(pairs, affixes, folders, doubles)


def _name(picture, affix, folders):
    """What a picture has in common with its other half; None where it lacks the affix."""
    stem = _cut_affix(picture.stem, affix)
    if stem is None:
        return None
    where = getattr(picture, folders) if folders in ("place", "folders") else ()
    return folders and picture.split, where, stem


def _cut_affix(stem, affix):
    prefix, ending = affix
    if len(stem) < len(prefix + ending) or not stem.startswith(prefix) or not stem.endswith(ending):
        return None
    return stem[len(prefix) : len(stem) - len(ending)]


def _common_ends(texts, separators=SEPARATORS):
    """What all texts begin and end with, up to a separator if there are any."""
    start = os.path.commonprefix(texts)  # noqa: RUF071
    if separators:
        start = start[: max(map(start.rfind, separators)) + 1]
    end = os.path.commonprefix([text[len(start) :][::-1] for text in texts])[::-1]  # noqa: RUF071
    if separators:
        places = [place for place in map(end.find, separators) if place >= 0]
        end = end[min(places) :] if places else ""
    return start, end


def _find_lonely(reading, photographs, masks):
    """Paths of what has no other half, in splits that have pairs."""
    paired = {id(picture) for pair in reading.pairs for picture in pair}
    splits = {image.split for image, _ in reading.pairs}
    lonely = [
        image.path for image in photographs if id(image) not in paired and image.split in splits
    ]
    affix, of_images = reading.affixes
    stems = {_cut_affix(image.stem, of_images) for image, _ in reading.pairs}
    for mask in masks:
        if id(mask) in paired or (reading.folders and mask.split not in splits):
            continue
        # Masks of another kind, such as …_color beside …_labelIds, are not missed.
        stem = mask.stem.removeprefix(affix[0])
        kin = any(stem[:i] in stems for i, letter in enumerate(stem) if letter in SEPARATORS)
        if not kin or (any(affix) and _cut_affix(mask.stem, affix) is not None):
            lonely.append(mask.path)
    return lonely


def _name_masks(reading, pictures):
    """A folder or pattern that takes a Reading's masks and no other picture, or None."""
    (prefix, ending), _ = reading.affixes
    folders = sorted({mask.name.rpartition("/")[0] for _, mask in reading.pairs})
    patterns = [os.path.commonpath(folders)]
    for separators in ("/" + SEPARATORS, None):  # whole words first
        start, end = map(glob.escape, _common_ends(folders, separators))
        folder = glob.escape(folders[0]) if len(folders) == 1 else f"{start}*{end}"
        patterns += [f"{folder}/*", f"{folder}/{prefix}*{ending}.*"]
    for pattern in patterns:
        taken = {id(picture) for picture in pictures if _matches(picture.name, pattern)}
        if taken == reading.masks:
            return pattern
    return None


# Who gets what, and what it shows


def _sort_into_splits(path, reading, lonely, others):
    """`({split: pairs of paths}, lonely)` as the folders say, or lists; the split None for none."""
    pairs = collections.defaultdict(list)
    for image, mask in reading.pairs:
        pairs[image.split].append((image.path, mask.path))
    if len(pairs) == 1 and "train" not in pairs:  # also all of them in "my test/"
        (every,) = pairs.values()
        listed = _read_lists(path, others, every)
        return (listed, []) if listed else ({None: every}, lonely)
    if None in pairs and "train" not in pairs:
        pairs["train"] = pairs.pop(None)
    elif None in pairs:
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
        parts = _name_below(pair[0].with_suffix(""), path).split("/")
        for i in range(len(parts)):
            ending = "/".join(parts[i:])
            places[ending] = None if ending in places else pair
    found, taken = {}, set()
    for split, names in LISTS.items():
        files = [f for f in others if f.suffix.lower() == ".txt" and f.stem.lower() in names]
        if not files:
            continue
        file = min(
            files,
            key=lambda f: (
                names.index(f.stem.lower()),
                "segmentation" not in str(f).lower(),
                len(f.parts),
                f,
            ),
        )
        lines = file.read_text("utf-8-sig", "replace").splitlines()
        listed = [_find_listed(line.strip(), places) for line in lines if line.strip()]
        chosen = {pair for pair in listed if pair is not None}
        for count, what in (
            (listed.count(None), "without a pair; they are left out"),
            (len(chosen & taken), "that another split has; they stay there"),
        ):
            if count:
                warnings.warn(f"{file} lists {count} pictures {what}", stacklevel=4)
        if chosen - taken:
            found[split] = sorted(chosen - taken)
        taken |= chosen
    if found and "train" not in found:
        found["train"] = sorted(set(pairs) - taken)
    return found


def _find_listed(line, places):
    """The pair in a line: all of it, or its first word; a path, with an extension or not."""
    for name in (line, re.split(r"[\s,;]", line)[0]):
        name = _normalize(name).replace("\\", "/")
        for path in (name, re.sub(r"\.[^./]*$", "", name)):
            parts = path.split("/")
            endings = ("/".join(parts[i:]) for i in range(len(parts)))
            pair = places.get(next((ending for ending in endings if ending in places), None))
            if pair is not None:
                return pair
    return None


def _find_classes(path, given, others, masks, encoding):
    """`(ClassTable, encoding)`: which classes the masks show, and how."""
    survey = survey_masks(masks)
    classes = _read_table(given, others, _colors_of_ids(survey))
    if classes is None:
        classes = propose_from_survey(survey)
        if classes is None:
            proposed = propose_class_table(masks)
            lines = [
                f"{name},{r},{g},{b}"
                for name, (r, g, b) in zip(proposed.names, proposed.colors, strict=True)
            ]
            raise DatasetError(
                f"no class table for {path}: write {path / TABLE} with the lines below (or "
                "another file, and pass its path as classes), and give each class its name\n"
                + "\n".join(["name,r,g,b", *lines])
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
    return ignore_customary(survey, classes, encoding), encoding


def _read_table(given, others, colors):
    """The ClassTable that was given, or is in a file of the data set's; else None."""
    if isinstance(given, str | os.PathLike):
        return read_class_table(given, colors=colors)
    if given is not None:
        return create_class_table(given, colors=colors)
    files = [
        f
        for f in others
        if f.suffix.lower() in (".csv", ".json", ".txt") and OTHER_TABLES.fullmatch(f.stem.lower())
    ]
    for file in sorted(files, key=lambda f: (f.name.lower() != TABLE, len(f.parts), f)):
        try:
            table = read_class_table(file, colors=colors)
        except ValueError:
            if file.name.lower() == TABLE:
                raise
            continue  # a file of another kind with such a name
        if not any(LISTED_PICTURE.search(name.lower()) for name in table.names):
            return table
    return None


def _colors_of_ids(survey):
    """The palette's colours for ids; None where masks have none, or one that repeats itself."""
    if not survey.palette or survey.conflict:
        return None
    colors = voc_colors(256)
    for value, color in survey.palette.items():
        colors[value] = color
    return colors if len(np.unique(colors, axis=0)) == len(colors) else None
