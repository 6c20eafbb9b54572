"""Depthwise convolution whose gradient costs no more than itself."""

import keras


@keras.saving.register_keras_serializable(package="seglib")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Depthwise convolution; while its kernel is frozen, the input's gradient is another one.

    TensorFlow's own gradient is slow on processors, above all in bfloat16. At stride 1, with zeros
    around the picture, it is the convolution of the gradient with the kernel turned half round.
    Everywhere else this is Keras' layer.

    Args:
        kwargs: as of `keras.layers.DepthwiseConv2D`.
    """

    @property
    def is_fast(self):
        """bool, whether the gradient is a convolution: then low precision pays."""
        return (
            keras.backend.backend() == "tensorflow"
            and not self.trainable
            and self.activation is keras.activations.linear
            and self.depth_multiplier == 1
            and self.data_format == "channels_last"
            and self.padding == "same"
            and not self.use_bias
            and set(self.strides) == set(self.dilation_rate) == {1}
            and all(side % 2 for side in self.kernel_size)
        )

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
