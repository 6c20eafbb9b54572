"""Keras' own file, and Keras to run it."""

import threading

NAME = "model.keras"


def write(network, folder, *, precision, pictures=None):
    """Write a network; float32 weights in any case, as Keras keeps them."""
    from seglib.models import copy_model, set_precision

    network = copy_model(network)
    if precision == "bfloat16":
        set_precision(network, "mixed_bfloat16")
    network.save(folder / NAME)


def read(folder, card, threads):
    """Return the compiled function of uint8 pictures."""
    import keras

    import seglib.compressing  # noqa: F401, the layers that the file names
    from seglib.losses import choose_jit

    network = keras.models.load_model(folder / NAME, compile=False)  # safe mode is the default
    network.compile(jit_compile=choose_jit())
    lock = threading.Lock()

    def score(batch):
        with lock:
            return network.predict_on_batch(batch)

    return score
