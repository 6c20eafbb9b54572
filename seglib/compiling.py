"""Small functions, compiled into one pass over the memory where that pays."""

import keras


def compile_on_processor(function):
    """Return a function of tensors that XLA has compiled, under TensorFlow on a processor.

    There, a chain of operations on large arrays costs what it reads and writes, each operation
    anew. Elsewhere the function is returned as it is: JAX compiles whole steps, and GPUs are
    limited by other things.
    """
    if keras.backend.backend() != "tensorflow" or has_accelerator():
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def choose_jit():
    """Return the `jit_compile` of `keras.Model.compile`.

    On GPUs Keras would have TensorFlow's steps compiled by XLA, for each size of pictures anew,
    which takes minutes of a budget.
    """
    return False if keras.backend.backend() == "tensorflow" else "auto"


def has_accelerator():
    """Return whether Keras' backend has a GPU or TPU to compute on."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return any(tf.config.list_physical_devices(kind) for kind in ("GPU", "TPU"))
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    return False


@keras.saving.register_keras_serializable(package="seglib")
class CompiledLoss(keras.losses.Loss):
    """A loss that is compiled, with its gradient.

    Args:
        loss: keras loss on labels and logits.
    """

    def __init__(self, loss, name=None, **kwargs):
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        super().__init__(name=name or loss.name, **kwargs)
        self.loss, self.compute = loss, compile_on_processor(loss.call)

    def call(self, y_true, y_pred):
        return self.compute(y_true, y_pred)

    def get_config(self):
        return {**super().get_config(), "loss": keras.saving.serialize_keras_object(self.loss)}
