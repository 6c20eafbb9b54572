"""Which pair is for training, validation and test: what belongs together, dealt out and kept.

Frames of one drive and copies of one picture belong together; names and looks tell.
"""

import collections
import concurrent.futures
import contextlib
import csv
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from seglib import images
from seglib.images import RGB, DatasetError, Pixels, convert_to_rgb, open_picture
from seglib.system import replacing, show_progress

WORDS = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
}
NAMES = tuple(WORDS)
SPLIT_OF_WORD = {word: split for split, words in WORDS.items() for word in words}
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_OF_WORD)})(?![a-z])", re.IGNORECASE)
COLUMNS = ["split", "image", "mask"]
TRIES, MAX_DEALT = 100, 10_000  # orders in which groups are dealt out; groups in all of them
SIDE = 32  # of a thumbnail, whatever the shape of the picture
# Neighbours against random pairs, of the data set times of the prefix: CamVid's drives give 0.09,
# 0.12 and 0.21, the embedded scenes 1.0, and less than 0.35 in 2 of 1000 groups of four.
SEQUENCE_RATIO = 0.35
RANDOM_PAIRS = 4096
MIN_CONTRAST = 4  # grey levels, standard deviation: flatter pictures all look alike
# JPEG at quality 10, noise and a third of the size change no cell by more than 0.25 of the contrast
# and 3 grey levels; CamVid's frames 1/15 s apart change by more.
MAX_CHANGE, MAX_STEP = 0.25, 3
BLOCK = 512  # pictures that are compared with all others at once


def find_split(text: str) -> str | None:
    """Return the split whose name is the last in a text; None where there is none."""
    *_, last = (None, *SPLIT_WORD.findall(text))
    return last and SPLIT_OF_WORD[last.lower()]


def natural_key(text: str) -> list:
    """Return a key by which 10 comes after 9."""
    return [(not p.isdigit(), int(p) if p.isdigit() else p) for p in re.split(r"(\d+)", text)]


