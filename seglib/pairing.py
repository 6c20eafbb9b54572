"""Which pictures of a folder are masks, which photograph each belongs to, and in which split."""

import collections
import contextlib
import dataclasses
import fnmatch
import glob
import os
import pathlib
import re
import unicodedata

import numpy as np
from PIL import Image

from seglib import annotations, sources, splitting
from seglib.classes import TABLE, find_table
from seglib.images import ARRAYS, SUFFIXES, DatasetError, open_picture, read_grey, split_pages
from seglib.system import warn

SHORT = {"tr": "train", "va": "val", "te": "test", "ts": "test"}  # where tr and another occur
SPLIT_OF_WORD = splitting.SPLIT_OF_WORD | {"unlabelled": "unlabelled", "unlabeled": "unlabelled"}
LISTS = {**splitting.WORDS, "train": ("train", "training", "trainval", "train_val")}
LIST = re.compile(r"[_-]?(list|files?|names?|images?|imgs?|ids?|set|split)$")  # as train_list
# What folders are called: of photographs, of masks, and of what exporters write beside the masks.
IMAGE_WORD = "images?|imgs?|photos?|pictures?|rgb|frames?|inputs?"
MASK_WORD = (
    "masks?|label(l?ed|s)?|annot(ation)?s?|gts?|(ground)?truth|seg(mentation)?s?|targets?"
    "|semantics?|stuffthingmaps"
)
FOLDER_WORDS = [
    re.compile(MASK_WORD),
    re.compile(IMAGE_WORD),
    re.compile("visualizations?|viz|overlays?|npy|previews|thumbnails"),
    # Set aside where others pair: masks that number objects, and measured distances.
    re.compile("instances?|panoptic"),
    re.compile("n?dsm|depths?|disparity|disparities"),
]
OBJECT_NAME = re.compile(r"_instance(Train)?Ids$|_parts_\d+$|^instance_\d+_|_polygons$")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
PARTS = f"{IMAGE_WORD}|{MASK_WORD}|crops?|sets?|data|tiles?"
RUN_TOGETHER = re.compile(  # such as trainannot
    rf"^({'|'.join(SPLIT_OF_WORD)}|default)(?=({PARTS})(?![a-z]))", re.IGNORECASE
)
# What the names of masks and of photographs have before or after what they have in common.
KINDS = ("L", "mask", "masks", "label", "labels", "gt", "labelTrainIds", "labelIds", "seg")
MASK_AFFIX = re.compile(
    rf"(?<=.)[_\- ]({'|'.join(KINDS)}|segmentation|annotation|anno|color|1stHO|2ndHO)"
    r"(?P<number>[_\-]\d{1,3})?$|^(mask|labels?|gt|seg|L)[_\-](?=.)"
)
IMAGE_AFFIX = re.compile(r"(?<=.)[_\-](sat|image|img|photo|rgb|volume)$|^(image|img|photo)_(?=.)")
SEPARATORS = "_-. "
LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
MANY_CLASSES = 64  # of mask files: more different names are names of objects
# Mask files of such names show a picture's classes once more, or what another person drew.
NO_CLASS = re.compile(
    "colou?rs?|gr[ae]y|ids|labels?|instances?|parts|objects?|manual|ho|experts?|annotators?|raters?"
    "|readers?|observers?|ah|vk|fov|roi|edges?|contours?|boundary|boundaries|depth|overlays?|machine"
    "|human|watershed|polygons"
)
MAX_KINDS = 10  # of masks in one folder, told by the last word of their names
MAX_DRAWN = 64  # colours of a mask in a folder that does not say that it holds masks
# Masks that are compared, at this size; the mean variance of a pixel between them over the variance
# of all pixels: 0 for a camera's field of view, near 1 for what is drawn into each picture.
MAX_COMPARED, SIDE, MIN_VARIATION = 8, 32, 0.2
# What of the folders of two halves must agree, from all of it to nothing.
AGREEMENTS = (("split", "place"), ("split", "folders"), ("split",), ())


# The pictures in a folder, and what the names of their folders say about them


@dataclasses.dataclass(eq=False)
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


