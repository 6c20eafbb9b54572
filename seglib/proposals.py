"""A class table for masks that come without one, proposed from what they hold."""

import collections

import numpy as np

from seglib.classes import CUSTOMARY_IGNORE_LABEL, ClassTable
from seglib.encodings.surveys import is_color, looks_binary, survey_masks
from seglib.images import DatasetError, convert_to_rgb, open_picture
from seglib.masks import near_segments

MERGE_DISTANCE, MIN_SHARE = 48, 0.0005  # of colours that a lossy format made of one
MIN_SHARE_OF_BLEND = 0.005  # of a colour between two others
MANY_COLORS = 1024  # more are blends, or a lossy format's
BINARY = ClassTable(["background", "foreground"], [(0, 0, 0), (255, 255, 255)])


def propose_class_table(paths, *, max_masks=50, max_classes=64):
    """Propose a class table from the values or colours that masks hold.

    Masks with one channel or a palette that look like ids keep their ids, in the palette's
    colours; black and white is background and foreground; other colours come by their share of
    the pixels. In lossy formats colours near a more frequent one are taken for it.

    Args:
        paths: sequence of paths of masks, or a Dataset.
        max_masks: int, masks that are looked at, evenly spread.
        max_classes: int, colours that are proposed at most.

    Returns:
        ClassTable with the names `class_0`, …, to be written with `write_class_table` and given
        names.

    Raises:
        DatasetError: there is no mask that can be read.
    """
    return _propose(_get_paths(paths), max_masks, max_classes)[0]


def propose_lines(paths, *, max_masks=50, max_classes=64):
    """Return the lines of a class table that `propose_class_table` would make, with shares."""
    table, shares = _propose(paths, max_masks, max_classes)
    lines = [
        f"{name},{r},{g},{b},{100 * share:.2f} %"
        for name, (r, g, b), share in zip(table.names, table.colors, shares, strict=True)
    ]
    return "\n".join(["name,r,g,b,share", *lines])


def look_like_ids(survey):
    """Whether values of one channel are ids of classes rather than shades of grey."""
    values = [value for value in survey.values if value != CUSTOMARY_IGNORE_LABEL]
    if survey.lossy or not values or min(values) < 0 or looks_binary(survey):
        return False
    return not survey.grey or 2 * len(values) >= max(values) + 1


def propose_from_survey(survey):
    """Return the class table of masks of ids, or None where they are none: ids by their palette."""
    if survey.colored or not survey.one_channel:
        return None
    if looks_binary(survey) or set(survey.shown) == set(BINARY.mapping):
        return BINARY
    if survey.conflict or not look_like_ids(survey):
        return None
    highest = max(value for value in survey.values if value != CUSTOMARY_IGNORE_LABEL)
    colors = [survey.palette.get(i, (round(255 * i / max(highest, 1)),) * 3)
              for i in range(highest + 1)]  # fmt: skip
    if len(set(colors)) < len(colors):  # of a palette that repeats itself, or of many ids
        colors = [(i >> 16 & 255, i >> 8 & 255, i & 255) for i in range(highest + 1)]
    return ClassTable([f"class_{i}" for i in range(highest + 1)], colors)


def _get_paths(paths):
    if hasattr(paths, "splits"):
        paths = [mask for split in paths.splits.values() for _, mask in split.pairs]
    return list(paths)


def _propose(paths, max_masks, max_classes):
    """Class table and the share of the pixels that each class has."""
    paths = paths[:: -(-len(paths) // max_masks) or 1]
    survey = survey_masks(paths)
    total = max(1, sum(survey.values.values()))
    table = propose_from_survey(survey)
    if table is BINARY:
        white = sum(count for value, count in survey.values.items() if value > 127) / total
        return table, [1 - white, white]
    if table is not None:
        return table, [survey.values.get(i, 0) / total for i in range(table.num_classes)]
    counts = collections.Counter(survey.shown)
    for path in paths if survey.colored else ():
        counts.update(_count_colors(path))
    if not counts:
        raise DatasetError(f"no mask can be read among {len(paths)}: expected pictures of classes")
    colors = _merge_colors(counts, lossy=survey.lossy or len(counts) > MANY_COLORS)[:max_classes]
    table = ClassTable([f"class_{i}" for i in range(len(colors))], [c for c, _ in colors])
    return table, [count / counts.total() for _, count in colors]


def _merge_colors(counts, *, lossy):
    """`(color, pixels)` by pixels; of a lossy format only colours that stand for themselves."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if not lossy:
        return ordered
    kept = []
    for color, count in ordered[:4096]:
        distances = [np.square(np.subtract(color, other)).sum() for other, _ in kept]
        if distances and min(distances) <= MERGE_DISTANCE**2:
            kept[int(np.argmin(distances))][1] += count
        else:
            kept.append([color, count])
    kept = [(c, n) for c, n in kept if n >= MIN_SHARE * counts.total()]
    large = [color for color, n in kept if n >= MIN_SHARE_OF_BLEND * counts.total()]
    return [(c, n) for c, n in kept if c in large or not _is_blend(c, large)]


def _is_blend(color, colors):
    everywhere = np.ones((1, len(colors)), bool)
    return near_segments(np.array([color]), np.array(colors), everywhere, MERGE_DISTANCE).any()


def _count_colors(path):
    try:
        picture = open_picture(path)
    except DatasetError:
        return {}
    if not is_color(picture):
        return {}
    pixels = np.asarray(convert_to_rgb(picture, path)).astype(np.int32)
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    keys, counts = np.unique(packed, return_counts=True)
    return {(int(k) >> 16, int(k) >> 8 & 255, int(k) & 255): int(n)
            for k, n in zip(keys, counts, strict=True)}  # fmt: skip
