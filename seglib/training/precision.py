"""The precision in which this machine computes fastest."""

import contextlib

import keras

from seglib.models import set_precision
from seglib.processors import has_bfloat16_units


def choose_precision():
    """Return the dtype policy in which this machine trains fastest.

    bfloat16 on GPUs of compute capability 8 and above, TPUs, and processors with
    bfloat16 units under TensorFlow; float16 on GPUs from 7 on; else float32.
    """
    if keras.backend.backend() == "jax":
        import jax

        accelerated = jax.default_backend() in ("tpu", "gpu")
        return "mixed_bfloat16" if accelerated else "float32"
    if keras.backend.backend() != "tensorflow":
        return "float32"
    import tensorflow as tf

    if tf.config.list_physical_devices("TPU"):
        return "mixed_bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
        major = capability[0] if capability else 0
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    return "mixed_bfloat16" if has_bfloat16_units() else "float32"


@contextlib.contextmanager
def compute_in(model, policy):
    """Compute in `policy` inside, and in float32 again afterwards."""
    set_precision(model, policy)
    try:
        yield
    finally:
        set_precision(model, "float32")
