"""Layers that Keras lacks, or has slower: normalization, padding, enlarging, outputs."""

import functools

import keras
import numpy as np
from keras import layers, ops

from seglib.classes import ClassTable
from seglib.losses import has_accelerator
from seglib.system import has_only_avx2

register = keras.saving.register_keras_serializable(package="seglib")

TASKS = ("boundary", "presence", "segmentation")  # in the order of the outputs


@register
class BatchNormalization(layers.BatchNormalization):
    """Batch normalization of images, in one operation where TensorFlow has one.

    Keras widens each map to float32 and computes on it in a dozen passes over the memory;
    TensorFlow's fused operation reads it as it is and sums in float32. Same variables, same values
    but for rounding; the variance that is averaged is the unbiased one, over n - 1 of n pixels.

    Args:
        kwargs: `momentum`, `epsilon` and `name` of `keras.layers.BatchNormalization`.

    Source: Ioffe & Szegedy 2015, "Batch Normalization", algorithms 1 and 2.
    """

    def call(self, inputs, training=None, mask=None):
        if keras.backend.backend() != "tensorflow" or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        learns = bool(training) and self.trainable
        averages = (self.moving_mean, self.moving_variance)
        if not learns and _is_fused_badly():
            scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
            shift = self.beta - self.moving_mean * scale
            scale, shift = (ops.cast(x, self.compute_dtype) for x in (scale, shift))
            return tf.nn.bias_add(ops.cast(inputs, self.compute_dtype) * scale, shift)
        outputs, *batch = tf.raw_ops.FusedBatchNormV3(
            x=ops.cast(inputs, self.compute_dtype),
            scale=ops.convert_to_tensor(self.gamma),
            offset=ops.convert_to_tensor(self.beta),
            mean=[] if learns else ops.convert_to_tensor(averages[0]),
            variance=[] if learns else ops.convert_to_tensor(averages[1]),
            epsilon=self.epsilon,
            is_training=learns,
        )[:3]
        if learns:
            for average, value in zip(averages, batch, strict=True):
                average.assign(average * self.momentum + value * (1 - self.momentum))
        return outputs


@functools.cache
def _is_fused_badly():
    """Whether TensorFlow would make a convolution several times slower by what follows it.

    It joins a convolution, the fused operation and ReLU into one, for which oneDNN has fast
    kernels with AVX-512 alone.
    """
    return has_only_avx2() and not has_accelerator()


@register
class DepthwiseConv2D(layers.DepthwiseConv2D):
    """Depthwise convolution of an odd kernel, no bias and zeros around the picture.

    TensorFlow's own gradient is slow on processors, above all in bfloat16. While the kernel is
    frozen and the stride is 1, it is the convolution of the gradient with the kernel turned half
    round.
    """

    @property
    def is_fast(self) -> bool:
        """Whether the gradient is a convolution: then low precision pays."""
        is_tensorflow = keras.backend.backend() == "tensorflow"
        return is_tensorflow and not self.trainable and set(self.strides) == {1}

    def call(self, inputs):
        if not self.is_fast:
            return super().call(inputs)
        import tensorflow as tf

        kernel = tf.cast(tf.convert_to_tensor(self.kernel.value), inputs.dtype)

        def filter_channels(x, kernel):
            return tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "SAME")

        @tf.custom_gradient
        def convolve(x):
            def gradient(upstream):
                return filter_channels(upstream, tf.reverse(kernel, (0, 1)))

            return filter_channels(x, kernel), gradient

        return convolve(inputs)


@register
class PadToMultiple(layers.Layer):
    """Pad height and width with zeros, at the bottom and right, to multiples of an int."""

    def __init__(self, multiple: int, **kwargs):
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


@register
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


@register
class TaskLogits(layers.Layer):
    """Scores of one of several tasks as float32, a map cropped to the picture's size.

    It also keeps `log_variance`, how uncertain the task is, on which the scores do not depend.
    `train` makes it trainable where it is to learn how much the task's loss counts.

    Args:
        task: one of `TASKS`.
    """

    def __init__(self, task: str, **kwargs):
        super().__init__(**{"trainable": False, **kwargs, "dtype": "float32"})
        self.task = task

    def build(self, scores_shape, image_shape):
        self.log_variance = self.add_weight(shape=(), initializer="zeros", name="log_variance")

    def call(self, scores, image):
        scores = ops.cast(scores, "float32")
        height, width = ops.shape(image)[1:3]
        return scores if len(scores.shape) == 2 else scores[:, :height, :width]

    def compute_output_shape(self, scores_shape, image_shape):
        is_map = len(scores_shape) == 4
        return (*image_shape[:3], scores_shape[-1]) if is_map else scores_shape

    def get_config(self):
        return {**super().get_config(), "task": self.task}


@register
class Enlarge(layers.Layer):
    """Enlarge a map bilinearly by a whole factor, its edges kept (half-pixel centres).

    As `keras.layers.UpSampling2D(factor, interpolation="bilinear")`, which fails under TensorFlow
    for maps of unknown size.
    """

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        for axis in (1, 2):
            ends = [[0, 0]] * 4
            ends[axis] = [1, 1]
            padded = ops.pad(x, ends, mode="symmetric")
            before, here, after = (
                padded[(slice(None),) * axis + (part,)]
                for part in (slice(None, -2), slice(1, -1), slice(2, None))
            )
            phases = []
            for k in range(self.factor):
                place = (k + 0.5) / self.factor - 0.5  # from the middle of the pixel
                neighbor = after if place > 0 else before
                phases.append((1 - abs(place)) * here + abs(place) * neighbor)
            shape = list(ops.shape(here))
            shape[axis] *= self.factor
            x = ops.reshape(ops.stack(phases, axis=axis + 1), shape)
        return x

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        return (batch, *(side and self.factor * side for side in sides), channels)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@register
class MaxPoolingWithPlaces(layers.Layer):
    """The largest of each square of 2×2 pixels, and which one it was.

    Called on `(batch, height, width, channels)` of even sides it returns two tensors `(batch,
    height / 2, width / 2, channels)`: the values, and int32 places 0, 1, 2, 3 by rows; of equal
    values the first.
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
