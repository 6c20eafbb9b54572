"""The pictures in a folder, and what the names of their folders say about them."""

import dataclasses
import fnmatch
import os
import pathlib
import re
import unicodedata

from seglib.images import SUFFIXES, DatasetError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
IMAGE_WORDS = frozenset(
    ("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "rgb", "frame",
     "frames", "input", "inputs")
)  # fmt: skip
MASK_WORDS = frozenset(
    ("mask", "masks", "label", "labels", "labeled", "labelled", "annotation", "annotations",
     "annot", "annots", "gt", "groundtruth", "truth", "segmentation", "segmentations", "seg",
     "segs", "target", "targets")
)  # fmt: skip
# Pictures of masks, or of single objects, that exporters write beside the masks.
PASSED_OVER = frozenset(
    ("visualization", "visualizations", "viz", "overlay", "overlays", "instance", "instances",
     "npy", "previews", "thumbnails")
)  # fmt: skip
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
SPLIT_OF_WORD = {word: split for split, words in SPLIT_NAMES.items() for word in words}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file, and what its folders say.

    Args:
        path: path.
        folder: str, its folder below the data set's, with `/`.
        stem: str, its name without extension, in one of Unicode's two spellings.
        split: "train", "val", "test", or None.
        role: "image", "mask", or None where no folder says.
        place: tuple of str, what else is in the folders' names.
        folders: tuple of str, the folders that say neither split nor role.
    """

    path: pathlib.Path
    folder: str
    stem: str
    split: str | None
    role: str | None
    place: tuple
    folders: tuple


def find_pictures(path, *, images=None, masks=None):
    """Find all pictures below a folder, and what is in no picture's name but may tell of classes.

    Args:
        path: path of the folder.
        images, masks: str or None, folder or pattern such as "gtFine/**/*_labelIds.png", below
            `path`: which pictures are photographs, or masks.

    Returns:
        `(pictures, others)`: list of Picture and list of paths, sorted. Hidden files and folders
        are passed over.
    """
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
    folders = {file.parent for file in files}
    shared = len(pathlib.Path(os.path.commonpath(folders)).parts) if folders else 0
    images, masks = (_clean(path, pattern) for pattern in (images, masks))
    for name, pattern in (("images", images), ("masks", masks)):
        relative = (normalize(file.relative_to(path).as_posix()) for file in files)
        if pattern is not None and not any(matches(file, pattern) for file in relative):
            raise DatasetError(
                f"{name}={pattern!r} matches no picture in {path}: expected a folder below it, or "
                'a pattern such as "gtFine/**/*_labelIds.png"'
            )
    described = (_describe(file, path, shared, images, masks) for file in files)
    return [picture for picture in described if picture is not None], others


def normalize(name):
    """One spelling for names that Unicode can spell in two ways, as macOS and Linux do."""
    return unicodedata.normalize("NFC", name)


def _describe(file, path, shared, images, masks):
    """Picture, or None; the first `shared` parts of its path are those of all pictures."""
    relative = file.relative_to(path)
    asked_for = _find_role(normalize(relative.as_posix()), images, masks)
    split = role = None
    place, folders = [], []
    for part in file.parent.parts[shared:]:
        words = [word.lower() for word in WORD.findall(normalize(part))]
        words = [piece for word in words for piece in _cut(word)]
        here = [word for word in words if word in SPLIT_OF_WORD]
        is_mask, is_image = (bool(known & set(words)) for known in (MASK_WORDS, IMAGE_WORDS))
        if asked_for is None and (
            PASSED_OVER & set(words) or (is_mask and {"object", "objects"} & set(words))
        ):
            return None
        if here:  # train_val is for training
            split = "train" if "train" in here else SPLIT_OF_WORD[here[-1]]
        role = "mask" if is_mask else "image" if is_image else role
        rest = [w for w in words if w not in SPLIT_OF_WORD and w not in MASK_WORDS | IMAGE_WORDS]
        place += ["_".join(rest)] * bool(rest)
        folders += [part] * (not here and not is_mask and not is_image)
    role = asked_for or role
    if asked_for is None and (images if role != "mask" else masks) is not None:
        return None  # another one of the kind that was chosen
    where = relative.parent.as_posix()
    return Picture(file, where, normalize(file.stem), split, role, tuple(place), tuple(folders))


def _cut(word):
    """`trainannot` as train and annot; any other word as it is."""
    for start in SPLIT_OF_WORD:
        if word.startswith(start) and word[len(start) :] in MASK_WORDS | IMAGE_WORDS:
            return [start, word[len(start) :]]
    return [word]


def _find_role(relative, images, masks):
    """What a picture was said to be, or None."""
    for role, pattern in (("mask", masks), ("image", images)):
        if pattern is not None and matches(relative, pattern):
            return role
    return None


def _clean(path, pattern):
    """A pattern relative to the folder, whichever way it was written."""
    if pattern is None:
        return None
    if os.path.isabs(pattern):
        pattern = os.path.relpath(pattern, os.path.abspath(path))
    return normalize(pathlib.PurePath(pattern).as_posix())


def matches(relative, pattern):
    """Whether a path, relative to the data set's folder, is chosen by a folder or a pattern."""
    return relative.startswith(f"{pattern}/") or fnmatch.fnmatchcase(
        relative, pattern.replace("**/", "*")
    )
