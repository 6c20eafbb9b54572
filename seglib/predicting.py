"""From a model and pictures to label maps: predicted, evaluated, cleaned up, cut up.

Keras is imported for Keras models alone: an export of another format does without it.
"""

import dataclasses
import itertools
import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage import measure, morphology, segmentation

from seglib import images
from seglib.classes import ClassTable
from seglib.datasets import Split
from seglib.images import RGB, Pixels, cut_padding, fit_classes, fit_image, resize_image
from seglib.reports import (
    Report,
    confusion_matrix,
    create_report,
    find_regions,
    mean_iou,
    score_min_sizes,
)
from seglib.system import show_progress

BUFFER = 128e6  # bytes of probabilities that tiles are blended in
BAND = 128  # rows of a picture that labels are enlarged to at once
MORPHOLOGY = {"dilation": "+", "erosion": "-", "opening": "-+", "closing": "+-"}  # + grows
MIN_SIZES = np.array([0, *(2 ** np.arange(2, 18))])  # pixels of regions that `fit_thresholds` tries
BATCH_SIZE, BATCH_PIXELS = 16, 16 * 512**2  # of pictures that are scored together, at the most

_networks = weakref.WeakKeyDictionary()  # model -> {what made it: network}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer:
    """What gives each class its probability at each pixel, and what it must be given.

    `score` makes float32 `(n, height, width, scored classes)` of uint8 `(n, height, width,
    channels)`; `size` is the (height, width) that it takes, None for any.
    """

    score: Callable
    size: tuple
    fit: str  # how pictures are brought to that size: "stretch" or "letterbox"
    num_classes: int  # ignored ones included
    classes: ClassTable | None = None  # where they are known
    channels: int = 3
    pixels: Pixels = RGB  # how the values in a picture's file become these channels
    native: tuple | None = None  # as of `seglib.models.ClassLogits`
    tile: bool | None = None  # as in `predict`

    @property
    def ids(self) -> tuple[int, ...]:
        """The class of each plane, ascending: all but the ignored ones."""
        return tuple(range(self.num_classes)) if self.classes is None else self.classes.scored_ids

    @property
    def dtype(self) -> np.dtype:
        """That of label maps."""
        return np.min_scalar_type(max(self.ids))

    @property
    def in_tiles(self) -> bool:
        """Whether it works at the pictures' own scale."""
        return self.native is not None if self.tile is None else self.tile


def predict(
    model, images: ArrayLike, *, flip: bool = False, tile: bool | None = None, thresholds=None
) -> ArrayLike:
    """Label pictures of any size.

    A picture is resized to the model's size (antialiased, bilinear), stretched or letterboxed as in
    training; the class probabilities are resized back bilinearly, and each pixel takes the most
    probable class. The ignored class is never predicted.

    Args:
        model: keras.Model whose last output is logits, or Predictor, or of `combine_scales`; or a
            list of models of the same classes, whose probabilities are averaged.
        images: uint8 array `(height, width, channels)`, RGB for most models, a batch
            `(n, height, width, channels)`, or a list of pictures of any sizes. A picture may also
            be the path of its file, or an array of the file's own values: the model carries the
            bands and the range of values that it was trained with.
        flip: True averages with the mirrored picture's probabilities.
        tile: True works at the picture's own scale, in overlapping tiles of the model's size that
            are blended smoothly; False on the whole picture. None does what the model learned
            from: tiles after training with `Augmentation(native=True)`.
        thresholds: what `fit_thresholds` found or `apply_thresholds` takes, or None.

    Returns:
        uint8 array `(height, width)` of ids (uint16 from 257 classes on); for a batch
        `(n, height, width)`, for a list a list.

    Raises:
        ValueError: a picture is no uint8 RGB array or not of the model's channels, the models know
            different classes or read files in different ways, or one answers NaN.
    """
    if hasattr(images, "classes"):
        words = "predict_folder labels all of it, evaluate scores it, split[i] is a pair"
        raise ValueError(f"expected pictures, received a {type(images).__name__}: {words}")
    scorer, is_list = get_scorer(model, flip=flip, tile=tile), isinstance(images, list | tuple)
    if not is_list and np.ndim(images) != 4:
        return _label_pictures(scorer, [images], thresholds)[0]
    # Tiles are batches by themselves, and pictures of any size may differ.
    count = 1 if scorer.in_tiles or None in scorer.size else count_together(scorer.size)
    labels = []
    for start in show_progress(range(0, len(images), count), desc="predicting", unit="batch"):
        labels += _label_pictures(scorer, images[start:][:count], thresholds)
    return labels if is_list else np.array(labels, scorer.dtype).reshape(images.shape[:3])


