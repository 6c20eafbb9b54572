"""Which mask belongs to which photograph."""

import collections
import dataclasses
import glob
import itertools
import pathlib
import posixpath
import re
import warnings

from seglib.datasets.files import SPLIT_NAMES, find_pictures, matches, normalize
from seglib.datasets.lists import read_lists
from seglib.images import SUFFIXES, DatasetError

ENDINGS = ("", "_L", "_mask", "_masks", "_label", "_labels", "_gt", "_labelTrainIds", "_labelIds",
           "_seg", "_segmentation", "_annotation", "-mask", "-label", " mask",
           "_color")  # fmt: skip
IMAGE_AFFIXES = [("", ending) for ending in ("", "_sat", "_image", "_img", "_photo", "_rgb")]
IMAGE_AFFIXES += [(prefix, "") for prefix in ("image_", "img_", "photo_")]
PREFIXES = ("mask_", "label_", "labels_", "gt_", "seg_", "mask-", "L_")
LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
SEPARATORS = "_-. "
OTHERS_SHOWN = 5
KEYS = ("place", "folders", "split", "stem")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What `find_layout` found.

    Args:
        pairs: dict split -> list of `(image path, mask path)`; the split None where the folder
            has none.
        without_mask, without_image: lists of paths.
        expected: `(mask, its folder, image, its folder)` of the first that are missing: names as
            str, folders as paths.
        others: list of paths of files that are no pictures.
    """

    pairs: dict
    without_mask: list
    without_image: list
    expected: tuple
    others: list


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the names of a mask and its photograph differ.

    Args:
        prefix, ending: str, what a mask's name has more than the pair's.
        image_prefix, image_ending: str, likewise for the photograph.
        key: str, what of the folders' names must agree beside the split: their "place" or
            "folders", nothing ("split"), or not even the split ("stem").
    """

    prefix: str = ""
    ending: str = ""
    image_prefix: str = ""
    image_ending: str = ""
    key: str = "place"

    def name_mask(self, picture):
        """What a mask has in common with its photograph; None where it is no mask of the rule."""
        return self._name(picture, self.prefix, self.ending)

    def name_image(self, picture):
        """What a photograph has in common with its mask."""
        return self._name(picture, self.image_prefix, self.image_ending)

    def _name(self, picture, prefix, ending):
        stem = picture.stem
        if not (stem.startswith(prefix) and stem.endswith(ending)):
            return None
        if len(stem) < len(prefix) + len(ending):
            return None
        stem = stem[len(prefix) : len(stem) - len(ending)]
        split = None if self.key == "stem" else picture.split
        return (split, getattr(picture, self.key, ()) if self.key in KEYS[:2] else (), stem)


def find_layout(path, *, images=None, masks=None):
    """Find the pairs of photograph and mask in a folder.

    Args:
        path: path of the folder.
        images, masks: as in `find_pictures`.

    Returns:
        Layout.

    Raises:
        DatasetError: there is no pair, or two pictures have the same name.
    """
    pictures, others = find_pictures(path, images=images, masks=masks)
    photographs, sources = _tell_apart(pictures)
    found = [_pair(photographs, source) for source in sources.values()]
    found = [reading for reading in found if reading.pairs]
    if not found:
        raise DatasetError(
            f"no pairs of image and mask in {path}: expected train/ and train_labels/, or "
            f"images/ and masks/, with {', '.join(sorted(SUFFIXES))} files, or other folders, "
            f"passed as images= and masks=; found {list_folder(path)}"
        )
    best = max(found, key=lambda reading: len(reading.pairs))
    _tell_of_other_readings(path, best, found, pictures)
    return _split(path, best, others)


@dataclasses.dataclass(frozen=True)
class _Reading:
    rule: Rule
    pairs: list  # of two Pictures
    without_mask: list
    without_image: list
    also: list  # endings that pair as many


def _tell_apart(pictures):
    """`(photographs, {folder: masks})`; by names and extensions where no folder says."""
    masks = [picture for picture in pictures if picture.role == "mask"]
    if not masks:
        return _tell_apart_by_name(pictures)
    photographs = [picture for picture in pictures if picture.role == "image"]
    photographs = photographs or [picture for picture in pictures if picture.role is None]
    if not photographs:  # all in one folder whose name says labels
        return _tell_apart_by_name(masks)
    sources = collections.defaultdict(list)
    for mask in masks:
        sources[_name_source(mask)].append(mask)
    return photographs, sources


def _name_source(picture):
    """The folder without what varies within one set of masks: splits, cities, ..."""
    parts = [part for part in picture.folder.split("/") if part not in picture.folders]
    words = sorted((word for words in SPLIT_NAMES.values() for word in words), key=len)
    words = "|".join(reversed(words))
    parts = [re.sub(rf"(?i)(?<![a-z])({words})(?![a-z])|^({words})", "", part) for part in parts]
    return "/".join(part.strip(SEPARATORS) for part in parts if part.strip(SEPARATORS))


