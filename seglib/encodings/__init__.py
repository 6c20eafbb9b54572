"""Masks from files: as ids, as colours, or black and white, decided once for a whole data set."""

import dataclasses
import warnings

import numpy as np

from seglib import masks
from seglib.classes import CUSTOMARY_IGNORE_LABEL
from seglib.encodings.surveys import (
    LOSSY_FORMATS,
    NOISE_DISTANCE,
    Survey,
    add_up,
    is_color,
    looks_binary,
    read_values,
    shows_by_alpha,
    survey_masks,
    survey_picture,
    take_grey,
)
from seglib.images import DatasetError, convert_to_rgb, open_picture, read_image

__all__ = [
    "ENCODINGS",
    "Survey",
    "choose_encoding",
    "explain_sizes",
    "ignore_customary",
    "read_labels",
    "read_mask",
    "read_pair",
    "survey_masks",
]

MAX_UNKNOWN_SHARE = 0.01  # of a mask's pixels: more is no accident of drawing
# The line between two CamVid colours passes a third at 17.8 or more, or right through it: within
# 16, blends are told from shifted colours. JPEG shifts more; 24 and 64 read its masks best.
UNKNOWN_DISTANCE = 32
LOSSY_NOISE_DISTANCE, LOSSY_UNKNOWN_DISTANCE = 24, 64
ORIENTATION = 0x0112  # the EXIF tag; from 5 on, height and width change places
ENCODINGS = ("ids", "colors", "binary")


def choose_encoding(survey, classes, *, source="the masks"):
    """Decide how masks with one channel or a palette show the classes.

    They hold ids if all values, over the whole data set, are in the table or 255. Where they
    show exactly the table's colours as well, and these say something else, the colours count: by
    chance they would not fit. So they do where palettes differ from mask to mask. Black and white
    are the two classes of a table of two.

    Args:
        survey: Survey.
        classes: ClassTable.
        source: str or path, for the warning.

    Returns:
        "ids", "colors" or "binary".
    """
    if not survey.one_channel:
        return "colors"
    values = np.array(list(survey.values), int)
    ids = [*range(classes.num_classes), CUSTOMARY_IGNORE_LABEL, classes.ignore_label]
    are_ids = set(survey.values) <= set(ids)
    pixels = sum(survey.values.values())
    known = [color for color in survey.shown if color in classes.mapping]
    fitting = sum(survey.shown[color] for color in known)
    if survey.conflict:
        return "colors"
    if fitting == pixels and len(values) > 1:
        if are_ids and not _agree(survey, classes) and not looks_binary(survey):
            warnings.warn(
                f"{source}: the masks' values could be ids of the class table, but their colours "
                "are exactly the table's, in another order; read as colours: pass "
                'encoding="ids" to open_dataset for the other reading',
                stacklevel=2,
            )
        return "colors"
    if looks_binary(survey) and classes.num_classes == 2 and classes.ignore_label is None:
        return "binary"
    mostly_known = fitting == pixels or (len(known) > 1 and fitting > 0.5 * pixels)
    if not are_ids and (survey.lossy or mostly_known):
        return "colors"
    return "ids"


def _agree(survey, classes):
    """Whether the values as ids mean what their colours mean."""
    pairs = survey.palette or {value: (value,) * 3 for value in survey.values}
    rows = {color: row for row, color in enumerate(classes.mapping)}
    return all(rows.get(color) == value for value, color in pairs.items())


def ignore_customary(survey, classes, encoding):
    """Return the class table, with 255 ignored where masks of ids hold it and it is no class."""
    if (
        encoding == "ids"
        and CUSTOMARY_IGNORE_LABEL in survey.values
        and classes.num_classes <= CUSTOMARY_IGNORE_LABEL
        and classes.ignore_label is None
    ):
        return dataclasses.replace(classes, ignore_label=CUSTOMARY_IGNORE_LABEL)
    return classes


def read_labels(path, classes, *, encoding="auto", sharpen=True):
    """Read a mask as label ids.

    A colour mask is mapped to the nearest class colours, boundaries sharpened. The values of a
    mask with one channel or a palette are ids, or it shows colours too: see `encoding`.

    Args:
        path: str or path of the mask.
        classes: ClassTable.
        encoding: of masks with one channel or a palette: "ids", "colors", "binary" (the second
            class from 128 on), or "auto", which decides by this one mask, where a `Dataset`
            decides by all of its masks.
        sharpen: bool. False leaves blended pixels at their nearest class.

    Returns:
        uint8 array `(height, width)`; uint16 where ids exceed 255.

    Raises:
        DatasetError: the file is truncated, more than 1 % of its pixels have colours
            that belong to no class, or an id is outside the table.
    """
    labels, pixels, lossy = read_mask(path, classes, encoding=encoding)
    if pixels is None:
        try:
            masks.check_labels(labels, classes, source=path)
        except ValueError as error:
            raise DatasetError(str(error)) from None
        return labels
    inexact = 1 - masks.exact_colors(pixels, classes).mean()
    if inexact > MAX_UNKNOWN_SHARE:
        _check_unknown_colors(pixels, labels, classes, path, lossy)
    if not (sharpen and inexact):
        return labels
    tolerance = LOSSY_NOISE_DISTANCE if lossy else NOISE_DISTANCE
    return masks.sharpen_boundaries(pixels, labels, classes, tolerance=tolerance)


