"""What a run trains on, and how much of its memory it took."""

import contextlib
import platform
import re
import sys

import keras

# How TensorFlow, JAX and PyTorch say that memory is full, each with an error of its own.
FULL = re.compile(r"ResourceExhausted|RESOURCE_EXHAUSTED|\bOOM\b|out of memory", re.IGNORECASE)


def describe_versions():
    """Return the versions and the device that a run is trained with, for `run.json`."""
    import numpy as np

    backend = keras.backend.backend()
    return {
        "seglib": sys.modules["seglib"].__version__,
        "keras": keras.__version__,
        "backend": backend,
        backend: getattr(sys.modules.get(backend), "__version__", "unknown"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": _describe_device(),
    }


def peak_memory():
    """Return the most bytes that this process, or its accelerator if it has one, held so far.

    NaN where the system does not tell.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_logical_devices("GPU"):
            with contextlib.suppress(ValueError, tf.errors.OpError):  # some keep no statistics
                name = gpu.name.removeprefix("/device:")
                return tf.config.experimental.get_memory_info(name)["peak"]
    if keras.backend.backend() == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in statistics:
            return statistics["peak_bytes_in_use"]
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def explain_full_memory(batch_size, accumulated, first_step):
    """Say what to do where a training step does not fit into the memory.

    Args:
        batch_size: int, pairs a step.
        accumulated: int, steps an update.
        first_step: int, the step that the run goes on from.

    Raises:
        MemoryError: in place of the backend's own error.
    """
    try:
        yield
    except (FloatingPointError, OSError):  # tell of paths, which may be called anything
        raise
    except Exception as error:
        if not FULL.search(f"{type(error).__name__} {error}"):
            raise
        advice = "prepare smaller images, or give the model fewer filters"
        if batch_size > 1:
            half = -(-batch_size // 2)
            advice = f"batch_size={half} takes about half of it; " + (
                'a run that goes on takes it with allow_changes=("batch_size",)'
                if first_step
                else f"with gradient_accumulation={2 * accumulated}, of the optimizer if one is "
                "given, updates are about the same"
            )
        raise MemoryError(
            f"a training step of {batch_size} pairs does not fit into the memory of "
            f"{_describe_device()}: {advice}"
        ) from error


def _describe_device():
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        names = [
            tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus
        ]
    elif keras.backend.backend() == "jax":
        import jax

        names = [device.device_kind for device in jax.local_devices() if device.platform != "cpu"]
    elif keras.backend.backend() == "torch":
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    else:
        names = []
    return ", ".join(names) or f"{platform.machine()} processor"