def _tell_apart_by_name(pictures):
    stems = {(picture.folder, picture.stem) for picture in pictures}
    rules = [Rule(ending=ending) for ending in ENDINGS if ending]
    rules += [Rule(prefix=prefix) for prefix in PREFIXES]

    def pick(rule):
        named = [(picture, rule.name_mask(picture)) for picture in pictures]
        return [
            picture
            for picture, name in named
            if name
            and any(
                (picture.folder, prefix + name[2] + ending) in stems
                for prefix, ending in IMAGE_AFFIXES
            )
        ]

    masks = max(map(pick, rules), key=len, default=[])
    if not masks:
        endings = collections.defaultdict(set)
        for picture in pictures:
            endings[picture.folder, picture.stem].add(picture.path.suffix.lower())
        masks = [
            picture
            for picture in pictures
            if picture.path.suffix.lower() in LOSSLESS
            and endings[picture.folder, picture.stem] - LOSSLESS
        ]
    chosen = {id(mask) for mask in masks}
    return [picture for picture in pictures if id(picture) not in chosen], {"": masks}


def _pair(photographs, masks):
    """The reading that pairs most; the first of several."""
    affixes = _list_affixes(photographs, masks) if photographs and masks else []
    best, rule, also = [], Rule(), []
    for key in KEYS:
        for affix in affixes:
            tried = Rule(*affix, key=key)
            pairs = _match(tried, photographs, masks)
            if len(pairs) > len(best):
                best, rule, also = pairs, tried, []
            elif best and len(pairs) == len(best) and _take_other_masks(pairs, best):
                also.append(tried.ending)
        if len(best) == len(photographs):
            break
    if not best:
        return _Reading(rule, [], [], [], [])
    paired = [{id(pair[i]) for pair in best} for i in (0, 1)]
    splits = {image.split for image, _ in best}
    stems = {rule.name_image(image)[-1] for image, _ in best}
    without_mask = [
        image for image in photographs if id(image) not in paired[0] and image.split in splits
    ]
    without_image = [
        mask
        for mask in masks
        if id(mask) not in paired[1]
        and (mask.split in splits or rule.key == "stem")
        and not _is_of_another_kind(mask, rule, stems)
    ]
    _check_names(rule, photographs, masks)
    also = sorted({ending for ending in also if ending != rule.ending})
    return _Reading(rule, best, without_mask, without_image, also)


def _take_other_masks(pairs, best):
    return {id(mask) for _, mask in pairs}.isdisjoint(id(mask) for _, mask in best)


def _list_affixes(photographs, masks):
    """Endings and prefixes that are customary, that these files show, or that all share."""
    affixes = [("", ending) for ending in ENDINGS] + [(prefix, "") for prefix in PREFIXES]
    stems = {picture.stem for picture in photographs}
    seen = collections.Counter()
    for stem in (mask.stem for mask in masks):
        lengths = range(len(stem) - 1, 0, -1)
        seen.update([("", stem[n:]) for n in lengths if stem[:n] in stems][:1])
        seen.update([(stem[:-n], "") for n in lengths if stem[-n:] in stems][:1])
    affixes += [affix for affix, _ in seen.most_common(OTHERS_SHOWN)]
    affixes = [(*affix, "", "") for affix in affixes]
    of_images = _common_affixes(photographs)
    affixes.append((*_common_affixes(masks), *of_images))
    last = {stem[stem.rfind("_") :] for stem in (mask.stem for mask in masks) if "_" in stem}
    if len(last) <= 2 * OTHERS_SHOWN:  # such as _labelIds and _color beside each other
        known = [ending for ending in ENDINGS if ending in last]
        for ending in [*known, *sorted(last - set(known))]:
            same = [mask for mask in masks if mask.stem.endswith(ending)]
            affixes.append((*_common_affixes(same), *of_images))
    return list(dict.fromkeys(affixes))


def _common_affixes(pictures):
    """What all names begin and end with, up to a separator."""
    return _common_ends([picture.stem for picture in pictures], SEPARATORS)


def _common_ends(texts, separators):
    """What all texts begin and end with, up to a separator if there are any."""
    start = _common_start(texts)
    if separators:
        start = start[: max(start.rfind(separator) for separator in separators) + 1]
    end = _common_start([text[len(start) :][::-1] for text in texts])[::-1]
    if separators:
        places = [i for i in map(end.find, separators) if i >= 0]
        end = end[min(places) :] if places else ""
    return start, end


def _common_start(texts):
    first, last = min(texts), max(texts)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
                        min(len(first), len(last)))]  # fmt: skip


def _match(rule, photographs, masks):
    """Pairs under a rule; none where names are not unique without the folders' names."""
    by_name = {}
    for mask in masks:
        name = rule.name_mask(mask)
        if name is not None and by_name.setdefault(name, mask) is not mask and rule.key != KEYS[0]:
            return []
    pairs = [(image, by_name.get(rule.name_image(image))) for image in photographs]
    pairs = [(image, mask) for image, mask in pairs if mask is not None]
    unique = len({id(mask) for _, mask in pairs}) == len(pairs)
    return pairs if unique or rule.key == KEYS[0] else []


