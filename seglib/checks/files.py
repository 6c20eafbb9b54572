"""Are the files there, can they be read, and do the halves of a pair fit together?"""

import os

from seglib.checks.reporting import Finding, count, find_in_pairs, list_names, name_file
from seglib.masks import explain_sizes

MAX_ASPECTS, MAX_AREAS = 1.2, 4  # the largest by the smallest: what augmentation makes up for


def check_files(looks, dataset, image_size):
    """Yield Findings about files and sizes.

    Args:
        looks: list of Look.
        dataset: Dataset.
        image_size: `(height, width)` that will be trained at.
    """
    root = dataset.path
    yield from _check_unpaired(getattr(dataset, "unpaired", ()), root)
    for split in dataset.splits:
        mine = [look for look in looks if look.split == split]
        yield from _check_readable(mine, split, root)
        yield from _check_sizes(mine, root)
        yield from _check_turned(mine, root)
    yield from _check_shapes(looks, image_size)


def _check_unpaired(unpaired, root):
    if unpaired:
        yield Finding(
            check="missing half",
            severity="error",
            split="",
            count=len(unpaired),
            where=list_names([name_file(path, root) for path in unpaired]),
            meaning=count(
                unpaired,
                "file{s} without the other half: photographs without a mask, or masks without a "
                "photograph.",
            ),
            advice="Add the other half, or remove the file.",
        )


def _check_readable(looks, split, root):
    unreadable = {path: text for look in looks for path, text in look.unreadable.items()}
    if unreadable:
        first = _shorten(next(iter(unreadable.values())), root)
        yield Finding(
            check="unreadable file",
            severity="error",
            split=split,
            count=len(unreadable),
            where=list_names([name_file(path, root) for path in unreadable]),
            meaning=count(unreadable, f"file{{s}} that cannot be decoded; the first: {first}."),
            advice="Reading such pairs fails.",
        )


def _check_sizes(looks, root):
    wrong = [
        look
        for look in looks
        if None not in (look.image_size, look.mask_size) and look.image_size != look.mask_size
    ]
    lying = [look for look in wrong if look.turned and look.mask_size == look.image_size[::-1]]
    for group in (lying, [look for look in wrong if look not in lying]):
        if group:
            first = group[0]
            why = explain_sizes(first.image, first.image_size, first.mask, first.mask_size)
            yield find_in_pairs(
                "sizes differ",
                "error",
                group,
                f"mask{{s}} of another size than the photograph; {_shorten(why, root)}.",
                "Reading such pairs fails.",
                root=root,
            )


def _check_turned(looks, root):
    turned = [look for look in looks if look.turned]
    if turned:
        yield find_in_pairs(
            "turned photographs",
            "note",
            turned,
            "photograph{s} that EXIF data turn or mirror: read upright.",
            "See to it that the masks stand upright too.",
            root=root,
            half="image",
        )


def _check_shapes(looks, image_size):
    sizes = {look.image_size for look in looks if look.image_size}
    sizes = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    if len(sizes) < 2:
        return
    (height, width), (max_height, max_width) = sizes[0], sizes[-1]
    aspects = sorted(w / h for h, w in sizes)
    if aspects[-1] > MAX_ASPECTS * aspects[0]:
        advice = (
            f"At {image_size[0]}×{image_size[1]} some are stretched: consider "
            'prepare(fit="letterbox"), which keeps proportions.'
        )
    elif max_height * max_width > MAX_AREAS * height * width:
        advice = "The same things come in other sizes: augment the scale."
    else:
        return
    yield Finding(
        check="picture sizes",
        severity="note",
        split="",
        count=len(sizes),
        where=list_names([f"{h}×{w}" for h, w in sizes]),
        meaning=f"{len(sizes):,} sizes, from {height}×{width} to {max_height}×{max_width} "
        f"(height × width), {aspects[0]:.2g} to {aspects[-1]:.2g} times as wide as high.",
        advice=advice,
    )


def _shorten(text, root):
    """Leave out of a message where the data set lies."""
    return text.replace(f"{root}{os.sep}", "")
