"""Losses for label maps: from logits, with class weights and an ignored label.

The truth is a label map, int `(batch, height, width)` or `(batch, height, width, 1)`, or, as
mixup makes it, the share of each class, float `(batch, height, width, num_classes)`. A pixel of
shares counts by their sum: an ignored one is all zeros.
"""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="seglib")
class CrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy, the weighted mean over all pixels that count.

    A batch without any such pixel has the loss 0.

    Args:
        class_weights: `(num_classes,)` finite numbers ≥ 0, or None for equal weights.
        ignore_label: int or None. Pixels with this id do not count.

    `y_true` are ids or shares of classes, `y_pred` logits `(batch, height, width, num_classes)`.
    """

    def __init__(self, class_weights=None, ignore_label=None, name="cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.class_weights = _check_weights(class_weights)
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        if _is_shares(y_true, y_pred):
            return self._compare_shares(ops.cast(y_true, y_pred.dtype), y_pred)
        labels, valid = _valid_labels(y_true, y_pred, self.ignore_label)
        weights = valid
        if self.class_weights is not None:
            weights = valid * ops.take(ops.convert_to_tensor(self.class_weights), labels)
        losses = ops.sparse_categorical_crossentropy(labels, y_pred, from_logits=True)
        return _divide(ops.sum(losses * weights), ops.sum(weights))

    def _compare_shares(self, shares, y_pred):
        if self.class_weights is not None:
            shares = shares * ops.convert_to_tensor(self.class_weights, dtype=y_pred.dtype)
        losses = -ops.sum(shares * ops.log_softmax(y_pred))
        return _divide(losses, ops.sum(shares))

    def get_config(self):
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {
            **super().get_config(),
            "class_weights": weights,
            "ignore_label": self.ignore_label,
        }


@keras.saving.register_keras_serializable(package="seglib")
class Dice(keras.losses.Loss):
    """1 − the soft Dice score, averaged over the classes that the batch's truth holds.

    A class is pooled over the whole batch, so that an image without it is no matter. The overlap
    with a share is the smaller of share and probability, so that equal ones score 1.

    Args:
        ignore_label: int or None. Pixels with this id do not count.

    Source: Milletari et al. 2016, "V-Net", section 3, with plain sums in the
    denominator as in Sudre et al. 2017, "Generalised Dice overlap"; shares as in
    Wang et al. 2023, "Dice Semimetric Losses".
    """

    def __init__(self, ignore_label=None, name="dice", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        truth, valid = _valid_shares(y_true, y_pred, self.ignore_label)
        probabilities = ops.softmax(y_pred) * valid
        overlap = ops.minimum if _is_shares(y_true, y_pred) else ops.multiply  # the same for ids
        overlap = ops.sum(overlap(probabilities, truth), axis=(0, 1, 2))
        pixels = ops.sum(truth, axis=(0, 1, 2))
        total = ops.sum(probabilities, axis=(0, 1, 2)) + pixels
        present = ops.cast(pixels > 0, y_pred.dtype)
        return _divide(ops.sum((1 - _divide(2 * overlap, total)) * present), ops.sum(present))

    def get_config(self):
        return {**super().get_config(), "ignore_label": self.ignore_label}


@keras.saving.register_keras_serializable(package="seglib")
class CrossEntropyDice(keras.losses.Loss):
    """Weighted cross-entropy plus Dice: exact pixels and whole classes, both.

    Args:
        class_weights: as in `CrossEntropy`.
        ignore_label: int or None. Pixels with this id do not count.
        dice_weight: number by which the Dice loss is multiplied.
    """

    def __init__(
        self,
        class_weights=None,
        ignore_label=None,
        dice_weight=1.0,
        name="cross_entropy_dice",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.cross_entropy = CrossEntropy(class_weights, ignore_label)
        self.dice = Dice(ignore_label)
        self.dice_weight = dice_weight

    def call(self, y_true, y_pred):
        cross_entropy = self.cross_entropy.call(y_true, y_pred)
        return cross_entropy + self.dice_weight * self.dice.call(y_true, y_pred)

    def get_config(self):
        return {
            **super().get_config(),
            "class_weights": self.cross_entropy.get_config()["class_weights"],
            "ignore_label": self.dice.ignore_label,
            "dice_weight": self.dice_weight,
        }


@keras.saving.register_keras_serializable(package="seglib")
class OneHotLoss(keras.losses.Loss):
    """One of Keras' own losses, which take one-hot truth, on label maps and logits.

    Ignored pixels are zeros in the truth and in the probabilities.

    Args:
        loss: keras loss on `(batch, height, width, num_classes)`, such as
            `keras.losses.Tversky(axis=(0, 1, 2))`.
        ignore_label: int or None. Pixels with this id do not count.
    """

    def __init__(self, loss, ignore_label=None, name="one_hot_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        self.loss, self.ignore_label = loss, ignore_label

    def call(self, y_true, y_pred):
        truth, valid = _valid_shares(y_true, y_pred, self.ignore_label)
        if not self.loss.get_config().get("from_logits", False):
            # Not quite 0: Keras' cross-entropies divide by the sum over the classes.
            y_pred = ops.maximum(ops.softmax(y_pred) * valid, 1e-7)
        return self.loss(truth, y_pred)

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss, "ignore_label": self.ignore_label}


def adapt_loss(loss, ignore_label=None):
    """Let a loss of Keras take label maps and logits; any other is returned as it is.

    Args:
        loss: keras loss.
        ignore_label: int or None. Pixels with this id do not count.

    Returns:
        keras loss on int labels `(batch, height, width)` and logits.
    """
    name = type(loss).__name__
    if getattr(keras.losses, name, None) is not type(loss):
        return loss
    if name != "SparseCategoricalCrossentropy":
        return OneHotLoss(loss, ignore_label)
    config = {**loss.get_config(), "from_logits": True}
    if config["ignore_class"] is None:
        config["ignore_class"] = ignore_label
    return type(loss).from_config(config)


def _is_shares(y_true, y_pred):
    alike = len(y_true.shape) == len(y_pred.shape)
    return alike and y_true.shape[-1] == y_pred.shape[-1] != 1


def _valid_shares(y_true, y_pred, ignore_label):
    """Shares `(batch, height, width, num_classes)`, 0 where ignored; and how much they count."""
    if _is_shares(y_true, y_pred):
        shares = ops.cast(y_true, y_pred.dtype)
        return shares, ops.sum(shares, axis=-1, keepdims=True)
    labels, valid = _valid_labels(y_true, y_pred, ignore_label)
    shares = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype) * valid[..., None]
    return shares, valid[..., None]


def _valid_labels(y_true, y_pred, ignore_label):
    """Labels as int32 `(batch, height, width)`, 0 where ignored; and 1.0 where they count."""
    labels = ops.cast(y_true, "int32")
    if len(labels.shape) == len(y_pred.shape):
        labels = ops.squeeze(labels, axis=-1)
    if ignore_label is None:
        return labels, ops.ones_like(labels, dtype=y_pred.dtype)
    valid = ops.not_equal(labels, ignore_label)
    return ops.where(valid, labels, 0), ops.cast(valid, y_pred.dtype)


def _divide(total, count):
    """`total / count`, and 0 where nothing was counted (a total of 0 as well)."""
    return total / ops.maximum(count, 1e-7)


def _check_weights(class_weights):
    if class_weights is None:
        return None
    weights = np.asarray(class_weights, np.float32)
    if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"expected a finite weight of at least 0 for each class, received {class_weights}"
        )
    return weights
