"""Losses for label maps: from logits, with class weights and an ignored label.

The truth is a label map, int `(batch, height, width)` or `(batch, height, width, 1)`, or, as
mixup makes it, the share of each class, float `(batch, height, width, num_classes)`, all zeros
where a pixel is ignored. Predictions are logits `(batch, height, width, num_classes)`. Pixels
whose id is `ignore_label` (int or None) do not count.
"""

import copy
import platform
import re
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from seglib.classes import check_ignore_label

register = keras.saving.register_keras_serializable(package="seglib")


class LabelLoss(keras.losses.Loss):
    """Base of all losses. `settings` name the attributes that make up a loss's configuration."""

    settings = ("ignore_label",)

    def __init__(self, ignore_label: int | None = None, name: str | None = None, **kwargs):
        words = re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
        super().__init__(name=name or words, **kwargs)
        self.ignore_label = check_ignore_label(ignore_label)

    def get_config(self):
        return {**super().get_config(), **{name: getattr(self, name) for name in self.settings}}


@register
class CrossEntropy(LabelLoss):
    """Softmax cross-entropy, the weighted mean over all pixels that count; 0 without any.

    Args:
        class_weights: `(num_classes,)` finite numbers ≥ 0, or None for equal weights.
    """

    settings = ("class_weights", "ignore_label")
    gamma = 0.0

    def __init__(self, class_weights: Sequence[float] | None = None, ignore_label=None, **kwargs):
        super().__init__(ignore_label, **kwargs)
        self.class_weights = check_weights(class_weights)

    def call(self, y_true, y_pred):
        by_class = ops.convert_to_tensor(self.class_weights or [1.0] * y_pred.shape[-1])
        if is_shares(y_true):
            costs = -ops.log_softmax(y_pred)
            weights = ops.cast(y_true, y_pred.dtype) * by_class
        else:
            labels, valid = valid_labels(y_true, y_pred, self.ignore_label)
            costs = ops.sparse_categorical_crossentropy(labels, y_pred, from_logits=True)
            weights = valid * ops.take(by_class, labels)
        if self.gamma:
            costs = ops.maximum(-ops.expm1(-costs), 1e-7) ** self.gamma * costs
        return divide(ops.sum(costs * weights), ops.sum(weights))


@register
class Focal(CrossEntropy):
    """Cross-entropy in which a pixel counts less the surer its class is already.

    Args:
        class_weights: as in `CrossEntropy`.
        gamma: number ≥ 0. A pixel counts by (1 − probability of its class) to this power.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5.
    """

    settings = ("class_weights", "ignore_label", "gamma")

    def __init__(self, class_weights=None, ignore_label=None, gamma: float = 2.0, **kwargs):
        super().__init__(class_weights, ignore_label, **kwargs)
        self.gamma = gamma


@register
class Tversky(LabelLoss):
    """1 − the Tversky index, averaged over the classes that the batch's truth holds.

    The index is TP / (TP + `alpha` FP + `beta` FN), each summed over the whole batch. The overlap
    with a share is the smaller of share and probability, so that equal ones score 1.

    Args:
        alpha, beta: numbers ≥ 0, not both 0. 0.5 and 0.5 are Dice, 1 and 1 the Jaccard index; a
            larger `beta` finds more of a class.
        gamma: number > 0. Each class's loss is raised to 1 / gamma: above 1, nearly correct
            classes keep larger gradients (focal Tversky).

    Source: Salehi et al. 2017, "Tversky loss function for image segmentation", section 2; Abraham &
    Khan 2019, "A Novel Focal Tversky Loss Function With Improved Attention U-Net", equation 4.
    """

    settings = ("ignore_label", "alpha", "beta", "gamma")

    def __init__(self, ignore_label=None, alpha=0.3, beta=0.7, gamma=1.0, **kwargs):
        super().__init__(ignore_label, **kwargs)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def call(self, y_true, y_pred):
        truth, valid = valid_shares(y_true, y_pred, self.ignore_label)
        probabilities = ops.softmax(y_pred) * valid
        overlap = ops.minimum if is_shares(y_true) else ops.multiply  # the same for ids
        overlap = ops.sum(overlap(probabilities, truth), axis=(0, 1, 2))
        pixels = ops.sum(truth, axis=(0, 1, 2))
        claimed = ops.sum(probabilities, axis=(0, 1, 2))
        errors = self.alpha * (claimed - overlap) + self.beta * (pixels - overlap)
        losses = divide(errors, overlap + errors)
        if self.gamma != 1:
            losses = ops.maximum(losses, 1e-7) ** (1 / self.gamma)  # finite slope at 0
        present = ops.cast(pixels > 0, y_pred.dtype)
        return divide(ops.sum(losses * present), ops.sum(present))


