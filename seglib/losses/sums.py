"""Losses made of others."""

import keras
from keras import ops

from seglib.losses.overlaps import Dice
from seglib.losses.pixels import CrossEntropy
from seglib.losses.truth import valid_shares


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

    Ignored pixels are zeros in the truth and in the probabilities or logits.

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
        truth, valid = valid_shares(y_true, y_pred, self.ignore_label)
        if not self.loss.get_config().get("from_logits", False):
            # Not quite 0: Keras' cross-entropies divide by the sum over the classes.
            y_pred = ops.maximum(ops.softmax(y_pred) * valid, 1e-7)
        else:
            y_pred = ops.where(valid > 0, y_pred, 0.0)  # a constant teaches nothing
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
