"""What can be done to a model after it was made: cut, copied, told its classes."""

import json

import keras
import numpy as np
from keras import layers

from seglib.images import check_fit
from seglib.models.blocks import ClassLogits
from seglib.models.heads import TaskLogits


def check_model(model):
    """Raise TypeError unless something is a Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"expected a keras.Model, received a {type(model).__name__}: "
            "seglib.load_model(folder) loads one, and a Run has it as run.model"
        )


def prune(model, level):
    """Cut a U-Net++ at one of its heads: the smaller model that ends there.

    Args:
        model: keras.Model with deep supervision.
        level: int, 1 for X(0, 1) up to the number of heads.

    Returns:
        keras.Model with weights of its own and one output, equal to that head's. Other tasks
        than segmentation are cut off.

    Raises:
        ValueError: the model is no U-Net++, or has no such head.

    Source: Zhou et al. 2020, section III-C.
    """
    check_model(model)
    if model.name != "unetpp":
        raise ValueError(
            f"{model.name} has no smaller models inside that could be cut out: only U-Net++ has, "
            "see create_unetpp_model"
        )
    heads = [layer.name for layer in model.layers if isinstance(layer, ClassLogits)]
    levels = [int(name.removeprefix("head_")) for name in heads]
    if level not in levels:
        raise ValueError(
            f"expected a level of {levels}, the heads of this model, received {level}; heads "
            "before the last need create_unetpp_model(deep_supervision=True)"
        )
    output = model.get_layer(f"head_{level}").output
    return copy_model(keras.Model(model.input, output, name=model.name))


def copy_weights(source, target):
    """Give `target` the weights of the layers of `source` that have its names and shapes.

    Heads are left alone unless both models know the same classes, or none.

    Returns:
        list of the names of the layers with weights that were left as they were.
    """
    known = {layer.name: layer for layer in source.layers}
    same_classes = model_classes(source) == model_classes(target)
    skipped = []
    for layer in target.layers:
        weights = [weight.shape for weight in layer.weights]
        other = known.get(layer.name)
        is_class_head = layer.name.endswith("_classes")
        if other is None or weights != [weight.shape for weight in other.weights]:
            skipped += [layer.name] * bool(weights)
        elif is_class_head and not same_classes:
            skipped.append(layer.name)
        else:
            layer.set_weights(other.get_weights())
    return skipped


def reweight_classes(model, weights):
    """Copy a model so that the probability of each class is weighed, and all add up to 1 again.

    With inverse frequencies as weights it answers as if all classes had been as common as each
    other in training; with powers of them, as something in between. Nothing is trained.

    Args:
        model: keras.Model from `create_…_model`.
        weights: `(num_classes,)` numbers ≥ 0, such as of `seglib.class_weights`. What has the
            weight 0 is never answered, unless all have.

    Returns:
        keras.Model with weights of its own.

    Raises:
        ValueError: the weights are no finite numbers ≥ 0, or not one for each class.

    Source: Menon et al. 2021, "Long-tail learning via logit adjustment", section 4.1.
    """
    weights, num_classes = np.asarray(weights, np.float32), model.outputs[-1].shape[-1]
    if weights.shape != (num_classes,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"expected a finite weight of at least 0 for each of {num_classes} classes, "
            f"received {weights.tolist()}"
        )
    copy = copy_model(model)
    heads = [layer for layer in copy.layers if isinstance(layer, ClassLogits)]
    if not heads:
        raise ValueError("the model has no head of seglib's: expected one of create_…_model")
    for head in heads:
        before = 0 if head.offsets is None else np.array(head.offsets)
        head.offsets = (before + np.log(np.maximum(weights, 1e-30))).tolist()
    return copy


def set_model_classes(model, classes, *, fit="stretch"):
    """Tell a model which classes its scores are of; it is saved with the model.

    Args:
        model: keras.Model.
        classes: ClassTable.
        fit: "stretch" or "letterbox", how the pictures that it learns from were prepared, and
            pictures will be brought to its size when it predicts.

    Raises:
        ValueError: the model has another number of classes, or `fit` is neither.
    """
    check_fit(fit)
    if model.outputs[-1].shape[-1] != classes.num_classes:
        raise ValueError(
            f"the model has {model.outputs[-1].shape[-1]} classes but the class table "
            f"{classes.num_classes}: create it with num_classes={classes.num_classes}"
        )
    for layer in model.layers:
        if isinstance(layer, ClassLogits):
            layer.classes, layer.fit = classes, fit


def model_classes(model):
    """Return the ClassTable that a model was trained for, or None if it knows none."""
    check_model(model)
    for layer in model.layers:
        if isinstance(layer, ClassLogits) and layer.classes is not None:
            return layer.classes
    return None


def model_fit(model):
    """Return how pictures are brought to a model's size: "stretch" or "letterbox"."""
    fits = [layer.fit for layer in model.layers if isinstance(layer, ClassLogits)]
    return fits[0] if fits else "stretch"


def set_precision(model, policy):
    """Let a model compute in `policy`, such as "mixed_bfloat16"; weights stay float32.

    One that simulates int8 stays in float32: bfloat16 would round before it does, to as few digits.
    """
    policy = "float32" if rounds(model) else policy
    for layer in model.layers:
        if not isinstance(layer, ClassLogits | TaskLogits):
            layer.dtype_policy = "float32" if _is_slow(layer, policy) else policy
    model.dtype_policy = policy


def rounds(model):
    """Return whether a model simulates int8, as `simulate_int8` makes it."""
    check_model(model)
    return any(getattr(layer, "rounds", False) for layer in model.layers)


def refuse_rounding(model):
    """Raise ValueError where a model simulates int8."""
    if rounds(model):
        raise ValueError(
            f"{model.name} simulates int8: take the plain model, seglib.drop_int8(model)"
        )


def _is_slow(layer, policy):
    """In bfloat16 a processor takes 2 to 4 times as long for gradients of depthwise kernels."""
    is_depthwise = isinstance(layer, layers.DepthwiseConv2D) and policy == "mixed_bfloat16"
    return is_depthwise and not getattr(layer, "is_fast", False)


def clone_layers(model, change):
    """Return a network of what `change` makes of each layer, without loss and optimizer."""
    bare = keras.Model(model.input, model.output, name=model.name)
    return keras.models.clone_model(bare, clone_function=change)


def copy_model(model):
    """Return the same model with weights of its own."""
    return _create_copy(json.loads(json.dumps(model.get_config())), model)


def resize_model(model, size):
    """Copy a model so that it takes pictures of another size.

    What is larger than in training is found less well at a larger size, what is smaller better.

    Args:
        model: keras.Model from `create_…_model`.
        size: `(height, width)`, pixels.

    Returns:
        keras.Model with weights of its own.

    Raises:
        ValueError: `size` is not two whole numbers ≥ 1.
    """
    check_model(model)
    if np.shape(size) != (2,) or not all(
        isinstance(side, int | np.integer) and side >= 1 for side in size
    ):
        raise ValueError(f"expected a size of (height, width) in pixels, received {size!r}")
    config = json.loads(json.dumps(model.get_config()))
    for layer in config["layers"]:
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_shape"][1:3] = [int(side) for side in size]
    return _create_copy(config, model)


def _create_copy(config, model):
    copy = keras.Model.from_config(config)
    copy.set_weights(model.get_weights())
    return copy