def read_mask(path, classes, *, encoding="auto"):
    """Read a mask without asking whether it makes sense.

    Args: as `read_labels`.

    Returns:
        `(labels, pixels, lossy)`: int array `(height, width)`, the ids or those of the nearest
        colours; uint8 array `(height, width, 3)`, or None where the mask holds ids; bool,
        whether the format changes colours.
    """
    picture = open_picture(path)
    lossy = picture.format in LOSSY_FORMATS
    if is_color(picture):
        grey = take_grey(picture) if encoding in ("ids", "binary") else None
        picture, encoding = (picture, "colors") if grey is None else (grey, encoding)
        if shows_by_alpha(picture):
            raise DatasetError(
                f"{path} has one colour and shows its classes by transparency: save it with "
                "classes as colours or as ids"
            )
    elif encoding == "auto":
        encoding = choose_encoding(add_up([survey_picture(picture, path)]), classes, source=path)
    if encoding == "colors":
        pixels = np.asarray(convert_to_rgb(picture, path))
        return masks.closest_labels(pixels, classes.mapping), pixels, lossy
    labels = read_values(picture, path)
    if encoding == "binary":
        return (labels > 127 if picture.mode != "1" else labels).astype(np.uint8), None, lossy
    ignored = np.isin(labels, classes.also_ignored)
    if classes.num_classes <= CUSTOMARY_IGNORE_LABEL and classes.ignore_label is not None:
        ignored |= labels == CUSTOMARY_IGNORE_LABEL
    labels = np.where(ignored, classes.ignore_label, labels) if ignored.any() else labels
    if labels.size and labels.min() >= 0 and labels.max() < 1 << 16:
        labels = labels.astype(np.uint8 if labels.max() < 256 else np.uint16)
    return labels, None, lossy


def read_pair(image_path, mask_path, classes, *, encoding="auto"):
    """Read a photograph and its labels, and check that they have the same size."""
    image = read_image(image_path)
    labels = read_labels(mask_path, classes, encoding=encoding)
    if image.shape[:2] != labels.shape:
        raise DatasetError(explain_sizes(image_path, image.shape, mask_path, labels.shape))
    return image, labels


def explain_sizes(image_path, image_shape, mask_path, mask_shape):
    """Return in words what is wrong with a pair whose halves differ in size."""
    advice = "export the mask at the image's size"
    turned = open_picture(image_path).getexif().get(ORIENTATION, 1) > 4
    if turned and mask_shape[:2] == image_shape[1::-1]:
        advice = (
            "the photograph was turned upright, as its EXIF data ask for, but the mask was drawn "
            "on it lying: turn the mask as well, or remove the orientation from the photograph"
        )
    return (
        f"{mask_path} is {mask_shape[0]}×{mask_shape[1]} (height × width) but its image "
        f"{image_path} is {image_shape[0]}×{image_shape[1]}: {advice}"
    )


def _check_unknown_colors(pixels, labels, classes, path, lossy):
    distance = LOSSY_UNKNOWN_DISTANCE if lossy else UNKNOWN_DISTANCE
    bands, total = [], 0
    for band in masks.find_unknown_in_bands(pixels, labels, classes, distance=distance):
        bands.append(band)
        total += int(band.sum())
        if total > MAX_UNKNOWN_SHARE * labels.size:
            break
    else:
        return
    unknown = np.concatenate(bands)
    seen = pixels[: len(unknown)][unknown]
    colors, counts = np.unique(seen, axis=0, return_counts=True)
    color = tuple(colors[counts.argmax()].tolist())
    nearest = classes.names[labels[: len(unknown)][unknown][(seen == color).all(axis=-1)][0]]
    raise DatasetError(
        f"{path}: {total} of {labels.size} pixels are far from every class colour, "
        f"most often {color} ({counts.max()} pixels; nearest class {nearest}): "
        "add the colour to the class table, or correct the mask"
    )
