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
    with open(os.devnull, "wb") as nothing, redirect((2,), nothing):
        yield
        if "tensorflow" in sys.modules:
            sys.modules["tensorflow"].config.list_physical_devices("GPU")


@contextlib.contextmanager
def redirect(numbers, file):
    """Let what is written to these descriptors, by C++ code too, go to a file.

    Args:
        numbers: tuple of int, such as 2 for standard error. Closed ones stay closed.
        file: open file.
    """
    saved = {}
    for number in numbers:
        with contextlib.suppress(OSError):
            saved[number] = os.dup(number)
    try:
        for number in saved:
            os.dup2(file.fileno(), number)
        yield
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)


def _has_nvidia_device():
    return pathlib.Path("/dev/nvidia0").exists() or pathlib.Path("/proc/driver/nvidia").exists()
