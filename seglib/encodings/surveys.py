"""What masks hold, looked at for a whole data set at once."""

import collections
import concurrent.futures
import dataclasses

import numpy as np

from seglib.images import ONE_CHANNEL, DatasetError, convert_to_rgb, open_picture
from seglib.system import show_progress

NOISE_DISTANCE = 16  # grey levels that a lossy format adds
LOSSY_FORMATS = frozenset({"JPEG", "MPO", "WEBP"})
FEW = 16  # colour masks that are decoded to see whether they are grey


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the masks of a data set hold.

    Args:
        values: dict `{value: pixels}` of the masks with one channel.
        shown: dict `{(r, g, b): pixels}`, the colours that those masks show.
        palette: dict `{value: (r, g, b)}` of masks with a palette or one bit; the first one's
            where they differ.
        one_channel, colored: ints, how many masks are of which kind. Where all colour masks are
            grey, they count as masks with one channel.
        grey, lossy: ints, how many masks with one channel have no palette; are lossy.
        conflict: bool, whether palettes show a value in different colours.
    """

    values: dict
    shown: dict
    palette: dict
    one_channel: int
    colored: int
    grey: int
    lossy: int
    conflict: bool = False


def survey_masks(paths, *, workers=None):
    """Look at all masks: at the head of colour masks, at every value of those with one channel.

    Args:
        paths: sequence of paths. What cannot be read is passed over; reading it tells why.
        workers: int or None, threads.

    Returns:
        Survey.
    """
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        found = pool.map(_survey_mask, paths)
        found = list(show_progress(found, total=len(paths), desc="looking at masks", unit="mask"))
        colored = [path for path, (kind, *_) in zip(paths, found, strict=True) if kind == "color"]
        few = colored[:: -(-len(colored) // FEW) or 1]
        if colored and all(kind == "grey" for kind, *_ in pool.map(_survey_grey, few)):
            found = [item for item in found if item[0] != "color"]
            found += pool.map(_survey_grey, colored)
    return add_up(found)


def looks_binary(survey):
    """Whether masks with one channel are black and white, give or take what JPEG does to them."""
    if survey.palette or not survey.values:
        return False
    values, counts = (np.array(list(part)) for part in (survey.values, survey.values.values()))
    if values.min() < 0 or not 255 - NOISE_DISTANCE <= values.max() <= 255:
        return False
    noise = NOISE_DISTANCE if survey.lossy else 0
    near = (values <= noise) | (values >= 255 - noise)
    return bool(counts[near].sum() >= (0.9 if survey.lossy else 1) * counts.sum())


def is_color(picture):
    """Whether a Pillow picture has more than one channel and no palette."""
    return picture.mode not in ONE_CHANNEL


def take_grey(picture):
    """Return the one channel of a colour picture whose channels are all alike; else None."""
    if shows_by_alpha(picture):
        return None
    red, *others = convert_to_rgb(picture).split()
    alike = all(np.array_equal(np.asarray(red), np.asarray(other)) for other in others)
    return red if alike else None


def read_values(picture, path="the mask"):
    """Return the values of a picture with one channel or a palette, int `(height, width)`."""
    if picture.mode in ("LA", "La", "PA"):
        picture = picture.getchannel(0)
    values = np.asarray(picture)
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.round(values)):
            raise DatasetError(f"{path} holds fractions: expected whole numbers, the classes' ids")
        values = values.astype(np.int64)
    return values.astype(np.uint8) if values.dtype == bool else values


def shows_by_alpha(picture):
    """Whether a picture has one colour, and only its transparency varies."""
    if picture.mode != "RGBA":
        return False
    *colors, (low, high) = picture.getextrema()
    return low < high and all(lowest == highest for lowest, highest in colors)


def _survey_mask(path):
    """`(kind, lossy, {value: pixels}, {value: color})` of a mask; the last two for one channel."""
    try:
        picture = open_picture(path, decode=False)
        if is_color(picture):
            return "color", picture.format in LOSSY_FORMATS, {}, {}
        return survey_picture(open_picture(path), path)
    except DatasetError:
        return "unreadable", False, {}, {}


def _survey_grey(path):
    """As `_survey_mask`, of a colour mask that is grey."""
    try:
        picture = open_picture(path)
    except DatasetError:
        return "unreadable", False, {}, {}
    grey, lossy = take_grey(picture), picture.format in LOSSY_FORMATS
    if grey is None:
        return "color", lossy, {}, {}
    _, _, counts, colors = survey_picture(grey, path)
    return "grey", lossy, counts, colors


def survey_picture(picture, path):
    """Return `(kind, lossy, {value: pixels}, {value: colour})` of a mask with one channel."""
    values = read_values(picture, path)
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        found = np.flatnonzero(counts)
        counts = dict(zip(found.tolist(), counts[found].tolist(), strict=True))
    else:
        counts = dict(zip(*(part.tolist() for part in np.unique(values, return_counts=True)),
                          strict=True))  # fmt: skip
    return (
        "palette" if picture.mode in ("P", "PA", "1") else "grey",
        picture.format in LOSSY_FORMATS,
        counts,
        _find_colors(picture, list(counts)),
    )


def _find_colors(picture, values):
    """The colour in which a picture shows each of its values."""
    if picture.mode in ("P", "PA"):
        palette = np.zeros((256, 3), int)
        given = np.array(picture.getpalette("RGB"), int).reshape(-1, 3)
        palette[: len(given)] = given
        return {value: tuple(palette[value].tolist()) for value in values}
    if picture.mode == "1":
        return {value: (255 * value,) * 3 for value in values}
    if picture.mode in ("L", "LA", "La"):
        return {value: (value,) * 3 for value in values}
    return {}


def add_up(surveyed):
    """Return the Survey of what `survey_picture` found in each mask."""
    values, shown, palette = collections.Counter(), collections.Counter(), {}
    kinds, conflict = collections.Counter(), False
    for kind, lossy, counts, colors in surveyed:
        kinds.update([kind, "lossy"] if lossy else [kind])
        values.update(counts)
        for value, color in colors.items():
            shown[color] += counts[value]
            if kind == "palette":
                conflict |= palette.setdefault(value, color) != color
    one_channel = kinds["grey"] + kinds["palette"]
    return Survey(
        values=dict(values),
        shown=dict(shown),
        palette=palette,
        one_channel=one_channel,
        colored=kinds["color"],
        grey=kinds["grey"],
        lossy=kinds["lossy"],
        conflict=conflict,
    )