def _check_names(rule, photographs, masks):
    for pictures, name in ((photographs, rule.name_image), (masks, rule.name_mask)):
        first = {}
        for picture in pictures:
            other = first.setdefault(name(picture), picture)
            if other is picture or name(picture) is None:
                continue
            if other.folder == picture.folder:
                raise DatasetError(
                    f"{other.path.name} and {picture.path.name} in {other.path.parent} differ in "
                    "their extension only: expected one picture of each name; remove or rename one"
                )
            raise DatasetError(
                f"{other.path} and {picture.path} have the same name, so that pairs cannot be "
                "told: choose folders with images= and masks="
            )


def _is_of_another_kind(mask, rule, stems):
    """Whether a mask is of a photograph that has another one, such as `…_color` of `…_labelIds`."""
    if rule.name_mask(mask) is not None and (rule.prefix or rule.ending):
        return False
    stem = mask.stem.removeprefix(rule.prefix)
    return any(stem[:i] in stems for i, letter in enumerate(stem) if letter in SEPARATORS)


def _tell_of_other_readings(path, best, found, pictures):
    readings = [best, *(reading for reading in found if reading is not best)]
    patterns = [_describe_source(path, reading, found, pictures) for reading in readings]
    patterns += ["*" + ending + ".*" for ending in best.also]
    if len(patterns) == 1:
        return
    taken, *rest = patterns
    names = [f"masks={pattern!r}" for pattern in rest if pattern][:OTHERS_SHOWN]
    known = [f"{', '.join(names)}, passed to open_dataset"] if names else []
    if None in rest:
        known.append("others that no one pattern tells apart")
    confirm = f"; or pass masks={taken!r} to confirm the choice" if taken else ""
    warnings.warn(
        f"{path}: masks are taken from {taken or best.pairs[0][1].path.parent}; also possible are "
        f"{'; and '.join(known)}{confirm}",
        stacklevel=4,
    )


def _describe_source(path, reading, found, pictures):
    """A pattern that chooses these masks and no other picture; None where there is none."""

    def name(picture):
        return normalize(picture.path.relative_to(path).as_posix())

    masks = {name(mask) for _, mask in reading.pairs}
    others = {name(picture) for other in found for pair in other.pairs for picture in pair}
    endings = tuple(ending for ending in reading.also if ending)
    others |= {name(picture) for picture in pictures if picture.stem.endswith(endings)}
    others -= masks
    folders = sorted({pathlib.PurePosixPath(mask).parent.as_posix() for mask in masks})
    files = f"*{reading.rule.ending}.*" if reading.also else "*"
    shared = posixpath.commonpath(folders)
    patterns = [] if reading.also or shared in ("", ".") else [shared]
    patterns.append(pathlib.PurePosixPath(glob.escape(shared), files).as_posix())
    for separators in ("/" + SEPARATORS, None):  # whole words first
        start, end = map(glob.escape, _common_ends(folders, separators))
        patterns.append(f"{start}*{end}/{files}")
    for pattern in patterns:
        if all(matches(mask, pattern) for mask in masks) and not any(
            matches(other, pattern) for other in others
        ):
            return pattern
    return None


def _split(path, reading, others):
    """Pairs by split: as the folders say, or as lists of names say."""
    pairs = collections.defaultdict(list)
    for image, mask in reading.pairs:
        pairs[image.split].append((image.path, mask.path))
    without_mask = [picture.path for picture in reading.without_mask]
    if len(pairs) == 1 and "train" not in pairs:  # such as all of them in "my test/"
        pairs = {None: next(iter(pairs.values()))}
    if set(pairs) == {None}:
        listed = read_lists(path, others, reading.pairs)
        if listed:
            pairs, without_mask = listed, []
    elif None in pairs and "train" not in pairs:
        pairs["train"] = pairs.pop(None)
    elif None in pairs:
        warnings.warn(
            f"{path}: {len(pairs.pop(None))} pairs are in no folder of a split and left out",
            stacklevel=5,
        )
    return Layout(
        pairs=dict(pairs),
        without_mask=without_mask,
        without_image=[picture.path for picture in reading.without_image],
        expected=_expect(reading),
        others=others,
    )


def _expect(reading):
    """`(name of the first missing mask, its folder, name of the first missing image, folder)`."""
    rule = reading.rule
    mask, mask_folder = _expect_half(reading.without_mask, rule.name_image, reading.pairs)
    turned = [(mask, image) for image, mask in reading.pairs]
    image, image_folder = _expect_half(reading.without_image, rule.name_mask, turned)
    return (
        rule.prefix + mask + rule.ending,
        mask_folder,
        rule.image_prefix + image + rule.image_ending,
        image_folder,
    )


def _expect_half(lonely, name, pairs):
    """What the other half of the first lonely picture shares with it, and where it should be."""
    if not lonely:
        return "", pairs[0][1].path.parent
    first = lonely[0]
    beside = (other.path.parent for one, other in pairs if one.folder == first.folder)
    common = name(first)
    return common[2] if common else first.stem, next(beside, pairs[0][1].path.parent)


def list_folder(path):
    """Return what a folder holds, in a line."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in itertools.islice(
        path.iterdir(), 1000))  # fmt: skip
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "") if names else "nothing"
