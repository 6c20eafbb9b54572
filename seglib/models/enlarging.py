"""Maps enlarged bilinearly, whatever their size."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="seglib")
class Enlarge(layers.Layer):
    """Enlarge a map bilinearly by a whole factor, its edges kept (half-pixel centres).

    As `keras.layers.UpSampling2D(factor, interpolation="bilinear")`, which fails under TensorFlow
    for maps of unknown size.

    Args:
        factor: int ≥ 1.
    """

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self._enlarge_axis(self._enlarge_axis(x, 1), 2)

    def _enlarge_axis(self, x, axis):
        ends = [[0, 0]] * 4
        ends[axis] = [1, 1]
        x = ops.pad(x, ends, mode="symmetric")
        before, here, after = (
            x[(slice(None),) * axis + (part,)]
            for part in (slice(None, -2), slice(1, -1), slice(2, None))
        )
        phases = []
        for k in range(self.factor):
            place = (k + 0.5) / self.factor - 0.5  # from the middle of the pixel
            neighbor = after if place > 0 else before
            phases.append((1 - abs(place)) * here + abs(place) * neighbor)
        shape = list(ops.shape(here))
        shape[axis] *= self.factor
        return ops.reshape(ops.stack(phases, axis=axis + 1), shape)

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        return (batch, *(side and self.factor * side for side in sides), channels)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
