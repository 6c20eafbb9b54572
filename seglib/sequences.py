"""Frames of one drive, and pictures that are there twice, found by names and by looks."""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import re

import numpy as np
from PIL import Image, ImageOps

from seglib.images import ORIENTATION, convert_to_rgb, open_picture
from seglib.system import show_progress

SIDE = 32  # of a thumbnail, whatever the shape of the picture
# Neighbours against random pairs, of the data set times of the prefix: CamVid's drives give 0.09,
# 0.12 and 0.21, the embedded scenes 1.0, and less than 0.35 in 2 of 1000 groups of four.
SEQUENCE_RATIO = 0.35
RANDOM_PAIRS = 4096
MIN_CONTRAST = 4  # grey levels, standard deviation: flatter pictures all look alike
# JPEG at quality 10, noise and a third of the size turn at most 27 bits of 256, and change no cell
# by more than 0.25 of the contrast and 3 grey levels; CamVid's frames 1/15 s apart change by more.
MAX_BITS, MAX_CHANGE, MAX_STEP = 36, 0.25, 3


def name_sequence(name):
    """Split a name into that of its sequence and its number in it: the last run of digits.

    Args:
        name: str, a file's name without extension.

    Returns:
        `(prefix, number)`; number is None where there is no digit.

    Example:
        >>> name_sequence("0001TP_006690"), name_sequence("Seq05VD_f00000"), name_sequence("cat")
        (('0001TP', 6690), ('Seq05VD_f', 0), ('cat', None))
    """
    match = re.fullmatch(r"(.*?)(\d+)\D*", name, re.DOTALL)
    return (match[1].rstrip(" _-.(/"), int(match[2])) if match else (name, None)


def name_pictures(paths):
    """Return a name for each file: without extension, with its folders below what all share."""
    paths = [pathlib.Path(path) for path in paths]
    if not paths:
        return []
    shared = len(pathlib.Path(os.path.commonpath([path.parent for path in paths])).parts)
    return [pathlib.Path(*path.parts[shared:-1], path.stem).as_posix() for path in paths]


def drop_shared_ending(names):
    """Return names without what all end in, such as Cityscapes' leftImg8bit: it numbers nothing.

    Example:
        >>> drop_shared_ending(["aachen_000000_leftImg8bit", "aachen_000010_leftImg8bit"])
        ['aachen_000000', 'aachen_000010']
    """
    ending = os.path.commonprefix([name[::-1] for name in names])[::-1]  # noqa: RUF071
    return [name.removesuffix(ending.lstrip("0123456789")) for name in names]


def look_at_photograph(path):
    """Read a photograph as a small grey square, and what its file says of it.

    Args:
        path: str or path.

    Returns:
        `(thumbnail, size, turned)`: uint8 array `(32, 32)`; `(height, width)` of the photograph,
        upright; bool, whether its EXIF data turned or mirrored it.

    Raises:
        DatasetError: the picture cannot be read.
    """
    head = open_picture(path, decode=False)
    if head.format == "JPEG":
        with contextlib.suppress(Exception), Image.open(path) as picture:
            picture.draft("L", (4 * SIDE, 4 * SIDE))  # decoded small: four times as fast
            return _look(picture, head, path)
    return _look(open_picture(path), head, path)


def read_thumbnails(paths, *, workers=None):
    """Read photographs as small grey squares.

    Args:
        paths: sequence of n paths.
        workers: int or None, threads.

    Returns:
        uint8 array `(n, 32, 32)`.

    Raises:
        DatasetError: a picture cannot be read.
    """
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        found = pool.map(look_at_photograph, paths)
        bar = show_progress(found, total=len(paths), desc="looking at pictures", unit="picture")
        return np.array([look[0] for look in bar], np.uint8).reshape(-1, SIDE, SIDE)


