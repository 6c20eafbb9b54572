"""Room for networks that halve a picture again and again."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="seglib")
class PadToMultiple(layers.Layer):
    """Pad height and width with zeros, at the bottom and right, to multiples of an int."""

    def __init__(self, multiple, **kwargs):
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, x):
        padding = [-size % self.multiple for size in ops.shape(x)[1:3]]
        return ops.pad(x, [[0, 0], [0, padding[0]], [0, padding[1]], [0, 0]])

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        padded = [None if side is None else side + -side % self.multiple for side in size]
        return (batch, *padded, channels)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple}