def predict_probabilities(model, image: np.ndarray, *, flip=False, tile=None) -> np.ndarray:
    """Return what `predict` chooses from: float32 `(height, width, num_classes)` of one picture.

    The probability of the ignored class is 0.
    """
    scorer = get_scorer(model, flip=flip, tile=tile)
    image = take_picture(scorer, image)
    planes = np.zeros((*image.shape[:2], scorer.num_classes), np.float32)
    for _, place, scores in _score_pictures(scorer, [image]):
        planes[place][..., list(scorer.ids)] = _enlarge(scores, planes[place].shape[:2])
    return planes


def predict_heads(model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Predict where boundaries between classes are in a picture, and which classes it shows.

    Args:
        model: keras.Model from `create_unetpp_model(heads=…)`.
        image: as in `predict`.

    Returns:
        dict of the heads that the model has, float32 probabilities: "boundary" `(height, width)`,
        for `separate_instances`; "presence" `(num_classes,)`, meaningless for the ignored class.

    Raises:
        ValueError: there is no such head, or the model learned from windows at own scale.
    """
    scorer = get_scorer(model)
    if scorer.native:
        raise ValueError("the model learned from windows, and heads are of whole pictures alone")
    image = take_picture(scorer, image)
    size = image.shape[:2]
    scores = _compile(model, _create_heads).predict_on_batch(_fit_pictures(scorer, [image]))
    answers = {task: values[0] for task, values in scores.items()}
    if "boundary" in answers:
        shown = cut_padding(answers["boundary"], size, fit=scorer.fit)
        answers["boundary"] = _enlarge(shown, size)[..., 0]
    return answers


def combine_scales(model, scales: Sequence[float] = (1, 1.5)) -> Scorer:
    """Average the probabilities of a model over several picture sizes.

    Larger sizes find small objects, smaller sizes large ones. Sizes beyond those of training
    (`scale` of its `Augmentation`) gain nothing. Chen et al. 2018, "Encoder-Decoder with Atrous
    Separable Convolution for Semantic Image Segmentation", section 4 ("MS").

    Args:
        model: keras.Model with one input size.
        scales: numbers > 0, the sizes as multiples of the model's own.

    Returns:
        Scorer with weights of its own, a model for `predict`, `evaluate` and `predict_video`.
    """
    from seglib.models import resize_model

    scorer = get_scorer(model)
    if None in scorer.size:
        raise ValueError("the model takes any size: first resize_model(model, (height, width))")
    sizes = sorted(tuple(round(scale * side) for side in scorer.size) for scale in scales)
    parts = [get_scorer(resize_model(model, size)) for size in sizes]
    # A tile shows as much of a picture as in training.
    shown = scorer.size if scorer.native else sizes[-1]

    def score(batch):
        answers = []
        for part in parts:
            pictures = np.stack([resize_image(picture, part.size) for picture in batch])
            answers.append([_enlarge(answer, shown) for answer in part.score(pictures)])
        return np.mean(answers, axis=0)

    return dataclasses.replace(parts[-1], score=score, size=shown)


def evaluate(
    model, split: Split, *, flip=False, tile=None, thresholds=None, seed: int = 0
) -> Report:
    """Score a model on the pairs of a split, at the pictures' own sizes.

    Args:
        model, flip, tile, thresholds: as in `predict`.
        split: Split with at least one pair.
        seed: int, of the bootstrap intervals.

    Returns:
        Report; its latency is that of `predict` on one picture, without reading it.

    Raises:
        ValueError: the split is empty, or of other classes than the model.
    """
    labelled = label_split(model, split, flip=flip, tile=tile, thresholds=thresholds)
    return create_report(labelled, split.classes, names=split.names, seed=seed)


def label_split(model, split: Split, *, flip=False, tile=None, thresholds=None) -> Iterator[tuple]:
    """Yield true labels, predicted labels and the milliseconds of `predict` for each pair."""
    scorer = get_scorer(model, classes=split.classes, flip=flip, tile=tile)
    split = read_as_learned(split, scorer)
    for i in show_progress(range(len(split)), desc="evaluating", unit="image"):
        image, labels = split[i]
        if i == 0:
            predict(scorer, image, thresholds=thresholds)  # compiles, which is no latency
        start = time.perf_counter()
        predicted = predict(scorer, image, thresholds=thresholds)
        yield labels, predicted, 1e3 * (time.perf_counter() - start)


def read_as_learned(split: Split, scorer: Scorer) -> Split:
    """Return a split whose photographs are read as those that the model was trained on."""
    return split if scorer.pixels == RGB else dataclasses.replace(split, pixels=scorer.pixels)


def get_scorer(model, *, classes: ClassTable | None = None, flip=False, tile=None) -> Scorer:
    """Return the Scorer of a model or list; ValueError if it is known to be of other `classes`."""
    if isinstance(model, list | tuple):
        return _average(model, classes, flip=flip, tile=tile)
    scorer = model if isinstance(model, Scorer) else _create_scorer(model)
    scorer = scorer if classes is None else _fit_classes(scorer, classes)
    scorer = scorer if tile is None else dataclasses.replace(scorer, tile=tile)
    if not flip:
        return scorer

    def score(batch):
        mirrored = scorer.score(np.ascontiguousarray(batch[:, :, ::-1]))
        return (scorer.score(batch) + mirrored[:, :, ::-1]) / 2

    return dataclasses.replace(scorer, score=score)


def _average(models, classes, **options):
    """Return the Scorer that averages the probabilities of models at the pictures' own size."""
    parts = [get_scorer(model, classes=classes, **options) for model in models]
    kinds = dict.fromkeys((x.classes and x.classes.names, x.ids, x.pixels) for x in parts)
    if len(kinds) != 1:
        found = " and ".join(map(str, kinds)) or "an empty list"
        raise ValueError(f"expected models of the same classes and pixels, received {found}")

    def score(batch):
        sums = [sum(predict_probabilities(part, image) for part in parts) for image in batch]
        return np.stack(sums)[..., list(parts[0].ids)] / np.float32(len(parts))

    return dataclasses.replace(parts[0], score=score, size=(None, None), tile=False)


def _fit_classes(scorer, classes):
    """Return the scorer of a table's classes; ValueError where it is known to be of others."""
    if scorer.classes in (classes, fit_classes(classes, fit=scorer.fit)):
        return scorer
    if scorer.classes is not None or scorer.num_classes != classes.num_classes:
        known = scorer.classes.names if scorer.classes else f"{scorer.num_classes} classes"
        raise ValueError(f"the model was trained for {known}, the data have {classes.names}")

    def score(batch):
        scores = scorer.score(batch)[..., list(classes.scored_ids)]
        return scores / np.maximum(scores.sum(axis=-1, keepdims=True), 1e-12)

    return dataclasses.replace(scorer, score=score, classes=classes)


def _create_scorer(model):
    from seglib.models import known_head

    known = known_head(model)
    return Scorer(
        score=_compile(model, create_probabilities).predict_on_batch,
        size=model.input_shape[1:3],
        fit=known.fit,
        num_classes=model.outputs[-1].shape[-1],
        classes=known.classes,
        channels=model.input_shape[3],
        pixels=known.pixels,
        native=known.native,
    )


def create_probabilities(model):
    """Return the network from pictures to probabilities of the classes that are not ignored."""
    import keras

    from seglib.models import class_heads, known_head

    logits, classes = model.outputs[-1], known_head(model).classes
    if logits.shape[-1] == 1:
        advice = "give its last layer a channel for each class, the background included"
        raise ValueError(f"the model answers in one channel, as of a sigmoid: {advice}")
    size = [side or 64 for side in model.input_shape[1:3]]
    if not class_heads(model) and are_probabilities(answer_noise(model, size)[-1]):
        logits = keras.ops.log(logits + 1e-7)  # of a model that ends in softmax or sigmoid
    if classes is not None and len(classes.scored_ids) < logits.shape[-1]:
        logits = keras.ops.take(logits, np.array(classes.scored_ids), axis=-1)
    return keras.Model(model.inputs[0], keras.ops.softmax(logits), name=model.name)


def answer_noise(model, size: Sequence[int]) -> list[np.ndarray]:
    """Return what each output of a keras model answers to two pictures of noise of a size."""
    import keras

    shape = 2, *size, model.inputs[0].shape[-1]
    noise = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    try:
        answers = keras.tree.flatten(model(noise, training=False))
    except Exception as error:  # Keras raises many kinds
        words = str(error).strip().partition("\n")[0]
        raise ValueError(f"{model.name!r} takes no pictures of {shape[1:]}: {words}") from error
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in answers]


