"""The precision in which this machine computes fastest."""

import contextlib

import keras

from seglib.models import set_precision
from seglib.system import has_bfloat16_units


def choose_precision():
    """Return the dtype policy in which this machine trains fastest.

    bfloat16 on GPUs of compute capability 8 and above, TPUs, and processors with
    bfloat16 units under TensorFlow; float16 on GPUs of 7, such as Kaggle's T4; else float32.
    """
    if keras.backend.backend() == "jax":
        import jax

        device = jax.local_devices()[0]
        if device.platform in ("gpu", "cuda"):
            return precision_of_gpu(str(getattr(device, "compute_capability", "")).split("."))
        return "mixed_bfloat16" if device.platform == "tpu" else "float32"
    if keras.backend.backend() != "tensorflow":
        return "float32"
    import tensorflow as tf

    if tf.config.list_physical_devices("TPU"):
        return "mixed_bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return precision_of_gpu(details.get("compute_capability", ()))
    return "mixed_bfloat16" if has_bfloat16_units() else "float32"


def precision_of_gpu(capability):
    """Return the dtype policy for a compute capability such as `(7, 5)`; float32 if unknown."""
    major = int(capability[0]) if capability and str(capability[0]).isdecimal() else 0
    return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"


@contextlib.contextmanager
def compute_in(model, policy):
    """Compute in `policy` inside, and in float32 again afterwards."""
    set_precision(model, policy)
    try:
        yield
    finally:
        set_precision(model, "float32")
