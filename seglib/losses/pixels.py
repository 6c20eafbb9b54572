"""Losses that judge each pixel by itself."""

import keras
import numpy as np
from keras import ops

from seglib.losses.truth import divide, is_shares, valid_labels


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
        self.class_weights = check_weights(class_weights)
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        if is_shares(y_true, y_pred):
            return self._compare_shares(ops.cast(y_true, y_pred.dtype), y_pred)
        labels, valid = valid_labels(y_true, y_pred, self.ignore_label)
        weights = valid
        if self.class_weights is not None:
            weights = valid * ops.take(ops.convert_to_tensor(self.class_weights), labels)
        losses = self.punish(-ops.sparse_categorical_crossentropy(labels, y_pred, from_logits=True))
        return divide(ops.sum(losses * weights), ops.sum(weights))

    def punish(self, log_probabilities):
        """What the logarithm of the probability of the true class costs."""
        return -log_probabilities

    def _compare_shares(self, shares, y_pred):
        if self.class_weights is not None:
            shares = shares * ops.convert_to_tensor(self.class_weights, dtype=y_pred.dtype)
        losses = ops.sum(shares * self.punish(ops.log_softmax(y_pred)))
        return divide(losses, ops.sum(shares))

    def get_config(self):
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {
            **super().get_config(),
            "class_weights": weights,
            "ignore_label": self.ignore_label,
        }


@keras.saving.register_keras_serializable(package="seglib")
class Focal(CrossEntropy):
    """Cross-entropy in which a pixel counts the less, the surer its class is already.

    Args:
        class_weights, ignore_label: as in `CrossEntropy`.
        gamma: number ≥ 0. A pixel counts by (1 − probability of its class) to this power; 0 is
            cross-entropy.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5.
    """

    def __init__(self, class_weights=None, ignore_label=None, gamma=2.0, name="focal", **kwargs):
        super().__init__(class_weights, ignore_label, name=name, **kwargs)
        self.gamma = check_number("gamma", gamma, lowest=0)

    def punish(self, log_probabilities):
        misses = -ops.expm1(log_probabilities)
        return -((ops.maximum(misses, 1e-7)) ** self.gamma) * log_probabilities

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}


def check_weights(class_weights):
    """Return weights as a float32 vector, None as it is; ValueError where they cannot weigh."""
    if class_weights is None:
        return None
    weights = np.asarray(class_weights, np.float32)
    if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"expected a finite weight of at least 0 for each class, received {class_weights}"
        )
    return weights


def check_number(name, value, *, lowest):
    """Return a number; ValueError where it is not finite or too low."""
    if not np.isfinite(value) or value < lowest:
        raise ValueError(f"expected {name} to be a finite number ≥ {lowest}, received {value}")
    return float(value)
