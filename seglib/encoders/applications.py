"""Backbones of keras.applications, told apart by name alone."""

import contextlib
import itertools
import os
import random
import re
import sys

import keras
import numpy as np
from keras import layers, ops

from seglib.encoders.padding import PadToMultiple

PROBE = 224  # the size of most of their weights; halves five times without a remainder


def create_application(name, input_shape, *, weights="imagenet", levels=5, seed=0):
    """Create a backbone up to its feature maps; see `seglib.encoders.create_encoder`.

    The map of a resolution is what its last layer makes. The backbone's own preprocessing
    stands inside, so that raw pictures go in.
    """
    create, preprocess = _find_application(name)
    with _keep_random_state():
        image = keras.Input((PROBE, PROBE, 3))
        # Zeros are about the mean there, but black for those that preprocess inside.
        x = PadToMultiple(2**levels, name="pad")(_preprocess(image, preprocess))
        backbone = _create(create, name, weights, x)
        original = keras.Model(image, _find_maps(name, backbone, levels))
    return _copy(original, keras.Input(input_shape, name="image"), seed, weights is not None)


def application_names():
    """Return the names of the backbones that Keras brings."""
    return [name for name in dir(keras.applications) if name[0].isupper()]


def _find_application(name):
    known = {known.lower(): known for known in application_names()}
    if name.lower() not in known:
        raise ValueError(
            f'expected "efficientnet_lite0" or a name of keras.applications such as "ResNet50", '
            f'"MobileNetV2" or "EfficientNetV2B0", received {name!r}'
        )
    create = getattr(keras.applications, known[name.lower()])
    return create, getattr(sys.modules[create.__module__], "preprocess_input", None)


def _create(create, name, weights, x):
    if weights not in (None, "imagenet") and not os.path.isfile(weights):
        raise FileNotFoundError(
            f"there is no file {weights} with weights of {name}: give its path, "
            '"imagenet" to have Keras download them, or None to start from random ones'
        )
    if weights not in (None, "imagenet") and name.lower().startswith("efficientnetb"):
        raise ValueError(
            f'{name} with weights of a path lacks a scaling that Keras adds for "imagenet" alone: '
            "put the file into models/ of a folder that KERAS_HOME names, or take EfficientNetV2B0"
        )
    try:
        return create(
            include_top=False, weights=weights if weights is None else str(weights), input_tensor=x
        )
    except Exception as error:  # Keras raises many kinds, and plain Exception for downloads
        if weights is None:
            raise
        raise OSError(
            f"the weights {weights!r} of {name} could not be loaded ({error}). Without a network, "
            "download the file without the top once, attach it (on Kaggle as a data set), and give "
            "encoder_weights its path; or point the environment variable KERAS_HOME at a folder "
            "that has it in models/ before Keras is imported"
        ) from error


def _preprocess(x, preprocess):
    """Layers for a function of a backbone's, which is linear in each channel.

    What it makes of black and of each of the primary colours tells which one.
    """
    probe = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype("float32")
    black, *primaries = np.asarray(preprocess(probe.reshape(4, 1, 3)))[:, 0]
    slopes = (np.array(primaries) - black) / 255
    order = np.abs(slopes).argmax(axis=0)
    scale = slopes[order, range(3)]
    if (order != range(3)).any():
        x = ops.flip(x, axis=-1)
    if (scale != 1).any() or black.any():
        x = layers.Rescaling(scale.tolist(), offset=black.tolist(), name="scale")(x)
    return x


def _find_maps(name, backbone, levels):
    maps = {}
    for layer in backbone.layers:
        shape = getattr(layer.output, "shape", ())
        if len(shape) == 4 and shape[1] == shape[2] and PROBE % shape[1] == 0:
            maps[PROBE // shape[1]] = layer.output
    wanted = [2**level for level in range(1, levels + 1)]
    if any(stride not in maps for stride in wanted):
        raise ValueError(
            f"{name} has no feature maps at some of the strides {wanted}, only at "
            f"{sorted(maps)}: choose another encoder, such as ResNet50 or EfficientNetV2B0"
        )
    return [maps[stride] for stride in wanted]


def _copy(original, image, seed, keep_weights):
    """Make a backbone anew on another input, its layers and weights seglib's own."""
    seeds, numbers, pairs = itertools.count(seed * 10_000 + 5_000), itertools.count(), []

    def copy_layer(layer):
        if not isinstance(layer, layers.Layer):  # an operation, which some versions do not name
            return type(layer).from_config(layer.get_config())
        name = f"encoder_{_stable_name(layer, numbers)}"
        if isinstance(layer, layers.Normalization):  # it loses its numbers with set_weights
            deviation = np.sqrt(ops.convert_to_numpy(layer.variance)).ravel()
            offset = -ops.convert_to_numpy(layer.mean).ravel() / deviation
            return layers.Rescaling((1 / deviation).tolist(), offset=offset.tolist(), name=name)
        config = {**layer.get_config(), "name": name}
        if isinstance(layer, layers.BatchNormalization):
            config["momentum"] = 0.9  # as in the decoder; MobileNetV2 has 0.999
        _set_seeds(config, seeds)
        pairs.append((layer, type(layer).from_config(config)))
        return pairs[-1][1]

    copy = keras.models.clone_model(original, input_tensors=image, clone_function=copy_layer)
    if keep_weights:
        for layer, twin in pairs:
            twin.set_weights(layer.get_weights())
    return copy


def _stable_name(layer, numbers):
    """A layer's name, counted anew where Keras counts through all models of a session."""
    name = re.sub(r"_\d+$", "", layer.name)
    is_automatic = name.replace("_", "") == type(layer).__name__.lower()
    return f"{name}_{next(numbers)}" if is_automatic else layer.name


def _set_seeds(config, seeds):
    for key, value in config.items():
        if key == "seed":
            config[key] = next(seeds)
        elif isinstance(value, dict) and "seed" in value.get("config", {}):
            value["config"]["seed"] = next(seeds)


@contextlib.contextmanager
def _keep_random_state():
    """Keras draws seeds of layers from Python's global generator."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