@register
class Dice(Tversky):
    """1 − the soft Dice score, averaged over the classes that the batch's truth holds.

    Source: Milletari et al. 2016, "V-Net", section 3, with plain sums in the denominator as in
    Sudre et al. 2017; shares as in Wang et al. 2023, "Dice Semimetric Losses".
    """

    settings = ("ignore_label",)

    def __init__(self, ignore_label=None, **kwargs):
        super().__init__(ignore_label, alpha=0.5, beta=0.5, **kwargs)


@register
class LovaszSoftmax(LabelLoss):
    """1 − the Jaccard index, made smooth, averaged over the classes that the truth holds.

    It sorts all pixels by their errors, class by class: slower than other losses.

    Source: Berman et al. 2018, "The Lovász-Softmax loss", algorithm 1 and equation 11.
    """

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
        pixels = ops.sum(ordered, axis=-1, keepdims=True)
        found = pixels - ops.cumsum(ordered, axis=-1)
        union = pixels + ops.cumsum(others, axis=-1)
        jaccard = 1 - divide(found, union)  # the loss if this error and all larger ones are made
        slopes = ops.concatenate([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], axis=-1)
        present = ops.cast(ops.sum(truth, axis=-1) > 0, y_pred.dtype)
        losses = ops.sum(errors * ops.stop_gradient(slopes), axis=-1)
        return divide(ops.sum(losses * present), ops.sum(present))


@register
class CrossEntropyDice(CrossEntropy):
    """Weighted cross-entropy plus `dice_weight` times Dice: exact pixels and whole classes."""

    settings = ("class_weights", "ignore_label", "dice_weight")

    def __init__(self, class_weights=None, ignore_label=None, dice_weight: float = 1.0, **kwargs):
        super().__init__(class_weights, ignore_label, **kwargs)
        self.dice_weight = dice_weight

    def call(self, y_true, y_pred):
        dice = Dice(self.ignore_label).call(y_true, y_pred)
        return super().call(y_true, y_pred) + self.dice_weight * dice


@register
class BoundaryLoss(LabelLoss):
    """Cross-entropy of whether pixels lie on a boundary, from logits `(batch, height, width, 1)`.

    A pixel is on a boundary if one of its four neighbours has another label; ignored ones make no
    boundary. With shares, the target is 1 minus the overlap of the shares of the two pixels.
    """

    def call(self, y_true, y_pred):
        if is_shares(y_true):
            labels = ops.cast(y_true, y_pred.dtype)
            valid = ops.sum(labels, axis=-1)
        else:
            labels, valid = valid_labels(y_true, y_pred, self.ignore_label)
        truth = ops.zeros_like(valid)
        for axis in (1, 2):
            first, second = ((slice(None),) * axis + (part,) for part in (np.s_[:-1], np.s_[1:]))
            known = ops.minimum(valid[first], valid[second])
            if is_shares(y_true):
                same = ops.sum(ops.minimum(labels[first], labels[second]), axis=-1)
            else:
                same = known * ops.cast(labels[first] == labels[second], known.dtype)
            for ends in ((1, 0), (0, 1)):  # of the second pixel, and of the first
                padding = [ends if i == axis else (0, 0) for i in range(3)]
                truth = ops.maximum(truth, ops.pad(known - same, padding))
        return _binary_cross_entropy(truth, valid, y_pred[..., 0])


