"""Networks for segmentation: raw 0–255 RGB in, logits out."""

import functools
import itertools
import json
import warnings
from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import layers, ops

from seglib.classes import ClassTable
from seglib.encoders import create_encoder, encoder_layers, freeze_encoder
from seglib.images import check_fit, check_image_size
from seglib.layers import (
    TASKS,
    BatchNormalization,
    ClassLogits,
    Enlarge,
    MaxPoolingWithPlaces,
    MaxUnpooling,
    PadToMultiple,
    TaskLogits,
)
from seglib.losses import check_weights

VGG_STAGES = (2, 2, 3, 3, 3)  # convolutions of VGG-16's stages
FCN_SKIPS = {32: (), 16: (4,), 8: (4, 3)}  # which maps refine the scores, by log2 of their stride
DEEPLAB_RATES = {8: (12, 24, 36), 16: (6, 12, 18)}  # by output stride, of pictures of 512 pixels


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

    Node X(i, j) sees all earlier nodes of its row and the enlarged node below it, so
    that each X(0, j) is the end of a complete smaller U-Net. Under deep supervision
    each has a head; `prune` cuts the model at one of them.

    With an `encoder`, its feature maps are the nodes X(i, 0). The first has stride 2, so
    that row 0 works at half the resolution and the heads double it.

    Args:
        input_shape: `(height, width, 3)`, None for sizes that vary. Sizes that do not
            divide by 2 to the power of the depth are padded and cropped inside.
        num_classes: int, an ignored class of the table included.
        filters: 2 to 6 ints, channels of each level from full resolution down; None for
            32, 64, 128, 256, 512. With an encoder 1 to 4 ints, channels of the decoder's
            rows from stride 2 down; None for 32, 48, 64, 96.
        nested: bool. False makes the plain U-Net of the same blocks.
        deep_supervision: bool. True gives a head to each of X(0, 1)…X(0, J), J being the
            number of rows with a decoder; the last output is the final head. False: that
            one only.
        dropout: float in [0, 1), after the two deepest encoder blocks or maps; or one for each
            level from the finest down.
        normalization: "batch", or None for convolutions with a bias and no normalization.
        convolutions: 1 or 2, of each node that joins others; the paper has 2.
        stride: 1 or 2. With 2 the first convolution halves the picture, so that row 0 works at
            half the resolution, as with an encoder, and the heads double it.
        detail: int, channels of a branch that feeds image detail to the heads when row 0 runs at
            half resolution. 0 disables it. It helps small and thin things.
        attention: None, "se" (squeeze-and-excitation) or "cbam", at the end of each block.
        encoder, encoder_weights: name and weights as of `seglib.encoders.create_encoder`,
            such as "efficientnet_lite0", whose pretrained weights the requirements bring;
            None for blocks of the model's own.
        frozen_rows: int, how many rows of the encoder keep its weights as they are, from stride
            2 down; see `seglib.encoders.freeze_encoder`.
        frozen_depthwise: bool. True keeps its depthwise kernels as they are in all rows: their
            gradients cost much for what they change.
        heads: what the model learns from the masks: "segmentation", and beside it "boundary",
            which pixels lie next to another class, from X(0, J), and "presence", which classes
            are in the picture, from the deepest map. See `seglib.predict_heads`.
        seed: int, from which all weights are drawn.

    Returns:
        keras.Model in float32, images (batch, height, width, 3) in [0, 255] to float32
        logits (batch, height, width, num_classes), one output a head. The logits of other tasks
        stand before them: boundary (batch, height, width, 1), presence (batch, num_classes).

    Raises:
        ValueError: an argument is out of its range.

    Source: Zhou et al. 2018, "UNet++: A Nested U-Net Architecture for Medical Image
    Segmentation", section 3; Zhou et al. 2020, section III (pruning, section III-C).
    """
    if filters is None:
        filters = (32, 64, 128, 256, 512) if encoder is None else (32, 48, 64, 96)
    _check_choice("convolutions", convolutions, (1, 2))
    _check_choice("stride", stride, (1, 2))
    least, most = (2, 6) if encoder is None else (1, 4)
    if not least <= len(filters) <= most:
        raise ValueError(f"expected {least} to {most} filter counts, received {filters}")
    if set(heads) - set(TASKS) or "segmentation" not in heads or len(set(heads)) < len(heads):
        raise ValueError(
            'expected heads to be ("segmentation",), with "boundary" or "presence" or both beside '
            f"it, received {heads!r}"
        )
    if detail and stride == 1 and encoder is None:
        raise ValueError(f"detail={detail} needs stride=2: at stride 1, row 0 has every pixel")
    _check_frozen(frozen_rows, frozen_depthwise, encoder, encoder_weights)
    depth = len(filters) - 1 if encoder is None else len(filters)  # of the deepest level, from 0
    if np.ndim(dropout) == 0:
        dropout = [dropout * (i >= max(1, depth - 1)) for i in range(depth + 1)]
    net = _Builder(input_shape, num_classes, seed, attention, normalization)
    if encoder is None:
        image, maps = net.encode(filters, dropout, stride)
    else:
        image, maps = net.encode_pretrained(encoder, encoder_weights, dropout)
        stride = 2
    nodes = {}
    for i, node in enumerate(maps):
        nodes[i, 0] = node
        for j in range(1, i + 1) if nested or i == depth else ():  # the diagonal that i completes
            row = i - j
            name = f"x_{row}_{j}"
            up = net.enlarge(nodes[row + 1, j - 1], filters[row], f"{name}_up")
            skips = [nodes[row, k] for k in range(j if nested else 1)]
            joined = layers.Concatenate(name=f"{name}_join")([*skips, up])
            nodes[row, j] = net.block(joined, [filters[row]] * convolutions, name)

    @functools.cache
    def show_detail():
        """What squares of 2×2 pixels and their surroundings look like, the same for all heads."""
        x = layers.Rescaling(1 / 127.5, offset=-1, name="detail_scale")(image)
        x = PadToMultiple(2 ** (depth + 1), name="detail_pad")(x)
        return net.convolve(net.convolve(x, detail, "detail_a", stride=2), detail, "detail_b")

    def create_head(x, name, scores_name, channels):
        if detail:
            x = layers.Concatenate(name=f"{name}_join")([x, show_detail()])
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
    outputs = [*tasks, *outputs]
    outputs = outputs if len(outputs) > 1 else outputs[0]
    model = keras.Model(image, outputs, name="unetpp" if nested else "unet")
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
    output_stride: int = 16,
    rates: Sequence[int] | None = None,
    aspp_filters: int = 256,
    low_filters: int = 48,
    dropout: float = 0.1,
    attention: str | None = None,
    encoder: str | None = None,
    encoder_weights: str | None = "imagenet",
    seed: int = 0,
) -> keras.Model:
    """Create DeepLabV3+: atrous convolutions see several scales, a small decoder sharpens edges.

    The encoder ends at `output_stride`. There, a 1×1 convolution, three atrous 3×3 ones and the
    mean of the whole map see the same features at five scales (ASPP); enlarged to stride 4 they
    join what the encoder saw there, and two 3×3 convolutions and an enlargement by 4 follow.

    Args:
        input_shape, num_classes, encoder, encoder_weights, seed: as of `create_unetpp_model`.
        filters: 5 ints, channels of a plain encoder at strides 1, 2, 4, 8, 16.
        output_stride: 8 or 16, of the map that ASPP works on; deeper stages are left out.
        rates: 3 ints, of the atrous convolutions; None for the paper's, 6, 12, 18 at output stride
            16 and 12, 24, 36 at 8. Small pictures want small ones: at 128×128 a map of stride 16
            has 8×8 places, and a rate of 12 sees nothing but its own.
        aspp_filters, low_filters: ints, channels of ASPP and decoder, and of the map at stride 4.
        dropout: float in [0, 1), on ASPP's result.
        attention: None, "se" or "cbam", on ASPP's result and after each block of a plain encoder.

    Returns:
        keras.Model with one output, as of `create_unetpp_model`.

    Source: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
    Segmentation", section 3 and figure 2; ASPP with image pooling as in Chen et al. 2017,
    "Rethinking Atrous Convolution", section 3.3. Ordinary convolutions, not separable ones.
    """
    _check_choice("output_stride", output_stride, tuple(DEEPLAB_RATES))
    rates = DEEPLAB_RATES[output_stride] if rates is None else tuple(rates)
    if len(rates) != 3 or min(rates) < 1:
        raise ValueError(f"expected 3 rates of at least 1, received {rates}")
    _check_five(filters)
    net = _Builder(input_shape, num_classes, seed, attention)
    levels = {8: 4, 16: 5}[output_stride]  # of a plain encoder, from stride 1
    if encoder is None:
        image, maps = net.encode(filters[:levels], [0] * levels)
    else:
        image, maps = net.encode_pretrained(encoder, encoder_weights, [0] * (levels - 1))
    maps = list(maps)
    low, x = maps[{8: -2, 16: -3}[output_stride]], maps[-1]
    scales = [net.convolve(x, aspp_filters, "aspp_0", kernel=1)]
    for number, rate in enumerate(rates, 1):
        scales.append(net.convolve(x, aspp_filters, f"aspp_{number}", dilation=rate))
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool")(x)
    # Not normalized: of a batch of one, a map of one place has no variance.
    mean = net.conv(aspp_filters, 1, "aspp_4", activation="relu")(mean)
    scales.append(mean + ops.zeros_like(x[..., :1]))  # the same at each place
    x = layers.Concatenate(name="aspp_join")(scales)
    x = net.attend(net.convolve(x, aspp_filters, "aspp", kernel=1), "aspp")
    x = Enlarge(output_stride // 4, name="aspp_up")(net.drop(x, dropout, "aspp_drop"))
    low = net.convolve(low, low_filters, "low", kernel=1)
    x = layers.Concatenate(name="decoder_join")([x, low])
    for letter in "ab":
        x = net.convolve(x, aspp_filters, f"decoder_{letter}")
    x = Enlarge(4, name="head_1_up")(net.conv(num_classes, 1, "head_1_classes")(x))
    return keras.Model(image, ClassLogits(name="head_1")(x, image), name="deeplabv3plus")


def create_fcn_model(
    input_shape: tuple,
    *,
    num_classes: int,
    stride: int = 8,
    filters: Sequence[int] = (32, 64, 128, 256, 256),
    hidden: int = 512,
    dropout: float = 0.5,
    attention: str | None = None,
    encoder: str | None = None,
    encoder_weights: str | None = "imagenet",
    seed: int = 0,
) -> keras.Model:
    """Create FCN-8s, -16s or -32s on VGG-16's form or on a pretrained encoder.

    Two convolutions stand where the classifier had its dense layers, of 7×7 and 1×1 places at
    stride 32; their scores are doubled and added to those of the maps at stride 16 and 8, then
    enlarged bilinearly. The paper's VGG-16 is `filters=(64, 128, 256, 512, 512), hidden=4096`, with
    134 million parameters; here with batch normalization, so that it learns from random weights.

    Args:
        input_shape, num_classes, encoder, encoder_weights, seed: as of `create_unetpp_model`.
        stride: 8, 16 or 32, of the finest map that is scored.
        filters: 5 ints, channels of the stages; not used with an encoder.
        hidden: int, channels of the two convolutions at stride 32.
        dropout: float in [0, 1), after each of these two.
        attention: None, "se" or "cbam", after each stage of a plain encoder, and after the second
            of these two.

    Returns:
        keras.Model with one output, as of `create_unetpp_model`.

    Source: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 4.
    """
    _check_choice("stride", stride, tuple(FCN_SKIPS))
    _check_five(filters)
    net = _Builder(input_shape, num_classes, seed, attention)
    if encoder is None:
        image, x = net.create_input(2**5)
        maps = {}  # by log2 of their stride
        for i, count in enumerate(VGG_STAGES):
            x = net.block(x, [filters[i]] * count, f"x_{i}_0")
            x = maps[i + 1] = layers.MaxPooling2D(2, name=f"x_{i}_0_pool")(x)
    else:
        image, maps = net.encode_pretrained(encoder, encoder_weights, [0] * 5)
        maps = dict(enumerate(maps, 1))
    x = net.convolve(maps[5], hidden, "dense_a", kernel=7)
    x = net.convolve(net.drop(x, dropout, "dense_a_drop"), hidden, "dense_b", kernel=1)
    x = net.drop(net.attend(x, "dense"), dropout, "dense_b_drop")
    x = net.conv(num_classes, 1, "head_1_classes")(x)
    for level in FCN_SKIPS[stride]:
        finer = net.conv(num_classes, 1, f"skip_{level}_classes")(maps[level])
        # Twice the size, by a convolution that starts as bilinear interpolation and learns.
        options = {
            "strides": 2,
            "padding": "same",
            "use_bias": False,
            "kernel_initializer": "zeros",
        }
        up = layers.Conv2DTranspose(num_classes, 4, name=f"skip_{level}_up_classes", **options)
        x = layers.Add(name=f"skip_{level}")([up(x), finer])
        ramp = np.array([0.25, 0.75, 0.75, 0.25])
        up.kernel.assign(np.multiply.outer(np.outer(ramp, ramp), np.eye(num_classes)))
    x = Enlarge(stride, name="head_1_up")(x)
    return keras.Model(image, ClassLogits(name="head_1")(x, image), name="fcn")


def create_segnet_model(
    input_shape: tuple,
    *,
    num_classes: int,
    filters: Sequence[int] = (32, 64, 128, 256, 256),
    dropout: float = 0.0,
    attention: str | None = None,
    seed: int = 0,
) -> keras.Model:
    """Create SegNet: VGG-16's convolutions, and the same in reverse.

    Each pooling keeps which pixel of its square was the largest; on the way back values return to
    that place, zeros around them, and convolutions fill these. Nothing else is handed over. The
    paper's is `filters=(64, 128, 256, 512, 512)`, with 29.5 million parameters.

    Args:
        input_shape, num_classes, seed: as of `create_unetpp_model`.
        filters: 5 ints, channels of the stages.
        dropout: float in [0, 1), on the deepest map.
        attention: None, "se" or "cbam", after each stage.

    Returns:
        keras.Model with one output, as of `create_unetpp_model`.

    Source: Badrinarayanan et al. 2017, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
    for Image Segmentation", section 3.
    """
    _check_five(filters)
    net = _Builder(input_shape, num_classes, seed, attention)
    image, x = net.create_input(2**5)
    places = []
    for i, count in enumerate(VGG_STAGES):
        x = net.block(x, [filters[i]] * count, f"x_{i}_0")
        x, place = MaxPoolingWithPlaces(name=f"x_{i}_0_pool")(x)
        places.append(place)
    if dropout:
        x = net.drop(x, dropout, "x_4_0_drop")
    for i in reversed(range(5)):
        x = MaxUnpooling(name=f"x_{i}_1_unpool")(x, places[i])
        ends = filters[max(i - 1, 0)]
        # The last convolution of all makes the scores.
        channels = [filters[i]] * (VGG_STAGES[i] - 1) + [ends] * (i > 0)
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
    """Create any of the networks by name.

    Args:
        name: "unetpp", "unet", "deeplabv3plus", "fcn" or "segnet".
        input_shape, num_classes, options: of `create_<name>_model`.

    Raises:
        ValueError: there is no such network, or an argument is out of its range.
    """
    _check_choice("the name", name, tuple(MODELS))
    return MODELS[name](input_shape, num_classes=num_classes, **options)


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"expected {name} to be one of {choices}, received {value!r}")


def _check_five(filters):
    if len(filters) != 5:
        raise ValueError(f"expected 5 filter counts, received {filters}")


def _check_frozen(rows, depthwise, encoder, weights):
    if not rows and not depthwise:
        return
    if encoder is None:
        raise ValueError("frozen_rows and frozen_depthwise need an encoder: there is none")
    if weights is None:
        warnings.warn(
            f"frozen_rows={rows} and frozen_depthwise={depthwise} keep random weights as they "
            "are: give 0 and False, or weights by encoder_weights or by init_from of seglib.train",
            stacklevel=3,
        )


class _Builder:
    """Makes the layers of a network; all their weights are drawn from one seed, in their order."""

    def __init__(self, input_shape, num_classes, seed, attention=None, normalization="batch"):
        if len(input_shape) != 3 or input_shape[2] != 3:
            raise ValueError(f"expected an input shape (height, width, 3), received {input_shape}")
        check_image_size([side or 32 for side in input_shape[:2]])
        if num_classes < 2:
            raise ValueError(f"expected at least 2 classes, received {num_classes}")
        _check_choice("attention", attention, (None, "se", "cbam"))
        _check_choice("normalization", normalization, (None, "batch"))
        self.input_shape, self.num_classes, self.seed = tuple(input_shape), num_classes, seed
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

    def encode(self, filters, dropout, stride=1) -> tuple[object, Iterator]:
        """Return the picture and X(i, 0) of each level, made one by one: seeds have an order."""
        image, first = self.create_input(stride * 2 ** (len(filters) - 1))

        def levels(x):
            for i, (count, rate) in enumerate(zip(filters, dropout, strict=True)):
                x = layers.MaxPooling2D(2, name=f"x_{i}_0_pool")(x) if i else x
                x = self.block(x, [count] * 2, f"x_{i}_0", stride=stride if i == 0 else 1)
                x = self.drop(x, rate, f"x_{i}_0_drop") if rate else x
                yield x

        return image, levels(first)

    def encode_pretrained(self, name, weights, dropout) -> tuple[object, Iterator]:
        """Return the picture and an encoder's maps, from stride 2 on, as `encode`."""
        encoder = create_encoder(
            name, self.input_shape, weights=weights, levels=len(dropout), seed=self.seed
        )
        maps = zip(encoder.outputs, dropout, strict=True)
        return encoder.input, (
            self.drop(x, rate, f"x_{i}_0_drop") if rate else x for i, (x, rate) in enumerate(maps)
        )

    def drop(self, x, rate, name):
        if not 0 <= rate < 1:
            raise ValueError(f"expected a dropout in [0, 1), received {rate}")
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
        "CBAM: Convolutional Block Attention Module", sections 3.1 and 3.2; both with a reduction
        of 16, at least 4 channels.
        """
        if self.attention is None:
            return x
        channels = x.shape[-1]
        squeeze = layers.Dense(
            max(channels // 16, 4), "relu", kernel_initializer=self.draw(), name=f"{name}_squeeze"
        )
        excite = layers.Dense(channels, kernel_initializer=self.draw(), name=f"{name}_excite")
        scores = excite(
            squeeze(layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x))
        )
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
    """Raise TypeError unless something is a Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"expected a keras.Model, received a {type(model).__name__}: "
            "seglib.load_model(folder) loads one, and a Run has it as run.model"
        )


