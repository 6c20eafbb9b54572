"""Pictures in, label maps of the same size out, whatever computes the probabilities."""

import dataclasses
from collections.abc import Callable

import numpy as np

from seglib.images import cut_padding, fit_classes, fit_image
from seglib.system import show_progress

BATCH_SIZE, BATCH_PIXELS = 16, 16 * 512**2  # of pictures that are scored together, at the most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """What gives each class its probability at each pixel, and what it must be given.

    Args:
        score: function of uint8 pictures `(n, height, width, 3)`; returns float32 probabilities
            `(n, height, width, k)` of the k classes that are not ignored.
        size: `(height, width)` of the pictures that it takes; None for any.
        fit: "stretch" or "letterbox", how pictures are brought to that size.
        num_classes: int, ignored ones included.
        classes: ClassTable, or None where it is not known.
    """

    score: Callable
    size: tuple
    fit: str
    num_classes: int
    classes: object = None

    @property
    def ids(self):
        """tuple of int, the class of each plane, ascending: all but the ignored ones."""
        return tuple(range(self.num_classes)) if self.classes is None else self.classes.scored_ids


def label_pictures(scorer, images, *, flip=False, tile=False):
    """Label pictures of any size; see `seglib.predict`.

    Args:
        scorer: Scorer.
        images, flip, tile: as of `seglib.predict`.

    Returns:
        As `seglib.predict`.

    Raises:
        ValueError: a picture is no uint8 RGB array.
    """
    if not isinstance(images, list | tuple) and np.ndim(images) != 4:
        return label_probabilities(*_score_pictures(scorer, [images], flip, tile)[0], scorer.ids)
    pictures = list(images)
    for picture in pictures:
        check_picture(picture)
    sides = np.reshape([np.shape(picture)[:2] for picture in pictures], (-1, 2))
    largest = sides.max(axis=0, initial=1)
    size = [own or side for own, side in zip(scorer.size, largest, strict=True)]
    count = 1 if tile else _count_together(size)  # tiles are batches, and give larger planes
    labels = [
        label_probabilities(*scores, scorer.ids)
        for start in show_progress(range(0, len(pictures), count), desc="predicting", unit="batch")
        for scores in _score_pictures(scorer, pictures[start:][:count], flip, tile)
    ]
    if isinstance(images, list | tuple):
        return labels
    return np.stack(labels) if labels else np.empty(images.shape[:3], np.uint8)


def label_probabilities(probabilities, size, ids):
    """Label each pixel of a picture by what is most probable at a smaller or larger scale.

    The probabilities are interpolated bilinearly (half-pixel centres, the edges kept). What is most
    probable at all four neighbours of a pixel is so at the pixel, which lies between them: only
    where they differ, at a few percent of the pixels, anything is computed.

    Args:
        probabilities: float32 array `(rows, columns, k)`.
        size: `(height, width)` of the picture.
        ids: k ints, the class of each plane.

    Returns:
        uint8 array `(height, width)`, uint16 where an id is above 255.

    Example:
        >>> label_probabilities(np.array([[[0.9, 0.1], [0.2, 0.8]]]), (1, 4), [3, 5])
        array([[3, 3, 5, 5]], dtype=uint8)
    """
    ids = np.array(ids, np.uint8 if max(ids) <= 255 else np.uint16)
    best = probabilities.argmax(axis=-1).astype(ids.dtype)
    if probabilities.shape[:2] == tuple(size):
        return ids[best]
    axes = [_find_neighbors(*lengths) for lengths in zip(best.shape, size, strict=True)]
    (above, below, down), (left, right, across) = axes
    labels = best[above][:, left]
    differ = _find_edges(best)[above][:, left]
    rows, columns = np.nonzero(differ)
    down, across = down[rows, None], across[columns, None]
    sides = []
    for y in (above[rows], below[rows]):
        start = probabilities[y, left[columns]]
        sides.append(start + across * (probabilities[y, right[columns]] - start))
    labels[rows, columns] = (sides[0] + down * (sides[1] - sides[0])).argmax(axis=-1)
    return ids[labels]


def measure_probabilities(scorer, image, *, flip=False, tile=False):
    """Return the probability of each class at each pixel; see `seglib.predict_probabilities`.

    Args:
        scorer: Scorer.
        image, flip, tile: as of `seglib.predict_probabilities`.

    Returns:
        float32 array `(height, width, num_classes)`; 0 for the ignored class.
    """
    probabilities, size = _score_pictures(scorer, [image], flip, tile)[0]
    planes = np.zeros((*size, scorer.num_classes), np.float32)
    rows = interpolate(probabilities, size[0], axis=0)
    planes[..., list(scorer.ids)] = interpolate(rows, size[1], axis=1)
    return planes


def check_classes(scorer, classes):
    """Raise ValueError where a scorer knows other classes than the data that it is scored on."""
    known = scorer.classes
    if known not in (None, classes, fit_classes(classes, fit=scorer.fit)):
        raise ValueError(
            f"the model was trained for {known.names} but the data have {classes.names}: "
            "evaluate it on data of its own classes"
        )


def check_picture(picture):
    """Raise ValueError unless a picture is a uint8 RGB array."""
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"expected a uint8 RGB picture (height, width, 3), received {picture.dtype} "
            f"{picture.shape}: read it with seglib.read_image"
        )


def _score_pictures(scorer, pictures, flip, tile):
    """Return `(probabilities, (height, width))` for each picture, at the scorer's scale."""
    for picture in pictures:
        check_picture(picture)
    pictures = [np.asarray(picture) for picture in pictures]
    if tile:
        return [(_score_tiles(scorer, picture, flip), picture.shape[:2]) for picture in pictures]
    fit = scorer.fit
    if None in scorer.size and len({picture.shape for picture in pictures}) > 1:
        return [_score_pictures(scorer, [picture], flip, tile)[0] for picture in pictures]
    shape = pictures[0].shape[:2]
    size = tuple(own or side for own, side in zip(scorer.size, shape, strict=True))
    batch = np.stack([fit_image(picture, size, fit=fit) for picture in pictures])
    return [
        (cut_padding(scores, picture.shape[:2], fit=fit), picture.shape[:2])
        for scores, picture in zip(_score_batch(scorer, batch, flip), pictures, strict=True)
    ]