def deal_out(
    groups: int | Sequence, *, fractions: Sequence = (0.7, 0.15, 0.15), seed: int = 0, presence=None
) -> dict:
    """Deal items out: a dict of three ascending lists of item numbers, the same on every machine.

    `groups`, each item's group or the number of single items, stay unbroken. `presence`, `(items,
    classes)`, is how much of each class an item holds. Many deals are tried, rarest class first
    (Sechidis et al. 2011, "On the Stratification of Multi-Label Data", section 3); the best one has
    most classes in every split, then shares near the fractions.
    """
    fractions = np.asarray(fractions, float)
    if fractions.shape != (3,) or (fractions < 0).any() or not np.isclose(fractions.sum(), 1):
        raise ValueError(f"expected three fractions that add up to 1, received {fractions}")
    numbers, splits, alone = {}, np.count_nonzero(fractions), isinstance(groups, int)
    groups = range(groups) if alone else groups
    groups = np.array([numbers.setdefault(group, len(numbers)) for group in groups], int)
    if not alone and len(numbers) < splits:
        raise ValueError(
            f"{len(numbers)} groups cannot be dealt out to {splits} splits: make finer groups, or "
            "fractions of 0, such as fractions=(0.8, 0.2, 0)"
        )
    random = np.random.default_rng(seed)
    if presence is None and len(numbers) == len(groups):
        _, val, test = _target_sizes(len(groups), fractions)
        parts = np.split(random.permutation(len(groups)), (test, test + val))
        return {name: sorted(part.tolist()) for name, part in zip(NAMES, parts[::-1], strict=True)}
    amounts = np.zeros((len(numbers), 1 if presence is None else 1 + presence.shape[1]))
    np.add.at(amounts, groups, 1 if presence is None else np.insert(presence, 0, 1, axis=1))
    amounts = amounts[:, amounts.any(axis=0)]
    tries = max(1, min(TRIES, MAX_DEALT // len(amounts)))
    deals = [_deal_groups(amounts, fractions, random) for _ in range(tries)]
    chosen = min(deals, key=lambda deal: _score_deal(deal, amounts, fractions))[groups]
    return {name: np.flatnonzero(chosen == k).tolist() for k, name in enumerate(NAMES)}


def deal_folds(groups: int | Sequence, count: int, *, seed: int, presence=None) -> list:
    """Deal items out to folds: a list of arrays of item numbers; arguments are as of `deal_out`."""
    groups = range(groups) if isinstance(groups, int) else groups
    if not 1 < count <= len(set(groups)):
        raise ValueError(
            f"{len(set(groups))} groups cannot be dealt out to {count} folds: expected two "
            'folds or more and a group for each; make finer groups, or pass by="random"'
        )
    left, folds = np.arange(len(groups)), []
    for number in range(count, 0, -1):
        own, shares = [groups[i] for i in left], (1 - 1 / number, 1 / number, 0)
        some = None if presence is None else presence[left]
        dealt = deal_out(own, fractions=shares, seed=seed, presence=some)["val"]
        most = len(set(own)) - (number - 1)  # groups: each other fold needs one
        largest = dict(collections.Counter(own[i] for i in dealt).most_common(most))
        folds.append(left[[i for i in dealt if own[i] in largest]])
        left = np.setdiff1d(left, folds[-1])
    return folds


def _target_sizes(count, fractions):
    """Items for each split; rounding favours train, unless it would get none."""
    held_out = [max(round(f * count), int(f > 0 and count >= 3)) for f in fractions[1:]]
    while fractions[0] > 0 and count >= 3 and sum(held_out) >= count:
        held_out[held_out.index(max(held_out))] -= 1
    return [max(0, count - sum(held_out)), *held_out]


def _deal_groups(amounts, fractions, random):
    """Split of each group; of `amounts`, `(groups, 1 + classes)`, column 0 counts its items."""
    splits = random.permutation(np.flatnonzero(fractions))  # of equally good ones the last counts
    wanted = fractions[splits, None] * amounts.sum(axis=0)
    wanted[:, 0] = np.take(_target_sizes(int(amounts[:, 0].sum()), fractions), splits)
    held, chosen = np.zeros_like(wanted), np.full(len(amounts), -1)
    order, undealt = random.permutation(len(amounts)), len(amounts)
    exactness = random.random()  # how strictly the largest groups come first
    for column in np.argsort((amounts > 0).sum(axis=0), kind="stable"):  # the rarest class first
        mine = order[(chosen[order] < 0) & (amounts[order, column] > 0)]
        sizes = amounts[mine, column] * random.uniform(exactness, 1, len(mine))
        for left, group in zip(range(len(mine), 0, -1), mine[np.argsort(-sizes)], strict=True):
            choice = range(len(splits))
            for need, groups_left in ((column, left), (0, undealt)):
                without = [k for k in choice if not held[k, need]]
                choice = without if groups_left <= len(without) else choice  # each needs one
            lacking = wanted - held
            best = max((lacking[k, 0] >= amounts[group, 0], lacking[k, column], k) for k in choice)
            chosen[group] = best[-1]
            held[best[-1]] += amounts[group]
            undealt -= 1
    return splits[chosen]


def _score_deal(chosen, amounts, fractions):
    """Classes missing in a split, in train twice; then how far shares are from the fractions."""
    used = fractions > 0
    shares = np.stack([amounts[chosen == k].sum(axis=0) for k in range(3)]) / amounts.sum(axis=0)
    missing = (shares[used] == 0).sum() + (shares[0] == 0).sum() * used[0]
    off = np.abs(shares - fractions[:, None]).mean(axis=0)
    return missing, round(off[0] + off[1:].mean() if len(off) > 1 else off[0], 9)


def write_splits(path: str | os.PathLike, pairs_by_split: dict, root: str | os.PathLike) -> None:
    """Write which pair is in which split: a CSV file of paths that start from the folder `root`."""
    rows = [COLUMNS]
    for split, pairs in pairs_by_split.items():
        for pair in pairs:
            relative = [pathlib.Path(os.path.relpath(part, root)).as_posix() for part in pair]
            rows.append([split, *relative])
    has_return = any("\r" in cell for row in rows for cell in row)  # csv does not quote those
    quoting = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file, lineterminator="\n", quoting=quoting).writerows(rows)


def read_splits(path: str | os.PathLike, root: str | os.PathLike, annotations=()) -> dict:
    """Read the table that `write_splits` made: `{split: [(image path, mask path), …]}`.

    `annotations` are Annotations that stand for masks, such as `train.csv/0001.jpg`.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no splits at {path}: Dataset.write_splits makes such a file")
    pairs, lines = {name: [] for name in NAMES}, {}
    drawn = {os.path.normpath(annotation.image): annotation for annotation in annotations}
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file)
        for row in filter(None, reader):
            if row == COLUMNS:
                continue
            place = f"{path}, line {reader.line_num}"
            if len(row) != 3 or row[0] not in NAMES:
                wanted = f"{','.join(COLUMNS)} with one of {', '.join(NAMES)}"
                raise DatasetError(f"{place}: expected {wanted}, received {','.join(row)}")
            pair = tuple(pathlib.Path(root, part) for part in row[1:])
            missing = [half for half in pair if not os.path.isfile(images.find_file(half)[0])]
            annotation = drawn.get(os.path.normpath(pair[0]))
            if annotation and missing == [pair[1]]:
                pair = pair[0], annotation
            elif missing:
                raise DatasetError(f"{place}: there is no file {missing[0]}: copy it there")
            first = lines.setdefault(pair[0], reader.line_num)
            if first != reader.line_num:
                raise DatasetError(f"{place}: {pair[0]} is in line {first} already: remove one")
            pairs[row[0]].append(pair)
    return pairs


def find_groups(paths: Sequence, pixels: Pixels = RGB) -> list:
    """Return a name for each photograph, equal for frames of a sequence and near-duplicates."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        looks = pool.map(lambda path: look_at_photograph(path, pixels), paths)
        bar = show_progress(looks, total=len(paths), desc="looking at pictures", unit="picture")
        thumbnails = np.array([look[0] for look in bar], np.uint8).reshape(-1, SIDE, SIDE)
    names, groups = np.unique(find_sequences(name_pictures(paths), thumbnails), return_inverse=True)
    for i, j in find_near_duplicates(thumbnails):
        groups[groups == groups[j]] = groups[i]
    return names[groups].tolist()


def find_near_duplicates(thumbnails: np.ndarray) -> np.ndarray:
    """Find pictures that are the same but for compression, size and a little brightness.

    `thumbnails`, uint8 `(n, 32, 32)`, are those of `look_at_photograph`. Returns int `(pairs, 2)`,
    sorted; each copy of a picture is paired with the first one only. Flat pictures are skipped.
    """
    contrast = thumbnails.reshape(-1, SIDE * SIDE).std(axis=1)
    vivid = np.flatnonzero(contrast > MIN_CONTRAST)
    limits = MAX_CHANGE + MAX_STEP / contrast[vivid]
    looks = _normalize(thumbnails[vivid]).reshape(len(vivid), SIDE * SIDE)
    pairs, copies = [], set()
    for start in range(0, len(vivid), BLOCK):
        block = slice(start, start + BLOCK)
        # Where no pixel differs by more than the limit, the root mean square does not either.
        squares = 2 * (SIDE**2 - looks[block] @ looks.T)
        near = squares <= 1.001 * SIDE**2 * limits[block, None] ** 2
        for i, row in enumerate(near, start):
            if i in copies:
                continue
            later = i + 1 + np.flatnonzero(row[i + 1 :])
            alike = np.abs(looks[later] - looks[i]).max(axis=1, initial=0) <= limits[i]
            pairs += [(i, j) for j in later[alike].tolist()]
            copies.update(later[alike].tolist())
    return vivid[np.array(sorted(pairs), int).reshape(-1, 2)]


def find_sequences(names: Sequence[str], thumbnails: np.ndarray) -> list:
    """Return the name of each picture's sequence, such as a drive; one of its own for a single one.

    Numbered names with one prefix are a sequence where neighbours look clearly more alike than
    random pairs, of the data set and of that sequence: not where a camera stands still. Folders
    in the names count where file names alone give no sequence.
    """
    looks, sequence_of = _normalize(_pool(thumbnails, 4)), {}
    anywhere = _typical_distance(looks, np.arange(len(names)))
    for named in ([name.rsplit("/", 1)[-1] for name in names], names):
        numbered = collections.defaultdict(list)
        for i, (prefix, number) in enumerate(map(name_sequence, named)):
            if number is not None:
                numbered[prefix].append((number, i))
        for prefix, frames in numbered.items():
            members = np.array([i for _, i in sorted(frames)])
            if sequence_of.keys().isdisjoint(members.tolist()) and len(members) > 1:
                near = np.median(_distance(looks, members[1:], members[:-1]))
                within = _typical_distance(looks, members)
                if near**2 <= SEQUENCE_RATIO * anywhere * within and anywhere:
                    sequence_of |= dict.fromkeys(members.tolist(), prefix or "numbers")
    return [sequence_of.get(i, f"{name} ({i})") for i, name in enumerate(names)]


def name_sequence(name: str) -> tuple:
    """Split a name into that of its sequence and its number in it, the last run of digits."""
    match = re.fullmatch(r"(.*?)(\d+)\D*", name, re.DOTALL)
    return (match[1].rstrip(" _-.(/"), int(match[2])) if match else (name, None)


def name_below_shared(paths: Sequence) -> list:
    """Return names of files: without extension, with their folders below the one that holds all."""
    if not paths:
        return []
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    below = [pathlib.Path(os.path.relpath(path, shared)) for path in paths]
    return [path.with_suffix("").as_posix() for path in below]


def name_pictures(paths: Sequence) -> list:
    """Return names without what all share: folders, and an ending such as leftImg8bit."""
    names = name_below_shared(paths)
    ending = os.path.commonprefix([name[::-1] for name in names])[::-1]  # noqa: RUF071
    return [name.removesuffix(ending.lstrip("0123456789")) for name in names]


def look_at_photograph(path: str | os.PathLike, pixels: Pixels = RGB) -> tuple:
    """Return `(thumbnail, size, turned)`: what a photograph looks like, grey `(32, 32)` of uint8;
    its `(height, width)`, upright; and whether EXIF data turned or mirrored it.
    """
    if pixels != RGB:
        image = images.read_image(path, pixels)
        grey = Image.fromarray(images.show_rgb(image)).convert("L")
        return np.asarray(grey.resize((SIDE, SIDE))), image.shape[:2], False
    picture, head = None, open_picture(path, decode=False)
    if head.format == "JPEG":
        with contextlib.suppress(Exception), Image.open(path, formats=["JPEG"]) as small:
            small.draft("L", (4 * SIDE, 4 * SIDE))  # decoded small: four times as fast
            small.load()
            picture = small
    picture = picture or open_picture(path)
    orientation = images.read_orientation(picture.getexif())
    turned = max(orientation, images.read_orientation(getattr(head, "tag_v2", {}))) > 1  # TIFF's
    grey = convert_to_rgb(ImageOps.exif_transpose(picture), path).convert("L")
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return thumbnail, head.size if orientation > 4 else head.size[::-1], turned


def _typical_distance(looks, members):
    """Median over random pairs, the same ones every time."""
    first, second = np.random.default_rng(0).integers(0, max(len(members), 1), (2, RANDOM_PAIRS))
    first, second = first[first != second], second[first != second]
    return np.median(_distance(looks, members[first], members[second])) if len(first) else 0.0


def _distance(looks, first, second):
    return np.abs(looks[first] - looks[second]).mean(axis=(1, 2))


def _pool(pictures, factor):
    side = SIDE // factor
    return pictures.reshape(-1, side, factor, side, factor).mean(axis=(2, 4), dtype=np.float32)


def _normalize(pictures):
    """Mean 0 and contrast 1, so that brightness does not count."""
    pictures = pictures.astype(np.float32)
    pictures -= pictures.mean(axis=(1, 2), keepdims=True)
    return pictures / np.maximum(pictures.std(axis=(1, 2), keepdims=True), MIN_CONTRAST)
