"""U-Net++ and the plain U-Net, built of the same blocks; raw 0–255 RGB in, logits out."""

import warnings

import keras
from keras import layers

from seglib.encoders import encoder_layers, freeze_encoder
from seglib.models.blocks import Blocks, EncoderBlocks
from seglib.models.heads import TaskLogits, check_heads


def create_unetpp_model(
    input_shape,
    *,
    num_classes,
    filters=None,
    deep_supervision=True,
    dropout=0.1,
    convolutions=2,
    stride=1,
    detail=0,
    attention=None,
    encoder=None,
    encoder_weights="imagenet",
    frozen_rows=0,
    frozen_depthwise=False,
    heads=("segmentation",),
    seed=0,
):
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
        deep_supervision: bool. True gives a head to each of X(0, 1)…X(0, J), J being the
            number of rows with a decoder; the last output is the final head. False: that
            one only.
        dropout: float in [0, 1), in the two deepest encoder blocks, or on the two deepest
            maps of an encoder.
        convolutions: 1 or 2, of each node that joins others; the paper has 2.
        stride: 1 or 2. With 2 the first convolution halves the picture, so that row 0 works at
            half the resolution, as with an encoder, and the heads double it.
        detail: int, channels of two convolutions that show the picture itself to the heads,
            which get as wide, where row 0 has half its resolution; 0 for none. It helps small
            and thin things.
        attention: None, "se" or "cbam", at the end of each node that convolves; see
            `seglib.models.attention.attend`.
        encoder, encoder_weights: name and weights as of `seglib.encoders.create_encoder`,
            such as "efficientnet_lite0", whose pretrained weights the requirements bring;
            None for blocks of the model's own.
        frozen_rows: int, how many rows of the encoder keep its weights as they are, from stride
            2 down; see `seglib.freeze_encoder`.
        frozen_depthwise: bool. True keeps its depthwise kernels as they are in all rows: their
            gradients are the dearest for what they change.
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
    check_heads(heads)
    _check_shape(convolutions, stride, detail, encoder)
    _check_frozen(frozen_rows, frozen_depthwise, filters, encoder, encoder_weights)
    shape = {"convolutions": convolutions, "stride": stride, "detail": detail,
             "attention": attention}  # fmt: skip
    if encoder is None:
        blocks = Blocks(input_shape, num_classes, filters, dropout, seed, **shape)
    else:
        blocks = EncoderBlocks(
            encoder, encoder_weights, input_shape, num_classes, filters, dropout, seed=seed, **shape
        )
    image, x = blocks.create_input()
    nodes = {}
    for i, node in enumerate(blocks.encode_all(x)):
        nodes[i, 0] = node
        for j in range(1, i + 1):  # the diagonal that this level completes
            row = i - j
            up = blocks.enlarge(nodes[row + 1, j - 1], row, j)
            skips = [nodes[row, k] for k in range(j)]
            nodes[row, j] = blocks.decode([*skips, up], row, j)
    first = 1 if deep_supervision else blocks.depth
    outputs = [blocks.create_head(nodes[0, j], image, j) for j in range(first, blocks.depth + 1)]
    if len(heads) > 1:  # drawn last, so that all other weights are those of the plain model
        deepest = blocks.depth
        tasks = blocks.create_task_heads(heads, nodes[0, deepest], nodes[deepest, 0], image)
        last = TaskLogits("segmentation", name="segmentation")(outputs[-1], image)
        outputs = [*tasks, *outputs[:-1], last]
    model = keras.Model(image, outputs if len(outputs) > 1 else outputs[0], name="unetpp")
    if frozen_rows:
        freeze_encoder(model, frozen_rows - 1)
    if frozen_depthwise:
        for layer in encoder_layers(model):
            layer.trainable &= not isinstance(layer, layers.DepthwiseConv2D)
    return model


def create_unet_model(
    input_shape,
    *,
    num_classes,
    filters=(32, 64, 128, 256, 512),
    dropout=0.1,
    attention=None,
    seed=0,
):
    """Create the plain U-Net of the same blocks, for comparison.

    Args: as `create_unetpp_model`.

    Returns:
        keras.Model with one output.

    Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical
    Image Segmentation", section 2; with padded convolutions and batch normalization.
    """
    blocks = Blocks(input_shape, num_classes, filters, dropout, seed, attention=attention)
    image, x = blocks.create_input()
    skips = list(blocks.encode_all(x))
    x = skips[-1]
    for i in reversed(range(len(filters) - 1)):
        j = len(filters) - 1 - i
        x = blocks.decode([skips[i], blocks.enlarge(x, i, j)], i, j)
    head = blocks.create_head(x, image, len(filters) - 1)
    return keras.Model(image, head, name="unet")


def _check_shape(convolutions, stride, detail, encoder):
    for name, value in (("convolutions", convolutions), ("stride", stride)):
        if value not in (1, 2):
            raise ValueError(f"expected {name} to be 1 or 2, received {value}")
    if detail < 0:
        raise ValueError(f"expected a detail of at least 0 channels, received {detail}")
    if detail and stride == 1 and encoder is None:
        raise ValueError(f"detail={detail} needs stride=2: at stride 1, row 0 has every pixel")


def _check_frozen(rows, depthwise, filters, encoder, weights):
    if encoder is None and (rows or depthwise):
        raise ValueError("frozen_rows and frozen_depthwise need an encoder: there is none")
    if encoder is not None and not 0 <= rows <= len(filters) + 1:
        raise ValueError(
            f"expected frozen_rows from 0 to {len(filters) + 1}, the maps of the encoder, "
            f"received {rows}"
        )
    if encoder is not None and weights is None and (rows or depthwise):
        warnings.warn(
            f"frozen_rows={rows} and frozen_depthwise={depthwise} keep random weights as they "
            "are: give 0 and False, or weights by encoder_weights or by init_from of seglib.train",
            stacklevel=3,
        )
