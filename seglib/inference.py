"""Pictures in, label maps of the same size out; and how good they are."""

import time
import weakref

import keras
import numpy as np
from keras import ops

from seglib.fitting import cut_padding, fit_classes, fit_image
from seglib.models import model_classes, model_fit
from seglib.progress import show_progress
from seglib.reports import create_report

BATCH_SIZE = 16
_scorers = weakref.WeakKeyDictionary()


def predict(model, images, *, flip=False, tile=False):
    """Label pictures of any size.

    A picture is reduced to the model's size (antialiased, bilinear), stretched or
    letterboxed like those that the model learned from; the class probabilities are
    enlarged bilinearly, and each pixel takes the most probable class. The ignored
    class is never answered.

    Args:
        model: keras.Model whose last output is logits.
        images: uint8 RGB array `(height, width, 3)`, a batch `(n, height, width, 3)`, or
            a list of pictures of any sizes.
        flip: bool. True averages with the mirrored picture's probabilities.
        tile: bool. True works at the picture's own scale, in overlapping tiles of the
            model's size that are blended smoothly.

    Returns:
        uint8 array `(height, width)` of ids (uint16 from 257 classes on); for a batch
        `(n, height, width)`, for a list a list.

    Raises:
        ValueError: a picture is no uint8 RGB array.
    """
    if not isinstance(images, list | tuple) and np.ndim(images) == 3:
        return _most_probable(*_score_pictures(model, [images], flip, tile)[0])
    pictures = list(images)
    starts = range(0, len(pictures), BATCH_SIZE)
    labels = [
        _most_probable(*scores)
        for start in show_progress(starts, desc="predicting", unit="batch")
        for scores in _score_pictures(model, pictures[start:][:BATCH_SIZE], flip, tile)
    ]
    return labels if isinstance(images, list | tuple) else np.stack(labels)


def predict_probabilities(model, image, *, flip=False, tile=False):
    """Return what `predict` chooses from: the probability of each class at each pixel.

    Args:
        model: keras.Model whose last output is logits.
        image: uint8 RGB array `(height, width, 3)`.
        flip, tile: as in `predict`.

    Returns:
        float32 array `(height, width, num_classes)`; 0 for the ignored class.
    """
    probabilities, size = _score_pictures(model, [image], flip, tile)[0]
    return np.stack(list(_enlarge(probabilities, size)), axis=-1)


def evaluate(model, split, *, flip=False, tile=False, seed=0):
    """Score a model on the pairs of a split, at the pictures' own sizes.

    Args:
        model: keras.Model.
        split: Split with at least one pair.
        flip, tile: as in `predict`.
        seed: int, of the bootstrap intervals.

    Returns:
        Report; its latency is that of `predict` on one picture, reading not included.

    Raises:
        ValueError: the split is empty, or of other classes than the model.
    """
    known = model_classes(model)
    if known not in (None, split.classes, fit_classes(split.classes, fit=model_fit(model))):
        raise ValueError(
            f"the model was trained for {known.names} but the data have {split.classes.names}: "
            "evaluate it on data of its own classes"
        )
    latencies = []
    if len(split):
        predict(model, split[0][0], flip=flip, tile=tile)  # compiles, which is no latency
    return create_report(
        _predict_pairs(model, split, latencies, flip=flip, tile=tile),
        split.classes,
        names=split.names,
        latencies=latencies,
        seed=seed,
    )


def _predict_pairs(model, split, latencies, **options):
    """Yield (true labels, predicted labels), noting each prediction's milliseconds."""
    for i in show_progress(range(len(split)), desc="evaluating", unit="image"):
        image, labels = split[i]
        start = time.perf_counter()
        predicted = predict(model, image, **options)
        latencies.append(1e3 * (time.perf_counter() - start))
        yield labels, predicted


