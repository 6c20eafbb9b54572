"""Which pair is for training, validation and test: dealt out by groups and classes, and kept."""

import csv
import itertools
import math
import os
import pathlib

import numpy as np

from seglib.images import DatasetError

NAMES = ("train", "val", "test")
COLUMNS = ["split", "image", "mask"]
SCALE = 10_000  # all is compared in integers, so that every machine decides alike
MISSING = 10**13  # a class that is not in a split outweighs any deviation
ALL_ASSIGNMENTS = 20_000  # up to this many all are tried: 9 groups in three splits
NEIGHBORS = 50_000  # numbers compared at once when assignments are improved
ROUNDS = 200


def deal_out(count_or_groups, *, fractions=(0.7, 0.15, 0.15), seed=0, presence=None):
    """Deal items out to train, val and test, groups unbroken and classes in every split.

    A group, such as the frames of one drive or the pictures of one patient, goes to one split
    as a whole. With `presence`, as many classes as possible are in every split, a class of too
    few groups rather in train; then the splits' sizes and shares of each class are as near to
    the fractions as a search finds: up to 9 groups all ways are tried, more are dealt out
    rarest class first and improved by moves and swaps.

    Args:
        count_or_groups: int, the number of items; or a sequence of their groups, such as names.
        fractions: three numbers that add up to 1, for train, val and test; 0 for no such split.
        seed: int. The same seed gives the same splits on every machine.
        presence: int or bool array `(n_items, num_classes)`: how much of each class an item
            holds, such as pixels; or None.

    Returns:
        dict of three lists of item numbers, ascending. Of three items or more each split with
        a fraction above 0 gets one.

    Raises:
        ValueError: the fractions do not add up to 1, there are fewer groups than splits, or
            `presence` is not of the items.

    Example:
        >>> deal_out(["a", "a", "b", "b", "c", "c"], fractions=(0.6, 0.2, 0.2))
        {'train': [4, 5], 'val': [0, 1], 'test': [2, 3]}

    References:
        Sechidis et al. 2011, "On the Stratification of Multi-Label Data", section 3 (the rarest
        label first).
    """
    fractions = _check_fractions(fractions)
    groups, sizes = _number_groups(count_or_groups)
    targets = _target_sizes(len(groups), fractions)
    random = np.random.default_rng(seed)
    if presence is None and (sizes == 1).all():
        if not isinstance(count_or_groups, int | np.integer):
            _check_groups(len(sizes), fractions)
        test, val, _ = np.split(random.permutation(len(groups)), np.cumsum(targets[:0:-1]))
        chosen = np.zeros(len(groups), int)
        chosen[val], chosen[test] = 1, 2
    else:
        _check_groups(len(sizes), fractions)
        vectors = _count_by_group(groups, sizes, presence)
        chosen = _deal_groups(vectors, fractions, targets, random)[groups]
    return {name: np.flatnonzero(chosen == k).tolist() for k, name in enumerate(NAMES)}


