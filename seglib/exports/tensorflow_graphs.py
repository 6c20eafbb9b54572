"""What the converters of TensorFlow's graphs share."""

import keras


def fix_batch(network):
    """Return the same network for a single picture: runtimes are fastest with fixed shapes."""
    image = keras.Input(network.input_shape[1:], batch_size=1, name="image")
    return keras.Model(image, network(image))
