"""Losses of tasks beside segmentation; their truth is drawn from the same label maps."""

import keras
from keras import ops

from seglib.losses.truth import divide, valid_labels, valid_shares


@keras.saving.register_keras_serializable(package="seglib")
class BoundaryLoss(keras.losses.Loss):
    """Cross-entropy of whether a pixel lies on a boundary, the mean over all pixels that count.

    It does where one of its four neighbours in the picture has another label. Ignored pixels do
    not count, and make no boundary. Where the truth is shares of classes, a pixel is a boundary by
    as much as the shares of two neighbours do not overlap.

    Args:
        ignore_label: int or None. Pixels with this id do not count.

    `y_true` are ids or shares of classes, `y_pred` logits `(batch, height, width, 1)`.
    """

    def __init__(self, ignore_label=None, name="boundary", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        truth, valid = true_boundaries(y_true, y_pred, self.ignore_label)
        losses = _cross_entropy(truth, valid, y_pred[..., 0])
        return divide(ops.sum(losses), ops.sum(valid))

    def get_config(self):
        return {**super().get_config(), "ignore_label": self.ignore_label}


@keras.saving.register_keras_serializable(package="seglib")
class PresenceLoss(keras.losses.Loss):
    """Cross-entropy of whether each class is in the picture, the mean over pictures and classes.

    The ignored class does not count, nor a picture without any pixel that does. Where the truth
    is shares of classes, a class is there by its largest share.

    Args:
        ignore_label: int or None. Pixels with this id do not count.

    `y_true` are ids or shares of classes, `y_pred` logits `(batch, num_classes)`.
    """

    def __init__(self, ignore_label=None, name="presence", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        shares, valid = valid_shares(y_true, y_pred[:, None, None], self.ignore_label)
        truth, valid = ops.max(shares, axis=(1, 2)), ops.max(valid, axis=(1, 2))
        taught = ops.not_equal(
            ops.arange(y_pred.shape[-1]), -1 if self.ignore_label is None else self.ignore_label
        )
        valid = valid * ops.cast(taught, y_pred.dtype)  # (batch, num_classes)
        return divide(ops.sum(_cross_entropy(truth, valid, y_pred)), ops.sum(valid))

    def get_config(self):
        return {**super().get_config(), "ignore_label": self.ignore_label}


@keras.saving.register_keras_serializable(package="seglib")
class UncertainLoss(keras.losses.Loss):
    """A loss that counts the less, the more uncertain its task is: exp(−s) loss + s / 2.

    Args:
        loss: keras loss.
        log_variance: keras.Variable that is learned with the model, s = log σ²; or a number.
            Out of its configuration comes the number that the variable was.

    Source: Kendall, Gal & Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses for
    Scene Geometry and Semantics", section 3.2, as for classification.
    """

    def __init__(self, loss, log_variance=0.0, name=None, **kwargs):
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        super().__init__(name=name or loss.name, **kwargs)
        self.loss, self.log_variance = loss, log_variance

    def call(self, y_true, y_pred):
        s = ops.convert_to_tensor(self.log_variance, dtype="float32")
        return ops.exp(-s) * self.loss(y_true, y_pred) + s / 2

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        s = float(ops.convert_to_numpy(self.log_variance))
        return {**super().get_config(), "loss": loss, "log_variance": s}


def true_boundaries(y_true, y_pred, ignore_label):
    """How much each pixel is a boundary, and how much it counts, both `(batch, height, width)`."""
    if len(y_true.shape) == 4 and y_true.shape[-1] != 1:
        labels = ops.cast(y_true, y_pred.dtype)
        valid = ops.sum(labels, axis=-1)
    else:
        labels, valid = valid_labels(y_true, y_pred, ignore_label)
    truth = ops.zeros_like(valid)
    for axis in (1, 2):
        before, after = _cut(axis, None, -1), _cut(axis, 1, None)
        known = ops.minimum(valid[before], valid[after])
        differ = known - _overlap(labels[before], labels[after], known)
        for ends in ((1, 0), (0, 1)):  # of the pixel after, and of the pixel before
            padding = [(0, 0)] * 3
            padding[axis] = ends
            truth = ops.maximum(truth, ops.pad(differ, padding))
    return truth, valid


def _overlap(first, second, known):
    """How much two neighbours are of the same class; of ids, 1 or 0 where both are known."""
    if len(first.shape) == 4:
        return ops.sum(ops.minimum(first, second), axis=-1)
    return known * ops.cast(ops.equal(first, second), known.dtype)


def _cut(axis, start, stop):
    return (slice(None),) * axis + (slice(start, stop),)


def _cross_entropy(truth, valid, logits):
    """Of logits, where `truth` out of `valid` is true."""
    return truth * ops.softplus(-logits) + (valid - truth) * ops.softplus(logits)