def write_splits(path, pairs_by_split, root):
    """Write which pair is in which split, as a table that is read on any machine.

    Args:
        path: str or path of a CSV file `split,image,mask`.
        pairs_by_split: dict split -> sequence of `(image path, mask path)`.
        root: str or path of the folder that the table's paths start from.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for split, pairs in pairs_by_split.items():
            for pair in pairs:
                relative = [pathlib.Path(os.path.relpath(part, root)).as_posix() for part in pair]
                writer.writerow([split, *relative])
    os.replace(temporary, path)


def read_splits(path, root):
    """Read which pair is in which split.

    Args:
        path: str or path of a table that `write_splits` made.
        root: str or path of the folder that its paths start from.

    Returns:
        dict split -> list of `(image path, mask path)`; all three splits.

    Raises:
        FileNotFoundError: there is no such table.
        DatasetError: the table has other columns, an unknown split, a file that is missing, or
            a picture twice; the message names the line.
    """
    pairs, places = {name: [] for name in NAMES}, {}
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no splits at {path}: Dataset.write_splits makes such a file")
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file)
        columns = next(reader, [])
        if columns != COLUMNS:
            raise DatasetError(
                f"{path}, line 1: expected the columns {','.join(COLUMNS)}, received "
                f"{','.join(columns)}"
            )
        for row in filter(None, reader):
            place = f"{path}, line {reader.line_num}"
            if len(row) != 3 or row[0] not in NAMES:
                raise DatasetError(
                    f"{place}: expected one of {', '.join(NAMES)}, an image and a mask, received "
                    f"{','.join(row)}"
                )
            pair = tuple(pathlib.Path(root, part) for part in row[1:])
            _check_pair(pair, row[0], place, places)
            pairs[row[0]].append(pair)
    return pairs


def _check_pair(pair, split, place, places):
    for file in pair:
        if not file.is_file():
            raise DatasetError(
                f"{place}: there is no file {file}: copy it there, remove the line, or give the "
                "folder that the table's paths start from"
            )
        before = places.setdefault(file, (split, place))
        if before[1] != place and (before[0] != split or file == pair[0]):
            raise DatasetError(
                f"{place}: {file} is in {split}, and already in {before[0]} in line "
                f"{before[1].rsplit(' ', 1)[1]}: remove one of the lines"
            )


def _check_fractions(fractions):
    fractions = np.asarray(fractions, float)
    if fractions.shape != (3,) or (fractions < 0).any() or not np.isclose(fractions.sum(), 1):
        raise ValueError(f"expected three fractions that add up to 1, received {fractions}")
    return fractions


def _check_groups(count, fractions):
    splits = int((fractions > 0).sum())
    if count < splits:
        raise ValueError(
            f"{count} groups cannot be dealt out to {splits} splits: make the groups finer, or "
            "give a fraction of 0 to a split that may be empty, such as fractions=(0.8, 0.2, 0)"
        )


def _number_groups(count_or_groups):
    """`(group of each item, size of each group)`; groups are numbered as they come."""
    if isinstance(count_or_groups, int | np.integer):
        return np.arange(count_or_groups), np.ones(count_or_groups, np.int64)
    numbers = {}
    groups = np.array([numbers.setdefault(name, len(numbers)) for name in count_or_groups], int)
    return groups, np.bincount(groups)


def _target_sizes(count, fractions):
    """Items for each split; rounding favours train, unless it would get none."""
    held_out = [max(round(f * count), int(f > 0 and count >= 3)) for f in fractions[1:]]
    while fractions[0] > 0 and count >= 3 and sum(held_out) >= count:
        held_out[held_out.index(max(held_out))] -= 1
    return np.array([max(0, count - sum(held_out)), *held_out])


def _count_by_group(groups, sizes, presence):
    """Int array `(groups, 1 + classes)`: a group's items and how much of each class it holds."""
    if presence is None:
        return sizes[:, None].astype(np.int64)
    presence = np.asarray(presence)
    if presence.ndim != 2 or len(presence) != len(groups) or presence.dtype.kind not in "iub":
        raise ValueError(
            f"expected presence as whole numbers ({len(groups)} items, classes), received "
            f"{presence.dtype} {presence.shape}: count_pixels returns it"
        )
    amounts = np.zeros((len(sizes), presence.shape[1]), np.int64)
    np.add.at(amounts, groups, presence)
    amounts = amounts[:, amounts.any(axis=0)]
    largest = 10**12  # above it products would not fit 64 bits
    amounts = -(-amounts // (1 + amounts.sum(axis=0) // largest))
    return np.column_stack([sizes, amounts])


def _deal_groups(vectors, fractions, targets, random):
    """Split of each group."""
    splits = np.flatnonzero(fractions > 0).tolist()
    loss = _Loss(vectors, fractions)
    if len(splits) ** len(vectors) <= ALL_ASSIGNMENTS:
        return _try_all(vectors, splits, loss, random)
    chosen = _deal_rarest_first(vectors, splits, loss, targets, random)
    return _improve(chosen, vectors, splits, loss, random)


class _Loss:
    """How far one split is from what it should hold; an assignment's loss is the sum of three.

    Missing classes come first; among the rest the items weigh as much as all classes together.
    Groups of equal size can meet the target sizes, and so have to.
    """

    def __init__(self, vectors, fractions):
        self.shares = [round(SCALE * float(fraction)) for fraction in fractions]
        self.totals = vectors.sum(axis=0)
        columns = vectors.shape[1]
        equal = (vectors[:, 0] == vectors[0, 0]).all()
        self.weights = np.array([columns * (1000 if equal else 1), *[1] * (columns - 1)])
        self.missing = MISSING * np.array([4 * columns, *[1] * (columns - 1)])  # none may be empty

    def __call__(self, split, held):
        """Loss of a split that holds this much of each column: int array `(..., columns)`."""
        off = np.abs(SCALE * held - self.shares[split] * self.totals) * 100 // self.totals
        missing = (held == 0) * (self.missing * (2 if split == 0 else 1))
        return (off * self.weights + missing).sum(axis=-1)

    def need(self, split, held, column):
        """How much of a column a split lacks."""
        return self.shares[split] * int(self.totals[column]) - SCALE * int(held[split, column])


def _try_all(vectors, splits, loss, random):
    """The best of all assignments; among equally good ones that of the seed."""
    order = random.permutation(len(vectors))
    ways = np.array(list(itertools.product(splits, repeat=len(vectors))))
    losses = sum(loss(split, (ways == split) @ vectors[order]) for split in splits)
    chosen = np.empty(len(vectors), int)
    chosen[order] = ways[losses.argmin()]
    return chosen


def _deal_rarest_first(vectors, splits, loss, targets, random):
    """Each group goes to the split that lacks most of its rarest class, if there is room."""
    order = random.permutation(len(vectors))
    chosen, held = np.full(len(vectors), -1), np.zeros((3, vectors.shape[1]), np.int64)
    number = (vectors > 0).sum(axis=0)
    for column in sorted(range(vectors.shape[1]), key=lambda c: (number[c], -c)):
        mine = order[(chosen[order] < 0) & (vectors[order, column] > 0)]
        mine = mine[np.argsort(-vectors[mine, column], kind="stable")]
        for left, group in zip(range(len(mine), 0, -1), mine, strict=True):
            without = [split for split in splits if held[split, column] == 0]
            size = vectors[group, 0]
            chosen[group] = max(
                without if left <= len(without) else splits,
                key=lambda k: (targets[k] - held[k, 0] >= size, loss.need(k, held, column)),
            )
            held[chosen[group]] += vectors[group]
    return chosen


def _improve(chosen, vectors, splits, loss, random):
    """Move and swap groups, two splits and a sample of each at a time, while the loss falls."""
    held = np.stack([vectors[chosen == split].sum(axis=0) for split in range(3)])
    barren = 0
    for _ in range(ROUNDS):
        barren += 1
        for a, b in itertools.combinations(splits, 2):
            here, there = (
                _pick(np.flatnonzero(chosen == k), vectors, held[other] == 0, random)
                for k, other in ((a, b), (b, a))
            )
            given, taken = (np.vstack([vectors[part], 0 * held[:1]]) for part in (here, there))
            change = taken - given[:, None]  # the last of each is to give, or take, nothing
            losses = loss(a, held[a] + change) + loss(b, held[b] - change)
            i, j = divmod(int(losses.argmin()), len(taken))
            if losses[i, j] < losses[-1, -1]:
                held[a] += change[i, j]
                held[b] -= change[i, j]
                chosen[here[i : i + 1]], chosen[there[j : j + 1]] = b, a
                barren = 0
        if barren == 3:
            break
    return chosen


def _pick(groups, vectors, wanted, random):
    """A sample of groups; those that hold a column that is wanted first."""
    groups = random.permutation(groups)
    if wanted.any():
        without = ~(vectors[groups][:, wanted] > 0).any(axis=1)
        groups = groups[np.argsort(without, kind="stable")]
    return groups[: math.isqrt(NEIGHBORS // vectors.shape[1])]
