"""Batch normalization that costs a step no more than it must."""

import keras
from keras import ops


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
            and not (self.synchronized or self.renorm)
            and self.compute_dtype != "float64"
            and self.variable_dtype == "float32"
        )
        if not is_plain:
            return super().call(inputs, training=training, mask=mask)
        return self._call_fused(inputs, bool(training) and self.trainable)

    def _call_fused(self, inputs, learns):
        import tensorflow as tf

        averages = (self.moving_mean, self.moving_variance)
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
