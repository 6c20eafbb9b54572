"""Scores of the weights that would be kept, measured while a model trains."""

import json
import os

import keras
import numpy as np

from seglib import metrics
from seglib.caching import PreparedSplit
from seglib.images import resize_image
from seglib.losses import choose_jit
from seglib.masks import resize_labels
from seglib.models import set_precision
from seglib.training.checkpoints import replacing
from seglib.training.variables import averaged_weights, inner_optimizer

LARGEST_BATCH = 16


class Snapshot:
    """A copy of the model with the weights that are validated and kept: averaged ones under EMA.

    Args:
        model: keras.Model that trains.
        loss: keras loss.
        policy: dtype policy to compute in.
    """

    def __init__(self, model, loss, policy):
        self.loss, self.policy = loss, policy
        self.model = type(model).from_config(json.loads(json.dumps(model.get_config())))
        self.scorer = keras.Model(self.model.inputs, self.model.outputs[-1])
        self.scorer.compile(jit_compile=choose_jit())

    def update(self, model):
        """Take over the weights of the model that trains."""
        for source, target in zip(model.weights, self.model.weights, strict=True):
            target.assign(keras.ops.copy(source))  # JAX gives away the memory of what it shares
        optimizer = inner_optimizer(model)
        if optimizer.use_ema:
            averages = averaged_weights(optimizer)
            for average, target in zip(averages, self.model.trainable_variables, strict=True):
                target.assign(keras.ops.copy(average))

    def validate(self, split, *, batch_size, should_stop=lambda: False):
        """Return the scores of a split, see `validate`; None if it was told to stop."""
        set_precision(self.model, self.policy)
        return validate(
            self.scorer, split, self.loss, batch_size=batch_size, should_stop=should_stop
        )

    def save(self, file):
        """Write the model, in float32, beside and rename it."""
        set_precision(self.model, "float32")
        with replacing(file) as temporary:
            self.model.save(temporary)
            with open(temporary, "rb+") as stream:
                os.fsync(stream.fileno())


def validate(scorer, split, loss, *, batch_size, should_stop=lambda: False):
    """Return loss, pixel accuracy and mean IoU of a model on a prepared split.

    Args:
        scorer: keras.Model with one output, logits.
        split: PreparedSplit.
        loss: keras loss.
        batch_size: int.
        should_stop: function without arguments, asked before each batch.

    Returns:
        dict of floats, or None if it was told to stop.
    """
    ignore_label, num_classes = split.classes.ignore_label, split.classes.num_classes
    not_scored = np.setdiff1d(range(num_classes), split.classes.scored_ids)
    batch_size = min(batch_size, len(split))
    total, matrix = 0.0, 0
    for start in range(0, len(split), batch_size):
        if should_stop():
            return None
        images, labels = (part[start : start + batch_size] for part in (split.images, split.labels))
        logits = predict_batch(scorer, images, batch_size)
        total += float(loss(np.asarray(labels), logits)) * len(images)
        logits[..., not_scored] = -np.inf
        matrix = matrix + metrics.confusion_matrix(
            labels, logits.argmax(axis=-1), num_classes=num_classes, ignore_label=ignore_label
        )
    return {
        "loss": total / len(split),
        "pixel_accuracy": float(metrics.pixel_accuracy(matrix)),
        "mean_iou": float(metrics.mean_iou(matrix, ignore_label=ignore_label)),
    }


def resize_split(split, size):
    """Return a split at the size of a model, where it was prepared at another one.

    The same is done as in preparing: images are resized bilinearly with antialiasing, and a
    pixel's label is the class that covers most of its area. So the scores are those at the
    model's size.

    Args:
        split: PreparedSplit.
        size: `(height, width)`; a side of None stays as it is.

    Returns:
        PreparedSplit; the same one if nothing is to be done, else one in memory.
    """
    size = tuple(
        stored if side is None else side
        for side, stored in zip(size, split.images.shape[1:3], strict=True)
    )
    if size == split.images.shape[1:3]:
        return split
    images = np.empty((len(split), *size, 3), split.images.dtype)
    labels = np.empty((len(split), *size), split.labels.dtype)
    for i in range(len(split)):
        images[i] = resize_image(split.images[i], size)
        labels[i] = resize_labels(split.labels[i], size)
    return PreparedSplit(images, labels, split.names, split.classes)


def predict_batch(scorer, images, batch_size):
    """Return the logits of up to `batch_size` images, computed in a batch of always that size.

    Another size would be compiled anew.
    """
    count = len(images)
    if count < batch_size:
        padding = np.zeros((batch_size - count, *images.shape[1:]), images.dtype)
        images = np.concatenate([images, padding])
    return np.array(scorer.predict_on_batch(np.asarray(images)))[:count]
