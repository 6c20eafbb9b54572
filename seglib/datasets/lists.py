"""Which pairs text files list for which split."""

import re
import warnings

from seglib.datasets.files import SPLIT_NAMES, normalize

LISTS = {**SPLIT_NAMES, "train": (*SPLIT_NAMES["train"], "trainval", "train_val")}


def read_lists(path, others, pairs):
    """Sort pairs by the lists that come with them, such as `ImageSets/Segmentation/train.txt`.

    A line is a name or a path, with or without an extension, of as many folders as tell it
    apart; what follows it, such as its mask, does not count. Without a list for training, that is
    what no other list names.

    Args:
        path: path of the data set's folder.
        others: list of paths of files in it that are no pictures.
        pairs: list of `(image, mask)`, Pictures.

    Returns:
        dict split -> list of `(image path, mask path)`; empty without lists.
    """
    places = _index_endings(path, pairs)
    found, taken = {}, set()
    for split, names in LISTS.items():
        files = [f for f in others if f.suffix.lower() == ".txt" and f.stem.lower() in names]
        files.sort(key=lambda file: (names.index(file.stem.lower()), _is_other_list(file), file))
        if not files:
            continue
        lines = filter(None, map(str.strip, files[0].read_text("utf-8-sig", "replace").split("\n")))
        listed = [_find_listed(line, places) for line in lines]
        chosen = {pair for pair in listed if pair is not None}
        _warn_of_list(files[0], listed.count(None), len(chosen & taken))
        found[split] = sorted(chosen - taken)
        taken |= chosen
    found = {split: chosen for split, chosen in found.items() if chosen}
    if found and "train" not in found:
        every = {(image.path, mask.path) for image, mask in pairs}
        found["train"] = sorted(every - taken)
    return found


def _is_other_list(file):
    return "segmentation" not in str(file).lower(), len(file.parts)


def _warn_of_list(file, missing, twice):
    if missing:
        warnings.warn(f"{file} lists {missing} pictures without a pair; they are left out",
                      stacklevel=6)  # fmt: skip
    if twice:
        warnings.warn(f"{file} lists {twice} pictures that another split has; they stay there",
                      stacklevel=6)  # fmt: skip


def _index_endings(path, pairs):
    """`{end of a path: pair}`; None where several paths end alike."""
    places = {}
    for image, mask in pairs:
        parts = normalize(image.path.relative_to(path).with_suffix("").as_posix()).split("/")
        for i in range(len(parts)):
            ending, pair = "/".join(parts[i:]), (image.path, mask.path)
            places[ending] = pair if ending not in places else None
    return places


def _find_listed(line, places):
    """The pair in a line: all of it, or its first word; a path, with an extension or not."""
    for name in (line, re.split(r"[\s,;]", line)[0]):
        name = normalize(name).replace("\\", "/")
        for path in (name, name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name):
            parts = path.split("/")
            endings = ("/".join(parts[i:]) for i in range(len(parts)))
            found = next((ending for ending in endings if ending in places), None)
            if places.get(found) is not None:
                return places[found]
    return None
