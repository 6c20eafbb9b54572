"""Finding pairs of image and mask in a folder, and splitting them."""

import collections
import dataclasses
import fnmatch
import glob
import itertools
import os
import pathlib
import re
import unicodedata
import warnings

import numpy as np

from seglib import splitting
from seglib.classes import ClassTable
from seglib.images import RGB, SUFFIXES, DatasetError, Pixels, split_pages, survey_images
from seglib.legends import find_classes
from seglib.masks import ENCODINGS, read_pair

EMBEDDED = pathlib.Path("data/streets")
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
FOLDER_WORDS = [re.compile(words) for words in (MASK_WORD, IMAGE_WORD, PASSED_OVER)]
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
RUN_TOGETHER = re.compile(  # such as trainannot
    rf"^({'|'.join(SPLIT_OF_WORD)})(?=({IMAGE_WORD}|{MASK_WORD})\b)", re.IGNORECASE
)
# What the names of masks and of photographs have before or after what they have in common.
KINDS = ("L", "mask", "masks", "label", "labels", "gt", "labelTrainIds", "labelIds", "seg")
MASK_AFFIX = re.compile(
    rf"(?<=.)[_\- ]({'|'.join(KINDS)}|segmentation|annotation|color)$"
    r"|^(mask|labels?|gt|seg|L)[_\-](?=.)"
)
IMAGE_AFFIX = re.compile("(?<=.)_(sat|image|img|photo|rgb)$|^(image|img|photo)_(?=.)")
ROLES = ("mask", "image")
SEPARATORS = "_-. "
LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
MAX_KINDS = 10  # of masks in one folder, told by the last word of their names
# What of the folders of two halves must agree, from all of it to nothing.
AGREEMENTS = (("split", "place"), ("split", "folders"), ("split",), ())


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Pairs of image and mask that are read when they are asked for.

    `split[i]` is `(image, labels)`: uint8 `(height, width, channels)` and uint8
    `(height, width)`. `split[2:5]` is a split again.

    Args:
        pairs: sequence of `(image path, mask path)`.
        classes: ClassTable.
        encoding: str, see `read_labels`.
        names: list of str, one for each pair; None for the images' file names without extension,
            with as many of their folders as tell them apart.
        pixels: Pixels, which bands of the photographs' files are channels, and in which range.
    """

    pairs: list
    classes: ClassTable
    encoding: str = "auto"
    names: list | None = None
    pixels: Pixels = RGB

    def __post_init__(self):
        pairs = [(pathlib.Path(image), pathlib.Path(mask)) for image, mask in self.pairs]
        object.__setattr__(self, "pairs", pairs)
        if self.names is None:
            object.__setattr__(self, "names", name_apart([image for image, _ in pairs]))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return dataclasses.replace(self, pairs=self.pairs[index], names=self.names[index])
        how = {"encoding": self.encoding, "pixels": self.pixels}
        return read_pair(*self.pairs[index], self.classes, **how)

    def __repr__(self):
        return f"Split({len(self)} pairs)"


@dataclasses.dataclass(frozen=True, repr=False)
class Dataset:
    """Three splits that share a class table. An absent split has length 0.

    `unpaired` are the paths of photographs without mask and masks without photograph.
    """

    path: pathlib.Path
    classes: ClassTable
    train: Split
    val: Split
    test: Split
    unpaired: tuple = ()

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
        dealt = splitting.deal_out(groups, fractions=fractions, seed=seed, presence=presence)
        new = {}
        for name, chosen in dealt.items():
            halves = [pairs[i] for i in chosen]
            own = [names[i] for i in chosen]
            new[name] = dataclasses.replace(self.train, pairs=halves, names=own)
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
    bands: tuple | None = None,
    value_range: tuple | None = None,
    splits: str | os.PathLike | None = None,
    unpaired: str = "error",
    fractions: tuple = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> Dataset:
    """Find the pairs of image and mask in a folder.

    Understood are the layouts in data/README.md: a folder a split, `images/` + `masks/` (or
    labels, annotations, …), Pascal VOC, labelme, Cityscapes, or all in one folder. Case does not
    matter. A mask is named like its image, but for an ending or beginning such as `_L`,
    `_labelIds` or `mask_`. A split without any mask is left out.

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
        bands: ints from 0 on, 1 to 8 of them: which bands of the photographs, or pages that are
            bands, are the channels of the images. None for RGB, or the first three.
        value_range: `(low, high)`, the values of photographs with more than 8 bits, or with
            negative or fractional values, that become 0 and 255. None for those of all
            photographs, but for the outermost 0.1 %.
        splits: path of a file that `Dataset.write_splits` made, or None for the folder's own.
        unpaired: "error", or "skip" for the pairs that there are.
        fractions: shares of train, val and test where the folder has no splits.
        seed: int, which pairs go where then; the same on every machine.

    Raises:
        FileNotFoundError: there is no such folder.
        DatasetError: nothing to pair, an image without mask or a mask without image,
            or no class table; then the colours found are offered.
    """
    path = pathlib.Path(path)
    if encoding not in ("auto", *ENCODINGS) or unpaired not in ("error", "skip"):
        raise ValueError(
            f"expected encoding to be auto, {', '.join(ENCODINGS)}, and unpaired to be error "
            f"or skip, received {encoding!r} and {unpaired!r}"
        )
    if path == EMBEDDED and not path.exists():
        from seglib import scenes

        scenes.write_scenes(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder at {path}: expected images and masks in it")
    pixels = Pixels(bands, value_range)
    pictures, others = _find_pictures(path, images, masks)
    every, lonely = _choose_reading(path, pictures)
    pairs, lonely = _sort_into_splits(path, every, lonely, others)
    if unpaired == "error" and lonely:
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
        pairs = splitting.read_splits(splits, path)
    elif None in pairs:
        dealt = splitting.deal_out(len(pairs[None]), fractions=fractions, seed=seed)
        pairs = {name: [pairs[None][i] for i in chosen] for name, chosen in dealt.items()}
    pairs = {name: pairs.get(name, []) for name in SPLIT_NAMES}
    every = [pair for chosen in pairs.values() for pair in chosen]
    classes, encoding = find_classes(path, classes, others, [mask for _, mask in every], encoding)
    pixels = survey_images([image for image, _ in every], pixels, path)
    names = iter(name_apart([image for image, _ in every]))
    new = {
        name: Split(chosen, classes, encoding, list(itertools.islice(names, len(chosen))), pixels)
        for name, chosen in pairs.items()
    }
    return Dataset(path, classes, **new, unpaired=tuple(lonely))


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
    files, others = [], []
    for folder, names, found in os.walk(path, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        for name in sorted(file for file in found if not file.startswith(".")):
            file = pathlib.Path(folder, name)
            (files if file.suffix.lower() in SUFFIXES else others).append(file)
    shared = len(pathlib.Path(os.path.commonpath([f.parent for f in files])).parts) if files else 0
    asked = {}
    for role, pattern in zip(ROLES, (masks, images), strict=True):
        if pattern is None:
            continue
        relative = os.path.relpath(os.path.join(path, pattern), path)
        asked[role] = _normalize(pathlib.PurePath(relative).as_posix())
        if not any(_matches(_name_below(file, path), asked[role]) for file in files):
            raise DatasetError(
                f"{role}s={pattern!r} matches no picture in {path}: expected a folder below it, or "
                'a pattern such as "gtFine/**/*_labelIds.png"'
            )
    pictures = (_describe(file, path, shared, asked) for file in files)
    return list(filter(None, pictures)), others


def _describe(file, path, shared, asked):
    """Picture, or None; the first `shared` parts of its path are those of all pictures."""
    name = _name_below(file, path)
    chosen = next((role for role in asked if _matches(name, asked[role])), None)
    split = role = None
    source, place, folders = (), (), ()
    for part in file.parent.parts[shared:]:
        words = WORD.findall(RUN_TOGETHER.sub(r"\1_", _normalize(part)))
        words = [word.lower() for word in words]
        splits = [SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD]
        rest = tuple(word for word in words if word not in SPLIT_OF_WORD)
        is_mask, is_image, is_other = (any(map(kind.fullmatch, words)) for kind in FOLDER_WORDS)
        if chosen is None and (is_other or (is_mask and {"object", "objects"} & set(words))):
            return None
        if splits:  # train_val is for training
            split = "train" if "train" in splits else splits[-1]
        if is_mask or is_image:
            role, source = "mask" if is_mask else "image", source + rest
        elif not splits:
            folders += (part,)
        place += tuple(w for w in rest if not any(kind.fullmatch(w) for kind in FOLDER_WORDS[:2]))
    if chosen is None and (role or "image") in asked:
        return None  # another one of the kind that was chosen
    return Picture(file, name, _normalize(file.stem), split, chosen or role, source, place, folders)


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


def _choose_reading(path, pictures):
    """`(pairs, lonely)`: what pairs most; other readings are told of."""
    photographs, sources = _tell_apart(pictures)
    found = [reading for masks in sources for reading in _find_readings(photographs, masks)]
    if not found:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
        names[10:] = ["…"] * (len(names) > 10)
        raise DatasetError(
            f"no pairs of image and mask in {path}: expected train/ and train_labels/, or "
            f"images/ and masks/, with {', '.join(sorted(SUFFIXES))} files, or other folders, "
            f"passed as images= and masks=; found {', '.join(names) or 'nothing'}"
        )
    best = max(found, key=lambda reading: len(reading[0]))
    pairs, doubles, lonely = best
    if doubles:
        first, second = doubles[0][:2]
        raise DatasetError(
            f"{first.path} and {second.path} have the same name: expected one picture of each; "
            "remove or rename one, or choose folders with images= and masks="
        )
    others = ", ".join(f"masks={_name_masks(r[0])!r}" for r in found if r is not best)
    if others:
        taken = _name_masks(pairs)
        warnings.warn(
            f"{path}: masks are taken from {taken}; also possible are {others}, passed to "
            f"open_dataset; or pass masks={taken!r} to confirm the choice",
            stacklevel=3,
        )
    return pairs, lonely


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
    """Their names as they are, without known affixes, and without what all of them share."""
    stems = [picture.stem for picture in pictures]
    start, end = _common_ends(stems)
    start = start[: max(map(start.rfind, SEPARATORS)) + 1]
    end = re.search(r"[_\-. ].*|$", end)[0]
    own = [stem[len(start) : len(stem) - len(end)] for stem in stems]
    return stems, list(map(_bare, stems)), own


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
