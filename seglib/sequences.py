"""Frames of one drive, and pictures that are there twice, found by names and by looks."""

import collections
import concurrent.futures
import contextlib
import os
import re

import numpy as np
from PIL import Image, ImageOps

from seglib.images import convert_to_rgb, open_picture
from seglib.progress import show_progress

SIDE = 32  # of a thumbnail, whatever the shape of the picture
# Neighbours against random pairs, of the data set times of the prefix. CamVid's drives score
# 0.09, 0.12 and 0.22, the embedded scenes 1.0 (0.6 at the least where 6 of them share a prefix).
SEQUENCE_RATIO = 0.35
RANDOM_PAIRS = 4096
MIN_CONTRAST = 4  # grey levels, standard deviation: flatter pictures all look alike
# JPEG at quality 10, noise and a third of the size change at most 27 bits of 256, and no cell by
# more than 0.3 of the contrast; CamVid's frames 1/15 s apart change one by 0.32 or more.
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
    return (match[1].rstrip(" _-.("), int(match[2])) if match else (name, None)


def read_thumbnail(path):
    """Read a photograph, upright, as a small grey square.

    Returns:
        uint8 array `(32, 32)`.

    Raises:
        DatasetError: the picture cannot be read.
    """
    if open_picture(path, decode=False).format == "JPEG":
        with contextlib.suppress(Exception), Image.open(path) as picture:
            picture.draft("L", (4 * SIDE, 4 * SIDE))  # decoded small: four times as fast
            return _shrink(ImageOps.exif_transpose(picture))
    return _shrink(convert_to_rgb(open_picture(path, upright=True), path))


def read_thumbnails(paths, *, workers=None):
    """Read the thumbnails of many photographs; see `read_thumbnail`.

    Args:
        paths: sequence of paths.
        workers: int or None, threads.

    Returns:
        uint8 array `(n, 32, 32)`.
    """
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        found = pool.map(read_thumbnail, paths)
        bar = show_progress(found, total=len(paths), desc="looking at pictures", unit="picture")
        return np.array(list(bar), np.uint8).reshape(-1, SIDE, SIDE)


def hash_thumbnails(thumbnails):
    """Return what changes little with compression, brightness and size: where it gets lighter.

    Args:
        thumbnails: uint8 array `(n, 32, 32)`.

    Returns:
        uint64 array `(n, 4)`: a bit for each of 16×16 cells, set where the cell to the right
        (in the last column, the first one) is lighter by more than a grey level.
    """
    cells = _pool(thumbnails, SIDE // 16)
    lighter = np.roll(cells, -1, axis=2) > cells + 1
    return np.packbits(lighter.reshape(len(cells), -1), axis=1).view(np.uint64)


def find_near_duplicates(hashes, thumbnails):
    """Find pictures that are the same but for compression, size and a little brightness.

    Hashes propose pairs, thumbnails confirm them: nowhere may they differ by more than 0.3 of
    their contrast. Flat pictures are passed over.

    Args:
        hashes: uint64 array `(n, 4)`, of `hash_thumbnails`.
        thumbnails: uint8 array `(n, 32, 32)`.

    Returns:
        int array `(pairs, 2)`, the smaller index first, in order. Of many copies of one picture
        each is paired with the first, not with all others.
    """
    means, contrast = _measure(thumbnails)
    coarse = _pool(thumbnails, 8).reshape(-1, 16) - means[:, None]  # tells most pairs apart
    coarse = np.ascontiguousarray((coarse / np.maximum(contrast, MIN_CONTRAST)[:, None]).T)
    columns, vivid = np.ascontiguousarray(hashes.T), contrast >= MIN_CONTRAST
    firsts, pairs = vivid.copy(), set()
    for i in np.flatnonzero(vivid).tolist():
        if not firsts[i]:
            continue  # a copy of an earlier one
        bits = sum(np.bitwise_count(column ^ column[i]).astype(np.uint16) for column in columns)
        near = np.flatnonzero((bits <= MAX_BITS) & vivid)
        near = near[near != i]
        limit = MAX_CHANGE + MAX_STEP / contrast[i]
        copies = _confirm(near, i, coarse, thumbnails, limit).tolist()
        firsts[copies] = False
        pairs.update((min(i, j), max(i, j)) for j in copies)
    return np.array(sorted(pairs), int).reshape(-1, 2)


def find_sequences(names, thumbnails):
    """Find frames that were taken one after the other, such as those of a drive.

    What a name says before its number is a sequence where neighbours look clearly more alike
    than random pairs, both of the whole data set and of that sequence. So pictures numbered
    through, or a folder of similar places, are none; nor can a single camera that stands still
    be told from independent pictures.

    Args:
        names: sequence of n str, of all splits together.
        thumbnails: uint8 array `(n, 32, 32)`.

    Returns:
        list of n str: the sequence's name, or for other pictures a name that occurs once.
    """
    looks, groups = _normalize(_pool(thumbnails, 4)), collections.defaultdict(list)
    # What all names end in, as Cityscapes' in leftImg8bit, tells nothing.
    tail = os.path.commonprefix([name[::-1] for name in names])[::-1].lstrip("0123456789")
    for i, name in enumerate(names):
        prefix, number = name_sequence(name.removesuffix(tail))
        if number is not None:
            groups[prefix].append((number, i))
    anywhere = _typical_distance(looks, np.arange(len(names)))
    found = {
        prefix: [i for _, i in sorted(members)]
        for prefix, members in groups.items()
        if _is_sequence(looks, np.array([i for _, i in sorted(members)]), anywhere)
    }
    return _label(names, found)


def _confirm(near, i, coarse, thumbnails, limit):
    """Those of the pictures `near` that nowhere differ from picture `i` by more than `limit`."""
    for cells in coarse:
        if not len(near):
            return near
        near = near[np.abs(cells[near] - cells[i]) <= limit]
    change = np.abs(_normalize(thumbnails[near]) - _normalize(thumbnails[i : i + 1]))
    return near[change.max(axis=(1, 2)) <= limit]


def _is_sequence(looks, members, anywhere):
    if len(members) < 2:
        return False
    near = np.median(_distance(looks, members[1:], members[:-1]))
    within = _typical_distance(looks, members) if len(members) > 2 else near
    return bool(near**2 <= SEQUENCE_RATIO * anywhere * within and anywhere > 0)


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
    first, second = np.random.default_rng(0).integers(0, len(members), (2, RANDOM_PAIRS))
    first, second = first[first != second], second[first != second]
    return np.median(_distance(looks, members[first], members[second])) if len(first) else 0.0


def _distance(looks, first, second):
    return np.abs(looks[first] - looks[second]).mean(axis=(1, 2))


def _shrink(picture):
    return np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _pool(thumbnails, factor):
    side = SIDE // factor
    return thumbnails.reshape(-1, side, factor, side, factor).mean(axis=(2, 4), dtype=np.float32)


def _measure(thumbnails):
    """Mean and standard deviation of each thumbnail."""
    rows = [(row.mean(), row.std()) for row in thumbnails]
    return np.array(rows, np.float32).reshape(-1, 2).T


def _normalize(pictures):
    """Mean 0 and contrast 1, so that brightness does not count."""
    pictures = pictures.astype(np.float32)
    pictures -= pictures.mean(axis=(1, 2), keepdims=True)
    return pictures / np.maximum(pictures.std(axis=(1, 2), keepdims=True), MIN_CONTRAST)