@register
class PresenceLoss(LabelLoss):
    """Cross-entropy of whether a picture has each class, from logits `(batch, num_classes)`.

    The ignored class does not count, nor a picture that is ignored as a whole. With shares, a
    class is present by its largest share.
    """

    def call(self, y_true, y_pred):
        shares, valid = valid_shares(y_true, y_pred[:, None, None], self.ignore_label)
        truth, valid = ops.max(shares, axis=(1, 2)), ops.max(valid, axis=(1, 2))
        asked = np.arange(y_pred.shape[-1]) != self.ignore_label
        valid = valid * ops.convert_to_tensor(asked, y_pred.dtype)  # (batch, num_classes)
        return _binary_cross_entropy(truth, valid, y_pred)


def _binary_cross_entropy(truth, valid, logits):
    """Mean cross-entropy of logits where `truth` out of `valid` is true."""
    losses = truth * ops.softplus(-logits) + (valid - truth) * ops.softplus(logits)
    return divide(ops.sum(losses), ops.sum(valid))


@register
class WrappedLoss(LabelLoss):
    """The mean of what another keras loss, or a function of (labels, logits), returns."""

    def __init__(self, loss, ignore_label=None, name=None, **kwargs):
        self.loss = keras.saving.deserialize_keras_object(loss) if isinstance(loss, dict) else loss
        super().__init__(ignore_label, name or getattr(self.loss, "name", None), **kwargs)

    def call(self, y_true, y_pred):
        return self.loss(y_true, y_pred)

    def get_config(self):
        return {**super().get_config(), "loss": keras.saving.serialize_keras_object(self.loss)}


@register
class OneHotLoss(WrappedLoss):
    """One of Keras' own losses, which take one-hot truth, on label maps and logits."""

    def call(self, y_true, y_pred):
        truth, valid = valid_shares(y_true, y_pred, self.ignore_label)
        if self.loss.get_config().get("from_logits"):
            return self.loss(truth, ops.where(valid > 0, y_pred, 0.0))  # a constant teaches nothing
        # Not quite 0: Keras' cross-entropies divide by the sum over the classes.
        return self.loss(truth, ops.maximum(ops.softmax(y_pred) * valid, 1e-7))


@register
class UncertainLoss(WrappedLoss):
    """A loss that counts less the more uncertain its task is: exp(−s) loss + s / 2.

    `log_variance`, s = log σ², is a number or a keras.Variable that the model learns.

    Source: Kendall, Gal & Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses for
    Scene Geometry and Semantics", section 3.2.
    """

    def __init__(self, loss, log_variance=0.0, **kwargs):
        super().__init__(loss, **kwargs)
        self.log_variance = log_variance

    def call(self, y_true, y_pred):
        s = ops.convert_to_tensor(self.log_variance, dtype="float32")
        return ops.exp(-s) * self.loss(y_true, y_pred) + s / 2

    def get_config(self):
        s = float(ops.convert_to_numpy(self.log_variance))
        return {**super().get_config(), "log_variance": s}


def create_loss(
    loss: str | keras.losses.Loss | Callable | None,
    *,
    ignore_label: int | None,
    num_classes: int,
    class_weights: Sequence[float] | None = None,
    soft: bool = False,
) -> keras.losses.Loss:
    """Create the loss on label maps and logits that `loss=` of `seglib.train` asks for.

    Keras' own losses get `ignore_label`, and one-hot truth where they take it. `soft` tells whether
    the truth may be shares of classes.
    """
    if loss is None:
        return CrossEntropyDice(check_weights(class_weights, num_classes), ignore_label)
    if class_weights is not None:
        raise ValueError(
            "class_weights are for the cross-entropy of loss=None: give them to the loss itself, "
            "such as seglib.losses.CrossEntropy(class_weights)"
        )
    own = vars(keras.losses)
    kinds = {key.lower(): kind for key, kind in own.items() if isinstance(kind, type)}
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", "")
    is_named = name == loss or own.get(name) is loss  # such as keras.losses.dice
    if is_named:
        kind = kinds.get(name.replace("_", "").lower())
        if kind is None:
            raise ValueError(f"expected loss to be a name of keras.losses, received {loss!r}")
        loss = kind()
    if not isinstance(loss, keras.losses.Loss):
        return WrappedLoss(loss)
    kind, config = type(loss), loss.get_config()
    if config.get("from_logits") is False:
        if not is_named:
            call = f"keras.losses.{kind.__name__}(from_logits=True)"
            raise ValueError(f"the models return logits: give {call}")
        config["from_logits"] = True
    if kind not in kinds.values():
        return loss
    if kind is not keras.losses.SparseCategoricalCrossentropy:
        return OneHotLoss(kind.from_config(config), ignore_label)
    if soft:  # it takes ids alone
        return CrossEntropy(None, ignore_label)
    if config["ignore_class"] is None:
        config["ignore_class"] = ignore_label
    return kind.from_config(config)


