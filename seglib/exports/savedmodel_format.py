"""TensorFlow's SavedModel: a graph that needs neither Keras nor seglib."""

import numpy as np

from seglib.exports.quiet import quiet


def write(network, folder, *, precision, pictures=None):
    """Write a network; its function `serve` takes float32 pictures from 0 to 255, any number.

    Keras 3.15's own `export` writes each weight twice.
    """
    import tensorflow as tf

    from seglib.exports.tensorflow_graphs import trace
    from seglib.models import copy_model, set_precision

    network = copy_model(network)
    if precision == "bfloat16":
        set_precision(network, "mixed_bfloat16")
    module = trace(network)
    with quiet():
        tf.saved_model.save(module, str(folder / "saved_model"), signatures=module.serve)


def read(folder, card, threads):
    """Return the function of uint8 pictures."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "saved_model"))  # kept alive: it owns the weights
    return lambda batch: np.asarray(loaded.serve(tf.constant(batch, tf.float32)))
