"""Networks for segmentation: raw 0–255 RGB or other channels in, logits out."""

import itertools
import json
import weakref
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from seglib.classes import ClassTable
from seglib.encoders import (
    BatchNormalization,
    PadToMultiple,
    create_encoder,
    encoder_layers,
    freeze_encoder,
    register,
)
from seglib.images import MAX_CHANNELS, RGB, Pixels, check_image_size
from seglib.losses import check_weights
from seglib.system import warn

TASKS = ("boundary", "presence", "segmentation")  # in the order of the outputs
VGG_STAGES = (2, 2, 3, 3, 3)  # convolutions of VGG-16's stages

adopted = weakref.WeakKeyDictionary()  # a user's own model -> the same with ClassLogits


class Logits(layers.Layer):
    """Scores as float32, a map cropped to the picture's size."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, scores, image):
        height, width = ops.shape(image)[1:3]
        scores = ops.cast(scores, "float32")
        return scores if len(scores.shape) == 2 else scores[:, :height, :width]

    def compute_output_shape(self, scores_shape, image_shape):
        sides = image_shape[1:3] if len(scores_shape) == 4 else ()
        return (image_shape[0], *sides, scores_shape[-1])


@register
class ClassLogits(Logits):
    """Scores of classes, and what the model learned from.

    These are the ClassTable, how pictures are brought to the model's size (`fit`), how values in a
    picture's file become channels (`pixels`), and `native`: the sizes of windows at own scale and
    of the pictures that they were cut from, `((height, width), (height, width))`, None of whole
    pictures. `offsets` are added to the scores, unless they are None.
    """

    def __init__(
        self, classes=None, fit="stretch", offsets=None, native=None, pixels=RGB, **kwargs
    ):
        super().__init__(**kwargs)
        self.classes = ClassTable(**classes) if isinstance(classes, dict) else classes
        self.fit, self.offsets = fit, offsets
        self.native = native and tuple(map(tuple, native))
        self.pixels = Pixels(**pixels) if isinstance(pixels, dict) else pixels

    def call(self, scores, image):
        scores = super().call(scores, image)
        return scores if self.offsets is None else scores + np.array(self.offsets, "float32")

    def get_config(self):
        classes = self.classes.to_dict() if self.classes else None
        config = {**super().get_config(), "classes": classes, "fit": self.fit}
        rare = {"offsets": self.offsets, "native": self.native}
        rare["pixels"] = self.pixels.to_dict() or None
        return config | {name: value for name, value in rare.items() if value is not None}


@register
class TaskLogits(Logits):
    """Scores of one of several `TASKS`; it also keeps `log_variance`, how uncertain the task is.

    `train` makes it trainable where it is to learn how much the task's loss counts.
    """

    def __init__(self, task: str, **kwargs):
        super().__init__(**{"trainable": False, **kwargs})
        self.task = task

    def build(self, scores_shape, image_shape):
        self.log_variance = self.add_weight(shape=(), initializer="zeros", name="log_variance")

    def get_config(self):
        return {**super().get_config(), "task": self.task}


@register
class Enlarge(layers.Layer):
    """Enlarge a map bilinearly by a whole factor, its edges kept (half-pixel centres).

    As `keras.layers.UpSampling2D`, which fails under TensorFlow for maps of unknown size.
    """

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        # From the middle of a pixel to those of the enlarged map.
        places = [(k + 0.5) / self.factor - 0.5 for k in range(self.factor)]
        for axis in (1, 2):
            edges = [[int(i == axis)] * 2 for i in range(4)]
            padded, every = ops.pad(x, edges, mode="symmetric"), (slice(None),) * axis
            before, after = padded[(*every, np.s_[:-2])], padded[(*every, np.s_[2:])]
            phases = [(1 - abs(p)) * x + abs(p) * (after if p > 0 else before) for p in places]
            shape = list(ops.shape(x))
            shape[axis] *= self.factor
            x = ops.reshape(ops.stack(phases, axis=axis + 1), shape)
        return x

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        return (batch, *(side and self.factor * side for side in sides), channels)


@register
class MaxPoolingWithPlaces(layers.Layer):
    """The largest of each square of 2×2 pixels, and its int32 place 0, 1, 2, 3 by rows.

    Called on a map of even sides it returns two of half the sides. Of equal values it is the first.
    """

    def call(self, x):
        batch, height, width, channels = ops.shape(x)
        x = ops.reshape(x, (batch, height // 2, 2, width // 2, 2, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        squares = ops.reshape(x, (batch, height // 2, width // 2, 4, channels))
        return ops.max(squares, axis=3), ops.argmax(squares, axis=3)

    def compute_output_spec(self, x):
        batch, height, width, channels = x.shape
        shape = (batch, *(side and side // 2 for side in (height, width)), channels)
        return keras.KerasTensor(shape, x.dtype), keras.KerasTensor(shape, "int32")


@register
class MaxUnpooling(layers.Layer):
    """Put values back to the places that `MaxPoolingWithPlaces` took them from, zeros elsewhere."""

    def call(self, x, places):
        filled = ops.expand_dims(x, 3) * ops.one_hot(places, 4, axis=3, dtype=x.dtype)
        batch, height, width, channels = ops.shape(x)
        filled = ops.reshape(filled, (batch, height, width, 2, 2, channels))
        filled = ops.transpose(filled, (0, 1, 3, 2, 4, 5))
        return ops.reshape(filled, (batch, 2 * height, 2 * width, channels))

    def compute_output_shape(self, x_shape, places_shape):
        batch, *sides, channels = x_shape
        return (batch, *(side and 2 * side for side in sides), channels)


@register
class DeepSupervised(keras.Model):
    """A network whose heads learn the same labels, in `fit` of Keras as well."""

    def compute_loss(self, x=None, y=None, y_pred=None, *others, **options):
        if isinstance(y_pred, list) and not isinstance(y, list | tuple | dict):
            y = [y] * len(y_pred)
        return super().compute_loss(x, y, y_pred, *others, **options)


def create_unetpp_model(
    input_shape: tuple,
    *,
    num_classes: int,
    filters: Sequence[int] | None = None,
    nested: bool = True,
    deep_supervision: bool = True,
    dropout: float | Sequence[float] = 0.1,
    normalization: str | None = "batch",
    convolutions: int = 2,
    stride: int = 1,
    detail: int = 0,
    attention: str | None = None,
    encoder: str | None = None,
    encoder_weights: str | None = "imagenet",
    frozen_rows: int = 0,
    frozen_depthwise: bool = False,
    heads: Sequence[str] = ("segmentation",),
    seed: int = 0,
) -> keras.Model:
    """Create U-Net++: a U-Net whose skip connections are nested, densely connected blocks.

    Node X(i, j) sees all earlier nodes of its row and the enlarged node below it, so that each
    X(0, j) ends a complete smaller U-Net. Under deep supervision each has a head; `prune` cuts the
    model at one of them. The maps of an `encoder` are the nodes X(i, 0): row 0 then works at half
    the resolution, and the heads double it.

    Args:
        input_shape: `(height, width, channels)`, None for sizes that vary; 3 channels for RGB, or
            1 to 8, as `bands` of `open_dataset` chooses them. Sizes that do not divide by 2
            to the power of the depth are padded and cropped inside.
        num_classes: int, an ignored class of the table included.
        filters: 2 to 6 ints, channels of each level from full resolution down; None for 32, 64,
            128, 256, 512. With an encoder 1 to 4 ints, channels of the decoder's rows from stride 2
            down; None for 32, 48, 64, 96.
        nested: bool. False makes the plain U-Net of the same blocks.
        deep_supervision: bool. True gives a head to each X(0, j), the last output being the final
            one; False to the last alone.
        dropout: float in [0, 1), after the two deepest blocks of the encoder; or one for each
            level from the finest down.
        normalization: "batch", or None for convolutions with a bias and no normalization.
        convolutions: 1 or 2, of each node that joins others; the paper has 2.
        stride: 1 or 2. With 2 the first convolution halves the picture, as with an encoder.
        detail: int, channels of a branch that feeds image detail to the heads when row 0 runs at
            half resolution. 0 disables it. It helps small and thin things.
        attention: None, "se" (squeeze-and-excitation) or "cbam", at the end of each block.
        encoder, encoder_weights: name and weights as of `seglib.encoders.create_encoder`, such as
            "efficientnet_lite0"; None for blocks of the model's own.
        frozen_rows: int, rows of the encoder that stay as they are, from stride 2 down; see
            `seglib.encoders.freeze_encoder`.
        frozen_depthwise: bool. True freezes all depthwise kernels of the encoder: their gradients
            cost much and change little.
        heads: "segmentation", and beside it "boundary", which pixels lie next to another class, and
            "presence", which classes are in the picture. See `seglib.predict_heads`.
        seed: int, from which all weights are drawn.

    Returns:
        keras.Model in float32, images (batch, height, width, channels) in [0, 255] to float32
        logits (batch, height, width, num_classes), one output a head. The logits of other tasks
        stand before them: boundary (batch, height, width, 1), presence (batch, num_classes).

    Raises:
        ValueError: an argument is out of its range.

    Source: Zhou et al. 2018, "UNet++: A Nested U-Net Architecture for Medical Image Segmentation",
    section 3; Zhou et al. 2020, section III (pruning, section III-C).
    """
    if filters is None:
        filters = (32, 64, 128, 256, 512) if encoder is None else (32, 48, 64, 96)
    _check_choice("stride", stride, (1, 2))
    least, most = (2, 6) if encoder is None else (1, 4)
    if not least <= len(filters) <= most:
        raise ValueError(f"expected {least} to {most} filter counts, received {filters}")
    if set(heads) - set(TASKS) or "segmentation" not in heads:
        raise ValueError(f'expected heads to be of {TASKS}, with "segmentation", received {heads}')
    if detail and stride == 1 and encoder is None:
        raise ValueError(f"detail={detail} needs stride=2: at stride 1, row 0 has every pixel")
    if (frozen_rows or frozen_depthwise) and encoder is None:
        raise ValueError("frozen_rows and frozen_depthwise need an encoder")
    if (frozen_rows or frozen_depthwise) and encoder_weights is None:
        text = "frozen layers keep random weights, unless init_from of train brings others"
        warn(text)
    depth = len(filters) - 1 if encoder is None else len(filters)  # of the deepest level, from 0
    if np.ndim(dropout) == 0:
        dropout = [dropout * (i >= max(1, depth - 1)) for i in range(depth + 1)]
    net = _Builder(input_shape, num_classes, seed, attention, normalization)
    if encoder is None:
        image, x = net.create_input(stride * 2**depth)
    else:
        image, maps = net.use_encoder(encoder, encoder_weights, depth + 1)
        stride = 2
    nodes = {}
    for i, rate in zip(range(depth + 1), dropout, strict=True):
        x = maps[i] if encoder else net.create_level(x, i, filters[i], stride)
        x = nodes[i, 0] = net.drop(x, rate, f"x_{i}_0_drop") if rate else x
        for j in range(1, i + 1) if nested or i == depth else ():  # the diagonal that i completes
            row = i - j
            name = f"x_{row}_{j}"
            up = net.enlarge(nodes[row + 1, j - 1], filters[row], f"{name}_up")
            skips = [nodes[row, k] for k in range(j if nested else 1)]
            joined = layers.Concatenate(name=f"{name}_join")([*skips, up])
            nodes[row, j] = net.block(joined, [filters[row]] * convolutions, name)

    if detail:  # squares of 2×2 pixels and their surroundings, the same for all heads
        x = layers.Rescaling(1 / 127.5, offset=-1, name="detail_scale")(image)
        x = PadToMultiple(2 ** (depth + 1), name="detail_pad")(x)
        x = net.convolve(x, detail, "detail_a", stride=2)
        seen = net.convolve(x, detail, "detail_b")

    def create_head(x, name, scores_name, channels):
        if detail:
            x = layers.Concatenate(name=f"{name}_join")([x, seen])
        # With a 1×1 convolution alone, as in the paper, heads learn the first epochs more slowly.
        x = net.convolve(x, max(filters[0], detail), name)
        if stride == 2:  # scores of the four pixels of each square of 2×2
            return net.enlarge(x, channels, scores_name, use_bias=True)
        return net.conv(channels, 1, scores_name)(x)

    outputs = []
    for j in range(1 if nested and deep_supervision else depth, depth + 1):
        scores = create_head(nodes[0, j], f"head_{j}", f"head_{j}_classes", num_classes)
        outputs.append(ClassLogits(name=f"head_{j}")(scores, image))
    tasks = []  # drawn last, so that all other weights are those of the plain model
    if "boundary" in heads:
        scores = create_head(nodes[0, depth], "boundary", "boundary_score", 1)
        tasks.append(TaskLogits("boundary", name="boundary")(scores, image))
    if "presence" in heads:
        x = layers.GlobalAveragePooling2D(name="presence_mean")(nodes[depth, 0])
        x = layers.Dense(num_classes, kernel_initializer=net.draw(), name="presence_classes")(x)
        tasks.append(TaskLogits("presence", name="presence")(x, image))
    if tasks:
        outputs[-1] = TaskLogits("segmentation", name="segmentation")(outputs[-1], image)
    outputs = [*tasks, *outputs] if tasks or len(outputs) > 1 else outputs[0]
    create = keras.Model if tasks else DeepSupervised
    model = create(image, outputs, name="unetpp" if nested else "unet")
    if frozen_rows:
        freeze_encoder(model, frozen_rows - 1)
    if frozen_depthwise:
        for layer in encoder_layers(model):
            layer.trainable &= not isinstance(layer, layers.DepthwiseConv2D)
    return model


def create_unet_model(input_shape: tuple, *, num_classes: int, **options) -> keras.Model:
    """Create the plain U-Net: `create_unetpp_model(nested=False)` with these options.

    Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical
    Image Segmentation", section 2; with padded convolutions and batch normalization.
    """
    return create_unetpp_model(input_shape, num_classes=num_classes, nested=False, **options)


def create_deeplabv3plus_model(
    input_shape: tuple,
    *,
    num_classes: int,
    filters: Sequence[int] = (32, 64, 128, 256, 512),
    rates: Sequence[int] = (6, 12, 18),
    aspp_filters: int = 256,
    encoder: str | None = None,
    encoder_weights: str | None = "imagenet",
    seed: int = 0,
) -> keras.Model:
    """Create DeepLabV3+: atrous convolutions see several scales, a small decoder sharpens edges.

    At stride 16 a 1×1 convolution, three atrous 3×3 ones and the mean of the whole map see the
    features at five scales (ASPP). The decoder joins them to the encoder's map at stride 4.

    Args:
        input_shape, num_classes, encoder, encoder_weights, seed: as of `create_unetpp_model`.
        filters: 5 ints, channels of a plain encoder at strides 1, 2, 4, 8, 16.
        rates: 3 ints, of the atrous convolutions. Small pictures want smaller ones than the
            paper's, such as 1, 2, 3.
        aspp_filters: int, channels of ASPP and decoder.

    Returns:
        keras.Model with one output, as of `create_unetpp_model`.

    Source: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
    Segmentation", section 3 and figure 2; ASPP with image pooling as in Chen et al. 2017,
    "Rethinking Atrous Convolution", section 3.3. Ordinary convolutions, not separable ones.
    """
    _check_choice("the number of filters", len(filters), (5,))
    net = _Builder(input_shape, num_classes, seed)
    if encoder is None:
        image, x = net.create_input(2**4)
        maps = []  # at strides 1, 2, 4, 8, 16
        for i, count in enumerate(filters):
            x = net.create_level(x, i, count)
            maps.append(x)
    else:
        image, maps = net.use_encoder(encoder, encoder_weights, 4)
    low, x = maps[-3], maps[-1]
    scales = [net.convolve(x, aspp_filters, "aspp_0", kernel=1)]
    for number, rate in enumerate(rates, 1):
        scales.append(net.convolve(x, aspp_filters, f"aspp_{number}", dilation=rate))
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool")(x)
    # Not normalized: of a batch of one, a map of one place has no variance.
    mean = net.conv(aspp_filters, 1, "aspp_4", activation="relu")(mean)
    scales.append(mean + ops.zeros_like(x[..., :1]))  # the same at each place
    x = layers.Concatenate(name="aspp_join")(scales)
    x = net.convolve(x, aspp_filters, "aspp", kernel=1)
    x = Enlarge(4, name="aspp_up")(net.drop(x, 0.1, "aspp_drop"))
    low = net.convolve(low, 48, "low", kernel=1)
    x = layers.Concatenate(name="decoder_join")([x, low])
    for letter in "ab":
        x = net.convolve(x, aspp_filters, f"decoder_{letter}")
    x = Enlarge(4, name="head_1_up")(net.conv(num_classes, 1, "head_1_classes")(x))
    return keras.Model(image, ClassLogits(name="head_1")(x, image), name="deeplabv3plus")


def create_fcn_model(
    input_shape: tuple,
    *,
    num_classes: int,
    filters: Sequence[int] = (32, 64, 128, 256, 256),
    hidden: int = 512,
    encoder: str | None = None,
    encoder_weights: str | None = "imagenet",
    seed: int = 0,
) -> keras.Model:
    """Create FCN-8s on VGG-16's form or on a pretrained encoder.

    Convolutions of 7×7 and 1×1 replace VGG's dense layers at stride 32. Their scores are enlarged
    and added to those of the maps at strides 16 and 8. The paper's is `filters=(64, 128, 256, 512,
    512), hidden=4096`; batch normalization lets it learn from random weights.

    Args:
        input_shape, num_classes, encoder, encoder_weights, seed: as of `create_unetpp_model`.
        filters: 5 ints, channels of the stages; not used with an encoder.
        hidden: int, channels of the two convolutions at stride 32.

    Returns:
        keras.Model with one output, as of `create_unetpp_model`.

    Source: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 4.
    """
    _check_choice("the number of filters", len(filters), (5,))
    net = _Builder(input_shape, num_classes, seed)
    if encoder is None:
        image, x = net.create_input(2**5)
        maps = []  # at strides 2, 4, 8, 16, 32
        for i, count in enumerate(VGG_STAGES):
            x = net.block(x, [filters[i]] * count, f"x_{i}_0")
            x = layers.MaxPooling2D(2, name=f"x_{i}_0_pool")(x)
            maps.append(x)
    else:
        image, maps = net.use_encoder(encoder, encoder_weights, 5)
    x = net.drop(net.convolve(maps[-1], hidden, "dense_a", kernel=7), 0.5, "dense_a_drop")
    x = net.drop(net.convolve(x, hidden, "dense_b", kernel=1), 0.5, "dense_b_drop")
    x = net.conv(num_classes, 1, "head_1_classes")(x)
    # Twice the size, by convolutions that start as bilinear interpolation and learn.
    zeros = {"padding": "same", "use_bias": False, "kernel_initializer": "zeros"}
    ramp = np.array([0.25, 0.75, 0.75, 0.25])
    for i in (4, 3):
        finer = net.conv(num_classes, 1, f"skip_{i}_classes")(maps[i - 1])
        up = layers.Conv2DTranspose(num_classes, 4, 2, name=f"skip_{i}_up_classes", **zeros)
        x = layers.Add(name=f"skip_{i}")([up(x), finer])
        up.kernel.assign(np.multiply.outer(np.outer(ramp, ramp), np.eye(num_classes)))
    x = Enlarge(8, name="head_1_up")(x)
    return keras.Model(image, ClassLogits(name="head_1")(x, image), name="fcn")


def create_segnet_model(
    input_shape: tuple,
    *,
    num_classes: int,
    filters: Sequence[int] = (32, 64, 128, 256, 256),
    seed: int = 0,
) -> keras.Model:
    """Create SegNet: VGG-16's convolutions, and the same in reverse.

    Each pooling records which pixel of its square was the largest; unpooling puts values back there
    and zeros around them. The paper's is `filters=(64, 128, 256, 512, 512)`.

    Args:
        input_shape, num_classes, seed: as of `create_unetpp_model`.
        filters: 5 ints, channels of the stages.

    Returns:
        keras.Model with one output, as of `create_unetpp_model`.

    Source: Badrinarayanan et al. 2017, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
    for Image Segmentation", section 3.
    """
    _check_choice("the number of filters", len(filters), (5,))
    net = _Builder(input_shape, num_classes, seed)
    image, x = net.create_input(2**5)
    places = []
    for i, count in enumerate(VGG_STAGES):
        x = net.block(x, [filters[i]] * count, f"x_{i}_0")
        x, place = MaxPoolingWithPlaces(name=f"x_{i}_0_pool")(x)
        places.append(place)
    for i in reversed(range(5)):
        x = MaxUnpooling(name=f"x_{i}_1_unpool")(x, places[i])
        channels = [filters[i]] * (VGG_STAGES[i] - 1)
        if i:
            channels += [filters[i - 1]]
        x = net.block(x, channels, f"x_{i}_1")
    x = net.conv(num_classes, 3, "head_1_classes")(x)
    return keras.Model(image, ClassLogits(name="head_1")(x, image), name="segnet")


MODELS = {
    "unetpp": create_unetpp_model,
    "unet": create_unet_model,
    "deeplabv3plus": create_deeplabv3plus_model,
    "fcn": create_fcn_model,
    "segnet": create_segnet_model,
}


def create_model(name: str, input_shape: tuple, *, num_classes: int, **options) -> keras.Model:
    """Create "unetpp", "unet", "deeplabv3plus", "fcn" or "segnet" by `create_<name>_model`.

    Raises:
        ValueError: there is no such network, or an argument is out of its range.
    """
    _check_choice("the name", name, tuple(MODELS))
    return MODELS[name](input_shape, num_classes=num_classes, **options)


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"expected {name} to be one of {choices}, received {value!r}")


class _Builder:
    """Makes the layers of a network; all their weights are drawn from one seed, in their order."""

    def __init__(self, input_shape, num_classes, seed, attention=None, normalization="batch"):
        if len(input_shape) != 3 or input_shape[2] not in range(1, MAX_CHANNELS + 1):
            wanted = f"(height, width, 3), or 1 to {MAX_CHANNELS} channels"
            raise ValueError(f"expected an input shape {wanted}, received {input_shape}")
        check_image_size([side or 32 for side in input_shape[:2]])
        if num_classes < 2:
            raise ValueError(f"expected at least 2 classes, received {num_classes}")
        _check_choice("attention", attention, (None, "se", "cbam"))
        self.input_shape, self.seed = tuple(input_shape), seed
        self.attention, self.normalization = attention, normalization
        self.seeds = itertools.count(seed * 10_000 + 1)

    def draw(self):
        """Return the initializer of the next layer's weights."""
        return keras.initializers.HeNormal(seed=next(self.seeds))

    def create_input(self, multiple):
        """Return the picture, and the same in [-1, 1] and padded."""
        image = keras.Input(self.input_shape, name="image")
        x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)
        return image, PadToMultiple(multiple, name="pad")(x)

    def use_encoder(self, name, weights, levels):
        """Return the picture, and an encoder's maps from stride 2 down."""
        options = {"weights": weights, "levels": levels, "seed": self.seed}
        encoder = create_encoder(name, self.input_shape, **options)
        return encoder.input, encoder.outputs

    def create_level(self, x, i, filters, stride=1):
        """Return X(i, 0), which has half the size of the level above it."""
        if i:
            x, stride = layers.MaxPooling2D(2, name=f"x_{i}_0_pool")(x), 1
        return self.block(x, [filters] * 2, f"x_{i}_0", stride)

    def drop(self, x, rate, name):
        return layers.Dropout(rate, seed=next(self.seeds), name=name)(x)

    def block(self, x, channels, name, stride=1):
        """Convolutions of these numbers of channels, then attention."""
        for letter, filters in zip("abc", channels, strict=False):
            x = self.convolve(x, filters, f"{name}_{letter}", stride=stride)
            stride = 1
        return self.attend(x, name)

    def convolve(self, x, filters, name, *, kernel=3, stride=1, dilation=1):
        """Convolution, normalization, ReLU."""
        kernel = kernel * stride  # at stride 2 a 3×3 of squares of 2×2 pixels: none is passed over
        has_bias = self.normalization is None
        options = {"strides": stride, "dilation_rate": dilation, "use_bias": has_bias}
        x = self.conv(filters, kernel, f"{name}_conv", **options)(x)
        if self.normalization:
            # Keras' default of 0.99 needs 500 steps to forget the start; short runs have 200.
            x = BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def conv(self, filters, kernel, name, **options):
        """A bare convolution that keeps the size of its map."""
        options = {"padding": "same", "kernel_initializer": self.draw(), **options}
        return layers.Conv2D(filters, kernel, name=name, **options)

    def enlarge(self, x, filters, name, *, use_bias=False):
        options = {"use_bias": use_bias, "kernel_initializer": self.draw()}
        return layers.Conv2DTranspose(filters, 2, strides=2, name=name, **options)(x)

    def attend(self, x, name):
        """Weigh a map's channels ("se"), or its channels and then its places ("cbam").

        Source: Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3; Woo et al. 2018,
        "CBAM: Convolutional Block Attention Module", sections 3.1 and 3.2.
        """
        if self.attention is None:
            return x
        few, many = max(x.shape[-1] // 16, 4), x.shape[-1]
        squeeze = layers.Dense(few, "relu", True, self.draw(), name=f"{name}_squeeze")
        excite = layers.Dense(many, None, True, self.draw(), name=f"{name}_excite")
        mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
        scores = excite(squeeze(mean))
        if self.attention == "cbam":
            peak = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_peak")(x)
            scores = layers.Add(name=f"{name}_sum")([scores, excite(squeeze(peak))])
        weights = layers.Activation("sigmoid", name=f"{name}_channels")(scores)
        x = layers.Multiply(name=f"{name}_weigh")([x, weights])
        if self.attention == "se":
            return x
        maps = [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
        maps = layers.Concatenate(name=f"{name}_maps")(maps)  # (batch, height, width, 2)
        weights = self.conv(1, 7, f"{name}_places", activation="sigmoid")(maps)
        return layers.Multiply(name=f"{name}_place")([x, weights])


def check_model(model) -> None:
    """Raise TypeError unless this is a Keras model, ValueError unless its outputs are known."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"expected a keras.Model, received a {type(model).__name__}: "
            "seglib.load_model(folder) loads one, and a Run has it as run.model"
        )
    if not getattr(model, "outputs", None):
        raise ValueError(
            f"the outputs of {model.name!r} are not known, as it is subclassed or not built: give "
            "keras.Model(image, model(image)) with image = keras.Input((height, width, 3))"
        )
    if len(model.inputs) != 1:
        raise ValueError(f"{model.name!r} has {len(model.inputs)} inputs: expected one, pictures")


def class_heads(model: keras.Model) -> list[ClassLogits]:
    """Return the layers that make the logits of classes; none of a user's own model."""
    check_model(model)
    layers = adopted.get(model, model).layers
    return [layer for layer in layers if isinstance(layer, ClassLogits)]


def task_layers(model: keras.Model) -> list:
    """Return the TaskLogits of each output of a model, None for a plain output."""
    known = {layer.name: layer for layer in model.layers if isinstance(layer, TaskLogits)}
    if not known:  # a Sequential does not name its output
        return [None] * len(model.outputs)
    return [known.get(name) for name in model.output_names]


def copy_weights(source: keras.Model, target: keras.Model) -> list[str]:
    """Copy weights between layers of equal names and shapes; return the layers left out.

    Heads are left out unless both models know the same classes, or none.
    """
    known = {layer.name: layer.get_weights() for layer in source.layers}
    same_classes = known_head(source).classes == known_head(target).classes
    skipped = []
    for layer in target.layers:
        weights = known.get(layer.name, [])
        fits = [array.shape for array in weights] == [weight.shape for weight in layer.weights]
        if fits and (same_classes or not layer.name.endswith("_classes")):
            layer.set_weights(weights)
        elif layer.weights:
            skipped.append(layer.name)
    return skipped


def reweight_classes(model: keras.Model, weights: Sequence[float]) -> keras.Model:
    """Copy a model so that the probability of each class is multiplied by its weight.

    With inverse frequencies as weights, such as of `seglib.class_weights`, it predicts as if all
    classes had been equally common in training. Nothing is trained.

    Args:
        model: keras.Model from `create_…_model`.
        weights: `(num_classes,)` numbers ≥ 0. A class of weight 0 is never predicted.

    Source: Menon et al. 2021, "Long-tail learning via logit adjustment", section 4.1.
    """
    if not class_heads(model):
        raise ValueError(f"{model.name!r} is no model of seglib: train it, and pass run.model")
    weights = np.float32(check_weights(weights, model.outputs[-1].shape[-1]))
    copy = copy_model(adopted.get(model, model))
    for head in class_heads(copy):
        before = 0 if head.offsets is None else np.array(head.offsets)
        head.offsets = (before + np.log(np.maximum(weights, 1e-30))).tolist()
    return copy


def set_model_classes(
    model, classes: ClassTable, *, fit: str = "stretch", native=None, pixels: Pixels = RGB
) -> None:
    """Store in a model what it learns from, as ClassLogits keeps it.

    Raises:
        ValueError: the model has another number of classes.
    """
    count = model.outputs[-1].shape[-1]
    if count != classes.num_classes:
        raise ValueError(
            f"the model has {count} classes but the class table {classes.num_classes}: "
            f"create it with num_classes={classes.num_classes}"
        )
    for head in class_heads(model):
        head.classes, head.fit, head.native, head.pixels = classes, fit, native, pixels


def known_head(model: keras.Model) -> ClassLogits:
    """Return a layer that keeps what a model learned from; a user's own model knows nothing."""
    heads = class_heads(model)
    return heads[0] if heads else ClassLogits()


def set_precision(model: keras.Model, policy: str) -> None:
    """Let a model compute in `policy`, such as "mixed_bfloat16"; weights stay float32.

    A model that simulates int8 stays in float32: bfloat16 would round twice.
    """
    policy = "float32" if rounds(model) else policy
    for layer in model.layers:
        # In bfloat16 a processor takes 2 to 4 times as long for gradients of depthwise kernels.
        is_depthwise = isinstance(layer, layers.DepthwiseConv2D) and policy == "mixed_bfloat16"
        is_slow = is_depthwise and not getattr(layer, "is_fast", False)
        if not isinstance(layer, Logits):
            layer.dtype_policy = "float32" if is_slow else policy
    model.dtype_policy = policy


def rounds(model: keras.Model) -> bool:
    """Return whether a model simulates int8, as `seglib.simulate_int8` makes it."""
    check_model(model)
    return any(getattr(layer, "rounds", False) for layer in model.layers)


def resize_model(model: keras.Model, size: tuple[int, int]) -> keras.Model:
    """Copy a model so that it takes pictures of another size, `(height, width)` in pixels.

    Things that look larger than in training are found less well, smaller ones better.

    Raises:
        ValueError: `size` is not two numbers.
    """
    check_model(model)
    if np.shape(size) != (2,):
        raise ValueError(f"expected a size of (height, width) in pixels, received {size!r}")
    return copy_model(model, [int(side) for side in size])


def copy_model(model: keras.Model, size: Sequence[int] | None = None) -> keras.Model:
    """Return the same model with weights of its own, for pictures of `size` if that is given."""
    config = json.loads(json.dumps(model.get_config()))
    for layer in config["layers"]:
        if size and layer["class_name"] == "InputLayer":
            layer["config"]["batch_shape"][1:3] = size
    copy = type(model).from_config(config)
    copy.set_weights(model.get_weights())
    return copy
