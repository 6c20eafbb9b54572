"""Do the masks hold classes of the table and nothing else, and enough of each?"""

import collections

import numpy as np

from seglib.checks.looking import measure_distance
from seglib.checks.reporting import Finding, count, find_in_pairs, list_names, percent

MIN_RATIO = 10  # of the commonest class's pixels to the rarest's: less needs no class weights
MIN_LOST, MANY_LOST = 0.01, 0.5  # of a class's pixels, in regions that are too small


def check_labels(looks, dataset, image_size):
    """Yield Findings about what the masks hold.

    Args:
        looks: list of Look.
        dataset: Dataset.
        image_size: `(height, width)` that will be trained at.
    """
    looks, classes = [look for look in looks if look.mask_size], dataset.classes
    for split in dataset.splits:
        mine = [look for look in looks if look.split == split]
        yield from _check_colors(mine, dataset)
        yield from _check_seams(mine, dataset.path)
        yield from _check_ids(mine, dataset)
        yield from _check_blank(mine, dataset)
    yield from _check_tiny(looks, dataset, image_size)
    counts = {}
    for look in looks:
        counts[look.split] = counts.get(look.split, 0) + look.counts
    if counts:
        yield from _check_absent(counts, classes)
        yield from _check_balance(counts.get("train", sum(counts.values())), classes)


def _check_colors(looks, dataset):
    strange = sorted((look for look in looks if look.unknown), key=lambda look: -look.unknown)
    refused = [look for look in strange if look.refused]
    if refused:
        yield find_in_pairs(
            "unknown colours",
            "error",
            refused,
            "mask{s} with more than 1 % of the pixels in colours of no class: "
            f"{_describe_colors(refused, dataset.classes)}.",
            "Add the colours to the class table, or correct the masks: reading them fails.",
            root=dataset.path,
        )
    accepted = [look for look in strange if not look.refused]
    if accepted:
        yield find_in_pairs(
            "stray colours",
            "warning",
            accepted,
            "mask{s} with a few pixels in colours of no class: "
            f"{_describe_colors(accepted, dataset.classes)}.",
            "They are read as a class nearby: correct the masks, or add the colours to the "
            "class table.",
            root=dataset.path,
        )


def _describe_colors(looks, classes):
    """The most frequent unknown colours, with their pixels and the classes nearest to them."""
    colors = collections.Counter()
    for look in looks:
        colors.update(look.colors)
    frequent = colors.most_common(3)
    distances, rows = measure_distance([color for color, _ in frequent], classes)
    listed = [
        f"{color} on {count(pixels, 'pixel{s}')} (nearest class {classes.names[row]}, "
        f"{distance:.0f} away)"
        for (color, pixels), distance, row in zip(frequent, distances, rows, strict=True)
    ]
    return ", ".join(listed) + (" and others" if len(colors) > len(frequent) else "")


def _check_seams(looks, root):
    lossy = [look for look in looks if look.lossy]
    if lossy:
        yield find_in_pairs(
            "lossy masks",
            "warning",
            lossy,
            "mask{s} in JPEG or WebP, which change colours most where classes meet.",
            "Export them as PNG, or trust boundaries less.",
            root=root,
        )
    blended = [look for look in looks if look.blends and not (look.lossy or look.refused)]
    if blended:
        blended.sort(key=lambda look: -look.blends / look.pixels)
        share = sum(look.blends for look in blended) / sum(look.pixels for look in blended)
        yield find_in_pairs(
            "blended boundaries",
            "warning",
            blended,
            "mask{s} with colours between those of two classes, as antialiasing leaves them, on "
            f"{percent(share)} of the pixels.",
            "sharpen_boundaries gives these the class of a neighbour when masks are read; better "
            "export the masks without antialiasing.",
            root=root,
        )


def _check_ids(looks, dataset):
    wrong = [look for look in looks if look.wrong_ids]
    if wrong:
        ids = collections.Counter()
        for look in wrong:
            ids.update(look.wrong_ids)
        listed = [f"{i} on {count(pixels, 'pixel{s}')}" for i, pixels in sorted(ids.items())]
        yield find_in_pairs(
            "unknown ids",
            "error",
            wrong,
            f"mask{{s}} with ids outside the class table, which ends at "
            f"{dataset.classes.num_classes - 1}: {list_names(listed, limit=6)}.",
            "Add the classes to the table, correct the masks, or name the id that is to be "
            "ignored, as in ClassTable(names, colors, ignore_label=255).",
            root=dataset.path,
        )