def hash_thumbnails(thumbnails):
    """Return what compression, brightness and size hardly change: where pictures get lighter.

    Args:
        thumbnails: uint8 array `(n, 32, 32)`.

    Returns:
        uint64 array `(n, 4)`: a bit for each of 16×16 cells, set where the cell to the right
        (of the last column, the first one) is lighter by more than a grey level.
    """
    cells = _pool(thumbnails, SIDE // 16)
    lighter = np.roll(cells, -1, axis=2) > cells + 1
    return np.packbits(lighter.reshape(len(cells), 256), axis=1).view(np.uint64)


def find_near_duplicates(hashes, thumbnails):
    """Find pictures that are the same but for compression, size and a little brightness.

    Hashes propose pairs, thumbnails confirm them: nowhere may they differ by more than a quarter
    of their contrast and 3 grey levels. Flat pictures are passed over.

    Args:
        hashes: uint64 array `(n, 4)`, of `hash_thumbnails`.
        thumbnails: uint8 array `(n, 32, 32)`.

    Returns:
        int array `(pairs, 2)`, the smaller index first, in order. Of many copies of one picture
        each is paired with the first, not with all others.
    """
    means, contrast = _measure(thumbnails)
    cells = (_pool(thumbnails, 8).reshape(-1, 16) - means[:, None]) / contrast[:, None]
    cells, columns = np.ascontiguousarray(cells.T), np.ascontiguousarray(hashes.T)
    vivid, pairs = contrast > MIN_CONTRAST, set()
    firsts = vivid.copy()
    for i in np.flatnonzero(vivid).tolist():
        if not firsts[i]:
            continue  # a copy of an earlier one
        limit = MAX_CHANGE + MAX_STEP / contrast[i]
        bits = sum(np.bitwise_count(column ^ column[i]).astype(np.uint16) for column in columns)
        near = np.flatnonzero(vivid & (bits <= MAX_BITS))
        near = _keep_alike(near[near != i], i, cells, limit)
        if len(near):
            change = np.abs(_normalize(thumbnails[near]) - _normalize(thumbnails[i : i + 1]))
            copies = near[change.max(axis=(1, 2)) <= limit].tolist()
            firsts[copies] = False
            pairs.update((min(i, j), max(i, j)) for j in copies)
    return np.array(sorted(pairs), int).reshape(-1, 2)


def find_sequences(names, thumbnails):
    """Find frames that were taken one after the other, such as those of a drive.

    What names say before their number is a sequence where neighbours look clearly more alike
    than random pairs, both of the data set and of that sequence. So pictures that are numbered
    through, or a series of similar places, are none; nor can a data set of one camera that
    stands still be told from independent pictures.

    Args:
        names: sequence of n str, of all splits together; where file names alone are no
            sequence, the folders in them, before a `/`, are taken for its name.
        thumbnails: uint8 array `(n, 32, 32)`.

    Returns:
        list of n str: the sequence's name, or for other pictures a name that occurs once.
    """
    looks, found = _normalize(_pool(thumbnails, 4)), {}
    full = drop_shared_ending(names)
    anywhere = _typical_distance(looks, np.arange(len(names)))
    for named in ([name.rsplit("/", 1)[-1] for name in full], full):
        taken = {i for members in found.values() for i in members}
        for prefix, members in _group(named).items():
            if not taken & set(members) and _is_sequence(looks, members, anywhere):
                found[prefix or "numbers"] = members
    return _label(names, found)


def find_groups(paths, *, workers=None):
    """Tell which photographs belong together: a sequence's frames, and near-duplicates.

    Args:
        paths: sequence of n paths.
        workers: int or None, threads.

    Returns:
        list of n str, equal for those that belong together.
    """
    thumbnails = read_thumbnails(paths, workers=workers)
    labels = find_sequences(name_pictures(paths), thumbnails)
    joined = {label: label for label in labels}

    def find(label):
        while joined[label] != label:
            label = joined[label]
        return label

    for i, j in find_near_duplicates(hash_thumbnails(thumbnails), thumbnails):
        joined[find(labels[j])] = find(labels[i])
    return [find(label) for label in labels]


def _keep_alike(near, i, cells, limit):
    """Those of the pictures `near` none of whose coarse cells differs from that of picture `i`."""
    for k in np.argsort(-np.abs(cells[:, i])):  # what stands out tells most pairs apart
        if not len(near):
            break
        near = near[np.abs(cells[k].take(near) - cells[k, i]) <= limit]
    return near


def _group(names):
    """dict prefix -> indices in the order of their numbers."""
    groups = collections.defaultdict(list)
    for i, name in enumerate(names):
        prefix, number = name_sequence(name)
        if number is not None:
            groups[prefix].append((number, i))
    return {prefix: [i for _, i in sorted(members)] for prefix, members in groups.items()}


def _is_sequence(looks, members, anywhere):
    if len(members) < 2 or not anywhere:
        return False
    members = np.array(members)
    near = np.median(_distance(looks, members[1:], members[:-1]))
    within = _typical_distance(looks, members)
    return bool(near**2 <= SEQUENCE_RATIO * anywhere * within)


def _label(names, sequences):
    sequence_of = {i: prefix for prefix, members in sequences.items() for i in members}
    labels, taken = [], set(sequences)
    for i, name in enumerate(names):
        label = sequence_of.get(i, name if name not in taken else f"{name} ({i})")
        labels.append(label)
        taken.add(label)
    return labels


def _typical_distance(looks, members):
    """Median over random pairs, the same ones every time."""
    first, second = np.random.default_rng(0).integers(0, max(len(members), 1), (2, RANDOM_PAIRS))
    first, second = first[first != second], second[first != second]
    return np.median(_distance(looks, members[first], members[second])) if len(first) else 0.0


def _distance(looks, first, second):
    return np.abs(looks[first] - looks[second]).mean(axis=(1, 2))


def _look(picture, head, path):
    orientation = picture.getexif().get(ORIENTATION, 1)
    turned = max(orientation, getattr(head, "tag_v2", {}).get(ORIENTATION, 1)) > 1  # TIFF's
    grey = convert_to_rgb(ImageOps.exif_transpose(picture), path).convert("L")
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return thumbnail, head.size if orientation > 4 else head.size[::-1], turned


def _pool(thumbnails, factor):
    side = SIDE // factor
    return thumbnails.reshape(-1, side, factor, side, factor).mean(axis=(2, 4), dtype=np.float32)


def _measure(thumbnails):
    """Mean and contrast of each thumbnail."""
    rows = [(row.mean(), max(row.std(), MIN_CONTRAST)) for row in thumbnails]
    return np.array(rows, np.float32).reshape(-1, 2).T


def _normalize(pictures):
    """Mean 0 and contrast 1, so that brightness does not count."""
    pictures = pictures.astype(np.float32)
    pictures -= pictures.mean(axis=(1, 2), keepdims=True)
    return pictures / np.maximum(pictures.std(axis=(1, 2), keepdims=True), MIN_CONTRAST)