def task_layers(model: keras.Model) -> list:
    """Return the TaskLogits of each output of a model, None for a plain output."""
    known = {layer.name: layer for layer in model.layers if isinstance(layer, TaskLogits)}
    if not known:  # a Sequential does not name its output
        return [None] * len(model.outputs)
    return [known.get(name) for name in model.output_names]


def prune(model: keras.Model, level: int) -> keras.Model:
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
    heads = {layer.name: layer for layer in model.layers if isinstance(layer, ClassLogits)}
    if model.name != "unetpp" or f"head_{level}" not in heads:
        raise ValueError(
            f"expected a level of a U-Net++, received {level} of {model.name}, which has the heads "
            f"{', '.join(heads)}; create_unetpp_model(deep_supervision=True) has several"
        )
    return copy_model(keras.Model(model.input, heads[f"head_{level}"].output, name=model.name))


def copy_weights(source: keras.Model, target: keras.Model) -> list[str]:
    """Give `target` the weights of the layers of `source` that have its names and shapes.

    Heads are left alone unless both models know the same classes, or none.

    Returns:
        list of the names of the layers with weights that were left as they were.
    """
    known = {layer.name: layer.get_weights() for layer in source.layers}
    same_classes = model_classes(source) == model_classes(target)
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
    check_model(model)
    weights = np.float32(check_weights(weights, model.outputs[-1].shape[-1]))
    copy = copy_model(model)
    for head in copy.layers:
        if isinstance(head, ClassLogits):
            before = 0 if head.offsets is None else np.array(head.offsets)
            head.offsets = (before + np.log(np.maximum(weights, 1e-30))).tolist()
    return copy