def _check_blank(looks, dataset):
    scored = list(dataset.classes.scored_ids)
    enough = min(2, len(scored))  # a table of one class has no other
    present = [int((look.counts[scored] > 0).sum()) for look in looks]
    blank = [look for look, number in zip(looks, present, strict=True) if number < enough]
    if blank:
        usual = 2 * len(blank) > len(looks)
        empty = present.count(0)
        yield find_in_pairs(
            "blank masks",
            "note" if usual else "warning",
            blank,
            f"of {count(looks, 'mask{s}')} with a single class or less"
            + (f"; {empty:,} with ignored pixels alone." if empty else "."),
            "So many may be the nature of the data."
            if usual
            else "See whether they were left undone.",
            root=dataset.path,
        )


def _check_tiny(looks, dataset, image_size):
    scored = list(dataset.classes.scored_ids)
    looks = [look for look in looks if look.regions is not None]
    tiny = [look for look in looks if look.tiny[scored].any()]
    if not tiny:
        return
    tiny.sort(key=lambda look: -look.tiny[scored].sum())
    regions, number = (
        sum(int(getattr(look, what)[scored].sum()) for look in looks)
        for what in ("regions", "tiny")
    )
    pixels = sum(look.counts[scored] for look in looks)
    lost = sum(look.tiny_pixels[scored] for look in tiny) / np.maximum(1, pixels)
    worst = int(lost.argmax())
    if lost[worst] >= MIN_LOST:
        yield find_in_pairs(
            "tiny regions",
            "warning" if lost[worst] > MANY_LOST else "note",
            tiny,
            f"mask{{s}} with connected regions of less area than one pixel has at "
            f"{image_size[0]}×{image_size[1]}: {number:,} of {regions:,}. "
            f"{dataset.classes.names[scored[worst]]} loses most, "
            f"{percent(lost[worst])} of its pixels.",
            "They vanish in training: choose a larger image_size if they matter.",
            root=dataset.path,
            split="",
        )


def _check_absent(counts, classes):
    """Classes that no mask holds, and those that one split lacks.

    Args:
        counts: dict split -> int array `(num_classes,)`, pixels.
        classes: ClassTable.
    """
    anywhere = sum(counts.values()) > 0
    nowhere = [i for i in classes.scored_ids if not anywhere[i]]
    if nowhere:
        verb = "class is" if len(nowhere) == 1 else "classes are"
        yield Finding(
            check="absent classes",
            severity="warning",
            split="",
            count=len(nowhere),
            where=list_names([classes.names[i] for i in nowhere], limit=6),
            meaning=f"{len(nowhere):,} {verb} in no mask at all.",
            advice="See whether the table's colours or ids are right, else take them out of it.",
        )
    for split, pixels in counts.items():
        missing = [i for i in classes.scored_ids if anywhere[i] and not pixels[i]]
        if missing:
            verb = "class is" if len(missing) == 1 else "classes are"
            yield Finding(
                check="absent classes",
                severity="warning",
                split=split,
                count=len(missing),
                where=list_names([classes.names[i] for i in missing], limit=6),
                meaning=f"{len(missing):,} {verb} in other splits but not in {split}: cannot be "
                f"{'learned' if split == 'train' else 'scored'} there.",
                advice="Deal the pairs out anew: dataset.split() spreads classes over the splits.",
            )


def _check_balance(pixels, classes):
    present = sorted((i for i in classes.scored_ids if pixels[i]), key=lambda i: pixels[i])
    ratio = pixels[present[-1]] / pixels[present[0]] if present else 0
    if ratio >= MIN_RATIO:
        rarest, commonest = classes.names[present[0]], classes.names[present[-1]]
        yield Finding(
            check="class imbalance",
            severity="note",
            split="",
            count=1,
            where=rarest,
            meaning=f"{commonest} has {ratio:,.0f} times as many pixels as {rarest}, the rarest "
            "class.",
            advice="The default loss hears rare classes; notebook 5 shows what more there is.",
        )