def _score_pictures(model, pictures, flip, tile):
    """Return `(probabilities, (height, width))` for each picture, at the model's scale."""
    for picture in pictures:
        _check_picture(picture)
    pictures = [np.asarray(picture) for picture in pictures]
    if tile:
        return [(_score_tiles(model, picture, flip), picture.shape[:2]) for picture in pictures]
    size, fit = model.input_shape[1:3], model_fit(model)
    if None in size and len({picture.shape for picture in pictures}) > 1:
        return [_score_pictures(model, [picture], flip, tile)[0] for picture in pictures]
    if None in size:
        size = pictures[0].shape[:2]
    batch = np.stack([fit_image(picture, size, fit=fit) for picture in pictures])
    return [
        (cut_padding(scores, picture.shape[:2], fit=fit), picture.shape[:2])
        for scores, picture in zip(_score_batch(model, batch, flip), pictures, strict=True)
    ]


def _score_batch(model, batch, flip):
    """Probabilities `(n, height, width, classes)` of a batch of the model's size."""
    scorer = _get_scorer(model)
    scores = scorer.predict_on_batch(batch)
    if flip:
        mirrored = scorer.predict_on_batch(np.ascontiguousarray(batch[:, :, ::-1]))
        scores = (scores + mirrored[:, :, ::-1]) / 2
    return scores


def _get_scorer(model):
    """The compiled function from pictures to the last head's probabilities, made once."""
    classes = model_classes(model)
    if model not in _scorers or _scorers[model][0] != classes:
        logits = model.outputs[-1]
        if classes is not None:
            scored = np.isin(range(classes.num_classes), classes.scored_ids)
            logits = logits + np.where(scored, 0, -1e9).astype("float32")
        scorer = keras.Model(model.inputs, ops.softmax(logits))
        scorer.compile()
        _scorers[model] = (classes, scorer)
    return _scorers[model][1]


def _score_tiles(model, picture, flip):
    """Probabilities at the picture's own scale: tiles that overlap by half, blended."""
    tile = [side or 128 for side in model.input_shape[1:3]]
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
    total, weight = 0, np.zeros((*padded.shape[:2], 1), np.float32)
    for start in range(0, len(corners), BATCH_SIZE):
        places = [np.s_[y : y + tile[0], x : x + tile[1]] for y, x in corners[start:][:BATCH_SIZE]]
        scores = _score_batch(model, np.stack([padded[place] for place in places]), flip)
        if start == 0:
            total = np.zeros((*padded.shape[:2], scores.shape[-1]), np.float32)
        for place, score in zip(places, scores, strict=True):
            total[place] += score * window
            weight[place] += window
    return (total / weight)[:height, :width]


def _tile_starts(length, side):
    """Evenly spaced starts of tiles that cover a length and overlap by at least half."""
    count = 1 + -(-2 * (length - side) // side)
    return np.linspace(0, length - side, count).round().astype(int)


def _most_probable(probabilities, size):
    """Labels of a size, from probabilities at the model's scale."""
    dtype = np.uint8 if probabilities.shape[-1] <= 256 else np.uint16
    if probabilities.shape[:2] == tuple(size):
        return probabilities.argmax(axis=-1).astype(dtype)
    labels, most = np.zeros(size, dtype), np.full(size, -1, np.float32)
    for label, plane in enumerate(_enlarge(probabilities, size)):
        labels[plane > most] = label
        np.maximum(most, plane, out=most)
    return labels


def _enlarge(probabilities, size):
    """Yield each class's plane, resized bilinearly with the edges kept (half-pixel centres)."""
    planes = np.moveaxis(_interpolate(probabilities, size[0], axis=0), -1, 0)
    for plane in planes:
        yield _interpolate(np.ascontiguousarray(plane), size[1], axis=1)


def _interpolate(values, length, *, axis):
    """Resize one axis linearly."""
    source = values.shape[axis]
    if source == length:
        return values
    position = ((np.arange(length) + 0.5) * source / length - 0.5).clip(0, source - 1)
    below = np.minimum(position.astype(int), max(source - 2, 0))
    share = (position - below).astype(np.float32)
    shape = [1] * values.ndim
    shape[axis] = length
    share = share.reshape(shape)
    first, second = values.take(below, axis), values.take(np.minimum(below + 1, source - 1), axis)
    return first + share * (second - first)


def _check_picture(picture):
    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"expected a uint8 RGB picture (height, width, 3), received {picture.dtype} "
            f"{picture.shape}: read it with seglib.read_image"
        )
