"""DeepLabV3+: atrous convolutions see several scales, a small decoder sharpens the edges."""

import keras
from keras import layers, ops

from seglib.models.blocks import Blocks, ClassLogits, EncoderBlocks, check_dropout
from seglib.models.enlarging import Enlarge

RATES = {8: (12, 24, 36), 16: (6, 12, 18)}  # by output stride, of pictures of about 512 pixels


def create_deeplabv3plus_model(
    input_shape,
    *,
    num_classes,
    filters=(32, 64, 128, 256, 512),
    output_stride=16,
    rates=None,
    aspp_filters=256,
    low_filters=48,
    dropout=0.1,
    attention=None,
    encoder=None,
    encoder_weights="imagenet",
    seed=0,
):
    """Create DeepLabV3+ on a plain encoder or a pretrained one.

    The encoder ends at `output_stride`. There, a 1×1 convolution, three atrous 3×3 ones and the
    mean of the whole map see the same features at five scales (ASPP); enlarged to stride 4 they
    join what the encoder saw there, and two 3×3 convolutions and an enlargement by 4 follow.

    Args:
        input_shape: `(height, width, 3)`, None for sizes that vary.
        num_classes: int, an ignored class of the table included.
        filters: 5 ints, channels of a plain encoder at strides 1, 2, 4, 8, 16; not used with an
            encoder.
        output_stride: 8 or 16, of the map that ASPP works on. The encoder ends there: where the
            paper goes on with dilated stages, its deeper ones are left out.
        rates: 3 ints, of the atrous convolutions; None for the paper's, 6, 12, 18 at output stride
            16 and 12, 24, 36 at 8. Small pictures want small ones: at 128×128 a map of stride 16
            has 8×8 places, and a rate of 12 sees nothing but its own.
        aspp_filters, low_filters: ints, channels of ASPP and decoder, and of the map at stride 4.
        dropout: float in [0, 1), on ASPP's result.
        attention: None, "se" or "cbam", on ASPP's result; with a plain encoder after each of its
            blocks as well.
        encoder, encoder_weights: as of `create_unetpp_model`.
        seed: int, from which all weights are drawn.

    Returns:
        keras.Model in float32, images (batch, height, width, 3) in [0, 255] to float32 logits
        (batch, height, width, num_classes).

    Raises:
        ValueError: an argument is out of its range.

    Source: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
    Segmentation", section 3 and figure 2; ASPP with image pooling as in Chen et al. 2017,
    "Rethinking Atrous Convolution", section 3.3. Ordinary convolutions, not separable ones.
    """
    if output_stride not in RATES:
        raise ValueError(f"expected an output_stride of 8 or 16, received {output_stride}")
    rates = RATES[output_stride] if rates is None else tuple(rates)
    if len(rates) != 3 or min(rates) < 1:
        raise ValueError(f"expected 3 rates of at least 1, received {rates}")
    check_dropout(dropout)
    levels = {8: 4, 16: 5}[output_stride]  # of a plain encoder, from stride 1
    if encoder is None:
        if len(filters) != 5:
            raise ValueError(f"expected 5 filter counts, of strides 1 to 16, received {filters}")
        blocks = Blocks(input_shape, num_classes, filters[:levels], 0, seed, attention=attention)
    else:
        rows = (1,) * (levels - 2)  # of which only the number counts
        blocks = EncoderBlocks(encoder, encoder_weights, input_shape, num_classes, rows, 0,
                               seed=seed, attention=attention)  # fmt: skip
    image, x = blocks.create_input()
    maps = list(blocks.encode_all(x))
    low, x = maps[-3 if output_stride == 16 else -2], maps[-1]
    x = _pool_pyramid(blocks, x, rates, aspp_filters)
    x = blocks.attend(x, "aspp")
    x = layers.Dropout(dropout, seed=blocks.next_seed(), name="aspp_drop")(x)
    x = Enlarge(output_stride // 4, name="aspp_up")(x)
    low = blocks.convolve(low, low_filters, "low", kernel=1)
    x = layers.Concatenate(name="decoder_join")([x, low])
    for letter in "ab":
        x = blocks.convolve(x, aspp_filters, f"decoder_{letter}")
    x = blocks.score_map(x, "head_1_classes")
    x = Enlarge(4, name="head_1_up")(x)
    return keras.Model(image, ClassLogits(name="head_1")(x, image), name="deeplabv3plus")


def _pool_pyramid(blocks, x, rates, filters):
    """Atrous spatial pyramid pooling."""
    scales = [blocks.convolve(x, filters, "aspp_0", kernel=1)]
    for number, rate in enumerate(rates, 1):
        scales.append(blocks.convolve(x, filters, f"aspp_{number}", dilation=rate))
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool")(x)
    # Not normalized: of a batch of one, a map of one place has no variance.
    mean = layers.Conv2D(filters, 1, activation="relu", kernel_initializer=blocks.draw_weights(),
                         name="aspp_4")(mean)  # fmt: skip
    scales.append(mean + ops.zeros_like(x[..., :1]))  # the same at each place
    x = layers.Concatenate(name="aspp_join")(scales)
    return blocks.convolve(x, filters, "aspp", kernel=1)
