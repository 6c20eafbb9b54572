"""What the converters of TensorFlow's graphs share."""

import keras


def fix_batch(network):
    """Return the same network for a single picture: runtimes are fastest with fixed shapes."""
    image = keras.Input(network.input_shape[1:], batch_size=1, name="image")
    return keras.Model(image, network(image))


def trace(network, *, batch_size=None):
    """Return a tf.Module with a network's weights, and `serve`, its function of float32 pictures.

    Converters take half as long for it as for the Keras model, whose every layer they write.

    Args:
        network: keras.Model of one input.
        batch_size: int, or None for any.
    """
    import tensorflow as tf

    picture = tf.TensorSpec((batch_size, *network.input_shape[1:]), tf.float32, name="image")
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    module.serve = tf.function(lambda image: network(image, training=False), [picture])
    return module