def set_model_classes(model: keras.Model, classes: ClassTable, *, fit: str = "stretch") -> None:
    """Tell a model which classes its scores are of; it is saved with the model.

    Args:
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


def model_classes(model: keras.Model) -> ClassTable | None:
    """Return the ClassTable that a model was trained for, or None if it knows none."""
    check_model(model)
    known = [layer.classes for layer in model.layers if isinstance(layer, ClassLogits)]
    return next((classes for classes in known if classes is not None), None)


def model_fit(model: keras.Model) -> str:
    """Return how pictures are brought to a model's size: "stretch" or "letterbox"."""
    fits = [layer.fit for layer in model.layers if isinstance(layer, ClassLogits)]
    return fits[0] if fits else "stretch"


def set_precision(model: keras.Model, policy: str) -> None:
    """Let a model compute in `policy`, such as "mixed_bfloat16"; weights stay float32.

    One that simulates int8 stays in float32: bfloat16 would round before it does, to as few digits.
    """
    policy = "float32" if rounds(model) else policy
    for layer in model.layers:
        # In bfloat16 a processor takes 2 to 4 times as long for gradients of depthwise kernels.
        is_depthwise = isinstance(layer, layers.DepthwiseConv2D) and policy == "mixed_bfloat16"
        is_slow = is_depthwise and not getattr(layer, "is_fast", False)
        if not isinstance(layer, ClassLogits | TaskLogits):
            layer.dtype_policy = "float32" if is_slow else policy
    model.dtype_policy = policy


def rounds(model: keras.Model) -> bool:
    """Return whether a model simulates int8, as `seglib.compressing.simulate_int8` makes it."""
    check_model(model)
    return any(getattr(layer, "rounds", False) for layer in model.layers)


def resize_model(model: keras.Model, size: tuple[int, int]) -> keras.Model:
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
    sides = np.asarray(size)
    if sides.shape != (2,) or sides.dtype.kind not in "iu" or (sides < 1).any():
        raise ValueError(f"expected a size of (height, width) in pixels, received {size!r}")
    return copy_model(model, sides.tolist())


def copy_model(model: keras.Model, size: Sequence[int] | None = None) -> keras.Model:
    """Return the same model with weights of its own, for pictures of `size` if that is given."""
    config = json.loads(json.dumps(model.get_config()))
    for layer in config["layers"]:
        if size and layer["class_name"] == "InputLayer":
            layer["config"]["batch_shape"][1:3] = size
    copy = keras.Model.from_config(config)
    copy.set_weights(model.get_weights())
    return copy
