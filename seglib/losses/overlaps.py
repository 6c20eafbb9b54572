"""Losses that judge how far a whole class and its prediction overlap."""

import keras
from keras import ops

from seglib.losses.pixels import check_number
from seglib.losses.truth import divide, is_shares, valid_shares


@keras.saving.register_keras_serializable(package="seglib")
class Tversky(keras.losses.Loss):
    """1 − the Tversky index, averaged over the classes that the batch's truth holds.

    The index is the overlap over itself, `alpha` times what is claimed wrongly and `beta` times
    what is missed. A class is pooled over the whole batch, so that an image without it is no
    matter. The overlap with a share is the smaller of share and probability, so that equal ones
    score 1.

    Args:
        ignore_label: int or None. Pixels with this id do not count.
        alpha, beta: numbers ≥ 0, not both 0. 0.5 and 0.5 are Dice, 1 and 1 the Jaccard index; a
            larger `beta` finds more of a class.
        gamma: number ≥ 0.01. Each class's loss is raised to 1 / gamma: above 1, classes that are
            nearly found keep teaching (focal Tversky).

    Source: Salehi et al. 2017, "Tversky loss function for image segmentation using 3D fully
    convolutional deep networks", section 2; Abraham & Khan 2019, "A Novel Focal Tversky Loss
    Function With Improved Attention U-Net", equation 4.
    """

    def __init__(self, ignore_label=None, alpha=0.3, beta=0.7, gamma=1.0, name="tversky", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore_label = ignore_label
        self.alpha = check_number("alpha", alpha, lowest=0)
        self.beta = check_number("beta", beta, lowest=0)
        self.gamma = check_number("gamma", gamma, lowest=0.01)
        if not self.alpha + self.beta:
            raise ValueError("alpha and beta are both 0: nothing would be an error")

    def call(self, y_true, y_pred):
        truth, valid = valid_shares(y_true, y_pred, self.ignore_label)
        probabilities = ops.softmax(y_pred) * valid
        overlap = ops.minimum if is_shares(y_true, y_pred) else ops.multiply  # the same for ids
        overlap = ops.sum(overlap(probabilities, truth), axis=(0, 1, 2))
        pixels = ops.sum(truth, axis=(0, 1, 2))
        claimed = ops.sum(probabilities, axis=(0, 1, 2))
        errors = self.alpha * (claimed - overlap) + self.beta * (pixels - overlap)
        losses = divide(errors, overlap + errors)
        if self.gamma != 1:
            losses = ops.maximum(losses, 1e-7) ** (1 / self.gamma)  # finite slope at 0
        present = ops.cast(pixels > 0, y_pred.dtype)
        return divide(ops.sum(losses * present), ops.sum(present))

    def get_config(self):
        names = ("ignore_label", "alpha", "beta", "gamma")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="seglib")
class Dice(Tversky):
    """1 − the soft Dice score, averaged over the classes that the batch's truth holds.

    Args:
        ignore_label: int or None. Pixels with this id do not count.

    Source: Milletari et al. 2016, "V-Net", section 3, with plain sums in the
    denominator as in Sudre et al. 2017, "Generalised Dice overlap"; shares as in
    Wang et al. 2023, "Dice Semimetric Losses".
    """

    def __init__(self, ignore_label=None, name="dice", **kwargs):
        super().__init__(ignore_label, alpha=0.5, beta=0.5, name=name, **kwargs)

    def get_config(self):
        return {**keras.losses.Loss.get_config(self), "ignore_label": self.ignore_label}


@keras.saving.register_keras_serializable(package="seglib")
class LovaszSoftmax(keras.losses.Loss):
    """The Jaccard index itself, made smooth, averaged over the classes that the truth holds.

    The pixels of a batch are sorted by their errors, class by class: dearer than other losses.

    Args:
        ignore_label: int or None. Pixels with this id do not count.

    Source: Berman et al. 2018, "The Lovász-Softmax loss", algorithm 1 and equation 11.
    """

    def __init__(self, ignore_label=None, name="lovasz_softmax", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        truth, valid = valid_shares(y_true, y_pred, self.ignore_label)
        others = valid - truth  # how much of a pixel is of other classes
        truth, others, errors = (  # (classes, pixels)
            ops.transpose(ops.reshape(x, (-1, y_pred.shape[-1])))
            for x in (truth, others, ops.abs(truth - ops.softmax(y_pred) * valid))
        )
        order = ops.argsort(-ops.stop_gradient(errors), axis=-1)
        errors, ordered, others = (
            ops.take_along_axis(x, order, axis=-1) for x in (errors, truth, others)
        )
        slopes = _jaccard_slopes(ordered, others)
        present = ops.cast(ops.sum(truth, axis=-1) > 0, y_pred.dtype)
        losses = ops.sum(errors * ops.stop_gradient(slopes), axis=-1)
        return divide(ops.sum(losses * present), ops.sum(present))

    def get_config(self):
        return {**super().get_config(), "ignore_label": self.ignore_label}


def _jaccard_slopes(truth, others):
    """How much each further error costs; `(classes, pixels)` in the errors' order."""
    pixels = ops.sum(truth, axis=-1, keepdims=True)
    found = pixels - ops.cumsum(truth, axis=-1)
    union = pixels + ops.cumsum(others, axis=-1)
    jaccard = 1 - divide(found, union)
    return ops.concatenate([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], axis=-1)
