"""The pieces that the networks are made of."""

import keras
import numpy as np
from keras import layers, ops

from seglib.classes import ClassTable
from seglib.encoders import create_encoder
from seglib.encoders.padding import PadToMultiple
from seglib.images import check_image_size
from seglib.models.attention import attend, check_attention
from seglib.models.heads import TaskLogits
from seglib.normalization import BatchNormalization


def check_dropout(dropout):
    """Raise ValueError unless it is a share that may be left out."""
    if not 0 <= dropout < 1:
        raise ValueError(f"expected a dropout in [0, 1), received {dropout}")


@keras.saving.register_keras_serializable(package="seglib")
class ClassLogits(layers.Layer):
    """Scores as float32, cropped to the picture's size; it also keeps whose scores they are.

    Args:
        classes: ClassTable, its dict, or None while the classes are not known.
        fit: "stretch" or "letterbox", how pictures are brought to the model's size.
        offsets: a number for each class that is added to its scores, or None.
    """

    def __init__(self, classes=None, fit="stretch", offsets=None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.classes = ClassTable(**classes) if isinstance(classes, dict) else classes
        self.fit, self.offsets = fit, offsets

    def call(self, scores, image):
        height, width = ops.shape(image)[1:3]
        scores = ops.cast(scores, "float32")[:, :height, :width]
        return scores if self.offsets is None else scores + np.array(self.offsets, "float32")

    def compute_output_shape(self, scores_shape, image_shape):
        return (*image_shape[:3], scores_shape[-1])

    def get_config(self):
        classes = self.classes.to_dict() if self.classes else None
        config = {**super().get_config(), "classes": classes, "fit": self.fit}
        return config if self.offsets is None else {**config, "offsets": self.offsets}


class Blocks:
    """The pieces of a network, named by their place X(i, j); all its weights follow from a seed."""

    counts = (2, 6)

    def __init__(self, input_shape, num_classes, filters, dropout, seed, *, convolutions=2,
                 stride=1, detail=0, attention=None):  # fmt: skip
        check_attention(attention)
        self.filters = tuple(filters)
        least, most = self.counts
        if not least <= len(self.filters) <= most or min(self.filters) < 1:
            counts = least if least == most else f"{least} to {most}"
            raise ValueError(f"expected {counts} filter counts, received {filters}")
        if len(input_shape) != 3 or input_shape[2] != 3:
            raise ValueError(f"expected an input shape (height, width, 3), received {input_shape}")
        check_image_size([side or 32 for side in input_shape[:2]])
        if num_classes < 2:
            raise ValueError(f"expected at least 2 classes, received {num_classes}")
        check_dropout(dropout)
        self.convolutions, self.stride, self.detail = convolutions, stride, detail
        self.attention, self.detail_map = attention, None
        self.input_shape, self.num_classes = tuple(input_shape), num_classes
        self.dropout, self.seed, self.drawn = dropout, seed, 0
        self.depth = len(self.filters) - 1  # of the deepest level, from 0

    def create_input(self):
        image = keras.Input(self.input_shape, name="image")
        x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)  # to [-1, 1]
        return image, PadToMultiple(self.stride * 2**self.depth, name="pad")(x)

    def encode_all(self, x):
        """Yield X(i, 0) of each level, made when it is asked for: what is drawn has an order."""
        for i in range(self.depth + 1):
            x = self.convolve_all(x if i == 0 else self.pool(x, i), i, f"x_{i}_0", 2)
            x = self.drop(x, i)
            yield x

    def drop(self, x, level):
        if self.dropout and level >= max(1, self.depth - 1):
            x = layers.Dropout(self.dropout, seed=self.next_seed(), name=f"x_{level}_0_drop")(x)
        return x

    def pool(self, x, level):
        return layers.MaxPooling2D(2, name=f"x_{level}_0_pool")(x)

    def enlarge(self, x, level, column):
        return layers.Conv2DTranspose(
            self.filters[level],
            2,
            strides=2,
            use_bias=False,
            kernel_initializer=self.draw_weights(),
            name=f"x_{level}_{column}_up",
        )(x)

    def decode(self, inputs, level, column):
        x = layers.Concatenate(name=f"x_{level}_{column}_join")(inputs)
        return self.convolve_all(x, level, f"x_{level}_{column}", self.convolutions)

    def convolve_all(self, x, level, name, count):
        for letter in "ab"[:count]:
            stride = self.stride if f"{name}_{letter}" == "x_0_0_a" else 1
            x = self.convolve(x, self.filters[level], f"{name}_{letter}", stride)
        return self.attend(x, name)

    def attend(self, x, name):
        return attend(x, self.attention, name=name, draw=self.draw_weights)

    def convolve(self, x, filters, name, stride=1, *, kernel=3, dilation=1):
        x = layers.Conv2D(
            filters,
            kernel * stride,  # at stride 2 a 3×3 of squares of 2×2 pixels: none is passed over
            strides=stride,
            dilation_rate=dilation,
            padding="same",
            use_bias=False,
            kernel_initializer=self.draw_weights(),
            name=f"{name}_conv",
        )(x)
        # Keras' default of 0.99 needs 500 steps to forget the start; short runs have 200.
        x = BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def create_head(self, x, image, column):
        name = f"head_{column}"
        x = self.prepare_head(x, image, name)
        return ClassLogits(name=name)(self.score(x, f"{name}_classes"), image)

    def prepare_head(self, x, image, name):
        if self.detail:
            x = layers.Concatenate(name=f"{name}_join")([x, self.show_detail(image)])
        # With a 1×1 convolution alone, as in the paper, heads learn the first epochs more slowly.
        return self.convolve(x, max(self.filters[0], self.detail), name)

    def create_task_heads(self, heads, finest, deepest, image):
        """Yield the outputs of the tasks beside segmentation, in the order of `TASKS`."""
        if "boundary" in heads:
            x = self.prepare_head(finest, image, "boundary")
            x = self.score(x, "boundary_score", channels=1)
            yield TaskLogits("boundary", name="boundary")(x, image)
        if "presence" in heads:
            x = layers.GlobalAveragePooling2D(name="presence_mean")(deepest)
            x = layers.Dense(self.num_classes, kernel_initializer=self.draw_weights(),
                             name="presence_classes")(x)  # fmt: skip
            yield TaskLogits("presence", name="presence")(x, image)

    def score_map(self, x, name, *, kernel=1, channels=None):
        """Scores at the resolution of a map, of each class if no other channels are asked for."""
        return layers.Conv2D(channels or self.num_classes, kernel, padding="same", name=name,
                             kernel_initializer=self.draw_weights())(x)  # fmt: skip

    def show_detail(self, image):
        """What squares of 2×2 pixels and their surroundings look like, the same for all heads."""
        if self.detail_map is None:
            x = layers.Rescaling(1 / 127.5, offset=-1, name="detail_scale")(image)
            x = PadToMultiple(2 ** (self.depth + 1), name="detail_pad")(x)
            x = self.convolve(x, self.detail, "detail_a", stride=2)
            self.detail_map = self.convolve(x, self.detail, "detail_b")
        return self.detail_map

    def score(self, x, name, *, channels=None):
        """Scores of each pixel of the picture: one, or the four of a square of 2×2."""
        if self.stride == 1:
            return self.score_map(x, name, channels=channels)
        return layers.Conv2DTranspose(channels or self.num_classes, 2, strides=2, name=name,
                                      kernel_initializer=self.draw_weights())(x)  # fmt: skip

    def draw_weights(self):
        return keras.initializers.HeNormal(seed=self.next_seed())

    def next_seed(self):
        self.drawn += 1
        return self.seed * 10_000 + self.drawn


class EncoderBlocks(Blocks):
    """The same above a pretrained encoder, which has one level more than the decoder rows."""

    counts = (1, 4)

    def __init__(self, encoder, weights, input_shape, *arguments, seed, **shape):
        super().__init__(input_shape, *arguments, seed, **{**shape, "stride": 2})
        self.depth = len(self.filters)
        self.encoder = create_encoder(
            encoder, self.input_shape, weights=weights, levels=self.depth + 1, seed=seed
        )

    def create_input(self):
        return self.encoder.input, self.encoder.outputs

    def encode_all(self, x):
        for i, node in enumerate(x):
            yield self.drop(node, i)
