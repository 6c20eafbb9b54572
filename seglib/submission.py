"""Run-length encoding of masks, and the CSV file of a Kaggle submission."""

import contextlib
import csv
import os

import numpy as np

COLUMNS = ("image_id", "class", "rle")


def encode_rle(mask):
    """Encode a mask as `start length start length ...`, as Kaggle's segmentation contests do.

    Pixels are counted from 1, down the first column, then down the second.

    Args:
        mask: bool or 0/1 array `(height, width)`.

    Returns:
        str; empty where the mask is.

    Raises:
        ValueError: the mask is not 2D, or holds anything but 0 and 1.

    Example:
        >>> encode_rle([[0, 1], [1, 1], [0, 0]])
        '2 1 4 2'
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"expected a mask (height, width) of 0 and 1, received {mask.dtype} {mask.shape}; "
            "a label map is encoded one class at a time, as labels == class_id"
        )
    flat = np.pad(mask.T.ravel().astype(np.int8), 1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts, ends = edges[::2], edges[1::2]
    return " ".join(map(str, np.column_stack([starts, ends - starts]).ravel().tolist()))


def decode_rle(text, shape):
    """Decode what `encode_rle` wrote.

    Args:
        text: str, `start length start length ...`; empty for an empty mask. Runs in any order.
        shape: `(height, width)`.

    Returns:
        bool array of that shape.

    Raises:
        ValueError: something is no number, a length has no start or the reverse, a run is empty
            or leaves the image, or two runs overlap.

    Example:
        >>> decode_rle("2 1 4 2", (3, 2)).astype(int)
        array([[0, 1],
               [1, 1],
               [0, 0]])
    """
    height, width = shape
    starts, ends = _parse_runs(text, height * width)
    order = np.argsort(starts)
    overlap = np.flatnonzero(starts[order][1:] < ends[order][:-1])
    if overlap.size:
        first, second = starts[order][overlap[0] : overlap[0] + 2]
        raise ValueError(f"runs overlap: the run that starts at {second} begins inside {first}'s")
    change = np.zeros(height * width + 2, np.int8)
    change[starts] += 1
    change[ends] -= 1
    return (np.cumsum(change)[1:-1] > 0).reshape(width, height).T


def write_submission(path, predictions, classes, *, empty_mask=""):
    """Write a CSV file with a run-length encoded mask for each image and each scored class.

    The file is written beside its place and moved there once it is whole.

    Args:
        path: str or path of the CSV file, columns `image_id, class, rle`.
        predictions: iterable of (image id, labels), labels int `(height, width)`; consumed one
            at a time. Pixels of the ignored class, or 255 where there is none, get no row.
        classes: ClassTable.
        empty_mask: str, what a contest wants for a class that has no pixel, such as "-1".

    Raises:
        ValueError: an image id occurs twice, or an id in labels is no class.
    """
    path = os.fspath(path)
    partial, seen = f"{path}.partial", set()
    try:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for image_id, labels in predictions:
                if str(image_id) in seen:
                    raise ValueError(f"image {image_id!r} occurs twice in the predictions")
                seen.add(str(image_id))
                writer.writerows(_encode_image(image_id, labels, classes, empty_mask))
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


def read_submission(path, classes, shapes, *, empty_mask=""):
    """Read a file that `write_submission` wrote back into label maps.

    Args:
        path: str or path of the CSV file.
        classes: ClassTable.
        shapes: dict `{image id: (height, width)}`, or one `(height, width)` for all images.
        empty_mask: str, as it was written.

    Returns:
        dict `{image id: labels (height, width)}`; pixels of no class have the table's
        ignore label, 255 where it has none.

    Raises:
        ValueError: a column is missing, a row names an unknown class or image, a run is wrong, or
            two classes hold the same pixel; the image and the class are named.
    """
    import pandas as pd  # csv.reader refuses fields above 128 KiB, which a noisy mask exceeds

    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not set(COLUMNS) <= set(table.columns):
        raise ValueError(f"{path}: expected the columns {COLUMNS}, received {list(table.columns)}")
    nothing, images = _no_class_id(classes), {}
    dtype = np.promote_types(
        np.min_scalar_type(classes.num_classes - 1), np.min_scalar_type(nothing)
    )
    for image_id, name, text in zip(*(table[column] for column in COLUMNS), strict=True):
        try:
            if image_id not in images:
                images[image_id] = np.full(_find_shape(shapes, image_id), nothing, dtype)
            mask = decode_rle("" if text == empty_mask else text, images[image_id].shape)
            _paint(images[image_id], mask, name, classes)
        except ValueError as error:
            raise ValueError(f"{path}: image {image_id!r}, class {name!r}: {error}") from None
    return images


def _parse_runs(text, size):
    """Return the first pixel of each run and the one after its last, counted from 1."""
    try:
        numbers = np.array([int(word) for word in text.split()], np.int64)
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected numbers 'start length start length ...', received {text[:40]!r}"
        ) from None
    if numbers.size % 2:
        raise ValueError(f"expected pairs of start and length, received {numbers.size} numbers")
    starts, lengths = numbers[::2], numbers[1::2]
    wrong = np.flatnonzero((starts < 1) | (lengths < 1) | (starts > size - lengths + 1))
    if wrong.size:
        raise ValueError(
            f"a run is out of range: start {starts[wrong[0]]}, length {lengths[wrong[0]]} in an "
            f"image of {size} pixels counted from 1"
        )
    return starts, starts + lengths


def _no_class_id(classes):
    if classes.ignore_label is not None:
        return classes.ignore_label
    if classes.num_classes > 255:
        raise ValueError("255 is a class of this table: give the table an ignore_label")
    return 255


def _encode_image(image_id, labels, classes, empty_mask):
    labels = np.asarray(labels)
    strange = np.setdiff1d(labels, [*classes.scored_ids, _no_class_id(classes)])
    if strange.size:
        raise ValueError(
            f"image {image_id!r}: ids {strange[:5].tolist()} are no class; expected ids in "
            f"[0, {classes.num_classes}) or {_no_class_id(classes)} for no class"
        )
    return [
        (image_id, classes.names[i], encode_rle(labels == i) or empty_mask)
        for i in classes.scored_ids
    ]


def _find_shape(shapes, image_id):
    if not isinstance(shapes, dict):
        return shapes
    if image_id not in shapes:
        raise ValueError("the shape of this image is not in shapes")
    return shapes[image_id]


def _paint(labels, mask, name, classes):
    scored = {classes.names[i]: i for i in classes.scored_ids}
    if name not in scored:
        raise ValueError(f"no such class is scored, expected one of {', '.join(scored)}")
    taken = mask & (labels != _no_class_id(classes))
    if taken.any():
        raise ValueError(f"{taken.sum()} pixels are already of another class")
    labels[mask] = scored[name]
