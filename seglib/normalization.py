"""Batch normalization that costs a step no more than it must."""

import functools

import keras
from keras import ops

from seglib.losses import has_accelerator
from seglib.processors import has_only_avx2


@keras.saving.register_keras_serializable(package="seglib")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization of images, in one operation where TensorFlow has one.

    Keras widens each map to float32 and computes on it in a dozen passes over the memory;
    TensorFlow's fused operation reads it as it is and sums in float32. Same variables, same values
    but for rounding; the variance that is averaged is the unbiased one, over n - 1 of n pixels.
    On other backends, and with options that the operation does not know, it is Keras' own.

    Args:
        kwargs: as of `keras.layers.BatchNormalization`.

    Source: Ioffe & Szegedy 2015, "Batch Normalization", algorithms 1 and 2.
    """

    def call(self, inputs, training=None, mask=None):
        is_plain = (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and mask is None
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not (self.synchronized or getattr(self, "renorm", False))  # newer Keras has it
            and self.compute_dtype != "float64"
            and self.variable_dtype == "float32"
        )
        if not is_plain:
            return super().call(inputs, training=training, mask=mask)
        return self._call_fused(inputs, bool(training) and self.trainable)

    def _call_fused(self, inputs, learns):
        import tensorflow as tf

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
