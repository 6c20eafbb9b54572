"""SegNet: what was the largest of each square goes back to its place."""

import keras
from keras import layers, ops

from seglib.models.blocks import ClassLogits
from seglib.models.fcn import STAGES, VggBlocks


def create_segnet_model(
    input_shape,
    *,
    num_classes,
    filters=(32, 64, 128, 256, 256),
    dropout=0.0,
    attention=None,
    seed=0,
):
    """Create SegNet: VGG-16's convolutions, and the same in reverse.

    Each pooling keeps which pixel of its square was the largest; on the way back values return to
    that place, zeros around them, and convolutions fill these. Nothing else is handed over. The
    paper's is `filters=(64, 128, 256, 512, 512)`, with 29.5 million parameters.

    Args:
        input_shape: `(height, width, 3)`, None for sizes that vary.
        num_classes: int, an ignored class of the table included.
        filters: 5 ints, channels of the stages.
        dropout: float in [0, 1), on the deepest map.
        attention: None, "se" or "cbam", after each stage.
        seed: int, from which all weights are drawn.

    Returns:
        keras.Model in float32, images (batch, height, width, 3) in [0, 255] to float32 logits
        (batch, height, width, num_classes).

    Raises:
        ValueError: an argument is out of its range.

    Source: Badrinarayanan et al. 2017, "SegNet: A Deep Convolutional Encoder-Decoder Architecture
    for Image Segmentation", section 3.
    """
    blocks = VggBlocks(input_shape, num_classes, filters, dropout, seed, attention=attention)
    image, x = blocks.create_input()
    places = []
    for i, count in enumerate(STAGES):
        x = blocks.convolve_stage(x, i, f"x_{i}_0", [filters[i]] * count)
        x, place = MaxPoolingWithPlaces(name=f"x_{i}_0_pool")(x)
        places.append(place)
    if dropout:
        x = layers.Dropout(dropout, seed=blocks.next_seed(), name="x_4_0_drop")(x)
    for i in reversed(range(len(STAGES))):
        x = MaxUnpooling(name=f"x_{i}_1_unpool")(x, places[i])
        ends = filters[max(i - 1, 0)]
        channels = [filters[i]] * (STAGES[i] - 1) + [ends] * (i > 0)  # the last one of all scores
        x = blocks.convolve_stage(x, i, f"x_{i}_1", channels)
    x = blocks.score_map(x, "head_1_classes", kernel=3)
    return keras.Model(image, ClassLogits(name="head_1")(x, image), name="segnet")


@keras.saving.register_keras_serializable(package="seglib")
class MaxPoolingWithPlaces(layers.Layer):
    """The largest of each square of 2×2 pixels, and which one it was.

    Called on `(batch, height, width, channels)` of even sides it returns two tensors `(batch,
    height / 2, width / 2, channels)`: the values, and int32 places 0, 1, 2, 3 by rows; of equal
    values the first.
    """

    def call(self, x):
        squares = _to_squares(x)
        return ops.max(squares, axis=3), ops.argmax(squares, axis=3)

    def compute_output_spec(self, x):
        batch, height, width, channels = x.shape
        shape = (batch, *(side and side // 2 for side in (height, width)), channels)
        return keras.KerasTensor(shape, x.dtype), keras.KerasTensor(shape, "int32")


@keras.saving.register_keras_serializable(package="seglib")
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


def _to_squares(x):
    """`(batch, height / 2, width / 2, 4, channels)`"""
    batch, height, width, channels = ops.shape(x)
    x = ops.reshape(x, (batch, height // 2, 2, width // 2, 2, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (batch, height // 2, width // 2, 4, channels))