def find_files(path, images, masks) -> tuple:
    """Return `(Pictures, those set aside, paths of other files)` below a folder.

    `images` and `masks` are as of `open_dataset`. Set aside are arrays, masks of objects or parts,
    and distances: they count where nothing else pairs.
    """
    files = []
    for folder, names, found in os.walk(path, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith((".", "__")))
        files += [pathlib.Path(folder, name) for name in sorted(found) if name[0] != "."]
    asked = {}
    for role, pattern in (("mask", masks), ("image", images)):
        if pattern is not None:
            asked[role] = set(_choose(files, path, pattern))
            if not asked[role]:
                raise DatasetError(
                    f"{role}s={pattern!r} matches no picture in {path}: expected a folder below "
                    'it, or a pattern such as "gtFine/**/*_labelIds.png"'
                )
    halves = [file for file in files if file.suffix.lower() in SUFFIXES.union(ARRAYS)]
    others = [file for file in files if file.suffix.lower() not in SUFFIXES.union(ARRAYS)]
    folders = [file.parent for file in halves]
    shared = len(pathlib.Path(os.path.commonpath(folders)).parts) if folders else 0
    parts = {part for folder in set(folders) for part in folder.parts[shared:]}
    words = {word for part in parts for word in _list_words(part)}
    is_short = "tr" in words and len(words & SHORT.keys()) > 1
    split_of = SPLIT_OF_WORD | SHORT if is_short else SPLIT_OF_WORD
    described = (_describe(file, path, shared, asked, split_of) for file in halves)
    pictures = [picture for picture in described if picture]
    aside = [p for p in pictures if p.aside or p.path.suffix.lower() in ARRAYS]
    later = set(aside)
    return [p for p in pictures if p not in later], aside, others


def _describe(file, path, shared, asked, split_of):
    """Picture, or None; the first `shared` parts of its path are those of all pictures."""
    chosen = next((role for role in asked if file in asked[role]), None)
    parts, stem = _name_parts(file, shared, split_of)
    split = role = None
    source, place, folders, aside = (), (), (), bool(OBJECT_NAME.search(file.stem))
    for part in parts:
        words = _list_words(part)
        splits = [split_of[word] for word in words if word in split_of]
        rest = tuple(word for word in words if word not in split_of)
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
    name, aside = _name_below(file, path), aside and chosen is None
    return Picture(file, name, stem, split, chosen or role, source, place, folders, aside)


def _name_parts(file, shared, split_of):
    """`(names of folders, stem)`: what a stem says of role and split counts as folders.

    So it is with mask.png beside image.png, or with X_train.npy.
    """
    parts, stem = file.parent.parts[shared:], _normalize(file.stem)
    roles = FOLDER_WORDS[:2]
    said = any(kind.fullmatch(w) for part in parts for w in _list_words(part) for kind in roles)
    says_role = not said and any(kind.fullmatch(stem.lower()) for kind in roles)
    if not says_role and file.suffix.lower() not in ARRAYS:
        return parts, stem
    words = [{"x": "images", "y": "masks"}.get(word, word) for word in _list_words(stem)]
    known = [w for w in words if w in split_of or any(k.fullmatch(w) for k in FOLDER_WORDS)]
    rest = "_".join(word for word in words if word not in known)
    return (*known, *parts), rest if known else stem


def _list_words(name):
    return [word.lower() for word in WORD.findall(RUN_TOGETHER.sub(r"\1_", _normalize(name)))]


def _normalize(name):
    """One spelling for names that Unicode can spell in two ways, as macOS and Linux do."""
    return unicodedata.normalize("NFC", name)


def _name_below(file, path):
    return _normalize(pathlib.Path(os.path.relpath(file, path)).as_posix())


def _choose(files, path, pattern):
    """Those that a folder or a pattern below `path` means."""
    pattern = _name_below(os.path.join(path, pattern), path)
    choose = re.compile(fnmatch.translate(pattern.replace("**/", "*"))).match
    names = [(file, _name_below(file, path)) for file in files]
    return [file for file, name in names if name.startswith(f"{pattern}/") or choose(name)]


# Ways to pair: what files say, and how pictures are named


