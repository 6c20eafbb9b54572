"""TensorFlow's start, without the lines that it prints before it can be told not to."""

import contextlib
import os
import pathlib
import sys


@contextlib.contextmanager
def hide_startup():
    """Hide what TensorFlow's C++ code writes on standard error while it is imported.

    It looks for GPUs as well, which it reports too. Where there is one, nothing is hidden, so that
    one that cannot be used is told.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if "tensorflow" in sys.modules or backend != "tensorflow" or _has_nvidia_device():
        yield
        return
    with _hide_standard_error():
        yield
        if "tensorflow" in sys.modules:
            sys.modules["tensorflow"].config.list_physical_devices("GPU")


@contextlib.contextmanager
def _hide_standard_error():
    try:
        saved = os.dup(2)
    except OSError:  # closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _has_nvidia_device():
    return pathlib.Path("/dev/nvidia0").exists() or pathlib.Path("/proc/driver/nvidia").exists()
