"""Networks that were trained on ImageNet, as the descending side of a U-Net++."""

import keras

from seglib.encoders.applications import create_application
from seglib.encoders.lite import create_lite0

__all__ = ["create_encoder", "encoder_layers", "freeze_encoder"]


def create_encoder(name, input_shape, *, weights="imagenet", levels=5, seed=0):
    """Create a network from pictures to feature maps of falling resolution.

    Sizes that do not divide are padded inside; each network's own normalization stands inside.

    Args:
        name: "efficientnet_lite0", or a name of keras.applications in any case, such as
            "ResNet50", "MobileNetV2", "EfficientNetV2B0".
        input_shape: `(height, width, 3)`, None for sizes that vary.
        weights: "imagenet", path of a file of weights, or None for random ones. ImageNet's come
            from an installed package for EfficientNet-Lite0; for the others Keras downloads them,
            unless the folder that the environment variable KERAS_HOME names has them.
        levels: int from 1 to 5.
        seed: int, from which random weights are drawn.

    Returns:
        keras.Model, images (batch, height, width, 3) in [0, 255] to a list of maps at strides
        2, 4, … 2 to the power of `levels`. The names of its layers start with "encoder_".

    Raises:
        ValueError: the name is unknown, the network has no map at one of the strides, or the file
            is not of this network.
        ModuleNotFoundError, OSError: the weights are not there; the message says how to get them.
    """
    if not 1 <= levels <= 5:
        raise ValueError(f"expected 1 to 5 levels of an encoder, received {levels}")
    options = {"weights": weights, "levels": levels, "seed": seed}
    if name.lower() == "efficientnet_lite0":
        return create_lite0(input_shape, **options)
    return create_application(name, input_shape, **options)


def encoder_layers(model):
    """Return the layers of a model's encoder, in the order of the data; none without one."""
    return [layer for layer in model.layers if layer.name.startswith("encoder_")]


def freeze_encoder(model, upto=None):
    """Keep an encoder's weights as they are while the rest learns; call it before training.

    Frozen normalization layers use the statistics they have and leave them alone. What is not
    frozen costs a step much time: the first layers work on the largest maps.

    Args:
        model: keras.Model with an encoder. `layer.trainable = True` undoes it.
        upto: int or None. Row of the deepest node X(upto, 0) that is frozen: 0 for the layers up
            to the map at stride 2, 1 up to stride 4; None for the whole encoder.

    Raises:
        ValueError: the model has no encoder, or no such row.
    """
    frozen = encoder_layers(model)
    if not frozen:
        raise ValueError("the model has no encoder: create it with encoder=…")
    if upto is not None:
        frozen = encoder_layers(keras.Model(model.inputs, _find_map(model, upto)))
    for layer in frozen:
        layer.trainable = False


def _find_map(model, row):
    """The tensor X(row, 0): what its row's first node joins, or the deepest node enlarges."""
    names = {layer.name for layer in model.layers}
    if f"x_{row}_1_join" in names:
        return model.get_layer(f"x_{row}_1_join").input[0]
    if f"x_{row - 1}_1_up" in names:
        return model.get_layer(f"x_{row - 1}_1_up").input
    rows = sum(name.startswith("x_") and name.endswith("_1_join") for name in names)
    if not rows:
        raise ValueError(f"{model.name} has no rows X(i, 0): freeze its whole encoder, upto=None")
    raise ValueError(f"expected a row from 0 to {rows}, received {row}")