def find_pairs(path, files, tables, masks, splits, format, classes, unpaired) -> tuple:
    """Return `(Found, paths without other half, classes)` of the first way that pairs anything.

    Args:
        path: path of the data set's folder.
        files: what `find_files` returned.
        tables: `[DataFrame of pairs]`, or None for tables among `files`.
        masks, splits, format, classes, unpaired: as of `open_dataset`.
    """
    pictures, aside, others = files
    for way in _try_all(path, pictures, aside, others, tables, masks, splits, format):
        found, lonely = way
        if found:
            break
    else:
        raise DatasetError(_explain_no_pairs(path, others, aside, tables))
    if found.names and classes is None:
        classes = find_table(others, found.names)
    if found.kind != "names":
        found.pairs, classes = annotations.settle(found, path, classes, unpaired)
    if any(image.path.suffix.lower() in ARRAYS for image, _ in found.pairs):
        pictures = pictures + aside
    found.bare = _find_unlabelled(pictures, found)
    if _read_lists(path, pictures, others, found.pairs):
        found.pairs, lonely = [pair for pair in found.pairs if pair[0].split], []
        found.pairs.sort(key=lambda pair: pair[0].path)
    elif splits is None and not any(image.split for image, _ in found.pairs):
        for file in (f for f in others if re.search("split|fold", f.stem, re.IGNORECASE)):
            words = "may say what is in which split, but is not read: see splits= of open_dataset"
            warn(f"{file} {words}")
    if lonely and unpaired != "skip":
        image, mask = (half.path.relative_to(path) for half in found.pairs[0])
        raise DatasetError(
            f"{len(lonely)} pictures have no other half, first {lonely[0]}: expected every mask to "
            f"be named like {mask} of {image}; add what is missing or remove the picture, or pass "
            'unpaired="skip" to go on without it'
        )
    return found, lonely, classes


def _try_all(path, pictures, aside, others, tables, masks, splits, format):
    """Yield what each way finds, `(Found or None, paths without other half)`."""
    if format is not None:
        yield sources.import_annotations(path, format, pictures), []
    notes = others if masks is None else _choose(others, path, masks)
    listed = [f for f in notes if f.suffix.lower() in (".csv", ".tsv") and f.name != TABLE]
    listed = listed if tables is None else tables
    if listed:
        found = sources.read_sources(path, listed, pictures, pairs=True)
        if found and tables is None and masks is None:
            words = f"{path}: pairs are taken from {found.text}, masks={found.text!r} confirms it"
            warn(words)
        yield found, []
    photographs, groups = _tell_apart(pictures)
    several = [mask for group in groups for mask in group]
    if several:
        for file in others if masks is None else ():  # it says what each mask shows
            if _has(file, *FORMATS["label_me"]) or _has(file, *FORMATS["open_images"]):
                raise DatasetError(name_unread(path, [file]))
        yield _merge_mask_files(path, photographs, several), []
    yield _choose_reading(path, pictures, masks)
    yield sources.read_sources(path, notes, photographs, pairs=False), []
    if not name_unread(path, others):
        yield _choose_reading(path, pictures + aside, masks)
    if splits is not None:  # the file of splits names them
        yield annotations.Found(path, "splits", "", []), []