def check_weights(weights: Sequence[float] | None, count: int | None = None, what="classes"):
    """Return weights as a list, None as it is; ValueError if they cannot weigh so many."""
    if weights is None:
        return None
    array = np.asarray(weights, np.float32)
    fits = array.shape == (count or len(array),) and (array >= 0).all()
    if not fits or not 0 < array.sum() < np.inf:
        expected = f"a weight ≥ 0 for each of {count or 'the'} {what}, not all 0"
        raise ValueError(f"expected {expected}, received {weights}")
    return array.tolist()


def is_shares(y_true):
    """Return whether the truth is shares of classes, not ids."""
    return len(y_true.shape) == 4 and y_true.shape[-1] != 1


def valid_shares(y_true, y_pred, ignore_label):
    """Return shares `(batch, height, width, num_classes)`, 0 where ignored; how much they count."""
    if is_shares(y_true):
        shares = ops.cast(y_true, y_pred.dtype)
        return shares, ops.sum(shares, axis=-1, keepdims=True)
    labels, valid = valid_labels(y_true, y_pred, ignore_label)
    shares = ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype) * valid[..., None]
    return shares, valid[..., None]


def valid_labels(y_true, y_pred, ignore_label):
    """Return labels as int32 `(batch, height, width)`, 0 where ignored; 1.0 where they count."""
    labels = ops.cast(y_true, "int32")
    if len(labels.shape) == len(y_pred.shape):
        labels = ops.squeeze(labels, axis=-1)
    if ignore_label is None:
        return labels, ops.ones_like(labels, dtype=y_pred.dtype)
    valid = ops.not_equal(labels, ignore_label)
    return ops.where(valid, labels, 0), ops.cast(valid, y_pred.dtype)


def divide(total, count):
    """Return `total / count`, and 0 where nothing was counted (a total of 0 as well)."""
    return total / ops.maximum(count, 1e-7)


def compile_loss(loss: keras.losses.Loss) -> keras.losses.Loss:
    """Return a loss that is compiled, with its gradient, on a processor."""
    compiled = copy.copy(loss)
    compiled.call = compile_on_processor(loss.call)
    return compiled


def compile_on_processor(function: Callable) -> Callable:
    """Compile a function of tensors by XLA, under TensorFlow on a processor."""
    if keras.backend.backend() != "tensorflow" or find_device()[0] != "cpu":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def choose_jit() -> bool | str:
    """Return the `jit_compile` of `keras.Model.compile`.

    On GPUs XLA would compile TensorFlow's steps anew for each size of pictures, for minutes.
    """
    return False if keras.backend.backend() == "tensorflow" else "auto"


def find_device():
    """Return the kind ("gpu", "tpu" or "cpu"), name and compute capability of the first device."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        for kind in ("TPU", "GPU"):
            for device in tf.config.list_physical_devices(kind):
                details = tf.config.experimental.get_device_details(device)
                name = details.get("device_name", kind)
                return kind.lower(), name, details.get("compute_capability", ())
    elif backend == "jax":
        import jax

        device = jax.local_devices()[0]
        kind = {"cuda": "gpu"}.get(device.platform, device.platform)
        if kind != "cpu":
            capability = str(getattr(device, "compute_capability", "")).split(".")
            return kind, device.device_kind, capability
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():  # in float32, as it is untested there
            return "gpu", torch.cuda.get_device_name(), ()
    return "cpu", f"{platform.machine()} processor", ()