def are_probabilities(scores: np.ndarray) -> bool:
    """Return whether the scores of noise look like the answer of a softmax or sigmoid."""
    return bool(scores.min() >= 0 and 0 < scores.max() <= 1)


def take_picture(scorer: Scorer, picture: ArrayLike | str | os.PathLike) -> np.ndarray:
    """Return the uint8 array `(height, width, channels)` of a picture, or of its file's path."""
    if isinstance(picture, str | os.PathLike):
        picture = images.read_image(picture, scorer.pixels)
    picture = np.asarray(picture)
    # What is no such array already holds values as in the files that the model learned from.
    is_ready = picture.dtype == np.uint8 and picture.shape[2:] == (scorer.channels,)
    if not is_ready and scorer.pixels != RGB and picture.ndim in (2, 3):
        picture = scorer.pixels.convert(picture)
    check_picture(picture, scorer.channels)
    return picture


def check_picture(picture: np.ndarray, channels: int = 3) -> None:
    """Raise ValueError unless a picture is a uint8 array of so many channels."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != channels:
        kind = f"uint8{' RGB' * (channels == 3)} picture (height, width, {channels})"
        found = f"{picture.dtype} {picture.shape}: read it with seglib.read_image"
        raise ValueError(f"expected a {kind}, received {found}")


def label_probabilities(probabilities: np.ndarray, size: tuple, ids: Sequence[int]) -> np.ndarray:
    """Return the ids `(height, width)` of probabilities `(rows, columns, k)`, resized bilinearly.

    Only where the four neighbours of a pixel differ, at a few percent, probabilities are computed.
    """
    ids = np.array(ids, np.min_scalar_type(max(ids)))
    best = probabilities.argmax(axis=-1).astype(ids.dtype)
    if probabilities.shape[:2] == tuple(size):
        return ids[best]
    above, below, down = _find_neighbors(best.shape[0], size[0])
    left, right, across = _find_neighbors(best.shape[1], size[1])
    padded = np.pad(best, ((0, 1), (0, 1)), mode="edge")
    differ = (padded[1:, :-1] != best) | (padded[:-1, 1:] != best) | (padded[1:, 1:] != best)
    labels = np.empty(size, ids.dtype)
    for top in range(0, size[0], BAND):  # of a large picture, not all at once
        band = np.s_[top : top + BAND]
        labels[band] = best[above[band]][:, left]
        rows, columns = np.nonzero(differ[above[band]][:, left])
        sides = []
        for y in (above[band][rows], below[band][rows]):
            start, end = probabilities[y, left[columns]], probabilities[y, right[columns]]
            sides.append(start + across[columns, None] * (end - start))
        mixed = sides[0] + down[band][rows, None] * (sides[1] - sides[0])
        labels[band][rows, columns] = mixed.argmax(axis=-1)
        labels[band] = ids[labels[band]]
    return labels


def _label_pictures(scorer, pictures, thresholds):
    """Return the label map of each picture."""
    if thresholds is not None:
        return [apply_thresholds(predict_probabilities(scorer, x), thresholds) for x in pictures]
    pictures = [take_picture(scorer, picture) for picture in pictures]
    maps = [np.empty(picture.shape[:2], scorer.dtype) for picture in pictures]
    for i, place, scores in _score_pictures(scorer, pictures):
        maps[i][place] = label_probabilities(scores, maps[i][place].shape, scorer.ids)
    return maps


def _score_pictures(scorer, pictures):
    """Yield pictures' numbers, places in them and their probabilities, at the scorer's scale."""
    if scorer.in_tiles:
        for i, picture in enumerate(pictures):
            yield from ((i, *scored) for scored in _score_tiles(scorer, picture))
    else:
        for i, scores in enumerate(_score(scorer, _fit_pictures(scorer, pictures))):
            yield i, np.s_[:, :], cut_padding(scores, pictures[i].shape[:2], fit=scorer.fit)


def _score(scorer, batch):
    """Return the probabilities of a batch; one pixel tells whether all are NaN."""
    scores = scorer.score(batch)
    if np.isnan(scores[0, scores.shape[1] // 2, scores.shape[2] // 2]).any():
        advice = "load an earlier one, or train anew at a lower learning_rate"
        raise ValueError(f"the model answers NaN, as its weights hold NaN or infinity: {advice}")
    return scores


def _fit_pictures(scorer, pictures):
    """Return pictures as one batch of the scorer's size; where it takes any, of the first's."""
    height, width, _ = pictures[0].shape
    target = scorer.size[0] or height, scorer.size[1] or width
    return np.stack([fit_image(picture, target, fit=scorer.fit) for picture in pictures])


def _score_tiles(scorer, picture):
    """Yield places and their probabilities, at the picture's own scale, of blended tiles.

    Large pictures are blended block by block; a tile in several blocks is scored for each.
    """
    learned = scorer.native[0] if scorer.native else (128, 128)
    rows, columns = tile = [side or own for side, own in zip(scorer.size, learned, strict=True)]
    height, width, _ = picture.shape
    if height < rows or width < columns:
        missing = (0, max(0, rows - height)), (0, max(0, columns - width)), (0, 0)
        picture = np.pad(picture, missing, mode="symmetric")
    ramps = (np.sin(np.pi * (np.arange(side) + 0.5) / side) for side in tile)
    window = (np.outer(*ramps) ** 2)[..., None].astype(np.float32)
    tops, lefts = map(_start_tiles, picture.shape[:2], tile)
    side = int(np.sqrt(BUFFER / (4 * len(scorer.ids))))
    count = min(count_together(tile), side**2 // window.size or 1)
    blocks = [*itertools.product(range(0, height, side), range(0, width, side))]
    options = {"desc": "labelling", "unit": "block", "leave": False}
    for top, left in show_progress(blocks, **options) if len(blocks) > 1 else blocks:
        bottom, right = min(top + side, height), min(left + side, width)
        above = tops[(tops < bottom) & (tops + rows > top)]
        before = lefts[(lefts < right) & (lefts + columns > left)]
        corners = [*itertools.product(above, before)]
        scores = np.zeros((bottom - top, right - left, len(scorer.ids)), np.float32)
        weights = np.zeros((*scores.shape[:2], 1), np.float32)
        for start in range(0, len(corners), count):
            some = corners[start:][:count]
            batch = np.stack([picture[y : y + rows, x : x + columns] for y, x in some])
            for (y, x), answer in zip(some, _score(scorer, batch), strict=True):
                shown = np.s_[max(0, top - y) : bottom - y, max(0, left - x) : right - x]
                low, far = y + rows - top, x + columns - left
                place = np.s_[max(0, y - top) : low, max(0, x - left) : far]
                scores[place] += (_enlarge(answer, tile) * window)[shown]
                weights[place] += window[shown]
        scores /= weights
        yield np.s_[top:bottom, left:right], scores


def _start_tiles(length, side):
    """Evenly spaced starts of tiles that cover a length and overlap by at least half."""
    count = 1 + -(-2 * (length - side) // side)
    return np.linspace(0, length - side, count).round().astype(int)


def count_together(size):
    """How many pictures of a size are scored in one batch, so that it fits into memory."""
    return max(1, min(BATCH_SIZE, BATCH_PIXELS // int(np.prod(size))))


def _compile(model, create):
    """Return the network that `create` makes of a model, compiled once for its scored classes."""
    from seglib.losses import choose_jit
    from seglib.models import known_head

    known, classes = _networks.setdefault(model, {}), known_head(model).classes
    key = create, classes and classes.scored_ids
    if key not in known:
        known[key] = create(model)
        known[key].compile(jit_compile=choose_jit())
    return known[key]


def _create_heads(model):
    """Return the network from pictures to the answers of all heads but segmentation, by name."""
    import keras

    from seglib.models import task_layers

    layers = [layer for layer in task_layers(model) if layer and layer.task != "segmentation"]
    heads = {layer.task: keras.ops.sigmoid(layer.output) for layer in layers}
    if not heads:
        advice = 'create the model with heads=("segmentation", "boundary", "presence")'
        raise ValueError(f"the model has no heads beside segmentation: {advice}")
    return keras.Model(model.inputs, heads)


def _enlarge(values, size):
    """Resize the first two axes of `(rows, columns, k)` linearly, the edges kept."""
    for axis, length in enumerate(size):
        if values.shape[axis] != length:
            below, above, share = _find_neighbors(values.shape[axis], length)
            first, second = values.take(below, axis), values.take(above, axis)
            share = share[:, None, None] if axis == 0 else share[:, None]
            values = first + share * (second - first)
    return values


def _find_neighbors(source, length):
    """Between which of `source` places each of `length` lies, and how far from the first."""
    position = ((np.arange(length) + 0.5) * source / length - 0.5).clip(0, source - 1)
    before = np.minimum(position.astype(int), max(source - 2, 0))
    return before, np.minimum(before + 1, source - 1), (position - before).astype(np.float32)


# Cleaning up: new arrays of the same shape and dtype, without any class that was not there


class Thresholds(NamedTuple):
    """What `fit_thresholds` finds for each class: arrays `(k,)` that `apply_thresholds` takes."""

    thresholds: np.ndarray  # float32, the least probability of a pixel
    min_sizes: np.ndarray  # int, the least pixels of a region


def apply_thresholds(probabilities: ArrayLike, thresholds) -> np.ndarray:
    """Turn probabilities into labels, with a threshold that each class has to reach.

    A pixel takes the most probable class that reaches its threshold, or the most probable of all
    where none does. Raise the threshold of a class that is predicted too often.

    Args:
        probabilities: float array `(..., k)`, such as `(height, width, k)`.
        thresholds: array `(k,)`, or dict `{id: float}`, 0 for the others; or Thresholds, and then
            the small regions of `(height, width)` labels are removed too.

    Returns:
        uint8 array `(...)`, uint16 where an id is above 255; of equal classes the lower id.
    """
    if isinstance(thresholds, Thresholds):
        labels = apply_thresholds(probabilities, thresholds.thresholds)
        return remove_small_regions(labels, min_size=dict(enumerate(thresholds.min_sizes)))
    probabilities = np.asarray(probabilities)
    # In the dtype of the probabilities, as a float32 0.7 is below a float64 one.
    limits = np.zeros(probabilities.shape[-1], probabilities.dtype)
    if isinstance(thresholds, dict):
        limits[list(thresholds)] = list(thresholds.values())
    else:
        limits[:] = thresholds
    # A class of probability 0, such as the ignored one, reaches no threshold.
    reached = (probabilities >= limits) & (probabilities > 0)
    allowed = np.where(reached, probabilities, -np.inf).argmax(axis=-1)
    labels = np.where(reached.any(axis=-1), allowed, probabilities.argmax(axis=-1))
    return labels.astype(np.min_scalar_type(len(limits) - 1))


def fit_thresholds(probabilities, labels, *, ignore_label=None, regions=False):
    """Choose what each class has to reach, for `apply_thresholds`.

    Classes are fitted one after the other, the most frequent first, each to the best of 0, 0.1 …
    0.9 given the others. Fit on pictures that are not used for the final scores, such as those of
    `predict_out_of_fold`.

    Args:
        probabilities: float array `(..., k)`; with `regions` a list of `(height, width, k)`.
        labels: int array `(...)`, or list of `(height, width)`. Pixels of the id `ignore_label` do
            not count.
        regions: False fits thresholds, `(k,)` float32, to the highest mean IoU. True fits
            Thresholds, with the smallest region of each class too, to the highest mean Dice a
            picture and class, as `class_dice` counts it.
    """
    if not regions:  # all pixels are as of one picture
        probabilities, labels = np.asarray(probabilities, np.float32), np.asarray(labels)
        valid = labels != ignore_label
        probabilities, labels = [probabilities[valid]], [labels[valid]]
    num_classes, candidates = probabilities[0].shape[-1], np.arange(10) / 10
    thresholds = np.zeros(num_classes, np.float32)
    counting = {"num_classes": num_classes, "ignore_label": ignore_label}

    def score():  # a row for each smallest region, a column for each class
        maps = (apply_thresholds(np.float32(planes), thresholds) for planes in probabilities)
        if regions:
            return score_min_sizes(zip(labels, maps, strict=True), MIN_SIZES, **counting)
        matrix = confusion_matrix(labels[0], next(maps), **counting)
        return np.array([[mean_iou(matrix, ignore_label=ignore_label)]])

    counts = sum(np.bincount(x[x != ignore_label], minlength=num_classes) for x in labels)
    for label in show_progress(np.argsort(-counts, kind="stable"), desc="fitting", unit="class"):
        scores = []
        for thresholds[label] in candidates:
            scores.append(score().max(axis=0).mean())
        thresholds[label] = candidates[np.argmax(scores)]
    if not regions:
        return thresholds
    return Thresholds(thresholds, MIN_SIZES[score().argmax(axis=0)])


def morph_labels(labels: ArrayLike, operation: str, *, radius: float = 1) -> np.ndarray:
    """Grow, shrink or smooth the regions of all classes, the most frequent class first.

    Args:
        labels: int array `(height, width)`.
        operation: "dilation" grows each class by a disk; where two meet, the rarer one wins.
            "erosion" shrinks it; lost pixels take the nearest other class. "opening" erodes, then
            dilates, which drops thin parts. "closing" dilates, then erodes, which bridges gaps.
        radius: float, pixels, of the disk.
    """
    if operation not in MORPHOLOGY:
        raise ValueError(f"expected one of {', '.join(MORPHOLOGY)}, received {operation!r}")
    before, labels = _copy_labels(labels), _copy_labels(labels)
    for class_id in _order_classes(before):
        # Were it grown from its present extent, a rare class could be gone before its turn.
        mask = (before if operation in ("dilation", "closing") else labels) == class_id
        morphed = mask
        for step in MORPHOLOGY[operation]:
            morphed = _dilate(morphed, radius) if step == "+" else ~_dilate(~morphed, radius)
        _take_nearest(labels, mask & ~morphed, source=~mask)
        labels[morphed] = class_id
    return labels


def remove_small_regions(labels: ArrayLike, *, min_size: int | dict[int, int]) -> np.ndarray:
    """Replace regions that are too small by the class of the nearest pixel outside such regions.

    Args:
        labels: int array `(height, width)`. Pixels of a region touch at a side or a corner.
        min_size: int, pixels; or dict `{id: int}`, 0 for the others. Smaller regions go, unless
            all are smaller.
    """
    labels = _copy_labels(labels)
    regions, ids, areas = find_regions(labels)
    if isinstance(min_size, dict):
        min_size = np.array([min_size.get(i, 0) for i in ids.tolist()])
    small = (areas < min_size)[regions]
    if not small.all():
        _take_nearest(labels, small, source=~small)
    return labels


def fill_holes(labels: ArrayLike) -> np.ndarray:
    """Fill what a class encloses with that class, the most frequent class first.

    A hole is a region of any other classes, connected by sides (not corners), that does not reach
    the border of the `(height, width)` labels.
    """
    labels = _copy_labels(labels)
    for class_id in _order_classes(labels):
        others, _ = ndimage.label(labels != class_id)
        border = np.concatenate([others[0], others[-1], others[:, 0], others[:, -1]])
        labels[~np.isin(others, border)] = class_id
    return labels


def _copy_labels(labels):
    labels = np.array(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        received = f"{labels.dtype} {labels.shape}, call it once for each image"
        raise ValueError(f"expected integer ids (height, width), received {received}")
    return labels


def _order_classes(labels):
    ids, counts = np.unique(labels, return_counts=True)
    return ids[np.argsort(-counts, kind="stable")]


def _dilate(mask, radius):
    return morphology.isotropic_dilation(mask, radius) & mask.any()  # nothing grows from nothing


def _take_nearest(labels, lost, *, source):
    """Give pixels in `lost` the label of the nearest pixel in `source`, in place."""
    if lost.any():
        near = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
        labels[lost] = labels[tuple(near[:, lost])]


# Objects


class Instances(NamedTuple):
    """What `separate_instances` finds; bottom and right are one past an object, as in slices."""

    instances: np.ndarray  # int32 `(height, width)`: the number of each object, 0 elsewhere
    counts: dict[int, int]  # class id: number of objects, of each class that was looked at
    boxes: pd.DataFrame  # by the objects' numbers: class, top, left, bottom, right, pixels


def separate_instances(
    labels: ArrayLike, boundary=None, *, class_ids=None, min_size: int = 8, threshold: float = 0.5
) -> Instances:
    """Number the objects of a label map.

    Without a boundary map an object is a region of one class. With one, boundaries cut a region:
    the parts between them grow, over the weakest boundaries first, until they meet (a watershed;
    Meyer 1994, "Topographic distance and watershed lines"). A region that boundaries fill
    stays one object.

    Args:
        labels: int array `(height, width)`, as of `seglib.predict`.
        boundary: float array `(height, width)` in [0, 1], as of `seglib.predict_heads`, or None.
        class_ids: ints, the classes that have objects. None: all of them.
        min_size: int, pixels. Smaller parts do not grow, and smaller objects are left out.
        threshold: float. The boundary map cuts where it is at least this.

    Example:
        >>> labels = [[1, 1, 0, 2], [0, 0, 0, 2], [1, 0, 0, 2]]
        >>> found = separate_instances(labels, class_ids=[1, 2], min_size=2)
        >>> found.instances
        array([[1, 1, 0, 2],
               [0, 0, 0, 2],
               [0, 0, 0, 2]], dtype=int32)
    """
    labels = _copy_labels(labels)
    class_ids = [int(i) for i in (np.unique(labels) if class_ids is None else class_ids)]
    instances, owners = np.zeros(labels.shape, np.int32), []
    for class_id in class_ids:
        objects = _separate(labels == class_id, boundary, min_size, threshold)
        instances[objects > 0] = objects[objects > 0] + len(owners)
        owners += [class_id] * int(objects.max())
    boxes = pd.DataFrame(measure.regionprops_table(instances, properties=("bbox", "num_pixels")))
    boxes.columns = ["top", "left", "bottom", "right", "pixels"]
    boxes.insert(0, "class", np.array(owners, int))
    boxes.index = pd.RangeIndex(1, len(owners) + 1, name="instance")
    return Instances(instances, {i: owners.count(i) for i in class_ids}, boxes)


def _separate(mask, boundary, min_size, threshold):
    """Number the objects of a mask from 1 on."""
    objects = measure.label(mask, connectivity=2)
    if boundary is not None:
        boundary = np.asarray(boundary, np.float32)
        parts = _drop_small(measure.label(mask & (boundary < threshold), connectivity=1), min_size)
        whole = ~np.isin(objects, objects[parts > 0])  # none of its parts is left
        parts = np.where(mask & whole, objects + parts.max(), parts)
        objects = segmentation.watershed(boundary, parts, mask=mask, connectivity=2)
    return segmentation.relabel_sequential(_drop_small(objects, min_size))[0]


def _drop_small(objects, min_size):
    return np.where(np.bincount(objects.ravel())[objects] < min_size, 0, objects)