# What files give away: the end of their names, and a pattern in them. FORMATS are datumaro's.
FORMATS = {
    "cvat": (".xml", "<annotations>"),
    "label_me": (".xml", "<polygon>"),
    "segment_anything": (".json", '"predicted_iou"'),
    "open_images": (".csv", "MaskPath,ImageID"),
    "mots": ("instances/labels.txt", ""),
}
TO_ARRAYS = ", and pass their arrays to seglib.open_arrays"
RUNS = "name each picture by its file, and write start length start length ..., start from 1"
YOLO = "a line is a class's number and x y x y ..., in shares of the picture's sides"
UNREAD = (
    ((".nii", ".nii.gz"), "", "NIfTI volumes", "read them with nibabel" + TO_ARRAYS),
    ((".dcm",), "", "DICOM files", "read them with pydicom" + TO_ARRAYS),
    ((".h5", ".hdf5"), "", "HDF5 files", "read them with h5py" + TO_ARRAYS),
    ((".npy", ".npz", ".mat"), "", "arrays that do not pair", "load them" + TO_ARRAYS),
    ((".json",), '"from_name"', "Label Studio's JSON", sources.EXPORT),
    ((".json",), '"shape_attributes"', "VGG Image Annotator's JSON", sources.EXPORT),
    ((".xml",), "<Annotations", "polygons of Aperio ImageScope", sources.EXPORT),
    ((".txt",), r"^\d+( -?\d*\.\d+){4,}", "labels like those of YOLO", YOLO),
    ((".csv",), r"[,;]\W*\d+(,? \d+){3,}", "run lengths that fit no picture", RUNS),
    ((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "", "archives", "unpack them"),
)


def _has(file, endings, pattern):
    if not file.as_posix().lower().endswith(endings):
        return False
    with open(file, encoding="utf-8", errors="replace") as stream:
        return not pattern or re.search(pattern, stream.read(100_000), re.MULTILINE) is not None


def name_unread(path, files) -> str | None:
    """Return what files are and what to do, where they are of a kind that seglib does not read."""
    step = "pip install 'seglib[formats]', then open_dataset({!r}, format={!r})"
    kinds = [
        (*marks, f"annotations of the format {name}", step.format(str(path), name))
        for name, marks in FORMATS.items()
    ]
    for endings, pattern, what, step in (*kinds, *UNREAD):
        found = next((file for file in files if _has(file, endings, pattern)), None)
        if found:
            return f"{path} has {what}, first {found}, which seglib does not read: {step}"
    return None


def _explain_no_pairs(path, others, aside, tables):
    if tables:
        return (
            f"no pairs in the table: expected columns such as image and mask, with paths from "
            f"{path.resolve()} on; received {', '.join(map(str, tables[0]))}"
        )
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    names[10:] = ["…"] * (len(names) > 10)
    return name_unread(path, [*others, *(picture.path for picture in aside)]) or (
        f"no pairs of image and mask in {path}: expected train/ and train_labels/, or "
        f"images/ and masks/, with {', '.join(sorted(SUFFIXES))} files, or other folders, "
        f"passed as images= and masks=; found {', '.join(names) or 'nothing'}"
    )


# Pairing by names. A reading is one way to do it, `(pairs, doubles, lonely)`: pairs of Pictures,
# lists of those of one name, and paths of those without other half.


def _choose_reading(path, pictures, masks):
    """`(Found, lonely)`: what pairs most; other readings are told of, if no masks were chosen."""
    found = _find_all_readings(pictures, masks)
    if not found:
        return None, []
    best = max(found, key=lambda reading: (len(reading[0]), _looks_drawn(reading[0][0][1].path)))
    if len(found) > 1 and _are_alike(best):  # such as the field of view beside the vessels
        others = [reading for reading in found if not reading[2] and not _are_alike(reading)]
        best = max(others, key=lambda reading: len(reading[0]), default=best)
    pairs, doubles, lonely = best
    owned, taken = {_place(mask): mask for _, mask in pairs}, _name_masks(pairs)
    for picture in set(pictures).difference(*pairs):
        both = picture, owned.get(_place(picture), picture)
        affixes = [MASK_AFFIX.search(half.stem) for half in both]
        if both[0] is not both[1] and all(affixes) and any(affix["number"] for affix in affixes):
            doubles.append(both)
    if doubles:
        first, second = sorted(str(picture.path) for picture in doubles[0][:2])
        raise DatasetError(
            f"{first} and {second} have the same name, or differ by a number alone: expected one "
            f"picture of each; remove, merge or rename one, or pass images= and masks={taken!r} to "
            "choose"
        )
    others = ", ".join(f"masks={_name_masks(r[0])!r}" for r in found if r is not best)
    if others or (pairs[0][1].role is None and pairs[0][0].role == "image"):
        words = f"also possible are {others}" if others else "no folder says that it holds masks"
        warn(
            f"{path}: masks are taken from {taken}; {words}: pass masks={taken!r} to open_dataset "
            "to confirm the choice"
        )
    _tell_masks_left_out(path, pictures, pairs)
    return annotations.Found(path, "names", taken, [], pairs=pairs), lonely


def _tell_masks_left_out(path, pictures, pairs):
    """Warn of masks in splits without any pair, as after a download of some of the files."""
    images, masks = (
        {half.source or half.folders for half in side} for side in zip(*pairs, strict=True)
    )
    splits, left = {image.split for image, _ in pairs}, {}
    for picture in pictures if None not in splits else ():
        is_mask = (picture.source or picture.folders) in masks - images
        if is_mask and picture.split not in {None, *splits}:
            left.setdefault(picture.split, picture.name)
    for split, first in left.items():
        words = f"the masks of {split} have no pictures and are left out, first {first}"
        warn(f"{path}: {words}: add their pictures if there are any")


def _place(picture):
    return picture.path.parent, _bare(picture.stem)


def _find_all_readings(pictures, asked):
    """Readings of each source of masks, and of folders beside images/ that may hold masks too."""
    pictures = [picture for picture in pictures if picture.split != "unlabelled"]
    photographs, groups = _tell_apart(pictures)
    found = [reading for masks in groups for reading in _find_readings(photographs, masks)]
    images = [picture for picture in pictures if picture.role == "image"]
    unsaid = collections.defaultdict(list)
    for picture in pictures:
        if picture.role is None and images and asked is None:
            unsaid[picture.folders[:1]].append(picture)
    drawn = [group for group in unsaid.values() if _looks_drawn(group[0].path)]
    return found + [reading for masks in drawn for reading in _find_readings(images, masks)]


def _looks_drawn(file):
    """Whether a picture has few colours, and so may be a mask."""
    with contextlib.suppress(ValueError):  # Pillow counts no colours of 16 bits
        return open_picture(file).getcolors(MAX_DRAWN) is not None
    return False


def _are_alike(reading):
    """Whether its masks are black and white, and pixels vary little from mask to mask."""
    masks = [mask.path for _, mask in reading[0][:: -(-len(reading[0]) // MAX_COMPARED)]]
    with contextlib.suppress(DatasetError):
        masks = [open_picture(mask).convert("L") for mask in masks]
        small = [mask.resize((SIDE, SIDE), Image.Resampling.BILINEAR) for mask in masks]
        small = np.stack(small).astype(float)
        varies = small.var(axis=0).mean() > MIN_VARIATION * small.var()
        return not varies and all(len(mask.getcolors()) < 3 for mask in masks)
    return False


def _tell_apart(pictures):
    """`(photographs, lists of masks by source)`; by their names where no folder says."""
    roles = "mask", "image", None
    masks, photographs, unsaid = ([p for p in pictures if p.role == role] for role in roles)
    photographs = photographs or unsaid
    if masks and photographs:
        by_source = collections.defaultdict(list)
        for mask in masks:
            by_source[mask.source].append(mask)
        return photographs, list(by_source.values())
    pictures = masks or pictures  # all in one folder, whose name may say labels
    named = [picture for picture in pictures if MASK_AFFIX.search(picture.stem)]
    plain = set(map(_place, set(pictures).difference(named)))
    masks = [mask for mask in named if _place(mask) in plain]
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
        groups += [kinds[kind] for kind in sorted(kinds, key=lambda k: ([*KINDS, k].index(k), k))]
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
    """Their names in several spellings.

    As they are, without known affixes, without these and zeros such as those of 007, and without
    what all, or those of a split, share.
    """
    stems = [picture.stem for picture in pictures]
    bare = list(map(_bare, stems))
    own = (_drop_shared(pictures, by_split=by_split) for by_split in (False, True))
    return stems, bare, list(map(_drop_zeros, bare)), *own


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
    by_key = [collections.defaultdict(list), collections.defaultdict(list)]
    for found, halves, own in zip(by_key, (photographs, masks), (names, mask_names), strict=True):
        for picture, name in zip(halves, own, strict=True):
            found[*(getattr(picture, what) for what in agreement), name].append(picture)
    images_of, masks_of = by_key
    both = [key for key in images_of if key in masks_of]
    pairs = [(image, masks_of[key][0]) for key in both for image in images_of[key]]
    doubles = [same for key in both for same in (images_of[key], masks_of[key]) if len(same) > 1]
    if agreement != AGREEMENTS[0] and doubles:
        return [], [], []  # names are not unique without the folders' names
    splits, paired = {image.split for image, _ in pairs}, {half for pair in pairs for half in pair}
    lonely = [p.path for p in photographs if p not in paired and p.split in splits]
    paired_names = {key[-1] for key in both}
    for mask, name in zip(masks, mask_names, strict=True):
        is_missed = mask not in paired and (mask.split in splits or not agreement)
        ends = [i for i, letter in enumerate(name) if letter in SEPARATORS]
        if is_missed and not any(name[:end] in paired_names for end in ends):  # such as …_color
            lonely.append(mask.path)
    return pairs, doubles, lonely


def _name_masks(pairs):
    """A pattern that takes the masks of these pairs."""
    parts = []
    for texts in zip(*(mask.name.split("/") for _, mask in pairs), strict=False):
        start, end = map(glob.escape, _common_ends(texts))
        parts.append(start if len(set(texts)) == 1 else f"{start}*{end}")
    return "/".join(parts)


# Several mask files a picture


def _merge_mask_files(path, photographs, masks):
    """Take several black and white mask files for one picture's objects or classes.

    Folders, or else what follows the picture's name, are classes if they recur; otherwise all are
    objects of one class.
    """
    if any("-annotation-" in mask.stem for mask in masks):
        words = "are masks of Label Studio, whose names do not say the picture: export COCO JSON"
        raise DatasetError(f"{path}: {masks[0].path.name} and others {words}")
    by_stem, alone = collections.defaultdict(list), collections.defaultdict(list)
    for picture in photographs:
        by_stem[_drop_zeros(picture.stem)].append(picture)
        alone[picture.split, picture.folders].append(picture)
    owned = [(mask.path, *_find_owner(mask, by_stem, alone)) for mask in masks]
    owned = [(file, pictures[0], rest) for file, pictures, rest in owned if len(pictures) == 1]
    owners = {picture for _, picture, _ in owned}
    if len(owned) <= len(owners) or len(masks) > 2 * len(owned):
        return None
    by_folder = len({(picture, file.parent) for file, picture, _ in owned}) > len(owners)
    if by_folder:
        below = [os.path.relpath(file.parent, path).split(os.sep) for file, _, _ in owned]
        parts = [["", *filter(_name_class, folders)] for folders in below]
        owned = [(*row[:2], named[-1]) for row, named in zip(owned, parts, strict=True)]
    owned.sort(key=lambda row: splitting.natural_key(row[2]))
    owned = [(file, picture, _name_class(text)) for file, picture, text in owned]
    classes = list(dict.fromkeys(name for _, _, name in owned))
    words = {word for name in classes for word in [name.lower(), *_list_words(name)]}
    if any(map(NO_CLASS.fullmatch, words)) or ("" in classes and len(classes) > 1):
        return None
    counts = collections.Counter(name for _, name in {row[1:] for row in owned})
    recur = len(owners) == 1 or sum(n > 1 for n in counts.values()) > len(classes) / 2
    are_classes = 1 < len(classes) <= MANY_CLASSES and recur
    looked_at = [file for file, _, _ in owned][:: -(-len(owned) // 8)]
    if (by_folder and not are_classes) or not all(map(_is_black_and_white, looked_at)):
        return None
    meaning = f"classes, {', '.join(classes)}" if are_classes else "objects of one class"
    warn(
        f"{path}: {len(owned)} mask files of {len(owners)} pictures, such as {looked_at[0]}, "
        f"are taken for {meaning}; masks=… chooses one file a picture"
    )
    folder = pathlib.Path(os.path.commonpath([mask.path.parent for mask in masks]))
    found = annotations.Found(
        path, "files", folder.name, classes if are_classes else ["foreground"]
    )
    shapes = collections.defaultdict(list)
    for file, picture, name in owned:
        shapes[picture].append((name if are_classes else "foreground", ("file", str(file))))
    for picture, drawn in shapes.items():
        found.add(picture.name, [picture], folder, drawn)
    taken = {file for file, _, _ in owned}
    found.missing = [str(mask.path) for mask in masks if mask.path not in taken]
    return found.check(photographs)


def _find_owner(mask, by_stem, alone):
    """`(pictures, the rest of a mask's name)`: by its beginning, a folder, or a lone picture."""
    ends = [match.start() for match in re.finditer(r"[_\-. ]|$", mask.stem)]
    stems = [(_drop_zeros(mask.stem[:end]), mask.stem[end:]) for end in reversed(ends)]
    # A folder 3/ of masks 00012_hair.png is not that of picture 3.
    parts = [p for p in mask.name.split("/")[:-1] if not (p + stems[-1][0]).isdigit()]
    stems += [(_drop_zeros(part), mask.stem) for part in reversed(parts)]
    choices = [(by_stem.get(stem), rest) for stem, rest in stems]
    choices += [(alone.get((mask.split, mask.folders)), mask.stem)]
    found, rest = next((choice for choice in choices if choice[0]), ([], ""))
    found = [picture for picture in found if picture.split == mask.split] or found
    return [picture for picture in found if picture.folders == mask.folders] or found, rest


def _drop_zeros(name):
    """A name without the zeros that its numbers begin with: 3 for 00003."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name)


def _name_class(text):
    """A class's name: "1. Haemorrhages" is Haemorrhages, "_mask_1" is none."""
    numbered = re.search("class|cat", text, re.IGNORECASE)  # class_1, class_2
    words = [word for word in re.split(r"[_\-. ]+", text) if word]
    kept = [
        word
        for word in words
        if not (word.lower() in SPLIT_OF_WORD or FOLDER_WORDS[0].fullmatch(word.lower()))
    ]
    return " ".join(word for word in kept if numbered or not word.isdigit())


def _is_black_and_white(path):
    picture = open_picture(path)
    grey = read_grey(path)
    blurred = picture.format == "JPEG" and ((grey > 64) & (grey < 192)).mean() < 0.05
    return blurred or picture.convert("RGB").getcolors(2) is not None


# Who gets what


def _find_unlabelled(pictures, found):
    """Paths of the photographs in a split without any pair, and of those that no file names."""
    paired = {half.path for pair in found.pairs for half in pair}
    splits, roles = {image.split for image, _ in found.pairs}, {p.role for p in pictures}
    bare = [
        picture.path
        for picture in pictures
        if picture.split not in {None, *splits}
        and picture.role != "mask"
        and (picture.role == "image" or not picture.folders or "image" not in roles)
    ]
    return [path for path in dict.fromkeys([*bare, *found.bare]) if path not in paired]


def _read_lists(path, pictures, others, pairs):
    """Set splits of pictures as text files say, such as `ImageSets/Segmentation/train.txt`.

    A line is a name or a path, with or without an extension, of as many folders as tell it
    apart; what follows it, such as its mask, does not count. Without a list for training, that is
    what no other list names. Returns whether there are lists; splits of folders come before them.
    """
    images = {image.path: image for image, _ in pairs}
    if len({image.split for image, _ in pairs} - {"train"}) != 1:
        return False
    mine = [picture for picture in pictures if picture.path in images]
    index = sources.PictureIndex(path, mine)
    split_of = {}

    def find(line, file):
        meant = (index.find(text, file) for text in (line, re.split(r"[\s,;]", line)[0]))
        return next((one[0].path for one in meant if len(one) == 1), None)

    for split, names in LISTS.items():
        stems = {f: LIST.sub("", f.stem.lower()) for f in others if f.suffix.lower() == ".txt"}
        files = [f for f, stem in stems.items() if stem in names]
        files.sort(key=lambda f: ("segmentation" not in str(f).lower(), len(f.parts), f))
        files.sort(key=lambda f: names.index(stems[f]))
        lines = files[0].read_text("utf-8-sig", "replace").split("\n") if files else []
        listed = [find(line.strip(), files[0]) for line in lines if line.strip()]
        lost = sum(image is None or image in split_of for image in listed)
        if lost:
            words = f"{files[0]} lists {lost} pictures without a pair, or that another split has"
            warn(f"{words}; they are left out of this one")
        split_of = {image: split for image in listed if image} | split_of
    rest = None if "train" in split_of.values() else "train"
    for path, image in images.items() if split_of else ():
        image.split = split_of.get(path, rest)
    return bool(split_of)


def sort_into_splits(path, pairs, splits, fractions, seed, *, as_bands) -> dict:
    """Return `{split: pairs of paths}`, as a file of splits or folders say, or dealt out by chance.

    `pairs` are of Pictures; `splits`, `fractions` and `seed` as of `open_dataset`.
    """
    if splits is not None:
        drawn = [mask.path for _, mask in pairs if isinstance(mask.path, annotations.Annotation)]
        return splitting.read_splits(splits, path, drawn)
    by_split = collections.defaultdict(list)
    for image, mask in pairs:
        by_split[image.split] += split_pages([(image.path, mask.path)], as_bands=as_bands)
    if len(by_split) == 1 and "train" not in by_split:  # also all of them in "my test/"
        ((_, every),) = by_split.items()
        dealt = splitting.deal_out(len(every), fractions=fractions, seed=seed)
        return {split: [every[i] for i in chosen] for split, chosen in dealt.items()}
    if "train" not in by_split and None in by_split:
        by_split["train"] = by_split.pop(None)
    if None in by_split:
        words = "pairs are in no folder of a split and left out"
        warn(f"{path}: {len(by_split.pop(None))} {words}")
    if list(by_split) == ["train"]:
        warn(
            f"{path}: only train has masks, so val and test are empty: deal its pairs out with "
            'dataset = dataset.split(fractions=(0.8, 0.2, 0)), or with by="sequence" for films'
        )
    return {split: by_split[split] for split in splitting.NAMES}
