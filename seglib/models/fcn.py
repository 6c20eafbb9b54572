"""FCN: a classifier made convolutional, its coarse scores refined by those of earlier maps."""

import keras
import numpy as np
from keras import layers

from seglib.models.blocks import Blocks, ClassLogits, EncoderBlocks, check_dropout
from seglib.models.enlarging import Enlarge

STAGES = (2, 2, 3, 3, 3)  # convolutions of VGG-16's stages
SKIPS = {32: (), 16: (4,), 8: (4, 3)}  # which maps refine the scores, by log2 of their stride


def create_fcn_model(
    input_shape,
    *,
    num_classes,
    stride=8,
    filters=(32, 64, 128, 256, 256),
    hidden=512,
    dropout=0.5,
    attention=None,
    encoder=None,
    encoder_weights="imagenet",
    seed=0,
):
    """Create FCN-8s, -16s or -32s on VGG-16's form or on a pretrained encoder.

    Two convolutions stand where the classifier had its dense layers, of 7×7 and 1×1 places at
    stride 32; their scores are doubled and added to those of the maps at stride 16 and 8, then
    enlarged bilinearly. The paper's VGG-16 is `filters=(64, 128, 256, 512, 512), hidden=4096`, with
    134 million parameters; here with batch normalization, so that it learns from random weights.

    Args:
        input_shape: `(height, width, 3)`, None for sizes that vary.
        num_classes: int, an ignored class of the table included.
        stride: 8, 16 or 32, of the finest map that is scored.
        filters: 5 ints, channels of the stages; not used with an encoder.
        hidden: int, channels of the two convolutions at stride 32.
        dropout: float in [0, 1), after each of these two.
        attention: None, "se" or "cbam", after each stage of a plain encoder, and after the second
            of these two.
        encoder, encoder_weights: as of `create_unetpp_model`.
        seed: int, from which all weights are drawn.

    Returns:
        keras.Model in float32, images (batch, height, width, 3) in [0, 255] to float32 logits
        (batch, height, width, num_classes).

    Raises:
        ValueError: an argument is out of its range.

    Source: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 4.
    """
    if stride not in SKIPS:
        raise ValueError(f"expected a stride of 8, 16 or 32, received {stride}")
    check_dropout(dropout)
    if encoder is None:
        blocks = VggBlocks(input_shape, num_classes, filters, 0, seed, attention=attention)
    else:
        blocks = EncoderBlocks(encoder, encoder_weights, input_shape, num_classes, (1,) * 4, 0,
                               seed=seed, attention=attention)  # fmt: skip
    image, x = blocks.create_input()
    maps = dict(enumerate(blocks.encode_all(x), start=1))  # by log2 of their stride
    x = maps[5]
    for name, kernel in (("dense_a", 7), ("dense_b", 1)):
        x = blocks.convolve(x, hidden, name, kernel=kernel)
        if name == "dense_b":
            x = blocks.attend(x, "dense")
        x = layers.Dropout(dropout, seed=blocks.next_seed(), name=f"{name}_drop")(x)
    x = blocks.score_map(x, "head_1_classes")
    for level in SKIPS[stride]:
        finer = blocks.score_map(maps[level], f"skip_{level}_classes")
        x = layers.Add(name=f"skip_{level}")(
            [_double(x, num_classes, f"skip_{level}_up_classes"), finer]
        )
    x = Enlarge(stride, name="head_1_up")(x)
    return keras.Model(image, ClassLogits(name="head_1")(x, image), name="fcn")


class VggBlocks(Blocks):
    """VGG-16's stages, each ended by a pooling."""

    counts = (5, 5)

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.depth = 5  # poolings

    def encode_all(self, x):
        """Yield the map after each stage's pooling, at strides 2 to 32."""
        for i, count in enumerate(STAGES):
            x = self.pool(self.convolve_stage(x, i, f"x_{i}_0", [self.filters[i]] * count), i)
            yield x

    def convolve_stage(self, x, level, name, filters):
        for letter, channels in zip("abc", filters, strict=False):
            x = self.convolve(x, channels, f"{name}_{letter}")
        return self.attend(x, name)


def _double(x, num_classes, name):
    """Twice the size, by a convolution that starts as bilinear interpolation and learns."""
    layer = layers.Conv2DTranspose(num_classes, 4, strides=2, padding="same", use_bias=False,
                                   kernel_initializer="zeros", name=name)  # fmt: skip
    x = layer(x)
    ramp = np.array([0.25, 0.75, 0.75, 0.25])
    layer.kernel.assign(np.multiply.outer(np.outer(ramp, ramp), np.eye(num_classes)))
    return x