def _score_batch(scorer, batch, flip):
    """Probabilities `(n, height, width, planes)` of a batch of the scorer's size."""
    scores = scorer.score(batch)
    if flip:
        mirrored = scorer.score(np.ascontiguousarray(batch[:, :, ::-1]))
        scores = (scores + mirrored[:, :, ::-1]) / 2
    return scores


def _score_tiles(scorer, picture, flip):
    """Probabilities at the picture's own scale: tiles that overlap by half, blended."""
    tile = [side or 128 for side in scorer.size]
    height, width = picture.shape[:2]
    padding = [
        (0, max(0, side - length)) for side, length in zip(tile, (height, width), strict=True)
    ]
    padded = np.pad(picture, [*padding, (0, 0)], mode="symmetric")
    corners = [
        (top, left)
        for top in _tile_starts(padded.shape[0], tile[0])
        for left in _tile_starts(padded.shape[1], tile[1])
    ]
    window = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) for side in tile))
    window = (window**2)[..., None].astype(np.float32)
    total = np.zeros((*padded.shape[:2], len(scorer.ids)), np.float32)
    weight = np.zeros((*padded.shape[:2], 1), np.float32)
    count = _count_together(tile)
    for start in range(0, len(corners), count):
        places = [np.s_[y : y + tile[0], x : x + tile[1]] for y, x in corners[start:][:count]]
        scores = _score_batch(scorer, np.stack([padded[place] for place in places]), flip)
        for place, score in zip(places, scores, strict=True):
            total[place] += score * window
            weight[place] += window
    return (total / weight)[:height, :width]


def _count_together(size):
    """How many pictures of a size are scored in one batch, so that it fits into memory."""
    return max(1, min(BATCH_SIZE, BATCH_PIXELS // int(np.prod(size))))


def _tile_starts(length, side):
    """Evenly spaced starts of tiles that cover a length and overlap by at least half."""
    count = 1 + -(-2 * (length - side) // side)
    return np.linspace(0, length - side, count).round().astype(int)


def _find_edges(best):
    """Where a place, the one below, the one to the right and the one between do not agree."""
    padded = np.pad(best, ((0, 1), (0, 1)), mode="edge")
    others = padded[1:, :-1], padded[:-1, 1:], padded[1:, 1:]
    return np.any([best != other for other in others], axis=0)


def interpolate(values, length, *, axis):
    """Resize one axis of an array linearly, the edges kept (half-pixel centres)."""
    if values.shape[axis] == length:
        return values
    below, above, share = _find_neighbors(values.shape[axis], length)
    share = np.expand_dims(share, [i for i in range(values.ndim) if i != axis])
    first, second = values.take(below, axis), values.take(above, axis)
    return first + share * (second - first)


def _find_neighbors(source, length):
    """Between which of `source` places each of `length` lies, and how far from the first."""
    position = ((np.arange(length) + 0.5) * source / length - 0.5).clip(0, source - 1)
    before = np.minimum(position.astype(int), max(source - 2, 0))
    return before, np.minimum(before + 1, source - 1), (position - before).astype(np.float32)
