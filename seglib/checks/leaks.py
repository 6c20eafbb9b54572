"""Is what is scored apart from what was learned? Copies, frames of one drive, empty splits."""

import collections
import itertools

import numpy as np

from seglib.checks.reporting import Example, Finding, count, list_names
from seglib.splitting import (
    drop_shared_ending,
    find_near_duplicates,
    find_sequences,
    hash_thumbnails,
    name_pictures,
    name_sequence,
)

EMPTY = {
    "train": "train holds no pair: there is nothing to learn from.",
    "val": "val holds no pair: nothing tells which epoch is best, nor how good the model is.",
}


def check_leaks(looks, dataset):
    """Yield Findings about splits that are empty, and pictures that are there twice or nearly so.

    Args:
        looks: list of Look.
        dataset: Dataset.
    """
    advice = "Deal the pairs out anew with dataset.split()."
    for split, meaning in EMPTY.items():
        if not len(dataset.splits[split]):
            yield Finding("empty split", "warning", split, 0, "", meaning, advice)
    looks = [look for look in looks if look.thumbnail is not None]
    if looks:
        names = drop_shared_ending(name_pictures([look.image for look in looks]))
        thumbnails = np.stack([look.thumbnail for look in looks])
        yield from _check_copies(looks, names, thumbnails)
        yield from _check_sequences(looks, names, find_sequences(names, thumbnails))


def _check_copies(looks, names, thumbnails):
    found = collections.defaultdict(list)
    for i, j in find_near_duplicates(hash_thumbnails(thumbnails), thumbnails).tolist():
        found[tuple(dict.fromkeys((looks[i].split, looks[j].split)))].append((i, j))
    for splits, pairs in sorted(found.items(), key=lambda item: -len(item[0])):
        meaning = "pair{s} of pictures that are the same but for compression, size or brightness"
        advice = "Keep one of each: what is there twice counts twice."
        if len(splits) > 1:
            meaning += f", one in {splits[0]} and one in {splits[1]}"
            advice = (
                'Keep one of each, or both on one side, as dataset.split(by="sequence") does: '
                "what was learned is no test."
            )
        yield Finding(
            check="near-duplicates",
            severity="warning",
            split=", ".join(splits),
            count=len(pairs),
            where=list_names([f"{names[i]} = {names[j]}" for i, j in pairs]),
            meaning=f"{count(pairs, meaning)}.",
            advice=advice,
            examples=(_show_pair("near-duplicates", looks, names, *pairs[0]),),
        )


def _check_sequences(looks, names, sequences):
    members = collections.defaultdict(list)
    for i, sequence in enumerate(sequences):
        members[sequence].append(i)
    members = {sequence: chosen for sequence, chosen in members.items() if len(chosen) > 1}
    splits = list(dict.fromkeys(look.split for look in looks))
    for pair in itertools.combinations(splits, 2):
        yield from _check_shared(pair, members, looks, names)
    for split in splits:
        yield from _check_neighbors(split, members, looks)


def _check_shared(splits, members, looks, names):
    shared = {}
    for sequence, chosen in members.items():
        parts = [[i for i in chosen if looks[i].split == split] for split in splits]
        if all(parts):
            shared[sequence] = parts
    if not shared:
        return
    first, second = splits
    listed = [
        f"{sequence} ({len(parts[0]):,} in {first}, {len(parts[1]):,} in {second})"
        for sequence, parts in shared.items()
    ]
    closest = min(_find_closest(parts, names) for parts in shared.values())
    verb = "is" if len(shared) == 1 else "are"
    yield Finding(
        check="shared sequences",
        severity="warning",
        split=f"{first}, {second}",
        count=len(shared),
        where=list_names(listed),
        meaning=count(
            shared,
            f"sequence{{s}} of pictures taken one after the other {verb} in {first} and in "
            f"{second}: what scores {second} has nearly been seen in {first}.",
        ),
        advice='Deal sequences out as wholes: dataset.split(by="sequence").',
        examples=(_show_pair("shared sequences", looks, names, *closest[1:]),),
    )


def _find_closest(parts, names):
    """`(frames between, i, j)` of the two frames nearest in time, i of the first part."""
    ordered = sorted((name_sequence(names[i])[1], part, i) for part in (0, 1) for i in parts[part])
    return min(
        (second[0] - first[0], *(i for _, _, i in sorted((first, second), key=lambda f: f[1])))
        for first, second in itertools.pairwise(ordered)
        if first[1] != second[1]
    )


def _check_neighbors(split, members, looks):
    sizes = {
        sequence: sum(looks[i].split == split for i in chosen)
        for sequence, chosen in members.items()
    }
    sizes = {sequence: size for sequence, size in sizes.items() if size > 1}
    if sizes:
        number, total = sum(sizes.values()), sum(look.split == split for look in looks)
        yield Finding(
            check="neighbours in time",
            severity="note",
            split=split,
            count=number,
            where=list_names([f"{sequence} ({size:,})" for sequence, size in sizes.items()]),
            meaning=f"{number:,} of {total:,} pictures follow one another in "
            f"{count(sizes, 'sequence{s}')}, and tell less than as many independent ones.",
            advice="Add other places rather than more frames; intervals of scores are too narrow.",
        )


def _show_pair(check, looks, names, i, j):
    splits = ", ".join(dict.fromkeys((looks[i].split, looks[j].split)))
    pairs = tuple((looks[k].image, looks[k].mask) for k in (i, j))
    captions = tuple(f"{looks[k].split}: {names[k].rsplit('/', 1)[-1]}" for k in (i, j))
    return Example(check, splits, pairs, captions, looks[i].encoding)
