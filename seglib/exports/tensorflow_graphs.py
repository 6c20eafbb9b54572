"""What the converters of TensorFlow's graphs share."""

import keras


def check_backend(format):
    """Raise RuntimeError on other backends of Keras, whose models the converters cannot read."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"{format} is written from TensorFlow, but Keras runs on {keras.backend.backend()}: "
            "save the model and export it with KERAS_BACKEND=tensorflow, or use format='keras'"
        )


def fix_batch(network):
    """Return the same network for a single picture: runtimes are fastest with fixed shapes."""
    image = keras.Input(network.input_shape[1:], batch_size=1, name="image")
    return keras.Model(image, network(image))
