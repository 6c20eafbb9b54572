"""What a model answers for pictures, and how good that is."""

import dataclasses
import time
import weakref

import keras
import numpy as np
from keras import ops

from seglib.images import resize_image
from seglib.labelling import (
    Scorer,
    check_classes,
    interpolate,
    label_pictures,
    measure_probabilities,
)
from seglib.losses import choose_jit
from seglib.models import check_model, model_classes, model_fit, resize_model
from seglib.progress import show_progress
from seglib.reports import create_report

_scorers = weakref.WeakKeyDictionary()


def predict(model, images, *, flip=False, tile=False):
    """Label pictures of any size.

    A picture is reduced to the model's size (antialiased, bilinear), stretched or
    letterboxed like those that the model learned from; the class probabilities are
    enlarged bilinearly, and each pixel takes the most probable class. The ignored
    class is never answered.

    Args:
        model: keras.Model whose last output is logits, or Predictor, or of `combine_scales`.
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
    return label_pictures(get_scorer(model), images, flip=flip, tile=tile)


def predict_probabilities(model, image, *, flip=False, tile=False):
    """Return what `predict` chooses from: the probability of each class at each pixel.

    Args:
        model, flip, tile: as in `predict`.
        image: uint8 RGB array `(height, width, 3)`.

    Returns:
        float32 array `(height, width, num_classes)`; 0 for the ignored class.
    """
    return measure_probabilities(get_scorer(model), image, flip=flip, tile=tile)


def evaluate(model, split, *, flip=False, tile=False, seed=0):
    """Score a model on the pairs of a split, at the pictures' own sizes.

    Args:
        model: as in `predict`.
        split: Split with at least one pair.
        flip, tile: as in `predict`.
        seed: int, of the bootstrap intervals.

    Returns:
        Report; its latency is that of `predict` on one picture, reading not included.

    Raises:
        ValueError: the split is empty, or of other classes than the model.
    """
    check_classes(get_scorer(model), split.classes)
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


@dataclasses.dataclass(frozen=True)
class ScaledModel:
    """A model that sees pictures at several sizes, see `combine_scales`."""

    scorer: Scorer


def combine_scales(model, scales=(1, 1.5)):
    """Let a model see each picture at several sizes, and average the probabilities.

    Small things are found at the larger sizes, large ones at the smaller. It takes as long as all
    sizes one after the other.

    Args:
        model: keras.Model with one input size.
        scales: numbers > 0, the sizes as multiples of the model's own. Beyond those that it saw
            in training (`scale` of its `Augmentation`), nothing is gained.

    Returns:
        ScaledModel with weights of its own, for `predict`, `predict_probabilities`, `evaluate`
        and `predict_video`, with `flip` and `tile` if you like.

    Raises:
        ValueError: the model takes pictures of any size, or a scale is no number > 0.

    Source: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution for Semantic
    Image Segmentation", section 4 ("MS").
    """
    check_model(model)
    own = model.input_shape[1:3]
    if None in own:
        raise ValueError(
            "scales are multiples of a model's size, but this one takes pictures of any: "
            "give combine_scales what resize_model(model, (height, width)) returns"
        )
    factors = np.ravel(scales)
    is_numeric = factors.size and factors.dtype.kind in "iuf"
    if not is_numeric or not (np.isfinite(factors) & (factors > 0)).all():
        raise ValueError(f"expected scales to be numbers > 0, received {scales!r}")
    sizes = sorted(tuple(max(1, round(factor * side)) for side in own) for factor in factors)
    parts = [get_scorer(resize_model(model, size)) for size in sizes]

    def score(batch):
        answers = []
        for part in parts:
            pictures = [resize_image(picture, part.size) for picture in batch]
            answers.append(part.score(np.stack(pictures)))
            for axis, side in enumerate(sizes[-1], start=1):
                answers[-1] = interpolate(answers[-1], side, axis=axis)
        return np.mean(answers, axis=0)

    return ScaledModel(dataclasses.replace(parts[-1], score=score))


def get_scorer(model):
    """Return the Scorer of a model's last head, compiled once; of a Predictor its own.

    Args:
        model: keras.Model, or Predictor or ScaledModel, which have one.
    """
    if hasattr(model, "scorer"):
        return model.scorer
    known = model_classes(model), model_fit(model)
    if model not in _scorers or _scorers[model][0] != known:
        network = create_probabilities(model)
        network.compile(jit_compile=choose_jit())
        _scorers[model] = (
            known,
            Scorer(
                score=network.predict_on_batch,
                size=model.input_shape[1:3],
                fit=known[1],
                num_classes=model.outputs[-1].shape[-1],
                classes=known[0],
            ),
        )
    return _scorers[model][1]


def create_probabilities(model):
    """Return the network from pictures to the probabilities of a model's last head.

    Args:
        model: keras.Model whose last output is logits.

    Returns:
        keras.Model that shares the model's weights, with a plane for each class but ignored ones.
    """
    logits, classes = model.outputs[-1], model_classes(model)
    if classes is not None and len(classes.scored_ids) < logits.shape[-1]:
        logits = ops.take(logits, np.array(classes.scored_ids), axis=-1)
    return keras.Model(model.inputs[0], ops.softmax(logits), name=model.name)
